// SPDX-License-Identifier: MIT OR Apache-2.0
//! A clock that nobody sets.

use core::time::Duration;
use rustix::time::{ClockId, clock_gettime};

/// Since the machine started.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
