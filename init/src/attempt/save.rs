// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is saved to the directory of a dump, and in which order.
#![expect(
    clippy::result_large_err,
    reason = "a reason has no heap to lie on, and an attempt has one of them"
)]

use super::{Cut, Place, Reason, Run, reason};
use crate::clock;
use crate::dump::{self, Dumped, Input, Summary};
use crate::folder::Folder;
use crate::kernel_log;
use crate::log;
use crate::manifest::{Manifest, peak_memory_kib};
use crate::progress::Seconds;
use crate::report::Step;
use crate::seal::{self, Files};
use crate::vmcore::VmcoreFile;
use collector::dmesg::DmesgError;
use collector::{Sink, Vmcore, dmesg};
use core::fmt::{self, Write as _};
use heapless::String;

/// What the manifest may have; far more than any had.
const MANIFEST_BYTES: usize = 32 << 10;
/// What is kept free for it before the vmcore is written: more than the manifest of one failed attempt has.
const MANIFEST_ROOM: usize = 4096;
/// The capture kernel's log is written in pieces of this size.
const LOG_PIECE_BYTES: usize = 16 << 10;

/// What was saved before the vmcore, for the manifest.
struct Saved {
    release: String<80>,
    crash_time_s: i64,
    dmesg_bytes: Option<u64>,
}

impl Run<'_> {
    /// Saves everything to the directory of the dump.
    pub(super) fn save<D: Folder>(
        &mut self,
        directory: &D,
        crash_time_s: i64,
        mut vmcore: Input<'_>,
        memory: &mut [u8],
    ) -> Result<Place, Reason> {
        let job = self.job;
        let mut seal_place = None;
        let (seal, memory) = seal::prepare(
            job.reach.sealer(),
            &mut seal_place,
            job.record,
            vmcore.file(),
            memory,
        )?;
        let files = Files::new(directory, seal);
        self.before_the_dump()?;
        self.enter(Step::Dmesg);
        let dmesg_bytes = match vmcore.understood() {
            Some(vmcore) => self.dmesg(vmcore, memory, directory, &files)?,
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
        let dump_name = files.dump_name();
        let mut sink = files.create_dump()?;
        let result = match job.attempt.program {
            Some(program) => {
                let place = self.local_path(directory.path().as_str(), dump_name, true);
                let dumped = self.run_collector(program, &place);
                Files::<D>::was_written_by_another(&mut sink);
                dumped
            }
            None => {
                let restart = Files::<D>::restart;
                dump::write(job, &mut vmcore, memory, &mut sink, restart)
                    .map_err(|error| explained(directory, error))
            }
        };
        drop(vmcore);

        self.enter(Step::Publish);
        let result = match result {
            Ok(dumped) => files.publish(sink).map(|()| dumped),
            Err(why) => {
                // As far as it got it stays readable, and its name says that it is incomplete.
                let mut text = why;
                match Files::<D>::leave(&mut sink) {
                    Ok(()) => {
                        let _ = write!(
                            Cut(&mut text),
                            "; what was written is {}",
                            directory.incomplete_place(dump_name)
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
        self.aside("kexec-dmesg.log", |_| own_log(&files, memory));
        let place = self.local_path(directory.path().as_str(), dump_name, result.is_err());
        self.after_the_dump(result.is_ok(), &place);
        result?;
        let place = files.place();
        self.keep_newest(directory, &place);
        Ok(place)
    }

    /// Removes dumps that are too old, now that the new one is complete and on the disk. Whatever becomes of that, the
    /// attempt is done.
    fn keep_newest<D: Folder>(&mut self, directory: &D, place: &Place) {
        let dumps = self.job.record.keep_dumps;
        if dumps == 0 {
            return;
        }
        self.job.report.set_text(format_args!("{place}"));
        self.enter(Step::Prune);
        let report = self.job.report;
        if let Err(why) = directory.keep_newest(dumps, &mut || report.beat()) {
            log!("keep_dumps {dumps}: {why}; the dump does not need it");
        }
    }

    /// Saves the crashed kernel's log, synced and under its name. None when the log cannot be read: that is no reason to
    /// give up the vmcore.
    fn dmesg<D: Folder>(
        &mut self,
        vmcore: &mut Vmcore<'_, VmcoreFile>,
        memory: &mut [u8],
        directory: &D,
        files: &Files<'_, D>,
    ) -> Result<Option<u64>, Reason> {
        const PLAIN: &str = "vmcore-dmesg.txt";
        let start_ms = clock::now_ms();
        let mut end = LogEnd::new(files.most_bytes(PLAIN), &mut |count| {
            // What stands in the way is told below.
            let _ = dmesg::write(vmcore, memory, &mut |text| {
                count(text.len());
                Ok(())
            });
        });
        let mut sink = files.create(PLAIN)?;
        let name = files.name(PLAIN);
        let mut offset = 0_u64;
        let written = dmesg::write(vmcore, memory, &mut |text| {
            let text = end.of(text);
            sink.write_at(offset, text)?;
            offset = offset.saturating_add(u64::try_from(text.len()).unwrap_or(0));
            Ok(())
        });
        match written {
            Ok(_) => {
                files.publish(sink)?;
                log!(
                    "{name} saved: {offset} bytes in {}",
                    Seconds(clock::now_ms().saturating_sub(start_ms))
                );
                Ok(Some(offset))
            }
            Err(DmesgError::Output(error)) => {
                let what = format_args!("writing {name} at byte {offset}: {error}");
                Err(explained(directory, what))
            }
            Err(error) => {
                log!("{name} is incomplete, {offset} bytes: {error}; next: the vmcore");
                Files::<D>::leave_small(&mut sink);
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

/// `error` as a reason, with what the folder knows of it besides.
fn explained<D: Folder>(directory: &D, error: impl fmt::Display) -> Reason {
    let mut why = reason(error);
    if let Some(more) = directory.explanation() {
        let _ = write!(Cut(&mut why), " ({more})");
    }
    why
}

/// The end of a log, where there is no room for all of it.
struct LogEnd {
    /// How much of its front is left out.
    skip: usize,
}

/// Takes the length of a piece.
type Count<'c> = &'c mut dyn FnMut(usize);

impl LogEnd {
    /// `measure` goes through the log, and tells the length of each piece.
    fn new(most_bytes: Option<u64>, measure: &mut dyn FnMut(Count<'_>)) -> Self {
        let Some(most) = most_bytes else {
            return Self { skip: 0 };
        };
        let mut bytes = 0_usize;
        measure(&mut |length| bytes = bytes.saturating_add(length));
        Self {
            skip: bytes.saturating_sub(usize::try_from(most).unwrap_or(usize::MAX)),
        }
    }

    /// What is to be written of the next piece.
    fn of<'t>(&mut self, text: &'t [u8]) -> &'t [u8] {
        let skipped = self.skip.min(text.len());
        self.skip -= skipped;
        text.get(skipped..).unwrap_or(&[])
    }
}

/// Saves the capture kernel's own log.
fn own_log<D: Folder>(files: &Files<'_, D>, memory: &mut [u8]) -> Result<(), Reason> {
    const PLAIN: &str = "kexec-dmesg.log";
    let mut end = LogEnd::new(files.most_bytes(PLAIN), &mut |count| {
        // What stands in the way is told below.
        let _ = kernel_log::each_line(&mut |line| {
            count(line.len());
            Ok(())
        });
    });
    let mut sink = files.create(PLAIN)?;
    let piece = memory
        .get_mut(..LOG_PIECE_BYTES)
        .ok_or_else(|| reason("no memory"))?;
    let (mut used, mut offset) = (0_usize, 0_u64);
    kernel_log::each_line(&mut |line| {
        let line = end.of(line);
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
    files.publish(sink)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_log_that_has_no_room_the_end_is_kept() {
        let pieces = [&b"first "[..], b"second ", b"third"];
        let kept = |most| {
            let mut end = LogEnd::new(most, &mut |count| {
                pieces.iter().for_each(|piece| count(piece.len()));
            });
            let kept: Vec<&[u8]> = pieces.iter().map(|piece| end.of(piece)).collect();
            std::string::String::from_utf8(kept.concat()).unwrap()
        };
        assert_eq!(kept(None), "first second third");
        assert_eq!(kept(Some(18)), "first second third");
        assert_eq!(kept(Some(9)), "ond third");
        assert_eq!(kept(Some(0)), "");
    }
}
