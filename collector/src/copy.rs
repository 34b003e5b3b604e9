// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vmcore byte by byte: what `cp` and `dd` would write, but past places that cannot be read.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use config::DumpLevel;

use crate::io::{Sink, Source};
use crate::observer::{Observer, Progress, Stage};
use crate::stats::Stats;
use crate::vmcore::Vmcore;
use crate::{CollectError, READ_BYTES};

/// What is tried again by itself, and given up by itself, when a longer read fails.
const RETRY_BYTES: usize = 4096;

/// Copies the whole file.
pub(crate) fn copy<S: Source, K: Sink>(
    vmcore: &mut Vmcore<'_, S>,
    scratch: &mut [u8],
    sink: &mut K,
    observer: &mut dyn Observer,
) -> Result<Stats, CollectError> {
    let scratch = scratch.get_mut(..READ_BYTES).ok_or(CollectError::Memory)?;
    let mut stats = Stats::new(DumpLevel::NONE);
    stats.present = vmcore.present_pages();
    stats.kept = stats.present;
    let total_bytes = vmcore.size_bytes();
    let shift = vmcore.page_shift();
    let total_pages = total_bytes.div_ceil(1_u64.wrapping_shl(shift));
    let mut offset = 0_u64;
    let mut warned = false;
    while offset < total_bytes {
        let len = usize::try_from(total_bytes.saturating_sub(offset))
            .map_or(READ_BYTES, |left| left.min(READ_BYTES));
        match vmcore.source().view(offset, len, scratch) {
            Ok(bytes) => sink
                .write_at(offset, bytes)
                .map_err(|error| CollectError::Sink(offset, error))?,
            Err(_) => {
                let bytes = scratch.get_mut(..len).ok_or(CollectError::Memory)?;
                let mut place = offset;
                for piece in bytes.chunks_mut(RETRY_BYTES) {
                    if let Err(error) = vmcore.source().read_at(place, piece) {
                        piece.fill(0);
                        stats.unreadable = stats.unreadable.saturating_add(1);
                        if !warned {
                            observer.warn(format_args!(
                                "reading the vmcore at byte {place}: {error}; zeros are written in its place, and in place of \
                                 what else cannot be read"
                            ));
                            warned = true;
                        }
                    }
                    place = place.saturating_add(as_u64(piece.len()));
                }
                sink.write_at(offset, bytes)
                    .map_err(|error| CollectError::Sink(offset, error))?;
            }
        }
        offset = offset.saturating_add(as_u64(len));
        stats.written_bytes = offset;
        observer.progress(Progress {
            stage: Stage::Copy,
            done_pages: offset.wrapping_shr(shift),
            total_pages,
            written_bytes: offset,
        });
    }
    observer.progress(Progress {
        stage: Stage::Sync,
        done_pages: total_pages,
        total_pages,
        written_bytes: offset,
    });
    sink.sync()
        .map_err(|error| CollectError::Sink(offset, error))?;
    if stats.unreadable > 0 {
        observer.warn(format_args!(
            "{} times 4 KiB of the vmcore could not be read and are zeros in the copy",
            stats.unreadable
        ));
    }
    Ok(stats)
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
