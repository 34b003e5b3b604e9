// SPDX-License-Identifier: MIT OR Apache-2.0
//! The collector on vmcores of made-up machines, whose every byte is known.
//!
//! `machine` writes the vmcores and `dumpfile.rs` reads the result; neither shares code with the crate, so that a
//! wrong offset cannot agree with itself.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed; clippy takes only functions with #[test] for tests"
)]

mod arches;
mod collecting;
mod damage;
mod dmesg;
mod dumpfile;
mod eras;
mod levels;
mod log_buffers;
mod machine;
mod mixed;
mod old_kernels;
mod old_logs;
mod old_machine;
mod ring;
mod symbols;
mod told_by_kernel;
