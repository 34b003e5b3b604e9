// SPDX-License-Identifier: MIT OR Apache-2.0
//! makedumpfile's job as a library: filters and compresses a vmcore.
//!
//! The library makes no system call and has no heap. It sees bytes at offsets through two seams, [`Source`] and
//! [`Sink`], and tells its caller how far it is through [`Observer`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use core::fmt;

use config::{CollectOptions, DumpLevel, Format};

pub mod address;
mod arch;
mod bytes;
pub mod codec;
mod copy;
pub mod dmesg;
mod elf;
pub mod io;
pub mod kdump;
pub mod observer;
pub mod stats;
pub mod vmcore;
pub mod vmcoreinfo;

pub use arch::TranslateError;
pub use elf::ElfError;
pub use io::{IoError, Sink, Source};
pub use observer::{Observer, Progress, Stage};
pub use stats::Stats;
pub use vmcore::{OPEN_BYTES, OpenError, ReadError, Vmcore};

/// What [`collect`] and [`dmesg::write`] need of memory, whatever the size of the crashed machine. [`Vmcore::open`]
/// has its own [`OPEN_BYTES`].
pub const MEMORY_BYTES: usize = 4 * 1024 * 1024 - OPEN_BYTES;

/// What is read from the vmcore in one go. A source that is mapped serves views of this length without copying.
pub(crate) const READ_BYTES: usize = 256 << 10;

/// Writes the dumpfile at one dump level, and syncs it.
///
/// Pages that cannot be read become zeros and are counted; an unknown kernel lowers the level. Both are told to the
/// observer and cost no dump. When the sink is full, the caller may try again with the next of `options.levels`.
///
/// # Errors
/// The sink failed, or the vmcore cannot be dumped in this format.
pub fn collect<S: Source, K: Sink>(
    vmcore: &mut Vmcore<'_, S>,
    options: &CollectOptions,
    _level: DumpLevel,
    memory: &mut [u8],
    sink: &mut K,
    observer: &mut dyn Observer,
) -> Result<Stats, CollectError> {
    if memory.len() < MEMORY_BYTES {
        return Err(CollectError::Memory);
    }
    match options.format {
        Format::Copy => copy::copy(vmcore, memory, sink, observer),
        Format::Elf => Err(CollectError::Unsupported(
            "filtered ELF (-E) cannot be written yet; leave out -E",
        )),
        Format::Kdump => Err(CollectError::Unsupported(
            "kdump-compressed files cannot be written yet",
        )),
    }
}

/// Why a dumpfile could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectError {
    /// The vmcore could not be read at this byte offset.
    Source(u64, IoError),
    /// The dumpfile could not be written at this byte offset.
    Sink(u64, IoError),
    /// The vmcore contradicts itself.
    Damaged(&'static str),
    /// This cannot be done with this vmcore, or not at all.
    Unsupported(&'static str),
    /// The caller gave less than [`MEMORY_BYTES`].
    Memory,
}

impl fmt::Display for CollectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(offset, error) => {
                write!(f, "reading the vmcore at byte {offset}: {error}")
            }
            Self::Sink(offset, error) => write!(f, "writing at byte {offset}: {error}"),
            Self::Damaged(what) => write!(f, "the vmcore is damaged: {what}"),
            Self::Unsupported(what) => f.write_str(what),
            Self::Memory => write!(f, "collecting needs {MEMORY_BYTES} bytes of memory"),
        }
    }
}

impl core::error::Error for CollectError {}
