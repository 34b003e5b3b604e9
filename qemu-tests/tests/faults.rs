// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults at capture: each cell of the table in `src/faults/table.rs` is one test, so that a failing one is named. A sample
//! of each kind runs always, the others under `cargo verify --full`.

macro_rules! tests {
    ($($fault:ident $how:literal ($inject:expr) {
        $($when:ident $kind:ident $must:ident $said:literal;)*
    })*) => {
        $(mod $fault {
            $(tests!(@$when $fault $kind);)*
        })*
    };
    (@always $fault:ident $kind:ident) => {
        #[test]
        fn $kind() -> anyhow::Result<()> {
            qemu_tests::faults::play(stringify!($fault), stringify!($kind))
        }
    };
    (@full $fault:ident $kind:ident) => {
        #[test]
        #[ignore = "most faults at capture: cargo verify --full"]
        fn $kind() -> anyhow::Result<()> {
            qemu_tests::faults::play(stringify!($fault), stringify!($kind))
        }
    };
}

qemu_tests::with_faults!(tests);
