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
