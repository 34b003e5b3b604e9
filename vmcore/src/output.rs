// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a dump goes: a file, standard output as a stream, or nowhere; with a limit to its length.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use collector::flattened::{Append, Flattened};
use collector::{IoError, Sink};

use super::input::io_error;

/// Makes the file, only for the owner's eyes: a dump has everybody's secrets.
pub(crate) fn create(path: &Path, replace: bool) -> Result<File, String> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .create_new(!replace)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("{} exists; -f replaces it", path.display())
            }
            _ => format!("{}: {error}", path.display()),
        })
}

/// Refuses an output that is an input too, under this name or another: it would be emptied before it is read. So would two
/// outputs of one name each spoil the other.
///
/// # Errors
/// Which file it is.
pub(crate) fn check_apart(inputs: &[PathBuf], outputs: &[PathBuf]) -> Result<(), String> {
    // A file that is not there yet is none of the inputs, and one that cannot be opened is told of when it is.
    let place = |path: &PathBuf| fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
    for (index, output) in outputs.iter().enumerate() {
        if outputs.iter().take(index).any(|other| other == output) {
            return Err(format!("{} is given as two outputs", output.display()));
        }
        let Some(here) = place(output) else {
            continue;
        };
        if let Some(input) = inputs.iter().find(|input| place(input) == Some(here)) {
            return Err(format!(
                "{} is {}, which is read: write to another file, and rename that afterwards",
                output.display(),
                input.display()
            ));
        }
    }
    Ok(())
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct Stdout;

impl Append for Stdout {
    fn append(&mut self, data: &[u8]) -> Result<(), IoError> {
        io::stdout()
            .lock()
            .write_all(data)
            .map_err(|error| io_error(&error))
    }

    fn sync(&mut self) -> Result<(), IoError> {
        io::stdout()
            .lock()
            .flush()
            .map_err(|error| io_error(&error))
    }
}

/// The sinks.
#[derive(Debug)]
pub(crate) enum Output {
    File(File),
    Stream(Flattened<Stdout>),
    /// `--dry-run`.
    Nowhere,
}

impl Sink for Output {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        match self {
            Self::File(file) => file
                .write_all_at(data, offset)
                .map_err(|error| io_error(&error)),
            Self::Stream(stream) => stream.write_at(offset, data),
            Self::Nowhere => Ok(()),
        }
    }

    fn sync(&mut self) -> Result<(), IoError> {
        match self {
            // A pipe or a device that knows no sync has what was written.
            Self::File(file) => match file.sync_all() {
                Err(error) if error.raw_os_error() == Some(IoError::INVALID.0) => Ok(()),
                result => result.map_err(|error| io_error(&error)),
            },
            Self::Stream(stream) => stream.sync(),
            Self::Nowhere => Ok(()),
        }
    }

    fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

impl Output {
    /// Empties the file, to begin anew. `false` where that cannot be done.
    pub(crate) fn restart(&mut self) -> bool {
        match self {
            Self::File(file) => file.set_len(0).is_ok(),
            Self::Nowhere => true,
            Self::Stream(_) => false,
        }
    }
}

/// An output that is full at some length: `-L`.
#[derive(Debug)]
pub(crate) struct Limited {
    pub(crate) output: Output,
    pub(crate) limit: Option<u64>,
}

impl Sink for Limited {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        let end = offset.saturating_add(data.len() as u64);
        if self.limit.is_some_and(|limit| end > limit) {
            return Err(IoError::NO_SPACE);
        }
        self.output.write_at(offset, data)
    }

    fn sync(&mut self) -> Result<(), IoError> {
        self.output.sync()
    }

    fn is_stream(&self) -> bool {
        self.output.is_stream()
    }
}
