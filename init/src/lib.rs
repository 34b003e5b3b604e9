// SPDX-License-Identifier: MIT OR Apache-2.0
//! PID 1 of the kdump initramfs.
#![cfg_attr(not(test), no_std)]
