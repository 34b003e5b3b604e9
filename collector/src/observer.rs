// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the caller learns how far the work is, and what went otherwise than asked.

use core::fmt;

/// Is told about progress and about anything a person should know. Called often: it throttles by itself.
pub trait Observer {
    /// The work got this far. What calls it is the heartbeat: no call for long means that the work is stuck.
    fn progress(&mut self, progress: Progress);

    /// Something went otherwise than asked, and the work goes on: a lowered dump level, pages that could not be read.
    fn warn(&mut self, message: fmt::Arguments<'_>);
}

/// How far the work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Pages done in this stage.
    pub done_pages: u64,
    /// Pages to do in this stage.
    pub total_pages: u64,
    /// Bytes that went to the sink so far.
    pub written_bytes: u64,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Deciding which pages to keep.
    Classify,
    /// Reading, compressing and writing the kept pages.
    Copy,
    /// Waiting until all is on the device.
    Sync,
}

/// Takes no notice.
impl Observer for () {
    fn progress(&mut self, _: Progress) {}

    fn warn(&mut self, _: fmt::Arguments<'_>) {}
}
