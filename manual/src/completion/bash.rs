// SPDX-License-Identifier: MIT OR Apache-2.0
//! The script for bash, which needs nothing of the package bash-completion.

use super::{Takes, commands, options, takes_files, values};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The file that bash reads once.
pub(super) fn script(name: &str, help: &str) -> String {
    let flags = options(help);
    let after: String = values(&flags)
        .into_iter()
        .map(|(takes, names)| format!("        {}) {}; return ;;\n", names.join("|"), offer(takes)))
        .collect();
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
fn offer(takes: Takes<'_>) -> String {
    match takes {
        Takes::Files => String::from("_kdumprd_files"),
        Takes::Release => String::from("_kdumprd_words \"$(ls /lib/modules 2>/dev/null)\""),
        Takes::Words(words) => format!("_kdumprd_words \"{}\"", words.replace('|', " ")),
        Takes::Unknown => String::from(":"),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::super::tests::{CASES, HELP, NO_FILES, NO_FILES_CASES};
    use super::*;
    use std::process::Command;

    /// What bash offers for the last of these words, which it has split.
    fn offered(help: &str, words: &[&str]) -> Vec<String> {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let script = format!(
            "{}\nCOMP_WORDS=(tool {})\nCOMP_CWORD={}\n_kdumprd_tool\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            script("tool", help),
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
        for (words, expected) in CASES {
            assert_eq!(offered(HELP, words), *expected, "{words:?}");
        }
    }

    #[test]
    fn without_files_in_the_usage_none_are_offered() {
        for (words, expected) in NO_FILES_CASES {
            assert_eq!(offered(NO_FILES, words), *expected, "{words:?}");
        }
    }
}
