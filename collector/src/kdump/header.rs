// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fixed structures of a dumpfile, byte for byte, for 64-bit little-endian machines.
//!
//! Source: `struct disk_dump_header`, `struct kdump_sub_header` and `page_desc_t` in makedumpfile 1.7.9
//! `diskdump_mod.h`.

use super::utsname::Utsname;
use config::Compression;
use core::fmt;

/// The first eight bytes of a dumpfile.
pub const SIGNATURE: [u8; 8] = *b"KDUMP   ";
/// The version of the format that we write.
pub const VERSION: u32 = 6;
/// Bytes of the main header; the rest of its block is zero.
pub const HEADER_BYTES: usize = 464;
/// Bytes of the sub header; the notes follow at once.
pub const SUB_HEADER_BYTES: usize = 104;
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
        let mut out = Encoder::new();
        out.put(&SIGNATURE);
        out.put(&self.version.to_le_bytes());
        out.put(self.utsname.as_bytes());
        out.put(&[0; 6]);
        out.put(&self.crash_time_s.to_le_bytes());
        out.put(&0_u64.to_le_bytes()); // tv_usec
        out.put(&self.status.to_le_bytes());
        out.put(&self.block_bytes.to_le_bytes());
        out.put(&self.sub_header_blocks.to_le_bytes());
        out.put(&self.bitmap_blocks.to_le_bytes());
        out.put(&self.max_mapnr.to_le_bytes());
        out.put(&[0; 16]); // total_ram_blocks, device_blocks, written_blocks, current_cpu
        out.put(&self.nr_cpus.to_le_bytes());
        out.bytes
    }

    /// Reads the header.
    ///
    /// # Errors
    /// What makes it no header of a 64-bit little-endian dumpfile. That `sub_header_blocks`, `bitmap_blocks` and the
    /// file's size go together is for the caller to check.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeaderError> {
        let mut input = Decoder(bytes);
        if input.take::<8>() != SIGNATURE {
            return Err(HeaderError::Signature);
        }
        let version = input.u32();
        if !(1..=VERSION).contains(&version) {
            return Err(HeaderError::Version(version));
        }
        let utsname = Utsname(input.take());
        input.take::<6>();
        let crash_time_s = i64::from_le_bytes(input.take());
        input.take::<8>();
        let header = Self {
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
    /// The sub header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SUB_HEADER_BYTES] {
        let mut out = Encoder::new();
        out.put(&self.phys_base.to_le_bytes());
        out.put(&self.dump_level.to_le_bytes());
        out.put(&self.split.to_le_bytes());
        out.put(&self.start_pfn.to_le_bytes());
        out.put(&self.end_pfn.to_le_bytes());
        for extent in [self.vmcoreinfo, self.notes, self.eraseinfo] {
            out.put(&extent.offset.to_le_bytes());
            out.put(&extent.bytes.to_le_bytes());
        }
        // start_pfn and end_pfn a second time: the first pair is 32 bits wide on 32-bit machines.
        out.put(&self.start_pfn.to_le_bytes());
        out.put(&self.end_pfn.to_le_bytes());
        out.put(&self.max_mapnr.to_le_bytes());
        out.bytes
    }

    /// Reads the sub header of a file with this main header. Fields that its version lacks are 0, but for `max_mapnr`,
    /// which then is the main header's.
    #[must_use]
    pub fn decode(bytes: &[u8; SUB_HEADER_BYTES], header: &Header) -> Self {
        let mut input = Decoder(bytes);
        let extent = |version: u32, input: &mut Decoder<'_>| {
            let (offset, bytes) = (input.u64(), input.u64());
            if header.version >= version {
                Extent { offset, bytes }
            } else {
                Extent::default()
            }
        };
        let (phys_base, dump_level, split) = (input.u64(), input.u32(), input.u32());
        let (start_pfn, end_pfn) = (input.u64(), input.u64());
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
    pub fn encode(&self) -> [u8; PAGE_DESC_BYTES] {
        let mut out = Encoder::new();
        out.put(&self.offset.to_le_bytes());
        out.put(&self.bytes.to_le_bytes());
        out.put(&self.flags.to_le_bytes());
        out.put(&self.page_flags.to_le_bytes());
        out.bytes
    }

    /// Reads a descriptor.
    #[must_use]
    pub fn decode(bytes: &[u8; PAGE_DESC_BYTES]) -> Self {
        let mut input = Decoder(bytes);
        Self {
            offset: input.u64(),
            bytes: input.u32(),
            flags: input.u32(),
            page_flags: input.u64(),
        }
    }
}

/// Appends fields to a structure whose size is known; a sum of fields that differs from it fails the first test.
struct Encoder<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Encoder<N> {
    const fn new() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
        }
    }

    fn put(&mut self, field: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(field) {
            *to = *from;
        }
        self.len = self.len.saturating_add(field.len());
    }
}

/// Takes fields off the front; zeros where it has run out, which the sizes of the structures exclude.
struct Decoder<'a>(&'a [u8]);

impl Decoder<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
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
        let bytes = sub_header.encode();
        let field = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(field(0), 0xffff_ffff_ff60_0000);
        assert_eq!(field(8), 1 << 32 | 31);
        assert_eq!((field(16), field(24)), (0x40, 0x80));
        assert_eq!((field(32), field(40)), (4936, 0xcd4));
        assert_eq!((field(48), field(56)), (4200, 0xfb4));
        assert_eq!((field(64), field(72)), (7, 8));
        assert_eq!((field(80), field(88), field(96)), (0x40, 0x80, 0x4ffd7));
        assert_eq!(SubHeader::decode(&bytes, &header()), sub_header);

        let old = Header {
            version: 3,
            ..header()
        };
        let decoded = SubHeader::decode(&bytes, &old);
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
        let bytes = desc.encode();
        assert_eq!(bytes[..8], [1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(bytes[8..16], [3, 2, 0, 0, 1, 0, 0, 0]);
        assert_eq!(bytes[16..], [0; 8]);
        assert_eq!(PageDesc::decode(&bytes), desc);
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
