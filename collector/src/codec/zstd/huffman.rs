// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prefix codes of limited length, made from counts. Source: RFC 1951 section 3.2.2.

/// Room for the symbols of any alphabet, and a mask for it.
pub(super) const ROOM: usize = 512;
const MASK: usize = ROOM - 1;
/// The longest code word that the format allows.
const MOST_BITS: usize = 15;
/// Counts from here on are sorted among themselves; they are few, as all counts of a chunk add up to little.
const BUCKETS: usize = 64;
/// So few symbols are sorted without buckets.
const FEW: usize = 24;
const SYMBOL_BITS: u32 = 9;

/// A symbol with its count above it, so that leaves sort by their count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Leaf(u32);

impl Leaf {
    pub(super) const NONE: Self = Self(0);

    #[inline(always)]
    pub(super) const fn symbol(self) -> usize {
        self.0 as usize & MASK
    }

    #[inline(always)]
    pub(super) const fn count(self) -> u32 {
        self.0 >> SYMBOL_BITS
    }
}

/// A code word, its first bit lowest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Word {
    pub(super) bits: u16,
    pub(super) len: u8,
}

/// A code that was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    /// Symbols that have a word: the first ones of `used`.
    pub(super) used: usize,
    /// Bits that all symbols take together, without their extra bits.
    pub(super) bits: u32,
}

/// Memory to make codes in.
#[derive(Debug)]
pub(super) struct Builder {
    /// The symbols that occur as leaves, rarest first.
    leaves: [Leaf; ROOM],
    /// Inner nodes of the tree: first their weight, then their parent's place, then their depth.
    nodes: [u32; ROOM],
}

impl Builder {
    pub(super) const fn new() -> Self {
        Self {
            leaves: [Leaf::NONE; ROOM],
            nodes: [0; ROOM],
        }
    }

    /// Makes a code for these counts: sets the words of the symbols that occur, and lists them in `used` in their order.
    ///
    /// No word is longer than `limit`, and the code is complete: decoders refuse one with gaps. So where fewer than two
    /// symbols occur, others get a word too. `limit` is at most 15 and has room for all symbols.
    pub(super) fn make(
        &mut self,
        counts: &[u16],
        limit: usize,
        words: &mut [Word; ROOM],
        used: &mut [Leaf; ROOM],
    ) -> Made {
        let mut count = 0;
        for (symbol, &times) in (0..).zip(counts) {
            // No branch: which symbols occur is hard to foresee.
            used[count & MASK] = Leaf(u32::from(times) << SYMBOL_BITS | symbol);
            count += usize::from(times != 0);
        }
        if count < 2 {
            let only = if count == 1 { used[0] } else { Leaf(0) };
            [used[0], used[1]] = match only.symbol() {
                0 => [only, Leaf(1)],
                _ => [Leaf(0), only],
            };
            count = 2;
        }
        let symbols = &used[..count];
        self.sort(symbols);
        self.join(count);
        let by_length = self.count_lengths(count, limit);

        // The rarest get the longest words.
        let mut bits = 0;
        let mut leaves = self.leaves[..count].iter();
        for length in (1..=limit).rev() {
            for &leaf in leaves.by_ref().take(by_length[length].into()) {
                words[leaf.symbol()].len = length as u8;
                bits += leaf.count() * length as u32;
            }
        }
        let mut next = [0_u16; MOST_BITS + 1];
        let mut first = 0;
        for (next, count) in next.iter_mut().zip(by_length) {
            *next = first;
            first = (first + count) << 1;
        }
        for &symbol in symbols {
            let word = &mut words[symbol.symbol()];
            let next = &mut next[usize::from(word.len & 15)];
            let [low, high] = next.to_le_bytes();
            let reversed =
                u32::from(REVERSED[usize::from(low)]) << 8 | u32::from(REVERSED[usize::from(high)]);
            word.bits = (reversed >> (16 - (word.len & 15))) as u16;
            *next += 1;
        }
        Made { used: count, bits }
    }

    /// Fills `leaves` with the symbols that occur.
    #[inline(always)]
    fn sort(&mut self, symbols: &[Leaf]) {
        if symbols.len() <= FEW {
            self.leaves[..symbols.len()].copy_from_slice(symbols);
            insert_each(&mut self.leaves[..symbols.len()]);
            return;
        }
        let bucket = |leaf: Leaf| (leaf.count() as usize).min(BUCKETS - 1);
        let mut starts = [0_u16; BUCKETS];
        for &leaf in symbols {
            starts[bucket(leaf)] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            let here = *start;
            *start = sum;
            sum += here;
        }
        let often = usize::from(starts[BUCKETS - 1]);
        for &leaf in symbols {
            let place = &mut starts[bucket(leaf)];
            self.leaves[usize::from(*place) & MASK] = leaf;
            *place += 1;
        }
        insert_each(&mut self.leaves[often..symbols.len()]);
    }

    /// Joins the two lightest trees until one is left: `nodes` then has each inner node's parent, the root last.
    ///
    /// Leaves are sorted and inner nodes come out sorted, so the lightest is always next in one of the two rows.
    fn join(&mut self, count: usize) {
        // A leaf behind the last is never the lighter one, and neither is an inner node that is yet to come.
        const NONE: u32 = u32::MAX >> SYMBOL_BITS;
        self.leaves[count & MASK] = Leaf(u32::MAX);
        let (mut leaf, mut inner) = (0, 0);
        let mut leaf_weight = self.leaves[0].count();
        let mut inner_weight = NONE;
        for node in 0..count - 1 {
            let mut sum = 0;
            for _ in 0..2 {
                if inner_weight < leaf_weight {
                    sum += inner_weight;
                    self.nodes[inner & MASK] = node as u32;
                    inner += 1;
                    inner_weight = if inner < node {
                        self.nodes[inner & MASK]
                    } else {
                        NONE
                    };
                } else {
                    sum += leaf_weight;
                    leaf += 1;
                    leaf_weight = self.leaves[leaf & MASK].count();
                }
            }
            self.nodes[node & MASK] = sum;
            if inner == node {
                inner_weight = sum;
            }
        }
    }

    /// How many words there are of each length.
    ///
    /// Beginning with the root's two children, each inner node turns one word into two that are a bit longer. One that
    /// would pass the limit takes the longest word that may still grow. Either way the code stays complete.
    fn count_lengths(&mut self, count: usize, limit: usize) -> [u16; MOST_BITS + 1] {
        let mut by_length = [0_u16; MOST_BITS + 1];
        by_length[1] = 2;
        self.nodes[count - 2] = 0;
        for node in (0..count - 2).rev() {
            let depth = self.nodes[self.nodes[node] as usize & MASK] + 1;
            self.nodes[node] = depth;
            let mut length = (depth as usize).min(limit - 1);
            while by_length[length & 15] == 0 {
                length -= 1;
            }
            by_length[length & 15] -= 1;
            by_length[(length + 1) & 15] += 2;
        }
        by_length
    }
}

/// Sorts by taking one after the other to its place.
fn insert_each(leaves: &mut [Leaf]) {
    for end in 1..leaves.len() {
        let leaf = leaves[end];
        let mut at = end;
        while at > 0 && leaves[at - 1] > leaf {
            leaves[at] = leaves[at - 1];
            at -= 1;
        }
        leaves[at] = leaf;
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
        let mut words = [Word::default(); ROOM];
        let mut used = [Leaf::NONE; ROOM];
        let made = Builder::new().make(counts, limit, &mut words, &mut used);
        let used: Vec<usize> = used[..made.used].iter().map(|leaf| leaf.symbol()).collect();
        assert!(used.is_sorted());
        for (symbol, &count) in counts.iter().enumerate() {
            assert!(count == 0 || used.contains(&symbol));
        }
        let words: Vec<Word> = used.iter().map(|&symbol| words[symbol]).collect();
        let kraft: u32 = words.iter().map(|word| 1 << (15 - word.len)).sum();
        assert_eq!(kraft, 1 << 15, "{counts:?}");
        let mut seen = std::collections::BTreeSet::new();
        let mut bits = 0;
        for (word, &symbol) in words.iter().zip(&used) {
            assert!((1..=limit).contains(&word.len.into()));
            assert!(u32::from(word.bits) < 1 << word.len);
            assert!(
                seen.insert((word.len, word.bits.reverse_bits())),
                "two symbols with one word"
            );
            bits += u32::from(counts[symbol]) * u32::from(word.len);
        }
        // The order of the format: words of a length count up with their symbols.
        for len in 1..16 {
            let of_len = words.iter().filter(|word| word.len == len);
            assert!(of_len.map(|word| word.bits.reverse_bits()).is_sorted());
        }
        assert_eq!(made.bits, bits);
        bits
    }

    #[test]
    fn words_are_those_of_the_rfc() {
        // Lengths (3, 3, 3, 3, 3, 2, 4, 4) make 010, 011, 100, 101, 110, 00, 1110, 1111.
        let counts = [4, 4, 4, 4, 4, 8, 2, 2];
        let mut words = [Word::default(); ROOM];
        Builder::new().make(&counts, 15, &mut words, &mut [Leaf::NONE; ROOM]);
        let words = words[..8].iter();
        let words: Vec<_> = words
            .map(|word| (word.bits.reverse_bits() >> (16 - word.len), word.len))
            .collect();
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
        assert_eq!(words, expected);
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
