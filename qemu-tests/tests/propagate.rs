// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kdumpctl propagate` and the builder with Debian's sshd on loopback: a password is asked for once, and then the image has
//! what it takes to be let in.

use std::fs;
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use config::TargetSpec;
use qemu_tests::artifacts;
use qemu_tests::client::Client;
use qemu_tests::machine::Machine;
use qemu_tests::peer::{Scratch, Server as Peer, Setup, below};
use qemu_tests::run::{run, stdout};
use qemu_tests::setup::{self, Flavour};
use targets::ssh::{PublicKey, UserKey};

/// What the capture kernel would know of the way to each of the servers, whose addresses are the machine's own here.
const NETWORK: &str = "\
link eth0 mac=52:54:00:12:34:56 modules=virtio_pci,virtio_net
address eth0 10.0.2.15/24
address eth0 ::3/64
route 10.0.2.0/24 dev eth0
route ::/64 dev eth0
";
const PASSWORD: &str = "kdump";
/// Root's password is the word above: `openssl passwd -6 -salt test kdump`.
const SHADOW: &str = "root:$6$test$kGj.ZQd7lJ0INZdzVLYWxC5lQIcWmcg1vPt3vPiEXUWl0Pekpmp/6iRnXy69QVCQN8EP7oQVAPOJ8thG7aNCM/:19000::::::\n";

/// A server that asks for a password, and keeps the keys that it is given in its own folder.
fn server(change: impl FnOnce(&mut Setup)) -> Result<Peer> {
    let mut setup = Setup {
        lines: [
            "PasswordAuthentication yes",
            "AuthorizedKeysFile {folder}/home/.ssh/authorized_keys",
        ]
        .map(str::to_owned)
        .to_vec(),
        below: below(&format!(
            "mkdir -p {{folder}}/home/.ssh && mount --bind {{folder}}/home ~ && printf %s '{SHADOW}' > {{folder}}/shadow && \
             chmod 600 {{folder}}/shadow && mount --bind {{folder}}/shadow /etc/shadow"
        )),
        ..Setup::open_ssh()
    };
    change(&mut setup);
    Peer::start(&setup)
}

/// An administrator's machine: files of its own where `ssh` and `kdumpctl` look for them.
struct Desk(Scratch);

impl Desk {
    /// One whose `kdump.conf` has this target, and who answers what ssh asks.
    fn new(target: &str) -> Result<Self> {
        let desk = Self(Scratch::new()?);
        for (file, text) in [
            ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n".to_owned()),
            ("etc/hosts", "127.0.0.1 nas\n".to_owned()),
            // As Debian has it.
            (
                "etc/ssh/ssh_config",
                "Host *\nHashKnownHosts yes\n".to_owned(),
            ),
            ("etc/kdump.conf", format!("{target}\n")),
            (
                "answer",
                format!(
                    "#!/bin/sh\necho \"$1\" >> \"$(dirname \"$0\")/asked\"\ncase $1 in\n*assword*) echo {PASSWORD};;\n*) echo yes;;\nesac\n"
                ),
            ),
        ] {
            let path = desk.path(file);
            fs::create_dir_all(path.parent().context("a path")?)?;
            fs::write(path, text)?;
        }
        fs::set_permissions(desk.path("answer"), fs::Permissions::from_mode(0o700))?;
        fs::create_dir_all(desk.path("ssh"))?;
        Ok(desk)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.0.join(name)
    }

    /// What ssh asked so far.
    fn asked(&self) -> String {
        fs::read_to_string(self.path("asked")).unwrap_or_default()
    }

    /// Runs `kdumpctl propagate` at it.
    fn propagate(&self) -> Result<Output> {
        let d = self.0.0.display();
        let script = format!(
            "mount --bind {d}/etc /etc && mkdir -p ~/.ssh && mount --bind {d}/ssh ~/.ssh && mount -t tmpfs tmpfs /var/lock"
        );
        let words = below(&script);
        let (first, rest) = words.split_first().context("a command")?;
        Ok(Command::new(first)
            .args(rest)
            .arg(artifacts::kdumpctl()?)
            .arg("propagate")
            .env("SSH_ASKPASS", self.path("answer"))
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::null())
            .output()?)
    }

    /// A described host that has what ssh left at the desk.
    fn machine(&self, name: &str) -> Result<Machine> {
        let machine = Machine::new(name)?;
        let root = machine.host_root();
        fs::write(root.join("kdump.network"), NETWORK)?;
        fs::create_dir_all(root.join("etc"))?;
        fs::write(root.join("etc/hosts"), "10.0.2.2 nas\n")?;
        fs::create_dir_all(root.join("root/.ssh"))?;
        for entry in fs::read_dir(self.path("ssh"))? {
            let path = entry?.path();
            let name = path.file_name().context("a name")?;
            fs::copy(&path, root.join("root/.ssh").join(name))?;
        }
        Ok(machine)
    }
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]]
        .map(String::from_utf8_lossy)
        .concat()
}

/// The file `name` of an image.
fn in_image(image: &Path, name: &str) -> Result<String> {
    stdout(
        Command::new(artifacts::mkkdumprd()?)
            .arg("cat")
            .arg(image)
            .arg(name),
    )
}

/// The image's key and host keys get the client in, and a file to the server.
fn image_gets_in(image: &Path, peer: &Peer) -> Result<()> {
    let record = in_image(image, "etc/kdump.record")?;
    let record = config::record::parse(&record).map_err(|error| anyhow::anyhow!("{error}"))?;
    let attempt = record.attempts.first().context("an attempt")?;
    let TargetSpec::Ssh {
        port, host_keys, ..
    } = attempt.target
    else {
        anyhow::bail!("{attempt:?}");
    };
    ensure!(port == peer.address.port());
    let pinned = host_keys
        .iter()
        .filter_map(|key| PublicKey::from_text(key).ok());
    let key = UserKey::parse(in_image(image, "etc/kdump.key")?.as_bytes())?;
    let client = Client::with_keys(key, pinned.collect());
    let root = peer.folder.join("root");
    client.with(peer.address, |server| -> Result<()> {
        let directory = server.directory(&root.display().to_string(), "d")?;
        let file = directory.create("vmcore")?;
        Ok(directory.publish(file)?)
    })??;
    ensure!(root.join("d/vmcore").is_file());
    Ok(())
}

#[test]
fn the_key_is_made_and_installed_and_the_image_gets_in_with_it() -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let peer = server(|_| {})?;
    let target = format!("ssh root@[nas]:{}", peer.address.port());
    let desk = Desk::new(&target)?;
    let output = desk.propagate()?;
    let text = said(&output);
    ensure!(output.status.success(), "{text}\n{}", peer.log());
    ensure!(
        text.contains("Generating new ssh keys... /root/.ssh/kdump_id_ed25519"),
        "{text}"
    );
    ensure!(
        text.contains("has been added to the authorized keys of root@nas (port "),
        "{text}"
    );
    ensure!(desk.asked().contains("assword"), "{}", desk.asked());
    let installed = fs::read_to_string(peer.folder.join("home/.ssh/authorized_keys"))?;
    let public = fs::read_to_string(desk.path("ssh/kdump_id_ed25519.pub"))?;
    ensure!(installed == public, "{installed}");
    let known = fs::read_to_string(desk.path("ssh/known_hosts"))?;
    ensure!(known.starts_with("|1|"), "not hashed: {known}");

    let machine = desk.machine("propagate")?;
    image_gets_in(&machine.build(&kernel, &target)?, &peer)?;

    // A second time nobody is asked anything, and nothing is made.
    fs::write(desk.path("asked"), "")?;
    let text = said(&desk.propagate()?);
    ensure!(text.contains("Using existing keys..."), "{text}");
    ensure!(desk.asked().is_empty(), "{}", desk.asked());
    ensure!(fs::read_to_string(peer.folder.join("home/.ssh/authorized_keys"))? == public);
    machine.clean_up()
}

#[test]
fn an_address_of_ipv6_is_a_server_too() -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let peer = server(|setup| {
        setup.ip = Ipv6Addr::LOCALHOST.into();
        setup.host_key = "ecdsa";
    })?;
    let target = format!("ssh root@[::1]:{}", peer.address.port());
    let desk = Desk::new(&target)?;
    let output = desk.propagate()?;
    ensure!(output.status.success(), "{}\n{}", said(&output), peer.log());
    let machine = desk.machine("propagate-ipv6")?;
    image_gets_in(&machine.build(&kernel, &target)?, &peer)?;
    machine.clean_up()
}

#[test]
fn a_server_with_nothing_but_an_rsa_key_is_refused_with_what_to_do() -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let peer = server(|setup| setup.host_key = "rsa")?;
    let port = peer.address.port();
    let target = format!("ssh root@[nas]:{port}");
    let desk = Desk::new(&target)?;
    let output = desk.propagate()?;
    let text = said(&output);
    ensure!(output.status.code() == Some(1), "{text}");
    ensure!(text.contains("no matching host key type found"), "{text}");
    ensure!(
        text.contains("`ssh-keygen -A` there and a restart of its sshd"),
        "{text}"
    );
    ensure!(!peer.folder.join("home/.ssh/authorized_keys").exists());

    // The key by hand, and the server's as `ssh-keyscan` has it.
    let lines = stdout(Command::new("ssh-keyscan").args(["-p", &port.to_string(), "127.0.0.1"]))?;
    ensure!(lines.contains(" ssh-rsa "), "{lines}");
    fs::write(
        desk.path("ssh/known_hosts"),
        lines.replace("[127.0.0.1]", "[nas]"),
    )?;
    let machine = desk.machine("propagate-rsa")?;
    let error = run(&mut machine.mkkdumprd(&kernel, &target, "plan")?)
        .err()
        .context("a plan with an RSA host key")?
        .to_string();
    for part in [
        "kdump.conf:1: ",
        "/root/.ssh/known_hosts:1: ssh-rsa keys cannot be used",
        "`ssh-keygen -A` and a restart of its sshd",
    ] {
        ensure!(error.contains(part), "{error}");
    }
    machine.clean_up()
}
