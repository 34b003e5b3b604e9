// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole reads over system calls that may do a part, paths without a heap, and the kernel's error numbers.

use crate::text::Text;
use collector::{IoError, Source};
use core::fmt;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Advice, Mode, OFlags, SeekFrom, fadvise, openat, seek};
use rustix::io::{Errno, pread};

/// The same number in the collector's type.
pub(crate) fn io(errno: Errno) -> IoError {
    IoError(errno.raw_os_error())
}

/// A path for a system call. Names that do not fit are not cut: they are an error.
pub(crate) fn path<const N: usize>(arguments: fmt::Arguments<'_>) -> Result<Text<N>, IoError> {
    let text = Text::format(arguments);
    if text.is_cut() {
        return Err(io(Errno::NAMETOOLONG));
    }
    Ok(text)
}

/// A block device, or a file that stands for one, to be read.
pub(crate) struct Disk {
    fd: OwnedFd,
    size_bytes: u64,
}

impl Disk {
    /// What is open already.
    pub(crate) const fn from(fd: OwnedFd, size_bytes: u64) -> Self {
        Self { fd, size_bytes }
    }

    /// Opens the node `name` of the directory `dev`.
    pub(crate) fn open(dev: impl AsFd, name: &str) -> Result<Self, IoError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = openat(dev, name, flags, Mode::empty()).map_err(io)?;
        let size_bytes = seek(&fd, SeekFrom::End(0)).map_err(io)?;
        // A few sectors are wanted, not what lies behind them. Not every device takes the advice; it is only that.
        let _ = fadvise(&fd, 0, None, Advice::Random);
        Ok(Self { fd, size_bytes })
    }
}

impl Source for Disk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&mut self, mut offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match pread(&self.fd, rest, offset) {
                Ok(0) => return Err(IoError::END),
                Ok(len) => {
                    done = done.saturating_add(len);
                    offset = offset.saturating_add(len as u64);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(io(errno)),
            }
        }
        Ok(())
    }
}
