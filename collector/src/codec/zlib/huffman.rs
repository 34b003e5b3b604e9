// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prefix codes of limited length, made from counts.

/// The most symbols of an alphabet, with room up to a round number.
pub(super) const MOST_SYMBOLS: usize = 288;
/// The longest code word that RFC 1951 allows.
const MOST_BITS: usize = 15;
/// Counts from here on are sorted among themselves; they are few, as all counts of a chunk add up to little.
const BUCKETS: usize = 64;

/// Memory to make codes in.
#[derive(Debug)]
pub(super) struct Builder {
    /// The symbols that occur, in their own order.
    used: [u16; MOST_SYMBOLS],
    /// The symbols that occur, rarest first.
    sorted: [u16; MOST_SYMBOLS],
    /// Inner nodes of the tree: first their weight, then their parent's place, then their depth.
    nodes: [u32; MOST_SYMBOLS],
}

impl Builder {
    pub(super) const fn new() -> Self {
        Self {
            used: [0; MOST_SYMBOLS],
            sorted: [0; MOST_SYMBOLS],
            nodes: [0; MOST_SYMBOLS],
        }
    }

    /// Sets `lens` to the length of each symbol's code word, 0 for one that does not occur.
    ///
    /// No length is above `limit`, and the code is complete: decoders refuse one with gaps. So where fewer than two
    /// symbols occur, others get a word too. `limit` is at most 15 and has room for all symbols.
    pub(super) fn lengths(&mut self, counts: &[u16], limit: usize, lens: &mut [u8]) {
        lens.fill(0);
        let used = self.sort(counts);
        if used < 2 {
            let only = if used == 1 { self.sorted[0] } else { 0 };
            lens[usize::from(only)] = 1;
            lens[usize::from(only == 0)] = 1;
            return;
        }
        self.join(counts, used);
        let by_length = self.count_lengths(used, limit);
        // The rarest get the longest words.
        let mut symbols = self.sorted[..used].iter();
        for length in (1..=limit).rev() {
            for &symbol in symbols.by_ref().take(by_length[length].into()) {
                lens[usize::from(symbol)] = length as u8;
            }
        }
    }

    /// Fills `sorted` with the symbols that occur and says how many they are.
    fn sort(&mut self, counts: &[u16]) -> usize {
        let bucket = |count: u16| usize::from(count).min(BUCKETS - 1);
        let mut used = 0;
        let mut starts = [0_u16; BUCKETS];
        for (symbol, &count) in counts.iter().enumerate() {
            // No branch: which symbols occur is hard to foresee.
            self.used[used.min(MOST_SYMBOLS - 1)] = symbol as u16;
            used += usize::from(count != 0);
            starts[bucket(count)] += 1;
        }
        let mut sum = 0;
        for start in &mut starts[1..] {
            let here = *start;
            *start = sum;
            sum += here;
        }
        let often = usize::from(starts[BUCKETS - 1]);
        for &symbol in &self.used[..used] {
            let place = &mut starts[bucket(counts[usize::from(symbol)])];
            self.sorted[usize::from(*place)] = symbol;
            *place += 1;
        }
        let often = &mut self.sorted[often..used];
        for end in 1..often.len() {
            let symbol = often[end];
            let mut at = end;
            while at > 0 && counts[usize::from(often[at - 1])] > counts[usize::from(symbol)] {
                often[at] = often[at - 1];
                at -= 1;
            }
            often[at] = symbol;
        }
        used
    }

    /// Joins the two lightest trees until one is left: `nodes` then has each inner node's parent, the root last.
    ///
    /// Leaves are sorted and inner nodes come out sorted, so the lightest is always next in one of the two rows.
    fn join(&mut self, counts: &[u16], used: usize) {
        let weight = |leaf: usize, sorted: &[u16; MOST_SYMBOLS]| match sorted[..used].get(leaf) {
            Some(&symbol) => u32::from(counts[usize::from(symbol)]),
            None => u32::MAX,
        };
        let (mut leaf, mut inner) = (0, 0);
        let mut leaf_weight = weight(0, &self.sorted);
        for node in 0..used - 1 {
            let mut sum = 0;
            for _ in 0..2 {
                if inner < node && self.nodes[inner] < leaf_weight {
                    sum += self.nodes[inner];
                    self.nodes[inner] = node as u32;
                    inner += 1;
                } else {
                    sum += leaf_weight;
                    leaf += 1;
                    leaf_weight = weight(leaf, &self.sorted);
                }
            }
            self.nodes[node] = sum;
        }
    }

    /// How many words there are of each length.
    ///
    /// Beginning with the root's two children, each inner node turns one word into two that are a bit longer. One that
    /// would pass the limit takes the longest word that may still grow. Either way the code stays complete.
    fn count_lengths(&mut self, used: usize, limit: usize) -> [u16; MOST_BITS + 1] {
        let mut by_length = [0_u16; MOST_BITS + 1];
        by_length[1] = 2;
        self.nodes[used - 2] = 0;
        for node in (0..used - 2).rev() {
            let depth = self.nodes[self.nodes[node] as usize] + 1;
            self.nodes[node] = depth;
            let mut length = (depth as usize).min(limit - 1);
            while by_length[length] == 0 {
                length -= 1;
            }
            by_length[length] -= 1;
            by_length[length + 1] += 2;
        }
        by_length
    }
}

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

/// The code words for these lengths, the first bit lowest. Source: RFC 1951 section 3.2.2.
pub(super) fn words(lens: &[u8], mut set: impl FnMut(usize, u16, u8)) {
    let mut next = [0_u16; MOST_BITS + 1];
    for &len in lens {
        next[usize::from(len & 15)] += 1;
    }
    let mut code = 0;
    next[0] = 0;
    for first in &mut next {
        let count = *first;
        *first = code;
        code = (code + count) << 1;
    }
    for (symbol, &len) in lens.iter().enumerate() {
        // No branch: a symbol without a word gets one of no bits.
        let len = len & 15;
        let word = &mut next[usize::from(len)];
        let [low, high] = word.to_le_bytes();
        let bits =
            u32::from(REVERSED[usize::from(low)]) << 8 | u32::from(REVERSED[usize::from(high)]);
        set(symbol, (bits >> (16 - len)) as u16, len);
        *word += u16::from(len != 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bits that the best code without a limit takes: the sum of all inner nodes.
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
    fn check(counts: &[u16], limit: usize) -> u32 {
        let mut lens = vec![99; counts.len()];
        Builder::new().lengths(counts, limit, &mut lens);
        assert!(lens.iter().all(|&len| usize::from(len) <= limit));
        let kraft: u32 = lens
            .iter()
            .filter(|&&len| len != 0)
            .map(|&len| 1 << (15 - len))
            .sum();
        assert_eq!(kraft, 1 << 15, "{counts:?}");
        for (count, len) in counts.iter().zip(&lens) {
            assert!(*count == 0 || *len != 0);
        }
        let mut seen = std::collections::BTreeSet::new();
        words(&lens, |_, bits, len| {
            assert!(
                len == 0 || seen.insert((len, bits)),
                "two symbols with one word"
            );
            assert!(u32::from(bits) < 1 << len);
        });
        counts
            .iter()
            .zip(&lens)
            .map(|(&count, &len)| u32::from(count) * u32::from(len))
            .sum()
    }

    #[test]
    fn words_are_those_of_the_rfc() {
        // Section 3.2.2: lengths (3, 3, 3, 3, 3, 2, 4, 4) make 010, 011, 100, 101, 110, 00, 1110, 1111.
        let mut found = Vec::new();
        words(&[3, 3, 3, 3, 3, 2, 4, 4], |symbol, bits, len| {
            found.push((symbol, bits.reverse_bits() >> (16 - len)));
        });
        let expected = [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111];
        assert_eq!(found, expected.into_iter().enumerate().collect::<Vec<_>>());
    }

    #[test]
    fn codes_are_complete_within_the_limit_and_else_the_best() {
        let mut state = 9_u64;
        let mut random = move |limit: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) % limit
        };
        for round in 0..2000 {
            let symbols = [19, 30, 286][round % 3];
            let most = 1 << random(11);
            let gaps = 1 + random(10);
            let counts: Vec<u16> = (0..symbols)
                .map(|_| {
                    if random(gaps) == 0 {
                        random(most) as u16
                    } else {
                        0
                    }
                })
                .collect();
            let used = counts.iter().filter(|&&count| count != 0).count();
            let bits = check(&counts, 15);
            // A word of 16 bits needs a sum of at least the 18th Fibonacci number.
            let sum: u32 = counts.iter().map(|&count| u32::from(count)).sum();
            if used > 1 && sum < 2584 {
                assert_eq!(bits, best(&counts), "{counts:?}");
            }
            let tight = (used.max(2)).next_power_of_two().ilog2() as usize;
            for limit in tight..15 {
                assert!(check(&counts, limit) >= bits);
            }
        }
    }

    #[test]
    fn fibonacci_counts_meet_the_limit() {
        let (mut now, mut next) = (1_u16, 1_u16);
        let mut counts = Vec::new();
        for _ in 0..22 {
            counts.push(now);
            (now, next) = (next, now + next);
        }
        for limit in 5..=15 {
            let bits = check(&counts, limit);
            assert!(bits >= best(&counts));
        }
        counts.reverse();
        check(&counts, 7);
    }

    #[test]
    fn few_symbols_still_make_a_complete_code() {
        check(&[0; 30], 15);
        for only in 0..30 {
            let mut counts = [0; 30];
            counts[only] = 7;
            assert_eq!(check(&counts, 15), 7);
        }
        assert_eq!(check(&[3, 0, 5], 15), 8);
    }
}
