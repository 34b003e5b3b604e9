// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way to a server: which links, addresses and routes of the host lead there, and what the capture kernel needs for them.

mod lines;
mod names;
#[cfg(test)]
mod tests;

use super::Work;
use crate::conf::Ip;
use crate::error::At;
use crate::host::network::{HostLink, HostLinkKind, HostRoute};
use crate::modules::closure::Want;
use config::NetworkSpec;
use config::network::{Assignment, Cidr};
use lines::Lines;
use std::net::IpAddr;

/// The most links on the way down; a bridge on a VLAN on a bond has three.
const MOST_LAYERS: u32 = 8;

/// A way to a server, in the lines of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The lines of [`NetworkSpec`].
    lines: String,
    /// How it was found, for the plan.
    pub how: String,
}

impl Way {
    /// As the record has it. The lines are our own, and every one of them is understood.
    #[must_use]
    pub fn spec(&self) -> NetworkSpec<'_> {
        NetworkSpec::parse(&self.lines).unwrap_or_default()
    }
}

/// A server, and what leads to it.
pub(super) struct Found {
    pub(super) address: IpAddr,
    /// Which of the plan's ways.
    pub(super) way: usize,
}

impl Work<'_> {
    /// Finds the server's address and the way to it.
    pub(super) fn way_to(&mut self, server: &str) -> Result<Found, String> {
        let address = self.address_of(server, None)?;
        self.way_over(self.directives.ifc.as_ref(), address)
    }

    /// Finds the way to an address, over the link `ifc` where the administrator names one.
    pub(super) fn way_over(
        &mut self,
        ifc: Option<&At<String>>,
        address: IpAddr,
    ) -> Result<Found, String> {
        if let Some(ip) = &self.directives.ip {
            return self.way_as_told(ip, address);
        }
        let network = &self.host.network;
        let route = match ifc {
            None => network.route_to(address).ok_or_else(|| {
                if network.links.is_empty() {
                    format!(
                        "nothing says how this machine reaches {address} (no kdump.network below {})",
                        self.host.root.display()
                    )
                } else {
                    format!("this machine has no route to {address}; bring the network up, then build again")
                }
            })?,
            Some(ifc) => network
                .routes
                .iter()
                .filter(|route| route.link == ifc.value && route.to.contains(address))
                .min_by_key(|route| (u8::MAX - route.to.prefix, route.metric))
                .ok_or_else(|| {
                    format!(
                        "`ifc` in line {} names {}, which has no route to {address}",
                        ifc.line, ifc.value
                    )
                })?,
        };
        let mut lines = Lines::default();
        let route = route.clone();
        self.link(&route.link, &mut lines, 0)?;
        self.addresses(&route, address, &mut lines)?;
        let how = match route.via {
            Some(via) => format!("{address} by {} through the router {via}", route.link),
            None => format!("{address} is a neighbour on {}", route.link),
        };
        self.add_way(address, lines, how)
    }

    /// The way that `ip` describes, over a link of the host.
    fn way_as_told(&mut self, ip: &At<Ip>, address: IpAddr) -> Result<Found, String> {
        let (line, ip) = (ip.line, &ip.value);
        let network = &self.host.network;
        let link = match (&ip.device, &self.directives.ifc) {
            (Some(device), _) => device.clone(),
            (None, Some(ifc)) => ifc.value.clone(),
            (None, None) => match network.route_to(address) {
                Some(route) => route.link.clone(),
                None => {
                    return Err(format!(
                        "`ip` in line {line} names no device, and this machine has no route to {address} that would tell; \
                         name one as the sixth field"
                    ));
                }
            },
        };
        if network.link(&link).is_none() {
            let links: Vec<&str> = network
                .links
                .iter()
                .map(|link| link.name.as_str())
                .collect();
            return Err(format!(
                "`ip` in line {line} needs the link {link}, which this machine does not have; it has {}",
                links.join(", ")
            ));
        }
        let mut lines = Lines::default();
        self.link(&link, &mut lines, 0)?;
        let (is_v4, is_neighbour) = match ip.assignment {
            Assignment::Static(own) => {
                lines.add(format_args!("address {link} {own}"));
                (own.address.is_ipv4(), own.contains(address))
            }
            Assignment::Dhcp4 => {
                lines.add(format_args!("address {link} dhcp4"));
                self.need_dhcp(&link);
                (true, true)
            }
            Assignment::Slaac => {
                lines.add(format_args!("address {link} slaac"));
                (false, true)
            }
        };
        if is_v4 != address.is_ipv4() {
            return Err(format!(
                "`ip` in line {line} makes an address of the other family than the server's, {address}"
            ));
        }
        match ip.gateway {
            Some(gateway) if gateway.is_ipv4() == is_v4 => {
                let all = if is_v4 { Cidr::ALL_V4 } else { Cidr::ALL_V6 };
                lines.add(format_args!("route {link} {all} {gateway}"));
            }
            Some(gateway) => {
                return Err(format!(
                    "`ip` in line {line}: the gateway {gateway} is of another family than the client's address"
                ));
            }
            None if !is_neighbour => {
                return Err(format!(
                    "`ip` in line {line} has no gateway, and {address} is outside of the client's network"
                ));
            }
            None => {}
        }
        if let Some(server) = ip.server.filter(|&server| server != address) {
            let warning = format!(
                "`ip` in line {line} names the server {server}, which nothing asks: the target lines say where the dump goes"
            );
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        let nameservers = if ip.nameservers.is_empty() {
            &self.host.network.nameservers
        } else {
            &ip.nameservers
        };
        lines.nameservers(nameservers);
        let how = format!("{address} by {link}, set up as `ip` in line {line} says");
        self.add_way(address, lines, how)
    }

    /// Takes a way into the plan, which may have it already.
    fn add_way(&mut self, address: IpAddr, mut lines: Lines, how: String) -> Result<Found, String> {
        if let Some(delay) = self.directives.link_delay_s {
            lines.add(format_args!("delay_s {}", delay.value));
        }
        let lines = lines.text;
        let way = Way { lines, how };
        if NetworkSpec::parse(&way.lines).is_none() {
            return Err(format!(
                "the way to {address} is longer than a record can have: {}",
                way.lines.trim_end().replace('\n', "; ")
            ));
        }
        let number = match self.ways.iter().position(|known| known.lines == way.lines) {
            Some(number) => number,
            None => {
                self.ways.push(way);
                self.ways.len() - 1
            }
        };
        Ok(Found {
            address,
            way: number,
        })
    }

    /// The link and what is below it, from below.
    fn link(&mut self, name: &str, lines: &mut Lines, layers: u32) -> Result<(), String> {
        if lines.made.iter().any(|made| made == name) {
            return Ok(());
        }
        let host = self.host;
        let link = host
            .network
            .link(name)
            .filter(|_| layers < MOST_LAYERS)
            .ok_or_else(|| format!("nothing is known of the link {name}"))?;
        let by = format!("network {name}");
        match &link.kind {
            HostLinkKind::Nic {
                made_with,
                bus_path,
                drivers,
            } => {
                let mac = made_with
                    .or(link.mac)
                    .ok_or_else(|| format!("{name} has no hardware address to know it by"))?;
                if drivers.is_empty() {
                    self.warnings.push(format!(
                        "no driver of {name} is known; if the capture kernel has it as a module, name it by `extra_modules`"
                    ));
                }
                for driver in drivers {
                    self.need(Want::Driver(driver.clone()), by.clone());
                }
                lines.add(format_args!(
                    "nic {name} {mac}{}{}",
                    if bus_path.is_some() { " " } else { "" },
                    bus_path.as_deref().unwrap_or("")
                ));
                lines.properties(link, Some(mac));
            }
            HostLinkKind::Vlan { over, id } => {
                self.link(over, lines, layers + 1)?;
                self.need(Want::Name("8021q".to_owned()), by);
                lines.add(format_args!("vlan {name} {over} {id}"));
                let below = host.network.link(over).and_then(|below| below.mac);
                lines.properties(link, below.or(link.mac));
            }
            HostLinkKind::Bond { mode, monitor_ms } => {
                let ports = self.ports(name, lines, layers)?;
                self.need(Want::Name("bonding".to_owned()), by);
                // Without looking at its links a bond does not notice that one is gone.
                let monitor_ms = if *monitor_ms == 0 { 100 } else { *monitor_ms };
                lines.add(format_args!("bond {name} {mode} {monitor_ms} {ports}"));
                lines.properties(link, None);
            }
            HostLinkKind::Bridge => {
                let ports = self.ports(name, lines, layers)?;
                self.need(Want::Name("bridge".to_owned()), by);
                lines.add(format_args!("bridge {name} {ports}"));
                lines.properties(link, None);
            }
            HostLinkKind::Other(kind) => {
                return Err(format!(
                    "the way leads through {name}, a link of the kind {kind}, which is not supported; accepted are network \
                     cards, VLANs, bonds and bridges"
                ));
            }
        }
        lines.made.push(name.to_owned());
        Ok(())
    }

    /// The ports of a bond or bridge that lead to a card; those of virtual machines are not there in the capture kernel.
    fn ports(&mut self, name: &str, lines: &mut Lines, layers: u32) -> Result<String, String> {
        let host = self.host;
        let ports: Vec<&HostLink> = host
            .network
            .links
            .iter()
            .filter(|port| port.master.as_deref() == Some(name))
            .filter(|port| !matches!(port.kind, HostLinkKind::Other(_)))
            .collect();
        if ports.is_empty() {
            return Err(format!(
                "{name} has no port that is a network card or leads to one"
            ));
        }
        for port in &ports {
            self.link(&port.name, lines, layers + 1)?;
        }
        Ok(ports
            .iter()
            .map(|port| port.name.as_str())
            .collect::<Vec<_>>()
            .join(" "))
    }

    fn addresses(
        &mut self,
        route: &HostRoute,
        server: IpAddr,
        lines: &mut Lines,
    ) -> Result<(), String> {
        let network = &self.host.network;
        let link = &route.link;
        let own: Vec<_> = network
            .addresses
            .iter()
            .filter(|address| {
                address.link == *link && address.cidr.address.is_ipv4() == server.is_ipv4()
            })
            .collect();
        if own.is_empty() {
            return Err(format!("{link} has no address of the server's family"));
        }
        let mut is_given = false;
        for address in own {
            if !address.is_given {
                lines.add(format_args!("address {link} {}", address.cidr));
            } else if !is_given {
                let how = if server.is_ipv4() { "dhcp4" } else { "slaac" };
                lines.add(format_args!("address {link} {how}"));
                is_given = true;
            }
        }
        // What the server is asked through, and what leads to routers and name servers; an address brings its own network.
        let is_own_network = |to: &Cidr| {
            network.addresses.iter().any(|address| {
                address.link == *link
                    && address.cidr.prefix == to.prefix
                    && to.contains(address.cidr.address)
            })
        };
        let is_default = |to: &Cidr| to.prefix == 0;
        for other in network
            .routes
            .iter()
            .filter(|other| other.link == *link && other.to.address.is_ipv4() == server.is_ipv4())
            .filter(|other| !is_own_network(&other.to))
            // A DHCP server or a router tells about itself.
            .filter(|other| !(is_given && is_default(&other.to)))
            .filter(|other| is_default(&other.to) || other.to.contains(server))
        {
            match other.via {
                Some(via) => lines.add(format_args!("route {link} {} {via}", other.to)),
                None => lines.add(format_args!("route {link} {}", other.to)),
            }
        }
        lines.nameservers(&network.nameservers);
        if is_given && server.is_ipv4() {
            self.need_dhcp(link);
        }
        Ok(())
    }

    /// DHCP speaks below IP, with what may be no part of the kernel.
    fn need_dhcp(&mut self, link: &str) {
        let by = format!("DHCP on {link}");
        self.need(Want::Name("af_packet".to_owned()), by);
    }
}
