// SPDX-License-Identifier: MIT OR Apache-2.0
//! The log until 3.4: text in a ring, and a number that counts all letters that were ever put into it.
//!
//! Source: Linux 2.6.32 `kernel/printk.c`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use super::DmesgError;
use super::lines::Lines;
use super::window::{PAGE_BYTES, WINDOW_BYTES, Window};
use crate::address::VirtAddr;
use crate::io::Source;
use crate::release::Release;
use crate::vmcore::Vmcore;

/// The most bytes of log that can be meant.
const MAX_BYTES: u32 = 1 << 31;

/// Writes the text.
pub(super) fn write<S: Source>(
    vmcore: &mut Vmcore<'_, S>,
    window: &mut Window<'_>,
    lines: &mut Lines<'_>,
) -> Result<(), DmesgError> {
    let info = vmcore.vmcoreinfo();
    let symbol = |name| info.symbol(name).ok_or(DmesgError::MissingKey(name));
    let buffer = VirtAddr(vmcore.read_word(symbol("log_buf")?)?);
    let size = vmcore.read_u32(symbol("log_buf_len")?)?;
    if size == 0 || size > MAX_BYTES {
        return Err(DmesgError::Damaged);
    }
    let size = u64::from(size);
    // It was a `long` until 2.6.24, and then an `int`.
    let end = symbol("log_end")?;
    let end = match Release::parse(vmcore.release()) {
        Some(release) if release < Release::new(2, 6, 25) => vmcore.read_word(end)?,
        _ => vmcore.read_u32(end)?.into(),
    };
    if end < size {
        return put(vmcore, buffer, size, 0, end, window, lines);
    }
    // It went round: the oldest letter is where the next would be put.
    let oldest = end.checked_rem(size).unwrap_or(0);
    put(vmcore, buffer, size, oldest, size, window, lines)?;
    put(vmcore, buffer, size, 0, oldest, window, lines)
}

/// Writes the buffer's bytes from `start` to `end`.
fn put<S: Source>(
    vmcore: &mut Vmcore<'_, S>,
    buffer: VirtAddr,
    size: u64,
    mut start: u64,
    end: u64,
    window: &mut Window<'_>,
    lines: &mut Lines<'_>,
) -> Result<(), DmesgError> {
    while start < end {
        let address = buffer.0.wrapping_add(start);
        let to_page = PAGE_BYTES.saturating_sub(address % PAGE_BYTES);
        let left = end.saturating_sub(start);
        let many = left.min(u64::try_from(WINDOW_BYTES).unwrap_or(PAGE_BYTES));
        let mut done = 0;
        for count in [many, left.min(to_page)] {
            let bytes = usize::try_from(count).unwrap_or(0);
            if let Some(text) = window.view(vmcore, start, bytes, buffer, size) {
                lines.put_text(text)?;
                done = count;
                break;
            }
        }
        if done == 0 {
            lines.lose(1);
            done = left.min(to_page);
        }
        start = start.saturating_add(done);
    }
    Ok(())
}
