// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dumps to a server by ssh: a real panic, a real network card, Debian's sshd behind QEMU's own network. Servers that fail
//! are in `faults.rs`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use qemu_tests::crash::Crash;
use qemu_tests::cycle::Outcome;
use qemu_tests::encrypted::{self, Key};
use qemu_tests::machine::Machine;
use qemu_tests::peer::{Server as Peer, Setup};
use qemu_tests::proof::{self, Known};
use qemu_tests::setup::{self, Flavour};
use qemu_tests::wire;

/// Panics a machine whose dump goes to `peer`.
fn capture(name: &str, peer: &Peer) -> Result<(Machine, Outcome)> {
    capture_with(name, peer, "")
}

/// The same with more lines in `kdump.conf`.
fn capture_with(name: &str, peer: &Peer, lines: &str) -> Result<(Machine, Outcome)> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let machine = Machine::new(name)?;
    wire::describe(&machine)?;
    peer.make_known_to(&machine.host_root())?;
    let conf = format!(
        "ssh {}\npath {}\nfailure_action reboot\n{lines}",
        peer.target(),
        peer.folder.join("root").display()
    );
    let mut cycle = machine.cycle(&kernel, &conf)?;
    cycle.memory_mib = 512;
    wire::connect(&mut cycle);
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
    let (machine, outcome) = capture("ssh-sftp", &peer)?;
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
fn an_encrypted_dump_opens_by_sftp_and_by_cat() -> Result<()> {
    for (name, lines) in [
        ("ssh-encrypted-sftp", vec![]),
        (
            "ssh-encrypted-cat",
            vec!["Subsystem other /bin/false".to_owned()],
        ),
    ] {
        let peer = Peer::start(&Setup {
            lines,
            ..Setup::open_ssh()
        })?;
        let key = Key::make(&peer.folder.join("reader-key"))?;
        let line = format!("encrypt_to {}\n", key.public);
        let (machine, outcome) = capture_with(name, &peer, &line)?;
        let panic_line = Crash::Sysrq.panic_line();
        encrypted::nothing_shows(&outcome, panic_line, &[])?;
        let (folder, _) = dump_in(&peer.folder.join("root"))?;
        let kernel = setup::kernel(Flavour::Cloud6_1)?;
        encrypted::opens(
            &folder,
            &key,
            &Known::of(&kernel),
            panic_line,
            machine.work(),
        )?;
        machine.clean_up()?;
    }
    Ok(())
}

#[test]
fn without_sftp_the_dump_is_a_stream_that_is_put_back_together() -> Result<()> {
    let peer = Peer::start(&Setup {
        lines: vec!["Subsystem other /bin/false".to_owned()],
        ..Setup::open_ssh()
    })?;
    let (machine, outcome) = capture("ssh-cat", &peer)?;
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
