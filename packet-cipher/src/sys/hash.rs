// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hash of AES-GCM with the widest instructions of x86-64: sixteen blocks at a time, four in each register.
//!
//! The crates' own takes four blocks at a time, turns the bytes of each round without vectors, and has three times the
//! processor time.
//!
//! Source: RFC 8452 appendix A, how GHASH is had from POLYVAL; Gueron and Kounavis, "Intel Carry-Less Multiplication
//! Instruction and its Usage for Computing the GCM Mode", for the sum of products that is reduced once.

use super::load;
use core::arch::x86_64::{
    __m128i, __m512i, _mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_shuffle_epi32,
    _mm_slli_si128, _mm_srli_si128, _mm_unpackhi_epi64, _mm_xor_si128, _mm512_clmulepi64_epi128,
    _mm512_extracti32x4_epi32, _mm512_set_epi64, _mm512_setzero_si512, _mm512_shuffle_epi8,
    _mm512_xor_si512, _mm512_zextsi128_si512,
};

cpufeatures::new!(wide, "avx512f", "avx512bw", "vpclmulqdq", "pclmulqdq");

/// The bytes that are taken at a time.
const STRIDE: usize = 256;
/// x^128 + x^127 + x^126 + x^121 + 1 without its first term, as POLYVAL has it.
const POLYNOMIAL: u128 = 0xc200_0000_0000_0000_0000_0000_0000_0001;

/// The powers of the hash's key from the 16th to the 1st. There are some only where the processor can use them.
pub(crate) struct Powers([[u8; 64]; 4]);

impl Powers {
    /// Those of this key; none where the processor does not have the instructions.
    pub(crate) fn of(key: [u8; 16]) -> Option<Self> {
        // POLYVAL's key for the same hash: the bytes turned round, times x.
        let turned = u128::from_be_bytes(key);
        let carry = if turned >> 127 == 0 { 0 } else { POLYNOMIAL };
        let key = (turned << 1) ^ carry;
        // SAFETY: `wide` has just found every feature that `powers` is compiled for.
        wide::get().then(|| Self(unsafe { powers(key) }))
    }

    /// The hash of `front`, `body` (filled up with zeros) and `lengths`.
    pub(crate) fn hash(&self, front: [u8; 16], body: &[u8], lengths: [u8; 16]) -> [u8; 16] {
        // SAFETY: a value of this type is made by `of` alone, after `wide` found every feature that `hash` is compiled for.
        unsafe { hash(&self.0, front, body, lengths) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,vpclmulqdq,pclmulqdq")]
fn powers(key: u128) -> [[u8; 64]; 4] {
    let first = register(key);
    let mut power = first;
    let mut all = [[0; 64]; 4];
    // From the last place to the first, each the one before times the key.
    for place in all
        .iter_mut()
        .rev()
        .flat_map(|row| row.as_chunks_mut::<16>().0.iter_mut().rev())
    {
        *place = number(power).to_le_bytes();
        power = product(power, first);
    }
    all
}

#[target_feature(enable = "avx512f,avx512bw,vpclmulqdq,pclmulqdq")]
fn hash(powers: &[[u8; 64]; 4], front: [u8; 16], body: &[u8], lengths: [u8; 16]) -> [u8; 16] {
    let [_, _, _, last] = powers;
    let key = last.last_chunk().copied().unwrap_or_default();
    let key = register(u128::from_le_bytes(key));
    let powers = powers.each_ref().map(|row| load(row));
    let turn = turning();
    let mut sum = product(block(front), key);
    let (strides, rest) = body.as_chunks::<STRIDE>();
    for stride in strides {
        let mut low = _mm512_setzero_si512();
        let (mut high, mut middle) = (low, low);
        let mut before = _mm512_zextsi128_si512(sum);
        for (row, power) in stride.as_chunks::<64>().0.iter().zip(powers) {
            let blocks = _mm512_xor_si512(_mm512_shuffle_epi8(load(row), turn), before);
            before = _mm512_setzero_si512();
            low = _mm512_xor_si512(low, _mm512_clmulepi64_epi128::<0x00>(blocks, power));
            high = _mm512_xor_si512(high, _mm512_clmulepi64_epi128::<0x11>(blocks, power));
            middle = _mm512_xor_si512(middle, _mm512_clmulepi64_epi128::<0x01>(blocks, power));
            middle = _mm512_xor_si512(middle, _mm512_clmulepi64_epi128::<0x10>(blocks, power));
        }
        sum = reduced(folded(low), folded(middle), folded(high));
    }
    let (whole, rest) = rest.as_chunks::<16>();
    for bytes in whole {
        sum = product(_mm_xor_si128(sum, block(*bytes)), key);
    }
    if !rest.is_empty() {
        let mut last = [0; 16];
        for (place, byte) in last.iter_mut().zip(rest) {
            *place = *byte;
        }
        sum = product(_mm_xor_si128(sum, block(last)), key);
    }
    sum = product(_mm_xor_si128(sum, block(lengths)), key);
    number(sum).to_be_bytes()
}

/// A number as its two halves in a register.
#[target_feature(enable = "sse2")]
#[expect(clippy::as_conversions, reason = "bits stay bits")]
fn register(number: u128) -> __m128i {
    _mm_set_epi64x((number >> 64) as i64, number as i64)
}

#[target_feature(enable = "sse2")]
#[expect(clippy::as_conversions, reason = "bits stay bits")]
fn number(register: __m128i) -> u128 {
    let low = _mm_cvtsi128_si64(register) as u64;
    let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(register, register)) as u64;
    (u128::from(high) << 64) | u128::from(low)
}

/// A block's bytes, turned round.
#[target_feature(enable = "sse2")]
fn block(bytes: [u8; 16]) -> __m128i {
    register(u128::from_be_bytes(bytes))
}

/// Which byte goes where when each of four blocks is turned round.
#[target_feature(enable = "avx512f")]
fn turning() -> __m512i {
    const LOW: i64 = 0x0809_0a0b_0c0d_0e0f;
    const HIGH: i64 = 0x0001_0203_0405_0607;
    _mm512_set_epi64(HIGH, LOW, HIGH, LOW, HIGH, LOW, HIGH, LOW)
}

/// The sum of the four parts.
#[target_feature(enable = "avx512f")]
fn folded(register: __m512i) -> __m128i {
    let one = _mm_xor_si128(
        _mm512_extracti32x4_epi32::<0>(register),
        _mm512_extracti32x4_epi32::<1>(register),
    );
    let other = _mm_xor_si128(
        _mm512_extracti32x4_epi32::<2>(register),
        _mm512_extracti32x4_epi32::<3>(register),
    );
    _mm_xor_si128(one, other)
}

/// The product in POLYVAL's field.
#[target_feature(enable = "sse2,pclmulqdq")]
fn product(one: __m128i, other: __m128i) -> __m128i {
    let middle = _mm_xor_si128(
        _mm_clmulepi64_si128::<0x01>(one, other),
        _mm_clmulepi64_si128::<0x10>(one, other),
    );
    reduced(
        _mm_clmulepi64_si128::<0x00>(one, other),
        middle,
        _mm_clmulepi64_si128::<0x11>(one, other),
    )
}

/// What is left of a product of 256 bits, given as its parts that overlap by half.
#[target_feature(enable = "sse2,pclmulqdq")]
fn reduced(low: __m128i, middle: __m128i, high: __m128i) -> __m128i {
    let low = _mm_xor_si128(low, _mm_slli_si128::<8>(middle));
    let high = _mm_xor_si128(high, _mm_srli_si128::<8>(middle));
    // The polynomial's upper half; its lower one is what the halves change places for.
    let polynomial = register(POLYNOMIAL);
    let step = |value| {
        _mm_xor_si128(
            _mm_shuffle_epi32::<0x4e>(value),
            _mm_clmulepi64_si128::<0x10>(value, polynomial),
        )
    };
    _mm_xor_si128(high, step(step(low)))
}
