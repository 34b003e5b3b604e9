// SPDX-License-Identifier: MIT OR Apache-2.0
//! The list of what goes into an image, and writing and reading the file.

use crate::compress::{ImageCompression, decompress};
use crate::cpio::{self, Entry, Kind};
use crate::error::Mistake;
use crate::modules::closure::Closure;
use crate::programs::Programs;
use config::luks::VOLUME_KEYS;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// One thing in an image, and why it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The entry of the archive.
    pub entry: Entry,
    /// Why, for the plan.
    pub why: String,
}

impl Item {
    /// Its contents, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        match &self.entry.kind {
            Kind::File(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            _ => 0,
        }
    }
}

/// Where `init` mounts what it needs at once; it makes the rest itself.
const DIRECTORIES: [&str; 4] = ["dev", "mnt", "proc", "sys"];

/// What only some plans ask for.
#[derive(Clone, Debug)]
pub struct Extras<'a> {
    /// A busybox for the shell.
    pub busybox: Option<Vec<u8>>,
    /// The user's key for ssh.
    pub ssh_key: Option<&'a [u8]>,
    /// The volume keys of encrypted disks, each with its device's UUID.
    pub volume_keys: &'a [(String, Vec<u8>)],
    /// Hooks and other programs.
    pub programs: &'a Programs,
}

/// Lists everything for an image: `init`, the record, modules and firmware, and the extras.
#[must_use]
pub fn items(init: Vec<u8>, record: &str, closure: &Closure, extras: Extras<'_>) -> Vec<Item> {
    let mut list = Tree::default();
    for directory in DIRECTORIES {
        list.directory(directory);
    }
    list.console();
    list.file("init", 0o755, init, "PID 1");
    list.file(
        config::record::PATH,
        0o644,
        record.as_bytes().to_vec(),
        "the plan",
    );
    for module in &closure.modules {
        let name = format!("lib/modules/{}.ko", module.name);
        list.file(&name, 0o644, module.bytes.clone(), &module.by);
    }
    for (name, bytes) in &closure.firmware {
        let name = format!("lib/firmware/{name}");
        list.file(&name, 0o644, bytes.clone(), "firmware");
    }
    if let Some(bytes) = extras.busybox {
        list.file("bin/busybox", 0o755, bytes, "the shell");
    }
    for (name, file) in extras.programs.files() {
        list.file(name, file.permissions, file.bytes.clone(), &file.why);
    }
    if let Some(bytes) = extras.ssh_key {
        list.file(
            config::target::SSH_KEY_PATH,
            0o600,
            bytes.to_vec(),
            "the user's key for ssh",
        );
    }
    for (uuid, key) in extras.volume_keys {
        list.file(
            &format!("{VOLUME_KEYS}/{uuid}"),
            0o600,
            key.clone(),
            "the volume key of an encrypted disk",
        );
    }
    list.into_items()
}

/// This file of an image is a volume key, which nobody needs to see.
#[must_use]
pub fn is_volume_key(name: &str) -> bool {
    Path::new("/").join(name).starts_with(VOLUME_KEYS)
}

/// Items by name: each once, with the directories above it.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<String, Item>);

impl Tree {
    /// The items in the order of their names.
    #[must_use]
    pub fn into_items(self) -> Vec<Item> {
        self.0.into_values().collect()
    }

    /// Adds a file; a slash before its name is left away.
    pub fn file(&mut self, name: &str, permissions: u32, bytes: Vec<u8>, why: &str) {
        self.add(
            name.trim_start_matches('/'),
            permissions,
            Kind::File(bytes),
            why,
        );
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, target: &str, why: &str) {
        self.add(name, 0o777, Kind::Link(target.as_bytes().to_vec()), why);
    }

    /// Adds what the kernel opens for PID 1 before devtmpfs is there.
    pub fn console(&mut self) {
        self.add(
            "dev/console",
            0o600,
            Kind::Character { major: 5, minor: 1 },
            "PID 1's console",
        );
    }

    fn directory(&mut self, name: &str) {
        self.add(name, 0o755, Kind::Directory, "");
    }

    fn add(&mut self, name: &str, permissions: u32, kind: Kind, why: &str) {
        if let Some((above, _)) = name.rsplit_once('/')
            && !self.0.contains_key(above)
        {
            self.directory(above);
        }
        self.0.insert(
            name.to_owned(),
            Item {
                entry: Entry {
                    name: name.to_owned(),
                    permissions,
                    kind,
                },
                why: why.to_owned(),
            },
        );
    }
}

/// The bytes of the image.
///
/// # Errors
/// The compressor failed.
pub fn pack(items: &[Item], compression: ImageCompression) -> Result<Vec<u8>, Mistake> {
    let archive = cpio::write(items.iter().map(|item| item.entry.clone()).collect());
    compression
        .compress(&archive)
        .map_err(|error| Mistake::new(format!("compressing the image with {compression}: {error}")))
}

/// Writes the image: first under another name beside it, readable by root alone, synced, then renamed.
///
/// # Errors
/// What the file system said; then nothing was left and an older image is as it was.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Mistake> {
    let failed = |error: std::io::Error| {
        let advice = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => format!(
                "; it takes {} KiB, and one that is there stays until the new one is whole: remove what is not needed there",
                bytes.len().div_ceil(1024)
            ),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                "; only root may write there, and only while it is not mounted read-only".to_owned()
            }
            _ => String::new(),
        };
        Mistake::new(format!("writing {}: {error}{advice}", path.display()))
    };
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let name = path
        .file_name()
        .ok_or_else(|| Mistake::new(format!("{} is no name for an image", path.display())))?;
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = directory.join(temporary);
    let written = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The one that cannot be removed was not made.
        let _ = fs::remove_file(&temporary);
        return Err(failed(error));
    }
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)
}

fn write_synced(path: &PathBuf, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads the entries of an image file, however it is compressed.
///
/// # Errors
/// The file cannot be read, or is no image.
pub fn read(path: &Path) -> Result<Vec<Entry>, Mistake> {
    let failed = |error: &dyn std::fmt::Display| {
        Mistake::new(format!("reading {}: {error}", path.display()))
    };
    let bytes = fs::read(path).map_err(|error| failed(&error))?;
    let archive = decompress(bytes).map_err(|error| failed(&error))?;
    cpio::read(&archive).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::closure::Chosen;

    fn sample() -> Vec<Item> {
        let closure = Closure {
            modules: vec![Chosen {
                name: "virtio-blk".to_owned(),
                by: "disk /dev/vda".to_owned(),
                bytes: b"ko".to_vec(),
            }],
            firmware: [("a/b.bin".to_owned(), b"fw".to_vec())].into(),
            ..Closure::default()
        };
        items(
            b"elf".to_vec(),
            "record\n",
            &closure,
            Extras {
                busybox: Some(b"bb".to_vec()),
                ssh_key: None,
                volume_keys: &[],
                programs: &Programs::default(),
            },
        )
    }

    #[test]
    fn every_item_is_there_with_the_directories_above_it() {
        let names: Vec<_> = sample()
            .iter()
            .map(|item| item.entry.name.clone())
            .collect();
        assert_eq!(
            names,
            [
                "bin",
                "bin/busybox",
                "dev",
                "dev/console",
                "etc",
                "etc/kdump.record",
                "init",
                "lib",
                "lib/firmware",
                "lib/firmware/a",
                "lib/firmware/a/b.bin",
                "lib/modules",
                "lib/modules/virtio-blk.ko",
                "mnt",
                "proc",
                "sys"
            ]
        );
        let none = Extras {
            busybox: None,
            ssh_key: None,
            volume_keys: &[],
            programs: &Programs::default(),
        };
        let bare = items(vec![], "", &Closure::default(), none);
        assert!(
            !bare.iter().any(
                |item| item.entry.name.starts_with("bin") || item.entry.name.starts_with("lib")
            )
        );
    }

    #[test]
    fn an_image_is_private_complete_and_reads_back() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory =
            std::env::temp_dir().join(format!("mkkdumprd-image-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("i.img");
        fs::write(&path, "an older image, and readable by all").unwrap();
        for compression in ImageCompression::ALL {
            let bytes = pack(&sample(), compression).unwrap();
            write(&path, &bytes).unwrap();
            let entries: Vec<_> = sample().into_iter().map(|item| item.entry).collect();
            let mut read_back = read(&path).unwrap();
            read_back.sort_by(|one, other| one.name.cmp(&other.name));
            assert_eq!(read_back, entries, "{compression}");
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
                0o600
            );
        }
        let left: Vec<_> = fs::read_dir(&directory).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary file is left: {left:?}");
        assert!(write(Path::new("/nonexistent/x.img"), b"").is_err());
        fs::remove_dir_all(&directory).unwrap();
    }
}
