// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines about fence_kdump: telling a cluster's other nodes that this one is dumping and not merely gone.

use super::Directives;
use super::line::Line;
use config::fence::Sending;
use std::net::IpAddr;

/// `fence_kdump_send`'s options, as far as they concern what is sent.
///
/// Source: fence-agents 4.12 `agents/kdump/fence_kdump_send.c`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FenceOptions {
    /// Where to and how often.
    pub sending: Sending,
    /// Only addresses of this family.
    pub family: Option<Family>,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The word of `-f`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// The address is of this family.
    #[must_use]
    pub const fn has(self, address: &IpAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Several lines add up.
pub(super) fn take_nodes(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    for node in line.words("names or addresses of nodes with blanks between")? {
        if directives
            .fence_kdump_nodes
            .iter()
            .any(|at| at.value == node)
        {
            return Err(format!(
                "the node {node} is named twice; one of the two has to go"
            ));
        }
        directives.fence_kdump_nodes.push(line.at(node.to_owned()));
    }
    Ok(())
}

pub(super) fn take_options(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    const ACCEPTED: &str = "-p PORT, -f auto|ipv4|ipv6, -c COUNT, -i SECONDS and -v";
    let mut options = FenceOptions::default();
    let mut words = line.words(ACCEPTED)?;
    while let Some(word) = words.next() {
        let wrong = |value: &str| format!("`{word}` cannot be `{value}`; accepted are {ACCEPTED}");
        if matches!(word, "-v" | "--verbose") {
            continue;
        }
        // Long options have their value behind a `=`, short ones also without anything between.
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if word.starts_with("--") => (name, value),
            _ if !word.starts_with("--") && word.len() > 2 && word.is_ascii() => word.split_at(2),
            _ => (word, words.next().unwrap_or_default()),
        };
        let number = |range: std::ops::RangeInclusive<u32>| {
            value
                .parse()
                .ok()
                .filter(|number| range.contains(number))
                .ok_or_else(|| wrong(value))
        };
        match name {
            "-p" | "--ipport" => {
                options.sending.port = value
                    .parse()
                    .ok()
                    .filter(|&port| port > 0)
                    .ok_or_else(|| wrong(value))?;
            }
            "-c" | "--count" => options.sending.count = number(0..=u32::MAX)?,
            "-i" | "--interval" => options.sending.interval_s = number(1..=3600)?,
            "-f" | "--family" => {
                options.family = match value {
                    "auto" => None,
                    "ipv4" => Some(Family::V4),
                    "ipv6" => Some(Family::V6),
                    other => return Err(wrong(other)),
                };
            }
            other => return Err(format!("unknown option `{other}`; accepted are {ACCEPTED}")),
        }
    }
    line.once(&mut directives.fence_kdump_args, options)
}
