// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way to a server, as the builder found it on the host: links, addresses, routes, name servers.
//!
//! In the record it is a block of lines. Links come in the order to be made, those below first.
//! ```text
//! network
//!  nic eth0 52:54:00:12:34:56 pci-0000:00:03.0
//!  mtu eth0 9000
//!  vlan eth0.5 eth0 5
//!  bond bond0 active-backup 100 eth0 eth1
//!  bridge br0 bond0
//!  mac br0 52:54:00:12:34:56
//!  address br0 10.0.2.15/24
//!  address eth0.5 dhcp4
//!  route br0 0.0.0.0/0 10.0.2.2
//!  nameserver 10.0.2.3
//!  delay_s 5
//! ```

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;
use heapless::Vec;

/// The most links of one network.
pub const MAX_LINKS: usize = 8;
/// The most ports of one bond or bridge.
pub const MAX_PORTS: usize = 4;
/// The most addresses of one network.
pub const MAX_ADDRESSES: usize = 8;
/// The most routes of one network.
pub const MAX_ROUTES: usize = 16;
/// The most name servers; resolv.conf(5) has no more either.
pub const MAX_NAMESERVERS: usize = 3;

/// The way to a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSpec<'a> {
    /// The links in the order to be made.
    pub links: Vec<Link<'a>, MAX_LINKS>,
    /// Their addresses.
    pub addresses: Vec<Address<'a>, MAX_ADDRESSES>,
    /// The routes that no address brings by itself.
    pub routes: Vec<Route<'a>, MAX_ROUTES>,
    /// Who is asked for names.
    pub nameservers: Vec<IpAddr, MAX_NAMESERVERS>,
    /// How long to wait once the links are up, in seconds: `link_delay`.
    pub delay_s: u32,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    /// What the host calls it. A network card may have another name in the capture kernel.
    pub name: &'a str,
    /// What it is.
    pub kind: LinkKind<'a>,
    /// The hardware address that it is given, where that is not its own.
    pub mac: Option<Mac>,
    /// The largest packet, where it is not the driver's choice.
    pub mtu: Option<u32>,
}

/// What a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind<'a> {
    /// A network card, known by its own hardware address and by where it is attached.
    Nic {
        /// The address that the card was made with.
        mac: Mac,
        /// As udev's `ID_PATH`; empty where nobody could tell.
        bus_path: &'a str,
    },
    /// A VLAN (802.1Q) on another link.
    Vlan {
        /// The link below.
        over: &'a str,
        /// Its number.
        id: u16,
    },
    /// Several links as one.
    Bond {
        /// How they share the traffic, in the kernel's words: `active-backup`, `802.3ad`.
        mode: BondMode,
        /// How often the links are looked at, in milliseconds.
        monitor_ms: u32,
        /// The links below.
        ports: Vec<&'a str, MAX_PORTS>,
    },
    /// A bridge. It learns and forwards at once: nobody is there to make a loop, and waiting costs half a minute.
    Bridge {
        /// The links below.
        ports: Vec<&'a str, MAX_PORTS>,
    },
}

/// How the links of a bond share the traffic.
///
/// Source: Linux 6.12 `Documentation/networking/bonding.rst`, "mode".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BondMode(u8);

impl BondMode {
    const WORDS: [&'static str; 7] = [
        "balance-rr",
        "active-backup",
        "balance-xor",
        "broadcast",
        "802.3ad",
        "balance-tlb",
        "balance-alb",
    ];

    /// The kernel's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The mode of the kernel's number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        (usize::from(number) < Self::WORDS.len()).then_some(Self(number))
    }

    /// The mode of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        (0..)
            .zip(Self::WORDS)
            .find(|&(_, known)| known == word)
            .map(|(number, _)| Self(number))
    }
}

impl fmt::Display for BondMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::WORDS.get(usize::from(self.0)).unwrap_or(&"?"))
    }
}

/// A hardware address of Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 6];
        let mut digits = text.split(':');
        for byte in &mut bytes {
            let pair = digits.next().filter(|pair| pair.len() == 2).ok_or(())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ())?;
        }
        if digits.next().is_some() {
            return Err(());
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if position == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// The link.
    pub link: &'a str,
    /// Where the address comes from.
    pub how: Assignment,
}

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// It is this one.
    Static(Cidr),
    /// A DHCP server (IPv4) gives it.
    Dhcp4,
    /// The kernel makes it from what a router tells (IPv6).
    Slaac,
}

/// An address and how many of its bits name the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The address.
    pub address: IpAddr,
    /// The length of the prefix in bits.
    pub prefix: u8,
}

impl Cidr {
    /// Every IPv4 address.
    pub const ALL_V4: Self = Self {
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        prefix: 0,
    };
    /// Every IPv6 address.
    pub const ALL_V6: Self = Self {
        address: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        prefix: 0,
    };

    /// The network's own address: that of the prefix, and zeros behind it.
    #[must_use]
    pub fn network(&self) -> IpAddr {
        let rest = |bits: u32| bits.saturating_sub(u32::from(self.prefix));
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(rest(32)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(rest(128)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        }
    }

    /// The address belongs to the network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let prefix = self.prefix;
        address.is_ipv4() == self.address.is_ipv4()
            && Self { address, prefix }.network() == self.network()
    }
}

impl FromStr for Cidr {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) = text.split_once('/').ok_or(())?;
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse().map_err(|_| ())?;
        if prefix > longest {
            return Err(());
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// Through which link.
    pub link: &'a str,
    /// Where to.
    pub to: Cidr,
    /// Through which router; none for neighbours.
    pub via: Option<IpAddr>,
}

/// A server by name and by the address that the name had when the image was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server<'a> {
    /// As the administrator wrote it: a name or an address.
    pub name: &'a str,
    /// Its address when the image was built.
    pub address: IpAddr,
}

impl Server<'_> {
    /// The name is an address: nobody has to be asked for it.
    #[must_use]
    pub fn is_address(&self) -> bool {
        self.name.parse::<IpAddr>().is_ok()
    }
}

impl fmt::Display for Server<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if self.is_address() {
            Ok(())
        } else {
            write!(f, " ({})", self.address)
        }
    }
}

impl<'a> NetworkSpec<'a> {
    /// The link of this name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link<'a>> {
        self.links.iter().find(|link| link.name == name)
    }

    /// Reads lines as they stand in the block, indented or not; none when one of them makes no sense.
    #[must_use]
    pub fn parse(lines: &'a str) -> Option<Self> {
        let mut spec = Self::default();
        for line in lines.lines() {
            let (keyword, value) = line.trim_start().split_once(' ')?;
            spec.take_line(keyword, value)?;
        }
        Some(spec)
    }

    /// Takes one line of the block; none when it makes no sense here.
    pub(crate) fn take_line(&mut self, keyword: &str, value: &'a str) -> Option<()> {
        let mut words = value.split(' ');
        match keyword {
            "nic" | "vlan" | "bond" | "bridge" => {
                let name = words
                    .next()
                    .filter(|name| !name.is_empty() && self.link(name).is_none())?;
                let kind = match keyword {
                    "nic" => {
                        let mac = words.next()?.parse().ok()?;
                        let bus_path = words.next().unwrap_or("");
                        LinkKind::Nic { mac, bus_path }
                    }
                    "vlan" => {
                        let over = words.next().filter(|over| self.link(over).is_some())?;
                        let id = words.next()?.parse().ok()?;
                        LinkKind::Vlan { over, id }
                    }
                    "bond" => LinkKind::Bond {
                        mode: BondMode::from_word(words.next()?)?,
                        monitor_ms: words.next()?.parse().ok()?,
                        ports: self.ports(&mut words)?,
                    },
                    _ => LinkKind::Bridge {
                        ports: self.ports(&mut words)?,
                    },
                };
                let (mac, mtu) = (None, None);
                self.links
                    .push(Link {
                        name,
                        kind,
                        mac,
                        mtu,
                    })
                    .ok()?;
            }
            "mac" => {
                let link = self.known(words.next()?)?;
                link.mac = Some(words.next()?.parse().ok()?);
            }
            "mtu" => {
                let link = self.known(words.next()?)?;
                link.mtu = Some(words.next()?.parse().ok()?);
            }
            "address" => {
                let link = self.known(words.next()?)?.name;
                let how = match words.next()? {
                    "dhcp4" => Assignment::Dhcp4,
                    "slaac" => Assignment::Slaac,
                    cidr => Assignment::Static(cidr.parse().ok()?),
                };
                self.addresses.push(Address { link, how }).ok()?;
            }
            "route" => {
                let link = self.known(words.next()?)?.name;
                let to: Cidr = words.next()?.parse().ok()?;
                let via = match words.next() {
                    Some(via) => Some(via.parse().ok()?),
                    None => None,
                };
                if via.is_some_and(|via: IpAddr| via.is_ipv4() != to.address.is_ipv4()) {
                    return None;
                }
                self.routes.push(Route { link, to, via }).ok()?;
            }
            "nameserver" => self.nameservers.push(words.next()?.parse().ok()?).ok()?,
            "delay_s" => self.delay_s = words.next()?.parse().ok()?,
            _ => return None,
        }
        words.next().is_none().then_some(())
    }

    fn known(&mut self, name: &str) -> Option<&mut Link<'a>> {
        self.links.iter_mut().find(|link| link.name == name)
    }

    /// The rest of the words, all of them links that are there already.
    fn ports(&self, words: &mut core::str::Split<'a, char>) -> Option<Vec<&'a str, MAX_PORTS>> {
        let mut ports = Vec::new();
        for word in words {
            self.link(word)?;
            ports.push(word).ok()?;
        }
        (!ports.is_empty()).then_some(ports)
    }
}

impl fmt::Display for NetworkSpec<'_> {
    /// The lines of the block, without its first one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for link in &self.links {
            let name = link.name;
            match &link.kind {
                LinkKind::Nic { mac, bus_path: "" } => {
                    writeln!(f, " nic {name} {mac}")?;
                }
                LinkKind::Nic { mac, bus_path } => writeln!(f, " nic {name} {mac} {bus_path}")?,
                LinkKind::Vlan { over, id } => writeln!(f, " vlan {name} {over} {id}")?,
                LinkKind::Bond {
                    mode,
                    monitor_ms,
                    ports,
                } => {
                    write!(f, " bond {name} {mode} {monitor_ms}")?;
                    write_ports(f, ports)?;
                }
                LinkKind::Bridge { ports } => {
                    write!(f, " bridge {name}")?;
                    write_ports(f, ports)?;
                }
            }
            if let Some(mac) = link.mac {
                writeln!(f, " mac {name} {mac}")?;
            }
            if let Some(mtu) = link.mtu {
                writeln!(f, " mtu {name} {mtu}")?;
            }
        }
        for Address { link, how } in &self.addresses {
            match how {
                Assignment::Static(cidr) => writeln!(f, " address {link} {cidr}")?,
                Assignment::Dhcp4 => writeln!(f, " address {link} dhcp4")?,
                Assignment::Slaac => writeln!(f, " address {link} slaac")?,
            }
        }
        for Route { link, to, via } in &self.routes {
            match via {
                Some(via) => writeln!(f, " route {link} {to} {via}")?,
                None => writeln!(f, " route {link} {to}")?,
            }
        }
        for server in &self.nameservers {
            writeln!(f, " nameserver {server}")?;
        }
        if self.delay_s > 0 {
            writeln!(f, " delay_s {}", self.delay_s)?;
        }
        Ok(())
    }
}

fn write_ports(f: &mut fmt::Formatter<'_>, ports: &[&str]) -> fmt::Result {
    for port in ports {
        write!(f, " {port}")?;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = " nic eth0 52:54:00:12:34:56 pci-0000:00:03.0
 nic eth1 52:54:00:12:34:57
 mtu eth1 9000
 bond bond0 active-backup 100 eth0 eth1
 vlan bond0.5 bond0 5
 bridge br0 bond0.5
 mac br0 52:54:00:12:34:56
 address br0 10.0.2.15/24
 address br0 dhcp4
 address br0 slaac
 address br0 fd00::5/64
 route br0 0.0.0.0/0 10.0.2.2
 route br0 10.9.0.0/16
 nameserver 10.0.2.3
 nameserver fd00::3
 delay_s 5
";

    #[test]
    fn the_lines_come_back_as_they_were_written() {
        let spec = NetworkSpec::parse(LINES).unwrap();
        assert_eq!(spec.to_string(), LINES);
        assert_eq!(spec.link("bond0.5").unwrap().name, "bond0.5");
    }

    #[test]
    fn lines_that_make_no_sense_are_refused() {
        for wrong in [
            "nic eth0",
            "nic eth0 52:54:00:12:34",
            "nic eth0 52:54:00:12:34:56:78",
            "vlan eth0.5 eth0 5",
            "bond bond0 active-backup 100",
            "bond bond0 fast 100 lo",
            "address eth0 dhcp4",
            "route eth0 0.0.0.0/0",
            "nameserver here",
            "delay_s soon",
            "delay_s 5 6",
            "colour blue",
        ] {
            assert_eq!(NetworkSpec::parse(wrong), None, "{wrong}");
        }
        let with = |line: &str| format!(" nic e 52:54:00:12:34:56\n {line}");
        for wrong in [
            "nic e 52:54:00:12:34:56",
            "address e 10.0.0.1/33",
            "address e 10.0.0.1",
            "route e 0.0.0.0/0 fd00::1",
            "route e 10.0.0.0",
            "mtu x 1500",
            "vlan v e 70000",
        ] {
            assert_eq!(NetworkSpec::parse(&with(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn an_address_belongs_to_the_network_of_its_first_bits() {
        for (cidr, network, inside, outside) in [
            ("10.1.2.3/8", "10.0.0.0", "10.9.9.9", "11.0.0.0"),
            ("10.1.2.3/32", "10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("10.1.2.3/0", "0.0.0.0", "255.0.0.1", "::"),
            ("10.1.2.3/31", "10.1.2.2", "10.1.2.2", "10.1.2.4"),
            ("fd00:1:2::3/64", "fd00:1:2::", "fd00:1:2::9", "fd00:1:3::"),
            ("fd00::1/0", "::", "ff02::1", "0.0.0.0"),
            ("fd00::1/128", "fd00::1", "fd00::1", "fd00::"),
        ] {
            let cidr: Cidr = cidr.parse().unwrap();
            assert_eq!(cidr.network().to_string(), network, "{cidr}");
            assert!(cidr.contains(inside.parse().unwrap()), "{cidr}");
            assert!(!cidr.contains(outside.parse().unwrap()), "{cidr}");
        }
    }

    #[test]
    fn a_server_that_is_an_address_is_shown_once() {
        let address = "10.0.2.2".parse().unwrap();
        let server = |name| Server { name, address }.to_string();
        assert_eq!(server("10.0.2.2"), "10.0.2.2");
        assert_eq!(server("nas.example"), "nas.example (10.0.2.2)");
    }

    #[test]
    fn every_bond_mode_has_the_kernels_number() {
        let mode = BondMode::from_word("802.3ad").unwrap();
        assert_eq!((mode.number(), mode.to_string().as_str()), (4, "802.3ad"));
    }
}
