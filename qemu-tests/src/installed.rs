// SPDX-License-Identifier: MIT OR Apache-2.0
//! An installed Debian that systemd starts, as a guest: its root file system is an image of the cache, made once by
//! debootstrap; what a test brings along comes in with the first initramfs.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cycle::{self, work_folder};
use crate::disk::{self, Bus, Disk, Ext, ExtImage};
use crate::guest;
use crate::run::{run, stdout};
use crate::setup::{self, Kernel, lock_cache, start_afresh};
use crate::vm::Vm;

/// systemd without hardware virtualisation takes half a minute; a busy machine, longer.
pub const STEP: Duration = Duration::from_secs(300);

/// The root file system's size.
const SIZE_MIB: u64 = 2048;

/// What the disk and its file system need before systemd runs.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "ext4"];

/// What a Debian has beside debootstrap's smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// systemd and udev.
    Plain,
    /// And kdump-tools with everything that it recommends.
    KdumpTools,
}

impl Flavour {
    /// The folder and the image in the cache.
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "installed-plain",
            Self::KdumpTools => "installed-kdump-tools",
        }
    }

    const fn packages(self) -> &'static str {
        match self {
            // grub's programs, which write its menu, and not grub: QEMU starts the kernel.
            Self::Plain => "systemd,systemd-sysv,udev,kmod,grub2-common",
            Self::KdumpTools => {
                "systemd,systemd-sysv,udev,kmod,kdump-tools,makedumpfile,kexec-tools,initramfs-tools,zstd,procps"
            }
        }
    }
}

/// Folders of no use to a guest, a third of what there is.
const LEFT_OUT: [&str; 4] = [
    "usr/share/doc",
    "usr/share/locale",
    "var/cache/apt",
    "var/lib/apt/lists",
];

/// Units that take time and do nothing for a guest whose console is a log.
const MASKED: [&str; 9] = [
    "getty.target",
    "console-getty.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-update-utmp.service",
];

/// Counts what the images hold: machines keep older ones in their cache.
const CONTENT: u32 = 2;

/// The image of a Debian with this kernel installed; made when it is not in the cache yet, which takes minutes.
///
/// # Errors
/// debootstrap fails: it needs root, the distribution's packages, and a Debian to run on.
fn image(kernel: &Kernel, flavour: Flavour) -> Result<PathBuf> {
    setup::ready()?;
    let _lock = lock_cache(&format!("{}.lock", flavour.name()))?;
    let cache = setup::cache()?;
    let image = cache.join(format!(
        "{}-{}.{CONTENT}.img",
        flavour.name(),
        kernel.release
    ));
    if image.is_file() {
        return Ok(image);
    }
    eprintln!("setup: making a Debian with systemd ({})", flavour.name());
    let tree = cache.join(format!("{}.partial", flavour.name()));
    start_afresh(&tree)?;
    bootstrap(&tree, flavour, &cache.join("debs"))?;
    furnish(&tree, kernel)?;
    let partial = image.with_extension("partial");
    Ext {
        content: Some(&tree),
        label: "root",
        ..Ext::new("ext4", SIZE_MIB)
    }
    .make(&partial)?;
    fs::remove_dir_all(&tree)?;
    fs::rename(&partial, &image)?;
    Ok(image)
}

/// Has debootstrap make a Debian of this machine's release in `tree`, in a mount namespace of its own: what it mounts in the
/// tree goes with it, however it ends. The device files that it makes are the tree's.
fn bootstrap(tree: &Path, flavour: Flavour, archives: &Path) -> Result<()> {
    ensure!(
        stdout(Command::new("id").arg("-u"))?.trim() == "0",
        "debootstrap needs root to make the Debian that the packages are tried in; once, then it is in the cache"
    );
    fs::create_dir_all(archives)?;
    let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("this is no release of Debian: /etc/os-release has no VERSION_CODENAME")?;
    // The mirror is the one that this machine uses.
    let mirrors = stdout(setup::program("apt-get")?.args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
        &format!("Codename: {suite}"),
        "Component: main",
    ]))?;
    let mirror = mirrors
        .lines()
        .next()
        .with_context(|| format!("apt knows no mirror of {suite}; run apt-get update"))?;
    run(setup::program("unshare")?
        .args(["--mount", "--propagation", "private"])
        .arg(setup::find_program("debootstrap").context("debootstrap is not installed")?)
        .args(["--variant=minbase", "--include", flavour.packages()])
        .arg(format!("--cache-dir={}", archives.display()))
        .arg(suite)
        .arg(tree)
        .arg(mirror)
        // With this set debootstrap would bind the machine's devices into the tree where it may not make any.
        .env_remove("container")
        .env("DEBIAN_FRONTEND", "noninteractive"))
    .context("debootstrap")?;
    Ok(())
}

/// Puts the kernel where its package has it, and leaves out what only takes time.
fn furnish(tree: &Path, kernel: &Kernel) -> Result<()> {
    for folder in LEFT_OUT {
        let _ = fs::remove_dir_all(tree.join(folder));
    }
    for folder in [
        "boot",
        "lib/modules",
        "var/cache/apt/archives/partial",
        "var/lib/apt/lists/partial",
    ] {
        fs::create_dir_all(tree.join(folder))?;
    }
    let release = &kernel.release;
    let boot = kernel.image();
    let boot = boot.parent().context("the kernel lies in no folder")?;
    // The configuration too: Debian's initramfs-tools looks in it for what the kernel can unpack.
    for file in ["vmlinuz", "config", "System.map"] {
        let name = format!("{file}-{release}");
        fs::copy(boot.join(&name), tree.join("boot").join(&name))
            .with_context(|| format!("the kernel's {name}"))?;
    }
    run(Command::new("cp")
        .arg("-a")
        .arg(kernel.modules())
        .arg(tree.join("lib/modules")))?;
    for unit in MASKED {
        std::os::unix::fs::symlink("/dev/null", tree.join("etc/systemd/system").join(unit))?;
    }
    fs::write(tree.join("etc/hostname"), "guest\n")?;
    fs::write(tree.join("etc/fstab"), "/dev/vda / ext4 defaults 0 1\n")?;
    // Without one every start is the first one, at which systemd sets everything up anew.
    fs::write(
        tree.join("etc/machine-id"),
        "6b64756d7072640000000000000000aa\n",
    )?;
    Ok(())
}

/// One installed machine with a disk of its own.
#[derive(Debug)]
pub struct Installed {
    name: String,
    kernel: Kernel,
    work: PathBuf,
    image: PathBuf,
    /// The guest's memory.
    pub memory_mib: u64,
    /// Its processors.
    pub processors: u32,
}

/// One start of such a machine.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Files that are put into the root file system: absolute name, and content. All may be run.
    pub files: Vec<(String, Vec<u8>)>,
    /// Shell text that runs before systemd, with the root file system at `/mnt`. `say` prints a line, `fail` ends the run.
    pub before: String,
    /// Shell text that runs when systemd has started everything, with `say` and `fail` likewise; nothing runs when it is empty.
    pub after: String,
    /// More words for the kernel's command line.
    pub arguments: String,
}

/// Where [`INSTALL`] finds our package.
pub const PACKAGE: &str = "/root/kdumprd.deb";

/// Installs it into the system that does not run yet, as an installer would do it. By its whole name: busybox has a dpkg too.
pub const INSTALL: &str = "
for folder in proc sys dev; do mount --bind /$folder /mnt/$folder; done
chroot /mnt /usr/bin/dpkg -i /root/kdumprd.deb > /harness/said 2>&1 || fail \"dpkg -i: $(tail -n 3 /harness/said | tr '\\n' ' ')\"
say 'installed'
for folder in dev sys proc; do umount /mnt/$folder; done
";

/// What systemd runs last.
const UNIT: &str = "/etc/systemd/system/harness.service";

const UNIT_TEXT: &str = "\
[Unit]
After=multi-user.target kdump.service kdump-tools.service
[Service]
Type=oneshot
ExecStart=/harness/after
[Install]
WantedBy=multi-user.target
";

/// Its script.
const AFTER: &str = "/harness/after";

/// What that begins with.
const PRELUDE: &str = r#"#!/bin/sh
say() { echo "<1>harness: $*" > /dev/kmsg; }
fail() { say "failed: $*"; sync; poweroff -ff; sleep 60; }
each() { while read -r line; do say "$1 -> $line"; done < /run/said; }
say "systemd is up"
"#;

impl Installed {
    /// A machine of 1 GiB and one processor. Its disk is a copy of the image in the cache.
    ///
    /// # Errors
    /// The image cannot be made or copied.
    pub fn new(name: &str, kernel: &Kernel, flavour: Flavour) -> Result<Self> {
        Self::on(name, kernel, &image(kernel, flavour)?)
    }

    /// As [`Installed::new`], with a copy of this disk.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn on(name: &str, kernel: &Kernel, disk: &Path) -> Result<Self> {
        let work = work_folder(name)?;
        let image = work.join("root.img");
        if image.exists() {
            fs::remove_file(&image)?;
        }
        disk::copy_sparse(disk, 0, &image, 0, u64::MAX)?;
        Ok(Self {
            name: name.to_owned(),
            kernel: kernel.clone(),
            work,
            image,
            memory_mib: 1024,
            processors: 1,
        })
    }

    /// Starts it, up to the first line of the first kernel's init.
    ///
    /// # Errors
    /// The initramfs cannot be made, or the guest does not start.
    pub fn start(&self, start: &Start) -> Result<Vm> {
        let mut files = start.files.clone();
        let mut script = String::from("mount -t ext4 /dev/vda /mnt || fail 'mount /dev/vda'\n");
        if !start.after.is_empty() {
            files.push((
                AFTER.to_owned(),
                format!("{PRELUDE}{}", start.after).into_bytes(),
            ));
            files.push((UNIT.to_owned(), UNIT_TEXT.into()));
        }
        let mut flat = Vec::new();
        for (number, (place, bytes)) in files.into_iter().enumerate() {
            let name = format!("harness/file{number}");
            script += &format!("mkdir -p $(dirname /mnt{place})\ncp /{name} /mnt{place}\n");
            flat.push((name, bytes));
        }
        if !start.after.is_empty() {
            script += &format!(
                "chmod 644 /mnt{UNIT}\n\
                 mkdir -p /mnt/etc/systemd/system/multi-user.target.wants\n\
                 ln -sf {UNIT} /mnt/etc/systemd/system/multi-user.target.wants/\n"
            );
        }
        script += &start.before;
        script += "\numount /dev /sys /proc\nexec switch_root /mnt /sbin/init\n";
        let initrd = self.work.join("first.img");
        fs::write(
            &initrd,
            guest::script(&self.kernel, &MODULES, &flat, &script)?,
        )?;
        let line = format!(
            "console=ttyS0 root=/dev/vda rw printk.devkmsg=on panic=5 no_timer_check quiet systemd.show_status=no {}",
            start.arguments
        );
        let mut arguments: Vec<OsString> = ["-machine", "q35", "-cpu", "qemu64", "-smp"]
            .map(Into::into)
            .to_vec();
        arguments.push(self.processors.to_string().into());
        arguments.extend(["-m".into(), format!("{}M", self.memory_mib).into()]);
        arguments.extend(["-kernel".into(), self.kernel.image().into()]);
        arguments.extend(["-initrd".into(), initrd.into()]);
        arguments.extend(["-append".into(), line.trim_end().into()]);
        arguments.extend(Disk::new(&self.image, Bus::Virtio).arguments(0));
        Ok(cycle::boot(&self.name, &arguments, None)?.0)
    }

    /// Its root file system, as the last guest left it.
    ///
    /// # Errors
    /// Its journal cannot be replayed.
    pub fn disk(&self) -> Result<ExtImage> {
        let disk = ExtImage::whole(&self.image);
        disk.replay()?;
        Ok(disk)
    }

    /// Keeps the disk under this name beside what later machines of the same name have, and returns its place.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn keep(self, name: &str) -> Result<PathBuf> {
        self.disk()?;
        let kept = self.work.join(name);
        fs::rename(&self.image, &kept).with_context(|| format!("keeping {}", kept.display()))?;
        Ok(kept)
    }

    /// A folder for what a test makes.
    #[must_use]
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Removes the disk.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn clean_up(self) -> Result<()> {
        fs::remove_dir_all(&self.work).with_context(|| format!("removing {}", self.work.display()))
    }
}
