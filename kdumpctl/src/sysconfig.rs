// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/etc/sysconfig/kdump`: assignments as a shell reads them, of which the peers' scripts source the file.
//!
//! `KEY=value`, quotes of both kinds, `\` before a line's end or a letter, `${KEY}` of a line before, `KEY+=value`. Nothing is
//! run: a command substitution is a mistake.

use initramfs_builder::error::{Mistake, Mistakes};
use std::collections::BTreeMap;

/// Every key of RHEL 5 and of current kdump-utils, with what stands when the file does not say otherwise, where that is a
/// text. Source: kdump-utils 63f248c `gen-kdump-sysconfig.sh`, and its history 88c0ba0 for RHEL 5.
const KEYS: [&str; 15] = [
    "KDUMP_KERNELVER",
    "KDUMP_COMMANDLINE",
    "KDUMP_COMMANDLINE_REMOVE",
    "KDUMP_COMMANDLINE_APPEND",
    "KEXEC_ARGS",
    "KDUMP_BOOTDIR",
    "KDUMP_IMG",
    "KDUMP_IMG_EXT",
    "MKDUMPRD_ARGS",
    "FADUMP_COMMANDLINE_APPEND",
    "FADUMP_ENABLED",
    "VMCORE_CREATION_NOTIFICATION",
    "KDUMP_STDLOGLVL",
    "KDUMP_SYSLOGLVL",
    "KDUMP_KMSGLOGLVL",
];

/// Keys that concern what this program does not have: firmware-assisted dumps of POWER, and the service's own mail.
const WITHOUT_EFFECT: [&str; 4] = [
    "MKDUMPRD_ARGS",
    "FADUMP_COMMANDLINE_APPEND",
    "FADUMP_ENABLED",
    "VMCORE_CREATION_NOTIFICATION",
];

const PAGE: &str = include_str!("kdump.sysconfig.txt");

/// The manual page kdump.sysconfig(5), in roff.
#[must_use]
pub fn page() -> String {
    manual::file_page(
        "kdump.sysconfig",
        "which kernel is started at a crash, and its command line",
        PAGE,
    )
}

/// Options of kexec-tools that `KEXEC_ARGS` has in the wild and that change nothing here: there is one way of loading.
const KEXEC_ARGS: [&str; 10] = [
    "-s",
    "--kexec-file-syscall",
    "-a",
    "--kexec-syscall-auto",
    "-d",
    "--debug",
    "--args-linux",
    "--elf32-core-headers",
    "--elf64-core-headers",
    "--dt-no-old-root",
];

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    None,
    /// Errors.
    Error,
    /// Warnings too.
    Warning,
    /// What is done too.
    Info,
    /// Everything.
    Debug,
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysconfig {
    /// The capture kernel's release; none for the running kernel's.
    pub kernel: Option<String>,
    /// The line that the capture kernel's is made from; none for the running kernel's.
    pub command_line: Option<String>,
    /// What is taken from it; none for the usual.
    pub remove: Option<String>,
    /// What is added to it; none for the usual.
    pub append: Option<String>,
    /// Where kernel and image are; none for where they are found.
    pub boot_directory: Option<String>,
    /// What the kernel's file name begins with.
    pub kernel_name: String,
    /// What it ends with.
    pub kernel_suffix: String,
    /// What is said on the terminal.
    pub terminal: Level,
    /// What is said to the system's log.
    pub syslog: Level,
    /// What is said to the kernel's log.
    pub kernel_log: Level,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl Default for Sysconfig {
    fn default() -> Self {
        Self {
            kernel: None,
            command_line: None,
            remove: None,
            append: None,
            boot_directory: None,
            kernel_name: "vmlinuz".to_owned(),
            kernel_suffix: String::new(),
            terminal: Level::Info,
            syslog: Level::None,
            kernel_log: Level::None,
            warnings: Vec::new(),
        }
    }
}

/// Reads the text of the file; `file` is its name in messages.
///
/// # Errors
/// Every line that is wrong: where, what, and what is accepted.
pub fn parse(file: &str, text: &str) -> Result<Sysconfig, Mistakes> {
    let mut found = Sysconfig::default();
    let mut values: BTreeMap<&str, String> = BTreeMap::new();
    let mut mistakes = Mistakes::default();
    let mut lines = (1_u32..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        let mut line = line.to_owned();
        while line.ends_with('\\') && !line.trim_start().starts_with('#') {
            line.pop();
            let Some((_, next)) = lines.next() else { break };
            line.push_str(next);
        }
        let taken = assignment(&line, &values).and_then(|assigned| {
            let Some((name, value)) = assigned else {
                return Ok(());
            };
            let Some(&name) = KEYS.iter().find(|known| **known == name) else {
                // The shell takes any name, and distributions add theirs.
                found.warnings.push(format!(
                    "{file}:{number}: {name} is no key that is known, and has no effect"
                ));
                return Ok(());
            };
            found
                .take(name, &value)
                .map_err(|message| format!("{name}: {message}"))?;
            if WITHOUT_EFFECT.contains(&name) && !value.is_empty() {
                found
                    .warnings
                    .push(format!("{file}:{number}: {name} has no effect here"));
            }
            values.insert(name, value);
            Ok(())
        });
        if let Err(message) = taken {
            mistakes.0.push(Mistake {
                place: Some((file.to_owned(), number)),
                message,
            });
        }
    }
    if mistakes.0.is_empty() {
        Ok(found)
    } else {
        Err(mistakes)
    }
}

impl Sysconfig {
    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        let some = || Some(value.to_owned());
        let unless_empty = || some().filter(|value| !value.is_empty());
        match name {
            "KDUMP_KERNELVER" => self.kernel = unless_empty(),
            "KDUMP_COMMANDLINE" => self.command_line = unless_empty(),
            // Empty means that nothing is removed and nothing is added.
            "KDUMP_COMMANDLINE_REMOVE" => self.remove = some(),
            "KDUMP_COMMANDLINE_APPEND" => self.append = some(),
            "KDUMP_BOOTDIR" => {
                if !value.is_empty() && !value.starts_with('/') {
                    return Err(format!(
                        "`{value}` is no absolute path; accepted is a directory: /boot"
                    ));
                }
                self.boot_directory = unless_empty();
            }
            "KDUMP_IMG" => value.clone_into(&mut self.kernel_name),
            "KDUMP_IMG_EXT" => value.clone_into(&mut self.kernel_suffix),
            "KDUMP_STDLOGLVL" => self.terminal = level(value)?,
            "KDUMP_SYSLOGLVL" => self.syslog = level(value)?,
            "KDUMP_KMSGLOGLVL" => self.kernel_log = level(value)?,
            "KEXEC_ARGS" => {
                for word in value.split_whitespace() {
                    match word {
                        "-c" | "--kexec-syscall" => self.warnings.push(format!(
                            "KEXEC_ARGS: {word} asks for kexec_load(2), which is not supported; kexec_file_load(2) is used"
                        )),
                        word if KEXEC_ARGS.contains(&word) => {}
                        word => self
                            .warnings
                            .push(format!("KEXEC_ARGS: `{word}` has no effect here")),
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn level(value: &str) -> Result<Level, String> {
    Ok(match value {
        "0" => Level::None,
        "1" => Level::Error,
        "2" => Level::Warning,
        "3" => Level::Info,
        "4" => Level::Debug,
        other => {
            return Err(format!(
                "`{other}` is no level; accepted are 0 (nothing), 1 (errors), 2 (warnings), 3 (what is done) and 4 (all)"
            ));
        }
    })
}

/// The name and the value of an assignment; none on a line without one.
fn assignment(
    line: &str,
    before: &BTreeMap<&str, String>,
) -> Result<Option<(String, String)>, String> {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let wrong = || {
        format!(
            "`{}` is no assignment; accepted is KEY=\"value\"",
            line.trim_end()
        )
    };
    let (name, value) = line.split_once('=').ok_or_else(wrong)?;
    let (name, is_added) = match name.strip_suffix('+') {
        Some(name) => (name, true),
        None => (name, false),
    };
    let fine = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    if name.is_empty() || !name.chars().all(fine) {
        return Err(wrong());
    }
    let mut value = unquoted(value, before)?;
    if is_added {
        value.insert_str(0, before.get(name).map_or("", String::as_str));
    }
    Ok(Some((name.to_owned(), value)))
}

fn unquoted(text: &str, before: &BTreeMap<&str, String>) -> Result<String, String> {
    let mut value = String::new();
    let mut quote = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some('\''), _) => value.push(letter),
            (None, '\'' | '"') => quote = Some(letter),
            (_, '\\') => match letters.next() {
                // Inside double quotes it is a letter before most others.
                Some(next) if quote.is_some() && !matches!(next, '"' | '\\' | '$' | '`') => {
                    value.push('\\');
                    value.push(next);
                }
                Some(next) => value.push(next),
                None => return Err("a `\\` at the end of the file".to_owned()),
            },
            (_, '`') => return Err(no_commands()),
            (_, '$') => match letters.peek() {
                Some('(') => return Err(no_commands()),
                Some('{') => {
                    letters.next();
                    let name: String = letters
                        .by_ref()
                        .take_while(|&letter| letter != '}')
                        .collect();
                    value.push_str(before.get(name.as_str()).map_or("", String::as_str));
                }
                _ => {
                    let mut name = String::new();
                    while let Some(letter) =
                        letters.next_if(|&letter| letter.is_ascii_alphanumeric() || letter == '_')
                    {
                        name.push(letter);
                    }
                    value.push_str(before.get(name.as_str()).map_or("", String::as_str));
                }
            },
            (None, _) if letter.is_whitespace() => {
                let rest: String = letters.collect();
                let rest = rest.trim_start();
                if rest.is_empty() || rest.starts_with('#') {
                    break;
                }
                return Err(format!(
                    "`{rest}` stands behind the value; a value with blanks needs quotes"
                ));
            }
            _ => value.push(letter),
        }
    }
    match quote {
        Some(open) => Err(format!("a quote ({open}) without its end")),
        None => Ok(value),
    }
}

fn no_commands() -> String {
    "commands are not run; write the value itself".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kexec::command_line::{USUALLY_ADDED, USUALLY_REMOVED};

    fn parsed(text: &str) -> Sysconfig {
        parse("kdump", text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    #[test]
    fn a_file_of_the_rhel_5_days_is_read_whole() {
        let found = parsed(
            "# Kernel Version string for the -kdump kernel, such as 2.6.13-1544.FC5kdump\n\
             KDUMP_KERNELVER=\"\"\n\
             KDUMP_COMMANDLINE=\"\"\n\
             KDUMP_COMMANDLINE_APPEND=\"irqpoll maxcpus=1 reset_devices\"\n\
             KEXEC_ARGS=\" --args-linux\"\n\
             KDUMP_BOOTDIR=\"/boot\"\n\
             KDUMP_IMG=\"vmlinuz\"\n\
             KDUMP_IMG_EXT=\"\"\n",
        );
        assert_eq!(
            found.append.as_deref(),
            Some("irqpoll maxcpus=1 reset_devices")
        );
        assert_eq!(found.boot_directory.as_deref(), Some("/boot"));
        assert_eq!(
            (found.kernel, found.command_line, found.remove),
            (None, None, None)
        );
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    }

    #[test]
    fn a_file_of_today_is_read_whole() {
        let found = parsed(
            "KDUMP_KERNELVER='6.12.0-55.el10'\nKDUMP_COMMANDLINE_REMOVE=\"hugepages quiet\"\n\
             KDUMP_COMMANDLINE_APPEND=\"irqpoll nr_cpus=1 \\\n  numa=off\"\n\
             KDUMP_COMMANDLINE_APPEND+=\" console=ttyS1\"\nKEXEC_ARGS=\"-s\"\nKDUMP_IMG=bzImage # plain\n\
             export KDUMP_STDLOGLVL=4\nKDUMP_SYSLOGLVL=0\nKDUMP_KMSGLOGLVL=2\nKDUMP_IMG_EXT=\"$KDUMP_IMG.${KDUMP_KERNELVER}\"\n\
             VMCORE_CREATION_NOTIFICATION=\"\"\n",
        );
        assert_eq!(found.kernel.as_deref(), Some("6.12.0-55.el10"));
        assert_eq!(found.remove.as_deref(), Some("hugepages quiet"));
        assert_eq!(
            found.append.as_deref(),
            Some("irqpoll nr_cpus=1   numa=off console=ttyS1")
        );
        assert_eq!(found.kernel_name, "bzImage");
        assert_eq!(found.kernel_suffix, "bzImage.6.12.0-55.el10");
        assert_eq!(
            (found.terminal, found.syslog, found.kernel_log),
            (Level::Debug, Level::None, Level::Warning)
        );
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let found = parsed("KEXEC_ARGS=\"-c --mem-max=1\"\nFADUMP_ENABLED=yes\nKDUMP_HELPER=1\n");
        let said = found.warnings.join("\n");
        for part in [
            "-c asks for kexec_load(2)",
            "`--mem-max=1`",
            "kdump:2: FADUMP_ENABLED",
            "kdump:3: KDUMP_HELPER",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn what_is_wrong_gets_its_place_and_what_is_accepted() {
        for (text, said) in [
            ("\nKDUMP_IMG=$(uname -r)", "kdump:2: commands are not run"),
            ("KDUMP_IMG=`uname`", "commands are not run"),
            ("KDUMP_IMG=a b", "`b` stands behind the value"),
            ("KDUMP_IMG=\"a", "a quote (\") without its end"),
            (
                "KDUMP_BOOTDIR=boot",
                "KDUMP_BOOTDIR: `boot` is no absolute path",
            ),
            ("KDUMP_STDLOGLVL=5", "accepted are 0 (nothing)"),
            ("KDUMP IMG", "is no assignment"),
            ("if true; then", "is no assignment"),
        ] {
            let mistakes = parse("kdump", text).unwrap_err().to_string();
            assert!(mistakes.contains(said), "{text}: {mistakes}");
        }
    }

    #[test]
    fn the_page_has_each_key_once_and_no_other() {
        let sorted = |mut words: Vec<&'static str>| {
            words.sort_unstable();
            words
        };
        let below = |is_wanted: fn(&str) -> bool| {
            let terms = manual::terms(PAGE).into_iter();
            sorted(
                terms
                    .filter(|(heading, _)| is_wanted(heading))
                    .map(|(_, term)| term)
                    .collect(),
            )
        };
        assert_eq!(below(|_| true), sorted(KEYS.to_vec()));
        // What KEXEC_ARGS can have changes nothing either.
        let without_effect = [&WITHOUT_EFFECT[..], &["KEXEC_ARGS"]].concat();
        assert_eq!(
            below(|heading| heading == "WITHOUT EFFECT"),
            sorted(without_effect)
        );
    }

    #[test]
    fn the_page_has_the_defaults_that_hold() {
        let text = PAGE.split_whitespace().collect::<Vec<_>>().join(" ");
        for default in [USUALLY_REMOVED, USUALLY_ADDED] {
            assert!(
                text.contains(&format!("Without the key: {default}")),
                "{default}"
            );
        }
        let example: String = manual::parts(PAGE)
            .filter_map(|part| match part {
                manual::Part::Example(line) => Some(format!("{line}\n")),
                _ => None,
            })
            .collect();
        let found = parsed(&example);
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);
        assert_eq!(found.syslog, Level::Warning);
    }

    #[test]
    fn every_cut_is_a_value_or_a_mistake() {
        let text = "KDUMP_IMG=\"a\\\" ${KDUMP_IMG} $X\"'b' \\\n# c\nexport KDUMP_BOOTDIR=/b\\ c\n";
        for length in 0..text.len() {
            let _ = parse("kdump", &text[..length]);
        }
    }
}
