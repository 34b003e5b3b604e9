// SPDX-License-Identifier: MIT OR Apache-2.0
//! Descriptions written type by type, and broken ones.
use std::collections::HashMap;
use std::vec::Vec;

use super::*;

const START: VirtAddr = VirtAddr(0xffff_ffff_8300_0000);

/// A description in the making.
#[derive(Default)]
struct Writer {
    types: Vec<u8>,
    names: Vec<u8>,
    known: HashMap<String, u32>,
    count: u32,
}

impl Writer {
    fn name(&mut self, name: &str) -> u32 {
        if self.names.is_empty() {
            self.names.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        // Each name stands there once.
        if let Some(&place) = self.known.get(name) {
            return place;
        }
        let place = self.names.len() as u32;
        self.names.extend(name.bytes());
        self.names.push(0);
        self.known.insert(name.to_owned(), place);
        place
    }

    fn put(&mut self, words: &[u32]) {
        self.types
            .extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    /// A type, and its number.
    fn add(&mut self, kind: u32, flag: bool, name: &str, size: u32, rest: &[[u32; 3]]) -> u32 {
        let name = self.name(name);
        let info = (kind << 24) | (u32::from(flag) << 31) | rest.len() as u32;
        self.put(&[name, info, size]);
        let each = match kind {
            KIND_ENUM => 2,
            _ => 3,
        };
        for words in rest {
            self.put(&words[..each]);
        }
        self.count += 1;
        self.count
    }

    fn int(&mut self) -> u32 {
        let number = self.add(1, false, "int", 4, &[]);
        self.put(&[32]);
        number
    }

    fn array(&mut self, of: u32, length: u32) -> u32 {
        let number = self.add(KIND_ARRAY, false, "", 0, &[]);
        self.put(&[of, of, length]);
        number
    }

    fn enumeration(&mut self, name: &str, values: &[(&str, u32)]) -> u32 {
        let values: Vec<[u32; 3]> = values
            .iter()
            .map(|(name, value)| [self.name(name), *value, 0])
            .collect();
        self.add(KIND_ENUM, false, name, 4, &values)
    }

    fn structure(&mut self, kind: u32, name: &str, bytes: u32, fields: &[(&str, u32, u32)]) -> u32 {
        let fields: Vec<[u32; 3]> = fields
            .iter()
            .map(|(name, number, offset)| [self.name(name), *number, offset * 8])
            .collect();
        self.add(kind, false, name, bytes, &fields)
    }

    fn finish(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend([1, 0]);
        for word in [
            24,
            0,
            self.types.len() as u32,
            self.types.len() as u32,
            self.names.len() as u32,
        ] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(self.types);
        bytes.extend(self.names);
        bytes
    }
}

const QUESTIONS: [Question; 9] = [
    Question::Value("pagetype", "PGTY_slab"),
    Question::Value("pageflags", "PG_head"),
    Question::Offset("page", "flags"),
    Question::Offset("page", "_mapcount"),
    Question::Offset("page", "mapping"),
    Question::Offset("page", "gone"),
    Question::Size("page"),
    Question::Length("zone", "free_area"),
    Question::Value("wide", "negative"),
];
const ANSWERS: [Option<u64>; 9] = [
    Some(0xf5),
    Some(6),
    Some(0),
    Some(48),
    Some(24),
    None,
    Some(64),
    Some(11),
    Some(u64::MAX - 1),
];

/// A kernel with `filler` types before those that count.
fn sample(filler: u32) -> Vec<u8> {
    let mut btf = Writer::default();
    let int = btf.int();
    for number in 0..filler {
        match number % 4 {
            0 => btf.structure(
                KIND_STRUCT,
                &format!("filler{number}"),
                8,
                &[("flags", int, 0)],
            ),
            1 => btf.enumeration(&format!("names{number}"), &[("PG_head", number)]),
            2 => btf.add(2, false, "", int, &[]),
            _ => btf.array(int, number),
        };
    }
    // The fields of a page are in parts without names, one in the other, some described only behind it.
    let next = btf.count + 1;
    let page = btf.structure(
        KIND_STRUCT,
        "page",
        64,
        &[("flags", int, 0), ("", next + 1, 8), ("", next + 2, 48)],
    );
    assert_eq!(page, next);
    btf.structure(KIND_UNION, "", 40, &[("", next + 3, 0), ("other", int, 0)]);
    btf.structure(
        KIND_UNION,
        "",
        4,
        &[("page_type", int, 0), ("_mapcount", int, 0)],
    );
    btf.structure(
        KIND_STRUCT,
        "",
        40,
        &[("lru", int, 0), ("mapping", int, 16)],
    );
    btf.enumeration(
        "pageflags",
        &[("PG_lru", 5), ("PG_head", 6), ("PG_head2", 7)],
    );
    btf.enumeration("pagetype", &[("PGTY_buddy", 0xf0), ("PGTY_slab", 0xf5)]);
    let areas = btf.array(page, 11);
    btf.structure(
        KIND_STRUCT,
        "zone",
        1664,
        &[("lock", int, 0), ("free_area", areas, 192)],
    );
    let name = btf.name("negative");
    btf.add(
        KIND_ENUM64,
        true,
        "wide",
        8,
        &[[name, 0xffff_fffe, 0xffff_ffff]],
    );
    btf.finish()
}

fn ask(bytes: &[u8], stop: u64) -> Result<[Option<u64>; 9], &'static str> {
    let mut read = |address: VirtAddr, buf: &mut [u8]| {
        let inside = address.0.checked_sub(START.0);
        let Some(start) = inside.and_then(|start| usize::try_from(start).ok()) else {
            return false;
        };
        let Some(bytes) = bytes.get(start..start.saturating_add(buf.len())) else {
            return false;
        };
        buf.copy_from_slice(bytes);
        true
    };
    let btf = Btf::open(Abi::LITTLE_64, START, VirtAddr(START.0 + stop), &mut read)?;
    let mut answers = [None; 9];
    let mut memory = vec![0xaa; BTF_BYTES];
    btf.ask(&mut read, &mut memory, &QUESTIONS, &mut answers);
    Ok(answers)
}

#[test]
fn values_fields_and_lengths_are_found_wherever_they_are() {
    // With so many types before them, windows end everywhere and marks are thinned out.
    for filler in [0, 1, 5, 64, 1000, 50_000] {
        let bytes = sample(filler);
        assert_eq!(ask(&bytes, bytes.len() as u64), Ok(ANSWERS), "{filler}");
    }
}

#[test]
fn what_is_not_btf_is_named() {
    let mut bytes = sample(0);
    let length = bytes.len() as u64;
    assert!(
        ask(&bytes, length - 1).is_err(),
        "names reach beyond the end"
    );
    assert!(ask(&[], 0).is_err());
    bytes[0] ^= 1;
    assert!(ask(&bytes, length).is_err(), "the magic number");
}

#[test]
fn a_struct_that_is_a_part_of_itself_ends() {
    let mut btf = Writer::default();
    let int = btf.int();
    btf.structure(
        KIND_STRUCT,
        "page",
        64,
        &[("", 2, 0), ("", 2, 8), ("gone", int, 0)],
    );
    let bytes = btf.finish();
    let answers = ask(&bytes, bytes.len() as u64).unwrap();
    assert_eq!(answers[5], Some(0));
}

#[test]
fn every_truncation_and_flipped_byte_is_an_answer_or_an_error() {
    let mut bytes = sample(8);
    let length = bytes.len() as u64;
    for cut in 0..bytes.len() {
        let _ = ask(&bytes[..cut], length);
    }
    for place in 0..bytes.len() {
        for mask in [1, 0x80, 0xff] {
            bytes[place] ^= mask;
            let _ = ask(&bytes, length);
            bytes[place] ^= mask;
        }
    }
}
