// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pages by kind, in the form that makedumpfile prints and people's scripts read.
//!
//! Source: `print_report()` in makedumpfile 1.7.9 `makedumpfile.c`. Pages that two segments have count once here.

use std::fmt;

use collector::Stats;

/// Pages by kind.
pub(crate) struct Report<'a> {
    pub(crate) stats: &'a Stats,
    /// One past the highest pfn.
    pub(crate) max_mapnr: u64,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats;
        let excluded = stats.present.saturating_sub(stats.kept);
        writeln!(f, "Original pages  : {:#018x}", stats.present)?;
        writeln!(f, "  Excluded pages   : {excluded:#018x}")?;
        for (name, count) in [
            ("Pages filled with zero  ", stats.zero),
            ("Non-private cache pages ", stats.cache),
            ("Private cache pages     ", stats.cache_private),
            ("User process data pages ", stats.user),
            ("Free pages              ", stats.free),
            ("Hwpoison pages          ", stats.hwpoison),
            ("Offline pages           ", stats.offline),
        ] {
            writeln!(f, "    {name}: {count:#018x}")?;
        }
        if stats.missing > 0 {
            writeln!(f, "    Left out before         : {:#018x}", stats.missing)?;
        }
        if stats.unreadable > 0 {
            writeln!(
                f,
                "    Unreadable, now zeros   : {:#018x}",
                stats.unreadable
            )?;
        }
        writeln!(f, "  Remaining pages  : {:#018x}", stats.kept)?;
        let percent = stats.kept.saturating_mul(100) / stats.present.max(1);
        writeln!(f, "  (The number of pages is reduced to {percent}%.)")?;
        let hole = self.max_mapnr.saturating_sub(stats.present);
        writeln!(f, "Memory Hole     : {hole:#018x}")?;
        writeln!(f, "{}", "-".repeat(50))?;
        writeln!(f, "Total pages     : {:#018x}", self.max_mapnr)?;
        write!(f, "Write bytes     : {}", stats.written_bytes)
    }
}

/// One line for people: what became of the pages.
pub(crate) struct Line<'a>(pub(crate) &'a Stats);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.0;
        write!(
            f,
            "level {}, {} pages: {} kept",
            stats.level_used, stats.present, stats.kept
        )?;
        for (count, name) in [
            (stats.missing, "left out before"),
            (stats.zero, "zero"),
            (stats.cache, "cache"),
            (stats.cache_private, "cache with private data"),
            (stats.user, "user"),
            (stats.free, "free"),
            (stats.hwpoison, "hwpoison"),
            (stats.offline, "offline"),
        ] {
            if count > 0 {
                write!(f, ", {count} {name}")?;
            }
        }
        if stats.unreadable > 0 {
            write!(f, " ({} unreadable)", stats.unreadable)?;
        }
        Ok(())
    }
}
