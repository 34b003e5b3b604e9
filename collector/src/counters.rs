// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first kernel's own counters, beside what the rules make of its pages.
//!
//! A rule that misreads this kernel's pages calls far too many pages free, or cache, or a user's. The kernel counts
//! these pages itself, and a dump that would lack pages that the kernel does not count is not made: the rule is off.
//!
//! The counters need not be exact. Each processor gathers up to 125 changes of a counter before it adds them, pages wait
//! in lists of each processor before they are counted as on a list, and other processors were at work until they were
//! stopped. Hence [`tolerance`].
//!
//! Source: Linux 6.1 and 6.12 `mm/vmstat.c`, `include/linux/mmzone.h`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use core::fmt;

use crate::address::VirtAddr;
use crate::io::Source;
use crate::known::Known;
use crate::nodes::Nodes;
use crate::page::Kinds;
use crate::stats::Stats;
use crate::vmcore::Vmcore;

/// What the kernel counted; `None` where that cannot be known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Pages in free blocks.
    pub free: Option<u64>,
    /// Pages of files, with those of tmpfs and of the swap cache.
    pub file: Option<u64>,
    /// Pages of processes that are mapped, without huge pages of hugetlbfs, and with those of the swap cache.
    pub anonymous: Option<u64>,
    /// Processors whose counts may not be in.
    pub processors: u32,
}

/// What the first kernel counted. `memory` has [`MEMORY_BYTES`](crate::MEMORY_BYTES).
pub fn counters<S: Source>(vmcore: &mut Vmcore<'_, S>, memory: &mut [u8]) -> Counters {
    let known = Known::resolve(vmcore, memory);
    Counters::read(vmcore, &known)
}

/// How far a number of pages may be above what the kernel counts: a sixteenth of it, 1024 pages, and 512 for each
/// processor.
#[must_use]
pub fn tolerance(counted: u64, processors: u32) -> u64 {
    (counted / 16)
        .saturating_add(1024)
        .saturating_add(u64::from(processors).saturating_mul(512))
}

/// A kind of pages of which the rules find more than the kernel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The kind, in the plural.
    pub pages: &'static str,
    /// Pages that the rules found.
    pub found: u64,
    /// Pages that the kernel counts.
    pub counted: u64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} pages would be left out as {}, and the kernel counts {}",
            self.found, self.pages, self.counted
        )
    }
}

impl Counters {
    /// Reads the counters.
    pub(crate) fn read<S: Source>(vmcore: &mut Vmcore<'_, S>, known: &Known<'_>) -> Self {
        let free = known.number("NR_FREE_PAGES").and_then(|index| {
            free_of_zones(vmcore, known, index)
                .or_else(|| global(vmcore, known, "vm_zone_stat", index))
        });
        let mut node = |name| global(vmcore, known, "vm_node_stat", known.number(name)?);
        let swap = node("NR_SWAPCACHE").unwrap_or(0);
        Self {
            free,
            file: node("NR_FILE_PAGES"),
            anonymous: node("NR_ANON_MAPPED").map(|pages| pages.saturating_add(swap)),
            processors: vmcore.cpu_count(),
        }
    }

    /// The kinds of which `stats` has more than the kernel counts. `huge_pages` are those of hugetlbfs among the users'.
    /// `tell` is called with each.
    pub(crate) fn doubts(
        &self,
        stats: &Stats,
        huge_pages: u64,
        tell: &mut dyn FnMut(Mismatch),
    ) -> Kinds {
        let mut doubted = |pages, found: u64, counted: Option<u64>| {
            let Some(counted) = counted else {
                return false;
            };
            let most = counted.saturating_add(tolerance(counted, self.processors));
            if found > most {
                tell(Mismatch {
                    pages,
                    found,
                    counted,
                });
            }
            found > most
        };
        Kinds {
            free: doubted("free", stats.free, self.free),
            cache: doubted(
                "cache",
                stats.cache.saturating_add(stats.cache_private),
                self.file,
            ),
            user: doubted(
                "of users",
                stats.user.saturating_sub(huge_pages),
                self.anonymous,
            ),
        }
    }
}

/// The sum of all zones' counters of free pages.
fn free_of_zones<S: Source>(
    vmcore: &mut Vmcore<'_, S>,
    known: &Known<'_>,
    index: i64,
) -> Option<u64> {
    let word = i64::try_from(vmcore.abi().word_bytes()).ok()?;
    let inside = u64::try_from(index.checked_mul(word)?)
        .ok()?
        .checked_add(u64::try_from(known.offset("zone.vm_stat")?).ok()?)?;
    let mut sum = 0_u64;
    Nodes::resolve(known)?.each_zone(vmcore, &mut |vmcore, zone| {
        let count = read_counter(vmcore, zone.checked_add(inside)?)?;
        sum = sum.saturating_add(count);
        Some(())
    })?;
    Some(sum)
}

/// A counter of the whole machine.
fn global<S: Source>(
    vmcore: &mut Vmcore<'_, S>,
    known: &Known<'_>,
    table: &str,
    index: i64,
) -> Option<u64> {
    let word = i64::try_from(vmcore.abi().word_bytes()).ok()?;
    let inside = u64::try_from(index.checked_mul(word)?).ok()?;
    read_counter(vmcore, known.symbol(table)?.checked_add(inside)?)
}

/// A counter. It is a signed `long`, and below zero where changes of other processors are not in it yet.
fn read_counter<S: Source>(vmcore: &mut Vmcore<'_, S>, address: VirtAddr) -> Option<u64> {
    let count = vmcore.read_word(address).ok()?;
    let sign = match vmcore.abi().word_bytes() {
        4 => 1 << 31,
        _ => 1 << 63,
    };
    Some(if count & sign != 0 { 0 } else { count })
}
