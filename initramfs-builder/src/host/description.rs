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
//! | `numbers` | major and minor number: `253:1` |
//! | `table` | the kind of its partition table: `gpt`, `dos` |
//! | `obstacle` | why what is on it cannot take a dump, although its kind can |
//! | `unknown` | why nobody could tell what is on it |
//! | `unsaved_dump` | the name of a raw dump on it that nobody has recovered |
//! | `remote` | `yes` when it is reached by a network |
//!
//! `made_of=-` is made of nothing that is a device, as a loop device is. Two other lines have what is no block device:
//! ```text
//! keyboard name="AT Translated Set 2 keyboard"
//! watchdog name=iTCO_wdt active=yes
//! ```
//! Behind each of them and behind a device may stand its drivers, a line each ([`super::pairs`]).
//!
//! Where nothing says what is on a device and the description has a file of the node's name (`dev/vda1` below the
//! root), that file is read as the device would be.

use super::Host;
use super::devices::{
    Content, Device, Driver, Keyboard, Made, Maker, Watchdog, read_content, read_table,
    read_unsaved_dump,
};
use super::pairs;
use crate::error::{Mistake, Mistakes};
use std::fs;

/// What `kdump.devices` describes.
#[derive(Debug, Default)]
pub(super) struct Described {
    pub(super) devices: Vec<Device>,
    pub(super) keyboards: Vec<Keyboard>,
    pub(super) watchdogs: Vec<Watchdog>,
    last: Last,
}

/// What the line before described.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    #[default]
    Nothing,
    /// A device, whose drivers are so far those of its disk or of `modules=`.
    Device,
    /// A device with lines for its drivers.
    DeviceWithDrivers,
    Keyboard,
    Watchdog,
}

impl Described {
    fn take(&mut self, host: &Host, line: &str) -> Result<(), String> {
        let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        match word {
            "driver" => self.drivers()?.push(pairs::driver(rest)?),
            "keyboard" => {
                self.keyboards.push(keyboard(rest)?);
                self.last = Last::Keyboard;
            }
            "watchdog" => {
                self.watchdogs.push(watchdog(rest)?);
                self.last = Last::Watchdog;
            }
            node if self.devices.iter().any(|device| device.node == node) => {
                return Err(format!("{node} is described twice"));
            }
            node => {
                let device = described(host, &self.devices, node, rest)?;
                self.devices.push(device);
                self.last = Last::Device;
            }
        }
        Ok(())
    }

    /// Those that a line with a driver adds to.
    fn drivers(&mut self) -> Result<&mut Vec<Driver>, String> {
        let mut device = self.devices.last_mut().map(|device| &mut device.drivers);
        if self.last == Last::Device {
            self.last = Last::DeviceWithDrivers;
            if let Some(drivers) = &mut device {
                drivers.clear();
            }
        }
        let drivers = match self.last {
            Last::Nothing => None,
            Last::Device | Last::DeviceWithDrivers => device,
            Last::Keyboard => self.keyboards.last_mut().map(|one| &mut one.drivers),
            Last::Watchdog => self.watchdogs.last_mut().map(|one| &mut one.drivers),
        };
        drivers.ok_or_else(|| "a driver without a line before that it is of".to_owned())
    }
}

fn keyboard(keys: &str) -> Result<Keyboard, String> {
    let mut keyboard = Keyboard {
        name: String::new(),
        drivers: Vec::new(),
    };
    for (key, value) in pairs::split(keys)? {
        match key.as_str() {
            "name" => keyboard.name = value,
            _ => return Err(format!("unknown key `{key}`; accepted is name")),
        }
    }
    Ok(keyboard)
}

fn watchdog(keys: &str) -> Result<Watchdog, String> {
    let mut watchdog = Watchdog {
        driver: String::new(),
        is_active: false,
        drivers: Vec::new(),
    };
    for (key, value) in pairs::split(keys)? {
        match key.as_str() {
            "name" => watchdog.driver = value,
            "active" => watchdog.is_active = yes_or_no(&key, &value)?,
            _ => return Err(format!("unknown key `{key}`; accepted are name, active")),
        }
    }
    Ok(watchdog)
}

fn yes_or_no(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(format!("`{key}={value}`: accepted are yes and no")),
    }
}

/// Reads `kdump.devices`.
pub(super) fn parse(host: &Host, text: &str) -> Result<Described, Mistakes> {
    const FILE: &str = "kdump.devices";
    let mut described = Described::default();
    let mut mistakes = Mistakes::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Err(message) = described.take(host, line) {
            mistakes.0.push(Mistake {
                place: Some((FILE.to_owned(), number)),
                message,
            });
        }
    }
    if mistakes.0.is_empty() {
        Ok(described)
    } else {
        Err(mistakes)
    }
}

/// What stands for no device.
const NOTHING: &str = "-";

/// `kdump.devices` for what a host has: [`parse`] gives the same again.
///
/// # Errors
/// A value has a letter that no line can have.
pub(super) fn write(host: &Host) -> Result<String, Mistake> {
    let mut text = String::new();
    // A partition's line needs that of its disk before it.
    let (partitions, disks): (Vec<_>, Vec<_>) = host
        .devices
        .iter()
        .partition(|device| device.parent.is_some());
    for device in disks.into_iter().chain(partitions) {
        text.push_str(&device_line(device)?);
        text.push('\n');
        let disk = device.parent.as_deref().and_then(|node| host.device(node));
        if disk.is_none_or(|disk| disk.drivers != device.drivers) {
            pairs::push_drivers(&mut text, &device.drivers)?;
        }
    }
    for keyboard in &host.keyboards {
        let mut line = "keyboard".to_owned();
        pairs::push(&mut line, "name", Some(&keyboard.name))?;
        text.push_str(&line);
        text.push('\n');
        pairs::push_drivers(&mut text, &keyboard.drivers)?;
    }
    for watchdog in &host.watchdogs {
        let mut line = "watchdog".to_owned();
        pairs::push(&mut line, "name", Some(&watchdog.driver))?;
        let active = if watchdog.is_active { "yes" } else { "no" };
        pairs::push(&mut line, "active", Some(active))?;
        text.push_str(&line);
        text.push('\n');
        pairs::push_drivers(&mut text, &watchdog.drivers)?;
    }
    Ok(text)
}

fn device_line(device: &Device) -> Result<String, Mistake> {
    let mut line = device.node.clone();
    let mut put = |key, value: Option<&str>| pairs::push(&mut line, key, value);
    put("parent", device.parent.as_deref())?;
    let partition = device.partition.map(|number| number.to_string());
    put("partition", partition.as_deref())?;
    let numbers = device
        .numbers
        .map(|(major, minor)| format!("{major}:{minor}"));
    put("numbers", numbers.as_deref())?;
    let size = device.size_bytes.map(|bytes| bytes.to_string());
    put("size", size.as_deref())?;
    match &device.content {
        Content::Nothing => {}
        Content::Unknown(why) => put("unknown", Some(why))?,
        Content::Known {
            kind,
            uuid,
            label,
            obstacle,
        } => {
            put("fstype", Some(kind))?;
            put("uuid", uuid.as_deref())?;
            put("label", label.as_deref())?;
            put("obstacle", obstacle.as_deref())?;
        }
    }
    put("table", device.table.as_deref())?;
    put("partuuid", device.partuuid.as_deref())?;
    put("bus_path", device.bus_path.as_deref())?;
    put("wwid", device.wwid.as_deref())?;
    put("unsaved_dump", device.unsaved_dump.as_deref())?;
    put("remote", device.is_remote.then_some("yes"))?;
    if let Some(made) = &device.made {
        let of = made.of.join(",");
        put("made_of", Some(if of.is_empty() { NOTHING } else { &of }))?;
        match &made.by {
            Maker::Mapper { name, uuid } => {
                put("dm_name", Some(name))?;
                put("dm_uuid", Some(uuid))?;
            }
            Maker::Array(level) => put("md_level", Some(level))?,
            Maker::Other => {}
        }
    }
    Ok(line)
}

fn described(host: &Host, before: &[Device], node: &str, keys: &str) -> Result<Device, String> {
    const KEYS: &str = "parent, partition, size, fstype, uuid, label, partuuid, bus_path, modules, made_of, dm_name, dm_uuid, \
                        md_level, wwid, numbers, table, obstacle, unknown, unsaved_dump, remote";
    if !node.starts_with("/dev/") {
        return Err(format!(
            "`{node}` is no node; a line begins with one: /dev/vda1"
        ));
    }
    let mut device = Device::new(node);
    let (mut kind, mut uuid, mut label, mut obstacle) = (None, None, None, None);
    let mut unknown = None;
    let (mut below, mut dm_name, mut dm_uuid, mut md_level) = (None, None, None, None);
    for (key, value) in pairs::split(keys)? {
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
            "numbers" => {
                device.numbers = Some(
                    value
                        .split_once(':')
                        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
                        .ok_or_else(|| format!("`{key}={value}`: accepted is MAJOR:MINOR"))?,
                );
            }
            "table" => device.table = text,
            "obstacle" => obstacle = text,
            "unknown" => unknown = text,
            "unsaved_dump" => device.unsaved_dump = text,
            "remote" => device.is_remote = yes_or_no(&key, &value)?,
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
            of: below
                .split(',')
                .filter(|&node| node != NOTHING)
                .map(str::to_owned)
                .collect(),
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
    match (kind, unknown) {
        (Some(kind), _) => {
            device.content = Content::Known {
                kind,
                uuid,
                label,
                obstacle,
            };
        }
        (None, _) if uuid.is_some() || label.is_some() || obstacle.is_some() => {
            return Err("uuid=, label= and obstacle= need fstype=".to_owned());
        }
        (None, Some(why)) => device.content = Content::Unknown(why),
        (None, None) => {
            let file = host.inside(node);
            if file.is_file() {
                device.content = read_content(&file);
                device.table = read_table(&file, 512, |_| {}).or(device.table);
                device.unsaved_dump = read_unsaved_dump(&file).or(device.unsaved_dump);
                if device.size_bytes.is_none() {
                    device.size_bytes = fs::metadata(&file).ok().map(|metadata| metadata.len());
                }
            }
        }
    }
    Ok(device)
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
    fn what_is_written_is_read_again() {
        let text = "/dev/vda numbers=253:0 size=1000 table=gpt bus_path=pci-0000:00:03.0 wwid=\"t10 x\" remote=yes\n\
                    driver at=virtio0 name=virtio_blk modalias=virtio:d00000002v00001AF4\n\
                    /dev/loop0 numbers=7:0 unknown=\"no such medium\" made_of=-\n\
                    /dev/dm-0 fstype=ext4 uuid=1-2 label=\"my disk\" obstacle=journal unsaved_dump=d made_of=/dev/vda1 dm_name=a-b dm_uuid=LVM-x\n\
                    /dev/md0 made_of=/dev/vda1,/dev/vdb1 md_level=raid1\n\
                    /dev/vda1 parent=/dev/vda partition=1 partuuid=9-02 bus_path=pci-0000:00:03.0-part1\n\
                    keyboard name=\"AT keyboard\"\ndriver at=serio0 modalias=serio:ty06\n\
                    watchdog name=iTCO_wdt active=yes\ndriver at=iTCO module=iTCO_wdt\n\
                    watchdog name=softdog active=no\n";
        let tree = Tree::new(&[("kdump.devices", text)]);
        assert_eq!(write(&tree.host()).unwrap(), text);
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
            ("driver at=x", "a driver without a line"),
            ("keyboard colour=red", "accepted is name"),
            ("watchdog name=w active=x", "accepted are yes and no"),
            ("/dev/a numbers=8", "accepted is MAJOR:MINOR"),
        ] {
            let tree = Tree::new(&[("kdump.devices", line)]);
            let error = Host::read(&tree.0).unwrap_err().to_string();
            assert!(error.starts_with("kdump.devices:"), "{error}");
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
