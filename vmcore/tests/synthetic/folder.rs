// SPDX-License-Identifier: MIT OR Apache-2.0
//! A folder with a vmcore in it, and the command called there.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::dumpfile::Dumpfile;
use crate::machine::Machine;
use crate::mixed::{V6_1, finished};

/// A folder of a test's own, with the vmcore in it.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) machine: Machine,
}

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        Self::of(name, finished(V6_1))
    }

    pub(crate) fn of(name: &str, machine: Machine) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("command-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("core"), machine.vmcore().bytes).unwrap();
        Self { path, machine }
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmcore"));
        command.current_dir(&self.path).args(line.split(' '));
        command
    }

    pub(crate) fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Runs it, and it is to succeed. Returns what it printed.
    pub(crate) fn good(&self, line: &str) -> String {
        let output = self.run(line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs it, and it is to fail with this exit code. Returns what it said.
    pub(crate) fn bad(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(code), "{line}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path.join(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path.join(name), bytes).unwrap();
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    /// Runs it with bytes on standard input.
    pub(crate) fn fed(&self, line: &str, bytes: &[u8]) -> Output {
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
    pub(crate) fn check(&self, name: &str, level: u8) {
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
