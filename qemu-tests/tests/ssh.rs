// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dumps to a server by ssh: a real panic, a real network card, Debian's sshd behind QEMU's own network.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_tests::crash::Crash;
use qemu_tests::cycle::{Cycle, Outcome};
use qemu_tests::machine::{Content, DiskPlan, Machine};
use qemu_tests::peer::{Server as Peer, Setup, below, make_key};
use qemu_tests::proof::{self, Known};
use qemu_tests::setup::{self, Flavour};

/// The guest's card and address, as the builder would find them on the machine.
const NETWORK: &str = "\
link eth0 mac=52:54:00:12:34:56 modules=virtio_pci,virtio_net
address eth0 10.0.2.15/24
route 10.0.2.0/24 dev eth0
route default via 10.0.2.2 dev eth0
";

/// A machine whose dump goes to `peer`, and then to a spare disk where `lines` name it as NODE. `known` tells the described
/// host of the server.
fn prepare(
    name: &str,
    peer: &Peer,
    lines: &str,
    known: impl FnOnce(&Path) -> Result<()>,
) -> Result<(Machine, Cycle)> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let mut machine = Machine::new(name)?;
    let spare = machine.add(&DiskPlan::virtio(Content::Blank(128)))?;
    fs::write(machine.host_root().join("kdump.network"), NETWORK)?;
    known(&machine.host_root())?;
    let conf = format!(
        "ssh {}\npath {}\n{}",
        peer.target(),
        peer.folder.join("root").display(),
        lines.replace("NODE", &spare.node)
    );
    let mut cycle = machine.cycle(&kernel, &conf)?;
    cycle.memory_mib = 512;
    cycle.first.crash = Crash::Sysrq;
    for word in [
        "-netdev",
        "user,id=n0",
        "-device",
        "virtio-net-pci,netdev=n0,mac=52:54:00:12:34:56,romfile=",
    ] {
        cycle.qemu.push(word.into());
    }
    Ok((machine, cycle))
}

/// Panics a machine whose dump goes to `peer`.
fn capture(name: &str, peer: &Peer, lines: &str) -> Result<(Machine, Outcome)> {
    let (machine, cycle) = prepare(name, peer, lines, |host| peer.make_known_to(host))?;
    let outcome = cycle.run()?;
    Ok((machine, outcome))
}

/// Checks that the server did not get the dump for the reason `said`, and that the spare disk has it.
fn the_spare_disk_has_it(outcome: &Outcome, said: &str) -> Result<()> {
    proof::raw_has_it_after(outcome, "ssh", said)
}

/// When the line came.
fn at(outcome: &Outcome, pattern: &str) -> Result<Duration> {
    Ok(outcome.line(pattern)?.at)
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
        &[
            "random numbers: the ",
            "logged in as root; files go by SFTP",
        ],
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

const THEN_RAW: &str = "raw NODE\nstall_timeout 8\ndefault reboot\n";

#[test]
fn a_server_with_another_key_than_the_pinned_one_gets_nothing() -> Result<()> {
    let peer = Peer::start(&Setup::open_ssh())?;
    make_key(&peer.folder.join("other"), "ed25519")?;
    let other = fs::read_to_string(peer.folder.join("other.pub"))?;
    let (machine, cycle) = prepare("ssh-host-key", &peer, THEN_RAW, |host| {
        peer.make_known_as(host, &peer.folder.join("id"), other.trim())
    })?;
    let outcome = cycle.run()?;
    the_spare_disk_has_it(&outcome, "which is not the pinned one; next: attempt 2")?;
    ensure!(fs::read_dir(peer.folder.join("root"))?.next().is_none());
    machine.clean_up()
}

#[test]
fn a_key_that_the_server_does_not_take_then_the_next_target() -> Result<()> {
    let peer = Peer::start(&Setup::open_ssh())?;
    let other = peer.folder.join("other");
    make_key(&other, "ed25519")?;
    let (machine, cycle) = prepare("ssh-user-key", &peer, THEN_RAW, |host| {
        peer.make_known_as(host, &other, &peer.host_key)
    })?;
    let outcome = cycle.run()?;
    the_spare_disk_has_it(&outcome, "the server does not accept the key for this user")?;
    machine.clean_up()
}

#[test]
fn a_server_that_is_killed_while_the_dump_is_written_then_the_next_target() -> Result<()> {
    let peer = Peer::start(&Setup::open_ssh())?;
    let (machine, cycle) = prepare("ssh-killed", &peer, THEN_RAW, |host| {
        peer.make_known_to(host)
    })?;
    let mut running = cycle.start()?;
    running.expect("kdump: vmcore-dmesg.txt saved: ")?;
    peer.signal_sessions("KILL")?;
    let outcome = running.finish()?;
    the_spare_disk_has_it(&outcome, "the server ended the connection")?;
    // What came before its end is there, and says that it is not all.
    let (_, names) = dump_in(&peer.folder.join("root"))?;
    ensure!(
        names.iter().any(|name| name == "vmcore-dmesg.txt"),
        "{names:?}"
    );
    ensure!(names.iter().all(|name| name != "vmcore"), "{names:?}");
    machine.clean_up()
}

#[test]
fn a_server_that_freezes_while_the_dump_is_written_is_left_after_the_stall_timeout() -> Result<()> {
    let peer = Peer::start(&Setup::open_ssh())?;
    let (machine, cycle) = prepare("ssh-frozen", &peer, THEN_RAW, |host| {
        peer.make_known_to(host)
    })?;
    let mut running = cycle.start()?;
    running.expect("kdump: vmcore-dmesg.txt saved: ")?;
    peer.signal_sessions("STOP")?;
    let outcome = running.finish()?;
    the_spare_disk_has_it(&outcome, "no progress")?;
    let began = at(&outcome, "kdump: vmcore-dmesg.txt saved: ")?;
    let took = at(&outcome, "attempt 1 of 2 failed: ")?.saturating_sub(began);
    // By itself the client asks for 40 seconds whether the server is still there.
    ensure!(took < Duration::from_secs(30), "{took:?}");
    machine.clean_up()
}

#[test]
fn a_disk_that_is_full_on_the_far_side_then_the_next_target() -> Result<()> {
    let peer = Peer::start(&Setup {
        below: below("mount -t tmpfs -o size=4m tmpfs {folder}/root"),
        ..Setup::open_ssh()
    })?;
    let (machine, cycle) = prepare("ssh-full", &peer, THEN_RAW, |host| peer.make_known_to(host))?;
    let outcome = cycle.run()?;
    the_spare_disk_has_it(&outcome, "ENOSPC")?;
    let (_, names) = dump_in(&peer.seen("root"))?;
    ensure!(
        names.iter().any(|name| name == "vmcore-incomplete"),
        "{names:?}"
    );
    ensure!(names.iter().all(|name| name != "vmcore"), "{names:?}");
    machine.clean_up()
}

#[test]
fn a_slow_server_gets_the_whole_dump() -> Result<()> {
    let peer = Peer::start(&Setup::open_ssh())?;
    let lines = "stall_timeout 20\ndefault reboot\n";
    let (machine, cycle) = prepare("ssh-slow", &peer, lines, |host| peer.make_known_to(host))?;
    let mut running = cycle.start()?;
    running.expect("kdump: vmcore-dmesg.txt saved: ")?;
    let is_over = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        // It works for a moment, and is away for far longer.
        let slow = scope.spawn(|| -> Result<u32> {
            let mut pauses = 0;
            while !is_over.load(Ordering::Relaxed) {
                peer.signal_sessions("STOP")?;
                thread::sleep(Duration::from_millis(1500));
                peer.signal_sessions("CONT")?;
                thread::sleep(Duration::from_millis(50));
                pauses += 1;
            }
            Ok(pauses)
        });
        let outcome = running.finish();
        is_over.store(true, Ordering::Relaxed);
        let pauses = slow.join().expect("the other thread does not panic")?;
        ensure!(pauses >= 3, "only {pauses} pauses");
        outcome
    })?;
    proof::only_attempt_saved(&outcome, Crash::Sysrq, &["logged in as root"])?;
    let (folder, _) = dump_in(&peer.folder.join("root"))?;
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    proof::dump_is_good(&folder.join("vmcore"), &Known::of(&kernel), machine.work())?;
    machine.clean_up()
}
