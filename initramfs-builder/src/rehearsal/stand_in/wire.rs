// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way from the virtual machine to a server on this one: QEMU's user network, which has one card and one address.

use crate::host::network::{HostAddress, HostLink, HostLinkKind, HostRoute};
use crate::host::{Driver, Host};
use config::network::Cidr;
use std::net::{IpAddr, Ipv4Addr};

/// What QEMU's user network calls the machine that it runs on, and the address that it gives. Source: QEMU 7.2
/// `docs/system/devices/net.rst`.
pub(super) const THIS_MACHINE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// The card's name, before and after.
const LINK: &str = "eth0";
/// Of the card: QEMU's own for the first one.
pub(in super::super) const MAC: &str = "52:54:00:12:34:56";

/// Puts the card, its address and the way into the described machine.
pub(super) fn put_into(host: &mut Host) {
    host.network.links = vec![HostLink {
        name: LINK.to_owned(),
        kind: HostLinkKind::Nic {
            made_with: MAC.parse().ok(),
            bus_path: None,
            drivers: ["virtio_pci", "virtio_net"]
                .map(|name| Driver {
                    module: Some(name.to_owned()),
                    at: LINK.to_owned(),
                    ..Driver::default()
                })
                .to_vec(),
        },
        mac: MAC.parse().ok(),
        mtu: Some(1500),
        master: None,
    }];
    host.network.addresses = vec![HostAddress {
        link: LINK.to_owned(),
        cidr: Cidr {
            address: IpAddr::V4(GUEST),
            prefix: 24,
        },
        is_given: true,
    }];
    host.network.routes = vec![HostRoute {
        to: Cidr {
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            prefix: 0,
        },
        via: Some(IpAddr::V4(THIS_MACHINE)),
        link: LINK.to_owned(),
        metric: 0,
    }];
}
