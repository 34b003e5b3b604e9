// SPDX-License-Identifier: MIT OR Apache-2.0
//! The settings of SUSE's kdump and of Debian's kdump-tools, read as the `kdump.conf` that says the same.
//!
//! ```text
//! /etc/sysconfig/kdump      KDUMP_SAVEDIR="nfs://nas/dumps"   ─▶   nfs nas:/dumps
//! /etc/default/kdump-tools  NFS="nas:/dumps"                  ─▶   path /
//! ```
//! Every key either becomes directives, or leaves a warning or a mistake that says why not. What such a key cannot mean
//! here, or means otherwise, is a warning; what would save no dump is a mistake.

mod debian;
mod shell;
mod suse;
mod write;

pub use write::{Written, write};

use super::line::Line;
use super::spelling::nearest;
use super::{Directives, take};
use crate::error::{At, Mistake, Mistakes};
use shell::{Setting, Settings};
use std::fs;
use std::path::Path;

/// Whose way a file of settings is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `kdump.conf` of RHEL 5, RHEL 6, and RHEL and Fedora of today.
    Rhel,
    /// SUSE's `/etc/sysconfig/kdump`.
    Suse,
    /// Debian's and Ubuntu's `/etc/default/kdump-tools`.
    Debian,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 3] = [Self::Rhel, Self::Suse, Self::Debian];

    /// Its word on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rhel => "rhel",
            Self::Suse => "suse",
            Self::Debian => "debian",
        }
    }

    /// The dialect that `word` names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.word() == word)
    }

    /// The dialect of a file by what is in it. A line of `kdump.conf` never is `KEY=VALUE`.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let mut keys = text.lines().filter_map(shell::key_of).peekable();
        if keys.peek().is_none() {
            return Self::Rhel;
        }
        if keys.any(|key| debian::KEYS.contains(&key) && !suse::KEYS.contains(&key)) {
            Self::Debian
        } else {
            Self::Suse
        }
    }
}

/// Parses a file of settings in this dialect; `file` is its name in messages.
///
/// # Errors
/// Every line that is wrong, or asks for what cannot be done.
pub fn parse(file: &str, text: &[u8], dialect: Dialect) -> Result<Directives, Mistakes> {
    let (keys, translate): (&[&str], fn(&mut Translation<'_>)) = match dialect {
        Dialect::Rhel => return super::parse(file, text),
        Dialect::Suse => (&suse::KEYS, suse::translate),
        Dialect::Debian => (&debian::KEYS, debian::translate),
    };
    let text = std::str::from_utf8(text)
        .map_err(|_| Mistake::new(format!("{file} is not UTF-8 text; comments count too")))?;
    let settings = Settings::read(file, text)?;
    let mut translation = Translation {
        settings: &settings,
        directives: Directives {
            file: file.to_owned(),
            ..Directives::default()
        },
        mistakes: Mistakes::default(),
    };
    for setting in &settings.all {
        if !keys.contains(&setting.key.as_str()) {
            let meant = nearest(&setting.key, keys.iter().copied())
                .map(|meant| format!("; did you mean `{meant}`?"))
                .unwrap_or_default();
            translation.refuse(
                setting,
                &format!("is no key of this file ({}){meant}", dialect.word()),
            );
        }
    }
    for setting in &settings.replaced {
        translation.warn(setting, "is set again further down, and that counts");
    }
    translate(&mut translation);
    if translation.mistakes.0.is_empty() {
        Ok(translation.directives)
    } else {
        Err(translation.mistakes)
    }
}

/// Settings on their way to directives.
struct Translation<'s> {
    settings: &'s Settings,
    directives: Directives,
    mistakes: Mistakes,
}

/// The configuration of a machine, and what stands in its place on machines of Debian and SUSE.
const FILES: [&str; 3] = [
    "/etc/kdump.conf",
    "/etc/default/kdump-tools",
    "/etc/sysconfig/kdump",
];
/// A key that only SUSE's file has; on RHEL there is another one of that name.
const SUSE_KEY: &str = "KDUMP_SAVEDIR";

/// The configuration of the machine whose files are below `root`: the first of them that is there, else `kdump.conf`.
#[must_use]
pub fn own_conf(root: &Path) -> &'static str {
    let [ours, debian, suse] = FILES;
    let place = |file: &str| root.join(file.trim_start_matches('/'));
    let is_suse = || fs::read_to_string(place(suse)).is_ok_and(|text| text.contains(SUSE_KEY));
    match () {
        () if place(ours).exists() => ours,
        () if place(debian).exists() => debian,
        () if is_suse() => suse,
        () => ours,
    }
}

/// A key that changes nothing here.
struct Idle {
    key: &'static str,
    /// The values with which it means what happens here anyway.
    same: &'static [&'static str],
    /// Why it changes nothing, or what does instead.
    why: &'static str,
}

impl Idle {
    /// One that changes nothing, whatever its value.
    const fn always(key: &'static str, why: &'static str) -> Self {
        Self {
            key,
            same: &[],
            why,
        }
    }
}

impl<'s> Translation<'s> {
    fn get(&self, key: &str) -> Option<&'s Setting> {
        self.settings.get(key)
    }

    /// Obeys the setting as this line of `kdump.conf`.
    fn say(&mut self, setting: &Setting, word: &str, value: &str) {
        let line = Line {
            number: setting.line,
            word,
            value: value.to_owned(),
            quoted: true,
        };
        if let Err(message) = take(&mut self.directives, &line) {
            self.refuse(setting, &format!("becomes `{word} {value}`: {message}"));
        }
    }

    fn warn(&mut self, setting: &Setting, message: &str) {
        self.directives.warnings.push(At {
            line: setting.line,
            value: format!("`{}` {message}", setting.key),
        });
    }

    fn refuse(&mut self, setting: &Setting, message: &str) {
        self.mistakes.0.push(Mistake {
            place: Some((self.directives.file.clone(), setting.line)),
            message: format!("`{}` {message}", setting.key),
        });
    }

    /// Warns of each key that is set to something else than what happens anyway.
    fn idle(&mut self, keys: &[Idle]) {
        for Idle { key, same, why } in keys {
            if let Some(setting) = self.get(key)
                && !same.contains(&setting.value.as_str())
            {
                self.warn(setting, &format!("has no effect: {why}"));
            }
        }
    }

    /// The setting as yes or no.
    fn switch(&mut self, key: &str) -> Option<(&'s Setting, bool)> {
        let setting = self.get(key)?;
        match setting.value.to_ascii_lowercase().as_str() {
            "1" | "yes" | "true" | "on" => Some((setting, true)),
            "0" | "no" | "false" | "off" => Some((setting, false)),
            other => {
                let message = format!(
                    "cannot be `{other}`; accepted are true and false, yes and no, 1 and 0"
                );
                self.refuse(setting, &message);
                None
            }
        }
    }

    /// The setting as a whole number.
    fn number(&mut self, key: &str) -> Option<(&'s Setting, i64)> {
        let setting = self.get(key)?;
        match setting.value.parse() {
            Ok(number) => Some((setting, number)),
            Err(_) => {
                self.refuse(
                    setting,
                    &format!("cannot be `{}`; accepted is a whole number", setting.value),
                );
                None
            }
        }
    }

    /// How many dumps stay, of which the new one is one. Nothing is removed on servers that are reached by ssh.
    fn keep(&mut self, setting: &Setting, dumps: i64) {
        let is_ssh = |target: &At<super::Target>| matches!(target.value, super::Target::Ssh { .. });
        if self.directives.targets.iter().any(is_ssh) {
            self.warn(
                setting,
                "has no effect: on a server that is reached by ssh nothing is removed",
            );
        } else {
            self.say(setting, "keep_dumps", &dumps.to_string());
        }
    }
}

#[cfg(test)]
mod tests;
