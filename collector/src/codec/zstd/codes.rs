// SPDX-License-Identifier: MIT OR Apache-2.0
//! How lengths are coded, and the distributions that need no description. Source: RFC 8878 section 3.1.1.3.2.

#![allow(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the input is bytes of any value, and no number is taken from it; the tests bound the rest"
)]

/// Codes of the number of literals before a match.
pub(super) const LITERAL_CODES: usize = 36;
/// Codes of a match's length.
pub(super) const LENGTH_CODES: usize = 53;
/// Codes of an offset that pages of 64 KiB can have, and one more.
pub(super) const OFFSET_CODES: usize = 29;
/// The shortest match of the format.
pub(super) const SHORTEST: usize = 3;

/// Extra bits of each code of literals.
pub(super) const LITERAL_BITS: [u8; LITERAL_CODES] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11,
    12, 13, 14, 15, 16,
];

/// Extra bits of each code of lengths.
pub(super) const LENGTH_BITS: [u8; LENGTH_CODES] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
];

/// The lowest number of each code: the extra bits count from there.
pub(super) const fn firsts<const N: usize>(bits: &[u8; N]) -> [u32; N] {
    let mut firsts = [0; N];
    let mut code = 1;
    while code < N {
        firsts[code] = firsts[code - 1] + (1 << bits[code - 1]);
        code += 1;
    }
    firsts
}

/// The code of each number below `M`.
const fn code_of<const N: usize, const M: usize>(bits: &[u8; N]) -> [u8; M] {
    let mut codes = [0; M];
    let firsts = firsts(bits);
    let (mut number, mut code) = (0, 0);
    while number < M {
        while code + 1 < N && firsts[code + 1] as usize <= number {
            code += 1;
        }
        codes[number] = code as u8;
        number += 1;
    }
    codes
}

static LITERAL_CODE: [u8; 64] = code_of(&LITERAL_BITS);
static LENGTH_CODE: [u8; 128] = code_of(&LENGTH_BITS);

/// The code of a number of literals.
#[inline(always)]
pub(super) fn literal_code(literals: u32) -> usize {
    match LITERAL_CODE.get(literals as usize) {
        Some(&code) => code.into(),
        None => (literals.ilog2() + 19) as usize,
    }
}

/// The code of a match's length less [`SHORTEST`].
#[inline(always)]
pub(super) fn length_code(beyond: u32) -> usize {
    match LENGTH_CODE.get(beyond as usize) {
        Some(&code) => code.into(),
        None => (beyond.ilog2() + 36) as usize,
    }
}

/// A distribution: how many of a table's states each symbol has. -1 is a state for a symbol that is rarer than that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Predefined<const N: usize> {
    pub(super) log: u32,
    pub(super) states: [i16; N],
}

/// Source: RFC 8878 section 3.1.1.3.2.2.
pub(super) const LITERALS: Predefined<LITERAL_CODES> = Predefined {
    log: 6,
    states: [
        4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1,
        1, 1, -1, -1, -1, -1,
    ],
};

/// The same for lengths.
pub(super) const LENGTHS: Predefined<LENGTH_CODES> = Predefined {
    log: 6,
    states: [
        1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ],
};

/// The same for offsets.
pub(super) const OFFSETS: Predefined<OFFSET_CODES> = Predefined {
    log: 5,
    states: [
        1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
    ],
};
