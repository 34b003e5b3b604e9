// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dumps to file systems other than ext's. No tool of the host reads most of them: a guest does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use qemu_tests::crash::Crash;
use qemu_tests::foreign;
use qemu_tests::machine::{Content, DiskPlan, Machine, Made};
use qemu_tests::proof::{self, Known};
use qemu_tests::run::run;
use qemu_tests::saved::Saved;
use qemu_tests::setup::{self, Flavour, Kernel};
use qemu_tests::vm::End;

/// A machine whose second disk is the file system in this image.
fn machine(name: &str, image: impl FnOnce(&Path) -> Result<()>) -> Result<(Machine, Made)> {
    let mut machine = Machine::new(name)?;
    let content = machine.work().join("made.img");
    image(&content)?;
    machine.add(&DiskPlan::virtio(Content::Blank(16)))?;
    let made = machine.add(&DiskPlan::virtio(Content::Copy(&content)))?;
    fs::remove_file(&content)?;
    Ok((machine, made))
}

/// Panics, captures to this file system, and checks what another guest finds there.
fn saves(
    (machine, made): (Machine, Made),
    kernel: &Kernel,
    fstype: &str,
    conf: &str,
    place: &str,
) -> Result<()> {
    let name = machine.work().file_name().context("no name")?.to_owned();
    let mut cycle = machine.cycle(kernel, &conf.replace("NODE", &made.node))?;
    cycle.memory_mib = 512;
    let outcome = cycle.run()?;
    proof::lines_in_order(
        &outcome,
        &[
            "init ",
            &format!("attempt 1 of 1: {fstype} "),
            "vmcore-dmesg.txt saved: ",
            "vmcore: ",
            "attempt 1 of 1 done: ",
            "final action: reboot",
        ],
    )?;
    ensure!(outcome.end == End::Reset, "{:?}", outcome.end);
    let copied = foreign::copy_out(
        &name.to_string_lossy(),
        kernel,
        &made.disk.image,
        fstype,
        place,
        &machine.work().join("out"),
    )?;
    let saved = Saved::only_in(&copied)?;
    if matches!(fstype, "vfat" | "exfat") {
        // No colons and no modes; the mount made all of it root's alone.
        saved.check_names("", ".")?;
        let mode = fs::metadata(saved.file("vmcore"))?.permissions().mode();
        ensure!(mode & 0o77 == 0, "{mode:o}");
    } else {
        saved.check_complete()?;
    }
    let known = Known::of(kernel);
    proof::folder_is_good(&saved, &known, Crash::Sysrq, machine.work())?;
    machine.clean_up()
}

fn saves_to_type(flavour: Flavour, fstype: &str, line: &str) -> Result<()> {
    let kernel = setup::kernel(flavour)?;
    let made = machine(&format!("type-{fstype}"), |image| {
        foreign::make(image, fstype, 320)
    })?;
    saves(made, &kernel, fstype, line, "/var/crash")
}

#[test]
fn xfs() -> Result<()> {
    saves_to_type(Flavour::Cloud6_1, "xfs", "xfs LABEL=dumps\n")
}

#[test]
fn btrfs_on_6_12() -> Result<()> {
    saves_to_type(Flavour::Cloud6_12, "btrfs", "btrfs LABEL=dumps\n")
}

#[test]
fn vfat() -> Result<()> {
    saves_to_type(Flavour::Cloud6_1, "vfat", "vfat LABEL=DUMPS\n")
}

#[test]
fn exfat_on_6_12() -> Result<()> {
    saves_to_type(Flavour::Cloud6_12, "exfat", "exfat NODE\n")
}

#[test]
fn minix() -> Result<()> {
    saves_to_type(Flavour::Generic6_1, "minix", "minix NODE\n")
}

#[test]
fn a_root_in_a_subvolume_of_btrfs() -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let (machine, made) = machine("btrfs-root", |image| {
        let golden =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/btrfs-subvolume.img.xz");
        let output = run(setup::program("xz")?.arg("-dc").arg(golden))?;
        fs::write(image, output.stdout)?;
        run(Command::new("fallocate").arg("-d").arg(image))?;
        Ok(())
    })?;
    let host = machine.host_root();
    fs::write(
        host.join("proc/self/mountinfo"),
        format!(
            "21 1 0:31 /@ / rw shared:1 - btrfs {} rw,subvol=/@\n",
            made.node
        ),
    )?;
    saves(
        (machine, made),
        &kernel,
        "btrfs",
        "# the root\n",
        "/@/var/crash",
    )
}

#[test]
fn a_copy_that_vfat_cannot_hold_goes_to_the_next_target_before_its_first_byte() -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let (mut machine, made) = machine("vfat-limit", |image| foreign::make(image, "vfat", 64))?;
    let spare = machine.add(&DiskPlan::virtio(Content::Blank(600)))?;
    let conf = format!(
        "vfat {}\nraw {}\ncore_collector cp\ndefault reboot\n",
        made.node, spare.node
    );
    let mut cycle = machine.cycle(&kernel, &conf)?;
    cycle.memory_mib = 512;
    let outcome = cycle.run()?;
    proof::lines_in_order(
        &outcome,
        &[
            "init ",
            "attempt 1 of 2: vfat ",
            "attempt 1 of 2 failed: the dump needs ",
            "attempt 2 of 2: raw ",
            "attempt 2 of 2 done: ",
            "final action: reboot",
        ],
    )?;
    let line = outcome.line("attempt 1 of 2 failed")?;
    ensure!(
        line.text.contains(" free; next: attempt 2"),
        "{}",
        line.text
    );
    machine.clean_up()
}
