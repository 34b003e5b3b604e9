// SPDX-License-Identifier: MIT OR Apache-2.0
//! The log from 3.5 to 5.9: records of different lengths, one behind the other in a buffer that is used in turns. A record
//! of length 0 says that the next one is at the buffer's beginning.
//!
//! Where a record cannot be right, the next that can is looked for: records begin at multiples of four bytes, and their
//! lengths lead from one to the next.
//!
//! Source: Linux 4.19 `kernel/printk/printk.c`, `struct printk_log`; Linux 3.5 `kernel/printk.c`, `struct log`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use super::lines::Lines;
use super::window::{PAGE_BYTES, Window};
use super::{DmesgError, Part};
use crate::address::VirtAddr;
use crate::bytes::Abi;
use crate::io::Source;
use crate::vmcore::Vmcore;
use crate::vmcoreinfo::Vmcoreinfo;

/// The most bytes of log that can be meant.
const MAX_BYTES: u32 = 1 << 31;
/// Records are aligned to at least so much.
const ALIGN: u64 = 4;
/// The largest record header that can be meant; it has 16 bytes, or 24 with the caller's id.
const MAX_HEADER_BYTES: usize = 256;

/// Writes the records.
pub(super) fn write<S: Source>(
    vmcore: &mut Vmcore<'_, S>,
    part: Part,
    window: &mut Window<'_>,
    lines: &mut Lines<'_>,
) -> Result<(), DmesgError> {
    let info = vmcore.vmcoreinfo();
    let symbol = |name| info.symbol(name).ok_or(DmesgError::MissingKey(name));
    let layout = RecordLayout::resolve(&info, vmcore.abi())?;
    let buffer = VirtAddr(vmcore.read_word(symbol("log_buf")?)?);
    let size = vmcore.read_u32(symbol("log_buf_len")?)?;
    if size == 0 || size > MAX_BYTES {
        return Err(DmesgError::Damaged);
    }
    let first = match (part, info.symbol("clear_idx")) {
        (Part::SinceClear, Some(cleared)) => cleared,
        _ => symbol("log_first_idx")?,
    };
    let log = Log {
        layout,
        buffer,
        size: size.into(),
    };
    let first = u64::from(vmcore.read_u32(first)?);
    let next = u64::from(vmcore.read_u32(symbol("log_next_idx")?)?);
    let fits = |place: u64| place <= log.size && place.is_multiple_of(ALIGN);
    if !fits(first) || !fits(next) {
        // Both are of no use: every record that the buffer has, from its beginning on.
        lines.lose(1);
        return log.put_all(vmcore, 0, log.size, End::Unknown, window, lines);
    }
    // Both are the same only where there is no record at all.
    if first <= next {
        return log.put_all(vmcore, first, next, End::Newest, window, lines);
    }
    log.put_all(vmcore, first, log.size, End::Mark, window, lines)?;
    log.put_all(vmcore, 0, next, End::Newest, window, lines)
}

/// Where things are in a record's header.
#[derive(Clone, Copy)]
struct RecordLayout {
    abi: Abi,
    bytes: usize,
    time: usize,
    length: usize,
    text_length: usize,
}

impl RecordLayout {
    /// The struct was called `log` until 3.10.
    fn resolve(info: &Vmcoreinfo<'_>, abi: Abi) -> Result<Self, DmesgError> {
        let either = |new, old| info.offset(new).or(info.offset(old));
        let missing = DmesgError::MissingKey;
        let layout = Self {
            abi,
            bytes: info
                .size("printk_log")
                .or(info.size("log"))
                .filter(|bytes| (12..=MAX_HEADER_BYTES).contains(bytes))
                .ok_or(missing("printk_log"))?,
            time: either("printk_log.ts_nsec", "log.ts_nsec")
                .ok_or(missing("printk_log.ts_nsec"))?,
            length: either("printk_log.len", "log.len").ok_or(missing("printk_log.len"))?,
            text_length: either("printk_log.text_len", "log.text_len")
                .ok_or(missing("printk_log.text_len"))?,
        };
        Ok(layout)
    }
}

/// A record's header.
struct Header {
    time_ns: u64,
    /// Bytes of the record, and of the text in it behind the header. 0 is the mark at the end.
    bytes: u64,
    text_bytes: usize,
}

/// What is at the end of a stretch of records.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The buffer's, with the mark of length 0 before it.
    Mark,
    /// The newest record's; a mark before it is damage.
    Newest,
    /// The buffer's, and what is before it need not be a record: what looks like a mark is none.
    Unknown,
}

struct Log {
    layout: RecordLayout,
    buffer: VirtAddr,
    size: u64,
}

impl Log {
    /// The header at a place of the buffer; `None` where there can be none.
    fn header<S: Source>(
        &self,
        vmcore: &mut Vmcore<'_, S>,
        window: &mut Window<'_>,
        place: u64,
    ) -> Option<Header> {
        let RecordLayout {
            abi,
            bytes,
            time,
            length,
            text_length,
        } = self.layout;
        let header_bytes = u64::try_from(bytes).ok()?;
        let left = self.size.checked_sub(place)?;
        if left < header_bytes {
            return None;
        }
        let header = window.view(vmcore, place, bytes, self.buffer, self.size)?;
        let record = u64::from(abi.u16_at(header, length)?);
        let text = abi.u16_at(header, text_length)?;
        let time_ns = abi.u64_at(header, time)?;
        let fits = record <= left && header_bytes.checked_add(text.into())? <= record;
        (record == 0 || (fits && record.is_multiple_of(ALIGN))).then_some(Header {
            time_ns,
            bytes: record,
            text_bytes: text.into(),
        })
    }

    /// Writes the records from one place of the buffer to another, or to the mark at its end.
    fn put_all<S: Source>(
        &self,
        vmcore: &mut Vmcore<'_, S>,
        mut place: u64,
        end: u64,
        kind: End,
        window: &mut Window<'_>,
        lines: &mut Lines<'_>,
    ) -> Result<(), DmesgError> {
        while place < end {
            match self.header(vmcore, window, place) {
                Some(header) if header.bytes == 0 => {
                    if kind == End::Mark {
                        return Ok(());
                    }
                }
                Some(header) => {
                    let text = u64::try_from(self.layout.bytes)
                        .ok()
                        .and_then(|bytes| place.checked_add(bytes));
                    match text.and_then(|text| {
                        window.view(vmcore, text, header.text_bytes, self.buffer, self.size)
                    }) {
                        Some(text) => lines.put_record(header.time_ns, text)?,
                        None => lines.lose(1),
                    }
                    place = place.saturating_add(header.bytes);
                    continue;
                }
                None => {
                    // What is left at the end may be too short for a header.
                    let header_bytes = u64::try_from(self.layout.bytes).unwrap_or(u64::MAX);
                    if kind != End::Newest && end.saturating_sub(place) < header_bytes {
                        return Ok(());
                    }
                }
            }
            lines.lose(1);
            place = self.resume(vmcore, window, place, end);
        }
        Ok(())
    }

    /// The next place at which a record can begin: one that leads to another, or to where the log ends.
    fn resume<S: Source>(
        &self,
        vmcore: &mut Vmcore<'_, S>,
        window: &mut Window<'_>,
        mut place: u64,
        end: u64,
    ) -> u64 {
        loop {
            place = place.saturating_add(ALIGN);
            if place >= end {
                return end;
            }
            let Some(header) = self.header(vmcore, window, place) else {
                let header_bytes = self.layout.bytes;
                if window
                    .view(vmcore, place, header_bytes, self.buffer, self.size)
                    .is_none()
                {
                    // A page that cannot be read is passed over as one.
                    let address = self.buffer.0.wrapping_add(place);
                    let in_page = PAGE_BYTES.saturating_sub(address % PAGE_BYTES);
                    place = place.saturating_add(in_page.saturating_sub(in_page % ALIGN));
                }
                continue;
            };
            let behind = place.saturating_add(header.bytes);
            if header.bytes > 0
                && header.text_bytes > 0
                && (behind == end || self.header(vmcore, window, behind).is_some())
            {
                return place;
            }
        }
    }
}
