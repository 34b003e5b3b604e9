// SPDX-License-Identifier: MIT OR Apache-2.0
//! An ELF vmcore: which physical memory it has, where, and its notes. Read, and written for readers that want one.
//!
//! Source: gABI 4.1, chapters 4 and 5; Linux 6.12 `fs/proc/vmcore.c`.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::memory::{Memory, PAGE_SIZE, Page, ZERO_PAGE};

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const ELF_HEADER_SIZE: usize = 64;
const PROGRAM_HEADER_SIZE: usize = 56;

/// One piece of physical memory in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Its first physical address.
    pub physical: u64,
    /// The virtual address that the crashed kernel had it at.
    pub virt: u64,
    /// How long it is.
    pub size_bytes: u64,
    /// Where the file has it.
    pub offset: u64,
}

/// An ELF64 core of a little-endian machine.
#[derive(Debug)]
pub struct ElfCore {
    file: File,
    /// The memory that the file has, in the order of its headers.
    pub loads: Vec<Load>,
    /// All notes, one behind the other.
    pub notes: Vec<u8>,
}

fn number(bytes: &[u8], at: usize, size: usize) -> Result<u64> {
    let field = bytes
        .get(at..at + size)
        .with_context(|| format!("the header ends before byte {}", at + size))?;
    let mut whole = [0; 8];
    whole[..size].copy_from_slice(field);
    Ok(u64::from_le_bytes(whole))
}

impl ElfCore {
    /// Reads the headers and the notes.
    ///
    /// # Errors
    /// The file cannot be read, or is not such a core.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(path).with_context(|| format!("ELF vmcore {}", path.display()))
    }

    fn read(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let mut header = [0; ELF_HEADER_SIZE];
        file.read_exact_at(&mut header, 0)?;
        ensure!(header.starts_with(b"\x7fELF\x02\x01"), "not ELF64 LE");
        let table_at = number(&header, 32, 8)?;
        let entry_size = number(&header, 54, 2)? as usize;
        let entries = number(&header, 56, 2)?;
        ensure!(entries < 0xffff, "more program headers than one can count");
        let (mut loads, mut notes) = (Vec::new(), Vec::new());
        for index in 0..entries {
            let mut entry = vec![0; entry_size];
            file.read_exact_at(&mut entry, table_at + index * entry_size as u64)?;
            let (offset, size_bytes) = (number(&entry, 8, 8)?, number(&entry, 32, 8)?);
            match number(&entry, 0, 4)? as u32 {
                PT_LOAD => loads.push(Load {
                    physical: number(&entry, 24, 8)?,
                    virt: number(&entry, 16, 8)?,
                    size_bytes,
                    offset,
                }),
                PT_NOTE => {
                    let mut area = vec![0; size_bytes as usize];
                    file.read_exact_at(&mut area, offset)?;
                    notes.extend(area);
                }
                _ => {}
            }
        }
        Ok(Self { file, loads, notes })
    }

    /// The pfns of which the file has at least a part, in ascending order and each once.
    #[must_use]
    pub fn present(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = self
            .loads
            .iter()
            .filter(|load| load.size_bytes > 0)
            .map(|load| {
                let end = load.physical + load.size_bytes;
                load.physical / PAGE_SIZE as u64..end.div_ceil(PAGE_SIZE as u64)
            })
            .collect();
        ranges.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }
}

impl Memory for ElfCore {
    fn read_page(&self, pfn: u64, page: &mut Page) -> Result<bool> {
        let address = pfn * PAGE_SIZE as u64;
        *page = ZERO_PAGE;
        let mut found = false;
        for load in &self.loads {
            let from = address.max(load.physical);
            let to = (address + PAGE_SIZE as u64).min(load.physical + load.size_bytes);
            if from < to {
                let part = &mut page[(from - address) as usize..(to - address) as usize];
                let offset = load.offset + (from - load.physical);
                self.file
                    .read_exact_at(part, offset)
                    .with_context(|| format!("vmcore at {offset:#x}"))?;
                found = true;
            }
        }
        Ok(found)
    }
}

/// Writes an ELF vmcore as the crashed kernel would have exported it: `notes`, and the memory of the `present` pfns,
/// each range at the virtual address that the direct map starting at `page_offset` gives it.
///
/// Pages of zeros become holes of the file.
///
/// # Errors
/// A page is missing in `memory`, or the file cannot be written.
pub fn write(
    path: &Path,
    memory: &dyn Memory,
    present: &[Range<u64>],
    notes: &[u8],
    page_offset: u64,
) -> Result<()> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let entries = present.len() + 1;
    let notes_at = ELF_HEADER_SIZE + entries * PROGRAM_HEADER_SIZE;
    let data_at = (notes_at + notes.len()).next_multiple_of(PAGE_SIZE) as u64;

    let mut head = Vec::new();
    head.extend(b"\x7fELF\x02\x01\x01");
    head.resize(16, 0);
    // ET_CORE, EM_X86_64, version 1; no entry, the table behind this header, no sections, no flags.
    head.extend([4, 0, 62, 0, 1, 0, 0, 0]);
    head.extend(0u64.to_le_bytes());
    head.extend((ELF_HEADER_SIZE as u64).to_le_bytes());
    head.extend(0u64.to_le_bytes());
    head.extend(0u32.to_le_bytes());
    for half in [ELF_HEADER_SIZE, PROGRAM_HEADER_SIZE, entries, 0, 0, 0] {
        head.extend(u16::try_from(half)?.to_le_bytes());
    }
    let mut program_header = |kind: u32, offset: u64, virt: u64, physical: u64, size_bytes: u64| {
        head.extend(kind.to_le_bytes());
        head.extend(7u32.to_le_bytes());
        for field in [offset, virt, physical, size_bytes, size_bytes, 0] {
            head.extend(field.to_le_bytes());
        }
    };
    program_header(PT_NOTE, notes_at as u64, 0, 0, notes.len() as u64);
    let mut offset = data_at;
    for range in present {
        let physical = range.start * PAGE_SIZE as u64;
        let size_bytes = (range.end - range.start) * PAGE_SIZE as u64;
        let virt = page_offset.wrapping_add(physical);
        program_header(PT_LOAD, offset, virt, physical, size_bytes);
        offset += size_bytes;
    }
    out.write_all(&head)?;
    out.write_all(notes)?;

    let mut page = ZERO_PAGE;
    let mut at = data_at;
    out.seek(SeekFrom::Start(at))?;
    let mut skipped = 0;
    for pfn in present.iter().cloned().flatten() {
        ensure!(
            memory.read_page(pfn, &mut page)?,
            "pfn {pfn:#x} is not in the guest's RAM"
        );
        if page == ZERO_PAGE {
            skipped += PAGE_SIZE as i64;
        } else {
            if skipped > 0 {
                out.seek(SeekFrom::Current(skipped))?;
                skipped = 0;
            }
            out.write_all(&page)?;
        }
        at += PAGE_SIZE as u64;
    }
    out.flush()?;
    out.get_ref().set_len(at)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbered;

    impl Memory for Numbered {
        fn read_page(&self, pfn: u64, page: &mut Page) -> Result<bool> {
            *page = ZERO_PAGE;
            // Every second page is zero: they become holes.
            if pfn % 2 == 1 {
                page[..8].copy_from_slice(&pfn.to_le_bytes());
            }
            Ok(true)
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let path = std::env::temp_dir().join(format!("elf-core-{}", std::process::id()));
        write(
            &path,
            &Numbered,
            &[1..4, 16..21],
            b"notes",
            0xffff_8880_0000_0000,
        )
        .unwrap();
        let core = ElfCore::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(core.present(), [1..4, 16..21]);
        assert_eq!(core.notes, b"notes");
        assert_eq!(core.loads[1].virt, 0xffff_8880_0001_0000);
        let (mut page, mut expected) = (ZERO_PAGE, ZERO_PAGE);
        for pfn in [1, 2, 3, 16, 17, 20] {
            assert!(core.read_page(pfn, &mut page).unwrap());
            Numbered.read_page(pfn, &mut expected).unwrap();
            assert_eq!(page, expected, "pfn {pfn}");
        }
        assert!(!core.read_page(4, &mut page).unwrap());
    }
}
