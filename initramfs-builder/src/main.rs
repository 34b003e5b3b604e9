// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `mkkdumprd`: arguments and exit codes.
#![forbid(unsafe_code)]

use initramfs_builder::compress::ImageCompression;
use initramfs_builder::conf::settings::{self, Dialect, own_conf};
use initramfs_builder::cpio::Kind;
use initramfs_builder::error::{Mistake, Mistakes};
use initramfs_builder::host::{Host, describe};
use initramfs_builder::proof::{self, Kind as ProofKind, Proof, Verdict};
use initramfs_builder::rehearsal::{Acceleration, Rehearsal};
use initramfs_builder::{
    Request, check, conf, difference, image, plan, prepare, read_conf, rehearsal,
};
use lexopt::prelude::*;
use manual::completion::{Shell, script};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
Usage: mkkdumprd [--conf FILE] --kver RELEASE [OPTION…] -o IMAGE   build the kdump initramfs
       mkkdumprd plan [--conf FILE] --kver RELEASE [OPTION…]       show what it will do, and write nothing
       mkkdumprd check [--conf FILE] --kver RELEASE [OPTION…]      try each target now: write, read back, remove
       mkkdumprd selftest [--conf FILE] --kver RELEASE [OPTION…]   crash a virtual machine with this plan
       mkkdumprd estimate [--conf FILE] --kver RELEASE [OPTION…]   find how much memory crashkernel= has to reserve
       mkkdumprd describe [--host-root DIR] DIRECTORY              write this machine's facts down, to build elsewhere
       mkkdumprd convert [--conf FILE] --to DIALECT                print the configuration as another kdump has it
       mkkdumprd ls IMAGE                                          list what is in an image
       mkkdumprd cat IMAGE FILE                                    print one file of an image
       mkkdumprd diff IMAGE OTHER                                  print what two images have differently

  --conf FILE              the configuration: kdump.conf, or the settings of SUSE's /etc/sysconfig/kdump or Debian's
                           /etc/default/kdump-tools, which what is in it tells apart; without this option the first that
                           is there of /etc/kdump.conf, /etc/default/kdump-tools and a SUSE's /etc/sysconfig/kdump
  --kver RELEASE           the capture kernel's release, as `uname -r` prints it
  --modules-dir DIR        the directory with its modules.dep; without this option lib/modules/RELEASE of the host
  --host-root DIR          the host's root directory, or a directory that describes a host
  --init PLACE             an init binary, or the folder with its builds, from which the smallest is taken that has what
                           the plan needs; /usr/lib/kdumprd without this option
  --compress none|gzip|xz  how the image is compressed; gzip without this option
  --json                   with plan: the plan as JSON: kernel, hostname, zone, warnings, modules,
                           modules_have_signatures, built_in, deadlines_s, attempts (each with number, from,
                           is_dump_to_rootfs, target, device, network, dumpfile, steps, then, else),
                           fence_kdump, hooks, watchdog, keep_dumps, encrypt_to, failure_action, final_action, whole_s,
                           root, image (compression, size_bytes, files)
                           with check, selftest and estimate: what came of it
  --to rhel|suse|debian    with convert: whose words; what they cannot say is a warning
  --kernel FILE            with selftest and estimate: the kernel; /boot/vmlinuz-RELEASE without this option
  --crashkernel MIB        with selftest and estimate: the reservation to begin with; 256 without this option
  --memory MIB             with selftest and estimate: the machine's memory beside the reservation; 1024 without this option
  --accel auto|kvm|tcg     with selftest and estimate: whether the processor runs the machine or QEMU emulates one; auto
                           without this option
  --work DIR               with selftest and estimate: where the consoles of the runs stay; without this option they stay
                           in a folder of the system's for temporary files, when something failed
  -o, --output IMAGE       the image to write
  -h, --help               this text
      --man [kdump.conf]   this text as a manual page, in roff; with kdump.conf the page about that file
      --completion bash|zsh
                           what has that shell complete the words of this command
  -V, --version            the version

describe makes DIRECTORY, with which `--host-root DIRECTORY --conf DIRECTORY/etc/kdump.conf --modules-dir DIR` builds this
machine's image on another one and without root. Private keys, hooks and programs that the configuration names are not
in it; what the image needs of them is to be put there by hand, under its own path.
check needs root, and the targets' servers; a raw target is looked at and not written.
selftest and estimate need QEMU, and no root. Each target gets a machine with an empty disk in its place, or with a server
of this machine: its sshd, or an NFS server (version 3) that is part of this program. Where the plan encrypts dumps, those
of the rehearsal are for keys made for it. What differs from the plan is said with the result.

Exit status: 0 done, 1 refused or failed, or two images that differ, 2 wrong usage.
";

enum Command {
    Help,
    Manual,
    ConfManual,
    Completion(Shell),
    Version,
    Build(Request, PathBuf),
    Plan(Request, Form),
    Check(Request, Form),
    Rehearse(Rehearse, Box<Rehearsal>, Form, bool),
    Convert(PathBuf, Dialect),
    Describe(PathBuf, PathBuf),
    List(PathBuf),
    Cat(PathBuf, String),
    Diff(PathBuf, PathBuf),
}

/// Who reads a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A person.
    Text,
    /// A program.
    Json,
}

/// What a rehearsal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rehearse {
    /// To see that every target gets its dump.
    Selftest,
    /// To see how much memory that takes.
    Estimate,
}

fn main() -> ExitCode {
    // In the machine of a rehearsal this program is PID 1.
    if let Some(part) = rehearsal::guest::part() {
        rehearsal::guest::play(part)
    }
    let command = match parse(lexopt::Parser::from_env()) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("mkkdumprd: {error}; see mkkdumprd --help");
            return ExitCode::from(2);
        }
    };
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(mistakes) => {
            for mistake in mistakes.0 {
                eprintln!("mkkdumprd: {mistake}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Mistakes> {
    match command {
        Command::Help => print(HELP.as_bytes()),
        Command::Manual => {
            print(manual::page("mkkdumprd", "build the kdump initramfs", HELP).as_bytes())
        }
        Command::ConfManual => print(conf::page().as_bytes()),
        Command::Completion(shell) => print(script(shell, "mkkdumprd", HELP).as_bytes()),
        Command::Version => {
            print(format!("mkkdumprd (kdumprd) {}\n", env!("CARGO_PKG_VERSION")).as_bytes())
        }
        Command::Build(request, output) => {
            let prepared = prepare(&request)?;
            for warning in prepared
                .resolved
                .warnings
                .iter()
                .chain(&prepared.closure.warnings)
            {
                eprintln!("mkkdumprd: warning: {warning}");
            }
            Ok(image::write(&output, &prepared.bytes)?)
        }
        Command::Plan(request, form) => {
            let prepared = prepare(&request)?;
            let compression = request.compression.word();
            let text = match form {
                Form::Text => plan::describe(
                    &prepared.resolved,
                    &prepared.closure,
                    &prepared.items,
                    prepared.bytes.len(),
                    compression,
                ),
                Form::Json => format!("{:#}\n", plan::json::value(&prepared, compression)),
            };
            print(text.as_bytes())
        }
        Command::Check(request, form) => match check::number_in_child() {
            Some(number) => check::try_one(&request, number),
            None => check_all(&request, form),
        },
        Command::Rehearse(what, rehearsal, form, keep) => {
            let result = match what {
                Rehearse::Selftest => selftest(&rehearsal, form),
                Rehearse::Estimate => estimate(&rehearsal, form),
            };
            if result.is_ok() && !keep {
                // Nobody needs it; a rest is in the way of nobody either.
                let _ = fs::remove_dir_all(&rehearsal.folder);
            }
            result
        }
        Command::Convert(conf, dialect) => convert(&conf, dialect),
        Command::Describe(root, directory) => {
            let host = Host::read(&root)?;
            for warning in &host.warnings {
                eprintln!("mkkdumprd: warning: {warning}");
            }
            describe::write(&host, &directory)
        }
        Command::List(image) => list(&image),
        Command::Cat(image, file) => cat(&image, &file),
        Command::Diff(one, other) => diff(&one, &other),
    }
}

/// Progress is for a person, on the terminal, and never part of what is asked for.
fn progress(text: &str) {
    eprintln!("mkkdumprd: {text}");
}

fn check_all(request: &Request, form: Form) -> Result<(), Mistakes> {
    let tried = check::check(request, &mut progress)?;
    let (verdict, line) = check::verdict(&tried);
    keep_proof(request, ProofKind::Check, verdict, line);
    let text = match form {
        Form::Text => tried.iter().map(|one| format!("{one}\n")).collect(),
        Form::Json => {
            let targets: Vec<_> = tried.iter().map(check::Tried::to_json).collect();
            format!(
                "{:#}\n",
                serde_json::json!({ "good": verdict == Verdict::Good, "targets": targets })
            )
        }
    };
    print(text.as_bytes())?;
    if verdict == Verdict::Good {
        Ok(())
    } else {
        Err(Mistake::new("a target is not in order").into())
    }
}

/// A proof is of the machine itself, and of the configuration that it has.
fn keep_proof(request: &Request, kind: ProofKind, verdict: Verdict, text: String) {
    if request.host_root == Path::new("/") && request.conf == Path::new(own_conf(Path::new("/"))) {
        let proof = Proof::new(kind, &request.kernel, verdict, text);
        if let Err(mistake) = proof::keep(&request.host_root, &proof) {
            progress(&format!(
                "the result is not kept for `kdumpctl status`: {mistake}"
            ));
        }
    }
}

fn selftest(rehearsal: &Rehearsal, form: Form) -> Result<(), Mistakes> {
    let report = rehearsal::selftest(rehearsal, &mut progress)?;
    let (verdict, line) = report.verdict();
    keep_proof(&rehearsal.request, ProofKind::Selftest, verdict, line);
    let text = match form {
        Form::Text => report.to_string(),
        Form::Json => format!("{:#}\n", report.to_json()),
    };
    print(text.as_bytes())?;
    if report.is_good() {
        Ok(())
    } else if report.outcomes.is_empty() {
        Err(Mistake::new("no target of this plan can be rehearsed").into())
    } else {
        Err(Mistake::new("a target did not get its dump").into())
    }
}

fn estimate(rehearsal: &Rehearsal, form: Form) -> Result<(), Mistakes> {
    let estimate = rehearsal::estimate(rehearsal, &mut progress)?;
    let text = match form {
        Form::Text => estimate.to_string(),
        Form::Json => format!("{:#}\n", estimate.to_json()),
    };
    print(text.as_bytes())
}

fn convert(conf: &Path, dialect: Dialect) -> Result<(), Mistakes> {
    let directives = read_conf(conf)?;
    for at in &directives.warnings {
        eprintln!(
            "mkkdumprd: warning: {}:{}: {}",
            directives.file, at.line, at.value
        );
    }
    let written = settings::write(&directives, dialect);
    for warning in &written.warnings {
        eprintln!("mkkdumprd: warning: {warning}");
    }
    print(written.text.as_bytes())
}

fn list(image: &Path) -> Result<(), Mistakes> {
    let mut text = String::new();
    for entry in image::read(image)? {
        let (letter, size) = match &entry.kind {
            Kind::Directory => ('d', 0),
            Kind::File(bytes) => ('-', bytes.len()),
            Kind::Link(target) => ('l', target.len()),
            Kind::Character { .. } => ('c', 0),
        };
        let permissions: String = (0..9)
            .rev()
            .zip("rwxrwxrwx".chars())
            .map(|(bit, letter)| {
                if entry.permissions >> bit & 1 == 1 {
                    letter
                } else {
                    '-'
                }
            })
            .collect();
        text.push_str(&format!("{letter}{permissions} {size:>10} /{}", entry.name));
        match &entry.kind {
            Kind::Link(target) => {
                text.push_str(&format!(" -> {}", String::from_utf8_lossy(target)))
            }
            Kind::Character { major, minor } => text.push_str(&format!(" ({major}, {minor})")),
            _ => {}
        }
        text.push('\n');
    }
    print(text.as_bytes())
}

fn cat(image: &Path, file: &str) -> Result<(), Mistakes> {
    let wanted = file.trim_start_matches('/');
    let found = image::read(image)?
        .into_iter()
        .find(|entry| entry.name == wanted);
    match found.map(|entry| entry.kind) {
        Some(Kind::File(_)) if image::is_volume_key(wanted) => Err(Mistake::new(format!(
            "/{wanted} in {} is the volume key of an encrypted disk, which is not printed",
            image.display()
        ))
        .into()),
        Some(Kind::File(bytes)) => print(&bytes),
        Some(_) => Err(Mistake::new(format!("/{wanted} in {} is no file", image.display())).into()),
        None => Err(Mistake::new(format!(
            "there is no /{wanted} in {}; `mkkdumprd ls {0}` shows what is",
            image.display()
        ))
        .into()),
    }
}

fn diff(one: &Path, other: &Path) -> Result<(), Mistakes> {
    let text = difference::between(&image::read(one)?, &image::read(other)?);
    print(text.as_bytes())?;
    if text.is_empty() {
        return Ok(());
    }
    Err(Mistake::new(format!("{} and {} differ", one.display(), other.display())).into())
}

fn print(bytes: &[u8]) -> Result<(), Mistakes> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        // Who reads has seen enough: `mkkdumprd ls IMAGE | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => {
            Ok(result
                .map_err(|error| Mistake::new(format!("writing to standard output: {error}")))?)
        }
    }
}

fn parse(mut arguments: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let mut operands: Vec<String> = Vec::new();
    let mut options = Options::default();
    while let Some(argument) = arguments.next()? {
        let (slot, name) = match argument {
            Short('h') | Long("help") => return Ok(Command::Help),
            Long("man") => {
                return match arguments.next()? {
                    None => Ok(Command::Manual),
                    Some(Value(page)) if page == "kdump.conf" => Ok(Command::ConfManual),
                    Some(_) => Err("--man stands alone, or with kdump.conf behind it".into()),
                };
            }
            Long("completion") => {
                let shell = Shell::asked_for(&arguments.value()?.string()?)?;
                return Ok(Command::Completion(shell));
            }
            Long("json") => {
                options.json = true;
                continue;
            }
            Short('V') | Long("version") => return Ok(Command::Version),
            Long("to") => (&mut options.to, "--to"),
            Long("conf") => (&mut options.conf, "--conf"),
            Long("kver") => (&mut options.kernel, "--kver"),
            Long("modules-dir") => (&mut options.modules, "--modules-dir"),
            Long("host-root") => (&mut options.host, "--host-root"),
            Long("init") => (&mut options.init, "--init"),
            Long("compress") => (&mut options.compress, "--compress"),
            Long("kernel") => (&mut options.rehearse.kernel, "--kernel"),
            Long("crashkernel") => (&mut options.rehearse.crashkernel, "--crashkernel"),
            Long("memory") => (&mut options.rehearse.memory, "--memory"),
            Long("accel") => (&mut options.rehearse.accel, "--accel"),
            Long("work") => (&mut options.rehearse.work, "--work"),
            Short('o') | Long("output") => (&mut options.output, "--output"),
            Value(value) => {
                operands.push(value.string()?);
                continue;
            }
            _ => return Err(argument.unexpected()),
        };
        if slot.replace(arguments.value()?.string()?).is_some() {
            return Err(format!("{name} is given twice").into());
        }
    }
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    if options.rehearse != RehearsalOptions::default()
        && !matches!(operands.as_slice(), ["selftest" | "estimate"])
    {
        return Err(
            "--kernel, --crashkernel, --memory, --accel and --work are for selftest and estimate"
                .into(),
        );
    }
    match operands.as_slice() {
        ["check"] if options.output.is_some() => {
            Err("check writes no image and takes no -o".into())
        }
        ["check"] => {
            let form = if options.json { Form::Json } else { Form::Text };
            Ok(Command::Check(options.request()?, form))
        }
        ["convert"] => options.conversion(),
        ["describe", directory] => {
            let root = options.host.take().unwrap_or_else(|| "/".to_owned());
            if options.any() {
                return Err("describe takes --host-root only".into());
            }
            Ok(Command::Describe(root.into(), (*directory).into()))
        }
        ["describe", ..] => Err("describe takes a directory".into()),
        _ if options.to.is_some() => Err("--to is for convert".into()),
        [] if options.json => Err("--json is for plan, check, selftest and estimate".into()),
        [] => {
            let output = options.output.take().ok_or("-o IMAGE is missing")?;
            Ok(Command::Build(options.request()?, output.into()))
        }
        ["plan"] if options.output.is_some() => Err("plan writes no image and takes no -o".into()),
        ["plan"] => {
            let form = if options.json { Form::Json } else { Form::Text };
            Ok(Command::Plan(options.request()?, form))
        }
        ["selftest" | "estimate"] if options.output.is_some() => {
            Err("selftest and estimate write no image and take no -o".into())
        }
        [word @ ("selftest" | "estimate")] => {
            let what = if *word == "selftest" {
                Rehearse::Selftest
            } else {
                Rehearse::Estimate
            };
            let form = if options.json { Form::Json } else { Form::Text };
            let keep = options.rehearse.work.is_some();
            Ok(Command::Rehearse(
                what,
                Box::new(options.rehearsal()?),
                form,
                keep,
            ))
        }
        ["ls" | "cat" | "diff", ..] if options.any() => {
            Err("ls, cat and diff take no options".into())
        }
        ["ls", image] => Ok(Command::List(image.into())),
        ["ls", ..] => Err("ls takes an image".into()),
        ["cat", image, file] => Ok(Command::Cat(image.into(), (*file).to_owned())),
        ["cat", ..] => Err("cat takes an image and a file in it".into()),
        ["diff", one, other] => Ok(Command::Diff(one.into(), other.into())),
        ["diff", ..] => Err("diff takes two images".into()),
        [other, ..] => Err(format!(
            "unknown command `{other}`; there are plan, check, selftest, estimate, describe, convert, ls, cat \
             and diff"
        )
        .into()),
    }
}

#[derive(Default)]
struct Options {
    conf: Option<String>,
    kernel: Option<String>,
    modules: Option<String>,
    host: Option<String>,
    init: Option<String>,
    compress: Option<String>,
    output: Option<String>,
    json: bool,
    to: Option<String>,
    rehearse: RehearsalOptions,
}

/// What only rehearsals take.
#[derive(Default, PartialEq, Eq)]
struct RehearsalOptions {
    kernel: Option<String>,
    crashkernel: Option<String>,
    memory: Option<String>,
    accel: Option<String>,
    work: Option<String>,
}

impl Options {
    fn any(&self) -> bool {
        [
            &self.conf,
            &self.kernel,
            &self.modules,
            &self.host,
            &self.init,
            &self.compress,
            &self.output,
            &self.to,
        ]
        .into_iter()
        .any(Option::is_some)
            || self.json
    }

    fn rehearsal(mut self) -> Result<Rehearsal, lexopt::Error> {
        let given = std::mem::take(&mut self.rehearse);
        let request = self.request()?;
        let mib = |given: Option<String>, otherwise: u64, name: &str| match given {
            None => Ok(otherwise),
            Some(text) => text
                .parse()
                .ok()
                .filter(|mib| (16..=1 << 20).contains(mib))
                .ok_or_else(|| format!("{name} cannot be `{text}`; it is a number of MiB")),
        };
        let acceleration = match &given.accel {
            None => Acceleration::default(),
            Some(word) => Acceleration::from_word(word).ok_or_else(|| {
                format!("--accel cannot be `{word}`; accepted are auto, kvm and tcg")
            })?,
        };
        let kernel = given.kernel.map_or_else(
            || {
                request
                    .host_root
                    .join(format!("boot/vmlinuz-{}", request.kernel))
            },
            PathBuf::from,
        );
        let folder = given.work.map_or_else(
            || std::env::temp_dir().join(format!("mkkdumprd-{}", std::process::id())),
            PathBuf::from,
        );
        Ok(Rehearsal {
            kernel,
            memory_mib: mib(given.memory, rehearsal::MEMORY_MIB, "--memory")?,
            crashkernel_mib: mib(
                given.crashkernel,
                rehearsal::CRASHKERNEL_MIB,
                "--crashkernel",
            )?,
            acceleration,
            folder,
            request,
        })
    }

    fn conversion(mut self) -> Result<Command, lexopt::Error> {
        let (conf, to) = (self.conf.take(), self.to.take());
        if self.any() {
            return Err("convert takes --conf and --to only".into());
        }
        let word = to.ok_or("--to rhel, suse or debian is missing")?;
        let dialect = Dialect::from_word(&word).ok_or_else(|| {
            format!("--to cannot be `{word}`; accepted are rhel, suse and debian")
        })?;
        Ok(Command::Convert(
            conf.unwrap_or_else(|| own_conf(Path::new("/")).to_owned())
                .into(),
            dialect,
        ))
    }

    fn request(self) -> Result<Request, lexopt::Error> {
        let path = |given: Option<String>, otherwise: &str| {
            PathBuf::from(given.unwrap_or_else(|| otherwise.to_owned()))
        };
        let compression = match self.compress {
            None => ImageCompression::default(),
            Some(word) => ImageCompression::from_word(&word).ok_or_else(|| {
                format!("--compress cannot be `{word}`; accepted are none, gzip and xz")
            })?,
        };
        Ok(Request {
            conf: self
                .conf
                .unwrap_or_else(|| own_conf(Path::new("/")).to_owned())
                .into(),
            kernel: self.kernel.ok_or("--kver RELEASE is missing")?,
            modules_directory: self.modules.map(PathBuf::from),
            host_root: path(self.host, "/"),
            init: path(self.init, "/usr/lib/kdumprd"),
            compression,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, lexopt::Error> {
        parse(lexopt::Parser::from_args(arguments))
    }

    #[test]
    fn the_defaults_are_those_of_an_installed_system() {
        let Ok(Command::Build(request, output)) = parsed(&["--kver=6.1", "-o", "/boot/i"]) else {
            panic!("not a build");
        };
        assert_eq!(output, Path::new("/boot/i"));
        assert_eq!(request.conf, Path::new("/etc/kdump.conf"));
        assert_eq!(request.init, Path::new("/usr/lib/kdumprd"));
        assert_eq!(
            (request.host_root.as_path(), request.modules_directory),
            (Path::new("/"), None)
        );
        assert_eq!(request.compression, ImageCompression::Gzip);
    }

    #[test]
    fn wrong_usage_says_what_is_wrong() {
        for (arguments, part) in [
            (&["--kver", "6.1"][..], "-o IMAGE is missing"),
            (&["-o", "x"], "--kver RELEASE is missing"),
            (&["plan"], "--kver RELEASE is missing"),
            (&["plan", "--kver", "1", "-o", "x"], "takes no -o"),
            (&["ls"], "ls takes an image"),
            (&["ls", "x", "--kver", "1"], "take no options"),
            (&["ls", "x", "--json"], "take no options"),
            (&["--kver", "1", "-o", "x", "--json"], "--json is for plan"),
            (&["plan", "--kver", "1", "--memory", "1"], "for selftest"),
            (&["selftest", "--kver", "1", "--memory", "1x"], "of MiB"),
            (&["estimate", "--kver", "1", "--accel", "hvf"], "`hvf`"),
            (&["selftest", "--kver", "1", "-o", "x"], "take no -o"),
            (&["--man", "kdump.cnf"], "with kdump.conf"),
            (&["cat", "x"], "an image and a file"),
            (&["diff", "x"], "two images"),
            (&["describe"], "describe takes a directory"),
            (&["describe", "x", "--kver", "1"], "--host-root only"),
            (&["convert"], "--to rhel, suse or debian is missing"),
            (&["convert", "--to", "bsd"], "`bsd`"),
            (
                &["convert", "--to", "suse", "--json"],
                "--conf and --to only",
            ),
            (
                &["plan", "--kver", "1", "--to", "suse"],
                "--to is for convert",
            ),
            (&["frob"], "unknown command `frob`"),
            (&["--kver", "1", "--kver", "2"], "--kver is given twice"),
            (&["--kver", "1", "-o", "x", "--compress", "lzo"], "`lzo`"),
            (&["--frob"], "frob"),
        ] {
            let error = parsed(arguments).err().unwrap().to_string();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn bash_completes_every_command_and_every_option_and_none_that_is_unknown() {
        for flag in manual::completion::options(HELP) {
            let said = parsed(&[flag.name]).err().map(|error| error.to_string());
            let said = said.unwrap_or_default();
            assert!(!said.contains("invalid option"), "{}: {said}", flag.name);
        }
        assert_eq!(
            manual::completion::commands(HELP),
            [
                "plan", "check", "selftest", "estimate", "describe", "convert", "ls", "cat", "diff"
            ]
        );
        let text = script(Shell::Bash, "mkkdumprd", HELP);
        assert!(
            text.contains("--compress) _kdumprd_words \"none gzip xz\""),
            "{text}"
        );
    }

    #[test]
    fn each_page_has_its_own_word() {
        assert!(matches!(parsed(&["--man"]), Ok(Command::Manual)));
        assert!(matches!(
            parsed(&["--man", "kdump.conf"]),
            Ok(Command::ConfManual)
        ));
    }
}
