// SPDX-License-Identifier: MIT OR Apache-2.0
//! `encrypt_to`: what comes from the crashed memory is written for the holders of a key, and for nobody else.
//!
//! Such a file is one stream from its front to its end, so that the dump is a flattened one within it. The manifest stays
//! readable, and has nothing of the crashed kernel.
#![expect(
    clippy::result_large_err,
    reason = "a reason has no heap to lie on, and an attempt has one of them"
)]

pub mod age_stream;

use crate::attempt::{Place, Reason, reason};
use crate::folder::Folder;
use crate::vmcore::VmcoreFile;
use age_stream::AgeStream;
use collector::{IoError, Sink};
use config::Record;
use core::fmt::Write as _;
use heapless::String;

/// The dumpfile of an encrypted dump.
const SEALED_DUMP: &str = "vmcore.flat.age";
/// What the format adds to a small file, more than enough: its header, and a tag for each chunk.
const OVERHEAD_BYTES: u64 = 4096;

/// Encrypts one file after the other.
pub trait Seal {
    /// Begins a file; a dump is flattened in it.
    fn begin(&self, is_dump: bool);

    /// Adds what `offset` means in a dump, and else what comes next.
    ///
    /// # Errors
    /// What the device said. The file ends there, and is readable to its last whole chunk.
    fn write_at(&self, file: &mut dyn Sink, offset: u64, data: &[u8]) -> Result<(), IoError>;

    /// Ends the file; `is_whole` says that it has everything that it was to have.
    ///
    /// # Errors
    /// What the device said.
    fn finish(&self, file: &mut dyn Sink, is_whole: bool) -> Result<(), IoError>;
}

/// Makes a [`Seal`] at `place` for the keys of the record.
pub type Sealer = for<'p, 'm> fn(
    place: &'p mut Option<AgeStream<'m>>,
    record: &Record<'_>,
    vmcore: &mut VmcoreFile,
    memory: &'m mut [u8],
) -> Result<&'p dyn Seal, Reason>;

/// The files of a dump: as they are, or encrypted.
pub struct Files<'s, D> {
    directory: &'s D,
    seal: Option<&'s dyn Seal>,
}

/// A file that is being written.
pub struct Out<'s, F> {
    file: F,
    seal: Option<(&'s dyn Seal, bool)>,
}

impl<F: Sink> Sink for Out<'_, F> {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        match self.seal {
            Some((seal, _)) => seal.write_at(&mut self.file, offset, data),
            None => self.file.write_at(offset, data),
        }
    }

    fn sync(&mut self) -> Result<(), IoError> {
        self.file.sync()
    }

    fn is_stream(&self) -> bool {
        self.seal.is_some() || self.file.is_stream()
    }
}

impl<'s, D: Folder> Files<'s, D> {
    /// The files of `directory`, encrypted where there is a `seal`.
    pub const fn new(directory: &'s D, seal: Option<&'s dyn Seal>) -> Self {
        Self { directory, seal }
    }

    /// What the dumpfile is called.
    pub fn dump_name(&self) -> &'static str {
        match self.seal {
            Some(_) => SEALED_DUMP,
            None => self.directory.dump_name(),
        }
    }

    /// Where it is when it is complete.
    pub fn place(&self) -> Place {
        self.directory.place(self.dump_name())
    }

    /// Creates the dumpfile under its incomplete name.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn create_dump(&self) -> Result<Out<'s, D::File>, Reason> {
        self.open(self.dump_name(), true)
    }

    /// Creates a small file of the crashed kernel's, or of what was said about it, likewise.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn create(&self, name: &str) -> Result<Out<'s, D::File>, Reason> {
        self.open(&self.name(name), false)
    }

    /// What a small file is called.
    pub fn name(&self, plain: &str) -> String<32> {
        let mut name = String::new();
        let suffix = match self.seal {
            Some(_) => age::SUFFIX,
            None => "",
        };
        let _ = write!(name, "{plain}{suffix}");
        name
    }

    /// The most that an encrypted small file can have, where it must not be longer than its place: it cannot be cut at its
    /// front, as one that anybody can read.
    pub fn most_bytes(&self, plain: &str) -> Option<u64> {
        self.seal?;
        let room = self.directory.room_bytes(plain)?;
        Some(room.saturating_sub(OVERHEAD_BYTES))
    }

    fn open(&self, name: &str, is_dump: bool) -> Result<Out<'s, D::File>, Reason> {
        let file = self.directory.create(name)?;
        if let Some(seal) = self.seal {
            seal.begin(is_dump);
        }
        Ok(Out {
            file,
            seal: self.seal.map(|seal| (seal, is_dump)),
        })
    }

    /// Makes the file complete: synced, then under its name.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn publish(&self, mut out: Out<'s, D::File>) -> Result<(), Reason> {
        if let Some((seal, _)) = out.seal {
            seal.finish(&mut out.file, true).map_err(reason)?;
        }
        self.directory.publish(out.file)
    }

    /// Throws away what was written.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn restart(out: &mut Out<'s, D::File>) -> Result<(), IoError> {
        D::restart(&mut out.file)?;
        if let Some((seal, is_dump)) = out.seal {
            seal.begin(is_dump);
        }
        Ok(())
    }

    /// Leaves the file as far as it got.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn leave(out: &mut Out<'s, D::File>) -> Result<(), IoError> {
        if let Some((seal, _)) = out.seal {
            // Where the target is full the last piece of it has no place; what came before is readable.
            let _ = seal.finish(&mut out.file, false);
        }
        D::leave(&mut out.file)
    }

    /// Ends a small file that came to nothing more, and leaves it under its incomplete name.
    pub fn leave_small(out: &mut Out<'s, D::File>) {
        if let Some((seal, _)) = out.seal {
            let _ = seal.finish(&mut out.file, false);
        }
        let _ = out.file.sync();
    }

    /// Another program wrote the dumpfile.
    pub fn was_written_by_another(out: &mut Out<'s, D::File>) {
        D::was_written_by_another(&mut out.file);
    }
}

/// Makes the seal that the record asks for, from the front of `memory`, and returns it with the rest; none where dumps are
/// not encrypted.
///
/// # Errors
/// This init cannot encrypt, or a key is none.
pub fn prepare<'p, 'm>(
    sealer: Option<Sealer>,
    place: &'p mut Option<AgeStream<'m>>,
    record: &Record<'_>,
    vmcore: &mut VmcoreFile,
    memory: &'m mut [u8],
) -> Result<(Option<&'p dyn Seal>, &'m mut [u8]), Reason> {
    if record.encrypt_to.is_empty() {
        return Ok((None, memory));
    }
    let make = sealer.ok_or_else(|| {
        reason("this init was built without encryption; build the image again with one that has it")
    })?;
    let (own, rest) = memory
        .split_at_mut_checked(memory_bytes(record))
        .ok_or_else(|| reason("the memory is too small, a defect of kdumprd"))?;
    let seal = make(place, record, vmcore, own)?;
    Ok((Some(seal), rest))
}

/// How much memory it takes.
#[must_use]
pub fn memory_bytes(record: &Record<'_>) -> usize {
    if record.encrypt_to.is_empty() {
        0
    } else {
        age_stream::MEMORY_BYTES
    }
}
