// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mkkdumprd selftest` and `estimate`, as a person runs them: on a described host, without root, with its own QEMU.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use qemu_tests::artifacts;
use qemu_tests::cycle::work_folder;
use qemu_tests::run::run;
use qemu_tests::setup::{self, Flavour};
use serde_json::Value;

/// A described host with a disk that has ext4 and one that has nothing, and a card that leads to a server.
fn host(name: &str, conf: &str) -> Result<PathBuf> {
    let folder = work_folder(name)?;
    fs::create_dir_all(folder.join("etc"))?;
    for (file, text) in [
        (
            "kdump.devices",
            "/dev/sda size=8000000000 fstype=ext4 uuid=5a7c2f3e-0000-4000-8000-000000000001 modules=virtio_pci,virtio_blk\n\
             /dev/sdb size=8000000000 bus_path=pci-0000:00:04.0 modules=virtio_pci,virtio_blk\n",
        ),
        (
            "kdump.network",
            "link eth0 mac=52:54:00:12:34:56 modules=virtio_pci,virtio_net\naddress eth0 10.0.2.15/24\nroute 10.0.2.0/24 dev eth0\n",
        ),
        ("etc/hostname", "rehearsed\n"),
        ("kdump.conf", conf),
    ] {
        fs::write(folder.join(file), text)?;
    }
    Ok(folder)
}

/// The command for that host. Its QEMU emulates the processor, as elsewhere in these tests.
fn mkkdumprd(word: &str, host: &Path) -> Result<Command> {
    let image = setup::kernel(Flavour::Cloud6_1)?.image();
    mkkdumprd_with(&image, word, host)
}

/// The same with this file as the kernel.
fn mkkdumprd_with(image: &Path, word: &str, host: &Path) -> Result<Command> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    // It is looked for beside the program.
    artifacts::vmcore()?;
    let mut command = Command::new(artifacts::mkkdumprd()?);
    command
        .arg(word)
        .args(["--json", "--accel", "tcg"])
        .args(["--kver", &kernel.release])
        .arg("--kernel")
        .arg(image)
        .arg("--modules-dir")
        .arg(kernel.modules())
        .arg("--host-root")
        .arg(host)
        .arg("--conf")
        .arg(host.join("kdump.conf"))
        .arg("--init")
        .arg(artifacts::inits()?)
        .arg("--work")
        .arg(host.join("work"));
    Ok(command)
}

/// What it printed, and whether it said that all is well.
fn said(mut command: Command) -> Result<(Value, bool)> {
    let output = command.output()?;
    let value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "{command:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    Ok((value, output.status.success()))
}

#[test]
fn every_target_gets_a_dump_that_is_read_back_and_what_nothing_stands_for_is_said() -> Result<()> {
    let host = host(
        "rehearsal-good",
        "ext4 UUID=5a7c2f3e-0000-4000-8000-000000000001\nraw /dev/sdb\nssh kdump@10.0.2.2\nnfs 10.0.2.2:/dumps\n\
         default shell\n",
    )?;
    // The server of the plan is known by a key that nobody has: another one stands in for it.
    let ssh = host.join("root/.ssh");
    fs::create_dir_all(&ssh)?;
    for (file, host_name) in [("kdump_id_ed25519", "user"), ("other", "10.0.2.2")] {
        let mut keygen = setup::program("ssh-keygen")?;
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-C", host_name, "-f"])
            .arg(ssh.join(file));
        run(&mut keygen)?;
    }
    let other = fs::read_to_string(ssh.join("other.pub"))?;
    fs::write(ssh.join("known_hosts"), format!("10.0.2.2 {other}"))?;
    let (report, good) = said(mkkdumprd("selftest", &host)?)?;
    ensure!(good && report["good"] == true, "{report:#}");
    let targets = report["targets"].as_array().context("no targets")?;
    let names: Vec<_> = targets.iter().map(|target| &target["target"]).collect();
    ensure!(
        names == ["/dev/sda", "/dev/sdb", "kdump@10.0.2.2"],
        "{names:?}"
    );
    for target in targets {
        let found = target["found"][0].as_str().unwrap_or("");
        ensure!(
            found.contains("/vmcore, ") && found.ends_with("every page read back"),
            "{target:#}"
        );
        // As large as init ever was, and not nothing.
        let peak = target["init_peak_kib"].as_u64().unwrap_or(0);
        ensure!((1000..64_000).contains(&peak), "{target:#}");
    }
    ensure!(
        report["left_out"][0]["target"] == "10.0.2.2:/dumps",
        "{report:#}"
    );
    fs::remove_dir_all(host)?;
    Ok(())
}

#[test]
fn a_plan_that_saves_nothing_is_found_out_and_the_console_is_kept() -> Result<()> {
    let host = host("rehearsal-bad", "ext4 /dev/sda\nkdump_pre /bin/no\n")?;
    // It forbids every dump.
    fs::create_dir_all(host.join("bin"))?;
    fs::write(host.join("bin/sh"), fs::read(setup::busybox()?)?)?;
    fs::write(host.join("bin/no"), "#!/bin/sh\nexit 1\n")?;
    for file in ["bin/sh", "bin/no"] {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(host.join(file), permissions)?;
    }
    let (report, good) = said(mkkdumprd("selftest", &host)?)?;
    ensure!(!good && report["good"] == false, "{report:#}");
    let target = &report["targets"][0];
    let why = target["why"].as_str().unwrap_or("");
    ensure!(why.contains("kdump_pre forbids the dump"), "{report:#}");
    let console = fs::read_to_string(target["console"].as_str().unwrap_or(""))?;
    ensure!(console.contains("kdump: "), "{console}");
    fs::remove_dir_all(host)?;
    Ok(())
}

#[test]
fn an_estimate_lies_between_what_was_enough_and_what_was_not() -> Result<()> {
    let host = host("rehearsal-estimate", "ext4 /dev/sda\n")?;
    let mut command = mkkdumprd("estimate", &host)?;
    command.args(["--crashkernel", "96"]);
    let (estimate, good) = said(command)?;
    ensure!(good, "{estimate:#}");
    let number = |key: &str| estimate["measured"][key].as_u64().unwrap_or(0);
    let (enough, too_little) = (number("enough_mib"), number("too_little_mib"));
    ensure!(
        enough == too_little + 8 && (56..=96).contains(&enough),
        "{estimate:#}"
    );
    let recommended = estimate["recommended_mib"].as_u64().unwrap_or(0);
    ensure!(
        recommended >= enough + enough / 4 && recommended < 2 * enough,
        "{estimate:#}"
    );
    fs::remove_dir_all(host)?;
    Ok(())
}

#[test]
fn without_a_machine_the_estimate_is_computed_and_says_so() -> Result<()> {
    let host = host("rehearsal-computed", "ext4 /dev/sda\n")?;
    let kernel = host.join("vmlinuz");
    fs::write(&kernel, "no kernel that a machine could start")?;
    let mut command = mkkdumprd_with(&kernel, "estimate", &host)?;
    command.args(["--crashkernel", "64"]);
    let (estimate, good) = said(command)?;
    ensure!(good && estimate["measured"].is_null(), "{estimate:#}");
    ensure!(
        estimate["not_measured_because"].is_string()
            && estimate["recommended_mib"].as_u64().unwrap_or(0) >= 64,
        "{estimate:#}"
    );
    fs::remove_dir_all(host)?;
    Ok(())
}
