// SPDX-License-Identifier: MIT OR Apache-2.0
//! Inside the virtual machine: PID 1 of its first kernel, which crashes, and later reads back what was saved.

use crate::error::Mistake;
use kexec::Purpose;
use kexec::command_line::{Capture, USUALLY_ADDED, USUALLY_REMOVED, compose};
use rustix::fs::{Mode, OFlags, mkdir, open};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module};
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// The variable that says what PID 1 is to do; the kernel hands it on from its command line.
pub(super) const VARIABLE: &str = "KDUMPRD_REHEARSAL";
/// The capture kernel.
pub(super) const KERNEL: &str = "/rehearsal/kernel";
/// The kdump image.
pub(super) const IMAGE: &str = "/rehearsal/image";
/// The modules' names in the order of loading.
pub(super) const MODULES: &str = "/rehearsal/modules.list";
/// The path of `vmcore`.
pub(super) const READER: &str = "/rehearsal/reader";
/// The secret keys of encrypted dumps, one a line; only where there are some.
pub(super) const KEYS: &str = "/rehearsal/keys";
/// Where the dump is: keys and values.
pub(super) const WHERE: &str = "/rehearsal/where";
/// A key there: the file system's type.
pub(super) const FSTYPE: &str = "fstype";
/// A key there: the options of the mount.
pub(super) const OPTIONS: &str = "options";
/// A key there: the save path.
pub(super) const PATH: &str = "path";
/// Stands there alone for a raw target.
pub(super) const RAW: &str = "raw";

/// Said first.
pub(super) const BEGUN: &str = "rehearsal: begun";
/// Said before the crash.
pub(super) const CRASHING: &str = "rehearsal: crashing";
/// Said of each dump, with its name behind it.
pub(super) const FOUND: &str = "rehearsal: found ";
/// Said with the peak of init's memory in KiB behind it.
pub(super) const PEAK: &str = "rehearsal: init's peak in KiB: ";
/// Said when everything was read back.
pub(super) const GOOD: &str = "rehearsal: good";
/// Said with the reason behind it.
pub(super) const FAILED: &str = "rehearsal: failed: ";

/// The disk of the machine.
const DISK: &str = "/dev/vda";
/// Where its file system is mounted.
const MOUNTED: &str = "/mnt";
/// How long the disk may take to be there.
const DISK_PATIENCE: Duration = Duration::from_secs(20);
/// As deep as a dump may lie below the save path, which is further than it does.
const MOST_FOLDERS: u32 = 4;

/// What PID 1 is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Load the capture kernel and crash.
    Crash,
    /// Read back what was saved.
    Check,
}

/// What this process is to do as PID 1 of a rehearsal; none for every other process.
#[must_use]
pub fn part() -> Option<Part> {
    if std::process::id() != 1 {
        return None;
    }
    match std::env::var(VARIABLE).ok()?.as_str() {
        "crash" => Some(Part::Crash),
        "check" => Some(Part::Check),
        _ => None,
    }
}

/// Where a module lies in the machine.
pub(super) fn module_path(name: &str) -> String {
    format!("/rehearsal/{name}.ko")
}

/// Does the part, and switches the machine off.
pub fn play(part: Part) -> ! {
    println!("{BEGUN}");
    let result = mount_kernel_filesystems().and_then(|()| match part {
        Part::Crash => crash(),
        Part::Check => check(),
    });
    match result {
        Ok(()) => println!("{GOOD}"),
        Err(mistake) => println!("{FAILED}{mistake}"),
    }
    rustix::fs::sync();
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    loop {
        thread::park();
    }
}

fn mount_kernel_filesystems() -> Result<(), Mistake> {
    for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        let _ = mkdir(place, Mode::from_raw_mode(0o755));
        mount(kind, place, kind, MountFlags::empty(), None)
            .map_err(|errno| Mistake::new(format!("mounting {place}: {errno}")))?;
    }
    Ok(())
}

fn crash() -> Result<(), Mistake> {
    let first = read("/proc/cmdline")?;
    // What asks for the rehearsal is not for the capture kernel.
    let first: Vec<&str> = first
        .split_whitespace()
        .filter(|word| !word.starts_with(VARIABLE))
        .collect();
    let line = compose(
        &first.join(" "),
        &Capture {
            remove: USUALLY_REMOVED,
            add: USUALLY_ADDED,
            ..Capture::default()
        },
    )
    .map_err(|error| Mistake::new(error.to_string()))?;
    kexec::load(
        Purpose::Crash,
        Path::new(KERNEL),
        Some(Path::new(IMAGE)),
        &line,
    )
    .map_err(|error| Mistake::new(format!("loading the capture kernel: {error}")))?;
    println!("{CRASHING}");
    fs::write("/proc/sysrq-trigger", "c")
        .map_err(|error| Mistake::new(format!("crashing: {error}")))?;
    Err(Mistake::new("the kernel did not crash when it was told to"))
}

fn check() -> Result<(), Mistake> {
    let none = CString::default();
    for name in read(MODULES)?.lines() {
        let loaded = open(module_path(name).as_str(), OFlags::RDONLY, Mode::empty())
            .and_then(|file| finit_module(&file, &none, 0));
        // What matters shows when the disk is missing.
        if let Err(errno) = loaded {
            println!("rehearsal: loading {name}: {errno}");
        }
    }
    let began = Instant::now();
    while !Path::new(DISK).exists() {
        if began.elapsed() > DISK_PATIENCE {
            return Err(Mistake::new(format!("there is no {DISK}")));
        }
        thread::sleep(Duration::from_millis(100));
    }
    let reader = read(READER)?;
    let keys = Some(Path::new(KEYS)).filter(|path| path.exists());
    let place = read(WHERE)?;
    let value = |key: &str| {
        place
            .lines()
            .filter_map(|line| line.split_once('='))
            .find_map(|(known, value)| (known == key).then(|| value.to_owned()))
            .unwrap_or_default()
    };
    let folder = if place.trim() == RAW {
        let folder = PathBuf::from("/recovered");
        run(Command::new(&reader).args(["save-raw", DISK]).arg(&folder))?;
        folder
    } else {
        let _ = mkdir(MOUNTED, Mode::from_raw_mode(0o755));
        let options = CString::new(value(OPTIONS))
            .map_err(|_| Mistake::new("the options of the mount have a NUL byte"))?;
        // What was encrypted is written beside it, so as to be read.
        let flags = keys.map_or(MountFlags::RDONLY, |_| MountFlags::empty());
        mount(
            DISK,
            MOUNTED,
            value(FSTYPE).as_str(),
            flags,
            options.as_c_str(),
        )
        .map_err(|errno| Mistake::new(format!("mounting {DISK}: {errno}")))?;
        Path::new(MOUNTED).join(value(PATH).trim_start_matches('/'))
    };
    verify(&folder, &reader, keys, &mut |found, peak| {
        println!("{FOUND}{found}");
        if let Some(peak) = peak {
            println!("{PEAK}{peak}");
        }
    })
}

/// Reads back every page of every dump below `folder`; `tell` hears of each, and of init's peak, in KiB. With `keys`, a file
/// with secret ones, the dumps and their logs must be encrypted.
///
/// # Errors
/// There is none, or one cannot be read.
pub(super) fn verify(
    folder: &Path,
    reader: &str,
    keys: Option<&Path>,
    tell: &mut dyn FnMut(String, Option<u64>),
) -> Result<(), Mistake> {
    let mut dumps = Vec::new();
    find_dumps(folder, MOST_FOLDERS, &mut dumps);
    if dumps.is_empty() {
        return Err(Mistake::new("there is no dump below the save path"));
    }
    dumps.sort();
    for dump in dumps {
        let opened = keys
            .map(|keys| open_sealed(&dump, reader, keys))
            .transpose()?;
        run(Command::new(reader)
            .arg("verify")
            .arg(opened.as_ref().unwrap_or(&dump)))?;
        let bytes = fs::metadata(&dump).map_or(0, |found| found.len());
        let name = dump.strip_prefix(folder).unwrap_or(&dump).display();
        let how = opened.map_or(
            "",
            |_| "its log and it encrypted to a key made for the rehearsal and opened with that, ",
        );
        tell(
            format!("{name}, {bytes} bytes, {how}every page read back"),
            dump.parent().and_then(peak),
        );
    }
    Ok(())
}

/// Makes an encrypted dump readable, and the crashed kernel's log beside it, which must have the crash; returns the dump's
/// new file.
fn open_sealed(dump: &Path, reader: &str, keys: &Path) -> Result<PathBuf, Mistake> {
    if dump.extension().is_none_or(|extension| extension != "age") {
        return Err(Mistake::new(format!(
            "{} is not encrypted, and `encrypt_to` asks for it",
            dump.display()
        )));
    }
    let opened = |sealed: &Path| {
        let opened = sealed.with_extension("opened");
        run(Command::new(reader)
            .args(["decrypt", "-i"])
            .args([keys, sealed, &opened]))
        .map(|()| opened)
    };
    let log = opened(&dump.with_file_name("vmcore-dmesg.txt.age"))?;
    let text = fs::read(&log)
        .map_err(|error| Mistake::new(format!("reading {}: {error}", log.display())))?;
    if !String::from_utf8_lossy(&text).contains("Kernel panic") {
        return Err(Mistake::new(format!(
            "{} does not have the crash",
            log.display()
        )));
    }
    opened(dump)
}

/// What init said of its own memory.
fn peak(folder: &Path) -> Option<u64> {
    let text = fs::read_to_string(folder.join("manifest.json")).ok()?;
    let manifest: serde_json::Value = serde_json::from_str(&text).ok()?;
    manifest.get("peak_memory_kib")?.as_u64()
}

/// Finished dumps, whatever they were collected with.
fn find_dumps(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if depth > 0 {
                find_dumps(&path, depth - 1, found);
            }
        } else if matches!(&*name, "vmcore" | "vmcore.flat" | "vmcore.flat.age") {
            found.push(path);
        }
    }
}

fn read(path: &str) -> Result<String, Mistake> {
    fs::read_to_string(path).map_err(|error| Mistake::new(format!("reading {path}: {error}")))
}

fn run(command: &mut Command) -> Result<(), Mistake> {
    let shown = format!("{command:?}");
    let output = command
        .output()
        .map_err(|error| Mistake::new(format!("running {shown}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last = said.trim_end().lines().next_back().unwrap_or("").trim();
    Err(Mistake::new(format!("{shown}: {}: {last}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_pid_1_has_no_part() {
        assert_eq!(part(), None);
    }

    #[test]
    fn dumps_are_found_in_their_folders_and_incomplete_ones_are_none() {
        let root = std::env::temp_dir().join(format!("rehearsal-dumps-{}", std::process::id()));
        for (folder, file) in [
            ("a", "vmcore"),
            ("b", "vmcore-incomplete"),
            ("c", "vmcore.flat"),
            ("d", "vmcore.flat.age"),
            ("c", "vmcore-dmesg.txt"),
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::write(root.join(folder).join(file), "").unwrap();
        }
        fs::write(root.join("a/manifest.json"), "{\"peak_memory_kib\": 4321}").unwrap();
        let mut found = Vec::new();
        find_dumps(&root, 1, &mut found);
        found.sort();
        let dumps = ["a/vmcore", "c/vmcore.flat", "d/vmcore.flat.age"];
        assert_eq!(found, dumps.map(|dump| root.join(dump)));
        assert_eq!(
            (peak(&root.join("a")), peak(&root.join("b"))),
            (Some(4321), None)
        );
        // A key is there, and the first of them is open to everybody.
        let keys = Some(Path::new("keys"));
        let mistake = verify(&root, "reader", keys, &mut |_, _| {}).unwrap_err();
        assert!(
            mistake.to_string().contains("a/vmcore is not encrypted"),
            "{mistake}"
        );
        fs::remove_dir_all(root).unwrap();
    }
}
