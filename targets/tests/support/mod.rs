// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the integration tests share: devices that are vectors, directories that go away, other people's tools.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use collector::{IoError, Source};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A device that is zero but for some pieces, however large it is.
pub(crate) struct Sparse {
    pub(crate) size_bytes: u64,
    pub(crate) pieces: Vec<(u64, Vec<u8>)>,
}

impl Source for Sparse {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.size_bytes) {
            return Err(IoError::END);
        }
        buf.fill(0);
        for (start, bytes) in &self.pieces {
            let from = offset.max(*start);
            let to = end.unwrap_or(0).min(start + bytes.len() as u64);
            if from < to {
                let part = |base: u64| (from - base) as usize..(to - base) as usize;
                buf[part(offset)].copy_from_slice(&bytes[part(*start)]);
            }
        }
        Ok(())
    }
}

/// An image file as a device.
pub(crate) struct Image(pub(crate) File);

impl Image {
    pub(crate) fn open(path: &Path) -> Self {
        Self(File::open(path).unwrap())
    }
}

impl Source for Image {
    fn size_bytes(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        self.0
            .read_exact_at(buf, offset)
            .map_err(|error| error.raw_os_error().map_or(IoError::END, IoError))
    }
}

/// A directory of its own for a test; it goes away with the value.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Short: the path of a node has the room of one below /dev.
        let path = std::env::temp_dir().join(format!("{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// An empty image of that size.
    pub(crate) fn image(&self, name: &str, size_bytes: u64) -> PathBuf {
        let path = self.0.join(name);
        File::create(&path).unwrap().set_len(size_bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a tool that `.ci/run` installs, and returns what it printed. One that is missing fails the test.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str], image: &Path) -> String {
    let output = Command::new(program)
        .args(arguments)
        .arg(image)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; is its package installed?"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What `blkid` finds on an image: its TYPE, UUID and LABEL, each empty where it has none.
#[track_caller]
pub(crate) fn blkid(image: &Path) -> [String; 3] {
    let text = run("blkid", &["-p", "-o", "udev"], image);
    ["ID_FS_TYPE", "ID_FS_UUID_ENC", "ID_FS_LABEL_ENC"].map(|key| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .unwrap_or("")
            .replace("\\x20", " ")
    })
}
