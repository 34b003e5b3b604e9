// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mount_root_run_init`: hands the machine to its own init, which finds `/proc/vmcore` where it always is.
//!
//! Everything that may hang is done in a child first, which shares PID 1's mounts: the device, the mount, and a first read
//! of the init program. What is left for PID 1 are calls on what is mounted already.

use crate::attempt::disk::put_together;
use crate::fault::Faults;
use crate::log;
use crate::report::{Report, Step};
use crate::supervise::{self, DONE, FAILED};
use crate::sys;
use crate::vmcore::error;
use crate::watchdog;
use collector::IoError;
use config::{Record, RootFilesystem};
use core::fmt;
use core::time::Duration;
use heapless::CString;
use rustix::fs::{Access, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_move, mount_remount};
use rustix::process::{chdir, chroot};
use targets::device::{self, Roots, Survey};
use targets::filesystem::Filesystem;

/// Where the root file system is mounted before it is the root.
const ROOT: &str = "/sysroot";

/// Starts the machine's own init in place of this one. Returns only when that failed, with whether a child was left
/// behind; the reason is logged.
pub fn run(record: &Record<'_>, report: &Report, faults: &Faults, memory: &mut [u8]) -> bool {
    let Some(root) = &record.root else {
        log!("mount_root_run_init: the record names no root file system; next: the final action");
        return false;
    };
    log!(
        "mount_root_run_init: {} {}, init {}",
        root.fstype,
        root.device,
        root.init
    );
    let outcome = supervise::run(&record.deadlines, report, c"kdump-root", &mut || {
        mount_root(record, root, report, faults, memory)
    });
    if !outcome.is_done() {
        log!("mount_root_run_init failed: {outcome}; next: the final action");
        supervise::tell_left_behind(&outcome);
        return outcome.left_behind;
    }
    // Whether that init feeds it nobody knows.
    watchdog::stop();
    let (what, errno) = start(root);
    log!(
        "mount_root_run_init failed: {what}: {}; next: the final action",
        error(errno)
    );
    false
}

/// The child: mounts the root and looks whether the init is there.
fn mount_root(
    record: &Record<'_>,
    root: &RootFilesystem<'_>,
    report: &Report,
    faults: &Faults,
    memory: &mut [u8],
) -> u8 {
    let tell = |text: fmt::Arguments<'_>| {
        report.set_text(text);
        FAILED
    };
    report.enter(Step::Device, 0);
    faults.strike(Step::Device, record.attempts.len());
    let mut survey = Survey::new();
    let patience = Duration::from_secs(u64::from(record.deadlines.device_s));
    let mut beat = || report.beat();
    let patience = match put_together(record, &root.device, patience, memory, &mut beat) {
        Ok(left) => left,
        Err(why) => return tell(format_args!("{why}")),
    };
    let found = match device::wait(
        &root.device,
        &Roots::SYSTEM,
        patience,
        &mut survey,
        &mut || report.beat(),
    ) {
        Ok(found) => found,
        Err(error) => return tell(format_args!("{error}")),
    };
    report.enter(Step::Open, 0);
    faults.strike(Step::Open, record.attempts.len());
    if let Err(errno) = rustix::fs::mkdir(ROOT, Mode::RWXU)
        && errno != Errno::EXIST
    {
        return tell(format_args!("making {ROOT}: {}", error(errno)));
    }
    if let Err(error) = Filesystem::mount(&found, root.fstype, root.mount_options, ROOT) {
        return tell(format_args!("{error}"));
    }
    // A target is mounted without devices and set-user-id programs; a root needs both. Only the flags of the mount
    // change, so that a read-only file system stays so.
    if let Err(errno) = mount_remount(ROOT, MountFlags::BIND, c"") {
        return tell(format_args!("remounting {ROOT}: {}", error(errno)));
    }
    match look_at_init(root.init) {
        Ok(()) => DONE,
        Err(error) => tell(format_args!("{} on {}: {error}", root.init, found.node)),
    }
}

/// Follows the path as the new root will have it, which may be a symbolic link, and reads the beginning.
fn look_at_init(init: &str) -> Result<(), IoError> {
    chroot(ROOT).map_err(error)?;
    chdir("/").map_err(error)?;
    rustix::fs::access(init, Access::EXEC_OK).map_err(error)?;
    let fd =
        rustix::fs::open(init, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(error)?;
    rustix::io::read(&fd, &mut [0; 4096]).map_err(error)?;
    Ok(())
}

/// PID 1's part. Returns what failed.
fn start(root: &RootFilesystem<'_>) -> (&'static str, Errno) {
    let mut init = CString::<256>::new();
    if init.extend_from_bytes(root.init.as_bytes()).is_err() {
        return ("the path of init", Errno::NAMETOOLONG);
    }
    // What the initramfs holds is memory that the real system can use. This program goes with the `execve`.
    for file in [c"/init", c"/bin/busybox", c"/etc/kdump.record"] {
        let _ = rustix::fs::unlink(file);
    }
    for (from, to) in [
        (c"/dev", c"/sysroot/dev"),
        (c"/sys", c"/sysroot/sys"),
        (c"/proc", c"/sysroot/proc"),
    ] {
        if let Err(errno) = mount_move(from, to) {
            // The init mounts what it misses.
            log!(
                "moving {} to the root file system: {}; next: without it",
                from.to_str().unwrap_or(""),
                error(errno)
            );
        }
    }
    for (what, result) in [
        ("entering it", chdir(ROOT)),
        ("making it the root", mount_move(c".", c"/")),
        ("changing into it", chroot(c".")),
        ("entering its top directory", chdir(c"/")),
    ] {
        if let Err(errno) = result {
            return (what, errno);
        }
    }
    // The init begins as the kernel would have begun it.
    supervise::set_oom_score(b"0");
    sys::unblock_signals();
    let errno = sys::execve(&init, &[&init], &[c"HOME=/", c"TERM=linux"]);
    sys::block_signals();
    ("starting it", errno)
}
