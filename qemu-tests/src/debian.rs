// SPDX-License-Identifier: MIT OR Apache-2.0
//! A Debian system with its own kdump-tools, as a guest's root file system. Packages are unpacked, never installed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::guest;
use crate::run::run;
use crate::setup::{self, Kernel, lock_cache, start_afresh};

/// kdump-tools, what it recommends, and the programs of every Debian system that its scripts call.
const PACKAGES: [&str; 14] = [
    "kdump-tools",
    "makedumpfile",
    "kexec-tools",
    "coreutils",
    "dash",
    "grep",
    "sed",
    "gzip",
    "findutils",
    "diffutils",
    "util-linux",
    "bsdutils",
    "procps",
    "hostname",
];

/// Where Debian's makedumpfile is when ours has its name.
pub const THEIRS: &str = "/usr/local/lib/makedumpfile";

/// What the system's disk is in the guest.
pub const NODE: &str = "/dev/vda";

/// What the disk and its file system need.
pub const MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "ext4"];

/// The unpacked packages; fetched when they are not there yet.
fn packages() -> Result<PathBuf> {
    setup::ready()?;
    let _lock = lock_cache("kdump-tools.lock")?;
    let root = setup::cache()?.join("kdump-tools");
    if root.is_dir() {
        return Ok(root);
    }
    eprintln!("setup: fetching Debian's kdump-tools");
    let partial = setup::cache()?.join("kdump-tools.partial");
    start_afresh(&partial)?;
    let archives = partial.join("archives");
    fs::create_dir_all(archives.join("partial"))?;
    // For apt nothing is installed, so that it fetches everything that these need.
    run(setup::program("apt-get")?
        .args(["-q", "-y", "--download-only", "--no-install-recommends"])
        .args(["-o", "Dir::State::status=/dev/null", "-o"])
        .arg(format!("Dir::Cache::archives={}", archives.display()))
        .args(["-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1"])
        .arg("install")
        .args(PACKAGES))
    .context("fetching kdump-tools and what it needs; the tests use Debian 12's packages")?;
    let tree = partial.join("root");
    // Where /bin and its like are, packages of Debian 12 leave to the system.
    for folder in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(tree.join("usr").join(folder))?;
        symlink(format!("usr/{folder}"), tree.join(folder))?;
    }
    for entry in fs::read_dir(&archives)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            unpack(&path, &tree)?;
        }
    }
    // Of no use to a guest, and most of what there is.
    for folder in ["usr/share/doc", "usr/share/man", "usr/share/locale"] {
        let _ = fs::remove_dir_all(tree.join(folder));
    }
    fs::rename(&tree, &root)?;
    fs::remove_dir_all(&partial)?;
    Ok(root)
}

/// Unpacks a package over links to folders, which `dpkg -x` would replace.
fn unpack(deb: &Path, tree: &Path) -> Result<()> {
    let script =
        "set -e; dpkg-deb --fsys-tarfile \"$1\" | tar -x --keep-directory-symlink -C \"$2\"";
    run(Command::new("bash")
        .args(["-o", "pipefail", "-c", script, "unpack"])
        .args([deb, tree]))?;
    Ok(())
}

/// The root file system of a machine with kdump-tools, as a folder at `root`. `makedumpfile` is the program that stands
/// in the place of Debian's, which is at [`THEIRS`].
///
/// # Errors
/// The packages cannot be fetched, or the folder cannot be written.
pub fn root(root: &Path, kernel: &Kernel, makedumpfile: &Path) -> Result<()> {
    run(Command::new("cp").arg("-a").arg(packages()?).arg(root))?;
    for folder in [
        "boot",
        "usr/local/lib",
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "var/crash",
        "var/lib/kdump",
        "root",
    ] {
        fs::create_dir_all(root.join(folder))?;
    }
    let release = &kernel.release;
    fs::copy(
        kernel.image(),
        root.join("boot").join(format!("vmlinuz-{release}")),
    )?;
    // What the packages' own scripts do when they are installed.
    fs::copy(
        root.join("usr/share/kdump-tools/kdump-tools.conf"),
        root.join("etc/default/kdump-tools"),
    )?;
    // Of reboot(8) there are several packages; kdump-tools needs busybox in any case.
    symlink("/bin/busybox", root.join("usr/sbin/reboot"))?;
    let kdump = root.join("var/lib/kdump");
    fs::copy(
        root.join("etc/kdump/sysctl.conf"),
        kdump.join(format!("latest_sysctls-{release}")),
    )?;
    // An image that is there is used. Making one inside the guest takes minutes, and has nothing to do with us.
    fs::write(
        kdump.join(format!("initrd.img-{release}")),
        guest::script(kernel, &MODULES, &[], &capture_script())?,
    )?;
    let place = root.join("usr/bin/makedumpfile");
    let theirs = root.join(THEIRS.trim_start_matches('/'));
    fs::rename(&place, theirs).context("moving Debian's makedumpfile")?;
    fs::copy(makedumpfile, &place)?;
    ensure!(
        root.join("usr/sbin/kdump-config").is_file(),
        "kdump-tools has no kdump-config any more"
    );
    Ok(())
}

/// Shell text that mounts the system at `/mnt`.
pub fn mount_script() -> String {
    format!(
        "mount -t ext4 {NODE} /mnt || fail \"mount {NODE}\"\n\
         for folder in proc sys dev; do mount --bind /$folder /mnt/$folder || fail \"mount $folder\"; done\n\
         mount -t tmpfs run /mnt/run\n"
    )
}

/// What systemd runs for `kdump-tools-dump.service`, without systemd. It ends with a reboot of its own.
fn capture_script() -> String {
    mount_script()
        + "say \"capture kernel: $(grep ExecStart= /mnt/lib/systemd/system/kdump-tools-dump.service)\"\n\
           chroot /mnt /etc/init.d/kdump-tools start > /dev/console 2>&1\n\
           fail \"kdump-tools came back\"\n"
}
