// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes to a file or a device in a machine that has a few MiB to spare.

use crate::io::io;
use crate::sys::begin_write_out;
use collector::IoError;
use core::num::NonZeroU64;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, pwrite};

/// A file or device that is written to.
///
/// Writing around the page cache was measured too (Linux 6.1 under QEMU): quicker on an idle machine with ext4, slower on a
/// busy one and with ext3, as nothing is compressed while the disk works.
pub(crate) struct Output {
    fd: OwnedFd,
    writeback: Writeback,
}

impl Output {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            writeback: Writeback::default(),
        }
    }

    pub(crate) const fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(crate) fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        write_all_at(&self.fd, offset, data)?;
        self.writeback.wrote(&self.fd, offset, data.len());
        Ok(())
    }

    /// The file was cut to nothing.
    pub(crate) fn restart(&mut self) {
        self.writeback = Writeback::default();
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
struct Writeback {
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
    fn wrote(&mut self, fd: impl AsFd, offset: u64, len: usize) {
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
}

/// Writes all of `data` at `offset`.
fn write_all_at(fd: impl AsFd, mut offset: u64, mut data: &[u8]) -> Result<(), IoError> {
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
