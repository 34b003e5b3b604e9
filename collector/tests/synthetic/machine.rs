// SPDX-License-Identifier: MIT OR Apache-2.0
//! A crashed machine: memory, page tables, mem_map and VMCOREINFO of a kernel, written byte by byte.

use std::collections::{BTreeMap, BTreeSet};

mod file;
mod info;
mod kinds;
mod mem_map;
mod target;

pub(crate) use file::{File, Shape};
pub(crate) use kinds::{Compound, Kind};
pub(crate) use target::{Mmu, Target};

use kinds::StructPage;
use target::Places;

/// Bytes of a page where nothing else is said.
pub(crate) const PAGE: u64 = 4096;
/// Pages of a section: few, so that small machines have many.
const SECTION_PAGES: u64 = 512;

/// How struct pages tell what they are: one entry for each change of the kernel that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    V6_1,
    V6_4,
    V6_6,
    V6_12,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapKind {
    /// Sparse memory whose struct pages are one virtual array of 2 MiB leaves.
    VmemmapLarge,
    /// Likewise, of small pages that lie in no order.
    VmemmapSmall,
    /// Sparse memory with an array for each section, in the direct map.
    Sparse,
    /// Likewise, with one flat table of sections.
    SparseStatic,
    /// One array.
    Flat,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub generation: Generation,
    pub five_levels: bool,
    pub map: MapKind,
}

pub(crate) struct Machine {
    pub(crate) config: Config,
    pub(crate) target: Target,
    places: Places,
    /// Physical memory in the vmcore, as bytes from and to.
    pub(crate) ram: Vec<(u64, u64)>,
    contents: BTreeMap<u64, Vec<u8>>,
    zero: BTreeSet<u64>,
    structs: BTreeMap<u64, StructPage>,
    kinds: BTreeMap<u64, Kind>,
    /// Sections without a mem_map.
    pub(crate) unmanaged: BTreeSet<u64>,
    free_pages: std::vec::IntoIter<u64>,
    root: u64,
    /// The root table's page, as the kernel knows it: the first of its image.
    image: u64,
    pub(crate) info: Vec<(String, String)>,
    extra_notes: Vec<(&'static [u8], u32, Vec<u8>)>,
    /// Pages that the kernel's own tables are in.
    pub(crate) tables: BTreeSet<u64>,
    /// Those of them that are page tables.
    pub(crate) page_tables: BTreeSet<u64>,
}

impl Machine {
    /// An x86_64 machine with this memory; the kernel's own tables are put into the pages of `kernel_area`.
    pub(crate) fn new(
        config: Config,
        ram: &[(u64, u64)],
        kernel_area: std::ops::Range<u64>,
    ) -> Self {
        let five_levels = config.five_levels;
        Self::new_on(Target::X86_64 { five_levels }, config, ram, kernel_area)
    }

    /// A machine of any kind.
    pub(crate) fn new_on(
        target: Target,
        config: Config,
        ram: &[(u64, u64)],
        kernel_area: std::ops::Range<u64>,
    ) -> Self {
        let mut machine = Self {
            config,
            target,
            places: target.places(),
            ram: ram.to_vec(),
            contents: BTreeMap::new(),
            zero: BTreeSet::new(),
            structs: BTreeMap::new(),
            kinds: BTreeMap::new(),
            unmanaged: BTreeSet::new(),
            free_pages: kernel_area.collect::<Vec<_>>().into_iter(),
            root: 0,
            image: 0,
            info: Vec::new(),
            extra_notes: Vec::new(),
            tables: BTreeSet::new(),
            page_tables: BTreeSet::new(),
        };
        let root_level = target.levels().len() - 1;
        machine.root = machine.take_table(root_level);
        // As if the root table were the image's first page.
        machine.image = if target.image_is_direct() {
            machine.direct(machine.root)
        } else {
            machine.places.image
        };
        machine
    }

    pub(crate) fn page_bytes(&self) -> u64 {
        self.target.page_bytes()
    }

    /// The page in which the kernel's root table is, which is the first of its image.
    pub(crate) fn image_pfn(&self) -> u64 {
        self.root / self.page_bytes()
    }

    /// A page of the kernel area, zeroed.
    pub(crate) fn take_page(&mut self) -> u64 {
        let pfn = self
            .free_pages
            .next()
            .expect("the kernel area is too small");
        self.contents
            .insert(pfn, vec![0; self.page_bytes() as usize]);
        self.tables.insert(pfn);
        pfn
    }

    /// Room for so many bytes in pages that follow each other: its physical address.
    pub(crate) fn take(&mut self, bytes: u64) -> u64 {
        let first = self.take_page();
        for page in 1..bytes.div_ceil(self.page_bytes()) {
            assert_eq!(self.take_page(), first + page);
        }
        first * self.page_bytes()
    }

    /// A page table with no entry in use.
    fn take_table(&mut self, level: usize) -> u64 {
        let target = self.target;
        let (_, bits) = target.levels().into_iter().rev().nth(level).unwrap();
        let entry = target.entry(target.empty_entry(level));
        let bytes = (1 << bits) * target.entry_bytes();
        let table = self.take(bytes);
        let size = self.page_bytes();
        self.page_tables
            .extend(table / size..(table + bytes).div_ceil(size));
        self.write(table, &entry.repeat(1 << bits));
        table
    }

    /// Writes physical memory.
    pub(crate) fn write(&mut self, mut address: u64, mut bytes: &[u8]) {
        let size = self.page_bytes();
        while !bytes.is_empty() {
            let page = self
                .contents
                .entry(address / size)
                .or_insert_with(|| vec![0; size as usize]);
            let place = &mut page[(address % size) as usize..];
            let (now, later) = bytes.split_at(place.len().min(bytes.len()));
            place[..now.len()].copy_from_slice(now);
            address += now.len() as u64;
            bytes = later;
        }
    }

    /// Writes a number as the machine has it.
    pub(crate) fn write_number(&mut self, address: u64, value: u64, bytes: u64) {
        let bytes = self.target.number(value, bytes);
        self.write(address, &bytes);
    }

    /// Writes a `long` or a pointer.
    pub(crate) fn write_word(&mut self, address: u64, value: u64) {
        self.write_number(address, value, self.target.word_bytes());
    }

    fn read_entry(&self, address: u64) -> u64 {
        let size = self.page_bytes();
        let page = self.contents.get(&(address / size)).expect("a table");
        let at = (address % size) as usize;
        let bytes = &page[at..at + self.target.entry_bytes() as usize];
        let is_little = self.target.entry(1)[0] == 1;
        let value = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        match is_little {
            true => bytes.iter().rev().fold(0, value),
            false => bytes.iter().fold(0, value),
        }
    }

    /// Makes a page of nothing but zeros.
    pub(crate) fn zero(&mut self, pfn: u64) {
        self.zero.insert(pfn);
    }

    /// The address by which the kernel's direct map knows a physical one.
    pub(crate) fn direct(&self, address: u64) -> u64 {
        self.places.direct_map + (address - self.places.ram)
    }

    /// Maps what an entry of this level maps, the last tables' being 0, at a virtual address.
    pub(crate) fn map_at(&mut self, virtual_address: u64, address: u64, leaf_level: usize) {
        let target = self.target;
        let mut table = self.root;
        let levels = target.levels();
        for (level, (shift, bits)) in (0..levels.len()).rev().zip(levels) {
            let index = (virtual_address >> shift) & ((1 << bits) - 1);
            let entry = table + index * target.entry_bytes();
            if level == leaf_level {
                let leaf = target.leaf_entry(address, level);
                self.write(entry, &target.entry(leaf));
                return;
            }
            if self.read_entry(entry) == target.empty_entry(level) {
                let next = self.take_table(level - 1);
                let pointer = target.table_entry(next, level);
                self.write(entry, &target.entry(pointer));
            }
            table = target.table_of(self.read_entry(entry), level).unwrap();
        }
    }

    /// Maps a page.
    pub(crate) fn map_page(&mut self, virtual_address: u64, address: u64) {
        self.map_at(virtual_address, address, 0);
    }

    /// Where the page table entry is that maps the struct page of this pfn.
    pub(crate) fn mem_map_entry(&self, pfn: u64) -> u64 {
        let address = self.places.vmemmap + pfn * self.struct_bytes();
        let mut table = self.root;
        let levels = self.target.levels();
        for (level, (shift, bits)) in (0..levels.len()).rev().zip(levels) {
            let index = (address >> shift) & ((1 << bits) - 1);
            let place = table + index * self.target.entry_bytes();
            match self.target.table_of(self.read_entry(place), level) {
                Some(next) => table = next,
                None => return place,
            }
        }
        unreachable!("the last tables have no further ones");
    }

    pub(crate) fn add_note(&mut self, name: &'static [u8], kind: u32, description: Vec<u8>) {
        self.extra_notes.push((name, kind, description));
    }

    pub(crate) fn add_info(&mut self, key: &str, value: impl ToString) {
        self.info.push((key.to_owned(), value.to_string()));
    }

    /// All pages of which a byte is in the vmcore.
    pub(crate) fn present(&self) -> BTreeSet<u64> {
        let size = self.page_bytes();
        let mut present = BTreeSet::new();
        for &(start, end) in &self.ram {
            present.extend(start / size..end.div_ceil(size));
        }
        present
    }

    pub(crate) fn kind(&self, pfn: u64) -> Kind {
        if self.unmanaged.contains(&(pfn / SECTION_PAGES)) {
            return Kind::Kernel;
        }
        self.kinds.get(&pfn).copied().unwrap_or(Kind::Kernel)
    }

    /// The pages that a dumpfile of this level has.
    pub(crate) fn expected(&self, level: u8) -> BTreeSet<u64> {
        let mut pages = self.present();
        pages.retain(|&pfn| !self.kind(pfn).is_excluded(level));
        pages
    }

    /// A page's contents as a reader of the vmcore sees them: what is not in it is zero.
    pub(crate) fn page(&self, pfn: u64) -> Vec<u8> {
        let size = self.page_bytes();
        let whole = self.whole_page(pfn);
        let mut seen = vec![0; size as usize];
        for &(start, end) in &self.ram {
            let from = start.clamp(pfn * size, (pfn + 1) * size) - pfn * size;
            let to = end.clamp(pfn * size, (pfn + 1) * size) - pfn * size;
            if from < to {
                let range = from as usize..to as usize;
                seen[range.clone()].copy_from_slice(&whole[range]);
            }
        }
        seen
    }

    fn whole_page(&self, pfn: u64) -> Vec<u8> {
        let size = self.page_bytes();
        if let Some(page) = self.contents.get(&pfn) {
            return page.clone();
        }
        if self.zero.contains(&pfn) {
            return vec![0; size as usize];
        }
        let words = (0..size / 8).flat_map(|word| (pfn * 0x9e37_79b9 + word % 7).to_le_bytes());
        words.collect()
    }
}
