// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flattened files, parts, dumps of dumps, ELF, outputs that are full, inputs that end early.

use std::collections::BTreeMap;

use crate::dumpfile::Dumpfile;
use crate::folder::Folder;
use crate::machine::PAGE;
use crate::mixed::{V6_1, V6_12, finished};

#[test]
fn flattened_dumps_are_turned_back_and_read_as_they_are() {
    let folder = Folder::new("flattened");
    folder.good("-c -d 31 core direct");
    for format in ["-c -d 31", "-E -d 31", "-d 0"] {
        folder.good(&format!("{format} core -f direct"));
        let output = folder.run(&format!("-F {format} core"));
        assert!(output.status.success());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("standard output: level"), "{said}");
        let stream = output.stdout;
        assert!(folder.fed("-R -f back", &stream).status.success());
        assert!(folder.read("back") == folder.read("direct"), "{format}");
        folder.write("flat", &stream);
        assert!(
            folder.good("diff flat direct").lines().count() == 3,
            "{format}"
        );
        // No place is written twice: crash could not tell which record is the later.
        let mut places = BTreeMap::new();
        let mut at = 4096;
        loop {
            let number = |at: usize| i64::from_be_bytes(stream[at..at + 8].try_into().unwrap());
            let (offset, bytes) = (number(at), number(at + 8));
            if offset == -1 {
                break;
            }
            places.insert(offset, bytes);
            at += 16 + bytes as usize;
        }
        assert_eq!(at + 16, stream.len());
        let mut end = 0;
        for (offset, bytes) in places {
            assert!(offset >= end, "{format}");
            end = offset + bytes;
        }
    }
}

/// Memory up to 32 GiB, of which the stream has a page at the end and the machine's at the beginning: what lies between was
/// never written, and is neither read nor described page by page.
#[test]
fn a_record_far_behind_the_others_makes_no_pages_of_what_is_between() {
    let folder = Folder::new("far-record");
    let mut core = folder.read("core");
    let headers = usize::from(u16::from_le_bytes([core[56], core[57]]));
    let field = |at: usize| u64::from_le_bytes(core[at..at + 8].try_into().unwrap());
    // Of all segments, the one that is highest in memory.
    let last = (0..headers).map(|number| 64 + 56 * number);
    let last = last.max_by_key(|&at| field(at + 24)).unwrap();
    let offset = field(last + 8);
    let far = offset + (1 << 35);
    for at in [last + 32, last + 40] {
        core[at..at + 8].copy_from_slice(&((1_u64 << 35) + 4096).to_le_bytes());
    }
    let mut stream = b"makedumpfile".to_vec();
    stream.resize(16, 0);
    stream.extend([1_u64.to_be_bytes(), 1_u64.to_be_bytes()].concat());
    stream.resize(4096, 0);
    for (offset, data) in [(0, core.as_slice()), (far, &[7; 4096])] {
        stream.extend([offset.to_be_bytes(), (data.len() as u64).to_be_bytes()].concat());
        stream.extend(data);
    }
    stream.extend([0xff; 16]);
    folder.write("flat", &stream);
    folder.good("-d 0 core direct");
    folder.good("-d 0 flat far");
    let (direct, far) = (folder.read("direct"), folder.read("far"));
    // Two bits for each page of 32 GiB are 2 MiB.
    assert!(far.len() < direct.len() + (4 << 20), "{} bytes", far.len());
    let (direct, far) = (Dumpfile::read(&direct), Dumpfile::read(&far));
    let highest = direct.pages.last_key_value().unwrap().0;
    let above = far.pages.range(highest + 1..);
    let sevens = above
        .flat_map(|(_, (_, page))| page)
        .filter(|&&byte| byte == 7);
    assert!(sevens.count() >= 4096);
    for (pfn, (_, page)) in &direct.pages {
        assert!(far.pages[pfn].1 == *page, "pfn {pfn:#x}");
    }
    // What the file has behind the segment's beginning, the page far away, and some at either side of the gap.
    let most = (core.len() as u64 - offset) / 4096 + 36;
    let more = far.pages.len() - direct.pages.len();
    assert!(more > 0 && more as u64 <= most, "{more} pages more");
}

#[test]
fn a_stream_that_is_cut_short_becomes_an_incomplete_dump() {
    let folder = Folder::new("cut-stream");
    folder.good("-d 31 core direct");
    let whole = Dumpfile::read(&folder.read("direct"));
    let stream = folder.run("-F -d 31 core").stdout;
    for percent in [50, 90, 99] {
        let cut = &stream[..stream.len() * percent / 100];
        let output = folder.fed("-R -f back", cut);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("incomplete dump"), "{said}");
        let status = folder.read("back")[424];
        assert_eq!(status & 8, 8);
        folder.write("flat", cut);
        for name in ["back", "flat"] {
            // What is there can be made a good dump of its own.
            folder.good(&format!("-f {name} again"));
            let again = Dumpfile::read(&folder.read("again"));
            assert_eq!(again.status & 8, 8, "{name} at {percent} %");
            assert!(!again.pages.is_empty(), "{name} at {percent} %");
            for (pfn, (_, page)) in &again.pages {
                assert!(*page == whole.pages[pfn].1, "{name}: page {pfn:#x}");
            }
        }
    }
    assert!(folder.bad("-R nothing", 1).contains("header"));
    let output = folder.fed("-R nothing", &[b'x'; 8192]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!folder.exists("nothing"));
}

#[test]
fn parts_are_joined_to_the_whole_dump() {
    let folder = Folder::new("split");
    for options in ["-c -d 31", "-d 0", "-d 1", "-c -d 31 --splitblock-size 256"] {
        folder.good(&format!(
            "{} core -f whole",
            options.split(" --splitb").next().unwrap()
        ));
        folder.good(&format!("{options} --split -f core a b c"));
        folder.good("--reassemble c a b -f joined");
        assert!(
            folder.good("diff whole joined").lines().count() == 3,
            "{options}"
        );
        assert!(folder.good("verify joined").contains("joined: good"));
        for part in ["a", "b", "c"] {
            let said = folder.good(&format!("verify {part}"));
            assert!(
                said.contains("one of several files") && said.contains(": good"),
                "{said}"
            );
            assert!(
                folder
                    .good(&format!("info {part}"))
                    .contains("--reassemble")
            );
        }
        // Every part has room for the descriptors of all, and a page of zeros behind it where zero pages are left out.
        let number = |bytes: &[u8], at: usize| {
            u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
        };
        let bytes = folder.read("b");
        let descs = (1 + number(&bytes, 432) + number(&bytes, 436)) * 4096;
        let pages = Dumpfile::read(&folder.read("whole")).pages.len();
        let zero = &bytes[descs + 24 * pages..][..4096];
        assert_eq!(
            zero.iter().all(|&byte| byte == 0),
            !options.contains("-d 0"),
            "{options}"
        );
    }
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let folder = Folder::new("parts");
    folder.good("-d 31 --split --splitblock-size 256 core a b c");
    folder.good("-d 1 --split --splitblock-size 256 core x y z");
    folder.good("-d 31 core whole");
    for (line, part) in [
        ("--reassemble a b out", "last part is missing"),
        ("--reassemble b c out", "before b is missing"),
        ("--reassemble a c out", "ends at"),
        ("--reassemble a y c out", "not of the same dump"),
        ("--reassemble a whole out", "a whole dump"),
        ("--reassemble a core out", "no kdump-compressed file"),
    ] {
        let message = folder.bad(line, 1);
        assert!(message.contains(part), "{line}: {message}");
        assert!(!folder.exists("out"), "{line}");
    }
    assert!(folder.bad("-d 31 a out -f", 1).contains("--reassemble"));
}

#[test]
fn a_dump_is_filtered_again_as_the_vmcore_would_be() {
    for (name, config) in [("refilter-6.1", V6_1), ("refilter-6.12", V6_12)] {
        let folder = Folder::of(name, finished(config));
        folder.good("-c -d 31 core direct");
        folder.good("-l -d 0 core all");
        folder.good("-c -d 31 all again");
        assert!(folder.read("again") == folder.read("direct"), "{name}");
        folder.check("again", 31);
        // From one filtered in part, flattened; and what was left out stays so at a lower level.
        let flat = folder.run("-F -d 8 core").stdout;
        folder.write("flat", &flat);
        folder.good("-c -d 31 flat -f again");
        folder.check("again", 31);
        let said = folder.good("-d 0 direct back");
        assert!(said.contains("left out before"), "{said}");
        folder.check("back", 31);
        folder.good("-E -d 31 all elf");
        folder.good("-E -d 31 core other");
        assert!(folder.good("diff elf other").contains("pages are the same"));
    }
}

#[test]
fn elf_has_the_kept_pages_and_room_for_the_others() {
    let folder = Folder::new("elf");
    for level in [0_u8, 1, 31] {
        folder.good(&format!("-E -d {level} -f core elf"));
        let bytes = folder.read("elf");
        let u16_at = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(bytes[..7], *b"\x7fELF\x02\x01\x01");
        assert_eq!((u16_at(16), u16_at(18), u64_at(32)), (4, 62, 64));
        // e_flags: complete.
        assert_eq!(bytes[48..52], [0; 4]);
        let mut covered = BTreeMap::new();
        for index in 0..usize::from(u16_at(56)) {
            let header = 64 + 56 * index;
            let field = |number: usize| u64_at(header + 8 + 8 * number);
            let (offset, address, in_file, in_memory) = (field(0), field(2), field(3), field(4));
            if bytes[header] == 4 {
                assert!(offset + in_file <= bytes.len() as u64);
                continue;
            }
            assert!(in_file <= in_memory && offset + in_file <= bytes.len() as u64);
            for page in 0..in_memory / PAGE {
                let there = page * PAGE < in_file;
                let at = (offset + page * PAGE) as usize;
                let content = there.then(|| bytes[at..at + PAGE as usize].to_vec());
                let known = covered.entry(address / PAGE + page).or_insert(None);
                if known.is_none() {
                    *known = content;
                }
            }
        }
        let present: Vec<u64> = folder.machine.present().into_iter().collect();
        assert_eq!(covered.keys().copied().collect::<Vec<_>>(), present);
        let expected = folder.machine.expected(level);
        for (pfn, page) in covered {
            let real = folder.machine.page(pfn);
            match page {
                // What is left out reads as zeros.
                Some(page) if expected.contains(&pfn) => assert!(page == real, "{pfn:#x}"),
                Some(page) => assert!(page.iter().all(|&byte| byte == 0), "{pfn:#x}"),
                None => assert!(
                    !expected.contains(&pfn) || real.iter().all(|&byte| byte == 0),
                    "{pfn:#x}"
                ),
            }
        }
        assert!(folder.good("verify elf").contains("elf: good"));
    }
}

#[test]
fn a_full_output_gets_the_next_level_or_stays_incomplete() {
    let folder = Folder::new("limit");
    folder.good("-d 0 core all");
    folder.good("-d 31 core small");
    let size = folder.read("small").len();
    let said = folder.good(&format!("-d 0,31 -L {size} core out"));
    assert!(said.contains("next level is tried"), "{said}");
    folder.check("out", 31);
    let whole = Dumpfile::read(&folder.read("small"));
    // From behind the headers on, at twenty places.
    let first = 24 << 10;
    for step in 0..20 {
        let limit = first + (size - first) * step / 20;
        let message = folder.bad(&format!("-d 31 -L {limit} -f core out"), 1);
        assert!(message.contains("incomplete dump"), "{message}");
        let bytes = folder.read("out");
        assert!(bytes.len() <= limit);
        assert_eq!(bytes[424] & 8, 8);
        let said = folder.good("verify out");
        assert!(said.contains("says that it is incomplete"), "{said}");
        for (pfn, (_, page)) in &Dumpfile::read(&bytes).pages {
            assert!(*page == whole.pages[pfn].1, "page {pfn:#x}");
        }
    }
    let message = folder.bad("-E -d 31 -L 100K core elf", 1);
    assert!(message.contains("incomplete"), "{message}");
    assert_eq!(folder.read("elf")[48], 1);
}

#[test]
fn a_dump_that_ends_anywhere_is_read_as_far_as_it_goes() {
    let folder = Folder::new("truncated");
    folder.good("-c -d 31 core whole");
    let bytes = folder.read("whole");
    let whole = Dumpfile::read(&bytes);
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let descs = (1 + u32_at(432) + u32_at(436)) * 4096;
    let mut most = 0;
    for step in 0..20 {
        let length = descs + (bytes.len() - descs) * step / 20;
        folder.write("cut", &bytes[..length]);
        if step == 0 {
            // No descriptor is left.
            assert!(folder.good("info cut").contains("left out before"));
            continue;
        }
        folder.good("-f cut again");
        let again = Dumpfile::read(&folder.read("again"));
        assert_eq!(again.status & 8, 8);
        assert!(again.pages.len() >= most && again.pages.len() < whole.pages.len());
        most = again.pages.len();
        for (pfn, (_, page)) in &again.pages {
            assert!(*page == whole.pages[pfn].1, "page {pfn:#x}");
        }
    }
    assert!(most > whole.pages.len() / 2);
    let said = folder.run("verify cut");
    assert_eq!(said.status.code(), Some(1));
}

#[test]
fn dry_run_counts_and_writes_nothing() {
    let folder = Folder::new("dry-run");
    folder.good("-c -d 31 core real");
    let said = folder.good("--dry-run --show-stats --message-level 0 -c -d 31 core out");
    assert!(!folder.exists("out"));
    let size = folder.read("real").len();
    assert!(
        said.contains(&format!("Write bytes     : {size}")),
        "{said}"
    );
    let present = folder.machine.present().len();
    assert!(
        said.contains(&format!("Original pages  : {present:#018x}")),
        "{said}"
    );
    assert!(folder.good("--dry-run -F -d 31 core").is_empty());
    assert!(
        folder
            .good("--dry-run -d 31 --split core a b")
            .contains("a: pfns")
    );
    assert!(!folder.exists("a"));
}
