// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/proc/vmcore` as the collector's source: mapped in windows, read where it cannot be mapped.

use crate::sys::{FileWindow, PAGE_BYTES};
use collector::{IoError, Source};
use core::ffi::CStr;
use core::fmt;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Where the kernel shows the crashed kernel's memory.
pub const PATH: &CStr = c"/proc/vmcore";

/// What is mapped at once. A window costs the kernel 1024 page table entries, and the process two pages for them.
const WINDOW_BYTES: u64 = 4 << 20;

/// How the vmcore is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Mapped, and read where it cannot be mapped.
    Map,
    /// Read only: slower, but memory that is broken is an error of one read and not the end of the process.
    Read,
}

/// An open vmcore with two windows: the collector reads page descriptors at one place and page contents at another.
pub struct VmcoreFile {
    fd: OwnedFd,
    size_bytes: u64,
    access: Access,
    windows: [Option<Window>; 2],
    /// The window that was used last; the other is the one to be replaced.
    latest: usize,
}

struct Window {
    offset: u64,
    mapped: FileWindow,
}

/// Why `/proc/vmcore` cannot be opened, for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOpened(pub IoError);

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opening /proc/vmcore: {}", self.0)?;
        if self.0 == error(Errno::NOENT) {
            f.write_str(
                " (this kernel was given no crashed machine's memory: kexec -p loads a capture kernel)",
            )?;
        }
        Ok(())
    }
}

impl VmcoreFile {
    /// Opens the vmcore at `path`.
    ///
    /// # Errors
    /// What the kernel says: `ENOENT` in a kernel that no crash started.
    pub fn open(path: &CStr, access: Access) -> Result<Self, IoError> {
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(error)?;
        let size = rustix::fs::fstat(&fd).map_err(error)?.st_size;
        Ok(Self {
            fd,
            size_bytes: u64::try_from(size).map_err(|_| IoError::INVALID)?,
            access,
            windows: [None, None],
            latest: 0,
        })
    }

    /// The index of a window that holds the `len` bytes at `offset`, mapped now if none did. None when they do not fit into
    /// a window, reach over the end, or cannot be mapped.
    fn window(&mut self, offset: u64, len: usize) -> Option<usize> {
        let end = offset.checked_add(u64::try_from(len).ok()?)?;
        let found = self.windows.iter().position(|window| {
            window
                .as_ref()
                .is_some_and(|window| window.offset <= offset && end <= window.end())
        });
        if let Some(index) = found {
            self.latest = index;
            return Some(index);
        }
        if end > self.size_bytes || self.access == Access::Read {
            return None;
        }
        let mut start = offset - offset % WINDOW_BYTES;
        if end - start > WINDOW_BYTES {
            start = offset - offset % PAGE_BYTES;
        }
        let window_end = start.saturating_add(WINDOW_BYTES).min(self.size_bytes);
        if end > window_end {
            return None;
        }
        let length = usize::try_from(window_end - start).ok()?;
        let index = 1 - self.latest;
        let place = self.windows.get_mut(index)?;
        // The old one goes first, so that never more than two are mapped.
        *place = None;
        *place = Some(Window {
            offset: start,
            mapped: FileWindow::map(&self.fd, start, length).ok()?,
        });
        self.latest = index;
        Some(index)
    }

    /// The bytes in a window that [`Self::window`] found.
    fn mapped(&self, index: usize, offset: u64, len: usize) -> Option<&[u8]> {
        let window = self.windows.get(index)?.as_ref()?;
        let start = usize::try_from(offset.checked_sub(window.offset)?).ok()?;
        window.mapped.bytes().get(start..start.checked_add(len)?)
    }

    fn read(&self, mut offset: u64, mut buf: &mut [u8]) -> Result<(), IoError> {
        while !buf.is_empty() {
            match rustix::io::pread(&self.fd, &mut *buf, offset) {
                Ok(0) => return Err(IoError::END),
                Ok(count) => {
                    buf = buf.get_mut(count..).unwrap_or(&mut []);
                    offset = offset.saturating_add(u64::try_from(count).unwrap_or(0));
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(error(errno)),
            }
        }
        Ok(())
    }
}

impl Window {
    fn end(&self) -> u64 {
        let length = u64::try_from(self.mapped.bytes().len()).unwrap_or(0);
        self.offset.saturating_add(length)
    }
}

impl Source for VmcoreFile {
    const NATIVE: bool = true;

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        if let Some(index) = self.window(offset, buf.len())
            && let Some(bytes) = self.mapped(index, offset, buf.len())
        {
            buf.copy_from_slice(bytes);
            return Ok(());
        }
        self.read(offset, buf)
    }

    fn view<'a>(
        &'a mut self,
        offset: u64,
        len: usize,
        scratch: &'a mut [u8],
    ) -> Result<&'a [u8], IoError> {
        if let Some(index) = self.window(offset, len) {
            return self.mapped(index, offset, len).ok_or(IoError::INVALID);
        }
        let buf = scratch.get_mut(..len).ok_or(IoError::INVALID)?;
        self.read(offset, buf)?;
        Ok(buf)
    }
}

/// rustix's error number as the collector's.
pub(crate) fn error(errno: Errno) -> IoError {
    IoError(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::path::PathBuf;

    struct File(PathBuf);

    impl Drop for File {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// A file of a little more than two windows, and its bytes.
    fn sample(name: &str) -> (File, VmcoreFile, Vec<u8>) {
        let path = std::env::temp_dir().join(format!("kdumprd-{name}-{}", std::process::id()));
        let length = u32::try_from(2 * WINDOW_BYTES + 5000).unwrap();
        let bytes: Vec<u8> = (0..length).map(|i| (i % 8191 / 7) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let c_path = CString::new(path.to_str().unwrap()).unwrap();
        let vmcore = VmcoreFile::open(&c_path, Access::Map).unwrap();
        (File(path), vmcore, bytes)
    }

    #[test]
    fn views_and_reads_agree_with_the_file_across_windows_and_up_to_its_end() {
        let (_file, mut vmcore, bytes) = sample("views");
        assert_eq!(vmcore.size_bytes(), bytes.len() as u64);
        let window = WINDOW_BYTES as usize;
        let mut scratch = std::vec![0; 8192];
        for (offset, len) in [
            (0, 1),
            (0, 8192),
            (window - 1, 2),
            (window - 4096, 8192),
            (5, 4096),
            (2 * window - 100, 200),
            (bytes.len() - 4096, 4096),
            (bytes.len() - 1, 1),
            (window, 4096),
            (300, 0),
        ] {
            let view = vmcore.view(offset as u64, len, &mut scratch).unwrap();
            assert_eq!(view, &bytes[offset..offset + len], "{offset} {len}");
            let mut buffer = std::vec![0; len];
            vmcore.read_at(offset as u64, &mut buffer).unwrap();
            assert_eq!(buffer, &bytes[offset..offset + len], "{offset} {len}");
        }
    }

    #[test]
    fn what_is_not_to_be_mapped_is_read() {
        let (_file, mut vmcore, bytes) = sample("unmapped");
        vmcore.access = Access::Read;
        let mut scratch = [0; 4096];
        assert_eq!(vmcore.view(5, 4096, &mut scratch).unwrap(), &bytes[5..4101]);
        assert!(vmcore.windows.iter().all(Option::is_none));
    }

    #[test]
    fn what_is_larger_than_a_window_is_read() {
        let (_file, mut vmcore, bytes) = sample("large");
        let len = WINDOW_BYTES as usize + 4097;
        let mut scratch = std::vec![0; len];
        assert_eq!(
            vmcore.view(3, len, &mut scratch).unwrap(),
            &bytes[3..3 + len]
        );
        let error = vmcore.view(3, len, &mut scratch[..9]).unwrap_err();
        assert_eq!(error, IoError::INVALID);
    }

    #[test]
    fn beyond_the_end_there_is_no_data() {
        let (_file, mut vmcore, bytes) = sample("end");
        let mut buffer = [0; 16];
        let end = bytes.len() as u64;
        for offset in [end - 15, end, end + 4096, u64::MAX - 3] {
            assert!(vmcore.read_at(offset, &mut buffer).is_err(), "{offset}");
            assert!(vmcore.view(offset, 16, &mut [0; 16]).is_err(), "{offset}");
        }
        assert_eq!(vmcore.read_at(end, &mut buffer), Err(IoError::END));
    }

    #[test]
    fn a_file_that_cannot_be_mapped_is_read() {
        // A directory of /proc has files without mmap.
        let mut vmcore = VmcoreFile::open(c"/proc/self/status", Access::Map).unwrap();
        assert_eq!(vmcore.size_bytes(), 0);
        vmcore.size_bytes = 100;
        let mut scratch = [0; 16];
        assert_eq!(vmcore.view(0, 5, &mut scratch).unwrap(), b"Name:");
    }

    #[test]
    fn a_kernel_that_no_crash_started_has_no_vmcore() {
        let missing = VmcoreFile::open(c"/proc/kdumprd-no-vmcore", Access::Map);
        assert_eq!(missing.err(), Some(IoError(2)));
    }
}
