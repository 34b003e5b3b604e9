// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds what a page repeats: bytes to literals and matches.

use super::symbols::{self, DISTANCES, END, FIRST_LENGTH, LENGTH, LITERALS};

/// Bytes that are worked on at a time; a match stays within them. The page of most machines.
pub(super) const CHUNK: usize = 4096;
/// Bytes that are looked at together.
const WORD: usize = 8;
/// The longest match of the format.
pub(super) const MAX_MATCH: usize = 258;
/// The longest pattern whose repetition is seen at once: `struct page` has 64 bytes.
const PATTERN: usize = 64;
/// Matches of three bytes are looked for at this distance only, which is that of numbers of 32 bits.
const NEAR: usize = 4;
/// So many bytes without a match are all looked at. Behind them places are left out, more and more: where nothing was found
/// for so long, little will be.
const PATIENCE: usize = 160;
/// One place is left out for each so many bytes since the last match.
const HASTE: usize = 4;
const HASH_BITS: u32 = 12;
const MASK: usize = CHUNK - 1;
/// A chunk has so many matches at most; behind them is what has no match.
const MOST: usize = (CHUNK - 1) / 3 + 1;
/// A word's first three bytes, the shortest match of the format.
const THREE: u64 = 0xff_ffff;
/// Its first five, the shortest match that is looked for anywhere.
const FIVE: u64 = 0xff_ffff_ffff;
/// Those that are equal in any match at the last distance, whether it begins with the first byte or the second.
const SECOND_TO_FOURTH: u64 = 0xffff_ff00;

/// Some literals, then a match; the last one of a chunk has no match.
///
/// From the lowest bit: 13 bits for the number of literals, 9 for the match's length, 5 for the length's symbol, 5 for the
/// value of its extra bits, 5 for the distance's symbol and the rest for the value of its extra bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sequence(u64);

impl Sequence {
    const LENGTH: u32 = 13;
    const LENGTH_SYMBOL: u32 = 22;
    const LENGTH_EXTRA: u32 = 27;
    const DISTANCE_SYMBOL: u32 = 32;
    const DISTANCE_EXTRA: u32 = 37;

    #[inline(always)]
    pub(super) const fn literals(self) -> usize {
        (self.0 & 0x1fff) as usize
    }
    /// 3 to 258; 0 for none.
    #[inline(always)]
    pub(super) const fn length(self) -> usize {
        (self.0 >> Self::LENGTH & 0x1ff) as usize
    }
    /// Counted from the first length's.
    #[inline(always)]
    pub(super) const fn length_symbol(self) -> usize {
        (self.0 >> Self::LENGTH_SYMBOL & 31) as usize
    }
    #[inline(always)]
    pub(super) const fn length_extra(self) -> u64 {
        self.0 >> Self::LENGTH_EXTRA & 31
    }
    #[inline(always)]
    pub(super) const fn distance_symbol(self) -> usize {
        (self.0 >> Self::DISTANCE_SYMBOL & 31) as usize
    }
    #[inline(always)]
    pub(super) const fn distance_extra(self) -> u64 {
        self.0 >> Self::DISTANCE_EXTRA
    }
}

/// A match's length in a [`Sequence`], for each length less 3.
static LENGTHS: [u32; 256] = {
    let mut bits = [0; 256];
    let mut over = 0;
    while over < 256 {
        let symbol = LENGTH[over] as u32;
        let extra = over as u32 & ((1 << symbols::length_extra_bits(symbol)) - 1);
        bits[over] = (over as u32 + 3) << Sequence::LENGTH
            | symbol << Sequence::LENGTH_SYMBOL
            | extra << Sequence::LENGTH_EXTRA;
        over += 1;
    }
    bits
};

/// How often each symbol stands in a chunk.
#[derive(Debug)]
pub(super) struct Counts {
    literals: [u16; 512],
    distances: [u16; 32],
}

impl Counts {
    /// Of literals, the end and lengths.
    pub(super) fn literals(&self) -> &[u16; LITERALS] {
        self.literals.first_chunk().unwrap_or(&[0; LITERALS])
    }

    /// Of distances.
    pub(super) fn distances(&self) -> &[u16; DISTANCES] {
        self.distances.first_chunk().unwrap_or(&[0; DISTANCES])
    }
}

/// A chunk, and what was found in it.
#[derive(Debug)]
pub(super) struct Matches {
    chunk: [u8; CHUNK + WORD],
    len: usize,
    sequences: [Sequence; MOST],
    count: usize,
    /// Literals among what was found.
    literals: usize,
    counts: Counts,
    /// By the hash of five bytes, where they were last seen. An empty place says 0, where bytes stand as well.
    heads: [u16; 1 << HASH_BITS],
}

impl Matches {
    pub(super) const fn new() -> Self {
        Self {
            chunk: [0; CHUNK + WORD],
            len: 0,
            sequences: [Sequence(0); MOST],
            count: 0,
            literals: 0,
            counts: Counts {
                literals: [0; 512],
                distances: [0; 32],
            },
            heads: [0; 1 << HASH_BITS],
        }
    }

    /// Some of the chunk's bytes.
    #[inline(always)]
    pub(super) fn bytes_at<const N: usize>(&self, at: usize) -> [u8; N] {
        let bytes = self.chunk[at & MASK..].first_chunk();
        bytes.copied().unwrap_or([0; N])
    }

    /// What the chunk consists of, in order.
    pub(super) fn sequences(&self) -> &[Sequence] {
        &self.sequences[..self.count]
    }

    /// How many matches it has.
    pub(super) const fn count(&self) -> usize {
        self.count - 1
    }

    /// How often each symbol stands in the chunk, the end among them.
    pub(super) const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Symbols of literals, lengths and the end together.
    pub(super) const fn symbols(&self) -> usize {
        self.literals + self.count
    }

    /// Takes a chunk of at most [`CHUNK`] bytes and finds its matches; `false` for one that is not worth the work.
    pub(super) fn find(&mut self, chunk: &[u8]) -> bool {
        self.len = chunk.len();
        self.count = 0;
        self.literals = 0;
        self.counts.literals[..LITERALS].fill(0);
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
        let distance_bits = bits_of_distance(distance);
        let mut from = literals;
        let mut before = literals;
        while length > 0 {
            // No rest of fewer than three bytes, which could not be a match.
            let now = match length {
                259..=260 => length - 3,
                _ => length.min(MAX_MATCH),
            };
            self.push(before, now, distance_bits);
            before = 0;
            from += now;
            length -= now;
        }
        self.push_end(from);
    }

    /// Adds literals, which have been counted, and a match.
    #[inline(always)]
    fn push(&mut self, literals: usize, length: usize, distance_bits: u64) {
        let length_bits = self.count_match(length, distance_bits);
        self.literals += literals;
        if let Some(place) = self.sequences.get_mut(self.count) {
            *place = Sequence(distance_bits | length_bits | literals as u64);
            self.count += 1;
        }
    }

    /// Counts a match, and returns its length's part of a [`Sequence`].
    #[inline(always)]
    fn count_match(&mut self, length: usize, distance_bits: u64) -> u64 {
        let sequence = Sequence(distance_bits | u64::from(LENGTHS[(length - 3) & 255]));
        self.counts.literals[FIRST_LENGTH + sequence.length_symbol()] += 1;
        self.counts.distances[sequence.distance_symbol()] += 1;
        sequence.0 ^ distance_bits
    }

    /// Adds the literals from `from` to the chunk's end. They have been counted.
    fn push_end(&mut self, from: usize) {
        self.literals += self.len - from;
        self.sequences[self.count] = Sequence((self.len - from) as u64);
        self.count += 1;
    }

    #[inline(always)]
    fn count_literals(&mut self, from: usize, to: usize) {
        for &byte in &self.chunk[from..to] {
            self.counts.literals[usize::from(byte)] += 1;
        }
    }

    /// The general way: each match at the distance of the one before, or else the one that a table of the last places
    /// offers, or else at a distance that is common.
    // By itself, so that its loop has all registers.
    #[inline(never)]
    fn find_by_hash(&mut self) -> bool {
        self.heads.fill(0);
        let len = self.len.min(CHUNK);
        // Behind it, no whole word is left.
        let end = len.saturating_sub(WORD);
        // What has nothing before it that could be looked at is literals.
        self.count_literals(0, len.min(NEAR));
        let (mut at, mut literals_from) = (NEAR, 0);
        let mut distance = NEAR;
        let mut distance_bits = bits_of_distance(distance);
        let (mut count, mut matched) = (0, 0);
        // Up to here, every byte is looked at.
        let mut patience = PATIENCE.min(end);
        let mut checked = len != CHUNK;
        loop {
            while at < patience {
                let word = self.word(at);
                // Before it is known whether that is needed: it takes longest until something comes of it.
                let head = &mut self.heads[hash(word)];
                let earlier = usize::from(core::mem::replace(head, at as u16));
                // Bytes that are the same are zeros.
                let mut differing = word ^ self.word(at - distance);
                let mut known = WORD;
                if differing & SECOND_TO_FOURTH == 0
                    && (differing as u8 == 0 || differing >> 8 == 0)
                {
                    if differing as u8 != 0 {
                        // Only the first byte differs, as in an array of pointers: it is a literal before the match.
                        self.counts.literals[usize::from(word as u8)] += 1;
                        at += 1;
                        differing = 0;
                        known = WORD - 1;
                    }
                } else {
                    let near = word ^ self.word(at - NEAR);
                    differing = word ^ self.word(earlier);
                    if differing & FIVE == 0 {
                        distance = at - earlier;
                    } else if near & THREE == 0 {
                        distance = NEAR;
                        differing = near;
                    } else {
                        self.counts.literals[usize::from(word as u8)] += 1;
                        at += 1;
                        continue;
                    }
                    distance_bits = bits_of_distance(distance);
                }
                let length = if differing == 0 {
                    self.match_length(distance, at, known)
                } else {
                    (differing.trailing_zeros() >> 3) as usize
                };
                let length_bits = self.count_match(length, distance_bits);
                if let Some(place) = self.sequences.get_mut(count) {
                    *place = Sequence(distance_bits | length_bits | (at - literals_from) as u64);
                    count += 1;
                }
                matched += length;
                at += length;
                literals_from = at;
                patience = (at + PATIENCE).min(end);
                if at < end {
                    // More of a match's places in the table make it worse: the first ones lead to the longest matches.
                    self.heads[hash(self.word(at - 1))] = (at - 1) as u16;
                }
            }
            if at >= end {
                break;
            }
            if !checked && self.looks_random() {
                return false;
            }
            checked = true;
            // The longer nothing was found, the fewer places are looked at.
            let to = (at + (at - literals_from) / HASTE).min(len);
            self.count_literals(at, to);
            at = to;
            patience = (at + 1).min(end);
        }
        self.count_literals(at.min(len), len);
        self.count = count;
        self.literals = literals_from - matched;
        self.push_end(literals_from);
        true
    }

    /// Whether the chunk, which is a whole one, has its bytes spread nearly as evenly as encrypted or compressed ones: a look
    /// at some of it, so that no time is spent where hardly anything can be won. Noise that is repeated as a whole is
    /// missed; that is rare.
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
        // 256 bytes of even chance come to 511 on average, with a standard deviation of 23. Programs that LZ4 compressed, which
        // codes make 4 % shorter, come to 850, text in base64 to 1276, any other text to 2500.
        squares < 1100
    }

    /// How many bytes from `at` on equal those at this distance before; so many are `known` to do.
    #[inline(always)]
    fn match_length(&self, distance: usize, at: usize, known: usize) -> usize {
        let most = MAX_MATCH.min(self.len - at);
        let mut length = known;
        while length < most {
            let differing = self.word(at + length - distance) ^ self.word(at + length);
            if differing != 0 {
                length += (differing.trailing_zeros() >> 3) as usize;
                break;
            }
            length += WORD;
        }
        length.min(most)
    }

    /// Eight bytes from `at` on; at the end some of them are zeros that are not the chunk's.
    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        if at >= CHUNK {
            return behind_the_end();
        }
        let bytes = self.chunk[at..].first_chunk();
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

/// What no place has. To branch to it where nothing ever does takes the processor less than a mask does.
#[cold]
#[inline(never)]
const fn behind_the_end() -> u64 {
    0
}

/// A distance's part of a [`Sequence`].
#[inline(always)]
fn bits_of_distance(distance: usize) -> u64 {
    let (symbol, extra) = symbols::distance(distance as u32 - 1);
    u64::from(symbol) << Sequence::DISTANCE_SYMBOL | u64::from(extra) << Sequence::DISTANCE_EXTRA
}

/// The place of a word's first five bytes.
#[inline(always)]
fn hash(word: u64) -> usize {
    (word.wrapping_mul(0x9e37_79b1_85eb_ca87 << 24) >> (u64::BITS - HASH_BITS)) as usize
}
