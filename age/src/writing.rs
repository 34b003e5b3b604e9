// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a file begins with.

use crate::base64;
use crate::chunks::{Chunks, NONCE_BYTES};
use crate::derive::{derive, mac};
use crate::key::Recipient;
use crate::{Forged, SIGNATURE};
use curve25519_dalek::montgomery::MontgomeryPoint;
use heapless::Vec;
use packet_cipher::chunk;

/// The most recipients of one file.
pub const MAX_RECIPIENTS: usize = 8;
/// The most bytes before the first chunk: signature, recipients, checksum and nonce.
pub const MAX_FRONT_BYTES: usize = 22 + MAX_RECIPIENTS * (54 + 44) + 48 + NONCE_BYTES;

pub(crate) const MARK: &[u8] = b"---";
pub(crate) const X25519: &[u8] = b"X25519";
pub(crate) const PURPOSE: &[u8] = b"age-encryption.org/v1/X25519";

/// A file that was begun.
pub struct Begun {
    /// What stands before the first chunk.
    pub front: Vec<u8, MAX_FRONT_BYTES>,
    /// The chunks to come.
    pub chunks: Chunks,
}

impl Begun {
    /// Begins a file that each of `recipients` can read by itself. `random` gives 32 bytes that nobody can guess, other ones
    /// each time. None without recipients, and for more than [`MAX_RECIPIENTS`].
    pub fn new(recipients: &[Recipient], random: &mut dyn FnMut() -> [u8; 32]) -> Option<Self> {
        if recipients.is_empty() || recipients.len() > MAX_RECIPIENTS {
            return None;
        }
        let file_key = half(random());
        let mut front = Vec::new();
        front.extend_from_slice(SIGNATURE).ok()?;
        for recipient in recipients {
            stanza(recipient, random(), &file_key, &mut front)?;
        }
        front.extend_from_slice(MARK).ok()?;
        let sum = mac(&derive(&file_key, &[], b"header"), &[&front]);
        front.push(b' ').ok()?;
        line(&sum, &mut front)?;
        let nonce = half(random());
        front.extend_from_slice(&nonce).ok()?;
        Some(Self {
            front,
            chunks: Chunks::new(&file_key, &nonce),
        })
    }
}

/// 16 bytes are drawn as 32 of which half counts.
fn half(bytes: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(bytes.split_at(16).0);
    half
}

/// The file's key for one recipient.
fn stanza<const N: usize>(
    recipient: &Recipient,
    secret: [u8; 32],
    file_key: &[u8; 16],
    out: &mut Vec<u8, N>,
) -> Option<()> {
    let share = MontgomeryPoint::mul_base_clamped(secret).to_bytes();
    let common = MontgomeryPoint(recipient.0).mul_clamped(secret).to_bytes();
    let key = derive(&common, &[&share, &recipient.0], PURPOSE);
    let mut body = [0; 32];
    let (sealed, tag) = body.split_at_mut(16);
    sealed.copy_from_slice(file_key);
    // The key is used once, so that the nonce may be zero.
    let made: Result<_, Forged> = chunk::seal(&key, 0, false, sealed);
    tag.copy_from_slice(&made.ok()?);
    out.extend_from_slice(b"-> ").ok()?;
    out.extend_from_slice(X25519).ok()?;
    out.push(b' ').ok()?;
    line(&share, out)?;
    line(&body, out)
}

/// 32 bytes as the rest of a line.
fn line<const N: usize>(bytes: &[u8; 32], out: &mut Vec<u8, N>) -> Option<()> {
    for letter in base64::encode(bytes).chain([b'\n']) {
        out.push(letter).ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CHUNK_BYTES, Header, Identity, UnlockError};

    fn numbers() -> impl FnMut() -> [u8; 32] {
        let mut last = 0_u8;
        move || {
            last += 1;
            [last; 32]
        }
    }

    fn identity(fill: u8) -> Identity {
        Identity([fill; 32])
    }

    #[test]
    fn each_recipient_opens_it_by_itself_and_nobody_else() {
        for count in 1..=MAX_RECIPIENTS {
            let recipients: Vec<Recipient, MAX_RECIPIENTS> = (1..=count)
                .map(|number| identity(number as u8).recipient())
                .collect();
            let begun = Begun::new(&recipients, &mut numbers()).unwrap();
            let mut chunks = begun.chunks;
            let mut body = *b"memory";
            let tag = chunks.seal(true, &mut body).unwrap();
            let header = Header::parse(&begun.front).unwrap();
            assert_eq!(header.bytes(), begun.front.len());
            for number in 1..=count {
                let mut opened = header.unlock(&[identity(number as u8)]).unwrap();
                let mut body = body;
                opened.open(true, &mut body, &tag).unwrap();
                assert_eq!(body, *b"memory");
            }
            let stranger = header.unlock(&[identity(200)]).err();
            assert_eq!(stranger, Some(UnlockError::NoMatch));
        }
        assert_eq!(
            Begun::new(&[identity(1).recipient(); 8], &mut numbers())
                .unwrap()
                .front
                .len(),
            MAX_FRONT_BYTES
        );
    }

    #[test]
    fn nobody_and_too_many_are_refused() {
        assert!(Begun::new(&[], &mut numbers()).is_none());
        let many = [identity(1).recipient(); MAX_RECIPIENTS + 1];
        assert!(Begun::new(&many, &mut numbers()).is_none());
    }

    #[test]
    fn a_chunk_behind_a_damaged_one_is_readable() {
        let begun = Begun::new(&[identity(1).recipient()], &mut numbers()).unwrap();
        let mut chunks = begun.chunks;
        let (mut first, mut second) = (std::vec![1; CHUNK_BYTES], [2; 100]);
        let tag = chunks.seal(false, &mut first).unwrap();
        let last_tag = chunks.seal(true, &mut second).unwrap();
        first[9] ^= 1;
        let header = Header::parse(&begun.front).unwrap();
        let mut opened = header.unlock(&[identity(1)]).unwrap();
        assert!(opened.open(false, &mut first, &tag).is_err());
        opened.pass();
        opened.open(true, &mut second, &last_tag).unwrap();
        assert_eq!(second, [2; 100]);
    }
}
