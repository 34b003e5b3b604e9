// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes that follow each other in the dumpfile, gathered so that the sink sees few, large and aligned writes.

use super::facts::WriteError;
use crate::io::Sink;

/// Where the pages divide into those that are on the sink and those that are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    /// Pages before the cut.
    pub(super) pages: u64,
    /// The first pfn behind the cut.
    pub(super) pfn: u64,
    /// The pages before the cut that share `pfn`'s byte of the bitmap, as bits of that byte.
    pub(super) bits: u8,
}

impl Cut {
    /// The cut before the page that comes next.
    pub(super) const fn before(self, pfn: u64) -> Self {
        let bits = if pfn >> 3 == self.pfn >> 3 {
            self.bits
        } else {
            0
        };
        Self { pfn, bits, ..self }
    }

    /// The cut behind the page that it was before.
    pub(super) const fn after(self) -> Self {
        let pfn = self.pfn.saturating_add(1);
        let bits = match self.pfn & 7 {
            7 => 0,
            bit => self.bits | 1 << bit,
        };
        Self {
            pages: self.pages.saturating_add(1),
            pfn,
            bits,
        }
    }
}

/// A growing run of bytes. What is before `offset` has been written; `buf[..len]` follows it.
#[derive(Debug)]
pub(super) struct Run<'m> {
    buf: &'m mut [u8],
    offset: u64,
    len: usize,
    /// Bytes that are written at a time; `offset` is a multiple of it away from where the run began.
    unit: usize,
    /// The cut at the last unit boundary that `len` has passed.
    at_unit: Cut,
    /// The cut at `offset`.
    written: Cut,
}

impl<'m> Run<'m> {
    /// A run that begins at `offset` and is written `unit` bytes at a time. `buf` has room for what is added between
    /// two flushes.
    pub(super) const fn new(buf: &'m mut [u8], offset: u64, unit: usize) -> Self {
        let cut = Cut {
            pages: 0,
            pfn: 0,
            bits: 0,
        };
        Self {
            buf,
            offset,
            len: 0,
            unit,
            at_unit: cut,
            written: cut,
        }
    }

    /// Begins anew at `offset`; nothing may be waiting.
    pub(super) fn restart(&mut self, offset: u64) {
        debug_assert_eq!(self.len, 0, "bytes were dropped");
        self.offset = offset;
    }

    /// Where the next byte will stand in the file.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(as_u64(self.len))
    }

    /// The memory behind the last byte, to be filled and then [`grown`](Run::grow) into.
    pub(super) fn free(&mut self) -> &mut [u8] {
        self.buf.get_mut(self.len..).unwrap_or_default()
    }

    /// `bytes` more have been filled, which belong to a page; the cuts are those before and after that page.
    pub(super) fn grow(&mut self, bytes: usize, before: Cut, after: Cut) {
        let whole_units = |len: usize| len.checked_div(self.unit).unwrap_or(0);
        let len = self.len.saturating_add(bytes).min(self.buf.len());
        if whole_units(len) > whole_units(self.len) {
            self.at_unit = if len.is_multiple_of(self.unit) {
                after
            } else {
                before
            };
        }
        self.len = len;
    }

    /// Adds as much of `bytes` as there is room for, and returns the rest.
    pub(super) fn fill<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let free = self.free();
        let (now, later) = bytes
            .split_at_checked(free.len())
            .unwrap_or((bytes, Default::default()));
        for (to, from) in free.chunks_mut(now.len().max(1)).zip([now]) {
            to.copy_from_slice(from);
        }
        self.grow(now.len(), Cut::default(), Cut::default());
        later
    }

    /// Whether the first `bytes` of the free memory equal those at `offset`, which still wait here.
    pub(super) fn repeats(&self, offset: u64, bytes: usize) -> bool {
        let Some((waiting, free)) = self.buf.split_at_checked(self.len) else {
            return false;
        };
        let start = offset.checked_sub(self.offset).map(usize::try_from);
        let Some(Ok(start)) = start else {
            return false;
        };
        let earlier = start
            .checked_add(bytes)
            .and_then(|end| waiting.get(start..end));
        earlier.is_some() && earlier == free.get(..bytes)
    }

    /// Forgets what waits.
    pub(super) const fn discard(&mut self) {
        self.len = 0;
    }

    /// Bytes that wait.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The pages whose bytes are all on the sink.
    pub(super) const fn written(&self) -> Cut {
        self.written
    }

    /// Writes all whole units that wait.
    pub(super) fn flush_units<K: Sink>(&mut self, sink: &mut K) -> Result<(), WriteError> {
        let rest = self.len.checked_rem(self.unit).unwrap_or(0);
        let bytes = self.len.saturating_sub(rest);
        if bytes == 0 {
            return Ok(());
        }
        self.write(sink, bytes)?;
        self.buf.copy_within(bytes..self.len, 0);
        self.len = rest;
        self.written = self.at_unit;
        Ok(())
    }

    /// Writes all that waits; `cut` is behind the last page.
    pub(super) fn flush_all<K: Sink>(&mut self, sink: &mut K, cut: Cut) -> Result<(), WriteError> {
        if self.len != 0 {
            self.write(sink, self.len)?;
            self.len = 0;
        }
        self.written = cut;
        Ok(())
    }

    fn write<K: Sink>(&mut self, sink: &mut K, bytes: usize) -> Result<(), WriteError> {
        let data = self.buf.get(..bytes).unwrap_or_default();
        sink.write_at(self.offset, data)
            .map_err(|error| WriteError::Sink(self.offset, error))?;
        self.offset = self.offset.saturating_add(as_u64(bytes));
        Ok(())
    }
}

/// A length in memory as a length in the file.
#[allow(
    clippy::as_conversions,
    reason = "usize has at most 64 bits on what Linux runs on"
)]
pub(super) const fn as_u64(bytes: usize) -> u64 {
    bytes as u64
}
