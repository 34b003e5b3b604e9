// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kdumpctl status`: whether a crash would be captured, what with, and what became of the last one.
//!
//! What cannot be found out is said where it would stand: whether a crash is captured does not depend on it.

use crate::dumps::{self, Dump};
use crate::setup::Setup;
use initramfs_builder::error::{Mistake, Mistakes};
use initramfs_builder::proof::{self, Proof};
use kexec::Purpose;
use serde_json::{Value, json};
use std::fmt::{self, Display};
use std::path::Path;

/// Everything that is known.
#[derive(Debug)]
pub struct Status {
    loaded: Result<bool, Mistake>,
    reserved: Result<u64, Mistake>,
    setup: Result<Setup, Mistakes>,
    line: Result<String, Mistakes>,
    last: Option<Dump>,
    proofs: Vec<Proof>,
}

/// Whether a capture kernel is loaded.
///
/// # Errors
/// The kernel does not tell.
pub fn is_loaded() -> Result<bool, Mistake> {
    kexec::is_loaded(Purpose::Crash).map_err(|error| Mistake::new(error.to_string()))
}

/// How many bytes are reserved for it.
///
/// # Errors
/// The kernel does not tell.
pub fn reserved() -> Result<u64, Mistake> {
    kexec::reserved_bytes().map_err(|error| Mistake::new(error.to_string()))
}

impl Status {
    /// Looks at the machine whose files are below `root`.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let setup = Setup::read(root);
        Self {
            loaded: is_loaded(),
            reserved: reserved(),
            line: setup
                .as_ref()
                .map_err(Clone::clone)
                .and_then(Setup::command_line),
            last: setup
                .as_ref()
                .ok()
                .and_then(|setup| dumps::newest(&dumps::folders(setup))),
            proofs: proof::read(root),
            setup,
        }
    }

    /// A crash would be captured.
    #[must_use]
    pub fn is_operational(&self) -> bool {
        matches!(self.loaded, Ok(true))
    }

    /// As `--json` has it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let setup = self.setup.as_ref().ok();
        let mistakes = self.setup.as_ref().err();
        let proofs: serde_json::Map<String, Value> = self
            .proofs
            .iter()
            .map(|proof| (proof.kind.word().to_owned(), proof.to_json()))
            .collect();
        json!({
            "operational": self.is_operational(),
            "reserved_bytes": self.reserved.as_ref().ok(),
            "kernel": setup.map(|setup| setup.kernel.display().to_string()),
            "release": setup.map(|setup| &setup.release),
            "image": setup.map(|setup| setup.image.display().to_string()),
            "image_is_there": setup.is_some_and(|setup| setup.image.is_file()),
            "command_line": self.line.as_ref().ok(),
            "mistakes": mistakes.map_or(Vec::new(), |mistakes| {
                mistakes.0.iter().map(ToString::to_string).collect::<Vec<_>>()
            }),
            "last_crash": self.last.as_ref().map(|dump| json!({
                "folder": dump.folder.display().to_string(),
                "time": dump.crash_time_s,
                "date": dump.date,
                "panic": dump.panic,
                "is_complete": dump.result.is_ok(),
                "incomplete_because": dump.result.as_ref().err(),
            })),
            "proofs": proofs,
        })
    }

    /// For a person; `verbose` has all of it.
    #[must_use]
    pub const fn text(&self, verbose: bool) -> Text<'_> {
        Text {
            status: self,
            verbose,
        }
    }
}

/// See [`Status::text`].
#[derive(Debug)]
pub struct Text<'a> {
    status: &'a Status,
    verbose: bool,
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status;
        match &status.loaded {
            Ok(true) => writeln!(f, "Kdump is operational")?,
            Ok(false) => writeln!(f, "Kdump is not operational")?,
            Err(mistake) => writeln!(f, "Kdump is not operational: {mistake}")?,
        }
        if self.verbose {
            match &status.reserved {
                Ok(bytes) => writeln!(f, "reserved:     {} MB", bytes >> 20)?,
                Err(mistake) => writeln!(f, "reserved:     {mistake}")?,
            }
            match &status.setup {
                Ok(setup) => {
                    let there = if setup.image.is_file() {
                        ""
                    } else {
                        " (not built yet)"
                    };
                    writeln!(f, "kernel:       {}", setup.kernel.display())?;
                    writeln!(f, "image:        {}{there}", setup.image.display())?;
                }
                Err(mistakes) => writeln!(f, "set-up:       {mistakes}")?,
            }
            match &status.line {
                Ok(line) => writeln!(f, "command line: {line}")?,
                Err(mistakes) => writeln!(f, "command line: {mistakes}")?,
            }
        }
        if let Some(dump) = &status.last {
            writeln!(f, "last crash: {dump}")?;
        }
        for proof in &status.proofs {
            writeln!(f, "last {proof}")?;
        }
        if status.proofs.is_empty() && self.verbose {
            writeln!(
                f,
                "last test:    never; `kdumpctl test` crashes the machine, `mkkdumprd selftest` a virtual one, `mkkdumprd check` \
                 tries the targets alone"
            )?;
        }
        Ok(())
    }
}
