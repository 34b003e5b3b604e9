// SPDX-License-Identifier: MIT OR Apache-2.0
//! The alphabets of RFC 1951 section 3.2.5: which symbol and which extra bits say a length or a distance.

/// Literals, the end of the block, lengths.
pub(super) const LITERALS: usize = 286;
/// Distances.
pub(super) const DISTANCES: usize = 30;
/// The symbol that ends a block.
pub(super) const END: usize = 256;

/// A length from 3 to 258: its symbol, and how many bits follow with which value.
#[inline(always)]
pub(super) const fn length(length: u16) -> (usize, u32, u32) {
    let over = (length - 3) as u32;
    if over == 255 {
        return (285, 0, 0);
    }
    if over < 8 {
        return (257 + over as usize, 0, 0);
    }
    // Four symbols for each doubling.
    let extra_bits = over.ilog2() - 2;
    let symbol = 257 + (extra_bits << 2) + (over >> extra_bits);
    (symbol as usize, extra_bits, over & ((1 << extra_bits) - 1))
}

/// A distance from 1 to 32768: likewise.
#[inline(always)]
pub(super) const fn distance(distance: u16) -> (usize, u32, u32) {
    let over = (distance - 1) as u32;
    if over < 4 {
        return (over as usize, 0, 0);
    }
    // Two symbols for each doubling.
    let extra_bits = over.ilog2() - 1;
    let symbol = (extra_bits << 1) + (over >> extra_bits);
    (symbol as usize, extra_bits, over & ((1 << extra_bits) - 1))
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
        for value in 3..=258_u16 {
            let index = first.iter().rposition(|&first| first <= value).unwrap();
            let (symbol, extra_bits, extra) = length(value);
            assert_eq!(symbol, 257 + index);
            assert_eq!(extra, u32::from(value - first[index]));
            assert!(extra < 1 << extra_bits);
            if index < 27 {
                assert_eq!(1 << extra_bits, first[index + 1] - first[index]);
            }
        }
        assert_eq!(length(257), (284, 5, 30));
    }

    #[test]
    fn distances_stand_where_the_table_of_the_rfc_has_them() {
        let first = [
            1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025,
            1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
        ];
        for value in 1..=32768_u16 {
            let index = first.iter().rposition(|&first| first <= value).unwrap();
            let (symbol, extra_bits, extra) = distance(value);
            assert_eq!(symbol, index);
            assert_eq!(extra, u32::from(value - first[index]));
            assert!(extra < 1 << extra_bits);
        }
    }
}
