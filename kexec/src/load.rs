// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loading into the reserved memory and dropping what is loaded, with errors that say what to do.

use crate::sys;
use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

/// Bytes that `crashkernel=` reserved.
const CRASH_SIZE: &str = "/sys/kernel/kexec_crash_size";
/// `1` when a capture kernel is loaded.
const CRASH_LOADED: &str = "/sys/kernel/kexec_crash_loaded";
/// `1` when a kernel to be started by `kexec -e` is loaded.
const NEXT_LOADED: &str = "/sys/kernel/kexec_loaded";

/// What a kernel is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be started by [`execute`].
    Restart,
    /// To be started by a crash.
    Crash,
}

impl Purpose {
    const fn flag(self) -> u64 {
        match self {
            Self::Restart => 0,
            Self::Crash => sys::KEXEC_FILE_ON_CRASH,
        }
    }

    const fn loaded_file(self) -> &'static str {
        match self {
            Self::Restart => NEXT_LOADED,
            Self::Crash => CRASH_LOADED,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restart => "the kernel",
            Self::Crash => "the capture kernel",
        })
    }
}

/// Why nothing was loaded or dropped.
#[derive(Debug)]
pub enum LoadError {
    /// The kernel has reserved no memory.
    NoReservation,
    /// A file that is to be loaded cannot be opened.
    Open(PathBuf, io::Error),
    /// The command line holds a NUL byte.
    NulInCommandLine,
    /// The kernel refused to load.
    Load(Purpose, io::Error),
    /// The kernel refused to drop what is loaded.
    Unload(Purpose, io::Error),
    /// The kernel said yes, and yet none is loaded.
    NotThere(Purpose),
    /// Whether one is loaded cannot be found out.
    Status(&'static str, io::Error),
    /// The kernel refused to start what is loaded.
    Execute(io::Error),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoReservation => write!(
                f,
                "no memory is reserved for a capture kernel ({CRASH_SIZE} is 0); add crashkernel=256M to the kernel's \
                 command line and restart the machine"
            ),
            Self::Open(path, error) => write!(f, "opening {}: {error}", path.display()),
            Self::NulInCommandLine => f.write_str("the command line holds a NUL byte"),
            Self::Load(purpose, error) => write!(f, "loading {purpose}: {}", Advice(error)),
            Self::Unload(purpose, error) => write!(f, "unloading {purpose}: {}", Advice(error)),
            Self::NotThere(purpose) => write!(
                f,
                "{purpose} was taken, but {} does not say 1",
                purpose.loaded_file()
            ),
            Self::Status(file, error) => write!(
                f,
                "reading {file}: {error}; this kernel may be built without kexec (CONFIG_KEXEC_FILE), or /sys is not mounted"
            ),
            Self::Execute(error) if error.raw_os_error() == Some(libc::EINVAL) => f.write_str(
                "starting the kernel that is loaded: none is; load one with `kexec -l KERNEL --initrd=IMAGE --reuse-cmdline`",
            ),
            Self::Execute(error) => {
                write!(f, "starting the kernel that is loaded: {}", Advice(error))
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// The kernel's answer, and what to do about it.
///
/// Source: Linux 6.12 `kernel/kexec_file.c`, `kernel/kexec_core.c`; kexec_file_load(2).
struct Advice<'a>(&'a io::Error);

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let advice = match self.0.raw_os_error() {
            Some(libc::EPERM) => {
                "root is needed (CAP_SYS_BOOT), kernel.kexec_load_disabled must be 0, and under lockdown the kernel must \
                 be signed by a key that this kernel trusts"
            }
            Some(libc::ENOEXEC) => {
                "the kernel file is of no form that this kernel can load; name the bzImage (/boot/vmlinuz-…)"
            }
            Some(libc::ENOMEM) => {
                "there was no memory to read the files into, or the reserved memory is too small for them"
            }
            Some(libc::EADDRNOTAVAIL) => {
                "kernel and image do not fit into the reserved memory; raise crashkernel= or make the image smaller"
            }
            Some(libc::EBUSY) => "another program loads or unloads a kernel just now; try again",
            Some(libc::EINVAL) => {
                "the kernel takes no such command line or flags; it may be too long"
            }
            Some(libc::ENODATA | libc::EKEYREJECTED | libc::ENOKEY | libc::EBADMSG) => {
                "the kernel file's signature is missing or not trusted; use the distribution's signed kernel"
            }
            Some(libc::ENOSYS) => {
                "this kernel was built without kexec_file_load(2) (CONFIG_KEXEC_FILE), which is needed here"
            }
            _ => return Ok(()),
        };
        write!(f, ": {advice}")
    }
}

/// Loads `kernel` and `image`, if one is given, with `command_line`; for a crash into the memory that `crashkernel=`
/// reserved. What was loaded for the same purpose is replaced.
///
/// # Errors
/// No memory is reserved, a file cannot be opened, or the kernel refuses; the text says what to do.
pub fn load(
    purpose: Purpose,
    kernel: &Path,
    image: Option<&Path>,
    command_line: &str,
) -> Result<(), LoadError> {
    let line = CString::new(command_line).map_err(|_| LoadError::NulInCommandLine)?;
    let open =
        |path: &Path| File::open(path).map_err(|error| LoadError::Open(path.to_path_buf(), error));
    let kernel = open(kernel)?;
    let image = image.map(open).transpose()?;
    // Asked first, because the kernel itself answers a missing reservation with a plain EADDRNOTAVAIL. Where the file is
    // not there, sysfs may not be mounted; then the kernel's answer has to do.
    if purpose == Purpose::Crash && reads_as(CRASH_SIZE, "0") {
        return Err(LoadError::NoReservation);
    }
    sys::kexec_file_load(
        Some(kernel.as_fd()),
        image.as_ref().map(File::as_fd),
        &line,
        purpose.flag(),
    )
    .map_err(|error| LoadError::Load(purpose, error))?;
    if reads_as(purpose.loaded_file(), "0") {
        return Err(LoadError::NotThere(purpose));
    }
    Ok(())
}

/// Drops the kernel that is loaded for `purpose`; it is no error when there is none.
///
/// # Errors
/// The kernel refuses.
pub fn unload(purpose: Purpose) -> Result<(), LoadError> {
    const NO_LINE: &CStr = c"";
    sys::kexec_file_load(None, None, NO_LINE, sys::KEXEC_FILE_UNLOAD | purpose.flag())
        .map_err(|error| LoadError::Unload(purpose, error))
}

/// A kernel is loaded for `purpose`.
///
/// # Errors
/// The kernel does not say.
pub fn is_loaded(purpose: Purpose) -> Result<bool, LoadError> {
    let file = purpose.loaded_file();
    let text = fs::read_to_string(file).map_err(|error| LoadError::Status(file, error))?;
    Ok(text.trim() == "1")
}

/// The bytes that `crashkernel=` reserved.
///
/// # Errors
/// The kernel does not say.
pub fn reserved_bytes() -> Result<u64, LoadError> {
    fs::read_to_string(CRASH_SIZE)
        .and_then(|text| text.trim().parse().map_err(io::Error::other))
        .map_err(|error| LoadError::Status(CRASH_SIZE, error))
}

/// Syncs the disks and starts the kernel that is loaded for a restart, without ending a single program before.
///
/// # Errors
/// None is loaded, or the kernel refuses; it returns in no other case.
pub fn execute() -> Result<std::convert::Infallible, LoadError> {
    sys::sync();
    Err(LoadError::Execute(sys::restart_into_loaded()))
}

fn reads_as(path: &str, value: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_of_the_kernel_comes_with_what_to_do() {
        for (errno, part) in [
            (libc::EPERM, "lockdown"),
            (libc::ENOEXEC, "bzImage"),
            (libc::ENOMEM, "too small"),
            (libc::EADDRNOTAVAIL, "raise crashkernel="),
            (libc::EBUSY, "try again"),
            (libc::ENOSYS, "CONFIG_KEXEC_FILE"),
            (libc::EKEYREJECTED, "signature"),
        ] {
            let text =
                LoadError::Load(Purpose::Crash, io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.starts_with("loading the capture kernel: "), "{text}");
            assert!(text.contains(part), "{text}");
        }
        assert!(
            LoadError::NoReservation
                .to_string()
                .contains("crashkernel=")
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named_before_anything_is_loaded() {
        let error = load(
            Purpose::Crash,
            Path::new("/nonexistent/vmlinuz"),
            Some(Path::new("/nonexistent/i")),
            "",
        )
        .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("opening /nonexistent/vmlinuz: "),
            "{error}"
        );
        assert!(matches!(
            load(Purpose::Restart, Path::new("/"), None, "a\0b"),
            Err(LoadError::NulInCommandLine)
        ));
    }
}
