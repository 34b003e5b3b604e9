// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snappy's raw format back to pages, whoever wrote it.

#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

use super::super::repeat::{Input, Output};

/// Decompresses `stream` into `page`. None when it is not in snappy's raw format, or not exactly a page; then the page's
/// bytes mean nothing.
#[must_use]
pub fn decompress(stream: &[u8], page: &mut [u8]) -> Option<()> {
    let mut input = Input(stream);
    if page_length(&mut input)? != page.len() {
        return None;
    }
    let mut output = Output::new(page);
    while let Some(element) = input.byte() {
        let upper = usize::from(element >> 2);
        match element & 3 {
            0 => {
                let behind = match upper {
                    60 => little_endian(input.array::<1>()?),
                    61 => little_endian(input.array::<2>()?),
                    62 => little_endian(input.array::<3>()?),
                    63 => little_endian(input.array::<4>()?),
                    _ => upper,
                };
                output.put(input.bytes(behind.checked_add(1)?)?)?;
            }
            1 => {
                let length = (upper & 7).checked_add(4)?;
                let distance = (upper >> 3) << 8 | usize::from(input.byte()?);
                output.repeat(distance, length)?;
            }
            2 => {
                let distance = little_endian(input.array::<2>()?);
                output.repeat(distance, upper.checked_add(1)?)?;
            }
            _ => {
                let distance = little_endian(input.array::<4>()?);
                output.repeat(distance, upper.checked_add(1)?)?;
            }
        }
    }
    output.is_full().then_some(())
}

/// The number that a stream begins with: seven bits a byte, the lowest first, at most 32.
fn page_length(input: &mut Input<'_>) -> Option<usize> {
    let mut length = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = input.byte()?;
        length |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return usize::try_from(u32::try_from(length).ok()?).ok();
        }
    }
    None
}

/// A number of up to four bytes, the lowest first.
fn little_endian<const N: usize>(bytes: [u8; N]) -> usize {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, &byte| sum << 8 | usize::from(byte))
}
