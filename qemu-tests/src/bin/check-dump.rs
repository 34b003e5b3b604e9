// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks one dump by hand: against the guest's RAM, the second classifier, makedumpfile, drgn and crash.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use qemu_tests::check::classifier::{Classifier, PageKind};
use qemu_tests::check::dumpfile::Dumpfile;
use qemu_tests::check::elf_core::ElfCore;
use qemu_tests::check::memory::RamFile;
use qemu_tests::check::readers::Verdict;
use qemu_tests::check::{notes, page_exact, readers};

const USAGE: &str = "\
usage: check-dump DUMP [--ram FILE --level N [--makedumpfile]] [--log FILE] [--vmlinux FILE [--crash]]
       check-dump --classify VMCORE [--makedumpfile]
  --ram FILE       the guest's RAM: compare every page; the level is the one that the dump was made with
  --log FILE       vmcore-dmesg.txt: compare it with makedumpfile's, and the present pages with what the kernel said
  --makedumpfile   compare the kept pages with those of Debian's makedumpfile (right for 6.1)
  --vmlinux FILE   open the dump in drgn; with --crash in crash too (6.1)
  --classify       count the pages of a raw vmcore by kind, at each level";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("check-dump: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[derive(Default)]
struct Arguments {
    file: Option<PathBuf>,
    ram: Option<PathBuf>,
    level: Option<u8>,
    log: Option<PathBuf>,
    vmlinux: Option<PathBuf>,
    makedumpfile: bool,
    crash: bool,
    classify: bool,
}

fn arguments() -> Result<Arguments> {
    let mut parsed = Arguments::default();
    let mut words = env::args_os().skip(1);
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .map(PathBuf::from)
                .with_context(|| format!("{} needs a value\n{USAGE}", word.display()))
        };
        match word.to_str() {
            Some("--ram") => parsed.ram = Some(value()?),
            Some("--log") => parsed.log = Some(value()?),
            Some("--vmlinux") => parsed.vmlinux = Some(value()?),
            Some("--level") => {
                let level = value()?.to_str().and_then(|level| level.parse().ok());
                let level = level.filter(|&level| level <= 31);
                parsed.level = Some(level.context("levels are 0 to 31")?);
            }
            Some("--makedumpfile") => parsed.makedumpfile = true,
            Some("--crash") => parsed.crash = true,
            Some("--classify") => parsed.classify = true,
            Some(option) if option.starts_with('-') => bail!("unknown option {option}\n{USAGE}"),
            _ if parsed.file.is_none() => parsed.file = Some(word.into()),
            _ => bail!("{USAGE}"),
        }
    }
    Ok(parsed)
}

fn run() -> Result<bool> {
    let arguments = arguments()?;
    let file = arguments.file.clone().context(USAGE)?;
    let scratch = env::temp_dir().join(format!("check-dump-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("making {}", scratch.display()))?;
    let good = if arguments.classify {
        classify(&file, arguments.makedumpfile, &scratch)
    } else {
        check(&file, &arguments, &scratch)
    };
    fs::remove_dir_all(&scratch)?;
    good
}

fn show(verdict: &Verdict) -> bool {
    println!("{verdict}");
    verdict.is_good()
}

fn check(file: &Path, arguments: &Arguments, scratch: &Path) -> Result<bool> {
    let dump = Dumpfile::open(file)?;
    println!(
        "{}: level {}, status {:#x}, {} CPUs, {} pages, max_mapnr {:#x}",
        dump.release,
        dump.level,
        dump.status,
        dump.cpus,
        dump.pages().len(),
        dump.max_mapnr
    );
    let mut good = true;
    let log = arguments.log.as_ref().map(fs::read).transpose()?;
    if let Some(ram) = &arguments.ram {
        let ram = RamFile::open(ram)?;
        let level = arguments.level.context("--ram needs --level")?;
        let present = log
            .as_ref()
            .map(|log| page_exact::exported(&String::from_utf8_lossy(log)))
            .transpose()?;
        let result = page_exact::compare(&dump, &ram, level, present.as_deref())?;
        println!("{result}");
        good &= result.is_exact();
        if arguments.makedumpfile {
            let theirs = readers::makedumpfile_kept(&dump, &ram, level, scratch)?;
            good &= show(&readers::same_pages(&dump, &theirs));
        }
    }
    if let Some(log) = &log {
        good &= show(&readers::same_dmesg(file, log, scratch)?);
    }
    if let Some(vmlinux) = &arguments.vmlinux {
        good &= show(&readers::drgn(file, vmlinux)?);
        if arguments.crash {
            good &= show(&readers::crash(file, vmlinux, scratch)?);
        }
    }
    Ok(good)
}

fn classify(file: &Path, against_makedumpfile: bool, scratch: &Path) -> Result<bool> {
    let core = ElfCore::open(file)?;
    let info = notes::vmcoreinfo(&core.notes).context("no VMCOREINFO among the notes")?;
    let classifier = Classifier::new(&core, &info, core.present())?;
    let mut good = true;
    for level in 0..=31 {
        let kinds = classifier.classify(level);
        let mut counts: BTreeMap<PageKind, u64> = BTreeMap::new();
        for (_, kind) in &kinds {
            *counts.entry(*kind).or_default() += 1;
        }
        let counts: Vec<String> = counts
            .into_iter()
            .map(|(kind, pages)| format!("{pages} {kind}"))
            .collect();
        println!("level {level}: {}", counts.join(", "));
        if against_makedumpfile {
            let theirs = readers::filter(file, level, scratch)?;
            for &(pfn, kind) in &kinds {
                let keeps = theirs.has(pfn);
                if keeps != (kind == PageKind::Kept) {
                    good = false;
                    let does = if keeps { "keeps it" } else { "leaves it out" };
                    println!(
                        "  pfn {pfn:#x}: {kind}, makedumpfile {does}: {}",
                        classifier.describe(pfn)
                    );
                }
            }
        }
    }
    Ok(good)
}
