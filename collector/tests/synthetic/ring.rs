// SPDX-License-Identifier: MIT OR Apache-2.0
//! A printk ring, as `kernel/printk/printk_ringbuffer.c` has it since 5.10, written byte by byte.

use crate::machine::{Machine, PAGE};

/// A record as it is put into the ring.
pub(crate) struct Entry {
    pub(crate) time_ns: u64,
    pub(crate) text: Vec<u8>,
    /// Top bits of the state word: 0 reserved, 1 committed, 2 finalized, 3 reusable.
    pub(crate) state: u64,
}

impl Entry {
    pub(crate) fn new(time_ns: u64, text: &str) -> Self {
        Self {
            time_ns,
            text: text.as_bytes().to_vec(),
            state: 2,
        }
    }
}

pub(crate) struct Ring {
    pub(crate) count_bits: u32,
    pub(crate) size_bits: u32,
    /// The id of the first record that was ever written; all after it follow.
    pub(crate) first_id: u64,
    /// Where the first record's text block begins.
    pub(crate) first_position: u64,
    /// Blocks may end exactly at the ring's end, as since 6.18.
    pub(crate) fills_end: bool,
}

const DESC: u64 = 24;
const INFO: u64 = 88;
const ID_MASK: u64 = u64::MAX >> 2;

impl Ring {
    /// Puts the ring into the machine's memory. As many of the newest records are there as fit; returns the number of
    /// those that are gone.
    pub(crate) fn write(&self, machine: &mut Machine, entries: &[Entry]) -> usize {
        let count = 1_u64 << self.count_bits;
        let size = 1_u64 << self.size_bits;
        let take = |machine: &mut Machine, bytes: u64| {
            let first = machine.take_page();
            for page in 1..bytes.div_ceil(PAGE) {
                assert_eq!(machine.take_page(), first + page);
            }
            first * PAGE
        };
        let ring = take(machine, 88);
        let descs = take(machine, count * DESC);
        let infos = take(machine, count * INFO);
        let text = take(machine, size);

        // Where each block is, in positions that count on for ever.
        let mut position = self.first_position;
        let mut blocks = Vec::new();
        for entry in entries {
            if entry.text.is_empty() {
                blocks.push((3, 3));
                continue;
            }
            let bytes = (8 + entry.text.len() as u64).next_multiple_of(8);
            let end = position + bytes;
            let last = if self.fills_end { end - 1 } else { end };
            let begin = position;
            position = if position / size == last / size {
                end
            } else {
                end / size * size + bytes
            };
            blocks.push((begin, position));
        }
        let oldest_position = position.saturating_sub(size);
        let mut gone = entries.len().saturating_sub(count as usize);
        for (index, &(begin, next)) in blocks.iter().enumerate() {
            if next > 3 && begin < oldest_position {
                gone = gone.max(index + 1);
            }
        }
        for (index, (entry, &(begin, next))) in entries.iter().zip(&blocks).enumerate() {
            let id = (self.first_id + index as u64) & ID_MASK;
            let slot = id % count;
            let state = if index < gone { 3 } else { entry.state };
            let desc = [(state << 62) | id, begin, next];
            for (field, value) in desc.into_iter().enumerate() {
                machine.write(descs + slot * DESC + field as u64 * 8, &value.to_le_bytes());
            }
            let info = infos + slot * INFO;
            machine.write(info, &(index as u64).to_le_bytes());
            machine.write(info + 8, &entry.time_ns.to_le_bytes());
            machine.write(info + 16, &(entry.text.len() as u16).to_le_bytes());
            machine.write(info + 20, &0x8000_0001_u32.to_le_bytes());
            if begin == next || index < gone {
                continue;
            }
            let bytes = (8 + entry.text.len() as u64).next_multiple_of(8);
            let start = if begin / size == (next - 1) / size {
                begin % size
            } else {
                0
            };
            assert!(start + bytes <= size);
            machine.write(text + start, &id.to_le_bytes());
            machine.write(text + start + 8, &entry.text);
        }
        let head = (self.first_id + entries.len() as u64 - 1) & ID_MASK;
        let tail = (self.first_id + gone as u64) & ID_MASK;
        let pointer = take(machine, 8) + 0x18;
        let mut put = |address: u64, value: u64| machine.write(address, &value.to_le_bytes());
        // desc_ring: count_bits, descs, infos, head_id, tail_id; then text_data_ring: size_bits, data.
        put(ring, self.count_bits.into());
        put(ring + 24, head);
        put(ring + 32, tail);
        put(ring + 48, self.size_bits.into());
        for (field, target) in [(8, descs), (16, infos), (56, text)] {
            let address = machine.direct(target);
            machine.write(ring + field, &address.to_le_bytes());
        }
        let address = machine.direct(ring);
        machine.write(pointer, &address.to_le_bytes());
        machine.add_info("SYMBOL(prb)", format!("{:x}", machine.direct(pointer)));
        for (key, value) in [
            ("SIZE(printk_ringbuffer)", 88),
            ("OFFSET(printk_ringbuffer.desc_ring)", 0),
            ("OFFSET(printk_ringbuffer.text_data_ring)", 48),
            ("SIZE(prb_desc_ring)", 48),
            ("OFFSET(prb_desc_ring.count_bits)", 0),
            ("OFFSET(prb_desc_ring.descs)", 8),
            ("OFFSET(prb_desc_ring.infos)", 16),
            ("OFFSET(prb_desc_ring.head_id)", 24),
            ("OFFSET(prb_desc_ring.tail_id)", 32),
            ("SIZE(prb_desc)", 24),
            ("OFFSET(prb_desc.state_var)", 0),
            ("OFFSET(prb_desc.text_blk_lpos)", 8),
            ("SIZE(prb_data_blk_lpos)", 16),
            ("OFFSET(prb_data_blk_lpos.begin)", 0),
            ("OFFSET(prb_data_blk_lpos.next)", 8),
            ("SIZE(printk_info)", 88),
            ("OFFSET(printk_info.seq)", 0),
            ("OFFSET(printk_info.ts_nsec)", 8),
            ("OFFSET(printk_info.text_len)", 16),
            ("OFFSET(printk_info.caller_id)", 20),
            ("OFFSET(printk_info.dev_info)", 24),
            ("SIZE(prb_data_ring)", 40),
            ("OFFSET(prb_data_ring.size_bits)", 0),
            ("OFFSET(prb_data_ring.data)", 8),
            ("SIZE(atomic_long_t)", 8),
            ("OFFSET(atomic_long_t.counter)", 0),
        ] {
            machine.add_info(key, value);
        }
        gone
    }
}
