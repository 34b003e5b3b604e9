// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is under test, built as it is shipped: release builds, each by a run of cargo of its own.
//!
//! One run for all would let the features that a host command turns on reach init as well.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};

use crate::run::{run, stdout};
use crate::setup::cargo;
use crate::vm::target_folder;

/// Where cargo puts builds for a target that is named.
const TARGET: &str = "x86_64-unknown-linux-gnu";

type Built = OnceLock<Result<PathBuf, String>>;

fn once(built: &Built, build: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    built
        .get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|message| anyhow!(message))
}

/// Builds one program of a package. `flags` are for the compiler; with any, the target is named, so that they do not
/// reach build scripts.
fn build(package: &str, program: &str, flags: &str) -> Result<PathBuf> {
    let file = build_all(package, &["--bin", program], flags)?.join(program);
    file.canonicalize()
        .with_context(|| format!("{} was not built", file.display()))
}

/// Builds what `which` says of a package, and returns the folder that it is in.
fn build_all(package: &str, which: &[&str], flags: &str) -> Result<PathBuf> {
    let mut command = Command::new(cargo());
    command
        .args(["build", "-q", "--release", "-p", package])
        .args(which)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let mut folder = target_folder();
    if !flags.is_empty() {
        command.args(["--target", TARGET]).env("RUSTFLAGS", flags);
        folder.push(TARGET);
    }
    run(&mut command).with_context(|| format!("building {}", which.join(" ")))?;
    Ok(folder.join("release"))
}

/// The folder with the builds of PID 1 of the capture kernel: `init`, `init-nfs`, `init-local`.
///
/// # Errors
/// They do not build.
pub fn inits() -> Result<PathBuf> {
    static BUILT: Built = OnceLock::new();
    once(&BUILT, || build_all("kdumprd-init", &["--bins"], ""))
}

/// The image builder.
///
/// # Errors
/// It does not build.
pub fn mkkdumprd() -> Result<PathBuf> {
    static BUILT: Built = OnceLock::new();
    once(&BUILT, || build("mkkdumprd", "mkkdumprd", ""))
}

/// The collector's host command.
///
/// # Errors
/// It does not build.
pub fn vmcore() -> Result<PathBuf> {
    static BUILT: Built = OnceLock::new();
    once(&BUILT, || build("kdumprd-vmcore", "vmcore", ""))
}

/// The service's command, statically linked: the first kernel's guest has no libraries.
///
/// # Errors
/// It does not build.
pub fn kdumpctl() -> Result<PathBuf> {
    static BUILT: Built = OnceLock::new();
    once(&BUILT, || {
        build("kdumpctl", "kdumpctl", "-C target-feature=+crt-static")
    })
}

/// The loader, statically linked: the first kernel's guest has no libraries.
///
/// # Errors
/// It does not build.
pub fn kexec() -> Result<PathBuf> {
    static BUILT: Built = OnceLock::new();
    once(&BUILT, || {
        build("kdumprd-kexec", "kexec", "-C target-feature=+crt-static")
    })
}

/// The deb, as `cargo build-deb` makes it.
///
/// # Errors
/// It does not build.
pub fn deb() -> Result<PathBuf> {
    static BUILT: Built = OnceLock::new();
    once(&BUILT, || package("deb", &target_folder().join("packages")))
}

/// The rpm, as `cargo build-rpm` makes it.
///
/// # Errors
/// It does not build.
pub fn rpm() -> Result<PathBuf> {
    static BUILT: Built = OnceLock::new();
    once(&BUILT, || package("rpm", &target_folder().join("packages")))
}

/// Builds the package of this format, `deb` or `rpm`, into a folder.
///
/// # Errors
/// It does not build.
pub fn package(format: &str, folder: &Path) -> Result<PathBuf> {
    let printed = stdout(
        Command::new(cargo())
            .args(["run", "-q", "-p", "packaging", "--", format, "-o"])
            .arg(folder)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")),
    )
    .with_context(|| format!("building the {format}"))?;
    Ok(PathBuf::from(printed.trim()))
}
