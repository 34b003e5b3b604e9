// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults at capture: each cell of the table in `src/faults/table.rs` is one test, so that a failing one is named. A sample
//! of each kind runs always, the others under `cargo verify --full`.

use std::collections::BTreeSet;

use qemu_tests::faults::table;

/// One test for each cell, and the list of all of them.
macro_rules! cells {
    ($($fault:ident { $($when:ident $kind:ident),* })*) => {
        $(mod $fault {
            $(cells!(@test $when $fault $kind);)*
        })*

        const NAMES: &[(&str, &str)] = &[$($((stringify!($fault), stringify!($kind)),)*)*];
    };
    (@test always $fault:ident $kind:ident) => {
        #[test]
        fn $kind() -> anyhow::Result<()> {
            qemu_tests::faults::play(stringify!($fault), stringify!($kind))
        }
    };
    (@test full $fault:ident $kind:ident) => {
        #[test]
        #[ignore = "most faults at capture: cargo verify --full"]
        fn $kind() -> anyhow::Result<()> {
            qemu_tests::faults::play(stringify!($fault), stringify!($kind))
        }
    };
}

cells! {
    disk_missing { full ext, full raw }
    disk_late { always ext, full raw }
    disk_read_only { full ext, always raw }
    full_at_0 { full ext, full raw, full nfs, full ssh }
    full_at_50 { always ext, full raw, full nfs, full ssh }
    full_at_50_alone { full ext, always raw, full nfs, full ssh }
    full_at_99 { full ext, full raw }
    io_error_at_fixed_writes { full ext, full raw }
    io_error_at_random { full ext, full raw }
    gone_from_a_write_on { always ext, full raw }
    disk_unplugged { full ext, full raw }
    disk_stalls_for_ever { full ext, always raw }
    disk_slow { full ext, full raw }
    server_missing { full nfs, always ssh }
    server_refuses { always nfs, full ssh }
    server_hangs_at_once { full nfs, full ssh }
    server_hangs { full nfs, always ssh }
    server_killed { always nfs, always ssh }
    server_slow { full nfs, full ssh }
    wrong_host_key { always ssh }
    wrong_user_key { full ssh }
    link_down_at_start { always nfs, full ssh }
    link_flaps { full nfs, full ssh }
    link_lost { full nfs, full ssh }
    packets_lost { full nfs, full ssh }
    superblock_overwritten { always ext }
    group_descriptors_overwritten { full ext }
    journal_overwritten { full ext }
    directory_overwritten { full ext }
    no_inodes { full ext }
    path_missing { full ext, full nfs, full ssh }
    path_is_a_loop { full ext, full nfs, full ssh }
    module_missing { full ext }
    module_refuses { full ext }
    module_hangs { full ext }
    vmcore_absent { always ext }
    vmcore_short { full ext }
    vmcore_eio { always ext }
    vmcoreinfo_garbled { full ext }
    clock_in_1970 { full ext, full raw }
    image_truncated { full ext }
    record_of_another_version { always ext }
    capture_kernel_crashes { full ext }
}

#[test]
fn the_table_and_the_tests_have_the_same_cells() {
    let of_tests: BTreeSet<_> = NAMES.iter().copied().collect();
    let of_table: BTreeSet<_> = table::names().into_iter().collect();
    assert_eq!(of_tests, of_table);
}
