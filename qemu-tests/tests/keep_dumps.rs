// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keep_dumps` in a real capture: the oldest dumps go, when the new one is complete and not before.

use std::fs;

use anyhow::{Result, ensure};
use qemu_tests::disk::Ext;
use qemu_tests::machine::{Content, Machine};
use qemu_tests::proof::lines_in_order;
use qemu_tests::saved::Saved;
use qemu_tests::scene::Stage;

const STAGE: Stage = Stage::SMALL;

/// What lay on the disk before the crash: two dumps, one of them cut short, and what a person keeps.
const OLD: [(&str, &[&str]); 4] = [
    (
        "2020-01-02-03:04",
        &["vmcore", "vmcore-dmesg.txt", "manifest.json"],
    ),
    (
        "2020-01-02-03:04.1",
        &["vmcore-incomplete", "manifest.json-incomplete"],
    ),
    (
        "2021-01-01-00:00",
        &["vmcore", "vmcore-dmesg.txt", "manifest.json"],
    ),
    (
        "2019-01-01-00:00",
        &["vmcore", "manifest.json", "what-I-found.txt"],
    ),
];

#[test]
fn the_oldest_dumps_go_when_the_new_one_is_complete() -> Result<()> {
    let mut machine = Machine::new("keep-dumps")?;
    let content = machine.work().join("content");
    for (folder, files) in OLD {
        let folder = content.join("var/crash").join(folder);
        fs::create_dir_all(&folder)?;
        for file in files {
            fs::write(folder.join(file), "old")?;
        }
    }
    let disk = machine.add(&STAGE.disk(Content::Ext(Ext {
        content: Some(&content),
        ..Ext::new("ext4", 256)
    })))?;
    let cycle = STAGE.cycle(
        &machine,
        &format!("ext4 {}\nkeep_dumps 2\ndefault reboot\n", disk.node),
    )?;
    let outcome = cycle.run()?;
    lines_in_order(
        &outcome,
        &[
            "init ",
            "vmcore: ",
            "keep_dumps: 1 older folders have other files too",
            "keep_dumps 2: the dump of 2020-01-02-03:04 is removed",
            "keep_dumps 2: the dump of 2020-01-02-03:04.1 is removed",
            "attempt 1 of 1 done: ",
            "final action: reboot",
        ],
    )?;
    let dumps = Saved::all(
        &disk.filesystem(),
        "/var/crash",
        &machine.work().join("after"),
    )?;
    let names: Vec<String> = dumps.iter().map(Saved::name).collect();
    ensure!(names.len() == 3, "{names:?}");
    ensure!(
        names[..2] == ["2019-01-01-00:00", "2021-01-01-00:00"],
        "{names:?}"
    );
    ensure!(dumps[2].manifest()?["complete"] == true);
    ensure!(dumps[2].file("vmcore").exists());
    Ok(())
}
