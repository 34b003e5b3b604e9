// SPDX-License-Identifier: MIT OR Apache-2.0
//! The dumps that QEMU itself makes of a running guest: as ELF, and kdump-compressed in those codecs that it was built with,
//! which QEMU writes flattened. They are what `virsh dump --memory-only` asks QEMU for, which itself is not run here.
//!
//! Source: QEMU 7.2 `dump/dump.c`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_tests::check::dumpfile::Dumpfile;
use qemu_tests::check::memory::{Memory, PAGE_SIZE, Page, RamFile};
use qemu_tests::check::page_exact;
use qemu_tests::cycle::{boot, work_folder};
use qemu_tests::disk::machine_with_ram_file;
use qemu_tests::run::{run, stdout};
use qemu_tests::setup::{self, Flavour};
use qemu_tests::{artifacts, guest};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(120);

/// QEMU's names of its formats. Debian's QEMU is built without the last two.
const FORMATS: [&str; 4] = ["elf", "kdump-zlib", "kdump-lzo", "kdump-snappy"];

/// The guest tells QEMU where its VMCOREINFO is, which QEMU then puts into the dump.
const SCRIPT: &str = "\
[ -e /sys/firmware/qemu_fw_cfg/by_name/etc/vmcoreinfo ] || fail 'no vmcoreinfo device'
say waiting
sleep 600
";

/// The guest's memory, and the BIOS below 4 GiB, which QEMU dumps too: nothing else is known of that.
struct WithBios<'a> {
    ram: &'a RamFile,
    dump: &'a Dumpfile,
}

impl Memory for WithBios<'_> {
    fn read_page(&self, pfn: u64, page: &mut Page) -> Result<bool> {
        if self.ram.read_page(pfn, page)? {
            return Ok(true);
        }
        self.dump.read_page(pfn, page)
    }
}

struct Live {
    work: PathBuf,
    ram: RamFile,
}

impl Live {
    fn file(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    fn vmcore(&self, line: &str) -> Result<Command> {
        let mut command = Command::new(artifacts::vmcore()?);
        command.current_dir(&self.work).args(line.split(' '));
        Ok(command)
    }

    /// Every page of our own dump of `name` at level 0 is the guest's.
    fn has_all_pages(&self, name: &str) -> Result<()> {
        run(&mut self.vmcore(&format!("-f -d 0 {name} whole"))?)?;
        let dump = Dumpfile::open(&self.file("whole"))?;
        let (mut ours, mut theirs) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
        for &(pfn, _) in dump.pages() {
            ensure!(dump.read_page(pfn, &mut ours)?, "{name}: no pfn {pfn:#x}");
            // What is above the guest's memory is the BIOS.
            if self.ram.read_page(pfn, &mut theirs)? {
                ensure!(
                    ours == theirs,
                    "{name}: pfn {pfn:#x} differs from the guest's memory"
                );
            }
        }
        let all = 256 << 20 >> 12;
        let count = dump.pages().len();
        ensure!(count >= all - 0x60, "{name}: {count} pages of {all}");
        Ok(())
    }
}

#[test]
fn what_qemu_dumps_is_a_vmcore_in_each_format_that_it_has() -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let work = work_folder("guest-memory")?;
    fs::remove_dir_all(&work)?;
    fs::create_dir_all(&work)?;
    let initrd = work.join("guest.img");
    fs::write(
        &initrd,
        guest::script(&kernel, &["qemu_fw_cfg"], &[], SCRIPT)?,
    )?;
    let ram = work.join("ram");
    let mut arguments = machine_with_ram_file(&ram, 256);
    arguments.extend(["-device".into(), "vmcoreinfo".into()]);
    arguments.extend([
        "-kernel".into(),
        kernel.image().into(),
        "-initrd".into(),
        initrd.into(),
    ]);
    arguments.extend([
        "-append".into(),
        "console=ttyS0 printk.devkmsg=on panic=5 no_timer_check".into(),
    ]);
    let (mut vm, _) = boot("guest-memory", &arguments, None)?;
    let line = vm.expect(&format!("harness: waiting|{}", guest::FAILED), LIMIT)?;
    ensure!(
        !line.text.contains(guest::FAILED),
        "{}; console: {}",
        line.text,
        vm.log().display()
    );
    // So that all dumps are of the same moment.
    vm.qmp().execute("stop", &json!({}))?;
    let capability = vm
        .qmp()
        .execute("query-dump-guest-memory-capability", &json!({}))?;
    let written = capability["formats"].as_array().context("no formats")?;
    let (formats, missing): (Vec<&str>, Vec<&str>) = FORMATS
        .into_iter()
        .partition(|format| written.iter().any(|known| known == format));
    println!("not written by this QEMU: {missing:?}");
    ensure!(formats.starts_with(&["elf", "kdump-zlib"]), "{capability}");
    for format in &formats {
        dump(vm.qmp(), &work.join(format), json!({ "format": format }))?;
    }
    dump(vm.qmp(), &work.join("paged"), json!({ "paging": true }))?;
    let live = Live {
        ram: RamFile::open(&ram)?,
        work,
    };
    for name in formats.into_iter().chain(["paged"]) {
        check(&live, name, &kernel.release).with_context(|| format!("QEMU's {name}"))?;
    }
    drop(vm);
    fs::remove_dir_all(&live.work)?;
    Ok(())
}

fn dump(qmp: &mut qemu_tests::qmp::Qmp, to: &Path, how: serde_json::Value) -> Result<()> {
    let mut arguments = json!({ "paging": false, "protocol": format!("file:{}", to.display()) });
    for (key, value) in how.as_object().context("not an object")? {
        arguments[key.as_str()] = value.clone();
    }
    qmp.execute("dump-guest-memory", &arguments)?;
    Ok(())
}

/// The dump is read as any vmcore: its kernel, its log, its pages, and the pages that a level leaves out.
fn check(live: &Live, name: &str, release: &str) -> Result<()> {
    let start = fs::read(live.file(name))?;
    let is_flattened = start.starts_with(b"makedumpfile\0");
    ensure!(
        is_flattened == name.starts_with("kdump"),
        "{name} begins otherwise than QEMU 7.2's"
    );
    let said = stdout(&mut live.vmcore(&format!("info {name}"))?)?;
    ensure!(said.contains(release), "{said}");
    if is_flattened {
        // QEMU leaves the system's names empty, which is the fault that is found.
        let output = live.vmcore(&format!("verify {name}"))?.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said.contains(" pages can be read"), "{said}");
    }
    run(&mut live.vmcore(&format!("-f --dump-dmesg {name} log"))?)?;
    let log = fs::read_to_string(live.file("log"))?;
    ensure!(
        log.contains(release) && log.contains("harness: waiting"),
        "{log}"
    );
    live.has_all_pages(name)?;
    run(&mut live.vmcore(&format!("-f -d 31 {name} filtered"))?)?;
    let filtered = Dumpfile::open(&live.file("filtered"))?;
    let memory = WithBios {
        ram: &live.ram,
        dump: &filtered,
    };
    let result = page_exact::compare(&filtered, &memory, 31, None)?;
    ensure!(result.is_exact(), "{result}");
    let kept = filtered.pages().len();
    ensure!(kept < 0x6000, "{kept} pages are kept of an idle guest");
    Ok(())
}
