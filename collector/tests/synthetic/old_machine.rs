// SPDX-License-Identifier: MIT OR Apache-2.0
//! A crashed machine with a kernel of some era: its mem_map, its nodes and zones with lists of free blocks, its VMCOREINFO.

use std::collections::{BTreeMap, BTreeSet};

use collector::Stats;

use crate::collecting::{Log, Run};
use crate::dumpfile::Dumpfile;
use crate::eras::{Era, Free, Second};
use crate::machine::{Config, Kind, Machine, MapKind, PAGE};
use crate::mixed::V6_1;

pub(crate) const VMEMMAP: u64 = 0xffff_ea00_0000_0000;
/// The function that frees a page of hugetlbfs.
const FREE_HUGE_PAGE: u64 = 0xffff_ffff_8112_3450;
const ANON: u64 = 0xffff_8800_1234_5671;
const FILE: u64 = 0xffff_8800_1234_5670;

const ZONE_BYTES: u64 = 0x700;
const ZONE_AREAS: u64 = 0x78;
const ZONE_STATS: u64 = 0x500;
const AREA_BYTES: u64 = 88;
const ORDERS: u64 = 11;
const KINDS: u64 = 5;
const NODE_ZONE_COUNT: u64 = 0x1800;

/// A machine with a kernel of that era, in the making.
pub(crate) struct Old {
    pub(crate) era: Era,
    pub(crate) machine: Machine,
    /// The mem_map from pfn 0 on.
    pub(crate) structs: Vec<u8>,
    pub(crate) kinds: BTreeMap<u64, Kind>,
    pub(crate) blocks: Vec<(u64, u64)>,
    pub(crate) node: u64,
    /// How many free pages the kernel counts, when it is not what there is.
    pub(crate) counted: Option<u64>,
}

impl Old {
    pub(crate) fn new(era: Era, pages: u64) -> Self {
        let config = Config {
            map: MapKind::Flat,
            ..V6_1
        };
        let ram = [(0x100 * PAGE, (0x100 + pages) * PAGE)];
        // The last 256 pages, and more for the mem_map of a large machine.
        let area = pages - pages / 32..0x100 + pages;
        let machine = Machine::new(config, &ram, area);
        let count = 0x100 + pages;
        let mut old = Self {
            era,
            machine,
            structs: vec![0; (count.next_multiple_of(512) * era.page_bytes) as usize],
            kinds: BTreeMap::new(),
            blocks: Vec::new(),
            node: 0,
            counted: None,
        };
        for pfn in 0..count {
            old.put(pfn, old.era.mapcount, &u32::MAX.to_le_bytes());
        }
        old
    }

    pub(crate) fn put(&mut self, pfn: u64, offset: usize, bytes: &[u8]) {
        let place = (pfn * self.era.page_bytes) as usize + offset;
        self.structs[place..place + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn word(&mut self, pfn: u64, offset: usize, word: u64) {
        self.put(pfn, offset, &word.to_le_bytes());
    }

    pub(crate) fn page(&mut self, pfn: u64, kind: Kind, flags: &[u32], mapping: u64) {
        let flags = flags.iter().fold(0, |flags, bit| flags | (1_u64 << bit));
        self.word(pfn, 0, flags);
        self.word(pfn, self.era.mapping, mapping);
        if kind != Kind::Kernel {
            self.kinds.insert(pfn, kind);
        }
    }

    pub(crate) fn free(&mut self, pfn: u64, order: u64) {
        self.blocks.push((pfn, order));
        self.kinds
            .extend((pfn..pfn + (1 << order)).map(|pfn| (pfn, Kind::Free)));
        self.word(pfn, self.era.private, order);
        if let Free::Mapcount(value) = self.era.free {
            self.put(pfn, self.era.mapcount, &value.to_le_bytes());
        }
    }

    /// A compound page; `kind` is what it is when the kernel tells its order, and hugetlb when it tells that.
    fn compound(
        &mut self,
        pfn: u64,
        order: u64,
        kind: Kind,
        huge: bool,
        flags: &[u32],
        mapping: u64,
    ) {
        let era = self.era;
        let head_told = era.head.1;
        let order_told = head_told && era.second != (Second::List { told: false });
        let flags: Vec<u32> = flags.iter().copied().chain([era.head.0]).collect();
        let kind = if huge && !order_told {
            Kind::Kernel
        } else {
            kind
        };
        self.page(pfn, kind, &flags, mapping);
        if let (true, Second::Type(value)) = (huge, era.second) {
            self.put(pfn, era.mapcount, &value.to_le_bytes());
        }
        match era.second {
            Second::List { .. } => {
                let function = if huge {
                    FREE_HUGE_PAGE
                } else {
                    0xffff_ffff_8112_0000
                };
                self.word(pfn + 1, era.lru, function);
                self.word(pfn + 1, era.lru + 8, order);
            }
            Second::Fields(order_at, kind_at, bytes) => {
                self.put(pfn + 1, order_at, &order.to_le_bytes()[..bytes]);
                let number: u64 = if huge { 2 } else { 1 };
                self.put(pfn + 1, kind_at, &number.to_le_bytes()[..bytes]);
            }
            Second::Type(_) => self.word(pfn + 1, 0, order),
        }
        for tail in pfn + 1..pfn + (1 << order) {
            if let Some((offset, _)) = era.tail {
                self.word(tail, offset, (VMEMMAP + pfn * era.page_bytes) | 1);
                // The count of mappings of the whole lies where the mapping of others is.
                self.word(tail, era.mapping, 0xffff_ffff);
            }
            if order_told && kind != Kind::Kernel {
                self.kinds.insert(tail, kind);
            }
        }
    }

    /// One of everything that there was at the time.
    pub(crate) fn fill(&mut self) {
        let era = self.era;
        let [lru, private, swapcache, slab] = era.bits;
        self.page(0x100, Kind::Cache, &[lru], FILE);
        self.page(0x101, Kind::CachePrivate, &[lru, private], FILE);
        match era.swapbacked {
            Some((bit, _)) => {
                self.page(0x102, Kind::Cache, &[swapcache, bit], FILE);
                self.page(0x103, Kind::Kernel, &[swapcache], FILE);
            }
            None => self.page(0x102, Kind::Cache, &[swapcache], FILE),
        }
        self.page(0x104, Kind::User, &[lru], ANON);
        // Merged with others of the same content.
        self.page(0x105, Kind::User, &[lru], ANON | 2);
        self.page(0x106, Kind::Kernel, &[slab], FILE);
        if let Some(value) = era.slab_type {
            self.page(0x106, Kind::Kernel, &[], ANON);
            self.put(0x106, era.mapcount, &value.to_le_bytes());
        }
        if let Some(bit) = era.hwpoison {
            self.page(0x107, Kind::Hwpoison, &[bit], 0);
        }
        self.free(0x108, 3);
        self.free(0x110, 0);
        self.free(0x120, 5);
        self.compound(0x140, 4, Kind::User, false, &[lru], ANON);
        self.compound(0x160, 5, Kind::User, true, &[], FILE);
        self.compound(0x180, 3, Kind::Kernel, false, &[], 0);
        self.compound(0x188, 2, Kind::Cache, false, &[lru], FILE);
    }

    fn take(&mut self, bytes: u64) -> u64 {
        let first = self.machine.take_page();
        for page in 1..bytes.div_ceil(PAGE) {
            assert_eq!(self.machine.take_page(), first + page);
        }
        first * PAGE
    }

    pub(crate) fn write_word(&mut self, place: u64, word: u64) {
        self.machine.write(place, &word.to_le_bytes());
    }

    /// The node with its zones and lists of free blocks.
    fn write_node(&mut self) {
        let node = self.take(0x2000);
        self.node = node;
        self.machine
            .write(node + NODE_ZONE_COUNT, &2_u32.to_le_bytes());
        let free: u64 = self.blocks.iter().map(|(_, order)| 1 << order).sum();
        self.write_word(node + ZONE_BYTES + ZONE_STATS, self.counted.unwrap_or(free));
        for zone in 0..2 {
            for order in 0..ORDERS {
                for kind in 0..KINDS {
                    let list = zone * ZONE_BYTES + ZONE_AREAS + order * AREA_BYTES + kind * 16;
                    let head = self.machine.direct(node + list);
                    let blocks: Vec<u64> = self
                        .blocks
                        .iter()
                        .filter(|&&(pfn, of)| zone == 1 && of == order && pfn % KINDS == kind)
                        .map(|block| block.0)
                        .collect();
                    // next and prev of the head, and of each link.
                    let mut last = None;
                    for &pfn in &blocks {
                        let link = VMEMMAP + pfn * self.era.page_bytes + self.era.lru as u64;
                        match last {
                            None => self.write_word(node + list, link),
                            Some(before) => self.word(before, self.era.lru, link),
                        }
                        last = Some(pfn);
                    }
                    match last {
                        None => self.write_word(node + list, head),
                        Some(pfn) => self.word(pfn, self.era.lru, head),
                    }
                }
            }
        }
    }

    /// Page tables, the mem_map and VMCOREINFO.
    pub(crate) fn finish(&mut self) {
        self.write_node();
        self.machine.finish();
        let era = self.era;
        let bytes = std::mem::take(&mut self.structs);
        for (page, piece) in (0..).zip(bytes.chunks(PAGE as usize)) {
            let place = self.take(PAGE);
            self.machine.write(place, piece);
            self.machine.map_page(VMEMMAP + page * PAGE, place);
        }
        self.structs = bytes;
        self.machine.info.clear();
        self.write_sections();
        let names = self.take(PAGE);
        for (index, field) in (0..).zip(["Linux", "crashed", era.release, "#1", "x86_64", ""]) {
            self.machine.write(names + 4 + index * 65, field.as_bytes());
        }
        let names = self.machine.direct(names);
        let image = 0xffff_ffff_8280_0000_u64;
        let root = self.machine.image_pfn() * PAGE;
        let node = self.machine.direct(self.node);
        let table = self.take(PAGE);
        self.write_word(table, node);
        let table = self.machine.direct(table);
        let mut info = vec![
            ("OSRELEASE".to_owned(), era.release.to_owned()),
            ("PAGESIZE".to_owned(), PAGE.to_string()),
            ("SYMBOL(init_uts_ns)".to_owned(), format!("{names:x}")),
            ("SYMBOL(swapper_pg_dir)".to_owned(), format!("{image:x}")),
            ("SYMBOL(node_data)".to_owned(), format!("{table:x}")),
            (
                "NUMBER(phys_base)".to_owned(),
                (root as i64 - 0x280_0000).to_string(),
            ),
        ];
        let mut tell = |group: &str, name: &str, value: u64| {
            info.push((format!("{group}({name})"), value.to_string()));
        };
        tell("LENGTH", "node_data", 1);
        for (name, value) in [
            ("pglist_data.node_zones", 0),
            ("pglist_data.nr_zones", NODE_ZONE_COUNT),
            ("zone.free_area", ZONE_AREAS),
            ("zone.vm_stat", ZONE_STATS),
            ("free_area.free_list", 0),
            ("list_head.next", 0),
            ("list_head.prev", 8),
            ("page.flags", 0),
            ("page.mapping", era.mapping as u64),
            ("page.lru", era.lru as u64),
        ] {
            tell("OFFSET", name, value);
        }
        for (name, value) in [
            ("page", era.page_bytes),
            ("zone", ZONE_BYTES),
            ("free_area", AREA_BYTES),
            ("list_head", 16),
        ] {
            tell("SIZE", name, value);
        }
        tell("LENGTH", "zone.free_area", ORDERS);
        tell("LENGTH", "free_area.free_list", KINDS);
        tell("NUMBER", "NR_FREE_PAGES", 0);
        for (name, bit) in ["PG_lru", "PG_private", "PG_swapcache"]
            .into_iter()
            .zip(era.bits)
        {
            tell("NUMBER", name, bit.into());
        }
        if let Some((bit, true)) = era.swapbacked {
            tell("NUMBER", "PG_swapbacked", bit.into());
        }
        if let Some(bit) = era.hwpoison {
            tell("NUMBER", "PG_hwpoison", bit.into());
        }
        if era.head.1 {
            tell("NUMBER", "PG_head_mask", 1 << era.head.0);
        }
        if era.tells_types {
            tell("OFFSET", "page._mapcount", era.mapcount as u64);
            tell("OFFSET", "page.private", era.private as u64);
            if let Free::Mapcount(value) = era.free {
                tell("NUMBER", "PAGE_BUDDY_MAPCOUNT_VALUE", value.into());
            }
            match era.slab_type {
                Some(value) => tell("NUMBER", "PAGE_SLAB_MAPCOUNT_VALUE", value.into()),
                None => tell("NUMBER", "PG_slab", era.bits[3].into()),
            }
        }
        if let Some((offset, true)) = era.tail {
            tell("OFFSET", "page.compound_head", offset as u64);
        }
        match era.second {
            Second::List { told } => {
                if told {
                    info.push((
                        "SYMBOL(free_huge_page)".into(),
                        format!("{FREE_HUGE_PAGE:x}"),
                    ));
                }
            }
            Second::Fields(order, kind, _) => {
                tell("NUMBER", "HUGETLB_PAGE_DTOR", 2);
                if era.tail.is_some_and(|tail| tail.1) {
                    tell("OFFSET", "page.compound_order", order as u64);
                    tell("OFFSET", "page.compound_dtor", kind as u64);
                }
            }
            Second::Type(value) => tell("NUMBER", "PAGE_HUGETLB_MAPCOUNT_VALUE", value.into()),
        }
        self.machine.info.extend(info);
    }

    /// One section of 128 MiB for all memory.
    fn write_sections(&mut self) {
        let (bits, bytes, told) = self.era.sections;
        let per_root = PAGE / bytes;
        let (roots, part) = (self.take(PAGE), self.take(PAGE));
        let address = self.machine.direct(part);
        self.write_word(roots, address);
        // What is stored is the array of pfn 0; before 5.3 it had two flags, now it has more.
        self.write_word(part, VMEMMAP | if told { 0x2f } else { 3 });
        let roots = self.machine.direct(roots);
        self.machine
            .add_info("SYMBOL(mem_section)", format!("{roots:x}"));
        self.machine.add_info(
            "LENGTH(mem_section)",
            (1_u64 << (bits - 27)).div_ceil(per_root),
        );
        self.machine.add_info("SIZE(mem_section)", bytes);
        self.machine
            .add_info("OFFSET(mem_section.section_mem_map)", 0);
        if told {
            self.machine.add_info("NUMBER(SECTION_SIZE_BITS)", 27);
            self.machine.add_info("NUMBER(MAX_PHYSMEM_BITS)", bits);
        }
    }

    pub(crate) fn expected(&self, level: u8) -> BTreeSet<u64> {
        let mut pages = self.machine.present();
        pages.retain(|pfn| {
            !self
                .kinds
                .get(pfn)
                .is_some_and(|kind| kind.is_excluded(level))
        });
        pages
    }

    pub(crate) fn collect(&self, level: u8) -> (BTreeSet<u64>, Stats, Log) {
        let outcome = Run::default().collect(self.machine.vmcore(), level);
        let dump = Dumpfile::read(&outcome.disk.bytes);
        (
            dump.pages.keys().copied().collect(),
            outcome.result.unwrap(),
            outcome.log,
        )
    }

    pub(crate) fn check(&self, level: u8) {
        let about = format!("{}, level {level}", self.era.release);
        let (kept, stats, log) = self.collect(level);
        assert_eq!(log.warnings, [""; 0], "{about}");
        assert_eq!(stats.level_used.number(), level, "{about}");
        let different: Vec<String> = kept
            .symmetric_difference(&self.expected(level))
            .map(|pfn| format!("{pfn:#x} {:?}", self.kinds.get(pfn)))
            .take(8)
            .collect();
        assert_eq!(different, [""; 0], "{about}");
    }
}

impl Old {
    /// Changes a word of the mem_map where it lies in memory.
    pub(crate) fn poke_struct(&mut self, place: u64, word: u64) {
        let mut found = None;
        for &pfn in &self.machine.tables {
            let page = self.machine.page(pfn);
            let whole = &self.structs[(place / PAGE * PAGE) as usize..][..PAGE as usize];
            if page == whole {
                found = Some(pfn * PAGE + place % PAGE);
            }
        }
        let address = found.unwrap();
        self.write_word(address, word);
    }
}
