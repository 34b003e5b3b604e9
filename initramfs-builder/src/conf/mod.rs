// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kdump.conf` lines to [`Directives`], each with its line number; no look-ups.
//!
//! A line is a word and its value. Blanks before the word and tabs count as blanks; a `#` starts a comment at the line's
//! start or after a blank, but not inside quotes; single or double quotes, around the whole value or a part of it, keep
//! blanks and `#` together and are taken away. Several target lines are an ordered list; other directives stand once.
//! All mistakes of a file are reported, not only the first.

mod cluster;
mod ip;
mod line;
mod module;
mod page;
mod program;
pub mod settings;
mod spelling;
mod target;
mod volume_key;

pub use cluster::{Family, FenceOptions};
pub use ip::Ip;
pub use page::page;
pub use program::Collector;
pub use target::{DeviceName, Target, TargetKind};
pub use volume_key::{KeySource, VolumeKey};

use crate::error::{At, Mistake, Mistakes};
use age::{KeyError, Recipient};
use config::record::MAX_KEYS;
use config::{FailureAction, FinalAction};
use ip::take_ip;
use line::{BLANKS, Line, unquote};
use spelling::nearest;
use target::{take_server, take_ssh, take_target};

/// What a `kdump.conf` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// The file, as messages name it.
    pub file: String,
    /// The targets in the order of the file; empty for the root file system.
    pub targets: Vec<At<Target>>,
    /// The save path, absolute and without `.`, `..` and doubled slashes.
    pub path: Option<At<String>>,
    /// The collector's options.
    pub core_collector: Option<At<Collector>>,
    /// What to do when every attempt failed.
    pub failure_action: Option<At<OnFailure>>,
    /// What to do when all is done.
    pub final_action: Option<At<FinalAction>>,
    /// How long to wait for a disk, in seconds.
    pub disk_timeout_s: Option<At<u32>>,
    /// How long the dump may take as a whole, in seconds.
    pub dump_deadline_s: Option<At<u32>>,
    /// How long the dump may stand still, in seconds.
    pub stall_timeout_s: Option<At<u32>>,
    /// How long the network may take to come up, in seconds.
    pub network_timeout_s: Option<At<u32>>,
    /// How long to wait once the network is up, in seconds.
    pub link_delay_s: Option<At<u32>>,
    /// The user's key for ssh: where it lies.
    pub sshkey: Option<At<String>>,
    /// The link that leads to the server, where the host's routes say another.
    pub ifc: Option<At<String>>,
    /// The capture kernel's address, where it is not the host's own.
    pub ip: Option<At<Ip>>,
    /// Volume keys that the image is to have.
    pub volume_keys: Vec<At<VolumeKey>>,
    /// Modules that the administrator wants, in his order.
    pub extra_modules: Vec<At<String>>,
    /// Modules that stay out, and directories of modules.
    pub blacklist: Vec<At<String>>,
    /// Parameters of modules: which module, and what.
    pub options: Vec<At<(String, String)>>,
    /// Programs and other files that the image is to have besides.
    pub extra_bins: Vec<At<String>>,
    /// The program before the dump, which may forbid it.
    pub kdump_pre: Option<At<String>>,
    /// The program after the dump.
    pub kdump_post: Option<At<String>>,
    /// The program when every attempt failed.
    pub kdump_emergency: Option<At<String>>,
    /// Nodes of the cluster that are told that this one is dumping.
    pub fence_kdump_nodes: Vec<At<String>>,
    /// How they are told.
    pub fence_kdump_args: Option<At<FenceOptions>>,
    /// Write the image at each start, also where it is as it should be.
    pub force_rebuild: Option<At<bool>>,
    /// Never write the image at a start.
    pub force_no_rebuild: Option<At<bool>>,
    /// The reservation follows the default of newer versions.
    pub auto_reset_crashkernel: Option<At<bool>>,
    /// How much of its memory the capture kernel shows, 0 to 3.
    pub debug_mem_level: Option<At<u8>>,
    /// How many dumps stay where the new one goes, with that.
    pub keep_dumps: Option<At<u32>>,
    /// The public keys that dumps are encrypted to.
    pub encrypt_to: Vec<At<Recipient>>,
    /// After how many seconds without progress the hardware watchdog restarts the machine; 0 for a watchdog that is left alone.
    pub watchdog_s: Option<At<u32>>,
    /// What a person should know of the file: what has no effect, or another one than where it comes from.
    pub warnings: Vec<At<String>>,
    /// What was given to dracut and has no meaning here.
    pub dracut_args: Vec<At<String>>,
}

/// A failure action, and by which of its two words it was given: `default halt` and `default poweroff` are the final
/// action too, as on RHEL 5, and `failure_action` never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnFailure {
    /// The action.
    pub action: FailureAction,
    /// It was given as `default`.
    pub by_default: bool,
}

/// How a directive's value is taken over.
type Take = fn(&mut Directives, &Line<'_>) -> Result<(), String>;

/// Every directive that is obeyed. A directive of a later version moves here from [`NOT_YET`].
const DIRECTIVES: [(&str, Take); 45] = [
    ("raw", take_target),
    ("ext2", take_target),
    ("ext3", take_target),
    ("ext4", take_target),
    ("xfs", take_target),
    ("btrfs", take_target),
    ("vfat", take_target),
    ("exfat", take_target),
    ("minix", take_target),
    ("net", take_server),
    ("nfs", take_server),
    ("nfs4", take_server),
    ("ssh", take_ssh),
    ("sshkey", take_sshkey),
    ("path", take_path),
    ("ifc", take_ifc),
    ("ip", take_ip),
    ("link_delay", take_seconds),
    ("network_timeout", take_seconds),
    ("core_collector", program::take_core_collector),
    ("default", take_failure_action),
    ("failure_action", take_failure_action),
    ("final_action", take_final_action),
    ("disk_timeout", take_seconds),
    ("dump_deadline", take_seconds),
    ("stall_timeout", take_seconds),
    ("luks_volume_key", volume_key::take_volume_key),
    ("extra_modules", module::take_extra_modules),
    ("blacklist", module::take_blacklist),
    ("options", module::take_options),
    ("extra_bins", program::take_extra_bins),
    ("kdump_pre", program::take_hook),
    ("kdump_post", program::take_hook),
    ("kdump_emergency", program::take_hook),
    ("fence_kdump_nodes", cluster::take_nodes),
    ("fence_kdump_args", cluster::take_options),
    ("force_rebuild", take_switch),
    ("force_no_rebuild", take_switch),
    ("auto_reset_crashkernel", take_switch),
    ("debug_mem_level", take_debug_mem_level),
    ("keep_dumps", take_keep_dumps),
    ("encrypt_to", take_encrypt_to),
    ("watchdog", take_watchdog),
    ("override_resettable", take_override_resettable),
    ("dracut_args", target::take_dracut_args),
];

/// Directives of the RHEL 5, RHEL 6 and current dialects that this version knows but cannot obey.
const NOT_YET: [&str; 1] = ["virtiofs"];

/// The longest that `disk_timeout` and its like may be: a week, in seconds.
const MOST_SECONDS: u32 = 7 * 24 * 3600;

/// Parses the bytes of a `kdump.conf`; `file` is its name in messages.
///
/// # Errors
/// Every line that is wrong: where, which word, and what is accepted.
pub fn parse(file: &str, text: &[u8]) -> Result<Directives, Mistakes> {
    let mut directives = Directives {
        file: file.to_owned(),
        ..Directives::default()
    };
    let mut mistakes = Mistakes::default();
    // Some editors put a byte order mark in front.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        if let Err(message) = take_line(&mut directives, number, line) {
            mistakes.0.push(Mistake {
                place: Some((file.to_owned(), number)),
                message,
            });
        }
    }
    if mistakes.0.is_empty() {
        Ok(directives)
    } else {
        Err(mistakes)
    }
}

fn take_line(directives: &mut Directives, number: u32, line: &[u8]) -> Result<(), String> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = std::str::from_utf8(line)
        .map_err(|_| "the line is not UTF-8 text; comments count too".to_owned())?;
    let (value, quoted) = match unquote(line) {
        Ok(text) => text,
        Err(quote) => {
            return Err(format!(
                "a quote ({quote}) without its end; add it at the value's end"
            ));
        }
    };
    let line = value.trim_matches(BLANKS);
    if line.is_empty() {
        return Ok(());
    }
    if let Some(odd) = line
        .chars()
        .find(|letter| letter.is_control() && *letter != '\t')
    {
        return Err(format!("the control character {odd:?} cannot stand here"));
    }
    let (word, value) = line.split_once(BLANKS).unwrap_or((line, ""));
    take(
        directives,
        &Line {
            number,
            word,
            value: value.trim_matches(BLANKS).to_owned(),
            quoted,
        },
    )
}

/// Obeys one line.
fn take(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    let known = DIRECTIVES.iter().find(|(known, _)| *known == line.word);
    let Some((_, take)) = known else {
        return Err(unknown_directive(line.word));
    };
    take(directives, line)
}

fn unknown_directive(word: &str) -> String {
    if NOT_YET.contains(&word) {
        return format!(
            "`{word}` is not supported yet; take the line out to build an image without it"
        );
    }
    let words = DIRECTIVES.map(|(word, _)| word);
    match nearest(word, words.into_iter().chain(NOT_YET)) {
        Some(meant) => format!("unknown directive `{word}`; did you mean `{meant}`?"),
        None => format!(
            "unknown directive `{word}`; accepted are {}",
            words.join(", ")
        ),
    }
}

fn take_sshkey(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    const ACCEPTED: &str = "the file of a private key: /root/.ssh/kdump_id_ed25519";
    let value = line.some(ACCEPTED)?.to_owned();
    if !value.starts_with('/') {
        return Err(format!(
            "`{value}` is no absolute path; accepted is {ACCEPTED}"
        ));
    }
    line.once(&mut directives.sshkey, value)
}

fn take_ifc(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    let value = line.one("the name of a link: eth0")?.to_owned();
    line.once(&mut directives.ifc, value)
}

/// A path without a slash in front is meant from the target's top too, as the peers' scripts took it.
fn take_path(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    let value = line.some("a directory: /var/crash")?;
    if value.contains(BLANKS) && !line.quoted {
        return Err(format!(
            "`{value}` is more than one word; a path with blanks needs quotes"
        ));
    }
    let mut path = String::new();
    for part in value
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
    {
        if part == ".." {
            return Err(format!(
                "`{value}` goes up (`..`); accepted is a directory as it is: /var/crash"
            ));
        }
        path.push('/');
        path.push_str(part);
    }
    if path.is_empty() {
        path.push('/');
    }
    line.once(&mut directives.path, path)
}

fn take_failure_action(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    let words = FailureAction::ALL.map(FailureAction::word);
    let value = line.one(&words.join(", "))?;
    let action =
        FailureAction::from_word(value).ok_or_else(|| unknown_value(line.word, value, &words))?;
    line.once(
        &mut directives.failure_action,
        OnFailure {
            action,
            by_default: line.word == "default",
        },
    )
    .map_err(|message| format!("{message} (`default` is the old word for `failure_action`)"))
}

fn take_final_action(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    let words = FinalAction::ALL.map(FinalAction::word);
    let value = line.one(&words.join(", "))?;
    let action =
        FinalAction::from_word(value).ok_or_else(|| unknown_value(line.word, value, &words))?;
    line.once(&mut directives.final_action, action)
}

fn take_seconds(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    let accepted = format!("a number of seconds from 1 to {MOST_SECONDS}");
    let value = line.one(&accepted)?;
    let seconds = value
        .parse()
        .ok()
        .filter(|seconds| (1..=MOST_SECONDS).contains(seconds))
        .ok_or_else(|| {
            format!(
                "`{}` cannot be `{value}`; accepted is {accepted}",
                line.word
            )
        })?;
    let slot = match line.word {
        "disk_timeout" => &mut directives.disk_timeout_s,
        "dump_deadline" => &mut directives.dump_deadline_s,
        "link_delay" => &mut directives.link_delay_s,
        "network_timeout" => &mut directives.network_timeout_s,
        _ => &mut directives.stall_timeout_s,
    };
    line.once(slot, seconds)
}

fn take_switch(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    let value = match line.one("1 or 0, yes or no")? {
        "1" | "yes" => true,
        "0" | "no" => false,
        other => return Err(unknown_value(line.word, other, &["1", "0", "yes", "no"])),
    };
    let slot = match line.word {
        "force_rebuild" => &mut directives.force_rebuild,
        "force_no_rebuild" => &mut directives.force_no_rebuild,
        _ => &mut directives.auto_reset_crashkernel,
    };
    line.once(slot, value)?;
    if let (Some(one), Some(other)) = (directives.force_rebuild, directives.force_no_rebuild)
        && one.value
        && other.value
    {
        return Err(format!(
            "`force_rebuild` (line {}) and `force_no_rebuild` (line {}) are both on; one of the two has to go",
            one.line, other.line
        ));
    }
    Ok(())
}

fn take_debug_mem_level(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    let level = match line.one("a level from 0 to 3")? {
        "0" => 0,
        "1" => 1,
        "2" => 2,
        "3" => 3,
        other => return Err(unknown_value(line.word, other, &["0", "1", "2", "3"])),
    };
    line.once(&mut directives.debug_mem_level, level)
}

/// The new dump is one of them.
fn take_keep_dumps(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    const MOST: u32 = 10_000;
    let accepted = format!("how many dumps stay, the new one among them: 1 to {MOST}");
    let value = line.one(&accepted)?;
    let dumps = value
        .parse()
        .ok()
        .filter(|dumps| (1..=MOST).contains(dumps))
        .ok_or_else(|| format!("`keep_dumps` cannot be `{value}`; accepted is {accepted}"))?;
    line.once(&mut directives.keep_dumps, dumps)
}

/// Each line adds its keys: any of them opens every dump by itself.
fn take_encrypt_to(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    const ACCEPTED: &str =
        "a public key of age, as `age-keygen -y FILE` prints it: age1 and 58 letters";
    for word in line.some(ACCEPTED)?.split(BLANKS) {
        if word.is_empty() {
            continue;
        }
        let key: Recipient = word.parse().map_err(|error| match error {
            // A message goes to logs that more people read than this file.
            KeyError::Secret => format!("`encrypt_to`: {error}; accepted is {ACCEPTED}"),
            _ => format!("`encrypt_to` cannot be `{word}`: {error}; accepted is {ACCEPTED}"),
        })?;
        if let Some(before) = directives.encrypt_to.iter().find(|at| at.value == key) {
            return Err(format!(
                "the key {key} was given before, in line {}; one of the two has to go",
                before.line
            ));
        }
        if directives.encrypt_to.len() == MAX_KEYS {
            return Err(format!(
                "`encrypt_to` has more than {MAX_KEYS} keys; accepted are {MAX_KEYS}"
            ));
        }
        directives.encrypt_to.push(line.at(key));
    }
    Ok(())
}

fn take_watchdog(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    /// What any timer of this kind can count, and far more than anybody wants.
    const MOST: u32 = 3600;
    let accepted = format!("a number of seconds from 10 to {MOST}, or `no`");
    let value = line.one(&accepted)?;
    let seconds = match value {
        "no" => Some(0),
        number => number
            .parse()
            .ok()
            .filter(|seconds| (10..=MOST).contains(seconds)),
    };
    let seconds =
        seconds.ok_or_else(|| format!("`watchdog` cannot be `{value}`; accepted is {accepted}"))?;
    line.once(&mut directives.watchdog_s, seconds)
}

/// RHEL 6 has it for disks behind controllers that its kernel could not reset.
fn take_override_resettable(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    match line.one("1 or 0")? {
        "0" => Ok(()),
        "1" => {
            directives.warnings.push(line.at(
                "`override_resettable` has no effect: no target is refused for what its controller cannot do".to_owned(),
            ));
            Ok(())
        }
        other => Err(unknown_value(line.word, other, &["1", "0"])),
    }
}

fn unknown_value(word: &str, value: &str, accepted: &[&str]) -> String {
    let meant = nearest(value, accepted.iter().copied())
        .map(|meant| format!("did you mean `{meant}`? "))
        .unwrap_or_default();
    format!(
        "`{word}` cannot be `{value}`; {meant}accepted are {}",
        accepted.join(", ")
    )
}

#[cfg(test)]
mod tests;
