// SPDX-License-Identifier: MIT OR Apache-2.0
//! What pages can be, and how their `struct page`s say so.

use super::{Generation, Machine, Target};

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
pub(super) struct Values {
    pub(super) lru: u64,
    pub(super) private: u64,
    pub(super) swapcache: u64,
    pub(super) swapbacked: u64,
    pub(super) hwpoison: u64,
    pub(super) slab: Option<u64>,
    pub(super) head: u64,
    pub(super) buddy: u32,
    pub(super) offline: u32,
    pub(super) slab_type: Option<u32>,
    pub(super) hugetlb_type: Option<u32>,
    pub(super) hugetlb_flag: Option<u64>,
}

impl Generation {
    pub(super) fn values(self) -> Values {
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

    pub(super) fn release(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1.0-synthetic",
            Self::V6_4 => "6.4.0-synthetic",
            Self::V6_6 => "6.6.0-synthetic",
            Self::V6_12 => "6.12.0-synthetic",
        }
    }
}

/// A `struct page` in the making; fields as in the kernel.
#[derive(Clone)]
pub(super) struct StructPage {
    target: Target,
    pub(super) bytes: Vec<u8>,
}

impl StructPage {
    pub(super) fn new(target: Target) -> Self {
        let mut page = Self {
            target,
            bytes: vec![0; target.struct_bytes() as usize],
        };
        page.mapcount(u32::MAX);
        page
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let offset = offset as usize;
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn put_word(&mut self, index: u64, value: u64) {
        let word = self.target.word(value);
        self.put(index * self.target.word_bytes(), &word);
    }

    fn flags(&mut self, bits: &[u64]) {
        let bytes = &self.bytes[..self.target.word_bytes() as usize];
        let mut flags = match self.target.is_big_endian() {
            true => bytes
                .iter()
                .fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
            false => bytes
                .iter()
                .rfold(0, |sum, &byte| sum << 8 | u64::from(byte)),
        };
        for bit in bits {
            flags |= 1 << bit;
        }
        self.put_word(0, flags);
    }

    fn compound_head(&mut self, head: u64) {
        self.put_word(1, head | 1);
    }

    fn mapping(&mut self, mapping: u64) {
        self.put_word(3, mapping);
    }

    fn private(&mut self, private: u64) {
        self.put_word(5, private);
    }

    fn mapcount(&mut self, mapcount: u32) {
        let bytes = self.target.number(mapcount.into(), 4);
        self.put(self.target.word_bytes() * 6, &bytes);
    }
}

impl Target {
    /// Bytes of a `struct page`.
    pub(crate) fn struct_bytes(self) -> u64 {
        match self {
            Self::I386 { .. } => 40,
            _ => 64,
        }
    }

    /// Offsets of its fields.
    pub(super) fn struct_fields(self) -> [(&'static str, u64); 6] {
        let word = self.word_bytes();
        [
            ("flags", 0),
            ("compound_head", word),
            ("mapping", 3 * word),
            ("private", 5 * word),
            ("_mapcount", 6 * word),
            ("_refcount", 6 * word + 4),
        ]
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

impl Machine {
    pub(super) fn struct_bytes(&self) -> u64 {
        self.target.struct_bytes()
    }

    fn set(&mut self, pfn: u64, kind: Kind, edit: impl FnOnce(&Values, &mut StructPage)) {
        let values = self.config.generation.values();
        let mut page = StructPage::new(self.target);
        edit(&values, &mut page);
        self.structs.insert(pfn, page);
        self.kinds.insert(pfn, kind);
    }

    /// A page of each kind that a single page can be, from `first` on. Returns the pfn behind them.
    pub(crate) fn one_of_each(&mut self, first: u64) -> u64 {
        let mut pfn = first;
        let mut next = || {
            pfn += 1;
            pfn - 1
        };
        self.cache(next());
        self.cache_private(next());
        self.swap_cache(next());
        self.swap_flag_alone(next());
        self.anon(next());
        self.anon_private(next());
        self.ksm(next());
        self.movable(next());
        self.slab(next());
        self.offline(next());
        self.hwpoison(next());
        self.free(next(), 0);
        self.free_of_impossible_order(next());
        let plain = next();
        self.zero(plain);
        pfn
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
        // What follows the word that makes it a tail.
        let dtor = 2 * self.target.word_bytes();
        let head_address = self.places.vmemmap + pfn * self.struct_bytes();
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
                    Generation::V6_1 => page.put(dtor, &[if is_huge { 2 } else { 1 }, order]),
                    Generation::V6_4 => page.put(dtor + 4, &[if is_huge { 2 } else { 1 }, order]),
                    Generation::V6_6 | Generation::V6_12 => {
                        page.put_word(0, order.into());
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
}
