// SPDX-License-Identifier: MIT OR Apache-2.0
//! `info FILE`: what a vmcore or a dump is, and what its pages are.

use std::path::Path;

use collector::counters::counters;
use collector::{MEMORY_BYTES, OPEN_BYTES, dmesg, survey};
use config::DumpLevel;

use super::Failure;
use super::input::{Bytes, Shape, open_dumpfile, open_vmcore};
use super::messages::Level;
use super::progress::Console;

/// Prints one field a line.
pub(crate) fn info(path: &Path) -> Result<(), Failure> {
    let bytes = Bytes::open(path)?;
    let shape = match bytes.shape {
        Shape::Elf => "ELF",
        Shape::Dumpfile => "kdump-compressed",
        Shape::Unknown => "unknown",
    };
    let flattened = match bytes.flattened() {
        Some(true) => ", flattened",
        Some(false) => ", flattened, without its end mark",
        None => "",
    };
    println!("format         {shape}{flattened}");
    if bytes.shape == Shape::Dumpfile {
        let reader = open_dumpfile(path, bytes)?;
        let sub = reader.sub_header();
        let state = if reader.is_incomplete() {
            ", incomplete"
        } else {
            ""
        };
        println!(
            "dump           version {}, level {}, {} pages stored{state}",
            reader.header().version,
            sub.dump_level,
            reader.page_count()
        );
        if sub.split != 0 {
            println!(
                "part           pfns {:#x} to {:#x} of several files; --reassemble joins them",
                sub.start_pfn, sub.end_pfn
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
    println!("kernel         {}", or_unknown(vmcore.release()));
    println!(
        "machine        {}",
        or_unknown(vmcore.machine_name().unwrap_or(""))
    );
    match vmcore.crash_time_s() {
        Some(seconds) => println!("crash time     {seconds} s since 1970"),
        None => println!("crash time     (none: not the vmcore of a panic)"),
    }
    println!("page size      {} bytes", vmcore.page_size());
    println!("present pages  {}", vmcore.present_pages());
    println!("highest pfn    {:#x}", vmcore.max_mapnr().saturating_sub(1));
    println!("processors     {}", vmcore.cpu_count());
    println!("VMCOREINFO     {} bytes", vmcore.vmcoreinfo().text().len());
    println!(
        "notes          {} bytes",
        vmcore.notes().iter().map(|notes| notes.bytes).sum::<u64>()
    );
    let mut memory = vec![0; MEMORY_BYTES.max(OPEN_BYTES)];
    match dmesg::write(&mut vmcore, &mut memory, &mut |_| Ok(())) {
        Ok(log) => {
            println!(
                "log            {} records, {} bytes",
                log.records, log.bytes
            );
            println!("stopped by     {}", or_unknown(&log.panic_line));
        }
        Err(error) => println!("log            {error}"),
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
                    println!("  {what:<16}{pages:>12} pages");
                }
            }
        }
        Err(error) => println!("pages by kind  {error}"),
    }
    let counters = counters(&mut vmcore, &mut memory);
    println!("the kernel's own counters, whose rest is in lists of each processor");
    for (what, pages) in [
        ("file", counters.file),
        ("anonymous", counters.anonymous),
        ("free", counters.free),
    ] {
        match pages {
            Some(pages) => println!("  {what:<16}{pages:>12} pages"),
            None => println!("  {what:<16}{:>12}", "(unknown)"),
        }
    }
    Ok(())
}
