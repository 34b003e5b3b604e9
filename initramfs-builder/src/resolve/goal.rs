// SPDX-License-Identifier: MIT OR Apache-2.0
//! What will be done, with all that the record needs to own.

use super::fence::Listener;
use super::network::Way;
use super::stack::Stacked;
use crate::error::Mistake;
use crate::modules::closure::{Chosen, Need};
use crate::modules::normalised;
use crate::programs::Programs;
use config::fence::{self, Sending};
use config::{
    Attempt, CollectOptions, Deadlines, DeviceId, DeviceSpec, FailureAction, Fence, FinalAction,
    Hook, HookKind, HostKeys, Layers, Module, Record, Role, RootFilesystem, Server, TargetSpec,
    Watchdog, record,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What will be done, with all that the record needs to own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The capture kernel's release.
    pub kernel: String,
    /// The host's name.
    pub hostname: String,
    /// The host's zone as a POSIX `TZ` string.
    pub zone: String,
    /// What follows when every attempt failed.
    pub failure_action: FailureAction,
    /// What follows at the end.
    pub final_action: FinalAction,
    /// The bound of each step.
    pub deadlines: Deadlines,
    /// The ways to servers.
    pub ways: Vec<Way>,
    /// The cluster's nodes that are told of the dump.
    pub fence: Vec<Listener>,
    /// When they are told.
    pub sending: Sending,
    /// What is put together from other devices, in order.
    pub layers: Vec<Stacked>,
    /// The user's key for servers that are reached by ssh.
    pub ssh_key: Option<Vec<u8>>,
    /// The volume keys of encrypted disks, each with its device's UUID.
    pub volume_keys: Vec<(String, Vec<u8>)>,
    /// In the order to be made.
    pub attempts: Vec<Goal>,
    /// The machine's root, where the failure action starts it.
    pub root: Option<Root>,
    /// How many dumps stay with the new one; 0 for all.
    pub keep_dumps: u32,
    /// The public keys that dumps are encrypted to.
    pub encrypt_to: Vec<String>,
    /// The driver of the hardware watchdog, and after how many seconds without progress it restarts the machine.
    pub watchdog: Option<(String, u32)>,
    /// How much of its memory the capture kernel shows.
    pub debug_mem_level: u8,
    /// The hooks in the order in which they run.
    pub hooks: Vec<(HookKind, String)>,
    /// Files of the host that the image needs besides.
    pub programs: Programs,
    /// Parameters of modules, by name with `_`.
    pub module_options: BTreeMap<String, String>,
    /// What the capture kernel must be able to do.
    pub needs: Vec<Need>,
    /// What a person should know before relying on the image.
    pub warnings: Vec<String>,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Why it is in the list.
    pub role: Role,
    /// Where it comes from: `kdump.conf:3`, or why it is there without a line.
    pub origin: String,
    /// Where to.
    pub place: Place,
    /// What and how.
    pub collect: CollectOptions,
    /// The program that collects instead, with its arguments.
    pub program: Option<String>,
}

/// Where a dump goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// To a device, from its first byte.
    Raw {
        /// The device.
        device: Identified,
        /// What is on it may be lost.
        overwrite: bool,
    },
    /// Into a directory of a device's file system.
    Filesystem {
        /// The device.
        device: Identified,
        /// The type for `mount(2)`.
        fstype: String,
        /// Its options.
        mount_options: String,
        /// The save path inside it.
        path: String,
    },
    /// Into a directory of what a server exports.
    Nfs {
        /// The server's name.
        server: String,
        /// Its address now.
        address: IpAddr,
        /// What it exports.
        export: String,
        /// Options for `mount(2)`.
        mount_options: String,
        /// The save path inside the export.
        path: String,
        /// Which of the ways leads there.
        way: usize,
    },
    /// Into a directory of a server, by ssh.
    Ssh {
        /// The server's name.
        server: String,
        /// Its address now.
        address: IpAddr,
        /// Its port.
        port: u16,
        /// The user's name there.
        user: String,
        /// The keys that it is known by, as `known_hosts` has them.
        host_keys: Vec<String>,
        /// The save path there.
        path: String,
        /// Which of the ways leads there.
        way: usize,
    },
}

impl Place {
    /// The device; none for a server.
    #[must_use]
    pub const fn device(&self) -> Option<&Identified> {
        match self {
            Self::Raw { device, .. } | Self::Filesystem { device, .. } => Some(device),
            Self::Nfs { .. } | Self::Ssh { .. } => None,
        }
    }

    /// What a message calls it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Raw { device, .. } | Self::Filesystem { device, .. } => device.node.clone(),
            Self::Nfs { server, export, .. } => format!("{server}:{export}"),
            Self::Ssh { user, server, .. } => format!("{user}@{server}"),
        }
    }

    /// Both would write to the same directory or device.
    pub(super) fn is_that_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Raw { device: one, .. }, Self::Raw { device: other, .. }) => {
                one.node == other.node
            }
            (
                Self::Filesystem {
                    device: one,
                    path,
                    mount_options,
                    ..
                },
                Self::Filesystem {
                    device: other,
                    path: other_path,
                    mount_options: other_options,
                    ..
                },
            ) => one.node == other.node && path == other_path && mount_options == other_options,
            (
                Self::Nfs {
                    address,
                    export,
                    path,
                    ..
                },
                Self::Nfs {
                    address: other_address,
                    export: other_export,
                    path: other_path,
                    ..
                },
            ) => address == other_address && export == other_export && path == other_path,
            (
                Self::Ssh {
                    address,
                    port,
                    user,
                    ..
                },
                Self::Ssh {
                    address: other_address,
                    port: other_port,
                    user: other_user,
                    ..
                },
            ) => address == other_address && port == other_port && user == other_user,
            _ => false,
        }
    }
}

/// A device and what it will be known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// The keyword of [`DeviceId::from_parts`].
    pub(super) keyword: &'static str,
    /// Its value.
    pub(super) value: String,
    /// The host's node.
    pub node: String,
    /// Its size on the host.
    pub size_bytes: Option<u64>,
    /// Which of the plan's layers are below it.
    pub layers: Layers,
    /// How the one follows from the other, for the plan.
    pub how: String,
}

/// The machine's root file system and its init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The type for `mount(2)`.
    pub fstype: String,
    /// Its options.
    pub mount_options: String,
    /// The device.
    pub device: Identified,
    /// The path of its init.
    pub init: String,
}

impl Identified {
    /// As the record has it.
    #[must_use]
    pub fn spec(&self) -> DeviceSpec<'_> {
        DeviceSpec {
            id: DeviceId::from_parts(self.keyword, &self.value)
                .unwrap_or(DeviceId::Node(&self.node)),
            known_as: &self.node,
            size_bytes: self.size_bytes,
            layers: self.layers,
        }
    }
}

impl Goal {
    /// As the record has it.
    #[must_use]
    pub fn target(&self) -> TargetSpec<'_> {
        match &self.place {
            Place::Raw { device, overwrite } => TargetSpec::Raw {
                device: device.spec(),
                overwrite: *overwrite,
            },
            Place::Filesystem {
                device,
                fstype,
                mount_options,
                path,
            } => TargetSpec::Filesystem {
                fstype,
                device: device.spec(),
                mount_options,
                path,
            },
            Place::Nfs {
                server,
                address,
                export,
                mount_options,
                path,
                way,
            } => TargetSpec::Nfs {
                server: Server {
                    name: server,
                    address: *address,
                },
                export,
                mount_options,
                path,
                network: *way,
            },
            Place::Ssh {
                server,
                address,
                port,
                user,
                host_keys,
                path,
                way,
            } => {
                let mut keys = HostKeys::default();
                for key in host_keys {
                    // There are no more than have room.
                    let _ = keys.push(key);
                }
                TargetSpec::Ssh {
                    server: Server {
                        name: server,
                        address: *address,
                    },
                    port: *port,
                    user,
                    host_keys: keys,
                    path,
                    network: *way,
                }
            }
        }
    }
}

impl Resolved {
    /// The record for the image, with these modules.
    ///
    /// # Errors
    /// There are more modules or attempts than a record lists.
    pub fn record<'a>(&'a self, chosen: &'a [Chosen]) -> Result<Record<'a>, Mistake> {
        let mut modules = heapless::Vec::new();
        for module in chosen {
            modules
                .push(Module {
                    name: &module.name,
                    options: self
                        .module_options
                        .get(&normalised(&module.name))
                        .map_or("", String::as_str),
                })
                .map_err(|_| {
                    Mistake::new(format!(
                        "the plan needs {} modules, and a record lists at most {}; take names out of `extra_modules`",
                        chosen.len(),
                        record::MAX_MODULES
                    ))
                })?;
        }
        let mut networks = heapless::Vec::new();
        for way in &self.ways {
            networks.push(way.spec()).map_err(|_| {
                Mistake::new(format!(
                    "the targets are reached in {} ways, and a record lists at most {}; take targets out",
                    self.ways.len(),
                    record::MAX_NETWORKS
                ))
            })?;
        }
        let mut fence = Fence {
            sending: self.sending,
            nodes: heapless::Vec::new(),
        };
        for listener in &self.fence {
            fence.nodes.push(listener.node()).map_err(|_| {
                Mistake::new(format!(
                    "there are {} nodes to be told, and a record lists at most {}; take names out of `fence_kdump_nodes`",
                    self.fence.len(),
                    fence::MAX_NODES
                ))
            })?;
        }
        let mut layers = heapless::Vec::new();
        for layer in &self.layers {
            layers.push(layer.spec()).map_err(|_| {
                Mistake::new(format!(
                    "{} devices are to be put together from others, and a record lists at most {}; take targets out",
                    self.layers.len(),
                    config::layer::MAX_LAYERS
                ))
            })?;
        }
        let mut attempts = heapless::Vec::new();
        for goal in &self.attempts {
            attempts
                .push(Attempt {
                    role: goal.role,
                    target: goal.target(),
                    collect: goal.collect.clone(),
                    program: goal.program.as_deref(),
                })
                .map_err(|_| {
                    Mistake::new(format!(
                        "the plan has {} attempts, and a record lists at most {}; take targets out",
                        self.attempts.len(),
                        record::MAX_ATTEMPTS
                    ))
                })?;
        }
        let mut hooks = heapless::Vec::new();
        for (kind, path) in &self.hooks {
            hooks.push(Hook { kind: *kind, path }).map_err(|_| {
                Mistake::new(format!(
                    "there are {} hooks, and a record lists at most {}; take programs out of /etc/kdump",
                    self.hooks.len(),
                    record::MAX_HOOKS
                ))
            })?;
        }
        Ok(Record {
            kernel: &self.kernel,
            hostname: &self.hostname,
            zone: &self.zone,
            failure_action: self.failure_action,
            final_action: self.final_action,
            deadlines: self.deadlines,
            debug_mem_level: self.debug_mem_level,
            keep_dumps: self.keep_dumps,
            // The configuration takes no more than there are places.
            encrypt_to: self.encrypt_to.iter().map(String::as_str).collect(),
            watchdog: self.watchdog.as_ref().map(|(driver, timeout_s)| Watchdog {
                driver,
                timeout_s: *timeout_s,
            }),
            modules,
            hooks,
            networks,
            fence,
            layers,
            attempts,
            root: self.root.as_ref().map(|root| RootFilesystem {
                fstype: &root.fstype,
                device: root.device.spec(),
                mount_options: &root.mount_options,
                init: &root.init,
            }),
        })
    }
}
