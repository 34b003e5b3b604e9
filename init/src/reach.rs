// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which targets a build of init can reach.
//!
//! The network, NFS and ssh are most of the program, and every byte of it is memory that the capture kernel does not
//! have. So there are builds with and without them, and each is linked with what its [`Reach`] names and no more. The
//! builder takes the smallest that has what the plan needs.

use crate::attempt::{Place, Reason, Run, nfs, ssh};
use crate::fence::{self, Teller};
use crate::seal::{Sealer, age_stream};
use config::{Build, TargetSpec};

/// Makes an attempt at a target of one kind.
pub type Way = fn(&mut Run<'_>, &mut [u8]) -> Result<Place, Reason>;

/// The ways to targets away from this machine. Its own disks every build reaches.
#[derive(Debug)]
pub struct Reach {
    nfs: Option<Way>,
    ssh: Option<Way>,
    teller: Option<Teller>,
    sealer: Option<Sealer>,
}

impl Reach {
    /// This machine's disks only.
    pub const LOCAL: Self = Self {
        nfs: None,
        ssh: None,
        teller: None,
        sealer: None,
    };
    /// Disks and NFS.
    pub const NFS: Self = Self {
        nfs: Some(nfs::make),
        ssh: None,
        teller: Some(fence::tell),
        sealer: None,
    };
    /// Every target that there is, and encryption, which takes the ssh client's ciphers.
    pub const ALL: Self = Self {
        nfs: Some(nfs::make),
        ssh: Some(ssh::make),
        teller: Some(fence::tell),
        sealer: Some(age_stream::make),
    };

    /// What the binary says of itself.
    #[must_use]
    pub const fn build(&self) -> Build {
        Build::new(
            self.nfs.is_some(),
            self.ssh.is_some(),
            self.sealer.is_some(),
        )
    }

    /// What encrypts dumps.
    #[must_use]
    pub const fn sealer(&self) -> Option<Sealer> {
        self.sealer
    }

    /// What tells a cluster's nodes of the dump.
    #[must_use]
    pub const fn teller(&self) -> Option<Teller> {
        self.teller
    }

    /// The way to a target that is not a disk.
    #[must_use]
    pub fn way(&self, target: &TargetSpec<'_>) -> Option<Way> {
        match target {
            TargetSpec::Raw { .. } | TargetSpec::Filesystem { .. } => None,
            TargetSpec::Nfs { .. } => self.nfs,
            TargetSpec::Ssh { .. } => self.ssh,
        }
    }
}
