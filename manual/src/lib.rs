// SPDX-License-Identifier: MIT OR Apache-2.0
//! Manual pages from the text that `--help` prints, so that the two cannot say different things.
//!
//! A help text begins with `Usage:`, whose further lines are indented. Then come paragraphs, and lists whose items are
//! indented by two blanks or six: a term, two blanks at least, and what it means, which may go on on lines that are
//! indented deeper. `Exit status:` is the last paragraph.
//!
//! ```
//! let page = manual::page("x", "does x", "Usage: x -a FILE\n\nDoes x.\n\n  -a FILE  take it\n           all\n\nExit status: 0 done.\n");
//! assert!(page.contains(".SH SYNOPSIS\n.nf\nx \\-a FILE\n.fi\n"));
//! assert!(page.contains(".TP\n\\fB\\-a FILE\\fR\ntake it all\n"));
//! assert!(page.contains(".SH EXIT STATUS\n0 done.\n"));
//! ```
//! What it does not do: pages of file formats, and any markup inside a line.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

/// The deepest that a term is indented; what is deeper belongs to the line before.
const TERM_INDENT: usize = 6;

/// The roff text of the page `name` in section 8, for man(7).
#[must_use]
pub fn page(name: &str, one_line: &str, help: &str) -> String {
    let mut page = format!(
        ".TH {} 8 \"\" \"kdumprd {}\" \"System Administration\"\n.SH NAME\n{} \\- {}\n",
        escaped(&name.to_uppercase()),
        env!("CARGO_PKG_VERSION"),
        escaped(name),
        escaped(one_line)
    );
    let mut lines = help.lines().peekable();
    if let Some(first) = lines.next().and_then(|line| line.strip_prefix("Usage: ")) {
        let _ = writeln!(page, ".SH SYNOPSIS\n.nf\n{}", escaped(first));
        while let Some(line) = lines.next_if(|line| line.starts_with(' ')) {
            let _ = writeln!(page, "{}", escaped(line.trim_start()));
        }
        page.push_str(".fi\n");
    }
    let mut is_described = false;
    let mut is_listed = false;
    for line in lines {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if text.is_empty() {
            continue;
        }
        if indent > TERM_INDENT && is_listed {
            let _ = writeln!(page, "{}", escaped(text));
        } else if indent > 0 {
            if !is_listed {
                page.push_str(".SH OPTIONS AND COMMANDS\n");
            }
            is_listed = true;
            let (term, meaning) = text.split_once("  ").unwrap_or((text, ""));
            let _ = writeln!(
                page,
                ".TP\n\\fB{}\\fR\n{}",
                escaped(term),
                escaped(meaning.trim_start())
            );
        } else if let Some(status) = text.strip_prefix("Exit status: ") {
            let _ = writeln!(page, ".SH EXIT STATUS\n{}", escaped(status));
        } else {
            if !is_described && !is_listed {
                page.push_str(".SH DESCRIPTION\n");
            }
            is_described = true;
            let _ = writeln!(page, "{}", escaped(text));
        }
    }
    joined(&page)
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

/// Lines of the same paragraph on one line, but not inside `.nf`.
fn joined(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    let mut is_filled = true;
    let mut is_open = false;
    for line in page.lines() {
        match line {
            ".nf" => is_filled = false,
            ".fi" => is_filled = true,
            _ => {}
        }
        let is_plain = is_filled && !line.starts_with('.') && !line.starts_with("\\fB");
        if !text.is_empty() {
            text.push(if is_plain && is_open { ' ' } else { '\n' });
        }
        text.push_str(line);
        is_open = is_plain;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "\
Usage: tool go
       tool stop

Goes, or
stops.

  go                     go at once
  stop                   stop, with
                         a \\ in it
      --long             last

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
            "\ntool \\- goes\n.SH SYNOPSIS\n.nf\ntool go\ntool stop\n.fi\n.SH DESCRIPTION\nGoes, or stops.\n\
             .SH OPTIONS AND COMMANDS\n.TP\n\\fBgo\\fR\ngo at once\n.TP\n\\fBstop\\fR\nstop, with a \\e in it\n\
             .TP\n\\fB\\-\\-long\\fR\nlast\n.SH EXIT STATUS\n0 done, 1 not.\n"
        );
    }

    #[test]
    fn nothing_of_a_text_becomes_a_request() {
        let page = page("x", "y", "Usage: .x\n\n.SH no\n'no\n");
        assert!(page.contains("\n\\&.x\n"), "{page}");
        assert!(page.contains("\\&.SH no \\&'no"), "{page}");
    }
}
