// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boots kdumprd under QEMU with injected panics and checks what it saved.
#![forbid(unsafe_code)]
