// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our ssh client, as the tests use it against servers of the host.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use targets::ssh::{
    Limits, Login, MEMORY_BYTES, PublicKey, Random, Server, Socket, SshError, UserKey,
};

use crate::peer::Server as Peer;

/// Short waits, so that a server that hangs is noticed within a test.
pub const LIMITS: Limits = Limits {
    answer: Duration::from_secs(8),
    keepalive: Duration::from_secs(1),
    rekey_bytes: 1 << 30,
};
/// How long it may take until a server of this machine is reached.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client's own things.
pub struct Client {
    /// The user's key.
    pub key: UserKey,
    /// The keys of which the server must have one.
    pub pinned: Vec<PublicKey>,
    /// How long it waits.
    pub limits: Limits,
    /// The only cipher that it offers.
    pub cipher: Option<&'static str>,
    /// Who logs in.
    pub user: &'static str,
}

impl Client {
    /// One that `peer` lets in, and that knows it.
    ///
    /// # Errors
    /// The server's folder does not have the keys.
    pub fn of(peer: &Peer) -> Result<Self> {
        let host_key = PublicKey::from_text(&peer.host_key).ok();
        let pinned = vec![host_key.context("the host key cannot be used")?];
        Ok(Self::with_keys(UserKey::parse(&peer.user_key()?)?, pinned))
    }

    /// One with these keys.
    #[must_use]
    pub const fn with_keys(key: UserKey, pinned: Vec<PublicKey>) -> Self {
        Self {
            key,
            pinned,
            limits: LIMITS,
            cipher: None,
            user: "root",
        }
    }

    /// Logs in, and does `work` with the server.
    ///
    /// # Errors
    /// It does not get in.
    pub fn with<T>(
        &self,
        address: SocketAddr,
        work: impl FnOnce(&Server<'_, Socket>) -> T,
    ) -> Result<T, SshError> {
        let login = Login {
            user: self.user,
            key: &self.key,
            pinned: &self.pinned,
            limits: self.limits,
            cipher: self.cipher,
        };
        let socket = Socket::connect(address, PATIENCE).map_err(SshError::Io)?;
        let mut random = Random::gather(b"test", None);
        let mut memory = vec![0; MEMORY_BYTES];
        let server = Server::open(socket, &login, &mut random, &mut memory)?;
        let result = work(&server);
        server.close();
        Ok(result)
    }
}
