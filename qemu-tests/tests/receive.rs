// SPDX-License-Identifier: MIT OR Apache-2.0
//! `contrib/kdumprd-receive`, the command that a server's authorized_keys may force: what it does, and everything that it
//! refuses. `tests/ssh_client.rs` has it behind a real sshd.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use qemu_tests::cycle::work_folder;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/kdumprd-receive");

/// An empty folder for dumps, with a file beside it that nobody may touch.
fn folder(name: &str) -> PathBuf {
    let work = work_folder(name).unwrap();
    fs::remove_dir_all(&work).unwrap();
    let folder = work.join("crash");
    fs::create_dir_all(&folder).unwrap();
    fs::write(work.join("outside"), "as it was").unwrap();
    folder
}

/// Has the script do as the client asks: its status, and what it said.
fn ask(folder: &Path, command: Option<&str>, input: &[u8]) -> (i32, String) {
    let mut script = Command::new(SCRIPT);
    script.arg(folder).env_remove("SSH_ORIGINAL_COMMAND");
    if let Some(command) = command {
        script.env("SSH_ORIGINAL_COMMAND", command);
    }
    let mut child = script
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses does not read.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.stdout.is_empty(), "{command:?}: {output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said)
}

/// As the client has it: what follows the line's first command is for servers without the script.
fn line(verb: &str, directory: &str, file: &str) -> String {
    let words = format!(": kdumprd-1 {verb} {directory} {file}");
    format!("{}; touch ran-by-a-shell", words.trim_end())
}

#[test]
fn a_dump_is_taken_and_never_replaced() {
    let folder = folder("receive-takes");
    let dump = folder.join("10.0.0.1-2026-11-23-03:00");
    let name = "10.0.0.1-2026-11-23-03:00";
    let done =
        |verb: &str, file: &str, input: &[u8]| ask(&folder, Some(&line(verb, name, file)), input);
    assert_eq!(done("mkdir", "", b""), (0, String::new()));
    // The client takes another name then.
    assert_eq!(done("mkdir", "", b"").0, 17);
    assert_eq!(done("put", "vmcore.flat", b"dump"), (0, String::new()));
    assert_eq!(
        fs::read(dump.join("vmcore.flat-incomplete")).unwrap(),
        b"dump"
    );
    let (status, said) = done("put", "vmcore.flat", b"other");
    assert!(status != 0 && !said.is_empty(), "{status} {said}");
    assert_eq!(
        fs::read(dump.join("vmcore.flat-incomplete")).unwrap(),
        b"dump"
    );
    assert_eq!(done("publish", "vmcore.flat", b""), (0, String::new()));
    assert_eq!(fs::read(dump.join("vmcore.flat")).unwrap(), b"dump");
    // A second one of the name is not put in its place.
    assert_eq!(done("put", "vmcore.flat", b"other").0, 0);
    assert_eq!(done("publish", "vmcore.flat", b"").0, 17);
    assert_eq!(fs::read(dump.join("vmcore.flat")).unwrap(), b"dump");
    assert_ne!(done("publish", "absent", b"").0, 0);
    for (path, mode) in [(&dump, 0o700), (&dump.join("vmcore.flat"), 0o600)] {
        let found = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}", path.display());
    }
}

#[test]
fn everything_else_is_refused_and_leaves_nothing() {
    let folder = folder("receive-refuses");
    let name = "2026-11-23-03:00";
    fs::create_dir(folder.join(name)).unwrap();
    symlink("../outside", folder.join("link")).unwrap();
    symlink("../outside", folder.join(name).join("vmcore")).unwrap();
    symlink("../../outside", folder.join(name).join("log-incomplete")).unwrap();
    let listing = || {
        let list = |path: &Path| {
            let mut names: Vec<String> = fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().path().display().to_string())
                .collect();
            names.sort();
            names
        };
        [
            list(&folder),
            list(&folder.join(name)),
            list(folder.parent().unwrap()),
        ]
        .concat()
    };
    let before = listing();
    const OTHERS: &str = "kdumprd-receive: only dumps of kdumprd are taken\n";
    const NO_NAME: &str = "kdumprd-receive: this is no name for a dump\n";
    const NO_FILE: &str = "kdumprd-receive: a file without a name\n";
    const UNKNOWN: &str = "kdumprd-receive: this is not known\n";
    assert_eq!(ask(&folder, None, b""), (1, OTHERS.to_owned()));
    for (command, said) in [
        ("", OTHERS),
        ("cat /etc/hostname", OTHERS),
        ("sh -c 'touch x'", OTHERS),
        (": kdumprd-2 mkdir x;", OTHERS),
        (": kdumprd-1 mkdir", OTHERS),
        (": kdumprd-1", OTHERS),
        ("true; : kdumprd-1 mkdir x;", OTHERS),
        (": kdumprd-1 mkdir ;", NO_NAME),
        (": kdumprd-1 mkdir .;", NO_NAME),
        (": kdumprd-1 mkdir ..;", NO_NAME),
        (": kdumprd-1 mkdir .hidden;", NO_NAME),
        (": kdumprd-1 mkdir ../x;", NO_NAME),
        (": kdumprd-1 mkdir /tmp/x;", NO_NAME),
        (": kdumprd-1 mkdir x/y;", NO_NAME),
        (": kdumprd-1 mkdir $(id);", NO_NAME),
        (": kdumprd-1 mkdir `id`;", NO_NAME),
        (": kdumprd-1 mkdir a*;", NO_NAME),
        (": kdumprd-1 mkdir a;b;", NO_NAME),
        (": kdumprd-1 mkdir a&b;", NO_NAME),
        (": kdumprd-1 mkdir 'a';", NO_NAME),
        (": kdumprd-1 mkdir ä;", NO_NAME),
        (": kdumprd-1 mkdir x y;", NO_NAME),
        (": kdumprd-1 put 2026-11-23-03:00", NO_FILE),
        (": kdumprd-1 put 2026-11-23-03:00 x", NO_FILE),
        (": kdumprd-1 put 2026-11-23-03:00 ..;", NO_NAME),
        (": kdumprd-1 put 2026-11-23-03:00 ../x;", NO_NAME),
        (": kdumprd-1 put 2026-11-23-03:00 /tmp/x;", NO_NAME),
        (": kdumprd-1 put 2026-11-23-03:00 ;", NO_NAME),
        (": kdumprd-1 put ../crash x;", NO_NAME),
        (": kdumprd-1 publish 2026-11-23-03:00", NO_FILE),
        (": kdumprd-1 publish 2026-11-23-03:00 .x;", NO_NAME),
        (": kdumprd-1 publish .. outside;", NO_NAME),
        (": kdumprd-1 get 2026-11-23-03:00 vmcore;", UNKNOWN),
        (": kdumprd-1 rm 2026-11-23-03:00 vmcore;", UNKNOWN),
        (": kdumprd-1 * 2026-11-23-03:00 vmcore;", UNKNOWN),
    ] {
        assert_eq!(
            ask(&folder, Some(command), b"x"),
            (1, said.to_owned()),
            "{command}"
        );
    }
    // Links count as what is there, and nothing is written through them.
    for (command, status) in [
        (line("mkdir", "link", ""), 17),
        (line("publish", name, "vmcore"), 17),
    ] {
        assert_eq!(ask(&folder, Some(&command), b"x").0, status, "{command}");
    }
    let (status, _) = ask(&folder, Some(&line("put", name, "log")), b"x");
    assert_ne!(status, 0);
    assert_eq!(listing(), before);
    assert_eq!(
        fs::read(folder.parent().unwrap().join("outside")).unwrap(),
        b"as it was"
    );
}
