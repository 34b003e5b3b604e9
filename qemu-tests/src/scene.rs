// SPDX-License-Identifier: MIT OR Apache-2.0
//! Machines with more than one step to go: a target that fails and what comes behind it, and the root file system.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};

use crate::crash::Crash;
use crate::cycle::{Cycle, Outcome, Running};
use crate::disk::{Bus, Ext, Table};
use crate::machine::{Content, DiskPlan, Machine, Made, Presence};
use crate::proof::{self, Known};
use crate::saved::Saved;
use crate::setup::{self, Flavour, Kernel};
use crate::vm::End;

const PARTUUID: &str = "5f2c5c6e-8b6f-4f0e-9a35-0d6a7a1c9d10";

/// What a scene is played on. Nothing of it changes what must come of it.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// The kernel.
    pub flavour: Flavour,
    /// The processors of the guest. With two, the second one panics, and both capture.
    pub processors: u32,
    /// What the disks hang on.
    pub bus: Bus,
    /// Compare every page with the guest's memory.
    pub page_exact: bool,
}

impl Stage {
    /// One processor, the smallest kernel, virtio.
    pub const SMALL: Self = Self {
        flavour: Flavour::Cloud6_1,
        processors: 1,
        bus: Bus::Virtio,
        page_exact: false,
    };

    /// How it panics.
    #[must_use]
    pub const fn crash(&self) -> Crash {
        match self.processors {
            1 => Crash::Sysrq,
            _ => Crash::SysrqOnCpu(1),
        }
    }

    /// A disk of this content.
    #[must_use]
    pub const fn disk<'a>(&self, content: Content<'a>) -> DiskPlan<'a> {
        DiskPlan {
            bus: self.bus,
            ..DiskPlan::virtio(content)
        }
    }

    /// A disk with an empty file system.
    #[must_use]
    pub const fn ext<'a>(&self, fstype: &'a str, size_mib: u64) -> DiskPlan<'a> {
        self.disk(Content::Ext(Ext::new(fstype, size_mib)))
    }

    /// A disk that the builder knows and the guest never gets.
    #[must_use]
    pub const fn missing(&self) -> DiskPlan<'static> {
        DiskPlan {
            presence: Presence::Later,
            ..self.ext("ext4", 64)
        }
    }

    /// The kernel.
    ///
    /// # Errors
    /// It cannot be fetched.
    pub fn kernel(&self) -> Result<Kernel> {
        setup::kernel(self.flavour)
    }

    /// A cycle of 512 MiB.
    ///
    /// # Errors
    /// The image cannot be built.
    pub fn cycle(&self, machine: &Machine, conf: &str) -> Result<Cycle> {
        let mut cycle = machine.cycle(&self.kernel()?, conf)?;
        cycle.memory_mib = 512;
        cycle.processors = self.processors;
        cycle.capture_processors = self.processors;
        cycle.first.crash = self.crash();
        if self.page_exact {
            cycle.ram_file = Some(machine.work().join("ram"));
        }
        Ok(cycle)
    }

    /// Checks the only dump on the file system of `made`, which the last of `attempts` made.
    ///
    /// # Errors
    /// What is otherwise.
    pub fn dump_is_on(&self, machine: &Machine, made: &Made, attempts: usize) -> Result<Saved> {
        let kernel = self.kernel()?;
        let ram = machine.work().join("ram");
        let known = Known {
            ram: self.page_exact.then_some((&ram, 31)),
            ..Known::of(&kernel)
        };
        let saved = proof::saved_is_good(made, &known, self.crash(), machine.work())?;
        let manifest = saved.manifest()?;
        ensure!(
            manifest["attempts"].as_array().map(Vec::len) == Some(attempts),
            "not {attempts} attempts in {manifest}"
        );
        Ok(saved)
    }

    /// A machine whose only target never comes, and what follows `action`.
    ///
    /// # Errors
    /// It cannot be put together.
    pub fn without_its_target(&self, name: &str, action: &str) -> Result<(Machine, Cycle)> {
        let mut machine = Machine::new(name)?;
        let missing = machine.add(&self.missing())?;
        let conf = format!("ext4 {}\ndisk_timeout 2\n{action}\n", missing.node);
        let cycle = self.cycle(&machine, &conf)?;
        Ok((machine, cycle))
    }

    /// A machine with a root file system whose init says that it runs, and the root's disk.
    ///
    /// # Errors
    /// It cannot be put together.
    pub fn with_root(&self, name: &str) -> Result<(Machine, Made)> {
        let mut machine = Machine::new(name)?;
        let content = machine.work().join("root");
        for folder in ["bin", "sbin", "dev", "proc", "sys", "var"] {
            fs::create_dir_all(content.join(folder))?;
        }
        fs::copy(setup::busybox()?, content.join("bin/busybox"))?;
        let init = content.join("sbin/init");
        fs::write(
            &init,
            "#!/bin/busybox sh\n\
             echo \"<1>harness: real init, pid $$, $(/bin/busybox stat -c %A /proc/vmcore)\" > /dev/kmsg\n\
             /bin/busybox reboot -f\n",
        )?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
        let root = machine.add(&DiskPlan {
            table: Some((Table::Gpt, PARTUUID)),
            ..self.disk(Content::Ext(Ext {
                content: Some(&content),
                ..Ext::new("ext4", 256)
            }))
        })?;
        machine.mount_root(&root, "ext4")?;
        Ok((machine, root))
    }

    /// As [`Stage::with_root`], with a target that never comes, and the cycle of what `more` says of it.
    ///
    /// # Errors
    /// It cannot be put together.
    pub fn root_behind_a_missing_target(
        &self,
        name: &str,
        more: &str,
    ) -> Result<(Machine, Made, Cycle)> {
        let (mut machine, root) = self.with_root(name)?;
        let missing = machine.add(&self.missing())?;
        let conf = format!("ext4 {}\ndisk_timeout 4\n{more}\n", missing.node);
        let cycle = self.cycle(&machine, &conf)?;
        Ok((machine, root, cycle))
    }

    /// A machine with two targets, the first of which has a fault, its cycle, and `more` in `kdump.conf`.
    ///
    /// # Errors
    /// It cannot be put together.
    pub fn two_targets(
        &self,
        name: &str,
        first: &DiskPlan<'_>,
        more: &str,
    ) -> Result<(Machine, Made, Made, Cycle)> {
        let word = match &first.content {
            Content::Ext(ext) => ext.fstype,
            Content::Blank(_) | Content::Copy(_) => "raw",
        };
        let mut machine = Machine::new(name)?;
        let first = machine.add(first)?;
        let second = machine.add(&self.ext("ext3", 256))?;
        let conf = format!("{word} {}\next3 {}\n{more}\n", first.node, second.node);
        let cycle = self.cycle(&machine, &conf)?;
        Ok((machine, first, second, cycle))
    }

    /// Checks that the first of two attempts failed, and that the second one, at `made`, has the dump. `next` is what the
    /// first one's last line announces.
    ///
    /// # Errors
    /// What is otherwise.
    pub fn second_attempt_has_it(
        &self,
        machine: &Machine,
        made: &Made,
        outcome: &Outcome,
        next: &str,
    ) -> Result<()> {
        proof::lines_in_order(
            outcome,
            &[
                "init ",
                "crashed kernel: Kernel panic",
                "attempt 1 of 2: ",
                "attempt 1 of 2 failed: ",
                "attempt 2 of 2: ext",
                "vmcore-dmesg.txt saved: ",
                "vmcore: ",
                "attempt 2 of 2 done: /var/crash/",
                "final action: reboot",
            ],
        )?;
        outcome.line(&format!("kdump: attempt 1 of 2 failed: .*; next: {next}"))?;
        ensure!(outcome.end == End::Reset, "{:?}", outcome.end);
        let saved = self.dump_is_on(machine, made, 2)?;
        let own = fs::read_to_string(saved.file("kexec-dmesg.log"))?;
        ensure!(
            own.contains("attempt 1 of 2 failed"),
            "the saved log of the capture kernel says nothing of the first attempt; {}",
            outcome.log.display()
        );
        Ok(())
    }
}

/// Checks the lines of a capture whose only attempt failed: it announced `next`, and the last line begins with `last`.
///
/// # Errors
/// What is otherwise.
pub fn failed_then(outcome: &Outcome, next: &str, last: &str) -> Result<()> {
    proof::lines_in_order(
        outcome,
        &[
            "init ",
            "crashed kernel: ",
            "attempt 1 of 1: ",
            "attempt 1 of 1 failed: ",
            last,
        ],
    )?;
    outcome.line(&format!("kdump: attempt 1 of 1 failed: .*; next: {next}$"))?;
    Ok(())
}

/// Checks that the machine's own init got the machine after the only attempt had failed.
///
/// # Errors
/// What is otherwise.
pub fn real_init_ran(outcome: &Outcome) -> Result<()> {
    failed_then(outcome, "mount_root_run_init", "mount_root_run_init: ext4 ")?;
    outcome.line("harness: real init, pid 1, -r")?;
    ensure!(outcome.end == End::Reset, "{:?}", outcome.end);
    Ok(())
}

/// Uses the built-in shell as a person would, and has it switch the machine off.
///
/// # Errors
/// What it does not do.
pub fn use_the_shell(mut running: Running) -> Result<Outcome> {
    running.expect("kdump: shell on every console; next: reboot")?;
    running.expect("`exit` ends the shell")?;
    running.vm.type_text("status\n")?;
    running.expect("kdumprd .* for kernel")?;
    running.expect("^  failed: ")?;
    running.vm.type_text("help\n")?;
    running.expect("^attempt N ")?;
    running.vm.type_text("no-such-word\n")?;
    running.expect("no-such-word: not a word here")?;
    running.vm.type_text("poweroff\n")?;
    let outcome = running.finish()?;
    outcome.line("kdump: final action: poweroff")?;
    ensure!(outcome.end == End::PowerOff, "{:?}", outcome.end);
    Ok(outcome)
}
