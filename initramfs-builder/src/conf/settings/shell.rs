// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files of settings that a shell would read: lines of `KEY=VALUE`, without running anything.

use crate::error::{Mistake, Mistakes};

/// One setting that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) line: u32,
    pub(super) key: String,
    pub(super) value: String,
}

/// What a file sets, in its order; what is set to nothing is not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) all: Vec<Setting>,
    /// Settings that a later line of the same key replaces.
    pub(super) replaced: Vec<Setting>,
}

impl Settings {
    /// The setting of this key.
    pub(super) fn get(&self, key: &str) -> Option<&Setting> {
        self.all.iter().find(|setting| setting.key == key)
    }

    /// Reads the file; the last line of a key counts, as for a shell.
    pub(super) fn read(file: &str, text: &str) -> Result<Self, Mistakes> {
        let mut settings = Self::default();
        let mut mistakes = Mistakes::default();
        for (number, line) in logical_lines(text) {
            match setting(number, &line) {
                Ok(None) => {}
                Ok(Some(setting)) => {
                    let before = settings.all.iter().position(|at| at.key == setting.key);
                    if let Some(before) = before {
                        settings.replaced.push(settings.all.remove(before));
                    }
                    settings.all.push(setting);
                }
                Err(message) => mistakes.0.push(Mistake {
                    place: Some((file.to_owned(), number)),
                    message,
                }),
            }
        }
        settings.all.retain(|setting| !setting.value.is_empty());
        if mistakes.0.is_empty() {
            Ok(settings)
        } else {
            Err(mistakes)
        }
    }
}

/// Lines with the number of their first one; a backslash at the end joins the next.
fn logical_lines(text: &str) -> Vec<(u32, String)> {
    let mut lines: Vec<(u32, String)> = Vec::new();
    let mut is_open = false;
    for (number, line) in (1..).zip(text.lines()) {
        let is_comment = !is_open && line.trim_start().starts_with('#');
        let (part, goes_on) = match line.strip_suffix('\\') {
            Some(part) if !is_comment => (part, true),
            _ => (line, false),
        };
        match lines.last_mut() {
            Some((_, before)) if is_open => before.push_str(part),
            _ => lines.push((number, part.to_owned())),
        }
        is_open = goes_on;
    }
    lines
}

/// The key of a line that looks like a setting.
pub(super) fn key_of(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    let (key, _) = line.split_once('=')?;
    let is_letter = |letter: char| letter.is_ascii_uppercase() || letter == '_';
    let is_key = key.starts_with(is_letter)
        && key
            .chars()
            .all(|letter| is_letter(letter) || letter.is_ascii_digit());
    is_key.then_some(key)
}

fn setting(number: u32, line: &str) -> Result<Option<Setting>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let key = key_of(line)
        .ok_or_else(|| format!("`{line}` is no setting; accepted are lines of KEY=VALUE"))?;
    let value = line.split_once('=').map_or("", |(_, value)| value);
    let value = unquoted(value).map_err(|message| format!("`{key}`: {message}"))?;
    Ok(Some(Setting {
        line: number,
        key: key.to_owned(),
        value,
    }))
}

/// The value as a shell would have it, which must not depend on anything else.
fn unquoted(text: &str) -> Result<String, String> {
    let mut value = String::new();
    let mut open = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (open, letter) {
            (Some(quote), _) if quote == letter => open = None,
            (None, '"' | '\'') => open = Some(letter),
            (Some('\''), _) => value.push(letter),
            (_, '$' | '`') => {
                return Err(format!(
                    "nothing is run to read the file, so that `{letter}` cannot stand here; write what it would give"
                ));
            }
            (_, '\\') => match letters.next() {
                // In double quotes a backslash is one, but before these.
                Some(next) if open.is_some() && !matches!(next, '"' | '\\' | '$' | '`') => {
                    value.extend(['\\', next]);
                }
                next => value.extend(next),
            },
            (None, ' ' | '\t') => {
                let rest = letters.as_str().trim_start();
                if rest.is_empty() || rest.starts_with('#') {
                    break;
                }
                return Err(format!(
                    "`{rest}` would be a command of its own; a value with blanks needs quotes"
                ));
            }
            (None, ';' | '&' | '|' | '<' | '>' | '(' | ')') => {
                return Err(format!("`{letter}` needs quotes"));
            }
            _ => value.push(letter),
        }
    }
    match open {
        Some(quote) => Err(format!(
            "a quote ({quote}) without its end; add it at the value's end"
        )),
        None => Ok(value.trim().to_owned()),
    }
}

/// A value as such a file has it.
pub(super) fn quoted(value: &str) -> String {
    if value.contains(['"', '$', '`', '\\']) {
        format!("'{}'", value.replace('\'', "'\\''"))
    } else {
        format!("\"{value}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(u32, String, String)> {
        let settings = Settings::read("f", text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        settings
            .all
            .into_iter()
            .map(|setting| (setting.line, setting.key, setting.value))
            .collect()
    }

    #[test]
    fn values_are_what_a_shell_would_have() {
        for (text, value) in [
            ("A=b", "b"),
            ("  export A=b # c", "b"),
            ("A=\"b c\"", "b c"),
            ("A='b \"c\" $d'", "b \"c\" $d"),
            ("A=b\"c d\"'e'", "bc de"),
            ("A=\"b \\\"c\\\" \\d\"", "b \"c\" \\d"),
            ("A=b\\ c", "b c"),
            ("A=\"b \\\nc\"", "b c"),
            ("A=1\nB=\nA=2", "2"),
            ("A=x#y", "x#y"),
            ("# no \\\nA=b", "b"),
        ] {
            assert_eq!(read(text).last().unwrap().2, value, "{text}");
        }
        assert_eq!(read("\n# x\nA=1\nB=\"\"\nC=2\n").len(), 2);
        assert_eq!(read("A=\"b \\\nc\"\nB=1")[1].0, 3);
    }

    #[test]
    fn what_would_have_to_be_run_is_refused() {
        for (text, said) in [
            ("A=$B", "`$` cannot stand here"),
            ("A=\"`date`\"", "nothing is run"),
            ("A=b c", "`c` would be a command of its own"),
            ("A=b;c", "`;` needs quotes"),
            ("A=\"b", "without its end"),
            (". /etc/other", "is no setting"),
            ("a=b", "is no setting"),
            ("if true", "is no setting"),
        ] {
            let mistakes = Settings::read("f", text).unwrap_err().to_string();
            assert!(
                mistakes.starts_with("f:1: ") && mistakes.contains(said),
                "{text}: {mistakes}"
            );
        }
    }

    #[test]
    fn what_is_quoted_reads_back_the_same() {
        for value in ["a b", "it's", "\"x\" $y", "`z` it's", "back\\slash"] {
            assert_eq!(read(&format!("A={}", quoted(value)))[0].2, value, "{value}");
        }
    }
}
