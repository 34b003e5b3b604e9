// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every fact of the running system that a plan rests on, read below one root path.
//!
//! The root is `/` on the machine itself. Any directory with the same files describes another machine, and then no
//! privileges are needed; what is missing there is not known, and a plan that needs it is refused.
//!
//! | fact | read from |
//! |---|---|
//! | name | `/etc/hostname`, `/proc/sys/kernel/hostname` |
//! | zone | `/etc/localtime`, a TZif file or a link to one, inside the root |
//! | mounts | `/proc/self/mountinfo`, `/proc/mounts`, `/etc/fstab` (the first that is there) |
//! | first kernel's command line, swap | `/proc/cmdline`, `/proc/swaps` |
//! | block devices | `/kdump.devices` ([`description`]) where it is there, else `/sys/class/block`, `/dev`, `/run/udev/data` |
//! | network | `/kdump.network` ([`network`]) where it is there, else the running kernel; `/etc/resolv.conf`, `/etc/hosts` |
//! | keyboards | `/sys/class/input`, `/kdump.devices` |
//! | watchdogs | `/sys/class/watchdog`, `/kdump.devices` |
//! | whether modules need signatures | `/sys/kernel/security/lockdown`, `/sys/module/module/parameters/sig_enforce`, `/proc/sys/kernel/osrelease`, `/boot/config-RELEASE` |
//! | shell | `/bin/busybox`, `/usr/bin/busybox` |

pub mod describe;
pub mod description;
pub mod devices;
pub mod mounts;
pub mod network;
pub mod pairs;
mod sysfs;
mod zone;

pub(crate) use devices::read_luks;
pub use devices::{Content, Device, Driver, Keyboard, Made, Maker, Watchdog};
pub use mounts::{FstabEntry, Mount};
pub use network::Network;

use crate::error::Mistakes;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The most symbolic links on the way to one file, as in the kernel.
const MOST_LINKS: u32 = 40;

/// What the builder knows of the machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// Where its files are.
    pub root: PathBuf,
    /// Its name.
    pub hostname: String,
    /// Its time zone as a POSIX `TZ` string.
    pub zone: String,
    /// The first kernel's command line.
    pub command_line: String,
    /// What is mounted where, in the order of mounting.
    pub mounts: Vec<Mount>,
    /// What is to be mounted.
    pub fstab: Vec<FstabEntry>,
    /// Devices and files in use as swap.
    pub swaps: Vec<String>,
    /// Its block devices.
    pub devices: Vec<Device>,
    /// Its network.
    pub network: Network,
    /// Its keyboards.
    pub keyboards: Vec<Keyboard>,
    /// Its hardware watchdogs, those that somebody feeds first.
    pub watchdogs: Vec<Watchdog>,
    /// What stands in for root's known_hosts, where the machine is another one's rehearsal.
    pub known_hosts: Option<String>,
    /// What could not be found out and was assumed.
    pub warnings: Vec<String>,
}

impl Host {
    /// Reads the facts below `root`.
    ///
    /// # Errors
    /// The description of the devices has mistakes.
    pub fn read(root: &Path) -> Result<Self, Mistakes> {
        let mut host = Self {
            root: root.to_path_buf(),
            hostname: String::new(),
            zone: String::new(),
            command_line: String::new(),
            mounts: Vec::new(),
            fstab: Vec::new(),
            swaps: Vec::new(),
            devices: Vec::new(),
            network: Network::default(),
            keyboards: Vec::new(),
            watchdogs: Vec::new(),
            known_hosts: None,
            warnings: Vec::new(),
        };
        host.hostname = host.read_hostname();
        host.zone = host.read_zone();
        host.command_line = host
            .text("/proc/cmdline")
            .unwrap_or_default()
            .trim()
            .to_owned();
        host.fstab = mounts::parse_fstab(&host.text("/etc/fstab").unwrap_or_default());
        host.mounts = host.read_mounts();
        host.swaps = host
            .text("/proc/swaps")
            .unwrap_or_default()
            .lines()
            .skip(1)
            .filter_map(|line| line.split_ascii_whitespace().next().map(mounts::unescaped))
            .collect();
        host.keyboards = sysfs::read_keyboards(&host);
        host.watchdogs = sysfs::read_watchdogs(&host);
        if let Some(text) = host.text("/kdump.devices") {
            let described = description::parse(&host, &text)?;
            host.devices = described.devices;
            host.keyboards.extend(described.keyboards);
            host.watchdogs.extend(described.watchdogs);
        } else {
            host.devices = sysfs::read(&host);
        }
        host.network = network::read(&host)?;
        Ok(host)
    }

    /// Where the host's `path` is for us: links are followed inside the root. What does not exist is kept as it is.
    #[must_use]
    pub fn inside(&self, path: &str) -> PathBuf {
        self.root.join(self.canonical(path).trim_start_matches('/'))
    }

    /// The host's own name for `path`: absolute, with every link followed as far as things exist.
    #[must_use]
    pub fn canonical(&self, path: &str) -> String {
        let mut links = 0;
        let mut done: Vec<String> = Vec::new();
        let mut todo: Vec<String> = components(Path::new(path));
        todo.reverse();
        while let Some(part) = todo.pop() {
            if part == ".." {
                done.pop();
                continue;
            }
            done.push(part);
            let here = self.root.join(done.join("/"));
            if let Ok(target) = fs::read_link(&here)
                && links < MOST_LINKS
            {
                links += 1;
                done.pop();
                if target.is_absolute() {
                    done.clear();
                }
                todo.extend(components(&target).into_iter().rev());
            }
        }
        format!("/{}", done.join("/"))
    }

    /// The text of a file; none when it cannot be read.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.inside(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The device that has this node; links like those in `/dev/disk/by-id` are followed.
    #[must_use]
    pub fn device(&self, node: &str) -> Option<&Device> {
        let by_name = |node: &str| self.devices.iter().find(|device| device.node == node);
        by_name(node).or_else(|| by_name(&self.canonical(node)))
    }

    /// The devices that a `UUID=`, `LABEL=`, `PARTUUID=` or node names.
    #[must_use]
    pub fn devices_of_tag(&self, tag: &str) -> Vec<&Device> {
        let all = |wanted: &dyn Fn(&Device) -> bool| {
            let found: Vec<&Device> = self
                .devices
                .iter()
                .filter(|device| wanted(device))
                .collect();
            // What is seen through a mapping or an array is theirs to serve: a path of a multipath disk, half of a mirror.
            let is_below = |device: &&Device| {
                found
                    .iter()
                    .any(|other| self.parts(other).any(|part| part.node == device.node))
            };
            found
                .iter()
                .copied()
                .filter(|device| !is_below(device))
                .collect::<Vec<_>>()
        };
        match tag.split_once('=') {
            Some(("UUID", uuid)) => all(&|device| {
                device
                    .uuid()
                    .is_some_and(|own| own.eq_ignore_ascii_case(uuid))
            }),
            Some(("LABEL", label)) => all(&|device| device.label() == Some(label)),
            Some(("PARTUUID", uuid)) => all(&|device| {
                device
                    .partuuid
                    .as_deref()
                    .is_some_and(|own| own.eq_ignore_ascii_case(uuid))
            }),
            _ => self.device(tag).into_iter().collect(),
        }
    }

    /// What a device is directly made of; nothing for a disk and its partitions.
    pub fn parts<'h>(&'h self, device: &'h Device) -> impl Iterator<Item = &'h Device> {
        device
            .made
            .iter()
            .flat_map(|made| &made.of)
            .filter_map(|node| self.device(node))
    }

    /// The value of a parameter of the first kernel; the last one counts.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.command_line
            .split_ascii_whitespace()
            .filter_map(|word| word.split_once('='))
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .next_back()
    }

    /// The device below a mount.
    #[must_use]
    pub fn device_of_mount(&self, mount: &Mount) -> Option<&Device> {
        if let Some(numbers) = mount.numbers
            && let Some(device) = self
                .devices
                .iter()
                .find(|device| device.numbers == Some(numbers))
        {
            return Some(device);
        }
        let source = match mount.source.as_str() {
            // The kernel's own name for what `root=` said.
            "/dev/root" => self.parameter("root")?,
            source => source,
        };
        self.devices_of_tag(source).first().copied()
    }

    /// The mount that holds `path`, and the rest of the path inside it, absolute.
    #[must_use]
    pub fn mount_of(&self, path: &str) -> Option<(&Mount, String)> {
        let path = self.canonical(path);
        let mut best: Option<(&Mount, String)> = None;
        for mount in &self.mounts {
            if let Some(rest) = mounts::below(&mount.target, &path) {
                // A later mount on the same directory hides the one before.
                let longer = best
                    .as_ref()
                    .is_none_or(|(found, _)| mount.target.len() >= found.target.len());
                if longer {
                    best = Some((mount, rest));
                }
            }
        }
        let (mount, rest) = best?;
        // A bind mount shows a directory of its file system.
        let inside = format!("{}{rest}", mount.directory.trim_end_matches('/'));
        Some((
            mount,
            if inside.is_empty() {
                "/".to_owned()
            } else {
                inside
            },
        ))
    }

    /// A capture kernel of this release, started by this host, loads modules that carry no signature. What is not known
    /// counts as no.
    ///
    /// The capture kernel gets the first kernel's command line and firmware, so that what enforces signatures there
    /// enforces them in both; but another kernel may be built to insist.
    #[must_use]
    pub fn takes_unsigned_modules(&self, release: &str) -> bool {
        let is = |path: &str, value: &str| self.text(path).is_some_and(|text| text.trim() == value);
        let no_lockdown = self
            .text("/sys/kernel/security/lockdown")
            .is_some_and(|text| text.contains("[none]"));
        let may_do_without = is("/proc/sys/kernel/osrelease", release)
            || self
                .text(&format!("/boot/config-{release}"))
                .is_some_and(|text| {
                    text.contains("CONFIG_MODULES=y") && !text.contains("CONFIG_MODULE_SIG_FORCE=y")
                });
        no_lockdown && may_do_without && is("/sys/module/module/parameters/sig_enforce", "N")
    }

    /// The busybox that can run alone in an image, where the host has one.
    #[must_use]
    pub fn static_busybox(&self) -> Option<PathBuf> {
        ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .map(|path| self.inside(path))
            .find(|path| fs::read(path).is_ok_and(|bytes| is_static_elf(&bytes)))
    }

    fn read_hostname(&self) -> String {
        ["/etc/hostname", "/proc/sys/kernel/hostname"]
            .into_iter()
            .filter_map(|path| self.text(path))
            .flat_map(|text| {
                text.lines()
                    .map(str::trim)
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .find(|line| {
                !line.is_empty()
                    && !line.starts_with('#')
                    && line.bytes().all(|byte| byte.is_ascii_graphic())
            })
            .unwrap_or_else(|| "localhost".to_owned())
    }

    fn read_zone(&mut self) -> String {
        const UTC: &str = "UTC0";
        let path = self.inside("/etc/localtime");
        match fs::read(&path) {
            // A system without the file runs in UTC; localtime(5).
            Err(_) if fs::symlink_metadata(self.root.join("etc/localtime")).is_err() => {
                UTC.to_owned()
            }
            Err(error) => {
                self.warnings.push(format!(
                    "the time zone cannot be read ({}: {error}): directories are named by UTC",
                    path.display()
                ));
                UTC.to_owned()
            }
            Ok(bytes) => zone::posix_rule(&bytes).unwrap_or_else(|| {
                self.warnings.push(format!(
                    "{} is no time zone file of version 2 or later: directories are named by UTC",
                    path.display()
                ));
                UTC.to_owned()
            }),
        }
    }

    fn read_mounts(&self) -> Vec<Mount> {
        if let Some(text) = self.text("/proc/self/mountinfo") {
            return mounts::parse_mountinfo(&text);
        }
        if let Some(text) = self.text("/proc/mounts") {
            return mounts::parse_mounts(&text);
        }
        self.fstab
            .iter()
            .filter(|entry| entry.target.starts_with('/') && !entry.is_noauto)
            .map(FstabEntry::as_mounted)
            .collect()
    }
}

fn components(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(part) => Some(part.to_string_lossy().into_owned()),
            Component::ParentDir => Some("..".to_owned()),
            _ => None,
        })
        .collect()
}

/// An ELF program without an interpreter.
fn is_static_elf(bytes: &[u8]) -> bool {
    use object::Endianness;
    use object::elf::{ET_DYN, ET_EXEC, FileHeader64, PT_INTERP};
    use object::read::elf::{FileHeader as _, ProgramHeader as _};
    let Ok(header) = FileHeader64::<Endianness>::parse(bytes) else {
        return false;
    };
    let Ok(endian) = header.endian() else {
        return false;
    };
    matches!(header.e_type(endian), ET_EXEC | ET_DYN)
        && header
            .program_headers(endian, bytes)
            .is_ok_and(|headers| headers.iter().all(|one| one.p_type(endian) != PT_INTERP))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A host that is a directory, for one test.
    pub(crate) struct Tree(pub(crate) PathBuf);

    impl Tree {
        pub(crate) fn new(files: &[(&str, &str)]) -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let tree = Self(
                std::env::temp_dir()
                    .join(format!("mkkdumprd-host-{}-{number}", std::process::id())),
            );
            fs::create_dir_all(&tree.0).unwrap();
            for (name, text) in files {
                tree.write(name, text.as_bytes());
            }
            tree
        }

        pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
            let path = self.0.join(name.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }

        pub(crate) fn link(&self, name: &str, target: &str) {
            let path = self.0.join(name.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        }

        pub(crate) fn host(&self) -> Host {
            Host::read(&self.0).unwrap()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn links_never_leave_the_root() {
        let tree = Tree::new(&[("/srv/data/x", "1")]);
        tree.link("/var/crash", "/srv/data");
        tree.link("/up", "../../../../../../etc");
        tree.link("/loop", "loop");
        let host = tree.host();
        assert_eq!(host.canonical("/var/crash/./y/../x"), "/srv/data/x");
        assert_eq!(host.inside("/var/crash/x"), tree.0.join("srv/data/x"));
        assert_eq!(host.canonical("/up/passwd"), "/etc/passwd");
        assert_eq!(host.canonical("/loop"), "/loop");
        assert_eq!(host.canonical("/../.."), "/");
    }

    #[test]
    fn an_empty_tree_is_a_host_that_nothing_is_known_of() {
        let host = Tree::new(&[]).host();
        assert_eq!(
            (host.hostname.as_str(), host.zone.as_str()),
            ("localhost", "UTC0")
        );
        assert!(host.mounts.is_empty() && host.devices.is_empty() && host.warnings.is_empty());
    }

    #[test]
    fn the_name_and_the_command_line_are_read() {
        let tree = Tree::new(&[
            ("/etc/hostname", "# set by x\n\ndb7\n"),
            ("/proc/cmdline", "ro root=/dev/a root=UUID=1 x\n"),
        ]);
        let host = tree.host();
        assert_eq!(host.hostname, "db7");
        assert_eq!(host.parameter("root"), Some("UUID=1"));
        assert_eq!(host.parameter("init"), None);
    }

    #[test]
    fn modules_go_unsigned_only_where_nothing_enforces_signatures() {
        let files = [
            (
                "/sys/kernel/security/lockdown",
                "[none] integrity confidentiality\n",
            ),
            ("/sys/module/module/parameters/sig_enforce", "N\n"),
            ("/proc/sys/kernel/osrelease", "6.1.0\n"),
        ];
        assert!(Tree::new(&files).host().takes_unsigned_modules("6.1.0"));
        for (position, worse) in ["none [integrity] confidentiality\n", "Y\n", "6.2.0\n"]
            .into_iter()
            .enumerate()
        {
            let mut changed = files;
            changed[position].1 = worse;
            assert!(
                !Tree::new(&changed).host().takes_unsigned_modules("6.1.0"),
                "{worse}"
            );
            let missing: Vec<_> = files
                .iter()
                .copied()
                .filter(|file| file.0 != files[position].0)
                .collect();
            assert!(
                !Tree::new(&missing).host().takes_unsigned_modules("6.1.0"),
                "without {}",
                files[position].0
            );
        }
        let tree = Tree::new(&files);
        tree.write(
            "/boot/config-6.2.0",
            b"CONFIG_MODULES=y\n# CONFIG_MODULE_SIG_FORCE is not set\n",
        );
        assert!(tree.host().takes_unsigned_modules("6.2.0"));
        tree.write(
            "/boot/config-6.2.0",
            b"CONFIG_MODULES=y\nCONFIG_MODULE_SIG_FORCE=y\n",
        );
        assert!(!tree.host().takes_unsigned_modules("6.2.0"));
    }

    #[test]
    fn a_zone_link_is_followed_inside_the_root_and_a_broken_one_is_told() {
        let tree = Tree::new(&[]);
        tree.link("/etc/localtime", "/usr/share/zoneinfo/Europe/Berlin");
        let host = tree.host();
        assert_eq!(host.zone, "UTC0");
        assert!(
            host.warnings[0].contains("directories are named by UTC"),
            "{:?}",
            host.warnings
        );
        tree.write(
            "/usr/share/zoneinfo/Europe/Berlin",
            &zone::tests::sample("CET-1CEST,M3.5.0,M10.5.0/3"),
        );
        assert_eq!(tree.host().zone, "CET-1CEST,M3.5.0,M10.5.0/3");
        assert!(tree.host().warnings.is_empty());
    }

    #[test]
    fn a_path_is_found_in_the_mount_that_holds_it() {
        let tree = Tree::new(&[(
            "/proc/self/mountinfo",
            "1 0 253:1 / / rw - ext4 /dev/vda1 rw\n\
             2 1 253:2 / /var rw - ext3 /dev/vda2 rw\n\
             3 1 253:1 /home/x /srv/bind rw - ext4 /dev/vda1 rw\n\
             4 1 253:3 / /va rw - ext2 /dev/vda3 rw\n",
        )]);
        tree.link("/crash", "var/crash");
        let host = tree.host();
        let found = |path: &str| {
            let (mount, rest) = host.mount_of(path).unwrap();
            (mount.source.clone(), rest)
        };
        assert_eq!(
            found("/var/crash"),
            ("/dev/vda2".to_owned(), "/crash".to_owned())
        );
        assert_eq!(
            found("/crash/x"),
            ("/dev/vda2".to_owned(), "/crash/x".to_owned())
        );
        assert_eq!(found("/var"), ("/dev/vda2".to_owned(), "/".to_owned()));
        assert_eq!(
            found("/srv/bind/y"),
            ("/dev/vda1".to_owned(), "/home/x/y".to_owned())
        );
        assert_eq!(found("/vax"), ("/dev/vda1".to_owned(), "/vax".to_owned()));
    }
}
