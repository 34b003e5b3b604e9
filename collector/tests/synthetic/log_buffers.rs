// SPDX-License-Identifier: MIT OR Apache-2.0
//! The log buffers of kernels before 5.10, written byte by byte: text in a ring, and records in a buffer that is used in
//! turns.

use crate::machine::Machine;

/// Puts a variable into memory and its symbol into VMCOREINFO.
pub(crate) fn variable(machine: &mut Machine, name: &str, bytes: &[u8]) {
    let place = machine.take(64) + 0x20;
    machine.write(place, bytes);
    machine.add_info(
        &format!("SYMBOL({name})"),
        format!("{:x}", machine.direct(place)),
    );
}

/// The buffer, `log_buf` and `log_buf_len`.
pub(crate) fn buffer(machine: &mut Machine, bytes: &[u8]) -> u64 {
    let place = machine.take(bytes.len() as u64);
    machine.write(place, bytes);
    let address = machine.direct(place);
    variable(machine, "log_buf", &address.to_le_bytes());
    variable(machine, "log_buf_len", &(bytes.len() as u32).to_le_bytes());
    place
}

/// Text that was logged into a ring of 4 KiB, whose `log_end` is of so many bytes. Returns where the ring is.
pub(crate) fn install_text(machine: &mut Machine, text: &str, end_bytes: usize) -> u64 {
    let mut ring = vec![0_u8; 4096];
    for (position, byte) in text.bytes().enumerate() {
        ring[position % 4096] = byte;
    }
    let place = buffer(machine, &ring);
    // Behind a short `log_end` there is something else.
    let mut end = (text.len() as u64).to_le_bytes();
    end[end_bytes..].fill(0x77);
    variable(machine, "log_end", &end);
    place
}

/// A log of records in the making.
pub(crate) struct Records {
    pub(crate) bytes: Vec<u8>,
    header_bytes: usize,
    pub(crate) next: usize,
    /// Where each record is that was put in last, in their order.
    pub(crate) places: Vec<(usize, u64)>,
}

impl Records {
    /// Header: time, length, text length, dictionary length, facility; with the caller's id since 5.1.
    pub(crate) fn new(size: usize, header_bytes: usize) -> Self {
        Self {
            bytes: vec![0; size],
            header_bytes,
            next: 0,
            places: Vec::new(),
        }
    }

    pub(crate) fn put(&mut self, time_ns: u64, text: &str, dictionary: &str) {
        let used = self.header_bytes + text.len() + dictionary.len();
        let length = used.next_multiple_of(4);
        // There is always room for a header that says that the next record is at the beginning.
        if self.next + length + self.header_bytes > self.bytes.len() {
            let mark = self.next..self.next + self.header_bytes;
            self.bytes[mark].fill(0);
            self.places.retain(|&(place, _)| place < self.next);
            self.next = 0;
        }
        let place = self.next;
        self.next += length;
        self.places
            .retain(|&(old, _)| old < place || old >= self.next + self.header_bytes);
        let record = &mut self.bytes[place..self.next];
        record.fill(0x5a);
        record[..8].copy_from_slice(&time_ns.to_le_bytes());
        record[8..10].copy_from_slice(&(length as u16).to_le_bytes());
        record[10..12].copy_from_slice(&(text.len() as u16).to_le_bytes());
        record[12..14].copy_from_slice(&(dictionary.len() as u16).to_le_bytes());
        let at = self.header_bytes;
        record[at..at + text.len()].copy_from_slice(text.as_bytes());
        record[at + text.len()..][..dictionary.len()].copy_from_slice(dictionary.as_bytes());
        self.places.push((place, time_ns));
    }

    pub(crate) fn first(&self) -> usize {
        self.places.first().map_or(self.next, |&(place, _)| place)
    }

    pub(crate) fn install(&self, machine: &mut Machine, name: &str) -> u64 {
        let place = buffer(machine, &self.bytes);
        variable(
            machine,
            "log_first_idx",
            &(self.first() as u32).to_le_bytes(),
        );
        variable(machine, "log_next_idx", &(self.next as u32).to_le_bytes());
        machine.add_info(&format!("SIZE({name})"), self.header_bytes);
        for (field, offset) in [("ts_nsec", 0), ("len", 8), ("text_len", 10)] {
            machine.add_info(&format!("OFFSET({name}.{field})"), offset);
        }
        place
    }
}
