// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a capture left on a file system: read back and checked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use serde_json::Value;

use crate::disk::ExtImage;

/// The names in a dump's folder, in the order of the alphabet.
pub const NAMES: [&str; 4] = [
    "kexec-dmesg.log",
    "manifest.json",
    "vmcore",
    "vmcore-dmesg.txt",
];

/// One dump's folder, copied to the host.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The copy.
    pub folder: PathBuf,
}

impl Saved {
    /// All dumps below the save path `path`, the oldest first. `to` is where the copies go.
    ///
    /// # Errors
    /// There is no such path on the file system.
    pub fn all(filesystem: &ExtImage, path: &str, to: &Path) -> Result<Vec<Self>> {
        Self::below(&filesystem.copy_out(path, to)?)
    }

    /// All dumps in a folder that was copied to the host, the oldest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn below(copied: &Path) -> Result<Vec<Self>> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(copied)? {
            let folder = entry?.path();
            if folder.is_dir() {
                folders.push(Self { folder });
            }
        }
        folders.sort_by(|one, other| one.folder.cmp(&other.folder));
        Ok(folders)
    }

    /// The only dump below the save path.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn only(filesystem: &ExtImage, path: &str, to: &Path) -> Result<Self> {
        Self::only_in(&filesystem.copy_out(path, to)?)
    }

    /// The only dump in a folder of the host.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn only_in(folder: &Path) -> Result<Self> {
        let mut all = Self::below(folder)?;
        match (all.pop(), all.is_empty()) {
            (Some(saved), true) => Ok(saved),
            _ => bail!("not one dump in {}", folder.display()),
        }
    }

    /// A file of it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder's own name.
    #[must_use]
    pub fn name(&self) -> String {
        self.folder
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// The names of all files, in the order of the alphabet.
    ///
    /// # Errors
    /// The copy cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// The manifest.
    ///
    /// # Errors
    /// There is none, or it is no JSON.
    pub fn manifest(&self) -> Result<Value> {
        let text = fs::read(self.file("manifest.json")).context("reading the manifest")?;
        serde_json::from_slice(&text).context("the manifest is no JSON")
    }

    /// The crashed kernel's log.
    ///
    /// # Errors
    /// There is none.
    pub fn dmesg(&self) -> Result<String> {
        let text = fs::read(self.file("vmcore-dmesg.txt")).context("reading vmcore-dmesg.txt")?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Checks names and modes of a complete dump.
    ///
    /// # Errors
    /// What is otherwise than promised.
    pub fn check_complete(&self) -> Result<()> {
        self.check_names("", ":")?;
        self.check_modes()
    }

    /// Checks the names of a complete dump; `separator` stands between hours and minutes, `before` before the date.
    ///
    /// # Errors
    /// What is otherwise than promised.
    pub fn check_names(&self, before: &str, separator: &str) -> Result<()> {
        let (before, separator) = (regex::escape(before), regex::escape(separator));
        let date = Regex::new(&format!(
            r"^{before}\d{{4}}-\d{{2}}-\d{{2}}-\d{{2}}{separator}\d{{2}}(\.\d+)?$"
        ))?;
        ensure!(
            date.is_match(&self.name()),
            "the folder's name is no date: {}",
            self.name()
        );
        let names = self.names()?;
        ensure!(names == NAMES, "the folder holds {names:?}");
        Ok(())
    }

    /// Checks that nobody but root may read anything.
    ///
    /// # Errors
    /// What has another mode.
    pub fn check_modes(&self) -> Result<()> {
        let mode = |path: &Path| -> Result<u32> {
            Ok(fs::metadata(path)
                .with_context(|| format!("looking at {}", path.display()))?
                .permissions()
                .mode()
                & 0o7777)
        };
        let folder = mode(&self.folder)?;
        ensure!(folder == 0o700, "the folder has the mode {folder:o}");
        for name in self.names()? {
            let found = mode(&self.file(&name))?;
            ensure!(found == 0o600, "{name} has the mode {found:o}");
        }
        Ok(())
    }
}
