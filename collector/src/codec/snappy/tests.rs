// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snappy beside the crate `snap`, and elements by hand.

use super::super::round_trip::{Encode, Format, holds_for};
use super::super::samples::{PAGES, Random, hard};
use super::*;

#[derive(Default)]
struct Snappy;

impl Format for Snappy {
    const MEMORY_BYTES: usize = Encoder::MEMORY_BYTES;

    fn encoder(memory: &mut [u8]) -> Option<Encode<'_>> {
        let mut encoder = Encoder::new(memory)?;
        Some(Box::new(move |page, out| encoder.compress(page, out)))
    }

    fn decode(&mut self, stream: &[u8], page: &mut [u8]) -> Option<()> {
        decompress(stream, page)
    }

    fn decode_elsewhere(stream: &[u8], page: &mut [u8]) -> Option<usize> {
        snap::raw::Decoder::new().decompress(stream, page).ok()
    }

    fn zeros(len: usize) -> (bool, bool) {
        (len > 5, len <= 5)
    }

    fn damage_is_told(ours: Option<&[u8]>, other: Option<&[u8]>) -> bool {
        ours == other.filter(|page| page.len() == 4096)
    }
}

holds_for!(Snappy);

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
