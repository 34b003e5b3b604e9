// SPDX-License-Identifier: MIT OR Apache-2.0
//! One block of RFC 1951: literals and matches to bits.

use super::bits::{BitWriter, Bits, Word};
use super::huffman::{Builder, DISTANCES_LIMIT, LENGTHS_LIMIT, LITERALS_LIMIT, Leaf};
use super::matches::Matches;
use super::symbols::{
    DISTANCES, END, FIRST_LENGTH, LITERALS, distance_extra_bits, length_extra_bits,
};

/// A match takes at most this many bits.
const MATCH_BITS: u32 = LITERALS_LIMIT + 5 + DISTANCES_LIMIT + 11;
/// The symbols of the code for lengths.
const LENGTHS: usize = 19;
/// The order in which the lengths of that code stand.
const LENGTHS_ORDER: [usize; LENGTHS] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];
/// The symbols of that code that say how often there is no word: 3 to 10 times, 11 to 138 times.
const FEW_NONE: u16 = 17;
const MANY_NONE: u16 = 18;
/// So many symbols are not worth a table, which takes some 300 bits.
const WORTH_A_TABLE: usize = 60;

/// What a block begins with.
const STORED: u64 = 0;
const FIXED: u64 = 1;
const DYNAMIC: u64 = 2;

/// Room for all lengths of words in a row.
const RUNS: usize = 512;

/// The words of both alphabets. More room than symbols, so that no index is out of range.
#[derive(Debug)]
struct Code {
    literals: [Word; 512],
    distances: [Word; 32],
}

impl Code {
    const NONE: Self = Self {
        literals: [Word::NONE; 512],
        distances: [Word::NONE; 32],
    };
}

/// The code that needs no table in the stream. Source: RFC 1951 section 3.2.6.
static FIXED_CODE: Code = {
    let mut code = Code::NONE;
    let mut symbol = 0;
    while symbol < LITERALS {
        let (word, len) = match symbol {
            0..144 => (0x30 + symbol, 8),
            144..256 => (0x190 + symbol - 144, 9),
            256..280 => (symbol - 256, 7),
            _ => (0xc0 + symbol - 280, 8),
        };
        let extra_bits = match symbol.checked_sub(FIRST_LENGTH) {
            Some(length) => length_extra_bits(length as u32),
            None => 0,
        };
        let word = (word as u32).reverse_bits() >> (32 - len);
        code.literals[symbol] = Word::new(word, len).with_extra(extra_bits);
        symbol += 1;
    }
    let mut symbol = 0;
    while symbol < DISTANCES {
        let word = Word::new((symbol as u32).reverse_bits() >> 27, 5);
        code.distances[symbol] = word.with_extra(distance_extra_bits(symbol as u32));
        symbol += 1;
    }
    code
};

/// Memory to write blocks in.
#[derive(Debug)]
pub(super) struct Blocks {
    builder: Builder,
    code: Code,
    runs: [u16; RUNS],
}

/// Adds a chunk as it is.
pub(super) fn put_stored(chunk: &[u8], last: bool, bits: &mut BitWriter<'_>) {
    bits.put(u64::from(last), 1);
    bits.put(STORED, 2);
    bits.align();
    let len = chunk.len() as u16;
    bits.put_bytes(&len.to_le_bytes());
    bits.put_bytes(&(!len).to_le_bytes());
    bits.put_bytes(chunk);
}

impl Blocks {
    pub(super) const fn new() -> Self {
        Self {
            builder: Builder::new(),
            code: Code::NONE,
            runs: [0; RUNS],
        }
    }

    /// Adds a chunk's literals and matches in the fixed code or in one made for them.
    pub(super) fn write(&mut self, matches: &Matches, last: bool, out: &mut Bits) {
        if matches.symbols() < WORTH_A_TABLE {
            out.write(|bits| bits.put(u64::from(last) | FIXED << 1, 3));
            write_sequences(matches, &FIXED_CODE, out);
        } else {
            out.write(|bits| bits.put(u64::from(last) | DYNAMIC << 1, 3));
            self.write_table(matches, out);
            write_sequences(matches, &self.code, out);
        }
    }

    /// Makes a code for the chunk, and adds its table.
    // By itself, as what is behind it, so that each has all registers.
    #[inline(never)]
    fn write_table(&mut self, matches: &Matches, out: &mut Bits) {
        let counts = matches.counts();
        let mut runs = Runs::new(&mut self.runs);

        let (leaves, mut lengths) =
            (self.builder).make::<LITERALS_LIMIT>(counts.literals(), matches.symbols());
        for &leaf in leaves {
            self.code.literals[leaf.symbol() & 511] = lengths.next_word(leaf);
            runs.put(leaf.symbol(), leaf.len());
        }
        let literals_end = end(leaves);
        // Shorter lengths have no extra bits.
        for symbol in FIRST_LENGTH + 8..literals_end {
            let word = &mut self.code.literals[symbol & 511];
            *word = word.with_extra(length_extra_bits((symbol - FIRST_LENGTH) as u32));
        }

        let (leaves, mut lengths) =
            (self.builder).make::<DISTANCES_LIMIT>(counts.distances(), matches.count());
        for &leaf in leaves {
            self.code.distances[leaf.symbol() & 31] = lengths.next_word(leaf);
            runs.put(literals_end + leaf.symbol(), leaf.len());
        }
        let distances_end = end(leaves);
        for symbol in 4..distances_end {
            let word = &mut self.code.distances[symbol & 31];
            *word = word.with_extra(distance_extra_bits(symbol as u32));
        }

        let (run_counts, runs_count) = (runs.counts, runs.count);
        let mut words = [Word::NONE; 32];
        let (leaves, mut lengths) =
            (self.builder).make::<LENGTHS_LIMIT>(&run_counts[..LENGTHS], runs_count);
        for &leaf in leaves {
            words[leaf.symbol() & 31] = lengths.next_word(leaf);
        }
        let words_count = LENGTHS_ORDER
            .iter()
            .rposition(|&symbol| words[symbol] != Word::NONE)
            .map_or(4, |last| (last + 1).max(4));
        for (symbol, extra_bits) in [(FEW_NONE, 3), (MANY_NONE, 7)] {
            let word = &mut words[usize::from(symbol)];
            *word = word.with_extra(extra_bits);
        }
        out.write(|bits| {
            bits.put((literals_end - FIRST_LENGTH) as u64, 5);
            bits.put((distances_end - 1) as u64, 5);
            bits.put((words_count - 4) as u64, 4);
            bits.flush();
            let (first, second) = LENGTHS_ORDER[..words_count].split_at(words_count.min(16));
            for symbols in [first, second] {
                for &symbol in symbols {
                    bits.put(words[symbol].len().into(), 3);
                }
                bits.flush();
            }
            // Four take at most 4 * (7 + 7) bits.
            for four in self.runs[..runs_count].chunks(4) {
                for &run in four {
                    let word = words[usize::from(run & 31)];
                    bits.put(word.with_value(u64::from(run >> 8)), word.whole_len());
                }
                bits.flush();
            }
        });
    }
}

/// One past the last symbol that has a word.
fn end(leaves: &[Leaf]) -> usize {
    leaves.last().map_or(1, |leaf| leaf.symbol() + 1)
}

/// More than one symbol of the code for lengths can say.
const MOST_NONE: usize = 139;

/// How a gap of symbols without a word is said: which symbol of the code for lengths with the value of its extra bits, and how
/// many times.
#[derive(Clone, Copy)]
struct Gap {
    run: u16,
    times: u16,
}

/// For each number of symbols below [`MOST_NONE`]; more room, so that no index is out of range.
static NONE: [Gap; 256] = {
    let mut all = [Gap { run: 0, times: 0 }; 256];
    let mut gap = 1;
    while gap < MOST_NONE {
        let (run, times) = match gap {
            ..3 => (0, gap as u16),
            3..11 => (FEW_NONE | ((gap - 3) as u16) << 8, 1),
            _ => (MANY_NONE | ((gap - 11) as u16) << 8, 1),
        };
        all[gap] = Gap { run, times };
        gap += 1;
    }
    all
};

/// The lengths of code words, one symbol behind the other, on their way to the stream. Runs of the same length are not
/// looked for but where it is that of no word: the others are rare, and not worth the time.
struct Runs<'a> {
    /// Symbols of the code for lengths, each with the value of its extra bits above it.
    out: &'a mut [u16; RUNS],
    count: usize,
    counts: [u16; 32],
    /// The symbol that comes next.
    next: usize,
}

impl<'a> Runs<'a> {
    const fn new(out: &'a mut [u16; RUNS]) -> Self {
        Self {
            out,
            count: 0,
            counts: [0; 32],
            next: 0,
        }
    }

    /// The length of a symbol's word; the symbols before it that were not put have none.
    #[inline(always)]
    fn put(&mut self, symbol: usize, len: u32) {
        let mut gap = symbol - self.next;
        self.next = symbol + 1;
        if gap >= MOST_NONE {
            gap = self.put_most_none(gap);
        }
        // No branch: how long a gap is, and whether there is one, is hard to foresee. Two places, as far as they count.
        let none = NONE[gap & 255];
        for place in [self.count, self.count + 1] {
            self.out[place & (RUNS - 1)] = none.run;
        }
        self.count += usize::from(none.times);
        self.counts[usize::from(none.run & 31)] += none.times;
        self.push(len as u16, 0);
    }

    /// Says most of a long gap, and returns how much is left.
    #[cold]
    fn put_most_none(&mut self, mut times: usize) -> usize {
        while times >= MOST_NONE {
            self.push(MANY_NONE, MOST_NONE - 1 - 11);
            times -= MOST_NONE - 1;
        }
        times
    }

    #[inline(always)]
    fn push(&mut self, symbol: u16, extra: usize) {
        self.out[self.count & (RUNS - 1)] = symbol | (extra as u16) << 8;
        self.count += 1;
        self.counts[usize::from(symbol & 31)] += 1;
    }
}

/// Adds the chunk's literals and matches, and the end of the block.
#[inline(never)]
fn write_sequences(matches: &Matches, code: &Code, out: &mut Bits) {
    out.write(|bits| put_sequences(matches, code, bits));
}

#[inline(always)]
fn put_sequences(matches: &Matches, code: &Code, bits: &mut BitWriter<'_>) {
    let mut at = 0;
    for &sequence in matches.sequences() {
        let put = |bits: &mut BitWriter<'_>, byte: u8| {
            bits.put_word(code.literals[usize::from(byte)]);
        };
        let mut left = sequence.literals();
        while left > 4 {
            for byte in matches.bytes_at::<4>(at) {
                put(bits, byte);
            }
            bits.flush();
            at += 4;
            left -= 4;
        }
        // Mostly there is one left or none, and which of them is hard to foresee: no branch for that.
        let [first, second, third, fourth] = matches.bytes_at(at);
        bits.put_word_if(left > 0, code.literals[usize::from(first)]);
        if left > 1 {
            put(bits, second);
            bits.put_word_if(left > 2, code.literals[usize::from(third)]);
            bits.put_word_if(left > 3, code.literals[usize::from(fourth)]);
            bits.flush();
        }
        at += left;
        let length = sequence.length();
        if length == 0 {
            break;
        }
        at += length;
        let length = code.literals[FIRST_LENGTH + sequence.length_symbol()];
        let distance = code.distances[sequence.distance_symbol()];
        let both = length.with_value(sequence.length_extra())
            | distance.with_value(sequence.distance_extra()) << (length.whole_len() & 63);
        bits.put(both, length.whole_len() + distance.whole_len());
        bits.flush();
    }
    bits.flush();
    bits.put_word(code.literals[END]);
    bits.flush();
}

const _: () = {
    // What may wait behind a flush, and four literals, or one and a match: a register has room for it.
    assert!(7 + 4 * LITERALS_LIMIT < u64::BITS);
    assert!(7 + LITERALS_LIMIT + MATCH_BITS < u64::BITS);
    assert!(7 + 4 * (LENGTHS_LIMIT + 7) < u64::BITS);
};
