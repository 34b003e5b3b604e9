// SPDX-License-Identifier: MIT OR Apache-2.0
//! A test's capture: one machine, one target, from the configuration to the proof.

use std::path::PathBuf;

use anyhow::Result;

use crate::crash::Crash;
use crate::cycle::Outcome;
use crate::disk::Ext;
use crate::machine::{Content, DiskPlan, Machine, Made};
use crate::proof::{self, Known};
use crate::saved::Saved;
use crate::setup::{self, Flavour, Kernel};

/// What one test is about; [`Case::new`] has the rest.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// Its name, unique among all tests.
    pub name: &'a str,
    /// The kernel.
    pub flavour: Flavour,
    /// The target's disk. It is the guest's second one, so that the first is not the right one by chance.
    pub disk: DiskPlan<'a>,
    /// `kdump.conf`, with `NODE` where the target's node belongs.
    pub conf: &'a str,
    /// The guest's processors.
    pub processors: u32,
    /// How many of them the capture kernel takes.
    pub capture_processors: u32,
    /// Words for the capture kernel's command line.
    pub capture_arguments: &'a str,
    /// The guest's processor, as QEMU calls it.
    pub cpu_model: &'static str,
    /// The guest's memory.
    pub memory_mib: u64,
    /// The value of `crashkernel=`.
    pub crashkernel: &'a str,
    /// How the guest panics.
    pub crash: Crash,
    /// Shell text of the first kernel before the panic.
    pub prepare: &'a str,
    /// Compare every page with the guest's memory; the level that the dump has.
    pub page_exact: Option<u8>,
    /// Open the dump in the readers that need the kernel's symbols.
    pub symbols: bool,
}

impl<'a> Case<'a> {
    /// 512 MiB and one processor, a panic by the request key.
    #[must_use]
    pub const fn new(name: &'a str, flavour: Flavour, disk: DiskPlan<'a>, conf: &'a str) -> Self {
        Self {
            name,
            flavour,
            disk,
            conf,
            processors: 1,
            capture_processors: 1,
            capture_arguments: "",
            cpu_model: "qemu64",
            memory_mib: 512,
            crashkernel: "128M",
            crash: Crash::Sysrq,
            prepare: "",
            page_exact: None,
            symbols: false,
        }
    }

    /// Panics and captures.
    ///
    /// # Errors
    /// The image cannot be built, or the machine does not end by itself.
    pub fn capture(&self) -> Result<Capture> {
        let kernel = setup::kernel(self.flavour)?;
        let mut machine = Machine::new(self.name)?;
        machine.add(&DiskPlan {
            bus: self.disk.bus,
            ..DiskPlan::virtio(Content::Ext(Ext::new("ext4", 16)))
        })?;
        let target = machine.add(&self.disk)?;
        let conf = self.conf.replace("NODE", &target.node);
        let mut cycle = machine.cycle(&kernel, &conf)?;
        cycle.processors = self.processors;
        cycle.capture_processors = self.capture_processors;
        self.capture_arguments
            .clone_into(&mut cycle.capture_arguments);
        cycle.cpu_model = self.cpu_model;
        cycle.memory_mib = self.memory_mib;
        self.crashkernel.clone_into(&mut cycle.crashkernel);
        cycle.first.crash = self.crash;
        if self.crash == Crash::SysrqWhileWriting {
            cycle.first.modules = vec!["virtio_pci", "virtio_blk", "ext4"];
        }
        self.prepare.clone_into(&mut cycle.first.prepare);
        let ram = self
            .page_exact
            .map(|level| (machine.work().join("ram"), level));
        cycle.ram_file = ram.as_ref().map(|(file, _)| file.clone());
        let outcome = cycle.run()?;
        Ok(Capture {
            kernel,
            machine,
            target,
            outcome,
            ram,
            crash: self.crash,
            symbols: self.symbols,
        })
    }
}

/// A capture that is over.
#[derive(Debug)]
pub struct Capture {
    /// The kernel.
    pub kernel: Kernel,
    /// The machine.
    pub machine: Machine,
    /// The target.
    pub target: Made,
    /// What the machine printed, and how it ended.
    pub outcome: Outcome,
    ram: Option<(PathBuf, u8)>,
    crash: Crash,
    symbols: bool,
}

impl Capture {
    /// Checks that the only attempt saved a good dump on the target's file system, and that nothing is left to repair.
    ///
    /// # Errors
    /// What is otherwise.
    pub fn saved(&self) -> Result<Saved> {
        self.went_well(&["vmcore-dmesg.txt saved: "])?;
        proof::saved_is_good(&self.target, &self.known(), self.crash, self.machine.work())
    }

    /// Checks that the only attempt left a good dump at the beginning of the target, for readers of the device as it is and
    /// for `save-raw`, and returns what that saved.
    ///
    /// # Errors
    /// What is otherwise.
    pub fn saved_raw(&self) -> Result<Saved> {
        self.went_well(&["vmcore-dmesg.txt saved: "])?;
        let device = self.machine.work().join("device");
        self.target.copy_content(&device, self.target.size_bytes)?;
        proof::dump_is_good(&device, &self.known(), self.machine.work())?;
        proof::raw_is_good(&device, &self.known(), self.crash, self.machine.work())
    }

    /// What is known of the dump.
    #[must_use]
    pub fn known(&self) -> Known<'_> {
        Known {
            ram: self
                .ram
                .as_ref()
                .map(|(file, level)| (file.as_path(), *level)),
            symbols: self.symbols,
            ..Known::of(&self.kernel)
        }
    }

    fn went_well(&self, between: &[&str]) -> Result<()> {
        proof::only_attempt_saved(&self.outcome, self.crash, between)
    }

    /// Removes the images of a run that nobody has to look at.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn clean_up(self) -> Result<()> {
        self.machine.clean_up()
    }
}
