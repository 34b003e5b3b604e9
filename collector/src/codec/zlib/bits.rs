// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bits to bytes, the lowest bit first.

/// More than a block of a chunk can take, and a power of two, so that no index is out of range.
const ROOM: usize = 8192;
/// Whole words are stored.
const WORD: usize = 8;

/// A code word and what follows it. From the lowest bit: 8 bits for the word's length, 8 for its length and that of the
/// extra bits behind it, and the word, its first bit lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Word(u32);

impl Word {
    /// A symbol that does not occur.
    pub(super) const NONE: Self = Self(0);

    /// A word of `len` bits.
    #[inline(always)]
    pub(super) const fn new(bits: u32, len: u32) -> Self {
        Self(bits << 16 | len << 8 | len)
    }

    /// The word with this many extra bits behind it.
    pub(super) const fn with_extra(self, extra_bits: u32) -> Self {
        Self(self.0 + (extra_bits << 8))
    }

    /// The word's length.
    #[inline(always)]
    pub(super) const fn len(self) -> u32 {
        self.0 & 255
    }

    /// The length of the word and its extra bits.
    #[inline(always)]
    pub(super) const fn whole_len(self) -> u32 {
        self.0 >> 8 & 255
    }

    /// The word, and behind it the value of its extra bits.
    #[inline(always)]
    pub(super) const fn with_value(self, extra: u64) -> u64 {
        self.bits() | extra << (self.0 & 63)
    }

    #[inline(always)]
    const fn bits(self) -> u64 {
        (self.0 >> 16) as u64
    }
}

/// Memory that bits are gathered in.
#[derive(Debug)]
pub(super) struct Bits {
    bytes: [u8; ROOM + WORD],
    /// Whole bytes that stand there.
    at: usize,
    waiting: u64,
    count: u64,
}

/// A place between two bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    at: usize,
    waiting: u64,
    count: u64,
}

impl Bits {
    pub(super) const fn new() -> Self {
        Self {
            bytes: [0; ROOM + WORD],
            at: 0,
            waiting: 0,
            count: 0,
        }
    }

    /// The whole bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.at & (ROOM - 1)]
    }

    /// Forgets the whole bytes; the rest of the bits stays.
    pub(super) fn forget_bytes(&mut self) {
        self.at = 0;
    }

    /// Begins a new stream.
    pub(super) fn clear(&mut self) {
        (self.at, self.waiting, self.count) = (0, 0, 0);
    }

    /// Where the next bit will stand.
    pub(super) const fn mark(&self) -> Mark {
        Mark {
            at: self.at,
            waiting: self.waiting,
            count: self.count,
        }
    }

    /// Takes back what was written since the mark was made, and no bytes were forgotten.
    pub(super) fn back_to(&mut self, mark: Mark) {
        (self.at, self.waiting, self.count) = (mark.at, mark.waiting, mark.count);
    }

    /// Lets `write` work on a copy of what changes. A copy is kept in registers; this, which somebody else may look at,
    /// would be brought up to date in memory with every bit.
    #[inline(always)]
    pub(super) fn write(&mut self, write: impl FnOnce(&mut BitWriter<'_>)) {
        let mut writer = BitWriter {
            bytes: &mut self.bytes,
            at: self.at,
            waiting: self.waiting,
            count: self.count,
        };
        write(&mut writer);
        writer.flush();
        (self.at, self.waiting, self.count) = (writer.at, writer.waiting, writer.count);
    }
}

/// Appends bits. At most 56 bits may be put between two flushes.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    bytes: &'a mut [u8; ROOM + WORD],
    at: usize,
    /// What has not been written yet.
    waiting: u64,
    /// How many bits that are: its lowest 6 bits say so, and what is above them means nothing.
    count: u64,
}

impl BitWriter<'_> {
    /// Adds the lowest `count` bits of `value`, which has no others.
    #[inline(always)]
    pub(super) const fn put(&mut self, value: u64, count: u32) {
        self.waiting |= value << (self.count & 63);
        self.count = self.count.wrapping_add(count as u64);
    }

    /// Adds a word that has no extra bits.
    #[inline(always)]
    pub(super) const fn put_word(&mut self, word: Word) {
        self.waiting |= word.bits() << (self.count & 63);
        self.count = self.count.wrapping_add(word.0 as u64);
    }

    /// Adds a word that has no extra bits, or nothing.
    #[inline(always)]
    pub(super) const fn put_word_if(&mut self, wanted: bool, word: Word) {
        self.put_word(Word(word.0 & (wanted as u32).wrapping_neg()));
    }

    /// Moves whole bytes into memory.
    #[inline(always)]
    pub(super) fn flush(&mut self) {
        let at = self.at & (ROOM - 1);
        if let Some(place) = self.bytes[at..].first_chunk_mut() {
            *place = self.waiting.to_le_bytes();
        }
        self.at = at + (self.count >> 3 & 7) as usize;
        self.waiting >>= self.count & 56;
        self.count &= 7;
    }

    /// Fills the last byte up with zeros.
    pub(super) fn align(&mut self) {
        self.count = (self.count & 63).next_multiple_of(8);
        self.flush();
    }

    /// Adds bytes; the bits before them end with a byte and are flushed.
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) {
        let at = self.at & (ROOM - 1);
        if let Some(place) = self.bytes[at..].get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
            self.at = at + bytes.len();
        }
    }
}
