// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prefix codes of limited length, made from counts. Source: RFC 1951 section 3.2.2.
//!
//! Not by Huffman's tree, which takes three times the instructions: a symbol that makes up one part in n of all is given
//! log2 n bits, rounded up or down, and the lengths are then adjusted until the code is complete. On pages of kernel memory
//! that costs 2 or 3 in 1000 of the size.

use super::bits::Word;

/// The longest words. That of the code for lengths is the format's, the others come about: a chunk has little more than
/// 2^12 symbols, and a third as many matches.
pub(super) const LITERALS_LIMIT: u32 = 13;
pub(super) const DISTANCES_LIMIT: u32 = 13;
pub(super) const LENGTHS_LIMIT: u32 = 7;

/// Room for the symbols of any alphabet, and a mask for it.
const ROOM: usize = 512;
const MASK: usize = ROOM - 1;
/// The longest word of the format. All words of a complete code, each two to the power of (this less its length), come to
/// [`WHOLE`].
const MOST_BITS: u32 = 15;
const WHOLE: i32 = 1 << MOST_BITS;
/// Lengths are reckoned in sixteenths of a bit.
const PARTS: u32 = 16;
const SYMBOL_BITS: u32 = 16;

/// Logarithms to the base of two, in [`PARTS`] of a bit, rounded down.
static LOG: [u8; 4096] = {
    let mut logs = [0; 4096];
    let mut number: u64 = 1;
    while number < 4096 {
        // Squared, a number's logarithm is doubled: so come the bits behind the point.
        let mut log = number.ilog2();
        let mut power = number << (31 - log);
        let mut bit = 1;
        while bit < PARTS {
            power = (power * power) >> 31;
            log *= 2;
            if power >= 1 << 32 {
                power >>= 1;
                log += 1;
            }
            bit *= 2;
        }
        logs[number as usize] = log as u8;
        number += 1;
    }
    logs
};

/// Each byte with its bits in the other order.
static REVERSED: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut index = 0;
    while index < 256 {
        bytes[index] = (index as u8).reverse_bits();
        index += 1;
    }
    bytes
};

/// A symbol, and above it its count, or what became of that: its length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf(u32);

impl Leaf {
    const NONE: Self = Self(0);

    #[inline(always)]
    const fn new(symbol: u32, value: u32) -> Self {
        Self(value << SYMBOL_BITS | symbol)
    }

    #[inline(always)]
    pub(super) const fn symbol(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    /// The length of its word.
    #[inline(always)]
    pub(super) const fn len(self) -> u32 {
        self.value()
    }

    #[inline(always)]
    const fn value(self) -> u32 {
        self.0 >> SYMBOL_BITS
    }

    #[inline(always)]
    const fn with_value(self, value: u32) -> Self {
        Self::new(self.0 & 0xffff, value)
    }
}

/// Memory to make codes in.
#[derive(Debug)]
pub(super) struct Builder {
    leaves: [Leaf; ROOM],
}

/// The words of a code, those of each length in the order of their symbols.
#[derive(Debug)]
pub(super) struct Lengths {
    /// The next word of each length, its first bit highest.
    next: [u16; MOST_BITS as usize + 1],
}

impl Lengths {
    fn new(by_length: [u16; MOST_BITS as usize + 1]) -> Self {
        let mut next = [0; MOST_BITS as usize + 1];
        let mut first = 0_u32;
        for (len, (next, count)) in (0..).zip(next.iter_mut().zip(by_length)).skip(1) {
            *next = first as u16;
            first += u32::from(count) << (16 - len);
        }
        Self { next }
    }

    /// The word of the next symbol.
    #[inline(always)]
    pub(super) fn next_word(&mut self, leaf: Leaf) -> Word {
        let len = leaf.len();
        let next = &mut self.next[(len & MOST_BITS) as usize];
        let [low, high] = next.to_le_bytes();
        *next = next.wrapping_add((0x1_0000_u32 >> (len & MOST_BITS)) as u16);
        let reversed =
            u32::from(REVERSED[usize::from(low)]) << 8 | u32::from(REVERSED[usize::from(high)]);
        Word::new(reversed, len)
    }
}

impl Builder {
    pub(super) const fn new() -> Self {
        Self {
            leaves: [Leaf::NONE; ROOM],
        }
    }

    /// Makes a code for these counts, which come to `sum`: the symbols that occur, in their order, and their words.
    ///
    /// No word is longer than `LIMIT`, and the code is complete: decoders refuse one with gaps. So where fewer than two
    /// symbols occur, others get a word too. `LIMIT` is at most 13 and has room for all symbols.
    pub(super) fn make<const LIMIT: u32>(
        &mut self,
        counts: &[u16],
        sum: usize,
    ) -> (&[Leaf], Lengths) {
        let mut count = 0;
        for (symbol, &times) in (0..).zip(counts) {
            // No branch: which symbols occur is hard to foresee.
            self.leaves[count & MASK] = Leaf::new(symbol, times.into());
            count += usize::from(times != 0);
        }
        if count < 2 {
            let only = if count == 1 {
                self.leaves[0].symbol()
            } else {
                0
            };
            let other = usize::from(only == 0);
            self.leaves[0] = Leaf::new(only.min(other) as u32, 1);
            self.leaves[1] = Leaf::new(only.max(other) as u32, 1);
            count = 2;
        }
        let leaves = &mut self.leaves[..count & MASK];
        let mut left = set_lengths::<LIMIT>(leaves, sum);
        let mut by_length = [0_u16; MOST_BITS as usize + 1];
        for &leaf in &*leaves {
            by_length[(leaf.len() & MOST_BITS) as usize] += 1;
        }
        // Only a limit can have made words too short, and then there are some below it.
        while left < 0 {
            for leaf in &mut *leaves {
                let len = leaf.len();
                if len < LIMIT && left < 0 {
                    left += WHOLE >> (len + 1);
                    by_length[(len & MOST_BITS) as usize] -= 1;
                    by_length[((len + 1) & MOST_BITS) as usize] += 1;
                    *leaf = leaf.with_value(len + 1);
                }
            }
        }
        // What is left is a multiple of what the longest words take, so that at least these can get shorter.
        while left > 0 {
            for leaf in &mut *leaves {
                let len = leaf.len();
                if WHOLE >> len <= left {
                    left -= WHOLE >> len;
                    by_length[(len & MOST_BITS) as usize] -= 1;
                    by_length[((len - 1) & MOST_BITS) as usize] += 1;
                    *leaf = leaf.with_value(len - 1);
                    if left == 0 {
                        break;
                    }
                }
            }
        }
        (leaves, Lengths::new(by_length))
    }
}

/// Turns counts into lengths, and returns what is left of the whole: below zero when a limit made words too short.
#[inline(always)]
fn set_lengths<const LIMIT: u32>(leaves: &mut [Leaf], sum: usize) -> i32 {
    // More than the logarithm, so that with all lengths rounded up there is always something left.
    let whole = u32::from(LOG[sum.min(LOG.len() - 1)]) + 1;
    let mut left = WHOLE;
    // What more it takes when the lengths with this many parts of a bit are rounded down.
    let mut more = [0_i32; PARTS as usize];
    for leaf in &mut *leaves {
        let log = u32::from(LOG[leaf.value() as usize & (LOG.len() - 1)]);
        let mut parts = whole.wrapping_sub(log) & 255;
        if LIMIT < LITERALS_LIMIT {
            parts = parts.min(LIMIT * PARTS - 1);
        }
        *leaf = leaf.with_value(parts);
        let rounded_up = (WHOLE / 2) >> ((parts / PARTS) & MOST_BITS);
        left -= rounded_up;
        more[(parts % PARTS) as usize] += rounded_up;
    }
    // The closer to the shorter length, the sooner it is taken.
    let mut up = PARTS;
    for more in more {
        if more > left {
            break;
        }
        left -= more;
        up -= 1;
    }
    for leaf in leaves {
        *leaf = leaf.with_value((leaf.value() + up) / PARTS);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bits that the best code without a limit takes: the sum of all inner nodes of Huffman's tree.
    fn best(counts: &[u16]) -> u32 {
        let mut trees: Vec<u32> = counts
            .iter()
            .filter(|&&count| count != 0)
            .map(|&count| count.into())
            .collect();
        let mut bits = 0;
        while trees.len() > 1 {
            trees.sort_unstable_by(|a, b| b.cmp(a));
            let joined = trees.pop().unwrap() + trees.pop().unwrap();
            bits += joined;
            trees.push(joined);
        }
        bits
    }

    /// Checks what decoders insist on, and returns the bits that the code takes.
    fn check<const LIMIT: u32>(counts: &[u16]) -> u32 {
        let sum = counts.iter().map(|&count| usize::from(count)).sum();
        let mut builder = Builder::new();
        let (leaves, mut lengths) = builder.make::<LIMIT>(counts, sum);
        let symbols: Vec<usize> = leaves.iter().map(|leaf| leaf.symbol()).collect();
        assert!(symbols.is_sorted_by(|a, b| a < b));
        for (symbol, &count) in counts.iter().enumerate() {
            assert!(count == 0 || symbols.contains(&symbol));
        }
        let kraft: u32 = leaves.iter().map(|leaf| 1 << (15 - leaf.len())).sum();
        assert_eq!(kraft, 1 << 15, "{counts:?}");
        let mut bits = 0;
        let mut words: Vec<(u32, u32)> = Vec::new();
        for &leaf in leaves {
            let word = lengths.next_word(leaf);
            assert!((1..=LIMIT).contains(&word.len()) && word.len() == leaf.len());
            let value = word.with_value(0) as u32;
            assert!(value < 1 << word.len());
            words.push((word.len(), value.reverse_bits() >> (32 - word.len())));
            let count = counts.get(leaf.symbol()).copied();
            bits += u32::from(count.unwrap_or(0)) * word.len();
        }
        // The order of the format: by length, then by symbol, each word the next number.
        words.sort_by_key(|&(len, _)| len);
        let (mut next, mut before) = (0, 0);
        for (len, word) in words {
            next <<= len - before;
            assert_eq!(word, next, "{counts:?}");
            (next, before) = (next + 1, len);
        }
        bits
    }

    #[test]
    fn words_are_those_of_the_rfc() {
        // Lengths (3, 3, 3, 3, 3, 2, 4, 4) make 010, 011, 100, 101, 110, 00, 1110, 1111.
        let mut builder = Builder::new();
        let (leaves, mut lengths) = builder.make::<13>(&[4, 4, 4, 4, 4, 8, 2, 2], 32);
        let words = leaves.iter().map(|&leaf| {
            let word = lengths.next_word(leaf);
            let value = word.with_value(0) as u32;
            (value.reverse_bits() >> (32 - word.len()), word.len())
        });
        let expected = [
            (0b010, 3),
            (0b011, 3),
            (0b100, 3),
            (0b101, 3),
            (0b110, 3),
            (0b00, 2),
            (0b1110, 4),
            (0b1111, 4),
        ];
        assert_eq!(words.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn logarithms_are_rounded_down() {
        for (number, &log) in LOG.iter().enumerate().skip(1) {
            let exact = (number as f64).log2() * 16.0;
            assert!((f64::from(log) - exact.floor()).abs() < 1e-6, "{number}");
        }
    }

    #[test]
    fn codes_are_complete_within_the_limit_and_nearly_the_best() {
        let mut state = 9_u64;
        let mut random = move |limit: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) % limit
        };
        let (mut all, mut all_best) = (0_u64, 0_u64);
        for round in 0..20_000 {
            let symbols = [19, 30, 286][round % 3];
            let most = 1 << random(12);
            let gaps = 1 + random(10);
            // A chunk has no more symbols than bytes, and the end.
            let mut room = 4097;
            let counts: Vec<u16> = (0..symbols)
                .map(|_| {
                    let count = if random(gaps) == 0 {
                        random(most).min(room)
                    } else {
                        0
                    };
                    room -= count;
                    count as u16
                })
                .collect();
            let bits = check::<13>(&counts);
            if symbols == 19 {
                check::<7>(&counts);
            }
            let best = best(&counts);
            if counts.iter().filter(|&&count| count != 0).count() > 1 {
                assert!(bits >= best, "{counts:?}");
                all += u64::from(bits);
                all_best += u64::from(best);
            }
        }
        assert!(all * 100 < all_best * 102, "{all} {all_best}");
    }

    #[test]
    fn skewed_counts_meet_the_limit() {
        // Fibonacci numbers make Huffman's tree as deep as it gets.
        let (mut now, mut next) = (1_u16, 1_u16);
        let mut counts = Vec::new();
        while counts.iter().sum::<u16>() + now < 4097 {
            counts.push(now);
            (now, next) = (next, now + next);
            check::<13>(&counts);
            check::<7>(&counts);
            let mut other_way = counts.clone();
            other_way.reverse();
            check::<7>(&other_way);
        }
        // One symbol that is nearly all, and all others once.
        for others in 1..286 {
            let mut counts = vec![1; others];
            counts.push(4096 - others as u16);
            check::<13>(&counts);
            counts.truncate(19);
            counts[0] = 300;
            check::<7>(&counts);
        }
    }

    #[test]
    fn even_counts_make_even_words() {
        for symbols in 2..=286_usize {
            let counts = vec![4097 / 286_u16; symbols];
            let bits = check::<13>(&counts);
            let most =
                counts.len() as u32 * u32::from(counts[0]) * symbols.next_power_of_two().ilog2();
            assert!(bits <= most);
        }
    }

    #[test]
    fn few_symbols_still_make_a_complete_code() {
        check::<13>(&[0; 30]);
        for only in 0..30 {
            let mut counts = [0; 30];
            for count in [1, 7, 1365] {
                counts[only] = count;
                assert_eq!(check::<13>(&counts), count.into());
            }
        }
        assert_eq!(check::<7>(&[3, 0, 5]), 8);
    }
}
