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
//!           Pages        read what is left, in long runs; zero pages share one block
//!             │           ┊
//!           Codec        compress each page where it lies; or both by Workers, who are told which pages, a Batch at a time
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

use config::{CollectOptions, DumpLevel, Format};

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
use bitmap::Window;
use counters::Counters;
use filter::Filter;
use kdump::{Bitmap, Extent, Facts, WriteError, Writer};
use layout::Layout;
use pages::{Ends, Lane, Pages};
use workers::Queue;

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
                let lane = match means.workers {
                    Some(workers) => {
                        Lane::Workers(Queue::new(workers, codec, page_bytes, share_zero))
                    }
                    None => Lane::Here(codec),
                };
                dump.write(lane, writer_memory, sink)
            })
            .ok_or(CollectError::Memory)?
        }
    }
}

/// A kdump-compressed file in the making.
struct Dump<'a, 'm, S> {
    vmcore: &'a mut Vmcore<'m, S>,
    utsname: kdump::Utsname,
    filter: Option<Filter>,
    counters: Counters,
    window: Window<'a>,
    scratch: &'a mut [u8],
    observer: &'a mut dyn Observer,
    stats: Stats,
    /// The pfns whose pages are written, where that is not all.
    part: Option<(Pfn, Pfn)>,
}

impl<'a, 'm, S: Source> Dump<'a, 'm, S> {
    /// A dump of all pages that `level` keeps, as far as this kernel's layout can be told.
    fn new(
        vmcore: &'a mut Vmcore<'m, S>,
        level: DumpLevel,
        window: &'a mut [u8],
        scratch: &'a mut [u8],
        observer: &'a mut dyn Observer,
    ) -> Self {
        let layout = Layout::resolve(vmcore, level, scratch, observer);
        Self {
            vmcore,
            utsname: layout.utsname,
            filter: layout.filter,
            counters: layout.counters,
            window: Window::new(window),
            scratch,
            observer,
            stats: Stats::new(layout.level),
            part: None,
        }
    }

    fn write<K: Sink>(
        mut self,
        mut lane: Lane<'_, '_>,
        writer_memory: &mut [u8],
        sink: &mut K,
    ) -> Result<Stats, CollectError> {
        let max_mapnr = self.vmcore.max_mapnr();
        self.stats.present = self.vmcore.present_pages();
        if self.stats.present == 0 {
            return Err(CollectError::Damaged("it has no memory at all"));
        }
        let (page_count, dump_page_count) = self.count_checked(max_mapnr);

        let notes_bytes = self.notes_bytes();
        let facts = Facts {
            abi: self.vmcore.abi(),
            utsname: &self.utsname,
            crash_time_s: self.vmcore.crash_time_s().unwrap_or(0),
            page_bytes: u32::try_from(self.vmcore.page_size()).unwrap_or(0),
            max_mapnr,
            page_count,
            nr_cpus: self.vmcore.cpu_count(),
            phys_base: self.vmcore.phys_base().cast_unsigned(),
            compression: lane.compression(),
            dump_level: self.stats.level_used,
            notes_bytes,
            vmcoreinfo: self.vmcoreinfo_in_notes(),
            part: self.part.map(|(start, end)| kdump::Part {
                start,
                end,
                dump_page_count,
            }),
            incomplete: self.vmcore.is_incomplete(),
        };
        let mut writer = Writer::begin(sink, &facts, writer_memory)?;
        self.put_notes(&mut writer)?;
        self.put_present(&mut writer, max_mapnr)?;

        let share_zero = self.stats.level_used.excludes_zero();
        let mut pages = Pages::new(share_zero, self.vmcore.page_size(), page_count);
        let mut bitmap_done = 0;
        let copied = self.put_windows(&mut writer, &mut lane, &mut pages, &mut bitmap_done);
        pages.tell_unreadable(self.observer);
        if let Err(error) = copied {
            // What is already there can still be read, if the rest of the bitmap says that there is no more.
            if self.put_clear(&mut writer, bitmap_done, max_mapnr).is_ok() {
                let _best_effort = writer.finish_incomplete();
            }
            return Err(error.into());
        }
        self.observer.progress(Progress {
            stage: Stage::Sync,
            done_pages: page_count,
            total_pages: page_count,
            written_bytes: writer.written_bytes(),
        });
        let summary = match writer.finish() {
            Ok(summary) => summary,
            Err(error) => {
                // The last pages did not fit.
                let _best_effort = writer.finish_incomplete();
                return Err(error.into());
            }
        };
        self.stats.written_bytes = summary.file_bytes;
        Ok(self.stats)
    }

    /// Counts the pages that will be written. Where a rule would leave out pages that the first kernel does not count,
    /// it is taken away, and what is left out is counted again.
    fn count_checked(&mut self, max_mapnr: u64) -> (u64, u64) {
        let before = self.stats;
        loop {
            let counts = self.count(max_mapnr);
            let Some(filter) = &mut self.filter else {
                return counts;
            };
            let observer = &mut *self.observer;
            let doubts = self
                .counters
                .doubts(&self.stats, filter.huge_pages(), &mut |mismatch| {
                    observer.warn(format_args!("{mismatch}"));
                });
            filter.restart();
            if doubts.is_empty() {
                return counts;
            }
            // No kind is doubted twice, as it is kept from here on.
            filter.keep(&doubts);
            let level = doubts.taken_from(self.stats.level_used);
            self.observer.warn(format_args!(
                "dump level {} is lowered to {level}, as these pages would not be what they seem to be",
                self.stats.level_used
            ));
            self.stats = Stats {
                level_used: level,
                ..before
            };
        }
    }

    /// Goes through all windows and counts the pages that will be written, and those of the whole dump. With a single window, that is left as the
    /// pages are to be written.
    fn count(&mut self, max_mapnr: u64) -> (u64, u64) {
        let mut stats = self.stats;
        let (mut page_count, mut dump_page_count) = (0_u64, 0_u64);
        let mut start = 0_u64;
        while let Some((present, _)) = self.vmcore.present_from(Pfn(start)) {
            // Memory can begin again far up; windows without a page need no look.
            let empty = present.0.saturating_sub(start) / self.window.capacity().max(1);
            start = start.saturating_add(empty.saturating_mul(self.window.capacity()));
            self.fill_window(start, max_mapnr, &mut stats);
            let whole = self.window.count();
            dump_page_count = dump_page_count.saturating_add(whole);
            page_count = page_count.saturating_add(match self.part {
                None => whole,
                Some((first, end)) => self.window.count_between(first.0, end.0),
            });
            start = self.window.end();
        }
        self.stats = stats;
        if let Some(filter) = &mut self.filter {
            if filter.unknown_pages() > 0 {
                self.observer.warn(format_args!(
                    "{} pages are kept, as their struct page cannot be read",
                    filter.unknown_pages()
                ));
            }
            if filter.broken_lists() > 0 {
                self.observer.warn(format_args!(
                    "{} lists of free pages are damaged; what they do not lead to is kept",
                    filter.broken_lists()
                ));
            }
        }
        (page_count, dump_page_count)
    }

    /// Makes the window that begins at `start`: sets what is present, clears what is left out.
    fn fill_window(&mut self, start: u64, max_mapnr: u64, stats: &mut Stats) {
        self.window.restart(start, max_mapnr);
        set_present(self.vmcore, &mut self.window);
        let missing = clear_holes(self.vmcore, &mut self.window);
        stats.missing = stats.missing.saturating_add(missing);
        if let Some(filter) = &mut self.filter {
            let observer = &mut *self.observer;
            filter.pass(
                self.vmcore,
                &mut self.window,
                self.scratch,
                stats,
                &mut |pfn| {
                    observer.progress(Progress {
                        stage: Stage::Classify,
                        done_pages: pfn,
                        total_pages: max_mapnr,
                        written_bytes: 0,
                    });
                },
            );
        }
    }

    /// Writes the 2nd bitmap and the pages, window by window. `bitmap_done` is the pfn up to which the bitmap is written.
    fn put_windows<K: Sink>(
        &mut self,
        writer: &mut Writer<'_, K>,
        lane: &mut Lane<'_, '_>,
        pages: &mut Pages,
        bitmap_done: &mut u64,
    ) -> Result<(), WriteError> {
        let max_mapnr = self.vmcore.max_mapnr();
        let single = self.window.start() == 0 && self.window.end() == max_mapnr;
        // The kinds were counted before.
        let mut counted = Stats::new(self.stats.level_used);
        let mut start = 0;
        while start < max_mapnr {
            if !single {
                self.fill_window(start, max_mapnr, &mut counted);
            }
            writer.put_bitmap(Bitmap::Dumpable, start / 8, self.window.bytes())?;
            start = self.window.end();
            *bitmap_done = start;
            if let Some((first, end)) = self.part {
                self.window.clear(0, first.0);
                self.window.clear(end.0, max_mapnr);
            }
            let (window, mut ends) = self.copying(writer);
            pages.copy_window(lane, window, &mut ends)?;
        }
        pages.finish(lane, &mut self.copying(writer).1)
    }

    /// The window, and where its pages come from and go.
    fn copying<'b, 'w, K: Sink>(
        &'b mut self,
        writer: &'b mut Writer<'w, K>,
    ) -> (&'b Window<'a>, Ends<'b, 'm, 'w, S, K>) {
        let ends = Ends {
            vmcore: self.vmcore,
            scratch: self.scratch,
            writer,
            stats: &mut self.stats,
            observer: self.observer,
        };
        (&self.window, ends)
    }

    /// Writes the 1st bitmap.
    fn put_present<K: Sink>(
        &mut self,
        writer: &mut Writer<'_, K>,
        max_mapnr: u64,
    ) -> Result<(), WriteError> {
        let mut window = Window::new(self.scratch);
        let mut start = 0;
        while start < max_mapnr {
            window.restart(start, max_mapnr);
            set_present(self.vmcore, &mut window);
            writer.put_bitmap(Bitmap::Present, start / 8, window.bytes())?;
            start = window.end();
        }
        Ok(())
    }

    /// Writes the 2nd bitmap from `start` on as one without pages.
    fn put_clear<K: Sink>(
        &mut self,
        writer: &mut Writer<'_, K>,
        mut start: u64,
        max_mapnr: u64,
    ) -> Result<(), WriteError> {
        let mut window = Window::new(self.scratch);
        while start < max_mapnr {
            window.restart(start, max_mapnr);
            writer.put_bitmap(Bitmap::Dumpable, start / 8, window.bytes())?;
            start = window.end();
        }
        Ok(())
    }

    /// Bytes of the notes that go into the dumpfile.
    fn notes_bytes(&self) -> u64 {
        self.vmcore.notes().iter().fold(0_u64, |sum, segment| {
            sum.saturating_add(segment.bytes.next_multiple_of(4))
        })
    }

    /// Copies the notes.
    fn put_notes<K: Sink>(&mut self, writer: &mut Writer<'_, K>) -> Result<(), WriteError> {
        self.each_note_part(&mut |part| writer.put_notes(part))
    }

    /// Reads the notes, a part at a time. What cannot be read of them is zero, which ends them for a reader.
    fn each_note_part<E>(&mut self, put: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let count = self.vmcore.notes().len();
        for index in 0..count {
            let Some(segment) = self.vmcore.notes().get(index).copied() else {
                break;
            };
            let mut done = 0_u64;
            while done < segment.bytes {
                let left =
                    usize::try_from(segment.bytes.saturating_sub(done)).unwrap_or(usize::MAX);
                let len = left.min(self.scratch.len());
                let part = self.scratch.get_mut(..len).unwrap_or_default();
                let offset = segment.offset.saturating_add(done);
                if let Err(error) = self.vmcore.source().read_at(offset, part) {
                    part.fill(0);
                    self.observer.warn(format_args!(
                        "the vmcore's notes are not complete: reading at byte {offset}: {error}"
                    ));
                }
                put(part)?;
                done = done.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
            }
            let padding = segment
                .bytes
                .next_multiple_of(4)
                .saturating_sub(segment.bytes);
            let padding = usize::try_from(padding).unwrap_or(0);
            put([0; 4].get(..padding).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Where VMCOREINFO will be in the dumpfile's notes.
    fn vmcoreinfo_in_notes(&self) -> Extent {
        let Some(info) = self.vmcore.vmcoreinfo_extent() else {
            return Extent::default();
        };
        let mut before = 0_u64;
        for segment in self.vmcore.notes() {
            if let Some(inside) = info.offset.checked_sub(segment.offset)
                && inside < segment.bytes
            {
                return Extent {
                    offset: before.saturating_add(inside),
                    bytes: info.bytes,
                };
            }
            before = before.saturating_add(segment.bytes.next_multiple_of(4));
        }
        Extent::default()
    }
}

/// Sets the bits of the pages that the vmcore has.
fn set_present<S: Source>(vmcore: &Vmcore<'_, S>, window: &mut Window<'_>) {
    let mut from = Pfn(window.start());
    while let Some((start, end)) = vmcore.present_from(from) {
        if start.0 >= window.end() {
            break;
        }
        window.set(start.0, end.0);
        from = end;
    }
}

/// Clears the bits of the pages that the vmcore was written without, and returns how many those are.
fn clear_holes<S: Source>(vmcore: &mut Vmcore<'_, S>, window: &mut Window<'_>) -> u64 {
    let mut missing = 0_u64;
    let mut from = Pfn(window.start());
    let window_end = Pfn(window.end());
    while let Some((start, end)) = vmcore.hole_from(from, window_end) {
        missing = missing.saturating_add(window.clear(start.0, end.0));
        // A hole that is no longer than nothing would be found again.
        from = end.max(Pfn(from.0.saturating_add(1)));
    }
    missing
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
