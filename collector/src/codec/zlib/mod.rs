// SPDX-License-Identifier: MIT OR Apache-2.0
//! A zlib encoder for single pages: RFC 1950 around RFC 1951.

#![allow(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the input is bytes of any value, and no number is taken from it; the tests bound the rest"
)]

mod adler;
mod bits;
mod block;
mod matches;
mod symbols;

use bits::BitWriter;
use block::Code;
use matches::{CHUNK, Matches};

/// The memory that the encoder works in; nothing carries over from one page to the next.
#[derive(Debug)]
pub struct Encoder {
    matches: Matches,
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
        }
    }

    /// Compresses `page` into the front of `out`: see [`Codec::compress`](super::Codec::compress).
    ///
    /// It is made for pages of 4 KiB; longer ones are taken 4 KiB at a time.
    pub fn compress(&mut self, page: &[u8], out: &mut [u8]) -> Option<usize> {
        let mut bits = BitWriter::new(out);
        bits.put(Self::HEADER, 16);
        let last = page.len().div_ceil(CHUNK).checked_sub(1)?;
        for (index, chunk) in page.chunks(CHUNK).enumerate() {
            self.matches.find(chunk);
            let code = Code::fixed();
            let room = block::bits(&self.matches, &code) + 8 * Self::TRAILER_BYTES;
            if !bits.has_room(room) {
                return None;
            }
            block::write(&self.matches, &code, index == last, &mut bits);
        }
        bits.align();
        bits.put_bytes(&adler::adler32(page).to_be_bytes());
        let bytes = bits.align();
        (bytes < page.len()).then_some(bytes)
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflates(page: &[u8], stream: &[u8]) {
        let mut back = vec![0; page.len() + 1];
        let mut inflate = flate2::Decompress::new(true);
        let status = inflate.decompress(stream, &mut back, flate2::FlushDecompress::Finish);
        assert!(
            matches!(status, Ok(flate2::Status::StreamEnd)),
            "{status:?}"
        );
        assert_eq!(inflate.total_in(), stream.len() as u64);
        assert_eq!(back[..inflate.total_out() as usize], *page);
    }

    #[test]
    fn text_and_patterns_inflate_to_what_they_were() {
        let mut encoder = Encoder::new();
        let mut out = [0; 5000];
        let text = include_bytes!("matches.rs");
        for page in [[7; 4096].as_slice(), &text[..4096], &text[..300]] {
            let bytes = encoder.compress(page, &mut out).unwrap();
            inflates(page, &out[..bytes]);
        }
    }
}
