// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host command: makedumpfile's, with a few words of our own.

mod diff;
mod help;
mod info;
mod input;
mod mem_usage;
mod messages;
mod options;
mod output;
mod pages;
mod progress;
mod rearrange;
mod reassemble;
mod release;
mod report;
mod run;
mod stream;
mod table;
mod threads;
mod verify;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use messages::{Level, Messages};
use options::Action;

/// Why the command failed, and the exit code for it.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { message, code: 1 }
    }
}

impl Failure {
    /// `diff`: 1 says that files differ, as diff(1) has it.
    pub(crate) fn trouble(message: String) -> Self {
        Self { message, code: 2 }
    }

    /// A vmlinux or a VMCOREINFO of another kernel has makedumpfile's exit code 2.
    pub(crate) fn wrong_release(message: String) -> Self {
        Self { message, code: 2 }
    }
}

/// Runs the command, and returns its exit code.
pub(crate) fn main() -> ExitCode {
    let mut words = env::args_os();
    let program = words.next().unwrap_or_default();
    let name = Path::new(&program).file_name();
    let as_makedumpfile = name.is_some_and(|name| name == "makedumpfile");
    let own_name = if as_makedumpfile {
        "makedumpfile"
    } else {
        "vmcore"
    };
    let words: Vec<String> = match words.map(|word| word.into_string()).collect() {
        Ok(words) => words,
        Err(word) => {
            eprintln!("{own_name}: an argument is not UTF-8: {}", word.display());
            return ExitCode::FAILURE;
        }
    };
    let mut level = Level::DEFAULT;
    match run(&words, as_makedumpfile, &mut level) {
        Ok(code) => code,
        Err(failure) => {
            if level.errors() {
                eprintln!("{own_name}: {}", failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

fn run(words: &[String], as_makedumpfile: bool, level: &mut Level) -> Result<ExitCode, Failure> {
    if !as_makedumpfile && let Some(code) = own(words)? {
        return Ok(code);
    }
    let (action, options) =
        options::parse(words).map_err(|message| format!("{message}\n`-h` lists the options"))?;
    *level = options.messages;
    let messages = Messages {
        level: options.messages,
        to_stderr: options.flatten,
    };
    if options.check_only {
        return Ok(ExitCode::SUCCESS);
    }
    let files = &options.files;
    let inputs = match action {
        Action::Create | Action::Dmesg => 1,
        Action::Reassemble => files.len().saturating_sub(1),
        _ => files.len(),
    };
    if let Some((inputs, outputs)) = files.split_at_checked(inputs) {
        output::check_apart(inputs, outputs)?;
    }
    match action {
        Action::Help => print!("{}", help::text(as_makedumpfile)),
        Action::Version => print!("{}", help::version(as_makedumpfile)),
        Action::Create => run::create_dump(&options, messages)?,
        Action::Dmesg => run::dump_dmesg(&options, messages)?,
        Action::Rearrange => rearrange::rearrange(&options, messages)?,
        Action::Reassemble => reassemble::reassemble(&options, messages)?,
        Action::MemUsage => mem_usage::mem_usage(&options, messages)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Our own words, which come first and are no file's name with a slash or a dot.
fn own(words: &[String]) -> Result<Option<ExitCode>, Failure> {
    let Some((word, files)) = words.split_first() else {
        return Err(Failure::from(
            "nothing to do; `-h` lists what there is".to_owned(),
        ));
    };
    let files: Vec<&Path> = files.iter().map(Path::new).collect();
    let code = |good: bool| {
        if good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    };
    match (word.as_str(), &files[..]) {
        ("info", [file]) => info::info(file).map(|()| Some(ExitCode::SUCCESS)),
        ("verify", [file]) => verify::verify(file).map(|good| Some(code(good))),
        ("diff", [a, b]) => diff::diff(a, b).map(|same| Some(code(same))),
        ("info" | "verify", _) => Err(Failure::from(format!("{word} takes one file"))),
        ("diff", _) => Err(Failure::trouble("diff takes two files".to_owned())),
        _ => Ok(None),
    }
}
