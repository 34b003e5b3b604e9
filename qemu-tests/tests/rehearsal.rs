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
    // A run that failed left what it had.
    fs::remove_dir_all(&folder)?;
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
fn every_target_gets_a_dump_that_is_read_back() -> Result<()> {
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
        names == ["/dev/sda", "/dev/sdb", "kdump@10.0.2.2", "10.0.2.2:/dumps"],
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
    ensure!(report["left_out"] == Value::Array(Vec::new()), "{report:#}");
    let nfs = targets[3]["stand_in"].as_str().unwrap_or("");
    ensure!(
        nfs.contains("NFS version 3, where the plan takes the highest that the server has"),
        "{nfs}"
    );
    // Below the save path, in a folder that has the name of the server's client.
    let found = targets[3]["found"][0].as_str().unwrap_or("");
    ensure!(found.starts_with("10.0.2.15-"), "{found}");
    fs::remove_dir_all(host)?;
    Ok(())
}

/// Its secret half is nowhere.
const NOBODYS_KEY: &str = "age1xmwwc06ly3ee5rytxm9mflaz2u56jjj36s0mypdrwsvlul66mv4q47ryef";

#[test]
fn encrypted_dumps_are_opened_with_a_key_made_for_the_rehearsal() -> Result<()> {
    let conf = format!(
        "ext4 UUID=5a7c2f3e-0000-4000-8000-000000000001\nnfs4 10.0.2.2:/dumps\nencrypt_to {NOBODYS_KEY}\n"
    );
    let host = host("rehearsal-encrypted", &conf)?;
    let (report, good) = said(mkkdumprd("selftest", &host)?)?;
    ensure!(good && report["good"] == true, "{report:#}");
    let targets = report["targets"].as_array().context("no targets")?;
    ensure!(targets.len() == 2, "{report:#}");
    for target in targets {
        let found = target["found"][0].as_str().unwrap_or("");
        ensure!(
            found.contains("/vmcore.flat.age, ")
                && found.contains("encrypted to a key made for the rehearsal and opened with that")
                && found.ends_with("every page read back"),
            "{target:#}"
        );
    }
    let nfs = targets[1]["stand_in"].as_str().unwrap_or("");
    ensure!(nfs.contains("NFS version 3, not 4"), "{nfs}");
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

/// A system that is this one's programs and otherwise a described host, in a namespace whose mounts nobody else sees. It has
/// no devices: two plain files are what programs ask for. The arguments: an empty folder, the host's folder, the kernel's
/// modules, then what is run there.
const ANOTHER_SYSTEM: &str = r#"
set -e
root=$1 host=$2 modules=$3
shift 3
mount --make-rprivate /
mount -t tmpfs -o size=64M tmpfs "$root"
mkdir -p "$root"/{proc,dev,tmp,real,var/lock,usr/lib,lib64}
mount -t proc proc "$root/proc"
mount --bind "$host/work" "$root/tmp"
mount --bind /usr/lib "$root/real"
for entry in /usr/lib/*; do
    ln -s "/real/${entry##*/}" "$root/usr/lib/${entry##*/}"
done
rm -f "$root/usr/lib/kdumprd" "$root/usr/lib/modules"
mkdir -p "$root/usr/lib/modules/${modules##*/}"
mount --bind "$modules" "$root/usr/lib/modules/${modules##*/}"
rmdir "$root/lib64"
for folder in bin sbin share lib64; do
    mkdir -p "$root/usr/$folder"
    mount --bind "/usr/$folder" "$root/usr/$folder"
done
for link in bin sbin lib lib64; do
    ln -s "usr/$link" "$root/$link"
done
cp -a "$host/system/." "$root/"
: > "$root/dev/null"
head -c 4096 /dev/urandom > "$root/dev/urandom"
exec chroot "$root" "$@"
"#;

/// What `kdumpctl estimate` with these arguments says on that system, with this kernel: standard output, then the other.
fn kdumpctl_estimates(name: &str, kernel: &[u8], arguments: &[&str]) -> Result<[String; 2]> {
    let files = setup::kernel(Flavour::Cloud6_1)?;
    let host = host(name, "ext4 /dev/sda\n")?;
    let (system, root) = (host.join("system"), host.join("root"));
    for folder in ["etc/sysconfig", "boot", "opt", "usr/lib/kdumprd"] {
        fs::create_dir_all(system.join(folder))?;
    }
    fs::create_dir_all(host.join("work"))?;
    fs::create_dir_all(&root)?;
    for (from, to) in [
        ("kdump.devices", "kdump.devices"),
        ("kdump.network", "kdump.network"),
        ("etc/hostname", "etc/hostname"),
        ("kdump.conf", "etc/kdump.conf"),
    ] {
        fs::rename(host.join(from), system.join(to))?;
    }
    let release = &files.release;
    fs::write(
        system.join("etc/sysconfig/kdump"),
        format!("KDUMP_KERNELVER=\"{release}\"\n"),
    )?;
    fs::write(system.join(format!("boot/vmlinuz-{release}")), kernel)?;
    for program in [artifacts::kdumpctl()?, artifacts::vmcore()?] {
        let own_name = program.file_name().context("no name")?;
        fs::copy(&program, system.join("opt").join(own_name))?;
    }
    for init in ["init", "init-local", "init-nfs"] {
        fs::copy(
            artifacts::inits()?.join(init),
            system.join("usr/lib/kdumprd").join(init),
        )?;
    }
    let output = setup::program("unshare")?
        .args(["--mount", "--pid", "--fork", "--kill-child"])
        .args(["bash", "-c", ANOTHER_SYSTEM, "system"])
        .args([&root, &host])
        .arg(files.modules())
        .args(["/opt/kdumpctl", "estimate"])
        .args(arguments)
        .output()?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into());
    ensure!(output.status.success(), "{}: {said:?}", output.status);
    // The mounts were in the namespace alone. What is below is ours.
    fs::remove_dir(root)?;
    fs::remove_dir_all(host)?;
    Ok(said)
}

#[test]
fn kdumpctl_estimates_by_crashes_and_says_what_it_measured() -> Result<()> {
    let kernel = fs::read(setup::kernel(Flavour::Cloud6_1)?.image())?;
    let [json, progress] = kdumpctl_estimates("rehearsal-kdumpctl", &kernel, &["--json"])?;
    let estimate: Value = serde_json::from_str(&json).with_context(|| json.clone())?;
    let measured = &estimate["measured"];
    let enough = measured["enough_mib"].as_u64().unwrap_or(0);
    ensure!((56..=96).contains(&enough), "{estimate:#}");
    let peak = measured["init_peak_kib"].as_u64().unwrap_or(0);
    ensure!((1000..64_000).contains(&peak), "{estimate:#}");
    ensure!(estimate["not_measured_because"].is_null(), "{estimate:#}");
    let recommended = estimate["recommended_mib"].as_u64().unwrap_or(0);
    ensure!(recommended >= enough + enough / 4, "{estimate:#}");
    ensure!(
        progress.contains(&format!("a crash with crashkernel={enough}M")),
        "{progress}"
    );
    Ok(())
}

#[test]
fn kdumpctl_adds_up_what_is_known_where_no_machine_starts() -> Result<()> {
    let kernel = b"no kernel that a machine could start";
    let [text, _] = kdumpctl_estimates("rehearsal-kdumpctl-computed", kernel, &[])?;
    ensure!(
        text.starts_with("recommended: crashkernel=") && text.contains("computed, not measured: "),
        "{text}"
    );
    Ok(())
}
