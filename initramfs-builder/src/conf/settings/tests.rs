// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files of SUSE and Debian, what they become, and the way back.

use super::*;
use crate::conf::{Collector, Directives};

fn parsed(text: &str) -> Directives {
    let dialect = Dialect::of(text.as_bytes());
    parse("f", text.as_bytes(), dialect).unwrap_or_else(|mistakes| panic!("{text}: {mistakes}"))
}

fn refused(text: &str) -> String {
    match parse("f", text.as_bytes(), Dialect::of(text.as_bytes())) {
        Ok(directives) => panic!("{text}: {directives:?}"),
        Err(mistakes) => mistakes.to_string(),
    }
}

fn warnings(directives: &Directives) -> Vec<&str> {
    directives
        .warnings
        .iter()
        .map(|at| at.value.as_str())
        .collect()
}

/// The same without what only says where it stood.
fn meaning(directives: &Directives) -> String {
    let mut directives = directives.clone();
    let standard = || At {
        line: 0,
        value: "/var/crash".to_owned(),
    };
    directives.path.get_or_insert_with(standard);
    let written = write(&directives, Dialect::Rhel);
    let keep = directives.keep_dumps.map(|at| at.value);
    format!("{}{keep:?}", written.text)
}

#[test]
fn a_file_says_by_itself_whose_it_is() {
    for (text, dialect) in [
        ("", Dialect::Rhel),
        ("ext4 /dev/sda1\n", Dialect::Rhel),
        ("# KDUMP_SAVEDIR=x\npath /a=b\n", Dialect::Rhel),
        ("dracut_args --mount=x\n", Dialect::Rhel),
        ("KDUMP_SAVEDIR=\"/a\"\n", Dialect::Suse),
        ("KDUMP_SAVEDRI=\"/a\"\n", Dialect::Suse),
        ("USE_KDUMP=1\n", Dialect::Debian),
        ("# x\n\nexport SSH=a@b\n", Dialect::Debian),
    ] {
        assert_eq!(Dialect::of(text.as_bytes()), dialect, "{text}");
    }
    for dialect in Dialect::ALL {
        assert_eq!(Dialect::from_word(dialect.word()), Some(dialect));
    }
}

/// Files of SUSE, and what their settings are in kdump.conf.
const SUSE: [(&str, &str); 9] = [
    (
        "KDUMP_SAVEDIR=\"/var/crash\"\nKDUMP_DUMPLEVEL=\"31\"\nKDUMP_DUMPFORMAT=\"compressed\"\nKDUMP_CONTINUE_ON_ERROR=\"true\"\n",
        "path /var/crash\ncore_collector makedumpfile -c -d 31\nfailure_action reboot\n",
    ),
    (
        "KDUMP_SAVEDIR=\"file:///srv/dumps\"\nKDUMP_KEEP_OLD_DUMPS=0\n",
        "path /srv/dumps\ncore_collector makedumpfile -c -d 31\n",
    ),
    (
        "KDUMP_SAVEDIR=\"nfs://nas.example/srv/crash\"\nKDUMP_DUMPFORMAT=lzo\nKDUMP_DUMPLEVEL=0\n",
        "nfs nas.example:/srv/crash\npath /\ncore_collector makedumpfile -l -d 0\nfailure_action dump_to_rootfs\n",
    ),
    (
        "KDUMP_SAVEDIR=\"ssh://kdump@nas.example/dumps\"\nKDUMP_SSH_IDENTITY=\"/root/.ssh/id_ed25519\"\nKDUMP_DUMPFORMAT=zstd\nKDUMP_CONTINUE_ON_ERROR=false\n",
        "ssh kdump@nas.example\npath /dumps\ncore_collector makedumpfile -F -z -d 31\nsshkey /root/.ssh/id_ed25519\nfailure_action shell\n",
    ),
    (
        "KDUMP_SAVEDIR=\"sftp://nas.example/dumps/a\"\nKDUMP_DUMPFORMAT=snappy\n",
        "ssh root@nas.example\npath /dumps/a\ncore_collector makedumpfile -F -p -d 31\nfailure_action dump_to_rootfs\n",
    ),
    (
        "KDUMP_SAVEDIR=\"scp://a@[fd00::9]/d\"\n",
        "ssh a@fd00::9\npath /d\ncore_collector makedumpfile -F -c -d 31\nfailure_action dump_to_rootfs\n",
    ),
    (
        "KDUMP_DUMPFORMAT=\"ELF\"\nKDUMP_DUMPLEVEL=1\nMAKEDUMPFILE_OPTIONS=\"--message-level 1\"\nKDUMP_REQUIRED_PROGRAMS=\"/usr/bin/lftp /usr/bin/jq\"\n",
        "core_collector makedumpfile -E -d 1\nextra_bins /usr/bin/lftp /usr/bin/jq\n",
    ),
    (
        "KDUMP_DUMPFORMAT=raw\nKDUMP_PRESCRIPT=/etc/kdump/a\nKDUMP_POSTSCRIPT=/etc/kdump/b\n",
        "core_collector cp\nkdump_pre /etc/kdump/a\nkdump_post /etc/kdump/b\n",
    ),
    (
        "KDUMP_SAVEDIR=\"\"\nKDUMP_DUMPLEVEL=\"\"\n",
        "core_collector makedumpfile -c -d 31\n",
    ),
];

/// Files of Debian.
const DEBIAN: [(&str, &str); 6] = [
    (
        "USE_KDUMP=1\nKDUMP_COREDIR=\"/var/crash\"\n#KDUMP_FAIL_CMD=\"x\"\n",
        "path /var/crash\ncore_collector makedumpfile -c -d 31\n",
    ),
    (
        "USE_KDUMP=1\nMAKEDUMP_ARGS=\"-l -d 17\"\nKDUMP_FAIL_CMD=\"halt -f\"\n",
        "core_collector makedumpfile -l -d 17\nfailure_action halt\n",
    ),
    (
        "USE_KDUMP=1\nNFS=\"nas:/srv/crash\"\nMAKEDUMP_ARGS=\"-F -c -d 31\"\n",
        "nfs nas:/srv/crash\npath /\ncore_collector makedumpfile -c -d 31\nfailure_action dump_to_rootfs\n",
    ),
    (
        "USE_KDUMP=1\nKDUMP_COREDIR=/srv\nSSH=\"kdump@nas\"\nSSH_KEY=\"/root/.ssh/kdump_id_ed25519\"\nHOSTTAG=ip\n",
        "ssh kdump@nas\npath /srv\ncore_collector makedumpfile -F -c -d 31\nsshkey /root/.ssh/kdump_id_ed25519\nfailure_action dump_to_rootfs\n",
    ),
    (
        "KDUMP_FAIL_CMD=\"echo 'makedumpfile FAILED.'; /bin/bash; reboot -f\"\nUSE_KDUMP=1\n",
        "core_collector makedumpfile -c -d 31\nfailure_action shell\n",
    ),
    (
        "KDUMP_FAIL_CMD=\"/sbin/shutdown -h now\"\nUSE_KDUMP=1\n",
        "core_collector makedumpfile -c -d 31\nfailure_action poweroff\n",
    ),
];

#[test]
fn settings_are_what_they_are_in_kdump_conf() {
    for (text, expected) in SUSE.iter().chain(&DEBIAN) {
        assert_eq!(
            write(&parsed(text), Dialect::Rhel).text,
            *expected,
            "{text}"
        );
    }
}

#[test]
fn what_a_dialect_can_say_comes_back_from_it_the_same() {
    for (dialect, files) in [(Dialect::Suse, &SUSE[..]), (Dialect::Debian, &DEBIAN)] {
        for (text, expected) in files {
            let written = write(&parsed(text), dialect);
            assert_eq!(
                Dialect::of(written.text.as_bytes()),
                dialect,
                "{}",
                written.text
            );
            assert_eq!(
                meaning(&parsed(&written.text)),
                meaning(&parsed(text)),
                "{}",
                written.text
            );
            // kdump.conf is the way between the two as well.
            assert_eq!(write(&parsed(expected), Dialect::Rhel).text, *expected);
        }
    }
    // How many are kept is counted otherwise on SUSE: the old ones beside the new one.
    for (suse, dumps) in [("3", 4), ("1", 2), ("-1", 1)] {
        let text = format!("KDUMP_KEEP_OLD_DUMPS={suse}\n");
        let directives = parsed(&text);
        assert_eq!(directives.keep_dumps.unwrap().value, dumps);
        let written = write(&directives, Dialect::Suse);
        assert!(
            written
                .text
                .contains(&format!("KDUMP_KEEP_OLD_DUMPS=\"{suse}\"\n")),
            "{}",
            written.text
        );
        assert_eq!(written.warnings.len(), 1, "{:?}", written.warnings);
        let debian = write(&directives, Dialect::Debian).text;
        assert!(
            debian.contains(&format!("KDUMP_NUM_DUMPS=\"{dumps}\"\n")),
            "{debian}"
        );
        assert_eq!(parsed(&debian).keep_dumps.unwrap().value, dumps);
    }
}

#[test]
fn the_network_is_set_up_as_the_settings_say() {
    let directives = parsed("KDUMP_NETCONFIG=\"eth1:static\"\nKDUMP_NET_TIMEOUT=300\n");
    assert_eq!(directives.ifc.unwrap().value, "eth1");
    assert_eq!(directives.network_timeout_s.unwrap().value, 300);
    for how in ["dhcp", "dhcp4", "auto6"] {
        let directives = parsed(&format!("KDUMP_NETCONFIG=\"eth1:{how}:force\"\n"));
        assert_eq!(
            directives.ip.as_ref().unwrap().value.device.as_deref(),
            Some("eth1")
        );
        let written = write(&directives, Dialect::Suse).text;
        assert_eq!(
            parsed(&written).ip.unwrap().value,
            directives.ip.unwrap().value
        );
    }
    assert!(parsed("KDUMP_NETCONFIG=auto\n").warnings.is_empty());
}

/// Every key of both files with a value that is not what happens anyway.
#[test]
fn each_key_has_an_effect_or_says_why_it_has_none() {
    let nothing = |directives: &Directives| {
        *directives
            == Directives {
                file: "f".to_owned(),
                ..Directives::default()
            }
    };
    for key in suse::KEYS.iter().chain(&debian::KEYS) {
        let value = match *key {
            "KDUMP_SAVEDIR"
            | "KDUMP_COREDIR"
            | "KDUMP_PRESCRIPT"
            | "KDUMP_POSTSCRIPT"
            | "KDUMP_REQUIRED_PROGRAMS"
            | "KDUMP_SSH_IDENTITY" => "/some/where",
            "KDUMP_DUMPFORMAT" => "lzo",
            "MAKEDUMPFILE_OPTIONS" | "MAKEDUMP_ARGS" => "-d 1",
            "KDUMP_NETCONFIG" => "eth0:dhcp",
            "KDUMP_FAIL_CMD" => "halt",
            "NFS" => "nas:/x",
            "SSH" => "a@nas",
            "USE_KDUMP" | "KDUMP_IMMEDIATE_REBOOT" => "0",
            "KDUMP_DUMP_DMESG" => "2",
            "HOSTTAG" => "hostname",
            _ => "1",
        };
        let dialect = if suse::KEYS.contains(key) {
            Dialect::Suse
        } else {
            Dialect::Debian
        };
        let text = format!("{key}=\"{value}\"\n");
        match parse("f", text.as_bytes(), dialect) {
            Ok(directives) => assert!(!nothing(&directives), "{key} is passed over"),
            Err(mistakes) => {
                let said = mistakes.to_string();
                assert!(said.starts_with(&format!("f:1: `{key}` ")), "{said}");
            }
        }
    }
}

#[test]
fn what_differs_is_told_and_what_cannot_be_is_refused() {
    for (text, said) in [
        ("KDUMP_FREE_DISK_SIZE=64\n", "no space is kept free"),
        ("KDUMP_PRESCRIPT=/a\n", "forbids the dump when it fails"),
        ("KDUMP_SAVEDIR=\"/a file:///a\"\n", "tried in order"),
        ("KDUMP_NET_TIMEOUT=30\n", "nothing is pinged"),
        ("KDUMP_CPUS=32\n", "nr_cpus="),
        (
            "KDUMP_DUMPLEVEL=1\nKDUMP_DUMPLEVEL=2\n",
            "is set again further down",
        ),
        (
            "KDUMP_SAVEDIR=ssh://a@b/c\nKDUMP_KEEP_OLD_DUMPS=2\n",
            "nothing is removed",
        ),
        ("USE_KDUMP=0\n", "kdumpctl disable"),
        ("NFS=a:/b\nSSH=a@b\n", "SSH is set, and comes before it"),
        ("NFS=a:/b\nKDUMP_COREDIR=/c\n", "the dumps lie at its top"),
        ("HOSTTAG=hostname\n", "this machine's address"),
        ("USE_KDUMP=1\nKDUMP_COMPRESSION=xz\n", "page by page"),
    ] {
        let directives = parsed(text);
        assert!(
            warnings(&directives)
                .iter()
                .any(|warning| warning.contains(said)),
            "{text}: {:?}",
            directives.warnings
        );
    }
    for (text, said) in [
        (
            "KDUMP_SAVEDIR=ftp://a/b\n",
            "f:1: `KDUMP_SAVEDIR` asks for ftp",
        ),
        ("KDUMP_SAVEDIR=cifs://a/b\n", "asks for cifs"),
        ("KDUMP_SAVEDIR=nfs://nas\n", "names no export"),
        ("KDUMP_SAVEDIR=ssh://nas\n", "names no directory"),
        ("KDUMP_SAVEDIR=ssh://a:secret@nas/b\n", "has a password"),
        (
            "KDUMP_SAVEDIR=\"/a /b\"\n",
            "all places must have one directory",
        ),
        ("KDUMP_DUMPLEVEL=32\n", "32"),
        ("KDUMP_DUMPFORMAT=zip\n", "cannot be `zip`"),
        ("KDUMP_DUMPFORMAT=none\n", "no dump but the log"),
        ("KDUMP_FADUMP=true\n", "fadump, which is not supported"),
        ("KDUMP_TRANSFER=/bin/x\n", "replaces all that saves a dump"),
        ("KDUMP_HOST_KEY=\"*\"\n", "takes any server"),
        (
            "KDUMP_PRESCRIPT=\"rm -rf /x\"\n",
            "there is no shell to read",
        ),
        ("KDUMP_CONTINUE_ON_ERROR=perhaps\n", "cannot be `perhaps`"),
        ("KDUMP_KEEP_OLD_DUMPS=many\n", "whole number"),
        ("KDUMP_NETCONFIG=eth0:dhcp6\n", "cannot be `dhcp6`"),
        ("KDUMP_SAVEDRI=/a\n", "did you mean `KDUMP_SAVEDIR`?"),
        ("USE_KDUMP=1\nFTP=a:/b\n", "f:2: `FTP` asks for FTP"),
        (
            "USE_KDUMP=1\nKDUMP_FAIL_CMD=\"mail root; reboot\"\n",
            "cannot be `mail root`",
        ),
        (
            "USE_KDUMP=1\nMAKEDUMP_ARGS=\"-d 32\"\n",
            "`MAKEDUMP_ARGS` becomes `core_collector makedumpfile -d 32`",
        ),
        (
            "USE_KDUMP=1\nKDUMP_SAVEDIR=/x\n",
            "is no key of this file (debian)",
        ),
    ] {
        let mistakes = refused(text);
        assert!(mistakes.contains(said), "{text}: {mistakes}");
    }
}

/// A file with everything, and what each dialect has no word for.
#[test]
fn nothing_is_left_out_without_a_word() {
    let everything = "raw /dev/sda5 overwrite\next4 LABEL=\"a b\"\npath /x\ncore_collector makedumpfile -z -d 1,31\n\
        failure_action mount_root_run_init\nfinal_action halt\ndisk_timeout 9\ndump_deadline 9\nstall_timeout 9\n\
        network_timeout 9\nlink_delay 9\nsshkey /k\nifc e\nip 10.0.0.2::10.0.0.1:24::e:none\nextra_modules m\nblacklist b\n\
        options o p=1\nextra_bins /b\nkdump_pre /p\nkdump_post /q\nkdump_emergency /r\nfence_kdump_nodes n\n\
        fence_kdump_args -p 1 -f ipv6 -i 2 -c 3\nforce_rebuild 1\nauto_reset_crashkernel yes\ndebug_mem_level 1\n\
        keep_dumps 3\nwatchdog 60\nluks_volume_key UUID=1 /k\nencrypt_to age1xmwwc06ly3ee5rytxm9mflaz2u56jjj36s0mypdrwsvlul66mv4q47ryef\n\
        dracut_args --omit x\n";
    let directives = parsed(everything);
    assert!(matches!(
        directives.core_collector.as_ref().unwrap().value,
        Collector::BuiltIn(_)
    ));
    for dialect in Dialect::ALL {
        let written = write(&directives, dialect);
        let all = format!("{}\n{}", written.text, written.warnings.join("\n"));
        for word in everything
            .lines()
            .map(|line| line.split(' ').next().unwrap())
        {
            let theirs: &[&str] = match (dialect, word) {
                (Dialect::Rhel, "ext4") | (Dialect::Suse | Dialect::Debian, "raw" | "ext4") => {
                    &["LABEL=a b is left out", "/dev/sda5"]
                }
                (Dialect::Suse | Dialect::Debian, "path") => &["tries one target"],
                (Dialect::Suse, "core_collector") => {
                    &["KDUMP_DUMPFORMAT=\"zstd\"", "only the first dump level"]
                }
                (Dialect::Debian, "core_collector") => &["MAKEDUMP_ARGS=\"-z -d 1,31\""],
                (_, "failure_action") => &["mount_root_run_init"],
                (Dialect::Suse, "sshkey") => &["KDUMP_SSH_IDENTITY=\"/k\""],
                (Dialect::Debian, "sshkey") => &["SSH_KEY=\"/k\""],
                (Dialect::Suse, "network_timeout") => &["KDUMP_NET_TIMEOUT"],
                (Dialect::Suse, "ifc" | "ip") => &["takes an address as this from `ip=`"],
                (Dialect::Suse, "extra_bins") => &["KDUMP_REQUIRED_PROGRAMS"],
                (Dialect::Suse, "kdump_pre") => {
                    &["KDUMP_PRESCRIPT", "also when this program fails"]
                }
                (Dialect::Suse, "kdump_post") => &["KDUMP_POSTSCRIPT"],
                (Dialect::Suse, "keep_dumps") => &["KDUMP_KEEP_OLD_DUMPS=\"2\""],
                (Dialect::Debian, "keep_dumps") => &["KDUMP_NUM_DUMPS=\"3\""],
                (_, other) => &[other],
            };
            for part in theirs {
                assert!(all.contains(part), "{dialect:?} {word} {part}: {all}");
            }
        }
        // What was written is a file of that dialect.
        parse("g", written.text.as_bytes(), dialect)
            .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    }
}
