// SPDX-License-Identifier: MIT OR Apache-2.0
//! Time since the capture kernel started, and the date.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Milliseconds since the kernel started, counting time asleep. Never goes back.
#[must_use]
pub fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let ms = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(ms)
}

/// Seconds since 1970 by the machine's clock, which may be wrong.
#[must_use]
pub fn wall_s() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

/// `ms` as the kernel takes it.
#[must_use]
pub fn timespec(ms: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        // Below 10^9.
        tv_nsec: i64::try_from(ms % 1000).unwrap_or(0) * 1_000_000,
    }
}
