// SPDX-License-Identifier: MIT OR Apache-2.0
//! What came of the cells of the full matrix, and its page in `docs/`.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::cycle::Outcome;
use crate::results::Results;
use crate::setup::{self, Flavour};

/// What the cells leave.
pub const RESULTS: Results = Results {
    folder: "qemu-matrix",
    page: "full-matrix.md",
};

/// What the cells are about, in the order of the table.
pub const ROWS: [&str; 12] = [
    "raw",
    "ext2",
    "ext3",
    "ext4",
    "root_file_system",
    "fallback_list",
    "reboot",
    "halt",
    "poweroff",
    "shell",
    "dump_to_rootfs",
    "mount_root_run_init",
];

/// The guest's processors.
pub const PROCESSORS: [u32; 2] = [1, 2];

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
        ensure!(
            ROWS.contains(&self.row),
            "{} is no row of the table",
            self.row
        );
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
        RESULTS.keep(&self.name(), &text)
    }
}

/// The page with the results.
#[must_use]
pub fn table(cells: &[Value], date: &str) -> String {
    let mut releases = String::new();
    let mut heads = "| |".to_owned();
    let mut columns = Vec::new();
    for flavour in Flavour::ALL {
        let word = flavour.word();
        let release = cells
            .iter()
            .find(|cell| cell["kernel"] == word)
            .and_then(|cell| cell["release"].as_str());
        let _ = writeln!(releases, "- {word}: {}", release.unwrap_or("not run"));
        for processors in PROCESSORS {
            let _ = write!(heads, " {word}, {processors} CPU |");
            columns.push((word, processors));
        }
    }
    let (mut passed, mut failed, mut missing) = (0, 0, 0);
    let mut lines = String::new();
    let mut problems = String::new();
    for row in ROWS {
        let _ = write!(lines, "\n| {row} |");
        for &(kernel, processors) in &columns {
            let cell = cells.iter().find(|cell| {
                cell["row"] == row && cell["kernel"] == kernel && cell["processors"] == processors
            });
            let name = format!("{row}, {kernel}, {processors} CPU");
            let Some(cell) = cell else {
                missing += 1;
                lines += " not run |";
                continue;
            };
            if let Some(error) = cell["error"].as_str() {
                failed += 1;
                lines += " FAILED |";
                let why = error.lines().next().unwrap_or("no reason given");
                let _ = writeln!(problems, "- {name}: failed: {why}");
            } else {
                passed += 1;
                let _ = write!(lines, " {} s |", cell["seconds"]);
            }
            if cell["retries"].as_u64().unwrap_or(0) > 0 {
                let _ = writeln!(
                    problems,
                    "- {name}: the guest hung before any of our code ran, and was started again; {} times",
                    cell["retries"]
                );
            }
        }
    }
    if !problems.is_empty() {
        problems.insert(0, '\n');
    }
    format!(
        "# The full matrix\n\n\
         Written by `cargo verify --full` on {date}: {passed} cells passed, {failed} failed, {missing} did not run.\n\n\
         A cell is one panic of a real kernel in QEMU, what must come of it, and a check of the saved dump: page by page\n\
         against the guest's memory, the set of pages against a second classifier and on 6.1 against makedumpfile. Disks\n\
         are on virtio with the cloud kernels; with the generic ones on SATA with one CPU and on NVMe with two. With two\n\
         CPUs the second one panics, and both capture. The seconds are the guest's life from its first boot to its end,\n\
         beside whatever else the machine was doing.\n\n\
         {releases}\n{heads}\n| --- |{}{lines}\n{problems}",
        " --- |".repeat(columns.len())
    )
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
            "on today: 2 cells passed, 1 failed, 93 did not run.",
            "- 6.1: 6.1.0-1\n",
            "- 6.12: not run\n",
            "| | 6.1, 1 CPU | 6.1, 2 CPU | 6.1-generic, 1 CPU |",
            "\n| raw | not run | 30 s | not run |",
            "\n| ext4 | 21 s | FAILED | not run |",
            "- ext4, 6.1, 2 CPU: failed: no line `x`\n",
            "- ext4, 6.1, 1 CPU: the guest hung",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
    }
}
