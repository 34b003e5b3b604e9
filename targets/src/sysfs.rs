// SPDX-License-Identifier: MIT OR Apache-2.0
//! The block devices that the kernel has, read from sysfs.

use crate::io::{io, path};
use crate::text::Text;
use collector::IoError;
use core::mem::MaybeUninit;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat_raw};
use rustix::io::{Errno, read};

/// Where a device's directory may lie below sysfs; USB behind hubs behind bridges stays well below this.
pub(crate) type DevPath = Text<255>;

/// A kernel name, as sysfs has it.
pub(crate) type KernelName = Text<32>;

/// The directories to look in.
#[derive(Clone, Copy, Debug)]
pub struct Roots<'a> {
    /// Where sysfs is mounted.
    pub sys: &'a str,
    /// Where devtmpfs is mounted.
    pub dev: &'a str,
}

impl Roots<'static> {
    /// Where every system has them.
    pub const SYSTEM: Self = Self {
        sys: "/sys",
        dev: "/dev",
    };
}

/// sysfs and devtmpfs, opened.
pub(crate) struct System {
    pub(crate) sys: OwnedFd,
    pub(crate) dev: OwnedFd,
}

impl System {
    pub(crate) fn open(roots: &Roots<'_>) -> Result<Self, IoError> {
        Ok(Self {
            sys: directory(CWD, roots.sys)?,
            dev: directory(CWD, roots.dev)?,
        })
    }

    /// Shows `visit` the kernel name of every block device: disks, partitions, mappings.
    pub(crate) fn each_block_device(
        &self,
        visit: &mut dyn FnMut(&KernelName),
    ) -> Result<(), IoError> {
        self.each_entry("class/block", &mut |name| {
            let name = KernelName::new(name);
            if !name.is_cut() {
                visit(&name);
            }
        })
    }

    /// Shows `visit` the name of everything in a directory below sysfs.
    pub(crate) fn each_entry(
        &self,
        below_sys: &str,
        visit: &mut dyn FnMut(&[u8]),
    ) -> Result<(), IoError> {
        let fd = directory(&self.sys, below_sys)?;
        let mut buf = [MaybeUninit::uninit(); 2048];
        let mut entries = RawDir::new(fd, &mut buf);
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) if entry.file_name().to_bytes().starts_with(b".") => {}
                Ok(entry) => visit(entry.file_name().to_bytes()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(io(errno)),
            }
        }
        Ok(())
    }

    /// The first line of an attribute below sysfs; `None` where there is none.
    pub(crate) fn attribute(&self, directory: &str, name: &str) -> Option<Text<64>> {
        self.long_attribute(directory, name)
    }

    /// The same for what may be longer.
    fn long_attribute<const N: usize>(&self, directory: &str, name: &str) -> Option<Text<N>> {
        let path = path::<255>(format_args!("{directory}/{name}")).ok()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = openat(&self.sys, path.as_str()?, flags, Mode::empty()).ok()?;
        let mut buf = [0; 256];
        let len = read(&fd, &mut buf).ok()?;
        let line = buf.get(..len)?.split(|&byte| byte == b'\n').next()?;
        Some(Text::new(line.trim_ascii()))
    }

    /// An attribute of a block device that is a number.
    pub(crate) fn number(&self, device: &KernelName, name: &str) -> Option<u64> {
        let directory = path::<64>(format_args!("class/block/{device}")).ok()?;
        self.attribute(directory.as_str()?, name)?
            .as_str()?
            .parse()
            .ok()
    }

    /// The size of a block device in bytes. sysfs counts in units of 512 bytes, whatever the device's sectors are.
    pub(crate) fn size_bytes(&self, device: &KernelName) -> Option<u64> {
        self.number(device, "size")?.checked_mul(512)
    }

    /// The device mapper's name of a mapping.
    pub(crate) fn mapping_name(&self, device: &KernelName) -> Option<Text<64>> {
        let directory = path::<64>(format_args!("class/block/{device}")).ok()?;
        self.attribute(directory.as_str()?, "dm/name")
    }

    /// What the device mapper knows a mapping by.
    pub(crate) fn mapping_uuid(&self, device: &KernelName) -> Option<Text<255>> {
        let directory = path::<64>(format_args!("class/block/{device}")).ok()?;
        self.long_attribute(directory.as_str()?, "dm/uuid")
    }

    /// Major and minor number.
    pub(crate) fn numbers(&self, device: &KernelName) -> Option<(u32, u32)> {
        let directory = path::<64>(format_args!("class/block/{device}")).ok()?;
        let text = self.attribute(directory.as_str()?, "dev")?;
        let (major, minor) = text.as_str()?.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }

    /// What a disk calls itself for the whole world: the same for every path to it. None where it has no such name.
    fn world_wide_name(&self, disk: &KernelName) -> Option<Text<255>> {
        ["device/wwid", "wwid"].into_iter().find_map(|name| {
            let directory = path::<64>(format_args!("class/block/{disk}")).ok()?;
            self.long_attribute(directory.as_str()?, name)
                .filter(|found| !found.is_empty() && !found.is_cut())
        })
    }

    /// The device is the disk of this name, or with `-partN` behind it a partition of it.
    pub(crate) fn has_world_wide_name(&self, device: &KernelName, wanted: &str) -> bool {
        let (disk, number) = match self.number(device, "partition") {
            None => (Some(*device), None),
            Some(number) => (self.disk_of(device), Some(number)),
        };
        let Some(name) = disk.and_then(|disk| self.world_wide_name(&disk)) else {
            return false;
        };
        let rest = name.as_str().and_then(|name| wanted.strip_prefix(name));
        match (rest, number) {
            (Some(rest), None) => rest.is_empty(),
            (Some(rest), Some(number)) => {
                rest.strip_prefix("-part")
                    .and_then(|digits| digits.parse().ok())
                    == Some(number)
            }
            (None, _) => false,
        }
    }

    /// Both are the same disk, or the same partition of it, by two paths.
    pub(crate) fn is_same_disk(&self, first: &KernelName, second: &KernelName) -> bool {
        let place = |device: &KernelName| {
            let number = self.number(device, "partition");
            let disk = match number {
                Some(_) => self.disk_of(device)?,
                None => *device,
            };
            Some((self.world_wide_name(&disk)?, number))
        };
        match (place(first), place(second)) {
            (Some(first), Some(second)) => first == second,
            _ => false,
        }
    }

    /// The device mapper or md has taken the device: what is on it is theirs to serve.
    pub(crate) fn has_holders(&self, device: &KernelName) -> bool {
        let mut found = false;
        if let Ok(path) = path::<64>(format_args!("class/block/{device}/holders"))
            && let Some(path) = path.as_str()
        {
            // No such directory means no holder.
            let _ = self.each_entry(path, &mut |_| found = true);
        }
        found
    }

    /// Where the device's directory lies: `devices/pci0000:00/0000:00:03.0/virtio0/block/vda/vda1`.
    pub(crate) fn dev_path(&self, device: &KernelName) -> Option<DevPath> {
        let link = path::<64>(format_args!("class/block/{device}")).ok()?;
        self.device_of(link.as_str()?)
    }

    /// Where the directory lies that a link of a class below sysfs points to.
    pub(crate) fn device_of(&self, link: &str) -> Option<DevPath> {
        let target = self.link(link)?;
        let start = target.as_str()?.find("devices/")?;
        Some(DevPath::new(target.as_bytes().get(start..)?))
    }

    /// What the link at this path below sysfs says.
    pub(crate) fn link(&self, below_sys: &str) -> Option<DevPath> {
        let mut buf = [0; 256];
        let len = readlinkat_raw(&self.sys, below_sys, &mut buf[..]).ok()?;
        let target = DevPath::new(buf.get(..len)?);
        (!target.is_cut()).then_some(target)
    }

    /// The disk that a partition is on.
    pub(crate) fn disk_of(&self, partition: &KernelName) -> Option<KernelName> {
        let dev_path = self.dev_path(partition)?;
        let mut components = dev_path.as_str()?.rsplit('/');
        components.next()?;
        Some(KernelName::new(components.next()?.as_bytes()))
    }

    /// The name of the node below `/dev`: the kernel writes `!` where the node has a directory.
    pub(crate) fn node_name(device: &KernelName) -> KernelName {
        let mut name = KernelName::EMPTY;
        for byte in device.as_bytes() {
            name.push(&[if *byte == b'!' { b'/' } else { *byte }]);
        }
        name
    }
}

fn directory(at: impl rustix::fd::AsFd, path: &str) -> Result<OwnedFd, IoError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(at, path, flags, Mode::empty()).map_err(io)
}
