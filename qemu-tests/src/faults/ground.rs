// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a cell is played: a machine, its first target of any kind, the next target, and a look at what is there afterwards.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::inject::Inject;
use super::{Cell, Kind, Must};
use crate::artifacts;
use crate::crash::obstacle;
use crate::cycle::Cycle;
use crate::disk::{Bus, Ext, Fault, MIB, Table};
use crate::machine::{Content, DiskPlan, Machine, Made, Presence};
use crate::peer::{Server as Peer, Setup, below, make_key};
use crate::proof::{self, Known};
use crate::run::{run, stdout};
use crate::saved::Saved;
use crate::scene::Stage;
use crate::server::{NFS_PORT, PSEUDO, Servers};
use crate::setup::Flavour;
use crate::wire;

/// Bounds that a person would notice, but that a busy machine keeps.
const BOUNDS: &str = "disk_timeout 20\nnetwork_timeout 20\nstall_timeout 10\ndump_deadline 240\n";

/// Where packets are lost TCP waits twice as long after each loss of the same one, and QEMU's own TCP begins with a second:
/// 31 s without a byte were seen. It has no selective acknowledgements either, so that 50 KiB get there in a second. What may
/// stand still is what a machine has by default.
const LOSSY_BOUNDS: &str =
    "disk_timeout 20\nnetwork_timeout 20\nstall_timeout 120\ndump_deadline 1200\n";
/// How long the machine may then take as a whole.
const LOSSY_LIMIT: Duration = Duration::from_secs(1800);

const PARTUUID: &str = "6a3d5d7f-9c70-4a1f-8b46-1e7b8b2d0e21";

/// The first target.
pub(super) enum Target {
    /// A disk of the guest.
    Disk(Made),
    /// An NFS server.
    Nfs(Servers),
    /// A server by ssh.
    Ssh(Peer),
}

/// What is left at a target.
pub(super) enum Left {
    /// Nothing, or nothing that can be read.
    Nothing,
    /// The crashed kernel's log, without a vmcore.
    Log,
    /// A part of the dump, which says so.
    Partial,
    /// A dump under its own name.
    Whole,
}

impl Left {
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Log => "the log",
            Self::Partial => "the log and an incomplete dump",
            Self::Whole => "a dump",
        }
    }
}

/// Everything of one cell before the panic.
pub(super) struct Ground {
    pub(super) machine: Machine,
    pub(super) stage: Stage,
    pub(super) target: Target,
    pub(super) spare: Option<Made>,
    pub(super) cycle: Cycle,
    /// What the plan says that all of it takes at most.
    pub(super) bound: Duration,
    kind: Kind,
}

/// The size of a server's file system that has no room.
const FULL_BYTES: u64 = 1 << 20;

/// What the crash must leave free on the target.
fn room(percent: u64, dump_bytes: u64) -> u64 {
    dump_bytes * percent / 100
}

impl Ground {
    /// Puts the machine together and builds its image. `dump_bytes` is how large a dump of this guest is, for disks that are
    /// nearly full.
    pub(super) fn new(name: &str, inject: Inject, cell: &Cell, dump_bytes: u64) -> Result<Self> {
        let kind = cell.kind;
        let stage = Stage {
            flavour: match inject {
                // The small kernel has no driver for it.
                Inject::Unplugged => Flavour::Generic6_1,
                _ => Flavour::Cloud6_1,
            },
            bus: match inject {
                Inject::Unplugged => Bus::Usb,
                Inject::ModuleMissing => Bus::VirtioScsi,
                _ => Bus::Virtio,
            },
            ..Stage::SMALL
        };
        let kernel = stage.kernel()?;
        let mut machine = Machine::new(name)?;
        let mut spare = None;
        let mut add_spare = |machine: &mut Machine| -> Result<()> {
            if cell.must != Must::Partial {
                let content = Content::Ext(Ext::new("ext3", 256));
                spare = Some(machine.add(&DiskPlan::virtio(content))?);
            }
            Ok(())
        };
        // A disk that is not there must not leave its place to the other one.
        let is_absent = matches!(inject, Inject::Absent | Inject::Late);
        if is_absent {
            add_spare(&mut machine)?;
        }
        let target = target(name, inject, kind, &stage, &mut machine, dump_bytes)?;
        if !is_absent {
            add_spare(&mut machine)?;
        }
        let mut conf = match &target {
            Target::Disk(made) => {
                let word = if kind == Kind::Raw { "raw" } else { "ext4" };
                format!("{word} {}\n", made.node)
            }
            Target::Nfs(_) => {
                let server = server_name(inject);
                let fstab = format!("{server}:{PSEUDO} /x nfs port={NFS_PORT} 0 0\n");
                fs::write(machine.host_root().join("etc/fstab"), fstab)?;
                format!("nfs {server}:{PSEUDO}\n")
            }
            Target::Ssh(peer) => {
                make_known(peer, inject, &machine.host_root())?;
                let port = peer.address.port();
                match inject {
                    // An address that QEMU's network gives to nobody.
                    Inject::ServerMissing => format!("ssh root@[{}]:{port}\n", server_name(inject)),
                    _ => format!("ssh {}\n", peer.target()),
                }
            }
        };
        if let Some(spare) = &spare {
            conf += &format!("ext3 {}\n", spare.node);
        }
        if !kind.is_disk() {
            fs::write(machine.host_root().join("kdump.network"), wire::NETWORK)?;
        }
        conf += match inject {
            Inject::PacketsLost => LOSSY_BOUNDS,
            _ => BOUNDS,
        };
        conf += "default reboot\n";
        if let Inject::Obstacle(parameters) = inject {
            machine.install_module(&kernel, &obstacle(&kernel)?)?;
            conf += &format!("extra_modules obstacle\noptions obstacle {parameters}\n");
            if parameters.contains(" from=") {
                // Each page is looked at, so that those which cannot be read are among them.
                conf += "core_collector makedumpfile -c -d 1\n";
            }
        }
        let plan = stdout(machine.mkkdumprd(&kernel, &conf, "plan")?.arg("--json"))?;
        let plan: serde_json::Value = serde_json::from_str(&plan)?;
        let bound = plan["whole_s"].as_u64().context("the plan has no bound")?;
        let mut cycle = stage.cycle(&machine, &conf)?;
        if matches!(inject, Inject::PacketsLost) {
            cycle.limit = LOSSY_LIMIT;
        }
        if let Target::Nfs(servers) = &target {
            cycle.namespace = Some(servers.namespace());
        }
        Ok(Self {
            machine,
            stage,
            target,
            spare,
            cycle,
            bound: Duration::from_secs(bound),
            kind,
        })
    }

    /// The dumps in the save path of the first target.
    fn dumps(&self) -> Result<Vec<Saved>> {
        let out = self.machine.work().join("first");
        let folder = match &self.target {
            Target::Disk(made) => return Saved::all(&made.filesystem(), "/var/crash", &out),
            // What has ended has no view of its own any more.
            Target::Nfs(servers) if servers.seen().is_dir() => servers.seen().join("var/crash"),
            Target::Nfs(servers) => servers.export().join("var/crash"),
            Target::Ssh(peer) => in_peer(peer).join("crash"),
        };
        Saved::below(&folder)
    }

    /// What the first target has after an attempt that failed.
    pub(super) fn left(&self) -> Result<Left> {
        if let (Target::Disk(made), Kind::Raw) = (&self.target, self.kind) {
            return raw_left(made, &self.machine);
        }
        // What cannot be read has nothing that anyone could take for a dump.
        let Ok(dumps) = self.dumps() else {
            return Ok(Left::Nothing);
        };
        let Some(dump) = dumps.last() else {
            return Ok(Left::Nothing);
        };
        let names = dump.names()?;
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        if has("vmcore") || has("vmcore.flat") {
            return Ok(Left::Whole);
        }
        if !has("vmcore-dmesg.txt") {
            return Ok(Left::Nothing);
        }
        ensure!(
            dump.dmesg()?.contains(self.stage.crash().panic_line()),
            "the saved log has no panic"
        );
        Ok(if has("vmcore-incomplete") {
            Left::Partial
        } else {
            Left::Log
        })
    }

    /// Checks the incomplete dump at the only target: it says what it is, and its log and its headers can be read.
    pub(super) fn partial_says_so(&self) -> Result<()> {
        if let (Target::Disk(made), Kind::Raw) = (&self.target, self.kind) {
            let saved = recovered(made, &self.machine)?;
            ensure!(saved.manifest()?["complete"] == false);
            return Ok(());
        }
        let dumps = self.dumps()?;
        let dump = dumps.last().context("nothing is left")?;
        let manifest = dump.manifest()?;
        ensure!(manifest["complete"] == false, "{manifest}");
        // It opens as far as it goes.
        let file = dump.file("vmcore-incomplete");
        crate::check::dumpfile::Dumpfile::open(&file).map(|_| ())
    }

    /// Checks the dump at the first target.
    pub(super) fn is_complete(&self) -> Result<()> {
        let kernel = self.stage.kernel()?;
        if let Target::Disk(made) = &self.target {
            if self.kind == Kind::Raw {
                let device = self.machine.work().join("device");
                made.copy_content(&device, made.size_bytes)?;
                let crash = self.stage.crash();
                let known = Known::of(&kernel);
                proof::raw_is_good(&device, &known, crash, self.machine.work())?;
            } else {
                self.stage.dump_is_on(&self.machine, made, 1)?;
            }
            return Ok(());
        }
        let dumps = self.dumps()?;
        let [saved] = dumps.as_slice() else {
            anyhow::bail!("not one dump: {dumps:?}");
        };
        saved.check_modes()?;
        ensure!(saved.manifest()?["complete"] == true);
        let dmesg = fs::read(saved.file("vmcore-dmesg.txt"))?;
        let known = Known {
            dmesg: Some(&dmesg),
            ..Known::of(&kernel)
        };
        proof::dump_is_good(&saved.file("vmcore"), &known, self.machine.work())
    }

    /// Checks the dump at the first target of a vmcore of which the end is missing. makedumpfile reads nothing of it, as the
    /// table of memory sections was there.
    pub(super) fn has_what_can_be_read(&self) -> Result<()> {
        let dumps = self.dumps()?;
        let [saved] = dumps.as_slice() else {
            anyhow::bail!("not one dump: {dumps:?}");
        };
        let manifest = saved.manifest()?;
        ensure!(manifest["complete"] == true, "{manifest}");
        let dmesg = saved.dmesg()?;
        ensure!(
            dmesg.contains(self.stage.crash().panic_line()),
            "the saved log has no panic"
        );
        let file = saved.file("vmcore");
        crate::check::dumpfile::Dumpfile::open(&file)?;
        let log = self.machine.work().join("log");
        run(Command::new(artifacts::vmcore()?)
            .arg("--dump-dmesg")
            .args([&file, &log]))?;
        ensure!(
            fs::read_to_string(&log)? == dmesg,
            "the dump has another log than the one saved beside it"
        );
        Ok(())
    }

    /// Checks the unfiltered dump at the first target. Its VMCOREINFO is garbled, so that nobody reads more of it than its
    /// pages by their numbers.
    pub(super) fn is_unfiltered(&self) -> Result<()> {
        let dumps = self.dumps()?;
        let [saved] = dumps.as_slice() else {
            anyhow::bail!("not one dump: {dumps:?}");
        };
        let manifest = saved.manifest()?;
        let number = |name: &str| manifest["pages"][name].as_u64();
        let all = number("kept")
            .zip(number("zero"))
            .map(|(kept, zero)| kept + zero);
        ensure!(
            manifest["complete"] == true
                && manifest["level_used"] == 1
                && number("unreadable") == Some(0)
                && all == number("present"),
            "{manifest}"
        );
        let mut signature = [0; 8];
        let file = File::open(saved.file("vmcore"))?;
        file.read_exact_at(&mut signature, 0)?;
        ensure!(signature == *b"KDUMP   ", "{signature:?}");
        ensure!(
            manifest["vmcore_bytes"]
                .as_u64()
                .is_some_and(|bytes| bytes > 16 * MIB),
            "{manifest}"
        );
        Ok(())
    }

    /// Removes everything but the logs.
    pub(super) fn clean_up(self) -> Result<()> {
        if let Target::Nfs(servers) = self.target {
            servers.clean_up()?;
        }
        self.machine.clean_up()
    }
}

fn server_name(inject: Inject) -> &'static str {
    match inject {
        Inject::ServerMissing => "10.0.2.99",
        _ => "10.0.2.2",
    }
}

/// The folder `/var` of the server, which it has for itself.
fn in_peer(peer: &Peer) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root/var", peer.pid()))
}

fn target(
    name: &str,
    inject: Inject,
    kind: Kind,
    stage: &Stage,
    machine: &mut Machine,
    dump_bytes: u64,
) -> Result<Target> {
    Ok(match kind {
        Kind::Ext | Kind::Raw => Target::Disk(disk(inject, kind, stage, machine, dump_bytes)?),
        Kind::Nfs => {
            let folder = "\"$folder/export\"";
            let prepare = match inject {
                Inject::Full(percent) => {
                    let bytes = limit(percent, dump_bytes);
                    format!(
                        "mount -t tmpfs -o size={bytes} tmpfs {folder}; {}",
                        filler(folder, percent)
                    )
                }
                Inject::PathIsALoop => {
                    format!("mkdir {folder}/var; ln -s crash {folder}/var/crash")
                }
                _ => String::new(),
            };
            let mut servers = Servers::nfs_of(name, &prepare)?;
            if matches!(inject, Inject::ServerRefuses) {
                servers.refuse()?;
            }
            Target::Nfs(servers)
        }
        Kind::Ssh => {
            // The save path is that of every target.
            let script = match inject {
                Inject::Full(percent) => format!(
                    "mount -t tmpfs -o size={} tmpfs /var && mkdir /var/crash; {}",
                    limit(percent, dump_bytes),
                    filler("/var", percent)
                ),
                Inject::PathIsALoop => {
                    "mount -t tmpfs tmpfs /var && ln -s crash /var/crash".to_owned()
                }
                Inject::PathMissing => "mount -t tmpfs tmpfs /var".to_owned(),
                _ => "mount -t tmpfs tmpfs /var && mkdir /var/crash".to_owned(),
            };
            let peer = Peer::start(&Setup {
                below: below(&format!("{{ {script}; }}")),
                ..Setup::open_ssh()
            })?;
            if matches!(inject, Inject::ServerRefuses) {
                peer.signal("KILL")?;
            }
            Target::Ssh(peer)
        }
    })
}

/// The size of a server's tmpfs: 0 would be no limit, so one without room is small, and [`filler`] fills it.
fn limit(percent: u64, dump_bytes: u64) -> u64 {
    room(percent, dump_bytes).max(FULL_BYTES)
}

/// Fills what is to have no room. What it writes is bounded by itself too: it lies in this machine's memory.
fn filler(folder: &str, percent: u64) -> String {
    match percent {
        0 => format!(
            "dd if=/dev/zero of={folder}/full bs=64k count={} 2> /dev/null; true",
            (FULL_BYTES >> 16) + 1
        ),
        _ => "true".to_owned(),
    }
}

/// The guest's disk that is the target.
fn disk(
    inject: Inject,
    kind: Kind,
    stage: &Stage,
    machine: &mut Machine,
    dump_bytes: u64,
) -> Result<Made> {
    let content = machine.work().join("content");
    let sized = machine.work().join("sized.img");
    let mut ext = Ext::new("ext4", 256);
    let mut crash_folder = content.join("var/crash");
    match inject {
        Inject::NoInodes => {
            ext.size_mib = 64;
            ext.inodes = Some(16);
            fs::create_dir_all(&crash_folder)?;
            ext.content = Some(&content);
            ext.make(&sized)?;
            // More than were asked for: mkfs fills whole blocks with them.
            for number in 0..number(&sized, "Free inodes:")? {
                fs::write(content.join(number.to_string()), "")?;
            }
        }
        Inject::PathIsALoop => {
            crash_folder.pop();
            fs::create_dir_all(&crash_folder)?;
            symlink("crash", crash_folder.join("crash"))?;
            ext.content = Some(&content);
        }
        Inject::Directory => {
            // So many entries that they need a block of their own.
            for number in 0..100 {
                fs::create_dir_all(
                    crash_folder.join(format!("older-dump-of-another-year-{number}")),
                )?;
            }
            ext.content = Some(&content);
        }
        Inject::GarbledVmcoreinfo => ext.size_mib = 640,
        Inject::Full(percent) if kind == Kind::Ext => {
            ext.size_mib = 64;
            ext.make(&sized)?;
            let room = room(percent, dump_bytes);
            // Folders and the list of the file's own blocks take some, too.
            let free_bytes = number(&sized, "Free blocks:")? * number(&sized, "Block size:")?;
            let full = free_bytes.saturating_sub(room + (64 << 10));
            fs::create_dir_all(&crash_folder)?;
            fs::write(content.join("full"), vec![0xa5; usize::try_from(full)?])?;
            ext.content = Some(&content);
        }
        _ => {}
    }
    let content = match (kind, inject) {
        (Kind::Raw, Inject::Full(percent)) => {
            // The last MiB has the log and the manifest.
            let size = (MIB + room(percent, dump_bytes)).next_multiple_of(4096);
            fs::write(&sized, "")?;
            OpenOptions::new().write(true).open(&sized)?.set_len(size)?;
            Content::Copy(&sized)
        }
        (Kind::Raw, _) => Content::Blank(256),
        _ => Content::Ext(ext),
    };
    let made = machine.add(&DiskPlan {
        fault: match inject {
            Inject::Disk(fault) => fault,
            Inject::GoneFromAWriteOn if kind == Kind::Raw => Fault::WritesFailAfter(5),
            Inject::GoneFromAWriteOn => Fault::WritesFailAfter(16),
            _ => Fault::None,
        },
        // Where it is plugged in later is another place: it is known by its partition.
        table: matches!((kind, inject), (Kind::Raw, Inject::Late))
            .then_some((Table::Gpt, PARTUUID)),
        presence: match inject {
            Inject::Absent | Inject::Late => Presence::Later,
            _ => Presence::Always,
        },
        ..stage.disk(content)
    })?;
    Ok(made)
}

/// A number of an ext4's superblock, as debugfs says it.
fn number(image: &Path, name: &str) -> Result<u64> {
    let text = crate::disk::ExtImage::whole(image).request("show_super_stats -h")?;
    Ok(field(&text, name)?.parse()?)
}

/// A field of what debugfs says of a superblock.
pub(super) fn field<'t>(text: &'t str, name: &str) -> Result<&'t str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
        .with_context(|| format!("no `{name}` in {text}"))
}

fn make_known(peer: &Peer, inject: Inject, host: &Path) -> Result<()> {
    let other = peer.folder.join("other");
    match inject {
        Inject::WrongHostKey => {
            make_key(&other, "ed25519")?;
            let key = fs::read_to_string(other.with_extension("pub"))?;
            peer.make_known_as(host, &peer.folder.join("id"), key.trim())
        }
        Inject::WrongUserKey => {
            make_key(&other, "ed25519")?;
            peer.make_known_as(host, &other, &peer.host_key)
        }
        Inject::ServerMissing => {
            peer.make_known_to(host)?;
            let file = host.join("root/.ssh/known_hosts");
            let text = fs::read_to_string(&file)?.replace("10.0.2.2", server_name(inject));
            Ok(fs::write(&file, text)?)
        }
        _ => peer.make_known_to(host),
    }
}

/// What `save-raw` recovers of the device.
fn recovered(made: &Made, machine: &Machine) -> Result<Saved> {
    let device = machine.work().join("device");
    made.copy_content(&device, made.size_bytes)?;
    let to = machine.work().join("recovered");
    let said = proof::save_raw(&device, &to)?;
    ensure!(said.contains("INCOMPLETE dump saved to "), "{said}");
    Saved::only_in(&to)
}

fn raw_left(made: &Made, machine: &Machine) -> Result<Left> {
    let device = machine.work().join("device");
    made.copy_content(&device, made.size_bytes)?;
    let Ok(said) = proof::save_raw(&device, &machine.work().join("left")) else {
        return Ok(Left::Nothing);
    };
    Ok(if said.contains("INCOMPLETE dump saved to ") {
        Left::Partial
    } else if said.contains("complete dump saved to ") {
        Left::Whole
    } else {
        Left::Nothing
    })
}
