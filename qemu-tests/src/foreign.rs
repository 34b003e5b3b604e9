// SPDX-License-Identifier: MIT OR Apache-2.0
//! File systems that no tool of the host reads: made by their own mkfs, read back by a guest that mounts them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::disk::blank;
use crate::errand::Errand;
use crate::run::run;
use crate::setup::{self, Kernel};

/// Makes a file system of this type that fills a new image.
///
/// # Errors
/// mkfs fails; the error has what it said.
pub fn make(image: &Path, fstype: &str, size_mib: u64) -> Result<()> {
    blank(image, size_mib)?;
    let options: &[&str] = match fstype {
        "xfs" | "btrfs" => &["-q", "-L", "dumps"],
        "vfat" => &["-n", "DUMPS"],
        "exfat" => &["-L", "dumps"],
        // The version without a limit of 64 MiB.
        "minix" => &["-3"],
        _ => &[],
    };
    run(setup::program(&format!("mkfs.{fstype}"))?
        .args(options)
        .arg(image))?;
    Ok(())
}

/// How a guest mounts a file system of this type: the modules and `mount`'s options.
fn mounted_by(fstype: &str) -> (&'static [&'static str], &'static str) {
    match fstype {
        "xfs" => (&["xfs"], "ro"),
        "btrfs" => (&["btrfs"], "ro"),
        "vfat" => (&["vfat", "nls_cp437", "nls_ascii"], "ro,umask=0077"),
        "exfat" => (&["exfat"], "ro,umask=0077"),
        "minix" => (&["minix"], "ro"),
        _ => (&[], "ro"),
    }
}

/// Copies the folder `path` out of the file system that fills `image`, as a folder of that name below `to`. Modes are kept.
///
/// # Errors
/// The file system cannot be mounted, or has no such folder.
pub fn copy_out(
    name: &str,
    kernel: &Kernel,
    image: &Path,
    fstype: &str,
    path: &str,
    to: &Path,
) -> Result<PathBuf> {
    fs::create_dir_all(to)?;
    let packed = to.join("packed.img");
    blank(&packed, 512)?;
    let (modules, options) = mounted_by(fstype);
    let script = format!(
        "mount -t {fstype} -o {options} /dev/vda /mnt || fail mount\n\
         cd \"/mnt{path}/..\" || fail \"no {path}\"\n\
         tar -cf /dev/vdb \"${{PWD}}/{last}\" 2> /harness/said || fail \"tar: $(cat /harness/said)\"\n\
         cd /\n\
         umount /mnt || fail umount\n\
         sync\n\
         say done\n",
        last = path.rsplit('/').next().unwrap_or_default(),
    );
    Errand {
        name: &format!("{name}-read-back"),
        kernel,
        modules,
        programs: &[],
        files: Vec::new(),
        script: &script,
        images: &[image, &packed],
        namespace: None,
    }
    .run()?;
    run(setup::program("tar")?
        .args(["--strip-components=1", "-xpf"])
        .arg(&packed)
        .arg("-C")
        .arg(to))
    .context("unpacking what the guest packed")?;
    fs::remove_file(&packed)?;
    let copied = to.join(path.trim_start_matches('/'));
    ensure!(copied.is_dir(), "the guest packed no {path}");
    Ok(copied)
}
