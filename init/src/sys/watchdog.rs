// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls of a watchdog.
//!
//! Source: Linux 6.12 `include/uapi/linux/watchdog.h`, `Documentation/watchdog/watchdog-api.rst`.

use core::sync::atomic::{AtomicI32, Ordering};
use rustix::fd::{BorrowedFd, IntoRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

/// The descriptor of the watchdog; -1 while there is none. It stays open until the process ends.
static WATCHDOG: AtomicI32 = AtomicI32::new(-1);

const SET_OPTIONS: Opcode = opcode::read::<i32>(b'W', 4);
const SET_TIMEOUT: Opcode = opcode::read_write::<i32>(b'W', 6);
/// `WDIOS_DISABLECARD`.
const DISABLE: i32 = 1;

/// Takes this watchdog: it runs since it was opened.
pub fn take(fd: OwnedFd) {
    WATCHDOG.store(fd.into_raw_fd(), Ordering::Relaxed);
}

fn taken() -> Option<BorrowedFd<'static>> {
    let fd = WATCHDOG.load(Ordering::Relaxed);
    // SAFETY: `take` gave its descriptor away for good, and nothing closes it in a process that feeds.
    (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Starts its time anew. Nothing happens without a watchdog.
pub fn feed() {
    if let Some(fd) = taken() {
        // Any byte but `V`, which says that it may be stopped by being closed.
        let _ = rustix::io::write(fd, b"\0");
    }
}

/// Sets its time, and returns the one that it has then.
///
/// # Errors
/// The hardware cannot do that: `EINVAL`; or there is no watchdog.
pub fn set_timeout(seconds: u32) -> Result<u32, Errno> {
    let fd = taken().ok_or(Errno::NODEV)?;
    let mut value = i32::try_from(seconds).unwrap_or(i32::MAX);
    // SAFETY: the call reads and writes one `int`, which is `value`.
    unsafe { ioctl(fd, Updater::<SET_TIMEOUT, i32>::new(&mut value)) }?;
    Ok(u32::try_from(value).unwrap_or(0))
}

/// Stops it.
///
/// # Errors
/// It cannot be stopped, as some are built; or there is no watchdog.
pub fn stop() -> Result<(), Errno> {
    let fd = taken().ok_or(Errno::NODEV)?;
    // SAFETY: the call reads one `int`.
    unsafe { ioctl(fd, Setter::<SET_OPTIONS, i32>::new(DISABLE)) }?;
    WATCHDOG.store(-1, Ordering::Relaxed);
    Ok(())
}
