// SPDX-License-Identifier: MIT OR Apache-2.0
//! A clock that nobody sets.

use core::time::Duration;
use rustix::event::{Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

/// Since the machine started.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// As the kernel takes it.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// Lets time pass. A signal may shorten it.
pub(crate) fn pause(duration: Duration) {
    let _ = poll(&mut [], Some(&timespec(duration)));
}
