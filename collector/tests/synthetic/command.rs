// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `vmcore`, as people call it: every option, on files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::dumpfile::Dumpfile;
use crate::levels::{V6_1, V6_12, finished, mixed};
use crate::machine::{File, Machine, PAGE};
use crate::ring::{Entry, Ring};

/// A folder of a test's own, with the vmcore in it.
struct Folder {
    path: PathBuf,
    machine: Machine,
}

impl Folder {
    fn new(name: &str) -> Self {
        Self::of(name, finished(V6_1))
    }

    fn of(name: &str, machine: Machine) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("command-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("core"), machine.vmcore().bytes).unwrap();
        Self { path, machine }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmcore"));
        command.current_dir(&self.path).args(line.split(' '));
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Runs it, and it is to succeed. Returns what it printed.
    fn good(&self, line: &str) -> String {
        let output = self.run(line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs it, and it is to fail with this exit code. Returns what it said.
    fn bad(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(code), "{line}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path.join(name)).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path.join(name), bytes).unwrap();
    }

    fn exists(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    /// Runs it with bytes on standard input.
    fn fed(&self, line: &str, bytes: &[u8]) -> Output {
        let mut child = self
            .command(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // What stops reading early closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(bytes);
        child.wait_with_output().unwrap()
    }

    /// The dumpfile has the pages of this level, and each is as the machine had it.
    fn check(&self, name: &str, level: u8) {
        let dump = Dumpfile::read(&self.read(name));
        let kept: Vec<u64> = dump.pages.keys().copied().collect();
        let expected: Vec<u64> = self.machine.expected(level).into_iter().collect();
        assert_eq!(kept, expected, "{name}");
        for (&pfn, (_, page)) in &dump.pages {
            assert!(*page == self.machine.page(pfn), "{name}: page {pfn:#x}");
        }
        let present: Vec<u64> = self.machine.present().into_iter().collect();
        assert_eq!(dump.present, present, "{name}");
        assert_eq!(dump.status & 8, 0, "{name}");
    }
}

#[test]
fn levels_codecs_and_windows_make_the_dump_that_is_asked_for() {
    let folder = Folder::new("levels");
    folder.good("-cd31 core a");
    folder.check("a", 31);
    folder.good("-d 17 core b --message-level=0");
    folder.check("b", 17);
    // The options that tune the run make no difference to its result.
    for options in [
        "--cyclic-buffer 1",
        "--non-cyclic",
        "--non-mmap",
        "--num-threads 3",
        "-b 4 --work-dir .",
    ] {
        folder.good(&format!("-c -d 31 {options} -f core other"));
        assert!(folder.read("other") == folder.read("a"), "{options}");
    }
    let status = |name: &str| Dumpfile::read(&folder.read(name)).status;
    assert_eq!((status("a"), status("b")), (1, 0));
    for (option, flag) in [("-l", 2), ("-p", 4)] {
        folder.good(&format!("{option} -d 31 core -f codec"));
        let bytes = folder.read("codec");
        assert_eq!(
            u32::from_le_bytes(bytes[424..428].try_into().unwrap()),
            flag
        );
        assert!(folder.good("diff a codec").contains("pages are the same"));
    }
}

#[test]
fn a_file_that_exists_is_replaced_only_when_that_is_wanted() {
    let folder = Folder::new("replace");
    folder.write("out", b"precious");
    for line in ["core out", "--dump-dmesg core out", "-R out"] {
        assert!(
            folder
                .bad(line, 1)
                .contains(if line == "-R out" { "header" } else { "-f" })
        );
        assert_eq!(folder.read("out"), b"precious", "{line}");
    }
    folder.good("-d 31 -f core out");
    folder.check("out", 31);
}

#[test]
fn an_input_is_never_written_over() {
    let folder = Folder::new("same-file");
    let before = folder.read("core");
    let link = folder.path.join("link");
    std::os::unix::fs::symlink("core", &link).unwrap();
    for line in [
        "-f -d 31 core core",
        "-f -d 31 core link",
        "-f -d 31 link ./core",
        "-f --dump-dmesg core core",
        "-f --split core a link",
        "-f --reassemble a core link",
    ] {
        let said = folder.bad(line, 1);
        assert!(said.contains("which is read"), "{line}: {said}");
        assert!(folder.read("core") == before, "{line}");
    }
    let said = folder.bad("-f --split core a a", 1);
    assert!(said.contains("a is given as two outputs"), "{said}");
    assert!(!folder.exists("a"));
}

#[test]
fn what_cannot_be_honoured_is_an_error_and_writes_nothing() {
    let folder = Folder::new("refused");
    for (line, part) in [
        ("-e core out", "-e cannot be honoured"),
        ("-X core out", "Xen"),
        ("--config f core out", "erased"),
        ("--vtop 1 core out", "vtop"),
        ("-b 11 core out", "256 KiB"),
        ("-c -E core out", "not compressed"),
        ("-q core out", "-q is not known"),
        ("core", "VMCORE OUT"),
        ("-d 1,32 core out", "`32`"),
    ] {
        let message = folder.bad(line, 1);
        assert!(message.contains(part), "{line}: {message}");
        assert!(!folder.exists("out"), "{line}");
    }
    assert_eq!(folder.bad("--message-level 0 -d 1 nothing out", 1), "");
    assert!(
        folder
            .bad("nothing out", 1)
            .contains("nothing: No such file")
    );
    assert!(folder.bad("-F --split core a b", 1).contains("--split"));
}

#[test]
fn check_params_looks_at_the_line_alone() {
    let folder = Folder::new("check-params");
    assert_eq!(
        folder.good("--check-params -l --message-level 7 -d 31 nothing out"),
        ""
    );
    assert_eq!(folder.good("--check-params -F -c -d 31 nothing"), "");
    assert!(
        folder
            .bad("--check-params -l -d 99 nothing out", 1)
            .contains("99")
    );
    assert!(!folder.exists("out"));
}

#[test]
fn help_and_version_are_there_under_both_names() {
    let folder = Folder::new("help");
    assert!(folder.good("-h").contains("\n       vmcore info FILE"));
    assert!(folder.good("-h").contains("\n       vmcore verify FILE"));
    assert!(folder.good("-v").starts_with("vmcore "));
    assert!(folder.good("--man").starts_with(".TH VMCORE 8 "));
    assert!(folder.good("--completion").ends_with(" vmcore\n"));
    let link = folder.path.join("makedumpfile");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vmcore"), &link).unwrap();
    let output = Command::new(&link).arg("-h").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("makedumpfile --reassemble") && !text.contains("verify"));
    let output = Command::new(&link).arg("--man").output().unwrap();
    assert!(output.stdout.starts_with(b".TH MAKEDUMPFILE 8 "));
    // There `info` is a file.
    let output = Command::new(&link).args(["info", "core"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("makedumpfile: info: "), "{text}");
}

#[test]
fn under_its_peers_name_the_last_lines_are_its_peers() {
    let folder = Folder::new("ending");
    let link = folder.path.join("makedumpfile");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vmcore"), &link).unwrap();
    for (line, code, to_stderr, last) in [
        (
            "-d 31 core out",
            0,
            false,
            "\nThe dumpfile is saved to out.\n\nmakedumpfile Completed.\n",
        ),
        (
            "-F core",
            0,
            true,
            "\nThe dumpfile is saved to STDOUT.\n\nmakedumpfile Completed.\n",
        ),
        (
            "--split -d 31 core a b",
            0,
            false,
            "\nThe dumpfiles are saved to a, and b.\n\nmakedumpfile Completed.\n",
        ),
        (
            "--reassemble a b c",
            0,
            false,
            "\nThe dumpfile is saved to c.\n\nmakedumpfile Completed.\n",
        ),
        ("core out", 1, false, "\nmakedumpfile Failed.\n"),
        ("core", 1, false, "\nmakedumpfile Failed.\n"),
        ("--message-level 4 core out", 1, false, ""),
        ("--message-level 0 -d 31 core quiet", 0, false, ""),
        ("--check-params -d 31 core out", 0, false, ""),
        ("--check-params -d 99 core out", 1, false, ""),
    ] {
        let output = Command::new(&link)
            .current_dir(&folder.path)
            .args(line.split(' '))
            .output()
            .unwrap();
        let said = if to_stderr {
            output.stderr
        } else {
            output.stdout
        };
        let said = String::from_utf8(said).unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(
            said.ends_with(last) && (!last.is_empty() || said.is_empty()),
            "{line}: {said}"
        );
    }
    assert!(!folder.good("-d 31 core ours").contains("Completed"));
}

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
    assert!(
        folder
            .bad("verify /dev/null", 1)
            .contains("neither ELF nor")
    );
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
