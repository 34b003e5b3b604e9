// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds what a page repeats: bytes to literals and matches.

use super::huffman::ROOM;
use super::symbols::{self, DISTANCES, END, FIRST_LENGTH, LITERALS};

/// Bytes that are worked on at a time; a match stays within them. The page of most machines.
pub(super) const CHUNK: usize = 4096;
/// Zeros behind the chunk, so that whole words can be read at its end.
const PADDING: usize = 8;
/// The shortest match that is looked for.
const MIN_MATCH: usize = 4;
/// The longest match of the format.
pub(super) const MAX_MATCH: usize = 258;
/// The longest pattern whose repetition is seen at once: `struct page` has 64 bytes.
const PATTERN: usize = 64;
/// A match of this length is taken without a look at the next byte's.
const GOOD_MATCH: usize = 16;
/// After this many bytes without a match, only every other byte is looked at, and so on.
const PATIENCE: usize = 64;
const HASH_BITS: u32 = 11;
const MASK: usize = CHUNK - 1;

/// Some literals, then a match; the last one of a chunk has no match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) literals: u16,
    /// 3 to 258; 0 for none.
    pub(super) length: u16,
    /// A distance less 1.
    pub(super) distance: u16,
    /// Counted from the first length's.
    pub(super) length_symbol: u8,
    pub(super) distance_symbol: u8,
}

/// How often each symbol stands in a chunk.
#[derive(Debug)]
pub(super) struct Counts {
    literals: [u16; ROOM],
    distances: [u16; 32],
}

impl Counts {
    /// Of literals, the end and lengths.
    pub(super) fn literals(&self) -> &[u16] {
        &self.literals[..LITERALS]
    }

    /// Of distances.
    pub(super) fn distances(&self) -> &[u16] {
        &self.distances[..DISTANCES]
    }
}

/// A chunk, and what was found in it.
#[derive(Debug)]
pub(super) struct Matches {
    chunk: [u8; CHUNK + PADDING],
    len: usize,
    sequences: [Sequence; CHUNK / MIN_MATCH + 1],
    count: usize,
    /// Literals among what was found.
    literals: usize,
    counts: Counts,
    /// By the hash of four bytes, where they were last seen. An empty place says 0, where four bytes stand as well.
    heads: [u16; 1 << HASH_BITS],
}

impl Matches {
    pub(super) const fn new() -> Self {
        Self {
            chunk: [0; CHUNK + PADDING],
            len: 0,
            sequences: [Sequence {
                literals: 0,
                length: 0,
                distance: 0,
                length_symbol: 0,
                distance_symbol: 0,
            }; CHUNK / MIN_MATCH + 1],
            count: 0,
            literals: 0,
            counts: Counts {
                literals: [0; ROOM],
                distances: [0; 32],
            },
            heads: [0; 1 << HASH_BITS],
        }
    }

    /// The chunk's bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.chunk[..self.len]
    }

    /// What the chunk consists of, in order.
    pub(super) fn sequences(&self) -> &[Sequence] {
        &self.sequences[..self.count]
    }

    /// How often each symbol stands in the chunk, the end among them.
    pub(super) const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// More bits than the chunk takes in the fixed code.
    pub(super) const fn most_fixed_bits(&self) -> usize {
        const LITERAL: usize = 9;
        const MATCH: usize = 8 + 5 + 5 + 13;
        const ENDS: usize = 3 + 7;
        ENDS + LITERAL * self.literals + MATCH * self.count
    }

    /// Takes a chunk of at most [`CHUNK`] bytes and finds its matches; `false` for one that is not worth the work.
    pub(super) fn find(&mut self, chunk: &[u8]) -> bool {
        self.len = chunk.len();
        self.count = 0;
        self.literals = 0;
        self.counts.literals.fill(0);
        self.counts.distances.fill(0);
        self.counts.literals[END] = 1;
        self.chunk[..chunk.len()].copy_from_slice(chunk);
        self.chunk[chunk.len()..].fill(0);
        self.find_pattern() || self.find_by_hash()
    }

    /// A chunk that is one short pattern over and over: one value, an array of equal structures.
    fn find_pattern(&mut self) -> bool {
        let bytes = &self.chunk[..self.len];
        let repeats =
            |distance: usize| bytes.get(distance..) == bytes.get(..bytes.len() - distance);
        if bytes.len() < 2 * PATTERN || !repeats(PATTERN) {
            return false;
        }
        let distance = [1, 2, 4, 8, 16, 32]
            .into_iter()
            .find(|&distance| repeats(distance));
        let distance = distance.unwrap_or(PATTERN);
        self.push_matches(distance, self.len - distance, distance);
        true
    }

    /// Adds literals and then a match of any length from 3 on, in pieces.
    fn push_matches(&mut self, literals: usize, mut length: usize, distance: usize) {
        self.count_literals(0, literals);
        let mut at = 0;
        let mut from = literals;
        while length > 0 {
            // No rest of fewer than three bytes, which could not be a match.
            let now = match length {
                259..=260 => length - 3,
                _ => length.min(MAX_MATCH),
            };
            self.push(at, from, now, distance);
            at = from + now;
            from = at;
            length -= now;
        }
    }

    /// Adds the literals from `from` to `at`, and the match there. The literals have been counted.
    #[inline(always)]
    fn push(&mut self, from: usize, at: usize, length: usize, distance: usize) {
        let length_symbol = symbols::LENGTH[(length - 3) & 255];
        let distance_symbol = symbols::distance(distance as u32 - 1) as u8;
        self.counts.literals[(FIRST_LENGTH + usize::from(length_symbol)) & (ROOM - 1)] += 1;
        self.counts.distances[usize::from(distance_symbol & 31)] += 1;
        self.literals += at - from;
        self.sequences[self.count] = Sequence {
            literals: (at - from) as u16,
            length: length as u16,
            distance: (distance - 1) as u16,
            length_symbol,
            distance_symbol,
        };
        self.count += 1;
    }

    /// Adds the literals from `from` to the chunk's end. They have been counted.
    fn push_end(&mut self, from: usize) {
        self.literals += self.len - from;
        self.sequences[self.count] = Sequence {
            literals: (self.len - from) as u16,
            ..Sequence::default()
        };
        self.count += 1;
    }

    #[inline(always)]
    fn count_literal(&mut self, at: usize) {
        let byte = self.chunk[at & MASK];
        self.counts.literals[usize::from(byte)] += 1;
    }

    /// Takes literals back that were counted.
    #[inline(always)]
    fn uncount_literals(&mut self, from: usize, to: usize) {
        for at in from..to {
            let byte = self.chunk[at & MASK];
            self.counts.literals[usize::from(byte)] -= 1;
        }
    }

    #[inline(always)]
    fn count_literals(&mut self, from: usize, to: usize) {
        for &byte in &self.chunk[from..to] {
            self.counts.literals[usize::from(byte)] += 1;
        }
    }

    /// The general way: each match that a table of the last places offers, or the one a byte later where it is longer.
    fn find_by_hash(&mut self) -> bool {
        self.heads.fill(0);
        let last = self.len.saturating_sub(MIN_MATCH);
        // The first byte is a literal.
        self.count_literals(0, self.len.min(1));
        let mut literals_from = 0;
        let mut at = 1;
        // Up to here, every byte is looked at.
        let mut patience = PATIENCE;
        let mut checked = self.len != CHUNK;
        while at <= last {
            let word = self.word(at);
            let mut earlier = self.replace_head(word, at);
            if self.word(earlier) != word {
                self.count_literal(at);
                at += 1;
                if at >= patience {
                    if !checked && self.looks_random() {
                        return false;
                    }
                    checked = true;
                    // The longer nothing was found, the fewer places are looked at.
                    let to = (at + (at - literals_from) / PATIENCE).min(self.len);
                    self.count_literals(at, to);
                    at = to;
                }
                continue;
            }
            let mut length = self.match_length(earlier, at);
            if length < GOOD_MATCH && at < last {
                let next = self.word(at + 1);
                let other = self.replace_head(next, at + 1);
                // Only one that has its last four bytes as well can be longer, and mostly it is the same match.
                let ends = self.word(other + length - 3) == self.word(at + length - 2);
                if ends && self.word(other) == next {
                    let longer = self.match_length(other, at + 1);
                    if longer > length {
                        self.count_literal(at);
                        (at, earlier, length) = (at + 1, other, longer);
                    }
                }
            }
            let back = self
                .match_back(earlier, at, literals_from)
                .min(MAX_MATCH - length);
            (at, earlier, length) = (at - back, earlier - back, length + back);
            self.uncount_literals(at, at + back);
            self.push(literals_from, at, length, at - earlier);
            at += length;
            literals_from = at;
            patience = at + PATIENCE;
            if at <= last {
                // More of a match's places in the table make it worse: the first ones lead to the longest matches.
                self.replace_head(self.word(at - 1), at - 1);
            }
        }
        self.count_literals(at.min(self.len), self.len);
        self.push_end(literals_from);
        true
    }

    /// Whether the chunk, which is a whole one, has its bytes spread as evenly as only encrypted or compressed ones are: a look at some of it, so
    /// that no time is spent where nothing can be won. Noise that is repeated as a whole is missed; that is rare.
    #[cold]
    fn looks_random(&self) -> bool {
        const SAMPLES: usize = 8;
        const SAMPLE_BYTES: usize = 32;
        let mut counts = [0_u16; 256];
        for sample in self.chunk[..CHUNK].chunks_exact(CHUNK / SAMPLES) {
            for &byte in &sample[..SAMPLE_BYTES] {
                counts[usize::from(byte)] += 1;
            }
        }
        let squares: u32 = counts
            .iter()
            .map(|&count| u32::from(count) * u32::from(count))
            .sum();
        // 256 bytes of even chance come to 511 on average, with a standard deviation of 23; text comes to 2500.
        squares < 640
    }

    /// Where a word like this was last seen; from now on, it is here.
    #[inline(always)]
    fn replace_head(&mut self, word: u32, at: usize) -> usize {
        let head = &mut self.heads[hash(word)];
        usize::from(core::mem::replace(head, at as u16))
    }

    /// How many bytes from `at` on equal those from `earlier` on; four do.
    fn match_length(&self, earlier: usize, at: usize) -> usize {
        let most = MAX_MATCH.min(self.len - at);
        let mut length = MIN_MATCH;
        while length < most {
            let differing = self.double_word(earlier + length) ^ self.double_word(at + length);
            if differing != 0 {
                length += (differing.trailing_zeros() >> 3) as usize;
                break;
            }
            length += 8;
        }
        length.min(most)
    }

    /// How many bytes before `at` equal those before `earlier`, as far back as `from`: with gaps between the places that
    /// are looked at, a match may begin before the place where it was found.
    #[inline(always)]
    fn match_back(&self, earlier: usize, at: usize, from: usize) -> usize {
        let most = earlier.min(at - from);
        let mut back = 0;
        while back < most
            && self.chunk[(earlier - back - 1) & MASK] == self.chunk[(at - back - 1) & MASK]
        {
            back += 1;
        }
        back
    }

    #[inline(always)]
    fn word(&self, at: usize) -> u32 {
        let at = at & MASK;
        let bytes = &self.chunk[at..at + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    #[inline(always)]
    fn double_word(&self, at: usize) -> u64 {
        let at = at & MASK;
        let bytes = &self.chunk[at..at + 8];
        u64::from_le_bytes([
            bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
        ])
    }
}

#[inline(always)]
fn hash(word: u32) -> usize {
    (word.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
}
