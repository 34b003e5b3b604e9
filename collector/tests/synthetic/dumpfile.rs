// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads kdump-compressed files, knowing nothing of the writer.

use std::collections::BTreeMap;

use collector::{IoError, Sink};
use flate2::{Decompress, FlushDecompress};

use crate::machine::Target;

/// A dumpfile in memory, with an end.
pub(crate) struct Disk {
    pub(crate) bytes: Vec<u8>,
    pub(crate) limit: u64,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            limit: 256 << 20,
        }
    }
}

impl Sink for Disk {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        let end = offset.saturating_add(data.len() as u64);
        if end > self.limit {
            return Err(IoError::NO_SPACE);
        }
        if (self.bytes.len() as u64) < end {
            self.bytes.resize(end as usize, 0);
        }
        self.bytes[offset as usize..end as usize].copy_from_slice(data);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), IoError> {
        Ok(())
    }
}

pub(crate) struct Dumpfile {
    pub(crate) status: u32,
    pub(crate) level: u32,
    pub(crate) phys_base: i64,
    pub(crate) release: String,
    pub(crate) crash_time: i64,
    pub(crate) cpus: u32,
    pub(crate) vmcoreinfo: Vec<u8>,
    pub(crate) present: Vec<u64>,
    /// Pages by pfn: where their data is, and the data.
    pub(crate) pages: BTreeMap<u64, (u64, Vec<u8>)>,
}

impl Dumpfile {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        Self::read_of(Target::X86_64 { five_levels: false }, bytes)
    }

    /// Reads the dumpfile of any kind of machine.
    pub(crate) fn read_of(target: Target, bytes: &[u8]) -> Self {
        let number = |at: usize, count: usize| {
            let value = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
            let bytes = &bytes[at..at + count];
            match target.is_big_endian() {
                true => bytes.iter().fold(0, value),
                false => bytes.iter().rfold(0, value),
            }
        };
        let u32_at = |at: usize| number(at, 4) as u32;
        let u64_at = |at: usize| number(at, 8);
        let word = target.word_bytes() as usize;
        let page_bytes = target.page_bytes() as usize;
        // The time is the first field behind the names that is aligned to a word; status follows its two words.
        let time = (12 + 6 * 65_usize).next_multiple_of(word);
        let fields = time + 2 * word;
        // phys_base, dump_level, split, start_pfn and end_pfn; then three pairs of an offset and a word, and the first
        // three again with 64 bits.
        let sub_header = page_bytes;
        let extents = sub_header + word + 8 + 2 * word;
        let numbers = extents + 3 * (8 + word);
        assert_eq!(&bytes[..8], b"KDUMP   ");
        assert_eq!(u32_at(8), 6);
        assert_eq!(u32_at(fields + 4), page_bytes as u32);
        let text = |at: usize| {
            let field = &bytes[at..at + 65];
            let end = field.iter().position(|&byte| byte == 0).unwrap();
            String::from_utf8(field[..end].to_vec()).unwrap()
        };
        assert_eq!(text(12), "Linux");
        assert_eq!(text(12 + 4 * 65), target.name());
        let sub = u32_at(fields + 8) as usize;
        let bitmap_bytes = u32_at(fields + 12) as usize / 2 * page_bytes;
        let max_mapnr = u64_at(numbers + 16);
        let bitmap = |start: usize| -> Vec<u64> {
            (0..bitmap_bytes as u64 * 8)
                .filter(|pfn| bytes[start + (pfn / 8) as usize] >> (pfn % 8) & 1 == 1)
                .collect()
        };
        let first = (1 + sub) * page_bytes;
        let present = bitmap(first);
        let dumpable = bitmap(first + bitmap_bytes);
        assert!(dumpable.iter().all(|&pfn| pfn < max_mapnr));
        let descs = first + 2 * bitmap_bytes;
        let mut pages = BTreeMap::new();
        for (rank, &pfn) in dumpable.iter().enumerate() {
            let desc = descs + rank * 24;
            let (offset, size, flags) = (u64_at(desc), u32_at(desc + 8), u32_at(desc + 12));
            let stored = &bytes[offset as usize..offset as usize + size as usize];
            let page = match flags {
                0 => stored.to_vec(),
                1 => {
                    let mut page = vec![0; page_bytes];
                    let mut inflate = Decompress::new(true);
                    inflate
                        .decompress(stored, &mut page, FlushDecompress::Finish)
                        .unwrap();
                    assert_eq!(inflate.total_out(), page_bytes as u64);
                    page
                }
                other => panic!("flags {other}"),
            };
            assert_eq!(page.len(), page_bytes);
            pages.insert(pfn, (offset, page));
        }
        let info = u64_at(extents) as usize;
        let info_bytes = number(extents + 8, word) as usize;
        Self {
            status: u32_at(fields),
            level: u32_at(sub_header + word),
            phys_base: number(sub_header, word) as i64,
            release: text(12 + 2 * 65),
            crash_time: number(time, word) as i64,
            cpus: u32_at(fields + 36),
            vmcoreinfo: bytes[info..info + info_bytes].to_vec(),
            present,
            pages,
        }
    }
}
