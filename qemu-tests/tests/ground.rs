// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ground that all other tests stand on: every kernel panics and starts a capture kernel that reaches its init,
//! whatever we do there.

use std::fs;

use anyhow::Result;
use qemu_tests::crash::Crash;
use qemu_tests::cycle::{Cycle, work_folder};
use qemu_tests::guest::{self, FirstKernel};
use qemu_tests::setup::{self, Flavour};
use qemu_tests::vm::End;

fn reaches_an_empty_init(name: &str, flavour: Flavour, crash: Crash) -> Result<()> {
    let kernel = setup::kernel(flavour)?;
    let image = work_folder(name)?.join("empty.img");
    fs::write(&image, guest::empty_capture_image()?)?;
    let cycle = Cycle {
        processors: 2,
        first: FirstKernel {
            crash,
            ..FirstKernel::default()
        },
        ..Cycle::new(name, &kernel, image)
    };
    let outcome = cycle.run()?;
    let panic = outcome.panicked_at()?;
    let up = outcome.line(guest::EMPTY_INIT_UP)?;
    assert!(up.at > panic, "{}", outcome.log.display());
    assert!(up.text.contains("up, 1 processors"), "{}", up.text);
    assert_eq!(outcome.end, End::Reset);
    Ok(())
}

#[test]
fn cloud_6_1() -> Result<()> {
    reaches_an_empty_init("ground-cloud-6.1", Flavour::Cloud6_1, Crash::Sysrq)
}

#[test]
fn generic_6_1() -> Result<()> {
    reaches_an_empty_init("ground-generic-6.1", Flavour::Generic6_1, Crash::InitExits)
}

#[test]
fn cloud_6_12() -> Result<()> {
    reaches_an_empty_init(
        "ground-cloud-6.12",
        Flavour::Cloud6_12,
        Crash::SysrqOnCpu(1),
    )
}

#[test]
fn generic_6_12() -> Result<()> {
    reaches_an_empty_init("ground-generic-6.12", Flavour::Generic6_12, Crash::Nmi)
}
