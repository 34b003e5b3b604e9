// SPDX-License-Identifier: MIT OR Apache-2.0
//! Modules of ours that crash or stand in the way, built for a kernel with Debian's headers, which are downloaded and not
//! installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{run, stdout};
use crate::setup::{self, Kernel, cache, download, find_program, lock_cache, start_afresh};

/// The module that crashes, for this kernel.
///
/// # Errors
/// The headers cannot be downloaded, or the module does not build.
pub(crate) fn crasher(kernel: &Kernel) -> Result<PathBuf> {
    built(kernel, "crasher", include_str!("crasher.c"))
}

/// The module that stands in the way of a capture, for this kernel.
///
/// # Errors
/// As [`crasher`].
pub(crate) fn obstacle(kernel: &Kernel) -> Result<PathBuf> {
    built(kernel, "obstacle", include_str!("obstacle.c"))
}

fn built(kernel: &Kernel, name: &str, text: &str) -> Result<PathBuf> {
    setup::ready()?;
    let release = &kernel.release;
    let _lock = lock_cache("modules.lock")?;
    let folder = cache()?.join(name).join(release);
    let module = folder.join(format!("{name}.ko"));
    let source = folder.join(format!("{name}.c"));
    if module.is_file() && fs::read_to_string(&source).is_ok_and(|there| there == text) {
        return Ok(module);
    }
    let headers = headers(release).with_context(|| format!("the headers of {release}"))?;
    eprintln!("setup: building {name}.ko for {release}");
    start_afresh(&folder)?;
    fs::write(&source, text)?;
    fs::write(folder.join("Kbuild"), format!("obj-m := {name}.o\n"))?;
    let make = find_program("make").context("make is not installed")?;
    run(Command::new(make)
        .arg("-s")
        .arg("-C")
        .arg(headers)
        .arg(format!("M={}", folder.display()))
        // Its types, which need a program more, are nothing that anyone asks for.
        .arg("CONFIG_DEBUG_INFO_BTF_MODULES=")
        .arg("modules"))?;
    Ok(module)
}

/// The folder that modules for `release` are built from.
fn headers(release: &str) -> Result<PathBuf> {
    const PLACE: &str = "usr/src/linux-headers-";
    let root = cache()?.join("headers").join(release);
    let folder = root.join(format!("{PLACE}{release}"));
    if folder.join("ready").is_file() {
        return Ok(folder);
    }
    start_afresh(&root)?;
    let package = format!("linux-headers-{release}");
    let text = stdout(setup::program("apt-cache")?.args(["depends", &package]))?;
    // What all architectures and flavours share, and the programs.
    let parts = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .filter(|name| name.starts_with("linux-headers-") || name.starts_with("linux-kbuild-"));
    for part in [package.as_str()].into_iter().chain(parts) {
        let deb = download(part, &root)?;
        run(Command::new("dpkg").arg("-x").arg(&deb).arg(&root))?;
        fs::remove_file(&deb)?;
    }
    point_inside(&folder.join("Makefile"), &root)?;
    fs::write(folder.join("ready"), "")?;
    Ok(folder)
}

/// A header's makefile names the shared ones by where they would be installed.
fn point_inside(makefile: &Path, root: &Path) -> Result<()> {
    let text =
        fs::read_to_string(makefile).with_context(|| format!("reading {}", makefile.display()))?;
    let inside = format!("{}/usr/src/linux-headers", root.display());
    fs::write(makefile, text.replace("/usr/src/linux-headers", &inside))?;
    Ok(())
}
