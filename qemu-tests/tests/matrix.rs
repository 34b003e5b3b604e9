// SPDX-License-Identifier: MIT OR Apache-2.0
//! The full matrix: every kernel, with one processor and with two, × every kind of target, a list of them, and every
//! failure action. Each cell is one test, so that a failing one is named; what came of it is kept for the table.
//!
//! The kernels for any machine have their disks on SATA with one processor and on NVMe with two.

use anyhow::{Result, ensure};
use qemu_tests::case::Case;
use qemu_tests::cycle::Outcome;
use qemu_tests::disk::{Bus, Fault};
use qemu_tests::machine::{Content, DiskPlan};
use qemu_tests::matrix::Cell;
use qemu_tests::proof;
use qemu_tests::scene::{Stage, failed_then, real_init_ran, use_the_shell};
use qemu_tests::setup::Flavour;
use qemu_tests::vm::End;

/// Plays one row's scene under this name.
type Row = fn(&str, Stage) -> Result<Outcome>;

fn play(row: &'static str, scene: Row, flavour: Flavour, processors: u32) -> Result<()> {
    let cell = Cell {
        row,
        flavour,
        processors,
    };
    let bus = match (flavour, processors) {
        (Flavour::Cloud6_1 | Flavour::Cloud6_12, _) => Bus::Virtio,
        (Flavour::Generic6_1 | Flavour::Generic6_12, 1) => Bus::Ahci,
        (Flavour::Generic6_1 | Flavour::Generic6_12, _) => Bus::Nvme,
    };
    let stage = Stage {
        flavour,
        processors,
        bus,
        page_exact: true,
    };
    let result = scene(&cell.name(), stage);
    cell.keep(&result)?;
    result.map(|_| ())
}

/// One test for each row, for one kernel and number of processors.
macro_rules! cells {
    ($($module:ident: $flavour:ident, $processors:literal;)*) => {$(
        mod $module {
            cells!(@rows $flavour, $processors,
                raw ext2 ext3 ext4 root_file_system fallback_list
                reboot halt poweroff shell dump_to_rootfs mount_root_run_init);
        }
    )*};
    (@rows $flavour:ident, $processors:literal, $($row:ident)*) => {$(
        #[test]
        #[ignore = "the full matrix: cargo verify --full"]
        fn $row() -> anyhow::Result<()> {
            super::play(stringify!($row), super::$row, super::Flavour::$flavour, $processors)
        }
    )*};
}

cells! {
    cloud_6_1_with_1_cpu: Cloud6_1, 1;
    cloud_6_1_with_2_cpus: Cloud6_1, 2;
    cloud_6_12_with_1_cpu: Cloud6_12, 1;
    cloud_6_12_with_2_cpus: Cloud6_12, 2;
    generic_6_1_with_1_cpu: Generic6_1, 1;
    generic_6_1_with_2_cpus: Generic6_1, 2;
    generic_6_12_with_1_cpu: Generic6_12, 1;
    generic_6_12_with_2_cpus: Generic6_12, 2;
}

/// A case of this stage.
fn case<'a>(name: &'a str, stage: Stage, content: Content<'a>, conf: &'a str) -> Case<'a> {
    Case {
        processors: stage.processors,
        capture_processors: stage.processors,
        crash: stage.crash(),
        page_exact: stage.page_exact.then_some(31),
        ..Case::new(name, stage.flavour, stage.disk(content), conf)
    }
}

fn raw(name: &str, stage: Stage) -> Result<Outcome> {
    let capture = case(name, stage, Content::Blank(256), "raw NODE\n").capture()?;
    capture.saved_raw()?;
    let outcome = capture.outcome.clone();
    capture.clean_up()?;
    Ok(outcome)
}

fn file_system(name: &str, stage: Stage, fstype: &str) -> Result<Outcome> {
    let conf = format!("{fstype} NODE\n");
    let content = stage.ext(fstype, 256).content;
    let capture = case(name, stage, content, &conf).capture()?;
    capture.saved()?;
    let outcome = capture.outcome.clone();
    capture.clean_up()?;
    Ok(outcome)
}

fn ext2(name: &str, stage: Stage) -> Result<Outcome> {
    file_system(name, stage, "ext2")
}

fn ext3(name: &str, stage: Stage) -> Result<Outcome> {
    file_system(name, stage, "ext3")
}

fn ext4(name: &str, stage: Stage) -> Result<Outcome> {
    file_system(name, stage, "ext4")
}

/// No target at all: the root file system, as the panic left it.
fn root_file_system(name: &str, stage: Stage) -> Result<Outcome> {
    let (machine, root) = stage.with_root(name)?;
    let mut cycle = stage.cycle(&machine, "# nothing\n")?;
    cycle.first.modules = stage.bus.modules().split(',').chain(["ext4"]).collect();
    // Its journal has to be replayed.
    cycle.first.prepare = format!(
        "until [ -e {0} ]; do sleep 0.1; done\n\
         mount -t ext4 {0} /mnt || fail mount\n\
         echo words > /mnt/words\n\
         sync\n",
        root.node
    );
    let outcome = cycle.run()?;
    proof::only_attempt_saved(&outcome, stage.crash(), &["vmcore-dmesg.txt saved: "])?;
    stage.dump_is_on(&machine, &root, 1)?;
    ensure!(root.filesystem().request("cat /words")? == "words\n");
    machine.clean_up()?;
    Ok(outcome)
}

/// The first target takes a few writes and then no more.
fn fallback_list(name: &str, stage: Stage) -> Result<Outcome> {
    let failing = DiskPlan {
        fault: Fault::WritesFailAfter(5),
        ..stage.disk(Content::Blank(256))
    };
    let (machine, _, second, cycle) = stage.two_targets(name, &failing, "")?;
    let outcome = cycle.run()?;
    outcome.line("kdump: attempt 1 of 2 failed: .*EIO")?;
    stage.second_attempt_has_it(&machine, &second, &outcome, "attempt 2 of 2")?;
    machine.clean_up()?;
    Ok(outcome)
}

fn reboot(name: &str, stage: Stage) -> Result<Outcome> {
    let (machine, cycle) = stage.without_its_target(name, "failure_action reboot")?;
    let outcome = cycle.run()?;
    failed_then(&outcome, "reboot", "final action: reboot")?;
    ensure!(outcome.end == End::Reset, "{:?}", outcome.end);
    machine.clean_up()?;
    Ok(outcome)
}

fn halt(name: &str, stage: Stage) -> Result<Outcome> {
    let (machine, cycle) = stage.without_its_target(name, "default halt")?;
    let mut running = cycle.start()?;
    running.expect("reboot: System halted")?;
    let outcome = running.stop();
    failed_then(&outcome, "halt", "final action: halt")?;
    machine.clean_up()?;
    Ok(outcome)
}

fn poweroff(name: &str, stage: Stage) -> Result<Outcome> {
    let (machine, cycle) = stage.without_its_target(name, "failure_action poweroff")?;
    let outcome = cycle.run()?;
    failed_then(&outcome, "poweroff", "final action: poweroff")?;
    ensure!(outcome.end == End::PowerOff, "{:?}", outcome.end);
    machine.clean_up()?;
    Ok(outcome)
}

fn shell(name: &str, stage: Stage) -> Result<Outcome> {
    let (machine, cycle) = stage.without_its_target(name, "default shell")?;
    let outcome = use_the_shell(cycle.start()?)?;
    machine.clean_up()?;
    Ok(outcome)
}

fn dump_to_rootfs(name: &str, stage: Stage) -> Result<Outcome> {
    let (machine, root, cycle) =
        stage.root_behind_a_missing_target(name, "default dump_to_rootfs")?;
    let outcome = cycle.run()?;
    stage.second_attempt_has_it(&machine, &root, &outcome, "dump_to_rootfs")?;
    machine.clean_up()?;
    Ok(outcome)
}

fn mount_root_run_init(name: &str, stage: Stage) -> Result<Outcome> {
    let (machine, _, cycle) =
        stage.root_behind_a_missing_target(name, "failure_action mount_root_run_init")?;
    let outcome = cycle.run()?;
    real_init_ran(&outcome)?;
    machine.clean_up()?;
    Ok(outcome)
}
