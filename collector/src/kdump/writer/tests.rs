// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::Abi;
use crate::batch::SCRATCH_BYTES;
use crate::codec::{self, Codec};
use crate::io::{IoError, Source};
use crate::kdump::header::FLAG_ZLIB;
use crate::kdump::{Extent, Utsname};
use config::{Compression, DumpLevel};

/// A file in memory: full after `room` bytes, sparse, and with a list of the writes that it saw.
#[derive(Default)]
struct Disk {
    bytes: Vec<u8>,
    room: Option<u64>,
    writes: Vec<(u64, usize)>,
    synced: bool,
}

impl Sink for Disk {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        let start = offset as usize;
        let new = (start + data.len()).saturating_sub(self.bytes.len().max(start)) as u64;
        if let Some(room) = &mut self.room {
            *room = room.checked_sub(new).ok_or(IoError::NO_SPACE)?;
        }
        self.writes.push((offset, data.len()));
        if self.bytes.len() < start + data.len() {
            self.bytes.resize(start + data.len(), 0);
        }
        self.bytes[start..start + data.len()].copy_from_slice(data);
        self.synced = false;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), IoError> {
        self.synced = true;
        Ok(())
    }
}

fn utsname() -> Utsname {
    Utsname::new("Linux", "host", "6.1.0", "#1 SMP", "x86_64")
}

fn facts(utsname: &Utsname) -> Facts<'_> {
    Facts {
        abi: Abi::LITTLE_64,
        utsname,
        crash_time_s: 1,
        page_bytes: 4096,
        max_mapnr: 100_001,
        page_count: 0,
        nr_cpus: 2,
        phys_base: 0x100_0000,
        compression: Compression::None,
        dump_level: DumpLevel::MAX,
        notes_bytes: 5000,
        vmcoreinfo: Extent {
            offset: 4000,
            bytes: 999,
        },
        part: None,
        incomplete: false,
    }
}

/// A page that differs from every other and compresses to a size that varies.
fn page(pfn: u64) -> [u8; 4096] {
    let mut page = [0; 4096];
    let mut state = pfn.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in &mut page[..(pfn % 37) as usize * 90 + 8] {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state as u8;
    }
    page
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The page as the file has it; flat arithmetic on the bytes, none of the crate's readers.
fn read(bytes: &[u8], wanted: u64) -> Option<Vec<u8>> {
    let field = |at: usize| word(bytes, at) as u32 as usize;
    let bitmap2 = (1 + field(432) + field(436) / 2) * 4096;
    let bit = |pfn: u64| bytes[bitmap2 + pfn as usize / 8] >> (pfn % 8) & 1 == 1;
    if !bit(wanted) {
        return None;
    }
    let rank = (0..wanted).filter(|&pfn| bit(pfn)).count();
    let desc = (1 + field(432) + field(436)) * 4096 + rank * 24;
    let (offset, size) = (word(bytes, desc) as usize, field(desc + 8));
    let data = &bytes[offset..offset + size];
    if field(desc + 12) == 0 {
        return Some(data.to_vec());
    }
    let mut page = vec![0; 4096];
    let done =
        flate2::Decompress::new(true).decompress(data, &mut page, flate2::FlushDecompress::Finish);
    assert!(matches!(done, Ok(flate2::Status::StreamEnd)), "{done:?}");
    Some(page)
}

/// Every seventh pfn, with zero pages and repeated ones among them.
fn pfns() -> Vec<u64> {
    (0..100_001).step_by(7).collect()
}

/// A vmcore of nothing but pages.
struct Vmcore(Vec<u8>);

impl Source for Vmcore {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        let start = offset as usize;
        buf.copy_from_slice(&self.0[start..start + buf.len()]);
        Ok(())
    }
}

/// A batch of these pages.
fn batch(
    pfns: &[u64],
    page: impl Fn(u64) -> [u8; 4096],
    share_zero: bool,
    codec: &mut Codec<'_>,
) -> Box<Batch> {
    let mut vmcore = Vmcore(pfns.iter().flat_map(|&pfn| page(pfn)).collect());
    let mut batch = Box::new(Batch::new());
    batch.restart(4096, share_zero);
    for (place, &pfn) in (0..).step_by(4096).zip(pfns) {
        assert_eq!(batch.push(Pfn(pfn), Some(place), 1), 1);
    }
    let mut scratch = [0; SCRATCH_BYTES];
    batch.encode(&mut vmcore, codec, &mut scratch, &mut |_| {});
    batch
}

fn put(
    writer: &mut Writer<'_, &mut Disk>,
    pfns: &[u64],
    page: impl Fn(u64) -> [u8; 4096],
    codec: &mut Codec<'_>,
) -> Result<(), WriteError> {
    pfns.chunks(BATCH_PAGES)
        .try_for_each(|pfns| writer.put_batch(&mut batch(pfns, &page, true, codec)))
}

fn expected(pfn: u64) -> [u8; 4096] {
    match pfn % 5 {
        0 => [0; 4096],
        1 => page(1),
        _ => page(pfn),
    }
}

fn begin<'m>(
    disk: &'m mut Disk,
    compression: Compression,
    memory: &'m mut [u8],
    page_count: u64,
) -> Result<Writer<'m, &'m mut Disk>, WriteError> {
    let utsname = utsname();
    let facts = Facts {
        page_count,
        compression,
        ..facts(&utsname)
    };
    let mut writer = Writer::begin(disk, &facts, memory)?;
    let notes: Vec<u8> = (0..5000).map(|index| index as u8).collect();
    for part in notes.chunks(700) {
        writer.put_notes(part)?;
    }
    let mut bitmap = vec![0_u8; 12_501];
    for pfn in pfns() {
        bitmap[pfn as usize / 8] |= 1 << (pfn % 8);
    }
    writer.put_bitmap(Bitmap::Dumpable, 8000, &bitmap[8000..])?;
    writer.put_bitmap(Bitmap::Dumpable, 0, &bitmap[..8000])?;
    let mut present = [0xff; 12_501];
    present[12_500] = 1;
    writer.put_bitmap(Bitmap::Present, 0, &present)?;
    Ok(writer)
}

#[test]
fn a_dumpfile_has_every_page_that_was_put() {
    for compression in [Compression::None, Compression::Zlib] {
        let mut disk = Disk::default();
        let mut memory = vec![0xaa; MEMORY_BYTES];
        let count = pfns().len() as u64;
        let (summary, written) =
            codec::with(compression, &mut [0; codec::MEMORY_BYTES], |mut codec| {
                let mut writer = begin(&mut disk, compression, &mut memory, count).unwrap();
                put(&mut writer, &pfns(), expected, &mut codec).unwrap();
                (writer.finish().unwrap(), writer.written_bytes())
            })
            .unwrap();
        assert!(disk.synced);
        assert_eq!(summary.pages, pfns().len() as u64);
        assert_eq!(summary.file_bytes, disk.bytes.len() as u64);
        assert_eq!(written, disk.bytes.len() as u64 + HEADER_BYTES as u64);

        let flag = header::compression_flag(compression);
        assert_eq!(disk.bytes[424..428], flag.to_le_bytes());
        assert_eq!(word(&disk.bytes, 4096), 0x100_0000);
        assert_eq!(word(&disk.bytes, 4096 + 32), 4096 + 104 + 4000);
        assert_eq!(word(&disk.bytes, 4096 + 48), 4096 + 104);
        assert_eq!(disk.bytes[4200..4204], [0, 1, 2, 3]);
        assert_eq!(disk.bytes[4200 + 4999], (4999 % 256) as u8);
        assert_eq!(disk.bytes[9200..12288], vec![0; 12288 - 9200]);
        for pfn in pfns().into_iter().step_by(61) {
            assert_eq!(
                read(&disk.bytes, pfn),
                Some(expected(pfn).to_vec()),
                "{pfn}"
            );
        }
        assert_eq!(read(&disk.bytes, 1), None);
    }
}

#[test]
fn a_batch_goes_out_in_one_aligned_write() {
    let mut disk = Disk::default();
    let mut memory = vec![0; MEMORY_BYTES];
    let count = pfns().len() as u64;
    codec::with(
        Compression::Zlib,
        &mut [0; codec::MEMORY_BYTES],
        |mut codec| {
            let mut writer = begin(&mut disk, Compression::Zlib, &mut memory, count).unwrap();
            put(&mut writer, &pfns(), expected, &mut codec).unwrap();
            writer.finish().unwrap();
        },
    )
    .unwrap();
    let map = FileMap::new(Abi::LITTLE_64, 4096, 5000, 100_001, count).unwrap();
    let data = disk.writes.iter().filter(|(offset, _)| *offset >= map.data);
    let data: Vec<_> = data.copied().collect();
    let [zero, batches @ .., last] = &data[..] else {
        panic!("{data:?}");
    };
    assert_eq!(*zero, (map.data, 4096));
    assert_eq!(batches.len(), pfns().len().div_ceil(BATCH_PAGES));
    let mut end = map.data + 4096;
    for (offset, bytes) in batches {
        assert_eq!((*offset, bytes % 4096), (end, 0));
        assert!(*bytes > 4096);
        end += *bytes as u64;
    }
    assert_eq!(last.0, end);
    assert!(last.1 < 4096);
}

#[test]
fn repeated_pages_of_a_batch_share_their_data() {
    let mut disk = Disk::default();
    let mut memory = vec![0; MEMORY_BYTES];
    let count = pfns().len() as u64;
    let mut writer = begin(&mut disk, Compression::None, &mut memory, count).unwrap();
    let repeated = |pfn| page(pfn / 700);
    put(&mut writer, &pfns(), repeated, &mut Codec::None).unwrap();
    let summary = writer.finish().unwrap();
    // Each batch has its own, and so has each hundred pages.
    let batches = pfns().len().div_ceil(BATCH_PAGES);
    let hundreds = pfns().len().div_ceil(100);
    let both = (0..pfns().len()).filter(|place| place % 100 == 0 && place % BATCH_PAGES == 0);
    let different = (batches + hundreds - both.count()) as u64;
    // And the block of zero pages, of which there are none.
    assert_eq!(summary.raw_pages, different + 1);
    assert_eq!(summary.shared_pages, count - different);
    let map = FileMap::new(Abi::LITTLE_64, 4096, 5000, 100_001, count).unwrap();
    assert_eq!(summary.file_bytes, map.data + (different + 1) * 4096);
    assert_eq!(read(&disk.bytes, 7007), Some(page(10).to_vec()));
}

#[test]
fn a_full_disk_leaves_an_incomplete_dumpfile_with_the_pages_that_fit() {
    let count = pfns().len() as u64;
    for room in [1_400_000, 2_000_000, 5_000_001, 9_000_000] {
        let mut disk = Disk {
            room: Some(room),
            ..Disk::default()
        };
        let mut memory = vec![0; MEMORY_BYTES];
        let mut writer = begin(&mut disk, Compression::Zlib, &mut memory, count).unwrap();
        let failed = codec::with(
            Compression::Zlib,
            &mut [0; codec::MEMORY_BYTES],
            |mut codec| put(&mut writer, &pfns(), expected, &mut codec),
        )
        .unwrap();
        assert!(
            matches!(failed, Err(WriteError::Sink(_, IoError::NO_SPACE))),
            "{failed:?}"
        );
        let summary = writer.finish_incomplete().unwrap();
        assert!(disk.synced);
        assert_eq!(disk.bytes[424], (FLAG_ZLIB | FLAG_INCOMPLETE) as u8);
        let kept: Vec<u64> = pfns()
            .into_iter()
            .filter(|pfn| {
                let bitmap2 = (1 + 2 + 4) * 4096;
                disk.bytes[bitmap2 + *pfn as usize / 8] >> (pfn % 8) & 1 == 1
            })
            .collect();
        assert_eq!(kept.len() as u64, summary.pages);
        assert_eq!(kept, pfns()[..kept.len()]);
        assert!(summary.pages > 0 && summary.pages < count);
        for &pfn in kept.iter().step_by(97).chain(kept.last()) {
            assert_eq!(
                read(&disk.bytes, pfn),
                Some(expected(pfn).to_vec()),
                "{pfn}"
            );
        }
    }
}

#[test]
fn a_dump_that_ends_early_keeps_all_its_pages() {
    let mut disk = Disk::default();
    let mut memory = vec![0; MEMORY_BYTES];
    let mut writer = begin(
        &mut disk,
        Compression::None,
        &mut memory,
        pfns().len() as u64,
    )
    .unwrap();
    put(&mut writer, &pfns()[..1000], expected, &mut Codec::None).unwrap();
    assert_eq!(
        writer.finish(),
        Err(WriteError::Mismatch("fewer pages than announced"))
    );
    assert_eq!(writer.finish_incomplete().unwrap().pages, 1000);
    let last = pfns()[999];
    assert_eq!(read(&disk.bytes, last), Some(expected(last).to_vec()));
    assert_eq!(read(&disk.bytes, last + 7), None);
}

#[test]
fn a_killed_writer_leaves_a_header_that_says_incomplete() {
    let mut disk = Disk::default();
    let mut memory = vec![0; MEMORY_BYTES];
    begin(&mut disk, Compression::None, &mut memory, 10).unwrap();
    assert_eq!(disk.bytes[424], FLAG_INCOMPLETE as u8);
}

#[test]
fn what_does_not_match_the_facts_is_an_error() {
    let mut memory = vec![0; MEMORY_BYTES];
    let utsname = utsname();
    let facts = Facts {
        page_count: 2,
        notes_bytes: 0,
        vmcoreinfo: Extent::default(),
        ..facts(&utsname)
    };
    let short = Writer::begin(Disk::default(), &facts, &mut memory[1..]);
    assert_eq!(short.err(), Some(WriteError::Memory));
    let odd = Facts {
        page_bytes: 4095,
        ..facts
    };
    let odd = Writer::begin(Disk::default(), &odd, &mut memory);
    assert_eq!(odd.err(), Some(WriteError::Facts));

    let mut writer = Writer::begin(Disk::default(), &facts, &mut memory).unwrap();
    let of = |pfns: &[u64]| batch(pfns, |pfn| [pfn as u8; 4096], true, &mut Codec::None);
    let mismatch = |result| matches!(result, Err(WriteError::Mismatch(_)));
    assert!(mismatch(writer.put_notes(&[1])));
    assert!(mismatch(writer.put_bitmap(Bitmap::Present, 12_501, &[0])));
    let mut small = Batch::new();
    small.restart(2048, true);
    assert!(mismatch(writer.put_batch(&mut small)));
    assert!(mismatch(writer.put_batch(&mut of(&[100_001]))));
    writer.put_batch(&mut of(&[5])).unwrap();
    assert!(mismatch(writer.put_batch(&mut of(&[5]))));
    writer.put_batch(&mut of(&[0x100])).unwrap();
    assert!(mismatch(writer.put_batch(&mut of(&[0x101]))));
    assert_eq!(writer.finish().unwrap().pages, 2);
}

#[test]
fn a_batch_that_does_not_match_costs_only_itself() {
    let mut disk = Disk::default();
    let mut memory = vec![0; MEMORY_BYTES];
    let mut writer = begin(&mut disk, Compression::None, &mut memory, 5).unwrap();
    let put = |writer: &mut Writer<'_, &mut Disk>, pfns: &[u64]| {
        put(writer, pfns, page, &mut Codec::None)
    };
    put(&mut writer, &[0, 7]).unwrap();
    assert!(put(&mut writer, &[14, 200_000]).is_err());
    assert_eq!(writer.finish_incomplete().unwrap().pages, 2);
    assert_eq!(read(&disk.bytes, 7), Some(page(7).to_vec()));
    assert_eq!(read(&disk.bytes, 14), None);
}
