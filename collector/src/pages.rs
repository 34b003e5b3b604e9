// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kept pages from the vmcore to the dumpfile's writer.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use crate::address::{Pfn, PhysAddr};
use crate::bitmap::Window;
use crate::io::{Sink, Source};
use crate::kdump::{WriteError, Writer};
use crate::observer::{Observer, Progress, Stage};
use crate::stats::Stats;
use crate::vmcore::{ReadError, Vmcore};

/// What is copied, and how far that is.
pub(crate) struct Pages {
    /// Zero pages share one block.
    pub(crate) share_zero: bool,
    /// Pages that will be copied in all.
    pub(crate) total: u64,
    /// Pages that were.
    pub(crate) done: u64,
    /// The run of unreadable pages that was not yet told: first pfn, one past the last, and why.
    unreadable: Option<(u64, u64, ReadError)>,
}

impl Pages {
    pub(crate) const fn new(share_zero: bool, total: u64) -> Self {
        Self {
            share_zero,
            total,
            done: 0,
            unreadable: None,
        }
    }

    /// Copies the pages whose bits are set in `window`, in long reads where they follow each other.
    pub(crate) fn copy_window<S: Source, K: Sink>(
        &mut self,
        vmcore: &mut Vmcore<'_, S>,
        window: &Window<'_>,
        scratch: &mut [u8],
        writer: &mut Writer<'_, K>,
        stats: &mut Stats,
        observer: &mut dyn Observer,
    ) -> Result<(), WriteError> {
        let page_bytes = vmcore.page_size();
        let shift = vmcore.page_shift();
        let longest = u64::try_from(scratch.len()).unwrap_or(u64::MAX) >> shift;
        let mut from = window.start();
        while let Some((start, end)) = window.next_run(from) {
            let mut pfn = start;
            while pfn < end {
                let address = PhysAddr(pfn.wrapping_shl(shift));
                let whole = vmcore
                    .locate(address)
                    .map_or(0, |extent| extent.bytes >> shift);
                let count = end.saturating_sub(pfn).min(longest).min(whole);
                let len = usize::try_from(count.wrapping_shl(shift)).unwrap_or(0);
                match vmcore.view_physical(address, len, scratch) {
                    Some(Ok(pages)) if count > 0 => {
                        for page in pages.chunks_exact(page_bytes) {
                            self.put(writer, stats, pfn, page)?;
                            pfn = pfn.saturating_add(1);
                        }
                    }
                    // Pages that are partly in the file, and those around one that cannot be read.
                    _ => {
                        let page = scratch.get_mut(..page_bytes).unwrap_or_default();
                        for _ in 0..count.max(1) {
                            if let Err(error) = vmcore.read_page(Pfn(pfn), page) {
                                page.fill(0);
                                stats.unreadable = stats.unreadable.saturating_add(1);
                                self.note_unreadable(pfn, error, observer);
                            }
                            self.put(writer, stats, pfn, page)?;
                            pfn = pfn.saturating_add(1);
                        }
                    }
                }
                observer.progress(Progress {
                    stage: Stage::Copy,
                    done_pages: self.done,
                    total_pages: self.total,
                    written_bytes: writer.written_bytes(),
                });
            }
            from = end;
        }
        Ok(())
    }

    fn put<K: Sink>(
        &mut self,
        writer: &mut Writer<'_, K>,
        stats: &mut Stats,
        pfn: u64,
        page: &[u8],
    ) -> Result<(), WriteError> {
        self.done = self.done.saturating_add(1);
        if self.share_zero && is_zero(page) {
            stats.zero = stats.zero.saturating_add(1);
            writer.put_zero_page(Pfn(pfn))
        } else {
            stats.kept = stats.kept.saturating_add(1);
            writer.put_page(Pfn(pfn), page)
        }
    }

    /// Remembers an unreadable page, and tells the run before it when this one does not continue it.
    fn note_unreadable(&mut self, pfn: u64, error: ReadError, observer: &mut dyn Observer) {
        if let Some((_, end, _)) = &mut self.unreadable
            && *end == pfn
        {
            *end = pfn.saturating_add(1);
            return;
        }
        self.tell_unreadable(observer);
        self.unreadable = Some((pfn, pfn.saturating_add(1), error));
    }

    /// Tells of the last run of unreadable pages, if there is one.
    pub(crate) fn tell_unreadable(&mut self, observer: &mut dyn Observer) {
        if let Some((start, end, error)) = self.unreadable.take() {
            observer.warn(format_args!(
                "{} pages from pfn {start:#x} on are zeros in the dump: {error}",
                end.saturating_sub(start)
            ));
        }
    }
}

/// Whether a page has nothing but zeros. Most that have something else have it early.
fn is_zero(page: &[u8]) -> bool {
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
