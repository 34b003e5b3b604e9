// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which pages a dump level would keep, without reading one of them.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use config::DumpLevel;

use crate::address::Pfn;
use crate::dump::Dump;
use crate::io::Source;
use crate::observer::Observer;
use crate::stats::Stats;
use crate::vmcore::Vmcore;
use crate::{CollectError, READ_BYTES, WINDOW_BYTES, WRITER_BYTES};

/// Counts the pages by kind. Zero pages are not told apart from others, as that takes reading them: `kept` has them.
///
/// `block_pages` is a multiple of 64; `each` is told, in ascending order, how many pages of each block of so many pfns
/// would be kept, where there are any. So a dump can be cut into parts of about the same size. `memory` has
/// [`MEMORY_BYTES`](crate::MEMORY_BYTES).
///
/// # Errors
/// `memory` is too small, or the vmcore has no memory at all.
pub fn survey<S: Source>(
    vmcore: &mut Vmcore<'_, S>,
    level: DumpLevel,
    block_pages: u64,
    each: &mut dyn FnMut(Pfn, u64),
    memory: &mut [u8],
    observer: &mut dyn Observer,
) -> Result<Stats, CollectError> {
    let rest = memory.get_mut(WRITER_BYTES..).ok_or(CollectError::Memory)?;
    let (scratch, window) = rest
        .split_at_mut_checked(READ_BYTES)
        .ok_or(CollectError::Memory)?;
    if window.len() < WINDOW_BYTES {
        return Err(CollectError::Memory);
    }
    let mut dump = Dump::new(vmcore, level, window, scratch, observer);
    dump.stats.present = dump.vmcore.present_pages();
    if dump.stats.present == 0 {
        return Err(CollectError::Damaged("it has no memory at all"));
    }
    let max_mapnr = dump.vmcore.max_mapnr();
    let block_pages = block_pages.max(64);
    // A rule that the kernel's own counters contradict is taken away, as it will be for the dump.
    let base = dump.stats;
    dump.count_checked(max_mapnr);
    let mut stats = Stats {
        level_used: dump.stats.level_used,
        ..base
    };
    if let Some(filter) = &mut dump.filter {
        filter.restart();
    }
    // The block that the last window ended in, and what was counted of it.
    let (mut block, mut pages) = (0_u64, 0_u64);
    let mut start = 0;
    while start < max_mapnr {
        dump.fill_window(start, max_mapnr, &mut stats);
        let end = dump.window.end();
        stats.kept = stats.kept.saturating_add(dump.window.count());
        let mut from = start;
        while from < end {
            let here = from.checked_div(block_pages).unwrap_or(0);
            if here != block {
                if pages > 0 {
                    each(Pfn(block.saturating_mul(block_pages)), pages);
                }
                (block, pages) = (here, 0);
            }
            let to = here
                .saturating_add(1)
                .saturating_mul(block_pages)
                .min(end)
                .max(from.saturating_add(1));
            pages = pages.saturating_add(dump.window.count_between(from, to));
            from = to;
        }
        start = end;
    }
    if pages > 0 {
        each(Pfn(block.saturating_mul(block_pages)), pages);
    }
    Ok(stats)
}
