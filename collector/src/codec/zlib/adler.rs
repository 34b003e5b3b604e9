// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checksum behind the data. Source: RFC 1950 section 8.2.

/// The largest prime below 65536.
const BASE: u32 = 65521;
/// The most bytes after which both sums still have 32 bits, in whole groups.
const MOST_BYTES: usize = 5376;
/// Rows of a group: as many as sums of 16 bits have room for.
const ROWS: usize = 16;
/// Bytes of a row: columns.
const COLUMNS: usize = 16;
const GROUP_BYTES: usize = ROWS * COLUMNS;

/// The Adler-32 checksum of `bytes`.
///
/// The second sum weighs each byte by its distance from the end. It is made from sums of columns, which the compiler can
/// keep in vectors: a row's bytes are added to those of the rows before it, and these sums are added up once more, which
/// weighs the rows. What weighs groups is made likewise, and what weighs columns is left to the end.
pub(super) fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for part in bytes.chunks(MOST_BYTES) {
        let (groups, rest) = part.as_chunks::<GROUP_BYTES>();
        let (mut sums, mut weighed, mut before) =
            ([0_u32; COLUMNS], [0_u32; COLUMNS], [0_u32; COLUMNS]);
        for group in groups {
            let (rows, _) = group.as_chunks::<COLUMNS>();
            let (mut sum, mut running) = ([0_u16; COLUMNS], [0_u16; COLUMNS]);
            for row in rows {
                for column in 0..COLUMNS {
                    sum[column] += u16::from(row[column]);
                    running[column] += sum[column];
                }
            }
            for column in 0..COLUMNS {
                before[column] += sums[column];
                sums[column] += u32::from(sum[column]);
                weighed[column] += u32::from(running[column]);
            }
        }
        b += a * (groups.len() * GROUP_BYTES) as u32;
        for (column, weight) in (0..COLUMNS).zip(0..) {
            // A byte in this column of row j of a group weighs 256 - 16j - column = 16 (16 - j) - column, and 256 for
            // each group behind its own.
            b += GROUP_BYTES as u32 * before[column] + COLUMNS as u32 * weighed[column];
            b -= weight * sums[column];
            a += sums[column];
        }
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
