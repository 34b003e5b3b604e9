// SPDX-License-Identifier: MIT OR Apache-2.0
//! Children of PID 1 that die before the dump, or in a way that another try of the same attempt survives.

use anyhow::Result;
use qemu_tests::cycle::Outcome;
use qemu_tests::disk::Ext;
use qemu_tests::machine::{Content, DiskPlan, Machine};
use qemu_tests::saved::Saved;
use qemu_tests::setup::{self, Flavour};
use qemu_tests::vm::End;

/// Captures to one ext4 with a fault, and checks that it has a complete dump.
fn saved_in_spite_of(
    name: &str,
    fault: &str,
    check: impl Fn(&Outcome) -> Result<()>,
) -> Result<()> {
    let mut machine = Machine::new(name)?;
    let target = machine.add(&DiskPlan::virtio(Content::Ext(Ext::new("ext4", 256))))?;
    let conf = format!("ext4 {}\nfailure_action reboot\n", target.node);
    let mut cycle = machine.cycle(&setup::kernel(Flavour::Cloud6_1)?, &conf)?;
    cycle.memory_mib = 512;
    cycle.capture_arguments = format!("kdumprd.fault={fault}");
    let outcome = cycle.run()?;
    outcome.line("kdump: faults are asked for on the command line")?;
    check(&outcome)?;
    outcome.line("kdump: attempt 1 of 1 done: ")?;
    outcome.line("kdump: final action: reboot")?;
    assert_eq!(outcome.end, End::Reset);
    target.filesystem().check()?;
    machine.clean_up()
}

#[test]
fn broken_memory_below_the_vmcore_costs_no_dump() -> Result<()> {
    saved_in_spite_of("child-bus", "bus@dump", |outcome| {
        outcome
            .line("kdump: attempt 1: killed by SIGBUS while .*; next: the same without mapping")?;
        Ok(())
    })
}

#[test]
fn a_first_look_that_crashes_costs_no_dump() -> Result<()> {
    saved_in_spite_of("look-segv", "segv@look", |outcome| {
        outcome.line("kdump: crashed kernel: unknown: killed by SIGSEGV while ")?;
        Ok(())
    })
}

#[test]
fn a_loader_of_modules_that_is_killed_goes_on_behind_the_module() -> Result<()> {
    // The first module is lost with it, and the disk with the module: what counts is that the plan goes on.
    let mut machine = Machine::new("module-kill")?;
    let target = machine.add(&DiskPlan::virtio(Content::Ext(Ext::new("ext4", 64))))?;
    let conf = format!(
        "ext4 {}\ndisk_timeout 2\nfailure_action poweroff\n",
        target.node
    );
    let mut cycle = machine.cycle(&setup::kernel(Flavour::Cloud6_1)?, &conf)?;
    cycle.memory_mib = 512;
    cycle.capture_arguments = "kdumprd.fault=kill@module".to_owned();
    let outcome = cycle.run()?;
    outcome
        .line("kdump: module .*: killed by SIGKILL while loading a module; next: the modules")?;
    outcome.line("kdump: attempt 1 of 1 failed: no device .*; next: poweroff")?;
    assert_eq!(outcome.end, End::PowerOff);
    assert!(
        Saved::only(
            &target.filesystem(),
            "/var/crash",
            &machine.work().join("out")
        )
        .is_err(),
        "the disk cannot have been found"
    );
    machine.clean_up()
}
