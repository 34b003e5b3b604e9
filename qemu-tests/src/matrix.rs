// SPDX-License-Identifier: MIT OR Apache-2.0
//! What came of the cells of the full matrix: each leaves a small file, from which the table in `docs/` is made.
//!
//! The cells run in tests of their own, which know nothing of each other; `cargo verify --full` empties the folder first
//! and writes the table last.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cycle::Outcome;
use crate::run::stdout;
use crate::setup::{self, Flavour};
use crate::vm::target_folder;

/// One cell.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// What the capture is about.
    pub row: &'static str,
    /// The kernel.
    pub flavour: Flavour,
    /// The guest's processors.
    pub processors: u32,
}

impl Cell {
    /// Its name, of which the names of its folders are made too.
    #[must_use]
    pub fn name(&self) -> String {
        format!(
            "matrix-{}-{}-{}cpu",
            self.row,
            self.flavour.word(),
            self.processors
        )
    }

    /// Keeps what came of it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(&self, result: &Result<Outcome>) -> Result<()> {
        let folder = folder();
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let release = setup::kernel(self.flavour).map(|kernel| kernel.release);
        let mut text = json!({
            "row": self.row,
            "kernel": self.flavour.word(),
            "release": release.unwrap_or_default(),
            "processors": self.processors,
        });
        match result {
            Ok(outcome) => {
                text["seconds"] = json!(outcome.duration.as_secs());
                text["retries"] = json!(outcome.retries);
            }
            Err(error) => text["error"] = json!(format!("{error:#}")),
        }
        let file = folder.join(format!("{}.json", self.name()));
        fs::write(&file, text.to_string()).with_context(|| format!("writing {}", file.display()))
    }
}

fn folder() -> PathBuf {
    target_folder().join("qemu-matrix")
}

/// Forgets the results of an earlier run.
///
/// # Errors
/// They cannot be removed.
pub fn forget() -> Result<()> {
    setup::start_afresh(&folder())
}

/// Writes the table of all cells that ran since [`forget`] to `docs/full-matrix.md` below `workspace`, and returns that
/// place; none when no cell ran.
///
/// # Errors
/// A result cannot be read, or the table cannot be written.
pub fn write_table(workspace: &Path) -> Result<Option<PathBuf>> {
    let mut cells = Vec::new();
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        cells.push(serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))?);
    }
    if cells.is_empty() {
        return Ok(None);
    }
    let date = stdout(Command::new("date").args(["-u", "+%F %H:%M UTC"]))?;
    let file = workspace.join("docs/full-matrix.md");
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&file, table(&cells, date.trim()))
        .with_context(|| format!("writing {}", file.display()))?;
    Ok(Some(file))
}

/// The page with the results.
fn table(cells: &[Value], date: &str) -> String {
    let text = |cell: &Value, key: &str| cell[key].as_str().unwrap_or_default().to_owned();
    let mut rows = BTreeSet::new();
    let mut columns = BTreeSet::new();
    let mut releases = BTreeMap::new();
    let mut results = BTreeMap::new();
    let mut problems = Vec::new();
    for cell in cells {
        let row = text(cell, "row");
        let kernel = text(cell, "kernel");
        let processors = cell["processors"].as_u64().unwrap_or(0);
        let column = (kernel.clone(), processors);
        releases.insert(kernel.clone(), text(cell, "release"));
        let shown = match cell["error"].as_str() {
            None => format!("{} s", cell["seconds"]),
            Some(error) => {
                problems.push(format!(
                    "- {row}, {kernel}, {processors} CPU, failed: {}",
                    error.lines().next().unwrap_or("no reason given")
                ));
                "FAILED".to_owned()
            }
        };
        if cell["retries"].as_u64().unwrap_or(0) > 0 {
            problems.push(format!(
                "- {row}, {kernel}, {processors} CPU: the guest hung before any of our code ran and was started again, {} times",
                cell["retries"]
            ));
        }
        rows.insert(row.clone());
        columns.insert(column.clone());
        results.insert((row, column), shown);
    }
    let failed = results.values().filter(|shown| *shown == "FAILED").count();
    let mut page = format!(
        "# The full matrix\n\n\
         Written by `cargo verify --full` on {date}: {} cells passed, {failed} failed.\n\n\
         A cell is one panic of a real kernel in QEMU, what must come of it, and a check of the saved dump: page by page\n\
         against the guest's memory, the set of pages against a second classifier and on 6.1 against makedumpfile. The\n\
         seconds are the guest's life from its first boot to its end, on whatever else the machine was doing.\n\n",
        cells.len() - failed
    );
    for (kernel, release) in &releases {
        let _ = writeln!(page, "- {kernel}: {release}");
    }
    let _ = write!(page, "\n| |");
    for (kernel, processors) in &columns {
        let _ = write!(page, " {kernel}, {processors} CPU |");
    }
    let _ = write!(page, "\n| --- |{}", " --- |".repeat(columns.len()));
    for row in &rows {
        let _ = write!(page, "\n| {row} |");
        for column in &columns {
            let shown = results.get(&(row.clone(), column.clone()));
            let _ = write!(page, " {} |", shown.map_or("not run", String::as_str));
        }
    }
    page.push('\n');
    if !problems.is_empty() {
        problems.sort();
        let _ = write!(page, "\n{}\n", problems.join("\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(row: &str, processors: u32, more: &Value) -> Value {
        let mut cell =
            json!({"row": row, "kernel": "6.1", "release": "6.1.0-1", "processors": processors});
        for (key, value) in more.as_object().unwrap() {
            cell[key] = value.clone();
        }
        cell
    }

    #[test]
    fn the_table_names_what_failed_what_was_repeated_and_what_is_missing() {
        let page = table(
            &[
                cell("ext4", 1, &json!({"seconds": 21, "retries": 1})),
                cell("ext4", 2, &json!({"error": "no line `x`\nmore"})),
                cell("raw", 2, &json!({"seconds": 30, "retries": 0})),
            ],
            "today",
        );
        for part in [
            "on today: 2 cells passed, 1 failed.",
            "- 6.1: 6.1.0-1",
            "| | 6.1, 1 CPU | 6.1, 2 CPU |\n| --- | --- | --- |\n| ext4 | 21 s | FAILED |\n| raw | not run | 30 s |",
            "- ext4, 6.1, 2 CPU, failed: no line `x`\n",
            "- ext4, 6.1, 1 CPU: the guest hung",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
    }
}
