// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes to a file or a device in a machine that has a few MiB to spare.

use crate::clock::now;
use crate::io::io;
use crate::sys::begin_write_out;
use collector::IoError;
use core::num::NonZeroU64;
use core::time::Duration;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Advice, OFlags, fadvise, fcntl_setfl};
use rustix::io::{Errno, pwrite};

/// Where what goes around the page cache must begin and end, in the file and in memory: what disks and file systems ask
/// for at most.
const DIRECT_GRAIN: u64 = 4096;
/// Less than this is not worth a wait for the disk.
const DIRECT_BYTES: usize = 64 << 10;

/// A file or device that is written to: large pieces around the page cache, the others through it.
pub(crate) struct Output {
    fd: OwnedFd,
    /// What is set on `fd` now.
    is_direct: bool,
    /// The file system or the device takes direct writes, and they pay.
    may_be_direct: bool,
    pace: Pace,
    writeback: Writeback,
}

impl Output {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            is_direct: false,
            may_be_direct: true,
            pace: Pace::default(),
            writeback: Writeback::default(),
        }
    }

    pub(crate) const fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(crate) fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        let address = data.as_ptr().addr() as u64;
        let is_aligned = (offset | data.len() as u64 | address).is_multiple_of(DIRECT_GRAIN);
        self.set_direct(is_aligned && data.len() >= DIRECT_BYTES);
        if self.is_direct {
            let began = now();
            match write_all_at(&self.fd, offset, data) {
                // This file system or device wants what we do not know; through the page cache all of them take it.
                Err(IoError::INVALID) => self.may_be_direct = false,
                Err(error) => return Err(error),
                Ok(()) => {
                    self.may_be_direct = self.pace.pays(began, now());
                    return Ok(());
                }
            }
            self.set_direct(false);
        }
        write_all_at(&self.fd, offset, data)?;
        self.writeback.wrote(&self.fd, offset, data.len());
        Ok(())
    }

    fn set_direct(&mut self, wanted: bool) {
        let wanted = wanted && self.may_be_direct;
        if wanted == self.is_direct {
            return;
        }
        let flags = if wanted {
            OFlags::DIRECT
        } else {
            OFlags::empty()
        };
        match fcntl_setfl(&self.fd, flags) {
            Ok(()) => self.is_direct = wanted,
            Err(_) => self.may_be_direct = false,
        }
    }

    /// The file was cut to nothing.
    pub(crate) fn restart(&mut self) {
        self.writeback = Writeback::default();
    }
}

/// After how many direct writes it is decided whether they pay.
const DECISIVE_WRITES: u32 = 16;

/// How much of the time goes into waiting for direct writes.
///
/// A direct write saves a copy, pages and their bookkeeping, which is most of the cost where the disk is quick. Where it is
/// slow, the page cache lets the next pages be compressed while the disk works.
#[derive(Default)]
struct Pace {
    since: Option<Duration>,
    waited: Duration,
    writes: u32,
}

impl Pace {
    /// Takes note of a write; false when more than a quarter of the time goes into waiting.
    fn pays(&mut self, began: Duration, ended: Duration) -> bool {
        let since = *self.since.get_or_insert(began);
        self.waited = self.waited.saturating_add(ended.saturating_sub(began));
        self.writes = self.writes.saturating_add(1);
        let all = ended.saturating_sub(since);
        self.writes < DECISIVE_WRITES || self.waited.saturating_mul(4) <= all
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

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Whether direct writes still pay after that many, each `wait` long, with `work` between them.
    fn pays(wait: Duration, work: Duration, writes: u32) -> bool {
        let mut pace = Pace::default();
        let mut time = MS * 100;
        let mut pays = true;
        for _ in 0..writes {
            pays &= pace.pays(time, time + wait);
            time += wait + work;
        }
        pays
    }

    #[test]
    fn direct_writes_stay_where_the_disk_is_quick() {
        assert!(pays(MS, MS * 10, 1000));
        assert!(!pays(MS * 5, MS * 10, 1000));
        // A pause of the work does not count against the disk, and the first writes decide nothing.
        assert!(pays(MS * 5, MS * 10, DECISIVE_WRITES - 1));
        assert!(!pays(MS, Duration::ZERO, DECISIVE_WRITES));
    }

    #[test]
    fn a_file_of_mixed_writes_is_whole() {
        let path = std::env::temp_dir().join(format!("output-{}", std::process::id()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let file = rustix::fs::open(path.to_str().unwrap(), flags, mode).unwrap();
        let mut output = Output::new(file);
        let memory: Vec<u8> = (0..1 << 20).map(|n: u32| (n / 509) as u8).collect();
        let skew = memory.as_ptr().align_offset(4096);
        let (mut expected, mut at) = (Vec::new(), 0);
        // Aligned and large, aligned and small, neither; over and over.
        for (start, len) in [
            (0, 262_144),
            (0, 4096),
            (3, 100_000),
            (0, 65536),
            (1, 65536),
        ] {
            for _ in 0..9 {
                let piece = &memory[skew + start..skew + start + len];
                output.write_at(at, piece).unwrap();
                at += len as u64;
                expected.extend_from_slice(piece);
            }
        }
        output.write_at(0, &memory[..464]).unwrap();
        expected[..464].copy_from_slice(&memory[..464]);
        assert!(std::fs::read(&path).unwrap() == expected);
        std::fs::remove_file(path).unwrap();
    }
}
