// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stands in for a target, and the machine that has it.

mod disk;
mod nfs;
mod ssh;
mod wire;

use super::machine::Devices;
use crate::Prepared;
use crate::conf::{Directives, OnFailure, Target};
use crate::error::{At, Mistake};
use crate::filesystem::Type;
use crate::host::Host;
use crate::resolve::{Goal, Place};
use age::Identity;
use config::{FailureAction, FinalAction, Role};
use disk::Disk;
use std::fmt;
use std::path::{Path, PathBuf};
pub(super) use wire::MAC;

/// What stands in for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StandIn {
    /// For a device of this machine.
    Disk(Disk),
    /// For a server that exports by NFS.
    Nfs(nfs::Server),
    /// For a server that is reached by ssh.
    Ssh(ssh::Server),
}

impl fmt::Display for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(disk) => disk.fmt(f),
            Self::Nfs(server) => server.fmt(f),
            Self::Ssh(server) => server.fmt(f),
        }
    }
}

/// A stand-in that is there.
#[derive(Debug)]
pub(super) enum SetUp {
    /// The disk's file.
    Disk(PathBuf),
    /// The server, which runs as long as this lives.
    Nfs(nfs::Running),
    /// The same.
    Ssh(ssh::Running),
}

/// What can stand in for the target of `goal`; else why nothing can.
pub(super) fn stands_for(goal: &Goal, directives: &Directives) -> Result<StandIn, String> {
    let fstype = match &goal.place {
        Place::Raw { .. } => None,
        Place::Filesystem { fstype, .. } => {
            Some(Type::of(fstype).ok_or_else(|| format!("{fstype} cannot be made here"))?)
        }
        Place::Nfs {
            mount_options,
            path,
            ..
        } => return Ok(StandIn::Nfs(nfs::Server::new(mount_options, path))),
        Place::Ssh { .. } => return ssh::Server::find().map(StandIn::Ssh),
    };
    Ok(StandIn::Disk(Disk {
        fstype,
        is_root: goal.role == Role::DumpToRootfs || directives.targets.is_empty(),
    }))
}

impl StandIn {
    /// Makes it, in `folder`. `key` is the user's, for servers.
    ///
    /// # Errors
    /// There is no room, or a program that it takes is missing or fails.
    pub(super) fn set_up(&self, folder: &Path, key: Option<&[u8]>) -> Result<SetUp, Mistake> {
        Ok(match self {
            Self::Disk(disk) => {
                let file = folder.join("disk");
                disk.make(&file)?;
                SetUp::Disk(file)
            }
            Self::Nfs(server) => SetUp::Nfs(server.start(folder)?),
            Self::Ssh(server) => SetUp::Ssh(server.start(folder, key)?),
        })
    }

    /// The configuration and the machine of the rehearsal: this one target, and an end that needs no person. Where dumps are
    /// encrypted, `readers` take the place of those who can read them.
    pub(super) fn scene(
        &self,
        directives: &Directives,
        host: &Host,
        set_up: &SetUp,
        readers: &[Identity],
    ) -> (Directives, Host) {
        let (mut directives, mut host) = (directives.clone(), host.clone());
        let line = directives.targets.first().map_or(1, |at| at.line);
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
        // The disk that stands in is not encrypted.
        directives.volume_keys.clear();
        // What is saved is to be read back, and the secret keys are not here.
        for (at, reader) in directives.encrypt_to.iter_mut().zip(readers) {
            at.value = reader.recipient();
        }
        // These say how this machine's network is, and not that of the rehearsal's.
        directives.ifc = None;
        directives.ip = None;
        host.devices.clear();
        host.mounts.clear();
        host.fstab.clear();
        host.swaps.clear();
        host.network = crate::host::Network::default();
        host.keyboards.clear();
        host.watchdogs.clear();
        directives.watchdog_s = None;
        host.warnings.clear();
        let target = match (self, set_up) {
            (Self::Disk(disk), SetUp::Disk(file)) => disk.put_into(&mut host, file),
            (_, SetUp::Nfs(server)) => Some(server.put_into(&mut host)),
            (_, SetUp::Ssh(server)) => {
                directives.path = Some(At {
                    line,
                    value: server.dumps().display().to_string(),
                });
                Some(server.put_into(&mut host))
            }
            (_, SetUp::Disk(_)) => None,
        };
        directives.targets = target
            .map(|value: Target| At { line, value })
            .into_iter()
            .collect();
        (directives, host)
    }

    /// Where the dump is to be looked for, for the guest that reads a disk.
    pub(super) fn reading_list(prepared: &Prepared) -> String {
        disk::reading_list(prepared)
    }
}

impl SetUp {
    /// What the machine has of it.
    pub(super) fn devices(&self) -> Devices {
        match self {
            Self::Disk(file) => Devices::Disk(file.clone()),
            Self::Nfs(_) | Self::Ssh(_) => Devices::Network,
        }
    }

    /// Where a server of this machine has the dumps.
    pub(super) fn dumps(&self) -> Option<&Path> {
        match self {
            Self::Disk(_) => None,
            Self::Nfs(server) => Some(server.dumps()),
            Self::Ssh(server) => Some(server.dumps()),
        }
    }
}
