// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reader against a dumpfile whose bytes are written here, from the format and with nothing of the crate's own
//! structures; then against every way of cutting it short, and of changing one byte of it.

#![allow(missing_docs, reason = "a test")]

use collector::address::Pfn;
use collector::kdump::{Bitmap, HeaderError, ReadError, Reader};
use collector::{IoError, Source};
use std::io::Write as _;

struct Bytes<'a>(&'a [u8]);

impl Source for Bytes<'_> {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        let start = usize::try_from(offset).map_err(|_| IoError::END)?;
        let rest = self.0.get(start..).ok_or(IoError::END)?;
        buf.copy_from_slice(rest.get(..buf.len()).ok_or(IoError::END)?);
        Ok(())
    }
}

const MEMORY_BYTES: usize = Reader::<Bytes<'_>>::MEMORY_BYTES;
const MAX_MAPNR: u64 = 77;
const NOTES: &[u8] = b"CORE\0\0\0\0 some notes, VMCOREINFO";

fn text_page() -> Vec<u8> {
    let mut page = b"a page of words, and more words. ".repeat(200);
    page.truncate(4096);
    page
}

fn raw_page() -> Vec<u8> {
    (0..4096_u32)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

/// pfn 1 and 70 are zero and share a block, 2 is stored as it is, 64 is compressed, 76 was lost, 77 and on do not
/// exist, 3 to 10 were left out, all others never existed.
fn sample() -> Vec<u8> {
    let mut file = Vec::new();
    let pad = |file: &mut Vec<u8>, len: usize| {
        assert!(file.len() <= len);
        file.resize(len, 0);
    };
    // Block 0.
    file.extend(b"KDUMP   ");
    file.extend(6_u32.to_le_bytes());
    for name in ["Linux", "host", "6.1.0", "#1 SMP", "x86_64", "(none)"] {
        let end = file.len() + 65;
        file.extend(name.as_bytes());
        pad(&mut file, end);
    }
    pad(&mut file, 408);
    file.extend(1_700_000_000_u64.to_le_bytes());
    pad(&mut file, 424);
    for field in [1_u32, 4096, 1, 2, 77, 0, 0, 0, 0, 3] {
        file.extend(field.to_le_bytes());
    }
    assert_eq!(file.len(), 464);
    pad(&mut file, 4096);
    // Block 1.
    file.extend(0x20_0000_u64.to_le_bytes());
    file.extend(31_u32.to_le_bytes());
    pad(&mut file, 4096 + 32);
    for field in [4096 + 104 + 20, 10, 4096 + 104, NOTES.len() as u64] {
        file.extend(field.to_le_bytes());
    }
    pad(&mut file, 4096 + 96);
    file.extend(MAX_MAPNR.to_le_bytes());
    file.extend(NOTES);
    pad(&mut file, 2 * 4096);
    // Blocks 2 and 3.
    let bits = |pfns: &[usize]| {
        let mut bitmap = vec![0_u8; 4096];
        for pfn in pfns {
            bitmap[pfn / 8] |= 1 << (pfn % 8);
        }
        bitmap
    };
    file.extend(bits(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 64, 70, 76]));
    // A bit behind the last page means nothing.
    file.extend(bits(&[1, 2, 64, 70, 76, 78]));
    // Block 4: descriptors, and the data at once behind them.
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(6));
    zlib.write_all(&text_page()).expect("a vector takes all");
    let zlib = zlib.finish().expect("a vector takes all");
    let data = 4 * 4096 + 5 * 24_u64;
    let descs = [
        (data, 4096, 0_u32),
        (data + 4096, 4096, 0),
        (data + 8192, zlib.len() as u32, 1),
        (data, 4096, 0),
        (0, 0, 0),
    ];
    for (offset, bytes, flags) in descs {
        file.extend(offset.to_le_bytes());
        file.extend(bytes.to_le_bytes());
        file.extend(flags.to_le_bytes());
        file.extend(0_u64.to_le_bytes());
    }
    file.extend([0; 4096]);
    file.extend(raw_page());
    file.extend(zlib);
    file
}

#[test]
fn the_sample_is_read_as_it_was_written() {
    let file = sample();
    let mut memory = vec![0xaa; MEMORY_BYTES];
    let mut reader = Reader::open(Bytes(&file), &mut memory).unwrap();
    assert_eq!(reader.header().utsname.release(), "6.1.0");
    assert_eq!(reader.header().utsname.machine(), "x86_64");
    assert_eq!(reader.header().crash_time_s, 1_700_000_000);
    assert_eq!(reader.header().nr_cpus, 3);
    assert!(!reader.is_incomplete());
    assert_eq!(reader.max_mapnr(), MAX_MAPNR);
    assert_eq!(reader.sub_header().phys_base, 0x20_0000);
    assert_eq!(reader.sub_header().dump_level, 31);
    assert_eq!(reader.page_count(), 5);
    let notes = reader.sub_header().notes;
    let mut bytes = vec![0; notes.bytes as usize];
    reader.read_at(notes.offset, &mut bytes).unwrap();
    assert_eq!(bytes, NOTES);
    let vmcoreinfo = reader.sub_header().vmcoreinfo;
    let mut bytes = vec![0; vmcoreinfo.bytes as usize];
    reader.read_at(vmcoreinfo.offset, &mut bytes).unwrap();
    assert_eq!(bytes, b" VMCOREINF");

    let mut page = vec![0; 4096];
    for (pfn, expected) in [
        (64, text_page()),
        (1, vec![0; 4096]),
        (2, raw_page()),
        (70, vec![0; 4096]),
    ] {
        page.fill(0xaa);
        assert_eq!(reader.read_page(Pfn(pfn), &mut page), Ok(()));
        assert!(page == expected, "{pfn}");
    }
    let mut state = |pfn| reader.read_page(Pfn(pfn), &mut page);
    assert_eq!(state(0), Err(ReadError::NotPresent(Pfn(0))));
    assert_eq!(state(3), Err(ReadError::Excluded(Pfn(3))));
    assert_eq!(state(76), Err(ReadError::Lost(Pfn(76))));
    assert_eq!(state(78), Err(ReadError::NotPresent(Pfn(78))));
    assert_eq!(state(u64::MAX), Err(ReadError::NotPresent(Pfn(u64::MAX))));
    assert_eq!(
        reader.read_page(Pfn(1), &mut page[..4095]),
        Err(ReadError::Memory)
    );
}

#[test]
fn pages_come_in_ascending_order() {
    let file = sample();
    let mut memory = vec![0; MEMORY_BYTES];
    let mut reader = Reader::open(Bytes(&file), &mut memory).unwrap();
    let mut found = Vec::new();
    let mut from = Pfn(0);
    while let Some(pfn) = reader.next_page(from).unwrap() {
        found.push(pfn.0);
        from = Pfn(pfn.0 + 1);
    }
    assert_eq!(found, [1, 2, 64, 70, 76]);
    for pfn in 0..100 {
        assert_eq!(
            reader.bit(Bitmap::Dumpable, Pfn(pfn)),
            Ok(found.contains(&pfn))
        );
    }
    assert_eq!(reader.bit(Bitmap::Present, Pfn(10)), Ok(true));
    assert_eq!(reader.next_page(Pfn(u64::MAX)), Ok(None));
}

#[test]
fn other_files_are_refused_with_a_reason() {
    let mut memory = vec![0; MEMORY_BYTES];
    let mut refusal = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = sample();
        change(&mut file);
        Reader::open(Bytes(&file), &mut memory).err()
    };
    let header = |error| Some(ReadError::Header(error));
    assert_eq!(
        refusal(&|file| file[0] = 0x7f),
        header(HeaderError::Signature)
    );
    let flattened = |file: &mut Vec<u8>| file[..13].copy_from_slice(b"makedumpfile\0");
    assert_eq!(refusal(&flattened), Some(ReadError::Flattened));
    assert_eq!(refusal(&|file| file[4096 + 12] = 1), Some(ReadError::Split));
    let too_many = |file: &mut Vec<u8>| file[4096 + 96..4096 + 104].fill(0xff);
    assert!(matches!(refusal(&too_many), Some(ReadError::Damaged(_))));
    assert!(matches!(
        refusal(&|file| file.truncate(4 * 4096 - 1)),
        Some(ReadError::Damaged(_))
    ));
    let file = sample();
    let short = Reader::open(Bytes(&file), &mut memory[1..]);
    assert_eq!(short.err(), Some(ReadError::Memory));
}

#[test]
fn pages_that_cannot_be_right_are_errors() {
    let file = sample();
    let desc = |rank: usize| 4 * 4096 + 24 * rank;
    let mut memory = vec![0; MEMORY_BYTES];
    let mut page = vec![0; 4096];
    let mut read = |pfn: u64, change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = file.clone();
        change(&mut file);
        let mut reader = Reader::open(Bytes(&file), &mut memory).unwrap();
        reader.read_page(Pfn(pfn), &mut page)
    };
    // A raw page of another size, a stream that is longer than a page, one cut short, one that is called LZO, a flag
    // that nobody knows, data behind the file's end.
    let damaged = |pfn| Err(ReadError::DamagedPage(Pfn(pfn)));
    assert_eq!(read(2, &|file| file[desc(1) + 8] = 1), damaged(2));
    assert_eq!(read(64, &|file| file[desc(2) + 10] = 1), damaged(64));
    assert_eq!(read(64, &|file| file[desc(2) + 8] -= 1), damaged(64));
    assert_eq!(read(64, &|file| file[desc(2) + 12] = 2), damaged(64));
    assert_eq!(
        read(64, &|file| file[desc(2) + 12] = 0x40),
        Err(ReadError::Unsupported(Pfn(64), 0x40))
    );
    assert!(matches!(
        read(2, &|file| file[desc(1) + 7] = 0x7f),
        Err(ReadError::Io(_, IoError::END))
    ));
    let incomplete = |file: &mut Vec<u8>| {
        file[424] |= 8;
        file.truncate(desc(1) + 3);
    };
    assert_eq!(read(2, &incomplete), Err(ReadError::Lost(Pfn(2))));
}

/// Opens a file and reads all of it, whatever it is.
fn read_all(file: &[u8], memory: &mut [u8], page: &mut [u8]) -> Result<u64, ReadError> {
    let mut reader = Reader::open(Bytes(file), memory)?;
    let mut good = 0;
    let mut from = Pfn(0);
    let page = page
        .get_mut(..reader.page_bytes())
        .ok_or(ReadError::Memory)?;
    while let Some(pfn) = reader.next_page(from)? {
        assert!(pfn.0 >= from.0 && pfn.0 < reader.max_mapnr());
        good += u64::from(reader.read_page(pfn, page).is_ok());
        from = Pfn(pfn.0 + 1);
    }
    Ok(good)
}

/// Every place in the file's structures and in the compressed page, and some in what is all alike: padding and pages
/// that are stored as they are.
fn places(file: &[u8]) -> impl Iterator<Item = usize> + use<> {
    let stored = 4 * 4096 + 5 * 24 + 16..4 * 4096 + 5 * 24 + 8192 - 16;
    (0..file.len()).filter(move |at| {
        let padding = *at < 4 * 4096 && at % 4096 > 480;
        at % 61 == 0 || !(padding || stored.contains(at))
    })
}

#[test]
fn every_truncation_is_an_error_or_a_part() {
    let file = sample();
    let (mut memory, mut page) = (vec![0; MEMORY_BYTES], vec![0; 65536]);
    assert_eq!(read_all(&file, &mut memory, &mut page), Ok(4));
    for len in places(&file) {
        let result = read_all(&file[..len], &mut memory, &mut page);
        match len {
            0..16384 => assert!(result.is_err(), "{len}"),
            _ => assert!(matches!(result, Ok(0..=3)), "{len}: {result:?}"),
        }
    }
}

#[test]
fn every_flipped_byte_is_an_error_or_a_page() {
    let mut file = sample();
    let (mut memory, mut page) = (vec![0; MEMORY_BYTES], vec![0; 65536]);
    let mut errors = 0;
    for at in places(&file) {
        for flip in [0x01, 0x80, 0xff] {
            file[at] ^= flip;
            errors += u64::from(read_all(&file, &mut memory, &mut page) != Ok(4));
            file[at] ^= flip;
        }
    }
    // The signature, the sizes, the bitmap, the descriptors and the compressed page do matter.
    assert!(errors > 300, "{errors}");
}

/// A dumpfile of a machine so large that the sums cannot stand at every window: every page is there but for each
/// seventh in the odd windows, and each descriptor says its rank.
struct Huge(Vec<u8>);

impl Huge {
    const MAX_MAPNR: u64 = 3 * 4096 * 32768 + 12345;
    const BLOCKS: u64 = Self::MAX_MAPNR.div_ceil(8 * 4096);
    const DUMPABLE: u64 = (2 + Self::BLOCKS) * 4096;
    const DESCS: u64 = (2 + 2 * Self::BLOCKS) * 4096;

    fn new() -> Self {
        let mut head = sample();
        head.truncate(8192);
        head[436..440].copy_from_slice(&(2 * Self::BLOCKS as u32).to_le_bytes());
        head[4096 + 96..4096 + 104].copy_from_slice(&Self::MAX_MAPNR.to_le_bytes());
        Self(head)
    }

    fn has(pfn: u64) -> bool {
        pfn < Self::MAX_MAPNR && ((pfn / 32768).is_multiple_of(2) || pfn % 8 != 7)
    }

    fn rank(pfn: u64) -> u64 {
        let (pairs, rest) = (pfn / 65536, pfn % 65536);
        let odd = rest.saturating_sub(32768);
        pairs * (32768 + 28672) + (rest - odd) + (odd - odd / 8)
    }
}

impl Source for Huge {
    fn size_bytes(&self) -> u64 {
        1 << 40
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        if offset < 8192 {
            return Bytes(&self.0).read_at(offset, buf);
        }
        if offset >= Self::DESCS {
            let rank = (offset - Self::DESCS) / 24;
            buf.fill(0);
            buf[..8].copy_from_slice(&(rank + 1).to_le_bytes());
            // A descriptor without a size is one of a page that was lost.
            buf[8..12].copy_from_slice(&4096_u32.to_le_bytes());
            return Ok(());
        }
        if offset < Self::DUMPABLE {
            buf.fill(0xff);
            return Ok(());
        }
        let window = (offset - Self::DUMPABLE) / 4096;
        buf.fill(if window.is_multiple_of(2) { 0xff } else { 0x7f });
        Ok(())
    }
}

#[test]
fn ranks_are_right_in_a_machine_of_any_size() {
    let mut memory = vec![0; MEMORY_BYTES];
    let mut reader = Reader::open(Huge::new(), &mut memory).unwrap();
    assert_eq!(reader.page_count(), Huge::rank(Huge::MAX_MAPNR));
    let near = |pfn: u64| pfn.saturating_sub(3)..pfn + 3;
    let pfns = (0..Huge::MAX_MAPNR)
        .step_by(9_999_991)
        .chain([32768, 65536, 3 * 32768, 4096 * 32768, Huge::MAX_MAPNR])
        .flat_map(near);
    for pfn in pfns {
        let desc = reader.desc(Pfn(pfn)).ok();
        let expected = Huge::has(pfn).then(|| Huge::rank(pfn) + 1);
        assert_eq!(desc.map(|desc| desc.offset), expected, "{pfn}");
    }
}
