// SPDX-License-Identifier: MIT OR Apache-2.0
//! The block devices of a described host: `kdump.devices` in its root directory, one a line.
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
//! | `made_of` | the nodes below a device that is made of others, with commas between |
//! | `dm_name`, `dm_uuid` | what the device mapper calls a mapping, and what it knows it by |
//! | `md_level` | the level of an array |
//! | `wwid` | what a disk calls itself for the whole world, as sysfs has it |
//! | `modules` | the drivers, from the bus to the disk, with commas between; built-in ones do no harm |
//!
//! Where nothing says what is on a device and the description has a file of the node's name (`dev/vda1` below the
//! root), that file is read as the device would be.

use super::Host;
use super::devices::{
    Content, Device, Driver, Made, Maker, read_content, read_table, read_unsaved_dump,
};
use crate::error::{Mistake, Mistakes};
use std::fs;

/// Reads `kdump.devices`.
pub(super) fn parse(host: &Host, text: &str) -> Result<Vec<Device>, Mistakes> {
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
    const KEYS: &str = "parent, partition, size, fstype, uuid, label, partuuid, bus_path, modules, made_of, dm_name, dm_uuid, \
                        md_level, wwid";
    if !node.starts_with("/dev/") {
        return Err(format!(
            "`{node}` is no node; a line begins with one: /dev/vda1"
        ));
    }
    let mut device = Device::new(node);
    let (mut kind, mut uuid, mut label) = (None, None, None);
    let (mut below, mut dm_name, mut dm_uuid, mut md_level) = (None, None, None, None);
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
            "wwid" => device.wwid = text,
            "dm_name" => dm_name = text,
            "dm_uuid" => dm_uuid = text,
            "md_level" => md_level = text,
            "made_of" => below = text,
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
    if let Some(below) = below {
        device.made = Some(Made {
            by: match (dm_name, dm_uuid, md_level) {
                (Some(name), Some(uuid), None) => Maker::Mapper { name, uuid },
                (None, None, Some(level)) => Maker::Array(level),
                _ => Maker::Other,
            },
            of: below.split(',').map(str::to_owned).collect(),
        });
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
        Some(kind) => {
            device.content = Content::Known {
                kind,
                uuid,
                label,
                obstacle: None,
            };
        }
        None if uuid.is_some() || label.is_some() => {
            return Err("uuid= and label= need fstype=".to_owned());
        }
        None => {
            let file = host.inside(node);
            if file.is_file() {
                device.content = read_content(&file);
                device.table = read_table(&file, 512, |_| {});
                device.unsaved_dump = read_unsaved_dump(&file);
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
}
