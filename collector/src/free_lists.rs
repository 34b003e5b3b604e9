// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first kernel's lists of free blocks, for kernels that do not say how a free block's `struct page` is told.
//!
//! Before 3.10 VMCOREINFO has no mark of free pages, but the lists are where they are today: in each zone, for each order
//! and each kind of mobility, a ring of the blocks' `struct page`s.
//!
//! Source: Linux 2.6.32 `include/linux/mmzone.h`, `mm/page_alloc.c`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use crate::address::VirtAddr;
use crate::bitmap::Window;
use crate::io::Source;
use crate::known::Known;
use crate::mem_map::MemMap;
use crate::nodes::Nodes;
use crate::vmcore::Vmcore;

/// No kernel has a larger free block than 2^this pages, or more kinds of mobility.
const MAX_ORDERS: u64 = 32;
const MAX_KINDS: u64 = 32;

/// Where the lists are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FreeLists {
    nodes: Nodes,
    /// Where the areas are in a zone, one for each order.
    areas: u64,
    area_bytes: u64,
    orders: u64,
    /// Where the lists are in an area, one for each kind of mobility.
    lists: u64,
    kinds: u64,
    list_bytes: u64,
    /// Where the pointer to the next is in a list's link, and the link in a `struct page`.
    next: u64,
    link: u64,
    page_bytes: u64,
}

impl FreeLists {
    /// Finds the lists; `None` where VMCOREINFO does not tell enough.
    pub(crate) fn resolve(known: &Known<'_>, page_bytes: usize) -> Option<Self> {
        let offset = |name| u64::try_from(known.offset(name)?).ok();
        let size = |name| u64::try_from(known.size(name)?).ok();
        Some(Self {
            nodes: Nodes::resolve(known)?,
            areas: offset("zone.free_area")?,
            area_bytes: size("free_area")?,
            orders: known
                .length("zone.free_area")
                .filter(|orders| (1..=MAX_ORDERS).contains(orders))?,
            lists: offset("free_area.free_list")?,
            // Until 2.6.23 there was one list.
            kinds: known
                .length("free_area.free_list")
                .filter(|kinds| (1..=MAX_KINDS).contains(kinds))
                .unwrap_or(1),
            list_bytes: size("list_head")?,
            next: offset("list_head.next")?,
            link: offset("page.lru")?,
            page_bytes: u64::try_from(page_bytes).ok()?,
        })
    }

    /// Clears what of all free blocks is in the window, and returns how many pages were present. A list that leads
    /// nowhere is left where it does, and counted in `broken`.
    pub(crate) fn clear<S: Source>(
        &self,
        vmcore: &mut Vmcore<'_, S>,
        map: &mut MemMap,
        window: &mut Window<'_>,
        broken: &mut u64,
    ) -> u64 {
        let mut cleared = 0_u64;
        // A broken table of nodes ends the walk; what was found until then is free all the same.
        let whole = self.nodes.each_zone(vmcore, &mut |vmcore, zone| {
            for order in 0..self.orders {
                for kind in 0..self.kinds {
                    let inside = order
                        .checked_mul(self.area_bytes)?
                        .checked_add(kind.checked_mul(self.list_bytes)?)?
                        .checked_add(self.areas)?
                        .checked_add(self.lists)?;
                    let head = zone.checked_add(inside)?;
                    if self
                        .clear_list(vmcore, map, window, head, order, &mut cleared)
                        .is_none()
                    {
                        *broken = broken.saturating_add(1);
                    }
                }
            }
            Some(())
        });
        if whole.is_none() {
            *broken = broken.saturating_add(1);
        }
        cleared
    }

    /// Goes through one list. `None` where it does not come back to its head.
    fn clear_list<S: Source>(
        &self,
        vmcore: &mut Vmcore<'_, S>,
        map: &mut MemMap,
        window: &mut Window<'_>,
        head: VirtAddr,
        order: u64,
        cleared: &mut u64,
    ) -> Option<()> {
        let count = 1_u64.checked_shl(u32::try_from(order).ok()?)?;
        let mut link = self.follow(vmcore, head)?;
        // A ring without the head in it is noticed by an older link that comes again: the one that is remembered moves on
        // after 1, 2, 4, … steps.
        let (mut remembered, mut steps, mut turn) = (link, 0_u64, 1_u64);
        while link != head {
            let page = VirtAddr(link.0.checked_sub(self.link)?);
            let pfn = map.pfn_of(vmcore, page, self.page_bytes)?;
            if !pfn.is_multiple_of(count) {
                return None;
            }
            *cleared = cleared.saturating_add(window.clear(pfn, pfn.checked_add(count)?));
            link = self.follow(vmcore, link)?;
            if link == remembered {
                return None;
            }
            steps = steps.saturating_add(1);
            if steps == turn {
                remembered = link;
                turn = turn.saturating_mul(2);
                steps = 0;
            }
        }
        Some(())
    }

    fn follow<S: Source>(&self, vmcore: &mut Vmcore<'_, S>, link: VirtAddr) -> Option<VirtAddr> {
        vmcore
            .read_word(link.checked_add(self.next)?)
            .ok()
            .map(VirtAddr)
    }
}
