// SPDX-License-Identifier: MIT OR Apache-2.0
//! How one page is made smaller, and how it is got back.

mod greedy;
pub mod lzo;
mod repeat;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod samples;
pub mod snappy;
mod window;
pub mod zlib;
pub mod zstd;

use config::Compression;

/// What [`Codec::compress`] is given of `out` besides a page's length, so that an encoder need not look at its end after
/// each byte: the worst case of LZO and snappy for 64 KiB, and more.
pub const SLACK_BYTES: usize = 16 << 10;

/// A compression with the memory that it works in.
///
/// ```
/// use collector::codec::{self, Codec};
/// use config::Compression;
///
/// let mut memory = vec![0; codec::MEMORY_BYTES];
/// let bytes = codec::with(Compression::Lzo, &mut memory, |mut codec| {
///     let mut out = [0; 4096];
///     codec.compress(&[7; 4096], &mut out).expect("one value is easy")
/// });
/// assert!(bytes.expect("there is LZO, and memory enough") < 64);
/// ```
#[derive(Debug)]
pub enum Codec<'m> {
    /// Pages are stored as they are.
    None,
    /// RFC 1950.
    Zlib(&'m mut zlib::Encoder),
    /// LZO1X.
    Lzo(lzo::Encoder<'m>),
    /// Snappy's raw format.
    Snappy(snappy::Encoder<'m>),
    /// RFC 8878.
    Zstd(&'m mut zstd::Encoder<'m>),
}

/// Bytes of memory that [`with`] needs, whatever the compression. How many of them are touched depends on the page size.
pub const MEMORY_BYTES: usize = zstd::Encoder::MEMORY_BYTES;

/// Calls `work` with the codec of a compression, which works in `memory`; none when that has fewer than [`MEMORY_BYTES`].
pub fn with<R>(
    compression: Compression,
    memory: &mut [u8],
    work: impl FnOnce(Codec<'_>) -> R,
) -> Option<R> {
    match compression {
        Compression::None => Some(work(Codec::None)),
        Compression::Zlib => Some(work(Codec::Zlib(&mut zlib::Encoder::new()))),
        Compression::Lzo => lzo::Encoder::new(memory).map(|encoder| work(Codec::Lzo(encoder))),
        Compression::Snappy => {
            snappy::Encoder::new(memory).map(|encoder| work(Codec::Snappy(encoder)))
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(memory)?;
            Some(work(Codec::Zstd(&mut encoder)))
        }
    }
}

impl Codec<'_> {
    /// Which compression this is.
    #[must_use]
    pub const fn compression(&self) -> Compression {
        match self {
            Self::None => Compression::None,
            Self::Zlib(_) => Compression::Zlib,
            Self::Lzo(_) => Compression::Lzo,
            Self::Snappy(_) => Compression::Snappy,
            Self::Zstd(_) => Compression::Zstd,
        }
    }

    /// Compresses `page` into the front of `out` and says how many bytes that took; `None` when they would be as many
    /// as the page has, or do not leave 32 bytes of `out` free: then the page is best stored as it is.
    ///
    /// Each call stands alone: the bytes depend on nothing but `page`.
    pub fn compress(&mut self, page: &[u8], out: &mut [u8]) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Zlib(encoder) => encoder.compress(page, out),
            Self::Lzo(encoder) => encoder.compress(page, out),
            Self::Snappy(encoder) => encoder.compress(page, out),
            Self::Zstd(encoder) => encoder.compress(page, out),
        }
    }
}
