// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end: sync, then reboot, halt or power off, each in a child with a deadline, and by force when that is over.

use crate::fault::Faults;
use crate::log;
use crate::report::{Report, Step};
use crate::supervise::{self, DONE, FAILED};
use crate::sys;
use crate::watchdog;
use collector::IoError;
use config::{Deadlines, FinalAction};
use rustix::fs::{Mode, OFlags};
use rustix::system::RebootCommand;

/// How long the kernel may take for the end where it waits for a device already: its drivers' shutdown then waits too.
const STUCK_FINAL_S: u32 = 5;

/// Ends the machine as `action` says. `left_behind` is true when a child waits in the kernel for a device that does not
/// answer: a sync would wait with it, and a shutdown of all devices may.
pub fn finish(
    action: FinalAction,
    deadlines: &Deadlines,
    report: &Report,
    faults: &Faults,
    left_behind: bool,
) -> ! {
    watchdog::before(action);
    let mut stuck = left_behind;
    if !left_behind {
        let outcome = supervise::run(deadlines, report, c"kdump-sync", &mut || {
            report.enter(Step::Final, 0);
            faults.strike(Step::Final, 0);
            rustix::fs::sync();
            DONE
        });
        if !outcome.is_done() {
            log!("sync: {outcome}; next: {action}");
        }
        stuck = outcome.left_behind;
    }
    let mut deadlines = *deadlines;
    if stuck {
        deadlines.final_s = deadlines.final_s.min(STUCK_FINAL_S);
    }
    log!("final action: {action}");
    // A device's shutdown may hang, so that PID 1 does not call it itself: it must be there to force the end.
    let outcome = supervise::run(&deadlines, report, c"kdump-final", &mut || {
        report.enter(Step::Final, 0);
        faults.strike(Step::Final, 0);
        match rustix::system::reboot(command(action)) {
            Ok(()) => DONE,
            Err(errno) => {
                report.set_text(format_args!("reboot(2): {}", IoError(errno.raw_os_error())));
                FAILED
            }
        }
    });
    log!("{action}: {outcome}; next: by force");
    force(action)
}

/// Ends the machine without asking any driver. Returns never: a machine that nothing ends waits with its log on screen.
pub fn force(action: FinalAction) -> ! {
    // Source: Linux Documentation/admin-guide/sysrq.rst: `b` reboots at once, `o` powers off; a halt needs no key, since
    // nothing runs any more but this loop.
    let key: &[u8] = match action {
        FinalAction::Reboot => b"b",
        FinalAction::Poweroff => b"o",
        FinalAction::Halt => b"",
    };
    if let Ok(fd) = rustix::fs::open(
        c"/proc/sysrq-trigger",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        let _ = rustix::io::write(&fd, key);
    }
    loop {
        let _ = sys::wait_signal(&[rustix::process::Signal::CHILD], None);
        supervise::reap_orphans();
    }
}

/// What the panic handler of PID 1 does: there is nothing left to supervise with.
pub fn reboot_now() -> ! {
    let _ = rustix::system::reboot(RebootCommand::Restart);
    force(FinalAction::Reboot)
}

const fn command(action: FinalAction) -> RebootCommand {
    match action {
        FinalAction::Reboot => RebootCommand::Restart,
        FinalAction::Halt => RebootCommand::Halt,
        FinalAction::Poweroff => RebootCommand::PowerOff,
    }
}
