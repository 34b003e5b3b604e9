// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reservation that is made by default, and getting it onto the first kernel's command line.

use crate::boot::{self, Classic};
use crate::run;
use initramfs_builder::error::{Mistake, Mistakes};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The default of `crashkernel=` for a kernel of this architecture with pages of 4 KiB.
///
/// Source: kdump-utils 63f248c `kdump-lib.sh`: what people who come from there have, and what other programs of the
/// capture kernel's would need. This program needs less; BENCHMARKS.md has how much.
#[must_use]
pub fn default_for(architecture: &str) -> Option<&'static str> {
    Some(match architecture {
        // Machines of 1 to 2 GiB get nothing there; 128M are half as much again as this program needs with the largest kernel
        // that was measured.
        "x86_64" => "1G-2G:128M,2G-64G:256M,64G-:512M",
        "s390x" => "2G-64G:256M,64G-:512M",
        "aarch64" => "2G-4G:256M,4G-64G:320M,64G-:576M",
        "powerpc64" => "2G-4G:384M,4G-16G:512M,16G-64G:1G,64G-128G:2G,128G-:4G",
        _ => return None,
    })
}

/// Whose command line is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// The running kernel's.
    Running,
    /// Every kernel's.
    All,
    /// That of this file.
    One(String),
}

/// What was done, for the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The next start of the machine has it.
    Changed(String),
    /// The boot loader is none whose files are edited: what is to be changed by hand.
    ByHand(String),
}

/// Sets `crashkernel=` to `value` for the next start of the machine whose root file system is at `root`.
///
/// # Errors
/// A file cannot be written, or a program of the boot loader fails.
pub fn set(root: &Path, kernels: &Kernels, value: &str, release: &str) -> Result<Done, Mistakes> {
    if root.join("run/ostree-booted").exists() {
        return Ok(Done::ByHand(format!(
            "this system is an image of ostree's, whose command line belongs to it: rpm-ostree kargs \
             --append-if-missing=crashkernel={value}, and --delete= for another crashkernel="
        )));
    }
    let entries = root.join("boot/loader/entries");
    let defaults = root.join("etc/default/grub");
    if let Some(grubby) = crate::find_program("grubby") {
        let which = match kernels {
            Kernels::Running => format!("/boot/vmlinuz-{release}"),
            Kernels::All => "ALL".to_owned(),
            Kernels::One(kernel) => kernel.clone(),
        };
        let arguments = [
            "--update-kernel",
            &which,
            "--args",
            &format!("crashkernel={value}"),
        ];
        run(Command::new(grubby).args(arguments))?;
        let mut done = format!("grubby has set crashkernel={value} for {which}");
        if *kernels == Kernels::All {
            done += &for_later_kernels(root, value)?;
        }
        return Ok(Done::Changed(done));
    }
    if entries.is_dir() {
        let mut done = in_entries(&entries, kernels, value, release)?;
        if *kernels == Kernels::All {
            done += &for_later_kernels(root, value)?;
        }
        return Ok(Done::Changed(done));
    }
    if defaults.is_file() {
        in_defaults(&defaults, value)?;
        make_menu(&defaults)?;
        let mut done = format!(
            "{} has crashkernel={value}, for every kernel",
            defaults.display()
        );
        for file in setting_it_too(&root.join("etc/default/grub.d"))? {
            done += &format!(
                "; but {} sets crashkernel= behind it, and the last one counts: take it out there and run this again",
                file.display()
            );
        }
        return Ok(Done::Changed(done));
    }
    let mut said = Vec::new();
    for (file, classic) in Classic::FILES {
        let path = root.join(file);
        // grub.conf and menu.lst may be one file under two names.
        if path.is_file() && !path.is_symlink() {
            said.push(classic.by_hand(&path.display().to_string(), &read(&path)?, value));
        }
    }
    if said.is_empty() {
        said.push(boot::by_hand(value));
    }
    Ok(Done::ByHand(said.join("\n")))
}

/// Has grub make its menu from its defaults, by the program's name in this distribution.
fn make_menu(defaults: &Path) -> Result<(), Mistakes> {
    let programs: [(&str, &[&str]); 3] = [
        ("update-grub", &[]),
        ("grub2-mkconfig", &["-o", "/boot/grub2/grub.cfg"]),
        ("grub-mkconfig", &["-o", "/boot/grub/grub.cfg"]),
    ];
    let Some((program, arguments)) = programs
        .into_iter()
        .find_map(|(program, arguments)| Some((crate::find_program(program)?, arguments)))
    else {
        return Err(Mistake::new(format!(
            "{} has the new value, and no program is there that makes grub's menu from it (update-grub, grub2-mkconfig, \
             grub-mkconfig); run yours before the next start of the machine",
            defaults.display()
        ))
        .into());
    };
    run(Command::new(program).args(arguments))
}

/// Kernels that are installed later take their command line from other files than those that are there have theirs in.
fn for_later_kernels(root: &Path, value: &str) -> Result<String, Mistakes> {
    let mut done = String::new();
    let defaults = root.join("etc/default/grub");
    if defaults.is_file() {
        in_defaults(&defaults, value)?;
        done += &format!(", {}", defaults.display());
    }
    let line = root.join("etc/kernel/cmdline");
    if line.is_file() {
        write(&line, &boot::in_kernel_cmdline(read(&line)?.trim(), value))?;
        done += &format!(", {}", line.display());
    }
    if done.is_empty() {
        return Ok(done);
    }
    Ok(format!("; for later kernels too:{}", &done[1..]))
}

fn in_defaults(defaults: &Path, value: &str) -> Result<(), Mistakes> {
    let text = read(defaults)?;
    let new = boot::in_default_grub(&text, value).map_err(|line| {
        Mistake::new(format!(
            "{}:{line}: this takes a shell to understand and is not edited; put crashkernel={value} into \
             GRUB_CMDLINE_LINUX there by hand, and have the menu made anew (update-grub, grub2-mkconfig)",
            defaults.display()
        ))
    })?;
    Ok(write(defaults, &new)?)
}

/// The files that grub reads behind `/etc/default/grub`, as far as they set `crashkernel=`.
fn setting_it_too(folder: &Path) -> Result<Vec<PathBuf>, Mistake> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "cfg"))
        .collect();
    files.sort();
    let mut setting = Vec::new();
    for file in files {
        if boot::sets_crashkernel(&read(&file)?) {
            setting.push(file);
        }
    }
    Ok(setting)
}

fn in_entries(
    folder: &Path,
    kernels: &Kernels,
    value: &str,
    release: &str,
) -> Result<String, Mistakes> {
    let mut changed = Vec::new();
    let files = fs::read_dir(folder)
        .map_err(|error| Mistake::new(format!("reading {}: {error}", folder.display())))?;
    for file in files.flatten().map(|entry| entry.path()) {
        if file.extension().is_none_or(|extension| extension != "conf") {
            continue;
        }
        let text = read(&file)?;
        let is_meant = match kernels {
            Kernels::All => true,
            Kernels::Running => boot::entry_value(&text, "version") == Some(release),
            Kernels::One(kernel) => {
                boot::entry_value(&text, "linux").is_some_and(|linux| kernel.ends_with(linux))
            }
        };
        if is_meant {
            write(&file, &boot::in_entry(&text, value))?;
            changed.push(file.display().to_string());
        }
    }
    if changed.is_empty() {
        return Err(Mistake::new(format!(
            "no entry in {} is for that kernel; --kernel=ALL changes all of them",
            folder.display()
        ))
        .into());
    }
    Ok(format!("{} have crashkernel={value}", changed.join(", ")))
}

fn read(path: &Path) -> Result<String, Mistake> {
    fs::read_to_string(path)
        .map_err(|error| Mistake::new(format!("reading {}: {error}", path.display())))
}

/// Through another name, so that a machine that loses its power has the one or the other.
fn write(path: &Path, text: &str) -> Result<(), Mistake> {
    let failed = |error| Mistake::new(format!("writing {}: {error}", path.display()));
    let new = path.with_extension("kdumpctl-new");
    fs::write(&new, text)
        .and_then(|()| fs::set_permissions(&new, fs::metadata(path)?.permissions()))
        .and_then(|()| fs::File::open(&new)?.sync_all())
        .and_then(|()| fs::rename(&new, path))
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_that_is_built_for_has_a_default() {
        assert_eq!(
            default_for("x86_64"),
            Some("1G-2G:128M,2G-64G:256M,64G-:512M")
        );
        assert_eq!(default_for("vax"), None);
    }

    #[test]
    fn the_entries_of_the_kernels_that_are_meant_are_changed() {
        let folder = std::env::temp_dir().join(format!("kdumpctl-entries-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let entry = |release: &str| {
            format!(
                "title Linux\nversion {release}\nlinux /vmlinuz-{release}\noptions root=/dev/vda ro\n"
            )
        };
        let reset = || {
            for release in ["6.1", "6.2"] {
                fs::write(folder.join(format!("{release}.conf")), entry(release)).unwrap();
            }
        };
        let count = || {
            ["6.1", "6.2"].map(|release| {
                read(&folder.join(format!("{release}.conf")))
                    .unwrap()
                    .contains(" crashkernel=256M\n")
            })
        };
        for (kernels, expected) in [
            (Kernels::Running, [true, false]),
            (Kernels::One("/boot/vmlinuz-6.2".to_owned()), [false, true]),
            (Kernels::All, [true, true]),
        ] {
            reset();
            in_entries(&folder, &kernels, "256M", "6.1").unwrap();
            assert_eq!(count(), expected, "{kernels:?}");
        }
        assert!(in_entries(&folder, &Kernels::Running, "256M", "7").is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        fs::remove_dir_all(&folder).unwrap();
    }

    /// A root file system with these files.
    fn root(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("kdumpctl-{name}-{}", std::process::id()));
        for (file, text) in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn all_kernels_are_those_of_later_too() {
        let entry = "title Linux\nversion 6.1\nlinux /vmlinuz-6.1\noptions ro\n";
        let root = root(
            "later",
            &[
                ("boot/loader/entries/a.conf", entry),
                ("etc/kernel/cmdline", "ro quiet\n"),
                ("etc/default/grub", "GRUB_CMDLINE_LINUX=\"quiet\" # words\n"),
            ],
        );
        let texts = || {
            [
                "boot/loader/entries/a.conf",
                "etc/kernel/cmdline",
                "etc/default/grub",
            ]
            .map(|file| read(&root.join(file)).unwrap().contains("crashkernel=1M"))
        };
        let one = Kernels::One("/boot/vmlinuz-6.1".to_owned());
        assert!(matches!(
            set(&root, &one, "1M", "6.1"),
            Ok(Done::Changed(_))
        ));
        assert_eq!(texts(), [true, false, false]);
        let Ok(Done::Changed(said)) = set(&root, &Kernels::All, "1M", "6.1") else {
            panic!("nothing was changed");
        };
        assert_eq!(texts(), [true, true, true], "{said}");
        assert!(said.contains("etc/kernel/cmdline"), "{said}");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn files_that_are_not_edited_are_named_with_what_belongs_in_them() {
        let root = root(
            "by-hand",
            &[
                ("boot/grub/grub.conf", "kernel /vmlinuz ro\n"),
                ("etc/yaboot.conf", "append=\"quiet\"\n"),
            ],
        );
        let before = read(&root.join("etc/yaboot.conf")).unwrap();
        let Ok(Done::ByHand(said)) = set(&root, &Kernels::All, "1M", "6.1") else {
            panic!("something was changed");
        };
        for part in [
            "grub.conf is not edited",
            "line 1: kernel /vmlinuz ro crashkernel=1M",
            "append=\"quiet crashkernel=1M\"",
            "run ybin",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(read(&root.join("etc/yaboot.conf")).unwrap(), before);
        fs::create_dir_all(root.join("run")).unwrap();
        fs::write(root.join("run/ostree-booted"), "").unwrap();
        let said = set(&root, &Kernels::All, "1M", "6.1").unwrap();
        assert!(matches!(said, Done::ByHand(said) if said.contains("rpm-ostree kargs")));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_line_for_a_shell_and_a_later_file_of_grub_are_pointed_at() {
        let root = root(
            "grub",
            &[
                (
                    "etc/default/grub",
                    "GRUB_TIMEOUT=1\nGRUB_CMDLINE_LINUX=\"a \\\nb\"\n",
                ),
                ("etc/default/grub.d/a.cfg", "X=1\n"),
                (
                    "etc/default/grub.d/kdump-tools.cfg",
                    "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT crashkernel=384M-:128M\"\n",
                ),
            ],
        );
        let error = set(&root, &Kernels::All, "1M", "6.1").unwrap_err();
        assert!(
            error.to_string().contains("etc/default/grub:2: "),
            "{error}"
        );
        assert_eq!(
            setting_it_too(&root.join("etc/default/grub.d")).unwrap(),
            [root.join("etc/default/grub.d/kdump-tools.cfg")]
        );
        assert_eq!(
            setting_it_too(&root.join("none")).unwrap(),
            Vec::<PathBuf>::new()
        );
        fs::remove_dir_all(&root).unwrap();
    }
}
