// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trees of page tables: what all architectures have in common. A table is an array of entries, a part of the address is
//! the index into it, and an entry leads to a further table or to memory.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use super::{Leaf, ReadEntries, TranslateError};
use crate::address::{PhysAddr, VirtAddr};

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Nothing: the addresses are not in use.
    Absent,
    /// A further table is at this address.
    Table(u64),
    /// Memory is at this address. Bits below the size that the entry maps mean nothing.
    Leaf(u64),
}

/// How an architecture writes its entries.
pub(crate) trait Format: Copy {
    /// Bytes of an entry: 8, but for i386 without PAE.
    fn entry_bytes(&self) -> usize {
        8
    }

    /// The number in an entry's bytes.
    fn number(&self, bytes: &[u8]) -> u64;

    /// What an entry says in a table of `level`, of which the last tables have 0.
    fn decode(&self, entry: u64, level: usize, address: VirtAddr) -> Entry;
}

/// The most levels that any architecture has.
pub(crate) const MAX_LEVELS: usize = 5;
/// Entries of the last tables that are read in one go.
const ENTRIES_AT_ONCE: usize = 64;

/// A tree, and where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables<F> {
    format: F,
    root: PhysAddr,
    /// The base-2 logarithm of a page's size.
    page_shift: u32,
    /// Bits of the index at each level, the last tables' first; 0 behind the root's.
    index_bits: [u8; MAX_LEVELS],
    /// The second to last table that was used last, with the upper bits of the addresses that it is for. The mem_map is
    /// walked from one large page to the next.
    last_table: Option<(u64, PhysAddr)>,
}

impl<F: Format> Tables<F> {
    pub(crate) const fn new(
        format: F,
        root: PhysAddr,
        page_shift: u32,
        index_bits: [u8; MAX_LEVELS],
    ) -> Self {
        Self {
            format,
            root,
            page_shift,
            index_bits,
            last_table: None,
        }
    }

    /// How entries are written.
    pub(crate) const fn format(&self) -> F {
        self.format
    }

    /// Where the tree begins.
    #[cfg(test)]
    pub(crate) const fn root(&self) -> PhysAddr {
        self.root
    }

    /// Address bits that the tables above `level` do not decide.
    fn shift(&self, level: usize) -> u32 {
        let below = self.index_bits.iter().take(level);
        below.fold(self.page_shift, |sum, &bits| {
            sum.saturating_add(bits.into())
        })
    }

    /// Address bits that the tables translate.
    pub(crate) fn address_bits(&self) -> u32 {
        self.shift(MAX_LEVELS)
    }

    /// Whether the bits of an address above those that are translated are all set, as the kernel's half has them.
    pub(crate) fn is_in_upper_half(&self, address: VirtAddr) -> bool {
        address.0.leading_ones() >= 64_u32.saturating_sub(self.address_bits())
    }

    /// The leaf that maps `address`. Small pages that follow each other in both kinds of memory make one leaf, as the
    /// kernel maps most of what it needs in one piece.
    pub(crate) fn walk(
        &mut self,
        address: VirtAddr,
        read: ReadEntries<'_>,
    ) -> Result<Leaf, TranslateError> {
        let upper_bits = address.0.checked_shr(self.shift(2)).unwrap_or(0);
        let root_level = self.index_bits.iter().take_while(|&&bits| bits > 0).count();
        let (mut table, mut level) = match self.last_table {
            Some((bits, table)) if bits == upper_bits => (table, 1),
            _ => (self.root, root_level.saturating_sub(1)),
        };
        loop {
            if level == 1 {
                self.last_table = Some((upper_bits, table));
            }
            let shift = self.shift(level);
            let bits = self.index_bits.get(level).copied().unwrap_or(0);
            let last = 1_u64.checked_shl(bits.into()).unwrap_or(0).wrapping_sub(1);
            let index = address.0.checked_shr(shift).unwrap_or(0) & last;
            let entry_bytes = u64::try_from(self.format.entry_bytes()).unwrap_or(8);
            // An index has 13 bits at most.
            let place = table
                .checked_add(index.wrapping_mul(entry_bytes))
                .ok_or(TranslateError::Table(table))?;
            if level == 0 {
                let left = last.saturating_sub(index).saturating_add(1);
                return self.small_pages(address, left, place, read);
            }
            let mut entry = [0; 8];
            let entry = entry
                .get_mut(..self.format.entry_bytes())
                .unwrap_or_default();
            read(place, entry).map_err(|_| TranslateError::Table(place))?;
            match self
                .format
                .decode(self.format.number(entry), level, address)
            {
                Entry::Absent => return Err(TranslateError::NotMapped(address)),
                Entry::Leaf(target) => {
                    let bytes = 1_u64.checked_shl(shift).unwrap_or(1);
                    let inside = bytes.wrapping_sub(1);
                    return Ok(Leaf {
                        virtual_address: VirtAddr(address.0 & !inside),
                        physical_address: PhysAddr(target & !inside),
                        bytes,
                    });
                }
                Entry::Table(target) => table = PhysAddr(target),
            }
            level = level.saturating_sub(1);
        }
    }

    /// The small page of the entry at `place`, and those behind it that continue it; `left` are in its table.
    fn small_pages(
        &self,
        address: VirtAddr,
        left: u64,
        place: PhysAddr,
        read: ReadEntries<'_>,
    ) -> Result<Leaf, TranslateError> {
        let entry_bytes = self.format.entry_bytes();
        let page_bytes = 1_u64.wrapping_shl(self.page_shift);
        let inside = page_bytes.wrapping_sub(1);
        let start = VirtAddr(address.0 & !inside);
        let mut entries = [0; 8 * ENTRIES_AT_ONCE];
        let count = usize::try_from(left).map_or(ENTRIES_AT_ONCE, |left| left.min(ENTRIES_AT_ONCE));
        let entries = entries
            .get_mut(..count.saturating_mul(entry_bytes))
            .unwrap_or_default();
        read(place, entries).map_err(|_| TranslateError::Table(place))?;
        let target =
            |entry: &[u8], address| match self.format.decode(self.format.number(entry), 0, address)
            {
                Entry::Leaf(target) => Some(target & !inside),
                Entry::Absent | Entry::Table(_) => None,
            };
        let mut entries = entries.chunks_exact(entry_bytes);
        let first = entries
            .next()
            .and_then(|entry| target(entry, start))
            .ok_or(TranslateError::NotMapped(address))?;
        let mut bytes = page_bytes;
        for entry in entries {
            let next = VirtAddr(start.0.wrapping_add(bytes));
            if target(entry, next) != first.checked_add(bytes) {
                break;
            }
            bytes = bytes.saturating_add(page_bytes);
        }
        Ok(Leaf {
            virtual_address: start,
            physical_address: PhysAddr(first),
            bytes,
        })
    }
}
