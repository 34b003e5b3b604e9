// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random numbers for keys, and the line in the log that says what they are made from.

use crate::log;
use crate::vmcore::VmcoreFile;
use collector::Source as _;
use targets::ssh::Random;
use targets::ssh::random::Memory;

/// Gathers what there is, without waiting: `seed` is the image's secret, empty where it has none.
pub fn gather(seed: &[u8], vmcore: &mut VmcoreFile) -> Random {
    let random = Random::gather(
        seed,
        Some(Memory {
            size_bytes: vmcore.size_bytes(),
            read_at: &mut |offset, buf: &mut [u8]| vmcore.read_at(offset, buf),
        }),
    );
    log!("random numbers: {}", random.origin());
    random
}
