// SPDX-License-Identifier: MIT OR Apache-2.0
//! The GUID partition table.
//!
//! Source: UEFI specification 2.10, section 5.3.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

use super::{Partition, Table, TableError};
use crate::bytes::{Fields, Uuid, read_up_to, uuid};
use collector::crc::crc32;
use collector::{IoError, Source};

const HEADER_BYTES: usize = 92;
/// An entry has at least 128 bytes; more are for a future that has not come.
const ENTRY_BYTES: usize = 128;
/// More entries than any tool makes, and few enough to check in a moment.
const MAX_TABLE_BYTES: u64 = 1 << 20;

struct Header {
    entries_lba: u64,
    entry_count: u32,
    entry_bytes: u32,
    entries_crc: u32,
}

pub(super) fn partitions<S: Source + ?Sized>(
    source: &mut S,
    sector_bytes: u32,
    visit: &mut dyn FnMut(&Partition),
) -> Result<Table, TableError> {
    let sectors = source
        .size_bytes()
        .checked_div(u64::from(sector_bytes))
        .unwrap_or(0);
    let mut read_error = None;
    for (lba, from_backup) in [(1, false), (sectors.saturating_sub(1), true)] {
        match checked(source, sector_bytes, lba) {
            Ok(Some(header)) => {
                show(source, sector_bytes, &header, visit)?;
                return Ok(Table::Gpt { from_backup });
            }
            Ok(None) => {}
            // One bad sector must not hide the other copy.
            Err(error) => read_error = read_error.or(Some(error)),
        }
    }
    Err(read_error.map_or(TableError::BothGptDamaged, TableError::Io))
}

/// The header at `lba`, when it and its entries are whole.
fn checked<S: Source + ?Sized>(
    source: &mut S,
    sector_bytes: u32,
    lba: u64,
) -> Result<Option<Header>, IoError> {
    let mut sector = [0; 512];
    let start = lba.saturating_mul(u64::from(sector_bytes));
    let len = read_up_to(source, start, &mut sector)?;
    let fields = Fields(sector.get(..len).unwrap_or_default());
    let header_len = usize::try_from(fields.le32(12)).unwrap_or(usize::MAX);
    let Some(header) = fields.0.get(..header_len) else {
        return Ok(None);
    };
    if !fields.has(0, b"EFI PART") || header_len < HEADER_BYTES || fields.le64(24) != lba {
        return Ok(None);
    }
    // The checksum counts its own field as zero.
    let (before, rest) = header.split_at(16);
    let after = rest.get(4..).unwrap_or_default();
    if crc32(crc32(crc32(0, before), &[0; 4]), after) != fields.le32(16) {
        return Ok(None);
    }
    let header = Header {
        entries_lba: fields.le64(72),
        entry_count: fields.le32(80),
        entry_bytes: fields.le32(84),
        entries_crc: fields.le32(88),
    };
    Ok(entries_are_whole(source, sector_bytes, &header)?.then_some(header))
}

fn entries_are_whole<S: Source + ?Sized>(
    source: &mut S,
    sector_bytes: u32,
    header: &Header,
) -> Result<bool, IoError> {
    let table_bytes = u64::from(header.entry_count).saturating_mul(u64::from(header.entry_bytes));
    let entry_is_sane = usize::try_from(header.entry_bytes).is_ok_and(|len| len >= ENTRY_BYTES);
    if !entry_is_sane || table_bytes > MAX_TABLE_BYTES {
        return Ok(false);
    }
    let mut at = header.entries_lba.saturating_mul(u64::from(sector_bytes));
    let end = at.saturating_add(table_bytes);
    let mut crc = 0;
    let mut buf = [0; 4096];
    while at < end {
        let wanted = usize::try_from(end.saturating_sub(at))
            .unwrap_or(usize::MAX)
            .min(buf.len());
        let part = buf.get_mut(..wanted).unwrap_or_default();
        let len = read_up_to(source, at, part)?;
        if len < wanted {
            return Ok(false);
        }
        crc = crc32(crc, part);
        at = at.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
    }
    Ok(crc == header.entries_crc)
}

fn show<S: Source + ?Sized>(
    source: &mut S,
    sector_bytes: u32,
    header: &Header,
    visit: &mut dyn FnMut(&Partition),
) -> Result<(), IoError> {
    let sector_bytes = u64::from(sector_bytes);
    let mut at = header.entries_lba.saturating_mul(sector_bytes);
    for number in 1..=header.entry_count {
        let mut entry = [0; ENTRY_BYTES];
        source.read_at(at, &mut entry)?;
        at = at.saturating_add(u64::from(header.entry_bytes));
        let fields = Fields(&entry);
        let (first, last) = (fields.le64(32), fields.le64(40));
        if fields.bytes::<16>(0) == [0; 16] || last < first {
            continue;
        }
        visit(&Partition {
            number,
            start_bytes: first.saturating_mul(sector_bytes),
            size_bytes: last
                .saturating_sub(first)
                .saturating_add(1)
                .saturating_mul(sector_bytes),
            uuid: guid(&fields.bytes(16)),
        });
    }
    Ok(())
}

/// A GUID's first three groups are little-endian numbers.
fn guid(bytes: &[u8; 16]) -> Uuid {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *bytes;
    let mut ordered = [0; 16];
    let groups = [d, c, b, a, f, e, h, g];
    for (place, byte) in ordered.iter_mut().zip(groups.iter().chain(&rest)) {
        *place = *byte;
    }
    uuid(&ordered)
}
