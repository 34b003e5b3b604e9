// SPDX-License-Identifier: MIT OR Apache-2.0
//! Public keys of servers and users, and their signatures.
//!
//! Source: RFC 8709 (Ed25519), RFC 5656 (ECDSA).

use super::base64;
use super::wire::{Reader, Writer};
use crate::text::Text;
use core::fmt;
use ed25519_dalek::{Signature as Ed25519Signature, VerifyingKey as Ed25519Key};
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature as P256Signature, VerifyingKey as P256Key};
use sha2::{Digest as _, Sha256};

/// The name of Ed25519 keys.
pub const ED25519: &str = "ssh-ed25519";
/// The name of ECDSA keys on NIST P-256.
pub const ECDSA_P256: &str = "ecdsa-sha2-nistp256";
/// The longest encoded key that can be used.
const BLOB_BYTES: usize = 128;

/// A public key that this client can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// Ed25519.
    Ed25519([u8; 32]),
    /// A point on NIST P-256, uncompressed.
    P256([u8; 65]),
}

/// Why a public key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKeyError {
    /// It is of this type.
    Type(Text<40>),
    /// It is no key.
    Damaged,
}

impl fmt::Display for PublicKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(name) => write!(f, "{name} keys cannot be used"),
            Self::Damaged => f.write_str("damaged"),
        }
    }
}

impl PublicKey {
    /// Reads the encoded key.
    ///
    /// # Errors
    /// [`PublicKeyError`].
    pub fn from_blob(blob: &[u8]) -> Result<Self, PublicKeyError> {
        let mut reader = Reader(blob);
        let name = reader.string().ok_or(PublicKeyError::Damaged)?;
        let key = if name == ED25519.as_bytes() {
            reader
                .string()
                .and_then(|key| key.try_into().ok())
                .map(Self::Ed25519)
        } else if name == ECDSA_P256.as_bytes() {
            reader
                .string()
                .filter(|curve| *curve == b"nistp256")
                .and_then(|_| reader.string())
                .and_then(|point| point.try_into().ok())
                .map(Self::P256)
        } else {
            return Err(PublicKeyError::Type(Text::new(name)));
        };
        key.filter(|_| reader.is_empty())
            .ok_or(PublicKeyError::Damaged)
    }

    /// Reads a key as lines of text have it: its type, a blank, base64; a comment may follow.
    ///
    /// # Errors
    /// [`PublicKeyError`].
    pub fn from_text(text: &str) -> Result<Self, PublicKeyError> {
        let mut words = text.split_ascii_whitespace();
        let name = words.next().unwrap_or_default();
        let encoded = words.next().ok_or(PublicKeyError::Damaged)?;
        if !matches!(name, ED25519 | ECDSA_P256) {
            return Err(PublicKeyError::Type(Text::new(name.as_bytes())));
        }
        let mut buf = [0; BLOB_BYTES];
        let key = base64::decode(encoded.as_bytes(), &mut buf)
            .ok_or(PublicKeyError::Damaged)
            .and_then(Self::from_blob)?;
        if key.algorithm() == name {
            Ok(key)
        } else {
            Err(PublicKeyError::Damaged)
        }
    }

    /// The name of its type, which is the name of its signatures too.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => ED25519,
            Self::P256(_) => ECDSA_P256,
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.string(self.algorithm().as_bytes());
        match self {
            Self::Ed25519(key) => writer.string(key),
            Self::P256(point) => {
                writer.string(b"nistp256");
                writer.string(point);
            }
        }
    }

    fn blob<'b>(&self, buf: &'b mut [u8; BLOB_BYTES]) -> &'b [u8] {
        let mut writer = Writer::new(buf);
        self.write(&mut writer);
        // Both kinds are shorter than the buffer.
        writer.done().unwrap_or_default()
    }

    /// `signature`, as SSH encodes it, is one of `message` by this key.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let mut reader = Reader(signature);
        if reader.string() != Some(self.algorithm().as_bytes()) {
            return false;
        }
        let Some(signature) = reader.string().filter(|_| reader.is_empty()) else {
            return false;
        };
        match self {
            Self::Ed25519(key) => {
                let (Ok(key), Ok(signature)) = (
                    Ed25519Key::from_bytes(key),
                    Ed25519Signature::from_slice(signature),
                ) else {
                    return false;
                };
                key.verify_strict(message, &signature).is_ok()
            }
            Self::P256(point) => {
                let mut numbers = Reader(signature);
                let (Some(r), Some(s)) = (scalar(&mut numbers), scalar(&mut numbers)) else {
                    return false;
                };
                let (Ok(key), Ok(signature)) = (
                    P256Key::from_sec1_bytes(point),
                    P256Signature::from_scalars(r, s),
                ) else {
                    return false;
                };
                numbers.is_empty() && key.verify(message, &signature).is_ok()
            }
        }
    }
}

/// A number of at most 32 bytes, as 32 bytes.
pub(crate) fn scalar(reader: &mut Reader<'_>) -> Option<[u8; 32]> {
    let number = reader.string()?;
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    let number = number.get(zeros..)?;
    let mut bytes = [0; 32];
    let start = bytes.len().checked_sub(number.len())?;
    bytes.get_mut(start..)?.copy_from_slice(number);
    Some(bytes)
}

/// A key's fingerprint, as `ssh-keygen -l` prints it: `SHA256:` and base64.
pub(crate) fn fingerprint(blob: &[u8]) -> Text<50> {
    let mut text = Text::new(b"SHA256:");
    base64::encode(&Sha256::digest(blob), &mut |letter| text.push(&[letter]));
    text
}

impl fmt::Display for PublicKey {
    /// As a line of text has it: `ssh-ed25519 AAAA…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        write!(f, "{} ", self.algorithm())?;
        let mut buf = [0; BLOB_BYTES];
        let mut result = Ok(());
        let blob = self.blob(&mut buf);
        base64::encode(blob, &mut |letter| {
            result = result.and_then(|()| f.write_char(char::from(letter)));
        });
        result?;
        for _ in 0..(3_usize.wrapping_sub(blob.len() % 3)) % 3 {
            f.write_char('=')?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with ssh-keygen of OpenSSH 9.2.
    const SAMPLES: [&str; 2] = [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHztdnIbid4S1T302QWJmVenm9d5PHKzJyhMG+m7wot0",
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHoOab9rQMyW7Jvdil05mhtEEX1DqkVzI8RBXpxwiQ7/2lraCDjVohp/tYOFS+NsIx2ehD7CKIhlD1omPwoLAqA=",
    ];

    #[test]
    fn keys_read_and_print_as_they_were() {
        for sample in SAMPLES {
            let key = PublicKey::from_text(&format!("{sample} a comment")).unwrap();
            assert_eq!(key.to_string(), sample);
        }
    }

    #[test]
    fn no_change_of_a_line_is_the_same_key() {
        for sample in SAMPLES {
            let key = PublicKey::from_text(sample).unwrap();
            for length in 0..sample.trim_end_matches('=').len() {
                assert!(PublicKey::from_text(&sample[..length]).is_err(), "{length}");
            }
            for position in 0..sample.len() {
                let mut bytes = sample.as_bytes().to_vec();
                bytes[position] ^= 1;
                if let Ok(text) = str::from_utf8(&bytes)
                    && let Ok(other) = PublicKey::from_text(text)
                {
                    assert_ne!(other, key, "{text}");
                }
            }
        }
    }

    #[test]
    fn other_types_are_named() {
        assert_eq!(
            PublicKey::from_text("ssh-rsa AAAAB3NzaC1yc2E="),
            Err(PublicKeyError::Type(Text::new(b"ssh-rsa")))
        );
    }
}
