// SPDX-License-Identifier: MIT OR Apache-2.0
//! The published test vectors of the format: what each file is, and what of it is readable.

#![allow(clippy::unwrap_used, reason = "a test ends with it")]

use age::{CHUNK_BYTES, Chunks, Header, Identity, TAG_BYTES, UnlockError};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::Read as _;
use std::path::Path;

struct Vector {
    name: String,
    expect: String,
    payload: Option<String>,
    identities: Vec<Identity>,
    file: Vec<u8>,
}

impl Vector {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap();
        let text = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut vector = Self {
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            expect: String::new(),
            payload: None,
            identities: Vec::new(),
            file: bytes[end + 2..].to_vec(),
        };
        for line in text.lines() {
            let (key, value) = line.split_once(": ").unwrap();
            match key {
                "expect" => vector.expect = value.to_owned(),
                "payload" => vector.payload = Some(value.to_owned()),
                "identity" => vector.identities.push(value.parse().unwrap()),
                "compressed" => {
                    assert_eq!(value, "zlib");
                    let mut plain = Vec::new();
                    flate2::read::ZlibDecoder::new(&vector.file[..])
                        .read_to_end(&mut plain)
                        .unwrap();
                    vector.file = plain;
                }
                "file key" | "comment" | "passphrase" => {}
                other => panic!("{}: unknown key {other}", vector.name),
            }
        }
        vector
    }

    /// How it ends, and what of it is readable.
    fn open(&self) -> (&'static str, Vec<u8>) {
        let Ok(header) = Header::parse(&self.file) else {
            return ("header failure", Vec::new());
        };
        let chunks = match header.unlock(&self.identities) {
            Ok(chunks) => chunks,
            Err(UnlockError::NoMatch) => return ("no match", Vec::new()),
            Err(UnlockError::Stanza(_)) => return ("header failure", Vec::new()),
            Err(UnlockError::Sum) => return ("HMAC failure", Vec::new()),
        };
        let (whole, plain) = payload(chunks, &self.file[header.bytes()..]);
        let verdict = if whole { "success" } else { "payload failure" };
        (verdict, plain)
    }
}

/// Whether all of it is what was written, and what comes before the first thing that is not.
fn payload(mut chunks: Chunks, mut rest: &[u8]) -> (bool, Vec<u8>) {
    let mut plain = Vec::new();
    loop {
        let (now, behind) = rest.split_at(rest.len().min(CHUNK_BYTES + TAG_BYTES));
        let Some(length) = now.len().checked_sub(TAG_BYTES) else {
            return (false, plain);
        };
        let is_last = behind.is_empty();
        let (body, tag) = now.split_at(length);
        let mut body = body.to_vec();
        let opened = chunks.open(is_last, &mut body, tag);
        if opened.is_err() {
            // What was cut between two chunks, or has something behind its last one, is readable to there.
            if body.len() == CHUNK_BYTES && chunks.open(!is_last, &mut body, tag).is_ok() {
                plain.extend(body);
            }
            return (false, plain);
        }
        if is_last && body.is_empty() && !plain.is_empty() {
            return (false, plain);
        }
        plain.extend(body);
        if is_last {
            return (true, plain);
        }
        rest = behind;
    }
}

fn vectors() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none())
        .collect();
    paths.sort();
    paths.iter().map(|path| Vector::read(path)).collect()
}

#[test]
fn every_vector_is_what_it_is_meant_to_be() {
    let vectors = vectors();
    assert!(vectors.len() > 60, "{} vectors", vectors.len());
    for vector in vectors {
        let (verdict, plain) = vector.open();
        assert_eq!(verdict, vector.expect, "{}", vector.name);
        if let Some(payload) = &vector.payload {
            let hash: String = Sha256::digest(&plain)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(hash, *payload, "{}", vector.name);
        } else {
            assert_eq!(plain, [], "{}", vector.name);
        }
    }
}

#[test]
fn every_truncation_and_every_flipped_bit_is_noticed() {
    let all = vectors();
    let vector = all
        .iter()
        .find(|vector| vector.name == "x25519_multiple_recipients")
        .unwrap();
    let mut file = vector.file.clone();
    let tried = |file: &[u8]| {
        let changed = Vector {
            file: file.to_vec(),
            name: String::new(),
            expect: String::new(),
            payload: None,
            identities: vector.identities.clone(),
        };
        changed.open().0
    };
    assert_eq!(tried(&file), "success");
    for length in 0..file.len() {
        assert_ne!(tried(&file[..length]), "success", "{length}");
    }
    for position in 0..file.len() {
        for bit in 0..8 {
            file[position] ^= 1 << bit;
            assert_ne!(tried(&file), "success", "byte {position}, bit {bit}");
            file[position] ^= 1 << bit;
        }
    }
}
