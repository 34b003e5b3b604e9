// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links: the card that the record means, what is made upon it, and whether it is connected.
//!
//! Source: Linux 6.12 `include/uapi/linux/if_link.h`, `rtnetlink.h`.

use super::NetError;
use super::netlink::{Changes, FLAG_CREATE, FLAG_EXCL, Netlink, Request, attributes};
use crate::bus_path;
use crate::bytes::Fields;
use crate::clock::now;
use crate::io::io;
use crate::sysfs::{Roots, System};
use crate::text::Text;
use config::network::{Link, LinkKind, Mac, NetworkSpec};
use core::time::Duration;
use heapless::Vec;
use rustix::io::Errno;

pub(super) const NEW_LINK: u16 = 16;
pub(super) const GET_LINK: u16 = 18;
pub(super) const FIXED_BYTES: usize = 16;

pub(super) const ADDRESS: u16 = 1;
pub(super) const NAME: u16 = 3;
pub(super) const MTU: u16 = 4;
pub(super) const OVER: u16 = 5;
pub(super) const MASTER: u16 = 10;
pub(super) const INFO: u16 = 18;
pub(super) const INFO_KIND: u16 = 1;
pub(super) const INFO_DATA: u16 = 2;
pub(super) const PERMANENT_ADDRESS: u16 = 54;
pub(super) const VLAN_ID: u16 = 1;
pub(super) const BOND_MODE: u16 = 1;
pub(super) const BOND_MONITOR_MS: u16 = 3;
const BRIDGE_FORWARD_DELAY: u16 = 1;
const BRIDGE_STP: u16 = 5;

const UP: u32 = 0x1;
/// `IFF_RUNNING` and `IFF_LOWER_UP`: it is connected, and so is what is below.
const CONNECTED: u32 = 0x40 | 0x1_0000;

/// How long both the hardware address and the place must be right; later one of them is enough, as a card may have been
/// moved or exchanged.
const STRICT: Duration = Duration::from_secs(5);
/// How long to wait for a message before looking again all the same.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A link's name in this kernel.
pub(super) type LinkName = Text<16>;

/// A link as the kernel has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) index: u32,
    pub(super) name: LinkName,
    pub(super) mac: Option<Mac>,
    /// The address that the card was made with, where the kernel tells.
    made_with: Option<Mac>,
    flags: u32,
}

impl Seen {
    fn has_mac(&self, mac: Mac) -> bool {
        self.made_with.or(self.mac) == Some(mac)
    }
}

/// The record's links by the host's names, with the kernel's numbers.
pub(super) type Known<'a> = Vec<(&'a str, u32), { config::network::MAX_LINKS }>;

/// The number of the link that the host calls `name`.
pub(super) fn index_of(known: &Known<'_>, name: &str) -> Result<u32, NetError> {
    known
        .iter()
        .find(|(other, _)| *other == name)
        .map(|&(_, index)| index)
        .ok_or(NetError::NoSuchLink(Text::new(name.as_bytes())))
}

fn each(netlink: &mut Netlink, visit: &mut dyn FnMut(Seen)) -> Result<(), Errno> {
    let list = Request::new(GET_LINK, 0, &[0; FIXED_BYTES]);
    netlink.list(list, &mut |kind, content| {
        if kind != NEW_LINK {
            return;
        }
        let fixed = Fields(content);
        let mut seen = Seen {
            index: u32::from_ne_bytes(fixed.bytes(4)),
            name: LinkName::EMPTY,
            mac: None,
            made_with: None,
            flags: u32::from_ne_bytes(fixed.bytes(8)),
        };
        for (kind, value) in attributes(content, FIXED_BYTES) {
            let mac = || value.try_into().ok().map(Mac);
            match kind {
                NAME => seen.name = Fields(value).text(0, value.len()),
                ADDRESS => seen.mac = mac(),
                PERMANENT_ADDRESS => seen.made_with = mac(),
                _ => {}
            }
        }
        visit(seen);
    })
}

/// The link of this number.
pub(super) fn by_index(netlink: &mut Netlink, index: u32) -> Result<Seen, NetError> {
    let mut found = None;
    each(netlink, &mut |seen| {
        if seen.index == index {
            found = Some(seen);
        }
    })
    .map_err(|errno| NetError::Kernel("listing the links", LinkName::EMPTY, io(errno)))?;
    found.ok_or(NetError::Kernel(
        "looking for a link again",
        LinkName::EMPTY,
        io(Errno::NODEV),
    ))
}

/// Makes the link ready: the card is waited for, what stands upon others is made, and all of it is switched on.
pub(super) fn set_up<'a>(
    netlink: &mut Netlink,
    changes: &Changes,
    link: &Link<'a>,
    known: &mut Known<'a>,
    until: Duration,
) -> Result<Seen, NetError> {
    let name = LinkName::new(link.name.as_bytes());
    let failed = |doing| move |errno| NetError::Kernel(doing, name, io(errno));
    let index = match &link.kind {
        LinkKind::Nic { mac, bus_path } => {
            wait_for_card(netlink, changes, link.name, *mac, bus_path, until)?.index
        }
        kind => make(netlink, link.name, kind, known)?,
    };
    known
        .push((link.name, index))
        .map_err(|_| NetError::NoSuchLink(name))?;
    if let Some(mac) = link.mac {
        change(netlink, index, |request| {
            request.attribute(ADDRESS, &mac.0);
        })
        .map_err(failed("giving its hardware address to"))?;
    }
    if let Some(mtu) = link.mtu {
        set_mtu(netlink, index, &name, mtu)?;
    }
    if let LinkKind::Bond { ports, .. } | LinkKind::Bridge { ports } = &link.kind {
        for port in ports {
            let port = index_of(known, port)?;
            // A bond takes ports that are off, and switches them on.
            let is_bond = matches!(link.kind, LinkKind::Bond { .. });
            if is_bond {
                switch(netlink, port, false).map_err(failed("switching off a port of"))?;
            }
            change(netlink, port, |request| {
                request.attribute(MASTER, &index.to_ne_bytes());
            })
            .map_err(failed("adding a port to"))?;
            switch(netlink, port, true).map_err(failed("switching on a port of"))?;
        }
    }
    switch(netlink, index, true).map_err(failed("switching on"))?;
    by_index(netlink, index)
}

/// Waits until every link that has addresses is connected.
pub(super) fn wait_for_carrier(
    netlink: &mut Netlink,
    changes: &Changes,
    spec: &NetworkSpec<'_>,
    known: &Known<'_>,
    until: Duration,
) -> Result<(), NetError> {
    for address in &spec.addresses {
        let index = index_of(known, address.link)?;
        loop {
            let seen = by_index(netlink, index)?;
            if seen.flags & CONNECTED == CONNECTED {
                break;
            }
            let left = until.saturating_sub(now());
            if left.is_zero() {
                return Err(NetError::NoCarrier(seen.name));
            }
            changes.wait(left.min(LOOK_AGAIN));
        }
    }
    Ok(())
}

fn wait_for_card(
    netlink: &mut Netlink,
    changes: &Changes,
    name: &str,
    mac: Mac,
    place: &str,
    until: Duration,
) -> Result<Seen, NetError> {
    let failed = |errno| {
        NetError::Kernel(
            "listing the links for",
            LinkName::new(name.as_bytes()),
            io(errno),
        )
    };
    let start = now();
    loop {
        let system = System::open(&Roots::SYSTEM)
            .map_err(|error| NetError::Kernel("opening /sys for", LinkName::EMPTY, error))?;
        let (mut both, mut by_mac, mut by_place) = (None, None, None);
        each(netlink, &mut |seen| {
            let has_mac = seen.has_mac(mac);
            let is_there = !place.is_empty()
                && bus_path::of_card(&system, seen.name.as_bytes())
                    .is_some_and(|path| path == *place);
            match (has_mac, is_there || place.is_empty()) {
                (true, true) => both = both.or(Some(seen)),
                // A VLAN or a bridge has the address of what is below it, but no place.
                (true, false) if bus_path::of_card(&system, seen.name.as_bytes()).is_some() => {
                    by_mac = by_mac.or(Some(seen));
                }
                (false, true) if !place.is_empty() => by_place = by_place.or(Some(seen)),
                _ => {}
            }
        })
        .map_err(failed)?;
        if let Some(seen) = both {
            return Ok(seen);
        }
        if now().saturating_sub(start) >= STRICT
            && let Some(seen) = by_mac.or(by_place)
        {
            return Ok(seen);
        }
        let left = until.saturating_sub(now());
        if left.is_zero() {
            return Err(NetError::NoCard {
                name: LinkName::new(name.as_bytes()),
                mac,
                place: Text::new(place.as_bytes()),
            });
        }
        changes.wait(left.min(LOOK_AGAIN));
    }
}

/// Makes a link upon others; one that an earlier attempt made is taken as it is.
fn make(
    netlink: &mut Netlink,
    name: &str,
    kind: &LinkKind<'_>,
    known: &Known<'_>,
) -> Result<u32, NetError> {
    let short = LinkName::new(name.as_bytes());
    let mut request = Request::new(NEW_LINK, FLAG_CREATE | FLAG_EXCL, &[0; FIXED_BYTES]);
    request.text(NAME, name);
    match kind {
        LinkKind::Nic { .. } => return Err(NetError::NoSuchLink(short)),
        LinkKind::Vlan { over, id } => {
            let over = index_of(known, over)?;
            request
                .attribute(OVER, &over.to_ne_bytes())
                .nested(INFO, |info| {
                    info.text(INFO_KIND, "vlan").nested(INFO_DATA, |data| {
                        data.attribute(VLAN_ID, &id.to_ne_bytes());
                    });
                });
            switch(netlink, over, true).map_err(|errno| {
                NetError::Kernel("switching on what is below", short, io(errno))
            })?;
        }
        LinkKind::Bond {
            mode, monitor_ms, ..
        } => {
            request.nested(INFO, |info| {
                info.text(INFO_KIND, "bond").nested(INFO_DATA, |data| {
                    data.attribute(BOND_MODE, &[mode.number()])
                        .attribute(BOND_MONITOR_MS, &monitor_ms.to_ne_bytes());
                });
            });
        }
        LinkKind::Bridge { .. } => {
            request.nested(INFO, |info| {
                info.text(INFO_KIND, "bridge").nested(INFO_DATA, |data| {
                    data.attribute(BRIDGE_FORWARD_DELAY, &0_u32.to_ne_bytes())
                        .attribute(BRIDGE_STP, &0_u32.to_ne_bytes());
                });
            });
        }
    }
    match netlink.ask(request) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(NetError::Kernel("making", short, io(errno))),
    }
    let mut index = None;
    let listed = each(netlink, &mut |seen| {
        if seen.name == *name {
            index = Some(seen.index);
        }
    });
    listed
        .and_then(|()| index.ok_or(Errno::NODEV))
        .map_err(|errno| NetError::Kernel("finding what was made:", short, io(errno)))
}

/// Sets the largest packet of a link.
pub(super) fn set_mtu(
    netlink: &mut Netlink,
    index: u32,
    name: &LinkName,
    mtu: u32,
) -> Result<(), NetError> {
    change(netlink, index, |request| {
        request.attribute(MTU, &mtu.to_ne_bytes());
    })
    .map_err(|errno| NetError::Kernel("setting the MTU of", *name, io(errno)))
}

fn switch(netlink: &mut Netlink, index: u32, on: bool) -> Result<(), Errno> {
    let flags = if on { UP } else { 0 };
    netlink.ask(Request::new(NEW_LINK, 0, &fixed(index, flags, UP)))
}

fn change(netlink: &mut Netlink, index: u32, fill: impl FnOnce(&mut Request)) -> Result<(), Errno> {
    let mut request = Request::new(NEW_LINK, 0, &fixed(index, 0, 0));
    fill(&mut request);
    netlink.ask(request)
}

/// `struct ifinfomsg`.
fn fixed(index: u32, flags: u32, mask: u32) -> [u8; FIXED_BYTES] {
    let mut bytes = [0; FIXED_BYTES];
    let words = [0, index, flags, mask];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}
