// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages that are read and compressed together, apart from where it is decided which, and from where they are written.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use core::iter;

use crate::address::Pfn;
use crate::codec::{Codec, SLACK_BYTES};
use crate::io::{IoError, Source};
use crate::pages::is_zero;

/// The most pages of a batch. With more of them a CPU waits for longer while another is busy with one, and zero pages take so
/// little time that fewer would be handed about for next to nothing.
pub const BATCH_PAGES: usize = 64;
/// The most bytes of a batch: pages of more than 4 KiB are fewer.
const BATCH_BYTES: usize = BATCH_PAGES * 4096;
/// Room in front of the pages' bytes, so that what the batch before has left over can go out with them in one write.
pub(crate) const HEAD_BYTES: usize = 4096;
/// What [`Batch::encode`] reads into, where a source cannot be viewed in place: no more than a cache next to a CPU has room
/// for, and no less than a page.
pub const SCRATCH_BYTES: usize = 128 << 10;
/// The offset of a page that is not in the vmcore in one piece.
const IN_PIECES: u64 = u64::MAX;
/// The length of a page that equals the one before.
const REPEATED: u32 = u32::MAX;

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// It has nothing but zeros.
    Zero,
    /// The same as the last one before it that is not zero.
    Repeated,
    /// So many bytes: the page as it is.
    Stored(u32),
    /// So many bytes, in the compression of the dumpfile.
    Compressed(u32),
}

/// Some pages, by their numbers and by where they are in the vmcore, and after [`encode`](Batch::encode) what they became.
///
/// It consists of integers only and may lie in memory that processes share. All zero it is the same as [`Batch::new`].
#[repr(C)]
#[derive(Debug)]
pub struct Batch {
    pfns: [u64; BATCH_PAGES],
    offsets: [u64; BATCH_PAGES],
    /// Pages that are not to be compressed, a bit for each.
    given_up: u64,
    page_bytes: u32,
    count: u32,
    /// Whether zero pages are told apart: 0 or 1.
    share_zero: u32,
    /// Whether some page could not be read, so that nothing has become of any: 0 or 1.
    unread: u32,
    /// What each page became: 0 is a zero page, [`REPEATED`] one like that before, `page_bytes` one that stays as it is, else
    /// its bytes when compressed.
    lengths: [u32; BATCH_PAGES],
    /// Behind [`HEAD_BYTES`] the bytes of all pages that have some, one behind the other.
    data: [u8; HEAD_BYTES + BATCH_BYTES + SLACK_BYTES],
}

impl Batch {
    /// A batch without pages.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            pfns: [0; BATCH_PAGES],
            offsets: [0; BATCH_PAGES],
            given_up: 0,
            page_bytes: 0,
            count: 0,
            share_zero: 0,
            unread: 0,
            lengths: [0; BATCH_PAGES],
            data: [0; HEAD_BYTES + BATCH_BYTES + SLACK_BYTES],
        }
    }

    /// How many pages of this size a batch has.
    fn capacity(page_bytes: usize) -> usize {
        BATCH_BYTES
            .checked_div(page_bytes)
            .unwrap_or(0)
            .clamp(1, BATCH_PAGES)
    }

    /// Forgets all pages, for new ones of this size.
    pub fn restart(&mut self, page_bytes: usize, share_zero: bool) {
        self.page_bytes = u32_from(page_bytes);
        self.count = 0;
        self.unread = 0;
        self.given_up = 0;
        self.share_zero = share_zero.into();
    }

    /// Adds up to `count` pages that follow each other, in the vmcore from `offset` on; without one, they are there in
    /// pieces or not at all. Returns how many there was room for.
    pub fn push(&mut self, first: Pfn, offset: Option<u64>, count: u64) -> u64 {
        let room = Self::capacity(self.page_bytes()).saturating_sub(self.count());
        let count = usize::try_from(count).unwrap_or(room).min(room);
        let page_bytes = u64::from(self.page_bytes);
        let mut offset = offset.unwrap_or(IN_PIECES);
        let places = self.pfns.iter_mut().zip(&mut self.offsets);
        let places = places.skip(usize_from(self.count)).take(count);
        for ((pfn_place, offset_place), pfn) in places.zip(first.0..) {
            (*pfn_place, *offset_place) = (pfn, offset);
            // What is in pieces stays so.
            offset = offset.saturating_add(page_bytes);
        }
        self.count = self.count.saturating_add(u32_from(count));
        u64::try_from(count).unwrap_or(0)
    }

    /// Whether there is no room for another page.
    pub(crate) fn is_full(&self) -> bool {
        self.count() >= Self::capacity(self.page_bytes())
    }

    /// How many pages there are.
    #[must_use]
    pub fn count(&self) -> usize {
        usize_from(self.count)
    }

    /// Whether nothing has become of the pages, as some cannot be read as they should.
    pub(crate) const fn is_unread(&self) -> bool {
        self.unread != 0
    }

    /// Bytes of each page.
    pub(crate) fn page_bytes(&self) -> usize {
        usize_from(self.page_bytes)
    }

    /// The page of this number will be stored as it is: to compress it has cost a worker its life.
    pub fn give_up(&mut self, page: u32) {
        self.given_up |= 1_u64.checked_shl(page).unwrap_or(0);
    }

    /// Reads and compresses all pages, in `scratch` of at least [`SCRATCH_BYTES`] where the source is not mapped. `starting`
    /// is told the number of each page before it is looked at.
    ///
    /// Where a page cannot be read, the batch is left for the one who filled it.
    pub fn encode<S: Source>(
        &mut self,
        source: &mut S,
        codec: &mut Codec<'_>,
        scratch: &mut [u8],
        starting: &mut dyn FnMut(u32),
    ) {
        let result = self.try_encode(source, codec, scratch, starting);
        self.unread = result.is_err().into();
    }

    fn try_encode<S: Source>(
        &mut self,
        source: &mut S,
        codec: &mut Codec<'_>,
        scratch: &mut [u8],
        starting: &mut dyn FnMut(u32),
    ) -> Result<(), IoError> {
        let page_bytes = self.page_bytes();
        let most = scratch.len().checked_div(page_bytes).unwrap_or(0).max(1);
        let (mut number, mut filled) = (0_u32, Filled::NOTHING);
        while let Some((offset, count)) = self.run(usize_from(number), most) {
            let bytes = count.saturating_mul(page_bytes);
            let pages = source.view(offset, bytes, scratch)?;
            for page in pages.chunks_exact(page_bytes.max(1)) {
                starting(number);
                self.encode_page(number, page, &mut filled, codec);
                number = number.saturating_add(1);
            }
        }
        Ok(())
    }

    /// From this page on, up to `most` pages that follow each other in the vmcore: where the first is, and how many.
    fn run(&self, number: usize, most: usize) -> Option<(u64, usize)> {
        let offsets = self.offsets.get(number..self.count())?;
        let first = *offsets.first()?;
        let expected = iter::successors(Some(first), |offset| {
            offset.checked_add(u64::from(self.page_bytes))
        });
        let count = offsets
            .iter()
            .zip(expected)
            .take(most)
            .take_while(|(offset, expected)| *offset == expected)
            .count();
        Some((first, count))
    }

    /// As [`encode`](Batch::encode), where `read` fills in each page, whatever it takes.
    pub(crate) fn encode_each(
        &mut self,
        codec: &mut Codec<'_>,
        page: &mut [u8],
        read: &mut dyn FnMut(Pfn, &mut [u8]),
    ) {
        let mut filled = Filled::NOTHING;
        for number in 0..self.count {
            let pfn = self.pfns.get(usize_from(number)).copied().unwrap_or(0);
            read(Pfn(pfn), page);
            self.encode_page(number, page, &mut filled, codec);
        }
        self.unread = 0;
    }

    /// Puts what becomes of a page behind what is there.
    fn encode_page(
        &mut self,
        number: u32,
        page: &[u8],
        filled: &mut Filled,
        codec: &mut Codec<'_>,
    ) {
        let Some(length) = self.lengths.get_mut(usize_from(number)) else {
            return;
        };
        if self.share_zero != 0 && is_zero(page) {
            *length = 0;
            return;
        }
        let Some((before, room)) = self.data.split_at_mut_checked(filled.end) else {
            return;
        };
        let room = room
            .get_mut(..page.len().saturating_add(SLACK_BYTES))
            .unwrap_or_default();
        let compressed = match self.given_up.checked_shr(number).unwrap_or(0) & 1 {
            0 => codec.compress(page, room),
            _ => None,
        };
        let bytes = compressed.unwrap_or(page.len());
        let Some(place) = room.get_mut(..bytes) else {
            return;
        };
        if compressed.is_none() {
            place.copy_from_slice(page);
        }
        if before.get(filled.last..) == Some(place) {
            *length = REPEATED;
            return;
        }
        *length = u32_from(bytes);
        filled.last = filled.end;
        filled.end = filled.end.saturating_add(bytes);
    }

    /// What each page became.
    pub(crate) fn encoded(&self) -> impl Iterator<Item = (Pfn, Encoded)> {
        let pages = self.pfns.iter().zip(&self.lengths).take(self.count());
        pages.map(|(&pfn, &length)| {
            let encoded = match length {
                0 => Encoded::Zero,
                REPEATED => Encoded::Repeated,
                _ if length >= self.page_bytes => Encoded::Stored(length),
                _ => Encoded::Compressed(length),
            };
            (Pfn(pfn), encoded)
        })
    }

    /// The bytes of all pages, behind `head` of at most [`HEAD_BYTES`].
    pub(crate) fn data_behind(&mut self, head: &[u8]) -> &[u8] {
        let lengths = self.lengths.iter().take(usize_from(self.count));
        let used = lengths
            .filter(|length| **length != REPEATED)
            .fold(0_usize, |sum, length| {
                sum.saturating_add(usize_from(*length))
            });
        let start = HEAD_BYTES.saturating_sub(head.len());
        let end = HEAD_BYTES.saturating_add(used);
        let Some(data) = self.data.get_mut(start..end) else {
            return &[];
        };
        if let Some(place) = data.get_mut(..head.len()) {
            place.copy_from_slice(head);
        }
        data
    }
}

/// How far a batch's data is filled, and where its last page begins.
struct Filled {
    last: usize,
    end: usize,
}

impl Filled {
    const NOTHING: Self = Self {
        last: HEAD_BYTES,
        end: HEAD_BYTES,
    };
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

fn usize_from(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn u32_from(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]
mod tests {
    use super::*;
    use crate::codec;
    use config::Compression;

    /// A vmcore of nothing but pages.
    struct File(Vec<u8>);

    impl Source for File {
        fn size_bytes(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
            let start = usize::try_from(offset).map_err(|_| IoError::END)?;
            let bytes = self.0.get(start..start.saturating_add(buf.len()));
            buf.copy_from_slice(bytes.ok_or(IoError::END)?);
            Ok(())
        }
    }

    /// Three pages: of zeros, one that is easy, one that is not.
    fn file(page_bytes: usize) -> File {
        let mut state = 1_u64;
        let noise = (0..page_bytes).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_le_bytes()[7]
        });
        let mut bytes = vec![0; page_bytes];
        bytes.extend(vec![7; page_bytes]);
        bytes.extend(noise);
        File(bytes)
    }

    /// A batch of these three, of which the second comes first in the vmcore.
    fn filled(page_bytes: usize) -> Box<Batch> {
        let mut batch = Box::new(Batch::new());
        batch.restart(page_bytes, true);
        assert_eq!(batch.push(Pfn(102), Some(page_bytes as u64), 2), 2);
        assert_eq!(batch.push(Pfn(104), Some(0), 1), 1);
        batch
    }

    fn with_codec(work: impl FnOnce(&mut Codec<'_>)) {
        codec::with(
            Compression::Zlib,
            &mut [0; codec::MEMORY_BYTES],
            |mut codec| work(&mut codec),
        )
        .unwrap();
    }

    fn encode(batch: &mut Batch, mut file: File) -> Vec<u32> {
        let mut order = Vec::new();
        let mut scratch = vec![0; SCRATCH_BYTES];
        with_codec(|codec| {
            batch.encode(&mut file, codec, &mut scratch, &mut |number| {
                order.push(number);
            });
        });
        order
    }

    fn kinds(batch: &Batch) -> Vec<(u64, char)> {
        let kind = |encoded| match encoded {
            Encoded::Zero => 'z',
            Encoded::Repeated => 'r',
            Encoded::Stored(_) => 's',
            Encoded::Compressed(_) => 'c',
        };
        batch
            .encoded()
            .map(|(pfn, encoded)| (pfn.0, kind(encoded)))
            .collect()
    }

    #[test]
    fn each_page_becomes_what_suits_it() {
        for page_bytes in [4096, 65536] {
            let mut batch = filled(page_bytes);
            assert_eq!(encode(&mut batch, file(page_bytes)), [0, 1, 2]);
            assert_eq!(kinds(&batch), [(102, 'c'), (103, 's'), (104, 'z')]);
            let data = batch.data_behind(b"head");
            assert!(data.starts_with(b"head"));
            assert!(data.ends_with(&file(page_bytes).0[2 * page_bytes..]));
            batch.restart(page_bytes, false);
            assert_eq!((batch.count(), batch.encoded().count()), (0, 0));
            assert_eq!(batch.data_behind(&[]), []);
        }
    }

    #[test]
    fn a_page_that_equals_the_one_before_has_no_bytes() {
        let mut batch = Box::new(Batch::new());
        batch.restart(4096, true);
        // Zeros between two pages make no difference.
        for (pfn, place) in (0..).zip([1, 1, 2, 0, 2, 1, 1]) {
            batch.push(Pfn(pfn), Some(place * 4096), 1);
        }
        encode(&mut batch, file(4096));
        let kinds: String = kinds(&batch).iter().map(|(_, kind)| kind).collect();
        assert_eq!(kinds, "crszrcr");
        let easy = batch.data_behind(&[]).len() - 4096;
        assert!(easy < 1000 && easy.is_multiple_of(2), "{easy}");
    }

    #[test]
    fn a_page_that_was_given_up_is_stored_as_it_is() {
        let mut batch = filled(4096);
        batch.give_up(0);
        batch.give_up(9999);
        encode(&mut batch, file(4096));
        assert_eq!(kinds(&batch), [(102, 's'), (103, 's'), (104, 'z')]);
        // For other pages that is forgotten.
        batch.restart(4096, true);
        batch.push(Pfn(0), Some(4096), 1);
        encode(&mut batch, file(4096));
        assert_eq!(kinds(&batch), [(0, 'c')]);
    }

    #[test]
    fn a_batch_with_a_page_that_cannot_be_read_is_left_to_who_filled_it() {
        for offset in [None, Some(2 * 4096 + 1), Some(u64::MAX - 1)] {
            let mut batch = filled(4096);
            batch.push(Pfn(200), offset, 1);
            encode(&mut batch, file(4096));
            assert!(batch.is_unread(), "{offset:?}");
            let mut file = file(4096);
            let mut page = [0; 4096];
            with_codec(|codec| {
                batch.encode_each(codec, &mut page, &mut |pfn, page| match pfn.0 {
                    104 => page.fill(0),
                    200 => page.fill(3),
                    _ => file.read_at((pfn.0 - 101) * 4096, page).unwrap(),
                });
            });
            assert!(!batch.is_unread());
            let expected = [(102, 'c'), (103, 's'), (104, 'z'), (200, 'c')];
            assert_eq!(kinds(&batch), expected);
        }
    }

    #[test]
    fn a_batch_has_as_many_pages_as_fit() {
        for (page_bytes, pages) in [(4096, 64), (16384, 16), (65536, 4)] {
            let mut batch = Box::new(Batch::new());
            batch.restart(page_bytes, true);
            assert_eq!(batch.push(Pfn(5), None, pages - 1), pages - 1);
            assert!(!batch.is_full());
            assert_eq!(batch.push(Pfn(99), None, 3), 1);
            assert!(batch.is_full());
            assert_eq!(batch.push(Pfn(100), None, 1), 0);
            assert_eq!(batch.count() as u64, pages);
        }
    }
}
