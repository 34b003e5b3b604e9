// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host command's workers: threads that take batches from one channel and give them back through another.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use collector::{Batch, Workers, codec};
use config::Compression;

/// While each thread has a batch, one waits and one is being filled or written.
const SPARE_BATCHES: usize = 2;

/// A batch with its number.
type Job = (usize, Box<Batch>);

/// Threads that compress. They end when this is dropped.
pub(crate) struct Threads {
    compression: Compression,
    /// The batches; `None` for those that a thread has.
    batches: Vec<Option<Box<Batch>>>,
    /// `None` tells the threads to end.
    to_threads: Option<Sender<Job>>,
    from_threads: Receiver<Job>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts so many threads.
    ///
    /// # Errors
    /// The compression cannot be written.
    pub(crate) fn start(count: usize, compression: Compression) -> Result<Self, String> {
        codec::with(compression, &mut [0; codec::MEMORY_BYTES], |_| ())
            .ok_or_else(|| format!("{compression} cannot be written yet"))?;
        let (to_threads, jobs) = channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        let (done, from_threads) = channel::<Job>();
        let threads = (0..count)
            .map(|_| {
                let (jobs, done) = (Arc::clone(&jobs), done.clone());
                thread::spawn(move || work(compression, &jobs, &done))
            })
            .collect();
        Ok(Self {
            compression,
            batches: (0..count + SPARE_BATCHES)
                .map(|_| Some(Box::new(Batch::new())))
                .collect(),
            to_threads: Some(to_threads),
            from_threads,
            threads,
        })
    }
}

/// What each thread does.
fn work(compression: Compression, jobs: &Mutex<Receiver<Job>>, done: &Sender<Job>) {
    let mut memory = vec![0; codec::MEMORY_BYTES];
    codec::with(compression, &mut memory, |mut codec| {
        loop {
            // One waits for the channel, the others for that one.
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((index, mut batch)) = job else {
                return;
            };
            batch.compress(&mut codec, &mut |_| {});
            if done.send((index, batch)).is_err() {
                return;
            }
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
        self.wait(index);
        self.batches[index]
            .as_mut()
            .expect("wait() returns when it is here")
    }

    fn start(&mut self, index: usize) {
        if let (Some(batch), Some(to_threads)) = (self.batches[index].take(), &self.to_threads) {
            to_threads
                .send((index, batch))
                .expect("the threads end only when this is dropped, and a panic of one ends all");
        }
    }

    fn wait(&mut self, index: usize) {
        while self.batches[index].is_none() {
            let (done, batch) = self
                .from_threads
                .recv()
                .expect("the threads end only when this is dropped, and a panic of one ends all");
            self.batches[done] = Some(batch);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.to_threads = None;
        for thread in self.threads.drain(..) {
            // A panic has been printed by then.
            let _ = thread.join();
        }
    }
}
