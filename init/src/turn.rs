// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who sets up network cards: an attempt and the processes that tell a cluster's nodes may want the same ones at the same
//! time, and get in each other's way.
//!
//! The second waits for the first, but not for long: by then the links are made, and what the first waits for is an answer
//! that may never come on a network that the second has no use for.

use crate::clock;
use config::record;
use core::time::Duration;
use rustix::event::poll;
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

/// How long the one waits for the other.
const PATIENCE_MS: u64 = 10_000;
const LOOK_AGAIN_MS: u64 = 20;

/// A turn; it ends when this is dropped, or with the process.
pub struct Turn {
    lock: Option<OwnedFd>,
}

impl Drop for Turn {
    /// To close it is not enough: a process that was forked meanwhile has the same lock and would keep it.
    fn drop(&mut self) {
        if let Some(fd) = &self.lock {
            let _ = flock(fd, FlockOperation::Unlock);
        }
    }
}

impl Turn {
    /// Takes a turn. What cannot be had in time is done without: the other is somewhere else by then.
    #[must_use]
    pub fn take() -> Self {
        Self::take_of(record::PATH, Duration::from_millis(PATIENCE_MS))
    }

    /// The lock is one on the record's file, which every process has.
    fn take_of(path: &str, patience: Duration) -> Self {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let Ok(fd) = rustix::fs::open(path, flags, Mode::empty()) else {
            return Self { lock: None };
        };
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let end_ms = clock::now_ms().saturating_add(patience_ms);
        loop {
            match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Self { lock: Some(fd) },
                Err(Errno::WOULDBLOCK | Errno::INTR) if clock::now_ms() < end_ms => {
                    let _ = poll(&mut [], Some(&clock::timespec(LOOK_AGAIN_MS)));
                }
                Err(_) => return Self { lock: None },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    #[test]
    fn the_second_has_its_turn_when_the_first_is_done_and_never_waits_for_good() {
        let path = std::env::temp_dir().join(format!("kdumprd-turn-{}", std::process::id()));
        std::fs::write(&path, "").unwrap();
        let path = path.to_str().unwrap();
        let first = Turn::take_of(path, Duration::ZERO);
        assert!(first.lock.is_some());
        let second = Turn::take_of(path, Duration::from_millis(50));
        assert!(second.lock.is_none());
        let heir = sys::fork(|| {
            let _ = poll(&mut [], Some(&clock::timespec(PATIENCE_MS)));
            0
        })
        .unwrap();
        drop(first);
        assert!(Turn::take_of(path, Duration::ZERO).lock.is_some());
        rustix::process::kill_process(heir, rustix::process::Signal::KILL).unwrap();
        rustix::process::waitpid(Some(heir), rustix::process::WaitOptions::empty()).unwrap();
        std::fs::remove_file(path).unwrap();
        assert!(Turn::take_of(path, Duration::ZERO).lock.is_none());
    }
}
