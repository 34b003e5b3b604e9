// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages that are compressed together, apart from where they are read and written.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use core::iter;

use crate::address::Pfn;
use crate::codec::{Codec, SLACK_BYTES};
use crate::kdump::Encoded;
use crate::pages::is_zero;

/// The most pages of a batch. A dumpfile's pages are cut into batches from the first one on, each of them full but for the
/// last, whether workers compress them or nobody but us: what a codec carries from one page to the next must end where
/// a batch ends, so that the dumpfile is the same.
pub const BATCH_PAGES: usize = 64;
/// The most bytes of a batch: pages of more than 4 KiB are fewer.
const BATCH_BYTES: usize = BATCH_PAGES * 4096;

/// Some pages with their numbers, and after [`compress`](Batch::compress) what they became.
///
/// It consists of integers only and may lie in memory that processes share. All zero it is the same as [`Batch::new`].
#[repr(C)]
#[derive(Debug)]
pub struct Batch {
    pfns: [u64; BATCH_PAGES],
    /// Pages that are not to be compressed, a bit for each.
    given_up: u64,
    page_bytes: u32,
    count: u32,
    /// Whether zero pages are told apart: 0 or 1.
    share_zero: u32,
    /// What each page became: 0 is a zero page, `page_bytes` one that stays as it is, else bytes of `output`.
    lengths: [u32; BATCH_PAGES],
    input: [u8; BATCH_BYTES],
    output: [u8; BATCH_BYTES + SLACK_BYTES],
}

impl Batch {
    /// A batch without pages.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            pfns: [0; BATCH_PAGES],
            given_up: 0,
            page_bytes: 0,
            count: 0,
            share_zero: 0,
            lengths: [0; BATCH_PAGES],
            input: [0; BATCH_BYTES],
            output: [0; BATCH_BYTES + SLACK_BYTES],
        }
    }

    /// How many pages of this size a batch has.
    pub(crate) fn capacity(page_bytes: usize) -> usize {
        BATCH_BYTES
            .checked_div(page_bytes)
            .unwrap_or(0)
            .clamp(1, BATCH_PAGES)
    }

    /// Forgets all pages, for new ones of this size.
    pub(crate) fn restart(&mut self, page_bytes: usize, share_zero: bool) {
        self.page_bytes = u32::try_from(page_bytes).unwrap_or(0);
        self.count = 0;
        self.given_up = 0;
        self.share_zero = share_zero.into();
    }

    /// The memory for pages that may be added.
    pub(crate) fn free(&mut self) -> &mut [u8] {
        let page_bytes = self.page_bytes();
        let start = self.count().saturating_mul(page_bytes);
        let end = Self::capacity(page_bytes).saturating_mul(page_bytes);
        self.input.get_mut(start..end).unwrap_or_default()
    }

    /// Adds `count` pages that follow each other, whose contents are in the front of [`free`](Batch::free).
    pub(crate) fn push(&mut self, first: Pfn, count: usize) {
        let places = self.pfns.iter_mut().skip(usize_from(self.count));
        for (place, pfn) in places.zip(first.0..).take(count) {
            *place = pfn;
            self.count = self.count.saturating_add(1);
        }
    }

    /// How many pages there are.
    #[must_use]
    pub fn count(&self) -> usize {
        usize_from(self.count)
    }

    fn page_bytes(&self) -> usize {
        usize_from(self.page_bytes)
    }

    /// The page of this number will be stored as it is: to compress it has cost a worker its life.
    pub fn give_up(&mut self, page: u32) {
        self.given_up |= 1_u64.checked_shl(page).unwrap_or(0);
    }

    /// Compresses all pages. `starting` is told the number of each that the codec gets, before it gets it.
    pub fn compress(&mut self, codec: &mut Codec<'_>, starting: &mut dyn FnMut(u32)) {
        let page_bytes = self.page_bytes();
        let count = self.count();
        let pages = self.input.chunks_exact(page_bytes.max(1)).take(count);
        let mut used = 0_usize;
        for (number, (page, length)) in (0_u32..).zip(pages.zip(&mut self.lengths)) {
            *length = self.page_bytes;
            if self.share_zero != 0 && is_zero(page) {
                *length = 0;
            } else if self.given_up.checked_shr(number).unwrap_or(0) & 1 == 0 {
                let end = used.saturating_add(page_bytes).saturating_add(SLACK_BYTES);
                let room = self.output.get_mut(used..end).unwrap_or_default();
                starting(number);
                if let Some(bytes) = codec.compress(page, room) {
                    *length = u32_from(bytes);
                    used = used.saturating_add(bytes);
                }
            }
        }
    }

    /// Each page as it goes into the dumpfile.
    pub(crate) fn encoded(&self) -> impl Iterator<Item = (Pfn, Encoded<'_>)> {
        let page_bytes = self.page_bytes();
        let mut pages = self
            .pfns
            .iter()
            .zip(self.input.chunks_exact(page_bytes.max(1)))
            .zip(&self.lengths)
            .take(self.count());
        let mut output = self.output.as_slice();
        iter::from_fn(move || {
            let ((&pfn, page), &length) = pages.next()?;
            let encoded = if length == 0 {
                Encoded::Zero
            } else if length >= self.page_bytes {
                Encoded::Stored(page)
            } else {
                // Together they are shorter than the input, so that they are all there.
                let (bytes, rest) = output.split_at_checked(usize_from(length))?;
                output = rest;
                Encoded::Compressed(bytes)
            };
            Some((Pfn(pfn), encoded))
        })
    }
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
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::codec;
    use config::Compression;

    fn filled(page_bytes: usize) -> Box<Batch> {
        let mut batch = Box::new(Batch::new());
        batch.restart(page_bytes, true);
        for page in 0..3_u8 {
            let free = batch.free();
            free[..page_bytes].fill(0);
            // One of zeros, one that is easy, one that is not.
            match page {
                0 => {}
                1 => free[..page_bytes].fill(7),
                _ => {
                    let mut state = 1_u64;
                    for byte in &mut free[..page_bytes] {
                        state = state
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1);
                        *byte = state.to_le_bytes()[7];
                    }
                }
            }
            batch.push(Pfn(100 + 2 * u64::from(page)), 1);
        }
        batch
    }

    fn kinds(batch: &Batch) -> Vec<(u64, char)> {
        let kind = |encoded| match encoded {
            Encoded::Zero => 'z',
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
            let mut order = Vec::new();
            codec::with(
                Compression::Zlib,
                &mut [0; codec::MEMORY_BYTES],
                |mut codec| {
                    batch.compress(&mut codec, &mut |number| order.push(number));
                },
            )
            .unwrap();
            assert_eq!(kinds(&batch), [(100, 'z'), (102, 'c'), (104, 's')]);
            assert_eq!(order, [1, 2]);
            batch.restart(page_bytes, false);
            assert_eq!((batch.count(), batch.encoded().count()), (0, 0));
        }
    }

    #[test]
    fn a_page_that_was_given_up_is_stored_as_it_is() {
        let mut batch = filled(4096);
        batch.give_up(1);
        batch.give_up(99);
        codec::with(
            Compression::Zlib,
            &mut [0; codec::MEMORY_BYTES],
            |mut codec| batch.compress(&mut codec, &mut |_| {}),
        )
        .unwrap();
        assert_eq!(kinds(&batch), [(100, 'z'), (102, 's'), (104, 's')]);
        // For other pages that is forgotten.
        batch.restart(4096, true);
        batch.free()[..4096].fill(1);
        batch.push(Pfn(0), 1);
        codec::with(
            Compression::Zlib,
            &mut [0; codec::MEMORY_BYTES],
            |mut codec| batch.compress(&mut codec, &mut |_| {}),
        )
        .unwrap();
        assert_eq!(kinds(&batch), [(0, 'c')]);
    }

    #[test]
    fn a_batch_has_as_many_pages_as_fit() {
        for (page_bytes, pages) in [(4096, 64), (16384, 16), (65536, 4)] {
            let mut batch = Box::new(Batch::new());
            batch.restart(page_bytes, true);
            assert_eq!(Batch::capacity(page_bytes), pages);
            assert_eq!(batch.free().len(), pages * page_bytes);
            batch.push(Pfn(5), pages);
            assert!(batch.free().is_empty());
            assert_eq!(batch.count(), pages);
        }
    }
}
