// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a build of init says of itself: a note in its ELF file, which the builder reads.
//!
//! There are builds with and without the network. One that lacks what the plan needs, or that reads records of another
//! version, would be noticed when it is too late; so the builder asks the file.

use crate::TargetSpec;
use crate::record::VERSION;

/// The section that holds the note.
pub const SECTION: &str = ".note.kdumprd";
/// Whose note it is.
pub const OWNER: &[u8; 8] = b"kdumprd\0";
/// The one type of note that we write.
pub const KIND: u32 = 1;

/// Three lengths and types, the owner, two numbers.
const NOTE_BYTES: usize = 12 + OWNER.len() + DESCRIPTION_BYTES;
const DESCRIPTION_BYTES: usize = 8;
const NFS: u32 = 1;
const SSH: u32 = 2;
const AGE: u32 = 4;

/// A build of init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// The version of the records that it reads.
    pub record_version: u32,
    /// It reaches NFS servers.
    pub nfs: bool,
    /// It reaches ssh servers.
    pub ssh: bool,
    /// It encrypts dumps.
    pub encrypts: bool,
}

impl Build {
    /// A build that reads the records of today.
    #[must_use]
    pub const fn new(nfs: bool, ssh: bool, encrypts: bool) -> Self {
        Self {
            record_version: VERSION,
            nfs,
            ssh,
            encrypts,
        }
    }

    /// The whole note, in this machine's byte order as its ELF files have it; the description is little-endian.
    #[must_use]
    pub const fn note(self) -> [u8; NOTE_BYTES] {
        let mut reach = 0;
        if self.nfs {
            reach |= NFS;
        }
        if self.ssh {
            reach |= SSH;
        }
        if self.encrypts {
            reach |= AGE;
        }
        let [a, b, c, d] = self.record_version.to_le_bytes();
        let [e, f, g, h] = u32::to_le_bytes(reach);
        let [n0, n1, n2, n3] = u32::to_ne_bytes(8);
        let [k0, k1, k2, k3] = KIND.to_ne_bytes();
        let [o0, o1, o2, o3, o4, o5, o6, o7] = *OWNER;
        // The owner and the description are both of 8 bytes.
        [
            n0, n1, n2, n3, n0, n1, n2, n3, k0, k1, k2, k3, o0, o1, o2, o3, o4, o5, o6, o7, a, b,
            c, d, e, f, g, h,
        ]
    }

    /// What the description of a note says.
    #[must_use]
    pub fn from_description(description: &[u8]) -> Option<Self> {
        let (version, rest) = description.split_first_chunk::<4>()?;
        let (reach, _) = rest.split_first_chunk::<4>()?;
        let reach = u32::from_le_bytes(*reach);
        Some(Self {
            record_version: u32::from_le_bytes(*version),
            nfs: reach & NFS != 0,
            ssh: reach & SSH != 0,
            encrypts: reach & AGE != 0,
        })
    }

    /// Whether it can bring up a network.
    #[must_use]
    pub const fn has_network(self) -> bool {
        self.nfs || self.ssh
    }

    /// Whether it has what an attempt at `target` takes.
    #[must_use]
    pub const fn reaches(self, target: &TargetSpec<'_>) -> bool {
        match target {
            TargetSpec::Raw { .. } | TargetSpec::Filesystem { .. } => true,
            TargetSpec::Nfs { .. } => self.nfs,
            TargetSpec::Ssh { .. } => self.ssh,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        for (nfs, ssh, encrypts) in [
            (false, false, false),
            (true, false, false),
            (true, true, false),
            (true, true, true),
        ] {
            let build = Build::new(nfs, ssh, encrypts);
            let note = build.note();
            assert_eq!(note[..4], 8_u32.to_ne_bytes());
            assert_eq!(note[12..20], *OWNER);
            assert_eq!(Build::from_description(&note[20..]), Some(build));
        }
    }

    #[test]
    fn a_description_that_is_cut_short_is_none() {
        for length in 0..DESCRIPTION_BYTES {
            assert_eq!(
                Build::from_description(&[0; DESCRIPTION_BYTES][..length]),
                None
            );
        }
    }
}
