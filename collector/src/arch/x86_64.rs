// SPDX-License-Identifier: MIT OR Apache-2.0
//! x86_64: virtual to physical by 4- or 5-level page tables, wherever KASLR put the kernel.
//!
//! Source: Intel SDM volume 3, chapter 4 "Paging"; Linux 6.12 `Documentation/arch/x86/x86_64/mm.rst`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use super::tables::{Entry, Format, Tables};
use super::{ImageSegment, Leaf, ReadEntries, TranslateError, Translation};
use crate::address::{PhysAddr, VirtAddr};
use crate::bytes::Abi;
use crate::mem_map::Defaults;
use crate::vmcoreinfo::Vmcoreinfo;

/// Where the kernel's image is mapped: `__START_KERNEL_map`.
pub(crate) const IMAGE_MAP: u64 = 0xffff_ffff_8000_0000;

/// Bits 12 to 51 of an entry: the address that it points to.
const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;
/// The entry is in use.
const PRESENT: u64 = 1 << 0;
/// The entry maps a large page and does not point to a further table.
const LARGE: u64 = 1 << 7;

/// What the walk needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging {
    tables: Tables<Entries>,
    phys_base: i64,
    five_levels: bool,
}

/// How entries are written.
#[derive(Clone, Copy, Debug)]
struct Entries {
    /// Memory encryption's bit, which is no part of an address.
    sme_mask: u64,
}

impl Format for Entries {
    fn number(&self, bytes: &[u8]) -> u64 {
        Abi::LITTLE_64.u64_at(bytes, 0).unwrap_or(0)
    }

    fn decode(&self, entry: u64, level: usize, _address: VirtAddr) -> Entry {
        let target = entry & ADDRESS_MASK & !self.sme_mask;
        match level {
            _ if entry & PRESENT == 0 => Entry::Absent,
            0 => Entry::Leaf(target),
            // Only the tables of 2 MiB and 1 GiB may hold large pages; at other levels the bit is reserved.
            1 | 2 if entry & LARGE != 0 => Entry::Leaf(target),
            _ => Entry::Table(target),
        }
    }
}

impl Paging {
    /// Finds the kernel's page tables. The symbol's value has KASLR's shift in it, so that only the physical load
    /// shift `phys_base` is needed; kernels before 4.10 do not export it, and the image's segment shows it.
    pub(crate) fn detect(info: &Vmcoreinfo<'_>, image: Option<ImageSegment>) -> Option<Self> {
        let root = ["swapper_pg_dir", "init_top_pgt", "init_level4_pgt"]
            .into_iter()
            .find_map(|name| info.symbol(name))?;
        let phys_base = info.number("phys_base").or_else(|| {
            let image = image?;
            let linked = image.virtual_address.0.checked_sub(IMAGE_MAP)?;
            Some(image.physical_address.0.wrapping_sub(linked).cast_signed())
        })?;
        let five_levels = info
            .number("pgtable_l5_enabled")
            .is_some_and(|enabled| enabled != 0);
        let sme_mask = info.number("sme_mask").unwrap_or(0).cast_unsigned();
        let root = root
            .0
            .checked_sub(IMAGE_MAP)?
            .checked_add_signed(phys_base)?;
        let index_bits = [9, 9, 9, 9, if five_levels { 9 } else { 0 }];
        let root = PhysAddr(root & ADDRESS_MASK & !sme_mask);
        Some(Self {
            tables: Tables::new(Entries { sme_mask }, root, 12, index_bits),
            phys_base,
            five_levels,
        })
    }
}

impl Translation for Paging {
    /// Source: Linux 6.12 `arch/x86/include/asm/sparsemem.h`.
    fn sparse_defaults(&self) -> Defaults {
        Defaults {
            section_size_bits: 27,
            max_physmem_bits: if self.five_levels { 52 } else { 46 },
            first_pfn: 0,
        }
    }

    fn phys_base(&self) -> i64 {
        self.phys_base
    }

    fn walk(&mut self, address: VirtAddr, read: ReadEntries<'_>) -> Result<Leaf, TranslateError> {
        self.tables.walk(address, read)
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::vmcore::ReadError;
    use std::collections::BTreeMap;

    /// Entries by address; what is not listed is zero.
    fn walk(
        info: &str,
        entries: &[(u64, u64)],
        address: u64,
    ) -> Result<(u64, u64), TranslateError> {
        let entries: BTreeMap<u64, u64> = entries.iter().copied().collect();
        let mut paging = Paging::detect(&Vmcoreinfo::new(info.as_bytes()), None).unwrap();
        let mut read = |address: PhysAddr, buf: &mut [u8]| -> Result<(), ReadError> {
            for (place, bytes) in (address.0..).step_by(8).zip(buf.as_chunks_mut::<8>().0) {
                assert_eq!(
                    place >> 12,
                    address.0 >> 12,
                    "reads keep within their table"
                );
                *bytes = entries.get(&place).copied().unwrap_or(0).to_le_bytes();
            }
            Ok(())
        };
        let leaf = paging.walk(VirtAddr(address), &mut read)?;
        let again = paging.walk(VirtAddr(address), &mut read);
        assert_eq!(again, Ok(leaf), "the second time from the remembered table");
        let (physical, _) = leaf.locate(VirtAddr(address)).unwrap();
        Ok((physical.0, leaf.bytes))
    }

    const FOUR: &str = "SYMBOL(swapper_pg_dir)=ffffffff82810000\nNUMBER(phys_base)=-8388608\n";
    /// 0x2810000 less 8 MiB.
    const ROOT: u64 = 0x201_0000;

    #[test]
    fn four_levels_reach_a_small_page() {
        let entries = [
            (ROOT + 8 * 0x1ff, 0x3000 | 1),
            (0x3000 + 8 * 0x1fe, 0x4000 | 1),
            (0x4000 + 8 * 0x14, 0x5000 | 1),
            (0x5000 + 8 * 0x16, (1 << 63) | 0x1234_5000 | 0x163),
        ];
        let found = walk(FOUR, &entries, 0xffff_ffff_8281_6c80);
        assert_eq!(found, Ok((0x1234_5c80, 4096)));
    }

    #[test]
    fn small_pages_in_one_piece_are_one_leaf() {
        let last = 0x5000 + 8 * 0x1ff;
        let mut entries = vec![
            (ROOT + 8 * 0x1ff, 0x3000 | 1),
            (0x3000 + 8 * 0x1fe, 0x4000 | 1),
            (0x4000 + 8 * 0x14, 0x5000 | 1),
            // The table's last two entries, and what would be behind it.
            (last - 8, 0x7000 | 1),
            (last, 0x8000 | 1),
            (last + 8, 0x9000 | 1),
        ];
        entries.extend((0..100).map(|page| (0x5000 + page * 8, (0x10_0000 + (page << 12)) | 1)));
        let base = 0xffff_ffff_8280_0000;
        // As many as are read at once, then one that is not in use, then one that lies elsewhere.
        assert_eq!(walk(FOUR, &entries, base), Ok((0x10_0000, 64 << 12)));
        assert_eq!(
            walk(FOUR, &entries, base + (90 << 12)),
            Ok((0x10_0000 + (90 << 12), 10 << 12))
        );
        entries[6 + 95].1 = 0x20_0000 | 1;
        assert_eq!(
            walk(FOUR, &entries, base + (90 << 12)),
            Ok((0x10_0000 + (90 << 12), 5 << 12))
        );
        assert_eq!(
            walk(FOUR, &entries, base + (0x1fe << 12)),
            Ok((0x7000, 2 << 12))
        );
    }

    #[test]
    fn large_pages_end_the_walk() {
        let two_mib = [
            (ROOT + 8 * 0x1ff, 0x3000 | 1),
            (0x3000 + 8 * 0x1fe, 0x4000 | 1),
            (0x4000 + 8 * 0x14, 0x4020_0000 | 0x1e3),
        ];
        let found = walk(FOUR, &two_mib, 0xffff_ffff_8281_6c80);
        assert_eq!(found, Ok((0x4021_6c80, 2 << 20)));
        let one_gib = [
            (ROOT + 8 * 0x111, 0x3000 | 1),
            (0x3000, 0x1_4000_0000 | 0x1e3),
        ];
        let found = walk(FOUR, &one_gib, 0xffff_8880_0000_0123);
        assert_eq!(found, Ok((0x1_4000_0123, 1 << 30)));
    }

    #[test]
    fn five_levels_start_one_table_higher() {
        let info = format!("{FOUR}NUMBER(pgtable_l5_enabled)=1\n");
        let entries = [
            (ROOT + 8 * 0x1ff, 0x2000 | 1),
            (0x2000 + 8 * 0x1ff, 0x3000 | 1),
            (0x3000 + 8 * 0x1fe, 0x4000 | 1),
            (0x4000 + 8 * 0x14, 0x4020_0000 | 0x1e3),
        ];
        let found = walk(&info, &entries, 0xffff_ffff_8281_6c80);
        assert_eq!(found, Ok((0x4021_6c80, 2 << 20)));
    }

    #[test]
    fn the_encryption_bit_is_no_part_of_an_address() {
        let bit = 1_u64 << 47;
        let info = format!("{FOUR}NUMBER(sme_mask)={bit}\n");
        let entries = [
            (ROOT + 8 * 0x111, bit | 0x3000 | 1),
            (0x3000, bit | 0x1_4000_0000 | 0x1e3),
        ];
        let found = walk(&info, &entries, 0xffff_8880_0000_0123);
        assert_eq!(found, Ok((0x1_4000_0123, 1 << 30)));
    }

    #[test]
    fn a_missing_entry_is_named() {
        let address = 0xffff_8880_0000_0123;
        let error = walk(FOUR, &[], address).unwrap_err();
        assert_eq!(error, TranslateError::NotMapped(VirtAddr(address)));
    }

    #[test]
    fn phys_base_follows_from_the_image_segment_on_old_kernels() {
        let info = Vmcoreinfo::new(b"SYMBOL(init_level4_pgt)=ffffffff82810000\n");
        assert!(Paging::detect(&info, None).is_none());
        let image = ImageSegment {
            virtual_address: VirtAddr(0xffff_ffff_8100_0000),
            physical_address: PhysAddr(0x80_0000),
            bytes: 0x200_0000,
        };
        let paging = Paging::detect(&info, Some(image)).unwrap();
        assert_eq!(paging.phys_base(), -0x80_0000);
        assert_eq!(paging.tables.root(), PhysAddr(ROOT));
    }
}
