// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds the kdump initramfs: what `mkkdumprd` does.
//!
//! ```text
//! kdump.conf ─▶ conf ─▶ Directives ┐
//!                                  ├─▶ resolve ─▶ Resolved ─▶ modules ─▶ Closure ─▶ image ─▶ cpio ─▶ file
//! the host   ─▶ host ─▶ Host       ┘                 └──────────┬──────────┘
//!                                                              plan: the same as a text for people
//! ```
//! Everything is looked up here, on the host, and stands in the image's record; the capture side guesses nothing. The
//! same inputs give the same bytes. A file with a mistake, or a plan that would fail, builds no image.
//!
//! ```
//! use initramfs_builder::conf;
//! let directives = conf::parse("kdump.conf", b"ext3 UUID=0c9df1f6\npath /var/crash # as ever\n").unwrap();
//! assert_eq!(directives.targets[0].value.to_string(), "UUID=0c9df1f6");
//! let mistakes = conf::parse("kdump.conf", b"defualt reboot\n").unwrap_err();
//! assert_eq!(mistakes.to_string(), "kdump.conf:1: unknown directive `defualt`; did you mean `default`?");
//! ```
//! What it does not do: load the image (crate `kexec`), or touch any target.
//!
//! A described host, [`host`] and [`host::description`], needs no privileges and can be another machine.
#![forbid(unsafe_code)]

pub mod check;
pub mod compress;
pub mod conf;
pub mod cpio;
pub mod difference;
pub mod error;
pub mod filesystem;
pub mod host;
pub mod image;
pub mod init_build;
pub mod modules;
pub mod plan;
pub mod programs;
pub mod proof;
pub mod rehearsal;
pub mod resolve;

use compress::ImageCompression;
use conf::Directives;
use conf::settings::Dialect;
use config::FailureAction;
use error::{Mistake, Mistakes};
use host::Host;
use modules::closure::{self, Closure};
use modules::index::Index;
use std::fs;
use std::path::{Path, PathBuf};

/// What is to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The configuration.
    pub conf: PathBuf,
    /// The capture kernel's release.
    pub kernel: String,
    /// The directory with its `modules.dep`; none for `lib/modules/RELEASE` of the host.
    pub modules_directory: Option<PathBuf>,
    /// Where the host's files are.
    pub host_root: PathBuf,
    /// The init binary, or the folder with its builds.
    pub init: PathBuf,
    /// How the image is compressed.
    pub compression: ImageCompression,
}

/// An image that can be written, and everything that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// What will be done.
    pub resolved: resolve::Resolved,
    /// The modules for it.
    pub closure: Closure,
    /// What is in the image.
    pub items: Vec<image::Item>,
    /// The image.
    pub bytes: Vec<u8>,
}

impl Prepared {
    /// What is in the image, in bytes, as it lies in memory when it is unpacked.
    #[must_use]
    pub fn unpacked_bytes(&self) -> u64 {
        self.items.iter().map(image::Item::size_bytes).sum()
    }
}

/// Does everything but writing the image.
///
/// # Errors
/// Everything that is in the way, each with what to change.
pub fn prepare(request: &Request) -> Result<Prepared, Mistakes> {
    let directives = read_conf(&request.conf)?;
    let host = Host::read(&request.host_root)?;
    prepare_for(request, &directives, &host)
}

/// Reads a configuration in whatever dialect it is: `kdump.conf`, or the settings of SUSE or Debian.
///
/// # Errors
/// It cannot be read, or has mistakes.
pub fn read_conf(path: &Path) -> Result<Directives, Mistakes> {
    let text = read(path)?;
    conf::settings::parse(&path.display().to_string(), &text, Dialect::of(&text))
}

fn read(path: &Path) -> Result<Vec<u8>, Mistake> {
    fs::read(path).map_err(|error| Mistake::new(format!("reading {}: {error}", path.display())))
}

/// Does everything but writing the image, for a machine that need not be the one whose files are read.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_for(
    request: &Request,
    directives: &Directives,
    host: &Host,
) -> Result<Prepared, Mistakes> {
    let release = request.kernel.as_str();
    if release.is_empty()
        || release.contains(|letter: char| !letter.is_ascii_graphic() || letter == '/')
    {
        return Err(Mistake::new(format!(
            "`{release}` is no kernel release; `ls /lib/modules` shows them"
        ))
        .into());
    }
    let mut resolved = resolve::resolve(directives, host, release)?;

    let directory = match &request.modules_directory {
        Some(directory) => directory.clone(),
        None => host.inside(&format!("/lib/modules/{release}")),
    };
    let index = Index::read(&directory)?;
    let kernel = closure::Kernel {
        release,
        firmware_directories: firmware_directories(host, release),
        takes_unsigned: host.takes_unsigned_modules(release),
        blacklist: directives
            .blacklist
            .iter()
            .map(|at| at.value.clone())
            .collect(),
    };
    let closure = closure::close(&index, &kernel, &resolved.needs)?;

    for at in &directives.options {
        let (module, _) = &at.value;
        if !closure
            .modules
            .iter()
            .any(|chosen| modules::normalised(&chosen.name) == modules::normalised(module))
        {
            resolved.warnings.push(format!(
                "{}:{}: {module} is not loaded as a module, so that its options have no effect; `extra_modules {module}` takes \
                 it in, and what is built in takes {module}.NAME=VALUE on the capture kernel's command line",
                directives.file, at.line
            ));
        }
    }

    let mut busybox = None;
    if resolved.failure_action == FailureAction::Shell {
        match host.static_busybox() {
            Some(path) => busybox = Some(read(&path)?),
            None => resolved.warnings.push(
                "the host has no static busybox (package busybox-static): the shell is the built-in one".to_owned(),
            ),
        }
    }
    let (init, record) = {
        let record = resolved.record(&closure.modules)?;
        (
            init_build::choose(&request.init, &record)?,
            record.to_string(),
        )
    };
    let extras = image::Extras {
        busybox,
        ssh_key: resolved.ssh_key.as_deref(),
        volume_keys: &resolved.volume_keys,
        programs: &resolved.programs,
    };
    let items = image::items(init, &record, &closure, extras);
    let bytes = image::pack(&items, request.compression)?;
    Ok(Prepared {
        resolved,
        closure,
        items,
        bytes,
    })
}

/// In the kernel's order of looking. Source: Linux 6.12 `drivers/base/firmware_loader/main.c`, `fw_path`.
fn firmware_directories(host: &Host, release: &str) -> Vec<PathBuf> {
    [
        format!("/lib/firmware/updates/{release}"),
        "/lib/firmware/updates".to_owned(),
        format!("/lib/firmware/{release}"),
        "/lib/firmware".to_owned(),
    ]
    .iter()
    .map(|path| host.inside(path))
    .collect()
}
