// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ChaCha20-Poly1305` for the numbered chunks of a file, of which one is the last.
//!
//! The nonce is the chunk's number as 88 bits, big-endian, and a byte that is 1 in the last chunk. Its first four bytes
//! are zero for every number that a file can reach, and then the cipher of RFC 8439 (a counter of 32 bits, a nonce of 96) is
//! the one that the packets have (64 and 64).
//!
//! Source: RFC 8439 section 2.8; Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
//! Misuse-Resistance", STREAM, as age-encryption.org/v1 has it.

use crate::{Forged, TAG_BYTES, chacha_of, encrypt_chacha, poly_key, same};
use poly1305::Poly1305;
use poly1305::universal_hash::{KeyInit as _, UniversalHash as _};

/// Numbers from here on do not fit a nonce whose first four bytes are zero. 64 KiB times that is 4 ZiB.
pub const MAX_NUMBER: u64 = 1 << 56;

/// Makes `body` unreadable, and returns its tag.
///
/// # Errors
/// [`Forged`] for a number from [`MAX_NUMBER`] on; `body` is as it was.
pub fn seal(
    key: &[u8; 32],
    number: u64,
    is_last: bool,
    body: &mut [u8],
) -> Result<[u8; TAG_BYTES], Forged> {
    let nonce = nonce(number, is_last).ok_or(Forged)?;
    let mut stream = chacha_of(key, nonce);
    let tag_key = poly_key(&mut stream);
    encrypt_chacha(stream, key, nonce, body, 0, &[]);
    Ok(tag(&tag_key, body))
}

/// Makes `body` readable again.
///
/// # Errors
/// [`Forged`]: it is not what was sealed by this key, under this number; `body` is as it was.
pub fn open(
    key: &[u8; 32],
    number: u64,
    is_last: bool,
    body: &mut [u8],
    sent: &[u8],
) -> Result<(), Forged> {
    let nonce = nonce(number, is_last).ok_or(Forged)?;
    let mut stream = chacha_of(key, nonce);
    let tag_key = poly_key(&mut stream);
    if !same(&tag(&tag_key, body), sent) {
        return Err(Forged);
    }
    encrypt_chacha(stream, key, nonce, body, 0, &[]);
    Ok(())
}

/// The last eight bytes of the nonce.
fn nonce(number: u64, is_last: bool) -> Option<[u8; 8]> {
    (number < MAX_NUMBER).then(|| ((number << 8) | u64::from(is_last)).to_be_bytes())
}

/// The tag of a body with no further data: padded to whole blocks, then both lengths.
fn tag(key: &[u8; 32], body: &[u8]) -> [u8; TAG_BYTES] {
    let mut hash = Poly1305::new(key.into());
    let (blocks, rest) = poly1305::Block::slice_as_chunks(body);
    hash.update(blocks);
    hash.update_padded(rest);
    let mut lengths = poly1305::Block::default();
    let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX).to_le_bytes();
    for (place, byte) in lengths.iter_mut().skip(bytes.len()).zip(bytes) {
        *place = byte;
    }
    hash.update(&[lengths]);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_changed_moved_or_cut_opens() {
        let key = [7; 32];
        for len in [0, 1, 15, 16, 17, 300] {
            let plain: Vec<u8> = (0..len).map(|index: usize| index as u8).collect();
            let mut body = plain.clone();
            let sent = seal(&key, 5, true, &mut body).unwrap();
            let opened = |number, last, body: &[u8], sent: &[u8]| {
                let mut body = body.to_vec();
                open(&key, number, last, &mut body, sent).map(|()| body)
            };
            assert_eq!(opened(5, true, &body, &sent), Ok(plain));
            assert_eq!(opened(5, false, &body, &sent), Err(Forged));
            assert_eq!(opened(4, true, &body, &sent), Err(Forged));
            assert_eq!(opened(5, true, &body, &sent[..15]), Err(Forged));
            assert_eq!(opened(MAX_NUMBER + 5, true, &body, &sent), Err(Forged));
            for position in 0..len {
                let mut changed = body.clone();
                changed[position] ^= 0x40;
                assert_eq!(opened(5, true, &changed, &sent), Err(Forged));
                assert_eq!(opened(5, true, &body[..position], &sent), Err(Forged));
            }
            for position in 0..TAG_BYTES {
                let mut changed = sent;
                changed[position] ^= 1;
                assert_eq!(opened(5, true, &body, &changed), Err(Forged));
            }
        }
    }

    #[test]
    fn it_is_the_cipher_of_the_rfc() {
        // RFC 8439 section 2.8.2 has a nonce whose first four bytes are not zero; so the peer is the crate that passes it.
        use chacha20poly1305::aead::AeadInOut as _;
        use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _};
        let key = core::array::from_fn(|index| index as u8);
        let peer = ChaCha20Poly1305::new(&key.into());
        for len in (0..200).chain([1023, 1024, 1025, 4096, 65_536, 65_535]) {
            let number = MAX_NUMBER - 1 - len as u64;
            let plain: Vec<u8> = (0..len).map(|index| (index % 253) as u8).collect();
            let mut nonce = [0; 12];
            nonce[3..11].copy_from_slice(&number.to_be_bytes());
            nonce[11] = 1;
            let (mut ours, mut theirs) = (plain.clone(), plain);
            let tag = seal(&key, number, true, &mut ours).unwrap();
            let expected = peer
                .encrypt_inout_detached(&nonce.into(), &[], theirs.as_mut_slice().into())
                .unwrap();
            assert!(ours == theirs && tag == expected[..], "{len}");
        }
    }
}
