// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kernel that says of itself what its VMCOREINFO does not: its symbols, the description of its types, and how many
//! pages of which kind it counts.

use std::collections::BTreeSet;

use collector::Stats;

use crate::collecting::{Log, Run};
use crate::dumpfile::Dumpfile;
use crate::machine::{Compound, Config, Machine, MapKind, PAGE};
use crate::mixed::{V6_12, mixed};
use crate::symbols::{Counts, TABLES, install};

fn collect(machine: &Machine, level: u8) -> (BTreeSet<u64>, Stats, Log) {
    let outcome = Run::default().collect(machine.vmcore(), level);
    let dump = Dumpfile::read(&outcome.disk.bytes);
    (
        dump.pages.keys().copied().collect(),
        outcome.result.unwrap(),
        outcome.log,
    )
}

/// The kinds of pages of the mixed machine, as the kernel would count them.
const MIXED: Counts = Counts {
    free: 1 + 32 + 1024,
    anonymous: 8,
    file: 20,
    swap: 0,
};

fn machine(counts: Counts) -> Machine {
    let config = Config {
        map: MapKind::VmemmapSmall,
        ..V6_12
    };
    let mut machine = mixed(config);
    install(&mut machine, counts);
    machine.finish();
    machine
}

/// How the keys begin that tell what a page is.
const PAGE_KEYS: [&str; 5] = [
    "NUMBER(PAGE_",
    "NUMBER(PG_",
    "OFFSET(page.",
    "SIZE(page)",
    "LENGTH(zone.free_area)",
];

#[test]
fn without_a_word_on_pages_in_vmcoreinfo_the_same_pages_are_left_out() {
    let mut machine = machine(MIXED);
    let before = machine.info.len();
    machine
        .info
        .retain(|(key, _)| !PAGE_KEYS.iter().any(|start| key.starts_with(start)));
    assert!(before - machine.info.len() > 14);
    for level in [0, 2, 8, 16, 31] {
        let (kept, stats, log) = collect(&machine, level);
        assert_eq!(log.warnings, [""; 0]);
        assert_eq!(stats.level_used.number(), level);
        assert!(kept == machine.expected(level), "{level}");
    }
}

#[test]
fn a_description_that_cannot_be_read_costs_no_page() {
    let mut machine = machine(MIXED);
    machine.info.retain(|(key, _)| !key.contains("PAGE_BUDDY"));
    for (key, value) in &mut machine.info {
        if key.contains("kallsyms_names") {
            *value = format!("{:x}", TABLES - 0x1000);
        }
    }
    let (kept, stats, log) = collect(&machine, 31);
    assert_eq!(kept, machine.expected(15));
    assert_eq!(stats.free, 0);
    assert_eq!(log.warnings.len(), 1, "{:?}", log.warnings);
    let warning = &log.warnings[0];
    assert!(warning.contains("PAGE_BUDDY"), "{warning}");
    assert!(warning.contains("symbol table cannot be used"), "{warning}");
}

/// Makes a page of one kind.
type Mark = fn(&mut Machine, u64);

/// A machine with so many pages of a kind more than the mixed one, of which the kernel counts only those of that.
fn crowded(kind: Mark) -> Machine {
    let config = Config {
        map: MapKind::VmemmapSmall,
        ..V6_12
    };
    let ram = [
        (0x1000 * PAGE, 0x3000 * PAGE),
        (0x4000 * PAGE, 0x4400 * PAGE),
    ];
    let mut machine = Machine::new(config, &ram, 0x4000..0x4400);
    for pfn in 0x1000..0x2800 {
        kind(&mut machine, pfn);
    }
    machine
}

#[test]
fn more_than_the_kernel_counts_is_not_left_out() {
    let kinds: [(Mark, u8, &str); 3] = [
        (Machine::anon, 8, "as of users"),
        (Machine::cache, 2 | 4, "as cache"),
        (|machine, pfn| machine.free(pfn, 0), 16, "as free"),
    ];
    for (kind, bits, words) in kinds {
        let mut machine = crowded(kind);
        // Counters of other processors may not be in yet, and then the sum is below zero.
        let counts = Counts {
            free: -3,
            ..Counts::default()
        };
        install(&mut machine, counts);
        machine.finish();
        for level in [bits, 31] {
            let (kept, stats, log) = collect(&machine, level);
            assert_eq!(stats.level_used.number(), level & !bits, "{words}");
            assert_eq!(kept, machine.expected(level & !bits), "{words}");
            assert_eq!(log.warnings.len(), 2, "{:?}", log.warnings);
            assert!(log.warnings[0].contains(words), "{:?}", log.warnings);
            assert!(
                log.warnings[0].starts_with("6144 pages"),
                "{:?}",
                log.warnings
            );
        }
        let (_, stats, log) = collect(&machine, 31 & !bits);
        assert_eq!(stats.level_used.number(), 31 & !bits);
        assert_eq!(log.warnings, [""; 0]);
    }
}

#[test]
fn huge_pages_are_not_counted_as_mapped_and_lower_no_level() {
    let mut machine = crowded(|machine, pfn| {
        if pfn % 512 == 0 {
            machine.compound(pfn, 9, Compound::Hugetlb);
        }
    });
    install(&mut machine, Counts::default());
    machine.finish();
    let (kept, stats, log) = collect(&machine, 8);
    assert_eq!(log.warnings, [""; 0]);
    assert_eq!(stats.user, 0x1800);
    assert_eq!(kept, machine.expected(8));
}

#[test]
fn counts_that_fit_lower_no_level() {
    let mut machine = crowded(Machine::anon);
    // As far off as processors' own counts can make it.
    let counts = Counts {
        anonymous: 0x1800 - 900,
        swap: 100,
        ..Counts::default()
    };
    install(&mut machine, counts);
    machine.finish();
    let (kept, _, log) = collect(&machine, 31);
    assert_eq!(log.warnings, [""; 0]);
    assert_eq!(kept, machine.expected(31));
}
