// SPDX-License-Identifier: MIT OR Apache-2.0
//! One crash cycle: boot, load, panic, capture, and whatever ends the machine.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use regex::Regex;

use crate::artifacts;
use crate::console::{Line, Wait};
use crate::crash::Crash;
use crate::disk::{Disk, ram_file};
use crate::guest::{self, FirstKernel};
use crate::setup::Kernel;
use crate::vm::{End, Vm, log_folder, target_folder};

/// How long one step may take. Generous: the machine may be doing other work, and a step that comes is never waited for
/// longer than it takes.
pub const STEP: Duration = Duration::from_secs(120);

/// How long a whole cycle may take, where nothing slows it down.
const LIMIT: Duration = Duration::from_secs(400);

/// How often a guest that hung before any of our code ran is started again.
const RETRIES: u32 = 2;

/// Everything that makes one cycle.
#[derive(Clone, Debug)]
pub struct Cycle {
    /// Its name, unique among all tests: the folder of its logs.
    pub name: String,
    /// The kernel, before and after the panic.
    pub kernel: Kernel,
    /// The capture kernel's initramfs.
    pub image: PathBuf,
    /// The guest's memory.
    pub memory_mib: u64,
    /// The value of `crashkernel=`.
    pub crashkernel: String,
    /// The guest's processors.
    pub processors: u32,
    /// How many of them the capture kernel takes: `nr_cpus=`.
    pub capture_processors: u32,
    /// QEMU's name for the processor.
    pub cpu_model: &'static str,
    /// More words for the first kernel's command line.
    pub first_arguments: String,
    /// More words for the capture kernel's command line, which is otherwise made from the first kernel's.
    pub capture_arguments: String,
    /// The disks, in the order that they get their names in.
    pub disks: Vec<Disk>,
    /// What happens before the panic.
    pub first: FirstKernel,
    /// The guest's memory as this file of the host, which outlives the guest.
    pub ram_file: Option<PathBuf>,
    /// The process whose network QEMU's user network is.
    pub namespace: Option<u32>,
    /// More arguments for QEMU.
    pub qemu: Vec<OsString>,
    /// How long all of it may take.
    pub limit: Duration,
    /// Commands that QEMU is given once the first kernel is up: name and arguments.
    pub commands: Vec<(&'static str, serde_json::Value)>,
}

impl Cycle {
    /// A cycle of 1 GiB and one processor that captures with `image`.
    #[must_use]
    pub fn new(name: &str, kernel: &Kernel, image: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            kernel: kernel.clone(),
            image: image.into(),
            memory_mib: 1024,
            crashkernel: "128M".to_owned(),
            processors: 1,
            capture_processors: 1,
            cpu_model: "qemu64",
            first_arguments: String::new(),
            capture_arguments: String::new(),
            disks: Vec::new(),
            first: FirstKernel::default(),
            ram_file: None,
            namespace: None,
            qemu: Vec::new(),
            limit: LIMIT,
            commands: Vec::new(),
        }
    }

    /// What `kexec` is told beyond the first kernel's command line, from which it makes the capture kernel's.
    fn appended(&self) -> String {
        let mut words = self.capture_arguments.clone();
        if self.capture_processors != 1 {
            words += &format!(" nr_cpus={}", self.capture_processors);
        }
        words.trim().to_owned()
    }

    /// Boots the guest up to the loaded capture kernel; the panic follows by itself.
    ///
    /// # Errors
    /// The guest does not start, the capture kernel cannot be loaded.
    pub fn start(&self) -> Result<Running> {
        let arguments = self.prepared()?;
        let (mut vm, retries) = boot_for(&self.name, &arguments, self.limit, self.namespace)?;
        for (command, arguments) in &self.commands {
            vm.qmp().execute(command, arguments)?;
        }
        let pattern = format!("{}|{}", guest::LOADED, guest::FAILED);
        let line = vm.expect(&pattern, STEP)?;
        if line.text.contains(guest::FAILED) {
            bail!(
                "{}: {}; console: {}",
                self.name,
                line.text,
                vm.log().display()
            );
        }
        if self.first.crash == Crash::Nmi {
            vm.expect("harness: waiting for the NMI", STEP)?;
            vm.qmp().execute("inject-nmi", &serde_json::json!({}))?;
        }
        Ok(Running {
            vm,
            retries,
            limit: self.limit,
        })
    }

    /// Starts a guest that goes on after each reset, for `limit` at most.
    ///
    /// # Errors
    /// The guest does not start.
    pub fn start_to_go_on(&self, limit: Duration) -> Result<Vm> {
        let mut arguments = self.prepared()?;
        arguments.extend(["-action", "reboot=reset"].map(Into::into));
        Vm::start(&self.name, &arguments, limit, self.namespace)
    }

    /// Writes the first kernel's initramfs, and has QEMU's arguments.
    fn prepared(&self) -> Result<Vec<OsString>> {
        let initrd = work_folder(&self.name)?.join("first.img");
        let archive = guest::initramfs(
            &self.kernel,
            &artifacts::kexec()?,
            &self.image,
            &self.appended(),
            &self.first,
        )?;
        fs::write(&initrd, archive)?;
        Ok(self.arguments(&initrd))
    }

    /// Boots, panics and waits for the machine's end.
    ///
    /// # Errors
    /// As [`Cycle::start`]; the machine does not end by itself.
    pub fn run(&self) -> Result<Outcome> {
        self.start()?.finish()
    }

    fn arguments(&self, initrd: &Path) -> Vec<OsString> {
        let memory = self.memory_mib;
        let mut machine = "q35".to_owned();
        let mut arguments: Vec<OsString> = Vec::new();
        if let Some(file) = &self.ram_file {
            machine += ",memory-backend=ram";
            arguments.extend(ram_file(file, memory));
        }
        let mut add = |option: &str, value: OsString| {
            arguments.push(option.into());
            arguments.push(value);
        };
        add("-machine", machine.into());
        add("-cpu", self.cpu_model.into());
        add("-smp", self.processors.to_string().into());
        add("-m", format!("{memory}M").into());
        add("-kernel", self.kernel.image().into());
        add("-initrd", initrd.into());
        // At its start the kernel gives the timer 40 ms to tick; on a busy machine QEMU may not run for so long. The kernel
        // then takes the interrupt controller for broken, and in the last of its ways around it no disk answers. KVM
        // guests skip the check by themselves. The capture kernel inherits the word.
        add(
            "-append",
            format!(
                "console=ttyS0 printk.devkmsg=on panic=5 no_timer_check crashkernel={} {}",
                self.crashkernel, self.first_arguments
            )
            .trim_end()
            .into(),
        );
        for (number, disk) in self.disks.iter().enumerate() {
            arguments.extend(disk.arguments(number));
        }
        arguments.extend(self.qemu.iter().cloned());
        arguments
    }
}

/// Starts a guest and waits until the first program in it runs; also says how often it had to be started again.
///
/// A guest that hangs before its first program ran says nothing about us: it is started again, at most twice, and that is
/// printed. Everything later counts.
///
/// # Errors
/// It does not start, or hangs each time.
pub fn boot(name: &str, arguments: &[OsString], namespace: Option<u32>) -> Result<(Vm, u32)> {
    boot_for(name, arguments, LIMIT, namespace)
}

/// As [`boot`]; the guest is ended when `limit` is over.
fn boot_for(
    name: &str,
    arguments: &[OsString],
    limit: Duration,
    namespace: Option<u32>,
) -> Result<(Vm, u32)> {
    let mut retries = 0;
    let up = Regex::new(guest::UP)?;
    loop {
        let mut vm = Vm::start(name, arguments, limit, namespace)?;
        match vm.wait(&up, STEP) {
            Wait::Found(_) => return Ok((vm, retries)),
            Wait::Ended | Wait::TimedOut if retries < RETRIES => {
                retries += 1;
                eprintln!(
                    "{name}: the guest hung before any of our code ran (last line: {}); starting it again, {retries} of {RETRIES}",
                    vm.console().last_words()
                );
                let kept = log_folder(name)?.join(format!("hung-{retries}.log"));
                fs::copy(vm.log(), kept)?;
            }
            Wait::Ended | Wait::TimedOut => bail!(
                "{name}: the guest never ran any of our code, in {} tries; console: {}",
                RETRIES + 1,
                vm.log().display()
            ),
        }
    }
}

/// An empty folder for a run's images below the build folder.
///
/// # Errors
/// It cannot be made.
pub fn work_folder(name: &str) -> Result<PathBuf> {
    let folder = target_folder().join("qemu-work").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder.canonicalize()?)
}

/// A guest whose capture kernel is loaded, and which panics at any moment.
#[derive(Debug)]
pub struct Running {
    /// The guest.
    pub vm: Vm,
    /// How often it was started again because it hung before any of our code ran.
    retries: u32,
    limit: Duration,
}

impl Running {
    /// Waits for a line of the console from the last one found on.
    ///
    /// # Errors
    /// It does not come.
    pub fn expect(&mut self, pattern: &str) -> Result<Line> {
        self.vm.expect(pattern, STEP)
    }

    /// Waits for the machine's end.
    ///
    /// # Errors
    /// It does not end by itself.
    pub fn finish(mut self) -> Result<Outcome> {
        let end = self.vm.wait_end(self.limit)?;
        Ok(self.outcome(end))
    }

    /// What there is to see, and the guest is ended.
    #[must_use]
    pub fn stop(self) -> Outcome {
        self.outcome(End::Other("ended by the test".to_owned()))
    }

    fn outcome(mut self, end: End) -> Outcome {
        Outcome {
            watchdog_bit: self.vm.qmp().event("WATCHDOG").is_some(),
            lines: self.vm.console().lines(),
            log: self.vm.log().to_owned(),
            duration: self.vm.age(),
            retries: self.retries,
            end,
        }
    }
}

/// A cycle that is over.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The whole console.
    pub lines: Vec<Line>,
    /// How the machine ended.
    pub end: End,
    /// The hardware watchdog's time was over.
    pub watchdog_bit: bool,
    /// From QEMU's start to its end.
    pub duration: Duration,
    /// How often the guest was started again because it hung before any of our code ran.
    pub retries: u32,
    /// The console's log.
    pub log: PathBuf,
}

impl Outcome {
    /// The first line that matches.
    ///
    /// # Errors
    /// None does.
    ///
    pub fn line(&self, pattern: &str) -> Result<&Line> {
        let regex = Regex::new(pattern)?;
        self.lines
            .iter()
            .find(|line| regex.is_match(&line.text))
            .with_context(|| format!("no line `{pattern}`; console: {}", self.log.display()))
    }

    /// The lines of the capture kernel's init, without the kernel's time stamps, in order.
    #[must_use]
    pub fn init_lines(&self) -> Vec<&str> {
        self.lines
            .iter()
            .filter_map(|line| line.text.find("kdump: ").map(|at| &line.text[at..]))
            .collect()
    }

    /// The moment of the panic: its first line after the capture kernel was loaded. Where nothing of it reached the
    /// console (an NMI), the last line of the first kernel.
    ///
    /// # Errors
    /// The capture kernel was never loaded.
    pub fn panicked_at(&self) -> Result<Duration> {
        let loaded = self.line(guest::LOADED)?.at;
        let panic = Regex::new("sysrq: Trigger a crash|Kernel panic - not syncing|Oops: |BUG: ")?;
        let mut last = loaded;
        for line in self.lines.iter().filter(|line| line.at >= loaded) {
            if panic.is_match(&line.text) {
                return Ok(line.at);
            }
            if line.text.contains("Linux version ") {
                break;
            }
            last = line.at;
        }
        Ok(last)
    }
}
