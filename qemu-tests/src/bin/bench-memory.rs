// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo bench-memory`: the smallest `crashkernel=` that saves a dump, beside the smallest that starts an empty init.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result};
use qemu_tests::measure::{Pair, STEP_MIB, Which};
use qemu_tests::setup::{self, Flavour};

const HELP: &str = "\
Usage: cargo bench-memory [KERNEL]...

For each kernel (6.1, 6.1-generic, 6.12, 6.12-generic; all when none is named) with 1 GiB and one processor: the smallest
crashkernel= in steps of 4 MiB with which a capture kernel starts an init that does nothing, and with which ours saves a
dump at level 31 to ext3. Takes a few minutes for each.
";

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
    let mut flavours = Vec::new();
    for argument in env::args().skip(1) {
        if argument == "--help" || argument == "-h" {
            print!("{HELP}");
            return Ok(());
        }
        let flavour = Flavour::from_word(&argument)
            .with_context(|| format!("no kernel {argument}\n{HELP}"))?;
        flavours.push(flavour);
    }
    if flavours.is_empty() {
        flavours.extend(Flavour::ALL);
    }
    println!("steps of {STEP_MIB} MiB, 1 GiB, one processor, QEMU without KVM");
    for flavour in flavours {
        let kernel = setup::kernel(flavour)?;
        let pair = Pair::new(&format!("bench-memory-{}", flavour.word()), &kernel, 1024)?;
        println!("{}", kernel.release);
        for which in [Which::Empty, Which::Ours] {
            let (mib, why) = pair.smallest(which, 48, 160)?;
            println!(
                "  {which:?}: {mib}M (image {} KiB); {}M: {why}",
                pair.image_bytes(which)? >> 10,
                mib - STEP_MIB
            );
        }
        pair.clean_up()?;
    }
    Ok(())
}
