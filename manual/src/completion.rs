// SPDX-License-Identifier: MIT OR Apache-2.0
//! What bash completes, from a help text: its commands, its options, and what an option takes.
//!
//! Commands stand in the usage behind the program's name, with ` | ` between; options are the terms of the lists that begin
//! with a `-`. What an option takes stands behind a blank or a `=`: words with `|` between, or what it is in capitals.
//! ```
//! use manual::completion::{commands, options};
//! let help = "Usage: x go | stop\n       x -a FILE\n\n  -a, --all=FILE  all\n";
//! assert_eq!(commands(help), ["go", "stop"]);
//! assert_eq!(options(help).iter().map(|option| option.name).collect::<Vec<_>>(), ["-a", "--all"]);
//! assert_eq!(options(help)[1].value, "FILE");
//! ```

use crate::text::terms;
use alloc::format;
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

/// The script for bash that completes the words of `name`, whose help text is `help`.
#[must_use]
pub fn bash(name: &str, help: &str) -> String {
    let flags = options(help);
    let mut after = String::new();
    for (number, flag) in flags.iter().enumerate() {
        let is_new = !flags
            .iter()
            .take(number)
            .any(|before| before.value == flag.value);
        if flag.value.is_empty() || !is_new {
            continue;
        }
        let names: Vec<&str> = flags
            .iter()
            .filter(|other| other.value == flag.value)
            .map(|other| other.name)
            .collect();
        after.push_str(&format!(
            "        {}) {}; return ;;\n",
            names.join("|"),
            offer(flag.value)
        ));
    }
    let names: Vec<&str> = flags.iter().map(|flag| flag.name).collect();
    let commands = commands(help).join(" ");
    let files = if takes_files(help) {
        "_kdumprd_files"
    } else {
        ":"
    };
    format!(
        "\
# Completion of {name} for bash, made from what its --help prints.
_kdumprd_{name}() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} given
    local commands=\"{commands}\"
    _kdumprd_words() {{ mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$word\"); }}
    _kdumprd_files() {{
        compopt -o filenames 2>/dev/null
        mapfile -t -O ${{#COMPREPLY[@]}} COMPREPLY < <(compgen -f -- \"$word\")
    }}
    COMPREPLY=()
    # A `=` is a word of its own to bash.
    if [[ $word == = ]]; then
        word=
    elif [[ $before == = ]]; then
        before=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    case $before in
{after}    esac
    if [[ $word == -* ]]; then
        _kdumprd_words \"{}\"
        return
    fi
    for given in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do
        [[ \" $commands \" == *\" $given \"* ]] && commands=
    done
    _kdumprd_words \"$commands\"
    {files}
}}
complete -F _kdumprd_{name} {name}
",
        names.join(" ")
    )
}

/// The command of the script that offers what an option takes.
fn offer(value: &str) -> String {
    let value = value.trim_matches(['[', ']']);
    if FILES.contains(&value) {
        return String::from("_kdumprd_files");
    }
    if value == "RELEASE" {
        return String::from("_kdumprd_words \"$(ls /lib/modules 2>/dev/null)\"");
    }
    if value.contains(|letter: char| letter.is_ascii_lowercase()) {
        return format!("_kdumprd_words \"{}\"", value.replace('|', " "));
    }
    // A number or a text, which only the person knows.
    String::from(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::process::Command;

    const HELP: &str = "\
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

    /// What bash offers for the last of these words, which it has split.
    fn offered(help: &str, words: &[&str]) -> Vec<String> {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let script = format!(
            "{}\nCOMP_WORDS=(tool {})\nCOMP_CWORD={}\n_kdumprd_tool\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            bash("tool", help),
            quoted.join(" "),
            words.len()
        );
        let output = Command::new("bash")
            .args(["--norc", "-c", &script])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
            .output()
            .expect("bash is needed to test its completion");
        assert!(output.stderr.is_empty(), "{output:?}");
        let said = String::from_utf8(output.stdout).expect("words");
        said.lines()
            .filter(|line| !line.is_empty())
            .map(String::from)
            .collect()
    }

    #[test]
    fn bash_offers_what_the_help_has() {
        for (words, expected) in [
            (
                &["--"][..],
                &["--output", "--how", "--man", "--kver", "--verbose"][..],
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
        ] {
            assert_eq!(offered(HELP, words), expected, "{words:?}");
        }
    }

    #[test]
    fn without_files_in_the_usage_none_are_offered() {
        let help = "Usage: tool go | stop\n       tool status [--kernel=KERNEL]\n\n      --kernel=KERNEL  a file\n";
        assert_eq!(offered(help, &["st"]), ["stop", "status"]);
        assert!(offered(help, &["stop", "li"]).is_empty());
        assert_eq!(offered(help, &["--kernel", "=", "li"]), ["lib.rs"]);
    }
}
