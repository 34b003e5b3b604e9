// SPDX-License-Identifier: MIT OR Apache-2.0
//! `info FILE`: what a vmcore or a dump is, and what its pages are.

use std::path::Path;

use collector::counters::counters;
use collector::{MEMORY_BYTES, OPEN_BYTES, dmesg, survey};
use config::DumpLevel;

use super::Failure;
use super::input::{Bytes, Shape, open_dumpfile, open_vmcore};
use super::messages::{Level, say};
use super::progress::Console;

/// Prints one field a line.
pub(crate) fn info(path: &Path) -> Result<(), Failure> {
    let bytes = Bytes::open(path)?;
    let shape = match bytes.shape {
        Shape::Elf => "ELF",
        Shape::Dumpfile => "kdump-compressed",
    };
    let flattened = match bytes.flattened() {
        Some(true) => ", flattened",
        Some(false) => ", flattened, without its end mark",
        None => "",
    };
    say!("format         {shape}{flattened}");
    if bytes.shape == Shape::Dumpfile {
        let reader = open_dumpfile(path, bytes)?;
        let sub = reader.sub_header();
        let state = if reader.is_incomplete() {
            ", incomplete"
        } else {
            ""
        };
        say!(
            "dump           version {}, level {}, {} pages stored{state}",
            reader.header().version,
            sub.dump_level,
            reader.page_count()
        );
        if sub.split != 0 {
            say!(
                "part           pfns {:#x} to {:#x} of several files; --reassemble joins them",
                sub.start_pfn,
                sub.end_pfn
            );
            return Ok(());
        }
    }
    let mut vmcore = open_vmcore(path, None)?;
    let or_unknown = |text: &str| {
        if text.is_empty() {
            "(unknown)".to_owned()
        } else {
            text.to_owned()
        }
    };
    say!("kernel         {}", or_unknown(vmcore.release()));
    say!(
        "machine        {}",
        or_unknown(vmcore.machine_name().unwrap_or(""))
    );
    match vmcore.crash_time_s() {
        Some(seconds) => say!("crash time     {seconds} s since 1970"),
        None => say!("crash time     (none: not the vmcore of a panic)"),
    }
    say!("page size      {} bytes", vmcore.page_size());
    say!("present pages  {}", vmcore.present_pages());
    say!("highest pfn    {:#x}", vmcore.max_mapnr().saturating_sub(1));
    say!("processors     {}", vmcore.cpu_count());
    say!("VMCOREINFO     {} bytes", vmcore.vmcoreinfo().text().len());
    say!(
        "notes          {} bytes",
        vmcore.notes().iter().map(|notes| notes.bytes).sum::<u64>()
    );
    let mut memory = vec![0; MEMORY_BYTES.max(OPEN_BYTES)];
    match dmesg::write(&mut vmcore, &mut memory, &mut |_| Ok(())) {
        Ok(log) => {
            say!(
                "log            {} records, {} bytes",
                log.records,
                log.bytes
            );
            say!("stopped by     {}", or_unknown(&log.panic_line));
        }
        Err(error) => say!("log            {error}"),
    }
    let mut console = Console::new(Level::new(2));
    match survey(
        &mut vmcore,
        DumpLevel::MAX,
        1 << 18,
        &mut |_, _| {},
        &mut memory,
        &mut console,
    ) {
        Ok(stats) => {
            for (what, pages) in [
                ("cache", stats.cache),
                ("cache, private", stats.cache_private),
                ("user", stats.user),
                ("free", stats.free),
                ("hwpoison", stats.hwpoison),
                ("offline", stats.offline),
                ("left out before", stats.missing),
                ("others", stats.kept),
            ] {
                if pages > 0 {
                    say!("  {what:<16}{pages:>12} pages");
                }
            }
        }
        Err(error) => say!("pages by kind  {error}"),
    }
    let counters = counters(&mut vmcore, &mut memory);
    say!("the kernel's own counters, whose rest is in lists of each processor");
    for (what, pages) in [
        ("file", counters.file),
        ("anonymous", counters.anonymous),
        ("free", counters.free),
    ] {
        match pages {
            Some(pages) => say!("  {what:<16}{pages:>12} pages"),
            None => say!("  {what:<16}{:>12}", "(unknown)"),
        }
    }
    Ok(())
}
