// SPDX-License-Identifier: MIT OR Apache-2.0
//! AES in counter mode with VAES: 32 blocks at a time, four in each register.
//!
//! Source: FIPS 197 sections 5.1 and 5.2 for the rounds and their keys; NIST SP 800-38D section 6.5 for the counter.

use super::{apply, load};
use core::arch::x86_64::{
    __m128i, __m512i, _mm_aesenclast_si128, _mm_cvtsi128_si32, _mm_set1_epi32, _mm_setzero_si128,
    _mm512_add_epi32, _mm512_aesenc_epi128, _mm512_aesenclast_epi128, _mm512_set_epi32,
    _mm512_shuffle_epi8, _mm512_xor_si512,
};

cpufeatures::new!(wide, "avx512f", "avx512bw", "vaes", "aes");

/// The registers that are on their way at a time: as many as it takes until the first is through a round.
const ROWS: usize = 8;
/// Where the bytes of a block come from when the counter's are turned round.
const SWAP: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 14, 13, 12];
/// The longest key has fourteen rounds, and one key more than rounds.
const MOST_KEYS: usize = 15;

/// The keys of the rounds. There are some only where the processor can use them.
pub(crate) struct Wide {
    keys: [[u8; 16]; MOST_KEYS],
    rounds: usize,
}

impl Wide {
    /// Those of this key, which has 16 or 32 bytes; none where the processor does not have the instructions.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        // SAFETY: `wide` has just found every feature that `expanded` is compiled for.
        wide::get().then(|| unsafe { expanded(key) })
    }

    /// Encrypts `body` with `data` in it from byte `at` on. The first block's counter is 2, as 1 is the tag's.
    pub(crate) fn encrypt(&self, nonce: &[u8; 12], body: &mut [u8], at: usize, data: &[u8]) {
        match self.rounds {
            // SAFETY: a value of this type is made by `new` alone, after `wide` found every feature that `encrypt` is
            // compiled for.
            10 => unsafe { encrypt::<9>(&self.keys, nonce, body, at, data) },
            // SAFETY: as above.
            _ => unsafe { encrypt::<13>(&self.keys, nonce, body, at, data) },
        }
    }
}

#[target_feature(enable = "aes,avx512f")]
fn expanded(key: &[u8]) -> Wide {
    let given = key.as_chunks::<4>().0;
    let rounds = given.len().saturating_add(6);
    let mut words = [[0; 4]; MOST_KEYS * 4];
    let mut round = 1_u8;
    for number in 0..words.len() {
        let word = if let Some(word) = given.get(number) {
            *word
        } else {
            let behind = |back| {
                let word = words.get(number.saturating_sub(back));
                u32::from_le_bytes(word.copied().unwrap_or_default())
            };
            let mut last = behind(1);
            match number.checked_rem(given.len()) {
                Some(0) => {
                    last = substituted(last).rotate_right(8) ^ u32::from(round);
                    round = (round << 1) ^ if round & 0x80 == 0 { 0 } else { 0x1b };
                }
                Some(4) if given.len() > 6 => last = substituted(last),
                _ => {}
            }
            (behind(given.len()) ^ last).to_le_bytes()
        };
        if let Some(place) = words.get_mut(number) {
            *place = word;
        }
    }
    let mut keys = [[0; 16]; MOST_KEYS];
    for (place, byte) in keys.as_flattened_mut().iter_mut().zip(words.as_flattened()) {
        *place = *byte;
    }
    Wide { keys, rounds }
}

/// Each byte of a word through AES's table. Where all columns are the same, what moves bytes between them moves none.
#[target_feature(enable = "aes")]
fn substituted(word: u32) -> u32 {
    let columns: __m128i = _mm_set1_epi32(word.cast_signed());
    _mm_cvtsi128_si32(_mm_aesenclast_si128(columns, _mm_setzero_si128())).cast_unsigned()
}

/// `MIDDLE` is how many rounds lie between the first key and the last round.
#[target_feature(enable = "avx512f,avx512bw,vaes")]
fn encrypt<const MIDDLE: usize>(
    keys: &[[u8; 16]; MOST_KEYS],
    nonce: &[u8; 12],
    body: &mut [u8],
    at: usize,
    data: &[u8],
) {
    let mut keys = keys.iter().map(|key| load(&fourfold(*key)));
    let zero = load(&[0; 64]);
    let first = keys.next().unwrap_or(zero);
    let mut middle = [zero; MIDDLE];
    for (place, key) in middle.iter_mut().zip(&mut keys) {
        *place = key;
    }
    let last = keys.next().unwrap_or(zero);

    let mut block = [0; 16];
    for (place, byte) in block.iter_mut().zip(nonce) {
        *place = *byte;
    }
    // A block's counter is its last word, here with the lowest byte in front.
    let mut next = _mm512_add_epi32(load(&fourfold(block)), last_words([2, 3, 4, 5]));
    let (four, swap) = (last_words([4; 4]), load(&fourfold(SWAP)));
    apply(body, at, data, || {
        let mut blocks = [zero; ROWS];
        for block in &mut blocks {
            *block = _mm512_xor_si512(_mm512_shuffle_epi8(next, swap), first);
            next = _mm512_add_epi32(next, four);
        }
        for key in &middle {
            for block in &mut blocks {
                *block = _mm512_aesenc_epi128(*block, *key);
            }
        }
        for block in &mut blocks {
            *block = _mm512_aesenclast_epi128(*block, last);
        }
        blocks
    });
}

/// A block four times.
fn fourfold(block: [u8; 16]) -> [u8; 64] {
    let mut all = [0; 64];
    for place in all.as_chunks_mut().0 {
        *place = block;
    }
    all
}

/// Four blocks with these last words, and zeros before.
#[target_feature(enable = "avx512f")]
fn last_words([a, b, c, d]: [i32; 4]) -> __m512i {
    _mm512_set_epi32(d, 0, 0, 0, c, 0, 0, 0, b, 0, 0, 0, a, 0, 0, 0)
}
