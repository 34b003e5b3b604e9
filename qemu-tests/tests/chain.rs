// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of targets of every kind, in any order: each one before the last fails in its own way, the console says how, the
//! first that works has the dump, and all of it takes no longer than the plan says.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_tests::crash::Crash;
use qemu_tests::cycle::Outcome;
use qemu_tests::disk::Fault;
use qemu_tests::machine::{Content, DiskPlan, Machine};
use qemu_tests::peer::{Server as Peer, Setup, below};
use qemu_tests::proof::{self, Known};
use qemu_tests::run::stdout;
use qemu_tests::saved::Saved;
use qemu_tests::scene::Stage;
use qemu_tests::server::Servers;
use qemu_tests::setup::Kernel;
use qemu_tests::vm::End;
use qemu_tests::wire;

const STAGE: Stage = Stage::SMALL;

/// Bounds that a person would notice, but that a busy machine keeps.
const BOUNDS: &str = "disk_timeout 20\nnetwork_timeout 20\nstall_timeout 20\ndump_deadline 120\n";

/// The sum of the bounds of each attempt, as `mkkdumprd plan` states them.
fn stated(machine: &Machine, kernel: &Kernel, conf: &str) -> Result<Vec<Duration>> {
    let plan = stdout(&mut machine.mkkdumprd(kernel, conf, "plan")?)?;
    let mut sums = Vec::new();
    for line in plan.lines() {
        if line.starts_with("Attempt ") {
            sums.push(Duration::ZERO);
        } else if line.starts_with("When ") {
            break;
        }
        // What stands still is stopped within what the whole may take.
        if line.contains("without any progress") {
            continue;
        }
        let Some((_, bound)) = line.split_once(" at most ") else {
            continue;
        };
        let mut words = bound.split_whitespace();
        let number: u64 = words.next().context("no bound")?.parse()?;
        let seconds = match words.next() {
            Some("s") => number,
            Some("h") => number * 3600,
            unit => anyhow::bail!("{unit:?} is no unit of time: {line}"),
        };
        if let Some(sum) = sums.last_mut() {
            *sum += Duration::from_secs(seconds);
        }
    }
    Ok(sums)
}

/// Checks that the attempts failed as `said`, one after the other and each within its time, and that the next one saved.
fn went(outcome: &Outcome, kinds: &[&str], said: &[&str], stated: &[Duration]) -> Result<()> {
    let count = stated.len();
    let mut lines = vec!["init ".to_owned(), "crashed kernel: ".to_owned()];
    for (number, kind) in (1..).zip(kinds) {
        lines.push(format!("attempt {number} of {count}: {kind} "));
        lines.push(if number <= said.len() {
            format!("attempt {number} of {count} failed: ")
        } else {
            format!("attempt {number} of {count} done: ")
        });
    }
    lines.push("final action: reboot".to_owned());
    let expected: Vec<&str> = lines.iter().map(String::as_str).collect();
    proof::lines_in_order(outcome, &expected)?;
    let behind = format!("attempt {} of {count}: ", kinds.len() + 1);
    ensure!(
        outcome.line(&behind).is_err(),
        "another attempt after the one that worked"
    );
    for (number, said) in (1..).zip(said) {
        let line = outcome.line(&format!("attempt {number} of {count} failed: "))?;
        ensure!(line.text.contains(said), "not `{said}`: {}", line.text);
    }
    let began = |number| outcome.line(&format!("kdump: attempt {number} of {count}: "));
    for (number, stated) in (1..=kinds.len()).zip(stated) {
        let end = outcome.line(&format!("attempt {number} of {count} (failed|done): "))?;
        let took = end.at.saturating_sub(began(number)?.at);
        ensure!(
            took <= *stated,
            "attempt {number} took {took:?} of {stated:?}"
        );
    }
    let whole = outcome.line("kdump: final action: ")?.at;
    let took = whole.saturating_sub(began(1)?.at);
    let sum: Duration = stated.iter().sum();
    ensure!(took <= sum, "{took:?} of {sum:?}");
    ensure!(outcome.end == End::Reset, "{:?}", outcome.end);
    Ok(())
}

#[test]
fn ssh_nfs_ext3_raw_and_the_root_file_system_has_it() -> Result<()> {
    let kernel = STAGE.kernel()?;
    let peer = Peer::start(&Setup {
        // The save path is that of every target.
        below: below("mount -t tmpfs tmpfs /var && mkdir /var/crash"),
        ..Setup::open_ssh()
    })?;
    let (mut machine, root) = STAGE.with_root("chain-root")?;
    let small = machine.add(&STAGE.ext("ext3", 8))?;
    let broken = machine.add(&DiskPlan {
        fault: Fault::WritesFailAfter(2),
        ..STAGE.disk(Content::Blank(64))
    })?;
    let host = machine.host_root();
    wire::describe(&machine)?;
    peer.make_known_to(&host)?;
    let conf = format!(
        "ssh {}\nnfs 10.0.2.2:/export\next3 {}\nraw {}\n{BOUNDS}",
        peer.target(),
        small.node,
        broken.node
    );
    let bounds = stated(&machine, &kernel, &conf)?;
    let mut cycle = STAGE.cycle(&machine, &conf)?;
    wire::connect(&mut cycle);
    let mut running = cycle.start()?;
    running.expect("kdump: vmcore-dmesg.txt saved: ")?;
    peer.signal_sessions("KILL")?;
    let outcome = running.finish()?;
    went(
        &outcome,
        &["ssh", "nfs", "ext3", "raw", "ext4"],
        &[
            "the server ended the connection",
            "no NFS server answers there",
            "ENOSPC",
            "EIO",
        ],
        &bounds,
    )?;
    STAGE.dump_is_on(&machine, &root, 5)?;
    machine.clean_up()
}

#[test]
fn raw_ext3_ssh_and_the_nfs_server_has_it() -> Result<()> {
    let kernel = STAGE.kernel()?;
    let servers = Servers::nfs("chain-nfs")?;
    let (mut machine, _) = STAGE.with_root("chain-nfs")?;
    let broken = machine.add(&DiskPlan {
        fault: Fault::WritesFailAfter(2),
        ..STAGE.disk(Content::Blank(64))
    })?;
    let missing = machine.add(&STAGE.missing())?;
    let host = machine.host_root();
    wire::describe(&machine)?;
    Servers::make_known_to(&host)?;
    // Its keys are known; the server itself is not there any more.
    let gone = {
        let peer = Peer::start(&Setup::open_ssh())?;
        peer.make_known_to(&host)?;
        peer.target()
    };
    let conf = format!(
        "raw {}\next4 {}\nssh {gone}\nnfs {}\n{BOUNDS}",
        broken.node,
        missing.node,
        Servers::target()
    );
    let bounds = stated(&machine, &kernel, &conf)?;
    let mut cycle = STAGE.cycle(&machine, &conf)?;
    wire::connect(&mut cycle);
    cycle.namespace = Some(servers.namespace());
    let outcome = cycle.run()?;
    went(
        &outcome,
        &["raw", "ext4", "ssh", "nfs"],
        &["EIO", "no device ", "ECONNREFUSED"],
        &bounds,
    )?;
    let saved = Saved::only_in(&servers.export().join("var/crash"))?;
    let known = Known::of(&kernel);
    proof::folder_is_good(&saved, &known, Crash::Sysrq, machine.work())?;
    machine.clean_up()?;
    servers.clean_up()
}
