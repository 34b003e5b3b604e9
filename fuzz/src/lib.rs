// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every parser does with hostile input: an error or a value, never a panic, a hang, or memory by an untrusted size.
//!
//! A target takes any bytes. Parsers of text and of streams get them as they are; for what lies deep in a vmcore, the
//! bytes are changes to a sound one, which the collector's tests make: a mutation reaches a page table without having to
//! guess the ELF header before it. Seeds are made by the same generators, so that no file of them is kept.
//!
//! ```text
//! Target { seeds, run } ─┬─▶ fuzz_targets/one.rs   libFuzzer: mutations by coverage, by cargo-fuzz
//!                        └─▶ mutate.rs             seeded mutations, by any stable compiler
//! ```

mod host;
mod limit;
mod machines;
pub mod mutate;
mod patches;
mod targets;
mod wire;

/// The generators of the collector's tests.
#[path = "../../collector/tests/synthetic"]
#[allow(dead_code, reason = "the tests use more of it")]
mod synthetic {
    pub(crate) mod log_buffers;
    pub(crate) mod machine;
    pub(crate) mod ring;
    pub(crate) mod symbols;
}
/// Those of the targets' tests.
#[path = "../../targets/tests/synthetic"]
#[allow(dead_code, reason = "the tests use more of it")]
mod servers {
    pub(crate) mod dhcp;
    pub(crate) mod dns;
    pub(crate) mod lvm;
}
// As the generators name each other.
pub(crate) use synthetic::machine;

/// Parts of the host command.
#[path = "../../vmcore/src"]
#[allow(dead_code, unreachable_pub, reason = "the command uses more of it")]
mod command {
    pub(crate) mod stream;
}

/// One parser, or one way to get at it.
pub struct Target {
    /// Its name, on the command line and of its corpus.
    pub name: &'static str,
    /// Does everything that there is to do with these bytes.
    pub run: fn(&[u8]),
    /// Sound input, or nearly so, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub use targets::TARGETS;

/// The target of this name.
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
