// SPDX-License-Identifier: MIT OR Apache-2.0
//! The log since 5.10: a ring of descriptors, each with an info struct beside it and text in a second ring.
//!
//! Nothing is locked, so a crash can leave records half written; they are told by their state and left out. Where the
//! ring's own variables were overwritten, its ends are found by the descriptors, which know their ids.
//!
//! Source: Linux 6.12 `kernel/printk/printk_ringbuffer.c`, comment at its top and `get_data()`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use super::lines::Lines;
use super::window::Window;
use super::{DmesgError, Part};
use crate::address::VirtAddr;
use crate::bytes::Abi;
use crate::io::Source;
use crate::vmcore::Vmcore;
use crate::vmcoreinfo::Vmcoreinfo;

/// What the tables need of memory: descriptors, and infos.
pub(super) const TABLES_BYTES: usize = 2 * TABLE_BYTES;

/// Descriptors, or infos, that are read in one go.
const TABLE_BYTES: usize = 32 << 10;
/// The largest struct that can be meant: a descriptor has 24 bytes, an info and the ring's variables 88 each.
const MAX_STRUCT_BYTES: usize = 1024;
/// The most descriptors, and the most bytes of text, as powers of two; the kernel stops at 2 GiB of log.
const MAX_RING_BITS: u32 = 31;

/// After so many reads in a row that failed, there is no ring where it is said to be.
const MAX_UNREADABLE: u32 = 64;

/// A descriptor's state word has its state in the top two bits and its id in those below.
const STATE_BITS: u32 = 2;
/// State of a record that is complete.
const COMMITTED: u64 = 1;
/// State of a record that is complete and will not be added to.
const FINALIZED: u64 = 2;

/// Writes the records.
pub(super) fn write<S: Source>(
    vmcore: &mut Vmcore<'_, S>,
    part: Part,
    tables: &mut [u8],
    window: &mut Window<'_>,
    lines: &mut Lines<'_>,
) -> Result<(), DmesgError> {
    let (desc_buf, info_buf) = tables
        .split_at_mut_checked(TABLE_BYTES)
        .ok_or(DmesgError::Memory)?;
    let layout = RingLayout::resolve(&vmcore.vmcoreinfo(), vmcore.abi())?;
    let mut ring = Ring::read(vmcore, &layout)?;
    if !ring.has_ends(vmcore, &layout, desc_buf) {
        lines.lose(1);
        ring.find_ends(vmcore, &layout, desc_buf);
    }
    let cleared = match part {
        Part::Whole => 0,
        Part::SinceClear => read_clear_sequence(vmcore).unwrap_or(0),
    };
    let mut id = ring.tail_id;
    let mut left = ring.record_count;
    let mut unreadable = 0_u32;
    while left > 0 {
        let first = id & ring.index_mask;
        let chunk = ring.chunk(first, left, &layout);
        left = left.saturating_sub(chunk);
        let (desc_bytes, info_bytes) = (layout.desc_bytes, layout.info_bytes);
        let descs = ring.read_table(vmcore, ring.descs, first, chunk, desc_bytes, desc_buf);
        let infos = ring.read_table(vmcore, ring.infos, first, chunk, info_bytes, info_buf);
        let (Ok(descs), Ok(infos)) = (descs, infos) else {
            unreadable = u32::saturating_add(unreadable, 1);
            if unreadable > MAX_UNREADABLE {
                return Err(DmesgError::Damaged);
            }
            lines.lose(chunk);
            id = id.wrapping_add(chunk) & layout.id_mask();
            continue;
        };
        unreadable = 0;
        let pairs = descs
            .chunks_exact(desc_bytes)
            .zip(infos.chunks_exact(info_bytes));
        for (desc, info) in pairs {
            if let Some(record) = layout.parse(desc, info, id)
                && record.sequence.is_none_or(|sequence| sequence >= cleared)
                && let Some((start, bytes)) = ring.locate_text(&record)
            {
                match window.view(vmcore, start, bytes, ring.text, 1_u64 << ring.size_bits) {
                    Some(text) => lines.put_record(record.time_ns, text)?,
                    None => lines.lose(1),
                }
            }
            id = id.wrapping_add(1) & layout.id_mask();
        }
    }
    Ok(())
}

/// The number of the first record behind the last `dmesg --clear`. Since 5.13 it stands there twice, so that a reader
/// finds one that is not being written.
fn read_clear_sequence<S: Source>(vmcore: &mut Vmcore<'_, S>) -> Option<u64> {
    let info = vmcore.vmcoreinfo();
    let place = info.symbol("clear_seq")?;
    let mut bytes = [0; 8];
    let inside = match info.offset("latched_seq.val") {
        None => 0,
        Some(values) => {
            let which = u64::from(vmcore.read_u32(place).ok()? & 1);
            u64::try_from(values)
                .ok()?
                .checked_add(which.checked_mul(8)?)?
        }
    };
    vmcore
        .read_virtual(place.checked_add(inside)?, &mut bytes)
        .ok()?;
    vmcore.abi().u64_at(&bytes, 0)
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
    sequence: Option<usize>,
}

/// A record that is complete.
struct Record {
    time_ns: u64,
    sequence: Option<u64>,
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
            sequence: info.offset("printk_info.seq"),
        })
    }

    /// The bits of a state word that are the id.
    const fn id_mask(&self) -> u64 {
        self.abi.truncate(u64::MAX) >> STATE_BITS
    }

    /// The id and the state in a descriptor.
    fn state(&self, desc: &[u8]) -> Option<(u64, u64)> {
        let word = self.abi.word_at(desc, self.state)?;
        let state = word.wrapping_shr(self.id_mask().trailing_ones());
        Some((word & self.id_mask(), state))
    }

    /// The record of this id; `None` while it was being written or is gone.
    fn parse(&self, desc: &[u8], info: &[u8], id: u64) -> Option<Record> {
        let (own_id, state) = self.state(desc)?;
        if own_id != id || !matches!(state, COMMITTED | FINALIZED) {
            return None;
        }
        Some(Record {
            time_ns: self.abi.u64_at(info, self.time)?,
            sequence: self
                .sequence
                .and_then(|offset| self.abi.u64_at(info, offset)),
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

    /// Whether the ends of the log are where its variables say: a descriptor at one of them has the id that belongs
    /// there. The newest may have been taken and not yet have been given its id.
    fn has_ends<S: Source>(
        &self,
        vmcore: &mut Vmcore<'_, S>,
        layout: &RingLayout,
        buf: &mut [u8],
    ) -> bool {
        let mask = layout.id_mask();
        let head_id = self.tail_id.wrapping_add(self.record_count).wrapping_sub(1) & mask;
        [head_id, head_id.wrapping_sub(1) & mask, self.tail_id]
            .into_iter()
            .any(|id| {
                let index = id & self.index_mask;
                self.read_table(vmcore, self.descs, index, 1, layout.desc_bytes, buf)
                    .is_ok_and(|desc| layout.state(desc).is_some_and(|(own_id, _)| own_id == id))
            })
    }

    /// Finds the ends of the log by its descriptors: the newest is the one with the highest id that is complete and in
    /// its place.
    fn find_ends<S: Source>(
        &mut self,
        vmcore: &mut Vmcore<'_, S>,
        layout: &RingLayout,
        buf: &mut [u8],
    ) {
        let mask = layout.id_mask();
        let count = self.index_mask.saturating_add(1);
        let mut newest = None;
        let mut first = 0;
        let mut unreadable = 0_u32;
        while first < count && unreadable <= MAX_UNREADABLE {
            let chunk = self.chunk(first, count.saturating_sub(first), layout);
            let descs = self
                .read_table(vmcore, self.descs, first, chunk, layout.desc_bytes, buf)
                .unwrap_or_default();
            unreadable = match descs {
                [] => unreadable.saturating_add(1),
                _ => 0,
            };
            for (index, desc) in (first..).zip(descs.chunks_exact(layout.desc_bytes)) {
                if let Some((id, COMMITTED | FINALIZED)) = layout.state(desc)
                    && id & self.index_mask == index
                    // Ids wrap, and those of one ring are close to each other.
                    && newest.is_none_or(|newest| id.wrapping_sub(newest) & mask < mask / 2)
                {
                    newest = Some(id);
                }
            }
            first = first.saturating_add(chunk);
        }
        if let Some(id) = newest {
            self.record_count = count;
            self.tail_id = id.wrapping_sub(count.wrapping_sub(1)) & mask;
        }
    }

    /// How many of `left` descriptors, and infos, are read in one go from this one on: they lie in one piece, which ends
    /// where the arrays end at the latest.
    fn chunk(&self, first: u64, left: u64, layout: &RingLayout) -> u64 {
        let room = TABLE_BYTES
            .checked_div(layout.desc_bytes.max(layout.info_bytes))
            .unwrap_or(1);
        left.min(u64::try_from(room).unwrap_or(1))
            .min(self.index_mask.saturating_sub(first).saturating_add(1))
            .max(1)
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
