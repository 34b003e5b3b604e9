// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a dump goes: from a described target to a sink that takes bytes at offsets.
#![cfg_attr(not(test), no_std)]
