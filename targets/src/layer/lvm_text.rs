// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text of LVM2's metadata: sections in braces, numbers, texts in quotes, lists in brackets.
//!
//! Nothing is copied: a section is the piece of the text between its braces, and looking something up goes through that
//! piece once. Braces are counted, not followed, so that no depth of nesting costs anything.
//!
//! Source: LVM2 2.03.16 `libdm/libdm-config.c`, and the metadata itself.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

/// What stands between the braces of a section, or in the whole text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section<'t>(pub(crate) &'t str);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'t> {
    /// `name { … }`
    Section(Section<'t>),
    /// `name = "text"`, without the quotes. What LVM writes into what we look for has no escapes.
    Text(&'t str),
    /// `name = 123`, as it stands there.
    Word(&'t str),
    /// `name = [ … ]`, without the brackets.
    List(List<'t>),
}

/// What stands between the brackets of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct List<'t>(&'t str);

impl<'t> Section<'t> {
    /// The names of this section and what they stand for. Ends where the text makes no sense any more.
    pub(crate) fn entries(self) -> Entries<'t> {
        Entries(self.0)
    }

    fn value(self, name: &str) -> Option<Value<'t>> {
        self.entries()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    pub(crate) fn section(self, name: &str) -> Option<Self> {
        match self.value(name)? {
            Value::Section(section) => Some(section),
            _ => None,
        }
    }

    /// The sections of this section.
    pub(crate) fn sections(self) -> impl Iterator<Item = (&'t str, Self)> {
        self.entries().filter_map(|(name, value)| match value {
            Value::Section(section) => Some((name, section)),
            _ => None,
        })
    }

    pub(crate) fn text(self, name: &str) -> Option<&'t str> {
        match self.value(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number(self, name: &str) -> Option<u64> {
        match self.value(name)? {
            Value::Word(word) => word.parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn list(self, name: &str) -> Option<List<'t>> {
        match self.value(name)? {
            Value::List(list) => Some(list),
            _ => None,
        }
    }
}

impl<'t> List<'t> {
    /// The items, which are texts and words.
    pub(crate) fn items(self) -> impl Iterator<Item = Value<'t>> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            rest = skip_blanks(rest).trim_start_matches(',');
            rest = skip_blanks(rest);
            let (value, behind) = scalar(rest)?;
            rest = behind;
            Some(value)
        })
    }
}

/// See [`Section::entries`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries<'t>(&'t str);

impl<'t> Iterator for Entries<'t> {
    type Item = (&'t str, Value<'t>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = word(skip_blanks(self.0))?;
        let rest = skip_blanks(rest);
        let (value, rest) = if let Some(inside) = rest.strip_prefix('{') {
            let (inside, rest) = until_closed(inside, '{', '}')?;
            (Value::Section(Section(inside)), rest)
        } else {
            let rest = skip_blanks(rest.strip_prefix('=')?);
            match rest.strip_prefix('[') {
                Some(inside) => {
                    let (inside, rest) = until_closed(inside, '[', ']')?;
                    (Value::List(List(inside)), rest)
                }
                None => scalar(rest)?,
            }
        };
        self.0 = rest;
        Some((name, value))
    }
}

/// Behind blanks and comments.
fn skip_blanks(mut text: &str) -> &str {
    loop {
        text = text.trim_start_matches(|letter: char| letter.is_whitespace() || letter == '\0');
        match text.strip_prefix('#') {
            Some(comment) => text = comment.split_once('\n').map_or("", |(_, rest)| rest),
            None => return text,
        }
    }
}

fn is_of_a_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.' | '+' | '/')
}

fn word(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|letter| !is_of_a_word(letter))
        .unwrap_or(text.len());
    text.split_at_checked(end)
        .filter(|(word, _)| !word.is_empty())
}

fn scalar(text: &str) -> Option<(Value<'_>, &str)> {
    if text.starts_with('"') {
        let (inside, rest) = quoted(text)?;
        return Some((Value::Text(inside), rest));
    }
    let (word, rest) = word(text)?;
    Some((Value::Word(word), rest))
}

/// What is between the quotes that `text` begins with, and what is behind them.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    for (at, letter) in inside.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => {
                let (inside, rest) = inside.split_at_checked(at)?;
                return Some((inside, rest.strip_prefix('"')?));
            }
            _ => {}
        }
    }
    None
}

/// What is before the bracket that closes the one before `text`, and what is behind it.
fn until_closed(text: &str, open: char, close: char) -> Option<(&str, &str)> {
    let mut depth = 0_u32;
    let mut rest = text;
    loop {
        let at = rest.find([open, close, '"', '#'])?;
        let (_, found) = rest.split_at_checked(at)?;
        let letter = found.chars().next()?;
        if letter == '"' {
            (_, rest) = quoted(found)?;
            continue;
        }
        let behind = found.get(1..)?;
        if letter == '#' {
            (_, rest) = behind.split_once('\n')?;
            continue;
        }
        if letter == open {
            depth = depth.checked_add(1)?;
        } else if depth == 0 {
            let length = text.len().checked_sub(found.len())?;
            return Some((text.get(..length)?, behind));
        } else {
            depth = depth.saturating_sub(1);
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
vg0 { # a comment with a } in it
    id = "a-b"
    seqno = 3
    status = ["READ", "WRITE"]
    tags = []
    description = "says \"{\" and }"
    inner { number = 7
        deep { x = 1 } }
}
version = 1
"#;

    #[test]
    fn the_text_is_sections_of_values() {
        let top = Section(TEXT);
        assert_eq!(top.number("version"), Some(1));
        let group = top.section("vg0").unwrap();
        assert_eq!(group.text("id"), Some("a-b"));
        assert_eq!(group.number("seqno"), Some(3));
        assert_eq!(group.text("description"), Some(r#"says \"{\" and }"#));
        let items: Vec<_> = group.list("status").unwrap().items().collect();
        assert_eq!(items, [Value::Text("READ"), Value::Text("WRITE")]);
        assert_eq!(group.list("tags").unwrap().items().count(), 0);
        let inner = group.section("inner").unwrap();
        assert_eq!(inner.section("deep").unwrap().number("x"), Some(1));
        assert_eq!(group.section("deep"), None);
        assert_eq!(group.number("nothing"), None);
    }

    #[test]
    fn every_truncation_and_flipped_byte_is_a_shorter_text_or_another_and_ends() {
        let look = |text: &str| {
            let mut count = 0;
            for (_, value) in Section(text).entries() {
                count += 1;
                if let Value::Section(section) = value {
                    count += section.entries().count();
                    count += section
                        .list("status")
                        .map_or(0, |list| list.items().count());
                }
            }
            count
        };
        for length in 0..TEXT.len() {
            assert!(look(&TEXT[..length]) <= look(TEXT));
        }
        for position in 0..TEXT.len() {
            for bit in 0..7 {
                let mut bytes = TEXT.as_bytes().to_vec();
                bytes[position] ^= 1 << bit;
                assert!(look(std::str::from_utf8(&bytes).unwrap()) < 100);
            }
        }
        let deep = "a{".repeat(100_000);
        assert_eq!(look(&deep), 0);
        let deep = format!("{}{}", "a{".repeat(1000), "}".repeat(1000));
        assert_eq!(look(&deep), 2);
    }
}
