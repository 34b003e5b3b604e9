// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which pages are kept of machines with kernels from 2.6.24 on.

use crate::eras::{ERAS, Era, OLD, RHEL_7};
use crate::old_machine::{Old, VMEMMAP};

fn filled(era: Era) -> Old {
    let mut old = Old::new(era, 0x300);
    old.fill();
    old
}

#[test]
fn every_level_keeps_what_it_should_on_kernels_from_2_6_24_on() {
    for era in ERAS {
        let mut old = filled(era);
        old.finish();
        for level in 0..32 {
            old.check(level);
        }
    }
}

#[test]
fn nodes_may_have_a_mem_map_each() {
    let mut old = filled(OLD);
    old.finish();
    let node = old.node + 0x1900;
    for (place, word) in [(0, VMEMMAP + 0x100 * 56), (8, 0x100), (16, 0x300)] {
        old.write_word(node + place, word);
    }
    old.machine
        .info
        .retain(|(key, _)| !key.contains("mem_section"));
    for (field, offset) in [
        ("node_mem_map", 0),
        ("node_start_pfn", 8),
        ("node_spanned_pages", 16),
    ] {
        old.machine
            .add_info(&format!("OFFSET(pglist_data.{field})"), 0x1900 + offset);
    }
    for level in [0, 8, 16, 31] {
        old.check(level);
    }
}

#[test]
fn a_list_of_free_blocks_that_leads_nowhere_costs_no_page() {
    // To nothing, to a page that is no block, to a page of another order, and back to itself.
    let page = |pfn: u64| VMEMMAP + pfn * 56 + 40;
    for target in [0, 0x1234, page(0x121) + 8, page(0x101), page(0x120)] {
        let mut old = filled(OLD);
        old.free(0x1c0, 5);
        old.free(0x1e5, 0);
        old.finish();
        // The first block of order 5, in its list's only place.
        let place = 0x120 * 56 + 40;
        old.poke_struct(place, target);
        let (kept, stats, log) = old.collect(16);
        for pfn in old.expected(16) {
            assert!(kept.contains(&pfn), "{target:#x}: {pfn:#x}");
        }
        assert_eq!(log.warnings.len(), 1, "{target:#x}: {:?}", log.warnings);
        assert!(log.warnings[0].contains("lists of free pages are damaged"));
        assert!(stats.free >= 10, "{target:#x}");
    }
}

#[test]
fn a_rule_that_calls_too_much_free_is_noticed_by_the_kernels_own_count() {
    let mut old = Old::new(RHEL_7, 0x2000);
    old.fill();
    // The kernel's own pages are not among those that look free: that its image would be left out is noticed before.
    for pfn in 0x1f00..0x2100 {
        old.put(pfn, RHEL_7.mapcount, &[0; 4]);
    }
    old.finish();
    old.check(31);
    for (key, value) in &mut old.machine.info {
        if key == "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)" {
            // What all pages have that nobody maps.
            *value = "-1".to_owned();
        }
    }
    let (kept, stats, log) = old.collect(31);
    assert_eq!(stats.level_used.number(), 15);
    assert_eq!(kept, old.expected(15));
    assert_eq!(stats.free, 0);
    assert_eq!(log.warnings.len(), 2, "{:?}", log.warnings);
    assert!(
        log.warnings[0].ends_with("pages would be left out as free, and the kernel counts 41"),
        "{:?}",
        log.warnings
    );
    assert!(log.warnings[1].starts_with("dump level 31 is lowered to 15"));
}

#[test]
fn counts_that_are_not_exact_lower_no_level() {
    // Counts lag behind, and a kernel may count pages that the vmcore does not have.
    for counted in [0, 30, 41, 5000] {
        let mut old = filled(RHEL_7);
        old.counted = Some(counted);
        old.finish();
        old.check(31);
    }
}
