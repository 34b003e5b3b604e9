// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's block devices: what is on each, where it hangs, and which drivers serve it.
//!
//! On a machine they come from sysfs, the devices' own superblocks and partition tables, and, where those may not be read,
//! from udev's data base. A described host lists them ([`super::description`]).

use collector::{IoError, Source};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use targets::layer::luks::Header;
use targets::{partition_table, superblock};

/// One disk or partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its node: `/dev/vda1`.
    pub node: String,
    /// The disk's node, for a partition.
    pub parent: Option<String>,
    /// The partition's number.
    pub partition: Option<u32>,
    /// Major and minor number, where known.
    pub numbers: Option<(u32, u32)>,
    /// Its size, where known.
    pub size_bytes: Option<u64>,
    /// What is on it.
    pub content: Content,
    /// The kind of its partition table, `gpt` or `dos`, where it has one.
    pub table: Option<String>,
    /// The partition's identity.
    pub partuuid: Option<String>,
    /// Where it hangs: udev's `ID_PATH`, with `-partN` for a partition.
    pub bus_path: Option<String>,
    /// Its drivers, from the bus to the disk.
    pub drivers: Vec<Driver>,
    /// The name of a raw dump on it that nobody has recovered.
    pub unsaved_dump: Option<String>,
    /// What it is made of, where the capture kernel does not have it by itself.
    pub made: Option<Made>,
    /// What the disk calls itself for the whole world, the same for every path to it; for a disk.
    pub wwid: Option<String>,
    /// It is reached by a network: iSCSI.
    pub is_remote: bool,
}

/// How a device is made of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// By what.
    pub by: Maker,
    /// The nodes of what is directly below.
    pub of: Vec<String>,
}

/// What makes devices of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Maker {
    /// The device mapper: what it calls the device, and what it knows it by.
    Mapper {
        /// `vg0-root`
        name: String,
        /// `LVM-…`, `mpath-…`, `CRYPT-…`, …
        uuid: String,
    },
    /// md: the level.
    Array(String),
    /// Something else: a loop device and such.
    Other,
}

/// What is on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nobody could tell, for this reason.
    Unknown(String),
    /// Nothing that is known.
    Nothing,
    /// A file system or a member of something.
    Known {
        /// The word that `blkid` has for it.
        kind: String,
        /// Its UUID, where it has one.
        uuid: Option<String>,
        /// Its label, where it has one.
        label: Option<String>,
        /// Why it cannot take a dump, although its kind can.
        obstacle: Option<String>,
    },
}

/// A driver on the way from the root of the device tree to a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// The module that the host has for it; none when it is built in there, or when that is not known.
    pub module: Option<String>,
    /// The driver's name, where one has the device.
    pub name: Option<String>,
    /// What the device says of itself.
    pub modalias: Option<String>,
    /// The device's name on its bus, for messages.
    pub at: String,
}

/// What a person types on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyboard {
    /// Its name.
    pub name: String,
    /// Its drivers, from the bus on.
    pub drivers: Vec<Driver>,
}

/// A hardware watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// Its driver, as sysfs calls it.
    pub driver: String,
    /// Somebody feeds it.
    pub is_active: bool,
    /// Its drivers, from the bus on.
    pub drivers: Vec<Driver>,
}

impl Device {
    pub(crate) fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            parent: None,
            partition: None,
            numbers: None,
            size_bytes: None,
            content: Content::Nothing,
            table: None,
            partuuid: None,
            bus_path: None,
            drivers: Vec::new(),
            unsaved_dump: None,
            made: None,
            wwid: None,
            is_remote: false,
        }
    }

    /// The UUID of what is on it.
    #[must_use]
    pub fn uuid(&self) -> Option<&str> {
        match &self.content {
            Content::Known { uuid, .. } => uuid.as_deref(),
            _ => None,
        }
    }

    /// The label of what is on it.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        match &self.content {
            Content::Known { label, .. } => label.as_deref(),
            _ => None,
        }
    }

    /// The kind of what is on it.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        match &self.content {
            Content::Known { kind, .. } => Some(kind),
            _ => None,
        }
    }
}

/// A node, or a file in its place.
struct Node {
    file: File,
    size_bytes: u64,
}

impl Node {
    fn open(path: &Path) -> std::io::Result<Self> {
        use std::io::{Seek as _, SeekFrom};
        let mut file = File::open(path)?;
        let size_bytes = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, size_bytes })
    }
}

impl Source for Node {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        self.file.read_exact_at(buf, offset).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                IoError::END
            } else {
                error.raw_os_error().map_or(IoError::IO, IoError)
            }
        })
    }
}

pub(crate) fn read_content(path: &Path) -> Content {
    let mut node = match Node::open(path) {
        Ok(node) => node,
        Err(error) => return Content::Unknown(error.to_string()),
    };
    match superblock::identify(&mut node) {
        Err(error) => Content::Unknown(error.to_string()),
        Ok(None) => Content::Nothing,
        Ok(Some(found)) => {
            let text = |bytes: &[u8]| {
                (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
            };
            Content::Known {
                kind: found.kind.word().to_owned(),
                uuid: text(found.uuid.as_bytes()),
                label: text(found.label.as_bytes()),
                obstacle: found.obstacle.map(|obstacle| obstacle.to_string()),
            }
        }
    }
}

/// The LUKS header of a node, or of a file in its place.
pub(crate) fn read_luks(path: &Path) -> Result<Header, String> {
    let mut node = Node::open(path).map_err(|error| format!("reading the LUKS header: {error}"))?;
    // As much as the largest one has.
    let mut memory = vec![0; 4 << 20];
    Header::read(&mut node, &mut memory).map_err(|error| error.to_string())
}

/// The name of the raw dump that nobody has recovered.
pub(super) fn read_unsaved_dump(path: &Path) -> Option<String> {
    let control = collector::raw::read_control(&mut Node::open(path).ok()?).ok()?;
    (!control.is_saved).then(|| control.name.as_str().to_owned())
}

/// The kind of the partition table; `visit` sees its partitions.
pub(super) fn read_table(
    path: &Path,
    sector_bytes: u32,
    mut visit: impl FnMut(&partition_table::Partition),
) -> Option<String> {
    let mut node = Node::open(path).ok()?;
    let mut partitions = 0_u32;
    let table = partition_table::partitions(&mut node, sector_bytes, &mut |partition| {
        partitions += 1;
        visit(partition);
    })
    .ok()?;
    match table {
        // A boot sector, as that of a FAT, looks like an MBR without partitions.
        _ if partitions == 0 => None,
        partition_table::Table::Absent => None,
        partition_table::Table::Gpt { .. } => Some("gpt".to_owned()),
        partition_table::Table::Mbr => Some("dos".to_owned()),
    }
}
