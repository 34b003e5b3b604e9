// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices: which one a line means, whether it may be used so, and what it will be known by.

use super::Work;
use super::goal::Identified;
use super::stack::mapping_node;
use crate::conf::DeviceName;
use crate::filesystem::{self, Type};
use crate::host::{Content, Device};
use crate::modules::closure::{Need, Want};

impl<'a> Work<'a> {
    pub(super) fn find(&self, name: &DeviceName) -> Result<&'a Device, String> {
        let found = match name {
            DeviceName::Node(node) => self.host.device(node).into_iter().collect(),
            tag => self.host.devices_of_tag(&tag.to_string()),
        };
        match found.as_slice() {
            [device] => self.supported(device).map(|()| *device),
            [] => Err(format!("there is no {name}; {}", self.seen())),
            several => Err(format!(
                "{name} is on {}; name the one by its PARTUUID= or node, or give the other a new one (tune2fs -U random)",
                several
                    .iter()
                    .map(|device| device.node.as_str())
                    .collect::<Vec<_>>()
                    .join(" and ")
            )),
        }
    }

    /// The block devices of the host, for a message.
    pub(super) fn seen(&self) -> String {
        const SHOWN: usize = 12;
        let devices = &self.host.devices;
        if devices.is_empty() {
            return format!(
                "no block device is known at all (looked in {})",
                self.host.root.display()
            );
        }
        let mut shown: Vec<String> = devices
            .iter()
            .take(SHOWN)
            .map(|device| match &device.content {
                Content::Known {
                    kind, uuid, label, ..
                } => {
                    let tag = |name: &str, value: &Option<String>| {
                        value
                            .as_ref()
                            .map(|value| format!(", {name}={value}"))
                            .unwrap_or_default()
                    };
                    format!(
                        "{} ({kind}{}{})",
                        device.node,
                        tag("UUID", uuid),
                        tag("LABEL", label)
                    )
                }
                _ => device.node.clone(),
            })
            .collect();
        if devices.len() > SHOWN {
            shown.push(format!("{} more", devices.len() - SHOWN));
        }
        format!("there are {}", shown.join(", "))
    }

    /// A raw target is overwritten: nothing of worth may be on it.
    pub(super) fn check_raw(&mut self, device: &Device, overwrite: bool) -> Result<(), String> {
        let node = &device.node;
        let is_it_or_part =
            |other: &Device| other.node == *node || other.parent.as_deref() == Some(node.as_str());
        for mount in &self.host.mounts {
            if self.host.device_of_mount(mount).is_some_and(is_it_or_part) {
                return Err(format!(
                    "{} is mounted on {}, and a raw target is overwritten; name another partition, or unmount it, take it \
                     out of /etc/fstab and clear it with `wipefs -a {node}`",
                    mount.source, mount.target
                ));
            }
        }
        let names_it = |tag: &str| self.host.devices_of_tag(tag).into_iter().any(is_it_or_part);
        if let Some(swap) = self.host.swaps.iter().find(|swap| names_it(swap)) {
            return Err(format!(
                "{swap} is in use as swap, and a raw target is overwritten; name another partition, or `swapoff {swap}` \
                 and take it out of /etc/fstab"
            ));
        }
        if let Some(entry) = self.host.fstab.iter().find(|entry| names_it(&entry.source)) {
            return Err(format!(
                "/etc/fstab:{} uses {} ({}), and a raw target is overwritten; name another partition, or take that line out",
                entry.line, entry.source, entry.target
            ));
        }
        if let Some(name) = &device.unsaved_dump {
            self.warnings.push(format!(
                "{node} has the dump of {name}, which nobody has recovered: the next one goes to another target where there is \
                 one, else it replaces that; recover it with `vmcore save-raw {node} FOLDER`"
            ));
        }
        if overwrite {
            return Ok(());
        }
        if let Content::Known { kind, .. } = &device.content {
            return Err(format!(
                "{node} holds {kind}, and a raw target is overwritten; if it may be lost, write `raw {node} overwrite` or \
                 clear it with `wipefs -a {node}`{}",
                if Type::of(kind).is_some() {
                    format!(", else write `{kind} {node}` to save to that file system")
                } else {
                    String::new()
                }
            ));
        }
        if let Some(table) = &device.table {
            return Err(format!(
                "{node} has a partition table ({table}), and a raw target is overwritten; name one of its partitions, or \
                 clear it with `wipefs -a {node}`"
            ));
        }
        // The table may be one that our readers do not know, or stand in no description.
        let is_part = |other: &&Device| other.parent.as_deref() == Some(node.as_str());
        if let Some(part) = self.host.devices.iter().find(is_part) {
            return Err(format!(
                "{node} has partitions ({}), and a raw target is overwritten; name one of them, or clear it with `wipefs -a {node}`",
                part.node
            ));
        }
        Ok(())
    }

    /// What the device will be known by, and what its drivers and its file system, if that is what counts, need.
    pub(super) fn identify(
        &mut self,
        device: &Device,
        fstype: Option<&str>,
        written: &str,
    ) -> Identified {
        let only = |tag: String| self.host.devices_of_tag(&tag).len() == 1;
        let uuid = device.uuid().filter(|uuid| only(format!("UUID={uuid}")));
        let label = device
            .label()
            .filter(|label| only(format!("LABEL={label}")))
            // A record is made of lines.
            .filter(|label| !label.contains(char::is_control));
        let partuuid = device
            .partuuid
            .as_deref()
            .filter(|uuid| only(format!("PARTUUID={uuid}")));
        let mut known = vec![];
        if fstype.is_some() {
            known.push(uuid.map(|uuid| ("uuid", uuid, "the file system's UUID")));
            known.push(partuuid.map(|uuid| ("partuuid", uuid, "the partition's UUID")));
            known.push(label.map(|label| ("label", label, "the file system's label")));
        } else {
            known.push(partuuid.map(|uuid| ("partuuid", uuid, "the partition's UUID")));
        }
        let wwid = self.world_wide(device);
        known.push(
            wwid.as_deref()
                .map(|wwid| ("wwid", wwid, "the disk's own name on every path")),
        );
        let mapping = mapping_node(device);
        known.push(
            mapping
                .as_deref()
                .map(|node| ("node", node, "the mapping's name")),
        );
        known.push(
            device
                .bus_path
                .as_deref()
                .map(|path| ("bus_path", path, "where it is attached")),
        );
        let (keyword, value, what) =
            known
                .into_iter()
                .flatten()
                .next()
                .unwrap_or(("node", &device.node, "its node"));
        let value = value.to_owned();
        // What is put together in the capture kernel gets the name there that it has here.
        if keyword == "node" && device.made.is_none() {
            self.warnings.push(format!(
                "{} is known by its name alone, which the capture kernel may give to another disk; give it a file system \
                 with a UUID or a GPT partition",
                device.node
            ));
        }
        if let Content::Unknown(reason) = &device.content {
            self.warnings
                .push(format!("what is on {} is not known: {reason}", device.node));
        }
        self.need_device(device, fstype);
        let layers = self.layers_below(device);
        let how = if written == device.node {
            format!("{what} of {}", device.node)
        } else {
            format!("{written} is {}; {what}", device.node)
        };
        Identified {
            keyword,
            value,
            node: device.node.clone(),
            size_bytes: device.size_bytes,
            layers,
            how,
        }
    }

    fn need_device(&mut self, device: &Device, fstype: Option<&str>) {
        for disk in self.disks_below(device) {
            if disk.drivers.is_empty() {
                self.warnings.push(format!(
                    "no driver of {} is known; if the capture kernel has it as a module, name it by `extra_modules`",
                    disk.node
                ));
            }
            for driver in &disk.drivers {
                self.need(Want::Driver(driver.clone()), format!("disk {}", disk.node));
            }
        }
        if let Some(fstype) = fstype {
            let by = format!("file system of {}", device.node);
            for module in Type::of(fstype).map_or(&[][..], |known| known.modules) {
                self.need(Want::Name((*module).to_owned()), by.clone());
            }
            self.need(Want::Filesystem(fstype.to_owned()), by);
        }
    }

    pub(super) fn need(&mut self, want: Want, by: String) {
        if !self.needs.iter().any(|need| need.want == want) {
            self.needs.push(Need {
                want,
                by,
                place: None,
            });
        }
    }
}

/// The line's type must be the one of the file system, and it must be able to take a dump at `path`.
pub(super) fn check_filesystem(fstype: Type, device: &Device, path: &str) -> Result<(), String> {
    let node = &device.node;
    let word = fstype.word;
    if fstype.forbids_colons && path.contains(':') {
        return Err(format!(
            "the save path {path} has a colon, which no name on {word} can have; choose another `path`"
        ));
    }
    match &device.content {
        // The warning about it comes with the identity.
        Content::Unknown(_) => Ok(()),
        Content::Nothing => Err(format!(
            "{node} has no file system that is known; make one with `mkfs.{word} {node}`{}",
            if device.table.is_some() {
                ", or name one of its partitions"
            } else {
                ""
            }
        )),
        Content::Known { kind, obstacle, .. } if fstype.takes(kind) => match obstacle {
            None => Ok(()),
            Some(obstacle) => Err(format!(
                "the {kind} on {node} cannot take a dump: {obstacle}; name another file system"
            )),
        },
        Content::Known { kind, .. } if Type::of(kind).is_some() => Err(format!(
            "{node} holds {kind} and not {word}, and would not mount as that; write `{kind} {node}`"
        )),
        Content::Known { kind, .. } => Err(format!(
            "{node} holds {kind} and not {word}; accepted are {}",
            filesystem::words()
        )),
    }
}
