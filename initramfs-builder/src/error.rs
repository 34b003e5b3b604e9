// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mistakes: what stops a build, where, and what would be accepted.

use std::fmt;

/// A value and the line of `kdump.conf` that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// Counted from 1.
    pub line: u32,
    /// The value.
    pub value: T,
}

/// One thing that stops the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file and line that it comes from, where one does.
    pub place: Option<(String, u32)>,
    /// What is wrong, and what would be accepted.
    pub message: String,
}

impl Mistake {
    /// A mistake that no line of `kdump.conf` made.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            place: None,
            message: message.into(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, line)) = &self.place {
            write!(f, "{file}:{line}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that stops the build, so that a person mends it in one go. Printed one a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, mistake) in self.0.iter().enumerate() {
            if position > 0 {
                writeln!(f)?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
