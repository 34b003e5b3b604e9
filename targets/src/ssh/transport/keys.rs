// SPDX-License-Identifier: MIT OR Apache-2.0
//! Agreeing on keys, at the beginning and again when they have served long enough.
//!
//! Source: RFC 4253 sections 7 to 9; OpenSSH 9.6 `PROTOCOL` section 1.10.

use super::{Payload, Transport, VERSION};
use crate::clock::now;
use crate::ssh::algorithms::INIT_BYTES;
use crate::ssh::error::SshError;
use crate::ssh::exchange::{Secret, Transcript};
use crate::ssh::message;
use crate::ssh::stream::Stream;
use crate::ssh::wire::Writer;
use core::time::Duration;

impl<S: Stream> Transport<'_, S> {
    /// Nothing but the exchange may be sent now: the server's part is still to come.
    pub(crate) const fn is_exchanging(&self) -> bool {
        self.offered.is_some()
    }

    /// Begins an exchange of new keys when these have served long enough.
    pub(crate) fn renew_keys(&mut self) -> Result<(), SshError> {
        // Packets are numbered with 32 bits, and no number may come twice under one key.
        let is_due = self.used_bytes >= self.limits.rekey_bytes
            || self.sealed >= 1 << 31
            || self.opened >= 1 << 31;
        if is_due && !self.is_exchanging() {
            self.offer_keys()?;
            self.flush()?;
        }
        Ok(())
    }

    pub(super) fn offer_keys(&mut self) -> Result<(), SshError> {
        let cookie = self
            .random
            .draw()
            .first_chunk()
            .copied()
            .unwrap_or_default();
        let offer = self.offer;
        self.queue(INIT_BYTES, |writer| offer.write(&cookie, writer))?;
        self.offered = Some(cookie);
        Ok(())
    }

    /// Agrees on keys: `init` is the server's offer.
    pub(super) fn exchange(&mut self, init: Payload, until: Duration) -> Result<(), SshError> {
        let is_first = self.session.is_none();
        let cookie = match self.offered {
            Some(cookie) => cookie,
            None => {
                self.offer_keys()?;
                self.offered.unwrap_or_default()
            }
        };
        let agreed = self.offer.agree(self.bytes(&init))?;
        if is_first {
            self.is_strict = agreed.is_strict;
        }
        let mut ours = [0; INIT_BYTES];
        let mut writer = Writer::new(&mut ours);
        self.offer.write(&cookie, &mut writer);
        let ours = writer.done().ok_or(SshError::TooLong("our offer"))?;
        let transcript = Transcript::new(
            [VERSION, self.server_version.as_bytes()],
            [ours, self.bytes(&init)],
        );
        let (secret, share) = Secret::new(agreed.agreement, self.random);
        self.queue(128, |writer| {
            writer.u8(message::KEX_ECDH_INIT);
            writer.string(&share);
        })?;
        self.flush()?;
        if agreed.skips_one {
            self.packet(until)?;
        }
        let answer = self.exchange_packet(message::KEX_ECDH_REPLY, is_first, until)?;
        let keys = transcript.finish(
            self.bytes(&answer),
            &secret,
            &share,
            self.offer.pinned,
            agreed.host_key,
        )?;
        let session = *self.session.get_or_insert(keys.hash);
        self.queue(8, |writer| writer.u8(message::NEWKEYS))?;
        self.flush()?;
        let (key, nonce) = keys.derive(&session, b'A', b'C');
        self.sealer = agreed.to_server.with_keys(&key, &nonce);
        self.exchange_packet(message::NEWKEYS, is_first, until)?;
        let (key, nonce) = keys.derive(&session, b'B', b'D');
        self.opener = agreed.to_client.with_keys(&key, &nonce);
        if self.is_strict {
            (self.sealed, self.opened) = (0, 0);
        }
        self.offered = None;
        self.used_bytes = 0;
        Ok(())
    }

    /// The packet of an exchange that must come now.
    fn exchange_packet(
        &mut self,
        kind: u8,
        is_first: bool,
        until: Duration,
    ) -> Result<Payload, SshError> {
        loop {
            let payload = self.packet(until)?;
            if self.kind(&payload) == kind {
                return Ok(payload);
            }
            self.noise(&payload)?;
            // Noise in the first exchange is how the Terrapin attack begins (CVE-2023-48795).
            if is_first && self.is_strict {
                return Err(SshError::Protocol(
                    "a message out of place in the key exchange",
                ));
            }
            if now() >= until {
                return Err(SshError::TimedOut);
            }
        }
    }
}
