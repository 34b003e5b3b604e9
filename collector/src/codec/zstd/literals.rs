// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a block's literals. Source: RFC 8878 sections 3.1.1.3.1 and 4.2.

#![allow(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the input is bytes of any value, and no number is taken from it; the tests bound the rest"
)]

use super::MAX_WORD_BITS;
use super::bits::BitWriter;
use super::fse::{Distribution, Table};
use super::huffman::{Builder, Leaf, ROOM, Word};

/// Fewer literals than these are stored as they are.
const FEW: usize = 48;
/// From so many literals on, they are divided into four streams.
const MANY: usize = 1024;
/// Room that a bit writer needs behind what it writes.
const SLACK: usize = 16;
/// The longest description of a code: a byte for its length, and as many as that can say.
const DESCRIPTION_BYTES: usize = 128;

/// Memory to make codes in.
#[derive(Debug)]
pub(super) struct Coder {
    builder: Builder,
    words: [Word; ROOM],
    used: [Leaf; ROOM],
    /// For the weights.
    table: Table,
}

impl Coder {
    pub(super) const fn new() -> Self {
        Self {
            builder: Builder::new(),
            words: [Word { bits: 0, len: 0 }; ROOM],
            used: [Leaf::NONE; ROOM],
            table: Table::EMPTY,
        }
    }

    /// Writes the literals' section, and says how many bytes that took; none when there is no room.
    pub(super) fn write(&mut self, literals: &[u8], out: &mut [u8]) -> Option<usize> {
        let written = (literals.len() >= FEW)
            .then(|| self.write_coded(literals, out))
            .flatten();
        match written {
            Some(bytes) => Some(bytes),
            None => write_plain(0, literals.len(), literals, out),
        }
    }

    /// The same with a code of their own; none also when that does not make them shorter.
    fn write_coded(&mut self, literals: &[u8], out: &mut [u8]) -> Option<usize> {
        let counts = count(literals);
        let most = counts.iter().copied().max()?;
        if usize::from(most) == literals.len() {
            return write_plain(1, literals.len(), &literals[..1], out);
        }
        // Spread about evenly: noise.
        if usize::from(most) <= (literals.len() >> 7) + 4 {
            return None;
        }
        self.words[..256].fill(Word::default());
        let made = self
            .builder
            .make(&counts, MAX_WORD_BITS, &mut self.words, &mut self.used);
        let last = self.used[made.used.checked_sub(1)?].symbol();
        let lengths = &self.words[..=last];
        let four = literals.len() >= MANY;
        let jump = if four { 6 } else { 0 };
        let mut description = [0; DESCRIPTION_BYTES + SLACK];
        let longest = lengths.iter().map(|word| word.len).max()?;
        let description_bytes = describe(lengths, longest, &mut self.table, &mut description)?;
        let coded = description_bytes + jump + made.bits as usize / 8 + 4;
        if coded + literals.len() / 64 + 2 >= literals.len() {
            return None;
        }

        let code = code(lengths, longest);
        let head = if !four {
            3
        } else if literals.len() < 1 << 14 {
            4
        } else {
            5
        };
        let body = out.get_mut(head..)?;
        if body.len() < coded + SLACK {
            return None;
        }
        body[..description_bytes].copy_from_slice(&description[..description_bytes]);
        let mut at = description_bytes + jump;
        if four {
            let quarter = literals.len().div_ceil(4);
            let mut jumps = [0; 6];
            for (index, part) in literals.chunks(quarter).enumerate() {
                let bytes = put_stream(&code, part, &mut body[at..]);
                if let Some(place) = jumps.as_chunks_mut().0.get_mut(index) {
                    *place = (bytes as u16).to_le_bytes();
                }
                at += bytes;
            }
            body[description_bytes..][..jump].copy_from_slice(&jumps);
        } else {
            at += put_stream(&code, literals, &mut body[at..]);
        }
        let (regenerated, coded) = (literals.len() as u64, at as u64);
        let header = match head {
            3 => 2 | regenerated << 4 | coded << 14,
            4 => 2 | 2 << 2 | regenerated << 4 | coded << 18,
            _ => 2 | 3 << 2 | regenerated << 4 | coded << 22,
        };
        out[..head].copy_from_slice(&header.to_le_bytes()[..head]);
        Some(head + at)
    }
}

/// Literals without a code: `kind` 0 as they are, 1 as one byte that all of them are.
fn write_plain(kind: u32, count: usize, bytes: &[u8], out: &mut [u8]) -> Option<usize> {
    let (head, header) = match count {
        ..32 => (1, kind | (count as u32) << 3),
        32..4096 => (2, kind | 1 << 2 | (count as u32) << 4),
        _ => (3, kind | 3 << 2 | (count as u32) << 4),
    };
    out.get_mut(..head)?
        .copy_from_slice(&header.to_le_bytes()[..head]);
    out.get_mut(head..head + bytes.len())?
        .copy_from_slice(bytes);
    Some(head + bytes.len())
}

/// How often each byte occurs. Two rows, as a count that was just changed is slow to change again.
fn count(bytes: &[u8]) -> [u16; 256] {
    let mut rows = [[0_u16; 256]; 2];
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        for byte in 0..4 {
            rows[0][(word >> (16 * byte)) as usize & 255] += 1;
            rows[1][(word >> (16 * byte + 8)) as usize & 255] += 1;
        }
    }
    for &byte in rest {
        rows[0][usize::from(byte)] += 1;
    }
    let [mut counts, other] = rows;
    for (count, other) in counts.iter_mut().zip(other) {
        *count += other;
    }
    counts
}

/// Writes the weights of all symbols but the last, which follows from them. The last one of `lengths` has a word.
fn describe(
    lengths: &[Word],
    longest: u8,
    table: &mut Table,
    out: &mut [u8; DESCRIPTION_BYTES + SLACK],
) -> Option<usize> {
    let mut weights = [0_u8; 256];
    let mut counts = [0_u16; MAX_WORD_BITS + 2];
    let told = lengths.len() - 1;
    for (weight, word) in weights.iter_mut().zip(&lengths[..told]) {
        *weight = if word.len == 0 {
            0
        } else {
            longest + 1 - word.len
        };
        counts[usize::from(*weight)] += 1;
    }
    let weights = &weights[..told];
    let plain = 1 + told.div_ceil(2);
    if let Some(bytes) = describe_coded(weights, &counts, table, out)
        && (bytes < plain || told > 128)
    {
        return Some(bytes);
    }
    if told > 128 {
        return None;
    }
    out[0] = 127 + told as u8;
    for (place, pair) in out[1..].iter_mut().zip(weights.chunks(2)) {
        *place = pair[0] << 4 | pair.get(1).copied().unwrap_or(0);
    }
    Some(plain)
}

/// The same in finite state entropy, two states in turns; none when that cannot be.
fn describe_coded(
    weights: &[u8],
    counts: &[u16; MAX_WORD_BITS + 2],
    table: &mut Table,
    out: &mut [u8; DESCRIPTION_BYTES + SLACK],
) -> Option<usize> {
    let different = counts.iter().filter(|&&count| count != 0).count();
    if weights.len() < 3 || different < 2 {
        return None;
    }
    let log = if weights.len() < 64 { 5 } else { 6 };
    let distribution = Distribution::new(counts, weights.len() as u32, log);
    let (length, body) = out.split_first_mut()?;
    let size = body.len();
    let mut bits = BitWriter::new(body);
    distribution.describe(&mut bits);
    table.set(log, &distribution.states[..distribution.symbols]);
    // Both states, and each symbol but the last two.
    let cost = Distribution::cost(&distribution.states, log, counts)? / super::fse::BIT;
    if size - bits.rest_bytes() + cost as usize / 8 + 4 > DESCRIPTION_BYTES {
        return None;
    }
    let mut states = [0; 2];
    let last = weights.len() - 1;
    states[last & 1] = table.last(weights[last].into());
    states[(last - 1) & 1] = table.last(weights[last - 1].into());
    for at in (0..last - 1).rev() {
        table.put(&mut states[at & 1], weights[at].into(), &mut bits);
        bits.flush();
    }
    table.finish(states[1], &mut bits);
    table.finish(states[0], &mut bits);
    bits.put(1, 1);
    bits.flush();
    bits.align();
    let bytes = size - bits.rest_bytes();
    *length = u8::try_from(bytes).ok().filter(|&bytes| bytes < 128)?;
    Some(1 + bytes)
}

/// The words: bits above, their number in the lowest four. The longest words come first, each length in the symbols' order.
fn code(lengths: &[Word], longest: u8) -> [u16; 256] {
    let mut next = [0_u16; 16];
    let mut by_length = [0_u16; 16];
    for word in lengths {
        by_length[usize::from(word.len & 15)] += 1;
    }
    let mut first = 0;
    for length in (1..=usize::from(longest)).rev() {
        next[length & 15] = first;
        first = (first + by_length[length & 15]) >> 1;
    }
    let mut code = [0; 256];
    for (place, word) in code.iter_mut().zip(lengths) {
        let next = &mut next[usize::from(word.len & 15)];
        *place = *next << 4 | u16::from(word.len);
        *next += u16::from(word.len != 0);
    }
    code
}

/// Writes literals, the last one first, as decoders read backwards; there is room for them.
fn put_stream(code: &[u16; 256], literals: &[u8], out: &mut [u8]) -> usize {
    let size = out.len();
    let mut bits = BitWriter::new(out);
    bits.in_registers(|bits| {
        let (groups, rest) = literals.as_chunks::<5>();
        for group in core::iter::once(rest).chain(groups.iter().rev().map(|group| &group[..])) {
            for &literal in group.iter().rev() {
                let word = code[usize::from(literal)];
                bits.put((word >> 4).into(), u32::from(word & 15));
            }
            bits.flush();
        }
        bits.put(1, 1);
        bits.flush();
        bits.align();
    });
    size - bits.rest_bytes()
}
