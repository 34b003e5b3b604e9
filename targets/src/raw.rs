// SPDX-License-Identifier: MIT OR Apache-2.0
//! A whole block device as the dumpfile: the dump begins at its first byte, as `dd` would write it.

use crate::device::Found;
use crate::io::io;
use crate::output::Output;
use crate::text::Name;
use collector::{IoError, Sink};
use core::fmt;
use rustix::fs::{CWD, Mode, OFlags, SeekFrom, fsync, openat, seek};
use rustix::io::Errno;

/// A block device that nothing else writes to while it is open.
pub struct Raw {
    output: Output,
    size_bytes: u64,
}

/// Why a block device cannot take a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawError {
    /// The kernel takes no writes to it.
    ReadOnly(Name),
    /// It is mounted, or part of a mapping or an array.
    InUse(Name),
    /// It is smaller than what the caller needs.
    TooSmall {
        /// The node.
        node: Name,
        /// Its size.
        size_bytes: u64,
        /// What is needed.
        needed_bytes: u64,
    },
    /// It could not be opened, or does not tell its size.
    Open(Name, IoError),
}

impl fmt::Display for RawError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadOnly(node) => {
                write!(f, "{node} is read-only; a raw dump needs to write to it")
            }
            Self::InUse(node) => write!(
                f,
                "{node} is in use (mounted, or part of a mapping or an array); a raw dump would destroy it"
            ),
            Self::TooSmall {
                node,
                size_bytes,
                needed_bytes,
            } => write!(
                f,
                "{node} has {size_bytes} bytes and the dump needs {needed_bytes}"
            ),
            Self::Open(node, error) => write!(f, "opening {node} for writing: {error}"),
        }
    }
}

impl core::error::Error for RawError {}

impl Raw {
    /// Opens the device for this writer alone. `needed_bytes` is what the dump needs at least, as far as that is known
    /// before it starts: an unfiltered copy knows, a filtered dump does not.
    ///
    /// # Errors
    /// See [`RawError`]. Nothing was written then.
    pub fn open(found: &Found, needed_bytes: u64) -> Result<Self, RawError> {
        let node = found.node;
        if found.is_read_only {
            return Err(RawError::ReadOnly(node));
        }
        let flags = OFlags::WRONLY | OFlags::EXCL | OFlags::CLOEXEC;
        let path = node.as_str().unwrap_or_default();
        let fd = openat(CWD, path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::BUSY => RawError::InUse(node),
            Errno::ROFS | Errno::ACCESS => RawError::ReadOnly(node),
            _ => RawError::Open(node, io(errno)),
        })?;
        let size_bytes =
            seek(&fd, SeekFrom::End(0)).map_err(|errno| RawError::Open(node, io(errno)))?;
        if size_bytes < needed_bytes {
            return Err(RawError::TooSmall {
                node,
                size_bytes,
                needed_bytes,
            });
        }
        Ok(Self {
            output: Output::new(fd),
            size_bytes,
        })
    }

    /// The size of the device.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

impl Sink for Raw {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| end > self.size_bytes) {
            return Err(IoError::NO_SPACE);
        }
        self.output.write_at(offset, data)
    }

    fn sync(&mut self) -> Result<(), IoError> {
        fsync(self.output.fd()).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Text;
    use std::fs;
    use std::path::PathBuf;

    /// A file that stands for a device; opening it alone is what only a real one refuses.
    fn device(name: &str, size_bytes: u64) -> (PathBuf, Found) {
        let name = format!("kdumprd-raw-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::File::create(&path)
            .unwrap()
            .set_len(size_bytes)
            .unwrap();
        let found = Found {
            node: Text::new(path.to_str().unwrap().as_bytes()),
            name: Text::new(b"vdb"),
            size_bytes,
            is_read_only: false,
        };
        (path, found)
    }

    #[test]
    fn the_dump_begins_at_the_first_byte() {
        let (path, found) = device("first", 1 << 20);
        let mut raw = Raw::open(&found, 1 << 20).unwrap();
        raw.write_at(0, b"KDUMP").unwrap();
        raw.write_at((1 << 20) - 3, b"end").unwrap();
        raw.sync().unwrap();
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.starts_with(b"KDUMP") && bytes.ends_with(b"\0end"));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_refused_before_a_byte_is_written() {
        let (path, found) = device("small", 4096);
        let error = Raw::open(&found, 4097).err().unwrap();
        assert_eq!(
            error.to_string(),
            format!("{} has 4096 bytes and the dump needs 4097", found.node)
        );
        let mut raw = Raw::open(&found, 0).unwrap();
        assert_eq!(raw.write_at(4095, b"xy"), Err(IoError::NO_SPACE));
        assert_eq!(raw.write_at(u64::MAX, b"xy"), Err(IoError::NO_SPACE));
        assert_eq!(fs::read(&path).unwrap(), [0; 4096]);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_read_only_device_and_a_missing_node_are_named() {
        let (path, mut found) = device("ro", 4096);
        found.is_read_only = true;
        let error = Raw::open(&found, 0).err().unwrap();
        assert_eq!(
            error.to_string(),
            format!(
                "{} is read-only; a raw dump needs to write to it",
                found.node
            )
        );
        fs::remove_file(path).unwrap();
        found.is_read_only = false;
        let error = Raw::open(&found, 0).err().unwrap();
        assert_eq!(
            error.to_string(),
            format!("opening {} for writing: ENOENT", found.node)
        );
    }
}
