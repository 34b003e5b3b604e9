// SPDX-License-Identifier: MIT OR Apache-2.0
//! Base64 as a header has it: no padding, and one way only to write what is meant.
//!
//! Source: RFC 4648 sections 3.2, 3.5 and 4.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Decodes `text` into `out`, which it must fit, and returns the bytes.
pub(crate) fn decode<'o>(text: &[u8], out: &'o mut [u8]) -> Option<&'o [u8]> {
    let (mut bits, mut count, mut used) = (0_u32, 0_u32, 0_usize);
    for letter in text {
        let digit = DIGITS.iter().position(|digit| digit == letter)?;
        bits = (bits << 6) | u32::try_from(digit).ok()?;
        count = count.saturating_add(6);
        if count >= 8 {
            count = count.saturating_sub(8);
            let [.., byte] = (bits >> count).to_be_bytes();
            *out.get_mut(used)? = byte;
            used = used.saturating_add(1);
        }
    }
    // A letter that ends in the middle of no byte, or bits that mean nothing.
    let rest = bits & (1_u32 << count).wrapping_sub(1);
    if count >= 6 || rest != 0 {
        return None;
    }
    out.get(..used)
}

/// The 32 bytes that `text` stands for.
pub(crate) fn decode_32(text: &[u8]) -> Option<[u8; 32]> {
    decode(text, &mut [0; 32])?.try_into().ok()
}

/// The letters for `bytes`.
pub(crate) fn encode(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    bytes.chunks(3).flat_map(|chunk| {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        [18, 12, 6, 0]
            .into_iter()
            .take(chunk.len().saturating_add(1))
            .filter_map(move |shift| {
                let digit = usize::try_from((bits >> shift) & 63).ok()?;
                DIGITS.get(digit).copied()
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_of_the_rfc_go_there_and_back() {
        // RFC 4648 section 10, without the padding.
        for (plain, text) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("fooba", "Zm9vYmE"),
            ("foobar", "Zm9vYmFy"),
        ] {
            let encoded: Vec<u8> = encode(plain.as_bytes()).collect();
            assert_eq!(encoded, text.as_bytes());
            let mut out = [0; 8];
            assert_eq!(decode(text.as_bytes(), &mut out), Some(plain.as_bytes()));
        }
    }

    #[test]
    fn there_is_one_way_to_write_it() {
        for wrong in ["Z", "Zg==", "Zh", "Zm9", "Zm8\n", "Zm 8", "Zm9vY", "Zm8-"] {
            assert_eq!(decode(wrong.as_bytes(), &mut [0; 8]), None, "{wrong}");
        }
        assert_eq!(decode(b"Zm9vYmFy", &mut [0; 5]), None, "too long");
    }
}
