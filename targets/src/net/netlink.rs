// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests to the kernel's routing tables (rtnetlink), and its answers.
//!
//! Source: Linux 6.12 `Documentation/userspace-api/netlink/intro.rst`, `include/uapi/linux/netlink.h`; RFC 3549.

use crate::bytes::Fields;
use crate::clock::{now, timespec};
use core::time::Duration;
use heapless::Vec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

/// The longest request; a bond with its options has 150 bytes.
const REQUEST_BYTES: usize = 512;
/// What the kernel sends at once in a list. It makes its messages fit the reader's buffer.
const ANSWER_BYTES: usize = 16 << 10;
const HEADER_BYTES: usize = 16;
/// The kernel answers before the request's system call returns; this is for one that does not.
const ANSWER: Duration = Duration::from_secs(5);

const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
const FLAG_REQUEST: u16 = 0x1;
const FLAG_ACK: u16 = 0x4;
const FLAG_ROOT_AND_MATCH: u16 = 0x300;
/// Replace what is there.
pub(super) const FLAG_REPLACE: u16 = 0x100;
/// Fail when it is there.
pub(super) const FLAG_EXCL: u16 = 0x200;
/// Make it when it is not there.
pub(super) const FLAG_CREATE: u16 = 0x400;

/// Multicast groups: links, IPv4 and IPv6 addresses, IPv6 routes.
///
/// Source: `include/uapi/linux/rtnetlink.h`, `RTMGRP_`.
const GROUPS: u32 = 0x1 | 0x10 | 0x100 | 0x400;

/// A request in the making.
pub(super) struct Request {
    bytes: Vec<u8, REQUEST_BYTES>,
    fits: bool,
}

impl Request {
    /// A request of this type with the fixed part of its type.
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut request = Self {
            bytes: Vec::new(),
            fits: true,
        };
        // Its length and number come when it is sent.
        request.put(&[0; 4]);
        request.put(&kind.to_ne_bytes());
        request.put(&(flags | FLAG_REQUEST).to_ne_bytes());
        request.put(&[0; 8]);
        request.put(fixed);
        request.pad();
        request
    }

    /// Adds an attribute.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.nested(kind, |request| request.put(value))
    }

    /// Adds an attribute that is a text, with its NUL.
    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.nested(kind, |request| {
            request.put(value.as_bytes());
            request.put(&[0]);
        })
    }

    /// Adds an attribute that holds what `fill` adds.
    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.put(&[0; 2]);
        self.put(&kind.to_ne_bytes());
        fill(self);
        let len = self.bytes.len().saturating_sub(start);
        self.set(start, &u16::try_from(len).unwrap_or(u16::MAX).to_ne_bytes());
        self.pad();
        self
    }

    fn put(&mut self, bytes: &[u8]) {
        self.fits &= self.bytes.extend_from_slice(bytes).is_ok();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) && self.fits {
            self.put(&[0]);
        }
    }

    fn set(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(place) = self
            .bytes
            .get_mut(offset..)
            .and_then(|rest| rest.get_mut(..bytes.len()))
        {
            place.copy_from_slice(bytes);
        }
    }

    fn finish(mut self, flags: u16, sequence: u32) -> Result<Vec<u8, REQUEST_BYTES>, Errno> {
        if !self.fits {
            return Err(Errno::MSGSIZE);
        }
        let len = u32::try_from(self.bytes.len()).map_err(|_| Errno::MSGSIZE)?;
        let set_flags = u16::from_ne_bytes(Fields(&self.bytes).bytes(6)) | flags;
        self.set(0, &len.to_ne_bytes());
        self.set(6, &set_flags.to_ne_bytes());
        self.set(8, &sequence.to_ne_bytes());
        Ok(self.bytes)
    }
}

/// The way to the kernel.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens it.
    pub(super) fn open() -> Result<Self, Errno> {
        Ok(Self {
            socket: socket(0)?,
            sequence: 0,
        })
    }

    /// Makes a request and returns how it ended.
    pub(super) fn ask(&mut self, request: Request) -> Result<(), Errno> {
        self.talk(request, FLAG_ACK, &mut |_, _| {})
    }

    /// Asks for a list and shows `visit` the type and content of each entry.
    pub(super) fn list(
        &mut self,
        request: Request,
        visit: &mut dyn FnMut(u16, &[u8]),
    ) -> Result<(), Errno> {
        self.talk(request, FLAG_ROOT_AND_MATCH, visit)
    }

    fn talk(
        &mut self,
        request: Request,
        flags: u16,
        visit: &mut dyn FnMut(u16, &[u8]),
    ) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(flags, self.sequence)?;
        sendto(
            &self.socket,
            &bytes,
            SendFlags::empty(),
            &SocketAddrNetlink::new(0, 0),
        )?;
        let mut buffer = [0; ANSWER_BYTES];
        loop {
            let len = receive(&self.socket, &mut buffer, ANSWER)?.ok_or(Errno::TIMEDOUT)?;
            let mut result = None;
            each_message(buffer.get(..len).unwrap_or_default(), &mut |message| {
                if message.sequence != self.sequence || result.is_some() {
                    return;
                }
                match message.kind {
                    MESSAGE_DONE => result = Some(Ok(())),
                    MESSAGE_ERROR => {
                        let code = i32::from_ne_bytes(Fields(message.content).bytes(0));
                        result = Some(match code.checked_neg() {
                            Some(0) => Ok(()),
                            Some(code) => Err(Errno::from_raw_os_error(code)),
                            None => Err(Errno::PROTO),
                        });
                    }
                    kind => visit(kind, message.content),
                }
            });
            if let Some(result) = result {
                return result;
            }
        }
    }
}

/// Hears of changes to links and addresses.
pub(super) struct Changes(OwnedFd);

impl Changes {
    /// Listens from now on.
    pub(super) fn new() -> Result<Self, Errno> {
        socket(GROUPS).map(Self)
    }

    /// Returns when something changed, or after `longest`. What changed is for the next look to find out.
    pub(super) fn wait(&self, longest: Duration) {
        let mut buffer = [0; 512];
        let mut patience = longest;
        // All that have come are taken, as one look answers them all.
        while let Ok(Some(_)) = receive(&self.0, &mut buffer, patience) {
            patience = Duration::ZERO;
        }
    }
}

fn socket(groups: u32) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Without a number it is the first of netlink's protocols, NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// Waits for data on `socket` and takes it; none when the time is over.
pub(super) fn receive(
    socket: &OwnedFd,
    buffer: &mut [u8],
    patience: Duration,
) -> Result<Option<usize>, Errno> {
    let end = now().saturating_add(patience);
    loop {
        match recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((len, _)) => return Ok(Some(len)),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {}
            Err(errno) => return Err(errno),
        }
        let left = end.saturating_sub(now());
        if left.is_zero() {
            return Ok(None);
        }
        let timeout = timespec(left);
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

pub(super) struct Message<'a> {
    pub(super) kind: u16,
    sequence: u32,
    pub(super) content: &'a [u8],
}

pub(super) fn each_message<'a>(mut bytes: &'a [u8], visit: &mut dyn FnMut(Message<'a>)) {
    loop {
        let header = Fields(bytes);
        let len = usize::try_from(u32::from_ne_bytes(header.bytes(0))).unwrap_or(usize::MAX);
        let Some(content) = bytes.get(HEADER_BYTES..len) else {
            return;
        };
        visit(Message {
            kind: u16::from_ne_bytes(header.bytes(4)),
            sequence: u32::from_ne_bytes(header.bytes(8)),
            content,
        });
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// The attributes behind the fixed part of a message: type and value of each.
pub(super) fn attributes(content: &[u8], fixed_bytes: usize) -> impl Iterator<Item = (u16, &[u8])> {
    /// The upper bits say how to read the value.
    const KIND: u16 = 0x3fff;
    let mut rest = content.get(fixed_bytes..).unwrap_or_default();
    core::iter::from_fn(move || {
        let header = Fields(rest);
        let len = usize::from(u16::from_ne_bytes(header.bytes(0)));
        let value = rest.get(4..len)?;
        let kind = u16::from_ne_bytes(header.bytes(2)) & KIND;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_nest_and_are_padded() {
        let mut request = Request::new(16, FLAG_CREATE, &[0; 16]);
        request.text(3, "v").nested(18, |info| {
            info.text(1, "vlan").nested(2, |data| {
                data.attribute(1, &5_u16.to_ne_bytes());
            });
        });
        let bytes = request.finish(FLAG_ACK, 7).unwrap();
        let mut seen = 0;
        each_message(&bytes, &mut |message| {
            assert_eq!((message.kind, message.sequence), (16, 7));
            let list: std::vec::Vec<_> = attributes(message.content, 16).collect();
            assert_eq!(list[0], (3, &b"v\0"[..]));
            let inner: std::vec::Vec<_> = attributes(list[1].1, 0).collect();
            assert_eq!((list[1].0, inner[0]), (18, (1, &b"vlan\0"[..])));
            let data: std::vec::Vec<_> = attributes(inner[1].1, 0).collect();
            assert_eq!(data, [(1, &5_u16.to_ne_bytes()[..])]);
            seen += 1;
        });
        assert_eq!(seen, 1);
        // Every cut and every flipped byte is a message or none.
        for len in 0..bytes.len() {
            each_message(&bytes[..len], &mut |_| panic!("cut at {len}"));
        }
        for position in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[position] ^= 0xff;
            each_message(&flipped, &mut |message| {
                assert!(attributes(message.content, 16).count() < 100);
            });
        }
    }

    #[test]
    fn a_request_that_is_too_long_is_refused() {
        let mut request = Request::new(16, 0, &[]);
        request.attribute(1, &[0; REQUEST_BYTES]);
        assert_eq!(request.finish(0, 1), Err(Errno::MSGSIZE));
    }

    #[test]
    fn the_kernel_lists_its_links_and_refuses_what_is_not_there() {
        let mut netlink = Netlink::open().unwrap();
        let mut count = 0;
        netlink
            .list(Request::new(18, 0, &[0; 16]), &mut |kind, _| {
                assert_eq!(kind, 16);
                count += 1;
            })
            .unwrap();
        assert!(count >= 1);
        let mut request = Request::new(16, 0, &[0; 16]);
        request.text(3, "no-such-link");
        let error = netlink.ask(request).unwrap_err();
        assert!(matches!(error, Errno::NODEV | Errno::PERM), "{error:?}");
    }
}
