// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: what is asked for, what is refused, and what is said under either name.

use std::process::Command;

use crate::dumpfile::Dumpfile;
use crate::folder::Folder;

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
    assert!(folder.good("--completion bash").ends_with(" vmcore\n"));
    assert!(
        folder
            .good("--completion zsh")
            .starts_with("#compdef vmcore\n")
    );
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
