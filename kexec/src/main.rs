// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `kexec`: the options of kexec-tools that load, drop and start kernels.
#![forbid(unsafe_code)]

use kexec::Purpose;
use kexec::command_line::{Capture, boot_apicid, compose, for_restart, watchdog_drivers};
use lexopt::prelude::*;
use manual::completion::{Shell, script};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
Usage: kexec -p KERNEL --initrd=IMAGE [--reuse-cmdline] [--append=TEXT | --command-line=TEXT]
       kexec -l KERNEL [--initrd=IMAGE] [--reuse-cmdline] [--append=TEXT | --command-line=TEXT]
       kexec -e
       kexec [-l | -p] -u
       kexec [-l | -p] -S

Loads a capture kernel (-p) into the memory that crashkernel= reserved, or the kernel that -e starts (-l), with
kexec_file_load(2).

  -p, --load-panic          load for the case of a crash
  -l, --load                load for -e
  -e, --exec                start what -l loaded, at once: nothing that runs is asked to end before, disks are synced
  -u, --unload              drop what is loaded: with -p the capture kernel
  -S, --status              is a kernel loaded? the capture kernel without -l; exit status 1 for yes and 0 for no
      --initrd=IMAGE        its initramfs; for -p as mkkdumprd wrote it (also --ramdisk)
      --command-line=TEXT   its command line (also --append)
      --reuse-cmdline       make the command line from /proc/cmdline. With -p: without what a capture kernel must not get,
                            with nr_cpus=1, reset_devices, panic=10 and so on; the text of --append comes last and wins
  -d, --debug               print the command line
  -s, --kexec-file-syscall  taken for kexec-tools' sake: there is no other way here
  -c, --kexec-syscall       taken too, with a warning
  -a, --kexec-syscall-auto  taken too
  -h, --help                this text
      --man                 this text as a manual page, in roff
      --completion bash|zsh
                            what has that shell complete the words of this command
  -V, --version             the version

Exit status: 0 done, 1 refused or failed, 2 wrong usage; of -S as it says.
";

#[derive(Debug)]
enum Command {
    Help,
    Manual,
    Completion(Shell),
    Version,
    Execute,
    Unload(Purpose),
    Status(Purpose),
    Load(Load),
}

#[derive(Debug)]
struct Load {
    purpose: Purpose,
    kernel: PathBuf,
    image: Option<PathBuf>,
    text: Option<String>,
    reuse: bool,
    show: bool,
    old_call: bool,
}

fn main() -> ExitCode {
    let command = match parse(lexopt::Parser::from_env()) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("kexec: {error}; see kexec --help");
            return ExitCode::from(2);
        }
    };
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kexec: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Box<dyn std::error::Error>> {
    match command {
        Command::Help => print(HELP),
        Command::Manual => print(&manual::page("kexec", "load, drop and start kernels", HELP)),
        Command::Completion(shell) => print(&script(shell, "kexec", HELP)),
        Command::Version => println!("kexec (kdumprd) {}", env!("CARGO_PKG_VERSION")),
        Command::Execute => match kexec::execute()? {},
        Command::Unload(purpose) => kexec::unload(purpose)?,
        Command::Status(purpose) => {
            // Source: kexec-tools 2.0.25 `kexec/kexec.8`: 1 is yes.
            return Ok(ExitCode::from(u8::from(kexec::is_loaded(purpose)?)));
        }
        Command::Load(load) => {
            if load.old_call {
                eprintln!(
                    "kexec: warning: -c asks for kexec_load(2), which is not supported; loading with kexec_file_load(2)"
                );
            }
            let line = command_line(&load)?;
            if load.show {
                eprintln!("kexec: command line: {line}");
            }
            kexec::load(load.purpose, &load.kernel, load.image.as_deref(), &line)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// That nobody reads on, as behind `head`, is no failure.
fn print(text: &str) {
    let _gone = io::stdout().write_all(text.as_bytes());
}

fn command_line(load: &Load) -> Result<String, Box<dyn std::error::Error>> {
    let text = load.text.as_deref().unwrap_or_default();
    if !load.reuse {
        return Ok(text.to_owned());
    }
    let read =
        |path: &str| fs::read_to_string(path).map_err(|error| format!("reading {path}: {error}"));
    let first = read("/proc/cmdline")?;
    Ok(match load.purpose {
        Purpose::Restart => for_restart(&first, text)?,
        Purpose::Crash => compose(
            &first,
            &Capture {
                boot_apicid: boot_apicid(&read("/proc/cpuinfo")?),
                watchdogs: &watchdog_drivers(Path::new("/sys")),
                append: text,
                ..Capture::default()
            },
        )?,
    })
}

fn parse(mut arguments: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (mut purpose, mut other) = (None, None);
    let (mut reuse, mut show, mut old_call) = (false, false, false);
    let (mut kernel, mut image, mut text) = (None, None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Short('p') | Long("load-panic") => {
                once(&mut purpose, Purpose::Crash, "one of -l and -p")?;
            }
            Short('l') | Long("load") => once(&mut purpose, Purpose::Restart, "one of -l and -p")?,
            Short(letter @ ('u' | 'e' | 'S')) => once(&mut other, letter, "one of -u, -e and -S")?,
            Long("unload") => once(&mut other, 'u', "one of -u, -e and -S")?,
            Long("exec") => once(&mut other, 'e', "one of -u, -e and -S")?,
            Long("status") => once(&mut other, 'S', "one of -u, -e and -S")?,
            Short('s' | 'a') | Long("kexec-file-syscall" | "kexec-syscall-auto") => {}
            Short('c') | Long("kexec-syscall") => old_call = true,
            Short('d') | Long("debug") => show = true,
            Long("initrd" | "ramdisk") => once(&mut image, arguments.value()?, "--initrd")?,
            Long("append" | "command-line") => {
                once(&mut text, arguments.value()?.string()?, "--append")?;
            }
            Long("reuse-cmdline") => reuse = true,
            Short('h') | Long("help") => return Ok(Command::Help),
            Long("man") => return Ok(Command::Manual),
            Long("completion") => {
                let shell = Shell::asked_for(&arguments.value()?.string()?)?;
                return Ok(Command::Completion(shell));
            }
            Short('V' | 'v') | Long("version") => return Ok(Command::Version),
            Value(value) => once(&mut kernel, value, "the kernel")?,
            _ => return Err(argument.unexpected()),
        }
    }
    if let Some(letter) = other {
        if kernel.is_some() || image.is_some() {
            return Err(format!(
                "-{letter} is about what is loaded and takes no kernel and no --initrd"
            )
            .into());
        }
        return match letter {
            'u' => Ok(Command::Unload(purpose.unwrap_or(Purpose::Restart))),
            'e' if purpose == Some(Purpose::Crash) => {
                Err("a capture kernel is started by a crash; -e starts what -l loaded".into())
            }
            'e' => Ok(Command::Execute),
            _ => Ok(Command::Status(purpose.unwrap_or(Purpose::Crash))),
        };
    }
    let missing = |what: &str| lexopt::Error::from(format!("{what} is missing"));
    let purpose = purpose.ok_or_else(|| missing("what to do, one of -p, -l, -e, -u and -S,"))?;
    if text.is_none() && !reuse {
        return Err(missing("--reuse-cmdline or --append=TEXT"));
    }
    let kernel = kernel.map(path).ok_or_else(|| missing("the kernel file"))?;
    let image = image.map(path);
    if purpose == Purpose::Crash && image.is_none() {
        return Err(missing("--initrd=IMAGE"));
    }
    Ok(Command::Load(Load {
        purpose,
        kernel,
        image,
        text,
        reuse,
        show,
        old_call,
    }))
}

fn path(value: OsString) -> PathBuf {
    PathBuf::from(value)
}

fn once<T>(slot: &mut Option<T>, value: T, what: &str) -> Result<(), lexopt::Error> {
    if slot.replace(value).is_some() {
        Err(format!("{what} is given twice").into())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, lexopt::Error> {
        parse(lexopt::Parser::from_args(arguments))
    }

    #[test]
    fn the_forms_of_kexec_tools_are_taken() {
        let Ok(Command::Load(load)) =
            parsed(&["-s", "-p", "/vmlinuz", "--initrd=/i", "--append=a b"])
        else {
            panic!("not a load");
        };
        assert_eq!(
            (load.kernel, load.image),
            ("/vmlinuz".into(), Some("/i".into()))
        );
        assert_eq!((load.text.as_deref(), load.reuse), (Some("a b"), false));
        for (arguments, what) in [
            (&["-p", "-u"][..], "Unload(Crash)"),
            (&["-pu"], "Unload(Crash)"),
            (&["-u"], "Unload(Restart)"),
            (&["-e"], "Execute"),
            (&["-S"], "Status(Crash)"),
            (&["-l", "--status"], "Status(Restart)"),
        ] {
            let command = parsed(arguments).unwrap();
            assert_eq!(format!("{command:?}"), what, "{arguments:?}");
        }
        let Ok(Command::Load(load)) = parsed(&["-c", "-l", "/k", "--reuse-cmdline"]) else {
            panic!("not a load");
        };
        assert_eq!((load.purpose, load.image), (Purpose::Restart, None));
        assert!(load.old_call);
        let Ok(Command::Load(load)) = parsed(&["/k", "-p", "--reuse-cmdline", "--ramdisk", "/i"])
        else {
            panic!("not a load");
        };
        assert!(load.reuse && load.text.is_none());
    }

    #[test]
    fn bash_completes_no_option_that_is_unknown() {
        let flags = manual::completion::options(HELP);
        assert!(flags.iter().any(|flag| flag.name == "--reuse-cmdline"));
        for flag in flags {
            let said = parsed(&[flag.name]).err().map(|error| error.to_string());
            let said = said.unwrap_or_default();
            assert!(!said.contains("invalid option"), "{}: {said}", flag.name);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (arguments, part) in [
            (&["-p", "/k", "--append=x"][..], "--initrd=IMAGE is missing"),
            (
                &["-p", "--initrd=/i", "--append=x"],
                "the kernel file is missing",
            ),
            (
                &["-p", "/k", "--initrd=/i"],
                "--reuse-cmdline or --append=TEXT is missing",
            ),
            (
                &["/k", "--initrd=/i", "--append=x"],
                "one of -p, -l, -e, -u and -S, is missing",
            ),
            (&["-l", "/k"], "--reuse-cmdline or --append=TEXT is missing"),
            (&["-l", "-p", "/k"], "one of -l and -p is given twice"),
            (&["-p", "-e"], "started by a crash"),
            (&["-p", "-u", "/k"], "takes no kernel"),
            (
                &["-p", "/k", "/l", "--initrd=/i"],
                "the kernel is given twice",
            ),
            (&["--frobnicate"], "frobnicate"),
        ] {
            let error = parsed(arguments).err().unwrap().to_string();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }
}
