// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables that a benchmark puts into BENCHMARKS.md.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Puts `table` in the place of what stands there between the marks of the benchmark `name`.
///
/// # Errors
/// The file cannot be read or written, or has no such place.
pub fn replace(name: &str, table: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../BENCHMARKS.md");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let new = replaced(&text, name, table)
        .with_context(|| format!("{} has no place for the table of {name}", path.display()))?;
    fs::write(&path, new).with_context(|| format!("writing {}", path.display()))
}

fn replaced(text: &str, name: &str, table: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- {name} begins -->\n"),
        format!("<!-- {name} ends -->\n"),
    );
    let (before, rest) = text.split_once(&begin)?;
    let (_, behind) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{table}{end}{behind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let text = "a\n<!-- x begins -->\nold\n<!-- x ends -->\nb\n";
        assert_eq!(
            replaced(text, "x", "new\n").as_deref(),
            Some("a\n<!-- x begins -->\nnew\n<!-- x ends -->\nb\n")
        );
        assert_eq!(replaced(text, "y", "new\n"), None);
    }
}
