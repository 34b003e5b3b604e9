// SPDX-License-Identifier: MIT OR Apache-2.0
//! A crash of this kernel with this plan, in a virtual machine: what `mkkdumprd selftest` and `estimate` do.
//!
//! ```text
//! plan ─▶ stand_in: a disk or a server for the target ─▶ image ─▶ machine: QEMU ─▶ guest: PID 1 loads the image and crashes
//!                                                                        └▶ capture ─▶ restart ─▶ every page is read back
//! ```
//! Each target of the plan has a run of its own, with an empty disk of the same kind, or a server, in its place: what the
//! kernel, init, the modules for the file system, the collector's options and the hooks do is tried for real; the machine's
//! own disks and servers are not, which `mkkdumprd check` tries.
//!
//! The first kernel's PID 1 is the program that rehearses, packed with its libraries: nothing is installed for it.

mod estimate;
pub mod guest;
mod machine;
mod stage;
mod stand_in;

pub use estimate::{Estimate, Measured, estimate};
pub use machine::Acceleration;

use crate::Request;
use crate::error::{Mistake, Mistakes};
use crate::proof::Verdict;
use serde_json::{Value, json};
use stage::{Plan, Stage};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
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
                    "dumps on {good} of {} targets, each with something in its place",
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
    let stage = Stage::set(rehearsal, Plan::make(&rehearsal.request)?)?;
    let mut report = Report::default();
    for goal in &stage.real.prepared.resolved.attempts {
        let target = goal.place.name();
        match stand_in::stands_for(goal, &stage.real.directives) {
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

/// Bytes that nobody can guess.
fn random<const N: usize>() -> Result<[u8; N], Mistake> {
    const FROM: &str = "/dev/urandom";
    let mut bytes = [0; N];
    File::open(FROM)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Mistake::new(format!("reading {FROM}: {error}")))?;
    Ok(bytes)
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
}
