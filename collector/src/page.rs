// SPDX-License-Identifier: MIT OR Apache-2.0
//! `struct page` to page kind.
//!
//! Every rule comes from keys of VMCOREINFO and not from the kernel's version. Where a key is missing its rule is off,
//! and the pages that it would leave out are kept.
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
use crate::vmcoreinfo::Vmcoreinfo;

/// Why a page is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageKind {
    /// Cache without private data: a copy of what is on a disk, or of a tmpfs file.
    Cache,
    /// Cache with private data: the file system has something of its own there.
    CachePrivate,
    /// Memory of a user process.
    User,
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
    /// One byte each of the second page: 4.16 to 6.5. The order's offset, and the destructor's with its value.
    Bytes(usize, Option<(usize, u8)>),
    /// Not at all.
    Unknown,
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

/// A rule that is off though the level asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RuleOff {
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
        info: &Vmcoreinfo<'_>,
        abi: Abi,
        level: DumpLevel,
        off: &mut dyn FnMut(RuleOff),
    ) -> Result<Self, &'static str> {
        let word = abi.word_bytes();
        let page_bytes = info
            .size("page")
            .filter(|bytes| (16..=MAX_PAGE_BYTES).contains(bytes) && bytes.is_multiple_of(word))
            .ok_or("VMCOREINFO has no usable SIZE(page)")?;
        // All fields end within the struct, and each is aligned to its size: what is not was never a field.
        let offset = |name, bytes: usize| {
            info.offset(name)
                .filter(|&offset| offset <= page_bytes.saturating_sub(bytes))
                .filter(|offset| offset.is_multiple_of(bytes))
        };
        let flags =
            offset("page.flags", word).ok_or("VMCOREINFO has no usable OFFSET(page.flags)")?;
        let bit = |name| {
            info.number(name)
                .and_then(|bit| u32::try_from(bit).ok())
                .and_then(|bit| 1_u64.checked_shl(bit))
        };
        let mapcount = offset("page._mapcount", 4);
        let typed = |name| info.page_type(name).filter(|_| mapcount.is_some());
        let mapping = offset("page.mapping", word);
        let private = offset("page.private", word);
        let tail = offset("page.compound_head", word).or(offset("page.compound_info", word));
        let head_mask = info.number("PG_head_mask").unwrap_or(0).cast_unsigned();
        let slab = match (typed("PAGE_SLAB_MAPCOUNT_VALUE"), bit("PG_slab")) {
            (Some(value), _) => Slab::Type(value),
            (None, Some(mask)) => Slab::Flag(mask),
            (None, None) => Slab::Unknown,
        };
        let compound = Self::resolve_compound(info, page_bytes, typed, bit);
        let swap_mask = match (bit("PG_swapbacked"), bit("PG_swapcache")) {
            (Some(backed), Some(cache)) => backed | cache,
            _ => 0,
        };
        let lru = bit("PG_lru");
        let private_flag = bit("PG_private");
        let buddy = typed("PAGE_BUDDY_MAPCOUNT_VALUE");
        let orders = info
            .length("zone.free_area")
            .filter(|orders| (1..=MAX_ORDERS).contains(orders));

        // What each rule cannot do without, in the words of VMCOREINFO.
        let cache_needs = [
            ("NUMBER(PG_lru)", lru.is_some()),
            ("NUMBER(PG_private)", private_flag.is_some()),
            ("OFFSET(page.mapping)", mapping.is_some()),
            // Fields of a tail page mean other things than they seem to.
            ("OFFSET(page.compound_head)", tail.is_some()),
        ];
        let user_needs = [
            ("OFFSET(page.mapping)", mapping.is_some()),
            ("OFFSET(page.compound_head)", tail.is_some()),
            // A slab page has other things in the place of its mapping.
            (
                "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE) or NUMBER(PG_slab)",
                !matches!(slab, Slab::Unknown),
            ),
        ];
        let free_needs = [
            ("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)", buddy.is_some()),
            ("OFFSET(page.private)", private.is_some()),
            ("LENGTH(zone.free_area)", orders.is_some()),
        ];
        let mut in_force = |pages, wanted: bool, needs: &[(&'static str, bool)]| {
            let missing = needs.iter().find(|(_, known)| !known);
            if let (true, Some(&(key, _))) = (wanted, missing) {
                off(RuleOff { pages, key });
            }
            wanted && missing.is_none()
        };
        let cache = in_force("cache", level.excludes_cache(), &cache_needs);
        let user = in_force("user", level.excludes_user(), &user_needs);
        let free = in_force("free", level.excludes_free(), &free_needs);
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
            huge: level.excludes_user() && tail.is_some(),
        })
    }

    fn resolve_compound(
        info: &Vmcoreinfo<'_>,
        page_bytes: usize,
        typed: impl Fn(&'static str) -> Option<u32>,
        bit: impl Fn(&'static str) -> Option<u64>,
    ) -> Compound {
        if let Some(value) = typed("PAGE_HUGETLB_MAPCOUNT_VALUE") {
            return Compound::Type(value);
        }
        if let Some(mask) = bit("PG_hugetlb") {
            return Compound::Flag(mask);
        }
        // A folio's fields are counted from its first page, and these two are in its second.
        let in_second = |folio: &str, page: &str| {
            info.offset(folio)
                .and_then(|offset| offset.checked_sub(page_bytes))
                .or_else(|| info.offset(page))
                .filter(|&offset| offset < page_bytes)
        };
        let Some(order) = in_second("folio._folio_order", "page.compound_order") else {
            return Compound::Unknown;
        };
        let destructor = in_second("folio._folio_dtor", "page.compound_dtor").zip(
            info.number("HUGETLB_PAGE_DTOR")
                .and_then(|value| u8::try_from(value).ok()),
        );
        Compound::Bytes(order, destructor)
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
        if self.user && is_anon {
            return compound(PageKind::User);
        }
        if self.huge
            && is_head
            && let Some(second) = second
            && self.is_huge(kind, second)
        {
            return compound(PageKind::User);
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
            Compound::Bytes(_, Some((offset, value))) => second.get(offset) == Some(&value),
            Compound::Bytes(_, None) | Compound::Unknown => false,
        }
    }

    /// The order of the compound page that begins at `pfn`; 0 where it cannot be one of that order.
    fn order(&self, second: &[u8], pfn: u64) -> u32 {
        let order = match self.compound {
            Compound::Type(_) | Compound::Flag(_) => {
                let flags = self.abi.word_at(second, self.flags);
                flags.map(|flags| flags & 0xff)
            }
            Compound::Bytes(offset, _) => second.get(offset).map(|&order| u64::from(order)),
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
