// SPDX-License-Identifier: MIT OR Apache-2.0
//! A disk that does not answer from the start on: who waits for it sits in the kernel and cannot be killed. Neither the next
//! attempt nor the reboot may wait for such a child. Disks that stop answering later are in `faults.rs`.

use std::time::Duration;

use anyhow::{Result, ensure};
use qemu_tests::cycle::Outcome;
use qemu_tests::disk::{self, Bus, Ext, Table};
use qemu_tests::machine::{Content, DiskPlan, Machine};
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
