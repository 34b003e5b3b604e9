// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages to LZO1X streams.

#![allow(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the input is bytes of any value, and no number is taken from it; the tests bound the rest"
)]

use super::super::greedy::{self, Heads, Sequences};
use super::super::window::{SLACK, Window};

/// Distances of the two-byte and three-byte instructions.
const NEAR: usize = 2048;
const MIDDLE: usize = 16384;
/// The longest match of the two-byte instruction.
const NEAR_LENGTH: usize = 8;
/// The longest match of the three-byte instruction that needs no further byte.
const MIDDLE_LENGTH: usize = 33;
/// The same of the instruction for far matches.
const FAR_LENGTH: usize = 9;
/// The end of a stream: a far match at the distance that none has.
const END: [u8; 3] = [0x11, 0, 0];
/// What a sequence takes at most, besides its literals and lengths that go on in further bytes.
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
        let mut stream = Stream {
            out,
            bytes: 0,
            waiting: Waiting {
                instruction: 0,
                bytes: 0,
            },
        };
        let from = greedy::find(&self.window, &mut self.heads, &mut stream)?;
        stream.put_literals(&self.window, from, page.len())?;
        let end = stream.out.get_mut(stream.bytes..)?.first_chunk_mut()?;
        *end = END;
        let bytes = stream.bytes + END.len();
        (bytes < page.len()).then_some(bytes)
    }
}

/// What was written. It is kept in registers: what is called out of line gets and gives back values.
struct Stream<'a> {
    out: &'a mut [u8],
    bytes: usize,
    /// The end of the last match's instruction: the lowest two bits of its last byte but one are the number of literals
    /// behind it, when that is at most three.
    waiting: Waiting,
}

/// Bytes of an instruction, the first one in the lowest bits.
#[derive(Clone, Copy)]
struct Waiting {
    instruction: u32,
    bytes: usize,
}

impl Stream<'_> {
    /// Writes the last match's instruction and the literals behind it.
    #[inline(always)]
    fn put_literals(&mut self, window: &Window<'_>, from: usize, to: usize) -> Option<()> {
        let count = to - from;
        let Waiting { instruction, bytes } = self.waiting;
        if count > SLACK || bytes == 0 {
            self.bytes =
                put_many_literals(self.out, self.bytes, self.waiting, window.bytes(from, to))?;
            return Some(());
        }
        let place = self.out.get_mut(self.bytes..)?.first_chunk_mut::<ROOM>()?;
        let few = if count < 4 { count } else { 0 };
        let instruction = instruction | (few << (8 * (bytes - 2))) as u32;
        // What is behind the instruction's bytes is written over by what follows.
        place[..4].copy_from_slice(&instruction.to_le_bytes());
        place[bytes & 3] = (count as u8).wrapping_sub(3);
        let start = (bytes & 3) + usize::from(count >= 4);
        place[start..start + SLACK].copy_from_slice(window.chunk::<SLACK>(from));
        self.bytes += start + count;
        Some(())
    }
}

impl Sequences for Stream<'_> {
    /// Far matches have 15 bits for the distance, and 0 is the end.
    const MAX_DISTANCE: usize = MIDDLE + 32767;
    const HASTE: usize = 4;

    #[inline(always)]
    fn put(
        &mut self,
        window: &Window<'_>,
        from: usize,
        at: usize,
        length: usize,
        distance: usize,
    ) -> bool {
        if self.put_literals(window, from, at).is_none() {
            return false;
        }
        if length > MIDDLE_LENGTH || distance > MIDDLE {
            let Some((bytes, waiting)) = put_long_match(self.out, self.bytes, length, distance)
            else {
                return false;
            };
            (self.bytes, self.waiting) = (bytes, waiting);
            return true;
        }
        let behind = distance - 1;
        let near = (length - 1) << 5 | (behind & 7) << 2 | behind >> 3 << 8;
        let middle = 0x20 | (length - 2) | behind << 10;
        let is_near = length <= NEAR_LENGTH && distance <= NEAR;
        self.waiting = Waiting {
            instruction: if is_near { near } else { middle } as u32,
            bytes: if is_near { 2 } else { 3 },
        };
        true
    }
}

/// Writes a waiting instruction and a run of literals of any length behind it, also one that begins the stream.
#[inline(never)]
fn put_many_literals(
    out: &mut [u8],
    at: usize,
    waiting: Waiting,
    literals: &[u8],
) -> Option<usize> {
    let mut bytes = Bytes { out, at };
    let count = literals.len();
    if waiting.bytes == 0 && count < 239 {
        bytes.put(count as u8 + 17)?;
    } else {
        let few = if count < 4 { count } else { 0 };
        let instruction =
            waiting.instruction | (few << (8 * waiting.bytes.saturating_sub(2))) as u32;
        for byte in &instruction.to_le_bytes()[..waiting.bytes] {
            bytes.put(*byte)?;
        }
        match count {
            0..4 => {}
            4..19 => bytes.put(count as u8 - 3)?,
            _ => {
                bytes.put(0)?;
                bytes.put_length(count - 18)?;
            }
        }
    }
    let end = bytes.at + count;
    bytes.out.get_mut(bytes.at..end)?.copy_from_slice(literals);
    Some(end)
}

/// Writes the first bytes of a match whose instruction is longer than three, or which is far; the others wait.
#[inline(never)]
fn put_long_match(
    out: &mut [u8],
    at: usize,
    length: usize,
    distance: usize,
) -> Option<(usize, Waiting)> {
    let mut bytes = Bytes { out, at };
    let (code, short, rest) = if distance <= MIDDLE {
        (0x20, MIDDLE_LENGTH, distance - 1)
    } else {
        let rest = distance - MIDDLE;
        (
            0x10 | (rest >> 14 << 3) as u8,
            FAR_LENGTH,
            rest & (MIDDLE - 1),
        )
    };
    if length <= short {
        bytes.put(code | (length - 2) as u8)?;
    } else {
        bytes.put(code)?;
        bytes.put_length(length - short)?;
    }
    let waiting = Waiting {
        instruction: (rest << 2) as u32,
        bytes: 2,
    };
    Some((bytes.at, waiting))
}

/// Single bytes, where there is no hurry.
struct Bytes<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Bytes<'_> {
    fn put(&mut self, byte: u8) -> Option<()> {
        *self.out.get_mut(self.at)? = byte;
        self.at += 1;
        Some(())
    }

    /// A number above what the instruction had room for.
    fn put_length(&mut self, mut rest: usize) -> Option<()> {
        while rest > 255 {
            self.put(0)?;
            rest -= 255;
        }
        self.put(rest as u8)
    }
}
