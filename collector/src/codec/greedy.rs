// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds what a page repeats, for the formats that store literals and matches as bytes.

use super::window::Window;

/// The shortest match that is looked for.
pub(super) const MIN_MATCH: usize = 4;
const HASH_BITS: u32 = 12;
const ENTRIES: usize = 1 << HASH_BITS;
const ENTRY_BYTES: usize = 2;

/// By the hash of four bytes, where they were last seen. An empty place says 0, where four bytes stand as well.
#[derive(Debug)]
pub(super) struct Heads<'m>(&'m mut [[u8; ENTRY_BYTES]; ENTRIES]);

impl<'m> Heads<'m> {
    /// Bytes of memory that the table needs.
    pub(super) const MEMORY_BYTES: usize = ENTRIES * ENTRY_BYTES;

    /// A table at the front of `memory`; none when there is not enough of it.
    pub(super) fn new(memory: &'m mut [u8]) -> Option<Self> {
        let (entries, _) = memory.as_chunks_mut();
        entries.first_chunk_mut().map(Self)
    }

    /// Bits of a hash.
    pub(super) const BITS: u32 = HASH_BITS;

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.0.fill([0; ENTRY_BYTES]);
    }

    /// Where something with this hash was last seen; from now on, it is here.
    #[inline(always)]
    pub(super) fn replace(&mut self, hash: usize, at: usize) -> usize {
        let entry = &mut self.0[hash & (ENTRIES - 1)];
        let earlier = u16::from_le_bytes(*entry);
        *entry = (at as u16).to_le_bytes();
        usize::from(earlier)
    }
}

/// Of four bytes.
#[inline(always)]
fn hash(word: u32) -> usize {
    (word.wrapping_mul(0x9e37_79b1) >> (u32::BITS - HASH_BITS)) as usize
}

/// Takes what was found.
pub(super) trait Sequences {
    /// The farthest that a match may look back.
    const MAX_DISTANCE: usize;
    /// The longer nothing was found, the fewer places are looked at: so many 64ths of the bytes since the last match are left out
    /// each time.
    const HASTE: usize;

    /// The page's bytes from `from` to `at`, which are none or more, and behind them a match of at least [`MIN_MATCH`].
    /// `false` when there is no room for it.
    fn put(
        &mut self,
        window: &Window<'_>,
        from: usize,
        at: usize,
        length: usize,
        distance: usize,
    ) -> bool;
}

/// Finds matches, each the last place that the table offers, and gives back where the literals behind the last one begin;
/// none when there was no room for them.
#[inline(always)]
pub(super) fn find<S: Sequences>(
    window: &Window<'_>,
    heads: &mut Heads<'_>,
    sequences: &mut S,
) -> Option<usize> {
    heads.clear();
    let mut from = 0;
    let Some(last) = window.len().checked_sub(MIN_MATCH) else {
        return Some(from);
    };
    let mut at = 1;
    while at <= last {
        let word = window.word(at);
        let mut earlier = heads.replace(hash(word), at);
        if window.word(earlier) != word || at - earlier > S::MAX_DISTANCE {
            at += 1 + (at - from) * S::HASTE / 64;
            continue;
        }
        let mut start = at;
        while start > from && earlier > 0 && window.byte(start - 1) == window.byte(earlier - 1) {
            start -= 1;
            earlier -= 1;
        }
        let length = window.match_length(earlier, start, at - start + MIN_MATCH);
        if !sequences.put(window, from, start, length, start - earlier) {
            return None;
        }
        at = start + length;
        from = at;
        if at <= last {
            heads.replace(hash(window.word(at - 1)), at - 1);
        }
    }
    Some(from)
}
