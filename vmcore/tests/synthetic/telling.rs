// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the command tells: messages, logs, differences, damage, what a file is, which pages there are.

use std::process::Command;

use crate::dumpfile::Dumpfile;
use crate::folder::Folder;
use crate::machine::{File, PAGE};
use crate::mixed::{V6_12, mixed};
use crate::ring::{Entry, Ring};

#[test]
fn messages_are_those_of_the_level() {
    let folder = Folder::new("messages");
    assert_eq!(folder.good("--message-level 0 -d 31 core a"), "");
    assert!(
        folder
            .good("--message-level 2 -d 31 core b")
            .contains("b: level 31")
    );
    assert!(
        folder
            .good("--message-level 16 -d 31 core c")
            .contains("Free pages")
    );
    let said = folder.good("-D -d 31 core d");
    assert!(
        said.contains("OSRELEASE=") && said.contains("PAGESIZE=4096"),
        "{said}"
    );
}

#[test]
fn another_kernels_files_have_an_exit_code_of_their_own() {
    let folder = Folder::new("release");
    let release = folder
        .machine
        .info
        .iter()
        .find(|(key, _)| key == "OSRELEASE");
    let release = release.unwrap().1.clone();
    let vmlinux =
        |release: &str| format!("\x7fELF\x02 Linux version %s\0Linux version {release} (gcc)\0");
    folder.write("vmlinux", vmlinux(&release).as_bytes());
    folder.write("other", vmlinux("2.6.18").as_bytes());
    folder.write("nothing", b"\x7fELF");
    folder.good("-x vmlinux -d 31 core out");
    folder.check("out", 31);
    let message = folder.bad("-x other -d 31 -f core out", 2);
    assert!(
        message.contains("2.6.18") && message.contains(&release),
        "{message}"
    );
    assert!(
        folder
            .bad("-x nothing -f core out", 1)
            .contains("not a vmlinux")
    );
    assert!(folder.bad("-x core2 -f core out", 1).contains("core2"));
    let info: String = folder
        .machine
        .info
        .iter()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect();
    folder.write("info.txt", info.as_bytes());
    folder.write("other.txt", b"OSRELEASE=2.6.18\nPAGESIZE=4096\n");
    folder.good("-i info.txt -d 31 -f core out");
    folder.check("out", 31);
    assert!(
        folder
            .bad("-i other.txt -d 31 -f core out", 2)
            .contains("2.6.18")
    );
    assert!(folder.bad("-i core -f core out", 1).contains("OSRELEASE"));
    // Where the vmcore has none, the file makes the difference.
    let mut core = folder.machine.vmcore().bytes;
    let name = core
        .windows(10)
        .position(|name| name == b"VMCOREINFO")
        .unwrap();
    core[name] = b'X';
    folder.write("bare", &core);
    folder.good("-i info.txt -d 31 -f bare out");
    let dump = Dumpfile::read(&folder.read("out"));
    let kept: Vec<u64> = dump.pages.keys().copied().collect();
    assert_eq!(
        kept,
        folder.machine.expected(31).into_iter().collect::<Vec<_>>()
    );
}

#[test]
fn the_log_goes_to_a_file_or_to_standard_output() {
    let mut machine = mixed(V6_12);
    let ring = Ring {
        count_bits: 4,
        size_bits: 12,
        first_id: 3,
        first_position: 0,
        fills_end: false,
    };
    let entries = [
        Entry::new(1_000_000, "first"),
        Entry::new(2_500_000_000, "second"),
    ];
    ring.write(&mut machine, &entries);
    machine.finish();
    let text = "[    0.001000] first\n[    2.500000] second\n";
    let folder = Folder::of("dmesg", machine);
    folder.good("--dump-dmesg core log");
    assert_eq!(String::from_utf8(folder.read("log")).unwrap(), text);
    // As `kdump-save` of openSUSE's kdump calls it, which reads release and time from standard error.
    let output = folder.run("-F --message-level 8 --dump-dmesg core");
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
    let said = String::from_utf8(output.stderr).unwrap();
    for line in ["OSRELEASE=6.12.", "CRASHTIME=1700000000"] {
        assert!(
            said.lines().any(|said| said.starts_with(line)),
            "{line}: {said}"
        );
    }
    assert_eq!(folder.good("--dump-dmesg -F core"), text);
    folder.good("-c -d 31 core dump");
    assert_eq!(folder.good("--dump-dmesg -F dump"), text);
    // This log was never cleared.
    assert_eq!(folder.good("--dump-dmesg --partial-dmesg -F core"), text);
}

#[test]
fn differences_are_told_by_pfn() {
    let folder = Folder::new("diff");
    folder.good("-d 31 core a");
    folder.good("-d 1 core b");
    let output = folder.run("diff a b");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    let only = folder.machine.expected(1).len() - folder.machine.expected(31).len();
    assert!(said.contains(&format!("{only} pages only in B")), "{said}");
    // One byte of one page, which is stored as it is.
    let mut bytes = folder.read("b");
    let dump = Dumpfile::read(&bytes);
    let offsets: Vec<u64> = dump.pages.values().map(|(offset, _)| *offset).collect();
    let (pfn, offset) = dump
        .pages
        .iter()
        .map(|(pfn, (offset, _))| (pfn, *offset))
        .find(|(_, offset)| offsets.iter().filter(|other| *other == offset).count() == 1)
        .unwrap();
    bytes[offset as usize + 7] ^= 1;
    folder.write("c", &bytes);
    let said = String::from_utf8(folder.run("diff b c").stdout).unwrap();
    assert!(
        said.contains(&format!("1 pages differ: {pfn:#x}")),
        "{said}"
    );
    assert_eq!(folder.run("diff b nothing").status.code(), Some(2));
}

#[test]
fn damage_is_found_and_named() {
    let folder = Folder::new("verify");
    folder.good("-c -d 31 core whole");
    assert!(folder.good("verify whole").contains("whole: good"));
    let bytes = folder.read("whole");
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        folder.write("bad", &bytes);
        let output = folder.run("verify bad");
        assert_eq!(output.status.code(), Some(1), "byte {at}");
        let said = String::from_utf8(output.stdout).unwrap();
        format!("{said}{}", String::from_utf8_lossy(&output.stderr))
    };
    for (at, byte, part) in [
        (12, b'l', "sysname"),
        (12 + 2 * 65, 0, "release"),
        (425, 1, "unknown flags"),
        (424, 3, "more than one compression"),
        (440, 1, "max_mapnr"),
        (436, 9, "bitmap_blocks"),
        (460, 0, "nr_cpus"),
        (4096 + 8, 77, "dump level 77"),
        (4096 + 34, 0xff, "VMCOREINFO"),
        (4096 + 54, 0xff, "notes"),
        (
            bytes.len() - 3,
            bytes[bytes.len() - 3] ^ 0x55,
            "pages cannot be read",
        ),
    ] {
        let said = with(at, byte);
        assert!(said.contains(part), "byte {at}: {said}");
    }
    assert!(folder.bad("verify /dev/null", 1).contains("too short"));
}

#[test]
fn nobody_who_reads_on_is_no_panic() {
    let folder = Folder::new("pipe");
    for words in [
        &["info", "core"][..],
        &["diff", "core"],
        &["verify", "core"],
        &["--man"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmcore"));
        command.args(words).current_dir(&folder.path);
        if words[0] == "diff" {
            command.arg("core");
        }
        let output = command.stdout(writer).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{words:?}: {said}");
        assert!(!said.contains("panicked"), "{words:?}: {said}");
    }
}

#[test]
fn info_says_what_a_file_is() {
    let folder = Folder::new("info");
    let said = folder.good("info core");
    for part in [
        "format         ELF",
        "machine        x86_64",
        "free",
        "user",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    folder.good("-c -d 31 core dump");
    let said = folder.good("info dump");
    assert!(
        said.contains("kdump-compressed") && said.contains("level 31"),
        "{said}"
    );
}

#[test]
fn mem_usage_counts_the_pages_by_kind() {
    let folder = Folder::new("mem-usage");
    let said = folder.good("--mem-usage core");
    let total = folder.machine.present().len();
    assert!(
        said.contains(&format!("Total pages on system:\t{total}")),
        "{said}"
    );
    let count = |kind: &str| -> usize {
        let line = said
            .lines()
            .find(|line| line.starts_with(&format!("{kind}\t")))
            .unwrap();
        line.split_ascii_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    };
    let kinds = [
        "ZERO",
        "NON_PRI_CACHE",
        "PRI_CACHE",
        "USER",
        "FREE",
        "KERN_DATA",
    ];
    let sum: usize = kinds.into_iter().map(count).sum();
    // Broken and offline pages are in none of these.
    assert!(sum <= total && sum + 8 > total, "{said}");
    let bare: File = folder.machine.vmcore();
    let mut bytes = bare.bytes;
    let name = bytes
        .windows(10)
        .position(|name| name == b"VMCOREINFO")
        .unwrap();
    bytes[name] = b'X';
    folder.write("bare", &bytes);
    assert!(folder.bad("--mem-usage bare", 1).contains("no VMCOREINFO"));
}

#[test]
fn thousands_of_segments_are_read() {
    let folder = Folder::new("segments");
    // Every second page is a segment of its own.
    let count = 5000_u64;
    let machine = &folder.machine;
    let notes = machine.vmcore().bytes;
    let number = |at: usize| u64::from_le_bytes(notes[at..at + 8].try_into().unwrap());
    let (notes_at, notes_bytes) = (number(64 + 8), number(64 + 32));
    let data = (64 + 56 * (count + 1) + notes_bytes).next_multiple_of(PAGE);
    let mut bytes = notes[..64].to_vec();
    bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
    bytes[56..58].copy_from_slice(&(count as u16 + 1).to_le_bytes());
    let mut header = |kind: u32, fields: [u64; 6]| {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(7_u32.to_le_bytes());
        bytes.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
    };
    let place = 64 + 56 * (count + 1);
    header(4, [place, 0, 0, notes_bytes, notes_bytes, 0]);
    for index in 0..count {
        let address = (1 << 32) + index * 2 * PAGE;
        header(1, [data + index * PAGE, 0, address, PAGE, PAGE, 0]);
    }
    bytes.extend(&notes[notes_at as usize..][..notes_bytes as usize]);
    bytes.resize((data + count * PAGE) as usize, 7);
    folder.write("many", &bytes);
    let said = folder.good("verify many");
    assert!(said.contains("5000 pages can be read"), "{said}");
}

/// As kdump-utils' `kdumpctl` does with a raw device, on which there is more behind the dump, or something else.
#[test]
fn a_raw_device_is_turned_back_up_to_the_end_mark() {
    let folder = Folder::new("raw-device");
    folder.good("-d 31 core direct");
    let mut device = folder.run("-F -d 31 core").stdout;
    device.extend([0xa5; 100_000]);
    let output = folder.fed("-R saved", &device);
    assert!(output.status.success());
    assert!(folder.read("saved") == folder.read("direct"));
    let output = folder.fed("-R other", &[0; 8192]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!folder.exists("other"));
}
