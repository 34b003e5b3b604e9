// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a block's literals. Source: RFC 8878 sections 3.1.1.3.1 and 4.2.

#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

use super::super::super::repeat::Input;
use super::super::MAX_WORD_BITS;
use super::bits::Backward;
use super::table::Table;

const WORDS: usize = 1 << MAX_WORD_BITS;
/// Symbols but for the last, whose weight follows from the others.
const TOLD: usize = 255;
/// The largest table that weights are told by.
const WEIGHT_LOG: u32 = 6;

/// A literal, and how many of the bits that it was found by are its own.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    literal: u8,
    bits: u8,
}

/// A code that was described, or is to be.
#[derive(Clone, Debug)]
pub(super) struct Code {
    /// Bits of the longest word; 0 when there is no code.
    longest: u32,
    words: [Word; WORDS],
}

impl Code {
    pub(super) const NONE: Self = Self {
        longest: 0,
        words: [Word {
            literal: 0,
            bits: 0,
        }; WORDS],
    };

    /// Forgets the code.
    pub(super) const fn clear(&mut self) {
        self.longest = 0;
    }

    /// Reads a literals' section, and writes the literals at the end of `page`. Gives back how many there are. `room` is
    /// for a table that is used meanwhile.
    pub(super) fn read(
        &mut self,
        input: &mut Input<'_>,
        page: &mut [u8],
        room: &mut Table,
    ) -> Option<usize> {
        let first = *input.0.first()?;
        let (kind, format) = (first & 3, first >> 2 & 3);
        if kind < 2 {
            let (bytes, shift) = match format {
                0 | 2 => (1, 3),
                1 => (2, 4),
                _ => (3, 4),
            };
            let count = usize::try_from(number(input.bytes(bytes)?) >> shift).ok()?;
            let place = tail(page, count)?;
            if kind == 0 {
                place.copy_from_slice(input.bytes(count)?);
            } else {
                place.fill(input.byte()?);
            }
            return Some(count);
        }
        let (bytes, width) = match format {
            0 | 1 => (3, 10),
            2 => (4, 14),
            _ => (5, 18),
        };
        let header = number(input.bytes(bytes)?) >> 4;
        let field = |value: u64| usize::try_from(value & !(u64::MAX << width)).ok();
        let (count, coded) = (field(header)?, field(header >> width)?);
        let mut coded = Input(input.bytes(coded)?);
        if kind == 2 {
            self.describe(&mut coded, room)?;
        }
        if self.longest == 0 {
            return None;
        }
        let place = tail(page, count)?;
        if format == 0 {
            self.decode(coded.0, place)?;
            return Some(count);
        }
        let [first, second, third] =
            [coded.array()?, coded.array()?, coded.array()?].map(u16::from_le_bytes);
        let quarter = count.div_ceil(4);
        let mut rest = place;
        for bytes in [first, second, third] {
            let (part, behind) = rest.split_at_mut_checked(quarter)?;
            self.decode(coded.bytes(bytes.into())?, part)?;
            rest = behind;
        }
        self.decode(coded.0, rest)?;
        Some(count)
    }

    /// Reads literals that fill `place` from a stream that has nothing else.
    fn decode(&self, stream: &[u8], place: &mut [u8]) -> Option<()> {
        let mut bits = Backward::new(stream)?;
        for literal in place {
            let word = self.words.get(bits.peek(self.longest))?;
            bits.take(word.bits.into())?;
            *literal = word.literal;
        }
        bits.is_empty().then_some(())
    }

    /// Reads a code's description.
    fn describe(&mut self, input: &mut Input<'_>, room: &mut Table) -> Option<()> {
        self.longest = 0;
        let mut weights = [0_u8; TOLD];
        let header = input.byte()?;
        let told = if let Some(count) = header.checked_sub(127).filter(|&count| count > 0) {
            let count = usize::from(count);
            for pair in weights.get_mut(..count)?.chunks_mut(2) {
                let byte = input.byte()?;
                for (weight, half) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
                    *weight = half;
                }
            }
            count
        } else {
            read_weights(input.bytes(header.into())?, &mut weights, room)?
        };
        let weights = weights.get(..told)?;
        let mut sum = 0_u32;
        for &weight in weights {
            if usize::from(weight) > MAX_WORD_BITS {
                return None;
            }
            sum = sum.checked_add(1 << weight >> 1)?;
        }
        // The last symbol makes it a power of two, and is a power of two itself.
        let longest = sum.checked_ilog2()?.checked_add(1)?;
        let missing = (1_u32 << longest).checked_sub(sum)?;
        if usize::try_from(longest).ok()? > MAX_WORD_BITS || !missing.is_power_of_two() {
            return None;
        }
        let last = u8::try_from(missing.ilog2().checked_add(1)?).ok()?;
        let mut words = self.words.iter_mut();
        for weight in 1..=u8::try_from(longest).ok()? {
            let bits = u8::try_from(longest)
                .ok()?
                .checked_add(1)?
                .checked_sub(weight)?;
            let all = weights.iter().chain([&last]);
            for (literal, _) in (0..=255_u8).zip(all).filter(|(_, of)| **of == weight) {
                for _ in 0..1_u32 << weight >> 1 {
                    *words.next()? = Word { literal, bits };
                }
            }
        }
        self.longest = longest;
        Some(())
    }
}

/// Reads weights that two states tell in turns, and says how many there are.
fn read_weights(bytes: &[u8], weights: &mut [u8; TOLD], table: &mut Table) -> Option<usize> {
    let described = table.read(bytes, MAX_WORD_BITS.checked_add(2)?, WEIGHT_LOG)?;
    let mut bits = Backward::new(bytes.get(described..)?)?;
    let mut state = table.start(&mut bits)?;
    let mut other = table.start(&mut bits)?;
    let mut weights = weights.iter_mut().zip(1..);
    loop {
        let (weight, _) = weights.next()?;
        *weight = table.symbol(state);
        // Where there are no more bits for a state, what the other one tells is the last weight.
        let Some(next) = table.next(state, &mut bits) else {
            let (weight, count) = weights.next()?;
            *weight = table.symbol(other);
            return Some(count);
        };
        (state, other) = (other, next);
    }
}

/// The last `count` bytes of what the page has left.
fn tail(page: &mut [u8], count: usize) -> Option<&mut [u8]> {
    let start = page.len().checked_sub(count)?;
    page.get_mut(start..)
}

/// A number of up to eight bytes, the lowest first.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}
