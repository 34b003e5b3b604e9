// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flat and sparse memory: where each pfn's `struct page` is.
//!
//! Source: Linux 6.12 `include/linux/mmzone.h` (`struct mem_section`, `__section_mem_map_addr()`), `mm/sparse.c`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use crate::address::{Pfn, VirtAddr};
use crate::io::Source;
use crate::vmcore::Vmcore;

/// The low bits of `section_mem_map` are flags. Five are in use up to 6.14 and six since; an address has none of them,
/// as the array is page-aligned.
const SECTION_FLAGS: u64 = 0x3f;
/// The section exists.
const SECTION_PRESENT: u64 = 1;

/// How the first kernel finds a page's `struct page`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MemMap {
    /// One array for all memory.
    Flat {
        /// Its first element, which is pfn 0's.
        first: VirtAddr,
    },
    /// An array for each section of memory; with `SPARSEMEM_VMEMMAP` they are one in virtual memory.
    Sparse(Sparse),
}

/// The table of sections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sparse {
    /// The table, or with roots the table of pointers to its parts.
    table: VirtAddr,
    /// Bytes of a pointer.
    word_bytes: u64,
    /// With `SPARSEMEM_EXTREME`: sections of each part.
    sections_per_root: Option<u64>,
    section_count: u64,
    /// Pages of a section, as a power of two.
    section_shift: u32,
    /// Bytes of a `struct mem_section`, and where its `section_mem_map` is.
    section_bytes: u64,
    map_offset: u64,
    /// The part that was looked at last: its number, and where it is.
    last_root: Option<(u64, u64)>,
}

/// A stretch of pfns whose `struct page`s follow each other in virtual memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Its first pfn.
    pub(crate) start: u64,
    /// One past its last pfn.
    pub(crate) end: u64,
    /// The first pfn's `struct page`; `None` when there is none: memory that the kernel does not manage.
    pub(crate) first: Option<VirtAddr>,
}

/// What an architecture has where VMCOREINFO does not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    /// Address bits of a section.
    pub(crate) section_size_bits: u32,
    /// Address bits of all memory.
    pub(crate) max_physmem_bits: u32,
    /// The pfn whose `struct page` is the first of flat memory.
    pub(crate) first_pfn: u64,
}

impl MemMap {
    /// Finds the tables and tries them on the vmcore's memory.
    ///
    /// # Errors
    /// What VMCOREINFO lacks, or what does not fit.
    pub(crate) fn resolve<S: Source>(
        vmcore: &mut Vmcore<'_, S>,
        page_bytes: usize,
        defaults: Defaults,
    ) -> Result<Self, &'static str> {
        let info = vmcore.vmcoreinfo();
        let Some(table) = info.symbol("mem_section") else {
            let pointer = info
                .symbol("mem_map")
                .ok_or("VMCOREINFO has neither SYMBOL(mem_section) nor SYMBOL(mem_map)")?;
            let first = vmcore
                .read_word(pointer)
                .map_err(|_| "mem_map cannot be read")?;
            let before = u64::try_from(page_bytes)
                .unwrap_or(0)
                .wrapping_mul(defaults.first_pfn);
            return Ok(Self::Flat {
                first: VirtAddr(vmcore.abi().truncate(first.wrapping_sub(before))),
            });
        };
        let word_bytes = u64::try_from(vmcore.abi().word_bytes()).unwrap_or(8);
        let section_bytes = info
            .size("mem_section")
            .and_then(|bytes| u64::try_from(bytes).ok())
            .filter(|bytes| (word_bytes..=4096).contains(bytes))
            .ok_or("VMCOREINFO has no usable SIZE(mem_section)")?;
        let map_offset = info
            .offset("mem_section.section_mem_map")
            .and_then(|offset| u64::try_from(offset).ok())
            .filter(|&offset| offset <= section_bytes.saturating_sub(word_bytes))
            .ok_or("VMCOREINFO has no usable OFFSET(mem_section.section_mem_map)")?;
        let bits = |name, default| {
            info.number(name)
                .and_then(|bits| u32::try_from(bits).ok())
                .unwrap_or(default)
        };
        let section_bits = bits("SECTION_SIZE_BITS", defaults.section_size_bits);
        let memory_bits = bits("MAX_PHYSMEM_BITS", defaults.max_physmem_bits);
        let section_shift = section_bits
            .checked_sub(vmcore.page_shift())
            .filter(|shift| (4..=40).contains(shift))
            .ok_or("NUMBER(SECTION_SIZE_BITS) cannot be right")?;
        let section_count = memory_bits
            .checked_sub(section_bits)
            .filter(|&bits| bits <= 40)
            .and_then(|bits| 1_u64.checked_shl(bits))
            .ok_or("NUMBER(MAX_PHYSMEM_BITS) cannot be right")?;
        let per_root = u64::try_from(vmcore.page_size())
            .unwrap_or(4096)
            .checked_div(section_bytes)
            .unwrap_or(1)
            .max(1);
        let extreme = info
            .length("mem_section")
            .is_none_or(|length| length == section_count.div_ceil(per_root));
        let mut sparse = Sparse {
            table,
            word_bytes,
            sections_per_root: extreme.then_some(per_root),
            section_count,
            section_shift,
            section_bytes,
            map_offset,
            last_root: None,
        };
        let page_bytes = u64::try_from(page_bytes).unwrap_or(u64::MAX);
        if sparse.fits(vmcore, page_bytes) {
            return Ok(Self::Sparse(sparse));
        }
        // Since 4.15 the note has the table's address; before, and in notes made from debug information, that of the
        // pointer to it.
        if extreme && let Ok(table) = vmcore.read_word(table) {
            sparse.table = VirtAddr(table);
            sparse.last_root = None;
            if sparse.fits(vmcore, page_bytes) {
                return Ok(Self::Sparse(sparse));
            }
        }
        Err("the table of memory sections does not lead to the vmcore's memory")
    }

    /// The piece that a pfn is in.
    pub(crate) fn locate<S: Source>(
        &mut self,
        vmcore: &mut Vmcore<'_, S>,
        pfn: u64,
        page_bytes: u64,
    ) -> Piece {
        match self {
            Self::Flat { first } => Piece {
                start: 0,
                end: u64::MAX,
                first: Some(*first),
            },
            Self::Sparse(sparse) => {
                let section = pfn >> sparse.section_shift;
                let start = section << sparse.section_shift;
                Piece {
                    start,
                    end: start.saturating_add(1_u64.wrapping_shl(sparse.section_shift)),
                    first: sparse.first_page(vmcore, section, page_bytes),
                }
            }
        }
    }
}

impl Sparse {
    /// Whether the table knows any of the sections in which the vmcore's memory begins.
    fn fits<S: Source>(&mut self, vmcore: &mut Vmcore<'_, S>, page_bytes: u64) -> bool {
        let mut from = Pfn(0);
        for _ in 0..16 {
            let Some((start, end)) = vmcore.present_from(from) else {
                return false;
            };
            // A range may begin with memory that is not managed, so its end is tried too.
            for pfn in [start.0, end.0.saturating_sub(1)] {
                let section = pfn >> self.section_shift;
                if let Some(first) = self.first_page(vmcore, section, page_bytes) {
                    let inside = pfn
                        .saturating_sub(section << self.section_shift)
                        .saturating_mul(page_bytes);
                    let address = first.0.wrapping_add(inside);
                    let address = VirtAddr(vmcore.abi().truncate(address));
                    if vmcore.translate_by_tables(address).is_ok() {
                        return true;
                    }
                }
            }
            from = end;
        }
        false
    }

    /// The `struct page` of the section's first pfn.
    fn first_page<S: Source>(
        &mut self,
        vmcore: &mut Vmcore<'_, S>,
        section: u64,
        page_bytes: u64,
    ) -> Option<VirtAddr> {
        if section >= self.section_count {
            return None;
        }
        let (part, index) = match self.sections_per_root {
            None => (self.table.0, section),
            Some(per_root) => {
                let root = section.checked_div(per_root)?;
                let part = match self.last_root {
                    Some((number, part)) if number == root => part,
                    _ => {
                        let pointer = self.table.checked_add(root.checked_mul(self.word_bytes)?)?;
                        let part = vmcore.read_word(pointer).ok()?;
                        self.last_root = Some((root, part));
                        part
                    }
                };
                (part, section.checked_rem(per_root)?)
            }
        };
        if part == 0 {
            return None;
        }
        let address = VirtAddr(part)
            .checked_add(index.checked_mul(self.section_bytes)?)?
            .checked_add(self.map_offset)?;
        let map = vmcore.read_word(address).ok()?;
        if map & SECTION_PRESENT == 0 {
            return None;
        }
        // The kernel stores the array's address less that of pfn 0 in it, so that adding the pfn is all it needs.
        let before = (section << self.section_shift).wrapping_mul(page_bytes);
        let first = (map & !SECTION_FLAGS).wrapping_add(before);
        Some(VirtAddr(vmcore.abi().truncate(first)))
    }
}
