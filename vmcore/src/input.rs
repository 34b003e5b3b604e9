// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any file that a dump can be made from, as what the collector reads: vmcores, dumpfiles, flattened ones.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use collector::kdump::{DumpfileSource, Reader};
use collector::{IoError, OPEN_BYTES, Source, Vmcore, flattened, vmcore};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, SeekFrom as Place, seek};
use rustix::io::Errno;

use super::kcore::{Kcore, is_kcore};
use super::stream::Stream;

/// The most segments of an ELF file: 32 MiB of memory, of which as much is touched as there are segments.
const MAX_SEGMENTS: usize = 1 << 20;
/// Bytes of a program header.
const ELF_HEADER_BYTES: u64 = 32;

/// For a shorter read it takes longer to ask whether there is anything than to read it.
const WORTH_ASKING: usize = 64 << 10;

/// A file on this machine. Of a sparse one, what it has no blocks for is not read.
#[derive(Debug)]
pub(crate) struct FileSource {
    file: File,
    size_bytes: u64,
    /// The file once more, to ask for its holes.
    again: Option<OwnedFd>,
    /// Bytes of which it is known whether they are a hole.
    asked: Range<u64>,
    is_hole: bool,
}

impl FileSource {
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let in_path = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
        let mut file = File::open(path).map_err(|error| in_path(&error))?;
        let metadata = file.metadata().map_err(|error| in_path(&error))?;
        // A block device has its length elsewhere than a file.
        let size_bytes = match metadata.len() {
            0 => file.seek(SeekFrom::End(0)).unwrap_or(0),
            bytes => bytes,
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let again = rustix::fs::open(path.as_os_str().as_bytes(), flags, Mode::empty());
        Ok(Self {
            file,
            size_bytes,
            // It can do without.
            again: again.ok(),
            asked: 0..0,
            is_hole: false,
        })
    }

    /// Whether so many bytes from `offset` on are zeros because the file has nothing there.
    fn is_hole(&mut self, offset: u64, bytes: usize) -> bool {
        if !self.asked.contains(&offset) {
            self.ask(offset);
        }
        let end = offset.checked_add(bytes as u64);
        self.is_hole && end.is_some_and(|end| end <= self.asked.end)
    }

    /// Finds out where the hole ends that this byte is in, or where the next one begins.
    fn ask(&mut self, offset: u64) {
        let find = |place| {
            let file = self.again.as_ref().ok_or(Errno::BADF)?;
            seek(file, place)
        };
        let (end, is_hole) = match find(Place::Data(offset)) {
            Ok(data) if data > offset => (data, true),
            Ok(_) => (find(Place::Hole(offset)).unwrap_or(u64::MAX), false),
            Err(Errno::NXIO) => (self.size_bytes, true),
            // A device, or a file system that knows no holes.
            Err(_) => (u64::MAX, false),
        };
        (self.asked, self.is_hole) = (offset..end, is_hole);
    }
}

impl Source for FileSource {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        if buf.len() >= WORTH_ASKING && self.is_hole(offset, buf.len()) {
            buf.fill(0);
            return Ok(());
        }
        self.file
            .read_exact_at(buf, offset)
            .map_err(|error| io_error(&error))
    }
}

/// What the system said, as the library has it.
pub(crate) fn io_error(error: &io::Error) -> IoError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => IoError::END,
        _ => error.raw_os_error().map_or(IoError::IO, IoError),
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `/proc/vmcore`, a copy of it, an ELF dump.
    Elf,
    /// kdump-compressed.
    Dumpfile,
}

impl Shape {
    /// By a file's first bytes.
    ///
    /// # Errors
    /// What the file is instead, and what to do where that is known.
    ///
    /// Source: QEMU 7.2 `migration/qemu-file-types.h`, libvirt 9.0 `qemu_saveimage.h`.
    fn of(start: &[u8]) -> Result<Self, &'static str> {
        const STATES: [&[u8]; 3] = [b"QEVM", b"LibvirtQemudSave", b"LibvirtQemudPart"];
        if start.starts_with(b"\x7fELF") {
            Ok(Self::Elf)
        } else if start.starts_with(b"KDUMP   ") || start.starts_with(b"DISKDUMP") {
            Ok(Self::Dumpfile)
        } else if STATES.iter().any(|magic| start.starts_with(magic)) {
            Err(
                "the state of a virtual machine that is to go on, and not a dump of its memory; `virsh dump --memory-only` makes \
                 one, or QEMU's dump-guest-memory",
            )
        } else if start.starts_with(b"age-encryption.") {
            Err("an encrypted dump; make it readable first: vmcore decrypt -i KEYFILE FILE OUT")
        } else {
            Err("neither ELF nor kdump-compressed nor flattened, and so not a dump")
        }
    }
}

/// The bytes of a dump: those of the file, or those that a flattened file stands for.
#[derive(Debug)]
pub(crate) enum Plain {
    File(FileSource),
    Stream(Stream<FileSource>),
    Kcore(Kcore),
}

impl Source for Plain {
    fn size_bytes(&self) -> u64 {
        match self {
            Self::File(file) => file.size_bytes(),
            Self::Stream(stream) => stream.size_bytes(),
            Self::Kcore(kcore) => kcore.size_bytes(),
        }
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        match self {
            Self::File(file) => file.read_at(offset, buf),
            Self::Stream(stream) => stream.read_at(offset, buf),
            Self::Kcore(kcore) => kcore.read_at(offset, buf),
        }
    }

    fn hole(&mut self, offset: u64, end: u64) -> Option<(u64, u64)> {
        match self {
            Self::Stream(stream) => stream.hole(offset, end),
            Self::File(_) | Self::Kcore(_) => None,
        }
    }

    /// A flattened file without its end mark was cut short, whatever else its end says.
    fn is_incomplete(&self) -> bool {
        matches!(self, Self::Stream(stream) if !stream.is_complete())
    }
}

/// A file that is open, and what it is.
pub(crate) struct Bytes {
    pub(crate) source: Plain,
    pub(crate) shape: Shape,
}

impl Bytes {
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let mut file = FileSource::open(path)?;
        let mut start = [0; 16];
        let known = file.read_at(0, &mut start).is_ok();
        let mut source = if known && flattened::is_stream(&start) {
            let stream =
                Stream::open(file).map_err(|error| format!("{}: {error}", path.display()))?;
            Plain::Stream(stream)
        } else if is_kcore(path) {
            Plain::Kcore(Kcore::open(file).map_err(|error| format!("{}: {error}", path.display()))?)
        } else {
            Plain::File(file)
        };
        let shape = source
            .read_at(0, &mut start)
            .map_err(|_| "too short for a dump")
            .and_then(|()| Shape::of(&start))
            .map_err(|what| format!("{}: {what}", path.display()))?;
        Ok(Self { source, shape })
    }

    /// For a flattened file, whether its end mark is there.
    pub(crate) fn flattened(&self) -> Option<bool> {
        match &self.source {
            Plain::File(_) | Plain::Kcore(_) => None,
            Plain::Stream(stream) => Some(stream.is_complete()),
        }
    }
}

/// The vmcore, whatever it is stored as.
pub(crate) enum Input {
    Plain(Plain),
    Dumpfile(Box<DumpfileSource<'static, Plain>>),
}

impl Source for Input {
    fn size_bytes(&self) -> u64 {
        match self {
            Self::Plain(plain) => plain.size_bytes(),
            Self::Dumpfile(dumpfile) => dumpfile.size_bytes(),
        }
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        match self {
            Self::Plain(plain) => plain.read_at(offset, buf),
            Self::Dumpfile(dumpfile) => dumpfile.read_at(offset, buf),
        }
    }

    fn hole(&mut self, offset: u64, end: u64) -> Option<(u64, u64)> {
        match self {
            Self::Plain(plain) => plain.hole(offset, end),
            Self::Dumpfile(dumpfile) => dumpfile.hole(offset, end),
        }
    }

    fn is_incomplete(&self) -> bool {
        match self {
            Self::Plain(plain) => plain.is_incomplete(),
            Self::Dumpfile(dumpfile) => dumpfile.is_incomplete(),
        }
    }
}

/// Opens a vmcore, or a dumpfile as if it were one.
pub(crate) fn open_source(path: &Path) -> Result<Input, String> {
    let bytes = Bytes::open(path)?;
    if bytes.shape != Shape::Dumpfile {
        return Ok(Input::Plain(bytes.source));
    }
    // As long as the command runs.
    let memory = vec![0; DumpfileSource::<Plain>::MEMORY_BYTES].leak();
    let source = DumpfileSource::open(bytes.source, memory)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Input::Dumpfile(Box::new(source)))
}

/// Opens a vmcore or a dumpfile as a vmcore, with the text of VMCOREINFO from elsewhere where one is given.
pub(crate) fn open_vmcore(
    path: &Path,
    vmcoreinfo: Option<&[u8]>,
) -> Result<Vmcore<'static, Input>, String> {
    let source = open_source(path)?;
    // A filtered ELF dump has thousands of segments. No file has more than its length has room for.
    let segments = usize::try_from(source.size_bytes() / ELF_HEADER_BYTES).unwrap_or(MAX_SEGMENTS);
    let more = segments.min(MAX_SEGMENTS) * vmcore::SEGMENT_BYTES;
    let memory = vec![0; OPEN_BYTES + more].leak();
    Vmcore::open_with(source, vmcoreinfo, memory)
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// A dumpfile's reader, for a file that is one.
pub(crate) type Dumpfile = Reader<'static, Plain>;

/// Opens a dumpfile, also one of several.
pub(crate) fn open_dumpfile(path: &Path, bytes: Bytes) -> Result<Dumpfile, String> {
    let memory = vec![0; Dumpfile::MEMORY_BYTES].leak();
    Reader::open_part(bytes.source, memory).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_dump_is_told_by_its_first_bytes() {
        assert_eq!(Shape::of(b"\x7fELF\x02\x01\x01"), Ok(Shape::Elf));
        assert_eq!(Shape::of(b"KDUMP   \x06"), Ok(Shape::Dumpfile));
        for (start, part) in [
            (&b"QEVM\0\0\0\x03"[..], "virsh dump --memory-only"),
            (b"LibvirtQemudSave\x02", "virsh dump --memory-only"),
            (b"age-encryption.org/v1\n", "vmcore decrypt"),
            (b"\x1f\x8b\x08", "neither ELF nor"),
            (b"", "neither ELF nor"),
        ] {
            assert!(Shape::of(start).unwrap_err().contains(part), "{start:?}");
        }
    }

    #[test]
    fn holes_of_a_file_are_zeros_and_what_is_between_them_is_read() {
        const STEP: u64 = 1 << 20;
        let path = std::env::temp_dir().join(format!("vmcore-holes-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        for number in 1..4 {
            let place = number * 4 * STEP;
            file.write_all_at(&vec![number as u8; STEP as usize], place)
                .unwrap();
        }
        file.set_len(20 * STEP).unwrap();
        let mut source = FileSource::open(&path).unwrap();
        let mut found_hole = false;
        let mut buf = vec![9; STEP as usize / 2];
        // Forwards, and backwards over what was asked before.
        for half in (0..40).chain((0..40).rev()) {
            let offset = half * STEP / 2;
            source.read_at(offset, &mut buf).unwrap();
            let number = match half {
                8 | 9 | 16 | 17 | 24 | 25 => half / 8,
                _ => 0,
            };
            assert!(buf.iter().all(|&byte| byte == number as u8), "{half}");
            found_hole |= source.is_hole;
        }
        // Over an edge, and over the end.
        source.read_at(4 * STEP - STEP / 4, &mut buf).unwrap();
        assert_eq!((buf[0], buf[buf.len() - 1]), (0, 1));
        assert_eq!(source.read_at(20 * STEP - 9, &mut buf), Err(IoError::END));
        std::fs::remove_file(&path).unwrap();
        println!("the file system has holes: {found_hole}");
    }
}
