// SPDX-License-Identifier: MIT OR Apache-2.0
//! How one page is made smaller.

pub mod zlib;

use config::Compression;

/// A compression with the memory that it works in.
///
/// ```
/// use collector::codec::{Codec, zlib};
///
/// let mut encoder = zlib::Encoder::new();
/// let mut codec = Codec::Zlib(&mut encoder);
/// let mut out = [0; 4096];
/// let bytes = codec.compress(&[7; 4096], &mut out).expect("one value is easy");
/// assert!(bytes < 64);
/// ```
#[derive(Debug)]
pub enum Codec<'m> {
    /// Pages are stored as they are.
    None,
    /// RFC 1950.
    Zlib(&'m mut zlib::Encoder),
}

impl Codec<'_> {
    /// Which compression this is.
    #[must_use]
    pub const fn compression(&self) -> Compression {
        match self {
            Self::None => Compression::None,
            Self::Zlib(_) => Compression::Zlib,
        }
    }

    /// Compresses `page` into the front of `out` and says how many bytes that took; `None` when they would be as many
    /// as the page has, or do not leave 8 bytes of `out` free: then the page is best stored as it is.
    ///
    /// Each call stands alone: the bytes depend on nothing but `page`.
    pub fn compress(&mut self, page: &[u8], out: &mut [u8]) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Zlib(encoder) => encoder.compress(page, out),
        }
    }
}
