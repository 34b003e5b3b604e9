// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine's hardware watchdog: what PID 1 cannot bound, a kernel that stands still, it does.
//!
//! It is fed when something got further, and never because time has passed: [`crate::supervise`] feeds it when a child
//! begins, enters a step, or beats. What makes no progress for longer than its time restarts the machine, with what was
//! saved by then. Its time is longer than what every wait of ours may take in silence, unless a person said otherwise.

use crate::files;
use crate::log;
use crate::sys::watchdog as hardware;
use crate::vmcore::error;
use config::{FinalAction, Watchdog};
use core::fmt::Write as _;
use core::mem::MaybeUninit;
use heapless::CString;
use rustix::fs::{CWD, Mode, OFlags, readlinkat_raw};

/// How many watchdogs are looked at; machines have one or two.
const MOST: u32 = 8;
/// The time that the machine has from the last step until it has started again and somebody else feeds the watchdog, in
/// seconds. systemd allows itself the same.
///
/// Source: systemd 252 `systemd-system.conf(5)`, `RebootWatchdogSec`.
const REBOOT_S: u32 = 600;

/// Takes the watchdog of the record, which runs from here on.
pub fn start(wanted: &Watchdog<'_>) {
    let Some(number) = (0..MOST).find(|&number| is_driven_by(number, wanted.driver)) else {
        log!("watchdog {}: not there; next: without it", wanted.driver);
        return;
    };
    let opened = path(format_args!("/dev/watchdog{number}")).and_then(|node| {
        rustix::fs::open(&*node, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(error)
    });
    match opened {
        Ok(fd) => hardware::take(fd),
        Err(error) => {
            log!(
                "watchdog {}: opening /dev/watchdog{number}: {error}; next: without it",
                wanted.driver
            );
            return;
        }
    }
    match longest(wanted.timeout_s) {
        Some(seconds) if seconds >= wanted.timeout_s => log!(
            "watchdog {}: restarts the machine after {seconds} s without progress",
            wanted.driver
        ),
        Some(seconds) => log!(
            "watchdog {}: restarts the machine after {seconds} s without progress; it cannot wait for {} s",
            wanted.driver,
            wanted.timeout_s
        ),
        None => log!(
            "watchdog {}: its time cannot be set; it has its own",
            wanted.driver
        ),
    }
    feed();
}

/// Sets the time, or the longest that the hardware takes of its halves.
fn longest(timeout_s: u32) -> Option<u32> {
    let mut seconds = timeout_s;
    while seconds > 0 {
        if let Ok(set) = hardware::set_timeout(seconds) {
            return Some(set);
        }
        seconds /= 2;
    }
    None
}

/// Something got further.
pub fn feed() {
    hardware::feed();
}

/// Stops it where nothing is to be fed any more and the machine is to stay: a person has a shell, the machine's own init takes
/// over, it is halted or switched off.
pub fn stop() {
    match hardware::stop() {
        Ok(()) | Err(rustix::io::Errno::NODEV) => {}
        Err(errno) => log!(
            "the watchdog cannot be stopped: {}; it will restart the machine",
            error(errno)
        ),
    }
}

/// Before the final action. It stays on where the machine is to come back: a reboot that hangs ends then, too.
pub fn before(action: FinalAction) {
    match action {
        FinalAction::Reboot => {
            // The time that it has is enough where it cannot be set.
            let _ = longest(REBOOT_S);
            feed();
        }
        FinalAction::Halt | FinalAction::Poweroff => stop(),
    }
}

/// Whether the watchdog of this number has this driver: its device says so, or, where it tells of no device, its own name is
/// that of the driver.
fn is_driven_by(number: u32, driver: &str) -> bool {
    let mut name = [0; 64];
    let identity = path(format_args!(
        "/sys/class/watchdog/watchdog{number}/identity"
    ));
    if identity.is_ok_and(|file| {
        files::read_text(&file, &mut name).is_ok_and(|text| text.trim_end() == driver)
    }) {
        return true;
    }
    let mut target = [MaybeUninit::uninit(); 512];
    let Ok(link) = path(format_args!(
        "/sys/class/watchdog/watchdog{number}/device/driver"
    )) else {
        return false;
    };
    readlinkat_raw(CWD, &*link, &mut target)
        .is_ok_and(|(bytes, _)| last_part(bytes) == driver.as_bytes())
}

/// What is behind the last slash.
fn last_part(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

fn path(text: core::fmt::Arguments<'_>) -> Result<CString<64>, collector::IoError> {
    let mut name = heapless::String::<63>::new();
    name.write_fmt(text)
        .map_err(|_| collector::IoError::INVALID)?;
    let mut path = CString::new();
    path.extend_from_bytes(name.as_bytes())
        .map_err(|_| collector::IoError::INVALID)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_watchdog_nothing_is_fed_and_nothing_is_said() {
        start(&Watchdog {
            driver: "kdumprd-no-such-driver",
            timeout_s: 10,
        });
        feed();
        before(FinalAction::Reboot);
        stop();
        assert_eq!(longest(REBOOT_S), None);
    }

    #[test]
    fn a_driver_is_the_end_of_a_link() {
        let link = b"../../../bus/pci/drivers/i6300ESB timer";
        assert_eq!(last_part(link), b"i6300ESB timer");
        assert_eq!(last_part(b"x"), b"x");
    }
}
