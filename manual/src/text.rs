// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plain texts that everything here is made from: what each line is.

use alloc::vec::Vec;

/// The deepest that a term is indented; what is deeper belongs to the line before.
const TERM_INDENT: usize = 6;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Nothing: what comes next is another paragraph.
    Gap,
    /// Capitals alone, at the line's start.
    Heading(&'a str),
    /// A term of a list, and the first line of what it means.
    Item {
        /// What is explained.
        term: &'a str,
        /// What it means.
        meaning: &'a str,
    },
    /// A further line of what a term means.
    More(&'a str),
    /// A line of a paragraph.
    Text(&'a str),
    /// A line as it would be typed or written into a file: behind `> `.
    Example(&'a str),
}

/// The lines of `text`, but for those that start with a `#`, which are remarks to whoever edits it.
pub fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut is_listed = false;
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(move |line| {
            let text = line.trim_start();
            let indent = line.len().saturating_sub(text.len());
            if text.is_empty() {
                return Part::Gap;
            }
            if let Some(example) = line.strip_prefix('>') {
                return Part::Example(example.strip_prefix(' ').unwrap_or(example));
            }
            if indent > TERM_INDENT && is_listed {
                return Part::More(text);
            }
            is_listed = indent > 0;
            if is_listed {
                let (term, meaning) = text.split_once("  ").unwrap_or((text, ""));
                return Part::Item {
                    term,
                    meaning: meaning.trim_start(),
                };
            }
            let is_capital = |letter: char| letter.is_ascii_uppercase() || letter == ' ';
            if text.len() > 1 && text.chars().all(is_capital) {
                Part::Heading(text)
            } else {
                Part::Text(text)
            }
        })
}

/// Every term of the lists of `text`, each with the heading that it stands below; an empty one where there is none.
#[must_use]
pub fn terms(text: &str) -> Vec<(&str, &str)> {
    let mut heading = "";
    let mut terms = Vec::new();
    for part in parts(text) {
        match part {
            Part::Heading(line) => heading = line,
            Part::Item { term, .. } => terms.push((heading, term)),
            _ => {}
        }
    }
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_known_for_what_it_is() {
        let text = "# for editors\nFILES\n\nNo list.\n        deep\n  term ONE  means\n            more\n> an example\n>\n";
        assert_eq!(
            parts(text).collect::<Vec<_>>(),
            [
                Part::Heading("FILES"),
                Part::Gap,
                Part::Text("No list."),
                Part::Item {
                    term: "deep",
                    meaning: ""
                },
                Part::Item {
                    term: "term ONE",
                    meaning: "means"
                },
                Part::More("more"),
                Part::Example("an example"),
                Part::Example(""),
            ]
        );
        assert_eq!(
            terms(text),
            [("FILES", "deep"), ("FILES", "term ONE")],
            "terms have their headings"
        );
    }
}
