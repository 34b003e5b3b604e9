// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same init, built for `x86_64-unknown-linux-musl`, captures too.

use std::fs;

use anyhow::{Result, ensure};
use qemu_tests::disk::Ext;
use qemu_tests::machine::{Content, DiskPlan, Machine};
use qemu_tests::musl;
use qemu_tests::saved::Saved;
use qemu_tests::setup::{self, Flavour};
use qemu_tests::vm::End;

#[test]
fn init_for_musl_saves_a_dump() -> Result<()> {
    let init = musl::init()?;
    let size = fs::metadata(&init)?.len();
    println!("init for {}: {size} bytes", musl::TARGET);
    ensure!(size <= 1 << 20, "{size} bytes");

    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let mut machine = Machine::new("musl")?;
    machine.use_init(init);
    let target = machine.add(&DiskPlan::virtio(Content::Ext(Ext::new("ext3", 200))))?;
    let conf = format!("ext3 {}\npath /var/crash\n", target.node);
    let outcome = machine.cycle(&kernel, &conf)?.run()?;
    outcome.line("kdump: attempt 1 of 1 done: ")?;
    ensure!(outcome.end == End::Reset, "{:?}", outcome.end);
    let out = machine.work().join("out");
    Saved::only(&target.filesystem(), "/var/crash", &out)?.check_complete()?;
    machine.clean_up()
}
