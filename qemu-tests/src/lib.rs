// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boots real kernels under QEMU, panics them, and checks what kdumprd saved.
//!
//! ```text
//! setup ─▶ tools, kernels          artifacts ─▶ init, mkkdumprd, kexec, vmcore
//!                    └──────┬──────────────────────┘
//! disk ─▶ images ─▶ cycle: guest (first kernel) ─▶ crash ─▶ capture kernel ─▶ reset
//!                           │ vm, console, qmp
//!                           └─▶ dump: files read back, opened by programs that are not ours
//! ```
//!
//! A cycle is one QEMU: the first kernel boots into a small shell, loads the capture kernel with our `kexec`, and
//! panics in the way asked; the rest is up to the capture image. Success is a line on the console or a file on a
//! disk; silence is failure. Everything runs without hardware virtualisation, so that it gives the same result
//! wherever it runs.
//!
//! What it does not do: install a kernel, touch a disk of the host, or need root where the tools are installed.
#![forbid(unsafe_code)]

pub mod architecture;
pub mod artifacts;
pub mod case;
pub mod check;
pub mod client;
pub mod console;
pub mod cpio;
pub mod crash;
pub mod cycle;
pub mod debian;
pub mod disk;
pub mod encrypted;
pub mod errand;
pub mod faults;
pub mod foreign;
pub mod guest;
pub mod installed;
pub mod machine;
pub mod matrix;
pub mod measure;
pub mod musl;
mod patience;
pub mod peer;
pub mod proof;
pub mod qmp;
pub mod relay;
pub mod report;
pub mod results;
pub use packaging::run;
pub mod saved;
pub mod scene;
pub mod server;
pub mod setup;
pub mod side_by_side;
pub mod stack;
pub mod vlan;
pub mod vm;
pub mod wire;
