// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mkkdumprd describe`: a directory with the facts of this machine, by which its image can be built elsewhere, without root.
//!
//! What is secret stays here: the private keys of ssh and the volume keys of disks. Nor is there what `kdump.conf` may name, hooks
//! and programs, nor the kernel's modules.

use super::{Host, description, network};
use crate::conf::settings::own_conf;
use crate::error::{Mistake, Mistakes};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// The files that [`Host::read`] and the plan look into; those that are not there are left out.
const FILES: [&str; 14] = [
    "/etc/hostname",
    "/etc/localtime",
    "/etc/fstab",
    "/etc/hosts",
    "/etc/ssh/ssh_known_hosts",
    "/root/.ssh/known_hosts",
    "/proc/cmdline",
    "/proc/crypto",
    "/proc/mounts",
    "/proc/self/mountinfo",
    "/proc/swaps",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/osrelease",
    "/sys/kernel/security/lockdown",
];
/// Whether all modules need signatures.
const SIG_ENFORCE: &str = "/sys/module/module/parameters/sig_enforce";
/// Where links to devices are, and how far below.
const DEV: &str = "/dev";
const DEV_DEPTH: u32 = 3;

/// Writes the facts of `host` into `directory`, which is made, or is there and empty.
///
/// # Errors
/// The directory has something in it or cannot be written, or a fact cannot be written down.
pub fn write(host: &Host, directory: &Path) -> Result<(), Mistakes> {
    let failed = |error| Mistake::new(format!("writing {}: {error}", directory.display()));
    fs::create_dir_all(directory).map_err(failed)?;
    if fs::read_dir(directory).map_err(failed)?.next().is_some() {
        return Err(Mistake::new(format!(
            "{} is not empty; name a directory that is, or that is not there yet",
            directory.display()
        ))
        .into());
    }
    let release = host.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let config = format!("/boot/config-{}", release.trim());
    let conf = own_conf(&host.root);
    let more = [SIG_ENFORCE, &config, conf];
    for path in FILES.into_iter().chain(more) {
        // A link, as that of the time zone, becomes the file that it leads to.
        if let Ok(bytes) = fs::read(host.inside(path)) {
            put(directory, path, &bytes)?;
        }
    }
    put(
        directory,
        "/kdump.devices",
        description::write(host)?.as_bytes(),
    )?;
    put(
        directory,
        "/kdump.network",
        network::write(&host.network)?.as_bytes(),
    )?;
    put_links(host, directory, DEV, DEV_DEPTH)?;
    Ok(())
}

fn put(directory: &Path, path: &str, bytes: &[u8]) -> Result<(), Mistake> {
    let path = directory.join(path.trim_start_matches('/'));
    let parent = path.parent().unwrap_or(directory);
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(&path, bytes))
        .map_err(|error| Mistake::new(format!("writing {}: {error}", path.display())))
}

/// The links in the host's directory and below: `kdump.conf` and fstab name devices by them.
fn put_links(host: &Host, directory: &Path, path: &str, depth: u32) -> Result<(), Mistake> {
    let entries = fs::read_dir(host.root.join(path.trim_start_matches('/')));
    for entry in entries.into_iter().flatten().flatten() {
        let name = format!("{path}/{}", entry.file_name().to_string_lossy());
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && depth > 1 {
            put_links(host, directory, &name, depth - 1)?;
        }
        // Only what leads to a device counts: not `/dev/fd`.
        if !kind.is_symlink() || host.device(&name).is_none() {
            continue;
        }
        let link = directory.join(name.trim_start_matches('/'));
        let parent = link.parent().unwrap_or(directory);
        fs::create_dir_all(parent)
            .and_then(|()| symlink(fs::read_link(entry.path())?, &link))
            .map_err(|error| Mistake::new(format!("writing {}: {error}", link.display())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::Tree;
    use super::*;

    /// All that is known of a host but where that was read.
    fn facts(host: &Host) -> String {
        let host = Host {
            root: "/".into(),
            ..host.clone()
        };
        format!("{host:#?}")
    }

    #[test]
    fn a_machine_and_its_description_have_the_same_facts() {
        let machine = super::super::sysfs::tests::sysfs_tree();
        for (name, text) in [
            ("/etc/hostname", "db1\n"),
            (
                "/etc/fstab",
                "/dev/disk/by-id/disk-part1 / ext4 defaults 0 1\n",
            ),
            ("/proc/cmdline", "root=/dev/vda1 quiet\n"),
            (
                "/proc/self/mountinfo",
                "22 1 253:1 / / rw - ext4 /dev/vda1 rw\n",
            ),
            ("/proc/swaps", "Filename\n/dev/vda2 partition\n"),
            ("/sys/class/input/input0/name", "AT \u{b5} keyboard\n"),
            ("/sys/class/input/input0/capabilities/ev", "120013\n"),
            ("/etc/kdump.conf", "path /var/crash\n"),
            ("/root/.ssh/kdump_id_rsa", "a secret"),
            (
                "/kdump.network",
                "link eth0 mac=52:54:00:12:34:56 modules=virtio_net\naddress eth0 10.0.2.15/24\n",
            ),
        ] {
            machine.write(name, text.as_bytes());
        }
        machine.link("/dev/disk/by-id/disk-part1", "../../vda1");
        machine.link("/dev/stdin", "fd/0");
        let host = machine.host();
        assert_eq!((host.devices.len(), host.keyboards.len()), (2, 1));
        assert!(host.mount_of("/srv").is_some_and(|(mount, _)| {
            host.device_of_mount(mount)
                .is_some_and(|device| device.node == "/dev/vda1")
        }));

        let description = Tree::new(&[]);
        write(&host, &description.0).unwrap();
        let again = description.host();
        assert_eq!(facts(&again), facts(&host));
        assert_eq!(
            again
                .device("/dev/disk/by-id/disk-part1")
                .map(|device| device.node.as_str()),
            Some("/dev/vda1")
        );
        let is_there = |path: &str| description.0.join(path).exists();
        assert!(is_there("etc/kdump.conf") && !is_there("root/.ssh/kdump_id_rsa"));
        assert!(!is_there("dev/stdin"));
        assert!(fs::symlink_metadata(description.0.join("dev/stdin")).is_err());
        let error = write(&host, &description.0).unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
    }
}
