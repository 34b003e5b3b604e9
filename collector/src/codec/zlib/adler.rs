// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checksum behind the data. Source: RFC 1950 section 8.2.

/// The largest prime below 65536.
const BASE: u32 = 65521;
/// The most bytes after which both sums still have 32 bits, in whole groups.
const MOST_BYTES: usize = 5504;
const GROUP_BYTES: usize = 64;
/// Every other byte of a word: four lanes of 16 bits.
const BYTES: u64 = 0x00ff_00ff_00ff_00ff;
/// Every other lane: two lanes of 32 bits.
const LANES: u64 = 0x0000_ffff_0000_ffff;

/// The Adler-32 checksum of `bytes`.
///
/// The second sum weighs each byte by its distance from the end. It is made from column sums: in each 64 bytes, eight
/// words are added up as four 16-bit lanes, and the running sums are added up once more, which weighs the words. What
/// weighs the columns is left to the end.
pub(super) fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for part in bytes.chunks(MOST_BYTES) {
        let (groups, rest) = part.as_chunks::<GROUP_BYTES>();
        let mut before = 0_u32;
        let (mut weighed, mut even_columns, mut all_columns) = ([0; 2], [0; 2], [0; 2]);
        for group in groups {
            let (words, _) = group.as_chunks::<8>();
            let (mut evens, mut pairs, mut running) = (0_u64, 0_u64, 0_u64);
            for word in words {
                let word = u64::from_le_bytes(*word);
                let even = word & BYTES;
                evens += even;
                pairs += even + (word >> 8 & BYTES);
                running += pairs;
            }
            add_lanes(&mut weighed, running);
            add_lanes(&mut even_columns, evens);
            add_lanes(&mut all_columns, pairs);
            before += a;
            // The four lanes' sum fits the highest one.
            a += (pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48) as u32;
        }
        // A byte in column k of word j of a group weighs 64 - 8j - k = 8 (8 - j) - k.
        b += before * 64 + 8 * weigh(weighed, [1; 4]);
        // Columns 2i and 2i + 1 are counted as a pair at 2i + 1, which is one too many for the even ones.
        b -= weigh(all_columns, [1, 3, 5, 7]) - weigh(even_columns, [1; 4]);
        for &byte in rest {
            a += u32::from(byte);
            b += a;
        }
        a %= BASE;
        b %= BASE;
    }
    b << 16 | a
}

/// Adds four lanes of 16 bits to those of 32 bits: the 1st and the 3rd, the 2nd and the 4th.
#[inline(always)]
fn add_lanes(sums: &mut [u64; 2], lanes: u64) {
    sums[0] += lanes & LANES;
    sums[1] += lanes >> 16 & LANES;
}

/// The sum of the four lanes, each times its weight.
fn weigh(sums: [u64; 2], weights: [u32; 4]) -> u32 {
    let [low, high] = sums;
    (low as u32) * weights[0]
        + (high as u32) * weights[1]
        + ((low >> 32) as u32) * weights[2]
        + ((high >> 32) as u32) * weights[3]
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
        let lengths = (0..700).chain([4096, 5503, 5504, 5505, 5552, 16384, 65536, 70_000]);
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
        for length in [4096, 5504, 65536] {
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
