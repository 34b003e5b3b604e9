// SPDX-License-Identifier: MIT OR Apache-2.0
//! The filtered vmcore as ELF (`-E`): what gdb reads, and crash and drgn read as well.
//!
//! ```text
//! file header, program headers, [section header 0], notes, page data
//! ```
//!
//! A `PT_LOAD` segment has a run of kept pages in the file, and behind it in memory those that were left out:
//! `p_filesz` is smaller than `p_memsz`. Fewer than 256 pages in a row that are left out do not end a segment; they are
//! zeros in the file, as readers take what is left out for zeros anyway.
//!
//! Source: `write_elf_load_segment()` and `get_loads_dumpfile_cyclic()` in makedumpfile 1.7.9 `makedumpfile.c`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use crate::CollectError;
use crate::address::{Pfn, PhysAddr};
use crate::bytes::ByteOrder;
use crate::dump::Dump;
use crate::elf_headers::{
    self, FILE_HEADER_BYTES, PN_XNUM, PROGRAM_HEADER_BYTES, SECTION_HEADER_BYTES,
};
use crate::io::{Sink, Source};
use crate::observer::{Progress, Stage};
use crate::pages::is_zero;
use crate::stats::Stats;

/// So many pages that are left out end a segment.
const GAP_PAGES: u64 = 256;
/// `e_flags`: the dump was cut short. Source: `DUMP_ELF_INCOMPLETE` in makedumpfile 1.7.9 `makedumpfile.h`.
const FLAG_INCOMPLETE: u32 = 1;

/// A segment: pages from `start` on are in the file up to `kept_end`, and were in memory up to `end`.
#[derive(Clone, Copy, Debug)]
struct Load {
    start: u64,
    kept_end: u64,
    end: u64,
    /// What makes the kernel's address of an address of memory, where the vmcore says it.
    shift: Option<u64>,
}

/// What the walk over all segments finds, in ascending order.
enum Found {
    /// Kept pages, the first and the one past the last.
    Kept(u64, u64),
    /// Pages within a segment that are left out.
    Gap(u64, u64),
    /// A segment is complete.
    Load(Load),
}

/// Where the parts of the file are.
#[derive(Clone, Copy)]
struct Map {
    header_count: u64,
    notes: u64,
    notes_bytes: u64,
    data: u64,
}

/// Bytes of headers that wait to be written.
struct Headers<'a> {
    buf: &'a mut [u8],
    len: usize,
    offset: u64,
    order: ByteOrder,
}

impl Headers<'_> {
    fn put<K: Sink>(&mut self, sink: &mut K, bytes: &[u8]) -> Result<(), CollectError> {
        if self.buf.len().saturating_sub(self.len) < bytes.len() {
            self.flush(sink)?;
        }
        let end = self.len.saturating_add(bytes.len());
        let place = self
            .buf
            .get_mut(self.len..end)
            .ok_or(CollectError::Memory)?;
        place.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    fn flush<K: Sink>(&mut self, sink: &mut K) -> Result<(), CollectError> {
        let waiting = self.buf.get(..self.len).unwrap_or_default();
        sink.write_at(self.offset, waiting)
            .map_err(|error| CollectError::Sink(self.offset, error))?;
        self.offset = self.offset.saturating_add(as_u64(self.len));
        self.len = 0;
        Ok(())
    }

    fn program_header<K: Sink>(
        &mut self,
        sink: &mut K,
        kind: u32,
        flags: u32,
        fields: [u64; 6],
    ) -> Result<(), CollectError> {
        let header = elf_headers::program_header(self.order, kind, flags, fields);
        self.put(sink, &header)
    }
}

impl<S: Source> Dump<'_, '_, S> {
    /// Writes the whole file.
    pub(crate) fn write_elf<K: Sink>(
        mut self,
        headers_memory: &mut [u8],
        sink: &mut K,
    ) -> Result<Stats, CollectError> {
        let max_mapnr = self.vmcore.max_mapnr();
        let shift = self.vmcore.page_shift();
        self.stats.present = self.vmcore.present_pages();
        if self.stats.present == 0 {
            return Err(CollectError::Damaged("it has no memory at all"));
        }
        self.count_checked(max_mapnr);
        if self.is_single_window(max_mapnr) {
            let zero = self.drop_zero_pages(max_mapnr);
            self.stats.zero = zero;
        }
        // The first walk counts segments, the second writes the headers, the third the pages.
        let mut zero = 0;
        let mut header_count = 1_u64;
        let mut kept = 0_u64;
        let image = self.vmcore.image_pfns();
        self.walk(max_mapnr, &mut zero, &mut |_, found| {
            match found {
                Found::Kept(start, end) => {
                    kept = kept.saturating_add(end.saturating_sub(start));
                }
                Found::Gap(..) => {}
                Found::Load(load) => {
                    let more = if image_part(&load, image).is_some() {
                        2
                    } else {
                        1
                    };
                    header_count = header_count.saturating_add(more);
                }
            }
            Ok(())
        })?;
        self.stats.kept = kept;
        self.stats.zero = self.stats.zero.saturating_add(zero);

        let map = self.map(header_count)?;
        let mut headers = Headers {
            buf: headers_memory,
            len: 0,
            offset: 0,
            order: self.vmcore.abi().order,
        };
        let flag_first = self.vmcore.is_incomplete() || !sink.is_stream();
        let header = self.file_header(&map, flag_first);
        headers.put(sink, &header)?;
        headers.program_header(sink, 4, 0, [map.notes, 0, 0, map.notes_bytes, 0, 0])?;
        let mut offset = map.data;
        let mut counted = 0;
        self.walk(max_mapnr, &mut counted, &mut |_, found| {
            let Found::Load(load) = found else {
                return Ok(());
            };
            let bytes = |pages: u64| pages.wrapping_shl(shift);
            let place = bytes(load.start);
            let in_file = bytes(load.kept_end.saturating_sub(load.start));
            let address = load.shift.map_or(0, |shift| place.wrapping_add(shift));
            let in_memory = bytes(load.end.saturating_sub(load.start));
            let fields = [offset, address, place, in_file, in_memory, 0];
            headers.program_header(sink, 1, 7, fields)?;
            if let (Some((start, kept_end, end)), Some(image)) = (image_part(&load, image), image) {
                let inside = bytes(start.saturating_sub(load.start));
                let address = image.2.wrapping_add(bytes(start.saturating_sub(image.0)));
                let in_file = bytes(kept_end.saturating_sub(start));
                let in_memory = bytes(end.saturating_sub(start));
                let at = offset.saturating_add(inside);
                let fields = [at, address, bytes(start), in_file, in_memory, 0];
                headers.program_header(sink, 1, 7, fields)?;
            }
            offset = offset.saturating_add(in_file);
            Ok(())
        })?;
        if header_count >= PN_XNUM {
            let header = elf_headers::section_header(self.vmcore.abi().order, header_count);
            headers.put(sink, &header)?;
        }
        headers.flush(sink)?;
        self.write_elf_notes(&map, sink)?;

        let mut offset = map.data;
        let mut done = 0_u64;
        let mut warned = false;
        self.walk(max_mapnr, &mut counted, &mut |dump, found| {
            let written = match found {
                Found::Kept(start, end) => {
                    dump.copy_run(start, end, offset, sink, &mut warned)?;
                    done = done.saturating_add(end.saturating_sub(start));
                    end.saturating_sub(start)
                }
                Found::Gap(start, end) => {
                    dump.write_gap(end.saturating_sub(start), offset, sink)?;
                    end.saturating_sub(start)
                }
                Found::Load(_) => 0,
            };
            offset = offset.saturating_add(written.wrapping_shl(shift));
            dump.observer.progress(Progress {
                stage: Stage::Copy,
                done_pages: done,
                total_pages: kept,
                written_bytes: offset,
            });
            Ok(())
        })?;
        self.stats.written_bytes = offset;
        self.observer.progress(Progress {
            stage: Stage::Sync,
            done_pages: kept,
            total_pages: kept,
            written_bytes: offset,
        });
        sink.sync()
            .map_err(|error| CollectError::Sink(offset, error))?;
        if flag_first && !self.vmcore.is_incomplete() {
            // All is there: only now the header says so.
            let header = self.file_header(&map, false);
            sink.write_at(0, &header)
                .and_then(|()| sink.sync())
                .map_err(|error| CollectError::Sink(0, error))?;
        }
        Ok(self.stats)
    }

    /// Goes through all windows and finds the segments and what is in them.
    fn walk(
        &mut self,
        max_mapnr: u64,
        zero: &mut u64,
        each: &mut dyn FnMut(&mut Self, Found) -> Result<(), CollectError>,
    ) -> Result<(), CollectError> {
        // The kinds were counted before.
        let mut counted = Stats::new(self.stats.level_used);
        let mut load: Option<Load> = None;
        // Where the run of present pages ends that the segment is in.
        let mut present_end = 0;
        let mut start = 0;
        while start < max_mapnr {
            if !self.is_single_window(max_mapnr) {
                self.fill_window(start, max_mapnr, &mut counted);
                *zero = zero.saturating_add(self.drop_zero_pages(max_mapnr));
            }
            let window_end = self.window.end();
            let mut from = start;
            while let Some((run_start, run_end)) = self.vmcore.present_from(Pfn(from)) {
                let (run_start, run_end) = (run_start.0, run_end.0);
                if run_start >= window_end {
                    break;
                }
                if run_end != present_end || load.is_none() {
                    self.close(&mut load, present_end, each)?;
                    present_end = run_end;
                    load = Some(self.load_at(run_start));
                }
                let here_end = run_end.min(window_end);
                let mut pfn = run_start;
                while let Some((kept, kept_end)) = self.window.next_run(pfn) {
                    if kept >= here_end {
                        break;
                    }
                    let kept_end = kept_end.min(here_end);
                    let mut piece = kept;
                    while piece < kept_end {
                        let (shift, region_end) = self.vmcore.linear_from(Pfn(piece));
                        let piece_end = region_end.0.clamp(piece.saturating_add(1), kept_end);
                        self.take(&mut load, piece, piece_end, shift, each)?;
                        piece = piece_end;
                    }
                    pfn = kept_end;
                }
                from = here_end;
                if from >= window_end {
                    break;
                }
            }
            start = window_end;
        }
        self.close(&mut load, present_end, each)?;
        if let Some(filter) = &mut self.filter {
            filter.restart();
        }
        Ok(())
    }

    /// Kept pages join the segment, or begin another.
    fn take(
        &mut self,
        load: &mut Option<Load>,
        start: u64,
        end: u64,
        shift: Option<u64>,
        each: &mut dyn FnMut(&mut Self, Found) -> Result<(), CollectError>,
    ) -> Result<(), CollectError> {
        let continues = load.is_some_and(|load| {
            start.saturating_sub(load.kept_end) < GAP_PAGES && load.shift == shift
        });
        if !continues {
            self.close(load, start, each)?;
        }
        let mut now = load.unwrap_or(Load {
            start,
            kept_end: start,
            end: start,
            shift,
        });
        if start > now.kept_end {
            each(self, Found::Gap(now.kept_end, start))?;
        }
        now.kept_end = end;
        *load = Some(now);
        each(self, Found::Kept(start, end))
    }

    /// The segment ends: what was left out behind its last kept page belongs to it.
    fn close(
        &mut self,
        load: &mut Option<Load>,
        end: u64,
        each: &mut dyn FnMut(&mut Self, Found) -> Result<(), CollectError>,
    ) -> Result<(), CollectError> {
        match load.take() {
            Some(load) if load.start < end => each(self, Found::Load(Load { end, ..load })),
            _ => Ok(()),
        }
    }

    fn load_at(&self, pfn: u64) -> Load {
        Load {
            start: pfn,
            kept_end: pfn,
            end: pfn,
            shift: self.vmcore.linear_from(Pfn(pfn)).0,
        }
    }

    /// Whether all pages have their bits in the window, which then stays as it is.
    fn is_single_window(&self, max_mapnr: u64) -> bool {
        self.window.start() == 0 && self.window.end() == max_mapnr
    }

    /// Clears the bits of zero pages, where the level leaves them out, and returns how many those are.
    fn drop_zero_pages(&mut self, max_mapnr: u64) -> u64 {
        let mut zero = 0_u64;
        if !self.stats.level_used.excludes_zero() {
            return zero;
        }
        let page_size = self.vmcore.page_size();
        let shift = self.vmcore.page_shift();
        let longest = as_u64(self.scratch.len()).wrapping_shr(shift).max(1);
        let mut from = self.window.start();
        while let Some((run, run_end)) = self.window.next_run(from) {
            let run_end = run_end.min(run.saturating_add(longest));
            let mut pfn = run;
            while pfn < run_end {
                let pages = run_end.saturating_sub(pfn);
                let len = usize::try_from(pages.wrapping_shl(shift)).unwrap_or(0);
                let address = PhysAddr(pfn.wrapping_shl(shift));
                let view = self.vmcore.view_physical(address, len, self.scratch);
                if let Some(Ok(bytes)) = view {
                    for page in bytes.chunks_exact(page_size) {
                        if is_zero(page) {
                            let cleared = self.window.clear(pfn, pfn.saturating_add(1));
                            zero = zero.saturating_add(cleared);
                        }
                        pfn = pfn.saturating_add(1);
                    }
                    continue;
                }
                let page = self.scratch.get_mut(..page_size).unwrap_or_default();
                // What cannot be read is kept: that it could not be is told when it is copied.
                if self.vmcore.read_page(Pfn(pfn), page).is_ok() && is_zero(page) {
                    let cleared = self.window.clear(pfn, pfn.saturating_add(1));
                    zero = zero.saturating_add(cleared);
                }
                pfn = pfn.saturating_add(1);
            }
            from = run_end;
            self.observer.progress(Progress {
                stage: Stage::Classify,
                done_pages: from,
                total_pages: max_mapnr,
                written_bytes: 0,
            });
        }
        zero
    }

    /// Where the parts of the file are.
    fn map(&self, header_count: u64) -> Result<Map, CollectError> {
        let too_long = CollectError::Damaged("its headers are longer than a file can be");
        let section = if header_count >= PN_XNUM {
            SECTION_HEADER_BYTES
        } else {
            0
        };
        let notes = header_count
            .checked_mul(PROGRAM_HEADER_BYTES)
            .and_then(|bytes| bytes.checked_add(FILE_HEADER_BYTES))
            .and_then(|bytes| bytes.checked_add(section))
            .ok_or(too_long)?;
        let notes_bytes = self.notes_bytes();
        let data = notes
            .checked_add(notes_bytes)
            .and_then(|end| end.checked_next_multiple_of(as_u64(self.vmcore.page_size())))
            .ok_or(too_long)?;
        Ok(Map {
            header_count,
            notes,
            notes_bytes,
            data,
        })
    }

    fn file_header(&self, map: &Map, is_incomplete: bool) -> [u8; 64] {
        elf_headers::file_header(&elf_headers::FileHeader {
            order: self.vmcore.abi().order,
            machine: self.vmcore.machine(),
            flags: if is_incomplete { FLAG_INCOMPLETE } else { 0 },
            header_count: map.header_count,
            section_at: map.notes.saturating_sub(SECTION_HEADER_BYTES),
        })
    }

    /// Copies the notes and fills up to the page data.
    fn write_elf_notes<K: Sink>(&mut self, map: &Map, sink: &mut K) -> Result<(), CollectError> {
        let mut offset = map.notes;
        let mut put = |sink: &mut K, bytes: &[u8]| {
            sink.write_at(offset, bytes)
                .map_err(|error| CollectError::Sink(offset, error))?;
            offset = offset.saturating_add(as_u64(bytes.len()));
            Ok::<(), CollectError>(())
        };
        self.each_note_part(&mut |part| put(sink, part))?;
        let gap = map
            .data
            .saturating_sub(map.notes.saturating_add(map.notes_bytes));
        let zeros = [0; 4096];
        let mut left = usize::try_from(gap).unwrap_or(0);
        while left > 0 {
            let part = zeros.get(..left).unwrap_or(&zeros);
            put(sink, part)?;
            left = left.saturating_sub(part.len());
        }
        Ok(())
    }

    /// Copies pages, in long reads.
    fn copy_run<K: Sink>(
        &mut self,
        start: u64,
        end: u64,
        mut offset: u64,
        sink: &mut K,
        warned: &mut bool,
    ) -> Result<(), CollectError> {
        let page_size = self.vmcore.page_size();
        let shift = self.vmcore.page_shift();
        let longest = as_u64(self.scratch.len()).wrapping_shr(shift).max(1);
        let mut pfn = start;
        while pfn < end {
            let address = PhysAddr(pfn.wrapping_shl(shift));
            let in_file = self
                .vmcore
                .locate(address)
                .map_or(0, |extent| extent.bytes.wrapping_shr(shift));
            let pages = end.saturating_sub(pfn).min(longest).min(in_file);
            let len = usize::try_from(pages.wrapping_shl(shift)).unwrap_or(0);
            let view = self.vmcore.view_physical(address, len, self.scratch);
            if let (Some(Ok(bytes)), 1..) = (view, pages) {
                sink.write_at(offset, bytes)
                    .map_err(|error| CollectError::Sink(offset, error))?;
                pfn = pfn.saturating_add(pages);
                offset = offset.saturating_add(as_u64(bytes.len()));
                continue;
            }
            for _ in 0..pages.max(1) {
                let page = self.scratch.get_mut(..page_size).unwrap_or_default();
                if let Err(error) = self.vmcore.read_page(Pfn(pfn), page) {
                    page.fill(0);
                    self.stats.unreadable = self.stats.unreadable.saturating_add(1);
                    if !*warned {
                        *warned = true;
                        self.observer.warn(format_args!(
                            "page {pfn:#x} is zeros in the dump, and so is what else cannot be read: {error}"
                        ));
                    }
                }
                sink.write_at(offset, page)
                    .map_err(|error| CollectError::Sink(offset, error))?;
                pfn = pfn.saturating_add(1);
                offset = offset.saturating_add(as_u64(page.len()));
            }
        }
        Ok(())
    }

    /// Writes zeros for pages that are left out within a segment.
    fn write_gap<K: Sink>(
        &mut self,
        pages: u64,
        mut offset: u64,
        sink: &mut K,
    ) -> Result<(), CollectError> {
        let mut left = pages.wrapping_shl(self.vmcore.page_shift());
        self.scratch.fill(0);
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(usize::MAX);
            let zeros = self.scratch.get(..now).unwrap_or(self.scratch);
            sink.write_at(offset, zeros)
                .map_err(|error| CollectError::Sink(offset, error))?;
            offset = offset.saturating_add(as_u64(zeros.len()));
            left = left.saturating_sub(as_u64(zeros.len()));
        }
        Ok(())
    }
}

/// The kernel's image, which a vmcore has a second time under the addresses that the kernel was linked for: first pfn,
/// one past the last, and the address of the first.
type Image = Option<(u64, u64, u64)>;

/// What of a segment's pages in the file is the kernel's image: first pfn, where that ends in the file and in memory.
fn image_part(load: &Load, image: Image) -> Option<(u64, u64, u64)> {
    let (image_start, image_end, _) = image?;
    let start = load.start.max(image_start);
    let kept_end = load.kept_end.min(image_end);
    (start < kept_end).then_some((start, kept_end, load.end.min(image_end)))
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
