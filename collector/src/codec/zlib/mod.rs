// SPDX-License-Identifier: MIT OR Apache-2.0
//! A zlib encoder for single pages: RFC 1950 around RFC 1951.
//!
//! It is made for pages of the kernel's memory and for few instructions. Matches are found in one pass without a second
//! thought, the last match's distance first, for most of that memory is arrays of structures. Codes are not the best ones
//! but nearly, by way of logarithms instead of a tree. What would hardly get smaller is left as it is.

#![allow(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the input is bytes of any value, and no number is taken from it; the tests bound the rest"
)]

mod adler;
mod bits;
mod block;
mod huffman;
mod matches;
mod symbols;

use bits::Bits;
use block::Blocks;
use matches::{CHUNK, Matches};

/// The memory that the encoder works in; nothing carries over from one page to the next.
#[derive(Debug)]
pub struct Encoder {
    matches: Matches,
    blocks: Blocks,
    bits: Bits,
}

impl Encoder {
    /// The two bytes that a stream begins with: deflate, fastest.
    const HEADER: u64 = 0x0178;

    /// An encoder.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            matches: Matches::new(),
            blocks: Blocks::new(),
            bits: Bits::new(),
        }
    }

    /// Compresses `page` into the front of `out`: see [`Codec::compress`](super::Codec::compress).
    ///
    /// It is made for pages of 4 KiB; longer ones are taken 4 KiB at a time.
    pub fn compress(&mut self, page: &[u8], out: &mut [u8]) -> Option<usize> {
        let last = page.len().div_ceil(CHUNK).checked_sub(1)?;
        self.bits.clear();
        self.bits.write(|bits| bits.put(Self::HEADER, 16));
        let mut written = 0;
        for (index, chunk) in page.chunks(CHUNK).enumerate() {
            self.put_chunk(chunk, index == last, page.len() > CHUNK)?;
            if index == last {
                let sum = adler::adler32(page);
                self.bits.write(|bits| {
                    bits.align();
                    bits.put_bytes(&sum.to_be_bytes());
                });
            }
            let bytes = self.bits.bytes();
            let end = written + bytes.len();
            out.get_mut(written..end)?.copy_from_slice(bytes);
            written = end;
            self.bits.forget_bytes();
        }
        (written < page.len()).then_some(written)
    }

    /// Adds a block; none when the chunk would not get shorter, unless it may be `stored` as it is.
    fn put_chunk(&mut self, chunk: &[u8], last: bool, stored: bool) -> Option<()> {
        if self.matches.find(chunk) {
            let mark = self.bits.mark();
            let before = self.bits.bytes().len();
            self.blocks.write(&self.matches, last, &mut self.bits);
            if !stored || self.bits.bytes().len() <= before + chunk.len() {
                return Some(());
            }
            self.bits.back_to(mark);
        }
        stored.then(|| self.bits.write(|bits| block::put_stored(chunk, last, bits)))
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
