// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host command `vmcore`: the collector over plain files, with makedumpfile's options and a few words of our own.
#![forbid(unsafe_code)]

mod decrypt;
mod diff;
mod help;
mod info;
mod input;
mod kcore;
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
mod save_raw;
mod stream;
mod table;
mod threads;
mod verify;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use messages::{Level, Messages, say};
use options::{Action, Options};

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

fn main() -> ExitCode {
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
    let mut ending = Ending {
        messages: Messages {
            level: Level::DEFAULT,
            to_stderr: false,
        },
        is_told: as_makedumpfile,
        saved: String::new(),
    };
    match run(&words, as_makedumpfile, &mut ending) {
        Ok(code) => {
            ending.tell(&format!("{}\n\nmakedumpfile Completed.", ending.saved));
            code
        }
        Err(failure) => {
            if ending.messages.level.errors() {
                eprintln!("{own_name}: {}", failure.message);
            }
            ending.tell("makedumpfile Failed.");
            ExitCode::from(failure.code)
        }
    }
}

/// The last lines, by which people and scripts know makedumpfile's success.
struct Ending {
    messages: Messages,
    is_told: bool,
    /// What was saved, and where.
    saved: String,
}

impl Ending {
    fn tell(&self, words: &str) {
        if self.is_told {
            self.messages.common(format_args!("\n{words}"));
        }
    }
}

fn run(words: &[String], as_makedumpfile: bool, ending: &mut Ending) -> Result<ExitCode, Failure> {
    if !as_makedumpfile && let Some(code) = own(words)? {
        return Ok(code);
    }
    let (action, options) = options::parse(words).map_err(|message| {
        ending.is_told &= !words.iter().any(|word| word.starts_with("--check"));
        format!("{message}\n`-h` lists the options")
    })?;
    let messages = Messages {
        level: options.messages,
        to_stderr: options.flatten,
    };
    ending.messages = messages;
    ending.is_told &= action.makes_a_file() && !options.check_only;
    ending.saved = saved(action, &options);
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
        Action::Help => say!("{}", help::text(as_makedumpfile).trim_end()),
        Action::Manual => say!("{}", help::manual(as_makedumpfile).trim_end()),
        Action::Completion(shell) => {
            say!("{}", help::completion(shell, as_makedumpfile).trim_end())
        }
        Action::Version => print!("{}", help::version(as_makedumpfile)),
        Action::Create => run::create_dump(&options, messages)?,
        Action::Dmesg => run::dump_dmesg(&options, messages)?,
        Action::Rearrange => rearrange::rearrange(&options, messages)?,
        Action::Reassemble => reassemble::reassemble(&options, messages)?,
        Action::MemUsage => mem_usage::mem_usage(&options, messages)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What makedumpfile says of where its file is.
fn saved(action: Action, options: &Options) -> String {
    let outs: Vec<String> = match options.flatten {
        true => vec!["STDOUT".to_owned()],
        false => {
            let outs = if options.split {
                1
            } else {
                options.files.len().saturating_sub(1)
            };
            let outs = options.files.get(outs..).unwrap_or_default();
            outs.iter().map(|out| out.display().to_string()).collect()
        }
    };
    match (action, &outs[..]) {
        (Action::Dmesg, [out]) => format!("The dmesg log is saved to {out}."),
        (_, [out]) => format!("The dumpfile is saved to {out}."),
        (_, [outs @ .., last]) => {
            format!(
                "The dumpfiles are saved to {}, and {last}.",
                outs.join(", ")
            )
        }
        (_, []) => String::new(),
    }
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
        ("decrypt", [option, identity, file, out]) if *option == Path::new("-i") => {
            decrypt::decrypt(identity, file, out).map(|()| Some(ExitCode::SUCCESS))
        }
        ("decrypt", _) => Err(Failure::from(
            "decrypt takes a secret key, an encrypted file and a new file: decrypt -i KEYFILE FILE OUT".to_owned(),
        )),
        ("diff", [a, b]) => diff::diff(a, b).map(|same| Some(code(same))),
        ("save-raw", [device, folder]) => {
            save_raw::save_raw(device, folder).map(|()| Some(ExitCode::SUCCESS))
        }
        ("save-raw", _) => Err(Failure::from(
            "save-raw takes a device and a folder".to_owned(),
        )),
        ("info" | "verify", _) => Err(Failure::from(format!("{word} takes one file"))),
        ("diff", _) => Err(Failure::trouble("diff takes two files".to_owned())),
        _ => Ok(None),
    }
}
