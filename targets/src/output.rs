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
        let writeback = Writeback {
            commits: fstatfs(&fd)
                .is_ok_and(|found| u64::try_from(found.f_type) == Ok(NFS))
                .then(|| Commits {
                    bytes: FIRST_COMMIT_BYTES,
                    is_scarce: is_scarce(&fd),
                }),
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
            commits: self.writeback.commits,
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

/// The most that is written to an NFS server before it is asked to commit it: until then the kernel keeps every page, which it
/// might have to send again.
const MOST_COMMIT_BYTES: u64 = 8 << 20;
/// The least: what the collector writes at once.
const LEAST_COMMIT_BYTES: u64 = 256 << 10;
/// What the first commit has.
const FIRST_COMMIT_BYTES: u64 = 512 << 10;
/// A commit that takes longer than this is followed by a smaller one, as nothing gets further while it is waited for.
///
/// Measured with one packet in ten lost in each direction (Linux 6.1 under QEMU): 8 MiB were not there in 10 s.
const LONG_COMMIT: Duration = Duration::from_secs(2);
/// One that takes less than this is followed by a larger one.
const SHORT_COMMIT: Duration = Duration::from_millis(500);

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
    /// Where it is a file of an NFS server.
    commits: Option<Commits>,
}

/// How much an NFS server is asked to commit at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Commits {
    bytes: u64,
    /// The server could be full before the next one: each write is one. What did not get there is known at once then, and can
    /// be left out of what did.
    is_scarce: bool,
}

impl Commits {
    /// What the next one has, when this one took so long.
    fn after(self, took: Duration) -> Self {
        let bytes = if took > LONG_COMMIT {
            self.bytes / 2
        } else if took < SHORT_COMMIT {
            self.bytes.saturating_mul(2)
        } else {
            self.bytes
        };
        Self {
            bytes: bytes.clamp(LEAST_COMMIT_BYTES, MOST_COMMIT_BYTES),
            ..self
        }
    }
}

impl Writeback {
    /// Takes note of a write, and hands over what has come together. What was handed over before the last time is waited for:
    /// by now the disk mostly has it, and where it does not, whoever writes is faster than the disk, and would fill all
    /// memory with what waits for it.
    fn wrote(&mut self, fd: impl AsFd, offset: u64, len: usize) -> Result<(), IoError> {
        if self.commits.is_some_and(|commits| commits.is_scarce) {
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
        if let Some(commits) = self.commits {
            return self.commit(fd, fresh, commits);
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
    fn commit(
        &mut self,
        fd: impl AsFd,
        fresh: NonZeroU64,
        commits: Commits,
    ) -> Result<(), IoError> {
        if fresh.get() < commits.bytes {
            return Ok(());
        }
        let start = now();
        fdatasync(&fd).map_err(io)?;
        self.commits = Some(Commits {
            is_scarce: is_scarce(&fd),
            ..commits.after(now().saturating_sub(start))
        });
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
    fn a_server_that_takes_long_is_asked_for_less_at_once_and_a_quick_one_for_more() {
        let after = |commits: Commits, ms| commits.after(Duration::from_millis(ms));
        let first = Commits {
            bytes: FIRST_COMMIT_BYTES,
            is_scarce: false,
        };
        assert_eq!(after(first, 1000), first);
        let quick = (0..9).fold(first, |commits, _| after(commits, 40));
        assert_eq!(quick.bytes, 8 << 20);
        assert_eq!(after(quick, 60_000).bytes, 4 << 20);
        let slow = (0..9).fold(quick, |commits, _| after(commits, 2001));
        assert_eq!(slow.bytes, 256 << 10);
    }
}
