// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's messages about devices that come and go, as udev hears them.

use crate::clock::{pause, timespec};
use core::time::Duration;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// The multicast group that the kernel itself sends to.
const KERNEL_GROUP: u32 = 1;

/// Hears of block devices.
pub(crate) struct Listener(Option<OwnedFd>);

impl Listener {
    /// Listens from now on. A kernel without sockets leaves a listener that only sleeps, so its caller polls.
    pub(crate) fn new() -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            flags,
            Some(KOBJECT_UEVENT),
        )
        .ok()
        .filter(|socket| bind(socket, &SocketAddrNetlink::new(0, KERNEL_GROUP)).is_ok());
        Self(socket)
    }

    /// Returns when something happened to a block device, or after `longest`.
    pub(crate) fn wait(&self, longest: Duration) {
        let Some(socket) = &self.0 else {
            // A signal shortens the wait, which costs one look more.
            pause(longest);
            return;
        };
        let mut fds = [PollFd::new(socket, PollFlags::IN)];
        if poll(&mut fds, Some(&timespec(longest))) != Ok(0) {
            // Whatever it was about: one look at sysfs costs less than telling the messages apart. All that have come
            // are taken, as one look answers them all.
            drain(socket);
        }
    }
}

fn drain(socket: &OwnedFd) {
    let mut message = [0; 512];
    loop {
        match recv(socket, &mut message, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Ok(_) | Err(Errno::INTR) => {}
            // Empty, or more came than the kernel kept: the look that follows sees everything.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_wait_without_events_ends_in_time() {
        let listener = Listener::new();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(30) {
            listener.wait(Duration::from_millis(10));
        }
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_kernel_without_sockets_leaves_a_wait_that_ends() {
        let start = Instant::now();
        Listener(None).wait(Duration::from_millis(10));
        assert!(start.elapsed() >= Duration::from_millis(9));
    }
}
