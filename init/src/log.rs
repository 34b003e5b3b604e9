// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines to `/dev/kmsg`, from where the kernel brings them to every console, without allocating.
//!
//! The serial console is slow (115200 baud: 11 lines of 100 characters take 0.1 s) and a write returns when the line
//! is out, so a line is short, and only a change of state is worth one.

use crate::sys;
use core::fmt::{self, Write as _};
use rustix::fs::{Mode, OFlags};

/// The most bytes of one line, with prefix and line break. The kernel takes about 1000.
const LINE_BYTES: usize = 800;

/// What each line begins with: priority 2 (critical), so that a console shows it on a machine booted with `quiet` too.
const PREFIX: &[u8] = b"<2>kdump: ";

/// Logs one line, as `format!` takes it. Too long a line is cut.
#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => {
        $crate::log::line(format_args!($($argument)*))
    };
}

/// Opens `/dev/kmsg` for all lines from here on; before, and where it cannot be opened, they go to standard error, which
/// is the console.
pub fn open() {
    // The kernel drops lines beyond 10 in 5 s unless told otherwise. Source: Linux 6.1 kernel/printk/printk.c,
    // `devkmsg_write`. Nothing is lost where this fails but lines.
    if let Ok(fd) = rustix::fs::open(
        c"/proc/sys/kernel/printk_devkmsg",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        let _ = rustix::io::write(&fd, b"on\n");
    }
    if let Ok(fd) = rustix::fs::open(
        c"/dev/kmsg",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        sys::set_log(fd);
    }
}

/// Logs one line. A log that cannot be written is no reason to stop.
pub fn line(text: fmt::Arguments<'_>) {
    let mut line = Line::<LINE_BYTES>::new();
    line.push(PREFIX);
    let _ = line.write_fmt(text);
    sys::write_log(line.ended());
}

/// Text in a fixed space: what does not fit is left out, and the last character then is `~`.
pub struct Line<const N: usize> {
    buffer: [u8; N],
    used: usize,
    cut: bool,
}

impl<const N: usize> Line<N> {
    /// An empty line.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            buffer: [0; N],
            used: 0,
            cut: false,
        }
    }

    /// What the line holds.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.used).unwrap_or(&[])
    }

    /// What the line holds, which is text unless a character was cut in two.
    #[must_use]
    pub fn text(&self) -> &str {
        core::str::from_utf8(self.bytes()).unwrap_or("")
    }

    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match self.buffer.get_mut(self.used) {
                // The place of the line break stays free.
                Some(place) if self.used + 1 < N => {
                    *place = byte;
                    self.used += 1;
                }
                _ => self.cut = true,
            }
        }
    }

    /// The line with its line break.
    pub fn ended(&mut self) -> &[u8] {
        if self.cut && self.used > 0 {
            self.used -= 1;
            self.cut = false;
            self.push(b"~");
        }
        if let Some(place) = self.buffer.get_mut(self.used) {
            *place = b'\n';
            self.used += 1;
        }
        self.bytes()
    }
}

impl<const N: usize> Default for Line<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Write for Line<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.as_bytes() {
            // One record is one line: text that came from a device or from the crashed kernel cannot forge another.
            let byte = if part.is_ascii_control() { b' ' } else { *part };
            self.push(&[byte]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let mut line = Line::<16>::new();
        let _ = write!(line, "0123456789abcdef");
        assert_eq!(line.ended(), b"0123456789abcd~\n");
    }

    #[test]
    fn a_line_break_inside_does_not_begin_another_record() {
        let mut line = Line::<64>::new();
        let _ = write!(line, "label \"a\n<0>b\"");
        assert_eq!(line.ended(), b"label \"a <0>b\"\n");
    }
}
