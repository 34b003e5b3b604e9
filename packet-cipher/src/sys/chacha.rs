// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ChaCha20` with AVX-512: sixteen blocks at a time, of each the same word in one register.
//!
//! Source: Bernstein, "ChaCha, a variant of Salsa20", with a counter and a nonce of 64 bits each.

use super::apply;
use core::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_rol_epi32, _mm512_set_epi32, _mm512_set1_epi32,
    _mm512_shuffle_i32x4, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};

cpufeatures::new!(wide, "avx512f");

/// "expand 32-byte k"
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
/// The processor has what [`encrypt`] needs.
#[derive(Clone, Copy)]
pub(crate) struct Wide(());

impl Wide {
    pub(crate) fn new() -> Option<Self> {
        wide::get().then_some(Self(()))
    }

    /// Encrypts `body` with `data` in it from byte `at` on, from the key stream's second block on.
    pub(crate) fn encrypt(
        self,
        key: &[u8; 32],
        nonce: [u8; 8],
        body: &mut [u8],
        at: usize,
        data: &[u8],
    ) {
        // SAFETY: a value of this type is made by `new` alone, after `wide` found the feature that `encrypt` is compiled for.
        unsafe { encrypt(key, nonce, body, at, data) }
    }
}

type Block = [__m512i; 16];

#[target_feature(enable = "avx512f")]
fn encrypt(key: &[u8; 32], nonce: [u8; 8], body: &mut [u8], at: usize, data: &[u8]) {
    let mut words = [0_u32; 16];
    let bytes = key.as_chunks::<4>().0.iter();
    let nonce = nonce.as_chunks::<4>().0.iter();
    let known = CONSTANTS
        .into_iter()
        .chain(bytes.map(|word| u32::from_le_bytes(*word)))
        // A packet is far shorter than what 32 bits count.
        .chain([1, 0])
        .chain(nonce.map(|word| u32::from_le_bytes(*word)));
    for (word, value) in words.iter_mut().zip(known) {
        *word = value;
    }
    let mut state = words.map(|word| _mm512_set1_epi32(word.cast_signed()));
    let count = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    state[12] = _mm512_add_epi32(state[12], count);

    apply(body, at, data, || stream(&mut state));
}

/// Sixteen blocks, each in its register, and the state goes on.
#[target_feature(enable = "avx512f")]
fn stream(state: &mut Block) -> Block {
    let mut mixed = *state;
    for _ in 0..10 {
        quarter::<0, 4, 8, 12>(&mut mixed);
        quarter::<1, 5, 9, 13>(&mut mixed);
        quarter::<2, 6, 10, 14>(&mut mixed);
        quarter::<3, 7, 11, 15>(&mut mixed);
        quarter::<0, 5, 10, 15>(&mut mixed);
        quarter::<1, 6, 11, 12>(&mut mixed);
        quarter::<2, 7, 8, 13>(&mut mixed);
        quarter::<3, 4, 9, 14>(&mut mixed);
    }
    for (word, before) in mixed.iter_mut().zip(&*state) {
        *word = _mm512_add_epi32(*word, *before);
    }
    state[12] = _mm512_add_epi32(state[12], _mm512_set1_epi32(16));
    turned(&mixed)
}

#[target_feature(enable = "avx512f")]
#[inline]
#[expect(clippy::indexing_slicing, reason = "constants below 16")]
fn quarter<const A: usize, const B: usize, const C: usize, const D: usize>(block: &mut Block) {
    let [a, b, c, d] = [A, B, C, D];
    block[a] = _mm512_add_epi32(block[a], block[b]);
    block[d] = _mm512_rol_epi32::<16>(_mm512_xor_si512(block[d], block[a]));
    block[c] = _mm512_add_epi32(block[c], block[d]);
    block[b] = _mm512_rol_epi32::<12>(_mm512_xor_si512(block[b], block[c]));
    block[a] = _mm512_add_epi32(block[a], block[b]);
    block[d] = _mm512_rol_epi32::<8>(_mm512_xor_si512(block[d], block[a]));
    block[c] = _mm512_add_epi32(block[c], block[d]);
    block[b] = _mm512_rol_epi32::<7>(_mm512_xor_si512(block[b], block[c]));
}

/// Rows become columns.
#[target_feature(enable = "avx512f")]
fn turned(words: &Block) -> Block {
    // Within each lane of 128 bits: four words of one block side by side. Lane l of `quads[4 * g + b]` has words 4g to 4g + 3
    // of block 4l + b.
    let mut quads = *words;
    for (rows, quad) in words
        .as_chunks::<4>()
        .0
        .iter()
        .zip(quads.as_chunks_mut::<4>().0)
    {
        let [a, b, c, d] = *rows;
        let low = _mm512_unpacklo_epi32(a, b);
        let high = _mm512_unpackhi_epi32(a, b);
        let (low_behind, high_behind) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        *quad = [
            _mm512_unpacklo_epi64(low, low_behind),
            _mm512_unpackhi_epi64(low, low_behind),
            _mm512_unpacklo_epi64(high, high_behind),
            _mm512_unpackhi_epi64(high, high_behind),
        ];
    }
    let mut blocks = quads;
    let [first, second, third, fourth] = *quads.as_chunks::<4>().0 else {
        return blocks;
    };
    for (number, (((a, b), c), d)) in first
        .into_iter()
        .zip(second)
        .zip(third)
        .zip(fourth)
        .enumerate()
    {
        let even = _mm512_shuffle_i32x4::<0x88>(a, b);
        let odd = _mm512_shuffle_i32x4::<0xdd>(a, b);
        let even_behind = _mm512_shuffle_i32x4::<0x88>(c, d);
        let odd_behind = _mm512_shuffle_i32x4::<0xdd>(c, d);
        let lanes = [
            _mm512_shuffle_i32x4::<0x88>(even, even_behind),
            _mm512_shuffle_i32x4::<0x88>(odd, odd_behind),
            _mm512_shuffle_i32x4::<0xdd>(even, even_behind),
            _mm512_shuffle_i32x4::<0xdd>(odd, odd_behind),
        ];
        for (place, block) in blocks.iter_mut().skip(number).step_by(4).zip(lanes) {
            *place = block;
        }
    }
    blocks
}
