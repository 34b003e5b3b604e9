// SPDX-License-Identifier: MIT OR Apache-2.0
//! JSON as far as a LUKS2 header needs it: a value is found by its name where it lies. A text that is no JSON has no values.
//!
//! Source: RFC 8259.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

/// A value, with nothing around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'t>(&'t [u8]);

impl<'t> Value<'t> {
    /// The value that `text` begins with.
    pub(super) fn of(text: &'t [u8]) -> Option<Self> {
        split(text).map(|(value, _)| value)
    }

    /// What is inside an object: names and values, in order.
    pub(super) fn members(self) -> Members<'t> {
        Members {
            rest: self.inside(b'{', b'}'),
        }
    }

    /// What is inside an array.
    pub(super) fn items(self) -> Items<'t> {
        Items {
            rest: self.inside(b'[', b']'),
        }
    }

    /// The value of this name in an object.
    pub(super) fn get(self, name: &str) -> Option<Self> {
        self.members()
            .find(|(found, _)| *found == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// A string as it stands there, with its escapes.
    pub(super) fn string(self) -> Option<&'t [u8]> {
        self.0.strip_prefix(b"\"")?.strip_suffix(b"\"")
    }

    /// A whole number, or a string that is one: JSON's own numbers do not hold 64 bits everywhere.
    pub(super) fn number(self) -> Option<u64> {
        let digits = self.string().unwrap_or(self.0);
        core::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// What is between the brackets; nothing where it has others.
    fn inside(self, open: u8, close: u8) -> &'t [u8] {
        match self.0 {
            [first, inside @ .., last] if *first == open && *last == close => inside,
            _ => &[],
        }
    }
}

/// The members of an object.
pub(super) struct Members<'t> {
    rest: &'t [u8],
}

impl<'t> Iterator for Members<'t> {
    type Item = (&'t [u8], Value<'t>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = split(self.rest)?;
        let rest = rest.trim_ascii_start().strip_prefix(b":")?;
        let (value, rest) = split(rest)?;
        self.rest = behind_comma(rest);
        Some((name.string()?, value))
    }
}

/// The values of an array.
pub(super) struct Items<'t> {
    rest: &'t [u8],
}

impl<'t> Iterator for Items<'t> {
    type Item = Value<'t>;

    fn next(&mut self) -> Option<Self::Item> {
        let (value, rest) = split(self.rest)?;
        self.rest = behind_comma(rest);
        Some(value)
    }
}

/// What follows a comma; nothing where there is none, so that the list ends.
fn behind_comma(text: &[u8]) -> &[u8] {
    text.trim_ascii_start()
        .strip_prefix(b",")
        .unwrap_or_default()
}

/// The first value of `text`, and what stands behind it.
fn split(text: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let text = text.trim_ascii_start();
    let (value, rest) = text.split_at_checked(length(text)?)?;
    Some((Value(value), rest))
}

/// How many bytes the value at the beginning of `text` has. Brackets are counted and not compared: a text in which they do
/// not match has values that are none.
fn length(text: &[u8]) -> Option<usize> {
    match text.first()? {
        b'"' => string_length(text),
        b'{' | b'[' => {
            let (mut at, mut depth) = (0_usize, 0_usize);
            loop {
                let rest = text.get(at..)?;
                let step = match rest.first()? {
                    b'"' => string_length(rest)?,
                    b'{' | b'[' => {
                        depth = depth.saturating_add(1);
                        1
                    }
                    b'}' | b']' => {
                        depth = depth.saturating_sub(1);
                        1
                    }
                    _ => 1,
                };
                at = at.saturating_add(step);
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => text
            .iter()
            .position(|byte| byte.is_ascii_whitespace() || b",:]}\"[{\0".contains(byte))
            .or(Some(text.len()))
            .filter(|&length| length > 0),
    }
}

/// How many bytes the string at the beginning of `text` has, with its quotes.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    let end = text.iter().skip(1).position(|&byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })?;
    end.checked_add(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = br#" { "a" : {"b":"x\"}y", "n":"18446744073709551615"} ,"list":[ 1, "2",{}, [3] ],"t":true } rest"#;

    #[test]
    fn values_are_found_by_name() {
        let value = Value::of(TEXT).unwrap();
        let inner = value.get("a").unwrap();
        assert_eq!(inner.get("b").unwrap().string(), Some(&br#"x\"}y"#[..]));
        assert_eq!(inner.get("n").unwrap().number(), Some(u64::MAX));
        let list: Vec<Option<u64>> = value
            .get("list")
            .unwrap()
            .items()
            .map(Value::number)
            .collect();
        assert_eq!(list, [Some(1), Some(2), None, None]);
        assert_eq!(value.get("t").unwrap(), Value(b"true"));
        assert_eq!(value.get("b"), None);
        assert_eq!(value.members().count(), 3);
        assert_eq!(inner.items().count(), 0);
    }

    #[test]
    fn what_is_cut_or_changed_ends() {
        let walk = |text: &[u8]| {
            let value = Value::of(text)?;
            let below = value.members().map(|(_, value)| value);
            Some(
                below
                    .map(|value| value.members().count() + value.items().count())
                    .sum::<usize>(),
            )
        };
        assert_eq!(walk(TEXT), Some(6));
        let whole = TEXT.len() - b" rest".len();
        for length in 0..whole {
            assert_eq!(walk(&TEXT[..length]), None, "{length}");
        }
        for position in 0..TEXT.len() {
            for bit in 0..8 {
                let mut text = TEXT.to_vec();
                text[position] ^= 1 << bit;
                assert!(walk(&text).unwrap_or(0) < 64);
            }
        }
    }
}
