// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a vmcore's notes hold: VMCOREINFO, and the registers of the processors.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use crate::bytes::{Abi, shorter};
use crate::elf;
use crate::io::Source;
use crate::segments::Extent;

/// The most notes that are looked at.
const MAX_NOTES: u32 = 1 << 16;

/// What the notes hold.
#[derive(Default)]
pub(crate) struct NotesFound {
    pub(crate) vmcoreinfo: Option<Extent>,
    pub(crate) cpu_count: u32,
    pub(crate) damaged: bool,
}

/// Looks through the notes for VMCOREINFO and counts the processors. Notes can be large (a driver's dump), so only
/// their headers and names are read.
pub(crate) fn find_notes<S: Source>(source: &mut S, abi: Abi, segments: &[Extent]) -> NotesFound {
    let mut found = NotesFound::default();
    let mut budget = MAX_NOTES;
    for segment in segments {
        let mut offset = segment.offset;
        let end = segment.offset.saturating_add(segment.bytes);
        while end.saturating_sub(offset) >= elf::NOTE_HEADER_BYTES {
            // The longest name that means something to us is "VMCOREINFO" with its NUL.
            let mut bytes = [0; 12 + 11];
            let here = shorter(bytes.len(), end.saturating_sub(offset));
            let read = bytes
                .get_mut(..here)
                .map(|part| source.read_at(offset, part));
            let (Some(Ok(())), Some(note)) = (read, elf::parse_note_header(abi, &bytes)) else {
                found.damaged = true;
                break;
            };
            if note.name_bytes == 0 && note.description_bytes == 0 && note.kind == 0 {
                // Padding behind the last note.
                break;
            }
            let next = offset.saturating_add(note.total_bytes());
            let description = Extent {
                offset: offset.saturating_add(note.description_offset()),
                bytes: u64::from(note.description_bytes),
            };
            let description_end = description.offset.saturating_add(description.bytes);
            budget = budget.saturating_sub(1);
            if description_end > end || budget == 0 {
                found.damaged = true;
                break;
            }
            let name = bytes.get(12..).unwrap_or_default();
            let is_named = |wanted: &[u8]| {
                u32::try_from(wanted.len()) == Ok(note.name_bytes) && name.starts_with(wanted)
            };
            if is_named(b"VMCOREINFO\0") && found.vmcoreinfo.is_none() {
                found.vmcoreinfo = Some(description);
            } else if is_named(b"CORE\0") && note.kind == elf::PRSTATUS {
                found.cpu_count = found.cpu_count.saturating_add(1);
            }
            offset = next;
        }
    }
    found
}
