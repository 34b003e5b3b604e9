// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known of the first kernel: its VMCOREINFO, and where that lacks something, what its own symbol table and
//! its own description of its types say.
//!
//! Every new kernel moves something that filters need, and now and then VMCOREINFO does not tell it. The kernel's image
//! does, when it was built with BTF and runs 6.0 or newer: `kallsyms` is found through VMCOREINFO, and BTF through
//! `kallsyms`. What VMCOREINFO says always comes first.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use core::fmt;

use crate::address::VirtAddr;
use crate::btf::{self, Btf, Question};
use crate::io::Source;
use crate::kallsyms;
use crate::release::Release;
use crate::vmcore::Vmcore;
use crate::vmcoreinfo::Vmcoreinfo;

/// What [`Known::resolve`] needs of memory.
pub(crate) const KNOWN_BYTES: usize = if kallsyms::KALLSYMS_BYTES > btf::BTF_BYTES {
    kallsyms::KALLSYMS_BYTES
} else {
    btf::BTF_BYTES
};

/// What stands in VMCOREINFO as `OFFSET()`, and how BTF answers it.
const OFFSETS: &[(&str, Question)] = &[
    ("page.flags", Question::Offset("page", "flags")),
    ("page.mapping", Question::Offset("page", "mapping")),
    ("page.private", Question::Offset("page", "private")),
    ("page._mapcount", Question::Offset("page", "_mapcount")),
    (
        "page.compound_head",
        Question::Offset("page", "compound_head"),
    ),
    (
        "page.compound_info",
        Question::Offset("page", "compound_info"),
    ),
    (
        "page.compound_order",
        Question::Offset("page", "compound_order"),
    ),
    (
        "page.compound_dtor",
        Question::Offset("page", "compound_dtor"),
    ),
    (
        "folio._folio_order",
        Question::Offset("folio", "_folio_order"),
    ),
    (
        "folio._folio_dtor",
        Question::Offset("folio", "_folio_dtor"),
    ),
    ("zone.vm_stat", Question::Offset("zone", "vm_stat")),
    (
        "mem_section.section_mem_map",
        Question::Offset("mem_section", "section_mem_map"),
    ),
    (
        "uts_namespace.name",
        Question::Offset("uts_namespace", "name"),
    ),
];

/// What stands in VMCOREINFO as `SIZE()`.
const SIZES: &[(&str, Question)] = &[
    ("page", Question::Size("page")),
    ("mem_section", Question::Size("mem_section")),
];

/// What stands in VMCOREINFO as `LENGTH()`.
const LENGTHS: &[(&str, Question)] = &[("zone.free_area", Question::Length("zone", "free_area"))];

/// What stands in VMCOREINFO as `NUMBER()`, and counters' places, which do not stand there.
const NUMBERS: &[(&str, Question)] = &[
    ("PG_lru", Question::Value("pageflags", "PG_lru")),
    ("PG_private", Question::Value("pageflags", "PG_private")),
    ("PG_swapcache", Question::Value("pageflags", "PG_swapcache")),
    (
        "PG_swapbacked",
        Question::Value("pageflags", "PG_swapbacked"),
    ),
    ("PG_hwpoison", Question::Value("pageflags", "PG_hwpoison")),
    ("PG_slab", Question::Value("pageflags", "PG_slab")),
    ("PG_hugetlb", Question::Value("pageflags", "PG_hugetlb")),
    ("PG_head", Question::Value("pageflags", "PG_head")),
    (
        "HUGETLB_PAGE_DTOR",
        Question::Value("compound_dtor_id", "HUGETLB_PAGE_DTOR"),
    ),
    (
        "NR_FREE_PAGES",
        Question::Value("zone_stat_item", "NR_FREE_PAGES"),
    ),
    (
        "NR_FILE_PAGES",
        Question::Value("node_stat_item", "NR_FILE_PAGES"),
    ),
    (
        "NR_ANON_MAPPED",
        Question::Value("node_stat_item", "NR_ANON_MAPPED"),
    ),
    (
        "NR_SWAPCACHE",
        Question::Value("node_stat_item", "NR_SWAPCACHE"),
    ),
    (
        "NR_INACTIVE_ANON",
        Question::Value("node_stat_item", "NR_INACTIVE_ANON"),
    ),
    (
        "NR_ACTIVE_ANON",
        Question::Value("node_stat_item", "NR_ACTIVE_ANON"),
    ),
    (
        "NR_INACTIVE_FILE",
        Question::Value("node_stat_item", "NR_INACTIVE_FILE"),
    ),
    (
        "NR_ACTIVE_FILE",
        Question::Value("node_stat_item", "NR_ACTIVE_FILE"),
    ),
    (
        "NR_UNEVICTABLE",
        Question::Value("node_stat_item", "NR_UNEVICTABLE"),
    ),
];

/// Page types: the key, the top byte of the type as kernels from 6.12 on number it, and the bit that is clear in the
/// type from 6.10 to 6.11.
const TYPES: &[(&str, Question, Question)] = &[
    (
        "PAGE_BUDDY_MAPCOUNT_VALUE",
        Question::Value("pagetype", "PGTY_buddy"),
        Question::Value("pagetype", "PG_buddy"),
    ),
    (
        "PAGE_OFFLINE_MAPCOUNT_VALUE",
        Question::Value("pagetype", "PGTY_offline"),
        Question::Value("pagetype", "PG_offline"),
    ),
    (
        "PAGE_SLAB_MAPCOUNT_VALUE",
        Question::Value("pagetype", "PGTY_slab"),
        Question::Value("pagetype", "PG_slab"),
    ),
    (
        "PAGE_HUGETLB_MAPCOUNT_VALUE",
        Question::Value("pagetype", "PGTY_hugetlb"),
        Question::Value("pagetype", "PG_hugetlb"),
    ),
    (
        "PAGE_UNACCEPTED_MAPCOUNT_VALUE",
        Question::Value("pagetype", "PGTY_unaccepted"),
        Question::Value("pagetype", "PG_unaccepted"),
    ),
];

const ANSWERS: usize =
    OFFSETS.len() + SIZES.len() + LENGTHS.len() + NUMBERS.len() + 2 * TYPES.len();
const _: () = assert!(ANSWERS <= btf::MAX_QUESTIONS);

/// All questions, in the order of their answers.
#[expect(
    clippy::indexing_slicing,
    reason = "computed by the compiler, for which a wrong index is an error"
)]
const QUESTIONS: [Question; ANSWERS] = {
    let mut all = [Question::Size("page"); ANSWERS];
    let mut next = 0;
    let mut table = 0;
    while table < 4 {
        let part = [OFFSETS, SIZES, LENGTHS, NUMBERS][table];
        let mut index = 0;
        while index < part.len() {
            all[next] = part[index].1;
            next += 1;
            index += 1;
        }
        table += 1;
    }
    let mut index = 0;
    while index < TYPES.len() {
        all[next] = TYPES[index].1;
        all[next + 1] = TYPES[index].2;
        next += 2;
        index += 1;
    }
    all
};

/// Symbols that VMCOREINFO does not have.
const SYMBOLS: [&str; 5] = [
    "__start_BTF",
    "__stop_BTF",
    "vm_zone_stat",
    "vm_node_stat",
    "_totalram_pages",
];

/// How far the kernel could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// It was asked for nothing: it is older than 6.0.
    NotAsked,
    /// Its symbols cannot be read.
    NoSymbols(&'static str),
    /// Its symbols were read, and it has no readable description of its types.
    NoTypes(&'static str),
    /// Both were read.
    Read,
}

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => f.write_str("not asked"),
            Self::NoSymbols(why) => write!(f, "its symbol table cannot be used: {why}"),
            Self::NoTypes(why) => write!(f, "its BTF cannot be used: {why}"),
            Self::Read => f.write_str("read"),
        }
    }
}

/// The facts, by the names that VMCOREINFO has for them.
pub(crate) struct Known<'a> {
    info: Vmcoreinfo<'a>,
    release: Option<Release>,
    symbols: [Option<VirtAddr>; SYMBOLS.len()],
    answers: [Option<u64>; ANSWERS],
    own: Own,
}

impl<'a> Known<'a> {
    /// VMCOREINFO alone.
    pub(crate) fn told(info: Vmcoreinfo<'a>) -> Self {
        Self {
            release: info.value("OSRELEASE").and_then(Release::parse),
            info,
            symbols: [None; SYMBOLS.len()],
            answers: [None; ANSWERS],
            own: Own::NotAsked,
        }
    }

    /// VMCOREINFO and what the kernel says of itself. `memory` has [`KNOWN_BYTES`].
    pub(crate) fn resolve<S: Source>(vmcore: &mut Vmcore<'a, S>, memory: &mut [u8]) -> Self {
        let mut known = Self::told(vmcore.vmcoreinfo());
        known.own = known.ask(vmcore, memory);
        known
    }

    fn ask<S: Source>(&mut self, vmcore: &mut Vmcore<'a, S>, memory: &mut [u8]) -> Own {
        if self.info.symbol("kallsyms_names").is_none() {
            return Own::NotAsked;
        }
        let abi = vmcore.abi();
        let mut read = |address, buf: &mut [u8]| vmcore.read_by_tables(address, buf).is_ok();
        if let Err(why) = kallsyms::find(
            abi,
            &self.info,
            &mut read,
            memory,
            &SYMBOLS,
            &mut self.symbols,
        ) {
            return Own::NoSymbols(why);
        }
        let [Some(start), Some(stop), ..] = self.symbols else {
            return Own::NoTypes("it was built without");
        };
        match Btf::open(abi, start, stop, &mut read) {
            Ok(btf) => {
                btf.ask(&mut read, memory, &QUESTIONS, &mut self.answers);
                Own::Read
            }
            Err(why) => Own::NoTypes(why),
        }
    }

    /// How far the kernel could be asked.
    pub(crate) const fn own(&self) -> Own {
        self.own
    }

    /// The kernel's version; `None` where its release does not begin with one.
    pub(crate) const fn release(&self) -> Option<Release> {
        self.release
    }

    /// `SYMBOL(name)`.
    pub(crate) fn symbol(&self, name: &str) -> Option<VirtAddr> {
        self.info.symbol(name).or_else(|| {
            let index = SYMBOLS.iter().position(|&known| known == name)?;
            self.symbols.get(index).copied().flatten()
        })
    }

    /// `OFFSET(name)`.
    pub(crate) fn offset(&self, name: &str) -> Option<usize> {
        self.info
            .offset(name)
            .or_else(|| usize::try_from(self.answer(0, OFFSETS, name)?).ok())
    }

    /// `SIZE(name)`.
    pub(crate) fn size(&self, name: &str) -> Option<usize> {
        self.info
            .size(name)
            .or_else(|| usize::try_from(self.answer(OFFSETS.len(), SIZES, name)?).ok())
    }

    /// `LENGTH(name)`.
    pub(crate) fn length(&self, name: &str) -> Option<u64> {
        const BEFORE: usize = OFFSETS.len() + SIZES.len();
        self.info
            .length(name)
            .or_else(|| self.answer(BEFORE, LENGTHS, name))
    }

    /// `NUMBER(name)`.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        const BEFORE: usize = OFFSETS.len() + SIZES.len() + LENGTHS.len();
        self.info.number(name).or_else(|| match name {
            "PG_head_mask" => {
                let bit = u32::try_from(self.number("PG_head")?).ok()?;
                1_u64.checked_shl(bit).map(u64::cast_signed)
            }
            _ => Some(self.answer(BEFORE, NUMBERS, name)?.cast_signed()),
        })
    }

    /// `NUMBER(name)` as the 32 bits of a page type.
    pub(crate) fn page_type(&self, name: &str) -> Option<u32> {
        const BEFORE: usize = OFFSETS.len() + SIZES.len() + LENGTHS.len() + NUMBERS.len();
        self.info.page_type(name).or_else(|| {
            let index = TYPES.iter().position(|(known, ..)| *known == name)?;
            let place = index.checked_mul(2)?.checked_add(BEFORE)?;
            let answer = |place: usize| {
                let value = self.answers.get(place).copied().flatten()?;
                u32::try_from(value & u64::from(u32::MAX)).ok()
            };
            match answer(place) {
                // The type is the top byte.
                Some(byte) if byte <= 0xff => byte.checked_shl(24),
                _ => answer(place.checked_add(1)?).map(|bit| !bit),
            }
        })
    }

    fn answer(&self, before: usize, table: &[(&str, Question)], name: &str) -> Option<u64> {
        let index = table.iter().position(|(known, _)| *known == name)?;
        self.answers
            .get(before.checked_add(index)?)
            .copied()
            .flatten()
    }
}
