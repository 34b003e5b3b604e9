// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two CRCs of disk structures, ours and of others. Sixteen-entry tables: a few KiB are checked once, and the image stays small.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

/// A reflected CRC-32, four bits at a time.
struct Table([u32; 16]);

impl Table {
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        reason = "const evaluation: a mistake does not compile"
    )]
    const fn new(polynomial: u32) -> Self {
        let mut table = [0; 16];
        let mut index = 0;
        while index < 16 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 4 {
                value = if value & 1 != 0 {
                    (value >> 1) ^ polynomial
                } else {
                    value >> 1
                };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        Self(table)
    }

    fn step(&self, crc: u32, nibble: u8) -> u32 {
        let index = usize::from(crc.to_le_bytes()[0] ^ nibble) & 15;
        (crc >> 4) ^ self.0.get(index).copied().unwrap_or(0)
    }

    fn update(&self, crc: u32, bytes: &[u8]) -> u32 {
        bytes.iter().fold(crc, |crc, &byte| {
            let crc = self.step(crc, byte & 15);
            self.step(crc, byte >> 4)
        })
    }
}

static ISO: Table = Table::new(0xedb8_8320);
static CASTAGNOLI: Table = Table::new(0x82f6_3b78);

/// CRC-32 as in zlib and GPT, going on from `crc` (0 for a start).
#[must_use]
pub fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    !ISO.update(!crc, bytes)
}

/// CRC-32C without the last inversion, going on from `crc`: the form that Linux keeps in its file systems.
#[must_use]
pub fn crc32c_raw(crc: u32, bytes: &[u8]) -> u32 {
    CASTAGNOLI.update(crc, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: the check values of CRC-32/ISO-HDLC and CRC-32/ISCSI in the catalogue of parametrised CRC algorithms.
    #[test]
    fn the_check_values_of_the_catalogue() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(!crc32c_raw(!0, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_crc_in_two_steps_is_the_crc_in_one() {
        assert_eq!(crc32(crc32(0, b"1234"), b"56789"), 0xcbf4_3926);
    }
}
