// SPDX-License-Identifier: MIT OR Apache-2.0
//! The deb: control files beside the tree, and dpkg-deb.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::tree::{Kind, Tree, read, scratch};
use packaging::run;

use crate::{Format, epoch, own};

/// What runs when the package comes and goes.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Builds the package into `output` and returns its file.
pub(crate) fn build(output: &Path) -> Result<PathBuf> {
    let version = env!("CARGO_PKG_VERSION");
    let tree = Tree::lay_out(&scratch("deb")?, Format::Deb)?;
    let control = tree.root.join("DEBIAN");
    fs::create_dir(&control)?;
    let mut size_bytes = 0;
    let mut needs = Vec::new();
    for (place, _) in &tree.files {
        let bytes = read(&tree.root.join(place))?;
        size_bytes += bytes.len();
        needs.extend(glibc_needed(&bytes));
    }
    let glibc = needs
        .into_iter()
        .max()
        .context("no program needs the C library: a static build has dependencies of its own")?;
    let text = control_file(version, glibc, size_bytes);
    fs::write(control.join("control"), text)?;
    let kept: String = tree
        .files
        .iter()
        .filter(|(_, kind)| *kind == Kind::Configuration)
        .map(|(place, _)| format!("/{place}\n"))
        .collect();
    fs::write(control.join("conffiles"), kept)?;
    for name in SCRIPTS {
        let path = control.join(name);
        fs::write(&path, read(&own("deb").join(name))?)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let package = output.join(format!("kdumprd_{version}_{}.deb", architecture()?));
    run::run(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Zxz", "--build"])
            .args([&tree.root, &package])
            .env("SOURCE_DATE_EPOCH", epoch()),
    )?;
    fs::remove_dir_all(&tree.root)?;
    Ok(package)
}

/// kdump-tools would take the one place for a capture kernel that there is, and reserve memory of its own.
fn control_file(version: &str, (major, minor): (u32, u32), size_bytes: usize) -> String {
    format!(
        "Package: kdumprd\n\
         Version: {version}\n\
         Architecture: {}\n\
         Maintainer: the kdumprd developers <kdumprd@localhost>\n\
         Installed-Size: {}\n\
         Depends: libc6 (>= {major}.{minor}), libgcc-s1, systemd\n\
         Suggests: openssh-client, crash\n\
         Conflicts: kdump-tools\n\
         Section: admin\n\
         Priority: optional\n\
         Description: capture of kernel crashes that needs little memory\n \
         kdumprd saves the memory of a Linux machine that has panicked: a small\n \
         static program that runs as PID 1 of the capture kernel, and the commands\n \
         that prepare it. It reads the kdump.conf that RHEL and Fedora have.\n",
        architecture().unwrap_or_default(),
        size_bytes.div_ceil(1024),
    )
}

/// Debian's name for what this was built for.
fn architecture() -> Result<&'static str> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "there is no init for {} yet",
        std::env::consts::ARCH
    );
    Ok("amd64")
}

/// The newest version of the C library whose symbols a program names: the versions stand in it as text.
fn glibc_needed(program: &[u8]) -> Option<(u32, u32)> {
    const MARK: &[u8] = b"\0GLIBC_";
    let version = |at: usize| {
        let rest = program.get(at + MARK.len()..)?;
        let end = rest.iter().position(|&byte| byte == 0)?;
        let (major, minor) = std::str::from_utf8(rest.get(..end)?)
            .ok()?
            .split_once('.')?;
        // A third number is of the years before 2.4.
        let minor = minor.split('.').next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    (0..program.len().saturating_sub(MARK.len()))
        .filter(|&at| program.get(at..at + MARK.len()) == Some(MARK))
        .filter_map(version)
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_that_a_program_names_is_needed() {
        let program = b"x\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE\0y";
        assert_eq!(glibc_needed(program), Some((2, 34)));
        assert_eq!(glibc_needed(b"\0GLIBC_2.3"), None);
        assert_eq!(glibc_needed(b"static"), None);
    }

    #[test]
    fn every_line_of_the_control_file_is_a_field_or_goes_on() {
        let text = control_file("1.2.3", (2, 34), 2049);
        for line in text.lines() {
            assert!(
                line.starts_with(' ') || line.contains(": "),
                "{line:?} in\n{text}"
            );
        }
        for part in ["Version: 1.2.3\n", "libc6 (>= 2.34)", "Installed-Size: 3\n"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
