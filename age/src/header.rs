// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file's header, read strictly: whoever wrote it may be anybody.

use crate::SIGNATURE;
use crate::base64::{decode, decode_32};
use crate::chunks::{Chunks, NONCE_BYTES};
use crate::derive::{derive, mac, same};
use crate::key::Identity;
use crate::writing::{MARK, PURPOSE, X25519};
use core::fmt;
use curve25519_dalek::montgomery::MontgomeryPoint;
use packet_cipher::chunk;

/// No header that is read is longer than this; ours have a tenth of it.
pub const MAX_HEADER_BYTES: usize = 64 << 10;
/// The letters of a full line of a stanza's body.
const LINE_LETTERS: usize = 64;
/// The letters of 32 bytes.
const KEY_LETTERS: usize = 43;

/// The header of a file, with the nonce behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'b> {
    /// The stanzas, each as its lines.
    stanzas: &'b [u8],
    /// Everything that the checksum is over.
    summed: &'b [u8],
    sum: [u8; 32],
    nonce: [u8; NONCE_BYTES],
    bytes: usize,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// They begin with something else than a version of the format.
    NotAge,
    /// They are a file as text, which `age -a` writes.
    Armoured,
    /// They are of another version.
    Version,
    /// They end before the header does.
    Cut,
    /// This line, counted from 1, is not what stands in a header: why.
    Line(u32, &'static str),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAge => {
                f.write_str("not an encrypted file: it does not begin with `age-encryption.org/v1`")
            }
            Self::Armoured => f.write_str("an encrypted file as text; `age -d` reads it"),
            Self::Version => {
                f.write_str("an encrypted file of another version than age-encryption.org/v1")
            }
            Self::Cut => f.write_str("its header is cut short, and nobody can read the rest"),
            Self::Line(line, why) => write!(f, "its header is damaged, line {line}: {why}"),
        }
    }
}

impl core::error::Error for HeaderError {}

/// Why a header cannot be unlocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnlockError {
    /// The file is for other keys.
    NoMatch,
    /// A stanza for the right kind of key cannot be one: why.
    Stanza(&'static str),
    /// The key opens it, but the header is not what was written.
    Sum,
}

impl fmt::Display for UnlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMatch => f.write_str("it is encrypted to another key than this one"),
            Self::Stanza(why) => write!(f, "its header is damaged: {why}"),
            Self::Sum => f.write_str("its header is not what was written: the checksum is wrong"),
        }
    }
}

impl core::error::Error for UnlockError {}

impl<'b> Header<'b> {
    /// Reads the header at the front of `file`, of which [`MAX_HEADER_BYTES`] are enough.
    ///
    /// # Errors
    /// See [`HeaderError`]; [`HeaderError::Cut`] also where `file` has the front of a header only.
    pub fn parse(file: &'b [u8]) -> Result<Self, HeaderError> {
        let body = match file.strip_prefix(SIGNATURE) {
            Some(body) => body,
            None => return Err(no_header(file)),
        };
        let mut rest = body;
        let mut number = 1_u32;
        loop {
            number = number.saturating_add(1);
            let (line, behind) = split_line(rest, number)?;
            let Some(words) = line.strip_prefix(b"-> ") else {
                let before = file.len().saturating_sub(rest.len());
                return Self::end(file, body, before, line, behind, number);
            };
            if words
                .split(|&byte| byte == b' ')
                .any(|word| word.is_empty() || !word.iter().all(u8::is_ascii_graphic))
            {
                return Err(HeaderError::Line(
                    number,
                    "a stanza with an empty or odd word",
                ));
            }
            rest = behind;
            loop {
                number = number.saturating_add(1);
                let (line, behind) = split_line(rest, number)?;
                if line.len() > LINE_LETTERS || decode(line, &mut [0; 48]).is_none() {
                    return Err(HeaderError::Line(number, "not a stanza's base64"));
                }
                rest = behind;
                if line.len() < LINE_LETTERS {
                    break;
                }
            }
        }
    }

    /// The last line, and the nonce behind it.
    fn end(
        file: &'b [u8],
        body: &'b [u8],
        before: usize,
        line: &[u8],
        behind: &[u8],
        number: u32,
    ) -> Result<Self, HeaderError> {
        let wrong = HeaderError::Line(number, "neither a stanza nor a checksum");
        let sum = line
            .strip_prefix(MARK)
            .and_then(|rest| rest.strip_prefix(b" "))
            .filter(|letters| letters.len() == KEY_LETTERS)
            .and_then(decode_32)
            .ok_or(wrong)?;
        let nonce = behind
            .first_chunk::<NONCE_BYTES>()
            .ok_or(HeaderError::Cut)?;
        let signature = file.len().saturating_sub(body.len());
        let stanzas = file.get(signature..before).ok_or(wrong)?;
        if stanzas.is_empty() {
            return Err(HeaderError::Line(
                number,
                "a checksum without a stanza before it",
            ));
        }
        let header = Self {
            stanzas,
            summed: file.get(..before.saturating_add(MARK.len())).ok_or(wrong)?,
            sum,
            nonce: *nonce,
            bytes: file
                .len()
                .saturating_sub(behind.len())
                .saturating_add(NONCE_BYTES),
        };
        let passwords = header
            .stanzas()
            .filter(|(words, _)| words.first_word() == b"scrypt");
        if passwords.count() > 0 && header.stanzas().count() > 1 {
            return Err(HeaderError::Line(number, "a password beside other keys"));
        }
        Ok(header)
    }

    /// How many bytes stand before the first chunk.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The words and the body's lines of each stanza.
    fn stanzas(&self) -> impl Iterator<Item = (Words<'b>, &'b [u8])> + use<'b> {
        let mut rest = self.stanzas;
        core::iter::from_fn(move || {
            let (line, behind) = split_line(rest, 0).ok()?;
            let words = Words(line.strip_prefix(b"-> ")?);
            rest = behind;
            loop {
                let (line, after) = split_line(rest, 0).ok()?;
                rest = after;
                if line.len() < LINE_LETTERS {
                    break;
                }
            }
            let length = behind.len().saturating_sub(rest.len());
            Some((words, behind.get(..length.saturating_sub(1))?))
        })
    }

    /// Finds the file's key by one of `identities`, and checks the header by it.
    ///
    /// # Errors
    /// See [`UnlockError`].
    pub fn unlock(&self, identities: &[Identity]) -> Result<Chunks, UnlockError> {
        let mut found = None;
        for (words, body) in self.stanzas() {
            if words.first_word() != X25519 {
                continue;
            }
            let share =
                words
                    .second_word_alone()
                    .and_then(decode_32)
                    .ok_or(UnlockError::Stanza(
                        "an X25519 stanza without a share of 32 bytes",
                    ))?;
            let body = decode_32(body).ok_or(UnlockError::Stanza(
                "an X25519 stanza without a key of 16 bytes",
            ))?;
            for identity in identities {
                if let Some(key) = open_stanza(identity, &share, &body)? {
                    found = found.or(Some(key));
                }
            }
        }
        let file_key = found.ok_or(UnlockError::NoMatch)?;
        let sum = mac(&derive(&file_key, &[], b"header"), &[self.summed]);
        if !same(&sum, &self.sum) {
            return Err(UnlockError::Sum);
        }
        Ok(Chunks::new(&file_key, &self.nonce))
    }
}

/// What stands behind `-> `.
#[derive(Clone, Copy)]
struct Words<'b>(&'b [u8]);

impl<'b> Words<'b> {
    fn first_word(self) -> &'b [u8] {
        self.0
            .split(|&byte| byte == b' ')
            .next()
            .unwrap_or_default()
    }

    /// The second word, where there is no third.
    fn second_word_alone(self) -> Option<&'b [u8]> {
        let mut words = self.0.split(|&byte| byte == b' ').skip(1);
        words.next().filter(|_| words.next().is_none())
    }
}

/// The file's key, if the stanza is for this identity.
fn open_stanza(
    identity: &Identity,
    share: &[u8; 32],
    body: &[u8; 32],
) -> Result<Option<[u8; 16]>, UnlockError> {
    let common = MontgomeryPoint(*share).mul_clamped(identity.0).to_bytes();
    if common == [0; 32] {
        return Err(UnlockError::Stanza("an X25519 share of small order"));
    }
    let key = derive(&common, &[share, &identity.recipient().0], PURPOSE);
    let (sealed, tag) = body.split_at(16);
    let mut file_key: [u8; 16] = sealed.try_into().unwrap_or_default();
    let opened = chunk::open(&key, 0, false, &mut file_key, tag);
    Ok(opened.is_ok().then_some(file_key))
}

/// The first line of `rest`, without its end, and what is behind it.
fn split_line(rest: &[u8], number: u32) -> Result<(&[u8], &[u8]), HeaderError> {
    let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
        // What goes on for long is no line that was cut.
        return Err(match rest.len() {
            0..MAX_HEADER_BYTES => HeaderError::Cut,
            _ => HeaderError::Line(number, "a line without an end"),
        });
    };
    let (line, behind) = rest.split_at_checked(end).unwrap_or_default();
    Ok((line, behind.get(1..).unwrap_or_default()))
}

/// What a file is that does not begin as one of this version.
fn no_header(file: &[u8]) -> HeaderError {
    const FORMAT: &[u8] = b"age-encryption.org/";
    if SIGNATURE.starts_with(file) && !file.is_empty() {
        HeaderError::Cut
    } else if file.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----") {
        HeaderError::Armoured
    } else if file.starts_with(FORMAT) {
        HeaderError::Version
    } else {
        HeaderError::NotAge
    }
}
