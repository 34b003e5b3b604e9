// SPDX-License-Identifier: MIT OR Apache-2.0
//! File systems on devices that are made of others, made and read back by the distribution's own commands in a guest.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::crash::Crash;
use crate::cycle::{Cycle, Outcome};
use crate::disk::{self, Ext, ExtImage};
use crate::errand::{self, Errand};
use crate::machine::{Content, DiskPlan, Machine};
use crate::proof::{self, Known};
use crate::saved::Saved;
use crate::setup::{self, Flavour, Kernel};
use crate::vm::End;

/// The file system's UUID.
pub const UUID: &str = "0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11";
/// The file system's size. The volume that holds it is a few MiB larger.
const SIZE_MIB: u64 = 192;
/// What the guests that make and read volumes run first.
const PRELUDE: &str = "mkdir -p /etc/lvm\n\
    export LVM_SUPPRESS_FD_WARNINGS=1\n\
    devices='devices { use_devicesfile=0 external_device_info_source=\"none\" obtain_device_list_from_udev=0 }'\n\
    rest='activation { udev_sync=0 udev_rules=0 monitoring=0 } global { use_lvmpolld=0 } backup { backup=0 archive=0 }'\n\
    do_lvm() { lvm \"$@\" --config \"$devices $rest\" > /harness/said 2>&1 || fail \"lvm $*: $(tail -c 300 /harness/said | tr '\\n' ' ')\"; }\n\
    do_md() { mdadm \"$@\" > /harness/said 2>&1 || fail \"mdadm $*: $(tail -c 300 /harness/said | tr '\\n' ' ')\"; }\n\
    mkdir -p /run/cryptsetup\n\
    do_luks() { DM_DISABLE_UDEV=1 cryptsetup -q --key-file /harness/passphrase \"$@\" > /harness/said 2>&1 || fail \"cryptsetup $*: $(tail -c 300 /harness/said | tr '\\n' ' ')\"; }\n\
    printf 'correct horse' > /harness/passphrase\n";

/// One stack of layers: how a guest makes it and puts it together again.
#[derive(Clone, Copy, Debug)]
pub struct Stack<'a> {
    /// The test's name.
    pub name: &'a str,
    /// The kernel of all its guests.
    pub flavour: Flavour,
    /// The sizes of its disks.
    pub disks_mib: &'a [u64],
    /// Programs that make it, of those that [`errand::disk_tools`] has.
    pub tools: &'a [&'a str],
    /// Modules for them.
    pub modules: &'a [&'a str],
    /// Makes the device that gets the file system, from `/dev/vda`, …
    pub make: &'a str,
    /// Puts it together.
    pub start: &'a str,
    /// The node of the device.
    pub device: &'a str,
    /// Says what the builder has to know: `describe LINE`.
    pub describe: &'a str,
}

/// A machine that has the stack, and is described with it.
#[derive(Debug)]
pub struct Built<'a> {
    stack: &'a Stack<'a>,
    kernel: Kernel,
    /// The machine.
    pub machine: Machine,
    images: Vec<PathBuf>,
}

impl<'a> Stack<'a> {
    /// Makes it.
    ///
    /// # Errors
    /// A command fails.
    pub fn build(&'a self) -> Result<Built<'a>> {
        let kernel = setup::kernel(self.flavour)?;
        let mut machine = Machine::new(self.name)?;
        let filesystem = machine.work().join("filesystem.img");
        Ext {
            uuid: UUID,
            // As large as the sectors of any device that it is put on.
            block_bytes: Some(4096),
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
            "{}\n\
             dd if=/dev/vd{last} of={device} bs=1M 2> /dev/null || fail \"copying to {device}\"\n\
             sync\n\
             {}\n",
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

    /// Has a guest run a script on disks.
    ///
    /// # Errors
    /// The script fails.
    pub fn errand(
        &self,
        name: &str,
        kernel: &Kernel,
        script: &str,
        images: &[&Path],
    ) -> Result<Vec<String>> {
        self.errand_with(&[], name, kernel, script, images)
    }

    /// The same with further programs.
    ///
    /// # Errors
    /// As [`Stack::errand`].
    pub fn errand_with(
        &self,
        programs: &[PathBuf],
        name: &str,
        kernel: &Kernel,
        script: &str,
        images: &[&Path],
    ) -> Result<Vec<String>> {
        let mut all = errand::disk_tools(self.tools)?;
        all.extend_from_slice(programs);
        Errand {
            name,
            kernel,
            modules: self.modules,
            programs: &all,
            files: Vec::new(),
            script: &format!("{PRELUDE}{script}\nsync\nsay done\n"),
            images,
            namespace: None,
        }
        .run()
    }
}

impl Built<'_> {
    /// A cycle of 512 MiB that captures as `conf` says, with the guest's memory kept for a comparison page by page.
    ///
    /// # Errors
    /// The image cannot be built.
    pub fn cycle(&self, conf: &str) -> Result<Cycle> {
        let mut cycle = self.machine.cycle(&self.kernel, conf)?;
        cycle.memory_mib = 512;
        cycle.ram_file = Some(self.ram());
        Ok(cycle)
    }

    fn ram(&self) -> PathBuf {
        self.machine.work().join("ram")
    }

    /// Panics and captures.
    ///
    /// # Errors
    /// As [`Built::cycle`]; the machine does not end by itself.
    pub fn capture(&self, conf: &str) -> Result<Outcome> {
        self.cycle(conf)?.run()
    }

    /// The kernel of its guests.
    #[must_use]
    pub const fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The images of its disks.
    #[must_use]
    pub fn images(&self) -> &[PathBuf] {
        &self.images
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
            "{start}\n\
             dd if={device} of=/dev/vd{last} bs=1M count={SIZE_MIB} 2> /dev/null || fail \"copying from {device}\"\n",
            start = self.stack.start,
            device = self.stack.device,
            last = char::from(b'a' + u8::try_from(images.len())?),
        );
        images.push(&copy);
        let name = format!("{}-read", self.stack.name);
        self.stack.errand(&name, &self.kernel, &script, &images)?;
        Ok(ExtImage::whole(copy))
    }

    /// Checks that the only attempt saved a good dump below `path`. `without` is the disk that is gone, where one is.
    ///
    /// # Errors
    /// What is otherwise.
    pub fn saved(&self, outcome: &Outcome, path: &str, without: Option<usize>) -> Result<()> {
        proof::only_attempt_saved(outcome, Crash::Sysrq, &["vmcore-dmesg.txt saved: "])?;
        ensure!(outcome.end == End::Reset, "{:?}", outcome.end);
        let filesystem = self.read_back(without)?;
        filesystem.check()?;
        let saved = Saved::only(&filesystem, path, &self.machine.work().join("out"))?;
        saved.check_complete()?;
        let known = Known {
            ram: Some((&self.ram(), 31)),
            ..Known::of(&self.kernel)
        };
        proof::folder_is_good(&saved, &known, Crash::Sysrq, self.machine.work())
    }
}
