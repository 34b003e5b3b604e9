// SPDX-License-Identifier: MIT OR Apache-2.0
//! An address from a DHCP server (IPv4).
//!
//! The link has no address yet, and servers may answer to the one that they offer: packets are sent and received whole,
//! below the kernel's own IP. A lease is asked for again each time; it need not be kept, as a dump takes less than the
//! half of any lease, and a server that takes it back sooner has the machine's own lease to think of.
//!
//! Source: RFC 2131, RFC 2132, RFC 3442 (routes), RFC 768, RFC 791.

use super::NetError;
use super::link::Seen;
use super::netlink::receive;
use crate::bytes::Fields;
use crate::clock::now;
use crate::io::io;
use crate::sys::{PacketAddress, packet_socket};
use config::network::{Cidr, MAX_NAMESERVERS, Mac};
use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use heapless::Vec;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{SendFlags, sendto};

const PACKET_BYTES: usize = 1500;
const IP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
/// The fixed part of a message; the options' magic number follows.
const FIXED_BYTES: usize = 236;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// The shortest message that every relay passes on.
const SHORTEST_BYTES: usize = 300;
/// How many routes of a server are taken.
const MAX_ROUTES: usize = 8;

/// The pauses between tries grow up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

mod option {
    pub(super) const PAD: u8 = 0;
    pub(super) const MASK: u8 = 1;
    pub(super) const ROUTER: u8 = 3;
    pub(super) const NAMESERVER: u8 = 6;
    pub(super) const MTU: u8 = 26;
    pub(super) const WANTED: u8 = 50;
    pub(super) const LEASE: u8 = 51;
    pub(super) const OVERLOAD: u8 = 52;
    pub(super) const MESSAGE: u8 = 53;
    pub(super) const SERVER: u8 = 54;
    pub(super) const PARAMETERS: u8 = 55;
    pub(super) const ROUTES: u8 = 121;
    pub(super) const END: u8 = 255;
}

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// What a server gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) address: Cidr,
    pub(super) server: Ipv4Addr,
    pub(super) seconds: u32,
    pub(super) routes: Vec<(Cidr, Option<Ipv4Addr>), MAX_ROUTES>,
    pub(super) nameservers: Vec<Ipv4Addr, MAX_NAMESERVERS>,
    pub(super) mtu: Option<u16>,
}

/// Asks for an address until a server gives one.
pub(super) fn lease(link: &Seen, until: Duration) -> Result<Lease, NetError> {
    let failed = |errno| NetError::Kernel("asking for an address (DHCP) on", link.name, io(errno));
    let mac = link.mac.ok_or(NetError::NoSuchLink(link.name))?;
    let socket = packet_socket(link.index).map_err(failed)?;
    let start = now();
    // Ours among the answers to others: the clock is as good as a random number here, the hardware address decides.
    let number = start.subsec_nanos() ^ u32::from_be_bytes(Fields(&mac.0).bytes(2));
    let mut client = Client {
        socket,
        index: link.index,
        mac,
        number,
        start,
    };
    let mut pause = Duration::from_secs(1);
    let mut was_refused = false;
    loop {
        let next = now().saturating_add(pause).min(until);
        client.send(DISCOVER, None).map_err(failed)?;
        if let Some(Answer::Offer(offer)) = client.receive(OFFER, None, next).map_err(failed)? {
            client.send(REQUEST, Some(&offer)).map_err(failed)?;
            match client
                .receive(
                    ACK,
                    Some(offer.server),
                    next.max(now().saturating_add(pause)).min(until),
                )
                .map_err(failed)?
            {
                Some(Answer::Ack(lease)) => return Ok(lease),
                Some(Answer::Nak) => was_refused = true,
                Some(Answer::Offer(_)) | None => {}
            }
        } else {
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
        if now() >= until {
            return Err(NetError::NoLease(link.name, was_refused));
        }
    }
}

struct Client {
    socket: OwnedFd,
    index: u32,
    mac: Mac,
    number: u32,
    start: Duration,
}

enum Answer {
    Offer(Lease),
    Ack(Lease),
    Nak,
}

impl Client {
    fn send(&self, message: u8, offer: Option<&Lease>) -> Result<(), Errno> {
        let seconds = now().saturating_sub(self.start).as_secs();
        let packet = self
            .packet(message, offer, u16::try_from(seconds).unwrap_or(u16::MAX))
            .ok_or(Errno::MSGSIZE)?;
        match sendto(
            &self.socket,
            &packet,
            SendFlags::empty(),
            &PacketAddress::broadcast(self.index),
        ) {
            // The link went down for a moment, or its queue is full: the next try may do.
            Ok(_) | Err(Errno::NETDOWN | Errno::NOBUFS | Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Waits for an answer to us of this type (or a refusal), from `server` if one is given. Others are passed over, and
    /// so are answers that come twice.
    fn receive(
        &mut self,
        wanted: u8,
        server: Option<Ipv4Addr>,
        until: Duration,
    ) -> Result<Option<Answer>, Errno> {
        let mut buffer = [0; PACKET_BYTES];
        loop {
            let left = until.saturating_sub(now());
            let len = match receive(&self.socket, &mut buffer, left) {
                Ok(Some(len)) => len,
                Ok(None) => return Ok(None),
                Err(Errno::NETDOWN) => continue,
                Err(errno) => return Err(errno),
            };
            let Some((message, lease)) = buffer
                .get(..len)
                .and_then(|packet| answer(packet, self.number, self.mac))
            else {
                continue;
            };
            if server.is_some_and(|server| server != lease.server) {
                continue;
            }
            match message {
                NAK if wanted == ACK => return Ok(Some(Answer::Nak)),
                ACK if wanted == ACK => return Ok(Some(Answer::Ack(lease))),
                OFFER if wanted == OFFER => return Ok(Some(Answer::Offer(lease))),
                _ => {}
            }
        }
    }

    fn packet(
        &self,
        message: u8,
        offer: Option<&Lease>,
        seconds: u16,
    ) -> Option<Vec<u8, { IP_BYTES + UDP_BYTES + 576 }>> {
        const ETHERNET: [u8; 3] = [1, 1, 6];
        let mut body: Vec<u8, 576> = Vec::new();
        body.extend_from_slice(&ETHERNET).ok()?;
        body.push(0).ok()?;
        body.extend_from_slice(&self.number.to_be_bytes()).ok()?;
        body.extend_from_slice(&seconds.to_be_bytes()).ok()?;
        // Every answer as a broadcast would do too, but some servers then answer to nobody.
        body.resize(28, 0).ok()?;
        body.extend_from_slice(&self.mac.0).ok()?;
        body.resize(FIXED_BYTES, 0).ok()?;
        body.extend_from_slice(&MAGIC).ok()?;
        body.extend_from_slice(&[option::MESSAGE, 1, message])
            .ok()?;
        if let Some(offer) = offer {
            if let IpAddr::V4(address) = offer.address.address {
                body.extend_from_slice(&[option::WANTED, 4]).ok()?;
                body.extend_from_slice(&address.octets()).ok()?;
            }
            body.extend_from_slice(&[option::SERVER, 4]).ok()?;
            body.extend_from_slice(&offer.server.octets()).ok()?;
        }
        body.extend_from_slice(&[
            option::PARAMETERS,
            6,
            option::MASK,
            option::ROUTES,
            option::ROUTER,
            option::NAMESERVER,
            option::MTU,
            option::LEASE,
        ])
        .ok()?;
        body.push(option::END).ok()?;
        while body.len() < SHORTEST_BYTES {
            body.push(option::PAD).ok()?;
        }
        let udp_len = u16::try_from(body.len().checked_add(UDP_BYTES)?).ok()?;
        let ip_len = udp_len.checked_add(u16::try_from(IP_BYTES).ok()?)?;
        let mut ip = [0_u8; IP_BYTES];
        let mut put = |offset: usize, bytes: &[u8]| {
            if let Some(place) = ip
                .get_mut(offset..)
                .and_then(|rest| rest.get_mut(..bytes.len()))
            {
                place.copy_from_slice(bytes);
            }
        };
        put(0, &[0x45, 0x10]);
        put(2, &ip_len.to_be_bytes());
        // Time to live, UDP, from nobody to everybody.
        put(8, &[64, 17]);
        put(16, &[255; 4]);
        let sum = checksum(&ip);
        if let Some(place) = ip.get_mut(10..12) {
            place.copy_from_slice(&sum.to_be_bytes());
        }
        let mut packet = Vec::new();
        packet.extend_from_slice(&ip).ok()?;
        packet.extend_from_slice(&CLIENT_PORT.to_be_bytes()).ok()?;
        packet.extend_from_slice(&SERVER_PORT.to_be_bytes()).ok()?;
        packet.extend_from_slice(&udp_len.to_be_bytes()).ok()?;
        // No checksum, which IPv4 allows.
        packet.extend_from_slice(&[0, 0]).ok()?;
        packet.extend_from_slice(&body).ok()?;
        Some(packet)
    }
}

/// The Internet checksum of a header.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum = sum.saturating_add(u32::from(u16::from_be_bytes(Fields(pair).bytes(0))));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff).saturating_add(sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// The message in an IP packet, if it is a server's answer to us. The UDP checksum is not looked at: where the card
/// makes it, a packet from the same machine has none yet.
pub(super) fn answer(packet: &[u8], number: u32, mac: Mac) -> Option<(u8, Lease)> {
    let ip = Fields(packet);
    let header_bytes = usize::from(ip.u8(0) & 0xf).checked_mul(4)?;
    let total = usize::from(ip.be16(2));
    let is_ours = ip.u8(0) >> 4 == 4
        && header_bytes >= IP_BYTES
        && ip.u8(9) == 17
        // No part of a larger packet.
        && ip.be16(6) & 0x3fff == 0;
    let udp = packet.get(header_bytes..total)?;
    let ports = Fields(udp);
    if !is_ours || ports.be16(0) != SERVER_PORT || ports.be16(2) != CLIENT_PORT {
        return None;
    }
    let body = udp.get(UDP_BYTES..usize::from(ports.be16(4)))?;
    let fixed = Fields(body);
    let is_answer = body.len() >= FIXED_BYTES
        && fixed.u8(0) == 2
        && fixed.bytes(4) == number.to_be_bytes()
        && fixed.has(28, &mac.0)
        && fixed.has(FIXED_BYTES, &MAGIC);
    if !is_answer {
        return None;
    }
    let mut options = Options::default();
    options.take(body.get(FIXED_BYTES.checked_add(MAGIC.len())?..)?);
    // The fields for names may hold options as well.
    if options.overload & 1 != 0 {
        options.take(body.get(108..FIXED_BYTES)?);
    }
    if options.overload & 2 != 0 {
        options.take(body.get(44..108)?);
    }
    options.finish(Ipv4Addr::from(fixed.bytes::<4>(16)))
}

#[derive(Default)]
struct Options {
    message: Option<u8>,
    server: Option<Ipv4Addr>,
    mask: Option<u32>,
    seconds: u32,
    overload: u8,
    router: Option<Ipv4Addr>,
    routes: Vec<(Cidr, Option<Ipv4Addr>), MAX_ROUTES>,
    nameservers: Vec<Ipv4Addr, MAX_NAMESERVERS>,
    mtu: Option<u16>,
}

impl Options {
    /// Takes a list of options up to its end; what is cut is left out.
    fn take(&mut self, mut bytes: &[u8]) {
        loop {
            match bytes {
                [option::PAD, rest @ ..] => bytes = rest,
                [] | [option::END, ..] => return,
                [kind, len, rest @ ..] => {
                    let Some((value, behind)) = rest.split_at_checked(usize::from(*len)) else {
                        return;
                    };
                    self.take_one(*kind, value);
                    bytes = behind;
                }
                [_] => return,
            }
        }
    }

    fn take_one(&mut self, kind: u8, value: &[u8]) {
        let field = Fields(value);
        let address = || value.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes));
        match kind {
            option::MESSAGE => self.message = value.first().copied(),
            option::SERVER => self.server = address(),
            option::MASK => self.mask = address().map(u32::from),
            option::LEASE => self.seconds = u32::from_be_bytes(field.bytes(0)),
            option::OVERLOAD => self.overload = field.u8(0),
            option::ROUTER => self.router = address(),
            option::MTU if value.len() == 2 => self.mtu = Some(field.be16(0)),
            option::NAMESERVER => {
                for server in value.chunks_exact(4).filter_map(<[u8]>::first_chunk::<4>) {
                    // Three are as many as anybody asks.
                    let _ = self.nameservers.push(Ipv4Addr::from(*server));
                }
            }
            option::ROUTES => self.take_routes(value),
            _ => {}
        }
    }

    /// A prefix length, as many bytes of the network as it needs, and a router, again and again.
    fn take_routes(&mut self, mut value: &[u8]) {
        while let Some((&prefix, rest)) = value.split_first() {
            let used = usize::from(prefix).div_ceil(8);
            let (Some(network), Some(router)) = (
                rest.get(..used),
                rest.get(used..).and_then(<[u8]>::first_chunk::<4>),
            ) else {
                return;
            };
            let mut octets = [0; 4];
            for (place, byte) in octets.iter_mut().zip(network) {
                *place = *byte;
            }
            if prefix <= 32 {
                let router = Ipv4Addr::from(*router);
                let to = Cidr {
                    address: IpAddr::V4(Ipv4Addr::from(octets)),
                    prefix,
                };
                let _ = self
                    .routes
                    .push((to, (!router.is_unspecified()).then_some(router)));
            }
            value = rest.get(used.saturating_add(4)..).unwrap_or_default();
        }
    }

    fn finish(mut self, address: Ipv4Addr) -> Option<(u8, Lease)> {
        let message = self.message?;
        let server = self.server?;
        if message != NAK && address.is_unspecified() {
            return None;
        }
        // A server that gives routes means them in place of the router.
        if self.routes.is_empty()
            && let Some(router) = self.router
        {
            let _ = self.routes.push((Cidr::ALL_V4, Some(router)));
        }
        let prefix = self.mask.map_or(32, u32::leading_ones);
        Some((
            message,
            Lease {
                address: Cidr {
                    address: IpAddr::V4(address),
                    prefix: u8::try_from(prefix).unwrap_or(32),
                },
                server,
                seconds: self.seconds,
                routes: self.routes,
                nameservers: self.nameservers,
                // RFC 791's smallest; less is a mistake.
                mtu: self.mtu.filter(|&mtu| mtu >= 68),
            },
        ))
    }
}

#[cfg(test)]
#[path = "../../tests/synthetic/dhcp.rs"]
mod synthetic;

#[cfg(test)]
mod tests {
    use super::*;

    use super::synthetic::{MAC as MAC_BYTES, NUMBER, OFFERED, packet};

    const MAC: Mac = Mac(MAC_BYTES);

    #[test]
    fn an_offer_is_read_with_everything_that_counts() {
        let (message, lease) = answer(&packet(OFFERED, &[]), NUMBER, MAC).unwrap();
        assert_eq!(message, OFFER);
        assert_eq!(lease.address.to_string(), "10.0.2.15/24");
        assert_eq!(lease.server, Ipv4Addr::new(10, 0, 2, 2));
        assert_eq!(lease.seconds, 86400);
        assert_eq!(lease.mtu, Some(1500));
        assert_eq!(
            lease.routes.as_slice(),
            [(Cidr::ALL_V4, Some(Ipv4Addr::new(10, 0, 2, 2)))]
        );
        assert_eq!(lease.nameservers.len(), 2);
    }

    #[test]
    fn routes_of_the_server_come_in_place_of_its_router() {
        let mut options = std::vec![121, 14, 24, 192, 168, 5, 0, 0, 0, 0, 0, 10, 0, 2, 9, 9];
        options.extend_from_slice(OFFERED);
        let (_, lease) = answer(&packet(&options, &[]), NUMBER, MAC).unwrap();
        let routes: std::vec::Vec<_> = lease
            .routes
            .iter()
            .map(|(to, via)| (to.to_string(), via.map(|via| via.to_string())))
            .collect();
        assert_eq!(
            routes,
            [
                ("192.168.5.0/24".to_owned(), None),
                ("0.0.0.0/0".to_owned(), Some("10.0.2.9".to_owned()))
            ]
        );
    }

    #[test]
    fn options_may_go_on_in_the_field_for_a_file_name() {
        let mut options = std::vec![52, 1, 1];
        options.extend_from_slice(&OFFERED[..14]);
        let (_, lease) = answer(&packet(&options, &OFFERED[11..]), NUMBER, MAC).unwrap();
        assert_eq!((lease.address.prefix, lease.seconds), (24, 86400));
    }

    #[test]
    fn what_is_for_others_is_passed_over() {
        let good = packet(OFFERED, &[]);
        assert!(answer(&good, NUMBER + 1, MAC).is_none());
        assert!(answer(&good, NUMBER, Mac([1; 6])).is_none());
        for (position, value) in [
            (0, 0x65),
            (9, 6),
            (20, 1),
            (23, 67),
            (28, 1),
            (264, 0),
            (6, 0x20),
        ] {
            let mut other = good.clone();
            other[position] = value;
            assert!(answer(&other, NUMBER, MAC).is_none(), "{position}");
        }
    }

    #[test]
    fn answers_that_come_twice_and_those_of_other_servers_are_passed_over() {
        let flags = rustix::net::SocketFlags::empty();
        let (socket, server) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::DGRAM,
            flags,
            None,
        )
        .unwrap();
        let mut client = Client {
            socket,
            index: 2,
            mac: MAC,
            number: NUMBER,
            start: now(),
        };
        let say = |message: u8, from: u8| {
            let mut options = OFFERED.to_vec();
            options[2] = message;
            options[9] = from;
            rustix::net::send(&server, &packet(&options, &[]), SendFlags::empty()).unwrap();
        };
        let until = now().saturating_add(Duration::from_millis(50));
        let ours = Some(Ipv4Addr::new(10, 0, 2, 2));
        for (message, from) in [(OFFER, 2), (OFFER, 2), (OFFER, 3), (NAK, 3), (ACK, 3)] {
            say(message, from);
        }
        say(ACK, 2);
        let offer = client.receive(OFFER, None, until).unwrap();
        assert!(matches!(offer, Some(Answer::Offer(offer)) if Some(offer.server) == ours));
        let ack = client.receive(ACK, ours, until).unwrap();
        assert!(matches!(ack, Some(Answer::Ack(lease)) if Some(lease.server) == ours));
        say(OFFER, 2);
        assert!(client.receive(ACK, ours, until).unwrap().is_none());
        say(NAK, 2);
        let nak = client.receive(ACK, ours, until).unwrap();
        assert!(matches!(nak, Some(Answer::Nak)));
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_an_answer_or_none() {
        let mut good = packet(OFFERED, &[52, 1, 3]);
        for len in 0..good.len() {
            assert!(answer(&good[..len], NUMBER, MAC).is_none(), "{len}");
        }
        for position in 0..good.len() {
            for value in [0, 0x7f, 0xff] {
                let kept = std::mem::replace(&mut good[position], value);
                let _ = answer(&good, NUMBER, MAC);
                good[position] = kept;
            }
        }
    }

    #[test]
    fn a_request_is_one_packet_with_a_right_header() {
        let client = Client {
            socket: rustix::fs::open(
                "/dev/null",
                rustix::fs::OFlags::RDONLY,
                rustix::fs::Mode::empty(),
            )
            .unwrap(),
            index: 1,
            mac: MAC,
            number: NUMBER,
            start: Duration::ZERO,
        };
        let (_, offer) = answer(&packet(OFFERED, &[]), NUMBER, MAC).unwrap();
        let sent = client.packet(REQUEST, Some(&offer), 3).unwrap();
        assert_eq!(checksum(&sent[..20]), 0);
        assert_eq!(
            usize::from(u16::from_be_bytes([sent[2], sent[3]])),
            sent.len()
        );
        let options = &sent[28 + 240..];
        assert_eq!(
            &options[..15],
            [53, 1, 3, 50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2]
        );
    }
}
