// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel facts that filtering needs, resolved once and checked.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use config::DumpLevel;

use crate::address::VirtAddr;
use crate::counters::Counters;
use crate::filter::Filter;
use crate::free_lists::FreeLists;
use crate::io::Source;
use crate::kdump::Utsname;
use crate::known::{KNOWN_BYTES, Known, Own};
use crate::mem_map::MemMap;
use crate::observer::Observer;
use crate::page::{PageKind, RuleOff, Rules};
use crate::vmcore::Vmcore;

/// How a vmcore is to be filtered.
pub(crate) struct Layout {
    /// What leaves pages out; `None` where that is not sure, or not asked for.
    pub(crate) filter: Option<Filter>,
    /// The level that is really used.
    pub(crate) level: DumpLevel,
    /// The first kernel's names, for the dumpfile's header.
    pub(crate) utsname: Utsname,
    /// What the first kernel counted itself.
    pub(crate) counters: Counters,
}

/// What [`Layout::resolve`] needs of memory.
pub(crate) const LAYOUT_BYTES: usize = KNOWN_BYTES;

impl Layout {
    /// Resolves the facts for `level`. Where something does not fit, the level becomes that of the zero rule, which
    /// needs no knowledge of the kernel; where a single rule lacks its key, only that rule is off. The observer is told.
    pub(crate) fn resolve<S: Source>(
        vmcore: &mut Vmcore<'_, S>,
        level: DumpLevel,
        memory: &mut [u8],
        observer: &mut dyn Observer,
    ) -> Self {
        let checked = read_utsname(vmcore);
        let utsname = checked.unwrap_or_else(|_| {
            Utsname::new(
                "Linux",
                "(unknown)",
                match vmcore.release() {
                    "" => "(unknown)",
                    release => release,
                },
                "(unknown)",
                vmcore.machine_name().unwrap_or("(unknown)"),
            )
        });
        // What the kernel says of itself can be believed where its page tables lead to it.
        let known = match &checked {
            Ok(_) => Known::resolve(vmcore, memory),
            Err(_) => Known::told(vmcore.vmcoreinfo()),
        };
        let filter = checked.and_then(|_| resolve_filter(vmcore, &known, level, observer));
        match filter {
            Ok(filter) => Self {
                filter: Some(filter).filter(|filter| !filter.excludes_nothing()),
                level,
                utsname,
                counters: Counters::read(vmcore, &known),
            },
            Err(reason) => {
                let lowered = level.zero_rule_only();
                if lowered != level {
                    observer.warn(format_args!(
                        "dump level {level} is lowered to {lowered}, as this vmcore cannot be filtered: {reason}"
                    ));
                }
                Self {
                    filter: None,
                    level: lowered,
                    utsname,
                    counters: Counters::default(),
                }
            }
        }
    }
}

fn resolve_filter<S: Source>(
    vmcore: &mut Vmcore<'_, S>,
    known: &Known<'_>,
    level: DumpLevel,
    observer: &mut dyn Observer,
) -> Result<Filter, &'static str> {
    let defaults = vmcore
        .sparse_defaults()
        .ok_or("its architecture is not known")?;
    let mut off: heapless::Vec<RuleOff, 3> = heapless::Vec::new();
    let rules = Rules::resolve(known, vmcore.abi(), level, &mut |rule| {
        // There are three rules.
        let _ = off.push(rule);
    })?;
    let map = MemMap::resolve(vmcore, known, rules.page_bytes(), defaults)?;
    let mut free_lists = None;
    for rule in off {
        if rule.kind == PageKind::Free {
            free_lists = FreeLists::resolve(known, rules.page_bytes());
            if free_lists.is_some() {
                continue;
            }
        }
        match known.own() {
            Own::Read | Own::NotAsked => observer.warn(format_args!(
                "{} pages are kept: VMCOREINFO has no {}",
                rule.pages, rule.key
            )),
            why => observer.warn(format_args!(
                "{} pages are kept: VMCOREINFO has no {}, and the kernel itself does not tell: {why}",
                rule.pages, rule.key
            )),
        }
    }
    let mut filter = Filter::new(rules, map, free_lists);
    // Whatever else the rules make of this kernel: its own image is nothing that any level leaves out.
    for name in ["init_uts_ns", "swapper_pg_dir", "_stext"] {
        if let Some(address) = known.symbol(name)
            && let Ok((physical, _)) = vmcore.translate_by_tables(address)
            && filter.would_exclude(vmcore, physical.0.wrapping_shr(vmcore.page_shift()))
        {
            return Err("the rules would leave out the kernel's own image");
        }
    }
    Ok(filter)
}

/// Reads the first kernel's `struct new_utsname` through its page tables. That its release is the one of VMCOREINFO
/// proves that addresses are translated as they should be.
fn read_utsname<S: Source>(vmcore: &mut Vmcore<'_, S>) -> Result<Utsname, &'static str> {
    let info = vmcore.vmcoreinfo();
    if info.text().is_empty() {
        return Err("it has no VMCOREINFO");
    }
    let namespace = info
        .symbol("init_uts_ns")
        .ok_or("VMCOREINFO has no SYMBOL(init_uts_ns)")?;
    // Before 5.11 the offset was not told, and a reference count of 4 bytes came first.
    let known = info
        .offset("uts_namespace.name")
        .and_then(|offset| u64::try_from(offset).ok());
    let candidates = match known {
        Some(offset) => [offset, offset],
        None => [4, 0],
    };
    let mut result = Err("its page tables cannot be read");
    for offset in candidates {
        let Some(address) = namespace.checked_add(offset) else {
            continue;
        };
        match read_names(vmcore, address) {
            Some(names) if !names.release().is_empty() && names.release() == vmcore.release() => {
                return Ok(names);
            }
            Some(_) => result = Err("its page tables lead to another release than VMCOREINFO's"),
            None => {}
        }
    }
    result
}

fn read_names<S: Source>(vmcore: &mut Vmcore<'_, S>, address: VirtAddr) -> Option<Utsname> {
    let mut bytes = [0; Utsname::BYTES];
    vmcore.read_by_tables(address, &mut bytes).ok()?;
    Some(Utsname::from_bytes(bytes))
}
