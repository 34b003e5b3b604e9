// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the widest instructions of x86-64 do several times as fast as the crates do.
//!
//! These are the only files of the crate with `unsafe`: the compiler cannot see that the instructions were looked for.

pub(crate) mod chacha;
pub(crate) mod counter;
pub(crate) mod hash;

use core::arch::x86_64::{__m512i, _mm512_set_epi64, _mm512_storeu_si512, _mm512_xor_si512};
use core::iter::{repeat, repeat_n};

/// Four blocks as they lie in memory. The compiler makes one load of it.
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = i64::from_le_bytes(*bytes);
    }
    let [a, b, c, d, e, f, g, h] = words;
    _mm512_set_epi64(h, g, f, e, d, c, b, a)
}

#[target_feature(enable = "avx512f")]
fn store(bytes: &mut [u8; 64], register: __m512i) {
    // SAFETY: `bytes` are 64 bytes that nobody else has, and this store has no alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), register) }
}

/// Bytes that go through the cipher together, by registers.
type Piece<const ROWS: usize> = [[u8; 64]; ROWS];

/// Encrypts `body` with `data` in it from byte `at` on, by the key stream that `stream` gives a piece of at a time.
#[target_feature(enable = "avx512f")]
#[inline]
fn apply<const ROWS: usize>(
    body: &mut [u8],
    at: usize,
    data: &[u8],
    mut stream: impl FnMut() -> [__m512i; ROWS],
) {
    let (pieces, rest) = pieces::<ROWS>(body, at, data);
    for (text, piece) in pieces {
        match text {
            Some(text) => {
                for ((row, key), text) in piece.iter_mut().zip(stream()).zip(text) {
                    store(row, _mm512_xor_si512(load(text), key));
                }
            }
            None => xor(piece, &stream()),
        }
    }
    if !rest.is_empty() {
        let mut piece = [[0; 64]; ROWS];
        for (place, byte) in piece.as_flattened_mut().iter_mut().zip(&*rest) {
            *place = *byte;
        }
        xor(&mut piece, &stream());
        for (place, byte) in rest.iter_mut().zip(piece.as_flattened()) {
            *place = *byte;
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn xor<const ROWS: usize>(piece: &mut Piece<ROWS>, stream: &[__m512i; ROWS]) {
    for (row, key) in piece.iter_mut().zip(stream) {
        store(row, _mm512_xor_si512(load(row), *key));
    }
}

/// The whole pieces of `body`, into which `data` is to get from byte `at` on, and what is left of it. Pieces that lie within
/// `data` come with their plain text; what of `data` belongs to other pieces is copied there.
fn pieces<'p, const ROWS: usize>(
    body: &'p mut [u8],
    at: usize,
    data: &'p [u8],
) -> (
    impl Iterator<Item = (Option<&'p Piece<ROWS>>, &'p mut Piece<ROWS>)>,
    &'p mut [u8],
) {
    let piece_bytes = size_of::<Piece<ROWS>>();
    let end = at.saturating_add(data.len());
    let first = at.next_multiple_of(piece_bytes).min(end);
    let (front, inner) = data
        .split_at_checked(first.saturating_sub(at))
        .unwrap_or((data, &[]));
    let texts = inner.as_chunks::<64>().0.as_chunks::<ROWS>().0;
    let whole = texts.as_flattened().as_flattened().len();
    let behind = inner.get(whole..).unwrap_or_default();
    for (from, text) in [(at, front), (first.saturating_add(whole), behind)] {
        if let Some(place) = body.get_mut(from..from.saturating_add(text.len())) {
            place.copy_from_slice(text);
        }
    }
    let over = body.len().checked_rem(piece_bytes).unwrap_or(0);
    let (body, rest) = body.split_at_mut(body.len().saturating_sub(over));
    let pieces = body.as_chunks_mut::<64>().0.as_chunks_mut::<ROWS>().0;
    let before = first.checked_div(piece_bytes).unwrap_or(0);
    let texts = repeat_n(None, before)
        .chain(texts.iter().map(Some))
        .chain(repeat(None));
    (texts.zip(pieces), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_their_plain_text_wherever_it_is() {
        let lens = [0, 1, 127, 128, 129, 300, 511, 512];
        for len in lens {
            for at in (0..=len).step_by(7) {
                for data_len in (0..=len - at).step_by(5) {
                    let plain: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
                    let mut body = plain.clone();
                    body[at..at + data_len].fill(0xee);
                    let data = &plain[at..at + data_len];
                    let mut seen: Vec<u8> = Vec::new();
                    let mut elsewhere = 0;
                    let (pieces, rest) = pieces::<2>(&mut body, at, data);
                    for (text, piece) in pieces {
                        elsewhere += usize::from(text.is_some());
                        seen.extend(text.unwrap_or(piece).as_flattened());
                    }
                    seen.extend(&*rest);
                    assert!(seen == plain, "{len} {at} {data_len}");
                    let whole = ((at + data_len) / 128).saturating_sub(at.div_ceil(128));
                    assert_eq!(elsewhere, whole, "{len} {at} {data_len}");
                }
            }
        }
    }
}
