// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a dump goes: described, not opened.

use crate::layer::Layers;
use crate::network::Server;
use core::fmt;

/// One target, as the builder resolved it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetSpec<'a> {
    /// A whole block device, written from its first byte as with `dd`.
    Raw {
        /// The partition or disk.
        device: DeviceSpec<'a>,
        /// What is on it may be lost: the administrator said so.
        overwrite: bool,
    },
    /// A directory on a file system of a block device.
    Filesystem {
        /// The type for `mount(2)`: `ext2`, `ext3`, `ext4`, …
        fstype: &'a str,
        /// The device that holds it.
        device: DeviceSpec<'a>,
        /// Options for `mount(2)`'s data argument; empty for none.
        mount_options: &'a str,
        /// The save path, absolute inside this file system: `/var/crash`.
        path: &'a str,
    },
    /// A directory on a server's NFS export.
    Nfs {
        /// The server.
        server: Server<'a>,
        /// What it exports: `/srv/crash`.
        export: &'a str,
        /// Options for `mount(2)`'s data argument, without the server's address.
        mount_options: &'a str,
        /// The save path, absolute inside the export.
        path: &'a str,
        /// Which of the record's networks leads there, counted from 0.
        network: usize,
    },
    /// A directory of a server that is reached by ssh.
    Ssh {
        /// The server.
        server: Server<'a>,
        /// Its port.
        port: u16,
        /// The user's name there.
        user: &'a str,
        /// The keys of which the server must have one.
        host_keys: HostKeys<'a>,
        /// The save path on the server, absolute as the user sees it.
        path: &'a str,
        /// Which of the record's networks leads there, counted from 0.
        network: usize,
    },
}

/// Where the user's private key lies in the image, for all servers.
pub const SSH_KEY_PATH: &str = "/etc/kdump.key";
/// The most keys that one server is known by.
pub const MAX_HOST_KEYS: usize = 4;

/// The pinned keys of a server, each as `known_hosts` has it: its type, a blank, base64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostKeys<'a>([&'a str; MAX_HOST_KEYS]);

impl<'a> HostKeys<'a> {
    /// Adds a key. False when there is no room.
    pub fn push(&mut self, key: &'a str) -> bool {
        match self.0.iter_mut().find(|place| place.is_empty()) {
            Some(place) => {
                *place = key;
                true
            }
            None => false,
        }
    }

    /// The keys in their order.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> {
        self.0.into_iter().filter(|key| !key.is_empty())
    }
}

impl<'a> TargetSpec<'a> {
    /// The device below the target; none for a server.
    #[must_use]
    pub const fn device(&self) -> Option<&DeviceSpec<'a>> {
        match self {
            Self::Raw { device, .. } | Self::Filesystem { device, .. } => Some(device),
            Self::Nfs { .. } | Self::Ssh { .. } => None,
        }
    }

    /// Which of the record's networks leads there; none for a device.
    #[must_use]
    pub const fn network(&self) -> Option<usize> {
        match self {
            Self::Raw { .. } | Self::Filesystem { .. } => None,
            Self::Nfs { network, .. } | Self::Ssh { network, .. } => Some(*network),
        }
    }
}

impl fmt::Display for TargetSpec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw { device, .. } => write!(f, "raw {device}"),
            Self::Filesystem {
                fstype,
                device,
                path,
                ..
            } => write!(f, "{fstype} {device}, save path {path}"),
            Self::Nfs {
                server,
                export,
                path,
                ..
            } if server.name.contains(':') => {
                write!(f, "nfs [{server}]:{export}, save path {path}")
            }
            Self::Nfs {
                server,
                export,
                path,
                ..
            } => write!(f, "nfs {server}:{export}, save path {path}"),
            Self::Ssh {
                server,
                port,
                user,
                path,
                ..
            } => {
                write!(f, "ssh {user}@{server}")?;
                if *port != 22 {
                    write!(f, " port {port}")?;
                }
                write!(f, ", save path {path}")
            }
        }
    }
}

/// A block device: what it is, and what else the builder saw of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceSpec<'a> {
    /// What the device is known by in the capture kernel.
    pub id: DeviceId<'a>,
    /// What the administrator wrote, or the node the host has for it; for messages.
    pub known_as: &'a str,
    /// Its size on the host, in bytes, when the builder could read it. A device of another size is another device.
    pub size_bytes: Option<u64>,
    /// What must be put together before it is there.
    pub layers: Layers,
}

impl fmt::Display for DeviceSpec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let DeviceId::Node(_) = self.id {
            return write!(f, "{}", self.id);
        }
        if self.known_as.is_empty() {
            write!(f, "{}", self.id)
        } else {
            write!(f, "{} ({})", self.id, self.known_as)
        }
    }
}

/// What a block device is known by. Node names are the last resort: the capture kernel may give them to another disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceId<'a> {
    /// The UUID in the file system's superblock, as `blkid` prints it.
    Uuid(&'a str),
    /// The label in the file system's superblock.
    Label(&'a str),
    /// The partition's UUID (GPT), or disk signature and number (MBR: `1a2b3c4d-02`), as `blkid` prints it.
    PartUuid(&'a str),
    /// Where the device is attached, in the grammar of udev's `ID_PATH`: `pci-0000:00:03.0`, with `-part2` for a
    /// partition.
    BusPath(&'a str),
    /// What the disk calls itself for the whole world, as the kernel has it (`naa.…`), with `-part2` for a partition: the
    /// same for every path to it.
    Wwid(&'a str),
    /// The node's name below `/dev`, with the directory: `/dev/vda1`.
    Node(&'a str),
}

impl<'a> DeviceId<'a> {
    /// The keyword that the record uses, and the value.
    #[must_use]
    pub const fn parts(&self) -> (&'static str, &'a str) {
        match *self {
            Self::Uuid(value) => ("uuid", value),
            Self::Label(value) => ("label", value),
            Self::PartUuid(value) => ("partuuid", value),
            Self::BusPath(value) => ("bus_path", value),
            Self::Wwid(value) => ("wwid", value),
            Self::Node(value) => ("node", value),
        }
    }

    /// The identity from the record's keyword and value.
    #[must_use]
    pub fn from_parts(keyword: &str, value: &'a str) -> Option<Self> {
        Some(match keyword {
            "uuid" => Self::Uuid(value),
            "label" => Self::Label(value),
            "partuuid" => Self::PartUuid(value),
            "bus_path" => Self::BusPath(value),
            "wwid" => Self::Wwid(value),
            "node" => Self::Node(value),
            _ => return None,
        })
    }
}

impl fmt::Display for DeviceId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(value) => write!(f, "UUID={value}"),
            Self::Label(value) => write!(f, "LABEL={value}"),
            Self::PartUuid(value) => write!(f, "PARTUUID={value}"),
            Self::BusPath(value) => write!(f, "by-path/{value}"),
            Self::Wwid(value) => write!(f, "WWID={value}"),
            Self::Node(value) => f.write_str(value),
        }
    }
}
