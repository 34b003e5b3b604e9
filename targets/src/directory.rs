// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directory of one dump, and the files in it, which get their names when they are complete.

use crate::filesystem::{FilesystemError, Step, not_made};
use crate::io::io;
use crate::output::Output;
use crate::text::{Name, Text};
use collector::{IoError, Sink};
use core::marker::PhantomData;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, fsync, ftruncate, linkat, mkdirat,
    openat, openat2, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

/// What a file is called until it is complete.
pub(crate) const INCOMPLETE: &str = "-incomplete";
/// How many dumps of one minute are kept apart.
const MAX_SAME_DATE: u32 = 999;

/// The directory of one dump.
pub struct Directory<'f> {
    fd: OwnedFd,
    parent: OwnedFd,
    path: Text<255>,
    root: PhantomData<&'f OwnedFd>,
}

impl<'f> Directory<'f> {
    /// As [`Filesystem::directory`], in whatever directory `root` is.
    pub(crate) fn make(root: &'f OwnedFd, path: &str, date: &str) -> Result<Self, FilesystemError> {
        let parent = save_path(root, path)?;
        let mut name: Text<80> = Text::new(date.as_bytes());
        for number in 1..=MAX_SAME_DATE {
            let failed = |errno| {
                FilesystemError::Step(Step::Directory, Name::new(name.as_bytes()), io(errno))
            };
            let text = name.as_str().unwrap_or_default();
            if text.is_empty() || text.contains('/') || name.is_cut() {
                return Err(failed(Errno::INVAL));
            }
            match mkdirat(&parent, text, Mode::RWXU) {
                Ok(()) => {
                    let flags =
                        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let fd = openat(&parent, text, flags, Mode::empty()).map_err(failed)?;
                    return Ok(Self {
                        fd,
                        parent,
                        path: Text::format(format_args!(
                            "/{}{}{text}",
                            path.trim_matches('/'),
                            if path.trim_matches('/').is_empty() {
                                ""
                            } else {
                                "/"
                            }
                        )),
                        root: PhantomData,
                    });
                }
                Err(Errno::EXIST) => {
                    name = Text::format(format_args!("{date}.{number}"));
                }
                Err(errno) => {
                    let name = Name::new(name.as_bytes());
                    return Err(not_made(Step::Directory, name, &parent, errno));
                }
            }
        }
        Err(FilesystemError::Step(
            Step::Directory,
            Name::new(name.as_bytes()),
            io(Errno::EXIST),
        ))
    }

    /// Where it lies in its file system: `/var/crash/2026-11-22-23:10`.
    #[must_use]
    pub const fn path(&self) -> &Text<255> {
        &self.path
    }

    /// Where it lies beside the others.
    pub(crate) const fn parent(&self) -> &OwnedFd {
        &self.parent
    }

    /// Creates the file `name` under its incomplete name.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn create(&self, name: &str) -> Result<FileSink, FilesystemError> {
        let incomplete: Name = Text::format(format_args!("{name}{INCOMPLETE}"));
        let failed = |errno| not_made(Step::Create, incomplete, &self.fd, errno);
        if incomplete.is_cut() || name.contains('/') {
            return Err(failed(Errno::INVAL));
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let text = incomplete.as_str().unwrap_or_default();
        let fd = openat(&self.fd, text, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        Ok(FileSink {
            output: Output::new(fd),
            name: Name::new(name.as_bytes()),
        })
    }

    /// Makes the file complete: its data goes to the disk, then it gets its name, then the directory goes to the disk.
    ///
    /// # Errors
    /// What the kernel said. Before the rename the file keeps its incomplete name.
    pub fn publish(&self, sink: FileSink) -> Result<(), FilesystemError> {
        let name = sink.name;
        let failed = |step| move |errno| FilesystemError::Step(step, name, io(errno));
        fsync(sink.output.fd()).map_err(failed(Step::Sync))?;
        // Of a file that is open the NFS client keeps one more name, `.nfs…`, and takes it away some time after the file is closed:
        // for the last file of a dump that may be after the reboot.
        drop(sink);
        let to = name.as_str().unwrap_or_default();
        let from: Name = Text::format(format_args!("{to}{INCOMPLETE}"));
        rename_exclusive(&self.fd, from.as_str().unwrap_or_default(), to)
            .map_err(failed(Step::Rename))?;
        // The name of the directory itself too, which its own sync does not promise.
        fsync(&self.fd)
            .and_then(|()| fsync(&self.parent))
            .map_err(failed(Step::SyncDirectory))
    }
}

/// What NFS says where the server has no hard links: the kernel's own `ENOTSUPP`, which is no number of POSIX. Source: Linux
/// 6.12 `include/linux/errno.h`, and `fs/nfs_common/common.c` for `NFS3ERR_NOTSUPP`.
const NO_LINKS_ON_THE_SERVER: Errno = Errno::from_raw_os_error(524);

/// Renames without replacing anything, on file systems and kernels without that flag too.
fn rename_exclusive(directory: &OwnedFd, from: &str, to: &str) -> Result<(), Errno> {
    match renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {}
        result => return result,
    }
    match linkat(directory, from, directory, to, AtFlags::empty()) {
        Ok(()) => return unlinkat(directory, from, AtFlags::empty()),
        // No hard links here. We made the directory and nobody else is running: a look before the rename is enough.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK | Errno::NOSYS) => {}
        Err(errno) if errno == NO_LINKS_ON_THE_SERVER => {}
        Err(errno) => return Err(errno),
    }
    match statat(directory, to, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => renameat(directory, from, directory, to),
        Ok(_) => Err(Errno::EXIST),
        Err(errno) => Err(errno),
    }
}

/// Opens the save path below `root`, making what is missing of it. Symbolic links in it count from `root` and never lead
/// out of it.
fn save_path(root: &OwnedFd, path: &str) -> Result<OwnedFd, FilesystemError> {
    let mut at = resolve(root, ".").map_err(|errno| failed_at("/", errno))?;
    let mut end = 0;
    for component in path.split('/') {
        end += component.len();
        let so_far = path.get(..end).unwrap_or(path);
        end += 1;
        if component.is_empty() {
            continue;
        }
        at = match resolve(root, so_far) {
            Err(Errno::NOENT) => {
                match mkdirat(&at, component, Mode::RWXU) {
                    // It is there and leads nowhere.
                    Err(Errno::EXIST) => {
                        return Err(FilesystemError::SymbolicLink(Name::new(so_far.as_bytes())));
                    }
                    other => other.map_err(|errno| failed_at(so_far, errno))?,
                }
                resolve(root, so_far)
            }
            result => result,
        }
        .map_err(|errno| failed_at(so_far, errno))?;
    }
    Ok(at)
}

fn failed_at(path: &str, errno: Errno) -> FilesystemError {
    let name = Name::new(path.as_bytes());
    match errno {
        Errno::LOOP => FilesystemError::SymbolicLink(name),
        _ => FilesystemError::Step(Step::SavePath, name, io(errno)),
    }
}

/// Opens the directory `path` below `root`, with `root` as the root of every symbolic link and `..` on the way.
fn resolve(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, path, flags, Mode::empty(), how) {
        // Linux before 5.6.
        Err(Errno::NOSYS) => resolve_without_links(root, path),
        result => result,
    }
}

/// The same where the kernel cannot do it: step by step, and every symbolic link is `ELOOP`.
fn resolve_without_links(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let mut at = directory(root, ".")?;
    for component in path.split('/') {
        if matches!(component, "" | ".") {
            continue;
        }
        if component == ".." {
            return Err(Errno::INVAL);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = openat(&at, component, flags, Mode::empty()).map_err(|errno| {
            // O_DIRECTORY answers first where the link is the last part.
            let is_link = errno == Errno::NOTDIR
                && statat(&at, component, AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
            if is_link { Errno::LOOP } else { errno }
        })?;
    }
    Ok(at)
}

pub(crate) fn directory(at: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(at, path, flags, Mode::empty())
}

/// A file that is being written under its incomplete name.
pub struct FileSink {
    output: Output,
    name: Name,
}

impl FileSink {
    /// The name that it will have.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Throws away what was written, for another try at a higher dump level: the full disk has its space back.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn restart(&mut self) -> Result<(), IoError> {
        ftruncate(self.output.fd(), 0).map_err(io)?;
        self.output.restart();
        Ok(())
    }

    /// Cuts the file to its first `size_bytes`.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn cut(&mut self, size_bytes: u64) -> Result<(), IoError> {
        ftruncate(self.output.fd(), size_bytes).map_err(io)
    }
}

impl Sink for FileSink {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        self.output.write_at(offset, data)
    }

    fn sync(&mut self) -> Result<(), IoError> {
        fsync(self.output.fd()).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// The root of a file system: a directory of the test's own.
    struct Root {
        path: PathBuf,
        fd: OwnedFd,
    }

    impl Root {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("kdumprd-targets-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name).join("root");
            fs::create_dir_all(&path).unwrap();
            let fd = directory(CWD, path.to_str().unwrap()).unwrap();
            Self { path, fd }
        }

        fn mode(&self, path: &str) -> u32 {
            let metadata = fs::symlink_metadata(self.path.join(path)).unwrap();
            metadata.permissions().mode() & 0o7777
        }

        fn make(&self, path: &str, date: &str) -> Result<Directory<'_>, FilesystemError> {
            Directory::make(&self.fd, path, date)
        }

        fn list(&self, path: &str) -> Vec<String> {
            let entries = fs::read_dir(self.path.join(path)).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.path.parent().unwrap());
        }
    }

    #[test]
    fn a_file_is_closed_before_it_loses_its_incomplete_name() {
        use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
        let root = Root::new();
        let made = root.make("/crash", "2026-11-23-22:25").unwrap();
        let events = init(CreateFlags::NONBLOCK).unwrap();
        let folder = root.path.join("crash/2026-11-23-22:25");
        let flags = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO;
        add_watch(&events, folder.to_str().unwrap(), flags).unwrap();
        let mut sink = made.create("vmcore").unwrap();
        sink.write_at(0, b"pages").unwrap();
        made.publish(sink).unwrap();
        let mut buf = [core::mem::MaybeUninit::uninit(); 512];
        let mut reader = Reader::new(&events, &mut buf);
        let mut seen = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().unwrap().to_str().unwrap().to_owned();
            seen.push((event.events(), name));
        }
        assert_eq!(
            seen,
            [
                (ReadFlags::CLOSE_WRITE, "vmcore-incomplete".to_owned()),
                (ReadFlags::MOVED_TO, "vmcore".to_owned())
            ]
        );
    }

    #[test]
    fn what_is_missing_of_the_save_path_is_made_for_root_alone() {
        let root = Root::new();
        fs::create_dir(root.path.join("var")).unwrap();
        let mode = root.mode("var");
        let made = root.make("/var//my crash/", "2026-11-22-23:10").unwrap();
        assert_eq!(made.path().to_string(), "/var//my crash/2026-11-22-23:10");
        assert_eq!(root.mode("var"), mode);
        assert_eq!(root.mode("var/my crash"), 0o700);
        assert_eq!(root.mode("var/my crash/2026-11-22-23:10"), 0o700);
        let made = root.make("/", "2026").unwrap();
        assert_eq!(made.path().to_string(), "/2026");
    }

    #[test]
    fn an_old_dump_is_never_touched() {
        let root = Root::new();
        fs::create_dir_all(root.path.join("var/crash/DATE")).unwrap();
        fs::write(root.path.join("var/crash/DATE/vmcore"), "old").unwrap();
        // A file and a dangling link of that name are as good as a directory.
        fs::write(root.path.join("var/crash/DATE.1"), "").unwrap();
        symlink("nowhere", root.path.join("var/crash/DATE.2")).unwrap();
        for number in 3..6 {
            let made = root.make("/var/crash", "DATE").unwrap();
            assert_eq!(made.path().to_string(), format!("/var/crash/DATE.{number}"));
        }
        assert_eq!(root.list("var/crash/DATE"), ["vmcore"]);
        assert_eq!(root.list("var/crash/DATE.3"), [""; 0]);
    }

    #[test]
    fn a_thousand_dumps_in_one_minute_are_an_error() {
        let root = Root::new();
        fs::create_dir(root.path.join("DATE")).unwrap();
        for number in 1..=MAX_SAME_DATE {
            fs::create_dir(root.path.join(format!("DATE.{number}"))).unwrap();
        }
        let error = root.make("/", "DATE").err().unwrap();
        assert_eq!(error.to_string(), "making the directory DATE.999: EEXIST");
    }

    #[test]
    fn symbolic_links_count_from_the_root_of_the_file_system() {
        let root = Root::new();
        fs::create_dir_all(root.path.join("data/crash")).unwrap();
        fs::create_dir(root.path.join("var")).unwrap();
        symlink("/data/crash", root.path.join("var/crash")).unwrap();
        symlink("../../../../data", root.path.join("var/up")).unwrap();
        root.make("/var/crash", "A").unwrap();
        root.make("/var/up/crash", "B").unwrap();
        root.make("/var/../../../data/crash", "C").unwrap();
        assert_eq!(root.list("data/crash"), ["A", "B", "C"]);
        assert_eq!(root.list(".."), ["root"]);
    }

    #[test]
    fn symbolic_links_that_lead_nowhere_are_an_error_that_names_them() {
        let root = Root::new();
        symlink("/missing", root.path.join("dangling")).unwrap();
        symlink("b", root.path.join("a")).unwrap();
        symlink("a", root.path.join("b")).unwrap();
        for (path, named) in [("/dangling/crash", "/dangling"), ("/a", "/a")] {
            let error = root.make(path, "DATE").err().unwrap();
            assert_eq!(
                error,
                FilesystemError::SymbolicLink(Name::new(named.as_bytes()))
            );
        }
        fs::write(root.path.join("file"), "").unwrap();
        let error = root.make("/file/crash", "DATE").err().unwrap();
        assert_eq!(
            error.to_string(),
            "opening or making the save path at /file: ENOTDIR"
        );
    }

    #[test]
    fn a_kernel_that_cannot_confine_links_follows_none() {
        let root = Root::new();
        fs::create_dir_all(root.path.join("var/crash")).unwrap();
        symlink("/etc", root.path.join("var/out")).unwrap();
        assert!(resolve_without_links(&root.fd, "/var/crash").is_ok());
        for (path, errno) in [
            ("/var/out", Errno::LOOP),
            ("/var/out/deeper", Errno::LOOP),
            ("/var/../var", Errno::INVAL),
            ("/var/missing", Errno::NOENT),
        ] {
            let error = resolve_without_links(&root.fd, path).unwrap_err();
            assert_eq!(error, errno, "{path}");
        }
    }

    #[test]
    fn a_file_has_its_name_when_it_is_complete_and_not_before() {
        let root = Root::new();
        let made = root.make("/", "DATE").unwrap();
        let mut sink = made.create("vmcore").unwrap();
        sink.write_at(4096, b"later").unwrap();
        sink.write_at(0, b"first").unwrap();
        sink.sync().unwrap();
        assert_eq!(root.list("DATE"), ["vmcore-incomplete"]);
        assert_eq!(root.mode("DATE/vmcore-incomplete"), 0o600);
        made.publish(sink).unwrap();
        assert_eq!(root.list("DATE"), ["vmcore"]);
        let bytes = fs::read(root.path.join("DATE/vmcore")).unwrap();
        assert_eq!(bytes.len(), 4101);
        assert_eq!(
            (&bytes[..5], &bytes[4096..]),
            (&b"first"[..], &b"later"[..])
        );
    }

    #[test]
    fn nothing_is_replaced() {
        let root = Root::new();
        let made = root.make("/", "DATE").unwrap();
        fs::write(root.path.join("DATE/vmcore"), "old").unwrap();
        fs::write(root.path.join("target"), "old").unwrap();
        symlink("../target", root.path.join("DATE/dmesg-incomplete")).unwrap();
        let error = made.create("dmesg").err().unwrap();
        assert_eq!(error.to_string(), "creating dmesg-incomplete: EEXIST");
        let sink = made.create("vmcore").unwrap();
        let error = made.publish(sink).unwrap_err();
        assert_eq!(error.to_string(), "giving its final name to vmcore: EEXIST");
        assert_eq!(fs::read(root.path.join("DATE/vmcore")).unwrap(), b"old");
        assert_eq!(fs::read(root.path.join("target")).unwrap(), b"old");
    }

    #[test]
    fn a_name_with_a_directory_in_it_is_refused() {
        let root = Root::new();
        for date in ["", "a/b", "../out"] {
            let error = root.make("/", date).err().unwrap();
            assert_eq!(
                error,
                FilesystemError::Step(
                    Step::Directory,
                    Name::new(date.as_bytes()),
                    IoError::INVALID
                )
            );
        }
        let made = root.make("/", "DATE").unwrap();
        let error = made.create("../vmcore").err().unwrap();
        assert_eq!(error.to_string(), "creating ../vmcore-incomplete: EINVAL");
    }

    #[test]
    fn a_full_device_is_told_by_the_write() {
        let root = Root::new();
        let made = root.make("/", "DATE").unwrap();
        let mut sink = made.create("vmcore").unwrap();
        let full = openat(CWD, "/dev/full", OFlags::WRONLY, Mode::empty()).unwrap();
        sink.output = Output::new(full);
        assert_eq!(sink.write_at(0, b"x"), Err(IoError::NO_SPACE));
    }

    #[test]
    fn another_try_begins_with_an_empty_file() {
        let root = Root::new();
        let made = root.make("/", "DATE").unwrap();
        let mut sink = made.create("vmcore").unwrap();
        sink.write_at(0, &vec![7; 3 << 20]).unwrap();
        sink.restart().unwrap();
        sink.write_at(2, b"x").unwrap();
        made.publish(sink).unwrap();
        assert_eq!(fs::read(root.path.join("DATE/vmcore")).unwrap(), b"\0\0x");
    }

    #[test]
    fn a_large_file_is_whole_whatever_the_page_cache_was_told() {
        let root = Root::new();
        let made = root.make("/", "DATE").unwrap();
        let mut sink = made.create("vmcore").unwrap();
        let byte = |position: usize| (position / 4099) as u8;
        let data: Vec<u8> = (0..6 << 20).map(byte).collect();
        for (number, piece) in data.chunks(70_001).enumerate() {
            sink.write_at(number as u64 * 70_001, piece).unwrap();
        }
        sink.write_at(0, &data[..4096]).unwrap();
        made.publish(sink).unwrap();
        assert!(fs::read(root.path.join("DATE/vmcore")).unwrap() == data);
    }
}
