// SPDX-License-Identifier: MIT OR Apache-2.0
//! The superblock of ext2, ext3 and ext4.
//!
//! Source: Linux 6.12 `Documentation/filesystems/ext4/super.rst` and `fs/ext4/ext4.h`.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

use super::{Identity, Kind, Label};
use crate::bytes::{Fields, Uuid, read_up_to};
use crate::text::Text;
use collector::crc::crc32c_raw;
use collector::{IoError, Source};
use core::fmt;

/// Where the superblock lies, in bytes from the start of the device, and how long it is.
const START: usize = 1024;
const LEN: usize = 1024;
const MAGIC: u16 = 0xef53;

const COMPAT_HAS_JOURNAL: u32 = 0x4;
const INCOMPAT_FILETYPE: u32 = 0x2;
const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_JOURNAL_DEV: u32 = 0x8;
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_64BIT: u32 = 0x80;
const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
const RO_COMPAT_LARGE_FILE: u32 = 0x2;
const RO_COMPAT_BTREE_DIR: u32 = 0x4;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;

/// Everything of an incompatible or read-only feature beyond these makes it ext4.
const EXT3_INCOMPAT: u32 = INCOMPAT_FILETYPE | INCOMPAT_RECOVER | INCOMPAT_META_BG;
const EXT3_RO_COMPAT: u32 = RO_COMPAT_SPARSE_SUPER | RO_COMPAT_LARGE_FILE | RO_COMPAT_BTREE_DIR;

const STATE_CLEAN: u16 = 0x1;
const STATE_ERRORS: u16 = 0x2;

/// What the superblock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Which of the three it really is.
    pub kind: Kind,
    /// Its UUID; empty for none.
    pub uuid: Uuid,
    /// Its label; empty for none.
    pub label: Label,
    /// Where it was last mounted; empty when never.
    pub last_mounted: Text<64>,
    /// Bytes a block.
    pub block_bytes: u32,
    /// Blocks in all.
    pub block_count: u64,
    /// Blocks that were free when the superblock was last written.
    pub free_block_count: u64,
    /// There is a journal.
    pub has_journal: bool,
    /// The journal holds what a mount will replay: the file system was not unmounted.
    pub needs_recovery: bool,
    /// It was unmounted cleanly and no check is due.
    pub is_clean: bool,
    /// The kernel found errors in it earlier, and no check has followed.
    pub has_errors: bool,
    /// What its own checksum says.
    pub checksum: Checksum,
}

/// What a superblock's checksum says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// This file system has none.
    Absent,
    /// It fits.
    Good,
    /// It does not: the superblock is damaged.
    Wrong,
}

impl Superblock {
    /// Reads the superblock of `source`; `None` when it has none of this family.
    ///
    /// # Errors
    /// What the device said to the read.
    pub fn read<S: Source + ?Sized>(source: &mut S) -> Result<Option<Self>, IoError> {
        let mut head = [0; START + LEN];
        let len = read_up_to(source, 0, &mut head)?;
        Ok(Self::in_the_head(&Fields(
            head.get(..len).unwrap_or_default(),
        )))
    }

    pub(super) fn in_the_head(head: &Fields<'_>) -> Option<Self> {
        let block: [u8; LEN] = *head.0.get(START..)?.first_chunk()?;
        Self::parse(&block)
    }

    fn parse(block: &[u8; LEN]) -> Option<Self> {
        let fields = Fields(block);
        let log_block_bytes = fields.le32(0x18);
        // Blocks of 1 KiB to 64 KiB are all that exists; the rest is noise with a magic number in it.
        if fields.le16(0x38) != MAGIC || log_block_bytes > 6 {
            return None;
        }
        let has_features = fields.le32(0x4c) != 0;
        let feature = |offset| {
            if has_features { fields.le32(offset) } else { 0 }
        };
        let compat = feature(0x5c);
        let incompat = feature(0x60);
        let ro_compat = feature(0x64);
        let has_journal = compat & COMPAT_HAS_JOURNAL != 0;
        let kind = if incompat & INCOMPAT_JOURNAL_DEV != 0 {
            Kind::ExtJournal
        } else if incompat & !EXT3_INCOMPAT != 0 || ro_compat & !EXT3_RO_COMPAT != 0 {
            Kind::Ext4
        } else if has_journal {
            Kind::Ext3
        } else if incompat & INCOMPAT_RECOVER != 0 {
            // A journal to be replayed and no journal: what only damage leaves behind, and only ext4 looks at.
            Kind::Ext4
        } else {
            Kind::Ext2
        };
        let wide = |low, high| {
            let high = if incompat & INCOMPAT_64BIT != 0 {
                u64::from(fields.le32(high))
            } else {
                0
            };
            high << 32 | u64::from(fields.le32(low))
        };
        let state = fields.le16(0x3a);
        let checksum = if ro_compat & RO_COMPAT_METADATA_CSUM == 0 {
            Checksum::Absent
        } else if crc32c_raw(!0, block.get(..0x3fc).unwrap_or_default()) == fields.le32(0x3fc) {
            Checksum::Good
        } else {
            Checksum::Wrong
        };
        Some(Self {
            kind,
            uuid: fields.uuid(0x68),
            label: fields.text(0x78, 16),
            last_mounted: fields.text(0x88, 64),
            block_bytes: 1024_u32.checked_shl(log_block_bytes).unwrap_or(1024),
            block_count: wide(0x4, 0x150),
            free_block_count: wide(0xc, 0x158),
            has_journal,
            needs_recovery: incompat & INCOMPAT_RECOVER != 0,
            is_clean: state & STATE_CLEAN != 0 && state & STATE_ERRORS == 0,
            has_errors: state & STATE_ERRORS != 0,
            checksum,
        })
    }

    /// The size of the file system in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.block_count.saturating_mul(u64::from(self.block_bytes))
    }

    /// The free space in bytes when the superblock was last written; the journal and a crash make it old.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.free_block_count
            .saturating_mul(u64::from(self.block_bytes))
    }

    /// Its [`Display`](fmt::Display) says more than the type.
    #[must_use]
    pub const fn is_notable(&self) -> bool {
        self.needs_recovery || !self.is_clean || matches!(self.checksum, Checksum::Wrong)
    }

    /// What it is known by.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::new(self.kind, self.uuid, self.label)
    }
}

/// What is worth a person's notice before the mount: `journal to be replayed, errors recorded`.
impl fmt::Display for Superblock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if self.needs_recovery {
            f.write_str(", journal to be replayed")?;
        } else if !self.is_clean && !self.has_errors {
            f.write_str(", not cleanly unmounted")?;
        }
        if self.has_errors {
            f.write_str(", errors recorded: a file system check is due")?;
        }
        if self.checksum == Checksum::Wrong {
            f.write_str(", superblock damaged: its checksum is wrong")?;
        }
        Ok(())
    }
}
