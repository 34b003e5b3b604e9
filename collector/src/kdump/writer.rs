// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a dumpfile in one pass, from memory that the caller gives.

use super::facts::{Bitmap, Facts, Part, Summary, WriteError};
use super::file_map::FileMap;
use super::header::{
    self, Extent, FLAG_INCOMPLETE, HEADER_BYTES, Header, MAX_BLOCK_BYTES, PAGE_DESC_BYTES,
    PageDesc, SubHeader, VERSION,
};
use super::run::{Cut, Run, as_u64};
use crate::address::Pfn;
use crate::batch::{BATCH_PAGES, Batch, Encoded, HEAD_BYTES};
use crate::io::Sink;

/// Data is written in multiples of this. What is left over of a batch goes out with the next one.
const DATA_UNIT: usize = HEAD_BYTES;
/// Room for that, and before it for the header's block, which is as large as a page, and the sub header.
#[allow(clippy::as_conversions, reason = "a constant of 17 bits")]
const DATA_BYTES: usize = MAX_BLOCK_BYTES as usize + DATA_UNIT;
/// Descriptors are written in multiples of this.
const DESCS_UNIT: usize = 4096;
/// Besides what is less than that: those of a batch.
const DESCS_BYTES: usize = DESCS_UNIT + BATCH_PAGES * PAGE_DESC_BYTES;

/// Writes a dumpfile: [`begin`](Writer::begin), all notes, the windows of both bitmaps, the pages in ascending order,
/// [`finish`](Writer::finish).
///
/// The header goes out first and says "incomplete"; `finish` writes it again without that. So a dumpfile whose writer
/// was killed says of itself what it is.
#[derive(Debug)]
pub struct Writer<'m, K> {
    sink: K,
    header: Header,
    /// The flag of pages that are compressed.
    flag: u32,
    map: FileMap,
    notes_left: u64,
    page_count: u64,
    max_mapnr: u64,
    part: Option<Part>,
    share_zero: bool,
    incomplete: bool,
    /// Notes first, then page data.
    data: Run<'m>,
    descs: Run<'m>,
    /// Behind the last page that was put.
    cut: Cut,
    /// The block that all zero pages share, once there is page data.
    zero: Option<PageDesc>,
    /// The descriptor of the last page that is not zero.
    last: Option<PageDesc>,
    shared_pages: u64,
    raw_pages: u64,
    written_bytes: u64,
}

/// What a writer needs of memory.
pub(super) const MEMORY_BYTES: usize = DATA_BYTES + DESCS_BYTES;

impl<'m, K: Sink> Writer<'m, K> {
    /// Bytes of memory that a writer works in, besides its codec.
    pub const MEMORY_BYTES: usize = MEMORY_BYTES;

    /// Starts a dumpfile. Nothing reaches the sink before the notes are complete.
    ///
    /// # Errors
    /// [`WriteError::Facts`], [`WriteError::Memory`]; where there are no notes, also what the sink said.
    pub fn begin(sink: K, facts: &Facts<'_>, memory: &'m mut [u8]) -> Result<Self, WriteError> {
        let mut map = FileMap::new(
            facts.abi,
            facts.page_bytes,
            facts.notes_bytes,
            facts.max_mapnr,
            facts
                .part
                .map_or(facts.page_count, |part| part.dump_page_count),
        )
        .ok_or(WriteError::Facts)?;
        if facts.part.is_some() {
            // All parts leave room for the descriptors of the whole dump. What joins parts knows zero pages by their
            // offset, which is the one behind that room. Source: makedumpfile 1.7.9 `reassemble_kdump_pages()`.
            map.data = map.descs_end;
        }
        let memory = memory.get_mut(..MEMORY_BYTES).ok_or(WriteError::Memory)?;
        let (data, descs) = memory
            .split_at_mut_checked(DATA_BYTES)
            .ok_or(WriteError::Memory)?;
        let flag = header::compression_flag(facts.compression);
        let header = Header {
            abi: facts.abi,
            version: VERSION,
            utsname: *facts.utsname,
            crash_time_s: facts.crash_time_s,
            // A stream is not to take the flag back; its end mark says that it is whole.
            status: flag
                | if facts.incomplete || !sink.is_stream() {
                    FLAG_INCOMPLETE
                } else {
                    0
                },
            block_bytes: map.block_bytes,
            sub_header_blocks: map.sub_header_blocks,
            bitmap_blocks: map.bitmap_blocks,
            max_mapnr: u32::try_from(facts.max_mapnr).unwrap_or(u32::MAX),
            nr_cpus: facts.nr_cpus,
        };
        let notes_offset =
            u64::from(map.block_bytes).saturating_add(as_u64(header::sub_header_bytes(facts.abi)));
        let at = |extent: Extent| Extent {
            offset: if extent.bytes == 0 {
                0
            } else {
                notes_offset.saturating_add(extent.offset)
            },
            bytes: extent.bytes,
        };
        let sub_header = SubHeader {
            phys_base: facts.phys_base,
            dump_level: facts.dump_level.number().into(),
            vmcoreinfo: at(facts.vmcoreinfo),
            notes: at(Extent {
                offset: 0,
                bytes: facts.notes_bytes,
            }),
            max_mapnr: facts.max_mapnr,
            split: facts.part.is_some().into(),
            start_pfn: facts.part.map_or(0, |part| part.start.0),
            end_pfn: facts.part.map_or(0, |part| part.end.0),
            ..SubHeader::default()
        };
        let mut writer = Self {
            sink,
            header,
            flag,
            notes_left: facts.notes_bytes,
            page_count: facts.page_count,
            max_mapnr: facts.max_mapnr,
            part: facts.part,
            share_zero: facts.dump_level.excludes_zero(),
            incomplete: facts.incomplete,
            data: Run::new(data, 0, DATA_UNIT),
            descs: Run::new(descs, map.descs, DESCS_UNIT),
            map,
            cut: Cut::default(),
            zero: None,
            last: None,
            shared_pages: 0,
            raw_pages: 0,
            written_bytes: 0,
        };
        writer.data.fill(&header.encode());
        writer.pad_data(map.block_bytes.into())?;
        writer.data.fill(&sub_header.encode(facts.abi));
        if writer.notes_left == 0 {
            writer.end_notes()?;
        }
        Ok(writer)
    }

    /// Adds to the notes. They are copied as they are; how they are cut into calls makes no difference.
    ///
    /// # Errors
    /// What the sink said; [`WriteError::Mismatch`] when they are more than announced.
    pub fn put_notes(&mut self, notes: &[u8]) -> Result<(), WriteError> {
        self.notes_left = self
            .notes_left
            .checked_sub(as_u64(notes.len()))
            .ok_or(WriteError::Mismatch("more notes than announced"))?;
        if notes.is_empty() {
            return Ok(());
        }
        let mut rest = notes;
        loop {
            rest = self.data.fill(rest);
            if rest.is_empty() {
                break;
            }
            self.flush_data()?;
        }
        if self.notes_left == 0 {
            self.end_notes()?;
        }
        Ok(())
    }

    /// Writes a window of a bitmap: a bit for each pfn from `first_byte * 8` on, the lowest bit first. The windows may
    /// come in any order and cover every byte once; the one with the last byte also writes the zeros behind it.
    ///
    /// # Errors
    /// What the sink said; [`WriteError::Mismatch`] when the window reaches beyond the highest pfn.
    pub fn put_bitmap(
        &mut self,
        bitmap: Bitmap,
        first_byte: u64,
        window: &[u8],
    ) -> Result<(), WriteError> {
        let start = match bitmap {
            Bitmap::Present => self.map.present,
            Bitmap::Dumpable => self.map.dumpable,
        };
        let end = first_byte.saturating_add(as_u64(window.len()));
        if end > self.map.bitmap_bytes {
            return Err(WriteError::Mismatch("a bitmap beyond the highest pfn"));
        }
        let offset = start.saturating_add(first_byte);
        self.write_at(offset, window)?;
        if end == self.map.bitmap_bytes {
            let padding = end
                .next_multiple_of(self.map.block_bytes.into())
                .saturating_sub(end);
            self.write_zeros(start.saturating_add(end), padding)?;
        }
        Ok(())
    }

    /// Adds the pages of a batch that is [encoded](Batch::encode). Pages come in ascending order of their pfn.
    ///
    /// # Errors
    /// What the sink said; [`WriteError::Mismatch`] when the pages' size, their order or number is not as announced.
    pub fn put_batch(&mut self, batch: &mut Batch) -> Result<(), WriteError> {
        if batch.page_bytes() != self.page_bytes() {
            return Err(WriteError::Mismatch("pages of another size"));
        }
        self.begin_data()?;
        for (pfn, encoded) in batch.encoded() {
            self.put_page(pfn, encoded)?;
        }
        // Descriptors first: what a full disk then cuts off is data, and all data before it can be found.
        self.flush_descs()?;
        let all = batch.data_behind(self.data.held());
        let written = self.data.put(&mut self.sink, all)?;
        self.count(written);
        Ok(())
    }

    /// Adds a page's descriptor, whose data will come.
    fn put_page(&mut self, pfn: Pfn, encoded: Encoded) -> Result<(), WriteError> {
        self.check_page(pfn)?;
        let (bytes, flags) = match encoded {
            Encoded::Zero => {
                let zero = self
                    .zero
                    .ok_or(WriteError::Mismatch("a zero page at a level that has none"))?;
                self.shared_pages = self.shared_pages.saturating_add(1);
                return self.put_desc(pfn, &zero, 0);
            }
            Encoded::Repeated => {
                let last = self
                    .last
                    .ok_or(WriteError::Mismatch("a page that repeats none"))?;
                self.shared_pages = self.shared_pages.saturating_add(1);
                return self.put_desc(pfn, &last, 0);
            }
            Encoded::Stored(bytes) => {
                self.raw_pages = self.raw_pages.saturating_add(1);
                (bytes, 0)
            }
            Encoded::Compressed(bytes) => (bytes, self.flag),
        };
        let desc = PageDesc {
            offset: self.data.end(),
            bytes,
            flags,
            page_flags: 0,
        };
        self.last = Some(desc);
        self.put_desc(pfn, &desc, bytes)
    }

    /// Bytes that reached the sink so far.
    #[must_use]
    pub const fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Writes what still waits, says in the header that the dump is complete, and syncs.
    ///
    /// # Errors
    /// What the sink said; [`WriteError::Mismatch`] when there were fewer notes or pages than announced.
    pub fn finish(&mut self) -> Result<Summary, WriteError> {
        if self.notes_left != 0 {
            return Err(WriteError::Mismatch("fewer notes than announced"));
        }
        if self.cut.pages != self.page_count {
            return Err(WriteError::Mismatch("fewer pages than announced"));
        }
        self.begin_data()?;
        let file_bytes = self.data.end();
        self.flush_rest()?;
        if self.incomplete || self.sink.is_stream() {
            self.sync()?;
        } else {
            self.write_header(self.header.status & !FLAG_INCOMPLETE)?;
        }
        Ok(Summary {
            pages: self.cut.pages,
            shared_pages: self.shared_pages,
            raw_pages: self.raw_pages,
            file_bytes,
        })
    }

    /// Makes the best of a dump that cannot be completed, because the sink is full or the vmcore ended: a dumpfile
    /// that says "incomplete" and whose 2nd bitmap has the pages that really are in it.
    ///
    /// To be called once, after the notes and both bitmaps were put and any other call failed or no more pages will
    /// come. Errors on the way are met by keeping fewer pages. Where the bitmap cannot be changed any more, the
    /// descriptors of lost pages say "lost" (offset 0) as far as they can be written.
    ///
    /// # Errors
    /// What the sink said about the header or the sync. The header that is on the sink says "incomplete" all the same.
    pub fn finish_incomplete(&mut self) -> Result<Summary, WriteError> {
        if self.notes_left != 0 {
            return Err(WriteError::Mismatch("fewer notes than announced"));
        }
        let cut = self.cut;
        let data = match self.data.flush_all(&mut self.sink, cut) {
            Ok(_) => cut,
            Err(_) => self.data.written(),
        };
        let descs = match self.descs.flush_all(&mut self.sink, cut) {
            Ok(_) => cut,
            Err(_) => self.descs.written(),
        };
        let kept = if data.pages < descs.pages {
            data
        } else {
            descs
        };
        let file_bytes = self.data.end();
        self.data.discard();
        self.descs.discard();
        // The bitmap of a part is that of the whole dump.
        if self.part.is_some() || self.drop_from_bitmap(kept).is_err() {
            // The page that the cut is in has part of its descriptor on the sink; it is written whole.
            let lost = kept
                .pages
                .saturating_mul(as_u64(PAGE_DESC_BYTES))
                .saturating_add(self.map.descs);
            let _best_effort = self.write_zeros(lost, self.map.descs_end.saturating_sub(lost));
        }
        self.write_header(self.header.status | FLAG_INCOMPLETE)?;
        Ok(Summary {
            pages: kept.pages,
            shared_pages: self.shared_pages,
            raw_pages: self.raw_pages,
            file_bytes,
        })
    }

    /// Gives the sink back.
    pub fn into_sink(self) -> K {
        self.sink
    }

    fn page_bytes(&self) -> usize {
        usize::try_from(self.map.block_bytes).unwrap_or(usize::MAX)
    }

    fn check_page(&self, pfn: Pfn) -> Result<(), WriteError> {
        if pfn.0 < self.cut.pfn {
            return Err(WriteError::Mismatch("pages in descending order"));
        }
        let is_elsewhere = |part: Part| pfn < part.start || pfn >= part.end;
        if pfn.0 >= self.max_mapnr || self.part.is_some_and(is_elsewhere) {
            return Err(WriteError::Mismatch("a page beyond the highest pfn"));
        }
        if self.notes_left != 0 {
            return Err(WriteError::Mismatch("fewer notes than announced"));
        }
        if self.cut.pages >= self.page_count {
            return Err(WriteError::Mismatch("more pages than announced"));
        }
        Ok(())
    }

    /// Adds a descriptor, and the `bytes` of data that will come for it.
    fn put_desc(&mut self, pfn: Pfn, desc: &PageDesc, bytes: u32) -> Result<(), WriteError> {
        let before = self.cut.before(pfn.0);
        let after = before.after();
        self.cut = after;
        self.data
            .grow(usize::try_from(bytes).unwrap_or(usize::MAX), before, after);
        self.descs
            .hold(&desc.encode(self.header.abi), before, after);
        Ok(())
    }

    fn flush_descs(&mut self) -> Result<(), WriteError> {
        let written = self.descs.flush_units(&mut self.sink)?;
        self.count(written);
        Ok(())
    }

    fn flush_data(&mut self) -> Result<(), WriteError> {
        let written = self.data.flush_units(&mut self.sink)?;
        self.count(written);
        Ok(())
    }

    /// Writes all that waits, and the zeros between the descriptors and the data.
    fn flush_rest(&mut self) -> Result<(), WriteError> {
        let descs = self.descs.flush_all(&mut self.sink, self.cut)?;
        let data = self.data.flush_all(&mut self.sink, self.cut)?;
        self.count(descs.saturating_add(data));
        let gap = self.map.data.saturating_sub(self.map.descs_end);
        self.write_zeros(self.map.descs_end, gap)
    }

    /// Fills the notes' last block up with zeros and makes the run the one of the page data.
    fn end_notes(&mut self) -> Result<(), WriteError> {
        self.pad_data(self.map.present)?;
        let written = self.data.flush_all(&mut self.sink, Cut::default())?;
        self.count(written);
        self.data.restart(self.map.data);
        Ok(())
    }

    /// Puts the block that all zero pages share in front of the page data, as makedumpfile has it.
    fn begin_data(&mut self) -> Result<(), WriteError> {
        if !self.share_zero || self.zero.is_some() {
            return Ok(());
        }
        let offset = self.data.end();
        self.zero = Some(PageDesc {
            offset,
            bytes: self.map.block_bytes,
            flags: 0,
            page_flags: 0,
        });
        self.raw_pages = self.raw_pages.saturating_add(1);
        self.pad_data(offset.saturating_add(self.map.block_bytes.into()))?;
        self.flush_data()
    }

    /// Adds zeros to the data up to this offset of the file.
    fn pad_data(&mut self, offset: u64) -> Result<(), WriteError> {
        const ZEROS: [u8; 512] = [0; 512];
        loop {
            let missing = offset.saturating_sub(self.data.end());
            if missing == 0 {
                return Ok(());
            }
            let missing = usize::try_from(missing).unwrap_or(usize::MAX);
            let zeros = ZEROS.get(..missing).unwrap_or(&ZEROS);
            if !self.data.fill(zeros).is_empty() {
                self.flush_data()?;
            }
        }
    }

    /// Clears the bits from the cut on, which may be many: through the data's buffer, which is free by now.
    fn drop_from_bitmap(&mut self, cut: Cut) -> Result<(), WriteError> {
        let Some(byte) = cut
            .pfn
            .checked_div(8)
            .filter(|_| cut.pages != self.page_count)
        else {
            return Ok(());
        };
        let missing = self.map.bitmap_bytes.saturating_sub(byte);
        if missing == 0 {
            return Ok(());
        }
        let offset = self.map.dumpable.saturating_add(byte);
        self.write_at(offset, &[cut.bits])?;
        self.write_zeros(offset.saturating_add(1), missing.saturating_sub(1))
    }

    /// Writes zeros, through the free part of the data's buffer.
    fn write_zeros(&mut self, offset: u64, bytes: u64) -> Result<(), WriteError> {
        let free = self.data.free();
        let window = usize::try_from(bytes).unwrap_or(usize::MAX).min(free.len());
        let zeros = free.get_mut(..window).unwrap_or_default();
        zeros.fill(0);
        let mut done = 0_u64;
        while done < bytes {
            let left = usize::try_from(bytes.saturating_sub(done)).unwrap_or(usize::MAX);
            let now = zeros.get(..left).unwrap_or(zeros);
            let at = offset.saturating_add(done);
            self.sink
                .write_at(at, now)
                .map_err(|error| WriteError::Sink(at, error))?;
            done = done.saturating_add(as_u64(now.len()));
        }
        self.count(usize::try_from(bytes).unwrap_or(0));
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        self.sink
            .write_at(offset, bytes)
            .map_err(|error| WriteError::Sink(offset, error))?;
        self.count(bytes.len());
        Ok(())
    }

    fn write_header(&mut self, status: u32) -> Result<(), WriteError> {
        let bytes: [u8; HEADER_BYTES] = Header {
            status,
            ..self.header
        }
        .encode();
        self.write_at(0, &bytes)?;
        self.sync()
    }

    fn sync(&mut self) -> Result<(), WriteError> {
        self.sink
            .sync()
            .map_err(|error| WriteError::Sink(self.data.end(), error))
    }

    fn count(&mut self, bytes: usize) {
        self.written_bytes = self.written_bytes.saturating_add(as_u64(bytes));
    }
}

#[cfg(test)]
mod tests;
