// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kept pages from the vmcore to the dumpfile's writer.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use crate::address::{Pfn, PhysAddr};
use crate::batch::Encoded;
use crate::bitmap::Window;
use crate::io::{Sink, Source};
use crate::kdump::{WriteError, Writer};
use crate::observer::{Observer, Progress, Stage};
use crate::stats::Stats;
use crate::vmcore::{ReadError, Vmcore};
use crate::workers::Queue;

/// Where pages come from, where they go, and who is told.
pub(crate) struct Ends<'a, 'v, 'w, S, K> {
    pub(crate) vmcore: &'a mut Vmcore<'v, S>,
    pub(crate) scratch: &'a mut [u8],
    pub(crate) writer: &'a mut Writer<'w, K>,
    pub(crate) stats: &'a mut Stats,
    pub(crate) observer: &'a mut dyn Observer,
}

/// What is copied, and how far that is.
pub(crate) struct Pages {
    page_bytes: usize,
    /// Pages that will be copied in all.
    total: u64,
    /// Pages that were.
    done: u64,
    unreadable: Unreadable,
}

impl Pages {
    pub(crate) const fn new(page_bytes: usize, total: u64) -> Self {
        Self {
            page_bytes,
            total,
            done: 0,
            unreadable: Unreadable(None),
        }
    }

    /// Copies the pages whose bits are set in `window`, in long reads where they follow each other. Workers may still have
    /// the last of them when this returns.
    pub(crate) fn copy_window<S: Source, K: Sink>(
        &mut self,
        queue: &mut Queue<'_, '_>,
        window: &Window<'_>,
        ends: &mut Ends<'_, '_, '_, S, K>,
    ) -> Result<(), WriteError> {
        let shift = ends.vmcore.page_shift();
        let mut from = window.start();
        while let Some((start, end)) = window.next_run(from) {
            let mut pfn = start;
            while pfn < end {
                // A page that is partly in the file comes alone.
                let whole = ends
                    .vmcore
                    .locate(PhysAddr(pfn.wrapping_shl(shift)))
                    .filter(|extent| extent.bytes >> shift > 0);
                let most = whole.map_or(1, |extent| extent.bytes >> shift);
                let count = end.saturating_sub(pfn).min(most);
                let offset = whole.map(|extent| extent.offset);
                let sent = self.send(queue, pfn, offset, count, ends)?;
                pfn = pfn.saturating_add(sent);
                self.tell_progress(ends);
            }
            from = end;
        }
        Ok(())
    }

    /// Writes what workers still have.
    pub(crate) fn finish<S: Source, K: Sink>(
        &mut self,
        queue: &mut Queue<'_, '_>,
        ends: &mut Ends<'_, '_, '_, S, K>,
    ) -> Result<(), WriteError> {
        queue.start();
        while self.put_oldest(queue, ends)? {
            self.tell_progress(ends);
        }
        Ok(())
    }

    /// Tells which pages could not be read, as far as that was not told yet.
    pub(crate) fn tell_unreadable(&mut self, observer: &mut dyn Observer) {
        self.unreadable.tell(observer);
    }

    /// Adds up to `count` pages that follow each other in the file to the batch that is being filled, and sends that on when
    /// it is full. Returns how many it were.
    fn send<S: Source, K: Sink>(
        &mut self,
        queue: &mut Queue<'_, '_>,
        first: u64,
        offset: Option<u64>,
        count: u64,
        ends: &mut Ends<'_, '_, '_, S, K>,
    ) -> Result<u64, WriteError> {
        let batch = queue.filling();
        let count = batch.push(Pfn(first), offset, count);
        if batch.is_full() {
            queue.start();
            if queue.is_full() {
                self.put_oldest(queue, ends)?;
            }
        }
        Ok(count)
    }

    /// Writes what became of the batch that was sent first; `false` when there is none.
    fn put_oldest<S: Source, K: Sink>(
        &mut self,
        queue: &mut Queue<'_, '_>,
        ends: &mut Ends<'_, '_, '_, S, K>,
    ) -> Result<bool, WriteError> {
        let Some((batch, codec)) = queue.take(ends.vmcore.source(), ends.scratch) else {
            return Ok(false);
        };
        if batch.is_unread() {
            let page = ends.scratch.get_mut(..self.page_bytes).unwrap_or_default();
            batch.encode_each(codec, page, &mut |pfn, page| {
                self.unreadable
                    .read(ends.vmcore, pfn.0, page, ends.stats, ends.observer);
            });
        }
        for (_, page) in batch.encoded() {
            self.done = self.done.saturating_add(1);
            let counter = match page {
                Encoded::Zero => &mut ends.stats.zero,
                Encoded::Repeated | Encoded::Stored(_) | Encoded::Compressed(_) => {
                    &mut ends.stats.kept
                }
            };
            *counter = counter.saturating_add(1);
        }
        ends.writer.put_batch(batch)?;
        Ok(true)
    }

    fn tell_progress<S: Source, K: Sink>(&self, ends: &mut Ends<'_, '_, '_, S, K>) {
        ends.observer.progress(Progress {
            stage: Stage::Copy,
            done_pages: self.done,
            total_pages: self.total,
            written_bytes: ends.writer.written_bytes(),
        });
    }
}

/// The run of unreadable pages that was not yet told: first pfn, one past the last, and why.
struct Unreadable(Option<(u64, u64, ReadError)>);

impl Unreadable {
    /// Reads a page by itself. One that cannot be read is zeros, and counted.
    fn read<S: Source>(
        &mut self,
        vmcore: &mut Vmcore<'_, S>,
        pfn: u64,
        page: &mut [u8],
        stats: &mut Stats,
        observer: &mut dyn Observer,
    ) {
        if let Err(error) = vmcore.read_page(Pfn(pfn), page) {
            page.fill(0);
            stats.unreadable = stats.unreadable.saturating_add(1);
            self.note(pfn, error, observer);
        }
    }

    /// Remembers an unreadable page, and tells the run before it when this one does not continue it.
    fn note(&mut self, pfn: u64, error: ReadError, observer: &mut dyn Observer) {
        if let Some((_, end, _)) = &mut self.0
            && *end == pfn
        {
            *end = pfn.saturating_add(1);
            return;
        }
        self.tell(observer);
        self.0 = Some((pfn, pfn.saturating_add(1), error));
    }

    /// Tells of the last run, if there is one.
    fn tell(&mut self, observer: &mut dyn Observer) {
        if let Some((start, end, error)) = self.0.take() {
            observer.warn(format_args!(
                "{} pages from pfn {start:#x} on are zeros in the dump: {error}",
                end.saturating_sub(start)
            ));
        }
    }
}

/// Whether a page has nothing but zeros. Most that have something else have it early.
pub(crate) fn is_zero(page: &[u8]) -> bool {
    let (groups, rest) = page.as_chunks::<64>();
    let clear = groups.iter().all(|group| {
        let (words, _) = group.as_chunks::<8>();
        words
            .iter()
            .fold(0, |seen, word| seen | u64::from_le_bytes(*word))
            == 0
    });
    clear && rest.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use super::is_zero;

    #[test]
    fn a_page_is_zero_when_every_byte_is() {
        let mut page = [0; 4096];
        assert!(is_zero(&page));
        for position in [0, 1, 63, 64, 2048, 4088, 4095] {
            page[position] = 0x80;
            assert!(!is_zero(&page), "{position}");
            page[position] = 0;
        }
        assert!(is_zero(&page[..100]));
    }
}
