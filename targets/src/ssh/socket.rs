// SPDX-License-Identifier: MIT OR Apache-2.0
//! A TCP connection.

use super::stream::{Ready, Stream, Want};
use crate::clock::{now, timespec};
use crate::io::io;
use collector::IoError;
use core::net::SocketAddr;
use core::time::Duration;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::{set_tcp_nodelay, socket_error};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send,
    socket_with,
};

/// A TCP connection that never waits by itself.
pub struct Socket(OwnedFd);

impl Socket {
    /// Connects to `address`, waiting at most for `patience`.
    ///
    /// # Errors
    /// What the kernel said; `ETIMEDOUT` when there was no answer in time.
    pub fn connect(address: SocketAddr, patience: Duration) -> Result<Self, IoError> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP)).map_err(io)?;
        match connect(&fd, &address) {
            Ok(()) => {}
            Err(Errno::INPROGRESS | Errno::INTR) => {
                if poll_for(&fd, PollFlags::OUT, patience)?.is_empty() {
                    return Err(io(Errno::TIMEDOUT));
                }
                socket_error(&fd).map_err(io)?.map_err(io)?;
            }
            Err(errno) => return Err(io(errno)),
        }
        // Messages are put together before they are sent; an answer must not wait for the next one.
        let _ = set_tcp_nodelay(&fd, true);
        Ok(Self(fd))
    }
}

/// Waits until one of `flags` holds; none of them when the time is over.
fn poll_for(fd: &OwnedFd, flags: PollFlags, patience: Duration) -> Result<PollFlags, IoError> {
    let end = now().saturating_add(patience);
    loop {
        let left = end.saturating_sub(now());
        let timeout = timespec(left);
        let mut fds = [PollFd::new(fd, flags)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => {
                return Ok(fds
                    .first()
                    .map_or(PollFlags::empty(), |fd: &PollFd<'_>| fd.revents()));
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(io(errno)),
        }
    }
}

impl Stream for Socket {
    fn read(&mut self, buf: &mut [u8]) -> Result<Option<usize>, IoError> {
        loop {
            match recv(&self.0, &mut *buf, RecvFlags::empty()) {
                Ok((len, _)) => return Ok(Some(len)),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(io(errno)),
            }
        }
    }

    fn write(&mut self, data: &[u8]) -> Result<Option<usize>, IoError> {
        loop {
            match send(&self.0, data, SendFlags::NOSIGNAL) {
                Ok(len) => return Ok(Some(len)),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(io(errno)),
            }
        }
    }

    fn wait(&mut self, want: Want, patience: Duration) -> Result<Ready, IoError> {
        let flags = match want {
            Want::Read => PollFlags::IN,
            Want::Write => PollFlags::OUT,
            Want::Both => PollFlags::IN | PollFlags::OUT,
        };
        let seen = poll_for(&self.0, flags, patience)?;
        // An error or the end shows when the bytes are asked for.
        let over = PollFlags::HUP | PollFlags::ERR;
        Ok(Ready {
            read: seen.intersects(PollFlags::IN | over),
            write: seen.intersects(PollFlags::OUT | over),
        })
    }
}
