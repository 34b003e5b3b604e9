// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys from other keys.
//!
//! Source: RFC 5869, HKDF with SHA-256, for the 32 bytes that one step of it gives.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// A key for one purpose.
pub(crate) fn derive(secret: &[u8], salt: &[&[u8]], purpose: &[u8]) -> [u8; 32] {
    // What is longer than a block would be hashed first; no salt here is.
    let mut joined = [0; 64];
    let bytes = salt.iter().flat_map(|part| part.iter());
    joined
        .iter_mut()
        .zip(bytes)
        .for_each(|(place, byte)| *place = *byte);
    // A shorter salt is filled up with zeros, whatever its length.
    let extracted = mac(&joined, &[secret]);
    mac(&extracted, &[purpose, &[1]])
}

/// The checksum of `parts` by `key`.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(start) => {
            let all = parts.iter().fold(start, |mac, part| mac.chain_update(part));
            all.finalize().into_bytes().into()
        }
        // HMAC takes a key of any length.
        Err(_) => [0; 32],
    }
}

/// Takes the same time whatever differs.
pub(crate) fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let difference = one
        .iter()
        .zip(other)
        .fold(0, |seen, (one, other)| seen | (one ^ other));
    core::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_function_of_the_rfc() {
        // RFC 5869 appendix A.1 and A.3: the first 32 bytes of what they give.
        let salt: Vec<u8> = (0..=12).collect();
        let purpose: Vec<u8> = (0xf0..=0xf9).collect();
        let given = derive(&[0x0b; 22], &[&salt[..5], &salt[5..]], &purpose);
        assert_eq!(
            given,
            [
                0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a, 0x90, 0x43, 0x4f, 0x64, 0xd0, 0x36,
                0x2f, 0x2a, 0x2d, 0x2d, 0x0a, 0x90, 0xcf, 0x1a, 0x5a, 0x4c, 0x5d, 0xb0, 0x2d, 0x56,
                0xec, 0xc4, 0xc5, 0xbf
            ]
        );
        let given = derive(&[0x0b; 22], &[], &[]);
        assert_eq!(
            given,
            [
                0x8d, 0xa4, 0xe7, 0x75, 0xa5, 0x63, 0xc1, 0x8f, 0x71, 0x5f, 0x80, 0x2a, 0x06, 0x3c,
                0x5a, 0x31, 0xb8, 0xa1, 0x1f, 0x5c, 0x5e, 0xe1, 0x87, 0x9e, 0xc3, 0x45, 0x4e, 0x5f,
                0x3c, 0x73, 0x8d, 0x2d
            ]
        );
    }
}
