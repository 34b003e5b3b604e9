// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs of the administrator in a real capture: hooks, collectors, and what they need to run.

use std::fs;

use anyhow::{Result, ensure};
use qemu_tests::cycle::Outcome;
use qemu_tests::machine::Machine;
use qemu_tests::proof::lines_in_order;
use qemu_tests::saved::Saved;
use qemu_tests::scene::Stage;
use qemu_tests::setup;

const STAGE: Stage = Stage::SMALL;

/// A machine that has a shell, which finds its other programs in itself.
fn machine(name: &str) -> Result<Machine> {
    let machine = Machine::new(name)?;
    machine.give_program("/bin/sh", &fs::read(setup::busybox()?)?)?;
    Ok(machine)
}

/// A script that says its name, its arguments and `VMCORE`, and then does `more`.
fn script(machine: &Machine, path: &str, more: &str) -> Result<()> {
    let text =
        format!("#!/bin/sh\necho \"<1>harness: ran {path} [$*] [$VMCORE]\" > /dev/kmsg\n{more}\n");
    machine.give_program(path, text.as_bytes())
}

/// The programs that ran, in order.
fn ran(outcome: &Outcome) -> Vec<&str> {
    outcome
        .lines
        .iter()
        .filter_map(|line| {
            line.text
                .split_once("harness: ran ")
                .map(|(_, ran)| ran.trim_end())
        })
        .collect()
}

#[test]
fn hooks_run_around_the_dump_in_their_order() -> Result<()> {
    let mut machine = machine("hooks")?;
    let disk = machine.add(&STAGE.ext("ext4", 256))?;
    script(&machine, "/etc/kdump/before.sh", "")?;
    // What a hook of a folder returns does not count.
    script(&machine, "/etc/kdump/pre.d/10-check", "exit 7")?;
    script(&machine, "/etc/kdump/post.d/10-tell", "exit 7")?;
    script(
        &machine,
        "/etc/kdump/after.sh",
        "[ -s \"$VMCORE\" ] && read -r line < \"${VMCORE%/vmcore}/manifest.json\" && echo \"<1>harness: complete\" > /dev/kmsg\n\
         echo \"<1>harness: helper: $(/opt/helper)\" > /dev/kmsg",
    )?;
    script(&machine, "/etc/kdump/emergency.d/never", "")?;
    // A program with libraries: this machine's own `cat`, at its own places.
    fs::copy("/bin/cat", machine.host_root().join("bin/cat"))?;
    for library in libraries("/bin/cat")? {
        machine.give_program(&library, &fs::read(&library)?)?;
    }
    machine.give_program("/opt/helper", b"#!/bin/sh\n/bin/cat /proc/version\n")?;
    let cycle = STAGE.cycle(
        &machine,
        &format!(
            "ext4 {}\nkdump_pre /etc/kdump/before.sh\nkdump_post /etc/kdump/after.sh\nextra_bins /opt/helper /bin/cat\n\
             debug_mem_level 1\ndefault reboot\n",
            disk.node
        ),
    )?;
    let outcome = cycle.run()?;
    lines_in_order(
        &outcome,
        &[
            "init ",
            "memory at the start: MemTotal",
            "attempt 1 of 1: ",
            "kdump_pre /etc/kdump/before.sh",
            "pre.d /etc/kdump/pre.d/10-check: exit status 7",
            "vmcore-dmesg.txt saved: ",
            "vmcore: ",
            "post.d /etc/kdump/post.d/10-tell",
            "kdump_post /etc/kdump/after.sh",
            "attempt 1 of 1 done: ",
            "final action: reboot",
        ],
    )?;
    STAGE.dump_is_on(&machine, &disk, 1)?;
    let vmcore = outcome.line("attempt 1 of 1 done: ")?;
    let vmcore = vmcore
        .text
        .split_once("done: ")
        .map_or("", |(_, path)| path.trim_end());
    assert_eq!(
        ran(&outcome),
        [
            "/etc/kdump/before.sh [] []".to_owned(),
            "/etc/kdump/pre.d/10-check [] []".to_owned(),
            format!("/etc/kdump/post.d/10-tell [0] [/mnt/1{vmcore}]"),
            format!("/etc/kdump/after.sh [0] [/mnt/1{vmcore}]"),
        ]
    );
    outcome.line("harness: complete")?;
    outcome.line("harness: helper: Linux version ")?;
    Ok(())
}

/// The loader and the libraries of a program of this machine.
fn libraries(program: &str) -> Result<Vec<String>> {
    let text = qemu_tests::run::stdout(std::process::Command::new("ldd").arg(program))?;
    Ok(text
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(str::to_owned)
        .collect())
}

#[test]
fn kdump_pre_can_forbid_the_dump() -> Result<()> {
    let mut machine = machine("hooks-forbidden")?;
    let disk = machine.add(&STAGE.ext("ext4", 128))?;
    script(&machine, "/etc/kdump/before.sh", "exit 3")?;
    script(&machine, "/etc/kdump/after.sh", "")?;
    script(&machine, "/etc/kdump/emergency.sh", "")?;
    let cycle = STAGE.cycle(
        &machine,
        &format!(
            "ext4 {}\nkdump_pre /etc/kdump/before.sh\nkdump_post /etc/kdump/after.sh\n\
             kdump_emergency /etc/kdump/emergency.sh\nfailure_action shell\nfinal_action poweroff\n",
            disk.node
        ),
    )?;
    let outcome = cycle.run()?;
    outcome
        .line("attempt 1 of 1 failed: kdump_pre forbids the dump: exit status 3; next: poweroff")?;
    outcome.line("final action: poweroff")?;
    assert_eq!(ran(&outcome), ["/etc/kdump/before.sh [] []"]);
    Ok(())
}

#[test]
fn an_emergency_has_its_hooks_and_a_failed_dump_its_status() -> Result<()> {
    let mut machine = machine("hooks-emergency")?;
    let disk = machine.add(&STAGE.ext("ext4", 128))?;
    script(&machine, "/etc/kdump/after.sh", "")?;
    script(&machine, "/etc/kdump/emergency.d/10", "exit 9")?;
    script(&machine, "/etc/kdump/emergency.sh", "")?;
    script(&machine, "/opt/dumper", "exit 5")?;
    let cycle = STAGE.cycle(
        &machine,
        &format!(
            "ext4 {}\ncore_collector /opt/dumper -x\nkdump_post /etc/kdump/after.sh\n\
             kdump_emergency /etc/kdump/emergency.sh\ndefault reboot\n",
            disk.node
        ),
    )?;
    let outcome = cycle.run()?;
    outcome.line("attempt 1 of 1 failed: /opt/dumper -x: exit status 5; .*; next: reboot")?;
    let ran = ran(&outcome);
    ensure!(ran.len() == 4, "{ran:?}");
    ensure!(
        ran[0].starts_with("/opt/dumper [-x /proc/vmcore /mnt/1/var/crash/")
            && ran[0].contains("/vmcore-incomplete]"),
        "{ran:?}"
    );
    ensure!(
        ran[1].starts_with("/etc/kdump/after.sh [1] [/mnt/1/var/crash/")
            && ran[1].ends_with("/vmcore-incomplete]"),
        "{ran:?}"
    );
    assert_eq!(
        ran[2..],
        [
            "/etc/kdump/emergency.d/10 [] []",
            "/etc/kdump/emergency.sh [] []"
        ]
    );
    Ok(())
}

#[test]
fn a_program_can_collect_what_init_would() -> Result<()> {
    let mut machine = machine("hooks-collector")?;
    let disk = machine.add(&STAGE.ext("ext4", 256))?;
    machine.give_program("/opt/head", b"#!/bin/sh\nhead -c 4096 \"$2\" > \"$3\"\n")?;
    let cycle = STAGE.cycle(
        &machine,
        &format!(
            "ext4 {}\ncore_collector /opt/head -x\ndefault reboot\n",
            disk.node
        ),
    )?;
    let outcome = cycle.run()?;
    outcome.line("attempt 1 of 1: .*, /opt/head -x$")?;
    let done = outcome.line("attempt 1 of 1 done: ")?;
    let path = done
        .text
        .split_once("done: ")
        .map_or("", |(_, path)| path.trim_end());
    let saved = Saved::only(
        &disk.filesystem(),
        "/var/crash",
        &machine.work().join("saved"),
    )?;
    ensure!(
        path.ends_with(&format!("{}/vmcore", saved.name())),
        "{path}"
    );
    let vmcore = fs::read(saved.file("vmcore"))?;
    ensure!(
        vmcore.len() == 4096 && vmcore.starts_with(b"\x7fELF"),
        "{} bytes",
        vmcore.len()
    );
    let manifest = saved.manifest()?;
    assert_eq!(manifest["core_collector"], "/opt/head -x");
    assert_eq!(manifest["complete"], true);
    Ok(())
}
