// SPDX-License-Identifier: MIT OR Apache-2.0
//! `verify FILE`: reads a dump back, every header field and every page.

use std::path::Path;

use collector::Source as _;
use collector::address::Pfn;
use collector::kdump::header::{
    FLAG_EXCLUDED_VMEMMAP, FLAG_INCOMPLETE, FLAG_LZO, FLAG_SNAPPY, FLAG_ZLIB, FLAG_ZSTD,
};
use collector::kdump::{Bitmap, ReadError};

use super::Failure;
use super::input::{Bytes, Dumpfile, Shape, open_dumpfile, open_vmcore};
use super::messages::say;
use super::pages::runs;

/// Messages of one kind that are printed.
const SHOWN: usize = 8;

/// What was found.
#[derive(Default)]
struct Findings {
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Findings {
    fn check(&mut self, good: bool, problem: impl FnOnce() -> String) {
        if !good {
            self.problems.push(problem());
        }
    }
}

/// Checks, prints, and says whether the file is good.
pub(crate) fn verify(path: &Path) -> Result<bool, Failure> {
    let bytes = Bytes::open(path)?;
    let mut findings = Findings::default();
    if let Some(complete) = bytes.flattened() {
        findings.notes.push("flattened".to_owned());
        findings.check(complete, || {
            "the flattened file ends before its end mark: it was cut short".to_owned()
        });
    }
    match bytes.shape {
        Shape::Dumpfile => verify_dumpfile(path, bytes, &mut findings)?,
        Shape::Elf => verify_elf(path, bytes, &mut findings)?,
    }
    for note in &findings.notes {
        say!("{}: {note}", path.display());
    }
    for problem in &findings.problems {
        say!("{}: problem: {problem}", path.display());
    }
    if findings.problems.is_empty() {
        say!("{}: good", path.display());
    }
    Ok(findings.problems.is_empty())
}

fn verify_dumpfile(path: &Path, bytes: Bytes, findings: &mut Findings) -> Result<(), Failure> {
    let mut reader = open_dumpfile(path, bytes)?;
    let failed = |error: ReadError| Failure::from(format!("{}: {error}", path.display()));
    check_headers(&reader, findings);
    check_notes(&mut reader, findings);
    check_bitmaps(&mut reader, findings).map_err(failed)?;
    check_pages(&mut reader, findings).map_err(failed)
}

fn check_headers(reader: &Dumpfile, findings: &mut Findings) {
    let (header, sub) = (reader.header(), reader.sub_header());
    let block = u64::from(header.block_bytes);
    let name = &header.utsname;
    findings.notes.push(format!(
        "kdump-compressed version {}, level {}, kernel {} {}, {} pages of {block} bytes",
        header.version,
        sub.dump_level,
        name.release(),
        name.machine(),
        reader.page_count(),
    ));
    if header.status & FLAG_INCOMPLETE != 0 {
        findings.notes.push("says that it is incomplete".to_owned());
    }
    if sub.split != 0 {
        findings.notes.push(format!(
            "one of several files: pfns {:#x} to {:#x}",
            sub.start_pfn, sub.end_pfn
        ));
    }
    findings.check(name.sysname() == "Linux", || {
        format!(
            "utsname.sysname is {:?}, and readers want \"Linux\"",
            name.sysname()
        )
    });
    for (field, text) in [
        ("release", name.release()),
        ("version", name.version()),
        ("machine", name.machine()),
    ] {
        findings.check(!text.is_empty(), || {
            format!("utsname.{field} is empty, and readers want it")
        });
    }
    let codecs = FLAG_ZLIB | FLAG_LZO | FLAG_SNAPPY | FLAG_ZSTD;
    let known = codecs | FLAG_INCOMPLETE | FLAG_EXCLUDED_VMEMMAP;
    findings.check(header.status & !known == 0, || {
        format!("status {:#x} has unknown flags", header.status)
    });
    findings.check((header.status & codecs).count_ones() <= 1, || {
        format!(
            "status {:#x} names more than one compression",
            header.status
        )
    });
    findings.check(sub.dump_level <= 31, || {
        format!("dump level {} is not one from 0 to 31", sub.dump_level)
    });
    findings.check(header.nr_cpus > 0, || {
        "nr_cpus is 0: no processor left its registers".to_owned()
    });
    let main = u64::from(header.max_mapnr);
    findings.check(main == sub.max_mapnr.min(u32::MAX.into()), || {
        format!(
            "max_mapnr is {main:#x} in the header and {:#x} in the sub header",
            sub.max_mapnr
        )
    });
    let one_bitmap = sub.max_mapnr.div_ceil(8).div_ceil(block);
    findings.check(u64::from(header.bitmap_blocks) == 2 * one_bitmap, || {
        format!(
            "bitmap_blocks is {}, and {} pfns take {}",
            header.bitmap_blocks,
            sub.max_mapnr,
            2 * one_bitmap
        )
    });
    if sub.split != 0 {
        findings.check(
            sub.start_pfn <= sub.end_pfn && sub.start_pfn.is_multiple_of(64),
            || {
                format!(
                    "the part's pfns {:#x} to {:#x} cannot be",
                    sub.start_pfn, sub.end_pfn
                )
            },
        );
    }
    // The sub header, and all that it points to, lie before the bitmaps; what was erased is at the end of the file.
    let end = block * (u64::from(header.sub_header_blocks) + 1);
    for (what, extent, most) in [
        ("notes", sub.notes, end),
        ("VMCOREINFO", sub.vmcoreinfo, end),
        ("eraseinfo", sub.eraseinfo, reader.size_bytes()),
    ] {
        let inside = extent.bytes == 0
            || extent.offset > block
                && extent
                    .offset
                    .checked_add(extent.bytes)
                    .is_some_and(|end| end <= most);
        findings.check(inside, || {
            format!(
                "{what}: {} bytes at byte {} are not where they can be",
                extent.bytes, extent.offset
            )
        });
    }
    findings.check(sub.notes.bytes > 0, || "it has no notes".to_owned());
}

fn check_notes(reader: &mut Dumpfile, findings: &mut Findings) {
    let info = reader.sub_header().vmcoreinfo;
    if info.bytes == 0 {
        findings.check(false, || "it has no VMCOREINFO".to_owned());
        return;
    }
    let mut text = vec![0; info.bytes.min(64 << 10) as usize];
    match reader.read_at(info.offset, &mut text) {
        Ok(()) => {
            let release = reader.header().utsname.release().to_owned();
            let line = format!("OSRELEASE={release}\n");
            let text = String::from_utf8_lossy(&text);
            findings.check(text.contains(&line), || {
                format!(
                    "VMCOREINFO is not that of {release}: it has no line {:?}",
                    line.trim()
                )
            });
        }
        Err(error) => findings.problems.push(format!("VMCOREINFO: {error}")),
    }
}

/// Every page that is stored exists, and no bit is set beyond the last page.
fn check_bitmaps(reader: &mut Dumpfile, findings: &mut Findings) -> Result<(), ReadError> {
    let mut from = Pfn(0);
    let mut wrong = Vec::new();
    while let Some(pfn) = reader.next_page(from)? {
        if !reader.bit(Bitmap::Present, pfn)? && wrong.len() < 1 << 12 {
            wrong.push(pfn.0);
        }
        from = Pfn(pfn.0 + 1);
    }
    findings.check(wrong.is_empty(), || {
        format!(
            "pages are stored that never existed: {}",
            runs(&wrong, SHOWN)
        )
    });
    Ok(())
}

fn check_pages(reader: &mut Dumpfile, findings: &mut Findings) -> Result<(), ReadError> {
    let mut page = vec![0; reader.page_bytes()];
    let compression = reader.header().status;
    let data = reader.descs_offset();
    let (mut good, mut damaged, mut lost) = (0_u64, Vec::new(), Vec::new());
    let mut first_error = None;
    let mut from = Pfn(0);
    while let Some(pfn) = reader.next_page(from)? {
        from = Pfn(pfn.0 + 1);
        let checked = reader.desc(pfn).and_then(|desc| {
            reader.read_page(pfn, &mut page)?;
            // A page's compression is the one that the header names, and its data is behind the descriptors.
            if desc.flags & !compression != 0 || desc.offset < data {
                return Err(ReadError::DamagedPage(pfn));
            }
            Ok(())
        });
        match checked {
            Ok(()) => good += 1,
            Err(ReadError::Elsewhere(_)) => {}
            Err(ReadError::Lost(_)) => lost.push(pfn.0),
            Err(ReadError::Io(..)) if reader.is_incomplete() => lost.push(pfn.0),
            Err(error) => {
                first_error.get_or_insert(error);
                damaged.push(pfn.0);
            }
        }
    }
    findings.notes.push(format!("{good} pages can be read"));
    if !lost.is_empty() {
        findings.notes.push(format!(
            "{} pages were lost: {}",
            lost.len(),
            runs(&lost, SHOWN)
        ));
    }
    if let Some(error) = first_error {
        findings.problems.push(format!(
            "{} pages cannot be read: {}; the first: {error}",
            damaged.len(),
            runs(&damaged, SHOWN)
        ));
    }
    Ok(())
}

fn verify_elf(path: &Path, mut bytes: Bytes, findings: &mut Findings) -> Result<(), Failure> {
    let mut flags = [0; 4];
    let says_incomplete =
        bytes.source.read_at(48, &mut flags).is_ok() && u32::from_le_bytes(flags) & 1 != 0;
    let mut vmcore = open_vmcore(path, None)?;
    findings.notes.push(format!(
        "ELF, kernel {}, {} pages of {} bytes",
        vmcore.release(),
        vmcore.present_pages(),
        vmcore.page_size()
    ));
    if says_incomplete {
        findings.notes.push("says that it is incomplete".to_owned());
    }
    let defects = vmcore.defects();
    findings.check(defects.truncated_segments == 0 || says_incomplete, || {
        format!(
            "{} segments reach beyond the end of the file",
            defects.truncated_segments
        )
    });
    findings.check(defects.dropped_segments == 0, || {
        format!(
            "{} segments have addresses that no memory has",
            defects.dropped_segments
        )
    });
    findings.check(!defects.damaged_notes, || {
        "its notes are damaged".to_owned()
    });
    findings.check(vmcore.vmcoreinfo_extent().is_some(), || {
        "it has no VMCOREINFO".to_owned()
    });
    findings.check(vmcore.cpu_count() > 0, || {
        "no processor left its registers".to_owned()
    });
    let mut page = vec![0; vmcore.page_size()];
    let (mut good, mut damaged) = (0_u64, Vec::new());
    let mut from = Pfn(0);
    while let Some((start, end)) = vmcore.present_from(from) {
        for pfn in start.0..end.0 {
            match vmcore.read_page(Pfn(pfn), &mut page) {
                Ok(()) => good += 1,
                Err(_) => damaged.push(pfn),
            }
        }
        from = end;
    }
    findings.notes.push(format!("{good} pages can be read"));
    findings.check(damaged.is_empty(), || {
        format!(
            "{} pages cannot be read: {}",
            damaged.len(),
            runs(&damaged, SHOWN)
        )
    });
    Ok(())
}
