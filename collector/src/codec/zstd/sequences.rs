// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a block's sequences. Source: RFC 8878 section 3.1.1.3.2.

#![allow(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the input is bytes of any value, and no number is taken from it; the tests bound the rest"
)]

use super::bits::BitWriter;
use super::codes::{
    self, LENGTH_BITS, LENGTH_CODES, LITERAL_BITS, LITERAL_CODES, OFFSET_CODES, length_code,
    literal_code,
};
use super::fse::{BIT, Distribution, MIN_LOG, Table};
use super::matches::Found;

/// Fewer sequences than these do not pay for a table's description.
const FEW: usize = 16;
/// A description's longest.
const DESCRIPTION_BYTES: usize = 64;
/// Bytes that one sequence takes at most, and what a writer needs behind them.
const SEQUENCE_ROOM: usize = 24;

static LITERALS: Table = Table::predefined(codes::LITERALS.log, codes::LITERALS.states);
static LENGTHS: Table = Table::predefined(codes::LENGTHS.log, codes::LENGTHS.states);
static OFFSETS: Table = Table::predefined(codes::OFFSETS.log, codes::OFFSETS.states);

/// How a table is told to the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Predefined = 0,
    Single = 1,
    Described = 2,
}

/// Memory to make tables in.
pub(super) type Room = [Table; 3];

/// Writes the sequences' section, and says how many bytes that took; none when there is no room.
pub(super) fn write(found: &Found<'_>, room: &mut Room, out: &mut [u8]) -> Option<usize> {
    let count = found.sequences().len();
    let mut at = 0;
    let head: &[u8] = match count {
        0..128 => &[count as u8],
        // Blocks of 16 KiB have no more than 4096.
        _ => &[(count >> 8) as u8 | 128, count as u8],
    };
    out.get_mut(..head.len())?.copy_from_slice(head);
    at += head.len();
    if count == 0 {
        return Some(at);
    }
    let mut literals = [0_u16; LITERAL_CODES];
    let mut lengths = [0_u16; LENGTH_CODES];
    let mut offsets = [0_u16; OFFSET_CODES];
    for sequence in found.sequences() {
        literals[literal_code(sequence.literals)] += 1;
        lengths[length_code(sequence.beyond)] += 1;
        offsets[sequence.offset.ilog2() as usize] += 1;
    }
    let modes_at = at;
    at += 1;
    let mut modes = 0;
    let [literal_room, offset_room, length_room] = room;
    let rest = out.get_mut(at..)?;
    let (literal_table, mode, bytes) =
        choose(&literals, &codes::LITERALS, &LITERALS, literal_room, rest)?;
    modes |= (mode as u8) << 6;
    at += bytes;
    let rest = out.get_mut(at..)?;
    let (offset_table, mode, bytes) =
        choose(&offsets, &codes::OFFSETS, &OFFSETS, offset_room, rest)?;
    modes |= (mode as u8) << 4;
    at += bytes;
    let rest = out.get_mut(at..)?;
    let (length_table, mode, bytes) =
        choose(&lengths, &codes::LENGTHS, &LENGTHS, length_room, rest)?;
    modes |= (mode as u8) << 2;
    at += bytes;
    *out.get_mut(modes_at)? = modes;

    let room = out.get_mut(at..)?;
    let size = room.len();
    let mut bits = BitWriter::new(room);
    put_sequences(found, literal_table, offset_table, length_table, &mut bits)?;
    Some(at + size - bits.rest_bytes())
}

/// Puts the sequences, the last one first, as decoders read backwards.
fn put_sequences(
    found: &Found<'_>,
    literals: &Table,
    offsets: &Table,
    lengths: &Table,
    out: &mut BitWriter<'_>,
) -> Option<()> {
    let mut done = Some(());
    out.in_registers(|out| {
        let mut states: Option<(u32, u32, u32)> = None;
        for sequence in found.sequences().rev() {
            if out.rest_bytes() < SEQUENCE_ROOM {
                done = None;
                return;
            }
            let literal = literal_code(sequence.literals);
            let length = length_code(sequence.beyond);
            let offset = sequence.offset.ilog2();
            let (mut literal_state, mut offset_state, mut length_state);
            match states {
                None => {
                    literal_state = literals.last(literal);
                    offset_state = offsets.last(offset as usize);
                    length_state = lengths.last(length);
                }
                Some(behind) => {
                    (literal_state, offset_state, length_state) = behind;
                    offsets.put(&mut offset_state, offset as usize, out);
                    lengths.put(&mut length_state, length, out);
                    literals.put(&mut literal_state, literal, out);
                    out.flush();
                }
            }
            states = Some((literal_state, offset_state, length_state));
            let bits = u32::from(LITERAL_BITS[literal]);
            out.put(u64::from(sequence.literals & ((1 << bits) - 1)), bits);
            let bits = u32::from(LENGTH_BITS[length]);
            out.put(u64::from(sequence.beyond & ((1 << bits) - 1)), bits);
            out.put(u64::from(sequence.offset & ((1 << offset) - 1)), offset);
            out.flush();
        }
        if let Some((literal_state, offset_state, length_state)) = states {
            lengths.finish(length_state, out);
            offsets.finish(offset_state, out);
            literals.finish(literal_state, out);
        }
        // The bit that decoders begin at.
        out.put(1, 1);
        out.flush();
        out.align();
    });
    done
}

/// The table that these counts are written with in the fewest bits, its mode, and how many bytes its description took.
fn choose<'t, const N: usize>(
    counts: &[u16; N],
    predefined: &codes::Predefined<N>,
    predefined_table: &'t Table,
    room: &'t mut Table,
    out: &mut [u8],
) -> Option<(&'t Table, Mode, usize)> {
    let (mut total, mut different, mut some) = (0, 0, 0);
    for (symbol, &count) in counts.iter().enumerate() {
        if count != 0 {
            total += u32::from(count);
            different += 1;
            some = symbol;
        }
    }
    let usual = Distribution::cost(&predefined.states, predefined.log, counts);
    if different == 1 && usual.is_none_or(|usual| usual > 8 * BIT) {
        *out.first_mut()? = some as u8;
        room.set_single(some);
        return Some((room, Mode::Single, 1));
    }
    if usual.is_none() || total as usize >= FEW && different > 1 {
        let most = predefined.log.max(MIN_LOG) + 2;
        let log = (total.ilog2().saturating_sub(1)).clamp(MIN_LOG, most);
        // Each symbol needs a state.
        let log = log.max((different as u32).next_power_of_two().ilog2() + 1);
        let distribution = Distribution::new(counts, total, log);
        let size = out.len().min(DESCRIPTION_BYTES);
        let mut description = BitWriter::new(&mut out[..size]);
        distribution.describe(&mut description);
        let bytes = size - description.rest_bytes();
        let described =
            Distribution::cost(&distribution.states, log, counts)? + bytes as u32 * 8 * BIT;
        if usual.is_none_or(|usual| described < usual) {
            if size < DESCRIPTION_BYTES {
                // It may have been cut off.
                return None;
            }
            room.set(log, &distribution.states[..distribution.symbols]);
            return Some((room, Mode::Described, bytes));
        }
    }
    usual.map(|_| (predefined_table, Mode::Predefined, 0))
}
