// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the tests that a table names exist: tables outlive the tests that they point at.

use std::fs;
use std::path::{Path, PathBuf};

/// Whether a file of this name has a test of this name, or of one that begins so; or the table of faults has such a row, each
/// of which is a test.
pub(crate) fn is_there(file: &str, start: &str, is_cut: bool) -> bool {
    let test = format!("fn {start}{}", if is_cut { "" } else { "(" });
    let fault = format!("{start} \"");
    sources(file).iter().any(|path| {
        let source = fs::read_to_string(path).unwrap();
        let is_row = |line: &str| line.trim_start().starts_with(&fault);
        source.contains(&test) || source.lines().any(is_row)
    })
}

/// The Rust files of the workspace with this name.
fn sources(name: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<PathBuf> = [
        "collector",
        "init",
        "initramfs-builder",
        "qemu-tests",
        "targets",
        "vmcore",
    ]
    .iter()
    .flat_map(|part| [root.join(part).join("src"), root.join(part).join("tests")])
    .collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with(name) {
                found.push(path);
            }
        }
    }
    found
}
