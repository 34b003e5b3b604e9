// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kdump.conf` lines to [`Directives`], each with its line number; no look-ups.
//!
//! A line is a word and its value. Blanks before the word and tabs count as blanks; a `#` starts a comment at the line's
//! start or after a blank, but not inside quotes; single or double quotes, around the whole value or a part of it, keep
//! blanks and `#` together and are taken away. Several target lines are an ordered list; other directives stand once.
//! All mistakes of a file are reported, not only the first.

mod spelling;

use crate::error::{At, Mistake, Mistakes};
use crate::filesystem::Type;
use config::collect::CollectOptions;
use config::{FailureAction, FinalAction};
use spelling::nearest;
use targets::ssh::known_hosts::DEFAULT_PORT;

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
    pub core_collector: Option<At<CollectOptions>>,
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
    /// Modules that the administrator wants, in his order.
    pub extra_modules: Vec<At<String>>,
}

/// One target line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Something on a device of this machine.
    Local {
        /// The device from its first byte, or a file system on it.
        kind: TargetKind,
        /// The device.
        device: DeviceName,
    },
    /// What a server exports by NFS.
    Nfs {
        /// The server's name or address.
        server: String,
        /// What it exports.
        export: String,
        /// `nfs4`: version 4 and no other.
        is_version_4: bool,
    },
    /// A server that is reached by ssh.
    Ssh {
        /// The user's name there.
        user: String,
        /// The server's name or address.
        server: String,
        /// Its port.
        port: u16,
    },
}

impl std::fmt::Display for Target {
    /// The value of the line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local { device, .. } => write!(f, "{device}"),
            Self::Nfs { server, export, .. } if server.contains(':') => {
                write!(f, "[{server}]:{export}")
            }
            Self::Nfs { server, export, .. } => write!(f, "{server}:{export}"),
            Self::Ssh { user, server, port } if *port != DEFAULT_PORT => {
                write!(f, "{user}@[{server}]:{port}")
            }
            Self::Ssh { user, server, .. } => write!(f, "{user}@{server}"),
        }
    }
}

/// What a target line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// `raw`
    Raw,
    /// A file system of this type.
    Filesystem(Type),
}

impl TargetKind {
    /// The directive's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Filesystem(fstype) => fstype.word,
        }
    }
}

/// A device as the administrator wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// A path below `/dev`.
    Node(String),
    /// `UUID=`
    Uuid(String),
    /// `LABEL=`
    Label(String),
    /// `PARTUUID=`
    PartUuid(String),
}

impl std::fmt::Display for DeviceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(node) => f.write_str(node),
            Self::Uuid(uuid) => write!(f, "UUID={uuid}"),
            Self::Label(label) => write!(f, "LABEL={label}"),
            Self::PartUuid(uuid) => write!(f, "PARTUUID={uuid}"),
        }
    }
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

/// One line with its value.
struct Line<'a> {
    number: u32,
    word: &'a str,
    /// Without comment and quotes.
    value: String,
    /// A quote kept blanks together, so that the value is one word for certain.
    quoted: bool,
}

/// Every directive that is obeyed. A directive of a later version moves here from [`NOT_YET`].
const DIRECTIVES: [(&str, Take); 26] = [
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
    ("link_delay", take_seconds),
    ("network_timeout", take_seconds),
    ("core_collector", take_core_collector),
    ("default", take_failure_action),
    ("failure_action", take_failure_action),
    ("final_action", take_final_action),
    ("disk_timeout", take_seconds),
    ("dump_deadline", take_seconds),
    ("stall_timeout", take_seconds),
    ("extra_modules", take_extra_modules),
];

/// Directives of the RHEL 5, RHEL 6 and current dialects, and our own, that this version knows but cannot obey.
const NOT_YET: [&str; 17] = [
    "virtiofs",
    "blacklist",
    "options",
    "extra_bins",
    "kdump_pre",
    "kdump_post",
    "kdump_emergency",
    "fence_kdump_nodes",
    "fence_kdump_args",
    "force_rebuild",
    "force_no_rebuild",
    "auto_reset_crashkernel",
    "debug_mem_level",
    "dracut_args",
    "keep_dumps",
    "encrypt_to",
    "ip",
];

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
    let Some(&(_, take)) = DIRECTIVES.iter().find(|(known, _)| *known == word) else {
        return Err(unknown_directive(word));
    };
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

const BLANKS: [char; 2] = [' ', '\t'];

/// The line without comment and quotes, and whether a quote was there.
///
/// # Errors
/// The quote that has no end.
fn unquote(line: &str) -> Result<(String, bool), char> {
    let mut text = String::with_capacity(line.len());
    let mut open = None;
    let mut quoted = false;
    let mut after_blank = true;
    for letter in line.chars() {
        match (open, letter) {
            (Some(quote), _) if quote == letter => open = None,
            (None, '"' | '\'') => {
                open = Some(letter);
                quoted = true;
            }
            (None, '#') if after_blank => break,
            _ => text.push(letter),
        }
        after_blank = open.is_none() && BLANKS.contains(&letter);
    }
    match open {
        Some(quote) => Err(quote),
        None => Ok((text, quoted)),
    }
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

impl Line<'_> {
    /// The value, which must be there.
    fn some(&self, accepted: &str) -> Result<&str, String> {
        if self.value.is_empty() {
            Err(format!(
                "`{}` has no value; accepted is {accepted}",
                self.word
            ))
        } else {
            Ok(&self.value)
        }
    }

    /// The value, which must be one word.
    fn one(&self, accepted: &str) -> Result<&str, String> {
        let value = self.some(accepted)?;
        if value.contains(BLANKS) {
            return Err(format!(
                "`{}` takes one word, and `{value}` is more; accepted is {accepted}",
                self.word
            ));
        }
        Ok(value)
    }

    /// Fills `slot`, which a line before may have done.
    fn once<T>(&self, slot: &mut Option<At<T>>, value: T) -> Result<(), String> {
        if let Some(before) = slot {
            return Err(format!(
                "`{}` was set before, in line {}; one of the two has to go",
                self.word, before.line
            ));
        }
        *slot = Some(At {
            line: self.number,
            value,
        });
        Ok(())
    }
}

fn take_target(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    const ACCEPTED: &str = "a device (/dev/…), LABEL=, UUID= or PARTUUID=";
    let kind = Type::of(line.word).map_or(TargetKind::Raw, TargetKind::Filesystem);
    let value = line.some(ACCEPTED)?;
    if value.contains(BLANKS) && !line.quoted {
        return Err(format!(
            "`{value}` is more than one word; a label with blanks needs quotes: LABEL=\"my disk\""
        ));
    }
    let device = match value.split_once('=') {
        _ if value.starts_with("/dev/") && value.len() > "/dev/".len() => {
            DeviceName::Node(value.to_owned())
        }
        Some((_, "")) => {
            return Err(format!(
                "`{value}` has nothing behind the `=`; accepted is {ACCEPTED}"
            ));
        }
        // blkid's spelling of UUIDs is lower case, but FAT's and what people type may not be.
        Some(("UUID", uuid)) => DeviceName::Uuid(uuid.to_owned()),
        Some(("LABEL", label)) => DeviceName::Label(label.to_owned()),
        Some(("PARTUUID", uuid)) => DeviceName::PartUuid(uuid.to_owned()),
        Some((tag, _)) => {
            return Err(match nearest(tag, ["UUID", "LABEL", "PARTUUID"]) {
                Some(meant) => format!("unknown `{tag}=`; did you mean `{meant}=`?"),
                None => format!("unknown `{tag}=`; accepted is {ACCEPTED}"),
            });
        }
        None => return Err(format!("`{value}` names no device; accepted is {ACCEPTED}")),
    };
    add_target(directives, line, Target::Local { kind, device })
}

/// `net` is the word of RHEL 5 for both NFS and ssh.
fn take_server(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    const ACCEPTED: &str = "SERVER:/EXPORT, with an IPv6 address in brackets";
    let value = line.one(ACCEPTED)?;
    if line.word == "net" && value.contains('@') && !value.contains(":/") {
        return take_ssh(directives, line);
    }
    let (server, export) = value
        .split_once(":/")
        .ok_or_else(|| format!("`{value}` is no export of a server; accepted is {ACCEPTED}"))?;
    let server = match server.strip_prefix('[') {
        Some(address) => address
            .strip_suffix(']')
            .filter(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
        None => Some(server).filter(|name| !name.is_empty() && !name.contains([':', '/', '@'])),
    }
    .ok_or_else(|| format!("`{server}` names no server; accepted is {ACCEPTED}"))?;
    add_target(
        directives,
        line,
        Target::Nfs {
            server: server.to_owned(),
            export: format!("/{}", export.trim_end_matches('/')),
            is_version_4: line.word == "nfs4",
        },
    )
}

/// `USER@SERVER`, and with a port as `known_hosts` has it: `USER@[SERVER]:PORT`.
fn take_ssh(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    const ACCEPTED: &str = "USER@SERVER, or USER@[SERVER]:PORT";
    let value = line.one(ACCEPTED)?;
    let wrong = || format!("`{value}` is no login; accepted is {ACCEPTED}");
    let (user, server) = value.rsplit_once('@').ok_or_else(wrong)?;
    let (server, port) = match server.strip_prefix('[') {
        Some(rest) => {
            let (server, port) = rest.split_once(']').ok_or_else(wrong)?;
            let port = match port.strip_prefix(':') {
                Some(port) => port.parse().ok().filter(|&port| port > 0),
                None if port.is_empty() => Some(DEFAULT_PORT),
                None => None,
            };
            (server, port.ok_or_else(wrong)?)
        }
        None => (server, DEFAULT_PORT),
    };
    let is_address = server.parse::<std::net::IpAddr>().is_ok();
    let is_name = !server.is_empty() && !server.contains([':', '/', '[', ']']);
    if user.is_empty() || user.contains('/') || !(is_address || is_name) {
        return Err(wrong());
    }
    let target = Target::Ssh {
        user: user.to_owned(),
        server: server.to_owned(),
        port,
    };
    add_target(directives, line, target)
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

fn add_target(directives: &mut Directives, line: &Line<'_>, target: Target) -> Result<(), String> {
    if let Some(before) = directives
        .targets
        .iter()
        .find(|before| before.value == target)
    {
        return Err(format!(
            "the same target stands in line {}; a second try at it would fail as the first",
            before.line
        ));
    }
    directives.targets.push(At {
        line: line.number,
        value: target,
    });
    Ok(())
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

fn take_core_collector(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    let value = line.some("makedumpfile with its options, cp, dd or scp")?;
    let options = CollectOptions::parse_core_collector(value)
        .map_err(|error| format!("`core_collector`: {error}"))?;
    line.once(&mut directives.core_collector, options)
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

/// Several lines add up, as the RHEL 5 and RHEL 6 dialects have it.
fn take_extra_modules(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    let value = line.some("names of modules with blanks between")?;
    for name in value.split(BLANKS).filter(|name| !name.is_empty()) {
        let fine =
            |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | ':');
        if !name.chars().all(fine) {
            return Err(format!(
                "`{name}` is no name of a module; accepted are names as `lsmod` shows them, without directory and `.ko`"
            ));
        }
        directives.extra_modules.push(At {
            line: line.number,
            value: name.to_owned(),
        });
    }
    Ok(())
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
mod tests {
    use super::*;
    use config::{Compression, Format};

    fn parsed(text: &str) -> Directives {
        parse("kdump.conf", text.as_bytes()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    fn mistakes(text: &[u8]) -> String {
        parse("kdump.conf", text).unwrap_err().to_string()
    }

    fn only_target(text: &str) -> Target {
        let directives = parsed(text);
        assert_eq!(directives.targets.len(), 1, "{text}");
        directives.targets[0].value.clone()
    }

    fn only_device(text: &str) -> DeviceName {
        match only_target(text) {
            Target::Local { device, .. } => device,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn servers_are_taken_apart() {
        let nfs = |text: &str| match only_target(text) {
            Target::Nfs {
                server,
                export,
                is_version_4,
            } => (server, export, is_version_4),
            other => panic!("{other}"),
        };
        let of = |server: &str, export: &str, four| (server.to_owned(), export.to_owned(), four);
        assert_eq!(nfs("net nas:/srv/crash/"), of("nas", "/srv/crash", false));
        assert_eq!(nfs("nfs 10.0.2.2:/"), of("10.0.2.2", "/", false));
        assert_eq!(nfs("nfs4 [fd00::2]:/a"), of("fd00::2", "/a", true));
        assert_eq!(only_target("nfs [fd00::2]:/a").to_string(), "[fd00::2]:/a");
        for (text, said) in [
            ("nfs nas", "no export of a server"),
            ("nfs :/a", "names no server"),
            ("nfs fd00::2:/a", "names no server"),
            ("nfs [nas]:/a", "names no server"),
            ("ssh nas", "`nas` is no login"),
            ("net @nas", "`@nas` is no login"),
            ("ssh root@[nas]:0", "is no login"),
            ("ssh root@[nas]x", "is no login"),
            ("ssh root@nas:22", "is no login"),
            ("sshkey id", "no absolute path"),
            ("link_delay soon", "number of seconds"),
            ("ifc eth0 eth1", "one word"),
        ] {
            let mistakes = mistakes(text.as_bytes());
            assert!(mistakes.contains(said), "{text}: {mistakes}");
        }
        for (text, user, server, port) in [
            ("net root@nas", "root", "nas", 22),
            ("ssh root@nas", "root", "nas", 22),
            ("ssh a@b@nas", "a@b", "nas", 22),
            ("ssh k@fd00::2", "k", "fd00::2", 22),
            ("ssh k@[fd00::2]:2222", "k", "fd00::2", 2222),
            ("ssh k@[nas]", "k", "nas", 22),
        ] {
            let (user, server) = (user.to_owned(), server.to_owned());
            assert_eq!(only_target(text), Target::Ssh { user, server, port });
        }
        let directives = parsed("nfs nas:/a\nlink_delay 5\nifc eth1\n");
        assert_eq!(directives.link_delay_s.unwrap().value, 5);
        assert_eq!(directives.ifc.unwrap().value, "eth1");
    }

    #[test]
    fn a_file_of_the_rhel_5_days_is_read_whole() {
        let directives = parsed(
            "# Configures where to put the kdump /proc/vmcore files\r\n\
             \t raw\t/dev/sda5   # the spare one\r\n\
             ext3 LABEL=\"my disk # 1\"\r\n\
             \r\n\
             path /var//crash/./x/\r\n\
             core_collector makedumpfile -c --message-level 1 -d 31\r\n\
             default halt\r\n\
             disk_timeout\t30\r\n\
             extra_modules gfs2 virtio-blk\r\n\
             extra_modules sd_mod",
        );
        let targets: Vec<_> = directives
            .targets
            .iter()
            .map(|at| match &at.value {
                Target::Local { kind, device } => (at.line, kind.word(), device.to_string()),
                other => (at.line, "other", other.to_string()),
            })
            .collect();
        assert_eq!(
            targets,
            [
                (2, "raw", "/dev/sda5".to_owned()),
                (3, "ext3", "LABEL=my disk # 1".to_owned())
            ]
        );
        assert_eq!(directives.path.unwrap().value, "/var/crash/x");
        let collector = directives.core_collector.unwrap().value;
        assert_eq!(
            (collector.format, collector.compression),
            (Format::Kdump, Compression::Zlib)
        );
        assert_eq!(
            directives.failure_action.unwrap().value,
            OnFailure {
                action: FailureAction::Halt,
                by_default: true
            }
        );
        assert_eq!(directives.disk_timeout_s, Some(At { line: 8, value: 30 }));
        let modules: Vec<_> = directives
            .extra_modules
            .iter()
            .map(|at| at.value.as_str())
            .collect();
        assert_eq!(modules, ["gfs2", "virtio-blk", "sd_mod"]);
    }

    #[test]
    fn an_empty_file_says_nothing_and_is_no_mistake() {
        for text in ["", "\n", "# path /x", "   \t\n\r\n", "\u{feff}#"] {
            let directives = parsed(text);
            assert!(
                directives.targets.is_empty() && directives.path.is_none(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn quotes_keep_blanks_and_hashes_and_are_taken_away() {
        for text in [
            "ext3 LABEL=\"a b\"",
            "ext3 \"LABEL=a b\"",
            "ext3 LABEL='a b' # c",
            "ext3 LABEL=a\" \"b",
        ] {
            assert_eq!(
                only_device(text),
                DeviceName::Label("a b".to_owned()),
                "{text}"
            );
        }
        // A hash inside a word is no comment.
        assert_eq!(
            only_device("ext3 LABEL=a#b"),
            DeviceName::Label("a#b".to_owned())
        );
        assert_eq!(
            only_device("ext3 LABEL='#1'"),
            DeviceName::Label("#1".to_owned())
        );
    }

    #[test]
    fn every_device_form_and_action_is_taken() {
        assert_eq!(
            only_device("raw PARTUUID=1a2b3c4d-02"),
            DeviceName::PartUuid("1a2b3c4d-02".to_owned())
        );
        assert_eq!(
            only_device("ext2 UUID=x-y"),
            DeviceName::Uuid("x-y".to_owned())
        );
        assert_eq!(
            only_device("ext4 /dev/disk/by-id/x=y"),
            DeviceName::Node("/dev/disk/by-id/x=y".to_owned())
        );
        for action in FailureAction::ALL {
            for word in ["default", "failure_action"] {
                let taken = parsed(&format!("{word} {action}"))
                    .failure_action
                    .unwrap()
                    .value;
                assert_eq!(
                    taken,
                    OnFailure {
                        action,
                        by_default: word == "default"
                    }
                );
            }
        }
        for action in FinalAction::ALL {
            assert_eq!(
                parsed(&format!("final_action {action}"))
                    .final_action
                    .unwrap()
                    .value,
                action
            );
        }
    }

    #[test]
    fn a_wrong_line_gets_its_place_the_word_and_what_is_accepted() {
        for (text, parts) in [
            (
                "rav /dev/sda5",
                &["kdump.conf:1: ", "`rav`", "did you mean `raw`?"][..],
            ),
            ("failure-action reboot", &["did you mean `failure_action`?"]),
            (
                "\n\nfoobar x",
                &["kdump.conf:3: ", "`foobar`", "accepted are raw, ext2"],
            ),
            (
                "default rebot",
                &[
                    "`rebot`",
                    "did you mean `reboot`?",
                    "dump_to_rootfs, mount_root_run_init",
                ],
            ),
            ("default", &["`default` has no value", "poweroff"]),
            (
                "final_action shell",
                &["`final_action` cannot be `shell`", "reboot, halt, poweroff"],
            ),
            (
                "final_action reboot now",
                &["takes one word", "`reboot now`"],
            ),
            ("raw", &["`raw` has no value", "LABEL="]),
            ("raw # /dev/sda5", &["`raw` has no value"]),
            ("raw sda5", &["`sda5` names no device", "/dev/"]),
            ("raw /dev/", &["names no device"]),
            ("ext3 UID=1", &["`UID=`", "did you mean `UUID=`?"]),
            ("ext3 ID_SERIAL=1", &["unknown `ID_SERIAL=`", "PARTUUID="]),
            ("ext3 LABEL=", &["nothing behind the `=`"]),
            (
                "ext3 LABEL=my disk",
                &["more than one word", "needs quotes"],
            ),
            ("ext3 LABEL=\"my disk", &["a quote (\") without its end"]),
            (
                "ext3 /dev/a\next3 /dev/a",
                &["kdump.conf:2: ", "the same target stands in line 1"],
            ),
            ("path", &["`path` has no value", "/var/crash"]),
            ("path /a/../b", &["`/a/../b` goes up"]),
            ("path /a b", &["needs quotes"]),
            (
                "path /a\npath /b",
                &["kdump.conf:2: ", "`path` was set before, in line 1"],
            ),
            (
                "default halt\nfailure_action halt",
                &["kdump.conf:2: ", "set before, in line 1", "old word"],
            ),
            (
                "disk_timeout 0",
                &["`disk_timeout` cannot be `0`", "from 1"],
            ),
            ("disk_timeout 3m", &["`3m`"]),
            ("disk_timeout 99999999999", &["`99999999999`"]),
            (
                "core_collector",
                &["`core_collector` has no value", "makedumpfile"],
            ),
            ("core_collector gzip", &["`core_collector`: ", "gzip"]),
            ("core_collector makedumpfile -d 32", &["32"]),
            (
                "extra_modules a.ko",
                &["`a.ko`", "without directory and `.ko`"],
            ),
            ("extra_modules ../x", &["`../x`"]),
            ("virtiofs crash", &["`virtiofs` is not supported yet"]),
            ("path /a\u{1}b", &["control character"]),
        ] {
            let said = mistakes(text.as_bytes());
            for part in parts {
                assert!(said.contains(part), "{text:?}: {part:?} is not in: {said}");
            }
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        assert!(mistakes(b"path /caf\xe9").contains("kdump.conf:1: the line is not UTF-8"));
    }

    #[test]
    fn all_mistakes_are_reported_in_the_order_of_the_file() {
        let said = mistakes(b"rwa /dev/sda5\npath /ok\ndefault foo\nssh ab\n");
        let places: Vec<_> = said
            .lines()
            .map(|line| line.split(": ").next().unwrap())
            .collect();
        assert_eq!(places, ["kdump.conf:1", "kdump.conf:3", "kdump.conf:4"]);
    }

    #[test]
    fn no_directive_is_in_both_tables() {
        for (word, _) in DIRECTIVES {
            assert!(!NOT_YET.contains(&word), "{word}");
        }
    }

    #[test]
    fn any_bytes_give_directives_or_mistakes() {
        let sample =
            b"raw /dev/sda5 # x\npath \"/var/crash\"\ncore_collector makedumpfile -c -d 1,31\n";
        for position in 0..sample.len() {
            for bit in 0..8 {
                let mut bytes = sample.to_vec();
                bytes[position] ^= 1 << bit;
                let _ = parse("f", &bytes)
                    .map_err(|mistakes| assert!(!mistakes.to_string().is_empty()));
            }
            let _ = parse("f", &sample[..position])
                .map_err(|mistakes| assert!(!mistakes.to_string().is_empty()));
        }
    }
}
