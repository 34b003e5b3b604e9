// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table: every fault, every kind of target where it applies, and what must come of it.

use super::inject::Inject;
use super::{Cell, Kind, Must, Row};
use crate::disk::Fault;
use Kind::{Ext, Nfs, Raw, Ssh};
use Must::{Complete, Copy, Next, Partial, Restart};

const fn at(kind: Kind, must: Must, said: &'static str) -> Cell {
    Cell { kind, must, said }
}

const SAVED: &str = "kdump: attempt 1 of . done: ";

/// Every fault. Where the dump must be complete in spite of the fault, the pattern shows that the fault was there.
pub const ROWS: &[Row] = &[
    Row {
        fault: "disk_missing",
        how: "the disk is not there",
        inject: Inject::Absent,
        cells: &[
            at(Ext, Next, "attempt 1 of . failed: no device "),
            at(Raw, Next, "attempt 1 of . failed: no device "),
        ],
    },
    Row {
        fault: "disk_late",
        how: "the disk is plugged in 4 s after the attempt began to wait for it (QMP `device_add`)",
        inject: Inject::Late,
        cells: &[at(Ext, Complete, SAVED), at(Raw, Complete, SAVED)],
    },
    Row {
        fault: "disk_read_only",
        how: "the disk takes no writes and says so (`read-only=on`)",
        inject: Inject::Disk(Fault::ReadOnly),
        cells: &[
            at(
                Ext,
                Next,
                "attempt 1 of . failed: .*the device is read-only",
            ),
            at(
                Raw,
                Next,
                "attempt 1 of . failed: .* is read-only; a raw dump needs to write to it",
            ),
        ],
    },
    Row {
        fault: "full_at_0",
        how: "no room: a full file system, a device of 1 MiB, a full tmpfs on the server",
        inject: Inject::Full(0),
        cells: &[
            at(Ext, Next, "attempt 1 of . failed: .*ENOSPC"),
            at(Raw, Next, "attempt 1 of . failed: "),
            at(Nfs, Next, "attempt 1 of . failed: .*ENOSPC"),
            at(
                Ssh,
                Next,
                "attempt 1 of . failed: .*the server's disk is full, [0-9]+ bytes are left",
            ),
        ],
    },
    Row {
        fault: "full_at_50",
        how: "room for half of what the dump has",
        inject: Inject::Full(50),
        cells: &[
            at(Ext, Next, "attempt 1 of . failed: .*ENOSPC"),
            at(Raw, Next, "attempt 1 of . failed: .*ENOSPC"),
            at(Nfs, Next, "attempt 1 of . failed: .*ENOSPC"),
            at(
                Ssh,
                Next,
                "attempt 1 of . failed: .*ENOSPC .*the server's disk is full, [0-9]+ bytes are left",
            ),
        ],
    },
    Row {
        fault: "full_at_50_alone",
        how: "the same, and there is no other target",
        inject: Inject::Full(50),
        cells: &[
            at(Ext, Partial, "attempt 1 of . failed: .*ENOSPC"),
            at(Raw, Partial, "attempt 1 of . failed: .*ENOSPC"),
            at(Nfs, Partial, "attempt 1 of . failed: .*ENOSPC"),
            at(
                Ssh,
                Partial,
                "attempt 1 of . failed: .*ENOSPC .*the server's disk is full, [0-9]+ bytes are left",
            ),
        ],
    },
    Row {
        fault: "full_at_99",
        how: "room for 99 % of what the dump of the same guest had before",
        inject: Inject::Full(99),
        cells: &[
            at(Ext, Next, "attempt 1 of . failed: .*ENOSPC"),
            at(Raw, Next, "attempt 1 of . failed: .*ENOSPC"),
        ],
    },
    Row {
        fault: "io_error_at_fixed_writes",
        how: "the 8th write fails with EIO (QEMU `blkdebug`), and no other",
        inject: Inject::Disk(Fault::WritesFail(&[8])),
        cells: &[
            at(Ext, Next, "attempt 1 of . failed: .*(EIO|EROFS)"),
            at(Raw, Next, "attempt 1 of . failed: .*EIO"),
        ],
    },
    Row {
        fault: "io_error_at_random",
        how: "of the first 40 writes five fail with EIO, whose numbers a die chose: 6, 11, 13, 27, 38",
        inject: Inject::Disk(Fault::WritesFail(&[6, 11, 13, 27, 38])),
        cells: &[
            at(Ext, Next, "attempt 1 of . failed: .*(EIO|EROFS)"),
            at(Raw, Next, "attempt 1 of . failed: .*EIO"),
        ],
    },
    Row {
        fault: "gone_from_a_write_on",
        how: "every write fails with EIO from some write on, the 17th (ext) and the 6th (raw)",
        inject: Inject::GoneFromAWriteOn,
        cells: &[
            at(Ext, Next, "attempt 1 of . failed: .*(EIO|EROFS)"),
            at(Raw, Next, "attempt 1 of . failed: .*EIO"),
        ],
    },
    Row {
        fault: "disk_unplugged",
        how: "a USB disk is pulled while the dump is written to it (QMP `device_del`)",
        inject: Inject::Unplugged,
        cells: &[
            at(
                Ext,
                Next,
                "attempt 1 of . failed: .*(EIO|EROFS|ENODEV|ENXIO)",
            ),
            at(
                Raw,
                Next,
                "attempt 1 of . failed: .*(EIO|ENODEV|ENXIO|ENOSPC)",
            ),
        ],
    },
    Row {
        fault: "disk_stalls_for_ever",
        how: "the disk answers no more while the dump is written to it (QMP `block_set_io_throttle`)",
        inject: Inject::Stalls,
        cells: &[
            at(
                Ext,
                Next,
                "attempt 1 of . failed: .* made no progress for 10 s; killed",
            ),
            at(
                Raw,
                Next,
                "attempt 1 of . failed: .* made no progress for 10 s; killed, but it waits in the kernel and is left behind",
            ),
        ],
    },
    Row {
        fault: "disk_slow",
        how: "the disk takes 512 KiB a second",
        inject: Inject::Slow,
        cells: &[
            at(Ext, Complete, "kdump: copying: .* written"),
            at(Raw, Complete, "kdump: copying: .* written"),
        ],
    },
    Row {
        fault: "server_missing",
        how: "nobody has the server's address",
        inject: Inject::ServerMissing,
        cells: &[
            at(Nfs, Next, "attempt 1 of . failed: "),
            at(
                Ssh,
                Next,
                "attempt 1 of . failed: .*(EHOSTUNREACH|ETIMEDOUT|took longer)",
            ),
        ],
    },
    Row {
        fault: "server_refuses",
        how: "no service at the server's port",
        inject: Inject::ServerRefuses,
        cells: &[
            at(
                Nfs,
                Next,
                "attempt 1 of . failed: .*no NFS server answers there",
            ),
            at(Ssh, Next, "attempt 1 of . failed: .*ECONNREFUSED"),
        ],
    },
    Row {
        fault: "server_hangs_at_once",
        how: "the server takes the connection and says nothing (SIGSTOP before the panic)",
        inject: Inject::ServerSilent,
        cells: &[
            at(
                Nfs,
                Next,
                "attempt 1 of . failed: opening the target took longer than ",
            ),
            at(Ssh, Next, "attempt 1 of . failed: "),
        ],
    },
    Row {
        fault: "server_hangs",
        how: "the server freezes while the dump is written (SIGSTOP)",
        inject: Inject::Signal("STOP"),
        cells: &[
            at(
                Nfs,
                Next,
                "attempt 1 of . failed: .*(no progress|EIO|ETIMEDOUT)",
            ),
            at(Ssh, Next, "attempt 1 of . failed: .*no progress"),
        ],
    },
    Row {
        fault: "server_killed",
        how: "the server is killed while the dump is written (SIGKILL)",
        inject: Inject::Signal("KILL"),
        cells: &[
            at(
                Nfs,
                Next,
                "attempt 1 of . failed: .*(no progress|EIO|ETIMEDOUT|ECONNREFUSED)",
            ),
            at(
                Ssh,
                Next,
                "attempt 1 of . failed: .*the server ended the connection",
            ),
        ],
    },
    Row {
        fault: "server_slow",
        how: "the server works for 50 ms and is away for 1.5 s (SIGSTOP, SIGCONT), again and again",
        inject: Inject::ServerSlow,
        cells: &[at(Nfs, Complete, SAVED), at(Ssh, Complete, SAVED)],
    },
    Row {
        fault: "wrong_host_key",
        how: "the server shows another key than the pinned one",
        inject: Inject::WrongHostKey,
        cells: &[at(
            Ssh,
            Next,
            "attempt 1 of . failed: .*which is not the pinned one",
        )],
    },
    Row {
        fault: "wrong_user_key",
        how: "the server does not know the user's key",
        inject: Inject::WrongUserKey,
        cells: &[at(
            Ssh,
            Next,
            "attempt 1 of . failed: .*the server does not accept the key for this user",
        )],
    },
    Row {
        fault: "link_down_at_start",
        how: "the card has no carrier (QMP `set_link`)",
        inject: Inject::LinkDown,
        cells: &[
            at(Nfs, Next, "attempt 1 of . failed: .*eth0 is not connected"),
            at(Ssh, Next, "attempt 1 of . failed: .*eth0 is not connected"),
        ],
    },
    Row {
        fault: "link_flaps",
        how: "the carrier goes for 2 s, three times: when the attempt begins, and twice while the dump is written",
        inject: Inject::LinkFlaps,
        cells: &[at(Nfs, Complete, SAVED), at(Ssh, Complete, SAVED)],
    },
    Row {
        fault: "link_lost",
        how: "the carrier goes for good while the dump is written",
        inject: Inject::LinkLost,
        cells: &[
            at(
                Nfs,
                Next,
                "attempt 1 of . failed: .*(no progress|EIO|ETIMEDOUT)",
            ),
            at(Ssh, Next, "attempt 1 of . failed: .*no progress"),
        ],
    },
    Row {
        fault: "packets_lost",
        how: "10 % of the packets in each direction are lost, by a relay on the wire",
        inject: Inject::PacketsLost,
        cells: &[at(Nfs, Complete, SAVED), at(Ssh, Complete, SAVED)],
    },
    Row {
        fault: "superblock_overwritten",
        how: "the first 64 KiB of the file system are other bytes",
        inject: Inject::Superblock,
        cells: &[at(Ext, Next, "attempt 1 of . failed: ")],
    },
    Row {
        fault: "group_descriptors_overwritten",
        how: "the 8 KiB behind the superblock are other bytes",
        inject: Inject::GroupDescriptors,
        cells: &[at(Ext, Next, "attempt 1 of . failed: ")],
    },
    Row {
        fault: "journal_overwritten",
        how: "the crashed kernel had it mounted, and the first 64 KiB of the journal are other bytes",
        inject: Inject::Journal,
        cells: &[at(Ext, Next, "attempt 1 of . failed: ")],
    },
    Row {
        fault: "directory_overwritten",
        how: "the block of the save path's directory has other bytes",
        inject: Inject::Directory,
        cells: &[at(Ext, Next, "attempt 1 of . failed: ")],
    },
    Row {
        fault: "no_inodes",
        how: "every inode is in use",
        inject: Inject::NoInodes,
        cells: &[at(
            Ext,
            Next,
            "attempt 1 of . failed: .*ENOSPC .no inode is left",
        )],
    },
    Row {
        fault: "path_missing",
        how: "the save path does not exist",
        inject: Inject::PathMissing,
        cells: &[
            at(Ext, Complete, SAVED),
            at(Nfs, Complete, SAVED),
            at(Ssh, Complete, SAVED),
        ],
    },
    Row {
        fault: "path_is_a_loop",
        how: "the save path is a symbolic link to itself",
        inject: Inject::PathIsALoop,
        cells: &[
            at(
                Ext,
                Next,
                "attempt 1 of . failed: .*/var/crash: a symbolic link that cannot be followed",
            ),
            at(
                Nfs,
                Next,
                "attempt 1 of . failed: .*/var/crash: a symbolic link that cannot be followed",
            ),
            at(
                Ssh,
                Next,
                "attempt 1 of . failed: /var/crash: .*symbolic link",
            ),
        ],
    },
    Row {
        fault: "module_missing",
        how: "the module of the first target's disk is not in the image, though the record names it",
        inject: Inject::ModuleMissing,
        cells: &[at(Ext, Next, "attempt 1 of . failed: no device ")],
    },
    Row {
        fault: "module_refuses",
        how: "a module's start fails",
        inject: Inject::Obstacle("way=refuse"),
        cells: &[at(
            Ext,
            Complete,
            "kdump: module obstacle cannot be loaded: EIO",
        )],
    },
    Row {
        fault: "module_hangs",
        how: "a module's start does not return, and cannot be killed",
        inject: Inject::Obstacle("way=hang"),
        cells: &[at(
            Ext,
            Complete,
            "kdump: module obstacle: .* took longer than 30 s; killed, but it waits in the kernel",
        )],
    },
    Row {
        fault: "vmcore_absent",
        how: "`elfcorehdr=` points to nothing, so that there is no /proc/vmcore",
        inject: Inject::NoVmcore,
        cells: &[at(
            Ext,
            Restart,
            "attempt 1 of . failed: opening /proc/vmcore: ENOENT",
        )],
    },
    Row {
        fault: "vmcore_short",
        how: "reads of /proc/vmcore end at 128 MiB, and its headers promise more (a module of ours in the capture kernel)",
        inject: Inject::Obstacle("way=short from=134217728 to=1099511627776"),
        cells: &[at(Ext, Complete, " unreadable, zeros instead")],
    },
    Row {
        fault: "vmcore_eio",
        how: "16 MiB of /proc/vmcore cannot be read: EIO (a module of ours in the capture kernel)",
        inject: Inject::Obstacle("way=eio from=67108864 to=83886080"),
        cells: &[at(Ext, Complete, " unreadable, zeros instead")],
    },
    Row {
        fault: "vmcoreinfo_garbled",
        how: "the text of VMCOREINFO is other bytes (written into the guest's memory between the two kernels)",
        inject: Inject::GarbledVmcoreinfo,
        cells: &[at(Ext, Copy, "next: a copy of it as it is")],
    },
    Row {
        fault: "clock_in_1970",
        how: "the machine's clock stands at 1970-01-01 00:00:10",
        inject: Inject::ClockIn1970,
        cells: &[
            at(Ext, Complete, "done: /var/crash/1970-01-01-00:0"),
            at(Raw, Complete, SAVED),
        ],
    },
    Row {
        fault: "image_truncated",
        how: "the last third of the image is missing",
        inject: Inject::ImageTruncated,
        cells: &[at(
            Ext,
            Restart,
            "VFS: Unable to mount root fs|No working init found|kdump: /etc/kdump.record: ",
        )],
    },
    Row {
        fault: "record_of_another_version",
        how: "the image's record is of version 2",
        inject: Inject::RecordOfAnotherVersion,
        cells: &[at(
            Ext,
            Restart,
            "kdump: .*record version 2, but this init reads version 1; rebuild the image; next: reboot",
        )],
    },
    Row {
        fault: "capture_kernel_crashes",
        how: "a module panics in the capture kernel",
        inject: Inject::Obstacle("way=panic"),
        cells: &[at(
            Ext,
            Restart,
            "Kernel panic - not syncing: obstacle: in the capture kernel",
        )],
    },
];

/// Cells that have a test of their own elsewhere, which checks more: fault, kind, file in `tests/`, test.
pub const ELSEWHERE: &[(&str, Kind, &str, &str)] = &[
    (
        "two_crashes_in_a_row",
        Ext,
        "filesystem",
        "two_crashes_in_the_same_minute_leave_two_dumps",
    ),
    (
        "two_crashes_in_a_row",
        Raw,
        "raw",
        "a_second_crash_spares_the_dump_that_nobody_recovered",
    ),
    (
        "disk_dead_from_the_start_on",
        Ext,
        "dead_disk",
        "a_disk_that_is_dead_from_the_start_on",
    ),
    (
        "no_network_card",
        Nfs,
        "nfs",
        "a_card_that_is_gone_then_the_next_target",
    ),
    (
        "no_answer_to_dhcp",
        Nfs,
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

/// The names of all cells: fault and kind.
#[must_use]
pub fn names() -> Vec<(&'static str, &'static str)> {
    ROWS.iter()
        .flat_map(|row| row.cells.iter().map(|cell| (row.fault, cell.kind.word())))
        .collect()
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
