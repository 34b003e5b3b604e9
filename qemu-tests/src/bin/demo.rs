// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo demo`: panics a real kernel under QEMU, captures the dump, and shows what came of it.
#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use qemu_tests::artifacts;
use qemu_tests::check::readers;
use qemu_tests::console::{Line, Wait};
use qemu_tests::cycle::{Outcome, STEP};
use qemu_tests::disk::Ext;
use qemu_tests::machine::{Content, DiskPlan, Machine, Made};
use qemu_tests::saved::Saved;
use qemu_tests::setup::{self, Flavour, Kernel};
use qemu_tests::vm::End;
use regex::Regex;

const HELP: &str = "\
Usage: cargo demo [OPTION]...

Boots Linux in QEMU, panics it, captures its memory with kdumprd, and shows the way and the dump. Programs and kernels
that are missing are installed or fetched first; nothing is installed in the place of anything.

  --target raw|ext2|ext3|ext4            where the dump goes (ext3)
  --kernel 6.1|6.1-generic|6.12|6.12-generic
                                         Debian's kernel, for virtual machines or any machine (6.1)
  --memory MIB                           the guest's memory (1024)
  --crashkernel SIZE                     what the first kernel reserves (80M)
  --symbols                              fetch the kernel's symbols (several hundred megabytes) and open the dump with
                                         crash and drgn too; without it, they are used where they were fetched before
  --keep                                 keep the disk, the image and the dump, and say where they are
";

struct Options {
    target: String,
    flavour: Flavour,
    memory_mib: u64,
    crashkernel: String,
    symbols: bool,
    keep: bool,
}

fn main() -> ExitCode {
    let result = match options() {
        Ok(Some(options)) => demo(&options),
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("demo: {error:#}; `cargo demo --help` has the options");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Option<Options>> {
    let mut options = Options {
        target: "ext3".to_owned(),
        flavour: Flavour::Cloud6_1,
        memory_mib: 1024,
        crashkernel: "80M".to_owned(),
        symbols: false,
        keep: false,
    };
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let (name, attached) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        let mut value = || {
            attached
                .clone()
                .or_else(|| arguments.next())
                .with_context(|| format!("{name} needs a value"))
        };
        match name.as_str() {
            "--target" => {
                options.target = value()?;
                if !["raw", "ext2", "ext3", "ext4"].contains(&options.target.as_str()) {
                    bail!(
                        "--target takes raw, ext2, ext3 or ext4, not {}",
                        options.target
                    );
                }
            }
            "--kernel" => {
                let word = value()?;
                options.flavour = Flavour::from_word(&word).with_context(|| {
                    let words = Flavour::ALL.map(Flavour::word).join(", ");
                    format!("--kernel takes one of {words}, not {word}")
                })?;
            }
            "--memory" => {
                let word = value()?;
                options.memory_mib = word
                    .trim_end_matches('M')
                    .parse()
                    .with_context(|| format!("--memory takes a number of MiB, not {word}"))?;
            }
            "--crashkernel" => options.crashkernel = value()?,
            "--symbols" => options.symbols = true,
            "--keep" => options.keep = true,
            "--help" | "-h" => return Ok(None),
            other => bail!("unknown option {other}"),
        }
    }
    Ok(Some(options))
}

fn demo(options: &Options) -> Result<()> {
    let kernel_word = options.flavour.word();
    println!(
        "A Linux {kernel_word} guest of {} MiB with crashkernel={} will panic; the dump goes to {}.\n",
        options.memory_mib, options.crashkernel, options.target
    );
    let kernel = step("kernel", || {
        setup::ready()?;
        let kernel = setup::kernel(options.flavour)?;
        let release = kernel.release.clone();
        Ok((kernel, release))
    })?;
    step("build", || {
        // The build that a disk needs.
        let init = fs::metadata(artifacts::inits()?.join("init-local"))?.len();
        artifacts::mkkdumprd()?;
        artifacts::kexec()?;
        Ok(((), format!("init {}, mkkdumprd, kexec", bytes(init))))
    })?;
    let mut machine = Machine::new("demo")?;
    let made = step("disk", || {
        // Far more than level 31 leaves of any idle guest.
        let size_mib = 192 + options.memory_mib / 4;
        let content = match options.target.as_str() {
            "raw" => Content::Blank(size_mib),
            fstype => Content::Ext(Ext::new(fstype, size_mib)),
        };
        let made = machine.add(&DiskPlan::virtio(content))?;
        let text = format!("{} MiB, {}, {}", size_mib, options.target, made.node);
        Ok((made, text))
    })?;
    let conf = configuration(&options.target, &made)?;
    let cycle = step("image", || {
        let mut cycle = machine.cycle(&kernel, &conf)?;
        cycle.memory_mib = options.memory_mib;
        cycle.crashkernel.clone_from(&options.crashkernel);
        let size = fs::metadata(&cycle.image)?.len();
        let text = format!(
            "{} from \"{}\"",
            bytes(size),
            conf.trim().replace('\n', "; ")
        );
        Ok((cycle, text))
    })?;
    println!();
    let mut running = cycle.start()?;
    show_live(&mut running)?;
    let outcome = running.finish()?;
    if outcome.end != End::Reset {
        bail!(
            "the guest did not reboot: {:?}; console: {}",
            outcome.end,
            outcome.log.display()
        );
    }
    timeline(&outcome)?;
    outcome.line(r"kdump: attempt \d+ of \d+ done")?;
    let dump = numbers(&machine, &made, &outcome, options)?;
    outside_readers(&kernel, &dump, machine.work(), options.symbols)?;
    if options.keep {
        println!("\nKept: {}", machine.work().display());
        println!("Dump: {}", dump.vmcore.display());
    } else {
        fs::remove_dir_all(machine.work())?;
    }
    println!("Console: {}", outcome.log.display());
    Ok(())
}

/// The `kdump.conf` of the demo.
fn configuration(target: &str, made: &Made) -> Result<String> {
    if target == "raw" {
        return Ok(format!("raw {}\n", made.node));
    }
    let text = made.filesystem().request("show_super_stats -h")?;
    let uuid = text
        .lines()
        .find_map(|line| line.strip_prefix("Filesystem UUID:"))
        .context("the file system has no UUID")?
        .trim();
    Ok(format!("{target} UUID={uuid}\n"))
}

/// Does one step of the preparation and prints a line about it.
fn step<T>(name: &str, work: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
    let started = Instant::now();
    // The name first: a build or a download takes a while.
    print!("{name:8} ");
    std::io::stdout().flush()?;
    let (value, text) = work().with_context(|| name.to_owned())?;
    println!("{text} ({:.1} s)", started.elapsed().as_secs_f64());
    Ok(value)
}

/// Prints the lines that matter as they come, with the time since the panic.
fn show_live(running: &mut qemu_tests::cycle::Running) -> Result<()> {
    let pattern = Regex::new(
        r"kdump: |Kernel panic - not syncing|sysrq: Trigger a crash|Linux version |System is deadlocked|Out of memory",
    )?;
    let stamp = Regex::new(r"^\[ *\d+\.\d+\] ")?;
    let mut panicked: Option<Duration> = None;
    loop {
        let line = match running.vm.wait(&pattern, STEP) {
            Wait::Found(line) => line,
            Wait::Ended => return Ok(()),
            Wait::TimedOut => bail!(
                "the guest said nothing for {} s; console: {}",
                STEP.as_secs(),
                running.vm.log().display()
            ),
        };
        let base = *panicked.get_or_insert(line.at);
        let since = line.at.saturating_sub(base).as_secs_f64();
        let text = stamp.replace(&line.text, "");
        // The kernel's own banner is long, and only its coming matters.
        let text = match text.split_once(" (") {
            Some((version, _)) if text.starts_with("Linux version") => {
                format!("the capture kernel starts: {version}")
            }
            _ => text.into_owned(),
        };
        println!("{since:+8.2} s  {text}");
    }
}

fn timeline(outcome: &Outcome) -> Result<()> {
    let panic = outcome.panicked_at()?;
    println!("\nTimeline");
    let mark = |name: &str, at: Duration| {
        println!("{:+8.2} s  {name}", at.saturating_sub(panic).as_secs_f64());
    };
    let line = |pattern: &str| -> Result<Line> { outcome.line(pattern).cloned() };
    mark("panic", panic);
    mark("init started", line("kdump: init .* started")?.at);
    if let Ok(saved) = line(r"kdump: vmcore-dmesg\.txt saved") {
        mark("log of the crashed kernel saved", saved.at);
    }
    mark("dump complete", line(r"kdump: attempt \d+ of \d+ done")?.at);
    mark("reset", outcome.duration);
    Ok(())
}

/// The dump, copied out of the guest's disk.
struct Dump {
    vmcore: PathBuf,
    /// `vmcore-dmesg.txt`, where the target has files.
    dmesg: Option<String>,
}

/// Prints what the manifest says, or the console where there is no manifest, and takes the dump off the disk.
fn numbers(machine: &Machine, made: &Made, outcome: &Outcome, options: &Options) -> Result<Dump> {
    println!("\nThe dump");
    if options.target == "raw" {
        let line = outcome.line("kdump: vmcore: ")?;
        let said = line.text.split_once("vmcore: ").map_or("", |parts| parts.1);
        println!("  {said}");
        let vmcore = machine.work().join("vmcore");
        made.copy_content(&vmcore, made.size_bytes)?;
        return Ok(Dump {
            vmcore,
            dmesg: None,
        });
    }
    let saved = Saved::only(
        &made.filesystem(),
        "/var/crash",
        &machine.work().join("out"),
    )?;
    saved.check_complete()?;
    made.filesystem().check()?;
    for name in saved.names()? {
        let size = fs::metadata(saved.file(&name))?.len();
        println!("  /var/crash/{}/{name:18} {}", saved.name(), bytes(size));
    }
    let manifest = saved.manifest()?;
    let pages = &manifest["pages"];
    let count = |name: &str| pages[name].as_u64().unwrap_or(0);
    println!(
        "  level {}, {}: {} of {} pages kept",
        manifest["level_used"],
        manifest["compression"].as_str().unwrap_or("?"),
        count("kept"),
        count("present"),
    );
    let left_out = [
        "free",
        "zero",
        "user",
        "cache",
        "cache_private",
        "hwpoison",
        "offline",
    ]
    .iter()
    .filter(|name| count(name) > 0)
    .map(|name| format!("{} {}", count(name), name.replace('_', " ")))
    .collect::<Vec<_>>();
    println!("  left out: {}", left_out.join(", "));
    let size = fs::metadata(saved.file("vmcore"))?.len();
    println!(
        "  {:.1} % of the machine's memory, {:.1} % of the pages kept; init had {} KiB at most",
        percent(size, options.memory_mib << 20),
        percent(size, count("kept") * 4096),
        manifest["peak_memory_kib"],
    );
    Ok(Dump {
        vmcore: saved.file("vmcore"),
        dmesg: Some(saved.dmesg()?),
    })
}

fn outside_readers(kernel: &Kernel, dump: &Dump, work: &Path, symbols: bool) -> Result<()> {
    let theirs = readers::makedumpfile_dmesg(&dump.vmcore, work)?;
    let theirs = String::from_utf8_lossy(&theirs);
    println!("\nThe crashed kernel's log, from its panic on");
    let log = dump.dmesg.as_deref().unwrap_or(&theirs);
    let from_panic = log
        .lines()
        .skip_while(|line| !line.contains("Kernel panic"));
    for line in from_panic.take(12) {
        println!("  {}", line.chars().take(110).collect::<String>());
    }
    println!("\nWhat others say of the file");
    let compared = match &dump.dmesg {
        Some(ours) if *ours == theirs => ", the same as vmcore-dmesg.txt",
        Some(_) => ", OTHER than vmcore-dmesg.txt",
        None => "",
    };
    println!(
        "  makedumpfile --dump-dmesg: {} lines{compared}",
        theirs.lines().count()
    );
    if !symbols && !setup::has_vmlinux(kernel)? {
        println!("  drgn, crash: not asked; --symbols fetches what they need");
        return Ok(());
    }
    let vmlinux = setup::vmlinux(kernel)?;
    println!("  {}", readers::drgn(&dump.vmcore, &vmlinux)?);
    if kernel.release.starts_with("6.1.") {
        println!("  {}", readers::crash(&dump.vmcore, &vmlinux, work)?);
    } else {
        println!("  crash: not asked; Debian 12's does not know this kernel");
    }
    Ok(())
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

fn bytes(count: u64) -> String {
    match count {
        0..=9_999 => format!("{count} bytes"),
        10_000..=9_999_999 => format!("{:.0} KiB", count as f64 / 1024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}
