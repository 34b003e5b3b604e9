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
        let length = snap::raw::Decoder::new().decompress(stream, &mut back);
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
        assert_eq!(bench.round_trip(&vec![0; len]).is_some(), len > 5, "{len}");
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
        let stream = snap::raw::Encoder::new().compress_vec(&page).unwrap();
        let mut back = vec![0; page.len()];
        assert_eq!(decompress(&stream, &mut back), Some(()));
        assert!(back == page);
    }
}

/// Elements by hand: each one's distances, lengths and literals.
#[test]
fn elements_are_read_as_they_are_described() {
    let read = |stream: &[u8], len: usize| {
        let mut page = vec![0; len];
        decompress(stream, &mut page).map(|()| page)
    };
    let some = |text: &str| Some(text.as_bytes().to_vec());
    assert_eq!(read(b"\x04\x0cabcd", 4), some("abcd"));
    // A copy of 4 at 2; of 11 at 1; of 3 at 4 in two bytes, of 5 at 3 in four.
    assert_eq!(read(b"\x08\x0cabcd\x01\x02", 8), some("abcdcdcd"));
    assert_eq!(read(b"\x0f\x0cabcd\x1d\x01", 15), some("abcdddddddddddd"));
    assert_eq!(read(b"\x07\x0cabcd\x0a\x04\0", 7), some("abcdabc"));
    assert_eq!(read(b"\x09\x0cabcd\x13\x03\0\0\0", 9), some("abcdbcdbc"));
    // Literals whose number takes one to four bytes.
    let many = "z".repeat(300);
    for (head, len) in [
        (&b"\xf0\x3b"[..], 60),
        (b"\xf0\xff", 256),
        (b"\xf4\x2b\x01", 300),
        (b"\xf8\x2b\x01\0", 300),
        (b"\xfc\x2b\x01\0\0", 300),
    ] {
        let mut stream = if len < 128 {
            vec![len as u8]
        } else {
            vec![len as u8 | 128, (len >> 7) as u8]
        };
        stream.extend(head);
        stream.extend(&many.as_bytes()[..len]);
        assert_eq!(read(&stream, len), some(&many[..len]), "{head:?}");
    }
    // Nothing before the first byte, distance 0, too long, too short, something behind the end, no number at all.
    for stream in [
        &b"\x08\x0cabcd\x01\x05"[..],
        b"\x08\x0cabcd\x01\0",
        b"\x08\x0cabcd\x05\x02",
        b"\x08\x0cabcd",
        b"\x08\x0cabcd\x01\x02\0",
        b"\xff\xff\xff\xff\xff\xff",
        b"\x88\x80\x80\x80\x80\0\x0cabcd\x01\x02",
        b"",
    ] {
        assert_eq!(read(stream, 8), None, "{stream:?}");
    }
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
            let mut back = vec![0; 4096];
            let other = snap::raw::Decoder::new().decompress(&stream, &mut back);
            assert_eq!(ours, other == Ok(4096), "{at}");
            assert!(!ours || back == page);
            stream[at] = byte;
        }
    }
    for _ in 0..PAGES * 3 {
        let len = random.below(60);
        let noise: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        let len = random.below(300);
        let _ = decompress(&noise, &mut page[..len]);
    }
}
