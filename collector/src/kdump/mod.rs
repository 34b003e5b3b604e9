// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kdump-compressed format, version 6: what makedumpfile writes and crash, drgn and libkdumpfile read.
//!
//! ```text
//! block 0          header                      names, time, block size, compression, complete or not
//! block 1 …        sub header, notes           registers of the CPUs and VMCOREINFO, as the vmcore had them
//!        …         1st bitmap                  a bit for each pfn: the page exists
//!        …         2nd bitmap                  a bit for each pfn: the dumpfile has the page
//!        …         page descriptors            24 bytes for each bit that is set in the 2nd bitmap
//!        …         page data                   back to back, each page compressed by itself
//! ```

#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

pub mod facts;
pub mod file_map;
pub mod header;
pub mod reader;
mod run;
pub mod source;
pub mod utsname;
pub mod writer;

pub use facts::{Bitmap, Facts, Part, Summary, WriteError};
pub use file_map::FileMap;
pub use header::{Extent, Header, HeaderError, PageDesc, SubHeader};
pub use reader::{ReadError, Reader};
pub use source::DumpfileSource;
pub use utsname::Utsname;
pub use writer::Writer;
