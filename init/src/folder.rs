// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directory of one dump, wherever it is: what an attempt asks of it.
#![expect(
    clippy::result_large_err,
    reason = "a reason has no heap to lie on, and an attempt has one of them"
)]

use crate::attempt::{Place, Reason, reason};
use crate::log;
use collector::flattened::{Append, Flattened};
use collector::raw::Part;
use collector::{IoError, Sink};
use core::cell::Cell;
use core::fmt::Write as _;
use targets::Text;
use targets::filesystem::{Directory, FileSink};
use targets::raw::{Raw, RawFile};
use targets::ssh::{Means, RemoteDirectory, RemoteFile, Server, Stream};

/// The directory of one dump.
pub trait Folder {
    /// A file that is being written under its incomplete name.
    type File: Sink;

    /// Where it is.
    fn path(&self) -> &Text<255>;

    /// What the dumpfile is called.
    fn dump_name(&self) -> &'static str {
        "vmcore"
    }

    /// Where the dumpfile of this name is when it is complete.
    fn place(&self, name: &str) -> Place {
        let mut place = Place::new();
        let _ = write!(place, "{}/{name}", self.path());
        place
    }

    /// Where it is when it was left incomplete.
    fn incomplete_place(&self, name: &str) -> Place {
        let mut place = Place::new();
        let _ = write!(place, "in {}/{name}-incomplete", self.path());
        place
    }

    /// How many bytes of a small file have a place, where not every one has; of a longer one the end is kept.
    fn room_bytes(&self, _name: &str) -> Option<u64> {
        None
    }

    /// Several files can be open, and written anywhere.
    fn is_random_access(&self) -> bool {
        true
    }

    /// Creates the file `name` under its incomplete name.
    ///
    /// # Errors
    /// What stands in the way.
    fn create(&self, name: &str) -> Result<Self::File, Reason>;

    /// Makes the file complete: synced, then under its name.
    ///
    /// # Errors
    /// What stands in the way.
    fn publish(&self, file: Self::File) -> Result<(), Reason>;

    /// Another program wrote the dumpfile.
    fn was_written_by_another(_file: &mut Self::File) {}

    /// Leaves the dumpfile as far as it got: on the disk, and known as incomplete.
    ///
    /// # Errors
    /// What stands in the way.
    fn leave(file: &mut Self::File) -> Result<(), IoError> {
        file.sync()
    }

    /// Throws away what was written.
    ///
    /// # Errors
    /// What stands in the way.
    fn restart(file: &mut Self::File) -> Result<(), IoError>;

    /// Cuts the file to its first `size_bytes`.
    ///
    /// # Errors
    /// What stands in the way.
    fn cut(file: &mut Self::File, size_bytes: u64) -> Result<(), IoError>;

    /// Removes the oldest dumps beside this one until `dumps` are left with it. Where dumps do not lie beside each other
    /// nothing is removed.
    ///
    /// # Errors
    /// What stands in the way.
    fn keep_newest(&self, _dumps: u32, _tick: &mut dyn FnMut()) -> Result<(), Reason> {
        Ok(())
    }

    /// What is known of the last error besides its number.
    fn explanation(&self) -> Option<Reason> {
        None
    }
}

impl Folder for Directory<'_> {
    type File = FileSink;

    fn path(&self) -> &Text<255> {
        self.path()
    }

    fn create(&self, name: &str) -> Result<FileSink, Reason> {
        self.create(name).map_err(reason)
    }

    fn publish(&self, file: FileSink) -> Result<(), Reason> {
        self.publish(file).map_err(reason)
    }

    fn restart(file: &mut FileSink) -> Result<(), IoError> {
        file.restart()
    }

    fn cut(file: &mut FileSink, size_bytes: u64) -> Result<(), IoError> {
        file.cut(size_bytes)
    }

    fn keep_newest(&self, dumps: u32, tick: &mut dyn FnMut()) -> Result<(), Reason> {
        self.keep_newest(dumps, tick, &mut |line| log!("{line}"))
            .map_err(reason)
    }
}

/// A block device that has one dump and no directory.
///
/// It begins with its first file, so that what goes before can still spare what is on it.
pub struct Device<'r> {
    raw: &'r Raw,
    name: &'r str,
    has_begun: Cell<bool>,
}

impl<'r> Device<'r> {
    /// The dump of this name on `raw`.
    pub const fn new(raw: &'r Raw, name: &'r str) -> Self {
        Self {
            raw,
            name,
            has_begun: Cell::new(false),
        }
    }
}

impl<'r> Folder for Device<'r> {
    type File = RawFile<'r>;

    fn path(&self) -> &Text<255> {
        self.raw.path()
    }

    fn place(&self, _name: &str) -> Place {
        let mut place = Place::new();
        let _ = write!(place, "{}", self.path());
        place
    }

    fn room_bytes(&self, name: &str) -> Option<u64> {
        Some(Part::from_name(name)?.room_bytes())
    }

    fn incomplete_place(&self, _name: &str) -> Place {
        let mut place = Place::new();
        let _ = write!(place, "on {}, marked as cut short", self.path());
        place
    }

    fn create(&self, name: &str) -> Result<RawFile<'r>, Reason> {
        if !self.has_begun.replace(true) {
            self.raw.begin(self.name).map_err(reason)?;
        }
        // Whatever is done to a file, it has the same place.
        let name = name.strip_suffix(age::SUFFIX).unwrap_or(name);
        self.raw.create(name).map_err(reason)
    }

    fn publish(&self, file: RawFile<'r>) -> Result<(), Reason> {
        file.publish().map_err(reason)
    }

    fn was_written_by_another(file: &mut RawFile<'r>) {
        file.fill();
    }

    fn leave(file: &mut RawFile<'r>) -> Result<(), IoError> {
        file.leave()
    }

    fn restart(file: &mut RawFile<'r>) -> Result<(), IoError> {
        file.restart()
    }

    fn cut(file: &mut RawFile<'r>, size_bytes: u64) -> Result<(), IoError> {
        file.cut(size_bytes);
        Ok(())
    }
}

/// The directory of one dump on a server.
pub struct Remote<'s, 'b, S> {
    server: &'s Server<'b, S>,
    directory: RemoteDirectory<'s, 'b, S>,
}

impl<'s, 'b, S: Stream> Remote<'s, 'b, S> {
    /// `directory`, which is one of `server`.
    pub const fn new(server: &'s Server<'b, S>, directory: RemoteDirectory<'s, 'b, S>) -> Self {
        Self { server, directory }
    }
}

/// A file on a server.
pub enum RemoteSink<'s, 'b, S: Stream> {
    /// As it is.
    Plain(RemoteFile<'s, 'b, S>),
    /// A dumpfile where nothing can be written but at the end.
    Flat(Flattened<Tail<'s, 'b, S>>),
}

/// The end of a file that is only appended to.
pub struct Tail<'s, 'b, S>(RemoteFile<'s, 'b, S>);

impl<S: Stream> Append for Tail<'_, '_, S> {
    fn append(&mut self, data: &[u8]) -> Result<(), IoError> {
        let end = self.0.end();
        self.0.write_at(end, data)
    }

    fn sync(&mut self) -> Result<(), IoError> {
        self.0.sync()
    }
}

impl<S: Stream> Sink for RemoteSink<'_, '_, S> {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        match self {
            Self::Plain(file) => file.write_at(offset, data),
            Self::Flat(file) => file.write_at(offset, data),
        }
    }

    fn sync(&mut self) -> Result<(), IoError> {
        match self {
            Self::Plain(file) => file.sync(),
            Self::Flat(file) => file.sync(),
        }
    }
}

/// The dumpfile of a folder whose files are only appended to.
const FLAT: &str = "vmcore.flat";

impl<'s, 'b, S: Stream> Folder for Remote<'s, 'b, S> {
    type File = RemoteSink<'s, 'b, S>;

    fn path(&self) -> &Text<255> {
        self.directory.path()
    }

    fn dump_name(&self) -> &'static str {
        if self.is_random_access() {
            "vmcore"
        } else {
            FLAT
        }
    }

    fn is_random_access(&self) -> bool {
        self.server.means() != Means::Command
    }

    fn create(&self, name: &str) -> Result<Self::File, Reason> {
        let file = self.directory.create(name).map_err(reason)?;
        Ok(if name == FLAT {
            RemoteSink::Flat(Flattened::new(Tail(file)))
        } else {
            RemoteSink::Plain(file)
        })
    }

    fn publish(&self, file: Self::File) -> Result<(), Reason> {
        let file = match file {
            RemoteSink::Plain(file) => file,
            RemoteSink::Flat(mut file) => {
                file.finish().map_err(reason)?;
                file.into_inner().0
            }
        };
        self.directory.publish(file).map_err(reason)
    }

    fn restart(file: &mut Self::File) -> Result<(), IoError> {
        match file {
            RemoteSink::Plain(file) => file.restart(),
            RemoteSink::Flat(_) => Err(IoError(95)),
        }
    }

    fn cut(file: &mut Self::File, size_bytes: u64) -> Result<(), IoError> {
        match file {
            RemoteSink::Plain(file) => file.cut(size_bytes),
            RemoteSink::Flat(_) => Err(IoError(95)),
        }
    }

    fn explanation(&self) -> Option<Reason> {
        self.server.last_error().map(reason)
    }
}
