// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of boot loaders, as far as `crashkernel=` stands in them. Texts to texts; nothing is read or written here.

/// What of `/etc/default/grub` goes to every kernel.
const ALL_KERNELS: &str = "GRUB_CMDLINE_LINUX";

/// What of it goes to all but the rescue entries.
const NO_RESCUE: &str = "GRUB_CMDLINE_LINUX_DEFAULT";

/// The text of `/etc/default/grub` with `crashkernel=value` in the last `GRUB_CMDLINE_LINUX`, and in no other place.
///
/// # Errors
/// The number of the first line that sets one of the two in a way that takes a shell to understand.
pub fn in_default_grub(text: &str, value: &str) -> Result<String, usize> {
    let mut lines = Vec::new();
    let mut last = None;
    for (index, line) in text.lines().enumerate() {
        let assigned = Assignment::of(line).map_err(|NotPlain| index + 1)?;
        if assigned.as_ref().is_some_and(|it| it.name == ALL_KERNELS) {
            last = Some(index);
        }
        lines.push((line, assigned));
    }
    let mut new: Vec<String> = lines
        .iter()
        .enumerate()
        .map(|(index, (line, assigned))| match assigned {
            None => (*line).to_owned(),
            Some(assigned) if last == Some(index) => {
                assigned.with_words(&with(assigned.words, value))
            }
            Some(assigned) => assigned.with_words(&without(assigned.words)),
        })
        .collect();
    if last.is_none() {
        new.push(format!("{ALL_KERNELS}=\"crashkernel={value}\""));
    }
    Ok(new.join("\n") + "\n")
}

/// Whether a file that grub reads behind `/etc/default/grub` sets `crashkernel=` as well.
#[must_use]
pub fn sets_crashkernel(text: &str) -> bool {
    text.lines()
        .any(|line| !line.trim_start().starts_with('#') && line.contains("crashkernel="))
}

/// A line that sets a variable of a shell.
struct Assignment<'t> {
    name: &'static str,
    /// The line up to the value.
    before: &'t str,
    quote: Option<char>,
    words: &'t str,
    /// What stands behind the value.
    after: &'t str,
}

/// The value goes on in the next line, or is made of several pieces.
struct NotPlain;

impl<'t> Assignment<'t> {
    /// The setting of one of grub's two variables in this line.
    fn of(line: &'t str) -> Result<Option<Self>, NotPlain> {
        let start = line.trim_start();
        let start = start.strip_prefix("export ").unwrap_or(start).trim_start();
        let Some((name, value)) = [NO_RESCUE, ALL_KERNELS].into_iter().find_map(|name| {
            let rest = start.strip_prefix(name)?;
            Some((
                name,
                rest.strip_prefix('+').unwrap_or(rest).strip_prefix('=')?,
            ))
        }) else {
            return Ok(None);
        };
        let before = &line[..line.len() - value.len()];
        let quote = value.chars().next().filter(|it| matches!(it, '"' | '\''));
        let (words, after) = match quote {
            Some(quote) => {
                let inner = &value[1..];
                let end = closing(inner, quote).ok_or(NotPlain)?;
                (&inner[..end], &inner[end + 1..])
            }
            None => {
                let ends = |it: char| it.is_whitespace() || it == ';';
                value.split_at(value.find(ends).unwrap_or(value.len()))
            }
        };
        let is_whole =
            after.is_empty() || after.starts_with(|it: char| it.is_whitespace() || it == ';');
        if !is_whole || words.ends_with('\\') || (quote.is_none() && words.contains(['"', '\''])) {
            return Err(NotPlain);
        }
        Ok(Some(Self {
            name,
            before,
            quote,
            words,
            after,
        }))
    }

    /// The same line with another value.
    fn with_words(&self, words: &str) -> String {
        let quote = self.quote.unwrap_or('"');
        // What is added to another line's words must not grow together with the last of them.
        let is_joined = self.before.ends_with("+=") && !words.starts_with(' ') && !words.is_empty();
        let gap = if is_joined { " " } else { "" };
        format!("{}{quote}{gap}{words}{quote}{}", self.before, self.after)
    }
}

/// Where the quoted text ends; a backslash keeps a double quote from ending it.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().find_map(|(at, letter)| {
        let ends = letter == quote && !is_escaped;
        is_escaped = quote == '"' && letter == '\\' && !is_escaped;
        ends.then_some(at)
    })
}

/// The text of an entry of the Boot Loader Specification with `crashkernel=value` in its options.
#[must_use]
pub fn in_entry(text: &str, value: &str) -> String {
    let mut is_done = false;
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| match line.strip_prefix("options") {
            Some(rest) if rest.starts_with([' ', '\t']) && !is_done => {
                is_done = true;
                format!("options {}", with(rest.trim_start(), value))
            }
            Some(rest) if rest.starts_with([' ', '\t']) => {
                format!("options {}", without(rest.trim_start()))
            }
            _ => line.to_owned(),
        })
        .collect();
    if !is_done {
        lines.push(format!("options crashkernel={value}"));
    }
    lines.join("\n") + "\n"
}

/// The value of a key of such an entry.
#[must_use]
pub fn entry_value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(key)?;
        rest.starts_with([' ', '\t']).then(|| rest.trim())
    })
}

/// The text of `/etc/kernel/cmdline`, from which entries of later kernels are made.
#[must_use]
pub fn in_kernel_cmdline(text: &str, value: &str) -> String {
    with(text, value) + "\n"
}

/// A boot loader whose file is not edited, only what would have to stand in it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classic {
    /// grub before version 2.
    Grub,
    /// yaboot, of PowerPC.
    Yaboot,
    /// elilo, of Itanium and early EFI machines.
    Elilo,
    /// zipl, of s390.
    Zipl,
}

impl Classic {
    /// Where each has its file.
    pub const FILES: [(&'static str, Self); 6] = [
        ("boot/grub/grub.conf", Self::Grub),
        ("boot/grub/menu.lst", Self::Grub),
        ("etc/yaboot.conf", Self::Yaboot),
        ("etc/elilo.conf", Self::Elilo),
        ("boot/efi/EFI/redhat/elilo.conf", Self::Elilo),
        ("etc/zipl.conf", Self::Zipl),
    ];

    /// What a line that has the kernel's arguments looks like when there is none yet.
    fn example(self, value: &str) -> String {
        match self {
            Self::Grub => format!("kernel /vmlinuz-… root=… crashkernel={value}"),
            Self::Yaboot | Self::Elilo => format!("append=\"… crashkernel={value}\""),
            Self::Zipl => format!("parameters=\"… crashkernel={value}\""),
        }
    }

    /// What has to be run afterwards.
    const fn then(self) -> &'static str {
        match self {
            Self::Grub | Self::Elilo => "",
            Self::Yaboot => "; then run ybin",
            Self::Zipl => "; then run zipl",
        }
    }

    /// The line with `crashkernel=value`; none when it has no arguments of the kernel.
    fn line(self, line: &str, value: &str) -> Option<String> {
        let start = line.trim_start();
        let indent = &line[..line.len() - start.len()];
        if self == Self::Grub {
            let rest = start.strip_prefix("kernel")?;
            return rest
                .starts_with([' ', '\t'])
                .then(|| format!("{indent}kernel {}", with(rest.trim_start(), value)));
        }
        let key = if self == Self::Zipl {
            "parameters"
        } else {
            "append"
        };
        let rest = start.strip_prefix(key)?.trim_start().strip_prefix('=')?;
        let words = rest.trim().trim_matches('"');
        Some(format!("{indent}{key}=\"{}\"", with(words, value)))
    }

    /// What has to be changed in this file, for a person.
    #[must_use]
    pub fn by_hand(self, file: &str, text: &str, value: &str) -> String {
        let lines: Vec<String> = text
            .lines()
            .enumerate()
            .filter_map(|(index, line)| Some((index + 1, self.line(line, value)?)))
            .map(|(number, line)| format!("  line {number}: {}", line.trim_start()))
            .collect();
        if lines.is_empty() {
            return format!(
                "{file} is not edited, and has no arguments of a kernel; give each kernel that is to have them{}:\n  {}",
                self.then(),
                self.example(value)
            );
        }
        format!(
            "{file} is not edited; these lines become{}:\n{}",
            self.then(),
            lines.join("\n")
        )
    }
}

/// What is to be written by hand when no file of any boot loader is there.
#[must_use]
pub fn by_hand(value: &str) -> String {
    let forms: Vec<String> = [
        ("grub.conf", Classic::Grub),
        ("yaboot.conf", Classic::Yaboot),
        ("elilo.conf", Classic::Elilo),
        ("zipl.conf", Classic::Zipl),
    ]
    .into_iter()
    .map(|(file, classic)| format!("  {file:<12} {}{}", classic.example(value), classic.then()))
    .collect();
    format!(
        "no boot loader whose files are known was found; add crashkernel={value} by hand:\n{}",
        forms.join("\n")
    )
}

fn without(words: &str) -> String {
    let left: String = words
        .split_inclusive(char::is_whitespace)
        .filter(|word| {
            let word = word.trim_end();
            word != "crashkernel" && !word.starts_with("crashkernel=")
        })
        .collect();
    left.trim_end().to_owned()
}

fn with(words: &str, value: &str) -> String {
    let others = without(words);
    let gap = if others.is_empty() { "" } else { " " };
    format!("{others}{gap}crashkernel={value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_grub_get_it_once() {
        let text = "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT='quiet crashkernel=1G'\nGRUB_CMDLINE_LINUX=\"crashkernel=128M rhgb\"\n";
        let once = in_default_grub(text, "256M").unwrap();
        assert_eq!(
            once,
            "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT='quiet'\nGRUB_CMDLINE_LINUX=\"rhgb crashkernel=256M\"\n"
        );
        assert_eq!(in_default_grub(&once, "256M").unwrap(), once);
    }

    #[test]
    fn whatever_else_the_lines_of_grub_have_stays() {
        for (line, expected) in [
            ("", "GRUB_CMDLINE_LINUX=\"crashkernel=1M\""),
            (
                "GRUB_CMDLINE_LINUX=\"\"",
                "GRUB_CMDLINE_LINUX=\"crashkernel=1M\"",
            ),
            (
                "GRUB_CMDLINE_LINUX=",
                "GRUB_CMDLINE_LINUX=\"crashkernel=1M\"",
            ),
            (
                "GRUB_CMDLINE_LINUX=quiet # why",
                "GRUB_CMDLINE_LINUX=\"quiet crashkernel=1M\" # why",
            ),
            (
                "export GRUB_CMDLINE_LINUX=\"a  b\" # crashkernel=\"2M\"",
                "export GRUB_CMDLINE_LINUX=\"a  b crashkernel=1M\" # crashkernel=\"2M\"",
            ),
            (
                "GRUB_CMDLINE_LINUX=\"$(cmd \\\"x\\\") crashkernel=2M,high\"",
                "GRUB_CMDLINE_LINUX=\"$(cmd \\\"x\\\") crashkernel=1M\"",
            ),
            (
                "GRUB_CMDLINE_LINUX+=\" a\"",
                "GRUB_CMDLINE_LINUX+=\" a crashkernel=1M\"",
            ),
            (
                "GRUB_CMDLINE_LINUX+=\"\"",
                "GRUB_CMDLINE_LINUX+=\" crashkernel=1M\"",
            ),
        ] {
            assert_eq!(
                in_default_grub(line, "1M").unwrap(),
                format!("{expected}\n"),
                "{line}"
            );
        }
        assert_eq!(
            in_default_grub(
                "GRUB_CMDLINE_LINUX=\"a crashkernel=9M\"\nGRUB_CMDLINE_LINUX=\"b\"\n",
                "1M"
            )
            .unwrap(),
            "GRUB_CMDLINE_LINUX=\"a\"\nGRUB_CMDLINE_LINUX=\"b crashkernel=1M\"\n"
        );
    }

    #[test]
    fn what_takes_a_shell_to_understand_is_left_to_a_person() {
        for text in [
            "GRUB_CMDLINE_LINUX=\"a \\\n b\"\n",
            "GRUB_CMDLINE_LINUX=\"a\"' b'\n",
            "GRUB_CMDLINE_LINUX=a\" b\"\n",
            "GRUB_CMDLINE_LINUX=a\\\n",
        ] {
            assert_eq!(in_default_grub(text, "1M"), Err(1), "{text}");
        }
    }

    #[test]
    fn a_later_file_of_grub_is_looked_through_but_for_its_comments() {
        assert!(sets_crashkernel(
            "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT crashkernel=384M-:128M\"\n"
        ));
        assert!(!sets_crashkernel(
            "# crashkernel=384M-:128M\nGRUB_TIMEOUT=1\n"
        ));
    }

    #[test]
    fn an_entry_gets_it_once() {
        let text = "title A\nversion 6.1\nlinux /vmlinuz-6.1\noptions root=/dev/vda crashkernel=1G,high ro\n";
        let new = in_entry(text, "256M");
        assert_eq!(
            new,
            "title A\nversion 6.1\nlinux /vmlinuz-6.1\noptions root=/dev/vda ro crashkernel=256M\n"
        );
        assert_eq!(in_entry(&new, "256M"), new);
        assert_eq!(
            in_entry("title A\n", "1M"),
            "title A\noptions crashkernel=1M\n"
        );
        assert_eq!(entry_value(text, "version"), Some("6.1"));
        assert_eq!(entry_value(text, "vers"), None);
        assert_eq!(
            in_kernel_cmdline("root=/dev/vda ro\n", "1M"),
            "root=/dev/vda ro crashkernel=1M\n"
        );
    }

    #[test]
    fn the_lines_of_classic_boot_loaders_are_said_as_they_have_to_be() {
        for (classic, text, expected) in [
            (
                Classic::Grub,
                "default=0\ntitle A\n\troot (hd0,0)\n\tkernel /vmlinuz ro root=LABEL=/ crashkernel=128M@16M\n\tinitrd /x\n",
                "line 4: kernel /vmlinuz ro root=LABEL=/ crashkernel=256M",
            ),
            (
                Classic::Yaboot,
                "image=/vmlinux\n\tappend=\"console=hvc0\"\n",
                "line 2: append=\"console=hvc0 crashkernel=256M\"",
            ),
            (
                Classic::Elilo,
                "image=vmlinuz\n  append = \"rhgb quiet\"\n",
                "line 2: append=\"rhgb quiet crashkernel=256M\"",
            ),
            (
                Classic::Zipl,
                "[linux]\nparameters=\"root=/dev/dasda1\"\n",
                "line 2: parameters=\"root=/dev/dasda1 crashkernel=256M\"",
            ),
        ] {
            let said = classic.by_hand("/FILE", text, "256M");
            assert!(
                said.starts_with("/FILE is not edited; ") && said.ends_with(expected),
                "{said}"
            );
            let said = classic.by_hand("/FILE", "timeout=5\n", "256M");
            assert!(
                said.contains("crashkernel=256M") && said.contains("no arguments"),
                "{said}"
            );
        }
    }

    #[test]
    fn other_boot_loaders_have_their_lines_as_text() {
        let text = by_hand("256M");
        for part in [
            "grub.conf",
            "yaboot.conf",
            "elilo.conf",
            "zipl.conf",
            "crashkernel=256M",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }
}
