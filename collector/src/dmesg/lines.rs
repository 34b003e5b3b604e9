// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records to lines of text, and the one among them that says why the kernel stopped.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use core::fmt::Write as _;

use heapless::String;

use super::{DmesgError, Summary};
use crate::io::IoError;

/// Lines on their way to the file.
pub(super) struct Lines<'a> {
    buf: &'a mut [u8],
    used: usize,
    out: &'a mut dyn FnMut(&[u8]) -> Result<(), IoError>,
    /// Set once, and then nothing more is written.
    error: Option<IoError>,
    summary: Summary,
    headline_record: u64,
    panicked: bool,
    /// The line of a log without records, as far as it was seen.
    line: String<200>,
}

impl<'a> Lines<'a> {
    /// Lines that go to `out`, through `buf`.
    pub(super) fn new(
        buf: &'a mut [u8],
        out: &'a mut dyn FnMut(&[u8]) -> Result<(), IoError>,
    ) -> Self {
        Self {
            buf,
            used: 0,
            out,
            error: None,
            summary: Summary::default(),
            headline_record: 0,
            panicked: false,
            line: String::new(),
        }
    }

    /// Writes what is left, and says what was written.
    pub(super) fn finish(mut self) -> Result<Summary, DmesgError> {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.flush();
        self.check().map(|()| self.summary)
    }

    const fn check(&self) -> Result<(), DmesgError> {
        match self.error {
            Some(error) => Err(DmesgError::Output(error)),
            None => Ok(()),
        }
    }

    /// So many records are there that cannot be read.
    pub(super) fn lose(&mut self, records: u64) {
        self.summary.lost = self.summary.lost.saturating_add(records);
    }

    /// Text as it is, of a log that is no more than that.
    pub(super) fn put_text(&mut self, text: &[u8]) -> Result<(), DmesgError> {
        for piece in text.chunks(self.buf.len().max(1)) {
            self.put(piece);
        }
        for &byte in text {
            if byte == b'\n' {
                self.end_line();
            } else {
                // Only the beginning of a line tells what it is.
                let _ = self.line.push(shown(byte));
            }
        }
        self.check()
    }

    fn end_line(&mut self) {
        self.summary.records = self.summary.records.saturating_add(1);
        let line = core::mem::take(&mut self.line);
        // A level in angle brackets, and where time stamps are on, a time in square ones.
        let mut text = line.as_str();
        for (open, close) in [('<', ">"), ('[', "] ")] {
            if let Some(rest) = text.strip_prefix(open)
                && let Some((_, behind)) = rest.split_once(close)
            {
                text = behind;
            }
        }
        self.note_headline(text.as_bytes());
    }

    /// One record: `[    1.234567] text`, further lines of it indented to the text.
    pub(super) fn put_record(&mut self, time_ns: u64, text: &[u8]) -> Result<(), DmesgError> {
        self.summary.records = self.summary.records.saturating_add(1);
        self.note_headline(text);
        let seconds = time_ns / 1_000_000_000;
        let micros = time_ns % 1_000_000_000 / 1_000;
        let mut prefix = String::<40>::new();
        // 20 digits and 6 more fit.
        let _ = write!(prefix, "[{seconds:5}.{micros:06}] ");
        self.put(prefix.as_bytes());
        for &byte in text {
            match byte {
                b'\n' => {
                    self.put(b"\n");
                    for _ in 0..prefix.len() {
                        self.put(b" ");
                    }
                }
                b' '..=b'~' | b'\t' | 0x0b | 0x0c | b'\r' => self.put(&[byte]),
                _ => {
                    let mut escaped = String::<4>::new();
                    let _ = write!(escaped, "\\x{byte:02x}");
                    self.put(escaped.as_bytes());
                }
            }
        }
        self.put(b"\n");
        self.check()
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.buf.len().saturating_sub(self.used) < bytes.len() {
            self.flush();
        }
        let end = self.used.saturating_add(bytes.len());
        if let Some(place) = self.buf.get_mut(self.used..end) {
            place.copy_from_slice(bytes);
            self.used = end;
        }
    }

    fn flush(&mut self) {
        let waiting = self.buf.get(..self.used).unwrap_or_default();
        if self.error.is_none() && !waiting.is_empty() {
            match (self.out)(waiting) {
                Ok(()) => {
                    let bytes = u64::try_from(waiting.len()).unwrap_or(0);
                    self.summary.bytes = self.summary.bytes.saturating_add(bytes);
                }
                Err(error) => self.error = Some(error),
            }
        }
        self.used = 0;
    }

    /// Keeps the line that says why the kernel stopped. The first panic is the cause, later ones its consequences.
    /// Where there is none, the last bug counts: an earlier one was survived. "Oops:" follows the line that has the
    /// reason, and is taken only where it stands alone.
    fn note_headline(&mut self, text: &[u8]) {
        let record = self.summary.records;
        if self.panicked {
            return;
        }
        let is_panic = text.starts_with(b"Kernel panic - not syncing");
        let is_bug = BUG_LINES.iter().any(|start| text.starts_with(start));
        let is_lone_oops = text.starts_with(b"Oops:")
            && (self.summary.panic_line.is_empty()
                || record.saturating_sub(self.headline_record) > SAME_BUG_RECORDS);
        if !is_panic && !is_bug && !is_lone_oops {
            return;
        }
        self.panicked = is_panic;
        self.headline_record = record;
        self.summary.panic_line.clear();
        for &byte in text.iter().take_while(|&&byte| byte != b'\n') {
            if self.summary.panic_line.push(shown(byte)).is_err() {
                break;
            }
        }
    }
}

/// A byte of the log as a letter that harms no console.
fn shown(byte: u8) -> char {
    match byte {
        b' '..=b'~' => char::from(byte),
        _ => '?',
    }
}

/// How the lines begin that name a bug.
const BUG_LINES: [&[u8]; 8] = [
    b"BUG:",
    b"kernel BUG at",
    b"general protection fault",
    b"sysrq: Trigger a crash",
    b"watchdog: BUG:",
    b"traps: PANIC:",
    b"Unable to handle kernel",
    b"Internal error:",
];

/// Within so many records a bug's "Oops:" line follows.
const SAME_BUG_RECORDS: u64 = 16;
