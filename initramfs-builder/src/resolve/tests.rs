// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of a `kdump.conf` on a host, and what is refused.

use super::*;
use crate::conf;
use crate::host::tests::Tree;
use crate::modules::closure::Chosen;
use config::{CollectOptions, Compression, HookKind, TargetSpec, record};

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

/// The options and the save path of the first attempt, which is at a file system.
fn mounted(plan: &Resolved) -> (&str, &str) {
    let TargetSpec::Filesystem {
        mount_options,
        path,
        ..
    } = plan.attempts[0].target()
    else {
        panic!("{plan:?}");
    };
    (mount_options, path)
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
    let (mount_options, path) = mounted(&plan);
    // A target of its own is what `mount` shows of it.
    assert_eq!((mount_options, path), ("", "/var/crash"));
    assert_eq!(plan.root.unwrap().mount_options, "subvol=/@");
    let plan = on(&host, "").unwrap();
    let (mount_options, path) = mounted(&plan);
    assert_eq!((mount_options, path), ("subvolid=5", "/@/var/crash"));
}

#[test]
fn what_cannot_take_a_dump_is_refused_with_the_reason() {
    let mut image = vec![0; 0x8000];
    image[1024..1072]
        .copy_from_slice(&include_bytes!("../../../targets/tests/golden/minix1-short")[1024..1072]);
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
fn dumps_are_encrypted_to_every_key_or_not_made_by_another_program() {
    const KEY: &str = "age1xmwwc06ly3ee5rytxm9mflaz2u56jjj36s0mypdrwsvlul66mv4q47ryef";
    let plan = resolved(&format!("ext3 /dev/vda2\nencrypt_to {KEY}\n"));
    assert_eq!(plan.record(&[]).unwrap().encrypt_to, [KEY]);
    let tree = with_programs(&["/usr/bin/dumper"]);
    let host = tree.host();
    let text = format!("raw /dev/vdb2\nencrypt_to {KEY}\ncore_collector dumper -x\n");
    let said = on(&host, &text).unwrap_err().to_string();
    assert!(
        said.contains(
            "kdump.conf:2: `encrypt_to` cannot be obeyed: `/usr/bin/dumper -x` of `core_collector`"
        ),
        "{said}"
    );
}

#[test]
fn the_watchdog_waits_longer_than_any_step_unless_a_person_said_otherwise() {
    let mut host = host();
    assert_eq!(on(&host, "").unwrap().watchdog, None);
    let plan = on(&host, "watchdog 60\n").unwrap();
    assert!(
        plan.warnings.iter().any(|warning| warning
            .starts_with("kdump.conf:1: `watchdog` has no effect: this machine has no")),
        "{:?}",
        plan.warnings
    );
    host.watchdogs = vec![crate::host::Watchdog {
        driver: "i6300ESB timer".to_owned(),
        is_active: false,
        drivers: vec![crate::host::Driver {
            module: Some("i6300esb".to_owned()),
            name: Some("i6300ESB timer".to_owned()),
            ..Default::default()
        }],
    }];
    let plan = on(&host, "").unwrap();
    assert_eq!(plan.watchdog, Some(("i6300ESB timer".to_owned(), 310)));
    // Its module is loaded before any other.
    assert_eq!(plan.needs[0].by, "the watchdog i6300ESB timer");
    let record = plan.record(&[]).unwrap().to_string();
    assert!(
        record.contains("\nwatchdog 310 i6300ESB timer\n"),
        "{record}"
    );
    let plan = on(&host, "watchdog 400\nstall_timeout 500\n").unwrap();
    assert_eq!(plan.watchdog.as_ref().unwrap().1, 400);
    assert!(
        plan.warnings
            .iter()
            .any(|warning| warning
                .contains("after 400 s without progress, where a step may take 510 s")),
        "{:?}",
        plan.warnings
    );
    assert_eq!(on(&host, "watchdog no\n").unwrap().watchdog, None);
}

#[test]
fn old_dumps_go_where_they_lie_beside_the_new_one() {
    let plan = resolved("ext3 /dev/vda2\nkeep_dumps 3\ndefault reboot\n");
    assert_eq!(plan.record(&[]).unwrap().keep_dumps, 3);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    assert_eq!(resolved("").record(&[]).unwrap().keep_dumps, 0);
    // One target obeys it, the other cannot.
    let plan = resolved("raw /dev/vdb2\next3 /dev/vda2\nkeep_dumps 3\ndefault reboot\n");
    assert!(
        plan.warnings.iter().any(|warning| warning
            .starts_with("kdump.conf:3: `keep_dumps` has no effect there: /dev/vdb2")),
        "{:?}",
        plan.warnings
    );
    let said = on(&host(), "raw /dev/vdb2\nkeep_dumps 3\ndefault reboot\n").unwrap_err();
    assert!(
        said.to_string().contains(
            "kdump.conf:2: `keep_dumps` cannot be obeyed: /dev/vdb2 has one dump at a time"
        ),
        "{said}"
    );
}

#[test]
fn all_mistakes_come_together() {
    let said = on(
        &host(),
        "raw /dev/vda1\next3 /dev/nix\ncore_collector nix /proc/vmcore\n",
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
            Want::Algorithm(name) | Want::Faster(name) => format!("crypto {name}"),
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

/// A host with these programs, all of which can be run.
fn with_programs(files: &[&str]) -> Tree {
    use std::os::unix::fs::PermissionsExt as _;
    let tree = Tree::new(&[("kdump.devices", DEVICES), ("proc/mounts", MOUNTS)]);
    for file in files {
        tree.write(file, b"#!/bin/sh\n");
        let place = tree.0.join(file.trim_start_matches('/'));
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    tree.write("bin/sh", b"a shell");
    tree
}

#[test]
fn hooks_are_in_the_order_in_which_they_run() {
    let tree = with_programs(&[
        "/etc/kdump/post.d/20b",
        "/etc/kdump/post.d/10a",
        "/etc/kdump/pre.d/x",
        "/etc/kdump/emergency.d/y",
        "/opt/pre",
        "/opt/post",
        "/opt/emergency",
    ]);
    tree.write("etc/kdump/pre.d/README", b"not a program");
    let plan = on(
        &tree.host(),
        "raw /dev/vdb2\nkdump_emergency /opt/emergency\nkdump_post /opt/post\nkdump_pre /opt/pre\ndebug_mem_level 1",
    )
    .unwrap();
    let record = plan.record(&[]).unwrap();
    let hooks: Vec<_> = record.hooks.iter().map(|hook| hook.path).collect();
    assert_eq!(
        hooks,
        [
            "/opt/pre",
            "/etc/kdump/pre.d/x",
            "/etc/kdump/post.d/10a",
            "/etc/kdump/post.d/20b",
            "/opt/post",
            "/etc/kdump/emergency.d/y",
            "/opt/emergency"
        ]
    );
    assert_eq!(
        (record.hooks[0].kind, record.debug_mem_level),
        (HookKind::Pre, 1)
    );
    assert!(
        plan.warnings
            .iter()
            .any(|warning| warning.contains("pre.d/README is not executable")),
        "{:?}",
        plan.warnings
    );
    assert!(plan.programs.files().any(|(name, _)| name == "/bin/sh"));
    let text = record.to_string();
    assert_eq!(record::parse(&text).unwrap(), record, "{text}");
}

#[test]
fn a_collector_that_is_not_built_in_comes_from_the_host() {
    let tree = with_programs(&["/usr/bin/dumper"]);
    let host = tree.host();
    let plan = on(
        &host,
        "ext3 /dev/vdb1\ncore_collector dumper --all\ndefault reboot",
    )
    .unwrap();
    let record = plan.record(&[]).unwrap();
    assert_eq!(record.attempts[0].program, Some("/usr/bin/dumper --all"));
    assert_eq!(record::parse(&record.to_string()).unwrap(), record);
    for (text, said) in [
        ("core_collector gzip", "there is no program `gzip`"),
        (
            "core_collector makedmpfile -c",
            "built in are makedumpfile with options, cp, dd and scp",
        ),
        (
            "kdump_pre /etc/kdump/nix",
            "`kdump_pre`: reading /etc/kdump/nix",
        ),
        ("kdump_post /bin/sh", "/bin/sh is not executable"),
        ("extra_bins /nix", "kdump.conf:1: reading /nix"),
    ] {
        let mistakes = on(&host, text).unwrap_err().to_string();
        assert!(mistakes.contains(said), "{text}: {mistakes}");
    }
}

#[test]
fn options_reach_the_module_whatever_its_dashes() {
    let plan = resolved("raw /dev/vdb2\noptions virtio_blk queue_depth=8 num_request_queues=1");
    let chosen = [Chosen {
        name: "virtio-blk".to_owned(),
        by: String::new(),
        bytes: vec![],
    }];
    let record = plan.record(&chosen).unwrap();
    assert_eq!(
        record.modules[0].options,
        "queue_depth=8 num_request_queues=1"
    );
}
