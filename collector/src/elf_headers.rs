// SPDX-License-Identifier: MIT OR Apache-2.0
//! ELF64 core headers: values to bytes.
//!
//! Source: `elf(5)`; the gABI chapters "ELF Header" and "Program Header".
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use crate::bytes::ByteOrder;

/// Bytes of the file header.
pub(crate) const FILE_HEADER_BYTES: u64 = 64;
/// Bytes of a program header.
pub(crate) const PROGRAM_HEADER_BYTES: u64 = 56;
/// Bytes of a section header.
pub(crate) const SECTION_HEADER_BYTES: u64 = 64;
/// `e_phnum` when the number of program headers stands in the first section header.
pub(crate) const PN_XNUM: u64 = 0xffff;

/// What varies in the file header. The program headers follow it at once.
pub(crate) struct FileHeader {
    pub(crate) order: ByteOrder,
    /// `e_machine`.
    pub(crate) machine: u16,
    /// `e_flags`.
    pub(crate) flags: u32,
    /// How many program headers there are.
    pub(crate) header_count: u64,
    /// Where the first section header is, when there are [`PN_XNUM`] program headers or more.
    pub(crate) section_at: u64,
}

/// The file header's bytes.
pub(crate) fn file_header(header: &FileHeader) -> [u8; 64] {
    let mut bytes = [0; 64];
    let mut out = Fields {
        bytes: &mut bytes,
        at: 0,
        order: header.order,
    };
    out.put(b"\x7fELF\x02");
    out.put(&[match header.order {
        ByteOrder::Little => 1,
        ByteOrder::Big => 2,
    }]);
    out.put(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.u16(4); // e_type: a core
    out.u16(header.machine);
    out.u32(1); // e_version
    out.u64(0); // e_entry
    out.u64(FILE_HEADER_BYTES); // e_phoff
    let many = header.header_count >= PN_XNUM;
    out.u64(if many { header.section_at } else { 0 }); // e_shoff
    out.u32(header.flags);
    out.u16(64); // e_ehsize
    out.u16(56); // e_phentsize
    let count = header.header_count.min(PN_XNUM);
    out.u16(u16::try_from(count).unwrap_or(u16::MAX)); // e_phnum
    out.u16(if many { 64 } else { 0 }); // e_shentsize
    out.u16(many.into()); // e_shnum
    out.u16(0); // e_shstrndx
    bytes
}

/// A program header's bytes. `fields` are `p_offset`, `p_vaddr`, `p_paddr`, `p_filesz`, `p_memsz` and `p_align`.
pub(crate) fn program_header(
    order: ByteOrder,
    kind: u32,
    flags: u32,
    fields: [u64; 6],
) -> [u8; 56] {
    let mut bytes = [0; 56];
    let mut out = Fields {
        bytes: &mut bytes,
        at: 0,
        order,
    };
    out.u32(kind);
    out.u32(flags);
    for field in fields {
        out.u64(field);
    }
    bytes
}

/// The first section header, whose `sh_info` has the number of program headers.
pub(crate) fn section_header(order: ByteOrder, header_count: u64) -> [u8; 64] {
    let mut bytes = [0; 64];
    let mut out = Fields {
        bytes: &mut bytes,
        at: 32,
        order,
    };
    out.u64(0); // sh_size
    out.u32(0); // sh_link
    out.u32(u32::try_from(header_count).unwrap_or(u32::MAX));
    bytes
}

/// The header and the name of a VMCOREINFO note whose description has so many bytes.
pub(crate) fn note_head(order: ByteOrder, description_bytes: u32) -> [u8; 24] {
    let mut bytes = [0; 24];
    let mut out = Fields {
        bytes: &mut bytes,
        at: 0,
        order,
    };
    out.u32(11);
    out.u32(description_bytes);
    out.u32(0);
    out.put(b"VMCOREINFO\0");
    bytes
}

/// Numbers in the crashed machine's byte order, one behind the other.
struct Fields<'a> {
    bytes: &'a mut [u8],
    at: usize,
    order: ByteOrder,
}

impl Fields<'_> {
    fn put(&mut self, bytes: &[u8]) {
        for (place, byte) in self.bytes.iter_mut().skip(self.at).zip(bytes) {
            *place = *byte;
        }
        self.at = self.at.saturating_add(bytes.len());
    }

    fn u16(&mut self, number: u16) {
        self.put(&match self.order {
            ByteOrder::Little => number.to_le_bytes(),
            ByteOrder::Big => number.to_be_bytes(),
        });
    }

    fn u32(&mut self, number: u32) {
        self.put(&match self.order {
            ByteOrder::Little => number.to_le_bytes(),
            ByteOrder::Big => number.to_be_bytes(),
        });
    }

    fn u64(&mut self, number: u64) {
        self.put(&match self.order {
            ByteOrder::Little => number.to_le_bytes(),
            ByteOrder::Big => number.to_be_bytes(),
        });
    }
}
