// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks a name server for an address.
//!
//! Source: RFC 1035 sections 4.1 and 7.3; RFC 3596 (AAAA).

use super::netlink::receive;
use crate::bytes::Fields;
use crate::clock::now;
use crate::io::io;
use collector::IoError;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use heapless::Vec;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, connect, ipproto, send, socket_with,
};

const PORT: u16 = 53;
/// What an answer over UDP has at most.
const ANSWER_BYTES: usize = 512;
const HEADER_BYTES: usize = 12;
/// How long one server has for one answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often all servers are asked.
const ROUNDS: u32 = 2;
/// The most steps from name to name that are followed.
const MAX_ALIASES: usize = 8;

/// Which family of addresses is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    const fn question(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }
}

/// The address of `name`, of the family of `like`.
///
/// # Errors
/// Nobody answered in time, or nobody knows it (`ENOENT`).
pub(super) fn resolve(
    name: &str,
    like: IpAddr,
    nameservers: &[IpAddr],
    until: Duration,
) -> Result<IpAddr, IoError> {
    let family = if like.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    let mut last = io(Errno::HOSTUNREACH);
    for round in 0..ROUNDS {
        for server in nameservers {
            let left = until.saturating_sub(now());
            if left.is_zero() {
                return Err(io(Errno::TIMEDOUT));
            }
            let number = now().subsec_nanos().wrapping_add(round);
            let number = u16::try_from(number & 0xffff).unwrap_or(0);
            match ask(*server, name, family, number, left.min(PATIENCE)) {
                Ok(address) => return Ok(address),
                Err(errno) => last = io(errno),
            }
        }
    }
    Err(last)
}

fn ask(
    server: IpAddr,
    name: &str,
    family: Family,
    number: u16,
    patience: Duration,
) -> Result<IpAddr, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let domain = if server.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(domain, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
    // Connected, the socket takes answers from this server only.
    connect(&socket, &SocketAddr::new(server, PORT))?;
    let question = question(name, family, number).ok_or(Errno::NAMETOOLONG)?;
    send(&socket, &question, SendFlags::empty())?;
    let end = now().saturating_add(patience);
    let mut buffer = [0; ANSWER_BYTES];
    loop {
        let left = end.saturating_sub(now());
        let len = receive(&socket, &mut buffer, left)?.ok_or(Errno::TIMEDOUT)?;
        match answer(buffer.get(..len).unwrap_or_default(), &question, family) {
            Some(result) => return result,
            // Not the answer to this question.
            None => continue,
        }
    }
}

/// A message with one question.
pub(super) fn question(
    name: &str,
    family: Family,
    number: u16,
) -> Option<Vec<u8, { HEADER_BYTES + 260 }>> {
    let mut message = Vec::new();
    message.extend_from_slice(&number.to_be_bytes()).ok()?;
    // The server is to do the work, and one question follows.
    message
        .extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0])
        .ok()?;
    for label in name.trim_end_matches('.').split('.') {
        let len = u8::try_from(label.len())
            .ok()
            .filter(|len| (1..=63).contains(len))?;
        message.push(len).ok()?;
        message.extend_from_slice(label.as_bytes()).ok()?;
    }
    message.push(0).ok()?;
    message
        .extend_from_slice(&family.question().to_be_bytes())
        .ok()?;
    message.extend_from_slice(&[0, 1]).ok()?;
    Some(message)
}

/// What a message answers to `question`; none when it is no answer to it.
pub(super) fn answer(
    message: &[u8],
    question: &[u8],
    family: Family,
) -> Option<Result<IpAddr, Errno>> {
    let header = Fields(message);
    let is_answer = message.len() >= HEADER_BYTES
        && message.get(..2) == question.get(..2)
        && header.u8(2) & 0x80 != 0
        && message.get(HEADER_BYTES..question.len()).map(lower)
            == question.get(HEADER_BYTES..).map(lower);
    if !is_answer {
        return None;
    }
    match header.u8(3) & 0xf {
        0 => {}
        // There is no such name.
        3 => return Some(Err(Errno::NOENT)),
        _ => return Some(Err(Errno::REMOTEIO)),
    }
    let mut at = question.len();
    let records = usize::from(header.be16(6)).min(MAX_ALIASES.saturating_mul(4));
    for _ in 0..records {
        let Some(fixed) = skip_name(message, at) else {
            break;
        };
        let kind = header.be16(fixed);
        let len = usize::from(header.be16(fixed.saturating_add(8)));
        let start = fixed.saturating_add(10);
        let Some(data) = message.get(start..start.saturating_add(len)) else {
            break;
        };
        // Aliases come with the record of the name that they lead to: the first address is the one.
        if kind == family.question() {
            let address = match family {
                Family::V4 => <[u8; 4]>::try_from(data)
                    .ok()
                    .map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes))),
                Family::V6 => <[u8; 16]>::try_from(data)
                    .ok()
                    .map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))),
            };
            if let Some(address) = address {
                return Some(Ok(address));
            }
        }
        at = start.saturating_add(len);
    }
    // The name is there and has no such address.
    Some(Err(Errno::NOENT))
}

/// Names compare without regard to case.
fn lower(bytes: &[u8]) -> Vec<u8, 280> {
    bytes.iter().map(u8::to_ascii_lowercase).take(280).collect()
}

/// Where what follows a name begins.
fn skip_name(message: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let len = *message.get(at)?;
        match len {
            0 => return at.checked_add(1),
            // The rest of the name is elsewhere.
            0xc0.. => return at.checked_add(2),
            1..=63 => at = at.checked_add(usize::from(len))?.checked_add(1)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
#[path = "../../tests/synthetic/dns.rs"]
mod synthetic;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Vec<u8, { HEADER_BYTES + 260 }> {
        question("nas.example", Family::V4, 0x1234).unwrap()
    }

    fn answered() -> std::vec::Vec<u8> {
        synthetic::answered(&asked())
    }

    #[test]
    fn an_answer_by_an_alias_is_found() {
        assert_eq!(
            answer(&answered(), &asked(), Family::V4),
            Some(Ok("10.0.2.2".parse().unwrap()))
        );
        // It has no address of the other family, and does not answer the question for it.
        assert_eq!(
            answer(&answered(), &asked(), Family::V6),
            Some(Err(Errno::NOENT))
        );
        let other = question("nas.example", Family::V6, 0x1234).unwrap();
        assert_eq!(answer(&answered(), &other, Family::V6), None);
    }

    #[test]
    fn refusals_and_the_answers_of_others_are_told_apart() {
        let mut message = answered();
        message[3] = 0x83;
        assert_eq!(
            answer(&message, &asked(), Family::V4),
            Some(Err(Errno::NOENT))
        );
        message[3] = 0x82;
        assert_eq!(
            answer(&message, &asked(), Family::V4),
            Some(Err(Errno::REMOTEIO))
        );
        message[0] = 0;
        assert_eq!(answer(&message, &asked(), Family::V4), None);
        assert_eq!(answer(&asked(), &asked(), Family::V4), None);
    }

    #[test]
    fn every_cut_and_every_flipped_byte_ends() {
        let good = answered();
        for len in 0..good.len() {
            let _ = answer(&good[..len], &asked(), Family::V4);
        }
        for position in 0..good.len() {
            for value in [0, 0x3f, 0xc0, 0xff] {
                let mut flipped = good.clone();
                flipped[position] = value;
                let _ = answer(&flipped, &asked(), Family::V4);
            }
        }
    }

    #[test]
    fn names_that_are_none_are_not_asked_for() {
        for name in ["", "a..b", &"x".repeat(64), &"x.".repeat(200)] {
            assert!(question(name, Family::V4, 0).is_none(), "{name}");
        }
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        drop(silent);
        let until = now().saturating_add(Duration::from_millis(300));
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        resolve("nas.example", local, &[local], until).unwrap_err();
        resolve("nas.example", local, &[], until).unwrap_err();
    }
}
