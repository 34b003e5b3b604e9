// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checksum behind the data. Source: RFC 1950 section 8.2.

/// The largest prime below 65536.
const BASE: u32 = 65521;
/// The most bytes after which both sums still have 32 bits, in whole groups.
const MOST_BYTES: usize = 5504;
/// Rows of a group: no more than sums of 16 bits have room for.
const ROWS: usize = 16;
/// Bytes of a row.
const COLUMNS: usize = 8;
const GROUP_BYTES: usize = ROWS * COLUMNS;
/// Every other byte of a row.
const BYTES: u64 = 0x00ff_00ff_00ff_00ff;
/// Every other sum of 16 bits.
const SUMS: u64 = 0x0000_ffff_0000_ffff;

/// The Adler-32 checksum of `bytes`.
///
/// The second sum weighs each byte by its distance from the end. It is made from sums of columns, four to a register, the
/// even ones and the odd ones apart: a row's bytes are added to those of the rows before it, and these sums are added up
/// once more, which weighs the rows. What weighs groups is made likewise, and what weighs columns is left to the end.
/// (Vectors would be faster on most machines, but not under an emulator, and a compiler finds them only sometimes.)
pub(super) fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for part in bytes.chunks(MOST_BYTES) {
        let (groups, rest) = part.as_chunks::<GROUP_BYTES>();
        let (mut before, mut sums, mut weighed) = (0_u32, 0_u32, 0_u64);
        // Two columns to a register: 0 and 4, 2 and 6, 1 and 5, 3 and 7.
        let mut columns = [0_u64; 4];
        for group in groups {
            let (rows, _) = group.as_chunks::<COLUMNS>();
            let (mut even, mut odd, mut even_weighed, mut odd_weighed) = (0_u64, 0, 0_u64, 0);
            for row in rows {
                let row = u64::from_le_bytes(*row);
                even += row & BYTES;
                odd += row >> 8 & BYTES;
                even_weighed += even;
                odd_weighed += odd;
            }
            before += sums;
            sums += ((even + odd).wrapping_mul(0x0001_0001_0001_0001) >> 48) as u32;
            weighed += (even_weighed & SUMS) + (even_weighed >> 16 & SUMS);
            weighed += (odd_weighed & SUMS) + (odd_weighed >> 16 & SUMS);
            columns[0] += even & SUMS;
            columns[1] += even >> 16 & SUMS;
            columns[2] += odd & SUMS;
            columns[3] += odd >> 16 & SUMS;
        }
        // A byte in a column of row j of a group weighs 128 - 8j - column = 8 (16 - j) - column, and 128 for each group behind
        // its own.
        b += a * (groups.len() * GROUP_BYTES) as u32 + GROUP_BYTES as u32 * before;
        b += COLUMNS as u32 * (weighed as u32 + (weighed >> 32) as u32);
        for (pair, column) in columns.into_iter().zip([0, 2, 1, 3]) {
            b -= column * pair as u32 + (column + 4) * (pair >> 32) as u32;
        }
        a += sums;
        for &byte in rest {
            a += u32::from(byte);
            b += a;
        }
        a %= BASE;
        b %= BASE;
    }
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        assert_eq!(adler32(b""), 1);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn equals_the_definition_at_every_length() {
        let mut state = 1_u32;
        let bytes: Vec<u8> = (0..70_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if state >> 30 == 0 {
                    255
                } else {
                    (state >> 16) as u8
                }
            })
            .collect();
        let lengths = (0..700).chain([4096, 5375, 5376, 5377, 5552, 16384, 65536, 70_000]);
        for length in lengths {
            let (mut a, mut b) = (1_u64, 0_u64);
            for &byte in &bytes[..length] {
                a = (a + u64::from(byte)) % 65521;
                b = (b + a) % 65521;
            }
            assert_eq!(
                u64::from(adler32(&bytes[..length])),
                b << 16 | a,
                "{length}"
            );
        }
        for length in [256, 4096, 5376, 65536] {
            let ones = vec![255; length];
            let (mut a, mut b) = (1_u64, 0_u64);
            for _ in 0..length {
                a = (a + 255) % 65521;
                b = (b + a) % 65521;
            }
            assert_eq!(u64::from(adler32(&ones)), b << 16 | a, "{length}");
        }
    }
}
