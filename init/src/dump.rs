// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vmcore to a target, whatever the target is: one dump level after the other, and a plain copy where nothing else works.

use crate::attempt::Job;
use crate::log;
use crate::progress::Seconds;
use crate::report::{Seen, Step};
use crate::salvage;
use crate::vmcore::{PATH, VmcoreFile};
use crate::workers::Processes;
use collector::{
    CollectError, IoError, Means, Observer, Progress, Sink, Stage, Stats, Vmcore, Workers,
    collect_with,
};
use config::Format;
use core::fmt;

/// The vmcore, as far as it makes sense.
#[expect(
    clippy::large_enum_variant,
    reason = "there is no heap, and one of them"
)]
pub enum Input<'m> {
    /// Its headers make sense.
    Understood(Vmcore<'m, VmcoreFile>),
    /// They do not: it is bytes.
    Bytes(VmcoreFile),
}

impl<'m> Input<'m> {
    /// The vmcore whose headers make sense.
    pub fn understood(&mut self) -> Option<&mut Vmcore<'m, VmcoreFile>> {
        match self {
            Self::Understood(vmcore) => Some(vmcore),
            Self::Bytes(_) => None,
        }
    }

    /// The file below.
    pub const fn file(&mut self) -> &mut VmcoreFile {
        match self {
            Self::Understood(vmcore) => vmcore.source(),
            Self::Bytes(file) => file,
        }
    }
}

/// A vmcore that was written.
pub struct Dumped {
    /// What became of the pages; none where a program of the administrator collected them.
    pub stats: Option<Stats>,
    /// What was asked for, or a copy where that could not be done.
    pub format: Format,
}

/// Writes the vmcore at the first level that fits; as it is when it makes no sense. `restart` throws away what the sink has.
///
/// # Errors
/// What the collector said of the last level.
pub fn write<K: Sink>(
    job: &Job<'_>,
    vmcore: &mut Input<'_>,
    memory: &mut [u8],
    sink: &mut K,
    restart: impl Fn(&mut K) -> Result<(), IoError>,
) -> Result<Dumped, CollectError> {
    let options = &job.attempt.collect;
    let begin_again = |sink: &mut K| restart(sink).map_err(|error| CollectError::Sink(0, error));
    let mut watcher = Watcher { job };
    let mut format = options.format;
    let mut result = Err(CollectError::Unsupported("no level of it can be dumped"));
    if let Some(vmcore) = vmcore.understood() {
        let mut workers = match (options.format, job.board) {
            (Format::Kdump, Some(board)) => {
                let access = job.access;
                Processes::start(board, options.compression, PATH, access, job.faults)
            }
            _ => None,
        };
        for (position, &level) in options.levels.iter().enumerate() {
            // Not by its own type: one copy of the collector serves every target, and it writes in large pieces.
            let mut any: &mut dyn Sink = sink;
            let means = Means {
                workers: workers.as_mut().map(|workers| workers as &mut dyn Workers),
                ..Means::new(memory)
            };
            result = collect_with(vmcore, options, level, means, &mut any, &mut watcher);
            let next = options.levels.get(position.saturating_add(1));
            let (Err(CollectError::Sink(offset, error)), Some(next)) = (&result, next) else {
                break;
            };
            if !error.is_full() {
                break;
            }
            log!("level {level}: the target is full at byte {offset}; next: level {next}");
            begin_again(sink)?;
        }
    }
    if let Err(CollectError::Damaged(_) | CollectError::Unsupported(_)) = &result {
        if let (Some(_), Err(why)) = (vmcore.understood(), &result) {
            log!("vmcore: {why}; next: a copy of it as it is");
        }
        begin_again(sink)?;
        format = Format::Copy;
        result = salvage::copy(vmcore.file(), memory, sink, &mut watcher);
    }
    job.faults.strike(Step::Dump, job.number);
    result.map(|stats| Dumped {
        stats: Some(stats),
        format,
    })
}

/// Passes on what the collector tells: progress to PID 1, warnings to the log.
struct Watcher<'r, 'a> {
    job: &'r Job<'a>,
}

impl Observer for Watcher<'_, '_> {
    fn progress(&mut self, progress: Progress) {
        let job = self.job;
        job.report.progress(Seen {
            copying: progress.stage != Stage::Classify,
            done_pages: progress.done_pages,
            total_pages: progress.total_pages,
            written_bytes: progress.written_bytes,
        });
        if progress.stage == Stage::Copy && progress.written_bytes > 0 {
            job.faults.strike(Step::Dump, job.number);
        }
    }

    fn warn(&mut self, message: fmt::Arguments<'_>) {
        log!("{message}");
    }
}

/// A dump's pages by kind, its size, and how long it took.
pub struct Summary<'s>(pub &'s Stats, pub u64);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(stats, ms) = self;
        write!(f, "{} pages: {} kept", stats.present, stats.kept)?;
        for (count, kind) in [
            (stats.zero, "zero"),
            (stats.cache, "cache"),
            (stats.cache_private, "cache with private data"),
            (stats.user, "user"),
            (stats.free, "free"),
            (stats.hwpoison, "with broken memory"),
            (stats.offline, "offline"),
        ] {
            if count > 0 {
                write!(f, ", {count} {kind}")?;
            }
        }
        if stats.unreadable > 0 {
            write!(f, "; {} unreadable, zeros instead", stats.unreadable)?;
        }
        write!(f, "; {} bytes in {}", stats.written_bytes, Seconds(*ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::DumpLevel;

    #[test]
    fn the_summary_names_what_was_left_out() {
        let mut stats = Stats::new(DumpLevel::MAX);
        stats.present = 524_288;
        stats.kept = 61_440;
        stats.zero = 399_360;
        stats.cache = 40_960;
        stats.free = 22_528;
        stats.written_bytes = 83_886_080;
        assert_eq!(
            Summary(&stats, 2100).to_string(),
            "524288 pages: 61440 kept, 399360 zero, 40960 cache, 22528 free; 83886080 bytes in 2.1 s"
        );
        stats.unreadable = 3;
        assert!(Summary(&stats, 0).to_string().contains("; 3 unreadable"));
    }
}
