// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the first kernel runs: a small shell that loads the capture kernel with our `kexec`, then panics.
//!
//! Its lines go through `/dev/kmsg`: what a program prints on the console itself is lost or torn at the panic.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cpio::Cpio;
use crate::crash::{Crash, crasher};
use crate::run::stdout;
use crate::setup::{self, Kernel};

/// The harness's first line in the first kernel. What does not come so far never ran a byte of ours.
pub const UP: &str = "harness: first kernel up";
/// The capture kernel is loaded.
pub const LOADED: &str = "harness: loaded";
/// Any line that says that the first kernel could not do its part.
pub const FAILED: &str = "harness: failed: ";

/// What happens in the first kernel before the panic.
#[derive(Clone, Debug)]
pub struct FirstKernel {
    /// Modules to load, by name; what they need is added.
    pub modules: Vec<&'static str>,
    /// Shell text that runs once the modules are loaded. `say` prints a line, `fail` ends the run.
    pub prepare: String,
    /// Shell text that loads the capture kernel; none for `kexec -p` with the cycle's image.
    pub load: Option<String>,
    /// More files, by their absolute names.
    pub files: Vec<(String, Vec<u8>)>,
    /// How it panics.
    pub crash: Crash,
}

impl Default for FirstKernel {
    fn default() -> Self {
        Self {
            modules: Vec::new(),
            prepare: String::new(),
            load: None,
            files: Vec::new(),
            crash: Crash::Sysrq,
        }
    }
}

/// The folders of every guest.
const FOLDERS: [&str; 7] = ["bin", "sbin", "dev", "proc", "sys", "mnt", "harness"];

/// What every guest of the harness begins with.
const PRELUDE: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
say() { echo "<1>harness: $*" > /dev/kmsg; }
fail() { say "failed: $*"; poweroff -f; }
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
say "first kernel up"
while read -r module; do
    # crc32c-intel and its like are for processors that this one may not be.
    insmod "$module" 2> /harness/said || grep -q 'No such device' /harness/said || fail "insmod $(cat /harness/said)"
done < /harness/modules
. /harness/prepare
"#;

const LOAD: &str = r#"
/sbin/kexec -p /harness/vmlinuz --initrd=/harness/capture.img \
    --reuse-cmdline --append="$(cat /harness/cmdline)" > /harness/said 2>&1 ||
    fail "kexec -p: $? $(cat /harness/said)"
"#;

const CRASH: &str = r#"
[ "$(cat /sys/kernel/kexec_crash_loaded)" = 1 ] || fail "kexec -p said nothing, and nothing is loaded"
say "loaded"
. /harness/crash
sleep 60
fail "no panic"
"#;

/// The first kernel's initramfs.
///
/// # Errors
/// A file of it cannot be read, or the kernel does not have one of the modules.
pub fn initramfs(
    kernel: &Kernel,
    kexec: &Path,
    capture_image: &Path,
    appended: &str,
    first: &FirstKernel,
) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let load = first.load.as_deref().unwrap_or(LOAD);
    let mut cpio = worker(
        kernel,
        &first.modules,
        &first.prepare,
        &format!("{load}{CRASH}"),
    )?;
    install(&mut cpio, &first.files);
    cpio.program("sbin/kexec", &read(kexec)?);
    cpio.file("harness/crash", first.crash.script().as_bytes());
    if first.crash.needs_module() {
        cpio.file("harness/crasher.ko", &read(&crasher(kernel)?)?);
    }
    cpio.file("harness/cmdline", appended.as_bytes());
    cpio.file("harness/vmlinuz", &read(&kernel.image())?);
    cpio.file("harness/capture.img", &read(capture_image)?);
    Ok(cpio.finish())
}

/// The initramfs of a guest that loads modules, runs `script` with these programs, and switches itself off.
///
/// # Errors
/// As [`initramfs`].
pub fn script(
    kernel: &Kernel,
    modules: &[&str],
    files: &[(String, Vec<u8>)],
    script: &str,
) -> Result<Vec<u8>> {
    let mut cpio = worker(kernel, modules, script, "poweroff -f\n")?;
    for folder in ["run", "run/lock"] {
        cpio.folder(folder);
    }
    install(&mut cpio, files);
    Ok(cpio.finish())
}

/// Adds files, each of which may be run, and the folders that they lie in.
fn install(cpio: &mut Cpio, files: &[(String, Vec<u8>)]) {
    let mut folders = BTreeSet::new();
    for (name, bytes) in files {
        let name = name.trim_start_matches('/');
        for (end, _) in name.match_indices('/') {
            let folder = &name[..end];
            if !FOLDERS.contains(&folder) && folders.insert(folder) {
                cpio.folder(folder);
            }
        }
        cpio.program(name, bytes);
    }
}

fn worker(kernel: &Kernel, modules: &[&str], prepare: &str, end: &str) -> Result<Cpio> {
    let mut cpio = Cpio::new();
    for folder in FOLDERS {
        cpio.folder(folder);
    }
    cpio.device("dev/console", 5, 1);
    cpio.program("bin/busybox", &fs::read(setup::busybox()?)?);
    cpio.program("init", format!("{PRELUDE}{end}").as_bytes());
    let mut list = String::new();
    for module in load_order(kernel, modules)? {
        let name = format!("harness/{}.ko", list.lines().count());
        cpio.file(&name, &module_bytes(&module)?);
        list.push_str(&format!("/{name}\n"));
    }
    cpio.file("harness/modules", list.as_bytes());
    cpio.file("harness/prepare", prepare.as_bytes());
    Ok(cpio)
}

/// What an installed system has of its kernel: the file below `/boot`, these modules with what they need, and the lists of
/// all modules.
///
/// # Errors
/// The kernel does not have one of the modules, or a file cannot be read.
pub fn installed_kernel(kernel: &Kernel, modules: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
    let release = &kernel.release;
    let mut files = vec![(
        format!("/boot/vmlinuz-{release}"),
        fs::read(kernel.image())?,
    )];
    for entry in fs::read_dir(kernel.modules())? {
        let path = entry?.path();
        if path.is_file()
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            files.push((format!("/lib/modules/{release}/{name}"), fs::read(&path)?));
        }
    }
    for module in load_order(kernel, modules)? {
        let inside = Path::new(&module)
            .strip_prefix(&kernel.root)
            .with_context(|| format!("{module} is not below {}", kernel.root.display()))?;
        files.push((format!("/{}", inside.display()), fs::read(&module)?));
    }
    Ok(files)
}

/// The modules' files in the order that the kernel's own tool would load them in.
fn load_order(kernel: &Kernel, names: &[&str]) -> Result<Vec<String>> {
    let mut order: Vec<String> = Vec::new();
    for name in names {
        let text = stdout(
            setup::program("modprobe")?
                .arg("-d")
                .arg(&kernel.root)
                .args(["-S", &kernel.release, "--show-depends", name]),
        )
        .with_context(|| format!("the modules that {name} of {} needs", kernel.release))?;
        for line in text.lines() {
            // Lines are `insmod FILE OPTIONS`, or `builtin NAME`.
            let mut words = line.split_whitespace();
            if let (Some("insmod"), Some(file)) = (words.next(), words.next())
                && !order.iter().any(|earlier| earlier == file)
            {
                order.push(file.to_owned());
            }
        }
    }
    Ok(order)
}

/// A module as busybox can load it: uncompressed.
fn module_bytes(file: &str) -> Result<Vec<u8>> {
    let output = match file.rsplit('.').next() {
        Some("xz") => crate::run::run(setup::program("xz")?.args(["-dc", file]))?,
        Some("zst") => crate::run::run(setup::program("zstd")?.args(["-dcq", file]))?,
        _ => crate::run::run(Command::new("cat").arg(file))?,
    };
    Ok(output.stdout)
}

/// A capture image whose init only says that it lives, then reboots: what a kernel needs with nothing of ours in it.
///
/// # Errors
/// There is no static busybox.
pub fn empty_capture_image() -> Result<Vec<u8>> {
    let mut cpio = Cpio::new();
    for folder in ["bin", "dev", "proc"] {
        cpio.folder(folder);
    }
    cpio.device("dev/console", 5, 1);
    cpio.program("bin/busybox", &fs::read(setup::busybox()?)?);
    cpio.program("init", EMPTY_INIT.as_bytes());
    Ok(cpio.finish())
}

/// The line of [`empty_capture_image`].
pub const EMPTY_INIT_UP: &str = "harness: empty init up";

const EMPTY_INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
echo "<1>harness: empty init up, $(/bin/busybox grep -c ^processor /proc/cpuinfo) processors, $(/bin/busybox grep MemTotal /proc/meminfo), $(/bin/busybox grep MemFree /proc/meminfo)" > /dev/kmsg
/bin/busybox reboot -f
"#;
