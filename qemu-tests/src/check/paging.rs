// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crashed kernel's virtual memory, by a walk of its page tables.
//!
//! Source: Intel SDM volume 3A, chapter 4; Linux 6.12 `Documentation/arch/x86/x86_64/mm.rst`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anyhow::{Context, Result};

use super::memory::{Memory, PAGE_SIZE, Page, ZERO_PAGE};
use super::vmcoreinfo::VmcoreInfo;

/// Where the kernel's own text and data are mapped.
const KERNEL_TEXT: u64 = 0xffff_ffff_8000_0000;
const PRESENT: u64 = 1 << 0;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const ENTRIES: u64 = 512;

/// What the kernel sees: its page tables over some physical memory.
pub struct KernelSpace<'a> {
    memory: &'a dyn Memory,
    /// Physical address of the top table.
    root: u64,
    levels: u32,
    /// Tables that were met, by their physical address: they are asked for again and again.
    tables: RefCell<HashMap<u64, Box<Page>>>,
}

impl<'a> KernelSpace<'a> {
    /// Finds the tables.
    ///
    /// # Errors
    /// VMCOREINFO does not say where they are.
    pub fn new(memory: &'a dyn Memory, info: &VmcoreInfo) -> Result<Self> {
        let top = info.symbol("swapper_pg_dir")?;
        let shift = info
            .number("phys_base")
            .context("no NUMBER(phys_base) in VMCOREINFO")?;
        let root = top
            .checked_sub(KERNEL_TEXT)
            .with_context(|| format!("swapper_pg_dir {top:#x} is not in the kernel's data"))?
            .wrapping_add_signed(shift);
        let five = info.number("pgtable_l5_enabled").unwrap_or(0) != 0;
        Ok(Self {
            memory,
            root,
            levels: if five { 5 } else { 4 },
            tables: RefCell::default(),
        })
    }

    fn entry(&self, table: u64, index: u64) -> Result<u64> {
        let mut tables = self.tables.borrow_mut();
        let page = match tables.entry(table) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let mut page = Box::new(ZERO_PAGE);
                self.memory
                    .read_physical(table, page.as_mut_slice())
                    .context("a page table")?;
                place.insert(page)
            }
        };
        let at = index as usize * 8;
        let bytes = &page[at..at + 8];
        Ok(u64::from_le_bytes(bytes.try_into()?))
    }

    /// The physical address of `address`; `None` where nothing is mapped.
    ///
    /// # Errors
    /// A page table cannot be read.
    pub fn translate(&self, address: u64) -> Result<Option<u64>> {
        let mut table = self.root;
        for level in (1..=self.levels).rev() {
            let shift = 12 + 9 * (level - 1);
            let entry = self.entry(table, address >> shift & (ENTRIES - 1))?;
            if entry & PRESENT == 0 {
                return Ok(None);
            }
            if level == 1 || (level <= 3 && entry & LARGE != 0) {
                let inside = (1 << shift) - 1;
                return Ok(Some(entry & ADDRESS & !inside | address & inside));
            }
            table = entry & ADDRESS;
        }
        Ok(None)
    }

    /// Fills `buffer` from the virtual address `address` on; false when a part of it is not mapped.
    ///
    /// # Errors
    /// A page is mapped and cannot be read.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        let mut done = 0;
        while done < buffer.len() {
            let here = address + done as u64;
            let in_page = PAGE_SIZE - (here % PAGE_SIZE as u64) as usize;
            let count = in_page.min(buffer.len() - done);
            let Some(physical) = self.translate(here)? else {
                return Ok(false);
            };
            self.memory
                .read_physical(physical, &mut buffer[done..done + count])
                .with_context(|| format!("virtual address {here:#x}"))?;
            done += count;
        }
        Ok(true)
    }

    /// The virtual address at which the kernel has physical address 0: where its direct map begins.
    ///
    /// The direct map is the lowest thing that is mapped in the kernel's half, whatever KASLR did.
    ///
    /// # Errors
    /// Nothing is mapped, or a page table cannot be read.
    pub fn page_offset(&self) -> Result<u64> {
        let mut table = self.root;
        let mut address = 0;
        // The kernel's half is the upper one of the top table.
        let mut from = ENTRIES / 2;
        for level in (1..=self.levels).rev() {
            let shift = 12 + 9 * (level - 1);
            let mut entries = from..ENTRIES;
            let (index, entry) = loop {
                let index = entries.next().context("nothing is mapped")?;
                let entry = self.entry(table, index)?;
                if entry & PRESENT != 0 {
                    break (index, entry);
                }
            };
            address |= index << shift;
            if level == 1 || (level <= 3 && entry & LARGE != 0) {
                let inside = (1u64 << shift) - 1;
                let unused = 64 - (12 + 9 * self.levels);
                let extended = (address << unused).cast_signed() >> unused;
                return Ok(extended.cast_unsigned() - (entry & ADDRESS & !inside));
            }
            table = entry & ADDRESS;
            from = 0;
        }
        anyhow::bail!("the page tables have no end")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables at 0x1000 (top), 0x2000, 0x3000, 0x4000 that map one small page and one large one.
    struct Tables;

    impl Memory for Tables {
        fn read_page(&self, pfn: u64, page: &mut Page) -> Result<bool> {
            *page = ZERO_PAGE;
            let mut entry = |index: usize, value: u64| {
                page[index * 8..index * 8 + 8].copy_from_slice(&value.to_le_bytes());
            };
            match pfn {
                1 => entry(273, 0x2003),
                2 => entry(5, 0x3003),
                3 => {
                    entry(0, 0x4003);
                    entry(1, 0x8000_0000_0020_0083);
                }
                4 => entry(1, 0x8000_0000_0000_1003),
                _ => return Ok(false),
            }
            Ok(true)
        }
    }

    fn space() -> KernelSpace<'static> {
        let info =
            VmcoreInfo::parse(b"SYMBOL(swapper_pg_dir)=ffffffff80000000\nNUMBER(phys_base)=4096\n");
        KernelSpace::new(&Tables, &info).unwrap()
    }

    const BASE: u64 = 0xffff_8000_0000_0000 + (17 << 39) + (5 << 30);

    #[test]
    fn small_and_large_pages_are_found() {
        let space = space();
        assert_eq!(space.translate(BASE + 0x1123).unwrap(), Some(0x1123));
        assert_eq!(space.translate(BASE + 0x20_0456).unwrap(), Some(0x20_0456));
        assert_eq!(space.translate(BASE + 0x2000).unwrap(), None);
        assert_eq!(space.translate(0).unwrap(), None);
    }

    #[test]
    fn the_direct_map_begins_at_the_lowest_mapping() {
        assert_eq!(space().page_offset().unwrap(), BASE);
    }
}
