// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong between the panic and the reboot, made to go wrong.
//!
//! ```text
//! table (fault × target, what must come of it) ─▶ ground (machine, target, spare) ─▶ play (inject, panic, look) ─▶ page
//! ```
//! Each cell of [`table::ROWS`] is one panic of a real kernel with one fault, and a test of its own in `tests/faults.rs`.
//! Whatever the fault, the final action must come within the time that `mkkdumprd plan` printed.

mod ground;
mod inject;
pub mod page;
mod play;
pub mod table;

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::results::Results;
use inject::Inject;

/// What the cells leave.
pub const RESULTS: Results = Results {
    folder: "qemu-faults",
    page: "fault-matrix.md",
};

/// A kind of target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file system on a disk: ext4.
    Ext,
    /// A disk as it is.
    Raw,
    /// A directory of an NFS server, version 4.
    Nfs,
    /// A server by ssh.
    Ssh,
}

impl Kind {
    /// Every kind, in the order of the page.
    pub const ALL: [Self; 4] = [Self::Ext, Self::Raw, Self::Nfs, Self::Ssh];

    /// The word for names.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ext => "ext",
            Self::Raw => "raw",
            Self::Nfs => "nfs",
            Self::Ssh => "ssh",
        }
    }

    const fn is_disk(self) -> bool {
        matches!(self, Self::Ext | Self::Raw)
    }
}

/// What must come of a capture with a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Must {
    /// The whole dump at the target.
    Complete,
    /// The dump at the target, with zeros for what cannot be read, and their number.
    Holes,
    /// The dump at the target with every page but those of zeros: it cannot be filtered.
    Unfiltered,
    /// The whole dump at the next target; what is at the first one says that it is incomplete.
    Next,
    /// There is no other target: what fitted is at this one, and says that it is incomplete.
    Partial,
    /// No dump can be had at all: the machine is restarted.
    Restart,
}

impl fmt::Display for Must {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Complete => "complete",
            Self::Holes => "complete, zeros for what cannot be read",
            Self::Unfiltered => "complete, unfiltered",
            Self::Next => "next target",
            Self::Partial => "incomplete, and says so",
            Self::Restart => "restart",
        })
    }
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name, of which the names of the tests are made.
    pub fault: &'static str,
    /// How it is brought about.
    pub how: &'static str,
    inject: Inject,
    /// What must come of it, for each kind of target where it applies.
    pub cells: &'static [Cell],
}

/// One fault at one kind of target.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// The kind.
    pub kind: Kind,
    /// What must come of it.
    pub must: Must,
    said: &'static str,
}

impl Cell {
    /// What the console must say, as a pattern.
    fn pattern(&self) -> String {
        match self.must {
            Must::Next | Must::Partial => format!("attempt 1 of . failed: {}", self.said),
            Must::Complete | Must::Holes | Must::Unfiltered | Must::Restart => self.said.to_owned(),
        }
    }
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// From init's start, or the panic where init never starts, to the machine's end.
    took: Duration,
    /// What the plan said that it takes at most.
    bound: Duration,
    /// What the console said.
    said: String,
    /// What was left at the first target, where the dump is not there.
    left: &'static str,
}

/// Plays one cell of the table, and keeps what came of it.
///
/// # Errors
/// What was otherwise than it must be.
pub fn play(fault: &str, kind: &str) -> Result<()> {
    let (row, cell) = table::find(fault, kind)
        .with_context(|| format!("the table has no cell {fault}, {kind}"))?;
    let result = play::play(row, cell);
    let mut text = json!({
        "fault": row.fault,
        "kind": cell.kind.word(),
        "must": cell.must.to_string(),
    });
    match &result {
        Ok(seen) => {
            text["seconds"] = json!(seen.took.as_secs());
            text["bound_s"] = json!(seen.bound.as_secs());
            text["said"] = json!(seen.said);
            text["left"] = json!(seen.left);
        }
        Err(error) => text["error"] = json!(format!("{error:#}")),
    }
    RESULTS.keep(&format!("{fault}-{kind}"), &text)?;
    result.map(|_| ())
}
