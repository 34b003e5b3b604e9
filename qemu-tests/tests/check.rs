// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mkkdumprd check` with Debian's sshd on loopback, and in a guest with an NFS server and a raw disk. What it does to file
//! systems is tried in an installed Debian too, by `packaged.rs`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use qemu_tests::disk::{self, Ext};
use qemu_tests::errand::Errand;
use qemu_tests::machine::Machine;
use qemu_tests::peer::{Server as Peer, Setup};
use qemu_tests::server::{NFS_PORT, PSEUDO, Servers};
use qemu_tests::setup::{self, Flavour};
use qemu_tests::{artifacts, guest};
use serde_json::Value;

/// The server is this machine under a name; what the capture kernel would know of the way there is made up.
const NETWORK: &str = "\
link eth0 mac=52:54:00:12:34:56 modules=virtio_pci,virtio_net
address eth0 10.0.2.15/24
route 127.0.0.0/8 dev eth0
";

struct Desk {
    machine: Machine,
    peer: Peer,
}

impl Desk {
    /// A described host that knows the server, and saves dumps below `path` there.
    fn new(name: &str, setup: &Setup, path: &str) -> Result<Self> {
        let peer = Peer::start(setup)?;
        let machine = Machine::new(name)?;
        let root = machine.host_root();
        peer.make_known_to(&root)?;
        let known = root.join("root/.ssh/known_hosts");
        fs::write(
            &known,
            fs::read_to_string(&known)?.replace("10.0.2.2", "nas"),
        )?;
        fs::create_dir_all(root.join("etc"))?;
        let port = peer.address.port();
        let place = peer.folder.join(path);
        for (file, text) in [
            ("kdump.network", NETWORK.to_owned()),
            ("etc/hosts", "127.0.0.1 nas\n".to_owned()),
            (
                "kdump.conf",
                format!(
                    "ssh root@[nas]:{port}\npath {}\ndefault reboot\n",
                    place.display()
                ),
            ),
        ] {
            fs::write(root.join(file), text)?;
        }
        Ok(Self { machine, peer })
    }

    /// What it says of its only target, and whether it says that all is well.
    fn check(&self) -> Result<(Value, bool)> {
        let kernel = setup::kernel(Flavour::Cloud6_1)?;
        let root = self.machine.host_root();
        let output = Command::new(artifacts::mkkdumprd()?)
            .args(["check", "--json", "--kver", &kernel.release])
            .arg("--modules-dir")
            .arg(kernel.modules())
            .arg("--host-root")
            .arg(&root)
            .arg("--conf")
            .arg(root.join("kdump.conf"))
            .arg("--init")
            .arg(artifacts::inits()?)
            .output()?;
        let said: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let target = said["targets"][0].clone();
        ensure!(
            said["good"] == output.status.success() && said["good"] == target["good"],
            "{said:#}"
        );
        Ok((target, output.status.success()))
    }
}

#[test]
fn a_server_is_logged_in_to_and_nothing_of_the_trial_stays_there() -> Result<()> {
    let desk = Desk::new("check-ssh", &Setup::open_ssh(), "root/dumps")?;
    let (target, good) = desk.check()?;
    let text = target["text"].as_str().unwrap_or("");
    ensure!(
        good && text.starts_with("logged in with the pinned key; ")
            && text.contains("read back and removed"),
        "{target:#}\n{}",
        desk.peer.log()
    );
    let left = fs::read_dir(desk.peer.folder.join("root/dumps"))?.count();
    ensure!(left == 0, "{left} files of the trial stay there");
    desk.machine.clean_up()
}

#[test]
fn a_server_that_would_refuse_the_dump_is_found_out() -> Result<()> {
    // A file has the place of the folder.
    let desk = Desk::new("check-no-folder", &Setup::open_ssh(), "root/taken")?;
    fs::create_dir_all(desk.peer.folder.join("root"))?;
    fs::write(desk.peer.folder.join("root/taken"), "")?;
    let (target, good) = desk.check()?;
    let text = target["text"].as_str().unwrap_or("");
    ensure!(!good && text.contains("root/taken"), "{target:#}");

    // Another server answers.
    let known = desk.machine.host_root().join("root/.ssh/known_hosts");
    let other = Peer::start(&Setup::open_ssh())?;
    other.make_known_to(&desk.machine.host_root())?;
    let line = fs::read_to_string(&known)?.replace(
        &format!("[10.0.2.2]:{}", other.address.port()),
        &format!("[nas]:{}", desk.peer.address.port()),
    );
    fs::write(&known, line)?;
    let (target, good) = desk.check()?;
    let text = target["text"].as_str().unwrap_or("");
    ensure!(
        !good && text.starts_with("logging in as root: "),
        "{target:#}"
    );
    desk.machine.clean_up()
}

/// One try each: a good export and a free disk; an export that the server does not have; a disk with something on it.
const IN_A_GUEST: &str = r#"
ifconfig lo 127.0.0.1 up
ifconfig eth0 10.0.2.15 up || fail ifconfig
route add default gw 10.0.2.2 || fail route
check() {
    mkkdumprd check --kver "$(uname -r)" --init /usr/lib/kdumprd > /harness/said 2>&1
    say "check: $?"
    while read -r line; do say "check -> $line"; done < /harness/said
}
check
sed -i s:/export:/nothing: /etc/kdump.conf /etc/fstab
check
sed -i s:/dev/vda:/dev/vdb: /etc/kdump.conf
check
say done
"#;

#[test]
fn an_export_is_written_to_and_a_raw_disk_is_only_looked_at() -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let machine = Machine::new("check-nfs-raw")?;
    let servers = Servers::nfs("check-nfs-raw")?;
    let image = machine.work().join("raw.img");
    disk::blank(&image, 64)?;
    let taken = machine.work().join("taken.img");
    Ext::new("ext2", 16).make(&taken)?;
    let modules = [
        "virtio_pci",
        "virtio_blk",
        "virtio_net",
        "nfsv4",
        "nfs",
        "ext4",
    ];
    let mut files = guest::installed_kernel(&kernel, &modules)?;
    let init = artifacts::inits()?;
    for name in ["init-local", "init-nfs", "init"] {
        files.push((
            format!("/usr/lib/kdumprd/{name}"),
            fs::read(init.join(name))?,
        ));
    }
    for (name, text) in [
        ("/etc/hostname", "guest\n".to_owned()),
        (
            "/etc/fstab",
            format!("10.0.2.2:{PSEUDO} /x nfs port={NFS_PORT},vers=4.2 0 0\n"),
        ),
        (
            "/etc/kdump.conf",
            format!("nfs 10.0.2.2:{PSEUDO}\nraw /dev/vda\ndefault reboot\n"),
        ),
    ] {
        files.push((name.to_owned(), text.into_bytes()));
    }
    let said = Errand {
        name: "check-nfs-raw-guest",
        kernel: &kernel,
        modules: &modules,
        programs: &[artifacts::mkkdumprd()?],
        files,
        script: IN_A_GUEST,
        images: &[&image, &taken],
        namespace: Some(servers.namespace()),
    }
    .run()?;
    let mut lines = said.iter();
    for expected in [
        "check: 0",
        "check -> 10.0.2.2:/export: good: a file was written, synced, renamed, read back and removed below /var/crash; ",
        "check -> /dev/vda: good: it is free and can be written, and was not",
        "check: 1",
        "check -> 10.0.2.2:/nothing: FAILED: mounting 10.0.2.2:/nothing",
        "check -> /dev/vda: good: ",
        "check: 1",
        "check -> mkkdumprd: /etc/kdump.conf:2: /dev/vdb holds ext2, and a raw target is overwritten; ",
    ] {
        ensure!(
            lines.any(|line| line.starts_with(expected)),
            "no `{expected}` in its place: {said:#?}"
        );
    }
    let left = fs::read_dir(servers.export().join("var/crash"))?.count();
    ensure!(left == 0, "{left} files of the trial stay on the server");
    let raw = fs::read(&image)?;
    ensure!(
        raw.iter().all(|&byte| byte == 0),
        "the raw disk was written to"
    );
    machine.clean_up()?;
    servers.clean_up()
}
