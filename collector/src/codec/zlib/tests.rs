// SPDX-License-Identifier: MIT OR Apache-2.0
//! The encoder's streams against C zlib and against another inflater. A debug build sees fewer pages than a release
//! build (`cargo test --release -p kdumprd-collector zlib`), which takes as long.

use super::*;

/// How many random pages of each kind are tried.
const PAGES: u64 = if cfg!(debug_assertions) { 60 } else { 20_000 };

/// xorshift64*: the same numbers on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit
    }
}

/// Encodes `page`; where that made it shorter, both inflaters get the page back from it. Returns the stream's length.
fn round_trip(encoder: &mut Encoder, page: &[u8]) -> Option<usize> {
    let mut out = vec![0xaa; page.len() + 8];
    let bytes = encoder.compress(page, &mut out)?;
    assert!(bytes < page.len());
    let stream = &out[..bytes];
    let mut back = vec![0; page.len() + 1];

    let mut inflate = flate2::Decompress::new(true);
    let status = inflate.decompress(stream, &mut back, flate2::FlushDecompress::Finish);
    assert!(
        matches!(status, Ok(flate2::Status::StreamEnd)),
        "{status:?}: {page:?}"
    );
    assert_eq!(inflate.total_in(), bytes as u64);
    assert!(back[..inflate.total_out() as usize] == *page);

    use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
    back.fill(0);
    let (status, read, written) = decompress(
        &mut DecompressorOxide::new(),
        stream,
        &mut back,
        0,
        inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER
            | inflate_flags::TINFL_FLAG_COMPUTE_ADLER32
            | inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
    );
    assert_eq!(status, miniz_oxide::inflate::TINFLStatus::Done);
    assert_eq!((read, written), (bytes, page.len()));
    assert!(back[..written] == *page);
    Some(bytes)
}

/// Bytes where symbol `n` is as frequent as the n-th Fibonacci number: the code that grows longest.
fn fibonacci(len: usize) -> Vec<u8> {
    let (mut bytes, mut symbol, mut now, mut next) = (Vec::new(), 0, 1, 1);
    while bytes.len() < len {
        bytes.extend(std::iter::repeat_n(symbol, now));
        (now, next) = (next, now + next);
        symbol += 1;
    }
    bytes.truncate(len);
    bytes
}

#[test]
fn every_length_inflates_to_what_it_was() {
    let mut random = Random(1);
    let mut encoder = Encoder::new();
    // Text-like bytes: 40 values, and a repetition here and there.
    let mut bytes: Vec<u8> = (0..8192).map(|_| random.below(40) as u8).collect();
    for _ in 0..300 {
        let (from, to, len) = (random.below(8000), random.below(8000), random.below(100));
        bytes.copy_within(from..from + len, to);
    }
    let all = !cfg!(debug_assertions);
    let lengths =
        (1..=8192_usize).filter(|len| all || *len < 200 || len % 256 < 2 || len % 501 == 0);
    for len in lengths {
        let shorter = round_trip(&mut encoder, &bytes[..len]);
        assert!(shorter.is_some() || len < 300, "{len}");
        let zeros = round_trip(&mut encoder, &vec![0; len]);
        assert!(zeros.is_some() || len < 20, "{len}");
    }
    for len in [16384, 65535, 65536] {
        let page: Vec<u8> = bytes.iter().copied().cycle().take(len).collect();
        assert!(round_trip(&mut encoder, &page).is_some());
    }
}

#[test]
fn an_empty_page_and_one_of_noise_stay_as_they_are() {
    let mut random = Random(2);
    let mut encoder = Encoder::new();
    assert_eq!(encoder.compress(&[], &mut [0; 100]), None);
    for _ in 0..PAGES {
        let page: Vec<u8> = (0..4096).map(|_| random.next() as u8).collect();
        assert_eq!(round_trip(&mut encoder, &page), None);
    }
}

#[test]
fn noise_within_a_long_page_is_stored() {
    let mut random = Random(3);
    let mut encoder = Encoder::new();
    for noise in 0..4_usize {
        let mut page = vec![5; 16384];
        for byte in &mut page[noise * 4096..][..4096] {
            *byte = random.next() as u8;
        }
        let bytes = round_trip(&mut encoder, &page).unwrap();
        assert!((4096..4300).contains(&bytes), "{bytes}");
    }
}

#[test]
fn patterns_are_short_and_exact() {
    let mut random = Random(4);
    let mut encoder = Encoder::new();
    for period in (1..=130).chain([200, 500, 2000]) {
        let pattern: Vec<u8> = (0..period).map(|_| random.next() as u8).collect();
        for len in [64, 127, 128, 129, 130, 1000, 4095, 4096, 4097] {
            let page: Vec<u8> = pattern.iter().copied().cycle().take(len).collect();
            let bytes = round_trip(&mut encoder, &page);
            // Noise that comes again only much later is taken for noise.
            if len == 4096 && period <= 64 {
                assert!(bytes.unwrap() < 110 + 2 * period, "{period}: {bytes:?}");
            }
        }
    }
}

#[test]
fn noise_among_noise_does_not_grow_a_long_page() {
    let mut random = Random(8);
    let mut encoder = Encoder::new();
    // Every other chunk looks as if it could be compressed, and cannot: its samples are even, the rest is not.
    let mut page: Vec<u8> = (0..65536).map(|_| random.next() as u8).collect();
    page[..4096].fill(1);
    for chunk in page.chunks_exact_mut(4096).skip(1).step_by(2) {
        for sample in chunk.chunks_exact_mut(512) {
            sample[..32].fill(0);
        }
    }
    let bytes = round_trip(&mut encoder, &page).unwrap();
    assert!(bytes < 15 * 4096 + 300, "{bytes}");
}

#[test]
fn arrays_with_counters_and_pointers_are_short() {
    let mut encoder = Encoder::new();
    for stride in [3, 4, 8, 12, 24, 56, 64, 96, 192] {
        let mut page = vec![0; 4096];
        for (index, item) in (0_u64..).zip(page.chunks_mut(stride)) {
            let number = (0xffff_8880_0000_1000 + 0x40 * index).to_le_bytes();
            let len = item.len().min(8);
            item[..len].copy_from_slice(&number[..len]);
        }
        let bytes = round_trip(&mut encoder, &page).unwrap();
        assert!(bytes < 200 + 2 * 4096 / stride, "{stride}: {bytes}");
    }
}

#[test]
fn one_value_among_others_and_all_pairs_inflate_to_what_they_were() {
    let mut encoder = Encoder::new();
    for value in 0..=255_u8 {
        assert!(round_trip(&mut encoder, &[value; 4096]).unwrap() < 64);
        let mut page = vec![value; 4096];
        page[usize::from(value) * 16] ^= 0x55;
        page[4095] ^= value;
        assert!(round_trip(&mut encoder, &page).unwrap() < 96);
        // Ramps: every value, at every step.
        let page: Vec<u8> = (0..4096_usize)
            .map(|at| (at * usize::from(value) / 16) as u8)
            .collect();
        round_trip(&mut encoder, &page);
    }
    // A chunk in which no three bytes come twice: no matches, and so no distances.
    let page: Vec<u8> = (0..=255_u8)
        .flat_map(|a| (0..8).flat_map(move |b| [a, b * 32]))
        .collect();
    round_trip(&mut encoder, &page).unwrap();
}

#[test]
fn gaps_of_every_length_between_symbols_inflate_to_what_they_were() {
    let mut encoder = Encoder::new();
    let mut random = Random(11);
    // Two or three values in no order: each length of a gap before, between and behind them, also such as one symbol of the code
    // for lengths cannot say.
    for first in [0, 1, 2, 3, 11, 100] {
        for second in first + 1..=255_u8 {
            let values = [first, second, 255];
            let page: Vec<u8> = (0..4096).map(|_| values[random.below(3)]).collect();
            assert!(round_trip(&mut encoder, &page).is_some(), "{values:?}");
        }
    }
}

#[test]
fn skewed_counts_keep_within_the_longest_word() {
    let mut encoder = Encoder::new();
    let mut random = Random(5);
    for len in [100, 1000, 4095, 4096, 8192] {
        let mut page = fibonacci(len);
        round_trip(&mut encoder, &page).unwrap();
        // Without matches, so that the counts come through.
        for at in (1..len).rev() {
            page.swap(at, random.below(at + 1));
        }
        round_trip(&mut encoder, &page).unwrap();
    }
}

#[test]
fn random_pages_of_many_kinds_inflate_to_what_they_were() {
    let mut random = Random(6);
    let mut encoder = Encoder::new();
    for _ in 0..PAGES {
        let values = 1 + random.below(256);
        let skew = 1 + random.below(6);
        let len = [4096, 1 + random.below(4096)][random.below(4) / 3];
        let mut page: Vec<u8> = (0..len)
            .map(|_| (0..skew).map(|_| random.below(values)).min().unwrap_or(0) as u8)
            .collect();
        // Kernel memory: repetitions, near and far, of any length, and runs of zeros.
        for _ in 0..random.below(200) {
            let longest = [4, 40, 700][random.below(3)];
            let count = 1 + random.below(longest);
            let (from, to) = (random.below(len), random.below(len));
            let count = count.min(len - from.max(to));
            if random.below(3) == 0 {
                page[to..to + count].fill(0);
            } else {
                page.copy_within(from..from + count, to);
            }
        }
        round_trip(&mut encoder, &page);
    }
}

#[test]
fn pages_are_independent_of_what_came_before() {
    let mut random = Random(7);
    let mut used = Encoder::new();
    for _ in 0..PAGES.min(500) {
        let page: Vec<u8> = (0..4096).map(|_| random.below(30) as u8).collect();
        let (mut first, mut second) = ([0; 4200], [0; 4200]);
        let expected = Encoder::new().compress(&page, &mut first);
        assert_eq!(used.compress(&page, &mut second), expected);
        assert!(first[..expected.unwrap()] == second[..expected.unwrap()]);
    }
}

#[test]
fn a_stream_that_does_not_fit_is_given_up() {
    let mut encoder = Encoder::new();
    let page = fibonacci(4096);
    let needed = round_trip(&mut encoder, &page).unwrap();
    assert_eq!(encoder.compress(&page, &mut vec![0; needed]), Some(needed));
    for room in 0..needed {
        assert_eq!(encoder.compress(&page, &mut vec![0; room]), None, "{room}");
    }
}

#[test]
fn the_programs_of_this_machine_inflate_to_what_they_were() {
    let mut encoder = Encoder::new();
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let step = if cfg!(debug_assertions) { 40 } else { 1 };
    let (mut before, mut after) = (0, 0);
    for page in program.chunks(4096).step_by(step) {
        before += page.len();
        after += round_trip(&mut encoder, page).unwrap_or(page.len());
    }
    assert!(
        before > 100_000 && after * 10 < before * 7,
        "{before} {after}"
    );
}
