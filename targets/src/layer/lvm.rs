// SPDX-License-Identifier: MIT OR Apache-2.0
//! LVM2 as it lies on its physical volumes: label, header, metadata areas, and what a logical volume is made of.
//!
//! ```text
//! sector 0–3   label ─▶ header: the volume's UUID, its metadata areas
//! area         header ─▶ where in the ring behind it the newest text lies, with its checksum
//! text         volume group ─▶ logical volume ─▶ segments ─▶ stretches of physical volumes
//! ```
//! Source: LVM2 2.03.16 `lib/format_text/layout.h`, `lib/label/label.h`, and what its commands write.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

use super::lvm_text::{Section, Value};
use crate::bytes::{Fields, Uuid, read_up_to};
use crate::superblock::lvm_uuid;
use collector::crc::crc32;
use collector::{IoError, Source};
use core::fmt;
use heapless::Vec;

/// The most stripes of a segment that can be put together.
pub const MAX_STRIPES: usize = 16;
/// The most metadata areas of a physical volume; LVM makes two at most.
const MAX_AREAS: usize = 4;
const SECTOR: usize = 512;
/// An area's header, which its ring begins behind.
const AREA_HEADER: u64 = 512;
/// What LVM begins its CRC-32 with; and it leaves out the inversion at either end.
const CRC_START: u32 = 0xf597_a6cf;

fn lvm_crc(bytes: &[u8]) -> u32 {
    !crc32(!CRC_START, bytes)
}

/// A physical volume: who it is, and where its metadata lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhysicalVolume {
    /// Its UUID, with dashes.
    pub uuid: Uuid,
    areas: Vec<Area, MAX_AREAS>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Area {
    start: u64,
    size: u64,
}

/// Why the metadata does not say what a logical volume is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LvmError {
    /// The device could not be read.
    Io(IoError),
    /// The text is longer than the memory for it: its length.
    TooLong(u64),
    /// No metadata area has a text whose checksum is right.
    NoMetadata,
    /// The volume group has no logical volume of the UUID.
    NoSuchVolume,
    /// It has segments of a type that is not known here.
    SegmentType(crate::Text<16>),
    /// A segment has more stripes than can be put together.
    Stripes,
    /// The text contradicts itself.
    Damaged(&'static str),
}

impl fmt::Display for LvmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "reading LVM's metadata: {error}"),
            Self::TooLong(bytes) => write!(f, "LVM's metadata of {bytes} bytes is too long"),
            Self::NoMetadata => f.write_str("no good copy of LVM's metadata"),
            Self::NoSuchVolume => f.write_str("the volume group has no such logical volume"),
            Self::SegmentType(word) => write!(
                f,
                "the logical volume has segments of the type {word}; known are linear and striped"
            ),
            Self::Stripes => write!(
                f,
                "the logical volume has more than {MAX_STRIPES} stripes beside each other"
            ),
            Self::Damaged(why) => write!(f, "LVM's metadata contradicts itself: {why}"),
        }
    }
}

impl core::error::Error for LvmError {}

impl From<IoError> for LvmError {
    fn from(error: IoError) -> Self {
        Self::Io(error)
    }
}

impl PhysicalVolume {
    /// The physical volume on a device; `None` where there is none.
    ///
    /// # Errors
    /// What the device said.
    pub fn read<S: Source + ?Sized>(source: &mut S) -> Result<Option<Self>, IoError> {
        let mut head = [0; 4 * SECTOR];
        let length = read_up_to(source, 0, &mut head)?;
        let head = head.get(..length).unwrap_or_default();
        Ok(head.chunks_exact(SECTOR).find_map(Self::in_sector))
    }

    fn in_sector(sector: &[u8]) -> Option<Self> {
        let label = Fields(sector);
        if !label.has(0, b"LABELONE") || !label.has(24, b"LVM2 001") {
            return None;
        }
        if lvm_crc(sector.get(20..)?) != label.le32(16) {
            return None;
        }
        let header = Fields(sector.get(usize::try_from(label.le32(20)).ok()?..)?);
        let uuid = lvm_uuid(&header.bytes(0));
        let mut areas = Vec::new();
        // Two lists, each with zeros behind it: where the data lies, and where the metadata lies.
        let mut is_metadata = false;
        for at in (40..SECTOR).step_by(16) {
            let (start, size) = (header.le64(at), header.le64(at.saturating_add(8)));
            match (start, is_metadata) {
                (0, true) => break,
                (0, false) => is_metadata = true,
                (_, true) => {
                    // More than two were never made.
                    let _ = areas.push(Area { start, size });
                }
                (_, false) => {}
            }
        }
        Some(Self { uuid, areas })
    }

    /// The newest text of the metadata, in `memory`.
    ///
    /// # Errors
    /// [`LvmError::NoMetadata`] where this volume has none, as some have by design.
    pub fn metadata<'m, S: Source + ?Sized>(
        &self,
        source: &mut S,
        memory: &'m mut [u8],
    ) -> Result<&'m str, LvmError> {
        let mut why = LvmError::NoMetadata;
        let mut good = None;
        for area in &self.areas {
            match area.read(source, memory) {
                Ok(length) => {
                    good = Some(length);
                    break;
                }
                Err(error) => why = error,
            }
        }
        let length = good.ok_or(why)?;
        let text = memory.get(..length).unwrap_or_default();
        core::str::from_utf8(text).map_err(|_| LvmError::Damaged("it is no text"))
    }
}

impl Area {
    /// Reads the text to the beginning of `memory`, and returns its length.
    fn read<S: Source + ?Sized>(
        self,
        source: &mut S,
        memory: &mut [u8],
    ) -> Result<usize, LvmError> {
        let mut sector = [0; SECTOR];
        if read_up_to(source, self.start, &mut sector)? < SECTOR {
            return Err(LvmError::NoMetadata);
        }
        let header = Fields(&sector);
        let is_header = header.has(4, b" LVM2 x[5A%r0N*>")
            && header.le32(20) == 1
            && header.le64(24) == self.start
            && lvm_crc(sector.get(4..).unwrap_or_default()) == header.le32(0);
        // The first place is that of the text in force. The second is one that is being written.
        let (offset, length) = (header.le64(40), header.le64(48));
        let (crc, flags) = (header.le32(56), header.le32(60));
        if !is_header || offset == 0 || flags & 1 != 0 {
            return Err(LvmError::NoMetadata);
        }
        let ring = AREA_HEADER..self.size;
        if !ring.contains(&offset) || length > ring.end.saturating_sub(ring.start) {
            return Err(LvmError::NoMetadata);
        }
        let room = usize::try_from(length)
            .ok()
            .and_then(|length| memory.get_mut(..length))
            .ok_or(LvmError::TooLong(length))?;
        let before_the_end = ring.end.saturating_sub(offset).min(length);
        let at = usize::try_from(before_the_end).unwrap_or(usize::MAX);
        let (first, second) = room.split_at_mut_checked(at).ok_or(LvmError::NoMetadata)?;
        source.read_at(self.start.saturating_add(offset), first)?;
        source.read_at(self.start.saturating_add(ring.start), second)?;
        if lvm_crc(room) != crc {
            return Err(LvmError::NoMetadata);
        }
        // A NUL ends it.
        Ok(room.len())
    }
}

/// A volume group, as its metadata has it.
#[derive(Clone, Copy, Debug)]
pub struct Group<'t> {
    section: Section<'t>,
    /// Its name.
    pub name: &'t str,
    /// Its UUID.
    pub uuid: &'t str,
    /// It grows with every change.
    pub sequence: u64,
    extent_sectors: u64,
}

/// A stretch of a logical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment<'t> {
    /// Where it begins in the volume, in units of 512 bytes.
    pub start_sectors: u64,
    /// How long it is, likewise.
    pub sectors: u64,
    /// How much goes to a stripe before the next one's turn, likewise; 0 for one stripe.
    pub stripe_sectors: u64,
    /// Its stretches of physical volumes: the UUID, and where it begins, likewise.
    pub stripes: Vec<(&'t str, u64), MAX_STRIPES>,
}

impl<'t> Group<'t> {
    /// The volume group of the metadata.
    #[must_use]
    pub fn parse(text: &'t str) -> Option<Self> {
        let (name, section) = Section(text).sections().next()?;
        Some(Self {
            section,
            name,
            uuid: section.text("id")?,
            sequence: section.number("seqno")?,
            extent_sectors: section.number("extent_size").filter(|&size| size > 0)?,
        })
    }

    /// The UUIDs of its physical volumes.
    pub fn physical_volumes(&self) -> impl Iterator<Item = &'t str> {
        self.section
            .section("physical_volumes")
            .into_iter()
            .flat_map(Section::sections)
            .filter_map(|(_, one)| one.text("id"))
    }

    fn volume(&self, uuid: &str) -> Option<Section<'t>> {
        self.section
            .section("logical_volumes")?
            .sections()
            .map(|(_, volume)| volume)
            .find(|volume| volume.text("id") == Some(uuid))
    }

    /// Shows `visit` the segments of the logical volume, in order.
    ///
    /// # Errors
    /// See [`LvmError`]; and what `visit` says.
    pub fn segments<E: From<LvmError>>(
        &self,
        volume: &str,
        visit: &mut dyn FnMut(&Segment<'t>) -> Result<(), E>,
    ) -> Result<(), E> {
        let volume = self.volume(volume).ok_or(LvmError::NoSuchVolume)?;
        let mut next = 0;
        let segments = volume
            .sections()
            .filter(|(name, _)| name.starts_with("segment"));
        for (_, section) in segments {
            let segment = self.segment(section)?;
            if segment.start_sectors != next {
                return Err(LvmError::Damaged("its segments do not follow each other").into());
            }
            next = next.saturating_add(segment.sectors);
            visit(&segment)?;
        }
        if next == 0 || volume.number("segment_count") == Some(0) {
            return Err(LvmError::Damaged("a volume without segments").into());
        }
        Ok(())
    }

    fn segment(&self, section: Section<'t>) -> Result<Segment<'t>, LvmError> {
        const MISSING: LvmError = LvmError::Damaged("a segment without its numbers");
        let word = section.text("type").ok_or(MISSING)?;
        if word != "striped" {
            return Err(LvmError::SegmentType(crate::Text::new(word.as_bytes())));
        }
        let in_sectors = |extents: u64| {
            extents
                .checked_mul(self.extent_sectors)
                .ok_or(LvmError::Damaged("a segment beyond all numbers"))
        };
        let mut segment = Segment {
            start_sectors: in_sectors(section.number("start_extent").ok_or(MISSING)?)?,
            sectors: in_sectors(section.number("extent_count").ok_or(MISSING)?)?,
            stripe_sectors: 0,
            stripes: Vec::new(),
        };
        let count = section.number("stripe_count").ok_or(MISSING)?;
        let mut items = section.list("stripes").ok_or(MISSING)?.items();
        while let Some(item) = items.next() {
            let (Value::Text(name), Some(Value::Word(extent))) = (item, items.next()) else {
                return Err(MISSING);
            };
            let extent = extent.parse().map_err(|_| MISSING)?;
            let (uuid, start) = self.physical_volume(name).ok_or(LvmError::Damaged(
                "a segment on a physical volume that is not in the list",
            ))?;
            let at = in_sectors(extent)?
                .checked_add(start)
                .ok_or(LvmError::Damaged("a segment beyond all numbers"))?;
            segment
                .stripes
                .push((uuid, at))
                .map_err(|_| LvmError::Stripes)?;
        }
        if segment.sectors == 0 || u64::try_from(segment.stripes.len()) != Ok(count) || count == 0 {
            return Err(LvmError::Damaged(
                "a segment with another number of stripes",
            ));
        }
        if count > 1 {
            segment.stripe_sectors = section
                .number("stripe_size")
                .filter(|size| size.is_power_of_two())
                .ok_or(MISSING)?;
        }
        Ok(segment)
    }

    /// The UUID of a physical volume and where its extents begin.
    fn physical_volume(&self, name: &str) -> Option<(&'t str, u64)> {
        let one = self.section.section("physical_volumes")?.section(name)?;
        Some((one.text("id")?, one.number("pe_start")?))
    }
}

#[cfg(test)]
#[path = "../../tests/synthetic/lvm.rs"]
mod synthetic;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::superblock::tests::Bytes;
    use std::fmt::Write as _;

    use super::synthetic::{FAST, ROOT, THIN, text};

    fn list(text: &str, volume: &str) -> Result<String, LvmError> {
        let group = Group::parse(text).ok_or(LvmError::NoMetadata)?;
        let mut out = String::new();
        group.segments::<LvmError>(volume, &mut |segment| {
            write!(
                out,
                "{}+{}/{}:",
                segment.start_sectors, segment.sectors, segment.stripe_sectors
            )
            .unwrap();
            for (uuid, start) in &segment.stripes {
                write!(out, " {}@{start}", &uuid[37..]).unwrap();
            }
            out.push(';');
            Ok(())
        })?;
        Ok(out)
    }

    #[test]
    fn volumes_are_stretches_of_physical_volumes() {
        let text = text();
        let group = Group::parse(&text).unwrap();
        assert_eq!((group.name, group.sequence), ("vg0", 7));
        assert_eq!(
            list(&text, ROOT).unwrap(),
            "0+81920/0: 0@43008;81920+24576/0: 1@4096;"
        );
        assert_eq!(list(&text, FAST).unwrap(), "0+65536/128: 0@165888 1@86016;");
        assert_eq!(
            list(&text, THIN),
            Err(LvmError::SegmentType(crate::Text::new(b"thin")))
        );
        assert_eq!(list(&text, "x"), Err(LvmError::NoSuchVolume));
    }

    #[test]
    fn metadata_that_contradicts_itself_is_refused() {
        for (from, to) in [
            ("start_extent = 10", "start_extent = 11"),
            ("stripe_count = 2", "stripe_count = 3"),
            ("stripe_size = 128", "stripe_size = 0"),
            ("[ \"pv1\", 0 ]", "[ \"pv9\", 0 ]"),
            ("[ \"pv1\", 0 ]", "[ \"pv1\" ]"),
            ("[ \"pv1\", 0 ]", "[ \"pv1\", 99999999999999999 ]"),
            ("extent_count = 3", "extent_count = 0"),
            ("extent_count = 10", "extent_count = 18446744073709551615"),
        ] {
            let broken = text().replace(from, to);
            assert_ne!(broken, text(), "{from}");
            let results = [list(&broken, ROOT), list(&broken, FAST)];
            assert!(
                results
                    .iter()
                    .any(|result| matches!(result, Err(LvmError::Damaged(_)))),
                "{to}: {results:?}"
            );
        }
    }

    fn physical_volume(offset: u64) -> std::vec::Vec<u8> {
        synthetic::physical_volume(offset, lvm_crc)
    }

    fn read(bytes: &[u8]) -> Result<String, LvmError> {
        let found = PhysicalVolume::read(&mut Bytes(bytes))?.ok_or(LvmError::NoMetadata)?;
        let mut memory = vec![0; 16 << 10];
        let text = found.metadata(&mut Bytes(bytes), &mut memory)?;
        list(text, ROOT)
    }

    #[test]
    fn the_text_is_found_wherever_it_lies_in_its_ring() {
        let plain = read(&physical_volume(512)).unwrap();
        assert_eq!(read(&physical_volume(8000)), Ok(plain));
        assert_eq!(PhysicalVolume::read(&mut Bytes(&[0; 4096])), Ok(None));
    }

    #[test]
    fn every_truncation_and_flipped_byte_is_noticed_where_it_counts() {
        let good = physical_volume(7000);
        let plain = read(&good).unwrap();
        for length in (0..16 << 10).step_by(97) {
            let _ = read(&good[..length]);
        }
        // All of the headers, and of the ring a byte here and there: each costs a checksum over all of it.
        let ring = (4608..12_288).step_by(23);
        for position in (512..1024).chain(4096..4608).chain(ring) {
            let mut bytes = good.clone();
            bytes[position] ^= 0x20;
            match read(&bytes) {
                Ok(text) => assert_eq!(text, plain, "{position}"),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
}
