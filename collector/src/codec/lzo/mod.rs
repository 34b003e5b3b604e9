// SPDX-License-Identifier: MIT OR Apache-2.0
//! LZO1X for single pages: instructions of one to three bytes, each with literals behind it, and no entropy code.
//!
//! Source: the stream format as Linux 6.1 `Documentation/staging/lzo.rst` describes it.

mod decode;
mod encode;

pub use decode::decompress;
pub use encode::Encoder;

#[cfg(test)]
mod tests;
