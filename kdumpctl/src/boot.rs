// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of boot loaders, as far as `crashkernel=` stands in them. Texts to texts; nothing is read or written here.

/// The text of `/etc/default/grub` with `crashkernel=value` in `GRUB_CMDLINE_LINUX`, and in no other place.
#[must_use]
pub fn in_default_grub(text: &str, value: &str) -> String {
    const NAME: &str = "GRUB_CMDLINE_LINUX";
    let mut lines: Vec<String> = Vec::new();
    let mut is_done = false;
    for line in text.lines() {
        let given = [NAME, "GRUB_CMDLINE_LINUX_DEFAULT"]
            .into_iter()
            .find_map(|name| {
                let rest = line.trim_start().strip_prefix(name)?.strip_prefix('=')?;
                Some((name, rest.trim_end()))
            });
        let Some((name, rest)) = given else {
            lines.push(line.to_owned());
            continue;
        };
        let quote = rest
            .chars()
            .next()
            .filter(|letter| matches!(letter, '"' | '\''));
        let inner = match quote {
            Some(quote) => rest.trim_start_matches(quote).trim_end_matches(quote),
            None => rest,
        };
        let quote = quote.unwrap_or('"');
        let words = if name == NAME {
            is_done = true;
            with(inner, value)
        } else {
            without(inner)
        };
        lines.push(format!("{name}={quote}{words}{quote}"));
    }
    if !is_done {
        lines.push(format!("{NAME}=\"crashkernel={value}\""));
    }
    lines.join("\n") + "\n"
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
                format!("options {}", with(rest, value))
            }
            Some(rest) if rest.starts_with([' ', '\t']) => format!("options {}", without(rest)),
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

/// What is to be written by hand for boot loaders whose files are not edited here.
#[must_use]
pub fn by_hand(value: &str) -> String {
    format!(
        "no boot loader whose files are known was found; add crashkernel={value} by hand:\n\
         \x20 grub.conf, menu.lst   kernel /vmlinuz-… root=… crashkernel={value}\n\
         \x20 yaboot.conf           append=\"… crashkernel={value}\"    (then run ybin)\n\
         \x20 elilo.conf            append=\"… crashkernel={value}\"\n\
         \x20 zipl.conf             parameters=\"… crashkernel={value}\"    (then run zipl)"
    )
}

fn without(words: &str) -> String {
    let left: Vec<&str> = words
        .split_whitespace()
        .filter(|word| *word != "crashkernel" && !word.starts_with("crashkernel="))
        .collect();
    left.join(" ")
}

fn with(words: &str, value: &str) -> String {
    format!("{} crashkernel={value}", without(words))
        .trim_start()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_grub_get_it_once() {
        let text = "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT='quiet crashkernel=1G'\nGRUB_CMDLINE_LINUX=\"crashkernel=128M rhgb\"\n";
        assert_eq!(
            in_default_grub(text, "256M"),
            "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT='quiet'\nGRUB_CMDLINE_LINUX=\"rhgb crashkernel=256M\"\n"
        );
        assert_eq!(
            in_default_grub("", "1M"),
            "GRUB_CMDLINE_LINUX=\"crashkernel=1M\"\n"
        );
        assert_eq!(
            in_default_grub("GRUB_CMDLINE_LINUX=\"\"\n", "1M"),
            "GRUB_CMDLINE_LINUX=\"crashkernel=1M\"\n"
        );
        let once = in_default_grub(text, "256M");
        assert_eq!(in_default_grub(&once, "256M"), once);
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
    }

    #[test]
    fn other_boot_loaders_have_their_lines_as_text() {
        let text = by_hand("256M");
        for part in ["grub.conf", "yaboot.conf", "elilo.conf", "crashkernel=256M"] {
            assert!(text.contains(part), "{part}");
        }
    }
}
