// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first look at the crashed kernel: its panic line on the console and the time of its crash, before anything that
//! may fail or hang.

use crate::fault::Faults;
use crate::report::{Report, Step};
use crate::supervise::{DONE, FAILED};
use crate::vmcore::{Access, NotOpened, PATH, VmcoreFile};
use collector::dmesg::{self, DmesgError};
use collector::{IoError, OPEN_BYTES, OpenError, Vmcore};
use core::fmt;

/// The child: leaves the panic line as its text and the crash time in its report.
pub fn look(memory: &mut [u8], report: &Report, faults: &Faults) -> u8 {
    report.enter(Step::Look, 0);
    faults.strike(Step::Look, 0);
    match panic_line(memory, report) {
        Ok(line) if line.is_empty() => {
            report.set_text(format_args!("its log has no line that says why"));
            DONE
        }
        Ok(line) => {
            report.set_text(format_args!("{line}"));
            DONE
        }
        Err(error) => {
            report.set_text(format_args!("{error}"));
            FAILED
        }
    }
}

fn panic_line(memory: &mut [u8], report: &Report) -> Result<heapless::String<200>, LookError> {
    let source = VmcoreFile::open(PATH, Access::Map).map_err(LookError::Vmcore)?;
    let (open_memory, memory) = memory
        .split_at_mut_checked(OPEN_BYTES)
        .ok_or(LookError::Vmcore(IoError::INVALID))?;
    let mut vmcore = Vmcore::open(source, open_memory).map_err(LookError::Open)?;
    if let Some(time_s) = vmcore.crash_time_s() {
        report.set_crash_time_s(time_s);
    }
    dmesg::write(&mut vmcore, memory, &mut |_| Ok(()))
        .map(|summary| summary.panic_line)
        .map_err(LookError::Dmesg)
}

/// Why the crashed kernel's log could not be looked at.
enum LookError {
    Vmcore(IoError),
    Open(OpenError),
    Dmesg(DmesgError),
}

impl fmt::Display for LookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vmcore(error) => NotOpened(*error).fmt(f),
            Self::Open(error) => write!(f, "reading /proc/vmcore: {error}"),
            Self::Dmesg(error) => write!(f, "{error}"),
        }
    }
}
