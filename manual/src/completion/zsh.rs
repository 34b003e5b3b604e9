// SPDX-License-Identifier: MIT OR Apache-2.0
//! The script for zsh, as a function of its completion system.

use super::{Takes, commands, options, takes_files, values};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The file `_NAME` for a folder of `fpath`. zsh itself leaves out what does not begin with the word.
pub(super) fn script(name: &str, help: &str) -> String {
    let flags = options(help);
    let after: String = values(&flags)
        .into_iter()
        .map(|(takes, names)| format!("    ({}) {}; return ;;\n", names.join("|"), offer(takes)))
        .collect();
    let names: Vec<&str> = flags.iter().map(|flag| flag.name).collect();
    let files = if takes_files(help) { "_files" } else { ":" };
    format!(
        "\
#compdef {name}
# Completion of {name} for zsh, made from what its --help prints.
local before=$words[CURRENT-1] given
local -a commands=({})
# What an option takes may stand behind a `=` in the same word.
if [[ $words[CURRENT] == --*=* ]]; then
    before=${{words[CURRENT]%%=*}}
    compset -P 1 '*='
fi
case $before in
{after}esac
if [[ $words[CURRENT] == -* ]]; then
    compadd -- {}
    return
fi
for given in $words[2,CURRENT-1]; do
    (( $commands[(Ie)$given] )) && commands=()
done
compadd -a commands
{files}
",
        commands(help).join(" "),
        names.join(" ")
    )
}

/// The command of the script that offers what an option takes.
fn offer(takes: Takes<'_>) -> String {
    match takes {
        Takes::Files => String::from("_files"),
        Takes::Release => String::from("compadd -- /lib/modules/*(N:t)"),
        Takes::Words(words) => format!("compadd -- {}", words.replace('|', " ")),
        Takes::Unknown => String::from(":"),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::super::tests::{CASES, HELP, NO_FILES, NO_FILES_CASES};
    use super::*;
    use alloc::borrow::ToOwned as _;
    use std::path::PathBuf;
    use std::process::Command;
    use std::{env, fs, process};

    /// A shell in a terminal of another one's, as completion works in no other; what it offers goes to a file and not to the
    /// screen. Each case is a line that is typed, and the answers are separated by lines with `END`.
    const TYPED: &str = r#"
zmodload zsh/zpty || exit 2
zpty shell zsh -f -i
tell() { zpty -w shell "$1" }
tell "fpath=($1 \$fpath); cd $2; PS1=; autoload -Uz compinit && compinit -u -D"
tell 'compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
    local -a hits
    builtin compadd -A hits "$@"
    print -rl -- $hits >> '$1'/said
    builtin compadd "$@"
}'
tell 'offer() { _main_complete; print END >> '$1'/said }'
tell 'zle -C offer complete-word offer; bindkey "^T" offer'
tell "print READY >> $1/said"
count() { grep -cx "$1" $said 2>/dev/null }
said=$1/said dir=$1
shift 2
waited=0
until [[ $(count READY) == 1 ]]; do sleep 0.1; (( ++waited < 600 )) || exit 3; done
number=0
for line in "$@"; do
    zpty -w -n shell "$line"$'\x14'
    (( ++number ))
    until [[ $(count END) == $number ]]; do sleep 0.1; (( ++waited < 600 )) || exit 4; done
    zpty -w -n shell $'\x15'
done
zpty -d shell
"#;

    /// What zsh offers for each of these lines.
    fn offered(name: &str, help: &str, lines: &[String]) -> Vec<Vec<String>> {
        let folder: PathBuf = env::temp_dir().join(format!("zsh-{name}-{}", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("_tool"), script("tool", help)).expect("the script");
        let output = Command::new("zsh")
            .args(["-f", "-c", TYPED, "typed"])
            .arg(&folder)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
            .args(lines)
            .env("TERM", "dumb")
            .output()
            .expect("zsh is needed to test its completion; `apt-get install zsh`");
        let said = fs::read_to_string(folder.join("said")).unwrap_or_default();
        assert!(output.status.success(), "{output:?}: {said}");
        fs::remove_dir_all(folder).expect("our folder");
        let answers = said.strip_prefix("READY\n").expect("READY");
        let words = |answer: &str| {
            let mut words: Vec<String> = Vec::new();
            for word in answer.lines().filter(|line| !line.is_empty()) {
                if !words.iter().any(|known| known == word) {
                    words.push(word.to_owned());
                }
            }
            words
        };
        answers
            .split("END\n")
            .take(lines.len())
            .map(words)
            .collect()
    }

    fn agrees(name: &str, help: &str, cases: &[(&[&str], &[&str])]) {
        let lines: Vec<String> = cases
            .iter()
            .map(|(words, _)| {
                format!(
                    "tool {}",
                    words.join(" ").replace(" = ", "=").replace(" =", "=")
                )
            })
            .collect();
        let offered = offered(name, help, &lines);
        assert_eq!(offered.len(), cases.len());
        for ((line, offered), (_, expected)) in lines.iter().zip(offered).zip(cases) {
            assert_eq!(offered, *expected, "{line}");
        }
    }

    #[test]
    fn zsh_offers_what_the_help_has() {
        agrees("help", HELP, CASES);
    }

    #[test]
    fn without_files_in_the_usage_none_are_offered() {
        agrees("none", NO_FILES, NO_FILES_CASES);
    }
}
