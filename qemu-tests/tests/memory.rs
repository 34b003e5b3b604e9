// SPDX-License-Identifier: MIT OR Apache-2.0
//! How little memory the capture kernel needs.

use std::fs;

use anyhow::{Context, Result, ensure};
use qemu_tests::case::Case;
use qemu_tests::cycle::Outcome;
use qemu_tests::disk::Ext;
use qemu_tests::machine::{Content, DiskPlan, Machine};
use qemu_tests::measure::{Pair, Target, Which};
use qemu_tests::scene::Stage;
use qemu_tests::server::Servers;
use qemu_tests::setup::{self, Flavour};
use qemu_tests::wire;

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

/// A hook that says every 0.1 s how much the page cache has, as long as the capture kernel runs.
const WATCH: &str = "#!/bin/sh\n\
    while :; do\n\
    echo \"<1>harness: $(grep ^Cached: /proc/meminfo)\" > /dev/kmsg\n\
    usleep 100000\n\
    done &\n";

/// Has a copy of the whole memory saved, which is many times what the capture kernel has, and tells by how many KiB the page
/// cache grew meanwhile.
fn growth_kib(machine: &Machine, conf: &str, namespace: Option<u32>) -> Result<u64> {
    machine.give_program("/bin/sh", &fs::read(setup::busybox()?)?)?;
    machine.give_program("/etc/kdump/watch.sh", WATCH.as_bytes())?;
    let conf = format!("{conf}core_collector cp\nkdump_pre /etc/kdump/watch.sh\ndefault reboot\n");
    let mut cycle = Stage::SMALL.cycle(machine, &conf)?;
    if namespace.is_some() {
        cycle.namespace = namespace;
        wire::connect(&mut cycle);
    }
    let outcome = cycle.run()?;
    outcome.line("kdump: attempt 1 of 1 done")?;
    let cached = cached_kib(&outcome);
    let (least, most) = (cached.iter().min(), cached.iter().max());
    ensure!(cached.len() >= 8, "only {cached:?}");
    let growth = most.zip(least).map(|(most, least)| most - least);
    growth.context("the hook said nothing")
}

fn cached_kib(outcome: &Outcome) -> Vec<u64> {
    outcome
        .lines
        .iter()
        .filter_map(|line| line.text.split_once("harness: Cached:"))
        .filter_map(|(_, size)| size.trim().strip_suffix(" kB")?.trim().parse().ok())
        .collect()
}

#[test]
fn the_page_cache_stays_small_while_all_memory_is_copied_to_a_disk() -> Result<()> {
    let mut machine = Machine::new("page-cache-disk")?;
    let disk = machine.add(&Stage::SMALL.ext("ext4", 640))?;
    let growth = growth_kib(&machine, &format!("ext4 {}\n", disk.node), None)?;
    println!("the page cache grew by {growth} KiB at most");
    ensure!(growth <= 8 << 10, "{growth} KiB");
    machine.clean_up()
}

#[test]
fn the_page_cache_stays_small_while_all_memory_is_copied_to_an_nfs_server() -> Result<()> {
    let servers = Servers::nfs("page-cache-nfs")?;
    let machine = Machine::new("page-cache-nfs")?;
    wire::describe(&machine)?;
    Servers::make_known_to(&machine.host_root())?;
    let conf = format!("nfs {}\n", Servers::target());
    let growth = growth_kib(&machine, &conf, Some(servers.namespace()))?;
    println!("the page cache grew by {growth} KiB at most");
    ensure!(growth <= 16 << 10, "{growth} KiB");
    machine.clean_up()?;
    servers.clean_up()
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
