// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host command's workers: threads that read and compress batches, among them the one that waits for the others.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use collector::{Batch, SCRATCH_BYTES, Workers, codec};
use config::Compression;

use super::input::{Input, open_source};

/// Each thread has a batch, and another to go on with while the one that writes is busy with something else.
const BATCHES_EACH: usize = 2;
/// What else is being filled, or waits to be written because one before it is not done.
const SPARE_BATCHES: usize = 4;

/// A batch with its number.
type Job = (usize, Box<Batch>);

/// What the threads share.
#[derive(Default)]
struct Shared {
    queues: Mutex<Queues>,
    /// Something is to be done, or nothing any more.
    started: Condvar,
    done: Condvar,
}

#[derive(Default)]
struct Queues {
    started: VecDeque<Job>,
    done: Vec<Job>,
    /// The threads are to end.
    ended: bool,
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        // A panic of one thread ends the program.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads that read and compress. They end when this is dropped.
pub(crate) struct Threads {
    compression: Compression,
    /// The batches; `None` for those that were started.
    batches: Vec<Option<Box<Batch>>>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts threads for a dump of `vmcore` that so many are to work on, the one that calls this among them.
    ///
    /// # Errors
    /// The compression cannot be written, or the vmcore not be opened once more.
    pub(crate) fn start(
        count: usize,
        compression: Compression,
        vmcore: &Path,
    ) -> Result<Self, String> {
        codec::with(compression, &mut [0; codec::MEMORY_BYTES], |_| ())
            .ok_or_else(|| format!("{compression} cannot be written yet"))?;
        let mut this = Self {
            compression,
            batches: (0..BATCHES_EACH * count + SPARE_BATCHES)
                .map(|_| Some(Box::new(Batch::new())))
                .collect(),
            shared: Arc::default(),
            threads: Vec::new(),
        };
        for _ in 1..count {
            let source = open_source(vmcore)?;
            let shared = Arc::clone(&this.shared);
            this.threads
                .push(thread::spawn(move || work(compression, source, &shared)));
        }
        Ok(this)
    }
}

/// What each thread does.
fn work(compression: Compression, mut source: Input, shared: &Shared) {
    let mut memory = vec![0; codec::MEMORY_BYTES];
    let mut scratch = vec![0; SCRATCH_BYTES];
    codec::with(compression, &mut memory, |mut codec| {
        let mut queues = shared.queues();
        while !queues.ended {
            let Some((index, mut batch)) = queues.started.pop_front() else {
                queues = shared
                    .started
                    .wait(queues)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queues);
            batch.encode(&mut source, &mut codec, &mut scratch, &mut |_| {});
            queues = shared.queues();
            queues.done.push((index, batch));
            shared.done.notify_one();
        }
    });
}

impl Workers for Threads {
    fn compression(&self) -> Compression {
        self.compression
    }

    fn batch_count(&self) -> usize {
        self.batches.len()
    }

    fn batch(&mut self, index: usize) -> &mut Batch {
        self.batches[index]
            .as_mut()
            .expect("it was not started, or wait() has returned for it")
    }

    fn start(&mut self, index: usize) {
        if let Some(batch) = self.batches[index].take() {
            self.shared.queues().started.push_back((index, batch));
            self.shared.started.notify_one();
        }
    }

    /// A batch that no thread has begun is given back at once: better than to sleep.
    fn wait(&mut self, index: usize) -> Option<usize> {
        let mut queues = self.shared.queues();
        loop {
            for (done, batch) in queues.done.drain(..) {
                self.batches[done] = Some(batch);
            }
            if self.batches[index].is_some() {
                return None;
            }
            if let Some((undone, batch)) = queues.started.pop_front() {
                self.batches[undone] = Some(batch);
                return Some(undone);
            }
            queues = self
                .shared
                .done
                .wait(queues)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.queues().ended = true;
        self.shared.started.notify_all();
        for thread in self.threads.drain(..) {
            // A panic has been printed by then.
            let _ = thread.join();
        }
    }
}
