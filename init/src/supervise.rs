// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a child under deadlines and says how it ended.
//!
//! Nothing that a child does reaches PID 1: it may crash, be killed for memory, hang, or sit in the kernel for good. Each
//! of these ends in an [`Outcome`] after a bounded time.

use crate::clock;
use crate::log;
use crate::progress::Meter;
use crate::report::{Report, Step, TEXT_BYTES};
use crate::sys;
use crate::watchdog;
use config::Deadlines;
use config::bound::{GRACE_S, KILL_FINAL_S, KILL_S};
use core::fmt;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process, pidfd_open, setpgid, wait,
    waitpid,
};

/// The code with which a child ends when it did its work.
pub const DONE: u8 = 0;
/// The code with which a child ends when it could not, and said why in its report.
pub const FAILED: u8 = 1;
/// The code with which a child ends when the administrator's program forbids the dump, and said so in its report.
pub const REFUSED: u8 = 2;
/// The code with which the panic handler ends a child.
pub const PANICKED: u8 = 101;

/// How long processes whose parent has ended may take to go, which were killed by then.
const ORPHANS_MS: u64 = 1000;
/// How often PID 1 looks at what a child reports. The child's end wakes it at once.
const LOOK_MS: u64 = 1000;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It did its work.
    Done,
    /// It could not; its text says why.
    Failed,
    /// The administrator's program forbade the dump; its text says how.
    Refused,
    /// A defect of ours: it panicked, and the log has the place.
    Panicked,
    /// It ended with a code that means nothing.
    Code(i32),
    /// A signal killed it that PID 1 did not send.
    Signal(i32),
    /// The kernel killed it because memory ran out.
    OutOfMemory,
    /// It stayed in one step longer than this many seconds, and was killed.
    Late(u32),
    /// It made no progress for this many seconds, and was killed.
    Stalled(u32),
    /// There was no child: what `fork` said.
    NotStarted(Errno),
}

/// How a child ended, where, and what it said.
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// In which step.
    pub step: Step,
    /// Which of several (modules), counted from 0.
    pub item: u32,
    /// What it said.
    pub text: heapless::String<TEXT_BYTES>,
    /// It was killed and did not go: it waits in the kernel, and what it had open stays so.
    pub left_behind: bool,
}

impl Outcome {
    /// The child did its work.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ended == Ended::Done
    }
}

/// The reason, as it stands behind `failed: `.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = self.step.doing();
        match self.ended {
            Ended::Done => f.write_str("done"),
            Ended::Failed if self.text.is_empty() => write!(f, "{doing}: no reason given"),
            Ended::Failed | Ended::Refused => f.write_str(&self.text),
            Ended::Panicked => write!(f, "panicked while {doing}, a defect of kdumprd"),
            Ended::Code(code) => write!(f, "ended with code {code} while {doing}"),
            Ended::Signal(number) => {
                write!(f, "killed by {} while {doing}", SignalName(number))
            }
            Ended::OutOfMemory => write!(
                f,
                "killed by the kernel while {doing}: out of memory; a larger crashkernel= is needed"
            ),
            Ended::Late(seconds) => write!(f, "{doing} took longer than {seconds} s; killed"),
            Ended::Stalled(seconds) => {
                write!(f, "{doing} made no progress for {seconds} s; killed")
            }
            Ended::NotStarted(errno) => write!(
                f,
                "no process could be started: {}",
                collector::IoError(errno.raw_os_error())
            ),
        }?;
        if self.left_behind {
            f.write_str(", but it waits in the kernel and is left behind")?;
        }
        Ok(())
    }
}

/// A signal's name, as in signal(7).
pub(crate) struct SignalName(pub(crate) i32);

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            4 => "SIGILL",
            6 => "SIGABRT",
            7 => "SIGBUS",
            8 => "SIGFPE",
            9 => "SIGKILL",
            11 => "SIGSEGV",
            13 => "SIGPIPE",
            15 => "SIGTERM",
            number => return write!(f, "signal {number}"),
        };
        f.write_str(name)
    }
}

/// The seconds that a child may stay in `step`.
const fn bound_s(deadlines: &Deadlines, step: Step) -> u32 {
    match step {
        Step::Start | Step::Open => deadlines.open_s,
        Step::Look | Step::Dmesg => deadlines.dmesg_s,
        Step::Module => deadlines.module_s,
        Step::Device => deadlines.device_s.saturating_add(GRACE_S),
        Step::Network => deadlines.network_s.saturating_add(GRACE_S),
        Step::Dump => deadlines.dump_s,
        Step::Hook => deadlines.hook_s.saturating_add(GRACE_S),
        Step::Publish | Step::Prune => deadlines.publish_s,
        Step::Final => deadlines.final_s,
    }
}

/// Runs `child` in a process of its own until it ends, or until its time is over.
///
/// The child offers itself to the OOM killer. It returns [`DONE`], or [`FAILED`] with a text in the report.
pub fn run(
    deadlines: &Deadlines,
    report: &Report,
    name: &core::ffi::CStr,
    child: &mut dyn FnMut() -> u8,
) -> Outcome {
    report.clear();
    let oom_kills = oom_kills();
    let pid = match sys::fork(|| {
        let _ = rustix::thread::set_name(name);
        set_oom_score(b"1000");
        child()
    }) {
        Ok(pid) => pid,
        Err(errno) => return outcome(Ended::NotStarted(errno), report, false),
    };
    let watched = Watched::new(pid);

    // That there is something new to do is progress: what there is to do only gets less.
    watchdog::feed();
    let mut meter = Meter::new();
    let (mut seen, mut beat_ms) = (Progress::of(report), clock::now_ms());
    let late = loop {
        let now_ms = clock::now_ms();
        let (step, _, since_ms) = report.step();
        let limit_s = bound_s(deadlines, step);
        let mut due_ms = since_ms.saturating_add(u64::from(limit_s) * 1000);
        if now_ms >= due_ms {
            break Ended::Late(limit_s);
        }
        let progress = Progress::of(report);
        if progress != seen {
            (seen, beat_ms) = (progress, now_ms);
            watchdog::feed();
        }
        if step == Step::Dump {
            let stalled_ms = beat_ms
                .max(since_ms)
                .saturating_add(u64::from(deadlines.stall_s) * 1000);
            if now_ms >= stalled_ms {
                break Ended::Stalled(deadlines.stall_s);
            }
            due_ms = due_ms.min(stalled_ms);
            meter.look(&report.seen(), since_ms, now_ms);
        }
        let wait_ms = due_ms.saturating_sub(now_ms).min(LOOK_MS);
        if let Some(status) = watched.wait(wait_ms) {
            return outcome(classify(status, oom_kills), report, false);
        }
    };

    let _ = kill_process(pid, Signal::KILL);
    // The reason stays that it was late, whatever status it leaves.
    let patience_s = match report.step().0 {
        Step::Final => KILL_FINAL_S,
        _ => KILL_S,
    };
    let left_behind = watched.wait(u64::from(patience_s) * 1000).is_none();
    outcome(late, report, left_behind)
}

fn outcome(ended: Ended, report: &Report, left_behind: bool) -> Outcome {
    let (step, item, _) = report.step();
    Outcome {
        ended,
        step,
        item,
        text: report.text(),
        left_behind,
    }
}

fn classify(status: Option<WaitStatus>, oom_kills_before: u64) -> Ended {
    let Some(status) = status else {
        return Ended::Code(-1);
    };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) if code == i32::from(DONE) => Ended::Done,
        (Some(code), _) if code == i32::from(FAILED) => Ended::Failed,
        (Some(code), _) if code == i32::from(REFUSED) => Ended::Refused,
        (Some(code), _) if code == i32::from(PANICKED) => Ended::Panicked,
        (Some(code), _) => Ended::Code(code),
        (None, Some(9)) if oom_kills() > oom_kills_before => Ended::OutOfMemory,
        (None, Some(number)) => Ended::Signal(number),
        (None, None) => Ended::Code(-1),
    }
}

/// A child whose end can be waited for with a bound.
pub(crate) struct Watched {
    pid: Pid,
    /// Becomes readable when the child ends. None before Linux 5.3.
    fd: Option<OwnedFd>,
}

impl Watched {
    pub(crate) fn new(pid: Pid) -> Self {
        Self {
            pid,
            fd: pidfd_open(pid, PidfdFlags::empty()).ok(),
        }
    }

    /// Kills it, if it is still there.
    pub(crate) fn kill(&self) {
        if self.wait(0).is_none() {
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }

    /// Waits at most `timeout_ms`: `None` when the child is still there, else its status, as far as it left one.
    pub(crate) fn wait(&self, timeout_ms: u64) -> Option<Option<WaitStatus>> {
        let end_ms = clock::now_ms().saturating_add(timeout_ms);
        loop {
            match waitpid(Some(self.pid), WaitOptions::NOHANG) {
                Ok(Some((_, status))) => return Some(Some(status)),
                Ok(None) | Err(Errno::INTR) => {}
                // Not our child any more: there is nothing to wait for.
                Err(_) => return Some(None),
            }
            let left_ms = end_ms.saturating_sub(clock::now_ms());
            if left_ms == 0 {
                return None;
            }
            match &self.fd {
                Some(fd) => {
                    let _ = poll(
                        &mut [PollFd::new(fd, PollFlags::IN)],
                        Some(&clock::timespec(left_ms)),
                    );
                }
                // PID 1 has blocked the signal, so that it is not lost between the look and the wait.
                None => {
                    let _ = sys::wait_signal(&[Signal::CHILD], Some(left_ms));
                }
            }
        }
    }
}

/// Reaps processes whose parent ended before them and that PID 1 inherited.
pub fn reap_orphans() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// Takes this process out of those that [`wait_orphans`] waits for: it is to stay.
pub fn leave_group() {
    let _ = setpgid(None, None);
}

/// Reaps processes of PID 1's group that it inherited until there is none, for a second at most.
pub fn wait_orphans() {
    let end_ms = clock::now_ms().saturating_add(ORPHANS_MS);
    // Without a child it is an error.
    while let Ok(reaped) = waitpid(None, WaitOptions::NOHANG) {
        if reaped.is_none() {
            if clock::now_ms() >= end_ms {
                break;
            }
            let _ = poll(&mut [], Some(&clock::timespec(5)));
        }
    }
}

/// Sets how willingly the OOM killer takes this process: -1000 never, 1000 first.
pub fn set_oom_score(score: &[u8]) {
    if let Ok(fd) = rustix::fs::open(
        c"/proc/self/oom_score_adj",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        let _ = rustix::io::write(&fd, score);
    }
}

/// How many processes the kernel killed for memory so far; 0 where it does not count.
///
/// Source: Linux 4.13 and later, `oom_kill` in `/proc/vmstat`.
fn oom_kills() -> u64 {
    vmstat("oom_kill ")
}

/// A counter of the kernel's memory management; 0 where there is none of this name.
fn vmstat(name: &str) -> u64 {
    let mut buffer = [0; 8192];
    let text = crate::files::read_text(c"/proc/vmstat", &mut buffer).unwrap_or("");
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

/// What changes when somebody got further.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Progress {
    /// What the child says.
    beats: u32,
    /// Pages that went to a disk or a server. A child that syncs says nothing, however long a slow disk takes for what lies in
    /// the page cache. Measured (Linux 6.1, 128 MB): 15 MiB lay there when the child began to sync, half a minute for a disk
    /// of 512 KiB a second.
    written_pages: u64,
}

impl Progress {
    fn of(report: &Report) -> Self {
        Self {
            beats: report.beats(),
            // The machine that runs the tests writes for others.
            written_pages: if cfg!(test) { 0 } else { vmstat("nr_written ") },
        }
    }
}

/// Does what is to be done when a child was left behind: says so, and sees to it that writers to other disks go on.
///
/// What was written for a disk that does not answer stays in the page cache. Once that is more than the kernel lets be
/// unwritten, as a whole and not for each disk, it holds up every writer. Measured (Linux 6.1, 92 MB): 3675 pages waited
/// for the dead disk, 3012 were allowed, and 2 MiB for another disk did not get through in minutes.
pub fn tell_left_behind(outcome: &Outcome) {
    if !outcome.left_behind {
        return;
    }
    log!("a process waits in the kernel and cannot be killed; the disks will not be synced");
    let limits: [(&core::ffi::CStr, &[u8]); 2] = [
        (c"/proc/sys/vm/dirty_ratio", b"100"),
        (c"/proc/sys/vm/dirty_background_ratio", b"50"),
    ];
    for (path, percent) in limits {
        let written = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|fd| rustix::io::write(&fd, percent));
        if let Err(errno) = written {
            log!(
                "{}: {}; next: with the limit that there is",
                path.to_str().unwrap_or(""),
                collector::IoError(errno.raw_os_error())
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    const SHORT: Deadlines = Deadlines {
        module_s: 1,
        device_s: 1,
        network_s: 1,
        open_s: 1,
        dmesg_s: 1,
        stall_s: 1,
        dump_s: 3,
        hook_s: 1,
        publish_s: 1,
        final_s: 1,
    };

    fn hang() -> ! {
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    }

    fn run_child(child: impl FnOnce(&Report) -> u8) -> (Outcome, Duration) {
        let report = sys::shared_report().unwrap();
        let start = Instant::now();
        let mut child = Some(child);
        let outcome = run(&SHORT, report, c"test-child", &mut || {
            child.take().map_or(99, |child| child(report))
        });
        (outcome, start.elapsed())
    }

    #[test]
    fn a_child_that_does_its_work_is_done_at_once() {
        let (outcome, took) = run_child(|report| {
            report.enter(Step::Publish, 0);
            report.set_text(format_args!("/var/crash/x/vmcore"));
            DONE
        });
        assert!(outcome.is_done());
        assert_eq!(outcome.text, "/var/crash/x/vmcore");
        assert!(took < Duration::from_millis(900), "{took:?}");
    }

    #[test]
    fn a_child_that_fails_says_why() {
        let (outcome, _) = run_child(|report| {
            report.enter(Step::Open, 0);
            report.set_text(format_args!("mounting /dev/vdb1: EINVAL"));
            FAILED
        });
        assert_eq!(outcome.to_string(), "mounting /dev/vdb1: EINVAL");
    }

    #[test]
    fn a_segfault_is_named_with_what_was_being_done() {
        let (outcome, _) = run_child(|report| {
            report.enter(Step::Dump, 0);
            sys::segfault();
            DONE
        });
        assert_eq!(outcome.ended, Ended::Signal(11));
        assert_eq!(
            outcome.to_string(),
            "killed by SIGSEGV while saving the vmcore"
        );
    }

    #[test]
    fn a_kill_that_is_not_ours_is_a_signal_and_not_a_deadline() {
        let (outcome, _) = run_child(|report| {
            report.enter(Step::Dmesg, 0);
            let _ = kill_process(rustix::process::getpid(), Signal::KILL);
            hang()
        });
        assert_eq!(outcome.ended, Ended::Signal(9));
    }

    #[test]
    fn a_hang_ends_with_the_steps_deadline() {
        let (outcome, took) = run_child(|report| {
            report.enter(Step::Open, 0);
            hang()
        });
        assert_eq!(outcome.ended, Ended::Late(1));
        assert!(!outcome.left_behind);
        assert_eq!(
            outcome.to_string(),
            "opening the target took longer than 1 s; killed"
        );
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(5));
    }

    /// Each step is ended by the bound that is its own: every other one is far longer.
    #[test]
    fn a_hang_in_each_step_ends_with_that_steps_bound() {
        for step in Step::ALL {
            let mut deadlines = Deadlines::DEFAULT;
            let word = match step {
                Step::Start | Step::Open => "open",
                Step::Look | Step::Dmesg => "dmesg",
                Step::Module => "module",
                Step::Device => "device",
                Step::Network => "network",
                Step::Dump => "dump",
                Step::Hook => "hook",
                Step::Publish | Step::Prune => "publish",
                Step::Final => "final",
            };
            *deadlines.by_name(word).unwrap() = 1;
            let bound_s = bound_s(&deadlines, step);
            let report = sys::shared_report().unwrap();
            let start = Instant::now();
            let outcome = run(&deadlines, report, c"test-hang", &mut || {
                report.enter(step, 0);
                hang()
            });
            let took = start.elapsed();
            assert_eq!(outcome.ended, Ended::Late(bound_s), "{step:?}");
            assert!(!outcome.left_behind, "{step:?}");
            assert!(
                took < Duration::from_secs(u64::from(bound_s) + 15),
                "{step:?}: {took:?}"
            );
        }
    }

    #[test]
    fn a_dump_without_progress_stalls() {
        let (outcome, _) = run_child(|report| {
            report.enter(Step::Dump, 0);
            hang()
        });
        assert_eq!(outcome.ended, Ended::Stalled(1));
    }

    #[test]
    fn a_dump_with_progress_is_bounded_as_a_whole() {
        let (outcome, took) = run_child(|report| {
            report.enter(Step::Dump, 0);
            loop {
                report.beat();
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        assert_eq!(outcome.ended, Ended::Late(3));
        assert!(took >= Duration::from_secs(3));
    }

    #[test]
    fn each_step_has_its_own_time() {
        let (outcome, took) = run_child(|report| {
            for step in [Step::Device, Step::Open, Step::Dmesg] {
                report.enter(step, 0);
                std::thread::sleep(Duration::from_millis(600));
            }
            DONE
        });
        assert!(outcome.is_done(), "{outcome}");
        assert!(took > Duration::from_millis(1700));
    }

    #[test]
    fn a_child_of_another_code_is_no_success() {
        let (outcome, _) = run_child(|_| 77);
        assert_eq!(outcome.ended, Ended::Code(77));
        let (outcome, _) = run_child(|_| PANICKED);
        assert!(outcome.to_string().starts_with("panicked while"));
    }
}
