// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way to a server: from a [`NetworkSpec`] to links that are up, addresses and routes.
//!
//! ```text
//! links in order ─▶ carrier ─▶ addresses (static, DHCPv4, SLAAC) ─▶ routes ─▶ link_delay ─▶ the server's name
//! ```
//! All of it by the kernel's own messages (rtnetlink): no udev, no ifupdown, no dhclient. Everything that is made stays
//! for the next attempt, which finds it there.
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

mod address;
mod dhcp;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod inventory;
mod link;
mod netlink;
mod resolve;

use crate::clock::{now, pause};
use crate::io::io;
use crate::text::Text;
use collector::IoError;
use config::NetworkSpec;
use config::network::{Assignment, MAX_NAMESERVERS, Mac, Server};
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use heapless::Vec;
use link::{Known, LinkName};
use netlink::{Changes, Netlink};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, getsockname, socket_with};

/// Why there is no way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetError {
    /// The kernel refused something: what, for which link, what it said.
    Kernel(&'static str, Text<16>, IoError),
    /// No card is the one that the host had.
    NoCard {
        /// What the host called it.
        name: Text<16>,
        /// Its hardware address.
        mac: Mac,
        /// Where it was attached.
        place: Text<64>,
    },
    /// The record speaks of a link that it does not have: a defect of the builder.
    NoSuchLink(Text<16>),
    /// The link is not connected.
    NoCarrier(Text<16>),
    /// No DHCP server gave an address; whether one refused.
    NoLease(Text<16>, bool),
    /// No router told which network this is.
    NoRouter(Text<16>),
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(doing, name, error) if name.is_empty() => write!(f, "{doing}: {error}"),
            Self::Kernel(doing, name, error) => write!(f, "{doing} {name}: {error}"),
            Self::NoCard { name, mac, place } => {
                write!(f, "there is no network card {mac}")?;
                if !place.is_empty() {
                    write!(f, " and none at {place}")?;
                }
                write!(f, " ({name} on the host); is its driver in the image?")
            }
            Self::NoSuchLink(name) => write!(f, "the record has no link {name}"),
            Self::NoCarrier(name) => {
                write!(
                    f,
                    "{name} is not connected: no carrier; is the cable in, the switch on?"
                )
            }
            Self::NoLease(name, false) => write!(f, "no answer to DHCP on {name}"),
            Self::NoLease(name, true) => write!(f, "the DHCP server refused an address on {name}"),
            Self::NoRouter(name) => {
                write!(f, "no IPv6 router told {name} which network it is in")
            }
        }
    }
}

impl core::error::Error for NetError {}

/// A network that is up.
#[derive(Clone, Debug)]
pub struct Network {
    /// Who is asked for names: those of the DHCP server, then those of the record.
    nameservers: Vec<IpAddr, { MAX_NAMESERVERS * 2 }>,
}

/// Brings up what `spec` lists until `patience` is over; `link_delay` comes on top. `tell` is told each fact that a person
/// would want to know afterwards.
///
/// # Errors
/// What is missing, or what the kernel refused.
pub fn bring_up(
    spec: &NetworkSpec<'_>,
    patience: Duration,
    tell: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<Network, NetError> {
    let until = now().saturating_add(patience);
    let open = |errno| NetError::Kernel("opening rtnetlink", LinkName::EMPTY, io(errno));
    let changes = Changes::new().map_err(open)?;
    let mut netlink = Netlink::open().map_err(open)?;
    let mut known = Known::new();
    for link in &spec.links {
        let seen = link::set_up(&mut netlink, &changes, link, &mut known, until)?;
        if seen.name != *link.name {
            tell(format_args!(
                "network: {} of the host is {} here",
                link.name, seen.name
            ));
        }
    }
    link::wait_for_carrier(&mut netlink, &changes, spec, &known, until)?;

    let mut nameservers = Vec::new();
    for address in &spec.addresses {
        let seen = link::by_index(&mut netlink, link::index_of(&known, address.link)?)?;
        match address.how {
            Assignment::Static(cidr) => {
                address::add(&mut netlink, seen.index, &seen.name, cidr)?;
                tell(format_args!("network: {} has {cidr}", seen.name));
            }
            Assignment::Slaac => {
                let cidr =
                    address::wait_for_slaac(&mut netlink, &changes, seen.index, &seen.name, until)?;
                tell(format_args!("network: {} has {cidr} (SLAAC)", seen.name));
            }
            Assignment::Dhcp4 => {
                let lease = dhcp::lease(&seen, until)?;
                address::add(&mut netlink, seen.index, &seen.name, lease.address)?;
                for (to, via) in &lease.routes {
                    let via = via.map(IpAddr::V4);
                    address::route(&mut netlink, seen.index, &seen.name, *to, via)?;
                }
                for server in &lease.nameservers {
                    // There is room for all of both.
                    let _ = nameservers.push(IpAddr::V4(*server));
                }
                if let Some(mtu) = lease.mtu {
                    link::set_mtu(&mut netlink, seen.index, &seen.name, mtu.into())?;
                }
                tell(format_args!(
                    "network: {} has {} for {} s from the DHCP server {}",
                    seen.name, lease.address, lease.seconds, lease.server
                ));
            }
        }
    }
    for route in &spec.routes {
        let seen = link::by_index(&mut netlink, link::index_of(&known, route.link)?)?;
        address::route(&mut netlink, seen.index, &seen.name, route.to, route.via)?;
    }
    for server in &spec.nameservers {
        let _ = nameservers.push(*server);
    }
    if spec.delay_s > 0 {
        tell(format_args!(
            "network: waiting {} s (link_delay)",
            spec.delay_s
        ));
        changes_pass(Duration::from_secs(spec.delay_s.into()));
    }
    Ok(Network { nameservers })
}

/// Lets time pass; nothing tells when a switch begins to forward.
fn changes_pass(delay: Duration) {
    let end = now().saturating_add(delay);
    loop {
        let left = end.saturating_sub(now());
        if left.is_zero() {
            return;
        }
        pause(left);
    }
}

impl Network {
    /// The server's address now: asked for where the record has a name, the record's own where nobody answers.
    pub fn address_of(
        &self,
        server: &Server<'_>,
        patience: Duration,
        tell: &mut dyn FnMut(fmt::Arguments<'_>),
    ) -> IpAddr {
        if server.is_address() {
            return server.address;
        }
        let until = now().saturating_add(patience);
        match resolve::resolve(server.name, server.address, &self.nameservers, until) {
            Ok(address) => {
                if address != server.address {
                    tell(format_args!(
                        "network: {} is {address} now, and was {} when the image was built",
                        server.name, server.address
                    ));
                }
                address
            }
            Err(error) => {
                tell(format_args!(
                    "network: asking for the address of {}: {error}; next: {} as when the image was built",
                    server.name, server.address
                ));
                server.address
            }
        }
    }
}

/// The address that this machine has towards `server`, as the directory of the dump is called.
///
/// # Errors
/// There is no route to it.
pub fn own_address(server: IpAddr) -> Result<IpAddr, IoError> {
    let family = if server.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    // Nothing is sent: connecting such a socket only chooses the way.
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None).map_err(io)?;
    connect(&socket, &SocketAddr::new(server, 9)).map_err(io)?;
    let own = getsockname(&socket).map_err(io)?;
    SocketAddr::try_from(own)
        .map(|address| address.ip())
        .map_err(|_| io(Errno::AFNOSUPPORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_address_towards_oneself_is_oneself() {
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(own_address(local), Ok(local));
    }

    #[test]
    fn an_address_needs_nobody_to_be_asked() {
        let network = Network {
            nameservers: Vec::new(),
        };
        let server = Server {
            name: "10.0.2.2",
            address: "10.0.2.2".parse().unwrap(),
        };
        let mut told = 0;
        let mut tell = |_: fmt::Arguments<'_>| told += 1;
        assert_eq!(
            network.address_of(&server, Duration::ZERO, &mut tell),
            server.address
        );
        // Without an answer it is what it was.
        let named = Server {
            name: "nas.example",
            ..server
        };
        assert_eq!(
            network.address_of(&named, Duration::ZERO, &mut tell),
            server.address
        );
        assert_eq!(told, 1);
    }

    #[test]
    fn a_card_that_is_not_there_is_named_with_what_it_was_known_by() {
        let error = NetError::NoCard {
            name: Text::new(b"enp0s3"),
            mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
            place: Text::new(b"pci-0000:00:03.0"),
        };
        assert_eq!(
            error.to_string(),
            "there is no network card 52:54:00:12:34:56 and none at pci-0000:00:03.0 (enp0s3 on the host); is its driver in the image?"
        );
    }
}
