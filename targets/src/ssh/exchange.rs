// SPDX-License-Identifier: MIT OR Apache-2.0
//! Agreeing on a secret with the server, and the keys that follow from it.
//!
//! Source: RFC 4253 sections 7.2 and 8, RFC 5656 section 4, RFC 8731.

use super::algorithms::Agreement;
use super::error::SshError;
use super::public_key::{PublicKey, fingerprint};
use super::random::Random;
use super::wire::{Reader, Writer};
use curve25519_dalek::montgomery::MontgomeryPoint;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use p256::{PublicKey as P256Point, SecretKey as P256Secret};
use packet_cipher::{KEY_BYTES, NONCE_BYTES};
use sha2::{Digest as _, Sha256};

/// Our half of the secret, used once.
pub(crate) enum Secret {
    X25519([u8; 32]),
    P256(P256Secret),
}

/// The public part of our half.
pub(crate) type Share = heapless::Vec<u8, 65>;

impl Secret {
    /// A new one, and the share that goes to the server.
    pub(crate) fn new(agreement: Agreement, random: &mut Random) -> (Self, Share) {
        match agreement {
            Agreement::X25519 => {
                let secret = random.draw();
                let share = MontgomeryPoint::mul_base_clamped(secret).to_bytes();
                (Self::X25519(secret), share.into_iter().collect())
            }
            Agreement::P256 => loop {
                // All but one number in 2^32 will do.
                if let Ok(secret) = P256Secret::from_slice(&random.draw()) {
                    let point = secret.public_key().to_sec1_point(false);
                    let share = point.as_bytes().iter().copied().collect();
                    break (Self::P256(secret), share);
                }
            },
        }
    }

    /// What both sides know now. None when the server's share is no point.
    fn meet(&self, share: &[u8]) -> Option<[u8; 32]> {
        match self {
            Self::X25519(secret) => {
                let point = MontgomeryPoint(share.try_into().ok()?);
                let common = point.mul_clamped(*secret).to_bytes();
                // A point of small order: everybody would know it.
                (common != [0; 32]).then_some(common)
            }
            Self::P256(secret) => {
                let point = P256Point::from_sec1_bytes(share)
                    .ok()
                    .filter(|_| share.len() == 65)?;
                Some((*secret.diffie_hellman(&point).raw_secret_bytes()).into())
            }
        }
    }
}

/// The hash over all that was said, on its way.
pub(crate) struct Transcript(Sha256);

impl Transcript {
    /// Both version lines and both offers.
    pub(crate) fn new(versions: [&[u8]; 2], inits: [&[u8]; 2]) -> Self {
        let mut transcript = Self(Sha256::new());
        for part in versions.into_iter().chain(inits) {
            transcript.string(part);
        }
        transcript
    }

    fn string(&mut self, bytes: &[u8]) {
        // A packet's part is far shorter than 4 GiB.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.update(length.to_be_bytes());
        self.0.update(bytes);
    }

    /// Checks the server's answer, the whole message, and gives what the keys follow from.
    pub(crate) fn finish(
        mut self,
        answer: &[u8],
        secret: &Secret,
        our_share: &[u8],
        pinned: &[PublicKey],
        host_key: &str,
    ) -> Result<Keys, SshError> {
        let mut reader = Reader(answer);
        let parts = (|| {
            reader.u8()?;
            Some((reader.string()?, reader.string()?, reader.string()?))
        })();
        let Some((blob, their_share, signature)) = parts.filter(|_| reader.is_empty()) else {
            return Err(SshError::Protocol(
                "its answer in the key exchange is malformed",
            ));
        };
        let key = PublicKey::from_blob(blob)
            .ok()
            .filter(|key| pinned.contains(key))
            .ok_or_else(|| SshError::HostKey(fingerprint(blob)))?;
        if key.algorithm() != host_key {
            return Err(SshError::Protocol(
                "its host key is of another type than agreed",
            ));
        }
        let common = secret
            .meet(their_share)
            .ok_or(SshError::Protocol("its share of the secret is none"))?;
        let mut number = [0; 40];
        let mut writer = Writer::new(&mut number);
        writer.mpint(&common);
        let number = writer.done().unwrap_or_default();
        self.string(blob);
        self.string(our_share);
        self.string(their_share);
        self.0.update(number);
        let hash: [u8; 32] = self.0.finalize().into();
        if !key.has_signed(&hash, signature) {
            return Err(SshError::HostKeyProof);
        }
        let secret = Sha256::new().chain_update(number).chain_update(hash);
        Ok(Keys { hash, secret })
    }
}

/// What keys follow from.
pub(crate) struct Keys {
    /// The hash of this exchange; that of the first one names the session.
    pub(crate) hash: [u8; 32],
    /// The hash of the secret and of the above, to be continued.
    secret: Sha256,
}

impl Keys {
    /// The nonce with the letter `nonce` and the keys with the letter `key`.
    pub(crate) fn derive(
        &self,
        session: &[u8; 32],
        nonce: u8,
        key: u8,
    ) -> ([u8; KEY_BYTES], [u8; NONCE_BYTES]) {
        let first = |letter: u8| -> [u8; 32] {
            let hash = self.secret.clone().chain_update([letter]);
            hash.chain_update(session).finalize().into()
        };
        let start = first(key);
        let more: [u8; 32] = self.secret.clone().chain_update(start).finalize().into();
        let mut keys = [0; KEY_BYTES];
        for (place, byte) in keys.iter_mut().zip(start.iter().chain(&more)) {
            *place = *byte;
        }
        let mut nonce_bytes = [0; NONCE_BYTES];
        for (place, byte) in nonce_bytes.iter_mut().zip(first(nonce)) {
            *place = byte;
        }
        (keys, nonce_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::random::Random;

    #[test]
    fn both_sides_meet_and_nobody_else() {
        let mut random = Random::gather(b"", None);
        for agreement in [Agreement::X25519, Agreement::P256] {
            let (here, to_there) = Secret::new(agreement, &mut random);
            let (there, to_here) = Secret::new(agreement, &mut random);
            let common = here.meet(&to_here).unwrap();
            assert_eq!(there.meet(&to_there).unwrap(), common);
            assert_ne!(here.meet(&to_there), Some(common));
            assert_eq!(here.meet(&to_here[1..]), None);
            assert_eq!(here.meet(&[]), None);
        }
    }

    #[test]
    fn points_that_make_the_secret_known_are_refused() {
        let mut random = Random::gather(b"", None);
        let (secret, _) = Secret::new(Agreement::X25519, &mut random);
        assert_eq!(secret.meet(&[0; 32]), None);
        let mut one = [0; 32];
        one[0] = 1;
        assert_eq!(secret.meet(&one), None);
        let (secret, _) = Secret::new(Agreement::P256, &mut random);
        let mut off_the_curve = [4; 65];
        off_the_curve[0] = 4;
        assert_eq!(secret.meet(&off_the_curve), None);
        assert_eq!(secret.meet(&[0]), None);
    }
}
