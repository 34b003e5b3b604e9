// SPDX-License-Identifier: MIT OR Apache-2.0
//! `struct page` to page kind.
//!
//! Every rule comes from what the kernel says of itself ([`Known`]) and not from its version. Where a fact is missing its
//! rule is off, and the pages that it would leave out are kept. Only what kernels before 4.5 could not yet say is taken
//! from the version.
//!
//! Source: Linux 6.1, 6.6 and 6.12 `include/linux/mm_types.h`, `include/linux/page-flags.h`; the meaning of the dump
//! levels from makedumpfile 1.7.2 `makedumpfile.8`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use config::DumpLevel;

use crate::bytes::Abi;
use crate::known::Known;
use crate::release::Release;

/// Why a page is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageKind {
    /// Cache without private data: a copy of what is on a disk, or of a tmpfs file.
    Cache,
    /// Cache with private data: the file system has something of its own there.
    CachePrivate,
    /// Memory of a user process.
    User,
    /// A page of hugetlbfs: a user's, or in the pool of those that are to be had.
    Huge,
    /// Not in use.
    Free,
    /// The memory below is broken; reading it may stop the machine.
    Hwpoison,
    /// Given back to the hypervisor.
    Offline,
}

/// What is to be done with a page and those behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This page is kept.
    Keep,
    /// So many pages from this one on are left out.
    Exclude(PageKind, u64),
}

/// How slab pages are told.
#[derive(Clone, Copy, Debug)]
enum Slab {
    /// By the page type: since 6.10.
    Type(u32),
    /// By a flag.
    Flag(u64),
    /// Not at all.
    Unknown,
}

/// How the second `struct page` of a compound page tells its order, and whether it is of hugetlbfs.
#[derive(Clone, Copy, Debug)]
enum Compound {
    /// Order in the low byte of the second page's flags; hugetlb by the first one's page type: since 6.9.
    Type(u32),
    /// Order likewise; hugetlb by a flag of the second page: 6.6 to 6.8.
    Flag(u64),
    /// Fields of the second page, until 6.5: the order, and the destructor with its value.
    Fields(Field, Option<(Field, u64)>),
    /// Not at all.
    Unknown,
}

/// A number in a struct.
#[derive(Clone, Copy, Debug)]
struct Field {
    offset: usize,
    /// 1, 2, 4, or 8.
    bytes: usize,
}

impl Field {
    fn get(self, abi: Abi, page: &[u8]) -> Option<u64> {
        match self.bytes {
            1 => page.get(self.offset).map(|&byte| u64::from(byte)),
            2 => abi.u16_at(page, self.offset).map(u64::from),
            4 => abi.u32_at(page, self.offset).map(u64::from),
            _ => abi.u64_at(page, self.offset),
        }
    }
}

/// The rules of one kernel at one dump level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    abi: Abi,
    page_bytes: usize,
    flags: usize,
    /// Offsets that no rule in force needs are 0 and not looked at.
    mapcount: usize,
    mapping: usize,
    private: usize,
    tail: Option<usize>,
    head_mask: u64,
    lru_mask: u64,
    private_mask: u64,
    /// Both bits must be set; 0 when either is not known.
    swap_mask: u64,
    hwpoison_mask: u64,
    slab: Slab,
    compound: Compound,
    buddy: Option<u32>,
    unaccepted: Option<u32>,
    offline: Option<u32>,
    /// Orders that a free block may have; one past the highest.
    orders: u64,
    cache: bool,
    cache_private: bool,
    user: bool,
    huge: bool,
}

/// Some of the kinds that a dump level can name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds {
    /// Cache, with private data or without.
    pub(crate) cache: bool,
    /// Of users.
    pub(crate) user: bool,
    /// Free.
    pub(crate) free: bool,
}

impl Kinds {
    /// The level without these kinds.
    pub(crate) fn taken_from(self, level: DumpLevel) -> DumpLevel {
        let mut bits = level.number();
        for (kind, of_kind) in [(self.cache, 2 | 4), (self.user, 8), (self.free, 16)] {
            if kind {
                bits &= !of_kind;
            }
        }
        DumpLevel::new(bits).unwrap_or(level)
    }

    /// Whether it is none of them.
    pub(crate) const fn is_empty(self) -> bool {
        !(self.cache || self.user || self.free)
    }
}

/// A rule that is off though the level asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RuleOff {
    /// What it would leave out.
    pub(crate) kind: PageKind,
    /// The pages that are kept therefore.
    pub(crate) pages: &'static str,
    /// The key that VMCOREINFO lacks.
    pub(crate) key: &'static str,
}

/// The largest `struct page` that can be meant; it has 64 bytes on most machines.
pub(crate) const MAX_PAGE_BYTES: usize = 512;
/// No kernel has a larger free block than 2^this pages.
const MAX_ORDERS: u64 = 32;

impl Rules {
    /// The rules for `level`, and through `off` what cannot be done.
    ///
    /// # Errors
    /// The key without which no `struct page` can be read.
    pub(crate) fn resolve(
        known: &Known<'_>,
        abi: Abi,
        level: DumpLevel,
        off: &mut dyn FnMut(RuleOff),
    ) -> Result<Self, &'static str> {
        let word = abi.word_bytes();
        let page_bytes = known
            .size("page")
            .filter(|bytes| (16..=MAX_PAGE_BYTES).contains(bytes) && bytes.is_multiple_of(word))
            .ok_or("VMCOREINFO has no usable SIZE(page)")?;
        // All fields end within the struct, and each is aligned to its size: what is not was never a field.
        let offset = |name, bytes: usize| {
            known
                .offset(name)
                .filter(|&offset| offset <= page_bytes.saturating_sub(bytes))
                .filter(|offset| offset.is_multiple_of(bytes))
        };
        let flags =
            offset("page.flags", word).ok_or("VMCOREINFO has no usable OFFSET(page.flags)")?;
        let bit = |name| {
            known
                .number(name)
                .and_then(|bit| u32::try_from(bit).ok())
                .and_then(|bit| 1_u64.checked_shl(bit))
        };
        let older = |major, minor, patch| {
            known
                .release()
                .is_some_and(|release| release < Release::new(major, minor, patch))
        };
        let mapcount = offset("page._mapcount", 4);
        let typed = |name| known.page_type(name).filter(|_| mapcount.is_some());
        let mapping = offset("page.mapping", word);
        let private = offset("page.private", word);
        let tail = offset("page.compound_head", word)
            .or(offset("page.compound_info", word))
            // 4.4 has the field and does not tell: it shares the place of the list's first pointer.
            .or_else(|| offset("page.lru", word).filter(|_| older(4, 5, 0) && !older(4, 4, 0)));
        // Before, a tail page has nothing in it that looks like anything else.
        let tails_known = tail.is_some() || older(4, 4, 0);
        let head_mask = known.number("PG_head_mask").unwrap_or(0).cast_unsigned();
        let slab = match (typed("PAGE_SLAB_MAPCOUNT_VALUE"), bit("PG_slab")) {
            (Some(value), _) => Slab::Type(value),
            (None, Some(mask)) => Slab::Flag(mask),
            (None, None) => Slab::Unknown,
        };
        let compound = Self::resolve_compound(known, abi, page_bytes, &offset, typed, bit, &older);
        let lru = bit("PG_lru");
        let private_flag = bit("PG_private");
        let swap_mask = match (bit("PG_swapcache"), bit("PG_swapbacked"), private_flag) {
            (Some(cache), Some(backed), _) => cache | backed,
            // Until 4.9 the swap cache has a bit of its own, above that of private data. Since then it shares one with
            // something else, and another bit tells which is meant; kernels before 4.18 have it six above and do not say.
            (Some(cache), None, Some(private)) if cache > private => cache,
            (Some(cache), None, Some(private)) if older(4, 20, 0) => {
                cache | private.wrapping_shl(6)
            }
            _ => 0,
        };
        let buddy = typed("PAGE_BUDDY_MAPCOUNT_VALUE");
        let orders = known
            .length("zone.free_area")
            .filter(|orders| (1..=MAX_ORDERS).contains(orders));

        // What each rule cannot do without, in the words of VMCOREINFO.
        let cache_needs = [
            ("NUMBER(PG_lru)", lru.is_some()),
            ("NUMBER(PG_private)", private_flag.is_some()),
            ("OFFSET(page.mapping)", mapping.is_some()),
            // Fields of a tail page mean other things than they seem to.
            ("OFFSET(page.compound_head)", tails_known),
        ];
        let user_needs = [
            ("OFFSET(page.mapping)", mapping.is_some()),
            ("OFFSET(page.compound_head)", tails_known),
            // A slab page has other things in the place of its mapping; in old kernels only pointers, which are even.
            (
                "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE) or NUMBER(PG_slab)",
                !matches!(slab, Slab::Unknown) || older(3, 10, 0),
            ),
        ];
        let free_needs = [
            ("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)", buddy.is_some()),
            ("OFFSET(page.private)", private.is_some()),
            ("LENGTH(zone.free_area)", orders.is_some()),
        ];
        let mut in_force = |kind, pages, wanted: bool, needs: &[(&'static str, bool)]| {
            let missing = needs.iter().find(|(_, known)| !known);
            if let (true, Some(&(key, _))) = (wanted, missing) {
                off(RuleOff { kind, pages, key });
            }
            wanted && missing.is_none()
        };
        let cache = in_force(
            PageKind::Cache,
            "cache",
            level.excludes_cache(),
            &cache_needs,
        );
        let user = in_force(PageKind::User, "user", level.excludes_user(), &user_needs);
        let free = in_force(PageKind::Free, "free", level.excludes_free(), &free_needs);
        Ok(Self {
            abi,
            page_bytes,
            flags,
            mapcount: mapcount.unwrap_or(0),
            mapping: mapping.unwrap_or(0),
            private: private.unwrap_or(0),
            tail,
            head_mask,
            lru_mask: lru.unwrap_or(0),
            private_mask: private_flag.unwrap_or(0),
            swap_mask,
            hwpoison_mask: bit("PG_hwpoison").unwrap_or(0),
            slab,
            compound,
            buddy: buddy.filter(|_| free),
            unaccepted: typed("PAGE_UNACCEPTED_MAPCOUNT_VALUE").filter(|_| free),
            offline: typed("PAGE_OFFLINE_MAPCOUNT_VALUE"),
            orders: orders.unwrap_or(0),
            cache,
            cache_private: cache && level.excludes_cache_private(),
            user,
            huge: level.excludes_user() && tails_known,
        })
    }

    fn resolve_compound(
        known: &Known<'_>,
        abi: Abi,
        page_bytes: usize,
        offset: &dyn Fn(&'static str, usize) -> Option<usize>,
        typed: impl Fn(&'static str) -> Option<u32>,
        bit: impl Fn(&'static str) -> Option<u64>,
        older: &dyn Fn(u32, u32, u32) -> bool,
    ) -> Compound {
        if let Some(value) = typed("PAGE_HUGETLB_MAPCOUNT_VALUE") {
            return Compound::Type(value);
        }
        if let Some(mask) = bit("PG_hugetlb") {
            return Compound::Flag(mask);
        }
        let word = abi.word_bytes();
        let number = known
            .number("HUGETLB_PAGE_DTOR")
            .and_then(|value| u64::try_from(value).ok());
        // A folio's fields are counted from its first page, and these two are in its second.
        let in_second = |folio: &str, page: &str| {
            known
                .offset(folio)
                .and_then(|offset| offset.checked_sub(page_bytes))
                .or_else(|| known.offset(page))
        };
        let order = in_second("folio._folio_order", "page.compound_order");
        let destructor = in_second("folio._folio_dtor", "page.compound_dtor");
        let lru = offset("page.lru", word.saturating_mul(2));
        let list_word = |index: usize| {
            Some(Field {
                offset: lru?.checked_add(word.checked_mul(index)?)?,
                bytes: word,
            })
        };
        let half_word = |index: usize| {
            let first = lru?.checked_add(word)?;
            Some(Field {
                offset: first.checked_add((word / 2).checked_mul(index)?)?,
                bytes: word / 2,
            })
        };
        let (order, destructor) = match (order, destructor, number) {
            (Some(order), destructor, number) => {
                // They lie side by side, so that their distance is their length: a byte each since 4.16.
                let bytes = destructor
                    .map(|destructor| order.abs_diff(destructor))
                    .filter(|bytes| matches!(bytes, 2 | 4))
                    .unwrap_or(1);
                let field = |offset| Field { offset, bytes };
                (Some(field(order)), destructor.map(field).zip(number))
            }
            // 4.4 has them behind the pointer to the head, and does not tell where.
            (None, _, Some(number)) if older(4, 5, 0) => {
                (half_word(1), half_word(0).zip(Some(number)))
            }
            // Before, the list's pointers stand for the address of the function that frees the page, and the order.
            (None, _, None) if older(4, 4, 0) => {
                let function = known.symbol("free_huge_page").map(|function| function.0);
                (list_word(1), list_word(0).zip(function))
            }
            _ => (None, None),
        };
        let inside = |field: &Field| {
            field
                .offset
                .checked_add(field.bytes)
                .is_some_and(|end| end <= page_bytes)
        };
        match order.filter(inside) {
            Some(order) => Compound::Fields(
                order,
                destructor.filter(|(destructor, _)| inside(destructor)),
            ),
            None => Compound::Unknown,
        }
    }

    /// The same rules without those for pages of these kinds.
    pub(crate) const fn without(mut self, kinds: &Kinds) -> Self {
        if kinds.cache {
            self.cache = false;
            self.cache_private = false;
        }
        if kinds.user {
            self.user = false;
            self.huge = false;
        }
        if kinds.free {
            self.buddy = None;
            self.unaccepted = None;
        }
        self
    }

    /// Bytes of a `struct page`.
    pub(crate) const fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Whether any page can be left out at all.
    pub(crate) const fn exclude_nothing(&self) -> bool {
        !(self.cache || self.user || self.huge)
            && self.buddy.is_none()
            && self.unaccepted.is_none()
            && self.offline.is_none()
            && self.hwpoison_mask == 0
    }

    /// What is to be done with the page `pfn`, whose `struct page` this is; `second` is the one behind it, where it
    /// could be of the same compound page.
    #[inline]
    pub(crate) fn verdict(&self, page: &[u8], second: Option<&[u8]>, pfn: u64) -> Verdict {
        // All offsets were checked against the struct's size, so that the zeros stand for nothing that can happen.
        let word = |offset| self.abi.word_at(page, offset).unwrap_or(0);
        let flags = word(self.flags);
        let poisoned = flags & self.hwpoison_mask != 0;
        if let Some(tail) = self.tail
            && word(tail) & 1 != 0
        {
            // Its head decided for all of it; what is still here is kept, unless the memory is broken.
            return if poisoned {
                Verdict::Exclude(PageKind::Hwpoison, 1)
            } else {
                Verdict::Keep
            };
        }
        let kind = self.abi.u32_at(page, self.mapcount).unwrap_or(0);
        let is_slab = match self.slab {
            Slab::Type(value) => kind == value,
            Slab::Flag(mask) => flags & mask != 0,
            Slab::Unknown => false,
        };
        if Some(kind) == self.buddy && !is_slab {
            let order = word(self.private);
            return match order < self.orders {
                true => self.exclude_block(PageKind::Free, order, pfn),
                false => Verdict::Keep,
            };
        }
        if Some(kind) == self.unaccepted {
            return self.exclude_block(PageKind::Free, self.orders.saturating_sub(1), pfn);
        }
        let is_head = flags & self.head_mask != 0;
        let compound = |page_kind| {
            let order = match second.filter(|_| is_head) {
                Some(second) => self.order(second, pfn),
                None => 0,
            };
            Verdict::Exclude(page_kind, 1_u64.wrapping_shl(order))
        };
        let is_anon = !is_slab && word(self.mapping) & 1 != 0;
        if self.cache && !is_anon && self.is_cache(flags) {
            let is_private = flags & self.private_mask != 0;
            if !is_private {
                return compound(PageKind::Cache);
            }
            if self.cache_private {
                return compound(PageKind::CachePrivate);
            }
        }
        if (self.user && is_anon) || (self.huge && is_head) {
            let is_huge = is_head && second.is_some_and(|second| self.is_huge(kind, second));
            if is_huge {
                return compound(PageKind::Huge);
            }
            if is_anon && self.user {
                return compound(PageKind::User);
            }
        }
        if poisoned {
            return compound(PageKind::Hwpoison);
        }
        if Some(kind) == self.offline && !is_slab {
            return compound(PageKind::Offline);
        }
        Verdict::Keep
    }

    const fn is_cache(&self, flags: u64) -> bool {
        flags & self.lru_mask != 0
            || (self.swap_mask != 0 && flags & self.swap_mask == self.swap_mask)
    }

    fn is_huge(&self, kind: u32, second: &[u8]) -> bool {
        match self.compound {
            Compound::Type(value) => kind == value,
            Compound::Flag(mask) => {
                let flags = self.abi.word_at(second, self.flags);
                flags.is_some_and(|flags| flags & mask != 0)
            }
            Compound::Fields(_, Some((field, value))) => field.get(self.abi, second) == Some(value),
            Compound::Fields(_, None) | Compound::Unknown => false,
        }
    }

    /// The order of the compound page that begins at `pfn`; 0 where it cannot be one of that order.
    fn order(&self, second: &[u8], pfn: u64) -> u32 {
        let order = match self.compound {
            Compound::Type(_) | Compound::Flag(_) => {
                let flags = self.abi.word_at(second, self.flags);
                flags.map(|flags| flags & 0xff)
            }
            Compound::Fields(field, _) => field.get(self.abi, second),
            Compound::Unknown => None,
        };
        order
            .and_then(|order| u32::try_from(order).ok())
            .filter(|&order| order < 64 && pfn.trailing_zeros() >= order)
            .unwrap_or(0)
    }

    /// A block of 2^order pages, which begins at a multiple of its size. One that does not is no block.
    fn exclude_block(&self, kind: PageKind, order: u64, pfn: u64) -> Verdict {
        match u32::try_from(order) {
            Ok(order) if pfn.trailing_zeros() >= order && order < 64 => {
                Verdict::Exclude(kind, 1_u64.wrapping_shl(order))
            }
            _ => Verdict::Keep,
        }
    }
}
