// SPDX-License-Identifier: MIT OR Apache-2.0
//! Disks that are SCSI to the kernel: virtio-scsi, USB, and one disk by two paths.

use anyhow::Result;
use qemu_tests::case::Case;
use qemu_tests::crash::Crash;
use qemu_tests::disk::{Bus, Ext, Fault, Table, WWID};
use qemu_tests::machine::{Content, DiskPlan, Machine, Made};
use qemu_tests::proof::{self, Known, raw_is_good, saved_is_good};
use qemu_tests::setup::{self, Flavour};

const UUID: &str = "0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11";
const PARTUUID: &str = "5f2c5c6e-8b6f-4f0e-9a35-0d6a7a1c9d10";

fn disk(bus: Bus, table: Option<(Table, &'static str)>) -> DiskPlan<'static> {
    DiskPlan {
        bus,
        table,
        ..DiskPlan::virtio(Content::Ext(Ext {
            label: "dumps",
            uuid: UUID,
            ..Ext::new("ext4", 256)
        }))
    }
}

#[test]
fn a_partition_on_virtio_scsi() -> Result<()> {
    let case = Case::new(
        "virtio-scsi",
        Flavour::Cloud6_1,
        disk(Bus::VirtioScsi, Some((Table::Gpt, PARTUUID))),
        "ext4 PARTUUID=5f2c5c6e-8b6f-4f0e-9a35-0d6a7a1c9d10\n",
    );
    let capture = case.capture()?;
    capture.saved()?;
    capture.clean_up()
}

#[test]
fn a_usb_disk_that_comes_late_by_its_place_on_6_12() -> Result<()> {
    let case = Case::new(
        "usb-6.12",
        Flavour::Generic6_12,
        DiskPlan {
            bus: Bus::Usb,
            ..DiskPlan::virtio(Content::Blank(256))
        },
        "raw NODE\n",
    );
    let capture = case.capture()?;
    capture
        .outcome
        .line("kdump: attempt 1 of 1: raw by-path/pci-0000:00:11.0-usb-0:1:1.0-scsi-0:0:0:0")?;
    capture.saved_raw()?;
    capture.clean_up()
}

#[test]
fn a_usb_disk_by_label() -> Result<()> {
    let case = Case::new(
        "usb-label",
        Flavour::Generic6_1,
        disk(Bus::Usb, None),
        "ext4 LABEL=dumps\n",
    );
    let capture = case.capture()?;
    capture.saved()?;
    capture.clean_up()
}

/// A machine with one disk by two paths, which the host has as a multipath mapping.
fn multipath(name: &str, plan: &DiskPlan<'_>, content: &str) -> Result<(Machine, Made)> {
    let mut machine = Machine::new(name)?;
    let made = machine.add(plan)?;
    let size = made.size_bytes;
    machine.describe(&format!(
        "/dev/sdb size={size} modules={} wwid={WWID} {content}",
        plan.bus.modules()
    ));
    machine.describe(&format!(
        "/dev/dm-0 made_of=/dev/sda,/dev/sdb dm_name=mpatha dm_uuid=mpath-35000c50015ea71aa size={size} {content}"
    ));
    Ok((machine, made))
}

#[test]
fn a_disk_whose_first_path_is_dead() -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let plan = DiskPlan {
        fault: Fault::FirstPathDead,
        ..disk(Bus::Multipath, None)
    };
    let content = format!("fstype=ext4 uuid={UUID}");
    let (machine, made) = multipath("multipath-dead", &plan, &content)?;
    let mut cycle = machine.cycle(&kernel, &format!("ext4 UUID={UUID}\n"))?;
    cycle.memory_mib = 512;
    let outcome = cycle.run()?;
    proof::only_attempt_saved(&outcome, Crash::Sysrq, &["vmcore-dmesg.txt saved: "])?;
    saved_is_good(&made, &Known::of(&kernel), Crash::Sysrq, machine.work())?;
    machine.clean_up()
}

#[test]
fn a_raw_disk_by_two_paths_is_one_disk() -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let plan = DiskPlan {
        bus: Bus::Multipath,
        ..DiskPlan::virtio(Content::Blank(256))
    };
    let (machine, made) = multipath("multipath-raw", &plan, "")?;
    let mut cycle = machine.cycle(&kernel, "raw /dev/dm-0\n")?;
    cycle.memory_mib = 512;
    let outcome = cycle.run()?;
    outcome.line(&format!("kdump: attempt 1 of 1: raw WWID={WWID}"))?;
    proof::only_attempt_saved(&outcome, Crash::Sysrq, &["vmcore-dmesg.txt saved: "])?;
    let device = machine.work().join("device");
    made.copy_content(&device, made.size_bytes)?;
    raw_is_good(&device, &Known::of(&kernel), Crash::Sysrq, machine.work())?;
    machine.clean_up()
}
