// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finite state entropy, the writing side: from counts to a distribution, its description, and a table to write with.
//! Source: RFC 8878 section 4.1.

#![allow(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the input is bytes of any value, and no number is taken from it; the tests bound the rest"
)]

use super::bits::BitWriter;

/// Symbols of the largest alphabet, with room up to a power of two.
pub(super) const SYMBOLS: usize = 64;
/// The largest table.
pub(super) const MAX_LOG: u32 = 9;
const MAX_STATES: usize = 1 << MAX_LOG;
/// The smallest table that can be described.
pub(super) const MIN_LOG: u32 = 5;

/// Bits times this are the unit of estimates.
pub(super) const BIT: u32 = 256;

/// Log2 of each number, in [`BIT`]s.
static LOG2: [u16; MAX_STATES + 1] = {
    let mut logs = [0; MAX_STATES + 1];
    let mut number = 1;
    while number <= MAX_STATES {
        // Squaring a number from 1 to 2 gives its logarithm's next binary digit.
        let whole = (number as u32).ilog2();
        let mut mantissa = (number as u64) << 32 >> whole;
        let mut log = whole as u16;
        let mut digit = 0;
        while digit < 8 {
            mantissa = ((mantissa as u128 * mantissa as u128) >> 32) as u64;
            let one = mantissa >> 33 != 0;
            log = log << 1 | one as u16;
            if one {
                mantissa >>= 1;
            }
            digit += 1;
        }
        logs[number] = log;
        number += 1;
    }
    logs
};

/// How many of `1 << log` states each symbol has: -1 is one state, at the table's end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Distribution {
    pub(super) log: u32,
    pub(super) states: [i16; SYMBOLS],
    /// One past the last symbol that has states.
    pub(super) symbols: usize,
}

impl Distribution {
    /// The distribution for these counts, whose sum is `total`; at least two symbols occur, and `log` has room for them.
    pub(super) fn new(counts: &[u16], total: u32, log: u32) -> Self {
        let mut states = [0; SYMBOLS];
        let (mut left, mut symbols) = (1_i32 << log, 0);
        let (mut most, mut most_at) = (0, 0);
        let scale = (1_u64 << (log + 32)) / u64::from(total.max(1));
        for (symbol, &count) in counts.iter().enumerate() {
            if count == 0 {
                continue;
            }
            let share = (u64::from(count) * scale + (1 << 31)) >> 32;
            let share = (share as i32).max(1);
            states[symbol] = share as i16;
            left -= share;
            if share > most {
                (most, most_at) = (share, symbol);
            }
            symbols = symbol + 1;
        }
        if most + left > most / 2 {
            states[most_at] += left as i16;
        } else {
            // Many rare symbols were rounded up: those that have more give something back.
            while left < 0 {
                for share in &mut states[..symbols] {
                    if *share > 1 && left < 0 {
                        *share -= 1;
                        left += 1;
                    }
                }
            }
        }
        Self {
            log,
            states,
            symbols,
        }
    }

    /// What the symbols take, in [`BIT`]s, when each comes as often as `counts` say; none when one has no state.
    pub(super) fn cost(states: &[i16], log: u32, counts: &[u16]) -> Option<u32> {
        let mut sum = 0;
        for (symbol, &count) in counts.iter().enumerate() {
            if count != 0 {
                let share = states.get(symbol).filter(|share| **share != 0)?;
                let share = share.unsigned_abs() as usize;
                sum += u32::from(count) * (log * BIT - u32::from(LOG2[share & (MAX_STATES - 1)]));
            }
        }
        Some(sum)
    }

    /// Writes the description: the table's size, then each symbol's states in as many bits as what is left needs.
    pub(super) fn describe(&self, out: &mut BitWriter<'_>) {
        out.put((self.log - MIN_LOG).into(), 4);
        let mut left = 1_u32 << self.log;
        let mut symbol = 0;
        while left > 0 {
            let states = self.states[symbol & (SYMBOLS - 1)];
            let value = (states + 1) as u32;
            // There are `left + 2` values; the lowest of them take a bit less, as far as there are bits to spare.
            let bits = (left + 1).ilog2() + 1;
            let spared = (1 << bits) - (left + 2);
            if value < spared {
                out.put(value.into(), bits - 1);
            } else if value < 1 << (bits - 1) {
                out.put(value.into(), bits);
            } else {
                out.put((value + spared).into(), bits);
            }
            left -= u32::from(states.unsigned_abs());
            symbol += 1;
            if states == 0 {
                let zeros = self.states[symbol.min(SYMBOLS)..]
                    .iter()
                    .take_while(|&&states| states == 0)
                    .count();
                symbol += zeros;
                for _ in 0..zeros / 3 {
                    out.put(3, 2);
                    out.flush();
                }
                out.put((zeros % 3) as u64, 2);
            }
            out.flush();
        }
        out.align();
    }
}

/// What writes symbols. A state is a number from the table's size to twice that, less 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    log: u32,
    /// The states in the order of their symbols.
    next: [u16; MAX_STATES],
    symbols: [Place; SYMBOLS],
}

/// Where a symbol's states are in the table.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Added to a state, its upper half is the number of bits to put.
    bits: u32,
    /// Added to what is left of the state, the place of the next one.
    first: i16,
}

impl Table {
    pub(super) const EMPTY: Self = Self {
        log: 0,
        next: [0; MAX_STATES],
        symbols: [Place { bits: 0, first: 0 }; SYMBOLS],
    };

    /// The table of a symbol that is the only one: it takes no bits.
    pub(super) fn set_single(&mut self, symbol: usize) {
        self.log = 0;
        self.next[0] = 1;
        self.symbols[symbol & (SYMBOLS - 1)] = Place { bits: 0, first: -1 };
    }

    /// The table of a distribution, for constants.
    pub(super) const fn predefined<const N: usize>(log: u32, states: [i16; N]) -> Self {
        let mut table = Self::EMPTY;
        table.set(log, &states);
        table
    }

    /// Makes the table of a distribution.
    pub(super) const fn set(&mut self, log: u32, states: &[i16]) {
        let size = 1_usize << log;
        let mask = size - 1;
        self.log = log;
        // Which symbol each state is of: those with one state at most from the end, the others in steps all over.
        let mut owners = [0_u8; MAX_STATES];
        let mut end = size;
        let mut symbol = 0;
        let mut firsts = [0_u16; SYMBOLS];
        let mut sum = 0;
        while symbol < states.len() {
            let count = states[symbol];
            firsts[symbol & (SYMBOLS - 1)] = sum as u16;
            let place = &mut self.symbols[symbol & (SYMBOLS - 1)];
            if count == -1 {
                end -= 1;
                owners[end & (MAX_STATES - 1)] = symbol as u8;
            }
            if count == -1 || count == 1 {
                place.bits = (log << 16) - (1 << log);
                place.first = sum - 1;
                sum += 1;
            } else if count > 1 {
                let bits = log - (count as u32 - 1).ilog2();
                place.bits = (bits << 16) - ((count as u32) << bits);
                place.first = sum - count;
                sum += count;
            }
            symbol += 1;
        }
        let step = (size >> 1) + (size >> 3) + 3;
        let mut at = 0;
        symbol = 0;
        while symbol < states.len() {
            let mut count = states[symbol];
            while count > 0 {
                owners[at & (MAX_STATES - 1)] = symbol as u8;
                at = (at + step) & mask;
                while at >= end {
                    at = (at + step) & mask;
                }
                count -= 1;
            }
            symbol += 1;
        }
        let mut state = 0;
        while state < size {
            let next = &mut firsts[owners[state & (MAX_STATES - 1)] as usize & (SYMBOLS - 1)];
            self.next[*next as usize & (MAX_STATES - 1)] = (size + state) as u16;
            *next += 1;
            state += 1;
        }
    }

    /// The state that a decoder ends in, with this symbol.
    #[inline(always)]
    pub(super) fn last(&self, symbol: usize) -> u32 {
        let place = &self.symbols[symbol & (SYMBOLS - 1)];
        let bits = (place.bits + (1 << 15)) >> 16;
        let value = (bits << 16).wrapping_sub(place.bits);
        self.state(value >> bits, place.first)
    }

    /// Puts what leads from a state with `symbol` to this one, and goes there: symbols are written backwards.
    #[inline(always)]
    pub(super) fn put(&self, state: &mut u32, symbol: usize, out: &mut BitWriter<'_>) {
        let place = &self.symbols[symbol & (SYMBOLS - 1)];
        let bits = (*state + place.bits) >> 16;
        out.put(u64::from(*state) & ((1 << bits) - 1), bits);
        *state = self.state(*state >> bits, place.first);
    }

    #[inline(always)]
    fn state(&self, rest: u32, first: i16) -> u32 {
        let place = (rest as usize).wrapping_add_signed(first.into());
        self.next[place & (MAX_STATES - 1)].into()
    }

    /// Puts the state that a decoder begins with.
    #[inline(always)]
    pub(super) fn finish(&self, state: u32, out: &mut BitWriter<'_>) {
        out.put(u64::from(state) & ((1 << self.log) - 1), self.log);
    }
}
