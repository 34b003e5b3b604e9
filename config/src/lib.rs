// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words that both sides of the reboot share.
//!
//! The builder (`mkkdumprd`) writes a [`Record`] into the image; `init` reads it in the capture kernel and guesses
//! nothing beyond it. This crate is plain data with a text form: it opens nothing and looks nothing up.
//!
//! ```
//! use config::{Record, record};
//! let text = "kdumprd-record 1\nkernel 6.1.0\nhostname db7\nzone UTC0\nfailure_action reboot\nfinal_action reboot\nend\n";
//! let record = record::parse(text).unwrap();
//! assert_eq!(record.kernel, "6.1.0");
//! let written = record.to_string();
//! assert_eq!(record::parse(&written).unwrap(), record);
//! ```
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod action;
pub mod bound;
pub mod build;
pub mod collect;
pub mod deadline;
pub mod fence;
pub mod hook;
pub mod layer;
pub mod luks;
pub mod network;
pub mod record;
pub mod target;
pub mod watchdog;

pub use action::{FailureAction, FinalAction};
pub use build::Build;
pub use collect::{CollectOptions, Compression, DumpLevel, Format};
pub use deadline::Deadlines;
pub use fence::Fence;
pub use hook::{Hook, HookKind};
pub use layer::{Layer, Layers};
pub use luks::Luks;
pub use network::{NetworkSpec, Server};
pub use record::{Attempt, Module, Record, Role, RootFilesystem};
pub use target::{DeviceId, DeviceSpec, HostKeys, TargetSpec};
pub use watchdog::Watchdog;
