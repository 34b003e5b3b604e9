// SPDX-License-Identifier: MIT OR Apache-2.0
//! A directory of a local file system as the place of a dump: mount, save path, dated directory, files that get their
//! name when they are complete.
//!
//! ```text
//! Filesystem::mount ─▶ directory(PATH, DATE) ─▶ create("vmcore") ─▶ FileSink ─▶ publish ─▶ unmount
//!                      PATH/DATE, or .1, .2…    vmcore-incomplete               vmcore
//! ```

use crate::device::Found;
use crate::io::{Disk, Writeback, io, write_all_at};
use crate::mount_options::MountOptions;
use crate::superblock::{self, Identity, ext};
use crate::text::{Name, Text};
use collector::{IoError, Sink};
use core::fmt;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags, fstatfs, fsync, ftruncate, linkat,
    mkdirat, openat, openat2, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, unmount};

/// What a file is called until it is complete.
const INCOMPLETE: &str = "-incomplete";
/// How many dumps of one minute are kept apart.
const MAX_SAME_DATE: u32 = 999;

/// What was being done when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reading the superblock.
    Probe,
    /// Parsing the mount options.
    Options,
    /// Finding the save path, or making it.
    SavePath,
    /// Making the directory of this dump.
    Directory,
    /// Creating a file.
    Create,
    /// Getting a file's data to the disk.
    Sync,
    /// Giving a file its name.
    Rename,
    /// Getting a directory to the disk.
    SyncDirectory,
    /// Asking for the free space.
    FreeSpace,
    /// Unmounting.
    Unmount,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Probe => "reading the superblock of",
            Self::Options => "taking the mount options apart for",
            Self::SavePath => "opening or making the save path at",
            Self::Directory => "making the directory",
            Self::Create => "creating",
            Self::Sync => "writing to the disk:",
            Self::Rename => "giving its final name to",
            Self::SyncDirectory => "writing the directory to the disk of",
            Self::FreeSpace => "asking for the free space of",
            Self::Unmount => "unmounting",
        })
    }
}

/// Why a file system cannot take a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilesystemError {
    /// A step failed.
    Step(Step, Name, IoError),
    /// The kernel did not mount it.
    Mount {
        /// The device.
        node: Name,
        /// The type that the record names.
        fstype: Text<16>,
        /// What the kernel said.
        error: IoError,
        /// What is wrong with it, as far as the superblock shows.
        cause: Cause,
    },
    /// A part of the save path is a symbolic link that points to nothing or out of the file system, or the kernel is too
    /// old to follow one safely.
    SymbolicLink(Name),
}

/// Why a mount failed, as far as the superblock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The superblock shows nothing unusual.
    Unknown,
    /// The superblock's checksum is wrong.
    ChecksumWrong,
    /// The file system is larger than its device: size of the one, size of the other.
    LargerThanDevice(u64, u64),
    /// The kernel has no driver for this type: a module is missing in the image.
    NoDriver,
    /// Something else is on the device.
    Holds(superblock::Kind),
    /// Nothing known is on the device.
    HoldsNothing,
}

impl fmt::Display for FilesystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(step, name, error) => write!(f, "{step} {name}: {error}"),
            Self::Mount {
                node,
                fstype,
                error,
                cause,
            } => {
                write!(f, "mounting {node} as {fstype}: {error}")?;
                match cause {
                    Cause::Unknown => Ok(()),
                    Cause::ChecksumWrong => {
                        f.write_str(" (its superblock is damaged: the checksum is wrong)")
                    }
                    Cause::LargerThanDevice(size, device) => write!(
                        f,
                        " (its superblock counts {size} bytes, the device has {device})"
                    ),
                    Cause::NoDriver => f.write_str(" (the capture kernel has no driver for it)"),
                    Cause::Holds(kind) => write!(f, " (the device holds {kind})"),
                    Cause::HoldsNothing => {
                        f.write_str(" (there is no file system that we know on the device)")
                    }
                }
            }
            Self::SymbolicLink(name) => write!(
                f,
                "opening or making the save path at {name}: a symbolic link that cannot be followed \
                 inside this file system"
            ),
        }
    }
}

impl core::error::Error for FilesystemError {}

/// What the superblock of a device says, for the log before the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// A file system of the ext family.
    Ext(ext::Superblock),
    /// Something else that is known.
    Other(Identity),
    /// Nothing known.
    Unknown,
}

/// Reads what is on the device.
///
/// # Errors
/// [`FilesystemError::Step`] with what the device said.
pub fn probe(found: &Found) -> Result<Probed, FilesystemError> {
    let probed = Disk::open(CWD, found.node.as_str().unwrap_or_default()).and_then(|mut disk| {
        match superblock::identify(&mut disk)? {
            Some(identity) if identity.kind.is_ext() => {
                Ok(ext::Superblock::read(&mut disk)?.map_or(Probed::Other(identity), Probed::Ext))
            }
            Some(identity) => Ok(Probed::Other(identity)),
            None => Ok(Probed::Unknown),
        }
    });
    probed.map_err(|error| FilesystemError::Step(Step::Probe, found.node, error))
}

/// Free and total space of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What root can still write: the reserved blocks count, as we are root.
    pub free_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

/// A file system that we mounted.
pub struct Filesystem<'m> {
    mount_point: &'m str,
    node: Name,
    root: OwnedFd,
    mounted_as: Text<16>,
}

impl<'m> Filesystem<'m> {
    /// Mounts the device at `mount_point` as `fstype`, with the options of an fstab line.
    ///
    /// Where the kernel has no such type, or refuses the device as that type, the other names of the same driver are
    /// tried: `ext4` serves ext2 and ext3 in kernels that have no driver of that name, and a file system that has become
    /// ext4 since the image was built is still mounted.
    ///
    /// # Errors
    /// [`FilesystemError::Mount`] with the cause, as far as it can be read from the device.
    pub fn mount(
        found: &Found,
        fstype: &str,
        options: &str,
        mount_point: &'m str,
    ) -> Result<Self, FilesystemError> {
        let node = found.node;
        let options = MountOptions::parse(options)
            .map_err(|error| FilesystemError::Step(Step::Options, node, error))?;
        let attempt = |fstype: &str| {
            rustix::mount::mount(
                node.as_str().unwrap_or_default(),
                mount_point,
                fstype,
                options.flags | MountFlags::NOSUID | MountFlags::NODEV,
                Some(options.data()),
            )
        };
        let mut mounted_as = fstype;
        let mut result = attempt(fstype);
        if matches!(result, Err(Errno::NODEV | Errno::INVAL))
            && matches!(fstype, "ext2" | "ext3" | "ext4")
        {
            for other in ["ext4", "ext3", "ext2"] {
                if other != fstype && attempt(other).is_ok() {
                    mounted_as = other;
                    result = Ok(());
                    break;
                }
            }
        }
        if let Err(errno) = result {
            return Err(FilesystemError::Mount {
                node,
                fstype: Text::new(fstype.as_bytes()),
                error: io(errno),
                cause: cause(found, fstype, errno),
            });
        }
        let root = directory(CWD, mount_point).map_err(|errno| {
            FilesystemError::Step(Step::SavePath, Name::new(mount_point.as_bytes()), io(errno))
        })?;
        Ok(Self {
            mount_point,
            node,
            root,
            mounted_as: Text::new(mounted_as.as_bytes()),
        })
    }

    /// The type that the kernel took.
    #[must_use]
    pub const fn mounted_as(&self) -> Text<16> {
        self.mounted_as
    }

    /// How much space there is.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn space(&self) -> Result<Space, FilesystemError> {
        space(&self.root)
            .map_err(|errno| FilesystemError::Step(Step::FreeSpace, self.node, io(errno)))
    }

    /// Makes the directory `date` in the save path, and the save path where it is missing. Where the directory is there
    /// already it gets `.1`, `.2`, …: an old dump is never touched.
    ///
    /// # Errors
    /// What the kernel said, and about which part of the path.
    pub fn directory(&self, path: &str, date: &str) -> Result<Directory<'_>, FilesystemError> {
        Directory::make(&self.root, path, date)
    }

    /// Unmounts, which writes all that is left to the disk. When something still has the file system open, it is synced
    /// and taken out of sight instead.
    ///
    /// # Errors
    /// What the kernel said; the data was synced all the same unless that is what failed.
    pub fn unmount(self) -> Result<(), FilesystemError> {
        let name = Name::new(self.mount_point.as_bytes());
        let Self {
            root, mount_point, ..
        } = self;
        drop(root);
        let failed = |errno| FilesystemError::Step(Step::Unmount, name, io(errno));
        match unmount(mount_point, UnmountFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::BUSY) => {
                let root = directory(CWD, mount_point).map_err(failed)?;
                rustix::fs::syncfs(&root).map_err(failed)?;
                drop(root);
                unmount(mount_point, UnmountFlags::DETACH).map_err(failed)
            }
            Err(errno) => Err(failed(errno)),
        }
    }
}

/// What the superblock says about a mount that failed.
fn cause(found: &Found, fstype: &str, errno: Errno) -> Cause {
    match probe(found) {
        Err(_) => Cause::Unknown,
        Ok(Probed::Unknown) => Cause::HoldsNothing,
        Ok(Probed::Other(identity)) if identity.kind.word() != fstype => {
            Cause::Holds(identity.kind)
        }
        Ok(Probed::Ext(found)) if found.checksum == ext::Checksum::Wrong => Cause::ChecksumWrong,
        Ok(Probed::Ext(superblock)) if superblock.size_bytes() > found.size_bytes => {
            Cause::LargerThanDevice(superblock.size_bytes(), found.size_bytes)
        }
        Ok(Probed::Ext(superblock)) if !matches!(fstype, "ext2" | "ext3" | "ext4") => {
            Cause::Holds(superblock.kind)
        }
        Ok(_) if errno == Errno::NODEV => Cause::NoDriver,
        Ok(_) => Cause::Unknown,
    }
}

fn space(fd: impl AsFd) -> Result<Space, Errno> {
    let stat = fstatfs(fd)?;
    let block_bytes = u64::try_from(stat.f_bsize).unwrap_or(0);
    Ok(Space {
        free_bytes: block_bytes.saturating_mul(stat.f_bfree),
        total_bytes: block_bytes.saturating_mul(stat.f_blocks),
    })
}

/// The directory of one dump.
pub struct Directory<'f> {
    fd: OwnedFd,
    parent: OwnedFd,
    path: Text<255>,
    root: core::marker::PhantomData<&'f OwnedFd>,
}

impl<'f> Directory<'f> {
    /// As [`Filesystem::directory`], in whatever directory `root` is.
    fn make(root: &'f OwnedFd, path: &str, date: &str) -> Result<Self, FilesystemError> {
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
                        root: core::marker::PhantomData,
                    });
                }
                Err(Errno::EXIST) => {
                    name = Text::format(format_args!("{date}.{number}"));
                }
                Err(errno) => return Err(failed(errno)),
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

    /// Creates the file `name` under its incomplete name.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn create(&self, name: &str) -> Result<FileSink, FilesystemError> {
        let incomplete: Name = Text::format(format_args!("{name}{INCOMPLETE}"));
        let failed = |errno| FilesystemError::Step(Step::Create, incomplete, io(errno));
        if incomplete.is_cut() || name.contains('/') {
            return Err(failed(Errno::INVAL));
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let text = incomplete.as_str().unwrap_or_default();
        let fd = openat(&self.fd, text, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        Ok(FileSink {
            fd,
            name: Name::new(name.as_bytes()),
            writeback: Writeback::default(),
        })
    }

    /// Makes the file complete: its data goes to the disk, then it gets its name, then the directory goes to the disk.
    ///
    /// # Errors
    /// What the kernel said. Before the rename the file keeps its incomplete name.
    pub fn publish(&self, sink: FileSink) -> Result<(), FilesystemError> {
        let name = sink.name;
        let failed = |step| move |errno| FilesystemError::Step(step, name, io(errno));
        fsync(&sink.fd).map_err(failed(Step::Sync))?;
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
        Err(errno) => return Err(errno),
    }
    match statat(directory, to, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => rustix::fs::renameat(directory, from, directory, to),
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
                && statat(&at, component, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
                    rustix::fs::FileType::from_raw_mode(stat.st_mode)
                        == rustix::fs::FileType::Symlink
                });
            if is_link { Errno::LOOP } else { errno }
        })?;
    }
    Ok(at)
}

fn directory(at: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(at, path, flags, Mode::empty())
}

/// A file that is being written under its incomplete name.
pub struct FileSink {
    fd: OwnedFd,
    name: Name,
    writeback: Writeback,
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
        ftruncate(&self.fd, 0).map_err(io)?;
        self.writeback.restart();
        Ok(())
    }
}

impl Sink for FileSink {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        write_all_at(&self.fd, offset, data)?;
        self.writeback.wrote(&self.fd, offset, data.len());
        Ok(())
    }

    fn sync(&mut self) -> Result<(), IoError> {
        fsync(&self.fd).map_err(io)
    }
}
