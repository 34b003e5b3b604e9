// SPDX-License-Identifier: MIT OR Apache-2.0
//! `encrypt_to` on disks of the machine and by NFS, in real captures; ssh has its own in `ssh.rs`.

use std::fs;

use anyhow::Result;
use qemu_tests::case::Case;
use qemu_tests::crash::Crash;
use qemu_tests::disk::Ext;
use qemu_tests::encrypted::{self, Key};
use qemu_tests::machine::{Content, DiskPlan, Machine};
use qemu_tests::proof::{Known, save_raw};
use qemu_tests::saved::Saved;
use qemu_tests::scene::Stage;
use qemu_tests::server::Servers;
use qemu_tests::setup::{self, Flavour};
use qemu_tests::vm::target_folder;
use qemu_tests::wire;

#[test]
fn an_encrypted_dump_on_ext4_opens_page_by_page() -> Result<()> {
    let key = Key::make(&target_folder().join("keys/ext4"))?;
    let conf = format!("ext4 NODE\nencrypt_to {}\ndefault reboot\n", key.public);
    let case = Case {
        page_exact: Some(31),
        ..Case::new(
            "encrypted-ext4",
            Flavour::Cloud6_1,
            DiskPlan::virtio(Content::Ext(Ext::new("ext4", 256))),
            &conf,
        )
    };
    let capture = case.capture()?;
    encrypted::only_attempt_saved(&capture.outcome)?;
    let filesystem = capture.target.filesystem();
    filesystem.check()?;
    let saved = Saved::only(
        &filesystem,
        "/var/crash",
        &capture.machine.work().join("out"),
    )?;
    saved.check_modes()?;
    let mut files = Vec::new();
    for name in encrypted::NAMES {
        files.push((name, fs::read(saved.file(name))?));
    }
    let bytes: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, file)| (*name, &file[..]))
        .collect();
    let panic_line = Crash::Sysrq.panic_line();
    encrypted::nothing_shows(&capture.outcome, panic_line, &bytes)?;
    encrypted::opens(
        &saved.folder,
        &key,
        &capture.known(),
        panic_line,
        capture.machine.work(),
    )?;
    capture.clean_up()
}

#[test]
fn an_encrypted_raw_dump_is_recovered_and_opens() -> Result<()> {
    let key = Key::make(&target_folder().join("keys/raw"))?;
    let conf = format!("raw NODE\nencrypt_to {}\ndefault reboot\n", key.public);
    let case = Case::new(
        "encrypted-raw",
        Flavour::Cloud6_1,
        DiskPlan::virtio(Content::Blank(256)),
        &conf,
    );
    let capture = case.capture()?;
    encrypted::only_attempt_saved(&capture.outcome)?;
    let work = capture.machine.work();
    let device = work.join("device");
    capture
        .target
        .copy_content(&device, capture.target.size_bytes)?;
    let panic_line = Crash::Sysrq.panic_line();
    encrypted::nothing_shows(
        &capture.outcome,
        panic_line,
        &[("the disk", &fs::read(&device)?)],
    )?;
    let said = save_raw(&device, &work.join("recovered"))?;
    assert!(said.contains(": complete dump saved to "), "{said}");
    let saved = Saved::only_in(&work.join("recovered"))?;
    saved.check_modes()?;
    encrypted::opens(&saved.folder, &key, &capture.known(), panic_line, work)?;
    capture.clean_up()
}

#[test]
fn an_encrypted_dump_on_an_nfs_server_opens() -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let servers = Servers::nfs("encrypted-nfs")?;
    let machine = Machine::new("encrypted-nfs")?;
    let key = Key::make(&machine.work().join("reader-key"))?;
    wire::describe(&machine)?;
    Servers::make_known_to(&machine.host_root())?;
    let conf = format!(
        "nfs {}\nencrypt_to {}\ndefault reboot\n",
        Servers::target(),
        key.public
    );
    let mut cycle = Stage::SMALL.cycle(&machine, &conf)?;
    cycle.namespace = Some(servers.namespace());
    wire::connect(&mut cycle);
    let outcome = cycle.run()?;
    encrypted::only_attempt_saved(&outcome)?;
    let panic_line = Crash::Sysrq.panic_line();
    encrypted::nothing_shows(&outcome, panic_line, &[])?;
    let saved = Saved::only_in(&servers.export().join("var/crash"))?;
    let known = Known::of(&kernel);
    encrypted::opens(&saved.folder, &key, &known, panic_line, machine.work())?;
    machine.clean_up()?;
    servers.clean_up()
}
