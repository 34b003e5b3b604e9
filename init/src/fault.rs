// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults on request, so that tests see what follows them in the program that is shipped, not in another build.
//!
//! `kdumprd.fault=segv@dump` on the capture kernel's command line makes the first attempt's child crash while it saves
//! the vmcore. Words: `segv`, `bus`, `kill`, `oom`, `hang`, `panic`; places: the steps `look`, `module`, `device`, `open`,
//! `dmesg`, `dump`, `publish`, `final`, `worker` for the first of the processes that compress (`worker*` is every one), and `pid1` with `panic` alone; `@dump*` is every attempt's; several with commas between.
//!
//! This is harmless in a normal image: nothing writes the word there but a person who may set the capture kernel's command
//! line, and who could have the dump fail by `init=` as well.

use crate::report::Step;
use crate::sys;
use heapless::Vec;
use rustix::process::Signal;

/// The most faults on one command line.
const MAX_FAULTS: usize = 4;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Segv,
    Bus,
    Kill,
    Oom,
    Hang,
    Panic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fault {
    kind: Kind,
    place: Place,
    every_attempt: bool,
}

/// Where it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In PID 1 itself.
    Pid1,
    /// In a child that is at this step.
    Step(Step),
    /// In a process that compresses for the attempt.
    Worker,
}

/// The page of a batch at which a worker's fault happens: it has begun by then.
const WORKER_PAGE: u32 = 5;

/// The faults that the command line asks for: in a normal boot none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault, MAX_FAULTS>);

impl Faults {
    /// The faults in the kernel's command line. Words that make no sense are no faults.
    #[must_use]
    pub fn from_command_line(line: &str) -> Self {
        let words = line
            .split_ascii_whitespace()
            .filter_map(|word| word.strip_prefix("kdumprd.fault="))
            .flat_map(|list| list.split(','));
        Self(words.filter_map(parse).take(MAX_FAULTS).collect())
    }

    /// Whether any is asked for; a log with faults must not pass for a real one.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// The place where a fault of PID 1 itself happens.
    pub fn strike_pid1(&self) {
        if self.0.iter().any(|fault| fault.place == Place::Pid1) {
            strike(Kind::Panic);
        }
    }

    /// The place where a fault of this step happens, in the attempt counted from 0.
    pub fn strike(&self, step: Step, attempt: usize) {
        for fault in &self.0 {
            if fault.place == Place::Step(step) && (attempt == 0 || fault.every_attempt) {
                strike(fault.kind);
            }
        }
    }

    /// The place where a fault of a worker happens: before it compresses this page of a batch. `first` is the one that
    /// started first.
    pub fn strike_worker(&self, page: u32, first: bool) {
        for fault in &self.0 {
            let is_due = page == WORKER_PAGE && (first || fault.every_attempt);
            if fault.place == Place::Worker && is_due {
                strike(fault.kind);
            }
        }
    }
}

fn parse(word: &str) -> Option<Fault> {
    let (kind, place) = word.split_once('@')?;
    let kind = match kind {
        "segv" => Kind::Segv,
        "bus" => Kind::Bus,
        "kill" => Kind::Kill,
        "oom" => Kind::Oom,
        "hang" => Kind::Hang,
        "panic" => Kind::Panic,
        _ => return None,
    };
    let (place, every_attempt) = match place.strip_suffix('*') {
        Some(place) => (place, true),
        None => (place, false),
    };
    let place = match place {
        "pid1" if kind == Kind::Panic => Place::Pid1,
        "worker" => Place::Worker,
        _ => Place::Step(Step::ALL.into_iter().find(|step| step.word() == place)?),
    };
    Some(Fault {
        kind,
        place,
        every_attempt,
    })
}

fn strike(kind: Kind) {
    match kind {
        Kind::Segv => sys::segfault(),
        Kind::Bus => signal(Signal::BUS),
        Kind::Kill => signal(Signal::KILL),
        Kind::Oom => {
            // Kept for ever, and populated: the kernel has to kill somebody.
            while let Ok(memory) = sys::Memory::take(1 << 20) {
                core::mem::forget(memory);
            }
        }
        Kind::Hang => loop {
            let _ = rustix::event::poll(&mut [], None);
        },
        Kind::Panic => panic!("asked for on the command line"),
    }
}

/// As if the kernel had sent it.
fn signal(signal: Signal) {
    let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_normal_command_line_has_no_faults() {
        let faults = Faults::from_command_line("console=ttyS0 nr_cpus=1 kdumprd.faults=x quiet");
        assert!(!faults.any());
        for step in Step::ALL {
            faults.strike(step, 0);
        }
        faults.strike_pid1();
    }

    #[test]
    fn faults_have_a_place() {
        let faults =
            Faults::from_command_line("a kdumprd.fault=segv@dump*,hang@lunch,panic@pid1,kill@open");
        let expected = [
            (Kind::Segv, Place::Step(Step::Dump), true),
            (Kind::Panic, Place::Pid1, false),
            (Kind::Kill, Place::Step(Step::Open), false),
        ];
        let found: std::vec::Vec<_> = faults
            .0
            .iter()
            .map(|fault| (fault.kind, fault.place, fault.every_attempt))
            .collect();
        assert_eq!(found, expected);
        // The second attempt has none of its own.
        faults.strike(Step::Open, 1);
    }
}
