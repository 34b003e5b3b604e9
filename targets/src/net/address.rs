// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses and routes.
//!
//! Source: Linux 6.12 `include/uapi/linux/if_addr.h`, `rtnetlink.h`.

use super::NetError;
use super::link::LinkName;
use super::netlink::{Changes, FLAG_CREATE, FLAG_REPLACE, Netlink, Request, attributes};
use crate::bytes::Fields;
use crate::clock::now;
use crate::io::io;
use config::network::Cidr;
use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;
use rustix::io::Errno;

pub(super) const NEW_ADDRESS: u16 = 20;
pub(super) const GET_ADDRESS: u16 = 22;
pub(super) const ADDRESS_FIXED_BYTES: usize = 8;
pub(super) const LOCAL: u16 = 2;
pub(super) const ADDRESS: u16 = 1;
pub(super) const ADDRESS_FLAGS: u16 = 8;
/// Nobody else has it, as the host had it until now: no waiting for somebody to object.
const NO_DUPLICATE_CHECK: u32 = 0x2;
/// The check is under way, or somebody objected.
const TENTATIVE_OR_FAILED: u32 = 0x40 | 0x8;

pub(super) const NEW_ROUTE: u16 = 24;
pub(super) const DESTINATION: u16 = 1;
pub(super) const LINK: u16 = 4;
pub(super) const GATEWAY: u16 = 5;
pub(super) const TABLE_MAIN: u8 = 254;
const BY_BOOT: u8 = 3;
pub(super) const SCOPE_LINK: u8 = 253;
pub(super) const UNICAST: u8 = 1;
/// The router is a neighbour whatever the addresses say.
const ON_LINK: u32 = 4;

const LOOK_AGAIN: Duration = Duration::from_millis(500);

const fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 10,
    }
}

fn attribute(request: &mut Request, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => request.attribute(kind, &address.octets()),
        IpAddr::V6(address) => request.attribute(kind, &address.octets()),
    };
}

/// Gives a link an address. One that it has is left as it is.
pub(super) fn add(
    netlink: &mut Netlink,
    index: u32,
    name: &LinkName,
    cidr: Cidr,
) -> Result<(), NetError> {
    let [a, b, c, d] = index.to_ne_bytes();
    let fixed = [family(cidr.address), cidr.prefix, 0, 0, a, b, c, d];
    let mut request = Request::new(NEW_ADDRESS, FLAG_CREATE | FLAG_REPLACE, &fixed);
    attribute(&mut request, LOCAL, cidr.address);
    attribute(&mut request, ADDRESS, cidr.address);
    if cidr.address.is_ipv6() {
        request.attribute(ADDRESS_FLAGS, &NO_DUPLICATE_CHECK.to_ne_bytes());
    }
    match netlink.ask(request) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(NetError::Kernel("giving an address to", *name, io(errno))),
    }
}

/// Makes a route, or changes the one that is there.
pub(super) fn route(
    netlink: &mut Netlink,
    index: u32,
    name: &LinkName,
    to: Cidr,
    via: Option<IpAddr>,
) -> Result<(), NetError> {
    let mut ask = |flags: u32| {
        let scope = if via.is_none() && to.address.is_ipv4() {
            SCOPE_LINK
        } else {
            0
        };
        let [a, b, c, d] = flags.to_ne_bytes();
        let fixed = [
            family(to.address),
            to.prefix,
            0,
            0,
            TABLE_MAIN,
            BY_BOOT,
            scope,
            UNICAST,
            a,
            b,
            c,
            d,
        ];
        let mut request = Request::new(NEW_ROUTE, FLAG_CREATE | FLAG_REPLACE, &fixed);
        if to.prefix > 0 {
            // The kernel takes no route to a part of a network.
            attribute(&mut request, DESTINATION, to.network());
        }
        if let Some(via) = via {
            attribute(&mut request, GATEWAY, via);
        }
        request.attribute(LINK, &index.to_ne_bytes());
        netlink.ask(request)
    };
    ask(0)
        .or_else(|errno| match errno {
            // A router outside of every network, as providers of virtual machines have it.
            Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::INVAL if via.is_some() => ask(ON_LINK),
            errno => Err(errno),
        })
        .map_err(|errno| NetError::Kernel("making a route through", *name, io(errno)))
}

/// Waits until the kernel made an address of a router's advertisement, and returns it.
pub(super) fn wait_for_slaac(
    netlink: &mut Netlink,
    changes: &Changes,
    index: u32,
    name: &LinkName,
    until: Duration,
) -> Result<Cidr, NetError> {
    loop {
        let mut found = None;
        let list = Request::new(GET_ADDRESS, 0, &[10, 0, 0, 0, 0, 0, 0, 0]);
        let listed = netlink.list(list, &mut |kind, content| {
            let fixed = Fields(content);
            let (prefix, scope) = (fixed.u8(1), fixed.u8(3));
            let mut flags = u32::from(fixed.u8(2));
            let mut address = None;
            for (kind, value) in attributes(content, ADDRESS_FIXED_BYTES) {
                match kind {
                    ADDRESS => address = value.try_into().ok().map(|bytes: [u8; 16]| bytes),
                    ADDRESS_FLAGS => flags = u32::from_ne_bytes(Fields(value).bytes(0)),
                    _ => {}
                }
            }
            let is_it = kind == NEW_ADDRESS
                && scope < SCOPE_LINK
                && u32::from_ne_bytes(fixed.bytes(4)) == index
                && flags & TENTATIVE_OR_FAILED == 0;
            if is_it && let Some(bytes) = address {
                found = Some(Cidr {
                    address: IpAddr::V6(Ipv6Addr::from(bytes)),
                    prefix,
                });
            }
        });
        listed.map_err(|errno| NetError::Kernel("listing the addresses of", *name, io(errno)))?;
        if let Some(found) = found {
            return Ok(found);
        }
        let left = until.saturating_sub(now());
        if left.is_zero() {
            return Err(NetError::NoRouter(*name));
        }
        changes.wait(left.min(LOOK_AGAIN));
    }
}
