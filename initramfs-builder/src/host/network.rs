// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's links, addresses, routes and name servers.
//!
//! On the machine itself the kernel tells. For another machine they stand in a file `kdump.network` in its root:
//! ```text
//! link eth0 mac=52:54:00:12:34:56 bus_path=pci-0000:00:03.0 modules=virtio_pci,virtio_net mtu=1500
//! link eth0.5 kind=vlan over=eth0 id=5
//! link bond0 kind=bond mode=active-backup miimon=100 mac=52:54:00:12:34:56
//! link br0 kind=bridge
//! port eth1 bond0
//! address eth0 10.0.2.15/24 dhcp
//! address br0 fd00::15/64
//! route default via 10.0.2.2 dev eth0 metric 100
//! route 10.9.0.0/16 dev eth0
//! nameserver 10.0.2.3
//! ```
//! `dhcp` and `slaac` behind an address say that a server or a router gave it. Behind a card may stand its drivers, a line each
//! ([`super::pairs`]), instead of `modules=`; `made_with=` is the address that a card was made with, where it has another one now.

use super::Host;
use super::devices::Driver;
use super::pairs;
use super::sysfs::driver_chain;
use crate::error::{Mistake, Mistakes};
use config::network::{BondMode, Cidr, Mac};
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use targets::bus_path;
use targets::device::Roots;
use targets::net::inventory::{Fact, survey};

/// What is known of the host's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The links.
    pub links: Vec<HostLink>,
    /// Their addresses.
    pub addresses: Vec<HostAddress>,
    /// The routes of the main table.
    pub routes: Vec<HostRoute>,
    /// Who is asked for names.
    pub nameservers: Vec<IpAddr>,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLink {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: HostLinkKind,
    /// The address that it has now.
    pub mac: Option<Mac>,
    /// Its largest packet.
    pub mtu: Option<u32>,
    /// The bond or bridge that it belongs to.
    pub master: Option<String>,
}

/// What a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostLinkKind {
    /// A network card.
    Nic {
        /// The address that it was made with.
        made_with: Option<Mac>,
        /// Where it is attached.
        bus_path: Option<String>,
        /// Its drivers, from the bus on.
        drivers: Vec<Driver>,
    },
    /// A VLAN.
    Vlan {
        /// The link below.
        over: String,
        /// Its number.
        id: u16,
    },
    /// A bond.
    Bond {
        /// How the links share the traffic.
        mode: BondMode,
        /// How often they are looked at, in milliseconds.
        monitor_ms: u32,
    },
    /// A bridge.
    Bridge,
    /// Something else, in the kernel's word: `tun`, `veth`, `team`.
    Other(String),
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The link.
    pub link: String,
    /// The address.
    pub cidr: Cidr,
    /// A DHCP server or a router gave it.
    pub is_given: bool,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoute {
    /// Where to.
    pub to: Cidr,
    /// Through which router.
    pub via: Option<IpAddr>,
    /// Through which link.
    pub link: String,
    /// Of two to the same place, the lower one is taken.
    pub metric: u32,
}

impl Network {
    /// The link of this name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&HostLink> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The route that the kernel would take to `address`.
    #[must_use]
    pub fn route_to(&self, address: IpAddr) -> Option<&HostRoute> {
        self.routes
            .iter()
            .filter(|route| route.to.contains(address))
            .min_by_key(|route| (u8::MAX - route.to.prefix, route.metric))
    }
}

/// Reads what is known of the host's network.
///
/// # Errors
/// The description has mistakes.
pub(super) fn read(host: &Host) -> Result<Network, Mistakes> {
    let mut network = match host.text("/kdump.network") {
        Some(text) => parse(&text)?,
        None if host.root == Path::new("/") => live(host),
        None => Network::default(),
    };
    if network.nameservers.is_empty() {
        network.nameservers = nameservers(host);
    }
    Ok(network)
}

/// The name servers of resolv.conf(5); those behind the local one of systemd-resolved, which will not be there.
fn nameservers(host: &Host) -> Vec<IpAddr> {
    ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]
        .into_iter()
        .filter_map(|path| host.text(path))
        .map(|text| {
            text.lines()
                .filter_map(|line| line.trim().strip_prefix("nameserver"))
                .filter_map(|value| value.trim().parse::<IpAddr>().ok())
                .filter(|address| !address.is_loopback())
                .collect::<Vec<_>>()
        })
        .find(|servers| !servers.is_empty())
        .unwrap_or_default()
}

/// The running system's own.
fn live(host: &Host) -> Network {
    let mut network = Network::default();
    let (mut facts, mut names) = (Vec::new(), Vec::new());
    let surveyed = survey(&mut |fact| {
        if let Fact::Link(link) = &fact {
            names.push((link.index, link.name.to_string()));
        }
        facts.push(fact);
    });
    // Without rtnetlink there is no network to speak of.
    if surveyed.is_err() {
        return network;
    }
    let name = |index: u32| {
        names
            .iter()
            .find(|(known, _)| *known == index)
            .map(|(_, name)| name.clone())
    };
    for fact in facts {
        match fact {
            Fact::Link(link) => {
                let own_name = link.name.to_string();
                let kind = match link.kind.to_string().as_str() {
                    "vlan" => HostLinkKind::Vlan {
                        over: link.over.and_then(name).unwrap_or_default(),
                        id: link.vlan_id,
                    },
                    "bond" => HostLinkKind::Bond {
                        mode: BondMode::from_number(link.bond_mode).unwrap_or_default(),
                        monitor_ms: link.bond_monitor_ms,
                    },
                    "bridge" => HostLinkKind::Bridge,
                    "" => nic(host, &own_name, link.made_with.or(link.mac)),
                    other => HostLinkKind::Other(other.to_owned()),
                };
                network.links.push(HostLink {
                    name: own_name,
                    kind,
                    mac: link.mac,
                    mtu: Some(link.mtu),
                    master: link.master.and_then(name),
                });
            }
            Fact::Address(address) if address.is_global => {
                if let Some(link) = name(address.index) {
                    network.addresses.push(HostAddress {
                        link,
                        cidr: address.cidr,
                        is_given: !address.is_permanent,
                    });
                }
            }
            Fact::Address(_) => {}
            Fact::Route(route) => {
                if let Some(link) = name(route.index) {
                    network.routes.push(HostRoute {
                        to: route.to,
                        via: route.via,
                        link,
                        metric: route.metric,
                    });
                }
            }
        }
    }
    network
}

fn nic(host: &Host, name: &str, made_with: Option<Mac>) -> HostLinkKind {
    let directory = host.canonical(&format!("/sys/class/net/{name}"));
    let bus_path = bus_path::of_network_card(&Roots::SYSTEM, name).map(|path| path.to_string());
    let drivers = driver_chain(host, &directory);
    if drivers.is_empty() && bus_path.is_none() {
        return HostLinkKind::Other("virtual".to_owned());
    }
    HostLinkKind::Nic {
        made_with,
        bus_path,
        drivers,
    }
}

fn parse(text: &str) -> Result<Network, Mistakes> {
    const FILE: &str = "kdump.network";
    let mut network = Network::default();
    let mut mistakes = Mistakes::default();
    for (number, line) in (1..).zip(text.lines()) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let taken = match words.as_slice() {
            [] => Ok(()),
            [comment, ..] if comment.starts_with('#') => Ok(()),
            ["driver", ..] => driver(&mut network, line),
            ["link", name, keys @ ..] => link(name, keys).map(|link| network.links.push(link)),
            ["port", name, master] => {
                match network.links.iter_mut().find(|link| link.name == *name) {
                    Some(link) => {
                        link.master = Some((*master).to_owned());
                        Ok(())
                    }
                    None => Err(format!("there is no link {name} in a line before")),
                }
            }
            ["address", link, cidr, rest @ ..] => {
                address(link, cidr, rest).map(|address| network.addresses.push(address))
            }
            ["route", to, rest @ ..] => route(to, rest).map(|route| network.routes.push(route)),
            ["nameserver", address] => {
                value(address, "an address").map(|address| network.nameservers.push(address))
            }
            [word, ..] => Err(format!(
                "`{word}` is unknown or lacks words; accepted are link, driver, port, address, route, \
                 nameserver"
            )),
        };
        if let Err(message) = taken {
            mistakes.0.push(Mistake {
                place: Some((FILE.to_owned(), number)),
                message,
            });
        }
    }
    if mistakes.0.is_empty() {
        Ok(network)
    } else {
        Err(mistakes)
    }
}

/// A driver of the card in the line before.
fn driver(network: &mut Network, line: &str) -> Result<(), String> {
    let found = pairs::driver(line.trim().trim_start_matches("driver"))?;
    match network.links.last_mut().map(|link| &mut link.kind) {
        Some(HostLinkKind::Nic { drivers, .. }) => {
            drivers.push(found);
            Ok(())
        }
        _ => Err("a driver without a card in a line before".to_owned()),
    }
}

/// `kdump.network` for a host's network: [`parse`] gives the same again.
///
/// # Errors
/// A value has a letter that no line can have.
pub(super) fn write(network: &Network) -> Result<String, Mistake> {
    let mut text = String::new();
    for link in &network.links {
        let mut line = format!("link {}", link.name);
        let mut put = |key, value: Option<&str>| pairs::push(&mut line, key, value);
        let mac = link.mac.map(|mac| mac.to_string());
        let mtu = link.mtu.map(|mtu| mtu.to_string());
        put("mac", mac.as_deref())?;
        put("mtu", mtu.as_deref())?;
        let mut own_drivers: &[Driver] = &[];
        match &link.kind {
            HostLinkKind::Nic {
                made_with,
                bus_path,
                drivers,
            } => {
                let made_with = made_with.filter(|_| *made_with != link.mac);
                put("made_with", made_with.map(|mac| mac.to_string()).as_deref())?;
                put("bus_path", bus_path.as_deref())?;
                own_drivers = drivers;
            }
            HostLinkKind::Vlan { over, id } => {
                put("kind", Some("vlan"))?;
                put("over", Some(over))?;
                put("id", Some(&id.to_string()))?;
            }
            HostLinkKind::Bond { mode, monitor_ms } => {
                put("kind", Some("bond"))?;
                put("mode", Some(&mode.to_string()))?;
                put("miimon", Some(&monitor_ms.to_string()))?;
            }
            HostLinkKind::Bridge => put("kind", Some("bridge"))?,
            HostLinkKind::Other(kind) => put("kind", Some(kind))?,
        }
        text.push_str(&line);
        text.push('\n');
        pairs::push_drivers(&mut text, own_drivers)?;
    }
    for link in &network.links {
        if let Some(master) = &link.master {
            text.push_str(&format!("port {} {master}\n", link.name));
        }
    }
    for address in &network.addresses {
        let given = if address.is_given { " dhcp" } else { "" };
        text.push_str(&format!(
            "address {} {}{given}\n",
            address.link, address.cidr
        ));
    }
    for route in &network.routes {
        text.push_str(&format!("route {}", route.to));
        if let Some(via) = route.via {
            text.push_str(&format!(" via {via}"));
        }
        text.push_str(&format!(" dev {} metric {}\n", route.link, route.metric));
    }
    for server in &network.nameservers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    Ok(text)
}

fn value<T: FromStr>(text: &str, accepted: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("`{text}`: accepted is {accepted}"))
}

fn link(name: &str, keys: &[&str]) -> Result<HostLink, String> {
    const KEYS: &str = "mac, made_with, bus_path, modules, mtu, kind, over, id, mode, miimon";
    let mut link = HostLink {
        name: name.to_owned(),
        kind: HostLinkKind::Bridge,
        mac: None,
        mtu: None,
        master: None,
    };
    let (mut kind, mut over, mut id) = ("nic", String::new(), 0);
    let (mut mode, mut monitor_ms) = (BondMode::default(), 0);
    let (mut bus_path, mut drivers) = (None, Vec::new());
    let mac = |text: &str| -> Result<Option<Mac>, String> {
        let mac = text.parse();
        mac.map(Some)
            .map_err(|()| format!("`{text}` is no hardware address"))
    };
    let mut made_with = None;
    for key in keys {
        let (key, text) = key
            .split_once('=')
            .ok_or_else(|| format!("`{key}` has no value; accepted are {KEYS}"))?;
        match key {
            "mac" => link.mac = mac(text)?,
            "made_with" => made_with = mac(text)?,
            "bus_path" => bus_path = Some(text.to_owned()),
            "modules" => {
                drivers = text
                    .split(',')
                    .map(|module| Driver {
                        module: Some(module.to_owned()),
                        at: name.to_owned(),
                        ..Driver::default()
                    })
                    .collect();
            }
            "mtu" => link.mtu = Some(value(text, "a number")?),
            "kind" => kind = text,
            "over" => text.clone_into(&mut over),
            "id" => id = value(text, "a number")?,
            "mode" => {
                mode = BondMode::from_word(text).ok_or_else(|| format!("no bond mode {text}"))?;
            }
            "miimon" => monitor_ms = value(text, "milliseconds")?,
            _ => return Err(format!("unknown key `{key}`; accepted are {KEYS}")),
        }
    }
    link.kind = match kind {
        "nic" => HostLinkKind::Nic {
            made_with: made_with.or(link.mac),
            bus_path,
            drivers,
        },
        "vlan" => HostLinkKind::Vlan { over, id },
        "bond" => HostLinkKind::Bond { mode, monitor_ms },
        "bridge" => HostLinkKind::Bridge,
        other => HostLinkKind::Other(other.to_owned()),
    };
    Ok(link)
}

fn address(link: &str, cidr: &str, rest: &[&str]) -> Result<HostAddress, String> {
    Ok(HostAddress {
        link: link.to_owned(),
        cidr: cidr
            .parse()
            .map_err(|()| format!("`{cidr}`: accepted is ADDRESS/PREFIX"))?,
        is_given: match rest {
            [] => false,
            ["dhcp" | "slaac"] => true,
            _ => return Err(format!("`{}`: accepted are dhcp, slaac", rest.join(" "))),
        },
    })
}

fn route(to: &str, rest: &[&str]) -> Result<HostRoute, String> {
    let (mut via, mut link, mut metric) = (None, None, 0);
    for pair in rest.chunks(2) {
        match pair {
            ["via", text] => via = Some(value::<IpAddr>(text, "an address")?),
            ["dev", text] => link = Some((*text).to_owned()),
            ["metric", text] => metric = value(text, "a number")?,
            _ => {
                return Err(format!(
                    "`{}`: accepted are via, dev, metric",
                    pair.join(" ")
                ));
            }
        }
    }
    let to = match (to, via) {
        ("default", Some(IpAddr::V6(_))) => Cidr::ALL_V6,
        ("default", _) => Cidr::ALL_V4,
        (to, _) => to
            .parse()
            .map_err(|()| format!("`{to}`: accepted are default and ADDRESS/PREFIX"))?,
    };
    Ok(HostRoute {
        to,
        via,
        link: link.ok_or("a route needs `dev LINK`")?,
        metric,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_and_the_nearest_route_taken() {
        let network = parse(
            "# c\nlink eth0 mac=52:54:00:12:34:56 modules=virtio_net mtu=9000\n\
             link bond0 kind=bond mode=802.3ad miimon=100\nport eth0 bond0\n\
             address bond0 10.0.2.15/24 dhcp\n\
             route default via 10.0.2.2 dev bond0 metric 100\n\
             route default via 10.0.2.9 dev bond0 metric 50\n\
             route 10.9.0.0/16 dev eth0\nnameserver 10.0.2.3\n",
        )
        .unwrap();
        assert_eq!(network.links[0].master.as_deref(), Some("bond0"));
        let via = |address: &str| {
            let route = network.route_to(address.parse().unwrap()).unwrap();
            (route.link.as_str(), route.via.map(|via| via.to_string()))
        };
        assert_eq!(via("10.9.1.1"), ("eth0", None));
        assert_eq!(via("8.8.8.8"), ("bond0", Some("10.0.2.9".to_owned())));
        assert!(network.route_to("fd00::1".parse().unwrap()).is_none());
        assert!(network.addresses[0].is_given);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = "link eth0 mac=52:54:00:12:34:56 mtu=9000 made_with=52:54:00:12:34:57 bus_path=pci-0000:00:03.0\n\
                    driver at=0000:00:03.0 name=virtio-pci module=virtio_pci modalias=pci:v00001AF4d00001000\n\
                    driver at=virtio0 modalias=virtio:d00000001v00001AF4\n\
                    link bond0 mac=52:54:00:12:34:56 mtu=9000 kind=bond mode=802.3ad miimon=100\n\
                    link bond0.5 kind=vlan over=bond0 id=5\n\
                    link br0 kind=bridge\nlink lo kind=virtual\n\
                    port eth0 bond0\n\
                    address bond0 10.0.2.15/24 dhcp\naddress br0 fd00::15/64\n\
                    route 0.0.0.0/0 via 10.0.2.2 dev bond0 metric 100\nroute ::/0 via fd00::1 dev br0 metric 0\n\
                    route 10.9.0.0/16 dev br0 metric 0\n\
                    nameserver 10.0.2.3\n";
        assert_eq!(write(&parse(text).unwrap()).unwrap(), text);
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, said) in [
            ("colour blue", "kdump.network:1: `colour` is unknown"),
            (
                "\nlink e mac=x",
                "kdump.network:2: `x` is no hardware address",
            ),
            ("port e b", "no link e"),
            ("driver at=x", "a driver without a card"),
            ("link e kind=bridge\ndriver at=x", "network:2: a driver"),
            ("link e\ndriver speed=9", "unknown key `speed`"),
            ("address e 10.0.0.1", "ADDRESS/PREFIX"),
            ("route default via 10.0.0.1", "dev LINK"),
            ("link e speed=9", "unknown key `speed`"),
        ] {
            let mistakes = parse(text).unwrap_err().to_string();
            assert!(mistakes.contains(said), "{mistakes}");
        }
    }
}
