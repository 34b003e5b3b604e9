// SPDX-License-Identifier: MIT OR Apache-2.0
//! The partition table of a disk: which partitions it has, and the PARTUUID of each as `blkid` prints it.

mod gpt;
mod mbr;

use crate::bytes::{Fields, Uuid, read_up_to};
use collector::{IoError, Source};
use core::fmt;

/// One partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, as the kernel appends it to the disk's name.
    pub number: u32,
    /// Where it begins, in bytes from the start of the disk.
    pub start_bytes: u64,
    /// How long it is.
    pub size_bytes: u64,
    /// Its PARTUUID; empty when the table gives it none (an MBR without a disk signature).
    pub uuid: Uuid,
}

/// Which table was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// The disk has no partition table.
    Absent,
    /// A GPT.
    Gpt {
        /// Its first copy is damaged; what was read is the copy at the end of the disk.
        from_backup: bool,
    },
    /// An MBR.
    Mbr,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "no partition table",
            Self::Gpt { from_backup: false } => "gpt",
            Self::Gpt { from_backup: true } => "gpt (first copy damaged)",
            Self::Mbr => "dos",
        })
    }
}

/// Why a partition table cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// The disk could not be read.
    Io(IoError),
    /// The disk says that it has a GPT, and both copies of it are damaged.
    BothGptDamaged,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "reading the partition table: {error}"),
            Self::BothGptDamaged => f.write_str("both copies of the gpt are damaged"),
        }
    }
}

impl core::error::Error for TableError {}

impl From<IoError> for TableError {
    fn from(error: IoError) -> Self {
        Self::Io(error)
    }
}

/// Reads the table of the disk `source`, whose logical sectors have `sector_bytes`, and shows `visit` each partition in
/// the table's order.
///
/// # Errors
/// See [`TableError`]. Partitions that `visit` has seen by then are good.
pub fn partitions<S: Source + ?Sized>(
    source: &mut S,
    sector_bytes: u32,
    visit: &mut dyn FnMut(&Partition),
) -> Result<Table, TableError> {
    let mut sector = [0; 512];
    let len = read_up_to(source, 0, &mut sector)?;
    let head = Fields(sector.get(..len).unwrap_or_default());
    if !mbr::is_table(&head) {
        return Ok(Table::Absent);
    }
    if mbr::is_protective(&head) {
        return gpt::partitions(source, sector_bytes, visit);
    }
    mbr::partitions(source, &head, sector_bytes, visit)?;
    Ok(Table::Mbr)
}

/// Whether the disk has a table of either kind, whole or not.
///
/// # Errors
/// What the device said to the read.
pub fn is_present<S: Source + ?Sized>(source: &mut S) -> Result<bool, IoError> {
    let mut sector = [0; 512];
    let len = read_up_to(source, 0, &mut sector)?;
    Ok(mbr::is_table(&Fields(
        sector.get(..len).unwrap_or_default(),
    )))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::superblock::tests::Bytes;

    pub(crate) fn list(
        disk: &[u8],
        sector_bytes: u32,
    ) -> Result<(Table, Vec<Partition>), TableError> {
        let mut seen = Vec::new();
        let table = partitions(&mut Bytes(disk), sector_bytes, &mut |partition| {
            seen.push(*partition);
        })?;
        Ok((table, seen))
    }

    #[test]
    fn a_disk_without_a_table_has_no_partitions() {
        assert_eq!(list(&[], 512), Ok((Table::Absent, vec![])));
        assert_eq!(list(&[0; 4096], 512), Ok((Table::Absent, vec![])));
        assert_eq!(list(&[0xff; 4096], 512), Ok((Table::Absent, vec![])));
    }
}
