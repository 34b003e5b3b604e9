// SPDX-License-Identifier: MIT OR Apache-2.0
//! A way in for hostile bytes, behind what they could not forge: keys and signatures.

use super::remote::{Login, Server};
use super::stream::Stream;
use super::{Random, SshError};

/// A connection as it is after the user was let in, but without ciphers.
///
/// # Errors
/// As those of [`Server::open`].
pub fn session<'b, S: Stream>(
    stream: S,
    login: &Login<'b>,
    random: &'b mut Random,
    memory: &'b mut [u8],
) -> Result<Server<'b, S>, SshError> {
    Server::over(stream, login, random, memory, |transport| {
        transport.authenticated();
        Ok(())
    })
}
