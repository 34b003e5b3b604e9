// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture kernel's command line, made from the first kernel's.

use std::fmt;
use std::fs;
use std::path::Path;

/// `COMMAND_LINE_SIZE` of x86, with the final NUL. Source: Linux 6.12 `arch/x86/include/asm/setup.h`.
pub const MOST_BYTES: usize = 2048;

/// What the kernel puts in front by itself: ` elfcorehdr=0x` and 16 digits, with room to spare.
const KERNEL_ADDS_BYTES: usize = 64;

/// Parameters of the first kernel that the capture kernel must not get, whatever is configured. A name that ends in `.` is
/// a prefix.
///
/// Source: kdump-utils 63f248c `kdump-lib.sh`; `rdinit`, `init`, `maxcpus` and `elfcorehdr` are ours: our image has its own
/// `/init`, and the others are decided below.
const REMOVED: [&str; 33] = [
    // Reserves memory again, inside the little that there is.
    "crashkernel",
    "default_hugepagesz",
    "slab_debug",
    "page_owner",
    // Hides the messages that are the only witness.
    "splash",
    // Wastes memory on traces that nobody will read.
    "ftrace",
    "trace_event",
    "trace_buf_size",
    // Would make fatal what costs one attempt at most: a warning, the death of a child, a disk that hangs.
    "panic_on_warn",
    "panic_on_taint",
    "oops",
    "hung_task_panic",
    // Set for the first system: huge pages, and again what is to be fatal.
    "sysctl.",
    // Belongs to the first system's start, which does not happen here.
    "root",
    "rootflags",
    "rootfstype",
    "ro",
    "rw",
    "resume",
    "init",
    "rdinit",
    "initrd",
    "BOOT_IMAGE",
    "rd.",
    "fcoe",
    "netroot",
    "systemd.",
    "single",
    "emergency",
    // Given again by the kernel that loads.
    "elfcorehdr",
    "kexec_jump_back_entry",
    // Decided here.
    "maxcpus",
    "nosmp",
];

/// What is removed beyond what always goes, where nobody says otherwise: the default of `KDUMP_COMMANDLINE_REMOVE`.
///
/// Source: kdump-utils 63f248c `gen-kdump-sysconfig.sh`.
pub const USUALLY_REMOVED: &str =
    "hugepages hugepagesz slub_debug quiet log_buf_len swiotlb hugetlb_cma cma ignition.firstboot";

/// Parameters that a capture kernel gets where nobody says otherwise: the default of `KDUMP_COMMANDLINE_APPEND`.
///
/// Less memory taken, fewer subsystems started; and the hardware and its firmware tables still stand as the crash left them.
/// A random place (KASLR) can leave no room for the rest of a small reservation.
///
/// Source: kdump-utils 63f248c `gen-kdump-sysconfig.sh`, defaults for x86_64, without those that speak to udev and dracut.
pub const USUALLY_ADDED: &str = "irqpoll nr_cpus=1 reset_devices cgroup_disable=memory numa=off transparent_hugepage=never \
     cma=0 hugetlb_cma=0 novmcoredd kfence.sample_interval=0 mce=off acpi_no_memhotplug hest_disable pcie_ports=compat nokaslr";

/// Parameters of ours that every capture kernel gets.
const ADDED: [&str; 2] = [
    // The crypto layer tries out all its algorithms at every boot, which is half of the time until init runs: 873 of
    // 1560 million instructions on Debian's 6.1 cloud kernel, 489 of 1608 on 6.12 (QEMU, -icount shift=0). FIPS mode
    // does so all the same. Of 18 other parameters none but acpi=off, which cannot power off, gave one part in fifty.
    "cryptomgr.notests",
    // Our console lines are the log of the dump; the kernel's rate limit would drop some.
    "printk.devkmsg=on",
];

/// Seconds after which a capture kernel's own panic restarts the machine.
const PANIC: &str = "panic=10";

/// What the capture kernel is told beyond the first kernel's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture<'a> {
    /// Names to be removed from the first kernel's line, with blanks between.
    pub remove: &'a str,
    /// What a capture kernel is told as a rule.
    pub add: &'a str,
    /// The APIC id of the first kernel's boot processor, which must not be started by another one (x86).
    pub boot_apicid: Option<u32>,
    /// The drivers of the machine's watchdogs: their timers must not be made shorter by what they do before.
    pub watchdogs: &'a [String],
    /// Further parameters; they win over all others.
    pub append: &'a str,
}

impl Default for Capture<'_> {
    fn default() -> Self {
        Self {
            remove: USUALLY_REMOVED,
            add: USUALLY_ADDED,
            boot_apicid: None,
            watchdogs: &[],
            append: "",
        }
    }
}

/// Why no command line could be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLineError {
    /// So many bytes, but the kernel takes [`MOST_BYTES`].
    TooLong(usize),
    /// A quote without its end in this text.
    OpenQuote(String),
}

impl fmt::Display for CommandLineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => write!(
                f,
                "the capture command line has {bytes} bytes, but the kernel takes {}; remove parameters",
                MOST_BYTES - KERNEL_ADDS_BYTES
            ),
            Self::OpenQuote(text) => write!(f, "a quote without its end in `{text}`"),
        }
    }
}

impl std::error::Error for CommandLineError {}

/// Composes the capture kernel's command line from `first`, the text of `/proc/cmdline`.
///
/// What the first kernel was told stays (consoles, drivers' parameters, work-arounds for the machine), without
/// what would harm or waste memory; then come the parameters of a capture kernel, and `append` last. A parameter
/// that `append` or we set is taken out of the part before, but `console=` and its like may stand several times.
///
/// # Errors
/// The line is too long for the kernel, or has a quote without its end.
pub fn compose(first: &str, capture: &Capture<'_>) -> Result<String, CommandLineError> {
    let own = own_parameters(capture)?;
    let append = words(capture.append)?;
    let removed: Vec<&str> = capture.remove.split_whitespace().map(name).collect();
    // Words behind `--` are for init, and ours takes none.
    let first = words(first)?.into_iter().take_while(|&word| word != "--");
    let mut line: Vec<&str> = first
        .filter(|word| {
            !is_removed(name(word)) && !removed.iter().any(|gone| same_name(gone, name(word)))
        })
        .filter(|word| {
            !own.iter()
                .map(String::as_str)
                .chain(append.iter().copied())
                .any(|other| replaces(other, word))
        })
        .collect();
    line.extend(
        own.iter()
            .map(String::as_str)
            .filter(|word| !append.iter().any(|other| replaces(other, word))),
    );
    line.extend(append);
    let line = line.join(" ");
    let bytes = line.len() + KERNEL_ADDS_BYTES;
    if bytes > MOST_BYTES {
        return Err(CommandLineError::TooLong(line.len()));
    }
    Ok(line)
}

/// The APIC id of the boot processor, from the text of `/proc/cpuinfo`; none where there is none (not x86).
#[must_use]
pub fn boot_apicid(cpuinfo: &str) -> Option<u32> {
    let first_processor = cpuinfo.split("\n\n").next()?;
    first_processor
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == "initial apicid")
        .and_then(|(_, value)| value.trim().parse().ok())
}

/// What is put behind the first kernel's words. A later one stands for an earlier one of its name.
fn own_parameters(capture: &Capture<'_>) -> Result<Vec<String>, CommandLineError> {
    let add = words(capture.add)?;
    let mut own: Vec<String> = Vec::new();
    // Each possible processor costs memory, so that their number is never left to the machine.
    if !add
        .iter()
        .any(|word| matches!(name(word), "nr_cpus" | "maxcpus" | "nosmp"))
    {
        own.push("nr_cpus=1".to_owned());
    }
    let ours = ADDED.into_iter().chain([PANIC]);
    let given = |ours: &&str| !add.iter().any(|word| replaces(word, ours));
    own.extend(
        add.iter()
            .copied()
            .chain(ours.filter(given))
            .map(str::to_owned),
    );
    for driver in capture.watchdogs {
        own.push(format!("{driver}.pretimeout=0"));
        // Source: kdump-utils 63f248c; HP's driver has a timer of its own for the time of a dump.
        if driver == "hpwdt" {
            own.push("hpwdt.kdumptimeout=0".to_owned());
        }
    }
    if let Some(id) = capture.boot_apicid {
        own.push(format!("disable_cpu_apicid={id}"));
    }
    Ok(own)
}

/// The first kernel's line for another start of the same system: without what its boot loader, or the kernel for the last
/// such start, put there.
///
/// Source: kexec-tools 2.0.25 `kexec/kexec.c`, `--reuse-cmdline`.
///
/// # Errors
/// A quote has no end.
pub fn for_restart(first: &str, append: &str) -> Result<String, CommandLineError> {
    let mut line: Vec<&str> = words(first)?;
    line.retain(|word| !matches!(name(word), "BOOT_IMAGE" | "kexec_jump_back_entry"));
    line.extend(words(append)?);
    Ok(line.join(" "))
}

/// The modules that drive the watchdogs of the machine whose sysfs this is.
#[must_use]
pub fn watchdog_drivers(sysfs: &Path) -> Vec<String> {
    let mut drivers: Vec<String> = fs::read_dir(sysfs.join("class/watchdog"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path().join("device/driver/module")).ok())
        .filter_map(|module| Some(module.file_name()?.to_str()?.to_owned()))
        .collect();
    drivers.sort();
    drivers.dedup();
    drivers
}

/// The words of a command line; blanks inside double quotes belong to their word.
///
/// Source: Linux 6.12 `lib/cmdline.c`, `next_arg`.
fn words(line: &str) -> Result<Vec<&str>, CommandLineError> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quoted = false;
    for (position, letter) in line.char_indices() {
        if letter == '"' {
            quoted = !quoted;
        }
        if letter.is_ascii_whitespace() && !quoted {
            if let Some(start) = start.take() {
                words.push(&line[start..position]);
            }
        } else if start.is_none() {
            start = Some(position);
        }
    }
    if quoted {
        return Err(CommandLineError::OpenQuote(line.to_owned()));
    }
    words.extend(start.map(|start| &line[start..]));
    Ok(words)
}

fn name(word: &str) -> &str {
    word.split_once('=').map_or(word, |(name, _)| name)
}

/// The kernel takes `-` and `_` in names as the same.
fn same_name(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one
            .bytes()
            .zip(other.bytes())
            .all(|(a, b)| a == b || (matches!(a, b'-' | b'_') && matches!(b, b'-' | b'_')))
}

fn is_removed(name: &str) -> bool {
    REMOVED
        .iter()
        .any(|removed| match removed.strip_suffix('.') {
            Some(_) => name.starts_with(removed),
            None => same_name(name, removed),
        })
}

/// `new` stands for `old` too. Parameters that may be given several times do not replace each other.
fn replaces(new: &str, old: &str) -> bool {
    const REPEATABLE: [&str; 5] = [
        "console",
        "earlycon",
        "memmap",
        "module_blacklist",
        "dyndbg",
    ];
    same_name(name(new), name(old)) && !REPEATABLE.contains(&name(new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(first: &str, append: &str) -> String {
        let capture = Capture {
            append,
            ..Capture::default()
        };
        compose(first, &capture).unwrap()
    }

    #[test]
    fn what_describes_the_machine_stays_and_what_wastes_memory_goes() {
        let line = composed(
            "BOOT_IMAGE=/vmlinuz-6.1 root=UUID=1 ro quiet splash console=tty0 console=ttyS0,115200n8 pci=nomsi \
             oops=panic hung_task_panic=1 sysctl.vm.panic_on_oom=2 crashkernel=1G-:256M hugepages=512 rd.lvm.lv=vg/root systemd.unit=x default_hugepagesz=1G log-buf-len=64M",
            "",
        );
        assert!(
            line.starts_with(
                "console=tty0 console=ttyS0,115200n8 pci=nomsi irqpoll nr_cpus=1 reset_devices "
            ),
            "{line}"
        );
        for gone in [
            "root=",
            "quiet",
            "crashkernel",
            "hugepages=512",
            "rd.",
            "systemd",
            "log-buf-len",
            "BOOT_IMAGE",
            "oops",
            "hung_task",
            "sysctl",
        ] {
            assert!(!line.contains(gone), "{gone}: {line}");
        }
    }

    #[test]
    fn nr_cpus_and_panic_are_always_there_once() {
        for first in ["", "panic=0 nr_cpus=64", "panic=-1 maxcpus=4"] {
            let line = composed(first, "");
            let own: Vec<&str> = line
                .split(' ')
                .filter(|word| ["panic", "nr_cpus", "maxcpus"].contains(&name(word)))
                .collect();
            assert_eq!(own, ["nr_cpus=1", "panic=10"], "{first}");
        }
    }

    #[test]
    fn what_is_appended_wins() {
        let line = composed(
            "panic=3 console=ttyS0",
            "nr_cpus=2 panic=1 console=hvc0 single.x=1",
        );
        assert!(line.contains("console=ttyS0"), "{line}");
        assert!(
            line.ends_with("nr_cpus=2 panic=1 console=hvc0 single.x=1"),
            "{line}"
        );
        assert_eq!(line.matches("nr_cpus=").count(), 1);
        assert_eq!(line.matches("panic=").count(), 1);
    }

    #[test]
    fn the_boot_processor_is_left_alone_on_x86() {
        let cpuinfo = "processor\t: 0\napicid\t\t: 4\ninitial apicid\t: 2\n\nprocessor\t: 1\ninitial apicid\t: 3\n";
        assert_eq!(boot_apicid(cpuinfo), Some(2));
        assert_eq!(boot_apicid("processor\t: 0\nBogoMIPS\t: 125.00\n\n"), None);
        let capture = Capture {
            boot_apicid: Some(2),
            ..Capture::default()
        };
        assert!(
            compose("", &capture)
                .unwrap()
                .ends_with("panic=10 disable_cpu_apicid=2")
        );
    }

    #[test]
    fn what_is_configured_stands_for_what_is_usual() {
        let capture = Capture {
            remove: "pci rd.md.uuid",
            add: "irqpoll maxcpus=1 panic=3",
            ..Capture::default()
        };
        assert_eq!(
            compose("quiet pci=nomsi root=/dev/x hugepages=8", &capture).unwrap(),
            "quiet hugepages=8 irqpoll maxcpus=1 panic=3 cryptomgr.notests printk.devkmsg=on"
        );
        let nothing = Capture {
            add: "",
            ..Capture::default()
        };
        assert_eq!(
            compose("", &nothing).unwrap(),
            "nr_cpus=1 cryptomgr.notests printk.devkmsg=on panic=10"
        );
    }

    #[test]
    fn watchdogs_are_found_and_kept_from_cutting_the_dump_short() {
        let sysfs = std::env::temp_dir().join(format!("kexec-watchdog-{}", std::process::id()));
        for (number, driver) in ["hpwdt", "iTCO_wdt"].iter().enumerate() {
            let device = sysfs.join(format!("class/watchdog/watchdog{number}/device/driver"));
            fs::create_dir_all(&device).unwrap();
            std::os::unix::fs::symlink(format!("../../module/{driver}"), device.join("module"))
                .unwrap();
        }
        let watchdogs = watchdog_drivers(&sysfs);
        fs::remove_dir_all(&sysfs).unwrap();
        let capture = Capture {
            watchdogs: &watchdogs,
            ..Capture::default()
        };
        let line = compose("", &capture).unwrap();
        assert!(
            line.ends_with("hpwdt.pretimeout=0 hpwdt.kdumptimeout=0 iTCO_wdt.pretimeout=0"),
            "{line}"
        );
        assert!(watchdog_drivers(&sysfs).is_empty());
    }

    #[test]
    fn another_start_of_the_same_system_gets_its_line() {
        assert_eq!(
            for_restart(
                "BOOT_IMAGE=/vmlinuz root=/dev/vda1 quiet crashkernel=256M",
                "again"
            )
            .unwrap(),
            "root=/dev/vda1 quiet crashkernel=256M again"
        );
    }

    #[test]
    fn quoted_blanks_belong_to_their_word() {
        let line = composed("dyndbg=\"file a.c +p\" foo -- single quiet", "");
        assert!(
            line.starts_with("dyndbg=\"file a.c +p\" foo irqpoll"),
            "{line}"
        );
        assert!(!line.contains("--"));
        assert_eq!(
            compose("a=\"b", &Capture::default()),
            Err(CommandLineError::OpenQuote("a=\"b".to_owned()))
        );
    }

    #[test]
    fn a_line_that_the_kernel_would_cut_is_refused() {
        let long = "x".repeat(MOST_BYTES);
        assert!(matches!(
            compose(&long, &Capture::default()),
            Err(CommandLineError::TooLong(bytes)) if bytes > MOST_BYTES
        ));
    }
}
