// SPDX-License-Identifier: MIT OR Apache-2.0
//! What decoders do with untrusted streams: take bytes from the front, repeat what was written. Nothing here panics.

#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

/// The bytes of a stream that have not been looked at yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte.
    #[inline]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// The next so many bytes.
    #[inline]
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    /// The next `N` bytes.
    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }
}

/// A page in the making.
#[derive(Debug)]
pub(super) struct Output<'a> {
    page: &'a mut [u8],
    done: usize,
}

impl<'a> Output<'a> {
    pub(super) const fn new(page: &'a mut [u8]) -> Self {
        Self { page, done: 0 }
    }

    /// Whether the page is complete.
    pub(super) const fn is_full(&self) -> bool {
        self.done == self.page.len()
    }

    /// Adds bytes; none when they are more than the page has left.
    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.done.checked_add(bytes.len())?;
        self.page.get_mut(self.done..end)?.copy_from_slice(bytes);
        self.done = end;
        Some(())
    }

    /// Adds `length` bytes, each what stands `distance` bytes before it.
    #[inline]
    pub(super) fn repeat(&mut self, distance: usize, length: usize) -> Option<()> {
        let start = self.done.checked_sub(distance).filter(|_| distance > 0)?;
        let end = self.done.checked_add(length)?;
        let page = self.page.get_mut(start..end)?;
        repeat_from(page, distance)?;
        self.done = end;
        Some(())
    }
}

/// Fills `bytes` from `distance` on, each with what stands so many bytes before it.
#[inline]
pub(super) fn repeat_from(bytes: &mut [u8], distance: usize) -> Option<()> {
    // What is there already grows with each copy when the repetition overlaps itself.
    let mut there = distance;
    while there < bytes.len() {
        let (from, to) = bytes.split_at_mut_checked(there)?;
        let now = to.len().min(from.len());
        to.get_mut(..now)?.copy_from_slice(from.get(..now)?);
        there = there.checked_add(now)?;
    }
    Some(())
}
