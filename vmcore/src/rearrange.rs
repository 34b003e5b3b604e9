// SPDX-License-Identifier: MIT OR Apache-2.0
//! `-R`: a flattened dump from standard input becomes the file that it stands for.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use collector::flattened::{HEADER_BYTES, RECORD_BYTES, Record, check_header, parse_record};

use super::Failure;
use super::messages::Messages;
use super::options::Options;
use super::output::create;

/// What is read and written at a time.
const PIECE_BYTES: usize = 1 << 20;

/// `status` of a kdump-compressed file is here, and this bit of it says that the dump was cut short.
const KDUMP_STATUS: (u64, u8) = (424, 8);
/// Likewise `e_flags` of a 64-bit ELF file. Little-endian both.
const ELF_FLAGS: (u64, u8) = (48, 1);

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With its mark.
    Marked,
    /// Without: what sent it was stopped.
    Early(String),
}

/// `-R OUT < FLATTENED`.
pub(crate) fn rearrange(options: &Options, messages: Messages) -> Result<(), Failure> {
    let [out] = &options.files[..] else {
        return Err(Failure::from("-R wants one file: OUT".to_owned()));
    };
    let mut input = io::stdin().lock();
    // Before a file that may have something good in it is emptied.
    check_start(&mut input, Path::new("standard input"))?;
    let mut file = create(out, options.replace)?;
    let bytes = put_together(&mut input, &mut file, out)?;
    messages.common(format_args!("{}: {bytes} bytes", out.display()));
    Ok(())
}

/// Makes `file`, which is new, what the records from `input` stand for, and returns its length. A stream without its end leaves
/// an incomplete dump. Its [start](check_start) has been read.
pub(crate) fn put_together(
    input: &mut impl Read,
    file: &mut File,
    out: &Path,
) -> Result<u64, Failure> {
    let (bytes, end) = copy(input, file, out)?;
    if let End::Early(why) = &end {
        mark_incomplete(file, out)?;
        return Err(Failure::from(format!(
            "{why}: the stream ends before its end mark, so {} is an incomplete dump of {bytes} bytes",
            out.display()
        )));
    }
    file.sync_all().map_err(|error| in_path(out, &error))?;
    Ok(bytes)
}

fn in_path(path: &Path, error: &io::Error) -> Failure {
    Failure::from(format!("{}: {error}", path.display()))
}

/// Reads what stands before the first record.
pub(crate) fn check_start(input: &mut impl Read, from: &Path) -> Result<(), Failure> {
    let mut header = [0; HEADER_BYTES];
    input
        .read_exact(&mut header)
        .map_err(|error| Failure::from(format!("reading the flattened dump's header: {error}")))?;
    let (start, _) = header.split_first_chunk().unwrap_or((&[0; 32], &[]));
    check_header(start).map_err(|error| Failure::from(format!("{}: {error}", from.display())))
}

/// Puts every record where it belongs. Returns the file's length.
fn copy(input: &mut impl Read, file: &mut File, out: &Path) -> Result<(u64, End), Failure> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut length = 0;
    loop {
        let mut record = [0; RECORD_BYTES];
        if let Err(error) = input.read_exact(&mut record) {
            return Ok((length, End::Early(error.to_string())));
        }
        let (mut offset, mut left) = match parse_record(&record) {
            Ok(Record::End) => return Ok((length, End::Marked)),
            Ok(Record::Data { offset, bytes }) => (offset, bytes),
            Err(error) => return Ok((length, End::Early(error.to_string()))),
        };
        while left > 0 {
            let now = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let part = &mut piece[..now];
            let (got, ended) = read_most(input, part);
            file.write_all_at(&part[..got], offset)
                .map_err(|error| in_path(out, &error))?;
            offset += got as u64;
            length = length.max(offset);
            left -= got as u64;
            if let Some(why) = ended {
                return Ok((length, End::Early(why)));
            }
        }
    }
}

/// Fills `buf`, or says why it could not be filled.
fn read_most(input: &mut impl Read, buf: &mut [u8]) -> (usize, Option<String>) {
    let mut got = 0;
    while got < buf.len() {
        match input.read(&mut buf[got..]) {
            Ok(0) => return (got, Some("no more data".to_owned())),
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (got, Some(error.to_string())),
        }
    }
    (got, None)
}

/// Makes the file say of itself that it was cut short: what sent the stream could not take back that it is whole.
fn mark_incomplete(file: &File, out: &Path) -> Result<(), Failure> {
    let error = |error: io::Error| in_path(out, &error);
    let file = File::options()
        .read(true)
        .write(true)
        .open(out)
        .and_then(|again| file.sync_all().map(|()| again))
        .map_err(error)?;
    let mut start = [0; 8];
    if file.read_exact_at(&mut start, 0).is_err() {
        return Ok(());
    }
    let (offset, bit) = if start == *b"KDUMP   " {
        KDUMP_STATUS
    } else if start.starts_with(b"\x7fELF\x02\x01") {
        ELF_FLAGS
    } else {
        return Ok(());
    };
    let mut flags = [0];
    if file.read_exact_at(&mut flags, offset).is_ok() {
        file.write_all_at(&[flags[0] | bit], offset)
            .map_err(error)?;
    }
    Ok(())
}
