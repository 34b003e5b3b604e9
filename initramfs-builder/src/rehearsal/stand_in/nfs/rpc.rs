// SPDX-License-Identifier: MIT OR Apache-2.0
//! Remote procedure calls over TCP, as far as a server of few of them needs it.
//!
//! Source: RFC 5531 (calls, replies, records), RFC 4506 (words and bytes).

use std::io::{self, ErrorKind, Read, Write};

/// Marks the last fragment of a record.
const LAST: u32 = 1 << 31;
/// The kind of a message.
const CALL: u32 = 0;
const REPLY: u32 = 1;
/// Of the protocol itself.
const VERSION: u32 = 2;

/// What was sent is not what the procedure takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbage;

/// The words of a call that are not read yet. A length counts only as far as there are bytes.
#[derive(Debug)]
pub(super) struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Garbage> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Garbage)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Garbage> {
        self.fixed().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Garbage> {
        self.fixed().map(u64::from_be_bytes)
    }

    /// Bytes behind their number, filled up to whole words.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Garbage> {
        let length = usize::try_from(self.u32()?).map_err(|_| Garbage)?;
        let filled = length.checked_next_multiple_of(4).ok_or(Garbage)?;
        let (bytes, rest) = self.0.split_at_checked(filled).ok_or(Garbage)?;
        self.0 = rest;
        Ok(&bytes[..length])
    }

    /// What `read` reads, where a word says that it is there.
    pub(super) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Garbage>,
    ) -> Result<Option<T>, Garbage> {
        match self.u32()? {
            0 => Ok(None),
            _ => read(self).map(Some),
        }
    }
}

/// The words of an answer.
#[derive(Debug, Default)]
pub(super) struct Answer(Vec<u8>);

impl Answer {
    pub(super) fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u32(&mut self, word: u32) {
        self.fixed(&word.to_be_bytes());
    }

    pub(super) fn u64(&mut self, word: u64) {
        self.fixed(&word.to_be_bytes());
    }

    /// Bytes behind their number, filled up to whole words.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        // No answer comes near this length.
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.fixed(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub(super) fn append(&mut self, other: &Self) {
        self.fixed(&other.0);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) program: u32,
    pub(super) version: u32,
    pub(super) procedure: u32,
    pub(super) arguments: Words<'a>,
}

/// Whether there is an answer, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Done,
    NoProgram,
    /// The program has this version alone.
    OtherVersion(u32),
    NoProcedure,
    Garbage,
}

/// Answers the calls of a connection until it ends. A record may have this many bytes.
///
/// # Errors
/// The connection broke, or what came is no call: nothing can be known of what would follow.
pub(super) fn serve(
    stream: &mut (impl Read + Write),
    most_bytes: usize,
    answer: &mut dyn FnMut(Call<'_>, &mut Answer) -> Status,
) -> io::Result<()> {
    while let Some(record) = record(stream, most_bytes)? {
        let reply = reply(&record, answer).ok_or(ErrorKind::InvalidData)?;
        let length = u32::try_from(reply.len()).map_err(|_| ErrorKind::InvalidData)?;
        let mut bytes = (LAST | length).to_be_bytes().to_vec();
        bytes.extend_from_slice(&reply.0);
        stream.write_all(&bytes)?;
    }
    Ok(())
}

/// The next record, put together from its fragments; none at the end.
fn record(stream: &mut impl Read, most_bytes: usize) -> io::Result<Option<Vec<u8>>> {
    let mut record = Vec::new();
    loop {
        let mut mark = [0; 4];
        match stream.read_exact(&mut mark) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof && record.is_empty() => {
                return Ok(None);
            }
            result => result?,
        }
        let mark = u32::from_be_bytes(mark);
        let begin = record.len();
        let end = usize::try_from(mark & !LAST)
            .ok()
            .and_then(|length| begin.checked_add(length))
            .filter(|end| *end <= most_bytes)
            .ok_or(ErrorKind::InvalidData)?;
        record.resize(end, 0);
        stream.read_exact(&mut record[begin..])?;
        if mark & LAST != 0 {
            return Ok(Some(record));
        }
    }
}

/// The reply to a record; none where it is no call.
fn reply(record: &[u8], answer: &mut dyn FnMut(Call<'_>, &mut Answer) -> Status) -> Option<Answer> {
    let mut words = Words(record);
    let id = words.u32().ok()?;
    if words.u32().ok()? != CALL || words.u32().ok()? != VERSION {
        return None;
    }
    let [program, version, procedure] = [words.u32().ok()?, words.u32().ok()?, words.u32().ok()?];
    // Who calls, and a proof of it: files are known by handles that nobody can guess.
    for _ in 0..2 {
        words.u32().ok()?;
        words.bytes().ok()?;
    }
    let mut body = Answer::default();
    let call = Call {
        program,
        version,
        procedure,
        arguments: words,
    };
    let status = answer(call, &mut body);
    let mut reply = Answer::default();
    // Accepted, without a proof of the server's own.
    for word in [id, REPLY, 0, 0, 0] {
        reply.u32(word);
    }
    match status {
        Status::Done => {
            reply.u32(0);
            reply.append(&body);
        }
        Status::NoProgram => reply.u32(1),
        Status::OtherVersion(version) => {
            for word in [2, version, version] {
                reply.u32(word);
            }
        }
        Status::NoProcedure => reply.u32(3),
        Status::Garbage => reply.u32(4),
    }
    Some(reply)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A call as a client sends it, without the mark of its record.
    pub(in super::super) fn call(
        program: u32,
        version: u32,
        procedure: u32,
        arguments: &Answer,
    ) -> Vec<u8> {
        let mut call = Answer::default();
        for word in [7, CALL, VERSION, program, version, procedure, 1] {
            call.u32(word);
        }
        call.bytes(b"who calls");
        call.u32(0);
        call.bytes(b"");
        call.append(arguments);
        call.0
    }

    /// The words of the reply's body, when the call was answered.
    pub(in super::super) fn body(
        record: &[u8],
        answer: &mut dyn FnMut(Call<'_>, &mut Answer) -> Status,
    ) -> Result<Vec<u8>, u32> {
        let reply = reply(record, answer).unwrap().0;
        let mut words = Words(&reply);
        let head: Vec<u32> = (0..6).map(|_| words.u32().unwrap()).collect();
        assert_eq!(head[..5], [7, REPLY, 0, 0, 0]);
        match head[5] {
            0 => Ok(words.0.to_vec()),
            other => Err(other),
        }
    }

    pub(in super::super) fn words(bytes: &[u8]) -> Words<'_> {
        Words(bytes)
    }

    /// A stream that has these bytes, and takes what is written.
    struct Both(io::Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Both {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.0.read(bytes)
        }
    }

    impl Write for Both {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn served(bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let mut stream = Both(io::Cursor::new(bytes), Vec::new());
        let result = serve(&mut stream, 1000, &mut |call, answer| {
            answer.u32(call.procedure);
            Status::Done
        });
        (result, stream.1)
    }

    fn marked(record: &[u8], mark: u32) -> Vec<u8> {
        let length = u32::try_from(record.len()).unwrap();
        [&(length | mark).to_be_bytes()[..], record].concat()
    }

    #[test]
    fn a_call_in_two_fragments_is_one_call() {
        let call = call(1, 2, 3, &Answer::default());
        let (front, back) = call.split_at(11);
        let whole = [marked(front, 0), marked(back, LAST)].concat();
        let (result, said) = served([whole.clone(), whole].concat());
        result.unwrap();
        assert_eq!(said.len(), 2 * 32);
        assert_eq!(said[..8], [0x80, 0, 0, 28, 0, 0, 0, 7]);
        assert_eq!(said[28..32], [0, 0, 0, 3]);
    }

    #[test]
    fn a_record_that_is_too_long_or_no_call_ends_the_connection() {
        for bytes in [
            marked(&[0; 8], LAST),
            (LAST | 1001).to_be_bytes().to_vec(),
            [marked(&[0; 600], 0), marked(&[0; 600], 0)].concat(),
            u32::MAX.to_be_bytes().to_vec(),
        ] {
            let (result, said) = served(bytes);
            assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidData);
            assert!(said.is_empty());
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_garbage() {
        let mut words = Words(&[0xff; 8]);
        assert_eq!(words.bytes(), Err(Garbage));
        assert_eq!(Words(&[0, 0, 0, 3, 1, 2, 3]).bytes(), Err(Garbage));
        assert_eq!(Words(&[0, 0, 0, 3, 1, 2, 3, 0]).bytes(), Ok(&[1, 2, 3][..]));
        assert_eq!(Words(&[0; 7]).u64(), Err(Garbage));
    }
}
