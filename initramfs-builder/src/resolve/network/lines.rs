// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines of a way, as the record has them.

use crate::host::network::HostLink;
use config::network::{MAX_NAMESERVERS, Mac};
use std::fmt::Write as _;
use std::net::IpAddr;

/// Lines of the record, and which links they have.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) text: String,
    pub(super) made: Vec<String>,
}

impl Lines {
    pub(super) fn add(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    /// As many as resolv.conf(5) takes.
    pub(super) fn nameservers(&mut self, servers: &[IpAddr]) {
        for server in servers.iter().take(MAX_NAMESERVERS) {
            self.add(format_args!("nameserver {server}"));
        }
    }

    /// What the link has otherwise than by itself; `own` is the address that it would have.
    pub(super) fn properties(&mut self, link: &HostLink, own: Option<Mac>) {
        if let Some(mac) = link.mac.filter(|&mac| Some(mac) != own) {
            self.add(format_args!("mac {} {mac}", link.name));
        }
        if let Some(mtu) = link.mtu.filter(|&mtu| mtu != 1500) {
            self.add(format_args!("mtu {} {mtu}", link.name));
        }
    }
}
