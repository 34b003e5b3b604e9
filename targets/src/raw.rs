// SPDX-License-Identifier: MIT OR Apache-2.0
//! A whole block device as the place of a dump: the dumpfile begins at its first byte, as `dd` would write it, and in the
//! last MiB is what says how much of it is there ([`collector::raw`]).
//!
//! ```text
//! Raw::open ─▶ begin ─▶ create("vmcore") ─▶ RawFile ─▶ publish
//! nothing     "begun"                                  "complete"; or leave: "cut"
//! ```

use crate::device::Found;
use crate::io::{Disk, io};
use crate::output::Output;
use crate::superblock::{self, Kind};
use crate::text::{Name, Text};
use collector::crc::crc32;
use collector::raw::{
    Control, DumpName, Part, State, Stored, Sums, area_start, place_of_sums, read_part,
};
use collector::{IoError, Sink, Source as _, raw};
use core::cell::RefCell;
use core::fmt;
use core::ops::Range;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags, SeekFrom, fallocate, fsync, openat, seek};
use rustix::io::{Errno, dup};

/// How much of a dump goes to the disk before the control block says so. What is cut by a machine that stops is worth as
/// much as the block knows of.
const NOTED_BYTES: u64 = 64 << 20;
/// A stretch of zeros begins and ends on such a border, where the device is asked for it.
const ZERO_UNIT: u64 = 4096;
/// What is written, and read back, at a time.
const PIECE_BYTES: usize = 4096;

/// A block device that nothing else writes to while it is open.
pub struct Raw {
    fd: OwnedFd,
    node: Name,
    path: Text<255>,
    /// Where the dumpfile must end.
    area_start: u64,
    control: RefCell<Control>,
}

/// What becomes of what is on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupied {
    /// A dump that nobody has recovered yet is overwritten.
    pub unsaved: bool,
    /// A file system, or what else has a known signature, is overwritten.
    pub signature: bool,
}

/// Why a block device cannot take a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawError {
    /// The kernel takes no writes to it.
    ReadOnly(Name),
    /// It is mounted, or part of a mapping or an array.
    InUse(Name),
    /// It has something that was not there when the image was built.
    Holds(Name, Kind),
    /// It has a dump that nobody has recovered.
    Unsaved(Name, Text<32>),
    /// It is smaller than what the caller needs.
    TooSmall {
        /// The node.
        node: Name,
        /// How much of it a dumpfile can have.
        room_bytes: u64,
        /// What is needed.
        needed_bytes: u64,
    },
    /// It could not be opened, or does not tell its size.
    Open(Name, IoError),
    /// The control block could not be written.
    Control(Name, IoError),
}

impl fmt::Display for RawError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadOnly(node) => {
                write!(f, "{node} is read-only; a raw dump needs to write to it")
            }
            Self::InUse(node) => write!(
                f,
                "{node} is in use (mounted, or part of a mapping or an array); a raw dump would destroy it"
            ),
            Self::Holds(node, kind) => write!(
                f,
                "{node} holds {kind}, which a raw dump would destroy, and which was not there when the image was built"
            ),
            Self::Unsaved(node, name) => write!(
                f,
                "{node} has the dump of {name}, which nobody has recovered (vmcore save-raw {node} FOLDER)"
            ),
            Self::TooSmall {
                node,
                room_bytes,
                needed_bytes,
            } => write!(
                f,
                "{node} has {room_bytes} bytes for a dump and it needs {needed_bytes}"
            ),
            Self::Open(node, error) => write!(f, "opening {node} for writing: {error}"),
            Self::Control(node, error) => {
                write!(f, "writing the control block at the end of {node}: {error}")
            }
        }
    }
}

impl core::error::Error for RawError {}

/// The least that a dumpfile gets, on the smallest device that is of any use.
const LEAST_BYTES: u64 = 1 << 20;

impl Raw {
    /// Opens the device for this writer alone. `needed_bytes` is what the dump needs at least, as far as that is known
    /// before it starts: an unfiltered copy knows, a filtered dump does not.
    ///
    /// # Errors
    /// See [`RawError`]. Nothing was written then.
    pub fn open(found: &Found, needed_bytes: u64, may_lose: Occupied) -> Result<Self, RawError> {
        let node = found.node;
        if found.is_read_only {
            return Err(RawError::ReadOnly(node));
        }
        let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
        let path = node.as_str().unwrap_or_default();
        let fd = openat(CWD, path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::BUSY => RawError::InUse(node),
            Errno::ROFS | Errno::ACCESS => RawError::ReadOnly(node),
            _ => RawError::Open(node, io(errno)),
        })?;
        let failed = |errno| RawError::Open(node, io(errno));
        let size_bytes = seek(&fd, SeekFrom::End(0)).map_err(failed)?;
        let room_bytes = area_start(size_bytes).unwrap_or(0);
        let needed_bytes = needed_bytes.max(LEAST_BYTES);
        if room_bytes < needed_bytes {
            return Err(RawError::TooSmall {
                node,
                room_bytes,
                needed_bytes,
            });
        }
        let opened = Self {
            path: Text::new(node.as_bytes()),
            node,
            area_start: room_bytes,
            control: RefCell::new(Control::begun(size_bytes, DumpName::new())),
            fd,
        };
        opened.check_content(may_lose)?;
        Ok(opened)
    }

    /// Refuses to overwrite what somebody may still want. What cannot be read is no reason: the disk may still take a dump.
    fn check_content(&self, may_lose: Occupied) -> Result<(), RawError> {
        let Ok(mut disk) = self.disk() else {
            return Ok(());
        };
        if let Ok(control) = raw::read_control(&mut disk)
            && !control.is_saved
            && !may_lose.unsaved
        {
            let name = Text::new(control.name.as_bytes());
            return Err(RawError::Unsaved(self.node, name));
        }
        // A control block of an older dump does not speak against it: mkfs leaves the last MiB alone.
        if !may_lose.signature
            && let Ok(Some(identity)) = superblock::identify(&mut disk)
        {
            return Err(RawError::Holds(self.node, identity.kind));
        }
        Ok(())
    }

    fn disk(&self) -> Result<Disk, IoError> {
        Ok(Disk::from(
            dup(&self.fd).map_err(io)?,
            self.control.borrow().device_bytes,
        ))
    }

    /// The unsaved dump that the device has.
    #[must_use]
    pub fn unsaved(&self) -> Option<DumpName> {
        let control = raw::read_control(&mut self.disk().ok()?).ok()?;
        (!control.is_saved).then_some(control.name)
    }

    /// Begins a dump: from here on the device has this one and no other.
    ///
    /// # Errors
    /// [`RawError::Control`]
    pub fn begin(&self, name: &str) -> Result<(), RawError> {
        {
            let mut control = self.control.borrow_mut();
            let name = DumpName::try_from(name).unwrap_or_default();
            *control = Control::begun(control.device_bytes, name);
        }
        self.write_control()
            .map_err(|error| RawError::Control(self.node, error))
    }

    /// What [`Raw::open`] was given.
    #[must_use]
    pub const fn path(&self) -> &Text<255> {
        &self.path
    }

    /// How long a dumpfile can be.
    #[must_use]
    pub const fn room_bytes(&self) -> u64 {
        self.area_start
    }

    /// One of the files of a dump: the small ones have their room in the last MiB, and any other is the dumpfile.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn create(&self, name: &str) -> Result<RawFile<'_>, IoError> {
        Ok(RawFile {
            raw: self,
            part: Part::from_name(name),
            output: Output::new(dup(&self.fd).map_err(io)?),
            end: 0,
            noted: 0,
            sums: Some(Sums::new(self.area_start)),
            clean: 0..0,
        })
    }

    fn note(&self, change: impl FnOnce(&mut Control)) -> Result<(), IoError> {
        change(&mut self.control.borrow_mut());
        self.write_control()
    }

    /// What came before is on the disk before the block that tells of it.
    fn write_control(&self) -> Result<(), IoError> {
        fsync(&self.fd).map_err(io)?;
        let block = self.control.borrow().encode();
        let mut output = Output::new(dup(&self.fd).map_err(io)?);
        output.write_at(self.area_start, &block)?;
        fsync(&self.fd).map_err(io)
    }
}

/// A file of a dump on a block device.
pub struct RawFile<'r> {
    raw: &'r Raw,
    /// None for the dumpfile.
    part: Option<Part>,
    output: Output,
    /// Behind the last byte that was written.
    end: u64,
    /// How much of it the control block knows of.
    noted: u64,
    /// The dumpfile's checksums, as long as they are known.
    sums: Option<Sums>,
    /// Zeros before the end, which nothing was written over yet.
    clean: Range<u64>,
}

impl RawFile<'_> {
    /// Makes the file complete: it is on the disk, and the control block says so.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn publish(self) -> Result<(), IoError> {
        let raw = self.raw;
        let Some(part) = self.part else {
            return self.end_as(State::Complete);
        };
        fsync(&raw.fd).map_err(io)?;
        let mut buffer = [0; PIECE_BYTES];
        let crc = read_part(
            &mut raw.disk()?,
            raw.area_start,
            part,
            self.end,
            &mut buffer,
            &mut |_| Ok(()),
        )?;
        raw.note(|control| {
            control.set_part(
                part,
                Stored {
                    bytes: self.end,
                    crc,
                },
            );
        })
    }

    /// Leaves what was written of a dumpfile that came to nothing, and says so in the control block.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn leave(&mut self) -> Result<(), IoError> {
        // What is lost shows as pages that cannot be read; more is worth more.
        let synced = fsync(&self.raw.fd);
        self.end_as(State::Cut)?;
        synced.map_err(io)
    }

    /// Nothing more comes of the dumpfile.
    fn end_as(&self, state: State) -> Result<(), IoError> {
        let mut crc = None;
        if let Some(sums) = &self.sums {
            let bytes = sums.encode();
            let at = place_of_sums(self.raw.area_start);
            Output::new(dup(&self.raw.fd).map_err(io)?).write_at(at, &bytes)?;
            crc = Some(crc32(0, &bytes));
        }
        self.raw.note(|control| {
            control.state = state;
            control.dump_bytes = self.end;
            control.sums = crc;
        })
    }

    /// Throws away what was written, for another try at a higher dump level.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn restart(&mut self) -> Result<(), IoError> {
        (self.end, self.noted) = (0, 0);
        (self.sums, self.clean) = (Some(Sums::new(self.raw.area_start)), 0..0);
        self.output.restart();
        self.raw.note(|control| control.dump_bytes = 0)
    }

    /// Another program wrote the dumpfile: how much of it nobody knows, so that it is all that there is room for.
    pub fn fill(&mut self) {
        self.end = self.raw.area_start;
        self.sums = None;
    }

    /// Cuts the file to its first `size_bytes`.
    pub fn cut(&mut self, size_bytes: u64) {
        if size_bytes < self.end {
            self.end = size_bytes;
            self.sums = None;
        }
    }

    /// What is at `range`, before the end, is written over: it counts for the checksums no more.
    fn uncount(&mut self, range: Range<u64>) {
        let is_clean = self.clean.start <= range.start && range.end <= self.clean.end;
        if range.start < self.clean.end && self.clean.start < range.end {
            // What comes in order leaves it clean to the end. Zeros before that are read back, and count for nothing.
            self.clean.start = range.end.min(self.clean.end);
        }
        if !is_clean && self.read_back(range).is_err() {
            self.sums = None;
        }
    }

    fn read_back(&mut self, range: Range<u64>) -> Result<(), IoError> {
        let Some(sums) = &mut self.sums else {
            return Ok(());
        };
        let mut disk = self.raw.disk()?;
        let mut buffer = [0; PIECE_BYTES];
        let mut offset = range.start;
        while offset < range.end {
            let left = usize::try_from(range.end.saturating_sub(offset)).unwrap_or(usize::MAX);
            let (piece, _) = buffer.split_at_mut(left.min(PIECE_BYTES));
            disk.read_at(offset, piece)?;
            sums.remove(offset, piece);
            offset = offset.saturating_add(piece.len() as u64);
        }
        Ok(())
    }

    fn write_part(&mut self, part: Part, mut offset: u64, data: &[u8]) -> Result<(), IoError> {
        let mut rest = data;
        while !rest.is_empty() {
            let (place, in_a_row) = part.place(offset);
            let length = rest
                .len()
                .min(usize::try_from(in_a_row).unwrap_or(usize::MAX));
            let (now, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            let at = self.raw.area_start.saturating_add(place);
            self.output.write_at(at, now)?;
            offset = offset.saturating_add(length as u64);
            rest = behind;
        }
        Ok(())
    }

    /// A file has zeros where nothing was written, a disk has what was there before: descriptors of an older dump would
    /// pass for this one's.
    fn write_zeros(&mut self, start: u64, end: u64) -> Result<(), IoError> {
        let first = start.next_multiple_of(ZERO_UNIT).min(end);
        let last = (end & !ZERO_UNIT.saturating_sub(1)).max(first);
        self.write_zero_bytes(start, first)?;
        if last > first {
            let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
            let length = last.saturating_sub(first);
            if fallocate(&self.raw.fd, flags, first, length).is_err() {
                self.write_zero_bytes(first, last)?;
            }
        }
        self.write_zero_bytes(last, end)
    }

    fn write_zero_bytes(&mut self, mut start: u64, end: u64) -> Result<(), IoError> {
        while start < end {
            let left = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
            let zeros = [0; PIECE_BYTES];
            let piece = zeros.get(..left).unwrap_or(&zeros);
            self.output.write_at(start, piece)?;
            start = start.saturating_add(piece.len() as u64);
        }
        Ok(())
    }
}

impl Sink for RawFile<'_> {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        let end = offset
            .checked_add(data.len() as u64)
            .ok_or(IoError::NO_SPACE)?;
        if let Some(part) = self.part {
            self.write_part(part, offset, data)?;
            self.end = self.end.max(end);
            return Ok(());
        }
        if end > self.raw.area_start {
            return Err(IoError::NO_SPACE);
        }
        if offset > self.end {
            self.write_zeros(self.end, offset)?;
            self.clean = self.end..offset;
        } else if offset < self.end {
            self.uncount(offset..end.min(self.end));
        }
        if let Err(error) = self.output.write_at(offset, data) {
            // How much of it came to be nobody knows.
            self.sums = None;
            return Err(error);
        }
        if let Some(sums) = &mut self.sums {
            sums.add(offset, data);
        }
        self.end = self.end.max(end);
        if self.end.saturating_sub(self.noted) >= NOTED_BYTES {
            self.noted = self.end;
            let noted = self.noted;
            self.raw.note(|control| control.dump_bytes = noted)?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), IoError> {
        fsync(&self.raw.fd).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Text;
    use std::fs;
    use std::path::PathBuf;

    const MIB: u64 = 1 << 20;
    const NOTHING: Occupied = Occupied {
        unsaved: false,
        signature: false,
    };
    const ALL: Occupied = Occupied {
        unsaved: true,
        signature: true,
    };

    /// A file that stands for a device; opening it alone is what only a real one refuses.
    struct Device {
        path: PathBuf,
        found: Found,
    }

    impl Device {
        fn new(name: &str, size_bytes: u64) -> Self {
            let name = format!("kdumprd-raw-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            // What an earlier dump left, or anything else.
            fs::write(&path, vec![0xa5; size_bytes as usize]).unwrap();
            let found = Found {
                node: Text::new(path.to_str().unwrap().as_bytes()),
                name: Text::new(b"vdb"),
                size_bytes,
                is_read_only: false,
            };
            Self { path, found }
        }

        fn open(&self) -> Raw {
            Raw::open(&self.found, 0, NOTHING).unwrap()
        }

        fn refusal(&self, needed_bytes: u64, may_lose: Occupied) -> String {
            let error = Raw::open(&self.found, needed_bytes, may_lose).err();
            error.unwrap().to_string()
        }

        fn bytes(&self) -> Vec<u8> {
            fs::read(&self.path).unwrap()
        }

        fn control(&self) -> Control {
            raw::read_control(&mut superblock::tests::Bytes(&self.bytes())).unwrap()
        }
    }

    impl Drop for Device {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.path);
        }
    }

    #[test]
    fn the_dump_begins_at_the_first_byte_and_the_rest_is_behind_it() {
        let device = Device::new("first", 4 * MIB);
        let raw = device.open();
        raw.begin("2026-11-23-04:57").unwrap();
        assert_eq!(device.control().state, State::Begun);
        let mut dmesg = raw.create("vmcore-dmesg.txt").unwrap();
        dmesg.write_at(0, b"Kernel panic").unwrap();
        dmesg.publish().unwrap();
        let mut dump = raw.create("vmcore").unwrap();
        dump.write_at(0, b"KDUMP").unwrap();
        dump.write_at(3 * MIB - 3, b"end").unwrap();
        assert_eq!(device.control().state, State::Begun);
        dump.publish().unwrap();
        let control = device.control();
        assert_eq!(
            (control.state, control.dump_bytes, control.name.as_str()),
            (State::Complete, 3 * MIB, "2026-11-23-04:57")
        );
        assert_eq!(
            control.part(Part::Dmesg),
            Stored {
                bytes: 12,
                crc: crc32(0, b"Kernel panic")
            }
        );
        let bytes = device.bytes();
        assert!(bytes.starts_with(b"KDUMP"));
        assert_eq!(bytes[3 * MIB as usize - 3..3 * MIB as usize], *b"end");
        assert!(bytes[5..3 * MIB as usize - 3].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn the_checksums_are_those_of_what_is_on_the_device_in_whatever_order_it_came() {
        let device = Device::new("sums", 4 * MIB);
        let raw = device.open();
        raw.begin("2026-11-23-04:57").unwrap();
        let mut dump = raw.create("vmcore").unwrap();
        let noise: Vec<u8> = (0..300_000_u32)
            .map(|index| (index.wrapping_mul(index) >> 7) as u8)
            .collect();
        let write = |dump: &mut RawFile<'_>| {
            dump.write_at(0, &noise[..4096]).unwrap();
            dump.write_at(200_000, &noise).unwrap();
            // Into the zeros between, in order and out of it, over the border of them, and twice over the same.
            for at in [8192, 10_000, 100_000, 50_001, 199_000, 9_000, 0, 3] {
                dump.write_at(at, &noise[at as usize..][..1500]).unwrap();
            }
        };
        write(&mut dump);
        dump.restart().unwrap();
        write(&mut dump);
        dump.publish().unwrap();
        let bytes = device.bytes();
        let mut found = Sums::new(3 * MIB);
        found.add(0, &bytes[..500_000]);
        let mut disk = Raw::open(&device.found, 0, ALL).unwrap().disk().unwrap();
        let control = device.control();
        let written = raw::read_sums(&mut disk, &control).unwrap().unwrap();
        assert_eq!(written, found);
        assert_eq!(control.dump_bytes, 500_000);

        let mut broken = bytes;
        broken[3 * MIB as usize + 600] ^= 1;
        fs::write(&device.path, broken).unwrap();
        assert!(raw::read_sums(&mut disk, &control).is_err());
    }

    #[test]
    fn a_dump_that_another_program_wrote_has_no_checksums() {
        let device = Device::new("no-sums", 4 * MIB);
        let raw = device.open();
        raw.begin("2026-11-23-04:57").unwrap();
        let mut dump = raw.create("vmcore").unwrap();
        dump.fill();
        dump.publish().unwrap();
        assert_eq!(device.control().sums, None);
    }

    #[test]
    fn the_last_mib_is_not_for_the_dump() {
        let device = Device::new("small", 3 * MIB);
        assert_eq!(
            device.refusal(2 * MIB + 1, NOTHING),
            format!(
                "{} has {} bytes for a dump and it needs {}",
                device.found.node,
                2 * MIB,
                2 * MIB + 1
            )
        );
        let raw = Raw::open(&device.found, 2 * MIB, NOTHING).unwrap();
        let mut dump = raw.create("vmcore").unwrap();
        assert_eq!(dump.write_at(2 * MIB - 1, b"xy"), Err(IoError::NO_SPACE));
        assert_eq!(dump.write_at(u64::MAX, b"xy"), Err(IoError::NO_SPACE));
        assert!(device.bytes().iter().all(|&byte| byte == 0xa5));
        assert!(
            Device::new("tiny", MIB)
                .refusal(0, ALL)
                .contains("0 bytes for a dump")
        );
    }

    #[test]
    fn a_failed_dump_says_how_far_it_got() {
        let device = Device::new("cut", 4 * MIB);
        let raw = device.open();
        raw.begin("2026-11-23-04:57").unwrap();
        let mut dump = raw.create("vmcore").unwrap();
        dump.write_at(0, &[1; 1000]).unwrap();
        dump.leave().unwrap();
        let control = device.control();
        assert_eq!((control.state, control.dump_bytes), (State::Cut, 1000));
    }

    #[test]
    fn the_manifest_has_the_length_that_it_was_cut_to() {
        let device = Device::new("manifest", 4 * MIB);
        let raw = device.open();
        raw.begin("2026-11-23-04:57").unwrap();
        let mut manifest = raw.create("manifest.json").unwrap();
        manifest.write_at(0, &[b' '; 4096]).unwrap();
        manifest.write_at(0, b"{}").unwrap();
        manifest.cut(2);
        manifest.publish().unwrap();
        assert_eq!(device.control().part(Part::Manifest).bytes, 2);
    }

    #[test]
    fn a_dump_that_nobody_recovered_is_kept_unless_it_may_be_lost() {
        let device = Device::new("unsaved", 4 * MIB);
        let raw = device.open();
        raw.begin("2026-11-23-04:57").unwrap();
        raw.create("vmcore").unwrap().publish().unwrap();
        assert_eq!(
            device.refusal(0, NOTHING),
            format!(
                "{0} has the dump of 2026-11-23-04:57, which nobody has recovered (vmcore save-raw {0} FOLDER)",
                device.found.node
            )
        );
        let again = Raw::open(&device.found, 0, ALL).unwrap();
        assert_eq!(again.unsaved().as_deref(), Some("2026-11-23-04:57"));
        again.note(|control| control.is_saved = true).unwrap();
        assert_eq!(device.open().unsaved(), None);
    }

    #[test]
    fn a_file_system_is_kept_unless_it_may_be_lost() {
        let device = Device::new("signature", 4 * MIB);
        let mut bytes = device.bytes();
        bytes[4086..4096].copy_from_slice(b"SWAPSPACE2");
        bytes[1024..1028].copy_from_slice(&1_u32.to_le_bytes());
        fs::write(&device.path, bytes).unwrap();
        assert!(device.refusal(0, NOTHING).contains("holds swap"));
        let raw = Raw::open(&device.found, 0, ALL).unwrap();
        raw.begin("2026-11-23-04:57").unwrap();
        raw.note(|control| control.is_saved = true).unwrap();
        // A file system that was made over a dump leaves its control block where it is.
        assert!(device.refusal(0, NOTHING).contains("holds swap"));
    }

    #[test]
    fn a_read_only_device_and_a_missing_node_are_named() {
        let mut device = Device::new("ro", 4 * MIB);
        device.found.is_read_only = true;
        assert_eq!(
            device.refusal(0, NOTHING),
            format!(
                "{} is read-only; a raw dump needs to write to it",
                device.found.node
            )
        );
        device.found.is_read_only = false;
        fs::remove_file(&device.path).unwrap();
        assert_eq!(
            device.refusal(0, NOTHING),
            format!("opening {} for writing: ENOENT", device.found.node)
        );
    }
}
