// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a dumpfile's writer is told, and what it answers.

use super::header::Extent;
use super::utsname::Utsname;
use super::writer::MEMORY_BYTES as WRITER_BYTES;
use crate::address::Pfn;
use crate::bytes::Abi;
use crate::io::IoError;
use config::{Compression, DumpLevel};
use core::fmt;

/// What a dumpfile says about itself.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// How the crashed machine has numbers.
    pub abi: Abi,
    /// The crashed kernel's names.
    pub utsname: &'a Utsname,
    /// When it crashed, seconds since 1970.
    pub crash_time_s: i64,
    /// Bytes of a page.
    pub page_bytes: u32,
    /// One past the highest pfn.
    pub max_mapnr: u64,
    /// Pages that the dumpfile will have: the bits that are set in the 2nd bitmap.
    pub page_count: u64,
    /// CPUs whose registers stand in the notes.
    pub nr_cpus: u32,
    /// Where the kernel was loaded, as a signed number in two's complement.
    pub phys_base: u64,
    /// How pages are compressed.
    pub compression: Compression,
    /// The dump level that the pages were chosen by.
    pub dump_level: DumpLevel,
    /// Bytes of the vmcore's notes.
    pub notes_bytes: u64,
    /// The text of VMCOREINFO, counted from the start of the notes.
    pub vmcoreinfo: Extent,
    /// What this file has, when it is one of several that make a dump. `page_count` counts its pages alone.
    pub part: Option<Part>,
    /// The vmcore itself was cut short: the dumpfile stays one that says so.
    pub incomplete: bool,
}

/// One of the files that make a dump: the bitmaps are those of the whole dump, the pages are some of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The first pfn whose page is here; crash wants a multiple of 64.
    pub start: Pfn,
    /// One past the last.
    pub end: Pfn,
    /// Pages of all parts.
    pub dump_page_count: u64,
}

/// Which of a dumpfile's two bitmaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bitmap {
    /// The 1st: the page exists in the vmcore.
    Present,
    /// The 2nd: the dumpfile has the page.
    Dumpable,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Pages that can be read from the dumpfile.
    pub pages: u64,
    /// Pages among them that share another one's data.
    pub shared_pages: u64,
    /// Pages among them that are stored as they are.
    pub raw_pages: u64,
    /// Bytes from the dumpfile's start to its end.
    pub file_bytes: u64,
}

/// Why a dumpfile could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The sink failed at this byte offset.
    Sink(u64, IoError),
    /// The facts fit no dumpfile: a page size that is no power of two from 4 KiB to 64 KiB, or counts that are too large.
    Facts,
    /// `memory` has fewer than [`Writer::MEMORY_BYTES`](super::Writer::MEMORY_BYTES).
    Memory,
    /// The notes, a bitmap or the pages do not match the facts; the text says which.
    Mismatch(&'static str),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sink(offset, error) => write!(f, "writing at byte {offset}: {error}"),
            Self::Facts => f.write_str("page size or page counts that no dumpfile can have"),
            Self::Memory => write!(
                f,
                "a dumpfile's writer needs {WRITER_BYTES} bytes of memory"
            ),
            Self::Mismatch(what) => write!(f, "the dumpfile's parts do not match: {what}"),
        }
    }
}

impl core::error::Error for WriteError {}
