// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said, and where: `--message-level` chooses, and `-F` keeps standard output for the dump.

use std::fmt;
use std::io::{self, Write as _};

/// Prints a line. That nobody reads on, as behind `| head`, is no failure.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _gone = writeln!(std::io::stdout(), $($words)*);
    }};
}
pub(crate) use say;

/// Which messages are wanted: makedumpfile's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level(u8);

impl Level {
    /// Progress, common messages and errors.
    pub(crate) const DEFAULT: Self = Self(7);

    pub(crate) const fn new(bits: u8) -> Self {
        Self(bits)
    }

    pub(crate) const fn with_debug(self) -> Self {
        Self(self.0 | 8)
    }

    pub(crate) const fn with_report(self) -> Self {
        Self(self.0 | 16)
    }

    pub(crate) const fn progress(self) -> bool {
        self.0 & 1 != 0
    }

    /// The bit of common messages alone.
    pub(crate) const fn only_common(self) -> Self {
        Self(self.0 & 2)
    }

    pub(crate) const fn common(self) -> bool {
        self.0 & 2 != 0
    }

    pub(crate) const fn errors(self) -> bool {
        self.0 & 4 != 0
    }

    pub(crate) const fn debug(self) -> bool {
        self.0 & 8 != 0
    }

    pub(crate) const fn report(self) -> bool {
        self.0 & 16 != 0
    }
}

/// Where messages go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Messages {
    pub(crate) level: Level,
    /// Standard output is the dump's.
    pub(crate) to_stderr: bool,
}

impl Messages {
    /// A line that most people want to see.
    pub(crate) fn common(self, text: fmt::Arguments<'_>) {
        if self.level.common() {
            self.line(text);
        }
    }

    /// A line for the one who looks for a fault.
    pub(crate) fn debug(self, text: fmt::Arguments<'_>) {
        if self.level.debug() {
            self.line(text);
        }
    }

    /// Lines of the report.
    pub(crate) fn report(self, text: fmt::Arguments<'_>) {
        if self.level.report() {
            self.line(text);
        }
    }

    fn line(self, text: fmt::Arguments<'_>) {
        // A closed pipe is no reason to stop a dump.
        let _gone = if self.to_stderr {
            writeln!(io::stderr(), "{text}")
        } else {
            writeln!(io::stdout(), "{text}")
        };
    }
}
