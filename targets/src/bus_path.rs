// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a disk is attached, in the grammar of udev's `ID_PATH`: `pci-0000:00:03.0`, `pci-0000:00:1f.2-ata-1`.
//!
//! The name is put together on the way from the disk up to the root of the device tree; each bus adds its part in front.
//! What is attached by Fibre Channel, SAS, iSCSI or Hyper-V has names that need more than the way up: such a disk has
//! none here, and is known by what is on it.
//!
//! Source: systemd 252 `src/udev/udev-builtin-path_id.c`, `rules.d/60-persistent-storage.rules` (for `-part`).

use crate::sysfs::{DevPath, KernelName, Roots, System};
use crate::text::Text;
use core::fmt;

/// Two spellings for disks behind ATA ports: before systemd 247 the port alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtaStyle {
    /// `ata-1`
    Port,
    /// `ata-1.0`
    PortAndDevice,
}

/// Where the block device of this kernel name is attached, with `-partN` for a partition; none where it cannot be said.
/// The capture side finds it by this name, and also by the shorter one that older versions of udev have for ATA.
#[must_use]
pub fn of(roots: &Roots<'_>, name: &str) -> Option<Text<255>> {
    let system = System::open(roots).ok()?;
    let device = KernelName::new(name.as_bytes());
    match system.number(&device, "partition") {
        None => of_disk(&system, &device, AtaStyle::PortAndDevice),
        Some(number) => {
            let disk = system.disk_of(&device)?;
            let disk = of_disk(&system, &disk, AtaStyle::PortAndDevice)?;
            let path = DevPath::format(format_args!("{disk}-part{number}"));
            (!path.is_cut()).then_some(path)
        }
    }
}

/// Where the network card of this kernel name is attached; none for what is no card (a bridge, a VLAN).
#[must_use]
pub fn of_network_card(roots: &Roots<'_>, name: &str) -> Option<Text<255>> {
    of_card(&System::open(roots).ok()?, name.as_bytes())
}

/// The device is the one that `wanted` names, with `-partN` for a partition.
pub(crate) fn matches(system: &System, device: &KernelName, wanted: &str) -> bool {
    let (disk, wanted) = match system.number(device, "partition") {
        None => (*device, wanted),
        Some(number) => {
            let Some((base, digits)) = wanted.rsplit_once("-part") else {
                return false;
            };
            if digits.parse() != Ok(number) {
                return false;
            }
            let Some(disk) = system.disk_of(device) else {
                return false;
            };
            (disk, base)
        }
    };
    [AtaStyle::Port, AtaStyle::PortAndDevice]
        .into_iter()
        .any(|style| of_disk(system, &disk, style).is_some_and(|path| path == *wanted))
}

/// Where the network card of this kernel name is attached; none for what is no card.
pub(crate) fn of_card(system: &System, name: &[u8]) -> Option<DevPath> {
    let name = KernelName::new(name);
    let link = crate::io::path::<64>(format_args!("class/net/{name}")).ok()?;
    let dev_path = system.device_of(link.as_str()?)?;
    let (path, way) = walk(system, &name, dev_path.as_str()?, AtaStyle::PortAndDevice)?;
    (way.has_parent && !path.is_cut()).then_some(path)
}

fn of_disk(system: &System, disk: &KernelName, style: AtaStyle) -> Option<DevPath> {
    let dev_path = system.dev_path(disk)?;
    let (path, way) = walk(system, disk, dev_path.as_str()?, style)?;
    (way.has_transport && way.has_parent && !path.is_cut()).then_some(path)
}

/// What was passed on the way up.
struct Way {
    /// What a disk is driven by.
    has_transport: bool,
    /// A bus whose places have lasting names.
    has_parent: bool,
}

fn walk(
    system: &System,
    disk: &KernelName,
    dev_path: &str,
    style: AtaStyle,
) -> Option<(DevPath, Way)> {
    let mut at = dev_path;
    let mut path = DevPath::EMPTY;
    let (mut has_transport, mut has_parent) = (false, false);
    while let Some((parent, name)) = at.rsplit_once('/') {
        let subsystem = subsystem(system, at);
        match subsystem.as_ref().and_then(KernelName::as_str) {
            Some("scsi") => {
                if let Some([host, bus, target, lun]) = scsi_address(name) {
                    has_transport = true;
                    if ["/rport-", "/end_device-", "/session", "/vmbus_", "/VMBUS"]
                        .iter()
                        .any(|transport| at.contains(transport))
                    {
                        return None;
                    }
                    let host_dir = ancestor(at, "host")?;
                    let above = host_dir.rsplit_once('/')?.0;
                    if at.contains("/ata") {
                        let ata = above.rsplit_once('/')?.1;
                        let port = system.attribute(
                            crate::io::path::<64>(format_args!("class/ata_port/{ata}"))
                                .ok()?
                                .as_str()?,
                            "port_no",
                        )?;
                        match style {
                            AtaStyle::Port => prepend(&mut path, format_args!("ata-{port}")),
                            // Behind a port multiplier the bus counts, else the target: master or slave.
                            AtaStyle::PortAndDevice if bus != 0 => {
                                prepend(&mut path, format_args!("ata-{port}.{bus}.0"));
                            }
                            AtaStyle::PortAndDevice => {
                                prepend(&mut path, format_args!("ata-{port}.{target}"));
                            }
                        }
                    } else {
                        let first = first_host(system, above)?;
                        let host = host.checked_sub(first)?;
                        prepend(&mut path, format_args!("scsi-{host}:{bus}:{target}:{lun}"));
                        at = host_dir;
                    }
                }
            }
            Some("usb") => {
                if let Some((_, port)) = name.split_once('-') {
                    prepend(&mut path, format_args!("usb-0:{port}"));
                    at = topmost(system, at, "usb");
                }
                has_transport = true;
            }
            Some("nvme") => {
                let directory = crate::io::path::<64>(format_args!("class/block/{disk}")).ok()?;
                let nsid = system.attribute(directory.as_str()?, "nsid")?;
                prepend(&mut path, format_args!("nvme-{nsid}"));
                at = topmost(system, at, "nvme");
                (has_transport, has_parent) = (true, true);
            }
            Some("virtio") => {
                at = topmost(system, at, "virtio");
                has_transport = true;
            }
            Some(bus @ ("pci" | "acpi" | "xen")) => {
                prepend(&mut path, format_args!("{bus}-{name}"));
                at = topmost(system, at, bus);
                has_parent = true;
            }
            Some(bus @ ("platform" | "scm" | "ccw" | "ccwgroup" | "iucv")) => {
                prepend(&mut path, format_args!("{bus}-{name}"));
                at = topmost(system, at, bus);
                (has_transport, has_parent) = (true, true);
            }
            _ => {}
        }
        at = match at.rsplit_once('/') {
            Some((above, _)) => above,
            None => parent,
        };
    }
    let way = Way {
        has_transport,
        has_parent,
    };
    Some((path, way))
}

/// Puts a part in front, with a dash between.
fn prepend(path: &mut DevPath, part: fmt::Arguments<'_>) {
    let rest = *path;
    *path = if rest.is_empty() {
        DevPath::format(part)
    } else {
        DevPath::format(format_args!("{part}-{rest}"))
    };
}

/// The name of the subsystem that the device in this directory belongs to.
fn subsystem(system: &System, directory: &str) -> Option<KernelName> {
    let link = crate::io::path::<255>(format_args!("{directory}/subsystem")).ok()?;
    let target = system.link(link.as_str()?)?;
    Some(KernelName::new(
        target.as_str()?.rsplit('/').next()?.as_bytes(),
    ))
}

/// The highest of the directories from `at` upwards that are all of one subsystem.
fn topmost<'a>(system: &System, at: &'a str, name: &str) -> &'a str {
    let mut highest = at;
    while let Some((parent, _)) = highest.rsplit_once('/')
        && subsystem(system, parent).is_some_and(|found| found == *name)
    {
        highest = parent;
    }
    highest
}

/// The nearest directory at or above `at` whose name is `prefix` and a number.
fn ancestor<'a>(at: &'a str, prefix: &str) -> Option<&'a str> {
    let mut at = at;
    loop {
        let (parent, name) = at.rsplit_once('/')?;
        if name
            .strip_prefix(prefix)
            .is_some_and(|number| number.parse::<u32>().is_ok())
        {
            return Some(at);
        }
        at = parent;
    }
}

/// `2:0:0:1`
fn scsi_address(name: &str) -> Option<[u64; 4]> {
    let mut numbers = name.split(':').map(str::parse);
    let mut address = [0; 4];
    for place in &mut address {
        *place = numbers.next()?.ok()?;
    }
    numbers.next().is_none().then_some(address)
}

/// The lowest number of the SCSI hosts of one controller: host numbers count through the machine, names must not.
fn first_host(system: &System, controller: &str) -> Option<u64> {
    let mut lowest: Option<u64> = None;
    let seen = system.each_entry(controller, &mut |name| {
        let number: Option<u64> = core::str::from_utf8(name)
            .ok()
            .and_then(|name| name.strip_prefix("host"))
            .and_then(|number| number.parse().ok());
        lowest = match (lowest, number) {
            (Some(a), Some(b)) => Some(b.min(a)),
            (a, b) => a.or(b),
        };
    });
    seen.ok().and(lowest)
}
