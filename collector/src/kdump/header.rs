// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fixed structures of a dumpfile, byte for byte: as a compiler for the crashed machine lays them out.
//!
//! Source: `struct disk_dump_header`, `struct kdump_sub_header` and `page_desc_t` in makedumpfile 1.7.9
//! `diskdump_mod.h`.

use super::utsname::Utsname;
use config::Compression;
use heapless::Vec;

use crate::bytes::{Abi, ByteOrder, Word};
use core::fmt;

/// The first eight bytes of a dumpfile.
pub const SIGNATURE: [u8; 8] = *b"KDUMP   ";
/// The version of the format that we write.
pub const VERSION: u32 = 6;
/// Bytes of the main header, on 64-bit machines; the rest of its block is zero, and so is what follows a shorter one.
pub const HEADER_BYTES: usize = 464;
/// The most bytes of a sub header.
pub const MAX_SUB_HEADER_BYTES: usize = 104;
/// Bytes of one page descriptor.
pub const PAGE_DESC_BYTES: usize = 24;
/// The smallest block, and so page, that a dumpfile may have.
pub const MIN_BLOCK_BYTES: u32 = 4096;
/// The largest block, and so page, that we write or read.
pub const MAX_BLOCK_BYTES: u32 = 65536;

/// `status` and `flags`: zlib.
pub const FLAG_ZLIB: u32 = 0x1;
/// `status` and `flags`: LZO.
pub const FLAG_LZO: u32 = 0x2;
/// `status` and `flags`: snappy.
pub const FLAG_SNAPPY: u32 = 0x4;
/// `status`: the dump was cut short; what is missing was lost and not left out on purpose.
pub const FLAG_INCOMPLETE: u32 = 0x8;
/// `status`: the `struct page`s of excluded pages were left out too.
pub const FLAG_EXCLUDED_VMEMMAP: u32 = 0x10;
/// `status` and `flags`: zstd.
pub const FLAG_ZSTD: u32 = 0x20;

/// Bytes of the sub header; the notes follow at once.
#[must_use]
pub const fn sub_header_bytes(abi: Abi) -> usize {
    match abi.word {
        Word::Bits32 => 80,
        Word::Bits64 => MAX_SUB_HEADER_BYTES,
    }
}

/// The flag that stands for a compression; [`Compression::None`] has none.
#[must_use]
pub const fn compression_flag(compression: Compression) -> u32 {
    match compression {
        Compression::None => 0,
        Compression::Zlib => FLAG_ZLIB,
        Compression::Lzo => FLAG_LZO,
        Compression::Snappy => FLAG_SNAPPY,
        Compression::Zstd => FLAG_ZSTD,
    }
}

/// What stands in block 0: `struct disk_dump_header`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How the crashed machine has numbers.
    pub abi: Abi,
    /// Version of the format, 1 to 6.
    pub version: u32,
    /// The crashed kernel's names.
    pub utsname: Utsname,
    /// When it crashed, seconds since 1970.
    pub crash_time_s: i64,
    /// The compression's flag, [`FLAG_INCOMPLETE`], [`FLAG_EXCLUDED_VMEMMAP`].
    pub status: u32,
    /// Bytes of a block, which is a page of the crashed kernel.
    pub block_bytes: u32,
    /// Blocks of the sub header with its notes.
    pub sub_header_blocks: u32,
    /// Blocks of both bitmaps together.
    pub bitmap_blocks: u32,
    /// One past the highest pfn; [`SubHeader::max_mapnr`] has all its bits.
    pub max_mapnr: u32,
    /// CPUs whose registers stand in the notes.
    pub nr_cpus: u32,
}

impl Header {
    /// The header's bytes. `tv_usec` stays 0: libkdumpfile takes anything between 4096 and 262144 there for the block
    /// size of a 32-bit header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = Encoder::new(self.abi);
        out.put(&SIGNATURE);
        out.u32(self.version);
        out.put(self.utsname.as_bytes());
        out.put(padding(self.abi));
        out.word(self.crash_time_s.cast_unsigned());
        out.word(0); // tv_usec
        out.u32(self.status);
        out.u32(self.block_bytes);
        out.u32(self.sub_header_blocks);
        out.u32(self.bitmap_blocks);
        out.u32(self.max_mapnr);
        out.put(&[0; 16]); // total_ram_blocks, device_blocks, written_blocks, current_cpu
        out.u32(self.nr_cpus);
        out.bytes
    }

    /// Reads the header.
    ///
    /// # Errors
    /// What makes it no header of a dumpfile. That `sub_header_blocks`, `bitmap_blocks` and the
    /// file's size go together is for the caller to check.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeaderError> {
        if !bytes.starts_with(&SIGNATURE) {
            return Err(HeaderError::Signature);
        }
        let abi = detect_abi(bytes)?;
        let mut input = Decoder { bytes, abi };
        input.take::<8>();
        let version = input.u32();
        let utsname = Utsname(input.take());
        input.skip(padding(abi).len());
        let crash_time_s = match abi.word {
            Word::Bits32 => i64::from(input.u32().cast_signed()),
            Word::Bits64 => input.u64().cast_signed(),
        };
        input.skip(abi.word_bytes());
        let header = Self {
            abi,
            version,
            utsname,
            crash_time_s,
            status: input.u32(),
            block_bytes: input.u32(),
            sub_header_blocks: input.u32(),
            bitmap_blocks: input.u32(),
            max_mapnr: input.u32(),
            nr_cpus: {
                input.take::<16>();
                input.u32()
            },
        };
        if !header.block_bytes.is_power_of_two()
            || !(MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&header.block_bytes)
        {
            return Err(HeaderError::BlockSize(header.block_bytes));
        }
        Ok(header)
    }
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// They do not begin with [`SIGNATURE`].
    Signature,
    /// Of a version that we do not know.
    Version(u32),
    /// The block size is no power of two from [`MIN_BLOCK_BYTES`] to [`MAX_BLOCK_BYTES`].
    BlockSize(u32),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature => {
                f.write_str("no kdump-compressed file: it does not begin with \"KDUMP\"")
            }
            Self::Version(version) => {
                write!(f, "header version {version}; 1 to {VERSION} are known")
            }
            Self::BlockSize(bytes) => write!(
                f,
                "block size {bytes}; powers of two from {MIN_BLOCK_BYTES} to {MAX_BLOCK_BYTES} are known"
            ),
        }
    }
}

impl core::error::Error for HeaderError {}

/// A run of bytes in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the start.
    pub offset: u64,
    /// Bytes of it; 0 where there is none.
    pub bytes: u64,
}

/// What stands at the start of block 1: `struct kdump_sub_header`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubHeader {
    /// Where the kernel was loaded, as a signed number in two's complement.
    pub phys_base: u64,
    /// makedumpfile's dump level.
    pub dump_level: u32,
    /// 1 when this file is one of several that make a dump.
    pub split: u32,
    /// First pfn of a split file.
    pub start_pfn: u64,
    /// One past the last pfn of a split file.
    pub end_pfn: u64,
    /// The text of VMCOREINFO, within the notes.
    pub vmcoreinfo: Extent,
    /// The vmcore's notes, copied.
    pub notes: Extent,
    /// What was erased on request.
    pub eraseinfo: Extent,
    /// One past the highest pfn.
    pub max_mapnr: u64,
}

impl SubHeader {
    /// The sub header's bytes: [`sub_header_bytes`].
    #[must_use]
    pub fn encode(&self, abi: Abi) -> Vec<u8, MAX_SUB_HEADER_BYTES> {
        let mut out = Encoder::<MAX_SUB_HEADER_BYTES>::new(abi);
        out.word(self.phys_base);
        out.u32(self.dump_level);
        out.u32(self.split);
        out.word(self.start_pfn);
        out.word(self.end_pfn);
        // Offsets have 64 bits on all machines; the compiler for i386 does not align them.
        for extent in [self.vmcoreinfo, self.notes, self.eraseinfo] {
            out.u64(extent.offset);
            out.word(extent.bytes);
        }
        // start_pfn and end_pfn a second time: the first pair is 32 bits wide on 32-bit machines.
        out.u64(self.start_pfn);
        out.u64(self.end_pfn);
        out.u64(self.max_mapnr);
        let mut bytes = Vec::from_array(out.bytes);
        bytes.truncate(out.len);
        bytes
    }

    /// Reads the sub header of a file with this main header. Fields that its version lacks are 0, but for `max_mapnr`,
    /// which then is the main header's.
    #[must_use]
    pub fn decode(bytes: &[u8; MAX_SUB_HEADER_BYTES], header: &Header) -> Self {
        let abi = header.abi;
        let mut input = Decoder { bytes, abi };
        let extent = |version: u32, input: &mut Decoder<'_>| {
            let (offset, bytes) = (input.u64(), input.word());
            if header.version >= version {
                Extent { offset, bytes }
            } else {
                Extent::default()
            }
        };
        let (phys_base, dump_level, split) = (input.word(), input.u32(), input.u32());
        let (start_pfn, end_pfn) = (input.word(), input.word());
        let vmcoreinfo = extent(3, &mut input);
        let notes = extent(4, &mut input);
        let eraseinfo = extent(5, &mut input);
        let (start_pfn_64, end_pfn_64, max_mapnr_64) = (input.u64(), input.u64(), input.u64());
        let (start_pfn, end_pfn, max_mapnr) = match header.version {
            6.. => (start_pfn_64, end_pfn_64, max_mapnr_64),
            2..=5 => (start_pfn, end_pfn, header.max_mapnr.into()),
            _ => (0, 0, header.max_mapnr.into()),
        };
        Self {
            phys_base,
            dump_level,
            split: if header.version >= 2 { split } else { 0 },
            start_pfn,
            end_pfn,
            vmcoreinfo,
            notes,
            eraseinfo,
            max_mapnr,
        }
    }
}

/// One page's place in a dumpfile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageDesc {
    /// Bytes from the dumpfile's start to this page's data; 0 for a page that was lost.
    pub offset: u64,
    /// Bytes stored; the block size when the page is stored as it is.
    pub bytes: u32,
    /// The compression's flag; 0 when the page is stored as it is.
    pub flags: u32,
    /// The kernel's flags of the page; always written as 0.
    pub page_flags: u64,
}

impl PageDesc {
    /// The descriptor's bytes.
    #[must_use]
    pub fn encode(&self, abi: Abi) -> [u8; PAGE_DESC_BYTES] {
        let mut out = Encoder::new(abi);
        out.u64(self.offset);
        out.u32(self.bytes);
        out.u32(self.flags);
        out.u64(self.page_flags);
        out.bytes
    }

    /// Reads a descriptor.
    #[must_use]
    pub fn decode(bytes: &[u8; PAGE_DESC_BYTES], abi: Abi) -> Self {
        let mut input = Decoder { bytes, abi };
        Self {
            offset: input.u64(),
            bytes: input.u32(),
            flags: input.u32(),
            page_flags: input.u64(),
        }
    }
}

/// What a compiler leaves free behind the names, so that a word comes at a multiple of its size.
const fn padding(abi: Abi) -> &'static [u8] {
    match abi.word {
        Word::Bits32 => &[0; 2],
        Word::Bits64 => &[0; 6],
    }
}

/// How the machine had its numbers: the version is small in the right byte order, and i386 is told by its name.
fn detect_abi(bytes: &[u8; HEADER_BYTES]) -> Result<Abi, HeaderError> {
    let known = |version: u32| (1..=VERSION).contains(&version);
    let little = Abi::LITTLE_64.u32_at(bytes, 8).unwrap_or(0);
    let order = if known(little) {
        ByteOrder::Little
    } else if known(little.swap_bytes()) {
        ByteOrder::Big
    } else {
        return Err(HeaderError::Version(little));
    };
    let machine = bytes.get(MACHINE_OFFSET..).unwrap_or_default();
    let word = match machine {
        [b'i', b'3'..=b'6', b'8', b'6', ..] => Word::Bits32,
        _ => Word::Bits64,
    };
    Ok(Abi { order, word })
}

/// Where `utsname.machine` is.
const MACHINE_OFFSET: usize = 12 + 4 * 65;

/// Appends fields to a structure whose size is known; a sum of fields that differs from it fails the first test.
struct Encoder<const N: usize> {
    bytes: [u8; N],
    len: usize,
    abi: Abi,
}

impl<const N: usize> Encoder<N> {
    const fn new(abi: Abi) -> Self {
        Self {
            bytes: [0; N],
            len: 0,
            abi,
        }
    }

    fn put(&mut self, field: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(field) {
            *to = *from;
        }
        self.len = self.len.saturating_add(field.len());
    }

    fn u32(&mut self, field: u32) {
        self.put(&match self.abi.order {
            ByteOrder::Little => field.to_le_bytes(),
            ByteOrder::Big => field.to_be_bytes(),
        });
    }

    fn u64(&mut self, field: u64) {
        self.put(&match self.abi.order {
            ByteOrder::Little => field.to_le_bytes(),
            ByteOrder::Big => field.to_be_bytes(),
        });
    }

    /// A `long`; of one that is too large for a 32-bit machine the low half.
    fn word(&mut self, field: u64) {
        match self.abi.word {
            Word::Bits32 => {
                self.u32(u32::try_from(field & 0xffff_ffff).unwrap_or(u32::MAX));
            }
            Word::Bits64 => self.u64(field),
        }
    }
}

/// Takes fields off the front; zeros where it has run out, which the sizes of the structures exclude.
struct Decoder<'a> {
    bytes: &'a [u8],
    abi: Abi,
}

impl Decoder<'_> {
    fn skip(&mut self, count: usize) {
        self.bytes = self.bytes.get(count..).unwrap_or_default();
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.bytes.split_first_chunk() {
            Some((field, rest)) => {
                self.bytes = rest;
                *field
            }
            None => [0; N],
        }
    }

    fn u32(&mut self) -> u32 {
        let field = self.abi.u32_at(self.bytes, 0).unwrap_or(0);
        self.skip(4);
        field
    }

    fn u64(&mut self) -> u64 {
        let field = self.abi.u64_at(self.bytes, 0).unwrap_or(0);
        self.skip(8);
        field
    }

    fn word(&mut self) -> u64 {
        match self.abi.word {
            Word::Bits32 => self.u32().into(),
            Word::Bits64 => self.u64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            abi: Abi::LITTLE_64,
            version: 6,
            utsname: Utsname::new("Linux", "host", "6.1.0-56-cloud-amd64", "#1 SMP", "x86_64"),
            crash_time_s: 0x1122_3344_5566,
            status: FLAG_ZLIB | FLAG_INCOMPLETE,
            block_bytes: 4096,
            sub_header_blocks: 2,
            bitmap_blocks: 20,
            max_mapnr: 0x4ffd7,
            nr_cpus: 3,
        }
    }

    fn padded(bytes: &[u8]) -> [u8; MAX_SUB_HEADER_BYTES] {
        let mut padded = [0; MAX_SUB_HEADER_BYTES];
        padded[..bytes.len()].copy_from_slice(bytes);
        padded
    }

    #[test]
    fn i386_has_words_of_four_bytes_and_no_gaps() {
        let abi = Abi {
            order: ByteOrder::Little,
            word: Word::Bits32,
        };
        let header = Header {
            abi,
            utsname: Utsname::new("Linux", "host", "6.1.0-50-686", "#1 SMP", "i686"),
            crash_time_s: 0x1122_3344,
            ..header()
        };
        let bytes = header.encode();
        assert_eq!(bytes[402..404], [0; 2]);
        assert_eq!(bytes[404..412], [0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0]);
        assert_eq!(bytes[412..416], [9, 0, 0, 0]);
        assert_eq!(bytes[416..420], [0, 0x10, 0, 0]);
        assert_eq!(bytes[428..432], [0xd7, 0xff, 0x04, 0]);
        assert_eq!(bytes[448..452], [3, 0, 0, 0]);
        assert_eq!(bytes[452..], [0; 12]);
        assert_eq!(Header::decode(&bytes), Ok(header));
        let sub_header = SubHeader {
            dump_level: 31,
            split: 1,
            start_pfn: 0x40,
            end_pfn: 0x80,
            vmcoreinfo: Extent {
                offset: 4936,
                bytes: 0xcd4,
            },
            notes: Extent {
                offset: 4176,
                bytes: 0xfb4,
            },
            max_mapnr: 0x4ffd7,
            ..SubHeader::default()
        };
        let bytes = sub_header.encode(abi);
        assert_eq!((bytes.len(), sub_header_bytes(abi)), (80, 80));
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!((word(4), word(8), word(12), word(16)), (31, 1, 0x40, 0x80));
        assert_eq!((long(20), word(28)), (4936, 0xcd4));
        assert_eq!((long(32), word(40)), (4176, 0xfb4));
        assert_eq!((long(44), word(52)), (0, 0));
        assert_eq!((long(56), long(64), long(72)), (0x40, 0x80, 0x4ffd7));
        assert_eq!(SubHeader::decode(&padded(&bytes), &header), sub_header);
    }

    #[test]
    fn s390x_has_its_highest_byte_first() {
        let abi = Abi {
            order: ByteOrder::Big,
            word: Word::Bits64,
        };
        let header = Header {
            abi,
            utsname: Utsname::new("Linux", "host", "6.1", "#1 SMP", "s390x"),
            ..header()
        };
        let bytes = header.encode();
        assert_eq!(bytes[8..12], [0, 0, 0, 6]);
        assert_eq!(bytes[408..416], [0, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66]);
        assert_eq!(bytes[428..432], [0, 0, 0x10, 0]);
        assert_eq!(Header::decode(&bytes), Ok(header));
        let desc = PageDesc {
            offset: 0x1_0000_0001,
            bytes: 0x203,
            flags: FLAG_ZLIB,
            page_flags: 0,
        };
        let bytes = desc.encode(abi);
        assert_eq!(bytes[..8], [0, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(bytes[8..16], [0, 0, 2, 3, 0, 0, 0, 1]);
        assert_eq!(PageDesc::decode(&bytes, abi), desc);
    }

    #[test]
    fn header_fields_stand_where_the_format_has_them() {
        let bytes = header().encode();
        assert_eq!(&bytes[..8], b"KDUMP   ");
        assert_eq!(bytes[8..12], [6, 0, 0, 0]);
        assert_eq!(&bytes[12..18], b"Linux\0");
        assert_eq!(&bytes[12 + 65..12 + 70], b"host\0");
        assert_eq!(&bytes[12 + 130..12 + 151], b"6.1.0-56-cloud-amd64\0");
        assert_eq!(&bytes[12 + 4 * 65..12 + 4 * 65 + 7], b"x86_64\0");
        assert_eq!(bytes[402..408], [0; 6]);
        assert_eq!(bytes[408..416], [0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0]);
        assert_eq!(bytes[416..424], [0; 8]);
        assert_eq!(bytes[424..428], [9, 0, 0, 0]);
        assert_eq!(bytes[428..432], [0, 0x10, 0, 0]);
        assert_eq!(bytes[432..436], [2, 0, 0, 0]);
        assert_eq!(bytes[436..440], [20, 0, 0, 0]);
        assert_eq!(bytes[440..444], [0xd7, 0xff, 0x04, 0]);
        assert_eq!(bytes[444..460], [0; 16]);
        assert_eq!(bytes[460..464], [3, 0, 0, 0]);
        assert_eq!(Header::decode(&bytes), Ok(header()));
    }

    #[test]
    fn sub_header_fields_stand_where_the_format_has_them() {
        let sub_header = SubHeader {
            phys_base: (-10_485_760_i64).cast_unsigned(),
            dump_level: 31,
            split: 1,
            start_pfn: 0x40,
            end_pfn: 0x80,
            vmcoreinfo: Extent {
                offset: 4936,
                bytes: 0xcd4,
            },
            notes: Extent {
                offset: 4200,
                bytes: 0xfb4,
            },
            eraseinfo: Extent {
                offset: 7,
                bytes: 8,
            },
            max_mapnr: 0x4ffd7,
        };
        let bytes = sub_header.encode(Abi::LITTLE_64);
        let field = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(field(0), 0xffff_ffff_ff60_0000);
        assert_eq!(field(8), 1 << 32 | 31);
        assert_eq!((field(16), field(24)), (0x40, 0x80));
        assert_eq!((field(32), field(40)), (4936, 0xcd4));
        assert_eq!((field(48), field(56)), (4200, 0xfb4));
        assert_eq!((field(64), field(72)), (7, 8));
        assert_eq!((field(80), field(88), field(96)), (0x40, 0x80, 0x4ffd7));
        assert_eq!(SubHeader::decode(&padded(&bytes), &header()), sub_header);

        let old = Header {
            version: 3,
            ..header()
        };
        let decoded = SubHeader::decode(&padded(&bytes), &old);
        assert_eq!(decoded.vmcoreinfo.bytes, 0xcd4);
        assert_eq!(decoded.notes, Extent::default());
        assert_eq!(decoded.max_mapnr, u64::from(old.max_mapnr));
    }

    #[test]
    fn a_descriptor_is_24_bytes() {
        let desc = PageDesc {
            offset: 0x1_0000_0001,
            bytes: 0x203,
            flags: FLAG_ZLIB,
            page_flags: 0,
        };
        let bytes = desc.encode(Abi::LITTLE_64);
        assert_eq!(bytes[..8], [1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(bytes[8..16], [3, 2, 0, 0, 1, 0, 0, 0]);
        assert_eq!(bytes[16..], [0; 8]);
        assert_eq!(PageDesc::decode(&bytes, Abi::LITTLE_64), desc);
    }

    #[test]
    fn foreign_headers_are_refused_with_a_reason() {
        let bytes = header().encode();
        let with = |at: usize, value: u8| {
            let mut bytes = bytes;
            bytes[at] = value;
            Header::decode(&bytes)
        };
        assert_eq!(with(0, b'D'), Err(HeaderError::Signature));
        assert_eq!(with(8, 7), Err(HeaderError::Version(7)));
        assert_eq!(with(8, 0), Err(HeaderError::Version(0)));
        assert_eq!(with(428, 1), Err(HeaderError::BlockSize(4097)));
        assert_eq!(with(429, 8), Err(HeaderError::BlockSize(2048)));
    }
}
