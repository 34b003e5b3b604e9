// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long all of it may take: the sum of every wait that init has, so that a person knows after how long the machine is
//! back whatever happens.
//!
//! The waits are those of `init/src/supervise.rs`, step by step; its constants are here because both sides need them.

use crate::action::FailureAction;
use crate::deadline::Deadlines;
use crate::hook::HookKind;
use crate::record::{Attempt, Record};

/// Given on top of a deadline that a child keeps too, so that it can say what it waited for.
pub const GRACE_S: u32 = 5;
/// How long a child that was sent SIGKILL may take to go. Longer means that it waits in the kernel for a device.
pub const KILL_S: u32 = 10;
/// The same for the last step, behind which nothing needs what the child holds.
pub const KILL_FINAL_S: u32 = 1;

impl Record<'_> {
    /// The seconds after which the final action is forced at the latest, from init's start on, when each step takes all
    /// of its time and each child has to be killed. `None` where a person in a shell decides.
    ///
    /// An attempt that broken memory ended is made once more, which has its time again and is not in the sum.
    #[must_use]
    pub fn whole_s(&self) -> Option<u64> {
        let bounds = &self.deadlines;
        let mut sum = Sum(0);
        // The first look.
        sum.child(&[bounds.dmesg_s]);
        for _ in &self.modules {
            sum.child(&[bounds.module_s]);
        }
        for attempt in &self.attempts {
            sum.child(&self.steps_s(attempt));
            sum.hooks(self, &[HookKind::Pre, HookKind::PreFolder]);
            sum.hooks(self, &[HookKind::Post, HookKind::PostFolder]);
            // What a killed child left mounted.
            sum.child(&[bounds.final_s.max(bounds.publish_s)]);
        }
        sum.hooks(self, &[HookKind::Emergency, HookKind::EmergencyFolder]);
        match self.failure_action {
            FailureAction::Shell => return None,
            FailureAction::MountRootRunInit => {
                sum.child(&[bounds.device_s.saturating_add(GRACE_S), bounds.open_s]);
            }
            FailureAction::Reboot
            | FailureAction::Halt
            | FailureAction::Poweroff
            | FailureAction::DumpToRootfs => {}
        }
        // The last sync, and the action itself before it is forced.
        for _ in 0..2 {
            sum.add(bounds.final_s.saturating_add(KILL_FINAL_S));
        }
        Some(sum.0)
    }

    /// The bounds of an attempt's steps, in their order.
    fn steps_s(&self, attempt: &Attempt<'_>) -> [u32; 6] {
        let Deadlines {
            device_s,
            network_s,
            open_s,
            dmesg_s,
            dump_s,
            publish_s,
            ..
        } = self.deadlines;
        let reach_s = match attempt.target.network() {
            Some(_) => network_s,
            None => device_s,
        };
        let prune_s = if self.keep_dumps > 0 { publish_s } else { 0 };
        [
            reach_s.saturating_add(GRACE_S),
            open_s,
            dmesg_s,
            dump_s,
            publish_s,
            prune_s,
        ]
    }
}

/// Seconds that are added up.
struct Sum(u64);

impl Sum {
    fn add(&mut self, seconds: u32) {
        self.0 = self.0.saturating_add(u64::from(seconds));
    }

    /// A child with these steps, which has to be killed in its last one.
    fn child(&mut self, steps_s: &[u32]) {
        for &seconds in steps_s {
            self.add(seconds);
        }
        self.add(KILL_S);
    }

    /// The hooks of these kinds, each of which takes all of its time.
    fn hooks(&mut self, record: &Record<'_>, kinds: &[HookKind]) {
        for hook in &record.hooks {
            if kinds.contains(&hook.kind) {
                self.add(record.deadlines.hook_s.saturating_add(GRACE_S));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::record;

    const HEAD: &str =
        "kdumprd-record 1\nkernel 6.1.0\nhostname h\nzone UTC0\nfinal_action reboot\n";
    const BOUNDS: &str = "deadline module 1\ndeadline device 10\ndeadline network 20\ndeadline open 30\n\
                          deadline dmesg 40\ndeadline dump 500\ndeadline hook 60\ndeadline publish 70\ndeadline final 8\n";

    fn whole(lines: &str) -> Option<u64> {
        let text = std::format!("{HEAD}{BOUNDS}{lines}end\n");
        record::parse(&text).unwrap().whole_s()
    }

    #[test]
    fn every_wait_is_in_the_sum() {
        let raw = "attempt configured\n raw\n device node /dev/vda\n collect kdump none 31\n";
        let look = 40 + 10;
        let attempt = 15 + 30 + 40 + 500 + 70 + 10 + (70 + 10);
        let last = 2 * (8 + 1);
        assert_eq!(whole("failure_action reboot\n"), Some(look + last));
        let one = look + attempt + last;
        assert_eq!(
            whole(&std::format!("failure_action reboot\n{raw}")),
            Some(one)
        );
        assert_eq!(
            whole(&std::format!("failure_action reboot\n{raw}{raw}")),
            Some(one + attempt)
        );
        assert_eq!(
            whole(&std::format!(
                "failure_action halt\nkeep_dumps 3\nmodule a\nmodule b\nhook kdump_post /x\n{raw}"
            )),
            Some(one + 70 + 2 * (1 + 10) + 65)
        );
        assert_eq!(whole(&std::format!("failure_action shell\n{raw}")), None);
    }
}
