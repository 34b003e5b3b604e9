// SPDX-License-Identifier: MIT OR Apache-2.0
//! Seeded mutations, for a compiler that knows nothing of coverage. The same number gives the same input everywhere.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Target;

/// An input takes milliseconds; what takes this long hangs, also on a machine that has other work.
pub const LONGEST: Duration = Duration::from_secs(120);
/// No input grows beyond this.
const MOST_BYTES: usize = 256 << 10;

/// A generator of numbers: xorshift64*, which needs no more than a state that is not 0.
pub struct Numbers(u64);

impl Numbers {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }
}

/// What is put over bytes of an input, besides noise.
const WORDS: [u64; 10] = [
    0,
    1,
    u64::MAX,
    i64::MAX as u64,
    0x8000_0000,
    0xffff_ffff,
    0xffff_fffe,
    0x1_0000,
    0xffff_8880_0000_0000,
    1 << 40,
];

/// One of the seeds with a few changes.
pub fn mutated(seeds: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seeds
        .get(numbers.below(seeds.len()))
        .cloned()
        .unwrap_or_default();
    for _ in 0..=numbers.below(6) {
        let at = numbers.below(bytes.len());
        match numbers.below(8) {
            0 => bytes.truncate(at),
            1 => {
                let other = &seeds[numbers.below(seeds.len())];
                let from = numbers.below(other.len());
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
            2 => {
                let count = numbers.below(40) + 1;
                let noise: Vec<u8> = (0..count).map(|_| numbers.next() as u8).collect();
                bytes.splice(at..at, noise);
            }
            3 => {
                let end = (at + numbers.below(64)).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            4 | 5 => {
                let word = WORDS[numbers.below(WORDS.len())];
                let word = match numbers.below(2) {
                    0 => word.to_le_bytes(),
                    _ => word.to_be_bytes(),
                };
                let width = 1 << numbers.below(4);
                let part = match word[0] {
                    0 => &word[8 - width..],
                    _ => &word[..width],
                };
                for (byte, new) in bytes.iter_mut().skip(at).zip(part) {
                    *byte = *new;
                }
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << numbers.below(8);
                }
            }
        }
    }
    bytes.truncate(MOST_BYTES);
    bytes
}

/// Runs all seeds, then mutations of them until the time is over, and says how many inputs that were.
///
/// # Panics
/// The target does. What it was given is in `artifact` then, as it is when the process ends because of a hang or of memory.
pub fn run(target: &'static Target, time: Duration, artifact: &Path) -> u64 {
    let seeds = (target.seeds)();
    let started = Instant::now();
    let watch = Watch::start(target.name);
    let mut count = 0;
    let mut numbers = Numbers::new(u64::from(target.name.len() as u32) + 1);
    *lock(&PLACE) = artifact.to_owned();
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        told(panic);
        keep_input();
    }));
    loop {
        let input = match seeds.get(count as usize) {
            Some(seed) => seed.clone(),
            None if started.elapsed() >= time => break,
            None => mutated(&seeds, &mut numbers),
        };
        lock(&INPUT).clone_from(&input);
        (target.run)(&input);
        count += 1;
        watch.alive();
    }
    count
}

/// What the target has now, and where that is to be kept if it fails.
static INPUT: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static PLACE: Mutex<PathBuf> = Mutex::new(PathBuf::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the input that the process is about to end with.
pub(crate) fn keep_input() {
    let (input, place) = (lock(&INPUT), lock(&PLACE));
    if place.as_os_str().is_empty() {
        return;
    }
    match std::fs::write(&*place, &*input) {
        Ok(()) => eprintln!("the input is {}", place.display()),
        Err(error) => eprintln!("the input is lost: {}: {error}", place.display()),
    }
}

/// Ends the process when one input takes too long.
struct Watch {
    moved: &'static AtomicU64,
}

impl Watch {
    fn start(name: &'static str) -> Self {
        let moved: &'static AtomicU64 = Box::leak(Box::default());
        std::thread::spawn(move || {
            loop {
                let before = moved.load(Ordering::Relaxed);
                std::thread::sleep(LONGEST);
                if before == u64::MAX {
                    return;
                }
                if moved.load(Ordering::Relaxed) == before {
                    eprintln!("{name}: an input takes longer than {} s", LONGEST.as_secs());
                    keep_input();
                    std::process::abort();
                }
            }
        });
        Self { moved }
    }

    fn alive(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.moved.store(u64::MAX, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_gives_the_same_input() {
        let seeds = vec![vec![7; 100], b"a seed".to_vec()];
        let inputs = |seed| -> Vec<Vec<u8>> {
            let mut numbers = Numbers::new(seed);
            (0..200).map(|_| mutated(&seeds, &mut numbers)).collect()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
    }

    #[test]
    fn every_target_has_seeds_that_it_takes() {
        for target in crate::TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{}", target.name);
            for seed in &seeds {
                (target.run)(seed);
            }
        }
    }
}
