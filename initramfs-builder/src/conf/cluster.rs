// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines about fence_kdump: telling a cluster's other nodes that this one is dumping and not merely gone.

use super::Directives;
use super::line::Line;

/// `fence_kdump_send`'s options, as far as they concern what is sent.
///
/// Source: fence-agents 4.12 `agents/kdump/fence_kdump_send.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FenceOptions {
    /// The nodes' UDP port.
    pub port: u16,
    /// Only addresses of this family.
    pub family: Option<Family>,
    /// How many messages each node gets; 0 for no end.
    pub count: u32,
    /// Seconds between two messages.
    pub interval_s: u32,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Default for FenceOptions {
    fn default() -> Self {
        Self {
            port: 7410,
            family: None,
            count: 0,
            interval_s: 10,
        }
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
                options.port = value
                    .parse()
                    .ok()
                    .filter(|&port| port > 0)
                    .ok_or_else(|| wrong(value))?;
            }
            "-c" | "--count" => options.count = number(0..=u32::MAX)?,
            "-i" | "--interval" => options.interval_s = number(1..=3600)?,
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
