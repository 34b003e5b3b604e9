// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two seams: where the vmcore comes from, and where the dumpfile goes.

use core::fmt;

/// Bytes at offsets: `/proc/vmcore`, a file, or a vector.
pub trait Source {
    /// Whether the vmcore can only be of the machine that the program is built for, as `/proc/vmcore` is. Then what other
    /// machines need is left out of the program.
    const NATIVE: bool = false;

    /// The length of the whole in bytes.
    fn size_bytes(&self) -> u64;

    /// Fills `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    /// What the device said; [`IoError::END`] where the source ends before `buf` is full.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError>;

    /// The `len` bytes from `offset` on, in place where the source is mapped, else copied into `scratch`.
    ///
    /// # Errors
    /// As [`Source::read_at`]. A `scratch` shorter than `len` is [`IoError::INVALID`].
    fn view<'a>(
        &'a mut self,
        offset: u64,
        len: usize,
        scratch: &'a mut [u8],
    ) -> Result<&'a [u8], IoError> {
        let buf = scratch.get_mut(..len).ok_or(IoError::INVALID)?;
        self.read_at(offset, buf)?;
        Ok(buf)
    }

    /// The first run of bytes from `offset` on and before `end` that this source cannot give, as they were left out of
    /// it: its first byte and the one past its last. Only a dumpfile that is read as a vmcore has such holes, and a
    /// stream of records that lie far apart.
    fn hole(&mut self, _offset: u64, _end: u64) -> Option<(u64, u64)> {
        None
    }

    /// Whether the source says of itself that it was cut short, so that what is made from it is incomplete as well.
    fn is_incomplete(&self) -> bool {
        false
    }
}

/// Where a dumpfile goes. A target that can only append is wrapped in `Flattened`.
pub trait Sink {
    /// Writes all of `data` at `offset`. Bytes that were never written read as zero, or as what the device held.
    ///
    /// # Errors
    /// What the device said; [`IoError::NO_SPACE`] when it is full.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError>;

    /// Returns when all that was written is on the device.
    ///
    /// # Errors
    /// What the device said, also about earlier writes.
    fn sync(&mut self) -> Result<(), IoError>;

    /// Whether this is a stream of records, in which every byte is to be written once: what reads it as it is cannot
    /// tell which of two records for one place came later. Only a dump that fails is worth a second one.
    fn is_stream(&self) -> bool {
        false
    }
}

impl<S: Source> Source for &mut S {
    const NATIVE: bool = S::NATIVE;

    fn size_bytes(&self) -> u64 {
        (**self).size_bytes()
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        (**self).read_at(offset, buf)
    }

    fn view<'a>(
        &'a mut self,
        offset: u64,
        len: usize,
        scratch: &'a mut [u8],
    ) -> Result<&'a [u8], IoError> {
        (**self).view(offset, len, scratch)
    }

    fn hole(&mut self, offset: u64, end: u64) -> Option<(u64, u64)> {
        (**self).hole(offset, end)
    }

    fn is_incomplete(&self) -> bool {
        (**self).is_incomplete()
    }
}

impl<K: Sink + ?Sized> Sink for &mut K {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        (**self).write_at(offset, data)
    }

    fn sync(&mut self) -> Result<(), IoError> {
        (**self).sync()
    }

    fn is_stream(&self) -> bool {
        (**self).is_stream()
    }
}

/// An error number of the kernel, as system calls return it (positive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoError(pub i32);

impl IoError {
    /// `EIO`: the device failed.
    pub const IO: Self = Self(5);
    /// `EINVAL`: the call makes no sense.
    pub const INVALID: Self = Self(22);
    /// `ENOSPC`: the device is full.
    pub const NO_SPACE: Self = Self(28);
    /// `EFBIG`: the file is as large as its file system allows.
    pub const FILE_TOO_LARGE: Self = Self(27);
    /// `EDQUOT`: the owner's share of the device is used up.
    pub const QUOTA: Self = Self(122);
    /// `ENODATA`: the source ends before the wanted bytes.
    pub const END: Self = Self(61);

    /// A smaller dump may still fit.
    #[must_use]
    pub const fn is_full(self) -> bool {
        matches!(self, Self::NO_SPACE | Self::FILE_TOO_LARGE | Self::QUOTA)
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The names a person meets here; Source: errno(3).
        let name = match self.0 {
            1 => "EPERM",
            2 => "ENOENT",
            4 => "EINTR",
            5 => "EIO",
            6 => "ENXIO",
            11 => "EAGAIN",
            12 => "ENOMEM",
            13 => "EACCES",
            14 => "EFAULT",
            15 => "ENOTBLK",
            16 => "EBUSY",
            17 => "EEXIST",
            18 => "EXDEV",
            19 => "ENODEV",
            20 => "ENOTDIR",
            21 => "EISDIR",
            22 => "EINVAL",
            25 => "ENOTTY",
            27 => "EFBIG",
            28 => "ENOSPC",
            30 => "EROFS",
            32 => "EPIPE",
            36 => "ENAMETOOLONG",
            38 => "ENOSYS",
            40 => "ELOOP",
            61 => "ENODATA",
            62 => "ETIME",
            71 => "EPROTO",
            74 => "EBADMSG",
            95 => "EOPNOTSUPP",
            100 => "ENETDOWN",
            101 => "ENETUNREACH",
            104 => "ECONNRESET",
            110 => "ETIMEDOUT",
            111 => "ECONNREFUSED",
            112 => "EHOSTDOWN",
            113 => "EHOSTUNREACH",
            116 => "ESTALE",
            117 => "EUCLEAN",
            122 => "EDQUOT",
            _ => return write!(f, "error {}", self.0),
        };
        f.write_str(name)
    }
}

impl core::error::Error for IoError {}
