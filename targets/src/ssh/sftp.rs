// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files on the server by SFTP: made, written at offsets without waiting for each answer, synced, renamed.
//!
//! Source: draft-ietf-secsh-filexfer-02 (version 3, the one that OpenSSH speaks), OpenSSH 9.2 `PROTOCOL` section 4.

use super::channel::Channel;
use super::error::SshError;
use super::stream::Stream;
use super::wire::{Reader, Writer};
use crate::text::Text;
use core::time::Duration;

/// The numbers of messages.
mod kind {
    pub(super) const INIT: u8 = 1;
    pub(super) const VERSION: u8 = 2;
    pub(super) const OPEN: u8 = 3;
    pub(super) const CLOSE: u8 = 4;
    pub(super) const READ: u8 = 5;
    pub(super) const WRITE: u8 = 6;
    pub(super) const LSTAT: u8 = 7;
    pub(super) const FSETSTAT: u8 = 10;
    pub(super) const REMOVE: u8 = 13;
    pub(super) const MKDIR: u8 = 14;
    pub(super) const RMDIR: u8 = 15;
    pub(super) const STAT: u8 = 17;
    pub(super) const RENAME: u8 = 18;
    pub(super) const STATUS: u8 = 101;
    pub(super) const HANDLE: u8 = 102;
    pub(super) const DATA: u8 = 103;
    pub(super) const ATTRS: u8 = 105;
    pub(super) const EXTENDED: u8 = 200;
    pub(super) const EXTENDED_REPLY: u8 = 201;
}

const STATUS_OK: u32 = 0;
const STATUS_NO_SUCH_FILE: u32 = 2;
const STATUS_FAILURE: u32 = 4;
/// `SSH_FXF_READ`.
const READ_ONLY: u32 = 1;
/// `SSH_FXF_WRITE | SSH_FXF_CREAT | SSH_FXF_EXCL`
const WRITE_NEW: u32 = 0x02 | 0x08 | 0x20;
const ATTR_SIZE: u32 = 1;
const ATTR_PERMISSIONS: u32 = 4;
/// The longest answer that is taken.
const MAX_ANSWER_BYTES: usize = 8 << 10;
/// A request without data: a path or two, and what goes with them.
const REQUEST_BYTES: usize = 1200;
/// How many writes may wait for their answers.
const MOST_PENDING: usize = 64;
/// How many files may have a failed write that was not told yet; no more are written at once.
const MOST_FILES: usize = 4;
/// What every server takes in one write. Source: the draft's section 3: packets of 34000 bytes.
const WRITE_BYTES: usize = 32 << 10;
/// More than this makes nothing quicker.
const MAX_WRITE_BYTES: usize = 128 << 10;
/// A file system with less than this is full: it did not take a whole write.
const FULL_BYTES: u64 = 1 << 20;
/// A file system with less than this could be full before the answers to all writes that are under way are here: twice as
/// much as there may be.
#[allow(clippy::as_conversions, reason = "a constant of 24 bits")]
const SCARCE_BYTES: u64 = (2 * MOST_PENDING * MAX_WRITE_BYTES) as u64;

/// A file's handle, as the server names it.
type Handle = heapless::Vec<u8, 256>;

/// What the server can do beyond the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extensions {
    pub(crate) fsync: bool,
    pub(crate) posix_rename: bool,
    pub(crate) statvfs: bool,
    fstatvfs: bool,
    limits: bool,
}

/// What a file system of the server has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// What the user may still write.
    pub(crate) bytes: u64,
    /// No file can be made any more, however much room there is.
    has_no_inodes: bool,
}

/// How much the server had left when it was asked last, and what was written since.
#[derive(Clone, Copy)]
struct Supply {
    bytes: u64,
    since: u64,
}

/// A write without its answer.
#[derive(Clone, Copy)]
struct Pending {
    id: u32,
    file: u32,
}

/// An open file. It is a name for one: everything is done by [`Sftp`].
pub(crate) struct File {
    handle: Handle,
    number: u32,
}

/// SFTP over a channel.
pub(crate) struct Sftp<'b, S> {
    pub(crate) channel: Channel<'b, S>,
    pub(crate) extensions: Extensions,
    id: u32,
    pending: heapless::Vec<Pending, MOST_PENDING>,
    /// The first write of each file that failed, until it is told.
    failed: heapless::Vec<(u32, SshError), MOST_FILES>,
    files: u32,
    write_bytes: usize,
    /// None until the server is asked.
    supply: Option<Supply>,
    /// How long the last message is, which is done with when the next is asked for.
    answered: usize,
}

/// Whether it is there, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nothing,
    Directory,
    Other,
}

impl<'b, S: Stream> Sftp<'b, S> {
    /// Begins on a channel whose program speaks SFTP.
    #[expect(
        clippy::result_large_err,
        reason = "the channel serves for commands next"
    )]
    pub(crate) fn begin(channel: Channel<'b, S>) -> Result<Self, (SshError, Channel<'b, S>)> {
        let mut sftp = Self {
            channel,
            extensions: Extensions::default(),
            id: 0,
            pending: heapless::Vec::new(),
            failed: heapless::Vec::new(),
            files: 0,
            write_bytes: WRITE_BYTES,
            supply: None,
            answered: 0,
        };
        match sftp.start() {
            Ok(()) => Ok(sftp),
            Err(error) => Err((error, sftp.channel)),
        }
    }

    fn start(&mut self) -> Result<(), SshError> {
        self.channel
            .send(&[0, 0, 0, 5, kind::INIT, 0, 0, 0, 3], &[])?;
        let until = self.channel.until();
        let mut reader = Reader(self.message(until)?);
        let version = (reader.u8() == Some(kind::VERSION))
            .then(|| reader.u32())
            .flatten();
        if version.is_none_or(|version| version < 3) {
            return Err(SshError::Protocol("its SFTP is older than version 3"));
        }
        let mut extensions = Extensions::default();
        while let (Some(name), Some(_)) = (reader.string(), reader.string()) {
            match name {
                b"fsync@openssh.com" => extensions.fsync = true,
                b"posix-rename@openssh.com" => extensions.posix_rename = true,
                b"statvfs@openssh.com" => extensions.statvfs = true,
                b"fstatvfs@openssh.com" => extensions.fstatvfs = true,
                b"limits@openssh.com" => extensions.limits = true,
                _ => {}
            }
        }
        self.extensions = extensions;
        if extensions.limits {
            let id = self.request(kind::EXTENDED, |writer| {
                writer.string(b"limits@openssh.com");
            })?;
            let answer = self.answer(id, "asking for limits", |kind, mut reader| {
                (kind == kind::EXTENDED_REPLY).then(|| {
                    let _ = (reader.u64(), reader.u64());
                    reader.u64()
                })
            })?;
            // 0 is no limit.
            if let Some(most) = answer.filter(|&most| most > 0) {
                self.write_bytes = usize::try_from(most)
                    .unwrap_or(usize::MAX)
                    .clamp(1024, MAX_WRITE_BYTES);
            } else {
                self.write_bytes = MAX_WRITE_BYTES;
            }
        }
        Ok(())
    }

    /// The next message: its kind and what follows.
    fn message(&mut self, until: Duration) -> Result<&[u8], SshError> {
        let done = core::mem::take(&mut self.answered);
        self.channel.consume(done)?;
        loop {
            let mut reader = Reader(self.channel.held());
            if let Some(length) = reader.u32() {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length == 0 || length > MAX_ANSWER_BYTES {
                    // A shell's greeting looks like this.
                    return Err(SshError::Protocol("what answers does not speak SFTP"));
                }
                if reader.bytes(length).is_some() {
                    self.answered = length.saturating_add(4);
                    break;
                }
            }
            if !self.channel.more(until)? {
                return Err(SshError::Refused("SFTP", self.channel.words()));
            }
        }
        let message = self.channel.held().get(4..self.answered);
        Ok(message.unwrap_or_default())
    }

    /// Sends a request; its number.
    fn request(&mut self, kind: u8, build: impl FnOnce(&mut Writer<'_>)) -> Result<u32, SshError> {
        self.request_with(kind, build, &[])
    }

    /// The same, with `data` behind it.
    fn request_with(
        &mut self,
        kind: u8,
        build: impl FnOnce(&mut Writer<'_>),
        data: &[u8],
    ) -> Result<u32, SshError> {
        self.id = self.id.wrapping_add(1);
        let id = self.id;
        let mut buf = [0; REQUEST_BYTES];
        let too_long = SshError::TooLong("a path on the server");
        let (length, body) = buf.split_first_chunk_mut::<4>().ok_or(too_long)?;
        let mut writer = Writer::new(body);
        writer.u8(kind);
        writer.u32(id);
        build(&mut writer);
        let used = writer.len().ok_or(too_long)?;
        let whole = used.saturating_add(data.len());
        *length = u32::try_from(whole).map_err(|_| too_long)?.to_be_bytes();
        let head = buf.get(..used.saturating_add(4)).unwrap_or_default();
        self.channel.send(head, data)?;
        Ok(id)
    }

    /// Waits for the answer to request `id`; those to writes are taken on the way.
    ///
    /// `take` gets its kind and values; none from it is an answer that makes no sense. A status other than OK is an error,
    /// and OK is given to `take` too.
    fn answer<T>(
        &mut self,
        id: u32,
        doing: &'static str,
        take: impl FnOnce(u8, Reader<'_>) -> Option<T>,
    ) -> Result<T, SshError> {
        let until = self.channel.until();
        loop {
            let mut reader = Reader(self.message(until)?);
            let (Some(kind), Some(number)) = (reader.u8(), reader.u32()) else {
                return Err(SshError::Protocol("an SFTP answer ends too early"));
            };
            let status = (kind == kind::STATUS).then(|| status(doing, reader));
            if number == id {
                if let Some(Err(error)) = status {
                    return Err(error);
                }
                return take(kind, reader)
                    .ok_or(SshError::Protocol("an SFTP answer of the wrong kind"));
            }
            self.wrote(number, status)?;
        }
    }

    /// Takes the answer to a write.
    fn wrote(&mut self, id: u32, status: Option<Result<(), SshError>>) -> Result<(), SshError> {
        let position = self.pending.iter().position(|pending| pending.id == id);
        let (Some(position), Some(status)) = (position, status) else {
            return Err(SshError::Protocol("an SFTP answer to no request"));
        };
        let pending = self.pending.swap_remove(position);
        match status {
            Ok(()) => self.channel.got_further(),
            Err(error) if self.failed.iter().all(|(file, _)| *file != pending.file) => {
                let failed = (pending.file, error);
                self.failed.push(failed).map_err(|(_, error)| error)?;
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// Waits until at most `most` writes have no answer.
    fn settle(&mut self, most: usize) -> Result<(), SshError> {
        while self.pending.len() > most {
            let until = self.channel.until();
            let mut reader = Reader(self.message(until)?);
            let (Some(kind), Some(number)) = (reader.u8(), reader.u32()) else {
                return Err(SshError::Protocol("an SFTP answer ends too early"));
            };
            let status = (kind == kind::STATUS).then(|| status("writing", reader));
            self.wrote(number, status)?;
        }
        Ok(())
    }

    fn plain(&mut self, id: u32, doing: &'static str) -> Result<(), SshError> {
        self.answer(id, doing, |kind, _| (kind == kind::STATUS).then_some(()))
    }

    /// What is at `path`, a link counting as what it leads to.
    pub(crate) fn kind_of(&mut self, path: &str, follow: bool) -> Result<Kind, SshError> {
        let request = if follow { kind::STAT } else { kind::LSTAT };
        let id = self.request(request, |writer| writer.string(path.as_bytes()))?;
        let answer = self.answer(id, "looking", |kind, mut reader| {
            (kind == kind::ATTRS).then_some(())?;
            let flags = reader.u32()?;
            if flags & ATTR_SIZE != 0 {
                reader.u64()?;
            }
            if flags & 2 != 0 {
                reader.u64()?;
            }
            let mode = if flags & ATTR_PERMISSIONS == 0 {
                0
            } else {
                reader.u32()?
            };
            Some(if mode & 0o170_000 == 0o040_000 {
                Kind::Directory
            } else {
                Kind::Other
            })
        });
        match answer {
            Err(SshError::Sftp(_, STATUS_NO_SUCH_FILE, _)) => Ok(Kind::Nothing),
            other => other,
        }
    }

    /// Makes a directory that nobody else can look into.
    pub(crate) fn make_directory(&mut self, path: &str) -> Result<(), SshError> {
        let id = self.request(kind::MKDIR, |writer| {
            writer.string(path.as_bytes());
            writer.u32(ATTR_PERMISSIONS);
            writer.u32(0o700);
        })?;
        self.plain(id, "making the directory")
    }

    /// Makes a file that nobody else can read, and opens it for writing.
    pub(crate) fn create(&mut self, path: &str) -> Result<File, SshError> {
        let id = self.request(kind::OPEN, |writer| {
            writer.string(path.as_bytes());
            writer.u32(WRITE_NEW);
            writer.u32(ATTR_PERMISSIONS);
            writer.u32(0o600);
        })?;
        let handle = self.answer(id, "making the file", |kind, mut reader| {
            (kind == kind::HANDLE).then_some(())?;
            Handle::from_slice(reader.string()?).ok()
        })?;
        self.files = self.files.wrapping_add(1);
        Ok(File {
            handle,
            number: self.files,
        })
    }

    /// Whether the small file at `path` begins with `expected`.
    pub(crate) fn begins_with(&mut self, path: &str, expected: &[u8]) -> Result<bool, SshError> {
        let id = self.request(kind::OPEN, |writer| {
            writer.string(path.as_bytes());
            writer.u32(READ_ONLY);
            writer.u32(0);
        })?;
        let handle: Handle = self.answer(id, "opening the file", |kind, mut reader| {
            (kind == kind::HANDLE).then_some(())?;
            Handle::from_slice(reader.string()?).ok()
        })?;
        let length = u32::try_from(expected.len()).map_err(|_| SshError::TooLong("the file"))?;
        let id = self.request(kind::READ, |writer| {
            writer.string(&handle);
            writer.u64(0);
            writer.u32(length);
        })?;
        let same = self.answer(id, "reading the file", |kind, mut reader| {
            (kind == kind::DATA).then_some(())?;
            Some(reader.string()? == expected)
        })?;
        let id = self.request(kind::CLOSE, |writer| writer.string(&handle))?;
        self.plain(id, "closing the file")?;
        Ok(same)
    }

    /// Removes a file.
    pub(crate) fn remove(&mut self, path: &str) -> Result<(), SshError> {
        let id = self.request(kind::REMOVE, |writer| writer.string(path.as_bytes()))?;
        self.plain(id, "removing the file")
    }

    /// Removes a directory that has nothing in it.
    pub(crate) fn remove_directory(&mut self, path: &str) -> Result<(), SshError> {
        let id = self.request(kind::RMDIR, |writer| writer.string(path.as_bytes()))?;
        self.plain(id, "removing the directory")
    }

    /// Writes at `offset`. What goes wrong with it may show at a later call, and shows once. Where the server's disk is nearly
    /// full it shows at once: what did not get there can then be left out of what did.
    pub(crate) fn write(
        &mut self,
        file: &File,
        mut offset: u64,
        data: &[u8],
    ) -> Result<(), SshError> {
        for piece in data.chunks(self.write_bytes) {
            let is_scarce = self.is_scarce(file)?;
            self.check(file)?;
            self.settle(MOST_PENDING.saturating_sub(1))?;
            let id = self.request_with(
                kind::WRITE,
                |writer| {
                    writer.string(&file.handle);
                    writer.u64(offset);
                    writer.length(piece.len());
                },
                piece,
            )?;
            let pending = Pending {
                id,
                file: file.number,
            };
            // There is room: `settle` saw to it.
            let _ = self.pending.push(pending);
            let length = u64::try_from(piece.len()).unwrap_or(0);
            offset = offset.saturating_add(length);
            if let Some(supply) = &mut self.supply {
                supply.since = supply.since.saturating_add(length);
            }
            if is_scarce {
                self.settle(0)?;
            } else {
                self.take_answers()?;
            }
        }
        self.check(file)
    }

    /// Whether what is under way could fill the server's disk. The server is asked each time that half of what it had is
    /// used up.
    fn is_scarce(&mut self, file: &File) -> Result<bool, SshError> {
        let bytes = match self.supply {
            Some(supply) if supply.bytes < SCARCE_BYTES || supply.since < supply.bytes / 2 => {
                supply.bytes
            }
            _ => {
                let room = self.room_of(file)?;
                let bytes = room.map_or(u64::MAX, |room| room.bytes);
                self.supply = Some(Supply { bytes, since: 0 });
                bytes
            }
        };
        Ok(bytes < SCARCE_BYTES)
    }

    /// Takes the answers that are there already, without waiting.
    fn take_answers(&mut self) -> Result<(), SshError> {
        loop {
            let held = self.channel.held().get(self.answered..).unwrap_or_default();
            let mut reader = Reader(held);
            let is_whole = reader
                .u32()
                .and_then(|length| reader.bytes(usize::try_from(length).ok()?));
            if self.pending.is_empty() || is_whole.is_none() {
                return Ok(());
            }
            let pending = self.pending.len();
            self.settle(pending.saturating_sub(1))?;
        }
    }

    /// The first failure among the file's writes that was not told yet.
    fn check(&mut self, file: &File) -> Result<(), SshError> {
        let is_of = |(number, _): &(u32, SshError)| *number == file.number;
        match self.failed.iter().position(is_of) {
            Some(position) => Err(self.failed.swap_remove(position).1),
            None => Ok(()),
        }
    }

    /// Waits until all of the file is on the server's disk, as far as the server can say so.
    pub(crate) fn sync(&mut self, file: &File) -> Result<(), SshError> {
        self.settle(0)?;
        self.check(file)?;
        if !self.extensions.fsync {
            return Ok(());
        }
        let id = self.request(kind::EXTENDED, |writer| {
            writer.string(b"fsync@openssh.com");
            writer.string(&file.handle);
        })?;
        self.plain(id, "syncing the file")
    }

    /// Cuts the file to its first `size_bytes`.
    pub(crate) fn cut(&mut self, file: &File, size_bytes: u64) -> Result<(), SshError> {
        self.settle(0)?;
        let id = self.request(kind::FSETSTAT, |writer| {
            writer.string(&file.handle);
            writer.u32(ATTR_SIZE);
            writer.u64(size_bytes);
        })?;
        self.plain(id, "cutting the file")
    }

    /// Throws away what was written, and forgets what failed of it.
    pub(crate) fn restart(&mut self, file: &File) -> Result<(), SshError> {
        self.cut(file, 0)?;
        let _ = self.check(file);
        self.supply = None;
        Ok(())
    }

    /// Gives the file another name.
    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Result<(), SshError> {
        let id = if self.extensions.posix_rename {
            self.request(kind::EXTENDED, |writer| {
                writer.string(b"posix-rename@openssh.com");
                writer.string(from.as_bytes());
                writer.string(to.as_bytes());
            })?
        } else {
            self.request(kind::RENAME, |writer| {
                writer.string(from.as_bytes());
                writer.string(to.as_bytes());
            })?
        };
        self.plain(id, "renaming the file")
    }

    /// Closes the file.
    pub(crate) fn close(&mut self, file: File) -> Result<(), SshError> {
        self.settle(0)?;
        let id = self.request(kind::CLOSE, |writer| writer.string(&file.handle))?;
        self.plain(id, "closing the file")
    }

    /// What `error` is about, with something below `path`: SFTP has no word for a full disk, so that the server is asked how
    /// much room there is.
    pub(crate) fn explained(&mut self, error: SshError, path: &str) -> SshError {
        let SshError::Sftp(doing, STATUS_FAILURE, _) = error else {
            return error;
        };
        match self.room(path) {
            Ok(Some(room)) if room.bytes < FULL_BYTES => SshError::NoRoom(doing, room.bytes),
            Ok(Some(room)) if room.has_no_inodes => SshError::NoInodes(doing),
            _ => error,
        }
    }

    /// What is left where `path` is; none when the server cannot say.
    pub(crate) fn room(&mut self, path: &str) -> Result<Option<Room>, SshError> {
        if !self.extensions.statvfs {
            return Ok(None);
        }
        self.ask_for_room(b"statvfs@openssh.com", path.as_bytes())
    }

    /// What is left where `file` is; none when the server cannot say.
    fn room_of(&mut self, file: &File) -> Result<Option<Room>, SshError> {
        if !self.extensions.fstatvfs {
            return Ok(None);
        }
        self.ask_for_room(b"fstatvfs@openssh.com", &file.handle)
    }

    fn ask_for_room(&mut self, how: &[u8], of: &[u8]) -> Result<Option<Room>, SshError> {
        let id = self.request(kind::EXTENDED, |writer| {
            writer.string(how);
            writer.string(of);
        })?;
        let answer = self.answer(id, "asking for free space", |kind, mut reader| {
            (kind == kind::EXTENDED_REPLY).then_some(())?;
            reader.u64()?;
            let fragment_bytes = reader.u64()?;
            let (_, _, available) = (reader.u64()?, reader.u64()?, reader.u64()?);
            // File systems without a fixed number of them have none at all.
            let (inodes, _, inodes_left) = (reader.u64()?, reader.u64()?, reader.u64()?);
            Some(Room {
                bytes: available.saturating_mul(fragment_bytes),
                has_no_inodes: inodes > 0 && inodes_left == 0,
            })
        });
        match answer {
            Ok(room) => Ok(Some(room)),
            Err(SshError::Sftp(..)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The status of an answer.
fn status(doing: &'static str, mut reader: Reader<'_>) -> Result<(), SshError> {
    match reader.u32() {
        Some(STATUS_OK) => Ok(()),
        Some(status) => {
            let text = reader.string().unwrap_or_default();
            Err(SshError::Sftp(doing, status, Text::new(text)))
        }
        None => Err(SshError::Protocol("an SFTP answer ends too early")),
    }
}
