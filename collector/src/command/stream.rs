// SPDX-License-Identifier: MIT OR Apache-2.0
//! A flattened file read at any place: where each of its bytes belongs is found once, when it is opened.

use std::collections::BTreeMap;

use collector::flattened::{
    HEADER_BYTES, RECORD_BYTES, Record, StreamError, check_header, parse_record,
};
use collector::{IoError, Source};

/// The most records that are kept: makedumpfile's are 64 KiB long, ours longer, so that they are a dump of 4 TiB.
const MAX_RECORDS: usize = 1 << 26;

/// The file that a flattened file stands for.
#[derive(Debug)]
pub(crate) struct Stream<S> {
    file: S,
    /// Where pieces of the dump begin, how long they are, and where they are in the flattened file. No two overlap.
    pieces: BTreeMap<u64, (u64, u64)>,
    complete: bool,
}

impl<S: Source> Stream<S> {
    /// Reads what is between the data of all records.
    pub(crate) fn open(mut file: S) -> Result<Self, String> {
        let mut header = [0; 32];
        file.read_at(0, &mut header)
            .map_err(|error| error.to_string())?;
        check_header(&header).map_err(|error| error.to_string())?;
        let mut stream = Self {
            file,
            pieces: BTreeMap::new(),
            complete: false,
        };
        let mut at = HEADER_BYTES as u64;
        let mut record = [0; RECORD_BYTES];
        // A stream without its end was cut short; what there is of it is read.
        while stream.file.read_at(at, &mut record).is_ok() {
            at += RECORD_BYTES as u64;
            match parse_record(&record) {
                Ok(Record::End) => {
                    stream.complete = true;
                    break;
                }
                Ok(Record::Data { offset, bytes }) => {
                    let there = bytes.min(stream.file.size_bytes().saturating_sub(at));
                    if there > 0 {
                        stream.put(offset, there, at);
                    }
                    if there < bytes {
                        break;
                    }
                    at += bytes;
                }
                Err(error @ StreamError::Record(..)) if stream.pieces.is_empty() => {
                    return Err(error.to_string());
                }
                Err(_) => break,
            }
            if stream.pieces.len() > MAX_RECORDS {
                return Err(format!(
                    "the flattened dump has more than {MAX_RECORDS} records; `-R` turns it back"
                ));
            }
        }
        Ok(stream)
    }

    /// Whether the stream has its end mark.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// A piece is at this place from now on, over what was there before.
    fn put(&mut self, start: u64, bytes: u64, at: u64) {
        let end = start.saturating_add(bytes);
        let before = self.pieces.range(..start).next_back();
        if let Some((&old, &(old_bytes, old_at))) = before
            && old + old_bytes > start
        {
            self.pieces.insert(old, (start - old, old_at));
            if old + old_bytes > end {
                let skip = end - old;
                self.pieces.insert(end, (old_bytes - skip, old_at + skip));
            }
        }
        while let Some((&old, &(old_bytes, old_at))) = self.pieces.range(start..end).next() {
            self.pieces.remove(&old);
            if old + old_bytes > end {
                let skip = end - old;
                self.pieces.insert(end, (old_bytes - skip, old_at + skip));
            }
        }
        self.pieces.insert(start, (bytes, at));
    }
}

impl<S: Source> Source for Stream<S> {
    fn size_bytes(&self) -> u64 {
        let last = self.pieces.last_key_value();
        last.map_or(0, |(start, (bytes, _))| start + bytes)
    }

    fn read_at(&mut self, mut offset: u64, mut buf: &mut [u8]) -> Result<(), IoError> {
        if offset.saturating_add(buf.len() as u64) > self.size_bytes() {
            return Err(IoError::END);
        }
        while !buf.is_empty() {
            let here = self.pieces.range(..=offset).next_back();
            let inside = here.filter(|(start, (bytes, _))| *start + *bytes > offset);
            let length = match inside {
                Some((start, (bytes, at))) => {
                    let skip = offset - start;
                    let length = buf
                        .len()
                        .min(usize::try_from(bytes - skip).unwrap_or(usize::MAX));
                    self.file.read_at(at + skip, &mut buf[..length])?;
                    length
                }
                None => {
                    // What is in no record is zeros, up to the next one.
                    let next = self.pieces.range(offset..).next();
                    let gap = next.map_or(u64::MAX, |(start, _)| start - offset);
                    let length = buf.len().min(usize::try_from(gap).unwrap_or(usize::MAX));
                    buf[..length].fill(0);
                    length
                }
            };
            offset += length as u64;
            buf = &mut buf[length..];
        }
        Ok(())
    }
}
