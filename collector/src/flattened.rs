// SPDX-License-Identifier: MIT OR Apache-2.0
//! makedumpfile's `-F` stream: positioned writes as records that can be appended to a pipe, and put back later.
//!
//! ```text
//! first 4096 bytes   "makedumpfile", padded to 16 bytes; type 1 and version 1, 64-bit and big-endian; zeros
//! then records       where in the file (64-bit, big-endian), how many bytes, the bytes
//! at the end         a record of -1 and -1
//! ```
//!
//! Source: `struct makedumpfile_header`, `struct makedumpfile_data_header` in makedumpfile 1.7.9 `makedumpfile.h`.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

use core::fmt;

use crate::io::{IoError, Sink};

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 4096;
/// Bytes of a record before its data.
pub const RECORD_BYTES: usize = 16;
/// What a stream begins with.
pub const SIGNATURE: [u8; 16] = *b"makedumpfile\0\0\0\0";

/// Both numbers of the end mark.
const END: i64 = -1;
/// The record that ends a stream.
pub const END_MARK: [u8; RECORD_BYTES] = [0xff; RECORD_BYTES];

/// What only takes more bytes at its end: a pipe, an ssh channel.
pub trait Append {
    /// Adds all of `data`.
    ///
    /// # Errors
    /// What the device said. The end of the stream is undefined then, and nothing more is added.
    fn append(&mut self, data: &[u8]) -> Result<(), IoError>;

    /// Returns when all that was added is where it is to go, as far as that can be known.
    ///
    /// # Errors
    /// What the device said.
    fn sync(&mut self) -> Result<(), IoError>;
}

impl<A: Append + ?Sized> Append for &mut A {
    fn append(&mut self, data: &[u8]) -> Result<(), IoError> {
        (**self).append(data)
    }

    fn sync(&mut self) -> Result<(), IoError> {
        (**self).sync()
    }
}

/// A sink whose writes become the records of a stream.
///
/// ```
/// # use collector::{IoError, Sink, flattened::{Append, Flattened}};
/// # struct Pipe(Vec<u8>);
/// # impl Append for Pipe {
/// #     fn append(&mut self, data: &[u8]) -> Result<(), IoError> { self.0.extend(data); Ok(()) }
/// #     fn sync(&mut self) -> Result<(), IoError> { Ok(()) }
/// # }
/// let mut sink = Flattened::new(Pipe(Vec::new()));
/// sink.write_at(0x1000, b"page").unwrap();
/// sink.finish().unwrap();
/// assert_eq!(sink.into_inner().0.len(), 4096 + 16 + 4 + 16);
/// ```
#[derive(Debug)]
pub struct Flattened<A> {
    out: A,
    begun: bool,
    /// The stream ends in the middle of something.
    broken: Option<IoError>,
    bytes: u64,
}

impl<A: Append> Flattened<A> {
    /// A stream that has not begun: its header goes out with the first write.
    pub const fn new(out: A) -> Self {
        Self {
            out,
            begun: false,
            broken: None,
            bytes: 0,
        }
    }

    /// Ends the stream. Without this, what reads it takes it for one that was cut short.
    ///
    /// # Errors
    /// What the device said, also about earlier writes.
    pub fn finish(&mut self) -> Result<(), IoError> {
        self.begin()?;
        self.append(&END_MARK)?;
        self.out.sync()
    }

    /// Bytes of the stream so far.
    #[must_use]
    pub const fn stream_bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the device back.
    pub fn into_inner(self) -> A {
        self.out
    }

    fn begin(&mut self) -> Result<(), IoError> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        self.append(&header())
    }

    fn append(&mut self, data: &[u8]) -> Result<(), IoError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        if let Err(error) = self.out.append(data) {
            self.broken = Some(error);
            return Err(error);
        }
        let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }
}

impl<A: Append> Sink for Flattened<A> {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        if data.is_empty() {
            return Ok(());
        }
        let record = record(offset, data.len())?;
        self.begin()?;
        self.append(&record)?;
        self.append(data)
    }

    fn sync(&mut self) -> Result<(), IoError> {
        match self.broken {
            Some(error) => Err(error),
            None => self.out.sync(),
        }
    }

    fn is_stream(&self) -> bool {
        true
    }
}

/// What stands before the first record.
#[must_use]
pub fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let one = 1_i64.to_be_bytes();
    let fields = SIGNATURE.into_iter().chain(one).chain(one);
    for (place, byte) in header.iter_mut().zip(fields) {
        *place = byte;
    }
    header
}

/// What stands before `bytes` bytes of data that belong at `offset`.
///
/// # Errors
/// [`IoError::INVALID`] where the format has no room for such numbers.
pub fn record(offset: u64, bytes: usize) -> Result<[u8; RECORD_BYTES], IoError> {
    let numbers = i64::try_from(offset)
        .ok()
        .zip(i64::try_from(bytes).ok())
        .filter(|(offset, bytes)| offset.checked_add(*bytes).is_some());
    let (offset, bytes) = numbers.ok_or(IoError::INVALID)?;
    let mut record = [0; RECORD_BYTES];
    for (half, number) in record
        .as_chunks_mut::<8>()
        .0
        .iter_mut()
        .zip([offset, bytes])
    {
        *half = number.to_be_bytes();
    }
    Ok(record)
}

/// What stands between two pieces of data in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Bytes of the file follow.
    Data {
        /// Where they belong.
        offset: u64,
        /// How many they are; at least one, and they end below 2^63.
        bytes: u64,
    },
    /// The stream is complete.
    End,
}

/// Why bytes are no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamError {
    /// They do not begin with [`SIGNATURE`].
    Signature,
    /// Of a type or version that we do not know.
    Version(i64, i64),
    /// A record whose place or length cannot be.
    Record(i64, i64),
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature => {
                f.write_str("not a flattened dump: it does not begin with \"makedumpfile\"")
            }
            Self::Version(kind, version) => write!(
                f,
                "a flattened dump of type {kind}, version {version}; only type 1, version 1 is known"
            ),
            Self::Record(offset, bytes) => write!(
                f,
                "the flattened dump is damaged: a record for {bytes} bytes at byte {offset}"
            ),
        }
    }
}

impl core::error::Error for StreamError {}

/// Whether a file that begins with these bytes is a stream.
#[must_use]
pub fn is_stream(bytes: &[u8]) -> bool {
    bytes.starts_with(&SIGNATURE)
}

/// Checks what a stream begins with: the first 32 of its [`HEADER_BYTES`].
///
/// # Errors
/// [`StreamError::Signature`], [`StreamError::Version`].
pub fn check_header(bytes: &[u8; 32]) -> Result<(), StreamError> {
    if !is_stream(bytes) {
        return Err(StreamError::Signature);
    }
    match numbers(bytes.last_chunk().unwrap_or(&[0; RECORD_BYTES])) {
        (1, 1) => Ok(()),
        (kind, version) => Err(StreamError::Version(kind, version)),
    }
}

/// Reads what stands before a record's data.
///
/// # Errors
/// [`StreamError::Record`].
pub fn parse_record(bytes: &[u8; RECORD_BYTES]) -> Result<Record, StreamError> {
    let (offset, length) = numbers(bytes);
    if (offset, length) == (END, END) {
        return Ok(Record::End);
    }
    match (u64::try_from(offset), u64::try_from(length)) {
        (Ok(place), Ok(bytes)) if bytes > 0 && offset.checked_add(length).is_some() => {
            Ok(Record::Data {
                offset: place,
                bytes,
            })
        }
        _ => Err(StreamError::Record(offset, length)),
    }
}

fn numbers(bytes: &[u8; RECORD_BYTES]) -> (i64, i64) {
    let mut halves = bytes.as_chunks::<8>().0.iter();
    let mut next = || halves.next().map_or(0, |half| i64::from_be_bytes(*half));
    (next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pipe {
        bytes: Vec<u8>,
        limit: usize,
    }

    impl Append for Pipe {
        fn append(&mut self, data: &[u8]) -> Result<(), IoError> {
            if self.bytes.len() + data.len() > self.limit {
                return Err(IoError(32));
            }
            self.bytes.extend(data);
            Ok(())
        }

        fn sync(&mut self) -> Result<(), IoError> {
            Ok(())
        }
    }

    fn sink(limit: usize) -> Flattened<Pipe> {
        Flattened::new(Pipe {
            bytes: vec![],
            limit,
        })
    }

    #[test]
    fn a_stream_has_the_bytes_that_makedumpfile_writes() {
        let mut sink = sink(usize::MAX);
        sink.write_at(0x1234, b"abc").unwrap();
        sink.write_at(7, b"").unwrap();
        sink.write_at(1, b"d").unwrap();
        sink.finish().unwrap();
        assert_eq!(sink.stream_bytes(), 4096 + 16 + 3 + 16 + 1 + 16);
        let bytes = sink.into_inner().bytes;
        assert_eq!(&bytes[..16], b"makedumpfile\0\0\0\0");
        assert_eq!(
            bytes[16..32],
            [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]
        );
        assert!(bytes[32..4096].iter().all(|&byte| byte == 0));
        let mut expected = vec![0, 0, 0, 0, 0, 0, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 3];
        expected.extend(b"abc");
        expected.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, b'd']);
        expected.extend([0xff; 16]);
        assert_eq!(bytes[4096..], expected);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut sink = sink(usize::MAX);
        sink.write_at(5 << 40, b"page").unwrap();
        sink.finish().unwrap();
        let bytes = sink.into_inner().bytes;
        check_header(bytes.first_chunk().unwrap()).unwrap();
        let record = parse_record(bytes[4096..].first_chunk().unwrap()).unwrap();
        assert_eq!(
            record,
            Record::Data {
                offset: 5 << 40,
                bytes: 4
            }
        );
        let record = parse_record(bytes[4096 + 20..].first_chunk().unwrap()).unwrap();
        assert_eq!(record, Record::End);
    }

    #[test]
    fn nothing_follows_a_record_that_failed() {
        let mut sink = sink(4096 + 16 + 3);
        sink.write_at(0, b"abc").unwrap();
        assert_eq!(sink.write_at(3, b"d"), Err(IoError(32)));
        assert_eq!(sink.write_at(3, b""), Ok(()));
        assert_eq!(sink.finish(), Err(IoError(32)));
        assert_eq!(sink.sync(), Err(IoError(32)));
        assert_eq!(sink.into_inner().bytes.len(), 4096 + 16 + 3);
    }

    #[test]
    fn places_that_cannot_be_are_refused() {
        let mut sink = sink(usize::MAX);
        assert_eq!(sink.write_at(1 << 63, b"a"), Err(IoError::INVALID));
        assert_eq!(sink.write_at(i64::MAX as u64, b"a"), Err(IoError::INVALID));
        for (offset, bytes) in [(-1, 0), (0, -1), (-2, 5), (0, 0), (i64::MAX, 1)] {
            let mut record = [0; 16];
            record[..8].copy_from_slice(&i64::to_be_bytes(offset));
            record[8..].copy_from_slice(&i64::to_be_bytes(bytes));
            assert_eq!(
                parse_record(&record),
                Err(StreamError::Record(offset, bytes))
            );
        }
        let mut header = [0; 32];
        assert_eq!(check_header(&header), Err(StreamError::Signature));
        header[..16].copy_from_slice(&SIGNATURE);
        header[23] = 2;
        assert_eq!(check_header(&header), Err(StreamError::Version(2, 0)));
    }
}
