// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--reassemble`: the files that `--split` wrote become one. No page is unpacked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use collector::address::Pfn;
use collector::kdump::{PageDesc, SubHeader};

use super::Failure;
use super::input::{Bytes, Dumpfile, open_dumpfile};
use super::messages::Messages;
use super::options::Options;
use super::output::create;

const COPY_BYTES: usize = 1 << 20;

/// One of the files.
struct Part {
    path: PathBuf,
    reader: Dumpfile,
    start: u64,
    end: u64,
}

/// `--reassemble PART PART... OUT`.
pub(crate) fn reassemble(options: &Options, messages: Messages) -> Result<(), Failure> {
    let [paths @ .., out] = &options.files[..] else {
        return Err(Failure::from(
            "--reassemble wants PART PART... OUT".to_owned(),
        ));
    };
    let mut parts = paths
        .iter()
        .map(|path| open_part(path))
        .collect::<Result<Vec<_>, _>>()?;
    parts.sort_by_key(|part| (part.start, part.end));
    check(&mut parts)?;
    let file = create(out, options.replace)?;
    let bytes = join(&mut parts, &file)
        .map_err(|message| Failure::from(format!("{}: {message}", out.display())))?;
    let incomplete = parts.iter().any(|part| part.reader.is_incomplete());
    messages.common(format_args!(
        "{}: {} parts, {bytes} bytes{}",
        out.display(),
        parts.len(),
        if incomplete {
            ", incomplete as one of its parts"
        } else {
            ""
        }
    ));
    Ok(())
}

fn open_part(path: &Path) -> Result<Part, Failure> {
    let reader = open_dumpfile(path, Bytes::open(path)?)?;
    let sub_header = *reader.sub_header();
    if sub_header.split == 0 {
        return Err(Failure::from(format!(
            "{}: a whole dump, and not one of several files",
            path.display()
        )));
    }
    Ok(Part {
        path: path.to_owned(),
        reader,
        start: sub_header.start_pfn,
        end: sub_header.end_pfn,
    })
}

/// All parts are of the same dump, and every pfn is in one of them.
fn check(parts: &mut [Part]) -> Result<(), Failure> {
    let [first, others @ ..] = parts else {
        return Err(Failure::from("no parts are given".to_owned()));
    };
    let mut reached = first.end;
    let max_mapnr = first.reader.max_mapnr();
    if first.start != 0 {
        return Err(Failure::from(format!(
            "the part before {} is missing: it begins at pfn {:#x}",
            first.path.display(),
            first.start
        )));
    }
    for other in others {
        let same = {
            let (a, b) = (first.reader.header(), other.reader.header());
            let without_flags = |status: u32| status & !0x8;
            a.utsname == b.utsname
                && a.crash_time_s == b.crash_time_s
                && a.block_bytes == b.block_bytes
                && a.sub_header_blocks == b.sub_header_blocks
                && a.bitmap_blocks == b.bitmap_blocks
                && without_flags(a.status) == without_flags(b.status)
                && max_mapnr == other.reader.max_mapnr()
                && first.reader.sub_header().dump_level == other.reader.sub_header().dump_level
        };
        if !same {
            return Err(Failure::from(format!(
                "{} and {} are not of the same dump",
                first.path.display(),
                other.path.display()
            )));
        }
        if other.start != reached {
            return Err(Failure::from(format!(
                "{}: begins at pfn {:#x}, and the part before it ends at {reached:#x}",
                other.path.display(),
                other.start
            )));
        }
        reached = other.end;
    }
    if reached < max_mapnr {
        return Err(Failure::from(format!(
            "the last part is missing: pfns from {reached:#x} to {max_mapnr:#x}"
        )));
    }
    Ok(())
}

/// Writes the whole dump. Returns its length.
fn join(parts: &mut [Part], file: &File) -> Result<u64, String> {
    let first = &mut parts[0].reader;
    let abi = first.header().abi;
    let descs_start = first.descs_offset();
    let mut status = first.header().status;
    // Notes and bitmaps are the same in all parts; only the headers are written anew.
    copy_bytes(first, file, descs_start)?;
    let sub_header = SubHeader {
        split: 0,
        start_pfn: 0,
        end_pfn: 0,
        ..*first.sub_header()
    };
    let block = u64::from(first.header().block_bytes);
    let write = |bytes: &[u8], offset: u64| {
        file.write_all_at(bytes, offset)
            .map_err(|error| format!("writing at byte {offset}: {error}"))
    };
    write(&sub_header.encode(abi), block)?;

    let page_count: u64 = parts.iter().map(|part| part.reader.page_count()).sum();
    let descs_end = descs_start + page_count * 24;
    let mut data = Buffered::new(file, descs_end.next_multiple_of(block));
    let mut descs = Buffered::new(file, descs_start);
    // The block that all zero pages share, once in the whole dump.
    let mut zero: Option<u64> = None;
    let mut stored = Vec::new();
    for part in parts.iter_mut() {
        status |= part.reader.header().status & 0x8;
        let Part {
            path, reader, end, ..
        } = part;
        let shares_zero = reader.sub_header().dump_level & 1 != 0;
        let in_path = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        // Where data went that several pages have: the last page's, and zeros.
        let mut known: BTreeMap<u64, u64> = BTreeMap::new();
        let mut last = None;
        let mut from = Pfn(part.start);
        while let Some(pfn) = reader.next_page(from).map_err(|error| in_path(&error))? {
            if pfn.0 >= *end {
                break;
            }
            from = Pfn(pfn.0 + 1);
            let desc = match reader.desc(pfn) {
                Ok(desc) => desc,
                Err(_) if reader.is_incomplete() => {
                    descs.put(&PageDesc::default().encode(abi))?;
                    continue;
                }
                Err(error) => return Err(in_path(&error)),
            };
            let placed = known.get(&desc.offset).copied();
            let placed = placed.or(last
                .filter(|&(old, _)| old == desc.offset)
                .map(|(_, new)| new));
            let offset = match placed {
                Some(offset) => offset,
                None => {
                    if u64::from(desc.bytes) > block {
                        return Err(format!(
                            "{}: page {pfn} is longer than a page",
                            path.display()
                        ));
                    }
                    stored.resize(desc.bytes as usize, 0);
                    reader
                        .read_at(desc.offset, &mut stored)
                        .map_err(|error| in_path(&error))?;
                    let is_zero =
                        shares_zero && desc.flags == 0 && stored.iter().all(|&byte| byte == 0);
                    match zero {
                        Some(offset) if is_zero => {
                            known.insert(desc.offset, offset);
                            offset
                        }
                        _ => {
                            let offset = data.end;
                            data.put(&stored)?;
                            if is_zero {
                                zero = Some(offset);
                                known.insert(desc.offset, offset);
                            }
                            offset
                        }
                    }
                }
            };
            last = Some((desc.offset, offset));
            descs.put(&PageDesc { offset, ..desc }.encode(abi))?;
        }
    }
    descs.flush()?;
    data.flush()?;
    let header = collector::kdump::Header {
        status,
        ..*parts[0].reader.header()
    };
    write(&header.encode(), 0)?;
    file.sync_all().map_err(|error| error.to_string())?;
    Ok(data.end)
}

/// Copies the first part's start.
fn copy_bytes(reader: &mut Dumpfile, file: &File, end: u64) -> Result<(), String> {
    let mut buf = vec![0; COPY_BYTES];
    let mut offset = 0;
    while offset < end {
        let now = buf.len().min((end - offset) as usize);
        reader
            .read_at(offset, &mut buf[..now])
            .map_err(|error| error.to_string())?;
        file.write_all_at(&buf[..now], offset)
            .map_err(|error| format!("writing at byte {offset}: {error}"))?;
        offset += now as u64;
    }
    Ok(())
}

/// Bytes that follow each other, written in large pieces.
struct Buffered<'a> {
    file: &'a File,
    buf: Vec<u8>,
    end: u64,
}

impl<'a> Buffered<'a> {
    fn new(file: &'a File, start: u64) -> Self {
        Self {
            file,
            buf: Vec::with_capacity(COPY_BYTES),
            end: start,
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.buf.len() + bytes.len() > COPY_BYTES {
            self.flush()?;
        }
        self.end += bytes.len() as u64;
        self.buf.write_all(bytes).map_err(|error| error.to_string())
    }

    fn flush(&mut self) -> Result<(), String> {
        let offset = self.end - self.buf.len() as u64;
        self.file
            .write_all_at(&self.buf, offset)
            .map_err(|error| format!("writing at byte {offset}: {error}"))?;
        self.buf.clear();
        Ok(())
    }
}
