// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dumps to a whole disk or partition, from its first byte on.

use std::fs::File;
use std::io::Read;

use anyhow::Result;
use qemu_tests::case::Case;
use qemu_tests::crash::Crash;
use qemu_tests::disk::{Bus, Table};
use qemu_tests::machine::{Content, DiskPlan};
use qemu_tests::proof;
use qemu_tests::setup::Flavour;

fn blank<'a>(bus: Bus, table: Option<(Table, &'a str)>, size_mib: u64) -> DiskPlan<'a> {
    DiskPlan {
        bus,
        table,
        ..DiskPlan::virtio(Content::Blank(size_mib))
    }
}

#[test]
fn a_whole_disk() -> Result<()> {
    let case = Case::new(
        "raw-disk",
        Flavour::Cloud6_1,
        blank(Bus::Virtio, None, 256),
        "raw NODE\n",
    );
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
    assert!(std::fs::read(&copy)?.iter().all(|&byte| byte == 0));
    capture.clean_up()
}
