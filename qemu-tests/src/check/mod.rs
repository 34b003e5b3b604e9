// SPDX-License-Identifier: MIT OR Apache-2.0
//! Is the dump right? Answers that do not come from the code that made it.
//!
//! ```text
//! guest RAM file ─┬─▶ page_exact: every page of the dump, every present pfn
//!                 ├─▶ paging ─▶ classifier: which pages a level keeps ─▶ page_exact
//!                 └─▶ elf_core: the vmcore again ─▶ makedumpfile ─┐
//! dump ─▶ dumpfile: a reader of its own ──────────────────────────┴─▶ readers: the same pages?
//! dump ─▶ readers: drgn, crash, makedumpfile --dump-dmesg
//! ```
//!
//! Nothing here uses the collector: a misread offset must not agree with itself. The guest's RAM is a file
//! (`memory-backend-file`, `share=on`) that outlives QEMU. The capture kernel lives in its own region, which the vmcore
//! does not have; all else stays as the panic left it, so the file can be read when the guest is gone.
//!
//! What it does not do: read other architectures than x86_64, kernels without `SPARSEMEM_EXTREME`, or pages that were
//! compressed by anything but zlib.

pub mod classifier;
pub mod dumpfile;
pub mod elf_core;
pub mod memory;
pub mod notes;
pub mod page_exact;
pub mod paging;
pub mod readers;
pub mod vmcoreinfo;
