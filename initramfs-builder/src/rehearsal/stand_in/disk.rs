// SPDX-License-Identifier: MIT OR Apache-2.0
//! An empty disk with the same kind of file system, in a machine that has no other.

use super::super::guest::{FSTYPE, OPTIONS, PATH, RAW};
use crate::Prepared;
use crate::conf::{DeviceName, Target, TargetKind};
use crate::error::Mistake;
use crate::filesystem::Type;
use crate::host::devices::read_content;
use crate::host::{Device, Driver, Host, Mount};
use crate::resolve::Place;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

/// The disk's node in the machine, which has one disk.
const NODE: &str = "/dev/vda";
/// Room for the dump of a machine that has just started, whatever the level.
const DISK_BYTES: u64 = 4 << 30;
/// From the bus to the disk.
const DRIVERS: [&str; 2] = ["virtio_pci", "virtio_blk"];

/// An empty disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Disk {
    /// Its file system; none for a raw target.
    pub(super) fstype: Option<Type>,
    /// The target is the machine's own root, and no line of `kdump.conf`.
    pub(super) is_root: bool,
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fstype {
            Some(fstype) => write!(f, "an empty disk with {}", fstype.word),
            None => f.write_str("an empty disk"),
        }
    }
}

impl Disk {
    /// Makes the disk's file.
    pub(super) fn make(self, disk: &Path) -> Result<(), Mistake> {
        let failed =
            |error: std::io::Error| Mistake::new(format!("making {}: {error}", disk.display()));
        // A file with nothing in it takes no room.
        File::create(disk)
            .and_then(|file| file.set_len(DISK_BYTES))
            .map_err(failed)?;
        let Some(fstype) = self.fstype else {
            return Ok(());
        };
        let program = format!("mkfs.{}", fstype.word);
        let output = Command::new(&program)
            .args(quiet(fstype))
            .arg(disk)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| {
                Mistake::new(format!(
                    "running {program}: {error}; it makes the disk that stands in for the target"
                ))
            })?;
        if output.status.success() {
            Ok(())
        } else {
            Err(Mistake::new(format!(
                "{program} {}: {}: {}",
                disk.display(),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            )))
        }
    }

    /// Puts the disk into the described machine, and returns the target; none for the root, which no line names.
    pub(super) fn put_into(self, host: &mut Host, file: &Path) -> Option<Target> {
        let mut device = Device::new(NODE);
        device.size_bytes = Some(DISK_BYTES);
        device.drivers = DRIVERS
            .map(|name| Driver {
                module: Some(name.to_owned()),
                at: NODE.to_owned(),
                ..Driver::default()
            })
            .to_vec();
        device.content = read_content(file);
        host.devices = vec![device];
        if let Some(fstype) = self.fstype.filter(|_| self.is_root) {
            host.mounts = vec![Mount {
                source: NODE.to_owned(),
                target: "/".to_owned(),
                fstype: fstype.word.to_owned(),
                directory: "/".to_owned(),
                numbers: None,
                options: String::new(),
            }];
            return None;
        }
        Some(Target::Local {
            kind: match self.fstype {
                Some(fstype) => TargetKind::Filesystem(fstype),
                None => TargetKind::Raw { overwrite: false },
            },
            device: DeviceName::Node(NODE.to_owned()),
        })
    }
}

/// Where the dump is to be looked for, for the guest that reads it back.
pub(super) fn reading_list(prepared: &Prepared) -> String {
    match prepared.resolved.attempts.first().map(|goal| &goal.place) {
        Some(Place::Filesystem {
            fstype,
            mount_options,
            path,
            ..
        }) => format!("{FSTYPE}={fstype}\n{OPTIONS}={mount_options}\n{PATH}={path}\n"),
        _ => format!("{RAW}\n"),
    }
}

/// What keeps a program from asking, or from talking.
fn quiet(fstype: Type) -> &'static [&'static str] {
    match fstype.word {
        "ext2" | "ext3" | "ext4" => &["-q", "-F"],
        "xfs" | "btrfs" => &["-q", "-f"],
        _ => &[],
    }
}
