// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages to Zstandard frames.

#![allow(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the input is bytes of any value, and no number is taken from it; the tests bound the rest"
)]

use super::super::greedy::Heads;
use super::super::window::Window;
use super::fse::Table;
use super::literals::Coder;
use super::matches::{BLOCK, Found};
use super::{MAGIC, sequences};

/// Bytes before a block's content.
const BLOCK_HEADER_BYTES: usize = 3;

/// The memory that the encoder works in; nothing carries over from one page to the next.
#[derive(Debug)]
pub struct Encoder<'m> {
    window: Window<'m>,
    heads: Heads<'m>,
    found: Found<'m>,
    coder: Coder,
    room: sequences::Room,
}

impl<'m> Encoder<'m> {
    /// Bytes of memory that an encoder needs.
    pub const MEMORY_BYTES: usize =
        Window::MEMORY_BYTES + Heads::MEMORY_BYTES + Found::MEMORY_BYTES;

    /// An encoder that works in the front of `memory`; none when that has fewer than [`Encoder::MEMORY_BYTES`].
    #[must_use]
    pub fn new(memory: &'m mut [u8]) -> Option<Self> {
        let (window, rest) = Window::new(memory)?;
        let (found, rest) = Found::new(rest)?;
        let heads = Heads::new(rest)?;
        Some(Self {
            window,
            heads,
            found,
            coder: Coder::new(),
            room: [Table::EMPTY; 3],
        })
    }

    /// Compresses `page` into the front of `out`: see [`Codec::compress`](super::super::Codec::compress).
    pub fn compress(&mut self, page: &[u8], out: &mut [u8]) -> Option<usize> {
        if !self.window.fill(page) {
            return None;
        }
        self.heads.clear();
        self.found.restart();
        // One segment, with its size and without a checksum.
        let size = page.len().checked_sub(256);
        let [low, high, ..] = size.unwrap_or(page.len()).to_le_bytes();
        let header: &[u8] = match size {
            Some(_) => &[0x60, low, high],
            None => &[0x20, low],
        };
        out.first_chunk_mut().map(|place| *place = MAGIC)?;
        let mut at = MAGIC.len() + header.len();
        out.get_mut(MAGIC.len()..at)?.copy_from_slice(header);
        let mut start = 0;
        while start < page.len() {
            let end = (start + BLOCK).min(page.len());
            let last = end == page.len();
            let content = out.get_mut(at + BLOCK_HEADER_BYTES..)?;
            let kept = self.found.last();
            let (kind, bytes) = match self.compress_block(start, end, content) {
                Some(bytes) if bytes < end - start => (2, bytes),
                _ if page.len() <= BLOCK => return None,
                _ => {
                    // As it is; what decoders remember of distances does not change.
                    self.found.set_last(kept);
                    content
                        .get_mut(..end - start)?
                        .copy_from_slice(&page[start..end]);
                    (0, end - start)
                }
            };
            let [first, second, third, _] =
                (u32::from(last) | kind << 1 | (bytes as u32) << 3).to_le_bytes();
            *out.get_mut(at..)?.first_chunk_mut()? = [first, second, third];
            at += BLOCK_HEADER_BYTES + bytes;
            start = end;
        }
        (at < page.len()).then_some(at)
    }

    fn compress_block(&mut self, start: usize, end: usize, out: &mut [u8]) -> Option<usize> {
        self.found.find(&self.window, &mut self.heads, start, end);
        let at = self.coder.write(self.found.literals(), out)?;
        let bytes = sequences::write(&self.found, &mut self.room, out.get_mut(at..)?)?;
        Some(at + bytes)
    }
}
