// SPDX-License-Identifier: MIT OR Apache-2.0
//! One attempt at one target: the child's work, from the device to the finished dump.
//!
//! The small thing first: the crashed kernel's log, synced; then the vmcore under its incomplete name; then its own name,
//! the manifest, and the capture kernel's log. What is cut short stays where it is, under its incomplete name.
#![expect(
    clippy::result_large_err,
    reason = "a reason has no heap to lie on, and an attempt has one of them"
)]

pub mod disk;
pub mod network;
pub mod nfs;
mod programs;
mod save;
pub mod ssh;

use crate::clock;
use crate::date::date;
use crate::dump::Input;
use crate::fault::Faults;
use crate::log;
use crate::reach::Reach;
use crate::report::{Report, Step, TEXT_BYTES};
use crate::seal;
use crate::supervise::{self, DONE, Ended, FAILED, Outcome, REFUSED};
use crate::sys::board::Board;
use crate::vmcore::{Access, NotOpened, PATH, VmcoreFile};
use collector::{MEMORY_BYTES, OPEN_BYTES, Vmcore};
use config::{Attempt, Record, TargetSpec};
use core::fmt::{self, Write as _};
use core::net::IpAddr;
use disk::mount_point;
use heapless::{String, Vec};
use rustix::mount::UnmountFlags;
use rustix::process::Signal;
use targets::nfs::abandon;
use targets::ssh::MEMORY_BYTES as CONNECTION_BYTES;

/// Why an attempt failed, for the log and the next manifest.
pub type Reason = String<TEXT_BYTES>;

/// What an attempt is given.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The record that is followed.
    pub record: &'a Record<'a>,
    /// Which attempt, counted from 0.
    pub number: usize,
    /// The attempt.
    pub attempt: &'a Attempt<'a>,
    /// Why the attempts before failed.
    pub failures: &'a [Reason],
    /// Why the first kernel crashed; empty when the first look did not find it.
    pub panic_line: &'a str,
    /// Where to say how far it is.
    pub report: &'a Report,
    /// Faults that a test asks for.
    pub faults: &'a Faults,
    /// How to read the vmcore.
    pub access: Access,
    /// The ways to targets away from this machine.
    pub reach: &'static Reach,
    /// What it shares with its workers; `None` where one CPU does everything.
    pub board: Option<&'a Board>,
}

/// Makes the attempt in a child with deadlines.
///
/// A child that memory itself killed (SIGBUS: a page of the crashed machine is broken) is followed by another that reads
/// where the first had mapped, so that one bad page does not cost the dump.
pub fn supervised(job: &Job<'_>, memory: &mut [u8]) -> Outcome {
    let outcome = once(job, memory);
    if outcome.ended != Ended::Signal(Signal::BUS.as_raw()) || job.access == Access::Read {
        return outcome;
    }
    log!(
        "attempt {}: {outcome}; next: the same without mapping memory",
        job.number + 1
    );
    let again = Job {
        access: Access::Read,
        faults: &Faults::default(),
        ..*job
    };
    let mut second = once(&again, memory);
    second.left_behind |= outcome.left_behind;
    second
}

/// One child, and what it left mounted when it was killed.
fn once(job: &Job<'_>, memory: &mut [u8]) -> Outcome {
    let deadlines = &job.record.deadlines;
    let mut outcome = supervise::run(deadlines, job.report, c"kdump-attempt", &mut || {
        make(job, memory)
    });
    let killed = !matches!(outcome.ended, Ended::Done | Ended::Failed | Ended::Refused);
    if killed && job.board.is_some() {
        // Its workers were sent a signal when it ended; the board is free when they are gone.
        supervise::wait_orphans();
    }
    // Where the child still holds a disk there is nothing to be done; a server's mount can be taken from under it.
    if killed && (!outcome.left_behind || job.attempt.target.network().is_some()) {
        outcome.left_behind |= clear_away(job, outcome.ended);
    }
    if killed && outcome.step == Step::Prune {
        log!(
            "attempt {}: {outcome}; the dump does not need it",
            job.number + 1
        );
        // What it was to say stands there already.
        outcome.ended = Ended::Done;
    }
    outcome
}

/// Takes away what a killed child left mounted; whether that hung as well.
///
/// What it wrote to a disk gets there, the file system is clean, and the mount point is free for another try. What waits
/// for a dead server gets an error. Whatever hung may hang again, so that this has a deadline too, and not the long one of
/// a device that works.
fn clear_away(job: &Job<'_>, ended: Ended) -> bool {
    let record = job.record;
    let unmount: fn(&str) = match job.attempt.target {
        // A connection ends with the process that has it.
        TargetSpec::Raw { .. } | TargetSpec::Ssh { .. } => return false,
        TargetSpec::Filesystem { .. } => |path| {
            let _ = rustix::mount::unmount(path, UnmountFlags::empty());
        },
        TargetSpec::Nfs { .. } => abandon,
    };
    let step = match ended {
        Ended::Late(_) | Ended::Stalled(_) => Step::Final,
        _ => Step::Publish,
    };
    let outcome = supervise::run(&record.deadlines, job.report, c"kdump-unmount", &mut || {
        job.report.enter(step, 0);
        if let Ok(path) = mount_point(job.number) {
            unmount(&path);
        }
        DONE
    });
    outcome.left_behind
}

/// The child: makes the attempt, and leaves in its report where the dump is or why there is none.
fn make(job: &Job<'_>, memory: &mut [u8]) -> u8 {
    let mut run = Run {
        job,
        durations: Vec::new(),
        is_forbidden: false,
    };
    match run.make(memory) {
        Ok(place) => {
            job.report.set_text(format_args!("{place}"));
            DONE
        }
        Err(reason) => {
            job.report.set_text(format_args!("{reason}"));
            if run.is_forbidden { REFUSED } else { FAILED }
        }
    }
}

/// An attempt on its way.
pub struct Run<'a> {
    job: &'a Job<'a>,
    /// The steps so far and when each began.
    durations: Vec<(Step, u64), 12>,
    /// `kdump_pre` said no.
    is_forbidden: bool,
}

impl Run<'_> {
    fn enter(&mut self, step: Step) {
        self.job.report.enter(step, 0);
        let _ = self.durations.push((step, clock::now_ms()));
        // A fault of the dump comes when it is under way.
        if step != Step::Dump {
            self.job.faults.strike(step, self.job.number);
        }
    }

    /// How long each step took until now, in milliseconds.
    fn durations(&self) -> Vec<(Step, u64), 12> {
        let ends = self
            .durations
            .iter()
            .skip(1)
            .map(|&(_, start_ms)| start_ms)
            .chain([clock::now_ms()]);
        self.durations
            .iter()
            .zip(ends)
            .map(|(&(step, start_ms), end_ms)| (step, end_ms.saturating_sub(start_ms)))
            .collect()
    }

    fn make(&mut self, memory: &mut [u8]) -> Result<Place, Reason> {
        match &self.job.attempt.target {
            TargetSpec::Raw { device, overwrite } => self.raw(device, *overwrite, memory),
            TargetSpec::Filesystem {
                fstype,
                device,
                mount_options,
                path,
            } => self.mounted(fstype, device, mount_options, path, memory),
            target @ (TargetSpec::Nfs { .. } | TargetSpec::Ssh { .. }) => {
                let way = self.job.reach.way(target).ok_or_else(|| {
                    reason("this init was built without the network; build the image again with one that has it")
                })?;
                way(self, memory)
            }
        }
    }

    /// Opens the vmcore; the rest of the memory is for the dump.
    fn vmcore<'m>(&mut self, memory: &'m mut [u8]) -> Result<(Input<'m>, &'m mut [u8]), Reason> {
        let access = self.job.access;
        self.enter(Step::Open);
        let (open_memory, memory) = memory
            .split_at_mut_checked(OPEN_BYTES)
            .ok_or_else(|| reason("the memory is too small, a defect of kdumprd"))?;
        let open = || VmcoreFile::open(PATH, access).map_err(|error| reason(NotOpened(error)));
        let vmcore = match Vmcore::open(open()?, open_memory) {
            Ok(vmcore) => Input::Understood(vmcore),
            Err(error) => {
                log!("reading /proc/vmcore: {error}; next: a copy of it as it is");
                Input::Bytes(open()?)
            }
        };
        Ok((vmcore, memory))
    }

    /// No other attempt follows.
    fn is_last(&self) -> bool {
        self.job.number.saturating_add(1) >= self.job.record.attempts.len()
    }

    /// What the directory of the dump is called, and when the crash was.
    fn directory_name(
        &self,
        own_address: Option<IpAddr>,
        vmcore: &mut Input<'_>,
    ) -> (String<80>, i64) {
        let crash_time_s = vmcore
            .understood()
            .and_then(|vmcore| vmcore.crash_time_s())
            .unwrap_or_else(clock::wall_s);
        // Many machines share a server: the directory says whose dump it is.
        let mut name = String::new();
        if let Some(address) = own_address {
            let _ = write!(name, "{address}-");
        }
        let _ = write!(name, "{}", date(self.job.record.zone, crash_time_s));
        (name, crash_time_s)
    }
}

/// How much memory the attempts of a record take.
#[must_use]
pub fn memory_bytes(record: &Record<'_>) -> usize {
    let has_ssh = record
        .attempts
        .iter()
        .any(|attempt| matches!(attempt.target, TargetSpec::Ssh { .. }));
    let connection = if has_ssh { CONNECTION_BYTES } else { 0 };
    MEMORY_BYTES + OPEN_BYTES + connection + seal::memory_bytes(record)
}

/// `text` as a reason; what is too long is cut.
pub fn reason(text: impl fmt::Display) -> Reason {
    let mut reason = Reason::new();
    let _ = write!(Cut(&mut reason), "{text}");
    reason
}

struct Cut<'r>(&'r mut Reason);

impl fmt::Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            self.0.push(letter).map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}

/// Where a dump is.
pub type Place = String<300>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_is_too_long_is_cut() {
        let long = "x".repeat(2 * TEXT_BYTES);
        assert_eq!(reason(&long), long[..TEXT_BYTES]);
        assert_eq!(reason("short"), "short");
    }
}
