// SPDX-License-Identifier: MIT OR Apache-2.0
//! What two images have differently: files, and the lines of the plan.
//!
//! Of the plan alone the content is shown: others are programs, modules, and keys that nobody is to read.

use crate::cpio::{Entry, Kind};
use config::record;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// No plan has so many lines; of two that do it is only said that they differ.
const MOST_LINES: usize = 4000;

/// A line for each entry that only one of them has (`-` the first, `+` the second) or that they have differently (`!`), in
/// the order of the names; empty when both have the same.
#[must_use]
pub fn between(one: &[Entry], other: &[Entry]) -> String {
    let by_name = |entries| -> BTreeMap<_, _> {
        <&[Entry]>::into_iter(entries)
            .map(|entry| (entry.name.as_str(), entry))
            .collect()
    };
    let (one, other) = (by_name(one), by_name(other));
    let mut names: Vec<&str> = one.keys().chain(other.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    let mut text = String::new();
    for name in names {
        // Writing to a string does not fail.
        let _ = match (one.get(name), other.get(name)) {
            (Some(entry), None) => writeln!(text, "- /{name}, {}", told(entry)),
            (None, Some(entry)) => writeln!(text, "+ /{name}, {}", told(entry)),
            (Some(before), Some(after)) if before != after => {
                let _ = writeln!(text, "! /{name}: {}", changed(before, after));
                match (&before.kind, &after.kind) {
                    (Kind::File(before), Kind::File(after)) if is_plan(name) => {
                        write!(text, "{}", lines(before, after))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        };
    }
    text
}

fn is_plan(name: &str) -> bool {
    record::PATH.strip_prefix('/') == Some(name)
}

fn told(entry: &Entry) -> String {
    match &entry.kind {
        Kind::Directory => "a folder".to_owned(),
        Kind::File(bytes) => format!("{} bytes", bytes.len()),
        Kind::Link(target) => format!("a link to {}", String::from_utf8_lossy(target)),
        Kind::Character { major, minor } => format!("device {major}, {minor}"),
    }
}

fn changed(before: &Entry, after: &Entry) -> String {
    let (was, is) = (told(before), told(after));
    let mut parts = Vec::new();
    if was != is {
        parts.push(format!("{was}, then {is}"));
    } else if before.kind != after.kind {
        parts.push(format!("other content, {is} in both"));
    }
    if before.permissions != after.permissions {
        let (was, is) = (before.permissions, after.permissions);
        parts.push(format!("mode {was:03o}, then {is:03o}"));
    }
    if parts.is_empty() {
        parts.push("another entry".to_owned());
    }
    parts.join("; ")
}

/// The lines that only one of two texts has, by a longest sequence of lines that both have.
fn lines(before: &[u8], after: &[u8]) -> String {
    let (before, after) = (
        String::from_utf8_lossy(before),
        String::from_utf8_lossy(after),
    );
    let (before, after): (Vec<&str>, Vec<&str>) =
        (before.lines().collect(), after.lines().collect());
    if before.len().max(after.len()) > MOST_LINES {
        return String::new();
    }
    // How many lines both have from these two on.
    let width = after.len() + 1;
    let mut common = vec![0_u16; (before.len() + 1) * width];
    for row in (0..before.len()).rev() {
        for column in (0..after.len()).rev() {
            common[row * width + column] = if before[row] == after[column] {
                common[(row + 1) * width + column + 1] + 1
            } else {
                common[(row + 1) * width + column].max(common[row * width + column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut text = String::new();
    while row < before.len() || column < after.len() {
        let is_same = row < before.len() && column < after.len() && before[row] == after[column];
        let is_gone = row < before.len()
            && (column == after.len()
                || common[(row + 1) * width + column] >= common[row * width + column + 1]);
        if is_same {
            (row, column) = (row + 1, column + 1);
        } else if is_gone {
            text.push_str(&format!("    - {}\n", before[row]));
            row += 1;
        } else {
            text.push_str(&format!("    + {}\n", after[column]));
            column += 1;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &str) -> Entry {
        Entry {
            name: name.to_owned(),
            permissions: 0o644,
            kind: Kind::File(content.as_bytes().to_vec()),
        }
    }

    #[test]
    fn files_and_lines_of_the_plan_are_told_and_no_other_content() {
        let one = [
            file("etc/kdump.record", "version 1\nhost a\ntarget raw\nend\n"),
            file("etc/key", "secret one"),
            file("init", "12345"),
            file("lib/a.ko", "a"),
        ];
        let mut stricter = file("init", "12345");
        stricter.permissions = 0o755;
        let other = [
            stricter,
            file("etc/key", "secret two"),
            file("etc/kdump.record", "version 1\ntarget raw\nlevel 31\nend\n"),
            file("lib/b.ko", "bb"),
        ];
        assert_eq!(
            between(&one, &other),
            "! /etc/kdump.record: 32 bytes, then 34 bytes\n    - host a\n    + level 31\n\
             ! /etc/key: other content, 10 bytes in both\n\
             ! /init: mode 644, then 755\n- /lib/a.ko, 1 bytes\n+ /lib/b.ko, 2 bytes\n"
        );
        assert_eq!(between(&one, &one), "");
        assert_eq!(between(&[], &one[2..3]), "+ /init, 5 bytes\n");
    }
}
