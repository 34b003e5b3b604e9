// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way to a server: which links, addresses and routes of the host lead there, and what the capture kernel needs for them.

use super::Work;
use crate::conf::Ip;
use crate::error::At;
use crate::host::network::{HostLink, HostLinkKind, HostRoute};
use crate::modules::closure::Want;
use config::NetworkSpec;
use config::network::{Assignment, Cidr, MAX_NAMESERVERS, Mac};
use std::fmt::Write as _;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::Path;

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
        let address = self.address_of(server)?;
        if let Some(ip) = &self.directives.ip {
            return self.way_as_told(ip, address);
        }
        let network = &self.host.network;
        let route = match &self.directives.ifc {
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

    fn address_of(&self, server: &str) -> Result<IpAddr, String> {
        if let Ok(address) = server.parse() {
            return Ok(address);
        }
        let hosts = self.host.text("/etc/hosts").unwrap_or_default();
        let known = hosts.lines().find_map(|line| {
            let line = line.split('#').next().unwrap_or(line);
            let mut words = line.split_ascii_whitespace();
            let address: IpAddr = words.next()?.parse().ok()?;
            words
                .any(|name| name.eq_ignore_ascii_case(server))
                .then_some(address)
        });
        if let Some(address) = known {
            return Ok(address);
        }
        if self.host.root != Path::new("/") {
            return Err(format!(
                "{server} is not in the described host's /etc/hosts; add it there, or write the address"
            ));
        }
        let found: Vec<IpAddr> = (server, 0)
            .to_socket_addrs()
            .map_err(|error| format!("the name {server} cannot be looked up: {error}"))?
            .map(|address| address.ip())
            .collect();
        // The first to which there is a way.
        found
            .iter()
            .find(|address| self.host.network.route_to(**address).is_some())
            .or(found.first())
            .copied()
            .ok_or_else(|| format!("the name {server} has no address"))
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

/// Lines of the record, and which links they have.
#[derive(Default)]
struct Lines {
    text: String,
    made: Vec<String>,
}

impl Lines {
    fn add(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    /// As many as resolv.conf(5) takes.
    fn nameservers(&mut self, servers: &[IpAddr]) {
        for server in servers.iter().take(MAX_NAMESERVERS) {
            self.add(format_args!("nameserver {server}"));
        }
    }

    /// What the link has otherwise than by itself; `own` is the address that it would have.
    fn properties(&mut self, link: &HostLink, own: Option<Mac>) {
        if let Some(mac) = link.mac.filter(|&mac| Some(mac) != own) {
            self.add(format_args!("mac {} {mac}", link.name));
        }
        if let Some(mtu) = link.mtu.filter(|&mtu| mtu != 1500) {
            self.add(format_args!("mtu {} {mtu}", link.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::conf;
    use crate::host::tests::Tree;
    use crate::resolve::{Resolved, resolve};

    const NETWORK: &str = "\
link eth0 mac=52:54:00:00:00:01 bus_path=pci-0000:00:03.0 modules=virtio_pci,virtio_net
link eth1 mac=52:54:00:00:00:02 modules=e1000
link eth2 mac=52:54:00:00:00:03 modules=e1000 mtu=9000
link bond0 kind=bond mode=active-backup miimon=0 mac=52:54:00:00:00:01
port eth0 bond0
port eth1 bond0
link bond0.5 kind=vlan over=bond0 id=5 mac=52:54:00:00:00:01
link br0 kind=bridge mac=52:54:00:00:00:01
port bond0.5 br0
link vnet0 kind=tun
port vnet0 br0
link wg0 kind=wireguard
address br0 10.5.0.15/24
address eth2 10.0.2.15/24 dhcp
address eth2 fd00::15/64 slaac
address wg0 10.8.0.2/24
route 10.5.0.0/24 dev br0
route 10.6.0.0/16 via 10.5.0.1 dev br0
route default via 10.0.2.2 dev eth2
route fd00::/64 dev eth2
route 10.8.0.0/24 dev wg0
nameserver 10.0.2.3
";

    fn resolved(conf: &str) -> Result<Resolved, String> {
        let tree = Tree::new(&[
            ("kdump.network", NETWORK),
            ("kdump.devices", ""),
            (
                "etc/hosts",
                "127.0.0.1 localhost\n10.6.1.1 nas.example nas # old\n",
            ),
            (
                "proc/mounts",
                "10.0.2.2:/data /data nfs4 rw,relatime,vers=4.1,rsize=1048576,addr=10.0.2.2,clientaddr=10.9.9.9,_netdev,x-y 0 0\n\
                 [fd00::2]:/six /six nfs4 rw,port=20490 0 0\n",
            ),
        ]);
        let conf = format!("{conf}\ndefault reboot\n");
        let directives = conf::parse("kdump.conf", conf.as_bytes()).map_err(|e| e.to_string())?;
        resolve(&directives, &tree.host(), "6.1.0").map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn everything_below_the_route_comes_from_below() {
        let plan = resolved("nfs nas:/crash").unwrap();
        assert_eq!(
            plan.ways[0].lines,
            "nic eth0 52:54:00:00:00:01 pci-0000:00:03.0\n\
             nic eth1 52:54:00:00:00:02\n\
             bond bond0 active-backup 100 eth0 eth1\n\
             mac bond0 52:54:00:00:00:01\n\
             vlan bond0.5 bond0 5\n\
             bridge br0 bond0.5\n\
             mac br0 52:54:00:00:00:01\n\
             address br0 10.5.0.15/24\n\
             route br0 10.6.0.0/16 10.5.0.1\n\
             nameserver 10.0.2.3\n"
        );
        assert_eq!(plan.ways[0].spec().links.len(), 5);
        assert_eq!(
            plan.attempts[0].target().to_string(),
            "nfs nas (10.6.1.1):/crash, save path /var/crash"
        );
        let record = plan.record(&[]).unwrap().to_string();
        assert!(config::record::parse(&record).is_ok(), "{record}");
    }

    #[test]
    fn a_given_address_is_asked_for_again_and_its_routes_come_with_it() {
        let plan = resolved("nfs 10.0.2.2:/data\nlink_delay 7").unwrap();
        assert_eq!(
            plan.ways[0].lines,
            "nic eth2 52:54:00:00:00:03\n\
             mtu eth2 9000\n\
             address eth2 dhcp4\n\
             nameserver 10.0.2.3\n\
             delay_s 7\n"
        );
        assert_eq!(plan.deadlines.network_s, 127);
        let plan = resolved("nfs [fd00::2]:/data").unwrap();
        assert!(plan.ways[0].lines.contains("address eth2 slaac\n"));
    }

    #[test]
    fn the_hosts_own_mount_says_how_it_is_mounted() {
        let options = |conf: &str| {
            let plan = resolved(conf).unwrap();
            let config::TargetSpec::Nfs { mount_options, .. } = plan.attempts[0].target() else {
                panic!("{plan:?}");
            };
            mount_options.to_owned()
        };
        assert_eq!(options("nfs 10.0.2.2:/data"), "vers=4.1,rsize=1048576");
        assert_eq!(options("nfs4 10.0.2.2:/data"), "vers=4.1,rsize=1048576");
        assert_eq!(options("nfs4 10.0.2.2:/other"), "vers=4");
        assert_eq!(options("nfs 10.0.2.2:/other"), "");
        assert_eq!(options("nfs [fd00::2]:/six"), "port=20490");
    }

    #[test]
    fn two_targets_that_are_reached_alike_share_the_way() {
        let plan = resolved("nfs nas:/a\nnfs 10.6.9.9:/b\nnfs 10.0.2.2:/c").unwrap();
        assert_eq!(plan.ways.len(), 2);
        assert_eq!(plan.attempts[1].target().network(), Some(0));
        assert_eq!(plan.attempts[2].target().network(), Some(1));
    }

    #[test]
    fn ip_has_its_way_with_the_address_and_the_hosts_links_stay() {
        let plan = resolved("nfs nas:/crash\nip 10.7.0.9:10.6.1.2:10.7.0.1:16::br0:none:10.7.0.3")
            .unwrap();
        let lines = &plan.ways[0].lines;
        assert!(
            lines.ends_with(
                "bridge br0 bond0.5\n\
                 mac br0 52:54:00:00:00:01\n\
                 address br0 10.7.0.9/16\n\
                 route br0 0.0.0.0/0 10.7.0.1\n\
                 nameserver 10.7.0.3\n"
            ),
            "{lines}"
        );
        assert_eq!(
            plan.ways[0].how,
            "10.6.1.1 by br0, set up as `ip` in line 2 says"
        );
        assert!(
            plan.warnings
                .iter()
                .any(|warning| warning.contains("names the server 10.6.1.2")),
            "{:?}",
            plan.warnings
        );
        // The link that the host takes, or that of `ifc`.
        let plan = resolved("nfs nas:/crash\nip dhcp").unwrap();
        assert!(
            plan.ways[0]
                .lines
                .ends_with("address br0 dhcp4\nnameserver 10.0.2.3\n")
        );
        let plan = resolved("nfs nas:/crash\nip dhcp\nifc eth2").unwrap();
        assert!(plan.ways[0].lines.contains("address eth2 dhcp4\n"));
    }

    #[test]
    fn what_ip_cannot_mean_is_refused() {
        for (conf, said) in [
            (
                "nfs nas:/a\nip 10.6.0.9:::16::eth7",
                "the link eth7, which this machine does not have; it has eth0",
            ),
            (
                "nfs nas:/a\nip 10.7.0.9:::16::eth2",
                "has no gateway, and 10.6.1.1 is outside",
            ),
            (
                "nfs nas:/a\nip auto6",
                "of the other family than the server's",
            ),
            (
                "nfs nas:/a\nip 10.7.0.9::[fd00::1]:16::eth2",
                "gateway fd00::1 is of another family",
            ),
            ("nfs [fd99::1]:/a\nip auto6", "names no device"),
        ] {
            let error = resolved(conf).unwrap_err();
            assert!(error.contains(said), "{conf}: {error}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        for (conf, said) in [
            ("nfs 10.8.0.1:/a", "wg0, a link of the kind wireguard"),
            ("nfs [fd99::1]:/a", "no route to fd99::1"),
            (
                "nfs unheard.example:/a",
                "not in the described host's /etc/hosts",
            ),
            ("nfs nas:/a\nifc eth9", "names eth9, which has no route"),
            (
                "nfs nas:/a\nnfs 10.6.1.1:/a/",
                "which kdump.conf:1 names already",
            ),
        ] {
            let error = resolved(conf).unwrap_err();
            assert!(error.contains(said), "{conf}: {error}");
        }
    }
}
