// SPDX-License-Identifier: MIT OR Apache-2.0
//! Manual pages and shell completion from the text that `--help` prints, so that they cannot say different things; and
//! pages of file formats from plain text.
//!
//! A help text begins with `Usage:`, whose further lines are indented. Then come paragraphs, and lists whose items are
//! indented by two blanks or six: a term, two blanks at least, and what it means, which may go on on lines that are
//! indented deeper. `Exit status:` is the last paragraph. A text about a file has headings, in capitals, and examples, whose
//! lines begin with `> `.
//!
//! ```
//! let page = manual::page("x", "does x", "Usage: x -a FILE\n\nDoes x.\n\n  -a FILE  take it\n           all\n\nExit status: 0 done.\n");
//! assert!(page.contains(".SH SYNOPSIS\n.nf\nx \\-a FILE\n.fi\n"));
//! assert!(page.contains(".TP\n\\fB\\-a FILE\\fR\ntake it all\n"));
//! assert!(page.contains(".SH EXIT STATUS\n0 done.\n"));
//! let page = manual::file_page("x.conf", "says what x does", "FILES\n\n  /etc/x.conf  the file\n> line\n");
//! assert!(page.contains(".SH FILES\n.TP\n\\fB/etc/x.conf\\fR\nthe file\n.PP\n.RS\n.nf\nline\n.fi\n.RE\n"));
//! ```
//! What it does not do: any markup inside a line.
#![no_std]
#![forbid(unsafe_code)]

// Commands whose library has no heap print pages too; without std, nothing that depends on them gets one.
extern crate alloc;

pub mod completion;
mod text;

pub use text::{Part, parts, terms};

use alloc::format;
use alloc::string::String;

/// The roff text of the page `name` in section 8, for man(7).
#[must_use]
pub fn page(name: &str, one_line: &str, help: &str) -> String {
    let mut page = Page::new(name, 8, "System Administration", one_line);
    let mut rest = help;
    if let Some((first, behind)) = help
        .strip_prefix("Usage: ")
        .and_then(|help| help.split_once('\n'))
    {
        page.request(".SH SYNOPSIS\n.nf");
        page.request(&escaped(first));
        rest = behind;
        while let Some((line, behind)) = rest.split_once('\n')
            && line.starts_with(' ')
        {
            page.request(&escaped(line.trim_start()));
            rest = behind;
        }
        page.request(".fi");
    }
    let mut heading = "";
    for part in parts(rest) {
        let (under, part) = match part {
            Part::Text(line) => match line.strip_prefix("Exit status: ") {
                Some(status) => ("EXIT STATUS", Part::Text(status)),
                None if heading.is_empty() => ("DESCRIPTION", part),
                None => (heading, part),
            },
            Part::Item { .. } => ("OPTIONS AND COMMANDS", part),
            _ => (heading, part),
        };
        if under != heading {
            page.part(Part::Heading(under));
            heading = under;
        }
        page.part(part);
    }
    page.end()
}

/// The roff text of the page `name` in section 5, which is about a file.
#[must_use]
pub fn file_page(name: &str, one_line: &str, text: &str) -> String {
    let mut page = Page::new(name, 5, "File Formats", one_line);
    for part in parts(text) {
        page.part(part);
    }
    page.end()
}

/// What the lines before leave open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    /// Nothing: a heading or the end of an example is before.
    Nothing,
    /// A paragraph, with which text goes on.
    Paragraph,
    /// A paragraph that a gap ended.
    Ended,
    /// An example.
    Example,
}

/// A page as far as it is written.
struct Page {
    text: String,
    open: Open,
}

impl Page {
    fn new(name: &str, section: u8, about: &str, one_line: &str) -> Self {
        Self {
            text: format!(
                ".TH {} {section} \"\" \"kdumprd {}\" \"{about}\"\n.SH NAME\n{} \\- {}\n",
                escaped(&name.to_uppercase()),
                env!("CARGO_PKG_VERSION"),
                escaped(name),
                escaped(one_line)
            ),
            open: Open::Nothing,
        }
    }

    fn part(&mut self, part: Part<'_>) {
        if self.open == Open::Example && !matches!(part, Part::Example(_)) {
            self.request(".fi\n.RE");
            self.open = Open::Ended;
        }
        match part {
            Part::Gap => {
                if self.open == Open::Paragraph {
                    self.text.push('\n');
                    self.open = Open::Ended;
                }
            }
            Part::Heading(heading) => self.request(&format!(".SH {}", escaped(heading))),
            Part::Item { term, meaning } => {
                self.request(&format!(".TP\n\\fB{}\\fR", escaped(term)));
                self.words(meaning);
            }
            Part::More(line) => self.words(line),
            Part::Text(line) => {
                if self.open == Open::Ended {
                    self.request(".PP");
                }
                self.words(line);
            }
            Part::Example(line) => {
                if self.open != Open::Example {
                    self.request(".PP\n.RS\n.nf");
                }
                self.request(&escaped(line));
                self.open = Open::Example;
            }
        }
    }

    /// A line by itself.
    fn request(&mut self, line: &str) {
        if self.open == Open::Paragraph {
            self.text.push('\n');
        }
        self.text.push_str(line);
        self.text.push('\n');
        self.open = Open::Nothing;
    }

    /// Words of a paragraph, which stands on one line.
    fn words(&mut self, words: &str) {
        if words.is_empty() {
            return;
        }
        if self.open == Open::Paragraph {
            self.text.push(' ');
        }
        self.text.push_str(&escaped(words));
        self.open = Open::Paragraph;
    }

    fn end(mut self) -> String {
        self.part(Part::Gap);
        self.text
    }
}

/// Text as roff prints it as it is.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    if text.starts_with(['.', '\'']) {
        escaped.push_str("\\&");
    }
    for letter in text.chars() {
        match letter {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "\
Usage: tool go
       tool stop

Goes, or
stops.

Slowly.

  go                     go at once
  stop                   stop, with
                         a \\ in it
      --long             last

A word on both.

Exit status: 0 done,
1 not.
";

    #[test]
    fn every_part_of_the_help_is_there_once_and_in_its_place() {
        let page = page("tool", "goes", HELP);
        assert!(page.starts_with(".TH TOOL 8 "), "{page}");
        let rest = page.split_once(".SH NAME").unwrap().1;
        assert_eq!(
            rest,
            "\ntool \\- goes\n.SH SYNOPSIS\n.nf\ntool go\ntool stop\n.fi\n.SH DESCRIPTION\nGoes, or stops.\n.PP\nSlowly.\n\
             .SH OPTIONS AND COMMANDS\n.TP\n\\fBgo\\fR\ngo at once\n.TP\n\\fBstop\\fR\nstop, with a \\e in it\n\
             .TP\n\\fB\\-\\-long\\fR\nlast\n.PP\nA word on both.\n.SH EXIT STATUS\n0 done, 1 not.\n"
        );
    }

    #[test]
    fn a_page_about_a_file_has_its_headings_lists_and_examples() {
        let text = "# no part of it\n\nDESCRIPTION\n\nOne line\nand more.\n\nNext.\n\nWORDS\n\n  one X  means\n           this\n  two  too\n\n\
                    For example:\n> one -1\n>\n> .two\nEnd.\n\nFILES\n> x\n";
        let page = file_page("tool.conf", "has words", text);
        assert!(page.starts_with(".TH TOOL.CONF 5 "), "{page}");
        let rest = page.split_once("has words\n").unwrap().1;
        assert_eq!(
            rest,
            ".SH DESCRIPTION\nOne line and more.\n.PP\nNext.\n.SH WORDS\n.TP\n\\fBone X\\fR\nmeans this\n.TP\n\\fBtwo\\fR\ntoo\n\
             .PP\nFor example:\n.PP\n.RS\n.nf\none \\-1\n\n\\&.two\n.fi\n.RE\n.PP\nEnd.\n.SH FILES\n.PP\n.RS\n.nf\nx\n.fi\n.RE\n"
        );
    }

    #[test]
    fn nothing_of_a_text_becomes_a_request() {
        let page = page("x", "y", "Usage: .x\n\n.SH no\n'no\n");
        assert!(page.contains("\n\\&.x\n"), "{page}");
        assert!(page.contains("\\&.SH no \\&'no"), "{page}");
    }
}
