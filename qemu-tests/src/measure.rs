// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measurements beside a yardstick: the same kernel, the same machine, an init that does nothing.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cycle::{Cycle, Outcome};
use crate::disk::Ext;
use crate::guest;
use crate::machine::{Content, DiskPlan, Machine};
use crate::peer::{Server, Setup};
use crate::server::Servers;
use crate::setup::Kernel;
use crate::vm::End;
use crate::wire;

/// The steps in which `crashkernel=` is tried.
pub const STEP_MIB: u64 = 4;

/// Where our image saves the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// ext3 on a virtio disk.
    Ext3,
    /// A virtio disk as it is.
    Raw,
    /// An NFS server, by version 4.
    Nfs,
    /// An ssh server, by SFTP.
    Ssh,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ext3, Self::Raw, Self::Nfs, Self::Ssh];

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ext3 => "ext3",
            Self::Raw => "raw",
            Self::Nfs => "nfs",
            Self::Ssh => "ssh",
        }
    }
}

/// One machine, once with our image and once with an empty one.
#[derive(Debug)]
pub struct Pair {
    machine: Machine,
    ours: Cycle,
    empty_image: PathBuf,
    // The servers that the dump goes to; each ends when it is dropped.
    _nfs: Option<Servers>,
    _ssh: Option<Server>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The init that only says that it is there.
    Empty,
    /// The same, with the self-tests of the kernel's ciphers that our command line switches off: what the kernel needs
    /// when nobody tunes its line, which is the unit of the peers' figures.
    EmptyUntuned,
    /// Ours, which saves a dump at level 31.
    Ours,
}

impl Pair {
    /// A guest of this kernel and memory, and what its dump goes to.
    ///
    /// # Errors
    /// The disk, the server or an image cannot be made.
    pub fn new(name: &str, kernel: &Kernel, memory_mib: u64, target: Target) -> Result<Self> {
        let mut machine = Machine::new(name)?;
        let size_mib = 192 + memory_mib / 4;
        let (mut nfs, mut ssh) = (None, None);
        let conf = match target {
            Target::Ext3 => {
                let content = Content::Ext(Ext::new("ext3", size_mib));
                format!("ext3 {}\n", machine.add(&DiskPlan::virtio(content))?.node)
            }
            Target::Raw => {
                let content = Content::Blank(size_mib);
                format!("raw {}\n", machine.add(&DiskPlan::virtio(content))?.node)
            }
            Target::Nfs => {
                nfs = Some(Servers::nfs(name)?);
                Servers::make_known_to(&machine.host_root())?;
                format!("nfs {}\n", Servers::target())
            }
            Target::Ssh => {
                let peer = Server::start(&Setup::open_ssh())?;
                peer.make_known_to(&machine.host_root())?;
                let path = peer.folder.join("root");
                let conf = format!("ssh {}\npath {}\n", peer.target(), path.display());
                ssh = Some(peer);
                conf
            }
        };
        let is_remote = nfs.is_some() || ssh.is_some();
        if is_remote {
            wire::describe(&machine)?;
        }
        let mut ours = machine.cycle(kernel, &(conf + "default reboot\n"))?;
        ours.memory_mib = memory_mib;
        ours.namespace = nfs.as_ref().map(Servers::namespace);
        if is_remote {
            wire::connect(&mut ours);
        }
        let empty_image = machine.work().join("empty.img");
        fs::write(&empty_image, guest::empty_capture_image()?)?;
        Ok(Self {
            machine,
            ours,
            empty_image,
            _nfs: nfs,
            _ssh: ssh,
        })
    }

    /// The cycle of one of the two with this much for the capture kernel.
    #[must_use]
    pub fn cycle(&self, which: Which, crashkernel_mib: u64) -> Cycle {
        let mut cycle = self.ours.clone();
        cycle.crashkernel = format!("{crashkernel_mib}M");
        match which {
            Which::Ours => {}
            Which::Empty => cycle.image.clone_from(&self.empty_image),
            Which::EmptyUntuned => {
                cycle.image.clone_from(&self.empty_image);
                cycle.capture_arguments = "cryptomgr.notests=0".to_owned();
            }
        }
        cycle
    }

    /// The size of the image of one of the two, in bytes.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn image_bytes(&self, which: Which) -> Result<u64> {
        let path = match which {
            Which::Empty | Which::EmptyUntuned => &self.empty_image,
            Which::Ours => &self.ours.image,
        };
        Ok(fs::metadata(path)?.len())
    }

    /// From the panic to what counts: the empty init's line, or the reset after our dump.
    ///
    /// # Errors
    /// It did not come so far.
    pub fn time(&self, which: Which, outcome: &Outcome) -> Result<Duration> {
        let panic = outcome.panicked_at()?;
        let end = match which {
            Which::Empty | Which::EmptyUntuned => outcome.line(guest::EMPTY_INIT_UP)?,
            Which::Ours => {
                outcome.line("kdump: attempt 1 of 1 done")?;
                outcome.line("reboot: machine restart")?
            }
        };
        Ok(end.at.saturating_sub(panic))
    }

    /// The smallest `crashkernel=` in MiB with which the one works, and why the next smaller one does not.
    ///
    /// # Errors
    /// It does not work with `most_mib` either, or a guest fails in another way than for want of memory.
    pub fn smallest(&self, which: Which, least_mib: u64, most_mib: u64) -> Result<(u64, String)> {
        if let Some(why) = self.fails(which, most_mib)? {
            bail!("{which:?} does not work with {most_mib}M either: {why}");
        }
        let (mut bad, mut good) = (least_mib / STEP_MIB - 1, most_mib.div_ceil(STEP_MIB));
        let mut reason = "not tried".to_owned();
        while good - bad > 1 {
            let middle = bad.midpoint(good);
            match self.fails(which, middle * STEP_MIB)? {
                None => good = middle,
                Some(why) => {
                    bad = middle;
                    reason = why;
                }
            }
        }
        Ok((good * STEP_MIB, reason))
    }

    /// Why it does not work with this size; none when it works.
    fn fails(&self, which: Which, crashkernel_mib: u64) -> Result<Option<String>> {
        let mut cycle = self.cycle(which, crashkernel_mib);
        // A capture kernel without memory says so and stops: no need to wait for long.
        cycle.capture_arguments += " panic=1";
        let running = match cycle.start() {
            Ok(running) => running,
            Err(error) if error.to_string().contains(guest::FAILED) => {
                return Ok(Some(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        let outcome = running.finish()?;
        if outcome.end == End::Reset && self.time(which, &outcome).is_ok() {
            return Ok(None);
        }
        let last_words = [
            "kdump: .*failed: ",
            "Kernel panic - not syncing: System",
            "Out of memory",
        ]
        .iter()
        .find_map(|pattern| outcome.line(pattern).ok());
        let last = outcome.lines.last();
        let line = last_words
            .or(last)
            .context("the guest printed nothing at all")?;
        Ok(Some(line.text.clone()))
    }

    /// Removes the images.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn clean_up(self) -> Result<()> {
        self.machine.clean_up()
    }
}

/// The middle one of some durations, in seconds; 0 for none.
#[must_use]
pub fn median_s(durations: &[Duration]) -> f64 {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    sorted
        .get(sorted.len() / 2)
        .map_or(0.0, Duration::as_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        let seconds = |list: &[u64]| {
            let list: Vec<Duration> = list.iter().map(|&s| Duration::from_secs(s)).collect();
            median_s(&list)
        };
        assert_eq!(seconds(&[9, 1, 5]), 5.0);
        assert_eq!(seconds(&[7]), 7.0);
        assert_eq!(seconds(&[]), 0.0);
    }
}
