// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loads kernels with `kexec_file_load(2)`: the capture kernel, and the next one.
//!
//! ```text
//! /proc/cmdline ─▶ command_line::compose ─▶ load(Purpose::Crash, kernel, image, line) ─▶ the reserved memory
//! ```
//! The kernel does the rest: it places the image, writes the ELF header of the future vmcore and adds `elfcorehdr=`.
//!
//! ```
//! use kexec::command_line::{Capture, compose};
//! let line = compose("root=/dev/vda1 console=ttyS0 quiet crashkernel=80M", &Capture::default()).unwrap();
//! assert!(line.starts_with("console=ttyS0 irqpoll nr_cpus=1 reset_devices "), "{line}");
//! assert!(!line.contains("crashkernel"));
//! ```
//! What it does not do: `kexec_load(2)`, which kernels without `CONFIG_KEXEC_FILE` need. [`execute`] starts
//! what is loaded at once: whoever calls it has ended what was running.
//!
//! The command `kexec` of this crate is what the test guests carry. One file without a dynamic loader is made by
//! ```text
//! cargo rustc --release -p kdumprd-kexec --bin kexec -- -C target-feature=+crt-static
//! ```
//! and lies in `target/release/kexec`.
#![deny(unsafe_code)]

pub mod command_line;
pub mod load;
mod sys;

pub use load::{LoadError, Purpose, execute, is_loaded, load, reserved_bytes, unload};
