// SPDX-License-Identifier: MIT OR Apache-2.0
//! A dumpfile that is cut short, by a full disk, a writer that was killed, or a transfer that broke off: libkdumpfile opens it
//! and reads the pages that are there.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use collector::{IoError, MEMORY_BYTES, OPEN_BYTES, Sink, Source, Vmcore, collect};
use config::{CollectOptions, DumpLevel};
use flate2::Crc;
use qemu_tests::check::dumpfile::Dumpfile;
use qemu_tests::cycle::work_folder;
use qemu_tests::setup;

const PAGE: usize = 4096;
const PAGES: usize = 5000;
const CUTS: usize = 20;

/// The page of a pfn: zero, hard to compress, and all between.
fn page(pfn: usize) -> Vec<u8> {
    let hard = pfn * 37 % (PAGE + 400);
    let mut state = pfn as u64 + 1;
    (0..PAGE)
        .map(|at| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            match pfn % 11 {
                0 => 0,
                _ if at < hard => state as u8,
                _ => pfn as u8,
            }
        })
        .collect()
}

/// A vmcore with as much of a kernel as drgn wants to see.
struct Made(Vec<u8>);

impl Made {
    fn new() -> Self {
        let info = "OSRELEASE=6.1.0-cut\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff82810000\n\
                    NUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=0\nKERNELOFFSET=0\nCRASHTIME=1700000000\n";
        let mut bytes = vec![0; PAGE];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        for (place, word) in [(16, 4_u16), (18, 62), (52, 64), (54, 56), (56, 2)] {
            bytes[place..place + 2].copy_from_slice(&word.to_le_bytes());
        }
        let (note, size) = (24 + info.len() as u64, (PAGES * PAGE) as u64);
        let fields = [
            [(0, 4), (8, 512), (32, note), (40, note)],
            [(0, 1), (8, PAGE as u64), (32, size), (40, size)],
        ];
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        for (header, fields) in fields.iter().enumerate() {
            for (place, field) in fields {
                let at = 64 + header * 56 + place;
                bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(*field));
            }
        }
        let mut note = Vec::new();
        for number in [11, info.len() as u32, 0] {
            note.extend(number.to_le_bytes());
        }
        note.extend(b"VMCOREINFO\0\0");
        note.extend(info.as_bytes());
        bytes[512..512 + note.len()].copy_from_slice(&note);
        bytes.extend((0..PAGES).flat_map(page));
        Self(bytes)
    }
}

impl Source for Made {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        let start = offset as usize;
        let bytes = self.0.get(start..start + buf.len()).ok_or(IoError::END)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// A disk that is full from some byte on, and remembers each write.
#[derive(Default)]
struct Disk {
    limit: Option<usize>,
    writes: Vec<(usize, Vec<u8>)>,
}

impl Sink for Disk {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        let start = offset as usize;
        if self.limit.is_some_and(|limit| start + data.len() > limit) {
            return Err(IoError::NO_SPACE);
        }
        self.writes.push((start, data.to_vec()));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), IoError> {
        Ok(())
    }
}

impl Disk {
    /// What a file has after the first writes, and which bytes of it were written.
    fn after(&self, count: usize) -> (Vec<u8>, Vec<bool>) {
        let (mut bytes, mut written) = (Vec::new(), Vec::new());
        for (offset, data) in self.writes.iter().take(count) {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
                written.resize(end, false);
            }
            bytes[*offset..end].copy_from_slice(data);
            written[*offset..end].fill(true);
        }
        (bytes, written)
    }
}

/// Dumps to a disk of that size; a full one is no failure.
fn dump(limit: Option<usize>) -> Result<Disk> {
    let mut open_memory = vec![0; OPEN_BYTES];
    let mut memory = vec![0; MEMORY_BYTES];
    let mut vmcore = Vmcore::open(Made::new(), &mut open_memory)?;
    let mut disk = Disk {
        limit,
        ..Disk::default()
    };
    let (options, level) = (CollectOptions::standard(), DumpLevel::new(1).context("1")?);
    let done = collect(
        &mut vmcore,
        &options,
        level,
        &mut memory,
        &mut disk,
        &mut (),
    );
    ensure!(done.is_ok() == limit.is_none(), "{done:?}");
    Ok(disk)
}

/// What libkdumpfile makes of these pages: the checksum of each, or none.
fn read_by_drgn(file: &Path, pfns: &[usize]) -> Result<Vec<Option<u32>>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles/drgn_pages.py");
    let output = Command::new(setup::drgn_python()?)
        .arg(script)
        .arg(file)
        .args(pfns.iter().map(ToString::to_string))
        .output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{}: {}: {words}",
        file.display(),
        output.status
    );
    let list: Vec<Option<u32>> = serde_json::from_slice::<Vec<serde_json::Value>>(&output.stdout)?
        .iter()
        .map(|value| value.as_u64().map(|crc| crc as u32))
        .collect();
    ensure!(list.len() == pfns.len(), "{} pages", list.len());
    Ok(list)
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// The dumpfile's parts, read from its whole.
struct Whole {
    bytes: Vec<u8>,
    bitmaps_end: usize,
    /// For each pfn where its descriptor and its data are.
    pages: Vec<[Range<usize>; 2]>,
    /// For each pfn the checksum of its page, as the vmcore has it.
    sums: Vec<u32>,
}

impl Whole {
    fn of(disk: &Disk, folder: &Path) -> Result<Self> {
        let bytes = disk.after(usize::MAX).0;
        let file = folder.join("whole");
        fs::write(&file, &bytes)?;
        let number = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
        };
        let bitmaps_end = (1 + number(432) + number(436)) * PAGE;
        let pages: Vec<_> = Dumpfile::open(&file)?
            .pages()
            .iter()
            .enumerate()
            .map(|(rank, &(_, descriptor))| {
                let desc = bitmaps_end + rank * 24;
                let data = descriptor.offset as usize;
                [desc..desc + 24, data..data + descriptor.size as usize]
            })
            .collect();
        ensure!(pages.len() == PAGES, "level 1 has every page");
        let sums = (0..PAGES).map(|pfn| crc(&page(pfn))).collect();
        Ok(Self {
            bytes,
            bitmaps_end,
            pages,
            sums,
        })
    }

    /// Checks that libkdumpfile opens a file that has these bytes of the whole, and reads every page that is in them. How
    /// many pages it were.
    fn check(&self, file: &Path, has: impl Fn(&Range<usize>) -> bool) -> Result<usize> {
        let there: Vec<usize> = (0..PAGES)
            .filter(|&pfn| self.pages[pfn].iter().all(&has))
            .collect();
        for (&pfn, found) in there.iter().zip(read_by_drgn(file, &there)?) {
            ensure!(
                found == Some(self.sums[pfn]),
                "{}: pfn {pfn} is not as it was",
                file.display()
            );
        }
        Ok(there.len())
    }
}

#[test]
fn a_file_that_was_cut_anywhere_has_the_pages_before_the_cut() -> Result<()> {
    let folder = work_folder("cuts-file")?;
    let whole = Whole::of(&dump(None)?, &folder)?;
    let room = whole.bytes.len() - whole.bitmaps_end;
    let mut before = 0;
    for step in 0..CUTS {
        // At any byte, and not only at round ones.
        let cut = whole.bitmaps_end + room * step / CUTS + step * 7;
        let file = folder.join(format!("cut-{cut}"));
        fs::write(&file, &whole.bytes[..cut])?;
        let good = whole.check(&file, |part| part.end <= cut)?;
        ensure!(good >= before, "{good} pages at {cut}, and {before} before");
        before = good;
    }
    ensure!(before > PAGES * 9 / 10, "{before} pages at the last cut");
    Ok(fs::remove_dir_all(folder)?)
}

#[test]
fn a_killed_writer_leaves_the_pages_that_it_had_written() -> Result<()> {
    let folder = work_folder("cuts-killed")?;
    let disk = dump(None)?;
    let whole = Whole::of(&disk, &folder)?;
    let headers = disk
        .writes
        .iter()
        .position(|&(offset, _)| offset >= whole.bitmaps_end)
        .context("no page was written")?;
    let writes = disk.writes.len() - 1;
    ensure!(writes - headers >= CUTS, "{writes} writes are too few");
    let mut last = 0;
    for step in 0..CUTS {
        let count = headers + (writes - headers) * step / CUTS;
        let (bytes, written) = disk.after(count);
        ensure!(
            bytes[424] & 8 != 0,
            "after {count} writes it says that it is complete"
        );
        let file = folder.join(format!("killed-{count}"));
        fs::write(&file, &bytes)?;
        last = whole.check(&file, |part| {
            written
                .get(part.clone())
                .is_some_and(|bytes| bytes.iter().all(|&is_written| is_written))
        })?;
    }
    ensure!(last > PAGES * 8 / 10, "{last} pages before the last writes");
    Ok(fs::remove_dir_all(folder)?)
}

#[test]
fn a_full_disk_leaves_a_dumpfile_of_what_fitted() -> Result<()> {
    let folder = work_folder("cuts-full")?;
    let whole = Whole::of(&dump(None)?, &folder)?;
    let room = whole.bytes.len() - whole.bitmaps_end;
    // Where not even the descriptors fit, there is no dumpfile.
    let descs = PAGES * 24;
    for step in 0..CUTS {
        let limit = whole.bitmaps_end + descs + (room - descs) * step / CUTS + step * 7;
        let bytes = dump(Some(limit))?.after(usize::MAX).0;
        ensure!(
            bytes.len() <= limit,
            "{} bytes on a disk of {limit}",
            bytes.len()
        );
        ensure!(bytes[424] & 8 != 0, "it says that it is complete");
        let file = folder.join(format!("full-{limit}"));
        fs::write(&file, &bytes)?;
        // What it says that it has, it has; and that is all but what waited to be written when the disk was full.
        let said = Dumpfile::open(&file)?.pages().len();
        let found = read_by_drgn(&file, &Vec::from_iter(0..PAGES))?;
        for (pfn, found) in found.iter().enumerate() {
            let expected = (pfn < said).then_some(whole.sums[pfn]);
            ensure!(
                *found == expected,
                "{}: pfn {pfn} of {said}",
                file.display()
            );
        }
        let fitted = |place: &Range<usize>| place.end + (512 << 10) <= limit;
        let least = whole
            .pages
            .iter()
            .take_while(|[_, data]| fitted(data))
            .count();
        ensure!(
            said >= least.min(PAGES),
            "{said} pages on a disk of {limit}, {least} would fit"
        );
    }
    Ok(fs::remove_dir_all(folder)?)
}
