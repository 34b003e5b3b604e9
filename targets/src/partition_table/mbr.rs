// SPDX-License-Identifier: MIT OR Apache-2.0
//! The MBR, with the logical partitions in extended ones.
//!
//! Source: Linux 6.12 `block/partitions/msdos.c` for the numbers that logical partitions get; `blkid`(8) for PARTUUID.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

use super::Partition;
use crate::bytes::{Fields, Uuid, read_up_to};
use crate::text::Text;
use collector::{IoError, Source};

const ENTRIES: [usize; 4] = [446, 462, 478, 494];
const PROTECTIVE: u8 = 0xee;
/// How many links of a chain of extended partitions the kernel follows, so that a loop ends.
const MAX_LINKS: u32 = 100;

struct Entry {
    kind: u8,
    start: u64,
    count: u64,
}

impl Entry {
    fn read(sector: &Fields<'_>, offset: usize) -> Self {
        let at = |field: usize| offset.saturating_add(field);
        Self {
            kind: sector.u8(at(4)),
            start: u64::from(sector.le32(at(8))),
            count: u64::from(sector.le32(at(12))),
        }
    }

    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }
}

fn has_signature(sector: &Fields<'_>) -> bool {
    sector.has(510, &[0x55, 0xaa])
}

/// The first sector holds a table. A FAT boot sector ends in the same two bytes, but has code where a table has its boot
/// flags, or names itself.
pub(super) fn is_table(head: &Fields<'_>) -> bool {
    let names_itself = head.has(54, b"FAT1") || head.has(82, b"FAT32");
    has_signature(head)
        && !names_itself
        && ENTRIES.iter().all(|&offset| head.u8(offset) & 0x7f == 0)
}

/// The table only says that a GPT follows.
pub(super) fn is_protective(head: &Fields<'_>) -> bool {
    ENTRIES
        .iter()
        .any(|&offset| Entry::read(head, offset).kind == PROTECTIVE)
}

pub(super) fn partitions<S: Source + ?Sized>(
    source: &mut S,
    head: &Fields<'_>,
    sector_bytes: u32,
    visit: &mut dyn FnMut(&Partition),
) -> Result<(), IoError> {
    let disk = head.le32(440);
    let mut show = |number: u32, start: u64, count: u64| {
        visit(&Partition {
            number,
            start_bytes: start.saturating_mul(u64::from(sector_bytes)),
            size_bytes: count.saturating_mul(u64::from(sector_bytes)),
            uuid: if disk == 0 {
                Uuid::EMPTY
            } else {
                Text::format(format_args!("{disk:08x}-{number:02x}"))
            },
        });
    };
    let mut next_logical = 5;
    for (number, offset) in (1..).zip(ENTRIES) {
        let entry = Entry::read(head, offset);
        if entry.count == 0 {
            continue;
        }
        show(number, entry.start, entry.count);
    }
    for offset in ENTRIES {
        let entry = Entry::read(head, offset);
        if entry.count != 0 && entry.is_extended() {
            logical(source, &entry, sector_bytes, &mut next_logical, &mut show)?;
        }
    }
    Ok(())
}

/// Follows the chain of one extended partition. Each link is a table of its own: at most one partition and the next link,
/// the partition counted from the link, the next link counted from the extended partition's start.
fn logical<S: Source + ?Sized>(
    source: &mut S,
    extended: &Entry,
    sector_bytes: u32,
    next_number: &mut u32,
    show: &mut dyn FnMut(u32, u64, u64),
) -> Result<(), IoError> {
    let mut link = extended.start;
    for _ in 0..MAX_LINKS {
        let mut sector = [0; 512];
        let len = read_up_to(
            source,
            link.saturating_mul(u64::from(sector_bytes)),
            &mut sector,
        )?;
        let table = Fields(sector.get(..len).unwrap_or_default());
        if !has_signature(&table) {
            return Ok(());
        }
        // Only the first two entries have a meaning; some tools leave noise in the others.
        let mut following = None;
        for entry in ENTRIES
            .iter()
            .take(2)
            .map(|&offset| Entry::read(&table, offset))
        {
            if entry.count == 0 {
                continue;
            }
            if entry.is_extended() {
                following = following.or(Some(extended.start.saturating_add(entry.start)));
            } else {
                show(*next_number, link.saturating_add(entry.start), entry.count);
                *next_number = next_number.saturating_add(1);
            }
        }
        match following {
            Some(next) => link = next,
            None => return Ok(()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Table;
    use super::super::tests::list;

    fn entry(disk: &mut [u8], sector: usize, index: usize, kind: u8, start: u32, count: u32) {
        let at = sector * 512 + 446 + index * 16;
        disk[at + 4] = kind;
        disk[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        disk[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
        disk[sector * 512 + 510..sector * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
    }

    fn sample() -> Vec<u8> {
        let mut disk = vec![0; 64 * 512];
        disk[440..444].copy_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
        entry(&mut disk, 0, 0, 0x83, 2, 4);
        entry(&mut disk, 0, 2, 0x05, 10, 40);
        entry(&mut disk, 10, 0, 0x83, 1, 5);
        entry(&mut disk, 10, 1, 0x05, 10, 10);
        entry(&mut disk, 20, 0, 0x82, 2, 6);
        disk
    }

    #[test]
    fn primary_and_logical_partitions_have_the_kernels_numbers() {
        let (table, seen) = list(&sample(), 512).unwrap();
        assert_eq!(table, Table::Mbr);
        let seen: Vec<_> = seen
            .iter()
            .map(|p| (p.uuid.to_string(), p.start_bytes / 512, p.size_bytes / 512))
            .collect();
        assert_eq!(
            seen,
            [
                ("1a2b3c4d-01".into(), 2, 4),
                ("1a2b3c4d-03".into(), 10, 40),
                ("1a2b3c4d-05".into(), 11, 5),
                ("1a2b3c4d-06".into(), 22, 6),
            ]
        );
    }

    #[test]
    fn a_chain_that_leads_back_to_itself_ends() {
        let mut disk = sample();
        entry(&mut disk, 20, 1, 0x05, 0, 10);
        let (_, seen) = list(&disk, 512).unwrap();
        assert_eq!(seen.len(), 2 + 100);
    }

    #[test]
    fn a_disk_without_a_signature_gives_no_partuuid() {
        let mut disk = sample();
        disk[440..444].fill(0);
        assert!(
            list(&disk, 512)
                .unwrap()
                .1
                .iter()
                .all(|p| p.uuid.is_empty())
        );
    }

    #[test]
    fn a_fat_boot_sector_is_no_table() {
        let mut disk = sample();
        disk[54..62].copy_from_slice(b"FAT16   ");
        assert_eq!(list(&disk, 512), Ok((Table::Absent, vec![])));
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_gives_a_value() {
        let disk = sample();
        for len in 0..disk.len() {
            let _ = list(&disk[..len], 512);
        }
        let mut disk = disk;
        for position in 0..disk.len() {
            disk[position] ^= 0xff;
            let (_, seen) = list(&disk, 512).unwrap_or((Table::Absent, vec![]));
            assert!(seen.len() <= 4 + 4 * 100);
            disk[position] ^= 0xff;
        }
    }
}
