// SPDX-License-Identifier: MIT OR Apache-2.0
//! One machine that crashes again and again, its dump each time for another target than the time before: all of them are
//! there in the end, and nothing else is.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_tests::console::Wait;
use qemu_tests::crash::Crash;
use qemu_tests::cycle::Cycle;
use qemu_tests::disk::Ext;
use qemu_tests::machine::{Content, Machine, Made};
use qemu_tests::peer::{Server as Peer, Setup};
use qemu_tests::proof::{self, Known};
use qemu_tests::saved::Saved;
use qemu_tests::scene::Stage;
use qemu_tests::server::Servers;
use qemu_tests::setup::Kernel;
use qemu_tests::vm::Vm;
use qemu_tests::{artifacts, errand, guest, wire};
use regex::Regex;
use serde_json::json;

const STAGE: Stage = Stage::SMALL;

/// How long one start, and one capture, may take; what hangs is told apart after that.
const STEP: Duration = Duration::from_secs(120);

/// What a dump of this guest needs, with room to spare.
const DUMP_MIB: u64 = 40;

/// Where the guest has the ssh server, which is not in the network that the NFS server is in.
const SSH_SEEN: &str = "10.0.2.100";

/// The targets, in the order that they take turns in.
const TARGETS: [&str; 4] = ["ext4", "raw", "nfs", "ssh"];

/// The first kernel: a counter on a disk of its own says whose turn it is. The dump of a raw target is recovered at the start
/// after it, as the service does.
const LOAD: &str = r#"
turn=$(dd if=/dev/vdc bs=8 count=1 2> /dev/null | tr -dc 0-9)
turn=${turn:-0}
if [ $turn -gt 0 ] && [ $(((turn - 1) % 4)) = 1 ]; then
    mount -t ext4 /dev/vda /mnt || fail "mount: $?"
    vmcore save-raw /dev/vdb /mnt/recovered > /harness/said 2>&1 || fail "save-raw: $(cat /harness/said)"
    say "recovered: $(cat /harness/said)"
    umount /mnt || fail umount
fi
printf '%-8d' $((turn + 1)) | dd of=/dev/vdc conv=notrunc 2> /dev/null
sync
/sbin/kexec -p /harness/vmlinuz --initrd=/harness/image-$((turn % 4)) --reuse-cmdline > /harness/said 2>&1 ||
    fail "kexec -p: $? $(cat /harness/said)"
say "turn $turn"
"#;

/// The machine, its servers, and how often each target had its turn.
struct Ground {
    kernel: Kernel,
    machine: Machine,
    disk: Made,
    servers: Servers,
    peer: Peer,
    cycle: Cycle,
}

impl Ground {
    fn new(name: &str, cycles: u64) -> Result<Self> {
        let kernel = STAGE.kernel()?;
        let servers = Servers::nfs(name)?;
        let peer = Peer::start(&Setup::open_ssh())?;
        let mut machine = Machine::new(name)?;
        // Half of the dumps end there: its own, and those of the raw disk.
        let size = 64 + cycles.div_ceil(2) * DUMP_MIB;
        let disk = machine.add(&STAGE.disk(Content::Ext(Ext::new("ext4", size))))?;
        let raw = machine.add(&STAGE.disk(Content::Blank(2 * DUMP_MIB)))?;
        machine.add(&STAGE.disk(Content::Blank(1)))?;
        let host = machine.host_root();
        wire::describe(&machine)?;
        Servers::make_known_to(&host)?;
        peer.make_known_to(&host)?;
        let known = host.join("root/.ssh/known_hosts");
        fs::write(
            &known,
            fs::read_to_string(&known)?.replace("10.0.2.2", SSH_SEEN),
        )?;
        let ssh = peer.target().replace("10.0.2.2", SSH_SEEN);
        let confs = [
            format!("ext4 {}\n", disk.node),
            format!("raw {}\n", raw.node),
            format!("nfs {}\n", Servers::target()),
            format!("ssh {ssh}\npath {}\n", peer.folder.join("root").display()),
        ];
        let mut cycle = STAGE.cycle(&machine, &format!("{}default reboot\n", confs[0]))?;
        for (number, conf) in confs.iter().enumerate() {
            let image = machine.build(&kernel, &format!("{conf}default reboot\n"))?;
            let place = format!("/harness/image-{number}");
            cycle.first.files.push((place, fs::read(image)?));
        }
        cycle
            .first
            .files
            .extend(errand::with_libraries(&artifacts::vmcore()?)?);
        cycle.first.modules = vec!["virtio_pci", "virtio_blk", "ext4"];
        cycle.first.load = Some(LOAD.to_owned());
        cycle.namespace = Some(servers.namespace());
        // QEMU is in the NFS server's network; the way out of it to sshd is a program.
        let port = peer.address.port();
        cycle.qemu.extend(
            [
                "-netdev".to_owned(),
                format!(
                    "user,id=net0,guestfwd=tcp:{SSH_SEEN}:{port}-cmd:nsenter --net --target {} busybox nc 127.0.0.1 {port}",
                    peer.pid()
                ),
                "-device".to_owned(),
                wire::DEVICE.to_owned(),
            ]
            .map(Into::into),
        );
        Ok(Self {
            kernel,
            machine,
            disk,
            servers,
            peer,
            cycle,
        })
    }

    /// The dumps of a folder, each held against all that is known of it.
    fn good(&self, folder: &Path, before: &str) -> Result<usize> {
        let known = Known::of(&self.kernel);
        let all = Saved::below(folder)?;
        for saved in &all {
            (saved.check_names(before, ":"))
                .and_then(|()| saved.check_modes())
                .and_then(|()| {
                    proof::folder_is_good(saved, &known, Crash::Sysrq, self.machine.work())
                })
                .with_context(|| format!("the dump {}", saved.folder.display()))?;
        }
        Ok(all.len())
    }
}

/// Waits for one of two lines; none when neither comes in time.
fn wait(vm: &mut Vm, pattern: &str) -> Result<Option<String>> {
    match vm.wait(&Regex::new(pattern)?, STEP) {
        Wait::Found(line) => Ok(Some(line.text)),
        Wait::TimedOut => Ok(None),
        Wait::Ended => anyhow::bail!("QEMU ended; console: {}", vm.log().display()),
    }
}

/// What came of all cycles.
#[derive(Debug, Default)]
struct Sum {
    /// By target, as in [`TARGETS`].
    done: [usize; 4],
    failures: Vec<String>,
    /// Kernels that hung before any of our code ran; they were reset.
    hung: u32,
}

/// Lets the machine go round until `cycles` captures came to an end, and the last target had its turn.
fn go_round(vm: &mut Vm, cycles: usize) -> Result<Sum> {
    let mut sum = Sum::default();
    loop {
        let total: usize = sum.done.iter().sum::<usize>() + sum.failures.len();
        let Some(_) = wait(vm, guest::UP)? else {
            sum.hung += 1;
            vm.qmp().execute("system_reset", &json!({}))?;
            continue;
        };
        let line = vm.expect(&format!("harness: turn [0-9]+|{}", guest::FAILED), STEP)?;
        let turn: usize = line
            .text
            .rsplit(' ')
            .next()
            .and_then(|word| word.trim().parse().ok())
            .with_context(|| format!("{}; console: {}", line.text, vm.log().display()))?;
        // The dump of a raw disk is recovered at the next start: the first target's turn has to come, and to be no more.
        if total >= cycles && turn.is_multiple_of(TARGETS.len()) {
            return Ok(sum);
        }
        let Some(_) = wait(vm, "kdump: init ")? else {
            sum.hung += 1;
            vm.qmp().execute("system_reset", &json!({}))?;
            continue;
        };
        let end = "kdump: attempt 1 of 1 (done|failed): ";
        match wait(vm, end)? {
            Some(line) if line.contains("done: ") => {
                sum.done[turn % TARGETS.len()] += 1;
                // The way back is part of it.
                vm.expect("reboot: machine restart", STEP)?;
            }
            said => {
                let why = said.unwrap_or_else(|| "the capture never ended".to_owned());
                sum.failures
                    .push(format!("turn {turn}, {}: {why}", TARGETS[turn % 4]));
                if wait(vm, "reboot: machine restart")?.is_none() {
                    vm.qmp().execute("system_reset", &json!({}))?;
                }
            }
        }
    }
}

fn crash_again_and_again(name: &str, cycles: usize) -> Result<()> {
    let ground = Ground::new(name, cycles as u64 + 8)?;
    let mut vm = ground
        .cycle
        .start_to_go_on(STEP * 2 * (cycles as u32 + 2))?;
    let sum = go_round(&mut vm, cycles)?;
    let (log, age) = (vm.log().to_owned(), vm.age());
    drop(vm);
    println!(
        "{} captures in {} s: {:?} to {TARGETS:?}; {} failures; {} kernels hung before our code ran",
        sum.done.iter().sum::<usize>(),
        age.as_secs(),
        sum.done,
        sum.failures.len(),
        sum.hung
    );
    ensure!(
        sum.failures.is_empty(),
        "{:#?}; console: {}",
        sum.failures,
        log.display()
    );
    ground.disk.filesystem().check()?;
    let out = |path: &str, to: &str| -> Result<PathBuf> {
        let to = ground.machine.work().join(to);
        ground.disk.filesystem().copy_out(path, &to)
    };
    let found = [
        ground.good(&out("/var/crash", "ext4")?, "")?,
        ground.good(&out("/recovered", "raw")?, "")?,
        ground.good(&ground.servers.export().join("var/crash"), "10.0.2.15-")?,
        ground.good(&ground.peer.folder.join("root"), "10.0.2.15-")?,
    ];
    ensure!(
        found == sum.done,
        "{found:?} dumps are there, {:?} were saved",
        sum.done
    );
    ground.machine.clean_up()?;
    ground.servers.clean_up()
}

#[test]
fn each_target_has_its_turn_twice() -> Result<()> {
    crash_again_and_again("long-run-8", 2 * TARGETS.len())
}

#[test]
#[ignore = "twenty minutes and more; runs under --full"]
fn a_hundred_crashes_in_a_row_leave_a_hundred_dumps_and_nothing_else() -> Result<()> {
    let cycles = env::var("KDUMPRD_CYCLES").map_or(Ok(100), |text| text.parse())?;
    crash_again_and_again("long-run-100", cycles)
}
