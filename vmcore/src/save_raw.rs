// SPDX-License-Identifier: MIT OR Apache-2.0
//! `save-raw DEVICE FOLDER`: brings a raw dump to where it is safe, a whole one or what there is of it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};

use collector::raw::{self, Control, ControlError, Part, State, Sums};
use collector::{IoError, Source as _};

use super::Failure;
use super::input::{FileSource, io_error};
use super::messages::say;
use super::output::create;

/// What a dumpfile is called, and one that is encrypted.
const PLAIN: &str = "vmcore";
const ENCRYPTED: &str = "vmcore.flat.age";
/// What its name ends with until it is known to be whole.
const INCOMPLETE: &str = "-incomplete";
/// What is read and written at a time.
const PIECE_BYTES: usize = 1 << 20;
/// How many dumps of one minute have a directory.
const MOST_NAMES: u32 = 1000;

/// What was found on the device, and what became of it.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// There is no dump, or it was recovered before: why there is nothing to do.
    Nothing(String),
    /// A dump is in this folder now.
    Saved {
        folder: PathBuf,
        /// What is known of the cut, if it is not whole.
        cut: Option<String>,
        /// Where it is not what was written.
        damage: Option<String>,
        /// What a person should know besides.
        remarks: Vec<String>,
    },
}

/// Recovers the dump, prints what came of it, and says whether all is well: a dump that was cut short is recovered too.
pub(crate) fn save_raw(device: &Path, folder: &Path) -> Result<(), Failure> {
    match recover(device, folder)? {
        Outcome::Nothing(why) => say!("{}: nothing to recover: {why}", device.display()),
        Outcome::Saved {
            folder,
            cut,
            damage,
            remarks,
        } => {
            for remark in remarks {
                say!("{}: {remark}", device.display());
            }
            let (what, why) = match (cut, damage) {
                (None, None) => ("complete", None),
                (None, damage) => ("DAMAGED", damage),
                (Some(cut), None) => ("INCOMPLETE", Some(cut)),
                (Some(cut), Some(damage)) => ("INCOMPLETE", Some(format!("{cut}; {damage}"))),
            };
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            say!(
                "{}: {what} dump saved to {}{why}",
                device.display(),
                folder.display()
            );
        }
    }
    Ok(())
}

/// How much of what is on the device is a dump.
struct Extent {
    control: Option<Control>,
    bytes: u64,
    name: String,
    cut: Option<String>,
}

fn recover(device: &Path, folder: &Path) -> Result<Outcome, Failure> {
    let mut source = FileSource::open(device)?;
    let extent = match measure(&mut source, device)? {
        Ok(extent) => extent,
        Err(nothing) => return Ok(Outcome::Nothing(nothing)),
    };
    let place = make_folder(folder, &extent.name)?;
    let mut remarks = Vec::new();
    if let Some(control) = &extent.control {
        for part in Part::ALL {
            match save_part(&mut source, control, part, &place) {
                Ok(true) => {}
                Ok(false) => remarks.push(format!("{} is not there", part.name())),
                Err(PartError::Damaged) => {
                    remarks.push(format!("{} is damaged: left out", part.name()));
                }
                Err(PartError::Write(failure)) => return Err(failure),
            }
        }
    }
    let mut damage = None;
    if extent.bytes > 0 {
        let written = sums(&mut source, &extent, &mut remarks);
        let (found, stem) = save_dump(&mut source, &extent, &place)?;
        damage = written.and_then(|written| told_damage(&written, &found, extent.bytes));
        if extent.cut.is_none() {
            name_dump(&place, stem, damage.is_some())?;
        }
    }
    sync_folder(&place)?;
    // Everything is where it is safe: only now may the next dump have the device.
    if let Some(control) = &extent.control {
        mark_saved(&mut source, device, control)?;
    }
    Ok(Outcome::Saved {
        folder: place,
        cut: extent.cut,
        damage,
        remarks,
    })
}

/// What the dumpfile's checksums were when it was written; a remark where nobody knows.
fn sums(source: &mut FileSource, extent: &Extent, remarks: &mut Vec<String>) -> Option<Sums> {
    let control = extent.control.as_ref()?;
    match raw::read_sums(source, control) {
        Ok(None) if extent.cut.is_none() => {
            remarks.push(
                "the dump has no checksums, so that nobody can tell whether it is what was written"
                    .to_owned(),
            );
            None
        }
        Ok(sums) => sums,
        Err(error) => {
            remarks.push(format!("the dump is not checked: {error}"));
            None
        }
    }
}

/// Where the dumpfile is not what was written.
fn told_damage(written: &Sums, found: &Sums, bytes: u64) -> Option<String> {
    let ranges: Vec<String> = written
        .differences(found, bytes)
        .map(|range| format!("{} to {}", range.start, range.end.saturating_sub(1)))
        .collect();
    (!ranges.is_empty()).then(|| {
        format!(
            "bytes {} are not what was written, or some of them; pages elsewhere are sound",
            ranges.join(", ")
        )
    })
}

/// What there is to be recovered, or why there is nothing.
fn measure(source: &mut FileSource, device: &Path) -> Result<Result<Extent, String>, Failure> {
    let unreadable =
        |error: IoError| Failure::from(format!("{}: reading it: {error}", device.display()));
    let why = match raw::read_control(source) {
        Ok(control) if control.is_saved => {
            return Ok(Err(format!(
                "the dump of {} was recovered before",
                control.name
            )));
        }
        Ok(control) => {
            let cut = (control.state != State::Complete).then(|| {
                format!(
                    "it was {}, and has {} bytes",
                    control.state, control.dump_bytes
                )
            });
            return Ok(Ok(Extent {
                bytes: control.dump_bytes,
                name: control.name.as_str().to_owned(),
                cut,
                control: Some(control),
            }));
        }
        Err(ControlError::Io(error)) => return Err(unreadable(error)),
        Err(error) => error.to_string(),
    };
    // Another program's dump, or one whose end nobody knows any more.
    let mut magic = [0; 8];
    if source.size_bytes() >= 8 {
        source.read_at(0, &mut magic).map_err(unreadable)?;
    }
    let begins = [&b"KDUMP   "[..], b"\x7fELF", &age::SIGNATURE[..8]];
    if !begins.iter().any(|known| magic.starts_with(known)) {
        return Ok(Err(why));
    }
    let bytes = raw::area_start(source.size_bytes()).unwrap_or(source.size_bytes());
    Ok(Ok(Extent {
        control: None,
        bytes,
        name: "recovered".to_owned(),
        cut: Some(format!(
            "{why}, so that where the dump ends is not known; all {bytes} bytes before it are there, and the device is left as \
             it is"
        )),
    }))
}

/// A new folder for one dump, for its owner's eyes.
fn make_folder(folder: &Path, name: &str) -> Result<PathBuf, Failure> {
    let failed = |path: &Path, error: &io::Error| {
        Failure::from(format!("making the folder {}: {error}", path.display()))
    };
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    for number in 0..MOST_NAMES {
        let path = match number {
            0 => folder.join(name),
            _ => folder.join(format!("{name}.{number}")),
        };
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&path, &error)),
        }
    }
    Err(Failure::from(format!(
        "{} has {MOST_NAMES} dumps of {name}; name another folder",
        folder.display()
    )))
}

enum PartError {
    /// What is on the device is not what was written.
    Damaged,
    Write(Failure),
}

/// Saves a small file, and says whether there is one. What is damaged leaves no file.
fn save_part(
    source: &mut FileSource,
    control: &Control,
    part: Part,
    place: &Path,
) -> Result<bool, PartError> {
    let stored = control.part(part);
    let start = raw::area_start(control.device_bytes).unwrap_or(0);
    if stored.bytes == 0 {
        return Ok(false);
    }
    // A part has less than 1 MiB, whatever the control block says.
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    let crc = raw::read_part(
        source,
        start,
        part,
        stored.bytes,
        &mut buffer,
        &mut |piece| {
            text.extend_from_slice(piece);
            Ok(())
        },
    );
    if crc != Ok(stored.crc) {
        return Err(PartError::Damaged);
    }
    let file = place.join(format!("{}{}", part.name(), suffix(&text)));
    create(&file, false)
        .map_err(Failure::from)
        .and_then(|out| {
            out.write_all_at(&text, 0)
                .and_then(|()| out.sync_all())
                .map_err(|error| in_path(&file, &error))
        })
        .map_err(PartError::Write)?;
    Ok(true)
}

/// What is added to the name of a file that begins so.
fn suffix(start: &[u8]) -> &'static str {
    if start.starts_with(age::SIGNATURE) {
        age::SUFFIX
    } else {
        ""
    }
}

/// Copies the dumpfile, leaving out blocks of zeros, syncs it, and returns the checksums of what was read, and its name.
fn save_dump(
    source: &mut FileSource,
    extent: &Extent,
    place: &Path,
) -> Result<(Sums, &'static str), Failure> {
    let bytes = extent.bytes;
    let mut start = [0; age::SIGNATURE.len()];
    let is_encrypted = source.read_at(0, &mut start).is_ok() && !suffix(&start).is_empty();
    let stem = if is_encrypted { ENCRYPTED } else { PLAIN };
    let file = place.join(format!("{stem}{INCOMPLETE}"));
    let out = create(&file, false)?;
    let mut sums = Sums::new(raw::area_start(source.size_bytes()).unwrap_or(bytes));
    let mut piece = vec![0; PIECE_BYTES];
    let mut unreadable = 0_u64;
    let mut offset = 0;
    while offset < bytes {
        let length = PIECE_BYTES.min(usize::try_from(bytes - offset).unwrap_or(PIECE_BYTES));
        let data = &mut piece[..length];
        if let Err(error) = source.read_at(offset, data) {
            if extent.cut.is_none() {
                return Err(Failure::from(format!(
                    "reading the dump at byte {offset}: {error}; nothing was erased, and what there is of it is in {}",
                    file.display()
                )));
            }
            // Of a dump that is cut anyway, the rest is worth having.
            unreadable += length as u64;
        } else if data.iter().any(|&byte| byte != 0) {
            sums.add(offset, data);
            out.write_all_at(data, offset)
                .map_err(|error| in_path(&file, &error))?;
        }
        offset += length as u64;
    }
    out.set_len(bytes)
        .and_then(|()| out.sync_all())
        .map_err(|error| in_path(&file, &error))?;
    if unreadable > 0 {
        eprintln!(
            "{}: {unreadable} bytes could not be read, and are zeros",
            file.display()
        );
    }
    Ok((sums, stem))
}

/// Gives a whole dumpfile its name: what is damaged says so by it.
fn name_dump(place: &Path, stem: &str, is_damaged: bool) -> Result<(), Failure> {
    let ending = if is_damaged { "-damaged" } else { "" };
    let named = place.join(format!("{stem}{ending}"));
    fs::rename(place.join(format!("{stem}{INCOMPLETE}")), &named)
        .map_err(|error| in_path(&named, &error))
}

fn sync_folder(place: &Path) -> Result<(), Failure> {
    let above = place.parent().unwrap_or(Path::new("/"));
    for folder in [place, above] {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| in_path(folder, &error))?;
    }
    Ok(())
}

/// Lets the next dump have the device. Where another one came in the meantime, it is that one's.
fn mark_saved(source: &mut FileSource, device: &Path, control: &Control) -> Result<(), Failure> {
    if raw::read_control(source).as_ref() != Ok(control) {
        return Err(Failure::from(format!(
            "{}: another dump was begun while this one was copied; the copy may be of both",
            device.display()
        )));
    }
    let start = raw::area_start(control.device_bytes).unwrap_or(u64::MAX);
    let mut saved = control.clone();
    saved.is_saved = true;
    OpenOptions::new()
        .write(true)
        .open(device)
        .and_then(|file| {
            file.write_all_at(&saved.encode(), start)?;
            file.sync_all()
        })
        .map_err(|error| {
            Failure::from(format!(
                "{}: the dump is safe, but the device cannot be marked so: {}",
                device.display(),
                io_error(&error)
            ))
        })
}

fn in_path(path: &Path, error: &io::Error) -> Failure {
    Failure::from(format!("{}: {error}", path.display()))
}
