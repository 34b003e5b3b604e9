// SPDX-License-Identifier: MIT OR Apache-2.0
//! Defects of other kdumps, each with what shows that this one does not have it.
//!
//! Read in kdump-utils 63f248c and its history back to RHEL 5, kdump-tools 1.8.1 and openSUSE's kdump 2.1.9.
//!
//! | # | the defect | what shows that it is not here |
//! |---|---|---|
//! | 1 | a filter that fails behind a pipe counts as a dump | there is no pipe: the name changes after the last sync; `init` `hook.rs`, `how_a_program_ends_is_told`, and in QEMU `hooks.rs`, `an_emergency_has_its_hooks_…` |
//! | 2 | a command for a failure is split at its blanks | here: [`a_command_reaches_its_program_word_by_word`] |
//! | 3 | after a directory that cannot be made the save goes on | the first error ends the attempt; QEMU `table.rs` of the faults, `path_is_a_loop` |
//! | 4 | a mount that failed is not noticed, the dump fills memory | QEMU `table.rs` of the faults, `server_refuses` |
//! | 5 | a raw target named by its label cannot be built | here: [`a_raw_target_may_be_named_by_any_tag_it_has`] |
//! | 6 | a status that was never set decides what follows | `init` `plan.rs`: what follows is a table of outcomes |
//! | 7 | `-F` and `-E` are looked for anywhere in the line | here: [`options_are_words_and_not_letters_anywhere`] |
//! | 8 | with a failure action the log of the failure is not saved | each attempt saves the log as far as it is, a failed one too; QEMU `scene.rs`, `second_attempt_has_it` |
//! | 9 | a remote file gets its name before it is synced | `qemu-tests` `ssh_client.rs`, `a_file_is_synced_before_it_gets_its_name_and_its_name_after_that`: what the server was asked for |
//! | 10 | a raw target is not waited for | QEMU `table.rs` of the faults, `disk_late`, for a raw disk too |
//! | 11 | the status of a pipe depends on which shell runs | there is no shell |
//! | 12 | a raw dump that was cut short is dropped without a word | `collector` `save_raw.rs`, `a_cut_dump_is_saved_under_its_incomplete_name`; QEMU `raw.rs`, `a_disk_that_fails_midway_leaves_what_it_took` |
//! | 13 | a raw target with a file system on it is only warned about | here: [`a_raw_target_that_holds_something_is_refused`] |
//! | 14 | a `#` cuts a value inside quotes | here: [`a_hash_inside_quotes_or_a_word_is_part_of_the_value`] |
//! | 15 | room is compared with all memory at build time, and never again | QEMU `table.rs` of the faults, `full_at_50`, and `raw.rs`, `a_disk_that_is_too_small_for_the_copy_is_not_touched` |
//! | 16 | an estimate from compressed sizes and another kernel's modules | the plan has the sizes that are loaded: here [`the_plan_has_the_sizes_that_are_loaded`]; an estimate crashes a virtual machine with the image itself: QEMU `rehearsal.rs`, `an_estimate_lies_between_what_was_enough_and_what_was_not` |
//! | 17 | one format is announced, another is written | here: [`the_plan_announces_what_the_record_says`] |
//! | 18 | old dumps go before the new one is safe | QEMU `keep_dumps.rs`, `the_oldest_dumps_go_when_the_new_one_is_complete` |
//! | 19 | passwords lie in the image, readable by all | here: [`the_image_is_for_root_alone`]; there are no passwords |
//! | 20 | a server that does not answer a ping is taken for dead | nothing pings, the server's own answer counts; `ssh_client.rs`, `a_slow_server_is_waited_for` |
//! | 21 | a server's address is frozen when the image is built | the name is asked for again at the crash; the tests of `targets` `net/resolve.rs` |

#![allow(
    clippy::unwrap_used,
    reason = "what fails here fails the test; helpers are no tests to clippy"
)]

mod named_tests;

use config::{Compression, HookKind};
use initramfs_builder::conf;
use initramfs_builder::error::Mistakes;
use initramfs_builder::host::Host;
use initramfs_builder::modules::closure::Closure;
use initramfs_builder::resolve::{Resolved, resolve};
use initramfs_builder::{image, plan};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A host in a folder.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let tree = Self(
            std::env::temp_dir().join(format!("mkkdumprd-defects-{}-{number}", std::process::id())),
        );
        tree.write(
            "kdump.devices",
            "/dev/vda  size=1000000\n\
             /dev/vda1 parent=/dev/vda size=900000 partuuid=aaaa-01\n\
             /dev/vda2 parent=/dev/vda size=9000 fstype=ext4 uuid=u-2 label=\"my # disk\"\n\
             /dev/vda3 parent=/dev/vda size=9000 fstype=LVM2_member uuid=u-3\n",
        );
        tree
    }

    fn write(&self, name: &str, text: &str) {
        let place = self.0.join(name.trim_start_matches('/'));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, text).unwrap();
        fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn resolve(&self, text: &str) -> Result<Resolved, Mistakes> {
        let directives = conf::parse("kdump.conf", text.as_bytes())?;
        resolve(&directives, &Host::read(&self.0)?, "6.1.0")
    }

    fn resolved(&self, text: &str) -> Resolved {
        self.resolve(text)
            .unwrap_or_else(|mistakes| panic!("{text}: {mistakes}"))
    }

    fn refusal(&self, text: &str) -> String {
        match self.resolve(text) {
            Ok(_) => panic!("{text}: taken"),
            Err(mistakes) => mistakes.to_string(),
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_row_names_tests_that_exist() {
    let text = include_str!("defects.rs");
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("//! | "))
        .skip(1)
        .collect();
    assert_eq!(rows.len(), 21);
    for row in rows {
        let shown = row.rsplit(" | ").next().unwrap();
        let mut file = "defects.rs";
        let mut named = 0;
        for word in shown.split('`').skip(1).step_by(2) {
            if word.ends_with(".rs") {
                file = word;
                continue;
            }
            let (start, is_cut) = match word.strip_suffix('…') {
                Some(start) => (start, true),
                None => (word, false),
            };
            if !start.contains('_') {
                continue;
            }
            named += 1;
            assert!(
                named_tests::is_there(file, start, is_cut),
                "{start} is not in any {file}: {row}"
            );
        }
        // What has no place here to be wrong in needs no test.
        let is_absent = shown.contains("there is no shell") || shown.contains("open: ");
        assert!(
            named > 0
                || is_absent
                || shown.contains("the tests of")
                || shown.contains("a table of"),
            "{row}"
        );
    }
}

#[test]
fn a_command_reaches_its_program_word_by_word() {
    let tree = Tree::new();
    tree.write("/opt/save it.sh", "a program");
    tree.write("/opt/save", "a program");
    let plan = tree.resolved(
        "ext4 /dev/vda2\ndefault reboot\ncore_collector /opt/save   --to  x;y\nkdump_post /opt/save\n",
    );
    assert_eq!(
        plan.attempts[0].program.as_deref(),
        Some("/opt/save --to x;y")
    );
    assert_eq!(plan.hooks, [(HookKind::Post, "/opt/save".to_owned())]);
    let text = plan_of(&plan);
    for line in [
        "  dumpfile: what `/opt/save --to x;y /proc/vmcore DUMPFILE` writes",
        "Hooks, in this order; each has 600 s, then it is killed",
        "  kdump_post       /opt/save  after each dump, with 0 or 1 as the argument",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    // No shell reads it, so that what only a shell would understand is refused where it would be looked for.
    let said = tree.refusal("ext4 /dev/vda2\ncore_collector cat|gzip\n");
    assert!(said.contains("there is no program `cat|gzip`"), "{said}");
}

#[test]
fn a_raw_target_may_be_named_by_any_tag_it_has() {
    let tree = Tree::new();
    let plan = tree.resolved("raw PARTUUID=aaaa-01\ndefault reboot");
    assert_eq!(plan.attempts[0].place.device().unwrap().node, "/dev/vda1");
    // A label belongs to a file system; that such a target would destroy it is what is said, and not that it is not there.
    let said = tree.refusal("raw LABEL=\"my # disk\"\ndefault reboot");
    assert!(said.contains("/dev/vda2 holds ext4"), "{said}");
}

#[test]
fn options_are_words_and_not_letters_anywhere() {
    let tree = Tree::new();
    for line in [
        "makedumpfile -F -c -d 31",
        "makedumpfile -c -F -d 31",
        "makedumpfile -cF -d31",
    ] {
        let plan = tree.resolved(&format!(
            "raw /dev/vda1\ncore_collector {line}\ndefault reboot"
        ));
        let collect = &plan.attempts[0].collect;
        assert_eq!(collect.compression, Compression::Zlib, "{line}");
        assert_eq!(collect.levels[0].number(), 31, "{line}");
    }
    // A path with `-F` or `-E` in it stays what it is.
    tree.write("/opt/my-Fast-Engine", "a program");
    let plan =
        tree.resolved("ext4 /dev/vda2\ncore_collector /opt/my-Fast-Engine -Extra\ndefault reboot");
    assert_eq!(
        plan.attempts[0].program.as_deref(),
        Some("/opt/my-Fast-Engine -Extra")
    );
}

#[test]
fn a_raw_target_that_holds_something_is_refused() {
    let tree = Tree::new();
    for (device, kind) in [("/dev/vda2", "ext4"), ("/dev/vda3", "LVM2_member")] {
        let said = tree.refusal(&format!("raw {device}\ndefault reboot"));
        assert!(said.contains(&format!("{device} holds {kind}")), "{said}");
        assert!(said.contains("wipefs"), "{said}");
    }
    let said = tree.refusal("raw /dev/vda\ndefault reboot");
    assert!(
        said.contains("/dev/vda has partitions (/dev/vda1)"),
        "{said}"
    );
}

#[test]
fn a_hash_inside_quotes_or_a_word_is_part_of_the_value() {
    let tree = Tree::new();
    for line in [
        "ext4 LABEL=\"my # disk\"",
        "ext4 'LABEL=my # disk' # the spare one",
    ] {
        let plan = tree.resolved(&format!("{line}\npath /var/#1\ndefault reboot # as ever"));
        assert!(
            plan.attempts[0]
                .target()
                .to_string()
                .ends_with("save path /var/#1"),
            "{}",
            plan.attempts[0].target()
        );
    }
}

/// What `mkkdumprd plan` prints of it.
fn plan_of(resolved: &Resolved) -> String {
    let closure = Closure::default();
    let extras = image::Extras {
        busybox: None,
        ssh_key: None,
        volume_keys: &[],
        programs: &resolved.programs,
    };
    let record = resolved.record(&[]).unwrap().to_string();
    let items = image::items(vec![0; 300 << 10], &record, &closure, extras);
    plan::describe(resolved, &closure, &items, 100 << 10, "gzip")
}

#[test]
fn the_plan_has_the_sizes_that_are_loaded() {
    let tree = Tree::new();
    let text = plan_of(&tree.resolved("raw /dev/vda1\ndefault reboot"));
    assert!(text.contains("100 KiB as gzip"), "{text}");
    assert!(text.contains("300 KiB  /init"), "{text}");
}

#[test]
fn the_plan_announces_what_the_record_says() {
    let tree = Tree::new();
    for (option, word) in [
        ("-c", "zlib"),
        ("-l", "lzo"),
        ("-p", "snappy"),
        ("-z", "zstd"),
        ("", "none"),
    ] {
        let plan = tree.resolved(&format!(
            "raw /dev/vda1\ncore_collector makedumpfile {option} -d 17\ndefault reboot"
        ));
        let record = plan.record(&[]).unwrap().to_string();
        assert!(
            record.contains(&format!(" collect kdump {word} 17\n")),
            "{record}"
        );
        let text = plan_of(&plan);
        assert!(
            text.contains(&format!("compression {word}, level 17")),
            "{text}"
        );
    }
    for format in ["lzop", "raw"] {
        tree.refusal(&format!(
            "raw /dev/vda1\ncore_collector {format}\ndefault reboot"
        ));
    }
}

#[test]
fn what_cannot_be_obeyed_is_refused_and_not_passed_over() {
    let tree = Tree::new();
    let said = tree.refusal("virtiofs tag\nraw /dev/vda1");
    assert!(said.contains("is not supported yet"), "{said}");
}

#[test]
fn the_image_is_for_root_alone() {
    let tree = Tree::new();
    tree.write("old.img", "readable by all");
    let path = tree.0.join("old.img");
    image::write(&path, b"new").unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}
