// SPDX-License-Identifier: MIT OR Apache-2.0
//! fence_kdump in a real capture: the other nodes of a cluster are told while the dump is made.

use std::fs;
use std::net::UdpSocket;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_tests::cycle::{Cycle, Outcome};
use qemu_tests::machine::{Machine, Made};
use qemu_tests::scene::Stage;
use qemu_tests::setup;
use qemu_tests::vm::End;

const STAGE: Stage = Stage::SMALL;

/// Where the guest's network is, and no fence_kdump: the dump goes to a disk, and nothing else needs the network.
fn cycle(machine: &mut Machine, fence: &str) -> Result<(Cycle, Made)> {
    let disk = machine.add(&STAGE.ext("ext4", 256))?;
    fs::write(
        machine.host_root().join("kdump.network"),
        "link enp0s8 mac=52:54:00:6b:64:01 bus_path=pci-0000:00:08.0 modules=virtio_pci,virtio_net\n\
         address enp0s8 10.0.2.15/24 dhcp\n\
         route 10.0.2.0/24 dev enp0s8\n",
    )?;
    fs::write(
        machine.host_root().join("etc/hosts"),
        "10.0.2.2 db8\n10.0.2.15 db7\n",
    )?;
    let mut cycle = STAGE.cycle(
        machine,
        &format!("ext4 {}\n{fence}\ndefault reboot\n", disk.node),
    )?;
    cycle.qemu = [
        "-netdev",
        "user,id=net0",
        "-device",
        "virtio-net-pci,netdev=net0,mac=52:54:00:6b:64:01,addr=0x8",
    ]
    .map(Into::into)
    .to_vec();
    Ok((cycle, disk))
}

fn check(machine: &Machine, disk: &Made, outcome: &Outcome) -> Result<()> {
    ensure!(outcome.end == End::Reset, "{:?}", outcome.end);
    outcome.line("fence_kdump: db8 \\(10.0.2.2\\) is told at port [0-9]+, every [0-9]+ s")?;
    STAGE.dump_is_on(machine, disk, 1)?;
    Ok(())
}

#[test]
fn nodes_are_told_while_the_dump_goes_to_a_disk() -> Result<()> {
    // QEMU's user network hands what is for 10.0.2.2 to this machine.
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    let port = receiver.local_addr()?.port();
    let mut machine = Machine::new("fence-disk")?;
    // What comes behind the dump takes longer than the time between two messages.
    machine.give_program("/bin/sh", &fs::read(setup::busybox()?)?)?;
    machine.give_program("/etc/kdump/after.sh", b"#!/bin/sh\nsleep 3\n")?;
    let (cycle, disk) = cycle(
        &mut machine,
        &format!(
            "fence_kdump_nodes db7 db8\nfence_kdump_args -p {port} -f auto -i 1 -v\n\
             kdump_post /etc/kdump/after.sh"
        ),
    )?;
    receiver.set_read_timeout(Some(Duration::from_secs(1)))?;
    let running = cycle.start()?;
    let guest = thread::spawn(move || running.finish());
    let mut messages: Vec<Vec<u8>> = Vec::new();
    while !guest.is_finished() {
        let mut message = [0; 64];
        if let Ok(length) = receiver.recv(&mut message) {
            messages.push(message[..length].to_vec());
        }
    }
    let outcome = guest
        .join()
        .expect("the thread that waits does not panic")?;
    check(&machine, &disk, &outcome)?;
    // Two words in the byte order of the machine that sends, which is an x86: the magic number and version 1.
    // Source: fence-agents 4.12 `agents/kdump/message.h`.
    let expected = [0x40, 0x2a, 0x30, 0x1b, 1, 0, 0, 0];
    ensure!(
        messages.iter().all(|message| *message == expected),
        "{messages:x?}"
    );
    ensure!(messages.len() > 1, "{} messages", messages.len());
    // No attempt waits for it.
    let lines = outcome.init_lines();
    let position = |part: &str| lines.iter().position(|line| line.contains(part));
    ensure!(
        position("is told at port") < position("attempt 1 of 1 done"),
        "{lines:#?}"
    );
    Ok(())
}

#[test]
fn debians_fence_kdump_takes_the_message_for_one_of_its_own() -> Result<()> {
    let agent = setup::fence_kdump()?;
    // A port that is free now.
    let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut machine = Machine::new("fence-debian")?;
    let (cycle, disk) = cycle(
        &mut machine,
        &format!("fence_kdump_nodes db8\nfence_kdump_args -p {port} -i 1"),
    )?;
    let running = cycle.start()?;
    // What it hears comes from QEMU, which runs here.
    let listening = std::process::Command::new(agent)
        .args(["-n", "127.0.0.1", "-f", "ipv4", "-t", "400", "-v", "-p"])
        .arg(port.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting fence_kdump")?;
    let outcome = running.finish()?;
    let said = listening.wait_with_output()?;
    check(&machine, &disk, &outcome)?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(
        said.status.success() && text.contains("received valid message from '127.0.0.1'"),
        "{}: {text}{}",
        said.status,
        String::from_utf8_lossy(&said.stderr)
    );
    Ok(())
}
