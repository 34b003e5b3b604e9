// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bits to bytes, the lowest bit first, at the front of a slice.

/// Appends bits to a slice. At most 56 bits may be put between two flushes.
///
/// What does not fit is dropped, as whole words are stored: who writes gives a slice that has 8 bytes to spare.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    /// What has not been written yet.
    rest: &'a mut [u8],
    waiting: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) const fn new(out: &'a mut [u8]) -> Self {
        Self {
            rest: out,
            waiting: 0,
            count: 0,
        }
    }

    /// Lets `write` work on a copy of the writer. A copy is kept in registers; the writer itself, which somebody else may
    /// look at, would be brought up to date in memory with every bit.
    #[inline(always)]
    pub(super) fn in_registers(&mut self, write: impl FnOnce(&mut BitWriter<'a>)) {
        let mut copy = BitWriter {
            rest: core::mem::take(&mut self.rest),
            waiting: self.waiting,
            count: self.count,
        };
        write(&mut copy);
        *self = copy;
    }

    /// Bytes that have not been written yet.
    pub(super) const fn rest_bytes(&self) -> usize {
        self.rest.len()
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
        let rest = core::mem::take(&mut self.rest);
        if let Some((word, _)) = rest.split_first_chunk_mut() {
            *word = self.waiting.to_le_bytes();
            self.rest = &mut rest[(self.count >> 3 & 7) as usize..];
        }
        self.waiting >>= self.count & 56;
        self.count &= 7;
    }

    /// Fills the last byte up with zeros.
    pub(super) fn align(&mut self) {
        self.count = self.count.next_multiple_of(8);
        self.flush();
    }
}
