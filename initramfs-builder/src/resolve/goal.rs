// SPDX-License-Identifier: MIT OR Apache-2.0
//! What will be done, with all that the record needs to own.

use crate::error::Mistake;
use crate::modules::closure::{Chosen, Need};
use config::{
    Attempt, CollectOptions, Deadlines, DeviceId, DeviceSpec, FailureAction, FinalAction, Module,
    Record, Role, RootFilesystem, TargetSpec, record,
};

/// What will be done, with all that the record needs to own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The capture kernel's release.
    pub kernel: String,
    /// The host's name.
    pub hostname: String,
    /// The host's zone as a POSIX `TZ` string.
    pub zone: String,
    /// What follows when every attempt failed.
    pub failure_action: FailureAction,
    /// What follows at the end.
    pub final_action: FinalAction,
    /// The bound of each step.
    pub deadlines: Deadlines,
    /// In the order to be made.
    pub attempts: Vec<Goal>,
    /// The machine's root, where the failure action starts it.
    pub root: Option<Root>,
    /// What the capture kernel must be able to do.
    pub needs: Vec<Need>,
    /// What a person should know before relying on the image.
    pub warnings: Vec<String>,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Why it is in the list.
    pub role: Role,
    /// Where it comes from: `kdump.conf:3`, or why it is there without a line.
    pub origin: String,
    /// Where to.
    pub place: Place,
    /// The device.
    pub device: Identified,
    /// What and how.
    pub collect: CollectOptions,
}

/// Where a dump goes on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// From its first byte.
    Raw,
    /// Into this directory of its file system.
    Filesystem {
        /// The type for `mount(2)`.
        fstype: String,
        /// Its options.
        mount_options: String,
        /// The save path inside it.
        path: String,
    },
}

/// A device and what it will be known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// The keyword of [`DeviceId::from_parts`].
    pub(super) keyword: &'static str,
    /// Its value.
    pub(super) value: String,
    /// The host's node.
    pub node: String,
    /// Its size on the host.
    pub size_bytes: Option<u64>,
    /// How the one follows from the other, for the plan.
    pub how: String,
}

/// The machine's root file system and its init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The type for `mount(2)`.
    pub fstype: String,
    /// Its options.
    pub mount_options: String,
    /// The device.
    pub device: Identified,
    /// The path of its init.
    pub init: String,
}

impl Identified {
    /// As the record has it.
    #[must_use]
    pub fn spec(&self) -> DeviceSpec<'_> {
        DeviceSpec {
            id: DeviceId::from_parts(self.keyword, &self.value)
                .unwrap_or(DeviceId::Node(&self.node)),
            known_as: &self.node,
            size_bytes: self.size_bytes,
        }
    }
}

impl Goal {
    /// Both would write to the same directory or device.
    pub(super) fn is_at_the_place_of(&self, other: &Self) -> bool {
        self.device.node == other.device.node && self.place == other.place
    }

    /// As the record has it.
    #[must_use]
    pub fn target(&self) -> TargetSpec<'_> {
        let device = self.device.spec();
        match &self.place {
            Place::Raw => TargetSpec::Raw { device },
            Place::Filesystem {
                fstype,
                mount_options,
                path,
            } => TargetSpec::Filesystem {
                fstype,
                device,
                mount_options,
                path,
            },
        }
    }
}

impl Resolved {
    /// The record for the image, with these modules.
    ///
    /// # Errors
    /// There are more modules or attempts than a record lists.
    pub fn record<'a>(&'a self, chosen: &'a [Chosen]) -> Result<Record<'a>, Mistake> {
        let mut modules = heapless::Vec::new();
        for module in chosen {
            modules
                .push(Module {
                    name: &module.name,
                    options: "",
                })
                .map_err(|_| {
                    Mistake::new(format!(
                        "the plan needs {} modules, and a record lists at most {}; take names out of `extra_modules`",
                        chosen.len(),
                        record::MAX_MODULES
                    ))
                })?;
        }
        let mut attempts = heapless::Vec::new();
        for goal in &self.attempts {
            attempts
                .push(Attempt {
                    role: goal.role,
                    target: goal.target(),
                    collect: goal.collect.clone(),
                })
                .map_err(|_| {
                    Mistake::new(format!(
                        "the plan has {} attempts, and a record lists at most {}; take targets out",
                        self.attempts.len(),
                        record::MAX_ATTEMPTS
                    ))
                })?;
        }
        Ok(Record {
            kernel: &self.kernel,
            hostname: &self.hostname,
            zone: &self.zone,
            failure_action: self.failure_action,
            final_action: self.final_action,
            deadlines: self.deadlines,
            modules,
            attempts,
            root: self.root.as_ref().map(|root| RootFilesystem {
                fstype: &root.fstype,
                device: root.device.spec(),
                mount_options: &root.mount_options,
                init: &root.init,
            }),
        })
    }
}
