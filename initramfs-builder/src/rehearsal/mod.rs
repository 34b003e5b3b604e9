// SPDX-License-Identifier: MIT OR Apache-2.0
//! A crash of this kernel with this plan, in a virtual machine: what `mkkdumprd selftest` and `estimate` do.
//!
//! ```text
//! plan ─▶ stand_in: a disk for the target ─▶ image ─▶ machine: QEMU ─▶ guest: PID 1 loads the image and crashes
//!                                                            └▶ capture ─▶ restart ─▶ guest: every page is read back
//! ```
//! Each target of the plan has a run of its own, with an empty disk of the same kind in its place: what the kernel, init,
//! the modules for the file system, the collector's options and the hooks do is tried for real; the machine's own disks
//! and servers are not, which `mkkdumprd check` tries.
//!
//! The first kernel's PID 1 is the program that rehearses, packed with its libraries: nothing is installed for it.

mod estimate;
pub mod guest;
mod machine;
mod stand_in;

pub use estimate::{Estimate, Measured, estimate};
pub use machine::Acceleration;

use crate::conf::Directives;
use crate::error::{Mistake, Mistakes};
use crate::host::Host;
use crate::image;
use crate::programs::{FOLDERS, Programs};
use crate::proof::Verdict;
use crate::resolve::Goal;
use crate::{Prepared, Request, prepare_for, read_conf};
use machine::{Ended, Machine};
use serde_json::{Value, json};
use stand_in::StandIn;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Memory of the first kernel that is enough for every kernel of today, in MiB.
pub const MEMORY_MIB: u64 = 1024;
/// A reservation that is enough for every plan without programs of the host, in MiB.
pub const CRASHKERNEL_MIB: u64 = 256;

/// What is rehearsed, and on which virtual machine.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The plan and its kernel.
    pub request: Request,
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The first kernel's memory beside the reservation, in MiB.
    pub memory_mib: u64,
    /// The reservation, in MiB.
    pub crashkernel_mib: u64,
    /// How the machine runs.
    pub acceleration: Acceleration,
    /// Where the runs leave what can be looked at: the consoles, and the disks of those that failed.
    pub folder: PathBuf,
}

/// What became of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The target, as the plan names it.
    pub target: String,
    /// What stood for it.
    pub stand_in: String,
    /// How it went.
    pub result: Result<Saved, Failure>,
}

/// A dump that was saved and read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// What was found, a file a line.
    pub found: Vec<String>,
    /// From the crash to the restart.
    pub time: Duration,
    /// The most memory that init's processes had, in KiB, where it said so.
    pub init_peak_kib: Option<u64>,
    /// The modules that the capture kernel had.
    pub modules: Vec<String>,
}

/// A rehearsal that did not end with a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub why: String,
    /// What the machine had printed.
    pub console: PathBuf,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; console: {}", self.why, self.console.display())
    }
}

/// A target that nothing can stand in for, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The target, as the plan names it.
    pub target: String,
    /// Why.
    pub why: String,
}

/// Where each target of the plan stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Those that were rehearsed.
    pub outcomes: Vec<Outcome>,
    /// Those that were not.
    pub left_out: Vec<LeftOut>,
}

impl Report {
    /// At least one target was rehearsed, and none of these failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(|outcome| outcome.result.is_ok())
    }
}

impl Report {
    /// In a line, for `kdumpctl status`.
    #[must_use]
    pub fn verdict(&self) -> (Verdict, String) {
        let bad: Vec<&str> = self
            .outcomes
            .iter()
            .filter(|outcome| outcome.result.is_err())
            .map(|outcome| outcome.target.as_str())
            .collect();
        let good = self.outcomes.len() - bad.len();
        if !bad.is_empty() {
            (Verdict::Bad, format!("no dump on {}", bad.join(", ")))
        } else if good == 0 {
            (Verdict::Unknown, "nothing could be rehearsed".to_owned())
        } else {
            (
                Verdict::Good,
                format!(
                    "dumps on {good} of {} targets, each with a disk in its place",
                    good + self.left_out.len()
                ),
            )
        }
    }

    /// As `--json` has it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let outcomes: Vec<Value> = self
            .outcomes
            .iter()
            .map(|outcome| {
                let (saved, failure) = match &outcome.result {
                    Ok(saved) => (Some(saved), None),
                    Err(failure) => (None, Some(failure)),
                };
                json!({
                    "target": outcome.target,
                    "stand_in": outcome.stand_in,
                    "good": saved.is_some(),
                    "found": saved.map(|saved| &saved.found),
                    "seconds": saved.map(|saved| saved.time.as_secs_f64()),
                    "init_peak_kib": saved.and_then(|saved| saved.init_peak_kib),
                    "why": failure.map(|failure| &failure.why),
                    "console": failure.map(|failure| failure.console.display().to_string()),
                })
            })
            .collect();
        let left_out: Vec<Value> = self
            .left_out
            .iter()
            .map(|left| json!({ "target": left.target, "why": left.why }))
            .collect();
        json!({ "good": self.is_good(), "targets": outcomes, "left_out": left_out })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Outcome {
            target,
            stand_in,
            result,
        } in &self.outcomes
        {
            match result {
                Ok(saved) => {
                    writeln!(
                        f,
                        "{target}: good: {:.1} s from the crash to the restart, with {stand_in}",
                        saved.time.as_secs_f64()
                    )?;
                    for found in &saved.found {
                        writeln!(f, "  {found}")?;
                    }
                }
                Err(failure) => writeln!(f, "{target}: FAILED, with {stand_in}: {failure}")?,
            }
        }
        for LeftOut { target, why } in &self.left_out {
            writeln!(f, "{target}: not rehearsed: {why}")?;
        }
        Ok(())
    }
}

/// Rehearses every target of the plan; `tell` hears what is being done.
///
/// # Errors
/// The plan itself has mistakes, or a program that the rehearsal needs is missing. A target that fails is no error here.
pub fn selftest(rehearsal: &Rehearsal, tell: &mut dyn FnMut(&str)) -> Result<Report, Mistakes> {
    let stage = Stage::set(rehearsal)?;
    let mut report = Report::default();
    for goal in &stage.real.resolved.attempts {
        let target = goal.place.name();
        match stand_in::stands_for(goal, &stage.directives) {
            Err(why) => report.left_out.push(LeftOut { target, why }),
            Ok(stand_in) => {
                tell(&format!("{target}: {stand_in} stands in for it"));
                let result = stage.run(goal, &stand_in, rehearsal.crashkernel_mib)?;
                report.outcomes.push(Outcome {
                    target,
                    stand_in: stand_in.to_string(),
                    result,
                });
            }
        }
    }
    Ok(report)
}

/// Everything that the runs of one rehearsal share.
struct Stage<'a> {
    rehearsal: &'a Rehearsal,
    directives: Directives,
    host: Host,
    /// The plan for the machine itself.
    real: Prepared,
    machine: Machine,
    /// This program and `vmcore`, with their libraries.
    programs: Programs,
    own_path: String,
    reader_path: String,
}

impl<'a> Stage<'a> {
    fn set(rehearsal: &'a Rehearsal) -> Result<Self, Mistakes> {
        let request = &rehearsal.request;
        let directives = read_conf(&request.conf)?;
        let host = Host::read(&request.host_root)?;
        let real = prepare_for(request, &directives, &host)?;
        fs::create_dir_all(&rehearsal.folder).map_err(|error| {
            Mistake::new(format!("making {}: {error}", rehearsal.folder.display()))
        })?;
        let machine = Machine::find(&rehearsal.kernel, rehearsal.acceleration, &rehearsal.folder)?;
        // What runs in the machine is this system's, whatever system the plan is for.
        let this_system = Host::read(Path::new("/"))?;
        let own = std::env::current_exe()
            .map_err(|error| Mistake::new(format!("finding this program's own file: {error}")))?;
        let own_path = own.display().to_string();
        let reader_path = reader(&own)?;
        let mut programs = Programs::default();
        for path in [&own_path, &reader_path] {
            programs
                .add(&this_system, path, "the rehearsal")
                .map_err(Mistake::new)?;
        }
        Ok(Self {
            rehearsal,
            directives,
            host,
            real,
            machine,
            programs,
            own_path,
            reader_path,
        })
    }

    /// One crash with `stand_in` in the place of the goal's target.
    fn run(
        &self,
        goal: &Goal,
        stand_in: &StandIn,
        crashkernel_mib: u64,
    ) -> Result<Result<Saved, Failure>, Mistakes> {
        let folder = self.rehearsal.folder.join(file_name(&format!(
            "{}-{crashkernel_mib}M",
            goal.place.name()
        )));
        let failed = |error: std::io::Error| {
            Mistakes::from(Mistake::new(format!(
                "preparing {}: {error}",
                folder.display()
            )))
        };
        fs::create_dir_all(&folder).map_err(failed)?;
        let disk = folder.join("disk");
        stand_in.make(&disk)?;
        let (directives, host) = stand_in.scene(&self.directives, &self.host, &disk);
        let prepared = prepare_for(&self.rehearsal.request, &directives, &host)?;
        let first = folder.join("first.img");
        let crash = self.first_image(&[
            (
                guest::KERNEL,
                fs::read(&self.rehearsal.kernel).map_err(failed)?,
            ),
            (guest::IMAGE, prepared.bytes.clone()),
        ]);
        fs::write(&first, crash?).map_err(failed)?;

        let console = folder.join("console.log");
        let failure = |why: String| {
            Ok(Err(Failure {
                why,
                console: console.clone(),
            }))
        };
        let memory_mib = self.rehearsal.memory_mib + crashkernel_mib;
        let arguments = format!("{}=crash crashkernel={crashkernel_mib}M", guest::VARIABLE);
        let mut crashed = self
            .machine
            .run(&first, &arguments, memory_mib, &disk, &console)?;
        if crashed.hung_before(guest::BEGUN) {
            crashed = self
                .machine
                .run(&first, &arguments, memory_mib, &disk, &console)?;
        }
        if let Some(why) = crashed.line_of(guest::FAILED) {
            return failure(why.to_owned());
        }
        let Some(crash) = crashed.time_of(guest::CRASHING) else {
            return failure("the first kernel did not get as far as the crash".to_owned());
        };
        if crashed.line_of("kdump: attempt 1 of 1 done").is_none() {
            return failure(crashed.why_not());
        }
        if crashed.ended != Ended::ByItself {
            return failure("the dump was saved, but the machine did not restart".to_owned());
        }
        let time = crashed.end.saturating_sub(crash);

        let modules = prepared.closure.modules.iter();
        let list: String = modules
            .clone()
            .map(|module| format!("{}\n", module.name))
            .collect();
        let mut files = vec![
            (guest::MODULES, list.into_bytes()),
            (guest::READER, self.reader_path.clone().into_bytes()),
            (guest::WHERE, stand_in.reading_list(&prepared).into_bytes()),
        ];
        let paths: Vec<String> = modules
            .clone()
            .map(|module| guest::module_path(&module.name))
            .collect();
        for (path, module) in paths.iter().zip(modules.clone()) {
            files.push((path, module.bytes.clone()));
        }
        fs::write(&first, self.first_image(&files)?).map_err(failed)?;
        let arguments = format!("{}=check", guest::VARIABLE);
        let console_of_check = folder.join("check.log");
        let checked = self
            .machine
            .run(&first, &arguments, memory_mib, &disk, &console_of_check)?;
        if checked.line_of(guest::GOOD).is_none() {
            let why = checked
                .line_of(guest::FAILED)
                .unwrap_or("the dump could not be read back");
            return Ok(Err(Failure {
                why: why.to_owned(),
                console: console_of_check,
            }));
        }
        let _ = fs::remove_file(&disk);
        let _ = fs::remove_file(&first);
        Ok(Ok(Saved {
            found: checked.lines_of(guest::FOUND),
            time,
            init_peak_kib: checked
                .line_of(guest::PEAK)
                .and_then(|text| text.trim().parse().ok()),
            modules: modules.map(|module| module.name.clone()).collect(),
        }))
    }

    /// An initramfs with this program as its init.
    fn first_image(&self, files: &[(&str, Vec<u8>)]) -> Result<Vec<u8>, Mistake> {
        let mut items = image::Tree::default();
        items.console();
        items.link("init", &self.own_path, "PID 1 of the first kernel");
        for (name, file) in self.programs.files() {
            items.file(name, file.permissions, file.bytes.clone(), &file.why);
        }
        for (name, bytes) in files {
            items.file(name, 0o644, bytes.clone(), "the rehearsal");
        }
        // Read once by the kernel, from a file in memory: smaller takes longer.
        image::pack(&items.into_items(), crate::compress::ImageCompression::None)
    }
}

/// The program that reads dumps back: the one beside this, else the installed one.
fn reader(own: &Path) -> Result<String, Mistake> {
    let beside = own.with_file_name("vmcore");
    FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join("vmcore"))
        .fold(beside.is_file().then_some(beside), |found, path| {
            found.or_else(|| path.is_file().then_some(path))
        })
        .map(|path| path.display().to_string())
        .ok_or_else(|| {
            Mistake::new(
                "there is no `vmcore` beside this program nor in the system's folders, which reads the dumps back; install it",
            )
        })
}

/// A name of a file for a target.
fn file_name(target: &str) -> String {
    target
        .trim_start_matches('/')
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_without_any_run_is_not_good() {
        let mut report = Report::default();
        assert!(!report.is_good());
        assert_eq!(report.verdict().0, Verdict::Unknown);
        let outcome = |result| Outcome {
            target: "/dev/vda".to_owned(),
            stand_in: String::new(),
            result,
        };
        report.outcomes.push(outcome(Ok(Saved {
            found: Vec::new(),
            time: Duration::from_secs(1),
            init_peak_kib: None,
            modules: Vec::new(),
        })));
        assert!(report.is_good());
        assert_eq!(report.verdict().0, Verdict::Good);
        report.outcomes.push(outcome(Err(Failure {
            why: "no dump".to_owned(),
            console: PathBuf::from("/c"),
        })));
        assert!(!report.is_good());
        assert_eq!(
            report.verdict(),
            (Verdict::Bad, "no dump on /dev/vda".to_owned())
        );
    }

    #[test]
    fn every_target_has_a_name_for_files() {
        assert_eq!(file_name("/dev/vg0/var"), "dev-vg0-var");
    }
}
