// SPDX-License-Identifier: MIT OR Apache-2.0
//! A dump on a block device without a file system: the dumpfile from the first byte on, and in the last MiB what says
//! how much of it is there.
//!
//! ```text
//! 0                                     area_start                                       device_bytes
//! │ the dumpfile, as dd would write it  │ control block │ sums │ manifest │ dmesg │ own log │ …  │
//!                                       0               512    4 KiB      64 KiB  704 KiB   1 MiB
//! ```
//! The control block is written as "begun" before anything else and as "complete" when everything else is on the disk. It
//! fits a sector, which a disk writes whole or not at all. Whoever reads it takes it for what it is: bytes from a disk.
//!
//! The sums are checksums of the dumpfile by ranges, made while it is written ([`Sums`]). A dump whose writer was stopped has
//! none, and neither has one of version 1.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

mod sums;

pub use sums::{SUMS_BYTES, Sums};

use crate::crc::crc32;
use crate::io::{IoError, Source};
use core::fmt;
use heapless::String;

/// What the control block and the small files have at the end of the device.
pub const AREA_BYTES: u64 = 1 << 20;
/// The control block's own length.
pub const CONTROL_BYTES: usize = 512;

/// The area begins on a border of this.
const ALIGNMENT: u64 = 4096;
const MAGIC: &[u8; 16] = b"kdumprd raw dump";
/// What is written. Of version 1, which had no sums, everything else lies where it did.
const VERSION: u32 = 2;
const FIRST_VERSION: u32 = 1;
/// Where the checksum over all that is before it lies.
const CRC_AT: usize = CONTROL_BYTES - 4;
const NAME_AT: usize = 96;
/// Whether there are sums, and the checksum over them.
const SUMS_AT: usize = 160;

/// The name of the directory that the dump would have had on a file system.
pub type DumpName = String<64>;

/// Where the area begins on a device of this size, which is the end of what a dumpfile may have. None when the device
/// has no room for more than the area.
#[must_use]
pub const fn area_start(device_bytes: u64) -> Option<u64> {
    match device_bytes.checked_sub(AREA_BYTES) {
        Some(start) if start >= ALIGNMENT => Some(start & !(ALIGNMENT - 1)),
        _ => None,
    }
}

/// How far a dump is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was being written, as far as the disk knows.
    Begun,
    /// It is whole.
    Complete,
    /// It failed, and what had been written by then is there.
    Cut,
}

impl State {
    const ALL: [(u32, Self); 3] = [(1, Self::Begun), (2, Self::Complete), (3, Self::Cut)];
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begun => "cut short: the machine stopped while it was being written",
            Self::Complete => "complete",
            Self::Cut => "cut short: writing it failed",
        })
    }
}

/// A small file in the area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `manifest.json`
    Manifest,
    /// `vmcore-dmesg.txt`
    Dmesg,
    /// `kexec-dmesg.log`
    OwnLog,
}

impl Part {
    /// All of them, in the order of the control block.
    pub const ALL: [Self; 3] = [Self::Manifest, Self::Dmesg, Self::OwnLog];

    /// The part of this file name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }

    /// Its file name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest.json",
            Self::Dmesg => "vmcore-dmesg.txt",
            Self::OwnLog => "kexec-dmesg.log",
        }
    }

    /// Where its room begins in the area, and how long it is.
    const fn room(self) -> (u64, u64) {
        match self {
            Self::Manifest => (4 << 10, 60 << 10),
            Self::Dmesg => (64 << 10, 640 << 10),
            Self::OwnLog => (704 << 10, 320 << 10),
        }
    }

    /// How many bytes of a file are kept.
    #[must_use]
    pub const fn room_bytes(self) -> u64 {
        self.room().1
    }

    /// Where the byte at `offset` of the file lies in the area, and how many behind it lie in a row. A file that is longer
    /// than its room goes round: of a log the end counts.
    #[must_use]
    pub fn place(self, offset: u64) -> (u64, u64) {
        let (start, length) = self.room();
        let inside = offset.checked_rem(length).unwrap_or(0);
        (start.saturating_add(inside), length.saturating_sub(inside))
    }

    /// The first byte of a file of `bytes` that is still there.
    #[must_use]
    pub fn first_kept(self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.room().1)
    }
}

/// What the control block says of a small file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its length; 0 for a file that is not there.
    pub bytes: u64,
    /// CRC-32 of what is kept of it.
    pub crc: u32,
}

/// The control block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// How far the dump is.
    pub state: State,
    /// It was copied to where it is safe.
    pub is_saved: bool,
    /// The size of the device that it was written to.
    pub device_bytes: u64,
    /// The dumpfile's length. Of one that was begun, what was on the disk for sure when the block was written.
    pub dump_bytes: u64,
    /// What its directory is to be called.
    pub name: DumpName,
    /// The small files, in the order of [`Part::ALL`].
    pub parts: [Stored; 3],
    /// CRC-32 of the dumpfile's [`Sums`], where there are any.
    pub sums: Option<u32>,
}

/// Why there is no control block to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlError {
    /// The device could not be read.
    Io(IoError),
    /// The device is too small to have one.
    TooSmall,
    /// There is none.
    Absent,
    /// There is one, and it makes no sense: why.
    Damaged(&'static str),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "reading the control block: {error}"),
            Self::TooSmall => f.write_str("the device has no room for a control block"),
            Self::Absent => f.write_str("there is no control block of a dump"),
            Self::Damaged(why) => write!(f, "the control block is damaged: {why}"),
        }
    }
}

impl core::error::Error for ControlError {}

impl Control {
    /// A dump that begins now.
    #[must_use]
    pub const fn begun(device_bytes: u64, name: DumpName) -> Self {
        Self {
            state: State::Begun,
            is_saved: false,
            device_bytes,
            dump_bytes: 0,
            name,
            parts: [Stored { bytes: 0, crc: 0 }; 3],
            sums: None,
        }
    }

    /// What is known of a small file.
    #[must_use]
    pub fn part(&self, part: Part) -> Stored {
        let known = Part::ALL.into_iter().zip(self.parts);
        known
            .filter(|(one, _)| *one == part)
            .map(|(_, stored)| stored)
            .next()
            .unwrap_or_default()
    }

    /// Takes note of a small file.
    pub fn set_part(&mut self, part: Part, stored: Stored) {
        for (one, place) in Part::ALL.into_iter().zip(&mut self.parts) {
            if one == part {
                *place = stored;
            }
        }
    }

    /// The block as it lies on the disk.
    #[must_use]
    pub fn encode(&self) -> [u8; CONTROL_BYTES] {
        let mut block = [0; CONTROL_BYTES];
        let state = State::ALL
            .into_iter()
            .find(|(_, state)| *state == self.state)
            .map_or(0, |(number, _)| number);
        put(&mut block, 0, MAGIC);
        put(&mut block, 16, &VERSION.to_le_bytes());
        put(&mut block, 20, &state.to_le_bytes());
        put(&mut block, 24, &self.device_bytes.to_le_bytes());
        put(&mut block, 32, &self.dump_bytes.to_le_bytes());
        put(&mut block, 40, &u32::from(self.is_saved).to_le_bytes());
        for (at, stored) in (48..).step_by(16).zip(self.parts) {
            put(&mut block, at, &stored.bytes.to_le_bytes());
            put(&mut block, at.saturating_add(8), &stored.crc.to_le_bytes());
        }
        put(&mut block, NAME_AT, self.name.as_bytes());
        if let Some(crc) = self.sums {
            put(&mut block, SUMS_AT, &1_u32.to_le_bytes());
            put(&mut block, SUMS_AT.saturating_add(4), &crc.to_le_bytes());
        }
        let crc = crc32(0, block.get(..CRC_AT).unwrap_or_default());
        put(&mut block, CRC_AT, &crc.to_le_bytes());
        block
    }

    /// The control block in these bytes of a device of this size.
    ///
    /// # Errors
    /// [`ControlError::Absent`] without the magic number, else [`ControlError::Damaged`].
    pub fn decode(block: &[u8; CONTROL_BYTES], device_bytes: u64) -> Result<Self, ControlError> {
        if !block.starts_with(MAGIC) {
            return Err(ControlError::Absent);
        }
        let crc = crc32(0, block.get(..CRC_AT).unwrap_or_default());
        if crc != u32::from_le_bytes(bytes(block, CRC_AT)) {
            return Err(ControlError::Damaged("its checksum is wrong"));
        }
        let version = u32::from_le_bytes(bytes(block, 16));
        if !(FIRST_VERSION..=VERSION).contains(&version) {
            return Err(ControlError::Damaged("it is of another version"));
        }
        let number = u32::from_le_bytes(bytes(block, 20));
        let (_, state) = State::ALL
            .into_iter()
            .find(|(known, _)| *known == number)
            .ok_or(ControlError::Damaged("its state is unknown"))?;
        let dump_bytes = u64::from_le_bytes(bytes(block, 32));
        if u64::from_le_bytes(bytes(block, 24)) != device_bytes {
            return Err(ControlError::Damaged("it is of a device of another size"));
        }
        if area_start(device_bytes).is_none_or(|end| dump_bytes > end) {
            return Err(ControlError::Damaged("its dump is longer than the device"));
        }
        let name = block
            .get(NAME_AT..)
            .and_then(|rest| rest.first_chunk::<64>())
            .and_then(|field| field.split(|&byte| byte == 0).next())
            .and_then(|name| core::str::from_utf8(name).ok())
            .filter(|name| is_name(name))
            .and_then(|name| DumpName::try_from(name).ok())
            .ok_or(ControlError::Damaged("its dump has no usable name"))?;
        let mut parts = [Stored::default(); 3];
        for (at, stored) in (48..).step_by(16).zip(&mut parts) {
            stored.bytes = u64::from_le_bytes(bytes(block, at));
            stored.crc = u32::from_le_bytes(bytes(block, at.saturating_add(8)));
        }
        Ok(Self {
            state,
            is_saved: u32::from_le_bytes(bytes(block, 40)) == 1,
            device_bytes,
            dump_bytes,
            name,
            parts,
            sums: (version > FIRST_VERSION && u32::from_le_bytes(bytes(block, SUMS_AT)) == 1)
                .then(|| u32::from_le_bytes(bytes(block, SUMS_AT.saturating_add(4)))),
        })
    }
}

/// A name that is one directory and no other: it comes from a disk, and is joined to a path.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b':' | b'.'))
}

/// The control block of a device.
///
/// # Errors
/// See [`ControlError`].
pub fn read_control<S: Source + ?Sized>(source: &mut S) -> Result<Control, ControlError> {
    let device_bytes = source.size_bytes();
    let start = area_start(device_bytes).ok_or(ControlError::TooSmall)?;
    let mut block = [0; CONTROL_BYTES];
    source
        .read_at(start, &mut block)
        .map_err(ControlError::Io)?;
    Control::decode(&block, device_bytes)
}

/// Where the sums lie on a device whose area begins at `start`: in the control block's own 4 KiB.
#[must_use]
pub fn place_of_sums(start: u64) -> u64 {
    start.saturating_add(u64::try_from(CONTROL_BYTES).unwrap_or(0))
}

/// The sums of the dumpfile that `control` is about; none where it has none.
///
/// # Errors
/// The device could not be read, or has other bytes there than were written.
pub fn read_sums<S: Source + ?Sized>(
    source: &mut S,
    control: &Control,
) -> Result<Option<Sums>, ControlError> {
    let (Some(crc), Some(start)) = (control.sums, area_start(control.device_bytes)) else {
        return Ok(None);
    };
    let mut bytes = [0; SUMS_BYTES];
    source
        .read_at(place_of_sums(start), &mut bytes)
        .map_err(ControlError::Io)?;
    if crc32(0, &bytes) != crc {
        return Err(ControlError::Damaged(
            "the dump's checksums are not what was written",
        ));
    }
    Ok(Some(Sums::decode(start, &bytes)))
}

/// Shows `visit` what is kept of a file of `bytes`, in order and a piece of `buffer` at a time, and returns its CRC-32.
/// `start` is where the area begins.
///
/// # Errors
/// What the device or `visit` said.
pub fn read_part<S: Source + ?Sized>(
    source: &mut S,
    start: u64,
    part: Part,
    bytes: u64,
    buffer: &mut [u8],
    visit: &mut dyn FnMut(&[u8]) -> Result<(), IoError>,
) -> Result<u32, IoError> {
    let mut offset = part.first_kept(bytes);
    let mut crc = 0;
    while offset < bytes {
        let (place, in_a_row) = part.place(offset);
        let length = in_a_row
            .min(bytes.saturating_sub(offset))
            .min(u64::try_from(buffer.len()).unwrap_or(u64::MAX));
        let piece = usize::try_from(length)
            .ok()
            .filter(|&length| length > 0)
            .and_then(|length| buffer.get_mut(..length))
            .ok_or(IoError::INVALID)?;
        source.read_at(start.saturating_add(place), piece)?;
        crc = crc32(crc, piece);
        visit(piece)?;
        offset = offset.saturating_add(length);
    }
    Ok(crc)
}

fn put(block: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = block.get_mut(at..at.saturating_add(value.len())) {
        place.copy_from_slice(value);
    }
}

fn bytes<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    block
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: u64 = 8 << 20;

    struct Disk(Vec<u8>);

    impl Source for Disk {
        fn size_bytes(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
            let start = usize::try_from(offset).unwrap();
            let from = self.0.get(start..start + buf.len());
            buf.copy_from_slice(from.ok_or(IoError::END)?);
            Ok(())
        }
    }

    fn sample() -> Control {
        let mut control = Control::begun(DEVICE, "2026-11-23-04:57".try_into().unwrap());
        control.state = State::Complete;
        control.dump_bytes = 7 << 20;
        control.set_part(
            Part::Dmesg,
            Stored {
                bytes: 1234,
                crc: 0x1234_5678,
            },
        );
        control
    }

    #[test]
    fn a_block_reads_back_as_it_was_written() {
        let control = sample();
        assert_eq!(Control::decode(&control.encode(), DEVICE), Ok(control));
    }

    #[test]
    fn the_first_version_has_no_sums() {
        let mut control = sample();
        control.sums = Some(7);
        assert_eq!(Control::decode(&control.encode(), DEVICE), Ok(control));
        assert_eq!(forged(|block| put(block, 16, &[1])), Ok(sample()));
        assert!(CONTROL_BYTES + SUMS_BYTES <= ALIGNMENT as usize);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = sample().encode();
        for position in 0..good.len() {
            for bit in 0..8 {
                let mut block = good;
                block[position] ^= 1 << bit;
                let error = Control::decode(&block, DEVICE).unwrap_err();
                let in_magic = position < MAGIC.len();
                assert_eq!(error == ControlError::Absent, in_magic, "{position}");
            }
        }
    }

    /// A block whose checksum is right and whose content is not.
    fn forged(change: impl Fn(&mut [u8])) -> Result<Control, ControlError> {
        let mut block = sample().encode();
        change(&mut block);
        let crc = crc32(0, &block[..CRC_AT]);
        block[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        Control::decode(&block, DEVICE)
    }

    #[test]
    fn a_block_that_lies_is_refused() {
        forged(|_| {}).unwrap();
        for (at, value) in [
            (16, &[0_u8][..]),
            (16, &[3]),
            (20, &[0]),
            (20, &[9]),
            (24, &[1]),
            (32, &[0xff; 8]),
            (NAME_AT, b"../../etc"),
            (NAME_AT, b".hidden"),
            (NAME_AT, b"a/b"),
            (NAME_AT, b"\0"),
            (NAME_AT, &[0xff]),
            (NAME_AT, b"a\nb"),
        ] {
            let error = forged(|block| put(block, at, value)).unwrap_err();
            assert!(matches!(error, ControlError::Damaged(_)), "{at}: {error:?}");
        }
        assert_eq!(
            Control::decode(&sample().encode(), DEVICE + 512),
            Err(ControlError::Damaged("it is of a device of another size"))
        );
    }

    #[test]
    fn every_flipped_byte_under_a_right_checksum_is_an_error_or_a_block_inside_the_device() {
        for position in 0..CRC_AT {
            for value in 0..=255 {
                if let Ok(control) = forged(|block| block[position] = value) {
                    assert!(control.dump_bytes <= area_start(DEVICE).unwrap());
                    assert!(is_name(&control.name));
                }
            }
        }
    }

    #[test]
    fn a_device_that_ends_early_has_no_block() {
        let mut disk = Disk(vec![0; DEVICE as usize]);
        let start = area_start(DEVICE).unwrap() as usize;
        disk.0[start..start + CONTROL_BYTES].copy_from_slice(&sample().encode());
        read_control(&mut disk).unwrap();
        for length in [0, 1, 511, 4096, (1 << 20) + 4095] {
            disk.0.truncate(length);
            assert_eq!(read_control(&mut disk), Err(ControlError::TooSmall));
        }
        assert_eq!(area_start((1 << 20) + 4096), Some(4096));
        assert_eq!(area_start((1 << 20) + 8191), Some(4096));
        // The block's own place moves with the size: another size is another device.
        let mut shorter = Disk(vec![0; DEVICE as usize - 4096]);
        assert_eq!(read_control(&mut shorter), Err(ControlError::Absent));
    }

    #[test]
    fn of_a_file_that_is_too_long_the_end_is_kept() {
        let mut disk = Disk(vec![0; AREA_BYTES as usize]);
        let room = 320 << 10;
        let text: Vec<u8> = (0..room + 1000_u32).map(|i| (i % 251) as u8).collect();
        for (offset, byte) in (0..).zip(&text) {
            let (place, in_a_row) = Part::OwnLog.place(offset);
            assert!(in_a_row > 0);
            disk.0[place as usize] = *byte;
        }
        let mut kept = Vec::new();
        let crc = read_part(
            &mut disk,
            0,
            Part::OwnLog,
            text.len() as u64,
            &mut [0; 4096],
            &mut |piece| {
                kept.extend_from_slice(piece);
                Ok(())
            },
        );
        assert_eq!(kept, text[1000..]);
        assert_eq!(crc, Ok(crc32(0, &kept)));
        // A length that no disk has costs no more than the room.
        let mut bytes = 0;
        let crc = read_part(
            &mut disk,
            0,
            Part::OwnLog,
            u64::MAX,
            &mut [0; 4096],
            &mut |piece| {
                bytes += piece.len();
                Ok(())
            },
        );
        assert!(crc.is_ok() && bytes == room as usize);
    }

    #[test]
    fn the_rooms_lie_side_by_side_behind_the_block() {
        let mut end = ALIGNMENT;
        for part in Part::ALL {
            let (start, length) = part.room();
            assert_eq!(start, end);
            end = start + length;
            assert_eq!(Part::from_name(part.name()), Some(part));
        }
        assert_eq!(end, AREA_BYTES);
    }
}
