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

/// A growing run of bytes. What is before `offset` has been written; the first `held` bytes behind it are in `buf`.
#[derive(Debug)]
pub(super) struct Run<'m> {
    buf: &'m mut [u8],
    offset: u64,
    held: usize,
    /// Bytes behind `offset`: more than are held while those of a batch are still in it.
    len: usize,
    /// Bytes of which a multiple is written; `offset` is a multiple of it away from where the run began.
    unit: usize,
    /// The cut at the last unit boundary that `len` has passed.
    at_unit: Cut,
    /// The cut at `offset`.
    written: Cut,
}

impl<'m> Run<'m> {
    /// A run that begins at `offset` and is written in multiples of `unit` bytes. `buf` has room for what is added between
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
            held: 0,
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

    /// The memory behind what is held.
    pub(super) fn free(&mut self) -> &mut [u8] {
        self.buf.get_mut(self.held..).unwrap_or_default()
    }

    /// What is held.
    pub(super) fn held(&self) -> &[u8] {
        self.buf.get(..self.held).unwrap_or_default()
    }

    /// `bytes` more belong to a page and will come by [`put`](Run::put); the cuts are those before and after that page.
    pub(super) fn grow(&mut self, bytes: usize, before: Cut, after: Cut) {
        let len = self.len.saturating_add(bytes);
        if self.whole_units(len) > self.whole_units(self.len) {
            self.at_unit = if len.is_multiple_of(self.unit) {
                after
            } else {
                before
            };
        }
        self.len = len;
    }

    /// Holds `bytes`, which belong to a page and for which there is room.
    pub(super) fn hold(&mut self, bytes: &[u8], before: Cut, after: Cut) {
        if let Some(place) = self.free().get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
            self.held = self.held.saturating_add(bytes.len());
        }
        self.grow(bytes.len(), before, after);
    }

    /// Holds as much of `bytes` as there is room for, and returns the rest.
    pub(super) fn fill<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let room = self.free().len();
        let (now, later) = bytes
            .split_at_checked(room)
            .unwrap_or((bytes, Default::default()));
        self.hold(now, Cut::default(), Cut::default());
        later
    }

    /// Forgets what waits.
    pub(super) const fn discard(&mut self) {
        self.held = 0;
        self.len = 0;
    }

    /// The pages whose bytes are all on the sink.
    pub(super) const fn written(&self) -> Cut {
        self.written
    }

    /// Writes all whole units of what waits, which is `all`: what is held, and behind it what the run has
    /// [grown](Run::grow) by. The rest is held. Returns how many bytes were written.
    pub(super) fn put<K: Sink>(&mut self, sink: &mut K, all: &[u8]) -> Result<usize, WriteError> {
        debug_assert_eq!(
            self.len,
            all.len(),
            "a batch has other bytes than its pages"
        );
        let bytes = self.whole_units(all.len());
        let (units, rest) = all
            .split_at_checked(bytes)
            .unwrap_or((all, Default::default()));
        self.write(sink, units)?;
        self.discard();
        self.hold(rest, self.at_unit, self.at_unit);
        Ok(bytes)
    }

    /// Writes all whole units that are held. Returns how many bytes were written.
    pub(super) fn flush_units<K: Sink>(&mut self, sink: &mut K) -> Result<usize, WriteError> {
        let bytes = self.whole_units(self.held);
        self.write_held(sink, bytes)?;
        self.buf.copy_within(bytes..self.held, 0);
        self.held = self.held.saturating_sub(bytes);
        self.len = self.held;
        Ok(bytes)
    }

    /// Writes all that waits; `cut` is behind the last page. Returns how many bytes were written.
    pub(super) fn flush_all<K: Sink>(
        &mut self,
        sink: &mut K,
        cut: Cut,
    ) -> Result<usize, WriteError> {
        if self.held != self.len {
            return Err(WriteError::Mismatch("pages without their data"));
        }
        let bytes = self.held;
        self.write_held(sink, bytes)?;
        self.discard();
        self.written = cut;
        Ok(bytes)
    }

    fn whole_units(&self, bytes: usize) -> usize {
        bytes.saturating_sub(bytes.checked_rem(self.unit).unwrap_or(0))
    }

    fn write_held<K: Sink>(&mut self, sink: &mut K, bytes: usize) -> Result<(), WriteError> {
        // Lent for as long as it is written.
        let buf = core::mem::take(&mut self.buf);
        let result = self.write(sink, buf.get(..bytes).unwrap_or_default());
        self.buf = buf;
        result
    }

    fn write<K: Sink>(&mut self, sink: &mut K, data: &[u8]) -> Result<(), WriteError> {
        if data.is_empty() {
            return Ok(());
        }
        sink.write_at(self.offset, data)
            .map_err(|error| WriteError::Sink(self.offset, error))?;
        self.offset = self.offset.saturating_add(as_u64(data.len()));
        self.written = self.at_unit;
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
