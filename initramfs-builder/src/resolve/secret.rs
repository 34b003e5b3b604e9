// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that only their owner may read.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What a file's mode lets others than its owner do. ssh takes no such key either.
const OTHERS: u32 = 0o077;

/// The file's mode, when others than its owner can do anything with it.
pub(super) fn others_may(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).map_or(0, |found| found.mode());
    (mode & OTHERS != 0).then_some(mode & 0o7777)
}
