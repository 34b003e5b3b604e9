// SPDX-License-Identifier: MIT OR Apache-2.0
//! A dump over a VLAN: what leaves the capture kernel's card carries the tag.

use std::fs;

use anyhow::{Context, Result, ensure};
use qemu_tests::crash::Crash;
use qemu_tests::machine::Machine;
use qemu_tests::peer::{Server as Peer, Setup};
use qemu_tests::proof::{self, Known};
use qemu_tests::setup::{self, Flavour};
use qemu_tests::vlan::Switch;

const ID: u16 = 42;

#[test]
fn a_dump_by_ssh_over_a_vlan_with_an_address_of_dhcp() -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let peer = Peer::start(&Setup::open_ssh())?;
    let switch = Switch::start(ID)?;
    let machine = Machine::new("vlan")?;
    let host = machine.host_root();
    fs::write(
        host.join("kdump.network"),
        format!(
            "link lan0 mac=52:54:00:6b:64:01 bus_path=pci-0000:00:08.0 modules=virtio_pci,virtio_net\n\
             link lan0.{ID} kind=vlan over=lan0 id={ID} mac=52:54:00:6b:64:01\n\
             address lan0.{ID} 10.0.2.15/24 dhcp\n\
             route default via 10.0.2.2 dev lan0.{ID}\n"
        ),
    )?;
    peer.make_known_to(&host)?;
    let path = peer.folder.join("root");
    let conf = format!(
        "ssh {}\npath {}\ndefault reboot\n",
        peer.target(),
        path.display()
    );
    let mut cycle = machine.cycle(&kernel, &conf)?;
    cycle.memory_mib = 512;
    cycle.first.crash = Crash::Sysrq;
    cycle.qemu = vec![
        "-netdev".into(),
        switch.netdev(),
        "-device".into(),
        "virtio-net-pci,netdev=guest,mac=52:54:00:6b:64:01,addr=0x8,romfile=".into(),
    ];
    let outcome = cycle.run()?;
    proof::only_attempt_saved(&outcome, Crash::Sysrq, &["network: ", "logged in as root"])?;
    outcome.line(&format!("network: lan0\\.{ID}"))?;
    let folder = fs::read_dir(&path)?.next().context("no dump came")??.path();
    let dump = folder.join("vmcore");
    proof::dump_is_good(&dump, &Known::of(&kernel), machine.work())?;
    let (tagged, other) = switch.frames();
    let needed = fs::metadata(&dump)?.len() / 1500;
    ensure!(
        tagged > needed,
        "{tagged} tagged frames cannot have carried the dump"
    );
    // The card itself may talk a little while it comes up; nothing of the dump goes beside the VLAN.
    ensure!(other < 20, "{other} frames without the tag");
    machine.clean_up()
}
