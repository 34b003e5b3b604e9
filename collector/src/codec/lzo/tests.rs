// SPDX-License-Identifier: MIT OR Apache-2.0
//! LZO beside lzokay, and instructions by hand.

use super::super::round_trip::{Encode, Format, holds_for};
use super::super::samples::{PAGES, Random, hard};
use super::*;

#[derive(Default)]
struct Lzo;

impl Format for Lzo {
    const MEMORY_BYTES: usize = Encoder::MEMORY_BYTES;

    fn encoder(memory: &mut [u8]) -> Option<Encode<'_>> {
        let mut encoder = Encoder::new(memory)?;
        Some(Box::new(move |page, out| encoder.compress(page, out)))
    }

    fn decode(&mut self, stream: &[u8], page: &mut [u8]) -> Option<()> {
        decompress(stream, page)
    }

    fn decode_elsewhere(stream: &[u8], page: &mut [u8]) -> Option<usize> {
        lzokay::decompress::decompress(stream, page).ok()
    }

    fn zeros(len: usize) -> (bool, bool) {
        (len > 7, len <= 7)
    }

    /// The other decoder does not mind bytes behind the end.
    fn damage_is_told(ours: Option<&[u8]>, other: Option<&[u8]>) -> bool {
        ours.is_none() || ours == other
    }
}

holds_for!(Lzo);

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
fn a_length_that_goes_on_for_longer_than_memory_is_none() {
    let mut endless = vec![0; 1 << 20];
    endless[0] = 0x15;
    endless[5] = 0x20;
    assert_eq!(decompress(&endless, &mut [0; 4096]), None);
}
