// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host command `vmcore`: the collector over plain files, with makedumpfile's options.
#![forbid(unsafe_code)]

mod command;

fn main() -> std::process::ExitCode {
    command::main()
}
