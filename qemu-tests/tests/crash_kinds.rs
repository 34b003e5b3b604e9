// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every kind of crash on both kernels: a complete dump, page for page what the guest's memory was, that drgn opens, and
//! crash on 6.1. Each kind runs on one of the kernels, and on the other under `--full`.

use anyhow::Result;
use qemu_tests::case::Case;
use qemu_tests::crash::Crash;
use qemu_tests::disk::Ext;
use qemu_tests::machine::{Content, DiskPlan};
use qemu_tests::setup::Flavour;

/// Panics on a machine with two processors and checks the dump.
fn captured(name: &str, flavour: Flavour, crash: Crash) -> Result<()> {
    let capture = Case {
        crash,
        processors: 2,
        page_exact: Some(31),
        symbols: true,
        ..Case::new(
            name,
            flavour,
            DiskPlan::virtio(Content::Ext(Ext::new("ext4", 512))),
            "ext4 NODE\n",
        )
    }
    .capture()?;
    capture.saved()?;
    capture.clean_up()
}

/// Two tests of a kind: one for the kernel that has it in the hour, one for the other.
macro_rules! kinds {
    ($($name:ident: $crash:expr, $first:ident, $second:ident;)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn is_captured() -> Result<()> {
                captured(
                    concat!("crash-", stringify!($name)),
                    Flavour::$first,
                    $crash,
                )
            }

            #[test]
            #[ignore = "the other kernel; runs under --full"]
            fn is_captured_on_the_other_kernel() -> Result<()> {
                captured(
                    concat!("crash-", stringify!($name), "-other"),
                    Flavour::$second,
                    $crash,
                )
            }
        })*
    };
}

kinds! {
    null_dereference: Crash::Null, Cloud6_1, Cloud6_12;
    bug: Crash::Bug, Cloud6_12, Cloud6_1;
    panic_in_a_module: Crash::Module, Cloud6_1, Cloud6_12;
    panic_in_an_interrupt: Crash::Interrupt, Cloud6_12, Cloud6_1;
    panic_in_a_timer: Crash::Timer, Cloud6_1, Cloud6_12;
    nmi: Crash::Nmi, Cloud6_1, Cloud6_12;
    soft_lockup: Crash::SoftLockup, Cloud6_12, Cloud6_1;
    hung_task: Crash::HungTask, Cloud6_1, Cloud6_12;
    out_of_memory: Crash::OutOfMemory, Cloud6_12, Cloud6_1;
    stack_overflow: Crash::StackOverflow, Cloud6_1, Cloud6_12;
    double_fault: Crash::DoubleFault, Cloud6_12, Cloud6_1;
    end_of_pid_1: Crash::InitExits, Cloud6_12, Cloud6_1;
    while_the_targets_file_system_is_written: Crash::SysrqWhileWriting, Cloud6_1, Cloud6_12;
    with_all_memory_full: Crash::SysrqInFullMemory, Cloud6_12, Cloud6_1;
    sysrq_on_the_boot_processor: Crash::SysrqOnCpu(0), Cloud6_12, Cloud6_1;
    sysrq_on_another_processor: Crash::SysrqOnCpu(1), Cloud6_1, Cloud6_12;
}
