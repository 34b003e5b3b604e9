// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo build-deb`, `cargo build-rpm`: builds what is shipped, lays it out as it is installed, and has the distribution's
//! own program make a package of it.
//!
//! ```text
//! cargo build --release ─▶ programs ─▶ --man, --completion ─┐
//! files/ ───────────────────────────────────────────────────┴▶ tree ─▶ dpkg-deb with deb/, rpmbuild with kdumprd.spec
//! ```
//! Times and order are fixed, so that the same sources make the same package.
#![forbid(unsafe_code)]

mod deb;
mod rpm;
mod tree;

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use lexopt::prelude::*;
use packaging::run;

const HELP: &str = "\
Usage: cargo build-deb [-o FOLDER]
       cargo build-rpm [-o FOLDER]

Builds kdumprd and makes a package of it: the deb by dpkg-deb, which every Debian has, the rpm by rpmbuild (rpm-build on
Fedora, rpm on Debian). Prints the package's name.

  -o, --output FOLDER  where the package goes; target/packages without this option
  -h, --help           this text
";

/// Whose packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Deb,
    Rpm,
}

fn main() -> ExitCode {
    match perform() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("packages: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform() -> Result<()> {
    let Some((format, output)) = parse(lexopt::Parser::from_env())? else {
        print!("{HELP}");
        return Ok(());
    };
    let output = output.unwrap_or_else(|| target_folder().join("packages"));
    fs::create_dir_all(&output).with_context(|| format!("making {}", output.display()))?;
    let output = output.canonicalize()?;
    // Two builds at once would lay out one tree.
    let lock = File::create(target_folder().join("packages.lock"))?;
    lock.lock().context("waiting for another build")?;
    let package = match format {
        Format::Deb => deb::build(&output)?,
        Format::Rpm => rpm::build(&output)?,
    };
    println!("{}", package.display());
    Ok(())
}

/// What is to be made, and where it goes; none when only the help was asked for.
fn parse(
    mut arguments: lexopt::Parser,
) -> Result<Option<(Format, Option<PathBuf>)>, lexopt::Error> {
    let (mut format, mut output) = (None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(None),
            Short('o') | Long("output") => output = Some(arguments.value()?.into()),
            Value(word) if word == "deb" => format = Some(Format::Deb),
            Value(word) if word == "rpm" => format = Some(Format::Rpm),
            _ => return Err(argument.unexpected()),
        }
    }
    let format = format.ok_or("`deb` or `rpm` is missing")?;
    Ok(Some((format, output)))
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of this crate.
fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn target_folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The time that stands for all times in a package, in seconds: `SOURCE_DATE_EPOCH`, else the commit's; without either the
/// beginning of the count.
///
/// Source: reproducible-builds.org, the specification of `SOURCE_DATE_EPOCH`.
fn epoch() -> OsString {
    env::var_os("SOURCE_DATE_EPOCH").unwrap_or_else(|| {
        let time = run::stdout(
            Command::new("git")
                .args(["log", "-1", "--format=%ct"])
                .current_dir(workspace()),
        );
        time.map_or_else(|_| "0".into(), |time| time.trim().into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_needed_and_a_folder_is_not() {
        let parsed = |words: &[&str]| parse(lexopt::Parser::from_args(words));
        assert_eq!(parsed(&["deb"]).unwrap(), Some((Format::Deb, None)),);
        assert_eq!(
            parsed(&["rpm", "-o", "x"]).unwrap(),
            Some((Format::Rpm, Some("x".into())))
        );
        assert_eq!(parsed(&["-h"]).unwrap(), None);
        assert!(parsed(&[]).unwrap_err().to_string().contains("`deb` or"));
        assert!(parsed(&["dmg"]).is_err());
    }
}
