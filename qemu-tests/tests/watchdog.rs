// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hardware watchdog, fed by progress: what stands still is reset, what is slow is not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use qemu_tests::cycle::Cycle;
use qemu_tests::disk;
use qemu_tests::machine::{Machine, Made};
use qemu_tests::proof;
use qemu_tests::scene::Stage;
use qemu_tests::setup::Flavour;
use qemu_tests::vm::End;

/// The smallest kernel that has the driver.
const STAGE: Stage = Stage {
    flavour: Flavour::Cloud6_12,
    ..Stage::SMALL
};

/// The watchdog's time in these tests: shorter than any step may take.
const TIME_S: u64 = 20;

/// Shows the builder an Intel 6300ESB as Linux 6.12 has it in sysfs: the watchdog is of no device.
fn describe(host: &Path) -> Result<()> {
    let device = host.join("sys/devices/pci0000:00/0000:00:09.0");
    let own = host.join("sys/devices/virtual/watchdog/watchdog0");
    let driver = host.join("sys/bus/pci/drivers/i6300ESB timer");
    for folder in [
        &device,
        &own,
        &driver,
        &host.join("sys/class/watchdog"),
        &host.join("sys/module/i6300esb"),
    ] {
        fs::create_dir_all(folder)?;
    }
    fs::write(own.join("state"), "inactive\n")?;
    fs::write(own.join("identity"), "i6300ESB timer\n")?;
    for (link, to) in [
        (
            device.join("driver"),
            "../../../bus/pci/drivers/i6300ESB timer",
        ),
        (driver.join("module"), "../../../../module/i6300esb"),
        (
            driver.join("0000:00:09.0"),
            "../../../../devices/pci0000:00/0000:00:09.0",
        ),
        (
            host.join("sys/class/watchdog/watchdog0"),
            "../../devices/virtual/watchdog/watchdog0",
        ),
    ] {
        symlink(to, link)?;
    }
    Ok(())
}

/// A machine with the watchdog and an ext4, and what is said of the watchdog in `lines`.
fn machine(name: &str, lines: &str) -> Result<(Machine, Made, Cycle)> {
    let mut machine = Machine::new(name)?;
    describe(&machine.host_root())?;
    let target = machine.add(&STAGE.ext("ext4", 256))?;
    let conf = format!("ext4 {}\ndefault reboot\n{lines}", target.node);
    let mut cycle = STAGE.cycle(&machine, &conf)?;
    let words = ["-device", "i6300esb,addr=0x9", "-action", "watchdog=reset"];
    cycle.qemu = words.map(Into::into).to_vec();
    Ok((machine, target, cycle))
}

#[test]
fn a_dump_that_stands_still_is_ended_by_the_watchdog() -> Result<()> {
    // By itself init would look at it for ten minutes.
    let lines = format!("watchdog {TIME_S}\nstall_timeout 600\n");
    let (machine, _, mut cycle) = machine("watchdog-stall", &lines)?;
    cycle.commands = vec![disk::throttle(0, 3 << 20)];
    let mut running = cycle.start()?;
    running.expect("kdump: copying: .* written")?;
    let (command, arguments) = disk::throttle(0, 1);
    running.vm.qmp().execute(command, &arguments)?;
    let stalled = running.vm.age();
    let outcome = running.finish()?;
    ensure!(outcome.watchdog_bit, "{:?}", outcome.end);
    ensure!(outcome.end == End::Reset, "{:?}", outcome.end);
    outcome.line(&format!(
        "kdump: watchdog i6300ESB timer: restarts the machine after {TIME_S} s without progress$"
    ))?;
    ensure!(
        outcome.line("kdump: final action: ").is_err(),
        "init ended the machine itself"
    );
    // What was under way before it stood still may have fed it.
    let waited = outcome.duration.saturating_sub(stalled);
    ensure!(waited >= Duration::from_secs(TIME_S / 2), "{waited:?}");
    machine.clean_up()
}

#[test]
fn a_slow_dump_is_not() -> Result<()> {
    let (machine, target, mut cycle) = machine("watchdog-slow", &format!("watchdog {TIME_S}\n"))?;
    cycle.commands = vec![disk::throttle(0, 256 << 10)];
    let outcome = cycle.run()?;
    ensure!(
        !outcome.watchdog_bit,
        "the watchdog bit; {}",
        outcome.log.display()
    );
    proof::only_attempt_saved(&outcome, STAGE.crash(), &["vmcore-dmesg.txt saved: "])?;
    let began = outcome.line("kdump: vmcore-dmesg.txt saved: ")?.at;
    let took = outcome
        .line("kdump: attempt 1 of 1 done: ")?
        .at
        .saturating_sub(began);
    ensure!(
        took > Duration::from_secs(2 * TIME_S),
        "{took:?} is no slow dump"
    );
    STAGE.dump_is_on(&machine, &target, 1)?;
    machine.clean_up()
}
