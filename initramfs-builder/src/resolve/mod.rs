// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Directives`] and [`Host`] to what will be done in the capture kernel, or messages that say what to change.
//!
//! A device is known there by what it is: a file system by its UUID, a partition by its PARTUUID, a disk by where it
//! hangs, and by its node only when there is nothing better, because the capture kernel may give that name to another.

mod device;
mod goal;
mod network;
mod nfs;
mod ssh;

pub use goal::{Goal, Identified, Place, Resolved, Root};
pub use network::Way;

use crate::conf::{Directives, Target, TargetKind};
use crate::error::{At, Mistake, Mistakes};
use crate::filesystem::{self, Type};
use crate::host::{Device, Host, Mount};
use crate::modules::closure::{Need, Want};
use config::{CollectOptions, Deadlines, FailureAction, FinalAction, Format, Role};
use device::{check_filesystem, supported};

/// The save path when the configuration names none.
const DEFAULT_PATH: &str = "/var/crash";
/// The program that starts the machine, where the first kernel's command line names none.
const DEFAULT_INIT: &str = "/sbin/init";

/// Resolves `directives` on `host` for the capture kernel `kernel`.
///
/// # Errors
/// Everything that would make the dump fail or destroy data: where, what, and what to change.
pub fn resolve(directives: &Directives, host: &Host, kernel: &str) -> Result<Resolved, Mistakes> {
    let mut work = Work {
        directives,
        host,
        mistakes: Mistakes::default(),
        warnings: host.warnings.clone(),
        needs: Vec::new(),
        ways: Vec::new(),
        ssh_key: None,
    };
    let collect = work.collect();
    let path = directives
        .path
        .as_ref()
        .map_or(DEFAULT_PATH, |path| path.value.as_str());

    let mut attempts: Vec<Goal> = Vec::new();
    for target in &directives.targets {
        match work.target(target, path, &collect) {
            Ok(goal) => match attempts
                .iter()
                .find(|other| goal.place.is_that_of(&other.place))
            {
                Some(other) => work.mistake(
                    target.line,
                    format!(
                        "{} is {}, which {} names already; a second try at it would fail as the first",
                        target.value,
                        goal.place.name(),
                        other.origin
                    ),
                ),
                None => attempts.push(goal),
            },
            Err(message) => work.mistake(target.line, message),
        }
    }
    let on_failure = directives.failure_action;
    let mut failure_action = on_failure.map_or(FailureAction::Reboot, |at| at.value.action);
    let goes_to_root = match on_failure {
        None => true,
        Some(at) => at.value.action == FailureAction::DumpToRootfs,
    };
    if directives.targets.is_empty() || goes_to_root {
        match work.root_goal(path, &collect) {
            Ok(goal) => {
                if attempts
                    .iter()
                    .any(|other| goal.place.is_that_of(&other.place))
                {
                    work.warnings.push(format!(
                        "the root file system is a target already: no second try at {} when that fails",
                        goal.place.name()
                    ));
                } else {
                    attempts.push(goal);
                    if !directives.targets.is_empty() {
                        failure_action = FailureAction::DumpToRootfs;
                    }
                }
            }
            // A fall-back that nobody asked for must not stand in the way of the dump.
            Err(message) if on_failure.is_none() && !directives.targets.is_empty() => {
                work.warnings.push(format!(
                    "no dump to the root file system when the targets fail, but a reboot: {message}"
                ));
            }
            Err(message) => match on_failure.filter(|_| !directives.targets.is_empty()) {
                Some(at) => work.mistake(at.line, message),
                None => work.mistakes.0.push(Mistake {
                    place: directives
                        .path
                        .as_ref()
                        .map(|path| (directives.file.clone(), path.line)),
                    message: format!(
                        "no target is set, so the dump goes to the root file system: {message}"
                    ),
                }),
            },
        }
    }

    let mut root = None;
    if let Some(at) = on_failure
        && at.value.action == FailureAction::MountRootRunInit
    {
        match work.root() {
            Ok(found) => root = Some(found),
            Err(message) => work.mistake(at.line, format!("`mount_root_run_init`: {message}")),
        }
    }
    if failure_action == FailureAction::Shell {
        for keyboard in &host.keyboards {
            for driver in &keyboard.drivers {
                work.need(
                    Want::Driver(driver.clone()),
                    format!("the shell on {}", keyboard.name),
                );
            }
        }
    }
    for module in &directives.extra_modules {
        work.needs.push(Need {
            want: Want::Name(module.value.clone()),
            by: "extra_modules".to_owned(),
            place: Some((directives.file.clone(), module.line)),
        });
    }

    let final_action = match (directives.final_action, on_failure) {
        (Some(at), _) => at.value,
        (None, Some(at)) if at.value.by_default => match at.value.action {
            FailureAction::Halt => FinalAction::Halt,
            FailureAction::Poweroff => FinalAction::Poweroff,
            _ => FinalAction::Reboot,
        },
        (None, _) => FinalAction::Reboot,
    };
    if work.mistakes.0.is_empty() {
        Ok(Resolved {
            kernel: kernel.to_owned(),
            hostname: host.hostname.clone(),
            zone: host.zone.clone(),
            failure_action,
            final_action,
            deadlines: deadlines(directives),
            ways: work.ways,
            ssh_key: work.ssh_key,
            attempts,
            root,
            needs: work.needs,
            warnings: work.warnings,
        })
    } else {
        Err(work.mistakes)
    }
}

fn deadlines(directives: &Directives) -> Deadlines {
    let mut deadlines = Deadlines::DEFAULT;
    for (slot, given) in [
        (&mut deadlines.device_s, directives.disk_timeout_s),
        (&mut deadlines.network_s, directives.network_timeout_s),
        (&mut deadlines.dump_s, directives.dump_deadline_s),
        (&mut deadlines.stall_s, directives.stall_timeout_s),
    ] {
        if let Some(at) = given {
            *slot = at.value;
        }
    }
    if let Some(delay) = directives.link_delay_s {
        deadlines.network_s = deadlines.network_s.saturating_add(delay.value);
    }
    deadlines
}

/// What holds a path on the running system.
struct Mounted<'a> {
    device: &'a Device,
    fstype: Type,
    /// The path inside the file system.
    inside: String,
    /// How it was found, for the plan.
    how: String,
}

struct Work<'a> {
    directives: &'a Directives,
    host: &'a Host,
    mistakes: Mistakes,
    warnings: Vec<String>,
    needs: Vec<Need>,
    ways: Vec<Way>,
    ssh_key: Option<Vec<u8>>,
}

impl<'a> Work<'a> {
    fn mistake(&mut self, line: u32, message: String) {
        self.mistakes.0.push(Mistake {
            place: Some((self.directives.file.clone(), line)),
            message,
        });
    }

    /// The collector's options, with what is not there yet refused.
    fn collect(&mut self) -> CollectOptions {
        let Some(at) = &self.directives.core_collector else {
            return CollectOptions::standard();
        };
        let collect = at.value.clone();
        if collect.format == Format::Elf {
            self.mistake(
                at.line,
                "`core_collector makedumpfile -E` is not supported yet; accepted are `makedumpfile` without -E, and `cp` for \
                 an unfiltered ELF copy"
                    .to_owned(),
            );
        }
        collect
    }

    fn target(
        &mut self,
        at: &At<Target>,
        path: &str,
        collect: &CollectOptions,
    ) -> Result<Goal, String> {
        let place = match &at.value {
            Target::Local { kind, device: name } => {
                let device = self.find(name)?;
                let written = name.to_string();
                match kind {
                    TargetKind::Raw => {
                        self.check_raw(device)?;
                        Place::Raw(self.identify(device, None, &written))
                    }
                    TargetKind::Filesystem(fstype) => {
                        check_filesystem(*fstype, device, path)?;
                        Place::Filesystem {
                            device: self.identify(device, Some(fstype.word), &written),
                            fstype: fstype.word.to_owned(),
                            mount_options: fstype.options.to_owned(),
                            path: path.to_owned(),
                        }
                    }
                }
            }
            Target::Nfs {
                server,
                export,
                is_version_4,
            } => self.nfs(server, export, *is_version_4, path)?,
            Target::Ssh { user, server, port } => self.ssh(user, server, *port, path)?,
        };
        Ok(Goal {
            role: Role::Configured,
            origin: format!("{}:{}", self.directives.file, at.line),
            place,
            collect: collect.clone(),
        })
    }

    /// The attempt at the file system that holds `path` on the running system.
    fn root_goal(&mut self, path: &str, collect: &CollectOptions) -> Result<Goal, String> {
        let found = self.mounted(path)?;
        let device = found.device;
        check_filesystem(found.fstype, device, &found.inside)?;
        let place = Place::Filesystem {
            device: self.identify(device, Some(found.fstype.word), &found.how),
            fstype: found.fstype.word.to_owned(),
            mount_options: if found.fstype.word == "btrfs" {
                // The path begins at the top, whatever subvolume the running system has mounted.
                filesystem::TOP_SUBVOLUME.to_owned()
            } else {
                found.fstype.options.to_owned()
            },
            path: found.inside,
        };
        let is_fall_back = !self.directives.targets.is_empty();
        Ok(Goal {
            role: if is_fall_back {
                Role::DumpToRootfs
            } else {
                Role::Configured
            },
            origin: match (is_fall_back, self.directives.failure_action) {
                (true, Some(at)) => format!("{}:{}", self.directives.file, at.line),
                (true, None) => "as no `default` is set".to_owned(),
                (false, _) => "as no target is set".to_owned(),
            },
            place,
            collect: collect.clone(),
        })
    }

    fn root(&mut self) -> Result<Root, String> {
        let init = self.host.parameter("init").unwrap_or(DEFAULT_INIT);
        if !init.starts_with('/') {
            return Err(format!(
                "the first kernel was started with init={init}, which is no absolute path"
            ));
        }
        let found = self.mounted("/")?;
        let mount_options = match (found.fstype.word, found.inside.as_str()) {
            ("btrfs", directory) => filesystem::subvolume(directory)?,
            (_, "/") => found.fstype.options.to_owned(),
            (_, directory) => {
                return Err(format!(
                    "the root of the running system is the directory {directory} of {}, which is not supported yet",
                    found.device.node
                ));
            }
        };
        Ok(Root {
            fstype: found.fstype.word.to_owned(),
            mount_options,
            device: self.identify(found.device, Some(found.fstype.word), &found.how),
            init: init.to_owned(),
        })
    }

    /// What holds `path` on the running system.
    fn mounted(&self, path: &str) -> Result<Mounted<'a>, String> {
        let by_parameter;
        let (mount, inside) = match self.host.mount_of(path) {
            Some(found) => found,
            // Nothing says what is mounted, but what the first kernel was told about its root.
            None => {
                by_parameter = self.root_by_parameter().ok_or_else(|| {
                    format!(
                        "nothing says which file system holds {path} (no mountinfo, fstab or root= below {})",
                        self.host.root.display()
                    )
                })?;
                (&by_parameter, path.to_owned())
            }
        };
        let on = format!("{path} is on {} ({})", mount.source, mount.fstype);
        let device = self.host.device_of_mount(mount).ok_or_else(|| {
            format!(
                "{on}, which is no block device that is known; {}",
                self.seen()
            )
        })?;
        let device = supported(device).map_err(|message| format!("{on}: {message}"))?;
        let fstype = Type::of(&mount.fstype).ok_or_else(|| {
            format!(
                "{on}, and that type is not supported yet; accepted are {}",
                filesystem::words()
            )
        })?;
        Ok(Mounted {
            device,
            fstype,
            inside,
            how: format!("{path} on {}", mount.target),
        })
    }

    fn root_by_parameter(&self) -> Option<Mount> {
        let source = self.host.parameter("root")?;
        let device = *self.host.devices_of_tag(source).first()?;
        Some(Mount {
            source: device.node.clone(),
            target: "/".to_owned(),
            fstype: device.kind()?.to_owned(),
            directory: "/".to_owned(),
            numbers: None,
            options: String::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf;
    use crate::host::tests::Tree;
    use crate::modules::closure::Chosen;
    use config::Compression;
    use config::{TargetSpec, record};

    const DEVICES: &str = "\
/dev/vda  size=1000000 bus_path=pci-0000:00:03.0 modules=virtio_pci,virtio_blk
/dev/vda1 parent=/dev/vda size=900000 fstype=ext4 uuid=root-1 label=\"root disk\" partuuid=aaaa-01
/dev/vda2 parent=/dev/vda size=5000 fstype=ext3 uuid=var-1
/dev/vdb  size=2000000 bus_path=pci-0000:00:04.0 modules=virtio_pci,virtio_blk
/dev/vdb1 parent=/dev/vdb size=1000 fstype=ext3 uuid=dump-1 label=dump
/dev/vdb2 parent=/dev/vdb size=1000 partuuid=bbbb-02
/dev/vdb3 parent=/dev/vdb size=1000
/dev/vdb4 parent=/dev/vdb size=1000 fstype=xfs uuid=x-1
/dev/vdb5 parent=/dev/vdb size=1000 fstype=vfat uuid=1A2B-CD34
/dev/vdc  size=3000 fstype=ext2 uuid=twin
/dev/vdd  size=3000 fstype=ext2 uuid=twin
/dev/vde  size=3000 fstype=swap uuid=s
/dev/vdf  size=3000
";
    const MOUNTS: &str = "\
/dev/vda1 / ext4 rw 0 0
/dev/vda2 /var ext3 rw 0 0
tmpfs /tmp tmpfs rw 0 0
";

    fn host() -> Host {
        Tree::new(&[
            ("kdump.devices", DEVICES),
            ("proc/mounts", MOUNTS),
            ("proc/swaps", "Filename Type\n/dev/vde partition 1 1 -2\n"),
            (
                "etc/fstab",
                "UUID=root-1 / ext4 defaults 0 1\n# c\n/dev/vdf /old ext2 noauto\n",
            ),
            ("etc/hostname", "db7\n"),
        ])
        .host()
    }

    fn on(host: &Host, text: &str) -> Result<Resolved, Mistakes> {
        resolve(
            &conf::parse("kdump.conf", text.as_bytes()).unwrap(),
            host,
            "6.1.0",
        )
    }

    fn resolved(text: &str) -> Resolved {
        on(&host(), text).unwrap_or_else(|mistakes| panic!("{text}: {mistakes}"))
    }

    fn attempts(resolved: &Resolved) -> Vec<String> {
        resolved
            .attempts
            .iter()
            .map(|goal| format!("{} {}", goal.role, goal.target()))
            .collect()
    }

    #[test]
    fn no_target_is_the_file_system_that_holds_the_path() {
        let plan = resolved("");
        assert_eq!(
            attempts(&plan),
            ["configured ext3 UUID=var-1 (/dev/vda2), save path /crash"]
        );
        assert_eq!(
            (plan.failure_action, plan.final_action),
            (FailureAction::Reboot, FinalAction::Reboot)
        );
        let plan = resolved("path /srv/x");
        assert_eq!(
            attempts(&plan),
            ["configured ext4 UUID=root-1 (/dev/vda1), save path /srv/x"]
        );
    }

    #[test]
    fn targets_come_in_order_and_the_root_file_system_behind_them() {
        let plan = resolved("ext3 LABEL=dump\nraw /dev/vdb2\npath /dumps\n");
        assert_eq!(
            attempts(&plan),
            [
                "configured ext3 UUID=dump-1 (/dev/vdb1), save path /dumps",
                "configured raw PARTUUID=bbbb-02 (/dev/vdb2)",
                "dump_to_rootfs ext4 UUID=root-1 (/dev/vda1), save path /dumps"
            ]
        );
        assert_eq!(plan.failure_action, FailureAction::DumpToRootfs);
        assert_eq!(
            plan.attempts[0].place.device().unwrap().size_bytes,
            Some(1000)
        );
        assert_eq!(plan.attempts[1].origin, "kdump.conf:2");
    }

    #[test]
    fn each_failure_action_has_its_consequences() {
        for (text, count, failure, last) in [
            ("", 2, FailureAction::DumpToRootfs, FinalAction::Reboot),
            (
                "default dump_to_rootfs",
                2,
                FailureAction::DumpToRootfs,
                FinalAction::Reboot,
            ),
            (
                "default reboot",
                1,
                FailureAction::Reboot,
                FinalAction::Reboot,
            ),
            ("default halt", 1, FailureAction::Halt, FinalAction::Halt),
            (
                "default poweroff",
                1,
                FailureAction::Poweroff,
                FinalAction::Poweroff,
            ),
            (
                "default poweroff\nfinal_action reboot",
                1,
                FailureAction::Poweroff,
                FinalAction::Reboot,
            ),
            (
                "failure_action halt",
                1,
                FailureAction::Halt,
                FinalAction::Reboot,
            ),
            (
                "default shell\nfinal_action halt",
                1,
                FailureAction::Shell,
                FinalAction::Halt,
            ),
            (
                "default mount_root_run_init",
                1,
                FailureAction::MountRootRunInit,
                FinalAction::Reboot,
            ),
        ] {
            let plan = resolved(&format!("ext3 /dev/vdb1\n{text}"));
            assert_eq!(plan.attempts.len(), count, "{text}");
            assert_eq!(
                (plan.failure_action, plan.final_action),
                (failure, last),
                "{text}"
            );
            assert_eq!(
                plan.root.is_some(),
                failure == FailureAction::MountRootRunInit,
                "{text}"
            );
        }
        let plan = resolved("default dump_to_rootfs");
        assert_eq!(
            (plan.attempts.len(), plan.attempts[0].role),
            (1, Role::Configured)
        );
        let root = resolved("ext3 /dev/vdb1\ndefault mount_root_run_init")
            .root
            .unwrap();
        assert_eq!(
            (root.init.as_str(), root.device.spec().to_string()),
            ("/sbin/init", "UUID=root-1 (/dev/vda1)".to_owned())
        );
    }

    #[test]
    fn a_device_is_known_by_the_strongest_that_is_its_own() {
        for (text, id) in [
            ("ext4 /dev/vda1", "UUID=root-1 (/dev/vda1)"),
            ("raw /dev/vdb2", "PARTUUID=bbbb-02 (/dev/vdb2)"),
            (
                "raw /dev/vdb3",
                "by-path/pci-0000:00:04.0-part3 (/dev/vdb3)",
            ),
            ("ext2 /dev/vdc", "/dev/vdc"),
        ] {
            let plan = resolved(text);
            assert_eq!(
                plan.attempts[0].place.device().unwrap().spec().to_string(),
                id
            );
            let by_name = plan
                .warnings
                .iter()
                .any(|warning| warning.contains("by its name alone"));
            assert_eq!(by_name, id.starts_with("/dev"), "{:?}", plan.warnings);
        }
    }

    #[test]
    fn what_would_fail_or_destroy_is_refused_with_the_way_out() {
        for (text, parts) in [
            (
                "raw /dev/vda1",
                &["kdump.conf:1: ", "mounted on /", "unmount"][..],
            ),
            ("raw /dev/vda", &["/dev/vda1 is mounted on /"]),
            (
                "raw /dev/vdb1",
                &[
                    "/dev/vdb1 holds ext3",
                    "`wipefs -a /dev/vdb1`",
                    "`ext3 /dev/vdb1`",
                ],
            ),
            ("raw /dev/vdb4", &["holds xfs", "wipefs"]),
            ("raw /dev/vde", &["in use as swap", "swapoff"]),
            ("raw /dev/vdf", &["/etc/fstab:3 uses /dev/vdf"]),
            (
                "ext3 /dev/vdz",
                &[
                    "there is no /dev/vdz",
                    "/dev/vdb1 (ext3, UUID=dump-1, LABEL=dump)",
                ],
            ),
            ("ext3 LABEL=nix", &["there is no LABEL=nix"]),
            ("ext2 UUID=twin", &["/dev/vdc and /dev/vdd"]),
            (
                "ext3 /dev/vda1",
                &["holds ext4 and not ext3", "`ext4 /dev/vda1`"],
            ),
            ("ext2 /dev/vdb1", &["holds ext3 and not ext2"]),
            (
                "ext4 /dev/vdb4",
                &["holds xfs and not ext4", "write `xfs /dev/vdb4`"],
            ),
            (
                "ext4 /dev/vde",
                &["holds swap and not ext4", "xfs, btrfs, vfat"],
            ),
            (
                "vfat /dev/vdb5\npath /a:b",
                &["kdump.conf:1: ", "/a:b has a colon"],
            ),
            ("ext4 /dev/vdb3", &["no file system", "mkfs.ext4"]),
            (
                "path /tmp/x",
                &["kdump.conf:1: ", "no target is set", "tmpfs"],
            ),
            (
                "raw /dev/vdb2\npath /tmp\ndefault dump_to_rootfs",
                &["kdump.conf:3: ", "tmpfs"],
            ),
            (
                "ext3 UUID=dump-1\next3 LABEL=dump",
                &["kdump.conf:2: LABEL=dump is /dev/vdb1, which kdump.conf:1 names already"],
            ),
            (
                "core_collector makedumpfile -E",
                &["kdump.conf:1: ", "-E", "not supported yet"],
            ),
        ] {
            let said = on(&host(), text).unwrap_err().to_string();
            for part in parts {
                assert!(said.contains(part), "{text:?}: {part:?} is not in: {said}");
            }
        }
    }

    #[test]
    fn a_fall_back_that_cannot_be_is_a_warning_when_nobody_asked_for_it() {
        let plan = resolved("raw /dev/vdb2\npath /tmp");
        assert_eq!(
            (plan.attempts.len(), plan.failure_action),
            (1, FailureAction::Reboot)
        );
        assert!(
            plan.warnings
                .iter()
                .any(|warning| warning.contains("no dump to the root file system")),
            "{:?}",
            plan.warnings
        );
        // The root file system as a target is not tried twice.
        let plan = resolved("ext4 /dev/vda1\npath /x");
        assert_eq!(
            (plan.attempts.len(), plan.failure_action),
            (1, FailureAction::Reboot)
        );
    }

    #[test]
    fn ext4_takes_its_elders() {
        assert_eq!(
            attempts(&resolved("ext4 /dev/vdb1"))[0],
            "configured ext4 UUID=dump-1 (/dev/vdb1), save path /var/crash"
        );
    }

    #[test]
    fn a_type_brings_its_options_and_what_its_driver_asks_for() {
        let plan = resolved("vfat /dev/vdb5");
        let TargetSpec::Filesystem { mount_options, .. } = plan.attempts[0].target() else {
            panic!("{plan:?}");
        };
        assert_eq!(mount_options, "codepage=437,iocharset=ascii,umask=0077");
        let position = |want: &Want| plan.needs.iter().position(|need| need.want == *want);
        let (page, driver) = (
            position(&Want::Name("nls_cp437".to_owned())),
            position(&Want::Filesystem("vfat".to_owned())),
        );
        assert!(page.is_some() && page < driver, "{:?}", plan.needs);
    }

    #[test]
    fn a_root_in_a_subvolume_is_found_from_the_top_and_started_as_it_is() {
        let host = Tree::new(&[
            (
                "kdump.devices",
                "/dev/vda size=1000 fstype=btrfs uuid=b-1 modules=virtio_blk\n",
            ),
            (
                "proc/self/mountinfo",
                "21 1 0:31 /@ / rw shared:1 - btrfs /dev/vda rw,subvol=/@\n",
            ),
        ])
        .host();
        let plan = on(&host, "default mount_root_run_init\nbtrfs /dev/vda\n").unwrap();
        let TargetSpec::Filesystem {
            mount_options,
            path,
            ..
        } = plan.attempts[0].target()
        else {
            panic!("{plan:?}");
        };
        // A target of its own is what `mount` shows of it.
        assert_eq!((mount_options, path), ("", "/var/crash"));
        assert_eq!(plan.root.unwrap().mount_options, "subvol=/@");
        let plan = on(&host, "").unwrap();
        let TargetSpec::Filesystem {
            mount_options,
            path,
            ..
        } = plan.attempts[0].target()
        else {
            panic!("{plan:?}");
        };
        assert_eq!((mount_options, path), ("subvolid=5", "/@/var/crash"));
    }

    #[test]
    fn what_cannot_take_a_dump_is_refused_with_the_reason() {
        let mut image = vec![0; 0x8000];
        image[1024..1072].copy_from_slice(
            &include_bytes!("../../../targets/tests/golden/minix1-short")[1024..1072],
        );
        let tree = Tree::new(&[("kdump.devices", "/dev/vda size=32768 modules=virtio_blk\n")]);
        tree.write("dev/vda", &image);
        let said = on(&tree.host(), "minix /dev/vda\ndefault reboot\n")
            .unwrap_err()
            .to_string();
        assert!(said.contains("names end at 14 bytes"), "{said}");
    }

    #[test]
    fn every_compression_is_taken_as_it_is_asked_for() {
        for (option, compression) in [
            ("-c", Compression::Zlib),
            ("-l", Compression::Lzo),
            ("-p", Compression::Snappy),
            ("-z", Compression::Zstd),
        ] {
            let line = format!("core_collector makedumpfile {option} -d 1,31\nraw /dev/vdb2");
            let plan = resolved(&line);
            let collect = &plan.attempts[0].collect;
            assert_eq!(
                (collect.compression, collect.levels.len()),
                (compression, 2)
            );
            assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
        }
        assert_eq!(
            resolved("core_collector cp").attempts[0].collect,
            CollectOptions::copy()
        );
    }

    #[test]
    fn all_mistakes_come_together() {
        let said = on(
            &host(),
            "raw /dev/vda1\next3 /dev/nix\ncore_collector makedumpfile -E\n",
        )
        .unwrap_err();
        assert_eq!(said.0.len(), 3, "{said}");
    }

    #[test]
    fn the_needs_are_the_drivers_from_the_bus_on_and_the_file_system_once() {
        let plan = resolved(
            "ext3 /dev/vdb1\npath /srv\nextra_modules sd_mod\ndisk_timeout 7\ndump_deadline 8\nstall_timeout 9",
        );
        let needs: Vec<String> = plan
            .needs
            .iter()
            .map(|need| match &need.want {
                Want::Driver(driver) => format!("driver {}", driver.module.as_deref().unwrap()),
                Want::Filesystem(fstype) => format!("fs {fstype}"),
                Want::Name(name) => format!("name {name}"),
            })
            .collect();
        assert_eq!(
            needs,
            [
                "driver virtio_pci",
                "driver virtio_blk",
                "fs ext3",
                // The root file system's disk is another one, behind the same drivers.
                "driver virtio_pci",
                "driver virtio_blk",
                "fs ext4",
                "name sd_mod"
            ]
        );
        let deadlines = plan.deadlines;
        assert_eq!(
            (deadlines.device_s, deadlines.dump_s, deadlines.stall_s),
            (7, 8, 9)
        );
    }

    #[test]
    fn the_record_reads_back_as_it_was_meant() {
        let plan = resolved("ext3 LABEL=dump\npath \"/my dumps\"\ndefault mount_root_run_init");
        let chosen = [Chosen {
            name: "virtio-blk".to_owned(),
            by: String::new(),
            bytes: vec![],
        }];
        let record = plan.record(&chosen).unwrap();
        let text = record.to_string();
        assert_eq!(record::parse(&text).unwrap(), record, "{text}");
        assert!(text.contains(" path /my dumps\n"), "{text}");
    }
}
