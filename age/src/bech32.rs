// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys as people copy them: a word, `1`, digits of five bits, and a checksum that notices what was mistyped.
//!
//! Source: BIP 173.

/// The digits, by value.
const DIGITS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// The generator's coefficients, one for each bit that leaves the front.
const GENERATOR: [u32; 5] = [
    0x3b6a_57b2,
    0x2650_8e6d,
    0x1ea1_19fa,
    0x3d42_33dd,
    0x2a14_62b3,
];
/// The digits of 32 bytes, and of a checksum.
const DATA_DIGITS: usize = 52;
const SUM_DIGITS: usize = 6;

/// What is wrong with the text of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It does not begin with the word and `1`.
    Word,
    /// Small and capital letters are mixed.
    Mixed,
    /// It is not as long as a key is: how many letters it has behind the word, and how many it should have.
    Length(usize, usize),
    /// This letter is in no key.
    Letter(char),
    /// The checksum is another, or the bits that fill up the last digit: something was mistyped.
    Sum,
}

/// The 32 bytes of `text`, which begins with `word` in small letters.
pub(crate) fn decode(word: &str, text: &str) -> Result<[u8; 32], Wrong> {
    let has = |is: fn(&u8) -> bool| text.as_bytes().iter().any(is);
    let front = text.as_bytes().get(..word.len()).ok_or(Wrong::Word)?;
    let data = text
        .get(word.len()..)
        .filter(|_| front.eq_ignore_ascii_case(word.as_bytes()))
        .and_then(|rest| rest.strip_prefix('1'))
        .ok_or(Wrong::Word)?;
    if has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) {
        return Err(Wrong::Mixed);
    }
    let wanted = DATA_DIGITS.saturating_add(SUM_DIGITS);
    if data.chars().count() != wanted {
        return Err(Wrong::Length(data.chars().count(), wanted));
    }
    let mut sum = begin(word);
    let mut bytes = [0; 32];
    let mut places = bytes.iter_mut();
    let (mut bits, mut count) = (0_u32, 0_u32);
    for (position, letter) in data.chars().enumerate() {
        let small = letter.to_ascii_lowercase();
        let digit = DIGITS
            .iter()
            .position(|&digit| char::from(digit) == small)
            .and_then(|digit| u32::try_from(digit).ok())
            .ok_or(Wrong::Letter(letter))?;
        sum = step(sum, digit);
        if position >= DATA_DIGITS {
            continue;
        }
        bits = (bits << 5) | digit;
        count = count.saturating_add(5);
        if count >= 8 {
            count = count.saturating_sub(8);
            let [.., byte] = (bits >> count).to_be_bytes();
            if let Some(place) = places.next() {
                *place = byte;
            }
        }
    }
    let rest = bits & (1_u32 << count).wrapping_sub(1);
    if sum != 1 || rest != 0 {
        return Err(Wrong::Sum);
    }
    Ok(bytes)
}

/// The letters that follow `word` and `1`, for these bytes.
pub(crate) fn encode(word: &str, bytes: &[u8; 32]) -> [u8; DATA_DIGITS + SUM_DIGITS] {
    let mut digits = [0_u32; DATA_DIGITS + SUM_DIGITS];
    let mut places = digits.iter_mut();
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        count = count.saturating_add(8);
        while count >= 5 {
            count = count.saturating_sub(5);
            if let Some(place) = places.next() {
                *place = (bits >> count) & 31;
            }
        }
    }
    // 256 bits are 51 digits and one bit.
    if let Some(place) = places.next() {
        *place = (bits << 4) & 31;
    }
    // The checksum's places still have zeros, as the sum wants them.
    let sum = digits
        .iter()
        .fold(begin(word), |sum, &digit| step(sum, digit))
        ^ 1;
    for (place, shift) in digits
        .iter_mut()
        .skip(DATA_DIGITS)
        .zip([25, 20, 15, 10, 5, 0])
    {
        *place = (sum >> shift) & 31;
    }
    digits.map(|digit| {
        let index = usize::try_from(digit).unwrap_or(0);
        DIGITS.get(index).copied().unwrap_or(b'q')
    })
}

/// The sum over the word.
fn begin(word: &str) -> u32 {
    let high = word.bytes().map(|byte| u32::from(byte >> 5));
    let low = word.bytes().map(|byte| u32::from(byte & 31));
    high.chain([0]).chain(low).fold(1, step)
}

fn step(sum: u32, digit: u32) -> u32 {
    let top = sum >> 25;
    let shifted = ((sum & 0x01ff_ffff) << 5) ^ digit;
    GENERATOR
        .iter()
        .enumerate()
        .filter(|(bit, _)| top >> bit & 1 == 1)
        .fold(shifted, |sum, (_, coefficient)| sum ^ coefficient)
}
