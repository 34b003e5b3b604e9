// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a kernel's module directory holds, as `depmod` and the kernel's build listed it.
//!
//! Source: depmod(8) and modules.dep(5) of kmod 30; `modules.builtin.modinfo` is written by Linux 5.2 and later.

use super::modinfo::take_softdep;
use super::normalised;
use crate::error::Mistake;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One kernel's modules and built-ins. Names are [`normalised`].
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// The directory with `modules.dep`.
    pub directory: PathBuf,
    modules: BTreeMap<String, Listed>,
    /// With the built-ins' softdeps, where the kernel lists them.
    builtins: BTreeMap<String, Softdeps>,
    /// A pattern and the module or built-in that answers to it, in the files' order.
    aliases: Vec<(String, String)>,
    softdeps: BTreeMap<String, Softdeps>,
}

/// A module's line in `modules.dep`.
#[derive(Clone, Debug)]
struct Listed {
    /// Below the directory.
    file: String,
    /// Names of the modules that it needs, those to be loaded first at the end.
    needs: Vec<String>,
}

/// Modules or aliases that should be there before and behind one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Softdeps {
    /// Before.
    pub pre: Vec<String>,
    /// Behind.
    pub post: Vec<String>,
}

/// What a name or an alias stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// A module of this name.
    Module(String),
    /// Part of the kernel.
    Builtin(String),
}

impl Provider {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Module(name) | Self::Builtin(name) => name,
        }
    }
}

impl Index {
    /// Reads the lists of `directory`.
    ///
    /// # Errors
    /// There is no `modules.dep`, or a list cannot be read.
    pub fn read(directory: &Path) -> Result<Self, Mistake> {
        let mut index = Self {
            directory: directory.to_path_buf(),
            ..Self::default()
        };
        let list = |name: &str| -> Result<Option<String>, Mistake> {
            let path = directory.join(name);
            match fs::read(&path) {
                Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(Mistake::new(format!("reading {}: {error}", path.display()))),
            }
        };
        let dep = list("modules.dep")?.ok_or_else(|| {
            let release = directory
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            Mistake::new(format!(
                "there is no modules.dep in {}; install that kernel's modules, or run `depmod {release}` (for an \
                 unpacked package `depmod -b ROOT {release}`)",
                directory.display(),
            ))
        })?;
        index.take_dep(&dep);
        index.take_builtin(&list("modules.builtin")?.unwrap_or_default());
        index.take_alias(&list("modules.alias")?.unwrap_or_default());
        index.take_builtin_modinfo(&list("modules.builtin.modinfo")?.unwrap_or_default());
        index.take_softdep(&list("modules.softdep")?.unwrap_or_default());
        Ok(index)
    }

    fn take_dep(&mut self, text: &str) {
        for (file, needs) in text.lines().filter_map(|line| line.split_once(':')) {
            let listed = Listed {
                file: file.to_owned(),
                needs: needs.split_ascii_whitespace().map(file_module).collect(),
            };
            self.modules.insert(file_module(file), listed);
        }
    }

    fn take_builtin(&mut self, text: &str) {
        for file in text.lines().filter(|line| !line.is_empty()) {
            self.builtins.entry(file_module(file)).or_default();
        }
    }

    fn take_alias(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) =
                (words.next(), words.next(), words.next())
            {
                self.aliases.push((pattern.to_owned(), normalised(module)));
            }
        }
    }

    fn take_builtin_modinfo(&mut self, text: &str) {
        for entry in text.split('\0') {
            let Some((key, value)) = entry.split_once('=') else {
                continue;
            };
            let Some((module, key)) = key.split_once('.') else {
                continue;
            };
            let module = normalised(module);
            match key {
                "alias" => self.aliases.push((value.to_owned(), module)),
                "softdep" => {
                    let softdeps = self.builtins.entry(module).or_default();
                    take_softdep(value, &mut softdeps.pre, &mut softdeps.post);
                }
                // A built-in is listed here even when `modules.builtin` is missing.
                "file" => {
                    self.builtins.entry(module).or_default();
                }
                _ => {}
            }
        }
    }

    fn take_softdep(&mut self, text: &str) {
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("softdep ") else {
                continue;
            };
            let (module, words) = rest.split_once(' ').unwrap_or((rest, ""));
            let softdeps = self.softdeps.entry(normalised(module)).or_default();
            take_softdep(words, &mut softdeps.pre, &mut softdeps.post);
        }
    }

    /// Everything that answers to `word`, a module's name or an alias: the module or built-in of that name alone, or
    /// each that has a matching alias, once.
    #[must_use]
    pub fn providers(&self, word: &str) -> Vec<Provider> {
        if let Some(provider) = self.provider(&normalised(word)) {
            return vec![provider];
        }
        let mut found = Vec::new();
        for (pattern, module) in &self.aliases {
            if matches(pattern, word)
                && let Some(provider) = self.provider(module)
                && !found.contains(&provider)
            {
                found.push(provider);
            }
        }
        found
    }

    fn provider(&self, name: &str) -> Option<Provider> {
        if self.builtins.contains_key(name) {
            Some(Provider::Builtin(name.to_owned()))
        } else if self.modules.contains_key(name) {
            Some(Provider::Module(name.to_owned()))
        } else {
            None
        }
    }

    /// The file of the module `name`, below [`Self::directory`].
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&str> {
        self.modules.get(name).map(|listed| listed.file.as_str())
    }

    /// The modules that `modules.dep` says `name` needs, those to be loaded first in front.
    pub fn needs(&self, name: &str) -> impl Iterator<Item = &str> {
        self.modules
            .get(name)
            .into_iter()
            .flat_map(|listed| listed.needs.iter().rev().map(String::as_str))
    }

    /// What `modules.softdep`, or the kernel for a built-in, says of `name`.
    #[must_use]
    pub fn softdeps(&self, name: &str) -> Softdeps {
        self.builtins
            .get(name)
            .filter(|_| !self.modules.contains_key(name))
            .or_else(|| self.softdeps.get(name))
            .cloned()
            .unwrap_or_default()
    }
}

/// The module's name from the path of its file.
fn file_module(file: &str) -> String {
    normalised(stem(file))
}

/// The name of a module's file without directory, `.ko` and compression.
#[must_use]
pub fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split_once(".ko").map_or(name, |(stem, _)| stem)
}

/// Shell patterns as fnmatch(3) has them without flags: `*`, `?`, `[a-z]`, `[!a]`, `\`. In aliases without any of these,
/// `-` and `_` are the same.
///
/// Written with a bounded number of steps back, as the patterns come from files.
fn matches(pattern: &str, text: &str) -> bool {
    if !pattern.contains(['*', '?', '[', '\\']) {
        return normalised(pattern) == normalised(text);
    }
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last star was, and how much of the text it has taken so far.
    let mut star = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(p + 1),
            Some(b'[') => set_end(pattern, p, text[t]),
            Some(b'\\') => (pattern.get(p + 1) == Some(&text[t])).then_some(p + 2),
            Some(byte) => (*byte == text[t]).then_some(p + 1),
            None => None,
        };
        match (step, star) {
            (Some(next), _) => {
                p = next;
                t += 1;
            }
            (None, Some((at, taken))) => {
                p = at + 1;
                t = taken + 1;
                star = Some((at, t));
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// Where the pattern goes on behind the set at `start`, if `byte` is in it.
fn set_end(pattern: &[u8], start: usize, byte: u8) -> Option<usize> {
    let mut at = start + 1;
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    at += usize::from(negated);
    let first = at;
    let mut found = false;
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > first {
            return (found != negated).then_some(at + 1);
        }
        match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(&high)) if high != b']' => {
                found |= (low..=high).contains(&byte);
                at += 3;
            }
            _ => {
                found |= low == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_fnmatch_does() {
        for (pattern, text, expected) in [
            ("virtio:d00000002v*", "virtio:d00000002v00001AF4", true),
            ("virtio:d00000002v*", "virtio:d00000003v00001AF4", false),
            (
                "pci:v*d*sv*sd*bc01sc06i01*",
                "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01",
                true,
            ),
            (
                "pci:v*d*sv*sd*bc01sc06i01*",
                "pci:v00008086d00002922sv00001AF4sd00001100bc01sc08i02",
                false,
            ),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("usb:v[0-9A-F]x", "usb:vBx", true),
            ("usb:v[!0-9]x", "usb:v5x", false),
            ("x[]]y", "x]y", true),
            ("x[a", "xa", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbx", false),
            ("fs-ext4", "fs_ext4", true),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        // Would take for ever by plain backtracking.
        assert!(!matches(&"*a".repeat(60), &"a".repeat(59)));
    }

    #[test]
    fn names_come_from_files_of_every_compression() {
        for file in [
            "kernel/a/virtio-blk.ko",
            "b/virtio-blk.ko.xz",
            "virtio-blk.ko.zst",
            "virtio-blk.ko.gz",
        ] {
            assert_eq!(stem(file), "virtio-blk");
            assert_eq!(file_module(file), "virtio_blk");
        }
    }

    #[test]
    fn lists_are_read_and_names_come_before_aliases() {
        let mut index = Index::default();
        index.take_dep("kernel/ext4.ko.xz: kernel/jbd2.ko.xz kernel/mbcache.ko.xz\nkernel/jbd2.ko.xz:\nkernel/crc32c_generic.ko:\nkernel/crc32c-intel.ko:\n");
        index.take_builtin("kernel/lib/crc16.ko\n\n");
        index.take_builtin_modinfo(
            "virtio.file=drivers/virtio/virtio\0virtio.alias=virt-*\0virtio.softdep=pre: x\0odd\0",
        );
        index.take_alias("# comment\nalias fs-ext3 ext4\nalias crypto-crc32c crc32c_intel\nalias crypto-crc32c crc32c_generic\nalias gone missing\n");
        index.take_softdep("# c\nsoftdep ext4 pre: crypto-crc32c post: y\n");
        let module = |name: &str| Provider::Module(name.to_owned());
        assert_eq!(index.providers("fs-ext3"), [module("ext4")]);
        assert_eq!(
            index.providers("crc32c-generic"),
            [module("crc32c_generic")]
        );
        assert_eq!(
            index.providers("crypto-crc32c"),
            [module("crc32c_intel"), module("crc32c_generic")]
        );
        assert_eq!(
            index.providers("virt-1"),
            [Provider::Builtin("virtio".to_owned())]
        );
        assert_eq!(
            index.providers("crc16"),
            [Provider::Builtin("crc16".to_owned())]
        );
        assert!(index.providers("gone").is_empty());
        assert_eq!(index.needs("ext4").collect::<Vec<_>>(), ["mbcache", "jbd2"]);
        assert_eq!(index.softdeps("ext4").pre, ["crypto-crc32c"]);
        assert_eq!(index.softdeps("ext4").post, ["y"]);
        assert_eq!(index.softdeps("virtio").pre, ["x"]);
    }

    #[test]
    fn a_directory_without_modules_dep_is_refused_with_depmod_advice() {
        let error = Index::read(Path::new("/nonexistent/lib/modules/6.1.0-x")).unwrap_err();
        assert!(error.message.contains("modules.dep"), "{error}");
        assert!(error.message.contains("depmod 6.1.0-x"), "{error}");
    }
}
