// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets made unreadable and unchangeable, and back.
//!
//! A packet is `length | padding length | payload | padding | tag`; the length counts what lies between itself and the tag.
//!
//! ```
//! use packet_cipher::{CipherKind, KEY_BYTES, NONCE_BYTES};
//! let new = || CipherKind::Aes128Gcm.with_keys(&[1; KEY_BYTES], &[2; NONCE_BYTES]);
//! let mut packet = *b"\0\0\0\x10sixteen bytes ..________________";
//! new().seal(0, &mut packet);
//! let plain = new().open(0, &mut packet).unwrap();
//! assert_eq!(&packet[plain], b"sixteen bytes ..");
//! ```
//! A crate of its own, because all of init but this is built for size: the ciphers' vector code is generic, is compiled
//! where it is used, and takes twice the time when that is done for size.
//!
//! Source: RFC 5647 and OpenSSH 9.2 `PROTOCOL` section 1.6 for AES-GCM; OpenSSH 9.2 `PROTOCOL.chacha20poly1305`.
//!
//! [`chunk`] is the same for pieces of a file.

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

pub mod chunk;
mod gcm;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "instructions that not every processor has")]
mod sys;

use aes::{Aes128, Aes256};
use chacha20::ChaCha20Legacy;
use chacha20::cipher::inout::InOutBuf;
use chacha20::cipher::{KeyIvInit as _, StreamCipher, StreamCipherSeek as _};
use core::ops::Range;
use gcm::Gcm;
use poly1305::Poly1305;
use poly1305::universal_hash::{KeyInit as _, UniversalHash as _};

/// The bytes of the length in front.
pub const LENGTH_BYTES: usize = 4;
/// The bytes of the tag behind, with each of the ciphers.
pub const TAG_BYTES: usize = 16;
/// The most bytes of keys that a cipher takes.
pub const KEY_BYTES: usize = 64;
/// The bytes of the first nonce.
pub const NONCE_BYTES: usize = 12;

/// A way to protect packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CipherKind {
    /// AES with 128 bits in Galois counter mode.
    Aes128Gcm,
    /// AES with 256 bits in Galois counter mode.
    Aes256Gcm,
    /// `ChaCha20` and `Poly1305`, which are quick without instructions of their own too.
    ChaCha20Poly1305,
}

impl CipherKind {
    /// The name that both sides say.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes128-gcm@openssh.com",
            Self::Aes256Gcm => "aes256-gcm@openssh.com",
            Self::ChaCha20Poly1305 => "chacha20-poly1305@openssh.com",
        }
    }

    /// The cipher of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    /// The cipher with these keys, as many of the bytes as it takes.
    #[must_use]
    pub fn with_keys(self, keys: &[u8; KEY_BYTES], nonce: &[u8; NONCE_BYTES]) -> Cipher {
        let (first, rest) = keys.split_first_chunk::<32>().unwrap_or((&[0; 32], &[]));
        match self {
            Self::Aes128Gcm => {
                let key = keys.first_chunk::<16>().unwrap_or(&[0; 16]);
                Cipher::Aes128Gcm(Gcm::new(key.into()), *nonce)
            }
            Self::Aes256Gcm => Cipher::Aes256Gcm(Gcm::new(first.into()), *nonce),
            Self::ChaCha20Poly1305 => Cipher::ChaCha20Poly1305 {
                packet: *first,
                length: *rest.first_chunk::<32>().unwrap_or(&[0; 32]),
            },
        }
    }
}

/// One direction's protection.
pub enum Cipher {
    /// Before the first exchange of keys.
    None,
    /// The key, and the nonce of the next packet.
    Aes128Gcm(Gcm<Aes128>, [u8; NONCE_BYTES]),
    /// The key, and the nonce of the next packet.
    Aes256Gcm(Gcm<Aes256>, [u8; NONCE_BYTES]),
    /// Nonces are the packets' numbers.
    ChaCha20Poly1305 {
        /// The key for what lies behind the length.
        packet: [u8; 32],
        /// The key for the length.
        length: [u8; 32],
    },
}

/// The packet is not what the other side sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forged;

impl Cipher {
    /// What the length must be a multiple of, with or without its own four bytes.
    #[must_use]
    pub const fn block_bytes(&self) -> usize {
        match self {
            Self::Aes128Gcm(..) | Self::Aes256Gcm(..) => 16,
            Self::None | Self::ChaCha20Poly1305 { .. } => 8,
        }
    }

    /// The length is padded together with what follows it.
    #[must_use]
    pub const fn pads_length(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The bytes of the tag.
    #[must_use]
    pub const fn tag_bytes(&self) -> usize {
        match self {
            Self::None => 0,
            _ => TAG_BYTES,
        }
    }

    /// The packet's length, from its first four bytes, which stay as they are.
    #[must_use]
    pub fn length(&self, sequence: u32, bytes: [u8; LENGTH_BYTES]) -> u32 {
        let mut bytes = bytes;
        if let Self::ChaCha20Poly1305 { length, .. } = self {
            chacha(length, sequence).apply_keystream(&mut bytes);
        }
        u32::from_be_bytes(bytes)
    }

    /// Protects `packet`, whose last bytes are room for the tag.
    pub fn seal(&mut self, sequence: u32, packet: &mut [u8]) {
        self.seal_with(sequence, packet, packet.len(), &[]);
    }

    /// The same, with `data` in the packet from byte `at` on, whatever is there: it gets there on its way through the
    /// cipher, without being copied before.
    pub fn seal_with(&mut self, sequence: u32, packet: &mut [u8], at: usize, data: &[u8]) {
        let at = at.saturating_sub(LENGTH_BYTES);
        let Some((front, body, tag)) = parts(packet, self.tag_bytes()) else {
            return;
        };
        match self {
            Self::None => {
                let end = at.saturating_add(data.len());
                if let Some(place) = body.get_mut(at..end) {
                    place.copy_from_slice(data);
                }
            }
            Self::Aes128Gcm(cipher, nonce) => {
                tag.copy_from_slice(&cipher.seal(nonce, *front, body, at, data));
                advance(nonce);
            }
            Self::Aes256Gcm(cipher, nonce) => {
                tag.copy_from_slice(&cipher.seal(nonce, *front, body, at, data));
                advance(nonce);
            }
            Self::ChaCha20Poly1305 {
                packet: packet_key,
                length,
            } => {
                chacha(length, sequence).apply_keystream(front);
                let mut stream = chacha(packet_key, sequence);
                let key = poly_key(&mut stream);
                encrypt_chacha(stream, packet_key, nonce_of(sequence), body, at, data);
                let covered = LENGTH_BYTES.saturating_add(body.len());
                let (data, tag) = packet.split_at_mut(covered.min(packet.len()));
                tag.copy_from_slice(&poly(&key, data));
            }
        }
    }

    /// Takes the protection from `packet`, a whole one with its tag. What lies between length and tag is then plain.
    ///
    /// # Errors
    /// [`Forged`]; the packet is then worth nothing.
    pub fn open(&mut self, sequence: u32, packet: &mut [u8]) -> Result<Range<usize>, Forged> {
        let tag_bytes = self.tag_bytes();
        let end = packet.len().checked_sub(tag_bytes).ok_or(Forged)?;
        let (front, body, tag) = parts(packet, tag_bytes).ok_or(Forged)?;
        match self {
            Self::None => {}
            Self::Aes128Gcm(cipher, nonce) => {
                cipher.open(nonce, *front, body, tag)?;
                advance(nonce);
            }
            Self::Aes256Gcm(cipher, nonce) => {
                cipher.open(nonce, *front, body, tag)?;
                advance(nonce);
            }
            Self::ChaCha20Poly1305 {
                packet: packet_key, ..
            } => {
                let mut stream = chacha(packet_key, sequence);
                let key = poly_key(&mut stream);
                let (data, tag) = packet.split_at_mut(end);
                if !same(&poly(&key, data), tag) {
                    return Err(Forged);
                }
                stream.apply_keystream(data.get_mut(LENGTH_BYTES..).ok_or(Forged)?);
            }
        }
        Ok(LENGTH_BYTES..end)
    }
}

/// Length, body and tag.
type Parts<'p> = (&'p mut [u8; LENGTH_BYTES], &'p mut [u8], &'p mut [u8]);

fn parts(packet: &mut [u8], tag_bytes: usize) -> Option<Parts<'_>> {
    let end = packet.len().checked_sub(tag_bytes)?;
    let (data, tag) = packet.split_at_mut_checked(end)?;
    let (front, body) = data.split_first_chunk_mut()?;
    Some((front, body, tag))
}

/// Encrypts `body` where it is, but for what becomes of `data`, from byte `at` on.
fn encrypt(stream: &mut impl StreamCipher, body: &mut [u8], at: usize, data: &[u8]) {
    let (front, rest) = body.split_at_mut(at.min(body.len()));
    let (place, behind) = rest.split_at_mut(data.len().min(rest.len()));
    stream.apply_keystream(front);
    // Both are of one length, but for data that is longer than its place, which no packet has.
    if let Ok(both) = InOutBuf::new(data, place) {
        stream.apply_keystream_inout(both);
    }
    stream.apply_keystream(behind);
}

/// The same by the packet's own key stream, which stands at its second block.
fn encrypt_chacha(
    mut stream: ChaCha20Legacy,
    key: &[u8; 32],
    nonce: [u8; 8],
    body: &mut [u8],
    at: usize,
    data: &[u8],
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(wide) = sys::chacha::Wide::new() {
        return wide.encrypt(key, nonce, body, at, data);
    }
    encrypt(&mut stream, body, at, data);
}

/// The last eight bytes of the nonce count the packets.
fn advance(nonce: &mut [u8; NONCE_BYTES]) {
    if let Some(counter) = nonce.last_chunk_mut::<8>() {
        *counter = u64::from_be_bytes(*counter).wrapping_add(1).to_be_bytes();
    }
}

fn chacha(key: &[u8; 32], sequence: u32) -> ChaCha20Legacy {
    chacha_of(key, nonce_of(sequence))
}

fn chacha_of(key: &[u8; 32], nonce: [u8; 8]) -> ChaCha20Legacy {
    ChaCha20Legacy::new(key.into(), &nonce.into())
}

fn nonce_of(sequence: u32) -> [u8; 8] {
    u64::from(sequence).to_be_bytes()
}

/// The tag's key is the front of the key stream; the packet's begins at the second block.
fn poly_key(stream: &mut ChaCha20Legacy) -> [u8; 32] {
    let mut key = [0; 32];
    stream.apply_keystream(&mut key);
    stream.seek(64_u32);
    key
}

fn poly(key: &[u8; 32], data: &[u8]) -> [u8; TAG_BYTES] {
    let mut hash = Poly1305::new(key.into());
    // All whole blocks at once, which is several times as fast as one after the other.
    let (blocks, rest) = poly1305::Block::slice_as_chunks(data);
    hash.update(blocks);
    hash.compute_unpadded(rest).into()
}

/// Takes the same time whatever differs.
fn same(one: &[u8; TAG_BYTES], other: &[u8]) -> bool {
    let difference = one
        .iter()
        .zip(other)
        .fold(0, |seen, (one, other)| seen | (one ^ other));
    other.len() == TAG_BYTES && core::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [CipherKind; 3] = [
        CipherKind::Aes128Gcm,
        CipherKind::Aes256Gcm,
        CipherKind::ChaCha20Poly1305,
    ];

    fn pair(kind: CipherKind) -> (Cipher, Cipher) {
        let keys = core::array::from_fn(|index| u8::try_from(index).unwrap());
        let cipher = || kind.with_keys(&keys, &[0xff; NONCE_BYTES]);
        (cipher(), cipher())
    }

    fn sealed(cipher: &mut Cipher, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut packet = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        packet.extend(body);
        packet.extend([0; TAG_BYTES]);
        cipher.seal(sequence, &mut packet);
        packet
    }

    #[test]
    fn what_is_sealed_opens_and_the_counters_go_along() {
        for kind in KINDS {
            let (mut here, mut there) = pair(kind);
            for (sequence, len) in [(u32::MAX, 16), (0, 32), (1, 4096 + 16)] {
                let body: Vec<u8> = (0..len).map(|index: usize| index as u8).collect();
                let mut packet = sealed(&mut here, sequence, &body);
                assert_ne!(packet[4..len + 4], body);
                let length = there.length(sequence, *packet.first_chunk().unwrap());
                assert_eq!(usize::try_from(length).unwrap(), len, "{kind:?}");
                let range = there.open(sequence, &mut packet).unwrap();
                assert_eq!(packet[range], body);
            }
        }
    }

    #[test]
    fn data_from_elsewhere_is_sealed_as_if_it_lay_in_the_packet() {
        let body: Vec<u8> = (0..2000).map(|index: usize| index as u8).collect();
        for kind in KINDS {
            for (at, len) in [(0, 2000), (0, 1), (35, 1800), (16, 256), (1999, 1), (7, 0)] {
                let whole = sealed(&mut pair(kind).0, 3, &body);
                let mut packet = 2000_u32.to_be_bytes().to_vec();
                packet.extend(&body);
                packet[4 + at..][..len].fill(0xee);
                packet.extend([0; TAG_BYTES]);
                let data = &body[at..at + len];
                pair(kind).0.seal_with(3, &mut packet, 4 + at, data);
                assert!(packet == whole, "{kind:?} {at} {len}");
            }
        }
        let mut packet = [0; 24];
        Cipher::None.seal_with(0, &mut packet, 6, b"data");
        assert_eq!(packet[..12], *b"\0\0\0\0\0\0data\0\0");
    }

    #[test]
    fn nothing_that_was_changed_opens() {
        for kind in KINDS {
            let packet = sealed(&mut pair(kind).0, 7, &[5; 32]);
            for position in 0..packet.len() {
                let mut changed = packet.clone();
                changed[position] ^= 0x10;
                assert!(pair(kind).1.open(7, &mut changed).is_err(), "{position}");
                assert!(
                    pair(kind)
                        .1
                        .open(7, &mut packet[..position].to_vec())
                        .is_err()
                );
            }
        }
        let mut replayed = sealed(&mut pair(CipherKind::ChaCha20Poly1305).0, 7, &[5; 32]);
        assert!(
            pair(CipherKind::ChaCha20Poly1305)
                .1
                .open(8, &mut replayed)
                .is_err()
        );
    }

    #[test]
    fn every_length_of_chacha20_is_as_the_crate_has_it() {
        let key = core::array::from_fn(|index| index as u8 * 7);
        for len in (0..2100).chain([32 << 10, (32 << 10) + 61]) {
            let sequence = u32::MAX - len as u32;
            let stream = || {
                let mut stream = chacha(&key, sequence);
                poly_key(&mut stream);
                stream
            };
            let body: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
            let (mut ours, mut theirs) = (body.clone(), body);
            encrypt(&mut stream(), &mut theirs, 0, &[]);
            encrypt_chacha(stream(), &key, nonce_of(sequence), &mut ours, 0, &[]);
            assert!(ours == theirs, "{len}");
        }
    }

    #[test]
    fn poly1305_is_that_of_the_rfc() {
        // RFC 8439 section 2.5.2.
        let key = [
            0x85, 0xd6, 0xbe, 0x78, 0x57, 0x55, 0x6d, 0x33, 0x7f, 0x44, 0x52, 0xfe, 0x42, 0xd5,
            0x06, 0xa8, 0x01, 0x03, 0x80, 0x8a, 0xfb, 0x0d, 0xb2, 0xfd, 0x4a, 0xbf, 0xf6, 0xaf,
            0x41, 0x49, 0xf5, 0x1b,
        ];
        assert_eq!(
            poly(&key, b"Cryptographic Forum Research Group"),
            [
                0xa8, 0x06, 0x1d, 0xc1, 0x30, 0x51, 0x36, 0xc6, 0xc2, 0x2b, 0x8b, 0xaf, 0x0c, 0x01,
                0x27, 0xa9
            ]
        );
    }
}
