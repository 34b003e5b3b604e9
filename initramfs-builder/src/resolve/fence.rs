// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cluster's nodes that are told of the dump: their addresses and the ways to them.

use super::Work;
use crate::error::At;
use config::Server;
use config::fence::Node;
use std::net::IpAddr;

/// A node that is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// As the administrator wrote it.
    pub name: String,
    /// Its address now.
    pub address: IpAddr,
    /// Which of the ways leads there.
    pub way: usize,
}

impl Listener {
    /// As the record has it.
    #[must_use]
    pub fn node(&self) -> Node<'_> {
        Node {
            network: self.way,
            server: Server {
                name: &self.name,
                address: self.address,
            },
        }
    }
}

impl Work<'_> {
    /// Finds the nodes of `fence_kdump_nodes`, without this machine itself: all nodes of a cluster may have one file.
    pub(super) fn fence(&mut self) -> Vec<Listener> {
        let directives = self.directives;
        let mut listeners: Vec<Listener> = Vec::new();
        for node in &directives.fence_kdump_nodes {
            match self.listener(node) {
                Ok(None) => self.warnings.push(format!(
                    "{}:{}: {} is this machine, which is not told of its own dump",
                    directives.file, node.line, node.value
                )),
                Ok(Some(listener)) => listeners.push(listener),
                Err(message) => {
                    self.mistake(node.line, format!("`fence_kdump_nodes`: {message}"));
                }
            }
        }
        if let Some(options) = &directives.fence_kdump_args
            && directives.fence_kdump_nodes.is_empty()
        {
            self.warnings.push(format!(
                "{}:{}: `fence_kdump_args` has no effect without `fence_kdump_nodes`",
                directives.file, options.line
            ));
        }
        listeners
    }

    /// A node and the way to it; `None` for this machine.
    fn listener(&mut self, node: &At<String>) -> Result<Option<Listener>, String> {
        let name = &node.value;
        let short = |name: &str| {
            let first = name.split('.').next().unwrap_or(name);
            first.to_ascii_lowercase()
        };
        // The short name of the one may be the long name of the other.
        let hostname = &self.host.hostname;
        let is_own_name = name.eq_ignore_ascii_case(hostname)
            || ((!name.contains('.') || !hostname.contains('.')) && short(name) == short(hostname));
        if is_own_name && name.parse::<IpAddr>().is_err() {
            return Ok(None);
        }
        let family = self
            .directives
            .fence_kdump_args
            .and_then(|options| options.value.family);
        let address = self.address_of(name, family)?;
        let own = &self.host.network.addresses;
        if address.is_loopback() || own.iter().any(|own| own.cidr.address == address) {
            return Ok(None);
        }
        // `ifc` is the link to the dump's server.
        let found = self.way_over(None, address)?;
        Ok(Some(Listener {
            name: name.clone(),
            address,
            way: found.way,
        }))
    }
}
