// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dumps to file systems that LUKS encrypted, with the volume key in the image by `luks_volume_key`. `cryptsetup` makes the
//! disks in a guest, and reads the dumps back by the passphrase.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use qemu_tests::artifacts;
use qemu_tests::disk::{self, Ext};
use qemu_tests::machine::{Content, DiskPlan, Machine};
use qemu_tests::run::stdout;
use qemu_tests::setup::{self, Flavour};
use qemu_tests::stack::{Built, Stack, UUID};

/// The LUKS device's own UUID.
const LUKS_UUID: &str = "7c3ee0b4-53f4-4d3c-9d3a-0a3f6d6f2b5e";
/// A volume key that a shell can write.
const KEY: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-+";

/// Encrypts a device, opens it as `crypt`, and compares the volume key that the command of the builder's message writes.
fn encrypt(device: &str, format: &str, key_bytes: usize) -> String {
    let key = &KEY[..key_bytes];
    let bits = 8 * key_bytes;
    format!(
        "printf %s '{key}' > /harness/volume.key\n\
         do_luks luksFormat --uuid {LUKS_UUID} {format} --key-size {bits} --volume-key-file /harness/volume.key \
         --pbkdf-force-iterations 1000 {device}\n\
         do_luks luksDump --dump-volume-key --volume-key-file /harness/dumped.key {device}\n\
         cmp /harness/volume.key /harness/dumped.key || fail 'another volume key'\n\
         do_luks open {device} crypt\n"
    )
}

/// Says how the builder finds the mapping of this number, which is on `below` and holds `content`.
fn describe(number: u32, below: &str, content: &str) -> String {
    format!(
        "block=/sys/class/block/dm-{number}\n\
         say describe /dev/dm-{number} made_of={below} dm_name=$(cat $block/dm/name) dm_uuid=$(cat $block/dm/uuid) \
         size=$(($(cat $block/size) * 512)) {content}\n"
    )
}

fn filesystem() -> String {
    format!("fstype=ext4 uuid={UUID}")
}

/// Gives the machine the volume key as a file.
fn give_key(machine: &Machine, key_bytes: usize) -> Result<()> {
    let file = machine.host_root().join("root/luks.key");
    fs::create_dir_all(machine.host_root().join("root"))?;
    fs::write(&file, &KEY[..key_bytes])?;
    Ok(fs::set_permissions(
        &file,
        fs::Permissions::from_mode(0o400),
    )?)
}

/// The lines of `kdump.conf` for the file system, and what is to follow.
fn conf(more: &str) -> String {
    format!("ext4 UUID={UUID}\nluks_volume_key UUID={LUKS_UUID} /root/luks.key\n{more}")
}

/// Checks that nothing that people print of the image has the key.
fn is_kept_secret(built: &Built<'_>, conf: &str) -> Result<()> {
    let plan = stdout(&mut built.machine.mkkdumprd(built.kernel(), conf, "plan")?)?;
    ensure!(plan.contains(", by the volume key in the image"), "{plan}");
    let image = built.machine.build(built.kernel(), conf)?;
    let mode = fs::metadata(&image)?.permissions().mode() & 0o7777;
    ensure!(mode == 0o600, "{mode:o}");
    let mkkdumprd = |words: [&str; 2]| -> Result<Output> {
        let mut command = Command::new(artifacts::mkkdumprd()?);
        let [word, file] = words;
        command.arg(word).arg(&image);
        if !file.is_empty() {
            command.arg(file);
        }
        Ok(command.output()?)
    };
    let record = mkkdumprd(["cat", "/etc/kdump.record"])?;
    let list = mkkdumprd(["ls", ""])?;
    ensure!(
        String::from_utf8_lossy(&list.stdout).contains(&format!("/etc/kdump.luks/{LUKS_UUID}\n")),
        "{list:?}"
    );
    let key = mkkdumprd(["cat", &format!("/etc/kdump.luks/{LUKS_UUID}")])?;
    ensure!(!key.status.success() && key.stdout.is_empty(), "{key:?}");
    let hex: String = KEY
        .bytes()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    for text in [plan.as_bytes(), &record.stdout, &list.stdout, &key.stderr] {
        let text = String::from_utf8_lossy(text);
        ensure!(!text.contains(&KEY[..16]) && !text.contains(&hex), "{text}");
    }
    Ok(())
}

/// LUKS2 as an installer makes it, but for a passphrase that takes no time, right on a disk.
fn on_a_disk<'a>(name: &'a str, make: &'a str, describe: &'a str) -> Stack<'a> {
    Stack {
        name,
        flavour: Flavour::Cloud6_1,
        disks_mib: &[212],
        tools: &["cryptsetup"],
        modules: MODULES,
        make,
        start: "do_luks open /dev/vda crypt\n",
        device: "/dev/mapper/crypt",
        describe,
    }
}

const MODULES: &[&str] = &["dm_crypt", "xts", "ecb", "essiv", "algif_skcipher"];
/// Where it has its JSON and what that is preceded by.
const LUKS2_HEADER_BYTES: u64 = 16 << 10;
const LUKS2: &str = "--type luks2 --pbkdf pbkdf2 --cipher aes-xts-plain64";

#[test]
fn an_encrypted_file_system() -> Result<()> {
    let make = encrypt("/dev/vda", LUKS2, 64);
    let describe = describe(0, "/dev/vda", &filesystem());
    let stack = on_a_disk("luks2", &make, &describe);
    let built = stack.build()?;
    give_key(&built.machine, 64)?;
    is_kept_secret(&built, &conf(""))?;
    let outcome = built.capture(&conf(""))?;
    built.saved(&outcome, "/var/crash", None)?;
    built.machine.clean_up()
}

#[test]
fn a_logical_volume_on_an_encrypted_disk_is_the_root_file_system_on_6_12() -> Result<()> {
    let make = encrypt("/dev/vda", LUKS2, 64)
        + "do_lvm pvcreate /dev/mapper/crypt\n\
           do_lvm vgcreate vg0 /dev/mapper/crypt\n\
           do_lvm lvcreate -Z n -W n -l 49 -n dumps vg0\n";
    let describe = describe(0, "/dev/vda", "fstype=LVM2_member uuid=x")
        + &describe(1, "/dev/dm-0", &filesystem());
    let stack = Stack {
        flavour: Flavour::Cloud6_12,
        disks_mib: &[220],
        tools: &["cryptsetup", "lvm"],
        start: "do_luks open /dev/vda crypt\ndo_lvm vgchange -a y vg0\n",
        device: "/dev/mapper/vg0-dumps",
        ..on_a_disk("lvm-on-luks", &make, &describe)
    };
    let built = stack.build()?;
    give_key(&built.machine, 64)?;
    built.machine.mount_root_node("/dev/dm-1", "ext4")?;
    let conf = format!("path /dumps\nluks_volume_key UUID={LUKS_UUID} /root/luks.key\n");
    let outcome = built.capture(&conf)?;
    built.saved(&outcome, "/dumps", None)?;
    built.machine.clean_up()
}

#[test]
fn a_disk_that_was_encrypted_anew_leads_to_the_next_target() -> Result<()> {
    let make = encrypt("/dev/vda", LUKS2, 64);
    let describe = describe(0, "/dev/vda", &filesystem());
    let stack = on_a_disk("luks-anew", &make, &describe);
    let mut built = stack.build()?;
    give_key(&built.machine, 64)?;
    let second = built
        .machine
        .add(&DiskPlan::virtio(Content::Ext(Ext::new("ext3", 256))))?;
    let conf = conf(&format!("ext3 {}\n", second.node));
    let cycle = built.cycle(&conf)?;
    // The same UUID, and another volume key.
    let again = format!(
        "do_luks luksFormat --uuid {LUKS_UUID} {LUKS2} --key-size 512 --pbkdf-force-iterations 1000 /dev/vda\n"
    );
    let images: Vec<&Path> = built.images().iter().map(PathBuf::as_path).collect();
    stack.errand("luks-anew-again", built.kernel(), &again, &images)?;
    let outcome = cycle.run()?;
    outcome.line(
        "kdump: attempt 1 of 2 failed: putting crypt together: its LUKS header is not the one of which the image has the volume \
         key; rebuild the kdump image; next: attempt 2",
    )?;
    outcome.line("kdump: attempt 2 of 2 done: ")?;
    built.machine.clean_up()
}

#[test]
fn an_older_luks_on_a_logical_volume() -> Result<()> {
    // The first volume of a group begins behind the metadata, where the builder reads the header.
    const FIRST_EXTENT: u64 = 1 << 20;
    let make = "do_lvm pvcreate /dev/vda\n\
                do_lvm vgcreate vg0 /dev/vda\n\
                do_lvm lvcreate -Z n -W n -l 50 -n secret vg0\n"
        .to_owned()
        + &encrypt(
            "/dev/mapper/vg0-secret",
            "--type luks1 --cipher aes-cbc-essiv:sha256",
            32,
        );
    let content = format!("fstype=crypto_LUKS uuid={LUKS_UUID}");
    let describe = describe(0, "/dev/vda", &content) + &describe(1, "/dev/dm-0", &filesystem());
    let stack = Stack {
        tools: &["cryptsetup", "lvm"],
        start: "do_lvm vgchange -a y vg0\ndo_luks open /dev/mapper/vg0-secret crypt\n",
        ..on_a_disk("luks-on-lvm", &make, &describe)
    };
    let built = stack.build()?;
    give_key(&built.machine, 32)?;
    let header = built.machine.host_root().join("dev/dm-0");
    disk::copy_sparse(&built.images()[0], FIRST_EXTENT, &header, 0, 4096)?;
    let outcome = built.capture(&conf(""))?;
    built.saved(&outcome, "/var/crash", None)?;
    built.machine.clean_up()
}

#[test]
fn sectors_of_4_kib_on_a_mirror() -> Result<()> {
    // With the array's superblock at the end each half looks like the encrypted device itself.
    let make = "do_md --create /dev/md0 --run --assume-clean --level=1 --raid-devices=2 --metadata=1.0 /dev/vda /dev/vdb\n"
        .to_owned()
        + &encrypt("/dev/md0", &format!("{LUKS2} --sector-size 4096"), 64);
    let array = format!(
        "say describe /dev/md0 made_of=/dev/vda,/dev/vdb md_level=raid1 \
         size=$(($(cat /sys/class/block/md0/size) * 512)) fstype=crypto_LUKS uuid={LUKS_UUID}\n"
    );
    let describe = array
        + &describe(0, "/dev/md0", &filesystem())
        + "do_luks close crypt\ndo_md --wait-clean /dev/md0\ndo_md --stop /dev/md0\n";
    let modules = [MODULES, &["raid1"]].concat();
    let stack = Stack {
        disks_mib: &[216, 216],
        tools: &["cryptsetup", "mdadm"],
        modules: &modules,
        start: "do_md --assemble /dev/md0 --run /dev/vda /dev/vdb\ndo_luks open /dev/md0 crypt\n",
        ..on_a_disk("luks-on-md", &make, &describe)
    };
    let built = stack.build()?;
    give_key(&built.machine, 64)?;
    let header = built.machine.host_root().join("dev/md0");
    disk::copy_sparse(&built.images()[0], 0, &header, 0, LUKS2_HEADER_BYTES)?;
    let outcome = built.capture(&conf(""))?;
    built.saved(&outcome, "/var/crash", None)?;
    built.machine.clean_up()
}

#[test]
fn the_key_of_a_mapping_is_asked_of_the_kernel_where_it_tells() -> Result<()> {
    let stack = Stack {
        tools: &["cryptsetup"],
        ..on_a_disk("luks-active", "", "")
    };
    let kernel = setup::kernel(stack.flavour)?;
    let machine = Machine::new(stack.name)?;
    let encrypted = machine.work().join("encrypted.img");
    disk::blank(&encrypted, 24)?;
    // The builder runs in the guest, as the sysfs and the device mapper are there.
    let mut init = fs::read(artifacts::inits()?.join("init-local"))?;
    init.resize(init.len().next_multiple_of(512), 0);
    let init_image = machine.work().join("init.img");
    fs::write(&init_image, init)?;
    let plan = "mkkdumprd plan --conf /harness/kdump.conf --kver 1.0 --modules-dir /harness/lists --init /harness/init";
    let script = format!(
        "mkdir /harness/lists\n\
         touch /harness/lists/modules.dep\n\
         for name in virtio_pci virtio_blk dm_mod dm_crypt aes_generic cbc essiv sha256_generic; do\n\
         echo kernel/$name.ko >> /harness/lists/modules.builtin\n\
         done\n\
         cp /dev/vdb /harness/init\n\
         printf 'raw /dev/dm-0\\nluks_volume_key /dev/vda active\\ndefault reboot\\n' > /harness/kdump.conf\n\
         {older}\
         {plan} > /harness/said 2>&1 || fail \"plan: $(tail -c 600 /harness/said | tr '\\n' ' ')\"\n\
         grep -q 'LUKS1 on /dev/vda, aes-cbc-essiv:sha256, by the volume key in the image' /harness/said ||\n\
         fail \"no such layer: $(grep -i luks /harness/said | tr '\\n' ' ')\"\n\
         do_luks close crypt\n\
         {today}\
         {plan} > /harness/said 2>&1 && fail 'a key out of the keyring'\n\
         say said $(tr '\\n' ' ' < /harness/said)\n",
        older = encrypt("/dev/vda", "--type luks1 --cipher aes-cbc-essiv:sha256", 32),
        today = encrypt("/dev/vda", LUKS2, 64).replace("dumped.key", "dumped-again.key"),
    );
    let said = stack.errand_with(
        &[artifacts::mkkdumprd()?],
        "luks-active-errand",
        &kernel,
        &script,
        &[&encrypted, &init_image],
    )?;
    let refusal = said
        .iter()
        .find_map(|line| line.strip_prefix("said "))
        .unwrap_or_default();
    ensure!(
        refusal.contains("kdump.conf:2: `luks_volume_key`: the volume key of crypt: the kernel has it in its keyring")
            && refusal.contains("--volume-key-file FILE /dev/vda` writes it"),
        "{said:?}"
    );
    machine.clean_up()
}
