// SPDX-License-Identifier: MIT OR Apache-2.0
//! Zstandard frames back to pages, whoever wrote them. Source: RFC 8878.

#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

mod bits;
mod literals;
mod table;

use super::super::repeat::{Input, repeat_from};
use super::MAGIC;
use super::codes::{
    self, LENGTH_BITS, LENGTH_CODES, LITERAL_BITS, LITERAL_CODES, SHORTEST, firsts,
};
use bits::Backward;
use literals::Code;
use table::Table;

/// Offsets have at most this many codes, of which a page can use fewer.
const OFFSET_CODES: usize = 32;
const LENGTH_LOG: u32 = 9;
const OFFSET_LOG: u32 = 8;
const LITERAL_FIRSTS: [u32; LITERAL_CODES] = firsts(&LITERAL_BITS);
const LENGTH_FIRSTS: [u32; LENGTH_CODES] = firsts(&LENGTH_BITS);
/// What frames that are to be skipped begin with: the last byte's lower half may be anything.
const SKIPPABLE: u32 = 0x184d_2a50;

/// The memory that a decoder works in.
#[derive(Clone, Debug)]
pub struct Decoder {
    code: Code,
    literals: Table,
    offsets: Table,
    lengths: Table,
    weights: Table,
    /// The last three distances.
    last: [usize; 3],
}

impl Decoder {
    /// A decoder.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            code: Code::NONE,
            literals: Table::NONE,
            offsets: Table::NONE,
            lengths: Table::NONE,
            weights: Table::NONE,
            last: [1, 4, 8],
        }
    }

    /// Decompresses `stream`, one frame or several, into `page`. None when it is something else, or not exactly a page;
    /// then the page's bytes mean nothing. A frame that needs a dictionary is not read; a checksum is passed over.
    #[must_use]
    pub fn decompress(&mut self, stream: &[u8], page: &mut [u8]) -> Option<()> {
        let mut input = Input(stream);
        let mut rest = page;
        while !input.0.is_empty() {
            let magic: [u8; 4] = input.array()?;
            if u32::from_le_bytes(magic) & !15 == SKIPPABLE {
                let bytes = u32::from_le_bytes(input.array()?);
                input.bytes(usize::try_from(bytes).ok()?)?;
                continue;
            }
            if magic != MAGIC {
                return None;
            }
            let done = self.read_frame(&mut input, rest)?;
            rest = rest.get_mut(done..)?;
        }
        rest.is_empty().then_some(())
    }

    /// Reads a frame behind its magic number, and says how many bytes of `page` it filled.
    fn read_frame(&mut self, input: &mut Input<'_>, page: &mut [u8]) -> Option<usize> {
        let descriptor = input.byte()?;
        let single = descriptor & 0x20 != 0;
        if descriptor & 0x08 != 0 {
            return None;
        }
        if !single {
            // How far back matches may reach: pages are shorter.
            input.byte()?;
        }
        let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied()?;
        if input.bytes(dictionary)?.iter().any(|&byte| byte != 0) {
            return None;
        }
        let size: Option<u64> = match descriptor >> 6 {
            0 if single => Some(input.byte()?.into()),
            0 => None,
            1 => Some(u64::from(u16::from_le_bytes(input.array()?)).checked_add(256)?),
            2 => Some(u32::from_le_bytes(input.array()?).into()),
            _ => Some(u64::from_le_bytes(input.array()?)),
        };
        self.code.clear();
        self.literals.clear();
        self.offsets.clear();
        self.lengths.clear();
        self.last = [1, 4, 8];
        let mut done = 0_usize;
        loop {
            let [low, middle, high] = input.array()?;
            let header = u32::from_le_bytes([low, middle, high, 0]);
            let bytes = usize::try_from(header >> 3).ok()?;
            done = match header >> 1 & 3 {
                0 => {
                    let end = done.checked_add(bytes)?;
                    page.get_mut(done..end)?
                        .copy_from_slice(input.bytes(bytes)?);
                    end
                }
                1 => {
                    let end = done.checked_add(bytes)?;
                    page.get_mut(done..end)?.fill(input.byte()?);
                    end
                }
                2 => self.read_block(Input(input.bytes(bytes)?), page, done)?,
                _ => return None,
            };
            if header & 1 == 1 {
                break;
            }
        }
        if descriptor & 0x04 != 0 {
            input.bytes(4)?;
        }
        let whole = size.is_none_or(|size| usize::try_from(size) == Ok(done));
        whole.then_some(done)
    }

    /// Reads a compressed block into the page from `done` on, and says how far it went.
    ///
    /// Its literals wait at the page's end. They are never caught up with: what is still to be written has all of them.
    fn read_block(
        &mut self,
        mut input: Input<'_>,
        page: &mut [u8],
        mut done: usize,
    ) -> Option<usize> {
        let count = self
            .code
            .read(&mut input, page.get_mut(done..)?, &mut self.weights)?;
        let mut literals = page.len().checked_sub(count)?;
        let count = match input.byte()? {
            few @ ..128 => usize::from(few),
            high @ 128..255 => usize::from(high & 127) << 8 | usize::from(input.byte()?),
            255 => usize::from(u16::from_le_bytes(input.array()?)).checked_add(0x7f00)?,
        };
        if count > 0 {
            self.read_tables(&mut input)?;
            let mut bits = Backward::new(input.0)?;
            let mut literal_state = self.literals.start(&mut bits)?;
            let mut offset_state = self.offsets.start(&mut bits)?;
            let mut length_state = self.lengths.start(&mut bits)?;
            for index in (0..count).rev() {
                let code = u32::from(self.offsets.symbol(offset_state));
                let offset = (1_u64 << (code & 31)).checked_add(bits.take(code)?)?;
                let code = usize::from(self.lengths.symbol(length_state));
                let extra = bits.take((*LENGTH_BITS.get(code)?).into())?;
                let length = usize::try_from(extra)
                    .ok()?
                    .checked_add(usize::try_from(*LENGTH_FIRSTS.get(code)?).ok()?)?
                    .checked_add(SHORTEST)?;
                let code = usize::from(self.literals.symbol(literal_state));
                let extra = bits.take((*LITERAL_BITS.get(code)?).into())?;
                let before = usize::try_from(extra)
                    .ok()?
                    .checked_add(usize::try_from(*LITERAL_FIRSTS.get(code)?).ok()?)?;
                if index > 0 {
                    literal_state = self.literals.next(literal_state, &mut bits)?;
                    length_state = self.lengths.next(length_state, &mut bits)?;
                    offset_state = self.offsets.next(offset_state, &mut bits)?;
                }
                let distance = self.distance(offset, before == 0)?;
                (done, literals) = take_literals(page, done, literals, before)?;
                done = repeat(page.get_mut(..literals)?, done, distance, length)?;
            }
            if !bits.is_empty() {
                return None;
            }
        } else if !input.0.is_empty() {
            return None;
        }
        let left = page.len().checked_sub(literals)?;
        Some(take_literals(page, done, literals, left)?.0)
    }

    /// Reads what the block says about its three tables.
    fn read_tables(&mut self, input: &mut Input<'_>) -> Option<()> {
        let modes = input.byte()?;
        if modes & 3 != 0 {
            return None;
        }
        let usual = &codes::LITERALS;
        read_table(
            &mut self.literals,
            modes >> 6,
            usual,
            LITERAL_CODES,
            LENGTH_LOG,
            input,
        )?;
        let usual = &codes::OFFSETS;
        read_table(
            &mut self.offsets,
            modes >> 4,
            usual,
            OFFSET_CODES,
            OFFSET_LOG,
            input,
        )?;
        let usual = &codes::LENGTHS;
        read_table(
            &mut self.lengths,
            modes >> 2,
            usual,
            LENGTH_CODES,
            LENGTH_LOG,
            input,
        )
    }

    /// What an offset stands for: one of the last three distances, or a new one.
    fn distance(&mut self, offset: u64, is_next: bool) -> Option<usize> {
        let [first, second, third] = self.last;
        // Without literals in between, the last distance cannot be meant.
        let index = offset.checked_add(is_next.into())?;
        let distance = match index {
            _ if offset > 3 => usize::try_from(offset.checked_sub(3)?).ok()?,
            1 => return Some(first),
            2 => second,
            3 => third,
            _ => first.checked_sub(1).filter(|&distance| distance > 0)?,
        };
        self.last = match index {
            2 if offset <= 3 => [second, first, third],
            _ => [distance, first, second],
        };
        Some(distance)
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads what the block says about one table; the mode is in the lowest two bits.
fn read_table<const N: usize>(
    table: &mut Table,
    mode: u8,
    usual: &codes::Predefined<N>,
    symbols: usize,
    most_log: u32,
    input: &mut Input<'_>,
) -> Option<()> {
    match mode & 3 {
        0 => table.set(usual.log, &usual.states),
        1 => {
            let symbol = input.byte()?;
            if usize::from(symbol) >= symbols {
                return None;
            }
            table.set_single(symbol);
            Some(())
        }
        2 => {
            let bytes = table.read(input.0, symbols, most_log)?;
            input.bytes(bytes)?;
            Some(())
        }
        _ => table.is_set().then_some(()),
    }
}

/// Moves literals from where they wait to where they belong, and gives back both places.
fn take_literals(
    page: &mut [u8],
    done: usize,
    literals: usize,
    count: usize,
) -> Option<(usize, usize)> {
    let end = literals.checked_add(count)?;
    if done > literals || end > page.len() {
        return None;
    }
    page.copy_within(literals..end, done);
    Some((done.checked_add(count)?, end))
}

/// Adds `length` bytes at `done`, each what stands `distance` bytes before it.
fn repeat(page: &mut [u8], done: usize, distance: usize, length: usize) -> Option<usize> {
    let start = done.checked_sub(distance).filter(|_| distance > 0)?;
    let end = done.checked_add(length)?;
    repeat_from(page.get_mut(start..end)?, distance)?;
    Some(end)
}
