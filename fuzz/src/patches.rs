// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes as changes to a sound file: where, how many, what.

use collector::{IoError, Source};

/// A sound file, and the parts of it that are worth changing.
pub(crate) struct Base {
    pub(crate) bytes: Vec<u8>,
    /// Offsets from and up to.
    pub(crate) parts: Vec<(usize, usize)>,
}

/// A change: four bytes for the place, one for the length, then that many (at most 16).
const LONGEST: usize = 16;

impl Base {
    /// Everything is worth changing.
    pub(crate) fn whole(bytes: Vec<u8>) -> Self {
        let parts = vec![(0, bytes.len())];
        Self { bytes, parts }
    }

    /// Where the byte is that has this number among those of the parts, whatever the number.
    fn place(&self, number: u32) -> usize {
        let all: usize = self.parts.iter().map(|(from, to)| to - from).sum();
        let mut number = number as usize % all.max(1);
        for (from, to) in &self.parts {
            match number.checked_sub(to - from) {
                None => return from + number,
                Some(left) => number = left,
            }
        }
        0
    }

    /// The file with the changes that these bytes say.
    pub(crate) fn changed(&self, mut data: &[u8]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        while let Some((head, rest)) = data.split_first_chunk::<5>() {
            let [number @ .., length] = *head;
            let at = self.place(u32::from_le_bytes(number));
            let length = (usize::from(length) % LONGEST + 1)
                .min(rest.len())
                .min(bytes.len() - at);
            let (change, rest) = rest.split_at(length);
            bytes[at..at + length].copy_from_slice(change);
            data = rest;
        }
        bytes
    }

    /// Changes to begin with: none, one with each of a few values at a few places, some at once.
    pub(crate) fn seeds(&self) -> Vec<Vec<u8>> {
        let all: usize = self.parts.iter().map(|(from, to)| to - from).sum();
        let mut seeds = vec![Vec::new()];
        let values = [
            0_u64,
            1,
            u64::MAX,
            0x7fff_ffff_ffff_f000,
            0xffff_8880_0000_0000,
        ];
        let mut many = Vec::new();
        for (index, value) in (0..64).zip(values.iter().cycle()) {
            let place = (all / 64 * index) as u32 / 8 * 8;
            let mut seed = place.to_le_bytes().to_vec();
            seed.push(7);
            seed.extend(value.to_le_bytes());
            if index % 4 == 0 {
                seeds.push(seed.clone());
            }
            many.extend(seed);
        }
        seeds.push(many);
        seeds
    }
}

/// A file in memory.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Source for Bytes<'_> {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        let start = usize::try_from(offset).map_err(|_| IoError::END)?;
        let end = start.checked_add(buf.len()).ok_or(IoError::END)?;
        buf.copy_from_slice(self.0.get(start..end).ok_or(IoError::END)?);
        Ok(())
    }
}
