// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which pages are kept at which level, and that they are kept whole.

use std::collections::BTreeSet;

use collector::{
    CollectError, IoError, MEMORY_BYTES, Means, OPEN_BYTES, Stats, Vmcore, collect_with,
};
use config::{CollectOptions, Compression, DumpLevel, Format};

use crate::collecting::{Late, Log, Run};
use crate::dumpfile::{Disk, Dumpfile};
use crate::machine::{Config, File, Generation, Kind, Machine, MapKind, PAGE, Shape};
use crate::mixed::{V6_1, V6_12, finished, mixed};

fn collect(file: File, level: u8) -> (Dumpfile, Stats, Log) {
    let outcome = Run::default().collect(file, level);
    let stats = outcome.result.unwrap();
    (Dumpfile::read(&outcome.disk.bytes), stats, outcome.log)
}

pub(crate) fn check(machine: &Machine, file: File, level: u8) {
    let about = format!("{:?} {:?}, level {level}", machine.target, machine.config);
    let outcome = Run::default().collect(file, level);
    let (stats, log) = (outcome.result.unwrap(), outcome.log);
    let dump = Dumpfile::read_of(machine.target, &outcome.disk.bytes);
    let expected = machine.expected(level);
    let kept: BTreeSet<u64> = dump.pages.keys().copied().collect();
    let different: Vec<String> = kept
        .symmetric_difference(&expected)
        .map(|pfn| format!("{pfn:#x} {:?}", machine.kind(*pfn)))
        .take(8)
        .collect();
    assert_eq!(different, [""; 0], "{about}");
    let present: Vec<u64> = machine.present().into_iter().collect();
    assert_eq!(dump.present, present, "{about}");
    let mut zero_offsets = BTreeSet::new();
    let mut zero = 0;
    for (&pfn, (offset, page)) in &dump.pages {
        assert!(*page == machine.page(pfn), "page {pfn:#x}, {about}");
        if level & 1 != 0 && page.iter().all(|&byte| byte == 0) {
            zero_offsets.insert(*offset);
            zero += 1;
        }
    }
    assert!(zero_offsets.len() <= 1, "{about}");
    let count = |kind: Kind| {
        present
            .iter()
            .filter(|&&pfn| machine.kind(pfn) == kind && kind.is_excluded(level))
            .count() as u64
    };
    assert_eq!(
        stats,
        Stats {
            level_used: DumpLevel::new(level).unwrap(),
            present: present.len() as u64,
            missing: 0,
            zero,
            cache: count(Kind::Cache),
            cache_private: count(Kind::CachePrivate),
            user: count(Kind::User),
            free: count(Kind::Free),
            hwpoison: count(Kind::Hwpoison),
            offline: count(Kind::Offline),
            kept: expected.len() as u64 - zero,
            unreadable: 0,
            written_bytes: stats.written_bytes,
        },
        "{about}"
    );
    assert_eq!(log.warnings, [""; 0], "{about}");
    assert_eq!(log.stages, BTreeSet::from([0, 1, 2]), "{about}");
    assert_eq!(dump.level, u32::from(level), "{about}");
}

#[test]
fn every_level_keeps_what_it_should_on_6_1() {
    let machine = finished(V6_1);
    let file = machine.vmcore();
    for level in 0..32 {
        check(&machine, file.clone(), level);
    }
}

#[test]
fn every_level_keeps_what_it_should_on_6_12() {
    let machine = finished(V6_12);
    let file = machine.vmcore();
    for level in 0..32 {
        check(&machine, file.clone(), level);
    }
}

#[test]
fn every_kernel_generation_mem_map_and_paging_is_known() {
    for generation in [
        Generation::V6_1,
        Generation::V6_4,
        Generation::V6_6,
        Generation::V6_12,
    ] {
        for map in [
            MapKind::VmemmapLarge,
            MapKind::VmemmapSmall,
            MapKind::Sparse,
            MapKind::SparseStatic,
            MapKind::Flat,
        ] {
            let mut machine = mixed(Config {
                generation,
                five_levels: map == MapKind::Sparse,
                map,
            });
            if map == MapKind::Flat {
                // There the kernel manages all memory.
                machine.unmanaged.clear();
            }
            machine.finish();
            let file = machine.vmcore();
            for level in [0, 8, 31] {
                check(&machine, file.clone(), level);
            }
        }
    }
}

#[test]
fn headers_may_be_anywhere_and_segments_in_any_order() {
    let machine = finished(V6_1);
    for shape in [
        Shape {
            headers_offset: Some(192),
            ..Shape::default()
        },
        Shape {
            reversed: true,
            ..Shape::default()
        },
        Shape {
            extended_count: true,
            ..Shape::default()
        },
    ] {
        check(&machine, machine.vmcore_with(&shape), 31);
    }
}

#[test]
fn the_header_tells_what_the_machine_was() {
    let machine = finished(V6_12);
    let outcome = Run::default().collect(machine.vmcore(), 31);
    let dump = Dumpfile::read(&outcome.disk.bytes);
    assert_eq!(dump.status, 0);
    assert_eq!(dump.release, "6.12.0-synthetic");
    assert_eq!(dump.crash_time, 1_700_000_000);
    assert_eq!(dump.cpus, 2);
    assert!(dump.phys_base < 0);
    let text = String::from_utf8(dump.vmcoreinfo).unwrap();
    assert!(text.starts_with("OSRELEASE=6.12.0-synthetic\n"), "{text}");
    assert!(text.contains(&format!("NUMBER(phys_base)={}\n", dump.phys_base)));
    let written_bytes = outcome.result.unwrap().written_bytes;
    assert_eq!(written_bytes, outcome.disk.bytes.len() as u64);
}

#[test]
fn a_device_dump_before_the_other_notes_is_kept() {
    let mut machine = mixed(V6_1);
    machine.add_note(b"LINUX\0\0\0", 0x700, vec![0x5a; 300_000]);
    machine.finish();
    check(&machine, machine.vmcore(), 31);
    let (dump, _, _) = collect(machine.vmcore(), 31);
    assert!(dump.vmcoreinfo.starts_with(b"OSRELEASE="));
}

#[test]
fn zlib_makes_it_smaller_and_the_pages_are_the_same() {
    let machine = finished(V6_12);
    let run = Run {
        compression: Compression::Zlib,
        ..Run::default()
    };
    let outcome = run.collect(machine.vmcore(), 9);
    let stats = outcome.result.unwrap();
    let dump = Dumpfile::read(&outcome.disk.bytes);
    assert_eq!(dump.status, 1);
    for (&pfn, (_, page)) in &dump.pages {
        assert!(*page == machine.page(pfn), "{pfn:#x}");
    }
    assert!(stats.written_bytes < stats.kept * PAGE / 4);
    assert_eq!(stats.written_bytes, outcome.disk.bytes.len() as u64);
}

#[test]
fn many_windows_give_the_same_bytes_as_one() {
    for config in [V6_1, V6_12] {
        let machine = finished(config);
        for level in [0, 17, 31] {
            let one = Run::default().collect(machine.vmcore(), level);
            for window_pages in [1, 512, 1024, 2560] {
                let run = Run {
                    window_pages,
                    ..Run::default()
                };
                let many = run.collect(machine.vmcore(), level);
                assert_eq!(many.result, one.result, "{config:?} {window_pages}");
                assert!(
                    many.disk.bytes == one.disk.bytes,
                    "{config:?} {window_pages}"
                );
            }
        }
    }
}

#[test]
fn workers_make_the_same_bytes_however_late_they_are() {
    let machine = finished(V6_1);
    let mut file = machine.vmcore();
    // Some that cannot be read, across the end of a batch.
    let offset = file.offset_of(0x480 * PAGE);
    file.unreadable.push((offset, offset + 3 * PAGE));
    for compression in [Compression::None, Compression::Zlib, Compression::Lzo] {
        for level in [0, 1, 31] {
            let one = Run {
                compression,
                ..Run::default()
            }
            .collect(file.clone(), level);
            for (batches, window_pages) in [(1, u64::MAX), (2, 512), (4, u64::MAX), (9, 1024)] {
                let many = Run {
                    compression,
                    batches,
                    window_pages,
                    ..Run::default()
                }
                .collect(file.clone(), level);
                let what = format!("{compression} level {level}, {batches} batches");
                assert_eq!(many.result, one.result, "{what}");
                assert_eq!(many.log.warnings, one.log.warnings, "{what}");
                assert_eq!(many.log.last, one.log.last, "{what}");
                assert!(many.disk.bytes == one.disk.bytes, "{what}");
            }
        }
    }
}

#[test]
fn workers_of_another_compression_are_refused() {
    let machine = finished(V6_1);
    let mut open_memory = vec![0; OPEN_BYTES];
    let mut memory = vec![0; MEMORY_BYTES];
    let file = machine.vmcore();
    let mut vmcore = Vmcore::open(file.clone(), &mut open_memory).unwrap();
    let means = Means {
        workers: Some(&mut Late::new(file, Compression::None, 2)),
        ..Means::new(&mut memory)
    };
    let options = CollectOptions::standard();
    let mut disk = Disk::new();
    let result = collect_with(
        &mut vmcore,
        &options,
        DumpLevel::MAX,
        means,
        &mut disk,
        &mut (),
    );
    assert!(matches!(result, Err(CollectError::Unsupported(_))));
    assert!(disk.bytes.is_empty());
}

#[test]
fn memory_may_begin_again_far_up() {
    // Windows of 64 MiB of memory, and the next page 1 TiB on; the machine's sections end at 64 GiB.
    let mut machine = mixed(V6_12);
    machine.ram.push((1 << 40, (1 << 40) + PAGE));
    machine
        .ram
        .push(((1 << 40) + 5 * PAGE, (1 << 40) + 6 * PAGE));
    machine.unmanaged.insert((1 << 40) >> 21);
    machine.finish();
    for (key, value) in &mut machine.info {
        if key == "NUMBER(MAX_PHYSMEM_BITS)" {
            *value = "46".to_owned();
        }
        if key == "LENGTH(mem_section)" {
            *value = (1_u64 << (46 - 21 - 8)).to_string();
        }
    }
    for window_pages in [0x4000, u64::MAX] {
        let run = Run {
            window_pages,
            ..Run::default()
        };
        let outcome = run.collect(machine.vmcore(), 31);
        let dump = Dumpfile::read(&outcome.disk.bytes);
        let kept: BTreeSet<u64> = dump.pages.keys().copied().collect();
        assert_eq!(kept, machine.expected(31));
        assert_eq!(
            outcome.result.unwrap().present,
            machine.present().len() as u64
        );
    }
}

#[test]
fn a_missing_key_keeps_pages_and_never_costs_one() {
    for config in [
        V6_1,
        V6_12,
        Config {
            map: MapKind::Flat,
            ..V6_1
        },
    ] {
        let mut machine = mixed(config);
        if config.map == MapKind::Flat {
            machine.unmanaged.clear();
        }
        machine.finish();
        let info = machine.info.clone();
        for missing in 0..info.len() {
            machine.info = info.clone();
            let (key, _) = machine.info.remove(missing);
            for level in [8, 31] {
                let (dump, stats, log) = collect(machine.vmcore(), level);
                for pfn in machine.expected(level) {
                    // What a key alone tells is that a page's memory is broken or gone.
                    assert!(dump.pages.contains_key(&pfn), "without {key}: {pfn:#x}");
                }
                let lowered = stats.level_used.number() != level;
                if lowered {
                    assert_eq!(stats.level_used.number(), level & 1, "without {key}");
                    assert_eq!(log.warnings.len(), 1, "without {key}");
                    assert!(log.warnings[0].contains("is lowered to"), "without {key}");
                }
            }
        }
    }
}

#[test]
fn a_rule_that_is_off_is_named_with_its_key() {
    let mut machine = finished(V6_12);
    machine
        .info
        .retain(|(key, _)| key != "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)");
    let (dump, stats, log) = collect(machine.vmcore(), 31);
    assert_eq!(
        log.warnings,
        ["free pages are kept: VMCOREINFO has no NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)"]
    );
    assert_eq!(stats.free, 0);
    assert!(dump.pages.contains_key(&0x400));
    let (_, _, log) = collect(machine.vmcore(), 15);
    assert_eq!(log.warnings, [""; 0]);
}

#[test]
fn page_tables_that_lead_elsewhere_lower_the_level_to_zero_pages() {
    let mut machine = finished(V6_1);
    for (key, value) in &mut machine.info {
        if key == "NUMBER(phys_base)" {
            *value = (value.parse::<i64>().unwrap() + 4096).to_string();
        }
    }
    let (dump, stats, log) = collect(machine.vmcore(), 31);
    assert_eq!(stats.level_used.number(), 1);
    assert_eq!(dump.pages.len(), machine.present().len());
    assert_eq!(dump.release, "6.1.0-synthetic");
    assert_eq!(log.warnings.len(), 1);
    assert!(
        log.warnings[0]
            .starts_with("dump level 31 is lowered to 1, as this vmcore cannot be filtered: "),
        "{:?}",
        log.warnings
    );
}

#[test]
fn rules_that_would_leave_out_the_kernels_image_are_not_used() {
    let mut machine = mixed(V6_12);
    machine.anon(machine.image_pfn());
    machine.finish();
    for (level, used) in [(31, 1), (8, 0), (23, 23)] {
        let (dump, stats, log) = collect(machine.vmcore(), level);
        assert_eq!(stats.level_used.number(), used);
        if used == level {
            assert_eq!(log.warnings, [""; 0]);
        } else {
            assert_eq!(dump.pages.len(), machine.present().len());
            assert!(
                log.warnings[0].ends_with("the kernel's own image"),
                "{:?}",
                log.warnings
            );
        }
    }
}

#[test]
fn numbers_that_cannot_be_right_cost_no_page() {
    for (key, wrong) in [
        ("NUMBER(MAX_PHYSMEM_BITS)", "0"),
        ("NUMBER(MAX_PHYSMEM_BITS)", "20"),
        ("SIZE(page)", "65"),
        ("OFFSET(page.flags)", "9"),
        ("OFFSET(page.mapping)", "25"),
        ("OFFSET(page._mapcount)", "49"),
        ("OFFSET(page.private)", "41"),
        ("OFFSET(page.compound_head)", "9"),
    ] {
        let mut machine = finished(V6_12);
        for (found, value) in &mut machine.info {
            if found == key {
                *value = wrong.to_owned();
            }
        }
        let (dump, _, log) = collect(machine.vmcore(), 31);
        for pfn in machine.expected(31) {
            assert!(dump.pages.contains_key(&pfn), "{key}={wrong}: {pfn:#x}");
        }
        assert!(!log.warnings.is_empty(), "{key}={wrong}");
    }
}

#[test]
fn a_vmcore_without_vmcoreinfo_is_dumped_whole() {
    let mut machine = finished(V6_1);
    machine.info.clear();
    let (dump, stats, log) = collect(machine.vmcore(), 31);
    assert_eq!(stats.level_used.number(), 1);
    assert_eq!(dump.pages.len(), machine.present().len());
    assert!(
        log.warnings[0].ends_with("it has no VMCOREINFO"),
        "{:?}",
        log.warnings
    );
}

#[test]
fn struct_pages_that_are_not_mapped_keep_their_pages() {
    let machine = finished(V6_12);
    let mut file = machine.vmcore();
    // The mem_map's pages of the section at 0x800 are the only ones that have a hugetlb head in their first struct;
    // without its page table entry the section's pages are not known.
    let leaf = machine.mem_map_entry(0x800);
    let place = file.offset_of(leaf) as usize;
    file.bytes[place] = 0;
    let (dump, stats, log) = collect(file, 31);
    assert!((0x800..0x900).all(|pfn| dump.pages.contains_key(&pfn)));
    assert_eq!(
        log.warnings,
        ["256 pages are kept, as their struct page cannot be read"]
    );
    assert_eq!(stats.user, 4 + 4 + 32);
}

#[test]
fn unreadable_pages_become_zeros_and_are_counted() {
    let machine = finished(V6_1);
    let mut file = machine.vmcore();
    for (from, to) in [(0x107, 0x109), (0x130, 0x131)] {
        let offset = file.offset_of(from * PAGE);
        file.unreadable.push((offset, offset + (to - from) * PAGE));
    }
    let outcome = Run::default().collect(file, 31);
    let stats = outcome.result.unwrap();
    assert_eq!(stats.unreadable, 3);
    let dump = Dumpfile::read(&outcome.disk.bytes);
    for (&pfn, (_, page)) in &dump.pages {
        if [0x107, 0x108, 0x130].contains(&pfn) {
            assert_eq!(page, &vec![0; 4096], "{pfn:#x}");
        } else {
            assert!(*page == machine.page(pfn), "{pfn:#x}");
        }
    }
    assert_eq!(outcome.log.warnings.len(), 2, "{:?}", outcome.log.warnings);
    assert!(outcome.log.warnings[0].starts_with("2 pages from pfn 0x107 on are zeros"));
}

#[test]
fn a_full_disk_leaves_an_incomplete_dumpfile_that_can_be_read() {
    let machine = finished(V6_1);
    let whole = Run::default().collect(machine.vmcore(), 0);
    let size = whole.disk.bytes.len() as u64;
    for (window_pages, batches) in [(512, 0), (u64::MAX, 0), (512, 3), (u64::MAX, 4)] {
        for tenth in 3..10 {
            let limit = size * tenth / 10;
            let run = Run {
                limit,
                window_pages,
                batches,
                ..Run::default()
            };
            let outcome = run.collect(machine.vmcore(), 0);
            let Err(CollectError::Sink(_, IoError::NO_SPACE)) = outcome.result else {
                panic!("{:?}", outcome.result);
            };
            let dump = Dumpfile::read(&outcome.disk.bytes);
            assert_eq!(dump.status, 8);
            assert!(!dump.pages.is_empty(), "{window_pages} {tenth}");
            for (&pfn, (_, page)) in &dump.pages {
                assert!(*page == machine.page(pfn), "{pfn:#x}");
            }
        }
    }
}

#[test]
fn a_copy_has_every_byte() {
    let machine = finished(V6_1);
    let mut file = machine.vmcore();
    let run = Run {
        format: Format::Copy,
        ..Run::default()
    };
    let outcome = run.collect(file.clone(), 0);
    assert!(outcome.disk.bytes == file.bytes);
    let stats = outcome.result.unwrap();
    assert_eq!(stats.kept, machine.present().len() as u64);
    assert_eq!(stats.written_bytes, file.bytes.len() as u64);

    let offset = file.offset_of(0x480 * PAGE);
    file.unreadable.push((offset, offset + 100));
    let mut expected = file.bytes.clone();
    expected[offset as usize..offset as usize + 4096].fill(0);
    let outcome = run.collect(file, 0);
    assert!(outcome.disk.bytes == expected);
    assert_eq!(outcome.result.unwrap().unreadable, 1);
    assert_eq!(outcome.log.warnings.len(), 2);
}

#[test]
fn a_filtered_elf_file_has_the_pages_that_are_kept() {
    let run = Run {
        format: Format::Elf,
        ..Run::default()
    };
    let vmcore = finished(V6_1).vmcore();
    let outcome = run.collect(vmcore.clone(), 31);
    let stats = outcome.result.unwrap();
    assert!(stats.kept > 0 && stats.kept < stats.present);
    assert_eq!(stats.written_bytes, outcome.disk.bytes.len() as u64);
    let mut memory = vec![0; OPEN_BYTES];
    let filtered = Vmcore::open(
        File {
            bytes: outcome.disk.bytes,
            ..vmcore
        },
        &mut memory,
    )
    .unwrap();
    assert_eq!(filtered.release(), "6.1.0-synthetic");
    // Short stretches of others are written along with them.
    let written = filtered.present_pages();
    assert!(
        written >= stats.kept && written < stats.present,
        "{written}"
    );
}
