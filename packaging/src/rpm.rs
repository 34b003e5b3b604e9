// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rpm: the tree, the spec file, and rpmbuild, which finds out which libraries the programs need.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::tree::{Kind, Tree, scratch};
use packaging::run;

use crate::{Format, epoch, own};

/// Builds the package into `output` and returns its file.
pub(crate) fn build(output: &Path) -> Result<PathBuf> {
    let work = scratch("rpm")?;
    let staged = work.join("tree");
    fs::create_dir(&staged)?;
    let tree = Tree::lay_out(&staged, Format::Rpm)?;
    let list = work.join("files");
    fs::write(&list, file_list(&tree))?;
    let mut command = Command::new("rpmbuild");
    command.arg("-bb");
    let (top, out) = (work.join("top"), work.join("out"));
    for (name, value) in [
        ("_topdir", top.as_os_str()),
        ("_rpmdir", out.as_os_str()),
        ("_rpmfilename", "package.rpm".as_ref()),
        ("staged", tree.root.as_os_str()),
        ("listed", list.as_os_str()),
        ("release_version", env!("CARGO_PKG_VERSION").as_ref()),
        // rpmbuild looks at these two before it reads the file.
        ("use_source_date_epoch_as_buildtime", "1".as_ref()),
        ("clamp_mtime_to_source_date_epoch", "1".as_ref()),
    ] {
        let mut definition = OsString::from(format!("{name} "));
        definition.push(value);
        command.arg("--define").arg(definition);
    }
    command
        .arg(own("kdumprd.spec"))
        .env("SOURCE_DATE_EPOCH", epoch());
    run::run(&mut command)
        .context("rpmbuild makes the package; Fedora has it in rpm-build, Debian in rpm")?;
    let name = format!(
        "kdumprd-{}-1.{}.rpm",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH
    );
    let package = output.join(name);
    fs::copy(work.join("out/package.rpm"), &package)
        .with_context(|| format!("writing {}", package.display()))?;
    fs::remove_dir_all(&work)?;
    Ok(package)
}

/// What the spec file's `%files` is told.
fn file_list(tree: &Tree) -> String {
    let mut text = "%defattr(-,root,root)\n".to_owned();
    for folder in [
        "/usr/lib/kdumprd",
        "/usr/share/doc/kdumprd",
        "/etc/kdump",
        "/etc/kdump/*.d",
        "/var/crash",
    ] {
        text += &format!("%dir {folder}\n");
    }
    for (place, kind) in &tree.files {
        let before = match kind {
            Kind::Configuration => "%config(noreplace) ",
            Kind::Ours => "",
        };
        text += &format!("{before}/{place}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edited_files_are_kept() {
        let tree = Tree {
            root: PathBuf::new(),
            files: vec![
                ("etc/kdump.conf".to_owned(), Kind::Configuration),
                ("usr/bin/kdumpctl".to_owned(), Kind::Ours),
            ],
        };
        assert!(
            file_list(&tree).ends_with("%config(noreplace) /etc/kdump.conf\n/usr/bin/kdumpctl\n")
        );
    }
}
