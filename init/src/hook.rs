// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs of the administrator: hooks around the dump, and collectors of his own.
//!
//! Each is a child of the attempt's child with a deadline. What it prints goes where PID 1's output goes, the console.

use crate::clock;
use crate::log;
use crate::report::Report;
use crate::supervise::{SignalName, Watched};
use crate::sys;
use crate::vmcore::error;
use config::{HookKind, Record};
use core::ffi::CStr;
use core::fmt::{self, Write as _};
use heapless::Vec;
use rustix::process::{
    Signal, WaitStatus, kill_process_group, set_parent_process_death_signal, setsid,
};

/// The longest path or argument of a program, with its final NUL.
const ARGUMENT_BYTES: usize = 320;
/// The most arguments of a program.
const MAX_ARGUMENTS: usize = 14;
/// How long a program that was sent SIGKILL may take to go.
const KILL_MS: u64 = 2000;
/// How often the caller is told that a program still runs.
const LOOK_MS: u64 = 1000;

type Argument = heapless::CString<ARGUMENT_BYTES>;

/// A program to be run, word by word.
#[derive(Default)]
pub struct Program {
    words: Vec<Argument, MAX_ARGUMENTS>,
    /// Where the dump is or is to be, for its environment.
    vmcore: Option<Argument>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// It ran longer than this many seconds, and was killed.
    Late(u32),
    /// It never started: what the kernel said.
    NotStarted(rustix::io::Errno),
    /// It has more or longer words than can be handed over.
    TooLong,
}

impl Ended {
    /// It did what was asked.
    #[must_use]
    pub fn is_good(self) -> bool {
        self == Self::Status(0)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What a shell makes of a program that is not there.
            Self::Status(NOT_FOUND) => write!(
                f,
                "exit status {NOT_FOUND}: it, or its interpreter, is not in the image"
            ),
            Self::Status(code) => write!(f, "exit status {code}"),
            Self::Signal(number) => write!(f, "killed by {}", SignalName(*number)),
            Self::Late(seconds) => write!(f, "longer than {seconds} s; killed"),
            Self::NotStarted(errno) => write!(f, "not started: {}", error(*errno)),
            Self::TooLong => write!(
                f,
                "not started: more than {MAX_ARGUMENTS} words, or one of more than {ARGUMENT_BYTES} bytes"
            ),
        }
    }
}

/// The exit status of what could not be executed.
const NOT_FOUND: i32 = 127;

fn argument(text: fmt::Arguments<'_>) -> Option<Argument> {
    let mut plain = heapless::String::<ARGUMENT_BYTES>::new();
    plain.write_fmt(text).ok()?;
    let mut argument = Argument::new();
    argument.extend_from_bytes(plain.as_bytes()).ok()?;
    Some(argument)
}

impl Program {
    /// The words of `command`, which has blanks between them.
    #[must_use]
    pub fn new(command: &str) -> Option<Self> {
        command
            .split(' ')
            .try_fold(Self::default(), |program, word| {
                program.with(format_args!("{word}"))
            })
    }

    /// A program that is one word, whatever is in it.
    #[must_use]
    pub fn file(path: &str) -> Option<Self> {
        Self::default().with(format_args!("{path}"))
    }

    /// Another word.
    #[must_use]
    pub fn with(mut self, word: fmt::Arguments<'_>) -> Option<Self> {
        self.words.push(argument(word)?).ok()?;
        Some(self)
    }

    /// `VMCORE` in its environment.
    #[must_use]
    pub fn about(mut self, vmcore: &str) -> Option<Self> {
        self.vmcore = Some(argument(format_args!("VMCORE={vmcore}"))?);
        Some(self)
    }

    /// Runs it for at most `limit_s`, and calls `still` every second.
    pub fn run(&self, limit_s: u32, still: &mut dyn FnMut()) -> Ended {
        let Some(file) = self.words.first() else {
            return Ended::TooLong;
        };
        let words: Vec<&CStr, MAX_ARGUMENTS> =
            self.words.iter().map(|word| word.as_c_str()).collect();
        let mut environment: Vec<&CStr, 4> = Vec::new();
        let _ =
            environment.push(c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let _ = environment.push(c"HOME=/");
        if let Some(vmcore) = &self.vmcore {
            let _ = environment.push(vmcore.as_c_str());
        }
        let child = sys::fork(|| {
            // Whoever waits for it may be killed; and what it starts itself is killed with its group.
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            let _ = setsid();
            let _ = sys::execve(file.as_c_str(), &words, &environment);
            u8::try_from(NOT_FOUND).unwrap_or(u8::MAX)
        });
        let pid = match child {
            Ok(pid) => pid,
            Err(errno) => return Ended::NotStarted(errno),
        };
        let watched = Watched::new(pid);
        let end_ms = clock::now_ms().saturating_add(u64::from(limit_s).saturating_mul(1000));
        loop {
            let left_ms = end_ms.saturating_sub(clock::now_ms());
            if left_ms == 0 {
                let _ = kill_process_group(pid, Signal::KILL);
                let _ = watched.wait(KILL_MS);
                return Ended::Late(limit_s);
            }
            if let Some(status) = watched.wait(left_ms.min(LOOK_MS)) {
                return ended(status);
            }
            still();
        }
    }
}

fn ended(status: Option<WaitStatus>) -> Ended {
    match status.map(|status| (status.exit_status(), status.terminating_signal())) {
        Some((Some(code), _)) => Ended::Status(code),
        Some((None, Some(number))) => Ended::Signal(number),
        _ => Ended::NotStarted(rustix::io::Errno::CHILD),
    }
}

/// Runs the hooks of these kinds in the record's order. `status` is handed over to them, `vmcore` is in their environment.
///
/// How a hook ended counts for `kdump_pre` alone.
///
/// # Errors
/// `kdump_pre` forbids the dump: how it ended.
pub fn run_all(
    record: &Record<'_>,
    kinds: &[HookKind],
    status: Option<u8>,
    vmcore: &str,
    report: &Report,
) -> Result<(), Ended> {
    for hook in record
        .hooks
        .iter()
        .filter(|hook| kinds.contains(&hook.kind))
    {
        // The time of each one counts for itself.
        report.enter(crate::report::Step::Hook, 0);
        log!("{} {}", hook.kind, hook.path);
        let program = Program::file(hook.path)
            .and_then(|program| match status {
                Some(status) => program.with(format_args!("{status}")),
                None => Some(program),
            })
            .and_then(|program| program.about(vmcore));
        let ended = program.map_or(Ended::TooLong, |program| {
            program.run(record.deadlines.hook_s, &mut || report.beat())
        });
        if ended.is_good() {
            continue;
        }
        if hook.kind == HookKind::Pre {
            return Err(ended);
        }
        log!(
            "{} {}: {ended}; next: as if it had not been",
            hook.kind,
            hook.path
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::shared_report;
    use config::record;

    fn shell(script: &str) -> Program {
        Program::file("/bin/sh")
            .and_then(|program| program.with(format_args!("-c")))
            .and_then(|program| program.with(format_args!("{script}")))
            .unwrap()
    }

    fn run(program: &Program) -> Ended {
        program.run(20, &mut || {})
    }

    #[test]
    fn how_a_program_ends_is_told() {
        for (script, expected) in [
            ("exit 0", Ended::Status(0)),
            ("exit 3", Ended::Status(3)),
            ("kill -9 $$", Ended::Signal(9)),
        ] {
            assert_eq!(run(&shell(script)), expected, "{script}");
        }
        let missing = Program::new("/nonexistent/program -v").unwrap();
        assert_eq!(
            run(&missing).to_string(),
            "exit status 127: it, or its interpreter, is not in the image"
        );
    }

    #[test]
    fn a_program_that_hangs_is_killed_and_the_caller_is_told_that_it_ran() {
        let mut told = 0;
        let ended = shell("sleep 60").run(2, &mut || told += 1);
        assert_eq!(ended, Ended::Late(2));
        assert!(told >= 1);
    }

    #[test]
    fn words_and_environment_get_there() {
        let program = shell("test \"$0 $1 $VMCORE\" = 'a b /x/vmcore'")
            .with(format_args!("a"))
            .and_then(|program| program.with(format_args!("b")))
            .and_then(|program| program.about("/x/vmcore"))
            .unwrap();
        assert!(run(&program).is_good());
        assert!(Program::new(&"x ".repeat(MAX_ARGUMENTS + 1)).is_none());
        assert!(Program::file(&"x".repeat(ARGUMENT_BYTES)).is_none());
    }

    #[test]
    fn only_kdump_pre_can_forbid_the_dump_and_it_is_the_first() {
        let report = shared_report().unwrap();
        let folder = std::env::temp_dir().join(format!("kdumprd-hooks-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let script = |name: &str, text: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            let path = folder.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let said = folder.join("said");
        let say = |word: &str| format!("echo {word} $1 >> {}", said.display());
        let text = format!(
            "kdumprd-record 1\nkernel 6.1.0\nhostname h\nzone UTC0\nfailure_action reboot\nfinal_action reboot\n\
             hook kdump_pre {}\nhook pre.d {}\nhook post.d {}\nhook kdump_post {}\nend\n",
            script(
                "pre",
                &format!(
                    "{}; exit $(cat {})",
                    say("pre"),
                    folder.join("status").display()
                )
            ),
            script("pre.d", &format!("{}; exit 9", say("pre.d"))),
            script("post.d", &format!("{}; exit 9", say("post.d"))),
            script("post", &say("post")),
        );
        let record = record::parse(&text).unwrap();
        let before = [HookKind::Pre, HookKind::PreFolder];
        std::fs::write(folder.join("status"), "0").unwrap();
        assert_eq!(run_all(&record, &before, None, "", report), Ok(()));
        let after = [HookKind::PostFolder, HookKind::Post];
        assert_eq!(run_all(&record, &after, Some(1), "", report), Ok(()));
        std::fs::write(folder.join("status"), "4").unwrap();
        assert_eq!(
            run_all(&record, &before, None, "", report),
            Err(Ended::Status(4))
        );
        assert_eq!(
            std::fs::read_to_string(&said).unwrap(),
            "pre\npre.d\npost.d 1\npost 1\npre\n"
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
