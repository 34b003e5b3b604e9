// SPDX-License-Identifier: MIT OR Apache-2.0
//! A local file system as the place of a dump: what its superblock says, mount, free space, unmount.
//!
//! ```text
//! Filesystem::mount ─▶ directory(PATH, DATE) ─▶ create("vmcore") ─▶ FileSink ─▶ publish ─▶ unmount
//!                      PATH/DATE, or .1, .2…    vmcore-incomplete               vmcore
//! ```

use crate::device::Found;
use crate::directory::directory;
use crate::io::{Disk, io};
use crate::mount_options::MountOptions;
use crate::superblock::{self, Identity, ext};
use crate::text::{Name, Text};
use collector::IoError;
use core::fmt;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, fstatfs, syncfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, unmount};

pub use crate::directory::{Directory, FileSink};

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
    /// The file system has room, and no inode left for another file.
    NoInodes(Step, Name),
    /// No file of this type of file system is as large.
    TooLarge {
        /// The type.
        fstype: Text<16>,
        /// The dump's size.
        needed_bytes: u64,
        /// The largest file's size.
        limit_bytes: u64,
    },
    /// There is less space.
    TooLittleSpace {
        /// The device.
        node: Name,
        /// The dump's size.
        needed_bytes: u64,
        /// The free space.
        free_bytes: u64,
    },
}

/// Why a mount failed, as far as the superblock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The superblock shows nothing unusual.
    Unknown,
    /// The device takes no writes.
    ReadOnly,
    /// The superblock's checksum is wrong.
    ChecksumWrong,
    /// The file system is larger than its device: size of the one, size of the other.
    LargerThanDevice(u64, u64),
    /// The kernel has no driver for this type: a module is missing in the image.
    NoDriver,
    /// Something else is on the device.
    Holds(superblock::Kind),
    /// What is on the device cannot take a dump.
    Obstacle(superblock::Obstacle),
    /// Nothing known is on the device.
    HoldsNothing,
    /// The server does not let this machine have it.
    NotExportedToUs,
    /// The server has no such export.
    NoSuchExport,
    /// Nobody listens there.
    NobodyServes,
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
                    Cause::ReadOnly => f.write_str(" (the device is read-only)"),
                    Cause::ChecksumWrong => {
                        f.write_str(" (its superblock is damaged: the checksum is wrong)")
                    }
                    Cause::LargerThanDevice(size, device) => write!(
                        f,
                        " (its superblock counts {size} bytes, the device has {device})"
                    ),
                    Cause::NoDriver => f.write_str(" (the capture kernel has no driver for it)"),
                    Cause::Holds(kind) => write!(f, " (the device holds {kind})"),
                    Cause::Obstacle(obstacle) => write!(f, " ({obstacle})"),
                    Cause::HoldsNothing => {
                        f.write_str(" (there is no file system that we know on the device)")
                    }
                    Cause::NotExportedToUs => {
                        f.write_str(" (the server does not export it to this machine)")
                    }
                    Cause::NoSuchExport => f.write_str(" (the server has no such export)"),
                    Cause::NobodyServes => f.write_str(" (no NFS server answers there)"),
                }
            }
            Self::SymbolicLink(name) => write!(
                f,
                "opening or making the save path at {name}: a symbolic link that cannot be followed \
                 inside this file system"
            ),
            Self::NoInodes(step, name) => write!(
                f,
                "{step} {name}: ENOSPC (no inode is left, however much room there is; remove files)"
            ),
            Self::TooLarge {
                fstype,
                needed_bytes,
                limit_bytes,
            } => write!(
                f,
                "the dump needs {needed_bytes} bytes, and a file on {fstype} holds {limit_bytes} at most"
            ),
            Self::TooLittleSpace {
                node,
                needed_bytes,
                free_bytes,
            } => write!(
                f,
                "the dump needs {needed_bytes} bytes, and {node} has {free_bytes} free"
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
        Self::mounted(mount_point, node, mounted_as)
    }

    /// What was mounted at `mount_point`.
    pub(crate) fn mounted(
        mount_point: &'m str,
        node: Name,
        mounted_as: &str,
    ) -> Result<Self, FilesystemError> {
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
        if self.has_colons() {
            return Directory::make(&self.root, path, date);
        }
        let mut name: Text<80> = Text::EMPTY;
        for (position, part) in date.split(':').enumerate() {
            name.push(if position == 0 { b"" } else { b"." });
            name.push(part.as_bytes());
        }
        Directory::make(&self.root, path, name.as_str().unwrap_or(date))
    }

    /// Whether a name may have a colon.
    fn has_colons(&self) -> bool {
        !matches!(self.mounted_as.as_bytes(), b"vfat" | b"exfat")
    }

    /// The most that one file can hold, where that is less than a dump may have.
    ///
    /// Source: Linux 6.12 `fs/fat/inode.c` and `fs/minix/inode.c`; what version 1 of Minix holds is less still.
    #[must_use]
    pub fn largest_file_bytes(&self) -> Option<u64> {
        match self.mounted_as.as_bytes() {
            b"vfat" => Some(0xffff_ffff),
            b"minix" => Some(0x7fff_ffff),
            _ => None,
        }
    }

    /// Checks that a file of this size fits, before the first byte of it is written.
    ///
    /// # Errors
    /// [`FilesystemError::TooLarge`] and [`FilesystemError::TooLittleSpace`] with the numbers.
    pub fn check_room(&self, needed_bytes: u64) -> Result<(), FilesystemError> {
        if let Some(limit_bytes) = self.largest_file_bytes()
            && needed_bytes > limit_bytes
        {
            return Err(FilesystemError::TooLarge {
                fstype: self.mounted_as,
                needed_bytes,
                limit_bytes,
            });
        }
        let free_bytes = self.space()?.free_bytes;
        if needed_bytes > free_bytes {
            return Err(FilesystemError::TooLittleSpace {
                node: self.node,
                needed_bytes,
                free_bytes,
            });
        }
        Ok(())
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
                syncfs(&root).map_err(failed)?;
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
        Ok(_) if found.is_read_only && matches!(errno, Errno::ACCESS | Errno::ROFS) => {
            Cause::ReadOnly
        }
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
        Ok(Probed::Other(identity)) => identity.obstacle.map_or(Cause::Unknown, Cause::Obstacle),
        Ok(_) => Cause::Unknown,
    }
}

/// Why nothing could be made in the directory `at`.
pub(crate) fn not_made(step: Step, name: Name, at: impl AsFd, errno: Errno) -> FilesystemError {
    // File systems without a fixed number of inodes count none at all.
    let is_out_of_inodes =
        || fstatfs(at).is_ok_and(|found| found.f_files > 0 && found.f_ffree == 0);
    if errno == Errno::NOSPC && is_out_of_inodes() {
        return FilesystemError::NoInodes(step, name);
    }
    FilesystemError::Step(step, name, io(errno))
}

fn space(fd: impl AsFd) -> Result<Space, Errno> {
    let stat = fstatfs(fd)?;
    let block_bytes = u64::try_from(stat.f_bsize).unwrap_or(0);
    Ok(Space {
        free_bytes: block_bytes.saturating_mul(stat.f_bfree),
        total_bytes: block_bytes.saturating_mul(stat.f_blocks),
    })
}
