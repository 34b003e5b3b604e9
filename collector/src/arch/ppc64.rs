// SPDX-License-Identifier: MIT OR Apache-2.0
//! ppc64 and ppc64le on server processors: the linear mapping by a sum, the vmemmap by the kernel's list of its pieces,
//! and the rest by page tables.
//!
//! With the radix MMU the tables have all that is not linear. With the hash MMU the processor does not use them; they
//! have vmalloc, and the vmemmap is in the list.
//!
//! Source: Linux 6.1 `arch/powerpc/include/asm/book3s/64/{hash,radix,pgtable}*.h`, `arch/powerpc/mm/init_64.c`
//! (`vmemmap_list`), `arch/powerpc/kexec/core.c`; the sizes of older tables from makedumpfile 1.7.9 `makedumpfile.h`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use super::tables::{Entry, Format, MAX_LEVELS, Tables};
use super::{Leaf, ReadEntries, TranslateError, Translation};
use crate::address::{PhysAddr, VirtAddr};
use crate::bytes::Abi;
use crate::mem_map::Defaults;
use crate::vmcoreinfo::Vmcoreinfo;

/// The first address of the linear mapping.
const PAGE_OFFSET: u64 = 0xc000_0000_0000_0000;
/// `MMU_FTR_TYPE_RADIX`.
const RADIX_FEATURE: u32 = 0x40;

/// A leaf, in a table that could also have pointers.
const PAGE_ENTRY: u64 = 1 << 62;
/// The entry of a page is in use.
const PRESENT: u64 = 1 << 63;
/// Bits of an entry that are no part of a table's address.
const TABLE_FLAGS: u64 = 0xc000_0000_0000_00ff;

/// Pieces of the vmemmap that are remembered.
const PIECES: usize = 32;
/// The most pieces that the list can have: 64 KiB each for 256 TiB of memory.
const MAX_PIECES: u32 = 1 << 22;

/// What the walk needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging {
    abi: Abi,
    page_shift: u32,
    version: (u32, u32),
    root: PhysAddr,
    /// Where the kernel keeps what it does not tell in numbers.
    sources: Sources,
    tables: Option<Tables<Entries>>,
    linear_bytes: u64,
    list: Option<List>,
}

#[derive(Clone, Copy, Debug)]
struct Sources {
    /// `RADIX_MMU`, since 6.0.
    radix: Option<bool>,
    /// `cur_cpu_spec`, and the offset of its features.
    features: Option<(VirtAddr, u64)>,
    /// `vmemmap_list`; `mmu_vmemmap_psize`; `mmu_psize_defs`, the size of one, and its shift's offset.
    list: Option<(VirtAddr, VirtAddr, VirtAddr, u64, u64)>,
    /// Offsets in `struct vmemmap_backing`: next, physical, virtual.
    piece: (u64, u64, u64),
}

/// The kernel's list of the vmemmap's pieces. It is in no order and can be long, so that some of it is remembered: the
/// pieces from the one that was looked for last on, as the mem_map is gone through in ascending order.
#[derive(Clone, Copy, Debug)]
struct List {
    head: u64,
    offsets: (u64, u64, u64),
    piece_bytes: u64,
    /// The first address that `pieces` are complete from, and the one up to which they are.
    from: u64,
    to: u64,
    /// Virtual and physical addresses, ascending.
    pieces: [(u64, u64); PIECES],
    used: usize,
}

/// How entries are written, since 4.7.
#[derive(Clone, Copy, Debug)]
struct Entries {
    /// Where the page's address is in an entry.
    page_mask: u64,
}

impl Format for Entries {
    /// The highest byte is first on all machines, whatever their order.
    fn number(&self, bytes: &[u8]) -> u64 {
        bytes
            .first_chunk()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    fn decode(&self, entry: u64, level: usize, _address: VirtAddr) -> Entry {
        match level {
            0 if entry & PRESENT != 0 => Entry::Leaf(entry & self.page_mask),
            0 => Entry::Absent,
            _ if entry == 0 => Entry::Absent,
            _ if entry & PAGE_ENTRY != 0 => Entry::Leaf(entry & self.page_mask),
            _ => Entry::Table(entry & !TABLE_FLAGS),
        }
    }
}

impl Paging {
    /// Finds the kernel's page tables and where its list is.
    pub(crate) fn detect(info: &Vmcoreinfo<'_>, abi: Abi, page_shift: u32) -> Option<Self> {
        let offset = |name| {
            info.offset(name)
                .and_then(|offset| u64::try_from(offset).ok())
        };
        let root = info.symbol("swapper_pg_dir")?;
        let features = info
            .symbol("cur_cpu_spec")
            .zip(offset("cpu_spec.mmu_features"));
        let list = || {
            Some((
                info.symbol("vmemmap_list")?,
                info.symbol("mmu_vmemmap_psize")?,
                info.symbol("mmu_psize_defs")?,
                u64::try_from(info.size("mmu_psize_def")?).ok()?,
                offset("mmu_psize_def.shift")?,
            ))
        };
        let piece = || {
            Some((
                offset("vmemmap_backing.list")?,
                offset("vmemmap_backing.phys")?,
                offset("vmemmap_backing.virt_addr")?,
            ))
        };
        let piece = piece();
        Some(Self {
            abi,
            page_shift,
            version: version(info.value("OSRELEASE").unwrap_or("")),
            root: PhysAddr(root.0.checked_sub(PAGE_OFFSET)?),
            sources: Sources {
                radix: info.number("RADIX_MMU").map(|number| number == 1),
                features,
                list: list().filter(|_| piece.is_some()),
                piece: piece.unwrap_or_default(),
            },
            tables: None,
            linear_bytes: 1 << 51,
            list: None,
        })
    }

    fn sum(&self, address: VirtAddr) -> Option<PhysAddr> {
        let inside = address.0.checked_sub(PAGE_OFFSET)?;
        (inside < self.linear_bytes).then_some(PhysAddr(inside))
    }

    fn read_number(&self, address: VirtAddr, bytes: usize, read: ReadEntries<'_>) -> Option<u64> {
        let mut number = [0; 8];
        let number = number.get_mut(..bytes)?;
        read(self.sum(address)?, number).ok()?;
        match bytes {
            4 => self.abi.u32_at(number, 0).map(u64::from),
            _ => self.abi.u64_at(number, 0),
        }
    }

    fn is_radix(&self, read: ReadEntries<'_>) -> bool {
        if let Some(is_radix) = self.sources.radix {
            return is_radix;
        }
        let mut features = || {
            let (pointer, offset) = self.sources.features?;
            let spec = VirtAddr(self.read_number(pointer, 8, read)?);
            self.read_number(spec.checked_add(offset)?, 4, read)
        };
        features().is_some_and(|features| features & u64::from(RADIX_FEATURE) != 0)
    }

    fn find_list(&self, read: ReadEntries<'_>) -> Option<List> {
        let (head, size_index, sizes, size_bytes, shift) = self.sources.list?;
        let head = self.read_number(head, 8, read).filter(|&head| head != 0)?;
        let index = self.read_number(size_index, 4, read)?;
        let place = sizes
            .checked_add(index.checked_mul(size_bytes)?)?
            .checked_add(shift)?;
        let shift = self.read_number(place, 4, read)?;
        let shift = u32::try_from(shift)
            .ok()
            .filter(|shift| (12..=34).contains(shift))?;
        Some(List {
            head,
            offsets: self.sources.piece,
            piece_bytes: 1_u64.wrapping_shl(shift),
            from: 0,
            to: 0,
            pieces: [(0, 0); PIECES],
            used: 0,
        })
    }

    /// Goes through the list and remembers the pieces that begin at `from` or behind, the lowest of them.
    fn fill(&self, list: &mut List, from: u64, read: ReadEntries<'_>) {
        let (next, physical, virtual_address) = list.offsets;
        list.from = from;
        list.to = u64::MAX;
        list.used = 0;
        let mut current = list.head;
        for _ in 0..MAX_PIECES {
            let mut field = |offset| {
                let place = VirtAddr(current).checked_add(offset)?;
                self.read_number(place, 8, read)
            };
            let (Some(next), Some(physical), Some(address)) =
                (field(next), field(physical), field(virtual_address))
            else {
                break;
            };
            if address >= from {
                list.insert(address, physical);
            }
            if next == 0 || next == list.head {
                break;
            }
            current = next;
        }
    }
}

impl List {
    /// Puts a piece in its place; the highest one makes room.
    fn insert(&mut self, address: u64, physical: u64) {
        let used = self.pieces.get(..self.used).unwrap_or_default();
        let place = used.partition_point(|&(known, _)| known <= address);
        if let Some(&(highest, _)) = self.pieces.last().filter(|_| self.used == PIECES) {
            if place == PIECES {
                self.to = self.to.min(address);
                return;
            }
            self.to = self.to.min(highest);
        } else {
            self.used = self.used.saturating_add(1);
        }
        let behind = self.pieces.get_mut(place..self.used).unwrap_or_default();
        behind.rotate_right(1);
        if let Some(first) = behind.first_mut() {
            *first = (address, physical);
        }
    }

    fn leaf(&self, address: VirtAddr) -> Option<Leaf> {
        let used = self.pieces.get(..self.used).unwrap_or_default();
        let index = used
            .partition_point(|&(known, _)| known <= address.0)
            .checked_sub(1)?;
        let &(start, physical) = used.get(index)?;
        let leaf = Leaf {
            virtual_address: VirtAddr(start),
            physical_address: PhysAddr(physical),
            bytes: self.piece_bytes,
        };
        leaf.locate(address).map(|_| leaf)
    }
}

/// Index sizes, the last tables' first.
const fn index_bits(is_radix: bool, page_shift: u32, version: (u32, u32)) -> [u8; MAX_LEVELS] {
    match (is_radix, page_shift, version) {
        (true, 16, _) => [5, 9, 9, 13, 0],
        (true, _, _) => [9, 9, 9, 13, 0],
        (false, 16, (..=3, _) | (4, ..=11)) => [8, 5, 5, 12, 0],
        (false, 16, (4, ..=16)) => [8, 10, 7, 8, 0],
        (false, 16, _) => [8, 10, 10, 8, 0],
        (false, _, _) => [9, 7, 9, 9, 0],
    }
}

/// The first two numbers of a release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

impl Translation for Paging {
    /// Which MMU it is, how large a piece of the vmemmap is, and where the list of them begins.
    fn complete(&mut self, read: ReadEntries<'_>) {
        let is_radix = self.is_radix(read);
        self.list = self.find_list(read);
        if !is_radix && self.page_shift == 12 {
            // The first address behind it: 0xc0003d0000000000.
            self.linear_bytes = 0x3d00_0000_0000;
        }
        if self.version < (4, 7) {
            // Entries were written otherwise; nothing but vmalloc needs them there.
            return;
        }
        let below = 1_u64.wrapping_shl(self.page_shift).wrapping_sub(1);
        let page_bits = if self.version < (4, 11) { 57 } else { 53 };
        let page_mask = 1_u64.wrapping_shl(page_bits).wrapping_sub(1) & !below;
        let index_bits = index_bits(is_radix, self.page_shift, self.version);
        self.tables = Some(Tables::new(
            Entries { page_mask },
            self.root,
            self.page_shift,
            index_bits,
        ));
    }

    /// Source: Linux 6.1 `arch/powerpc/include/asm/sparsemem.h`, `book3s/64/mmu.h`.
    fn sparse_defaults(&self) -> Defaults {
        Defaults {
            section_size_bits: 24,
            max_physmem_bits: match self.version {
                (..=3, _) | (4, ..=18) => 46,
                (4, 19) => 47,
                _ => 51,
            },
            first_pfn: 0,
        }
    }

    fn phys_base(&self) -> i64 {
        0
    }

    fn walk(&mut self, address: VirtAddr, read: ReadEntries<'_>) -> Result<Leaf, TranslateError> {
        if self.sum(address).is_some() {
            return Ok(Leaf {
                virtual_address: VirtAddr(PAGE_OFFSET),
                physical_address: PhysAddr(0),
                bytes: self.linear_bytes,
            });
        }
        if let Some(mut list) = self.list {
            let start = address.0 & !list.piece_bytes.wrapping_sub(1);
            if !(list.from..list.to).contains(&start) {
                self.fill(&mut list, start, read);
                self.list = Some(list);
            }
            if let Some(leaf) = list.leaf(address) {
                return Ok(leaf);
            }
        }
        let tables = self
            .tables
            .as_mut()
            .ok_or(TranslateError::NotMapped(address))?;
        tables.walk(address, read)
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::vmcore::ReadError;
    use std::collections::BTreeMap;

    const PIECE: u64 = 1 << 24;
    const START: u64 = 0xf000_0000_0000_0000;

    /// A kernel with a list of so many pieces, in no order. Returns what it has in memory, in words.
    fn list(count: u64) -> (Paging, BTreeMap<u64, u64>) {
        let text = "OSRELEASE=3.10.0\nSYMBOL(swapper_pg_dir)=c000000001000000\nNUMBER(RADIX_MMU)=0\n\
            SYMBOL(vmemmap_list)=c000000002000000\nSYMBOL(mmu_vmemmap_psize)=c000000002000008\n\
            SYMBOL(mmu_psize_defs)=c000000002000100\nSIZE(mmu_psize_def)=8\nOFFSET(mmu_psize_def.shift)=0\n\
            OFFSET(vmemmap_backing.list)=0\nOFFSET(vmemmap_backing.phys)=8\nOFFSET(vmemmap_backing.virt_addr)=16\n";
        let mut words = BTreeMap::from([(0x200_0008, 1), (0x200_0108, 24)]);
        let mut next = 0;
        for index in 0..count {
            // All numbers below the count, as it is odd and prime.
            let number = index * 7 % count;
            let node = 0x300_0000 + index * 24;
            words.insert(node, next);
            words.insert(node + 8, 0x10_0000_0000 + (count - number) * PIECE);
            words.insert(node + 16, START + number * PIECE);
            next = PAGE_OFFSET + node;
        }
        words.insert(0x200_0000, next);
        let info = Vmcoreinfo::new(text.as_bytes());
        let mut paging = Paging::detect(&info, Abi::LITTLE_64, 16).unwrap();
        paging.complete(&mut |place, buf| read(&words, place, buf));
        (paging, words)
    }

    fn read(words: &BTreeMap<u64, u64>, place: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let word = words.get(&place.0).copied().unwrap_or(0).to_le_bytes();
        buf.copy_from_slice(&word[..buf.len()]);
        Ok(())
    }

    #[test]
    fn pieces_are_found_in_a_list_of_any_length() {
        for count in [1, 31, 37, 211] {
            let (mut paging, words) = list(count);
            let mut reads = 0;
            // Upwards, as the mem_map is gone through.
            for number in 0..count {
                let address = VirtAddr(START + number * PIECE + 0x12_3456);
                let leaf = paging.walk(address, &mut |place, buf| {
                    reads += 1;
                    read(&words, place, buf)
                });
                let (physical, left) = leaf.unwrap().locate(address).unwrap();
                let expected = 0x10_0000_0000 + (count - number) * PIECE + 0x12_3456;
                assert_eq!(
                    (physical.0, left),
                    (expected, PIECE - 0x12_3456),
                    "{number}"
                );
            }
            // Three words of each piece, once for as many as are remembered.
            let passes = count.div_ceil(32);
            assert!(reads <= passes * count * 3, "{reads} reads for {count}");
            let beyond = VirtAddr(START + count * PIECE);
            let error = paging.walk(beyond, &mut |place, buf| read(&words, place, buf));
            assert_eq!(error, Err(TranslateError::NotMapped(beyond)));
            // Here and there.
            for number in (0..count).map(|index| index * 11 % count) {
                let address = VirtAddr(START + number * PIECE);
                let leaf = paging.walk(address, &mut |place, buf| read(&words, place, buf));
                assert!(leaf.unwrap().locate(address).is_some(), "{number}");
            }
        }
    }

    #[test]
    fn a_list_that_leads_back_to_itself_ends() {
        let (mut paging, mut words) = list(5);
        words.insert(0x300_0000, PAGE_OFFSET + 0x300_0000 + 4 * 24);
        let beyond = VirtAddr(START + 100 * PIECE);
        let error = paging.walk(beyond, &mut |place, buf| read(&words, place, buf));
        assert_eq!(error, Err(TranslateError::NotMapped(beyond)));
    }

    #[test]
    fn what_is_linear_needs_no_table() {
        let (mut paging, words) = list(1);
        let address = VirtAddr(PAGE_OFFSET + 0x12_3456_789a);
        let leaf = paging.walk(address, &mut |place, buf| read(&words, place, buf));
        let (physical, _) = leaf.unwrap().locate(address).unwrap();
        assert_eq!(physical, PhysAddr(0x12_3456_789a));
        assert_eq!(version("4.18.0-553.el8.ppc64le"), (4, 18));
        assert_eq!(version("6.1"), (6, 1));
        assert_eq!(version("x"), (0, 0));
        assert_eq!(index_bits(false, 16, (4, 12)), [8, 10, 7, 8, 0]);
        assert_eq!(index_bits(false, 16, (5, 4)), [8, 10, 10, 8, 0]);
    }
}
