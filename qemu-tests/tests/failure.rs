// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens when the dump cannot be saved: devices that are missing, full, broken; children that die; every action.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use qemu_tests::cycle::{Cycle, Outcome};
use qemu_tests::disk::{Bus, Ext, Fault, Table};
use qemu_tests::machine::{Content, DiskPlan, Machine, Made, Presence};
use qemu_tests::proof::{self, Known};
use qemu_tests::saved::Saved;
use qemu_tests::setup::{self, Flavour, Kernel};
use qemu_tests::vm::End;
use serde_json::json;

const PARTUUID: &str = "5f2c5c6e-8b6f-4f0e-9a35-0d6a7a1c9d10";

const fn ext(fstype: &str, size_mib: u64) -> DiskPlan<'_> {
    DiskPlan::virtio(Content::Ext(Ext::new(fstype, size_mib)))
}

fn kernel() -> Result<Kernel> {
    setup::kernel(Flavour::Cloud6_1)
}

fn small(mut cycle: Cycle) -> Cycle {
    cycle.memory_mib = 512;
    cycle
}

/// A machine whose only target never comes.
fn without_its_target(name: &str, action: &str) -> Result<(Machine, Cycle)> {
    let mut machine = Machine::new(name)?;
    let missing = machine.add(&DiskPlan {
        presence: Presence::Later,
        ..ext("ext4", 64)
    })?;
    let conf = format!(
        "ext4 {}\ndisk_timeout 2\nfailure_action {action}\n",
        missing.node
    );
    let cycle = small(machine.cycle(&kernel()?, &conf)?);
    Ok((machine, cycle))
}

/// The lines of a capture whose first attempt failed and had nothing behind it.
fn failed_then(outcome: &Outcome, next: &str, last: &str) -> Result<()> {
    proof::lines_in_order(
        outcome,
        &[
            "init ",
            "crashed kernel: ",
            "attempt 1 of 1: ",
            "attempt 1 of 1 failed: ",
            last,
        ],
    )?;
    outcome.line(&format!("kdump: attempt 1 of 1 failed: .*; next: {next}$"))?;
    Ok(())
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
    let missing = machine.add(&DiskPlan {
        presence: Presence::Later,
        ..ext("ext4", 64)
    })?;
    let conf = format!(
        "ext4 {}\ndisk_timeout 2\ndefault shell\nfinal_action poweroff\n",
        missing.node
    );
    let cycle = small(machine.cycle(&kernel()?, &conf)?);
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
    let mut running = cycle.start()?;
    running.expect("kdump: shell on every console; next: reboot")?;
    running.expect("`exit` ends the shell")?;
    running.vm.type_text("help\n")?;
    running.expect("^attempt N ")?;
    running.vm.type_text("status\n")?;
    running.expect("/dev/vda")?;
    running.vm.type_text("no-such-word\n")?;
    running.expect("no-such-word: not a word here")?;
    running.vm.type_text("poweroff\n")?;
    let outcome = running.finish()?;
    outcome.line("kdump: final action: poweroff")?;
    assert_eq!(outcome.end, End::PowerOff);
    machine.clean_up()
}

/// A machine with a root file system whose init says that it runs, and the root's disk.
fn with_root(name: &str) -> Result<(Machine, Made)> {
    let mut machine = Machine::new(name)?;
    let content = machine.work().join("root");
    for folder in ["bin", "sbin", "dev", "proc", "sys", "var"] {
        fs::create_dir_all(content.join(folder))?;
    }
    fs::copy(setup::busybox()?, content.join("bin/busybox"))?;
    let init = content.join("sbin/init");
    fs::write(
        &init,
        "#!/bin/busybox sh\n\
         echo \"<1>harness: real init, pid $$, $(/bin/busybox stat -c %A /proc/vmcore)\" > /dev/kmsg\n\
         /bin/busybox reboot -f\n",
    )?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let root = machine.add(&DiskPlan {
        table: Some((Table::Gpt, PARTUUID)),
        ..DiskPlan::virtio(Content::Ext(Ext {
            content: Some(&content),
            ..Ext::new("ext4", 128)
        }))
    })?;
    machine.mount_root(&root, "ext4")?;
    Ok((machine, root))
}

#[test]
fn mount_root_run_init() -> Result<()> {
    let (mut machine, root) = with_root("action-run-init")?;
    let missing = machine.add(&DiskPlan {
        presence: Presence::Later,
        ..ext("ext3", 64)
    })?;
    let conf = format!(
        "ext3 {}\ndisk_timeout 2\ndefault mount_root_run_init\n",
        missing.node
    );
    let outcome = small(machine.cycle(&kernel()?, &conf)?).run()?;
    proof::lines_in_order(
        &outcome,
        &[
            "init ",
            "crashed kernel: ",
            "attempt 1 of 1: ",
            "attempt 1 of 1 failed: ",
            "mount_root_run_init: ext4 ",
        ],
    )?;
    outcome.line("harness: real init, pid 1, -r")?;
    assert_eq!(outcome.end, End::Reset);
    drop(root);
    machine.clean_up()
}

/// Checks a dump on the root file system that was the last attempt.
fn dumped_to_root(machine: &Machine, root: &Made, outcome: &Outcome) -> Result<()> {
    proof::lines_in_order(
        outcome,
        &[
            "init ",
            "crashed kernel: ",
            "attempt 1 of 2: ",
            "attempt 1 of 2 failed: ",
            "attempt 2 of 2: ext4 ",
            "vmcore-dmesg.txt saved: ",
            "vmcore: ",
            "attempt 2 of 2 done: /var/crash/",
            "final action: reboot",
        ],
    )?;
    outcome.line("attempt 1 of 2 failed: .*; next: dump_to_rootfs")?;
    assert_eq!(outcome.end, End::Reset);
    check_dump(machine, root, outcome)
}

/// Checks the only dump on the file system of `made`, and that its manifest tells of both attempts.
fn check_dump(machine: &Machine, made: &Made, outcome: &Outcome) -> Result<()> {
    made.filesystem().check()?;
    let out = machine.work().join("out");
    let saved = Saved::only(&made.filesystem(), "/var/crash", &out)?;
    saved.check_complete()?;
    let manifest = saved.manifest()?;
    assert_eq!(manifest["complete"], true, "{manifest}");
    assert_eq!(
        manifest["attempts"].as_array().map(Vec::len),
        Some(2),
        "{manifest}"
    );
    let dmesg = fs::read(saved.file("vmcore-dmesg.txt"))?;
    let own = fs::read_to_string(saved.file("kexec-dmesg.log"))?;
    assert!(
        own.contains("attempt 1 of 2 failed"),
        "{}",
        outcome.log.display()
    );
    let known = Known {
        kernel: &kernel()?,
        dmesg: Some(&dmesg),
        ram: None,
        symbols: false,
    };
    proof::dump_is_good(&saved.file("vmcore"), &known, machine.work())
}

#[test]
fn default_unset_is_the_root_file_system_then_reboot() -> Result<()> {
    let (mut machine, root) = with_root("default-unset")?;
    let missing = machine.add(&DiskPlan {
        presence: Presence::Later,
        ..ext("ext3", 64)
    })?;
    let conf = format!("ext3 {}\ndisk_timeout 2\n", missing.node);
    let outcome = small(machine.cycle(&kernel()?, &conf)?).run()?;
    dumped_to_root(&machine, &root, &outcome)?;
    machine.clean_up()
}

#[test]
fn dump_to_rootfs_after_a_superblock_that_was_overwritten() -> Result<()> {
    let (mut machine, root) = with_root("superblock")?;
    let target = machine.add(&DiskPlan {
        table: Some((Table::Mbr, "1a2b3c4d")),
        ..ext("ext3", 64)
    })?;
    // After the image was planned, as it happens.
    let conf = "ext3 PARTUUID=1a2b3c4d-02\ndefault dump_to_rootfs\n";
    let cycle = small(machine.cycle(&kernel()?, conf)?);
    let disk = OpenOptions::new().write(true).open(&target.disk.image)?;
    disk.write_all_at(&[0xa5; 65536], target.offset)?;
    let outcome = cycle.run()?;
    dumped_to_root(&machine, &root, &outcome)?;
    machine.clean_up()
}

#[test]
fn metadata_that_makes_no_sense() -> Result<()> {
    let (mut machine, root) = with_root("metadata")?;
    let target = machine.add(&ext("ext4", 64))?;
    let conf = format!("ext4 {}\n", target.node);
    let cycle = small(machine.cycle(&kernel()?, &conf)?);
    // Right behind the superblock: the group descriptors.
    let disk = OpenOptions::new().write(true).open(&target.disk.image)?;
    disk.write_all_at(&[0xa5; 8192], 2048)?;
    let outcome = cycle.run()?;
    dumped_to_root(&machine, &root, &outcome)?;
    machine.clean_up()
}

/// A machine with two targets, the first of which has a fault.
fn two_targets(name: &str, first: &DiskPlan<'_>) -> Result<(Machine, Made, Made)> {
    let mut machine = Machine::new(name)?;
    let first = machine.add(first)?;
    let second = machine.add(&ext("ext3", 256))?;
    Ok((machine, first, second))
}

/// Checks that the first target failed and the second one has the dump.
fn second_target_has_it(machine: &Machine, second: &Made, outcome: &Outcome) -> Result<()> {
    proof::lines_in_order(
        outcome,
        &[
            "init ",
            "attempt 1 of 2: ",
            "attempt 1 of 2 failed: ",
            "attempt 2 of 2: ext3 ",
            "vmcore-dmesg.txt saved: ",
            "vmcore: ",
            "attempt 2 of 2 done: /var/crash/",
            "final action: reboot",
        ],
    )?;
    outcome.line("attempt 1 of 2 failed: .*; next: attempt 2 of 2")?;
    assert_eq!(outcome.end, End::Reset);
    check_dump(machine, second, outcome)
}

#[test]
fn writes_to_a_file_system_fail_from_some_point_on() -> Result<()> {
    let plan = DiskPlan {
        fault: Fault::WritesFailAfter(16),
        ..ext("ext4", 256)
    };
    let (machine, first, second) = two_targets("write-errors-ext4", &plan)?;
    let conf = format!("ext4 {}\next3 {}\n", first.node, second.node);
    let outcome = small(machine.cycle(&kernel()?, &conf)?).run()?;
    outcome.line("kdump: attempt 1 of 2 failed: .*(EIO|EROFS)")?;
    second_target_has_it(&machine, &second, &outcome)?;
    machine.clean_up()
}

#[test]
fn writes_to_a_raw_disk_fail_from_some_point_on() -> Result<()> {
    let plan = DiskPlan {
        fault: Fault::WritesFailAfter(5),
        bus: Bus::Virtio,
        ..DiskPlan::virtio(Content::Blank(256))
    };
    let (machine, first, second) = two_targets("write-errors-raw", &plan)?;
    let conf = format!("raw {}\next3 {}\n", first.node, second.node);
    let outcome = small(machine.cycle(&kernel()?, &conf)?).run()?;
    outcome.line("kdump: attempt 1 of 2 failed: .*EIO")?;
    second_target_has_it(&machine, &second, &outcome)?;
    machine.clean_up()
}

#[test]
fn a_full_disk_keeps_what_fitted_under_its_incomplete_name() -> Result<()> {
    let (machine, first, second) = two_targets("full-disk", &ext("ext4", 12))?;
    let conf = format!("ext4 {}\next3 {}\n", first.node, second.node);
    let outcome = small(machine.cycle(&kernel()?, &conf)?).run()?;
    outcome.line("kdump: attempt 1 of 2 failed: .*ENOSPC")?;
    second_target_has_it(&machine, &second, &outcome)?;
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
        ..ext("ext4", 256)
    })?;
    let text = late.filesystem().request("show_super_stats -h")?;
    let uuid = text
        .lines()
        .find_map(|line| line.strip_prefix("Filesystem UUID:"))
        .map_or("", str::trim);
    let conf = format!("ext4 UUID={uuid}\ndisk_timeout 100\n");
    let mut cycle = small(machine.cycle(&setup::kernel(Flavour::Cloud6_12)?, &conf)?);
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
    let (machine, first, second) = two_targets(name, &ext("ext4", 256))?;
    let conf = format!("ext4 {}\next3 {}\n{more}", first.node, second.node);
    let mut cycle = small(machine.cycle(&kernel()?, &conf)?);
    cycle.capture_arguments = format!("kdumprd.fault={fault}");
    let outcome = cycle.run()?;
    outcome.line(&format!("kdump: attempt 1 of 2 failed: {reason}"))?;
    second_target_has_it(&machine, &second, &outcome)?;
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
    let target = machine.add(&ext("ext4", 64))?;
    let conf = format!("ext4 {}\nfailure_action shell\n", target.node);
    let mut cycle = small(machine.cycle(&kernel()?, &conf)?);
    cycle.capture_arguments = "kdumprd.fault=panic@pid1".to_owned();
    let outcome = cycle.run()?;
    outcome.line("kdump: PID 1 panicked, a defect of kdumprd; next: reboot")?;
    assert_eq!(outcome.end, End::Reset);
    machine.clean_up()
}
