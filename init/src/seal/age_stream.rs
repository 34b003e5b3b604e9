// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files in age's format, chunk by chunk, in memory that was taken before.
#![expect(
    clippy::result_large_err,
    reason = "a reason has no heap to lie on, and an attempt has one of them"
)]

use super::Seal;
use crate::attempt::{Reason, reason};
use crate::vmcore::VmcoreFile;
use crate::{files, log, random};
use age::{Begun, CHUNK_BYTES, Chunks, MAX_RECIPIENTS, Recipient, TAG_BYTES};
use collector::{IoError, Sink, flattened};
use config::Record;
use core::cell::RefCell;
use heapless::Vec;
use targets::ssh::Random;

/// A chunk with its tag; what follows in the memory begins on a page again.
pub const MEMORY_BYTES: usize = CHUNK_BYTES + 4096;
/// No key of the record is left out.
const _: () = assert!(config::record::MAX_KEYS == MAX_RECIPIENTS);

/// Encrypts files to the keys of a record, one file after the other.
pub struct AgeStream<'m>(RefCell<State<'m>>);

struct State<'m> {
    recipients: Vec<Recipient, MAX_RECIPIENTS>,
    random: Random,
    /// The chunk to come, and behind it the place of its tag.
    chunk: &'m mut [u8],
    used: usize,
    file: Option<OpenFile>,
    is_dump: bool,
}

/// The file that is being written.
struct OpenFile {
    chunks: Chunks,
    /// Where it ends.
    end: u64,
    /// It ends in the middle of something.
    broken: Option<IoError>,
}

/// Makes one at `place`.
///
/// # Errors
/// A key is none.
pub fn make<'p, 'm>(
    place: &'p mut Option<AgeStream<'m>>,
    record: &Record<'_>,
    vmcore: &mut VmcoreFile,
    memory: &'m mut [u8],
) -> Result<&'p dyn Seal, Reason> {
    let mut recipients = Vec::new();
    for text in &record.encrypt_to {
        let recipient = text
            .parse()
            .map_err(|error| reason(format_args!("the key {text}: {error}")))?;
        // There are as many places as the record has.
        let _ = recipients.push(recipient);
    }
    let chunk = memory
        .get_mut(..CHUNK_BYTES + TAG_BYTES)
        .ok_or_else(|| reason("the memory is too small, a defect of kdumprd"))?;
    let mut buffer = [0; 4096];
    // The key for ssh, where the image has one.
    let seed = files::read(c"/etc/kdump.key", &mut buffer).unwrap_or(&[]);
    let random = random::gather(seed, vmcore);
    log!(
        "what is saved is encrypted to {} key{}",
        recipients.len(),
        if recipients.len() == 1 { "" } else { "s" }
    );
    Ok(place.insert(AgeStream::new(recipients, random, chunk)))
}

impl<'m> AgeStream<'m> {
    fn new(
        recipients: Vec<Recipient, MAX_RECIPIENTS>,
        random: Random,
        chunk: &'m mut [u8],
    ) -> Self {
        Self(RefCell::new(State {
            recipients,
            random,
            chunk,
            used: 0,
            file: None,
            is_dump: false,
        }))
    }
}

impl Seal for AgeStream<'_> {
    fn begin(&self, is_dump: bool) {
        if let Ok(mut state) = self.0.try_borrow_mut() {
            (state.used, state.file, state.is_dump) = (0, None, is_dump);
        }
    }

    fn write_at(&self, file: &mut dyn Sink, offset: u64, data: &[u8]) -> Result<(), IoError> {
        let mut state = self.0.try_borrow_mut().map_err(|_| IoError::INVALID)?;
        if state.is_dump && !data.is_empty() {
            let record = flattened::record(offset, data.len())?;
            state.begin_dump(file)?;
            state.append(file, &record)?;
        }
        state.append(file, data)
    }

    fn finish(&self, file: &mut dyn Sink, is_whole: bool) -> Result<(), IoError> {
        let mut state = self.0.try_borrow_mut().map_err(|_| IoError::INVALID)?;
        if state.is_dump && is_whole {
            state.begin_dump(file)?;
            state.append(file, &flattened::END_MARK)?;
        }
        state.seal_chunk(file, true)
    }
}

impl State<'_> {
    /// A flattened dump has a front of its own.
    fn begin_dump(&mut self, file: &mut dyn Sink) -> Result<(), IoError> {
        match self.file {
            Some(_) => Ok(()),
            None => self.append(file, &flattened::header()),
        }
    }

    /// The file, with its header written.
    fn open(&mut self, file: &mut dyn Sink) -> Result<&mut OpenFile, IoError> {
        if self.file.is_none() {
            let random = &mut self.random;
            let Begun { front, chunks } =
                Begun::new(&self.recipients, &mut || random.draw()).ok_or(IoError::INVALID)?;
            let mut begun = OpenFile {
                chunks,
                end: 0,
                broken: None,
            };
            let written = begun.put(file, &front);
            self.file = Some(begun);
            written?;
        }
        self.file.as_mut().ok_or(IoError::INVALID)
    }

    fn append(&mut self, file: &mut dyn Sink, mut data: &[u8]) -> Result<(), IoError> {
        self.open(file)?;
        while !data.is_empty() {
            // Only what more follows is known not to be the last chunk.
            if self.used == CHUNK_BYTES {
                self.seal_chunk(file, false)?;
            }
            let room = self
                .chunk
                .get_mut(self.used..CHUNK_BYTES)
                .unwrap_or_default();
            let (now, rest) = data.split_at(room.len().min(data.len()));
            if let Some(place) = room.get_mut(..now.len()) {
                place.copy_from_slice(now);
            }
            self.used += now.len();
            data = rest;
        }
        Ok(())
    }

    /// Writes what is in the chunk, with its tag.
    fn seal_chunk(&mut self, file: &mut dyn Sink, is_last: bool) -> Result<(), IoError> {
        let used = self.used;
        self.open(file)?;
        let (Some(open), Some(chunk)) = (&mut self.file, self.chunk.get_mut(..used + TAG_BYTES))
        else {
            return Err(IoError::INVALID);
        };
        if let Some(error) = open.broken {
            return Err(error);
        }
        let (body, tag) = chunk.split_at_mut(used);
        let made = open.chunks.seal(is_last, body);
        tag.copy_from_slice(&made.map_err(|_| IoError::INVALID)?);
        self.used = 0;
        open.put(file, chunk)
    }
}

impl OpenFile {
    /// Adds bytes at its end. After an error nothing more is added: what is encrypted once is not encrypted again by the same
    /// number.
    fn put(&mut self, file: &mut dyn Sink, bytes: &[u8]) -> Result<(), IoError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        file.write_at(self.end, bytes)
            .inspect_err(|error| self.broken = Some(*error))?;
        self.end = self
            .end
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use age::{Header, Identity};

    /// A file with room for so many bytes.
    struct Disk(std::vec::Vec<u8>, usize);

    impl Sink for Disk {
        fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
            assert_eq!(
                offset,
                self.0.len() as u64,
                "it goes from its front to its end"
            );
            let room = self.1 - self.0.len();
            self.0.extend(&data[..data.len().min(room)]);
            if data.len() > room {
                return Err(IoError::NO_SPACE);
            }
            Ok(())
        }

        fn sync(&mut self) -> Result<(), IoError> {
            Ok(())
        }
    }

    fn identity() -> Identity {
        "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0"
            .parse()
            .unwrap()
    }

    fn stream(chunk: &mut [u8]) -> AgeStream<'_> {
        let recipients = Vec::from_slice(&[identity().recipient()]).unwrap();
        AgeStream::new(recipients, Random::gather(b"", None), chunk)
    }

    /// What is readable, and whether it ends as it should.
    fn opened(file: &[u8]) -> (std::vec::Vec<u8>, bool) {
        let header = Header::parse(file).unwrap();
        let mut chunks = header.unlock(&[identity()]).unwrap();
        let mut plain = vec![];
        let mut pieces = file[header.bytes()..]
            .chunks(CHUNK_BYTES + TAG_BYTES)
            .peekable();
        while let Some(piece) = pieces.next() {
            let (body, tag) = piece.split_at(piece.len().saturating_sub(TAG_BYTES));
            let mut body = body.to_vec();
            let is_last = pieces.peek().is_none();
            if chunks.open(is_last, &mut body, tag).is_err() {
                if chunks.open(false, &mut body, tag).is_ok() {
                    plain.extend(body);
                }
                return (plain, false);
            }
            plain.extend(body);
        }
        (plain, true)
    }

    #[test]
    fn every_length_around_a_chunk_is_readable_and_nothing_shows() {
        let mut chunk = vec![0; MEMORY_BYTES];
        let stream = stream(&mut chunk);
        let lengths = [
            0,
            1,
            CHUNK_BYTES - 1,
            CHUNK_BYTES,
            CHUNK_BYTES + 1,
            3 * CHUNK_BYTES,
        ];
        for length in lengths {
            let text = b"a password of the crashed machine ".repeat(length / 34 + 1);
            let text = &text[..length];
            for piece in [1000, 70_000] {
                let mut disk = Disk(vec![], usize::MAX);
                stream.begin(false);
                let mut at = 0;
                for piece in text.chunks(piece) {
                    stream.write_at(&mut disk, at, piece).unwrap();
                    at += piece.len() as u64;
                }
                stream.finish(&mut disk, true).unwrap();
                assert!(opened(&disk.0) == (text.to_vec(), true), "{length}");
                let shows = disk.0.windows(8).any(|window| window == b"password");
                assert!(!shows, "{length}");
            }
        }
    }

    #[test]
    fn a_dump_is_flattened_in_it_and_ends_with_a_mark_when_it_is_whole() {
        let mut chunk = vec![0; MEMORY_BYTES];
        let stream = stream(&mut chunk);
        for is_whole in [true, false] {
            let mut disk = Disk(vec![], usize::MAX);
            stream.begin(true);
            stream.write_at(&mut disk, 1 << 40, b"page").unwrap();
            stream.write_at(&mut disk, 0, b"KDUMP   ").unwrap();
            stream.finish(&mut disk, is_whole).unwrap();
            let mut expected = flattened::header().to_vec();
            for (at, data) in [(1 << 40, &b"page"[..]), (0, b"KDUMP   ")] {
                expected.extend(flattened::record(at, data.len()).unwrap());
                expected.extend(data);
            }
            if is_whole {
                expected.extend(flattened::END_MARK);
            }
            assert_eq!(opened(&disk.0), (expected, true));
        }
    }

    #[test]
    fn a_full_target_keeps_every_whole_chunk_and_nothing_is_encrypted_twice() {
        let mut chunk = vec![0; MEMORY_BYTES];
        let stream = stream(&mut chunk);
        let text = vec![7; CHUNK_BYTES];
        // Room for the front, two chunks, and half of another.
        let mut disk = Disk(
            vec![],
            200 + 2 * (CHUNK_BYTES + TAG_BYTES) + CHUNK_BYTES / 2,
        );
        stream.begin(false);
        let mut result = Ok(());
        while result.is_ok() {
            result = stream.write_at(&mut disk, 0, &text);
        }
        assert_eq!(result, Err(IoError::NO_SPACE));
        let length = disk.0.len();
        disk.1 = usize::MAX;
        assert_eq!(stream.finish(&mut disk, false), Err(IoError::NO_SPACE));
        assert_eq!(stream.write_at(&mut disk, 0, &text).err(), None);
        assert_eq!(stream.write_at(&mut disk, 0, &text), Err(IoError::NO_SPACE));
        assert_eq!(disk.0.len(), length);
        let (plain, whole) = opened(&disk.0);
        assert!(!whole && plain == [7; CHUNK_BYTES].repeat(2));
    }

    #[test]
    fn two_files_of_the_same_have_nothing_in_common_but_the_first_words() {
        let mut chunk = vec![0; MEMORY_BYTES];
        let stream = stream(&mut chunk);
        let files = [(); 2].map(|()| {
            let mut disk = Disk(vec![], usize::MAX);
            stream.begin(false);
            stream.write_at(&mut disk, 0, &[7; 300]).unwrap();
            stream.finish(&mut disk, true).unwrap();
            disk.0
        });
        let shared = age::SIGNATURE.len() + "-> X25519 ".len();
        assert_eq!(files[0][..shared], files[1][..shared]);
        let same = files[0][shared..]
            .windows(8)
            .filter(|window| files[1].windows(8).any(|other| other == *window));
        assert_eq!(same.count(), 0);
    }
}
