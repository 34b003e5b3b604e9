// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens when the dump cannot be saved: children that die, and every action. Devices, servers and networks that fail
//! are in `faults.rs`.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use qemu_tests::cycle::Cycle;
use qemu_tests::machine::Machine;
use qemu_tests::scene::{Stage, failed_then, real_init_ran, use_the_shell};
use qemu_tests::vm::End;

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
