// SPDX-License-Identifier: MIT OR Apache-2.0
//! `decrypt -i IDENTITY FILE OUT`: an encrypted file of a dump, made readable, whole or as far as it goes.
//!
//! Nothing is written that was not proved to be what the writer wrote. A chunk that is damaged becomes zeros, and what is
//! behind it is read on; a file that was cut gives all of its whole chunks.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::Path;

use age::{CHUNK_BYTES, Chunks, Header, HeaderError, Identity, MAX_HEADER_BYTES, TAG_BYTES};
use collector::flattened::is_stream;

use super::Failure;
use super::messages::say;
use super::output::create;
use super::rearrange;

/// What is wrong with an encrypted file behind its header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Chunks that are not what was written, counted from 0: the first, and how many.
    damaged: Option<(u64, u64)>,
    /// It does not end with a last chunk: how many bytes behind the last whole one nobody can read.
    cut: Option<usize>,
    /// There is something behind the last chunk.
    behind: bool,
}

/// `-i IDENTITY FILE OUT`.
pub(crate) fn decrypt(identity: &Path, path: &Path, out: &Path) -> Result<(), Failure> {
    let in_path = |path: &Path, why: &dyn std::fmt::Display| {
        Failure::from(format!("{}: {why}", path.display()))
    };
    let identities = identities(identity)?;
    let mut file = File::open(path).map_err(|error| in_path(path, &error))?;
    let mut plain = Plain::open(&mut file, &identities).map_err(|why| in_path(path, &why))?;
    let mut start = vec![0; CHUNK_BYTES];
    let got = plain
        .fill(&mut start)
        .map_err(|error| in_path(path, &error))?;
    start.truncate(got);
    let is_dump = is_stream(&start);
    let mut input = io::Cursor::new(start).chain(&mut plain);
    if is_dump {
        rearrange::check_start(&mut input, path)?;
    }
    let mut written = create(out, false)?;
    let dumped = if is_dump {
        rearrange::put_together(&mut input, &mut written, out)
    } else {
        io::copy(&mut input, &mut written)
            .and_then(|bytes| written.flush().map(|()| bytes))
            .and_then(|bytes| written.sync_all().map(|()| bytes))
            .map_err(|error| in_path(out, &error))
    };
    // What is behind the place where the dump ended counts as well.
    let rest = io::copy(&mut plain, &mut io::sink());
    match (plain.wrong.told(), dumped, rest) {
        (_, _, Err(error)) => Err(in_path(path, &error)),
        (None, Ok(bytes), _) => {
            say!("{}: {bytes} bytes", out.display());
            Ok(())
        }
        (None, Err(failure), _) => Err(failure),
        (Some(wrong), Ok(bytes), _) => Err(in_path(
            path,
            &format!("{wrong}; {} has {bytes} bytes", out.display()),
        )),
        (Some(wrong), Err(failure), _) => {
            Err(in_path(path, &format!("{wrong}; {}", failure.message)))
        }
    }
}

/// The secret keys in a file as `age-keygen` writes it: one in a line, and comments.
fn identities(path: &Path) -> Result<Vec<Identity>, Failure> {
    let failed = |why: String| Failure::from(format!("the key file {}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let mut identities = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let identity = line.parse().map_err(|error| {
            failed(format!(
                "line {number}: {error}; accepted is a secret key of age, AGE-SECRET-KEY-1…"
            ))
        })?;
        identities.push(identity);
    }
    if identities.is_empty() {
        return Err(failed("there is no key in it".to_owned()));
    }
    Ok(identities)
}

/// What is in an encrypted file.
pub(crate) struct Plain<R> {
    file: R,
    chunks: Chunks,
    /// The chunk that was read ahead: whether one is the last is known from what follows.
    ahead: Vec<u8>,
    /// What was opened, and how much of it was given.
    opened: Vec<u8>,
    given: usize,
    number: u64,
    ended: bool,
    wrong: Wrong,
}

impl<R: Read> Plain<R> {
    /// Reads the header, and unlocks it.
    fn open(mut file: R, identities: &[Identity]) -> Result<Self, String> {
        let mut front = vec![0; MAX_HEADER_BYTES];
        let got = read_most(&mut file, &mut front).map_err(|error| error.to_string())?;
        front.truncate(got);
        let header = Header::parse(&front).map_err(|error| match error {
            HeaderError::Cut if got == MAX_HEADER_BYTES => "its header has no end".to_owned(),
            error => error.to_string(),
        })?;
        let chunks = header
            .unlock(identities)
            .map_err(|error| error.to_string())?;
        let mut plain = Self {
            file,
            chunks,
            ahead: front.split_off(header.bytes()),
            opened: Vec::new(),
            given: 0,
            number: 0,
            ended: false,
            wrong: Wrong::default(),
        };
        plain.read_ahead().map_err(|error| error.to_string())?;
        Ok(plain)
    }

    /// Fills what is ahead to one chunk and a byte behind it.
    fn read_ahead(&mut self) -> io::Result<()> {
        let had = self.ahead.len();
        self.ahead.resize((CHUNK_BYTES + TAG_BYTES + 1).max(had), 0);
        let got = read_most(&mut self.file, &mut self.ahead[had..])?;
        self.ahead.truncate(had + got);
        Ok(())
    }

    /// Opens the next chunk.
    fn next_chunk(&mut self) -> io::Result<()> {
        let length = self.ahead.len().min(CHUNK_BYTES + TAG_BYTES);
        let behind = self.ahead.split_off(length);
        let mut chunk = std::mem::replace(&mut self.ahead, behind);
        self.read_ahead()?;
        self.ended = self.ahead.is_empty();
        self.given = 0;
        let Some(body_bytes) = chunk.len().checked_sub(TAG_BYTES) else {
            self.wrong.cut = Some(chunk.len());
            self.opened.clear();
            return Ok(());
        };
        let tag = chunk.split_off(body_bytes);
        let is_full = body_bytes == CHUNK_BYTES;
        if self.chunks.open(self.ended, &mut chunk, &tag).is_ok() {
            self.opened = chunk;
        } else if is_full && self.chunks.open(!self.ended, &mut chunk, &tag).is_ok() {
            self.opened = chunk;
            if self.ended {
                self.wrong.cut = Some(0);
            } else {
                // Nobody wrote what is behind the last chunk.
                (self.wrong.behind, self.ended) = (true, true);
            }
        } else if self.ended && !is_full {
            // A chunk that was cut, or a short last one that is damaged: nobody can tell.
            self.wrong.cut = Some(body_bytes + TAG_BYTES);
            self.opened.clear();
        } else {
            self.chunks.pass();
            let (first, count) = self.wrong.damaged.unwrap_or((self.number, 0));
            self.wrong.damaged = Some((first, count + 1));
            chunk.fill(0);
            self.opened = chunk;
        }
        self.number += 1;
        Ok(())
    }

    /// Fills `buf`, as far as there is something.
    fn fill(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_most(self, buf)
    }
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.given == self.opened.len() {
            if self.ended {
                return Ok(0);
            }
            self.next_chunk()?;
        }
        let now = buf.len().min(self.opened.len() - self.given);
        buf[..now].copy_from_slice(&self.opened[self.given..self.given + now]);
        self.given += now;
        Ok(now)
    }
}

impl Wrong {
    /// What to tell of it; none where the file is what was written.
    fn told(&self) -> Option<String> {
        let mut parts = Vec::new();
        if let Some((first, count)) = self.damaged {
            let chunk = (CHUNK_BYTES + TAG_BYTES) as u64;
            parts.push(format!(
                "damaged: {count} of its pieces of 64 KiB are not what was written, from byte {} behind the header on, and are zeros",
                first * chunk
            ));
        }
        if let Some(lost) = self.cut {
            parts.push(format!(
                "cut short: it does not end where it was to end, and its last {lost} bytes are of a piece that is not whole"
            ));
        }
        if self.behind {
            parts.push("there is something behind its end, which is left out".to_owned());
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// Fills `buf`, as far as there is something.
fn read_most(file: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buf.len() {
        match file.read(&mut buf[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use age::Begun;

    const KEY: &str = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0";

    fn identity() -> Identity {
        KEY.parse().unwrap()
    }

    /// A file of this plain text, and how long its header is.
    fn encrypted(plain: &[u8]) -> (Vec<u8>, usize) {
        let mut number = 0;
        let begun = Begun::new(&[identity().recipient()], &mut || {
            number += 1;
            [number; 32]
        })
        .unwrap();
        let mut file = begun.front.to_vec();
        let mut chunks = begun.chunks;
        let mut pieces = plain.chunks(CHUNK_BYTES).peekable();
        loop {
            let mut piece = pieces.next().unwrap_or_default().to_vec();
            let is_last = pieces.peek().is_none();
            let tag = chunks.seal(is_last, &mut piece).unwrap();
            file.extend(piece);
            file.extend(tag);
            if is_last {
                return (file, begun.front.len());
            }
        }
    }

    fn opened(file: &[u8]) -> Result<(Vec<u8>, Wrong), String> {
        let mut plain = Plain::open(file, &[identity()])?;
        let mut text = Vec::new();
        plain.read_to_end(&mut text).unwrap();
        Ok((text, plain.wrong))
    }

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index % 251) as u8).collect()
    }

    #[test]
    fn every_length_around_a_chunk_goes_there_and_back() {
        for length in [
            0,
            1,
            CHUNK_BYTES - 1,
            CHUNK_BYTES,
            CHUNK_BYTES + 1,
            5 * CHUNK_BYTES,
        ] {
            let (file, _) = encrypted(&text(length));
            assert!(
                opened(&file) == Ok((text(length), Wrong::default())),
                "{length}"
            );
        }
    }

    #[test]
    fn what_was_cut_gives_every_whole_chunk() {
        let whole = text(2 * CHUNK_BYTES + 500);
        let (file, header) = encrypted(&whole);
        let chunk = CHUNK_BYTES + TAG_BYTES;
        for (length, kept, lost) in [
            (0, 0, 0),
            (5, 0, 5),
            (chunk, CHUNK_BYTES, 0),
            (chunk + 15, CHUNK_BYTES, 15),
            (2 * chunk, 2 * CHUNK_BYTES, 0),
            (2 * chunk + 515, 2 * CHUNK_BYTES, 515),
        ] {
            let (plain, wrong) = opened(&file[..header + length]).unwrap();
            assert!(plain == whole[..kept], "{length}");
            assert_eq!(wrong.cut, Some(lost), "{length}");
            assert!(wrong.told().unwrap().contains("cut short"));
        }
        for length in 0..header {
            assert!(opened(&file[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_damaged_chunk_is_zeros_and_what_is_behind_it_is_read() {
        let whole = text(3 * CHUNK_BYTES + 500);
        let (mut file, header) = encrypted(&whole);
        file[header + CHUNK_BYTES + TAG_BYTES + 9] ^= 1;
        let (plain, wrong) = opened(&file).unwrap();
        assert_eq!(wrong.damaged, Some((1, 1)));
        assert!(plain[..CHUNK_BYTES] == whole[..CHUNK_BYTES]);
        assert!(
            plain[CHUNK_BYTES..2 * CHUNK_BYTES]
                .iter()
                .all(|&byte| byte == 0)
        );
        assert!(plain[2 * CHUNK_BYTES..] == whole[2 * CHUNK_BYTES..]);
        assert!(
            wrong
                .told()
                .unwrap()
                .contains("from byte 65552 behind the header")
        );
    }

    #[test]
    fn what_is_behind_the_end_is_left_out_and_told() {
        let whole = text(CHUNK_BYTES);
        let (mut file, _) = encrypted(&whole);
        file.extend([0; 100]);
        let (plain, wrong) = opened(&file).unwrap();
        assert!(plain == whole && wrong.behind);
    }

    #[test]
    fn every_flipped_bit_of_a_short_file_is_noticed() {
        let (file, _) = encrypted(b"Kernel panic");
        for position in 0..file.len() {
            for bit in 0..8 {
                let mut file = file.clone();
                file[position] ^= 1 << bit;
                let noticed = match opened(&file) {
                    Ok((plain, wrong)) => plain.is_empty() && wrong.cut.is_some(),
                    Err(_) => true,
                };
                assert!(noticed, "byte {position}, bit {bit}");
            }
        }
    }

    #[test]
    fn another_key_and_other_files_are_named() {
        let (file, _) = encrypted(b"x");
        let other: Identity =
            "AGE-SECRET-KEY-143WN7DCXU4G8R5AXQSSYD9AEPYDNT3HXSLWSPK36CDU6E8M59SSSAGZ3KG"
                .parse()
                .unwrap();
        let said = |file: &[u8], identity: &Identity| {
            Plain::open(file, std::slice::from_ref(identity))
                .err()
                .unwrap()
        };
        assert_eq!(
            said(&file, &other),
            "it is encrypted to another key than this one"
        );
        assert!(said(b"KDUMP   ", &other).starts_with("not an encrypted file"));
        let armoured = b"-----BEGIN AGE ENCRYPTED FILE-----\n";
        assert!(said(armoured, &other).contains("`age -d` reads it"));
    }
}
