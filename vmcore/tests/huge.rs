// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vmcore of a machine of 16 TiB, of which a few MiB are on the disk: memory and passes are bounded whatever the size.
//!
//! The file is sparse, and so is what is in it: almost all of the mem_map is one 2 MiB page of `struct page`s that are free,
//! mapped again and again.
#![allow(missing_docs, reason = "a test")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed; clippy takes only functions with #[test] for tests"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use collector::address::Pfn;
use collector::kdump::Reader;
use collector::{IoError, Source};

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
/// Below 2 GiB and from 4 GiB on, so that the file has a little less than the 16 TiB that an ext4 file may have.
const RAM: [(u64, u64); 2] = [(MIB, 2 * GIB), (4 * GIB, 16 * TIB)];
const SECTION: u64 = 128 * MIB;
const SECTION_PAGES: u64 = SECTION / PAGE;
const STRUCT_PAGE: u64 = 64;

const IMAGE_MAP: u64 = 0xffff_ffff_8000_0000;
const IMAGE: u64 = 0xffff_ffff_8280_0000;
const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
const VMEMMAP: u64 = 0xffff_ea00_0000_0000;
const TABLE: u64 = 0x67;
const LARGE: u64 = 0xe3;

/// Where each thing lies in physical memory, all of it in the first section.
const ROOT: u64 = 32 * MIB;
const NAMES: u64 = ROOT + PAGE;
const TABLES: u64 = ROOT + 2 * PAGE;
const FREE_LEAF: u64 = 40 * MIB;
const USER_LEAF: u64 = 42 * MIB;
const KERNEL_LEAF: u64 = 44 * MIB;
const SECTION_ROOTS: u64 = 46 * MIB;
const SECTIONS: u64 = SECTION_ROOTS + 8 * PAGE;
const FIRST_SECTIONS: u64 = SECTIONS + PAGE;

/// Sections of the first 64 GiB that are not free: the kernel's, one that it does not manage, and one whose struct pages
/// are not mapped. What cannot be told is kept.
const KERNEL: [u64; 3] = [0, 1, 42];
const UNMANAGED: u64 = 40;
const UNMAPPED: u64 = 41;

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Physical memory: the pages that are not zero.
#[derive(Default)]
struct Memory(BTreeMap<u64, Vec<u8>>);

impl Memory {
    fn write(&mut self, address: u64, bytes: &[u8]) {
        let page = self
            .0
            .entry(address / PAGE)
            .or_insert_with(|| vec![0; PAGE as usize]);
        let at = (address % PAGE) as usize;
        page[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn word(&mut self, address: u64, word: u64) {
        self.write(address, &word.to_le_bytes());
    }
}

/// Page tables, mem_map, sections and names.
fn memory() -> Memory {
    let mut memory = Memory::default();
    let [
        image_pud,
        image_pmd,
        image_pte,
        direct_pud,
        map_pud,
        first_pmd,
        user_pmd,
        free_pmd,
    ] = std::array::from_fn(|table| TABLES + table as u64 * PAGE);
    let index = |address: u64, shift: u32| (address >> shift & 511) * 8;
    memory.word(ROOT + index(IMAGE, 39), image_pud | TABLE);
    memory.word(image_pud + index(IMAGE, 30), image_pmd | TABLE);
    memory.word(image_pmd + index(IMAGE, 21), image_pte | TABLE);
    memory.word(image_pte + index(IMAGE, 12), ROOT | TABLE);
    memory.word(image_pte + index(IMAGE, 12) + 8, NAMES | TABLE);
    memory.word(ROOT + index(DIRECT_MAP, 39), direct_pud | TABLE);
    memory.word(direct_pud + index(DIRECT_MAP, 30), LARGE);
    // 2 MiB of struct pages are those of a section; a table of them covers 64 GiB.
    memory.word(ROOT + index(VMEMMAP, 39), map_pud | TABLE);
    for gib in 0..(16 * TIB / (64 * GIB)) {
        let table = match gib {
            0 => first_pmd,
            1 => user_pmd,
            _ => free_pmd,
        };
        memory.word(map_pud + gib * 8, table | TABLE);
    }
    for section in 0..512 {
        memory.word(user_pmd + section * 8, USER_LEAF | LARGE);
        memory.word(free_pmd + section * 8, FREE_LEAF | LARGE);
        let first = match section {
            UNMAPPED => 0,
            _ if KERNEL.contains(&section) => KERNEL_LEAF | LARGE,
            _ => FREE_LEAF | LARGE,
        };
        memory.word(first_pmd + section * 8, first);
    }
    for page in 0..SECTION_PAGES {
        let at = page * STRUCT_PAGE;
        if page % 1024 == 0 {
            memory.word(FREE_LEAF + at + 40, 10);
            memory.write(FREE_LEAF + at + 48, &(-129_i32).to_le_bytes());
        }
        // On an LRU list, and anonymous.
        memory.word(USER_LEAF + at, 1 << 4 | 1 << 19);
        memory.word(USER_LEAF + at + 24, 0xffff_8880_1234_0001);
        memory.word(KERNEL_LEAF + at, 1 << 9);
        memory.write(KERNEL_LEAF + at + 48, &(-1_i32).to_le_bytes());
    }
    // With SPARSEMEM_VMEMMAP every section says the same.
    for root in 0..(16 * TIB / SECTION).div_ceil(256) {
        let part = if root == 0 { FIRST_SECTIONS } else { SECTIONS };
        memory.word(SECTION_ROOTS + root * 8, DIRECT_MAP + part);
    }
    for section in 0..256 {
        memory.word(SECTIONS + section * 16, VMEMMAP | 0xf);
        let first = if section == UNMANAGED {
            0
        } else {
            VMEMMAP | 0xf
        };
        memory.word(FIRST_SECTIONS + section * 16, first);
    }
    let names = ["Linux", "huge", "6.1.0", "#1 SMP", "x86_64", "(none)"];
    for (field, name) in (0..).zip(names) {
        memory.write(NAMES + field * 65, name.as_bytes());
    }
    memory
}

fn vmcoreinfo() -> String {
    let symbols = [
        ("init_uts_ns", IMAGE + PAGE),
        ("swapper_pg_dir", IMAGE),
        ("mem_section", DIRECT_MAP + SECTION_ROOTS),
    ];
    let numbers = [
        (
            "NUMBER(phys_base)",
            ROOT as i64 - (IMAGE - IMAGE_MAP) as i64,
        ),
        ("NUMBER(pgtable_l5_enabled)", 0),
        ("OFFSET(uts_namespace.name)", 0),
        ("LENGTH(mem_section)", 2048),
        ("SIZE(mem_section)", 16),
        ("OFFSET(mem_section.section_mem_map)", 0),
        ("NUMBER(SECTION_SIZE_BITS)", 27),
        ("NUMBER(MAX_PHYSMEM_BITS)", 46),
        ("SIZE(page)", 64),
        ("OFFSET(page.flags)", 0),
        ("OFFSET(page.compound_head)", 8),
        ("OFFSET(page.mapping)", 24),
        ("OFFSET(page.private)", 40),
        ("OFFSET(page._mapcount)", 48),
        ("OFFSET(page._refcount)", 52),
        ("OFFSET(page.compound_dtor)", 16),
        ("OFFSET(page.compound_order)", 17),
        ("LENGTH(zone.free_area)", 11),
        ("NUMBER(PG_lru)", 4),
        ("NUMBER(PG_private)", 13),
        ("NUMBER(PG_swapcache)", 10),
        ("NUMBER(PG_swapbacked)", 19),
        ("NUMBER(PG_slab)", 9),
        ("NUMBER(PG_hwpoison)", 23),
        ("NUMBER(PG_head_mask)", 1 << 16),
        ("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)", -129),
        ("NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)", -257),
        ("NUMBER(HUGETLB_PAGE_DTOR)", 2),
        ("CRASHTIME", 1_700_000_000),
    ];
    let mut text = "OSRELEASE=6.1.0\nPAGESIZE=4096\n".to_owned();
    for (name, address) in symbols {
        text += &format!("SYMBOL({name})={address:x}\n");
    }
    for (key, number) in numbers {
        text += &format!("{key}={number}\n");
    }
    text
}

/// Writes the vmcore, and returns what its memory has.
fn write_vmcore(path: &Path) -> Memory {
    let file = File::create_new(path).unwrap();
    let info = vmcoreinfo();
    let mut note = Vec::new();
    for number in [11, info.len() as u32, 0] {
        note.extend(number.to_le_bytes());
    }
    note.extend(b"VMCOREINFO\0\0");
    note.extend(info.as_bytes());
    let mut headers = vec![0; 64];
    headers[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    for (place, word) in [(16, 4_u16), (18, 62), (52, 64), (54, 56), (56, 3)] {
        headers[place..place + 2].copy_from_slice(&word.to_le_bytes());
    }
    headers[32..40].copy_from_slice(&64_u64.to_le_bytes());
    let mut offset = 2 * PAGE;
    let mut header = |kind: u64, offset: u64, address: u64, bytes: u64| {
        let mapped = if address == 0 {
            0
        } else {
            DIRECT_MAP + address
        };
        for field in [kind, offset, mapped, address, bytes, bytes, 0] {
            headers.extend(field.to_le_bytes());
        }
    };
    header(4, PAGE, 0, note.len() as u64);
    let memory = memory();
    for (start, end) in RAM {
        header(1, offset, start, end - start);
        for (pfn, page) in &memory.0 {
            let address = pfn * PAGE;
            if (start..end).contains(&address) {
                file.write_all_at(page, offset + address - start).unwrap();
            }
        }
        offset += end - start;
    }
    file.write_all_at(&headers, 0).unwrap();
    file.write_all_at(&note, PAGE).unwrap();
    file.set_len(offset)
        .expect("a file system with files of 16 TiB: ext4, xfs, btrfs, tmpfs");
    memory
}

struct Dumpfile(File);

impl Source for Dumpfile {
    fn size_bytes(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        self.0.read_exact_at(buf, offset).map_err(|_| IoError::END)
    }
}

/// Waits for the end, and says how much memory the process had at most, in KiB.
fn peak_kib(child: &mut Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        // It is gone from there when the process has ended, and before that it never goes down.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(value) = line.and_then(|line| line.trim().strip_suffix(" kB")) {
            peak = value.trim().parse().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    peak
}

#[test]
fn sixteen_tib_take_no_more_memory_than_one_gib() {
    let folder = std::env::temp_dir().join(format!("kdumprd-huge-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let folder = Folder(folder);
    let vmcore = folder.0.join("vmcore");
    let memory = write_vmcore(&vmcore);

    for (threads, most_kib) in [("1", 8 << 10), ("2", 9 << 10)] {
        let out = folder.0.join(format!("dump-{threads}"));
        let started = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_vmcore"))
            .args(["-c", "-d", "31", "--num-threads", threads])
            .args([&vmcore, &out])
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let peak = peak_kib(&mut child);
        assert!(child.wait().unwrap().success());
        println!(
            "--num-threads {threads}: {peak} KiB at most, {:.1} s",
            started.elapsed().as_secs_f64()
        );
        assert!((1..=most_kib).contains(&peak), "{peak} KiB");
        assert_dumped(&out, &memory);
        fs::remove_file(out).unwrap();
    }
}

/// Every page that had to be kept is there, and no other.
fn assert_dumped(path: &Path, memory: &Memory) {
    let mut reader_memory = vec![0; Reader::<Dumpfile>::MEMORY_BYTES];
    let file = File::open(path).unwrap();
    let mut reader = Reader::open(Dumpfile(file), &mut reader_memory).unwrap();
    assert_eq!(reader.max_mapnr(), 16 * TIB / PAGE);
    assert!(!reader.is_incomplete());
    let mut kept = [KERNEL.as_slice(), &[UNMANAGED, UNMAPPED]].concat();
    kept.sort_unstable();
    let mut from = Pfn(0);
    for section in kept {
        // The first MiB is not in the vmcore.
        let first = (section * SECTION_PAGES).max(MIB / PAGE);
        for pfn in first..(section + 1) * SECTION_PAGES {
            assert_eq!(reader.next_page(from), Ok(Some(Pfn(pfn))));
            from = Pfn(pfn + 1);
        }
    }
    assert_eq!(reader.next_page(from), Ok(None));
    let mut page = vec![0; PAGE as usize];
    for (&pfn, expected) in &memory.0 {
        reader.read_page(Pfn(pfn), &mut page).unwrap();
        assert!(page == *expected, "{pfn:#x}");
    }
}
