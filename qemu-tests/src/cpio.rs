// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes the initramfs of the first kernel. A writer of its own: the builder's is under test.
//!
//! Source: Linux 6.12 `Documentation/driver-api/early-userspace/buffer-format.rst`.

/// A cpio archive in the `newc` form, being written.
#[derive(Debug, Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    /// An empty archive.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: &str) {
        self.entry(path, 0o040_755, (0, 0), &[]);
    }

    /// Adds a file that may be executed.
    pub fn program(&mut self, path: &str, data: &[u8]) {
        self.entry(path, 0o100_755, (0, 0), data);
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, data: &[u8]) {
        self.entry(path, 0o100_644, (0, 0), data);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, to: &str) {
        self.entry(path, 0o120_777, (0, 0), to.as_bytes());
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, 0o020_600, (major, minor), &[]);
    }

    /// The whole archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.entries += 1;
        let (major, minor) = device;
        let size = data.len();
        let name_size = path.len() + 1;
        let inode = self.entries;
        let zero = 0;
        // inode, mode, uid, gid, links, mtime, size, device of the file, device of the node, name, checksum
        let header = format!(
            "070701{inode:08X}{mode:08X}{zero:08X}{zero:08X}{:08X}{zero:08X}{size:08X}\
             {zero:08X}{zero:08X}{major:08X}{minor:08X}{name_size:08X}{zero:08X}",
            1
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn busybox_reads_what_was_written() {
        let busybox = crate::setup::busybox().unwrap();
        let mut cpio = Cpio::new();
        cpio.folder("etc");
        cpio.file("etc/odd", b"abc");
        cpio.program("init", b"#!/bin/sh\n");
        let mut child = Command::new(busybox)
            .args(["cpio", "-t"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(&cpio.finish())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "etc\netc/odd\ninit\n"
        );
    }
}
