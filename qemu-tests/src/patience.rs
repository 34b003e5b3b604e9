// SPDX-License-Identifier: MIT OR Apache-2.0
//! Deadlines that are fair to a guest on a busy machine, and still are deadlines.
//!
//! The kernel counts for each thread how long it was ready to run and did not get a processor. What QEMU lost so does not
//! count against the guest; a guest that hangs loses nothing, as it asks for nothing, and one that spins runs.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// However busy the machine is, a deadline comes after this many times what was given.
const MOST: u32 = 4;

/// A deadline for a process.
#[derive(Debug)]
pub(crate) struct Patience {
    threads: PathBuf,
    began: Instant,
    limit: Duration,
    /// What each thread had lost at the beginning.
    before: HashMap<u64, Duration>,
    due: Instant,
}

impl Patience {
    /// From now on, for this process.
    pub(crate) fn new(process: u32, limit: Duration) -> Self {
        let threads = PathBuf::from(format!("/proc/{process}/task"));
        let began = Instant::now();
        Self {
            before: lost(&threads),
            threads,
            began,
            limit,
            due: began + limit,
        }
    }

    /// When it is worth to look again.
    pub(crate) const fn due(&self) -> Instant {
        self.due
    }

    /// Whether there is time left; then [`Patience::due`] was moved on.
    pub(crate) fn lasts(&mut self) -> bool {
        let lost = lost(&self.threads)
            .into_iter()
            .map(|(thread, lost)| {
                lost.saturating_sub(self.before.get(&thread).copied().unwrap_or_default())
            })
            .max()
            .unwrap_or_default();
        self.due = self.began + (self.limit + lost).min(self.limit * MOST);
        Instant::now() < self.due
    }
}

/// How long each thread waited for a processor so far. Nothing where the kernel does not count.
///
/// Source: Linux `Documentation/scheduler/sched-stats.rst`, `/proc/<pid>/schedstat`: the second number, in nanoseconds.
fn lost(threads: &PathBuf) -> HashMap<u64, Duration> {
    let Ok(entries) = fs::read_dir(threads) else {
        return HashMap::new();
    };
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let thread = path.file_name()?.to_str()?.parse().ok()?;
            let text = fs::read_to_string(path.join("schedstat")).ok()?;
            let waited = text.split_whitespace().nth(1)?.parse().ok()?;
            Some((thread, Duration::from_nanos(waited)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::thread;

    #[test]
    fn who_asks_for_nothing_gets_no_more_than_was_given() {
        let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
        let mut patience = Patience::new(sleeper.id(), Duration::from_millis(100));
        thread::sleep(Duration::from_millis(400));
        let lasts = patience.lasts();
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert!(!lasts);
    }

    #[test]
    fn who_waits_for_a_processor_gets_the_time_back_and_no_more_than_the_bound() {
        // Three that spin on one processor: each waits two thirds of the time.
        let mut spinners: Vec<_> = (0..3)
            .map(|_| {
                Command::new("taskset")
                    .args(["-c", "0", "sh", "-c", "while :; do :; done"])
                    .stdin(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        thread::sleep(Duration::from_millis(300));
        let limit = Duration::from_millis(600);
        let mut patience = Patience::new(spinners[0].id(), limit);
        let began = patience.began;
        thread::sleep(Duration::from_millis(700));
        let lasts = patience.lasts();
        let due = patience.due() - began;
        for spinner in &mut spinners {
            spinner.kill().unwrap();
            spinner.wait().unwrap();
        }
        assert!(lasts, "due after {due:?}");
        assert!(due > limit && due <= limit * MOST, "{due:?}");
    }
}
