// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dumps of machines that were at work, page by page: against the machine's RAM, against the second classifier, and on
//! 6.1 against makedumpfile; at every level.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use qemu_tests::artifacts;
use qemu_tests::check::classifier::PageKind;
use qemu_tests::check::dumpfile::Dumpfile;
use qemu_tests::check::memory::RamFile;
use qemu_tests::check::page_exact::{self, Comparison};
use qemu_tests::check::readers;
use qemu_tests::cycle::Cycle;
use qemu_tests::disk::Ext;
use qemu_tests::machine::{Content, DiskPlan, Machine};
use qemu_tests::run::run;
use qemu_tests::saved::Saved;
use qemu_tests::setup::{self, Flavour, Kernel};
use qemu_tests::vm::End;
use serde_json::{Value, json};

/// Pages of every kind, there at the panic: free ones with old content, cache clean and dirty on ext4 and in tmpfs, huge
/// pages in use and in the pool, anonymous memory in small pages and in large ones, thousands of inodes.
///
/// A process that holds memory is a `dd` whose block nobody takes from it.
const WORK: &str = r"
mkdir /ext /tmpfs /huge
mount -t ext4 /dev/vdb /ext || fail 'mounting the work disk'
mount -t tmpfs -o size=100M tmpfs /tmpfs
mount -t hugetlbfs hugetlbfs /huge
echo 8 > /proc/sys/vm/nr_hugepages
fallocate -l 10M /huge/used || fail 'huge pages'
dd if=/dev/urandom of=/ext/clean bs=1M count=40 2> /dev/null
sync
dd if=/dev/urandom of=/tmpfs/noise bs=1M count=20 2> /dev/null
dd if=/dev/zero of=/tmpfs/zero bs=1M count=8 2> /dev/null
number=0
while [ $number -lt 2000 ]; do : > /tmpfs/$number; number=$((number + 1)); done
dd if=/dev/urandom of=/dev/null bs=50M count=1 2> /dev/null
hold() {
    dd if=/dev/urandom bs=$1 count=1 2> /dev/null | { head -c 1 > /dev/null; : > /tmpfs/held$1; sleep 1000; } &
    until [ -e /tmpfs/held$1 ]; do sleep 0.1; done
}
hold 24M
echo never > /sys/kernel/mm/transparent_hugepage/enabled
hold 20M
dd if=/dev/urandom of=/ext/dirty bs=1M count=12 2> /dev/null
";

/// A page that breaks, in free memory or under a process: the kernel takes the first address at which it can.
const BREAK_A_PAGE: &str = r"
for address in 0x18000000 0x1a345000 0x1c678000 0x20000000 0x24000000; do
    echo $address > /sys/devices/system/memory/hard_offline_page && break
done 2> /dev/null
";

/// Waits until the hypervisor has taken 64 MiB of the guest's 640.
const GIVE_PAGES_AWAY: &str = r"
while [ $(sed -n 's/MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) -gt 560000 ]; do sleep 0.1; done
";

/// One capture to be checked.
struct Plan {
    name: &'static str,
    flavour: Flavour,
    level: u8,
    cpu_model: &'static str,
    memory_mib: u64,
    prepare: String,
    /// The hypervisor leaves the guest only so much of its memory.
    balloon_mib: Option<u64>,
}

impl Plan {
    fn new(name: &'static str, flavour: Flavour, level: u8) -> Self {
        Self {
            name,
            flavour,
            level,
            cpu_model: "qemu64",
            memory_mib: 768,
            prepare: WORK.to_owned(),
            balloon_mib: None,
        }
    }
}

/// A capture that is over.
struct Captured {
    plan: Plan,
    kernel: Kernel,
    machine: Machine,
    dump: PathBuf,
    ram: RamFile,
    log: String,
    manifest: Value,
}

fn capture(plan: Plan) -> Result<Captured> {
    let kernel = setup::kernel(plan.flavour)?;
    let mut machine = Machine::new(plan.name)?;
    let target = machine.add(&DiskPlan::virtio(Content::Ext(Ext::new(
        "ext4",
        plan.memory_mib + 64,
    ))))?;
    machine.add(&DiskPlan::virtio(Content::Ext(Ext::new("ext4", 128))))?;
    let conf = format!(
        "ext4 {}\ncore_collector makedumpfile -c -d {}\n",
        target.node, plan.level
    );
    let ram = machine.work().join("ram");
    let mut cycle = Cycle {
        processors: 2,
        cpu_model: plan.cpu_model,
        memory_mib: plan.memory_mib,
        ram_file: Some(ram.clone()),
        ..machine.cycle(&kernel, &conf)?
    };
    cycle.first.modules = vec!["virtio_pci", "virtio_blk"];
    cycle.first.prepare.clone_from(&plan.prepare);
    if let Some(left_mib) = plan.balloon_mib {
        cycle.first.modules.push("virtio_balloon");
        cycle.qemu = vec!["-device".into(), "virtio-balloon-pci".into()];
        cycle.commands = vec![("balloon", json!({ "value": left_mib << 20 }))];
    }
    let outcome = cycle.run()?;
    outcome.line("kdump: attempt 1 of 1 done")?;
    assert_eq!(outcome.end, End::Reset, "{}", outcome.log.display());
    let saved = Saved::only(
        &target.filesystem(),
        "/var/crash",
        &machine.work().join("out"),
    )?;
    saved.check_complete()?;
    Ok(Captured {
        dump: saved.file("vmcore"),
        log: saved.dmesg()?,
        manifest: saved.manifest()?,
        ram: RamFile::open(&ram)?,
        plan,
        kernel,
        machine,
    })
}

impl Captured {
    fn open(&self) -> Result<Dumpfile> {
        Dumpfile::open(&self.dump)
    }

    fn compare(&self) -> Result<Comparison> {
        let present = page_exact::exported(&self.log)?;
        page_exact::compare(&self.open()?, &self.ram, self.plan.level, Some(&present))
    }

    /// The dump has every page that it should have and no other, each as the RAM has it.
    fn is_exact(&self) -> Result<Comparison> {
        let result = self.compare()?;
        println!("{}: {result}", self.plan.name);
        ensure!(result.is_exact(), "{}: {result}", self.dump.display());
        self.counts_are_told(&result)?;
        Ok(result)
    }

    /// The manifest counts the pages by kind as the second classifier does.
    fn counts_are_told(&self, result: &Comparison) -> Result<()> {
        // The kernel's own counters agree with what was found, or the level would be another.
        ensure!(
            self.manifest["level_used"] == self.plan.level,
            "level {} was asked for: {}",
            self.plan.level,
            self.manifest
        );
        let pages = &self.manifest["pages"];
        let of = |kind| result.kinds.get(&kind).copied().unwrap_or(0);
        let zero = if self.plan.level & 1 == 0 {
            0
        } else {
            result.zero
        };
        for (name, expected) in [
            ("present", result.present),
            ("kept", of(PageKind::Kept) - zero),
            ("zero", zero),
            ("cache", of(PageKind::Cache)),
            ("cache_private", of(PageKind::CachePrivate)),
            ("user", of(PageKind::User)),
            ("free", of(PageKind::Free)),
            ("hwpoison", of(PageKind::HwPoison)),
            ("offline", of(PageKind::Offline)),
            ("unreadable", 0),
        ] {
            ensure!(
                pages[name] == expected,
                "{expected} pages are {name}, and the manifest says {pages}"
            );
        }
        Ok(())
    }

    /// makedumpfile keeps the same pages of the same memory.
    fn agrees_with_makedumpfile(&self) -> Result<()> {
        let dump = self.open()?;
        let theirs =
            readers::makedumpfile_kept(&dump, &self.ram, self.plan.level, self.machine.work())?;
        let verdict = readers::same_pages(&dump, &theirs);
        ensure!(verdict.is_good(), "{verdict}");
        Ok(())
    }

    /// The host command keeps the right pages of the same memory at every level, and so does makedumpfile where it
    /// knows the kernel.
    fn every_level_is_right(&self, makedumpfile: bool) -> Result<()> {
        let work = self.machine.work();
        let saved = self.open()?;
        let core = readers::rebuild_vmcore(&saved, &self.ram, work)?;
        let classifier = page_exact::classifier(&saved, &self.ram)?;
        let out = work.join("level.kdump");
        for level in 0..=31 {
            run(Command::new(artifacts::vmcore()?)
                .args(["-f", "-d", &level.to_string()])
                .args([&core, &out]))?;
            let dump = Dumpfile::open(&out)?;
            let result = page_exact::compare_set(&dump, &classifier, level);
            ensure!(result.is_exact(), "level {level}: {result}");
            if makedumpfile {
                let theirs = readers::filter(&core, level, work)?;
                let verdict = readers::same_pages(&dump, &theirs);
                ensure!(verdict.is_good(), "level {level}: {verdict}");
            }
        }
        Ok(())
    }

    /// The host command keeps the same pages of a vmcore whose VMCOREINFO lacks all that tells pages apart: what they are
    /// is then told by the kernel's own description of its types, which is in the same memory.
    fn the_kernel_tells_what_vmcoreinfo_lacks(&self) -> Result<()> {
        let work = self.machine.work();
        let saved = self.open()?;
        let core = readers::rebuild_vmcore(&saved, &self.ram, work)?;
        let file = OpenOptions::new().read(true).write(true).open(&core)?;
        let mut head = vec![0; 64 << 10];
        file.read_exact_at(&mut head, 0)?;
        let mut hidden = Vec::new();
        for start in 0..head.len() {
            let rest = &head[start..];
            if !PAGE_KEYS.iter().any(|key| rest.starts_with(key.as_bytes())) {
                continue;
            }
            let end = rest.iter().position(|&byte| byte == b'=').unwrap_or(0);
            hidden.push(String::from_utf8_lossy(&rest[..end]).into_owned());
            // No key begins like this.
            file.write_all_at(b"-", start as u64)?;
        }
        ensure!(hidden.len() >= 10, "VMCOREINFO had only {hidden:?}");
        let out = work.join("told-by-the-kernel.kdump");
        run(Command::new(artifacts::vmcore()?)
            .args(["-f", "-d", "31"])
            .args([&core, &out]))?;
        let dump = Dumpfile::open(&out)?;
        let classifier = page_exact::classifier(&saved, &self.ram)?;
        let result = page_exact::compare_set(&dump, &classifier, 31);
        ensure!(result.is_exact(), "without {hidden:?}: {result}");
        Ok(())
    }

    fn clean_up(self) -> Result<()> {
        self.machine.clean_up()
    }
}

/// How the keys of VMCOREINFO begin that tell what a page is.
const PAGE_KEYS: [&str; 5] = [
    "NUMBER(PAGE_",
    "NUMBER(PG_",
    "OFFSET(page.",
    "SIZE(page)",
    "LENGTH(zone.free_area)",
];

/// The guest's work left pages of these kinds, so that the comparison is about something.
fn has_work(result: &Comparison) {
    for (kind, least) in [
        // 20 and 8 MiB in tmpfs, 40 and 12 MiB on ext4.
        (PageKind::Cache, 7_000),
        (PageKind::CachePrivate, 1_000),
        // Two processes with 44 MiB, huge pages of 16.
        (PageKind::User, 14_000),
        (PageKind::Free, 50_000),
    ] {
        let pages = result.kinds.get(&kind).copied().unwrap_or(0);
        assert!(pages >= least, "only {pages} pages are {kind}: {result}");
    }
}

#[test]
fn a_busy_machine_at_level_31_on_6_1() -> Result<()> {
    let captured = capture(Plan::new("exact-6.1", Flavour::Cloud6_1, 31))?;
    has_work(&captured.is_exact()?);
    captured.agrees_with_makedumpfile()?;
    captured.every_level_is_right(true)?;
    captured.clean_up()
}

#[test]
fn a_busy_machine_with_a_broken_page_at_level_31_on_6_12() -> Result<()> {
    let mut plan = Plan::new("exact-6.12", Flavour::Cloud6_12, 31);
    plan.prepare += BREAK_A_PAGE;
    let captured = capture(plan)?;
    let result = captured.is_exact()?;
    has_work(&result);
    let broken = result.kinds.get(&PageKind::HwPoison).copied();
    assert_eq!(broken, Some(1), "{result}");
    captured.every_level_is_right(false)?;
    captured.the_kernel_tells_what_vmcoreinfo_lacks()?;
    captured.clean_up()
}

#[test]
fn level_1_with_5_level_page_tables_on_6_12() -> Result<()> {
    let captured = capture(Plan {
        cpu_model: "max",
        ..Plan::new("exact-5-level-6.12", Flavour::Cloud6_12, 1)
    })?;
    assert_eq!(page_table_levels(&captured)?, 5);
    let result = captured.is_exact()?;
    assert!(result.zero > 50_000, "{result}");
    captured.clean_up()
}

#[test]
fn level_31_with_5_level_page_tables_on_6_1() -> Result<()> {
    let captured = capture(Plan {
        cpu_model: "max",
        ..Plan::new("exact-5-level-6.1", Flavour::Cloud6_1, 31)
    })?;
    assert_eq!(page_table_levels(&captured)?, 5);
    has_work(&captured.is_exact()?);
    captured.agrees_with_makedumpfile()?;
    captured.clean_up()
}

#[test]
fn level_1_on_6_1_and_a_damaged_dump_is_noticed() -> Result<()> {
    let captured = capture(Plan::new("exact-level-1-6.1", Flavour::Cloud6_1, 1))?;
    captured.is_exact()?;
    captured.agrees_with_makedumpfile()?;
    // The check itself: two pages change places.
    swap_two_pages(&captured)?;
    let result = captured.compare()?;
    assert_eq!(result.wrong, 2, "{result}");
    captured.clean_up()
}

#[test]
fn pages_given_to_the_hypervisor_are_left_out_on_6_1() -> Result<()> {
    let captured = capture(Plan {
        prepare: GIVE_PAGES_AWAY.to_owned(),
        balloon_mib: Some(768 - 64),
        ..Plan::new("exact-balloon-6.1", Flavour::Cloud6_1, 31)
    })?;
    let result = captured.is_exact()?;
    let offline = result.kinds.get(&PageKind::Offline).copied();
    assert_eq!(offline, Some(64 * 256), "{result}");
    captured.agrees_with_makedumpfile()?;
    captured.clean_up()
}

#[test]
fn memory_above_4_gib_on_6_1() -> Result<()> {
    let captured = capture(Plan {
        memory_mib: 4608,
        prepare: String::new(),
        ..Plan::new("exact-large-6.1", Flavour::Cloud6_1, 31)
    })?;
    let result = captured.is_exact()?;
    assert!(captured.open()?.max_mapnr > 1 << 20, "{result}");
    captured.agrees_with_makedumpfile()?;
    captured.clean_up()
}

fn page_table_levels(captured: &Captured) -> Result<u32> {
    let info = qemu_tests::check::notes::vmcoreinfo(&captured.open()?.notes)
        .with_context(|| format!("no VMCOREINFO of {}", captured.kernel.release))?;
    Ok(match info.number("pgtable_l5_enabled") {
        Some(1) => 5,
        _ => 4,
    })
}

/// Swaps the descriptors of the first two pages that have data of their own.
fn swap_two_pages(captured: &Captured) -> Result<()> {
    let dump = captured.open()?;
    let mut own = Vec::new();
    let mut seen = std::collections::HashMap::new();
    for &(_, descriptor) in dump.pages() {
        *seen.entry(descriptor.offset).or_insert(0) += 1;
    }
    for (rank, (_, descriptor)) in dump.pages().iter().enumerate() {
        if seen[&descriptor.offset] == 1 {
            own.push(rank as u64);
        }
    }
    let (first, second) = (own[0], own[1]);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&captured.dump)?;
    let at = |rank: u64| dump.table_at + rank * 24;
    let (mut one, mut other) = ([0; 24], [0; 24]);
    file.read_exact_at(&mut one, at(first))?;
    file.read_exact_at(&mut other, at(second))?;
    file.write_all_at(&other, at(first))?;
    file.write_all_at(&one, at(second))?;
    Ok(())
}
