// SPDX-License-Identifier: MIT OR Apache-2.0
//! A zlib encoder for single pages: RFC 1950 around RFC 1951.

#![allow(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the input is bytes of any value, and no number is taken from it; the tests bound the rest"
)]

mod adler;
pub(super) mod bits;
mod block;
pub(super) mod huffman;
mod matches;
mod symbols;

use bits::BitWriter;
use block::Blocks;
use matches::{CHUNK, Matches};

/// The memory that the encoder works in; nothing carries over from one page to the next.
#[derive(Debug)]
pub struct Encoder {
    matches: Matches,
    blocks: Blocks,
}

impl Encoder {
    /// The two bytes that a stream begins with: deflate, fastest.
    const HEADER: u64 = 0x0178;
    /// The checksum's bytes.
    const TRAILER_BYTES: usize = 4;

    /// An encoder.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            matches: Matches::new(),
            blocks: Blocks::new(),
        }
    }

    /// Compresses `page` into the front of `out`: see [`Codec::compress`](super::Codec::compress).
    ///
    /// It is made for pages of 4 KiB; longer ones are taken 4 KiB at a time.
    pub fn compress(&mut self, page: &[u8], out: &mut [u8]) -> Option<usize> {
        let room = out.len();
        let mut bits = BitWriter::new(out);
        bits.put(Self::HEADER, 16);
        let last = page.len().div_ceil(CHUNK).checked_sub(1)?;
        for (index, chunk) in page.chunks(CHUNK).enumerate() {
            let (last, behind_bytes) = (index == last, Self::TRAILER_BYTES);
            let written = if self.matches.find(chunk) {
                let blocks = &mut self.blocks;
                blocks.write(&self.matches, last, behind_bytes, &mut bits)
            } else {
                page.len() > CHUNK && Blocks::write_stored(chunk, last, behind_bytes, &mut bits)
            };
            if !written {
                return None;
            }
        }
        bits.align();
        bits.put_bytes(&adler::adler32(page).to_be_bytes());
        let bytes = room - bits.rest_bytes();
        (bytes < page.len()).then_some(bytes)
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
