// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vmcore: from a physical address to a file offset to bytes.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use core::fmt;

use heapless::Vec;

use crate::address::{Pfn, PhysAddr, VirtAddr};
use crate::arch::{Arch, ImageSegment, Leaf, ReadEntries, TranslateError, Translation};
use crate::bytes::{Abi, shorter};
use crate::elf::{self, ElfError};
use crate::io::{IoError, Source};
use crate::mem_map::Defaults;
use crate::notes::find_notes;
use crate::segments::{
    END_OF_MEMORY, MAX_NOTE_SEGMENTS, MAX_RANGES, RANGE_BYTES, Range, Segments, sort_and_separate,
};
use crate::vmcoreinfo::Vmcoreinfo;

pub use crate::segments::{Defects, Extent};

/// The most bytes of VMCOREINFO that are kept: the kernel gives it one page, of 4 KiB on most machines.
const VMCOREINFO_BYTES: usize = 16 << 10;
/// How many translations are remembered: enough for the tables and the text of the log.
const LEAVES: usize = 4;

/// What [`Vmcore::open`] needs of memory.
pub const OPEN_BYTES: usize = MAX_RANGES * RANGE_BYTES + VMCOREINFO_BYTES;
/// What each memory segment beyond those that [`OPEN_BYTES`] has room for takes.
pub const SEGMENT_BYTES: usize = RANGE_BYTES;

/// A vmcore that is open: its headers are read, its memory is not.
pub struct Vmcore<'m, S> {
    source: S,
    ranges: &'m [[u8; RANGE_BYTES]],
    /// The range that was found last; the next address is most often in the same.
    last_range: usize,
    machine: u16,
    abi: Abi,
    page_shift: u32,
    info: Vmcoreinfo<'m>,
    info_extent: Option<Extent>,
    notes: Vec<Extent, MAX_NOTE_SEGMENTS>,
    cpu_count: u32,
    image: Option<ImageSegment>,
    arch: Option<Arch>,
    leaves: [Option<Leaf>; LEAVES],
    next_leaf: usize,
    defects: Defects,
}

impl<'m, S: Source> Vmcore<'m, S> {
    /// Reads headers, notes and VMCOREINFO. `memory` has [`OPEN_BYTES`].
    ///
    /// # Errors
    /// The file cannot be read, or is no vmcore that we know.
    pub fn open(source: S, memory: &'m mut [u8]) -> Result<Self, OpenError> {
        Self::open_with(source, None, memory)
    }

    /// As [`Vmcore::open`], with the text of VMCOREINFO from elsewhere where `vmcoreinfo` has one. What is longer than a
    /// kernel's is cut.
    ///
    /// # Errors
    /// As [`Vmcore::open`].
    pub fn open_with(
        mut source: S,
        vmcoreinfo: Option<&[u8]>,
        memory: &'m mut [u8],
    ) -> Result<Self, OpenError> {
        let (text, table) = memory
            .split_at_mut_checked(VMCOREINFO_BYTES)
            .filter(|(_, table)| table.len() >= MAX_RANGES.saturating_mul(RANGE_BYTES))
            .ok_or(OpenError::Memory)?;
        let table = table.as_chunks_mut::<RANGE_BYTES>().0;

        let mut header = [0; elf::FILE_HEADER_BYTES];
        // An ELF32 header is shorter, but no vmcore with memory ends within these bytes.
        source.read_at(0, &mut header).map_err(|error| {
            if error == IoError::END {
                OpenError::Elf(ElfError::NotElf)
            } else {
                OpenError::Io(0, error)
            }
        })?;
        let header = elf::parse_file_header(&header).map_err(OpenError::Elf)?;
        let mut segments = Segments::new(table);
        segments.read_all(&mut source, &header)?;
        let Segments {
            table,
            used,
            notes,
            image,
            mut defects,
        } = segments;

        let notes_found = find_notes(&mut source, header.abi, &notes);
        defects.damaged_notes = notes_found.damaged;
        let info = match (vmcoreinfo, notes_found.vmcoreinfo) {
            (Some(given), _) => {
                let bytes = given.len().min(text.len());
                let text = text.get_mut(..bytes).ok_or(OpenError::Memory)?;
                text.copy_from_slice(given.get(..bytes).unwrap_or_default());
                Vmcoreinfo::new(text)
            }
            (None, Some(extent)) => {
                let bytes = usize::try_from(extent.bytes)
                    .unwrap_or(usize::MAX)
                    .min(text.len());
                let text = text.get_mut(..bytes).ok_or(OpenError::Memory)?;
                source
                    .read_at(extent.offset, text)
                    .map_err(|error| OpenError::Io(extent.offset, error))?;
                Vmcoreinfo::new(text)
            }
            (None, None) => Vmcoreinfo::default(),
        };

        let page_shift = info
            .value("PAGESIZE")
            .and_then(|text| text.parse::<u32>().ok())
            .filter(|size| size.is_power_of_two() && (4096..=65536).contains(size))
            .map_or(12, u32::trailing_zeros);
        let abi = header.machine_abi();
        let mut arch = Arch::detect::<S>(header.machine, abi, page_shift, &info, image);
        let end_of_memory = info
            .number("MAX_PHYSMEM_BITS")
            .and_then(|bits| u32::try_from(bits).ok())
            // A smaller machine has no kernel that says this: a wrong number must not cost the memory above it.
            .filter(|bits| (32..=52).contains(bits))
            .or(arch
                .as_mut()
                .and_then(Arch::translation::<S>)
                .map(|arch| arch.sparse_defaults().max_physmem_bits))
            .and_then(|bits| 1_u64.checked_shl(bits))
            .unwrap_or(END_OF_MEMORY);
        let table = table.get_mut(..used).unwrap_or_default();
        let (used, beyond) = sort_and_separate(table, end_of_memory);
        defects.dropped_segments = defects.dropped_segments.saturating_add(beyond);
        let table: &'m [[u8; RANGE_BYTES]] = table;
        let mut vmcore = Self {
            source,
            ranges: table.get(..used).unwrap_or_default(),
            last_range: 0,
            machine: header.machine,
            abi,
            page_shift,
            arch,
            info,
            info_extent: notes_found.vmcoreinfo,
            notes,
            cpu_count: notes_found.cpu_count,
            image,
            leaves: [None; LEAVES],
            next_leaf: 0,
            defects,
        };
        vmcore.with_translation(|translation, read| translation.complete(read));
        Ok(vmcore)
    }

    /// The first kernel's release, as `uname -r` prints it; empty when the vmcore does not say.
    #[must_use]
    pub fn release(&self) -> &'m str {
        self.info.value("OSRELEASE").unwrap_or("")
    }

    /// When the first kernel panicked, in seconds since 1970. A vmcore of a live machine has no such time.
    #[must_use]
    pub fn crash_time_s(&self) -> Option<i64> {
        self.info.value("CRASHTIME")?.parse().ok()
    }

    /// The vmcore's length in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.source.size_bytes()
    }

    /// The first kernel's own words about itself.
    #[must_use]
    pub const fn vmcoreinfo(&self) -> Vmcoreinfo<'m> {
        self.info
    }

    /// Where the text of VMCOREINFO is in the file.
    #[must_use]
    pub const fn vmcoreinfo_extent(&self) -> Option<Extent> {
        self.info_extent
    }

    /// Where the notes are in the file, one extent for each segment of them.
    #[must_use]
    pub fn notes(&self) -> &[Extent] {
        &self.notes
    }

    /// Processors that left their registers in the notes.
    #[must_use]
    pub const fn cpu_count(&self) -> u32 {
        self.cpu_count
    }

    /// The machine's name as `uname -m` prints it there, where `e_machine` is one that we know.
    #[must_use]
    pub const fn machine_name(&self) -> Option<&'static str> {
        crate::arch::machine_name(self.machine, self.abi)
    }

    /// How the first kernel's machine has numbers in memory.
    #[must_use]
    pub const fn abi(&self) -> Abi {
        if S::NATIVE { Abi::NATIVE } else { self.abi }
    }

    /// The physical load shift of an x86_64 kernel, or where memory begins on arm64 and riscv64; 0 on others.
    #[must_use]
    pub fn phys_base(&self) -> i64 {
        let mut arch = self.arch;
        let translation = arch.as_mut().and_then(Arch::translation::<S>);
        translation.map_or(0, |arch| arch.phys_base())
    }

    /// What holds where VMCOREINFO does not say how memory is cut into sections; `None` for an architecture whose
    /// memory we cannot find our way in.
    pub(crate) fn sparse_defaults(&self) -> Option<Defaults> {
        let mut arch = self.arch;
        let translation = arch.as_mut().and_then(Arch::translation::<S>);
        translation.map(|arch| arch.sparse_defaults())
    }

    /// What was wrong with the headers.
    #[must_use]
    pub const fn defects(&self) -> Defects {
        self.defects
    }

    /// Bytes of a page.
    #[must_use]
    pub const fn page_size(&self) -> usize {
        // The shift is 12 to 16.
        1_usize.wrapping_shl(self.page_shift)
    }

    /// The base-2 logarithm of the page size.
    #[must_use]
    pub const fn page_shift(&self) -> u32 {
        self.page_shift
    }

    /// One past the highest pfn that is in the file.
    #[must_use]
    pub fn max_mapnr(&self) -> u64 {
        self.ranges
            .last()
            .map_or(0, |range| self.pfn_above(Range::from_bytes(range).end))
    }

    /// Pages of which at least one byte is in the file.
    #[must_use]
    pub fn present_pages(&self) -> u64 {
        let mut pages = 0_u64;
        let mut from = Pfn(0);
        while let Some((start, end)) = self.present_from(from) {
            pages = pages.saturating_add(end.0.saturating_sub(start.0));
            from = end;
        }
        pages
    }

    /// The first run of present pages at or behind `from`: its first pfn, and the one past its last.
    #[must_use]
    pub fn present_from(&self, from: Pfn) -> Option<(Pfn, Pfn)> {
        let first_byte = from.0.checked_shl(self.page_shift)?;
        let index = self
            .ranges
            .partition_point(|range| Range::from_bytes(range).end <= first_byte);
        let mut ranges = self.ranges.get(index..)?.iter().map(Range::from_bytes);
        let first = ranges.next()?;
        let start = self.pfn_below(first.start).max(from.0);
        let mut end = self.pfn_above(first.end);
        for range in ranges {
            if self.pfn_below(range.start) > end {
                break;
            }
            end = end.max(self.pfn_above(range.end));
        }
        Some((Pfn(start), Pfn(end)))
    }

    /// The first run of present pages at or behind `from`, and before `end`, that were left out of the file before: one
    /// that is a dumpfile itself.
    pub(crate) fn hole_from(&mut self, from: Pfn, end: Pfn) -> Option<(Pfn, Pfn)> {
        let first_byte = from.0.checked_shl(self.page_shift)?;
        let last_byte = end.0.saturating_mul(1_u64.checked_shl(self.page_shift)?);
        let index = self
            .ranges
            .partition_point(|range| Range::from_bytes(range).end <= first_byte);
        for range in self.ranges.get(index..)? {
            let range = Range::from_bytes(range);
            if range.start >= last_byte {
                return None;
            }
            let range = range.from(first_byte);
            let bytes = range.end.min(last_byte).saturating_sub(range.start);
            let range_end = range.offset.saturating_add(bytes);
            if let Some((hole, hole_end)) = self.source.hole(range.offset, range_end) {
                let address = |offset: u64| {
                    range
                        .start
                        .saturating_add(offset.clamp(range.offset, range_end))
                        .saturating_sub(range.offset)
                };
                return Some((
                    Pfn(self.pfn_below(address(hole))),
                    Pfn(self.pfn_above(address(hole_end))),
                ));
            }
        }
        None
    }

    const fn pfn_below(&self, address: u64) -> u64 {
        address.wrapping_shr(self.page_shift)
    }

    fn pfn_above(&self, address: u64) -> u64 {
        // An address is below 2^52.
        address.div_ceil(1_u64.wrapping_shl(self.page_shift))
    }

    /// What makes the first kernel's address of an address of memory, where the file says it; and the pfn up to which
    /// that holds.
    pub(crate) fn linear_from(&self, pfn: Pfn) -> (Option<u64>, Pfn) {
        let first_byte = pfn.0.wrapping_shl(self.page_shift);
        let index = self
            .ranges
            .partition_point(|range| Range::from_bytes(range).end <= first_byte);
        let Some(range) = self.ranges.get(index).map(Range::from_bytes) else {
            return (None, Pfn(u64::MAX));
        };
        let shift = match range.virtual_address {
            0 => None,
            address => Some(address.wrapping_sub(range.start)),
        };
        (shift, Pfn(self.pfn_below(range.end)))
    }

    /// Where the kernel's image is: its first pfn, the one past its last, and the address that the kernel was linked for
    /// of the first.
    pub(crate) fn image_pfns(&self) -> Option<(u64, u64, u64)> {
        let image = self.image?;
        let start = image.physical_address.0;
        let end = start.checked_add(image.bytes)?;
        let size = u64::try_from(self.page_size()).ok()?;
        // The start of a page; the kernel's image begins with one.
        let first = self.pfn_below(start);
        let inside = start.checked_rem(size)?;
        Some((
            first,
            self.pfn_above(end),
            image.virtual_address.0.checked_sub(inside)?,
        ))
    }

    /// `e_machine`.
    pub(crate) const fn machine(&self) -> u16 {
        self.machine
    }

    /// Whether the file says of itself that it was cut short.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.source.is_incomplete()
    }

    /// The source itself.
    pub const fn source(&mut self) -> &mut S {
        &mut self.source
    }

    /// Where the byte at `address` is in the file, and how many follow in one piece.
    pub(crate) fn locate(&mut self, address: PhysAddr) -> Option<Extent> {
        let inside = |range: &Range| range.start <= address.0 && address.0 < range.end;
        let range = self
            .ranges
            .get(self.last_range)
            .map(Range::from_bytes)
            .filter(inside)
            .or_else(|| {
                let index = self
                    .ranges
                    .partition_point(|range| Range::from_bytes(range).end <= address.0);
                let range = self
                    .ranges
                    .get(index)
                    .map(Range::from_bytes)
                    .filter(inside)?;
                self.last_range = index;
                Some(range)
            })?;
        let skipped = address.0.checked_sub(range.start)?;
        Some(Extent {
            offset: range.offset.checked_add(skipped)?,
            bytes: range.end.checked_sub(address.0)?,
        })
    }

    /// Fills `buf` from `address` on.
    pub(crate) fn read_physical(
        &mut self,
        mut address: PhysAddr,
        mut buf: &mut [u8],
    ) -> Result<(), ReadError> {
        while !buf.is_empty() {
            let extent = self
                .locate(address)
                .ok_or(ReadError::NotCaptured(address))?;
            let piece = shorter(buf.len(), extent.bytes);
            let (now, later) = buf.split_at_mut(piece);
            self.source
                .read_at(extent.offset, now)
                .map_err(|error| ReadError::Io(extent.offset, error))?;
            address = advance(address, piece)?;
            buf = later;
        }
        Ok(())
    }

    /// The `len` bytes from `address` on, when they lie in the file in one piece; `None` when they do not.
    pub(crate) fn view_physical<'a>(
        &'a mut self,
        address: PhysAddr,
        len: usize,
        scratch: &'a mut [u8],
    ) -> Option<Result<&'a [u8], ReadError>> {
        let extent = self.locate(address)?;
        if u64::try_from(len).ok()? > extent.bytes {
            return None;
        }
        Some(
            self.source
                .view(extent.offset, len, scratch)
                .map_err(|error| ReadError::Io(extent.offset, error)),
        )
    }

    /// Fills `page` with one page; what the file does not have of it is zero.
    ///
    /// # Errors
    /// The source failed.
    pub fn read_page(&mut self, pfn: Pfn, page: &mut [u8]) -> Result<(), ReadError> {
        let start = pfn.0.wrapping_shl(self.page_shift);
        let size = self.page_size();
        let whole = page.get_mut(..size).unwrap_or_default();
        if self
            .locate(PhysAddr(start))
            .is_some_and(|extent| usize::try_from(extent.bytes).is_ok_and(|bytes| bytes >= size))
        {
            return self.read_physical(PhysAddr(start), whole);
        }
        whole.fill(0);
        let end = start.saturating_add(u64::try_from(size).unwrap_or(0));
        let first = self
            .ranges
            .partition_point(|range| Range::from_bytes(range).end <= start);
        for range in self.ranges.get(first..).unwrap_or_default() {
            let range = Range::from_bytes(range);
            if range.start >= end {
                break;
            }
            let range = range.from(start);
            let piece = range.start.saturating_sub(start)..range.end.min(end).saturating_sub(start);
            let (Ok(from), Ok(to)) = (usize::try_from(piece.start), usize::try_from(piece.end))
            else {
                continue;
            };
            let Some(part) = whole.get_mut(from..to) else {
                continue;
            };
            self.source
                .read_at(range.offset, part)
                .map_err(|error| ReadError::Io(range.offset, error))?;
        }
        Ok(())
    }

    /// Translates by the first kernel's page tables alone.
    pub(crate) fn translate_by_tables(
        &mut self,
        address: VirtAddr,
    ) -> Result<(PhysAddr, u64), TranslateError> {
        if let Some(found) = self
            .leaves
            .iter()
            .flatten()
            .find_map(|leaf| leaf.locate(address))
        {
            return Ok(found);
        }
        let leaf = self
            .with_translation(|translation, read| translation.walk(address, read))
            .ok_or(TranslateError::NoTables)??;
        if let Some(place) = self.leaves.get_mut(self.next_leaf) {
            *place = Some(leaf);
        }
        self.next_leaf = self.next_leaf.wrapping_add(1) % LEAVES;
        leaf.locate(address)
            .ok_or(TranslateError::NotMapped(address))
    }

    /// Calls `act` with the architecture's translation and what reads physical memory for it; `None` where the
    /// architecture is not known. What the translation remembers is kept.
    fn with_translation<T>(
        &mut self,
        act: impl FnOnce(&mut dyn Translation, ReadEntries<'_>) -> T,
    ) -> Option<T> {
        let mut arch = self.arch?;
        let translation = arch.translation::<S>()?;
        let result = act(translation, &mut |place, entries| {
            self.read_physical(place, entries)
        });
        self.arch = Some(arch);
        Some(result)
    }

    /// Translates by the page tables, and where those fail by the addresses that the segments carry.
    pub(crate) fn translate(
        &mut self,
        address: VirtAddr,
    ) -> Result<(PhysAddr, u64), TranslateError> {
        let error = match self.translate_by_tables(address) {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let image = self.image.map(|image| Leaf {
            virtual_address: image.virtual_address,
            physical_address: image.physical_address,
            bytes: image.bytes,
        });
        let segments = self
            .ranges
            .iter()
            .map(Range::from_bytes)
            .filter(|range| range.virtual_address != 0)
            .map(|range| Leaf {
                virtual_address: VirtAddr(range.virtual_address),
                physical_address: PhysAddr(range.start),
                bytes: range.end.saturating_sub(range.start),
            });
        image
            .into_iter()
            .chain(segments)
            .find_map(|leaf| leaf.locate(address))
            .ok_or(error)
    }

    /// Fills `buf` from the virtual `address` on, by the page tables alone.
    pub(crate) fn read_by_tables(
        &mut self,
        address: VirtAddr,
        buf: &mut [u8],
    ) -> Result<(), ReadError> {
        self.read_translated(address, buf, Self::translate_by_tables)
    }

    /// Fills `buf` from the virtual `address` on.
    pub(crate) fn read_virtual(
        &mut self,
        address: VirtAddr,
        buf: &mut [u8],
    ) -> Result<(), ReadError> {
        self.read_translated(address, buf, Self::translate)
    }

    /// Fills `buf` from the virtual `address` on, a translated piece at a time.
    fn read_translated(
        &mut self,
        mut address: VirtAddr,
        mut buf: &mut [u8],
        translate: impl Fn(&mut Self, VirtAddr) -> Result<(PhysAddr, u64), TranslateError>,
    ) -> Result<(), ReadError> {
        while !buf.is_empty() {
            let (physical, bytes) = translate(self, address).map_err(ReadError::Translate)?;
            let piece = shorter(buf.len(), bytes);
            let (now, later) = buf.split_at_mut(piece);
            self.read_physical(physical, now)?;
            // Behind the last address there is the first, which no kernel has mapped.
            address = VirtAddr(address.0.wrapping_add(u64::try_from(piece).unwrap_or(0)));
            buf = later;
        }
        Ok(())
    }

    /// The `unsigned int` at `address`.
    pub(crate) fn read_u32(&mut self, address: VirtAddr) -> Result<u32, ReadError> {
        let mut bytes = [0; 4];
        self.read_virtual(address, &mut bytes)?;
        Ok(self.abi().u32_at(&bytes, 0).unwrap_or(0))
    }

    /// The `unsigned long` or pointer at `address`.
    pub(crate) fn read_word(&mut self, address: VirtAddr) -> Result<u64, ReadError> {
        let mut bytes = [0; 8];
        let abi = self.abi();
        let bytes = bytes.get_mut(..abi.word_bytes()).unwrap_or_default();
        self.read_virtual(address, bytes)?;
        // As many bytes were read as a word has.
        Ok(abi.word_at(bytes, 0).unwrap_or(0))
    }
}

fn advance(address: PhysAddr, bytes: usize) -> Result<PhysAddr, ReadError> {
    u64::try_from(bytes)
        .ok()
        .and_then(|bytes| address.checked_add(bytes))
        .ok_or(ReadError::NotCaptured(address))
}

/// Why a vmcore could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The vmcore could not be read at this byte offset.
    Io(u64, IoError),
    /// It is no vmcore that we read.
    Elf(ElfError),
    /// The program headers, of which there are this many, do not fit into the file.
    HeadersBeyondEnd(u32),
    /// There are more separate ranges of memory than can be told apart.
    TooManySegments,
    /// The caller gave less than [`OPEN_BYTES`].
    Memory,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(offset, error) => {
                write!(f, "reading the vmcore's headers at byte {offset}: {error}")
            }
            Self::Elf(error) => write!(f, "reading the vmcore's header: {error}"),
            Self::HeadersBeyondEnd(count) => write!(
                f,
                "the vmcore's {count} program headers reach beyond its end; it is cut short or damaged"
            ),
            Self::TooManySegments => {
                f.write_str("the vmcore has more memory segments than there is room for")
            }
            Self::Memory => write!(f, "opening a vmcore needs {OPEN_BYTES} bytes of memory"),
        }
    }
}

impl core::error::Error for OpenError {}

/// Why memory of the first kernel could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// No `PT_LOAD` segment covers this address: the kernel never exported it.
    NotCaptured(PhysAddr),
    /// The virtual address leads nowhere.
    Translate(TranslateError),
    /// The vmcore could not be read at this byte offset.
    Io(u64, IoError),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCaptured(address) => {
                write!(f, "memory at {address} is not in the vmcore")
            }
            Self::Translate(error) => error.fmt(f),
            Self::Io(offset, error) => write!(f, "reading the vmcore at byte {offset}: {error}"),
        }
    }
}

impl core::error::Error for ReadError {}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::as_conversions)]
mod tests {
    use super::*;

    struct Bytes(std::vec::Vec<u8>);

    impl Source for Bytes {
        fn size_bytes(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
            let start = usize::try_from(offset).map_err(|_| IoError::END)?;
            let end = start.checked_add(buf.len()).ok_or(IoError::END)?;
            buf.copy_from_slice(self.0.get(start..end).ok_or(IoError::END)?);
            Ok(())
        }
    }

    /// A header, the loads as (file offset, physical address, bytes), and behind them 64 KiB whose byte at file offset
    /// n is n >> 8.
    fn file(loads: &[(u64, u64, u64)]) -> Bytes {
        let mut bytes = vec![0_u8; 64];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[16] = 4;
        bytes[18] = 62;
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = loads.len() as u8;
        for &(offset, address, length) in loads {
            bytes.extend(1_u32.to_le_bytes());
            bytes.extend(7_u32.to_le_bytes());
            for field in [offset, 0, address, length, length, 0] {
                bytes.extend(field.to_le_bytes());
            }
        }
        let start = bytes.len();
        bytes.extend((start..1 << 16).map(|position| (position >> 8) as u8));
        Bytes(bytes)
    }

    fn open(loads: &[(u64, u64, u64)], check: impl FnOnce(Vmcore<'_, Bytes>)) {
        let mut memory = vec![0; OPEN_BYTES];
        check(Vmcore::open(file(loads), &mut memory).unwrap());
    }

    #[test]
    fn segments_are_sorted_and_overlap_counts_once() {
        let loads = [
            (0x4000, 0x10_2000, 0x1000),
            (0x8000, 0x20_0000, 0x2000),
            (0x2000, 0x10_0000, 0x4000),
        ];
        open(&loads, |mut vmcore| {
            assert_eq!(vmcore.present_pages(), 6);
            assert_eq!(vmcore.max_mapnr(), 0x202);
            assert_eq!(vmcore.present_from(Pfn(0)), Some((Pfn(0x100), Pfn(0x104))));
            assert_eq!(
                vmcore.present_from(Pfn(0x102)),
                Some((Pfn(0x102), Pfn(0x104)))
            );
            assert_eq!(
                vmcore.present_from(Pfn(0x104)),
                Some((Pfn(0x200), Pfn(0x202)))
            );
            assert_eq!(vmcore.present_from(Pfn(0x202)), None);
            let mut byte = [0];
            vmcore
                .read_physical(PhysAddr(0x20_1f00), &mut byte)
                .unwrap();
            assert_eq!(byte, [0x9f]);
            let error = vmcore.read_physical(PhysAddr(0x10_4000), &mut byte);
            assert_eq!(error, Err(ReadError::NotCaptured(PhysAddr(0x10_4000))));
        });
    }

    #[test]
    fn pages_partly_covered_are_stitched_and_filled_with_zeroes() {
        let loads = [(0x2000, 0x10_0100, 0x200), (0x5000, 0x10_0800, 0x900)];
        open(&loads, |mut vmcore| {
            assert_eq!(vmcore.present_pages(), 2);
            let mut page = [0xee; 4096];
            vmcore.read_page(Pfn(0x100), &mut page).unwrap();
            for (position, &byte) in page.iter().enumerate() {
                let expected = match position {
                    0x100..0x300 => 0x20 + ((position - 0x100) >> 8) as u8,
                    0x800.. => 0x50 + ((position - 0x800) >> 8) as u8,
                    _ => 0,
                };
                assert_eq!(byte, expected, "{position:#x}");
            }
            vmcore.read_page(Pfn(0x101), &mut page).unwrap();
            assert_eq!((page[0], page[0xff], page[0x100]), (0x58, 0x58, 0));
        });
    }

    #[test]
    fn impossible_segments_are_dropped_and_cut_ones_clipped() {
        let loads = [
            (0x2000, u64::MAX - 0xfff, 0x2000),
            (0x2000, 1 << 52, 0x1000),
            (0xf000, 0x10_0000, 0x8000),
            (1 << 40, 0x40_0000, 0x1000),
        ];
        open(&loads, |vmcore| {
            assert_eq!(vmcore.present_pages(), 1);
            assert_eq!(
                vmcore.defects(),
                Defects {
                    dropped_segments: 2,
                    truncated_segments: 2,
                    damaged_notes: false
                }
            );
        });
    }

    #[test]
    fn headers_beyond_the_end_are_an_error() {
        let mut source = file(&[]);
        source.0[56] = 0xff;
        source.0[57] = 0xfe;
        let mut memory = vec![0; OPEN_BYTES];
        let error = Vmcore::open(source, &mut memory).err();
        assert_eq!(error, Some(OpenError::HeadersBeyondEnd(0xfeff)));
        let error = Vmcore::open(Bytes(vec![0x7f; 10]), &mut memory).err();
        assert_eq!(error, Some(OpenError::Elf(ElfError::NotElf)));
    }
}
