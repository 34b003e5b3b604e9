// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads kdump-compressed files, knowing nothing of the writer.

use std::collections::BTreeMap;

use collector::{IoError, Sink};
use flate2::{Decompress, FlushDecompress};

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
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(&bytes[..8], b"KDUMP   ");
        assert_eq!(u32_at(8), 6);
        assert_eq!(u32_at(428), 4096);
        let text = |at: usize| {
            let field = &bytes[at..at + 65];
            let end = field.iter().position(|&byte| byte == 0).unwrap();
            String::from_utf8(field[..end].to_vec()).unwrap()
        };
        assert_eq!(text(12), "Linux");
        assert_eq!(text(12 + 4 * 65), "x86_64");
        let sub = u32_at(432) as usize;
        let bitmap_bytes = u32_at(436) as usize / 2 * 4096;
        let max_mapnr = u64_at(4096 + 96);
        let bitmap = |start: usize| -> Vec<u64> {
            (0..bitmap_bytes as u64 * 8)
                .filter(|pfn| bytes[start + (pfn / 8) as usize] >> (pfn % 8) & 1 == 1)
                .collect()
        };
        let first = (1 + sub) * 4096;
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
                    let mut page = vec![0; 4096];
                    let mut inflate = Decompress::new(true);
                    inflate
                        .decompress(stored, &mut page, FlushDecompress::Finish)
                        .unwrap();
                    assert_eq!(inflate.total_out(), 4096);
                    page
                }
                other => panic!("flags {other}"),
            };
            assert_eq!(page.len(), 4096);
            pages.insert(pfn, (offset, page));
        }
        let (info, info_bytes) = (u64_at(4096 + 32) as usize, u64_at(4096 + 40) as usize);
        Self {
            status: u32_at(424),
            level: u32_at(4096 + 8),
            phys_base: u64_at(4096) as i64,
            release: text(12 + 2 * 65),
            crash_time: u64_at(408) as i64,
            cpus: u32_at(460),
            vmcoreinfo: bytes[info..info + info_bytes].to_vec(),
            present,
            pages,
        }
    }
}
