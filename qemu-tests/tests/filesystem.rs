// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dumps to file systems: every kind, every way to name one, every disk.

use std::fs;

use anyhow::Result;
use qemu_tests::case::Case;
use qemu_tests::crash::Crash;
use qemu_tests::disk::{Bus, Ext, Table};
use qemu_tests::machine::{Content, DiskPlan, Machine};
use qemu_tests::proof::{self, Known};
use qemu_tests::saved::Saved;
use qemu_tests::scene::Stage;
use qemu_tests::setup::{self, Flavour};

const UUID: &str = "0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11";
const PARTUUID: &str = "5f2c5c6e-8b6f-4f0e-9a35-0d6a7a1c9d10";

/// A disk with one file system of this kind, called `dumps`.
fn disk<'a>(fstype: &'a str, bus: Bus, table: Option<(Table, &'a str)>) -> DiskPlan<'a> {
    DiskPlan {
        bus,
        table,
        ..DiskPlan::virtio(Content::Ext(Ext {
            label: "dumps",
            uuid: UUID,
            ..Ext::new(fstype, 256)
        }))
    }
}

fn saves(case: &Case<'_>) -> Result<()> {
    let capture = case.capture()?;
    capture.saved()?;
    capture.clean_up()
}

#[test]
fn ext2_by_label() -> Result<()> {
    saves(&Case::new(
        "ext2-label",
        Flavour::Cloud6_1,
        disk("ext2", Bus::Virtio, None),
        "ext2 LABEL=dumps\n",
    ))
}

#[test]
fn ext3_by_uuid_after_init_exits() -> Result<()> {
    saves(&Case {
        crash: Crash::InitExits,
        ..Case::new(
            "ext3-uuid",
            Flavour::Cloud6_1,
            disk("ext3", Bus::Virtio, None),
            "ext3 UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11\n",
        )
    })
}

#[test]
fn ext4_by_node_on_6_12_after_an_nmi() -> Result<()> {
    saves(&Case {
        crash: Crash::Nmi,
        ..Case::new(
            "ext4-node-6.12",
            Flavour::Cloud6_12,
            disk("ext4", Bus::Virtio, None),
            "ext4 NODE\n",
        )
    })
}

#[test]
fn ext3_in_a_gpt_partition_by_partuuid_on_sata() -> Result<()> {
    saves(&Case::new(
        "ext3-gpt-ahci",
        Flavour::Generic6_1,
        disk("ext3", Bus::Ahci, Some((Table::Gpt, PARTUUID))),
        "ext3 PARTUUID=5f2c5c6e-8b6f-4f0e-9a35-0d6a7a1c9d10\n",
    ))
}

#[test]
fn ext4_in_an_mbr_partition_by_partuuid_on_nvme() -> Result<()> {
    saves(&Case::new(
        "ext4-mbr-nvme-6.12",
        Flavour::Generic6_12,
        disk("ext4", Bus::Nvme, Some((Table::Mbr, "1a2b3c4d"))),
        "ext4 PARTUUID=1a2b3c4d-02\n",
    ))
}

#[test]
fn two_processors_crash_and_two_capture() -> Result<()> {
    saves(&Case {
        processors: 2,
        capture_processors: 2,
        crash: Crash::SysrqOnCpu(1),
        ..Case::new(
            "ext4-two-processors",
            Flavour::Cloud6_1,
            disk("ext4", Bus::Virtio, None),
            "ext4 LABEL=dumps\n",
        )
    })
}

#[test]
fn memory_that_ran_out() -> Result<()> {
    saves(&Case {
        crash: Crash::OutOfMemory,
        ..Case::new(
            "ext4-out-of-memory",
            Flavour::Cloud6_1,
            disk("ext4", Bus::Virtio, None),
            "ext4 NODE\n",
        )
    })
}

#[test]
fn five_levels_of_page_tables() -> Result<()> {
    saves(&Case {
        cpu_model: "qemu64,+la57",
        page_exact: Some(31),
        ..Case::new(
            "ext4-la57",
            Flavour::Cloud6_1,
            disk("ext4", Bus::Virtio, None),
            "ext4 NODE\n",
        )
    })
}

/// Everything of a root file system that the first kernel has mounted when it panics.
struct Root {
    machine: Machine,
    made: qemu_tests::machine::Made,
}

fn root(name: &str) -> Result<Root> {
    let mut machine = Machine::new(name)?;
    let content = machine.work().join("root");
    fs::create_dir_all(content.join("var/crash/old"))?;
    fs::write(content.join("var/crash/old/vmcore"), "an older dump")?;
    let made = machine.add(&DiskPlan {
        table: Some((Table::Gpt, PARTUUID)),
        ..DiskPlan::virtio(Content::Ext(Ext {
            content: Some(&content),
            ..Ext::new("ext4", 256)
        }))
    })?;
    machine.mount_root(&made, "ext4")?;
    Ok(Root { machine, made })
}

#[test]
fn no_target_is_the_root_file_system_that_the_panic_left_mounted() -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let Root { machine, made } = root("root")?;
    let mut cycle = machine.cycle(&kernel, "# nothing\n")?;
    cycle.memory_mib = 512;
    cycle.first.modules = vec!["virtio_pci", "virtio_blk", "ext4"];
    // A file that only the journal has at the panic.
    cycle.first.prepare = "mount -t ext4 /dev/vda2 /mnt || fail mount\n\
                           echo words > /mnt/journalled\n\
                           sync\n\
                           mv /mnt/journalled /mnt/renamed\n\
                           sync /mnt/renamed\n"
        .to_owned();
    let outcome = cycle.run()?;
    proof::only_attempt_saved(&outcome, Crash::Sysrq, &["vmcore-dmesg.txt saved: "])?;
    outcome.line("kdump: attempt 1 of 1: ext4 UUID=")?;
    outcome.line("kdump: /dev/vda2: ext4, journal to be replayed")?;
    let filesystem = made.filesystem();
    filesystem.check()?;
    assert_eq!(filesystem.request("cat /renamed")?, "words\n");
    let dumps = Saved::all(&filesystem, "/var/crash", &machine.work().join("out"))?;
    let [new, old] = dumps.as_slice() else {
        panic!("{dumps:?}");
    };
    assert_eq!(old.name(), "old");
    assert_eq!(fs::read_to_string(old.file("vmcore"))?, "an older dump");
    new.check_complete()?;
    let known = Known::of(&kernel);
    proof::folder_is_good(new, &known, Crash::Sysrq, machine.work())?;
    machine.clean_up()
}

#[test]
fn errors_that_the_file_system_has_recorded_are_told_and_the_dump_is_saved() -> Result<()> {
    let stage = Stage::SMALL;
    let mut machine = Machine::new("recorded-errors")?;
    let made = machine.add(&stage.ext("ext4", 256))?;
    made.filesystem().record_errors()?;
    let cycle = stage.cycle(&machine, &format!("ext4 {}\n", made.node))?;
    let outcome = cycle.run()?;
    outcome.line("kdump: /dev/vda: ext4, errors recorded: a file system check is due")?;
    proof::only_attempt_saved(&outcome, stage.crash(), &["vmcore-dmesg.txt saved: "])?;
    let saved = Saved::only(
        &made.filesystem(),
        "/var/crash",
        &machine.work().join("out"),
    )?;
    saved.check_complete()?;
    machine.clean_up()
}

#[test]
fn two_crashes_in_the_same_minute_leave_two_dumps() -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let Root { machine, made } = root("same-minute")?;
    let mut cycle = machine.cycle(
        &kernel,
        "path /dumps\ncore_collector makedumpfile -c -d 31\n",
    )?;
    cycle.memory_mib = 512;
    // Both guests start at the same second of the same day.
    cycle.qemu = ["-rtc", "base=2026-11-22T23:10:05,clock=vm"]
        .map(Into::into)
        .to_vec();
    let out = machine.work().join("out");
    cycle.run()?.line("kdump: attempt 1 of 1 done: ")?;
    let first = Saved::only(&made.filesystem(), "/dumps", &out)?;
    assert_eq!(first.name(), "2026-11-22-23:10");
    let bytes = fs::read(first.file("vmcore"))?;
    cycle.run()?.line("kdump: attempt 1 of 1 done: ")?;
    let dumps = Saved::all(&made.filesystem(), "/dumps", &out)?;
    let names: Vec<String> = dumps.iter().map(Saved::name).collect();
    assert_eq!(names, ["2026-11-22-23:10", "2026-11-22-23:10.1"]);
    for dump in &dumps {
        dump.check_complete()?;
    }
    assert_eq!(fs::read(dumps[0].file("vmcore"))?, bytes);
    made.filesystem().check()?;
    machine.clean_up()
}
