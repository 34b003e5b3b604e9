// SPDX-License-Identifier: MIT OR Apache-2.0
//! One line: its word and its value, without comment and quotes.

use crate::error::At;

/// One line with its value.
pub(super) struct Line<'a> {
    pub(super) number: u32,
    pub(super) word: &'a str,
    /// Without comment and quotes.
    pub(super) value: String,
    /// A quote kept blanks together, so that the value is one word for certain.
    pub(super) quoted: bool,
}

pub(super) const BLANKS: [char; 2] = [' ', '\t'];

/// The line without comment and quotes, and whether a quote was there.
///
/// # Errors
/// The quote that has no end.
pub(super) fn unquote(line: &str) -> Result<(String, bool), char> {
    let mut text = String::with_capacity(line.len());
    let mut open = None;
    let mut quoted = false;
    let mut after_blank = true;
    for letter in line.chars() {
        match (open, letter) {
            (Some(quote), _) if quote == letter => open = None,
            (None, '"' | '\'') => {
                open = Some(letter);
                quoted = true;
            }
            (None, '#') if after_blank => break,
            _ => text.push(letter),
        }
        after_blank = open.is_none() && BLANKS.contains(&letter);
    }
    match open {
        Some(quote) => Err(quote),
        None => Ok((text, quoted)),
    }
}

impl Line<'_> {
    /// The value, which must be there.
    pub(super) fn some(&self, accepted: &str) -> Result<&str, String> {
        if self.value.is_empty() {
            Err(format!(
                "`{}` has no value; accepted is {accepted}",
                self.word
            ))
        } else {
            Ok(&self.value)
        }
    }

    /// The value, which must be one word.
    pub(super) fn one(&self, accepted: &str) -> Result<&str, String> {
        let value = self.some(accepted)?;
        if value.contains(BLANKS) {
            return Err(format!(
                "`{}` takes one word, and `{value}` is more; accepted is {accepted}",
                self.word
            ));
        }
        Ok(value)
    }

    /// Fills `slot`, which a line before may have done.
    pub(super) fn once<T>(&self, slot: &mut Option<At<T>>, value: T) -> Result<(), String> {
        if let Some(before) = slot {
            return Err(format!(
                "`{}` was set before, in line {}; one of the two has to go",
                self.word, before.line
            ));
        }
        *slot = Some(At {
            line: self.number,
            value,
        });
        Ok(())
    }

    /// The words of the value, of which there must be one.
    pub(super) fn words(&self, accepted: &str) -> Result<impl Iterator<Item = &str>, String> {
        Ok(self
            .some(accepted)?
            .split(BLANKS)
            .filter(|word| !word.is_empty()))
    }

    /// The line that says the same in the words of this version.
    pub(super) fn as_if<'b>(&self, word: &'b str, value: &str) -> Line<'b> {
        Line {
            number: self.number,
            word,
            value: value.to_owned(),
            quoted: true,
        }
    }

    /// A value of this line.
    pub(super) fn at<T>(&self, value: T) -> At<T> {
        At {
            line: self.number,
            value,
        }
    }
}
