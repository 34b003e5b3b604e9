// SPDX-License-Identifier: MIT OR Apache-2.0
//! ELF core headers and notes, of 32 and 64 bits and in both byte orders: bytes to values.
//!
//! Source: `elf(5)`; the gABI chapters "ELF Header", "Program Header" and "Note Section".
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use core::fmt;

use crate::bytes::{Abi, ByteOrder, Word};
use crate::kdump::header::SIGNATURE;

/// Bytes of the file header that are read: ELF64's, of which ELF32's is a part.
pub(crate) const FILE_HEADER_BYTES: usize = 64;
/// Bytes of the larger kind of program header.
pub(crate) const MAX_PROGRAM_HEADER_BYTES: usize = 56;
/// Bytes of a note's header.
pub(crate) const NOTE_HEADER_BYTES: u64 = 12;

/// `PT_LOAD`: memory.
pub(crate) const LOAD: u32 = 1;
/// `PT_NOTE`: notes.
pub(crate) const NOTE: u32 = 4;
/// `NT_PRSTATUS`: one processor's registers.
pub(crate) const PRSTATUS: u32 = 1;

/// `e_phnum` when the count does not fit and stands in `sh_info` of the first section header.
const PN_XNUM: u16 = 0xffff;

/// `e_machine` of i386.
pub(crate) const MACHINE_386: u16 = 3;
/// `e_machine` of 32-bit ARM.
pub(crate) const MACHINE_ARM: u16 = 40;
/// `e_machine` of ppc64 and ppc64le.
pub(crate) const MACHINE_PPC64: u16 = 21;
/// `e_machine` of s390x.
pub(crate) const MACHINE_S390: u16 = 22;
/// `e_machine` of arm64.
pub(crate) const MACHINE_AARCH64: u16 = 183;
/// `e_machine` of riscv64.
pub(crate) const MACHINE_RISCV: u16 = 243;
/// `e_machine` of x86_64.
pub(crate) const MACHINE_X86_64: u16 = 62;

/// Bytes of a program header that are read; entries may be longer.
pub(crate) const fn program_header_bytes(abi: Abi) -> usize {
    match abi.word {
        Word::Bits32 => 32,
        Word::Bits64 => MAX_PROGRAM_HEADER_BYTES,
    }
}

/// `e_machine` of the machine that this program is built for.
pub(crate) const MACHINE_NATIVE: u16 = if cfg!(target_arch = "x86_64") {
    MACHINE_X86_64
} else if cfg!(target_arch = "x86") {
    MACHINE_386
} else if cfg!(target_arch = "aarch64") {
    MACHINE_AARCH64
} else if cfg!(target_arch = "powerpc64") {
    MACHINE_PPC64
} else if cfg!(target_arch = "riscv64") {
    MACHINE_RISCV
} else if cfg!(target_arch = "s390x") {
    MACHINE_S390
} else {
    0
};

/// Why a file is no vmcore that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// It does not begin with the ELF magic.
    NotElf,
    /// It is a dumpfile already, not a vmcore.
    Dumpfile,
    /// ELF, but no core file; the number is `e_type`.
    NotACore(u16),
    /// The program headers' entry size cannot be right.
    EntrySize(u16),
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => f.write_str("not an ELF file"),
            Self::Dumpfile => f.write_str("a kdump-compressed file already, and not a vmcore"),
            Self::NotACore(number) => {
                write!(f, "an ELF file, but no core (e_type is {number}, not 4)")
            }
            Self::EntrySize(size) => {
                write!(
                    f,
                    "the ELF header gives {size} bytes a program header, which is too few"
                )
            }
        }
    }
}

impl core::error::Error for ElfError {}

/// What the file header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    /// How the file has its numbers.
    pub(crate) abi: Abi,
    /// `e_machine`.
    pub(crate) machine: u16,
    /// Where the program headers are.
    pub(crate) headers_offset: u64,
    /// Bytes from one program header to the next.
    pub(crate) header_stride: u16,
    /// How many there are.
    pub(crate) header_count: HeaderCount,
}

/// Where the number of program headers is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderCount {
    /// In the file header.
    Here(u32),
    /// Too many for the file header: a 32-bit number at this offset, in the first section header.
    At(u64),
}

/// Reads the file header.
pub(crate) fn parse_file_header(bytes: &[u8; FILE_HEADER_BYTES]) -> Result<FileHeader, ElfError> {
    if bytes.starts_with(&SIGNATURE) {
        return Err(ElfError::Dumpfile);
    }
    if !bytes.starts_with(b"\x7fELF") {
        return Err(ElfError::NotElf);
    }
    let word = match bytes.get(4) {
        Some(1) => Word::Bits32,
        Some(2) => Word::Bits64,
        _ => return Err(ElfError::NotElf),
    };
    let order = match bytes.get(5) {
        Some(1) => ByteOrder::Little,
        Some(2) => ByteOrder::Big,
        _ => return Err(ElfError::NotElf),
    };
    let abi = Abi { order, word };
    let short = |offset| abi.u16_at(bytes, offset).ok_or(ElfError::NotElf);
    let long = |offset| abi.word_at(bytes, offset).ok_or(ElfError::NotElf);
    // Where e_phoff, e_shoff and e_phentsize are; and sh_info in a section header.
    let (headers_at, sections_at, stride_at, info_at) = match word {
        Word::Bits32 => (28, 32, 42, 28),
        Word::Bits64 => (32, 40, 54, 44),
    };
    let kind = short(16)?;
    if kind != 4 {
        return Err(ElfError::NotACore(kind));
    }
    let header_stride = short(stride_at)?;
    if usize::from(header_stride) < program_header_bytes(abi) {
        return Err(ElfError::EntrySize(header_stride));
    }
    let count = short(stride_at.saturating_add(2))?;
    let header_count = if count == PN_XNUM {
        HeaderCount::At(long(sections_at)?.saturating_add(info_at))
    } else {
        HeaderCount::Here(u32::from(count))
    };
    Ok(FileHeader {
        abi,
        machine: short(18)?,
        headers_offset: long(headers_at)?,
        header_stride,
        header_count,
    })
}

impl FileHeader {
    /// How the machine had its numbers. An i386 kernel's vmcore may be ELF64, for the memory beyond 4 GiB.
    pub(crate) const fn machine_abi(&self) -> Abi {
        let word = match self.machine {
            MACHINE_386 | MACHINE_ARM => Word::Bits32,
            MACHINE_X86_64 => Word::Bits64,
            _ => self.abi.word,
        };
        Abi {
            order: self.abi.order,
            word,
        }
    }
}

/// What a program header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProgramHeader {
    /// [`LOAD`], [`NOTE`] or something else.
    pub(crate) kind: u32,
    /// Where its bytes are in the file.
    pub(crate) offset: u64,
    /// The address by which the first kernel knew them.
    pub(crate) virtual_address: u64,
    /// Their address in memory.
    pub(crate) physical_address: u64,
    /// How many are in the file.
    pub(crate) file_bytes: u64,
    /// How many there were in memory.
    pub(crate) memory_bytes: u64,
}

/// Reads a program header of [`program_header_bytes`].
pub(crate) fn parse_program_header(abi: Abi, bytes: &[u8]) -> Option<ProgramHeader> {
    // p_offset, p_vaddr, p_paddr, p_filesz and p_memsz follow each other; in ELF64 p_flags comes before them.
    let field = |index: usize| {
        let first = match abi.word {
            Word::Bits32 => 4_usize,
            Word::Bits64 => 8,
        };
        let before = index.checked_mul(abi.word_bytes())?;
        abi.word_at(bytes, first.checked_add(before)?)
    };
    Some(ProgramHeader {
        kind: abi.u32_at(bytes, 0)?,
        offset: field(0)?,
        virtual_address: field(1)?,
        physical_address: field(2)?,
        file_bytes: field(3)?,
        memory_bytes: field(4)?,
    })
}

/// A note's header: sizes and type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoteHeader {
    /// Bytes of the name, with its NUL.
    pub(crate) name_bytes: u32,
    /// Bytes of the description.
    pub(crate) description_bytes: u32,
    /// The note's type; its meaning depends on the name.
    pub(crate) kind: u32,
}

impl NoteHeader {
    /// From the note's start to its description. Name and description are padded to 4 bytes.
    pub(crate) fn description_offset(self) -> u64 {
        NOTE_HEADER_BYTES.saturating_add(u64::from(self.name_bytes).next_multiple_of(4))
    }

    /// From the note's start to the next one's.
    pub(crate) fn total_bytes(self) -> u64 {
        self.description_offset()
            .saturating_add(u64::from(self.description_bytes).next_multiple_of(4))
    }
}

/// Reads a note's header.
pub(crate) fn parse_note_header(abi: Abi, bytes: &[u8]) -> Option<NoteHeader> {
    Some(NoteHeader {
        name_bytes: abi.u32_at(bytes, 0)?,
        description_bytes: abi.u32_at(bytes, 4)?,
        kind: abi.u32_at(bytes, 8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[16] = 4;
        bytes[18] = 62;
        bytes[32] = 192;
        bytes[54] = 56;
        bytes[56] = 3;
        bytes
    }

    #[test]
    fn the_program_headers_need_not_follow_the_file_header() {
        let header = parse_file_header(&sample()).unwrap();
        assert_eq!(header.headers_offset, 192);
        assert_eq!(header.header_count, HeaderCount::Here(3));
        assert_eq!(header.machine, MACHINE_X86_64);
    }

    #[test]
    fn a_count_that_does_not_fit_is_in_the_first_section_header() {
        let mut bytes = sample();
        bytes[56..58].copy_from_slice(&[0xff, 0xff]);
        bytes[40..48].copy_from_slice(&0x1000_u64.to_le_bytes());
        let header = parse_file_header(&bytes).unwrap();
        assert_eq!(header.header_count, HeaderCount::At(0x102c));
    }

    #[test]
    fn headers_of_32_bits_and_big_endian_ones_are_read() {
        let mut bytes = [0; FILE_HEADER_BYTES];
        bytes[..7].copy_from_slice(b"\x7fELF\x01\x02\x01");
        bytes[17] = 4;
        bytes[19] = 3;
        bytes[31] = 0x34;
        bytes[35] = 0x80;
        bytes[43] = 32;
        bytes[44..46].fill(0xff);
        let header = parse_file_header(&bytes).unwrap();
        let abi = Abi {
            order: ByteOrder::Big,
            word: Word::Bits32,
        };
        assert_eq!((header.abi, header.machine), (abi, 3));
        assert_eq!(header.headers_offset, 0x34);
        assert_eq!(header.header_count, HeaderCount::At(0x80 + 28));
        bytes[43] = 31;
        assert_eq!(parse_file_header(&bytes), Err(ElfError::EntrySize(31)));

        let fields: Vec<u8> = (1..=8_u32).flat_map(u32::to_be_bytes).collect();
        let segment = parse_program_header(abi, &fields).unwrap();
        assert_eq!((segment.kind, segment.offset), (1, 2));
        assert_eq!((segment.virtual_address, segment.physical_address), (3, 4));
        assert_eq!((segment.file_bytes, segment.memory_bytes), (5, 6));
        assert_eq!(parse_program_header(abi, &fields[..20]), None);
    }

    #[test]
    fn other_files_are_told_apart() {
        let with = |position: usize, value: u8| {
            let mut bytes = sample();
            bytes[position] = value;
            parse_file_header(&bytes)
        };
        assert_eq!(with(0, b'K'), Err(ElfError::NotElf));
        let mut dumpfile = sample();
        dumpfile[..8].copy_from_slice(b"KDUMP   ");
        assert_eq!(parse_file_header(&dumpfile), Err(ElfError::Dumpfile));
        assert_eq!(with(4, 3), Err(ElfError::NotElf));
        assert_eq!(with(5, 0), Err(ElfError::NotElf));
        assert_eq!(with(16, 2), Err(ElfError::NotACore(2)));
        assert_eq!(with(54, 55), Err(ElfError::EntrySize(55)));
    }

    #[test]
    fn note_sizes_are_padded_and_cannot_overflow() {
        let note = NoteHeader {
            name_bytes: 5,
            description_bytes: 0x150,
            kind: PRSTATUS,
        };
        assert_eq!(note.description_offset(), 20);
        assert_eq!(note.total_bytes(), 20 + 0x150);
        let note = NoteHeader {
            name_bytes: u32::MAX,
            description_bytes: u32::MAX,
            kind: 0,
        };
        assert_eq!(note.total_bytes(), 12 + (2 << 32));
    }
}
