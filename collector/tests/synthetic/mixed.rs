// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine with pages of every kind, in awkward places.

use crate::machine::{Compound, Config, Generation, Machine, MapKind, PAGE};

/// One of everything, in awkward places.
pub(crate) fn mixed(config: Config) -> Machine {
    let bytes = |from: u64, to: u64| (from * PAGE, to * PAGE);
    let kernel_end = match config.map {
        MapKind::VmemmapLarge => 0x2400,
        _ => 0x2100,
    };
    let ram = [
        bytes(0x100, 0x200),
        // A gap inside a free block.
        bytes(0x400, 0x500),
        bytes(0x700, 0x900),
        // Parts of pages.
        (0xe00 * PAGE + 0x300, 0xe04 * PAGE + 0x80),
        (0xe04 * PAGE + 0xa00, 0xe06 * PAGE),
        // Memory that the kernel does not manage.
        bytes(0x1000, 0x1004),
        bytes(0x2000, kernel_end),
    ];
    let mut machine = Machine::new(config, &ram, 0x2000..kernel_end);
    machine.unmanaged.insert(0x1000 / 512);
    let cache = machine.one_of_each(0x100);
    machine.cache(cache);
    machine.zero(cache);
    // Compound pages of a few orders.
    machine.compound(0x120, 2, Compound::Anon);
    machine.compound(0x124, 2, Compound::Cache);
    machine.compound(0x128, 3, Compound::Slab);
    machine.compound(0x130, 4, Compound::Other);
    machine.poison_tail(0x133);
    machine.compound(0x140, 5, Compound::Hugetlb);
    machine.free(0x160, 5);
    // At the end of a batch of 512 pages.
    machine.anon(0x1ff);
    // A block of 1024 pages that crosses sections, and of which half is not there.
    machine.free(0x400, 10);
    // A huge page that crosses sections.
    machine.compound(0x800, 8, Compound::Hugetlb);
    for pfn in 0xe00..0xe06 {
        machine.cache(pfn);
    }
    machine.slab(0xe03);
    machine.slab(0xe04);
    machine.anon(0x1000);
    machine
}

pub(crate) fn finished(config: Config) -> Machine {
    let mut machine = mixed(config);
    machine.finish();
    machine
}

pub(crate) const V6_1: Config = Config {
    generation: Generation::V6_1,
    five_levels: false,
    map: MapKind::VmemmapLarge,
};
pub(crate) const V6_12: Config = Config {
    generation: Generation::V6_12,
    five_levels: true,
    map: MapKind::VmemmapSmall,
};
