// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library at work on a made-up machine: what it is given, and what it told.

use std::collections::BTreeSet;
use std::fmt;

use collector::{
    Batch, CollectError, MEMORY_BYTES, Means, OPEN_BYTES, Observer, Progress, SCRATCH_BYTES, Stage,
    Stats, Vmcore, Workers, codec, collect_with,
};
use config::{CollectOptions, Compression, DumpLevel, Format};

use crate::dumpfile::Disk;
use crate::machine::File;

/// Remembers what it was told.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) warnings: Vec<String>,
    pub(crate) last: Option<Progress>,
    pub(crate) stages: BTreeSet<u8>,
}

impl Observer for Log {
    fn progress(&mut self, progress: Progress) {
        assert!(progress.done_pages <= progress.total_pages, "{progress:?}");
        self.stages.insert(match progress.stage {
            Stage::Classify => 0,
            Stage::Copy => 1,
            Stage::Sync => 2,
        });
        self.last = Some(progress);
    }

    fn warn(&mut self, message: fmt::Arguments<'_>) {
        self.warnings.push(message.to_string());
    }
}

pub(crate) struct Outcome {
    pub(crate) disk: Disk,
    pub(crate) log: Log,
    pub(crate) result: Result<Stats, CollectError>,
}

/// Workers that are as late as they may be, and out of order: nothing is compressed before it is waited for, and then the
/// newest batch first, by turns here and by who waits.
pub(crate) struct Late {
    file: File,
    compression: Compression,
    batches: Vec<Batch>,
    started: Vec<usize>,
    most_started: usize,
    waited: usize,
}

impl Late {
    pub(crate) fn new(file: File, compression: Compression, batches: usize) -> Self {
        Self {
            file,
            compression,
            batches: (0..batches).map(|_| Batch::new()).collect(),
            started: Vec::new(),
            most_started: 0,
            waited: 0,
        }
    }
}

impl Workers for Late {
    fn compression(&self) -> Compression {
        self.compression
    }

    fn batch_count(&self) -> usize {
        self.batches.len()
    }

    fn batch(&mut self, index: usize) -> &mut Batch {
        assert!(!self.started.contains(&index), "{index} is with a worker");
        &mut self.batches[index]
    }

    fn start(&mut self, index: usize) {
        assert!(!self.started.contains(&index), "{index} is with a worker");
        self.started.push(index);
        self.most_started = self.most_started.max(self.started.len());
    }

    fn wait(&mut self, index: usize) -> Option<usize> {
        while self.started.contains(&index) {
            let newest = self.started.pop().unwrap();
            self.waited += 1;
            if self.waited.is_multiple_of(2) {
                return Some(newest);
            }
            let mut memory = vec![0xaa; codec::MEMORY_BYTES];
            let mut scratch = vec![0xaa; SCRATCH_BYTES];
            codec::with(self.compression, &mut memory, |mut codec| {
                let batch = &mut self.batches[newest];
                batch.encode(&mut self.file, &mut codec, &mut scratch, &mut |_| {});
            })
            .unwrap();
        }
        None
    }
}

pub(crate) struct Run {
    pub(crate) format: Format,
    pub(crate) compression: Compression,
    pub(crate) window_pages: u64,
    pub(crate) limit: u64,
    /// Batches of workers; 0 for none.
    pub(crate) batches: usize,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            format: Format::Kdump,
            compression: Compression::None,
            window_pages: u64::MAX,
            limit: 256 << 20,
            batches: 0,
        }
    }
}

impl Run {
    pub(crate) fn collect(&self, file: File, level: u8) -> Outcome {
        let mut open_memory = vec![0xaa; OPEN_BYTES];
        let mut memory = vec![0xaa; MEMORY_BYTES];
        let mut workers = Late::new(file.clone(), self.compression, self.batches);
        let mut vmcore = Vmcore::open(file, &mut open_memory).unwrap();
        let options = CollectOptions {
            format: self.format,
            compression: self.compression,
            ..CollectOptions::standard()
        };
        let mut disk = Disk::new();
        disk.limit = self.limit;
        let mut log = Log::default();
        let means = Means {
            window_pages: self.window_pages,
            workers: (self.batches > 0).then_some(&mut workers as &mut dyn Workers),
            ..Means::new(&mut memory)
        };
        let result = collect_with(
            &mut vmcore,
            &options,
            DumpLevel::new(level).unwrap(),
            means,
            &mut disk,
            &mut log,
        );
        assert!(workers.most_started <= self.batches);
        Outcome { disk, log, result }
    }
}
