// SPDX-License-Identifier: MIT OR Apache-2.0
//! Damaged vmcores: an error or a dump, never a panic or a hang.

use std::time::{Duration, Instant};

use collector::{IoError, MEMORY_BYTES, OPEN_BYTES, Sink, Source, Vmcore, collect, dmesg};
use config::{CollectOptions, Compression, DumpLevel};

use crate::machine::{Compound, Config, File, Machine, MapKind, PAGE};
use crate::mixed::{V6_1, V6_12};
use crate::ring::Ring;

/// A vmcore with one byte changed, or cut short.
pub(crate) struct Damaged<'a> {
    pub(crate) file: &'a File,
    pub(crate) size: u64,
    pub(crate) flip: Option<(u64, u8)>,
}

impl Source for Damaged<'_> {
    fn size_bytes(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        let end = offset.checked_add(buf.len() as u64).ok_or(IoError::END)?;
        if end > self.size {
            return Err(IoError::END);
        }
        buf.copy_from_slice(&self.file.bytes[offset as usize..end as usize]);
        if let Some((position, mask)) = self.flip
            && let Some(byte) = position
                .checked_sub(offset)
                .and_then(|inside| buf.get_mut(inside as usize))
        {
            *byte ^= mask;
        }
        Ok(())
    }
}

/// Counts, and is full at 64 MiB: a header may claim any amount of memory.
struct Void;

impl Sink for Void {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        if offset.saturating_add(data.len() as u64) > 64 << 20 {
            return Err(IoError::NO_SPACE);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), IoError> {
        Ok(())
    }
}

/// A small machine with most kinds of pages and a log.
fn small(config: Config) -> (Machine, File) {
    let ram = [
        (0x100 * PAGE, 0x120 * PAGE),
        (0x180 * PAGE + 0x10, 0x1c8 * PAGE),
    ];
    let mut machine = Machine::new(config, &ram, 0x181..0x1c8);
    machine.cache(0x100);
    machine.cache_private(0x101);
    machine.anon(0x102);
    machine.slab(0x103);
    machine.offline(0x104);
    machine.hwpoison(0x105);
    machine.compound(0x108, 2, Compound::Hugetlb);
    machine.compound(0x10c, 1, Compound::Anon);
    machine.free(0x110, 3);
    Ring::write_small(&mut machine);
    machine.finish();
    let file = machine.vmcore();
    (machine, file)
}

pub(crate) struct Memory {
    open: Vec<u8>,
    work: Vec<u8>,
}

pub(crate) fn try_everything(memory: &mut Memory, damaged: Damaged<'_>, about: &str) {
    let started = Instant::now();
    let Ok(mut vmcore) = Vmcore::open(damaged, &mut memory.open) else {
        return;
    };
    let _ = dmesg::write(&mut vmcore, &mut memory.work, &mut |_| Ok(()));
    let options = CollectOptions {
        compression: Compression::None,
        ..CollectOptions::standard()
    };
    let result = collect(
        &mut vmcore,
        &options,
        DumpLevel::MAX,
        &mut memory.work,
        &mut Void,
        &mut (),
    );
    if let Ok(stats) = result {
        let excluded = stats.cache
            + stats.cache_private
            + stats.user
            + stats.free
            + stats.hwpoison
            + stats.offline;
        assert_eq!(
            stats.present,
            excluded + stats.zero + stats.kept,
            "{about}: {stats:?}"
        );
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{about}");
}

pub(crate) fn memory() -> Memory {
    Memory {
        open: vec![0; OPEN_BYTES],
        work: vec![0; MEMORY_BYTES],
    }
}

/// Bytes that mean something: headers and notes, and in the kernel's tables what is not zero.
pub(crate) fn positions(machine: &Machine, file: &File) -> Vec<u64> {
    let mut positions: Vec<u64> = (0..file.headers_bytes)
        .filter(|&position| file.bytes[position as usize] != 0 || position < 512)
        .collect();
    for &pfn in &machine.tables {
        let start = file.offset_of(pfn * file.page_bytes);
        positions.extend(
            (start..start + file.page_bytes)
                .filter(|&position| !matches!(file.bytes[position as usize], 0 | 0xff)),
        );
    }
    positions
}

#[test]
fn every_flipped_byte_is_an_error_or_a_dump() {
    let mut memory = memory();
    for config in [
        V6_12,
        Config {
            map: MapKind::Sparse,
            ..V6_1
        },
    ] {
        let (machine, file) = small(config);
        for (count, position) in positions(&machine, &file).into_iter().enumerate() {
            // A different bit each time, and every fourth time all of them.
            let mask = if count % 4 == 3 {
                0xff
            } else {
                1 << (count % 8)
            };
            let damaged = Damaged {
                file: &file,
                size: file.bytes.len() as u64,
                flip: Some((position, mask)),
            };
            try_everything(&mut memory, damaged, &format!("{position:#x} ^ {mask:#x}"));
        }
    }
}

#[test]
fn every_truncation_is_an_error_or_a_dump() {
    let mut memory = memory();
    let (_, file) = small(V6_12);
    let whole = file.bytes.len() as u64;
    // Byte by byte where headers and notes end, then where pages do.
    let lengths = (0..file.headers_bytes).chain((file.headers_bytes..whole).step_by(1021));
    for size in lengths {
        let damaged = Damaged {
            file: &file,
            size,
            flip: None,
        };
        try_everything(&mut memory, damaged, &format!("{size} bytes"));
    }
}

#[test]
fn a_vmcore_without_memory_makes_no_dump() {
    let (_, file) = small(V6_12);
    let cut = Damaged {
        file: &file,
        size: file.headers_bytes,
        flip: None,
    };
    let mut memory = memory();
    let mut vmcore = Vmcore::open(cut, &mut memory.open).unwrap();
    let result = collect(
        &mut vmcore,
        &CollectOptions::standard(),
        DumpLevel::MAX,
        &mut memory.work,
        &mut Void,
        &mut (),
    );
    assert!(
        matches!(result, Err(collector::CollectError::Damaged(_))),
        "{result:?}"
    );
}

#[test]
fn memory_that_is_too_small_is_refused() {
    let (_, file) = small(V6_12);
    let mut open_memory = vec![0; OPEN_BYTES - 1];
    assert!(Vmcore::open(file.clone(), &mut open_memory).is_err());
    let mut open_memory = vec![0; OPEN_BYTES];
    let mut vmcore = Vmcore::open(file, &mut open_memory).unwrap();
    let mut work = vec![0; MEMORY_BYTES - 1];
    let result = collect(
        &mut vmcore,
        &CollectOptions::standard(),
        DumpLevel::MAX,
        &mut work,
        &mut Void,
        &mut (),
    );
    assert_eq!(result, Err(collector::CollectError::Memory));
}

#[test]
fn the_memory_needed_is_small() {
    const { assert!(MEMORY_BYTES + OPEN_BYTES <= 4 << 20) };
}
