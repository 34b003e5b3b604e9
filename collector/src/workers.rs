// SPDX-License-Identifier: MIT OR Apache-2.0
//! The seam to other CPUs: batches of pages go out, and come back read and compressed in the order in which they went.

use core::mem;

use config::Compression;

use crate::batch::Batch;
use crate::codec::Codec;
use crate::io::Source;

/// What reads and compresses batches besides the caller: threads, or processes that share memory. They have the vmcore open
/// for themselves.
///
/// The batches are numbered from 0. One that was [started](Workers::start) belongs to a worker until
/// [`wait`](Workers::wait) has returned for it. That a worker dies or hangs is for the implementor to cope with.
pub trait Workers {
    /// How the workers compress.
    fn compression(&self) -> Compression;

    /// How many batches there are, at least 1. Some more than two for each CPU keep all busy.
    fn batch_count(&self) -> usize;

    /// Batch `index`, which is not with a worker.
    fn batch(&mut self, index: usize) -> &mut Batch;

    /// Gives batch `index` to a worker.
    fn start(&mut self, index: usize);

    /// Returns `None` when batch `index` is done; at once when it was not started. Before that it may give back a batch
    /// that no worker has begun, this one or another: the caller is to [encode](Batch::encode) it and call again.
    fn wait(&mut self, index: usize) -> Option<usize>;
}

/// Nobody: a single batch, which always comes back undone.
pub(crate) struct Alone {
    compression: Compression,
    batch: Batch,
    is_started: bool,
}

impl Alone {
    pub(crate) const fn new(compression: Compression) -> Self {
        Self {
            compression,
            batch: Batch::new(),
            is_started: false,
        }
    }
}

impl Workers for Alone {
    fn compression(&self) -> Compression {
        self.compression
    }

    fn batch_count(&self) -> usize {
        1
    }

    fn batch(&mut self, _: usize) -> &mut Batch {
        &mut self.batch
    }

    fn start(&mut self, _: usize) {
        self.is_started = true;
    }

    fn wait(&mut self, index: usize) -> Option<usize> {
        mem::take(&mut self.is_started).then_some(index)
    }
}

/// The batches as a ring: one is being filled, those before it are under way.
pub(crate) struct Queue<'w, 'c> {
    workers: &'w mut dyn Workers,
    /// For batches that come back undone.
    codec: Codec<'c>,
    page_bytes: usize,
    share_zero: bool,
    filling: usize,
    /// Whether the batch that is being filled was rid of what it had before.
    is_ready: bool,
    oldest: usize,
    under_way: usize,
}

impl<'w, 'c> Queue<'w, 'c> {
    /// A queue with nothing under way: what an earlier dump has left is waited for.
    pub(crate) fn new(
        workers: &'w mut dyn Workers,
        codec: Codec<'c>,
        page_bytes: usize,
        share_zero: bool,
    ) -> Self {
        for index in 0..workers.batch_count() {
            // What comes back undone is what nobody wants any more.
            while workers.wait(index).is_some() {}
        }
        Self {
            workers,
            codec,
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

    /// Takes back the batch that was sent first, when it is done, with the codec for one of which nothing could become;
    /// `None` when nothing is under way. Until it is done, others are worked on here.
    pub(crate) fn take<S: Source>(
        &mut self,
        source: &mut S,
        scratch: &mut [u8],
    ) -> Option<(&mut Batch, &mut Codec<'c>)> {
        self.under_way = self.under_way.checked_sub(1)?;
        let index = self.oldest;
        self.oldest = self.next(index);
        while let Some(undone) = self.workers.wait(index) {
            let batch = self.workers.batch(undone);
            batch.encode(source, &mut self.codec, scratch, &mut |_| {});
        }
        Some((self.workers.batch(index), &mut self.codec))
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
