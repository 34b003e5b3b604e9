// SPDX-License-Identifier: MIT OR Apache-2.0
//! A folder as NFS version 3 has it: what each procedure does.
//!
//! Source: RFC 1813, chapters 3 (NFS) and 5 (MOUNT), whose names of procedures these are.

use super::rpc::{Answer, Call, Garbage, Status, Words};
use rustix::fs::{OFlags, statvfs};
use std::ffi::CString;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

const NFS: u32 = 100_003;
const MOUNT: u32 = 100_005;
const VERSION: u32 = 3;

/// The most that is read or written at once.
pub(super) const MOST_BYTES: u32 = 256 << 10;
/// More files than any dump has.
const MOST_FILES: usize = 1 << 16;
/// What nobody can guess who was not told.
pub(super) type Secret = [u8; 16];
/// The server keeps what it was told until it ends: there is but one value.
const VERIFIER: [u8; 8] = *b"kdumprd\0";

const NO_SUCH_EXPORT: u32 = 2;
const STALE: u32 = 70;
const BAD_HANDLE: u32 = 10_001;
const NOT_SUPPORTED: u32 = 10_004;
const FAULT: u32 = 10_006;

/// How many words of an answer that refuses say that nothing is known of the files, by the procedure's number.
const NOTHING_KNOWN: [usize; 22] = [
    0, 0, 2, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 4, 3, 1, 1, 1, 1, 1, 2,
];

/// Why a procedure is not done.
#[derive(Debug)]
enum Fault {
    Garbage,
    /// By its number in the protocol.
    Refused(u32),
}

impl From<Garbage> for Fault {
    fn from(_: Garbage) -> Self {
        Self::Garbage
    }
}

impl From<io::Error> for Fault {
    /// The protocol has the old numbers of Unix, and others than Linux for the newer ones.
    fn from(error: io::Error) -> Self {
        Self::Refused(match error.raw_os_error() {
            Some(same @ (1 | 2 | 6 | 13 | 17..=22 | 27 | 28 | 30 | 31)) => same.unsigned_abs(),
            Some(36) => 63,
            Some(39) => 66,
            Some(122) => 69,
            _ => 5,
        })
    }
}

/// A folder and the handles of what is in it.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    export: String,
    secret: Secret,
    /// The files by number, as paths below the root; none once it is removed.
    paths: Vec<Option<PathBuf>>,
}

/// What is to be changed of a file: as far as a dump needs it. Owners and times stay the server's.
struct Change {
    mode: Option<u32>,
    size: Option<u64>,
}

impl Files {
    /// `root` as `export`.
    pub(super) fn new(root: PathBuf, export: String, secret: Secret) -> Self {
        Self {
            root,
            export,
            secret,
            paths: vec![Some(PathBuf::new())],
        }
    }

    /// Answers a call.
    pub(super) fn answer(&mut self, call: Call<'_>, answer: &mut Answer) -> Status {
        match call.program {
            NFS | MOUNT if call.version != VERSION => Status::OtherVersion(VERSION),
            NFS => self.nfs(call.procedure, call.arguments, answer),
            MOUNT => self.mount(call.procedure, call.arguments, answer),
            _ => Status::NoProgram,
        }
    }

    fn mount(&self, procedure: u32, mut arguments: Words<'_>, answer: &mut Answer) -> Status {
        match procedure {
            // UMNT and UMNTALL: nothing is kept of who mounts.
            0 | 3 | 4 => Status::Done,
            1 => match arguments.bytes() {
                Err(Garbage) => Status::Garbage,
                Ok(path) if path == self.export.as_bytes() => {
                    answer.u32(0);
                    answer.bytes(&self.handle_of(0));
                    // One way to say who calls, AUTH_SYS.
                    answer.u32(1);
                    answer.u32(1);
                    Status::Done
                }
                Ok(_) => {
                    answer.u32(NO_SUCH_EXPORT);
                    Status::Done
                }
            },
            _ => Status::NoProcedure,
        }
    }

    fn nfs(&mut self, procedure: u32, mut arguments: Words<'_>, answer: &mut Answer) -> Status {
        let words = &mut arguments;
        let mut body = Answer::default();
        let done = match procedure {
            0 => return Status::Done,
            1 => self.getattr(words, &mut body),
            2 => self.setattr(words, &mut body),
            3 => self.lookup(words, &mut body),
            4 => self.access(words, &mut body),
            6 => self.read(words, &mut body),
            7 => self.write(words, &mut body),
            8 => self.create(words, &mut body),
            9 => self.mkdir(words, &mut body),
            12 => self.remove(words, &mut body, |path| fs::remove_file(path)),
            13 => self.remove(words, &mut body, |path| fs::remove_dir(path)),
            14 => self.rename(words, &mut body),
            15 => self.link(words, &mut body),
            16 => self.readdir(words, &mut body),
            18 => self.fsstat(words, &mut body),
            19 => self.fsinfo(words, &mut body),
            20 => self.pathconf(words, &mut body),
            21 => self.commit(words, &mut body),
            // READLINK, SYMLINK, MKNOD, READDIRPLUS: no dump has what these are for, and READDIR does.
            5 | 10 | 11 | 17 => Err(Fault::Refused(NOT_SUPPORTED)),
            _ => return Status::NoProcedure,
        };
        match done {
            Ok(()) => {
                answer.u32(0);
                answer.append(&body);
            }
            Err(Fault::Garbage) => return Status::Garbage,
            Err(Fault::Refused(status)) => {
                answer.u32(status);
                let known = usize::try_from(procedure).ok();
                let words = known.and_then(|number| NOTHING_KNOWN.get(number));
                for _ in 0..words.copied().unwrap_or(0) {
                    answer.u32(0);
                }
            }
        }
        Status::Done
    }

    fn handle_of(&self, number: usize) -> Vec<u8> {
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        [&self.secret[..], &number.to_be_bytes()].concat()
    }

    /// The number of a path below the root, which is a new one where it has none.
    fn number(&mut self, path: &Path) -> Result<usize, Fault> {
        let known = self
            .paths
            .iter()
            .position(|known| known.as_deref() == Some(path));
        if let Some(number) = known {
            return Ok(number);
        }
        if self.paths.len() == MOST_FILES {
            return Err(Fault::Refused(FAULT));
        }
        self.paths.push(Some(path.to_path_buf()));
        Ok(self.paths.len() - 1)
    }

    /// The next word, a handle, as a path below the root.
    fn path(&self, words: &mut Words<'_>) -> Result<PathBuf, Fault> {
        let handle = words.bytes()?;
        let (secret, number) = handle
            .split_first_chunk()
            .ok_or(Fault::Refused(BAD_HANDLE))?;
        let number = <[u8; 8]>::try_from(number).map_err(|_| Fault::Refused(BAD_HANDLE))?;
        if *secret != self.secret {
            return Err(Fault::Refused(BAD_HANDLE));
        }
        usize::try_from(u64::from_be_bytes(number))
            .ok()
            .and_then(|number| self.paths.get(number)?.clone())
            .ok_or(Fault::Refused(STALE))
    }

    /// The next words, a folder and a name in it: the folder, and both.
    fn entry(&self, words: &mut Words<'_>) -> Result<(PathBuf, PathBuf), Fault> {
        let folder = self.path(words);
        let name = words.bytes()?;
        let folder = folder?;
        if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(io::Error::from_raw_os_error(22).into());
        }
        let entry = folder.join(std::ffi::OsStr::from_bytes(name));
        Ok((folder, entry))
    }

    fn inside(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        fs::symlink_metadata(self.inside(path))
    }

    /// A file of the folder, and never what a link leads to.
    fn open(&self, path: &Path, options: &mut OpenOptions) -> io::Result<File> {
        options
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(self.inside(path))
    }

    /// What is known of a file, where that is anything.
    fn known(&self, path: &Path, body: &mut Answer) {
        match self.metadata(path) {
            Ok(metadata) => {
                body.u32(1);
                attributes(&metadata, body);
            }
            Err(_) => body.u32(0),
        }
    }

    /// What was known before a change, which is nothing, and is known behind it.
    fn changed(&self, path: &Path, body: &mut Answer) {
        body.u32(0);
        self.known(path, body);
    }

    fn getattr(&self, words: &mut Words<'_>, body: &mut Answer) -> Result<(), Fault> {
        let path = self.path(words)?;
        attributes(&self.metadata(&path)?, body);
        Ok(())
    }

    fn setattr(&self, words: &mut Words<'_>, body: &mut Answer) -> Result<(), Fault> {
        let path = self.path(words)?;
        let change = change(words)?;
        // What the file must be for it. There is one client, which knows.
        words.optional(Words::u64)?;
        self.apply(&path, &change)?;
        self.changed(&path, body);
        Ok(())
    }

    fn apply(&self, path: &Path, change: &Change) -> Result<(), Fault> {
        if let Some(mode) = change.mode {
            fs::set_permissions(self.inside(path), fs::Permissions::from_mode(mode & 0o777))?;
        }
        if let Some(size) = change.size {
            self.open(path, OpenOptions::new().write(true))?
                .set_len(size)?;
        }
        Ok(())
    }

    fn lookup(&mut self, words: &mut Words<'_>, body: &mut Answer) -> Result<(), Fault> {
        let (folder, entry) = self.entry(words)?;
        self.metadata(&entry)?;
        let number = self.number(&entry)?;
        body.bytes(&self.handle_of(number));
        self.known(&entry, body);
        self.known(&folder, body);
        Ok(())
    }

    /// Who has a handle may do everything.
    fn access(&self, words: &mut Words<'_>, body: &mut Answer) -> Result<(), Fault> {
        let path = self.path(words)?;
        let asked = words.u32()?;
        self.known(&path, body);
        body.u32(asked);
        Ok(())
    }

    fn read(&self, words: &mut Words<'_>, body: &mut Answer) -> Result<(), Fault> {
        let path = self.path(words)?;
        let (offset, count) = (words.u64()?, words.u32()?.min(MOST_BYTES));
        let file = self.open(&path, OpenOptions::new().read(true))?;
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0)];
        let mut got = 0;
        while got < bytes.len() {
            let at = offset.saturating_add(u64::try_from(got).unwrap_or(u64::MAX));
            match file.read_at(&mut bytes[got..], at)? {
                0 => break,
                more => got += more,
            }
        }
        let is_end = got < bytes.len();
        self.known(&path, body);
        body.u32(u32::try_from(got).unwrap_or(0));
        body.u32(u32::from(is_end));
        body.bytes(&bytes[..got]);
        Ok(())
    }

    fn write(&self, words: &mut Words<'_>, body: &mut Answer) -> Result<(), Fault> {
        let path = self.path(words)?;
        let (offset, _count, stable) = (words.u64()?, words.u32()?, words.u32()?);
        let bytes = words.bytes()?;
        let file = self.open(&path, OpenOptions::new().write(true))?;
        file.write_all_at(bytes, offset)?;
        if stable > 0 {
            file.sync_data()?;
        }
        self.changed(&path, body);
        body.u32(u32::try_from(bytes.len()).unwrap_or(0));
        body.u32(if stable > 0 { 2 } else { 0 });
        body.fixed(&VERIFIER);
        Ok(())
    }

    fn create(&mut self, words: &mut Words<'_>, body: &mut Answer) -> Result<(), Fault> {
        let (folder, entry) = self.entry(words)?;
        let how = words.u32()?;
        let change = match how {
            0 | 1 => change(words)?,
            2 => {
                words.u64()?;
                Change {
                    mode: None,
                    size: None,
                }
            }
            _ => return Err(Fault::Garbage),
        };
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        if how == 0 {
            options.create(true).truncate(false);
        } else {
            options.create_new(true);
        }
        self.open(&entry, &mut options)?;
        self.apply(&entry, &change)?;
        self.made(&folder, &entry, body)
    }

    fn mkdir(&mut self, words: &mut Words<'_>, body: &mut Answer) -> Result<(), Fault> {
        let (folder, entry) = self.entry(words)?;
        let change = change(words)?;
        DirBuilder::new()
            .mode(change.mode.unwrap_or(0o700) & 0o777)
            .create(self.inside(&entry))?;
        self.made(&folder, &entry, body)
    }

    fn made(&mut self, folder: &Path, entry: &Path, body: &mut Answer) -> Result<(), Fault> {
        let number = self.number(entry)?;
        body.u32(1);
        body.bytes(&self.handle_of(number));
        self.known(entry, body);
        self.changed(folder, body);
        Ok(())
    }

    fn remove(
        &mut self,
        words: &mut Words<'_>,
        body: &mut Answer,
        remove: fn(&Path) -> io::Result<()>,
    ) -> Result<(), Fault> {
        let (folder, entry) = self.entry(words)?;
        remove(&self.inside(&entry))?;
        self.forget(&entry);
        self.changed(&folder, body);
        Ok(())
    }

    fn forget(&mut self, path: &Path) {
        for known in &mut self.paths {
            if known.as_deref() == Some(path) {
                *known = None;
            }
        }
    }

    fn rename(&mut self, words: &mut Words<'_>, body: &mut Answer) -> Result<(), Fault> {
        let from = self.entry(words);
        let (to_folder, to) = self.entry(words)?;
        let (from_folder, from) = from?;
        fs::rename(self.inside(&from), self.inside(&to))?;
        self.forget(&to);
        for known in self.paths.iter_mut().flatten() {
            if let Ok(below) = known.strip_prefix(&from) {
                *known = if below.as_os_str().is_empty() {
                    to.clone()
                } else {
                    to.join(below)
                };
            }
        }
        self.changed(&from_folder, body);
        self.changed(&to_folder, body);
        Ok(())
    }

    /// How a file gets a name that nothing else may have had.
    fn link(&self, words: &mut Words<'_>, body: &mut Answer) -> Result<(), Fault> {
        let path = self.path(words);
        let (folder, entry) = self.entry(words)?;
        let path = path?;
        fs::hard_link(self.inside(&path), self.inside(&entry))?;
        self.known(&path, body);
        self.changed(&folder, body);
        Ok(())
    }

    fn readdir(&mut self, words: &mut Words<'_>, body: &mut Answer) -> Result<(), Fault> {
        let folder = self.path(words)?;
        let (behind, _verifier, most) = (words.u64()?, words.u64()?, words.u32()?.min(MOST_BYTES));
        let most = usize::try_from(most).unwrap_or(0);
        let mut entries = vec![
            (1, ".".into(), self.metadata(&folder)?.ino()),
            (2, "..".into(), self.metadata(&folder)?.ino()),
        ];
        for entry in fs::read_dir(self.inside(&folder))? {
            let entry = entry?;
            let number = self.number(&folder.join(entry.file_name()))?;
            // A place that stays what it is, whatever is removed meanwhile.
            let place = u64::try_from(number).unwrap_or(u64::MAX).saturating_add(2);
            entries.push((place, entry.file_name(), entry.metadata()?.ino()));
        }
        entries.sort();
        self.known(&folder, body);
        body.fixed(&VERIFIER);
        let mut is_end = true;
        for (place, name, inode) in entries.into_iter().filter(|(place, ..)| *place > behind) {
            // What an entry takes beside its name, and what the end takes.
            if body.len() + name.len() + 40 > most {
                is_end = false;
                break;
            }
            body.u32(1);
            body.u64(inode);
            body.bytes(name.as_bytes());
            body.u64(place);
        }
        body.u32(0);
        body.u32(u32::from(is_end));
        Ok(())
    }

    fn fsstat(&self, words: &mut Words<'_>, body: &mut Answer) -> Result<(), Fault> {
        let path = self.path(words)?;
        let root = CString::new(self.root.as_os_str().as_bytes()).map_err(io::Error::from)?;
        let found = statvfs(root.as_c_str())
            .map_err(|errno| io::Error::from_raw_os_error(errno.raw_os_error()))?;
        self.known(&path, body);
        for blocks in [found.f_blocks, found.f_bfree, found.f_bavail] {
            body.u64(blocks.saturating_mul(found.f_frsize));
        }
        for files in [found.f_files, found.f_ffree, found.f_favail] {
            body.u64(files);
        }
        body.u32(0);
        Ok(())
    }

    fn fsinfo(&self, words: &mut Words<'_>, body: &mut Answer) -> Result<(), Fault> {
        let path = self.path(words)?;
        self.known(&path, body);
        // The most that is read, what is best, and of what it is a multiple; the same for writing; then for folders.
        for word in [
            MOST_BYTES,
            MOST_BYTES,
            4096,
            MOST_BYTES,
            MOST_BYTES,
            4096,
            32 << 10,
        ] {
            body.u32(word);
        }
        body.u64(i64::MAX.unsigned_abs());
        // Times are kept by the nanosecond.
        body.u32(0);
        body.u32(1);
        // FSF3_LINK, and FSF3_HOMOGENEOUS: what PATHCONF says is so for every file. Neither symbolic links nor times.
        body.u32(1 | 8);
        Ok(())
    }

    fn pathconf(&self, words: &mut Words<'_>, body: &mut Answer) -> Result<(), Fault> {
        let path = self.path(words)?;
        self.known(&path, body);
        // Links to a file, the length of a name; longer ones are refused; owners cannot be given away; letters are kept as they are.
        for word in [1024, 255, 1, 1, 0, 1] {
            body.u32(word);
        }
        Ok(())
    }

    fn commit(&self, words: &mut Words<'_>, body: &mut Answer) -> Result<(), Fault> {
        let path = self.path(words)?;
        self.open(&path, OpenOptions::new().read(true))?
            .sync_data()?;
        self.changed(&path, body);
        body.fixed(&VERIFIER);
        Ok(())
    }
}

/// `fattr3`
fn attributes(found: &Metadata, body: &mut Answer) {
    let kind = found.file_type();
    body.u32(if kind.is_dir() {
        2
    } else if kind.is_symlink() {
        5
    } else {
        1
    });
    body.u32(found.mode() & 0o7777);
    body.u32(u32::try_from(found.nlink()).unwrap_or(u32::MAX));
    body.u32(found.uid());
    body.u32(found.gid());
    body.u64(found.size());
    body.u64(found.blocks().saturating_mul(512));
    body.u64(0);
    body.u64(found.dev());
    body.u64(found.ino());
    for (seconds, nanoseconds) in [
        (found.atime(), found.atime_nsec()),
        (found.mtime(), found.mtime_nsec()),
        (found.ctime(), found.ctime_nsec()),
    ] {
        body.u32(u32::try_from(seconds).unwrap_or(0));
        body.u32(u32::try_from(nanoseconds).unwrap_or(0));
    }
}

/// `sattr3`
fn change(words: &mut Words<'_>) -> Result<Change, Garbage> {
    let mode = words.optional(Words::u32)?;
    let _owner = words.optional(Words::u32)?;
    let _group = words.optional(Words::u32)?;
    let size = words.optional(Words::u64)?;
    for _ in ["accessed", "modified"] {
        // 2 is the client's time, which follows.
        if words.u32()? == 2 {
            words.u64()?;
        }
    }
    Ok(Change { mode, size })
}

#[cfg(test)]
mod tests;
