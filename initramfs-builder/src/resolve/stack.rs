// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that are made of others: whether the capture kernel can be given them, and in which order.

use super::Work;
use super::luks::{Encrypted, is_luks};
use crate::host::{Device, Maker};
use crate::modules::closure::Want;
use config::{Layer, Layers};
use targets::layer::md;

/// The most devices on top of each other.
const MOST_LAYERS: u32 = 8;
/// Characters of a UUID of LVM without its dashes.
const LVM_UUID: usize = 32;

/// One device that is put together in the capture kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stacked {
    /// The host's node.
    node: String,
    kind: Kind,
    /// What it is and of what, for the plan.
    pub how: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Lvm {
        group: String,
        volume: String,
        name: String,
    },
    Md {
        array: String,
        name: String,
    },
    Luks {
        encrypted: Box<Encrypted>,
        name: String,
    },
}

impl Stacked {
    /// As the record has it.
    #[must_use]
    pub fn spec(&self) -> Layer<'_> {
        match &self.kind {
            Kind::Lvm {
                group,
                volume,
                name,
            } => Layer::Lvm {
                group,
                volume,
                name,
            },
            Kind::Md { array, name } => Layer::Md { array, name },
            Kind::Luks { encrypted, name } => Layer::Luks {
                luks: encrypted
                    .header
                    .recorded(encrypted.key_bytes, &encrypted.digest),
                name,
            },
        }
    }
}

/// What a device that is made of others is to the capture kernel.
enum Role<'d> {
    /// A disk, or a partition of what has partitions.
    Own,
    /// It is put together.
    Stacked(Kind),
    /// It is opened by a key, and called this.
    Encrypted(&'d str),
    /// It stands for a disk with several paths, or with this number for a partition of it.
    Paths(Option<&'d str>),
}

fn role(device: &Device) -> Result<Role<'_>, String> {
    let node = &device.node;
    let Some(made) = &device.made else {
        return Ok(Role::Own);
    };
    match &made.by {
        Maker::Mapper { name, uuid } => {
            if let Some(uuids) = uuid.strip_prefix("LVM-") {
                // A dash behind the two says that it is a part of something more than stretches of disks.
                let (group, volume) = uuids
                    .split_at_checked(LVM_UUID)
                    .filter(|(_, volume)| volume.len() == LVM_UUID && volume.is_ascii())
                    .ok_or_else(|| {
                        format!(
                            "{node} ({name}) is the inner part of another logical volume, which is not supported; accepted are \
                             linear and striped ones"
                        )
                    })?;
                return Ok(Role::Stacked(Kind::Lvm {
                    group: with_dashes(group),
                    volume: with_dashes(volume),
                    name: name.clone(),
                }));
            }
            if is_luks(uuid) {
                return Ok(Role::Encrypted(name));
            }
            if uuid.starts_with("mpath-") {
                return Ok(Role::Paths(None));
            }
            if let Some((number, _)) = uuid
                .strip_prefix("part")
                .and_then(|rest| rest.split_once("-mpath-"))
            {
                return Ok(Role::Paths(Some(number)));
            }
            Err(if uuid.starts_with("CRYPT-") {
                format!(
                    "{node} ({name}) is encrypted (dm-crypt) without LUKS, which is not supported; a target of its own is \
                     needed: a partition, `nfs` or `ssh`"
                )
            } else {
                format!(
                    "{node} ({name}) is made by the device mapper as {uuid:?}, which is not supported; accepted are logical \
                     volumes of LVM and multipath disks"
                )
            })
        }
        Maker::Array(level) => {
            if md::personality(level).is_none() {
                return Err(format!(
                    "{node} is an array of the level {level}, which is not supported; accepted are raid0, raid1 and raid10"
                ));
            }
            Ok(Role::Stacked(Kind::Md {
                array: String::new(),
                name: node.trim_start_matches("/dev/").to_owned(),
            }))
        }
        Maker::Other => Err(format!(
            "{node} is a loop device or another that the capture kernel does not have; accepted are disks, partitions, LVM, \
             md and multipath"
        )),
    }
}

fn with_dashes(uuid: &str) -> String {
    let mut text = String::new();
    for (position, letter) in uuid.chars().enumerate() {
        if matches!(position, 6 | 10 | 14 | 18 | 22 | 26) {
            text.push('-');
        }
        text.push(letter);
    }
    text
}

/// What a mapping's node is called in both kernels.
pub(super) fn mapping_node(device: &Device) -> Option<String> {
    match (&device.made.as_ref()?.by, role(device)) {
        (Maker::Mapper { name, .. }, Ok(Role::Stacked(_) | Role::Encrypted(_))) => {
            Some(format!("/dev/mapper/{name}"))
        }
        (Maker::Array(_), Ok(Role::Stacked(_))) => Some(device.node.clone()),
        _ => None,
    }
}

impl<'a> Work<'a> {
    /// Refuses what the capture kernel cannot be given, however far below it is.
    pub(super) fn supported(&self, device: &Device) -> Result<(), String> {
        self.supported_at(device, 0)
    }

    fn supported_at(&self, device: &Device, depth: u32) -> Result<(), String> {
        let node = &device.node;
        if depth > MOST_LAYERS {
            return Err(format!(
                "{node} is made of others in more than {MOST_LAYERS} layers"
            ));
        }
        if device.is_remote {
            return Err(format!(
                "{node} is reached by iSCSI, which the capture kernel does not do; name a local disk, `nfs` or `ssh`"
            ));
        }
        match role(device)? {
            Role::Own => match self.disk_of(device) {
                Some(disk) => self.supported_at(disk, depth + 1),
                None => Ok(()),
            },
            stacked => {
                let parts: Vec<&Device> = self.host.parts(device).collect();
                if parts.is_empty() {
                    return Err(format!("what {node} is made of is not known"));
                }
                if let Role::Stacked(Kind::Lvm { .. }) = &stacked {
                    let is_volume =
                        |part: &&&Device| matches!(role(part), Ok(Role::Stacked(Kind::Lvm { .. })));
                    if let Some(part) = parts.iter().find(is_volume) {
                        return Err(format!(
                            "{node} is made of other logical volumes ({}), as mirrors, snapshots and thin ones are, which is \
                             not supported; accepted are linear and striped ones",
                            part.node
                        ));
                    }
                }
                if let Role::Encrypted(name) = stacked {
                    self.check_luks(device, name, &parts)?;
                }
                if let Role::Stacked(Kind::Md { .. }) = stacked {
                    let is_old = |part: &&&Device| part.kind() != Some("linux_raid_member");
                    if let Some(part) = parts.iter().find(is_old) {
                        return Err(format!(
                            "{node} is an array whose member {} shows no superblock of version 1.x that can be read",
                            part.node
                        ));
                    }
                }
                for part in parts {
                    self.supported_at(part, depth + 1)
                        .map_err(|message| format!("{node} is made of {}: {message}", part.node))?;
                }
                Ok(())
            }
        }
    }

    fn disk_of(&self, device: &Device) -> Option<&'a Device> {
        self.host.device(device.parent.as_ref()?)
    }

    /// The disks that a device is on in the end, each once.
    pub(super) fn disks_below(&self, device: &Device) -> Vec<&'a Device> {
        let mut disks: Vec<&Device> = Vec::new();
        let mut todo = vec![(self.host.device(&device.node), 0)];
        while let Some((next, depth)) = todo.pop() {
            let Some(next) = next.filter(|_| depth <= MOST_LAYERS) else {
                continue;
            };
            if let Some(disk) = self.disk_of(next) {
                todo.push((Some(disk), depth + 1));
            } else if next.made.is_some() {
                todo.extend(self.host.parts(next).map(|part| (Some(part), depth + 1)));
            } else if !disks.iter().any(|disk| disk.node == next.node) {
                disks.push(next);
            }
        }
        disks.sort_by(|one, other| one.node.cmp(&other.node));
        disks
    }

    /// The layers below a device, in order, with their modules.
    pub(super) fn layers_below(&mut self, device: &Device) -> Layers {
        let mut layers = Layers::NONE;
        self.stack(device, 0, &mut layers);
        layers
    }

    fn stack(&mut self, device: &Device, depth: u32, layers: &mut Layers) {
        if depth > MOST_LAYERS {
            return;
        }
        if let Some(disk) = self.disk_of(device) {
            self.stack(disk, depth + 1, layers);
        }
        let host = self.host;
        let parts: Vec<&Device> = host.parts(device).collect();
        for part in &parts {
            self.stack(part, depth + 1, layers);
        }
        let node = &device.node;
        let names: Vec<&str> = parts.iter().map(|part| part.node.as_str()).collect();
        let by = format!("{node}, which is made of {}", names.join(", "));
        let (kind, how) = match role(device) {
            Ok(Role::Stacked(kind @ Kind::Lvm { .. })) => {
                self.need(Want::Name("dm_mod".to_owned()), by);
                (
                    kind,
                    format!("{node}, a logical volume on {}", names.join(", ")),
                )
            }
            Ok(Role::Stacked(Kind::Md { name, .. })) => {
                let level = match device.made.as_ref().map(|made| &made.by) {
                    Some(Maker::Array(level)) => level.as_str(),
                    _ => "",
                };
                for module in ["md_mod"].into_iter().chain(md::personality(level)) {
                    self.need(Want::Name(module.to_owned()), by.clone());
                }
                let array = parts.iter().find_map(|part| part.uuid());
                (
                    Kind::Md {
                        array: array.unwrap_or_default().to_owned(),
                        name,
                    },
                    format!("{node}, {level} of {}", names.join(", ")),
                )
            }
            Ok(Role::Encrypted(name)) => {
                let opened = parts
                    .first()
                    .and_then(|part| Some((*part, self.encrypted(part, &by)?)));
                // Without a key it was refused before.
                let Some((part, encrypted)) = opened else {
                    return;
                };
                let header = &encrypted.header;
                let how = format!(
                    "{node}, LUKS{} on {}, {}, by the volume key in the image",
                    header.version, part.node, header.cipher
                );
                (
                    Kind::Luks {
                        encrypted: Box::new(encrypted),
                        name: name.to_owned(),
                    },
                    how,
                )
            }
            _ => return,
        };
        let number = match self.layers.iter().position(|known| known.node == *node) {
            Some(number) => number,
            None => {
                self.layers.push(Stacked {
                    node: node.clone(),
                    kind,
                    how,
                });
                self.layers.len() - 1
            }
        };
        // One that a record has no number for is refused when it is written.
        let _ = layers.add(number);
    }

    /// What a disk with several paths calls itself on each, with the partition's number.
    pub(super) fn world_wide(&self, device: &Device) -> Option<String> {
        let Ok(Role::Paths(number)) = role(device) else {
            return None;
        };
        let disks = self.disks_below(device);
        let name = disks.first()?.wwid.as_deref()?;
        if disks.iter().any(|disk| disk.wwid.as_deref() != Some(name)) {
            return None;
        }
        Some(match number {
            Some(number) => format!("{name}-part{number}"),
            None => name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Resolved, resolve};
    use crate::conf;
    use crate::host::tests::Tree;
    use crate::modules::closure::Want;

    const GROUP: &str = "aaaaaabbbbccccddddeeeeffffgggggg";
    const VOLUME: &str = "11111122223333444455556666777777";

    fn on(devices: &str, text: &str) -> Result<Resolved, String> {
        let host = Tree::new(&[("kdump.devices", devices)]).host();
        let directives = conf::parse("kdump.conf", text.as_bytes()).unwrap();
        resolve(&directives, &host, "6.1.0").map_err(|mistakes| mistakes.to_string())
    }

    fn names(plan: &Resolved) -> Vec<String> {
        plan.needs
            .iter()
            .filter_map(|need| match &need.want {
                Want::Name(name) => Some(name.clone()),
                Want::Driver(driver) => driver.module.clone(),
                Want::Filesystem(_) | Want::Algorithm(_) | Want::Faster(_) => None,
            })
            .collect()
    }

    #[test]
    fn a_volume_on_a_mirror_is_put_together_from_below() {
        let devices = format!(
            "/dev/vda size=9000 modules=virtio_blk fstype=linux_raid_member uuid=array-1\n\
             /dev/sdb size=9000 modules=ahci fstype=linux_raid_member uuid=array-1\n\
             /dev/md0 size=8000 made_of=/dev/vda,/dev/sdb md_level=raid1 fstype=LVM2_member uuid=pv-1\n\
             /dev/dm-0 size=7000 made_of=/dev/md0 dm_name=vg0-root dm_uuid=LVM-{GROUP}{VOLUME} fstype=ext4 uuid=root-1\n"
        );
        let plan = on(&devices, "ext4 UUID=root-1\ndefault reboot\n").unwrap();
        let layers: Vec<String> = plan
            .layers
            .iter()
            .map(|layer| layer.spec().to_string())
            .collect();
        assert_eq!(
            layers,
            [
                "md array-1 md0",
                "lvm aaaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg 111111-2222-3333-4444-5555-6666-777777 vg0-root"
            ]
        );
        let device = plan.attempts[0].place.device().unwrap();
        assert_eq!(device.layers.to_string(), "0 1");
        assert_eq!(
            names(&plan),
            ["ahci", "virtio_blk", "md_mod", "raid1", "dm_mod"]
        );
        let record = plan.record(&[]).unwrap().to_string();
        assert_eq!(config::record::parse(&record).unwrap().layers.len(), 2);
    }

    #[test]
    fn a_disk_with_two_paths_is_known_by_its_own_name() {
        let paths = "/dev/sda size=9000 modules=virtio_scsi wwid=naa.5000 fstype=ext3 uuid=u-1\n\
                     /dev/sdb size=9000 modules=virtio_scsi wwid=naa.5000 fstype=ext3 uuid=u-1\n\
                     /dev/dm-0 size=9000 made_of=/dev/sda,/dev/sdb dm_name=mpatha dm_uuid=mpath-35000 fstype=ext3 uuid=u-1\n";
        let id = |devices: &str, text: &str| {
            let plan = on(devices, text).unwrap();
            assert!(plan.layers.is_empty());
            plan.attempts[0].place.device().unwrap().spec().to_string()
        };
        assert_eq!(
            id(paths, "ext3 UUID=u-1\ndefault reboot\n"),
            "UUID=u-1 (/dev/dm-0)"
        );
        let blank = paths.replace(" fstype=ext3 uuid=u-1", "");
        assert_eq!(
            id(&blank, "raw /dev/dm-0\ndefault reboot\n"),
            "WWID=naa.5000 (/dev/dm-0)"
        );
    }

    #[test]
    fn what_the_capture_kernel_cannot_have_is_named() {
        for (device, words) in [
            (
                "made_of=/dev/vda dm_name=c dm_uuid=CRYPT-LUKS2-1-c",
                "/dev/vda shows no LUKS header",
            ),
            (
                "made_of=/dev/vda dm_name=c dm_uuid=CRYPT-PLAIN-c",
                "encrypted (dm-crypt) without LUKS",
            ),
            (
                "made_of=/dev/vda dm_name=x dm_uuid=VDO-1",
                "made by the device mapper as \"VDO-1\"",
            ),
            ("made_of=/dev/vda md_level=raid6", "level raid6"),
            (
                "made_of=/dev/vda md_level=raid1",
                "/dev/vda shows no superblock of version 1.x",
            ),
            ("made_of=/dev/vda", "a loop device or another"),
            ("made_of=/dev/nix md_level=raid1", "made of is not known"),
        ] {
            let devices =
                format!("/dev/vda size=9\n/dev/dm-0 size=9 {device} fstype=ext4 uuid=u\n");
            let said = on(&devices, "ext4 /dev/dm-0\n").unwrap_err();
            assert!(
                said.contains("kdump.conf:1: ") && said.contains(words),
                "{said}"
            );
        }
    }

    #[test]
    fn a_volume_of_volumes_is_refused() {
        let devices = format!(
            "/dev/vda size=9\n\
             /dev/dm-0 size=9 made_of=/dev/vda dm_name=vg0-x_rimage_0 dm_uuid=LVM-{GROUP}{VOLUME}\n\
             /dev/dm-1 size=9 made_of=/dev/dm-0 dm_name=vg0-x dm_uuid=LVM-{GROUP}{GROUP} fstype=ext4 uuid=u\n"
        );
        let said = on(&devices, "ext4 /dev/dm-1\n").unwrap_err();
        assert!(
            said.contains("made of other logical volumes (/dev/dm-0)"),
            "{said}"
        );
    }

    #[test]
    fn an_iscsi_disk_is_refused() {
        let tree = Tree::new(&[]);
        let disk = "/sys/devices/platform/host2/session1/target2:0:0/2:0:0:1/block/sdc";
        tree.write(&format!("{disk}/size"), b"2048\n");
        tree.link(
            "/sys/class/block/sdc",
            "../../devices/platform/host2/session1/target2:0:0/2:0:0:1/block/sdc",
        );
        let directives = conf::parse("kdump.conf", b"raw /dev/sdc\n").unwrap();
        let said = resolve(&directives, &tree.host(), "6.1.0")
            .unwrap_err()
            .to_string();
        assert!(said.contains("/dev/sdc is reached by iSCSI"), "{said}");
    }

    #[test]
    fn devices_in_a_circle_end() {
        let devices = "/dev/dm-0 size=9 made_of=/dev/dm-1 dm_name=a dm_uuid=mpath-1\n\
                       /dev/dm-1 size=9 made_of=/dev/dm-0 dm_name=b dm_uuid=mpath-2\n";
        let said = on(devices, "raw /dev/dm-0\n").unwrap_err();
        assert!(said.contains("in more than 8 layers"), "{said}");
    }
}
