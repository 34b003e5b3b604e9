// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/init` of the kdump image. Only what cannot be part of a test build is here; the rest is the library.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod mem;
mod start;
