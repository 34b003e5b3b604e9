// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the writer writes, the reader reads: every block size, both codecs, many pages.

#![allow(missing_docs, reason = "a test")]

use collector::address::Pfn;
use collector::codec;
use collector::kdump::{Bitmap, Extent, Facts, ReadError, Reader, Utsname, Writer};
use collector::{Abi, Batch, IoError, SCRATCH_BYTES, Sink, Source};
use config::{Compression, DumpLevel};

#[derive(Default)]
struct File(Vec<u8>);

impl Sink for File {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        let (start, end) = (offset as usize, offset as usize + data.len());
        if self.0.len() < end {
            self.0.resize(end, 0);
        }
        self.0[start..end].copy_from_slice(data);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), IoError> {
        Ok(())
    }
}

impl Source for File {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        let rest = self.0.get(offset as usize..).ok_or(IoError::END)?;
        buf.copy_from_slice(rest.get(..buf.len()).ok_or(IoError::END)?);
        Ok(())
    }
}

/// Some bytes of noise, then a pattern, then zeros; the mixture differs from page to page.
fn page(pfn: u64, bytes: usize) -> Vec<u8> {
    let mut state = pfn.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let noise = (pfn as usize * 7919) % (bytes + 1);
    let mut page = vec![0; bytes];
    for (index, byte) in page.iter_mut().enumerate() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = match index {
            _ if index < noise => state as u8,
            _ if index < (noise + bytes) / 2 => (index % 24) as u8,
            _ => 0,
        };
    }
    page
}

/// Some are zero, and some equal the one before.
fn expected(pfn: u64, bytes: usize) -> Vec<u8> {
    match pfn % 4 {
        0 => vec![0; bytes],
        _ => page(pfn / 2, bytes),
    }
}

#[test]
fn the_reader_finds_every_page_that_the_writer_was_given() {
    for page_bytes in [4096_usize, 16384, 65536] {
        for compression in Compression::ALL {
            let max_mapnr = 50_000;
            let pfns: Vec<u64> = (3..max_mapnr).step_by(page_bytes / 34).collect();
            let utsname = Utsname::new("Linux", "n", "6.12.0", "#1", "aarch64");
            let facts = Facts {
                abi: Abi::LITTLE_64,
                utsname: &utsname,
                crash_time_s: 5,
                page_bytes: page_bytes as u32,
                max_mapnr,
                page_count: pfns.len() as u64,
                nr_cpus: 1,
                phys_base: 0,
                compression,
                dump_level: DumpLevel::MAX,
                notes_bytes: 3 * page_bytes as u64,
                vmcoreinfo: Extent {
                    offset: 7,
                    bytes: 2,
                },
                part: None,
                incomplete: false,
            };
            let notes = page(1, 3 * page_bytes);
            let mut memory = vec![0; codec::MEMORY_BYTES];
            let file = codec::with(compression, &mut memory, |mut codec| {
                let mut memory = vec![0; Writer::<File>::MEMORY_BYTES];
                let mut writer = Writer::begin(File::default(), &facts, &mut memory).unwrap();
                writer.put_notes(&notes[..page_bytes]).unwrap();
                writer.put_notes(&notes[page_bytes..]).unwrap();
                let mut bits = vec![0; max_mapnr as usize / 8];
                for pfn in &pfns {
                    bits[*pfn as usize / 8] |= 1 << (pfn % 8);
                }
                writer
                    .put_bitmap(Bitmap::Present, 0, &vec![0xff; bits.len()])
                    .unwrap();
                writer.put_bitmap(Bitmap::Dumpable, 0, &bits).unwrap();
                let mut batch = Box::new(Batch::new());
                let mut scratch = vec![0; SCRATCH_BYTES];
                let mut rest = &pfns[..];
                while !rest.is_empty() {
                    batch.restart(page_bytes, true);
                    let mut vmcore = File::default();
                    while let [pfn, behind @ ..] = rest
                        && batch.push(Pfn(*pfn), Some(vmcore.size_bytes()), 1) == 1
                    {
                        vmcore.0.extend(expected(*pfn, page_bytes));
                        rest = behind;
                    }
                    batch.encode(&mut vmcore, &mut codec, &mut scratch, &mut |_| {});
                    writer.put_batch(&mut batch).unwrap();
                }
                assert_eq!(writer.finish().unwrap().pages, pfns.len() as u64);
                writer.into_sink()
            })
            .unwrap();

            let mut memory = vec![0; Reader::<File>::MEMORY_BYTES];
            let mut reader = Reader::open(file, &mut memory).unwrap();
            assert_eq!(reader.header().utsname, utsname);
            assert_eq!(
                (reader.page_bytes(), reader.max_mapnr()),
                (page_bytes, max_mapnr)
            );
            assert_eq!(reader.page_count(), pfns.len() as u64);
            assert!(!reader.is_incomplete());
            let mut found = vec![0; notes.len()];
            let at = reader.sub_header().notes;
            reader.read_at(at.offset, &mut found).unwrap();
            assert!(found == notes);
            assert_eq!(
                reader.sub_header().vmcoreinfo,
                Extent {
                    offset: at.offset + 7,
                    bytes: 2
                }
            );
            let mut found = vec![0; page_bytes];
            let mut from = Pfn(0);
            for &pfn in &pfns {
                assert_eq!(reader.next_page(from), Ok(Some(Pfn(pfn))));
                reader.read_page(Pfn(pfn), &mut found).unwrap();
                assert!(found == expected(pfn, page_bytes), "{pfn}");
                from = Pfn(pfn + 1);
            }
            assert_eq!(reader.next_page(from), Ok(None));
            assert_eq!(
                reader.read_page(Pfn(0), &mut found),
                Err(ReadError::Excluded(Pfn(0)))
            );
        }
    }
}
