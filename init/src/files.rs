// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small files of `/proc`, `/sys` and the image, read into memory that is there already.

use core::ffi::CStr;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Reads `path` into `buffer`, as much as fits.
///
/// # Errors
/// What opening or reading said.
pub fn read<'b>(path: &CStr, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut used = 0;
    while let Some(rest) = buffer.get_mut(used..).filter(|rest| !rest.is_empty()) {
        match rustix::io::read(&fd, rest) {
            Ok(0) => break,
            Ok(count) => used += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(buffer.get(..used).unwrap_or(&[]))
}

/// As [`read`], as text; a file that is no UTF-8 is `EILSEQ`.
///
/// # Errors
/// What opening or reading said.
pub fn read_text<'b>(path: &CStr, buffer: &'b mut [u8]) -> Result<&'b str, Errno> {
    core::str::from_utf8(read(path, buffer)?).map_err(|_| Errno::ILSEQ)
}
