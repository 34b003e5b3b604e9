// SPDX-License-Identifier: MIT OR Apache-2.0
//! The seam to other CPUs: batches of pages go out, and come back compressed in the order in which they went.

use config::Compression;

use crate::batch::Batch;

/// What compresses batches besides the caller: threads, or processes that share memory.
///
/// The batches are numbered from 0. One that was [started](Workers::start) belongs to a worker until
/// [`wait`](Workers::wait) has returned for it. That a worker dies or hangs is for the implementor to cope with: a batch
/// that was started is done in the end.
pub trait Workers {
    /// How the workers compress.
    fn compression(&self) -> Compression;

    /// How many batches there are, at least 1. Two more than workers keep all busy.
    fn batch_count(&self) -> usize;

    /// Batch `index`, which is not with a worker.
    fn batch(&mut self, index: usize) -> &mut Batch;

    /// Gives batch `index` to a worker.
    fn start(&mut self, index: usize);

    /// Returns when batch `index` is done; at once when it was not started.
    fn wait(&mut self, index: usize);
}

/// The batches as a ring: one is being filled, those before it are under way.
pub(crate) struct Queue<'a> {
    workers: &'a mut dyn Workers,
    page_bytes: usize,
    share_zero: bool,
    filling: usize,
    /// Whether the batch that is being filled was rid of what it had before.
    is_ready: bool,
    oldest: usize,
    under_way: usize,
}

impl<'a> Queue<'a> {
    /// A queue with nothing under way: what an earlier dump has left is waited for.
    pub(crate) fn new(workers: &'a mut dyn Workers, page_bytes: usize, share_zero: bool) -> Self {
        for index in 0..workers.batch_count() {
            workers.wait(index);
        }
        Self {
            workers,
            page_bytes,
            share_zero,
            filling: 0,
            is_ready: false,
            oldest: 0,
            under_way: 0,
        }
    }

    /// How the workers compress.
    pub(crate) fn compression(&self) -> Compression {
        self.workers.compression()
    }

    /// The batch that is being filled. There is one as long as the queue is not [full](Queue::is_full).
    pub(crate) fn filling(&mut self) -> &mut Batch {
        let batch = self.workers.batch(self.filling);
        if !self.is_ready {
            batch.restart(self.page_bytes, self.share_zero);
            self.is_ready = true;
        }
        batch
    }

    /// Sends it to a worker, unless it is empty.
    pub(crate) fn start(&mut self) {
        if self.filling().count() == 0 {
            return;
        }
        self.workers.start(self.filling);
        self.is_ready = false;
        self.filling = self.next(self.filling);
        self.under_way = self.under_way.saturating_add(1);
    }

    /// Whether all batches are under way, so that the oldest is to be taken before another can be filled.
    pub(crate) fn is_full(&self) -> bool {
        self.under_way >= self.workers.batch_count()
    }

    /// Takes back the batch that was sent first, when it is done; `None` when nothing is under way.
    pub(crate) fn take(&mut self) -> Option<&Batch> {
        self.under_way = self.under_way.checked_sub(1)?;
        let index = self.oldest;
        self.oldest = self.next(index);
        self.workers.wait(index);
        Some(self.workers.batch(index))
    }

    fn next(&self, index: usize) -> usize {
        let next = index.saturating_add(1);
        if next < self.workers.batch_count() {
            next
        } else {
            0
        }
    }
}
