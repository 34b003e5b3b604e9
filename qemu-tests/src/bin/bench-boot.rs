// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo bench-boot`: from the panic to the reset, beside the same kernel's way to an init that does nothing.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qemu_tests::measure::{Pair, Which, median_s};
use qemu_tests::setup::{self, Flavour};

const HELP: &str = "\
Usage: cargo bench-boot [--runs N] [--kernel WORD] [--memory MIB] [--crashkernel MIB]

Panics a guest N times (5) with an empty init, and N times with ours, which saves a dump at level 31 to ext3, in turns. Prints
the time from the panic to the empty init, from the panic to our reset, and the ratio of the medians. Quiet machines
give steady numbers; the ratio hardly depends on the machine.
";

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-boot: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let (mut runs, mut flavour, mut memory_mib, mut crashkernel_mib) =
        (5, Flavour::Cloud6_1, 1024, 256);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--help" || argument == "-h" {
            print!("{HELP}");
            return Ok(());
        }
        let value = arguments
            .next()
            .with_context(|| format!("{argument}: no such option, or it needs a value\n{HELP}"))?;
        match argument.as_str() {
            "--runs" => runs = value.parse().context("--runs takes a number")?,
            "--kernel" => {
                flavour =
                    Flavour::from_word(&value).with_context(|| format!("no kernel {value}"))?;
            }
            "--memory" => memory_mib = value.parse().context("--memory takes MiB")?,
            "--crashkernel" => {
                crashkernel_mib = value.parse().context("--crashkernel takes MiB")?;
            }
            other => bail!("unknown option {other}\n{HELP}"),
        }
    }
    let kernel = setup::kernel(flavour)?;
    let pair = Pair::new("bench-boot", &kernel, memory_mib)?;
    println!(
        "{}, {memory_mib} MiB, crashkernel={crashkernel_mib}M, one processor, level 31 to ext3, QEMU without KVM",
        kernel.release
    );
    println!("run   panic to empty init   panic to our reset");
    let (mut empty, mut ours): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let time = |which| -> Result<Duration> {
            let outcome = pair.cycle(which, crashkernel_mib).run()?;
            pair.time(which, &outcome)
        };
        let (one, other) = (time(Which::Empty)?, time(Which::Ours)?);
        println!(
            "{run:3}   {:15.2} s   {:16.2} s",
            one.as_secs_f64(),
            other.as_secs_f64()
        );
        empty.push(one);
        ours.push(other);
    }
    let (empty, ours) = (median_s(&empty), median_s(&ours));
    println!(
        "median {empty:14.2} s   {ours:16.2} s   ratio {:.2}",
        ours / empty
    );
    pair.clean_up()
}
