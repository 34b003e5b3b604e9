// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a test holds a capture to: the lines of its init, and what others read in its dump.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::artifacts;
use crate::check::dumpfile::Dumpfile;
use crate::check::memory::RamFile;
use crate::check::{page_exact, readers};
use crate::crash::Crash;
use crate::cycle::Outcome;
use crate::machine::Made;
use crate::run::stdout;
use crate::saved::Saved;
use crate::setup::{self, Flavour, Kernel};
use crate::vm::End;

/// Checks that these texts begin lines of the capture's init, in this order, with any others between them. The first
/// one must be in its first line, and the last one in its last line.
///
/// # Errors
/// Which one is missing, and all lines.
pub fn lines_in_order(outcome: &Outcome, expected: &[&str]) -> Result<()> {
    let behind = lines_behind(outcome, expected)?;
    let lines = outcome.init_lines();
    ensure!(
        behind == 0,
        "lines after the last one expected; {}",
        all_lines(outcome)
    );
    if let (Some(first), Some(text)) = (lines.first(), expected.first()) {
        ensure!(
            first.starts_with(&format!("kdump: {text}")),
            "lines before the first one expected; {}",
            all_lines(outcome)
        );
    }
    Ok(())
}

/// Checks that these texts begin lines of the capture's init, in this order, with any others around them; how many lines
/// come behind the last one.
///
/// # Errors
/// Which one is missing, and all lines.
pub fn lines_behind(outcome: &Outcome, expected: &[&str]) -> Result<usize> {
    let lines = outcome.init_lines();
    let mut rest = lines.as_slice();
    for text in expected {
        let wanted = format!("kdump: {text}");
        let at = rest
            .iter()
            .position(|line| line.starts_with(&wanted))
            .with_context(|| format!("no line `{wanted}` at its place; {}", all_lines(outcome)))?;
        rest = &rest[at + 1..];
    }
    Ok(rest.len())
}

fn all_lines(outcome: &Outcome) -> String {
    let lines = outcome.init_lines();
    format!("{}\n  {}", outcome.log.display(), lines.join("\n  "))
}

/// Checks the lines of a capture whose only attempt saved a dump, and its end.
///
/// # Errors
/// What is otherwise.
pub fn only_attempt_saved(outcome: &Outcome, crash: Crash, between: &[&str]) -> Result<()> {
    let panic = format!("crashed kernel: {}", crash.panic_line());
    let mut lines = vec!["init ", &panic, "attempt 1 of 1: "];
    lines.extend(between);
    lines.extend(["vmcore: ", "attempt 1 of 1 done: ", "final action: reboot"]);
    lines_in_order(outcome, &lines)?;
    ensure!(outcome.end == End::Reset, "{:?}", outcome.end);
    Ok(())
}

/// Checks that the first attempt, at a target of the kind `first`, failed for the reason `said`, and that the raw disk has
/// the dump.
///
/// # Errors
/// What is otherwise.
pub fn raw_has_it_after(outcome: &Outcome, first: &str, said: &str) -> Result<()> {
    lines_in_order(
        outcome,
        &[
            "init ",
            "crashed kernel: ",
            &format!("attempt 1 of 2: {first} "),
            "attempt 1 of 2 failed: ",
            "attempt 2 of 2: raw ",
            "vmcore: ",
            "attempt 2 of 2 done: ",
            "final action: reboot",
        ],
    )?;
    let line = outcome.line("attempt 1 of 2 failed: ")?;
    ensure!(line.text.contains(said), "{}", line.text);
    ensure!(outcome.end == End::Reset, "{:?}", outcome.end);
    Ok(())
}

/// What is known of a dump beside the file itself.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The kernel that crashed.
    pub kernel: &'a Kernel,
    /// `vmcore-dmesg.txt`, where the target has files.
    pub dmesg: Option<&'a [u8]>,
    /// The guest's memory as a file, and the level that the dump was made with.
    pub ram: Option<(&'a Path, u8)>,
    /// Also ask the readers that need the kernel's symbols.
    pub symbols: bool,
}

impl<'a> Known<'a> {
    /// Nothing but the kernel.
    #[must_use]
    pub const fn of(kernel: &'a Kernel) -> Self {
        Self {
            kernel,
            dmesg: None,
            ram: None,
            symbols: false,
        }
    }
}

/// Holds the only dump on the file system of `made` against everything that is known: nothing is left to repair, its
/// folder is complete, its manifest and its log are this crash's, and the dumpfile is good.
///
/// # Errors
/// What is otherwise.
pub fn saved_is_good(
    made: &Made,
    known: &Known<'_>,
    crash: Crash,
    scratch: &Path,
) -> Result<Saved> {
    made.filesystem().check()?;
    let saved = Saved::only(&made.filesystem(), "/var/crash", &scratch.join("out"))?;
    saved.check_complete()?;
    folder_is_good(&saved, known, crash, scratch)?;
    Ok(saved)
}

/// Holds the files of a dump against everything that is known.
///
/// # Errors
/// What is otherwise.
pub fn folder_is_good(
    saved: &Saved,
    known: &Known<'_>,
    crash: Crash,
    scratch: &Path,
) -> Result<()> {
    let manifest = saved.manifest()?;
    ensure!(manifest["complete"] == true, "{manifest}");
    ensure!(
        manifest["kernel"] == known.kernel.release.as_str(),
        "{manifest}"
    );
    let dmesg = fs::read(saved.file("vmcore-dmesg.txt"))?;
    ensure!(
        String::from_utf8_lossy(&dmesg).contains(crash.panic_line()),
        "no panic in the saved log"
    );
    let known = Known {
        dmesg: Some(&dmesg),
        ..*known
    };
    dump_is_good(&saved.file("vmcore"), &known, scratch)
}

/// Recovers the dump of a raw target, whose bytes are in the file `device`, and holds what comes out against everything that
/// is known.
///
/// # Errors
/// What is otherwise.
pub fn raw_is_good(
    device: &Path,
    known: &Known<'_>,
    crash: Crash,
    scratch: &Path,
) -> Result<Saved> {
    let said = save_raw(device, &scratch.join("recovered"))?;
    ensure!(said.contains(": complete dump saved to "), "{said}");
    // It was compared with the checksums that the capture kernel wrote: where there are none, that is said.
    ensure!(!said.contains("checksums"), "{said}");
    let saved = Saved::only_in(&scratch.join("recovered"))?;
    saved.check_complete()?;
    folder_is_good(&saved, known, crash, scratch)?;
    let again = save_raw(device, &scratch.join("recovered"))?;
    ensure!(again.contains("nothing to recover: "), "{again}");
    Ok(saved)
}

/// Runs `vmcore save-raw`, and returns what it said.
///
/// # Errors
/// It fails.
pub fn save_raw(device: &Path, folder: &Path) -> Result<String> {
    stdout(
        Command::new(artifacts::vmcore()?)
            .arg("save-raw")
            .arg(device)
            .arg(folder),
    )
}

/// Holds a dumpfile against everything that is not us: makedumpfile's idea of its log, the guest's memory page by page,
/// makedumpfile's idea of which pages to keep (6.1), drgn, and crash (6.1).
///
/// # Errors
/// What differs.
pub fn dump_is_good(dump: &Path, known: &Known<'_>, scratch: &Path) -> Result<()> {
    let log = readers::makedumpfile_dmesg(dump, scratch)?;
    ensure!(
        String::from_utf8_lossy(&log).contains(&known.kernel.release),
        "makedumpfile finds no log of {} in {}",
        known.kernel.release,
        dump.display()
    );
    if let Some(saved) = known.dmesg {
        good(&readers::same_dmesg(dump, saved, scratch)?)?;
    }
    let knows_filter = matches!(
        known.kernel.flavour,
        Flavour::Cloud6_1 | Flavour::Generic6_1
    );
    if let Some((ram, level)) = known.ram {
        let dumpfile = Dumpfile::open(dump)?;
        let ram = RamFile::open(ram)?;
        let present = page_exact::exported(&String::from_utf8_lossy(&log))?;
        let result = page_exact::compare(&dumpfile, &ram, level, Some(&present))?;
        ensure!(result.is_exact(), "{}: {result}", dump.display());
        if knows_filter {
            let theirs = readers::makedumpfile_kept(&dumpfile, &ram, level, scratch)?;
            good(&readers::same_pages(&dumpfile, &theirs))?;
        }
    }
    if known.symbols {
        let vmlinux = setup::vmlinux(known.kernel)?;
        good(&readers::drgn(dump, &vmlinux)?)?;
        if known.kernel.flavour == Flavour::Cloud6_1 {
            good(&readers::crash(dump, &vmlinux, scratch)?)?;
        }
    }
    Ok(())
}

fn good(verdict: &readers::Verdict) -> Result<()> {
    ensure!(verdict.is_good(), "{verdict}");
    Ok(())
}
