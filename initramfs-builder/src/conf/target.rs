// SPDX-License-Identifier: MIT OR Apache-2.0
//! The target lines: where the dump goes.

use super::Directives;
use super::line::{BLANKS, Line};
use super::spelling::nearest;
use crate::error::At;
use crate::filesystem::Type;
use targets::ssh::known_hosts::DEFAULT_PORT;

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
    Raw {
        /// What is on the device may be lost.
        overwrite: bool,
    },
    /// A file system of this type.
    Filesystem(Type),
}

impl TargetKind {
    /// The directive's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Raw { .. } => "raw",
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

/// What names a device.
const DEVICE: &str = "a device (/dev/…), LABEL=, UUID= or PARTUUID=";

/// The device of a value, in which quotes may have kept blanks together.
pub(super) fn device_name(value: &str, quoted: bool) -> Result<DeviceName, String> {
    if value.contains(BLANKS) && !quoted {
        return Err(format!(
            "`{value}` is more than one word; a label with blanks needs quotes: LABEL=\"my disk\""
        ));
    }
    Ok(match value.split_once('=') {
        _ if value.starts_with("/dev/") && value.len() > "/dev/".len() => {
            DeviceName::Node(value.to_owned())
        }
        Some((_, "")) => {
            return Err(format!(
                "`{value}` has nothing behind the `=`; accepted is {DEVICE}"
            ));
        }
        // blkid's spelling of UUIDs is lower case, but FAT's and what people type may not be.
        Some(("UUID", uuid)) => DeviceName::Uuid(uuid.to_owned()),
        Some(("LABEL", label)) => DeviceName::Label(label.to_owned()),
        Some(("PARTUUID", uuid)) => DeviceName::PartUuid(uuid.to_owned()),
        Some((tag, _)) => {
            return Err(match nearest(tag, ["UUID", "LABEL", "PARTUUID"]) {
                Some(meant) => format!("unknown `{tag}=`; did you mean `{meant}=`?"),
                None => format!("unknown `{tag}=`; accepted is {DEVICE}"),
            });
        }
        None => return Err(format!("`{value}` names no device; accepted is {DEVICE}")),
    })
}

pub(super) fn take_target(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    let value = line.some(DEVICE)?;
    let (value, kind) = match (Type::of(line.word), value.rsplit_once(BLANKS)) {
        (Some(fstype), _) => (value, TargetKind::Filesystem(fstype)),
        (None, Some((device, "overwrite"))) => (
            device.trim_end_matches(BLANKS),
            TargetKind::Raw { overwrite: true },
        ),
        (None, _) => (value, TargetKind::Raw { overwrite: false }),
    };
    let device = device_name(value, line.quoted)?;
    add_target(directives, line, Target::Local { kind, device })
}

/// `net` is the word of RHEL 5 for both NFS and ssh.
pub(super) fn take_server(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
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
pub(super) fn take_ssh(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
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

/// Only a mount among the arguments is a target, as in kdump-utils: `--mount "DEVICE DIRECTORY TYPE OPTIONS"`.
pub(super) fn take_dracut_args(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    let value =
        line.some("arguments of dracut, of which --mount \"DEVICE DIRECTORY TYPE\" is a target")?;
    let words: Vec<&str> = value
        .split(BLANKS)
        .filter(|word| !word.is_empty())
        .collect();
    let mut rest: Vec<&str> = Vec::new();
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let device = match word.strip_prefix("--mount") {
            Some("") => words.next(),
            Some(joined) => joined.strip_prefix('='),
            None => None,
        };
        let Some(device) = device else {
            rest.push(word);
            continue;
        };
        let directory = words.next();
        let fstype = words.next_if(|word| !word.starts_with("--"));
        let (Some(_), Some(fstype)) = (directory, fstype) else {
            return Err(format!(
                "`--mount` needs a device, a directory and the type of the file system: --mount \"{device} /mnt ext4\""
            ));
        };
        // The mount's options, and the two numbers of fstab that may follow.
        while words.next_if(|word| !word.starts_with("--")).is_some() {}
        match fstype {
            "nfs" | "nfs4" => take_server(directives, &line.as_if(fstype, device))?,
            other if Type::of(other).is_some() => {
                take_target(directives, &line.as_if(other, device))?;
            }
            other => {
                return Err(format!(
                    "`--mount` has the type `{other}`, which is not supported; accepted are nfs, {}",
                    crate::filesystem::words()
                ));
            }
        }
    }
    if !rest.is_empty() {
        directives.dracut_args.push(line.at(rest.join(" ")));
    }
    Ok(())
}
