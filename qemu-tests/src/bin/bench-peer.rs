// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo bench-peer`: kdumprd and Debian's kdump-tools, each installed in the same Debian.
#![forbid(unsafe_code)]

use std::env;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qemu_tests::measure::median_s;
use qemu_tests::report;
use qemu_tests::setup::{self, Flavour};
use qemu_tests::side_by_side::{Capture, Prepared, STEP_MIB, Side};

const HELP: &str = "\
Usage: cargo bench-peer [--runs N] [--note TEXT] [--write]

Installs our deb and Debian's kdump-tools, each in a Debian of debootstrap's with systemd and the 6.1 cloud kernel, lets each
make its image, and panics the machines (1 GiB, one processor): N times (3) with crashkernel=256M, in turns, and then to find the smallest
crashkernel= that saves a dump, in steps of 8 MiB. Prints a table. Only a quiet machine gives steady times.

  --runs N     how often each machine is panicked for its times
  --note TEXT  a sentence for the table, as about what else the machine did
  --write      put the table into BENCHMARKS.md
";

/// Where the search for the smallest begins and ends: below, this kernel does not start with any init.
const LEAST_MIB: u64 = 56;
const MOST_MIB: u64 = 160;

/// What the times are taken with.
const CRASHKERNEL_MIB: u64 = 256;

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-peer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let (mut runs, mut note, mut writes) = (3, String::new(), false);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} needs a value\n{HELP}"))
        };
        match argument.as_str() {
            "--runs" => runs = value()?.parse().context("--runs takes a number")?,
            "--note" => note = value()? + " ",
            "--write" => writes = true,
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(());
            }
            other => bail!("unknown option {other}\n{HELP}"),
        }
    }
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let mut sides = Vec::new();
    for side in Side::ALL {
        let prepared = Prepared::new(side, &kernel)?;
        println!("{side:?}: image {} bytes", prepared.image_bytes);
        sides.push((prepared, Vec::new()));
    }
    for run in 1..=runs {
        for (prepared, captures) in &mut sides {
            let capture = prepared.capture(CRASHKERNEL_MIB)?;
            println!("run {run}: {:?}: {capture:?}", prepared.side());
            captures.push(capture);
        }
    }
    let mut table = format!(
        "{note}{}, 1 GiB, one processor; times with `crashkernel={CRASHKERNEL_MIB}M`, the middle one of {runs} runs in turns.\n\n\
         | | {} |\n|---|---|---|\n",
        kernel.release,
        sides
            .iter()
            .map(|(prepared, _)| prepared.side().title())
            .collect::<Vec<_>>()
            .join(" | ")
    );
    let mut row = |what: &str, cells: Vec<String>| {
        let _ = writeln!(table, "| {what} | {} |", cells.join(" | "));
    };
    let each = |cell: &dyn Fn(&[Capture]) -> String| -> Vec<String> {
        sides.iter().map(|(_, captures)| cell(captures)).collect()
    };
    let seconds = |time: fn(&Capture) -> Duration| {
        move |captures: &[Capture]| {
            let times: Vec<Duration> = captures.iter().map(time).collect();
            format!("{:.1} s", median_s(&times))
        }
    };
    row(
        "image, with modules",
        sides
            .iter()
            .map(|(prepared, _)| format!("{} KiB", prepared.image_bytes >> 10))
            .collect(),
    );
    row(
        "panic to dump saved",
        each(&seconds(|capture| capture.saved)),
    );
    row("panic to reset", each(&seconds(|capture| capture.reset)));
    row(
        "dump, as each is configured by itself",
        each(&|captures| {
            let last = captures.last().map_or(0, |capture| capture.dump_bytes);
            format!("{:.1} MB", last as f64 / 1e6)
        }),
    );
    let mut smallest = Vec::new();
    let mut reasons = String::new();
    for (prepared, _) in &sides {
        let (mib, why) = prepared.smallest(LEAST_MIB, MOST_MIB)?;
        let below = mib - STEP_MIB;
        let _ = writeln!(reasons, "- {}, {below}M: {why}", prepared.side().title());
        smallest.push(format!("{mib}M"));
    }
    row("smallest `crashkernel=`, in steps of 8M", smallest);
    table += "\nOne step lower:\n\n";
    table += &reasons;
    print!("\n{table}");
    if writes {
        report::replace("bench-peer", &table)?;
    }
    for (prepared, _) in sides {
        prepared.clean_up()?;
    }
    Ok(())
}
