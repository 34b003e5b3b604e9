// SPDX-License-Identifier: MIT OR Apache-2.0
//! Zstandard for single pages: literals in a Huffman code, sequences of literals and matches in finite state entropy.
//!
//! Source: RFC 8878.

mod bits;
mod codes;
mod decode;
mod encode;
mod fse;
mod huffman;
mod literals;
mod matches;
mod sequences;

pub use decode::Decoder;
pub use encode::Encoder;

/// What a frame begins with.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The longest word of the literals' code.
const MAX_WORD_BITS: usize = 11;
#[cfg(test)]
mod tests;
