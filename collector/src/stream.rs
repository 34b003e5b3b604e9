// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first kernel's virtual memory, read in order through a window of constant size.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use crate::address::VirtAddr;

/// Fills the buffer with the first kernel's memory from the address on; false where that cannot be had.
pub(crate) type ReadVirtual<'a> = &'a mut dyn FnMut(VirtAddr, &mut [u8]) -> bool;

/// What is mapped as a whole on every machine.
const PAGE_BYTES: u64 = 4096;

/// A stretch of virtual memory that is gone through from its beginning to its end.
pub(crate) struct Stream<'r, 'b> {
    read: ReadVirtual<'r>,
    buf: &'b mut [u8],
    /// What of `buf` is filled and not yet taken.
    from: usize,
    to: usize,
    /// Where the memory behind the filled part is.
    next: VirtAddr,
    /// Bytes behind the filled part that belong to the stretch.
    left: u64,
}

impl<'r, 'b> Stream<'r, 'b> {
    /// The `bytes` bytes from `start` on, through `buf`.
    pub(crate) const fn new(
        read: ReadVirtual<'r>,
        buf: &'b mut [u8],
        start: VirtAddr,
        bytes: u64,
    ) -> Self {
        Self {
            read,
            buf,
            from: 0,
            to: 0,
            next: start,
            left: bytes,
        }
    }

    /// At least `wanted` bytes that follow, as many more as are at hand, none of them taken; `None` where the stretch
    /// ends before, cannot be read, or `wanted` is more than the window.
    pub(crate) fn peek(&mut self, wanted: usize) -> Option<&[u8]> {
        if self.to.saturating_sub(self.from) < wanted {
            self.fill(wanted)?;
        }
        self.buf.get(self.from..self.to)
    }

    /// What follows, at least a byte of it; `None` at the end.
    pub(crate) fn peek_some(&mut self) -> Option<&[u8]> {
        self.peek(1)
    }

    /// Takes `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Option<&[u8]> {
        self.peek(count)?;
        let start = self.from;
        self.from = start.checked_add(count)?;
        self.buf.get(start..self.from)
    }

    /// Goes on behind `count` bytes, which need not be at hand.
    pub(crate) fn skip(&mut self, count: u64) -> Option<()> {
        let here = u64::try_from(self.to.saturating_sub(self.from)).ok()?;
        if let Some(behind) = count.checked_sub(here) {
            self.left = self.left.checked_sub(behind)?;
            self.next = self.next.checked_add(behind)?;
            self.from = self.to;
        } else {
            self.from = self.from.checked_add(usize::try_from(count).ok()?)?;
        }
        Some(())
    }

    /// Moves what is left to the window's beginning and reads on behind it.
    fn fill(&mut self, wanted: usize) -> Option<()> {
        if self.from > 0 {
            self.buf.copy_within(self.from..self.to, 0);
            self.to = self.to.saturating_sub(self.from);
            self.from = 0;
        }
        loop {
            let room = self.buf.len().saturating_sub(self.to);
            let most = room.min(usize::try_from(self.left).unwrap_or(usize::MAX));
            // What is behind the next page may not be there, nor belong to the stretch.
            let in_page = PAGE_BYTES.saturating_sub(self.next.0 % PAGE_BYTES);
            let least = most.min(usize::try_from(in_page).unwrap_or(most));
            self.read_more(most).or_else(|| self.read_more(least))?;
            if self.to >= wanted {
                return Some(());
            }
        }
    }

    /// Reads so many bytes behind what is at hand.
    fn read_more(&mut self, count: usize) -> Option<()> {
        let end = self.to.checked_add(count).filter(|_| count > 0)?;
        let place = self.buf.get_mut(self.to..end)?;
        if !(self.read)(self.next, place) {
            return None;
        }
        let count = u64::try_from(count).ok()?;
        self.next = VirtAddr(self.next.0.wrapping_add(count));
        self.left = self.left.saturating_sub(count);
        self.to = end;
        Some(())
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::as_conversions)]
mod tests {
    use super::*;

    #[test]
    fn any_window_gives_the_same_bytes() {
        let memory: Vec<u8> = (0..=255).collect();
        for window in 4..40 {
            let mut read = |address: VirtAddr, buf: &mut [u8]| {
                let start = usize::try_from(address.0 - 0x1000).unwrap();
                let Some(bytes) = memory.get(start..start + buf.len()) else {
                    return false;
                };
                buf.copy_from_slice(bytes);
                true
            };
            let mut buf = vec![0; window];
            let mut stream = Stream::new(&mut read, &mut buf, VirtAddr(0x1010), 200);
            assert_eq!(stream.take(4), Some(&memory[0x10..0x14]));
            assert_eq!(stream.peek_some().unwrap()[0], 0x14);
            stream.skip(3).unwrap();
            assert_eq!(stream.take(1), Some(&memory[0x17..0x18]));
            stream.skip(100).unwrap();
            assert_eq!(stream.take(4), Some(&memory[0x7c..0x80]));
            stream.skip(84).unwrap();
            assert_eq!(stream.take(4), Some(&memory[0xd4..0xd8]));
            assert_eq!(stream.peek_some(), None, "the stretch ends");
        }
    }

    #[test]
    fn memory_may_end_behind_what_is_wanted() {
        let mut read = |address: VirtAddr, buf: &mut [u8]| {
            buf.fill(7);
            address.0 + buf.len() as u64 <= 0x3000
        };
        let mut buf = [0; 0x4000];
        let mut stream = Stream::new(&mut read, &mut buf, VirtAddr(0x1800), u64::MAX);
        assert_eq!(stream.take(0x1000).map(<[u8]>::len), Some(0x1000));
        assert_eq!(stream.take(0x800).map(<[u8]>::len), Some(0x800));
        assert_eq!(stream.take(1), None);
    }

    #[test]
    fn what_cannot_be_read_or_is_too_long_is_an_end() {
        let mut read = |_: VirtAddr, _: &mut [u8]| false;
        let mut buf = [0; 8];
        let mut stream = Stream::new(&mut read, &mut buf, VirtAddr(0), 100);
        assert_eq!(stream.take(1), None);
        let mut read = |_: VirtAddr, _: &mut [u8]| true;
        let mut stream = Stream::new(&mut read, &mut buf, VirtAddr(0), 100);
        assert_eq!(stream.take(9), None, "more than the window");
        assert_eq!(stream.skip(101), None, "more than the stretch");
    }
}
