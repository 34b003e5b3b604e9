// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ways in for hostile bytes, behind what they could only guess: sockets, and the numbers of questions.

use super::resolve::Family;
use super::{dhcp, inventory, netlink, resolve};
use config::network::Mac;

/// The number of the question that [`dhcp`] has answers to.
pub const DHCP_NUMBER: u32 = 0x1234_5678;
/// The card that asked.
pub const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
/// The name that [`dns`] has answers about.
pub const NAME: &str = "nas.example";
/// The number of that question.
pub const DNS_NUMBER: u16 = 0x1234;

/// An IP packet from a network without an address of our own. Whether it is a lease.
#[must_use]
pub fn dhcp(packet: &[u8]) -> bool {
    dhcp::answer(packet, DHCP_NUMBER, MAC).is_some()
}

/// A packet from a name server. Whether it has an address.
#[must_use]
pub fn dns(message: &[u8]) -> bool {
    [Family::V4, Family::V6].into_iter().any(|family| {
        let question = resolve::question(NAME, family, DNS_NUMBER);
        question
            .and_then(|question| resolve::answer(message, &question, family))
            .is_some_and(|answer| answer.is_ok())
    })
}

/// The question, of IPv4.
#[must_use]
pub fn question() -> Option<heapless::Vec<u8, 272>> {
    resolve::question(NAME, Family::V4, DNS_NUMBER)
}

/// Messages as the kernel sends them at once. How many facts are in them.
#[must_use]
pub fn netlink(messages: &[u8]) -> usize {
    let mut facts = 0_usize;
    netlink::each_message(messages, &mut |message| {
        let fact = inventory::fact(message.kind, message.content);
        facts = facts.saturating_add(usize::from(fact.is_some()));
    });
    facts
}
