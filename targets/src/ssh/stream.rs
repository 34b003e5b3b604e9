// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the client runs over: TCP, or anything else that takes and gives bytes.

use collector::IoError;
use core::time::Duration;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Bytes from the other side.
    Read,
    /// Room for more bytes to it.
    Write,
    /// Either.
    Both,
}

/// What can be done without waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// There are bytes, or the other side has ended.
    pub read: bool,
    /// There is room.
    pub write: bool,
}

/// Bytes both ways, without waiting.
pub trait Stream {
    /// Takes bytes that are there: how many, 0 at the end, none when there are none yet.
    ///
    /// # Errors
    /// What the connection said.
    fn read(&mut self, buf: &mut [u8]) -> Result<Option<usize>, IoError>;

    /// Hands over as much of `data` as there is room for; none when there is none.
    ///
    /// # Errors
    /// What the connection said.
    fn write(&mut self, data: &[u8]) -> Result<Option<usize>, IoError>;

    /// Waits until something can be done, at most for `patience`.
    ///
    /// # Errors
    /// What the connection said.
    fn wait(&mut self, want: Want, patience: Duration) -> Result<Ready, IoError>;

    /// The program on the other side took bytes, or did what it was asked for: for those who count how long nothing moved. That
    /// the connection takes bytes says nothing: the kernel takes questions for a server that is gone.
    fn got_further(&mut self) {}
}
