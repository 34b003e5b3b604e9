// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a dumpfile back, from memory that the caller gives. No number in the file is trusted.

use super::facts::Bitmap;
use super::header::{
    FLAG_INCOMPLETE, FLAG_LZO, FLAG_SNAPPY, FLAG_ZLIB, FLAG_ZSTD, HEADER_BYTES, Header,
    HeaderError, MAX_BLOCK_BYTES, MAX_SUB_HEADER_BYTES, PAGE_DESC_BYTES, PageDesc, SubHeader,
};
use super::run::as_u64;
use crate::address::Pfn;
use crate::codec;
use crate::io::{IoError, Source};
use core::fmt;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

/// Bytes of a bitmap that are read at a time.
const WINDOW_BYTES: usize = 4096;
/// Bits of them.
const WINDOW_PFNS: u64 = 8 * as_u64(WINDOW_BYTES);
/// Places in the 2nd bitmap up to which its bits have been counted.
const MARKS: usize = 4096;
const MARK_BYTES: usize = 8;
/// A page's data, as it is stored.
#[allow(clippy::as_conversions, reason = "a constant of 17 bits")]
const DATA_BYTES: usize = MAX_BLOCK_BYTES as usize;
const MEMORY_BYTES: usize = MARKS * MARK_BYTES + WINDOW_BYTES + DATA_BYTES;

/// Why a page or a dumpfile cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The file could not be read at this byte offset.
    Io(u64, IoError),
    /// Not a dumpfile that we know.
    Header(HeaderError),
    /// The file is a flattened one.
    Flattened,
    /// The file is one of several that make a dump.
    Split,
    /// `memory` or the page's buffer has the wrong size.
    Memory,
    /// The file contradicts itself; the text says where.
    Damaged(&'static str),
    /// The crashed machine had no such page.
    NotPresent(Pfn),
    /// The page was left out on purpose.
    Excluded(Pfn),
    /// The page is in another file of the same dump.
    Elsewhere(Pfn),
    /// The page was to be in the file, which was cut short.
    Lost(Pfn),
    /// The page's data is not what its descriptor says.
    DamagedPage(Pfn),
    /// The page is compressed in a way that we cannot read; the descriptor's flags.
    Unsupported(Pfn, u32),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(offset, error) => write!(f, "reading at byte {offset}: {error}"),
            Self::Header(error) => error.fmt(f),
            Self::Flattened => {
                f.write_str("a flattened file; `makedumpfile -R DUMPFILE < FILE` turns it back")
            }
            Self::Split => f.write_str("one of several split files; `--reassemble` joins them"),
            Self::Memory => write!(
                f,
                "a reader needs {MEMORY_BYTES} bytes, and a page of the file's size"
            ),
            Self::Damaged(what) => write!(f, "the dumpfile is damaged: {what}"),
            Self::NotPresent(pfn) => write!(f, "page {pfn} did not exist"),
            Self::Excluded(pfn) => write!(f, "page {pfn} was left out"),
            Self::Elsewhere(pfn) => write!(f, "page {pfn} is in another file of the split dump"),
            Self::Lost(pfn) => write!(f, "page {pfn} was lost: the dumpfile is incomplete"),
            Self::DamagedPage(pfn) => write!(f, "the data of page {pfn} is damaged"),
            Self::Unsupported(pfn, flags) => {
                write!(
                    f,
                    "page {pfn} is compressed in an unknown way (flags {flags:#x})"
                )
            }
        }
    }
}

impl core::error::Error for ReadError {}

/// A dumpfile that is open.
///
/// ```no_run
/// # use collector::{Source, address::Pfn, kdump::{ReadError, Reader}};
/// # fn example<S: Source>(file: S) -> Result<(), ReadError> {
/// let mut memory = vec![0; Reader::<S>::MEMORY_BYTES];
/// let mut reader = Reader::open(file, &mut memory)?;
/// let mut page = vec![0; reader.page_bytes()];
/// let mut from = Pfn(0);
/// while let Some(pfn) = reader.next_page(from)? {
///     reader.read_page(pfn, &mut page)?;
///     from = Pfn(pfn.0 + 1);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Reader<'m, S> {
    source: S,
    header: Header,
    sub_header: SubHeader,
    present: u64,
    dumpable: u64,
    descs: u64,
    page_count: u64,
    /// The pfns whose pages are here, where the file is one of several.
    part: Option<(u64, u64)>,
    /// Pages of the dump before the first that is here.
    first_rank: u64,
    /// Bits that are set before every `mark_pfns`-th pfn.
    marks: &'m mut [u8],
    mark_pfns: u64,
    window: &'m mut [u8],
    /// Where in the file the window's bytes come from.
    window_at: Option<u64>,
    data: &'m mut [u8],
    inflater: DecompressorOxide,
    zstd: codec::zstd::Decoder,
}

impl<'m, S: Source> Reader<'m, S> {
    /// Bytes of memory that a reader works in.
    pub const MEMORY_BYTES: usize = MEMORY_BYTES;

    /// Opens a dumpfile: reads its headers and counts the bits of the 2nd bitmap.
    ///
    /// A file that ends within its descriptors or its data is opened; the pages in its missing part are errors when
    /// they are read.
    ///
    /// # Errors
    /// What the source said; what makes the file none that can be read.
    pub fn open(source: S, memory: &'m mut [u8]) -> Result<Self, ReadError> {
        let reader = Self::open_part(source, memory)?;
        if reader.sub_header.split != 0 {
            return Err(ReadError::Split);
        }
        Ok(reader)
    }

    /// As [`Reader::open`], and opens a file that is one of several that make a dump as well. Pages that are not in
    /// this file are [`ReadError::Elsewhere`].
    ///
    /// # Errors
    /// As [`Reader::open`], but not [`ReadError::Split`].
    pub fn open_part(mut source: S, memory: &'m mut [u8]) -> Result<Self, ReadError> {
        let mut bytes = [0; HEADER_BYTES];
        read(&mut source, 0, &mut bytes)?;
        if bytes.starts_with(b"makedumpfile\0") {
            return Err(ReadError::Flattened);
        }
        let header = Header::decode(&bytes).map_err(ReadError::Header)?;
        let block = u64::from(header.block_bytes);
        let mut bytes = [0; MAX_SUB_HEADER_BYTES];
        read(&mut source, block, &mut bytes)?;
        let sub_header = SubHeader::decode(&bytes, &header);

        let blocks = |count: u64| count.saturating_mul(block);
        let present = blocks(u64::from(header.sub_header_blocks).saturating_add(1));
        let bitmap_bytes = sub_header.max_mapnr.div_ceil(8);
        let one_bitmap = blocks(bitmap_bytes.div_ceil(block));
        let both_bitmaps = blocks(header.bitmap_blocks.into());
        // Old files have one bitmap only, which stands for both.
        let dumpable = if both_bitmaps >= one_bitmap.saturating_mul(2) {
            present.saturating_add(blocks(u64::from(header.bitmap_blocks >> 1)))
        } else {
            present
        };
        let descs = present.saturating_add(both_bitmaps);
        if one_bitmap > both_bitmaps {
            return Err(ReadError::Damaged(
                "the bitmaps are shorter than max_mapnr needs",
            ));
        }
        if descs > source.size_bytes() {
            return Err(ReadError::Damaged("the file ends within its bitmaps"));
        }

        let memory = memory.get_mut(..MEMORY_BYTES).ok_or(ReadError::Memory)?;
        let (marks, memory) = memory
            .split_at_mut_checked(MARKS.saturating_mul(MARK_BYTES))
            .ok_or(ReadError::Memory)?;
        let (window, data) = memory
            .split_at_mut_checked(WINDOW_BYTES)
            .ok_or(ReadError::Memory)?;
        let mark_pfns = sub_header
            .max_mapnr
            .div_ceil(as_u64(MARKS))
            .max(1)
            .next_multiple_of(WINDOW_PFNS);
        let mut reader = Self {
            source,
            header,
            sub_header,
            present,
            dumpable,
            descs,
            page_count: 0,
            part: match sub_header.split {
                0 => None,
                _ => Some((sub_header.start_pfn, sub_header.end_pfn)),
            },
            first_rank: 0,
            marks,
            mark_pfns,
            window,
            window_at: None,
            data,
            inflater: DecompressorOxide::new(),
            zstd: codec::zstd::Decoder::new(),
        };
        reader.count()?;
        if let Some((start, end)) = reader.part {
            let dump_page_count = reader.page_count;
            let mut rank = |pfn| match pfn < reader.max_mapnr() {
                true => reader.rank(Pfn(pfn)),
                false => Ok(dump_page_count),
            };
            let (first_rank, end_rank) = (rank(start)?, rank(end)?);
            reader.first_rank = first_rank;
            reader.page_count = end_rank.saturating_sub(first_rank);
        }
        Ok(reader)
    }

    /// The main header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The sub header.
    #[must_use]
    pub const fn sub_header(&self) -> &SubHeader {
        &self.sub_header
    }

    /// The dump was cut short, and says so.
    #[must_use]
    pub const fn is_incomplete(&self) -> bool {
        self.header.status & FLAG_INCOMPLETE != 0
    }

    /// Bytes of a page.
    #[must_use]
    pub fn page_bytes(&self) -> usize {
        usize::try_from(self.header.block_bytes).unwrap_or(usize::MAX)
    }

    /// One past the highest pfn.
    #[must_use]
    pub const fn max_mapnr(&self) -> u64 {
        self.sub_header.max_mapnr
    }

    /// Where the page descriptors begin.
    #[must_use]
    pub const fn descs_offset(&self) -> u64 {
        self.descs
    }

    /// The length of the file in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.source.size_bytes()
    }

    /// Pages that the file says it has; of one of several, its own.
    #[must_use]
    pub const fn page_count(&self) -> u64 {
        self.page_count
    }

    /// Reads the notes from `offset` on, or any other part of the file that the headers point to.
    ///
    /// # Errors
    /// What the source said.
    pub fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        read(&mut self.source, offset, buf)
    }

    /// Whether a page's bit is set; clear beyond the highest pfn.
    ///
    /// # Errors
    /// What the source said.
    pub fn bit(&mut self, bitmap: Bitmap, pfn: Pfn) -> Result<bool, ReadError> {
        if pfn.0 >= self.max_mapnr() {
            return Ok(false);
        }
        let window = self.load(bitmap, pfn)?;
        let (index, bit) = (pfn.0 % WINDOW_PFNS / 8, pfn.0 % 8);
        let byte = usize::try_from(index)
            .ok()
            .and_then(|index| window.get(index));
        Ok(byte.is_some_and(|byte| byte >> bit & 1 == 1))
    }

    /// The first page at `from` or behind it that the dump has.
    ///
    /// # Errors
    /// What the source said.
    pub fn next_page(&mut self, from: Pfn) -> Result<Option<Pfn>, ReadError> {
        self.find(Bitmap::Dumpable, from, true)
    }

    /// The first pfn at `from` or behind it, below the end of the bitmap, whose bit is set or is clear.
    ///
    /// # Errors
    /// What the source said.
    pub fn find(
        &mut self,
        bitmap: Bitmap,
        from: Pfn,
        is_set: bool,
    ) -> Result<Option<Pfn>, ReadError> {
        let flip = if is_set { 0 } else { u64::MAX };
        let mut pfn = from.0;
        while pfn < self.max_mapnr() {
            let window_start = pfn.saturating_sub(pfn % WINDOW_PFNS);
            let skip = pfn % WINDOW_PFNS;
            let window = self.load(bitmap, Pfn(pfn))?;
            let (words, _) = window.as_chunks::<8>();
            for (start, word) in (0..WINDOW_PFNS).step_by(64).zip(words) {
                let word = u64::from_le_bytes(*word) ^ flip;
                let word = match skip.saturating_sub(start) {
                    0 => word,
                    behind @ 1..64 => word & u64::MAX << behind,
                    _ => 0,
                };
                if word != 0 {
                    let offset = start.saturating_add(word.trailing_zeros().into());
                    let found = window_start.saturating_add(offset);
                    return Ok(Some(Pfn(found)).filter(|found| found.0 < self.max_mapnr()));
                }
            }
            pfn = window_start.saturating_add(WINDOW_PFNS);
        }
        Ok(None)
    }

    /// Where a page's data is.
    ///
    /// # Errors
    /// [`ReadError::NotPresent`], [`ReadError::Excluded`], [`ReadError::Lost`]; what the source said.
    pub fn desc(&mut self, pfn: Pfn) -> Result<PageDesc, ReadError> {
        if !self.bit(Bitmap::Dumpable, pfn)? {
            return Err(if self.bit(Bitmap::Present, pfn)? {
                ReadError::Excluded(pfn)
            } else {
                ReadError::NotPresent(pfn)
            });
        }
        if self
            .part
            .is_some_and(|(start, end)| pfn.0 < start || pfn.0 >= end)
        {
            return Err(ReadError::Elsewhere(pfn));
        }
        let offset = self
            .rank(pfn)?
            .saturating_sub(self.first_rank)
            .saturating_mul(as_u64(PAGE_DESC_BYTES))
            .saturating_add(self.descs);
        let mut bytes = [0; PAGE_DESC_BYTES];
        match read(&mut self.source, offset, &mut bytes) {
            Err(ReadError::Io(_, IoError::END)) if self.is_incomplete() => {
                return Err(ReadError::Lost(pfn));
            }
            result => result?,
        }
        let desc = PageDesc::decode(&bytes, self.header.abi);
        // Descriptors are written in blocks, whose ends cut some in two: of a lost page's there may be the offset alone.
        if desc.offset == 0 || desc.bytes == 0 {
            return Err(ReadError::Lost(pfn));
        }
        Ok(desc)
    }

    /// Reads a page. `page` has [`Reader::page_bytes`]; after an error its bytes mean nothing.
    ///
    /// # Errors
    /// As [`Reader::desc`], and [`ReadError::DamagedPage`], [`ReadError::Unsupported`].
    pub fn read_page(&mut self, pfn: Pfn, page: &mut [u8]) -> Result<(), ReadError> {
        if page.len() != self.page_bytes() {
            return Err(ReadError::Memory);
        }
        let desc = self.desc(pfn)?;
        let bytes = usize::try_from(desc.bytes).unwrap_or(usize::MAX);
        match desc.flags {
            0 if bytes == page.len() => read(&mut self.source, desc.offset, page),
            FLAG_ZLIB | FLAG_LZO | FLAG_SNAPPY | FLAG_ZSTD if bytes <= page.len() => {
                let data = self
                    .data
                    .get_mut(..bytes)
                    .ok_or(ReadError::DamagedPage(pfn))?;
                read(&mut self.source, desc.offset, data)?;
                let whole = match desc.flags {
                    FLAG_LZO => codec::lzo::decompress(data, page).is_some(),
                    FLAG_SNAPPY => codec::snappy::decompress(data, page).is_some(),
                    FLAG_ZSTD => self.zstd.decompress(data, page).is_some(),
                    _ => inflate(&mut self.inflater, data, page),
                };
                whole.then_some(()).ok_or(ReadError::DamagedPage(pfn))
            }
            0 | FLAG_ZLIB | FLAG_LZO | FLAG_SNAPPY | FLAG_ZSTD => Err(ReadError::DamagedPage(pfn)),
            flags => Err(ReadError::Unsupported(pfn, flags)),
        }
    }

    /// Pages that stand in the file before this one.
    fn rank(&mut self, pfn: Pfn) -> Result<u64, ReadError> {
        let mark = pfn.0.checked_div(self.mark_pfns).unwrap_or(0);
        let index = usize::try_from(mark).unwrap_or(usize::MAX);
        let (marks, _) = self.marks.as_chunks::<MARK_BYTES>();
        let mut rank = marks
            .get(index)
            .map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let mut start = mark.saturating_mul(self.mark_pfns);
        while start < pfn.0 {
            let window = self.load(Bitmap::Dumpable, Pfn(start))?;
            rank = rank.saturating_add(ones(window, pfn.0.saturating_sub(start)));
            start = start.saturating_add(WINDOW_PFNS);
        }
        Ok(rank)
    }

    /// Counts the bits of the 2nd bitmap, and keeps the sums on the way.
    fn count(&mut self) -> Result<(), ReadError> {
        let max_mapnr = self.max_mapnr();
        let mut start = 0;
        let mut sum = 0_u64;
        while start < max_mapnr {
            if start.checked_rem(self.mark_pfns) == Some(0) {
                let index = start.checked_div(self.mark_pfns).unwrap_or(0);
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                let (marks, _) = self.marks.as_chunks_mut::<MARK_BYTES>();
                *marks.get_mut(index).ok_or(ReadError::Memory)? = sum.to_le_bytes();
            }
            let window = self.load(Bitmap::Dumpable, Pfn(start))?;
            sum = sum.saturating_add(ones(window, max_mapnr.saturating_sub(start)));
            start = start.saturating_add(WINDOW_PFNS);
        }
        self.page_count = sum;
        Ok(())
    }

    /// The part of a bitmap that has this pfn; shorter than a whole window at the bitmap's end.
    fn load(&mut self, bitmap: Bitmap, pfn: Pfn) -> Result<&[u8], ReadError> {
        let bitmap = match bitmap {
            Bitmap::Present => self.present,
            Bitmap::Dumpable => self.dumpable,
        };
        let byte = pfn.0.saturating_sub(pfn.0 % WINDOW_PFNS) / 8;
        let left = self.max_mapnr().div_ceil(8).saturating_sub(byte);
        // Blocks are multiples of a window, so what is behind the last byte can be read too; it does not count.
        let left = left.next_multiple_of(8);
        let bytes = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(WINDOW_BYTES);
        let window = self.window.get_mut(..bytes).ok_or(ReadError::Memory)?;
        let offset = bitmap.saturating_add(byte);
        if self.window_at != Some(offset) {
            self.window_at = None;
            read(&mut self.source, offset, window)?;
            self.window_at = Some(offset);
        }
        Ok(window)
    }
}

impl<S> fmt::Debug for Reader<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("header", &self.header)
            .field("sub_header", &self.sub_header)
            .field("page_count", &self.page_count)
            .finish_non_exhaustive()
    }
}

fn read<S: Source>(source: &mut S, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
    source
        .read_at(offset, buf)
        .map_err(|error| ReadError::Io(offset, error))
}

/// Bits that are set among the first `count` of `bytes`.
fn ones(bytes: &[u8], count: u64) -> u64 {
    let (mut left, mut sum) = (count, 0_u64);
    let (words, _) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        let kept = match left {
            0 => break,
            1..64 => word & !(u64::MAX << left),
            _ => word,
        };
        sum = sum.saturating_add(kept.count_ones().into());
        left = left.saturating_sub(64);
    }
    sum
}

/// Inflates a page, and says whether the stream was whole and of the page's length.
fn inflate(inflater: &mut DecompressorOxide, stream: &[u8], page: &mut [u8]) -> bool {
    inflater.init();
    let flags = inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER
        | inflate_flags::TINFL_FLAG_COMPUTE_ADLER32
        | inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, written) = decompress(inflater, stream, page, 0, flags);
    status == TINFLStatus::Done && written == page.len()
}
