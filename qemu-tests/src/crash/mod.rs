// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ways in which the first kernel is made to panic.

mod module;

pub(crate) use module::{crasher, obstacle};

/// One way to panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The kernel's own request key, written by a program: a NULL pointer is followed.
    Sysrq,
    /// As [`Crash::Sysrq`], by a program that is bound to this processor.
    SysrqOnCpu(u32),
    /// As [`Crash::Sysrq`], while a program writes to the disk with the target's file system, which is mounted.
    SysrqWhileWriting,
    /// As [`Crash::Sysrq`], when all memory is full.
    SysrqInFullMemory,
    /// PID 1 of the first kernel ends.
    InitExits,
    /// Memory runs out, and `panic_on_oom` is set.
    OutOfMemory,
    /// The machine's operator presses the NMI button, and `unknown_nmi_panic` is set.
    Nmi,
    /// A module of another's panics.
    Module,
    /// A module writes through a NULL pointer, and `panic_on_oops` is set.
    Null,
    /// A module runs into a `BUG()`, and `panic_on_oops` is set.
    Bug,
    /// Panic in the handler of an interrupt.
    Interrupt,
    /// Panic in a timer: a soft interrupt.
    Timer,
    /// The kernel's stack is full, and `panic_on_oops` is set.
    StackOverflow,
    /// A fault while a fault is handled.
    DoubleFault,
    /// A processor does nothing but spin, and `softlockup_panic` is set.
    SoftLockup,
    /// A task does not wake up, and `hung_task_panic` is set.
    HungTask,
}

/// Has the module crash in this way.
macro_rules! by_module {
    ($way:literal) => {
        concat!("insmod /harness/crasher.ko way=", $way, "\n")
    };
}

/// Without it a kernel that finds a fault ends the program alone.
const PANIC_ON_OOPS: &str = "echo 1 > /proc/sys/kernel/panic_on_oops\n";
/// Leaves 24 MiB free, with what the crash itself takes.
const FILL: &str = "mkdir -p /fill\n\
                    mount -t tmpfs -o size=100% fill /fill\n\
                    free=$(($(sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo) / 1024))\n\
                    dd if=/dev/urandom of=/fill/fill bs=1M count=$((free - 24)) 2> /dev/null\n\
                    say \"filled $((free - 24)) MiB\"\n";
/// The target's disk is the last one that is there.
const WRITE: &str = "mkdir -p /busy\n\
                     for disk in /dev/vd?; do :; done\n\
                     mount $disk /busy || fail \"mounting $disk\"\n\
                     while :; do dd if=/dev/urandom of=/busy/busy bs=64k count=64 conv=fsync; done 2> /dev/null &\n\
                     sleep 2\n";
const SYSRQ: &str = "echo c > /proc/sysrq-trigger\n";

impl Crash {
    /// What the first kernel's shell runs. `say` prints a line of the harness.
    pub(crate) fn script(self) -> String {
        let oops = |text: &str| format!("{PANIC_ON_OOPS}{text}");
        match self {
            Self::Sysrq => SYSRQ.to_owned(),
            Self::SysrqOnCpu(cpu) => {
                format!("taskset -c {cpu} sh -c 'echo c > /proc/sysrq-trigger'\n")
            }
            Self::SysrqWhileWriting => format!("{WRITE}{SYSRQ}"),
            Self::SysrqInFullMemory => format!("{FILL}{SYSRQ}"),
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
            Self::Module => by_module!("panic").to_owned(),
            Self::Null => oops(by_module!("null")),
            Self::Bug => oops(by_module!("bug")),
            Self::Interrupt => by_module!("interrupt").to_owned(),
            Self::Timer => by_module!("timer").to_owned(),
            Self::StackOverflow => oops(by_module!("stack")),
            Self::DoubleFault => by_module!("double").to_owned(),
            Self::SoftLockup => concat!(
                "echo 1 > /proc/sys/kernel/watchdog_thresh\n",
                "echo 1 > /proc/sys/kernel/softlockup_panic\n",
                by_module!("spin")
            )
            .to_owned(),
            Self::HungTask => concat!(
                "echo 1 > /proc/sys/kernel/hung_task_timeout_secs\n",
                "echo 1 > /proc/sys/kernel/hung_task_panic\n",
                by_module!("hang")
            )
            .to_owned(),
        }
    }

    /// The module that crashes has to be there.
    pub(crate) const fn needs_module(self) -> bool {
        matches!(
            self,
            Self::Module
                | Self::Null
                | Self::Bug
                | Self::Interrupt
                | Self::Timer
                | Self::StackOverflow
                | Self::DoubleFault
                | Self::SoftLockup
                | Self::HungTask
        )
    }

    /// What the crashed kernel's log says of it, as a pattern. With `panic_on_oops` the kernel is left before it says that it
    /// panics.
    #[must_use]
    pub const fn panic_line(self) -> &'static str {
        match self {
            Self::Sysrq
            | Self::SysrqOnCpu(_)
            | Self::SysrqWhileWriting
            | Self::SysrqInFullMemory => "Kernel panic - not syncing: sysrq triggered crash",
            Self::InitExits => "Kernel panic - not syncing: Attempted to kill init!",
            Self::OutOfMemory => {
                "Kernel panic - not syncing: Out of memory: compulsory panic_on_oom"
            }
            Self::Nmi => "Kernel panic - not syncing: NMI: Not continuing",
            Self::Module => "Kernel panic - not syncing: crasher: in a module",
            Self::Null => "BUG: kernel NULL pointer dereference, address: 0000000000000010",
            Self::Bug => "kernel BUG at ",
            Self::Interrupt => "Kernel panic - not syncing: crasher: in an interrupt, 1",
            Self::Timer => "Kernel panic - not syncing: crasher: in a timer, 1",
            Self::StackOverflow => "BUG: TASK stack guard page was hit at ",
            Self::DoubleFault => "traps: PANIC: double fault, error_code: 0x0",
            Self::SoftLockup => "Kernel panic - not syncing: softlockup: hung tasks",
            Self::HungTask => "Kernel panic - not syncing: hung_task: blocked tasks",
        }
    }
}
