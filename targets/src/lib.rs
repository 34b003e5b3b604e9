// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a dump goes: from a described target to a sink that takes bytes at offsets.
//!
//! ```text
//! DeviceSpec ─▶ device::wait ─▶ Found ─┬─▶ raw::Raw::open ────────────────────────────▶ Raw: Sink
//!                                      └─▶ Filesystem::mount ─▶ Directory ─▶ create ─▶ FileSink: Sink
//! Layer ─▶ layer::assemble ─▶ a device more for device::wait
//! NetworkSpec ─▶ net::bring_up ─▶ Network ─▶ nfs::mount_export ─┘
//! ```
//! Each arrow is one call that `init` makes, so that its supervisor knows which step a stuck attempt was at. Every wait is
//! bounded by the caller; every error says what was being done, to what, and what the kernel answered.
//!
//! [`superblock`], [`partition_table`] and [`bus_path`] are readers that the builder uses too. The crate formats nothing,
//! repairs nothing and follows no name that was not looked up on the host.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub mod bus_path;
mod bytes;
mod clock;
pub mod device;
mod directory;
pub mod filesystem;
mod io;
pub mod layer;
mod mount_options;
pub mod net;
pub mod nfs;
mod old_dumps;
mod output;
pub mod partition_table;
pub mod raw;
pub mod ssh;
pub mod superblock;
mod sys;
mod sysfs;
pub mod text;
mod uevent;

pub use bytes::Uuid;
pub use text::{Name, Text};
