// SPDX-License-Identifier: MIT OR Apache-2.0
//! A dumpfile against the machine's RAM, page by page.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;

use anyhow::{Context, Result};

use super::classifier::{Classifier, PageKind};
use super::dumpfile::Dumpfile;
use super::memory::{Memory, ZERO_PAGE};
use super::notes;

/// How many differences of one sort are described; the rest is counted.
const SHOWN: usize = 5;

/// What the comparison found.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Pages that the vmcore had.
    pub present: u64,
    /// Pages of the dumpfile, each compared with the RAM.
    pub compared: u64,
    /// Those among them that are all zeros.
    pub zero: u64,
    /// Pages by what the second classifier says of them at this level.
    pub kinds: BTreeMap<PageKind, u64>,
    /// What is wrong, in words; empty when the dump is exact.
    pub differences: Vec<String>,
    /// How many pages are wrong in all.
    pub wrong: u64,
}

impl Comparison {
    /// Nothing differs.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.differences.is_empty()
    }

    fn differ(&mut self, sort: &str, pages: &[(u64, String)]) {
        for (pfn, words) in pages.iter().take(SHOWN) {
            self.differences
                .push(format!("pfn {pfn:#x} {sort}: {words}"));
        }
        if let Some(more) = pages.len().checked_sub(SHOWN).filter(|&more| more > 0) {
            self.differences.push(format!("{more} more pages {sort}"));
        }
        self.wrong += pages.len() as u64;
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} pages present, {} compared with the RAM ({} of them zero), {} wrong",
            self.present, self.compared, self.zero, self.wrong
        )?;
        for (kind, pages) in &self.kinds {
            write!(f, "; {pages} {kind}")?;
        }
        for difference in &self.differences {
            write!(f, "\n  {difference}")?;
        }
        Ok(())
    }
}

/// Compares `dump` with `ram`:
///
/// - every page of the dump has the content that the RAM has at its pfn;
/// - it has exactly the pages that the second classifier keeps at `level`;
/// - where the level leaves zero pages out, all of them share one page of data;
/// - where `present` is known from elsewhere, its first bitmap has exactly these pages.
///
/// # Errors
/// The dump or the RAM cannot be read, so that nothing can be said. Differences are no error: they are in the result.
pub fn compare(
    dump: &Dumpfile,
    ram: &dyn Memory,
    level: u8,
    present: Option<&[Range<u64>]>,
) -> Result<Comparison> {
    let mut result = Comparison::default();
    if dump.level != u32::from(level) {
        result.differences.push(format!(
            "the dumpfile says level {}, not {level}",
            dump.level
        ));
    }
    if dump.status & 8 != 0 {
        result
            .differences
            .push("the dumpfile says that it is incomplete".to_owned());
    }
    let ranges = dump.present();
    if let Some(expected) = present {
        compare_present(&ranges, expected, &mut result);
    }
    compare_contents(dump, ram, level, &mut result)?;
    let classifier = classifier(dump, ram)?;
    compare_kept(dump, &classifier, level, &mut result);
    Ok(result)
}

/// The second opinion on the pages that `dump` was made from.
///
/// # Errors
/// As [`Classifier::new`].
pub fn classifier(dump: &Dumpfile, ram: &dyn Memory) -> Result<Classifier> {
    let info = notes::vmcoreinfo(&dump.notes).context("no VMCOREINFO among the dump's notes")?;
    Classifier::new(ram, &info, dump.present())
}

/// Compares the set of pages that `dump` has with what `classifier` says of `level`, and no contents.
#[must_use]
pub fn compare_set(dump: &Dumpfile, classifier: &Classifier, level: u8) -> Comparison {
    let mut result = Comparison::default();
    compare_kept(dump, classifier, level, &mut result);
    result
}

fn pages(ranges: &[Range<u64>]) -> HashSet<u64> {
    ranges.iter().cloned().flatten().collect()
}

fn compare_present(found: &[Range<u64>], expected: &[Range<u64>], result: &mut Comparison) {
    let (found, expected) = (pages(found), pages(expected));
    let list = |left: &HashSet<u64>, right: &HashSet<u64>| {
        let mut list: Vec<(u64, String)> = left
            .difference(right)
            .map(|&pfn| (pfn, "by the crashed kernel's own memory map".to_owned()))
            .collect();
        list.sort();
        list
    };
    result.differ("should be present", &list(&expected, &found));
    result.differ("should not be present", &list(&found, &expected));
}

fn compare_contents(
    dump: &Dumpfile,
    ram: &dyn Memory,
    level: u8,
    result: &mut Comparison,
) -> Result<()> {
    let (mut content, mut wrong, mut apart) = (ZERO_PAGE, Vec::new(), Vec::new());
    let mut zero_offset = None;
    for &(pfn, descriptor) in dump.pages() {
        if !ram.read_page(pfn, &mut content)? {
            wrong.push((pfn, "the machine has no such page".to_owned()));
            continue;
        }
        result.compared += 1;
        let zero = content == ZERO_PAGE;
        result.zero += u64::from(zero);
        match dump.content(descriptor) {
            Ok(saved) if saved == content => {}
            Ok(saved) => {
                let at = saved.iter().zip(&content).position(|(a, b)| a != b);
                let at = at.unwrap_or(0);
                let words = format!("byte {at} is {:#x}, in RAM {:#x}", saved[at], content[at]);
                wrong.push((pfn, words));
            }
            Err(error) => wrong.push((pfn, format!("cannot be read: {error:#}"))),
        }
        if zero
            && level & 1 != 0
            && descriptor.offset != *zero_offset.get_or_insert(descriptor.offset)
        {
            apart.push((pfn, format!("its data is at {}", descriptor.offset)));
        }
    }
    result.differ("differs from RAM", &wrong);
    result.differ("is zero and yet stored apart", &apart);
    Ok(())
}

fn compare_kept(dump: &Dumpfile, classifier: &Classifier, level: u8, result: &mut Comparison) {
    let kept: HashSet<u64> = dump.pages().iter().map(|&(pfn, _)| pfn).collect();
    let (mut lost, mut extra, mut outside) = (Vec::new(), Vec::new(), kept.clone());
    for (pfn, kind) in classifier.classify(level) {
        result.present += 1;
        *result.kinds.entry(kind).or_default() += 1;
        outside.remove(&pfn);
        let words = || format!("{kind} ({})", classifier.describe(pfn));
        match (kind == PageKind::Kept, kept.contains(&pfn)) {
            (true, false) => lost.push((pfn, words())),
            (false, true) => extra.push((pfn, words())),
            _ => {}
        }
    }
    let outside: Vec<(u64, String)> = outside
        .into_iter()
        .map(|pfn| (pfn, "its bit is only in the second bitmap".to_owned()))
        .collect();
    result.differ("should be in the dump", &lost);
    result.differ("should not be in the dump", &extra);
    result.differ("was not in the vmcore", &outside);
}

/// The pfns that the crashed kernel exported, by what it said on its console when it started: the firmware's usable
/// memory from 1 MiB on, without the region that it set aside for the capture kernel.
///
/// # Errors
/// The log has no such lines.
///
/// Source: Linux 6.1 and 6.12 `arch/x86/kernel/crash.c`, `arch/x86/kernel/e820.c`, `arch/x86/kernel/setup.c`,
/// `kernel/crash_reserve.c`.
pub fn exported(log: &str) -> Result<Vec<Range<u64>>> {
    let mut memory: Vec<Range<u64>> = Vec::new();
    let (mut holes, mut own): (Vec<Range<u64>>, Vec<Range<u64>>) = Default::default();
    for line in log.lines() {
        if let Some((_, region)) = line.split_once("BIOS-e820: [mem ")
            && let Some((region, "usable")) = region.split_once("] ")
        {
            memory.push(inclusive(region).with_context(|| line.to_owned())?);
        } else if let Some((_, region)) = line.split_once("e820: update [mem ")
            && let Some((region, "usable ==> reserved")) = region.split_once("] ")
        {
            holes.push(inclusive(region).with_context(|| line.to_owned())?);
        } else if let Some((_, region)) = line.split_once("crashkernel reserved: ") {
            // 6.12: both ends, the last one exclusive.
            let (start, rest) = region.split_once(" - ").with_context(|| line.to_owned())?;
            let end = rest.split(' ').next().unwrap_or(rest);
            own.push(hex(start)?..hex(end)?);
        } else if let Some((_, region)) = line.split_once("Reserving ")
            && let Some((size, rest)) = region.split_once("MB of memory at ")
            && let Some((start, rest)) = rest.split_once("MB for crashkernel")
            && rest.starts_with(' ')
        {
            let (start, size): (u64, u64) = (start.parse()?, size.parse()?);
            own.push(start << 20..(start + size) << 20);
        }
    }
    anyhow::ensure!(!memory.is_empty(), "the log names no usable memory");
    anyhow::ensure!(
        !own.is_empty(),
        "the log names no region for the capture kernel"
    );
    holes.append(&mut own);
    // The firmware's corner is never exported.
    holes.push(0..1 << 20);
    for hole in holes {
        memory = memory
            .into_iter()
            .flat_map(|range| {
                [
                    range.start..range.end.min(hole.start),
                    range.start.max(hole.end)..range.end,
                ]
            })
            .filter(|range| range.start < range.end)
            .collect();
    }
    memory.sort_by_key(|range| range.start);
    Ok(memory
        .into_iter()
        .map(|range| range.start / 4096..range.end.div_ceil(4096))
        .collect())
}

fn inclusive(region: &str) -> Result<Range<u64>> {
    let (start, last) = region.split_once('-').context("no range")?;
    Ok(hex(start)?..hex(last)? + 1)
}

fn hex(text: &str) -> Result<u64> {
    let digits = text.trim_start_matches("0x");
    u64::from_str_radix(digits, 16).with_context(|| format!("{text} is no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "\
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable
[    0.000000] BIOS-e820: [mem 0x000000000009fc00-0x000000000009ffff] reserved
[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000003ffd6fff] usable
[    0.000000] BIOS-e820: [mem 0x0000000100000000-0x000000011fffffff] usable
[    0.000000] e820: update [mem 0x00000000-0x00000fff] usable ==> reserved
";

    #[test]
    fn the_capture_kernels_region_is_not_exported_6_1() {
        let log = format!(
            "{MAP}[    0.02] Reserving 192MB of memory at 800MB for crashkernel (System RAM: 1023MB)\n"
        );
        assert_eq!(
            exported(&log).unwrap(),
            [0x100..0x32000, 0x3e000..0x3ffd7, 0x10_0000..0x12_0000]
        );
    }

    #[test]
    fn the_capture_kernels_region_is_not_exported_6_12() {
        let log = format!(
            "{MAP}[    0.02] crashkernel reserved: 0x0000000033000000 - 0x000000003f000000 (192 MB)\n"
        );
        assert_eq!(
            exported(&log).unwrap(),
            [0x100..0x33000, 0x3f000..0x3ffd7, 0x10_0000..0x12_0000]
        );
        assert!(exported(MAP).is_err());
    }
}
