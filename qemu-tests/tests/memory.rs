// SPDX-License-Identifier: MIT OR Apache-2.0
//! How little memory the capture kernel needs.

use anyhow::Result;
use qemu_tests::case::Case;
use qemu_tests::disk::Ext;
use qemu_tests::machine::{Content, DiskPlan};
use qemu_tests::measure::{Pair, Target, Which};
use qemu_tests::setup::{self, Flavour};

/// Debian's kdump-tools and Fedora's kdump-utils both die with 88M on this machine.
#[test]
fn crashkernel_80m_is_enough_for_the_6_1_cloud_kernel() -> Result<()> {
    let case = Case {
        memory_mib: 1024,
        crashkernel: "80M",
        ..Case::new(
            "crashkernel-80M",
            Flavour::Cloud6_1,
            DiskPlan::virtio(Content::Ext(Ext::new("ext3", 256))),
            "ext3 NODE\n",
        )
    };
    let capture = case.capture()?;
    let saved = capture.saved()?;
    let peak_kib = saved.manifest()?["peak_memory_kib"].as_u64();
    assert!(peak_kib.is_some_and(|peak| peak <= 8192), "{peak_kib:?}");
    capture.clean_up()
}

#[test]
fn two_processors_that_both_capture_fit_into_96m() -> Result<()> {
    let case = Case {
        memory_mib: 1024,
        crashkernel: "96M",
        processors: 2,
        capture_processors: 2,
        ..Case::new(
            "crashkernel-96M-2",
            Flavour::Cloud6_12,
            DiskPlan::virtio(Content::Ext(Ext::new("ext3", 256))),
            "ext3 NODE\n",
        )
    };
    let capture = case.capture()?;
    capture.saved()?;
    capture.clean_up()
}

#[test]
#[ignore = "a bisection over a dozen panics; runs under --full"]
fn ours_needs_at_most_4_mib_more_than_an_empty_init() -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let pair = Pair::new("smallest-crashkernel", &kernel, 1024, Target::Ext3)?;
    let (empty, why_empty) = pair.smallest(Which::Empty, 56, 104)?;
    let (ours, why_ours) = pair.smallest(Which::Ours, 56, 104)?;
    println!("empty init {empty}M (less: {why_empty}); ours {ours}M (less: {why_ours})");
    assert!(ours <= empty + 4, "empty {empty}M, ours {ours}M");
    pair.clean_up()
}
