// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sound vmcores of small machines, and which of their bytes are page tables, struct pages, logs, symbols.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::OnceLock;

use collector::io::Sink;
use collector::{IoError, MEMORY_BYTES, OPEN_BYTES, Vmcore, collect};
use config::{CollectOptions, Compression, DumpLevel};

use crate::machine::{Compound, Config, File, Generation, Machine, MapKind, Mmu, Shape, Target};
use crate::patches::{Base, Bytes};
use crate::synthetic::log_buffers::{Records, install_text};
use crate::synthetic::ring::Ring;
use crate::synthetic::symbols::{Counts, install};

/// A machine of each kind.
pub(crate) const KINDS: [Target; 9] = [
    Target::X86_64 { five_levels: false },
    Target::X86_64 { five_levels: true },
    Target::I386 {
        pae: true,
        elf64: false,
    },
    Target::I386 {
        pae: false,
        elf64: true,
    },
    Target::Arm64 {
        page_shift: 12,
        built_bits: 48,
        bits: 48,
    },
    Target::Ppc64 {
        page_shift: 12,
        mmu: Mmu::Radix,
    },
    Target::Ppc64 {
        page_shift: 12,
        mmu: Mmu::Hash,
    },
    Target::Riscv64 { bits: 39 },
    Target::S390x {
        moved: true,
        levels: 3,
    },
];

/// How the log is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    Ring,
    Records,
    Text,
}

/// A machine with a few pages of each kind, whose own tables are in few pages too.
fn machine(target: Target, generation: Generation, map: MapKind) -> Machine {
    let size = target.page_bytes();
    let base = target.places().ram / size;
    let kernel = base + 0x600..base + 0x6c0;
    let ram = [
        ((base + 0x100) * size, (base + 0x120) * size),
        (kernel.start * size, kernel.end * size),
    ];
    let config = Config {
        generation,
        five_levels: false,
        map,
    };
    let mut machine = Machine::new_on(target, config, &ram, kernel);
    let pfn = base + 0x100;
    machine.cache(pfn);
    machine.cache_private(pfn + 1);
    machine.anon(pfn + 2);
    machine.slab(pfn + 3);
    machine.offline(pfn + 4);
    machine.hwpoison(pfn + 5);
    machine.zero(pfn + 6);
    machine.compound(pfn + 8, 2, Compound::Hugetlb);
    machine.compound(pfn + 12, 1, Compound::Anon);
    machine.free(pfn + 16, 3);
    machine
}

fn map_of(target: Target) -> MapKind {
    match target {
        Target::I386 { .. } => MapKind::Sparse,
        _ => MapKind::VmemmapSmall,
    }
}

/// Where these pages are in the file.
fn places(file: &File, pages: impl Iterator<Item = u64>) -> Vec<(usize, usize)> {
    pages
        .map(|pfn| {
            let at = file.offset_of(pfn * file.page_bytes) as usize;
            (at, at + file.page_bytes as usize)
        })
        .collect()
}

fn base(machine: &Machine, pages: impl Iterator<Item = u64>) -> Base {
    let file = machine.vmcore();
    let parts = places(&file, pages);
    Base {
        bytes: file.bytes,
        parts,
    }
}

/// A machine of this kind; its page tables are to be changed.
pub(crate) fn page_tables(target: Target) -> Base {
    let mut machine = machine(target, Generation::V6_12, map_of(target));
    Ring::write_small(&mut machine);
    machine.finish();
    base(&machine, machine.page_tables.iter().copied())
}

/// A machine of this kind; its struct pages, its sections and whatever else is no page table are to be changed.
pub(crate) fn mem_map(target: Target, generation: Generation) -> Base {
    let mut machine = machine(target, generation, map_of(target));
    Ring::write_small(&mut machine);
    let before = machine.tables.clone();
    machine.finish();
    let pages: BTreeSet<u64> = machine.tables.difference(&before).copied().collect();
    let pages = pages.difference(&machine.page_tables).copied();
    base(&machine, pages)
}

/// A machine whose log is to be changed, and the numbers of VMCOREINFO that lead to it.
pub(crate) fn log(log: Log) -> Base {
    let target = match log {
        Log::Ring => KINDS[1],
        _ => KINDS[0],
    };
    let mut machine = machine(target, Generation::V6_1, MapKind::VmemmapSmall);
    let before = machine.tables.clone();
    match log {
        Log::Ring => Ring::write_small(&mut machine),
        Log::Records => {
            let mut records = Records::new(1024, 16);
            for number in 0..40 {
                records.put(
                    number * 1_000_000,
                    "a line of the log, made up",
                    "SUBSYSTEM=pci",
                );
            }
            records.install(&mut machine, "printk_log");
        }
        Log::Text => {
            install_text(&mut machine, &"<4>a line of the log\n".repeat(250), 4);
        }
    }
    let pages: BTreeSet<u64> = machine.tables.difference(&before).copied().collect();
    machine.finish();
    base(&machine, pages.iter().copied())
}

/// A machine that tells of its pages by its symbols and its types alone; both are to be changed.
pub(crate) fn symbols() -> Base {
    let mut machine = machine(KINDS[0], Generation::V6_12, MapKind::VmemmapSmall);
    Ring::write_small(&mut machine);
    let before = machine.tables.clone();
    install(&mut machine, Counts::default());
    let pages: BTreeSet<u64> = machine.tables.difference(&before).copied().collect();
    machine.finish();
    machine.info.retain(|(key, _)| {
        ![
            "NUMBER(PAGE_",
            "NUMBER(PG_",
            "OFFSET(page.",
            "SIZE(page)",
            "LENGTH(zone.free_area)",
        ]
        .iter()
        .any(|start| key.starts_with(start))
    });
    let pages = pages.difference(&machine.page_tables).copied();
    base(&machine, pages)
}

/// A sound vmcore of this kind.
pub(crate) fn vmcore(target: Target) -> File {
    let mut machine = machine(target, Generation::V6_12, map_of(target));
    Ring::write_small(&mut machine);
    machine.add_note(b"LINUX\0\0\0", 0x700, vec![0x5a; 100]);
    machine.finish();
    machine.vmcore()
}

/// Its VMCOREINFO's text.
pub(crate) fn vmcoreinfo(target: Target) -> Vec<u8> {
    let mut machine = machine(target, Generation::V6_12, map_of(target));
    Ring::write_small(&mut machine);
    install_if_x86(&mut machine);
    machine.finish();
    let lines: String = machine
        .info
        .iter()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect();
    lines.into_bytes()
}

fn install_if_x86(machine: &mut Machine) {
    if machine.target == KINDS[0] {
        install(machine, Counts::default());
    }
}

/// A dumpfile of a sound vmcore.
pub(crate) fn dumpfile(target: Target, compression: Compression) -> Vec<u8> {
    let file = vmcore(target);
    let (mut open, mut work) = (vec![0; OPEN_BYTES], vec![0; MEMORY_BYTES]);
    let mut vmcore = Vmcore::open(Bytes(&file.bytes), &mut open).expect("a sound vmcore");
    let options = CollectOptions {
        compression,
        ..CollectOptions::standard()
    };
    let mut out = Disk(Vec::new());
    collect(
        &mut vmcore,
        &options,
        DumpLevel::NONE,
        &mut work,
        &mut out,
        &mut (),
    )
    .expect("a dump");
    out.0
}

/// A dumpfile whose first page is this stream.
pub(crate) fn with_first_page(dumpfile: &[u8], stream: &[u8]) -> Vec<u8> {
    let number = |at: usize| u32::from_le_bytes(dumpfile[at..at + 4].try_into().expect("4 bytes"));
    let (block, sub_header, bitmaps) = (number(428), number(432), number(436));
    let descs = (block * (1 + sub_header + bitmaps)) as usize;
    let mut bytes = [dumpfile, stream].concat();
    bytes[descs..descs + 8].copy_from_slice(&(dumpfile.len() as u64).to_le_bytes());
    bytes[descs + 8..descs + 12].copy_from_slice(&(stream.len() as u32).to_le_bytes());
    bytes[descs + 12..descs + 16].copy_from_slice(&1_u32.to_le_bytes());
    bytes
}

/// The beginning of a vmcore with its headers in another order or place.
pub(crate) fn shaped(shape: Shape) -> Vec<u8> {
    let mut machine = machine(KINDS[0], Generation::V6_12, MapKind::VmemmapSmall);
    machine.finish();
    let file = machine.vmcore_with(&shape);
    file.bytes[..file.headers_bytes as usize + 2 * file.page_bytes as usize].to_vec()
}

/// Where the notes are in a vmcore: up to the end of all headers.
fn notes_of(file: &File) -> Range<usize> {
    let at = file
        .bytes
        .windows(5)
        .position(|name| name == b"CORE\0")
        .expect("there are notes")
        - 12;
    at..file.headers_bytes as usize
}

/// The notes of a sound vmcore of this kind.
pub(crate) fn notes(target: Target) -> Vec<u8> {
    let file = vmcore(target);
    file.bytes[notes_of(&file)].to_vec()
}

/// A vmcore of the kind with this number, whose notes are these bytes as far as they have room.
pub(crate) fn with_notes(number: u8, notes: &[u8]) -> Vec<u8> {
    static FILES: OnceLock<Vec<(Vec<u8>, Range<usize>)>> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let with_place = |target| {
            let file = vmcore(target);
            let place = notes_of(&file);
            (file.bytes, place)
        };
        KINDS.iter().copied().map(with_place).collect()
    });
    let (file, place) = &files[usize::from(number) % files.len()];
    let mut bytes = file.clone();
    let place = &mut bytes[place.clone()];
    place.fill(0);
    let count = place.len().min(notes.len());
    place[..count].copy_from_slice(&notes[..count]);
    bytes
}

/// A file that grows.
struct Disk(Vec<u8>);

impl Sink for Disk {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        let start = offset as usize;
        let end = start + data.len();
        if self.0.len() < end {
            self.0.resize(end, 0);
        }
        self.0[start..end].copy_from_slice(data);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), IoError> {
        Ok(())
    }
}
