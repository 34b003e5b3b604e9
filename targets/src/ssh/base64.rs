// SPDX-License-Identifier: MIT OR Apache-2.0
//! Base64 as key files, known_hosts and fingerprints have it.
//!
//! Source: RFC 4648 section 4.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Decodes `text` into `out`, as much as fits. Line ends are passed over.
///
/// None where something else than base64 stands in it.
pub(crate) fn decode<'o>(text: &[u8], out: &'o mut [u8]) -> Option<&'o [u8]> {
    let mut bits = 0_u32;
    let mut count = 0_u32;
    let mut used = 0_usize;
    let mut padding = 0_u32;
    for &letter in text {
        let digit = match letter {
            b'A'..=b'Z' => letter.wrapping_sub(b'A'),
            b'a'..=b'z' => letter.wrapping_sub(b'a').wrapping_add(26),
            b'0'..=b'9' => letter.wrapping_sub(b'0').wrapping_add(52),
            b'+' => 62,
            b'/' => 63,
            b'\n' | b'\r' => continue,
            b'=' => {
                padding = padding.saturating_add(1);
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        bits = (bits << 6) | u32::from(digit);
        count = count.saturating_add(6);
        if count >= 8 {
            count = count.saturating_sub(8);
            let [.., byte] = (bits >> count).to_be_bytes();
            if let Some(place) = out.get_mut(used) {
                *place = byte;
                used = used.saturating_add(1);
            }
        }
    }
    // What is left over is less than a byte and zero.
    let rest = bits & (1_u32 << count).wrapping_sub(1);
    if padding > 2 || count >= 6 || rest != 0 {
        return None;
    }
    out.get(..used)
}

/// Writes `bytes` as base64 without padding.
pub(crate) fn encode(bytes: &[u8], put: &mut dyn FnMut(u8)) {
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for shift in [18, 12, 6, 0]
            .into_iter()
            .take(chunk.len().saturating_add(1))
        {
            let digit = usize::try_from((bits >> shift) & 63).unwrap_or(0);
            put(DIGITS.get(digit).copied().unwrap_or(b'A'));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(bytes: &[u8]) -> String {
        let mut text = String::new();
        encode(bytes, &mut |letter| text.push(char::from(letter)));
        text
    }

    #[test]
    fn the_examples_of_the_rfc_go_both_ways() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = [0; 16];
            assert_eq!(decode(text.as_bytes(), &mut out), Some(bytes.as_bytes()));
            assert_eq!(encoded(bytes.as_bytes()), text.trim_end_matches('='));
        }
    }

    #[test]
    fn other_text_is_none() {
        for text in ["Zg=x", "Z", "Zh==", "Zm9v Zg", "Zg===", "Zm9-"] {
            assert_eq!(decode(text.as_bytes(), &mut [0; 16]), None, "{text}");
        }
        assert_eq!(decode(b"Zm\n9v\r\n", &mut [0; 2]), Some(&b"fo"[..]));
    }
}
