// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two halves of a key: who a file is for, and who can read it.

use crate::bech32::{self, Wrong};
use core::fmt;
use core::str::FromStr;
use curve25519_dalek::montgomery::MontgomeryPoint;

const RECIPIENT: &str = "age";
const IDENTITY: &str = "age-secret-key-";

/// Whom a file is for: the half of a key that anybody may know, `age1…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient(pub(crate) [u8; 32]);

/// Who can read a file: the half that nobody else may know, `AGE-SECRET-KEY-1…`.
#[derive(Clone)]
pub struct Identity(pub(crate) [u8; 32]);

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// It is the secret half, where the public one is wanted.
    Secret,
    /// It is the public half, where the secret one is wanted.
    Public,
    /// It does not begin as a key does.
    Begin,
    /// It has small and capital letters.
    Mixed,
    /// It has this many letters behind `1`, where a key has 58.
    Length(usize),
    /// This letter is in no key.
    Letter(char),
    /// It was mistyped or cut: its checksum is another.
    Sum,
    /// No file can be encrypted to it: the point has a small order.
    Weak,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret => f.write_str("it is a secret key, which belongs into no configuration"),
            Self::Public => f.write_str("it is a public key, which opens nothing"),
            Self::Begin => f.write_str("it does not begin as a key of age does"),
            Self::Mixed => f.write_str("it has small and capital letters"),
            Self::Length(length) => {
                write!(
                    f,
                    "it has {length} letters behind the first `1`, a key has 58"
                )
            }
            Self::Letter(letter) => write!(f, "it has the letter {letter:?}, which is in no key"),
            Self::Sum => f.write_str("its checksum is wrong: a letter was mistyped"),
            Self::Weak => f.write_str("it is a point of small order, which protects nothing"),
        }
    }
}

impl core::error::Error for KeyError {}

impl KeyError {
    /// `other` is the other half's word, with its error.
    fn from_wrong(wrong: Wrong, text: &str, other: &str, is_other: Self) -> Self {
        match wrong {
            Wrong::Word if bech32::decode(other, text).is_ok() => is_other,
            Wrong::Word => Self::Begin,
            Wrong::Mixed => Self::Mixed,
            Wrong::Length(length, _) => Self::Length(length),
            Wrong::Letter(letter) => Self::Letter(letter),
            Wrong::Sum => Self::Sum,
        }
    }
}

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = bech32::decode(RECIPIENT, text)
            .map_err(|wrong| KeyError::from_wrong(wrong, text, IDENTITY, KeyError::Secret))?;
        // Small letters are how a recipient is written; nobody has the others but by mistake.
        if text.starts_with('A') {
            return Err(KeyError::Begin);
        }
        // With any secret such a point gives zero.
        if MontgomeryPoint(bytes).mul_clamped([0x55; 32]).to_bytes() == [0; 32] {
            return Err(KeyError::Weak);
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = bech32::encode(RECIPIENT, &self.0);
        write!(f, "{RECIPIENT}1{}", str::from_utf8(&letters).unwrap_or(""))
    }
}

impl FromStr for Identity {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        bech32::decode(IDENTITY, text)
            .map(Self)
            .map_err(|wrong| KeyError::from_wrong(wrong, text, RECIPIENT, KeyError::Public))
    }
}

impl Identity {
    /// The one of these bytes, which nobody else may know or guess.
    #[must_use]
    pub const fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As a key file has it. A word of its own, so that no message has it by mistake.
    #[must_use]
    pub fn reveal(&self) -> impl fmt::Display {
        Revealed(bech32::encode(IDENTITY, &self.0))
    }

    /// Whom files are for that it can read.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient(MontgomeryPoint::mul_base_clamped(self.0).to_bytes())
    }
}

/// The letters behind `AGE-SECRET-KEY-1`.
struct Revealed<const N: usize>([u8; N]);

impl<const N: usize> fmt::Display for Revealed<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = str::from_utf8(&self.0).unwrap_or("");
        for letter in IDENTITY.chars().chain(['1']).chain(letters.chars()) {
            write!(f, "{}", letter.to_ascii_uppercase())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str =
        "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0";
    /// What `age-keygen -y` of age 1.1.1 prints for it.
    const PUBLIC: &str = "age1xmwwc06ly3ee5rytxm9mflaz2u56jjj36s0mypdrwsvlul66mv4q47ryef";

    #[test]
    fn the_public_half_follows_from_the_secret_one() {
        let identity: Identity = SECRET.parse().unwrap();
        assert_eq!(identity.recipient().to_string(), PUBLIC);
        assert_eq!(PUBLIC.parse(), Ok(identity.recipient()));
        assert!(SECRET.to_lowercase().parse::<Identity>().is_ok());
        assert_eq!(identity.reveal().to_string(), SECRET);
        assert_eq!(
            Identity::from_random([7; 32])
                .reveal()
                .to_string()
                .parse::<Identity>()
                .unwrap()
                .0,
            [7; 32]
        );
    }

    #[test]
    fn what_is_no_recipient_is_told_apart() {
        let said = |text: &str| text.parse::<Recipient>().unwrap_err();
        assert_eq!(said(SECRET), KeyError::Secret);
        assert_eq!(said(""), KeyError::Begin);
        assert_eq!(said("ssh-ed25519"), KeyError::Begin);
        assert_eq!(said(&PUBLIC.to_uppercase()), KeyError::Begin);
        assert_eq!(said(&PUBLIC.replace('x', "X")), KeyError::Mixed);
        assert_eq!(said(&PUBLIC[..61]), KeyError::Length(57));
        assert_eq!(said(&PUBLIC.replace('w', "b")), KeyError::Letter('b'));
        assert_eq!(PUBLIC.parse::<Identity>().err(), Some(KeyError::Public));
        let zero = Recipient([0; 32]).to_string();
        assert_eq!(said(&zero), KeyError::Weak);
    }

    #[test]
    fn every_mistyped_letter_and_every_truncation_is_noticed() {
        for position in 0..PUBLIC.len() {
            assert!(PUBLIC[..position].parse::<Recipient>().is_err());
            for letter in ('a'..='z').chain('0'..='9') {
                let mut text = PUBLIC.to_owned();
                text.replace_range(position..=position, &letter.to_string());
                assert_eq!(text.parse::<Recipient>().is_ok(), text == PUBLIC, "{text}");
            }
        }
        assert!("age1é".parse::<Recipient>().is_err());
        assert!("ag€1".parse::<Recipient>().is_err());
    }
}
