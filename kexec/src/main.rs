// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `kexec`: the part of kexec-tools' options that loads and drops a capture kernel.
#![forbid(unsafe_code)]

use kexec::command_line::{Capture, boot_apicid, compose};
use lexopt::prelude::*;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
Usage: kexec -p KERNEL --initrd=IMAGE [--reuse-cmdline] [--append=TEXT | --command-line=TEXT]
       kexec -p -u

Loads a capture kernel into the memory that crashkernel= reserved, with kexec_file_load(2).

  -p, --load-panic          load for the case of a crash
  -u, --unload              with -p: drop the capture kernel that is loaded
      --initrd=IMAGE        its initramfs, as mkkdumprd wrote it (also --ramdisk)
      --command-line=TEXT   its command line (also --append)
      --reuse-cmdline       make the command line from /proc/cmdline: without what a capture kernel must not get, with
                            nr_cpus=1, reset_devices, panic=10 and so on; the text of --append comes last and wins
  -d, --debug               print the command line
  -s, --kexec-file-syscall  taken for kexec-tools' sake: there is no other way here
  -h, --help                this text
  -V, --version             the version

Exit status: 0 done, 1 refused or failed, 2 wrong usage.
";

enum Command {
    Help,
    Version,
    Unload,
    Load(Load),
}

struct Load {
    kernel: PathBuf,
    image: PathBuf,
    text: Option<String>,
    reuse: bool,
    show: bool,
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
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kexec: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn std::error::Error>> {
    match command {
        Command::Help => print!("{HELP}"),
        Command::Version => println!("kexec (kdumprd) {}", env!("CARGO_PKG_VERSION")),
        Command::Unload => kexec::unload_crash()?,
        Command::Load(load) => {
            let text = load.text.unwrap_or_default();
            let line = if load.reuse {
                let read = |path: &str| {
                    fs::read_to_string(path).map_err(|error| format!("reading {path}: {error}"))
                };
                compose(
                    &read("/proc/cmdline")?,
                    &Capture {
                        boot_apicid: boot_apicid(&read("/proc/cpuinfo")?),
                        append: &text,
                        ..Capture::default()
                    },
                )?
            } else {
                text
            };
            if load.show {
                eprintln!("kexec: command line: {line}");
            }
            kexec::load_crash(&load.kernel, &load.image, &line)?;
        }
    }
    Ok(())
}

fn parse(mut arguments: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (mut panic, mut unload, mut reuse, mut show) = (false, false, false, false);
    let (mut kernel, mut image, mut text) = (None, None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Short('p') | Long("load-panic") => panic = true,
            Short('u') | Long("unload") => unload = true,
            Short('s') | Long("kexec-file-syscall") => {}
            Short('d') | Long("debug") => show = true,
            Long("initrd" | "ramdisk") => once(&mut image, arguments.value()?, "--initrd")?,
            Long("append" | "command-line") => {
                once(&mut text, arguments.value()?.string()?, "--append")?;
            }
            Long("reuse-cmdline") => reuse = true,
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V' | 'v') | Long("version") => return Ok(Command::Version),
            Short('l' | 'e') | Long("load" | "exec") => {
                return Err("only a capture kernel can be loaded: use -p".into());
            }
            Value(value) => once(&mut kernel, value, "the kernel")?,
            _ => return Err(argument.unexpected()),
        }
    }
    if !panic {
        return Err("only a capture kernel can be loaded or dropped: -p is missing".into());
    }
    if unload {
        return if kernel.is_none() && image.is_none() {
            Ok(Command::Unload)
        } else {
            Err("-u drops what is loaded and takes no kernel and no --initrd".into())
        };
    }
    let missing = |what: &str| lexopt::Error::from(format!("{what} is missing"));
    if text.is_none() && !reuse {
        return Err("--reuse-cmdline or --append=TEXT is missing".into());
    }
    Ok(Command::Load(Load {
        kernel: kernel.map(path).ok_or_else(|| missing("the kernel file"))?,
        image: image.map(path).ok_or_else(|| missing("--initrd=IMAGE"))?,
        text,
        reuse,
        show,
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
        assert_eq!((load.kernel, load.image), ("/vmlinuz".into(), "/i".into()));
        assert_eq!((load.text.as_deref(), load.reuse), (Some("a b"), false));
        assert!(matches!(parsed(&["-p", "-u"]), Ok(Command::Unload)));
        assert!(matches!(parsed(&["-pu"]), Ok(Command::Unload)));
        let Ok(Command::Load(load)) = parsed(&["/k", "-p", "--reuse-cmdline", "--ramdisk", "/i"])
        else {
            panic!("not a load");
        };
        assert!(load.reuse && load.text.is_none());
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
            (&["/k", "--initrd=/i", "--append=x"], "-p is missing"),
            (&["-l", "/k"], "use -p"),
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
