// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds what a page repeats: bytes to literals and matches.

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
const HASH_BITS: u32 = 11;
const MASK: usize = CHUNK - 1;

/// Some literals, then a match; the last one of a chunk has no match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) literals: u16,
    /// 3 to 258; 0 for none.
    pub(super) length: u16,
    pub(super) distance: u16,
}

/// A chunk, and what was found in it.
#[derive(Debug)]
pub(super) struct Matches {
    chunk: [u8; CHUNK + PADDING],
    len: usize,
    sequences: [Sequence; CHUNK / MIN_MATCH + 1],
    count: usize,
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
            }; CHUNK / MIN_MATCH + 1],
            count: 0,
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

    /// Takes a chunk of at most [`CHUNK`] bytes and finds its matches.
    pub(super) fn find(&mut self, chunk: &[u8]) {
        self.len = chunk.len();
        self.count = 0;
        self.chunk[..chunk.len()].copy_from_slice(chunk);
        self.chunk[chunk.len()..].fill(0);
        if !self.find_pattern() {
            self.find_by_hash();
        }
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
    fn push_matches(&mut self, mut literals: usize, mut length: usize, distance: usize) {
        while length > 0 {
            // No rest of fewer than three bytes, which could not be a match.
            let now = match length {
                259..=260 => length - 3,
                _ => length.min(MAX_MATCH),
            };
            self.push(literals, now, distance);
            literals = 0;
            length -= now;
        }
    }

    fn push(&mut self, literals: usize, length: usize, distance: usize) {
        self.sequences[self.count] = Sequence {
            literals: literals as u16,
            length: length as u16,
            distance: distance as u16,
        };
        self.count += 1;
    }

    fn find_by_hash(&mut self) {
        self.heads.fill(0);
        let last = self.len.saturating_sub(MIN_MATCH);
        let mut literals_from = 0;
        let mut at = 1;
        while at <= last {
            let word = self.word(at);
            let slot = hash(word);
            let earlier = usize::from(self.heads[slot]);
            self.heads[slot] = at as u16;
            if self.word(earlier) != word {
                at += 1;
                continue;
            }
            let length = self.match_length(earlier, at);
            self.push(at - literals_from, length, at - earlier);
            at += length;
            literals_from = at;
        }
        self.push(self.len - literals_from, 0, 0);
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
