// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory functions that compiled code calls by name. A C library would bring them; here they are ours.
//!
//! They are written in assembly, one file an architecture, because a loop in Rust may be compiled into a call of the very
//! function that it implements. The library's tests build the same file under other names (`memory` in `lib.rs`).
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
#[path = "mem/x86_64.rs"]
mod functions;
