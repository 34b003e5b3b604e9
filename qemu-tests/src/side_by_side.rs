// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our package and Debian's kdump-tools in the same Debian, on the same machine: what each needs, and how long each takes.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;

use crate::artifacts;
use crate::console::Wait;
use crate::installed::{Flavour, INSTALL, Installed, PACKAGE, STEP, Start};
use crate::setup::Kernel;
use crate::vm::{End, Vm};

/// The steps in which `crashkernel=` is tried: each try is two starts of a whole system.
pub const STEP_MIB: u64 = 8;

/// Whose capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Our deb, as it is installed.
    Kdumprd,
    /// Debian's kdump-tools, as it is installed.
    KdumpTools,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Kdumprd, Self::KdumpTools];

    /// Its name for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Kdumprd => "kdumprd",
            Self::KdumpTools => "kdump-tools",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Kdumprd => "bench-peer-kdumprd",
            Self::KdumpTools => "bench-peer-kdump-tools",
        }
    }

    const fn flavour(self) -> Flavour {
        match self {
            Self::Kdumprd => Flavour::Plain,
            Self::KdumpTools => Flavour::KdumpTools,
        }
    }

    /// Where the image is, for a shell that has the release.
    const fn image(self) -> &'static str {
        match self {
            Self::Kdumprd => "/boot/initrd-${release}kdump.img",
            Self::KdumpTools => "/var/lib/kdump/initrd.img-${release}",
        }
    }

    /// The console's line when the dump has its name.
    const fn saved(self) -> &'static str {
        match self {
            Self::Kdumprd => r"kdump: attempt 1 of 1 done: ",
            Self::KdumpTools => r"kdump-tools: saved vmcore in |saved vmcore in /var/crash",
        }
    }
}

/// One side, installed, with its image made.
#[derive(Debug)]
pub struct Prepared {
    side: Side,
    kernel: Kernel,
    /// The disk that each try gets a copy of.
    disk: PathBuf,
    work: PathBuf,
    /// The size of the capture kernel's image.
    pub image_bytes: u64,
}

/// What one capture came to; the times are from the panic on.
#[derive(Clone, Copy, Debug)]
pub struct Capture {
    /// Until the dump has its name.
    pub saved: Duration,
    /// Until the machine starts anew.
    pub reset: Duration,
    /// The dump's size.
    pub dump_bytes: u64,
}

impl Prepared {
    /// Installs it, and starts the system once, so that the image is made.
    ///
    /// # Errors
    /// It cannot be installed, or loads nothing.
    pub fn new(side: Side, kernel: &Kernel) -> Result<Self> {
        let machine = Installed::new(side.name(), kernel, side.flavour())?;
        let (files, before) = match side {
            Side::Kdumprd => (
                vec![(PACKAGE.to_owned(), fs::read(artifacts::deb()?)?)],
                INSTALL.to_owned(),
            ),
            Side::KdumpTools => (Vec::new(), String::new()),
        };
        let after = format!(
            "release=$(uname -r)\n\
             [ \"$(cat /sys/kernel/kexec_crash_loaded)\" = 1 ] || fail 'nothing is loaded'\n\
             say \"image $(stat -c %s {})\"\nsync\npoweroff\n",
            side.image()
        );
        let mut vm = machine.start(&Start {
            files,
            before,
            after,
            arguments: "crashkernel=256M".to_owned(),
        })?;
        let line = vm.expect("harness: (image [0-9]+|failed: )", STEP * 3)?;
        let image_bytes = line
            .text
            .rsplit_once("image ")
            .and_then(|(_, size)| size.trim().parse().ok())
            .with_context(|| format!("{}; console: {}", line.text, vm.log().display()))?;
        vm.expect_end(&End::PowerOff, STEP)?;
        drop(vm);
        let work = machine.work().to_path_buf();
        let disk = machine.keep("prepared.img")?;
        Ok(Self {
            side,
            kernel: kernel.clone(),
            disk,
            work,
            image_bytes,
        })
    }

    /// Which one it is.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// Panics a machine with this much for the capture kernel.
    ///
    /// # Errors
    /// No dump was saved: what was said last.
    pub fn capture(&self, crashkernel_mib: u64) -> Result<Capture> {
        let machine = Installed::on(self.side.name(), &self.kernel, &self.disk)?;
        let mut vm = machine.start(&Start {
            after: "[ \"$(cat /sys/kernel/kexec_crash_loaded)\" = 1 ] || fail 'nothing is loaded'\n\
                    sync\necho 1 > /proc/sys/kernel/sysrq\necho c > /proc/sysrq-trigger\nsleep 60\nfail 'no panic'\n"
                .to_owned(),
            arguments: format!("crashkernel={crashkernel_mib}M"),
            ..Start::default()
        })?;
        let panic = vm.expect("Kernel panic - not syncing: sysrq|harness: failed", STEP)?;
        ensure!(panic.text.contains("sysrq"), "{}", panic.text);
        let saved = self.expect_saved(&mut vm)?;
        let reset = vm.expect("reboot: (machine restart|Restarting system)", STEP)?;
        vm.expect_end(&End::Reset, STEP)?;
        drop(vm);
        // A line on the console is a claim, a file is a dump.
        let dump_bytes = self.dump_bytes(&machine)?;
        Ok(Capture {
            dump_bytes,
            saved: saved.saturating_sub(panic.at),
            reset: reset.at.saturating_sub(panic.at),
        })
    }

    /// The size of the only dump on the disk.
    fn dump_bytes(&self, machine: &Installed) -> Result<u64> {
        let out = machine
            .disk()?
            .copy_out("/var/crash", &self.work.join("out"))?;
        for entry in fs::read_dir(&out)?.flatten() {
            for file in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                let name = file.file_name();
                if name == "vmcore" || name.to_string_lossy().starts_with("dump.") {
                    return Ok(file.metadata()?.len());
                }
            }
        }
        bail!("there is no dump below {}", out.display())
    }

    fn expect_saved(&self, vm: &mut Vm) -> Result<Duration> {
        let gives_up = "not syncing: System|Out of memory|oom-kill|attempt 1 of 1 failed|failed to save|makedumpfile failed";
        let pattern = Regex::new(&format!("{}|{gives_up}", self.side.saved()))?;
        match vm.wait(&pattern, STEP) {
            Wait::Found(line) if Regex::new(self.side.saved())?.is_match(&line.text) => Ok(line.at),
            Wait::Found(line) => bail!("{}", line.text.trim()),
            Wait::Ended | Wait::TimedOut => bail!("{}", vm.console().last_words()),
        }
    }

    /// The smallest `crashkernel=` in MiB with which a dump is saved, and why the next smaller one does not do.
    ///
    /// # Errors
    /// The largest does not do either.
    pub fn smallest(&self, least_mib: u64, most_mib: u64) -> Result<(u64, String)> {
        self.capture(most_mib)
            .with_context(|| format!("{:?} with {most_mib}M", self.side))?;
        let (mut bad, mut good) = (least_mib / STEP_MIB - 1, most_mib.div_ceil(STEP_MIB));
        let mut reason = "not tried".to_owned();
        while good - bad > 1 {
            let middle = bad.midpoint(good);
            match self.capture(middle * STEP_MIB) {
                Ok(_) => good = middle,
                Err(why) => {
                    bad = middle;
                    reason = format!("{why:#}");
                }
            }
        }
        Ok((good * STEP_MIB, reason))
    }

    /// Removes the disks.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn clean_up(self) -> Result<()> {
        fs::remove_dir_all(&self.work).with_context(|| format!("removing {}", self.work.display()))
    }
}
