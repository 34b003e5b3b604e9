// SPDX-License-Identifier: MIT OR Apache-2.0
//! The block devices of a machine: sysfs, what can be read of the devices themselves, and udev's data base.

use super::Host;
use super::devices::{
    Content, Device, Driver, Keyboard, Made, Maker, Watchdog, read_content, read_table,
    read_unsaved_dump,
};
use std::fs;
use targets::bus_path;
use targets::device::Roots;

/// Reads the devices of a machine. What cannot be read is unknown; the plan says so where it matters.
pub(super) fn read(host: &Host) -> Vec<Device> {
    const BLOCK: &str = "/sys/class/block";
    let names = entries(host, BLOCK);
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
    if is_made_of_others(directory) && device.partition.is_none() {
        let text = |name: &str| attribute(directory, name).unwrap_or_default();
        let below = entries(host, &format!("{directory}/slaves"));
        device.made = Some(Made {
            by: match (text("dm/name"), text("md/level")) {
                (name, _) if !name.is_empty() => Maker::Mapper {
                    name,
                    uuid: text("dm/uuid"),
                },
                (_, level) if !level.is_empty() => Maker::Array(level),
                _ => Maker::Other,
            },
            of: below.iter().map(|name| node_of(name)).collect(),
        });
    }
    device.wwid = ["device/wwid", "wwid"]
        .into_iter()
        .find_map(|name| attribute(directory, name).filter(|text| !text.is_empty()));
    // Source: Linux 6.12 `drivers/scsi/scsi_transport_iscsi.c`: the disks of a session lie below its directory.
    device.is_remote = directory.split('/').any(|part| {
        part.strip_prefix("session")
            .is_some_and(|rest| rest.parse::<u32>().is_ok())
    });
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
    // A drive for media may wait for one when it is opened, and is no target.
    if name.starts_with("fd") || name.starts_with("sr") {
        return device;
    }
    let file = host.inside(&device.node);
    device.unsaved_dump = read_unsaved_dump(&file);
    match read_content(&file) {
        // What udev knows is better than nothing.
        Content::Unknown(_) if matches!(device.content, Content::Known { .. }) => {}
        content => device.content = content,
    }
    device
}

/// Loop devices, the device mapper's, md's and such: the capture kernel does not have them by itself.
fn is_made_of_others(directory: &str) -> bool {
    directory.starts_with("/sys/devices/virtual/") && !directory.contains(NVME_SUBSYSTEM)
}

/// Where a disk hangs that an NVMe controller may share with others; the controllers are links beside it.
const NVME_SUBSYSTEM: &str = "/virtual/nvme-subsystem/";

/// The keyboards, for a shell: what sends keys and repeats them.
pub(super) fn read_keyboards(host: &Host) -> Vec<Keyboard> {
    const INPUT: &str = "/sys/class/input";
    /// `EV_KEY` and `EV_REP`. Source: Linux 6.12 `include/uapi/linux/input-event-codes.h`.
    const KEYBOARD: u64 = 1 << 0x01 | 1 << 0x14;
    entries(host, INPUT)
        .into_iter()
        .filter(|name| name.starts_with("input"))
        .map(|name| host.canonical(&format!("{INPUT}/{name}")))
        .filter(|directory| {
            host.text(&format!("{directory}/capabilities/ev"))
                .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
                .is_some_and(|kinds| kinds & KEYBOARD == KEYBOARD)
        })
        .map(|directory| Keyboard {
            name: host
                .text(&format!("{directory}/name"))
                .map_or_else(|| directory.clone(), |text| text.trim().to_owned()),
            drivers: driver_chain(host, &directory),
        })
        .collect()
}

/// The hardware watchdogs. Most say which device they are of; the driver of an older one does not (i6300esb up to Linux 6.12 at
/// least), but calls itself as the watchdog does. What has neither is the kernel's own timer, which stands still with the
/// kernel.
pub(super) fn read_watchdogs(host: &Host) -> Vec<Watchdog> {
    const WATCHDOG: &str = "/sys/class/watchdog";
    let mut found: Vec<Watchdog> = entries(host, WATCHDOG)
        .into_iter()
        .filter_map(|name| {
            let link = format!("{WATCHDOG}/{name}/device");
            let device = if host.inside(&link).exists() {
                host.canonical(&link)
            } else {
                device_of_driver(
                    host,
                    host.text(&format!("{WATCHDOG}/{name}/identity"))?.trim(),
                )?
            };
            let drivers = driver_chain(host, &device);
            Some(Watchdog {
                driver: drivers.last()?.name.clone()?,
                is_active: host
                    .text(&format!("{WATCHDOG}/{name}/state"))
                    .is_some_and(|text| text.trim() == "active"),
                drivers,
            })
        })
        .collect();
    found.sort_by_key(|watchdog| !watchdog.is_active);
    found
}

/// The first device of the driver of this name, on the buses that watchdogs are on.
fn device_of_driver(host: &Host, name: &str) -> Option<String> {
    ["pci", "platform"].into_iter().find_map(|bus| {
        let driver = format!("/sys/bus/{bus}/drivers/{name}");
        let mut entries = entries(host, &driver).into_iter();
        entries.find_map(|entry| {
            let device = host.canonical(&format!("{driver}/{entry}"));
            device.starts_with("/sys/devices/").then_some(device)
        })
    })
}

/// The names in a directory, in order; none where it cannot be read.
fn entries(host: &Host, directory: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(host.inside(directory))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn parent_directory(directory: &str) -> Option<&str> {
    directory.rsplit_once('/').map(|(parent, _)| parent)
}

/// From the device tree's root to the disk: everything that has a driver, or says which it would like.
pub(super) fn driver_chain(host: &Host, directory: &str) -> Vec<Driver> {
    let last = |path: String| path.rsplit('/').next().map(str::to_owned);
    if let Some((before, behind)) = directory.split_once(NVME_SUBSYSTEM) {
        let name = behind.split('/').next().unwrap_or(behind);
        let subsystem = format!("{before}{NVME_SUBSYSTEM}{name}");
        return entries(host, &subsystem)
            .into_iter()
            .map(|name| host.canonical(&format!("{subsystem}/{name}")))
            .filter(|controller| !controller.contains(NVME_SUBSYSTEM))
            .flat_map(|controller| driver_chain(host, &controller))
            .collect();
    }
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
            obstacle: None,
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

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::Tree;
    use super::*;

    /// The sysfs of a virtio disk with one partition, and of a driver without a module.
    pub(crate) fn sysfs_tree() -> Tree {
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
    fn a_shared_nvme_disk_has_the_drivers_of_its_controllers() {
        let tree = Tree::new(&[]);
        let subsystem = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0";
        let controller = "/sys/devices/pci0000:00/0000:00:05.0/nvme/nvme0";
        tree.write(&format!("{subsystem}/nvme0n1/size"), b"8\n");
        tree.write(&format!("{subsystem}/nvme0n1/nvme0n1p1/size"), b"4\n");
        tree.write(&format!("{subsystem}/nvme0n1/nvme0n1p1/partition"), b"1\n");
        tree.write(&format!("{subsystem}/model"), b"x\n");
        tree.link(
            &format!("{subsystem}/nvme0"),
            "../../../pci0000:00/0000:00:05.0/nvme/nvme0",
        );
        tree.write(&format!("{controller}/state"), b"live\n");
        tree.link(
            "/sys/devices/pci0000:00/0000:00:05.0/driver",
            "../../../bus/pci/drivers/nvme",
        );
        tree.link(
            "/sys/bus/pci/drivers/nvme/module",
            "../../../../module/nvme",
        );
        tree.write("/sys/module/nvme/refcnt", b"1");
        tree.link(
            "/sys/class/block/nvme0n1",
            "../../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1",
        );
        tree.link(
            "/sys/class/block/nvme0n1p1",
            "../../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/nvme0n1p1",
        );
        tree.write("/sys/devices/virtual/block/loop0/size", b"8\n");
        tree.link(
            "/sys/class/block/loop0",
            "../../devices/virtual/block/loop0",
        );
        let host = tree.host();
        for node in ["/dev/nvme0n1", "/dev/nvme0n1p1"] {
            let device = host.device(node).unwrap();
            let modules: Vec<_> = device
                .drivers
                .iter()
                .map(|driver| driver.module.as_deref())
                .collect();
            assert_eq!(
                (modules, device.made.is_some()),
                (vec![Some("nvme")], false),
                "{node}"
            );
        }
        assert!(host.device("/dev/loop0").unwrap().made.is_some());
    }

    #[test]
    fn what_repeats_keys_is_a_keyboard() {
        let tree = Tree::new(&[]);
        let usb = "/sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0";
        for (number, kinds) in [(3, "120013\n"), (4, "3\n")] {
            tree.write(
                &format!("{usb}/input/input{number}/capabilities/ev"),
                kinds.as_bytes(),
            );
            tree.write(&format!("{usb}/input/input{number}/name"), b"A Keyboard\n");
            tree.link(
                &format!("/sys/class/input/input{number}"),
                &format!(
                    "../../devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/input/input{number}"
                ),
            );
        }
        tree.link(
            &format!("{usb}/driver"),
            "../../../../../../bus/usb/drivers/usbhid",
        );
        tree.write("/sys/bus/usb/drivers/usbhid/bind", b"");
        let host = tree.host();
        assert_eq!(host.keyboards.len(), 1);
        assert_eq!(host.keyboards[0].name, "A Keyboard");
        assert_eq!(host.keyboards[0].drivers[0].name.as_deref(), Some("usbhid"));
    }

    #[test]
    fn the_watchdog_that_is_fed_comes_first_and_the_kernels_own_is_none() {
        let tree = Tree::new(&[]);
        for (number, place, driver, state) in [
            (
                0,
                "pci0000:00/0000:00:1f.0/iTCO_wdt",
                "iTCO_wdt",
                "inactive",
            ),
            (1, "pci0000:00/0000:00:09.0", "i6300ESB timer", "active"),
            (2, "virtual", "", "active"),
        ] {
            let device = format!("/sys/devices/{place}");
            let own = format!("{device}/watchdog/watchdog{number}");
            tree.write(&format!("{own}/state"), format!("{state}\n").as_bytes());
            tree.link(
                &format!("/sys/class/watchdog/watchdog{number}"),
                &format!("../../devices/{place}/watchdog/watchdog{number}"),
            );
            if !driver.is_empty() {
                let up = "../".repeat(place.split('/').count() + 1);
                tree.write(&format!("/sys/bus/x/drivers/{driver}/bind"), b"");
                tree.link(
                    &format!("{device}/driver"),
                    &format!("{up}bus/x/drivers/{driver}"),
                );
                tree.link(&format!("{own}/device"), "../..");
            }
        }
        let found = || -> Vec<_> {
            let watchdogs = tree.host().watchdogs.into_iter();
            watchdogs
                .map(|watchdog| (watchdog.driver, watchdog.is_active))
                .collect()
        };
        let both = [
            ("i6300ESB timer".to_owned(), true),
            ("iTCO_wdt".to_owned(), false),
        ];
        assert_eq!(found(), both);

        // As i6300esb is on Linux 6.12: its watchdog is of no device, and has the driver's name.
        fs::remove_file(
            tree.0
                .join("sys/devices/pci0000:00/0000:00:09.0/watchdog/watchdog1/device"),
        )
        .unwrap();
        assert_eq!(found().len(), 1);
        tree.write(
            "/sys/devices/pci0000:00/0000:00:09.0/watchdog/watchdog1/identity",
            b"i6300ESB timer\n",
        );
        tree.write("/sys/bus/pci/drivers/i6300ESB timer/bind", b"");
        tree.link(
            "/sys/bus/pci/drivers/i6300ESB timer/0000:00:09.0",
            "../../../../devices/pci0000:00/0000:00:09.0",
        );
        assert_eq!(found(), both);
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
