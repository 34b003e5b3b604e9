// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens when the dump cannot be saved: devices that are missing, full, broken; children that die; every action.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use qemu_tests::cycle::Cycle;
use qemu_tests::disk::{Fault, Table};
use qemu_tests::machine::{Content, DiskPlan, Machine, Made, Presence};
use qemu_tests::saved::Saved;
use qemu_tests::scene::{Stage, failed_then, real_init_ran, use_the_shell};
use qemu_tests::setup::Flavour;
use qemu_tests::vm::End;
use serde_json::json;

const STAGE: Stage = Stage::SMALL;

/// A machine whose only target never comes.
fn without_its_target(name: &str, action: &str) -> Result<(Machine, Cycle)> {
    STAGE.without_its_target(name, &format!("failure_action {action}"))
}

#[test]
fn a_device_that_never_comes_then_reboot() -> Result<()> {
    let (machine, cycle) = without_its_target("action-reboot", "reboot")?;
    let outcome = cycle.run()?;
    failed_then(&outcome, "reboot", "final action: reboot")?;
    assert_eq!(outcome.end, End::Reset);
    let began = outcome.line("kdump: attempt 1 of 1: ")?.at;
    let ended = outcome.line("kdump: attempt 1 of 1 failed: ")?.at;
    assert!(ended - began >= Duration::from_millis(1800));
    machine.clean_up()
}

#[test]
fn a_device_that_never_comes_then_poweroff() -> Result<()> {
    let (machine, cycle) = without_its_target("action-poweroff", "poweroff")?;
    let outcome = cycle.run()?;
    failed_then(&outcome, "poweroff", "final action: poweroff")?;
    assert_eq!(outcome.end, End::PowerOff);
    machine.clean_up()
}

#[test]
fn a_device_that_never_comes_then_halt() -> Result<()> {
    let (machine, cycle) = without_its_target("action-halt", "halt")?;
    let mut running = cycle.start()?;
    running.expect("reboot: System halted")?;
    let outcome = running.stop();
    failed_then(&outcome, "halt", "final action: halt")?;
    machine.clean_up()
}

#[test]
fn a_shell_with_busybox() -> Result<()> {
    let mut machine = Machine::new("action-shell-busybox")?;
    machine.give_busybox()?;
    let missing = machine.add(&STAGE.missing())?;
    let conf = format!(
        "ext4 {}\ndisk_timeout 2\ndefault shell\nfinal_action poweroff\n",
        missing.node
    );
    let cycle = STAGE.cycle(&machine, &conf)?;
    let mut running = cycle.start()?;
    running.expect("kdump: shell on every console; next: poweroff")?;
    running.expect("`exit` ends the shell")?;
    running.vm.type_text("echo the answer is $((40 + 2))\n")?;
    running.expect("^the answer is 42")?;
    // The program that a person would reach for first.
    running
        .vm
        .type_text("head -c 4 /proc/vmcore | tail -c 3; echo\n")?;
    running.expect("^ELF")?;
    // A shell that ends sooner is taken for one that nobody has before him.
    thread::sleep(Duration::from_secs(3));
    running.vm.type_text("exit\n")?;
    let outcome = running.finish()?;
    assert!(outcome.line("ended at once").is_err(), "{outcome:?}");
    outcome.line("kdump: final action: poweroff")?;
    assert_eq!(outcome.end, End::PowerOff);
    machine.clean_up()
}

#[test]
fn a_shell_without_busybox() -> Result<()> {
    let (machine, cycle) = without_its_target("action-shell-own", "shell")?;
    use_the_shell(cycle.start()?)?;
    machine.clean_up()
}

#[test]
fn mount_root_run_init() -> Result<()> {
    let (machine, _, cycle) =
        STAGE.root_behind_a_missing_target("action-run-init", "default mount_root_run_init")?;
    let outcome = cycle.run()?;
    real_init_ran(&outcome)?;
    machine.clean_up()
}

#[test]
fn default_unset_is_the_root_file_system_then_reboot() -> Result<()> {
    let (machine, root, cycle) = STAGE.root_behind_a_missing_target("default-unset", "")?;
    let outcome = cycle.run()?;
    STAGE.second_attempt_has_it(&machine, &root, &outcome, "dump_to_rootfs")?;
    machine.clean_up()
}

#[test]
fn dump_to_rootfs_after_a_superblock_that_was_overwritten() -> Result<()> {
    let (mut machine, root) = STAGE.with_root("superblock")?;
    let target = machine.add(&DiskPlan {
        table: Some((Table::Mbr, "1a2b3c4d")),
        ..STAGE.ext("ext3", 64)
    })?;
    // After the image was planned, as it happens.
    let conf = "ext3 PARTUUID=1a2b3c4d-02\ndefault dump_to_rootfs\n";
    let cycle = STAGE.cycle(&machine, conf)?;
    let disk = OpenOptions::new().write(true).open(&target.disk.image)?;
    disk.write_all_at(&[0xa5; 65536], target.offset)?;
    let outcome = cycle.run()?;
    STAGE.second_attempt_has_it(&machine, &root, &outcome, "dump_to_rootfs")?;
    machine.clean_up()
}

#[test]
fn metadata_that_makes_no_sense() -> Result<()> {
    let (mut machine, root) = STAGE.with_root("metadata")?;
    let target = machine.add(&STAGE.ext("ext4", 64))?;
    let cycle = STAGE.cycle(&machine, &format!("ext4 {}\n", target.node))?;
    // Right behind the superblock: the group descriptors.
    let disk = OpenOptions::new().write(true).open(&target.disk.image)?;
    disk.write_all_at(&[0xa5; 8192], 2048)?;
    let outcome = cycle.run()?;
    STAGE.second_attempt_has_it(&machine, &root, &outcome, "dump_to_rootfs")?;
    machine.clean_up()
}

/// The first of two targets fails for `reason`, the second one saves the dump. Returns the machine and the first target.
fn first_fails(name: &str, first: &DiskPlan<'_>, reason: &str) -> Result<(Machine, Made)> {
    let (machine, first, second, cycle) = STAGE.two_targets(name, first, "")?;
    let outcome = cycle.run()?;
    outcome.line(&format!("kdump: attempt 1 of 2 failed: {reason}"))?;
    STAGE.second_attempt_has_it(&machine, &second, &outcome, "attempt 2 of 2")?;
    Ok((machine, first))
}

#[test]
fn writes_to_a_file_system_fail_from_some_point_on() -> Result<()> {
    let plan = DiskPlan {
        fault: Fault::WritesFailAfter(16),
        ..STAGE.ext("ext4", 256)
    };
    let (machine, _) = first_fails("write-errors-ext4", &plan, ".*(EIO|EROFS)")?;
    machine.clean_up()
}

#[test]
fn writes_to_a_raw_disk_fail_from_some_point_on() -> Result<()> {
    let plan = DiskPlan {
        fault: Fault::WritesFailAfter(5),
        ..STAGE.disk(Content::Blank(256))
    };
    let (machine, _) = first_fails("write-errors-raw", &plan, ".*EIO")?;
    machine.clean_up()
}

#[test]
fn a_full_disk_keeps_what_fitted_under_its_incomplete_name() -> Result<()> {
    let (machine, first) = first_fails("full-disk", &STAGE.ext("ext4", 12), ".*ENOSPC")?;
    let out = machine.work().join("full");
    first.filesystem().check()?;
    let partial = Saved::only(&first.filesystem(), "/var/crash", &out)?;
    let names = partial.names()?;
    assert!(names.contains(&"vmcore-incomplete".to_owned()), "{names:?}");
    assert!(!names.contains(&"vmcore".to_owned()), "{names:?}");
    assert!(partial.dmesg()?.contains("Kernel panic"));
    machine.clean_up()
}

#[test]
fn a_device_that_comes_late_is_waited_for() -> Result<()> {
    let mut machine = Machine::new("late-device")?;
    let late = machine.add(&DiskPlan {
        presence: Presence::Later,
        ..STAGE.ext("ext4", 256)
    })?;
    let text = late.filesystem().request("show_super_stats -h")?;
    let uuid = text
        .lines()
        .find_map(|line| line.strip_prefix("Filesystem UUID:"))
        .map_or("", str::trim);
    let conf = format!("ext4 UUID={uuid}\ndisk_timeout 100\n");
    let mut cycle = Stage {
        flavour: Flavour::Cloud6_12,
        ..STAGE
    }
    .cycle(&machine, &conf)?;
    cycle.qemu = ["-device", "pcie-root-port,id=late-port,chassis=1,addr=0x1c"]
        .map(Into::into)
        .to_vec();
    let mut running = cycle.start()?;
    let began = running.expect("kdump: attempt 1 of 1: ")?.at;
    thread::sleep(Duration::from_secs(3));
    let qmp = running.vm.qmp();
    qmp.execute(
        "blockdev-add",
        &json!({"driver": "file", "node-name": "late-file", "filename": late.disk.image}),
    )?;
    qmp.execute(
        "blockdev-add",
        &json!({"driver": "raw", "node-name": "late", "file": "late-file"}),
    )?;
    qmp.execute(
        "device_add",
        &json!({"driver": "virtio-blk-pci", "drive": "late", "bus": "late-port", "id": "late-disk"}),
    )?;
    let saved_at = running.expect("kdump: attempt 1 of 1 done: ")?.at;
    assert!(saved_at - began >= Duration::from_secs(3));
    let outcome = running.finish()?;
    assert_eq!(outcome.end, End::Reset);
    late.filesystem().check()?;
    let out = machine.work().join("out");
    Saved::only(&late.filesystem(), "/var/crash", &out)?.check_complete()?;
    machine.clean_up()
}

/// The first attempt's child gets `fault`; the second attempt saves the dump.
fn child_that(name: &str, fault: &str, more: &str, reason: &str) -> Result<()> {
    let (machine, _, second, mut cycle) = STAGE.two_targets(name, &STAGE.ext("ext4", 256), more)?;
    cycle.capture_arguments = format!("kdumprd.fault={fault}");
    let outcome = cycle.run()?;
    outcome.line(&format!("kdump: attempt 1 of 2 failed: {reason}"))?;
    STAGE.second_attempt_has_it(&machine, &second, &outcome, "attempt 2 of 2")?;
    machine.clean_up()
}

#[test]
fn a_child_that_crashes() -> Result<()> {
    child_that("child-segv", "segv@dump", "", "killed by SIGSEGV while ")
}

#[test]
fn a_child_that_is_killed() -> Result<()> {
    child_that("child-kill", "kill@dmesg", "", "killed by SIGKILL while ")
}

#[test]
fn a_child_that_takes_all_memory() -> Result<()> {
    child_that(
        "child-oom",
        "oom@dump",
        "",
        "killed by the kernel while .*out of memory",
    )
}

#[test]
fn a_child_that_hangs() -> Result<()> {
    child_that(
        "child-hang",
        "hang@dump",
        "stall_timeout 3\n",
        ".* made no progress for 3 s; killed",
    )
}

#[test]
fn a_child_that_panics() -> Result<()> {
    child_that("child-panic", "panic@open", "", "panicked while ")
}

#[test]
fn a_panic_of_pid_1_reboots() -> Result<()> {
    let mut machine = Machine::new("pid1-panic")?;
    let target = machine.add(&STAGE.ext("ext4", 64))?;
    let conf = format!("ext4 {}\nfailure_action shell\n", target.node);
    let mut cycle = STAGE.cycle(&machine, &conf)?;
    cycle.capture_arguments = "kdumprd.fault=panic@pid1".to_owned();
    let outcome = cycle.run()?;
    outcome.line("kdump: PID 1 panicked, a defect of kdumprd; next: reboot")?;
    assert_eq!(outcome.end, End::Reset);
    machine.clean_up()
}
