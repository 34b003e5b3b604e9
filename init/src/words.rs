// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words of the built-in shell: what a person needs before a machine that could not save its dump.
//!
//! The same words work as arguments of the program (`/init attempt 1`), for a person in busybox's shell.

use crate::attempt::{self, Job, Reason};
use crate::fault::Faults;
use crate::kernel_log;
use crate::reach::Reach;
use crate::report::Report;
use crate::sys::{self, Memory};
use crate::vmcore::{Access, error};
use collector::IoError;
use config::{DeviceId, DeviceSpec, Layers, Record};
use core::fmt::{self, Write as _};
use core::mem::MaybeUninit;
use core::time::Duration;
use heapless::Vec;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, statat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use targets::device::{self, DeviceError, Roots, Survey};

/// The most words of one line.
const MAX_WORDS: usize = 8;
/// The most bytes of one line; the terminal gives no more than 4096.
const LINE_BYTES: usize = 1024;
/// How much is copied at once.
const COPY_BYTES: usize = 64 << 10;

const HELP: &str = "\
help                              this list
status                            the attempts, why they failed, the memory
attempt N                         make attempt N again
devices                           the block devices and what is on them
mount DEVICE DIR [TYPE [OPTIONS]] mount a file system; without TYPE those that the kernel has are tried
umount DIR                        unmount it
ls [DIR]                          list a directory
cat FILE                          print a file
cp FROM TO                        copy a file, /proc/vmcore too
dmesg                             the log of this kernel
reboot, halt, poweroff            end the machine
exit                              end the shell; the final action follows
";

/// What the words work on.
pub struct Session<'a> {
    /// The record of this image.
    pub record: &'a Record<'a>,
    /// Why the attempts failed, as far as this process knows.
    pub failures: &'a [Reason],
    /// The ways of an attempt that is made again.
    pub reach: &'static Reach,
    /// Where an attempt that is made again reports.
    pub report: &'a Report,
}

/// Reads lines from standard input until `exit` or its end.
pub fn interactive(session: &Session<'_>) -> u8 {
    // Ctrl-C ends the word that runs, which is a child with no signal blocked, and not the shell.
    sys::block_signals();
    let mut line = [0; LINE_BYTES];
    loop {
        print(format_args!("kdump> "));
        let length = match sys::read_stdin(&mut line) {
            Ok(0) => return 0,
            Ok(length) => length,
            Err(Errno::INTR) => continue,
            Err(_) => return 1,
        };
        let text = line.get(..length).unwrap_or(&[]);
        let Ok(text) = core::str::from_utf8(text) else {
            print(format_args!("not text\n"));
            continue;
        };
        let words: Vec<&str, MAX_WORDS> = text.split_ascii_whitespace().take(MAX_WORDS).collect();
        match words.first() {
            None => {}
            Some(&"exit") => return 0,
            Some(_) => match sys::fork(|| run(session, &words)) {
                Ok(pid) => {
                    let _ = waitpid(Some(pid), WaitOptions::empty());
                }
                Err(errno) => print(format_args!("no process: {}\n", error(errno))),
            },
        }
    }
}

/// Runs one line of words; the code to exit with.
pub fn run(session: &Session<'_>, words: &[&str]) -> u8 {
    let result = match *words {
        [] | ["help", ..] => {
            print(format_args!("{HELP}"));
            Ok(())
        }
        ["status"] => status(session),
        ["attempt", number] => return attempt_again(session, number),
        ["devices"] => devices(),
        ["mount", device, directory] => mount_any(device, directory),
        ["mount", device, directory, kind] => mount_as(device, directory, kind, ""),
        ["mount", device, directory, kind, options] => mount_as(device, directory, kind, options),
        ["umount", directory] => unmount(directory, UnmountFlags::empty()).map_err(error),
        ["ls"] => list("/"),
        ["ls", directory] => list(directory),
        ["cat", file] => cat(file),
        ["cp", from, to] => copy(from, to),
        ["dmesg"] => kernel_log::each_line(&mut |line| sys::write_stdout(line).map_err(error)),
        ["reboot"] => ask_pid1(Signal::TERM),
        ["halt"] => ask_pid1(Signal::USR1),
        ["poweroff"] => ask_pid1(Signal::USR2),
        [word, ..] => {
            print(format_args!(
                "{word}: not a word here, or not with these arguments; try help\n"
            ));
            return 1;
        }
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            let word = words.first().copied().unwrap_or_default();
            print(format_args!("{word}: {error}\n"));
            1
        }
    }
}

/// Prints to standard output; what cannot be printed is lost.
pub fn print(text: fmt::Arguments<'_>) {
    struct Output;
    impl fmt::Write for Output {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            sys::write_stdout(text.as_bytes()).map_err(|_| fmt::Error)
        }
    }
    let _ = Output.write_fmt(text);
}

fn status(session: &Session<'_>) -> Result<(), IoError> {
    let record = session.record;
    print(format_args!(
        "kdumprd {} for kernel {} of {}\n",
        env!("CARGO_PKG_VERSION"),
        record.kernel,
        record.hostname
    ));
    for (number, attempt) in (1_usize..).zip(&record.attempts) {
        print(format_args!("attempt {number}: {}\n", attempt.target));
        if let Some(failure) = session.failures.get(number - 1) {
            print(format_args!("  failed: {failure}\n"));
        }
    }
    if session.failures.is_empty() {
        print(format_args!(
            "why they failed: see dmesg, lines with `kdump:`\n"
        ));
    }
    print(format_args!("final action: {}\n", record.final_action));
    let mut buffer = [0; 4096];
    let memory = crate::files::read_text(c"/proc/meminfo", &mut buffer).map_err(error)?;
    for line in memory.lines().take(3) {
        print(format_args!("{line}\n"));
    }
    Ok(())
}

fn attempt_again(session: &Session<'_>, number: &str) -> u8 {
    let number = number.parse::<usize>().unwrap_or(0).wrapping_sub(1);
    let Some(attempt) = session.record.attempts.get(number) else {
        print(format_args!(
            "there are attempts 1 to {}\n",
            session.record.attempts.len()
        ));
        return 1;
    };
    let mut memory = match Memory::take(attempt::memory_bytes(session.record)) {
        Ok(memory) => memory,
        Err(errno) => {
            print(format_args!("no memory: {}\n", error(errno)));
            return 1;
        }
    };
    let job = Job {
        record: session.record,
        number,
        attempt,
        failures: &[],
        panic_line: "",
        report: session.report,
        faults: &Faults::default(),
        reach: session.reach,
        access: Access::Map,
        board: None,
    };
    let outcome = attempt::supervised(&job, memory.bytes());
    if outcome.is_done() {
        print(format_args!("saved: {}\n", outcome.text));
        0
    } else {
        print(format_args!("attempt {} failed: {outcome}\n", number + 1));
        1
    }
}

fn devices() -> Result<(), IoError> {
    // A look for what no device can be reads what is on each.
    let nothing = DeviceSpec {
        id: DeviceId::Uuid("none"),
        known_as: "",
        size_bytes: None,
        layers: Layers::NONE,
    };
    let mut survey = Survey::new();
    match device::wait(
        &nothing,
        &Roots::SYSTEM,
        Duration::ZERO,
        &mut survey,
        &mut || {},
    ) {
        Err(DeviceError::NoDeviceTree(error)) => Err(error),
        Err(DeviceError::Absent { survey, .. }) => {
            for candidate in survey.candidates() {
                print(format_args!("/dev/{candidate}\n"));
            }
            Ok(())
        }
        Err(DeviceError::Ambiguous { .. }) | Ok(_) => Ok(()),
    }
}

fn mount_as(device: &str, directory: &str, kind: &str, options: &str) -> Result<(), IoError> {
    make_directory(directory)?;
    mount_once(device, directory, kind, options).map_err(error)
}

fn mount_once(device: &str, directory: &str, kind: &str, options: &str) -> Result<(), Errno> {
    let mut data = heapless::CString::<256>::new();
    data.extend_from_bytes(options.as_bytes())
        .map_err(|_| Errno::NAMETOOLONG)?;
    mount(
        device,
        directory,
        kind,
        MountFlags::empty(),
        data.as_c_str(),
    )
}

/// Tries the types that need a device, in the kernel's order.
fn mount_any(device: &str, directory: &str) -> Result<(), IoError> {
    make_directory(directory)?;
    let mut buffer = [0; 2048];
    let kinds = crate::files::read_text(c"/proc/filesystems", &mut buffer).map_err(error)?;
    let mut last = Errno::NODEV;
    for kind in kinds.lines().filter_map(|line| line.strip_prefix('\t')) {
        match mount_once(device, directory, kind, "") {
            Ok(()) => {
                print(format_args!("mounted as {kind}\n"));
                return Ok(());
            }
            Err(errno) => last = errno,
        }
    }
    Err(error(last))
}

fn make_directory(directory: &str) -> Result<(), IoError> {
    match rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(error(errno)),
    }
}

fn list(directory: &str) -> Result<(), IoError> {
    let fd = open(directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&fd, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(error)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => "dir",
            FileType::Symlink => "link",
            FileType::BlockDevice => "block",
            FileType::CharacterDevice => "char",
            FileType::RegularFile => "file",
            _ => "other",
        };
        print(format_args!("{kind:5} {:12} ", stat.st_size));
        sys::write_stdout(name.to_bytes()).map_err(error)?;
        print(format_args!("\n"));
    }
    Ok(())
}

fn cat(file: &str) -> Result<(), IoError> {
    let from = open(file, OFlags::RDONLY)?;
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(&from, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                sys::write_stdout(buffer.get(..length).unwrap_or(&[])).map_err(error)?;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(error(errno)),
        }
    }
}

/// Copies and syncs; a file that is there already is not touched.
fn copy(from: &str, to: &str) -> Result<(), IoError> {
    let from = open(from, OFlags::RDONLY)?;
    let to = open(to, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
    let mut buffer = [0; COPY_BYTES];
    let mut total = 0_u64;
    loop {
        let length = match rustix::io::read(&from, &mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(error(errno)),
        };
        let mut rest = buffer.get(..length).unwrap_or(&[]);
        while !rest.is_empty() {
            let written = rustix::io::write(&to, rest).map_err(error)?;
            rest = rest.get(written..).unwrap_or(&[]);
        }
        total = total.saturating_add(u64::try_from(length).unwrap_or(0));
    }
    rustix::fs::fsync(&to).map_err(error)?;
    print(format_args!("{total} bytes\n"));
    Ok(())
}

fn open(path: &str, flags: OFlags) -> Result<OwnedFd, IoError> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR).map_err(error)
}

/// PID 1 knows how to end the machine in a bounded time; this process does not.
fn ask_pid1(signal: Signal) -> Result<(), IoError> {
    kill_process(Pid::INIT, signal).map_err(error)
}
