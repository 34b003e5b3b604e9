// SPDX-License-Identifier: MIT OR Apache-2.0
//! init built for `x86_64-unknown-linux-musl`: the same source for the other target that the project promises.
//!
//! Where rustup has the target it is one run of cargo. Elsewhere Debian's compiler builds `core` from its own source: the
//! packages are unpacked into the cache and never installed, because they conflict with a distribution's `rustc`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{run, stdout};
use crate::setup::{cache, cargo, download, lock_cache, program, start_afresh};
use crate::vm::target_folder;

/// The target.
pub const TARGET: &str = "x86_64-unknown-linux-musl";

/// Debian's compiler, its library for build scripts, and the source of `core`.
const PACKAGES: [&str; 3] = ["rustc-web", "libstd-rust-web-dev", "rust-web-src"];

/// Below the folder that packages are unpacked into: where their shared libraries are.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// Builds init for [`TARGET`] and returns the program.
///
/// # Errors
/// It does not build, or the compiler cannot be fetched.
pub fn init() -> Result<PathBuf> {
    // A folder of its own: the compiler may be another one than everybody's.
    let folder = target_folder().join("musl");
    let mut command = Command::new(cargo());
    command
        .args(["build", "-q", "--release", "-p", "kdumprd-init"])
        .args(["--bin", "init", "--target", TARGET, "--target-dir"])
        .arg(&folder)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    // rustc would add musl's own start-up file, and init has its own.
    let mut flags = "-C link-self-contained=no".to_owned();
    if !rustup_has_target()? {
        let root = debian_compiler()?;
        command
            .env("RUSTC", root.join("usr/bin/rustc"))
            .env("LD_LIBRARY_PATH", libraries_in_folder(&root)?)
            // `-Zbuild-std` is a switch of nightly compilers; only here, never for what is shipped.
            .env("RUSTC_BOOTSTRAP", "1")
            .arg("-Zbuild-std=core");
        // Another compiler's warnings are not this step's business.
        flags.push_str(" --cap-lints warn");
    }
    run(command.env("RUSTFLAGS", flags)).with_context(|| format!("building init for {TARGET}"))?;
    let file = folder.join(TARGET).join("release/init");
    file.canonicalize()
        .with_context(|| format!("{} was not built", file.display()))
}

/// Whether the compiler that cargo uses has the target's library.
fn rustup_has_target() -> Result<bool> {
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let folder =
        stdout(Command::new(compiler).args(["--print", "target-libdir", "--target", TARGET]))?;
    let Ok(entries) = fs::read_dir(folder.trim()) else {
        return Ok(false);
    };
    Ok(entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-")))
}

/// Debian's compiler, unpacked in the cache; fetched when it is not there yet.
fn debian_compiler() -> Result<PathBuf> {
    let _lock = lock_cache("rust-web.lock")?;
    let root = cache()?.join("rust-web");
    // An earlier one may lack a library that this machine had then.
    if root.is_dir() && run(compiler_in(&root)?.arg("-vV")).is_ok() {
        return Ok(root);
    }
    eprintln!("setup: fetching Debian's Rust compiler for {TARGET}");
    let partial = cache()?.join("rust-web.partial");
    start_afresh(&partial)?;
    for package in packages()? {
        let deb = download(&package, &partial)
            .with_context(|| format!("fetching {package}; a machine with rustup can have `rustup target add {TARGET}` instead"))?;
        run(Command::new("dpkg").arg("-x").arg(&deb).arg(&partial))?;
        fs::remove_file(&deb)?;
    }
    run(compiler_in(&partial)?.arg("-vV")).context("trying Debian's Rust compiler")?;
    if root.is_dir() {
        fs::remove_dir_all(&root)?;
    }
    fs::rename(&partial, &root)?;
    Ok(root)
}

/// Debian's compiler where it was unpacked; LLVM and what else it is linked with lie beside it.
fn compiler_in(root: &Path) -> Result<Command> {
    let mut command = Command::new(root.join("usr/bin/rustc"));
    command.env("LD_LIBRARY_PATH", libraries_in_folder(root)?);
    Ok(command)
}

fn libraries_in_folder(root: &Path) -> Result<OsString> {
    Ok(env::join_paths(LIBRARIES.map(|folder| root.join(folder)))?)
}

/// The packages, with the shared libraries that they need and that this machine does not have.
fn packages() -> Result<Vec<String>> {
    let text = stdout(
        program("apt-cache")?
            .args(["depends", "--recurse", "--no-recommends", "--no-suggests"])
            .args([
                "--no-conflicts",
                "--no-breaks",
                "--no-replaces",
                "--no-enhances",
            ])
            .args(PACKAGES),
    )
    .context(
        "looking up what Debian's Rust compiler needs; apt's lists may be old (apt-get update)",
    )?;
    let mut packages: Vec<String> = PACKAGES.map(str::to_owned).to_vec();
    for name in libraries_in(&text) {
        if !packages.contains(&name) && !is_installed(&name)? {
            packages.push(name);
        }
    }
    Ok(packages)
}

/// The libraries in what `apt-cache depends --recurse` prints: a package stands at the beginning of a line, and what it
/// depends on below it with spaces before.
fn libraries_in(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.starts_with("lib") && !line.contains(' '))
        .map(str::to_owned)
        .collect()
}

fn is_installed(package: &str) -> Result<bool> {
    let output = program("dpkg-query")?
        .args(["-W", "-f", "${db:Status-Status}", package])
        .output()?;
    Ok(output.stdout == b"installed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_told_from_what_depends_on_them() {
        let text = "rustc-web\n  Depends: libc6\n  Depends: gcc\nlibc6\n  Depends: libgcc-s1\nlibedit2\ngcc\n";
        assert_eq!(libraries_in(text), ["libc6", "libedit2"]);
    }
}
