// SPDX-License-Identifier: MIT OR Apache-2.0
//! fence_kdump: tells the other nodes of a cluster that this one is dumping and not merely gone, so that they wait before
//! they take its power away.
//!
//! One process for each network that leads to nodes, beside everything else and until the machine ends: the dump waits for
//! none of them, and none of them waits for the dump. A node is told at the address that it had when the image was built,
//! at once when the network is up; its name is asked for again afterwards.

use crate::clock;
use crate::log;
use crate::reach::Reach;
use crate::supervise::{self, DONE, Watched};
use crate::sys;
use crate::turn::Turn;
use crate::vmcore::error;
use config::fence::{MAX_NODES, Node, Sending};
use config::network::NetworkSpec;
use config::record::{MAX_NETWORKS, Record};
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use heapless::Vec;
use rustix::event::poll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sendto, socket_with};
use targets::net::{self, Network};

/// Tells the nodes of one network of a record, until each got its messages.
pub type Teller = fn(&Record<'_>, usize);

/// One message: two numbers in the sender's byte order, the magic one and the version.
///
/// Source: fence-agents 4.12 `agents/kdump/message.h`.
const MESSAGE: [u8; 8] = {
    let [a, b, c, d] = 0x1B30_2A40_u32.to_ne_bytes();
    let [e, f, g, h] = 1_u32.to_ne_bytes();
    [a, b, c, d, e, f, g, h]
};

/// How long name servers are asked for one node; the others wait for as long.
const NAME_PATIENCE: Duration = Duration::from_secs(2);

/// The processes that tell the nodes.
pub struct Tellers(Vec<Watched, MAX_NETWORKS>);

/// Starts to tell the nodes of the record.
pub fn start(record: &Record<'_>, reach: &Reach) -> Tellers {
    let mut tellers = Tellers(Vec::new());
    let fence = &record.fence;
    if fence.nodes.is_empty() {
        return tellers;
    }
    let Some(tell) = reach.teller() else {
        log!("fence_kdump: this init was built without the network; next: the nodes are not told");
        return tellers;
    };
    for number in 0..record.networks.len() {
        if !fence.nodes.iter().any(|node| node.network == number) {
            continue;
        }
        let started = sys::fork(|| {
            let _ = rustix::thread::set_name(c"kdump-fence");
            supervise::leave_group();
            supervise::set_oom_score(b"1000");
            tell(record, number);
            DONE
        });
        match started {
            // There is room for one of each network.
            Ok(pid) => drop(tellers.0.push(Watched::new(pid))),
            Err(errno) => log!(
                "fence_kdump: no process could be started: {}; next: the nodes are not told",
                error(errno)
            ),
        }
    }
    tellers
}

impl Tellers {
    /// Ends them: the machine's own init takes over, which must not find strangers among its processes.
    pub fn stop(&self) {
        for teller in &self.0 {
            teller.kill();
        }
    }
}

/// Brings up the network of this number, and tells its nodes.
pub fn tell(record: &Record<'_>, number: usize) {
    let Some(spec) = record.networks.get(number) else {
        return;
    };
    let nodes = record.fence.nodes.iter();
    let mut told = Told::new(
        record.fence.sending,
        nodes.filter(|node| node.network == number),
    );
    // The switch may swallow messages until the delay is over, but the nodes' patience ends early: they are told at once, and
    // only what comes afterwards counts.
    let counted_from_ms = clock::now_ms().saturating_add(u64::from(spec.delay_s) * 1000);
    let network = bring_up(record, spec);
    told.tell_all();
    if let Some(network) = network {
        told.ask_names(&network);
    }
    told.go_on(counted_from_ms);
}

fn bring_up(record: &Record<'_>, spec: &NetworkSpec<'_>) -> Option<Network> {
    let _turn = Turn::take();
    let spec = NetworkSpec {
        delay_s: 0,
        ..spec.clone()
    };
    let patience = Duration::from_secs(u64::from(record.deadlines.network_s));
    match net::bring_up(&spec, patience, &mut say) {
        Ok(network) => Some(network),
        Err(error) => {
            // Another process may get further with it.
            log!("fence_kdump: {error}; next: the nodes are told all the same");
            None
        }
    }
}

fn say(line: fmt::Arguments<'_>) {
    log!("fence_kdump: {line}");
}

/// One node, and how telling it went last.
struct Listener<'a> {
    node: Node<'a>,
    address: SocketAddr,
    last: Option<Result<(), Errno>>,
}

/// The nodes of one network.
struct Told<'a> {
    sending: Sending,
    listeners: Vec<Listener<'a>, MAX_NODES>,
    /// A socket for each family, made when it is needed.
    sockets: [Option<OwnedFd>; 2],
}

impl<'a> Told<'a> {
    fn new<'n>(sending: Sending, nodes: impl Iterator<Item = &'n Node<'a>>) -> Self
    where
        'a: 'n,
    {
        let listeners = nodes
            .map(|&node| Listener {
                node,
                address: SocketAddr::new(node.server.address, sending.port),
                last: None,
            })
            .collect();
        Self {
            sending,
            listeners,
            sockets: [None, None],
        }
    }

    /// Sends one message to each.
    fn tell_all(&mut self) {
        for listener in &mut self.listeners {
            listener.tell(&mut self.sockets, self.sending);
        }
    }

    /// Asks for the nodes' names; one that has moved is told at once.
    fn ask_names(&mut self, network: &Network) {
        for listener in &mut self.listeners {
            let address = network.address_of(&listener.node.server, NAME_PATIENCE, &mut say);
            if address != listener.address.ip() {
                listener.address.set_ip(address);
                listener.tell(&mut self.sockets, self.sending);
            }
        }
    }

    /// Sends the messages that are left; what was sent before `counted_from_ms` is none of those that were asked for.
    fn go_on(&mut self, counted_from_ms: u64) {
        let interval_ms = u64::from(self.sending.interval_s) * 1000;
        let mut sent_ms = clock::now_ms();
        let mut count = u32::from(sent_ms >= counted_from_ms);
        while self.sending.count == 0 || count < self.sending.count {
            let due_ms = sent_ms.saturating_add(interval_ms);
            loop {
                let left_ms = due_ms.saturating_sub(clock::now_ms());
                if left_ms == 0 {
                    break;
                }
                let _ = poll(&mut [], Some(&clock::timespec(left_ms)));
            }
            sent_ms = due_ms;
            self.tell_all();
            count = count.saturating_add(u32::from(sent_ms >= counted_from_ms));
        }
        log!("fence_kdump: {count} messages to each node, which is all");
    }
}

impl Listener<'_> {
    fn tell(&mut self, sockets: &mut [Option<OwnedFd>; 2], sending: Sending) {
        let result = send(sockets, self.address);
        if self.last != Some(result) {
            let (server, interval_s) = (&self.node.server, sending.interval_s);
            match result {
                Ok(()) => log!(
                    "fence_kdump: {server} is told at port {}, every {interval_s} s",
                    sending.port
                ),
                Err(errno) => log!(
                    "fence_kdump: telling {server}: {}; next: again in {interval_s} s",
                    error(errno)
                ),
            }
        }
        self.last = Some(result);
    }
}

fn send(sockets: &mut [Option<OwnedFd>; 2], address: SocketAddr) -> Result<(), Errno> {
    let [v4, v6] = sockets;
    let (slot, family) = match address.ip() {
        IpAddr::V4(_) => (v4, AddressFamily::INET),
        IpAddr::V6(_) => (v6, AddressFamily::INET6),
    };
    let socket = match slot {
        Some(socket) => socket,
        None => slot.insert(socket_with(
            family,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )?),
    };
    // Without a neighbour that answers, the call must not wait until there is room.
    sendto(socket, &MESSAGE, SendFlags::DONTWAIT, &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::network::Server;
    use std::net::UdpSocket;

    fn listening() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    fn told(address: SocketAddr, count: u32) -> Told<'static> {
        let node = Node {
            network: 0,
            server: Server {
                name: "127.0.0.1",
                address: address.ip(),
            },
        };
        let sending = Sending {
            port: address.port(),
            interval_s: 1,
            count,
        };
        Told::new(sending, [node].iter())
    }

    #[test]
    fn a_message_is_what_fence_kdump_expects() {
        let (socket, address) = listening();
        told(address, 1).tell_all();
        let mut message = [0; 64];
        let (length, _) = socket.recv_from(&mut message).unwrap();
        let words = [0x1B30_2A40_u32.to_ne_bytes(), 1_u32.to_ne_bytes()].concat();
        assert_eq!(message[..length], words);
    }

    /// How many messages came so far.
    fn received(socket: &UdpSocket) -> usize {
        socket.set_nonblocking(true).unwrap();
        let mut message = [0; 64];
        (0..9)
            .take_while(|_| socket.recv_from(&mut message).is_ok())
            .count()
    }

    #[test]
    fn as_many_are_sent_as_were_asked_for() {
        let (socket, address) = listening();
        let mut node = told(address, 2);
        node.tell_all();
        node.go_on(0);
        assert_eq!(received(&socket), 2);
    }

    #[test]
    fn what_may_have_been_swallowed_does_not_count() {
        let (socket, address) = listening();
        let mut node = told(address, 1);
        node.tell_all();
        node.go_on(clock::now_ms() + 500);
        assert_eq!(received(&socket), 2);
    }

    #[test]
    fn a_node_that_cannot_be_reached_keeps_nobody_from_being_told() {
        let (socket, address) = listening();
        let mut nodes = told(address, 1);
        // A number that is kept for the future: there is no way to it.
        let unreachable = Listener {
            node: nodes.listeners[0].node,
            address: "255.255.255.255:9".parse().unwrap(),
            last: None,
        };
        nodes.listeners.insert(0, unreachable).ok().unwrap();
        nodes.tell_all();
        assert_eq!(nodes.listeners[0].last, Some(Err(Errno::ACCESS)));
        assert_eq!(nodes.listeners[1].last, Some(Ok(())));
        assert!(socket.recv_from(&mut [0; 64]).is_ok());
    }
}
