// SPDX-License-Identifier: MIT OR Apache-2.0
//! UUID and label of what is no ext file system: XFS, btrfs, FAT, swap space.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

use super::{Identity, Kind, Label};
use crate::bytes::{Fields, Uuid, hex, read_up_to};
use collector::{IoError, Source};

/// What the first bytes of a device tell.
pub(super) fn in_the_head(head: &Fields<'_>) -> Option<Identity> {
    xfs(head).or_else(|| swap(head)).or_else(|| fat(head))
}

/// Source: Linux 6.12 `fs/xfs/libxfs/xfs_format.h`, `struct xfs_dsb`.
fn xfs(head: &Fields<'_>) -> Option<Identity> {
    head.has(0, b"XFSB").then(|| Identity {
        kind: Kind::Xfs,
        uuid: head.uuid(32),
        label: head.text(108, 12),
    })
}

/// Source: Linux 6.12 `include/linux/swap.h`, `union swap_header`. The magic ends the first page, whatever its size.
fn swap(head: &Fields<'_>) -> Option<Identity> {
    let has_magic = [4096_usize, 8192]
        .iter()
        .any(|page| head.has(page.saturating_sub(10), b"SWAPSPACE2"));
    (has_magic && head.le32(1024) == 1).then(|| Identity {
        kind: Kind::Swap,
        uuid: head.uuid(1036),
        label: head.text(1052, 16),
    })
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
    let [d, c, b, a] = head.bytes(serial_at);
    let mut uuid = Uuid::EMPTY;
    for (position, byte) in [a, b, c, d].into_iter().enumerate() {
        if position == 2 {
            uuid.push(b"-");
        }
        uuid.push(&hex(byte).map(|digit| digit.to_ascii_uppercase()));
    }
    let padded: [u8; 11] = head.bytes(label_at);
    let text = padded.trim_ascii_end();
    Some(Identity {
        kind: Kind::Vfat,
        uuid,
        label: if text == b"NO NAME" {
            Label::EMPTY
        } else {
            Label::new(text)
        },
    })
}

/// Source: Linux 6.12 `fs/btrfs/disk-io.c` (place) and `include/uapi/linux/btrfs_tree.h`, `struct btrfs_super_block`.
pub(super) fn btrfs<S: Source + ?Sized>(source: &mut S) -> Result<Option<Identity>, IoError> {
    let mut block = [0; 1024];
    let len = read_up_to(source, 65536, &mut block)?;
    let fields = Fields(block.get(..len).unwrap_or_default());
    Ok(fields.has(64, b"_BHRfS_M").then(|| Identity {
        kind: Kind::Btrfs,
        uuid: fields.uuid(32),
        label: fields.text(299, 256),
    }))
}
