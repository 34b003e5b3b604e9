// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a shell completes, from a help text: its commands, its options, and what an option takes.
//!
//! Commands stand in the usage behind the program's name, with ` | ` between; options are the terms of the lists that begin
//! with a `-`. What an option takes stands behind a blank or a `=`: words with `|` between, or what it is in capitals.
//! ```
//! use manual::completion::{Shell, commands, options, script};
//! let help = "Usage: x go | stop\n       x -a FILE\n\n  -a, --all=FILE  all\n";
//! assert_eq!(commands(help), ["go", "stop"]);
//! assert_eq!(options(help).iter().map(|option| option.name).collect::<Vec<_>>(), ["-a", "--all"]);
//! assert_eq!(options(help)[1].value, "FILE");
//! assert!(script(Shell::Zsh, "x", help).starts_with("#compdef x\n"));
//! ```

mod bash;
mod zsh;

use crate::text::terms;
use alloc::string::String;
use alloc::vec::Vec;

/// An option by one of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag<'a> {
    /// With its hyphens.
    pub name: &'a str,
    /// What it takes, as the help has it; empty where it takes nothing.
    pub value: &'a str,
}

/// What the help calls a file or a folder.
const FILES: [&str; 7] = [
    "FILE",
    "DIR",
    "IMAGE",
    "PLACE",
    "KERNEL",
    "VMLINUX",
    "VMCOREINFO",
];

/// Every name of every option of `help`.
#[must_use]
pub fn options(help: &str) -> Vec<Flag<'_>> {
    let mut flags: Vec<Flag<'_>> = Vec::new();
    for (_, term) in terms(help) {
        if !term.starts_with('-') {
            continue;
        }
        // `-o, --output IMAGE`: what stands behind the last name, the others take too.
        let names = || {
            term.split(", ")
                .map(|name| name.split_once([' ', '=']).unwrap_or((name, "")))
        };
        let value = names().last().map_or("", |(_, value)| value);
        flags.extend(names().map(|(name, _)| Flag { name, value }));
    }
    flags
}

/// Every command that the usage of `help` names.
#[must_use]
pub fn commands(help: &str) -> Vec<&str> {
    let mut commands = Vec::new();
    for line in usage(help) {
        let mut words = line.split_ascii_whitespace().skip(1);
        while let Some(word) = words.next().filter(|word| is_command(word)) {
            if !commands.contains(&word) {
                commands.push(word);
            }
            if words.next() != Some("|") {
                break;
            }
        }
    }
    commands
}

/// The lines of the usage, each from the program's name on.
fn usage(help: &str) -> impl Iterator<Item = &str> {
    let help = help.strip_prefix("Usage:").unwrap_or("");
    help.lines()
        .take_while(|line| line.starts_with(' '))
        .map(str::trim_start)
}

fn is_command(word: &str) -> bool {
    word.starts_with(|letter: char| letter.is_ascii_lowercase())
        && word
            .chars()
            .all(|letter| letter.is_ascii_lowercase() || letter == '-')
}

/// Words besides options and commands are files.
fn takes_files(help: &str) -> bool {
    usage(help)
        .flat_map(str::split_ascii_whitespace)
        .any(|word| word.chars().all(|letter| letter.is_ascii_uppercase()))
}

/// A shell that completes words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// bash, from version 4 on.
    Bash,
    /// zsh, from version 5 on.
    Zsh,
}

impl Shell {
    /// The words of all of them, as a usage has them.
    pub const WORDS: &str = "bash|zsh";

    /// The shell of this name.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "bash" => Self::Bash,
            "zsh" => Self::Zsh,
            _ => return None,
        })
    }

    /// The shell of the name behind `--completion`.
    ///
    /// # Errors
    /// What to say of another name.
    pub fn asked_for(word: &str) -> Result<Self, String> {
        Self::from_word(word).ok_or_else(|| {
            alloc::format!("--completion cannot be `{word}`; accepted are bash and zsh")
        })
    }
}

/// The script by which a shell completes the words of `name`, whose help text is `help`.
#[must_use]
pub fn script(shell: Shell, name: &str, help: &str) -> String {
    match shell {
        Shell::Bash => bash::script(name, help),
        Shell::Zsh => zsh::script(name, help),
    }
}

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes<'a> {
    Files,
    /// The release of a kernel.
    Release,
    /// One of these, with `|` between.
    Words(&'a str),
    /// A number or a text, which only the person knows.
    Unknown,
}

impl<'a> Takes<'a> {
    fn of(value: &'a str) -> Self {
        let value = value.trim_matches(['[', ']']);
        if FILES.contains(&value) {
            Self::Files
        } else if value == "RELEASE" {
            Self::Release
        } else if value.contains(|letter: char| letter.is_ascii_lowercase()) {
            Self::Words(value)
        } else {
            Self::Unknown
        }
    }
}

/// The values that options take, each once, with the names of the options.
fn values<'a>(flags: &[Flag<'a>]) -> Vec<(Takes<'a>, Vec<&'a str>)> {
    let mut values: Vec<(&str, Vec<&str>)> = Vec::new();
    for flag in flags.iter().filter(|flag| !flag.value.is_empty()) {
        match values.iter_mut().find(|(value, _)| *value == flag.value) {
            Some((_, names)) => names.push(flag.name),
            None => values.push((flag.value, alloc::vec![flag.name])),
        }
    }
    values
        .into_iter()
        .map(|(value, names)| (Takes::of(value), names))
        .collect()
}

#[cfg(test)]
mod tests {
    pub(super) const HELP: &str = "\
Usage: tool -o IMAGE --kver RELEASE
       tool go | go-back [--fast]
       tool stop FILE   and say so

Goes.

  -o, --output IMAGE     where
      --how=slow|fast    how
      --man [tool.conf]  a page
  -d N[,N...]            how often
      --kver RELEASE     which
  -v, --verbose          say more

Exit status: 0 done.
";

    /// Words that are typed, of which a `=` is one, and what is offered for the last of them, in the folder of these sources.
    pub(super) const CASES: &[(&[&str], &[&str])] = &[
        (
            &["--"],
            &["--output", "--how", "--man", "--kver", "--verbose"],
        ),
        (&["-v"], &["-v"]),
        (&["g"], &["go", "go-back"]),
        (&["--verbose", "s"], &["stop"]),
        // A command stands once; then there are files.
        (&["go", "st"], &[]),
        (&["stop", "li"], &["lib.rs"]),
        (&["--how", "=", "s"], &["slow"]),
        (&["--how", "="], &["slow", "fast"]),
        (&["--how", ""], &["slow", "fast"]),
        (&["--man", "t"], &["tool.conf"]),
        (&["-d", "1"], &[]),
        (&["-o", "te"], &["text.rs"]),
        (&["--output", "te"], &["text.rs"]),
        (&["--output", "=", "te"], &["text.rs"]),
    ];

    pub(super) const NO_FILES: &str = "Usage: tool go | stop\n       tool status [--kernel=KERNEL]\n\n      --kernel=KERNEL  a file\n";
    pub(super) const NO_FILES_CASES: &[(&[&str], &[&str])] = &[
        (&["st"], &["stop", "status"]),
        (&["stop", "li"], &[]),
        (&["--kernel", "=", "li"], &["lib.rs"]),
    ];
}
