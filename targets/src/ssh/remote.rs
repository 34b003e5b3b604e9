// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that keeps dumps: a directory made for one, and files that get their names when they are complete.
#![expect(
    clippy::result_large_err,
    reason = "a name in an error has no heap to lie on, and a connection has one of them"
)]

use super::algorithms::Offer;
use super::auth;
use super::channel::{Channel, INBOX_BYTES, Program};
use super::command::{self, Verb};
use super::error::SshError;
use super::key_file::UserKey;
use super::public_key::PublicKey;
use super::random::Random;
use super::sftp::{self, Kind, Sftp};
use super::stream::Stream;
use super::transport::{INPUT_BYTES, Limits, OUTPUT_BYTES, Transport};
use crate::text::{Name, Text};
use collector::{IoError, Sink};
use core::cell::RefCell;
use core::fmt;
use packet_cipher::CipherKind;

/// What a file is called until it is complete.
const INCOMPLETE: &str = "-incomplete";
/// How many dumps of one minute are kept apart.
const MAX_SAME_DATE: u32 = 999;
/// How many directories a save path may have above each other.
const MAX_DEPTH: usize = 64;
/// What a command says when a name is taken.
const TAKEN: u32 = 17;

/// The memory that a connection takes, whatever goes through it.
pub const MEMORY_BYTES: usize = INPUT_BYTES + OUTPUT_BYTES + INBOX_BYTES;

/// Who goes where, and whom to believe.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The user's name on the server.
    pub user: &'a str,
    /// The user's key.
    pub key: &'a UserKey,
    /// The keys of which the server must have one.
    pub pinned: &'a [PublicKey],
    /// How long to wait.
    pub limits: Limits,
    /// The name of the only cipher to offer; none for all.
    pub cipher: Option<&'a str>,
}

/// What went wrong, with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteError {
    /// The file or directory on the server; empty for the connection.
    pub name: Name,
    /// What went wrong.
    pub error: SshError,
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            write!(f, "{}: ", self.name)?;
        }
        write!(f, "{}", self.error)
    }
}

impl core::error::Error for RemoteError {}

fn about(name: &str) -> impl Fn(SshError) -> RemoteError {
    let name = Name::new(name.as_bytes());
    move |error| RemoteError { name, error }
}

/// How files get to the server.
#[expect(
    clippy::large_enum_variant,
    reason = "there is no heap, and one of them"
)]
enum Way<'b, S> {
    Sftp(Sftp<'b, S>),
    Command(Channel<'b, S>),
}

/// How a server takes files, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// SFTP: a file can be written anywhere.
    Sftp {
        /// The server says when a file is on its disk.
        syncs: bool,
    },
    /// A command that takes a file from its start to its end; one at a time.
    Command,
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sftp { syncs: true } => "SFTP",
            Self::Sftp { syncs: false } => {
                "SFTP, but the server cannot say when a file is on its disk"
            }
            Self::Command => "cat, as there is no SFTP",
        })
    }
}

/// A connection to a server, ready to take files.
pub struct Server<'b, S> {
    way: RefCell<Way<'b, S>>,
    means: Means,
    last: RefCell<Option<SshError>>,
}

impl<'b, S: Stream> Server<'b, S> {
    /// Logs in over `stream`, and finds out how files get there. `memory` has [`MEMORY_BYTES`].
    ///
    /// # Errors
    /// [`SshError`].
    pub fn open(
        stream: S,
        login: &Login<'b>,
        random: &'b mut Random,
        memory: &'b mut [u8],
    ) -> Result<Self, SshError> {
        Self::over(stream, login, random, memory, |transport| {
            transport.begin()?;
            auth::authenticate(transport, login.user, login.key)
        })
    }

    /// The same, with another way to get in.
    pub(super) fn over(
        stream: S,
        login: &Login<'b>,
        random: &'b mut Random,
        memory: &'b mut [u8],
        get_in: impl FnOnce(&mut Transport<'b, S>) -> Result<(), SshError>,
    ) -> Result<Self, SshError> {
        let too_small = SshError::TooLong("what a connection needs");
        let cipher = match login.cipher {
            Some(name) => Some(CipherKind::by_name(name).ok_or(too_small)?),
            None => None,
        };
        let (input, memory) = memory.split_at_mut_checked(INPUT_BYTES).ok_or(too_small)?;
        let (output, inbox) = memory.split_at_mut_checked(OUTPUT_BYTES).ok_or(too_small)?;
        let inbox = inbox.get_mut(..INBOX_BYTES).ok_or(too_small)?;
        let offer = Offer {
            pinned: login.pinned,
            cipher,
        };
        let mut transport = Transport::new(stream, offer, random, login.limits, input, output);
        get_in(&mut transport)?;
        let mut channel = Channel::new(transport, inbox);
        let way = if channel.open(Program::Subsystem("sftp"))? {
            match Sftp::begin(channel) {
                Ok(sftp) => Way::Sftp(sftp),
                // Something answers that is not SFTP: a command that the server forces.
                Err((SshError::Protocol(_) | SshError::Refused(..), mut channel)) => {
                    channel.close()?;
                    Way::Command(channel)
                }
                Err((error, _)) => return Err(error),
            }
        } else {
            channel.close()?;
            Way::Command(channel)
        };
        let means = match &way {
            Way::Sftp(sftp) => Means::Sftp {
                syncs: sftp.extensions.fsync,
            },
            Way::Command(_) => Means::Command,
        };
        Ok(Self {
            way: RefCell::new(way),
            means,
            last: RefCell::new(None),
        })
    }

    /// How files get there.
    #[must_use]
    pub const fn means(&self) -> Means {
        self.means
    }

    /// The last error of a sink, which could only give its number.
    #[must_use]
    pub fn last_error(&self) -> Option<SshError> {
        *self.last.borrow()
    }

    /// How much room the user has at `path`; none where the server cannot say.
    #[must_use]
    pub fn free_bytes(&self, path: &str) -> Option<u64> {
        match &mut *self.way.borrow_mut() {
            Way::Sftp(sftp) => sftp.room(path).ok().flatten().map(|room| room.bytes),
            Way::Command(_) => None,
        }
    }

    /// Makes the directory `name` in `path`, and `path` where it is missing. Where it is there already it gets `.1`, `.2`,
    /// …: an old dump is never touched.
    ///
    /// # Errors
    /// What the server said.
    pub fn directory(
        &self,
        path: &str,
        name: &str,
    ) -> Result<RemoteDirectory<'_, 'b, S>, RemoteError> {
        let path = match path.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        let mut way = self.way.borrow_mut();
        if let Way::Sftp(sftp) = &mut *way {
            make_path(sftp, path)?;
        }
        for number in 0..=MAX_SAME_DATE {
            let own: Text<120> = if number == 0 {
                Text::new(name.as_bytes())
            } else {
                Text::format(format_args!("{name}.{number}"))
            };
            let own_name = own.as_str().unwrap_or_default();
            let whole: Text<255> =
                Text::format(format_args!("{}/{own_name}", path.trim_end_matches('/')));
            let whole_name = whole.as_str().unwrap_or_default();
            let failed = about(whole_name);
            if own.is_cut() || whole.is_cut() || own_name.is_empty() || own_name.contains('/') {
                return Err(failed(SshError::TooLong("the name of the directory")));
            }
            let made = match &mut *way {
                Way::Sftp(sftp) => {
                    make_new(sftp, whole_name).map_err(|error| sftp.explained(error, path))
                }
                Way::Command(channel) => {
                    match command::run(channel, &Verb::MakeDirectory, path, own_name, "") {
                        Err(SshError::Command(_, TAKEN, _)) => Ok(false),
                        result => result.map(|()| true),
                    }
                }
            };
            if made.map_err(failed)? {
                return Ok(RemoteDirectory {
                    server: self,
                    parent: Text::new(path.as_bytes()),
                    name: own,
                    path: whole,
                });
            }
        }
        Err(about(name)(SshError::TooLong(
            "the list of dumps of this minute",
        )))
    }

    /// Ends the connection.
    pub fn close(self) {
        match self.way.into_inner() {
            Way::Sftp(mut sftp) => sftp.channel.disconnect(),
            Way::Command(mut channel) => channel.disconnect(),
        }
    }
}

/// Makes what is missing of the save path.
fn make_path<S: Stream>(sftp: &mut Sftp<'_, S>, path: &str) -> Result<(), RemoteError> {
    // Mostly all of it is there, and the user may not be allowed to look further up.
    if sftp.kind_of(path, true).map_err(about(path))? == Kind::Directory {
        return Ok(());
    }
    let ends = path
        .match_indices('/')
        .map(|(position, _)| position)
        .chain([path.len()]);
    for end in ends.filter(|&end| end > 0).take(MAX_DEPTH) {
        let part = path.get(..end).unwrap_or(path);
        let failed = about(part);
        match sftp.make_directory(part) {
            Ok(()) => {}
            Err(error @ SshError::Sftp(..)) => {
                // A link that leads in a circle is an error to some servers, and nothing to others.
                if sftp.kind_of(part, true) == Ok(Kind::Directory) {
                    continue;
                }
                if sftp.kind_of(part, false).map_err(&failed)? != Kind::Nothing {
                    return Err(failed(SshError::NotADirectory));
                }
                let above = part.rsplit_once('/').map_or("", |(above, _)| above);
                let above = if above.is_empty() { "/" } else { above };
                return Err(failed(sftp.explained(error, above)));
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// Makes a directory. False when something has its name.
fn make_new<S: Stream>(sftp: &mut Sftp<'_, S>, path: &str) -> Result<bool, SshError> {
    match sftp.make_directory(path) {
        Ok(()) => Ok(true),
        Err(error @ SshError::Sftp(..)) => {
            if sftp.kind_of(path, false)? == Kind::Nothing {
                Err(error)
            } else {
                Ok(false)
            }
        }
        Err(error) => Err(error),
    }
}

/// The directory of one dump on the server.
pub struct RemoteDirectory<'s, 'b, S> {
    server: &'s Server<'b, S>,
    parent: Text<255>,
    name: Text<120>,
    path: Text<255>,
}

/// A file that is being written under its incomplete name.
pub struct RemoteFile<'s, 'b, S> {
    server: &'s Server<'b, S>,
    directory: Text<255>,
    name: Name,
    /// None when the server takes the file by a command.
    file: Option<sftp::File>,
    /// How much was written, where a file is only appended to.
    end: u64,
}

impl<'s, 'b, S: Stream> RemoteDirectory<'s, 'b, S> {
    /// Where it is on the server.
    #[must_use]
    pub const fn path(&self) -> &Text<255> {
        &self.path
    }

    fn full(&self, name: &str, suffix: &str) -> Result<Text<255>, RemoteError> {
        let full = Text::format(format_args!("{}/{name}{suffix}", self.path));
        if full.is_cut() || name.contains('/') || name.is_empty() {
            return Err(about(name)(SshError::TooLong("the name of the file")));
        }
        Ok(full)
    }

    /// Creates the file `name` under its incomplete name.
    ///
    /// # Errors
    /// What the server said.
    pub fn create(&self, name: &str) -> Result<RemoteFile<'s, 'b, S>, RemoteError> {
        let full = self.full(name, INCOMPLETE)?;
        let failed = about(full.as_str().unwrap_or_default());
        let file = match &mut *self.server.way.borrow_mut() {
            Way::Sftp(sftp) => Some(sftp.create(full.as_str().unwrap_or_default()).map_err(
                |error| failed(sftp.explained(error, self.path.as_str().unwrap_or_default())),
            )?),
            Way::Command(channel) => {
                command::begin(
                    channel,
                    &Verb::Put,
                    self.parent.as_str().unwrap_or_default(),
                    self.name.as_str().unwrap_or_default(),
                    name,
                )
                .map_err(failed)?;
                None
            }
        };
        Ok(RemoteFile {
            server: self.server,
            directory: self.path,
            name: Name::new(name.as_bytes()),
            file,
            end: 0,
        })
    }

    /// Makes the file complete: its data goes to the server's disk, then it gets its name.
    ///
    /// # Errors
    /// What the server said. Before the rename the file keeps its incomplete name.
    pub fn publish(&self, file: RemoteFile<'s, 'b, S>) -> Result<(), RemoteError> {
        let name = file.name;
        let to = self.full(name.as_str().unwrap_or_default(), "")?;
        let to = to.as_str().unwrap_or_default();
        let from = self.full(name.as_str().unwrap_or_default(), INCOMPLETE)?;
        let failed = about(to);
        match (&mut *self.server.way.borrow_mut(), file.file) {
            (Way::Sftp(sftp), Some(file)) => sftp
                .sync(&file)
                .and_then(|()| sftp.rename(from.as_str().unwrap_or_default(), to))
                // The second one takes the new name along, which the first was too early for.
                .and_then(|()| sftp.sync(&file))
                .and_then(|()| sftp.close(file))
                .map_err(|error| {
                    failed(sftp.explained(error, self.path.as_str().unwrap_or_default()))
                }),
            (Way::Command(channel), _) => command::end(channel, &Verb::Put)
                .and_then(|()| {
                    command::run(
                        channel,
                        &Verb::Publish,
                        self.parent.as_str().unwrap_or_default(),
                        self.name.as_str().unwrap_or_default(),
                        name.as_str().unwrap_or_default(),
                    )
                })
                .map_err(failed),
            (Way::Sftp(_), None) => Err(failed(SshError::Protocol("a file of another connection"))),
        }
    }
}

impl<S: Stream> RemoteDirectory<'_, '_, S> {
    /// Reads the small file `name` back, and takes it and the directory away: what a trial of the server leaves. None when
    /// the server only takes files, so that it stays there; else whether it was as `expected`.
    ///
    /// # Errors
    /// What the server said.
    pub fn take_back(&self, name: &str, expected: &[u8]) -> Result<Option<bool>, RemoteError> {
        let full = self.full(name, "")?;
        let file = full.as_str().unwrap_or_default();
        let own = self.path.as_str().unwrap_or_default();
        let Way::Sftp(sftp) = &mut *self.server.way.borrow_mut() else {
            return Ok(None);
        };
        let same = sftp.begins_with(file, expected).map_err(about(file))?;
        sftp.remove(file).map_err(about(file))?;
        sftp.remove_directory(own).map_err(about(own))?;
        Ok(Some(same))
    }
}

impl<S: Stream> RemoteFile<'_, '_, S> {
    /// How much was written, where a file is only appended to.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Does something with the file by SFTP, and keeps the error for those who want more than its number.
    fn by_sftp(
        &self,
        work: impl FnOnce(&mut Sftp<'_, S>, &sftp::File) -> Result<(), SshError>,
    ) -> Result<(), IoError> {
        let mut way = self.server.way.borrow_mut();
        let (Way::Sftp(sftp), Some(file)) = (&mut *way, &self.file) else {
            // One that is only appended to.
            return Err(IoError(95));
        };
        work(sftp, file).map_err(|error| {
            let error = sftp.explained(error, self.directory.as_str().unwrap_or_default());
            *self.server.last.borrow_mut() = Some(error);
            error.into()
        })
    }

    /// Throws away what was written, for another try at a higher dump level.
    ///
    /// # Errors
    /// What the server said; `EOPNOTSUPP` where files are only appended to.
    pub fn restart(&mut self) -> Result<(), IoError> {
        self.by_sftp(|sftp, file| sftp.restart(file))
    }

    /// Cuts the file to its first `size_bytes`.
    ///
    /// # Errors
    /// As [`Self::restart`].
    pub fn cut(&mut self, size_bytes: u64) -> Result<(), IoError> {
        if self.file.is_none() && self.end == size_bytes {
            return Ok(());
        }
        self.by_sftp(|sftp, file| sftp.cut(file, size_bytes))
    }
}

impl<S: Stream> Sink for RemoteFile<'_, '_, S> {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        if self.file.is_some() {
            return self.by_sftp(|sftp, file| sftp.write(file, offset, data));
        }
        if offset != self.end {
            return Err(IoError::INVALID);
        }
        let mut way = self.server.way.borrow_mut();
        let Way::Command(channel) = &mut *way else {
            return Err(IoError::INVALID);
        };
        channel.send(&[], data).map_err(|error| {
            *self.server.last.borrow_mut() = Some(error);
            command::number_of(error)
        })?;
        self.end = self
            .end
            .saturating_add(u64::try_from(data.len()).unwrap_or(0));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), IoError> {
        if self.file.is_some() {
            return self.by_sftp(|sftp, file| sftp.sync(file));
        }
        // A command syncs what it took when it gives it its name.
        match &mut *self.server.way.borrow_mut() {
            Way::Command(channel) => channel.flush().map_err(IoError::from),
            Way::Sftp(_) => Ok(()),
        }
    }
}
