// SPDX-License-Identifier: MIT OR Apache-2.0
//! AES in Galois counter mode, for packets.
//!
//! Source: NIST SP 800-38D sections 6 and 7.

#[cfg(target_arch = "x86_64")]
use crate::sys;
use crate::{Forged, LENGTH_BYTES, NONCE_BYTES, TAG_BYTES, encrypt, same};
use aes::cipher::consts::U16;
use aes::cipher::{Block, BlockCipherEncrypt, BlockSizeUser, InnerIvInit as _, Key, KeyInit};
use aes::cipher::{StreamCipherCore as _, StreamCipherCoreWrapper, inout::InOutBuf};
use ctr::CtrCore;
use ctr::flavors::Ctr32BE;
use ghash::GHash;
use ghash::universal_hash::UniversalHash as _;

/// A key.
pub struct Gcm<C> {
    cipher: C,
    hash: GHash,
    #[cfg(target_arch = "x86_64")]
    wide_hash: Option<sys::hash::Powers>,
    #[cfg(target_arch = "x86_64")]
    wide_cipher: Option<sys::counter::Wide>,
}

impl<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16> + KeyInit> Gcm<C> {
    pub(crate) fn new(key: &Key<C>) -> Self {
        let cipher = C::new(key);
        let mut subkey = Block::<C>::default();
        cipher.encrypt_block(&mut subkey);
        Self {
            cipher,
            hash: GHash::new(&subkey),
            #[cfg(target_arch = "x86_64")]
            wide_hash: sys::hash::Powers::of(subkey.into()),
            #[cfg(target_arch = "x86_64")]
            wide_cipher: sys::counter::Wide::new(key),
        }
    }

    /// Encrypts `body` with `data` in it from byte `at` on; the tag, which covers `front` too.
    pub(crate) fn seal(
        &self,
        nonce: &[u8; NONCE_BYTES],
        front: [u8; LENGTH_BYTES],
        body: &mut [u8],
        at: usize,
        data: &[u8],
    ) -> [u8; TAG_BYTES] {
        self.encrypt(nonce, body, at, data);
        let (_, mask) = self.begin(nonce);
        self.tag(mask, front, body)
    }

    /// Decrypts `body` when the tag is right.
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE_BYTES],
        front: [u8; LENGTH_BYTES],
        body: &mut [u8],
        tag: &[u8],
    ) -> Result<(), Forged> {
        let (stream, mask) = self.begin(nonce);
        if !same(&self.tag(mask, front, body), tag) {
            return Err(Forged);
        }
        stream.apply_keystream_partial(InOutBuf::from(body));
        Ok(())
    }

    /// The key stream behind its first block, and that block, which hides the tag.
    fn begin(&self, nonce: &[u8; NONCE_BYTES]) -> (CtrCore<&C, Ctr32BE>, [u8; TAG_BYTES]) {
        let mut first = Block::<C>::default();
        for (place, byte) in first.iter_mut().zip(nonce.iter().chain(&[0, 0, 0, 1])) {
            *place = *byte;
        }
        let mut stream = CtrCore::inner_iv_init(&self.cipher, &first);
        let mut mask = Block::<C>::default();
        stream.write_keystream_block(&mut mask);
        (stream, mask.into())
    }

    fn encrypt(&self, nonce: &[u8; NONCE_BYTES], body: &mut [u8], at: usize, data: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(wide) = &self.wide_cipher {
            return wide.encrypt(nonce, body, at, data);
        }
        let (stream, _) = self.begin(nonce);
        encrypt(
            &mut StreamCipherCoreWrapper::from_core(stream),
            body,
            at,
            data,
        );
    }

    fn tag(
        &self,
        mask: [u8; TAG_BYTES],
        front: [u8; LENGTH_BYTES],
        body: &[u8],
    ) -> [u8; TAG_BYTES] {
        let [a, b, c, d] = front;
        let front = [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        // Both lengths in bits. A packet is far shorter than 2^61 bytes.
        let bits = u128::try_from(body.len()).unwrap_or(0).wrapping_mul(8);
        let lengths = ((32_u128 << 64) | bits).to_be_bytes();
        let sum = self.sum(front, body, lengths);
        (u128::from_ne_bytes(sum) ^ u128::from_ne_bytes(mask)).to_ne_bytes()
    }

    fn sum(&self, front: [u8; 16], body: &[u8], lengths: [u8; 16]) -> [u8; 16] {
        #[cfg(target_arch = "x86_64")]
        if let Some(powers) = &self.wide_hash {
            return powers.hash(front, body, lengths);
        }
        let mut hash = self.hash.clone();
        hash.update(&[front.into()]);
        hash.update_padded(body);
        hash.update(&[lengths.into()]);
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes::{Aes128, Aes256};
    use aes_gcm::aead::AeadInOut as _;
    use aes_gcm::{Aes128Gcm, Aes256Gcm};

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut bytes = Vec::new();
        for _ in 0..len {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.push(state.to_le_bytes()[3]);
        }
        bytes
    }

    #[test]
    fn every_length_is_as_another_implementation_has_it() {
        let key = noise(32);
        for len in (0..700).chain([4096, 32 << 10, (32 << 10) + 16]) {
            let (nonce, front) = ([len as u8; NONCE_BYTES], [1, 2, 3, len as u8]);
            let body = noise(len);
            let mut theirs = body.clone();
            let tag = Aes256Gcm::new(key.as_slice().try_into().unwrap())
                .encrypt_inout_detached(&nonce.into(), &front, theirs.as_mut_slice().into())
                .unwrap();
            let cipher = Gcm::<Aes256>::new(key.as_slice().try_into().unwrap());
            #[cfg(target_arch = "x86_64")]
            let narrow = Gcm::<Aes256> {
                wide_hash: None,
                wide_cipher: None,
                ..Gcm::new(key.as_slice().try_into().unwrap())
            };
            #[cfg(target_arch = "x86_64")]
            {
                let mut ours = body.clone();
                assert_eq!(narrow.seal(&nonce, front, &mut ours, 0, &[]), *tag, "{len}");
                assert!(ours == theirs, "{len}");
            }
            let mut ours = body.clone();
            assert_eq!(cipher.seal(&nonce, front, &mut ours, 0, &[]), *tag, "{len}");
            assert!(ours == theirs, "{len}");
            assert_eq!(cipher.open(&nonce, front, &mut ours, &tag), Ok(()));
            assert!(ours == body, "{len}");
        }
        let key = &key[..16];
        let mut theirs = noise(1000);
        let mut ours = theirs.clone();
        let tag = Aes128Gcm::new(key.try_into().unwrap())
            .encrypt_inout_detached(&[7; 12].into(), &[9; 4], theirs.as_mut_slice().into())
            .unwrap();
        let cipher = Gcm::<Aes128>::new(key.try_into().unwrap());
        assert_eq!(cipher.seal(&[7; 12], [9; 4], &mut ours, 0, &[]), *tag);
        assert_eq!(ours, theirs);
    }
}
