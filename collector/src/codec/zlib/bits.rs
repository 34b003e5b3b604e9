// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bits to bytes, the lowest bit first.

/// Bytes behind the written ones that must exist, because whole words are stored.
pub(in crate::codec) const SLACK_BYTES: usize = 8;

/// Appends bits to a slice. At most 56 bits may be put between two flushes.
///
/// What does not fit is dropped: who writes knows the number of bits beforehand and asks [`BitWriter::has_room`].
#[derive(Debug)]
pub(in crate::codec) struct BitWriter<'a> {
    /// What has not been written yet.
    rest: &'a mut [u8],
    waiting: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    pub(in crate::codec) const fn new(out: &'a mut [u8]) -> Self {
        Self {
            rest: out,
            waiting: 0,
            count: 0,
        }
    }

    /// Lets `write` work on a copy of the writer. A copy is kept in registers; the writer itself, which somebody else may
    /// look at, would be brought up to date in memory with every bit.
    #[inline(always)]
    pub(in crate::codec) fn in_registers(&mut self, write: impl FnOnce(&mut BitWriter<'a>)) {
        let mut copy = BitWriter {
            rest: core::mem::take(&mut self.rest),
            waiting: self.waiting,
            count: self.count,
        };
        write(&mut copy);
        *self = copy;
    }

    /// Whether this many bits more, and the padding up to a whole byte, have room.
    pub(in crate::codec) const fn has_room(&self, bits: usize) -> bool {
        let bytes = (self.count as usize + bits).div_ceil(8);
        bytes + SLACK_BYTES <= self.rest.len()
    }

    /// Bytes that have not been written yet.
    pub(in crate::codec) const fn rest_bytes(&self) -> usize {
        self.rest.len()
    }

    /// Whether this many bits may be put before the next flush.
    #[inline(always)]
    pub(in crate::codec) const fn takes(&self, bits: u32) -> bool {
        self.count + bits < u64::BITS
    }

    /// Adds the lowest `count` bits of `value`, which has no others.
    #[inline(always)]
    pub(in crate::codec) const fn put(&mut self, value: u64, count: u32) {
        self.waiting |= value << self.count;
        self.count += count;
    }

    /// Moves whole bytes into the slice.
    #[inline(always)]
    pub(in crate::codec) fn flush(&mut self) {
        let rest = core::mem::take(&mut self.rest);
        if let Some((word, _)) = rest.split_first_chunk_mut() {
            *word = self.waiting.to_le_bytes();
            self.rest = &mut rest[(self.count >> 3 & 7) as usize..];
        }
        self.waiting >>= self.count & 56;
        self.count &= 7;
    }

    /// Fills the last byte up with zeros.
    pub(in crate::codec) fn align(&mut self) {
        self.count = self.count.next_multiple_of(8);
        self.flush();
    }

    /// Adds bytes; the bits before them end with a byte.
    pub(in crate::codec) fn put_bytes(&mut self, bytes: &[u8]) {
        let rest = core::mem::take(&mut self.rest);
        if let Some((place, rest)) = rest.split_at_mut_checked(bytes.len()) {
            place.copy_from_slice(bytes);
            self.rest = rest;
        }
    }
}
