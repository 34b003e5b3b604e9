// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `vmcore` beside makedumpfile, on the dump of a real panic: each reads what the other wrote, and crash and
//! drgn read what both made of it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use qemu_tests::artifacts;
use qemu_tests::case::{Capture, Case};
use qemu_tests::check::readers;
use qemu_tests::disk::Ext;
use qemu_tests::machine::{Content, DiskPlan};
use qemu_tests::run::{run, stdout};
use qemu_tests::setup::{self, Flavour};

/// The folder with the dump, and the two programs.
struct Bench {
    folder: PathBuf,
    vmcore: PathBuf,
    vmlinux: PathBuf,
}

impl Bench {
    fn vmcore(&self, line: &str) -> Command {
        let mut command = Command::new(&self.vmcore);
        command.current_dir(&self.folder).args(line.split(' '));
        command
    }

    fn makedumpfile(&self, line: &str) -> Result<Command> {
        let mut command = setup::program("makedumpfile")?;
        command
            .current_dir(&self.folder)
            .args(["--message-level", "4"])
            .args(line.split(' '));
        Ok(command)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs `command` with one file as standard input and another as standard output.
    fn redirected(
        &self,
        command: &mut Command,
        input: Option<&str>,
        output: Option<&str>,
    ) -> Result<()> {
        if let Some(name) = input {
            command.stdin(File::open(self.file(name))?);
        }
        if let Some(name) = output {
            command.stdout(File::create(self.file(name))?);
        }
        let status = command.stderr(Stdio::null()).status()?;
        ensure!(status.success(), "{command:?}: {status}");
        Ok(())
    }

    fn same_bytes(&self, a: &str, b: &str) -> Result<()> {
        let same = fs::read(self.file(a))? == fs::read(self.file(b))?;
        ensure!(same, "{a} and {b} differ");
        Ok(())
    }

    /// No page is different, or in one of the two alone.
    fn same_pages(&self, a: &str, b: &str) -> Result<()> {
        let said = stdout(&mut self.vmcore(&format!("diff {a} {b}")))?;
        ensure!(said.contains("pages are the same"), "{said}");
        Ok(())
    }

    /// drgn and crash find the panicking task and all that they look for.
    fn is_good(&self, name: &str) -> Result<()> {
        for verdict in [
            readers::drgn(&self.file(name), &self.vmlinux)?,
            readers::crash(&self.file(name), &self.vmlinux, &self.folder)?,
        ] {
            ensure!(verdict.is_good(), "{name}: {verdict}");
        }
        Ok(())
    }
}

fn capture() -> Result<(Capture, Bench)> {
    let case = Case::new(
        "command-6.1",
        Flavour::Cloud6_1,
        DiskPlan::virtio(Content::Ext(Ext::new("ext4", 512))),
        "ext4 NODE\ncore_collector makedumpfile -l -d 1\n",
    );
    let capture = case.capture()?;
    let folder = capture.machine.work().to_owned();
    fs::copy(capture.saved()?.file("vmcore"), folder.join("all"))?;
    let bench = Bench {
        folder,
        vmcore: artifacts::vmcore()?,
        vmlinux: setup::vmlinux(&capture.kernel)?,
    };
    Ok((capture, bench))
}

#[test]
fn vmcore_and_makedumpfile_read_what_the_other_wrote() -> Result<()> {
    let (capture, bench) = capture()?;
    both_read_what_the_other_wrote(&bench)?;
    capture.clean_up()
}

fn both_read_what_the_other_wrote(bench: &Bench) -> Result<()> {
    // Filtered again: the same pages, by both.
    run(&mut bench.vmcore("-c -d 31 all ours"))?;
    run(&mut bench.makedumpfile("-l -d 31 all theirs")?)?;
    bench.same_pages("ours", "theirs")?;
    run(&mut bench.vmcore("-c -d 31 theirs again"))?;
    bench.same_pages("ours", "again")?;

    // The log.
    run(&mut bench.makedumpfile("--dump-dmesg ours theirs.log")?)?;
    run(&mut bench.vmcore("--dump-dmesg theirs ours.log"))?;
    bench.same_bytes("ours.log", "theirs.log")?;

    // Flattened.
    bench.redirected(
        &mut bench.vmcore("-F -c -d 31 all"),
        None,
        Some("ours.flat"),
    )?;
    bench.redirected(
        &mut bench.makedumpfile("-R theirs.back")?,
        Some("ours.flat"),
        None,
    )?;
    bench.same_bytes("theirs.back", "ours")?;
    bench.redirected(
        &mut bench.makedumpfile("-F -l -d 31 all")?,
        None,
        Some("theirs.flat"),
    )?;
    bench.redirected(&mut bench.vmcore("-R ours.back"), Some("theirs.flat"), None)?;
    bench.same_bytes("ours.back", "theirs")?;
    bench.same_pages("theirs.flat", "ours.flat")?;

    // In parts.
    run(&mut bench.vmcore("-c -d 31 --split all a b c"))?;
    run(&mut bench.vmcore("--reassemble a b c ours.joined"))?;
    run(&mut bench.makedumpfile("--reassemble a b c theirs.joined")?)?;
    bench.same_pages("ours.joined", "ours")?;
    bench.same_pages("theirs.joined", "ours")?;
    run(&mut bench.makedumpfile("-c -d 31 --split all x y")?)?;
    run(&mut bench.vmcore("--reassemble x y ours.of.theirs"))?;
    bench.same_pages("ours.of.theirs", "ours")?;

    run(&mut bench.vmcore("-E -d 31 all ours.elf"))?;
    for name in ["ours", "ours.elf", "ours.joined", "ours.of.theirs"] {
        run(&mut bench.vmcore(&format!("verify {name}")))?;
        bench.is_good(name)?;
    }
    Ok(())
}
