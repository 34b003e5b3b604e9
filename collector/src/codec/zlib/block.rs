// SPDX-License-Identifier: MIT OR Apache-2.0
//! One block of RFC 1951: literals and matches to bits.

use super::bits::BitWriter;
use super::matches::Matches;
use super::symbols::{self, DISTANCES, END, LITERALS};

/// A code word, its first bit lowest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Word {
    pub(super) bits: u16,
    pub(super) len: u8,
}

/// The code words of both alphabets.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) literals: [Word; LITERALS],
    pub(super) distances: [Word; DISTANCES],
}

impl Code {
    /// The code that needs no table in the stream. Source: RFC 1951 section 3.2.6.
    pub(super) const fn fixed() -> Self {
        let mut literals = [Word { bits: 0, len: 0 }; LITERALS];
        let mut symbol = 0;
        while symbol < LITERALS {
            let (word, len) = match symbol {
                0..144 => (0x30 + symbol, 8),
                144..256 => (0x190 + symbol - 144, 9),
                256..280 => (symbol - 256, 7),
                _ => (0xc0 + symbol - 280, 8),
            };
            literals[symbol] = Word {
                bits: (word as u16).reverse_bits() >> (16 - len),
                len: len as u8,
            };
            symbol += 1;
        }
        let mut distances = [Word { bits: 0, len: 5 }; DISTANCES];
        let mut symbol = 0;
        while symbol < DISTANCES {
            distances[symbol].bits = (symbol as u16).reverse_bits() >> 11;
            symbol += 1;
        }
        Self {
            literals,
            distances,
        }
    }
}

/// Bits that [`write()`] will write.
pub(super) fn bits(matches: &Matches, code: &Code) -> usize {
    let mut bits = 3 + code.literals[END].len as usize;
    let mut rest = matches.bytes();
    for sequence in matches.sequences() {
        let (literals, behind) = rest.split_at(sequence.literals.into());
        rest = &behind[usize::from(sequence.length)..];
        for &byte in literals {
            bits += usize::from(code.literals[usize::from(byte)].len);
        }
        if sequence.length != 0 {
            let (symbol, extra_bits, _) = symbols::length(sequence.length);
            bits += usize::from(code.literals[symbol].len) + extra_bits as usize;
            let (symbol, extra_bits, _) = symbols::distance(sequence.distance);
            bits += usize::from(code.distances[symbol].len) + extra_bits as usize;
        }
    }
    bits
}

/// Writes a block in a code that the stream need not describe.
pub(super) fn write(matches: &Matches, code: &Code, last: bool, out: &mut BitWriter<'_>) {
    out.put(u64::from(last), 1);
    out.put(1, 2);
    let mut rest = matches.bytes();
    for sequence in matches.sequences() {
        let (literals, behind) = rest.split_at(sequence.literals.into());
        rest = &behind[usize::from(sequence.length)..];
        for &byte in literals {
            let word = code.literals[usize::from(byte)];
            out.put(word.bits.into(), word.len.into());
            out.flush();
        }
        if sequence.length != 0 {
            let (symbol, extra_bits, extra) = symbols::length(sequence.length);
            let word = code.literals[symbol];
            out.put(word.bits.into(), word.len.into());
            out.put(extra.into(), extra_bits);
            let (symbol, extra_bits, extra) = symbols::distance(sequence.distance);
            let word = code.distances[symbol];
            out.put(word.bits.into(), word.len.into());
            out.put(extra.into(), extra_bits);
            out.flush();
        }
    }
    let end = code.literals[END];
    out.put(end.bits.into(), end.len.into());
    out.flush();
}
