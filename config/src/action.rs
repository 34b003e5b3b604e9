// SPDX-License-Identifier: MIT OR Apache-2.0
//! What to do when the dump failed, and when all is done.

use core::fmt;

/// What to do when every attempt failed. The words of `default` and `failure_action` in `kdump.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureAction {
    /// Restart the machine.
    Reboot,
    /// Stop the processor, power on.
    Halt,
    /// Switch the power off.
    Poweroff,
    /// A shell on the console; the final action follows when it ends.
    Shell,
    /// The root file system is the last attempt; the builder appends it to the attempts, so that nothing is left to do.
    DumpToRootfs,
    /// Mount the root file system and run the machine's own init on it.
    MountRootRunInit,
}

/// What to do when all is done. The words of `final_action` in `kdump.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalAction {
    /// Restart the machine.
    Reboot,
    /// Stop the processor, power on.
    Halt,
    /// Switch the power off.
    Poweroff,
}

impl FailureAction {
    /// Every action, in the order of the manual.
    pub const ALL: [Self; 6] = [
        Self::Reboot,
        Self::Halt,
        Self::Poweroff,
        Self::Shell,
        Self::DumpToRootfs,
        Self::MountRootRunInit,
    ];

    /// The word of the configuration file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::Halt => "halt",
            Self::Poweroff => "poweroff",
            Self::Shell => "shell",
            Self::DumpToRootfs => "dump_to_rootfs",
            Self::MountRootRunInit => "mount_root_run_init",
        }
    }

    /// The action that `word` names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.word() == word)
    }
}

impl FinalAction {
    /// Every action, in the order of the manual.
    pub const ALL: [Self; 3] = [Self::Reboot, Self::Halt, Self::Poweroff];

    /// The word of the configuration file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::Halt => "halt",
            Self::Poweroff => "poweroff",
        }
    }

    /// The action that `word` names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.word() == word)
    }
}

impl fmt::Display for FailureAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for FinalAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_names_its_action() {
        for action in FailureAction::ALL {
            assert_eq!(FailureAction::from_word(action.word()), Some(action));
        }
        for action in FinalAction::ALL {
            assert_eq!(FinalAction::from_word(action.word()), Some(action));
        }
        assert_eq!(FailureAction::from_word("rebooot"), None);
        assert_eq!(FinalAction::from_word("shell"), None);
    }
}
