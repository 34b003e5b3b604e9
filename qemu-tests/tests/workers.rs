// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture kernel with two processors: workers compress, and what happens to them costs no page.

use anyhow::{Result, ensure};
use qemu_tests::case::Case;
use qemu_tests::crash::Crash;
use qemu_tests::disk::Ext;
use qemu_tests::machine::{Content, DiskPlan};
use qemu_tests::setup::Flavour;

fn exact(
    name: &str,
    flavour: Flavour,
    level: u8,
    capture_arguments: &str,
    lines: &[&str],
) -> Result<()> {
    let conf = format!("ext4 NODE\ncore_collector makedumpfile -c -d {level}\n");
    let case = Case {
        processors: 2,
        capture_processors: 2,
        // After a crash on another one, the capture kernel leaves the boot processor alone and has one.
        crash: Crash::SysrqOnCpu(0),
        capture_arguments,
        page_exact: Some(level),
        ..Case::new(
            name,
            flavour,
            DiskPlan::virtio(Content::Ext(Ext::new("ext4", 640))),
            &conf,
        )
    };
    let capture = case.capture()?;
    capture
        .outcome
        .line("kdump: 2 workers compress; they share 2\\.[0-9] MiB")?;
    for line in lines {
        capture.outcome.line(line)?;
    }
    let saved = capture.saved()?;
    let manifest = saved.manifest()?;
    ensure!(manifest["level_used"] == level, "{manifest}");
    // Nothing but what a line above says.
    let told = capture.outcome.init_lines();
    let deaths = told
        .iter()
        .filter(|line| line.contains("a worker "))
        .count();
    ensure!(deaths == lines.len(), "{deaths} workers ended");
    capture.clean_up()
}

#[test]
fn two_workers_keep_every_byte_of_every_page() -> Result<()> {
    exact("workers-6.1", Flavour::Cloud6_1, 31, "", &[])
}

#[test]
fn a_worker_that_crashes_costs_no_page() -> Result<()> {
    exact(
        "workers-segv",
        Flavour::Cloud6_12,
        1,
        "kdumprd.fault=segv@worker",
        &["kdump: a worker was killed by SIGSEGV at page 5 of a batch; next: another in its place"],
    )
}

#[test]
fn a_worker_that_is_killed_costs_no_page() -> Result<()> {
    exact(
        "workers-kill",
        Flavour::Cloud6_1,
        31,
        "kdumprd.fault=kill@worker",
        &["kdump: a worker was killed by SIGKILL at page 5 of a batch; next: without it"],
    )
}
