// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finite state entropy, the reading side. Source: RFC 8878 section 4.1.

#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

use super::bits::{Backward, Forward};

/// The largest table of any kind.
const MAX_LOG: u32 = 9;
const MAX_STATES: usize = 1 << MAX_LOG;
const MIN_LOG: u32 = 5;
/// Symbols of the largest alphabet.
const SYMBOLS: usize = 64;

/// What a state stands for, and where it leads.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    symbol: u8,
    /// Bits that are added to `next`.
    bits: u8,
    next: u16,
}

/// A table that was described, or is to be.
#[derive(Clone, Debug)]
pub(super) struct Table {
    log: u32,
    states: [State; MAX_STATES],
    is_set: bool,
}

impl Table {
    pub(super) const NONE: Self = Self {
        log: 0,
        states: [State {
            symbol: 0,
            bits: 0,
            next: 0,
        }; MAX_STATES],
        is_set: false,
    };

    /// Whether there is a table to be used again.
    pub(super) const fn is_set(&self) -> bool {
        self.is_set
    }

    /// Forgets the table.
    pub(super) const fn clear(&mut self) {
        self.is_set = false;
    }

    /// A table with one symbol, which takes no bits.
    pub(super) fn set_single(&mut self, symbol: u8) {
        self.log = 0;
        self.is_set = true;
        if let Some(state) = self.states.first_mut() {
            *state = State {
                symbol,
                bits: 0,
                next: 0,
            };
        }
    }

    /// Reads a description of symbols below `symbols` from the front of `bytes`, and says how many bytes it had.
    pub(super) fn read(&mut self, bytes: &[u8], symbols: usize, most_log: u32) -> Option<usize> {
        let mut bits = Forward::new(bytes);
        let log = bits.take(4)?.checked_add(MIN_LOG)?;
        if log > most_log.min(MAX_LOG) {
            return None;
        }
        let mut shares = [0_i16; SYMBOLS];
        let mut left = 1_u32 << log;
        let mut symbol = 0_usize;
        while left > 0 {
            // There are `left + 2` values; the lowest of them take a bit less, as far as there are bits to spare.
            let most = left.checked_add(1)?;
            let short = most.ilog2();
            let spared = (2_u32 << short).checked_sub(most)?.checked_sub(1)?;
            let mut value = bits.take(short)?;
            if value >= spared {
                let high = bits.take(1)?;
                if high == 1 {
                    value = value.checked_add(1 << short)?.checked_sub(spared)?;
                }
            }
            let share = i16::try_from(value).ok()?.checked_sub(1)?;
            left = left.checked_sub(share.unsigned_abs().into())?;
            let limit = symbols.min(SYMBOLS);
            *shares.get_mut(..limit)?.get_mut(symbol)? = share;
            symbol = symbol.checked_add(1)?;
            if share == 0 {
                loop {
                    let zeros = bits.take(2)?;
                    symbol = symbol.checked_add(usize::try_from(zeros).ok()?)?;
                    if symbol > limit {
                        return None;
                    }
                    if zeros < 3 {
                        break;
                    }
                }
            }
        }
        self.set(log, shares.get(..symbol)?)?;
        Some(bits.bytes())
    }

    /// Makes the table of a distribution whose shares are `1 << log` together; -1 is one state at the table's end.
    pub(super) fn set(&mut self, log: u32, shares: &[i16]) -> Option<()> {
        self.is_set = false;
        let size = 1_usize << log;
        let states = self.states.get_mut(..size)?;
        let mut next = [0_u16; SYMBOLS];
        let mut end = size;
        for ((symbol, &share), next) in (0..).zip(shares).zip(&mut next) {
            *next = share.unsigned_abs();
            if share == -1 {
                end = end.checked_sub(1)?;
                states.get_mut(end)?.symbol = symbol;
            }
        }
        let step = (size >> 1).checked_add(size >> 3)?.checked_add(3)?;
        let mask = size.checked_sub(1)?;
        let mut at = 0_usize;
        for (symbol, &share) in (0..).zip(shares) {
            for _ in 0..share.max(0) {
                states.get_mut(at)?.symbol = symbol;
                at = at.checked_add(step)? & mask;
                while at >= end && end > 0 {
                    at = at.checked_add(step)? & mask;
                }
            }
        }
        for state in states {
            let next = next.get_mut(usize::from(state.symbol))?;
            let bits = log.checked_sub(next.checked_ilog2()?)?;
            state.bits = u8::try_from(bits).ok()?;
            state.next = (*next << bits).wrapping_sub(u16::try_from(size).ok()?);
            *next = next.checked_add(1)?;
        }
        self.log = log;
        self.is_set = true;
        Some(())
    }

    /// Where decoding begins.
    pub(super) fn start(&self, bits: &mut Backward<'_>) -> Option<usize> {
        usize::try_from(bits.take(self.log)?).ok()
    }

    /// The symbol of a state.
    #[inline]
    pub(super) fn symbol(&self, state: usize) -> u8 {
        self.states.get(state).map_or(0, |state| state.symbol)
    }

    /// The state behind this one.
    #[inline]
    pub(super) fn next(&self, state: usize, bits: &mut Backward<'_>) -> Option<usize> {
        let state = self.states.get(state)?;
        let low = usize::try_from(bits.take(state.bits.into())?).ok()?;
        usize::from(state.next).checked_add(low)
    }
}
