// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dumps to a server by ssh: a real panic, a real network card, Debian's sshd behind QEMU's own network.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use qemu_tests::crash::Crash;
use qemu_tests::cycle::Outcome;
use qemu_tests::machine::Machine;
use qemu_tests::peer::{Server as Peer, Setup};
use qemu_tests::proof::{self, Known};
use qemu_tests::setup::{self, Flavour};

/// The guest's card and address, as the builder would find them on the machine.
const NETWORK: &str = "\
link eth0 mac=52:54:00:12:34:56 modules=virtio_pci,virtio_net
address eth0 10.0.2.15/24
route 10.0.2.0/24 dev eth0
route default via 10.0.2.2 dev eth0
";

/// Panics a machine whose dump goes to `peer`.
fn capture(name: &str, peer: &Peer, lines: &str) -> Result<(Machine, Outcome)> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let machine = Machine::new(name)?;
    let root = machine.host_root();
    fs::create_dir_all(root.join("root/.ssh"))?;
    fs::write(root.join("kdump.network"), NETWORK)?;
    fs::copy(
        peer.folder.join("id"),
        root.join("root/.ssh/kdump_id_ed25519"),
    )?;
    // QEMU's network has the host at this address.
    let port = peer.address.port();
    fs::write(
        root.join("root/.ssh/known_hosts"),
        format!("[10.0.2.2]:{port} {}\n", peer.host_key),
    )?;
    let path = peer.folder.join("root");
    let conf = format!(
        "ssh root@[10.0.2.2]:{port}\npath {}\n{lines}",
        path.display()
    );
    let mut cycle = machine.cycle(&kernel, &conf)?;
    cycle.memory_mib = 512;
    cycle.crashkernel = "128M".to_owned();
    cycle.first.crash = Crash::Sysrq;
    for word in [
        "-netdev",
        "user,id=n0",
        "-device",
        "virtio-net-pci,netdev=n0,mac=52:54:00:12:34:56,romfile=",
    ] {
        cycle.qemu.push(word.into());
    }
    let outcome = cycle.run()?;
    Ok((machine, outcome))
}

/// The only directory of a dump, and the names in it.
fn dump_in(folder: &Path) -> Result<(std::path::PathBuf, Vec<String>)> {
    let entry = fs::read_dir(folder)?.next().context("no dump came")??;
    let name = entry.file_name().to_string_lossy().into_owned();
    ensure!(
        name.starts_with("10.0.2.15-20"),
        "{name} does not say whose dump it is"
    );
    let mut names = Vec::new();
    for file in fs::read_dir(entry.path())? {
        names.push(file?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok((entry.path(), names))
}

#[test]
fn a_dump_by_sftp_is_whole_and_opens() -> Result<()> {
    let peer = Peer::start(&Setup::open_ssh())?;
    let (machine, outcome) = capture("ssh-sftp", &peer, "failure_action reboot\n")?;
    proof::only_attempt_saved(
        &outcome,
        Crash::Sysrq,
        &["logged in as root; files go by SFTP"],
    )?;
    let (folder, names) = dump_in(&peer.folder.join("root"))?;
    ensure!(
        names
            == [
                "kexec-dmesg.log",
                "manifest.json",
                "vmcore",
                "vmcore-dmesg.txt"
            ],
        "{names:?}"
    );
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    proof::dump_is_good(&folder.join("vmcore"), &Known::of(&kernel), machine.work())?;
    let dmesg = fs::read_to_string(folder.join("vmcore-dmesg.txt"))?;
    ensure!(
        dmesg.contains(Crash::Sysrq.panic_line()),
        "no panic in the saved log"
    );
    machine.clean_up()
}

#[test]
fn without_sftp_the_dump_is_a_stream_that_is_put_back_together() -> Result<()> {
    let peer = Peer::start(&Setup {
        lines: vec!["Subsystem other /bin/false".to_owned()],
        ..Setup::open_ssh()
    })?;
    let (machine, outcome) = capture("ssh-cat", &peer, "failure_action reboot\n")?;
    proof::only_attempt_saved(
        &outcome,
        Crash::Sysrq,
        &["logged in as root; files go by cat"],
    )?;
    let (folder, names) = dump_in(&peer.folder.join("root"))?;
    ensure!(
        names
            == [
                "kexec-dmesg.log",
                "manifest.json",
                "vmcore-dmesg.txt",
                "vmcore.flat"
            ],
        "{names:?}"
    );
    // makedumpfile puts it back together.
    let dump = machine.work().join("vmcore");
    let mut command = setup::program("makedumpfile")?;
    let status = command
        .arg("-R")
        .arg(&dump)
        .stdin(fs::File::open(folder.join("vmcore.flat"))?)
        .status()?;
    ensure!(status.success(), "makedumpfile -R: {status}");
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    proof::dump_is_good(&dump, &Known::of(&kernel), machine.work())?;
    machine.clean_up()
}
