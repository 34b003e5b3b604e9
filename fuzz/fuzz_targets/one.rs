// SPDX-License-Identifier: MIT OR Apache-2.0
//! libFuzzer's program for all targets.
#![no_main]

use std::sync::OnceLock;

use kdumprd_fuzz::{Target, named};
use libfuzzer_sys::fuzz_target;

fn target() -> &'static Target {
    static TARGET: OnceLock<&'static Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("KDUMPRD_FUZZ").unwrap_or_default();
        named(&name).unwrap_or_else(|| panic!("KDUMPRD_FUZZ={name}: no such target"))
    })
}

fuzz_target!(|data: &[u8]| (target().run)(data));
