// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snappy's raw format for single pages: elements of literals and of copies, and no entropy code.
//!
//! Source: `format_description.txt` of snappy 1.1.9.

mod decode;
mod encode;

pub use decode::decompress;
pub use encode::Encoder;

#[cfg(test)]
mod tests;
