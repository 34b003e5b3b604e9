// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/init` of the kdump image, for every target. Only what cannot be part of a test build is here; the rest is the library.
//!
//! `cargo check --all-targets` builds a test of every binary, even of one with `test = false`; here that one is empty.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(not(test), no_main)]
#![deny(unsafe_code)]

#[cfg(not(test))]
mod start;

#[cfg(not(test))]
static REACH: init::Reach = init::Reach::ALL;
