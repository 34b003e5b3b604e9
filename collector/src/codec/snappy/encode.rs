// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages to snappy's raw format.

#![allow(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the input is bytes of any value, and no number is taken from it; the tests bound the rest"
)]

use super::super::greedy::{self, Heads, Sequences};
use super::super::window::{SLACK, Window};

/// What the two-byte copy can say: distances below this, and lengths up to the other.
const NEAR: usize = 2048;
const NEAR_LENGTH: usize = 11;
/// The longest copy of any kind.
const MAX_LENGTH: usize = 64;
/// What some literals and a copy take at most when the literals are no more than [`SLACK`].
const ROOM: usize = 2 * SLACK;

/// The memory that the encoder works in; nothing carries over from one page to the next.
#[derive(Debug)]
pub struct Encoder<'m> {
    window: Window<'m>,
    heads: Heads<'m>,
}

impl<'m> Encoder<'m> {
    /// Bytes of memory that an encoder needs.
    pub const MEMORY_BYTES: usize = Window::MEMORY_BYTES + Heads::MEMORY_BYTES;

    /// An encoder that works in the front of `memory`; none when that has fewer than [`Encoder::MEMORY_BYTES`].
    #[must_use]
    pub fn new(memory: &'m mut [u8]) -> Option<Self> {
        let (window, rest) = Window::new(memory)?;
        let heads = Heads::new(rest)?;
        Some(Self { window, heads })
    }

    /// Compresses `page` into the front of `out`: see [`Codec::compress`](super::super::Codec::compress).
    pub fn compress(&mut self, page: &[u8], out: &mut [u8]) -> Option<usize> {
        if !self.window.fill(page) {
            return None;
        }
        let mut stream = Stream { out, bytes: 0 };
        stream.put_page_length(page.len())?;
        let from = greedy::find(&self.window, &mut self.heads, &mut stream)?;
        stream.bytes = put_many_literals(stream.out, stream.bytes, &page[from..])?;
        (stream.bytes < page.len()).then_some(stream.bytes)
    }
}

/// What was written.
struct Stream<'a> {
    out: &'a mut [u8],
    bytes: usize,
}

impl Stream<'_> {
    /// Seven bits a byte, the lowest first.
    fn put_page_length(&mut self, mut length: usize) -> Option<()> {
        loop {
            let more = length > 127;
            *self.out.get_mut(self.bytes)? = (length & 127) as u8 | u8::from(more) << 7;
            self.bytes += 1;
            length >>= 7;
            if !more {
                return Some(());
            }
        }
    }

    #[inline(always)]
    fn put_sequence(
        &mut self,
        window: &Window<'_>,
        from: usize,
        at: usize,
        mut length: usize,
        distance: usize,
    ) -> Option<()> {
        let count = at - from;
        if count > SLACK {
            self.bytes = put_many_literals(self.out, self.bytes, window.bytes(from, at))?;
        } else {
            let place = self.out.get_mut(self.bytes..)?.first_chunk_mut::<ROOM>()?;
            // Without literals, both are written over by the copy.
            place[0] = (count as u8).wrapping_sub(1) << 2;
            let start = usize::from(count > 0);
            place[start..start + SLACK].copy_from_slice(window.chunk::<SLACK>(from));
            self.bytes += start + count;
        }
        if length > MAX_LENGTH {
            (self.bytes, length) = put_long_copies(self.out, self.bytes, length, distance)?;
        }
        let near = 1 | length.wrapping_sub(4) << 2 | distance >> 8 << 5 | (distance & 255) << 8;
        let any = 2 | (length - 1) << 2 | distance << 8;
        let is_near = length <= NEAR_LENGTH && distance < NEAR;
        let copy = if is_near { near } else { any };
        let place = self.out.get_mut(self.bytes..)?.first_chunk_mut()?;
        *place = (copy as u32).to_le_bytes();
        self.bytes += if is_near { 2 } else { 3 };
        Some(())
    }
}

impl Sequences for Stream<'_> {
    const MAX_DISTANCE: usize = 65535;
    // 4 would make 1 % less of a mixed guest, and take 1.6 % longer: then the C library is hardly slower.
    const HASTE: usize = 5;

    #[inline(always)]
    fn put(
        &mut self,
        window: &Window<'_>,
        from: usize,
        at: usize,
        length: usize,
        distance: usize,
    ) -> bool {
        self.put_sequence(window, from, at, length, distance)
            .is_some()
    }
}

/// Writes a run of literals of any length.
#[inline(never)]
fn put_many_literals(out: &mut [u8], mut at: usize, literals: &[u8]) -> Option<usize> {
    let Some(behind) = literals.len().checked_sub(1) else {
        return Some(at);
    };
    let [low, high, ..] = behind.to_le_bytes();
    let element: &[u8] = match behind {
        ..60 => &[low << 2],
        60..256 => &[60 << 2, low],
        _ => &[61 << 2, low, high],
    };
    for part in [element, literals] {
        out.get_mut(at..at + part.len())?.copy_from_slice(part);
        at += part.len();
    }
    Some(at)
}

/// Writes the beginning of a copy that is longer than one element can say, and leaves from 4 bytes to as many as one can.
#[inline(never)]
fn put_long_copies(
    out: &mut [u8],
    mut at: usize,
    mut length: usize,
    distance: usize,
) -> Option<(usize, usize)> {
    while length > MAX_LENGTH {
        let now = MAX_LENGTH.min(length - 4);
        let [low, high, ..] = distance.to_le_bytes();
        *out.get_mut(at..)?.first_chunk_mut()? = [2 | (now as u8 - 1) << 2, low, high];
        at += 3;
        length -= now;
    }
    Some((at, length))
}
