// SPDX-License-Identifier: MIT OR Apache-2.0
//! cpio archives in the newc form, as the kernel unpacks them: written so that the same entries give the same bytes.
//!
//! Times are zero, owners are root, inode numbers count from 1, and entries come in the order of their names with each
//! directory before what is in it.
//!
//! Source: Linux 6.12 `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::fmt;

/// Length of a header: the magic and 13 numbers of 8 digits.
const HEADER_BYTES: usize = 110;
/// The name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path without a slash in front.
    pub name: String,
    /// Permission bits.
    pub permissions: u32,
    /// What it is.
    pub kind: Kind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file with these bytes.
    File(Vec<u8>),
    /// A symbolic link to this.
    Link(Vec<u8>),
    /// A character device.
    Character {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

impl Kind {
    const fn mode(&self) -> u32 {
        match self {
            Self::Directory => 0o040_000,
            Self::File(_) => 0o100_000,
            Self::Link(_) => 0o120_000,
            Self::Character { .. } => 0o020_000,
        }
    }

    fn data(&self) -> &[u8] {
        match self {
            Self::File(bytes) | Self::Link(bytes) => bytes,
            _ => &[],
        }
    }
}

/// Why an archive cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpioError {
    /// No newc header at this offset.
    NoHeader(usize),
    /// The archive ends inside the entry at this offset.
    Cut(usize),
    /// An entry of a kind that no image of ours has: its name.
    OtherKind(String),
}

impl fmt::Display for CpioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader(offset) => write!(f, "no cpio (newc) entry at byte {offset}"),
            Self::Cut(offset) => write!(f, "cut short inside the entry at byte {offset}"),
            Self::OtherKind(name) => {
                write!(f, "{name} is no file, directory, link or character device")
            }
        }
    }
}

impl std::error::Error for CpioError {}

/// Writes an archive. The entries are put in order first; the directories above each are to be among them.
#[must_use]
pub fn write(mut entries: Vec<Entry>) -> Vec<u8> {
    entries.sort_by(|one, other| one.name.split('/').cmp(other.name.split('/')));
    let mut archive = Vec::new();
    for (inode, entry) in (1..).zip(&entries) {
        let links = if entry.kind == Kind::Directory { 2 } else { 1 };
        let numbers = match entry.kind {
            Kind::Character { major, minor } => (major, minor),
            _ => (0, 0),
        };
        let mode = entry.kind.mode() | entry.permissions;
        put(
            &mut archive,
            inode,
            mode,
            links,
            numbers,
            &entry.name,
            entry.kind.data(),
        );
    }
    put(&mut archive, 0, 0, 1, (0, 0), TRAILER, &[]);
    archive
}

fn put(
    archive: &mut Vec<u8>,
    inode: u32,
    mode: u32,
    links: u32,
    (major, minor): (u32, u32),
    name: &str,
    data: &[u8],
) {
    let size = |bytes: usize| u32::try_from(bytes).expect("the image's items are far below 4 GiB");
    // Inode, mode, uid, gid, links, time, size, device, device number, length of the name, checksum.
    let numbers = [
        inode,
        mode,
        0,
        0,
        links,
        0,
        size(data.len()),
        0,
        0,
        major,
        minor,
        size(name.len() + 1),
        0,
    ];
    archive.extend(b"070701");
    for number in numbers {
        archive.extend(format!("{number:08X}").bytes());
    }
    archive.extend(name.bytes());
    archive.push(0);
    pad(archive);
    archive.extend(data);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// Reads an archive that is not compressed.
///
/// # Errors
/// See [`CpioError`].
pub fn read(archive: &[u8]) -> Result<Vec<Entry>, CpioError> {
    let mut entries = Vec::new();
    let mut at = 0;
    loop {
        let start = at;
        let header = archive
            .get(start..)
            .and_then(|rest| rest.get(..HEADER_BYTES))
            .ok_or(CpioError::Cut(start))?;
        if !header.starts_with(b"070701") {
            return Err(CpioError::NoHeader(start));
        }
        let field = |number: usize| -> Option<usize> {
            let digits = header.get(6 + 8 * number..14 + 8 * number)?;
            let digits = std::str::from_utf8(digits).ok()?;
            usize::from_str_radix(digits, 16).ok()
        };
        let number = |number: usize| field(number).ok_or(CpioError::NoHeader(start));
        let (mode, size, name_bytes) = (number(1)?, number(6)?, number(11)?);
        let (major, minor) = (number(9)?, number(10)?);
        let mut part = |bytes: usize| -> Option<&[u8]> {
            let end = at.checked_add(bytes)?;
            let part = archive.get(at..end)?;
            at = end.next_multiple_of(4);
            Some(part)
        };
        let name = part(HEADER_BYTES + name_bytes)
            .and_then(|part| part.get(HEADER_BYTES..))
            .and_then(|name| name.strip_suffix(b"\0"))
            .ok_or(CpioError::Cut(start))?;
        let name = String::from_utf8_lossy(name).into_owned();
        let data = part(size).ok_or(CpioError::Cut(start))?.to_vec();
        if name == TRAILER {
            return Ok(entries);
        }
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let kind = match mode & 0o170_000 {
            0o040_000 => Kind::Directory,
            0o100_000 => Kind::File(data),
            0o120_000 => Kind::Link(data),
            0o020_000 => Kind::Character {
                major: small(major),
                minor: small(minor),
            },
            _ => return Err(CpioError::OtherKind(name)),
        };
        entries.push(Entry {
            name,
            permissions: small(mode & 0o7777),
            kind,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Entry> {
        let entry = |name: &str, permissions, kind| Entry {
            name: name.to_owned(),
            permissions,
            kind,
        };
        vec![
            entry("dev", 0o755, Kind::Directory),
            entry("dev/console", 0o600, Kind::Character { major: 5, minor: 1 }),
            entry("dev-x", 0o644, Kind::File(b"12345".to_vec())),
            entry("init", 0o755, Kind::File(vec![])),
            entry("sbin", 0o777, Kind::Link(b"bin".to_vec())),
        ]
    }

    #[test]
    fn what_is_written_reads_back_and_the_order_does_not_matter() {
        let archive = write(sample());
        assert_eq!(read(&archive).unwrap(), sample());
        let mut turned = sample();
        turned.reverse();
        assert_eq!(write(turned), archive);
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let archive = write(vec![sample()[2].clone()]);
        let expected = b"070701\
            00000001000081A4000000000000000000000001000000000000000500000000000000000000000000000000\
            0000000600000000dev-x\x0012345\0\0\0";
        assert_eq!(&archive[..expected.len()], expected);
        assert_eq!(archive.len() % 4, 0);
    }

    #[test]
    fn every_truncation_and_flipped_byte_is_an_error_or_entries() {
        let archive = write(sample());
        for length in 0..archive.len() {
            // What is missing at the very end is padding.
            assert!(
                read(&archive[..length]).is_err() || archive.len() - length < 4,
                "{length}"
            );
        }
        for position in 0..archive.len() {
            for bit in 0..8 {
                let mut flipped = archive.clone();
                flipped[position] ^= 1 << bit;
                let _ = read(&flipped);
            }
        }
    }
}
