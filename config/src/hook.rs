// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs of the administrator that run around the dump.

use core::fmt;

/// When a hook runs, and what its exit status means. The order of these is the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookKind {
    /// `kdump_pre`: before the dump; an exit status other than 0 forbids it, and the final action follows.
    Pre,
    /// One of `/etc/kdump/pre.d`: before the dump, behind `kdump_pre`.
    PreFolder,
    /// One of `/etc/kdump/post.d`: after the dump, with its status as the argument.
    PostFolder,
    /// `kdump_post`: after the dump, behind those of `post.d`, with its status as the argument.
    Post,
    /// One of `/etc/kdump/emergency.d`: when every attempt failed.
    EmergencyFolder,
    /// `kdump_emergency`: when every attempt failed.
    Emergency,
}

impl HookKind {
    /// Every kind, in the order in which they run.
    pub const ALL: [Self; 6] = [
        Self::Pre,
        Self::PreFolder,
        Self::PostFolder,
        Self::Post,
        Self::EmergencyFolder,
        Self::Emergency,
    ];

    /// The directive or folder.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pre => "kdump_pre",
            Self::PreFolder => "pre.d",
            Self::PostFolder => "post.d",
            Self::Post => "kdump_post",
            Self::EmergencyFolder => "emergency.d",
            Self::Emergency => "kdump_emergency",
        }
    }

    /// The kind that `word` names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One program that runs around the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook<'a> {
    /// When.
    pub kind: HookKind,
    /// Its file in the image.
    pub path: &'a str,
}
