// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers and UUIDs out of bytes that came from a disk.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

use crate::text::Text;
use collector::{IoError, Source};

/// A UUID as `blkid` prints it, or what a type has in its place. The longest is that of LUKS, 40 bytes.
pub type Uuid = Text<40>;

/// Structures on disks are read in place: a field that lies outside reads as zero, which every caller's check of the
/// magic number has ruled out by then.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn bytes<const N: usize>(&self, offset: usize) -> [u8; N] {
        self.0
            .get(offset..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .unwrap_or([0; N])
    }

    pub(crate) fn has(&self, offset: usize, magic: &[u8]) -> bool {
        self.0
            .get(offset..)
            .is_some_and(|rest| rest.starts_with(magic))
    }

    pub(crate) fn u8(&self, offset: usize) -> u8 {
        u8::from_le_bytes(self.bytes(offset))
    }

    pub(crate) fn le16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.bytes(offset))
    }

    pub(crate) fn le32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.bytes(offset))
    }

    pub(crate) fn le64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.bytes(offset))
    }

    pub(crate) fn be16(&self, offset: usize) -> u16 {
        u16::from_be_bytes(self.bytes(offset))
    }

    pub(crate) fn be32(&self, offset: usize) -> u32 {
        u32::from_be_bytes(self.bytes(offset))
    }

    pub(crate) fn be64(&self, offset: usize) -> u64 {
        u64::from_be_bytes(self.bytes(offset))
    }

    /// Text of at most `len` bytes that ends at its first NUL.
    pub(crate) fn text<const N: usize>(&self, offset: usize, len: usize) -> Text<N> {
        let end = offset.saturating_add(len);
        let field = self.0.get(offset..end).unwrap_or_default();
        let text = field.split(|&byte| byte == 0).next().unwrap_or_default();
        Text::new(text)
    }

    /// A UUID in the byte order it is printed in; empty when all its bytes are zero.
    pub(crate) fn uuid(&self, offset: usize) -> Uuid {
        uuid(&self.bytes(offset))
    }
}

/// `0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11`; empty for the nil UUID, which nothing is known by.
pub(crate) fn uuid(bytes: &[u8; 16]) -> Uuid {
    let mut text = Uuid::EMPTY;
    if bytes == &[0; 16] {
        return text;
    }
    for (position, byte) in bytes.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            text.push(b"-");
        }
        text.push(&hex(*byte));
    }
    text
}

/// Two lower-case digits.
pub(crate) fn hex(byte: u8) -> [u8; 2] {
    let digit = |nibble: u8| match nibble {
        0..=9 => b'0'.wrapping_add(nibble),
        _ => b'a'.wrapping_add(nibble).wrapping_sub(10),
    };
    [digit(byte >> 4), digit(byte & 15)]
}

/// Fills as much of `buf` as the source has from `offset` on, and says how much that is.
pub(crate) fn read_up_to<S: Source + ?Sized>(
    source: &mut S,
    offset: u64,
    buf: &mut [u8],
) -> Result<usize, IoError> {
    let left = source.size_bytes().saturating_sub(offset);
    let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
    let part = buf.get_mut(..len).unwrap_or_default();
    if !part.is_empty() {
        source.read_at(offset, part)?;
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_outside_read_as_zero() {
        let fields = Fields(&[1, 2, 3]);
        assert_eq!(fields.le16(1), 0x0302);
        assert_eq!(fields.le16(2), 0);
        assert_eq!(fields.le64(usize::MAX), 0);
        assert!(fields.text::<8>(2, 9).is_empty());
        assert!(!fields.has(3, b"x"));
    }

    #[test]
    fn the_nil_uuid_is_no_uuid() {
        assert!(uuid(&[0; 16]).is_empty());
        let bytes = core::array::from_fn(|index| u8::try_from(index * 17).unwrap());
        assert_eq!(
            uuid(&bytes).to_string(),
            "00112233-4455-6677-8899-aabbccddeeff"
        );
    }
}
