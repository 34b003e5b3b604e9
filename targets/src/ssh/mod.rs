// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SSH client that saves files: no program, no heap, constant memory.
//!
//! ```text
//! Stream ─▶ Transport ─▶ auth ─▶ Channel ─┬─▶ Sftp: a finished, seekable vmcore
//!  (TCP)    packets, keys                 └─▶ exec: cat, where there is no SFTP
//! ```
//! It speaks what OpenSSH 7.4 and later accept as they come: curve25519 or NIST P-256, AES-GCM where the processor has
//! AES, else ChaCha20-Poly1305. The server must show a key that was pinned when the image was built, the user has a key
//! without passphrase; nothing else is tried. Every wait has a bound, every length from the server a limit.
//!
//! [`key_file`] and [`known_hosts`] are what the builder reads on the host.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

mod algorithms;
mod auth;
mod base64;
mod channel;
mod command;
mod error;
mod exchange;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod key_file;
pub mod known_hosts;
mod message;
mod public_key;
pub mod random;
mod remote;
mod sftp;
mod socket;
mod stream;
mod transport;
mod wire;

pub(crate) use base64::decode as decode_base64;
pub use error::SshError;
pub use key_file::UserKey;
pub use public_key::{ECDSA_P256, ED25519, PublicKey, PublicKeyError};
pub use random::Random;
pub use remote::{Login, MEMORY_BYTES, Means, RemoteDirectory, RemoteError, RemoteFile, Server};
pub use socket::Socket;
pub use stream::{Ready, Stream, Want};
pub use transport::Limits;
