// SPDX-License-Identifier: MIT OR Apache-2.0
//! The array of `struct page`s, and how the kernel finds it.

use std::collections::{BTreeMap, BTreeSet};

use super::kinds::StructPage;
use super::{Machine, MapKind, Mmu, SECTION_PAGES, Target};

/// Address bits of the memory that there could be.
const PHYSMEM_BITS: u32 = 36;

impl Machine {
    fn sections(&self) -> BTreeSet<u64> {
        let mut sections: BTreeSet<u64> = self
            .present()
            .iter()
            .chain(self.structs.keys())
            .map(|pfn| pfn / SECTION_PAGES)
            .collect();
        sections.retain(|section| !self.unmanaged.contains(section));
        sections
    }

    fn struct_array(&self, section: u64) -> Vec<u8> {
        let pfns = section * SECTION_PAGES..(section + 1) * SECTION_PAGES;
        let blank = StructPage::new(self.target);
        pfns.flat_map(|pfn| self.structs.get(&pfn).unwrap_or(&blank).bytes.clone())
            .collect()
    }

    pub(super) fn write_mem_map(&mut self) {
        let page_bytes = self.page_bytes();
        let section_bytes = SECTION_PAGES * self.struct_bytes();
        let sections = self.sections();
        let highest = sections.last().copied().unwrap_or(0);
        let lowest = sections.first().copied().unwrap_or(0);
        let vmemmap = self.places.vmemmap;
        // Where each section's array is: its virtual address.
        let mut arrays = BTreeMap::new();
        match self.config.map {
            MapKind::VmemmapLarge => {
                // One large page of the second to last tables.
                let (shift, _) = self.target.levels().into_iter().nth_back(1).unwrap();
                let leaf_bytes = 1_u64 << shift;
                let leaf_pages = leaf_bytes / page_bytes;
                let start = (vmemmap + lowest * section_bytes) & !(leaf_bytes - 1);
                // The machine gives the memory for it as the kernel area's end.
                let rest: Vec<u64> = self.free_pages.by_ref().collect();
                let first = rest[0].next_multiple_of(leaf_pages);
                assert!(
                    rest.last().unwrap() + 1 >= first + leaf_pages,
                    "a large page for the mem_map"
                );
                self.free_pages = (rest[0]..first).collect::<Vec<_>>().into_iter();
                for pfn in first..first + leaf_pages {
                    self.contents.insert(pfn, vec![0; page_bytes as usize]);
                }
                assert!(vmemmap + (highest + 1) * section_bytes <= start + leaf_bytes);
                self.map_at(start, first * page_bytes, 1);
                for &section in &sections {
                    let bytes = self.struct_array(section);
                    let array = vmemmap + section * section_bytes;
                    self.write(first * page_bytes + (array - start), &bytes);
                    arrays.insert(section, array);
                }
            }
            MapKind::VmemmapSmall => {
                // With large pages the arrays of several sections are in one.
                let pages = sections.iter().flat_map(|section| {
                    let array = vmemmap + section * section_bytes;
                    (array / page_bytes..(array + section_bytes).div_ceil(page_bytes))
                        .map(|page| page * page_bytes)
                });
                let pages: BTreeSet<u64> = pages.collect();
                // In no order: the last one comes first.
                let mut pieces: Vec<(u64, u64)> = pages
                    .into_iter()
                    .rev()
                    .map(|page| (page, self.take_page() * page_bytes))
                    .collect();
                pieces.reverse();
                for &section in &sections {
                    let bytes = self.struct_array(section);
                    let array = vmemmap + section * section_bytes;
                    for &(page, place) in &pieces {
                        let from = page.max(array);
                        let to = (page + page_bytes).min(array + section_bytes);
                        if from < to {
                            let part = (from - array) as usize..(to - array) as usize;
                            self.write(place + (from - page), &bytes[part]);
                        }
                    }
                    arrays.insert(section, array);
                }
                self.map_vmemmap(&pieces);
            }
            MapKind::Sparse | MapKind::SparseStatic => {
                for &section in &sections {
                    let bytes = self.struct_array(section);
                    let first = self.take(section_bytes);
                    self.write(first, &bytes);
                    arrays.insert(section, self.direct(first));
                }
            }
            MapKind::Flat => {
                // The array begins with the first page that memory can have.
                let first_section = self.places.ram / page_bytes / SECTION_PAGES;
                let first = self.take((highest + 1 - first_section) * section_bytes);
                for &section in &sections {
                    let bytes = self.struct_array(section);
                    self.write(first + (section - first_section) * section_bytes, &bytes);
                }
                let pointer = self.take_page() * page_bytes + 0x40;
                self.write_word(pointer, self.direct(first));
                self.add_info("SYMBOL(mem_map)", format!("{:x}", self.direct(pointer)));
                return;
            }
        }
        self.write_sections(&arrays, highest);
    }

    /// Maps the vmemmap page by page, or puts its pages into the list of a kernel that has one.
    fn map_vmemmap(&mut self, pieces: &[(u64, u64)]) {
        let Target::Ppc64 { mmu: Mmu::Hash, .. } = self.target else {
            for &(address, place) in pieces {
                self.map_page(address, place);
            }
            return;
        };
        // The newest piece is first; the list ends in a null pointer.
        let mut next = 0;
        for &(address, place) in pieces.iter().rev() {
            let node = self.take(24);
            for (field, value) in [next, place, address].into_iter().enumerate() {
                self.write_word(node + field as u64 * 8, value);
            }
            next = self.direct(node);
        }
        let variables = self.take_page() * self.page_bytes();
        self.write_word(variables, next);
        // mmu_vmemmap_psize is the third size, and mmu_psize_defs an array of 64 bytes each.
        self.write_number(variables + 8, 2, 4);
        self.write_number(
            variables + 0x100 + 2 * 64 + 4,
            self.target.page_shift().into(),
            4,
        );
        for (name, offset) in [
            ("vmemmap_list", 0),
            ("mmu_vmemmap_psize", 8),
            ("mmu_psize_defs", 0x100),
        ] {
            let address = self.direct(variables + offset);
            self.add_info(&format!("SYMBOL({name})"), format!("{address:x}"));
        }
        for (key, value) in [
            ("SIZE(vmemmap_backing)", 24),
            ("OFFSET(vmemmap_backing.list)", 0),
            ("OFFSET(vmemmap_backing.phys)", 8),
            ("OFFSET(vmemmap_backing.virt_addr)", 16),
            ("SIZE(mmu_psize_def)", 64),
            ("OFFSET(mmu_psize_def.shift)", 4),
        ] {
            self.add_info(key, value);
        }
    }

    fn write_sections(&mut self, arrays: &BTreeMap<u64, u64>, highest: u64) {
        const SECTION_MAP_FLAGS: u64 = 0xf;
        let word = self.target.word_bytes();
        let page_bytes = self.page_bytes();
        let section_array_bytes = SECTION_PAGES * self.struct_bytes();
        // struct mem_section: the encoded array, then the usage pointer.
        let section_bytes = 2 * word;
        let encoded = |section: u64| {
            arrays.get(&section).map_or(0, |array| {
                array.wrapping_sub(section * section_array_bytes) | SECTION_MAP_FLAGS
            })
        };
        let per_root = page_bytes / section_bytes;
        let section_bits = self.target.page_shift() + SECTION_PAGES.trailing_zeros();
        let section_count = 1_u64 << (PHYSMEM_BITS - section_bits);
        let (table, length) = if self.config.map == MapKind::SparseStatic {
            let first = self.take((highest + 1) * section_bytes);
            for section in 0..=highest {
                self.write_word(first + section * section_bytes, encoded(section));
            }
            (first, section_count)
        } else {
            let roots = self.take((highest / per_root + 1) * word);
            let used: BTreeSet<u64> = arrays.keys().map(|section| section / per_root).collect();
            for root in used {
                let part = self.take_page() * page_bytes;
                self.write_word(roots + root * word, self.direct(part));
                for index in 0..per_root {
                    let section = root * per_root + index;
                    self.write_word(part + index * section_bytes, encoded(section));
                }
            }
            (roots, section_count.div_ceil(per_root))
        };
        self.add_info("SYMBOL(mem_section)", format!("{:x}", self.direct(table)));
        self.add_info("LENGTH(mem_section)", length);
        self.add_info("SIZE(mem_section)", section_bytes);
        self.add_info("OFFSET(mem_section.section_mem_map)", 0);
        self.add_info("NUMBER(SECTION_SIZE_BITS)", section_bits);
        self.add_info("NUMBER(MAX_PHYSMEM_BITS)", PHYSMEM_BITS);
    }
}
