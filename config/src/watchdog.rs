// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine's hardware watchdog: it restarts a capture kernel in which nothing moves any more, not even PID 1.

use core::fmt;

/// The hardware watchdog that is fed while the capture makes progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchdog<'a> {
    /// Its driver, as sysfs calls it on the host: `i6300ESB timer`.
    pub driver: &'a str,
    /// After how many seconds without progress the machine is restarted.
    pub timeout_s: u32,
}

impl<'a> Watchdog<'a> {
    /// Reads the value of the record's line.
    #[must_use]
    pub fn parse(value: &'a str) -> Option<Self> {
        let (timeout, driver) = value.split_once(' ')?;
        let timeout_s = timeout.parse().ok().filter(|&seconds| seconds > 0)?;
        let fits = !driver.is_empty() && !driver.contains('/');
        fits.then_some(Self { driver, timeout_s })
    }
}

impl fmt::Display for Watchdog<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.timeout_s, self.driver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drivers_name_may_have_blanks_and_is_no_path() {
        let read = Watchdog::parse("310 i6300ESB timer").unwrap();
        assert_eq!((read.driver, read.timeout_s), ("i6300ESB timer", 310));
        assert_eq!(read.to_string(), "310 i6300ESB timer");
        for wrong in ["", "310", "310 ", "0 x", "-1 x", "x y", "5 ../x"] {
            assert_eq!(Watchdog::parse(wrong), None, "{wrong}");
        }
    }
}
