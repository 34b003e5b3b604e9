// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages by kind and bytes written: what the last log line is made from.

use config::DumpLevel;

/// What became of each page of the vmcore.
///
/// `present` is the sum of `missing`, `zero`, `cache`, `cache_private`, `user`, `free`, `hwpoison`, `offline` and `kept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The level that was really used: the one asked for, or a lower one where filtering was not sure.
    pub level_used: DumpLevel,
    /// Pages that the vmcore has at least a byte of.
    pub present: u64,
    /// Pages that the vmcore, a dumpfile itself, was written without.
    pub missing: u64,
    /// Pages of zeros among those that no other rule left out; counted only at levels that leave them out.
    pub zero: u64,
    /// Cache pages without private data.
    pub cache: u64,
    /// Cache pages with private data.
    pub cache_private: u64,
    /// Pages of user processes.
    pub user: u64,
    /// Free pages.
    pub free: u64,
    /// Pages with broken memory below, always left out.
    pub hwpoison: u64,
    /// Pages that were given back to a hypervisor, always left out.
    pub offline: u64,
    /// Pages whose contents are in the dumpfile.
    pub kept: u64,
    /// Pages, or pages' worth of file in a copy, that could not be read and stand as zeros in the dumpfile.
    pub unreadable: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
}

impl Stats {
    /// Nothing counted yet.
    #[must_use]
    pub const fn new(level_used: DumpLevel) -> Self {
        Self {
            level_used,
            present: 0,
            missing: 0,
            zero: 0,
            cache: 0,
            cache_private: 0,
            user: 0,
            free: 0,
            hwpoison: 0,
            offline: 0,
            kept: 0,
            unreadable: 0,
            written_bytes: 0,
        }
    }
}
