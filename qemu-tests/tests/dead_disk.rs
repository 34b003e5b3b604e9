// SPDX-License-Identifier: MIT OR Apache-2.0
//! Disks that stop answering for good: who waits for one sits in the kernel and cannot be killed. Neither the next attempt
//! nor the reboot may wait for such a child.

use std::time::Duration;

use anyhow::{Result, ensure};
use qemu_tests::cycle::{Cycle, Outcome};
use qemu_tests::disk::{self, Bus, Ext, Table};
use qemu_tests::machine::{Content, DiskPlan, Machine};
use qemu_tests::saved::Saved;
use qemu_tests::scene::Stage;
use qemu_tests::vm::End;

const STAGE: Stage = Stage::SMALL;

/// A process that cannot be killed was left, the second attempt has the dump, and the reset came soon after it.
fn nobody_waited(outcome: &Outcome) -> Result<()> {
    outcome.line(
        "kdump: a process waits in the kernel and cannot be killed; the disks will not be synced",
    )?;
    let done = outcome.line("kdump: attempt 2 of 2 done: ")?.at;
    let waited = outcome.duration - done;
    ensure!(
        waited < Duration::from_secs(15),
        "{waited:?} from the dump to the reset; {}",
        outcome.log.display()
    );
    Ok(())
}

/// Lets the first disk die while the dump is on its way to it.
fn dies_in_the_middle(mut cycle: Cycle) -> Result<Outcome> {
    // So slow that the dump takes a while.
    cycle.commands = vec![disk::throttle(0, 3 << 20)];
    let mut running = cycle.start()?;
    running.expect("kdump: copying: .* written")?;
    let (command, arguments) = disk::throttle(0, 1);
    running.vm.qmp().execute(command, &arguments)?;
    running.finish()
}

#[test]
fn a_raw_disk_that_dies_in_the_middle_of_the_dump() -> Result<()> {
    let plan = STAGE.disk(Content::Blank(256));
    let (machine, _, second, cycle) = STAGE.two_targets("dead-raw", &plan, "stall_timeout 10")?;
    let outcome = dies_in_the_middle(cycle)?;
    outcome.line(
        "kdump: attempt 1 of 2 failed: .* made no progress for 10 s; killed, but it waits in the kernel and is left behind",
    )?;
    STAGE.second_attempt_has_it(&machine, &second, &outcome, "attempt 2 of 2")?;
    nobody_waited(&outcome)?;
    machine.clean_up()
}

#[test]
fn a_file_system_whose_disk_dies_in_the_middle_of_the_dump() -> Result<()> {
    let plan = STAGE.ext("ext4", 256);
    let (machine, first, second, cycle) =
        STAGE.two_targets("dead-ext4", &plan, "stall_timeout 10")?;
    let outcome = dies_in_the_middle(cycle)?;
    let failed =
        outcome.line("kdump: attempt 1 of 2 failed: .* made no progress for 10 s; killed")?;
    let began = outcome.line("kdump: attempt 1 of 2: ")?.at;
    // Unmounting has its bound too, and not that of a disk that works.
    ensure!(failed.at - began < Duration::from_secs(90), "{failed:?}");
    STAGE.second_attempt_has_it(&machine, &second, &outcome, "attempt 2 of 2")?;
    nobody_waited(&outcome)?;
    // The small thing was saved first, and synced.
    first.filesystem().replay()?;
    let out = machine.work().join("first");
    let partial = Saved::only(&first.filesystem(), "/var/crash", &out)?;
    ensure!(partial.dmesg()?.contains(STAGE.crash().panic_line()));
    let names = partial.names()?;
    ensure!(!names.contains(&"vmcore".to_owned()), "{names:?}");
    machine.clean_up()
}

/// The kernel reads a disk's partition table while it loads the driver, so that the one who loads it hangs.
#[test]
fn a_disk_that_is_dead_from_the_start_on() -> Result<()> {
    let mut machine = Machine::new("dead-at-start")?;
    // Its first request is answered; a GPT needs more.
    let dead = machine.add(&DiskPlan {
        table: Some((Table::Gpt, "5f2c5c6e-8b6f-4f0e-9a35-0d6a7a1c9d10")),
        ..STAGE.ext("ext4", 64)
    })?;
    let sound = machine.add(&DiskPlan {
        bus: Bus::Nvme,
        ..DiskPlan::virtio(Content::Ext(Ext::new("ext3", 256)))
    })?;
    let conf = format!("ext4 {}\next3 {}\ndisk_timeout 2\n", dead.node, sound.node);
    let mut cycle = STAGE.cycle(&machine, &conf)?;
    cycle.commands = vec![disk::throttle(0, 1)];
    let outcome = cycle.run()?;
    outcome.line(
        "kdump: module virtio_blk: .* took longer than 30 s; killed, but it waits in the kernel",
    )?;
    // The driver's shutdown waits for the disk as well.
    outcome.line("kdump: reboot: .* took longer than 5 s; killed, .*; next: by force")?;
    ensure!(outcome.end == End::Reset, "{:?}", outcome.end);
    STAGE.dump_is_on(&machine, &sound, 2)?;
    nobody_waited(&outcome)?;
    machine.clean_up()
}
