// SPDX-License-Identifier: MIT OR Apache-2.0
//! The alphabets of RFC 1951 section 3.2.5: which symbol and how many extra bits say a length or a distance. The value
//! of the extra bits is always the lowest bits of the length less 3 or of the distance less 1.

/// Literals, the end of the block, lengths.
pub(super) const LITERALS: usize = 286;
/// Distances.
pub(super) const DISTANCES: usize = 30;
/// The symbol that ends a block.
pub(super) const END: usize = 256;
/// The symbol of the shortest length.
pub(super) const FIRST_LENGTH: usize = 257;

/// The symbols of all lengths less 3, counted from [`FIRST_LENGTH`].
pub(super) static LENGTH: [u8; 256] = {
    let mut symbols = [0; 256];
    let mut over = 0;
    while over < 256 {
        symbols[over] = match over {
            0..8 => over as u8,
            255 => 28,
            _ => {
                // Four symbols for each doubling.
                let extra_bits = over.ilog2() - 2;
                ((extra_bits << 2) + (over >> extra_bits) as u32) as u8
            }
        };
        over += 1;
    }
    symbols
};

/// The extra bits of a length's symbol.
#[inline(always)]
pub(super) const fn length_extra_bits(symbol: u32) -> u32 {
    match symbol {
        0..8 | 28.. => 0,
        _ => (symbol >> 2) - 1,
    }
}

/// The symbol of a distance less 1, and the value of its extra bits.
#[inline(always)]
pub(super) const fn distance(over: u32) -> (u32, u32) {
    if over < 2 {
        return (over, 0);
    }
    // Two symbols for each doubling.
    let extra_bits = over.ilog2() - 1;
    let first_bits = over >> extra_bits;
    (
        2 * extra_bits + first_bits,
        over - (first_bits << extra_bits),
    )
}

/// The extra bits of a distance's symbol.
#[inline(always)]
pub(super) const fn distance_extra_bits(symbol: u32) -> u32 {
    (symbol >> 1).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_stand_where_the_table_of_the_rfc_has_them() {
        // First lengths of the symbols 257 to 285.
        let first = [
            3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99,
            115, 131, 163, 195, 227, 258,
        ];
        for value in 3..=258_u32 {
            let index = first.iter().rposition(|&first| first <= value).unwrap();
            let symbol = u32::from(LENGTH[value as usize - 3]);
            assert_eq!(symbol, index as u32);
            let extra_bits = length_extra_bits(symbol);
            let extra = (value - 3) & ((1 << extra_bits) - 1);
            assert_eq!(extra, value - first[index]);
            if index < 27 {
                assert_eq!(1 << extra_bits, first[index + 1] - first[index]);
            }
        }
        assert_eq!((length_extra_bits(27), length_extra_bits(28)), (5, 0));
    }

    #[test]
    fn distances_stand_where_the_table_of_the_rfc_has_them() {
        let first = [
            1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025,
            1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
        ];
        for value in 1..=32768_u32 {
            let index = first.iter().rposition(|&first| first <= value).unwrap();
            let (symbol, extra) = distance(value - 1);
            assert_eq!(symbol, index as u32);
            let extra_bits = distance_extra_bits(symbol);
            assert!(extra < 1 << extra_bits);
            assert_eq!(extra, value - first[index]);
            if index < 29 {
                assert_eq!(1 << extra_bits, first[index + 1] - first[index]);
            }
        }
    }
}
