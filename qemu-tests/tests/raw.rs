// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dumps to a whole disk or partition, from its first byte on.

use std::fs::File;
use std::io::Read;

use std::fs;

use anyhow::Result;
use qemu_tests::case::Case;
use qemu_tests::crash::Crash;
use qemu_tests::disk::{Bus, Fault, Table};
use qemu_tests::machine::{Content, DiskPlan, Machine};
use qemu_tests::proof::{self, Known, raw_is_good, save_raw};
use qemu_tests::saved::Saved;
use qemu_tests::scene::Stage;
use qemu_tests::setup::{self, Flavour};

fn blank<'a>(bus: Bus, table: Option<(Table, &'a str)>, size_mib: u64) -> DiskPlan<'a> {
    DiskPlan {
        bus,
        table,
        ..DiskPlan::virtio(Content::Blank(size_mib))
    }
}

#[test]
fn a_whole_disk_that_every_reader_opens() -> Result<()> {
    let case = Case {
        symbols: true,
        ..Case::new(
            "raw-disk",
            Flavour::Cloud6_1,
            blank(Bus::Virtio, None, 256),
            "raw NODE\n",
        )
    };
    let capture = case.capture()?;
    capture.saved_raw()?;
    capture.clean_up()
}

#[test]
fn a_gpt_partition_by_partuuid_page_by_page_on_6_12() -> Result<()> {
    let id = "5f2c5c6e-8b6f-4f0e-9a35-0d6a7a1c9d10";
    let case = Case {
        page_exact: Some(31),
        processors: 2,
        crash: Crash::SysrqOnCpu(1),
        ..Case::new(
            "raw-gpt-6.12",
            Flavour::Cloud6_12,
            blank(Bus::Virtio, Some((Table::Gpt, id)), 256),
            "raw PARTUUID=5f2c5c6e-8b6f-4f0e-9a35-0d6a7a1c9d10\n",
        )
    };
    let capture = case.capture()?;
    capture.saved_raw()?;
    // What is beside the partition belongs to others.
    let mut disk = File::open(&capture.target.disk.image)?;
    let mut start = vec![0; 512];
    disk.read_exact(&mut start)?;
    assert_eq!(start[510..], [0x55, 0xaa], "the partition table is gone");
    capture.clean_up()
}

#[test]
fn an_mbr_partition_on_nvme() -> Result<()> {
    let case = Case::new(
        "raw-mbr-nvme",
        Flavour::Generic6_1,
        blank(Bus::Nvme, Some((Table::Mbr, "1a2b3c4d")), 256),
        "raw NODE\n",
    );
    let capture = case.capture()?;
    capture.saved_raw()?;
    capture.clean_up()
}

#[test]
fn a_sata_disk_on_6_12() -> Result<()> {
    let case = Case::new(
        "raw-ahci-6.12",
        Flavour::Generic6_12,
        blank(Bus::Ahci, None, 256),
        "raw NODE\n",
    );
    let capture = case.capture()?;
    capture.saved_raw()?;
    capture.clean_up()
}

#[test]
fn a_disk_that_is_too_small_for_the_copy_is_not_touched() -> Result<()> {
    let case = Case::new(
        "raw-too-small",
        Flavour::Cloud6_1,
        blank(Bus::Virtio, None, 64),
        "raw NODE\ncore_collector dd\n",
    );
    let capture = case.capture()?;
    proof::lines_in_order(
        &capture.outcome,
        &[
            "init ",
            "crashed kernel: ",
            "attempt 1 of 1: raw ",
            "attempt 1 of 1 failed: ",
            "final action: reboot",
        ],
    )?;
    let copy = capture.machine.work().join("copy");
    capture
        .target
        .copy_content(&copy, capture.target.size_bytes)?;
    assert!(fs::read(&copy)?.iter().all(|&byte| byte == 0));
    capture.clean_up()
}

#[test]
fn an_unfiltered_copy_is_recovered_too() -> Result<()> {
    let case = Case {
        symbols: true,
        ..Case::new(
            "raw-copy",
            Flavour::Cloud6_1,
            blank(Bus::Virtio, None, 640),
            "raw NODE\ncore_collector dd\n",
        )
    };
    let capture = case.capture()?;
    let saved = capture.saved_raw()?;
    assert_eq!(saved.manifest()?["format"], "copy");
    let dump = fs::read(saved.file("vmcore"))?;
    assert_eq!(dump[..4], *b"\x7fELF");
    // 512 MiB without the region of the capture kernel.
    assert!(dump.len() > 350 << 20, "{}", dump.len());
    capture.clean_up()
}

#[test]
fn a_disk_that_fails_midway_leaves_what_it_took() -> Result<()> {
    let stage = Stage::SMALL;
    let first = DiskPlan {
        // More than what comes before the dump, and fewer than the largest requests that it can go in.
        fault: Fault::WritesFailAfter(10),
        ..stage.disk(Content::Blank(256))
    };
    let (machine, raw, second, cycle) = stage.two_targets("raw-cut", &first, "")?;
    let outcome = cycle.run()?;
    stage.second_attempt_has_it(&machine, &second, &outcome, "attempt 2")?;
    // The disk takes no block that says how it ended: what is there says that it was under way.
    let device = machine.work().join("device");
    raw.copy_content(&device, raw.size_bytes)?;
    let said = save_raw(&device, &machine.work().join("recovered"))?;
    assert!(said.contains("INCOMPLETE dump saved to "), "{said}");
    let saved = Saved::only_in(&machine.work().join("recovered"))?;
    assert!(saved.dmesg()?.contains("Kernel panic - not syncing"));
    assert!(!saved.file("vmcore").exists());
    machine.clean_up()
}

#[test]
fn a_second_crash_spares_the_dump_that_nobody_recovered() -> Result<()> {
    let stage = Stage::SMALL;
    let first = stage.disk(Content::Blank(256));
    let (machine, raw, second, cycle) = stage.two_targets("raw-second-crash", &first, "")?;
    let kernel = stage.kernel()?;
    cycle.run()?.line("kdump: attempt 1 of 2 done: /dev/vda")?;
    let device = machine.work().join("device");
    raw.copy_content(&device, raw.size_bytes)?;
    let outcome = cycle.run()?;
    outcome.line(
        "kdump: attempt 1 of 2 failed: /dev/vda has the dump of .*, which nobody has recovered",
    )?;
    stage.second_attempt_has_it(&machine, &second, &outcome, "attempt 2")?;
    let after = machine.work().join("after");
    raw.copy_content(&after, raw.size_bytes)?;
    assert_eq!(fs::read(&device)?, fs::read(&after)?);
    raw_is_good(&after, &Known::of(&kernel), stage.crash(), machine.work())?;
    machine.clean_up()
}

#[test]
fn a_second_crash_without_another_target_replaces_the_dump() -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let mut machine = Machine::new("raw-replaced")?;
    let raw = machine.add(&blank(Bus::Virtio, None, 256))?;
    let mut cycle = machine.cycle(&kernel, &format!("raw {}\n", raw.node))?;
    cycle.memory_mib = 512;
    cycle.run()?.line("kdump: attempt 1 of 1 done: /dev/vda")?;
    let outcome = cycle.run()?;
    outcome.line("kdump: /dev/vda: the dump of .*, which nobody has recovered, is overwritten: there is no other target")?;
    outcome.line("kdump: attempt 1 of 1 done: /dev/vda")?;
    let device = machine.work().join("device");
    raw.copy_content(&device, raw.size_bytes)?;
    raw_is_good(
        &device,
        &Known::of(&kernel),
        cycle.first.crash,
        machine.work(),
    )?;
    machine.clean_up()
}
