// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's block devices: what is on each, where it hangs, and which drivers serve it.
//!
//! On a machine they come from sysfs, the devices' own superblocks and partition tables, and, where those may not be read,
//! from udev's data base. A described host lists them in `kdump.devices` in its root directory, one a line:
//! ```text
//! # node     key=value …                             (values with blanks in double quotes)
//! /dev/vda   size=1073741824 bus_path=pci-0000:00:03.0 modules=virtio_pci,virtio_blk
//! /dev/vda1  parent=/dev/vda size=1072693248 fstype=ext4 uuid=5a7c2f3e-… label="root disk" partuuid=1a2b3c4d-01
//! ```
//! | key | value |
//! |---|---|
//! | `parent` | the disk that a partition is on; it gives `modules` and the bus path to the partition |
//! | `partition` | the partition's number, where the node's name does not end in it |
//! | `size` | bytes |
//! | `fstype`, `uuid`, `label` | what is on it, as `blkid` prints it |
//! | `partuuid` | the partition's own identity, as `blkid` prints it |
//! | `bus_path` | udev's `ID_PATH`, of the disk |
//! | `modules` | the drivers, from the bus to the disk, with commas between; built-in ones do no harm |
//!
//! Where nothing says what is on a device and the description has a file of the node's name (`dev/vda1` below the
//! root), that file is read as the device would be.

use super::Host;
use crate::error::{Mistake, Mistakes};
use collector::{IoError, Source};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use targets::device::Roots;
use targets::{bus_path, partition_table, superblock};

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
    /// It is made by the device mapper or md out of other devices.
    pub is_mapped: bool,
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

impl Device {
    fn new(node: &str) -> Self {
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
            is_mapped: false,
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

/// Reads `kdump.devices`.
pub(super) fn parse_description(host: &Host, text: &str) -> Result<Vec<Device>, Mistakes> {
    const FILE: &str = "kdump.devices";
    let mut devices: Vec<Device> = Vec::new();
    let mut mistakes = Mistakes::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (node, keys) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let device = if devices.iter().any(|device| device.node == node) {
            Err(format!("{node} is described twice"))
        } else {
            described(host, &devices, node, keys)
        };
        match device {
            Ok(device) => devices.push(device),
            Err(message) => mistakes.0.push(Mistake {
                place: Some((FILE.to_owned(), number)),
                message,
            }),
        }
    }
    if mistakes.0.is_empty() {
        Ok(devices)
    } else {
        Err(mistakes)
    }
}

fn described(host: &Host, before: &[Device], node: &str, keys: &str) -> Result<Device, String> {
    const KEYS: &str = "parent, partition, size, fstype, uuid, label, partuuid, bus_path, modules";
    if !node.starts_with("/dev/") {
        return Err(format!(
            "`{node}` is no node; a line begins with one: /dev/vda1"
        ));
    }
    let mut device = Device::new(node);
    let (mut kind, mut uuid, mut label) = (None, None, None);
    for (key, value) in split_pairs(keys)? {
        let text = Some(value.clone());
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("`{key}={value}`: accepted is a number"))
        };
        match key.as_str() {
            "parent" => device.parent = text,
            "partition" => {
                device.partition = Some(
                    u32::try_from(number()?)
                        .map_err(|_| format!("`{key}={value}` is too large"))?,
                );
            }
            "size" => device.size_bytes = Some(number()?),
            "fstype" => kind = text,
            "uuid" => uuid = text,
            "label" => label = text,
            "partuuid" => device.partuuid = text,
            "bus_path" => device.bus_path = text,
            "modules" => {
                device.drivers = value
                    .split(',')
                    .filter(|name| !name.is_empty())
                    .map(|name| Driver {
                        module: Some(name.to_owned()),
                        at: node.to_owned(),
                        ..Driver::default()
                    })
                    .collect();
            }
            _ => return Err(format!("unknown key `{key}`; accepted are {KEYS}")),
        }
    }
    if let Some(parent) = &device.parent {
        let disk = before
            .iter()
            .find(|disk| disk.node == *parent)
            .ok_or_else(|| format!("the parent {parent} is not described in a line before"))?;
        if device.partition.is_none() {
            let digits = node.rsplit(|letter: char| !letter.is_ascii_digit()).next();
            device.partition = digits.and_then(|digits| digits.parse().ok());
        }
        let number = device.partition.ok_or_else(|| {
            format!("{node} does not end in the partition's number; add partition=")
        })?;
        if device.drivers.is_empty() {
            device.drivers.clone_from(&disk.drivers);
        }
        if device.bus_path.is_none() {
            device.bus_path = disk
                .bus_path
                .as_ref()
                .map(|path| format!("{path}-part{number}"));
        }
    }
    match kind {
        Some(kind) => device.content = Content::Known { kind, uuid, label },
        None if uuid.is_some() || label.is_some() => {
            return Err("uuid= and label= need fstype=".to_owned());
        }
        None => {
            let file = host.inside(node);
            if file.is_file() {
                device.content = read_content(&file);
                device.table = read_table(&file, 512, |_| {});
                if device.size_bytes.is_none() {
                    device.size_bytes = fs::metadata(&file).ok().map(|metadata| metadata.len());
                }
            }
        }
    }
    Ok(device)
}

/// `key=value key="value with blanks"`
fn split_pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let word = rest.split([' ', '\t']).next().unwrap_or(rest);
        let (key, behind) = rest
            .split_once('=')
            .filter(|(key, _)| !key.contains([' ', '\t']))
            .ok_or_else(|| format!("`{word}` is no key=value"))?;
        let (value, behind) = match behind.strip_prefix('"') {
            Some(quoted) => quoted
                .split_once('"')
                .ok_or_else(|| format!("a quote without its end behind `{key}=`"))?,
            None => behind.split_once([' ', '\t']).unwrap_or((behind, "")),
        };
        if value.is_empty() {
            return Err(format!("`{key}=` has no value"));
        }
        pairs.push((key.to_owned(), value.to_owned()));
        rest = behind.trim_start();
    }
    Ok(pairs)
}

/// Reads the devices of a machine. What cannot be read is unknown; the plan says so where it matters.
pub(super) fn read_sysfs(host: &Host) -> Vec<Device> {
    const BLOCK: &str = "/sys/class/block";
    let mut names: Vec<String> = fs::read_dir(host.inside(BLOCK))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let mut devices: Vec<Device> = names
        .iter()
        .map(|name| sysfs_device(host, name, &host.canonical(&format!("{BLOCK}/{name}"))))
        .filter(|device| device.size_bytes != Some(0))
        .collect();
    for disk in 0..devices.len() {
        if devices[disk].partition.is_none() {
            let (node, file) = (devices[disk].node.clone(), host.inside(&devices[disk].node));
            let sector_bytes = host
                .text(&format!(
                    "{BLOCK}/{}/queue/logical_block_size",
                    kernel_name(&node)
                ))
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(512);
            let table = read_table(&file, sector_bytes, |partition| {
                let uuid = partition.uuid.as_str().unwrap_or_default();
                let known = devices.iter_mut().find(|device| {
                    device.parent.as_ref() == Some(&node)
                        && device.partition == Some(partition.number)
                });
                if let Some(device) = known.filter(|_| !uuid.is_empty()) {
                    device.partuuid = Some(uuid.to_owned());
                }
            });
            if table.is_some() {
                devices[disk].table = table;
            }
        }
    }
    devices
}

/// The kernel writes `!` where the node has a directory.
fn kernel_name(node: &str) -> String {
    node.trim_start_matches("/dev/").replace('/', "!")
}

fn sysfs_device(host: &Host, name: &str, directory: &str) -> Device {
    let attribute = |of: &str, name: &str| {
        host.text(&format!("{of}/{name}"))
            .map(|text| text.trim().to_owned())
    };
    let node_of = |name: &str| format!("/dev/{}", name.replace('!', "/"));
    let exists = |name: &str| host.inside(&format!("{directory}/{name}")).exists();
    let mut device = Device::new(&node_of(name));
    device.partition = attribute(directory, "partition").and_then(|text| text.parse().ok());
    device.numbers = attribute(directory, "dev").and_then(|text| {
        let (major, minor) = text.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    // sysfs counts in units of 512 bytes, whatever the device's sectors are.
    device.size_bytes = attribute(directory, "size")
        .and_then(|text| text.parse::<u64>().ok())
        .and_then(|sectors| sectors.checked_mul(512));
    device.is_mapped = exists("dm") || exists("md");
    if device.partition.is_some() {
        device.parent = parent_directory(directory)
            .and_then(|parent| parent.rsplit('/').next())
            .map(node_of);
    }
    device.drivers = driver_chain(host, directory);
    take_udev(host, &mut device);
    if let Some(path) = read_bus_path(host, name) {
        device.bus_path = Some(path);
    }
    let file = host.inside(&device.node);
    match read_content(&file) {
        // What udev knows is better than nothing.
        Content::Unknown(_) if matches!(device.content, Content::Known { .. }) => {}
        content => device.content = content,
    }
    device
}

fn parent_directory(directory: &str) -> Option<&str> {
    directory.rsplit_once('/').map(|(parent, _)| parent)
}

/// From the device tree's root to the disk: everything that has a driver, or says which it would like.
fn driver_chain(host: &Host, directory: &str) -> Vec<Driver> {
    let last = |path: String| path.rsplit('/').next().map(str::to_owned);
    let mut drivers = Vec::new();
    let mut at = directory;
    while let Some(parent) = parent_directory(at) {
        if at == "/sys/devices" {
            break;
        }
        let link = |name: &str| {
            let path = format!("{at}/{name}");
            let canonical = host.canonical(&path);
            (canonical != path).then_some(canonical)
        };
        let name = link("driver").and_then(last);
        let module = link("driver").and_then(|driver| {
            let path = format!("{driver}/module");
            let canonical = host.canonical(&path);
            (canonical != path).then(|| last(canonical)).flatten()
        });
        let modalias = host
            .text(&format!("{at}/modalias"))
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty());
        // A bridge without a driver works by itself.
        if name.is_some() {
            drivers.push(Driver {
                module,
                name,
                modalias,
                at: at.rsplit('/').next().unwrap_or(at).to_owned(),
            });
        }
        at = parent;
    }
    drivers.reverse();
    drivers
}

/// By the code that will look for it in the capture kernel.
fn read_bus_path(host: &Host, name: &str) -> Option<String> {
    let (sys, dev) = (host.inside("/sys"), host.inside("/dev"));
    let roots = Roots {
        sys: sys.to_str()?,
        dev: dev.to_str()?,
    };
    bus_path::of(&roots, name).map(|path| path.to_string())
}

/// What udev has found out: needed where the nodes may not be read.
fn take_udev(host: &Host, device: &mut Device) {
    let Some((major, minor)) = device.numbers else {
        return;
    };
    let Some(text) = host.text(&format!("/run/udev/data/b{major}:{minor}")) else {
        return;
    };
    let value = |key: &str| {
        text.lines()
            .filter_map(|line| line.strip_prefix("E:")?.split_once('='))
            .find(|(found, _)| *found == key)
            .map(|(_, value)| unhexed(value))
            .filter(|value| !value.is_empty())
    };
    if let Some(kind) = value("ID_FS_TYPE") {
        device.content = Content::Known {
            kind,
            uuid: value("ID_FS_UUID"),
            label: value("ID_FS_LABEL_ENC"),
        };
    }
    if device.partition.is_some() {
        device.partuuid = value("ID_PART_ENTRY_UUID");
    } else {
        device.table = value("ID_PART_TABLE_TYPE");
    }
    device.bus_path = value("ID_PATH").map(|path| match device.partition {
        Some(number) => format!("{path}-part{number}"),
        None => path,
    });
}

/// udev's `\x20`.
fn unhexed(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find("\\x") {
        bytes.extend(&rest.as_bytes()[..position]);
        let digits = rest.get(position + 2..position + 4);
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[position + 4..];
            }
            None => {
                bytes.extend(b"\\x");
                rest = &rest[position + 2..];
            }
        }
    }
    bytes.extend(rest.bytes());
    String::from_utf8_lossy(&bytes).into_owned()
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

fn read_content(path: &Path) -> Content {
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
            }
        }
    }
}

/// The kind of the partition table; `visit` sees its partitions.
fn read_table(
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

#[cfg(test)]
mod tests {
    use super::super::tests::Tree;
    use super::*;

    #[test]
    fn a_description_is_read_and_partitions_take_after_their_disk() {
        let tree = Tree::new(&[(
            "kdump.devices",
            "# a comment\n\n/dev/nvme0n1 size=1000 bus_path=pci-0000:00:05.0-nvme-1 modules=nvme\n\
             /dev/nvme0n1p2\tparent=/dev/nvme0n1 size=500 fstype=ext3 uuid=1-2 label=\"my disk\" partuuid=9-02 # c\n",
        )]);
        let host = tree.host();
        let device = host.device("/dev/nvme0n1p2").unwrap();
        assert_eq!((device.partition, device.size_bytes), (Some(2), Some(500)));
        assert_eq!(
            device.bus_path.as_deref(),
            Some("pci-0000:00:05.0-nvme-1-part2")
        );
        assert_eq!(device.drivers[0].module.as_deref(), Some("nvme"));
        assert_eq!(
            (device.kind(), device.uuid(), device.label()),
            (Some("ext3"), Some("1-2"), Some("my disk"))
        );
        assert_eq!(
            host.device("/dev/nvme0n1").unwrap().content,
            Content::Nothing
        );
        for (tag, count) in [
            ("UUID=1-2", 1),
            ("LABEL=my disk", 1),
            ("PARTUUID=9-02", 1),
            ("UUID=9-02", 0),
        ] {
            assert_eq!(host.devices_of_tag(tag).len(), count, "{tag}");
        }
    }

    #[test]
    fn a_wrong_description_gets_its_line_and_what_is_accepted() {
        for (line, part) in [
            ("vda size=1", "`vda` is no node"),
            ("/dev/vda size=x", "accepted is a number"),
            (
                "/dev/vda colour=red",
                "unknown key `colour`; accepted are parent",
            ),
            ("/dev/vda size", "`size` is no key=value"),
            ("/dev/vda size=", "`size=` has no value"),
            (
                "/dev/vda label=\"x",
                "a quote without its end behind `label=`",
            ),
            ("/dev/vda uuid=1", "need fstype="),
            (
                "/dev/vda1 parent=/dev/vda",
                "the parent /dev/vda is not described",
            ),
            ("/dev/a\n/dev/a", "/dev/a is described twice"),
        ] {
            let tree = Tree::new(&[("kdump.devices", line)]);
            let error = Host::read(&tree.0).unwrap_err().to_string();
            assert!(error.starts_with("kdump.devices:"), "{error}");
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    /// The sysfs of a virtio disk with one partition, and of a driver without a module.
    fn sysfs_tree() -> Tree {
        let disk = "/sys/devices/pci0000:00/0000:00:03.0/virtio0/block/vda";
        let tree = Tree::new(&[]);
        for (name, text) in [
            ("dev", "253:0\n"),
            ("size", "2048\n"),
            ("vda1/dev", "253:1\n"),
            ("vda1/size", "1024\n"),
            ("vda1/partition", "1\n"),
            ("../../modalias", "virtio:d00000002v00001AF4\n"),
            ("../../../modalias", "pci:v00001AF4d00001001\n"),
        ] {
            let path = tree.host().canonical(&format!("{disk}/{name}"));
            tree.write(&path, text.as_bytes());
        }
        tree.link(
            "/sys/class/block/vda",
            "../../devices/pci0000:00/0000:00:03.0/virtio0/block/vda",
        );
        tree.link(
            "/sys/class/block/vda1",
            "../../devices/pci0000:00/0000:00:03.0/virtio0/block/vda/vda1",
        );
        tree.link(
            "/sys/devices/pci0000:00/0000:00:03.0/virtio0/driver",
            "../../../../bus/virtio/drivers/virtio_blk",
        );
        tree.link(
            "/sys/bus/virtio/drivers/virtio_blk/module",
            "../../../../module/virtio_blk",
        );
        tree.write("/sys/module/virtio_blk/refcnt", b"1");
        tree.link(
            "/sys/devices/pci0000:00/0000:00:03.0/driver",
            "../../../bus/pci/drivers/virtio-pci",
        );
        tree.write("/sys/bus/pci/drivers/virtio-pci/bind", b"");
        tree
    }

    #[test]
    fn sysfs_gives_devices_with_their_chain_of_drivers() {
        let tree = sysfs_tree();
        tree.write(
            "/run/udev/data/b253:1",
            b"S:disk/by-label/x\nE:ID_FS_TYPE=ext4\nE:ID_FS_UUID=aa-bb\nE:ID_FS_LABEL_ENC=my\\x20disk\n\
              E:ID_PART_ENTRY_UUID=1a2b3c4d-01\nE:ID_PATH=pci-0000:00:03.0\n",
        );
        let host = tree.host();
        let device = host.device("/dev/vda1").unwrap();
        assert_eq!(
            (device.parent.as_deref(), device.partition),
            (Some("/dev/vda"), Some(1))
        );
        assert_eq!(
            (device.size_bytes, device.numbers),
            (Some(524_288), Some((253, 1)))
        );
        assert_eq!(
            (device.uuid(), device.label()),
            (Some("aa-bb"), Some("my disk"))
        );
        assert_eq!(device.partuuid.as_deref(), Some("1a2b3c4d-01"));
        assert_eq!(device.bus_path.as_deref(), Some("pci-0000:00:03.0-part1"));
        let chain: Vec<_> = device
            .drivers
            .iter()
            .map(|driver| {
                (
                    driver.at.as_str(),
                    driver.module.as_deref(),
                    driver.name.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            chain,
            [
                ("0000:00:03.0", None, Some("virtio-pci")),
                ("virtio0", Some("virtio_blk"), Some("virtio_blk"))
            ]
        );
        assert!(matches!(
            host.device("/dev/vda").unwrap().content,
            Content::Unknown(_)
        ));
    }

    #[test]
    fn what_is_on_a_readable_node_is_read_from_it() {
        let tree = sysfs_tree();
        let mut ext2 = vec![0; 4096];
        ext2[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
        ext2[1024 + 0x18] = 0;
        // 1 KiB blocks, revision 1, counts that make sense to any reader.
        for (offset, value) in [
            (0x00, 16_u32),
            (0x04, 4),
            (0x14, 1),
            (0x20, 8192),
            (0x28, 16),
            (0x4c, 1),
            (0x54, 11),
            (0x58, 128),
        ] {
            ext2[1024 + offset..1024 + offset + 4].copy_from_slice(&value.to_le_bytes());
        }
        ext2[1024 + 0x68..1024 + 0x78].copy_from_slice(&[0x11; 16]);
        ext2[1024 + 0x78..1024 + 0x7c].copy_from_slice(b"spar");
        tree.write("/dev/vda1", &ext2);
        let host = tree.host();
        let device = host.device("/dev/vda1").unwrap();
        assert_eq!(device.kind(), Some("ext2"), "{:?}", device.content);
        assert_eq!(device.uuid(), Some("11111111-1111-1111-1111-111111111111"));
        assert_eq!(device.label(), Some("spar"));
    }
}
