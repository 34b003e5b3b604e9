// SPDX-License-Identifier: MIT OR Apache-2.0
//! A second opinion on every page: what it is, and whether a dump of some level keeps it.
//!
//! It is written from the kernel's headers and from makedumpfile's manual page, and shares no code with the collector,
//! so that a mistake in one is not a mistake in both. It reads the kernel's whole page array into memory and looks at
//! it page by page; nobody is in a hurry here.
//!
//! Source: Linux 6.1 and 6.12 `include/linux/page-flags.h`, `include/linux/mm_types.h`, `include/linux/mmzone.h`,
//! `kernel/crash_core.c`, `kernel/vmcore_info.c`; makedumpfile 1.7.9 `makedumpfile.8.in`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use anyhow::{Context, Result, ensure};

use super::memory::Memory;
use super::paging::KernelSpace;
use super::vmcoreinfo::VmcoreInfo;

/// What a dump of some level does with a page, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageKind {
    /// The dump has it.
    Kept,
    /// Page cache without private data: level 2, and level 4 too.
    Cache,
    /// Page cache with private data: level 4.
    CachePrivate,
    /// Anonymous or huge page of a process: level 8.
    User,
    /// In the buddy allocator's lists: level 16.
    Free,
    /// Broken memory: never read.
    HwPoison,
    /// Given away to the hypervisor: never read.
    Offline,
}

impl fmt::Display for PageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "kept",
            Self::Cache => "cache",
            Self::CachePrivate => "cache with private data",
            Self::User => "user",
            Self::Free => "free",
            Self::HwPoison => "hwpoison",
            Self::Offline => "offline",
        })
    }
}

/// The bits of a dump level that say what is left out of the dumpfile's bitmap. Bit 0, zero pages, is none of them:
/// such pages stay in the bitmap and share their data.
mod level {
    pub(super) const CACHE: u8 = 2;
    pub(super) const CACHE_PRIVATE: u8 = 4;
    pub(super) const USER: u8 = 8;
    pub(super) const FREE: u8 = 16;
}

/// The kernel's page array: one `struct page` for each pfn of the sections that have one.
#[derive(Debug)]
struct PageArray {
    page_size: usize,
    pages_per_section: u64,
    /// The raw structs by section number; 4 KiB pieces of the array that are not mapped are listed apart.
    sections: BTreeMap<u64, Vec<u8>>,
    unmapped: Vec<Range<u64>>,
}

impl PageArray {
    /// Reads the array of a kernel with `SPARSEMEM_EXTREME`: a table of roots, each a page full of sections, each of
    /// which says where its structs are.
    fn read(space: &KernelSpace<'_>, info: &VmcoreInfo, present: &[Range<u64>]) -> Result<Self> {
        let count = |kind, name| {
            info.count(kind, name)
                .with_context(|| format!("no {kind}({name}) in VMCOREINFO"))
        };
        let page_size = count("SIZE", "page")?;
        let section_size = count("SIZE", "mem_section")?;
        let map_at = count("OFFSET", "mem_section.section_mem_map")?;
        let bits = info
            .number("SECTION_SIZE_BITS")
            .context("no NUMBER(SECTION_SIZE_BITS) in VMCOREINFO")?;
        let pages_per_section = 1u64 << (bits - 12);
        let roots_at = info.symbol("mem_section")?;
        let sections_per_root = 4096 / section_size as u64;

        let mut array = Self {
            page_size,
            pages_per_section,
            sections: BTreeMap::new(),
            unmapped: Vec::new(),
        };
        for range in present {
            let last = (range.end - 1) / pages_per_section;
            for section in range.start / pages_per_section..=last {
                if array.sections.contains_key(&section) {
                    continue;
                }
                let word = |address: u64| -> Result<u64> {
                    let mut bytes = [0; 8];
                    ensure!(
                        space.read(address, &mut bytes)?,
                        "mem_section: {address:#x} is not mapped"
                    );
                    Ok(u64::from_le_bytes(bytes))
                };
                let root = word(roots_at + section / sections_per_root * 8)?;
                if root == 0 {
                    continue;
                }
                let entry = root + section % sections_per_root * section_size as u64;
                let coded = word(entry + map_at as u64)?;
                // Bit 0: the section exists; bit 1: it has page structs. The pointer is page aligned.
                if coded & 3 != 3 {
                    continue;
                }
                let first_pfn = section * pages_per_section;
                let at = (coded & !0xfff) + first_pfn * page_size as u64;
                array.read_section(space, section, at)?;
            }
        }
        Ok(array)
    }

    fn read_section(&mut self, space: &KernelSpace<'_>, section: u64, at: u64) -> Result<()> {
        let mut structs = vec![0; self.pages_per_section as usize * self.page_size];
        let first_pfn = section * self.pages_per_section;
        for (piece, bytes) in structs.chunks_mut(4096).enumerate() {
            if !space.read(at + piece as u64 * 4096, bytes)? {
                let per_piece = (4096 / self.page_size) as u64;
                let pfn = first_pfn + piece as u64 * per_piece;
                self.unmapped.push(pfn..pfn + per_piece);
            }
        }
        self.sections.insert(section, structs);
        Ok(())
    }

    fn get(&self, pfn: u64) -> Option<&[u8]> {
        if self.unmapped.iter().any(|range| range.contains(&pfn)) {
            return None;
        }
        let section = self.sections.get(&(pfn / self.pages_per_section))?;
        let at = (pfn % self.pages_per_section) as usize * self.page_size;
        section.get(at..at + self.page_size)
    }
}

/// How this kernel writes down what its pages are. A fact that VMCOREINFO does not have is `None`, and what rests on
/// it is never said of a page.
#[derive(Debug)]
struct Layout {
    flags: usize,
    mapping: usize,
    mapcount: usize,
    private: usize,
    compound_head: usize,
    lru_flag: Option<u32>,
    private_flag: Option<u32>,
    swapcache_flag: Option<u32>,
    swapbacked_flag: Option<u32>,
    hwpoison_flag: Option<u32>,
    head_mask: u64,
    buddy: Option<i32>,
    offline: Option<i32>,
    slab: Slab,
    compound: Compound,
    /// How many orders the buddy allocator has.
    orders: u64,
}

#[derive(Debug)]
enum Slab {
    /// Until 6.9: a page flag.
    Flag(u32),
    /// From 6.10 on: the page's type, which shares its place with the map count.
    Type(i32),
}

/// Where the second struct of a compound page has the order, and what makes it a huge page of hugetlbfs.
#[derive(Debug)]
enum Compound {
    /// Until 6.5: bytes for the order and for the number of the destructor.
    Destructor {
        order: usize,
        destructor: usize,
        hugetlb: u8,
    },
    /// 6.6 to 6.8: the order in the low byte of the flags, and a flag.
    Flag(u32),
    /// From 6.9 on: the order likewise, and the head's type.
    Type(i32),
}

impl Layout {
    fn new(info: &VmcoreInfo) -> Result<Self> {
        let field = |name: &str| {
            info.count("OFFSET", name)
                .with_context(|| format!("no OFFSET({name}) in VMCOREINFO"))
        };
        let flag = |name: &str| info.number(name).and_then(|bit| u32::try_from(bit).ok());
        // The kernel writes the 32-bit types as signed or unsigned longs; the bits are what counts.
        let kind = |name: &str| info.number(name).map(|value| value as i32);
        let slab = match (kind("PAGE_SLAB_MAPCOUNT_VALUE"), flag("PG_slab")) {
            (Some(value), _) => Slab::Type(value),
            (None, Some(bit)) => Slab::Flag(bit),
            (None, None) => anyhow::bail!("VMCOREINFO does not say how slab pages are marked"),
        };
        let struct_size = info.count("SIZE", "page").context("no SIZE(page)")?;
        let compound = if let Some(value) = kind("PAGE_HUGETLB_MAPCOUNT_VALUE") {
            Compound::Type(value)
        } else if let Some(bit) = flag("PG_hugetlb") {
            Compound::Flag(bit)
        } else {
            // In 6.3 to 6.5 the fields are named as the folio's: they lie in its second struct page.
            let (order, destructor) = match info.count("OFFSET", "folio._folio_order") {
                Some(order) => (
                    order - struct_size,
                    field("folio._folio_dtor")? - struct_size,
                ),
                None => (field("page.compound_order")?, field("page.compound_dtor")?),
            };
            let hugetlb = info
                .number("HUGETLB_PAGE_DTOR")
                .context("no NUMBER(HUGETLB_PAGE_DTOR) in VMCOREINFO")?;
            Compound::Destructor {
                order,
                destructor,
                hugetlb: u8::try_from(hugetlb)?,
            }
        };
        Ok(Self {
            flags: field("page.flags")?,
            mapping: field("page.mapping")?,
            mapcount: field("page._mapcount")?,
            private: field("page.private")?,
            compound_head: field("page.compound_head")?,
            lru_flag: flag("PG_lru"),
            private_flag: flag("PG_private"),
            swapcache_flag: flag("PG_swapcache"),
            swapbacked_flag: flag("PG_swapbacked"),
            hwpoison_flag: flag("PG_hwpoison"),
            head_mask: info
                .number("PG_head_mask")
                .context("no NUMBER(PG_head_mask) in VMCOREINFO")?
                .cast_unsigned(),
            buddy: kind("PAGE_BUDDY_MAPCOUNT_VALUE"),
            offline: kind("PAGE_OFFLINE_MAPCOUNT_VALUE"),
            slab,
            compound,
            orders: info
                .count("LENGTH", "zone.free_area")
                .context("no LENGTH(zone.free_area)")? as u64,
        })
    }
}

/// One page as its struct, and the struct behind it, describe it.
struct PageStruct<'a> {
    layout: &'a Layout,
    bytes: &'a [u8],
    next: Option<&'a [u8]>,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}

fn half(bytes: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}

impl PageStruct<'_> {
    fn flags(&self) -> u64 {
        word(self.bytes, self.layout.flags)
    }

    fn has(&self, flag: Option<u32>) -> bool {
        flag.is_some_and(|bit| self.flags() & 1 << bit != 0)
    }

    fn mapcount(&self) -> i32 {
        half(self.bytes, self.layout.mapcount)
    }

    fn is_tail(&self) -> bool {
        word(self.bytes, self.layout.compound_head) & 1 == 1
    }

    fn is_slab(&self) -> bool {
        match self.layout.slab {
            Slab::Flag(bit) => self.has(Some(bit)),
            Slab::Type(value) => self.mapcount() == value,
        }
    }

    fn is_of_type(&self, value: Option<i32>) -> bool {
        !self.is_slab() && value.is_some_and(|value| self.mapcount() == value)
    }

    /// The lowest bit of `mapping` says anonymous. In a slab page that word is something else.
    fn is_anonymous(&self) -> bool {
        !self.is_slab() && word(self.bytes, self.layout.mapping) & 1 == 1
    }

    /// On one of the lists of pages that can be reclaimed, or in the swap cache. The swap cache's flag means something
    /// else on pages without swap behind them.
    fn is_cache(&self) -> bool {
        let swap = self.layout.swapbacked_flag.is_none() || self.has(self.layout.swapbacked_flag);
        self.has(self.layout.lru_flag) || (swap && self.has(self.layout.swapcache_flag))
    }

    /// The struct behind a compound page's head.
    fn second(&self) -> Option<&[u8]> {
        self.next
            .filter(|_| self.flags() & self.layout.head_mask != 0)
    }

    fn is_hugetlb(&self) -> bool {
        let Some(second) = self.second() else {
            return false;
        };
        match self.layout.compound {
            Compound::Destructor {
                destructor,
                hugetlb,
                ..
            } => second[destructor] == hugetlb,
            Compound::Flag(bit) => word(second, self.layout.flags) & 1 << bit != 0,
            Compound::Type(value) => self.mapcount() == value,
        }
    }

    /// How many pages the compound page at `pfn` has: 1 for all that is none.
    fn pages(&self, pfn: u64) -> u64 {
        let order = self
            .second()
            .map_or(0, |second| match self.layout.compound {
                Compound::Destructor { order, .. } => second[order],
                Compound::Flag(_) | Compound::Type(_) => word(second, self.layout.flags) as u8,
            });
        // A compound page is aligned to its size. What is not was none, or was being taken apart.
        match 1u64.checked_shl(order.into()) {
            Some(pages) if pfn.is_multiple_of(pages) => pages,
            _ => 1,
        }
    }

    fn free_pages(&self) -> u64 {
        let order = word(self.bytes, self.layout.private);
        if order < self.layout.orders {
            1 << order
        } else {
            0
        }
    }

    /// What a dump of this level does with the page at `pfn`, and with how many pages from there on.
    fn judge(&self, pfn: u64, level: u8) -> (PageKind, u64) {
        if self.has(self.layout.hwpoison_flag) && self.is_tail() {
            return (PageKind::HwPoison, 1);
        }
        if self.is_tail() {
            // Its head has spoken for it.
            return (PageKind::Kept, 1);
        }
        if level & level::FREE != 0 && self.is_of_type(self.layout.buddy) && self.free_pages() > 0 {
            return (PageKind::Free, self.free_pages());
        }
        let private = self.has(self.layout.private_flag);
        let file = self.is_cache() && !self.is_anonymous();
        let kind = if file && !private && level & (level::CACHE | level::CACHE_PRIVATE) != 0 {
            PageKind::Cache
        } else if file && private && level & level::CACHE_PRIVATE != 0 {
            PageKind::CachePrivate
        } else if (self.is_anonymous() || self.is_hugetlb()) && level & level::USER != 0 {
            PageKind::User
        } else if self.has(self.layout.hwpoison_flag) {
            PageKind::HwPoison
        } else if self.is_of_type(self.layout.offline) {
            PageKind::Offline
        } else {
            return (PageKind::Kept, 1);
        };
        (kind, self.pages(pfn))
    }
}

/// Everything about a crashed machine's pages that decides what a dump keeps.
#[derive(Debug)]
pub struct Classifier {
    layout: Layout,
    array: PageArray,
    present: Vec<Range<u64>>,
}

impl Classifier {
    /// Reads the kernel's page array from `memory`, for the pfns that are `present`: in ascending order, without
    /// overlap.
    ///
    /// # Errors
    /// VMCOREINFO lacks a fact, or the array cannot be read.
    pub fn new(memory: &dyn Memory, info: &VmcoreInfo, present: Vec<Range<u64>>) -> Result<Self> {
        let space = KernelSpace::new(memory, info)?;
        let array =
            PageArray::read(&space, info, &present).context("reading the kernel's page array")?;
        Ok(Self {
            layout: Layout::new(info)?,
            array,
            present,
        })
    }

    /// The kind of each present page in a dump of `level`, in ascending order of pfn.
    #[must_use]
    pub fn classify(&self, level: u8) -> Vec<(u64, PageKind)> {
        let mut kinds = Vec::new();
        // What an earlier page decided for the pages behind it, and up to where.
        let mut decided = (PageKind::Kept, 0);
        for pfn in self.present.iter().cloned().flatten() {
            if pfn >= decided.1 {
                let (kind, pages) = self
                    .page(pfn)
                    .map_or((PageKind::Kept, 1), |page| page.judge(pfn, level));
                decided = (kind, pfn + pages);
            }
            kinds.push((pfn, decided.0));
        }
        kinds
    }

    fn page(&self, pfn: u64) -> Option<PageStruct<'_>> {
        Some(PageStruct {
            layout: &self.layout,
            bytes: self.array.get(pfn)?,
            next: self.array.get(pfn + 1),
        })
    }

    /// The words of a page that the rules look at, for the message about a difference.
    #[must_use]
    pub fn describe(&self, pfn: u64) -> String {
        let Some(page) = self.page(pfn) else {
            return "no struct page".to_owned();
        };
        format!(
            "flags {:#x}, mapping {:#x}, _mapcount {:#010x}, private {:#x}, compound_head {:#x}, {} pages",
            page.flags(),
            word(page.bytes, self.layout.mapping),
            page.mapcount(),
            word(page.bytes, self.layout.private),
            word(page.bytes, self.layout.compound_head),
            page.pages(pfn)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMON: &str = "SIZE(page)=64\nOFFSET(page.flags)=0\nOFFSET(page.compound_head)=8\n\
        OFFSET(page.mapping)=24\nOFFSET(page.private)=40\nOFFSET(page._mapcount)=48\nNUMBER(PG_head_mask)=64\n\
        NUMBER(PG_lru)=5\nNUMBER(PG_private)=14\nNUMBER(PG_swapcache)=10\nNUMBER(PG_swapbacked)=17\n\
        NUMBER(PG_hwpoison)=20\nLENGTH(zone.free_area)=11\n";
    const TYPES: &str = "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456\n\
        NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-184549376\nNUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-201326592\n\
        NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-251658240\n";

    const LRU: u64 = 1 << 5;
    const HEAD: u64 = 1 << 6;
    const PRIVATE: u64 = 1 << 14;

    fn bytes(flags: u64, head: u64, mapping: u64, private: u64, mapcount: u32) -> [u8; 64] {
        let mut bytes = [0; 64];
        for (at, value) in [(0, flags), (8, head), (24, mapping), (40, private)] {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        bytes[48..52].copy_from_slice(&mapcount.to_le_bytes());
        bytes
    }

    fn judge(page: [u8; 64], next: [u8; 64], level: u8) -> (PageKind, u64) {
        let info = VmcoreInfo::parse(format!("{COMMON}{TYPES}").as_bytes());
        let layout = Layout::new(&info).unwrap();
        let page = PageStruct {
            layout: &layout,
            bytes: &page,
            next: Some(&next),
        };
        page.judge(512, level)
    }

    const PLAIN: [u8; 64] = [0; 64];

    #[test]
    fn level_4_implies_level_2_for_cache_without_private_data() {
        let cache = bytes(LRU, 0, 0xffff_8880_0000_1000, 0, !0);
        let private = bytes(LRU | PRIVATE, 0, 0xffff_8880_0000_1000, 0, !0);
        assert_eq!(judge(cache, PLAIN, 2), (PageKind::Cache, 1));
        assert_eq!(judge(cache, PLAIN, 4), (PageKind::Cache, 1));
        assert_eq!(judge(private, PLAIN, 2), (PageKind::Kept, 1));
        assert_eq!(judge(private, PLAIN, 4), (PageKind::CachePrivate, 1));
        assert_eq!(judge(cache, PLAIN, 25), (PageKind::Kept, 1));
    }

    #[test]
    fn a_slab_page_whose_mapping_looks_anonymous_is_kept() {
        let slab = bytes(0, 0, 1, 0, 0xf500_0000);
        assert_eq!(judge(slab, PLAIN, 31), (PageKind::Kept, 1));
    }

    #[test]
    fn a_huge_page_is_a_users_with_all_its_pages() {
        let head = bytes(HEAD, 0, 0, 0, 0xf400_0000);
        let second = bytes(9, 0x1001, 0, 0, !0);
        assert_eq!(judge(head, second, 8), (PageKind::User, 512));
        assert_eq!(judge(head, second, 23), (PageKind::Kept, 1));
        // 2^10 pages cannot begin at pfn 512.
        let misaligned = bytes(10, 0x1001, 0, 0, !0);
        assert_eq!(judge(head, misaligned, 8), (PageKind::User, 1));
    }

    #[test]
    fn free_blocks_have_their_order_in_private() {
        let free = bytes(0, 0, 0, 3, 0xf000_0000);
        assert_eq!(judge(free, PLAIN, 16), (PageKind::Free, 8));
        assert_eq!(judge(free, PLAIN, 15), (PageKind::Kept, 1));
        let impossible = bytes(0, 0, 0, 11, 0xf000_0000);
        assert_eq!(judge(impossible, PLAIN, 16), (PageKind::Kept, 1));
    }

    #[test]
    fn broken_and_offline_pages_are_left_out_at_every_level() {
        let broken = bytes(1 << 20, 0, 0, 0, !0);
        let broken_tail = bytes(1 << 20, 0x1001, 0, 0, !0);
        let offline = bytes(0, 0, 0, 0, 0xf100_0000);
        for level in [0, 1, 31] {
            assert_eq!(judge(broken, PLAIN, level).0, PageKind::HwPoison);
            assert_eq!(judge(broken_tail, PLAIN, level).0, PageKind::HwPoison);
            assert_eq!(judge(offline, PLAIN, level).0, PageKind::Offline);
        }
    }

    #[test]
    fn in_6_1_the_destructor_says_what_a_huge_page_is() {
        let info = VmcoreInfo::parse(
            format!(
                "{COMMON}NUMBER(PG_slab)=9\nNUMBER(HUGETLB_PAGE_DTOR)=2\nOFFSET(page.compound_dtor)=16\n\
                 OFFSET(page.compound_order)=17\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\n"
            )
            .as_bytes(),
        );
        let layout = Layout::new(&info).unwrap();
        let mut second = bytes(0, 0x1001, 0, 0, !0);
        (second[16], second[17]) = (2, 9);
        let head = bytes(HEAD, 0, 0, 0, !0);
        let page = PageStruct {
            layout: &layout,
            bytes: &head,
            next: Some(&second),
        };
        assert_eq!(page.judge(1024, 8), (PageKind::User, 512));
        let slab = bytes(1 << 9, 0, 1, 0, (-129i32).cast_unsigned());
        let page = PageStruct {
            layout: &layout,
            bytes: &slab,
            next: Some(&PLAIN),
        };
        assert_eq!(page.judge(1024, 31), (PageKind::Kept, 1));
    }
}
