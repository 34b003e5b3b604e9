// SPDX-License-Identifier: MIT OR Apache-2.0
//! The administrator's programs at an attempt: hooks, and a collector of the host.
#![expect(
    clippy::result_large_err,
    reason = "a reason has no heap to lie on, and an attempt has one of them"
)]

use super::disk::mount_point;
use super::{Reason, Run, reason};
use crate::dump::Dumped;
use crate::hook::{self, Program};
use config::{Format, HookKind, TargetSpec};
use core::fmt::Write as _;
use heapless::String;

impl Run<'_> {
    /// Runs the hooks before the dump.
    ///
    /// # Errors
    /// `kdump_pre` forbids it.
    pub(super) fn before_the_dump(&mut self) -> Result<(), Reason> {
        let job = self.job;
        let kinds = [HookKind::Pre, HookKind::PreFolder];
        hook::run_all(job.record, &kinds, None, "", job.report).map_err(|ended| {
            self.is_forbidden = true;
            reason(format_args!("{} forbids the dump: {ended}", HookKind::Pre))
        })
    }

    /// Runs the hooks after the dump.
    pub(super) fn after_the_dump(&self, is_saved: bool, vmcore: &str) {
        let job = self.job;
        let kinds = [HookKind::PostFolder, HookKind::Post];
        // Only what comes before the dump can forbid anything.
        let _ = hook::run_all(
            job.record,
            &kinds,
            Some(u8::from(!is_saved)),
            vmcore,
            job.report,
        );
    }

    /// Where programs find the dump; empty where no path leads there.
    pub(super) fn local_path(
        &self,
        directory: Option<&str>,
        name: &str,
        is_incomplete: bool,
    ) -> String<300> {
        let mut path = String::new();
        if matches!(self.job.attempt.target, TargetSpec::Raw { .. }) {
            let _ = path.push_str(directory.unwrap_or_default());
        } else if !matches!(self.job.attempt.target, TargetSpec::Ssh { .. })
            && let (Some(directory), Ok(mount_point)) = (directory, mount_point(self.job.number))
        {
            let suffix = if is_incomplete { "-incomplete" } else { "" };
            let _ = write!(path, "{mount_point}{directory}/{name}{suffix}");
        }
        path
    }

    /// Has the administrator's program save the vmcore to `place`; what it writes there is its progress.
    pub(super) fn run_collector(&self, program: &str, place: &str) -> Result<Dumped, Reason> {
        let record = self.job.record;
        if place.is_empty() {
            return Err(reason(format_args!(
                "no path leads {program} to the target"
            )));
        }
        let mut size_bytes = 0;
        let ended = Program::new(program)
            .and_then(|program| program.with(format_args!("/proc/vmcore")))
            .and_then(|program| program.with(format_args!("{place}")))
            .map_or(hook::Ended::TooLong, |program| {
                program.run(record.deadlines.dump_s, &mut || {
                    let now_bytes = rustix::fs::stat(place).map_or(0, |found| found.st_size);
                    if now_bytes != size_bytes {
                        size_bytes = now_bytes;
                        self.job.report.beat();
                    }
                })
            });
        if ended.is_good() {
            Ok(Dumped {
                stats: None,
                format: Format::Copy,
            })
        } else {
            Err(reason(format_args!("{program}: {ended}")))
        }
    }
}
