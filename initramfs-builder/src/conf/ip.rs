// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ip`: the capture kernel's address, where it is not the host's own, in the words of the kernel's `ip=`.
//!
//! ```text
//! ip dhcp
//! ip CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:DNS0:DNS1:NTP0
//! ip 10.0.2.15::10.0.2.2:255.255.255.0::eth0:none
//! ip [fd00::15]::[fd00::2]:64::eth0:none
//! ```
//! Everything behind the last word that counts may be left out. A netmask may be the length of the prefix, and IPv6
//! addresses stand in brackets, as dracut has them.
//!
//! Source: Linux 6.12 `Documentation/admin-guide/nfs/nfsroot.rst`, "ip="; dracut.cmdline(7).

use super::Directives;
use super::line::Line;
use config::network::{Assignment, Cidr};
use std::net::{IpAddr, Ipv4Addr};

const ACCEPTED: &str = "dhcp, auto6, or CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:DNS0:DNS1, as the kernel's `ip=`: \
     10.0.2.15::10.0.2.2:255.255.255.0::eth0:none";

/// What `ip` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Where the address comes from.
    pub assignment: Assignment,
    /// The router to everything else.
    pub gateway: Option<IpAddr>,
    /// The link; that of the host's route to the server where none is named.
    pub device: Option<String>,
    /// Who is asked for names; the host's own where nobody is named.
    pub nameservers: Vec<IpAddr>,
    /// A server's address, which the target lines have already.
    pub server: Option<IpAddr>,
}

impl Ip {
    /// Reads the value.
    fn parse(value: &str) -> Result<Self, String> {
        let fields = fields(value)?;
        if let [word] = fields.as_slice() {
            return match autoconf(word, None) {
                Some(assignment) => Ok(Self::only(assignment)),
                None => Err(format!("`{value}`: accepted are {ACCEPTED}")),
            };
        }
        if fields.len() > 10 {
            return Err(format!(
                "`{value}` has more than ten fields; accepted are {ACCEPTED}"
            ));
        }
        let field = |number: usize| fields.get(number).copied().unwrap_or("");
        let address = |number: usize, what: &str| match field(number) {
            "" => Ok(None),
            text => text
                .parse::<IpAddr>()
                .map(Some)
                .map_err(|_| format!("the {what} `{text}` is no address")),
        };
        let client = match address(0, "client")? {
            Some(client) => Some(Cidr {
                address: client,
                prefix: prefix(field(3), client)?,
            }),
            None => None,
        };
        let word = field(6);
        let assignment = autoconf(word, client).ok_or_else(|| match client {
            None if matches!(word, "" | "off" | "none" | "static") => {
                "without a client's address it needs dhcp or auto6 as the seventh field".to_owned()
            }
            _ => format!(
                "the way of configuration `{word}`: accepted are none and static (with a client's address), dhcp, on, any, auto6"
            ),
        })?;
        Ok(Self {
            gateway: address(2, "gateway")?,
            device: Some(field(5))
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            nameservers: [address(7, "name server")?, address(8, "name server")?]
                .into_iter()
                .flatten()
                .collect(),
            server: address(1, "server")?,
            ..Self::only(assignment)
        })
    }

    const fn only(assignment: Assignment) -> Self {
        Self {
            assignment,
            gateway: None,
            device: None,
            nameservers: Vec::new(),
            server: None,
        }
    }
}

/// The parts between colons, but for those within brackets, which are taken away.
fn fields(value: &str) -> Result<Vec<&str>, String> {
    let mut fields = Vec::new();
    let mut rest = value;
    loop {
        let (field, more) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (address, behind) = inner
                    .split_once(']')
                    .ok_or_else(|| format!("`{rest}`: a `[` without its `]`"))?;
                match behind.strip_prefix(':') {
                    Some(more) => (address, Some(more)),
                    None if behind.is_empty() => (address, None),
                    None => return Err(format!("`{behind}` behind a `]`: accepted is a colon")),
                }
            }
            None => match rest.split_once(':') {
                Some((field, more)) => (field, Some(more)),
                None => (rest, None),
            },
        };
        fields.push(field);
        match more {
            Some(more) => rest = more,
            None => return Ok(fields),
        }
    }
}

/// The word for how the address is found; with a client's address it is that one, unless a server is asked.
fn autoconf(word: &str, client: Option<Cidr>) -> Option<Assignment> {
    match (word, client) {
        ("dhcp" | "on" | "any" | "both", _) => Some(Assignment::Dhcp4),
        ("auto6", _) => Some(Assignment::Slaac),
        ("" | "off" | "none" | "static", Some(client)) => Some(Assignment::Static(client)),
        _ => None,
    }
}

/// The length of the prefix, from a netmask or a number.
fn prefix(text: &str, client: IpAddr) -> Result<u8, String> {
    let longest = if client.is_ipv4() { 32 } else { 128 };
    let wrong = || {
        format!(
            "the netmask `{text}` of {client}: accepted are 255.255.255.0 or the length of the prefix, at most {longest}"
        )
    };
    if let Ok(prefix) = text.parse::<u8>() {
        return Some(prefix)
            .filter(|&prefix| prefix <= longest)
            .ok_or_else(wrong);
    }
    let mask: Ipv4Addr = text.parse().map_err(|_| wrong())?;
    let ones = mask.to_bits().leading_ones();
    let is_whole = ones == mask.to_bits().count_ones() && client.is_ipv4();
    u8::try_from(ones)
        .ok()
        .filter(|_| is_whole)
        .ok_or_else(wrong)
}

pub(super) fn take_ip(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    let value = line.one(ACCEPTED)?;
    let ip = Ip::parse(value).map_err(|message| format!("`ip`: {message}"))?;
    line.once(&mut directives.ip, ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let ip = Ip::parse(
            "10.0.2.15:10.0.2.9:10.0.2.2:255.255.255.0:host:eth0:off:10.0.2.3:10.0.2.4:10.0.2.5",
        );
        assert_eq!(
            ip,
            Ok(Ip {
                assignment: Assignment::Static("10.0.2.15/24".parse().unwrap()),
                gateway: Some("10.0.2.2".parse().unwrap()),
                device: Some("eth0".to_owned()),
                nameservers: vec!["10.0.2.3".parse().unwrap(), "10.0.2.4".parse().unwrap()],
                server: Some("10.0.2.9".parse().unwrap()),
            })
        );
        for word in ["dhcp", "on", "any", "both", ":::::eth0:dhcp"] {
            let ip = Ip::parse(word).unwrap();
            assert_eq!(ip.assignment, Assignment::Dhcp4, "{word}");
            assert_eq!(
                ip.device.as_deref(),
                word.contains("eth0").then_some("eth0")
            );
        }
        let ip = Ip::parse("[fd00::15]::[fd00::2]:64::eth1:none").unwrap();
        assert_eq!(
            ip.assignment,
            Assignment::Static("fd00::15/64".parse().unwrap())
        );
        assert_eq!(ip.gateway, Some("fd00::2".parse().unwrap()));
        assert_eq!(ip.device.as_deref(), Some("eth1"));
        assert_eq!(Ip::parse("auto6").unwrap().assignment, Assignment::Slaac);
        // What is left out at the end.
        let ip = Ip::parse("10.0.2.15:::16").unwrap();
        assert_eq!(
            ip,
            Ip::only(Assignment::Static("10.0.2.15/16".parse().unwrap()))
        );
    }

    #[test]
    fn what_is_no_set_up_is_refused_with_what_would_be_one() {
        for (value, said) in [
            ("off", "accepted are dhcp"),
            ("10.0.2.15", "accepted are dhcp"),
            ("10.0.2.15:::", "the netmask `` of 10.0.2.15"),
            ("10.0.2.15:::255.0.255.0", "the netmask `255.0.255.0`"),
            ("10.0.2.15:::33", "at most 32"),
            ("[fd00::1]:::255.255.0.0", "at most 128"),
            ("here:::24", "the client `here` is no address"),
            ("10.0.2.15::there:24", "the gateway `there`"),
            ("10.0.2.15:::24:::bootp", "the way of configuration `bootp`"),
            (":::::eth0", "needs dhcp or auto6"),
            (":::::eth0:none", "needs dhcp or auto6"),
            ("[fd00::1", "a `[` without its `]`"),
            ("[fd00::1]x", "accepted is a colon"),
            ("dhcp::::::::::", "more than ten fields"),
        ] {
            let error = Ip::parse(value).unwrap_err();
            assert!(error.contains(said), "{value}: {error}");
        }
    }
}
