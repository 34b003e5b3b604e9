// SPDX-License-Identifier: MIT OR Apache-2.0
//! makedumpfile's job as a library: filters and compresses a vmcore.
//!
//! The library makes no system call and has no heap. It sees bytes at offsets through two seams, [`Source`] and
//! [`Sink`], has other CPUs read and compress through a third, [`Workers`], and tells its caller how far it is through
//! [`Observer`]. All memory is given by the caller, and how much is a constant, whatever the size of the crashed machine.
//!
//! ```text
//! Source ─▶ Vmcore       ELF headers, notes, VMCOREINFO; physical address to bytes
//!             │
//!           Layout       page tables, mem_map and rules of this kernel, found and checked
//!             │
//!           Filter       a window of pfns at a time: set the bits of the pages that are present, walk the mem_map,
//!             │          clear the bits of the pages that the dump level leaves out
//!           Pages        tell which are left, a Batch at a time
//!             │
//!           Batch        read in long runs, and compress: here, or by Workers; zero pages share one block
//!             │
//!           Writer ─▶ Sink    header, notes, bitmaps, descriptors, data
//! ```
//!
//! The bits of 64 GiB of memory fit in one window, and then every `struct page` is looked at once. On larger machines the
//! windows are gone through twice: to count the pages that will be written, which decides where in the dumpfile their
//! data begins, and to write them. A block of pages that is left out can reach from one window into the next.
//!
//! When filtering is unsure, pages are kept. A rule whose facts are missing in VMCOREINFO is off; a vmcore whose page
//! tables do not lead to its own release is dumped without any rule but that for zero pages. What cannot be read becomes
//! zeros. None of this is an error: the observer is told, and the dump goes on.
//!
//! ```
//! # use collector::{IoError, Sink, Source, Vmcore, MEMORY_BYTES, OPEN_BYTES, collect};
//! # use config::{CollectOptions, DumpLevel};
//! # fn save(source: impl Source, mut sink: impl Sink) -> Result<(), Box<dyn std::error::Error>> {
//! let mut open_memory = vec![0; OPEN_BYTES];
//! let mut memory = vec![0; MEMORY_BYTES];
//! let mut vmcore = Vmcore::open(source, &mut open_memory)?;
//! println!("kernel {}", vmcore.release());
//! let options = CollectOptions::standard();
//! let stats = collect(&mut vmcore, &options, DumpLevel::MAX, &mut memory, &mut sink, &mut ())?;
//! println!("{} of {} pages kept", stats.kept, stats.present);
//! # Ok(())
//! # }
//! ```
//!
//! Not here: opening files, waiting for devices, mounting (`targets`); deciding what to do when a dump fails (`init`).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use core::fmt;

use config::{CollectOptions, Compression, DumpLevel, Format};

pub mod address;
mod arch;
pub mod batch;
mod bitmap;
mod btf;
mod bytes;
pub mod codec;
mod copy;
pub mod counters;
pub mod crc;
pub mod dmesg;
mod dump;
mod elf;
mod elf_headers;
mod elf_writer;
mod filter;
pub mod flattened;
mod free_lists;
pub mod io;
mod kallsyms;
pub mod kdump;
mod known;
mod layout;
mod mem_map;
mod nodes;
mod notes;
pub mod observer;
mod page;
mod pages;
pub mod raw;
mod release;
mod segments;
pub mod stats;
mod stream;
mod survey;
pub mod vmcore;
pub mod vmcoreinfo;
pub mod workers;

use address::Pfn;
use dump::Dump;
use kdump::{WriteError, Writer};
use workers::{Alone, Queue};

pub use arch::TranslateError;
pub use batch::{BATCH_PAGES, Batch, SCRATCH_BYTES};
pub use bytes::{Abi, ByteOrder, Word};
pub use elf::ElfError;
pub use io::{IoError, Sink, Source};
pub use observer::{Observer, Progress, Stage};
pub use stats::Stats;
pub use survey::survey;
pub use vmcore::{OPEN_BYTES, OpenError, ReadError, Vmcore};
pub use workers::Workers;

/// What [`collect`] and [`dmesg::write`] need of memory, whatever the size of the crashed machine. [`Vmcore::open`]
/// has its own [`OPEN_BYTES`]. Of the window only as much is touched as the machine has pages.
pub const MEMORY_BYTES: usize = WRITER_BYTES + READ_BYTES + WINDOW_BYTES + codec::MEMORY_BYTES;

const WRITER_BYTES: usize = Writer::<'static, &'static mut dyn Sink>::MEMORY_BYTES;
/// What is read from the vmcore in one go. A source that is mapped serves views of this length without copying.
pub(crate) const READ_BYTES: usize = 256 << 10;
/// The bits of 64 GiB in pages of 4 KiB.
pub const WINDOW_BYTES: usize = 2 << 20;

const _: () = assert!(
    MEMORY_BYTES >= dmesg::DMESG_BYTES
        && READ_BYTES >= filter::FILTER_BYTES
        && READ_BYTES >= layout::LAYOUT_BYTES
);

/// Writes the dumpfile at one dump level, and syncs it.
///
/// Pages that cannot be read become zeros and are counted; an unknown kernel lowers the level. Both are told to the
/// observer and cost no dump. When the sink is full, what is in it is finished as an incomplete dumpfile that readers
/// open; the caller may also try again with the next of `options.levels`. `memory` has [`MEMORY_BYTES`].
///
/// # Errors
/// The sink failed, or the vmcore cannot be dumped in this format.
pub fn collect<S: Source, K: Sink>(
    vmcore: &mut Vmcore<'_, S>,
    options: &CollectOptions,
    level: DumpLevel,
    memory: &mut [u8],
    sink: &mut K,
    observer: &mut dyn Observer,
) -> Result<Stats, CollectError> {
    collect_with(vmcore, options, level, Means::new(memory), sink, observer)
}

/// What a dump is made with. But for `part`, the dumpfile is the same whatever it is.
pub struct Means<'a> {
    /// [`MEMORY_BYTES`]; what there is beyond makes windows longer.
    pub memory: &'a mut [u8],
    /// The most pages in a window, rounded up to 512.
    pub window_pages: u64,
    /// The pfns whose pages the dumpfile has, when it is one of several that make a dump: the first, a multiple of 64,
    /// and the one past the last.
    pub part: Option<(Pfn, Pfn)>,
    /// Who reads and compresses besides us, in the compression that is asked for. A copy needs nobody.
    pub workers: Option<&'a mut dyn Workers>,
}

impl<'a> Means<'a> {
    /// One dumpfile, one CPU, and windows as long as the memory allows.
    pub fn new(memory: &'a mut [u8]) -> Self {
        Self {
            memory,
            window_pages: u64::MAX,
            part: None,
            workers: None,
        }
    }
}

/// As [`collect`], with other means.
///
/// # Errors
/// As [`collect`].
pub fn collect_with<S: Source, K: Sink>(
    vmcore: &mut Vmcore<'_, S>,
    options: &CollectOptions,
    level: DumpLevel,
    means: Means<'_>,
    sink: &mut K,
    observer: &mut dyn Observer,
) -> Result<Stats, CollectError> {
    let (writer_memory, rest) = means
        .memory
        .split_at_mut_checked(WRITER_BYTES)
        .ok_or(CollectError::Memory)?;
    let (scratch, rest) = rest
        .split_at_mut_checked(READ_BYTES)
        .ok_or(CollectError::Memory)?;
    let (codec_memory, rest) = rest
        .split_at_mut_checked(codec::MEMORY_BYTES)
        .filter(|(_, rest)| rest.len() >= WINDOW_BYTES)
        .ok_or(CollectError::Memory)?;
    let window_bytes = means
        .window_pages
        .max(1)
        .checked_next_multiple_of(bitmap::GRAIN_PFNS)
        .and_then(|pages| usize::try_from(pages / 8).ok())
        .unwrap_or(usize::MAX)
        .min(rest.len());
    let window = rest.get_mut(..window_bytes).ok_or(CollectError::Memory)?;

    let defects = vmcore.defects();
    if defects.dropped_segments > 0 {
        observer.warn(format_args!(
            "{} segments of the vmcore have addresses that no memory has, and are left out",
            defects.dropped_segments
        ));
    }
    if defects.truncated_segments > 0 {
        observer.warn(format_args!(
            "the vmcore is cut short: {} segments are not complete",
            defects.truncated_segments
        ));
    }
    if defects.damaged_notes {
        observer.warn(format_args!(
            "the vmcore's notes are damaged; what can be read of them is used"
        ));
    }
    if vmcore.is_incomplete() {
        observer.warn(format_args!(
            "the vmcore is an incomplete dumpfile; what is made from it is incomplete too"
        ));
    }
    match options.format {
        Format::Copy => copy::copy(vmcore, scratch, sink, observer),
        Format::Elf => {
            if means.part.is_some() {
                return Err(CollectError::Unsupported(
                    "an ELF dump cannot be split; leave out -E or --split",
                ));
            }
            let dump = Dump::new(vmcore, level, window, scratch, observer);
            dump.write_elf(writer_memory, sink)
        }
        Format::Kdump => {
            let page_bytes = vmcore.page_size();
            let dump = Dump {
                part: means.part,
                ..Dump::new(vmcore, level, window, scratch, observer)
            };
            let share_zero = dump.stats.level_used.excludes_zero();
            if let Some(workers) = &means.workers
                && workers.compression() != options.compression
            {
                return Err(CollectError::Unsupported(
                    "the workers compress otherwise than is asked for",
                ));
            }
            codec::with(options.compression, codec_memory, |codec| {
                let write = |workers: &mut dyn Workers| {
                    let queue = Queue::new(workers, codec, page_bytes, share_zero);
                    dump.write(queue, writer_memory, sink)
                };
                match means.workers {
                    Some(workers) => write(workers),
                    None => alone(options.compression, write),
                }
            })
            .ok_or(CollectError::Memory)?
        }
    }
}

/// Calls `write` without workers. A batch is large: it is to be on the stack only where it is needed.
#[inline(never)]
fn alone<R>(compression: Compression, write: impl FnOnce(&mut dyn Workers) -> R) -> R {
    write(&mut Alone::new(compression))
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

impl From<WriteError> for CollectError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Sink(offset, error) => Self::Sink(offset, error),
            WriteError::Facts => Self::Damaged("its page size or page numbers fit no dumpfile"),
            WriteError::Memory => Self::Memory,
            WriteError::Mismatch(what) => Self::Damaged(what),
        }
    }
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
