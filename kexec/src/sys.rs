// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system calls of this crate.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `KEXEC_FILE_UNLOAD`: drop what was loaded. Source: Linux 6.12 `include/uapi/linux/kexec.h`.
pub(crate) const KEXEC_FILE_UNLOAD: u64 = 1;
/// `KEXEC_FILE_ON_CRASH`: the memory that `crashkernel=` reserved, not the ordinary one.
pub(crate) const KEXEC_FILE_ON_CRASH: u64 = 2;
/// `KEXEC_FILE_NO_INITRAMFS`: there is no image.
const KEXEC_FILE_NO_INITRAMFS: u64 = 4;

/// `kexec_file_load(2)`. Without a kernel, only [`KEXEC_FILE_UNLOAD`] makes sense.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn kexec_file_load(
    kernel: Option<BorrowedFd<'_>>,
    image: Option<BorrowedFd<'_>>,
    command_line: &CStr,
    mut flags: u64,
) -> io::Result<()> {
    if kernel.is_some() && image.is_none() {
        flags |= KEXEC_FILE_NO_INITRAMFS;
    }
    let number = |file: Option<BorrowedFd<'_>>| file.map_or(-1, |file| file.as_raw_fd());
    let line = command_line.to_bytes_with_nul();
    // SAFETY: the kernel reads `line.len()` bytes at `line`, which lives until the call returns, and writes nothing to
    // our memory; the descriptors are borrowed, so they stay open, and -1 stands only where the flags say that none is
    // looked at.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            libc::c_long::from(number(kernel)),
            libc::c_long::from(number(image)),
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

/// Writes everything to the disks that is not there yet.
pub(crate) fn sync() {
    // SAFETY: the call takes nothing and touches no memory of ours.
    unsafe { libc::sync() };
}

/// Starts the kernel that is loaded; the answer is why that did not happen.
pub(crate) fn restart_into_loaded() -> io::Error {
    // SAFETY: the call takes a number and touches no memory of ours; when it does what is asked, nothing of us is left.
    unsafe { libc::reboot(libc::LINUX_REBOOT_CMD_KEXEC) };
    io::Error::last_os_error()
}
