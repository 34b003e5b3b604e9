// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checksum behind the data. Source: RFC 1950 section 8.2.

use core::array;

/// The largest prime below 65536.
const BASE: u32 = 65521;
/// Rows of a group: no more than sums of 16 bits have room for.
const ROWS: usize = 16;
/// Bytes of a row.
const COLUMNS: usize = 16;
const GROUP_BYTES: usize = ROWS * COLUMNS;
/// The most bytes after which sums of columns have room in 16 bits, and the rest in 32.
const MOST_BYTES: usize = 16 * GROUP_BYTES;
/// Columns of 16 bits, each of two bytes.
const PAIRS: usize = COLUMNS / 2;

/// The Adler-32 checksum of `bytes`.
///
/// The second sum weighs each byte by its distance from the end. It is made from sums of columns, the even ones and the odd
/// ones apart: a row's bytes are added to those of the rows before it, and these sums are added up once more, which weighs the
/// rows. What weighs groups is made likewise, and what weighs columns is left to the end.
///
/// There is nothing here but what a compiler makes vectors of, by instructions that an emulator does not take long for either.
pub(super) fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for part in bytes.chunks(MOST_BYTES) {
        let (groups, rest) = part.as_chunks::<GROUP_BYTES>();
        let (mut before, mut sums, mut weighed) = (0_u32, 0_u32, 0_u32);
        let mut columns = ([0_u16; PAIRS], [0_u16; PAIRS]);
        for group in groups {
            let mut even = [0_u16; PAIRS];
            let mut odd = [0_u16; PAIRS];
            let mut even_weighed = [0_u16; PAIRS];
            let mut odd_weighed = [0_u16; PAIRS];
            let (rows, _) = group.as_chunks::<COLUMNS>();
            for row in rows {
                let (pairs, _) = row.as_chunks::<2>();
                let both: [u16; PAIRS] = array::from_fn(|pair| u16::from_le_bytes(pairs[pair]));
                even = array::from_fn(|pair| even[pair] + (both[pair] & 255));
                odd = array::from_fn(|pair| odd[pair] + (both[pair] >> 8));
                even_weighed = array::from_fn(|pair| even_weighed[pair] + even[pair]);
                odd_weighed = array::from_fn(|pair| odd_weighed[pair] + odd[pair]);
            }
            before += sums;
            for pair in 0..PAIRS {
                sums += u32::from(even[pair] + odd[pair]);
                weighed += u32::from(even_weighed[pair]) + u32::from(odd_weighed[pair]);
                columns.0[pair] += even[pair];
                columns.1[pair] += odd[pair];
            }
        }
        // A byte in a column of row j of a group weighs 256 - 16j - column = 16 (16 - j) - column, and 256 for each group behind
        // its own.
        b += a * (groups.len() * GROUP_BYTES) as u32 + GROUP_BYTES as u32 * before;
        b += COLUMNS as u32 * weighed;
        for (column, (even, odd)) in (0..).step_by(2).zip(columns.0.into_iter().zip(columns.1)) {
            b -= column * u32::from(even) + (column + 1) * u32::from(odd);
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
        let lengths = (0..700).chain([4095, 4096, 4097, 8192, 16384, 65536, 70_000]);
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
        for length in [256, 4096, 8192, 65536] {
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
