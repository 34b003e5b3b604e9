// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kdumpctl test`: crashes this machine on purpose, and says after its next start what came of it.

use crate::dumps::{self, Dump};
use crate::setup::{Setup, below};
use initramfs_builder::conf::Target;
use initramfs_builder::error::{Mistake, Mistakes};
use initramfs_builder::image;
use initramfs_builder::proof::{Kind, Proof, Verdict, keep, now_s};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, Write as _};
use std::path::Path;

/// Says that the machine was crashed on purpose, until its end is known.
const PENDING: &str = "/var/lib/kdump/test.json";
/// Anew at each start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// What a person types who means it.
const CONSENT: &str = "crash";
/// The crashed kernel's clock and ours may differ by this much.
const CLOCK_SLACK_S: i64 = 120;

/// Asks the person who sits there; whether he means it.
///
/// # Errors
/// What was typed cannot be read.
pub fn is_meant(input: &mut dyn BufRead) -> Result<bool, Mistake> {
    eprint!(
        "This crashes the machine at once: what is not saved is lost, and it restarts. Type `{CONSENT}` to go on: "
    );
    let mut line = String::new();
    input
        .read_line(&mut line)
        .map_err(|error| Mistake::new(format!("reading the answer: {error}")))?;
    Ok(line.trim() == CONSENT)
}

/// Notes that a crash was wanted, and syncs everything.
///
/// # Errors
/// The note cannot be written; then nothing happens.
pub fn announce(setup: &Setup) -> Result<(), Mistakes> {
    let note = json!({
        "time": now_s(),
        "boot_id": boot_id(&setup.root)?,
        "release": setup.release,
    });
    let path = below(&setup.root, PENDING);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .map_err(|error| Mistake::new(format!("making {}: {error}", folder.display())))?;
    }
    image::write(&path, format!("{note:#}\n").as_bytes())?;
    rustix::fs::sync();
    Ok(())
}

/// Crashes the machine.
///
/// # Errors
/// It did not.
pub fn crash() -> Mistakes {
    const TRIGGER: &str = "/proc/sysrq-trigger";
    let crashed = OpenOptions::new()
        .write(true)
        .open(TRIGGER)
        .and_then(|mut file| file.write_all(b"c"));
    Mistake::new(match crashed {
        Ok(()) => "the kernel did not crash when it was told to".to_owned(),
        Err(error) => format!("writing to {TRIGGER}: {error}"),
    })
    .into()
}

/// Says what came of a test that is not over yet, when the machine has started again; none where there is none.
///
/// # Errors
/// What was found cannot be noted.
pub fn conclude(setup: &Setup) -> Result<Option<Proof>, Mistakes> {
    let path = below(&setup.root, PENDING);
    let Some(note) = fs::read_to_string(&path)
        .ok()
        .and_then(|text| serde_json::from_str::<Value>(&text).ok())
    else {
        return Ok(None);
    };
    let text = |key: &str| note.get(key).and_then(Value::as_str).unwrap_or("");
    if text("boot_id") == boot_id(&setup.root)? {
        return Ok(None);
    }
    let began_s = note.get("time").and_then(Value::as_i64).unwrap_or(0);
    let folders = dumps::folders(setup);
    let dump = dumps::newest(&folders).filter(|dump| dump.crash_time_s >= began_s - CLOCK_SLACK_S);
    let (verdict, what) = judge(dump.as_ref(), setup);
    let proof = Proof::new(Kind::Test, text("release"), verdict, what);
    keep(&setup.root, &proof)?;
    fs::remove_file(&path)
        .map_err(|error| Mistake::new(format!("removing {}: {error}", path.display())))?;
    Ok(Some(proof))
}

fn judge(dump: Option<&Dump>, setup: &Setup) -> (Verdict, String) {
    if let Some(dump) = dump {
        let verdict = if dump.result.is_ok() {
            Verdict::Good
        } else {
            Verdict::Bad
        };
        return (verdict, dump.to_string());
    }
    // What is elsewhere cannot be seen from here.
    let others: Vec<String> = setup
        .directives
        .targets
        .iter()
        .filter(|target| !matches!(target.value, Target::Local { .. }))
        .map(|target| target.value.to_string())
        .collect();
    if others.is_empty() {
        (
            Verdict::Bad,
            "no dump of it is below the save path; the console of that crash says why".to_owned(),
        )
    } else {
        (
            Verdict::Unknown,
            format!(
                "no dump of it is on this machine; look for it on {}",
                others.join(", ")
            ),
        )
    }
}

fn boot_id(root: &Path) -> Result<String, Mistake> {
    let path = below(root, BOOT_ID);
    fs::read_to_string(&path)
        .map(|text| text.trim().to_owned())
        .map_err(|error| Mistake::new(format!("reading {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::tests::Tree;
    use initramfs_builder::proof;

    const LOCAL: &str = "ext4 /dev/vda\n";

    fn restart(tree: &Tree) {
        tree.write("proc/sys/kernel/random/boot_id", "two\n");
    }

    fn announced(conf: &str) -> Tree {
        let tree = Tree::new(conf);
        tree.write("proc/sys/kernel/random/boot_id", "one\n");
        announce(&tree.setup()).unwrap();
        assert_eq!(
            conclude(&tree.setup()).unwrap(),
            None,
            "not before a restart"
        );
        tree
    }

    fn dump(tree: &Tree, crash_time_s: u64, complete: bool) {
        tree.write(
            "var/crash/one/manifest.json",
            format!(
                "{{\"complete\":{complete},\"incomplete_because\":\"disk full\",\"crash_time\":{crash_time_s},\
                 \"crash_date\":\"today\",\"panic\":\"sysrq\"}}"
            ),
        );
    }

    #[test]
    fn a_dump_of_the_test_is_the_proof_and_an_older_one_is_not() {
        let tree = announced(LOCAL);
        restart(&tree);
        dump(&tree, now_s(), true);
        let found = conclude(&tree.setup()).unwrap().unwrap();
        assert_eq!(found.verdict, Verdict::Good);
        assert_eq!(proof::read(&tree.setup().root), [found]);
        assert_eq!(conclude(&tree.setup()).unwrap(), None, "told once");

        let tree = announced(LOCAL);
        restart(&tree);
        dump(&tree, now_s() - 3600, true);
        let found = conclude(&tree.setup()).unwrap().unwrap();
        assert_eq!(found.verdict, Verdict::Bad);
        assert!(found.text.contains("below the save path"), "{found}");

        let tree = announced(LOCAL);
        restart(&tree);
        dump(&tree, now_s(), false);
        let found = conclude(&tree.setup()).unwrap().unwrap();
        assert_eq!(found.verdict, Verdict::Bad);
        assert!(found.text.contains("disk full"), "{found}");
    }

    #[test]
    fn what_is_on_a_server_is_looked_for_there() {
        let tree = announced("nfs nas:/dumps\n");
        restart(&tree);
        let found = conclude(&tree.setup()).unwrap().unwrap();
        assert_eq!(found.verdict, Verdict::Unknown);
        assert!(found.text.ends_with("look for it on nas:/dumps"), "{found}");
    }

    #[test]
    fn only_the_word_itself_is_consent() {
        for (typed, expected) in [("crash\n", true), ("y\n", false), ("", false)] {
            assert_eq!(is_meant(&mut typed.as_bytes()), Ok(expected), "{typed}");
        }
    }
}
