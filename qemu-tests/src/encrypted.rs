// SPDX-License-Identifier: MIT OR Apache-2.0
//! Encrypted dumps, opened by Debian's `age` and by `vmcore decrypt`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::artifacts;
use crate::cycle::Outcome;
use crate::proof::{self, Known};
use crate::run::{run, stdout};
use crate::setup;
use crate::vm::End;

/// The names in an encrypted dump's folder, in the order of the alphabet.
pub const NAMES: [&str; 4] = [
    "kexec-dmesg.log.age",
    "manifest.json",
    "vmcore-dmesg.txt.age",
    "vmcore.flat.age",
];

/// A key that `age-keygen` made.
#[derive(Clone, Debug)]
pub struct Key {
    /// The file with the secret half.
    pub file: PathBuf,
    /// The public half, as `encrypt_to` takes it.
    pub public: String,
}

impl Key {
    /// Makes one in a file of this name.
    ///
    /// # Errors
    /// `age-keygen` fails.
    pub fn make(file: &Path) -> Result<Self> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        if file.exists() {
            fs::remove_file(file)?;
        }
        run(setup::program("age-keygen")?.arg("-o").arg(file))?;
        let public = stdout(setup::program("age-keygen")?.arg("-y").arg(file))?;
        Ok(Self {
            file: file.to_owned(),
            public: public.trim().to_owned(),
        })
    }

    fn decrypt(&self, file: &Path, out: &Path) -> Result<Command> {
        let mut command = Command::new(artifacts::vmcore()?);
        command
            .args(["decrypt", "-i"])
            .arg(&self.file)
            .arg(file)
            .arg(out);
        Ok(command)
    }
}

/// Checks the lines of a capture whose only attempt saved an encrypted dump, and its end.
///
/// # Errors
/// What is otherwise.
pub fn only_attempt_saved(outcome: &Outcome) -> Result<()> {
    proof::lines_in_order(
        outcome,
        &[
            "init ",
            "crashed kernel: why it crashed is not shown",
            "attempt 1 of 1: ",
            "random numbers: the ",
            "what is saved is encrypted to 1 key",
            "vmcore-dmesg.txt.age saved: ",
            "vmcore: ",
            "attempt 1 of 1 done: ",
            "final action: reboot",
        ],
    )?;
    ensure!(outcome.end == End::Reset, "{:?}", outcome.end);
    Ok(())
}

/// Checks that nothing of the crashed kernel is on the console of the capture, or in these bytes.
///
/// # Errors
/// What is.
pub fn nothing_shows(outcome: &Outcome, panic_line: &str, bytes: &[(&str, &[u8])]) -> Result<()> {
    outcome.line("kdump: crashed kernel: why it crashed is not shown, as dumps are encrypted")?;
    for line in outcome.init_lines() {
        ensure!(!line.contains(panic_line), "the console shows it: {line}");
    }
    for (name, bytes) in bytes {
        let has = |text: &str| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        for text in [panic_line, "Linux version", "VMCOREINFO", "OSRELEASE="] {
            ensure!(!has(text), "{name} has `{text}` for everybody");
        }
    }
    Ok(())
}

/// Opens the files of an encrypted dump in `folder` by the secret key, in two ways that must agree, and holds what comes out
/// against everything that is known. The front of the dump alone is opened too.
///
/// # Errors
/// What is otherwise.
pub fn opens(
    folder: &Path,
    key: &Key,
    known: &Known<'_>,
    panic_line: &str,
    scratch: &Path,
) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    ensure!(names == NAMES, "{} has {names:?}", folder.display());

    let manifest = fs::read_to_string(folder.join("manifest.json"))?;
    let values: serde_json::Value = serde_json::from_str(&manifest)?;
    ensure!(values["complete"] == true, "{manifest}");
    ensure!(
        values["encrypted_to"][0] == key.public.as_str(),
        "{manifest}"
    );
    ensure!(
        !manifest.contains(panic_line) && values.get("panic").is_none(),
        "{manifest}"
    );

    let opened = scratch.join("opened");
    fs::create_dir_all(&opened)?;
    for name in ["vmcore-dmesg.txt", "kexec-dmesg.log"] {
        let (theirs, ours) = (opened.join(name), opened.join(format!("{name}.ours")));
        let sealed = folder.join(format!("{name}.age"));
        run(setup::program("age")?
            .args(["-d", "-i"])
            .arg(&key.file)
            .arg("-o")
            .arg(&theirs)
            .arg(&sealed))?;
        run(&mut key.decrypt(&sealed, &ours)?)?;
        ensure!(fs::read(&theirs)? == fs::read(&ours)?, "{name} differs");
    }
    let dmesg = fs::read(opened.join("vmcore-dmesg.txt"))?;
    ensure!(
        String::from_utf8_lossy(&dmesg).contains(panic_line),
        "no panic in the saved log"
    );

    let sealed = folder.join("vmcore.flat.age");
    let (theirs, ours) = (opened.join("vmcore"), opened.join("vmcore.ours"));
    put_together_by_age(key, &sealed, &theirs)?;
    run(&mut key.decrypt(&sealed, &ours)?)?;
    ensure!(fs::read(&theirs)? == fs::read(&ours)?, "the dumps differ");
    let known = Known {
        dmesg: Some(&dmesg),
        ..*known
    };
    proof::dump_is_good(&ours, &known, scratch)?;
    the_front_of_it_opens(&sealed, key, &opened)?;

    let other = Key::make(&opened.join("other-key"))?;
    let refused = other.decrypt(&sealed, &opened.join("not"))?.output()?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        !refused.status.success() && said.contains("it is encrypted to another key than this one"),
        "{said}"
    );
    Ok(())
}

/// `age -d -i KEY FILE | vmcore -R OUT`
fn put_together_by_age(key: &Key, sealed: &Path, out: &Path) -> Result<()> {
    let mut age = setup::program("age")?
        .args(["-d", "-i"])
        .arg(&key.file)
        .arg(sealed)
        .stdout(Stdio::piped())
        .spawn()?;
    let stream = age.stdout.take().context("no pipe")?;
    let made = Command::new(artifacts::vmcore()?)
        .arg("-R")
        .arg(out)
        .stdin(stream)
        .output()?;
    ensure!(
        made.status.success(),
        "vmcore -R: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    ensure!(
        age.wait()?.success(),
        "age does not open {}",
        sealed.display()
    );
    Ok(())
}

/// A dump that was cut short is an incomplete one, and says so.
fn the_front_of_it_opens(sealed: &Path, key: &Key, scratch: &Path) -> Result<()> {
    let (cut, out) = (scratch.join("cut.age"), scratch.join("cut"));
    fs::copy(sealed, &cut)?;
    let length = fs::metadata(&cut)?.len() / 10 * 7;
    File::options().write(true).open(&cut)?.set_len(length)?;
    let told = key.decrypt(&cut, &out)?.output()?;
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    ensure!(
        !told.status.success() && said.contains("cut short") && said.contains("incomplete dump"),
        "{said}"
    );
    let got = fs::metadata(&out)?.len();
    ensure!(got > length / 2, "{got} bytes of {length} came out");
    let info = stdout(Command::new(artifacts::vmcore()?).arg("info").arg(&out))?;
    ensure!(info.to_lowercase().contains("incomplete"), "{info}");
    Ok(())
}
