// SPDX-License-Identifier: MIT OR Apache-2.0
//! Walks the mem_map and clears the bits of the pages that are left out.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use crate::address::{Pfn, VirtAddr};
use crate::bitmap::{GRAIN_PFNS, Window};
use crate::free_lists::FreeLists;
use crate::io::Source;
use crate::mem_map::{MemMap, Piece};
use crate::page::{Kinds, MAX_PAGE_BYTES, PageKind, Rules, Verdict};
use crate::stats::Stats;
use crate::vmcore::Vmcore;

/// What the filter needs of memory to read `struct page`s into, where a source cannot be viewed in place.
pub(crate) const FILTER_BYTES: usize = 512 * MAX_PAGE_BYTES;

/// One pass over the mem_map, in ascending order, a window at a time.
pub(crate) struct Filter {
    rules: Rules,
    map: MemMap,
    /// Where free blocks are listed, for a kernel whose free pages cannot be told by themselves.
    free_lists: Option<FreeLists>,
    /// A block that is left out and reaches behind the window: its end, and what it is.
    pending: Option<(u64, PageKind)>,
    /// Pages whose `struct page` could not be read; they are kept.
    unknown_pages: u64,
    /// Lists of free blocks that lead nowhere.
    broken_lists: u64,
    /// Pages of hugetlbfs that were left out.
    huge_pages: u64,
}

impl Filter {
    pub(crate) const fn new(rules: Rules, map: MemMap, free_lists: Option<FreeLists>) -> Self {
        Self {
            rules,
            map,
            free_lists,
            pending: None,
            unknown_pages: 0,
            broken_lists: 0,
            huge_pages: 0,
        }
    }

    /// Leaves pages of these kinds in from now on. To be called before a pass.
    pub(crate) fn keep(&mut self, kinds: &Kinds) {
        self.rules = self.rules.without(kinds);
        if kinds.free {
            self.free_lists = None;
        }
    }

    /// Whether a pass would change nothing.
    pub(crate) const fn excludes_nothing(&self) -> bool {
        self.rules.exclude_nothing() && self.free_lists.is_none()
    }

    /// Whether this page by itself would be left out. One whose `struct page` cannot be read would not.
    pub(crate) fn would_exclude<S: Source>(
        &mut self,
        vmcore: &mut Vmcore<'_, S>,
        pfn: u64,
    ) -> bool {
        let size = self.rules.page_bytes();
        let page_bytes = u64::try_from(size).unwrap_or(u64::MAX);
        let piece = self.map.locate(vmcore, pfn, page_bytes);
        let inside = pfn.saturating_sub(piece.start).wrapping_mul(page_bytes);
        let mut page = [0; MAX_PAGE_BYTES];
        let (Some(first), Some(page)) = (piece.first, page.get_mut(..size)) else {
            return false;
        };
        let address = VirtAddr(vmcore.abi().truncate(first.0.wrapping_add(inside)));
        vmcore.read_by_tables(address, page).is_ok()
            && self.rules.verdict(page, None, pfn) != Verdict::Keep
    }

    /// Begins another pass.
    pub(crate) const fn restart(&mut self) {
        self.pending = None;
        self.unknown_pages = 0;
        self.broken_lists = 0;
        self.huge_pages = 0;
    }

    /// Lists of free blocks that led nowhere in this pass; what is behind that is kept.
    pub(crate) const fn broken_lists(&self) -> u64 {
        self.broken_lists
    }

    /// Pages of hugetlbfs among the users' pages that this pass left out.
    pub(crate) const fn huge_pages(&self) -> u64 {
        self.huge_pages
    }

    /// Present pages whose `struct page` could not be read in this pass.
    pub(crate) const fn unknown_pages(&self) -> u64 {
        self.unknown_pages
    }

    /// Clears what is left out of `window`, whose present pages are set, and counts it. `progress` is told the pfn
    /// that was reached, every 512 pages or so.
    pub(crate) fn pass<S: Source>(
        &mut self,
        vmcore: &mut Vmcore<'_, S>,
        window: &mut Window<'_>,
        scratch: &mut [u8],
        stats: &mut Stats,
        progress: &mut dyn FnMut(u64),
    ) {
        let page_bytes = u64::try_from(self.rules.page_bytes()).unwrap_or(u64::MAX);
        let mut pfn = window.start();
        if let Some((end, kind)) = self.pending.take() {
            pfn = self.exclude(window, stats, kind, pfn, end).max(pfn);
        }
        while let Some((start, end)) = vmcore.present_from(Pfn(pfn)) {
            let end = end.0.min(window.end());
            pfn = start.0;
            while pfn < end {
                let piece = self.map.locate(vmcore, pfn, page_bytes);
                let piece_end = piece.end.min(end);
                let Some(first) = piece.first else {
                    pfn = piece_end;
                    continue;
                };
                while pfn < piece_end {
                    pfn = self.batch(
                        vmcore, window, scratch, stats, &piece, first, pfn, piece_end,
                    );
                    progress(pfn.min(window.end()));
                }
            }
            if pfn >= window.end() {
                break;
            }
        }
        if let Some(lists) = self.free_lists {
            let cleared = lists.clear(vmcore, &mut self.map, window, &mut self.broken_lists);
            stats.free = stats.free.saturating_add(cleared);
        }
    }

    /// Looks at the pages from `pfn` on that are in one batch, and returns the pfn behind what is settled.
    ///
    /// Batches begin at multiples of their size, so that a compound page's second `struct page` is in the batch of its
    /// first.
    #[expect(clippy::too_many_arguments, reason = "the loop of pass(), cut in two")]
    fn batch<S: Source>(
        &mut self,
        vmcore: &mut Vmcore<'_, S>,
        window: &mut Window<'_>,
        scratch: &mut [u8],
        stats: &mut Stats,
        piece: &Piece,
        first_page: VirtAddr,
        mut pfn: u64,
        end: u64,
    ) -> u64 {
        let size = self.rules.page_bytes();
        let batch_start = pfn.saturating_sub(pfn % GRAIN_PFNS).max(piece.start);
        let batch_end = batch_start.saturating_add(GRAIN_PFNS).min(piece.end);
        let end = end.min(batch_end);
        let skipped = batch_start
            .saturating_sub(piece.start)
            .wrapping_mul(u64::try_from(size).unwrap_or(0));
        let address = VirtAddr(vmcore.abi().truncate(first_page.0.wrapping_add(skipped)));
        if pfn == batch_start {
            // Where one block reaches over the whole batch, and free memory is most often in such, its first struct page
            // is all that need be read.
            let head = view_virtual(vmcore, address, size.saturating_mul(2), scratch);
            if let Some((page, second)) = head.and_then(|head| head.split_at_checked(size))
                && let Verdict::Exclude(kind, count) = self.rules.verdict(page, Some(second), pfn)
                && pfn.saturating_add(count) >= end
            {
                return self.exclude(window, stats, kind, pfn, pfn.saturating_add(count));
            }
        }
        let count = usize::try_from(batch_end.saturating_sub(batch_start)).unwrap_or(0);
        let Some(pages) = view_virtual(vmcore, address, count.saturating_mul(size), scratch) else {
            self.unknown_pages = self.unknown_pages.saturating_add(end.saturating_sub(pfn));
            return end;
        };
        // One struct behind the other; the iterator of the rest serves `second` without a bounds check of its own.
        while pfn < end {
            let index = usize::try_from(pfn.saturating_sub(batch_start)).unwrap_or(usize::MAX);
            let rest = index
                .checked_mul(size)
                .and_then(|offset| pages.get(offset..))
                .unwrap_or_default();
            let Some((page, rest)) = rest.split_at_checked(size) else {
                break;
            };
            match self.rules.verdict(page, rest.get(..size), pfn) {
                Verdict::Keep => pfn = pfn.saturating_add(1),
                Verdict::Exclude(kind, count) => {
                    let block_end = pfn.saturating_add(count);
                    pfn = self.exclude(window, stats, kind, pfn, block_end);
                }
            }
        }
        pfn.max(end)
    }

    /// Clears the pages from `start` to `end` and counts those that were present. Returns `end`.
    fn exclude(
        &mut self,
        window: &mut Window<'_>,
        stats: &mut Stats,
        kind: PageKind,
        start: u64,
        end: u64,
    ) -> u64 {
        let cleared = window.clear(start, end);
        if end > window.end() {
            self.pending = Some((end, kind));
        }
        if kind == PageKind::Huge {
            self.huge_pages = self.huge_pages.saturating_add(cleared);
        }
        let counter = match kind {
            PageKind::Cache => &mut stats.cache,
            PageKind::CachePrivate => &mut stats.cache_private,
            PageKind::User | PageKind::Huge => &mut stats.user,
            PageKind::Free => &mut stats.free,
            PageKind::Hwpoison => &mut stats.hwpoison,
            PageKind::Offline => &mut stats.offline,
        };
        *counter = counter.saturating_add(cleared);
        end
    }
}

/// The `len` bytes at a virtual address: in place where they lie in one piece, else put together in `scratch`. `None`
/// when any of them cannot be had.
fn view_virtual<'a, S: Source>(
    vmcore: &'a mut Vmcore<'_, S>,
    address: VirtAddr,
    len: usize,
    scratch: &'a mut [u8],
) -> Option<&'a [u8]> {
    let (physical, bytes) = vmcore.translate_by_tables(address).ok()?;
    if usize::try_from(bytes).is_ok_and(|bytes| bytes >= len)
        && vmcore
            .locate(physical)
            .and_then(|extent| usize::try_from(extent.bytes).ok())
            .is_some_and(|bytes| bytes >= len)
    {
        return vmcore.view_physical(physical, len, scratch)?.ok();
    }
    let scratch = scratch.get_mut(..len)?;
    vmcore.read_by_tables(address, scratch).ok()?;
    Some(scratch)
}
