// SPDX-License-Identifier: MIT OR Apache-2.0
//! A wire that loses packets: two ends of QEMU's, between which we carry the packets, but for those that we lose.
//!
//! Source: QEMU 7.2 `qapi/net.json`, netdev `dgram`: one packet a datagram, here between sockets in the file system, which
//! network namespaces do not part.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::peer::Scratch;

/// No packet is larger, with every offload that virtio has.
const PACKET: usize = 70_000;
/// How long a packet is waited for before the end is looked for.
const LOOK: Duration = Duration::from_millis(200);

/// The wire; it ends when this is dropped.
pub struct Relay {
    folder: Scratch,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

/// What became of the packets.
#[derive(Default)]
struct Counts {
    is_over: AtomicBool,
    carried: AtomicU32,
    lost: AtomicU32,
}

impl Relay {
    /// A wire that loses so many of a hundred packets in each direction, in an order that only `seed` decides.
    ///
    /// # Errors
    /// The sockets cannot be made.
    pub fn losing(percent: u32, seed: u32) -> Result<Self> {
        let folder = Scratch::new()?;
        let counts = Arc::new(Counts::default());
        let bind = |name: &str| -> Result<UnixDatagram> {
            let socket = UnixDatagram::bind(folder.0.join(name))
                .with_context(|| format!("the wire's end {name}"))?;
            socket.set_read_timeout(Some(LOOK))?;
            Ok(socket)
        };
        let (near, far) = (bind("near")?, bind("far")?);
        let ends = [
            (near.try_clone()?, far.try_clone()?, "qemu-far"),
            (far, near, "qemu-near"),
        ];
        let threads = ends
            .into_iter()
            .zip(seed..)
            .map(|((from, to, name), seed)| {
                let (counts, to_path) = (Arc::clone(&counts), folder.0.join(name));
                thread::spawn(move || carry(&from, &to, &to_path, &counts, percent, seed))
            })
            .collect();
        Ok(Self {
            folder,
            counts,
            threads,
        })
    }

    /// QEMU's option for one end: the one at the card, or the other.
    pub(crate) fn netdev(&self, id: &str, is_near: bool) -> String {
        let end = if is_near { "near" } else { "far" };
        let path = |name: String| -> PathBuf { self.folder.0.join(name) };
        format!(
            "dgram,id={id},local.type=unix,local.path={},remote.type=unix,remote.path={}",
            path(format!("qemu-{end}")).display(),
            path(end.to_owned()).display()
        )
    }

    /// How many packets were carried and how many were lost so far.
    #[must_use]
    pub fn counts(&self) -> (u32, u32) {
        (
            self.counts.carried.load(Ordering::Relaxed),
            self.counts.lost.load(Ordering::Relaxed),
        )
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.counts.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let _ = fs::remove_dir_all(&self.folder.0);
    }
}

fn carry(
    from: &UnixDatagram,
    to: &UnixDatagram,
    to_path: &Path,
    counts: &Counts,
    percent: u32,
    seed: u32,
) {
    let mut packet = vec![0; PACKET];
    let mut state = u64::from(seed) + 1;
    while !counts.is_over.load(Ordering::Relaxed) {
        let Ok(length) = from.recv(&mut packet) else {
            continue;
        };
        // The constants are those of Knuth's MMIX.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        if (state >> 33) % 100 < u64::from(percent) {
            counts.lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        // Before QEMU is up and after its end nobody takes it.
        if to.send_to(&packet[..length], to_path).is_ok() {
            counts.carried.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_packets_are_lost_as_was_asked_for() {
        let relay = Relay::losing(10, 7).unwrap();
        let end = |name: &str| UnixDatagram::bind(relay.folder.0.join(name)).unwrap();
        let (near, far) = (end("qemu-near"), end("qemu-far"));
        far.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let reader = thread::spawn(move || {
            let mut buffer = [0; 16];
            let mut came = 0;
            while far.recv(&mut buffer).is_ok() {
                came += 1;
            }
            came
        });
        for number in 0_u32..1000 {
            near.send_to(&number.to_le_bytes(), relay.folder.0.join("near"))
                .unwrap();
        }
        let came = reader.join().unwrap();
        assert_eq!(relay.counts().0, came);
        assert!((850..950).contains(&came), "{came}");
    }
}
