// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding and waiting for devices, in a described machine: a tree as sysfs has it, and files in place of the nodes.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use config::{DeviceId, DeviceSpec, Layers};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::{Scratch, run};
use targets::bus_path;
use targets::device::{Content, DeviceError, Found, Roots, Survey, wait};

const UUID: &str = "0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11";
const OTHER_UUID: &str = "5a7c2f3e-0d7e-4b55-9a52-1f8de0f6a9f4";
const MIB: u64 = 1 << 20;

/// A machine that is described.
struct Machine {
    scratch: Scratch,
    sys: String,
    dev: String,
}

impl Machine {
    fn new() -> Self {
        let scratch = Scratch::new("machine");
        let below = |name: &str| scratch.0.join(name).to_str().unwrap().to_owned();
        let (sys, dev) = (below("sys"), below("dev"));
        fs::create_dir_all(format!("{sys}/class/block")).unwrap();
        fs::create_dir_all(&dev).unwrap();
        Self { scratch, sys, dev }
    }

    fn attribute(&self, path: &str, value: &str) {
        let path = format!("{}/{path}", self.sys);
        fs::create_dir_all(PathBuf::from(&path).parent().unwrap()).unwrap();
        fs::write(path, format!("{value}\n")).unwrap();
    }

    /// A directory of the device tree and its subsystem; `path` begins with `devices/`.
    fn bus(&self, path: &str, subsystem: &str) {
        let path = format!("{}/{path}", self.sys);
        fs::create_dir_all(&path).unwrap();
        let link = format!("{path}/subsystem");
        let _ = fs::remove_file(&link);
        symlink(format!("../../bus/{subsystem}"), link).unwrap();
    }

    /// A disk or a partition whose directory is `path`; the node is made by the caller.
    fn block(&self, path: &str, size_bytes: u64) -> PathBuf {
        let name = path.rsplit('/').next().unwrap();
        self.bus(path, "block");
        self.attribute(&format!("{path}/size"), &(size_bytes / 512).to_string());
        self.attribute(&format!("{path}/ro"), "0");
        let node = PathBuf::from(&self.dev).join(name.replace('!', "/"));
        fs::create_dir_all(node.parent().unwrap()).unwrap();
        // The link comes last, as in the kernel: from then on the device is there.
        let link = format!("{}/class/block/{name}", self.sys);
        symlink(format!("../../{path}"), link).unwrap();
        node
    }

    fn partition(&self, path: &str, number: u32, start_bytes: u64, size_bytes: u64) -> PathBuf {
        self.attribute(&format!("{path}/partition"), &number.to_string());
        self.attribute(&format!("{path}/start"), &(start_bytes / 512).to_string());
        self.block(path, size_bytes)
    }

    /// A file system made by a real mkfs.
    fn ext(&self, node: &PathBuf, size_bytes: u64, uuid: &str, label: &str) {
        fs::File::create(node).unwrap().set_len(size_bytes).unwrap();
        run("mkfs.ext3", &["-q", "-F", "-U", uuid, "-L", label], node);
    }

    fn roots(&self) -> Roots<'_> {
        Roots {
            sys: &self.sys,
            dev: &self.dev,
        }
    }

    /// One look, without patience.
    fn find(&self, spec: &DeviceSpec<'_>) -> Result<Found, String> {
        let mut survey = Survey::new();
        wait(spec, &self.roots(), Duration::ZERO, &mut survey, &mut || {})
            .map_err(|error| error.to_string())
    }
}

const fn spec(id: DeviceId<'_>) -> DeviceSpec<'_> {
    DeviceSpec {
        id,
        known_as: "",
        size_bytes: None,
        layers: Layers::NONE,
    }
}

const VIRTIO: &str = "devices/pci0000:00/0000:00:03.0/virtio0/block";

#[test]
fn a_file_system_is_found_by_uuid_and_by_label() {
    let machine = Machine::new();
    let node = machine.block(&format!("{VIRTIO}/vda"), 8 * MIB);
    machine.ext(&node, 8 * MIB, OTHER_UUID, "root");
    let node = machine.block(&format!("{VIRTIO}/vdb"), 16 * MIB);
    machine.ext(&node, 16 * MIB, UUID, "crash disk");
    for id in [
        DeviceId::Uuid(UUID),
        DeviceId::Uuid("0C9DF1F6-2F4C-4A6F-8A2F-6D8F0D6E1C11"),
        DeviceId::Label("crash disk"),
    ] {
        let found = machine.find(&spec(id)).unwrap();
        assert_eq!(found.name.to_string(), "vdb");
        assert_eq!(found.node.to_string(), node.to_str().unwrap());
        assert_eq!(found.size_bytes, 16 * MIB);
        assert!(!found.is_read_only);
    }
    assert!(machine.find(&spec(DeviceId::Label("crash"))).is_err());
}

#[test]
fn a_partition_is_found_by_partuuid() {
    let machine = Machine::new();
    let disk = machine.block(&format!("{VIRTIO}/vda"), 64 * MIB);
    fs::File::create(&disk).unwrap().set_len(64 * MIB).unwrap();
    let arguments = [
        "-n1:2048:+8M",
        "-n2:0:+16M",
        "-u2:0C9DF1F6-2F4C-4A6F-8A2F-6D8F0D6E1C11",
    ];
    run("sgdisk", &arguments, &disk);
    machine.partition(&format!("{VIRTIO}/vda/vda1"), 1, MIB, 8 * MIB);
    machine.partition(&format!("{VIRTIO}/vda/vda2"), 2, 9 * MIB, 16 * MIB);
    let found = machine.find(&spec(DeviceId::PartUuid(UUID))).unwrap();
    assert_eq!(found.name.to_string(), "vda2");
    // The kernel's idea of the partition is another one: the table was rewritten since.
    machine.attribute(&format!("{VIRTIO}/vda/vda2/start"), "2048");
    assert!(machine.find(&spec(DeviceId::PartUuid(UUID))).is_err());
}

#[test]
fn a_device_of_another_size_is_another_device() {
    let machine = Machine::new();
    let node = machine.block(&format!("{VIRTIO}/vda"), 16 * MIB);
    machine.ext(&node, 16 * MIB, UUID, "crash");
    for id in [DeviceId::Uuid(UUID), DeviceId::Node("/dev/vda")] {
        let wanted = DeviceSpec {
            id,
            known_as: "/dev/vdb1",
            size_bytes: Some(32 * MIB),
            layers: Layers::NONE,
        };
        let message = machine.find(&wanted).unwrap_err();
        assert!(
            message.contains("vda has that identity but 16777216 bytes"),
            "{message}"
        );
        assert!(message.contains("of 33554432 bytes"), "{message}");
        let wanted = DeviceSpec {
            size_bytes: Some(16 * MIB),
            ..wanted
        };
        assert_eq!(machine.find(&wanted).unwrap().name.to_string(), "vda");
    }
}

#[test]
fn two_devices_of_one_identity_are_told_apart_by_size_then_by_name_or_not_at_all() {
    let machine = Machine::new();
    for name in ["vda", "vdb"] {
        let node = machine.block(&format!("{VIRTIO}/{name}"), 16 * MIB);
        machine.ext(&node, 16 * MIB, UUID, "crash");
    }
    let mut wanted = spec(DeviceId::Uuid(UUID));
    let message = machine.find(&wanted).unwrap_err();
    assert!(
        message.contains("vda") && message.contains("vdb"),
        "{message}"
    );
    assert!(message.contains("both have UUID=0c9df1f6"), "{message}");
    let known_as = format!("{}/vdb", machine.dev);
    wanted.known_as = &known_as;
    assert_eq!(machine.find(&wanted).unwrap().name.to_string(), "vdb");
    // No other is even looked at.
    let mut survey = Survey::new();
    wait(
        &wanted,
        &machine.roots(),
        Duration::ZERO,
        &mut survey,
        &mut || {},
    )
    .unwrap();
    assert_eq!(survey.candidates(), []);
    let node = machine.block(&format!("{VIRTIO}/vdc"), 24 * MIB);
    machine.ext(&node, 24 * MIB, UUID, "crash");
    wanted.size_bytes = Some(24 * MIB);
    assert_eq!(machine.find(&wanted).unwrap().name.to_string(), "vdc");
}

#[test]
fn what_a_mapping_has_taken_is_left_to_the_mapping() {
    let machine = Machine::new();
    let node = machine.block(&format!("{VIRTIO}/vda"), 16 * MIB);
    machine.ext(&node, 16 * MIB, UUID, "crash");
    machine.attribute(&format!("{VIRTIO}/vda/holders/dm-0"), "");
    assert!(machine.find(&spec(DeviceId::Uuid(UUID))).is_err());
    let node = machine.block("devices/virtual/block/dm-0", 16 * MIB);
    machine.ext(&node, 16 * MIB, UUID, "crash");
    machine.attribute("devices/virtual/block/dm-0/dm/name", "mpatha");
    let found = machine.find(&spec(DeviceId::Uuid(UUID))).unwrap();
    assert_eq!(found.name.to_string(), "dm-0");
    let found = machine
        .find(&spec(DeviceId::Node("/dev/mapper/mpatha")))
        .unwrap();
    assert_eq!(found.name.to_string(), "dm-0");
}

#[test]
fn a_node_in_a_directory_and_a_read_only_device_are_reported_as_they_are() {
    let machine = Machine::new();
    let path = "devices/pci0000:00/0000:00:04.0/cciss0/c0d0/block/cciss!c0d0";
    let node = machine.block(path, 16 * MIB);
    machine.ext(&node, 16 * MIB, UUID, "crash");
    machine.attribute(&format!("{path}/ro"), "1");
    for id in [DeviceId::Node("/dev/cciss/c0d0"), DeviceId::Uuid(UUID)] {
        let found = machine.find(&spec(id)).unwrap();
        assert_eq!(
            found.node.to_string(),
            format!("{}/cciss/c0d0", machine.dev)
        );
        assert!(found.is_read_only);
    }
}

#[test]
fn the_message_says_what_was_looked_for_and_what_was_there() {
    let machine = Machine::new();
    let message = machine.find(&spec(DeviceId::Uuid(UUID))).unwrap_err();
    assert_eq!(
        message,
        format!("no device UUID={UUID} within 0.0 s; the kernel has no block device at all")
    );
    let node = machine.block(&format!("{VIRTIO}/vda"), 16 * MIB);
    machine.ext(&node, 16 * MIB, OTHER_UUID, "root");
    let node = machine.block(&format!("{VIRTIO}/vdb"), MIB);
    fs::write(node, vec![0; 1 << 20]).unwrap();
    let node = machine.block(&format!("{VIRTIO}/vdd"), 8 * MIB);
    fs::File::create(&node).unwrap().set_len(8 * MIB).unwrap();
    run("sgdisk", &["-n1:0:0"], &node);
    // A node that cannot be opened, a drive without a medium, and a drive that is never asked.
    machine.block(&format!("{VIRTIO}/vdc"), MIB);
    machine.block("devices/virtual/block/loop0", 0);
    machine.block("devices/platform/floppy.0/block/fd0", MIB);
    let wanted = DeviceSpec {
        id: DeviceId::Uuid(UUID),
        known_as: "/dev/vdz1",
        size_bytes: Some(MIB),
        layers: Layers::NONE,
    };
    let message = machine.find(&wanted).unwrap_err();
    for part in [
        &format!("no device UUID={UUID} (/dev/vdz1) of 1048576 bytes within 0.0 s; "),
        &format!("vda (16777216 bytes, ext3 UUID={OTHER_UUID} LABEL=root)"),
        "vdb (1048576 bytes, no known content)",
        "vdc (1048576 bytes, unreadable: ENOENT)",
        "vdd (8388608 bytes, a partition table)",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(message.contains("there are: vda "), "{message}");
    assert!(
        !message.contains("loop0") && !message.contains("fd0"),
        "{message}"
    );
}

#[test]
fn a_line_of_the_log_takes_the_message_of_a_machine_with_many_disks() {
    let machine = Machine::new();
    for number in 0..40 {
        machine.block(&format!("{VIRTIO}/vd{number:02}"), MIB);
    }
    let message = machine.find(&spec(DeviceId::Uuid(UUID))).unwrap_err();
    assert!(message.ends_with("and 32 more"), "{message}");
    assert!(message.len() < 900, "{}", message.len());
}

#[test]
fn a_device_that_comes_late_is_waited_for_and_the_caller_hears_of_it() {
    let machine = Machine::new();
    let prepared = machine.scratch.0.join("prepared");
    machine.ext(&prepared, 16 * MIB, UUID, "crash");
    let start = Instant::now();
    let mut ticks = 0;
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(600));
            fs::rename(&prepared, PathBuf::from(&machine.dev).join("vda")).unwrap();
            machine.block(&format!("{VIRTIO}/vda"), 16 * MIB);
        });
        let mut survey = Survey::new();
        let wanted = spec(DeviceId::Uuid(UUID));
        wait(
            &wanted,
            &machine.roots(),
            Duration::from_secs(60),
            &mut survey,
            &mut || ticks += 1,
        )
        .map(|found| found.name.to_string())
        .map_err(|error| error.to_string())
    });
    assert_eq!(found, Ok("vda".to_owned()));
    assert!(start.elapsed() >= Duration::from_millis(600));
    assert!(ticks >= 3, "{ticks}");
}

#[test]
fn a_device_that_could_not_be_read_at_first_is_read_again() {
    let machine = Machine::new();
    let node = machine.block(&format!("{VIRTIO}/vda"), 16 * MIB);
    let prepared = machine.scratch.0.join("prepared");
    machine.ext(&prepared, 16 * MIB, UUID, "crash");
    let mut looks = 0;
    let mut survey = Survey::new();
    let wanted = spec(DeviceId::Uuid(UUID));
    let found = wait(
        &wanted,
        &machine.roots(),
        Duration::from_secs(60),
        &mut survey,
        &mut || {
            looks += 1;
            if looks == 3 {
                fs::rename(&prepared, &node).unwrap();
            }
        },
    );
    assert_eq!(found.unwrap().name.to_string(), "vda");
}

#[test]
fn a_device_that_never_comes_ends_in_time_with_what_was_there() {
    let machine = Machine::new();
    let node = machine.block(&format!("{VIRTIO}/vda"), 16 * MIB);
    machine.ext(&node, 16 * MIB, OTHER_UUID, "root");
    let start = Instant::now();
    let mut survey = Survey::new();
    let wanted = spec(DeviceId::Uuid(UUID));
    let patience = Duration::from_millis(300);
    let error = wait(&wanted, &machine.roots(), patience, &mut survey, &mut || {}).unwrap_err();
    assert!(start.elapsed() >= patience);
    let DeviceError::Absent {
        waited_ms, survey, ..
    } = error
    else {
        panic!("{error}");
    };
    assert!(waited_ms >= 300);
    let [only] = survey.candidates() else {
        panic!("{survey}");
    };
    assert!(matches!(only.content, Content::Known(identity) if identity.uuid == *OTHER_UUID));
}

#[test]
fn a_tree_that_is_not_there_is_an_error_at_once() {
    let machine = Machine::new();
    let roots = Roots {
        sys: "/nowhere",
        dev: &machine.dev,
    };
    let mut survey = Survey::new();
    let wanted = spec(DeviceId::Uuid(UUID));
    let error = wait(
        &wanted,
        &roots,
        Duration::from_secs(60),
        &mut survey,
        &mut || {},
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "listing the block devices in /sys and /dev: ENOENT"
    );
}

/// A disk by the directories above it, each with its subsystem (empty for none), and its name in udev's grammar.
#[track_caller]
fn has_bus_path(
    directories: &[(&str, &str)],
    attributes: &[(&str, &str)],
    disk: &str,
    names: &[&str],
) {
    let machine = Machine::new();
    let mut path = "devices".to_owned();
    for (name, subsystem) in directories {
        path = format!("{path}/{name}");
        if !subsystem.is_empty() {
            machine.bus(&path, subsystem);
        }
    }
    path = format!("{path}/{disk}");
    machine.block(&path, 64 * MIB);
    for (name, value) in attributes {
        machine.attribute(&name.replace("DISK", &path), value);
    }
    machine.partition(&format!("{path}/{disk}p2"), 2, MIB, 8 * MIB);
    for name in names {
        let found = machine.find(&spec(DeviceId::BusPath(name))).unwrap();
        assert_eq!(found.name.to_string(), disk);
        let partition = format!("{name}-part2");
        let found = machine.find(&spec(DeviceId::BusPath(&partition))).unwrap();
        assert_eq!(found.name.to_string(), format!("{disk}p2"));
        for wrong in [
            &format!("{name}-part3"),
            &format!("{name}x"),
            "pci-0000:00:1e.0",
        ] {
            assert!(machine.find(&spec(DeviceId::BusPath(wrong))).is_err());
        }
    }
    assert!(machine.find(&spec(DeviceId::BusPath(""))).is_err());
    // What the builder writes down is the newest spelling.
    let written = |name: &str| bus_path::of(&machine.roots(), name).map(|path| path.to_string());
    assert_eq!(written(disk).as_deref(), names.last().copied());
    let partition = names.last().map(|name| format!("{name}-part2"));
    assert_eq!(written(&format!("{disk}p2")), partition);
}

#[test]
fn bus_paths_are_those_of_udev() {
    has_bus_path(
        &[
            ("pci0000:00", ""),
            ("0000:00:03.0", "pci"),
            ("virtio0", "virtio"),
            ("block", ""),
        ],
        &[],
        "vda",
        &["pci-0000:00:03.0"],
    );
    // Behind a bridge only the device's own address counts.
    has_bus_path(
        &[
            ("pci0000:00", ""),
            ("0000:00:1c.0", "pci"),
            ("0000:01:00.0", "pci"),
            ("nvme", ""),
            ("nvme0", "nvme"),
        ],
        &[("DISK/nsid", "1")],
        "nvme0n1",
        &["pci-0000:01:00.0-nvme-1"],
    );
    has_bus_path(
        &[
            ("pci0000:00", ""),
            ("0000:00:1f.2", "pci"),
            ("ata3", ""),
            ("host2", "scsi"),
            ("target2:0:0", "scsi"),
            ("2:0:0:0", "scsi"),
            ("block", ""),
        ],
        &[("class/ata_port/ata3/port_no", "3")],
        "sda",
        &["pci-0000:00:1f.2-ata-3", "pci-0000:00:1f.2-ata-3.0"],
    );
    // virtio-scsi: host 7 is this controller's first.
    has_bus_path(
        &[
            ("pci0000:00", ""),
            ("0000:00:05.0", "pci"),
            ("virtio2", "virtio"),
            ("host7", "scsi"),
            ("target7:0:1", "scsi"),
            ("7:0:1:4", "scsi"),
            ("block", ""),
        ],
        &[],
        "sdb",
        &["pci-0000:00:05.0-scsi-0:0:1:4"],
    );
    has_bus_path(
        &[
            ("pci0000:00", ""),
            ("0000:00:14.0", "pci"),
            ("usb2", "usb"),
            ("2-1", "usb"),
            ("2-1.4", "usb"),
            ("2-1.4:1.0", "usb"),
            ("host6", "scsi"),
            ("target6:0:0", "scsi"),
            ("6:0:0:0", "scsi"),
            ("block", ""),
        ],
        &[],
        "sdc",
        &["pci-0000:00:14.0-usb-0:1.4:1.0-scsi-0:0:0:0"],
    );
    has_bus_path(
        &[
            ("platform", ""),
            ("a003e00.virtio_mmio", "platform"),
            ("virtio0", "virtio"),
            ("block", ""),
        ],
        &[],
        "vdb",
        &["platform-a003e00.virtio_mmio"],
    );
    // A domain of its own behind a PCI device (VMD): both addresses.
    has_bus_path(
        &[
            ("pci0000:00", ""),
            ("0000:00:0e.0", "pci"),
            ("pci10000:e0", ""),
            ("10000:e0:06.0", "pci"),
            ("10000:e1:00.0", "pci"),
            ("nvme", ""),
            ("nvme1", "nvme"),
        ],
        &[("DISK/nsid", "2")],
        "nvme1n1",
        &["pci-0000:00:0e.0-pci-10000:e1:00.0-nvme-2"],
    );
}
