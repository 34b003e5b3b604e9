// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages for the encoders' and decoders' tests, the same on every run.

/// xorshift64*.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit.max(1)
    }

    /// Bytes of so many values, and now and then a repetition.
    pub(super) fn text(&mut self, len: usize, values: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len)
            .map(|_| (self.below(values) as u8).wrapping_mul(3))
            .collect();
        for _ in 0..len / 64 {
            let run = self.below(200).min(len);
            let (from, to) = (self.below(len - run + 1), self.below(len - run + 1));
            bytes.copy_within(from..from + run, to);
        }
        bytes
    }

    /// What kernel memory looks like: pointers and small numbers in structures that repeat with differences.
    fn structures(&mut self, len: usize) -> Vec<u8> {
        let size = 8 << self.below(6);
        let base = 0xffff_8880_0000_0000 | self.next() >> 34 << 12;
        let mut bytes = Vec::with_capacity(len + 8);
        let fields: Vec<usize> = (0..size / 8).map(|_| self.below(5)).collect();
        while bytes.len() < len {
            let field = fields[bytes.len() % size / 8];
            let value = match field {
                0 => base + bytes.len() as u64,
                1 => base + self.below(1 << 20) as u64 * 8,
                2 => self.below(256) as u64,
                3 => self.next() >> self.below(64),
                _ => 0,
            };
            bytes.extend(value.to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// A page made of pieces of every kind: noise, one value, patterns, copies from nearby and from far away.
    fn patchwork(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let run = match self.below(4) {
                0 => self.below(8),
                1 => self.below(70),
                2 => self.below(600),
                _ => self.below(len),
            }
            .min(len - bytes.len());
            match self.below(4) {
                0 => bytes.extend((0..run).map(|_| self.next() as u8)),
                1 => bytes.extend(std::iter::repeat_n(self.next() as u8, run)),
                _ if bytes.is_empty() => {}
                _ => {
                    let from = match self.below(3) {
                        0 => bytes.len() - 1 - self.below(bytes.len().min(40)),
                        _ => self.below(bytes.len()),
                    };
                    for at in from..from + run {
                        bytes.push(bytes[at]);
                    }
                }
            }
        }
        bytes
    }

    /// A page of any kind.
    pub(super) fn page(&mut self, len: usize) -> Vec<u8> {
        match self.below(8) {
            0 => {
                let values = 1 << self.below(9);
                self.text(len, values)
            }
            1 | 2 => self.structures(len),
            3 => skewed(self, len),
            _ => self.patchwork(len),
        }
    }
}

/// Few values often and many rarely: what makes the codes of an entropy coder long.
fn skewed(random: &mut Random, len: usize) -> Vec<u8> {
    let most = 1 + random.below(12) as u32;
    (0..len)
        .map(|_| {
            let bits = random.next().trailing_zeros().min(most);
            (bits * 20 % 256) as u8 ^ (random.below(1 << bits.min(7)) as u8)
        })
        .collect()
}

/// Pages that are hard in some way, of this many bytes.
pub(super) fn hard(len: usize) -> Vec<Vec<u8>> {
    let mut random = Random(len as u64 + 1);
    let noise: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
    let mut pages = vec![vec![0; len], vec![0xcc; len], noise.clone()];
    // One pattern over and over, of many lengths.
    for period in [2, 3, 5, 7, 8, 15, 16, 17, 64, 255, 256, 257, 1000, len / 2] {
        pages.push(
            noise
                .iter()
                .copied()
                .take(period.max(1))
                .collect::<Vec<u8>>()
                .into_iter()
                .cycle()
                .take(len)
                .collect(),
        );
    }
    // Noise with a single repetition in it, at every distance that a format treats differently, and of every length.
    for distance in [
        1, 4, 2047, 2048, 2049, 3072, 16383, 16384, 16385, 32767, 32768, 49151, 49152,
    ] {
        for length in [
            3, 4, 5, 8, 9, 11, 12, 33, 34, 60, 64, 65, 68, 258, 288, 289, 600,
        ] {
            if distance + length < len {
                let mut page = noise.clone();
                let at = len - length - random.below(len - length - distance + 1);
                for place in at..at + length {
                    page[place] = page[place - distance];
                }
                pages.push(page);
            }
        }
    }
    // Zeros with a run of noise: every length of literals that a format treats differently.
    for literals in [
        1, 2, 3, 4, 5, 15, 16, 17, 18, 19, 20, 59, 60, 61, 62, 237, 238, 239, 255, 256, 257, 273,
        274, 528, 529, 4000,
    ] {
        for at in [0, 7, len / 2, len.saturating_sub(literals)] {
            if at + literals <= len {
                let mut page = vec![0; len];
                page[at..at + literals].copy_from_slice(&noise[at..at + literals]);
                pages.push(page);
            }
        }
    }
    pages
}

/// How many random pages a test tries: a release build has the time for more.
pub(super) const PAGES: usize = if cfg!(debug_assertions) { 300 } else { 30_000 };
