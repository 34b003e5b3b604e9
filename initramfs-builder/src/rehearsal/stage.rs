// SPDX-License-Identifier: MIT OR Apache-2.0
//! One run for one target: the image, the crash, and reading back what was saved.

use super::machine::{Devices, Ended, Machine};
use super::stand_in::{SetUp, StandIn};
use super::{Failure, Rehearsal, Saved, guest, random};
use crate::compress::ImageCompression;
use crate::conf::Directives;
use crate::error::{Mistake, Mistakes};
use crate::host::Host;
use crate::image;
use crate::programs::{FOLDERS, Programs};
use crate::resolve::Goal;
use crate::{Prepared, Request, prepare_for, read_conf};
use age::Identity;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The plan for the machine itself.
pub(super) struct Plan {
    pub(super) directives: Directives,
    host: Host,
    pub(super) prepared: Prepared,
}

impl Plan {
    /// # Errors
    /// The plan has mistakes.
    pub(super) fn make(request: &Request) -> Result<Self, Mistakes> {
        let directives = read_conf(&request.conf)?;
        let host = Host::read(&request.host_root)?;
        let prepared = prepare_for(request, &directives, &host)?;
        Ok(Self {
            directives,
            host,
            prepared,
        })
    }
}

/// Everything that the runs of one rehearsal share.
pub(super) struct Stage<'a> {
    rehearsal: &'a Rehearsal,
    pub(super) real: Plan,
    machine: Machine,
    /// Who can read the dumps of the rehearsal, in the place of those of `encrypt_to`.
    readers: Vec<Identity>,
    /// This program and `vmcore`, with their libraries.
    programs: Programs,
    own_path: String,
    reader_path: String,
}

/// One run: its files, and what its machine has.
struct Run<'s> {
    stage: &'s Stage<'s>,
    folder: PathBuf,
    memory_mib: u64,
    crashkernel_mib: u64,
    devices: Devices,
}

/// What was read back.
struct ReadBack {
    found: Vec<String>,
    init_peak_kib: Option<u64>,
}

impl<'a> Stage<'a> {
    /// Finds everything that a rehearsal of the plan takes.
    ///
    /// # Errors
    /// A program is missing.
    pub(super) fn set(rehearsal: &'a Rehearsal, real: Plan) -> Result<Self, Mistakes> {
        make_private(&rehearsal.folder, rustix::process::geteuid().as_raw())?;
        let readers = real
            .directives
            .encrypt_to
            .iter()
            .map(|_| random().map(Identity::from_random))
            .collect::<Result<_, _>>()?;
        let machine = Machine::find(&rehearsal.kernel, rehearsal.acceleration, &rehearsal.folder)?;
        // What runs in the machine is this system's, whatever system the plan is for.
        let this_system = Host::read(Path::new("/"))?;
        let own = std::env::current_exe()
            .map_err(|error| Mistake::new(format!("finding this program's own file: {error}")))?;
        let own_path = own.display().to_string();
        let reader_path = reader(&own)?;
        let mut programs = Programs::default();
        for path in [&own_path, &reader_path] {
            programs
                .add(&this_system, path, "the rehearsal")
                .map_err(Mistake::new)?;
        }
        Ok(Self {
            rehearsal,
            real,
            machine,
            readers,
            programs,
            own_path,
            reader_path,
        })
    }

    /// One crash with `stand_in` in the place of the goal's target.
    ///
    /// # Errors
    /// Something that the rehearsal takes is missing. That no dump was saved is none here.
    pub(super) fn run(
        &self,
        goal: &Goal,
        stand_in: &StandIn,
        crashkernel_mib: u64,
    ) -> Result<Result<Saved, Failure>, Mistakes> {
        let folder = self.rehearsal.folder.join(file_name(&format!(
            "{}-{crashkernel_mib}M",
            goal.place.name()
        )));
        fs::create_dir_all(&folder)
            .map_err(|error| Mistake::new(format!("making {}: {error}", folder.display())))?;
        let set_up = stand_in.set_up(&folder, self.real.prepared.resolved.ssh_key.as_deref())?;
        let (directives, host) = stand_in.scene(
            &self.real.directives,
            &self.real.host,
            &set_up,
            &self.readers,
        );
        let prepared = prepare_for(&self.rehearsal.request, &directives, &host)?;
        let run = Run {
            stage: self,
            memory_mib: self.rehearsal.memory_mib + crashkernel_mib,
            crashkernel_mib,
            devices: set_up.devices(),
            folder,
        };
        let time = match run.crash(&prepared)? {
            Ok(time) => time,
            Err(failure) => return Ok(Err(failure)),
        };
        let read_back = match set_up.dumps() {
            None => run.read_disk(&prepared)?,
            Some(dumps) => run.read_server(dumps)?,
        };
        if let (Ok(_), SetUp::Disk(file)) = (&read_back, &set_up) {
            let _ = fs::remove_file(file);
        }
        let modules = &prepared.closure.modules;
        Ok(read_back.map(
            |ReadBack {
                 found,
                 init_peak_kib,
             }| Saved {
                found,
                time,
                init_peak_kib,
                modules: modules.iter().map(|module| module.name.clone()).collect(),
            },
        ))
    }

    /// A file with the keys of [`Self::readers`]; none where dumps are not encrypted.
    fn keys(&self) -> Option<String> {
        let lines = self.readers.iter().map(|key| format!("{}\n", key.reveal()));
        Some(lines.collect()).filter(|keys: &String| !keys.is_empty())
    }

    /// An initramfs with this program as its init.
    fn first_image(&self, files: &[(&str, Vec<u8>)]) -> Result<Vec<u8>, Mistake> {
        let mut items = image::Tree::default();
        items.console();
        items.link("init", &self.own_path, "PID 1 of the first kernel");
        for (name, file) in self.programs.files() {
            items.file(name, file.permissions, file.bytes.clone(), &file.why);
        }
        for (name, bytes) in files {
            items.file(name, 0o644, bytes.clone(), "the rehearsal");
        }
        // Read once by the kernel, from a file in memory: smaller takes longer.
        image::pack(&items.into_items(), ImageCompression::None)
    }
}

impl Run<'_> {
    /// Crashes the machine and waits for its restart; how long that took.
    fn crash(&self, prepared: &Prepared) -> Result<Result<Duration, Failure>, Mistakes> {
        let kernel = &self.stage.rehearsal.kernel;
        let bytes = fs::read(kernel)
            .map_err(|error| Mistake::new(format!("reading {}: {error}", kernel.display())))?;
        let image = self.image(&[
            (guest::KERNEL, bytes),
            (guest::IMAGE, prepared.bytes.clone()),
        ])?;
        let console = self.folder.join("console.log");
        let arguments = format!(
            "{}=crash crashkernel={}M",
            guest::VARIABLE,
            self.crashkernel_mib
        );
        let start = || {
            self.stage
                .machine
                .run(&image, &arguments, self.memory_mib, &self.devices, &console)
        };
        let mut crashed = start()?;
        if crashed.hung_before(guest::BEGUN) {
            crashed = start()?;
        }
        let why = if let Some(why) = crashed.line_of(guest::FAILED) {
            why.to_owned()
        } else if let Some(crash) = crashed.time_of(guest::CRASHING) {
            if crashed.line_of("kdump: attempt 1 of 1 done").is_none() {
                crashed.why_not()
            } else if crashed.ended != Ended::ByItself {
                "the dump was saved, but the machine did not restart".to_owned()
            } else {
                let _ = fs::remove_file(&image);
                return Ok(Ok(crashed.end.saturating_sub(crash)));
            }
        } else {
            "the first kernel did not get as far as the crash".to_owned()
        };
        Ok(Err(Failure { why, console }))
    }

    /// Reads back what is on the disk, in the machine: this one may not know the file system, nor be allowed to mount it.
    fn read_disk(&self, prepared: &Prepared) -> Result<Result<ReadBack, Failure>, Mistakes> {
        let modules = &prepared.closure.modules;
        let list: String = modules
            .iter()
            .map(|module| format!("{}\n", module.name))
            .collect();
        let paths: Vec<String> = modules
            .iter()
            .map(|module| guest::module_path(&module.name))
            .collect();
        let mut files = vec![
            (guest::MODULES, list.into_bytes()),
            (guest::READER, self.stage.reader_path.clone().into_bytes()),
            (guest::WHERE, StandIn::reading_list(prepared).into_bytes()),
        ];
        if let Some(keys) = self.stage.keys() {
            files.push((guest::KEYS, keys.into_bytes()));
        }
        for (path, module) in paths.iter().zip(modules) {
            files.push((path, module.bytes.clone()));
        }
        let image = self.image(&files)?;
        let console = self.folder.join("check.log");
        let checked = self.stage.machine.run(
            &image,
            &format!("{}=check", guest::VARIABLE),
            self.memory_mib,
            &self.devices,
            &console,
        )?;
        let _ = fs::remove_file(&image);
        if checked.line_of(guest::GOOD).is_some() {
            return Ok(Ok(ReadBack {
                found: checked.lines_of(guest::FOUND),
                init_peak_kib: checked
                    .line_of(guest::PEAK)
                    .and_then(|text| text.trim().parse().ok()),
            }));
        }
        let why = checked
            .line_of(guest::FAILED)
            .unwrap_or("the dump could not be read back");
        Ok(Err(Failure {
            why: why.to_owned(),
            console,
        }))
    }

    /// Reads back what the server was given.
    fn read_server(&self, dumps: &Path) -> Result<Result<ReadBack, Failure>, Mistake> {
        let mut read_back = ReadBack {
            found: Vec::new(),
            init_peak_kib: None,
        };
        let keys = match self.stage.keys() {
            None => None,
            Some(keys) => {
                // Nobody else can look into this folder, and they open what is removed below.
                let path = self.folder.join("keys");
                fs::write(&path, keys).map_err(|error| {
                    Mistake::new(format!("writing {}: {error}", path.display()))
                })?;
                Some(path)
            }
        };
        let verified = guest::verify(
            dumps,
            &self.stage.reader_path,
            keys.as_deref(),
            &mut |found, peak| {
                read_back.found.push(found);
                read_back.init_peak_kib = peak.or(read_back.init_peak_kib);
            },
        );
        Ok(match verified {
            Ok(()) => {
                let _ = fs::remove_dir_all(dumps);
                Ok(read_back)
            }
            Err(mistake) => Err(Failure {
                why: mistake.to_string(),
                console: self.folder.join("console.log"),
            }),
        })
    }

    fn image(&self, files: &[(&str, Vec<u8>)]) -> Result<PathBuf, Mistake> {
        let path = self.folder.join("first.img");
        let bytes = self.stage.first_image(files)?;
        fs::write(&path, bytes)
            .map_err(|error| Mistake::new(format!("writing {}: {error}", path.display())))?;
        Ok(path)
    }
}

/// Makes the folder of the rehearsal for the user `own`: it has images with keys, and consoles that name what nobody else is
/// to know.
fn make_private(folder: &Path, own: u32) -> Result<(), Mistake> {
    let failed =
        |why: &dyn std::fmt::Display| Mistake::new(format!("making {}: {why}", folder.display()));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| failed(&error))?;
    // In a folder for temporary files others may have made it first, or a link in its place.
    let found = fs::symlink_metadata(folder).map_err(|error| failed(&error))?;
    if found.uid() != own {
        return Err(failed(
            &"it is there and belongs to another user; --work names another one",
        ));
    }
    Ok(())
}

/// The program that reads dumps back: the one beside this, else the installed one.
fn reader(own: &Path) -> Result<String, Mistake> {
    let beside = own.with_file_name("vmcore");
    FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join("vmcore"))
        .fold(beside.is_file().then_some(beside), |found, path| {
            found.or_else(|| path.is_file().then_some(path))
        })
        .map(|path| path.display().to_string())
        .ok_or_else(|| {
            Mistake::new(
                "there is no `vmcore` beside this program nor in the system's folders, which reads the dumps back; install it",
            )
        })
}

/// A name of a file for a target.
fn file_name(target: &str) -> String {
    target
        .trim_start_matches('/')
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_rehearsal_is_private_and_nobody_elses() {
        let folder = std::env::temp_dir().join(format!("rehearsal-own-{}", std::process::id()));
        let own = rustix::process::geteuid().as_raw();
        make_private(&folder, own).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        make_private(&folder, own).unwrap();
        let refused = make_private(&folder, own + 1).unwrap_err().to_string();
        assert!(refused.contains("belongs to another user"), "{refused}");
        fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn every_target_has_a_name_for_files() {
        assert_eq!(file_name("/dev/vg0/var"), "dev-vg0-var");
    }
}
