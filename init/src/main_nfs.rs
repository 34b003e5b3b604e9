// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/init` for disks and NFS: as `main.rs` in everything else.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(not(test), no_main)]
#![deny(unsafe_code)]

#[cfg(not(test))]
mod start;

#[cfg(not(test))]
static REACH: init::Reach = init::Reach::NFS;
