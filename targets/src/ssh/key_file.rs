// SPDX-License-Identifier: MIT OR Apache-2.0
//! Private keys in OpenSSH's own file format.
//!
//! Source: OpenSSH 9.2 `PROTOCOL.key`.

use super::base64;
use super::public_key::{ECDSA_P256, ED25519, PublicKey, scalar};
use super::wire::{Reader, Writer};
use crate::text::Text;
use core::fmt;
use ed25519_dalek::{Signer as _, SigningKey as Ed25519Key};
use p256::ecdsa::{Signature as P256Signature, SigningKey as P256Key};

const BEGIN: &[u8] = b"-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &[u8] = b"-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";
/// More than the files of all types that can be used; of the others only the front is looked at.
const DECODED_BYTES: usize = 1024;

/// A private key, ready to sign.
#[derive(Clone)]
pub struct UserKey(Inner);

#[derive(Clone)]
enum Inner {
    Ed25519(Ed25519Key),
    P256(P256Key),
}

/// Why a key file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFileError {
    /// It is no key file at all.
    NotAKey,
    /// It is the public half.
    Public,
    /// It is a key in another format, whose first line names this.
    Format(Text<40>),
    /// It needs a passphrase, which nobody could type.
    Encrypted,
    /// It is a key of this type.
    Type(Text<40>),
    /// It is cut short or was changed.
    Damaged,
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAKey => f.write_str("no private key is in it"),
            Self::Public => {
                f.write_str("it holds the public half of a key, and the private one is needed")
            }
            Self::Format(name) => write!(f, "its format is {name}, and only OpenSSH's own is read"),
            Self::Encrypted => f.write_str(
                "the key has a passphrase, and nobody can type it in the capture kernel",
            ),
            Self::Type(name) => write!(
                f,
                "it is a {name} key, and only {ED25519} and {ECDSA_P256} can be used"
            ),
            Self::Damaged => f.write_str("the key is damaged"),
        }
    }
}

impl core::error::Error for KeyFileError {}

impl UserKey {
    /// Reads the text of a key file.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn parse(file: &[u8]) -> Result<Self, KeyFileError> {
        let Some(start) = find(file, b"-----BEGIN ") else {
            let is_public = [&b"ssh-"[..], b"ecdsa-", b"sk-"]
                .iter()
                .any(|prefix| file.trim_ascii_start().starts_with(prefix));
            return Err(if is_public {
                KeyFileError::Public
            } else {
                KeyFileError::NotAKey
            });
        };
        let file = file.get(start..).unwrap_or_default();
        let Some(body) = file.strip_prefix(BEGIN) else {
            let line = file.split(|&byte| byte == b'\n').next().unwrap_or_default();
            let name = line.get(11..).unwrap_or_default().trim_ascii_end();
            let name = name.strip_suffix(b"-----").unwrap_or(name);
            return Err(KeyFileError::Format(Text::new(name)));
        };
        let end = find(body, END).ok_or(KeyFileError::Damaged)?;
        let mut buf = [0; DECODED_BYTES];
        let decoded = base64::decode(body.get(..end).unwrap_or_default(), &mut buf);
        let result = decoded.ok_or(KeyFileError::Damaged).and_then(parse_blob);
        clear(&mut buf);
        result
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        match &self.0 {
            Inner::Ed25519(key) => PublicKey::Ed25519(key.verifying_key().to_bytes()),
            Inner::P256(key) => {
                let mut bytes = [0; 65];
                let point = key.verifying_key().to_sec1_point(false);
                if point.as_bytes().len() == bytes.len() {
                    bytes.copy_from_slice(point.as_bytes());
                }
                PublicKey::P256(bytes)
            }
        }
    }

    /// Writes the signature of `message`, as SSH encodes it.
    pub(crate) fn sign(&self, message: &[u8], writer: &mut Writer<'_>) {
        match &self.0 {
            Inner::Ed25519(key) => {
                writer.string(ED25519.as_bytes());
                writer.string(&key.sign(message).to_bytes());
            }
            Inner::P256(key) => {
                writer.string(ECDSA_P256.as_bytes());
                let signature: P256Signature = key.sign(message);
                writer.string_of(|writer| {
                    let (r, s) = signature.split_bytes();
                    writer.mpint(&r);
                    writer.mpint(&s);
                });
            }
        }
    }
}

/// What is behind the lines of text.
fn parse_blob(blob: &[u8]) -> Result<UserKey, KeyFileError> {
    let mut reader = Reader(blob.strip_prefix(MAGIC).ok_or(KeyFileError::Damaged)?);
    let front = |reader: &mut Reader<'_>| -> Option<(bool, u32, Text<40>)> {
        let cipher = reader.string()?;
        let function = reader.string()?;
        reader.string()?;
        let count = reader.u32()?;
        // A long public key may lie behind what was decoded; its name is in front.
        let mut public = *reader;
        public.u32()?;
        let name = public.string()?;
        let encrypted = cipher != b"none" || function != b"none";
        Some((encrypted, count, Text::new(name)))
    };
    let (encrypted, count, name) = front(&mut reader).ok_or(KeyFileError::Damaged)?;
    if name != *ED25519 && name != *ECDSA_P256 {
        return Err(KeyFileError::Type(name));
    }
    if encrypted {
        return Err(KeyFileError::Encrypted);
    }
    let key = private(&mut reader).filter(|_| count == 1);
    key.ok_or(KeyFileError::Damaged)
}

fn private(reader: &mut Reader<'_>) -> Option<UserKey> {
    let public = PublicKey::from_blob(reader.string()?).ok()?;
    let mut section = Reader(reader.string()?);
    if section.u32()? != section.u32()? || section.string()? != public.algorithm().as_bytes() {
        return None;
    }
    let key = match public {
        PublicKey::Ed25519(_) => {
            section.string()?;
            // The seed, and the public half once more.
            let (seed, _) = section.string()?.split_first_chunk::<32>()?;
            Inner::Ed25519(Ed25519Key::from_bytes(seed))
        }
        PublicKey::P256(_) => {
            section.string()?;
            section.string()?;
            Inner::P256(P256Key::from_slice(&scalar(&mut section)?).ok()?)
        }
    };
    // The comment, and then 1, 2, 3, …
    section.string()?;
    let padding_is_right = section
        .0
        .iter()
        .zip(1_u8..)
        .all(|(&byte, number)| byte == number);
    let key = UserKey(key);
    (padding_is_right && key.public() == public).then_some(key)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// Overwrites what was secret, in a way that the compiler keeps.
fn clear(buf: &mut [u8]) {
    buf.fill(0);
    core::hint::black_box(buf);
}

#[cfg(test)]
mod tests {
    use super::*;

    // All made with ssh-keygen of OpenSSH 9.2 for this test.
    const ED25519_FILE: &str = include_str!("../../tests/golden/ed25519_key");
    const ED25519_PUBLIC: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA4FjsIbktYidWTdI7AdkOEroD/fojHolkiX0MBID22w";
    const P256_FILE: &str = "\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAaAAAABNlY2RzYS
1zaGEyLW5pc3RwMjU2AAAACG5pc3RwMjU2AAAAQQSmpmyIf7BpabGmD+Z89a46xqKJk/JL
4MXSBDIl+ZgUoITbb8p0YYOWsMh9a8Wanj96biG/3RpO9jhOx1uozThZAAAAoF+dCj1fnQ
o9AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBKambIh/sGlpsaYP
5nz1rjrGoomT8kvgxdIEMiX5mBSghNtvynRhg5awyH1rxZqeP3puIb/dGk72OE7HW6jNOF
kAAAAgKZOkdbNti196941VY8ij0gmJnUVznLgr1RdudbldSxEAAAAGc2FtcGxlAQI=
-----END OPENSSH PRIVATE KEY-----
";
    const P256_PUBLIC: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBKambIh/sGlpsaYP5nz1rjrGoomT8kvgxdIEMiX5mBSghNtvynRhg5awyH1rxZqeP3puIb/dGk72OE7HW6jNOFk=";
    const LOCKED_FILE: &str = "\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABCYLpYa0L
iz3T6mID8EGkOJAAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIDokVR8XZjUapTq8
jo3bi6Fer5KfYThkwBvOjCRSvmoOAAAAkC4zdONbkwkwkmeJXj2xYaTXj/nDykFZFt3v2T
+CCPvtNf/qgPTbE20c3pM23lF0tB6+QaZ9QcVIVwPiR3BlTvOJb2AY1AXaFPxxqWDZGKKX
HZYL0fBWoTjbOetudBFatlJpf8NfMnAk0XmT7FAK1Di+3I9rE3Ut5wrzz3MjhOVKumEfJv
31wA2mzqYaazgyvQ==
-----END OPENSSH PRIVATE KEY-----
";
    const RSA_FILE: &str = "\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAlwAAAAdzc2gtcn
NhAAAAAwEAAQAAAIEAzuAoWQ5tB0yQVguhk0Ajah8+Hv/8SvZgbDUjxRh65m4FcPsvJMRH
jQ7cASMT8hN7pwTL3hZnusOMhg2hxFNbLPA4eeKGDbxuYpwPrccCg6x1CeoHgQmST/rrs6
lG8GQD7kfBAvNdihR9Q8CryvaxFTJt8uRSMaksVgM3zpEtv4MAAAIAEa8LTxGvC08AAAAH
c3NoLXJzYQAAAIEAzuAoWQ5tB0yQVguhk0Ajah8+Hv/8SvZgbDUjxRh65m4FcPsvJMRHjQ
7cASMT8hN7pwTL3hZnusOMhg2hxFNbLPA4eeKGDbxuYpwPrccCg6x1CeoHgQmST/rrs6lG
8GQD7kfBAvNdihR9Q8CryvaxFTJt8uRSMaksVgM3zpEtv4MAAAADAQABAAAAgBLSrHkl6d
+vJLbfig0G2fIO860IZ6E+d5mA4EdPqecLfa1A/ZIf1c7M2lG0Kl1tTmPs+Mu1SCzjHAca
eGyPlQ0AyL+rVS7QGErmzfcTImLcGrvgGDkUxNMDqUIPRN6jOZTJubI6ZePKtl+UMFnCf5
JPBCqmIP96yoBgo6kL+aPBAAAAQELaAfM92St1cVmUcFVXzEksuVaoAut8JcU4vU8IpbZv
ehRlR2skhQneTiZtfeqavN4vGXKuRV8jH4+oo05JfwAAAABBAO+ratgbXlphbp5sU7jPPV
/7AFz/LWBK7QgP4+eNG7qQXQwK9b7lxtDYO9YPxo3qkxEE/f064dzGyyIBqAp7x6EAAABB
ANz4thVT4dvBsclPeA9s7oafj2sczCuJbKFc9hJlpW7tMQLDZ75FyE3l7kMjFObDz9qjfI
2jHPoIlrkGroxrJKMAAAAGc2FtcGxlAQIDBAU=
-----END OPENSSH PRIVATE KEY-----
";

    #[test]
    fn keys_of_ssh_keygen_sign_what_their_public_half_confirms() {
        for (file, public) in [(ED25519_FILE, ED25519_PUBLIC), (P256_FILE, P256_PUBLIC)] {
            let key = UserKey::parse(file.as_bytes()).unwrap();
            assert_eq!(key.public().to_string(), public);
            let mut buf = [0; 256];
            let mut writer = Writer::new(&mut buf);
            key.sign(b"message", &mut writer);
            let signature = writer.done().unwrap().to_vec();
            let public = PublicKey::from_text(public).unwrap();
            assert!(public.has_signed(b"message", &signature));
            assert!(!public.has_signed(b"massage", &signature));
            for position in 0..signature.len() {
                let mut changed = signature.clone();
                changed[position] ^= 4;
                assert!(!public.has_signed(b"message", &changed), "{position}");
                assert!(!public.has_signed(b"message", &signature[..position]));
            }
        }
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let error = |text: &str| UserKey::parse(text.as_bytes()).err().unwrap();
        assert_eq!(error(LOCKED_FILE), KeyFileError::Encrypted);
        assert_eq!(error(RSA_FILE), KeyFileError::Type(Text::new(b"ssh-rsa")));
        assert_eq!(error("ssh-ed25519 AAAA me"), KeyFileError::Public);
        assert_eq!(error("hello"), KeyFileError::NotAKey);
        assert_eq!(error(""), KeyFileError::NotAKey);
        assert_eq!(
            error("-----BEGIN RSA PRIVATE KEY-----\nMII\n").to_string(),
            "its format is RSA PRIVATE KEY, and only OpenSSH's own is read"
        );
    }

    #[test]
    fn no_damaged_file_is_the_same_key() {
        for (file, public) in [(ED25519_FILE, ED25519_PUBLIC), (P256_FILE, P256_PUBLIC)] {
            for length in 0..file.len() - 2 {
                assert!(
                    UserKey::parse(&file.as_bytes()[..length]).is_err(),
                    "{length}"
                );
            }
            let mut bytes = file.as_bytes().to_vec();
            for position in 0..bytes.len() {
                let bit = 1 << (position % 7);
                bytes[position] ^= bit;
                // The comment and the check number may change; never the key.
                if let Ok(key) = UserKey::parse(&bytes) {
                    assert_eq!(key.public().to_string(), public);
                }
                bytes[position] ^= bit;
            }
        }
    }
}
