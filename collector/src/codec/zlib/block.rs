// SPDX-License-Identifier: MIT OR Apache-2.0
//! One block of RFC 1951: literals and matches to bits.

use super::bits::BitWriter;
use super::huffman::{Builder, Leaf, ROOM, Word};
use super::matches::Matches;
use super::symbols::{
    DISTANCES, END, FIRST_LENGTH, LITERALS, distance_extra_bits, length_extra_bits,
};

/// Code words may be longer, but that wins nothing in a chunk, and four of this length fit between two flushes.
const LIMIT: usize = 12;
/// A chunk's distances have 24 symbols.
const DISTANCES_LIMIT: usize = 9;
/// A match takes at most this many bits.
const MATCH_BITS: u32 = LIMIT as u32 + 5 + DISTANCES_LIMIT as u32 + 11;
/// The longest word of the code for lengths. Source: RFC 1951 section 3.2.7.
const LENGTHS_LIMIT: usize = 7;
/// The symbols of the code for lengths.
const LENGTHS: usize = 19;
/// The order in which the lengths of that code stand.
const LENGTHS_ORDER: [usize; LENGTHS] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// The words of both alphabets. More room than symbols, so that no index is out of range.
#[derive(Debug)]
struct Code {
    literals: [Word; ROOM],
    distances: [Word; ROOM],
}

/// A chunk that takes fewer bits than this in the fixed code is not worth a table, which takes some 300.
const WORTH_A_TABLE: usize = 1000;

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
            literals: [none; ROOM],
            distances: [none; ROOM],
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
    /// The words of the code for lengths.
    run_words: [Word; ROOM],
    /// The symbols that have a word.
    literals: [Leaf; ROOM],
    distances: [Leaf; ROOM],
    lengths: [Leaf; ROOM],
    /// The lengths of all words as symbols of the code for lengths, each with the value of its extra bits.
    runs: [(u8, u8); LITERALS + DISTANCES],
}

/// The table of a block's code, ready to be written.
struct Table {
    literals: usize,
    distances: usize,
    runs: usize,
    words_count: usize,
    /// Bits of the table and of all symbols, without the extra bits of lengths and distances.
    bits: usize,
    /// The same in the fixed code, which has no table.
    fixed_bits: usize,
    /// The extra bits of lengths and distances.
    extra_bits: usize,
}

impl Blocks {
    pub(super) const fn new() -> Self {
        Self {
            builder: Builder::new(),
            code: Code::new(),
            run_words: [Word {
                bits: 0,
                len: 0,
                extra_bits: 0,
            }; ROOM],
            literals: [Leaf::NONE; ROOM],
            distances: [Leaf::NONE; ROOM],
            lengths: [Leaf::NONE; ROOM],
            runs: [(0, 0); LITERALS + DISTANCES],
        }
    }

    /// Writes a chunk as it is; `false` as [`Blocks::write`].
    pub(super) fn write_stored(
        chunk: &[u8],
        last: bool,
        behind_bytes: usize,
        out: &mut BitWriter<'_>,
    ) -> bool {
        if !out.has_room(8 * (chunk.len() + 5 + behind_bytes)) {
            return false;
        }
        out.put(u64::from(last), 1);
        out.put(STORED, 2);
        out.align();
        let len = chunk.len() as u16;
        out.put_bytes(&len.to_le_bytes());
        out.put_bytes(&(!len).to_le_bytes());
        out.put_bytes(chunk);
        true
    }

    /// Writes a block in the way that takes the fewest bits; `false` where there is no room for it and for
    /// `behind_bytes` more.
    pub(super) fn write(
        &mut self,
        matches: &Matches,
        last: bool,
        behind_bytes: usize,
        out: &mut BitWriter<'_>,
    ) -> bool {
        let behind_bits = 8 * behind_bytes;
        let most = matches.most_fixed_bits();
        if most < WORTH_A_TABLE && out.has_room(most + behind_bits) {
            out.put(u64::from(last) | FIXED << 1, 3);
            write_sequences(matches, &FIXED_CODE, out);
            return true;
        }
        let table = self.make_table(matches);
        let bits = 3 + table.bits.min(table.fixed_bits) + table.extra_bits;
        if bits >= 8 * (matches.bytes().len() + 5) {
            return Self::write_stored(matches.bytes(), last, behind_bytes, out);
        }
        if !out.has_room(bits + behind_bits) {
            return false;
        }
        if table.fixed_bits <= table.bits {
            out.put(u64::from(last) | FIXED << 1, 3);
            write_sequences(matches, &FIXED_CODE, out);
        } else {
            out.put(u64::from(last) | DYNAMIC << 1, 3);
            out.in_registers(|out| self.write_table(&table, out));
            write_sequences(matches, &self.code, out);
        }
        true
    }

    /// Makes a code for the chunk's counts, and its table.
    fn make_table(&mut self, matches: &Matches) -> Table {
        let counts = matches.counts();
        let Code {
            literals,
            distances,
        } = &mut self.code;
        let builder = &mut self.builder;
        let made = builder.make(counts.literals(), LIMIT, literals, &mut self.literals);
        let literals = &self.literals[..made.used];
        let made_distances = builder.make(
            counts.distances(),
            DISTANCES_LIMIT,
            distances,
            &mut self.distances,
        );
        let distances = &self.distances[..made_distances.used];

        let end = |symbols: &[Leaf]| symbols.last().map_or(1, |last| last.symbol() + 1);
        let (literals_end, distances_end) = (end(literals), end(distances));
        let (mut fixed_bits, mut extra_bits) = (0, 0);
        let mut runs = Runs::new(&mut self.runs);
        for leaf in literals {
            let fixed = FIXED_CODE.literals[leaf.symbol()];
            fixed_bits += leaf.count() * u32::from(fixed.len);
            extra_bits += leaf.count() * u32::from(fixed.extra_bits);
            runs.put(leaf.symbol(), self.code.literals[leaf.symbol()].len);
        }
        for leaf in distances {
            let fixed = FIXED_CODE.distances[leaf.symbol()];
            fixed_bits += leaf.count() * u32::from(fixed.len);
            extra_bits += leaf.count() * u32::from(fixed.extra_bits);
            let len = self.code.distances[leaf.symbol()].len;
            runs.put(literals_end + leaf.symbol(), len);
        }
        runs.end();
        let (run_counts, runs) = (runs.counts, runs.count);

        let words = &mut self.run_words;
        words[..LENGTHS].fill(Word::default());
        let lengths = &mut self.lengths;
        let made_runs = builder.make(&run_counts[..LENGTHS], LENGTHS_LIMIT, words, lengths);
        let words_count = LENGTHS_ORDER
            .iter()
            .rposition(|&symbol| words[symbol].len != 0)
            .map_or(4, |last| (last + 1).max(4));
        let mut bits = 5 + 5 + 4 + 3 * words_count;
        for (symbol, word) in words.iter_mut().enumerate().take(LENGTHS).skip(16) {
            word.extra_bits = run_extra_bits(symbol) as u8;
            bits += usize::from(run_counts[symbol]) * usize::from(word.extra_bits);
        }
        bits += (made.bits + made_distances.bits + made_runs.bits) as usize;
        Table {
            literals: literals_end,
            distances: distances_end,
            runs,
            words_count,
            bits,
            fixed_bits: fixed_bits as usize,
            extra_bits: extra_bits as usize,
        }
    }

    #[inline(always)]
    fn write_table(&self, table: &Table, out: &mut BitWriter<'_>) {
        out.put((table.literals - FIRST_LENGTH) as u64, 5);
        out.put((table.distances - 1) as u64, 5);
        out.put((table.words_count - 4) as u64, 4);
        out.flush();
        let (first, second) = LENGTHS_ORDER.split_at(table.words_count.min(16));
        for &symbol in first {
            out.put(self.run_words[symbol].len.into(), 3);
        }
        out.flush();
        for &symbol in &second[..table.words_count - first.len()] {
            out.put(self.run_words[symbol].len.into(), 3);
        }
        for (index, &(symbol, extra)) in self.runs[..table.runs].iter().enumerate() {
            // Two take at most 2 * (7 + 7) bits, and what stood before them at most 9 + 7.
            if index % 2 == 0 {
                out.flush();
            }
            let word = self.run_words[usize::from(symbol & 31)];
            out.put(word.bits.into(), word.len.into());
            out.put(extra.into(), word.extra_bits.into());
        }
        out.flush();
    }
}

/// The lengths of code words, one symbol behind the other, on their way to runs.
struct Runs<'a> {
    out: &'a mut [(u8, u8); LITERALS + DISTANCES],
    count: usize,
    counts: [u16; 32],
    /// The symbol that comes next.
    next: usize,
    /// The length that came last, and how often it came one after the other.
    len: u8,
    times: usize,
}

impl<'a> Runs<'a> {
    const fn new(out: &'a mut [(u8, u8); LITERALS + DISTANCES]) -> Self {
        Self {
            out,
            count: 0,
            counts: [0; 32],
            next: 0,
            len: 0,
            times: 0,
        }
    }

    /// The length of a symbol's word; the symbols before it that were not put have none.
    #[inline(always)]
    fn put(&mut self, symbol: usize, len: u8) {
        let gap = symbol - self.next;
        self.next = symbol + 1;
        if gap == 0 && len == self.len {
            self.times += 1;
            return;
        }
        self.end();
        if gap != 0 {
            self.zeros(gap);
        }
        self.len = len;
        self.times = 1;
    }

    /// What came last is a run.
    #[inline(always)]
    fn end(&mut self) {
        if self.times == 0 {
            return;
        }
        self.push(self.len, 0);
        let mut times = self.times - 1;
        while times >= 3 {
            let now = times.min(6);
            self.push(16, (now - 3) as u8);
            times -= now;
        }
        for _ in 0..times {
            self.push(self.len, 0);
        }
        self.times = 0;
    }

    #[inline(always)]
    fn zeros(&mut self, mut times: usize) {
        while times >= 11 {
            let now = times.min(138);
            self.push(18, (now - 11) as u8);
            times -= now;
        }
        if times >= 3 {
            self.push(17, (times - 3) as u8);
            return;
        }
        for _ in 0..times {
            self.push(0, 0);
        }
    }

    #[inline(always)]
    fn push(&mut self, symbol: u8, extra: u8) {
        if let Some(place) = self.out.get_mut(self.count) {
            *place = (symbol, extra);
        }
        self.count += 1;
        self.counts[usize::from(symbol & 31)] += 1;
    }
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
    out.in_registers(|out| put_sequences(matches, code, out));
}

#[inline(always)]
fn put_sequences(matches: &Matches, code: &Code, out: &mut BitWriter<'_>) {
    let mut rest = matches.bytes();
    for sequence in matches.sequences() {
        let Some((literals, behind)) = rest.split_at_checked(sequence.literals.into()) else {
            break;
        };
        let put = |out: &mut BitWriter<'_>, byte: u8| {
            let word = code.literals[usize::from(byte)];
            out.put(word.bits.into(), word.len.into());
        };
        let (fours, few) = literals.as_chunks::<4>();
        for four in fours {
            for &byte in four {
                put(out, byte);
            }
            out.flush();
        }
        match *few {
            [] => {}
            [a] => put(out, a),
            [a, b] => {
                put(out, a);
                put(out, b);
            }
            [a, b, c, ..] => {
                put(out, a);
                put(out, b);
                put(out, c);
            }
        }
        if !out.takes(MATCH_BITS) {
            out.flush();
        }
        if sequence.length == 0 {
            break;
        }
        rest = behind.get(sequence.length.into()..).unwrap_or_default();
        let bits = |word: Word, over: u16| {
            let extra = u64::from(over) & ((1 << word.extra_bits) - 1);
            let count = u32::from(word.len) + u32::from(word.extra_bits);
            (u64::from(word.bits) | extra << word.len, count)
        };
        let length = code.literals[FIRST_LENGTH + usize::from(sequence.length_symbol)];
        let (length, length_bits) = bits(length, sequence.length - 3);
        let distance = code.distances[usize::from(sequence.distance_symbol & 31)];
        let (distance, distance_bits) = bits(distance, sequence.distance);
        out.put(
            length | distance << length_bits,
            length_bits + distance_bits,
        );
        out.flush();
    }
    out.flush();
    let end = code.literals[END];
    out.put(end.bits.into(), end.len.into());
    out.flush();
}
