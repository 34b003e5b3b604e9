// SPDX-License-Identifier: MIT OR Apache-2.0
//! The printk ring to `vmcore-dmesg.txt`: the first kernel's own last words.
//!
//! Since 5.10 the log is a ring of descriptors, each with an info struct beside it and text in a second ring. Nothing
//! is locked, so a crash can leave records half written; they are told by their state and left out. Lines are as
//! `makedumpfile --dump-dmesg` 1.7.2 writes them, but for bytes above 0x7f, which it sign-extends: we write `\xe9` where
//! it writes `\xffffffe9`. Since 1.7.5 it also prints which task or CPU wrote a line; the kernel's own console does so
//! only when built with `CONFIG_PRINTK_CALLER`, which a vmcore does not tell, and so we do not.
//!
//! Source: Linux 6.12 `kernel/printk/printk_ringbuffer.c`, comment at its top and `get_data()`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use core::fmt::{self, Write as _};

use heapless::String;

use crate::address::VirtAddr;
use crate::bytes::Abi;
use crate::io::{IoError, Source};
use crate::vmcore::{ReadError, Vmcore};
use crate::vmcoreinfo::Vmcoreinfo;

/// What [`write()`] needs of memory.
pub const DMESG_BYTES: usize = 2 * TABLE_BYTES + TEXT_BYTES + OUT_BYTES;

/// Descriptors, and infos, that are read in one go.
const TABLE_BYTES: usize = 32 << 10;
/// Text that is read in one go; a record's length is 16 bits wide.
const TEXT_BYTES: usize = 64 << 10;
/// Text that is written in one go.
const OUT_BYTES: usize = 32 << 10;
/// The largest struct that can be meant: a descriptor has 24 bytes, an info and the ring's variables 88 each.
const MAX_STRUCT_BYTES: usize = 1024;
/// The most descriptors, and the most bytes of text, as powers of two; the kernel stops at 2 GiB of log.
const MAX_RING_BITS: u32 = 31;

/// A descriptor's state word has its state in the top two bits and its id in those below.
const STATE_BITS: u32 = 2;
/// State of a record that is complete.
const COMMITTED: u64 = 1;
/// State of a record that is complete and will not be added to.
const FINALIZED: u64 = 2;

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of text.
    pub bytes: u64,
    /// Records of the log.
    pub records: u64,
    /// Why the first kernel stopped: its "Kernel panic - not syncing: …", or the line of the bug where the crash came
    /// before that. Without time stamp; empty where the log tells neither.
    pub panic_line: String<200>,
}

/// Writes the first kernel's log to `out`, as text. `memory` has [`DMESG_BYTES`].
///
/// # Errors
/// The log cannot be found or read, or `out` failed. What was written before stays written.
pub fn write<S: Source>(
    vmcore: &mut Vmcore<'_, S>,
    memory: &mut [u8],
    out: &mut dyn FnMut(&[u8]) -> Result<(), IoError>,
) -> Result<Summary, DmesgError> {
    let (descs, rest) = memory
        .split_at_mut_checked(TABLE_BYTES)
        .ok_or(DmesgError::Memory)?;
    let (infos, rest) = rest
        .split_at_mut_checked(TABLE_BYTES)
        .ok_or(DmesgError::Memory)?;
    let (text, rest) = rest
        .split_at_mut_checked(TEXT_BYTES)
        .ok_or(DmesgError::Memory)?;
    let buf = rest.get_mut(..OUT_BYTES).ok_or(DmesgError::Memory)?;

    let layout = RingLayout::resolve(&vmcore.vmcoreinfo(), vmcore.abi())?;
    let ring = Ring::read(vmcore, &layout)?;
    let mut lines = Lines {
        buf,
        used: 0,
        out,
        error: None,
        summary: Summary::default(),
        headline_record: 0,
        panicked: false,
    };
    let mut window = TextWindow {
        bytes: text,
        start: 0,
        used: 0,
    };
    let mut id = ring.tail_id;
    let mut left = ring.record_count;
    while left > 0 {
        let first = id & ring.index_mask;
        let room = TABLE_BYTES
            .checked_div(layout.desc_bytes.max(layout.info_bytes))
            .unwrap_or(1);
        // One chunk lies in one piece: it ends where the arrays end, at the latest.
        let chunk = left
            .min(u64::try_from(room).unwrap_or(1))
            .min(ring.index_mask.saturating_sub(first).saturating_add(1));
        let descs = ring.read_table(vmcore, ring.descs, first, chunk, layout.desc_bytes, descs)?;
        let infos = ring.read_table(vmcore, ring.infos, first, chunk, layout.info_bytes, infos)?;
        let pairs = descs
            .chunks_exact(layout.desc_bytes)
            .zip(infos.chunks_exact(layout.info_bytes));
        for (desc, info) in pairs {
            if let Some(record) = layout.parse(desc, info, id)
                && let Some((start, bytes)) = ring.locate_text(&record)
            {
                let text = window.read(vmcore, &ring, start, bytes)?;
                lines.put_record(record.time_ns, text);
                if let Some(error) = lines.error {
                    return Err(DmesgError::Output(error));
                }
            }
            id = id.wrapping_add(1) & layout.id_mask();
        }
        left = left.saturating_sub(chunk);
    }
    lines.flush();
    match lines.error {
        Some(error) => Err(DmesgError::Output(error)),
        None => Ok(lines.summary),
    }
}

/// Where things are in the ring's structs.
struct RingLayout {
    abi: Abi,
    pointer: VirtAddr,
    /// Bytes of the ring's variables, which follow with their offsets in them.
    ring_bytes: usize,
    count_bits: usize,
    descs: usize,
    infos: usize,
    head_id: usize,
    tail_id: usize,
    size_bits: usize,
    data: usize,
    desc_bytes: usize,
    state: usize,
    begin: usize,
    next: usize,
    info_bytes: usize,
    time: usize,
    text_len: usize,
}

/// A record that is complete.
struct Record {
    time_ns: u64,
    text_bytes: u16,
    /// Where its block of text begins and ends, counted from the ring's first use.
    begin: u64,
    next: u64,
}

impl RingLayout {
    fn resolve(info: &Vmcoreinfo<'_>, abi: Abi) -> Result<Self, DmesgError> {
        let offset = |name| info.offset(name).ok_or(DmesgError::MissingKey(name));
        let sum = |a: usize, b: usize| a.checked_add(b).ok_or(DmesgError::Damaged);
        let size = |name| {
            info.size(name)
                .filter(|size| (8..=MAX_STRUCT_BYTES).contains(size))
                .ok_or(DmesgError::MissingKey(name))
        };
        let pointer = info.symbol("prb").ok_or(DmesgError::MissingKey("prb"))?;
        let counter = offset("atomic_long_t.counter")?;
        let position = offset("prb_desc.text_blk_lpos")?;
        let desc_ring = offset("printk_ringbuffer.desc_ring")?;
        let text_ring = offset("printk_ringbuffer.text_data_ring")?;
        let in_descs = |name| sum(desc_ring, offset(name)?);
        let in_text = |name| sum(text_ring, offset(name)?);
        Ok(Self {
            abi,
            pointer,
            ring_bytes: size("printk_ringbuffer")?,
            count_bits: in_descs("prb_desc_ring.count_bits")?,
            descs: in_descs("prb_desc_ring.descs")?,
            infos: in_descs("prb_desc_ring.infos")?,
            head_id: sum(in_descs("prb_desc_ring.head_id")?, counter)?,
            tail_id: sum(in_descs("prb_desc_ring.tail_id")?, counter)?,
            size_bits: in_text("prb_data_ring.size_bits")?,
            data: in_text("prb_data_ring.data")?,
            desc_bytes: size("prb_desc")?,
            state: sum(offset("prb_desc.state_var")?, counter)?,
            begin: sum(position, offset("prb_data_blk_lpos.begin")?)?,
            next: sum(position, offset("prb_data_blk_lpos.next")?)?,
            info_bytes: size("printk_info")?,
            time: offset("printk_info.ts_nsec")?,
            text_len: offset("printk_info.text_len")?,
        })
    }

    /// The bits of a state word that are the id.
    const fn id_mask(&self) -> u64 {
        self.abi.truncate(u64::MAX) >> STATE_BITS
    }

    /// The record of this id; `None` while it was being written or is gone.
    fn parse(&self, desc: &[u8], info: &[u8], id: u64) -> Option<Record> {
        let word = self.abi.word_at(desc, self.state)?;
        let state = word.wrapping_shr(self.id_mask().trailing_ones());
        if word & self.id_mask() != id || !matches!(state, COMMITTED | FINALIZED) {
            return None;
        }
        Some(Record {
            time_ns: self.abi.u64_at(info, self.time)?,
            text_bytes: self.abi.u16_at(info, self.text_len)?,
            begin: self.abi.word_at(desc, self.begin)?,
            next: self.abi.word_at(desc, self.next)?,
        })
    }
}

/// The ring's variables.
struct Ring {
    abi: Abi,
    descs: VirtAddr,
    infos: VirtAddr,
    index_mask: u64,
    tail_id: u64,
    record_count: u64,
    text: VirtAddr,
    size_bits: u32,
}

impl Ring {
    fn read<S: Source>(
        vmcore: &mut Vmcore<'_, S>,
        layout: &RingLayout,
    ) -> Result<Self, DmesgError> {
        let ring = VirtAddr(vmcore.read_word(layout.pointer)?);
        let mut bytes = [0; MAX_STRUCT_BYTES];
        let bytes = bytes
            .get_mut(..layout.ring_bytes)
            .ok_or(DmesgError::Damaged)?;
        vmcore.read_virtual(ring, bytes)?;
        let abi = layout.abi;
        let long = |offset| abi.word_at(bytes, offset).ok_or(DmesgError::Damaged);
        let bits = |offset| {
            abi.u32_at(bytes, offset)
                .filter(|&bits| bits <= MAX_RING_BITS)
                .ok_or(DmesgError::Damaged)
        };
        let count = 1_u64.wrapping_shl(bits(layout.count_bits)?);
        let id_mask = layout.id_mask();
        let head_id = long(layout.head_id)? & id_mask;
        let tail_id = long(layout.tail_id)? & id_mask;
        // Both ends belong to the log. More than the ring holds cannot be: then the newest ones are taken.
        let claimed = (head_id.wrapping_sub(tail_id) & id_mask).saturating_add(1);
        let record_count = claimed.min(count);
        Ok(Self {
            abi,
            descs: VirtAddr(long(layout.descs)?),
            infos: VirtAddr(long(layout.infos)?),
            index_mask: count.wrapping_sub(1),
            tail_id: head_id.wrapping_sub(record_count.wrapping_sub(1)) & id_mask,
            record_count,
            text: VirtAddr(long(layout.data)?),
            size_bits: bits(layout.size_bits)?,
        })
    }

    /// Reads `count` elements from the `first` on.
    fn read_table<'b, S: Source>(
        &self,
        vmcore: &mut Vmcore<'_, S>,
        table: VirtAddr,
        first: u64,
        count: u64,
        element_bytes: usize,
        buf: &'b mut [u8],
    ) -> Result<&'b [u8], DmesgError> {
        let element = u64::try_from(element_bytes).unwrap_or(u64::MAX);
        let start = first
            .checked_mul(element)
            .and_then(|offset| table.checked_add(offset))
            .ok_or(DmesgError::Damaged)?;
        let bytes = usize::try_from(count.saturating_mul(element)).unwrap_or(usize::MAX);
        let buf = buf.get_mut(..bytes).ok_or(DmesgError::Damaged)?;
        vmcore.read_virtual(start, buf)?;
        Ok(buf)
    }

    /// Where a record's text is in the ring, and its length; `None` where it has none.
    fn locate_text(&self, record: &Record) -> Option<(u64, usize)> {
        // Records without text have the same mark in both: 1 when there was no room, 3 for an empty line.
        if record.begin == record.next {
            return None;
        }
        let mask = 1_u64.wrapping_shl(self.size_bits).wrapping_sub(1);
        // Positions wrap as a long does.
        let turn = |position: u64| self.abi.truncate(position).wrapping_shr(self.size_bits);
        let last = record.next.wrapping_sub(1);
        let following = record.begin.wrapping_add(mask).wrapping_add(1);
        // A block may end exactly where the ring ends, so its last byte decides whether it wrapped. One that would
        // reach over the end lies at the ring's start, whole.
        let (start, end) = if turn(record.begin) == turn(last) {
            (record.begin & mask, (last & mask).saturating_add(1))
        } else if turn(following) == turn(last) {
            (0, (last & mask).saturating_add(1))
        } else {
            return None;
        };
        // Each block of text begins with the id of its descriptor.
        let id_bytes = u64::try_from(self.abi.word_bytes()).ok()?;
        let room = end.checked_sub(start)?.checked_sub(id_bytes)?;
        let bytes = usize::from(record.text_bytes).min(usize::try_from(room).ok()?);
        Some((start.saturating_add(id_bytes), bytes))
    }
}

/// A part of the text ring. Records that follow each other have their text one behind the other, so one read serves
/// many.
struct TextWindow<'a> {
    bytes: &'a mut [u8],
    start: u64,
    used: usize,
}

impl TextWindow<'_> {
    fn read<S: Source>(
        &mut self,
        vmcore: &mut Vmcore<'_, S>,
        ring: &Ring,
        start: u64,
        bytes: usize,
    ) -> Result<&[u8], DmesgError> {
        let inside = |window: &Self| {
            let from = usize::try_from(start.checked_sub(window.start)?).ok()?;
            let to = from.checked_add(bytes).filter(|&to| to <= window.used)?;
            Some(from..to)
        };
        let range = match inside(self) {
            Some(range) => range,
            None => {
                let size = 1_u64.wrapping_shl(ring.size_bits);
                let to_end = usize::try_from(size.saturating_sub(start)).unwrap_or(usize::MAX);
                self.used = 0;
                let fill = self.bytes.len().min(to_end);
                let place = ring.text.checked_add(start).ok_or(DmesgError::Damaged)?;
                let buf = self.bytes.get_mut(..fill).ok_or(DmesgError::Damaged)?;
                vmcore.read_virtual(place, buf)?;
                self.start = start;
                self.used = fill;
                0..bytes
            }
        };
        self.bytes.get(range).ok_or(DmesgError::Damaged)
    }
}

/// Lines on their way to the file.
struct Lines<'a> {
    buf: &'a mut [u8],
    used: usize,
    out: &'a mut dyn FnMut(&[u8]) -> Result<(), IoError>,
    /// Set once, and then nothing more is written.
    error: Option<IoError>,
    summary: Summary,
    headline_record: u64,
    panicked: bool,
}

impl Lines<'_> {
    /// One record: `[    1.234567] text`, further lines of it indented to the text.
    fn put_record(&mut self, time_ns: u64, text: &[u8]) {
        self.summary.records = self.summary.records.saturating_add(1);
        self.note_headline(text);
        let seconds = time_ns / 1_000_000_000;
        let micros = time_ns % 1_000_000_000 / 1_000;
        let mut prefix = String::<40>::new();
        // 20 digits and 6 more fit.
        let _ = write!(prefix, "[{seconds:5}.{micros:06}] ");
        self.put(prefix.as_bytes());
        for &byte in text {
            match byte {
                b'\n' => {
                    self.put(b"\n");
                    for _ in 0..prefix.len() {
                        self.put(b" ");
                    }
                }
                b' '..=b'~' | b'\t' | 0x0b | 0x0c | b'\r' => self.put(&[byte]),
                _ => {
                    let mut escaped = String::<4>::new();
                    let _ = write!(escaped, "\\x{byte:02x}");
                    self.put(escaped.as_bytes());
                }
            }
        }
        self.put(b"\n");
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.buf.len().saturating_sub(self.used) < bytes.len() {
            self.flush();
        }
        let end = self.used.saturating_add(bytes.len());
        if let Some(place) = self.buf.get_mut(self.used..end) {
            place.copy_from_slice(bytes);
            self.used = end;
        }
    }

    fn flush(&mut self) {
        let waiting = self.buf.get(..self.used).unwrap_or_default();
        if self.error.is_none() && !waiting.is_empty() {
            match (self.out)(waiting) {
                Ok(()) => {
                    let bytes = u64::try_from(waiting.len()).unwrap_or(0);
                    self.summary.bytes = self.summary.bytes.saturating_add(bytes);
                }
                Err(error) => self.error = Some(error),
            }
        }
        self.used = 0;
    }

    /// Keeps the line that says why the kernel stopped. The first panic is the cause, later ones its consequences.
    /// Where there is none, the last bug counts: an earlier one was survived. "Oops:" follows the line that has the
    /// reason, and is taken only where it stands alone.
    fn note_headline(&mut self, text: &[u8]) {
        let record = self.summary.records;
        if self.panicked {
            return;
        }
        let is_panic = text.starts_with(b"Kernel panic - not syncing");
        let is_bug = BUG_LINES.iter().any(|start| text.starts_with(start));
        let is_lone_oops = text.starts_with(b"Oops:")
            && (self.summary.panic_line.is_empty()
                || record.saturating_sub(self.headline_record) > SAME_BUG_RECORDS);
        if !is_panic && !is_bug && !is_lone_oops {
            return;
        }
        self.panicked = is_panic;
        self.headline_record = record;
        self.summary.panic_line.clear();
        for &byte in text.iter().take_while(|&&byte| byte != b'\n') {
            let shown = match byte {
                b' '..=b'~' => char::from(byte),
                _ => '?',
            };
            if self.summary.panic_line.push(shown).is_err() {
                break;
            }
        }
    }
}

/// How the lines begin that name a bug.
const BUG_LINES: [&[u8]; 8] = [
    b"BUG:",
    b"kernel BUG at",
    b"general protection fault",
    b"sysrq: Trigger a crash",
    b"watchdog: BUG:",
    b"traps: PANIC:",
    b"Unable to handle kernel",
    b"Internal error:",
];

/// Within so many records a bug's "Oops:" line follows.
const SAME_BUG_RECORDS: u64 = 16;

/// Why the log could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmesgError {
    /// VMCOREINFO lacks this name, without which the log cannot be found: a kernel before 5.10, or none at all.
    MissingKey(&'static str),
    /// The ring's variables contradict each other.
    Damaged,
    /// The vmcore could not be read there.
    Read(ReadError),
    /// The text could not be written.
    Output(IoError),
    /// The caller gave less than [`DMESG_BYTES`].
    Memory,
}

impl From<ReadError> for DmesgError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl fmt::Display for DmesgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingKey(name) => write!(
                f,
                "finding the kernel log: VMCOREINFO has no usable {name}; logs of kernels from 5.10 on can be read"
            ),
            Self::Damaged => {
                f.write_str("reading the kernel log: its variables contradict each other")
            }
            Self::Read(error) => write!(f, "reading the kernel log: {error}"),
            Self::Output(error) => write!(f, "writing the kernel log: {error}"),
            Self::Memory => write!(
                f,
                "reading the kernel log needs {DMESG_BYTES} bytes of memory"
            ),
        }
    }
}

impl core::error::Error for DmesgError {}
