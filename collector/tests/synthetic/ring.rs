// SPDX-License-Identifier: MIT OR Apache-2.0
//! A printk ring, as `kernel/printk/printk_ringbuffer.c` has it since 5.10, written byte by byte.

use crate::machine::Machine;

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

impl Ring {
    /// Puts a small ring, which went round once, into the machine's memory.
    pub(crate) fn write_small(machine: &mut Machine) {
        let ring = Self {
            count_bits: 4,
            size_bits: 10,
            first_id: 3,
            first_position: 900,
            fills_end: false,
        };
        let entries: Vec<Entry> = (0..20)
            .map(|number| Entry::new(number, "Kernel panic - not syncing: made up"))
            .collect();
        ring.write(machine, &entries);
    }

    /// Puts the ring into the machine's memory. As many of the newest records are there as fit; returns the number of
    /// those that are gone.
    pub(crate) fn write(&self, machine: &mut Machine, entries: &[Entry]) -> usize {
        let word = machine.target.word_bytes();
        // A descriptor has three words; an info has no word in it.
        let (desc_bytes, info_bytes) = (3 * word, 88);
        let id_mask = u64::MAX >> (64 - 8 * word + 2);
        let count = 1_u64 << self.count_bits;
        let size = 1_u64 << self.size_bits;
        let ring = machine.take(88);
        let descs = machine.take(count * desc_bytes);
        let infos = machine.take(count * info_bytes);
        let text = machine.take(size);

        // Where each block is, in positions that count on for ever.
        let mut position = self.first_position;
        let mut blocks = Vec::new();
        for entry in entries {
            if entry.text.is_empty() {
                blocks.push((3, 3));
                continue;
            }
            let bytes = (word + entry.text.len() as u64).next_multiple_of(word);
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
            let id = (self.first_id + index as u64) & id_mask;
            let slot = id % count;
            let state = if index < gone { 3 } else { entry.state };
            let desc = [(state << (8 * word - 2)) | id, begin, next];
            for (field, value) in desc.into_iter().enumerate() {
                machine.write_word(descs + slot * desc_bytes + field as u64 * word, value);
            }
            let info = infos + slot * info_bytes;
            machine.write_number(info, index as u64, 8);
            machine.write_number(info + 8, entry.time_ns, 8);
            machine.write_number(info + 16, entry.text.len() as u64, 2);
            machine.write_number(info + 20, 0x8000_0001, 4);
            if begin == next || index < gone {
                continue;
            }
            let bytes = (word + entry.text.len() as u64).next_multiple_of(word);
            let start = if begin / size == (next - 1) / size {
                begin % size
            } else {
                0
            };
            assert!(start + bytes <= size);
            machine.write_word(text + start, id);
            machine.write(text + start + word, &entry.text);
        }
        let head = (self.first_id + entries.len() as u64 - 1) & id_mask;
        let tail = (self.first_id + gone as u64) & id_mask;
        let pointer = machine.take(8) + 0x18;
        // desc_ring: count_bits, descs, infos, head_id, tail_id; then text_data_ring: size_bits, data. A word each.
        machine.write_number(ring, self.count_bits.into(), 4);
        machine.write_word(ring + 3 * word, head);
        machine.write_word(ring + 4 * word, tail);
        machine.write_number(ring + 6 * word, self.size_bits.into(), 4);
        for (field, target) in [(1, descs), (2, infos), (7, text)] {
            machine.write_word(ring + field * word, machine.direct(target));
        }
        machine.write_word(pointer, machine.direct(ring));
        machine.add_info("SYMBOL(prb)", format!("{:x}", machine.direct(pointer)));
        for (key, value) in [
            ("SIZE(printk_ringbuffer)", 88),
            ("OFFSET(printk_ringbuffer.desc_ring)", 0),
            ("OFFSET(printk_ringbuffer.text_data_ring)", 6 * word),
            ("SIZE(prb_desc_ring)", 6 * word),
            ("OFFSET(prb_desc_ring.count_bits)", 0),
            ("OFFSET(prb_desc_ring.descs)", word),
            ("OFFSET(prb_desc_ring.infos)", 2 * word),
            ("OFFSET(prb_desc_ring.head_id)", 3 * word),
            ("OFFSET(prb_desc_ring.tail_id)", 4 * word),
            ("SIZE(prb_desc)", 3 * word),
            ("OFFSET(prb_desc.state_var)", 0),
            ("OFFSET(prb_desc.text_blk_lpos)", word),
            ("SIZE(prb_data_blk_lpos)", 2 * word),
            ("OFFSET(prb_data_blk_lpos.begin)", 0),
            ("OFFSET(prb_data_blk_lpos.next)", word),
            ("SIZE(printk_info)", 88),
            ("OFFSET(printk_info.seq)", 0),
            ("OFFSET(printk_info.ts_nsec)", 8),
            ("OFFSET(printk_info.text_len)", 16),
            ("OFFSET(printk_info.caller_id)", 20),
            ("OFFSET(printk_info.dev_info)", 24),
            ("SIZE(prb_data_ring)", 5 * word),
            ("OFFSET(prb_data_ring.size_bits)", 0),
            ("OFFSET(prb_data_ring.data)", word),
            ("SIZE(atomic_long_t)", word),
            ("OFFSET(atomic_long_t.counter)", 0),
        ] {
            machine.add_info(key, value);
        }
        gone
    }
}
