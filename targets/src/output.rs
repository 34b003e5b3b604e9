// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes to a file or a device in a machine that has a few MiB to spare.

use crate::clock::now;
use crate::io::io;
use crate::sys::{begin_write_out, wait_for_write_out};
use collector::IoError;
use core::num::NonZeroU64;
use core::time::Duration;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Advice, fadvise, fdatasync, fstatfs};
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
        let is_remote = fstatfs(&fd).is_ok_and(|found| u64::try_from(found.f_type) == Ok(NFS));
        let writeback = Writeback {
            is_remote,
            is_scarce: is_remote && is_scarce(&fd),
            ..Writeback::default()
        };
        Self { fd, writeback }
    }

    pub(crate) const fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(crate) fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        write_all_at(&self.fd, offset, data)?;
        self.writeback.wrote(&self.fd, offset, data.len())
    }

    /// The file was cut to nothing.
    pub(crate) fn restart(&mut self) {
        self.writeback = Writeback {
            stretch: self.writeback.stretch,
            is_remote: self.writeback.is_remote,
            is_scarce: self.writeback.is_scarce,
            ..Writeback::default()
        };
    }
}

/// The most that is written to a disk before the kernel is asked to begin with writing it out. Three times as much can be under
/// way, and nothing gets further until the first of it is there.
///
/// Measured with a disk of 256 KiB a second (Linux 6.12 under QEMU): with 2 MiB a dump stood still for more than 20 s, as the kernel
/// counts what it wrote by large pieces too. Dropping each MiB as soon as it is written takes twice the time, as the kernel
/// then waits for what is under way.
const MOST_WRITE_OUT_BYTES: u64 = 512 << 10;
/// The most that is written to an NFS server before it is asked to commit it: until then the kernel keeps every page, which it
/// might have to send again.
const MOST_COMMIT_BYTES: u64 = 8 << 20;
/// The least: what the collector writes at once.
const LEAST_BYTES: u64 = 256 << 10;
/// What the first stretch has.
const FIRST_BYTES: u64 = 512 << 10;
/// A stretch that takes longer than this is followed by a smaller one, as nothing gets further while it is waited for.
///
/// Measured with one packet in ten lost in each direction (Linux 6.1 under QEMU): 8 MiB were not there in 10 s.
const LONG: Duration = Duration::from_secs(2);
/// One that takes less than this is followed by a larger one.
const SHORT: Duration = Duration::from_millis(500);

/// What `statfs` calls NFS. Source: Linux 6.12 `include/uapi/linux/magic.h`.
const NFS: u64 = 0x6969;

/// Keeps the page cache small: the capture kernel has a few MiB to spare, and nothing reads the dump back.
///
/// ```text
/// 0 ── dropped ── waited ── handed over ── from ── written since ── to
/// ```
#[derive(Default)]
struct Writeback {
    /// Everything before this offset is on the disk, and out of the page cache.
    waited: u64,
    /// Where the stretch begins that was handed over last.
    before: u64,
    /// Everything before this offset was handed over.
    from: u64,
    /// The end of what was written since.
    to: u64,
    stretch: Stretch,
    /// It is a file of an NFS server, which commits what it was sent.
    is_remote: bool,
    /// The server could be full before the next stretch: each write is one. What did not get there is known at once then, and can
    /// be left out of what did.
    is_scarce: bool,
}

/// How much is handed over at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    bytes: u64,
}

impl Default for Stretch {
    fn default() -> Self {
        Self { bytes: FIRST_BYTES }
    }
}

impl Stretch {
    /// What the next one has, when this one took so long.
    fn after(self, took: Duration, most_bytes: u64) -> Self {
        let bytes = if took > LONG {
            self.bytes / 2
        } else if took < SHORT {
            self.bytes.saturating_mul(2)
        } else {
            self.bytes
        };
        Self {
            bytes: bytes.clamp(LEAST_BYTES, most_bytes),
        }
    }
}

impl Writeback {
    /// Takes note of a write, and hands over what has come together. What was handed over before the last time is waited for:
    /// by now the disk mostly has it, and where it does not, whoever writes is faster than the disk, and would fill all
    /// memory with what waits for it.
    fn wrote(&mut self, fd: impl AsFd, offset: u64, len: usize) -> Result<(), IoError> {
        if self.is_scarce {
            fdatasync(&fd).map_err(io)?;
            let _ = fadvise(&fd, offset, NonZeroU64::new(len as u64), Advice::DontNeed);
            return Ok(());
        }
        if offset < self.from {
            // A header that is written again at the end; the sync that follows takes care of it.
            return Ok(());
        }
        self.to = self.to.max(offset.saturating_add(len as u64));
        let Some(fresh) = NonZeroU64::new(self.to.saturating_sub(self.from)) else {
            return Ok(());
        };
        if fresh.get() < self.stretch.bytes {
            return Ok(());
        }
        if self.is_remote {
            return self.commit(fd, fresh);
        }
        let start = now();
        begin_write_out(&fd, self.from, fresh);
        if let Some(due) = NonZeroU64::new(self.before.saturating_sub(self.waited)) {
            wait_for_write_out(&fd, self.waited, due).map_err(io)?;
            let _ = fadvise(&fd, self.waited, Some(due), Advice::DontNeed);
        }
        let took = now().saturating_sub(start);
        self.stretch = self.stretch.after(took, MOST_WRITE_OUT_BYTES);
        self.waited = self.before;
        self.before = self.from;
        self.from = self.to;
        Ok(())
    }

    /// Has the server commit what has come together, and drops it.
    fn commit(&mut self, fd: impl AsFd, fresh: NonZeroU64) -> Result<(), IoError> {
        let start = now();
        fdatasync(&fd).map_err(io)?;
        let took = now().saturating_sub(start);
        self.stretch = self.stretch.after(took, MOST_COMMIT_BYTES);
        self.is_scarce = is_scarce(&fd);
        let _ = fadvise(&fd, self.from, Some(fresh), Advice::DontNeed);
        self.from = self.to;
        Ok(())
    }
}

/// Whether the file system could be full before twice the largest commit is written.
fn is_scarce(fd: impl AsFd) -> bool {
    fstatfs(fd).is_ok_and(|found| {
        let block_bytes = u64::try_from(found.f_bsize).unwrap_or(0);
        found.f_bavail.saturating_mul(block_bytes) < 2 * MOST_COMMIT_BYTES
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_done_in_smaller_pieces_and_what_is_quick_in_larger_ones() {
        let after = |stretch: Stretch, ms| stretch.after(Duration::from_millis(ms), 8 << 20);
        let first = Stretch::default();
        assert_eq!(after(first, 1000), first);
        let quick = (0..9).fold(first, |stretch, _| after(stretch, 40));
        assert_eq!(quick.bytes, 8 << 20);
        assert_eq!(after(quick, 60_000).bytes, 4 << 20);
        let slow = (0..9).fold(quick, |stretch, _| after(stretch, 2001));
        assert_eq!(slow.bytes, 256 << 10);
    }
}
