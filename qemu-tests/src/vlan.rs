// SPDX-License-Identifier: MIT OR Apache-2.0
//! A switch with two ports: a guest's, where only frames with an 802.1Q tag count, and one without tags to QEMU's own
//! network. Which frames came with which tag is counted on the wire.
//!
//! ```text
//! guest's QEMU ─ datagrams ─▶ this, which takes the tag away ─ datagrams ─▶ QEMU without a machine: DHCP, 10.0.2.2
//! ```

use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::peer::Scratch;
use crate::setup;

/// The bytes of a frame in front of a tag: both hardware addresses.
const ADDRESSES: usize = 12;
/// The bytes of a tag: 802.1Q's own type and the number.
const TAG: usize = 4;
const TAG_TYPE: [u8; 2] = [0x81, 0x00];
/// How long a port waits before it looks whether the switch goes on.
const LOOK: Duration = Duration::from_millis(500);

/// What came from the guest.
#[derive(Debug, Default)]
struct Counts {
    tagged: AtomicU64,
    other: AtomicU64,
}

/// A switch that works until it is dropped.
pub struct Switch {
    folder: Scratch,
    router: Child,
    counts: Arc<Counts>,
    is_over: Arc<AtomicBool>,
    ports: Vec<JoinHandle<()>>,
}

impl Switch {
    /// A switch whose tagged port is on the VLAN `id`.
    ///
    /// # Errors
    /// The sockets cannot be made, or QEMU does not start.
    pub fn start(id: u16) -> Result<Self> {
        let folder = Scratch::new()?;
        let bind = |name: &str| -> Result<Arc<UnixDatagram>> {
            let socket = UnixDatagram::bind(folder.0.join(name)).context("making a port")?;
            socket.set_read_timeout(Some(LOOK))?;
            Ok(Arc::new(socket))
        };
        let (to_guest, to_router) = (bind("to-guest")?, bind("to-router")?);
        let router = setup::program("setpriv")?
            .args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"])
            .args([
                "-M",
                "none",
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
            ])
            .args(["-netdev", "user,id=user", "-netdev"])
            .arg(netdev(&folder, "router", "to-router"))
            .args(["-netdev", "hubport,hubid=1,id=left,netdev=user"])
            .args(["-netdev", "hubport,hubid=1,id=right,netdev=router"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting the QEMU that is the router")?;
        let counts = Arc::new(Counts::default());
        let is_over = Arc::new(AtomicBool::new(false));
        let mut switch = Self {
            folder,
            router,
            counts: Arc::clone(&counts),
            is_over,
            ports: Vec::new(),
        };
        switch.port(&to_guest, &to_router, "router", move |frame| {
            let plain = without_tag(frame, id);
            let count = if plain.is_some() {
                &counts.tagged
            } else {
                &counts.other
            };
            count.fetch_add(1, Ordering::Relaxed);
            plain
        });
        switch.port(&to_router, &to_guest, "guest", move |frame| {
            with_tag(frame, id)
        });
        Ok(switch)
    }

    /// Passes the frames of one port to the other, as `change` has them.
    fn port(
        &mut self,
        from: &Arc<UnixDatagram>,
        to: &Arc<UnixDatagram>,
        name: &str,
        change: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) {
        let (from, to) = (Arc::clone(from), Arc::clone(to));
        let (is_over, path) = (Arc::clone(&self.is_over), self.folder.0.join(name));
        self.ports.push(thread::spawn(move || {
            let mut frame = vec![0; 1 << 16];
            while !is_over.load(Ordering::Relaxed) {
                // Nothing came within the time of a look.
                let Ok(length) = from.recv(&mut frame) else {
                    continue;
                };
                if let Some(frame) = change(frame.get(..length).unwrap_or_default()) {
                    // A frame to a machine that is not there is lost, as on any wire.
                    let _ = to.send_to(&frame, &path);
                }
            }
        }));
    }

    /// QEMU's word for a guest's network `id` at the tagged port.
    #[must_use]
    pub fn netdev(&self) -> OsString {
        netdev(&self.folder, "guest", "to-guest")
    }

    /// How many frames came from the guest with the tag of the VLAN, and how many others.
    #[must_use]
    pub fn frames(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.counts.tagged), count(&self.counts.other))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.router.kill();
        let _ = self.router.wait();
        for port in self.ports.drain(..) {
            let _ = port.join();
        }
    }
}

fn netdev(folder: &Scratch, own: &str, other: &str) -> OsString {
    let folder = folder.0.display();
    format!(
        "dgram,id={own},local.type=unix,local.path={folder}/{own},remote.type=unix,remote.path={folder}/{other}"
    )
    .into()
}

/// The frame without its tag; none when it has no tag of this VLAN.
fn without_tag(frame: &[u8], id: u16) -> Option<Vec<u8>> {
    let (addresses, rest) = frame.split_at_checked(ADDRESSES)?;
    let (tag, rest) = rest.split_first_chunk::<TAG>()?;
    let [one, two, number @ ..] = *tag;
    // The upper four bits are the priority.
    ([one, two] == TAG_TYPE && u16::from_be_bytes(number) & 0xfff == id)
        .then(|| [addresses, rest].concat())
}

fn with_tag(frame: &[u8], id: u16) -> Option<Vec<u8>> {
    let (addresses, rest) = frame.split_at_checked(ADDRESSES)?;
    Some([addresses, &TAG_TYPE, &id.to_be_bytes(), rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_and_comes() {
        let frame: Vec<u8> = (0..60).collect();
        let tagged = with_tag(&frame, 42).expect("a frame");
        assert_eq!(tagged[12..16], [0x81, 0, 0, 42]);
        assert_eq!(without_tag(&tagged, 42), Some(frame.clone()));
        assert_eq!(without_tag(&tagged, 43), None);
        assert_eq!(without_tag(&frame, 42), None);
        assert_eq!(without_tag(&tagged[..15], 42), None);
    }
}
