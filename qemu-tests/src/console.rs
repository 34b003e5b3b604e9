// SPDX-License-Identifier: MIT OR Apache-2.0
//! The serial console of a guest: every line with the host's time, kept in memory and in a log.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use regex::Regex;

/// One line of the console.
#[derive(Clone, Debug)]
pub struct Line {
    /// When its end was read, from QEMU's start on.
    pub at: Duration,
    /// The line without its end.
    pub text: String,
}

/// How a wait for a line ended.
#[derive(Clone, Debug)]
pub enum Wait {
    /// This line matched.
    Found(Line),
    /// The guest is gone, and no line matched.
    Ended,
    /// The time was up, and no line matched.
    TimedOut,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    ended: bool,
}

/// What a guest has printed so far. Clones see the same lines.
#[derive(Clone, Debug, Default)]
pub struct Console {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Console {
    /// Reads `stream` to its end in a thread of its own.
    pub(crate) fn follow(
        &self,
        stream: impl Read + Send + 'static,
        started: Instant,
        mut log: File,
    ) -> JoinHandle<()> {
        let console = self.clone();
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut bytes = Vec::new();
            while let Ok(1..) = stream.read_until(b'\n', &mut bytes) {
                let at = started.elapsed();
                let text = String::from_utf8_lossy(&bytes);
                let text = text.trim_end_matches(['\r', '\n']).to_owned();
                bytes.clear();
                // A log that cannot be written must not stop the run that it describes.
                let _ = writeln!(log, "{:9.3} {text}", at.as_secs_f64());
                console.lock().lines.push(Line { at, text });
                console.shared.1.notify_all();
            }
            console.lock().ended = true;
            console.shared.1.notify_all();
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `deadline` for a line that matches, from line number `next` on; leaves `next` behind that line, or
    /// behind the last one.
    #[must_use]
    pub fn wait(&self, next: &mut usize, pattern: &Regex, deadline: Instant) -> Wait {
        let mut state = self.lock();
        loop {
            while let Some(line) = state.lines.get(*next) {
                *next += 1;
                if pattern.is_match(&line.text) {
                    return Wait::Found(line.clone());
                }
            }
            if state.ended {
                return Wait::Ended;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Wait::TimedOut;
            }
            state = self
                .shared
                .1
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.lock().lines.clone()
    }

    /// The last line that has any text.
    #[must_use]
    pub fn last_words(&self) -> String {
        let state = self.lock();
        let last = state
            .lines
            .iter()
            .rfind(|line| !line.text.trim().is_empty());
        last.map_or_else(|| "nothing".to_owned(), |line| line.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn console_of(text: &'static str) -> Console {
        let console = Console::default();
        let log = File::create("/dev/null").unwrap();
        console
            .follow(text.as_bytes(), Instant::now(), log)
            .join()
            .unwrap();
        console
    }

    #[test]
    fn lines_are_found_in_order_and_once() {
        let console = console_of("one\r\ntwo\r\none again");
        let mut next = 0;
        let soon = Instant::now() + Duration::from_secs(5);
        let pattern = Regex::new("^one").unwrap();
        let mut found = || match console.wait(&mut next, &pattern, soon) {
            Wait::Found(line) => Some(line.text),
            _ => None,
        };
        assert_eq!(found().as_deref(), Some("one"));
        assert_eq!(found().as_deref(), Some("one again"));
        assert_eq!(found(), None);
        assert_eq!(console.last_words(), "one again");
    }

    #[test]
    fn a_silent_guest_is_a_time_out() {
        let console = Console::default();
        let pattern = Regex::new("never").unwrap();
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(matches!(
            console.wait(&mut 0, &pattern, soon),
            Wait::TimedOut
        ));
    }
}
