// SPDX-License-Identifier: MIT OR Apache-2.0
//! A dumpfile read as if it were the vmcore that it was made from: what filters and compresses a vmcore can filter a
//! dumpfile again, or compress it in another way.
//!
//! ```text
//! what the ELF reader sees                           where it comes from
//! file header, program headers                       made up: one segment for each run in the 1st bitmap
//! notes                                              the dumpfile's notes
//! from a round offset on: byte n of memory           the page with that byte, unpacked
//! ```
//!
//! Pages that the dumpfile was written without are holes: reading there is an error, and [`Source::hole`] tells them. In
//! a dumpfile that was cut short, the pages that were lost are holes as well.

use core::fmt;

use super::facts::Bitmap;
use super::header::{Extent, PAGE_DESC_BYTES, PageDesc};
use super::reader::{ReadError, Reader};
use super::run::as_u64;
use crate::address::Pfn;
use crate::arch::machine_name;
use crate::elf_headers::{self, FILE_HEADER_BYTES, PROGRAM_HEADER_BYTES};
use crate::io::{IoError, Source};

/// Unpacked pages that are kept: page tables and `struct page`s are read in small pieces.
const CACHE_BYTES: usize = 256 << 10;
/// The most pages that are kept.
const SLOTS: usize = 64;
/// More runs of memory than the ELF reader can tell apart; the header counts them in 16 bits.
const MAX_RUNS: u64 = 60_000;
/// What a slot has that holds no page.
const EMPTY: u64 = u64::MAX;

/// Bytes of the header and the name of a note that is made up for VMCOREINFO.
const NOTE_HEAD_BYTES: usize = 24;

/// A dumpfile as a vmcore.
///
/// ```no_run
/// # use collector::{OPEN_BYTES, OpenError, Source, Vmcore, kdump::{DumpfileSource, ReadError}};
/// # fn example<S: Source>(file: S) -> Result<(), Box<dyn std::error::Error>> {
/// let mut memory = vec![0; DumpfileSource::<S>::MEMORY_BYTES];
/// let source = DumpfileSource::open(file, &mut memory)?;
/// let mut memory = vec![0; OPEN_BYTES];
/// let vmcore = Vmcore::open(source, &mut memory)?;
/// # Ok(())
/// # }
/// ```
pub struct DumpfileSource<'m, S> {
    reader: Reader<'m, S>,
    machine: u16,
    runs: u64,
    /// Where the notes are in the dumpfile, and whether they are VMCOREINFO's bare text.
    notes: Extent,
    bare_text: bool,
    notes_at: u64,
    memory_at: u64,
    /// A run of the 1st bitmap that was asked for: its number, and where it begins and ends.
    run: (u64, u64, u64),
    cache: &'m mut [u8],
    slots: [u64; SLOTS],
    next_slot: usize,
    /// The file ends before its last page does, or says so.
    cut_short: bool,
}

impl<'m, S: Source> DumpfileSource<'m, S> {
    /// Bytes of memory that it works in.
    pub const MEMORY_BYTES: usize = Reader::<'m, S>::MEMORY_BYTES + CACHE_BYTES;

    /// Opens a dumpfile.
    ///
    /// # Errors
    /// As [`Reader::open`]; [`ReadError::Damaged`] where the 1st bitmap is no memory's.
    pub fn open(source: S, memory: &'m mut [u8]) -> Result<Self, ReadError> {
        let memory = memory
            .get_mut(..Self::MEMORY_BYTES)
            .ok_or(ReadError::Memory)?;
        let (cache, memory) = memory
            .split_at_mut_checked(CACHE_BYTES)
            .ok_or(ReadError::Memory)?;
        let mut reader = Reader::open(source, memory)?;
        let (name, abi) = (reader.header().utsname, reader.header().abi);
        let machine = (1..=300)
            .find(|&machine| machine_name(machine, abi) == Some(name.machine()))
            .unwrap_or(0);
        let (notes, bare_text) = match (reader.sub_header().notes, reader.sub_header().vmcoreinfo) {
            (notes, _) if notes.bytes > 0 => (notes, false),
            // Version 3 of the format has no other notes.
            (_, info) => (info, info.bytes > 0),
        };
        let mut runs = 0_u64;
        let mut from = Pfn(0);
        while let Some((_, end)) = next_run(&mut reader, from)? {
            runs = runs.saturating_add(1);
            if runs > MAX_RUNS {
                return Err(ReadError::Damaged("its memory is in too many pieces"));
            }
            from = Pfn(end);
        }
        let headers = PROGRAM_HEADER_BYTES.saturating_mul(runs.saturating_add(1));
        let notes_at = FILE_HEADER_BYTES
            .saturating_add(headers)
            .next_multiple_of(4096);
        let head = if bare_text {
            as_u64(NOTE_HEAD_BYTES)
        } else {
            0
        };
        let memory_at = notes
            .bytes
            .checked_add(head)
            .and_then(|bytes| bytes.checked_add(notes_at))
            .and_then(|end| end.checked_next_multiple_of(1 << 20))
            // The highest address of memory stays below 2^63 then.
            .filter(|&end| end < 1 << 62)
            .ok_or(ReadError::Damaged("its notes are longer than a file"))?;
        let cut_short = reader.is_incomplete() || ends_early(&mut reader, cache)?;
        Ok(Self {
            reader,
            machine,
            runs,
            notes,
            bare_text,
            notes_at,
            memory_at,
            run: (0, 0, 0),
            cache,
            slots: [EMPTY; SLOTS],
            next_slot: 0,
            cut_short,
        })
    }

    /// The dumpfile's reader.
    pub const fn reader(&mut self) -> &mut Reader<'m, S> {
        &mut self.reader
    }

    fn notes_bytes(&self) -> u64 {
        let head = if self.bare_text {
            as_u64(NOTE_HEAD_BYTES)
        } else {
            0
        };
        self.notes.bytes.saturating_add(head)
    }

    fn page_bytes(&self) -> u64 {
        self.reader.header().block_bytes.into()
    }

    /// The made-up file header.
    fn file_header(&self) -> [u8; 64] {
        elf_headers::file_header(&elf_headers::FileHeader {
            order: self.reader.header().abi.order,
            machine: self.machine,
            flags: 0,
            header_count: self.runs.saturating_add(1),
            section_at: 0,
        })
    }

    /// The made-up program header with this number.
    fn program_header(&mut self, index: u64) -> Result<[u8; 56], IoError> {
        let (kind, offset, address, bytes) = match index.checked_sub(1) {
            None => (4_u32, self.notes_at, 0, self.notes_bytes()),
            Some(run) => {
                let (start, end) = self.run(run)?;
                let page_bytes = self.page_bytes();
                let address = start.saturating_mul(page_bytes);
                let bytes = end.saturating_sub(start).saturating_mul(page_bytes);
                (1, self.memory_at.saturating_add(address), address, bytes)
            }
        };
        let fields = [offset, 0, address, bytes, bytes, 0];
        Ok(elf_headers::program_header(
            self.reader.header().abi.order,
            kind,
            4,
            fields,
        ))
    }

    /// The run of the 1st bitmap with this number. They are asked for in order.
    fn run(&mut self, wanted: u64) -> Result<(u64, u64), IoError> {
        let (mut number, mut start, mut end) = self.run;
        if end == 0 || wanted < number {
            (number, (start, end)) = (0, self.run_behind(0)?);
        }
        while number < wanted {
            (start, end) = self.run_behind(end)?;
            number = number.saturating_add(1);
        }
        self.run = (number, start, end);
        Ok((start, end))
    }

    fn run_behind(&mut self, from: u64) -> Result<(u64, u64), IoError> {
        next_run(&mut self.reader, Pfn(from))
            .map_err(io_error)?
            .ok_or(IoError::END)
    }

    /// The page, unpacked.
    fn page(&mut self, pfn: u64) -> Result<&[u8], IoError> {
        let page_bytes = self.reader.page_bytes();
        let slots = self
            .cache
            .len()
            .checked_div(page_bytes)
            .unwrap_or(0)
            .clamp(1, SLOTS);
        let found = self.slots.iter().position(|&slot| slot == pfn);
        let slot = match found {
            Some(slot) => slot,
            None => {
                let slot = self.next_slot;
                self.next_slot = slot.saturating_add(1).checked_rem(slots).unwrap_or(0);
                let place = self.slots.get_mut(slot).ok_or(IoError::INVALID)?;
                *place = EMPTY;
                let start = slot.saturating_mul(page_bytes);
                let end = start.saturating_add(page_bytes);
                let page = self.cache.get_mut(start..end).ok_or(IoError::INVALID)?;
                self.reader.read_page(Pfn(pfn), page).map_err(io_error)?;
                *place = pfn;
                slot
            }
        };
        let start = slot.saturating_mul(page_bytes);
        let end = start.saturating_add(page_bytes);
        self.cache.get(start..end).ok_or(IoError::INVALID)
    }

    /// Fills the start of `buf` with what the made-up file has at `offset`, and says how much that is.
    fn read_some(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, IoError> {
        if let Some(address) = offset.checked_sub(self.memory_at) {
            let page_bytes = self.page_bytes();
            let pfn = address.checked_div(page_bytes).unwrap_or(0);
            let skip = address.checked_rem(page_bytes).unwrap_or(0);
            if skip == 0
                && let Some(whole) = buf.get_mut(..self.reader.page_bytes())
                && !self.slots.contains(&pfn)
            {
                self.reader.read_page(Pfn(pfn), whole).map_err(io_error)?;
                return Ok(whole.len());
            }
            let page = self.page(pfn)?;
            return Ok(copy_from(page, skip, buf));
        }
        if let Some(inside) = offset.checked_sub(self.notes_at) {
            let mut inside = inside;
            if self.bare_text {
                let Some(behind) = inside.checked_sub(as_u64(NOTE_HEAD_BYTES)) else {
                    let bytes = u32::try_from(self.notes.bytes).unwrap_or(u32::MAX);
                    let head = elf_headers::note_head(self.reader.header().abi.order, bytes);
                    return Ok(copy_from(&head, inside, buf));
                };
                inside = behind;
            }
            let left = self.notes.bytes.saturating_sub(inside);
            if left == 0 {
                // Padding between the notes and the memory.
                let bytes = self.memory_at.saturating_sub(offset);
                return Ok(fill_zeros(bytes, buf));
            }
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            let part = buf.get_mut(..length).ok_or(IoError::INVALID)?;
            let place = self.notes.offset.saturating_add(inside);
            self.reader.read_at(place, part).map_err(io_error)?;
            return Ok(length);
        }
        let Some(inside) = offset.checked_sub(FILE_HEADER_BYTES) else {
            return Ok(copy_from(&self.file_header(), offset, buf));
        };
        let (index, skip) = (inside / PROGRAM_HEADER_BYTES, inside % PROGRAM_HEADER_BYTES);
        if index > self.runs {
            return Ok(fill_zeros(self.notes_at.saturating_sub(offset), buf));
        }
        let header = self.program_header(index)?;
        Ok(copy_from(&header, skip, buf))
    }

    /// The first run of pages from `from` on and before `end` that were lost when the file was cut short.
    fn lost(&mut self, from: u64, end: u64) -> Option<(u64, u64)> {
        let mut start = None;
        let mut pfn = from;
        while pfn < end {
            let is_lost = !self.has_data(pfn);
            match (start, is_lost) {
                (None, true) => start = Some(pfn),
                (Some(start), false) => return Some((start, pfn)),
                _ => {}
            }
            pfn = pfn.saturating_add(1);
        }
        start.map(|start| (start, end))
    }

    /// Whether all of a page's data is in the file.
    fn has_data(&mut self, pfn: u64) -> bool {
        let size_bytes = self.reader.size_bytes();
        self.reader
            .desc(Pfn(pfn))
            .is_ok_and(|desc| data_end(&desc) <= size_bytes)
    }
}

impl<S: Source> Source for DumpfileSource<'_, S> {
    fn size_bytes(&self) -> u64 {
        let memory = self.reader.max_mapnr().saturating_mul(self.page_bytes());
        self.memory_at.saturating_add(memory)
    }

    fn read_at(&mut self, mut offset: u64, mut buf: &mut [u8]) -> Result<(), IoError> {
        while !buf.is_empty() {
            if offset >= self.size_bytes() {
                return Err(IoError::END);
            }
            let done = self.read_some(offset, buf)?;
            if done == 0 {
                return Err(IoError::END);
            }
            offset = offset.saturating_add(as_u64(done));
            buf = buf.get_mut(done..).unwrap_or_default();
        }
        Ok(())
    }

    fn hole(&mut self, offset: u64, end: u64) -> Option<(u64, u64)> {
        let page_bytes = self.page_bytes();
        let pfn_of = |offset: u64| {
            offset
                .saturating_sub(self.memory_at)
                .checked_div(page_bytes)
        };
        let first = pfn_of(offset)?;
        let behind = pfn_of(end.saturating_add(page_bytes.saturating_sub(1)))?;
        let at = self.memory_at;
        let place = |pfn: u64| at.saturating_add(pfn.saturating_mul(page_bytes));
        let mut from = first;
        while from < behind {
            // A bitmap that cannot be read has no pages.
            let hole = self.reader.find(Bitmap::Dumpable, Pfn(from), false);
            let hole = hole.map_or(Some(from), |hole| hole.map(|pfn| pfn.0));
            let kept_to = hole.unwrap_or(behind).min(behind);
            if self.cut_short
                && let Some((lost, lost_end)) = self.lost(from, kept_to)
            {
                return Some((place(lost), place(lost_end)));
            }
            if kept_to >= behind {
                return None;
            }
            let next = self.reader.find(Bitmap::Dumpable, Pfn(kept_to), true);
            let hole_end = next.map_or(behind, |next| next.map_or(behind, |pfn| pfn.0));
            from = hole_end.min(behind);
            if from > kept_to {
                return Some((place(kept_to), place(from)));
            }
        }
        None
    }

    fn is_incomplete(&self) -> bool {
        self.cut_short
    }
}

impl<S> fmt::Debug for DumpfileSource<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DumpfileSource")
            .field("reader", &self.reader)
            .field("runs", &self.runs)
            .field("cut_short", &self.cut_short)
            .finish_non_exhaustive()
    }
}

/// The first run of pages that exist, at `from` or behind it.
fn next_run<S: Source>(
    reader: &mut Reader<'_, S>,
    from: Pfn,
) -> Result<Option<(u64, u64)>, ReadError> {
    let Some(start) = reader.find(Bitmap::Present, from, true)? else {
        return Ok(None);
    };
    let end = reader.find(Bitmap::Present, start, false)?;
    Ok(Some((start.0, end.map_or(reader.max_mapnr(), |end| end.0))))
}

/// Whether the file ends before its descriptors do, or before the data of one of them, or has one of a lost page.
fn ends_early<S: Source>(
    reader: &mut Reader<'_, S>,
    scratch: &mut [u8],
) -> Result<bool, ReadError> {
    let size_bytes = reader.size_bytes();
    let mut offset = reader.descs_offset();
    let end = reader
        .page_count()
        .saturating_mul(as_u64(PAGE_DESC_BYTES))
        .saturating_add(offset);
    if end > size_bytes {
        return Ok(true);
    }
    let abi = reader.header().abi;
    let (descs, _) = scratch.as_chunks_mut::<PAGE_DESC_BYTES>();
    while offset < end {
        let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = (left / PAGE_DESC_BYTES).min(descs.len()).max(1);
        let descs = descs.get_mut(..count).ok_or(ReadError::Memory)?;
        reader.read_at(offset, descs.as_flattened_mut())?;
        if descs
            .iter()
            .map(|desc| PageDesc::decode(desc, abi))
            .any(|desc| desc.offset == 0 || desc.bytes == 0 || data_end(&desc) > size_bytes)
        {
            return Ok(true);
        }
        offset = offset.saturating_add(as_u64(descs.as_flattened().len()));
    }
    Ok(false)
}

fn data_end(desc: &PageDesc) -> u64 {
    desc.offset.saturating_add(desc.bytes.into())
}

/// What a failed page means for what reads the vmcore: there is nothing, or the device failed.
fn io_error(error: ReadError) -> IoError {
    match error {
        ReadError::Io(_, error) => error,
        ReadError::Excluded(_)
        | ReadError::NotPresent(_)
        | ReadError::Lost(_)
        | ReadError::Elsewhere(_) => IoError::END,
        _ => IoError::IO,
    }
}

/// Fills the start of `buf` with what `bytes` has behind its first `skip`.
fn copy_from(bytes: &[u8], skip: u64, buf: &mut [u8]) -> usize {
    let rest = usize::try_from(skip)
        .ok()
        .and_then(|skip| bytes.get(skip..))
        .unwrap_or_default();
    let length = rest.len().min(buf.len());
    if let (Some(to), Some(from)) = (buf.get_mut(..length), rest.get(..length)) {
        to.copy_from_slice(from);
    }
    length
}

/// Fills the start of `buf` with at most so many zeros.
fn fill_zeros(bytes: u64, buf: &mut [u8]) -> usize {
    let length = usize::try_from(bytes).unwrap_or(usize::MAX).min(buf.len());
    buf.get_mut(..length).unwrap_or_default().fill(0);
    length
}
