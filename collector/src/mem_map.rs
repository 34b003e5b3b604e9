// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flat, discontiguous and sparse memory: where each pfn's `struct page` is.
//!
//! Source: Linux 6.12 `include/linux/mmzone.h` (`struct mem_section`, `__section_mem_map_addr()`), `mm/sparse.c`; Linux
//! 2.6.24 `include/linux/mmzone.h` (`struct pglist_data`).
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use heapless::Vec;

use crate::address::{Pfn, VirtAddr};
use crate::io::Source;
use crate::known::Known;
use crate::nodes::Nodes;
use crate::vmcore::Vmcore;

/// The low bits of `section_mem_map` are flags. Five are in use up to 6.14 and six since; an address has none of them,
/// as the array is page-aligned.
const SECTION_FLAGS: u64 = 0x3f;
/// The section exists.
const SECTION_PRESENT: u64 = 1;
/// The most nodes with an array of their own; kernels that had such were built for 64 at most.
const MAX_NODE_MAPS: usize = 64;
/// How wide physical addresses were on x86_64, where an old kernel does not say: up to 2.6.25, 2.6.30, and 4.13.
const OLD_PHYSMEM_BITS: [u32; 3] = [46, 44, 40];

/// How the first kernel finds a page's `struct page`.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is no heap, and one of them"
)]
pub(crate) enum MemMap {
    /// One array for all memory.
    Flat {
        /// Its first element, which is pfn 0's.
        first: VirtAddr,
    },
    /// An array for each section of memory; with `SPARSEMEM_VMEMMAP` they are one in virtual memory.
    Sparse(Sparse),
    /// An array for each node: `DISCONTIGMEM`, until 5.13. In the order of their pfns.
    Nodes(Vec<Piece, MAX_NODE_MAPS>),
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
    /// The section that told the last pfn of an address.
    last_map: Option<u64>,
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
        known: &Known<'_>,
        page_bytes: usize,
        defaults: Defaults,
    ) -> Result<Self, &'static str> {
        let Some(table) = known.symbol("mem_section") else {
            let Some(pointer) = known.symbol("mem_map") else {
                return resolve_nodes(vmcore, known).ok_or(
                    "VMCOREINFO has neither SYMBOL(mem_section) nor SYMBOL(mem_map), and no nodes with a mem_map",
                );
            };
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
        let section_bytes = known
            .size("mem_section")
            .and_then(|bytes| u64::try_from(bytes).ok())
            .filter(|bytes| (word_bytes..=4096).contains(bytes))
            .ok_or("VMCOREINFO has no usable SIZE(mem_section)")?;
        let map_offset = known
            .offset("mem_section.section_mem_map")
            .and_then(|offset| u64::try_from(offset).ok())
            .filter(|&offset| offset <= section_bytes.saturating_sub(word_bytes))
            .ok_or("VMCOREINFO has no usable OFFSET(mem_section.section_mem_map)")?;
        let bits = |name| known.number(name).and_then(|bits| u32::try_from(bits).ok());
        let section_bits = bits("SECTION_SIZE_BITS").unwrap_or(defaults.section_size_bits);
        let section_shift = section_bits
            .checked_sub(vmcore.page_shift())
            .filter(|shift| (4..=40).contains(shift))
            .ok_or("NUMBER(SECTION_SIZE_BITS) cannot be right")?;
        let count_of = |memory_bits: u32| {
            memory_bits
                .checked_sub(section_bits)
                .filter(|&bits| bits <= 40)
                .and_then(|bits| 1_u64.checked_shl(bits))
        };
        let per_root = u64::try_from(vmcore.page_size())
            .unwrap_or(4096)
            .checked_div(section_bytes)
            .unwrap_or(1)
            .max(1);
        let length = known.length("mem_section");
        let (section_count, extreme) = match bits("MAX_PHYSMEM_BITS") {
            Some(memory_bits) => {
                let count =
                    count_of(memory_bits).ok_or("NUMBER(MAX_PHYSMEM_BITS) cannot be right")?;
                let extreme = length.is_none_or(|length| length == count.div_ceil(per_root));
                (count, extreme)
            }
            // The table's length shows how many sections the kernel was built for.
            None => {
                let default = count_of(defaults.max_physmem_bits)
                    .ok_or("NUMBER(SECTION_SIZE_BITS) cannot be right")?;
                let mut counts = [default]
                    .into_iter()
                    .chain(OLD_PHYSMEM_BITS.into_iter().filter_map(count_of));
                match length {
                    None => (default, true),
                    Some(length) => counts
                        .find(|count| length == count.div_ceil(per_root))
                        .map_or((length, false), |count| (count, true)),
                }
            }
        };
        let mut sparse = Sparse {
            table,
            word_bytes,
            sections_per_root: extreme.then_some(per_root),
            section_count,
            section_shift,
            section_bytes,
            map_offset,
            last_root: None,
            last_map: None,
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
            Self::Nodes(nodes) => match nodes.iter().find(|node| pfn < node.end) {
                Some(node) if node.start <= pfn => *node,
                // Between two nodes, or behind the last.
                next => Piece {
                    start: pfn,
                    end: next.map_or(u64::MAX, |node| node.start),
                    first: None,
                },
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

impl MemMap {
    /// The pfn whose `struct page` is at this address; `None` where there is none.
    pub(crate) fn pfn_of<S: Source>(
        &mut self,
        vmcore: &mut Vmcore<'_, S>,
        page: VirtAddr,
        page_bytes: u64,
    ) -> Option<u64> {
        let index = |first: VirtAddr| {
            let inside = page.0.checked_sub(first.0)?;
            let index = inside.checked_div(page_bytes)?;
            (inside == index.checked_mul(page_bytes)?).then_some(index)
        };
        match self {
            Self::Flat { first } => index(*first),
            Self::Nodes(nodes) => nodes.iter().find_map(|node| {
                let pfn = node.start.checked_add(index(node.first?)?)?;
                (pfn < node.end).then_some(pfn)
            }),
            Self::Sparse(sparse) => {
                // What a section stores is as if pfn 0 were in it; with one array for all, every section stores the same.
                let map = match sparse.last_map {
                    Some(map) => map,
                    None => {
                        let (start, _) = vmcore.present_from(Pfn(0))?;
                        start.0 >> sparse.section_shift
                    }
                };
                if let Some(pfn) = sparse.pfn_in(vmcore, map, page, page_bytes) {
                    return Some(pfn);
                }
                let mut from = Pfn(0);
                while let Some((start, end)) = vmcore.present_from(from) {
                    let mut section = start.0 >> sparse.section_shift;
                    while section << sparse.section_shift < end.0 {
                        if let Some(pfn) = sparse.pfn_in(vmcore, section, page, page_bytes) {
                            sparse.last_map = Some(section);
                            return Some(pfn);
                        }
                        section = section.checked_add(1)?;
                    }
                    from = end;
                }
                None
            }
        }
    }
}

/// The nodes' own arrays.
fn resolve_nodes<S: Source>(vmcore: &mut Vmcore<'_, S>, known: &Known<'_>) -> Option<MemMap> {
    let offset = |name| u64::try_from(known.offset(name)?).ok();
    let map = offset("pglist_data.node_mem_map")?;
    let first_pfn = offset("pglist_data.node_start_pfn")?;
    let page_count = offset("pglist_data.node_spanned_pages")?;
    let mut nodes: Vec<Piece, MAX_NODE_MAPS> = Vec::new();
    Nodes::resolve(known)?.each_node(vmcore, &mut |vmcore, node| {
        let start = vmcore.read_word(node.checked_add(first_pfn)?).ok()?;
        let count = vmcore.read_word(node.checked_add(page_count)?).ok()?;
        let first = vmcore.read_word(node.checked_add(map)?).ok()?;
        if count > 0 && first != 0 {
            let piece = Piece {
                start,
                end: start.checked_add(count)?,
                first: Some(VirtAddr(first)),
            };
            nodes.push(piece).ok()?;
        }
        Some(())
    })?;
    nodes.sort_unstable_by_key(|node| node.start);
    let separate = nodes
        .windows(2)
        .all(|pair| matches!(pair, [one, next] if one.end <= next.start));
    (separate && !nodes.is_empty()).then_some(MemMap::Nodes(nodes))
}

impl Sparse {
    /// The pfn of the `struct page` at an address, by what this section stores, where that pfn's own section agrees.
    fn pfn_in<S: Source>(
        &mut self,
        vmcore: &mut Vmcore<'_, S>,
        section: u64,
        page: VirtAddr,
        page_bytes: u64,
    ) -> Option<u64> {
        let start = section << self.section_shift;
        let first = self.first_page(vmcore, section, page_bytes)?;
        let base = first.0.wrapping_sub(start.wrapping_mul(page_bytes));
        let inside = vmcore.abi().truncate(page.0.wrapping_sub(base));
        let pfn = inside.checked_div(page_bytes)?;
        let own = pfn >> self.section_shift;
        let own_first = self.first_page(vmcore, own, page_bytes)?;
        let own_start = own << self.section_shift;
        let address = pfn
            .checked_sub(own_start)?
            .wrapping_mul(page_bytes)
            .wrapping_add(own_first.0);
        (vmcore.abi().truncate(address) == page.0).then_some(pfn)
    }

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
