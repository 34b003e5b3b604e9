// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's network card: one virtio card in QEMU's own network, where 10.0.2.2 is the host.

use crate::cycle::Cycle;
use crate::machine::Machine;
use crate::relay::Relay;
use anyhow::Result;
use std::fs;

/// What a described host says of it (`kdump.network`). The capture kernel calls the card by another name.
pub const NETWORK: &str = "\
link enp0s8 mac=52:54:00:6b:64:01 bus_path=pci-0000:00:08.0 modules=virtio_pci,virtio_net
address enp0s8 10.0.2.15/24
route default via 10.0.2.2 dev enp0s8
";

/// What QEMU calls the card's end of the wire, for `set_link`.
pub const CARD: &str = "net0";

/// The card itself, of the network `net0`.
pub const DEVICE: &str = "virtio-net-pci,netdev=net0,mac=52:54:00:6b:64:01,addr=0x8,romfile=";

/// Says to the described host that it has the card.
///
/// # Errors
/// The file cannot be written.
pub fn describe(machine: &Machine) -> Result<()> {
    Ok(fs::write(
        machine.host_root().join("kdump.network"),
        NETWORK,
    )?)
}

/// Gives the guest the card.
pub fn connect(cycle: &mut Cycle) {
    let words = ["-netdev", "user,id=net0", "-device", DEVICE];
    cycle.qemu.extend(words.map(Into::into));
}

/// Gives the guest the card behind a relay, through which every packet goes.
pub fn connect_through(cycle: &mut Cycle, relay: &Relay) {
    let words = [
        "-netdev".to_owned(),
        relay.netdev("net0", true),
        "-netdev".to_owned(),
        relay.netdev("far", false),
        "-netdev".to_owned(),
        "user,id=out".to_owned(),
        "-netdev".to_owned(),
        "hubport,hubid=1,id=hub0,netdev=far".to_owned(),
        "-netdev".to_owned(),
        "hubport,hubid=1,id=hub1,netdev=out".to_owned(),
        "-device".to_owned(),
        DEVICE.to_owned(),
    ];
    cycle.qemu.extend(words.map(Into::into));
}
