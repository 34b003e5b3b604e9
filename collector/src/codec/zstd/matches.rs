// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds what a block repeats: bytes to literals and sequences.

#![allow(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the input is bytes of any value, and no number is taken from it; the tests bound the rest"
)]

use super::super::greedy::Heads;
use super::super::window::{SLACK, Window};
use super::codes::SHORTEST;

/// Bytes of a block. Matches reach back into the blocks before.
pub(super) const BLOCK: usize = 16 << 10;
/// The shortest match at a distance of its own, which takes two bytes or more to say.
const MIN_MATCH: usize = 5;
/// The shortest match at the last distance, which is said in a few bits.
const MIN_REPEAT: usize = 4;
const MOST_SEQUENCES: usize = BLOCK / MIN_REPEAT;
const SEQUENCE_BYTES: usize = 8;
/// After this many bytes without a match, only every other byte is looked at, and so on.
const PATIENCE: usize = 32;
/// A match of this length is taken without a look at the next byte's.
const GOOD_MATCH: usize = 16;

/// Some literals, then a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) literals: u32,
    /// The match's length less 3.
    pub(super) beyond: u32,
    /// 1 to 3 for one of the last distances, or the distance and 3.
    pub(super) offset: u32,
}

/// What was found in a block.
#[derive(Debug)]
pub(super) struct Found<'m> {
    literals: &'m mut [u8; BLOCK + SLACK],
    literal_count: usize,
    sequences: &'m mut [[u8; SEQUENCE_BYTES]; MOST_SEQUENCES],
    count: usize,
    /// The last three distances, as decoders keep them.
    last: [usize; 3],
}

impl<'m> Found<'m> {
    pub(super) const MEMORY_BYTES: usize = BLOCK + SLACK + MOST_SEQUENCES * SEQUENCE_BYTES;

    /// Room at the front of `memory`, and the rest; none when there is not enough of it.
    pub(super) fn new(memory: &'m mut [u8]) -> Option<(Self, &'m mut [u8])> {
        let (literals, rest) = memory.split_first_chunk_mut()?;
        let (sequences, rest) = rest.split_at_mut_checked(MOST_SEQUENCES * SEQUENCE_BYTES)?;
        let found = Self {
            literals,
            literal_count: 0,
            sequences: sequences.as_chunks_mut().0.first_chunk_mut()?,
            count: 0,
            last: [1, 4, 8],
        };
        Some((found, rest))
    }

    /// A frame begins.
    pub(super) fn restart(&mut self) {
        self.last = [1, 4, 8];
    }

    /// The last three distances.
    pub(super) const fn last(&self) -> [usize; 3] {
        self.last
    }

    /// Takes back what a block did to the last three distances.
    pub(super) const fn set_last(&mut self, last: [usize; 3]) {
        self.last = last;
    }

    /// All literals, one after the other.
    pub(super) fn literals(&self) -> &[u8] {
        &self.literals[..self.literal_count]
    }

    /// The sequences. Literals behind the last one belong to none.
    pub(super) fn sequences(
        &self,
    ) -> impl DoubleEndedIterator<Item = Sequence> + ExactSizeIterator {
        self.sequences[..self.count].iter().map(|bytes| {
            let packed = u64::from_le_bytes(*bytes);
            Sequence {
                literals: packed as u32 & 0xffff,
                beyond: (packed >> 16) as u32 & 0xffff,
                offset: (packed >> 32) as u32,
            }
        })
    }

    /// Finds the matches from `start` on, up to `end`.
    pub(super) fn find(
        &mut self,
        window: &Window<'_>,
        heads: &mut Heads<'_>,
        start: usize,
        end: usize,
    ) {
        self.literal_count = 0;
        self.count = 0;
        let mut from = start;
        // Eight bytes are looked at to find a match of five.
        let last = end.saturating_sub(2 * MIN_REPEAT);
        let mut at = start.max(1);
        while at < last {
            let mut distance = self.last[0];
            let word = window.word(at);
            let mut length;
            if at > from && distance <= at && window.word(at - distance) == word {
                length = window.match_length_to(at - distance, at, MIN_REPEAT, end);
            } else {
                let words = window.double_word(at);
                let earlier = heads.replace(hash(words), at);
                if (window.double_word(earlier) ^ words) << (64 - 8 * MIN_MATCH) != 0 {
                    at += 1 + (at - from) / PATIENCE;
                    continue;
                }
                length = window.match_length_to(earlier, at, MIN_MATCH, end);
                distance = at - earlier;
                if length < GOOD_MATCH {
                    let next = at + 1;
                    let again = self.last[0];
                    if again <= next && window.word(next - again) == window.word(next) {
                        // As the distance is the last one, it pays even when it is a little shorter.
                        let other = window.match_length_to(next - again, next, MIN_REPEAT, end);
                        if other + 1 >= length {
                            (at, length, distance) = (next, other, again);
                        }
                    } else {
                        let words = window.double_word(next);
                        let later = heads.replace(hash(words), next);
                        if (window.double_word(later) ^ words) << (64 - 8 * MIN_MATCH) == 0 {
                            let other = window.match_length_to(later, next, MIN_MATCH, end);
                            if other > length {
                                (at, length, distance) = (next, other, next - later);
                            }
                        }
                    }
                }
                while at > from
                    && at > distance
                    && window.byte(at - 1) == window.byte(at - 1 - distance)
                {
                    at -= 1;
                    length += 1;
                }
            }
            self.put(window, from, at, length, distance);
            at += length;
            from = at;
            if at < last {
                heads.replace(hash(window.double_word(at - 2)), at - 2);
                // What follows may be found where it was before the match.
                let again = self.last[1];
                if again <= at && window.word(at - again) == window.word(at) {
                    let length = window.match_length_to(at - again, at, MIN_REPEAT, end);
                    heads.replace(hash(window.double_word(at)), at);
                    self.put(window, from, at, length, again);
                    at += length;
                    from = at;
                }
            }
        }
        self.put_literals(window, from, end);
    }

    #[inline(always)]
    fn put(&mut self, window: &Window<'_>, from: usize, at: usize, length: usize, distance: usize) {
        self.put_literals(window, from, at);
        let [first, second, third] = self.last;
        // Without literals in between, the last distance would have been a longer match.
        let shift = usize::from(at == from);
        let offset = if distance == first && shift == 0 {
            1
        } else if distance == second {
            self.last = [second, first, third];
            2 - shift
        } else if distance == third {
            self.last = [third, first, second];
            3 - shift
        } else {
            self.last = [distance, first, second];
            distance + 3
        };
        let packed =
            (at - from) as u64 | ((length - SHORTEST) as u64) << 16 | (offset as u64) << 32;
        if let Some(place) = self.sequences.get_mut(self.count) {
            *place = packed.to_le_bytes();
            self.count += 1;
        }
    }

    #[inline(always)]
    fn put_literals(&mut self, window: &Window<'_>, from: usize, to: usize) {
        let count = to - from;
        let room = &mut self.literals[self.literal_count..];
        match room.first_chunk_mut::<SLACK>() {
            Some(place) if count <= SLACK => *place = *window.chunk(from),
            _ => room[..count].copy_from_slice(window.bytes(from, to)),
        }
        self.literal_count += count;
    }
}

/// Of five bytes.
#[inline(always)]
fn hash(words: u64) -> usize {
    ((words << 24).wrapping_mul(0x9e37_79b1_85eb_ca87) >> (64 - Heads::BITS)) as usize
}
