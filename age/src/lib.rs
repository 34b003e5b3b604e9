// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that only the holder of a key can read: age's format with X25519 keys, written without a heap, and read.
//!
//! ```text
//! age-encryption.org/v1
//! -> X25519 <share>          one for each recipient: the file's key, encrypted to it
//! <32 bytes>
//! --- <checksum of the lines before, by the file's key>
//! <nonce> <chunk> <chunk> … <last chunk>      each 64 KiB and its tag; the last one is marked as the last, and shorter
//! ```
//! So a file can be written from its front to its end by who knows nothing of its length, and what was cut short is
//! readable up to the last whole chunk, and known to be cut.
//!
//! ```
//! use age::{Begun, Header, Identity};
//! let identity: Identity = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0".parse()?;
//! let mut number = 0;
//! let begun = Begun::new(&[identity.recipient()], &mut || { number += 1; [number; 32] }).unwrap();
//! let (front, mut chunks) = (begun.front, begun.chunks);
//! let mut chunk = *b"what only one may read";
//! let tag = chunks.seal(true, &mut chunk).unwrap();
//!
//! let header = Header::parse(&front)?;
//! let mut chunks = header.unlock(&[identity])?;
//! chunks.open(true, &mut chunk, &tag).unwrap();
//! assert_eq!(&chunk, b"what only one may read");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//! Source: the specification, <https://age-encryption.org/v1> (C2SP `age.md`).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

mod base64;
mod bech32;
mod chunks;
mod derive;
mod header;
mod key;
mod writing;

pub use chunks::{CHUNK_BYTES, Chunks, TAG_BYTES};
pub use header::{Header, HeaderError, MAX_HEADER_BYTES, UnlockError};
pub use key::{Identity, KeyError, Recipient};
pub use packet_cipher::Forged;
pub use writing::{Begun, MAX_FRONT_BYTES, MAX_RECIPIENTS};

/// What a file begins with.
pub const SIGNATURE: &[u8] = b"age-encryption.org/v1\n";
/// What the names of such files end with.
pub const SUFFIX: &str = ".age";
