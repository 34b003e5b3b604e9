// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine as a vmcore: ELF headers, notes, memory.

use std::cell::Cell;

use collector::{IoError, Source};

use super::{Machine, Target};

impl Target {
    fn note(self, name: &[u8], kind: u32, description: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for number in [name.len() as u64, description.len() as u64, kind.into()] {
            note.extend(self.number(number, 4));
        }
        for part in [name, description] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    /// A program header: type, then offset, addresses, lengths.
    fn program_header(self, kind: u64, offset: u64, addresses: [u64; 2], bytes: u64) -> Vec<u8> {
        let [virtual_address, address] = addresses;
        let is_elf64 = self.is_elf64();
        let word = if is_elf64 { 8 } else { 4 };
        let mut header = self.number(kind, 4);
        if is_elf64 {
            header.extend(self.number(7, 4));
        }
        for field in [offset, virtual_address, address, bytes, bytes] {
            header.extend(self.number(field, word));
        }
        if !is_elf64 {
            header.extend(self.number(7, 4));
        }
        header.extend(self.number(0, word));
        header
    }
}

impl Machine {
    /// The vmcore's bytes, with the program headers at their usual place.
    pub(crate) fn vmcore(&self) -> File {
        self.vmcore_with(&Shape::default())
    }

    fn notes(&self) -> Vec<u8> {
        let target = self.target;
        let mut notes = Vec::new();
        for cpu in 0..2_u8 {
            notes.extend(target.note(b"CORE\0", 1, &[cpu; 0x150]));
        }
        let info: String = self
            .info
            .iter()
            .map(|(key, value)| format!("{key}={value}\n"))
            .collect();
        for (name, kind, description) in &self.extra_notes {
            notes.extend(target.note(name, *kind, description));
        }
        notes.extend(target.note(b"VMCOREINFO\0", 0, info.as_bytes()));
        notes
    }

    /// The vmcore's bytes.
    pub(crate) fn vmcore_with(&self, shape: &Shape) -> File {
        let target = self.target;
        let size = self.page_bytes();
        let notes = self.notes();
        // The image's segment overlaps the memory that it lies in, and comes first.
        let mut segments = vec![(self.root, self.root + 2 * size, self.image)];
        segments.extend(
            self.ram
                .iter()
                .map(|&(start, end)| (start, end, self.direct(start))),
        );
        if shape.reversed {
            segments.reverse();
        }
        if shape.without_virtual_addresses {
            for (_, _, virtual_address) in &mut segments {
                *virtual_address = 0;
            }
        }
        // Sizes of the file header, a program header, a section header; offsets of the fields that have words.
        let (file_header, program_header, section_header, word) = match target.is_elf64() {
            true => (64, 56, 64, 8),
            false => (52, 32, 40, 4),
        };
        let headers = shape.headers_offset.unwrap_or(file_header);
        let count = segments.len() as u64 + 1 + shape.padding_headers;
        let notes_offset =
            (headers + count * program_header + section_header).next_multiple_of(size);
        let whole = (notes_offset + notes.len() as u64).next_multiple_of(size);
        let mut bytes = vec![0; whole as usize];
        let mut put = |offset: u64, data: &[u8]| {
            bytes[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        };
        let class = if target.is_elf64() { 2 } else { 1 };
        let order = if target.is_big_endian() { 2 } else { 1 };
        put(0, b"\x7fELF");
        put(4, &[class, order, 1]);
        put(16, &target.number(4, 2));
        put(18, &target.number(target.e_machine().into(), 2));
        put(20, &target.number(1, 4));
        put(24 + word, &target.number(headers, word));
        // e_ehsize and what follows it, behind e_shoff and e_flags.
        let sizes = 24 + 3 * word + 4;
        put(sizes, &target.number(file_header, 2));
        put(sizes + 2, &target.number(program_header, 2));
        if count >= 0xffff || shape.extended_count {
            let place = notes_offset - section_header;
            let info = if target.is_elf64() { 44 } else { 28 };
            put(24 + 2 * word, &target.number(place, word));
            put(sizes + 4, &target.number(0xffff, 2));
            put(place + info, &target.number(count, 4));
        } else {
            put(sizes + 4, &target.number(count, 2));
        }
        let notes_bytes = notes.len() as u64;
        let mut entries = vec![target.program_header(4, notes_offset, [0, 0], notes_bytes)];
        // Segments without a byte.
        for _ in 0..shape.padding_headers {
            entries.push(target.program_header(1, 0, [0, 0], 0));
        }
        let mut offset = whole;
        let mut data = Vec::new();
        for &(start, end, virtual_address) in &segments {
            let place = offset + start % size;
            entries.push(target.program_header(1, place, [virtual_address, start], end - start));
            let pages = start / size..end.div_ceil(size);
            offset += (pages.end - pages.start) * size;
            data.extend(pages);
        }
        for (index, entry) in entries.iter().enumerate() {
            put(headers + index as u64 * program_header, entry);
        }
        put(notes_offset, &notes);
        let headers_bytes = bytes.len() as u64;
        for &pfn in &data {
            bytes.extend(self.whole_page(pfn));
        }
        File {
            bytes,
            headers_bytes,
            page_bytes: size,
            pages: data,
            unreadable: Vec::new(),
            reads: Cell::new(0),
        }
    }
}

/// How a vmcore's headers are arranged.
#[derive(Default)]
pub(crate) struct Shape {
    /// Where the program headers are, if not behind the file header.
    pub(crate) headers_offset: Option<u64>,
    pub(crate) reversed: bool,
    /// The count is in the first section header.
    pub(crate) extended_count: bool,
    /// Segments without memory before the others.
    pub(crate) padding_headers: u64,
    /// As QEMU writes them: all 0.
    pub(crate) without_virtual_addresses: bool,
}

/// A vmcore in memory.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    /// Where the headers and notes end.
    pub(crate) headers_bytes: u64,
    pub(crate) page_bytes: u64,
    /// The pfns of the pages behind, in their order.
    pub(crate) pages: Vec<u64>,
    /// Ranges of the file that cannot be read.
    pub(crate) unreadable: Vec<(u64, u64)>,
    pub(crate) reads: Cell<u64>,
}

impl File {
    /// Where in the file a physical address is.
    pub(crate) fn offset_of(&self, address: u64) -> u64 {
        // The last one: the image's segment repeats some pages before all others.
        let index = self
            .pages
            .iter()
            .rposition(|&pfn| pfn == address / self.page_bytes)
            .unwrap();
        self.headers_bytes + index as u64 * self.page_bytes + address % self.page_bytes
    }
}

impl Source for File {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        self.reads.set(self.reads.get() + 1);
        let end = offset.checked_add(buf.len() as u64).ok_or(IoError::END)?;
        if self
            .unreadable
            .iter()
            .any(|&(from, to)| offset < to && from < end)
        {
            return Err(IoError::IO);
        }
        let range = offset as usize..end as usize;
        buf.copy_from_slice(self.bytes.get(range).ok_or(IoError::END)?);
        Ok(())
    }
}
