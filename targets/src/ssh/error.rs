// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why it did not work with a server.

use crate::text::Text;
use collector::IoError;
use core::fmt;

/// Why it did not work with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SshError {
    /// The connection broke.
    Io(IoError),
    /// The server ended the connection.
    Closed,
    /// The server said nothing, or nothing of use, for as long as it may.
    TimedOut,
    /// The server ended the connection and said why.
    Disconnected(u32, Text<80>),
    /// What answers is no SSH server of version 2.
    Version(Text<64>),
    /// There is nothing that both sides can do: for what, and what the server offers.
    NoCommon(&'static str, Text<80>),
    /// The server showed a key that is not pinned.
    HostKey(Text<50>),
    /// The server could not prove that it has the pinned key.
    HostKeyProof,
    /// The server does not take the key for this user; what it would take.
    Denied(Text<64>),
    /// The server does not do this.
    Refused(&'static str, Text<80>),
    /// A packet was changed on its way.
    Damaged,
    /// The server breaks the protocol: how.
    Protocol(&'static str),
    /// SFTP: what was done, the status, and the server's words.
    Sftp(&'static str, u32, Text<64>),
    /// What was done, and how few bytes the server's disk has left.
    NoRoom(&'static str, u64),
    /// What was done, and the server's disk has no inode left.
    NoInodes(&'static str),
    /// Something stands where a directory is needed.
    NotADirectory,
    /// A command ended with this status, and its last words.
    Command(&'static str, u32, Text<80>),
    /// Something does not fit into the memory that is set aside for it.
    TooLong(&'static str),
}

impl fmt::Display for SshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the connection broke: {error}"),
            Self::Closed => f.write_str("the server ended the connection"),
            Self::TimedOut => f.write_str("the server does not answer"),
            Self::Disconnected(reason, text) => {
                write!(
                    f,
                    "the server ended the connection: {text} (reason {reason})"
                )
            }
            Self::Version(line) => write!(f, "no SSH 2.0 server answers, but {line}"),
            Self::NoCommon(what, offer) => {
                write!(f, "no {what} in common; the server offers {offer}")
            }
            Self::HostKey(fingerprint) => write!(
                f,
                "the server shows the key {fingerprint}, which is not the pinned one"
            ),
            Self::HostKeyProof => f.write_str("the server cannot prove that it has the pinned key"),
            Self::Denied(methods) => write!(
                f,
                "the server does not accept the key for this user; it would take {methods}"
            ),
            Self::Refused(what, text) => write!(f, "the server refuses {what}: {text}"),
            Self::Damaged => f.write_str("a packet was changed on its way"),
            Self::Protocol(how) => write!(f, "the server breaks the protocol: {how}"),
            Self::Sftp(doing, status, text) => {
                write!(f, "{doing}: ")?;
                match status_name(*status) {
                    Some(name) => f.write_str(name)?,
                    None => write!(f, "status {status}")?,
                }
                if !text.is_empty() && status_name(*status).is_none_or(|name| *text != *name) {
                    write!(f, " ({text})")?;
                }
                Ok(())
            }
            Self::NoRoom(doing, bytes) => {
                write!(
                    f,
                    "{doing}: the server's disk is full, {bytes} bytes are left"
                )
            }
            Self::NoInodes(doing) => write!(
                f,
                "{doing}: the server's disk has no inode left; remove files there"
            ),
            Self::NotADirectory => f.write_str(
                "it is there and no directory: a file, or a symbolic link that leads to none",
            ),
            Self::Command(doing, status, text) => {
                write!(f, "{doing}: the command ended with status {status}")?;
                if !text.is_empty() {
                    write!(f, " ({text})")?;
                }
                Ok(())
            }
            Self::TooLong(what) => write!(f, "{what} is too long"),
        }
    }
}

impl core::error::Error for SshError {}

/// Source: draft-ietf-secsh-filexfer-02 section 7.
const fn status_name(status: u32) -> Option<&'static str> {
    Some(match status {
        0 => "OK",
        1 => "End of file",
        2 => "No such file",
        3 => "Permission denied",
        4 => "Failure",
        5 => "Bad message",
        8 => "Operation unsupported",
        _ => return None,
    })
}

impl From<SshError> for IoError {
    /// The number that comes nearest, for those who know only numbers.
    fn from(error: SshError) -> Self {
        match error {
            SshError::Io(error) => error,
            SshError::Closed | SshError::Disconnected(..) => Self(104),
            SshError::TimedOut => Self(110),
            SshError::Denied(_) | SshError::Refused(..) => Self(13),
            SshError::Sftp(_, 2, _) => Self(2),
            SshError::Sftp(_, 3, _) => Self(13),
            SshError::Sftp(_, 8, _) => Self(95),
            SshError::NoRoom(..) | SshError::NoInodes(_) => Self::NO_SPACE,
            SshError::NotADirectory => Self(20),
            SshError::Damaged
            | SshError::Protocol(_)
            | SshError::Version(_)
            | SshError::NoCommon(..)
            | SshError::HostKey(_)
            | SshError::HostKeyProof => Self(71),
            SshError::Sftp(..) | SshError::Command(..) | SshError::TooLong(_) => Self::IO,
        }
    }
}
