// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds what the tests need on this machine, and installs or fetches what is missing.
//!
//! Programs come from the distribution's packages. Kernels are downloaded and unpacked below a cache folder, never
//! installed. Several test processes may ask at once: a lock file makes them take turns, and everything is renamed to
//! its final name when it is whole.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

use crate::run::{run, stdout};

/// Programs that the harness calls, and the Debian package that has each.
const PROGRAMS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-system-aarch64", "qemu-system-arm"),
    ("qemu-aarch64", "qemu-user"),
    ("busybox", "busybox-static"),
    ("mkfs.ext4", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("mkfs.vfat", "dosfstools"),
    ("mkfs.exfat", "exfatprogs"),
    ("mkfs.minix", "util-linux"),
    ("tar", "tar"),
    ("sgdisk", "gdisk"),
    ("sfdisk", "fdisk"),
    ("modprobe", "kmod"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("makedumpfile", "makedumpfile"),
    ("crash", "crash"),
    ("setpriv", "util-linux"),
    ("nsenter", "util-linux"),
    ("ip", "iproute2"),
    ("bash", "bash"),
    ("zsh", "zsh"),
    ("rpcbind", "rpcbind"),
    ("ganesha.nfsd", "nfs-ganesha"),
    ("ganesha.nfsd", "nfs-ganesha-vfs"),
    ("python3", "python3"),
    ("sshd", "openssh-server"),
    ("ssh-keygen", "openssh-client"),
    ("dropbear", "dropbear-bin"),
    ("cc", "gcc"),
    // The module that crashes is built by it.
    ("make", "make"),
    ("strip", "binutils"),
    ("rpmbuild", "rpm"),
    ("debootstrap", "debootstrap"),
    ("unshare", "util-linux"),
    ("age", "age"),
    ("age-keygen", "age"),
    // libFuzzer is C++.
    ("c++", "g++"),
];

/// A kernel of the distribution, by the metapackage that always names the newest release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// 6.1 for virtual machines: ext4 and NVMe built in, no AHCI.
    Cloud6_1,
    /// 6.1 for any machine: all drivers as modules.
    Generic6_1,
    /// 6.12 for virtual machines; its modules are compressed.
    Cloud6_12,
    /// 6.12 for any machine.
    Generic6_12,
}

impl Flavour {
    /// Every flavour.
    pub const ALL: [Self; 4] = [
        Self::Cloud6_1,
        Self::Generic6_1,
        Self::Cloud6_12,
        Self::Generic6_12,
    ];

    /// The word that the commands take.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cloud6_1 => "6.1",
            Self::Generic6_1 => "6.1-generic",
            Self::Cloud6_12 => "6.12",
            Self::Generic6_12 => "6.12-generic",
        }
    }

    /// The flavour that `word` names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flavour| flavour.word() == word)
    }

    /// The package that depends on the newest release.
    const fn metapackage(self) -> &'static str {
        match self {
            Self::Cloud6_1 => "linux-image-cloud-amd64",
            Self::Generic6_1 => "linux-image-amd64",
            Self::Cloud6_12 => "linux-image-6.12-cloud-amd64",
            Self::Generic6_12 => "linux-image-6.12-amd64",
        }
    }

    /// What a release of this flavour begins with.
    const fn series(self) -> &'static str {
        match self {
            Self::Cloud6_1 | Self::Generic6_1 => "6.1.",
            Self::Cloud6_12 | Self::Generic6_12 => "6.12.",
        }
    }
}

/// A kernel, unpacked in the cache.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Which one it is.
    pub flavour: Flavour,
    /// What `uname -r` says in it.
    pub release: String,
    /// The folder that has `boot` and `lib/modules`.
    pub root: PathBuf,
}

impl Kernel {
    /// The bootable image.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.root
            .join("boot")
            .join(format!("vmlinuz-{}", self.release))
    }

    /// The modules, as `/lib/modules/RELEASE` would be.
    #[must_use]
    pub fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }
}

/// Where kernels, symbols and helpers are kept: `KDUMPRD_CACHE`, else `kdumprd` below the user's cache folder.
///
/// # Errors
/// No home folder is known, or the cache cannot be made.
pub fn cache() -> Result<PathBuf> {
    let path = match (
        env::var_os("KDUMPRD_CACHE"),
        env::var_os("XDG_CACHE_HOME"),
        env::var_os("HOME"),
    ) {
        (Some(path), _, _) => PathBuf::from(path),
        (None, Some(caches), _) => Path::new(&caches).join("kdumprd"),
        (None, None, Some(home)) => Path::new(&home).join(".cache/kdumprd"),
        (None, None, None) => bail!("no place for the cache: set KDUMPRD_CACHE to a folder"),
    };
    fs::create_dir_all(&path).with_context(|| format!("making the cache {}", path.display()))?;
    Ok(path)
}

/// Holds the cache for this process until it is dropped.
pub(crate) fn lock_cache(name: &str) -> Result<File> {
    let path = cache()?.join(name);
    let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
    file.lock()
        .with_context(|| format!("waiting for {}", path.display()))?;
    Ok(file)
}

/// Finds a program, also in the folders that only root has in its path.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// A command for one of the programs that [`ready`] provides.
///
/// # Errors
/// The program is missing and could not be installed.
pub fn program(name: &str) -> Result<Command> {
    ready()?;
    let path = find_program(name).with_context(|| format!("{name} is not installed"))?;
    Ok(Command::new(path))
}

/// The statically linked busybox, which the guests use as their shell.
///
/// # Errors
/// As [`program`].
pub fn busybox() -> Result<PathBuf> {
    ready()?;
    static_busybox().context("busybox is not installed, or not a static one")
}

fn static_busybox() -> Option<PathBuf> {
    let path = find_program("busybox")?;
    let bytes = fs::read(&path).ok()?;
    let interpreter = b"/ld-linux";
    let dynamic = bytes
        .windows(interpreter.len())
        .any(|window| window == interpreter);
    (!dynamic).then_some(path)
}

fn python_has_venv() -> bool {
    python().is_some_and(|python| {
        run(Command::new(python).args(["-c", "import venv, ensurepip"])).is_ok()
    })
}

/// The distribution's python when there is one: its `venv` is what the packages provide.
fn python() -> Option<PathBuf> {
    let distribution = PathBuf::from("/usr/bin/python3");
    if distribution.is_file() {
        Some(distribution)
    } else {
        find_program("python3")
    }
}

/// Makes sure that every program of the harness is there, installing packages where that is possible. Does its work
/// once a process.
///
/// # Errors
/// Which packages are missing, and why they could not be installed.
pub fn ready() -> Result<()> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| install_missing().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|message| anyhow!(message))
}

fn missing_packages() -> Vec<&'static str> {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| match *program {
            "busybox" => static_busybox().is_none(),
            name => find_program(name).is_none(),
        })
        .map(|&(_, package)| package)
        .collect();
    if !python_has_venv() {
        packages.push("python3-venv");
    }
    packages.dedup();
    packages
}

fn install_missing() -> Result<()> {
    if missing_packages().is_empty() {
        return Ok(());
    }
    let _lock = lock_cache("packages.lock")?;
    // Another process may have installed them while this one waited.
    let missing = missing_packages();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let Some(apt) = find_program("apt-get") else {
        bail!("missing programs; Debian's packages that have them: {list}");
    };
    let mut prefix = Vec::new();
    if run(Command::new("id").arg("-u"))?.stdout != b"0\n" {
        let sudo = find_program("sudo")
            .filter(|sudo| run(Command::new(sudo).args(["-n", "true"])).is_ok())
            .with_context(|| {
                format!("missing packages; as root: apt-get update && apt-get install {list}")
            })?;
        prefix.push(sudo);
    }
    let apt_get = |arguments: &[&str]| {
        let mut command = match prefix.first() {
            Some(sudo) => {
                let mut command = Command::new(sudo);
                command.arg("DEBIAN_FRONTEND=noninteractive").arg(&apt);
                command
            }
            None => Command::new(&apt),
        };
        command.env("DEBIAN_FRONTEND", "noninteractive");
        run(command.arg("-q").args(arguments))
    };
    eprintln!("setup: installing {list}");
    apt_get(&["update"]).context("bringing apt's lists up to date")?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(&missing);
    apt_get(&arguments).with_context(|| format!("installing {list}"))?;
    let still = missing_packages();
    if !still.is_empty() {
        bail!("installed, and yet missing: {}", still.join(" "));
    }
    Ok(())
}

/// The kernel of this flavour, fetched into the cache when it is not there yet.
///
/// # Errors
/// The distribution does not have it, or it cannot be downloaded or unpacked.
pub fn kernel(flavour: Flavour) -> Result<Kernel> {
    ready()?;
    let _lock = lock_cache("kernels.lock")?;
    let kernels = cache()?.join("kernels");
    fs::create_dir_all(&kernels)?;
    let name_file = kernels.join(flavour.metapackage());
    let release = match fs::read_to_string(&name_file) {
        Ok(release) => release.trim().to_owned(),
        Err(_) => {
            let release = newest_release(flavour)?;
            replace(&name_file, release.as_bytes())?;
            release
        }
    };
    let root = kernels.join(&release);
    if !root.is_dir() {
        eprintln!("setup: fetching kernel {release}");
        let partial = kernels.join(format!("{release}.partial"));
        fetch_kernel(&release, &partial)
            .with_context(|| format!("fetching linux-image-{release}"))?;
        fs::rename(&partial, &root)?;
    }
    Ok(Kernel {
        flavour,
        release,
        root,
    })
}

/// The release that the metapackage depends on today.
fn newest_release(flavour: Flavour) -> Result<String> {
    let metapackage = flavour.metapackage();
    let look_up = || -> Result<Option<String>> {
        let text = stdout(program("apt-cache")?.args(["depends", metapackage])).unwrap_or_default();
        Ok(text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
            .map(|release| release.trim_end_matches("-unsigned").to_owned())
            .find(|release| release.starts_with(flavour.series())))
    };
    if let Some(release) = look_up()? {
        return Ok(release);
    }
    // A machine whose lists were never fetched knows no package.
    let _ = run(program("apt-get")?.args(["-q", "update"]));
    look_up()?.with_context(|| {
        format!(
            "no package {metapackage} with a {}x kernel in apt's lists; the tests use Debian 12's kernels",
            flavour.series()
        )
    })
}

/// Downloads the package and unpacks it into `partial`.
fn fetch_kernel(release: &str, partial: &Path) -> Result<()> {
    start_afresh(partial)?;
    let deb = download(&format!("linux-image-{release}"), partial)?;
    run(Command::new("dpkg").arg("-x").arg(&deb).arg(partial))?;
    fs::remove_file(&deb)?;
    run(program("depmod")?.arg("-b").arg(partial).arg(release))?;
    Ok(())
}

/// Downloads one package into `folder` and returns its file.
pub(crate) fn download(package: &str, folder: &Path) -> Result<PathBuf> {
    let before = |path: &Path| path.extension().is_some_and(|extension| extension == "deb");
    // The sandbox user of apt cannot write to a folder of root's.
    run(program("apt-get")?
        .args(["-q", "-o", "APT::Sandbox::User=root", "download", package])
        .current_dir(folder))?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if before(&path) {
            return Ok(path);
        }
    }
    bail!("apt-get download {package} left no file")
}

/// The program that waits for a node's word that it is dumping: Debian's, downloaded and not installed.
///
/// # Errors
/// The package cannot be downloaded or unpacked.
pub fn fence_kdump() -> Result<PathBuf> {
    let folder = cache()?.join("fence-agents");
    let program = folder.join("usr/sbin/fence_kdump");
    if !program.exists() {
        start_afresh(&folder)?;
        let deb = download("fence-agents", &folder)?;
        run(Command::new("dpkg").arg("-x").arg(&deb).arg(&folder))?;
        fs::remove_file(&deb)?;
    }
    Ok(program)
}

/// The kernel's symbols and types, for the readers that need them; fetched when they are not there yet.
///
/// # Errors
/// As [`kernel`]. The packages have several hundred megabytes.
pub fn vmlinux(kernel: &Kernel) -> Result<PathBuf> {
    let _lock = lock_cache("kernels.lock")?;
    let release = &kernel.release;
    let folder = cache()?.join("symbols");
    fs::create_dir_all(&folder)?;
    let whole = folder.join(format!("vmlinux-{release}"));
    if whole.is_file() {
        return Ok(whole);
    }
    eprintln!("setup: fetching the symbols of {release}");
    let partial = folder.join(format!("{release}.partial"));
    start_afresh(&partial)?;
    let deb = download(&format!("linux-image-{release}-dbg"), &partial)?;
    // Only the kernel's own file is taken out; the modules' would be gigabytes.
    let member = format!("./usr/lib/debug/boot/vmlinux-{release}");
    let unpack = "set -e; dpkg --fsys-tarfile \"$1\" | tar -x -C \"$2\" \"$3\"";
    run(Command::new("bash")
        .args(["-o", "pipefail", "-c", unpack, "unpack"])
        .arg(&deb)
        .arg(&partial)
        .arg(&member))?;
    fs::rename(partial.join(&member), &whole)?;
    fs::remove_dir_all(&partial)?;
    Ok(whole)
}

/// Whether [`vmlinux`] has nothing to fetch.
///
/// # Errors
/// There is no place for the cache.
pub fn has_vmlinux(kernel: &Kernel) -> Result<bool> {
    let name = format!("symbols/vmlinux-{}", kernel.release);
    Ok(cache()?.join(name).is_file())
}

/// A python that has drgn, in a virtual environment of the cache.
///
/// # Errors
/// The environment cannot be made, or the package cannot be fetched.
pub fn drgn_python() -> Result<PathBuf> {
    ready()?;
    let _lock = lock_cache("drgn.lock")?;
    let folder = cache()?.join("drgn");
    let python_inside = folder.join("bin/python3");
    let stamp = folder.join("complete");
    if stamp.is_file() {
        return Ok(python_inside);
    }
    eprintln!("setup: fetching drgn");
    start_afresh(&folder)?;
    let python = python().context("python3 is not installed")?;
    run(Command::new(python).args(["-m", "venv"]).arg(&folder))?;
    // A wheel brings libkdumpfile along; a build from source would not.
    run(Command::new(&python_inside).args([
        "-m",
        "pip",
        "install",
        "-q",
        "--only-binary",
        ":all:",
        "drgn",
    ]))?;
    replace(&stamp, b"")?;
    Ok(python_inside)
}

/// A cargo subcommand, from the path or else built into the cache.
///
/// # Errors
/// It cannot be built.
pub fn cargo_tool(name: &str) -> Result<PathBuf> {
    if let Some(path) = find_program(name) {
        return Ok(path);
    }
    let _lock = lock_cache("cargo-tools.lock")?;
    let root = cache()?.join("cargo-tools");
    let path = root.join("bin").join(name);
    if !path.is_file() {
        eprintln!("setup: building {name}");
        // `cargo install` puts the file in place when it is whole.
        run(Command::new(cargo())
            .args(["install", "--locked", "-q", "--root"])
            .arg(&root)
            .arg(name))?;
    }
    Ok(path)
}

/// The cargo that runs us, or the one in the path.
#[must_use]
pub fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// An empty folder of this name.
pub(crate) fn start_afresh(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("emptying {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))
}

/// Writes a file so that it is there whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, bytes)
        .and_then(|()| fs::rename(&partial, path))
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flavour_has_its_own_word_and_package() {
        for flavour in Flavour::ALL {
            assert_eq!(Flavour::from_word(flavour.word()), Some(flavour));
            let same = Flavour::ALL
                .into_iter()
                .filter(|other| other.metapackage() == flavour.metapackage());
            assert_eq!(same.count(), 1);
        }
        assert_eq!(Flavour::from_word("5.10"), None);
    }

    #[test]
    fn a_program_that_does_not_exist_is_not_found() {
        assert_eq!(find_program("no-program-has-this-name"), None);
        assert!(find_program("sh").is_some());
    }
}
