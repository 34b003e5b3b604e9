// SPDX-License-Identifier: MIT OR Apache-2.0
//! What programs that are not ours say of a dump.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::dumpfile::Dumpfile;
use super::elf_core;
use super::memory::Memory;
use super::notes;
use super::paging::KernelSpace;
use crate::patience::Patience;
use crate::setup;

/// The longest that a reader may take. crash needs a quarter of a minute on a quiet machine.
const LIMIT: Duration = Duration::from_secs(180);

/// How the addresses of modules' code begin. Source: Linux 6.12 `Documentation/arch/x86/x86_64/mm.rst`.
const MODULE_AREA: &str = "0xffffffffc";
/// How many frames the panicking task's stack must have: the panic itself, and who called it.
const FRAMES: usize = 3;

/// What one reader made of a dump.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// The program.
    pub reader: &'static str,
    /// What it found, in one line.
    pub found: String,
    /// What it could not read or got wrong, in its own words; empty for a good dump.
    pub problems: Vec<String>,
    /// The panicking task's name and the CPU that it was on.
    pub task: Option<(String, u32)>,
    /// Its stack, innermost frame first.
    pub stack: Vec<String>,
}

impl Verdict {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reader, self.found)?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

/// Runs `command` with a limit on its time. How it ended is for the caller to judge: a reader's failure is a finding.
fn limited(command: &mut Command) -> Result<Output> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {shown}"))?;
    let mut patience = Patience::new(child.id(), LIMIT);
    let collect = |stream: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read until an error is all that there is to show.
            let _ = stream.map(|mut stream| stream.read_to_end(&mut bytes));
            bytes
        })
    };
    let stdout = collect(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = collect(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= patience.due() && !patience.lasts() {
            let _ = child.kill();
            child.wait()?;
            bail!("{shown}: not done in {} s; killed", LIMIT.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    };
    Ok(Output {
        status,
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
    })
}

fn words(output: &Output) -> String {
    let all = [output.stdout.as_slice(), &output.stderr].concat();
    let text = String::from_utf8_lossy(&all);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let tail = &lines[lines.len().saturating_sub(12)..];
    format!("{}: {}", output.status, tail.join("\n    "))
}

/// drgn: the panicking task and its stack; every task, its `struct pid`, `signal_struct` and kernel stack; every slab
/// page; the log.
///
/// # Errors
/// drgn is not there and cannot be fetched.
pub fn drgn(dump: &Path, vmlinux: &Path) -> Result<Verdict> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles/drgn_check.py");
    let mut command = Command::new(setup::drgn_python()?);
    command.arg(script).arg(dump).arg(vmlinux);
    let output = limited(&mut command)?;
    let mut verdict = Verdict {
        reader: "drgn",
        ..Verdict::default()
    };
    let Ok(said) = serde_json::from_slice::<Value>(&output.stdout) else {
        verdict.found = "cannot open the dump".to_owned();
        verdict.problems.push(words(&output));
        return Ok(verdict);
    };
    let list = |key: &str| -> Vec<String> {
        let values = said[key].as_array().cloned().unwrap_or_default();
        values
            .iter()
            .map(|value| value.as_str().unwrap_or("?").to_owned())
            .collect()
    };
    let count = |key: &str| said[key].as_u64().unwrap_or(0);
    verdict.stack = list("stack");
    verdict.problems = list("problems");
    verdict.task = said["task"]
        .as_str()
        .map(|task| (task.to_owned(), count("cpu") as u32));
    // A module's frames need the module's own file, which drgn is not given.
    let is_in_module = verdict
        .stack
        .first()
        .is_some_and(|frame| frame.starts_with(MODULE_AREA));
    if verdict.stack.len() < FRAMES && !is_in_module {
        verdict.problems.push(format!(
            "only {} frames of the panicking task",
            verdict.stack.len()
        ));
    }
    // A kernel has some tens of threads of its own, slabs from its first moments on, and a log.
    for (key, least) in [("tasks", 20), ("slab_pages", 500), ("log_lines", 100)] {
        if count(key) < least {
            verdict
                .problems
                .push(format!("{key}: {}, and at least {least} exist", count(key)));
        }
    }
    verdict.found = format!(
        "{} panicked in {} (pid {}, CPU {}): {}; {} tasks, {} slab pages, {} lines of log",
        said["release"].as_str().unwrap_or("?"),
        said["task"].as_str().unwrap_or("?"),
        said["pid"],
        said["cpu"],
        verdict.stack.join(" < "),
        count("tasks"),
        count("slab_pages"),
        count("log_lines"),
    );
    Ok(verdict)
}

/// crash: the panicking task's stack, and the log. `scratch` is a folder for its files.
///
/// crash 8.0.2 opens dumps of 6.1, and none of 6.12.
///
/// # Errors
/// crash is not installed, or `scratch` cannot be written to.
pub fn crash(dump: &Path, vmlinux: &Path, scratch: &Path) -> Result<Verdict> {
    let (commands, log) = (scratch.join("crash.commands"), scratch.join("crash.log"));
    let _ = fs::remove_file(&log);
    fs::write(
        &commands,
        format!("set scroll off\nbt\nlog > {}\nquit\n", log.display()),
    )
    .with_context(|| format!("writing {}", commands.display()))?;
    let mut command = setup::program("crash")?;
    command.arg("-s").arg("-i").args([&commands, vmlinux, dump]);
    let output = limited(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut verdict = Verdict {
        reader: "crash",
        ..Verdict::default()
    };
    let task = text.lines().find(|line| line.starts_with("PID: "));
    verdict.stack = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix('#'))
        .filter_map(|frame| frame.split_ascii_whitespace().nth(2))
        .map(str::to_owned)
        .collect();
    verdict.task = task.and_then(task_and_cpu);
    let log = fs::read_to_string(&log).unwrap_or_default();
    let log_lines = log.lines().count();
    if !output.status.success() || verdict.stack.len() < FRAMES || log_lines < 100 {
        verdict.problems.push(words(&output));
    }
    verdict.found = format!(
        "{}: {}; {log_lines} lines of log",
        task.unwrap_or("no task").trim(),
        verdict.stack.join(" < ")
    );
    Ok(verdict)
}

/// The name and the CPU in the first line of crash's `bt`: `PID: 1  TASK: ffff...  CPU: 0  COMMAND: "init"`.
fn task_and_cpu(line: &str) -> Option<(String, u32)> {
    let (_, rest) = line.split_once("CPU:")?;
    let (cpu, rest) = rest.split_once("COMMAND:")?;
    let name = rest.trim().trim_matches('"');
    Some((name.to_owned(), cpu.trim().parse().ok()?))
}

/// makedumpfile's own extraction of the log from `core`, a dumpfile or a vmcore. `scratch` is a folder for its file.
///
/// # Errors
/// makedumpfile is not installed, or fails on the file; the error has its words.
pub fn makedumpfile_dmesg(core: &Path, scratch: &Path) -> Result<Vec<u8>> {
    let out = scratch.join("makedumpfile.dmesg");
    let _ = fs::remove_file(&out);
    let mut command = setup::program("makedumpfile")?;
    command.arg("--dump-dmesg").args([core, &out]);
    let output = limited(&mut command)?;
    ensure!(
        output.status.success(),
        "makedumpfile --dump-dmesg {}: {}",
        core.display(),
        words(&output)
    );
    fs::read(&out).with_context(|| format!("reading {}", out.display()))
}

/// Whether makedumpfile extracts from `core` the log that we saved.
///
/// # Errors
/// As [`makedumpfile_dmesg`].
pub fn same_dmesg(core: &Path, saved: &[u8], scratch: &Path) -> Result<Verdict> {
    let theirs = makedumpfile_dmesg(core, scratch)?;
    let lines = |text: &[u8]| -> Vec<String> {
        let lines = text.split(|&byte| byte == b'\n');
        lines
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect()
    };
    let mut verdict = Verdict {
        reader: "makedumpfile --dump-dmesg",
        found: format!("{} bytes of log; {} bytes saved", theirs.len(), saved.len()),
        ..Verdict::default()
    };
    if theirs != saved {
        let (theirs, ours) = (lines(&theirs), lines(saved));
        let at = theirs.iter().zip(&ours).position(|(a, b)| a != b);
        let at = at.unwrap_or(theirs.len().min(ours.len()));
        verdict.problems.push(format!(
            "line {} is {:?}, and saved is {:?}",
            at + 1,
            theirs.get(at),
            ours.get(at)
        ));
    }
    Ok(verdict)
}

/// The pages that Debian's makedumpfile keeps at `level`, for the machine that `dump` was made from. Good for 6.1:
/// 1.7.2 takes some slab pages of 6.12 for a process's.
///
/// # Errors
/// The machine's memory cannot be read, or makedumpfile fails; the error has its words.
pub fn makedumpfile_kept(
    dump: &Dumpfile,
    ram: &dyn Memory,
    level: u8,
    scratch: &Path,
) -> Result<Dumpfile> {
    let core = rebuild_vmcore(dump, ram, scratch)?;
    let filtered = filter(&core, level, scratch);
    fs::remove_file(&core)?;
    filtered
}

/// Writes the vmcore that `dump` was made from: it is gone with the machine, but its content is not. The notes and the
/// list of pages are those of `dump`, every page comes from `ram`. `scratch` is the folder for it.
///
/// # Errors
/// The machine's memory cannot be read, or the file cannot be written.
pub fn rebuild_vmcore(dump: &Dumpfile, ram: &dyn Memory, scratch: &Path) -> Result<PathBuf> {
    let info = notes::vmcoreinfo(&dump.notes).context("no VMCOREINFO among the dump's notes")?;
    let page_offset = KernelSpace::new(ram, &info)?.page_offset()?;
    let path = scratch.join("rebuilt.vmcore");
    elf_core::write(&path, ram, &dump.present(), &dump.notes, page_offset)
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Lets makedumpfile filter the vmcore `core` at `level`.
///
/// # Errors
/// makedumpfile is not installed, or fails; the error has its words.
pub fn filter(core: &Path, level: u8, scratch: &Path) -> Result<Dumpfile> {
    let out = scratch.join("makedumpfile.kdump");
    let _ = fs::remove_file(&out);
    let mut command = setup::program("makedumpfile")?;
    command
        .args(["-d", &level.to_string(), "--message-level", "5"])
        .args([core, &out]);
    let output = limited(&mut command)?;
    ensure!(
        output.status.success(),
        "makedumpfile -d {level} {}: {}",
        core.display(),
        words(&output)
    );
    let dumpfile = Dumpfile::open(&out);
    fs::remove_file(&out)?;
    dumpfile
}

/// Where `ours` and `theirs` keep different pages, or know of different ones: a line for each of the first few.
#[must_use]
pub fn same_pages(ours: &Dumpfile, theirs: &Dumpfile) -> Verdict {
    let mut verdict = Verdict {
        reader: "makedumpfile",
        found: format!(
            "keeps {} pages; we keep {}",
            theirs.pages().len(),
            ours.pages().len()
        ),
        ..Verdict::default()
    };
    let kept = |dump: &Dumpfile| -> std::collections::BTreeSet<u64> {
        dump.pages().iter().map(|&(pfn, _)| pfn).collect()
    };
    let (our_pages, their_pages) = (kept(ours), kept(theirs));
    let differing: Vec<u64> = our_pages
        .symmetric_difference(&their_pages)
        .copied()
        .collect();
    for &pfn in differing.iter().take(5) {
        let (keeps, drops) = if our_pages.contains(&pfn) {
            ("we", "makedumpfile")
        } else {
            ("makedumpfile", "we")
        };
        verdict.problems.push(format!(
            "pfn {pfn:#x}: {keeps} keep it, {drops} leave it out"
        ));
    }
    if differing.len() > 5 {
        verdict
            .problems
            .push(format!("{} pages differ in all", differing.len()));
    }
    let highest = ours.max_mapnr.max(theirs.max_mapnr);
    let other = (0..highest)
        .filter(|&pfn| ours.is_present(pfn) != theirs.is_present(pfn))
        .count();
    if other > 0 {
        verdict
            .problems
            .push(format!("{other} pages are present in only one of the two"));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crash_names_the_task() {
        let line = "PID: 1        TASK: ffff88b5011fc800  CPU: 1    COMMAND: \"init\"";
        assert_eq!(task_and_cpu(line), Some(("init".to_owned(), 1)));
        assert_eq!(task_and_cpu("no task"), None);
    }
}
