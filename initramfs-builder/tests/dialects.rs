// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kdump.conf` files as the manuals of three generations show them, in our words: every one is taken whole, and says the
//! same in each dialect.

use initramfs_builder::conf::{self, Directives};

fn parsed(text: &str) -> Directives {
    conf::parse("kdump.conf", text.as_bytes())
        .unwrap_or_else(|mistakes| panic!("{text}\n{mistakes}"))
}

fn targets(directives: &Directives) -> Vec<String> {
    directives
        .targets
        .iter()
        .map(|at| at.value.to_string())
        .collect()
}

/// Files of RHEL 5: `net` for both kinds of server, `default`, several targets, no quotes.
const RHEL_5: [(&str, &[&str]); 9] = [
    (
        "raw /dev/sda5\ncore_collector makedumpfile -c -d 31\n",
        &["/dev/sda5"],
    ),
    (
        "ext3 /dev/sda3\npath /dumps\nlink_delay 60\n",
        &["/dev/sda3"],
    ),
    ("ext3 LABEL=/boot\n", &["LABEL=/boot"]),
    (
        "ext3 UUID=03138356-5e61-4ab3-b58e-27507ac41937\n",
        &["UUID=03138356-5e61-4ab3-b58e-27507ac41937"],
    ),
    (
        "net my.server.com:/export/tmp\n",
        &["my.server.com:/export/tmp"],
    ),
    (
        "net user@my.server.com\npath /var/crash\nlink_delay 30\n",
        &["user@my.server.com"],
    ),
    (
        "ext3 /dev/sdb1\nnet nas:/crash\nraw /dev/sdc\ndefault shell\n",
        &["/dev/sdb1", "nas:/crash", "/dev/sdc"],
    ),
    (
        "core_collector cp --sparse=always\nextra_bins /usr/bin/lftp\nextra_modules gfs2\nkdump_pre /var/crash/scripts/pre.sh\n\
         kdump_post /var/crash/scripts/post.sh\ndisk_timeout 30\ndefault poweroff\n",
        &[],
    ),
    ("ifc eth1\nnet 192.168.0.2:/srv\n", &["192.168.0.2:/srv"]),
];

/// Files of RHEL 6: its own words for servers, the cluster, module options.
const RHEL_6: [(&str, &[&str]); 6] = [
    (
        "nfs my.server.com:/export/tmp\n",
        &["my.server.com:/export/tmp"],
    ),
    (
        "nfs4 my.server.com:/export/tmp\n",
        &["my.server.com:/export/tmp"],
    ),
    (
        "ssh user@my.server.com\nsshkey /root/.ssh/kdump_id_rsa\n",
        &["user@my.server.com"],
    ),
    (
        "ext4 LABEL=\"my crash disk\"   # quotes, and a remark\ncore_collector\tmakedumpfile -c --message-level 1 -d 31\n",
        &["LABEL=my crash disk"],
    ),
    (
        "blacklist gfs2\noptions bonding mode=active-backup miimon=100\nforce_rebuild 1\ndebug_mem_level 3\n\
         fence_kdump_nodes node1 node2\nfence_kdump_args -p 7410 -f auto -c 0 -i 10\n",
        &[],
    ),
    (
        "default mount_root_run_init\nlink_delay 60\nifc bond-front\n",
        &[],
    ),
];

/// Files of today.
const CURRENT: [(&str, &[&str]); 8] = [
    (
        "path /var/crash\ncore_collector makedumpfile -l --message-level 7 -d 31\nauto_reset_crashkernel yes\n",
        &[],
    ),
    (
        "nfs [2001:db8::1:2:3]:/export/tmp\n",
        &["[2001:db8::1:2:3]:/export/tmp"],
    ),
    (
        "ssh user@my.server.com\nsshkey /root/.ssh/kdump_id_rsa\ncore_collector makedumpfile -F -l -d 31\n",
        &["user@my.server.com"],
    ),
    ("ssh user@2001:db8::1:2:3\n", &["user@2001:db8::1:2:3"]),
    (
        "xfs UUID=abcd-12\npath \"/dumps\"\nfailure_action dump_to_rootfs\nfinal_action poweroff\n",
        &["UUID=abcd-12"],
    ),
    (
        "dracut_args --mount \"192.168.1.1:/data /mnt/data nfs nolock\"\n",
        &["192.168.1.1:/data"],
    ),
    (
        "kdump_pre /var/crash/scripts/kdump-pre.sh\nkdump_post /var/crash/scripts/kdump-post.sh\n\
         kdump_emergency /etc/kdump/lost.sh\nextra_bins /usr/bin/lftp /usr/bin/jq\nextra_modules i40e\nforce_no_rebuild 1\n",
        &[],
    ),
    (
        "  btrfs /dev/mapper/vg-crash\n\n\t# a remark\nfailure_action shell\n",
        &["/dev/mapper/vg-crash"],
    ),
];

#[test]
fn the_files_of_three_generations_are_taken_whole() {
    for (text, expected) in RHEL_5.iter().chain(&RHEL_6).chain(&CURRENT) {
        let directives = parsed(text);
        assert_eq!(targets(&directives), *expected, "{text}");
        // With blanks, tabs and the line ends of other systems it is the same file.
        let other = text.replace('\n', " \t\r\n").replacen(' ', "  ", 1);
        assert_eq!(targets(&parsed(&other)), *expected, "{other:?}");
    }
}

#[test]
fn dialects_say_the_same_thing_in_their_words() {
    for (old, new) in [
        ("net nas:/x\n", "nfs nas:/x\n"),
        ("net a@nas\n", "ssh a@nas\n"),
        ("default shell\n", "failure_action shell\n"),
        (
            "dracut_args --mount \"/dev/sda1 /mnt ext4\"\n",
            "ext4 /dev/sda1\n",
        ),
    ] {
        let (old, new) = (parsed(old), parsed(new));
        assert_eq!(old.targets, new.targets);
        assert_eq!(
            old.failure_action.map(|at| at.value.action),
            new.failure_action.map(|at| at.value.action)
        );
    }
}

/// What parsers of other kdumps read wrongly at some time, as their change logs have it, and the device cases of their unit
/// tests; each gives what the line says.
#[test]
fn what_other_parsers_once_read_wrongly_is_read_as_it_stands() {
    let target = |text: &str| targets(&parsed(text)).join(" ");
    // A remark behind the value, with one blank and with none; behind a quoted value too.
    assert_eq!(target("ext4 /dev/sda1 # the spare disk\n"), "/dev/sda1");
    assert_eq!(target("ext4 \"/dev/sda1\"\t#x\n"), "/dev/sda1");
    // A tab behind the word.
    for text in [
        "core_collector\tmakedumpfile -d 17\n",
        "core_collector \t makedumpfile\t-d\t17 # why\n",
    ] {
        let collector = parsed(text).core_collector;
        assert!(
            collector.is_some_and(|at| format!("{:?}", at.value).contains("17")),
            "{text}"
        );
    }
    // Quotes round the tag's value, and round the whole.
    for text in [
        "ext3 LABEL=\"my disk\"\n",
        "ext3 \"LABEL=my disk\"\n",
        "ext3 LABEL='my disk'\n",
    ] {
        assert_eq!(target(text), "LABEL=my disk", "{text}");
    }
    // Names of cards with what is no letter or digit.
    for name in ["br-lan", "eth0.17", "bond_0", "enp0s31f6"] {
        let ifc = parsed(&format!("ifc {name}\nnet nas:/x\n")).ifc;
        assert_eq!(ifc.map(|at| at.value).as_deref(), Some(name));
    }
    // A tag where only a node was thought of.
    for tag in ["UUID=0313-83aa", "PARTUUID=aa-01"] {
        assert_eq!(target(&format!("raw {tag}\n")), tag);
        assert_eq!(target(&format!("ext4 {tag}\n")), tag);
    }
    // Blanks before the word; a line that is commented out, and its word in another's value.
    assert_eq!(
        target("   ext4 /dev/sda1\n#ext4 /dev/sdb1\n  # raw /dev/sdc\npath /raw\n"),
        "/dev/sda1"
    );
    // Quotes inside a value that has quotes.
    assert_eq!(
        target("dracut_args --add-drivers x --mount \"/dev/sda1 /mnt xfs rw,noatime\"\n"),
        "/dev/sda1"
    );
    // A directive that is there twice, and an empty value, are mistakes with their lines: neither the first, nor the last, nor
    // the default is guessed.
    for (text, said) in [
        (
            "path /a\npath /b\n",
            "kdump.conf:2: `path` was set before, in line 1",
        ),
        ("ext4 /dev/sda1\npath\n", "kdump.conf:2: "),
    ] {
        let mistakes = conf::parse("kdump.conf", text.as_bytes()).unwrap_err();
        assert!(mistakes.to_string().starts_with(said), "{mistakes}");
    }
}
