// SPDX-License-Identifier: MIT OR Apache-2.0
//! The progress line: how far the dump is, how fast, how long to go.

use crate::log;
use crate::report::Seen;
use core::fmt;

/// The first line comes this long after the dump began, so that a short dump prints none.
const FIRST_MS: u64 = 2000;
/// And then one every so often.
const EVERY_MS: u64 = 5000;
/// What a page of x86_64 holds; the rate is that of the pages read.
const PAGE_KIB: u64 = 4;

/// Decides when a line is due.
pub struct Meter {
    next_ms: u64,
    /// When copying was first seen, and how many pages were done then.
    copying_since: Option<(u64, u64)>,
}

impl Meter {
    /// No line is due yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            next_ms: FIRST_MS,
            copying_since: None,
        }
    }

    /// Logs a line when one is due. The dump began at `since_ms`.
    pub fn look(&mut self, seen: &Seen, since_ms: u64, now_ms: u64) {
        if seen.copying && self.copying_since.is_none() {
            self.copying_since = Some((now_ms, seen.done_pages));
        }
        let elapsed_ms = now_ms.saturating_sub(since_ms);
        if elapsed_ms < self.next_ms || seen.total_pages == 0 {
            return;
        }
        self.next_ms = elapsed_ms.saturating_add(EVERY_MS);
        let (start_ms, start_pages) = self.copying_since.unwrap_or((since_ms, 0));
        log!(
            "{}",
            Line {
                seen: *seen,
                pages: seen.done_pages.saturating_sub(start_pages),
                elapsed_ms: now_ms.saturating_sub(start_ms),
            }
        );
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

/// One progress line.
struct Line {
    seen: Seen,
    /// Pages done in `elapsed_ms`.
    pages: u64,
    elapsed_ms: u64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen {
            copying,
            done_pages,
            total_pages,
            written_bytes,
        } = self.seen;
        let percent = done_pages.saturating_mul(100) / total_pages.max(1);
        let doing = if copying { "copying" } else { "classifying" };
        write!(
            f,
            "{doing}: {percent} %, {done_pages} of {total_pages} pages"
        )?;
        if copying {
            write!(f, ", {} written", Mib(written_bytes))?;
        }
        let pages_per_s = self.pages.saturating_mul(1000) / self.elapsed_ms.max(1);
        if pages_per_s > 0 {
            let left_s = total_pages.saturating_sub(done_pages).div_ceil(pages_per_s);
            write!(
                f,
                ", {} MiB/s, about {left_s} s left",
                pages_per_s.saturating_mul(PAGE_KIB) / 1024
            )?;
        }
        Ok(())
    }
}

/// Bytes as MiB with one decimal below 100.
pub struct Mib(pub u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.saturating_mul(10) / (1 << 20);
        if tenths < 1000 {
            write!(f, "{}.{} MiB", tenths / 10, tenths % 10)
        } else {
            write!(f, "{} MiB", tenths / 10)
        }
    }
}

/// Milliseconds as seconds with one decimal.
pub struct Seconds(pub u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.saturating_add(50) / 100;
        write!(f, "{}.{} s", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_percent_rate_and_remaining_time() {
        let line = Line {
            seen: Seen {
                copying: true,
                done_pages: 12345,
                total_pages: 27433,
                written_bytes: 8_493_466,
            },
            pages: 12345,
            elapsed_ms: 1378,
        };
        assert_eq!(
            line.to_string(),
            "copying: 45 %, 12345 of 27433 pages, 8.1 MiB written, 34 MiB/s, about 2 s left"
        );
    }

    #[test]
    fn without_progress_there_is_no_rate() {
        let line = Line {
            seen: Seen {
                total_pages: 9,
                ..Seen::default()
            },
            pages: 0,
            elapsed_ms: 0,
        };
        assert_eq!(line.to_string(), "classifying: 0 %, 0 of 9 pages");
    }

    #[test]
    fn seconds_round_to_a_tenth() {
        assert_eq!(Seconds(2149).to_string(), "2.1 s");
        assert_eq!(Seconds(2150).to_string(), "2.2 s");
        assert_eq!(Seconds(49).to_string(), "0.0 s");
    }
}
