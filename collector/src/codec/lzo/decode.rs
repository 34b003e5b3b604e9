// SPDX-License-Identifier: MIT OR Apache-2.0
//! LZO1X streams back to pages, whoever wrote them.

#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

use super::super::repeat::{Input, Output};

/// Decompresses `stream` into `page`. None when it is no LZO1X stream, or not one of exactly a page; then the page's
/// bytes mean nothing.
#[must_use]
pub fn decompress(stream: &[u8], page: &mut [u8]) -> Option<()> {
    let mut input = Input(stream);
    let mut output = Output::new(page);
    // Literals that the last instruction brought: 0 to 3, or 4 for a run of more.
    let mut literals = 0;
    if let Some(first @ 18..) = stream.first() {
        input.byte()?;
        let count = first.checked_sub(17)?;
        output.put(input.bytes(count.into())?)?;
        literals = count.min(4);
    }
    loop {
        let code = input.byte()?;
        let short = usize::from(code >> 2 & 3);
        let length;
        let distance;
        match code {
            0..16 if literals == 0 => {
                let count = long(code, 15, &mut input)?.checked_add(3)?;
                output.put(input.bytes(count)?)?;
                literals = 4;
                continue;
            }
            0..16 => {
                let (least, shortest) = if literals == 4 { (2049, 3) } else { (1, 2) };
                length = shortest;
                distance = shifted(input.byte()?, 2, short).checked_add(least)?;
                literals = code & 3;
            }
            16..32 => {
                length = long(code & 7, 7, &mut input)?.checked_add(2)?;
                let rest = u16::from_le_bytes(input.array()?);
                let far = usize::from(code >> 3 & 1) << 14 | usize::from(rest >> 2);
                if far == 0 {
                    // The end: it has a length of its own, and nothing may be behind it.
                    return (length == 3 && input.0.is_empty() && output.is_full()).then_some(());
                }
                distance = far.checked_add(0x4000)?;
                literals = low_bits(rest);
            }
            32..64 => {
                length = long(code & 31, 31, &mut input)?.checked_add(2)?;
                let rest = u16::from_le_bytes(input.array()?);
                distance = usize::from(rest >> 2).checked_add(1)?;
                literals = low_bits(rest);
            }
            64.. => {
                length = usize::from(code >> 5).checked_add(1)?;
                let near = usize::from(code >> 2 & 7);
                distance = shifted(input.byte()?, 3, near).checked_add(1)?;
                literals = code & 3;
            }
        }
        output.repeat(distance, length)?;
        output.put(input.bytes(literals.into())?)?;
    }
}

/// A length: what the instruction says, or if that is 0, more than the `most` it could say. Each further byte of 0 adds
/// 255, and the first other one ends it.
fn long(short: u8, most: usize, input: &mut Input<'_>) -> Option<usize> {
    if short != 0 {
        return Some(short.into());
    }
    let mut length = most;
    loop {
        match input.byte()? {
            0 => length = length.checked_add(255)?,
            last => return length.checked_add(last.into()),
        }
    }
}

/// A distance's upper bits, which have a byte of their own, and the lower ones.
fn shifted(high: u8, bits: u32, low: usize) -> usize {
    usize::from(high) << bits | low
}

/// The number of literals in the last two bits of a distance.
#[allow(clippy::as_conversions, reason = "two bits")]
const fn low_bits(rest: u16) -> u8 {
    (rest & 3) as u8
}
