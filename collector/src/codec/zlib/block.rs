// SPDX-License-Identifier: MIT OR Apache-2.0
//! One block of RFC 1951: literals and matches to bits.

use super::bits::BitWriter;
use super::huffman::{self, Builder};
use super::matches::Matches;
use super::symbols::{
    DISTANCES, END, FIRST_LENGTH, LITERALS, distance_extra_bits, length_extra_bits,
};

/// Code words may be longer, but four of this length fit between two flushes, and pages are short.
const LIMIT: usize = 14;
/// The longest word of the code for lengths. Source: RFC 1951 section 3.2.7.
const LENGTHS_LIMIT: usize = 7;
/// The symbols of the code for lengths.
const LENGTHS: usize = 19;
/// The order in which the lengths of that code stand.
const LENGTHS_ORDER: [usize; LENGTHS] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// A code word, its first bit lowest, and the number of extra bits that follow it.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    bits: u16,
    len: u8,
    extra_bits: u8,
}

/// The code words of both alphabets. Rounded up, so that no index is out of range.
#[derive(Debug)]
struct Code {
    literals: [Word; 512],
    distances: [Word; 32],
}

/// What a block begins with.
const STORED: u64 = 0;
const FIXED: u64 = 1;
const DYNAMIC: u64 = 2;

/// The code that needs no table in the stream. Source: RFC 1951 section 3.2.6.
static FIXED_CODE: Code = {
    let mut code = Code::new();
    let mut symbol = 0;
    while symbol < LITERALS {
        let (word, len) = match symbol {
            0..144 => (0x30 + symbol, 8),
            144..256 => (0x190 + symbol - 144, 9),
            256..280 => (symbol - 256, 7),
            _ => (0xc0 + symbol - 280, 8),
        };
        code.literals[symbol].bits = (word as u16).reverse_bits() >> (16 - len);
        code.literals[symbol].len = len;
        symbol += 1;
    }
    let mut symbol = 0;
    while symbol < DISTANCES {
        code.distances[symbol].bits = (symbol as u16).reverse_bits() >> 11;
        code.distances[symbol].len = 5;
        symbol += 1;
    }
    code
};

impl Code {
    const fn new() -> Self {
        let none = Word {
            bits: 0,
            len: 0,
            extra_bits: 0,
        };
        let mut code = Self {
            literals: [none; 512],
            distances: [none; 32],
        };
        let mut symbol = FIRST_LENGTH;
        while symbol < LITERALS {
            code.literals[symbol].extra_bits =
                length_extra_bits((symbol - FIRST_LENGTH) as u32) as u8;
            symbol += 1;
        }
        let mut symbol = 0;
        while symbol < DISTANCES {
            code.distances[symbol].extra_bits = distance_extra_bits(symbol as u32) as u8;
            symbol += 1;
        }
        code
    }
}

/// Memory to write blocks in.
#[derive(Debug)]
pub(super) struct Blocks {
    builder: Builder,
    code: Code,
    /// The lengths of all words of both alphabets, one behind the other, as the stream has them.
    lens: [u8; LITERALS + DISTANCES],
    /// The same as symbols of the code for lengths: a symbol, and the value of its extra bits.
    runs: [(u8, u8); LITERALS + DISTANCES],
}

/// The table of a block's code, ready to be written.
struct Table {
    literals: usize,
    distances: usize,
    runs: usize,
    lens: [u8; LENGTHS],
    lens_count: usize,
    bits: usize,
}

impl Blocks {
    pub(super) const fn new() -> Self {
        Self {
            builder: Builder::new(),
            code: Code::new(),
            lens: [0; LITERALS + DISTANCES],
            runs: [(0, 0); LITERALS + DISTANCES],
        }
    }

    /// Writes a chunk as it is.
    pub(super) fn write_stored(chunk: &[u8], last: bool, out: &mut BitWriter<'_>) {
        out.put(u64::from(last), 1);
        out.put(STORED, 2);
        out.align();
        let len = chunk.len() as u16;
        out.put_bytes(&len.to_le_bytes());
        out.put_bytes(&(!len).to_le_bytes());
        out.put_bytes(chunk);
    }

    /// Writes a block in the way that takes the fewest bits, and says whether there was room for it and for
    /// `behind_bytes` more.
    pub(super) fn write(
        &mut self,
        matches: &Matches,
        last: bool,
        behind_bytes: usize,
        out: &mut BitWriter<'_>,
    ) -> bool {
        let counts = matches.counts();
        let table = self.make_table(matches);
        let (literal_lens, distance_lens) = self.lens.split_at(table.literals);
        let sum = |counts: &[u16], lens: &[u8]| -> usize {
            let products = counts.iter().zip(lens);
            products
                .map(|(&count, &len)| u32::from(count) * u32::from(len))
                .sum::<u32>() as usize
        };
        let dynamic = table.bits
            + sum(&counts.literals, literal_lens)
            + sum(&counts.distances, &distance_lens[..table.distances]);
        let fixed = FIXED_CODE.literals.iter().zip(&counts.literals);
        let fixed = fixed
            .map(|(word, &count)| u32::from(word.len) * u32::from(count))
            .sum::<u32>() as usize
            + 5 * counts
                .distances
                .iter()
                .map(|&count| usize::from(count))
                .sum::<usize>();
        let stored = 8 * (matches.bytes().len() + 5);
        let bits = 3 + fixed.min(dynamic) + counts.extra_bits as usize;
        if !out.has_room(bits.min(stored) + 8 * behind_bytes) {
            return false;
        }
        if stored <= bits {
            Self::write_stored(matches.bytes(), last, out);
            return true;
        }
        out.put(u64::from(last), 1);
        if fixed <= dynamic {
            out.put(FIXED, 2);
            write_sequences(matches, &FIXED_CODE, out);
        } else {
            out.put(DYNAMIC, 2);
            self.write_table(&table, out);
            let words = &mut self.code.literals;
            huffman::words(&self.lens[..table.literals], |symbol, bits, len| {
                words[symbol & 511].bits = bits;
                words[symbol & 511].len = len;
            });
            let words = &mut self.code.distances;
            let lens = &self.lens[table.literals..][..table.distances];
            huffman::words(lens, |symbol, bits, len| {
                words[symbol & 31].bits = bits;
                words[symbol & 31].len = len;
            });
            write_sequences(matches, &self.code, out);
        }
        true
    }

    /// Makes a code for these counts, and its table.
    fn make_table(&mut self, matches: &Matches) -> Table {
        let counts = matches.counts();
        let mut lens = [0; LITERALS];
        self.builder.lengths(&counts.literals, LIMIT, &mut lens);
        let literals = FIRST_LENGTH.max(used(&lens));
        self.lens[..literals].copy_from_slice(&lens[..literals]);
        let mut lens = [0; DISTANCES];
        self.builder.lengths(&counts.distances, LIMIT, &mut lens);
        let distances = used(&lens);
        self.lens[literals..][..distances].copy_from_slice(&lens[..distances]);

        let mut run_counts = [0_u16; LENGTHS];
        let runs = self.find_runs(literals + distances, &mut run_counts);
        let mut lens = [0; LENGTHS];
        self.builder.lengths(&run_counts, LENGTHS_LIMIT, &mut lens);
        let lens_count = LENGTHS_ORDER
            .iter()
            .rposition(|&symbol| lens[symbol] != 0)
            .map_or(4, |last| (last + 1).max(4));
        let mut bits = 5 + 5 + 4 + 3 * lens_count;
        for (symbol, (&count, &len)) in run_counts.iter().zip(&lens).enumerate() {
            bits += usize::from(count) * (usize::from(len) + run_extra_bits(symbol) as usize);
        }
        Table {
            literals,
            distances,
            runs,
            lens,
            lens_count,
            bits,
        }
    }

    /// Fills `runs` with the first `count` lengths, and says how many runs they are.
    fn find_runs(&mut self, count: usize, counts: &mut [u16; LENGTHS]) -> usize {
        let mut runs = 0;
        let mut push = |symbol: u8, extra: u8| {
            self.runs[runs] = (symbol, extra);
            counts[usize::from(symbol)] += 1;
            runs += 1;
        };
        let lens = &self.lens[..count];
        let mut at = 0;
        while at < lens.len() {
            let len = lens[at];
            let start = at;
            at += 1;
            while at < lens.len() && lens[at] == len {
                at += 1;
            }
            let mut run = at - start;
            if len == 0 {
                while run >= 11 {
                    let now = run.min(138);
                    push(18, (now - 11) as u8);
                    run -= now;
                }
                if run >= 3 {
                    push(17, (run - 3) as u8);
                    run = 0;
                }
            } else {
                push(len, 0);
                run -= 1;
                while run >= 3 {
                    let now = run.min(6);
                    push(16, (now - 3) as u8);
                    run -= now;
                }
            }
            for _ in 0..run {
                push(len, 0);
            }
        }
        runs
    }

    fn write_table(&self, table: &Table, out: &mut BitWriter<'_>) {
        out.put((table.literals - FIRST_LENGTH) as u64, 5);
        out.put((table.distances - 1) as u64, 5);
        out.put((table.lens_count - 4) as u64, 4);
        out.flush();
        for (index, &symbol) in LENGTHS_ORDER[..table.lens_count].iter().enumerate() {
            out.put(table.lens[symbol].into(), 3);
            if index == 15 {
                out.flush();
            }
        }
        out.flush();
        let mut words = [(0_u16, 0_u8); 32];
        huffman::words(&table.lens, |symbol, bits, len| {
            words[symbol & 31] = (bits, len)
        });
        for &(symbol, extra) in &self.runs[..table.runs] {
            let (bits, len) = words[usize::from(symbol & 31)];
            out.put(bits.into(), len.into());
            out.put(extra.into(), run_extra_bits(symbol.into()));
            out.flush();
        }
    }
}

/// One past the last symbol that has a word; at least 1.
fn used(lens: &[u8]) -> usize {
    lens.iter()
        .rposition(|&len| len != 0)
        .map_or(1, |last| last + 1)
}

/// The extra bits of a symbol of the code for lengths.
const fn run_extra_bits(symbol: usize) -> u32 {
    match symbol {
        16 => 2,
        17 => 3,
        18 => 7,
        _ => 0,
    }
}

/// Writes the chunk's literals and matches, and the end of the block.
fn write_sequences(matches: &Matches, code: &Code, out: &mut BitWriter<'_>) {
    let mut rest = matches.bytes();
    for sequence in matches.sequences() {
        let Some((literals, behind)) = rest.split_at_checked(sequence.literals.into()) else {
            break;
        };
        let (fours, few) = literals.as_chunks::<4>();
        for four in fours {
            for &byte in four {
                let word = code.literals[usize::from(byte)];
                out.put(word.bits.into(), word.len.into());
            }
            out.flush();
        }
        for &byte in few {
            let word = code.literals[usize::from(byte)];
            out.put(word.bits.into(), word.len.into());
        }
        out.flush();
        if sequence.length == 0 {
            break;
        }
        rest = behind.get(sequence.length.into()..).unwrap_or_default();
        let mut put = |word: Word, over: u16| {
            out.put(word.bits.into(), word.len.into());
            let extra_bits = u32::from(word.extra_bits);
            out.put(u64::from(over) & ((1 << extra_bits) - 1), extra_bits);
        };
        let symbol = FIRST_LENGTH + usize::from(sequence.length_symbol);
        put(code.literals[symbol], sequence.length - 3);
        let symbol = usize::from(sequence.distance_symbol & 31);
        put(code.distances[symbol], sequence.distance - 1);
        out.flush();
    }
    let end = code.literals[END];
    out.put(end.bits.into(), end.len.into());
    out.flush();
}
