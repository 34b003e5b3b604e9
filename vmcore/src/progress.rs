// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far the work is: a bar on a terminal, a line every few seconds elsewhere.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use collector::{Observer, Progress, Stage};

use super::messages::Level;

/// How often a bar moves.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Calls between two looks at the clock.
const CALLS: u32 = 16;

/// Tells progress and warnings on standard error.
pub(crate) struct Console {
    level: Level,
    is_terminal: bool,
    begun: Instant,
    /// When something was printed last, in this stage.
    last: Option<(Stage, Instant)>,
    bar_is_open: bool,
    calls: u32,
}

impl Console {
    pub(crate) fn new(level: Level) -> Self {
        Self {
            level,
            is_terminal: io::stderr().is_terminal(),
            begun: Instant::now(),
            last: None,
            bar_is_open: false,
            calls: 0,
        }
    }

    /// Ends the bar's line.
    pub(crate) fn finish(&mut self) {
        if self.bar_is_open {
            eprintln!();
            self.bar_is_open = false;
        }
        self.last = None;
    }
}

impl Observer for Console {
    fn progress(&mut self, progress: Progress) {
        if !self.level.progress() {
            return;
        }
        let same_stage = self.last.is_some_and(|(stage, _)| stage == progress.stage);
        self.calls = self.calls.wrapping_add(1);
        if same_stage && !self.calls.is_multiple_of(CALLS) {
            return;
        }
        let now = Instant::now();
        let every = if self.is_terminal {
            BAR_EVERY
        } else {
            LINE_EVERY
        };
        match self.last {
            Some((stage, last)) if stage == progress.stage && now.duration_since(last) < every => {}
            // Elsewhere than on a terminal what is done within seconds needs no line.
            None if !self.is_terminal => self.last = Some((progress.stage, now)),
            Some((stage, _)) if stage != progress.stage && !self.is_terminal => {
                self.last = Some((progress.stage, now));
            }
            _ => {
                self.last = Some((progress.stage, now));
                let text = text(&progress, now.duration_since(self.begun));
                if self.is_terminal {
                    eprint!("\r{} {text}\x1b[K", bar(percent(&progress)));
                    let _unseen = io::stderr().flush();
                    self.bar_is_open = true;
                } else {
                    eprintln!("vmcore: {text}");
                }
            }
        }
    }

    fn warn(&mut self, message: fmt::Arguments<'_>) {
        self.finish();
        if self.level.common() {
            eprintln!("vmcore: {message}");
        }
    }
}

fn percent(progress: &Progress) -> u64 {
    let percent = progress.done_pages.saturating_mul(100) / progress.total_pages.max(1);
    percent.min(100)
}

fn bar(percent: u64) -> String {
    let full = usize::try_from(percent / 5).unwrap_or(20).min(20);
    format!("[{}{}]", "#".repeat(full), " ".repeat(20 - full))
}

fn text(progress: &Progress, elapsed: Duration) -> String {
    let stage = match progress.stage {
        Stage::Classify => "looking at pages",
        Stage::Copy => "copying",
        Stage::Sync => "syncing",
    };
    format!(
        "{stage}: {} %, {} of {} pages, {:.1} MiB written in {:.0} s",
        percent(progress),
        progress.done_pages,
        progress.total_pages,
        progress.written_bytes as f64 / f64::from(1 << 20),
        elapsed.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_the_work_is_done() {
        let progress = |done_pages| Progress {
            stage: Stage::Copy,
            done_pages,
            total_pages: 400,
            written_bytes: 3 << 20,
        };
        assert_eq!(bar(percent(&progress(0))), "[                    ]");
        assert_eq!(bar(percent(&progress(200))), "[##########          ]");
        assert_eq!(bar(percent(&progress(900))), "[####################]");
        assert_eq!(
            text(&progress(200), Duration::from_secs(2)),
            "copying: 50 %, 200 of 400 pages, 3.0 MiB written in 2 s"
        );
    }
}
