// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text form to a record, strictly.

use super::block::{Block, set};
use super::{
    Attempt, MAX_ATTEMPTS, MAX_NETWORKS, Module, Record, RecordError, Role, RootFilesystem,
};
use crate::action::{FailureAction, FinalAction};
use crate::deadline::Deadlines;
use crate::fence::{Fence, Node, Sending};
use crate::hook::{Hook, HookKind};
use crate::layer::{Layer, MAX_LAYERS};
use crate::network::NetworkSpec;
use crate::watchdog::Watchdog;
use heapless::Vec;

/// Which block the indented lines belong to.
enum Open {
    Nothing,
    Attempt(Role),
    Network,
    Root,
}

/// Reads a record.
///
/// # Errors
/// See [`RecordError`]. Nothing of a record with an error is to be obeyed.
pub fn parse(text: &str) -> Result<Record<'_>, RecordError<'_>> {
    let body = text
        .strip_suffix('\n')
        .ok_or(if text.starts_with("kdumprd-record ") {
            RecordError::Cut
        } else {
            RecordError::NotARecord
        })?;
    let mut lines = (1_u32..).zip(body.split('\n'));
    let first = lines.next().map_or("", |(_, line)| line);
    match first.strip_prefix("kdumprd-record ") {
        Some("1") => {}
        Some(other) => return Err(RecordError::Version(other)),
        None => return Err(RecordError::NotARecord),
    }
    let body = text.strip_suffix("\nend\n").ok_or(RecordError::Cut)?;
    let lines = (1_u32..).zip(body.split('\n')).skip(1);

    let (mut kernel, mut hostname, mut zone) = (None, None, None);
    let (mut failure_action, mut final_action) = (None, None);
    let mut deadlines = Deadlines::DEFAULT;
    let mut debug_mem_level = None;
    let mut keep_dumps = None;
    let mut encrypt_to = Vec::new();
    let mut watchdog = None;
    let (mut sending, mut nodes) = (None, Vec::new());
    let mut modules = Vec::new();
    let mut hooks = Vec::new();
    let mut lists = Lists::default();
    let mut open = Open::Nothing;
    let mut block = Block::default();

    for (number, line) in lines {
        if let Some(indented) = line.strip_prefix(' ') {
            let (keyword, value) = indented.split_once(' ').unwrap_or((indented, ""));
            match open {
                Open::Nothing => return Err(RecordError::Keyword(number, keyword)),
                Open::Network => lists
                    .networks
                    .last_mut()
                    .and_then(|network| network.take_line(keyword, value))
                    .ok_or(RecordError::Value(number, indented))?,
                Open::Attempt(_) | Open::Root => block.take_line(number, keyword, value)?,
            }
            continue;
        }
        lists.close(&mut open, &mut block, number)?;
        let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
        let wrong = RecordError::Value(number, value);
        match keyword {
            "kernel" if !value.is_empty() => set(&mut kernel, value, number, keyword)?,
            "hostname" => set(&mut hostname, value, number, keyword)?,
            "zone" if !value.is_empty() => set(&mut zone, value, number, keyword)?,
            "failure_action" => {
                set(
                    &mut failure_action,
                    FailureAction::from_word(value).ok_or(wrong)?,
                    number,
                    keyword,
                )?;
            }
            "final_action" => set(
                &mut final_action,
                FinalAction::from_word(value).ok_or(wrong)?,
                number,
                keyword,
            )?,
            "deadline" => {
                let (word, seconds) = value.split_once(' ').ok_or(wrong)?;
                let seconds = seconds
                    .parse()
                    .ok()
                    .filter(|&seconds| seconds > 0)
                    .ok_or(wrong)?;
                *deadlines.by_name(word).ok_or(wrong)? = seconds;
            }
            "module" => {
                let (name, options) = value.split_once(' ').unwrap_or((value, ""));
                if name.is_empty() || name.contains('/') {
                    return Err(wrong);
                }
                modules
                    .push(Module { name, options })
                    .map_err(|_| RecordError::TooMany(number, keyword))?;
            }
            "debug_mem_level" => {
                let level = value.parse().ok().filter(|level| (1..=3).contains(level));
                set(&mut debug_mem_level, level.ok_or(wrong)?, number, keyword)?;
            }
            "keep_dumps" => {
                let dumps = value.parse().ok().filter(|&dumps: &u32| dumps > 0);
                set(&mut keep_dumps, dumps.ok_or(wrong)?, number, keyword)?;
            }
            "encrypt_to" if is_word(value) => {
                encrypt_to
                    .push(value)
                    .map_err(|_| RecordError::TooMany(number, keyword))?;
            }
            "watchdog" => {
                let value = Watchdog::parse(value).ok_or(wrong)?;
                set(&mut watchdog, value, number, keyword)?;
            }
            "hook" => {
                let (kind, path) = value.split_once(' ').ok_or(wrong)?;
                let kind = HookKind::from_word(kind)
                    .filter(|_| path.starts_with('/'))
                    .ok_or(wrong)?;
                hooks
                    .push(Hook { kind, path })
                    .map_err(|_| RecordError::TooMany(number, keyword))?;
            }
            "fence_kdump" => {
                let value: Sending = value.parse().map_err(|()| wrong)?;
                set(&mut sending, value, number, keyword)?;
            }
            "fence_node" => {
                let node = Node::parse(value)
                    .filter(|node| node.network < lists.networks.len())
                    .ok_or(wrong)?;
                nodes
                    .push(node)
                    .map_err(|_| RecordError::TooMany(number, keyword))?;
            }
            "layer" => lists
                .layers
                .push(Layer::parse(value).ok_or(wrong)?)
                .map_err(|_| RecordError::TooMany(number, keyword))?,
            "attempt" => open = Open::Attempt(Role::from_word(value).ok_or(wrong)?),
            "network" if value.is_empty() => {
                lists
                    .networks
                    .push(NetworkSpec::default())
                    .map_err(|_| RecordError::TooMany(number, keyword))?;
                open = Open::Network;
            }
            "root" if value.is_empty() => open = Open::Root,
            "kernel" | "zone" | "root" | "network" | "encrypt_to" => return Err(wrong),
            _ => return Err(RecordError::Keyword(number, keyword)),
        }
    }
    lists.close(&mut open, &mut block, 0)?;
    if nodes.is_empty() != sending.is_none() {
        return Err(RecordError::Missing("fence_kdump with its nodes"));
    }

    Ok(Record {
        kernel: kernel.ok_or(RecordError::Missing("kernel"))?,
        hostname: hostname.ok_or(RecordError::Missing("hostname"))?,
        zone: zone.ok_or(RecordError::Missing("zone"))?,
        failure_action: failure_action.ok_or(RecordError::Missing("failure_action"))?,
        final_action: final_action.ok_or(RecordError::Missing("final_action"))?,
        deadlines,
        debug_mem_level: debug_mem_level.unwrap_or(0),
        keep_dumps: keep_dumps.unwrap_or(0),
        encrypt_to,
        watchdog,
        modules,
        hooks,
        networks: lists.networks,
        fence: Fence {
            sending: sending.unwrap_or_default(),
            nodes,
        },
        layers: lists.layers,
        attempts: lists.attempts,
        root: lists.root,
    })
}

fn is_word(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// What blocks become.
#[derive(Default)]
struct Lists<'a> {
    networks: Vec<NetworkSpec<'a>, MAX_NETWORKS>,
    layers: Vec<Layer<'a>, MAX_LAYERS>,
    attempts: Vec<Attempt<'a>, MAX_ATTEMPTS>,
    root: Option<RootFilesystem<'a>>,
}

impl<'a> Lists<'a> {
    /// Ends the block that is open, if one is.
    fn close(
        &mut self,
        open: &mut Open,
        block: &mut Block<'a>,
        line: u32,
    ) -> Result<(), RecordError<'a>> {
        let has = |number| number < self.layers.len();
        if !block.layers.iter().all(has) {
            return Err(RecordError::Missing("layer"));
        }
        match core::mem::replace(open, Open::Nothing) {
            // A network took its lines as they came.
            Open::Nothing | Open::Network => Ok(()),
            Open::Attempt(role) => {
                let attempt = core::mem::take(block).into_attempt(role, self.networks.len())?;
                self.attempts
                    .push(attempt)
                    .map_err(|_| RecordError::TooMany(line, "attempt"))
            }
            Open::Root => {
                let root = core::mem::take(block).into_root()?;
                set(&mut self.root, root, line, "root")
            }
        }
    }
}
