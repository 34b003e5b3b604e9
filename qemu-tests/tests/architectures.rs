// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real kernels of other architectures, panicked in QEMU: the collector keeps the pages that Debian's makedumpfile of that
//! architecture keeps, with the content that the machine's memory had.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use qemu_tests::architecture::{Architecture, Crashed, panic_and_dump};
use qemu_tests::artifacts;
use qemu_tests::check::dumpfile::Dumpfile;
use qemu_tests::check::memory::{Memory, PAGE_SIZE};
use qemu_tests::check::readers;
use qemu_tests::run::run;

fn vmcore(crashed: &Crashed, level: u8) -> Result<(Dumpfile, String)> {
    let words = filter(crashed, level)?;
    Ok((Dumpfile::open(&crashed.work.join("ours"))?, words))
}

fn filter(crashed: &Crashed, level: u8) -> Result<String> {
    let out = crashed.work.join("ours");
    let said = run(Command::new(artifacts::vmcore()?)
        .args(["-f", "-c", "-d", &level.to_string()])
        .args([&crashed.core, &out]))?;
    let words = [said.stdout, said.stderr].concat();
    Ok(String::from_utf8_lossy(&words).into_owned())
}

/// Every page has the machine's content; firmware, which is not memory, is left alone.
fn compare_contents(dump: &Dumpfile, crashed: &Crashed) -> Result<()> {
    let mut compared = 0_u64;
    for &(pfn, descriptor) in dump.pages() {
        let mut expected = [0; PAGE_SIZE];
        if crashed.ram.read_page(pfn, &mut expected)? {
            ensure!(
                dump.content(descriptor)? == expected,
                "pfn {pfn:#x} differs"
            );
            compared += 1;
        }
    }
    ensure!(compared > 5000, "only {compared} pages compared");
    Ok(())
}

fn proof(name: &str, architecture: Architecture) -> Result<()> {
    let crashed = panic_and_dump(name, architecture, true)?;
    // As QEMU writes it: section headers first, no virtual addresses, firmware among the memory.
    let (dump, words) = vmcore(&crashed, 31)?;
    ensure!(!words.contains("lowered"), "{words}");
    ensure!(dump.release == crashed.release, "{}", dump.release);
    compare_contents(&dump, &crashed)?;
    let log = crashed.work.join("log");
    run(Command::new(artifacts::vmcore()?)
        .args(["-f", "--dump-dmesg"])
        .args([&crashed.core, &log]))?;
    let log = fs::read_to_string(&log)?;
    ensure!(
        log.contains("Kernel panic - not syncing: sysrq triggered crash"),
        "{log}"
    );

    crashed.make_plain()?;
    for level in [31, 1, 2, 4, 8, 16] {
        let (ours, _) = vmcore(&crashed, level)?;
        let theirs = Dumpfile::open(&crashed.makedumpfile(level)?)?;
        let verdict = readers::same_pages(&ours, &theirs);
        ensure!(verdict.is_good(), "level {level}: {verdict}");
        println!("{architecture:?}, level {level}: {verdict}");
    }
    fs::remove_dir_all(&crashed.work)?;
    Ok(())
}

#[test]
fn i386_is_filtered_as_by_its_own_makedumpfile() -> Result<()> {
    proof("architecture-i386", Architecture::I386)
}

#[test]
#[ignore = "a third architecture's boot; runs under --full"]
fn i386_with_pae_is_filtered_as_by_its_own_makedumpfile() -> Result<()> {
    proof("architecture-i386-pae", Architecture::I386Pae)
}

#[test]
#[ignore = "emulates another processor for a minute; runs under --full"]
fn arm64_is_filtered_as_by_its_own_makedumpfile() -> Result<()> {
    proof("architecture-arm64", Architecture::Arm64)
}

#[test]
#[ignore = "a boot more; runs under --full"]
fn a_dump_of_qemu_without_the_vmcoreinfo_device_is_kept_whole() -> Result<()> {
    let crashed = panic_and_dump("architecture-no-info", Architecture::I386, false)?;
    // Nothing says where the kernel's tables are; zeros are zeros all the same.
    let words = filter(&crashed, 31)?;
    ensure!(
        words.contains("31 is lowered to 1") && words.contains("it has no VMCOREINFO"),
        "{words}"
    );
    fs::remove_dir_all(&crashed.work)?;
    Ok(())
}
