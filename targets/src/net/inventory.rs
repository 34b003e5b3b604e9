// SPDX-License-Identifier: MIT OR Apache-2.0
//! The running system's links, addresses and routes, for the builder: the same messages that the capture side makes,
//! read the other way round.
//!
//! Source: Linux 6.12 `include/uapi/linux/if_link.h`, `if_addr.h`, `rtnetlink.h`.

use super::address::{
    ADDRESS, ADDRESS_FIXED_BYTES, ADDRESS_FLAGS, DESTINATION, GATEWAY, GET_ADDRESS, LINK, LOCAL,
    NEW_ADDRESS, NEW_ROUTE, SCOPE_LINK, TABLE_MAIN, UNICAST,
};
use super::link::{
    ADDRESS as MAC_ADDRESS, BOND_MODE, BOND_MONITOR_MS, FIXED_BYTES, GET_LINK, INFO, INFO_DATA,
    INFO_KIND, MASTER, MTU, NAME, NEW_LINK, OVER, PERMANENT_ADDRESS, VLAN_ID,
};
use super::netlink::{Netlink, Request, attributes};
use crate::bytes::Fields;
use crate::io::io;
use crate::text::Text;
use collector::IoError;
use config::network::{Cidr, Mac};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const GET_ROUTE: u16 = 26;
const ROUTE_FIXED_BYTES: usize = 12;
const METRIC: u16 = 6;
const PERMANENT: u32 = 0x80;

/// Something that the kernel said.
#[derive(Clone, Copy, Debug)]
pub enum Fact {
    /// A link.
    Link(LinkFact),
    /// An address of a link.
    Address(AddressFact),
    /// A route of the main table.
    Route(RouteFact),
}

/// A link.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkFact {
    /// The kernel's number.
    pub index: u32,
    /// Its name.
    pub name: Text<16>,
    /// What kind of made link it is, in the kernel's word; empty for a card.
    pub kind: Text<16>,
    /// Its address.
    pub mac: Option<Mac>,
    /// The address that the card was made with, where the kernel tells.
    pub made_with: Option<Mac>,
    /// Its largest packet.
    pub mtu: u32,
    /// The link that it stands upon.
    pub over: Option<u32>,
    /// The bond or bridge that it belongs to.
    pub master: Option<u32>,
    /// A VLAN's number.
    pub vlan_id: u16,
    /// A bond's mode, as the kernel's number.
    pub bond_mode: u8,
    /// How often a bond looks at its links.
    pub bond_monitor_ms: u32,
}

/// An address of a link.
#[derive(Clone, Copy, Debug)]
pub struct AddressFact {
    /// The link.
    pub index: u32,
    /// The address.
    pub cidr: Cidr,
    /// Somebody set it for good; otherwise a server or a router gave it.
    pub is_permanent: bool,
    /// It is good beyond its own link.
    pub is_global: bool,
}

/// A route.
#[derive(Clone, Copy, Debug)]
pub struct RouteFact {
    /// Where to.
    pub to: Cidr,
    /// Through which router.
    pub via: Option<IpAddr>,
    /// Through which link.
    pub index: u32,
    /// Of two to the same place, the lower one is taken.
    pub metric: u32,
}

/// Shows `visit` all links, then all addresses, then all routes.
///
/// # Errors
/// What the kernel said.
pub fn survey(visit: &mut dyn FnMut(Fact)) -> Result<(), IoError> {
    let mut netlink = Netlink::open().map_err(io)?;
    for (ask, fixed_bytes) in [
        (GET_LINK, FIXED_BYTES),
        (GET_ADDRESS, ADDRESS_FIXED_BYTES),
        (GET_ROUTE, ROUTE_FIXED_BYTES),
    ] {
        let fixed = [0; FIXED_BYTES];
        let request = Request::new(ask, 0, fixed.get(..fixed_bytes).unwrap_or_default());
        netlink
            .list(request, &mut |kind, content| {
                if let Some(fact) = fact(kind, content) {
                    visit(fact);
                }
            })
            .map_err(io)?;
    }
    Ok(())
}

/// What a message says; none when it is about something else.
pub(super) fn fact(kind: u16, content: &[u8]) -> Option<Fact> {
    match kind {
        NEW_LINK => Some(Fact::Link(link(content))),
        NEW_ADDRESS => address(content).map(Fact::Address),
        NEW_ROUTE => route(content).map(Fact::Route),
        _ => None,
    }
}

fn number(value: &[u8]) -> u32 {
    u32::from_ne_bytes(Fields(value).bytes(0))
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        2 => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))),
        10 => Some(IpAddr::V6(Ipv6Addr::from(
            <[u8; 16]>::try_from(value).ok()?,
        ))),
        _ => None,
    }
}

fn link(content: &[u8]) -> LinkFact {
    let text = |value: &[u8]| Fields(value).text(0, value.len());
    let mac = |value: &[u8]| value.try_into().ok().map(Mac);
    let mut fact = LinkFact {
        index: u32::from_ne_bytes(Fields(content).bytes(4)),
        ..LinkFact::default()
    };
    for (kind, value) in attributes(content, FIXED_BYTES) {
        match kind {
            NAME => fact.name = text(value),
            MAC_ADDRESS => fact.mac = mac(value),
            PERMANENT_ADDRESS => fact.made_with = mac(value),
            MTU => fact.mtu = number(value),
            OVER => fact.over = Some(number(value)),
            MASTER => fact.master = Some(number(value)),
            INFO => {
                for (kind, value) in attributes(value, 0) {
                    match kind {
                        INFO_KIND => fact.kind = text(value),
                        INFO_DATA => details(&mut fact, value),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    fact
}

/// The kind comes before its details.
fn details(fact: &mut LinkFact, content: &[u8]) {
    let is_vlan = fact.kind == *"vlan";
    let is_bond = fact.kind == *"bond";
    for (kind, value) in attributes(content, 0) {
        match kind {
            VLAN_ID if is_vlan => fact.vlan_id = u16::from_ne_bytes(Fields(value).bytes(0)),
            BOND_MODE if is_bond => fact.bond_mode = Fields(value).u8(0),
            BOND_MONITOR_MS if is_bond => fact.bond_monitor_ms = number(value),
            _ => {}
        }
    }
}

fn address(content: &[u8]) -> Option<AddressFact> {
    let fixed = Fields(content);
    let family = fixed.u8(0);
    let mut flags = u32::from(fixed.u8(2));
    let (mut address, mut local) = (None, None);
    for (kind, value) in attributes(content, ADDRESS_FIXED_BYTES) {
        match kind {
            ADDRESS => address = ip(family, value),
            // Of two ends the own one.
            LOCAL => local = ip(family, value),
            ADDRESS_FLAGS => flags = number(value),
            _ => {}
        }
    }
    Some(AddressFact {
        index: u32::from_ne_bytes(fixed.bytes(4)),
        cidr: Cidr {
            address: local.or(address)?,
            prefix: fixed.u8(1),
        },
        is_permanent: flags & PERMANENT != 0,
        // Those of a site, as QEMU's user network has them, are as good.
        is_global: fixed.u8(3) < SCOPE_LINK,
    })
}

fn route(content: &[u8]) -> Option<RouteFact> {
    let fixed = Fields(content);
    let family = fixed.u8(0);
    if fixed.u8(4) != TABLE_MAIN || fixed.u8(7) != UNICAST {
        return None;
    }
    let mut to = match family {
        2 => Cidr::ALL_V4,
        10 => Cidr::ALL_V6,
        _ => return None,
    };
    to.prefix = fixed.u8(1);
    let (mut via, mut index, mut metric) = (None, None, 0);
    for (kind, value) in attributes(content, ROUTE_FIXED_BYTES) {
        match kind {
            DESTINATION => to.address = ip(family, value)?,
            GATEWAY => via = ip(family, value),
            LINK => index = Some(number(value)),
            METRIC => metric = number(value),
            _ => {}
        }
    }
    Some(RouteFact {
        to,
        via,
        index: index?,
        metric,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_there_with_its_address() {
        let (mut index, mut has_address) = (None, false);
        survey(&mut |fact| match fact {
            Fact::Link(link) if link.name == *"lo" => index = Some(link.index),
            Fact::Address(address) => {
                has_address |= Some(address.index) == index
                    && address.cidr.to_string() == "127.0.0.1/8"
                    && address.is_permanent;
            }
            _ => {}
        })
        .unwrap();
        assert!(index.is_some() && has_address);
    }
}
