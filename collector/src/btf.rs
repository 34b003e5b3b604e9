// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first kernel's own description of its types (BTF), which it carries in its image since 5.2.
//!
//! A header, then all types one behind the other, then their names. A type has no number written to it: they count from
//! 1 on, and to find one by its number one has to go through those before it. Few questions are asked at a time and the
//! whole has some 5 MiB, so that the names are gone through once, the types once, and where a struct has a part without
//! a name, a short piece of the types again: every so many types their place is noted.
//!
//! Source: Linux 6.12 `Documentation/bpf/btf.rst`, `include/uapi/linux/btf.h`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use heapless::Vec;

use crate::address::VirtAddr;
use crate::bytes::{Abi, first_zero};
use crate::stream::{ReadVirtual, Stream};

/// What [`Btf::ask`] needs of memory.
pub(crate) const BTF_BYTES: usize = 32 << 10;

const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;
const TYPE_BYTES: usize = 12;
/// The most bytes that types or names can have; real kernels are at 5 MiB.
const MAX_SECTION_BYTES: u32 = 64 << 20;

const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_ENUM64: u32 = 19;

/// The most questions at a time.
pub(crate) const MAX_QUESTIONS: usize = 64;
/// The most names in them.
const MAX_NAMES: usize = 2 * MAX_QUESTIONS;
/// The most parts without a name in the structs that are asked about, and the most arrays.
const MAX_PARTS: usize = 64;
/// Places of types that are noted.
const MAX_MARKS: usize = 512;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// The value of a name in an enum: the enum's name, and the value's.
    Value(&'static str, &'static str),
    /// Where a field is in a struct, in bytes: the struct's name, and the field's.
    Offset(&'static str, &'static str),
    /// How many elements an array has that is a field of a struct.
    Length(&'static str, &'static str),
    /// How many bytes a struct has.
    Size(&'static str),
}

impl Question {
    const fn names(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Value(of, name) | Self::Offset(of, name) | Self::Length(of, name) => {
                (of, Some(name))
            }
            Self::Size(of) => (of, None),
        }
    }
}

/// Where the parts of the description are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Btf {
    abi: Abi,
    types: VirtAddr,
    types_bytes: u32,
    names: VirtAddr,
    names_bytes: u32,
}

/// A part of a struct that has no name of its own: its fields count as the struct's.
struct Part {
    /// The number of its type.
    number: u32,
    /// Where it is in the struct, in bits.
    base_bits: u64,
    /// The name of the struct, as the names are numbered.
    of: u32,
}

/// An array that is a field, by the number of its type, and the question that it answers.
struct ArrayField {
    number: u32,
    question: usize,
}

impl Btf {
    /// Reads the header of the description that lies between two addresses.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn open(
        abi: Abi,
        start: VirtAddr,
        stop: VirtAddr,
        read: ReadVirtual<'_>,
    ) -> Result<Self, &'static str> {
        let whole = stop
            .0
            .checked_sub(start.0)
            .ok_or("its end is before its beginning")?;
        let mut header = [0; HEADER_BYTES];
        if !read(start, &mut header) {
            return Err("its header cannot be read");
        }
        let field = |offset| abi.u32_at(&header, offset).unwrap_or(0);
        if abi.u16_at(&header, 0) != Some(MAGIC) {
            return Err("it does not begin as it should");
        }
        let section = |offset: u32, bytes: u32| {
            let from = u64::from(field(4)).checked_add(u64::from(offset))?;
            let to = from.checked_add(u64::from(bytes))?;
            (to <= whole && bytes <= MAX_SECTION_BYTES)
                .then(|| start.checked_add(from))
                .flatten()
        };
        let beyond = "its parts reach beyond its end";
        Ok(Self {
            abi,
            types: section(field(8), field(12)).ok_or(beyond)?,
            types_bytes: field(12),
            names: section(field(16), field(20)).ok_or(beyond)?,
            names_bytes: field(20),
        })
    }

    /// Answers the questions, each in its place; `None` stands for what the kernel does not have. What was found before
    /// the description ended early or made no sense stays.
    pub(crate) fn ask(
        &self,
        read: ReadVirtual<'_>,
        memory: &mut [u8],
        questions: &[Question],
        answers: &mut [Option<u64>],
    ) {
        let Some(window) = memory.get_mut(..BTF_BYTES) else {
            return;
        };
        let mut search = Search {
            abi: self.abi,
            questions,
            answers,
            ids: [(None, None); MAX_QUESTIONS],
            parts: Vec::new(),
            arrays: Vec::new(),
            marks: Marks::new(),
        };
        search.find_names(&mut Stream::new(
            read,
            window,
            self.names,
            self.names_bytes.into(),
        ));
        search.go_through(&mut self.stream(read, window, 0));
        // Parts may have parts: each that is found is put to the end of the list, which has room for so many.
        let mut next = 0;
        while let Some((offset, number, part)) = search.parts.get(next).map(|part| {
            let (offset, number) = search.marks.before(part.number);
            (
                offset,
                number,
                Part {
                    number: part.number,
                    base_bits: part.base_bits,
                    of: part.of,
                },
            )
        }) {
            next = next.saturating_add(1);
            let mut types = self.stream(read, window, offset);
            if let Some(header) = seek(self.abi, &mut types, part.number.saturating_sub(number))
                && matches!(header.kind, KIND_STRUCT | KIND_UNION)
            {
                let _ = search.fields(&mut types, &header, part.of, part.base_bits);
            }
        }
        for array in core::mem::take(&mut search.arrays) {
            let (offset, number) = search.marks.before(array.number);
            let mut types = self.stream(read, window, offset);
            if let Some(header) = seek(self.abi, &mut types, array.number.saturating_sub(number))
                && header.kind == KIND_ARRAY
                && let Some(fields) = types.take(12)
                && let Some(answer) = search.answers.get_mut(array.question)
            {
                *answer = self.abi.u32_at(fields, 8).map(u64::from);
            }
        }
    }

    fn stream<'r, 'b>(
        &self,
        read: ReadVirtual<'r>,
        window: &'b mut [u8],
        offset: u32,
    ) -> Stream<'r, 'b> {
        Stream::new(
            read,
            window,
            VirtAddr(self.types.0.wrapping_add(offset.into())),
            self.types_bytes.saturating_sub(offset).into(),
        )
    }
}

/// The beginning of a type.
struct Header {
    name: u32,
    kind: u32,
    /// How many fields, values or parameters it has.
    count: u32,
    /// Whether fields are told in bits, and whether values have a sign.
    flag: bool,
    /// Bytes of the type, or the number of another.
    size: u32,
}

impl Header {
    fn take(abi: Abi, types: &mut Stream<'_, '_>) -> Option<Self> {
        let bytes = types.take(TYPE_BYTES)?;
        let info = abi.u32_at(bytes, 4)?;
        Some(Self {
            name: abi.u32_at(bytes, 0)?,
            kind: (info >> 24) & 0x1f,
            count: info & 0xffff,
            flag: info >> 31 != 0,
            size: abi.u32_at(bytes, 8)?,
        })
    }

    /// Bytes that follow the header; `None` where the kind is not known, and with it all behind it.
    fn rest_bytes(&self) -> Option<u32> {
        let each = match self.kind {
            // Integers, variables, tags of declarations.
            1 | 14 | 17 => return Some(4),
            // Pointers, forward declarations, names and qualifiers of other types, functions, floats, tags of types.
            2 | 7..=12 | 16 | 18 => return Some(0),
            KIND_ARRAY => return Some(12),
            KIND_STRUCT | KIND_UNION | 15 | KIND_ENUM64 => 12,
            KIND_ENUM | 13 => 8,
            _ => return None,
        };
        self.count.checked_mul(each)
    }
}

/// Goes over `count` types and takes the header of the one behind them.
fn seek(abi: Abi, types: &mut Stream<'_, '_>, count: u32) -> Option<Header> {
    for _ in 0..count {
        let header = Header::take(abi, types)?;
        types.skip(header.rest_bytes()?.into())?;
    }
    Header::take(abi, types)
}

/// The places of some types, at equal distances of their numbers.
struct Marks {
    offsets: Vec<u32, MAX_MARKS>,
    /// Numbers from one mark to the next.
    distance: u32,
}

impl Marks {
    const fn new() -> Self {
        Self {
            offsets: Vec::new(),
            distance: 64,
        }
    }

    /// Notes the place of the type of this number, where it is one of those. Every number is told once, in their order.
    fn note(&mut self, number: u32, offset: u32) {
        if !self.is_due(number) {
            return;
        }
        if self.offsets.push(offset).is_ok() {
            return;
        }
        // Full: every second one goes, and the distance is twice what it was. This number stays on an equal distance.
        let mut kept: Vec<u32, MAX_MARKS> = Vec::new();
        for mark in self.offsets.iter().step_by(2) {
            let _ = kept.push(*mark);
        }
        self.offsets = kept;
        self.distance = self.distance.saturating_mul(2);
        if self.is_due(number) {
            let _ = self.offsets.push(offset);
        }
    }

    /// Whether the type of this number is one of those. The distance is a power of two, and this is asked of every type.
    const fn is_due(&self, number: u32) -> bool {
        number.saturating_sub(1) & self.distance.saturating_sub(1) == 0
    }

    /// The last mark at or before a number: its place, and the number there.
    fn before(&self, number: u32) -> (u32, u32) {
        let index = number
            .saturating_sub(1)
            .checked_div(self.distance)
            .unwrap_or(0);
        let last = u32::try_from(self.offsets.len().saturating_sub(1)).unwrap_or(0);
        let index = index.min(last);
        let offset = usize::try_from(index)
            .ok()
            .and_then(|index| self.offsets.get(index))
            .copied()
            .unwrap_or(0);
        (
            offset,
            index.saturating_mul(self.distance).saturating_add(1),
        )
    }
}

const FINGERPRINTS: usize = 1024;

/// A number below [`FINGERPRINTS`] by which most names differ.
fn fingerprint(name: &[u8]) -> usize {
    let (Some(first), Some(last)) = (name.first(), name.last()) else {
        return 0;
    };
    (usize::from(*first) ^ (usize::from(*last) << 2) ^ (name.len() << 5)) % FINGERPRINTS
}

struct Search<'a> {
    abi: Abi,
    questions: &'a [Question],
    answers: &'a mut [Option<u64>],
    /// The names of each question, as the description numbers them: by their place.
    ids: [(Option<u32>, Option<u32>); MAX_QUESTIONS],
    parts: Vec<Part, MAX_PARTS>,
    arrays: Vec<ArrayField, MAX_PARTS>,
    marks: Marks,
}

impl Search<'_> {
    /// Notes where the names of the questions are. Each stands there once.
    fn find_names(&mut self, names: &mut Stream<'_, '_>) {
        // A name is looked at closely where its fingerprint is that of a wanted one.
        let mut wanted: Vec<&'static str, MAX_NAMES> = Vec::new();
        let mut fingerprints = [false; FINGERPRINTS];
        for question in self.questions.iter().take(MAX_QUESTIONS) {
            let (of, name) = question.names();
            for name in [Some(of), name].into_iter().flatten() {
                if wanted.contains(&name) {
                    continue;
                }
                let _ = wanted.push(name);
                if let Some(place) = fingerprints.get_mut(fingerprint(name.as_bytes())) {
                    *place = true;
                }
            }
        }
        let mut place = 0_u32;
        let mut left = wanted.len();
        while left > 0 {
            let Some(bytes) = names.peek_some() else {
                return;
            };
            let mut used = 0_usize;
            while let Some(rest) = bytes.get(used..)
                && let Some(length) = first_zero(rest)
            {
                let text = rest.get(..length).unwrap_or_default();
                if fingerprints.get(fingerprint(text)) == Some(&true)
                    && let Some(name) = wanted.iter().find(|name| name.as_bytes() == text)
                {
                    let here = u32::try_from(used)
                        .ok()
                        .and_then(|used| place.checked_add(used));
                    for (question, ids) in self.questions.iter().zip(&mut self.ids) {
                        let (of, inner) = question.names();
                        if of == *name {
                            ids.0 = here;
                        }
                        if inner == Some(*name) {
                            ids.1 = here;
                        }
                    }
                    left = left.saturating_sub(1);
                }
                used = used.saturating_add(length).saturating_add(1);
            }
            // No end of a name in the window: more is needed, or it is longer than any name.
            let window = bytes.len();
            if used == 0 {
                let Some(more) = names.peek(window.saturating_add(1)) else {
                    return;
                };
                debug_assert!(more.len() > window);
                continue;
            }
            let (Ok(step), Ok(skipped)) = (u32::try_from(used), u64::try_from(used)) else {
                return;
            };
            place = place.saturating_add(step);
            if names.skip(skipped).is_none() {
                return;
            }
        }
    }

    /// Goes through all types.
    fn go_through(&mut self, types: &mut Stream<'_, '_>) {
        let abi = self.abi;
        let mut offset = 0_u32;
        for number in 1..u32::MAX {
            self.marks.note(number, offset);
            let Some(header) = Header::take(abi, types) else {
                return;
            };
            let Some(rest) = header.rest_bytes() else {
                return;
            };
            offset = offset
                .saturating_add(rest)
                .saturating_add(u32::try_from(TYPE_BYTES).unwrap_or(0));
            let known = header.name != 0
                && header.count > 0
                && matches!(
                    header.kind,
                    KIND_STRUCT | KIND_UNION | KIND_ENUM | KIND_ENUM64
                )
                && self.ids.iter().any(|ids| ids.0 == Some(header.name));
            let done = match header.kind {
                _ if !known => types.skip(rest.into()),
                KIND_STRUCT | KIND_UNION => {
                    self.size(&header);
                    self.fields(types, &header, header.name, 0)
                }
                _ => self.values(types, &header),
            };
            if done.is_none() {
                return;
            }
        }
    }

    /// Takes the values of an enum.
    fn values(&mut self, types: &mut Stream<'_, '_>, header: &Header) -> Option<()> {
        let abi = self.abi;
        let each = if header.kind == KIND_ENUM { 8 } else { 12 };
        for _ in 0..header.count {
            let bytes = types.take(each)?;
            let name = abi.u32_at(bytes, 0)?;
            let low = abi.u32_at(bytes, 4)?;
            let value = match abi.u32_at(bytes, 8).filter(|_| each == 12) {
                Some(high) => u64::from(low) | (u64::from(high) << 32),
                None if header.flag => i64::from(low.cast_signed()).cast_unsigned(),
                None => u64::from(low),
            };
            for (index, question) in self.questions.iter().enumerate().take(MAX_QUESTIONS) {
                if matches!(question, Question::Value(..))
                    && self.ids.get(index) == Some(&(Some(header.name), Some(name)))
                    && let Some(answer) = self.answers.get_mut(index)
                {
                    answer.get_or_insert(value);
                }
            }
        }
        Some(())
    }

    fn size(&mut self, header: &Header) {
        for (index, question) in self.questions.iter().enumerate().take(MAX_QUESTIONS) {
            if matches!(question, Question::Size(_))
                && self
                    .ids
                    .get(index)
                    .is_some_and(|ids| ids.0 == Some(header.name))
                && let Some(answer) = self.answers.get_mut(index)
            {
                answer.get_or_insert(header.size.into());
            }
        }
    }

    /// Takes the fields of a struct, or of a part of it that begins at `base_bits`.
    fn fields(
        &mut self,
        types: &mut Stream<'_, '_>,
        header: &Header,
        of: u32,
        base_bits: u64,
    ) -> Option<()> {
        let abi = self.abi;
        for _ in 0..header.count {
            let bytes = types.take(12)?;
            let name = abi.u32_at(bytes, 0)?;
            let number = abi.u32_at(bytes, 4)?;
            let place = abi.u32_at(bytes, 8)?;
            let inside = if header.flag {
                place & 0x00ff_ffff
            } else {
                place
            };
            let bits = base_bits.checked_add(inside.into())?;
            if name == 0 {
                // A list that is full makes the answers fewer, not wrong.
                let _ = self.parts.push(Part {
                    number,
                    base_bits: bits,
                    of,
                });
                continue;
            }
            for (index, question) in self.questions.iter().enumerate().take(MAX_QUESTIONS) {
                if self.ids.get(index) != Some(&(Some(of), Some(name))) {
                    continue;
                }
                match question {
                    Question::Offset(..) => {
                        if let Some(answer) = self.answers.get_mut(index) {
                            answer.get_or_insert(bits / 8);
                        }
                    }
                    Question::Length(..) => {
                        let _ = self.arrays.push(ArrayField {
                            number,
                            question: index,
                        });
                    }
                    Question::Value(..) | Question::Size(_) => {}
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::as_conversions)]
mod tests;
