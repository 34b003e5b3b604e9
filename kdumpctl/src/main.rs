// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `kdumpctl`: arguments, exit codes, and the order of what each command does.
#![forbid(unsafe_code)]

use initramfs_builder::error::{Mistake, Mistakes};
use initramfs_builder::rehearsal::{self, Acceleration, Rehearsal, guest};
use kdumpctl::crashkernel::{self, Done, Kernels};
use kdumpctl::say::Say;
use kdumpctl::setup::{Built, Setup, read_directives, read_sysconfig, remove_images};
use kdumpctl::status::{Status, is_loaded, reserved};
use kdumpctl::{find_program, lock, propagate, run, save_raw, sysconfig, test, update};
use kexec::Purpose;
use lexopt::prelude::*;
use manual::completion::{Shell, script};
use std::path::Path;
use std::process::{Command as Program, ExitCode};

/// Prints a line. That nobody reads on, as behind `grep -q`, is no failure.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _gone = writeln!(std::io::stdout(), $($words)*);
    }};
}

const HELP: &str = "\
Usage: kdumpctl start | stop | restart | reload | propagate | save-raw | enable | disable
       kdumpctl rebuild [--kver=RELEASE]
       kdumpctl forget --kver=RELEASE
       kdumpctl status [-v | --verbose] [--json]
       kdumpctl test [--force]
       kdumpctl estimate [--json]
       kdumpctl showmem
       kdumpctl get-default-crashkernel
       kdumpctl reset-crashkernel [--kernel=KERNEL | --kernel=ALL]

Sees to it that a crash of this machine ends in a dump, as /etc/kdump.conf and /etc/sysconfig/kdump say.

  start                     check the configuration, build the image where it would differ from the one there is, load it
                            with the capture kernel
  stop                      drop what is loaded
  restart                   both
  reload                    load again what is there, without looking whether the image would differ
  status                    say whether a crash would be captured, and what came of the last one, as far as its dump is
                            below path on this machine, where root alone may look; needs no root otherwise
  rebuild                   build the image in any case, with --kver for a kernel that may be started some day
  forget                    remove the image for a kernel that is gone
  propagate                 make a key for the ssh targets of kdump.conf, and hand it to their servers
  save-raw                  bring dumps on the raw targets of kdump.conf below its path; start does so as well
  test                      crash this machine on purpose; the start after that says what came of it, and so does status
  estimate                  find how much memory crashkernel= has to reserve: by crashes of a virtual machine where QEMU is
                            installed, else by adding up what is known
  showmem                   print how much memory is reserved; needs no root
  get-default-crashkernel   print the default of crashkernel=; needs no root
  reset-crashkernel         set crashkernel= to the default, for the running kernel without --kernel; it counts from the
                            next start of the machine on
  enable, disable           start the service when the machine starts, or do not

  -v, --verbose             with status: kernel, image, reservation and command line, too
      --json                with status and estimate: all of that as JSON
      --force               with test: do not ask
      --kernel=KERNEL       a kernel's file, or ALL
      --kver=RELEASE        a kernel's release, as `uname -r` prints it
  -h, --help                this text
      --man [kdump.sysconfig]
                            this text as a manual page, in roff; with kdump.sysconfig the page about /etc/sysconfig/kdump
      --completion bash|zsh
                            what has that shell complete the words of this command
  -V, --version             the version

Exit status: 0 done, and operational for status; 1 refused, failed, or wrong usage; 3 not operational, for status.
";

/// A crash would not be captured: as kdump-utils has it.
const NOT_OPERATIONAL: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Start,
    Stop,
    Restart,
    Reload,
    Rebuild,
    Forget,
    Propagate,
    SaveRaw,
    Enable,
    Disable,
    ResetCrashkernel,
    Test,
    Estimate,
    Status,
    Showmem,
    DefaultCrashkernel,
}

impl Action {
    const ALL: [(&'static str, Self); 16] = [
        ("start", Self::Start),
        ("stop", Self::Stop),
        ("restart", Self::Restart),
        ("reload", Self::Reload),
        ("rebuild", Self::Rebuild),
        ("forget", Self::Forget),
        ("propagate", Self::Propagate),
        ("save-raw", Self::SaveRaw),
        ("enable", Self::Enable),
        ("disable", Self::Disable),
        ("reset-crashkernel", Self::ResetCrashkernel),
        ("test", Self::Test),
        ("estimate", Self::Estimate),
        ("status", Self::Status),
        ("showmem", Self::Showmem),
        ("get-default-crashkernel", Self::DefaultCrashkernel),
    ];

    const fn needs_root(self) -> bool {
        !matches!(
            self,
            Self::Status | Self::Showmem | Self::DefaultCrashkernel
        )
    }

    fn word(self) -> &'static str {
        Self::ALL
            .into_iter()
            .find(|(_, action)| *action == self)
            .map_or("", |(word, _)| word)
    }
}

#[derive(Debug)]
enum Command {
    Help,
    Manual,
    SysconfigManual,
    Completion(Shell),
    Version,
    Do { action: Action, options: Options },
}

/// What a command is given besides its word.
#[derive(Debug)]
struct Options {
    verbose: bool,
    json: bool,
    force: bool,
    kernels: Kernels,
    /// The kernel that `rebuild` and `forget` are for.
    release: Option<String>,
}

fn main() -> ExitCode {
    // In the machine of a rehearsal this program is PID 1.
    if let Some(part) = guest::part() {
        guest::play(part)
    }
    match parse(lexopt::Parser::from_env()) {
        Ok(Command::Help) => {
            say!("{}", HELP.trim_end());
            ExitCode::SUCCESS
        }
        Ok(Command::Manual) => {
            let page = manual::page("kdumpctl", "have crashes of this machine captured", HELP);
            say!("{}", page.trim_end());
            ExitCode::SUCCESS
        }
        Ok(Command::SysconfigManual) => {
            say!("{}", sysconfig::page().trim_end());
            ExitCode::SUCCESS
        }
        Ok(Command::Completion(shell)) => {
            say!("{}", script(shell, "kdumpctl", HELP).trim_end());
            ExitCode::SUCCESS
        }
        Ok(Command::Version) => {
            say!("kdumpctl (kdumprd) {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(Command::Do { action, options }) => {
            let root = Path::new("/");
            // What is wrong with the file is said by what reads it in earnest.
            let say = read_sysconfig(root).map_or(Say::default(), |sysconfig| Say::new(&sysconfig));
            let result = match action {
                Action::Status => Ok(status(root, options.verbose, options.json)),
                Action::Showmem => showmem(),
                Action::DefaultCrashkernel => default_crashkernel().map(|value| {
                    say!("{value}");
                    ExitCode::SUCCESS
                }),
                _ => as_root(action, &options, root, &say),
            };
            result.unwrap_or_else(|mistakes| {
                tell(&mistakes, &say);
                ExitCode::FAILURE
            })
        }
        Err(error) => {
            eprintln!("kdumpctl: {error}; see kdumpctl --help");
            ExitCode::FAILURE
        }
    }
}

fn tell(mistakes: &Mistakes, say: &Say) {
    for mistake in &mistakes.0 {
        say.error(mistake);
    }
}

fn as_root(
    action: Action,
    options: &Options,
    root: &Path,
    say: &Say,
) -> Result<ExitCode, Mistakes> {
    debug_assert!(action.needs_root());
    if !rustix::process::geteuid().is_root() {
        return Err(Mistake::new(format!(
            "`kdumpctl {}` changes the machine and needs root; `status`, `showmem`, `get-default-crashkernel` and `mkkdumprd \
             plan` do not",
            action.word()
        ))
        .into());
    }
    let _lock = lock(|| {
        say.warning("another kdumpctl holds the kdump lock; waiting until it is done");
    })?;
    let name = match action {
        Action::Start => "Starting",
        Action::Stop => "Stopping",
        Action::Restart => "Restarting",
        Action::Reload => "Reloading",
        _ => "",
    };
    let result = match action {
        Action::Start => start(root, say),
        Action::Stop => stop(say),
        Action::Restart => stop(say).and_then(|()| start(root, say)),
        // Loading replaces what is loaded; where a file is missing, that stays.
        Action::Reload => load(&read_setup(root, say)?, say),
        Action::Rebuild => match &options.release {
            None => build(&read_setup(root, say)?, true, say),
            Some(release) => rebuild_for(root, release, say),
        },
        Action::Forget => forget(root, options.release.as_deref().unwrap_or_default(), say),
        Action::Propagate => propagate::run_all(&read_directives(root)?, say),
        Action::SaveRaw => save_raw(&read_setup(root, say)?, say),
        Action::Enable => service("enable"),
        Action::Disable => service("disable"),
        Action::Test => test(root, options.force, say),
        Action::Estimate => estimate(&read_setup(root, say)?, options.json),
        _ => reset_crashkernel(&options.kernels, say),
    };
    if name.is_empty() {
        return result.map(|()| ExitCode::SUCCESS);
    }
    Ok(match result {
        Ok(()) => {
            say.info(format_args!("{name} kdump: [OK]"));
            ExitCode::SUCCESS
        }
        Err(mistakes) => {
            tell(&mistakes, say);
            say.error(format_args!("{name} kdump: [FAILED]"));
            ExitCode::FAILURE
        }
    })
}

fn read_setup(root: &Path, say: &Say) -> Result<Setup, Mistakes> {
    let setup = Setup::read(root)?;
    for warning in &setup.sysconfig.warnings {
        say.warning(format_args!("warning: {warning}"));
    }
    Ok(setup)
}

fn start(root: &Path, say: &Say) -> Result<(), Mistakes> {
    if reserved()? == 0 {
        return Err(Mistake::new(format!(
            "no memory is reserved for a capture kernel; `kdumpctl reset-crashkernel` sets crashkernel={} for the next start \
             of the machine",
            default_crashkernel().unwrap_or("256M")
        ))
        .into());
    }
    let setup = read_setup(root, say)?;
    if is_loaded()? {
        say.warning("Kdump already running: [WARNING]");
        return Ok(());
    }
    // The crash that is captured next would find the device taken.
    if let Err(mistakes) = save_raw(&setup, say) {
        for mistake in mistakes.0 {
            say.warning(format_args!("warning: {mistake}"));
        }
    }
    if let Err(mistakes) = look_back(&setup, say) {
        for mistake in mistakes.0 {
            say.warning(format_args!("warning: {mistake}"));
        }
    }
    build(&setup, false, say)?;
    load(&setup, say)
}

/// What a start of the machine may have behind it: a test, or an update of this program.
fn look_back(setup: &Setup, say: &Say) -> Result<(), Mistakes> {
    if let Some(proof) = test::conclude(setup)? {
        say.info(format_args!("{proof}"));
    }
    let default = default_crashkernel()?;
    if update::is_due(setup, default)? {
        say.info(format_args!(
            "this version reserves crashkernel={default} by default, and the machine has the default of the one before"
        ));
        reset_crashkernel(&Kernels::All, say)?;
    }
    Ok(update::keep(setup, default)?)
}

fn test(root: &Path, force: bool, say: &Say) -> Result<(), Mistakes> {
    if !is_loaded()? {
        return Err(Mistake::new(
            "kdump is not operational: the machine would crash and nothing would be saved; `kdumpctl start` says why",
        )
        .into());
    }
    let setup = read_setup(root, say)?;
    if !force && !test::is_meant(&mut std::io::stdin().lock())? {
        return Err(Mistake::new("not meant; nothing happened").into());
    }
    test::announce(&setup)?;
    say.warning("the machine crashes now, on purpose; after its next start `kdumpctl status` says what came of it");
    Err(test::crash())
}

fn estimate(setup: &Setup, json: bool) -> Result<(), Mistakes> {
    let rehearsal = Rehearsal {
        request: setup.request(),
        kernel: setup.kernel.clone(),
        memory_mib: rehearsal::MEMORY_MIB,
        crashkernel_mib: rehearsal::CRASHKERNEL_MIB,
        acceleration: Acceleration::Auto,
        folder: std::env::temp_dir().join(format!("kdumpctl-{}", std::process::id())),
    };
    let estimate = rehearsal::estimate(&rehearsal, &mut |text| eprintln!("kdump: {text}"))?;
    if estimate.measured.is_some() {
        // Nobody needs it; a rest is in the way of nobody either.
        let _ = std::fs::remove_dir_all(&rehearsal.folder);
    }
    if json {
        say!("{:#}", estimate.to_json());
    } else {
        say!("{}", estimate.to_string().trim_end());
    }
    Ok(())
}

fn save_raw(setup: &Setup, say: &Say) -> Result<(), Mistakes> {
    let devices = save_raw::devices(setup)?;
    if devices.is_empty() {
        say.debug("kdump.conf has no raw target");
    }
    save_raw::run_all(save_raw::PROGRAM, &devices, &save_raw::folder(setup))
}

fn build(setup: &Setup, always: bool, say: &Say) -> Result<(), Mistakes> {
    let image = setup.image.display();
    if always {
        say.info(format_args!("Rebuilding {image}"));
    }
    let (built, warnings) = setup.build(always)?;
    for warning in warnings {
        say.warning(format_args!("warning: {warning}"));
    }
    match built {
        Built::Written => say.info(format_args!("{image} is written")),
        Built::Unchanged => say.debug(format_args!("{image} is as it should be")),
        Built::Kept => say.info(format_args!("{image} is taken as it is: force_no_rebuild")),
    }
    Ok(())
}

/// For the hooks of packages that bring kernels.
fn rebuild_for(root: &Path, release: &str, say: &Say) -> Result<(), Mistakes> {
    let setup = Setup::read_for(root, release)?;
    if setup.release != release {
        say.info(format_args!(
            "the kernel that is started at a crash is {}, whatever runs: nothing to build for {release}",
            setup.release
        ));
        return Ok(());
    }
    build(&setup, true, say)
}

fn forget(root: &Path, release: &str, say: &Say) -> Result<(), Mistakes> {
    for image in remove_images(root, &read_sysconfig(root)?, release)? {
        say.info(format_args!("{} is removed", image.display()));
    }
    Ok(())
}

fn load(setup: &Setup, say: &Say) -> Result<(), Mistakes> {
    let line = setup.command_line()?;
    say.debug(format_args!("command line: {line}"));
    kexec::load(Purpose::Crash, &setup.kernel, Some(&setup.image), &line)
        .map_err(|error| Mistake::new(error.to_string()))?;
    say.info("kexec: loaded kdump kernel");
    Ok(())
}

fn stop(say: &Say) -> Result<(), Mistakes> {
    kexec::unload(Purpose::Crash).map_err(|error| Mistake::new(error.to_string()))?;
    say.info("kexec: unloaded kdump kernel");
    Ok(())
}

fn status(root: &Path, verbose: bool, json: bool) -> ExitCode {
    let status = Status::read(root);
    if json {
        say!("{}", status.to_json());
    } else {
        say!("{}", status.text(verbose).to_string().trim_end());
    }
    if status.is_operational() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_OPERATIONAL)
    }
}

fn showmem() -> Result<ExitCode, Mistakes> {
    say!("Reserved {}MB memory for crash kernel", reserved()? >> 20);
    Ok(ExitCode::SUCCESS)
}

fn default_crashkernel() -> Result<&'static str, Mistakes> {
    let architecture = std::env::consts::ARCH;
    crashkernel::default_for(architecture)
        .ok_or_else(|| Mistake::new(format!("there is no default for {architecture}")).into())
}

fn reset_crashkernel(kernels: &Kernels, say: &Say) -> Result<(), Mistakes> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_err(|error| Mistake::new(format!("reading the running kernel's release: {error}")))?;
    match crashkernel::set(
        Path::new("/"),
        kernels,
        default_crashkernel()?,
        release.trim(),
    )? {
        Done::Changed(what) => {
            say.info(format_args!(
                "{what}; it counts from the next start of the machine on"
            ));
            Ok(())
        }
        Done::ByHand(what) => Err(Mistake::new(what).into()),
    }
}

fn service(word: &str) -> Result<(), Mistakes> {
    if let Some(systemctl) = find_program("systemctl") {
        return run(Program::new(systemctl).args([word, "kdump.service"]));
    }
    if let Some(chkconfig) = find_program("chkconfig") {
        let state = if word == "enable" { "on" } else { "off" };
        return run(Program::new(chkconfig).args(["kdump", state]));
    }
    Err(Mistake::new(format!(
        "neither systemctl nor chkconfig is there to {word} the service; have `kdumpctl start` run when the machine starts"
    ))
    .into())
}

fn parse(mut arguments: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let mut found: Option<Action> = None;
    let (mut verbose, mut json, mut force) = (false, false, false);
    let (mut kernel, mut release) = (None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help),
            Long("man") => {
                return match arguments.next()? {
                    None => Ok(Command::Manual),
                    Some(Value(page)) if page == "kdump.sysconfig" => Ok(Command::SysconfigManual),
                    Some(_) => Err("--man stands alone, or with kdump.sysconfig behind it".into()),
                };
            }
            Long("completion") => {
                let shell = Shell::asked_for(&arguments.value()?.string()?)?;
                return Ok(Command::Completion(shell));
            }
            Short('V') | Long("version") => return Ok(Command::Version),
            Short('v') | Long("verbose") => verbose = true,
            Long("json") => json = true,
            Long("force") => force = true,
            Long("kernel") => kernel = Some(arguments.value()?.string()?),
            Long("kver") => release = Some(a_release(arguments.value()?.string()?)?),
            Value(value) => {
                let word = value.string()?;
                let known = Action::ALL.into_iter().find(|(known, _)| *known == word);
                let (_, action) = known.ok_or_else(|| {
                    let words = Action::ALL.map(|(word, _)| word).join(", ");
                    format!("unknown command `{word}`; there are {words}")
                })?;
                if found.replace(action).is_some() {
                    return Err("one command at a time".into());
                }
            }
            _ => return Err(argument.unexpected()),
        }
    }
    let action = found.ok_or("a command is missing")?;
    if verbose && action != Action::Status {
        return Err("--verbose is for status".into());
    }
    if json && !matches!(action, Action::Status | Action::Estimate) {
        return Err("--json is for status and estimate".into());
    }
    if force && action != Action::Test {
        return Err("--force is for test".into());
    }
    if kernel.is_some() && action != Action::ResetCrashkernel {
        return Err("--kernel is for reset-crashkernel".into());
    }
    if release.is_some() && !matches!(action, Action::Rebuild | Action::Forget) {
        return Err("--kver is for rebuild and forget".into());
    }
    if release.is_none() && action == Action::Forget {
        return Err("forget needs --kver=RELEASE".into());
    }
    Ok(Command::Do {
        action,
        options: Options {
            verbose,
            json,
            force,
            release,
            kernels: match kernel.as_deref() {
                None => Kernels::Running,
                Some("ALL") => Kernels::All,
                Some(kernel) => Kernels::One(kernel.to_owned()),
            },
        },
    })
}

/// The release becomes a part of a file's name.
fn a_release(text: String) -> Result<String, lexopt::Error> {
    if text.is_empty() || text.contains('/') {
        return Err(format!("`{text}` is no kernel's release").into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, lexopt::Error> {
        parse(lexopt::Parser::from_args(arguments))
    }

    #[test]
    fn every_command_has_its_word_and_is_in_the_help() {
        for (word, expected) in Action::ALL {
            let more: &[&str] = match expected {
                Action::Forget => &["--kver=6.1"],
                _ => &[],
            };
            let Ok(Command::Do { action, .. }) = parsed(&[&[word], more].concat()) else {
                panic!("{word}");
            };
            assert_eq!((action, action.word()), (expected, word));
            assert!(HELP.contains(word), "{word}");
        }
        let Ok(Command::Do { options, .. }) = parsed(&["reset-crashkernel", "--kernel=ALL"]) else {
            panic!("not taken");
        };
        assert_eq!(options.kernels, Kernels::All);
    }

    #[test]
    fn bash_completes_every_command_and_every_option_and_none_that_is_unknown() {
        let sorted = |mut words: Vec<&'static str>| {
            words.sort_unstable();
            words
        };
        assert_eq!(
            sorted(manual::completion::commands(HELP)),
            sorted(Action::ALL.map(|(word, _)| word).to_vec())
        );
        for flag in manual::completion::options(HELP) {
            let said = parsed(&[flag.name]).err().map(|error| error.to_string());
            let said = said.unwrap_or_default();
            assert!(!said.contains("invalid option"), "{}: {said}", flag.name);
        }
    }

    #[test]
    fn only_what_changes_nothing_needs_no_root() {
        let free: Vec<_> = Action::ALL
            .into_iter()
            .filter(|(_, action)| !action.needs_root())
            .map(|(word, _)| word)
            .collect();
        assert_eq!(free, ["status", "showmem", "get-default-crashkernel"]);
    }

    #[test]
    fn wrong_usage_says_what_is_wrong() {
        for (arguments, part) in [
            (&[][..], "a command is missing"),
            (&["begin"], "unknown command `begin`; there are start, stop"),
            (&["start", "stop"], "one command at a time"),
            (&["start", "--json"], "for status"),
            (&["forget"], "needs --kver"),
            (&["start", "--kver=6.1"], "for rebuild and forget"),
            (&["forget", "--kver=../x"], "no kernel's release"),
            (&["estimate", "--verbose"], "for status"),
            (&["start", "--force"], "for test"),
            (&["status", "--kernel=x"], "for reset-crashkernel"),
            (&["status", "--frob"], "frob"),
            (&["--man", "kdump"], "with kdump.sysconfig"),
        ] {
            let error = parsed(arguments).err().unwrap().to_string();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }
}
