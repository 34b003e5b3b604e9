// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reservation that is made by default, and getting it onto the first kernel's command line.

use crate::boot;
use crate::run;
use initramfs_builder::error::{Mistake, Mistakes};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The default of `crashkernel=` for a kernel of this architecture with pages of 4 KiB.
///
/// Source: kdump-utils 63f248c `kdump-lib.sh`: what people who come from there have, and what other programs of the
/// capture kernel's would need. This program needs less; BENCHMARKS.md has how much.
#[must_use]
pub fn default_for(architecture: &str) -> Option<&'static str> {
    Some(match architecture {
        "x86_64" | "s390x" => "2G-64G:256M,64G-:512M",
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
    /// The boot loader is none that is known: what is to be changed by hand.
    ByHand(String),
}

/// Sets `crashkernel=` to `value` for the next start of the machine.
///
/// # Errors
/// A file cannot be written, or a program of the boot loader fails.
pub fn set(kernels: &Kernels, value: &str, release: &str) -> Result<Done, Mistakes> {
    if crate::has_program("grubby") {
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
        run(Command::new("grubby").args(arguments))?;
        return Ok(Done::Changed(format!(
            "grubby has set crashkernel={value} for {which}"
        )));
    }
    let entries = Path::new("/boot/loader/entries");
    if entries.is_dir() {
        return in_entries(entries, kernels, value, release);
    }
    let defaults = Path::new("/etc/default/grub");
    if defaults.is_file() {
        let text = read(defaults)?;
        write(defaults, &boot::in_default_grub(&text, value))?;
        if crate::has_program("update-grub") {
            run(&mut Command::new("update-grub"))?;
        } else {
            run(Command::new("grub2-mkconfig").args(["-o", "/boot/grub2/grub.cfg"]))?;
        }
        return Ok(Done::Changed(format!(
            "{} has crashkernel={value}, for every kernel",
            defaults.display()
        )));
    }
    Ok(Done::ByHand(boot::by_hand(value)))
}

fn in_entries(
    folder: &Path,
    kernels: &Kernels,
    value: &str,
    release: &str,
) -> Result<Done, Mistakes> {
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
    Ok(Done::Changed(format!(
        "{} have crashkernel={value}",
        changed.join(", ")
    )))
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
        assert_eq!(default_for("x86_64"), Some("2G-64G:256M,64G-:512M"));
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
}
