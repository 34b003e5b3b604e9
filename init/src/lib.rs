// SPDX-License-Identifier: MIT OR Apache-2.0
//! PID 1 of the kdump initramfs: from the capture kernel's start to the machine's restart.
//!
//! ```text
//! Record ─▶ plan::next ─▶ Step ─▶ supervise::run(attempt) ─▶ Outcome ─▶ plan::next … ─▶ power::finish
//!                                  └ a forked child: open the target, dmesg, vmcore, publish
//! ```
//! PID 1 supervises and does no dump work: it mounts the kernel's file systems, reads the record, and runs everything
//! that may fail in children with deadlines. It never exits and never panics on purpose; should it panic all the same, the
//! handler logs and reboots.
//!
//! There is no heap and no C library. The crate guesses nothing: what to load, where to save and what to do afterwards
//! stands in the record that the builder wrote. Started as anything but PID 1 it is the words of its own shell:
//! `/init help`.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub mod attempt;
pub mod clock;
pub mod date;
pub mod dump;
pub mod fault;
pub mod fence;
pub mod files;
pub mod folder;
pub mod hook;
pub mod kernel_log;
pub mod log;
pub mod look;
pub mod manifest;
pub mod memory_state;
pub mod modules;
pub mod plan;
pub mod power;
pub mod progress;
pub mod random;
pub mod reach;
pub mod report;
pub mod salvage;
pub mod seal;
pub mod shell;
pub mod supervise;
pub mod switch_root;
pub mod sys;
pub mod turn;
pub mod vmcore;
pub mod watchdog;
pub mod words;
pub mod workers;

/// The memory functions of the binary, built under other names so that they can be tested.
#[cfg(all(test, target_arch = "x86_64"))]
#[path = "start/mem/x86_64.rs"]
#[allow(unsafe_code)]
mod memory;

use attempt::{Job, Reason};
use collector::IoError;
use config::record::{self, MAX_ATTEMPTS};
use config::{
    Attempt, CollectOptions, Compression, Deadlines, FinalAction, Format, HookKind, Record,
};
use core::ffi::CStr;
use core::panic::PanicInfo;
use fault::Faults;
use plan::{Last, Named, Step};
pub use reach::Reach;
use report::Report;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use supervise::{Ended, Outcome};
use sys::{Arguments, FileWindow, Memory};
use vmcore::Access;
use words::Session;

/// The record's place in the image, as the kernel takes it.
const RECORD_PATH: &CStr = c"/etc/kdump.record";
/// No record is as large: 256 modules with long parameters are 100 KiB.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// Runs the program: PID 1, or one word of the shell.
pub fn run(arguments: Arguments, reach: &'static Reach) -> ! {
    if rustix::process::getpid().is_init() {
        pid1(reach)
    }
    sys::exit(one_word(arguments, reach))
}

/// Started by a person in the shell: the arguments are one line of the built-in shell.
fn one_word(arguments: Arguments, reach: &'static Reach) -> u8 {
    log::open();
    let words: heapless::Vec<&str, 8> = (1..)
        .map_while(|index| arguments.get(index))
        .map_while(|word| word.to_str().ok())
        .take(8)
        .collect();
    let text = map_record();
    let record = match text.as_ref().map(|window| parse_record(window.bytes())) {
        Ok(Ok(record)) => record,
        Ok(Err(error)) => {
            words::print(format_args!("{}: {error}\n", record::PATH));
            return 1;
        }
        Err(error) => {
            words::print(format_args!("{}: {error}\n", record::PATH));
            return 1;
        }
    };
    match sys::shared_report() {
        Ok(report) => {
            let session = Session {
                record: &record,
                failures: &[],
                reach,
                report,
            };
            words::run(&session, &words)
        }
        Err(errno) => {
            words::print(format_args!("no memory: {}\n", vmcore::error(errno)));
            1
        }
    }
}

/// What a panic leads to: in PID 1 to a reboot, in a child to its end.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    log!("{info}");
    if rustix::process::getpid().is_init() {
        log!("PID 1 panicked, a defect of kdumprd; next: reboot");
        power::reboot_now()
    }
    sys::exit(supervise::PANICKED)
}

fn pid1(reach: &'static Reach) -> ! {
    sys::block_signals();
    mount_kernel_filesystems();
    log::open();
    supervise::set_oom_score(b"-1000");
    let mut command_line = [0; 4096];
    let faults = Faults::from_command_line(
        files::read_text(c"/proc/cmdline", &mut command_line).unwrap_or(""),
    );
    let report = match sys::shared_report() {
        Ok(report) => report,
        Err(errno) => {
            log!(
                "no memory for the first page: {}; next: reboot",
                vmcore::error(errno)
            );
            power::reboot_now()
        }
    };
    let text = map_record();
    let record = match text.as_ref().map(|window| parse_record(window.bytes())) {
        Ok(Ok(record)) => record,
        Ok(Err(error)) => no_record(report, format_args!("{error}")),
        Err(error) => no_record(report, format_args!("{error}")),
    };
    log!(
        "init {} started, record for {}",
        env!("CARGO_PKG_VERSION"),
        record.kernel
    );
    if faults.any() {
        log!("faults are asked for on the command line: this is a test");
    }
    faults.strike_pid1();
    follow(&record, reach, report, &faults)
}

/// Everything that the record asks for, to the end.
fn follow(
    record: &Record<'_>,
    reach: &'static Reach,
    report: &'static Report,
    faults: &Faults,
) -> ! {
    let mut memory = Memory::take(attempt::memory_bytes(record));
    if let Err(errno) = &memory {
        log!(
            "no memory for the dump: {}; next: the failure action",
            vmcore::error(*errno)
        );
    }
    memory_state::show(record.debug_mem_level, "at the start");
    let mut board = workers::take_board();
    let mut left_behind = false;
    let mut panic_line = Reason::new();
    if let Ok(memory) = &mut memory {
        left_behind |= look(record, memory, report, faults, &mut panic_line);
    }
    left_behind |= modules::load_all(record, report, faults);
    memory_state::show(record.debug_mem_level, "with modules");
    if let Some(wanted) = &record.watchdog {
        watchdog::start(wanted);
    }
    let tellers = fence::start(record, reach);
    let mut failures = heapless::Vec::<Reason, MAX_ATTEMPTS>::new();
    let mut last = match memory {
        Ok(_) => Last::Start,
        // As if every attempt had been made.
        Err(_) => Last::Failed(record.attempts.len()),
    };
    loop {
        supervise::reap_orphans();
        last = match plan::next(record, last) {
            Step::Attempt(number) => {
                let Some(attempt) = record.attempts.get(number) else {
                    continue;
                };
                let memory = memory.as_mut().ok().map_or(&mut [][..], Memory::bytes);
                let job = Job {
                    record,
                    number,
                    attempt,
                    failures: &failures,
                    panic_line: &panic_line,
                    report,
                    faults,
                    reach,
                    access: Access::Map,
                    board: board.as_ref(),
                };
                let outcome = make_attempt(&job, memory);
                left_behind |= outcome.left_behind;
                memory_state::show(record.debug_mem_level, "after the attempt");
                if outcome.is_done() {
                    Last::Saved
                } else {
                    let _ = failures.push(attempt::reason(&outcome));
                    let last = after_failure(&outcome, number);
                    if last == Last::Failed(record.attempts.len().saturating_sub(1)) {
                        left_behind |= emergency(record, report);
                    }
                    last
                }
            }
            Step::Shell => {
                log!(
                    "shell on every console; next: {} when it ends",
                    record.final_action
                );
                // Nobody knows how long a person takes.
                watchdog::stop();
                // The person's programs can use it, and `attempt` takes its own.
                memory = Err(Errno::NOMEM);
                board = None;
                Last::ShellLeft(shell::run(&Session {
                    record,
                    failures: &failures,
                    reach,
                    report,
                }))
            }
            Step::MountRoot => {
                let memory = memory.as_mut().ok().map_or(&mut [][..], Memory::bytes);
                tellers.stop();
                left_behind |= switch_root::run(record, report, faults, memory);
                Last::RootFailed
            }
            Step::Finish(action) => {
                power::finish(action, &record.deadlines, report, faults, left_behind)
            }
        };
    }
}

/// Makes one attempt in a child, and logs how it begins and ends.
fn make_attempt(job: &Job<'_>, memory: &mut [u8]) -> Outcome {
    let record = job.record;
    let (number, count) = (job.number + 1, record.attempts.len());
    log!(
        "attempt {number} of {count}: {}, {}",
        job.attempt.target,
        Options(job.attempt)
    );
    let outcome = attempt::supervised(job, memory);
    if outcome.is_done() {
        log!("attempt {number} of {count} done: {}", outcome.text);
    } else {
        log!(
            "attempt {number} of {count} failed: {outcome}; next: {}",
            Named(
                record,
                plan::next(record, after_failure(&outcome, job.number))
            )
        );
        supervise::tell_left_behind(&outcome);
    }
    outcome
}

/// What an attempt that saved nothing leads to.
fn after_failure(outcome: &Outcome, number: usize) -> Last {
    if outcome.ended == Ended::Refused {
        Last::Refused
    } else {
        Last::Failed(number)
    }
}

/// Runs the hooks for the case that every attempt failed. Whether a child was left behind.
fn emergency(record: &Record<'_>, report: &Report) -> bool {
    const KINDS: [HookKind; 2] = [HookKind::EmergencyFolder, HookKind::Emergency];
    if !record.hooks.iter().any(|hook| KINDS.contains(&hook.kind)) {
        return false;
    }
    let outcome = supervise::run(&record.deadlines, report, c"kdump-emergency", &mut || {
        // Only what comes before the dump can forbid anything.
        let _ = hook::run_all(record, &KINDS, None, "", report);
        supervise::DONE
    });
    if !outcome.is_done() {
        log!("the hooks for an emergency: {outcome}; next: the failure action");
    }
    supervise::tell_left_behind(&outcome);
    outcome.left_behind
}

/// What is collected and how, as the log has it: `level 31, zlib`.
struct Options<'a>(&'a Attempt<'a>);

impl core::fmt::Display for Options<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let CollectOptions {
            format,
            compression,
            levels,
        } = &self.0.collect;
        if let Some(program) = self.0.program {
            return f.write_str(program);
        }
        match format {
            Format::Copy => return f.write_str("a copy of the vmcore"),
            Format::Elf => f.write_str("ELF, ")?,
            Format::Kdump => {}
        }
        f.write_str("level ")?;
        for (position, level) in levels.iter().enumerate() {
            write!(f, "{}{level}", if position == 0 { "" } else { "," })?;
        }
        match compression {
            Compression::None => f.write_str(", not compressed"),
            compression => write!(f, ", {compression}"),
        }
    }
}

/// Prints why the first kernel crashed. Whether a child was left behind.
fn look(
    record: &Record<'_>,
    memory: &mut Memory,
    report: &Report,
    faults: &Faults,
    panic_line: &mut Reason,
) -> bool {
    let outcome = supervise::run(&record.deadlines, report, c"kdump-look", &mut || {
        look::look(memory.bytes(), report, faults)
    });
    if outcome.is_done() {
        if record.encrypt_to.is_empty() {
            log!("crashed kernel: {}", outcome.text);
            panic_line.clone_from(&outcome.text);
        } else {
            // It is of the crashed memory, and this console may be another than the one where that kernel printed it.
            log!("crashed kernel: why it crashed is not shown, as dumps are encrypted");
        }
    } else {
        log!("crashed kernel: unknown: {outcome}; next: the modules");
        supervise::tell_left_behind(&outcome);
    }
    outcome.left_behind
}

fn mount_kernel_filesystems() {
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC;
    for (kind, place, flags) in [
        (c"proc", c"/proc", quiet | MountFlags::NODEV),
        (c"sysfs", c"/sys", quiet | MountFlags::NODEV),
        (c"devtmpfs", c"/dev", quiet),
    ] {
        // An image always has the directories, but a person may boot another one to look around.
        let _ = rustix::fs::mkdir(place, Mode::from_raw_mode(0o755));
        match mount(kind, place, kind, flags, None) {
            Ok(()) | Err(Errno::BUSY) => {}
            Err(errno) => log!(
                "mounting {} on {}: {}; next: without it",
                kind.to_str().unwrap_or(""),
                place.to_str().unwrap_or(""),
                vmcore::error(errno)
            ),
        }
    }
}

/// The record's text as the image has it, in place.
fn map_record() -> Result<FileWindow, IoError> {
    let fd = rustix::fs::open(RECORD_PATH, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(vmcore::error)?;
    let size = rustix::fs::fstat(&fd).map_err(vmcore::error)?.st_size;
    let size = usize::try_from(size)
        .ok()
        .filter(|size| (1..=MAX_RECORD_BYTES).contains(size))
        .ok_or(IoError::INVALID)?;
    FileWindow::map(&fd, 0, size).map_err(vmcore::error)
}

fn parse_record(bytes: &[u8]) -> Result<Record<'_>, record::RecordError<'_>> {
    let text = core::str::from_utf8(bytes).map_err(|_| record::RecordError::NotARecord)?;
    record::parse(text)
}

/// Without a record there is nothing to follow, and nobody who was asked whether the machine may stay down.
fn no_record(report: &Report, why: core::fmt::Arguments<'_>) -> ! {
    log!("init {} started", env!("CARGO_PKG_VERSION"));
    log!("{}: {why}; rebuild the image; next: reboot", record::PATH);
    let faults = Faults::default();
    power::finish(
        FinalAction::Reboot,
        &Deadlines::DEFAULT,
        report,
        &faults,
        false,
    )
}
