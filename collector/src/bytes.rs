// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers at offsets of a byte slice, in our order or in the crashed machine's; `None` where the slice ends before.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

/// How the crashed machine has numbers in memory: its byte order, and the size of `long` and of pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abi {
    /// Which byte of a number comes first.
    pub order: ByteOrder,
    /// How wide `long` and pointers are.
    pub word: Word,
}

/// Which byte of a number comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// The lowest: x86, arm64, riscv64, ppc64le.
    Little,
    /// The highest: s390x.
    Big,
}

/// How wide `long` and pointers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// i386.
    Bits32,
    /// All others.
    Bits64,
}

impl Abi {
    /// x86_64, arm64, riscv64, ppc64le.
    pub const LITTLE_64: Self = Self {
        order: ByteOrder::Little,
        word: Word::Bits64,
    };

    /// What this program is built for.
    pub(crate) const NATIVE: Self = Self {
        order: if cfg!(target_endian = "little") {
            ByteOrder::Little
        } else {
            ByteOrder::Big
        },
        word: if cfg!(target_pointer_width = "64") {
            Word::Bits64
        } else {
            Word::Bits32
        },
    };

    /// Bytes of `long` and of a pointer.
    #[must_use]
    pub const fn word_bytes(self) -> usize {
        match self.word {
            Word::Bits32 => 4,
            Word::Bits64 => 8,
        }
    }

    /// The number in a pointer's bits: what is left of a sum of addresses.
    #[must_use]
    pub const fn truncate(self, number: u64) -> u64 {
        match self.word {
            Word::Bits32 => number & 0xffff_ffff,
            Word::Bits64 => number,
        }
    }

    /// The 16-bit number at `offset`.
    pub(crate) fn u16_at(self, bytes: &[u8], offset: usize) -> Option<u16> {
        array_at(bytes, offset).map(match self.order {
            ByteOrder::Little => u16::from_le_bytes,
            ByteOrder::Big => u16::from_be_bytes,
        })
    }

    /// The 32-bit number at `offset`.
    pub(crate) fn u32_at(self, bytes: &[u8], offset: usize) -> Option<u32> {
        array_at(bytes, offset).map(match self.order {
            ByteOrder::Little => u32::from_le_bytes,
            ByteOrder::Big => u32::from_be_bytes,
        })
    }

    /// The 64-bit number at `offset`.
    pub(crate) fn u64_at(self, bytes: &[u8], offset: usize) -> Option<u64> {
        array_at(bytes, offset).map(match self.order {
            ByteOrder::Little => u64::from_le_bytes,
            ByteOrder::Big => u64::from_be_bytes,
        })
    }

    /// The `unsigned long` or pointer at `offset`.
    pub(crate) fn word_at(self, bytes: &[u8], offset: usize) -> Option<u64> {
        match self.word {
            Word::Bits32 => self.u32_at(bytes, offset).map(u64::from),
            Word::Bits64 => self.u64_at(bytes, offset),
        }
    }
}

/// The `N` bytes at `offset`.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk::<N>().copied()
}

/// The little-endian 64-bit number at `offset`.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    array_at(bytes, offset).map(u64::from_le_bytes)
}

/// The smaller of a length in memory and one in the file.
pub(crate) fn shorter(in_memory: usize, in_file: u64) -> usize {
    usize::try_from(in_file).map_or(in_memory, |in_file| in_memory.min(in_file))
}

/// Where the first zero is: the end of a C string. Eight bytes at a time, as there are megabytes of them.
pub(crate) fn first_zero(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut before = 0_usize;
    for word in words {
        let word = u64::from_le_bytes(*word);
        // The lowest top bit that is set is that of the first zero; those above it may be wrong.
        let zeros = word.wrapping_sub(ONES) & !word & TOPS;
        if zeros != 0 {
            let inside = usize::try_from(zeros.trailing_zeros() >> 3).ok()?;
            return before.checked_add(inside);
        }
        before = before.checked_add(8)?;
    }
    let inside = rest.iter().position(|&byte| byte == 0)?;
    before.checked_add(inside)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_machine_has_them() {
        let bytes = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99];
        let abi = |order, word| Abi { order, word };
        let little = abi(ByteOrder::Little, Word::Bits32);
        assert_eq!(little.u16_at(&bytes, 1), Some(0x3322));
        assert_eq!(little.word_at(&bytes, 1), Some(0x5544_3322));
        assert_eq!(little.truncate(0x1_c000_0000), 0xc000_0000);
        let big = abi(ByteOrder::Big, Word::Bits64);
        assert_eq!(big.u16_at(&bytes, 1), Some(0x2233));
        assert_eq!(big.u32_at(&bytes, 5), Some(0x6677_8899));
        assert_eq!(big.word_at(&bytes, 1), Some(0x2233_4455_6677_8899));
        assert_eq!(big.word_at(&bytes, 2), None);
        assert_eq!(
            Abi::LITTLE_64.u64_at(&bytes, 0),
            Some(0x8877_6655_4433_2211)
        );
    }

    #[test]
    fn the_first_zero_is_found_wherever_it_is() {
        for len in 0..40 {
            // What a zero is easily mistaken for.
            for other in [1, 0x80, 0x81, 0xff] {
                let mut bytes = [other; 40];
                let bytes = &mut bytes[..len];
                assert_eq!(first_zero(bytes), None);
                for place in (0..len).rev() {
                    bytes[place] = 0;
                    assert_eq!(first_zero(bytes), Some(place), "{len}");
                }
            }
        }
    }
}
