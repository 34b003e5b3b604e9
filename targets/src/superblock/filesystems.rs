// SPDX-License-Identifier: MIT OR Apache-2.0
//! UUID and label of what is no ext file system: XFS, btrfs, FAT, exFAT, Minix, swap space.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

use super::{Identity, Kind, Label, Obstacle};
use crate::bytes::{Fields, Uuid, hex, read_up_to};
use collector::{IoError, Source};

/// What the first bytes of a device tell.
pub(super) fn in_the_head(head: &Fields<'_>) -> Option<Identity> {
    xfs(head).or_else(|| swap(head)).or_else(|| fat(head))
}

/// Source: Linux 6.12 `fs/xfs/libxfs/xfs_format.h`, `struct xfs_dsb`.
fn xfs(head: &Fields<'_>) -> Option<Identity> {
    head.has(0, b"XFSB")
        .then(|| Identity::new(Kind::Xfs, head.uuid(32), head.text(108, 12)))
}

/// Source: Linux 6.12 `include/linux/swap.h`, `union swap_header`. The magic ends the first page, whatever its size.
fn swap(head: &Fields<'_>) -> Option<Identity> {
    let has_magic = [4096_usize, 8192]
        .iter()
        .any(|page| head.has(page.saturating_sub(10), b"SWAPSPACE2"));
    (has_magic && head.le32(1024) == 1)
        .then(|| Identity::new(Kind::Swap, head.uuid(1036), head.text(1052, 16)))
}

/// Source: Microsoft's FAT specification (2000), "Boot Sector and BPB".
fn fat(head: &Fields<'_>) -> Option<Identity> {
    let is_fat32 = head.has(82, b"FAT32   ");
    let is_smaller = head.has(54, b"FAT12   ") || head.has(54, b"FAT16   ");
    let sector_bytes = head.le16(11);
    let cluster_sectors = head.u8(13);
    let is_sane = head.has(510, &[0x55, 0xaa])
        && matches!(sector_bytes, 512 | 1024 | 2048 | 4096)
        && cluster_sectors.is_power_of_two()
        && head.le16(14) != 0
        && matches!(head.u8(16), 1 | 2);
    if !is_sane || !(is_fat32 || is_smaller) {
        return None;
    }
    let (serial_at, label_at) = if is_fat32 { (67, 71) } else { (39, 43) };
    let padded: [u8; 11] = head.bytes(label_at);
    let text = padded.trim_ascii_end();
    let label = if text == b"NO NAME" {
        Label::EMPTY
    } else {
        Label::new(text)
    };
    Some(Identity::new(Kind::Vfat, serial(head, serial_at), label))
}

/// A volume's serial number, as `blkid` prints it: `1A2B-3C4D`.
fn serial(head: &Fields<'_>, offset: usize) -> Uuid {
    let [d, c, b, a] = head.bytes(offset);
    let mut uuid = Uuid::EMPTY;
    for (position, byte) in [a, b, c, d].into_iter().enumerate() {
        if position == 2 {
            uuid.push(b"-");
        }
        uuid.push(&hex(byte).map(|digit| digit.to_ascii_uppercase()));
    }
    uuid
}

/// Source: Microsoft's exFAT specification (2019), sections 3.1 and 7.3.
pub(super) fn exfat<S: Source + ?Sized>(
    head: &Fields<'_>,
    source: &mut S,
) -> Result<Option<Identity>, IoError> {
    const VOLUME_LABEL: u8 = 0x83;
    const ENTRY_BYTES: usize = 32;
    let sector_shift = head.u8(108);
    let cluster_shift = head.u8(109);
    let is_sane = head.has(3, b"EXFAT   ")
        && head.has(510, &[0x55, 0xaa])
        && (9..=12).contains(&sector_shift)
        && cluster_shift <= 25_u8.saturating_sub(sector_shift);
    if !is_sane {
        return Ok(None);
    }
    // The label is an entry of the root directory, in whose first cluster every formatter puts it.
    let shift = u32::from(sector_shift);
    let heap = u64::from(head.le32(88)) << shift;
    let root = u64::from(head.le32(96).saturating_sub(2));
    let start = heap.saturating_add(root << shift.saturating_add(u32::from(cluster_shift)));
    let mut entries = [0; 512];
    let len = read_up_to(source, start, &mut entries)?;
    let mut label = Label::EMPTY;
    for entry in entries.get(..len).unwrap_or_default().chunks(ENTRY_BYTES) {
        let entry = Fields(entry);
        if entry.u8(0) == VOLUME_LABEL {
            let units = (0..11_usize)
                .take(usize::from(entry.u8(1)))
                .map(|unit| entry.le16(unit.saturating_mul(2).saturating_add(2)));
            for letter in char::decode_utf16(units) {
                let letter = letter.unwrap_or(char::REPLACEMENT_CHARACTER);
                label.push(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            break;
        }
    }
    Ok(Some(Identity::new(Kind::Exfat, serial(head, 100), label)))
}

/// It has neither UUID nor label, and a magic number of two bytes only, so that the sizes have to make sense too.
///
/// Source: Linux 6.12 `include/uapi/linux/minix_fs.h` and `fs/minix/inode.c`.
pub(super) fn minix(head: &Fields<'_>) -> Option<Identity> {
    const START: usize = 1024;
    let at = |offset: usize| START.saturating_add(offset);
    let (inodes, zones, map_blocks, zone_shift, block_bytes, is_short) =
        match (head.le16(at(16)), head.le16(at(24))) {
            (magic @ (0x137f | 0x138f), _) => (
                u32::from(head.le16(at(0))),
                u32::from(head.le16(at(2))),
                (head.le16(at(4)), head.le16(at(6))),
                head.le16(at(10)),
                1024,
                magic == 0x137f,
            ),
            (magic @ (0x2468 | 0x2478), _) => (
                u32::from(head.le16(at(0))),
                head.le32(at(20)),
                (head.le16(at(4)), head.le16(at(6))),
                head.le16(at(10)),
                1024,
                magic == 0x2468,
            ),
            (_, 0x4d5a) => (
                head.le32(at(0)),
                head.le32(at(20)),
                (head.le16(at(6)), head.le16(at(8))),
                head.le16(at(12)),
                head.le16(at(28)),
                false,
            ),
            _ => return None,
        };
    let bits = u64::from(block_bytes).saturating_mul(8);
    let fits = |blocks: u16, count: u32| u64::from(blocks).saturating_mul(bits) >= u64::from(count);
    let is_sane = inodes > 0
        && zones > 0
        && zone_shift == 0
        && matches!(block_bytes, 1024 | 2048 | 4096)
        && fits(map_blocks.0, inodes)
        && fits(map_blocks.1, zones.saturating_sub(1));
    is_sane.then(|| Identity {
        obstacle: is_short.then_some(Obstacle::ShortNames),
        ..Identity::new(Kind::Minix, Uuid::EMPTY, Label::EMPTY)
    })
}

/// Source: Linux 6.12 `fs/btrfs/disk-io.c` (place) and `include/uapi/linux/btrfs_tree.h`, `struct btrfs_super_block`.
pub(super) fn btrfs<S: Source + ?Sized>(source: &mut S) -> Result<Option<Identity>, IoError> {
    let mut block = [0; 1024];
    let len = read_up_to(source, 65536, &mut block)?;
    let fields = Fields(block.get(..len).unwrap_or_default());
    let device_count = fields.le64(136);
    Ok(fields.has(64, b"_BHRfS_M").then(|| Identity {
        obstacle: (device_count > 1).then_some(Obstacle::Devices(device_count)),
        ..Identity::new(Kind::Btrfs, fields.uuid(32), fields.text(299, 256))
    }))
}
