// SPDX-License-Identifier: MIT OR Apache-2.0
//! A part of the kernel's log buffer in our memory. Records lie one behind the other, so one read serves many.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use crate::address::VirtAddr;
use crate::io::Source;
use crate::vmcore::Vmcore;

/// What is mapped, and can be read, as a whole on every machine.
pub(super) const PAGE_BYTES: u64 = 4096;

/// Bytes of a window.
pub(super) const WINDOW_BYTES: usize = 64 << 10;

/// The part of a buffer that was read last.
pub(super) struct Window<'a> {
    bytes: &'a mut [u8],
    start: u64,
    used: usize,
}

impl<'a> Window<'a> {
    /// Nothing is read yet.
    pub(super) const fn new(bytes: &'a mut [u8]) -> Self {
        Self {
            bytes,
            start: 0,
            used: 0,
        }
    }

    /// `count` bytes of the buffer of `size` bytes at `buffer`, from its byte `start` on; `None` where they cannot be
    /// had.
    pub(super) fn view<S: Source>(
        &mut self,
        vmcore: &mut Vmcore<'_, S>,
        start: u64,
        count: usize,
        buffer: VirtAddr,
        size: u64,
    ) -> Option<&[u8]> {
        let inside = |window: &Self| {
            let from = usize::try_from(start.checked_sub(window.start)?).ok()?;
            let to = from.checked_add(count).filter(|&to| to <= window.used)?;
            Some(from..to)
        };
        if let Some(range) = inside(self) {
            return self.bytes.get(range);
        }
        let to_end = usize::try_from(size.saturating_sub(start)).unwrap_or(usize::MAX);
        let fill = self.bytes.len().min(to_end);
        let place = buffer.checked_add(start)?;
        self.used = 0;
        self.start = start;
        if vmcore
            .read_virtual(place, self.bytes.get_mut(..fill)?)
            .is_ok()
        {
            self.used = fill;
        } else {
            // Something in it cannot be read, which need not be what is wanted, nor the rest of its page.
            let in_page = PAGE_BYTES.saturating_sub(place.0 % PAGE_BYTES);
            let fill = usize::try_from(in_page).ok()?.max(count).min(fill);
            vmcore
                .read_virtual(place, self.bytes.get_mut(..fill)?)
                .ok()?;
            self.used = fill;
        }
        self.bytes.get(..self.used)?.get(..count)
    }
}
