// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files by commands of the server's shell, where there is no SFTP.
//!
//! Each command begins with `: kdumprd-1 VERB DIRECTORY FILE;`. To a shell that is nothing; a command that the server
//! forces on the key reads it and does the same by itself, and then the key can do no more than that.

use super::channel::{Channel, Program};
use super::error::SshError;
use super::stream::Stream;
use collector::IoError;
use core::fmt::{self, Write as _};
use heapless::String;

/// The longest command.
const COMMAND_BYTES: usize = 2048;

/// What a command does.
pub(crate) enum Verb {
    /// Makes the directory; status 17 when something has its name.
    MakeDirectory,
    /// Takes a file under its incomplete name.
    Put,
    /// Syncs the file and gives it its name.
    Publish,
}

impl Verb {
    const fn word(&self) -> &'static str {
        match self {
            Self::MakeDirectory => "mkdir",
            Self::Put => "put",
            Self::Publish => "publish",
        }
    }

    const fn doing(&self) -> &'static str {
        match self {
            Self::MakeDirectory => "making the directory",
            Self::Put => "writing the file",
            Self::Publish => "syncing and renaming the file",
        }
    }

    /// What a shell does for it; `$p` is the save path, `$d` the directory, `$f` the file.
    const fn script(&self) -> &'static str {
        match self {
            Self::MakeDirectory => {
                "mkdir -p \"$p\" || exit 1; if [ -e \"$d\" ] || [ -L \"$d\" ]; then exit 17; fi; mkdir \"$d\""
            }
            // Never over a file that is there.
            Self::Put => "set -C; cat > \"$f-incomplete\"",
            // An old sync takes no name, and a small one says that it does not.
            Self::Publish => {
                "if [ -e \"$f\" ]; then exit 17; fi; sync \"$f-incomplete\" 2>/dev/null || sync; \
                 mv \"$f-incomplete\" \"$f\" || exit 1; sync \"$d\" 2>/dev/null || sync"
            }
        }
    }
}

/// Text in single quotes.
struct Quoted<'t>(&'t str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('\'')?;
        for (position, part) in self.0.split('\'').enumerate() {
            if position > 0 {
                f.write_str("'\\''")?;
            }
            f.write_str(part)?;
        }
        f.write_char('\'')
    }
}

fn compose(verb: &Verb, path: &str, directory: &str, file: &str) -> Option<String<COMMAND_BYTES>> {
    let mut text = String::new();
    write!(text, ": kdumprd-1 {} {directory}", verb.word()).ok()?;
    if !file.is_empty() {
        write!(text, " {file}").ok()?;
    }
    let own = path.trim_end_matches('/');
    write!(
        text,
        "; umask 077; p={}; d=\"$p/\"{}; ",
        Quoted(if own.is_empty() { "/" } else { own }),
        Quoted(directory)
    )
    .ok()?;
    if !file.is_empty() {
        write!(text, "f=\"$d/\"{}; ", Quoted(file)).ok()?;
    }
    text.push_str(verb.script()).ok()?;
    Some(text)
}

/// Starts a command, which then takes data.
pub(crate) fn begin<S: Stream>(
    channel: &mut Channel<'_, S>,
    verb: &Verb,
    path: &str,
    directory: &str,
    file: &str,
) -> Result<(), SshError> {
    let command = compose(verb, path, directory, file);
    let command = command.ok_or(SshError::TooLong("a path on the server"))?;
    if channel.open(Program::Command(&command))? {
        Ok(())
    } else {
        Err(SshError::Refused("commands", channel.words()))
    }
}

/// Ends a command's data, and waits for its end.
pub(crate) fn end<S: Stream>(channel: &mut Channel<'_, S>, verb: &Verb) -> Result<(), SshError> {
    match channel.finish()? {
        0 => Ok(()),
        status => Err(SshError::Command(verb.doing(), status, channel.words())),
    }
}

/// Runs a command that takes no data.
pub(crate) fn run<S: Stream>(
    channel: &mut Channel<'_, S>,
    verb: &Verb,
    path: &str,
    directory: &str,
    file: &str,
) -> Result<(), SshError> {
    begin(channel, verb, path, directory, file)?;
    end(channel, verb)
}

/// The number that says what `error` means: a command has only words for a full disk.
pub(crate) fn number_of(error: SshError) -> IoError {
    const FULL: &[u8] = b"No space left on device";
    match &error {
        SshError::Refused(_, words) | SshError::Command(_, _, words)
            if words
                .as_bytes()
                .windows(FULL.len())
                .any(|part| part == FULL) =>
        {
            IoError::NO_SPACE
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_names_whatever_is_in_them() {
        let path = "/var/my 'crash'; $(reboot) `x` \"y\"";
        let text = compose(&Verb::Put, path, "10.0.0.1-2026-11-23-03:00", "vmcore.flat").unwrap();
        assert!(text.starts_with(": kdumprd-1 put 10.0.0.1-2026-11-23-03:00 vmcore.flat; "));
        let shown = text.replace("set -C; cat > \"$f-incomplete\"", "printf %s \"$f\"");
        let output = std::process::Command::new("sh")
            .args(["-c", &shown])
            .output()
            .unwrap();
        assert_eq!(
            String::<256>::from_utf8(heapless::Vec::from_slice(&output.stdout).unwrap()).unwrap(),
            format!("{path}/10.0.0.1-2026-11-23-03:00/vmcore.flat").as_str()
        );
    }

    #[test]
    fn what_is_too_long_is_no_command() {
        assert!(compose(&Verb::Publish, &"x".repeat(3000), "d", "f").is_none());
    }

    #[test]
    fn a_full_disk_is_known_by_its_words() {
        let words = |text: &str| SshError::Refused("more data", crate::Text::new(text.as_bytes()));
        assert_eq!(
            number_of(words("cat: write error: No space left on device")),
            IoError::NO_SPACE
        );
        assert_eq!(number_of(words("Killed")), IoError(13));
    }
}
