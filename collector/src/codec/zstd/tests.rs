// SPDX-License-Identifier: MIT OR Apache-2.0
//! The encoder's streams in a decoder that is not ours, the streams of an encoder that is not ours in our decoder, and
//! both with what is no stream at all.

use super::super::samples::{PAGES, Random, hard};
use super::*;
use std::io::Read as _;

struct Bench {
    memory: Vec<u8>,
    out: Vec<u8>,
    decoder: Decoder,
}

impl Bench {
    fn new() -> Self {
        Self {
            memory: vec![0x55; Encoder::MEMORY_BYTES],
            out: vec![0xaa; 65536 + 256],
            decoder: Decoder::new(),
        }
    }

    /// Encodes `page`; where that made it shorter, both decoders get the page back from it.
    fn round_trip(&mut self, page: &[u8]) -> Option<&[u8]> {
        let mut encoder = Encoder::new(&mut self.memory).unwrap();
        let bytes = encoder.compress(page, &mut self.out)?;
        assert!(bytes < page.len());
        let stream = &self.out[..bytes];
        let mut back = vec![0; page.len() + 1];
        let length = zstd_safe::decompress(&mut back[..], stream);
        assert_eq!(length.map_err(zstd_safe::get_error_name), Ok(page.len()));
        assert!(back[..page.len()] == *page);
        if page.len() % 7 == 1 {
            let mut decoder = ruzstd::decoding::StreamingDecoder::new(stream).unwrap();
            let mut other = Vec::new();
            decoder.read_to_end(&mut other).unwrap();
            assert!(other == page);
        }
        back.fill(0);
        let done = self.decoder.decompress(stream, &mut back[..page.len()]);
        assert_eq!(done, Some(()));
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
        let zeros = bench.round_trip(&vec![0; len]).is_some();
        assert!(zeros || len < 30, "{len}");
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
    for room in 0..bytes + 300 {
        let found = encoder.compress(&page, &mut out[..room]);
        assert!(
            found.is_none_or(|found| found == bytes && room >= bytes),
            "{room}"
        );
    }
    assert_eq!(
        encoder.compress(&vec![0; 65537], &mut vec![0; 70_000]),
        None
    );
}

/// Every level has its own ways: fresh, predefined, repeated and single tables, codes of blocks before, few long matches.
#[test]
fn streams_of_the_c_library_are_read() {
    let mut random = Random(11);
    let mut pages = hard(4096);
    pages.extend((0..PAGES / 10).map(|_| random.page(4096)));
    pages.extend((0..8).map(|_| random.page(65536)));
    let mut decoder = Decoder::new();
    for (index, page) in pages.iter().enumerate() {
        let level = [-5, 1, 2, 3, 5, 8, 13, 16, 19, 22][index % 10];
        let mut stream = vec![0; page.len() + 1024];
        let bytes = zstd_safe::compress(&mut stream[..], page, level).unwrap();
        let mut back = vec![0; page.len()];
        let done = decoder.decompress(&stream[..bytes], &mut back);
        assert_eq!(done, Some(()), "level {level}, {} bytes", page.len());
        assert!(back == *page);
    }
}

#[test]
fn checksums_small_blocks_several_frames_and_skippable_ones_are_read() {
    use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, zstd_sys};
    let mut random = Random(13);
    for _ in 0..PAGES / 20 {
        let page = random.page(4096);
        let mut stream = vec![0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        for half in page.chunks(3000) {
            let mut context = CCtx::create();
            context
                .set_parameter(CParameter::ChecksumFlag(true))
                .unwrap();
            let mut room = vec![0; 8192];
            let mut out = OutBuffer::around(&mut room[..]);
            // Without a size in the header, and a block for every few bytes: tables and codes are used again.
            for part in half.chunks(400) {
                let mut input = InBuffer::around(part);
                let flush = zstd_sys::ZSTD_EndDirective::ZSTD_e_flush;
                while context
                    .compress_stream2(&mut out, &mut input, flush)
                    .unwrap()
                    > 0
                {}
            }
            let end = zstd_sys::ZSTD_EndDirective::ZSTD_e_end;
            let mut nothing = InBuffer::around(&[]);
            while context
                .compress_stream2(&mut out, &mut nothing, end)
                .unwrap()
                > 0
            {}
            let bytes = out.pos();
            stream.extend(&room[..bytes]);
        }
        let mut back = vec![0; 4096];
        assert_eq!(Decoder::new().decompress(&stream, &mut back), Some(()));
        assert!(back == page);
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
            let cut = bench.decoder.decompress(&stream[..len], &mut page);
            assert_eq!(cut, None);
        }
        for at in 0..stream.len().min(600) {
            let byte = stream[at];
            stream[at] ^= 1 << random.below(8);
            let ours = bench.decoder.decompress(&stream, &mut page).is_some();
            // The C library is not as strict at the end of a stream. What both read, they read alike.
            let mut back = vec![0; 4096];
            let other = zstd_safe::decompress(&mut back[..], &stream);
            assert!(!ours || other != Ok(4096) || back == page, "{at}");
            stream[at] = byte;
        }
    }
    for _ in 0..PAGES * 3 {
        let len = random.below(60);
        let noise: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        let len = random.below(300);
        let _ = bench.decoder.decompress(&noise, &mut page[..len]);
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, len as u8, 5, 2, 0];
        frame.extend(noise);
        let _ = bench.decoder.decompress(&frame, &mut page[..len & 255]);
    }
}
