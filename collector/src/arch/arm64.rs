// SPDX-License-Identifier: MIT OR Apache-2.0
//! arm64: virtual to physical with pages of 4, 16 and 64 KiB and kernel addresses of 36 to 52 bits.
//!
//! Source: Arm ARM DDI 0487J.a, chapter D8 "The AArch64 Virtual Memory System Architecture"; Linux 6.1 and 6.12
//! `arch/arm64/include/asm/memory.h`, `pgtable-hwdef.h`, `arch/arm64/mm/init.c`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use super::tables::{Entry, Format, MAX_LEVELS, Tables};
use super::{Leaf, ReadEntries, TranslateError, Translation};
use crate::address::{PhysAddr, VirtAddr};
use crate::bytes::{Abi, ByteOrder};
use crate::mem_map::Defaults;
use crate::vmcoreinfo::Vmcoreinfo;

/// What the walk needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging {
    tables: Tables<Entries>,
    page_shift: u32,
    linear: Linear,
    max_physmem_bits: u32,
}

/// The mapping of all memory in one piece.
#[derive(Clone, Copy, Debug)]
struct Linear {
    start: u64,
    bytes: u64,
    /// The physical address that its first one would have. Below 0 on a kernel built for 52 bits that runs with 48.
    physical: u64,
}

/// How entries are written.
#[derive(Clone, Copy, Debug)]
struct Entries {
    abi: Abi,
    /// Where bits 48 and up of an address are.
    high: HighBits,
    page_shift: u32,
}

#[derive(Clone, Copy, Debug)]
enum HighBits {
    /// There are none.
    Absent,
    /// Bits 48 to 51 in bits 12 to 15: pages of 64 KiB.
    From12,
    /// Bits 50 and 51 in bits 8 and 9, those below in their place: LPA2.
    From8,
}

impl Format for Entries {
    fn number(&self, bytes: &[u8]) -> u64 {
        self.abi.u64_at(bytes, 0).unwrap_or(0)
    }

    fn decode(&self, entry: u64, level: usize, _address: VirtAddr) -> Entry {
        let page_mask = u64::MAX.wrapping_shl(self.page_shift);
        let low = entry & page_mask & 0x0000_ffff_ffff_ffff;
        let target = match self.high {
            HighBits::Absent => low,
            HighBits::From12 => low | ((entry & 0xf000) << 36),
            HighBits::From8 => low | (entry & (0x3 << 48)) | ((entry & 0x300) << 42),
        };
        match (entry & 3, level) {
            (3, 0) | (1, 1..) => Entry::Leaf(target),
            (3, _) => Entry::Table(target),
            _ => Entry::Absent,
        }
    }
}

impl Paging {
    /// Finds the kernel's page tables. Kernels before 4.12 do not say where they are.
    pub(crate) fn detect(info: &Vmcoreinfo<'_>, order: ByteOrder, page_shift: u32) -> Option<Self> {
        let image_offset = info.number("kimage_voffset")?.cast_unsigned();
        let root = info.symbol("swapper_pg_dir")?.0.wrapping_sub(image_offset);
        let bits = |name| {
            info.number(name)
                .and_then(|bits| u32::try_from(bits).ok())
                .filter(|bits| (36..=52).contains(bits))
        };
        let built_bits = bits("VA_BITS")?;
        // Since 5.9 the register tells what the processor could do. Before, only 5.4 to 5.8 could have chosen.
        let t1sz = info.number("TCR_EL1_T1SZ");
        let bits = t1sz
            .and_then(|size| u32::try_from(size).ok())
            .and_then(|size| 64_u32.checked_sub(size))
            .filter(|bits| (36..=52).contains(bits))
            .unwrap_or_else(|| guess_bits(info, built_bits));
        // With pages of 64 KiB the tables are those of 52 bits, also where only 48 of them are used.
        let table_bits = if page_shift == 16 { built_bits } else { bits };
        let high = match page_shift {
            16 => HighBits::From12,
            _ if bits == 52 => HighBits::From8,
            _ => HighBits::Absent,
        };
        let entries = Entries {
            abi: Abi {
                order,
                ..Abi::LITTLE_64
            },
            high,
            page_shift,
        };
        let index_bits = index_bits(table_bits, page_shift)?;
        Some(Self {
            tables: Tables::new(entries, PhysAddr(root), page_shift, index_bits),
            page_shift,
            linear: linear(info, built_bits, bits),
            max_physmem_bits: if built_bits == 52 { 52 } else { 48 },
        })
    }
}

/// How many bits are in use where the kernel does not tell. The table of sections is in the linear mapping, which lies
/// in the lower half of either.
fn guess_bits(info: &Vmcoreinfo<'_>, built_bits: u32) -> u32 {
    match info.symbol("mem_section") {
        Some(table) if built_bits == 52 && table.0 & (1 << 51) != 0 => 48,
        _ => built_bits,
    }
}

/// A table fills a page; the root has what is left.
fn index_bits(table_bits: u32, page_shift: u32) -> Option<[u8; MAX_LEVELS]> {
    let whole = page_shift.checked_sub(3)?;
    let mut left = table_bits.checked_sub(page_shift)?;
    let mut index_bits = [0; MAX_LEVELS];
    for bits in &mut index_bits {
        let here = left.min(whole);
        *bits = u8::try_from(here).ok()?;
        left = left.saturating_sub(here);
    }
    (left == 0).then_some(index_bits)
}

/// The linear mapping was the upper half of the kernel's addresses before 5.4 and is the lower one since.
fn linear(info: &Vmcoreinfo<'_>, built_bits: u32, bits: u32) -> Linear {
    let size = |bits: u32| 1_u64.wrapping_shl(bits);
    let half = size(bits.saturating_sub(1));
    let half_of_built = 0_u64.wrapping_sub(size(built_bits.min(48).saturating_sub(1)));
    let is_lower = info
        .symbol("_stext")
        .is_none_or(|image| image.0 > half_of_built);
    let start = 0_u64.wrapping_sub(if is_lower { size(bits) } else { half });
    let offset = info.number("PHYS_OFFSET").unwrap_or(0).cast_unsigned();
    // Where fewer bits are in use than there could be, the number is that of the lowest address of all.
    let physical = if offset > size(52) {
        let unused = start.wrapping_add(size(built_bits));
        offset.wrapping_add(unused)
    } else {
        offset
    };
    Linear {
        start,
        bytes: half,
        physical,
    }
}

impl Translation for Paging {
    /// Source: Linux 6.1 `arch/arm64/include/asm/sparsemem.h`; up to 5.11 a section had 1 GiB, and the number is told
    /// since 5.13.
    fn sparse_defaults(&self) -> Defaults {
        Defaults {
            section_size_bits: 30,
            max_physmem_bits: self.max_physmem_bits,
            first_pfn: self.linear.physical.wrapping_shr(self.page_shift),
        }
    }

    fn phys_base(&self) -> i64 {
        self.linear.physical.cast_signed()
    }

    /// By the tables; where these leave out what the kernel wants to protect, by its own sums.
    fn walk(&mut self, address: VirtAddr, read: ReadEntries<'_>) -> Result<Leaf, TranslateError> {
        if !self.tables.is_in_upper_half(address) {
            return Err(TranslateError::NotMapped(address));
        }
        let error = match self.tables.walk(address, read) {
            Ok(leaf) => return Ok(leaf),
            Err(error) => error,
        };
        let inside = address.0.wrapping_sub(self.linear.start);
        if inside >= self.linear.bytes {
            return Err(error);
        }
        let physical = PhysAddr(self.linear.physical.wrapping_add(inside));
        Ok(Leaf::page(address, physical, self.page_shift))
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::vmcore::ReadError;
    use std::collections::BTreeMap;

    fn walk(
        info: &str,
        page_shift: u32,
        entries: &[(u64, u64)],
        address: u64,
    ) -> Result<u64, TranslateError> {
        let entries: BTreeMap<u64, u64> = entries.iter().copied().collect();
        let info = Vmcoreinfo::new(info.as_bytes());
        let mut paging = Paging::detect(&info, ByteOrder::Little, page_shift).unwrap();
        let mut read = |place: PhysAddr, buf: &mut [u8]| -> Result<(), ReadError> {
            for (place, bytes) in (place.0..).step_by(8).zip(buf.as_chunks_mut::<8>().0) {
                *bytes = entries.get(&place).copied().unwrap_or(0).to_le_bytes();
            }
            Ok(())
        };
        let leaf = paging.walk(VirtAddr(address), &mut read)?;
        Ok(leaf.locate(VirtAddr(address)).unwrap().0.0)
    }

    /// The root is at 0x4000_0000.
    fn info(built_bits: u32, bits: u32) -> String {
        let image = 0_u64.wrapping_sub(1 << 30);
        format!(
            "SYMBOL(swapper_pg_dir)={image:x}\nSYMBOL(_stext)={image:x}\nNUMBER(VA_BITS)={built_bits}\n\
             NUMBER(TCR_EL1_T1SZ)={:#x}\nNUMBER(kimage_voffset)={:#x}\nNUMBER(PHYS_OFFSET)=0x80000000\n",
            64 - bits,
            image - 0x4000_0000
        )
    }

    #[test]
    fn lpa2_has_the_highest_address_bits_below_the_page() {
        // Bits 50 and 51 in bits 8 and 9; 48 and 49 in their place.
        let high = 0x000f_0000_0000_0000_u64;
        let entry = |address: u64, kind: u64| {
            (address & 0x0003_ffff_ffff_f000) | ((address >> 42) & 0x300) | kind
        };
        let entries = [
            (0x4000_0000 + 8 * 15, entry(high | 0x1000, 3)),
            ((high | 0x1000) + 8 * 511, entry(high | 0x2000, 3)),
            ((high | 0x2000) + 8 * 511, entry(high | 0x3000, 3)),
            ((high | 0x3000) + 8 * 511, entry(high | 0x4000, 3)),
            (
                (high | 0x4000) + 8 * 511,
                entry(high | 0x7654_3000, 0x0060_0000_0000_0403),
            ),
        ];
        let found = walk(&info(52, 52), 12, &entries, u64::MAX - 0xf00);
        assert_eq!(found, Ok(high | 0x7654_30ff));
    }

    #[test]
    fn pages_of_64_kib_have_them_there_too() {
        let high = 0x000a_0000_0000_0000_u64;
        let entry = |address: u64, kind: u64| {
            (address & 0x0000_ffff_ffff_0000) | ((address >> 36) & 0xf000) | kind
        };
        // The tables are those of 52 bits, whatever the processor can do.
        let entries = [
            (0x4000_0000 + 8 * 1023, entry(high | 0x1_0000, 3)),
            (
                (high | 0x1_0000) + 8 * 8191,
                entry(high | 0x6000_0000, 0x701),
            ),
        ];
        for bits in [52, 48] {
            let found = walk(&info(52, bits), 16, &entries, u64::MAX - 0xf00);
            assert_eq!(found, Ok(high | 0x7fff_f0ff), "{bits}");
        }
    }

    #[test]
    fn what_the_tables_leave_out_of_the_linear_mapping_is_summed() {
        let found = walk(&info(48, 48), 12, &[], 0xffff_0000_1234_5678);
        assert_eq!(found, Ok(0x8000_0000 + 0x1234_5678));
        // Built for 52 bits and run with 48, the number is that of an address 15 << 48 lower.
        let lowered = 0x8000_0000_u64.wrapping_sub(15 << 48);
        let text = info(52, 48).replace("0x80000000", &format!("{lowered:#x}"));
        let found = walk(&text, 12, &[], 0xffff_0000_1234_5678);
        assert_eq!(found, Ok(0x8000_0000 + 0x1234_5678));
        // Not linear, and not the kernel's at all.
        for address in [0xffff_9000_0000_0000, 0x0000_9000_0000_0000] {
            let error = walk(&info(48, 48), 12, &[], address);
            assert_eq!(error, Err(TranslateError::NotMapped(VirtAddr(address))));
        }
    }

    #[test]
    fn the_linear_mapping_was_the_upper_half_before_5_4() {
        let text = "SYMBOL(swapper_pg_dir)=ffff000009000000\nSYMBOL(_stext)=ffff000008081000\n\
                    NUMBER(VA_BITS)=48\nNUMBER(kimage_voffset)=0xfffeffffc8000000\nNUMBER(PHYS_OFFSET)=0x40000000\n";
        let found = walk(text, 12, &[], 0xffff_8000_0123_4567);
        assert_eq!(found, Ok(0x4000_0000 + 0x0123_4567));
    }

    #[test]
    fn what_the_processor_could_do_is_guessed_where_it_is_not_told() {
        let guess =
            |table: &str, built_bits| guess_bits(&Vmcoreinfo::new(table.as_bytes()), built_bits);
        assert_eq!(guess("SYMBOL(mem_section)=fff000001ffd0000\n", 52), 52);
        assert_eq!(guess("SYMBOL(mem_section)=ffff00001ffd0000\n", 52), 48);
        assert_eq!(guess("", 48), 48);
    }
}
