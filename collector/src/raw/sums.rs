// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checksums of a dumpfile that is not written in order: each byte counts for itself, so that what is written comes in and
//! what is written over goes out, wherever it is.
//!
//! For each range of the dumpfile there are two sums over its words of 32 bits, both modulo 2^64: of the words, and of the
//! words times their places, as in Fletcher's checksum. Up to 2 GiB a range no change of one word or two goes unseen.

use core::ops::Range;

/// How many ranges have sums of their own.
const RANGES: usize = 224;
/// No range is shorter, but for the last.
const LEAST_RANGE_BYTES: u64 = 64 << 10;
/// What the sums take on the device.
pub const SUMS_BYTES: usize = RANGES * SUM_BYTES;
const SUM_BYTES: usize = 16;
const WORD_BYTES: u64 = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    words: u64,
    by_place: u64,
}

/// The checksums of a dumpfile, zeros counting for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    range_bytes: u64,
    ranges: [Sum; RANGES],
}

/// What becomes of bytes.
#[derive(Clone, Copy)]
enum Change {
    In,
    Out,
}

impl Sums {
    /// Those of a dumpfile of nothing but zeros, which has at most `room_bytes`.
    #[must_use]
    pub fn new(room_bytes: u64) -> Self {
        let share = room_bytes.div_ceil(long(RANGES));
        Self {
            range_bytes: share
                .checked_next_power_of_two()
                .unwrap_or(1 << 63)
                .max(LEAST_RANGE_BYTES),
            ranges: [Sum::default(); RANGES],
        }
    }

    /// Takes note of `data` where zeros were.
    pub fn add(&mut self, offset: u64, data: &[u8]) {
        self.change(offset, data, Change::In);
    }

    /// Takes note that `data` are zeros now.
    pub fn remove(&mut self, offset: u64, data: &[u8]) {
        self.change(offset, data, Change::Out);
    }

    fn change(&mut self, mut offset: u64, mut data: &[u8], change: Change) {
        while !data.is_empty() {
            let inside = offset.checked_rem(self.range_bytes).unwrap_or(0);
            let left = usize::try_from(self.range_bytes.saturating_sub(inside));
            let (now, later) = data
                .split_at_checked(left.unwrap_or(usize::MAX))
                .unwrap_or((data, &[]));
            let number = offset.checked_div(self.range_bytes).unwrap_or(0);
            let sum = usize::try_from(number)
                .ok()
                .and_then(|number| self.ranges.get_mut(number));
            // What lies behind the room is no part of the dumpfile.
            let Some(sum) = sum else {
                return;
            };
            let new = sum_of(inside, now);
            *sum = match change {
                Change::In => Sum {
                    words: sum.words.wrapping_add(new.words),
                    by_place: sum.by_place.wrapping_add(new.by_place),
                },
                Change::Out => Sum {
                    words: sum.words.wrapping_sub(new.words),
                    by_place: sum.by_place.wrapping_sub(new.by_place),
                },
            };
            offset = offset.saturating_add(long(now.len()));
            data = later;
        }
    }

    /// As they lie on the device.
    #[must_use]
    pub fn encode(&self) -> [u8; SUMS_BYTES] {
        let mut bytes = [0; SUMS_BYTES];
        let values = self.ranges.iter().flat_map(|sum| [sum.words, sum.by_place]);
        for (place, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
            *place = value.to_le_bytes();
        }
        bytes
    }

    /// Those that [`Sums::encode`] made, for as much room.
    #[must_use]
    pub fn decode(room_bytes: u64, bytes: &[u8; SUMS_BYTES]) -> Self {
        let mut sums = Self::new(room_bytes);
        for (sum, bytes) in sums.ranges.iter_mut().zip(bytes.as_chunks::<SUM_BYTES>().0) {
            let (words, by_place) = bytes.split_at(SUM_BYTES / 2);
            let number =
                |bytes: &[u8]| u64::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default());
            (sum.words, sum.by_place) = (number(words), number(by_place));
        }
        sums
    }

    /// The ranges of the first `bytes` of the dumpfile in which it is not the `other` one. Neighbours come as one.
    pub fn differences(&self, other: &Self, bytes: u64) -> impl Iterator<Item = Range<u64>> {
        let starts = (0..).map(|number: u64| number.saturating_mul(self.range_bytes));
        let mut differing = starts
            .zip(self.ranges.iter().zip(&other.ranges))
            .take_while(move |(start, _)| *start < bytes)
            .filter(|(_, (one, other))| one != other)
            .map(move |(start, _)| start..start.saturating_add(self.range_bytes).min(bytes))
            .peekable();
        core::iter::from_fn(move || {
            let mut range = differing.next()?;
            while let Some(next) = differing.next_if(|next| next.start == range.end) {
                range.end = next.end;
            }
            Some(range)
        })
    }
}

/// The sums of `data`, which lie at `inside` of their range.
fn sum_of(inside: u64, data: &[u8]) -> Sum {
    let to_border = inside.next_multiple_of(WORD_BYTES).saturating_sub(inside);
    let to_border = usize::try_from(to_border).unwrap_or(0).min(data.len());
    let (front, rest) = data.split_at(to_border);
    let (words, behind) = rest.as_chunks::<4>();
    let first = place(inside.saturating_add(long(to_border)));
    let (mut plain, mut weighed) = (0_u64, 0_u64);
    for (number, word) in (0_u64..).zip(words) {
        let word = u64::from(u32::from_le_bytes(*word));
        plain = plain.wrapping_add(word);
        weighed = weighed.wrapping_add(word.wrapping_mul(number));
    }
    let mut sum = Sum {
        words: plain,
        by_place: weighed.wrapping_add(plain.wrapping_mul(first)),
    };
    let end = inside.saturating_add(long(data.len()));
    let starts = [inside, end.saturating_sub(long(behind.len()))];
    for (start, bytes) in starts.into_iter().zip([front, behind]) {
        for (at, byte) in (start..).zip(bytes) {
            let shift = at.checked_rem(WORD_BYTES).unwrap_or(0).saturating_mul(8);
            let word = u64::from(*byte) << shift;
            sum.words = sum.words.wrapping_add(word);
            sum.by_place = sum.by_place.wrapping_add(word.wrapping_mul(place(at)));
        }
    }
    sum
}

/// The place of the word that has this byte of a range, counted from 1.
fn place(inside: u64) -> u64 {
    inside
        .checked_div(WORD_BYTES)
        .unwrap_or(0)
        .saturating_add(1)
}

fn long(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: u64 = 1 << 20;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[5]
            })
            .collect()
    }

    fn of(bytes: &[u8]) -> Sums {
        let mut sums = Sums::new(ROOM);
        sums.add(0, bytes);
        sums
    }

    #[test]
    fn any_order_and_any_pieces_have_the_same_sums() {
        let bytes = noise(300_000);
        let whole = of(&bytes);
        for piece in [1, 3, 4, 7, 4096, 65_537] {
            let mut sums = Sums::new(ROOM);
            let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
            for (number, data) in pieces.iter().enumerate().rev() {
                sums.add((number * piece) as u64, data);
            }
            assert_eq!(sums, whole, "{piece}");
        }
        // A header that is written again.
        let mut sums = of(&bytes);
        sums.remove(1, &bytes[1..4100]);
        sums.add(1, &[0xa5; 4099]);
        let mut again = bytes;
        again[1..4100].fill(0xa5);
        assert_eq!(sums, of(&again));
    }

    #[test]
    fn what_differs_is_named_by_its_range() {
        let bytes = noise(300_000);
        let whole = of(&bytes);
        let changed = |change: &dyn Fn(&mut [u8])| {
            let mut bytes = bytes.clone();
            change(&mut bytes);
            let sums = of(&bytes);
            let ranges = whole.differences(&sums, 300_000);
            ranges
                .map(|range| (range.start, range.end))
                .collect::<Vec<_>>()
        };
        assert_eq!(changed(&|_| {}), []);
        for at in [0, 65_535] {
            for bit in 0..8 {
                assert_eq!(changed(&|bytes| bytes[at] ^= 1 << bit), [(0, 65_536)]);
            }
        }
        assert_eq!(changed(&|bytes| bytes[299_999] ^= 1), [(262_144, 300_000)]);
        let swapped = changed(&|bytes| bytes[131_072..131_080].rotate_left(4));
        assert_eq!(swapped, [(131_072, 196_608)]);
        let lost = changed(&|bytes| bytes[65_000..140_000].fill(0));
        assert_eq!(lost, [(0, 196_608)]);
        let apart = changed(&|bytes| {
            bytes[0] ^= 1;
            bytes[131_072] ^= 1;
        });
        assert_eq!(apart, [(0, 65_536), (131_072, 196_608)]);
        // The same bit of many words.
        let stuck = changed(&|bytes| {
            for byte in bytes.iter_mut().skip(3).step_by(64) {
                *byte |= 0x80;
            }
        });
        assert_eq!(stuck, [(0, 300_000)]);
    }

    #[test]
    fn ranges_cover_any_room_and_read_back() {
        for room in [0, 1, 4096, 1 << 20, (1 << 40) + 4096, u64::MAX] {
            let mut sums = Sums::new(room);
            assert!(sums.range_bytes.saturating_mul(RANGES as u64) >= room);
            sums.add(room.saturating_sub(8), b"the end of it");
            assert_eq!(Sums::decode(room, &sums.encode()), sums, "{room}");
        }
    }
}
