// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dumps to file systems on logical volumes and arrays, made and read back by LVM's and md's own commands in a guest.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use qemu_tests::crash::Crash;
use qemu_tests::cycle::Outcome;
use qemu_tests::disk::{self, Ext, ExtImage};
use qemu_tests::errand::{self, Errand};
use qemu_tests::machine::{Content, DiskPlan, Machine, Presence};
use qemu_tests::proof::{self, Known};
use qemu_tests::saved::Saved;
use qemu_tests::setup::{self, Flavour, Kernel};
use qemu_tests::vm::End;

const UUID: &str = "0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11";
/// The file system's size. The volume that holds it is a few MiB larger.
const SIZE_MIB: u64 = 192;
/// What the guest that makes and reads volumes runs first.
const QUIET: &str = "mkdir -p /etc/lvm\n\
    export LVM_SUPPRESS_FD_WARNINGS=1\n\
    devices='devices { use_devicesfile=0 external_device_info_source=\"none\" obtain_device_list_from_udev=0 }'\n\
    rest='activation { udev_sync=0 udev_rules=0 monitoring=0 } global { use_lvmpolld=0 } backup { backup=0 archive=0 }'\n\
    do_lvm() { lvm \"$@\" --config \"$devices $rest\" > /harness/said 2>&1 || fail \"lvm $*: $(tail -c 300 /harness/said | tr '\\n' ' ')\"; }\n\
    do_md() { mdadm \"$@\" > /harness/said 2>&1 || fail \"mdadm $*: $(tail -c 300 /harness/said | tr '\\n' ' ')\"; }\n";

/// One stack of layers: how a guest makes it and puts it together again.
struct Stack<'a> {
    name: &'a str,
    flavour: Flavour,
    /// The sizes of its disks.
    disks_mib: &'a [u64],
    modules: &'a [&'a str],
    /// Makes the device that gets the file system, from `/dev/vda`, …
    make: &'a str,
    /// Puts it together.
    start: &'a str,
    /// The node of the device.
    device: &'a str,
    /// Says what the builder has to know: `describe LINE`.
    describe: &'a str,
}

/// A machine that has the stack, and is described with it.
struct Built<'a> {
    stack: &'a Stack<'a>,
    kernel: Kernel,
    machine: Machine,
    images: Vec<PathBuf>,
}

impl<'a> Stack<'a> {
    fn build(&'a self) -> Result<Built<'a>> {
        let kernel = setup::kernel(self.flavour)?;
        let mut machine = Machine::new(self.name)?;
        let filesystem = machine.work().join("filesystem.img");
        Ext {
            uuid: UUID,
            ..Ext::new("ext4", SIZE_MIB)
        }
        .make(&filesystem)?;
        let raw: Vec<PathBuf> = (0..self.disks_mib.len())
            .map(|number| machine.work().join(format!("made{number}.img")))
            .collect();
        for (image, size_mib) in raw.iter().zip(self.disks_mib) {
            disk::blank(image, *size_mib)?;
        }
        let script = format!(
            "{QUIET}{}\n\
             dd if=/dev/vd{last} of={device} bs=1M 2> /dev/null || fail \"copying to {device}\"\n\
             sync\n\
             {}\n\
             say done\n",
            self.make,
            self.describe,
            last = char::from(b'a' + u8::try_from(raw.len())?),
            device = self.device,
        );
        let mut disks: Vec<&Path> = raw.iter().map(PathBuf::as_path).collect();
        disks.push(&filesystem);
        let said = self.errand(&format!("{}-make", self.name), &kernel, &script, &disks)?;
        let mut images = Vec::new();
        for image in &raw {
            let made = machine.add(&DiskPlan::virtio(Content::Copy(image)))?;
            images.push(made.disk.image);
        }
        for line in &said {
            if let Some(line) = line.strip_prefix("describe ") {
                machine.describe(line);
            }
        }
        Ok(Built {
            stack: self,
            kernel,
            machine,
            images,
        })
    }

    fn errand(
        &self,
        name: &str,
        kernel: &Kernel,
        script: &str,
        images: &[&Path],
    ) -> Result<Vec<String>> {
        Errand {
            name,
            kernel,
            modules: self.modules,
            programs: &errand::volume_tools()?,
            files: Vec::new(),
            script,
            images,
            namespace: None,
        }
        .run()
    }
}

impl Built<'_> {
    fn capture(&self, conf: &str) -> Result<Outcome> {
        let mut cycle = self.machine.cycle(&self.kernel, conf)?;
        cycle.memory_mib = 512;
        cycle.run()
    }

    /// The file system, as the tools of the host put the layers together.
    fn read_back(&self, without: Option<usize>) -> Result<ExtImage> {
        let copy = self.machine.work().join("read-back.img");
        disk::blank(&copy, SIZE_MIB)?;
        let mut images: Vec<&Path> = self.images.iter().map(PathBuf::as_path).collect();
        if let Some(missing) = without {
            images.remove(missing);
        }
        let script = format!(
            "{QUIET}{start}\n\
             dd if={device} of=/dev/vd{last} bs=1M count={SIZE_MIB} 2> /dev/null || fail \"copying from {device}\"\n\
             sync\n\
             say done\n",
            start = self.stack.start,
            device = self.stack.device,
            last = char::from(b'a' + u8::try_from(images.len())?),
        );
        images.push(&copy);
        let name = format!("{}-read", self.stack.name);
        self.stack.errand(&name, &self.kernel, &script, &images)?;
        Ok(ExtImage::whole(copy))
    }

    /// Checks that the only attempt saved a good dump below `path`.
    fn saved(&self, outcome: &Outcome, path: &str, without: Option<usize>) -> Result<()> {
        proof::only_attempt_saved(outcome, Crash::Sysrq, &["vmcore-dmesg.txt saved: "])?;
        ensure!(outcome.end == End::Reset, "{:?}", outcome.end);
        let filesystem = self.read_back(without)?;
        filesystem.check()?;
        let saved = Saved::only(&filesystem, path, &self.machine.work().join("out"))?;
        saved.check_complete()?;
        let dmesg = std::fs::read(saved.file("vmcore-dmesg.txt"))?;
        let known = Known {
            dmesg: Some(&dmesg),
            ..Known::of(&self.kernel)
        };
        proof::dump_is_good(&saved.file("vmcore"), &known, self.machine.work())
    }
}

/// Says how the builder finds a logical volume.
const DESCRIBE_VOLUME: &str = "block=$(ls -d /sys/class/block/dm-*)\n\
    mapping=$(cat $block/dm/uuid)\n\
    say describe /dev/dm-0 made_of=$(ls $block/slaves | sed s,^,/dev/, | tr '\\n' ,) dm_name=vg0-dumps dm_uuid=$mapping \
    size=$(($(cat $block/size) * 512)) fstype=ext4 uuid=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11\n";

const START_VOLUME: &str = "do_lvm vgchange -a y vg0\n";

#[test]
fn a_logical_volume_in_pieces_on_two_disks() -> Result<()> {
    // The second piece lies before the first one on a disk that is not the first: nothing is where a guess would put it.
    let stack = Stack {
        name: "lvm-linear",
        flavour: Flavour::Cloud6_1,
        disks_mib: &[160, 160],
        modules: &["dm_mod"],
        make: "do_lvm pvcreate /dev/vda /dev/vdb\n\
               do_lvm vgcreate vg0 /dev/vda /dev/vdb\n\
               do_lvm lvcreate -Z n -W n -l 3 -n other vg0 /dev/vdb\n\
               do_lvm lvcreate -Z n -W n -l 25 -n dumps vg0 /dev/vdb\n\
               do_lvm lvremove -f vg0/other\n\
               do_lvm lvextend -l +24 vg0/dumps /dev/vda\n",
        start: START_VOLUME,
        device: "/dev/mapper/vg0-dumps",
        describe: DESCRIBE_VOLUME,
    };
    let built = stack.build()?;
    let outcome = built.capture("ext4 UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11\n")?;
    built.saved(&outcome, "/var/crash", None)?;
    built.machine.clean_up()
}

#[test]
fn a_striped_volume_is_the_root_file_system_on_6_12() -> Result<()> {
    let stack = Stack {
        name: "lvm-striped-root",
        flavour: Flavour::Cloud6_12,
        disks_mib: &[128, 128],
        modules: &["dm_mod"],
        make: "do_lvm pvcreate /dev/vda /dev/vdb\n\
               do_lvm vgcreate vg0 /dev/vda /dev/vdb\n\
               do_lvm lvcreate -Z n -W n -l 50 -i 2 -I 64k -n dumps vg0\n",
        start: START_VOLUME,
        device: "/dev/mapper/vg0-dumps",
        describe: DESCRIBE_VOLUME,
    };
    let built = stack.build()?;
    built.machine.mount_root_node("/dev/dm-0", "ext4")?;
    let outcome = built.capture("path /dumps\n")?;
    built.saved(&outcome, "/dumps", None)?;
    built.machine.clean_up()
}

/// Says how the builder finds an array.
const DESCRIBE_ARRAY: &str = "say describe /dev/md0 made_of=$(ls /sys/class/block/md0/slaves | sed s,^,/dev/, | tr '\\n' ,) \
    md_level=$(cat /sys/class/block/md0/md/level) size=$(($(cat /sys/class/block/md0/size) * 512)) \
    fstype=ext4 uuid=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11\n\
    do_md --wait-clean /dev/md0\n\
    do_md --stop /dev/md0\n";

fn array<'a>(
    name: &'a str,
    disks_mib: &'a [u64],
    modules: &'a [&'a str],
    make: &'a str,
    start: &'a str,
) -> Stack<'a> {
    Stack {
        name,
        flavour: Flavour::Cloud6_1,
        disks_mib,
        modules,
        make,
        start,
        device: "/dev/md0",
        describe: DESCRIBE_ARRAY,
    }
}

#[test]
fn an_array_of_stripes() -> Result<()> {
    let stack = array(
        "md-raid0",
        &[112, 112],
        &["raid0"],
        "do_md --create /dev/md0 --run --level=0 --raid-devices=2 --chunk=64 --metadata=1.2 /dev/vda /dev/vdb\n",
        "do_md --assemble /dev/md0 --run /dev/vda /dev/vdb\n",
    );
    let built = stack.build()?;
    let outcome = built.capture("ext4 UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11\n")?;
    built.saved(&outcome, "/var/crash", None)?;
    built.machine.clean_up()
}

#[test]
fn an_array_of_mirrors_and_stripes_on_6_12() -> Result<()> {
    let stack = Stack {
        flavour: Flavour::Cloud6_12,
        ..array(
            "md-raid10",
            &[112, 112, 112, 112],
            &["raid10"],
            "do_md --create /dev/md0 --run --assume-clean --level=10 --raid-devices=4 --metadata=1.1 /dev/vd[abcd]\n",
            "do_md --assemble /dev/md0 --run /dev/vd[abcd]\n",
        )
    };
    let built = stack.build()?;
    let outcome = built.capture("ext4 UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11\n")?;
    built.saved(&outcome, "/var/crash", None)?;
    built.machine.clean_up()
}

#[test]
fn a_mirror_that_has_lost_a_disk() -> Result<()> {
    // With its superblock at the end the mirror's halves look like the file system itself.
    let stack = array(
        "md-raid1-degraded",
        &[200, 200],
        &["raid1"],
        "do_md --create /dev/md0 --run --assume-clean --level=1 --raid-devices=2 --metadata=1.0 /dev/vda /dev/vdb\n",
        "do_md --assemble /dev/md0 --run /dev/vda\n",
    );
    let built = stack.build()?;
    let mut cycle = built.machine.cycle(
        &built.kernel,
        "ext4 UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11\n",
    )?;
    cycle.memory_mib = 512;
    cycle.disks.truncate(1);
    let outcome = cycle.run()?;
    outcome.line("kdump: md0: 1 of 2 devices are there, and it is used as it is")?;
    built.saved(&outcome, "/var/crash", Some(1))?;
    built.machine.clean_up()
}

#[test]
fn a_logical_volume_on_a_mirror() -> Result<()> {
    let stack = Stack {
        device: "/dev/mapper/vg0-dumps",
        describe: "say describe /dev/md0 made_of=/dev/vda,/dev/vdb md_level=raid1 size=$(($(cat /sys/class/block/md0/size) * 512)) \
                   fstype=LVM2_member uuid=x\n\
                   mapping=$(cat /sys/class/block/dm-0/dm/uuid)\n\
                   say describe /dev/dm-0 made_of=/dev/md0 dm_name=vg0-dumps dm_uuid=$mapping \
                   size=$(($(cat /sys/class/block/dm-0/size) * 512)) fstype=ext4 uuid=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11\n\
                   do_lvm vgchange -a n vg0\n\
                   do_md --wait-clean /dev/md0\n\
                   do_md --stop /dev/md0\n",
        ..array(
            "lvm-on-md",
            &[224, 224],
            &["raid1", "dm_mod"],
            "do_md --create /dev/md0 --run --assume-clean --level=1 --raid-devices=2 --metadata=1.2 /dev/vda /dev/vdb\n\
             do_lvm pvcreate /dev/md0\n\
             do_lvm vgcreate vg0 /dev/md0\n\
             do_lvm lvcreate -Z n -W n -l 50 -n dumps vg0\n",
            "do_md --assemble /dev/md0 --run /dev/vda /dev/vdb\n\
             do_lvm vgchange -a y vg0\n",
        )
    };
    let built = stack.build()?;
    let outcome = built.capture("ext4 UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11\n")?;
    built.saved(&outcome, "/var/crash", None)?;
    built.machine.clean_up()
}

#[test]
fn a_volume_whose_disk_is_gone_leads_to_the_next_target() -> Result<()> {
    let stack = Stack {
        name: "lvm-missing",
        flavour: Flavour::Cloud6_1,
        disks_mib: &[128, 128],
        modules: &["dm_mod"],
        make: "do_lvm pvcreate /dev/vda /dev/vdb\n\
               do_lvm vgcreate vg0 /dev/vda /dev/vdb\n\
               do_lvm lvcreate -Z n -W n -l 50 -n dumps vg0\n",
        start: START_VOLUME,
        device: "/dev/mapper/vg0-dumps",
        describe: DESCRIBE_VOLUME,
    };
    let mut built = stack.build()?;
    let second = built
        .machine
        .add(&DiskPlan::virtio(Content::Ext(Ext::new("ext3", 256))))?;
    let conf = format!(
        "ext4 UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11\next3 {}\ndisk_timeout 3\n",
        second.node
    );
    let mut cycle = built.machine.cycle(&built.kernel, &conf)?;
    cycle.memory_mib = 512;
    cycle.disks.remove(1);
    let outcome = cycle.run()?;
    outcome.line("kdump: attempt 1 of 2 failed: putting vg0-dumps together: its part .* did not come within 3.. s; next: attempt 2")?;
    outcome.line("kdump: attempt 2 of 2 done: ")?;
    built.machine.clean_up()
}

/// What the builder says when it refuses.
fn refusal(machine: &Machine, conf: &str) -> Result<String> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let output = machine
        .mkkdumprd(&kernel, conf, "plan")?
        .output()
        .context("running mkkdumprd")?;
    ensure!(!output.status.success(), "it was not refused");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_the_capture_kernel_cannot_have_is_refused() -> Result<()> {
    for (line, words) in [
        (
            "dm_name=luks-1 dm_uuid=CRYPT-LUKS2-1-luks-1",
            "is encrypted (dm-crypt)",
        ),
        (
            "dm_name=vg-pool dm_uuid=LVM-aaaaaabbbbccccddddeeeeffffgggggg11111122223333444455556666777777-tpool",
            "inner part of another logical volume",
        ),
        ("md_level=raid5", "an array of the level raid5"),
        ("dm_name=x dm_uuid=VDO-1", "not supported"),
    ] {
        let mut machine = Machine::new("layers-refused")?;
        machine.add(&DiskPlan {
            presence: Presence::Later,
            ..DiskPlan::virtio(Content::Blank(16))
        })?;
        machine.describe(&format!(
            "/dev/dm-0 made_of=/dev/vda {line} size=1000 fstype=ext4 uuid=1-2"
        ));
        let said = refusal(&machine, "ext4 /dev/dm-0\n")?;
        ensure!(
            said.contains("kdump.conf:1: ") && said.contains(words),
            "{said}"
        );
        machine.clean_up()?;
    }
    Ok(())
}
