// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the name of a server or of a node to an address.

use super::Work;
use crate::conf::Family;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::Path;

impl Work<'_> {
    /// The address of a name, of this family where one is asked for.
    pub(in crate::resolve) fn address_of(
        &self,
        name: &str,
        family: Option<Family>,
    ) -> Result<IpAddr, String> {
        let fits = |address: &IpAddr| family.is_none_or(|family| family.has(address));
        if let Ok(address) = name.parse::<IpAddr>() {
            return match family.filter(|family| !family.has(&address)) {
                Some(family) => Err(format!("{address} is no {family} address")),
                None => Ok(address),
            };
        }
        let hosts = self.host.text("/etc/hosts").unwrap_or_default();
        let known = hosts.lines().find_map(|line| {
            let line = line.split('#').next().unwrap_or(line);
            let mut words = line.split_ascii_whitespace();
            let address = words.next()?.parse().ok().filter(fits)?;
            words
                .any(|known| known.eq_ignore_ascii_case(name))
                .then_some(address)
        });
        if let Some(address) = known {
            return Ok(address);
        }
        let of_family = family.map_or(String::new(), |family| format!(" with an {family} address"));
        if self.host.root != Path::new("/") {
            return Err(format!(
                "{name} is not in the described host's /etc/hosts{of_family}; add it there, or write the address"
            ));
        }
        let found: Vec<IpAddr> = (name, 0)
            .to_socket_addrs()
            .map_err(|error| format!("the name {name} cannot be looked up: {error}"))?
            .map(|address| address.ip())
            .filter(fits)
            .collect();
        // The first to which there is a way.
        found
            .iter()
            .find(|address| self.host.network.route_to(**address).is_some())
            .or(found.first())
            .copied()
            .ok_or_else(|| format!("nothing is known of {name}{of_family}"))
    }
}
