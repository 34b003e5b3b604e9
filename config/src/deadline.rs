// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long each step may take. Every wait of the capture kernel is bounded by one of these.

use crate::bound::{GRACE_S, KILL_S};

/// The bound of each step, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// One module: `finit_module(2)` until it returns.
    pub module_s: u32,
    /// The target's device: until a device of its identity is there. `disk_timeout` in `kdump.conf`.
    pub device_s: u32,
    /// The way to a server: card, carrier, address, name. `link_delay` comes on top.
    pub network_s: u32,
    /// Opening the target: superblock, mount, directory; for a server, until it answered.
    pub open_s: u32,
    /// The kernel log of the crashed kernel: read, written, synced.
    pub dmesg_s: u32,
    /// The dump without any progress.
    pub stall_s: u32,
    /// The dump as a whole.
    pub dump_s: u32,
    /// One hook.
    pub hook_s: u32,
    /// Sync, rename, manifest, unmount.
    pub publish_s: u32,
    /// Sync before the final action, and the final action itself before it is forced.
    pub final_s: u32,
}

impl Deadlines {
    /// What holds when the configuration says nothing.
    ///
    /// 180 s for a disk is what RHEL 6 waited (kexec-tools 2.0.0-266); the others are ours. Six hours bound a dump that
    /// keeps making progress: a 12 TiB machine was published with 40 minutes at level 31 on one CPU.
    pub const DEFAULT: Self = Self {
        module_s: 30,
        device_s: 180,
        network_s: 120,
        open_s: 60,
        dmesg_s: 60,
        stall_s: 120,
        dump_s: 6 * 3600,
        hook_s: 600,
        publish_s: 300,
        final_s: 30,
    };

    /// The longest that one of the steps may last without a sign of progress, in seconds, until what is in it is killed.
    /// A device and a hook are waited for with signs.
    #[must_use]
    pub fn longest_silence_s(&self) -> u32 {
        [
            self.module_s,
            self.network_s.saturating_add(GRACE_S),
            self.open_s,
            self.dmesg_s,
            self.stall_s,
            self.publish_s,
            self.final_s,
        ]
        .into_iter()
        .fold(0, u32::max)
        .saturating_add(KILL_S)
    }

    /// Each bound with the word that the record uses for it.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u32); 10] {
        [
            ("module", self.module_s),
            ("device", self.device_s),
            ("network", self.network_s),
            ("open", self.open_s),
            ("dmesg", self.dmesg_s),
            ("stall", self.stall_s),
            ("dump", self.dump_s),
            ("hook", self.hook_s),
            ("publish", self.publish_s),
            ("final", self.final_s),
        ]
    }

    /// The bound that the record calls `word`.
    pub fn by_name(&mut self, word: &str) -> Option<&mut u32> {
        Some(match word {
            "module" => &mut self.module_s,
            "device" => &mut self.device_s,
            "network" => &mut self.network_s,
            "open" => &mut self.open_s,
            "dmesg" => &mut self.dmesg_s,
            "stall" => &mut self.stall_s,
            "dump" => &mut self.dump_s,
            "hook" => &mut self.hook_s,
            "publish" => &mut self.publish_s,
            "final" => &mut self.final_s,
            _ => return None,
        })
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silence_is_that_of_the_slowest_step() {
        assert_eq!(Deadlines::DEFAULT.longest_silence_s(), 310);
        let stall = Deadlines {
            stall_s: 4000,
            ..Deadlines::DEFAULT
        };
        assert_eq!(stall.longest_silence_s(), 4010);
    }

    #[test]
    fn every_name_reaches_its_own_field() {
        let mut deadlines = Deadlines::DEFAULT;
        for (number, (word, _)) in (1..).zip(Deadlines::DEFAULT.named()) {
            *deadlines.by_name(word).unwrap() = number;
        }
        let values = deadlines.named().map(|(_, value)| value);
        assert_eq!(values, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(deadlines.by_name("lunch"), None);
    }
}
