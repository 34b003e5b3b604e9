// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is installed where, and the tree that has all of it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use packaging::run;

use crate::{Format, target_folder, workspace};

/// Programs by their package: name of the build, and where it is installed. kexec is not in the path, where kexec-tools has
/// its own, which does more; kdumpctl loads by itself.
const PROGRAMS: [(&str, &[(&str, &str)]); 5] = [
    (
        "kdumprd-init",
        &[
            ("init", "usr/lib/kdumprd/init"),
            ("init-nfs", "usr/lib/kdumprd/init-nfs"),
            ("init-local", "usr/lib/kdumprd/init-local"),
        ],
    ),
    ("mkkdumprd", &[("mkkdumprd", "usr/bin/mkkdumprd")]),
    // Not among the programs for root alone: `status` needs none.
    ("kdumpctl", &[("kdumpctl", "usr/bin/kdumpctl")]),
    ("kdumprd-kexec", &[("kexec", "usr/lib/kdumprd/kexec")]),
    ("kdumprd-vmcore", &[("vmcore", "usr/bin/vmcore")]),
];

/// Manual pages: the program that prints the page, what it is asked for besides, and the page's file. That of kexec has an
/// ending of its own, so that it can lie beside the one of kexec-tools: `man 8kdumprd kexec`.
const PAGES: [(&str, &str, &str); 6] = [
    ("usr/bin/mkkdumprd", "", "man8/mkkdumprd.8"),
    ("usr/bin/mkkdumprd", "kdump.conf", "man5/kdump.conf.5"),
    ("usr/bin/kdumpctl", "", "man8/kdumpctl.8"),
    (
        "usr/bin/kdumpctl",
        "kdump.sysconfig",
        "man5/kdump.sysconfig.5",
    ),
    ("usr/bin/vmcore", "", "man8/vmcore.8"),
    ("usr/lib/kdumprd/kexec", "", "man8/kexec.8kdumprd"),
];

/// The commands in the path, which shells complete.
const COMPLETED: [&str; 3] = ["mkkdumprd", "kdumpctl", "vmcore"];
/// Where bash looks for what completes a command.
const BASH: &str = "usr/share/bash-completion/completions";

/// What becomes of a file that was edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The next version replaces it.
    Ours,
    /// It is kept.
    Configuration,
}

impl Format {
    /// Where zsh looks for what completes a command: it has another folder with each distribution.
    const fn zsh(self) -> &'static str {
        match self {
            Self::Deb => "usr/share/zsh/vendor-completions",
            Self::Rpm => "usr/share/zsh/site-functions",
        }
    }
}

/// A file from the workspace: where it is, where it is installed, its permissions.
struct Given {
    from: &'static str,
    to: &'static str,
    mode: u32,
    kind: Kind,
}

const fn given(from: &'static str, to: &'static str, mode: u32, kind: Kind) -> Given {
    Given {
        from,
        to,
        mode,
        kind,
    }
}

/// The same in all packages. `/etc/sysconfig` has no tradition in Debian; but it is the name in the manual, in the messages and
/// in every guide, and Debian's `/etc/default/kdump-tools` is another language.
const FILES: [Given; 10] = [
    given(
        "packaging/files/kdump.conf",
        "etc/kdump.conf",
        0o644,
        Kind::Configuration,
    ),
    given(
        "packaging/files/kdump.sysconfig",
        "etc/sysconfig/kdump",
        0o644,
        Kind::Configuration,
    ),
    given(
        "packaging/files/kdump.service",
        "usr/lib/systemd/system/kdump.service",
        0o644,
        Kind::Ours,
    ),
    given(
        "packaging/files/kdump-reload.service",
        "usr/lib/systemd/system/kdump-reload.service",
        0o644,
        Kind::Ours,
    ),
    given(
        "packaging/files/98-kdumprd.rules",
        "usr/lib/udev/rules.d/98-kdumprd.rules",
        0o644,
        Kind::Ours,
    ),
    given(
        "README.md",
        "usr/share/doc/kdumprd/README.md",
        0o644,
        Kind::Ours,
    ),
    given(
        "CHANGELOG.md",
        "usr/share/doc/kdumprd/CHANGELOG.md",
        0o644,
        Kind::Ours,
    ),
    given(
        "LICENSE-MIT",
        "usr/share/doc/kdumprd/LICENSE-MIT",
        0o644,
        Kind::Ours,
    ),
    given(
        "LICENSE-APACHE",
        "usr/share/doc/kdumprd/LICENSE-APACHE",
        0o644,
        Kind::Ours,
    ),
    given(
        "contrib/kdumprd-receive",
        "usr/share/doc/kdumprd/examples/kdumprd-receive",
        0o755,
        Kind::Ours,
    ),
];

/// How Debian's kernels say that they come and go, and how its GRUB gets its command line.
const OF_DEB: [Given; 4] = [
    given(
        "packaging/files/kernel-postinst",
        "etc/kernel/postinst.d/kdumprd",
        0o755,
        Kind::Configuration,
    ),
    given(
        "packaging/files/kernel-postrm",
        "etc/kernel/postrm.d/kdumprd",
        0o755,
        Kind::Configuration,
    ),
    given(
        "packaging/files/grub.cfg",
        "etc/default/grub.d/kdumprd.cfg",
        0o644,
        Kind::Configuration,
    ),
    given(
        "packaging/deb/copyright",
        "usr/share/doc/kdumprd/copyright",
        0o644,
        Kind::Ours,
    ),
];

/// How Fedora's do; there `kdumpctl reset-crashkernel` sets the command line.
const OF_RPM: [Given; 1] = [given(
    "packaging/files/kernel-install",
    "usr/lib/kernel/install.d/60-kdumprd.install",
    0o755,
    Kind::Ours,
)];

/// Folders that are there although nothing lies in them yet: hooks, and dumps.
const FOLDERS: [&str; 4] = [
    "etc/kdump/pre.d",
    "etc/kdump/post.d",
    "etc/kdump/emergency.d",
    "var/crash",
];

/// A laid out tree.
pub(crate) struct Tree {
    /// Its folder.
    pub(crate) root: PathBuf,
    /// Its files, in the order of the alphabet, without a slash ahead.
    pub(crate) files: Vec<(String, Kind)>,
}

impl Tree {
    /// Builds everything and lays it out in the empty folder `root`.
    pub(crate) fn lay_out(root: &Path, format: Format) -> Result<Self> {
        let mut tree = Self {
            root: root.to_path_buf(),
            files: Vec::new(),
        };
        for (package, programs) in PROGRAMS {
            let built = build(package)?;
            for (name, place) in programs {
                tree.put(place, &read(&built.join(name))?, 0o755, Kind::Ours)?;
                run::run(Command::new("strip").arg(root.join(place)))?;
            }
        }
        for (program, argument, page) in PAGES {
            let mut command = Command::new(root.join(program));
            command.arg("--man");
            if !argument.is_empty() {
                command.arg(argument);
            }
            let place = format!("usr/share/man/{page}.gz");
            tree.put(
                &place,
                &compressed(&run::run(&mut command)?.stdout)?,
                0o644,
                Kind::Ours,
            )?;
        }
        for name in COMPLETED {
            for (shell, place) in [
                ("bash", format!("{BASH}/{name}")),
                ("zsh", format!("{}/_{name}", format.zsh())),
            ] {
                let mut command = Command::new(root.join("usr/bin").join(name));
                let text = run::run(command.args(["--completion", shell]))?.stdout;
                tree.put(&place, &text, 0o644, Kind::Ours)?;
            }
        }
        let own_kind: &[Given] = match format {
            Format::Deb => &OF_DEB,
            Format::Rpm => &OF_RPM,
        };
        for file in FILES.iter().chain(own_kind) {
            tree.put(
                file.to,
                &read(&workspace().join(file.from))?,
                file.mode,
                file.kind,
            )?;
        }
        for folder in FOLDERS {
            fs::create_dir_all(root.join(folder))?;
        }
        tree.files.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(tree)
    }

    fn put(&mut self, place: &str, bytes: &[u8], mode: u32, kind: Kind) -> Result<()> {
        let path = self.root.join(place);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, bytes)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("writing {}", path.display()))?;
        self.files.push((place.to_owned(), kind));
        Ok(())
    }
}

/// Builds one package by a run of cargo of its own, so that no feature of a host command reaches init, and returns the folder
/// with the programs.
fn build(package: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run::run(
        Command::new(cargo)
            .args(["build", "-q", "--release", "--bins", "-p", package])
            .current_dir(workspace()),
    )?;
    Ok(target_folder().join("release"))
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// An empty folder for one build below the build folder.
pub(crate) fn scratch(name: &str) -> Result<PathBuf> {
    let folder = target_folder().join("packages").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("emptying {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder.canonicalize()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::own;
    use std::collections::BTreeSet;

    fn all() -> impl Iterator<Item = &'static Given> {
        FILES.iter().chain(&OF_DEB).chain(&OF_RPM)
    }

    #[test]
    fn every_file_is_there_and_every_file_that_is_there_is_installed() {
        for file in all() {
            assert!(workspace().join(file.from).is_file(), "{}", file.from);
        }
        let installed: BTreeSet<_> = all().map(|file| file.from).collect();
        for entry in fs::read_dir(own("files")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(
                installed.contains(format!("packaging/files/{name}").as_str()),
                "{name}"
            );
        }
    }

    #[test]
    fn what_stands_below_etc_is_kept_when_it_was_edited_and_nothing_else() {
        for file in all() {
            assert_eq!(
                file.to.starts_with("etc/"),
                file.kind == Kind::Configuration,
                "{}",
                file.to
            );
        }
    }

    #[test]
    fn units_and_rules_start_programs_that_are_installed() {
        let places: BTreeSet<String> = PROGRAMS
            .iter()
            .flat_map(|(_, programs)| programs.iter())
            .map(|(_, place)| format!("/{place}"))
            // Of every systemd.
            .chain(["/usr/bin/systemctl", "/bin/sleep"].map(str::to_owned))
            .collect();
        let mut seen = 0;
        for name in ["kdump.service", "kdump-reload.service"] {
            let text = fs::read_to_string(own("files").join(name)).unwrap();
            for command in text.lines().filter_map(|line| {
                let (key, value) = line.split_once('=')?;
                key.starts_with("Exec").then_some(value)
            }) {
                let program = command.split(' ').next().unwrap();
                assert!(places.contains(program), "{name}: {command}");
                seen += 1;
            }
        }
        assert_eq!(seen, 6);
        let rules = fs::read_to_string(own("files/98-kdumprd.rules")).unwrap();
        for run in rules.lines().filter_map(|line| line.split_once("RUN+=\"")) {
            assert!(
                run.1
                    .starts_with("/usr/bin/systemctl --no-block restart kdump-reload.service\"")
            );
        }
    }
}
