// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random numbers that nobody waits for.
//!
//! A capture kernel has just started and may have no entropy of its own. Then the numbers come from a secret of the
//! image, the user's key, where it has one, and from the crashed machine's memory, which differs by crash.

use collector::IoError;
use core::fmt;
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest as _, Sha256};

/// How many places of the crashed machine's memory are looked at, and how much of each.
const PLACES: u32 = 256;
const PLACE_BYTES: usize = 4096;

/// Where the numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The kernel's generator was ready.
    Kernel,
    /// It was not: the crashed machine's memory, and what else there is.
    Mixed {
        /// The image has a seed.
        seed: bool,
        /// The processor gave numbers.
        processor: bool,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Mixed { seed, processor } = *self else {
            return f.write_str("the kernel's generator");
        };
        f.write_str(if seed { "the image's seed, " } else { "" })?;
        f.write_str("the crashed machine's memory")?;
        f.write_str(if processor { " and the processor" } else { "" })?;
        f.write_str(", as the kernel's generator is not ready")
    }
}

/// The crashed machine's memory.
pub struct Memory<'m> {
    /// How much it is.
    pub size_bytes: u64,
    /// Reads what lies at an offset.
    pub read_at: Read<'m>,
}

/// Fills the bytes with what lies at an offset.
pub type Read<'m> = &'m mut dyn FnMut(u64, &mut [u8]) -> Result<(), IoError>;

/// A generator of random numbers: SHA-256 over a secret state that changes with each use.
pub struct Random {
    state: [u8; 32],
    origin: Origin,
}

impl Random {
    /// Gathers what there is, without waiting: the kernel's generator, and besides it, or in its place, `seed` and places
    /// all over `memory`.
    #[must_use]
    pub fn gather(seed: &[u8], memory: Option<Memory<'_>>) -> Self {
        let mut kernel = [0; KERNEL_BYTES];
        let is_ready = getrandom(&mut kernel[..], GetRandomFlags::NONBLOCK)
            .is_ok_and(|given| given == KERNEL_BYTES);
        let processor = crate::sys::processor_random();
        let mut hash = Sha256::new();
        hash.update(b"kdumprd");
        hash.update(kernel);
        if let Some(numbers) = processor {
            numbers
                .iter()
                .for_each(|number| hash.update(number.to_le_bytes()));
        }
        hash.update(crate::clock::now().as_nanos().to_le_bytes());
        // Whatever its length: it is hashed by itself.
        hash.update(Sha256::digest(seed));
        if let Some(memory) = memory.filter(|_| !is_ready) {
            mix_memory(&mut hash, memory);
        }
        Self {
            state: hash.finalize().into(),
            origin: if is_ready {
                Origin::Kernel
            } else {
                Origin::Mixed {
                    seed: !seed.is_empty(),
                    processor: processor.is_some(),
                }
            },
        }
    }

    /// Where the numbers come from.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// The next 32 bytes. What was given out cannot be told from the state that is kept.
    pub fn draw(&mut self) -> [u8; 32] {
        let half = |which: u8, state: &[u8; 32]| -> [u8; 32] {
            Sha256::new()
                .chain_update([which])
                .chain_update(state)
                .finalize()
                .into()
        };
        let given = half(1, &self.state);
        self.state = half(2, &self.state);
        given
    }
}

/// The bytes that the kernel is asked for.
const KERNEL_BYTES: usize = 32;

/// Places all over the memory: log buffers, counters, caches and keys are somewhere in it, and no two crashes have the same.
fn mix_memory(hash: &mut Sha256, memory: Memory<'_>) {
    let step = memory
        .size_bytes
        .checked_div(u64::from(PLACES))
        .unwrap_or(0);
    let mut buf = [0; PLACE_BYTES];
    for place in 0..PLACES {
        let offset = step.saturating_mul(u64::from(place));
        // A place that cannot be read adds nothing.
        if (memory.read_at)(offset, &mut buf).is_ok() {
            hash.update(buf);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn no_two_generators_and_no_two_numbers_are_the_same() {
        let mut one = Random::gather(b"seed", None);
        let mut other = Random::gather(b"seed", None);
        let numbers = [one.draw(), one.draw(), other.draw(), other.draw()];
        for (position, number) in numbers.iter().enumerate() {
            assert!(!numbers[..position].contains(number));
        }
        assert_eq!(one.origin(), Origin::Kernel);
    }

    #[test]
    fn the_log_names_what_there_is() {
        let said = |seed, processor| Origin::Mixed { seed, processor }.to_string();
        assert_eq!(
            said(true, true),
            "the image's seed, the crashed machine's memory and the processor, as the kernel's generator is not ready"
        );
        assert_eq!(
            said(false, false),
            "the crashed machine's memory, as the kernel's generator is not ready"
        );
        assert_eq!(Origin::Kernel.to_string(), "the kernel's generator");
    }

    #[test]
    fn the_crashed_memory_makes_the_difference() {
        let state = |fill| {
            let mut hash = Sha256::new();
            let memory = Memory {
                size_bytes: 1 << 30,
                read_at: &mut |offset, buf: &mut [u8]| {
                    buf.fill(fill);
                    if offset == 0 {
                        Err(IoError::IO)
                    } else {
                        Ok(())
                    }
                },
            };
            mix_memory(&mut hash, memory);
            hash.finalize()
        };
        assert_ne!(state(1), state(2));
        assert_eq!(state(1), state(1));
    }
}
