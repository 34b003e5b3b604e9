// SPDX-License-Identifier: MIT OR Apache-2.0
//! A crashed machine: memory, page tables, mem_map and VMCOREINFO of an x86_64 kernel, written byte by byte.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use collector::{IoError, Source};

pub(crate) const PAGE: u64 = 4096;
const STRUCT_PAGE: u64 = 64;
/// Sections of 512 pages, so that small machines have many.
const SECTION_BITS: u64 = 21;
const SECTION_PAGES: u64 = 1 << (SECTION_BITS - 12);

const IMAGE_MAP: u64 = 0xffff_ffff_8000_0000;
const IMAGE: u64 = 0xffff_ffff_8280_0000;

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

/// What a page is, in the words of the dump levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Kernel,
    Cache,
    CachePrivate,
    User,
    Free,
    Hwpoison,
    Offline,
}

impl Kind {
    pub(crate) fn is_excluded(self, level: u8) -> bool {
        match self {
            Self::Kernel => false,
            Self::Cache => level & (2 | 4) != 0,
            Self::CachePrivate => level & 4 != 0,
            Self::User => level & 8 != 0,
            Self::Free => level & 16 != 0,
            Self::Hwpoison | Self::Offline => true,
        }
    }
}

/// Bit numbers and values of one kernel generation.
struct Values {
    lru: u64,
    private: u64,
    swapcache: u64,
    swapbacked: u64,
    hwpoison: u64,
    slab: Option<u64>,
    head: u64,
    buddy: u32,
    offline: u32,
    slab_type: Option<u32>,
    hugetlb_type: Option<u32>,
    hugetlb_flag: Option<u64>,
}

impl Generation {
    fn values(self) -> Values {
        match self {
            Self::V6_1 | Self::V6_4 | Self::V6_6 => Values {
                lru: 4,
                private: 13,
                swapcache: 10,
                swapbacked: 19,
                hwpoison: 23,
                slab: Some(9),
                head: 16,
                buddy: (-129_i32) as u32,
                offline: (-257_i32) as u32,
                slab_type: None,
                hugetlb_type: None,
                hugetlb_flag: (self == Self::V6_6).then_some(8),
            },
            Self::V6_12 => Values {
                lru: 5,
                private: 14,
                swapcache: 10,
                swapbacked: 17,
                hwpoison: 20,
                slab: None,
                head: 6,
                buddy: 0xf000_0000,
                offline: 0xf100_0000,
                slab_type: Some(0xf500_0000),
                hugetlb_type: Some(0xf400_0000),
                hugetlb_flag: None,
            },
        }
    }

    fn release(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1.0-synthetic",
            Self::V6_4 => "6.4.0-synthetic",
            Self::V6_6 => "6.6.0-synthetic",
            Self::V6_12 => "6.12.0-synthetic",
        }
    }
}

/// A `struct page` in the making; fields as in the kernel.
#[derive(Clone, Copy)]
struct StructPage([u8; STRUCT_PAGE as usize]);

impl StructPage {
    fn new() -> Self {
        let mut page = Self([0; STRUCT_PAGE as usize]);
        page.mapcount(u32::MAX);
        page
    }
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    fn flags(&mut self, bits: &[u64]) {
        let mut flags = u64::from_le_bytes(self.0[..8].try_into().unwrap());
        for bit in bits {
            flags |= 1 << bit;
        }
        self.put(0, &flags.to_le_bytes());
    }
    fn compound_head(&mut self, head: u64) {
        self.put(8, &(head | 1).to_le_bytes());
    }
    fn mapping(&mut self, mapping: u64) {
        self.put(24, &mapping.to_le_bytes());
    }
    fn private(&mut self, private: u64) {
        self.put(40, &private.to_le_bytes());
    }
    fn mapcount(&mut self, mapcount: u32) {
        self.put(48, &mapcount.to_le_bytes());
    }
}

const ANON: u64 = 0xffff_8881_0000_0000 | 1;
const KSM: u64 = 0xffff_8881_0000_0000 | 3;
const MOVABLE: u64 = 0xffff_8881_0000_0000 | 2;
const FILE: u64 = 0xffff_8881_0000_0400;

/// What a compound page is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Compound {
    /// A transparent huge page of a process.
    Anon,
    /// A large folio of a file.
    Cache,
    /// A page of hugetlbfs, mapped or not: its mapping does not tell.
    Hugetlb,
    /// A slab of more than one page, with something odd in the place of its mapping.
    Slab,
    /// A driver's.
    Other,
}

pub(crate) struct Machine {
    pub(crate) config: Config,
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
    phys_base: i64,
    direct_map: u64,
    vmemmap: u64,
    pub(crate) info: Vec<(String, String)>,
    extra_notes: Vec<(&'static [u8], u32, Vec<u8>)>,
    /// Pages that the kernel's own tables are in.
    pub(crate) tables: BTreeSet<u64>,
}

impl Machine {
    /// A machine with this memory; the kernel's own tables are put into the pages of `kernel_area`.
    pub(crate) fn new(
        config: Config,
        ram: &[(u64, u64)],
        kernel_area: std::ops::Range<u64>,
    ) -> Self {
        let mut machine = Self {
            config,
            ram: ram.to_vec(),
            contents: BTreeMap::new(),
            zero: BTreeSet::new(),
            structs: BTreeMap::new(),
            kinds: BTreeMap::new(),
            unmanaged: BTreeSet::new(),
            free_pages: kernel_area.collect::<Vec<_>>().into_iter(),
            root: 0,
            phys_base: 0,
            direct_map: if config.five_levels {
                0xff11_2340_0000_0000
            } else {
                0xffff_9a40_0000_0000
            },
            vmemmap: if config.five_levels {
                0xffd4_5680_0000_0000
            } else {
                0xffff_eb12_0000_0000
            },
            info: Vec::new(),
            extra_notes: Vec::new(),
            tables: BTreeSet::new(),
        };
        machine.root = machine.take_page() * PAGE;
        // As if the image's first page were the root table.
        machine.phys_base = machine.root as i64 - (IMAGE - IMAGE_MAP) as i64;
        machine
    }

    /// The page in which the kernel's root table is, which is the first of its image.
    pub(crate) fn image_pfn(&self) -> u64 {
        self.root / PAGE
    }

    /// A page of the kernel area, zeroed.
    pub(crate) fn take_page(&mut self) -> u64 {
        let pfn = self
            .free_pages
            .next()
            .expect("the kernel area is too small");
        self.contents.insert(pfn, vec![0; PAGE as usize]);
        self.tables.insert(pfn);
        pfn
    }

    /// Writes physical memory.
    pub(crate) fn write(&mut self, mut address: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let page = self
                .contents
                .entry(address / PAGE)
                .or_insert_with(|| vec![0; PAGE as usize]);
            let place = &mut page[(address % PAGE) as usize..];
            let (now, later) = bytes.split_at(place.len().min(bytes.len()));
            place[..now.len()].copy_from_slice(now);
            address += now.len() as u64;
            bytes = later;
        }
    }

    fn read_u64(&self, address: u64) -> u64 {
        self.contents.get(&(address / PAGE)).map_or(0, |page| {
            let at = (address % PAGE) as usize;
            u64::from_le_bytes(page[at..at + 8].try_into().unwrap())
        })
    }

    /// Makes a page of nothing but zeros.
    pub(crate) fn zero(&mut self, pfn: u64) {
        self.zero.insert(pfn);
    }

    /// The address by which the kernel's direct map knows a physical one.
    pub(crate) fn direct(&self, address: u64) -> u64 {
        self.direct_map + address
    }

    /// Maps `size` bytes (4 KiB, 2 MiB or 1 GiB) at a virtual address.
    pub(crate) fn map(&mut self, virtual_address: u64, address: u64, size: u64) {
        let mut table = self.root;
        let top = if self.config.five_levels { 48 } else { 39 };
        let leaf_shift = size.trailing_zeros();
        let mut shift = top;
        loop {
            let entry = table + ((virtual_address >> shift) & 511) * 8;
            if shift == leaf_shift {
                let large = if shift > 12 { 0x80 } else { 0 };
                self.write(
                    entry,
                    &(address | large | 0x8000_0000_0000_0063).to_le_bytes(),
                );
                return;
            }
            if self.read_u64(entry) == 0 {
                let page = self.take_page();
                self.write(entry, &((page * PAGE) | 0x67).to_le_bytes());
            }
            table = self.read_u64(entry) & 0x000f_ffff_ffff_f000;
            shift -= 9;
        }
    }

    fn set(&mut self, pfn: u64, kind: Kind, edit: impl FnOnce(&Values, &mut StructPage)) {
        let values = self.config.generation.values();
        let mut page = StructPage::new();
        edit(&values, &mut page);
        self.structs.insert(pfn, page);
        self.kinds.insert(pfn, kind);
    }

    /// A free block. Only its first struct page says so.
    pub(crate) fn free(&mut self, pfn: u64, order: u32) {
        for inside in pfn..pfn + (1 << order) {
            self.set(inside, Kind::Free, |_, page| page.private(9));
        }
        self.set(pfn, Kind::Free, |values, page| {
            page.mapcount(values.buddy);
            page.private(order.into());
        });
    }

    /// A page that looks like a free block of an order that no kernel has.
    pub(crate) fn free_of_impossible_order(&mut self, pfn: u64) {
        self.set(pfn, Kind::Kernel, |values, page| {
            page.mapcount(values.buddy);
            page.private(11);
        });
    }

    pub(crate) fn cache(&mut self, pfn: u64) {
        self.set(pfn, Kind::Cache, |values, page| {
            page.flags(&[values.lru]);
            page.mapping(FILE);
            page.mapcount(0);
        });
    }

    pub(crate) fn cache_private(&mut self, pfn: u64) {
        self.set(pfn, Kind::CachePrivate, |values, page| {
            page.flags(&[values.lru, values.private]);
            page.mapping(FILE);
        });
    }

    /// In the swap cache and on no list.
    pub(crate) fn swap_cache(&mut self, pfn: u64) {
        self.set(pfn, Kind::Cache, |values, page| {
            page.flags(&[values.swapcache, values.swapbacked]);
            page.mapping(FILE);
        });
    }

    /// The swap cache's flag alone means something else since 4.10.
    pub(crate) fn swap_flag_alone(&mut self, pfn: u64) {
        self.set(pfn, Kind::Kernel, |values, page| {
            page.flags(&[values.swapcache]);
            page.mapping(FILE);
        });
    }

    pub(crate) fn anon(&mut self, pfn: u64) {
        self.set(pfn, Kind::User, |values, page| {
            page.flags(&[values.lru, values.swapbacked]);
            page.mapping(ANON);
            page.mapcount(0);
        });
    }

    /// Off the lists, with private data: still a process's.
    pub(crate) fn anon_private(&mut self, pfn: u64) {
        self.set(pfn, Kind::User, |values, page| {
            page.flags(&[values.private, values.swapbacked]);
            page.mapping(ANON);
        });
    }

    pub(crate) fn ksm(&mut self, pfn: u64) {
        self.set(pfn, Kind::User, |values, page| {
            page.flags(&[values.lru]);
            page.mapping(KSM);
        });
    }

    /// Movable, but no process's: zsmalloc and balloons.
    pub(crate) fn movable(&mut self, pfn: u64) {
        self.set(pfn, Kind::Kernel, |_, page| page.mapping(MOVABLE));
    }

    /// A slab page with a number in the place of its mapping that looks like an anonymous page's.
    pub(crate) fn slab(&mut self, pfn: u64) {
        self.set(pfn, Kind::Kernel, |values, page| {
            Self::make_slab(values, page);
        });
    }

    fn make_slab(values: &Values, page: &mut StructPage) {
        match (values.slab, values.slab_type) {
            (Some(bit), _) => page.flags(&[bit]),
            (None, Some(kind)) => page.mapcount(kind),
            (None, None) => {}
        }
        page.mapping(1);
    }

    pub(crate) fn offline(&mut self, pfn: u64) {
        self.set(pfn, Kind::Offline, |values, page| {
            page.mapcount(values.offline);
        });
    }

    pub(crate) fn hwpoison(&mut self, pfn: u64) {
        self.set(pfn, Kind::Hwpoison, |values, page| {
            page.flags(&[values.hwpoison]);
        });
    }

    /// A compound page of 2^order pages.
    pub(crate) fn compound(&mut self, pfn: u64, order: u8, compound: Compound) {
        let kind = match compound {
            Compound::Anon | Compound::Hugetlb => Kind::User,
            Compound::Cache => Kind::Cache,
            Compound::Slab | Compound::Other => Kind::Kernel,
        };
        let generation = self.config.generation;
        let head_address = self.vmemmap + pfn * STRUCT_PAGE;
        self.set(pfn, kind, |values, page| {
            page.flags(&[values.head]);
            match compound {
                Compound::Anon => {
                    page.flags(&[values.lru, values.swapbacked]);
                    page.mapping(ANON);
                }
                Compound::Cache => {
                    page.flags(&[values.lru]);
                    page.mapping(FILE);
                }
                Compound::Hugetlb => {
                    if let Some(kind) = values.hugetlb_type {
                        page.mapcount(kind);
                    }
                    page.mapping(FILE);
                }
                Compound::Slab => Self::make_slab(values, page),
                Compound::Other => {}
            }
        });
        for tail in pfn + 1..pfn + (1 << order) {
            // Tail pages have words of their folio that would be an anonymous page's mapping anywhere else.
            self.set(tail, kind, |values, page| {
                page.compound_head(head_address);
                page.mapping(5);
                if tail != pfn + 1 {
                    return;
                }
                let is_huge = matches!(compound, Compound::Hugetlb);
                match generation {
                    Generation::V6_1 => page.put(16, &[if is_huge { 2 } else { 1 }, order]),
                    Generation::V6_4 => page.put(20, &[if is_huge { 2 } else { 1 }, order]),
                    Generation::V6_6 | Generation::V6_12 => {
                        page.put(0, &u64::from(order).to_le_bytes());
                    }
                }
                if let (true, Some(bit)) = (is_huge, values.hugetlb_flag) {
                    page.flags(&[bit]);
                }
            });
        }
    }

    /// Breaks the memory of one page in the middle of a kernel's compound page.
    pub(crate) fn poison_tail(&mut self, pfn: u64) {
        let values = self.config.generation.values();
        self.structs
            .get_mut(&pfn)
            .unwrap()
            .flags(&[values.hwpoison]);
        assert_eq!(self.kinds.insert(pfn, Kind::Hwpoison), Some(Kind::Kernel));
    }

    /// Where the page table entry is that maps the struct page of this pfn.
    pub(crate) fn mem_map_entry(&self, pfn: u64) -> u64 {
        let address = self.vmemmap + pfn * STRUCT_PAGE;
        let mut table = self.root;
        let mut shift = if self.config.five_levels { 48 } else { 39 };
        loop {
            let place = table + ((address >> shift) & 511) * 8;
            let entry = self.read_u64(place);
            if shift == 12 || entry & 0x80 != 0 {
                return place;
            }
            table = entry & 0x000f_ffff_ffff_f000;
            shift -= 9;
        }
    }

    pub(crate) fn add_note(&mut self, name: &'static [u8], kind: u32, description: Vec<u8>) {
        self.extra_notes.push((name, kind, description));
    }

    pub(crate) fn add_info(&mut self, key: &str, value: impl ToString) {
        self.info.push((key.to_owned(), value.to_string()));
    }

    /// All pages of which a byte is in the vmcore.
    pub(crate) fn present(&self) -> BTreeSet<u64> {
        let mut present = BTreeSet::new();
        for &(start, end) in &self.ram {
            present.extend(start / PAGE..end.div_ceil(PAGE));
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
        let whole = self.whole_page(pfn);
        let mut seen = vec![0; PAGE as usize];
        for &(start, end) in &self.ram {
            let from = start.clamp(pfn * PAGE, (pfn + 1) * PAGE) - pfn * PAGE;
            let to = end.clamp(pfn * PAGE, (pfn + 1) * PAGE) - pfn * PAGE;
            if from < to {
                let range = from as usize..to as usize;
                seen[range.clone()].copy_from_slice(&whole[range]);
            }
        }
        seen
    }

    fn whole_page(&self, pfn: u64) -> Vec<u8> {
        if let Some(page) = self.contents.get(&pfn) {
            return page.clone();
        }
        if self.zero.contains(&pfn) {
            return vec![0; PAGE as usize];
        }
        let words = (0..PAGE / 8).flat_map(|word| (pfn * 0x9e37_79b9 + word % 7).to_le_bytes());
        words.collect()
    }

    /// Writes page tables, mem_map, names and VMCOREINFO. To be called once, when all pages are what they are.
    pub(crate) fn finish(&mut self) {
        self.map_kernel();
        self.write_mem_map();
        self.write_info();
    }

    fn map_kernel(&mut self) {
        // The image: the root table is its first page, the names are in its second.
        let names = self.take_page() * PAGE;
        self.map(IMAGE, self.root, PAGE);
        self.map(IMAGE + PAGE, names, PAGE);
        let generation = self.config.generation;
        for (index, field) in [
            "Linux",
            "crashed",
            generation.release(),
            "#1 SMP",
            "x86_64",
            "(none)",
        ]
        .into_iter()
        .enumerate()
        {
            self.write(names + 0x80 + index as u64 * 65, field.as_bytes());
        }
        self.add_info("OSRELEASE", generation.release());
        self.add_info("PAGESIZE", PAGE);
        self.add_info("SYMBOL(init_uts_ns)", format!("{:x}", IMAGE + PAGE + 0x80));
        self.add_info("OFFSET(uts_namespace.name)", 0);
        self.add_info("SYMBOL(swapper_pg_dir)", format!("{IMAGE:x}"));
        self.add_info("NUMBER(phys_base)", self.phys_base);
        self.add_info(
            "NUMBER(pgtable_l5_enabled)",
            u8::from(self.config.five_levels),
        );
        self.add_info("NUMBER(sme_mask)", 0);
        self.add_info("CRASHTIME", 1_700_000_000);
        // All memory below 1 GiB, in one leaf.
        self.map(self.direct_map, 0, 1 << 30);
    }

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

    fn struct_bytes(&self, section: u64) -> Vec<u8> {
        let pfns = section * SECTION_PAGES..(section + 1) * SECTION_PAGES;
        pfns.flat_map(|pfn| {
            self.structs
                .get(&pfn)
                .copied()
                .unwrap_or(StructPage::new())
                .0
        })
        .collect()
    }

    fn write_mem_map(&mut self) {
        const SECTION_MAP_FLAGS: u64 = 0xf;
        let section_bytes = SECTION_PAGES * STRUCT_PAGE;
        let sections = self.sections();
        let highest = sections.last().copied().unwrap_or(0);
        // Where each section's array is: its virtual address.
        let mut arrays = BTreeMap::new();
        match self.config.map {
            MapKind::VmemmapLarge => {
                // 2 MiB of memory behind the first leaf; the machine gives it as the kernel area's end.
                let rest: Vec<u64> = self.free_pages.by_ref().collect();
                let start = rest[0].next_multiple_of(512);
                assert!(
                    rest.last().unwrap() + 1 >= start + 512,
                    "2 MiB for the mem_map"
                );
                self.free_pages = (rest[0]..start).collect::<Vec<_>>().into_iter();
                for pfn in start..start + 512 {
                    self.contents.insert(pfn, vec![0; PAGE as usize]);
                }
                assert!((highest + 1) * section_bytes <= 2 << 20);
                self.map(self.vmemmap, start * PAGE, 2 << 20);
                for &section in &sections {
                    let bytes = self.struct_bytes(section);
                    self.write(start * PAGE + section * section_bytes, &bytes);
                    arrays.insert(section, self.vmemmap + section * section_bytes);
                }
            }
            MapKind::VmemmapSmall => {
                for &section in &sections {
                    let bytes = self.struct_bytes(section);
                    let array = self.vmemmap + section * section_bytes;
                    let mut pages: Vec<u64> = (0..section_bytes / PAGE)
                        .map(|_| self.take_page())
                        .collect();
                    pages.reverse();
                    for (index, page) in pages.into_iter().enumerate() {
                        let piece = index * PAGE as usize..(index + 1) * PAGE as usize;
                        self.write(page * PAGE, &bytes[piece]);
                        self.map(array + index as u64 * PAGE, page * PAGE, PAGE);
                    }
                    arrays.insert(section, array);
                }
            }
            MapKind::Sparse | MapKind::SparseStatic => {
                for &section in &sections {
                    let bytes = self.struct_bytes(section);
                    let first = self.take_page();
                    for page in 1..section_bytes / PAGE {
                        assert_eq!(self.take_page(), first + page);
                    }
                    self.write(first * PAGE, &bytes);
                    arrays.insert(section, self.direct(first * PAGE));
                }
            }
            MapKind::Flat => {
                let first = self.take_page();
                for page in 1..(highest + 1) * section_bytes / PAGE {
                    assert_eq!(self.take_page(), first + page);
                }
                for &section in &sections {
                    let bytes = self.struct_bytes(section);
                    self.write(first * PAGE + section * section_bytes, &bytes);
                }
                let pointer = self.take_page() * PAGE + 0x40;
                self.write(pointer, &self.direct(first * PAGE).to_le_bytes());
                self.add_info("SYMBOL(mem_map)", format!("{:x}", self.direct(pointer)));
                return;
            }
        }
        // struct mem_section: the encoded array, then the usage pointer.
        let encoded = |section: u64| {
            arrays.get(&section).map_or(0, |array| {
                (array - section * section_bytes) | SECTION_MAP_FLAGS
            })
        };
        const PER_ROOT: u64 = PAGE / 16;
        const PHYSMEM_BITS: u64 = 36;
        let section_count = 1_u64 << (PHYSMEM_BITS - SECTION_BITS);
        let (table, length) = if self.config.map == MapKind::SparseStatic {
            let first = self.take_page();
            let pages = ((highest + 1) * 16).div_ceil(PAGE);
            for page in 1..pages {
                assert_eq!(self.take_page(), first + page);
            }
            for section in 0..=highest {
                self.write(first * PAGE + section * 16, &encoded(section).to_le_bytes());
            }
            (first * PAGE, section_count)
        } else {
            let roots = self.take_page() * PAGE;
            for root in 0..=highest / PER_ROOT {
                let part = self.take_page() * PAGE;
                self.write(roots + root * 8, &self.direct(part).to_le_bytes());
                for index in 0..PER_ROOT {
                    let section = root * PER_ROOT + index;
                    self.write(part + index * 16, &encoded(section).to_le_bytes());
                }
            }
            (roots, section_count.div_ceil(PER_ROOT))
        };
        self.add_info("SYMBOL(mem_section)", format!("{:x}", self.direct(table)));
        self.add_info("LENGTH(mem_section)", length);
        self.add_info("SIZE(mem_section)", 16);
        self.add_info("OFFSET(mem_section.section_mem_map)", 0);
        self.add_info("NUMBER(SECTION_SIZE_BITS)", SECTION_BITS);
        self.add_info("NUMBER(MAX_PHYSMEM_BITS)", PHYSMEM_BITS);
    }

    fn write_info(&mut self) {
        let values = self.config.generation.values();
        for (field, offset) in [
            ("flags", 0),
            ("compound_head", 8),
            ("mapping", 24),
            ("private", 40),
            ("_mapcount", 48),
            ("_refcount", 52),
        ] {
            self.add_info(&format!("OFFSET(page.{field})"), offset);
        }
        self.add_info("SIZE(page)", STRUCT_PAGE);
        self.add_info("LENGTH(zone.free_area)", 11);
        self.add_info("NUMBER(PG_lru)", values.lru);
        self.add_info("NUMBER(PG_private)", values.private);
        self.add_info("NUMBER(PG_swapcache)", values.swapcache);
        self.add_info("NUMBER(PG_swapbacked)", values.swapbacked);
        self.add_info("NUMBER(PG_hwpoison)", values.hwpoison);
        self.add_info("NUMBER(PG_head_mask)", 1_u64 << values.head);
        self.add_info("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)", values.buddy as i32);
        self.add_info("NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)", values.offline as i32);
        if let Some(bit) = values.slab {
            self.add_info("NUMBER(PG_slab)", bit);
        }
        if let Some(kind) = values.slab_type {
            self.add_info("NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)", kind as i32);
        }
        if let Some(kind) = values.hugetlb_type {
            self.add_info("NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)", kind as i32);
        }
        if let Some(bit) = values.hugetlb_flag {
            self.add_info("NUMBER(PG_hugetlb)", bit);
        }
        match self.config.generation {
            Generation::V6_1 => {
                self.add_info("OFFSET(page.compound_dtor)", 16);
                self.add_info("OFFSET(page.compound_order)", 17);
                self.add_info("NUMBER(HUGETLB_PAGE_DTOR)", 2);
            }
            Generation::V6_4 => {
                self.add_info("OFFSET(folio._folio_dtor)", 64 + 20);
                self.add_info("OFFSET(folio._folio_order)", 64 + 21);
                self.add_info("NUMBER(HUGETLB_PAGE_DTOR)", 2);
            }
            Generation::V6_6 | Generation::V6_12 => {}
        }
    }

    fn note(name: &[u8], kind: u32, description: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        note.extend((name.len() as u32).to_le_bytes());
        note.extend((description.len() as u32).to_le_bytes());
        note.extend(kind.to_le_bytes());
        for part in [name, description] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    /// The vmcore's bytes, with the program headers at their usual place.
    pub(crate) fn vmcore(&self) -> File {
        self.vmcore_with(&Shape::default())
    }

    /// The vmcore's bytes.
    pub(crate) fn vmcore_with(&self, shape: &Shape) -> File {
        let mut notes = Vec::new();
        for cpu in 0..2_u8 {
            notes.extend(Self::note(b"CORE\0", 1, &[cpu; 0x150]));
        }
        let info: String = self
            .info
            .iter()
            .map(|(key, value)| format!("{key}={value}\n"))
            .collect();
        for (name, kind, description) in &self.extra_notes {
            notes.extend(Self::note(name, *kind, description));
        }
        notes.extend(Self::note(b"VMCOREINFO\0", 0, info.as_bytes()));

        // The image's segment overlaps the memory that it lies in, and comes first.
        let mut segments = vec![(self.root, self.root + 2 * PAGE, IMAGE)];
        segments.extend(
            self.ram
                .iter()
                .map(|&(start, end)| (start, end, self.direct_map + start)),
        );
        if shape.reversed {
            segments.reverse();
        }
        let headers = shape.headers_offset;
        let count = segments.len() as u64 + 1;
        let notes_offset = (headers + count * 56 + 64).next_multiple_of(PAGE);
        let mut bytes = vec![0; (notes_offset as usize + notes.len()).next_multiple_of(4096)];
        let mut put = |offset: u64, data: &[u8]| {
            bytes[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        };
        put(0, b"\x7fELF\x02\x01\x01");
        put(16, &4_u16.to_le_bytes());
        put(18, &62_u16.to_le_bytes());
        put(20, &1_u32.to_le_bytes());
        put(32, &headers.to_le_bytes());
        put(52, &64_u16.to_le_bytes());
        put(54, &56_u16.to_le_bytes());
        if shape.extended_count {
            let section_header = notes_offset - 64;
            put(40, &section_header.to_le_bytes());
            put(56, &0xffff_u16.to_le_bytes());
            put(section_header + 44, &(count as u32).to_le_bytes());
        } else {
            put(56, &(count as u16).to_le_bytes());
        }
        let mut header = headers;
        let mut put_header = |fields: [u64; 6], kind: u32| {
            let mut entry = Vec::new();
            entry.extend(kind.to_le_bytes());
            entry.extend(7_u32.to_le_bytes());
            entry.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
            put(header, &entry);
            header += 56;
        };
        let notes_bytes = notes.len() as u64;
        put_header([notes_offset, 0, 0, notes_bytes, notes_bytes, 0], 4);
        let mut offset = (notes_offset + notes_bytes).next_multiple_of(PAGE);
        let mut data = Vec::new();
        for &(start, end, virtual_address) in &segments {
            let place = offset + start % PAGE;
            put_header(
                [place, virtual_address, start, end - start, end - start, 0],
                1,
            );
            let pages = start / PAGE..end.div_ceil(PAGE);
            offset += (pages.end - pages.start) * PAGE;
            data.extend(pages);
        }
        put(notes_offset, &notes);
        let headers_bytes = bytes.len() as u64;
        for &pfn in &data {
            bytes.extend(self.whole_page(pfn));
        }
        File {
            bytes,
            headers_bytes,
            pages: data,
            unreadable: Vec::new(),
            reads: Cell::new(0),
        }
    }
}

/// How a vmcore's headers are arranged.
pub(crate) struct Shape {
    pub(crate) headers_offset: u64,
    pub(crate) reversed: bool,
    pub(crate) extended_count: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            headers_offset: 64,
            reversed: false,
            extended_count: false,
        }
    }
}

/// A vmcore in memory.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    /// Where the headers and notes end.
    pub(crate) headers_bytes: u64,
    /// The pfns of the pages behind, in their order.
    pub(crate) pages: Vec<u64>,
    /// Ranges of the file that cannot be read.
    pub(crate) unreadable: Vec<(u64, u64)>,
    pub(crate) reads: Cell<u64>,
}

impl File {
    /// Where in the file a physical address is.
    pub(crate) fn offset_of(&self, address: u64) -> u64 {
        // The last one: the image's segment repeats some pages before all others.
        let index = self
            .pages
            .iter()
            .rposition(|&pfn| pfn == address / PAGE)
            .unwrap();
        self.headers_bytes + index as u64 * PAGE + address % PAGE
    }
}

impl Source for File {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        self.reads.set(self.reads.get() + 1);
        let end = offset.checked_add(buf.len() as u64).ok_or(IoError::END)?;
        if self
            .unreadable
            .iter()
            .any(|&(from, to)| offset < to && from < end)
        {
            return Err(IoError::IO);
        }
        let range = offset as usize..end as usize;
        buf.copy_from_slice(self.bytes.get(range).ok_or(IoError::END)?);
        Ok(())
    }
}
