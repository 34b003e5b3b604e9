// SPDX-License-Identifier: MIT OR Apache-2.0
//! What building packages shares with the tests of what they hold; the packages are made by the program `packages`.
#![forbid(unsafe_code)]

pub mod run;
