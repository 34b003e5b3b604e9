// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds the kdump initramfs.
#![forbid(unsafe_code)]
