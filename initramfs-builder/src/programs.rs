// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs of the host with everything that they need to run: the loader and the libraries of ELF files, the interpreter
//! of scripts.
//!
//! A file gets into the image under the name by which it was asked for, with the contents that the name leads to. What a
//! script calls is not looked into; `extra_bins` names it.

use crate::host::Host;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, FileKind};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// Where loaders look when nothing else names a directory. Debian's have the directory of the architecture, too.
const LIBRARIES: [&str; 8] = [
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
];
/// Where programs are looked for that are named without a folder.
pub const FOLDERS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];
/// What the loader knows beyond its own directories.
const LOADER_CACHE: &str = "/etc/ld.so.cache";
/// The most interpreters behind each other, as in the kernel.
const MOST_INTERPRETERS: u32 = 5;

/// Files for the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    files: BTreeMap<String, File>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its contents.
    pub bytes: Vec<u8>,
    /// The last nine bits of its mode.
    pub permissions: u32,
    /// Why it is there, for the plan.
    pub why: String,
}

impl Programs {
    /// The files by their absolute names.
    pub fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(name, file)| (name.as_str(), file))
    }

    /// Someone may run the host's `path`.
    #[must_use]
    pub fn is_executable(&self, host: &Host, path: &str) -> bool {
        fs::metadata(host.inside(path))
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    }

    /// Adds a file of the host and what it needs; `by` wants it.
    ///
    /// # Errors
    /// A file that cannot be read, or a library that is nowhere: which, who needs it, and where it was looked for.
    pub fn add(&mut self, host: &Host, path: &str, by: &str) -> Result<(), String> {
        self.add_file(host, path, by, MOST_INTERPRETERS)
    }

    fn add_file(&mut self, host: &Host, path: &str, by: &str, depth: u32) -> Result<(), String> {
        if self.files.contains_key(path) {
            return Ok(());
        }
        let place = host.inside(path);
        let failed = |error: std::io::Error| format!("reading {path}, for {by}: {error}");
        let found = fs::metadata(&place).map_err(failed)?;
        if !found.is_file() {
            return Err(format!("{path}, for {by}, is no file"));
        }
        let bytes = fs::read(&place).map_err(failed)?;
        let links = match FileKind::parse(bytes.as_slice()) {
            Ok(FileKind::Elf64) => links::<FileHeader64<Endianness>>(&bytes),
            Ok(FileKind::Elf32) => links::<FileHeader32<Endianness>>(&bytes),
            _ => Ok(Links::default()),
        }
        .map_err(|error| format!("{path}, for {by}, is a damaged ELF file: {error}"))?;
        let script = interpreter(&bytes);
        self.files.insert(
            path.to_owned(),
            File {
                bytes,
                permissions: found.permissions().mode() & 0o755,
                why: by.to_owned(),
            },
        );
        if let Some((program, argument)) = script {
            if depth == 0 {
                return Err(format!(
                    "{path}, for {by}, has too many interpreters behind each other"
                ));
            }
            let wanted = format!("the script {path}");
            self.add_file(host, &program, &wanted, depth - 1)?;
            if program.ends_with("/env") {
                let name = argument
                    .split_whitespace()
                    .find(|word| !word.starts_with('-'));
                let name =
                    name.ok_or_else(|| format!("{wanted} names no interpreter behind {program}"))?;
                let found = FOLDERS
                    .iter()
                    .map(|folder| format!("{folder}/{name}"))
                    .find(|path| host.inside(path).is_file())
                    .ok_or_else(|| {
                        format!(
                            "{wanted} needs {name}, which is in none of {}",
                            FOLDERS.join(", ")
                        )
                    })?;
                self.add_file(host, &found, &wanted, depth - 1)?;
            }
        }
        if let Some(loader) = &links.loader {
            self.add_file(host, loader, path, depth)?;
            // Libraries in directories that a file of /etc/ld.so.conf.d names are found by it.
            if host.inside(LOADER_CACHE).is_file() {
                self.add_file(host, LOADER_CACHE, "the loader", depth)?;
            }
        }
        for library in &links.needed {
            let found = self.library(host, path, library, &links)?;
            self.add_file(host, &found, path, depth)?;
        }
        Ok(())
    }

    /// Where the host has a library that `path` needs.
    fn library(
        &self,
        host: &Host,
        path: &str,
        library: &str,
        links: &Links,
    ) -> Result<String, String> {
        if library.contains('/') {
            return Ok(library.to_owned());
        }
        let own_folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let own = links.search.iter().map(|folder| {
            folder
                .replace("${ORIGIN}", own_folder)
                .replace("$ORIGIN", own_folder)
        });
        let folders: Vec<String> = own
            .chain(configured(host, "/etc/ld.so.conf", MOST_INTERPRETERS))
            .chain(LIBRARIES.map(str::to_owned))
            .filter(|folder| folder.starts_with('/'))
            .collect();
        folders
            .iter()
            .map(|folder| format!("{}/{library}", folder.trim_end_matches('/')))
            .find(|candidate| {
                fs::read(host.inside(candidate)).is_ok_and(|bytes| kind(&bytes) == links.kind)
            })
            .ok_or_else(|| {
                format!(
                    "{path} needs the library {library}, which is in none of {}",
                    folders.join(", ")
                )
            })
    }
}

/// The directories that ld.so.conf(5) names.
fn configured(host: &Host, file: &str, depth: u32) -> Vec<String> {
    let mut folders = Vec::new();
    for line in host.text(file).unwrap_or_default().lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        match line.strip_prefix("include ") {
            Some(pattern) if depth > 0 => {
                // Everywhere it is one folder and `*.conf`.
                let Some((folder, "*.conf")) = pattern.trim().rsplit_once('/') else {
                    continue;
                };
                let mut names: Vec<String> = fs::read_dir(host.inside(folder))
                    .into_iter()
                    .flatten()
                    .flatten()
                    .filter_map(|entry| entry.file_name().into_string().ok())
                    .filter(|name| name.ends_with(".conf"))
                    .collect();
                names.sort();
                for name in names {
                    folders.extend(configured(host, &format!("{folder}/{name}"), depth - 1));
                }
            }
            _ if line.starts_with('/') => folders.push(line.to_owned()),
            _ => {}
        }
    }
    folders
}

/// The `#!` line of a script: the program, and the rest.
fn interpreter(bytes: &[u8]) -> Option<(String, String)> {
    let line = bytes
        .strip_prefix(b"#!")?
        .split(|&byte| byte == b'\n')
        .next()?;
    let line = std::str::from_utf8(line).ok()?.trim();
    let (program, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    program
        .starts_with('/')
        .then(|| (program.to_owned(), argument.trim().to_owned()))
}

/// Word size, byte order and machine: what must be the same in a program and its libraries.
fn kind(bytes: &[u8]) -> Option<(u8, u8, [u8; 2])> {
    let head = bytes.get(..20)?;
    head.starts_with(b"\x7fELF")
        .then(|| (head[4], head[5], [head[18], head[19]]))
}

/// What an ELF file is linked with.
#[derive(Default)]
struct Links {
    kind: Option<(u8, u8, [u8; 2])>,
    loader: Option<String>,
    needed: Vec<String>,
    search: Vec<String>,
}

fn links<Elf: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> object::Result<Links> {
    let header = Elf::parse(bytes)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, bytes)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut links = Links {
        kind: kind(bytes),
        ..Links::default()
    };
    for segment in segments {
        if let Some(loader) = segment.interpreter(endian, bytes)? {
            links.loader = Some(text(loader));
        }
        let Some(entries) = segment.dynamic(endian, bytes)? else {
            continue;
        };
        let value = |tag: elf::DynamicTag| {
            entries
                .iter()
                .find(|entry| entry.tag(endian) == tag)
                .map(|entry| entry.val(endian))
        };
        let (Some(address), Some(size)) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) else {
            continue;
        };
        let strings = segments
            .iter()
            .find_map(|segment| {
                segment
                    .data_range(endian, bytes, address, size)
                    .ok()
                    .flatten()
            })
            .unwrap_or_default();
        for entry in entries {
            let at = usize::try_from(entry.val(endian)).unwrap_or(usize::MAX);
            let string = || {
                let rest = strings.get(at..)?;
                rest.split(|&byte| byte == 0).next().map(text)
            };
            match entry.tag(endian) {
                elf::DT_NEEDED => links.needed.extend(string()),
                elf::DT_RPATH | elf::DT_RUNPATH => links.search.extend(
                    string()
                        .into_iter()
                        .flat_map(|list| list.split(':').map(str::to_owned).collect::<Vec<_>>()),
                ),
                _ => {}
            }
        }
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::Tree;
    use std::path::Path;

    fn tree(files: &[(&str, &[u8], u32)]) -> Tree {
        let tree = Tree::new(&[]);
        for (path, bytes, mode) in files {
            tree.write(path, bytes);
            let place = tree.0.join(path);
            fs::set_permissions(place, fs::Permissions::from_mode(*mode)).unwrap();
        }
        tree
    }

    fn names(programs: &Programs) -> Vec<&str> {
        programs.files().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_script_brings_its_interpreter_and_the_program_behind_env() {
        let tree = tree(&[
            ("etc/kdump/a.sh", b"#!/bin/sh -e\necho x\n", 0o700),
            ("etc/kdump/b.py", b"#!/usr/bin/env python3\n", 0o755),
            ("bin/sh", b"static", 0o755),
            ("usr/bin/env", b"static", 0o755),
            ("usr/local/bin/python3", b"static", 0o4755),
        ]);
        let host = tree.host();
        let mut programs = Programs::default();
        programs.add(&host, "/etc/kdump/a.sh", "kdump_pre").unwrap();
        assert_eq!(names(&programs), ["/bin/sh", "/etc/kdump/a.sh"]);
        programs
            .add(&host, "/etc/kdump/b.py", "kdump_post")
            .unwrap();
        assert!(names(&programs).contains(&"/usr/local/bin/python3"));
        let (_, python) = programs.files().last().unwrap();
        assert_eq!(
            (python.permissions, python.why.as_str()),
            (0o755, "the script /etc/kdump/b.py")
        );
        fs::remove_file(tree.0.join("usr/local/bin/python3")).unwrap();
        let error = Programs::default()
            .add(&host, "/etc/kdump/b.py", "kdump_post")
            .unwrap_err();
        assert!(
            error.contains("needs python3, which is in none of"),
            "{error}"
        );
    }

    #[test]
    fn a_program_of_this_machine_comes_with_what_makes_it_run() {
        let host = Host {
            root: "/".into(),
            ..Tree::new(&[]).host()
        };
        let mut programs = Programs::default();
        let shell = fs::canonicalize("/bin/sh").unwrap();
        programs
            .add(&host, shell.to_str().unwrap(), "extra_bins")
            .unwrap();
        let names = names(&programs);
        assert!(
            names.iter().any(|name| name.contains("libc.so")),
            "{names:?}"
        );
        // It runs with these files and no others: the loader is told to look nowhere else.
        let root = std::env::temp_dir().join(format!("mkkdumprd-programs-{}", std::process::id()));
        for (name, file) in programs.files() {
            let place = root.join(name.trim_start_matches('/'));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(&place, &file.bytes).unwrap();
            fs::set_permissions(&place, fs::Permissions::from_mode(file.permissions)).unwrap();
        }
        let inside = |path: &str| root.join(path.trim_start_matches('/'));
        let loader = names.iter().find(|name| name.contains("/ld-")).unwrap();
        let folders: Vec<String> = names
            .iter()
            .filter_map(|name| Some(inside(name).parent()?.to_str()?.to_owned()))
            .collect();
        let output = std::process::Command::new(inside(loader))
            .args(["--inhibit-cache", "--library-path", &folders.join(":")])
            .arg(inside(shell.to_str().unwrap()))
            .args(["-c", "echo it runs"])
            .output()
            .unwrap();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "it runs\n",
            "{output:?}"
        );
    }

    #[test]
    fn what_is_missing_or_damaged_is_named() {
        let mut damaged = fs::read("/bin/sh").unwrap();
        // The program headers lie far beyond the end.
        damaged[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        let tree = tree(&[
            ("bin/x", &damaged, 0o755),
            ("bin/loop", b"#!/bin/loop2\n", 0o755),
        ]);
        let host = tree.host();
        let mut programs = Programs::default();
        let error = programs.add(&host, "/bin/x", "extra_bins").unwrap_err();
        assert!(
            error.contains("/bin/x, for extra_bins, is a damaged ELF file"),
            "{error}"
        );
        let error = programs.add(&host, "/bin/loop", "extra_bins").unwrap_err();
        assert!(
            error.contains("reading /bin/loop2, for the script /bin/loop"),
            "{error}"
        );
        let error = programs.add(&host, "/bin", "extra_bins").unwrap_err();
        assert!(
            error.contains("/bin, for extra_bins, is no file"),
            "{error}"
        );
        fs::copy("/bin/sh", tree.0.join("bin/dynamic")).unwrap();
        let error = programs
            .add(&host, "/bin/dynamic", "extra_bins")
            .unwrap_err();
        assert!(error.contains("/bin/dynamic"), "{error}");
        assert!(!programs.is_executable(&host, "/bin/nix"));
        assert!(Path::new("/bin/sh").exists());
    }

    #[test]
    fn every_cut_of_a_program_is_an_error_or_its_libraries() {
        let bytes = fs::read("/bin/sh").unwrap();
        for length in (0..bytes.len().min(8192)).step_by(7) {
            let _ = links::<FileHeader64<Endianness>>(&bytes[..length]);
        }
        let mut bytes = bytes;
        for position in 0..1024.min(bytes.len()) {
            bytes[position] ^= 0xff;
            let _ = links::<FileHeader64<Endianness>>(&bytes);
            bytes[position] ^= 0xff;
        }
    }
}
