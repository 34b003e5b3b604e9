// SPDX-License-Identifier: MIT OR Apache-2.0
//! What came of tests that end in a table: each leaves a small file, from which the table in `docs/` is made.
//!
//! The tests know nothing of each other; `cargo verify` empties the folders first and writes the tables last.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::stdout;
use crate::setup;
use crate::vm::target_folder;

/// The results of one table.
#[derive(Clone, Copy, Debug)]
pub struct Results {
    /// Their folder in the build folder.
    pub folder: &'static str,
    /// The table's file in `docs/`.
    pub page: &'static str,
}

impl Results {
    fn folder(&self) -> PathBuf {
        target_folder().join(self.folder)
    }

    /// Keeps what came of the test of this name.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(&self, name: &str, what: &Value) -> Result<()> {
        let folder = self.folder();
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let file = folder.join(format!("{name}.json"));
        fs::write(&file, what.to_string()).with_context(|| format!("writing {}", file.display()))
    }

    /// Forgets the results of an earlier run.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn forget(&self) -> Result<()> {
        setup::start_afresh(&self.folder())
    }

    /// Writes the page that `table` makes of all results and the date to `docs/` below `workspace`, and returns its place;
    /// none when there are no results.
    ///
    /// # Errors
    /// A result cannot be read, or the page cannot be written.
    pub fn write_page(
        &self,
        workspace: &Path,
        table: fn(&[Value], &str) -> String,
    ) -> Result<Option<PathBuf>> {
        let folder = self.folder();
        let mut cells = Vec::new();
        if folder.is_dir() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                let text =
                    fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                cells.push(
                    serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))?,
                );
            }
        }
        if cells.is_empty() {
            return Ok(None);
        }
        let date = stdout(Command::new("date").args(["-u", "+%F %H:%M UTC"]))?;
        let docs = workspace.join("docs");
        fs::create_dir_all(&docs)?;
        let file = docs.join(self.page);
        fs::write(&file, table(&cells, date.trim()))
            .with_context(|| format!("writing {}", file.display()))?;
        Ok(Some(file))
    }
}
