// SPDX-License-Identifier: MIT OR Apache-2.0
//! Program headers to ranges of physical memory, sorted and without overlap.
//!
//! Every number of the file is taken as hostile: a range is clipped to the bytes that the file has, and dropped where it
//! cannot be memory at all.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use heapless::Vec;

use crate::address::{PhysAddr, VirtAddr};
use crate::arch::{Arch, ImageSegment};
use crate::bytes::u64_at;
use crate::elf::{self, HeaderCount};
use crate::io::Source;
use crate::vmcore::OpenError;

/// So many separate ranges of memory can be told apart at least; a large server has some dozens, a filtered ELF dump of it
/// some thousands, for which there can be more room.
pub(crate) const MAX_RANGES: usize = 2048;
/// The most note segments; `/proc/vmcore` has one.
pub(crate) const MAX_NOTE_SEGMENTS: usize = 8;
/// No machine has memory beyond this address, though riscv64 leaves room for it.
pub(crate) const END_OF_MEMORY: u64 = 1 << 52;

/// Bytes of a range where it is stored.
pub(crate) const RANGE_BYTES: usize = 32;

/// A stretch of physical memory that is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) offset: u64,
    /// Where the first kernel had it mapped; 0 when the file does not say.
    pub(crate) virtual_address: u64,
}

impl Range {
    pub(crate) fn to_bytes(self) -> [u8; RANGE_BYTES] {
        let mut bytes = [0; RANGE_BYTES];
        let fields = [self.start, self.end, self.offset, self.virtual_address];
        for (place, field) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(fields) {
            *place = field.to_le_bytes();
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; RANGE_BYTES]) -> Self {
        // All four offsets are inside the array.
        let field = |offset| u64_at(bytes, offset).unwrap_or(0);
        Self {
            start: field(0),
            end: field(8),
            offset: field(16),
            virtual_address: field(24),
        }
    }

    /// The same range without the bytes before `start`.
    pub(crate) fn from(self, start: u64) -> Self {
        let cut = start.saturating_sub(self.start);
        Self {
            start: self.start.saturating_add(cut),
            end: self.end,
            offset: self.offset.saturating_add(cut),
            virtual_address: match self.virtual_address {
                0 => 0,
                address => address.saturating_add(cut),
            },
        }
    }
}

/// A piece of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// What was wrong with the file's headers, and worked around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defects {
    /// Segments whose addresses cannot be memory.
    pub dropped_segments: u32,
    /// Segments of which the file does not have all bytes.
    pub truncated_segments: u32,
    /// The notes end in the middle of one, or there are too many.
    pub damaged_notes: bool,
}

/// The program headers, as they are read.
pub(crate) struct Segments<'m> {
    pub(crate) table: &'m mut [[u8; RANGE_BYTES]],
    pub(crate) used: usize,
    pub(crate) notes: Vec<Extent, MAX_NOTE_SEGMENTS>,
    pub(crate) image: Option<ImageSegment>,
    pub(crate) defects: Defects,
}

impl<'m> Segments<'m> {
    pub(crate) fn new(table: &'m mut [[u8; RANGE_BYTES]]) -> Self {
        Self {
            table,
            used: 0,
            notes: Vec::new(),
            image: None,
            defects: Defects::default(),
        }
    }

    pub(crate) fn read_all<S: Source>(
        &mut self,
        source: &mut S,
        header: &elf::FileHeader,
    ) -> Result<(), OpenError> {
        let count = match header.header_count {
            HeaderCount::Here(count) => count,
            HeaderCount::At(offset) => {
                let mut bytes = [0; 4];
                source
                    .read_at(offset, &mut bytes)
                    .map_err(|error| OpenError::Io(offset, error))?;
                header.abi.u32_at(&bytes, 0).unwrap_or(0)
            }
        };
        let stride = u64::from(header.header_stride);
        let end = u64::from(count)
            .checked_mul(stride)
            .and_then(|bytes| bytes.checked_add(header.headers_offset))
            .filter(|&end| end <= source.size_bytes());
        if end.is_none() {
            return Err(OpenError::HeadersBeyondEnd(count));
        }
        let mut offset = header.headers_offset;
        for _ in 0..count {
            let mut bytes = [0; elf::MAX_PROGRAM_HEADER_BYTES];
            let bytes = bytes
                .get_mut(..elf::program_header_bytes(header.abi))
                .unwrap_or_default();
            source
                .read_at(offset, bytes)
                .map_err(|error| OpenError::Io(offset, error))?;
            if let Some(segment) = elf::parse_program_header(header.abi, bytes) {
                self.take(&segment, header.machine, source.size_bytes())?;
            }
            offset = offset.saturating_add(stride);
        }
        Ok(())
    }

    fn take(
        &mut self,
        segment: &elf::ProgramHeader,
        machine: u16,
        file_bytes: u64,
    ) -> Result<(), OpenError> {
        let available = file_bytes.saturating_sub(segment.offset);
        match segment.kind {
            elf::NOTE => {
                let bytes = segment.file_bytes.min(available);
                if bytes < segment.file_bytes {
                    self.defects.damaged_notes = true;
                }
                // An eighth segment of notes and more are left alone: no producer writes them.
                let _ = self.notes.push(Extent {
                    offset: segment.offset,
                    bytes,
                });
                Ok(())
            }
            elf::LOAD => self.take_load(segment, machine, available),
            _ => Ok(()),
        }
    }

    fn take_load(
        &mut self,
        segment: &elf::ProgramHeader,
        machine: u16,
        available: u64,
    ) -> Result<(), OpenError> {
        let claimed = segment.file_bytes.min(segment.memory_bytes);
        if claimed == 0 {
            return Ok(());
        }
        let start = segment.physical_address;
        let plausible = start
            .checked_add(claimed)
            .is_some_and(|end| end <= END_OF_MEMORY);
        if !plausible {
            self.defects.dropped_segments = self.defects.dropped_segments.saturating_add(1);
            return Ok(());
        }
        let bytes = claimed.min(available);
        if bytes < claimed {
            self.defects.truncated_segments = self.defects.truncated_segments.saturating_add(1);
        }
        let virtual_address = VirtAddr(segment.virtual_address);
        if self.image.is_none() && Arch::is_image_address(machine, virtual_address) {
            self.image = Some(ImageSegment {
                virtual_address,
                physical_address: PhysAddr(start),
                bytes: claimed,
            });
        }
        if bytes == 0 {
            return Ok(());
        }
        let place = self
            .table
            .get_mut(self.used)
            .ok_or(OpenError::TooManySegments)?;
        *place = Range {
            start,
            end: start.saturating_add(bytes),
            offset: segment.offset,
            virtual_address: segment.virtual_address,
        }
        .to_bytes();
        self.used = self.used.saturating_add(1);
        Ok(())
    }
}

/// Sorts the ranges by address and cuts what overlaps, which is the same memory twice: the kernel's image lies in the
/// range of memory around it. Returns how many are left, and how many lay beyond `end_of_memory`.
pub(crate) fn sort_and_separate(
    table: &mut [[u8; RANGE_BYTES]],
    end_of_memory: u64,
) -> (usize, u32) {
    table.sort_unstable_by_key(|bytes| {
        let range = Range::from_bytes(bytes);
        (
            range.start,
            u64::MAX.saturating_sub(range.end),
            range.offset,
        )
    });
    let mut kept = 0_usize;
    let mut beyond = 0_u32;
    let mut covered_to = 0;
    for index in 0..table.len() {
        let Some(range) = table.get(index).map(Range::from_bytes) else {
            break;
        };
        if range.end > end_of_memory {
            beyond = beyond.saturating_add(1);
        }
        let mut range = range.from(covered_to.max(range.start));
        range.end = range.end.min(end_of_memory);
        if range.start >= range.end {
            continue;
        }
        covered_to = range.end;
        if let Some(place) = table.get_mut(kept) {
            *place = range.to_bytes();
            kept = kept.saturating_add(1);
        }
    }
    (kept, beyond)
}
