// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dumps to a real NFS server, over the networks that a machine can have; and what happens when there is no card or no answer
//! to DHCP. Servers and wires that fail are in `faults.rs`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use qemu_tests::crash::Crash;
use qemu_tests::cycle::{Cycle, Outcome};
use qemu_tests::machine::{Content, DiskPlan, Machine};
use qemu_tests::proof::{self, Known};
use qemu_tests::saved::Saved;
use qemu_tests::server::{MOUNT_PORT, NFS_PORT, PSEUDO, Servers};
use qemu_tests::setup::{self, Flavour, Kernel};
use qemu_tests::vm::End;

/// The card's hardware address and place. The capture kernel calls it eth0, the described host another name.
const MAC: &str = "52:54:00:6b:64:01";

const PLACE: &str = "pci-0000:00:08.0";

/// What the described host says of its network.
struct Net<'a> {
    /// `kdump.network`.
    description: String,
    /// `fstab` lines, which bring the options of the mount.
    fstab: String,
    /// QEMU's arguments.
    qemu: Vec<&'a str>,
}

/// One virtio card in QEMU's user network, with an address from its DHCP server.
fn by_dhcp() -> Net<'static> {
    Net {
        description: format!(
            "link enp0s8 mac={MAC} bus_path={PLACE} modules=virtio_pci,virtio_net mtu=1500\n\
             address enp0s8 10.0.2.15/24 dhcp\n\
             route default via 10.0.2.2 dev enp0s8\n\
             route 10.0.2.0/24 dev enp0s8\n"
        ),
        fstab: format!("10.0.2.2:{PSEUDO} /x nfs port={NFS_PORT} 0 0\n"),
        qemu: vec![
            "-netdev",
            "user,id=net0",
            "-device",
            "virtio-net-pci,netdev=net0,mac=52:54:00:6b:64:01,addr=0x8",
        ],
    }
}

/// A machine with that network and a spare disk, ready to panic.
fn cycle(name: &str, kernel: &Kernel, net: &Net<'_>, conf: &str) -> Result<(Machine, Cycle)> {
    let mut machine = Machine::new(name)?;
    let spare = machine.add(&DiskPlan::virtio(Content::Blank(256)))?;
    let host = machine.host_root();
    fs::write(host.join("kdump.network"), &net.description)?;
    fs::write(host.join("etc/fstab"), &net.fstab)?;
    let mut cycle = machine.cycle(kernel, &conf.replace("NODE", &spare.node))?;
    cycle.memory_mib = 512;
    cycle.qemu = net.qemu.iter().map(Into::into).collect();
    Ok((machine, cycle))
}

/// Panics, and checks the dump that is on the server then.
fn saves(name: &str, flavour: Flavour, net: &Net<'_>, conf: &str, own: &str) -> Result<Outcome> {
    let kernel = setup::kernel(flavour)?;
    let servers = Servers::nfs(name)?;
    let conf = conf.replace("EXPORT", &servers.export().to_string_lossy());
    let net = Net {
        description: net.description.clone(),
        fstab: net
            .fstab
            .replace("EXPORT", &servers.export().to_string_lossy()),
        qemu: net.qemu.clone(),
    };
    let (machine, mut cycle) = cycle(name, &kernel, &net, &conf)?;
    cycle.namespace = Some(servers.namespace());
    let outcome = cycle.run()?;
    proof::lines_in_order(
        &outcome,
        &[
            "init ",
            "crashed kernel: ",
            "attempt 1 of 1: nfs ",
            "network: ",
            "vmcore-dmesg.txt saved: ",
            "vmcore: ",
            "attempt 1 of 1 done: ",
            "final action: reboot",
        ],
    )?;
    ensure!(outcome.end == End::Reset, "{:?}", outcome.end);
    check(&servers.export(), &kernel, own, machine.work())?;
    machine.clean_up()?;
    servers.clean_up()?;
    Ok(outcome)
}

fn check(export: &Path, kernel: &Kernel, own: &str, work: &Path) -> Result<()> {
    let saved = Saved::only_in(&export.join("var/crash"))?;
    saved.check_names(&format!("{own}-"), ":")?;
    saved.check_modes()?;
    proof::folder_is_good(&saved, &Known::of(kernel), Crash::Sysrq, work)
}

#[test]
fn version_4_with_an_address_of_dhcp_and_a_card_of_another_name() -> Result<()> {
    let outcome = saves(
        "nfs-v4-dhcp",
        Flavour::Cloud6_1,
        &by_dhcp(),
        "nfs 10.0.2.2:/export\ndefault reboot\n",
        "10.0.2.15",
    )?;
    outcome.line("network: enp0s8 of the host is eth0 here")?;
    outcome.line("10.0.2.15/24 for 86400 s from the DHCP server 10.0.2.2")?;
    Ok(())
}

/// Answers every question for an IPv4 address with QEMU's name for the host, and others with none.
const NAME_SERVER: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 53))
print("ready", flush=True)
while True:
    q, peer = s.recvfrom(512)
    end = q.index(0, 12) + 5
    good = q[end - 4:end - 2] == b"\0\1"
    r = q[:2] + b"\x81\x80\0\1" + (b"\0\1" if good else b"\0\0") + b"\0\0\0\0" + q[12:end]
    if good:
        r += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton("10.0.2.2")
    s.sendto(r, peer)
"#;

#[test]
fn a_server_that_moved_is_found_by_its_name() -> Result<()> {
    let name = "nfs-moved";
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let servers = Servers::nfs(name)?;
    let mut name_server = KilledAtEnd(
        setup::program("setpriv")?
            .args(["--pdeathsig", "KILL", "--", "nsenter", "--net", "--target"])
            .arg(servers.namespace().to_string())
            .args(["python3", "-c", NAME_SERVER])
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut ready = String::new();
    BufReader::new(name_server.0.stdout.take().context("no output")?).read_line(&mut ready)?;
    ensure!(ready == "ready\n", "the name server did not start");

    let mut net = by_dhcp();
    net.description += "nameserver 10.0.2.2\n";
    net.fstab = format!("nas:{PSEUDO} /x nfs port={NFS_PORT} 0 0\n");
    let conf = format!("nfs nas:{PSEUDO}\ndefault reboot\n");
    let mut machine = Machine::new(name)?;
    machine.add(&DiskPlan::virtio(Content::Blank(16)))?;
    let host = machine.host_root();
    fs::write(host.join("kdump.network"), &net.description)?;
    fs::write(host.join("etc/fstab"), &net.fstab)?;
    // Where it was when the image was built: nobody is there any more.
    fs::write(host.join("etc/hosts"), "10.0.2.77 nas\n")?;
    let mut cycle = machine.cycle(&kernel, &conf)?;
    cycle.memory_mib = 512;
    cycle.qemu = net.qemu.iter().map(Into::into).collect();
    cycle.namespace = Some(servers.namespace());
    let outcome = cycle.run()?;
    outcome.line("nas is 10.0.2.2")?;
    outcome.line("kdump: attempt 1 of 1 done: ")?;
    check(&servers.export(), &kernel, "10.0.2.15", machine.work())?;
    machine.clean_up()?;
    servers.clean_up()
}

/// A process that does not outlive the test.
struct KilledAtEnd(Child);

impl Drop for KilledAtEnd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn version_3_with_a_fixed_address_on_the_second_of_two_cards() -> Result<()> {
    let net = Net {
        description: format!(
            "link lan0 mac=52:54:00:6b:64:02 bus_path=pci-0000:00:09.0 modules=e1000\n\
             link lan1 mac={MAC} bus_path={PLACE} modules=e1000\n\
             address lan1 10.0.2.77/24\n\
             address lan0 192.168.7.7/24\n\
             route default via 10.0.2.2 dev lan1\n\
             route 10.0.2.0/24 dev lan1\n"
        ),
        fstab: format!(
            "10.0.2.2:EXPORT /x nfs vers=3,port={NFS_PORT},mountport={MOUNT_PORT},mountproto=tcp,mountvers=3,proto=tcp 0 0\n"
        ),
        qemu: vec![
            // The other one comes first and leads nowhere.
            "-netdev",
            "hubport,hubid=7,id=dead",
            "-device",
            "e1000,netdev=dead,mac=52:54:00:6b:64:02,addr=0x7",
            "-netdev",
            "user,id=net0",
            "-device",
            "e1000,netdev=net0,mac=52:54:00:6b:64:01,addr=0x8",
        ],
    };
    saves(
        "nfs-v3-static",
        Flavour::Generic6_1,
        &net,
        "net 10.0.2.2:EXPORT\nlink_delay 1\ndefault reboot\n",
        "10.0.2.77",
    )?
    .line("network: waiting 1 s \\(link_delay\\)")?;
    Ok(())
}

#[test]
fn a_bridge_on_a_bond_on_6_12() -> Result<()> {
    let net = Net {
        description: format!(
            "link a mac={MAC} bus_path={PLACE} modules=virtio_pci,virtio_net\n\
             link b mac=52:54:00:6b:64:02 bus_path=pci-0000:00:09.0 modules=virtio_pci,virtio_net\n\
             link bond0 kind=bond mode=active-backup miimon=100 mac={MAC}\n\
             port a bond0\n\
             port b bond0\n\
             link br0 kind=bridge mac={MAC}\n\
             port bond0 br0\n\
             address br0 10.0.2.15/24 dhcp\n\
             route default via 10.0.2.2 dev br0\n"
        ),
        fstab: format!("10.0.2.2:{PSEUDO} /x nfs4 port={NFS_PORT} 0 0\n"),
        // Both cards are at one switch.
        qemu: vec![
            "-netdev",
            "user,id=net0",
            "-netdev",
            "hubport,hubid=7,id=out,netdev=net0",
            "-netdev",
            "hubport,hubid=7,id=port0",
            "-device",
            "virtio-net-pci,netdev=port0,mac=52:54:00:6b:64:01,addr=0x8",
            "-netdev",
            "hubport,hubid=7,id=port1",
            "-device",
            "virtio-net-pci,netdev=port1,mac=52:54:00:6b:64:02,addr=0x9",
        ],
    };
    saves(
        "nfs-bridge-bond",
        Flavour::Cloud6_12,
        &net,
        "nfs4 10.0.2.2:/export\ndefault reboot\n",
        "10.0.2.15",
    )?;
    Ok(())
}

#[test]
fn ipv6_as_a_router_tells() -> Result<()> {
    let net = Net {
        description: format!(
            "link enp0s8 mac={MAC} bus_path={PLACE} modules=virtio_pci,virtio_net\n\
             address enp0s8 fec0::5054:ff:fe6b:6401/64 slaac\n\
             route fec0::/64 dev enp0s8\n\
             route default via fe80::2 dev enp0s8\n"
        ),
        fstab: format!("[fec0::2]:{PSEUDO} /x nfs port={NFS_PORT} 0 0\n"),
        ..by_dhcp()
    };
    saves(
        "nfs-ipv6",
        Flavour::Cloud6_1,
        &net,
        "nfs [fec0::2]:/export\ndefault reboot\n",
        "fec0::5054:ff:fe6b:6401",
    )?;
    Ok(())
}

#[test]
fn an_address_that_only_ip_tells() -> Result<()> {
    let net = Net {
        // The host itself uses the card for something else.
        description: format!(
            "link enp0s8 mac={MAC} bus_path={PLACE} modules=virtio_pci,virtio_net\n\
             address enp0s8 192.168.7.7/24\n"
        ),
        ..by_dhcp()
    };
    saves(
        "nfs-ip",
        Flavour::Cloud6_1,
        &net,
        "nfs 10.0.2.2:/export\nip 10.0.2.99::10.0.2.2:255.255.255.0::enp0s8:none\ndefault reboot\n",
        "10.0.2.99",
    )?;
    Ok(())
}

/// Panics with a network on which the first target cannot be reached; the second one is the spare disk.
fn falls_back(name: &str, net: &Net<'_>, conf: &str, said: &str) -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let (machine, cycle) = cycle(name, &kernel, net, conf)?;
    let outcome = cycle.run()?;
    proof::raw_has_it_after(&outcome, "nfs", said)?;
    machine.clean_up()
}

const THEN_RAW: &str = "nfs 10.0.2.2:/export\nraw NODE\nnetwork_timeout 8\ndefault reboot\n";

#[test]
fn nobody_answers_dhcp_then_the_next_target() -> Result<()> {
    let net = Net {
        qemu: vec![
            "-netdev",
            "hubport,hubid=7,id=net0",
            "-device",
            "virtio-net-pci,netdev=net0,mac=52:54:00:6b:64:01,addr=0x8",
        ],
        ..by_dhcp()
    };
    falls_back("nfs-no-dhcp", &net, THEN_RAW, "no answer to DHCP on eth0")
}

#[test]
fn a_card_that_is_gone_then_the_next_target() -> Result<()> {
    let net = Net {
        qemu: vec![],
        ..by_dhcp()
    };
    falls_back(
        "nfs-no-card",
        &net,
        THEN_RAW,
        "there is no network card 52:54:00:6b:64:01",
    )
}
