// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole reads and writes over system calls that may do a part, and the error numbers they return.

use crate::sys::begin_write_out;
use crate::text::Text;
use collector::{IoError, Source};
use core::fmt;
use core::num::NonZeroU64;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Advice, Mode, OFlags, SeekFrom, fadvise, openat, seek};
use rustix::io::{Errno, pread, pwrite};

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

/// Writes all of `data` at `offset`.
pub(crate) fn write_all_at(fd: impl AsFd, mut offset: u64, mut data: &[u8]) -> Result<(), IoError> {
    while !data.is_empty() {
        match pwrite(&fd, data, offset) {
            Ok(0) => return Err(IoError::IO),
            Ok(len) => {
                data = data.get(len..).unwrap_or_default();
                offset = offset.saturating_add(len as u64);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(io(errno)),
        }
    }
    Ok(())
}

/// A block device, or a file that stands for one, to be read.
pub(crate) struct Disk {
    fd: OwnedFd,
    size_bytes: u64,
}

impl Disk {
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

/// How much is written before the kernel is asked to begin with writing it out.
///
/// Measured with 48 MiB into ext3 on Linux 6.1 under QEMU with 96 MiB: as fast as with no advice at all, which fills all
/// memory with page cache; this way 8 MiB. Dropping each MiB as soon as it is written takes twice the time, as the kernel
/// then waits for what is under way.
const WRITE_OUT_BYTES: u64 = 2 << 20;

/// Keeps the page cache small: the capture kernel has a few MiB to spare, and nothing reads the dump back.
#[derive(Default)]
pub(crate) struct Writeback {
    /// Where the stretch begins that was handed over last; by the next time the disk has most of it.
    before: u64,
    /// Everything before this offset was handed over.
    from: u64,
    /// The end of what was written since.
    to: u64,
}

impl Writeback {
    /// Takes note of a write, and hands over what has come together. All of it is advice: that it cannot be followed is
    /// no error of the dump.
    pub(crate) fn wrote(&mut self, fd: impl AsFd, offset: u64, len: usize) {
        if offset < self.from {
            // A header that is written again at the end; the sync that follows takes care of it.
            return;
        }
        self.to = self.to.max(offset.saturating_add(len as u64));
        let Some(fresh) = NonZeroU64::new(self.to.saturating_sub(self.from)) else {
            return;
        };
        if fresh.get() < WRITE_OUT_BYTES {
            return;
        }
        begin_write_out(&fd, self.from, fresh);
        if let Some(written) = NonZeroU64::new(self.from.saturating_sub(self.before)) {
            let _ = fadvise(&fd, self.before, Some(written), Advice::DontNeed);
        }
        self.before = self.from;
        self.from = self.to;
    }

    /// The file was cut to nothing.
    pub(crate) fn restart(&mut self) {
        *self = Self::default();
    }
}
