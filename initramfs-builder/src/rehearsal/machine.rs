// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtual machine: QEMU, started, listened to, and ended at its deadline.

use super::stand_in::MAC;
use crate::error::Mistake;
use crate::programs::FOLDERS;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How the machine runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acceleration {
    /// On the processor where that works, else emulated.
    #[default]
    Auto,
    /// On the processor.
    Kvm,
    /// Emulated.
    Tcg,
}

impl Acceleration {
    /// The one of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "auto" => Self::Auto,
            "kvm" => Self::Kvm,
            "tcg" => Self::Tcg,
            _ => return None,
        })
    }
}

/// How long a run may take on the processor, and emulated.
const LIMITS: [Duration; 2] = [Duration::from_secs(120), Duration::from_secs(600)];
/// How long a kernel may take to find that there is no root, where the processor runs it.
const PROBE: Duration = Duration::from_secs(15);
/// Behind its end QEMU has nothing left to do.
const REST: Duration = Duration::from_secs(5);
/// What ends every line of ours: the kernel's first console.
const CONSOLE: &str = "console=ttyS0";

/// What the machine has beside a processor, memory and a console.
#[derive(Clone, Debug)]
pub(super) enum Devices {
    /// A disk with this file's contents.
    Disk(PathBuf),
    /// A card that leads to the machine that QEMU runs on.
    Network,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The machine restarted or switched itself off.
    ByItself,
    /// Its time was over.
    Late,
    /// What it said meant that nothing would follow.
    Hopeless,
}

/// What a run said.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) ended: Ended,
    /// When, from its start on.
    pub(super) end: Duration,
    lines: Vec<(Duration, String)>,
}

impl Run {
    /// What follows `words` in the first line that has them.
    pub(super) fn line_of(&self, words: &str) -> Option<&str> {
        self.lines
            .iter()
            .find_map(|(_, line)| Some(line.split_once(words)?.1.trim()))
    }

    /// What follows `words` in each line that has them.
    pub(super) fn lines_of(&self, words: &str) -> Vec<String> {
        self.lines
            .iter()
            .filter_map(|(_, line)| Some(line.split_once(words)?.1.trim().to_owned()))
            .collect()
    }

    /// When the first line with these words came.
    pub(super) fn time_of(&self, words: &str) -> Option<Duration> {
        self.lines
            .iter()
            .find_map(|(at, line)| line.contains(words).then_some(*at))
    }

    /// Its time was over before anything of ours ran. Without the processor's help a kernel hangs now and then while it
    /// starts; that says nothing about the plan.
    pub(super) fn hung_before(&self, begin: &str) -> bool {
        self.ended == Ended::Late && self.line_of(begin).is_none()
    }

    /// Why there is no dump, by what was said last.
    pub(super) fn why_not(&self) -> String {
        if let Some(said) = self.line_of("kdump: attempt 1 of 1 failed: ") {
            return format!("the dump failed: {said}");
        }
        let is_init_there = self.line_of("kdump: init ").is_some();
        let mut crashes = self.lines.iter().filter_map(|(_, line)| crash(line));
        match (crashes.nth(1), self.ended) {
            (Some(second), _) => format!("the capture kernel crashed: {second}"),
            (_, Ended::Late) if !is_init_there => {
                "the capture kernel did not start init".to_owned()
            }
            (_, Ended::Late) => "the dump did not end in time".to_owned(),
            _ => "there is no dump".to_owned(),
        }
    }
}

/// A machine that can run this kernel.
#[derive(Debug)]
pub(super) struct Machine {
    qemu: PathBuf,
    kernel: PathBuf,
    is_accelerated: bool,
}

impl Machine {
    /// Finds QEMU, and whether the processor can run the kernel for it.
    ///
    /// # Errors
    /// There is no QEMU, no kernel, or no acceleration where it is asked for.
    pub(super) fn find(
        kernel: &Path,
        acceleration: Acceleration,
        folder: &Path,
    ) -> Result<Self, Mistake> {
        if std::env::consts::ARCH != "x86_64" {
            return Err(Mistake::new(format!(
                "rehearsals are made for x86_64 only, and this is {}",
                std::env::consts::ARCH
            )));
        }
        if !kernel.is_file() {
            return Err(Mistake::new(format!(
                "there is no kernel {}; --kernel names another",
                kernel.display()
            )));
        }
        // Red Hat's has no name of its own in the folders of programs.
        let qemu = FOLDERS
            .iter()
            .map(|folder| Path::new(folder).join("qemu-system-x86_64"))
            .chain([PathBuf::from("/usr/libexec/qemu-kvm")])
            .find(|path| path.is_file())
            .ok_or_else(no_qemu)?;
        let mut machine = Self {
            qemu,
            kernel: kernel.to_path_buf(),
            is_accelerated: false,
        };
        if acceleration != Acceleration::Tcg {
            machine.is_accelerated = true;
            let works = Path::new("/dev/kvm").exists() && machine.starts(folder)?;
            if !works && acceleration == Acceleration::Kvm {
                return Err(Mistake::new(format!(
                    "the processor does not run {} for QEMU (/dev/kvm); --accel tcg emulates one",
                    kernel.display()
                )));
            }
            machine.is_accelerated = works;
        }
        Ok(machine)
    }

    /// Whether the kernel gets as far as to miss its root. A `/dev/kvm` that is there need not work.
    fn starts(&self, folder: &Path) -> Result<bool, Mistake> {
        let mut command = self.command(256, "panic=-1");
        command.args(["-cpu", "host"]);
        let run = listen(command, PROBE, &folder.join("probe.log"))?;
        Ok(run.lines.iter().any(|(_, line)| crash(line).is_some()))
    }

    fn command(&self, memory_mib: u64, arguments: &str) -> Command {
        let mut command = Command::new(&self.qemu);
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-no-reboot", "-serial", "stdio", "-smp", "1"])
            .args(["-accel", if self.is_accelerated { "kvm" } else { "tcg" }])
            .arg("-m")
            .arg(memory_mib.to_string())
            .arg("-kernel")
            .arg(&self.kernel)
            .args(["-append", &format!("{CONSOLE} {arguments}")]);
        command
    }

    /// Runs the kernel with this image, until it ends or its time is over.
    ///
    /// # Errors
    /// QEMU does not start, or the log cannot be written.
    pub(super) fn run(
        &self,
        image: &Path,
        arguments: &str,
        memory_mib: u64,
        devices: &Devices,
        log: &Path,
    ) -> Result<Run, Mistake> {
        let mut command = self.command(memory_mib, &format!("{arguments} panic=10"));
        command
            .args(["-cpu", if self.is_accelerated { "host" } else { "max" }])
            .arg("-initrd")
            .arg(image);
        match devices {
            Devices::Disk(file) => {
                // A comma in a name is written twice.
                let file = file.display().to_string().replace(',', ",,");
                command
                    .args(["-device", "virtio-blk-pci,drive=target", "-drive"])
                    .arg(format!("file={file},if=none,id=target,format=raw"));
            }
            Devices::Network => {
                command
                    .args(["-netdev", "user,id=way", "-device"])
                    .arg(format!("virtio-net-pci,netdev=way,mac={MAC},romfile="));
            }
        }
        let [fast, slow] = LIMITS;
        listen(command, if self.is_accelerated { fast } else { slow }, log)
    }
}

fn no_qemu() -> Mistake {
    Mistake::new(
        "there is no QEMU, in which the crash is rehearsed; install it (Debian: qemu-system-x86, Fedora and RHEL: qemu-kvm)",
    )
}

/// Runs QEMU and takes down what the machine says.
fn listen(mut command: Command, limit: Duration, log: &Path) -> Result<Run, Mistake> {
    let failed = |error: std::io::Error| Mistake::new(format!("running QEMU: {error}"));
    let mut file = File::create(log)
        .map_err(|error| Mistake::new(format!("making {}: {error}", log.display())))?;
    let errors = file.try_clone().map_err(failed)?;
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .map_err(failed)?;
    let Some(output) = child.stdout.take() else {
        return Err(Mistake::new("running QEMU: it has no output"));
    };
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut bytes = Vec::new();
        while let Ok(1..) = output.read_until(b'\n', &mut bytes) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            if sender.send((began.elapsed(), line)).is_err() {
                return;
            }
        }
    });
    let mut lines: Vec<(Duration, String)> = Vec::new();
    let mut until = began + limit;
    let mut ended = Ended::Late;
    loop {
        match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok((at, line)) => {
                // A log that cannot be written must not end the run that it is of.
                let _ = writeln!(file, "{:9.3} {line}", at.as_secs_f64());
                if is_hopeless(&line, &lines) {
                    ended = Ended::Hopeless;
                    until = until.min(Instant::now() + REST);
                }
                lines.push((at, line));
            }
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => {
                if ended == Ended::Late {
                    ended = Ended::ByItself;
                }
                break;
            }
        }
    }
    let end = began.elapsed();
    // It may be gone already.
    let _ = child.kill();
    let _ = child.wait();
    Ok(Run { ended, end, lines })
}

/// A second crash is the capture kernel's: nothing follows but the wait for the restart.
fn is_hopeless(line: &str, before: &[(Duration, String)]) -> bool {
    crash(line).is_some() && before.iter().any(|(_, line)| crash(line).is_some())
}

/// Why a kernel crashes that says so in this line. init repeats what the first one said.
fn crash(line: &str) -> Option<&str> {
    let (before, why) = line.split_once("Kernel panic - not syncing: ")?;
    (!before.contains("kdump: ")).then_some(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, limit: Duration) -> Run {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let log = std::env::temp_dir().join(format!(
            "rehearsal-{}-{:?}.log",
            std::process::id(),
            thread::current().id()
        ));
        let run = listen(command, limit, &log).unwrap();
        std::fs::remove_file(log).unwrap();
        run
    }

    #[test]
    fn what_is_said_is_found_and_a_machine_that_ends_has_ended_by_itself() {
        let run = run(
            "echo 'x rehearsal: found a'; echo 'rehearsal: found b'",
            REST,
        );
        assert_eq!(run.ended, Ended::ByItself);
        assert_eq!(run.line_of("rehearsal: found "), Some("a"));
        assert_eq!(run.lines_of("rehearsal: found "), ["a", "b"]);
        assert!(run.time_of("found b").is_some() && run.time_of("found c").is_none());
    }

    #[test]
    fn a_machine_that_hangs_is_ended() {
        let run = run("echo begun; exec sleep 60", Duration::from_millis(300));
        assert_eq!(run.ended, Ended::Late);
        assert!(run.end < Duration::from_secs(30), "{:?}", run.end);
        assert_eq!(run.why_not(), "the capture kernel did not start init");
        assert!(run.hung_before("rehearsal: ") && !run.hung_before("begun"));
    }

    #[test]
    fn the_second_crash_is_the_capture_kernels() {
        let run = run(
            "echo 'Kernel panic - not syncing: one'; echo 'kdump: crashed kernel: Kernel panic - not syncing: one'; echo 'Kernel panic - not syncing: two'; exec sleep 60",
            Duration::from_secs(60),
        );
        assert_eq!(run.ended, Ended::Hopeless);
        assert_eq!(run.why_not(), "the capture kernel crashed: two");
        assert!(run.end < Duration::from_secs(30), "{:?}", run.end);
    }
}
