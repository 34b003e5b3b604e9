// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vmcore byte by byte, for when its headers make no sense to us: of another architecture, or damaged. A person may
//! still get something out of it; nobody can out of nothing.

use crate::vmcore::error;
use collector::{CollectError, IoError, Observer, Progress, Sink, Source, Stage, Stats};
use config::DumpLevel;
use rustix::io::Errno;

/// What is read at once.
const PIECE_BYTES: usize = 256 << 10;
/// The unit of the counts.
const PAGE_BYTES: u64 = 4096;

/// Copies all of `source`, and syncs. What cannot be read is zeros in the copy, and counted.
///
/// # Errors
/// The sink failed, or `memory` has less than 256 KiB.
pub fn copy<S: Source>(
    source: &mut S,
    memory: &mut [u8],
    sink: &mut dyn Sink,
    observer: &mut dyn Observer,
) -> Result<Stats, CollectError> {
    let buffer = memory.get_mut(..PIECE_BYTES).ok_or(CollectError::Memory)?;
    let size_bytes = source.size_bytes();
    let mut stats = Stats::new(DumpLevel::NONE);
    let mut offset = 0;
    while offset < size_bytes {
        let length = size_bytes
            .saturating_sub(offset)
            .min(u64::try_from(PIECE_BYTES).unwrap_or(PAGE_BYTES));
        let piece = buffer
            .get_mut(..usize::try_from(length).unwrap_or(PIECE_BYTES))
            .unwrap_or(&mut []);
        let pages = length.div_ceil(PAGE_BYTES);
        match source.read_at(offset, piece) {
            Ok(()) => {}
            // The size was wrong.
            Err(IoError::END) => break,
            Err(_) => {
                piece.fill(0);
                stats.unreadable = stats.unreadable.saturating_add(pages);
            }
        }
        match sink.write_at(offset, piece) {
            Ok(()) => {}
            Err(error) => return Err(CollectError::Sink(offset, error)),
        }
        stats.present = stats.present.saturating_add(pages);
        stats.kept = stats.present;
        offset = offset.saturating_add(length);
        stats.written_bytes = offset;
        observer.progress(Progress {
            stage: Stage::Copy,
            done_pages: stats.present,
            total_pages: size_bytes.div_ceil(PAGE_BYTES),
            written_bytes: offset,
        });
    }
    if offset == 0 {
        return Err(CollectError::Source(0, error(Errno::NODATA)));
    }
    sink.sync()
        .map_err(|error| CollectError::Sink(offset, error))?;
    Ok(stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of which some cannot be read, and whose size may be a lie.
    struct Broken {
        bytes: Vec<u8>,
        size_bytes: u64,
        bad: std::ops::Range<usize>,
    }

    impl Source for Broken {
        fn size_bytes(&self) -> u64 {
            self.size_bytes
        }

        fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
            let start = offset as usize;
            let end = start + buf.len();
            if start < self.bad.end && self.bad.start < end {
                return Err(IoError::IO);
            }
            buf.copy_from_slice(self.bytes.get(start..end).ok_or(IoError::END)?);
            Ok(())
        }
    }

    struct Disk {
        bytes: Vec<u8>,
        room: usize,
        synced: bool,
    }

    impl Sink for Disk {
        fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
            assert_eq!(offset as usize, self.bytes.len());
            if self.bytes.len() + data.len() > self.room {
                return Err(IoError::NO_SPACE);
            }
            self.bytes.extend_from_slice(data);
            Ok(())
        }

        fn sync(&mut self) -> Result<(), IoError> {
            self.synced = true;
            Ok(())
        }
    }

    fn source(length: usize) -> Broken {
        Broken {
            bytes: (0..length).map(|i| (i % 251) as u8).collect(),
            size_bytes: length as u64,
            bad: 0..0,
        }
    }

    fn run(source: &mut Broken, room: usize) -> (Result<Stats, CollectError>, Disk) {
        let mut disk = Disk {
            bytes: Vec::new(),
            room,
            synced: false,
        };
        let mut memory = vec![0xee; PIECE_BYTES];
        let result = copy(source, &mut memory, &mut disk, &mut ());
        (result, disk)
    }

    #[test]
    fn everything_is_copied_and_synced() {
        let mut source = source(3 * PIECE_BYTES + 5);
        let (result, disk) = run(&mut source, usize::MAX);
        let stats = result.unwrap();
        assert_eq!(disk.bytes, source.bytes);
        assert!(disk.synced);
        assert_eq!(stats.written_bytes, source.size_bytes);
        assert_eq!((stats.kept, stats.unreadable), (193, 0));
    }

    #[test]
    fn what_cannot_be_read_is_zeros_and_counted() {
        let mut source = source(3 * PIECE_BYTES);
        source.bad = PIECE_BYTES + 7..PIECE_BYTES + 8;
        let (result, disk) = run(&mut source, usize::MAX);
        assert_eq!(result.unwrap().unreadable, 64);
        assert_eq!(disk.bytes[..PIECE_BYTES], source.bytes[..PIECE_BYTES]);
        assert!(
            disk.bytes[PIECE_BYTES..2 * PIECE_BYTES]
                .iter()
                .all(|&byte| byte == 0)
        );
        assert_eq!(
            disk.bytes[2 * PIECE_BYTES..],
            source.bytes[2 * PIECE_BYTES..]
        );
    }

    #[test]
    fn a_size_that_is_too_large_ends_with_the_data() {
        let mut source = source(2 * PIECE_BYTES);
        source.size_bytes = u64::MAX - 1;
        let (result, disk) = run(&mut source, usize::MAX);
        assert_eq!(result.unwrap().written_bytes, 2 * PIECE_BYTES as u64);
        assert_eq!(disk.bytes, source.bytes);
    }

    #[test]
    fn a_full_disk_is_an_error_with_its_place() {
        let (result, disk) = run(&mut source(3 * PIECE_BYTES), 2 * PIECE_BYTES);
        assert_eq!(
            result.unwrap_err(),
            CollectError::Sink(2 * PIECE_BYTES as u64, IoError::NO_SPACE)
        );
        assert!(!disk.synced);
    }

    #[test]
    fn an_empty_vmcore_is_no_dump() {
        let (result, _) = run(&mut source(0), usize::MAX);
        assert_eq!(result.unwrap_err(), CollectError::Source(0, IoError::END));
    }
}
