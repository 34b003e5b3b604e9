// SPDX-License-Identifier: MIT OR Apache-2.0
//! What wraps other content: members of md arrays, LUKS, physical volumes of LVM2.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

use super::{Identity, Kind, Label};
use crate::bytes::{Fields, Uuid, read_up_to, uuid};
use collector::{IoError, Source};

const MD_MAGIC: u32 = 0xa92b_4efc;
const SECTOR: u64 = 512;

/// What the first bytes of a device tell.
pub(super) fn in_the_head(head: &Fields<'_>) -> Option<Identity> {
    md_1(head, 0, 0)
        .or_else(|| md_1(head, 4096, 8))
        .or_else(|| luks(head))
        .or_else(|| lvm(head))
}

/// What the end of a device tells: md's formats 0.90 and 1.0.
pub(super) fn at_the_end<S: Source + ?Sized>(source: &mut S) -> Result<Option<Identity>, IoError> {
    let size_bytes = source.size_bytes();
    let mut block = [0; 256];
    if let Some(sector) = last_place(size_bytes) {
        let len = read_up_to(source, sector.saturating_mul(SECTOR), &mut block)?;
        let fields = Fields(block.get(..len).unwrap_or_default());
        if let Some(found) = md_1(&fields, 0, sector) {
            return Ok(Some(found));
        }
    }
    // 0.90 fills the last whole 64 KiB.
    if let Some(start) = (size_bytes & !0xffff).checked_sub(0x1_0000) {
        let len = read_up_to(source, start, &mut block)?;
        return Ok(md_0_90(&Fields(block.get(..len).unwrap_or_default())));
    }
    Ok(None)
}

/// Where the superblock of an md member of version 1.x begins, in bytes.
///
/// # Errors
/// What the device said to a read.
pub(crate) fn md_superblock<S: Source + ?Sized>(source: &mut S) -> Result<Option<u64>, IoError> {
    let mut block = [0; 256];
    for sector in [Some(0), Some(8), last_place(source.size_bytes())]
        .into_iter()
        .flatten()
    {
        let start = sector.saturating_mul(SECTOR);
        let len = read_up_to(source, start, &mut block)?;
        let fields = Fields(block.get(..len).unwrap_or_default());
        if md_1(&fields, 0, sector).is_some() {
            return Ok(Some(start));
        }
    }
    Ok(None)
}

/// The sector of md's format 1.0: at least 8 KiB before the end, on a border of 4 KiB.
fn last_place(size_bytes: u64) -> Option<u64> {
    let sectors = size_bytes.checked_div(SECTOR).unwrap_or(0);
    sectors.checked_sub(16).map(|sector| sector & !7)
}

/// Source: Linux 6.12 `include/uapi/linux/raid/md_p.h`, `struct mdp_superblock_1`. The superblock names its own sector,
/// which tells it from a copy that lies elsewhere.
fn md_1(fields: &Fields<'_>, start: usize, sector: u64) -> Option<Identity> {
    let at = |offset: usize| start.saturating_add(offset);
    let is_one =
        fields.le32(at(0)) == MD_MAGIC && fields.le32(at(4)) == 1 && fields.le64(at(144)) == sector;
    is_one.then(|| {
        Identity::new(
            Kind::RaidMember,
            fields.uuid(at(16)),
            fields.text(at(32), 32),
        )
    })
}

/// Source: as above, `mdp_super_t`: words in the order of the machine that made it, which is ours.
fn md_0_90(fields: &Fields<'_>) -> Option<Identity> {
    let is_one = fields.le32(0) == MD_MAGIC && fields.le32(4) == 0 && fields.le32(8) == 90;
    is_one.then(|| {
        let words = [20, 52, 56, 60].map(|offset| fields.le32(offset).to_be_bytes());
        let mut bytes = [0; 16];
        for (place, byte) in bytes.iter_mut().zip(words.as_flattened()) {
            *place = *byte;
        }
        Identity::new(Kind::RaidMember, uuid(&bytes), Label::EMPTY)
    })
}

/// Source: LUKS1 On-Disk Format Specification 1.2.3, figure 1; LUKS2 On-Disk Format Specification 1.1.4, section 2.1.
fn luks(head: &Fields<'_>) -> Option<Identity> {
    let version = head.be16(6);
    (head.has(0, b"LUKS\xba\xbe") && matches!(version, 1 | 2)).then(|| {
        let label = if version == 2 {
            head.text(24, 48)
        } else {
            Label::EMPTY
        };
        Identity::new(Kind::Luks, head.text(168, 40), label)
    })
}

/// The label lies in one of the first four sectors and points to the volume's header, which begins with its UUID.
///
/// Source: LVM2 2.03.16 `lib/label/label.h` and `lib/format_text/layout.h`.
fn lvm(head: &Fields<'_>) -> Option<Identity> {
    for start in [0_usize, 512, 1024, 1536] {
        let at = |offset: usize| start.saturating_add(offset);
        if !head.has(at(0), b"LABELONE") || !head.has(at(24), b"LVM2 001") {
            continue;
        }
        let header_at = usize::try_from(head.le32(at(20))).ok()?;
        let uuid = lvm_uuid(&head.bytes(at(header_at)));
        return Some(Identity::new(Kind::LvmMember, uuid, Label::EMPTY));
    }
    None
}

/// A UUID of LVM as its commands print it.
pub(crate) fn lvm_uuid(characters: &[u8; 32]) -> Uuid {
    let mut text = Uuid::EMPTY;
    for (position, character) in characters.iter().enumerate() {
        if matches!(position, 6 | 10 | 14 | 18 | 22 | 26) {
            text.push(b"-");
        }
        text.push(&[*character]);
    }
    text
}
