// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/proc/kcore` as the vmcore that a panic now would leave: without the memory that the capture kernel has, and with
//! VMCOREINFO where the kernel does not put it there itself.
//!
//! Sources: Linux 6.1 `fs/proc/kcore.c`, `kernel/ksysfs.c` `vmcoreinfo_show()`; proc_iomem's names in
//! `arch/*/kernel/setup.c`.

use std::fs;
use std::path::Path;

use collector::{IoError, Source};

use super::input::FileSource;

const PLACE: &str = "/proc/kcore";
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 56;
/// A machine has a header for each range of memory, and a few for the kernel's own mappings.
const MAX_ENTRIES: usize = 1 << 14;
/// Notes are the state of a processor, a task, and VMCOREINFO.
const MAX_NOTES: u64 = 1 << 20;
const LOAD: u32 = 1;
const NOTE: u32 = 4;
/// The physical address of what is no memory.
const NONE: u64 = u64::MAX;

/// Bytes of physical memory: from, and up to.
type Range = (u64, u64);

/// A program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    kind: u32,
    flags: u32,
    offset: u64,
    virtual_address: u64,
    address: u64,
    bytes: u64,
    align: u64,
}

/// The running system's memory.
#[derive(Debug)]
pub(crate) struct Kcore {
    file: FileSource,
    header: [u8; HEADER_BYTES],
    /// The program headers, which are behind everything that the file has.
    table: Vec<u8>,
}

/// Whether this is the running system's memory.
pub(crate) fn is_kcore(path: &Path) -> bool {
    fs::canonicalize(path).is_ok_and(|path| path == Path::new(PLACE))
}

impl Kcore {
    /// Takes over `/proc/kcore`.
    ///
    /// # Errors
    /// It is not of a 64-bit system, or cannot be read.
    pub(crate) fn open(file: FileSource) -> Result<Self, String> {
        let iomem =
            fs::read_to_string("/proc/iomem").map_err(|error| format!("/proc/iomem: {error}"))?;
        let told = fs::read_to_string("/sys/kernel/vmcoreinfo").unwrap_or_default();
        Self::with(file, &reserved(&iomem), parse_place(&told))
    }

    fn with(
        mut file: FileSource,
        reserved: &[Range],
        vmcoreinfo: Option<Range>,
    ) -> Result<Self, String> {
        let mut header = [0; HEADER_BYTES];
        let failed = |error: IoError| format!("reading its headers: {error}");
        file.read_at(0, &mut header).map_err(failed)?;
        let native = if cfg!(target_endian = "little") { 1 } else { 2 };
        if header[..6] != [0x7f, b'E', b'L', b'F', 2, native] {
            return Err("not the memory of a 64-bit system of this machine".to_owned());
        }
        let at = u64::from_ne_bytes(field(&header, 32));
        let count = usize::from(u16::from_ne_bytes(field(&header, 56)));
        let mut bytes = vec![0; count.min(MAX_ENTRIES) * ENTRY_BYTES];
        file.read_at(at, &mut bytes).map_err(failed)?;
        let mut entries: Vec<Entry> = bytes.chunks_exact(ENTRY_BYTES).map(Entry::read).collect();
        let has_info = entries
            .iter()
            .any(|entry| entry.kind == NOTE && entry.names(&mut file, b"VMCOREINFO"));
        if let (false, Some(place)) = (has_info, vmcoreinfo) {
            entries.extend(note_at(&entries, place));
        }
        let entries: Vec<Entry> = entries
            .iter()
            .flat_map(|entry| entry.without(reserved))
            .collect();
        let count =
            u16::try_from(entries.len()).map_err(|_| "more headers than a table has".to_owned())?;
        header[32..40].copy_from_slice(&file.size_bytes().to_ne_bytes());
        header[56..58].copy_from_slice(&count.to_ne_bytes());
        Ok(Self {
            file,
            header,
            table: entries.iter().flat_map(|entry| entry.write()).collect(),
        })
    }
}

impl Source for Kcore {
    fn size_bytes(&self) -> u64 {
        self.file
            .size_bytes()
            .saturating_add(self.table.len() as u64)
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        if let Some(inside) = offset.checked_sub(self.file.size_bytes()) {
            let start = usize::try_from(inside).map_err(|_| IoError::END)?;
            let bytes = self
                .table
                .get(start..)
                .and_then(|table| table.get(..buf.len()));
            buf.copy_from_slice(bytes.ok_or(IoError::END)?);
            return Ok(());
        }
        self.file.read_at(offset, buf)?;
        if let Some(header) = usize::try_from(offset)
            .ok()
            .and_then(|start| self.header.get(start..))
        {
            let count = header.len().min(buf.len());
            buf[..count].copy_from_slice(&header[..count]);
        }
        Ok(())
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

impl Entry {
    fn read(bytes: &[u8]) -> Self {
        let word = |at| u64::from_ne_bytes(field(bytes, at));
        Self {
            kind: u32::from_ne_bytes(field(bytes, 0)),
            flags: u32::from_ne_bytes(field(bytes, 4)),
            offset: word(8),
            virtual_address: word(16),
            address: word(24),
            bytes: word(32),
            align: word(48),
        }
    }

    fn write(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..4].copy_from_slice(&self.kind.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.flags.to_ne_bytes());
        let words = [
            self.offset,
            self.virtual_address,
            self.address,
            self.bytes,
            self.bytes,
            self.align,
        ];
        for (place, word) in bytes[8..].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// Whether this name is among the notes.
    fn names(&self, file: &mut FileSource, name: &[u8]) -> bool {
        let mut notes = vec![0; self.bytes.min(MAX_NOTES) as usize];
        file.read_at(self.offset, &mut notes).is_ok()
            && notes.windows(name.len()).any(|word| word == name)
    }

    /// What is left of it when these ranges are taken out.
    fn without(&self, ranges: &[Range]) -> Vec<Self> {
        if self.kind != LOAD || self.address == NONE {
            return vec![*self];
        }
        let mut left = vec![*self];
        for &(from, to) in ranges {
            left = left
                .iter()
                .flat_map(|part| {
                    let end = part.address.saturating_add(part.bytes);
                    [
                        part.between(part.address, end.min(from)),
                        part.between(part.address.max(to), end),
                    ]
                })
                .flatten()
                .collect();
        }
        left
    }

    fn between(&self, from: u64, to: u64) -> Option<Self> {
        let skip = from.checked_sub(self.address)?;
        Some(Self {
            offset: self.offset.checked_add(skip)?,
            virtual_address: self.virtual_address.wrapping_add(skip),
            address: from,
            bytes: to.checked_sub(from).filter(|&bytes| bytes > 0)?,
            ..*self
        })
    }
}

/// A header for the note that is at this place in memory.
fn note_at(entries: &[Entry], (from, to): Range) -> Option<Entry> {
    let holds = |entry: &&Entry| entry.kind == LOAD && entry.address != NONE;
    let part = entries.iter().filter(holds).find_map(|entry| {
        entry
            .between(from, to)
            .filter(|_| to - entry.address <= entry.bytes)
    })?;
    Some(Entry { kind: NOTE, ..part })
}

/// What the capture kernel has, in the words of `/proc/iomem`.
fn reserved(iomem: &str) -> Vec<Range> {
    iomem
        .lines()
        .filter_map(|line| {
            let (range, name) = line.trim().split_once(" : ")?;
            let (from, last) = range.split_once('-')?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            (name == "Crash kernel").then_some((number(from)?, number(last)?.checked_add(1)?))
        })
        .collect()
}

/// Where the kernel says that VMCOREINFO is: address and length, both hexadecimal.
fn parse_place(text: &str) -> Option<Range> {
    let (address, bytes) = text.trim().split_once(' ')?;
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let from = number(address)?;
    Some((from, from.checked_add(number(bytes)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAM: Entry = Entry {
        kind: LOAD,
        flags: 7,
        offset: 0x8000,
        virtual_address: 0xffff_8880_0010_0000,
        address: 0x10_0000,
        bytes: 0x70_0000,
        align: 4096,
    };

    #[test]
    fn the_capture_kernels_memory_is_cut_out() {
        let iomem = "00100000-007fffff : System RAM\n  00200000-002fffff : Kernel code\n  \
                     00400000-005fffff : Crash kernel\n00800000-00900000 : Reserved\n";
        assert_eq!(reserved(iomem), [(0x40_0000, 0x60_0000)]);
        let parts = RAM.without(&reserved(iomem));
        let places: Vec<_> = parts
            .iter()
            .map(|part| (part.address, part.bytes, part.offset))
            .collect();
        assert_eq!(
            places,
            [
                (0x10_0000, 0x30_0000, 0x8000),
                (0x60_0000, 0x20_0000, 0x50_8000)
            ]
        );
        assert_eq!(parts[1].virtual_address, 0xffff_8880_0060_0000);
        assert_eq!(RAM.without(&[(0, 1 << 40)]), []);
        assert_eq!(RAM.without(&[(0x80_0000, 0x90_0000)]), [RAM]);
        let no_memory = Entry {
            address: NONE,
            ..RAM
        };
        assert_eq!(no_memory.without(&[(0, NONE)]), [no_memory]);
    }

    #[test]
    fn what_the_kernel_says_of_vmcoreinfo_becomes_a_note() {
        let place = parse_place("0x410000 1024\n").unwrap();
        assert_eq!(place, (0x41_0000, 0x41_1024));
        let note = note_at(&[RAM], place).unwrap();
        assert_eq!(
            (note.kind, note.offset, note.bytes),
            (NOTE, 0x31_8000, 0x1024)
        );
        assert_eq!(note_at(&[RAM], (0x7f_f000, 0x80_1000)), None);
        assert_eq!(parse_place(""), None);
    }

    #[test]
    fn the_file_has_the_new_headers() {
        let mut bytes = vec![0; 0x400];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[56] = 1;
        bytes[64..64 + ENTRY_BYTES].copy_from_slice(&RAM.write());
        let path = std::env::temp_dir().join(format!("kcore-{}", std::process::id()));
        fs::write(&path, &bytes).unwrap();
        let opened = Kcore::with(
            FileSource::open(&path).unwrap(),
            &[(0x40_0000, 0x60_0000)],
            Some((0x10_1000, 0x10_1010)),
        );
        fs::remove_file(&path).unwrap();
        let mut kcore = opened.unwrap();
        let mut start = [0; 70];
        kcore.read_at(0, &mut start).unwrap();
        assert_eq!(start[32..40], 0x400_u64.to_le_bytes());
        assert_eq!(start[56..58], [3, 0]);
        // What is behind the header is the file's.
        assert_eq!(start[64..], bytes[64..70]);
        let mut table = [0; 3 * ENTRY_BYTES];
        kcore.read_at(0x400, &mut table).unwrap();
        assert_eq!(kcore.size_bytes(), 0x400 + table.len() as u64);
        let kinds: Vec<u32> = table
            .chunks_exact(ENTRY_BYTES)
            .map(|entry| Entry::read(entry).kind)
            .collect();
        assert_eq!(kinds, [LOAD, LOAD, NOTE]);
        assert!(kcore.read_at(0x401, &mut table).is_err());
    }
}
