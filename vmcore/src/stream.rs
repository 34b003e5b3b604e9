// SPDX-License-Identifier: MIT OR Apache-2.0
//! A flattened file read at any place: where each of its bytes belongs is found once, when it is opened.

use std::collections::BTreeMap;

use collector::flattened::{
    HEADER_BYTES, RECORD_BYTES, Record, StreamError, check_header, parse_record,
};
use collector::{IoError, Source};

/// The most records that are kept: makedumpfile's are 64 KiB long, ours longer, so that they are a dump of 4 TiB.
const MAX_RECORDS: usize = 1 << 26;

/// No page is longer than this, and none that has a byte in a record begins or ends within a [`hole`](Source::hole).
const MAX_PAGE_BYTES: u64 = 1 << 16;
/// Shorter gaps between records are zeros like the others, and not worth looking for.
const HOLE_BYTES: u64 = 1 << 20;

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

    /// A long gap between records: nobody wrote what belongs there, so that to go through its pages would take a time that has
    /// nothing to do with the length of the file.
    fn hole(&mut self, offset: u64, end: u64) -> Option<(u64, u64)> {
        let before = self.pieces.range(..=offset).next_back();
        let mut from = before.map_or(0, |(start, (bytes, _))| start + bytes);
        for (&start, &(bytes, _)) in self.pieces.range(offset.saturating_add(1)..) {
            if from >= end {
                break;
            }
            if start - from >= HOLE_BYTES {
                let hole = (from + MAX_PAGE_BYTES).max(offset);
                let hole_end = (start - MAX_PAGE_BYTES).min(end);
                if hole < hole_end {
                    return Some((hole, hole_end));
                }
            }
            from = start + bytes;
        }
        None
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes(Vec<u8>);

    impl Source for Bytes {
        fn size_bytes(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
            let start = usize::try_from(offset).map_err(|_| IoError::END)?;
            let bytes = self.0.get(start..).and_then(|rest| rest.get(..buf.len()));
            buf.copy_from_slice(bytes.ok_or(IoError::END)?);
            Ok(())
        }
    }

    /// A flattened file with records of one byte each at these places.
    fn stream(offsets: &[u64]) -> Stream<Bytes> {
        let mut bytes = b"makedumpfile".to_vec();
        bytes.resize(16, 0);
        bytes.extend([1_u64.to_be_bytes(), 1_u64.to_be_bytes()].concat());
        bytes.resize(HEADER_BYTES, 0);
        for offset in offsets {
            bytes.extend([offset.to_be_bytes(), 1_u64.to_be_bytes()].concat());
            bytes.push(7);
        }
        bytes.extend([0xff; RECORD_BYTES]);
        Stream::open(Bytes(bytes)).unwrap()
    }

    #[test]
    fn long_gaps_are_holes_and_short_ones_zeros() {
        let far = 1 << 40;
        let mut stream = stream(&[0, HOLE_BYTES, far, far + 2 * HOLE_BYTES]);
        assert!(stream.is_complete());
        assert_eq!(stream.size_bytes(), far + 2 * HOLE_BYTES + 1);
        let first = (HOLE_BYTES + 1 + MAX_PAGE_BYTES, far - MAX_PAGE_BYTES);
        for offset in [0, 5, HOLE_BYTES, HOLE_BYTES + 9] {
            assert_eq!(stream.hole(offset, u64::MAX), Some(first), "{offset}");
        }
        // Part of one, up to an end and from within it.
        assert_eq!(stream.hole(0, 1 << 30), Some((first.0, 1 << 30)));
        assert_eq!(stream.hole(1 << 30, 1 << 31), Some((1 << 30, 1 << 31)));
        let second = (
            far + 1 + MAX_PAGE_BYTES,
            far + 2 * HOLE_BYTES - MAX_PAGE_BYTES,
        );
        assert_eq!(stream.hole(far - 9, u64::MAX), Some(second));
        assert_eq!(stream.hole(0, HOLE_BYTES), None);
        assert_eq!(stream.hole(far + 2 * HOLE_BYTES, u64::MAX), None);
        let mut byte = [1];
        stream.read_at(1 << 30, &mut byte).unwrap();
        assert_eq!(byte, [0]);
    }
}
