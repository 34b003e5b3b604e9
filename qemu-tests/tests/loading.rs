// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kexec` in a real first kernel: loading, dropping, refusing, and the command line that the capture kernel gets.

use std::fs;

use anyhow::Result;
use qemu_tests::cycle::{Cycle, work_folder};
use qemu_tests::guest;
use qemu_tests::setup::{self, Flavour};

fn with_an_empty_init(name: &str) -> Result<Cycle> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let image = work_folder(name)?.join("empty.img");
    fs::write(&image, guest::empty_capture_image()?)?;
    Ok(Cycle::new(name, &kernel, image))
}

#[test]
fn what_was_loaded_can_be_dropped() -> Result<()> {
    let mut cycle = with_an_empty_init("kexec-unload")?;
    cycle.first.prepare =
        "/sbin/kexec -p /harness/vmlinuz --initrd=/harness/capture.img --command-line=x ||\n\
                               fail 'the first load'\n\
                           say \"first: $(cat /sys/kernel/kexec_crash_loaded)\"\n\
                           /sbin/kexec -p -u || fail unload\n\
                           say \"unloaded: $(cat /sys/kernel/kexec_crash_loaded)\"\n"
            .to_owned();
    let outcome = cycle.run()?;
    outcome.line("harness: first: 1")?;
    outcome.line("harness: unloaded: 0")?;
    outcome.line(guest::EMPTY_INIT_UP)?;
    Ok(())
}

#[test]
fn without_reserved_memory_it_says_what_to_do() -> Result<()> {
    let mut cycle = with_an_empty_init("kexec-no-memory")?;
    cycle.crashkernel = "0M".to_owned();
    let Err(error) = cycle.start() else {
        panic!("a capture kernel was loaded into no memory");
    };
    assert!(error.to_string().contains("kexec -p: 1 "), "{error}");
    assert!(error.to_string().contains("crashkernel="), "{error}");
    Ok(())
}

#[test]
fn the_capture_kernel_gets_the_line_of_the_first_without_what_would_harm() -> Result<()> {
    let mut cycle = with_an_empty_init("kexec-command-line")?;
    cycle.first_arguments = "quiet hugepages=8 pci=nocrs maxcpus=1".to_owned();
    cycle.capture_arguments = "panic=3 ipv6.disable=1".to_owned();
    let outcome = cycle.run()?;
    outcome.line(guest::EMPTY_INIT_UP)?;
    let line = &outcome.line("Command line: .*elfcorehdr=")?.text;
    let words: Vec<&str> = line.split_whitespace().collect();
    for kept in [
        "console=ttyS0",
        "pci=nocrs",
        "nr_cpus=1",
        "reset_devices",
        "irqpoll",
        "panic=3",
        "ipv6.disable=1",
    ] {
        assert!(words.contains(&kept), "{kept}: {line}");
    }
    for gone in ["quiet", "hugepages=8", "maxcpus=1", "panic=5", "panic=10"] {
        assert!(!words.contains(&gone), "{gone}: {line}");
    }
    assert!(!line.contains("crashkernel"), "{line}");
    Ok(())
}

#[test]
fn the_fast_reboot_starts_what_was_loaded() -> Result<()> {
    let mut cycle = with_an_empty_init("kexec-restart")?;
    cycle.first.prepare =
        "/sbin/kexec -l -S || fail 'something is loaded'\n\
         /sbin/kexec -e && fail 'nothing was started'\n\
         /sbin/kexec -l /harness/vmlinuz --initrd=/harness/capture.img --reuse-cmdline --append=again=1 > /harness/said 2>&1 ||\n\
             fail \"kexec -l: $(cat /harness/said)\"\n\
         /sbin/kexec -l -S && fail 'nothing is loaded'\n\
         say loaded\n\
         /sbin/kexec -e\n\
         fail \"kexec -e: $?\"\n"
            .to_owned();
    let outcome = cycle.run()?;
    outcome.line(guest::EMPTY_INIT_UP)?;
    // The whole line of the first start, with what it was told to add; it is no capture kernel.
    outcome.line("Command line: .*console=ttyS0 .*crashkernel=128M.* again=1$")?;
    let starts = outcome
        .lines
        .iter()
        .filter(|line| line.text.contains("Linux version "))
        .count();
    assert_eq!(starts, 2);
    Ok(())
}
