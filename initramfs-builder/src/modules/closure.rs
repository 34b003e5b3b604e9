// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which modules a plan needs, in the order in which they are to be loaded.
//!
//! Dependencies come first, then what a module wants before it (softdeps, resolved through aliases), then the module. What
//! is built in falls away, but what a built-in wants before it counts: no `modprobe` answers in the capture kernel.

use super::index::{Index, Provider, Softdeps, stem};
use super::{modinfo, normalised};
use crate::compress::decompress;
use crate::error::{Mistake, Mistakes};
use crate::host::Driver;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// One thing that the capture kernel must be able to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What.
    pub want: Want,
    /// Who wants it, as the plan shows it: `disk /dev/vdb1`.
    pub by: String,
    /// The line of `kdump.conf` behind it, where there is one.
    pub place: Option<(String, u32)>,
}

/// What is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// A module or alias by name.
    Name(String),
    /// A file system by its type for `mount(2)`.
    Filesystem(String),
    /// The driver of a device.
    Driver(Driver),
    /// What the crypto layer knows by this name: `aes`, `xts`.
    Algorithm(String),
    /// A module that does something faster; where the kernel does not have it, nothing is missing.
    Faster(String),
}

/// The modules of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closure {
    /// In load order.
    pub modules: Vec<Chosen>,
    /// What is needed and part of the kernel, with the first that needs it.
    pub builtins: BTreeMap<String, String>,
    /// The modules lie there without their signatures.
    pub is_unsigned: bool,
    /// Files below `/lib/firmware`, with their contents.
    pub firmware: BTreeMap<String, Vec<u8>>,
    /// What a person should know before relying on the image.
    pub warnings: Vec<String>,
}

/// One module of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// As its file is called.
    pub name: String,
    /// Who needs it: a device, a file system, another module.
    pub by: String,
    /// The decompressed file.
    pub bytes: Vec<u8>,
}

/// The capture kernel, as far as its modules go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel<'a> {
    /// Its release.
    pub release: &'a str,
    /// Where firmware is looked for, in turn.
    pub firmware_directories: Vec<PathBuf>,
    /// It loads modules without a signature, so that they go without: checking takes longer than all else about a module.
    /// For ext3 on virtio, Debian's kernels execute so many million instructions with and without: 65 and 9 (6.1 cloud),
    /// 484 and 138 (6.1 generic), 1227 and 405 (6.12 generic); until init runs it is 1566, 1719 and 2008.
    pub takes_unsigned: bool,
    /// Modules, and folders of modules, that stay out.
    pub blacklist: Vec<String>,
}

/// Collects the modules for `needs`.
///
/// # Errors
/// Each need that cannot be met: what is missing, who needs it, and where it was looked for.
pub fn close(index: &Index, kernel: &Kernel<'_>, needs: &[Need]) -> Result<Closure, Mistakes> {
    let mut walk = Walk {
        index,
        kernel,
        closure: Closure {
            is_unsigned: kernel.takes_unsigned,
            ..Closure::default()
        },
        done: BTreeSet::new(),
        open: Vec::new(),
    };
    let mut mistakes = Mistakes::default();
    for need in needs {
        if let Err(message) = walk.meet(need) {
            let mistake = Mistake {
                place: need.place.clone(),
                message,
            };
            if !mistakes.0.contains(&mistake) {
                mistakes.0.push(mistake);
            }
        }
        walk.open.clear();
    }
    if mistakes.0.is_empty() {
        Ok(walk.closure)
    } else {
        Err(mistakes)
    }
}

struct Walk<'a> {
    index: &'a Index,
    kernel: &'a Kernel<'a>,
    closure: Closure,
    /// Names that were taken or are built in.
    done: BTreeSet<String>,
    /// The modules whose needs are being met, outermost first.
    open: Vec<String>,
}

impl Walk<'_> {
    fn meet(&mut self, need: &Need) -> Result<(), String> {
        let (providers, looked_for) = match &need.want {
            Want::Name(name) => (
                choose(self.index.providers(name), name),
                format!("`{name}`"),
            ),
            Want::Filesystem(fstype) => self.filesystem(fstype),
            Want::Algorithm(name) => self.algorithm(name),
            Want::Faster(name) => {
                let providers = self.index.providers(name);
                if providers.is_empty() {
                    return Ok(());
                }
                (providers, String::new())
            }
            Want::Driver(driver) => match self.driver(driver) {
                Some(found) => found,
                None => return Ok(()),
            },
        };
        if providers.is_empty() {
            return Err(format!(
                "the kernel {} has no module and nothing built in for {looked_for}, which {} needs; looked in {}",
                self.kernel.release,
                need.by,
                self.index.directory.display()
            ));
        }
        for provider in providers {
            self.take(&provider, &need.by)?;
        }
        Ok(())
    }

    /// ext4 answers for ext2 and ext3 where they have no module of their own.
    fn filesystem(&self, fstype: &str) -> (Vec<Provider>, String) {
        let mut words = vec![format!("fs-{fstype}"), fstype.to_owned()];
        if matches!(fstype, "ext2" | "ext3") {
            words.push("ext4".to_owned());
        }
        let mut providers = words
            .iter()
            .map(|word| self.index.providers(word))
            .find(|providers| !providers.is_empty())
            .unwrap_or_default();
        if let Some(own) = providers
            .iter()
            .position(|provider| provider.name() == fstype)
        {
            providers.swap(0, own);
        }
        providers.truncate(1);
        (
            providers,
            format!("the file system {fstype} ({})", words.join(", ")),
        )
    }

    /// By its alias, else, as older kernels list no aliases of what is built in, by the names that such modules have.
    fn algorithm(&self, name: &str) -> (Vec<Provider>, String) {
        let words = [
            format!("crypto-{name}"),
            format!("{name}_generic"),
            name.to_owned(),
        ];
        let providers = words
            .iter()
            .map(|word| choose(self.index.providers(word), word))
            .find(|providers| !providers.is_empty())
            .unwrap_or_default();
        (
            providers,
            format!("the algorithm {name} ({})", words.join(", ")),
        )
    }

    /// The driver's modules; none when there is nothing to look for.
    fn driver(&self, driver: &Driver) -> Option<(Vec<Provider>, String)> {
        if let Some(module) = &driver.module {
            let providers = self.index.providers(module);
            if !providers.is_empty() {
                return Some((choose(providers, module), String::new()));
            }
        }
        let mut providers = driver
            .modalias
            .as_deref()
            .map(|modalias| self.index.providers(modalias))
            .unwrap_or_default();
        // Of several that would take the device, the one that does so on the host.
        let same = |provider: &Provider| {
            driver
                .name
                .as_deref()
                .is_some_and(|name| normalised(name) == provider.name())
        };
        if providers.iter().any(same) {
            providers.retain(same);
        }
        match (&driver.module, &driver.name) {
            _ if !providers.is_empty() => Some((providers, String::new())),
            (Some(module), _) => Some((
                Vec::new(),
                format!("`{module}`, the driver of {},", driver.at),
            )),
            // Built into the host's kernel, and without a list that says so for this one; or no driver at all.
            (None, _) => None,
        }
    }

    fn take(&mut self, provider: &Provider, by: &str) -> Result<(), String> {
        match provider {
            Provider::Module(name) => self.take_module(name, by),
            Provider::Builtin(name) => {
                if self.done.insert(name.clone()) {
                    self.closure.builtins.insert(name.clone(), by.to_owned());
                    let Softdeps { pre, post } = self.index.softdeps(name);
                    for wanted in pre.iter().chain(&post) {
                        self.take_wanted(wanted, name)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn take_module(&mut self, name: &str, by: &str) -> Result<(), String> {
        if self.done.contains(name) {
            return Ok(());
        }
        if let Some(start) = self.open.iter().position(|open| open == name) {
            let mut circle = self.open[start..].to_vec();
            circle.push(name.to_owned());
            return Err(format!(
                "the modules {} need each other in a circle; run depmod, or reinstall the kernel's modules",
                circle.join(" -> ")
            ));
        }
        let file = self.index.file(name).ok_or_else(|| {
            format!(
                "the module {name}, which {by} needs, is not in {}; run depmod, or reinstall the kernel's modules",
                self.index.directory.join("modules.dep").display()
            )
        })?;
        if self.is_blacklisted(name, file) {
            self.done.insert(name.to_owned());
            self.closure.warnings.push(format!(
                "the module {name}, which {by} needs, stays out: it is blacklisted"
            ));
            return Ok(());
        }
        let path = self.index.directory.join(file);
        let in_file = |message: String| {
            format!(
                "the module {name} ({}), which {by} needs: {message}",
                path.display()
            )
        };
        let mut bytes = fs::read(&path)
            .and_then(decompress)
            .map_err(|error| in_file(error.to_string()))?;
        let info = modinfo::read(&bytes).map_err(|error| in_file(error.to_string()))?;
        let built_for = info.vermagic.split(' ').next().unwrap_or_default();
        if built_for != self.kernel.release {
            return Err(in_file(format!(
                "built for the kernel `{built_for}`, but the image is for {}",
                self.kernel.release
            )));
        }

        if self.kernel.takes_unsigned {
            bytes.truncate(modinfo::unsigned_bytes(&bytes));
        }

        self.open.push(name.to_owned());
        let listed: Vec<String> = self.index.needs(name).map(str::to_owned).collect();
        // modules.dep knows the same as the file, unless it is older.
        let depends = info.depends.iter().map(|name| normalised(name));
        for needed in listed.into_iter().chain(depends) {
            if !self.done.contains(&needed) {
                match self.index.providers(&needed).first() {
                    Some(provider) => self.take(&provider.clone(), name)?,
                    None => self.take_module(&needed, name)?,
                }
            }
        }
        let mut softdeps = self.index.softdeps(name);
        softdeps.pre.extend(info.pre);
        softdeps.post.extend(info.post);
        for wanted in &softdeps.pre {
            self.take_wanted(wanted, name)?;
        }
        self.open.pop();
        // A softdep that leads back here has taken it already.
        if !self.done.insert(name.to_owned()) {
            return Ok(());
        }
        for wanted in &info.firmware {
            self.take_firmware(wanted, name);
        }
        self.closure.modules.push(Chosen {
            name: stem(file).to_owned(),
            by: by.to_owned(),
            bytes,
        });
        for wanted in &softdeps.post {
            self.take_wanted(wanted, name)?;
        }
        Ok(())
    }

    /// `file` is the module's place below the directory of all.
    fn is_blacklisted(&self, name: &str, file: &str) -> bool {
        let folder = format!(
            "/{}",
            file.rsplit_once('/').map_or("", |(folder, _)| folder)
        );
        self.kernel.blacklist.iter().any(|word| {
            let is_above =
                || format!("{folder}/").contains(&format!("/{}/", word.trim_matches('/')));
            normalised(word) == name || (word.contains('/') && is_above())
        })
    }

    /// What a softdep names. It is a wish: `modprobe` goes on without, and so do circles of them.
    fn take_wanted(&mut self, wanted: &str, by: &str) -> Result<(), String> {
        let providers = choose(self.index.providers(wanted), wanted);
        if providers.is_empty() {
            let warning = format!(
                "{by} wants `{wanted}` beside it, which kernel {} does not have",
                self.kernel.release
            );
            if !self.closure.warnings.contains(&warning) {
                self.closure.warnings.push(warning);
            }
        }
        for provider in providers {
            if !self.open.iter().any(|open| open == provider.name()) {
                self.take(&provider, by)?;
            }
        }
        Ok(())
    }

    fn take_firmware(&mut self, wanted: &str, by: &str) {
        let inside = !wanted.starts_with('/') && wanted.split('/').all(|part| part != "..");
        let found = self
            .kernel
            .firmware_directories
            .iter()
            .filter(|_| inside)
            .flat_map(|directory| {
                ["", ".xz", ".zst"].map(|suffix| directory.join(format!("{wanted}{suffix}")))
            })
            .find(|path| path.is_file())
            .map(|path| read_firmware(&path));
        let problem = match found {
            Some(Ok(bytes)) => {
                self.closure.firmware.insert(wanted.to_owned(), bytes);
                return;
            }
            Some(Err(problem)) => problem,
            None => "not found".to_owned(),
        };
        // Drivers name the firmware of every device that they know, and most machines have files for few of them.
        self.closure
            .warnings
            .push(format!("firmware {wanted} of the module {by}: {problem}"));
    }
}

/// Only what was packed as a whole: firmware may be an xz or zstd stream in itself.
fn read_firmware(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("xz" | "zst") => decompress(bytes).map_err(|error| error.to_string()),
        _ => Ok(bytes),
    }
}

/// Of several that answer to an alias of the crypto layer, one is enough, and the portable one works on any processor: it
/// is called `…_generic`. Without it, a built-in one; else all, as `modprobe` loads them.
fn choose(mut providers: Vec<Provider>, word: &str) -> Vec<Provider> {
    // The alias of a device has a bus in front of a colon, and each that answers may be the one that takes it.
    if providers.len() < 2 || word.contains(':') {
        return providers;
    }
    let is_generic = |provider: &Provider| provider.name().ends_with("_generic");
    let is_builtin = |provider: &Provider| matches!(provider, Provider::Builtin(_));
    if let Some(position) = providers
        .iter()
        .position(is_generic)
        .or_else(|| providers.iter().position(is_builtin))
    {
        return vec![providers.swap_remove(position)];
    }
    providers
}

#[cfg(test)]
mod tests;
