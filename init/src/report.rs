// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a child tells PID 1 while it works: one page that both share.
//!
//! Plain atomics and no locks, because the writer may die at any instruction. Only the writer's own progress is in it;
//! how the child ended is told by its wait status.

use crate::clock;
use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// The most bytes of [`Report::set_text`].
pub const TEXT_BYTES: usize = 640;

/// What a child is doing; each step has a deadline of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Step {
    /// Not begun.
    Start = 0,
    /// Reading the crashed kernel's headers and its panic line.
    Look = 1,
    /// Loading a module.
    Module = 2,
    /// Waiting for the target's device.
    Device = 3,
    /// Opening the target: superblock, mount, directory.
    Open = 4,
    /// Saving the crashed kernel's log.
    Dmesg = 5,
    /// Saving the vmcore.
    Dump = 6,
    /// Sync, rename, manifest.
    Publish = 7,
    /// Sync or reboot at the very end.
    Final = 8,
    /// Bringing up the way to a server.
    Network = 9,
    /// Running a program of the administrator.
    Hook = 10,
    /// Removing old dumps; the new one is complete.
    Prune = 11,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 12] = [
        Self::Start,
        Self::Look,
        Self::Module,
        Self::Device,
        Self::Open,
        Self::Dmesg,
        Self::Dump,
        Self::Publish,
        Self::Final,
        Self::Network,
        Self::Hook,
        Self::Prune,
    ];

    /// The word for the log, and for the manifest's durations.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Look => "look",
            Self::Module => "module",
            Self::Device => "device",
            Self::Open => "open",
            Self::Dmesg => "dmesg",
            Self::Dump => "dump",
            Self::Publish => "publish",
            Self::Final => "final",
            Self::Network => "network",
            Self::Hook => "hook",
            Self::Prune => "prune",
        }
    }

    /// What is being done, for a person.
    #[must_use]
    pub const fn doing(self) -> &'static str {
        match self {
            Self::Start => "starting",
            Self::Look => "reading the crashed kernel's log",
            Self::Module => "loading a module",
            Self::Device => "waiting for the device",
            Self::Open => "opening the target",
            Self::Dmesg => "saving vmcore-dmesg.txt",
            Self::Dump => "saving the vmcore",
            Self::Publish => "finishing the dump",
            Self::Final => "the last step",
            Self::Network => "bringing up the network",
            Self::Hook => "running a hook",
            Self::Prune => "removing old dumps",
        }
    }

    fn from_number(number: u32) -> Self {
        Self::ALL
            .into_iter()
            .find(|&step| step as u32 == number)
            .unwrap_or(Self::Start)
    }
}

/// The shared page. All zero is the report of a child that has not begun.
#[repr(C)]
pub struct Report {
    step: AtomicU32,
    /// Which of several (modules), counted from 0.
    item: AtomicU32,
    step_started_ms: AtomicU64,
    beat: AtomicU32,
    copying: AtomicU32,
    done_pages: AtomicU64,
    total_pages: AtomicU64,
    written_bytes: AtomicU64,
    /// Seconds since 1970 at the crash; 0 for unknown.
    crash_time_s: AtomicU64,
    text_length: AtomicU32,
    text: [AtomicU8; TEXT_BYTES],
}

/// How far a dump is, as PID 1 sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Seen {
    /// Pages are being copied, not classified.
    pub copying: bool,
    /// Pages done.
    pub done_pages: u64,
    /// Pages to do.
    pub total_pages: u64,
    /// Bytes that went to the target.
    pub written_bytes: u64,
}

impl Report {
    /// Makes the report that of a child that has not begun.
    pub fn clear(&self) {
        for field in [&self.item, &self.beat, &self.copying, &self.text_length] {
            field.store(0, Ordering::Relaxed);
        }
        for field in [&self.done_pages, &self.total_pages, &self.written_bytes] {
            field.store(0, Ordering::Relaxed);
        }
        self.enter(Step::Start, 0);
    }

    /// The child begins `step`; its deadline counts from here.
    pub fn enter(&self, step: Step, item: u32) {
        self.item.store(item, Ordering::Relaxed);
        self.step_started_ms
            .store(clock::now_ms(), Ordering::Relaxed);
        self.step.store(step as u32, Ordering::Release);
        self.beat();
    }

    /// The child is alive and got further.
    pub fn beat(&self) {
        self.beat.fetch_add(1, Ordering::Relaxed);
    }

    /// The child got this far with the dump.
    pub fn progress(&self, seen: Seen) {
        self.copying
            .store(u32::from(seen.copying), Ordering::Relaxed);
        self.done_pages.store(seen.done_pages, Ordering::Relaxed);
        self.total_pages.store(seen.total_pages, Ordering::Relaxed);
        self.written_bytes
            .store(seen.written_bytes, Ordering::Relaxed);
        self.beat();
    }

    /// The step that the child is in, which of several, and when it began.
    #[must_use]
    pub fn step(&self) -> (Step, u32, u64) {
        let step = Step::from_number(self.step.load(Ordering::Acquire));
        (
            step,
            self.item.load(Ordering::Relaxed),
            self.step_started_ms.load(Ordering::Relaxed),
        )
    }

    /// Changes whenever the child got further.
    #[must_use]
    pub fn beats(&self) -> u32 {
        self.beat.load(Ordering::Relaxed)
    }

    /// How far the dump is.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen {
            copying: self.copying.load(Ordering::Relaxed) != 0,
            done_pages: self.done_pages.load(Ordering::Relaxed),
            total_pages: self.total_pages.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
        }
    }

    /// The child found when the crash was.
    pub fn set_crash_time_s(&self, seconds: i64) {
        self.crash_time_s
            .store(u64::try_from(seconds).unwrap_or(0), Ordering::Relaxed);
    }

    /// When the crash was, if a child found it.
    #[must_use]
    pub fn crash_time_s(&self) -> Option<i64> {
        i64::try_from(self.crash_time_s.load(Ordering::Relaxed))
            .ok()
            .filter(|&seconds| seconds > 0)
    }

    /// What the child has to say at its end: where the dump is, or why there is none. Too long a text is cut.
    pub fn set_text(&self, text: fmt::Arguments<'_>) {
        self.text_length.store(0, Ordering::Relaxed);
        let _ = fmt::write(&mut Writer(self), text);
    }

    /// The text, copied; what is not UTF-8 is left out.
    #[must_use]
    pub fn text(&self) -> heapless::String<TEXT_BYTES> {
        let mut bytes = heapless::Vec::<u8, TEXT_BYTES>::new();
        let length = usize::try_from(self.text_length.load(Ordering::Acquire)).unwrap_or(0);
        for byte in self.text.iter().take(length) {
            let _ = bytes.push(byte.load(Ordering::Relaxed));
        }
        let mut text = heapless::String::new();
        for chunk in bytes.utf8_chunks() {
            let _ = text.push_str(chunk.valid());
        }
        text
    }
}

struct Writer<'r>(&'r Report);

impl fmt::Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let start = self.0.text_length.load(Ordering::Relaxed);
        let mut length = start;
        for (place, &byte) in self
            .0
            .text
            .iter()
            .skip(usize::try_from(start).unwrap_or(TEXT_BYTES))
            .zip(text.as_bytes())
        {
            place.store(byte, Ordering::Relaxed);
            length = length.saturating_add(1);
        }
        self.0.text_length.store(length, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_is_cut_and_stays_text() {
        let report = crate::sys::shared_report().unwrap();
        report.set_text(format_args!("{}", "é".repeat(TEXT_BYTES)));
        assert_eq!(report.text().as_str(), "é".repeat(TEXT_BYTES / 2));
        report.set_text(format_args!("short {}", 1));
        assert_eq!(report.text(), "short 1");
    }

    #[test]
    fn every_step_comes_back_as_it_was_entered() {
        let report = crate::sys::shared_report().unwrap();
        for step in Step::ALL {
            report.enter(step, 3);
            assert_eq!((report.step().0, report.step().1), (step, 3));
        }
    }
}
