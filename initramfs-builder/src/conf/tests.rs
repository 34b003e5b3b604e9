// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a `kdump.conf` says, and what is said about one that is wrong.

use super::*;
use config::fence::Sending;
use config::{Compression, Format};

fn parsed(text: &str) -> Directives {
    parse("kdump.conf", text.as_bytes()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn mistakes(text: &[u8]) -> String {
    parse("kdump.conf", text).unwrap_err().to_string()
}

fn only_target(text: &str) -> Target {
    let directives = parsed(text);
    assert_eq!(directives.targets.len(), 1, "{text}");
    directives.targets[0].value.clone()
}

fn only_device(text: &str) -> DeviceName {
    match only_target(text) {
        Target::Local { device, .. } => device,
        other => panic!("{other}"),
    }
}

#[test]
fn servers_are_taken_apart() {
    let nfs = |text: &str| match only_target(text) {
        Target::Nfs {
            server,
            export,
            is_version_4,
        } => (server, export, is_version_4),
        other => panic!("{other}"),
    };
    let of = |server: &str, export: &str, four| (server.to_owned(), export.to_owned(), four);
    assert_eq!(nfs("net nas:/srv/crash/"), of("nas", "/srv/crash", false));
    assert_eq!(nfs("nfs 10.0.2.2:/"), of("10.0.2.2", "/", false));
    assert_eq!(nfs("nfs4 [fd00::2]:/a"), of("fd00::2", "/a", true));
    assert_eq!(only_target("nfs [fd00::2]:/a").to_string(), "[fd00::2]:/a");
    for (text, said) in [
        ("nfs nas", "no export of a server"),
        ("nfs :/a", "names no server"),
        ("nfs fd00::2:/a", "names no server"),
        ("nfs [nas]:/a", "names no server"),
        ("ssh nas", "`nas` is no login"),
        ("net @nas", "`@nas` is no login"),
        ("ssh root@[nas]:0", "is no login"),
        ("ssh root@[nas]x", "is no login"),
        ("ssh root@nas:22", "is no login"),
        ("sshkey id", "no absolute path"),
        ("link_delay soon", "number of seconds"),
        ("ifc eth0 eth1", "one word"),
    ] {
        let mistakes = mistakes(text.as_bytes());
        assert!(mistakes.contains(said), "{text}: {mistakes}");
    }
    for (text, user, server, port) in [
        ("net root@nas", "root", "nas", 22),
        ("ssh root@nas", "root", "nas", 22),
        ("ssh a@b@nas", "a@b", "nas", 22),
        ("ssh k@fd00::2", "k", "fd00::2", 22),
        ("ssh k@[fd00::2]:2222", "k", "fd00::2", 2222),
        ("ssh k@[nas]", "k", "nas", 22),
    ] {
        let (user, server) = (user.to_owned(), server.to_owned());
        assert_eq!(only_target(text), Target::Ssh { user, server, port });
    }
    let directives = parsed("nfs nas:/a\nlink_delay 5\nifc eth1\n");
    assert_eq!(directives.link_delay_s.unwrap().value, 5);
    assert_eq!(directives.ifc.unwrap().value, "eth1");
}

#[test]
fn a_file_of_the_rhel_5_days_is_read_whole() {
    let directives = parsed(
        "# Configures where to put the kdump /proc/vmcore files\r\n\
         \t raw\t/dev/sda5   # the spare one\r\n\
         ext3 LABEL=\"my disk # 1\"\r\n\
         \r\n\
         path /var//crash/./x/\r\n\
         core_collector makedumpfile -c --message-level 1 -d 31\r\n\
         default halt\r\n\
         disk_timeout\t30\r\n\
         extra_modules gfs2 virtio-blk\r\n\
         extra_modules sd_mod",
    );
    let targets: Vec<_> = directives
        .targets
        .iter()
        .map(|at| match &at.value {
            Target::Local { kind, device } => (at.line, kind.word(), device.to_string()),
            other => (at.line, "other", other.to_string()),
        })
        .collect();
    assert_eq!(
        targets,
        [
            (2, "raw", "/dev/sda5".to_owned()),
            (3, "ext3", "LABEL=my disk # 1".to_owned())
        ]
    );
    assert_eq!(directives.path.unwrap().value, "/var/crash/x");
    let Some(Collector::BuiltIn(collector)) = directives.core_collector.map(|at| at.value) else {
        panic!("makedumpfile is built in");
    };
    assert_eq!(
        (collector.format, collector.compression),
        (Format::Kdump, Compression::Zlib)
    );
    assert_eq!(
        directives.failure_action.unwrap().value,
        OnFailure {
            action: FailureAction::Halt,
            by_default: true
        }
    );
    assert_eq!(directives.disk_timeout_s, Some(At { line: 8, value: 30 }));
    let modules: Vec<_> = directives
        .extra_modules
        .iter()
        .map(|at| at.value.as_str())
        .collect();
    assert_eq!(modules, ["gfs2", "virtio-blk", "sd_mod"]);
}

#[test]
fn an_empty_file_says_nothing_and_is_no_mistake() {
    for text in ["", "\n", "# path /x", "   \t\n\r\n", "\u{feff}#"] {
        let directives = parsed(text);
        assert!(
            directives.targets.is_empty() && directives.path.is_none(),
            "{text:?}"
        );
    }
}

#[test]
fn quotes_keep_blanks_and_hashes_and_are_taken_away() {
    for text in [
        "ext3 LABEL=\"a b\"",
        "ext3 \"LABEL=a b\"",
        "ext3 LABEL='a b' # c",
        "ext3 LABEL=a\" \"b",
    ] {
        assert_eq!(
            only_device(text),
            DeviceName::Label("a b".to_owned()),
            "{text}"
        );
    }
    // A hash inside a word is no comment.
    assert_eq!(
        only_device("ext3 LABEL=a#b"),
        DeviceName::Label("a#b".to_owned())
    );
    assert_eq!(
        only_device("ext3 LABEL='#1'"),
        DeviceName::Label("#1".to_owned())
    );
}

#[test]
fn every_device_form_and_action_is_taken() {
    assert_eq!(
        only_device("raw PARTUUID=1a2b3c4d-02"),
        DeviceName::PartUuid("1a2b3c4d-02".to_owned())
    );
    assert_eq!(
        only_device("ext2 UUID=x-y"),
        DeviceName::Uuid("x-y".to_owned())
    );
    assert_eq!(
        only_device("ext4 /dev/disk/by-id/x=y"),
        DeviceName::Node("/dev/disk/by-id/x=y".to_owned())
    );
    for action in FailureAction::ALL {
        for word in ["default", "failure_action"] {
            let taken = parsed(&format!("{word} {action}"))
                .failure_action
                .unwrap()
                .value;
            assert_eq!(
                taken,
                OnFailure {
                    action,
                    by_default: word == "default"
                }
            );
        }
    }
    for action in FinalAction::ALL {
        assert_eq!(
            parsed(&format!("final_action {action}"))
                .final_action
                .unwrap()
                .value,
            action
        );
    }
}

#[test]
fn a_wrong_line_gets_its_place_the_word_and_what_is_accepted() {
    for (text, parts) in [
        (
            "rav /dev/sda5",
            &["kdump.conf:1: ", "`rav`", "did you mean `raw`?"][..],
        ),
        ("failure-action reboot", &["did you mean `failure_action`?"]),
        (
            "\n\nfoobar x",
            &["kdump.conf:3: ", "`foobar`", "accepted are raw, ext2"],
        ),
        (
            "default rebot",
            &[
                "`rebot`",
                "did you mean `reboot`?",
                "dump_to_rootfs, mount_root_run_init",
            ],
        ),
        ("default", &["`default` has no value", "poweroff"]),
        (
            "final_action shell",
            &["`final_action` cannot be `shell`", "reboot, halt, poweroff"],
        ),
        (
            "final_action reboot now",
            &["takes one word", "`reboot now`"],
        ),
        ("raw", &["`raw` has no value", "LABEL="]),
        ("raw # /dev/sda5", &["`raw` has no value"]),
        ("raw sda5", &["`sda5` names no device", "/dev/"]),
        ("raw /dev/", &["names no device"]),
        ("ext3 UID=1", &["`UID=`", "did you mean `UUID=`?"]),
        ("ext3 ID_SERIAL=1", &["unknown `ID_SERIAL=`", "PARTUUID="]),
        ("ext3 LABEL=", &["nothing behind the `=`"]),
        (
            "ext3 LABEL=my disk",
            &["more than one word", "needs quotes"],
        ),
        ("ext3 LABEL=\"my disk", &["a quote (\") without its end"]),
        (
            "ext3 /dev/a\next3 /dev/a",
            &["kdump.conf:2: ", "the same target stands in line 1"],
        ),
        ("path", &["`path` has no value", "/var/crash"]),
        ("path /a/../b", &["`/a/../b` goes up"]),
        ("path /a b", &["needs quotes"]),
        (
            "path /a\npath /b",
            &["kdump.conf:2: ", "`path` was set before, in line 1"],
        ),
        (
            "default halt\nfailure_action halt",
            &["kdump.conf:2: ", "set before, in line 1", "old word"],
        ),
        (
            "disk_timeout 0",
            &["`disk_timeout` cannot be `0`", "from 1"],
        ),
        ("disk_timeout 3m", &["`3m`"]),
        ("disk_timeout 99999999999", &["`99999999999`"]),
        (
            "core_collector",
            &["`core_collector` has no value", "makedumpfile"],
        ),
        ("core_collector makedumpfile -d 32", &["32"]),
        (
            "extra_modules a.ko",
            &["`a.ko`", "without directory and `.ko`"],
        ),
        ("extra_modules ../x", &["`../x`"]),
        ("virtiofs crash", &["`virtiofs` is not supported yet"]),
        ("path /a\u{1}b", &["control character"]),
    ] {
        let said = mistakes(text.as_bytes());
        for part in parts {
            assert!(said.contains(part), "{text:?}: {part:?} is not in: {said}");
        }
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert!(mistakes(b"path /caf\xe9").contains("kdump.conf:1: the line is not UTF-8"));
}

#[test]
fn all_mistakes_are_reported_in_the_order_of_the_file() {
    let said = mistakes(b"rwa /dev/sda5\npath /ok\ndefault foo\nssh ab\n");
    let places: Vec<_> = said
        .lines()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(places, ["kdump.conf:1", "kdump.conf:3", "kdump.conf:4"]);
}

#[test]
fn no_directive_is_in_both_tables() {
    for (word, _) in DIRECTIVES {
        assert!(!NOT_YET.contains(&word), "{word}");
    }
}

#[test]
fn any_bytes_give_directives_or_mistakes() {
    let sample =
        b"raw /dev/sda5 # x\npath \"/var/crash\"\ncore_collector makedumpfile -c -d 1,31\n";
    for position in 0..sample.len() {
        for bit in 0..8 {
            let mut bytes = sample.to_vec();
            bytes[position] ^= 1 << bit;
            let _ =
                parse("f", &bytes).map_err(|mistakes| assert!(!mistakes.to_string().is_empty()));
        }
        let _ = parse("f", &sample[..position])
            .map_err(|mistakes| assert!(!mistakes.to_string().is_empty()));
    }
}

#[test]
fn programs_modules_and_switches_are_taken() {
    let directives = parsed(
        "core_collector /usr/bin/dumper  -v\nkdump_pre /etc/kdump/before.sh\nkdump_post /a\nkdump_emergency /b\n\
         extra_bins /sbin/lvm /usr/bin/vim\nextra_bins /bin/cat\nblacklist e1000 drivers/gpu\n\
         options scsi_mod max_luns=1  x=y\nforce_rebuild 1\nforce_no_rebuild 0\nauto_reset_crashkernel no\n\
         debug_mem_level 3\ndracut_args --omit-drivers \"nouveau\"\n",
    );
    assert_eq!(
        directives.core_collector.unwrap().value,
        Collector::Program("/usr/bin/dumper -v".to_owned())
    );
    let one = |at: Option<At<String>>| at.unwrap().value;
    assert_eq!(one(directives.kdump_pre), "/etc/kdump/before.sh");
    assert_eq!(
        (one(directives.kdump_post), one(directives.kdump_emergency)),
        ("/a".to_owned(), "/b".to_owned())
    );
    let all = |list: &[At<String>]| list.iter().map(|at| at.value.clone()).collect::<Vec<_>>();
    assert_eq!(
        all(&directives.extra_bins),
        ["/sbin/lvm", "/usr/bin/vim", "/bin/cat"]
    );
    assert_eq!(all(&directives.blacklist), ["e1000", "drivers/gpu"]);
    assert_eq!(all(&directives.dracut_args), ["--omit-drivers nouveau"]);
    assert_eq!(
        directives.options[0].value,
        ("scsi_mod".to_owned(), "max_luns=1  x=y".to_owned())
    );
    assert_eq!(directives.force_rebuild.map(|at| at.value), Some(true));
    assert_eq!(directives.force_no_rebuild.map(|at| at.value), Some(false));
    assert_eq!(
        directives.auto_reset_crashkernel.map(|at| at.value),
        Some(false)
    );
    assert_eq!(directives.debug_mem_level.map(|at| at.value), Some(3));
}

#[test]
fn a_mount_for_dracut_is_a_target() {
    let one = |text: &str| {
        let directives = parsed(text);
        (
            directives.targets[0].value.to_string(),
            directives.dracut_args.len(),
        )
    };
    for (text, target, left) in [
        (
            "dracut_args --mount \"/dev/sda1 /mnt ext4 defaults\"",
            "/dev/sda1",
            0,
        ),
        (
            "dracut_args --no-hostonly --mount=\"LABEL=x /mnt xfs\" --lz4",
            "LABEL=x",
            1,
        ),
        (
            "dracut_args --mount \"nas:/export /mnt nfs4 soft 0 0\"",
            "nas:/export",
            0,
        ),
    ] {
        assert_eq!(one(text), (target.to_owned(), left), "{text}");
    }
    for (text, said) in [
        (
            "dracut_args --mount \"/dev/sda1 /mnt\"",
            "the type of the file system",
        ),
        (
            "dracut_args --mount \"/dev/sda1 /mnt zfs\"",
            "the type `zfs`, which is not supported",
        ),
    ] {
        let mistakes = mistakes(text.as_bytes());
        assert!(mistakes.contains(said), "{text}: {mistakes}");
    }
}

#[test]
fn the_cluster_is_told_as_the_arguments_say() {
    let directives =
        parsed("fence_kdump_nodes node1 10.0.0.2\nfence_kdump_args -p 7411 -f ipv4 -c 3 -i5 -v\n");
    assert_eq!(directives.fence_kdump_nodes.len(), 2);
    let options = directives.fence_kdump_args.unwrap().value;
    assert_eq!(
        (options.sending, options.family),
        (
            Sending {
                port: 7411,
                interval_s: 5,
                count: 3
            },
            Some(Family::V4)
        )
    );
    assert_eq!(
        parsed("fence_kdump_args --ipport=1 --interval 7")
            .fence_kdump_args
            .unwrap()
            .value,
        FenceOptions {
            sending: Sending {
                port: 1,
                interval_s: 7,
                count: 0,
            },
            family: None,
        }
    );
    for (text, said) in [
        ("fence_kdump_args -p x", "`-p` cannot be `x`"),
        ("fence_kdump_args -i 0", "`-i` cannot be `0`"),
        ("fence_kdump_args -q", "unknown option `-q`"),
        ("fence_kdump_nodes a b a", "the node a is named twice"),
        ("fence_kdump_nodes", "has no value"),
        ("force_rebuild maybe", "`force_rebuild` cannot be `maybe`"),
        ("force_rebuild 1\nforce_no_rebuild 1", "both on"),
        ("debug_mem_level 4", "accepted are 0, 1, 2, 3"),
        ("keep_dumps 0", "accepted is how many dumps stay"),
        ("keep_dumps 2\nkeep_dumps 3", "set before, in line 1"),
        (
            "encrypt_to",
            "`encrypt_to` has no value; accepted is a public key of age",
        ),
        (
            "encrypt_to ssh-ed25519",
            "`encrypt_to` cannot be `ssh-ed25519`: it does not begin as a key of age does; accepted is a public key of age",
        ),
        (
            "encrypt_to age1xmwwc06ly3ee5rytxm9mflaz2u56jjj36s0mypdrwsvlul66mv4q47ryeg",
            "kdump.conf:1: `encrypt_to` cannot be `age1xmwwc06ly3ee5rytxm9mflaz2u56jjj36s0mypdrwsvlul66mv4q47ryeg`: its checksum",
        ),
        (
            "encrypt_to age1xmwwc06ly3ee5rytxm9mflaz2u56jjj36s0mypdrwsvlul66mv4q47ryef\n\
             encrypt_to age1xmwwc06ly3ee5rytxm9mflaz2u56jjj36s0mypdrwsvlul66mv4q47ryef",
            "was given before, in line 1",
        ),
        (
            "watchdog 5",
            "`watchdog` cannot be `5`; accepted is a number of seconds from 10 to 3600, or `no`",
        ),
        ("watchdog yes", "`watchdog` cannot be `yes`"),
        ("override_resettable maybe", "cannot be `maybe`"),
        (
            "kdump_pre before.sh",
            "`before.sh` is no file by its absolute path",
        ),
        ("extra_bins /usr/bin/", "no file by its absolute path"),
        ("options e1000", "has no parameters"),
        ("options a x=1\noptions a y=1", "were set before, in line 1"),
        ("blacklist ../x", "no name of a module"),
    ] {
        let mistakes = mistakes(text.as_bytes());
        assert!(mistakes.contains(said), "{text}: {mistakes}");
    }
}

#[test]
fn a_secret_key_is_refused_and_not_repeated() {
    let secret = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0";
    let said = mistakes(format!("encrypt_to {secret}").as_bytes());
    assert!(said.contains("it is a secret key"), "{said}");
    assert!(!said.contains(secret), "{said}");
}
