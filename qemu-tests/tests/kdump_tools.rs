// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vmcore` under the name `makedumpfile`, in a Debian whose kdump-tools is as it was packaged: it counts the pages of the
//! running kernel, and it saves the dump after a real panic.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_tests::check::dumpfile::Dumpfile;
use qemu_tests::check::memory::{Memory, PAGE_SIZE, Page, RamFile};
use qemu_tests::check::{page_exact, readers};
use qemu_tests::cycle::work_folder;
use qemu_tests::disk::{Bus, Disk, Ext, ExtImage, machine_with_ram_file};
use qemu_tests::proof::{self, Known};
use qemu_tests::run::run;
use qemu_tests::setup::{self, Flavour};
use qemu_tests::vm::End;
use qemu_tests::{artifacts, debian, guest};

/// Each step takes seconds on a quiet machine.
const LIMIT: Duration = Duration::from_secs(240);

/// What the first kernel does: the pages are counted by both, in turns, then kdump-tools loads the capture kernel.
const FIRST: &str = "\
count() { chroot /mnt \"$1\" --mem-usage /proc/kcore > \"/mnt/root/$2\" 2> /harness/said || fail \"$1: $(cat /harness/said)\"; }
count $THEIRS theirs.1
count makedumpfile ours.1
count $THEIRS theirs.2
count makedumpfile ours.2
grep -E ' (_text|_end)$' /proc/kallsyms > /mnt/root/image || fail 'no kallsyms'
chroot /mnt makedumpfile --check-params -l --message-level 7 -d 31 vmcore dumpfile || fail \"check-params: $?\"
chroot /mnt makedumpfile --check-params -d 31 -F vmcore dumpfile && fail 'check-params: a file too many with -F'
chroot /mnt /etc/init.d/kdump-tools start > /harness/said 2>&1
say \"kdump-tools: $(tr '\\n' ' ' < /harness/said)\"
[ \"$(cat /sys/kernel/kexec_crash_loaded)\" = 1 ] || fail 'kdump-tools loaded nothing'
sync
say loaded
echo 1 > /proc/sys/kernel/sysrq
echo c > /proc/sysrq-trigger
sleep 60
fail 'no panic'
";

#[test]
fn kdump_tools_saves_its_dump_with_our_makedumpfile() -> Result<()> {
    let kernel = setup::kernel(Flavour::Cloud6_1)?;
    let work = work_folder("kdump-tools")?;
    fs::remove_dir_all(&work)?;
    let tree = work.join("root");
    fs::create_dir_all(&work)?;
    debian::root(&tree, &kernel, &artifacts::vmcore()?)?;
    let image = work.join("root.img");
    let ext = Ext {
        content: Some(&tree),
        ..Ext::new("ext4", 512)
    };
    ext.make(&image)?;
    let script = format!(
        "THEIRS={}\n{}{FIRST}",
        debian::THEIRS,
        debian::mount_script()
    );
    let initrd = work.join("first.img");
    fs::write(
        &initrd,
        guest::script(&kernel, &debian::MODULES, &[], &script)?,
    )?;
    let ram = work.join("ram");
    let line = "console=ttyS0 printk.devkmsg=on panic=5 no_timer_check crashkernel=128M";
    let mut arguments = machine_with_ram_file(&ram, 512);
    arguments.extend(["-kernel".into(), kernel.image().into()]);
    arguments.extend([
        "-initrd".into(),
        initrd.into(),
        "-append".into(),
        line.into(),
    ]);
    arguments.extend(Disk::new(&image, Bus::Virtio).arguments(0));
    let (mut vm, _) = qemu_tests::cycle::boot("kdump-tools", &arguments, None)?;
    let said = vm.expect(&format!("{}|{}", guest::LOADED, guest::FAILED), LIMIT)?;
    ensure!(
        !said.text.contains(guest::FAILED),
        "{}; console: {}",
        said.text,
        vm.log().display()
    );
    vm.expect("sysrq: Trigger a crash", LIMIT)?;
    vm.expect(
        "harness: capture kernel: ExecStart=/etc/init.d/kdump-tools start",
        LIMIT,
    )?;
    vm.expect_end(&End::Reset, LIMIT)?;

    let disk = ExtImage::whole(&image);
    disk.replay()?;
    same_counts(&disk.copy_out("/root", &work.join("out"))?)?;
    let crash = disk.copy_out("/var/crash", &work.join("out"))?;
    let stamps: Vec<_> = fs::read_dir(&crash)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_dir())
        .collect();
    let [folder] = stamps.as_slice() else {
        anyhow::bail!("not one dump in {}: {stamps:?}", crash.display());
    };
    let stamp = folder.file_name().context("no name")?.to_string_lossy();
    // A `vmcore.STAMP` here would be the copy that kdump-tools makes when makedumpfile failed.
    let flattened = folder.join(format!("dump.{stamp}"));
    let dump = work.join("dump");
    let rearrange = setup::program("makedumpfile")?
        .arg("-R")
        .arg(&dump)
        .stdin(File::open(&flattened).with_context(|| format!("no {}", flattened.display()))?)
        .output()?;
    ensure!(
        rearrange.status.success(),
        "makedumpfile -R: {}",
        String::from_utf8_lossy(&rearrange.stderr)
    );
    let dmesg = fs::read(folder.join(format!("dmesg.{stamp}")))?;
    ensure!(
        String::from_utf8_lossy(&dmesg).contains("sysrq: Trigger a crash"),
        "no panic in the saved log"
    );
    let known = Known {
        dmesg: Some(&dmesg),
        symbols: true,
        ..Known::of(&kernel)
    };
    proof::dump_is_good(&dump, &known, &work)?;
    let dumpfile = Dumpfile::open(&dump)?;
    let memory = LowFromDump {
        ram: RamFile::open(&ram)?,
        dump: &dumpfile,
    };
    let result = page_exact::compare(&dumpfile, &memory, 31, None)?;
    ensure!(result.is_exact(), "{}: {result}", dump.display());
    let theirs = readers::makedumpfile_kept(&dumpfile, &memory, 31, &work)?;
    let verdict = readers::same_pages(&dumpfile, &theirs);
    ensure!(verdict.is_good(), "{verdict}");
    run(std::process::Command::new(artifacts::vmcore()?)
        .arg("verify")
        .arg(&flattened))?;
    fs::remove_dir_all(&work)?;
    Ok(())
}

/// The guest's memory, but for the first 640 KiB: kexec-tools has them copied to where the vmcore has them from, and the
/// capture kernel uses them.
struct LowFromDump<'a> {
    ram: RamFile,
    dump: &'a Dumpfile,
}

impl Memory for LowFromDump<'_> {
    fn read_page(&self, pfn: u64, page: &mut Page) -> Result<bool> {
        if pfn < (640 << 10) / PAGE_SIZE as u64 && self.dump.read_page(pfn, page)? {
            return Ok(true);
        }
        self.ram.read_page(pfn, page)
    }
}

/// The pages of each kind in what `--mem-usage` printed, and the total.
fn counts(path: &Path) -> Result<BTreeMap<String, u64>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [kind, pages, "yes" | "no", ..] => counts.insert(kind.to_owned(), pages.parse()?),
            ["Total", "pages", "on", "system:", pages] => {
                counts.insert("total".to_owned(), pages.parse()?)
            }
            _ => None,
        };
    }
    ensure!(counts.len() == 7, "{}: {text}", path.display());
    Ok(counts)
}

/// The pages of the kernel's image, which `/proc/kcore` has twice.
fn image_pages(path: &Path) -> Result<u64> {
    let text = fs::read_to_string(path)?;
    let address = |name: &str| -> Result<u64> {
        let line = text.lines().find(|line| line.ends_with(name));
        let word = line.and_then(|line| line.split(' ').next());
        Ok(u64::from_str_radix(word.context("no such symbol")?, 16)?)
    };
    Ok((address(" _end")? - address(" _text")?).div_ceil(4096))
}

/// Each of our counts lies between makedumpfile's before and after it, but for what a living system moves meanwhile: one
/// page in a hundred. The total does not move. makedumpfile counts the image's pages twice, as kernel data.
fn same_counts(folder: &Path) -> Result<()> {
    let [before, ours, after, again] =
        ["theirs.1", "ours.1", "theirs.2", "ours.2"].map(|name| counts(&folder.join(name)));
    let (before, ours, after, again) = (before?, ours?, after?, again?);
    println!("makedumpfile: {before:?}, {after:?}\nours: {ours:?}, {again:?}");
    let twice = image_pages(&folder.join("image"))?;
    let moved = ours["total"] / 100;
    for (kind, &first) in &before {
        let second = after[kind];
        let (twice, moved) = match kind.as_str() {
            "total" => (twice, 0),
            "KERN_DATA" => (twice, moved),
            _ => (0, moved),
        };
        for count in [ours[kind] + twice, again[kind] + twice] {
            ensure!(
                count + moved >= first.min(second) && count <= first.max(second) + moved,
                "{kind}: {count} pages, and makedumpfile counts {first} and {second}"
            );
        }
    }
    Ok(())
}
