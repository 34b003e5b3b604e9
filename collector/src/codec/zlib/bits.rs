// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bits to bytes, the lowest bit first.

/// Bytes behind the written ones that must exist, because whole words are stored.
pub(super) const SLACK_BYTES: usize = 8;

/// Appends bits to a slice. At most 56 bits may be put between two flushes.
///
/// What does not fit is dropped: who writes knows the number of bits beforehand and asks [`BitWriter::has_room`].
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    out: &'a mut [u8],
    at: usize,
    waiting: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) const fn new(out: &'a mut [u8]) -> Self {
        Self {
            out,
            at: 0,
            waiting: 0,
            count: 0,
        }
    }

    /// Whether this many bits more, and the padding up to a whole byte, have room.
    pub(super) const fn has_room(&self, bits: usize) -> bool {
        let bytes = (self.count as usize + bits).div_ceil(8);
        self.at + bytes + SLACK_BYTES <= self.out.len()
    }

    /// Adds the lowest `count` bits of `value`, which has no others.
    #[inline(always)]
    pub(super) const fn put(&mut self, value: u64, count: u32) {
        self.waiting |= value << self.count;
        self.count += count;
    }

    /// Moves whole bytes into the slice.
    #[inline(always)]
    pub(super) fn flush(&mut self) {
        if let Some(word) = self.out.get_mut(self.at..self.at + 8) {
            word.copy_from_slice(&self.waiting.to_le_bytes());
        }
        self.at += (self.count >> 3) as usize;
        self.waiting >>= self.count & 56;
        self.count &= 7;
    }

    /// Fills the last byte up with zeros and returns how many bytes there are.
    pub(super) fn align(&mut self) -> usize {
        self.count = self.count.next_multiple_of(8);
        self.flush();
        self.at
    }

    /// Adds bytes; the bits before them end with a byte.
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) {
        if let Some(place) = self.out.get_mut(self.at..self.at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.at += bytes.len();
    }
}
