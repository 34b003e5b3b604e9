// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stands in for a target: an empty disk with the same kind of file system, in a machine that has nothing else.

use super::guest::{FSTYPE, OPTIONS, PATH, RAW};
use crate::Prepared;
use crate::conf::{DeviceName, Directives, OnFailure, Target, TargetKind};
use crate::error::{At, Mistake};
use crate::filesystem::Type;
use crate::host::devices::read_content;
use crate::host::{Device, Driver, Host, Mount, Network};
use crate::resolve::{Goal, Place};
use config::{FailureAction, FinalAction, Role};
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
pub(super) struct StandIn {
    /// Its file system; none for a raw target.
    fstype: Option<Type>,
    /// The target is the machine's own root, and no line of `kdump.conf`.
    is_root: bool,
}

impl fmt::Display for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fstype {
            Some(fstype) => write!(f, "an empty disk with {}", fstype.word),
            None => f.write_str("an empty disk"),
        }
    }
}

/// What can stand in for the target of `goal`; else why nothing can.
pub(super) fn stands_for(goal: &Goal, directives: &Directives) -> Result<StandIn, String> {
    let fstype = match &goal.place {
        Place::Raw { .. } => None,
        Place::Filesystem { fstype, .. } => {
            Some(Type::of(fstype).ok_or_else(|| format!("{fstype} cannot be made here"))?)
        }
        Place::Nfs { .. } | Place::Ssh { .. } => {
            return Err(
                "no server stands in for another; `mkkdumprd check` tries the one itself"
                    .to_owned(),
            );
        }
    };
    Ok(StandIn {
        fstype,
        is_root: goal.role == Role::DumpToRootfs || directives.targets.is_empty(),
    })
}

impl StandIn {
    /// Makes the disk's file.
    ///
    /// # Errors
    /// There is no room, or the program that makes the file system is missing or fails.
    pub(super) fn make(&self, disk: &Path) -> Result<(), Mistake> {
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

    /// The configuration and the machine of the rehearsal: this one target, and an end that needs no person.
    pub(super) fn scene(
        &self,
        directives: &Directives,
        host: &Host,
        disk: &Path,
    ) -> (Directives, Host) {
        let mut directives = directives.clone();
        let kind = match self.fstype {
            Some(fstype) => TargetKind::Filesystem(fstype),
            None => TargetKind::Raw { overwrite: false },
        };
        let line = directives.targets.first().map_or(1, |at| at.line);
        directives.targets = if self.is_root {
            Vec::new()
        } else {
            vec![At {
                line,
                value: Target::Local {
                    kind,
                    device: DeviceName::Node(NODE.to_owned()),
                },
            }]
        };
        directives.failure_action = Some(At {
            line,
            value: OnFailure {
                action: FailureAction::Reboot,
                by_default: true,
            },
        });
        directives.final_action = Some(At {
            line,
            value: FinalAction::Reboot,
        });
        directives.fence_kdump_nodes.clear();

        let mut host = host.clone();
        let mut device = Device::new(NODE);
        device.size_bytes = Some(DISK_BYTES);
        device.drivers = DRIVERS
            .map(|name| Driver {
                module: Some(name.to_owned()),
                at: NODE.to_owned(),
                ..Driver::default()
            })
            .to_vec();
        device.content = read_content(disk);
        host.devices = vec![device];
        host.mounts = match self.fstype {
            Some(fstype) if self.is_root => vec![Mount {
                source: NODE.to_owned(),
                target: "/".to_owned(),
                fstype: fstype.word.to_owned(),
                directory: "/".to_owned(),
                numbers: None,
                options: String::new(),
            }],
            _ => Vec::new(),
        };
        host.fstab = Vec::new();
        host.swaps = Vec::new();
        host.network = Network::default();
        host.keyboards = Vec::new();
        host.warnings = Vec::new();
        (directives, host)
    }

    /// Where the dump is to be looked for, for the guest that reads it back.
    pub(super) fn reading_list(self, prepared: &Prepared) -> String {
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
}

/// What keeps a program from asking, or from talking.
fn quiet(fstype: Type) -> &'static [&'static str] {
    match fstype.word {
        "ext2" | "ext3" | "ext4" => &["-q", "-F"],
        "xfs" | "btrfs" => &["-q", "-f"],
        _ => &[],
    }
}
