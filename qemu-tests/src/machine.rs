// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest with its disks, described to the builder as a host that it is not running on.
//!
//! The description is what `mkkdumprd --host-root` reads: `kdump.devices`, the mounts, and the images below `dev/`, from
//! which the builder takes UUIDs and labels with its own readers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::artifacts;
use crate::cycle::{Cycle, work_folder};
use crate::disk::{self, Bus, Disk, Ext, ExtImage, Fault, PARTITION, Table};
use crate::run::run;
use crate::setup::{self, Kernel};

/// What is on a disk, or in its second partition.
#[derive(Clone, Debug)]
pub enum Content<'a> {
    /// This many MiB of nothing.
    Blank(u64),
    /// A file system.
    Ext(Ext<'a>),
    /// The bytes of this file.
    Copy(&'a Path),
}

/// A disk to be made.
#[derive(Clone, Debug)]
pub struct DiskPlan<'a> {
    /// Its controller.
    pub bus: Bus,
    /// A partition table with its identity (see [`disk::partition`]), or the content fills the disk.
    pub table: Option<(Table, &'a str)>,
    /// The content.
    pub content: Content<'a>,
    /// Its fault.
    pub fault: Fault,
    /// When the guest gets it.
    pub presence: Presence,
}

impl<'a> DiskPlan<'a> {
    /// A sound virtio disk without a partition table.
    #[must_use]
    pub const fn virtio(content: Content<'a>) -> Self {
        Self {
            bus: Bus::Virtio,
            table: None,
            content,
            fault: Fault::None,
            presence: Presence::Always,
        }
    }
}

/// When a guest has a disk. The builder knows of it in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// From its start on.
    Always,
    /// Not before the test plugs it in, or never.
    Later,
}

/// A disk that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The whole disk.
    pub disk: Disk,
    /// The node of the content, in the first kernel: `/dev/vda`, `/dev/vda2`.
    pub node: String,
    /// Where the content begins in the image, and how many bytes it has.
    pub offset: u64,
    /// The content's size in bytes.
    pub size_bytes: u64,
    presence: Presence,
}

impl Made {
    /// The content as a file system.
    #[must_use]
    pub fn filesystem(&self) -> ExtImage {
        ExtImage {
            image: self.disk.image.clone(),
            offset: self.offset,
        }
    }

    /// Copies the first `length` bytes of the content to `to`.
    ///
    /// # Errors
    /// Reading or writing fails.
    pub fn copy_content(&self, to: &Path, length: u64) -> Result<()> {
        let _ = fs::remove_file(to);
        disk::copy_sparse(&self.disk.image, self.offset, to, 0, length)
    }
}

/// A guest that is being put together.
#[derive(Debug)]
pub struct Machine {
    name: String,
    work: PathBuf,
    description: String,
    disks: Vec<Made>,
    init: Option<PathBuf>,
    modules: Option<PathBuf>,
}

impl Machine {
    /// A machine without disks. `name` is unique among all tests.
    ///
    /// # Errors
    /// Its folder cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        let work = work_folder(name)?;
        // What an earlier run left here must not pass for this run's.
        fs::remove_dir_all(&work)?;
        let host = work.join("host");
        for folder in ["dev", "etc", "proc/self", "bin"] {
            fs::create_dir_all(host.join(folder))?;
        }
        fs::write(host.join("etc/hostname"), "guest\n")?;
        fs::write(host.join("proc/self/mountinfo"), "")?;
        Ok(Self {
            name: name.to_owned(),
            work,
            description: String::new(),
            disks: Vec::new(),
            init: None,
            modules: None,
        })
    }

    /// Puts a module beside those that the kernel has, as a third party's is installed. The builder finds it by its name.
    ///
    /// # Errors
    /// The kernel's list of modules cannot be read, or ours cannot be written.
    pub fn install_module(&mut self, kernel: &Kernel, module: &Path) -> Result<()> {
        let place = self.work.join("modules").join(&kernel.release);
        fs::create_dir_all(place.join("extra"))?;
        for entry in fs::read_dir(kernel.modules())? {
            let path = entry?.path();
            if let Some(name) = path.file_name() {
                symlink(&path, place.join(name))
                    .with_context(|| format!("showing {}", path.display()))?;
            }
        }
        let name = module.file_name().context("a module without a name")?;
        fs::copy(module, place.join("extra").join(name))?;
        let list = place.join("modules.dep");
        let mut text = fs::read_to_string(&list)?;
        text += &format!("extra/{}:\n", name.display());
        fs::remove_file(&list)?;
        fs::write(&list, text)?;
        self.modules = Some(place);
        Ok(())
    }

    /// Has another init than the usual build's in the image.
    pub fn use_init(&mut self, init: PathBuf) {
        self.init = Some(init);
    }

    /// The folder with everything of this run.
    #[must_use]
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// The root of the host that the builder sees.
    #[must_use]
    pub fn host_root(&self) -> PathBuf {
        self.work.join("host")
    }

    /// Adds a disk.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn add(&mut self, plan: &DiskPlan<'_>) -> Result<Made> {
        setup::ready()?;
        let number = self.disks.len();
        let content = self.work.join(format!("content{number}.img"));
        match &plan.content {
            Content::Blank(size_mib) => disk::blank(&content, *size_mib)?,
            Content::Ext(ext) => ext.make(&content)?,
            Content::Copy(file) => disk::copy_sparse(file, 0, &content, 0, u64::MAX)?,
        }
        let size_bytes = fs::metadata(&content)?.len();
        let image = self.work.join(format!("disk{number}.img"));
        let on_bus = self
            .disks
            .iter()
            .filter(|other| other.disk.bus == plan.bus)
            .count();
        let letter = char::from(b'a' + u8::try_from(on_bus).unwrap_or(25));
        let (whole, part) = match plan.bus {
            Bus::Virtio => (format!("/dev/vd{letter}"), ""),
            Bus::Ahci | Bus::VirtioScsi | Bus::Usb | Bus::Multipath => {
                (format!("/dev/sd{letter}"), "")
            }
            Bus::Nvme => (format!("/dev/nvme{on_bus}n1"), "p"),
        };
        let bus_path = plan.bus.path(number);
        let modules = plan.bus.modules();
        let wwid = match plan.bus {
            Bus::Multipath => format!(" wwid={}", disk::WWID),
            _ => String::new(),
        };
        let (node, offset) = match plan.table {
            None => {
                disk::copy_sparse(&content, 0, &image, 0, u64::MAX)?;
                self.describe(&format!(
                    "{whole} size={size_bytes} bus_path={bus_path} modules={modules}{wwid}"
                ));
                (whole, 0)
            }
            Some((table, id)) => {
                disk::partition(&image, table, id, &content)?;
                let node = format!("{whole}{part}{PARTITION}");
                let partuuid = match table {
                    Table::Gpt => id.to_owned(),
                    Table::Mbr => format!("{id}-{PARTITION:02}"),
                };
                let disk_size = fs::metadata(&image)?.len();
                self.describe(&format!(
                    "{whole} size={disk_size} bus_path={bus_path} modules={modules}{wwid}"
                ));
                self.describe(&format!(
                    "{node} parent={whole} size={size_bytes} partuuid={partuuid}"
                ));
                self.show(&whole, &image)?;
                (node, disk::PARTITION_OFFSET)
            }
        };
        self.show(&node, &content)?;
        let made = Made {
            disk: Disk {
                image,
                bus: plan.bus,
                fault: plan.fault,
            },
            node,
            offset,
            size_bytes,
            presence: plan.presence,
        };
        self.disks.push(made.clone());
        Ok(made)
    }

    /// Adds a line to what the builder is told of the host's devices.
    pub fn describe(&mut self, line: &str) {
        self.description += line;
        self.description.push('\n');
    }

    /// Lets the builder read `image` where the host has `node`.
    fn show(&self, node: &str, image: &Path) -> Result<()> {
        let place = self.host_root().join(node.trim_start_matches('/'));
        // A hard link: the builder follows symbolic ones inside the described root only.
        fs::hard_link(image, &place).with_context(|| format!("showing {}", place.display()))
    }

    /// Says that the host's root file system is on `made`.
    ///
    /// # Errors
    /// The description cannot be written.
    pub fn mount_root(&self, made: &Made, fstype: &str) -> Result<()> {
        self.mount_root_node(&made.node, fstype)
    }

    /// Says that the host's root file system is on the device of this node.
    ///
    /// # Errors
    /// As [`Machine::mount_root`].
    pub fn mount_root_node(&self, node: &str, fstype: &str) -> Result<()> {
        let host = self.host_root();
        fs::write(
            host.join("proc/self/mountinfo"),
            format!("21 1 0:0 / / rw,relatime - {fstype} {node} rw\n"),
        )?;
        fs::write(
            host.join("etc/fstab"),
            format!("{node} / {fstype} defaults 0 1\n"),
        )?;
        fs::write(
            host.join("proc/cmdline"),
            format!("root={node} console=ttyS0\n"),
        )?;
        Ok(())
    }

    /// Gives the host a program.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn give_program(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let place = self.host_root().join(path.trim_start_matches('/'));
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&place, bytes)?;
        Ok(fs::set_permissions(
            &place,
            fs::Permissions::from_mode(0o755),
        )?)
    }

    /// Gives the host a busybox.
    ///
    /// # Errors
    /// There is none to give.
    pub fn give_busybox(&self) -> Result<()> {
        fs::copy(setup::busybox()?, self.host_root().join("bin/busybox"))?;
        Ok(())
    }

    /// A command of `mkkdumprd` for this machine and this `kdump.conf`: the word `plan`, or none to build.
    ///
    /// # Errors
    /// The builder does not build.
    pub fn mkkdumprd(&self, kernel: &Kernel, conf: &str, word: &str) -> Result<Command> {
        fs::write(self.host_root().join("kdump.devices"), &self.description)?;
        // As the guests are: no Secure Boot, and Debian's kernels do not insist on signatures by themselves.
        for (file, text) in [
            (
                "sys/kernel/security/lockdown",
                "[none] integrity confidentiality",
            ),
            ("sys/module/module/parameters/sig_enforce", "N"),
            ("proc/sys/kernel/osrelease", kernel.release.as_str()),
        ] {
            let path = self.host_root().join(file);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(path, text)?;
        }
        let conf_file = self.work.join("kdump.conf");
        fs::write(&conf_file, conf)?;
        let mut command = Command::new(artifacts::mkkdumprd()?);
        if !word.is_empty() {
            command.arg(word);
        }
        command
            .arg("--conf")
            .arg(conf_file)
            .args(["--kver", &kernel.release])
            .arg("--modules-dir")
            .arg(self.modules.clone().unwrap_or_else(|| kernel.modules()))
            .arg("--host-root")
            .arg(self.host_root())
            .arg("--init");
        match &self.init {
            Some(init) => command.arg(init),
            None => command.arg(artifacts::inits()?),
        };
        Ok(command)
    }

    /// Builds the capture image.
    ///
    /// # Errors
    /// The builder refuses; the error has what it said.
    pub fn build(&self, kernel: &Kernel, conf: &str) -> Result<PathBuf> {
        let image = self.work.join("capture.img");
        run(self.mkkdumprd(kernel, conf, "")?.arg("-o").arg(&image))?;
        Ok(image)
    }

    /// A cycle of this machine that captures as `conf` says.
    ///
    /// # Errors
    /// As [`Machine::build`].
    pub fn cycle(&self, kernel: &Kernel, conf: &str) -> Result<Cycle> {
        let image = self.build(kernel, conf)?;
        let mut cycle = Cycle::new(&self.name, kernel, image);
        cycle.disks = self
            .disks
            .iter()
            .filter(|made| made.presence == Presence::Always)
            .map(|made| made.disk.clone())
            .collect();
        Ok(cycle)
    }

    /// Removes everything of this run but its logs; what failed is left for a person to look at.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn clean_up(self) -> Result<()> {
        fs::remove_dir_all(&self.work).with_context(|| format!("removing {}", self.work.display()))
    }
}
