// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is on a block device, read from its superblock: the answers of `blkid`, without a library and without mounting.
//!
//! Bytes from a disk are not to be trusted: every reader takes any bytes and gives a value or nothing.

pub mod ext;
mod filesystems;
mod members;

pub(crate) use members::{lvm_uuid, md_superblock};

use crate::bytes::{Fields, Uuid, read_up_to};
use crate::text::Text;
use collector::{IoError, Source};
use core::fmt;

/// A label. The longest is btrfs's, of which as much is kept as a label in `kdump.conf` will have.
pub type Label = Text<128>;

/// What kind of thing a superblock describes. The words are those of `blkid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ext2: no journal, and only features that ext2 has.
    Ext2,
    /// ext3: ext2 with a journal.
    Ext3,
    /// ext4: anything of that family beyond ext3.
    Ext4,
    /// The journal of another ext3 or ext4 file system.
    ExtJournal,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// FAT12, FAT16 or FAT32.
    Vfat,
    /// exFAT.
    Exfat,
    /// Minix, version 1, 2 or 3.
    Minix,
    /// Swap space, version 1.
    Swap,
    /// A physical volume of LVM2.
    LvmMember,
    /// A member of an md array.
    RaidMember,
    /// LUKS, version 1 or 2.
    Luks,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Ext2,
        Self::Ext3,
        Self::Ext4,
        Self::ExtJournal,
        Self::Xfs,
        Self::Btrfs,
        Self::Vfat,
        Self::Exfat,
        Self::Minix,
        Self::Swap,
        Self::LvmMember,
        Self::RaidMember,
        Self::Luks,
    ];

    /// What `blkid` calls it; for a file system that is what `mount(2)` calls it too.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::ExtJournal => "jbd",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
            Self::Exfat => "exfat",
            Self::Minix => "minix",
            Self::Swap => "swap",
            Self::LvmMember => "LVM2_member",
            Self::RaidMember => "linux_raid_member",
            Self::Luks => "crypto_LUKS",
        }
    }

    /// One driver, ext4, mounts it.
    #[must_use]
    pub const fn is_ext(self) -> bool {
        matches!(self, Self::Ext2 | Self::Ext3 | Self::Ext4)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why something cannot take a dump, although its kind can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Names end at 14 bytes, and those of a dump are longer.
    ShortNames,
    /// It is spread over this many devices, of which we see one.
    Devices(u64),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShortNames => {
                f.write_str("its names end at 14 bytes, those of a dump are longer")
            }
            Self::Devices(count) => write!(f, "it is spread over {count} devices"),
        }
    }
}

/// What a device is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it is.
    pub kind: Kind,
    /// Its UUID as `blkid` prints it; empty when it has none.
    pub uuid: Uuid,
    /// Its label; empty when it has none.
    pub label: Label,
    /// What keeps it from taking a dump.
    pub obstacle: Option<Obstacle>,
}

impl Identity {
    const fn new(kind: Kind, uuid: Uuid, label: Label) -> Self {
        Self {
            kind,
            uuid,
            label,
            obstacle: None,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if !self.uuid.is_empty() {
            write!(f, " UUID={}", self.uuid)?;
        }
        if !self.label.is_empty() {
            write!(f, " LABEL={}", self.label)?;
        }
        Ok(())
    }
}

/// The bytes from the start of a device that most readers look at: up to and with the 1.2 superblock of md at 4 KiB.
const HEAD_BYTES: usize = 8192;

/// Finds out what is on `source`, or `None` when nothing known is.
///
/// What wraps other content (md, LUKS, LVM) is looked for first: a member of a mirror shows the file system's own
/// superblock too, and must not be mounted beside its twin.
///
/// # Errors
/// What the device said to a read.
pub fn identify<S: Source + ?Sized>(source: &mut S) -> Result<Option<Identity>, IoError> {
    let mut head = [0; HEAD_BYTES];
    let len = read_up_to(source, 0, &mut head)?;
    let head = Fields(head.get(..len).unwrap_or_default());
    if let Some(identity) = members::at_the_end(source)? {
        return Ok(Some(identity));
    }
    let found = members::in_the_head(&head)
        .or_else(|| ext::Superblock::in_the_head(&head).map(|found| found.identity()))
        .or_else(|| filesystems::in_the_head(&head));
    if found.is_some() {
        return Ok(found);
    }
    if let Some(found) = filesystems::exfat(&head, source)? {
        return Ok(Some(found));
    }
    // Last, as its magic number is the shortest.
    Ok(filesystems::btrfs(source)?.or_else(|| filesystems::minix(&head)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A device that is a vector.
    pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

    impl Source for Bytes<'_> {
        fn size_bytes(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
            let start = usize::try_from(offset).map_err(|_| IoError::END)?;
            let from = self.0.get(start..).ok_or(IoError::END)?;
            buf.copy_from_slice(from.get(..buf.len()).ok_or(IoError::END)?);
            Ok(())
        }
    }

    #[test]
    fn nothing_is_found_in_nothing() {
        assert_eq!(identify(&mut Bytes(&[])), Ok(None));
        assert_eq!(identify(&mut Bytes(&[0; 511])), Ok(None));
        assert_eq!(identify(&mut Bytes(&[0; 200_000])), Ok(None));
        assert_eq!(identify(&mut Bytes(&[0xff; 200_000])), Ok(None));
    }

    #[test]
    fn an_unreadable_device_is_an_error() {
        struct Broken;
        impl Source for Broken {
            fn size_bytes(&self) -> u64 {
                1 << 20
            }
            fn read_at(&mut self, _: u64, _: &mut [u8]) -> Result<(), IoError> {
                Err(IoError::IO)
            }
        }
        assert_eq!(identify(&mut Broken), Err(IoError::IO));
    }
}
