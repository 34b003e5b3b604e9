// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which build of init goes into an image: the smallest that reaches every target of the plan.

use crate::error::Mistake;
use config::Record;
use config::build::{Build, KIND, OWNER, SECTION};
use config::record::VERSION;
use object::Endianness;
use object::elf::{FileHeader64, NoteType};
use object::read::elf::{FileHeader as _, SectionHeader as _};
use std::fs;
use std::path::{Path, PathBuf};

/// The builds, the smallest first.
const BUILDS: [&str; 3] = ["init-local", "init-nfs", "init"];

/// The bytes of the init for `record`: the file `place`, or the smallest in the folder `place` that has what is needed.
///
/// # Errors
/// There is none, or it cannot do what the record asks for.
pub fn choose(place: &Path, record: &Record<'_>) -> Result<Vec<u8>, Mistake> {
    if !place.is_dir() {
        return fitting(place, record);
    }
    let there: Vec<PathBuf> = BUILDS
        .iter()
        .map(|name| place.join(name))
        .filter(|file| file.exists())
        .collect();
    let mut last = Mistake::new(format!(
        "{} has no init; name one, or the folder that it is in, by --init",
        place.display()
    ));
    for file in there {
        match fitting(&file, record) {
            Ok(bytes) => return Ok(bytes),
            Err(mistake) => last = mistake,
        }
    }
    Err(last)
}

/// Reads a build of init, and checks that it can follow the record.
fn fitting(file: &Path, record: &Record<'_>) -> Result<Vec<u8>, Mistake> {
    let name = file.display();
    let bytes = fs::read(file).map_err(|error| {
        Mistake::new(format!(
            "reading {name}: {error}; name the init binary by --init"
        ))
    })?;
    let Some(build) = build_of(&bytes) else {
        return Err(Mistake::new(format!(
            "{name} is no init of kdumprd: it has no note that says what it can do"
        )));
    };
    if build.record_version != VERSION {
        return Err(Mistake::new(format!(
            "{name} reads records of version {}, and this mkkdumprd writes version {VERSION}; take both from one package",
            build.record_version
        )));
    }
    for attempt in &record.attempts {
        if !build.reaches(&attempt.target) {
            return Err(Mistake::new(format!(
                "{name} was built without the way to {}; name a complete init by --init",
                attempt.target
            )));
        }
    }
    if !record.encrypt_to.is_empty() && !build.encrypts {
        return Err(Mistake::new(format!(
            "{name} was built without encryption, which `encrypt_to` asks for; name a complete init by --init"
        )));
    }
    if !record.fence.nodes.is_empty() && !build.has_network() {
        return Err(Mistake::new(format!(
            "{name} was built without the network, by which `fence_kdump_nodes` are told; name a complete init by --init"
        )));
    }
    Ok(bytes)
}

/// What an ELF file says of itself in its note.
fn build_of(bytes: &[u8]) -> Option<Build> {
    let header = FileHeader64::<Endianness>::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, bytes).ok()?;
    let (_, section) = sections.section_by_name(endian, SECTION.as_bytes())?;
    let mut notes = section.notes(endian, bytes).ok()??;
    while let Ok(Some(note)) = notes.next() {
        if note.name_bytes() == OWNER && note.n_type(endian) == NoteType(KIND) {
            return Build::from_description(note.desc());
        }
    }
    None
}
