// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dump levels and formats: exactly the right pages, with exactly the right bytes.

use std::fs;

use anyhow::Result;
use qemu_tests::case::Case;
use qemu_tests::disk::Ext;
use qemu_tests::machine::{Content, DiskPlan};
use qemu_tests::saved::Saved;
use qemu_tests::setup::Flavour;

/// Work for the classifier: files read and written, processes with memory, pages that were freed again.
const BUSY: &str = "mkdir /busy\n\
     mount -t tmpfs busy /busy\n\
     dd if=/dev/urandom of=/busy/noise bs=1M count=40 2> /dev/null\n\
     dd if=/dev/zero of=/busy/freed bs=1M count=60 2> /dev/null\n\
     rm /busy/freed\n\
     for number in 1 2 3 4; do sh -c 'x=$(cat /harness/vmlinuz | base64 | head -c 4000000); sleep 1000' & done\n\
     sleep 2\n";

fn exact(name: &str, flavour: Flavour, conf: &str, level: u8, processors: u32) -> Result<()> {
    let case = Case {
        processors,
        page_exact: Some(level),
        prepare: BUSY,
        symbols: matches!(flavour, Flavour::Cloud6_1 | Flavour::Cloud6_12),
        ..Case::new(
            name,
            flavour,
            DiskPlan::virtio(Content::Ext(Ext::new("ext4", 640))),
            conf,
        )
    };
    let capture = case.capture()?;
    let saved = capture.saved()?;
    assert_eq!(saved.manifest()?["level_used"], level);
    capture.clean_up()
}

#[test]
fn level_31_on_6_1() -> Result<()> {
    exact("level-31-6.1", Flavour::Cloud6_1, "ext4 NODE\n", 31, 2)
}

#[test]
fn level_31_on_6_12() -> Result<()> {
    exact("level-31-6.12", Flavour::Cloud6_12, "ext4 NODE\n", 31, 2)
}

#[test]
fn level_1_on_6_1() -> Result<()> {
    let conf = "ext4 NODE\ncore_collector makedumpfile -c -d 1\n";
    exact("level-1-6.1", Flavour::Cloud6_1, conf, 1, 1)
}

#[test]
fn level_0_uncompressed_on_6_12() -> Result<()> {
    let conf = "ext4 NODE\ncore_collector makedumpfile -d 0\n";
    exact("level-0-6.12", Flavour::Cloud6_12, conf, 0, 1)
}

#[test]
fn level_8_on_generic_6_12() -> Result<()> {
    let conf = "ext4 NODE\ncore_collector makedumpfile -c -d 8\n";
    exact("level-8-generic-6.12", Flavour::Generic6_12, conf, 8, 1)
}

#[test]
fn level_17_on_generic_6_1() -> Result<()> {
    let conf = "ext4 NODE\ncore_collector makedumpfile -c -d 17\n";
    exact("level-17-generic-6.1", Flavour::Generic6_1, conf, 17, 1)
}

#[test]
fn a_copy_is_the_vmcore_byte_by_byte() -> Result<()> {
    let case = Case::new(
        "copy",
        Flavour::Cloud6_1,
        DiskPlan::virtio(Content::Ext(Ext::new("ext4", 640))),
        "ext4 NODE\ncore_collector cp\n",
    );
    let capture = case.capture()?;
    let saved = capture.saved()?;
    let size = fs::metadata(saved.file("vmcore"))?.len();
    // 512 MiB without the region of the capture kernel.
    assert!((350 << 20..512 << 20).contains(&size), "{size}");
    assert_eq!(fs::read(saved.file("vmcore"))?[..4], *b"\x7fELF");
    capture.clean_up()
}

#[test]
fn elf_without_the_excluded_pages_is_read_by_drgn_and_crash() -> Result<()> {
    let case = Case {
        prepare: BUSY,
        symbols: true,
        ..Case::new(
            "elf",
            Flavour::Cloud6_1,
            DiskPlan::virtio(Content::Ext(Ext::new("ext4", 640))),
            "ext4 NODE\ncore_collector makedumpfile -E -d 31\n",
        )
    };
    let capture = case.capture()?;
    let saved = capture.saved()?;
    let manifest = saved.manifest()?;
    assert_eq!(manifest["format"], "elf");
    assert_eq!(manifest["level_used"], 31);
    assert_eq!(fs::read(saved.file("vmcore"))?[..4], *b"\x7fELF");
    // An unfiltered one has over 350 MiB.
    let size = fs::metadata(saved.file("vmcore"))?.len();
    assert!(size < 200 << 20, "{size}");
    capture.clean_up()
}

#[test]
fn a_full_disk_leads_to_the_next_level_of_the_list() -> Result<()> {
    let case = Case {
        prepare: BUSY,
        ..Case::new(
            "level-list",
            Flavour::Cloud6_1,
            DiskPlan::virtio(Content::Ext(Ext::new("ext2", 48))),
            "ext2 NODE\ncore_collector makedumpfile -c -d 0,31\n",
        )
    };
    let capture = case.capture()?;
    capture
        .outcome
        .line("kdump: level 0: the target is full at byte [0-9]+; next: level 31")?;
    let saved: Saved = capture.saved()?;
    assert_eq!(saved.manifest()?["level_used"], 31);
    capture.clean_up()
}
