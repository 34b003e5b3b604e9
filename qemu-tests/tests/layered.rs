// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dumps to file systems on logical volumes and arrays, made and read back by LVM's and md's own commands in a guest.

use anyhow::{Context, Result, ensure};
use qemu_tests::disk::Ext;
use qemu_tests::machine::{Content, DiskPlan, Machine, Presence};
use qemu_tests::setup::{self, Flavour};
use qemu_tests::stack::Stack;

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
        tools: &["lvm"],
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
        tools: &["lvm"],
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
        tools: &["mdadm"],
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
    let mut cycle = built.cycle("ext4 UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11\n")?;
    cycle.disks.truncate(1);
    let outcome = cycle.run()?;
    outcome.line("kdump: md0: 1 of 2 devices are there, and it is used as it is")?;
    built.saved(&outcome, "/var/crash", Some(1))?;
    built.machine.clean_up()
}

#[test]
fn a_logical_volume_on_a_mirror() -> Result<()> {
    let stack = Stack {
        tools: &["lvm", "mdadm"],
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
        tools: &["lvm"],
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
    let mut cycle = built.cycle(&conf)?;
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
