// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo bench-boot`: from the panic to the reset, beside the same kernel's way to an init that does nothing.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qemu_tests::measure::{Pair, Target, Which, median_s};
use qemu_tests::setup::{self, Flavour};

const HELP: &str = "\
Usage: cargo bench-boot [--runs N] [--kernel WORD] [--memory MIB] [--crashkernel MIB]

Panics a guest N times (5) each with an empty init, with an empty init and our kernel command line, and with ours, which
saves a dump at level 31 to ext3, in turns. Prints the time from the panic to the empty init, from the panic to our
reset, and the ratios of the medians. Only a quiet machine gives steady numbers.
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
    let pair = Pair::new("bench-boot", &kernel, memory_mib, Target::Ext3)?;
    println!(
        "{}, {memory_mib} MiB, crashkernel={crashkernel_mib}M, one processor, level 31 to ext3, QEMU without KVM",
        kernel.release
    );
    println!("       panic to empty init              panic to our reset");
    println!("run    untuned line     our line        our line");
    let kinds = [Which::EmptyUntuned, Which::Empty, Which::Ours];
    let mut times: [Vec<Duration>; 3] = Default::default();
    for run in 1..=runs {
        print!("{run:3}");
        for (which, times) in kinds.into_iter().zip(&mut times) {
            let outcome = pair.cycle(which, crashkernel_mib).run()?;
            let time = pair.time(which, &outcome)?;
            print!("  {:12.2} s", time.as_secs_f64());
            times.push(time);
        }
        println!();
    }
    let [untuned, empty, ours] = times.map(|times| median_s(&times));
    println!("median{untuned:11.2} s  {empty:12.2} s  {ours:12.2} s");
    println!(
        "our reset takes {:.2} times the empty init with an untuned line, {:.2} times that with our line",
        ours / untuned,
        ours / empty
    );
    pair.clean_up()
}
