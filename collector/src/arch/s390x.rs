// SPDX-License-Identifier: MIT OR Apache-2.0
//! s390x: virtual to physical by region, segment and page tables, whose entries say of which kind their table is.
//!
//! Up to 6.9 the kernel runs where it lies: its virtual addresses are the real ones, and only vmalloc and the vmemmap
//! need the tables. Since 6.10 the image and the identity mapping have virtual addresses of their own, and VMCOREINFO
//! says where.
//!
//! Source: z/Architecture Principles of Operation SA22-7832-13, "Dynamic Address Translation"; Linux 6.12
//! `arch/s390/include/asm/pgtable.h`, `arch/s390/kernel/vmcore_info.c`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use super::tables::{Entry, Format, Tables};
use super::{Leaf, ReadEntries, TranslateError, Translation};
use crate::address::{PhysAddr, VirtAddr};
use crate::bytes::{Abi, ByteOrder, Word};
use crate::mem_map::Defaults;
use crate::vmcoreinfo::Vmcoreinfo;

const BIG_64: Abi = Abi {
    order: ByteOrder::Big,
    word: Word::Bits64,
};

/// A region or segment table's entry is not in use.
const INVALID: u64 = 1 << 5;
/// A page table's entry is not in use.
const PAGE_INVALID: u64 = 1 << 10;
/// Must be zero in a page table's entry.
const PAGE_RESERVED: u64 = 1 << 11;
/// A segment, or a region of 2 GiB, that is mapped as a whole.
const LARGE: u64 = 1 << 10;
/// Bits 2 and 3 of a region or segment table's entry: the kind of the table that it is in, 0 for segments.
const KIND_SHIFT: u32 = 2;
/// Where a region table's entry points to.
const TABLE_MASK: u64 = !0xfff;
/// Where a segment table's entry points to: page tables have 2 KiB.
const PAGE_TABLE_MASK: u64 = !0x7ff;

/// What the walk needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging {
    root: PhysAddr,
    tables: Option<Tables<Entries>>,
    moved: Option<Moved>,
}

/// Where the kernel put itself, since 6.10.
#[derive(Clone, Copy, Debug)]
struct Moved {
    identity_base: u64,
    image_start: u64,
    image_physical: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entries;

impl Format for Entries {
    fn number(&self, bytes: &[u8]) -> u64 {
        BIG_64.u64_at(bytes, 0).unwrap_or(0)
    }

    fn decode(&self, entry: u64, level: usize, _address: VirtAddr) -> Entry {
        if level == 0 {
            return match entry & (PAGE_INVALID | PAGE_RESERVED) {
                0 => Entry::Leaf(entry & TABLE_MASK),
                _ => Entry::Absent,
            };
        }
        let kind = usize::try_from((entry >> KIND_SHIFT) & 3).unwrap_or(0);
        match level {
            _ if entry & INVALID != 0 || kind.checked_add(1) != Some(level) => Entry::Absent,
            1 | 2 if entry & LARGE != 0 => Entry::Leaf(entry & TABLE_MASK),
            1 => Entry::Table(entry & PAGE_TABLE_MASK),
            _ => Entry::Table(entry & TABLE_MASK),
        }
    }
}

impl Paging {
    /// Finds the kernel's page tables.
    pub(crate) fn detect(info: &Vmcoreinfo<'_>) -> Option<Self> {
        let hexadecimal = |key| u64::from_str_radix(info.value(key)?, 16).ok();
        let root = info.symbol("swapper_pg_dir")?;
        let moved = hexadecimal("KERNELOFFPHYS").and_then(|image_physical| {
            Some(Moved {
                identity_base: hexadecimal("IDENTITYBASE").unwrap_or(0),
                image_start: hexadecimal("KERNELOFFSET")?,
                image_physical,
            })
        });
        let root = match moved {
            Some(moved) => root
                .0
                .checked_sub(moved.image_start)?
                .checked_add(moved.image_physical)?,
            None => root.0,
        };
        Some(Self {
            root: PhysAddr(root),
            tables: None,
            moved,
        })
    }

    /// The page of an address by the kernel's own sums, which hold for its image and for memory as a whole.
    fn sum(&self, address: VirtAddr) -> Option<Leaf> {
        let physical = match self.moved {
            None => address.0,
            Some(moved) => match address.0.checked_sub(moved.image_start) {
                Some(inside) => moved.image_physical.checked_add(inside)?,
                None => address.0.checked_sub(moved.identity_base)?,
            },
        };
        Some(Leaf::page(address, PhysAddr(physical), 12))
    }
}

impl Translation for Paging {
    /// The first entry of the root, in use or not, says of which kind the root is.
    fn complete(&mut self, read: ReadEntries<'_>) {
        let mut entry = [0; 8];
        if read(self.root, &mut entry).is_err() {
            return;
        }
        let kind = (Entries.number(&entry) >> KIND_SHIFT) & 3;
        let index_bits = match kind {
            0 => [8, 11, 0, 0, 0],
            1 => [8, 11, 11, 0, 0],
            2 => [8, 11, 11, 11, 0],
            _ => [8, 11, 11, 11, 11],
        };
        self.tables = Some(Tables::new(Entries, self.root, 12, index_bits));
    }

    fn sparse_defaults(&self) -> Defaults {
        Defaults {
            section_size_bits: 28,
            max_physmem_bits: 46,
            first_pfn: 0,
        }
    }

    fn phys_base(&self) -> i64 {
        0
    }

    fn walk(&mut self, address: VirtAddr, read: ReadEntries<'_>) -> Result<Leaf, TranslateError> {
        let tables = self.tables.as_mut().ok_or(TranslateError::NoTables)?;
        let bits = tables.address_bits();
        let error = match tables.walk(address, read) {
            _ if bits < 64 && address.0 >> bits != 0 => TranslateError::NotMapped(address),
            Ok(leaf) => return Ok(leaf),
            Err(error) => error,
        };
        self.sum(address).ok_or(error)
    }
}
