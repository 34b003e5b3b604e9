// SPDX-License-Identifier: MIT OR Apache-2.0
//! makedumpfile's job as a library: filters and compresses a vmcore.
//!
//! The library makes no system call and has no heap. It sees bytes at offsets through two seams, [`Source`] and
//! [`Sink`], and tells its caller how far it is through [`Observer`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod io;
pub mod observer;

pub use io::{IoError, Sink, Source};
pub use observer::{Observer, Progress, Stage};
