// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bits of untrusted bytes, from the front or from the back.

#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

/// Up to 57 bits from bit `at` on; bits beyond the end are 0.
#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at >> 3..).unwrap_or_default();
    let word = match rest.first_chunk() {
        Some(word) => u64::from_le_bytes(*word),
        None => {
            let mut word = [0; 8];
            for (place, byte) in word.iter_mut().zip(rest) {
                *place = *byte;
            }
            u64::from_le_bytes(word)
        }
    };
    word >> (at & 7)
}

/// The lowest bits of a number.
#[inline]
const fn lowest(value: u64, bits: u32) -> u64 {
    value & !(u64::MAX << (bits & 63))
}

/// Reads from the first byte's lowest bit on.
#[derive(Debug)]
pub(super) struct Forward<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Forward<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// At most 32 bits.
    pub(super) fn take(&mut self, bits: u32) -> Option<u32> {
        let end = self.at.checked_add(usize::try_from(bits).ok()?)?;
        if end > self.bytes.len().checked_mul(8)? {
            return None;
        }
        let value = lowest(word(self.bytes, self.at), bits);
        self.at = end;
        u32::try_from(value).ok()
    }

    /// Bytes that were begun.
    pub(super) const fn bytes(&self) -> usize {
        self.at.div_ceil(8)
    }
}

/// Reads backwards, from below the last byte's highest bit that is set.
#[derive(Debug)]
pub(super) struct Backward<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Backward<'a> {
    /// None when the last byte is 0, or there is none.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let (last, rest) = bytes.split_last()?;
        let mark = usize::try_from(last.checked_ilog2()?).ok()?;
        let left = rest.len().checked_mul(8)?.checked_add(mark)?;
        Some(Self { bytes, left })
    }

    /// Whether all bits have been read.
    pub(super) const fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// At most 57 bits; none when there are fewer.
    #[inline]
    pub(super) fn take(&mut self, bits: u32) -> Option<u64> {
        self.left = self.left.checked_sub(usize::try_from(bits).ok()?)?;
        Some(lowest(word(self.bytes, self.left), bits))
    }

    /// The next bits without reading them; those that are missing at the end are 0.
    #[inline]
    pub(super) fn peek(&self, bits: u32) -> usize {
        let bits = usize::try_from(bits).unwrap_or(0);
        let value = match self.left.checked_sub(bits) {
            Some(at) => word(self.bytes, at),
            None => word(self.bytes, 0)
                .wrapping_shl(u32::try_from(bits.saturating_sub(self.left)).unwrap_or(0)),
        };
        let value = lowest(value, u32::try_from(bits).unwrap_or(0));
        usize::try_from(value).unwrap_or(0)
    }
}
