// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table: every fault, every kind of target where it applies, and what must come of it.

use super::inject::Inject;
use super::{Cell, Kind, Must, Row};
use crate::disk::Fault;

/// Gives the table to a macro: here the rows are made of it, and in `tests/faults.rs` the tests, one for each cell.
///
/// A row is the fault's name, how it is brought about, and its cells. A cell is `always` or `full` (whether it also runs
/// without `--full`), the kind of target, what must come of it, and a pattern for the console: where the attempt must
/// fail, for its reason; where the dump must be complete in spite of the fault, for a line which shows that the fault was
/// there.
#[macro_export]
macro_rules! with_faults {
    ($make:ident) => {
        $make! {
            disk_missing "the disk is not there"
            (Inject::Absent) {
                full ext Next "no device ";
                full raw Next "no device ";
            }
            disk_late "the disk is plugged in 4 s after the attempt began to wait for it (QMP `device_add`)"
            (Inject::Late) {
                always ext Complete "kdump: attempt 1 of . done: ";
                full raw Complete "kdump: attempt 1 of . done: ";
            }
            disk_read_only "the disk takes no writes and says so (`read-only=on`)"
            (Inject::Disk(Fault::ReadOnly)) {
                full ext Next ".*the device is read-only";
                always raw Next ".* is read-only; a raw dump needs to write to it";
            }
            full_at_0 "no room: a full file system, a device of 1 MiB, a full tmpfs on the server"
            (Inject::Full(0)) {
                full ext Next ".*ENOSPC";
                full raw Next "";
                full nfs Next ".*ENOSPC";
                full ssh Next ".*the server's disk is full, [0-9]+ bytes are left";
            }
            full_at_50 "room for half of what the dump has"
            (Inject::Full(50)) {
                always ext Next ".*ENOSPC";
                full raw Next ".*ENOSPC";
                full nfs Next ".*ENOSPC";
                full ssh Next ".*ENOSPC .*the server's disk is full, [0-9]+ bytes are left";
            }
            full_at_50_alone "the same, and there is no other target"
            (Inject::Full(50)) {
                full ext Partial ".*ENOSPC";
                always raw Partial ".*ENOSPC";
                full nfs Partial ".*ENOSPC";
                full ssh Partial ".*ENOSPC .*the server's disk is full, [0-9]+ bytes are left";
            }
            full_at_99 "room for 99 % of what the dump of the same guest had before"
            (Inject::Full(99)) {
                full ext Next ".*ENOSPC";
                full raw Next ".*ENOSPC";
            }
            io_error_at_fixed_writes "the 8th write fails with EIO (QEMU `blkdebug`), and no other"
            (Inject::Disk(Fault::WritesFail(&[8]))) {
                full ext Next ".*(EIO|EROFS)";
                full raw Next ".*EIO";
            }
            io_error_at_random "of the first 40 writes five fail with EIO, whose numbers a die chose: 6, 11, 13, 27, 38"
            (Inject::Disk(Fault::WritesFail(&[6, 11, 13, 27, 38]))) {
                full ext Next ".*(EIO|EROFS)";
                full raw Next ".*EIO";
            }
            gone_from_a_write_on "every write fails with EIO from some write on, the 17th (ext) and the 6th (raw)"
            (Inject::GoneFromAWriteOn) {
                always ext Next ".*(EIO|EROFS)";
                full raw Next ".*EIO";
            }
            disk_unplugged "a USB disk is pulled while the dump is written to it (QMP `device_del`)"
            (Inject::Unplugged) {
                full ext Next ".*(EIO|EROFS|ENODEV|ENXIO)";
                full raw Next ".*(EIO|ENODEV|ENXIO|ENOSPC)";
            }
            disk_stalls_for_ever "the disk answers no more while the dump is written to it (QMP `block_set_io_throttle`)"
            (Inject::Stalls) {
                full ext Next ".* made no progress for 10 s; killed";
                always raw Next ".* made no progress for 10 s; killed, but it waits in the kernel and is left behind";
            }
            disk_slow "the disk takes 512 KiB a second"
            (Inject::Slow) {
                full ext Complete "kdump: copying: .* written";
                full raw Complete "kdump: copying: .* written";
            }
            server_missing "nobody has the server's address"
            (Inject::ServerMissing) {
                full nfs Next "";
                always ssh Next ".*(EHOSTUNREACH|ETIMEDOUT|took longer)";
            }
            server_refuses "no service at the server's port"
            (Inject::ServerRefuses) {
                always nfs Next ".*no NFS server answers there";
                full ssh Next ".*ECONNREFUSED";
            }
            server_hangs_at_once "the server takes the connection and says nothing (SIGSTOP before the panic)"
            (Inject::ServerSilent) {
                full nfs Next "opening the target took longer than ";
                full ssh Next "";
            }
            server_hangs "the server freezes while the dump is written (SIGSTOP)"
            (Inject::Signal("STOP")) {
                full nfs Next ".*(no progress|EIO|ETIMEDOUT)";
                always ssh Next ".*no progress";
            }
            server_killed "the server is killed while the dump is written (SIGKILL)"
            (Inject::Signal("KILL")) {
                always nfs Next ".*(no progress|EIO|ETIMEDOUT|ECONNREFUSED)";
                always ssh Next ".*the server ended the connection";
            }
            server_slow "the server works for 50 ms and is away for 1.5 s (SIGSTOP, SIGCONT), again and again"
            (Inject::ServerSlow) {
                full nfs Complete "kdump: attempt 1 of . done: ";
                full ssh Complete "kdump: attempt 1 of . done: ";
            }
            wrong_host_key "the server shows another key than the pinned one"
            (Inject::WrongHostKey) {
                always ssh Next ".*which is not the pinned one";
            }
            wrong_user_key "the server does not know the user's key"
            (Inject::WrongUserKey) {
                full ssh Next ".*the server does not accept the key for this user";
            }
            link_down_at_start "the card has no carrier (QMP `set_link`)"
            (Inject::LinkDown) {
                always nfs Next ".*eth0 is not connected";
                full ssh Next ".*eth0 is not connected";
            }
            link_flaps "the carrier goes for 2 s, three times: when the attempt begins, and twice while the dump is written"
            (Inject::LinkFlaps) {
                full nfs Complete "kdump: attempt 1 of . done: ";
                full ssh Complete "kdump: attempt 1 of . done: ";
            }
            link_lost "the carrier goes for good while the dump is written"
            (Inject::LinkLost) {
                full nfs Next ".*(no progress|EIO|ETIMEDOUT)";
                full ssh Next ".*no progress";
            }
            packets_lost "10 % of the packets in each direction are lost, by a relay on the wire"
            (Inject::PacketsLost) {
                full nfs Complete "kdump: attempt 1 of . done: ";
                full ssh Complete "kdump: attempt 1 of . done: ";
            }
            superblock_overwritten "the first 64 KiB of the file system are other bytes"
            (Inject::Superblock) {
                always ext Next "";
            }
            group_descriptors_overwritten "the 8 KiB behind the superblock are other bytes"
            (Inject::GroupDescriptors) {
                full ext Next "";
            }
            journal_overwritten "the crashed kernel had it mounted, and the first 64 KiB of the journal are other bytes"
            (Inject::Journal) {
                full ext Next "";
            }
            directory_overwritten "the block of the save path's directory has other bytes"
            (Inject::Directory) {
                full ext Next "";
            }
            no_inodes "every inode is in use"
            (Inject::NoInodes) {
                full ext Next ".*ENOSPC .no inode is left";
            }
            path_missing "the save path does not exist"
            (Inject::PathMissing) {
                full ext Complete "kdump: attempt 1 of . done: ";
                full nfs Complete "kdump: attempt 1 of . done: ";
                full ssh Complete "kdump: attempt 1 of . done: ";
            }
            path_is_a_loop "the save path is a symbolic link to itself"
            (Inject::PathIsALoop) {
                full ext Next ".*/var/crash: a symbolic link that cannot be followed";
                full nfs Next ".*/var/crash: a symbolic link that cannot be followed";
                full ssh Next "/var/crash: .*symbolic link";
            }
            module_missing "the module of the first target's disk is not in the image, though the record names it"
            (Inject::ModuleMissing) {
                full ext Next "no device ";
            }
            module_refuses "a module's start fails"
            (Inject::Obstacle("way=refuse")) {
                full ext Complete "kdump: module obstacle cannot be loaded: EIO";
            }
            module_hangs "a module's start does not return, and cannot be killed"
            (Inject::Obstacle("way=hang")) {
                full ext Complete "kdump: module obstacle: .* took longer than 30 s; killed, but it waits in the kernel";
            }
            vmcore_absent "`elfcorehdr=` points to nothing, so that there is no /proc/vmcore"
            (Inject::NoVmcore) {
                always ext Restart "attempt 1 of . failed: opening /proc/vmcore: ENOENT .this kernel was given no crashed machine's memory";
            }
            vmcore_short "reads of /proc/vmcore end at 128 MiB, and its headers promise more (a module of ours in the capture kernel)"
            (Inject::Obstacle("way=short from=134217728 to=1099511627776")) {
                full ext Holes " unreadable, zeros instead";
            }
            vmcore_eio "16 MiB of /proc/vmcore cannot be read: EIO (a module of ours in the capture kernel)"
            (Inject::Obstacle("way=eio from=134217728 to=150994944")) {
                always ext Complete " unreadable, zeros instead";
            }
            vmcoreinfo_garbled "the text of VMCOREINFO is other bytes (written into the guest's memory between the two kernels)"
            (Inject::GarbledVmcoreinfo) {
                full ext Unfiltered "dump level 31 is lowered to 1, as this vmcore cannot be filtered: VMCOREINFO ";
            }
            clock_in_1970 "the machine's clock stands at 1970-01-01 00:00:10"
            (Inject::ClockIn1970) {
                full ext Complete "done: /var/crash/1970-01-01-00:0";
                full raw Complete "kdump: attempt 1 of . done: ";
            }
            image_truncated "the last third of the image is missing"
            (Inject::ImageTruncated) {
                full ext Restart "VFS: Unable to mount root fs|No working init found|kdump: /etc/kdump.record: ";
            }
            record_of_another_version "the image's record is of version 2"
            (Inject::RecordOfAnotherVersion) {
                always ext Restart "kdump: .*record version 2, but this init reads version 1; rebuild the image; next: reboot";
            }
            capture_kernel_crashes "a module panics in the capture kernel"
            (Inject::Obstacle("way=panic")) {
                full ext Restart "Kernel panic - not syncing: obstacle: in the capture kernel";
            }
        }
    };
}

macro_rules! rows {
    ($($fault:ident $how:literal ($inject:expr) {
        $($when:ident $kind:ident $must:ident $said:literal;)*
    })*) => {
        /// Every fault.
        pub const ROWS: &[Row] = &[$(Row {
            fault: stringify!($fault),
            how: $how,
            inject: $inject,
            cells: &[$(Cell {
                kind: rows!(@$kind),
                must: Must::$must,
                said: $said,
            }),*],
        }),*];
    };
    (@ext) => { Kind::Ext };
    (@raw) => { Kind::Raw };
    (@nfs) => { Kind::Nfs };
    (@ssh) => { Kind::Ssh };
}

with_faults!(rows);

/// Cells that have a test of their own elsewhere, which checks more: fault, kind, file in `tests/`, test.
pub const ELSEWHERE: &[(&str, Kind, &str, &str)] = &[
    (
        "two_crashes_in_a_row",
        Kind::Ext,
        "filesystem",
        "two_crashes_in_the_same_minute_leave_two_dumps",
    ),
    (
        "two_crashes_in_a_row",
        Kind::Raw,
        "raw",
        "a_second_crash_spares_the_dump_that_nobody_recovered",
    ),
    (
        "disk_dead_from_the_start_on",
        Kind::Ext,
        "dead_disk",
        "a_disk_that_is_dead_from_the_start_on",
    ),
    (
        "no_network_card",
        Kind::Nfs,
        "nfs",
        "a_card_that_is_gone_then_the_next_target",
    ),
    (
        "no_answer_to_dhcp",
        Kind::Nfs,
        "nfs",
        "nobody_answers_dhcp_then_the_next_target",
    ),
];

/// The cell of this fault and this kind of target.
pub(super) fn find(fault: &str, kind: &str) -> Option<(&'static Row, &'static Cell)> {
    let row = ROWS.iter().find(|row| row.fault == fault)?;
    let cell = row.cells.iter().find(|cell| cell.kind.word() == kind)?;
    Some((row, cell))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn tests_that_are_elsewhere_are_there() {
        for (_, _, file, test) in ELSEWHERE {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/{file}.rs"));
            let text = fs::read_to_string(path).unwrap();
            assert!(
                text.contains(&format!("#[test]\nfn {test}()")),
                "{file}: {test}"
            );
        }
    }
}
