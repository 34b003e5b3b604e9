// SPDX-License-Identifier: MIT OR Apache-2.0
//! The targets.

use std::cell::RefCell;
use std::sync::OnceLock;

use collector::address::Pfn;
use collector::codec::{self, lzo, snappy, zstd};
use collector::kdump::{DumpfileSource, Reader};
use collector::{
    IoError, MEMORY_BYTES, OPEN_BYTES, Sink, Source, Vmcore, collect, counters, dmesg, flattened,
};
use config::{CollectOptions, Compression, DumpLevel, Format};
use miniz_oxide::inflate::decompress_to_vec_zlib;

use crate::Target;
use crate::command::stream::Stream;
use crate::machine::{Generation, Shape};
use crate::machines::{self, KINDS, Log};
use crate::patches::{Base, Bytes};
use crate::{host, wire};

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "elf",
        run: elf,
        seeds: elf_seeds,
    },
    Target {
        name: "notes",
        run: notes,
        seeds: notes_seeds,
    },
    Target {
        name: "vmcoreinfo",
        run: vmcoreinfo,
        seeds: vmcoreinfo_seeds,
    },
    Target {
        name: "page_tables",
        run: page_tables,
        seeds: || of_each(page_table_bases()),
    },
    Target {
        name: "mem_map",
        run: mem_map,
        seeds: || of_each(mem_map_bases()),
    },
    Target {
        name: "printk_ring",
        run: |data| log(data, &RING, Log::Ring),
        seeds: || base_of(&RING, Log::Ring).seeds(),
    },
    Target {
        name: "printk_records",
        run: |data| log(data, &RECORDS, Log::Records),
        seeds: || base_of(&RECORDS, Log::Records).seeds(),
    },
    Target {
        name: "printk_text",
        run: |data| log(data, &TEXT, Log::Text),
        seeds: || base_of(&TEXT, Log::Text).seeds(),
    },
    Target {
        name: "kallsyms_btf",
        run: symbols,
        seeds: || symbols_base().seeds(),
    },
    Target {
        name: "dumpfile",
        run: dumpfile,
        seeds: || of_each(dumpfile_bases()),
    },
    Target {
        name: "flattened",
        run: flattened,
        seeds: flattened_seeds,
    },
    Target {
        name: "zlib",
        run: zlib,
        seeds: zlib_seeds,
    },
    Target {
        name: "lzo",
        run: |data| decode(data, Compression::Lzo),
        seeds: || codec_seeds(Compression::Lzo),
    },
    Target {
        name: "snappy",
        run: |data| decode(data, Compression::Snappy),
        seeds: || codec_seeds(Compression::Snappy),
    },
    Target {
        name: "zstd",
        run: |data| decode(data, Compression::Zstd),
        seeds: || codec_seeds(Compression::Zstd),
    },
    Target {
        name: "encoders",
        run: encoders,
        seeds: pages,
    },
    Target {
        name: "record",
        run: host::record,
        seeds: host::record_seeds,
    },
    Target {
        name: "age",
        run: host::encrypted,
        seeds: host::encrypted_seeds,
    },
    Target {
        name: "words",
        run: host::words,
        seeds: host::words_seeds,
    },
    Target {
        name: "disk",
        run: host::disk,
        seeds: host::disk_seeds,
    },
    Target {
        name: "lvm",
        run: host::lvm,
        seeds: host::lvm_seeds,
    },
    Target {
        name: "lvm_text",
        run: host::lvm_text,
        seeds: host::lvm_text_seeds,
    },
    Target {
        name: "md",
        run: host::md,
        seeds: host::md_seeds,
    },
    Target {
        name: "luks",
        run: host::luks,
        seeds: host::luks_seeds,
    },
    Target {
        name: "raw_dump",
        run: host::raw_dump,
        seeds: host::raw_dump_seeds,
    },
    Target {
        name: "ssh_stranger",
        run: wire::ssh_stranger,
        seeds: wire::ssh_stranger_seeds,
    },
    Target {
        name: "ssh_session",
        run: wire::ssh_session,
        seeds: wire::ssh_session_seeds,
    },
    Target {
        name: "dhcp",
        run: wire::dhcp,
        seeds: wire::dhcp_seeds,
    },
    Target {
        name: "dns",
        run: wire::dns,
        seeds: wire::dns_seeds,
    },
    Target {
        name: "netlink",
        run: wire::netlink,
        seeds: wire::netlink_seeds,
    },
    Target {
        name: "ssh_files",
        run: host::ssh_files,
        seeds: host::ssh_files_seeds,
    },
    Target {
        name: "kdump_conf",
        run: host::kdump_conf,
        seeds: host::kdump_conf_seeds,
    },
    Target {
        name: "module",
        run: host::module,
        seeds: host::module_seeds,
    },
];

/// Counts, and is full at 1 MiB: a header may claim any amount of memory.
struct Void;

impl Sink for Void {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        match offset.saturating_add(data.len() as u64) > 1 << 20 {
            true => Err(IoError::NO_SPACE),
            false => Ok(()),
        }
    }

    fn sync(&mut self) -> Result<(), IoError> {
        Ok(())
    }
}

struct Memory {
    open: Vec<u8>,
    work: Vec<u8>,
    page: Vec<u8>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::new(Memory {
        open: vec![0; OPEN_BYTES],
        work: vec![0; MEMORY_BYTES],
        page: vec![0; 64 << 10],
    });
}

/// Opens a vmcore and does with it what there is to do: its log, its counters, two dumps.
fn everything<S: Source>(source: S, info: Option<&[u8]>) {
    MEMORY.with_borrow_mut(|memory| {
        let Ok(mut vmcore) = Vmcore::open_with(source, info, &mut memory.open) else {
            return;
        };
        let _ = vmcore.present_pages();
        let _ = dmesg::write(&mut vmcore, &mut memory.work, &mut |_| Ok(()));
        let _ = counters::counters(&mut vmcore, &mut memory.work);
        for (format, level) in [
            (Format::Kdump, DumpLevel::MAX),
            (Format::Elf, DumpLevel::MAX),
        ] {
            let options = CollectOptions {
                format,
                compression: Compression::None,
                ..CollectOptions::standard()
            };
            let stats = collect(
                &mut vmcore,
                &options,
                level,
                &mut memory.work,
                &mut Void,
                &mut (),
            );
            if let Ok(stats) = stats {
                let sum = [
                    stats.missing,
                    stats.zero,
                    stats.cache,
                    stats.cache_private,
                    stats.user,
                    stats.free,
                    stats.hwpoison,
                    stats.offline,
                    stats.kept,
                ];
                assert_eq!(sum.iter().sum::<u64>(), stats.present, "{stats:?}");
            }
        }
    });
}

fn of_each(bases: &[Base]) -> Vec<Vec<u8>> {
    let each = |(number, base): (usize, &Base)| {
        base.seeds()
            .into_iter()
            .map(move |seed| [&[number as u8], &seed[..]].concat())
    };
    bases.iter().enumerate().flat_map(each).collect()
}

/// The first byte chooses the base, what follows are changes.
fn changed(data: &[u8], bases: &[Base]) -> Option<Vec<u8>> {
    let (&number, changes) = data.split_first()?;
    Some(bases[usize::from(number) % bases.len()].changed(changes))
}

/// The file is the input.
fn elf(data: &[u8]) {
    everything(Bytes(data), None);
}

fn elf_seeds() -> Vec<Vec<u8>> {
    let headers = |target| {
        let file = machines::vmcore(target);
        file.bytes[..file.headers_bytes as usize + 2 * file.page_bytes as usize].to_vec()
    };
    let mut seeds: Vec<Vec<u8>> = KINDS.iter().copied().map(headers).collect();
    seeds.push(machines::shaped(Shape {
        headers_offset: Some(192),
        without_virtual_addresses: true,
        ..Shape::default()
    }));
    seeds.push(machines::shaped(Shape {
        extended_count: true,
        padding_headers: 3,
        reversed: true,
        ..Shape::default()
    }));
    seeds
}

/// The first byte chooses the machine, what follows are the notes of a vmcore of two pages.
fn notes(data: &[u8]) {
    let Some((&number, notes)) = data.split_first() else {
        return;
    };
    everything(Bytes(&machines::with_notes(number, notes)), None);
}

fn notes_seeds() -> Vec<Vec<u8>> {
    let of = |number: u8| {
        let target = KINDS[usize::from(number) % KINDS.len()];
        [&[number], &machines::notes(target)[..]].concat()
    };
    (0..KINDS.len() as u8).map(of).collect()
}

fn page_table_bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| KINDS.iter().copied().map(machines::page_tables).collect())
}

fn mem_map_bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        let kernels = [
            Generation::V6_1,
            Generation::V6_4,
            Generation::V6_6,
            Generation::V6_12,
        ];
        let of_x86 = kernels.map(|generation| machines::mem_map(KINDS[0], generation));
        let others = KINDS[1..]
            .iter()
            .map(|&target| machines::mem_map(target, Generation::V6_12));
        of_x86.into_iter().chain(others).collect()
    })
}

fn page_tables(data: &[u8]) {
    if let Some(bytes) = changed(data, page_table_bases()) {
        everything(Bytes(&bytes), None);
    }
}

fn mem_map(data: &[u8]) {
    if let Some(bytes) = changed(data, mem_map_bases()) {
        everything(Bytes(&bytes), None);
    }
}

/// The first byte chooses the machine, what follows is the text.
fn vmcoreinfo(data: &[u8]) {
    static FILES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let bytes = |target| machines::vmcore(target).bytes;
        KINDS.iter().copied().map(bytes).collect()
    });
    if let Some((&number, text)) = data.split_first() {
        everything(Bytes(&files[usize::from(number) % files.len()]), Some(text));
    }
}

fn vmcoreinfo_seeds() -> Vec<Vec<u8>> {
    let of = |(number, &target)| [&[number as u8], &machines::vmcoreinfo(target)[..]].concat();
    KINDS.iter().enumerate().map(of).collect()
}

static RING: OnceLock<Base> = OnceLock::new();
static RECORDS: OnceLock<Base> = OnceLock::new();
static TEXT: OnceLock<Base> = OnceLock::new();

fn base_of(cell: &'static OnceLock<Base>, kind: Log) -> &'static Base {
    cell.get_or_init(|| machines::log(kind))
}

/// The log alone: the rest of the machine is sound.
fn log(data: &[u8], cell: &'static OnceLock<Base>, kind: Log) {
    let bytes = base_of(cell, kind).changed(data);
    MEMORY.with_borrow_mut(|memory| {
        let mut vmcore =
            Vmcore::open(Bytes(&bytes), &mut memory.open).expect("only the log changed");
        for part in [dmesg::Part::Whole, dmesg::Part::SinceClear] {
            let mut written = 0;
            let _ = dmesg::write_part(&mut vmcore, part, &mut memory.work, &mut |text| {
                written += text.len();
                Ok(())
            });
            // Every byte of a ring may become four letters, and every record has its time before it.
            assert!(written < 1 << 20, "{written} bytes from a log of some KiB");
        }
    });
}

fn symbols_base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(machines::symbols)
}

fn symbols(data: &[u8]) {
    everything(Bytes(&symbols_base().changed(data)), None);
}

fn dumpfile_bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        let codecs = [
            Compression::None,
            Compression::Zlib,
            Compression::Lzo,
            Compression::Snappy,
            Compression::Zstd,
        ];
        let of_x86 = codecs.map(|codec| machines::dumpfile(KINDS[0], codec));
        let others =
            [KINDS[2], KINDS[8]].map(|target| machines::dumpfile(target, Compression::Zlib));
        of_x86.into_iter().chain(others).map(Base::whole).collect()
    })
}

/// The first two bytes say where the file ends, the next one which it is.
fn dumpfile(data: &[u8]) {
    let (cut, data) = match data.split_first_chunk::<2>() {
        Some((cut, rest)) => (usize::from(u16::from_le_bytes(*cut)), rest),
        None => return,
    };
    let Some(bytes) = changed(data, dumpfile_bases()) else {
        return;
    };
    let end = match cut % 4 {
        0 => bytes.len() * cut >> 16,
        _ => bytes.len(),
    };
    read_dumpfile(&bytes[..end]);
}

fn read_dumpfile(bytes: &[u8]) {
    let mut memory = vec![0; Reader::<Bytes<'_>>::MEMORY_BYTES];
    let mut page = vec![0; 64 << 10];
    if let Ok(mut reader) = Reader::open_part(Bytes(bytes), &mut memory) {
        let mut from = Pfn(0);
        let page_bytes = reader.page_bytes();
        // As many as there can be in so small a file, and more.
        for _ in 0..1000 {
            let Ok(Some(pfn)) = reader.next_page(from) else {
                break;
            };
            let _ = reader.read_page(pfn, &mut page[..page_bytes]);
            from = Pfn(pfn.0 + 1);
        }
    }
    let mut memory = vec![0; DumpfileSource::<Bytes<'_>>::MEMORY_BYTES];
    if let Ok(source) = DumpfileSource::open(Bytes(bytes), &mut memory) {
        everything(source, None);
    }
}

fn flattened(data: &[u8]) {
    if !flattened::is_stream(data) {
        return;
    }
    if let Ok(mut stream) = Stream::open(Bytes(data)) {
        let mut start = [0; 4096];
        let _ = stream.read_at(0, &mut start);
        let size = stream.size_bytes();
        let _ = stream.read_at(size.saturating_sub(100), &mut start[..100]);
        let _ = stream.is_complete();
        // A record may be anywhere: the time that a file of nothing but zeros takes is not what is looked for here.
        if size < 64 << 20 {
            everything(stream, None);
        }
    }
}

fn flattened_seeds() -> Vec<Vec<u8>> {
    let header = [
        &flattened::SIGNATURE[..],
        &1_u64.to_be_bytes(),
        &1_u64.to_be_bytes(),
    ]
    .concat();
    let stream = |records: &[(u64, &[u8])]| {
        let mut bytes = header.clone();
        bytes.resize(flattened::HEADER_BYTES, 0);
        for (offset, data) in records {
            bytes.extend(offset.to_be_bytes());
            bytes.extend((data.len() as u64).to_be_bytes());
            bytes.extend(*data);
        }
        bytes.extend([0xff; 16]);
        bytes
    };
    let file = machines::vmcore(KINDS[0]).bytes;
    let file = &file[..16384];
    vec![
        stream(&[]),
        stream(&[(0, file)]),
        stream(&[(8192, &file[8192..]), (0, &file[..8192])]),
        // Over each other, and far away.
        stream(&[
            (0, &file[..6000]),
            (100, &file[..200]),
            (50, &file[..5000]),
            (1 << 40, b"end"),
        ]),
    ]
}

/// A stream into a page of 4 KiB or, when the first byte is odd, of 64 KiB.
fn decode(data: &[u8], compression: Compression) {
    let Some((&first, stream)) = data.split_first() else {
        return;
    };
    let bytes = if first & 1 == 0 { 4096 } else { 64 << 10 };
    MEMORY.with_borrow_mut(|memory| decompress(compression, stream, &mut memory.page[..bytes]));
}

/// The library inflates where it reads dumpfiles: the stream is the first page of one.
fn zlib(data: &[u8]) {
    static BASE: OnceLock<Vec<u8>> = OnceLock::new();
    let base = BASE.get_or_init(|| machines::dumpfile(KINDS[0], Compression::Zlib));
    let bytes = machines::with_first_page(base, data);
    MEMORY.with_borrow_mut(|memory| {
        let mut reader =
            Reader::open(Bytes(&bytes), &mut memory.work).expect("only a page changed");
        let first = reader
            .next_page(Pfn(0))
            .expect("it is there")
            .expect("the first page");
        let _ = reader.read_page(first, &mut memory.page[..4096]);
    });
}

fn zlib_seeds() -> Vec<Vec<u8>> {
    let short = pages().into_iter().filter(|page| page.len() == 4096);
    short
        .filter_map(|page| compress(Compression::Zlib, &page))
        .collect()
}

fn decompress(compression: Compression, stream: &[u8], page: &mut [u8]) -> Option<()> {
    match compression {
        Compression::None => None,
        Compression::Zlib => {
            let whole = decompress_to_vec_zlib(stream).ok()?;
            page.copy_from_slice(whole.get(..page.len())?);
            (whole.len() == page.len()).then_some(())
        }
        Compression::Lzo => lzo::decompress(stream, page),
        Compression::Snappy => snappy::decompress(stream, page),
        Compression::Zstd => zstd::Decoder::new().decompress(stream, page),
    }
}

/// Pages of several kinds.
fn pages() -> Vec<Vec<u8>> {
    let file = machines::vmcore(KINDS[0]);
    let mut pages: Vec<Vec<u8>> = file
        .bytes
        .chunks_exact(4096)
        .step_by(40)
        .map(<[u8]>::to_vec)
        .collect();
    let mut state = 1_u32;
    let noise = (0..4096).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    pages.push(noise.collect());
    pages.push(
        "kdumprd: a line that comes again and again\n"
            .bytes()
            .cycle()
            .take(4096)
            .collect(),
    );
    pages.push(
        (0..65536_u32)
            .flat_map(|number| (number * number >> 3).to_le_bytes())
            .take(65536)
            .collect(),
    );
    pages
}

fn compress(compression: Compression, page: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; page.len() + codec::SLACK_BYTES];
    let bytes = MEMORY.with_borrow_mut(|memory| {
        codec::with(compression, &mut memory.work, |mut codec| {
            codec.compress(page, &mut out)
        })
    })??;
    out.truncate(bytes);
    Some(out)
}

fn codec_seeds(compression: Compression) -> Vec<Vec<u8>> {
    let of = |page: Vec<u8>| {
        let kind = u8::from(page.len() > 4096);
        compress(compression, &page).map(|stream| [&[kind], &stream[..]].concat())
    };
    pages().into_iter().filter_map(of).collect()
}

/// What an encoder makes of a page, its decoder turns back.
fn encoders(data: &[u8]) {
    let bytes = if data.len() > 4096 { 64 << 10 } else { 4096 };
    let mut page = data[..data.len().min(bytes)].to_vec();
    page.resize(bytes, 0);
    for compression in [
        Compression::Zlib,
        Compression::Lzo,
        Compression::Snappy,
        Compression::Zstd,
    ] {
        let Some(stream) = compress(compression, &page) else {
            continue;
        };
        let mut back = vec![0xa5; bytes];
        let decoded = decompress(compression, &stream, &mut back);
        assert!(
            decoded.is_some() && back == page,
            "{compression}: the page does not come back"
        );
    }
}
