// SPDX-License-Identifier: MIT OR Apache-2.0
//! What holds for each encoder and decoder: their streams in a decoder that is not ours, the streams of an encoder that is
//! not ours in our decoder, and both with what is no stream at all.

use super::samples::{PAGES, Random, hard};

/// Our encoder, as [`Codec::compress`](super::Codec::compress) has it.
pub(super) type Encode<'m> = Box<dyn FnMut(&[u8], &mut [u8]) -> Option<usize> + 'm>;

/// Encoders and decoders of one format, ours and somebody else's.
pub(super) trait Format: Default {
    /// What our encoder works in.
    const MEMORY_BYTES: usize;
    /// How much more room than the stream's our encoder may want.
    const MOST_SPARE_BYTES: usize = 32;

    /// Our encoder; none in too little memory.
    fn encoder(memory: &mut [u8]) -> Option<Encode<'_>>;

    /// Our decoder.
    fn decode(&mut self, stream: &[u8], page: &mut [u8]) -> Option<()>;

    /// Somebody else's, with how much it read.
    fn decode_elsewhere(stream: &[u8], page: &mut [u8]) -> Option<usize>;

    /// Whether so many zeros can be made shorter, and whether they need not be.
    fn zeros(len: usize) -> (bool, bool);

    /// Whether our decoder read a damaged stream as it should, given what the other one made of it.
    fn damage_is_told(ours: Option<&[u8]>, other: Option<&[u8]>) -> bool;
}

/// One format's memory and room.
pub(super) struct Bench<F> {
    pub(super) format: F,
    memory: Vec<u8>,
    out: Vec<u8>,
}

impl<F: Format> Bench<F> {
    pub(super) fn new() -> Self {
        Self {
            format: F::default(),
            memory: vec![0x55; F::MEMORY_BYTES],
            out: vec![0xaa; 65536 + F::MOST_SPARE_BYTES],
        }
    }

    /// Encodes `page`; where that made it shorter, both decoders get the page back from it.
    pub(super) fn round_trip(&mut self, page: &[u8]) -> Option<&[u8]> {
        let bytes = F::encoder(&mut self.memory).unwrap()(page, &mut self.out)?;
        assert!(bytes < page.len());
        let stream = &self.out[..bytes];
        let mut back = vec![0; page.len() + 1];
        assert_eq!(F::decode_elsewhere(stream, &mut back), Some(page.len()));
        assert!(back[..page.len()] == *page);
        back.fill(0);
        let done = self.format.decode(stream, &mut back[..page.len()]);
        assert_eq!(done, Some(()));
        assert!(back[..page.len()] == *page);
        Some(stream)
    }
}

pub(super) fn every_length_and_every_hard_page_comes_back<F: Format>() {
    let mut bench = Bench::<F>::new();
    let mut random = Random(7);
    let text = random.text(4200, 3);
    for len in 0..4200 {
        if cfg!(debug_assertions) && len > 600 && len % 97 != 0 {
            continue;
        }
        let shorter = bench.round_trip(&text[..len]).is_some();
        assert!(shorter || len < 600, "{len}");
        let (may, need_not) = F::zeros(len);
        let shorter = bench.round_trip(&vec![0; len]).is_some();
        assert!(if shorter { may } else { need_not }, "{len}");
    }
    for len in [4096, 16384, 65536] {
        for page in hard(len) {
            bench.round_trip(&page);
        }
    }
}

pub(super) fn random_pages_come_back<F: Format>() {
    let mut bench = Bench::<F>::new();
    let mut random = Random(8);
    let mut shorter = 0;
    for count in 0..PAGES {
        let len = if count % 50 == 0 { 65536 } else { 4096 };
        let page = random.page(len);
        shorter += usize::from(bench.round_trip(&page).is_some());
    }
    assert!(shorter > PAGES / 2, "{shorter}");
}

pub(super) fn what_was_in_memory_before_makes_no_difference<F: Format>() {
    let mut random = Random(9);
    for _ in 0..20 {
        let page = random.page(4096);
        let first = Bench::<F>::new().round_trip(&page).map(<[u8]>::to_vec);
        let mut bench = Bench::<F>::new();
        bench.round_trip(&random.page(65536));
        assert_eq!(bench.round_trip(&page), first.as_deref());
    }
}

pub(super) fn too_little_room_is_no_stream<F: Format>() {
    let page = Random(10).text(4096, 3);
    let mut memory = vec![0; F::MEMORY_BYTES];
    assert!(F::encoder(&mut memory[1..]).is_none());
    let mut encode = F::encoder(&mut memory).unwrap();
    let mut out = vec![0; 5000];
    let bytes = encode(&page, &mut out).unwrap();
    for room in 0..bytes + F::MOST_SPARE_BYTES {
        let found = encode(&page, &mut out[..room]);
        assert!(
            found.is_none_or(|found| found == bytes && room >= bytes),
            "{room}"
        );
    }
    assert_eq!(encode(&vec![0; 65537], &mut vec![0; 70_000]), None);
}

pub(super) fn damaged_streams_are_no_pages_and_nothing_worse<F: Format>() {
    let mut bench = Bench::<F>::new();
    let mut random = Random(12);
    let mut page = vec![0; 4096];
    for _ in 0..PAGES / 100 {
        let source = random.page(4096);
        let Some(stream) = bench.round_trip(&source) else {
            continue;
        };
        let mut stream = stream.to_vec();
        for len in 0..stream.len() {
            assert_eq!(bench.format.decode(&stream[..len], &mut page), None);
        }
        for at in 0..stream.len().min(600) {
            let byte = stream[at];
            stream[at] ^= 1 << random.below(8);
            let ours = bench.format.decode(&stream, &mut page);
            let mut back = vec![0; 4096];
            let other = F::decode_elsewhere(&stream, &mut back);
            let told = F::damage_is_told(
                ours.map(|()| &page[..]),
                other.and_then(|length| back.get(..length)),
            );
            assert!(told, "{at}");
            stream[at] = byte;
        }
    }
    for _ in 0..PAGES * 3 {
        let len = random.below(60);
        let noise: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        let len = random.below(300);
        let _ = bench.format.decode(&noise, &mut page[..len]);
    }
}

/// The tests of one format.
macro_rules! holds_for {
    ($format:ty: $($test:ident)*) => {$(
        #[test]
        fn $test() {
            crate::codec::round_trip::$test::<$format>();
        }
    )*};
    ($format:ty) => {
        crate::codec::round_trip::holds_for!($format:
            every_length_and_every_hard_page_comes_back
            random_pages_come_back
            what_was_in_memory_before_makes_no_difference
            too_little_room_is_no_stream
            damaged_streams_are_no_pages_and_nothing_worse
        );
    };
}
pub(super) use holds_for;
