// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arrays of md: what a member says of itself, and the kernel's calls that make an array of members.
//!
//! Source: Linux 6.12 `include/uapi/linux/raid/md_p.h` and `md_u.h`, `drivers/md/md.c`.

use crate::bytes::{Fields, Uuid, read_up_to};
use crate::superblock::md_superblock;
use collector::{IoError, Source};

/// The most devices of an array that can be put together.
pub const MAX_MEMBERS: usize = 32;

/// What a member says: superblock version 1.x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The array's UUID.
    pub array: Uuid,
    /// 0 for 1.0, at the end of the device; 1 and 2 for those at its beginning.
    pub minor_version: u8,
    /// The RAID level; -1 for linear.
    pub level: i32,
    /// How many devices make the array whole.
    pub devices: u32,
    /// Its place among them; none for a spare or a failed one.
    pub place: Option<u16>,
    /// It grows with every change: of two members that disagree, the one that has more is right.
    pub events: u64,
}

/// The block of the superblock with the places of the members.
const BLOCK_BYTES: usize = 4096;

impl Member {
    /// The member on a device; `None` where there is none of version 1.x.
    ///
    /// # Errors
    /// What the device said.
    pub fn read<S: Source + ?Sized>(source: &mut S) -> Result<Option<Self>, IoError> {
        let Some(start) = md_superblock(source)? else {
            return Ok(None);
        };
        let mut block = [0; BLOCK_BYTES];
        let length = read_up_to(source, start, &mut block)?;
        let fields = Fields(block.get(..length).unwrap_or_default());
        let number = usize::try_from(fields.le32(160)).unwrap_or(usize::MAX);
        let in_list = fields.le32(160) < fields.le32(220);
        let role = number
            .checked_mul(2)
            .and_then(|at| at.checked_add(256))
            .filter(|&at| in_list && at < length)
            .map(|at| fields.le16(at));
        Ok(Some(Self {
            array: fields.uuid(16),
            minor_version: match start {
                0 => 1,
                4096 => 2,
                _ => 0,
            },
            level: fields.le32(72).cast_signed(),
            devices: fields.le32(92),
            // What is above is a spare (0xffff), a failed one, or a journal.
            place: role.filter(|&role| role < 0xfffd),
            events: fields.le64(200),
        }))
    }

    /// How many of the devices are enough to read and write all of the array, as far as the level alone says.
    #[must_use]
    pub const fn least(&self) -> u32 {
        match self.level {
            1 => 1,
            // Of each pair one; whether it is one of each the kernel finds out.
            10 => self.devices.div_ceil(2),
            _ => self.devices,
        }
    }
}

/// The module of the kernel that serves a level, and whether it is one that this program puts together.
#[must_use]
pub fn personality(level: &str) -> Option<&'static str> {
    Some(match level {
        "raid0" => "raid0",
        "raid1" => "raid1",
        "raid10" => "raid10",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::superblock::tests::Bytes;

    /// A mirror's second member, with its superblock at this byte.
    fn member(start: usize, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        let mut put = |at: usize, data: &[u8]| {
            bytes[start + at..start + at + data.len()].copy_from_slice(data);
        };
        put(0, &0xa92b_4efc_u32.to_le_bytes());
        put(4, &1_u32.to_le_bytes());
        put(16, &[0x11; 16]);
        put(72, &1_u32.to_le_bytes());
        put(92, &2_u32.to_le_bytes());
        put(144, &(start as u64 / 512).to_le_bytes());
        put(160, &1_u32.to_le_bytes());
        put(200, &77_u64.to_le_bytes());
        put(220, &4_u32.to_le_bytes());
        put(256, &[0, 0, 1, 0, 0xff, 0xff, 0xfe, 0xff]);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Member> {
        Member::read(&mut Bytes(bytes)).unwrap()
    }

    #[test]
    fn a_member_says_which_array_and_which_place() {
        for (start, minor_version) in [(0, 1), (4096, 2), ((1 << 20) - 8192, 0)] {
            assert_eq!(
                read(&member(start, 1 << 20)).unwrap(),
                Member {
                    array: Uuid::new(b"11111111-1111-1111-1111-111111111111"),
                    minor_version,
                    level: 1,
                    devices: 2,
                    place: Some(1),
                    events: 77,
                }
            );
        }
        assert_eq!(read(&[0; 1 << 16]), None);
    }

    #[test]
    fn a_spare_and_a_failed_member_have_no_place() {
        for number in [2_u32, 3, 4, 5, u32::MAX] {
            let mut bytes = member(4096, 1 << 20);
            bytes[4096 + 160..4096 + 164].copy_from_slice(&number.to_le_bytes());
            assert_eq!(read(&bytes).unwrap().place, None, "{number}");
        }
    }

    #[test]
    fn every_truncation_and_flipped_byte_is_a_value() {
        let good = member(4096, 64 << 10);
        for length in (0..8192).step_by(31) {
            let _ = read(&good[..length]);
        }
        for position in 4096..4096 + 300 {
            let mut bytes = good.clone();
            bytes[position] ^= 0xff;
            let _ = read(&bytes);
        }
    }

    #[test]
    fn a_mirror_needs_one_and_stripes_need_all() {
        let least = |level: i32, devices: u32| {
            Member {
                level,
                devices,
                ..read(&member(0, 1 << 20)).unwrap()
            }
            .least()
        };
        assert_eq!((least(1, 3), least(0, 3), least(10, 4)), (1, 3, 2));
    }
}
