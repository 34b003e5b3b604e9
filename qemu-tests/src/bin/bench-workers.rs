// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo bench-workers`: what a second processor wins in the capture kernel.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use qemu_tests::case::Case;
use qemu_tests::crash::Crash;
use qemu_tests::disk::Ext;
use qemu_tests::machine::{Content, DiskPlan};
use qemu_tests::setup::Flavour;
use regex::Regex;

const HELP: &str = "\
Usage: cargo bench-workers [ROUNDS]

A guest of 1 GiB panics, and its capture kernel saves a dump at level 1 with zlib to ext4: with nr_cpus=1 and with nr_cpus=2 in
turns, 3 times each or as often as is said. Printed are the seconds from the beginning of the vmcore to its end as init logs
them. They mean something when two processors have nothing else to do.
";

/// Work for a codec: a kernel image and text of it.
const CONTENT: &str = "mkdir /busy\n\
     mount -t tmpfs busy /busy\n\
     for number in 1 2 3 4 5 6; do\n\
         cp /harness/vmlinuz /busy/kernel$number\n\
         base64 /harness/vmlinuz > /busy/text$number\n\
         hexdump -C /harness/vmlinuz | head -c 20000000 > /busy/dump$number\n\
     done\n";

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-workers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let rounds: usize = match env::args().nth(1).as_deref() {
        None => 3,
        Some("--help" | "-h") => {
            print!("{HELP}");
            return Ok(());
        }
        Some(word) => word
            .parse()
            .with_context(|| format!("{word} is no number of rounds\n{HELP}"))?,
    };
    ensure!(rounds > 0, "no rounds, no numbers\n{HELP}");
    let mut seconds = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        for (processors, seconds) in (1..).zip(&mut seconds) {
            let (taken, line) = capture(processors)?;
            println!("round {round}, {processors}: {line}");
            seconds.push(taken);
        }
    }
    let [one, two] = seconds.map(|mut seconds| {
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    });
    println!(
        "medians: {one:.1} s and {two:.1} s, {:.2} times one",
        one / two
    );
    Ok(())
}

/// The seconds that the capture kernel took with so many processors, and what it said.
fn capture(processors: u32) -> Result<(f64, String)> {
    let case = Case {
        processors: 2,
        capture_processors: processors,
        // After a crash on another one, the capture kernel leaves the boot processor alone and has one.
        crash: Crash::SysrqOnCpu(0),
        memory_mib: 1024,
        prepare: CONTENT,
        ..Case::new(
            "bench-workers",
            Flavour::Cloud6_1,
            DiskPlan::virtio(Content::Ext(Ext::new("ext4", 1200))),
            "ext4 NODE\ncore_collector makedumpfile -c -d 1\n",
        )
    };
    let capture = case.capture()?;
    if processors > 1 {
        capture.outcome.line("kdump: 2 workers compress")?;
    }
    let line = capture
        .outcome
        .line("kdump: vmcore: [0-9]+ pages: .* bytes in ")?;
    let line = line.text.clone();
    let taken = Regex::new(r"bytes in ([0-9.]+) s")?
        .captures(&line)
        .and_then(|found| found[1].parse().ok())
        .with_context(|| format!("no seconds in `{line}`"))?;
    capture.saved()?;
    capture.clean_up()?;
    Ok((taken, line))
}
