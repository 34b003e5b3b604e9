// SPDX-License-Identifier: MIT OR Apache-2.0
//! One attempt at one target: the child's work, from the device to the finished dump.
//!
//! The small thing first: the crashed kernel's log, synced; then the vmcore under its incomplete name; then its own name,
//! the manifest, and the capture kernel's log. What is cut short stays where it is, under its incomplete name.
#![expect(
    clippy::result_large_err,
    reason = "a reason has no heap to lie on, and an attempt has one of them"
)]

pub mod network;
pub mod nfs;
pub mod ssh;

use crate::clock;
use crate::date::date;
use crate::dump::{self, Dumped, Input, Summary};
use crate::fault::Faults;
use crate::folder::{Device, Folder};
use crate::hook::{self, Program};
use crate::kernel_log;
use crate::log;
use crate::manifest::{Manifest, peak_memory_kib};
use crate::progress::Seconds;
use crate::reach::Reach;
use crate::report::{Report, Step, TEXT_BYTES};
use crate::supervise::{self, DONE, Ended, FAILED, Outcome, REFUSED};
use crate::sys::board::Board;
use crate::vmcore::{Access, PATH, VmcoreFile};
use collector::dmesg::DmesgError;
use collector::{MEMORY_BYTES, OPEN_BYTES, Sink, Source, Vmcore, dmesg};
use config::{Attempt, DeviceSpec, Format, HookKind, Record, TargetSpec};
use core::fmt::{self, Write as _};
use core::net::IpAddr;
use core::time::Duration;
use heapless::{String, Vec};
use rustix::fs::Mode;
use rustix::mount::UnmountFlags;
use rustix::process::Signal;
use targets::device::{self, Found, Roots, Survey};
use targets::filesystem::{self, Filesystem, Probed};
use targets::layer;
use targets::nfs::abandon;
use targets::raw::{Occupied, Raw};
use targets::ssh::MEMORY_BYTES as CONNECTION_BYTES;

/// What the manifest may have; far more than any had.
const MANIFEST_BYTES: usize = 32 << 10;
/// What is kept free for it before the vmcore is written: more than the manifest of one failed attempt has.
const MANIFEST_ROOM: usize = 4096;
/// The capture kernel's log is written in pieces of this size.
const LOG_PIECE_BYTES: usize = 16 << 10;

/// Why an attempt failed, for the log and the next manifest.
pub type Reason = String<TEXT_BYTES>;

/// What an attempt is given.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The record that is followed.
    pub record: &'a Record<'a>,
    /// Which attempt, counted from 0.
    pub number: usize,
    /// The attempt.
    pub attempt: &'a Attempt<'a>,
    /// Why the attempts before failed.
    pub failures: &'a [Reason],
    /// Why the first kernel crashed; empty when the first look did not find it.
    pub panic_line: &'a str,
    /// Where to say how far it is.
    pub report: &'a Report,
    /// Faults that a test asks for.
    pub faults: &'a Faults,
    /// How to read the vmcore.
    pub access: Access,
    /// The ways to targets away from this machine.
    pub reach: &'static Reach,
    /// What it shares with its workers; `None` where one CPU does everything.
    pub board: Option<&'a Board>,
}

/// Makes the attempt in a child with deadlines.
///
/// A child that memory itself killed (SIGBUS: a page of the crashed machine is broken) is followed by another that reads
/// where the first had mapped, so that one bad page does not cost the dump.
pub fn supervised(job: &Job<'_>, memory: &mut [u8]) -> Outcome {
    let outcome = once(job, memory);
    if outcome.ended != Ended::Signal(Signal::BUS.as_raw()) || job.access == Access::Read {
        return outcome;
    }
    log!(
        "attempt {}: {outcome}; next: the same without mapping memory",
        job.number + 1
    );
    let again = Job {
        access: Access::Read,
        faults: &Faults::default(),
        ..*job
    };
    let mut second = once(&again, memory);
    second.left_behind |= outcome.left_behind;
    second
}

/// One child, and what it left mounted when it was killed.
fn once(job: &Job<'_>, memory: &mut [u8]) -> Outcome {
    let deadlines = &job.record.deadlines;
    let mut outcome = supervise::run(deadlines, job.report, c"kdump-attempt", &mut || {
        make(job, memory)
    });
    let killed = !matches!(outcome.ended, Ended::Done | Ended::Failed | Ended::Refused);
    if killed && job.board.is_some() {
        // Its workers were sent a signal when it ended; the board is free when they are gone.
        supervise::wait_orphans();
    }
    // Where the child still holds a disk there is nothing to be done; a server's mount can be taken from under it.
    if killed && (!outcome.left_behind || job.attempt.target.network().is_some()) {
        outcome.left_behind |= clear_away(job, outcome.ended);
    }
    outcome
}

/// Takes away what a killed child left mounted; whether that hung as well.
///
/// What it wrote to a disk gets there, the file system is clean, and the mount point is free for another try. What waits
/// for a dead server gets an error. Whatever hung may hang again, so that this has a deadline too, and not the long one of
/// a device that works.
fn clear_away(job: &Job<'_>, ended: Ended) -> bool {
    let record = job.record;
    let unmount: fn(&str) = match job.attempt.target {
        // A connection ends with the process that has it.
        TargetSpec::Raw { .. } | TargetSpec::Ssh { .. } => return false,
        TargetSpec::Filesystem { .. } => |path| {
            let _ = rustix::mount::unmount(path, UnmountFlags::empty());
        },
        TargetSpec::Nfs { .. } => abandon,
    };
    let step = match ended {
        Ended::Late(_) | Ended::Stalled(_) => Step::Final,
        _ => Step::Publish,
    };
    let outcome = supervise::run(&record.deadlines, job.report, c"kdump-unmount", &mut || {
        job.report.enter(step, 0);
        if let Ok(path) = mount_point(job.number) {
            unmount(&path);
        }
        DONE
    });
    outcome.left_behind
}

/// The child: makes the attempt, and leaves in its report where the dump is or why there is none.
fn make(job: &Job<'_>, memory: &mut [u8]) -> u8 {
    let mut run = Run {
        job,
        durations: Vec::new(),
        is_forbidden: false,
    };
    match run.make(memory) {
        Ok(place) => {
            job.report.set_text(format_args!("{place}"));
            DONE
        }
        Err(reason) => {
            job.report.set_text(format_args!("{reason}"));
            if run.is_forbidden { REFUSED } else { FAILED }
        }
    }
}

/// An attempt on its way.
pub struct Run<'a> {
    job: &'a Job<'a>,
    /// The steps so far and when each began.
    durations: Vec<(Step, u64), 12>,
    /// `kdump_pre` said no.
    is_forbidden: bool,
}

/// What was saved before the vmcore, for the manifest.
struct Saved {
    release: String<80>,
    crash_time_s: i64,
    dmesg_bytes: Option<u64>,
}

impl Run<'_> {
    fn enter(&mut self, step: Step) {
        self.job.report.enter(step, 0);
        let _ = self.durations.push((step, clock::now_ms()));
        // A fault of the dump comes when it is under way.
        if step != Step::Dump {
            self.job.faults.strike(step, self.job.number);
        }
    }

    /// How long each step took until now, in milliseconds.
    fn durations(&self) -> Vec<(Step, u64), 12> {
        let ends = self
            .durations
            .iter()
            .skip(1)
            .map(|&(_, start_ms)| start_ms)
            .chain([clock::now_ms()]);
        self.durations
            .iter()
            .zip(ends)
            .map(|(&(step, start_ms), end_ms)| (step, end_ms.saturating_sub(start_ms)))
            .collect()
    }

    fn make(&mut self, memory: &mut [u8]) -> Result<Place, Reason> {
        match &self.job.attempt.target {
            TargetSpec::Raw { device, overwrite } => {
                let found = self.device(device, memory)?;
                let (vmcore, memory) = self.vmcore(memory)?;
                self.raw(&found, *overwrite, vmcore, memory)
            }
            TargetSpec::Filesystem {
                fstype,
                device,
                mount_options,
                path,
            } => {
                let found = self.device(device, memory)?;
                let (vmcore, memory) = self.vmcore(memory)?;
                let mount_point = mount_point(self.job.number)?;
                // A journal to be replayed takes its time, recorded errors may be why a mount fails.
                if let Ok(Probed::Ext(superblock)) = filesystem::probe(&found)
                    && superblock.is_notable()
                {
                    log!("{}: {superblock}", found.node);
                }
                let filesystem = Filesystem::mount(&found, fstype, mount_options, &mount_point)
                    .map_err(reason)?;
                let result = self.filesystem(&filesystem, path, None, vmcore, memory);
                // Everything that counts is synced; but only unmounted it is also clean for the next boot.
                if let Err(error) = filesystem.unmount() {
                    log!("attempt {}: {error}", self.job.number + 1);
                }
                result
            }
            target @ (TargetSpec::Nfs { .. } | TargetSpec::Ssh { .. }) => {
                let way = self.job.reach.way(target).ok_or_else(|| {
                    reason("this init was built without the network; build the image again with one that has it")
                })?;
                way(self, memory)
            }
        }
    }

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

    /// Opens the vmcore; the rest of the memory is for the dump.
    fn vmcore<'m>(&mut self, memory: &'m mut [u8]) -> Result<(Input<'m>, &'m mut [u8]), Reason> {
        let access = self.job.access;
        self.enter(Step::Open);
        let (open_memory, memory) = memory
            .split_at_mut_checked(OPEN_BYTES)
            .ok_or_else(|| reason("the memory is too small, a defect of kdumprd"))?;
        let open = || {
            VmcoreFile::open(PATH, access)
                .map_err(|error| reason(format_args!("opening /proc/vmcore: {error}")))
        };
        let vmcore = match Vmcore::open(open()?, open_memory) {
            Ok(vmcore) => Input::Understood(vmcore),
            Err(error) => {
                log!("reading /proc/vmcore: {error}; next: a copy of it as it is");
                Input::Bytes(open()?)
            }
        };
        Ok((vmcore, memory))
    }

    fn raw(
        &mut self,
        found: &Found,
        overwrite: bool,
        mut vmcore: Input<'_>,
        memory: &mut [u8],
    ) -> Result<Place, Reason> {
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
        let raw = Raw::open(found, needed_bytes, may_lose).map_err(reason)?;
        if let Some(name) = raw.unsaved() {
            log!(
                "{}: the dump of {name}, which nobody has recovered, is overwritten: there is no other target",
                found.node
            );
        }
        let (name, crash_time_s) = self.directory_name(None, &mut vmcore);
        self.save(&Device::new(&raw, &name), crash_time_s, vmcore, memory)
    }

    /// No other attempt follows.
    fn is_last(&self) -> bool {
        self.job.number.saturating_add(1) >= self.job.record.attempts.len()
    }

    fn filesystem(
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

    /// What the directory of the dump is called, and when the crash was.
    fn directory_name(
        &self,
        own_address: Option<IpAddr>,
        vmcore: &mut Input<'_>,
    ) -> (String<80>, i64) {
        let crash_time_s = vmcore
            .understood()
            .and_then(|vmcore| vmcore.crash_time_s())
            .unwrap_or_else(clock::wall_s);
        // Many machines share a server: the directory says whose dump it is.
        let mut name = String::new();
        if let Some(address) = own_address {
            let _ = write!(name, "{address}-");
        }
        let _ = write!(name, "{}", date(self.job.record.zone, crash_time_s));
        (name, crash_time_s)
    }

    /// Saves everything to the directory of the dump.
    fn save<D: Folder>(
        &mut self,
        directory: &D,
        crash_time_s: i64,
        mut vmcore: Input<'_>,
        memory: &mut [u8],
    ) -> Result<Place, Reason> {
        let job = self.job;
        self.before_the_dump()?;
        self.enter(Step::Dmesg);
        let dmesg_bytes = match vmcore.understood() {
            Some(vmcore) => self.dmesg(vmcore, memory, directory)?,
            None => None,
        };
        let mut saved = Saved {
            release: String::new(),
            crash_time_s,
            dmesg_bytes,
        };
        if let Some(vmcore) = vmcore.understood() {
            let _ = saved.release.push_str(vmcore.release());
        }

        self.enter(Step::Dump);
        let manifest_file = directory
            .is_random_access()
            .then(|| self.begin_manifest(directory, &saved, memory));
        let dump_name = directory.dump_name();
        let mut sink = directory.create(dump_name)?;
        let result = match job.attempt.program {
            Some(program) => {
                let place = self.local_path(directory.path().as_str(), dump_name, true);
                let dumped = self.run_collector(program, &place);
                D::was_written_by_another(&mut sink);
                dumped
            }
            None => dump::write(job, &mut vmcore, memory, &mut sink, D::restart).map_err(|error| {
                let mut why = reason(error);
                if let Some(more) = directory.explanation() {
                    let _ = write!(Cut(&mut why), " ({more})");
                }
                why
            }),
        };
        drop(vmcore);

        self.enter(Step::Publish);
        let result = match result {
            Ok(dumped) => directory.publish(sink).map(|()| dumped),
            Err(why) => {
                // As far as it got it stays readable, and its name says that it is incomplete.
                let mut text = why;
                match D::leave(&mut sink) {
                    Ok(()) => {
                        let _ = write!(
                            Cut(&mut text),
                            "; what was written is {}",
                            directory.incomplete_place()
                        );
                    }
                    Err(error) => {
                        let _ = write!(Cut(&mut text), "; syncing what was written: {error}");
                    }
                }
                Err(text)
            }
        };
        if let Ok(dumped) = &result {
            self.tell(dumped);
        }
        self.aside("manifest.json", |run| {
            let mut file = match manifest_file {
                Some(file) => file?,
                None => directory.create("manifest.json")?,
            };
            let result = result.as_ref().map_err(String::as_str);
            let bytes = run.manifest(&saved, result, memory)?;
            file.write_at(0, bytes).map_err(reason)?;
            D::cut(&mut file, u64::try_from(bytes.len()).unwrap_or(0)).map_err(reason)?;
            directory.publish(file)
        });
        self.aside("kexec-dmesg.log", |_| own_log(directory, memory));
        let place = self.local_path(directory.path().as_str(), dump_name, result.is_err());
        self.after_the_dump(result.is_ok(), &place);
        result?;
        Ok(directory.place())
    }

    /// Runs the hooks before the dump.
    ///
    /// # Errors
    /// `kdump_pre` forbids it.
    fn before_the_dump(&mut self) -> Result<(), Reason> {
        let job = self.job;
        let kinds = [HookKind::Pre, HookKind::PreFolder];
        hook::run_all(job.record, &kinds, None, "", job.report).map_err(|ended| {
            self.is_forbidden = true;
            reason(format_args!("{} forbids the dump: {ended}", HookKind::Pre))
        })
    }

    /// Runs the hooks after the dump.
    fn after_the_dump(&self, is_saved: bool, vmcore: &str) {
        let job = self.job;
        let kinds = [HookKind::PostFolder, HookKind::Post];
        // Only what comes before the dump can forbid anything.
        let _ = hook::run_all(
            job.record,
            &kinds,
            Some(u8::from(!is_saved)),
            vmcore,
            job.report,
        );
    }

    /// Where programs find the dump; empty where no path leads there.
    fn local_path(&self, directory: Option<&str>, name: &str, is_incomplete: bool) -> String<300> {
        let mut path = String::new();
        if matches!(self.job.attempt.target, TargetSpec::Raw { .. }) {
            let _ = path.push_str(directory.unwrap_or_default());
        } else if !matches!(self.job.attempt.target, TargetSpec::Ssh { .. })
            && let (Some(directory), Ok(mount_point)) = (directory, mount_point(self.job.number))
        {
            let suffix = if is_incomplete { "-incomplete" } else { "" };
            let _ = write!(path, "{mount_point}{directory}/{name}{suffix}");
        }
        path
    }

    /// Has the administrator's program save the vmcore to `place`; what it writes there is its progress.
    fn run_collector(&self, program: &str, place: &str) -> Result<Dumped, Reason> {
        let record = self.job.record;
        if place.is_empty() {
            return Err(reason(format_args!(
                "no path leads {program} to the target"
            )));
        }
        let mut size_bytes = 0;
        let ended = Program::new(program)
            .and_then(|program| program.with(format_args!("/proc/vmcore")))
            .and_then(|program| program.with(format_args!("{place}")))
            .map_or(hook::Ended::TooLong, |program| {
                program.run(record.deadlines.dump_s, &mut || {
                    let now_bytes = rustix::fs::stat(place).map_or(0, |found| found.st_size);
                    if now_bytes != size_bytes {
                        size_bytes = now_bytes;
                        self.job.report.beat();
                    }
                })
            });
        if ended.is_good() {
            Ok(Dumped {
                stats: None,
                format: Format::Copy,
            })
        } else {
            Err(reason(format_args!("{program}: {ended}")))
        }
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

    /// Saves the crashed kernel's log, synced and under its name. None when the log cannot be read: that is no reason to
    /// give up the vmcore.
    fn dmesg<D: Folder>(
        &mut self,
        vmcore: &mut Vmcore<'_, VmcoreFile>,
        memory: &mut [u8],
        directory: &D,
    ) -> Result<Option<u64>, Reason> {
        let start_ms = clock::now_ms();
        let mut sink = directory.create("vmcore-dmesg.txt")?;
        let mut offset = 0_u64;
        let written = dmesg::write(vmcore, memory, &mut |text| {
            sink.write_at(offset, text)?;
            offset = offset.saturating_add(u64::try_from(text.len()).unwrap_or(0));
            Ok(())
        });
        match written {
            Ok(_) => {
                directory.publish(sink)?;
                log!(
                    "vmcore-dmesg.txt saved: {offset} bytes in {}",
                    Seconds(clock::now_ms().saturating_sub(start_ms))
                );
                Ok(Some(offset))
            }
            Err(DmesgError::Output(error)) => Err(reason(format_args!(
                "writing vmcore-dmesg.txt at byte {offset}: {error}"
            ))),
            Err(error) => {
                log!("vmcore-dmesg.txt is incomplete, {offset} bytes: {error}; next: the vmcore");
                let _ = sink.sync();
                Ok(None)
            }
        }
    }

    /// The line that sums up the dump.
    fn tell(&self, dumped: &Dumped) {
        let Some(stats) = &dumped.stats else {
            return;
        };
        let dump_ms = self
            .durations()
            .iter()
            .find(|(step, _)| *step == Step::Dump)
            .map_or(0, |&(_, ms)| ms);
        log!("vmcore: {}", Summary(stats, dump_ms));
    }

    /// The manifest of a dump that is under way, with the room that the final one needs: the dump may fill the disk, and
    /// what is found after a power cut says what it is.
    fn begin_manifest<D: Folder>(
        &self,
        directory: &D,
        saved: &Saved,
        memory: &mut [u8],
    ) -> Result<D::File, Reason> {
        let length = self
            .manifest(saved, Err("the dump was under way"), memory)?
            .len();
        let room = memory.get_mut(..MANIFEST_ROOM).unwrap_or(&mut []);
        // White space behind the end is JSON too.
        room.iter_mut().skip(length).for_each(|byte| *byte = b' ');
        let mut file = directory.create("manifest.json")?;
        file.write_at(0, room).map_err(reason)?;
        Ok(file)
    }

    fn manifest<'b>(
        &self,
        saved: &Saved,
        result: Result<&Dumped, &str>,
        memory: &'b mut [u8],
    ) -> Result<&'b [u8], Reason> {
        let manifest = Manifest {
            record: self.job.record,
            number: self.job.number,
            attempt: self.job.attempt,
            failures: self.job.failures,
            release: &saved.release,
            panic_line: self.job.panic_line,
            crash_time_s: saved.crash_time_s,
            result: result.map(|_| ()),
            format: result.map_or(self.job.attempt.collect.format, |dumped| dumped.format),
            stats: result.ok().and_then(|dumped| dumped.stats.as_ref()),
            dmesg_bytes: saved.dmesg_bytes,
            durations: &self.durations(),
            peak_memory_kib: peak_memory_kib(),
        };
        memory
            .get_mut(..MANIFEST_BYTES)
            .and_then(|buffer| manifest.write(buffer))
            .ok_or_else(|| reason("it does not fit"))
    }

    /// Does what the dump does not depend on: a failure is told and no more.
    fn aside(&self, name: &str, work: impl FnOnce(&Self) -> Result<(), Reason>) {
        self.job.report.beat();
        if let Err(why) = work(self) {
            log!("{name} is missing or incomplete: {why}; the dump does not need it");
        }
    }
}

/// Saves the capture kernel's own log.
fn own_log<D: Folder>(directory: &D, memory: &mut [u8]) -> Result<(), Reason> {
    let mut sink = directory.create("kexec-dmesg.log")?;
    let piece = memory
        .get_mut(..LOG_PIECE_BYTES)
        .ok_or_else(|| reason("no memory"))?;
    let (mut used, mut offset) = (0_usize, 0_u64);
    kernel_log::each_line(&mut |line| {
        if piece.len() - used < line.len() {
            sink.write_at(offset, piece.get(..used).unwrap_or(&[]))?;
            offset = offset.saturating_add(u64::try_from(used).unwrap_or(0));
            used = 0;
        }
        // A line is far shorter than the piece.
        if let Some(place) = piece.get_mut(used..used.saturating_add(line.len())) {
            place.copy_from_slice(line);
            used = used.saturating_add(line.len());
        }
        Ok(())
    })
    .map_err(reason)?;
    sink.write_at(offset, piece.get(..used).unwrap_or(&[]))
        .map_err(reason)?;
    directory.publish(sink)
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

/// How much memory the attempts of a record take.
#[must_use]
pub fn memory_bytes(record: &Record<'_>) -> usize {
    let has_ssh = record
        .attempts
        .iter()
        .any(|attempt| matches!(attempt.target, TargetSpec::Ssh { .. }));
    let connection = if has_ssh { CONNECTION_BYTES } else { 0 };
    MEMORY_BYTES + OPEN_BYTES + connection
}

/// An own mount point for each attempt: one that hangs keeps its own.
fn mount_point(number: usize) -> Result<String<16>, Reason> {
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

/// `text` as a reason; what is too long is cut.
pub fn reason(text: impl fmt::Display) -> Reason {
    let mut reason = Reason::new();
    let _ = write!(Cut(&mut reason), "{text}");
    reason
}

struct Cut<'r>(&'r mut Reason);

impl fmt::Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            self.0.push(letter).map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}

/// Where a dump is.
pub type Place = String<300>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_is_too_long_is_cut() {
        let long = "x".repeat(2 * TEXT_BYTES);
        assert_eq!(reason(&long), long[..TEXT_BYTES]);
        assert_eq!(reason("short"), "short");
    }
}
