// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ways in which the first kernel is made to panic.

/// One way to panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The kernel's own request key, written by a program: a NULL pointer is followed.
    Sysrq,
    /// As [`Crash::Sysrq`], by a program that is bound to this processor.
    SysrqOnCpu(u32),
    /// PID 1 of the first kernel ends.
    InitExits,
    /// Memory runs out, and `panic_on_oom` is set.
    OutOfMemory,
    /// The machine's operator presses the NMI button, and `unknown_nmi_panic` is set.
    Nmi,
}

impl Crash {
    /// What the first kernel's shell runs. `say` prints a line of the harness.
    pub(crate) fn script(self) -> String {
        match self {
            Self::Sysrq => "echo c > /proc/sysrq-trigger\n".to_owned(),
            Self::SysrqOnCpu(cpu) => {
                format!("taskset -c {cpu} sh -c 'echo c > /proc/sysrq-trigger'\n")
            }
            Self::InitExits => "exit 1\n".to_owned(),
            Self::OutOfMemory => "echo 2 > /proc/sys/vm/panic_on_oom\n\
                                  mkdir -p /fill\n\
                                  mount -t tmpfs -o size=100% fill /fill\n\
                                  dd if=/dev/zero of=/fill/fill bs=1M 2> /dev/null\n"
                .to_owned(),
            Self::Nmi => "echo 1 > /proc/sys/kernel/unknown_nmi_panic\n\
                          say 'waiting for the NMI'\n\
                          sleep 60\n"
                .to_owned(),
        }
    }

    /// What the crashed kernel's log says of it, as a pattern.
    #[must_use]
    pub const fn panic_line(self) -> &'static str {
        match self {
            Self::Sysrq | Self::SysrqOnCpu(_) => {
                "Kernel panic - not syncing: sysrq triggered crash"
            }
            Self::InitExits => "Kernel panic - not syncing: Attempted to kill init!",
            Self::OutOfMemory => {
                "Kernel panic - not syncing: Out of memory: compulsory panic_on_oom"
            }
            Self::Nmi => "Kernel panic - not syncing: NMI: Not continuing",
        }
    }
}
