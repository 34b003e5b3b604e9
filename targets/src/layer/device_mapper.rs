// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device mapper's calls: a mapping is made, given its table, and switched on; the table of one that is there.
//!
//! Source: Linux 6.12 `include/uapi/linux/dm-ioctl.h`, `drivers/md/dm-ioctl.c`.

use crate::bytes::Fields;
use crate::io::io;
use crate::sys::{DmCall, dm_call};
use collector::IoError;
use core::fmt::{self, Write as _};
use core::hint::black_box;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, openat};

/// `struct dm_ioctl`, and the table behind it.
const BUFFER_BYTES: usize = 16 << 10;
const HEADER_BYTES: usize = 312;
const TARGET_BYTES: usize = 40;
const NAME_AT: usize = 48;
const NAME_BYTES: usize = 128;
const UUID_AT: usize = 176;
const UUID_BYTES: usize = 129;
/// What is asked for is the table, and not how its targets are.
const STATUS_TABLE: u32 = 1 << 4;
/// There was more than the buffer has room for.
const BUFFER_FULL: u32 = 1 << 8;
/// The kernel wipes its own copy of the call.
const SECURE_DATA: u32 = 1 << 15;

/// The device mapper, opened.
pub(super) struct DeviceMapper(OwnedFd);

/// The lines of a mapping's table.
pub(super) struct Table {
    buffer: Buffer,
    used: usize,
    lines: u32,
    /// It has a key in it.
    is_secret: bool,
}

/// What the kernel reads and writes.
#[repr(C, align(8))]
pub(crate) struct Buffer(pub(crate) [u8; BUFFER_BYTES]);

impl Buffer {
    const fn new() -> Self {
        Self([0; BUFFER_BYTES])
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        let end = at.saturating_add(value.len());
        if let Some(place) = self.0.get_mut(at..end) {
            place.copy_from_slice(value);
        }
    }

    /// The header of a call about the mapping of this name.
    fn address(&mut self, name: &str, uuid: &str, data_bytes: usize, lines: u32, flags: u32) {
        for (at, number) in [
            (0, 4),
            (4, 0),
            (8, 0),
            (12, u32::try_from(data_bytes).unwrap_or(0)),
            (16, u32::try_from(HEADER_BYTES).unwrap_or(0)),
            (20, lines),
            (24, 0),
            (28, flags),
        ] {
            self.put(at, &u32::to_ne_bytes(number));
        }
        self.put(40, &[0; 8]);
        // Zeros behind the text end it.
        self.put(NAME_AT, &[0; NAME_BYTES + UUID_BYTES]);
        self.put(
            NAME_AT,
            name.as_bytes()
                .get(..NAME_BYTES - 1)
                .unwrap_or(name.as_bytes()),
        );
        self.put(
            UUID_AT,
            uuid.as_bytes()
                .get(..UUID_BYTES - 1)
                .unwrap_or(uuid.as_bytes()),
        );
    }
}

impl Table {
    pub(super) const fn new() -> Self {
        Self {
            buffer: Buffer::new(),
            used: HEADER_BYTES,
            lines: 0,
            is_secret: false,
        }
    }

    /// One that is to have a key in it: it is wiped in the end, here and in the kernel.
    pub(super) const fn secret() -> Self {
        let mut table = Self::new();
        table.is_secret = true;
        table
    }

    /// The arguments of the table's line, when there is just one and it is `target`'s.
    pub(super) fn only_line(&self, target: &str) -> Option<&str> {
        let fields = Fields(&self.buffer.0);
        let name = fields.text::<16>(HEADER_BYTES + 24, 16);
        let text = self.buffer.0.get(HEADER_BYTES + TARGET_BYTES..self.used)?;
        let text = text.split(|&byte| byte == 0).next()?;
        (self.lines == 1 && name == *target)
            .then_some(text)
            .and_then(|text| core::str::from_utf8(text).ok())
    }

    /// Reads what the kernel wrote.
    fn take_answer(&mut self) -> Result<(), IoError> {
        let fields = Fields(&self.buffer.0);
        let data_bytes = usize::try_from(fields.le32(12)).unwrap_or(usize::MAX);
        let is_whole = fields.le32(28) & BUFFER_FULL == 0 && data_bytes <= BUFFER_BYTES;
        if !is_whole || usize::try_from(fields.le32(16)) != Ok(HEADER_BYTES) {
            return Err(IoError::END);
        }
        self.used = data_bytes;
        self.lines = fields.le32(20);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn length(&self) -> u64 {
        Fields(&self.buffer.0).le64(HEADER_BYTES + 8)
    }

    /// Adds a line: so many units of 512 bytes from `start` on are `target` with `arguments`. False when there is no more
    /// room.
    pub(super) fn push(
        &mut self,
        start: u64,
        length: u64,
        target: &str,
        arguments: fmt::Arguments<'_>,
    ) -> bool {
        let at = self.used;
        let mut text = Tail {
            buffer: &mut self.buffer.0,
            at: at.saturating_add(TARGET_BYTES),
        };
        // A NUL ends the arguments; the next line begins on a border of 8.
        if text
            .write_fmt(arguments)
            .and_then(|()| text.write_char('\0'))
            .is_err()
        {
            return false;
        }
        let end = text.at.next_multiple_of(8);
        if end > BUFFER_BYTES {
            return false;
        }
        let next = u32::try_from(end.saturating_sub(at)).unwrap_or(0);
        self.buffer.put(at, &start.to_ne_bytes());
        self.buffer.put(at.saturating_add(8), &length.to_ne_bytes());
        self.buffer.put(at.saturating_add(16), &[0; 4]);
        self.buffer.put(at.saturating_add(20), &next.to_ne_bytes());
        self.buffer.put(at.saturating_add(24), &[0; 16]);
        self.buffer.put(at.saturating_add(24), target.as_bytes());
        self.used = end;
        self.lines = self.lines.saturating_add(1);
        true
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if self.is_secret {
            self.buffer.0.fill(0);
            // The zeros count, although nobody reads them.
            black_box(&self.buffer.0);
        }
    }
}

struct Tail<'b> {
    buffer: &'b mut [u8],
    at: usize,
}

impl fmt::Write for Tail<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.at.checked_add(text.len()).ok_or(fmt::Error)?;
        self.buffer
            .get_mut(self.at..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.at = end;
        Ok(())
    }
}

impl DeviceMapper {
    pub(super) fn open(dev: &str) -> Result<Self, IoError> {
        let path = crate::io::path::<64>(format_args!("{dev}/mapper/control"))?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let path = path.as_str().unwrap_or_default();
        Ok(Self(openat(CWD, path, flags, Mode::empty()).map_err(io)?))
    }

    /// Makes a mapping and switches it on. What is half made is taken away again.
    pub(super) fn make(&self, name: &str, uuid: &str, table: &mut Table) -> Result<(), IoError> {
        self.simple(DmCall::Create, name, uuid)?;
        let flags = if table.is_secret { SECURE_DATA } else { 0 };
        // The name alone says which one it is.
        table
            .buffer
            .address(name, "", table.used, table.lines, flags);
        let made = dm_call(&self.0, DmCall::LoadTable, &mut table.buffer)
            .map_err(io)
            // Without a flag that says otherwise this ends a suspension, and puts the table in force.
            .and_then(|()| self.simple(DmCall::Suspend, name, ""));
        if made.is_err() {
            let _ = self.simple(DmCall::Remove, name, "");
        }
        made
    }

    /// The table of a mapping that is there, with its keys.
    pub(super) fn table(&self, name: &str) -> Result<Table, IoError> {
        let mut table = Table::secret();
        let flags = STATUS_TABLE | SECURE_DATA;
        table.buffer.address(name, "", BUFFER_BYTES, 0, flags);
        dm_call(&self.0, DmCall::TableStatus, &mut table.buffer).map_err(io)?;
        table.take_answer()?;
        Ok(table)
    }

    fn simple(&self, call: DmCall, name: &str, uuid: &str) -> Result<(), IoError> {
        let mut buffer = Buffer::new();
        buffer.address(name, uuid, HEADER_BYTES, 0, 0);
        dm_call(&self.0, call, &mut buffer).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lies_as_the_kernel_reads_it() {
        let mut table = Table::new();
        assert!(table.push(0, 100, "linear", format_args!("8:1 2048")));
        assert!(table.push(100, 7, "striped", format_args!("2 128 8:1 0 8:2 0")));
        table
            .buffer
            .address("vg0-root", "", table.used, table.lines, 0);
        let bytes = &table.buffer.0;
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(16), word(20)), (4, 312, 2));
        assert_eq!(word(12) as usize, table.used);
        assert!(bytes[48..].starts_with(b"vg0-root\0"));
        assert_eq!(bytes[312 + 8], 100);
        assert!(bytes[312 + 24..].starts_with(b"linear\0"));
        assert!(bytes[312 + 40..].starts_with(b"8:1 2048\0"));
        let next = word(312 + 20) as usize;
        assert_eq!(next, 56);
        assert_eq!(bytes[312 + next], 100);
        assert!(bytes[312 + next + 40..].starts_with(b"2 128 8:1 0 8:2 0\0"));
    }

    #[test]
    fn a_table_is_read_as_the_kernel_wrote_it() {
        let mut answer = Table::secret();
        assert!(answer.push(
            0,
            100,
            "crypt",
            format_args!("aes-xts-plain64 00ff 0 8:1 2048")
        ));
        let (used, lines) = (answer.used, answer.lines);
        answer.buffer.address("c", "", used, lines, STATUS_TABLE);
        (answer.used, answer.lines) = (0, 0);
        assert_eq!(answer.only_line("crypt"), None);
        answer.take_answer().unwrap();
        assert_eq!(
            answer.only_line("crypt"),
            Some("aes-xts-plain64 00ff 0 8:1 2048")
        );
        assert_eq!(answer.only_line("linear"), None);
        assert!(answer.push(100, 1, "crypt", format_args!("")));
        assert_eq!(answer.only_line("crypt"), None);
        for (at, value) in [(12, 16385), (16, 8), (28, BUFFER_FULL)] {
            answer.buffer.address("c", "", used, lines, 0);
            answer.buffer.put(at, &u32::to_ne_bytes(value));
            assert_eq!(answer.take_answer(), Err(IoError::END));
        }
    }

    #[test]
    fn a_table_that_is_too_long_is_refused() {
        let mut table = Table::new();
        let lines = (0..10_000)
            .take_while(|&start| table.push(start, 1, "linear", format_args!("8:1 {start}")))
            .count();
        assert!(lines > 200 && lines < 1000, "{lines}");
        assert!(table.used <= BUFFER_BYTES);
    }
}
