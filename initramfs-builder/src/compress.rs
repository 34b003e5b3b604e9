// SPDX-License-Identifier: MIT OR Apache-2.0
//! The compressions of kernel modules, firmware and images: what is compressed how is told by its first bytes.

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::fmt;
use std::io::{self, Read, Write as _};

/// The most bytes that a decompressed file may have: a guard against a damaged one that unpacks for ever.
const MOST_BYTES: u64 = 1 << 30;

/// How an image is compressed.
///
/// Measured on Debian's 6.1 kernels under QEMU with `-icount shift=0`, where a nanosecond is an instruction; the sizes are
/// bytes, the times are ms for unpacking, and until init runs:
///
/// | kernel | none | gzip | xz |
/// |---|---|---|---|
/// | cloud | 675284: 1.5, 1555 | 261720: 21, 1566 | 202696: 115, 1627 |
/// | generic | 3148612: 9, 1679 | 852053: 81, 1719 | 624332: 298, 1936 |
///
/// While it unpacks, the image is in memory beside its contents, which is when a small reservation runs out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageCompression {
    /// Not at all.
    None,
    /// Read by every kernel with `CONFIG_RD_GZIP`, which distributions set. Takes little time and most of the size.
    #[default]
    Gzip,
    /// Smallest, and slowest to unpack.
    Xz,
}

impl ImageCompression {
    /// Every compression that an image can have.
    pub const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Xz];

    /// The word of the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
        }
    }

    /// The compression that `word` names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|compression| compression.word() == word)
    }

    /// Compresses; the same bytes give the same result at any time and place.
    ///
    /// # Errors
    /// What the encoder said; writing to memory does not fail by itself.
    pub fn compress(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(bytes.to_vec()),
            Self::Gzip => {
                // The header holds neither a time nor a name.
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Xz => {
                // The kernel's decoder knows CRC32 alone and takes memory for the whole dictionary.
                let mut options = lzma_rust2::XzOptions::with_preset(6);
                options.set_check_sum_type(lzma_rust2::CheckType::Crc32);
                options.lzma_options.dict_size = 1 << 20;
                let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options)?;
                encoder.write_all(bytes)?;
                encoder.finish()
            }
        }
    }
}

impl fmt::Display for ImageCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Decompresses gzip, xz and zstd; other bytes are given back as they are.
///
/// # Errors
/// The stream is damaged, or unpacks to more than 1 GiB.
pub fn decompress(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    match bytes.as_slice() {
        [0x1f, 0x8b, ..] => read_bounded(MultiGzDecoder::new(bytes.as_slice())),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            read_bounded(lzma_rust2::XzReader::new(bytes.as_slice(), true))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => read_bounded(
            ruzstd::decoding::StreamingDecoder::new(bytes.as_slice()).map_err(io::Error::other)?,
        ),
        _ => Ok(bytes),
    }
}

fn read_bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other("unpacks to more than 1 GiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        (0..8_000_u32)
            .flat_map(|number| (number / 7).to_le_bytes())
            .collect()
    }

    #[test]
    fn what_is_compressed_unpacks_to_the_same() {
        for compression in ImageCompression::ALL {
            let packed = compression.compress(&sample()).unwrap();
            assert_eq!(packed, compression.compress(&sample()).unwrap());
            assert_eq!(
                packed.len() < sample().len() / 2,
                compression != ImageCompression::None
            );
            assert!(decompress(packed).unwrap() == sample(), "{compression}");
            assert_eq!(
                ImageCompression::from_word(compression.word()),
                Some(compression)
            );
        }
    }

    #[test]
    fn zstd_is_read() {
        // `printf 'kdump kdump kdump\n' | zstd --no-check`: one raw block.
        let packed = b"\x28\xb5\x2f\xfd\x00\x58\x91\x00\x00kdump kdump kdump\n".to_vec();
        assert_eq!(decompress(packed).unwrap(), b"kdump kdump kdump\n");
    }

    #[test]
    fn damage_is_an_error_and_no_other_file() {
        for compression in [ImageCompression::Gzip, ImageCompression::Xz] {
            let packed = compression.compress(&sample()).unwrap();
            assert!(
                decompress(packed[..packed.len() - 5].to_vec()).is_err(),
                "{compression}"
            );
            let mut flipped = packed.clone();
            flipped[packed.len() / 2] ^= 0x10;
            assert!(decompress(flipped).is_err(), "{compression}");
        }
        assert_eq!(decompress(b"plain".to_vec()).unwrap(), b"plain");
    }
}
