// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel modules: what the capture kernel has ([`index`]), what one file says of itself ([`modinfo`]), and which of
//! them a plan needs in which order ([`closure`]).

pub mod closure;
pub mod index;
pub mod modinfo;

/// A module's name as the kernel has it: `-` and `_` are the same.
#[must_use]
pub fn normalised(name: &str) -> String {
    name.replace('-', "_")
}
