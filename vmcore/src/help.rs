// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `-h`, `--man`, `--completion` and `-v` print, from the table of options.

use std::fmt::Write as _;

use manual::completion::{Shell, script};

use super::table::{Kind, TABLE};

const USAGE: &str = "\
Usage: NAME [OPTIONS] VMCORE OUT                  filter and compress VMCORE into OUT
       NAME [OPTIONS] -F VMCORE                   the same, flattened, to standard output
       NAME [OPTIONS] --split VMCORE OUT OUT...   several files that make a dump together
       NAME --reassemble PART PART... OUT         join them
       NAME -R OUT < FLATTENED                    turn a flattened dump into the file that it stands for
       NAME --dump-dmesg VMCORE OUT               the log of the crashed kernel
       NAME --mem-usage /proc/kcore               the pages of the running system by kind
";

const OWN_USAGE: &str =
    "       NAME info FILE                             what FILE is and what it has
       NAME verify FILE                           read a dump back: every header field, every page
       NAME diff A B                              which pages two dumps have differently
       NAME save-raw DEVICE FOLDER                recover the dump of a raw target, whole or cut short
       NAME decrypt -i KEYFILE FILE OUT           make an encrypted dump or log (.age) readable, whole or cut short
";

const NOTES: &str = "
VMCORE is /proc/vmcore, a copy of it, or a dump that was made before: ELF, kdump-compressed, flattened, incomplete.

Exit status: 0 done, 1 failed, 2 the file of -x or -i is of another kernel.
";

/// The makedumpfile whose options these are.
const PEER: &str = "1.7.9";
/// Columns up to the explanations.
const INDENT: usize = 26;
/// Columns of a line.
const WIDTH: usize = 100;

fn name(as_makedumpfile: bool) -> &'static str {
    if as_makedumpfile {
        "makedumpfile"
    } else {
        "vmcore"
    }
}

/// The help text as a manual page, in roff.
pub(crate) fn manual(as_makedumpfile: bool) -> String {
    manual::page(
        name(as_makedumpfile),
        "filter and compress the memory of a crashed kernel",
        &text(as_makedumpfile),
    )
}

/// The script by which a shell completes what the help text has.
pub(crate) fn completion(shell: Shell, as_makedumpfile: bool) -> String {
    script(shell, name(as_makedumpfile), &text(as_makedumpfile))
}

/// The help text.
pub(crate) fn text(as_makedumpfile: bool) -> String {
    let name = name(as_makedumpfile);
    let mut text = USAGE.replace("NAME", name);
    if !as_makedumpfile {
        text.push_str(&OWN_USAGE.replace("NAME", name));
    }
    text.push('\n');
    for row in TABLE {
        if matches!(row.kind, Kind::Refused(_)) {
            continue;
        }
        let mut option = String::from("  ");
        match (row.short, row.long) {
            (Some(short), Some(long)) => {
                let _ = write!(option, "-{short}, --{long}");
            }
            (Some(short), None) => {
                let _ = write!(option, "-{short}");
            }
            (None, long) => {
                let _ = write!(option, "--{}", long.unwrap_or_default());
            }
        }
        if let Some(value) = row.value {
            let _ = write!(option, " {value}");
        }
        let mut line = format!("{option:<INDENT$}");
        if option.len() >= INDENT {
            let _ = writeln!(text, "{option}");
            line = " ".repeat(INDENT);
        }
        for word in row.help.split(' ') {
            if line.len() + 1 + word.len() > WIDTH {
                let _ = writeln!(text, "{}", line.trim_end());
                line = " ".repeat(INDENT);
            }
            if line.len() > INDENT {
                line.push(' ');
            }
            line.push_str(word);
        }
        let _ = writeln!(text, "{line}");
    }
    text.push_str(NOTES);
    text
}

/// What `-v` prints.
pub(crate) fn version(as_makedumpfile: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    if as_makedumpfile {
        // Scripts take the third word, and look for the codecs behind it.
        format!(
            "makedumpfile: version {PEER} (its options; the program is kdumprd's vmcore {version})\n\
             lzo\tenabled\nsnappy\tenabled\nzstd\tenabled\n"
        )
    } else {
        format!("vmcore {version}, with the options of makedumpfile {PEER}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_in_the_help_or_refused() {
        let text = text(false);
        for row in TABLE {
            let name = match (row.short, row.long) {
                (Some(short), _) => format!("  -{short}"),
                (None, long) => format!("  --{}", long.unwrap()),
            };
            let listed = text.lines().any(|line| {
                line.strip_prefix(&name)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ',']))
            });
            assert_eq!(listed, !matches!(row.kind, Kind::Refused(_)), "{name}");
            assert_eq!(row.help.is_empty(), !listed, "{name}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= 120),
            "{text}"
        );
    }

    #[test]
    fn the_page_and_both_shells_have_every_option_and_command_of_the_help() {
        for as_makedumpfile in [false, true] {
            let page = manual(as_makedumpfile);
            let scripts = [Shell::Bash, Shell::Zsh].map(|shell| completion(shell, as_makedumpfile));
            for row in TABLE {
                if matches!(row.kind, Kind::Refused(_)) {
                    continue;
                }
                let names = row
                    .short
                    .map(|short| format!("-{short}"))
                    .into_iter()
                    .chain(row.long.map(|long| format!("--{long}")));
                for name in names {
                    let in_roff = name.replace('-', "\\-");
                    assert!(page.contains(&in_roff), "{name}: {page}");
                    for script in &scripts {
                        let mut words = script.split([' ', '"', '\n']);
                        assert!(words.any(|word| word == name), "{name}: {script}");
                    }
                }
            }
            for part in [
                ".SH SYNOPSIS\n",
                ".SH OPTIONS AND COMMANDS\n",
                "\n.PP\nVMCORE is /proc/vmcore",
                "\n.SH EXIT STATUS\n0 done, 1 failed",
            ] {
                assert!(page.contains(part), "{part:?}: {page}");
            }
            for script in &scripts {
                let has_commands = script.contains("info verify diff save-raw decrypt");
                assert_eq!(has_commands, !as_makedumpfile, "{script}");
            }
        }
        let bash = completion(Shell::Bash, true);
        assert!(bash.ends_with("complete -F _kdumprd_makedumpfile makedumpfile\n"));
        assert!(completion(Shell::Zsh, true).starts_with("#compdef makedumpfile\n"));
    }

    #[test]
    fn under_its_peers_name_it_has_its_peers_words() {
        assert!(text(true).contains("makedumpfile --reassemble"));
        assert!(!text(true).contains("verify"));
        assert!(version(true).starts_with("makedumpfile: version 1.7.9 "));
    }
}
