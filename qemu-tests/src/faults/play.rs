// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plays one cell: brings the fault about, panics, and looks what came of it.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::ground::{Ground, Left, Target};
use super::inject::Inject;
use super::{Cell, Must, Row, Seen};
use crate::artifacts;
use crate::case::Case;
use crate::cpio::Cpio;
use crate::cycle::{Outcome, Running};
use crate::disk::{self, ExtImage};
use crate::machine::{Content, DiskPlan};
use crate::proof;
use crate::relay::Relay;
use crate::run::stdout;
use crate::setup::Flavour;
use crate::vm::End;
use crate::wire;

/// The console's line from which on the dump is being written.
const UNDER_WAY: &str = "kdump: vmcore-dmesg.txt saved: ";
const COPYING: &str = "kdump: copying: .* written";
/// So slow that the dump takes a while, in bytes a second.
const LONG: u64 = 3 << 20;

pub(super) fn play(row: &Row, cell: &Cell) -> Result<Seen> {
    let name = format!("fault-{}-{}", row.fault, cell.kind.word());
    let dump_bytes = match row.inject {
        Inject::Full(_) => dump_bytes()?,
        _ => 0,
    };
    let mut ground = Ground::new(&name, row.inject, cell, dump_bytes)?;
    let relay = before(&mut ground, row.inject)?;
    let mut running = ground.cycle.start()?;
    let outcome = match during(&mut running, &ground, row.inject)? {
        None => running.finish()?,
        Some(Slowed) => slowed(running, &ground)?,
    };
    if let Some(relay) = relay {
        let (carried, lost) = relay.counts();
        ensure!(
            lost > 100,
            "only {lost} packets were lost, {carried} were carried"
        );
    }
    let seen = look(&ground, cell, &outcome)?;
    ground.clean_up()?;
    Ok(seen)
}

/// How large a dump of the guest is, as one that nothing was in the way of was.
fn dump_bytes() -> Result<u64> {
    static KNOWN: Mutex<Option<u64>> = Mutex::new(None);
    let mut known = KNOWN
        .lock()
        .map_err(|_| anyhow::anyhow!("another cell panicked"))?;
    if let Some(bytes) = *known {
        return Ok(bytes);
    }
    let disk = DiskPlan::virtio(Content::Blank(128));
    let case = Case::new(
        "fault-no-fault",
        Flavour::Cloud6_1,
        disk,
        "raw NODE\ndefault reboot\n",
    );
    let capture = case.capture()?;
    let line = capture.outcome.line("kdump: vmcore: .* bytes in ")?;
    let bytes = line
        .text
        .rsplit_once(" bytes in ")
        .and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok())
        .with_context(|| format!("no size in {}", line.text))?;
    capture.clean_up()?;
    *known = Some(bytes);
    Ok(bytes)
}

/// What is done before the first kernel starts.
fn before(ground: &mut Ground, inject: Inject) -> Result<Option<Relay>> {
    let mut relay = None;
    let cycle = &mut ground.cycle;
    let disk = match &ground.target {
        Target::Disk(made) => Some(made),
        Target::Nfs(_) | Target::Ssh(_) => None,
    };
    match inject {
        Inject::PacketsLost => {
            let wire = Relay::losing(10, 1)?;
            wire::connect_through(cycle, &wire);
            relay = Some(wire);
        }
        _ if disk.is_none() => wire::connect(cycle),
        _ => {}
    }
    match inject {
        Inject::Late => {
            cycle.qemu.extend(disk::LATE_PORT.map(Into::into));
        }
        Inject::Stalls => cycle.commands = vec![disk::throttle(0, LONG)],
        Inject::Slow => cycle.commands = vec![disk::throttle(0, 512 << 10)],
        Inject::LinkDown => {
            cycle.commands = vec![("set_link", json!({"name": wire::CARD, "up": false}))];
        }
        Inject::Superblock => overwrite(disk, &[(0, 65536)])?,
        Inject::GroupDescriptors => overwrite(disk, &[(2048, 8192)])?,
        Inject::Directory => {
            let blocks = blocks(disk, "/var/crash")?;
            ensure!(!blocks.is_empty(), "the directory has no block");
            let places: Vec<(u64, usize)> = blocks
                .iter()
                .map(|&(block, size)| (block * size, 1024))
                .collect();
            overwrite(disk, &places)?;
        }
        Inject::Journal => {
            // As a kernel that went mad leaves it: mounted, with a journal to be replayed that is none.
            let (block, size) = *blocks(disk, "<8>")?
                .first()
                .context("there is no journal")?;
            cycle.first.modules = vec!["virtio_pci", "virtio_blk", "ext4"];
            cycle.first.prepare = format!(
                "until [ -e /dev/vda ]; do sleep 0.1; done\n\
                 mount -t ext4 /dev/vda /mnt || fail mount\n\
                 echo words > /mnt/words\n\
                 sync\n\
                 dd if=/dev/urandom of=/dev/vda bs={size} seek={block} count={} conv=fsync 2> /dev/null || fail dd\n",
                65536 / size
            );
        }
        Inject::Obstacle(parameters) if parameters.contains(" from=") => {
            // The kernel lies at the front of memory then: where it cannot be read is not a matter of chance.
            "nokaslr".clone_into(&mut cycle.first_arguments);
        }
        Inject::NoVmcore => {
            // The last word counts, and there the kernel sees memory of its own.
            "elfcorehdr=0x1000".clone_into(&mut cycle.capture_arguments);
        }
        Inject::GarbledVmcoreinfo => {
            cycle.ram_file = Some(ground.machine.work().join("ram"));
            "say \"vmcoreinfo $(cat /sys/kernel/vmcoreinfo)\"\n"
                .clone_into(&mut cycle.first.prepare);
        }
        Inject::ClockIn1970 => {
            let clock = ["-rtc", "base=1970-01-01T00:00:10,clock=vm"];
            cycle.qemu.extend(clock.map(Into::into));
        }
        Inject::ImageTruncated => {
            let length = fs::metadata(&cycle.image)?.len();
            let file = OpenOptions::new().write(true).open(&cycle.image)?;
            file.set_len(length * 2 / 3)?;
        }
        Inject::RecordOfAnotherVersion => change_record(ground, |record| {
            record.replacen("kdumprd-record 1\n", "kdumprd-record 2\n", 1)
        })?,
        Inject::ModuleMissing => change_record(ground, |record| {
            record.replacen("\nmodule virtio_scsi\n", "\nmodule virtio_scsi_gone\n", 1)
        })?,
        Inject::ServerSilent => signal(&ground.target, "STOP")?,
        _ => {}
    }
    Ok(relay)
}

/// Puts another record into the image: a second archive behind the first, whose files take the place of those before.
///
/// Source: Linux 6.12 `Documentation/driver-api/early-userspace/buffer-format.rst`.
fn change_record(ground: &Ground, change: fn(&str) -> String) -> Result<()> {
    let image = &ground.cycle.image;
    let record = stdout(
        std::process::Command::new(artifacts::mkkdumprd()?)
            .arg("cat")
            .arg(image)
            .arg("etc/kdump.record"),
    )?;
    let changed = change(&record);
    ensure!(changed != record, "nothing was changed in {record}");
    let mut cpio = Cpio::new();
    cpio.file("etc/kdump.record", changed.as_bytes());
    let length = fs::metadata(image)?.len();
    let mut file = OpenOptions::new().append(true).open(image)?;
    file.write_all(&vec![
        0;
        usize::try_from(length.next_multiple_of(4) - length)?
    ])?;
    Ok(file.write_all(&cpio.finish())?)
}

/// Writes other bytes at these places, of these lengths, of the disk's content.
fn overwrite(made: Option<&crate::machine::Made>, places: &[(u64, usize)]) -> Result<()> {
    let made = made.context("the target is no disk")?;
    let disk = OpenOptions::new().write(true).open(&made.disk.image)?;
    for &(offset, length) in places {
        disk.write_all_at(&vec![0xa5; length], made.offset + offset)?;
    }
    Ok(())
}

/// The blocks of a file or directory, and the size of each.
fn blocks(made: Option<&crate::machine::Made>, what: &str) -> Result<Vec<(u64, u64)>> {
    let image: ExtImage = made.context("the target is no disk")?.filesystem();
    let super_block = image.request("show_super_stats -h")?;
    let size: u64 = super::ground::field(&super_block, "Block size:")?.parse()?;
    image
        .request(&format!("blocks {what}"))?
        .split_whitespace()
        .map(|word| Ok((word.parse()?, size)))
        .collect()
}

/// The rest of the run is with a server that is away most of the time.
struct Slowed;

/// What is done while the capture runs.
fn during(running: &mut Running, ground: &Ground, inject: Inject) -> Result<Option<Slowed>> {
    match inject {
        Inject::Late => {
            running.expect("kdump: attempt 1 of ")?;
            thread::sleep(Duration::from_secs(4));
            let Target::Disk(made) = &ground.target else {
                bail!("the target is no disk");
            };
            disk::plug_in(running.vm.qmp(), &made.disk.image)?;
        }
        Inject::Stalls => {
            running.expect(COPYING)?;
            let (command, arguments) = disk::throttle(0, 1);
            running.vm.qmp().execute(command, &arguments)?;
        }
        Inject::Unplugged => {
            running.expect(UNDER_WAY)?;
            running
                .vm
                .qmp()
                .execute("device_del", &json!({"id": "harness0"}))?;
        }
        Inject::Signal(name) => {
            running.expect(UNDER_WAY)?;
            signal(&ground.target, name)?;
        }
        Inject::ServerSlow => {
            running.expect(UNDER_WAY)?;
            return Ok(Some(Slowed));
        }
        Inject::LinkLost => {
            running.expect(UNDER_WAY)?;
            link(running, false)?;
        }
        Inject::LinkFlaps => {
            // While the carrier is away nothing is written, so that the dump is not over before the second time.
            for line in ["kdump: attempt 1 of ", UNDER_WAY] {
                running.expect(line)?;
                link(running, false)?;
                thread::sleep(Duration::from_secs(2));
                link(running, true)?;
            }
            // TCP takes longer than this until it tries again.
            thread::sleep(Duration::from_millis(200));
            link(running, false)?;
            thread::sleep(Duration::from_secs(2));
            link(running, true)?;
        }
        Inject::GarbledVmcoreinfo => garble_vmcoreinfo(running, ground)?,
        _ => {}
    }
    Ok(None)
}

fn link(running: &mut Running, up: bool) -> Result<()> {
    let arguments = json!({"name": wire::CARD, "up": up});
    running.vm.qmp().execute("set_link", &arguments)?;
    Ok(())
}

/// Sends a signal to the server.
fn signal(target: &Target, name: &str) -> Result<()> {
    match target {
        Target::Disk(_) => bail!("a disk takes no signal"),
        Target::Nfs(servers) => servers.signal(name),
        // What it has saved is looked at by its eyes.
        Target::Ssh(peer) if name == "KILL" => peer.signal_sessions(name),
        Target::Ssh(peer) => peer.signal(name),
    }
}

/// Waits for the machine's end while the server works for a moment and is away for far longer, again and again.
fn slowed(running: Running, ground: &Ground) -> Result<Outcome> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let slow = scope.spawn(|| -> Result<u32> {
            let mut pauses = 0;
            while !is_over.load(Ordering::Relaxed) {
                signal(&ground.target, "STOP")?;
                thread::sleep(Duration::from_millis(1500));
                signal(&ground.target, "CONT")?;
                thread::sleep(Duration::from_millis(50));
                pauses += 1;
            }
            Ok(pauses)
        });
        let outcome = running.finish();
        is_over.store(true, Ordering::Relaxed);
        let pauses = slow
            .join()
            .map_err(|_| anyhow::anyhow!("the other thread panicked"))??;
        ensure!(pauses >= 3, "only {pauses} pauses");
        outcome
    })
}

/// Overwrites the text of VMCOREINFO in the guest's memory, when the capture kernel has begun and not looked at it yet.
fn garble_vmcoreinfo(running: &mut Running, ground: &Ground) -> Result<()> {
    let said = running.vm.console().lines();
    // Where it is and how much room it has, both hexadecimal.
    let place = said
        .iter()
        .find_map(|line| {
            line.text
                .split_once("harness: vmcoreinfo ")
                .map(|(_, rest)| rest)
        })
        .and_then(|rest| {
            let place = rest.split_whitespace().next()?;
            u64::from_str_radix(place.trim_start_matches("0x"), 16).ok()
        })
        .context("the first kernel did not say where VMCOREINFO is")?;
    running.expect("Linux version ")?;
    let qmp = running.vm.qmp();
    qmp.execute("stop", &json!({}))?;
    let ram = ground
        .cycle
        .ram_file
        .as_ref()
        .context("no file has the memory")?;
    let file = OpenOptions::new().read(true).write(true).open(ram)?;
    let mut head = [0; 32];
    file.read_exact_at(&mut head, place)?;
    ensure!(
        head.windows(10).any(|window| window == b"VMCOREINFO"),
        "there is no VMCOREINFO at {place:#x}"
    );
    // Behind the note's header of 12 bytes and its name of 12.
    file.write_all_at(&[0xa5; 2000], place + 24)?;
    qmp.execute("cont", &json!({}))?;
    Ok(())
}

/// Looks what came of it.
fn look(ground: &Ground, cell: &Cell, outcome: &Outcome) -> Result<Seen> {
    let said = outcome.line(&cell.pattern())?.text.clone();
    let count = if ground.spare.is_some() { 2 } else { 1 };
    let first = |how: &str| format!("attempt 1 of {count}{how}");
    let second = |how: &str| format!("attempt 2 of {count}{how}");
    let expected = match cell.must {
        Must::Complete | Must::Holes | Must::Unfiltered => vec![
            "init ".to_owned(),
            first(": "),
            "vmcore: ".to_owned(),
            first(" done: "),
        ],
        Must::Next => vec![
            "init ".to_owned(),
            first(": "),
            first(" failed: "),
            second(": ext3"),
            "vmcore: ".to_owned(),
            second(" done: "),
        ],
        Must::Partial => vec!["init ".to_owned(), first(": "), first(" failed: ")],
        Must::Restart => Vec::new(),
    };
    let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    if !expected.is_empty() {
        expected.push("final action: reboot");
    }
    proof::lines_behind(outcome, &expected)?;
    ensure!(
        outcome.end == End::Reset,
        "{:?}; {}",
        outcome.end,
        outcome.log.display()
    );
    let began = match outcome.line("kdump: init .* started") {
        Ok(line) => line.at,
        Err(_) => outcome.panicked_at()?,
    };
    let took = outcome.duration.saturating_sub(began);
    ensure!(
        took <= ground.bound,
        "{took:?} to the end, and the plan said {:?}; {}",
        ground.bound,
        outcome.log.display()
    );
    if outcome.line("and is left behind").is_ok() {
        nobody_waited(outcome)?;
    }
    let mut left = "";
    match cell.must {
        Must::Complete => ground.is_complete()?,
        Must::Holes => ground.has_what_can_be_read()?,
        Must::Unfiltered => ground.is_unfiltered()?,
        Must::Next | Must::Partial | Must::Restart => {
            let there = ground.left()?;
            ensure!(
                !matches!(there, Left::Whole),
                "a dump that nobody made complete has its name; {}",
                outcome.log.display()
            );
            left = there.word();
        }
    }
    match (cell.must, &ground.spare) {
        (Must::Next, Some(spare)) => {
            ground.stage.dump_is_on(&ground.machine, spare, 2)?;
        }
        (Must::Partial, _) => ground.partial_says_so()?,
        (Must::Restart, _) => {
            ensure!(
                outcome.line("kdump: attempt . of . done: ").is_err(),
                "a dump was made where none can be had"
            );
        }
        _ => {}
    }
    Ok(Seen {
        took,
        bound: ground.bound,
        said: tidy(&said),
        left,
    })
}

/// A child waits in the kernel and cannot be killed: the reset came soon all the same.
fn nobody_waited(outcome: &Outcome) -> Result<()> {
    outcome.line(
        "kdump: a process waits in the kernel and cannot be killed; the disks will not be synced",
    )?;
    let last = outcome.line("kdump: final action: ")?.at;
    let waited = outcome.duration.saturating_sub(last);
    ensure!(
        waited < Duration::from_secs(15),
        "{waited:?} from the final action to the reset; {}",
        outcome.log.display()
    );
    Ok(())
}

/// A console's line without what is not the same in each run.
fn tidy(line: &str) -> String {
    let text = line.find("kdump: ").map_or(line, |at| &line[at + 7..]);
    text.trim().to_owned()
}
