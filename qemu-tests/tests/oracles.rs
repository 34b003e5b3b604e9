// SPDX-License-Identifier: MIT OR Apache-2.0
//! What drgn, crash and makedumpfile see in a dump: who panicked, where, and that nothing they need is missing.

use std::collections::HashSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use qemu_tests::artifacts;
use qemu_tests::case::{Capture, Case};
use qemu_tests::check::dumpfile::Dumpfile;
use qemu_tests::check::elf_core::ElfCore;
use qemu_tests::check::memory::{Memory as _, RamFile, ZERO_PAGE};
use qemu_tests::check::page_exact;
use qemu_tests::check::readers::{self, Verdict};
use qemu_tests::crash::Crash;
use qemu_tests::disk::Ext;
use qemu_tests::machine::{Content, DiskPlan};
use qemu_tests::run::run;
use qemu_tests::setup::{self, Flavour};

/// The panic was this task's, on this CPU, by way of these functions, innermost first.
fn panicked(verdict: &Verdict, task: &str, cpu: u32, functions: &[&str]) -> Result<()> {
    ensure!(verdict.is_good(), "{verdict}");
    ensure!(
        verdict.task == Some((task.to_owned(), cpu)),
        "not {task} on CPU {cpu}: {verdict}"
    );
    let mut stack = verdict.stack.iter();
    for function in functions {
        // crash names a function's outlined part by itself.
        let found = stack.any(|frame| frame.split('.').next() == Some(function));
        ensure!(found, "no {function} at its place: {verdict}");
    }
    Ok(())
}

const BY_REQUEST: [&str; 4] = ["panic", "sysrq_handle_crash", "__handle_sysrq", "vfs_write"];

/// The second of two processors panics; the dump goes to a file system of this kind, or to the bare disk.
fn case<'a>(name: &'a str, flavour: Flavour, fstype: &'a str) -> Case<'a> {
    let (content, conf) = match fstype {
        "ext2" => (Content::Ext(Ext::new(fstype, 256)), "ext2 NODE\n"),
        "ext3" => (Content::Ext(Ext::new(fstype, 256)), "ext3 NODE\n"),
        "ext4" => (Content::Ext(Ext::new(fstype, 256)), "ext4 NODE\n"),
        _ => (Content::Blank(300), "raw NODE\n"),
    };
    Case {
        processors: 2,
        crash: Crash::SysrqOnCpu(1),
        ..Case::new(name, flavour, DiskPlan::virtio(content), conf)
    }
}

/// drgn, and on 6.1 crash as well, find this task and these functions in the dump of `case`; on CPU 1, unless the crash
/// chose its own.
fn readers_find(case: &Case<'_>, task: &str, functions: &[&str]) -> Result<()> {
    let capture = case.capture()?;
    let dump = match case.disk.content {
        Content::Blank(_) => capture.saved_raw()?.file("vmcore"),
        _ => capture.saved()?.file("vmcore"),
    };
    let vmlinux = setup::vmlinux(&capture.kernel)?;
    let drgn = readers::drgn(&dump, &vmlinux)?;
    let cpu = match case.crash {
        Crash::SysrqOnCpu(cpu) => cpu,
        _ => drgn.task.as_ref().context("no task")?.1,
    };
    panicked(&drgn, task, cpu, functions)?;
    // crash 8.0.2 does not know later kernels.
    if case.flavour == Flavour::Cloud6_1 {
        let crash = readers::crash(&dump, &vmlinux, capture.machine.work())?;
        panicked(&crash, task, cpu, functions)?;
    }
    capture.clean_up()
}

#[test]
fn drgn_and_crash_find_who_panicked_on_6_1() -> Result<()> {
    let case = case("oracle-6.1", Flavour::Cloud6_1, "ext3");
    readers_find(&case, "sh", &BY_REQUEST)
}

#[test]
fn drgn_finds_who_panicked_on_6_12() -> Result<()> {
    let case = case("oracle-6.12", Flavour::Cloud6_12, "ext4");
    readers_find(&case, "sh", &BY_REQUEST)
}

#[test]
fn drgn_and_crash_read_a_raw_partition_as_it_is() -> Result<()> {
    let case = case("oracle-raw-6.1", Flavour::Cloud6_1, "raw");
    readers_find(&case, "sh", &BY_REQUEST)
}

#[test]
fn drgn_finds_the_exit_of_init_on_6_12() -> Result<()> {
    let case = Case {
        crash: Crash::InitExits,
        ..case("oracle-init-exits", Flavour::Cloud6_12, "ext2")
    };
    readers_find(&case, "init", &["panic", "do_exit"])
}

/// Debian's makedumpfile leaves out slab pages of 6.12: the readers must see that, or their praise is worth nothing.
#[test]
fn a_dump_without_some_slab_pages_is_noticed() -> Result<()> {
    let capture = Case {
        page_exact: Some(31),
        ..case("oracle-lossy", Flavour::Cloud6_12, "ext4")
    }
    .capture()?;
    let ours = Dumpfile::open(&capture.saved()?.file("vmcore"))?;
    let work = capture.machine.work();
    let ram = RamFile::open(&work.join("ram"))?;
    let core = readers::rebuild_vmcore(&ours, &ram, work)?;
    let lossy = work.join("lossy");
    run(setup::program("makedumpfile")?
        .args(["-c", "-d", "31"])
        .args([&core, &lossy]))?;
    let compared = page_exact::compare(&Dumpfile::open(&lossy)?, &ram, 31, None)?;
    assert!(!compared.is_exact(), "{compared}");
    assert!(!lost_slab_pages(&capture, &lossy)?.is_good());
    capture.clean_up()
}

fn lost_slab_pages(capture: &Capture, dump: &std::path::Path) -> Result<Verdict> {
    let verdict = readers::drgn(dump, &setup::vmlinux(&capture.kernel)?)?;
    let named = verdict
        .problems
        .iter()
        .any(|problem| problem.contains("slab pages cannot be read"));
    ensure!(named, "{verdict}");
    Ok(verdict)
}

/// `-E`: the same pages are in the file, and those that the level keeps have the machine's bytes. In a gap that is too short to
/// end a segment, makedumpfile leaves what was there, and we leave zeros.
#[test]
fn an_elf_dump_has_the_pages_of_makedumpfile_s() -> Result<()> {
    let capture = Case {
        page_exact: Some(31),
        ..case("oracle-elf", Flavour::Cloud6_1, "ext4")
    }
    .capture()?;
    let dump = Dumpfile::open(&capture.saved()?.file("vmcore"))?;
    let work = capture.machine.work();
    let ram = RamFile::open(&work.join("ram"))?;
    let core = readers::rebuild_vmcore(&dump, &ram, work)?;
    let kept: HashSet<u64> = readers::filter(&core, 31, work)?
        .pages()
        .iter()
        .map(|&(pfn, _)| pfn)
        .collect();
    let made = |mut command: Command, name: &str| -> Result<ElfCore> {
        let out = work.join(name);
        run(command.args(["-E", "-d", "31"]).args([&core, &out]))?;
        ElfCore::open(&out)
    };
    let ours = made(Command::new(artifacts::vmcore()?), "ours.elf")?;
    let theirs = made(setup::program("makedumpfile")?, "theirs.elf")?;
    ensure!(
        ours.present() == theirs.present(),
        "other segments than makedumpfile's: {:x?}, {:x?}",
        ours.present(),
        theirs.present()
    );
    let [mut page, mut their_page, mut expected] = [ZERO_PAGE; 3];
    let mut gaps = 0;
    for pfn in ours.present().into_iter().flatten() {
        ensure!(ram.read_page(pfn, &mut expected)?, "no pfn {pfn:#x} in RAM");
        theirs.read_page(pfn, &mut their_page)?;
        ensure!(their_page == expected, "makedumpfile: pfn {pfn:#x} differs");
        if !kept.contains(&pfn) {
            expected = ZERO_PAGE;
            gaps += 1;
        }
        ours.read_page(pfn, &mut page)?;
        ensure!(page == expected, "pfn {pfn:#x} differs");
    }
    // A page of zeros is left out of an ELF file at this level, and has a place in the compressed one.
    let present: HashSet<u64> = ours.present().into_iter().flatten().collect();
    for &pfn in kept.difference(&present) {
        ensure!(ram.read_page(pfn, &mut expected)?, "no pfn {pfn:#x} in RAM");
        ensure!(expected == ZERO_PAGE, "pfn {pfn:#x} is in no segment");
    }
    ensure!(gaps > 0 && gaps < kept.len(), "{gaps} pages in gaps");
    capture.clean_up()
}
