// SPDX-License-Identifier: MIT OR Apache-2.0
//! i386: virtual to physical by page tables of two levels, or of three with PAE.
//!
//! Source: Intel SDM volume 3, chapter 4 "Paging"; Linux 6.1 `arch/x86/Kconfig` (`PAGE_OFFSET`),
//! `arch/x86/include/asm/sparsemem.h`.
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

/// Where the kernel may begin in virtual memory: a choice when it is built.
const PAGE_OFFSETS: [u64; 5] = [
    0xc000_0000,
    0xb000_0000,
    0x8000_0000,
    0x7800_0000,
    0x4000_0000,
];
/// The entry is in use.
const PRESENT: u64 = 1 << 0;
/// The entry maps a large page and does not point to a further table.
const LARGE: u64 = 1 << 7;

const LITTLE_32: Abi = Abi {
    order: ByteOrder::Little,
    word: Word::Bits32,
};

/// What the walk needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging {
    tables: Tables<Entries>,
    root: VirtAddr,
    image: Option<VirtAddr>,
    page_offset: u64,
    /// Whether VMCOREINFO says which kind of tables there are.
    is_told: bool,
}

/// How entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entries {
    /// 32 bits.
    Short,
    /// With PAE: 64 bits.
    Long,
}

impl Format for Entries {
    fn entry_bytes(&self) -> usize {
        match self {
            Self::Short => 4,
            Self::Long => 8,
        }
    }

    fn number(&self, bytes: &[u8]) -> u64 {
        let number = match self {
            Self::Short => LITTLE_32.word_at(bytes, 0),
            Self::Long => LITTLE_32.u64_at(bytes, 0),
        };
        number.unwrap_or(0)
    }

    fn decode(&self, entry: u64, level: usize, _address: VirtAddr) -> Entry {
        let target = entry & 0x000f_ffff_ffff_f000;
        match level {
            _ if entry & PRESENT == 0 => Entry::Absent,
            0 => Entry::Leaf(target),
            1 if entry & LARGE != 0 => Entry::Leaf(target),
            _ => Entry::Table(target),
        }
    }
}

impl Entries {
    const fn index_bits(self) -> [u8; 5] {
        match self {
            Self::Short => [10, 10, 0, 0, 0],
            Self::Long => [9, 9, 2, 0, 0],
        }
    }
}

impl Paging {
    /// Finds the kernel's page tables. Where the kernel begins is not told; the most usual place is taken until
    /// [`Translation::complete`] has tried them all.
    pub(crate) fn detect(info: &Vmcoreinfo<'_>) -> Option<Self> {
        let root = info.symbol("swapper_pg_dir")?;
        let entries = match info.value("CONFIG_X86_PAE") {
            Some(_) => Entries::Long,
            None => Entries::Short,
        };
        let page_offset = PAGE_OFFSETS.into_iter().find(|&start| start <= root.0)?;
        Some(Self {
            tables: tables(entries, root, page_offset)?,
            root,
            image: info.symbol("_stext"),
            page_offset,
            is_told: entries == Entries::Long,
        })
    }
}

fn tables(entries: Entries, root: VirtAddr, page_offset: u64) -> Option<Tables<Entries>> {
    let address = PhysAddr(root.0.checked_sub(page_offset)?);
    Some(Tables::new(entries, address, 12, entries.index_bits()))
}

impl Translation for Paging {
    /// The kernel's image is mapped by the same sum as the rest of low memory. With the right beginning, and the right
    /// kind of tables, the tables say so too.
    fn complete(&mut self, read: ReadEntries<'_>) {
        let Some(image) = self.image else {
            return;
        };
        let kinds = match self.is_told {
            true => [Entries::Long].as_slice(),
            false => &[Entries::Short, Entries::Long],
        };
        for &entries in kinds {
            for page_offset in PAGE_OFFSETS {
                let Some(mut tables) = tables(entries, self.root, page_offset) else {
                    continue;
                };
                let leaf = tables.walk(image, read).ok();
                let found = leaf.and_then(|leaf| leaf.locate(image));
                if found.map(|(address, _)| address.0) == image.0.checked_sub(page_offset) {
                    self.tables = tables;
                    self.page_offset = page_offset;
                    return;
                }
            }
        }
    }

    fn sparse_defaults(&self) -> Defaults {
        let is_pae = self.tables.format() == Entries::Long;
        Defaults {
            section_size_bits: if is_pae { 29 } else { 26 },
            max_physmem_bits: if is_pae { 36 } else { 32 },
            first_pfn: 0,
        }
    }

    fn phys_base(&self) -> i64 {
        0
    }

    fn walk(&mut self, address: VirtAddr, read: ReadEntries<'_>) -> Result<Leaf, TranslateError> {
        if address.0 > 0xffff_ffff {
            return Err(TranslateError::NotMapped(address));
        }
        self.tables.walk(address, read)
    }
}
