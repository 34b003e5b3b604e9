// SPDX-License-Identifier: MIT OR Apache-2.0
//! The options of an fstab line, as `mount(2)` takes them: flags, and text for the file system's driver.
//!
//! Source: `mount`(8), sections "FILESYSTEM-INDEPENDENT MOUNT OPTIONS" and `fstab`(5).

use crate::io::io;
use collector::IoError;
use core::ffi::CStr;
use heapless::Vec;
use rustix::io::Errno;
use rustix::mount::MountFlags;

/// The kernel takes one page of option text; nobody writes so much.
const MAX_DATA_BYTES: usize = 512;

/// Options, taken apart.
#[derive(Debug)]
pub(crate) struct MountOptions {
    pub(crate) flags: MountFlags,
    data: Vec<u8, MAX_DATA_BYTES>,
}

impl MountOptions {
    /// Takes `rw,noatime,errors=remount-ro` apart.
    ///
    /// # Errors
    /// `EINVAL` when there is more text than a driver would be given, or a NUL in it.
    pub(crate) fn parse(options: &str) -> Result<Self, IoError> {
        let mut flags = MountFlags::empty();
        let mut data = Vec::new();
        for word in options.split(',').map(str::trim) {
            match meaning(word) {
                Meaning::Set(flag) => flags |= flag,
                Meaning::Clear(flag) => flags -= flag,
                Meaning::Nothing => {}
                Meaning::Driver => {
                    let too_long = |_| io(Errno::INVAL);
                    if word.contains('\0') {
                        return Err(io(Errno::INVAL));
                    }
                    if !data.is_empty() {
                        data.push(b',').map_err(too_long)?;
                    }
                    data.extend_from_slice(word.as_bytes())
                        .map_err(|_| io(Errno::INVAL))?;
                }
            }
        }
        data.push(0).map_err(|_| io(Errno::INVAL))?;
        Ok(Self { flags, data })
    }

    /// The text for the driver.
    pub(crate) fn data(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.data).unwrap_or(c"")
    }
}

enum Meaning {
    Set(MountFlags),
    Clear(MountFlags),
    /// For `mount`(8), systemd or nobody.
    Nothing,
    Driver,
}

fn meaning(word: &str) -> Meaning {
    use Meaning::{Clear, Driver, Nothing, Set};
    match word {
        "ro" => Set(MountFlags::RDONLY),
        "rw" => Clear(MountFlags::RDONLY),
        "noatime" => Set(MountFlags::NOATIME),
        "atime" => Clear(MountFlags::NOATIME),
        "nodiratime" => Set(MountFlags::NODIRATIME),
        "diratime" => Clear(MountFlags::NODIRATIME),
        "relatime" => Set(MountFlags::RELATIME),
        "norelatime" => Clear(MountFlags::RELATIME),
        "strictatime" => Set(MountFlags::STRICTATIME),
        "nostrictatime" => Clear(MountFlags::STRICTATIME),
        "lazytime" => Set(MountFlags::LAZYTIME),
        "nolazytime" => Clear(MountFlags::LAZYTIME),
        "nosuid" => Set(MountFlags::NOSUID),
        "suid" => Clear(MountFlags::NOSUID),
        "nodev" => Set(MountFlags::NODEV),
        "dev" => Clear(MountFlags::NODEV),
        "noexec" => Set(MountFlags::NOEXEC),
        "exec" => Clear(MountFlags::NOEXEC),
        "sync" => Set(MountFlags::SYNCHRONOUS),
        "async" => Clear(MountFlags::SYNCHRONOUS),
        "dirsync" => Set(MountFlags::DIRSYNC),
        "silent" => Set(MountFlags::SILENT),
        "loud" => Clear(MountFlags::SILENT),
        "" | "defaults" | "auto" | "noauto" | "user" | "nouser" | "users" | "owner" | "group"
        | "nofail" | "_netdev" | "_rnetdev" | "mand" | "nomand" | "iversion" | "noiversion" => {
            Nothing
        }
        _ if ["x-", "X-", "comment="]
            .iter()
            .any(|prefix| word.starts_with(prefix)) =>
        {
            Nothing
        }
        _ => Driver,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(options: &str, flags: MountFlags, data: &CStr) {
        let parsed = MountOptions::parse(options).unwrap();
        assert_eq!((parsed.flags, parsed.data()), (flags, data), "{options}");
    }

    #[test]
    fn an_fstab_line_becomes_flags_and_text() {
        check("", MountFlags::empty(), c"");
        check("defaults", MountFlags::empty(), c"");
        check(
            "rw,noatime,nofail,x-systemd.device-timeout=9,errors=remount-ro,data=ordered",
            MountFlags::NOATIME,
            c"errors=remount-ro,data=ordered",
        );
        check("ro,rw", MountFlags::empty(), c"");
        check("rw,ro,nosuid,suid", MountFlags::RDONLY, c"");
    }

    #[test]
    fn text_that_no_driver_takes_is_refused() {
        let long = "a".repeat(MAX_DATA_BYTES);
        assert_eq!(MountOptions::parse(&long).unwrap_err(), IoError::INVALID);
        assert_eq!(MountOptions::parse("a\0b").unwrap_err(), IoError::INVALID);
    }
}
