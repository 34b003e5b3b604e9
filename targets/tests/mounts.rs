// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said when a mount fails. The device is a file here, which no kernel mounts: each of these mounts fails, and the
//! reason that a person can act on comes from the superblock. Mounts that succeed are made in QEMU.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use support::{Scratch, run};
use targets::Text;
use targets::device::Found;
use targets::filesystem::{Cause, Filesystem, FilesystemError, Probed, probe};
use targets::superblock::Kind;

const MIB: u64 = 1 << 20;

fn found(image: &Path) -> Found {
    Found {
        node: Text::new(image.to_str().unwrap().as_bytes()),
        name: Text::new(b"vdb"),
        size_bytes: image.metadata().unwrap().len(),
        is_read_only: false,
    }
}

#[track_caller]
fn mount(image: &Path, fstype: &str) -> (Cause, String) {
    let error = Filesystem::mount(&found(image), fstype, "rw,noatime", "/")
        .err()
        .unwrap();
    let FilesystemError::Mount { cause, .. } = error else {
        panic!("{error}");
    };
    // The directory of the test is long, the reason is what counts.
    let text = error.to_string();
    (
        cause,
        text.split_once(" (")
            .map_or("", |(_, reason)| reason)
            .to_owned(),
    )
}

#[test]
fn the_reason_of_a_failed_mount_is_read_from_the_superblock() {
    let scratch = Scratch::new("m");
    let image = scratch.image("i", 16 * MIB);
    let reason = (
        Cause::HoldsNothing,
        "there is no file system that we know on the device)".to_owned(),
    );
    assert_eq!(mount(&image, "ext4"), reason);

    run("mkfs.ext4", &["-q", "-F", "-b1024"], &image);
    assert_eq!(mount(&image, "ext4").0, Cause::Unknown);
    assert_eq!(mount(&image, "ext3").0, Cause::Unknown);
    let reason = (
        Cause::Holds(Kind::Ext4),
        "the device holds ext4)".to_owned(),
    );
    assert_eq!(mount(&image, "xfs"), reason);

    let file = OpenOptions::new().write(true).open(&image).unwrap();
    file.set_len(12 * MIB).unwrap();
    let reason = (
        Cause::LargerThanDevice(16 * MIB, 12 * MIB),
        "its superblock counts 16777216 bytes, the device has 12582912)".to_owned(),
    );
    assert_eq!(mount(&image, "ext4"), reason);

    file.write_all_at(b"x", 1024 + 0x88).unwrap();
    let reason = (
        Cause::ChecksumWrong,
        "its superblock is damaged: the checksum is wrong)".to_owned(),
    );
    assert_eq!(mount(&image, "ext4"), reason);

    run("mkswap", &["-q"], &image);
    let reason = (
        Cause::Holds(Kind::Swap),
        "the device holds swap)".to_owned(),
    );
    assert_eq!(mount(&image, "ext3"), reason);
}

#[test]
fn what_is_on_the_device_is_known_before_the_mount() {
    let scratch = Scratch::new("m");
    let image = scratch.image("i", 16 * MIB);
    assert_eq!(probe(&found(&image)), Ok(Probed::Unknown));
    run("mkfs.ext3", &["-q", "-F"], &image);
    let Ok(Probed::Ext(superblock)) = probe(&found(&image)) else {
        panic!("no ext3");
    };
    assert_eq!(superblock.kind, Kind::Ext3);
    run("mkswap", &["-q"], &image);
    assert!(matches!(probe(&found(&image)), Ok(Probed::Other(found)) if found.kind == Kind::Swap));
    let gone = Found {
        node: Text::new(b"/nowhere/vdb1"),
        ..found(&image)
    };
    assert_eq!(
        probe(&gone).unwrap_err().to_string(),
        "reading the superblock of /nowhere/vdb1: ENOENT"
    );
}

#[test]
fn options_that_no_driver_takes_are_refused_before_the_mount() {
    let scratch = Scratch::new("m");
    let image = scratch.image("i", MIB);
    let options = "x".repeat(4096);
    let error = Filesystem::mount(&found(&image), "ext4", &options, "/").err();
    let text = error.unwrap().to_string();
    assert!(
        text.starts_with("taking the mount options apart for "),
        "{text}"
    );
    assert!(text.ends_with(": EINVAL"), "{text}");
}
