// SPDX-License-Identifier: MIT OR Apache-2.0
//! An attempt at a disk of this machine: raw, or a file system on it.
#![expect(
    clippy::result_large_err,
    reason = "a reason has no heap to lie on, and an attempt has one of them"
)]

use super::{Place, Reason, Run, reason};
use crate::clock;
use crate::dump::Input;
use crate::folder::Device;
use crate::log;
use crate::report::Step;
use collector::Source as _;
use config::{DeviceSpec, Format, Record};
use core::fmt::Write as _;
use core::net::IpAddr;
use core::time::Duration;
use heapless::String;
use rustix::fs::Mode;
use targets::device::{self, Found, Roots, Survey};
use targets::filesystem::{self, Filesystem, Probed};
use targets::layer;
use targets::raw::{Occupied, Raw};

impl Run<'_> {
    /// Waits for the target's device, when everything below it is put together.
    fn device(&mut self, device: &DeviceSpec<'_>, memory: &mut [u8]) -> Result<Found, Reason> {
        let job = self.job;
        self.enter(Step::Device);
        let mut survey = Survey::new();
        let patience = Duration::from_secs(u64::from(job.record.deadlines.device_s));
        let mut beat = || job.report.beat();
        let patience = put_together(job.record, device, patience, memory, &mut beat)?;
        device::wait(device, &Roots::SYSTEM, patience, &mut survey, &mut || {
            job.report.beat();
        })
        .map_err(reason)
    }

    /// Saves the dump to a device as it is, without a file system.
    pub(super) fn raw(
        &mut self,
        device: &DeviceSpec<'_>,
        overwrite: bool,
        memory: &mut [u8],
    ) -> Result<Place, Reason> {
        let found = self.device(device, memory)?;
        let (mut vmcore, memory) = self.vmcore(memory)?;
        let needed_bytes = match self.job.attempt.collect.format {
            Format::Copy => vmcore.file().size_bytes(),
            // What is left after filtering is known when it is done.
            Format::Kdump | Format::Elf => 0,
        };
        // The older dump stays where the new one has another place to go to; where it has none, the new one counts more:
        // nobody came for the older one.
        let may_lose = Occupied {
            unsaved: self.is_last(),
            signature: overwrite,
        };
        let raw = Raw::open(&found, needed_bytes, may_lose).map_err(reason)?;
        if let Some(name) = raw.unsaved() {
            log!(
                "{}: the dump of {name}, which nobody has recovered, is overwritten: there is no other target",
                found.node
            );
        }
        let (name, crash_time_s) = self.directory_name(None, &mut vmcore);
        self.save(&Device::new(&raw, &name), crash_time_s, vmcore, memory)
    }

    /// Mounts a file system of this machine, and saves the dump there.
    pub(super) fn mounted(
        &mut self,
        fstype: &str,
        device: &DeviceSpec<'_>,
        mount_options: &str,
        path: &str,
        memory: &mut [u8],
    ) -> Result<Place, Reason> {
        let found = self.device(device, memory)?;
        let (vmcore, memory) = self.vmcore(memory)?;
        let mount_point = mount_point(self.job.number)?;
        // A journal to be replayed takes its time, recorded errors may be why a mount fails.
        if let Ok(Probed::Ext(superblock)) = filesystem::probe(&found)
            && superblock.is_notable()
        {
            log!("{}: {superblock}", found.node);
        }
        let filesystem =
            Filesystem::mount(&found, fstype, mount_options, &mount_point).map_err(reason)?;
        let result = self.filesystem(&filesystem, path, None, vmcore, memory);
        // Everything that counts is synced; but only unmounted it is also clean for the next boot.
        if let Err(error) = filesystem.unmount() {
            log!("attempt {}: {error}", self.job.number + 1);
        }
        result
    }

    /// Saves the dump below `path` of what is mounted.
    pub(super) fn filesystem(
        &mut self,
        filesystem: &Filesystem<'_>,
        path: &str,
        own_address: Option<IpAddr>,
        mut vmcore: Input<'_>,
        memory: &mut [u8],
    ) -> Result<Place, Reason> {
        let (name, crash_time_s) = self.directory_name(own_address, &mut vmcore);
        self.check_room(filesystem, &mut vmcore)?;
        let directory = filesystem.directory(path, &name).map_err(reason)?;
        self.save(&directory, crash_time_s, vmcore, memory)
    }

    /// Refuses a copy that has no room here, when there is another attempt; the last one saves what fits. How large a
    /// filtered dump becomes is known when it is written.
    fn check_room(
        &self,
        filesystem: &Filesystem<'_>,
        vmcore: &mut Input<'_>,
    ) -> Result<(), Reason> {
        if self.job.attempt.collect.format != Format::Copy {
            return Ok(());
        }
        match filesystem.check_room(vmcore.file().size_bytes()) {
            Ok(()) => Ok(()),
            Err(error) if !self.is_last() => Err(reason(error)),
            Err(error) => {
                log!("{error}; next: as much of it as fits");
                Ok(())
            }
        }
    }
}

/// Puts together what a device is made of, and returns what is left of the patience.
///
/// # Errors
/// What stands in the way.
pub fn put_together(
    record: &Record<'_>,
    device: &DeviceSpec<'_>,
    patience: Duration,
    memory: &mut [u8],
    tick: &mut dyn FnMut(),
) -> Result<Duration, Reason> {
    let start_ms = clock::now_ms();
    let left = || {
        let waited_ms = clock::now_ms().saturating_sub(start_ms);
        patience.saturating_sub(Duration::from_millis(waited_ms))
    };
    for number in device.layers.iter() {
        let layer = record
            .layers
            .get(number)
            .ok_or_else(|| reason("the record has no such layer, a defect of kdumprd"))?;
        let mut means = layer::Means {
            roots: Roots::SYSTEM,
            patience: left(),
            memory: &mut *memory,
            tick: &mut *tick,
            tell: &mut |line| log!("{line}"),
        };
        layer::assemble(layer, &mut means).map_err(reason)?;
    }
    Ok(left())
}

/// An own mount point for each attempt: one that hangs keeps its own.
pub(super) fn mount_point(number: usize) -> Result<String<16>, Reason> {
    let mut path = String::new();
    let _ = write!(path, "/mnt/{}", number.saturating_add(1));
    for part in ["/mnt", &path] {
        match rustix::fs::mkdir(part, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => {
                return Err(reason(format_args!(
                    "making the mount point {part}: {}",
                    crate::vmcore::error(errno)
                )));
            }
        }
    }
    Ok(path)
}
