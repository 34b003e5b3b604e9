// SPDX-License-Identifier: MIT OR Apache-2.0
//! zstd beside the C library and ruzstd.

use super::super::round_trip::{Bench, Encode, Format, holds_for};
use super::super::samples::{PAGES, Random, hard};
use super::*;
use std::io::Read as _;

#[derive(Default)]
struct Zstd(Decoder);

impl Format for Zstd {
    const MEMORY_BYTES: usize = Encoder::MEMORY_BYTES;
    const MOST_SPARE_BYTES: usize = 300;

    fn encoder(memory: &mut [u8]) -> Option<Encode<'_>> {
        let mut encoder = Encoder::new(memory)?;
        Some(Box::new(move |page, out| encoder.compress(page, out)))
    }

    fn decode(&mut self, stream: &[u8], page: &mut [u8]) -> Option<()> {
        self.0.decompress(stream, page)
    }

    fn decode_elsewhere(stream: &[u8], page: &mut [u8]) -> Option<usize> {
        zstd_safe::decompress(page, stream).ok()
    }

    fn zeros(len: usize) -> (bool, bool) {
        (true, len < 30)
    }

    /// The C library is not as strict at the end of a stream. What both read, they read alike.
    fn damage_is_told(ours: Option<&[u8]>, other: Option<&[u8]>) -> bool {
        match (ours, other) {
            (Some(ours), Some(other)) => other.len() != 4096 || ours == other,
            _ => true,
        }
    }
}

holds_for!(Zstd);

#[test]
fn pages_come_back_from_a_third_decoder() {
    let mut bench = Bench::<Zstd>::new();
    let mut random = Random(7);
    let text = random.text(4200, 3);
    let mut pages: Vec<_> = (1..4200)
        .step_by(77)
        .map(|len| text[..len].to_vec())
        .collect();
    pages.extend(hard(4096));
    pages.extend((0..PAGES / 20).map(|_| random.page(4096)));
    for page in pages {
        let Some(stream) = bench.round_trip(&page) else {
            continue;
        };
        let mut decoder = ruzstd::decoding::StreamingDecoder::new(stream).unwrap();
        let mut other = Vec::new();
        decoder.read_to_end(&mut other).unwrap();
        assert!(other == page);
    }
}

#[test]
fn frames_of_noise_are_nothing_worse() {
    let mut random = Random(14);
    let mut page = vec![0; 255];
    let mut decoder = Decoder::new();
    for _ in 0..PAGES * 3 {
        let len = random.below(60);
        let noise: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        let len = random.below(300);
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, len as u8, 5, 2, 0];
        frame.extend(noise);
        let _ = decoder.decompress(&frame, &mut page[..len & 255]);
    }
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
