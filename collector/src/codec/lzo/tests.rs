// SPDX-License-Identifier: MIT OR Apache-2.0
//! The encoder's streams in a decoder that is not ours, the streams of an encoder that is not ours in our decoder, and
//! both with what is no stream at all.

use super::super::samples::{PAGES, Random, hard};
use super::*;

struct Bench {
    memory: Vec<u8>,
    out: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        Self {
            memory: vec![0x55; Encoder::MEMORY_BYTES],
            out: vec![0xaa; 65536 + 32],
        }
    }

    /// Encodes `page`; where that made it shorter, both decoders get the page back from it.
    fn round_trip(&mut self, page: &[u8]) -> Option<&[u8]> {
        let mut encoder = Encoder::new(&mut self.memory).unwrap();
        let bytes = encoder.compress(page, &mut self.out)?;
        assert!(bytes < page.len());
        let stream = &self.out[..bytes];
        let mut back = vec![0; page.len() + 1];
        let length = lzokay::decompress::decompress(stream, &mut back);
        assert_eq!(length.ok(), Some(page.len()));
        assert!(back[..page.len()] == *page);
        back.fill(0);
        assert_eq!(decompress(stream, &mut back[..page.len()]), Some(()));
        assert!(back[..page.len()] == *page);
        Some(stream)
    }
}

#[test]
fn every_length_and_every_hard_page_comes_back() {
    let mut bench = Bench::new();
    let mut random = Random(7);
    let text = random.text(4200, 3);
    for len in 0..4200 {
        if cfg!(debug_assertions) && len > 600 && len % 97 != 0 {
            continue;
        }
        let shorter = bench.round_trip(&text[..len]).is_some();
        assert!(shorter || len < 600, "{len}");
        assert_eq!(bench.round_trip(&vec![0; len]).is_some(), len > 7, "{len}");
    }
    for len in [4096, 16384, 65536] {
        for page in hard(len) {
            bench.round_trip(&page);
        }
    }
}

#[test]
fn random_pages_come_back() {
    let mut bench = Bench::new();
    let mut random = Random(8);
    let mut shorter = 0;
    for count in 0..PAGES {
        let len = if count % 50 == 0 { 65536 } else { 4096 };
        let page = random.page(len);
        shorter += usize::from(bench.round_trip(&page).is_some());
    }
    assert!(shorter > PAGES / 2, "{shorter}");
}

#[test]
fn what_was_in_memory_before_makes_no_difference() {
    let mut random = Random(9);
    for _ in 0..20 {
        let page = random.page(4096);
        let first = Bench::new().round_trip(&page).map(<[u8]>::to_vec);
        let mut bench = Bench::new();
        bench.round_trip(&random.page(65536));
        assert_eq!(bench.round_trip(&page), first.as_deref());
    }
}

#[test]
fn too_little_room_is_no_stream() {
    let page = Random(10).text(4096, 3);
    let mut memory = vec![0; Encoder::MEMORY_BYTES];
    assert!(Encoder::new(&mut memory[1..]).is_none());
    let mut encoder = Encoder::new(&mut memory).unwrap();
    let mut out = vec![0; 5000];
    let bytes = encoder.compress(&page, &mut out).unwrap();
    for room in 0..bytes + 32 {
        let found = encoder.compress(&page, &mut out[..room]);
        assert!(found.is_none_or(|found| found == bytes && room >= bytes));
    }
    assert_eq!(
        encoder.compress(&vec![0; 65537], &mut vec![0; 70_000]),
        None
    );
}

#[test]
fn streams_of_another_encoder_are_read() {
    let mut random = Random(11);
    let mut pages = hard(4096);
    pages.extend((0..PAGES / 30).map(|_| random.page(4096)));
    pages.extend((0..4).map(|_| random.page(65536)));
    for page in pages {
        let stream = lzokay::compress::compress(&page).unwrap();
        let mut back = vec![0; page.len()];
        assert_eq!(decompress(&stream, &mut back), Some(()));
        assert!(back == page);
    }
}

/// Instructions by hand: each one's distances, lengths and literals.
#[test]
fn instructions_are_read_as_they_are_described() {
    let read = |stream: &[u8], len: usize| {
        let mut page = vec![0; len];
        decompress(stream, &mut page).map(|()| page)
    };
    let some = |text: &str| Some(text.as_bytes().to_vec());
    // Four literals; then two bytes from two before, as three or fewer literals were before them.
    assert_eq!(read(b"\x15abcd\x11\0\0", 4), some("abcd"));
    assert_eq!(read(b"\x13ab\x04\x00\x11\0\0", 4), some("abab"));
    // A match of 3 at 2 with a literal behind it, a match of 2 at 1 after that.
    assert_eq!(
        read(b"\x15abcd\x45\x00e\x00\x00\x11\0\0", 10),
        some("abcdcdceee")
    );
    // Ten bytes at distance 4 with the medium instruction, and 40 with a further byte for the length.
    assert_eq!(
        read(b"\x15abcd\x28\x0c\x00\x11\0\0", 14),
        some("abcdabcdabcdab")
    );
    let long = read(b"\x15abcd\x20\x07\x0c\x00\x11\0\0", 44);
    assert_eq!(long, some(&"abcd".repeat(11)));
    // Nothing before the first byte, no end, something behind the end, another length.
    assert_eq!(read(b"\x15abcd\x28\x10\x00\x11\0\0", 14), None);
    assert_eq!(read(b"\x15abcd", 4), None);
    assert_eq!(read(b"\x15abcd\x11\0\0\0", 4), None);
    assert_eq!(read(b"\x15abcd\x11\0\0", 5), None);
    assert_eq!(read(b"\x15abcd\x11\0\0", 3), None);
    assert_eq!(read(b"\x11\0\0", 0), Some(vec![]));
    assert_eq!(read(b"", 0), None);
}

#[test]
fn damaged_streams_are_no_pages_and_nothing_worse() {
    let mut bench = Bench::new();
    let mut random = Random(12);
    let mut page = vec![0; 4096];
    for _ in 0..PAGES / 100 {
        let source = random.page(4096);
        let Some(stream) = bench.round_trip(&source) else {
            continue;
        };
        let mut stream = stream.to_vec();
        for len in 0..stream.len() {
            assert_eq!(decompress(&stream[..len], &mut page), None);
        }
        for at in 0..stream.len().min(600) {
            let byte = stream[at];
            stream[at] ^= 1 << random.below(8);
            let ours = decompress(&stream, &mut page).is_some();
            // The other decoder does not mind bytes behind the end.
            let mut back = vec![0; 4096];
            let other = lzokay::decompress::decompress(&stream, &mut back);
            assert!(!ours || (other == Ok(4096) && back == page));
            stream[at] = byte;
        }
    }
    for _ in 0..PAGES * 3 {
        let len = random.below(60);
        let noise: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        let len = random.below(300);
        let _ = decompress(&noise, &mut page[..len]);
    }
    // A length that goes on for longer than memory.
    let mut endless = vec![0; 1 << 20];
    endless[0] = 0x15;
    endless[5] = 0x20;
    assert_eq!(decompress(&endless, &mut page), None);
}
