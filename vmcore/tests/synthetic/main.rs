// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `vmcore`, as people call it: every option, on files of made-up machines.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed; clippy takes only functions with #[test] for tests"
)]

/// The generators and the reader of the collector's tests.
#[path = "../../../collector/tests/synthetic"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the collector's tests use more of it"
)]
mod synthetic {
    pub(crate) mod dumpfile;
    pub(crate) mod machine;
    pub(crate) mod mixed;
    pub(crate) mod ring;
}
// As they name each other.
pub(crate) use synthetic::{dumpfile, machine, mixed, ring};

mod folder;
mod forms;
mod lines;
mod telling;
mod threads;
