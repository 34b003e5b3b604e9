// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes a dump: the level list, what happens when the output is full, the parts of a split dump.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use collector::address::Pfn;
use collector::flattened::Flattened;
use collector::{
    CollectError, IoError, MEMORY_BYTES, Means, Stats, Vmcore, Workers, collect_with, dmesg, survey,
};
use config::{CollectOptions, DumpLevel};

use super::Failure;
use super::input::{Input, io_error, open_vmcore};
use super::messages::{Level, Messages};
use super::options::{self, Options};
use super::output::{Limited, Output, Stdout, create};
use super::progress::Console;
use super::release;
use super::report::{Line, Report};
use super::threads::Threads;

/// The most memory that `--non-cyclic` takes for the bits of all pages: those of 32 TiB.
const MAX_WINDOW_BYTES: u64 = 1 << 30;
/// Parts begin at multiples of so many pages, where `--splitblock-size` does not say otherwise.
const BLOCK_PAGES: u64 = 1 << 12;

/// Opens the vmcore as `-i` and `-x` want it, and tells of it.
pub(crate) fn open(
    options: &Options,
    path: &Path,
    messages: Messages,
) -> Result<Vmcore<'static, Input>, Failure> {
    let text = match &options.vmcoreinfo {
        Some(file) => Some(release::read_vmcoreinfo(file)?),
        None => None,
    };
    if let Some(text) = &text {
        let own = open_vmcore(path, None)?;
        release::check_vmcoreinfo(text, own.release(), options)?;
    }
    let vmcore = open_vmcore(path, text.as_deref())?;
    if let Some(vmlinux) = &options.vmlinux {
        release::check_vmlinux(vmlinux, vmcore.release())?;
    }
    for line in String::from_utf8_lossy(vmcore.vmcoreinfo().text()).lines() {
        messages.debug(format_args!("{line}"));
    }
    Ok(vmcore)
}

/// `VMCORE OUT`, `-F VMCORE` and `--split VMCORE OUT OUT...`.
pub(crate) fn create_dump(options: &Options, messages: Messages) -> Result<(), Failure> {
    let [path, outs @ ..] = &options.files[..] else {
        return Err(Failure::from("no vmcore is given".to_owned()));
    };
    let started = Instant::now();
    let mut vmcore = open(options, path, messages)?;
    options::check_block(options.block_order, vmcore.page_size())?;
    if options.split {
        return split(options, path, outs, &mut vmcore, messages);
    }
    let (output, name) = match outs.first() {
        Some(out) if options.dry_run => {
            (Output::Nowhere, format!("{} (not written)", out.display()))
        }
        Some(out) => (
            Output::File(create(out, options.replace)?),
            out.display().to_string(),
        ),
        None if options.dry_run => (Output::Nowhere, "standard output (not written)".to_owned()),
        None => (
            Output::Stream(Flattened::new(Stdout)),
            "standard output".to_owned(),
        ),
    };
    let mut output = Limited {
        output,
        limit: options.size_limit,
    };
    let result = try_levels(options, path, &mut vmcore, &mut output, &name, messages);
    let ended = match &mut output.output {
        Output::Stream(stream) => stream
            .finish()
            .map_err(|error| Failure::from(format!("writing to {name}: {error}"))),
        _ => Ok(()),
    };
    let stats = result?;
    ended?;
    let report = Report {
        stats: &stats,
        max_mapnr: vmcore.max_mapnr(),
    };
    messages.report(format_args!("{report}"));
    messages.common(format_args!(
        "{name}: {}; {} bytes in {:.1} s",
        Line(&stats),
        stats.written_bytes,
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// One dump level after the other, until the dump fits.
fn try_levels(
    options: &Options,
    path: &Path,
    vmcore: &mut Vmcore<'_, Input>,
    output: &mut Limited,
    name: &str,
    messages: Messages,
) -> Result<Stats, Failure> {
    let window_pages = window_pages(options, vmcore.max_mapnr());
    let mut threads = match options.threads {
        0 | 1 => None,
        count => Some(Threads::start(count as usize, options.compression, path)?),
    };
    let mut memory = vec![0; memory_bytes(options, vmcore.max_mapnr())?];
    let mut levels = options.levels.iter().copied().peekable();
    while let Some(level) = levels.next() {
        let mut console = Console::new(messages.level);
        let means = Means {
            window_pages,
            workers: threads.as_mut().map(|threads| threads as &mut dyn Workers),
            ..Means::new(&mut memory)
        };
        let result = collect_with(
            vmcore,
            &collect_options(options, level),
            level,
            means,
            output,
            &mut console,
        );
        console.finish();
        match result {
            Ok(stats) => return Ok(stats),
            Err(CollectError::Sink(_, IoError::NO_SPACE)) => {
                let full = match output.limit {
                    Some(limit) => {
                        format!("{name} would be longer than {limit} bytes at level {level}")
                    }
                    None => format!("{name} is full at level {level}"),
                };
                if levels.peek().is_some() && output.output.restart() {
                    messages.common(format_args!("{full}; the next level is tried"));
                    continue;
                }
                return Err(Failure::from(format!(
                    "{full}: what is there is an incomplete dump, which crash and drgn open; \
                     `vmcore info` says how much it has"
                )));
            }
            Err(error) => {
                return Err(Failure::from(format!(
                    "saving {} to {name}: {error}",
                    path.display()
                )));
            }
        }
    }
    Err(Failure::from(
        "no dump level is left to be tried".to_owned(),
    ))
}

/// What the library is asked for.
fn collect_options(options: &Options, level: DumpLevel) -> CollectOptions {
    CollectOptions {
        format: options.format,
        compression: options.compression,
        levels: std::iter::once(level).collect(),
    }
}

/// How long windows are.
fn window_pages(options: &Options, max_mapnr: u64) -> u64 {
    match options.cyclic_buffer_kib {
        Some(kib) => kib.saturating_mul(1024 * 8),
        None if options.non_cyclic => max_mapnr,
        None => u64::MAX,
    }
}

/// The library's memory, and what `--non-cyclic` or a long `--cyclic-buffer` needs on top.
fn memory_bytes(options: &Options, max_mapnr: u64) -> Result<usize, Failure> {
    let all = max_mapnr.div_ceil(8).next_multiple_of(64);
    let wanted = match options.cyclic_buffer_kib {
        Some(kib) => kib.saturating_mul(1024).min(all),
        None if options.non_cyclic => all,
        None => 0,
    };
    if wanted > MAX_WINDOW_BYTES {
        return Err(Failure::from(format!(
            "the bits of all {max_mapnr} pages would take {wanted} bytes; leave out --non-cyclic, or give \
             --cyclic-buffer at most {}",
            MAX_WINDOW_BYTES >> 10
        )));
    }
    let more = wanted.saturating_sub(collector::WINDOW_BYTES as u64);
    Ok(MEMORY_BYTES + more as usize)
}

/// `--split`: parts of about the same number of pages, each by a thread of its own.
fn split(
    options: &Options,
    path: &Path,
    outs: &[PathBuf],
    vmcore: &mut Vmcore<'_, Input>,
    messages: Messages,
) -> Result<(), Failure> {
    let level = options.levels.first().copied().unwrap_or(DumpLevel::NONE);
    if options.levels.len() > 1 {
        return Err(Failure::from(
            "--split takes one dump level: the parts must be of one dump".to_owned(),
        ));
    }
    let block_pages = match options.split_block_kib {
        Some(kib) => {
            let bytes = kib.saturating_mul(1024);
            let pages = bytes / vmcore.page_size() as u64;
            if pages == 0 || !pages.is_multiple_of(64) {
                return Err(Failure::from(format!(
                    "--splitblock-size: {kib} KiB are not a multiple of 64 pages, which crash needs"
                )));
            }
            pages
        }
        None => BLOCK_PAGES,
    };
    let parts = cut_points(vmcore, level, block_pages, outs.len(), messages)?;
    let files: Vec<Output> = outs
        .iter()
        .map(|out| match options.dry_run {
            true => Ok(Output::Nowhere),
            false => create(out, options.replace).map(Output::File),
        })
        .collect::<Result<_, String>>()?;
    let results: Vec<Result<Stats, Failure>> = thread::scope(|scope| {
        let workers: Vec<_> = files
            .into_iter()
            .zip(&parts)
            .zip(outs)
            .map(|((file, &part), out)| {
                scope.spawn(move || write_part(options, path, file, out, level, part, messages))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| Err(Failure::from("a part's thread died".to_owned())))
            })
            .collect()
    });
    for ((result, out), (start, end)) in results.into_iter().zip(outs).zip(&parts) {
        let stats = result?;
        messages.common(format_args!(
            "{}: pfns {start} to {end}, {} pages kept, {} bytes",
            out.display(),
            stats.kept,
            stats.written_bytes
        ));
    }
    Ok(())
}

/// Writes one part.
fn write_part(
    options: &Options,
    path: &Path,
    output: Output,
    out: &Path,
    level: DumpLevel,
    part: (Pfn, Pfn),
    messages: Messages,
) -> Result<Stats, Failure> {
    let mut vmcore = open(
        options,
        path,
        Messages {
            level: Level::new(4),
            ..messages
        },
    )?;
    let window_pages = window_pages(options, vmcore.max_mapnr());
    let mut memory = vec![0; memory_bytes(options, vmcore.max_mapnr())?];
    let means = Means {
        window_pages,
        part: Some(part),
        ..Means::new(&mut memory)
    };
    let mut output = Limited {
        output,
        limit: None,
    };
    let mut quiet = Console::new(messages.level.only_common());
    collect_with(
        &mut vmcore,
        &collect_options(options, level),
        level,
        means,
        &mut output,
        &mut quiet,
    )
    .map_err(|error| {
        Failure::from(format!(
            "saving {} to {}: {error}",
            path.display(),
            out.display()
        ))
    })
}

/// Where the parts begin and end. All pfns are in one of them, and every part begins at a multiple of the block.
fn cut_points(
    vmcore: &mut Vmcore<'_, Input>,
    level: DumpLevel,
    block_pages: u64,
    parts: usize,
    messages: Messages,
) -> Result<Vec<(Pfn, Pfn)>, Failure> {
    let mut memory = vec![0; MEMORY_BYTES];
    let mut blocks = Vec::new();
    let mut console = Console::new(messages.level);
    let counted = survey(
        vmcore,
        level,
        block_pages,
        &mut |start, pages| blocks.push((start, pages)),
        &mut memory,
        &mut console,
    );
    console.finish();
    let stats = counted.map_err(|error| Failure::from(error.to_string()))?;
    let max_mapnr = vmcore.max_mapnr();
    Ok(cut(&blocks, stats.kept, max_mapnr, parts))
}

/// Cuts after the block with which a part has its share of what was left when it began.
fn cut(blocks: &[(Pfn, u64)], pages: u64, max_mapnr: u64, parts: usize) -> Vec<(Pfn, Pfn)> {
    let mut ranges = Vec::new();
    let (mut start, mut left, mut here) = (Pfn(0), pages, 0);
    for &(block, pages) in blocks {
        let parts_left = (parts - ranges.len()) as u64;
        let share = left / parts_left.max(1);
        // Without this block the part would be nearer to its share.
        if here > 0 && parts_left > 1 && here + pages / 2 >= share {
            ranges.push((start, block));
            (start, left, here) = (block, left - here, 0);
        }
        here += pages;
    }
    while ranges.len() + 1 < parts {
        ranges.push((start, start));
    }
    ranges.push((start, Pfn(max_mapnr)));
    // Parts without a page stand before the last.
    ranges
}

/// `--dump-dmesg`.
pub(crate) fn dump_dmesg(options: &Options, messages: Messages) -> Result<(), Failure> {
    let [path, outs @ ..] = &options.files[..] else {
        return Err(Failure::from("no vmcore is given".to_owned()));
    };
    let mut vmcore = open(options, path, messages)?;
    let mut output: Box<dyn std::io::Write> = match outs.first() {
        Some(out) => Box::new(create(out, options.replace)?),
        None => Box::new(std::io::stdout()),
    };
    let mut memory = vec![0; MEMORY_BYTES];
    let part = match options.partial_dmesg {
        true => dmesg::Part::SinceClear,
        false => dmesg::Part::Whole,
    };
    let summary = dmesg::write_part(&mut vmcore, part, &mut memory, &mut |text| {
        output.write_all(text).map_err(|error| io_error(&error))
    })
    .map_err(|error| Failure::from(format!("{}: {error}", path.display())))?;
    output
        .flush()
        .map_err(|error| Failure::from(format!("writing the log: {error}")))?;
    let name = outs.first().map_or("standard output".to_owned(), |out| {
        out.display().to_string()
    });
    messages.common(format_args!(
        "{name}: {} records, {} bytes",
        summary.records, summary.bytes
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(pages: &[u64], parts: usize) -> Vec<(u64, u64)> {
        let blocks: Vec<(Pfn, u64)> = (0..)
            .step_by(64)
            .map(Pfn)
            .zip(pages.iter().copied())
            .collect();
        let cut = cut(&blocks, pages.iter().sum(), 64 * pages.len() as u64, parts);
        cut.iter().map(|(start, end)| (start.0, end.0)).collect()
    }

    #[test]
    fn parts_have_about_the_same_number_of_pages() {
        assert_eq!(ranges(&[10, 10, 10, 10], 2), [(0, 128), (128, 256)]);
        assert_eq!(ranges(&[30, 1, 1, 28], 2), [(0, 64), (64, 256)]);
        assert_eq!(
            ranges(&[60, 5, 5, 5, 5, 20], 3),
            [(0, 64), (64, 320), (320, 384)]
        );
    }

    #[test]
    fn there_may_be_more_parts_than_pages() {
        for parts in 2..6 {
            let ranges = ranges(&[7, 2], parts);
            assert_eq!(ranges.len(), parts);
            assert_eq!((ranges[0].0, ranges[parts - 1].1), (0, 128));
            assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].0));
        }
    }
}
