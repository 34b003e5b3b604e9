// SPDX-License-Identifier: MIT OR Apache-2.0
//! riscv64: virtual to physical by page tables of three, four or five levels (Sv39, Sv48, Sv57).
//!
//! Source: RISC-V privileged architecture 20211203, chapters 4.3 to 4.6 and 5 (Svnapot); Linux 6.6
//! `Documentation/admin-guide/kdump/vmcoreinfo.rst`, `arch/riscv/kernel/crash_core.c`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use super::tables::{Entry, Format, Tables};
use super::{Leaf, ReadEntries, TranslateError, Translation};
use crate::address::{PhysAddr, VirtAddr};
use crate::bytes::Abi;
use crate::mem_map::Defaults;
use crate::vmcoreinfo::Vmcoreinfo;

/// The entry is in use.
const VALID: u64 = 1 << 0;
/// Readable, writable, executable: an entry with any of these maps memory.
const ACCESS: u64 = 0b1110;
/// The entry is one of several that map a larger piece together.
const NAPOT: u64 = 1 << 63;
/// Bits 10 to 53 of an entry: the page that it points to.
const PAGE_SHIFT_IN_ENTRY: u32 = 10;
const PAGE_MASK: u64 = (1 << 44) - 1;

/// What the walk needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging {
    tables: Tables<Entries>,
    /// Addresses from here on are the kernel's image, less `image_offset`.
    image_start: u64,
    image_offset: u64,
    ram_base: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entries;

impl Format for Entries {
    fn number(&self, bytes: &[u8]) -> u64 {
        Abi::LITTLE_64.u64_at(bytes, 0).unwrap_or(0)
    }

    fn decode(&self, entry: u64, level: usize, address: VirtAddr) -> Entry {
        let page = (entry >> PAGE_SHIFT_IN_ENTRY) & PAGE_MASK;
        match level {
            _ if entry & VALID == 0 => Entry::Absent,
            0 if entry & ACCESS == 0 => Entry::Absent,
            0 if entry & NAPOT != 0 => {
                // The lowest bit that is set stands for the size: below it the address decides.
                let inside = page ^ (page.wrapping_sub(1));
                let page = (page & !inside) | ((address.0 >> 12) & inside);
                Entry::Leaf(page.wrapping_shl(12))
            }
            _ if entry & ACCESS != 0 => Entry::Leaf(page.wrapping_shl(12)),
            _ => Entry::Table(page.wrapping_shl(12)),
        }
    }
}

impl Paging {
    /// Finds the kernel's page tables. Kernels before 6.2 do not say where they are.
    pub(crate) fn detect(info: &Vmcoreinfo<'_>) -> Option<Self> {
        let image_offset = info.number("va_kernel_pa_offset")?.cast_unsigned();
        let root = info.symbol("swapper_pg_dir")?.0.wrapping_sub(image_offset);
        let index_bits = match info.number("VA_BITS")? {
            39 => [9, 9, 9, 0, 0],
            48 => [9, 9, 9, 9, 0],
            57 => [9, 9, 9, 9, 9],
            _ => return None,
        };
        Some(Self {
            tables: Tables::new(Entries, PhysAddr(root), 12, index_bits),
            image_start: info.number("KERNEL_LINK_ADDR")?.cast_unsigned(),
            image_offset,
            ram_base: info.number("phys_ram_base").unwrap_or(0).cast_unsigned(),
        })
    }
}

impl Translation for Paging {
    /// Source: Linux 6.6 `arch/riscv/include/asm/sparsemem.h`; `ARCH_PFN_OFFSET` in `asm/page.h`.
    fn sparse_defaults(&self) -> Defaults {
        Defaults {
            section_size_bits: 27,
            max_physmem_bits: 56,
            first_pfn: self.ram_base >> 12,
        }
    }

    fn phys_base(&self) -> i64 {
        self.ram_base.cast_signed()
    }

    fn walk(&mut self, address: VirtAddr, read: ReadEntries<'_>) -> Result<Leaf, TranslateError> {
        if !self.tables.is_in_upper_half(address) {
            return Err(TranslateError::NotMapped(address));
        }
        match self.tables.walk(address, read) {
            // Modules lie below the image, and nothing else above its start.
            Err(_) if address.0 >= self.image_start => {
                let physical = PhysAddr(address.0.wrapping_sub(self.image_offset));
                Ok(Leaf::page(address, physical, 12))
            }
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_map_a_piece_together_are_told_apart_by_the_address() {
        // 64 KiB: the lowest four bits of the page number are 1000.
        let entry = NAPOT | (0x12348 << 10) | 0xe7;
        for (address, page) in [
            (0x7_0000, 0x12340),
            (0x7_5000, 0x12345),
            (0x7_f000, 0x1234f),
        ] {
            let found = Entries.decode(entry, 0, VirtAddr(address));
            assert_eq!(found, Entry::Leaf(page << 12));
        }
        let plain = (0x12345 << 10) | 0xe7;
        assert_eq!(
            Entries.decode(plain, 0, VirtAddr(0)),
            Entry::Leaf(0x12345 << 12)
        );
        assert_eq!(
            Entries.decode(plain & !0xe, 1, VirtAddr(0)),
            Entry::Table(0x12345 << 12)
        );
        assert_eq!(Entries.decode(plain & !0xe, 0, VirtAddr(0)), Entry::Absent);
        assert_eq!(Entries.decode(plain & !1, 1, VirtAddr(0)), Entry::Absent);
    }
}
