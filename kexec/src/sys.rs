// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one system call of this crate.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `KEXEC_FILE_UNLOAD`: drop what was loaded. Source: Linux 6.12 `include/uapi/linux/kexec.h`.
pub(crate) const KEXEC_FILE_UNLOAD: libc::c_ulong = 1;
/// `KEXEC_FILE_ON_CRASH`: the memory that `crashkernel=` reserved, not the ordinary one.
pub(crate) const KEXEC_FILE_ON_CRASH: libc::c_ulong = 2;

/// `kexec_file_load(2)`. Without files, only [`KEXEC_FILE_UNLOAD`] makes sense.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn kexec_file_load(
    files: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
    command_line: &CStr,
    flags: libc::c_ulong,
) -> io::Result<()> {
    let (kernel, image) = match files {
        Some((kernel, image)) => (kernel.as_raw_fd(), image.as_raw_fd()),
        None => (-1, -1),
    };
    let line = command_line.to_bytes_with_nul();
    // SAFETY: the kernel reads `line.len()` bytes at `line`, which lives until the call returns, and writes nothing to
    // our memory; the descriptors are borrowed, so they stay open, and -1 is looked at by no call that unloads.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            libc::c_long::from(kernel),
            libc::c_long::from(image),
            line.len(),
            line.as_ptr(),
            flags,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
