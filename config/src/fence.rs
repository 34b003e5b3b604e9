// SPDX-License-Identifier: MIT OR Apache-2.0
//! fence_kdump: which nodes of a cluster are told that this one is dumping, and how.
//!
//! In the record it is a line of its own and one for each node: the network that leads there, the address, the name.
//! ```text
//! fence_kdump 7410 10 0
//! fence_node 0 10.0.2.2 db8.example
//! ```

use crate::network::Server;
use core::fmt;
use core::str::FromStr;
use heapless::Vec;

/// The most nodes that are told. Pacemaker's clusters have no more members.
pub const MAX_NODES: usize = 32;

/// When the nodes are told: `fence_kdump_args`.
///
/// Source: fence-agents 4.12 `agents/kdump/fence_kdump_send.c`, `options.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// The nodes' UDP port.
    pub port: u16,
    /// Seconds between two messages to a node.
    pub interval_s: u32,
    /// How many messages each node gets; 0 for no end.
    pub count: u32,
}

impl Default for Sending {
    fn default() -> Self {
        Self {
            port: 7410,
            interval_s: 10,
            count: 0,
        }
    }
}

impl FromStr for Sending {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split(' ');
        let mut number = || words.next()?.parse::<u32>().ok();
        let (port, interval_s, count) = (number(), number(), number());
        if words.next().is_some() {
            return Err(());
        }
        Ok(Self {
            port: port
                .and_then(|port| u16::try_from(port).ok())
                .filter(|&port| port > 0)
                .ok_or(())?,
            interval_s: interval_s.filter(|&seconds| seconds > 0).ok_or(())?,
            count: count.ok_or(())?,
        })
    }
}

impl fmt::Display for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.port, self.interval_s, self.count)
    }
}

/// A node that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    /// Which of the record's networks leads there, counted from 0.
    pub network: usize,
    /// Its name, and its address when the image was built.
    pub server: Server<'a>,
}

impl<'a> Node<'a> {
    /// Reads what stands behind `fence_node`.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (network, rest) = text.split_once(' ')?;
        let (address, name) = rest.split_once(' ')?;
        Some(Self {
            network: network.parse().ok()?,
            server: Server {
                name: Some(name).filter(|name| !name.is_empty())?,
                address: address.parse().ok()?,
            },
        })
    }
}

impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, server } = self;
        write!(f, "{network} {} {}", server.address, server.name)
    }
}

/// Everything about fence_kdump. Without nodes nobody is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fence<'a> {
    /// When they are told.
    pub sending: Sending,
    /// Who is told.
    pub nodes: Vec<Node<'a>, MAX_NODES>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_and_to_whom_comes_back_as_it_was_written() {
        for text in ["7410 10 0", "1 3600 4294967295"] {
            assert_eq!(text.parse::<Sending>().unwrap().to_string(), text);
        }
        for text in ["0 10.0.2.2 db8.example", "3 fd00::2 fd00::2"] {
            assert_eq!(Node::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Sending::default().to_string(), "7410 10 0");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "7410",
            "7410 10",
            "0 10 0",
            "7410 0 0",
            "7410 10 0 1",
            "65536 1 0",
            "a b c",
        ] {
            assert_eq!(text.parse::<Sending>(), Err(()), "{text}");
        }
        for text in [
            "",
            "0",
            "0 10.0.2.2",
            "0 10.0.2.2 ",
            "x 10.0.2.2 a",
            "0 here a",
        ] {
            assert_eq!(Node::parse(text), None, "{text}");
        }
    }
}
