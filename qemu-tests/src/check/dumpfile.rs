// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kdump-compressed dumpfile, read by other code than the one that wrote it.
//!
//! Source: makedumpfile 1.7.9 `diskdump_mod.h`, `makedumpfile.h`; crash 9.0 `diskdump.h`.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::ZlibDecoder;

use super::memory::{Memory, PAGE_SIZE, Page};

const SIGNATURE: &[u8] = b"KDUMP   ";
const DESCRIPTOR_SIZE: u64 = 24;
const ZLIB: u32 = 1;
const INCOMPLETE: u32 = 8;

/// Where one page's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Descriptor {
    /// Bytes from the file's start.
    pub offset: u64,
    /// Bytes stored.
    pub size: u32,
    /// How they are compressed; 0 for not at all.
    pub flags: u32,
}

/// A dumpfile, its header and bitmaps read.
#[derive(Debug)]
pub struct Dumpfile {
    file: File,
    /// The crashed kernel's release.
    pub release: String,
    /// When it crashed, in seconds since 1970.
    pub crash_time_s: i64,
    /// The codec of the file, and whether it is whole.
    pub status: u32,
    /// How many CPUs left their registers.
    pub cpus: u32,
    /// The level that the file was made with.
    pub level: u32,
    /// One past the highest pfn.
    pub max_mapnr: u64,
    /// All notes of the vmcore, one behind the other.
    pub notes: Vec<u8>,
    /// Where the descriptors begin, in bytes from the file's start.
    pub table_at: u64,
    /// A descriptor for each page that the file has, by pfn.
    pages: Vec<(u64, Descriptor)>,
    present: Vec<u8>,
    size_bytes: u64,
    data_at: u64,
}

fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let mut whole = [0; 8];
    whole[..size].copy_from_slice(&bytes[at..at + size]);
    u64::from_le_bytes(whole)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

fn bit(bitmap: &[u8], pfn: u64) -> bool {
    bitmap[(pfn / 8) as usize] & 1 << (pfn % 8) != 0
}

impl Dumpfile {
    /// Reads the header, the notes, both bitmaps and all descriptors.
    ///
    /// # Errors
    /// The file cannot be read, or a reader could stumble over it: a size that does not add up, a header field that a
    /// reader relies on, data beyond the file's end.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(path).with_context(|| format!("dumpfile {}", path.display()))
    }

    fn read(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let size_bytes = file.metadata()?.len();
        let block = PAGE_SIZE as u64;
        let mut header = vec![0; 2 * PAGE_SIZE];
        file.read_exact_at(&mut header, 0)
            .context("the two headers")?;
        let (header, sub) = header.split_at(PAGE_SIZE);
        ensure!(header.starts_with(SIGNATURE), "no KDUMP signature");
        let field = |at, size| number(header, at, size);
        ensure!(field(8, 4) == 6, "header version {}", field(8, 4));
        let names: Vec<String> = (0..6)
            .map(|index| text(&header[12 + index * 65..][..65]))
            .collect();
        ensure!(
            names[0] == "Linux"
                && ["x86_64", "aarch64", "i686"].contains(&names[4].as_str())
                && !names[2].is_empty()
                && !names[3].is_empty(),
            "utsname is {names:?}: readers take the file for another machine's"
        );
        // The time is aligned to a long, and its two fields are longs.
        let long = if names[4] == "i686" { 4 } else { 8 };
        let time_at = (12 + 6 * 65_usize).next_multiple_of(long);
        let at = time_at + 2 * long;
        ensure!(field(at + 4, 4) == block, "block size {}", field(at + 4, 4));
        // libkdumpfile would take a plausible block size here for a 32-bit header.
        let microseconds = field(time_at + long, long);
        ensure!(microseconds == 0, "tv_usec is {microseconds}");
        let (sub_blocks, bitmap_blocks) = (field(at + 8, 4), field(at + 12, 4));

        let sub_field = |at, size| number(sub, at, size);
        // A long, two numbers, two longs; three offsets of 64 bits, each with a long behind it; three more numbers of 64.
        let extents_at = 3 * long + 8;
        let sub_header_size = extents_at + 3 * (8 + long) + 24;
        let max_mapnr = sub_field(sub_header_size - 8, 8);
        ensure!(
            field(at + 16, 4) == max_mapnr.min(u64::from(u32::MAX)),
            "max_mapnr is {:#x} in the header and {max_mapnr:#x} in the sub-header",
            field(at + 16, 4)
        );
        let bitmap_size = max_mapnr.div_ceil(8).div_ceil(block) * block;
        ensure!(
            bitmap_blocks * block == 2 * bitmap_size,
            "{bitmap_blocks} bitmap blocks for {max_mapnr:#x} pfns"
        );
        let extent = |index: usize| {
            let at = extents_at + index * (8 + long);
            (sub_field(at, 8), sub_field(at + 8, long))
        };
        let (notes_at, notes_size) = extent(1);
        ensure!(
            notes_at >= block + sub_header_size as u64
                && notes_at
                    .checked_add(notes_size)
                    .is_some_and(|end| end <= block + sub_blocks * block),
            "notes at {notes_at}, {notes_size} bytes, are not within the sub-header's {sub_blocks} blocks"
        );
        let notes = Self::bytes(&file, notes_at, notes_size).context("the notes")?;
        let (info_at, info_size) = extent(0);
        let info = Self::bytes(&file, info_at, info_size).context("VMCOREINFO")?;
        ensure!(
            text(&info)
                .lines()
                .any(|line| line.starts_with("OSRELEASE=")),
            "the sub-header's VMCOREINFO, {info_size} bytes at {info_at}, is none"
        );

        let bitmaps_at = block + sub_blocks * block;
        let present = Self::bytes(&file, bitmaps_at, bitmap_size).context("the first bitmap")?;
        let dumpable = Self::bytes(&file, bitmaps_at + bitmap_size, bitmap_size)
            .context("the second bitmap")?;
        for pfn in max_mapnr..bitmap_size * 8 {
            ensure!(
                !bit(&present, pfn) && !bit(&dumpable, pfn),
                "a bit is set for pfn {pfn:#x}, and max_mapnr is {max_mapnr:#x}"
            );
        }
        let pfns: Vec<u64> = (0..max_mapnr).filter(|&pfn| bit(&dumpable, pfn)).collect();
        let table_at = bitmaps_at + 2 * bitmap_size;
        let table = Self::bytes(&file, table_at, pfns.len() as u64 * DESCRIPTOR_SIZE)
            .context("the page descriptors")?;
        let data_at = table_at + table.len() as u64;
        let pages = pfns
            .into_iter()
            .zip(table.chunks_exact(DESCRIPTOR_SIZE as usize))
            .map(|(pfn, entry)| {
                let descriptor = Descriptor {
                    offset: number(entry, 0, 8),
                    size: number(entry, 8, 4) as u32,
                    flags: number(entry, 12, 4) as u32,
                };
                (pfn, descriptor)
            })
            .collect();
        let dumpfile = Self {
            file,
            release: names[2].clone(),
            crash_time_s: field(time_at, long).cast_signed(),
            status: field(at, 4) as u32,
            cpus: field(at + 36, 4) as u32,
            level: sub_field(long, 4) as u32,
            max_mapnr,
            notes,
            table_at,
            pages,
            present,
            size_bytes,
            data_at,
        };
        dumpfile.check_descriptors()?;
        Ok(dumpfile)
    }

    fn bytes(file: &File, at: u64, size: u64) -> Result<Vec<u8>> {
        let end = at.checked_add(size);
        ensure!(
            end.is_some_and(|end| end <= file.metadata().map_or(0, |metadata| metadata.len())),
            "{size} bytes at {at} reach beyond the file's end"
        );
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    fn check_descriptors(&self) -> Result<()> {
        for &(pfn, descriptor) in &self.pages {
            let Descriptor {
                offset,
                size,
                flags,
            } = descriptor;
            ensure!(
                offset >= self.data_at
                    && offset
                        .checked_add(size.into())
                        .is_some_and(|end| end <= self.size_bytes),
                "pfn {pfn:#x}: {size} bytes at {offset} are not within the data"
            );
            ensure!(
                (flags == 0 && size == PAGE_SIZE as u32)
                    || (flags == self.status & !INCOMPLETE && size < PAGE_SIZE as u32),
                "pfn {pfn:#x}: flags {flags:#x} with {size} bytes in a file of status {:#x}",
                self.status
            );
        }
        Ok(())
    }

    /// Whether the vmcore had this page.
    #[must_use]
    pub fn is_present(&self, pfn: u64) -> bool {
        pfn < self.max_mapnr && bit(&self.present, pfn)
    }

    /// The pfns that the vmcore had, in ascending order and each once.
    #[must_use]
    pub fn present(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for pfn in (0..self.max_mapnr).filter(|&pfn| self.is_present(pfn)) {
            match ranges.last_mut() {
                Some(last) if last.end == pfn => last.end += 1,
                _ => ranges.push(pfn..pfn + 1),
            }
        }
        ranges
    }

    /// The pages that the file has, in ascending order.
    #[must_use]
    pub fn pages(&self) -> &[(u64, Descriptor)] {
        &self.pages
    }

    /// Whether the file has this page.
    #[must_use]
    pub fn has(&self, pfn: u64) -> bool {
        self.position(pfn).is_some()
    }

    fn position(&self, pfn: u64) -> Option<usize> {
        self.pages.binary_search_by_key(&pfn, |&(pfn, _)| pfn).ok()
    }

    /// The content of the page that `descriptor` points at.
    ///
    /// # Errors
    /// It cannot be read or decompressed, or is not a page long.
    pub fn content(&self, descriptor: Descriptor) -> Result<Page> {
        let mut stored = vec![0; descriptor.size as usize];
        self.file.read_exact_at(&mut stored, descriptor.offset)?;
        let content = match descriptor.flags {
            0 => stored,
            ZLIB => {
                let mut content = Vec::with_capacity(PAGE_SIZE);
                // One byte more than a page, to notice what is too long.
                ZlibDecoder::new(stored.as_slice())
                    .take(PAGE_SIZE as u64 + 1)
                    .read_to_end(&mut content)
                    .context("zlib")?;
                content
            }
            other => bail!("compression {other:#x} is not one that this reader knows"),
        };
        let size = content.len();
        content
            .try_into()
            .map_err(|_| anyhow::anyhow!("{size} bytes are no page"))
    }
}

impl Memory for Dumpfile {
    fn read_page(&self, pfn: u64, page: &mut Page) -> Result<bool> {
        let Some(index) = self.position(pfn) else {
            return Ok(false);
        };
        *page = self
            .content(self.pages[index].1)
            .with_context(|| format!("pfn {pfn:#x}"))?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use std::io::Write;
    use std::path::PathBuf;

    fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
        if file.len() < at + bytes.len() {
            file.resize(at + bytes.len(), 0);
        }
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Ten pfns, of which 2 to 7 are present and 3, 4, 6 dumpable: zero, compressed, as it is.
    fn sample() -> Vec<u8> {
        let mut file = Vec::new();
        put(&mut file, 0, b"KDUMP   ");
        put(&mut file, 8, &6u32.to_le_bytes());
        for (index, name) in ["Linux", "host", "6.1.0", "#1", "x86_64", "(none)"]
            .into_iter()
            .enumerate()
        {
            put(&mut file, 12 + index * 65, name.as_bytes());
        }
        put(&mut file, 408, &77u64.to_le_bytes());
        for (at, value) in [
            (424, 1u32),
            (428, 4096),
            (432, 1),
            (436, 2),
            (440, 10),
            (460, 2),
        ] {
            put(&mut file, at, &value.to_le_bytes());
        }
        let info = b"OSRELEASE=6.1.0\n";
        let mut notes = Vec::new();
        for word in [11u32, info.len() as u32, 0] {
            notes.extend(word.to_le_bytes());
        }
        notes.extend(b"VMCOREINFO\0\0");
        notes.extend(info);
        put(&mut file, 4096 + 8, &31u32.to_le_bytes());
        let notes_at = 4096 + 104;
        let fields = [
            (32, notes_at + 24),
            (40, info.len() as u64),
            (48, notes_at),
            (56, notes.len() as u64),
            (96, 10),
        ];
        for (at, value) in fields {
            put(&mut file, 4096 + at, &value.to_le_bytes());
        }
        put(&mut file, notes_at as usize, &notes);
        put(&mut file, 8192, &[0b1111_1100, 0]);
        put(&mut file, 12288, &[0b0101_1000, 0]);
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&[7; PAGE_SIZE]).unwrap();
        let packed = packed.finish().unwrap();
        let data_at = 16384 + 72;
        let page = PAGE_SIZE as u64;
        for (index, (offset, size, flags)) in [
            (data_at, page, 0u32),
            (data_at + page, packed.len() as u64, 1),
            (data_at + page + packed.len() as u64, page, 0),
        ]
        .into_iter()
        .enumerate()
        {
            put(&mut file, 16384 + index * 24, &offset.to_le_bytes());
            put(
                &mut file,
                16384 + index * 24 + 8,
                &(size as u32).to_le_bytes(),
            );
            put(&mut file, 16384 + index * 24 + 12, &flags.to_le_bytes());
            put(&mut file, 16384 + index * 24 + 16, &[0; 8]);
        }
        put(&mut file, data_at as usize, &[0; PAGE_SIZE]);
        put(&mut file, data_at as usize + PAGE_SIZE, &packed);
        put(
            &mut file,
            data_at as usize + PAGE_SIZE + packed.len(),
            &[9; PAGE_SIZE],
        );
        file
    }

    fn open(name: &str, bytes: &[u8]) -> Result<Dumpfile> {
        let path: PathBuf =
            std::env::temp_dir().join(format!("dumpfile-{name}-{}", std::process::id()));
        std::fs::write(&path, bytes)?;
        let dumpfile = Dumpfile::open(&path);
        std::fs::remove_file(&path)?;
        dumpfile
    }

    #[test]
    fn pages_are_found_by_their_rank() {
        let dumpfile = open("sample", &sample()).unwrap();
        assert_eq!((dumpfile.release.as_str(), dumpfile.level), ("6.1.0", 31));
        let present = dumpfile.present();
        assert_eq!((present.len(), &present[0]), (1, &(2..8)));
        let mut page = [1; PAGE_SIZE];
        for (pfn, byte) in [(3, 0), (4, 7), (6, 9)] {
            assert!(dumpfile.read_page(pfn, &mut page).unwrap());
            assert_eq!(page, [byte; PAGE_SIZE], "pfn {pfn}");
        }
        assert!(!dumpfile.read_page(5, &mut page).unwrap());
        assert!(!dumpfile.read_page(900, &mut page).unwrap());
    }

    #[test]
    fn a_cut_file_is_an_error() {
        let whole = sample();
        for size in (0..whole.len()).step_by(509).chain([whole.len() - 1]) {
            assert!(open("cut", &whole[..size]).is_err(), "{size} bytes");
        }
    }

    #[test]
    fn what_readers_stumble_over_is_an_error() {
        for (name, at, bytes) in [
            ("signature", 0, &b"DISK"[..]),
            ("machine", 12 + 4 * 65, b"vax\0"),
            ("tv_usec", 416, &[1]),
            ("max_mapnr", 440, &[9]),
            ("bitmap blocks", 436, &[3]),
            ("bit beyond max_mapnr", 8192 + 1, &[0xff]),
            ("notes beyond the sub-header", 4096 + 57, &[0xff]),
            ("descriptor beyond the file", 16384 + 24 + 6, &[1]),
            ("descriptor of another codec", 16384 + 24 + 12, &[2]),
            ("raw page of another size", 16384 + 48 + 8, &[1]),
        ] {
            let mut file = sample();
            put(&mut file, at, bytes);
            assert!(open("odd", &file).is_err(), "{name}");
        }
    }
}
