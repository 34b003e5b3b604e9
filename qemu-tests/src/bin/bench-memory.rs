// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo bench-memory`: the smallest `crashkernel=` that saves a dump to each kind of target, beside the smallest that starts
//! an empty init.
#![forbid(unsafe_code)]

use std::env;
use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use qemu_tests::measure::{Pair, STEP_MIB, Target, Which};
use qemu_tests::report;
use qemu_tests::setup::{self, Flavour, Kernel};

const HELP: &str = "\
Usage: cargo bench-memory [--write] [KERNEL]... [TARGET]...

For each kernel (6.1, 6.1-generic, 6.12, 6.12-generic; all when none is named) with 1 GiB and one processor: the smallest
crashkernel= in steps of 4 MiB with which a capture kernel starts an init that does nothing, and with which ours saves a
dump at level 31 to each target (ext3, raw, nfs, ssh; all when none is named). Takes some minutes for each.

  --write  put the table into BENCHMARKS.md
";

/// Below the first, no kernel here starts with any init.
const LEAST_MIB: u64 = 48;
const MOST_MIB: u64 = 160;

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-memory: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let (mut flavours, mut targets, mut writes) = (Vec::new(), Vec::new(), false);
    for argument in env::args().skip(1) {
        if argument == "--help" || argument == "-h" {
            print!("{HELP}");
            return Ok(());
        }
        if argument == "--write" {
            writes = true;
        } else if let Some(target) = Target::ALL.iter().find(|it| it.word() == argument) {
            targets.push(*target);
        } else {
            let flavour = Flavour::from_word(&argument)
                .with_context(|| format!("no kernel and no target {argument}\n{HELP}"))?;
            flavours.push(flavour);
        }
    }
    if flavours.is_empty() {
        flavours.extend(Flavour::ALL);
    }
    if targets.is_empty() {
        targets.extend(Target::ALL);
    }
    let mut table = format!("| kernel | empty init |{}\n|---|---|", heads(&targets));
    table += &"---|".repeat(targets.len());
    table += "\n";
    let mut reasons = String::from("\nOne step lower:\n\n");
    for flavour in flavours {
        let kernel = setup::kernel(flavour)?;
        let _ = write!(table, "| {} |", kernel.release);
        for (number, target) in targets.iter().enumerate() {
            let name = format!("bench-memory-{}-{}", flavour.word(), target.word());
            let pair = Pair::new(&name, &kernel, 1024, *target)?;
            if number == 0 {
                let floor = Floor::of(&pair, Which::Empty, &kernel, "empty init")?;
                let _ = write!(table, " {} |", floor.cell);
                reasons += &floor.reason;
            }
            let floor = Floor::of(&pair, Which::Ours, &kernel, target.word())?;
            let _ = write!(table, " {} |", floor.cell);
            reasons += &floor.reason;
            pair.clean_up()?;
        }
        table += "\n";
    }
    table += &reasons;
    print!("\n{table}");
    if writes {
        report::replace("bench-memory", &table)?;
    }
    Ok(())
}

fn heads(targets: &[Target]) -> String {
    targets
        .iter()
        .map(|target| format!(" {} |", target.word()))
        .collect()
}

/// The smallest that works, and what a smaller one comes to.
struct Floor {
    cell: String,
    reason: String,
}

impl Floor {
    fn of(pair: &Pair, which: Which, kernel: &Kernel, what: &str) -> Result<Self> {
        let (mib, why) = pair.smallest(which, LEAST_MIB, MOST_MIB)?;
        let cell = format!("{mib}M, {} KiB", pair.image_bytes(which)? >> 10);
        println!("{}, {what}: {cell}; less: {why}", kernel.release);
        let below = mib - STEP_MIB;
        let reason = format!("- {}, {what}, {below}M: {}\n", kernel.release, why.trim());
        Ok(Self { cell, reason })
    }
}
