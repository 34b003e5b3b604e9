// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this client offers, and what comes of it with what the server offers.
//!
//! Source: RFC 4253 section 7.1; OpenSSH 9.6 `PROTOCOL` section 1.10 for strict key exchange.

use super::error::SshError;
use super::message;
use super::public_key::PublicKey;
use super::wire::{Reader, Writer, names};
use crate::text::Text;
use packet_cipher::CipherKind;

/// The longest message that [`Offer::write`] makes.
pub(crate) const INIT_BYTES: usize = 640;
/// Says that this side follows the strict rules.
const STRICT_CLIENT: &str = "kex-strict-c-v00@openssh.com";
const STRICT_SERVER: &[u8] = b"kex-strict-s-v00@openssh.com";

/// How a secret is agreed on; all with SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agreement {
    X25519,
    P256,
}

const AGREEMENTS: [(&str, Agreement); 3] = [
    ("curve25519-sha256", Agreement::X25519),
    ("curve25519-sha256@libssh.org", Agreement::X25519),
    ("ecdh-sha2-nistp256", Agreement::P256),
];

/// AES-GCM where the processor has AES: no other cipher comes near it there, and none is as slow without.
const WITH_AES: [CipherKind; 3] = [
    CipherKind::Aes128Gcm,
    CipherKind::Aes256Gcm,
    CipherKind::ChaCha20Poly1305,
];
const WITHOUT_AES: [CipherKind; 3] = [
    CipherKind::ChaCha20Poly1305,
    CipherKind::Aes128Gcm,
    CipherKind::Aes256Gcm,
];

/// What this side offers.
#[derive(Clone, Copy)]
pub(crate) struct Offer<'k> {
    /// The keys of which the server must have one.
    pub(crate) pinned: &'k [PublicKey],
    /// The only cipher, where one is asked for.
    pub(crate) cipher: Option<CipherKind>,
}

/// What both sides do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) agreement: Agreement,
    /// The name of the host key's type.
    pub(crate) host_key: &'static str,
    pub(crate) to_server: CipherKind,
    pub(crate) to_client: CipherKind,
    /// The server follows the strict rules too.
    pub(crate) is_strict: bool,
    /// The server sent a packet on a guess that was wrong.
    pub(crate) skips_one: bool,
}

impl Offer<'_> {
    fn ciphers(&self) -> impl Iterator<Item = CipherKind> {
        let all = if crate::sys::has_aes() {
            WITH_AES
        } else {
            WITHOUT_AES
        };
        let only = self.cipher;
        all.into_iter()
            .filter(move |kind| only.is_none_or(|only| only == *kind))
    }

    /// The types of the pinned keys, each once.
    fn host_keys(&self) -> impl Iterator<Item = &'static str> {
        self.pinned
            .iter()
            .enumerate()
            .filter_map(|(position, key)| {
                let name = key.algorithm();
                let before = self.pinned.get(..position).unwrap_or_default();
                (!before.iter().any(|other| other.algorithm() == name)).then_some(name)
            })
    }

    /// The message with this offer.
    pub(crate) fn write(&self, cookie: &[u8; 16], writer: &mut Writer<'_>) {
        writer.u8(message::KEXINIT);
        writer.bytes(cookie);
        let agreements = AGREEMENTS.iter().map(|(name, _)| *name);
        write_names(writer, agreements.chain([STRICT_CLIENT]));
        write_names(writer, self.host_keys());
        for _ in 0..2 {
            write_names(writer, self.ciphers().map(CipherKind::name));
        }
        for _ in 0..2 {
            // Every cipher above brings its own; some servers want to see a name all the same.
            write_names(
                writer,
                ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-256"].into_iter(),
            );
        }
        for _ in 0..2 {
            write_names(writer, ["none"].into_iter());
        }
        for _ in 0..2 {
            write_names(writer, core::iter::empty());
        }
        writer.bool(false);
        writer.u32(0);
    }

    /// What comes of it with the server's message.
    pub(crate) fn agree(&self, init: &[u8]) -> Result<Agreed, SshError> {
        let mut reader = Reader(init);
        let lists = (|| {
            (reader.u8()? == message::KEXINIT).then_some(())?;
            reader.bytes(16)?;
            let mut lists = [&[][..]; 10];
            for list in &mut lists {
                *list = reader.string()?;
            }
            Some((lists, reader.bool()?))
        })();
        let Some((lists, follows)) = lists else {
            return Err(SshError::Protocol("its offer ends too early"));
        };
        let [
            kex,
            host_key,
            to_server,
            to_client,
            _,
            _,
            pack_to_server,
            pack_to_client,
            ..,
        ] = lists;
        let has = |list: &[u8], name: &str| names(list).any(|other| other == name.as_bytes());
        let none = |what, list: &[u8]| SshError::NoCommon(what, Text::new(list));
        let (name, agreement) = AGREEMENTS
            .into_iter()
            .find(|(name, _)| has(kex, name))
            .ok_or_else(|| none("way to exchange keys", kex))?;
        let key = self
            .host_keys()
            .find(|name| has(host_key, name))
            .ok_or_else(|| none("type of host key", host_key))?;
        let cipher = |list: &[u8]| {
            self.ciphers()
                .find(|kind| has(list, kind.name()))
                .ok_or_else(|| none("cipher", list))
        };
        for list in [pack_to_server, pack_to_client] {
            if !has(list, "none") {
                return Err(none("compression", list));
            }
        }
        let guessed = names(kex).next() == Some(name.as_bytes())
            && names(host_key).next() == Some(key.as_bytes());
        Ok(Agreed {
            agreement,
            host_key: key,
            to_server: cipher(to_server)?,
            to_client: cipher(to_client)?,
            is_strict: names(kex).any(|name| name == STRICT_SERVER),
            skips_one: follows && !guessed,
        })
    }
}

fn write_names<'n>(writer: &mut Writer<'_>, list: impl Iterator<Item = &'n str>) {
    writer.string_of(|writer| {
        for (position, name) in list.enumerate() {
            if position > 0 {
                writer.u8(b',');
            }
            writer.bytes(name.as_bytes());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINNED: [PublicKey; 3] = [
        PublicKey::Ed25519([1; 32]),
        PublicKey::P256([4; 65]),
        PublicKey::Ed25519([2; 32]),
    ];

    fn offer() -> Offer<'static> {
        Offer {
            pinned: &PINNED,
            cipher: None,
        }
    }

    fn server(lists: [&str; 10], follows: bool) -> Vec<u8> {
        let mut buf = [0; 1024];
        let mut writer = Writer::new(&mut buf);
        writer.u8(message::KEXINIT);
        writer.bytes(&[9; 16]);
        for list in lists {
            writer.string(list.as_bytes());
        }
        writer.bool(follows);
        writer.u32(0);
        writer.done().unwrap().to_vec()
    }

    /// What OpenSSH 7.4 offers, where it matters.
    const OLD: [&str; 10] = [
        "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256",
        "ssh-rsa,rsa-sha2-512,ecdsa-sha2-nistp256,ssh-ed25519",
        "chacha20-poly1305@openssh.com,aes128-ctr,aes256-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
        "umac-64@openssh.com",
        "umac-64@openssh.com",
        "none,zlib@openssh.com",
        "none,zlib@openssh.com",
        "",
        "",
    ];

    #[test]
    fn our_order_decides() {
        let agreed = offer().agree(&server(OLD, true)).unwrap();
        assert_eq!(agreed.agreement, Agreement::X25519);
        assert_eq!(agreed.host_key, "ssh-ed25519");
        let expected = if crate::sys::has_aes() {
            CipherKind::Aes256Gcm
        } else {
            CipherKind::ChaCha20Poly1305
        };
        assert_eq!(agreed.to_server, expected);
        assert_eq!(agreed.to_client, CipherKind::ChaCha20Poly1305);
        assert!(!agreed.is_strict);
        assert!(agreed.skips_one, "it guessed ssh-rsa");
    }

    #[test]
    fn what_is_not_in_common_is_named_with_the_offer() {
        for (position, what) in [
            (0, "way to exchange keys"),
            (1, "type of host key"),
            (2, "cipher"),
            (3, "cipher"),
            (6, "compression"),
        ] {
            let mut lists = OLD;
            lists[position] = "other";
            assert_eq!(
                offer().agree(&server(lists, false)),
                Err(SshError::NoCommon(what, Text::new(b"other")))
            );
        }
    }

    #[test]
    fn our_own_message_fits_and_is_understood() {
        let mut buf = [0; INIT_BYTES];
        let mut writer = Writer::new(&mut buf);
        offer().write(&[7; 16], &mut writer);
        let message = writer.done().unwrap().to_vec();
        assert!(offer().agree(&message).is_ok());
        for length in 0..message.len() - 5 {
            assert!(offer().agree(&message[..length]).is_err(), "{length}");
        }
        for position in 0..message.len() {
            let mut changed = message.clone();
            changed[position] ^= 0x81;
            let _ = offer().agree(&changed);
        }
    }
}
