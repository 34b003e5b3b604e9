// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every architecture: pages of all kinds at all levels, the log, odd headers, and damage.

use collector::{MEMORY_BYTES, OPEN_BYTES, Vmcore, dmesg};

use crate::collecting::Run;
use crate::damage::{self, Damaged};
use crate::dumpfile::Dumpfile;
use crate::levels::check;
use crate::machine::{Compound, Config, File, Generation, Machine, MapKind, Mmu, Shape, Target};
use crate::ring::{Entry, Ring};

const TARGETS: &[Target] = &[
    Target::I386 {
        pae: false,
        elf64: false,
    },
    Target::I386 {
        pae: true,
        elf64: false,
    },
    Target::I386 {
        pae: true,
        elf64: true,
    },
    arm64(12, 39, 39),
    arm64(12, 48, 48),
    arm64(12, 52, 52),
    arm64(12, 52, 48),
    arm64(14, 36, 36),
    arm64(14, 47, 47),
    arm64(14, 48, 48),
    arm64(14, 52, 52),
    arm64(14, 52, 47),
    arm64(16, 42, 42),
    arm64(16, 48, 48),
    arm64(16, 52, 52),
    arm64(16, 52, 48),
    Target::Ppc64 {
        page_shift: 16,
        mmu: Mmu::Radix,
    },
    Target::Ppc64 {
        page_shift: 16,
        mmu: Mmu::RadixByFeatures,
    },
    Target::Ppc64 {
        page_shift: 16,
        mmu: Mmu::Hash,
    },
    Target::Ppc64 {
        page_shift: 12,
        mmu: Mmu::Radix,
    },
    Target::Ppc64 {
        page_shift: 12,
        mmu: Mmu::Hash,
    },
    Target::Riscv64 { bits: 39 },
    Target::Riscv64 { bits: 48 },
    Target::Riscv64 { bits: 57 },
    Target::S390x {
        moved: false,
        levels: 4,
    },
    Target::S390x {
        moved: true,
        levels: 4,
    },
    Target::S390x {
        moved: true,
        levels: 5,
    },
];

const fn arm64(page_shift: u32, built_bits: u32, bits: u32) -> Target {
    Target::Arm64 {
        page_shift,
        built_bits,
        bits,
    }
}

/// One of each kind whose vmcore is small: what is tried again and again.
fn small() -> impl Iterator<Item = Target> {
    let kind = |target: Target| {
        let in_list = matches!(target, Target::Ppc64 { mmu: Mmu::Hash, .. });
        (target.e_machine(), target.levels(), in_list)
    };
    let is_first = move |&(index, target): &(usize, &Target)| {
        let mut before = TARGETS[..index].iter();
        target.page_shift() == 12 && !before.any(|&other| kind(other) == kind(*target))
    };
    let first = TARGETS.iter().enumerate().filter(is_first);
    first.map(|(_, &target)| target)
}

/// The ways in which this kind of machine has its mem_map.
fn maps(target: Target) -> &'static [MapKind] {
    match target {
        Target::I386 { .. } => &[MapKind::Sparse, MapKind::SparseStatic, MapKind::Flat],
        Target::Ppc64 { mmu: Mmu::Hash, .. } => &[MapKind::VmemmapSmall, MapKind::Sparse],
        // A large page of theirs would be most of the machine's memory.
        Target::Arm64 { page_shift, .. } if page_shift > 12 => &[MapKind::VmemmapSmall],
        Target::Riscv64 { .. } => &[MapKind::VmemmapLarge, MapKind::VmemmapSmall, MapKind::Flat],
        _ => &[MapKind::VmemmapLarge, MapKind::VmemmapSmall],
    }
}

/// A little of everything. The kernel's own tables are in as few pages as they need.
fn machine(target: Target, config: Config) -> Machine {
    let size = target.page_bytes();
    let base = target.places().ram / size;
    let large_pages = match config.map {
        MapKind::VmemmapLarge => 0x400,
        _ => 0,
    };
    // Tables of small pages have less room in each.
    let table_pages = if size > 4096 { 0x60 } else { 0xc0 };
    let kernel = base + 0x600..base + 0x600 + table_pages + large_pages;
    let ram = [
        ((base + 0x100) * size, (base + 0x138) * size),
        // Half of a free block.
        ((base + 0x400) * size, (base + 0x410) * size),
        // Parts of pages.
        ((base + 0x420) * size + 0x300, (base + 0x422) * size + 0x80),
        (kernel.start * size, kernel.end * size),
    ];
    let mut machine = Machine::new_on(target, config, &ram, kernel);
    machine.one_of_each(base + 0x100);
    machine.compound(base + 0x110, 2, Compound::Anon);
    machine.compound(base + 0x114, 2, Compound::Cache);
    machine.compound(base + 0x118, 2, Compound::Slab);
    machine.compound(base + 0x120, 3, Compound::Hugetlb);
    machine.compound(base + 0x128, 2, Compound::Other);
    machine.poison_tail(base + 0x12a);
    machine.free(base + 0x130, 3);
    machine.free(base + 0x400, 5);
    machine.cache(base + 0x420);
    machine.anon(base + 0x421);
    machine
}

const RING: Ring = Ring {
    count_bits: 5,
    size_bits: 10,
    first_id: 7,
    first_position: 1000,
    fills_end: true,
};

fn entries() -> Vec<Entry> {
    (0..30)
        .map(|number| Entry::new(number * 1_500_000_000, &format!("line {number} of the log")))
        .collect()
}

/// With a log, and the lines of it that are still there.
fn finished(target: Target, generation: Generation, map: MapKind) -> (Machine, String) {
    let config = Config {
        generation,
        five_levels: false,
        map,
    };
    let mut machine = machine(target, config);
    let entries = entries();
    let gone = RING.write(&mut machine, &entries);
    machine.finish();
    let lines = entries[gone..].iter().map(|entry| {
        let millis = entry.time_ns / 1_000_000;
        let text = String::from_utf8(entry.text.clone()).unwrap();
        format!("[{:5}.{:03}000] {text}\n", millis / 1000, millis % 1000)
    });
    (machine, lines.collect())
}

fn log(file: File) -> String {
    let mut open_memory = vec![0; OPEN_BYTES];
    let mut memory = vec![0; MEMORY_BYTES];
    let mut vmcore = Vmcore::open(file, &mut open_memory).unwrap();
    let mut out = Vec::new();
    dmesg::write(&mut vmcore, &mut memory, &mut |text| {
        out.extend(text);
        Ok(())
    })
    .unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn every_machine_is_filtered_and_its_log_read() {
    for &target in TARGETS {
        for &map in maps(target) {
            for generation in [Generation::V6_1, Generation::V6_12] {
                let (machine, expected_log) = finished(target, generation, map);
                let file = machine.vmcore();
                assert_eq!(log(file.clone()), expected_log, "{target:?} {map:?}");
                // Vmcores of large pages are large.
                let levels = match target.page_shift() {
                    12 => [0, 1, 8, 16, 31].as_slice(),
                    _ => &[9, 31],
                };
                for &level in levels {
                    check(&machine, file.clone(), level);
                }
            }
        }
    }
}

#[test]
fn every_level_keeps_what_it_should_on_32_bits_and_big_endian() {
    for target in [
        Target::I386 {
            pae: true,
            elf64: false,
        },
        Target::S390x {
            moved: true,
            levels: 4,
        },
    ] {
        let (machine, _) = finished(target, Generation::V6_12, maps(target)[0]);
        let file = machine.vmcore();
        for level in 0..32 {
            check(&machine, file.clone(), level);
        }
    }
}

#[test]
fn the_header_is_as_that_machine_has_it() {
    for &target in TARGETS {
        let (machine, _) = finished(target, Generation::V6_1, maps(target)[0]);
        let outcome = Run::default().collect(machine.vmcore(), 31);
        let dump = Dumpfile::read_of(target, &outcome.disk.bytes);
        assert_eq!(dump.status, 0, "{target:?}");
        assert_eq!(dump.release, "6.1.0-synthetic");
        assert_eq!((dump.crash_time, dump.cpus), (1_700_000_000, 2));
        let text = String::from_utf8(dump.vmcoreinfo).unwrap();
        assert!(text.contains("\nOSRELEASE=6.1.0-synthetic\n"), "{text}");
        assert_eq!(dump.phys_base as u64, target.places().ram, "{target:?}");
    }
}

#[test]
fn a_dump_that_qemu_writes_has_no_virtual_addresses() {
    for &target in TARGETS {
        let (machine, expected_log) = finished(target, Generation::V6_12, maps(target)[0]);
        let shape = Shape {
            without_virtual_addresses: true,
            headers_offset: Some(192),
            ..Shape::default()
        };
        let file = machine.vmcore_with(&shape);
        assert_eq!(log(file.clone()), expected_log, "{target:?}");
        check(&machine, file, 31);
    }
}

#[test]
fn more_headers_than_their_field_can_count() {
    for target in [TARGETS[0], TARGETS[4], TARGETS[TARGETS.len() - 1]] {
        let (machine, _) = finished(target, Generation::V6_12, maps(target)[0]);
        for padding_headers in [65_529, 65_530, 70_000] {
            let shape = Shape {
                padding_headers,
                ..Shape::default()
            };
            check(&machine, machine.vmcore_with(&shape), 31);
        }
    }
}

#[test]
fn what_the_tables_lead_to_is_checked() {
    for &target in TARGETS {
        let (mut machine, _) = finished(target, Generation::V6_12, maps(target)[0]);
        for (key, value) in &mut machine.info {
            if key == "OSRELEASE" {
                value.push('x');
            }
        }
        let outcome = Run::default().collect(machine.vmcore(), 31);
        assert_eq!(outcome.result.unwrap().level_used.number(), 1, "{target:?}");
        let warnings = outcome.log.warnings;
        assert!(warnings[0].contains("another release"), "{warnings:?}");
    }
}

#[test]
fn a_missing_key_costs_no_page_on_any_machine() {
    for target in small() {
        let (mut machine, _) = finished(target, Generation::V6_12, maps(target)[0]);
        let info = machine.info.clone();
        for missing in 0..info.len() {
            machine.info = info.clone();
            let (key, _) = machine.info.remove(missing);
            if key == "PAGESIZE" {
                continue;
            }
            let outcome = Run::default().collect(machine.vmcore(), 31);
            let about = format!("{target:?} without {key}");
            assert!(outcome.result.is_ok(), "{about}");
            let dump = Dumpfile::read_of(target, &outcome.disk.bytes);
            for pfn in machine.expected(31) {
                assert!(dump.pages.contains_key(&pfn), "{about}: {pfn:#x}");
            }
        }
    }
}

#[test]
fn every_flipped_byte_is_an_error_or_a_dump_on_every_machine() {
    let mut memory = damage::memory();
    for target in small() {
        let map = maps(target)[maps(target).len() - 1];
        let (machine, _) = finished(target, Generation::V6_12, map);
        let file = machine.vmcore();
        // Every machine in other places.
        let positions = damage::positions(&machine, &file);
        let step = 1 + positions.len() / 250;
        for (count, position) in positions.into_iter().step_by(step).enumerate() {
            let mask = if count % 4 == 3 {
                0xff
            } else {
                1 << (count % 8)
            };
            let damaged = Damaged {
                file: &file,
                size: file.bytes.len() as u64,
                flip: Some((position, mask)),
            };
            let about = format!("{target:?} {position:#x} ^ {mask:#x}");
            damage::try_everything(&mut memory, damaged, &about);
        }
    }
}

#[test]
fn every_truncation_is_an_error_or_a_dump_on_every_machine() {
    let mut memory = damage::memory();
    for target in small() {
        let map = maps(target)[maps(target).len() - 1];
        let file = finished(target, Generation::V6_1, map).0.vmcore();
        let whole = file.bytes.len() as u64;
        let behind = (whole - file.headers_bytes) / 31;
        let lengths = (0..512)
            .chain((512..file.headers_bytes).step_by(31))
            .chain((file.headers_bytes..whole).step_by(behind as usize));
        for size in lengths {
            let damaged = Damaged {
                file: &file,
                size,
                flip: None,
            };
            damage::try_everything(&mut memory, damaged, &format!("{target:?} {size} bytes"));
        }
    }
}
