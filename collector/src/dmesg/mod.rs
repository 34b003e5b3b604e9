// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's log to `vmcore-dmesg.txt`: the first kernel's own last words.
//!
//! Three kinds of log there were: plain text in a ring until 3.4 (`classic`), records one behind the other until 5.9
//! (`records`), and since 5.10 a ring of descriptors with the text elsewhere (`ring`). Which one a kernel has is told by
//! the symbols in its VMCOREINFO. Lines are as `makedumpfile --dump-dmesg` 1.7.2 writes them, but for bytes above 0x7f,
//! which it sign-extends: we write `\xe9` where it writes `\xffffffe9`. Since 1.7.5 it also prints which task or CPU wrote
//! a line; the kernel's own console does so only when built with `CONFIG_PRINTK_CALLER`, which a vmcore does not tell, and
//! so we do not.
//!
//! What is damaged or cannot be read is left out and counted; what is behind it is found again where that is possible.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use core::fmt;

use heapless::String;

use crate::io::{IoError, Source};
use crate::vmcore::{ReadError, Vmcore};

mod classic;
mod lines;
mod records;
mod ring;
mod window;

use lines::Lines;
use window::{WINDOW_BYTES, Window};

/// What [`write()`] needs of memory.
pub const DMESG_BYTES: usize = ring::TABLES_BYTES + WINDOW_BYTES + OUT_BYTES;

/// Text that is written in one go.
const OUT_BYTES: usize = 32 << 10;

/// How much of the log is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All that is there.
    Whole,
    /// What was logged since it was last cleared with `dmesg --clear`. A log without records does not know.
    SinceClear,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of text.
    pub bytes: u64,
    /// Records of the log; lines, where it has no records.
    pub records: u64,
    /// Places at which the log is damaged or cannot be read, or records that are known to be lost there.
    pub lost: u64,
    /// Why the first kernel stopped: its "Kernel panic - not syncing: …", or the line of the bug where the crash came
    /// before that. Without time stamp; empty where the log tells neither.
    pub panic_line: String<200>,
}

/// Writes the first kernel's log to `out`, as text. `memory` has [`DMESG_BYTES`].
///
/// # Errors
/// The log cannot be found or read, or `out` failed. What was written before stays written.
pub fn write<S: Source>(
    vmcore: &mut Vmcore<'_, S>,
    memory: &mut [u8],
    out: &mut dyn FnMut(&[u8]) -> Result<(), IoError>,
) -> Result<Summary, DmesgError> {
    write_part(vmcore, Part::Whole, memory, out)
}

/// As [`write()`], or only what came after the log was cleared.
///
/// # Errors
/// As [`write()`].
pub fn write_part<S: Source>(
    vmcore: &mut Vmcore<'_, S>,
    part: Part,
    memory: &mut [u8],
    out: &mut dyn FnMut(&[u8]) -> Result<(), IoError>,
) -> Result<Summary, DmesgError> {
    let (tables, rest) = memory
        .split_at_mut_checked(ring::TABLES_BYTES)
        .ok_or(DmesgError::Memory)?;
    let (window, rest) = rest
        .split_at_mut_checked(WINDOW_BYTES)
        .ok_or(DmesgError::Memory)?;
    let buf = rest.get_mut(..OUT_BYTES).ok_or(DmesgError::Memory)?;
    let mut window = Window::new(window);
    let mut lines = Lines::new(buf, out);
    let info = vmcore.vmcoreinfo();
    let has = |name| info.symbol(name).is_some();
    let done = if has("prb") {
        ring::write(vmcore, part, tables, &mut window, &mut lines)
    } else if has("log_end") {
        classic::write(vmcore, &mut window, &mut lines)
    } else if has("log_first_idx") {
        records::write(vmcore, part, &mut window, &mut lines)
    } else {
        Err(DmesgError::MissingKey("prb, log_first_idx or log_end"))
    };
    // What was found before it went wrong is written in any case.
    let written = lines.finish();
    done.and(written)
}

/// Why the log could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmesgError {
    /// VMCOREINFO lacks this name, without which the log cannot be found.
    MissingKey(&'static str),
    /// The ring's variables contradict each other.
    Damaged,
    /// The vmcore could not be read there.
    Read(ReadError),
    /// The text could not be written.
    Output(IoError),
    /// The caller gave less than [`DMESG_BYTES`].
    Memory,
}

impl From<ReadError> for DmesgError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl fmt::Display for DmesgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingKey(name) => {
                write!(f, "finding the kernel log: VMCOREINFO has no usable {name}")
            }
            Self::Damaged => {
                f.write_str("reading the kernel log: its variables contradict each other")
            }
            Self::Read(error) => write!(f, "reading the kernel log: {error}"),
            Self::Output(error) => write!(f, "writing the kernel log: {error}"),
            Self::Memory => write!(
                f,
                "reading the kernel log needs {DMESG_BYTES} bytes of memory"
            ),
        }
    }
}

impl core::error::Error for DmesgError {}
