// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes to a file or a device in a machine that has a few MiB to spare.

use crate::io::io;
use crate::sys::{begin_write_out, wait_for_write_out};
use collector::IoError;
use core::num::NonZeroU64;
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
        let writeback = Writeback {
            needs_commit: fstatfs(&fd).is_ok_and(|found| u64::try_from(found.f_type) == Ok(NFS)),
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
            needs_commit: self.writeback.needs_commit,
            ..Writeback::default()
        };
    }
}

/// How much is written before the kernel is asked to begin with writing it out.
///
/// Measured with 48 MiB into ext3 on Linux 6.1 under QEMU with 96 MiB: as fast as with no advice at all, which fills all
/// memory with page cache. Dropping each MiB as soon as it is written takes twice the time, as the kernel
/// then waits for what is under way.
const WRITE_OUT_BYTES: u64 = 2 << 20;

/// How much is written to an NFS server before it is asked to commit it: until then the kernel keeps every page, which it might
/// have to send again.
const COMMIT_BYTES: u64 = 8 << 20;

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
    /// It is a file of an NFS server.
    needs_commit: bool,
}

impl Writeback {
    /// Takes note of a write, and hands over what has come together. What was handed over before the last time is waited for:
    /// by now the disk mostly has it, and where it does not, whoever writes is faster than the disk, and would fill all
    /// memory with what waits for it.
    fn wrote(&mut self, fd: impl AsFd, offset: u64, len: usize) -> Result<(), IoError> {
        if offset < self.from {
            // A header that is written again at the end; the sync that follows takes care of it.
            return Ok(());
        }
        self.to = self.to.max(offset.saturating_add(len as u64));
        let Some(fresh) = NonZeroU64::new(self.to.saturating_sub(self.from)) else {
            return Ok(());
        };
        if self.needs_commit {
            return self.commit(fd, fresh);
        }
        if fresh.get() < WRITE_OUT_BYTES {
            return Ok(());
        }
        begin_write_out(&fd, self.from, fresh);
        if let Some(due) = NonZeroU64::new(self.before.saturating_sub(self.waited)) {
            wait_for_write_out(&fd, self.waited, due).map_err(io)?;
            let _ = fadvise(&fd, self.waited, Some(due), Advice::DontNeed);
        }
        self.waited = self.before;
        self.before = self.from;
        self.from = self.to;
        Ok(())
    }

    /// Has the server commit what has come together, and drops it.
    fn commit(&mut self, fd: impl AsFd, fresh: NonZeroU64) -> Result<(), IoError> {
        if fresh.get() < COMMIT_BYTES {
            return Ok(());
        }
        fdatasync(&fd).map_err(io)?;
        let _ = fadvise(&fd, self.from, Some(fresh), Advice::DontNeed);
        self.from = self.to;
        Ok(())
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
