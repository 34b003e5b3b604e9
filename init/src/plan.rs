// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes next: from the record and what happened last to the next step. Pure, so that a table tests all of it.

use config::{FailureAction, FinalAction, Record, Role};
use core::fmt;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make this attempt, counted from 0.
    Attempt(usize),
    /// A shell on every console, until a person ends it.
    Shell,
    /// Mount the root file system and run the machine's own init on it.
    MountRoot,
    /// The end.
    Finish(FinalAction),
}

/// What happened last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Nothing yet.
    Start,
    /// An attempt saved the dump.
    Saved,
    /// `kdump_pre` forbade the dump.
    Refused,
    /// This attempt failed, counted from 0.
    Failed(usize),
    /// The shell ended; a person may have said how the machine is to end.
    ShellLeft(Option<FinalAction>),
    /// The machine's own init could not be started.
    RootFailed,
}

/// The next step. Every chain of steps ends in [`Step::Finish`]: an attempt's number only grows, and nothing leads back
/// to an attempt.
#[must_use]
pub fn next(record: &Record<'_>, last: Last) -> Step {
    let attempt = match last {
        Last::Start => 0,
        Last::Failed(attempt) => attempt.saturating_add(1),
        // As on RHEL: neither another attempt nor the failure action.
        Last::Saved | Last::Refused | Last::RootFailed | Last::ShellLeft(None) => {
            return Step::Finish(record.final_action);
        }
        Last::ShellLeft(Some(action)) => return Step::Finish(action),
    };
    if attempt < record.attempts.len() {
        return Step::Attempt(attempt);
    }
    match record.failure_action {
        FailureAction::Reboot => Step::Finish(FinalAction::Reboot),
        FailureAction::Halt => Step::Finish(FinalAction::Halt),
        FailureAction::Poweroff => Step::Finish(FinalAction::Poweroff),
        FailureAction::Shell => Step::Shell,
        // The builder made it the last attempt, which has failed like the others.
        FailureAction::DumpToRootfs => Step::Finish(record.final_action),
        FailureAction::MountRootRunInit => Step::MountRoot,
    }
}

/// A step's name behind `next: `.
pub struct Named<'r>(pub &'r Record<'r>, pub Step);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(record, step) = self;
        match step {
            Step::Attempt(attempt) => {
                let role = record.attempts.get(*attempt).map(|attempt| attempt.role);
                if role == Some(Role::DumpToRootfs) {
                    write!(f, "{}, ", Role::DumpToRootfs)?;
                }
                let number = attempt.saturating_add(1);
                write!(f, "attempt {number} of {}", record.attempts.len())
            }
            Step::Shell => write!(f, "{}", FailureAction::Shell),
            Step::MountRoot => write!(f, "{}", FailureAction::MountRootRunInit),
            Step::Finish(action) => write!(f, "{action}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::record;

    fn text(attempts: &[&str], failure: &str, last: &str) -> String {
        let mut text = format!(
            "kdumprd-record 1\nkernel 6.1.0\nhostname h\nzone UTC0\nfailure_action {failure}\nfinal_action {last}\n"
        );
        for role in attempts {
            text +=
                &format!("attempt {role}\n raw\n device node /dev/vda\n collect kdump none 31\n");
        }
        text + "end\n"
    }

    /// Every step when every attempt fails, every shell is left by `exit` and no root can be mounted.
    fn all_failing(record: &Record<'_>) -> Vec<Step> {
        let mut steps = std::vec![];
        let mut last = Last::Start;
        loop {
            let step = next(record, last);
            steps.push(step);
            last = match step {
                Step::Attempt(attempt) => Last::Failed(attempt),
                Step::Shell => Last::ShellLeft(None),
                Step::MountRoot => Last::RootFailed,
                Step::Finish(_) => return steps,
            };
        }
    }

    #[test]
    fn the_table_of_failure_actions() {
        use FinalAction::{Halt, Poweroff, Reboot};
        use Step::{Attempt, Finish, MountRoot, Shell};
        let two = &["configured", "configured"][..];
        let table: [(&[&str], &str, &str, &[Step]); 9] = [
            (
                two,
                "reboot",
                "halt",
                &[Attempt(0), Attempt(1), Finish(Reboot)],
            ),
            (
                two,
                "halt",
                "reboot",
                &[Attempt(0), Attempt(1), Finish(Halt)],
            ),
            (
                two,
                "poweroff",
                "reboot",
                &[Attempt(0), Attempt(1), Finish(Poweroff)],
            ),
            (
                two,
                "shell",
                "poweroff",
                &[Attempt(0), Attempt(1), Shell, Finish(Poweroff)],
            ),
            (
                two,
                "mount_root_run_init",
                "halt",
                &[Attempt(0), Attempt(1), MountRoot, Finish(Halt)],
            ),
            (
                &["configured", "dump_to_rootfs"],
                "dump_to_rootfs",
                "reboot",
                &[Attempt(0), Attempt(1), Finish(Reboot)],
            ),
            (
                &["configured"],
                "dump_to_rootfs",
                "halt",
                &[Attempt(0), Finish(Halt)],
            ),
            (&[], "shell", "reboot", &[Shell, Finish(Reboot)]),
            (&[], "reboot", "poweroff", &[Finish(Reboot)]),
        ];
        for (attempts, failure, last, expected) in table {
            let text = text(attempts, failure, last);
            let record = record::parse(&text).unwrap();
            assert_eq!(all_failing(&record), expected, "{failure}, {last}");
        }
    }

    #[test]
    fn after_success_comes_the_final_action_whatever_the_failure_action() {
        for failure in FailureAction::ALL {
            let text = text(&["configured", "configured"], failure.word(), "poweroff");
            let record = record::parse(&text).unwrap();
            assert_eq!(
                next(&record, Last::Saved),
                Step::Finish(FinalAction::Poweroff)
            );
        }
    }

    #[test]
    fn a_dump_that_is_forbidden_ends_in_the_final_action() {
        let text = text(&["configured", "configured"], "shell", "halt");
        let record = record::parse(&text).unwrap();
        assert_eq!(
            next(&record, Last::Refused),
            Step::Finish(FinalAction::Halt)
        );
    }

    #[test]
    fn a_person_in_the_shell_has_the_last_word() {
        let text = text(&[], "shell", "reboot");
        let record = record::parse(&text).unwrap();
        let step = next(&record, Last::ShellLeft(Some(FinalAction::Halt)));
        assert_eq!(step, Step::Finish(FinalAction::Halt));
    }

    #[test]
    fn steps_are_named_as_the_log_has_them() {
        let text = text(
            &["configured", "dump_to_rootfs"],
            "dump_to_rootfs",
            "reboot",
        );
        let record = record::parse(&text).unwrap();
        let name = |step| Named(&record, step).to_string();
        assert_eq!(name(Step::Attempt(0)), "attempt 1 of 2");
        assert_eq!(name(Step::Attempt(1)), "dump_to_rootfs, attempt 2 of 2");
        assert_eq!(name(Step::Shell), "shell");
        assert_eq!(name(Step::MountRoot), "mount_root_run_init");
        assert_eq!(name(Step::Finish(FinalAction::Reboot)), "reboot");
    }
}
