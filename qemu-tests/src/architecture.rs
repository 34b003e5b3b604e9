// SPDX-License-Identifier: MIT OR Apache-2.0
//! Machines of other architectures: Debian's kernel for one panics in QEMU, QEMU writes the memory, and Debian's
//! makedumpfile for that architecture says which pages belong into a dump.
//!
//! Packages come through a state of apt's own in the cache, so that the host's apt and dpkg stay as they are. Programs of
//! i386 run as they are, those of arm64 under QEMU's user mode.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::check::memory::{Memory, PAGE_SIZE, Page};
use crate::cpio::Cpio;
use crate::cycle::work_folder;
use crate::disk::ram_file;
use crate::run::{run, stdout};
use crate::setup;
use crate::vm::Vm;

/// From QEMU's start to the end of the panic's report.
const LIMIT: Duration = Duration::from_secs(300);
/// Where makedumpfile of the architecture finds its libraries, and the kernel's program in the guest.
const MAKEDUMPFILE: [&str; 12] = [
    "makedumpfile",
    "libc6",
    "libelf1",
    "libdw1",
    "zlib1g",
    "liblzo2-2",
    "libsnappy1v5",
    "libbz2-1.0",
    "liblzma5",
    "libstdc++6",
    "libgcc-s1",
    "libzstd1",
];
/// The modules of the kernel that tell QEMU where VMCOREINFO is.
const FW_CFG: &str = "kernel/drivers/firmware/qemu_fw_cfg.ko";

/// A machine whose kernel is not x86_64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Page tables of two levels; flat memory.
    I386,
    /// Page tables of three levels, and memory that is not all mapped.
    I386Pae,
    /// Pages of 4 KiB, 48 bits.
    Arm64,
}

impl Architecture {
    /// Debian's word.
    const fn debian(self) -> &'static str {
        match self {
            Self::I386 | Self::I386Pae => "i386",
            Self::Arm64 => "arm64",
        }
    }

    const fn metapackage(self) -> &'static str {
        match self {
            Self::I386 => "linux-image-686",
            Self::I386Pae => "linux-image-686-pae",
            Self::Arm64 => "linux-image-cloud-arm64",
        }
    }

    /// QEMU's program, machine and processor; the console.
    const fn machine(self) -> [&'static str; 4] {
        match self {
            Self::I386 | Self::I386Pae => ["qemu-system-i386", "q35", "qemu32", "ttyS0"],
            Self::Arm64 => ["qemu-system-aarch64", "virt", "cortex-a57", "ttyAMA0"],
        }
    }

    /// With PAE more than the kernel can have mapped at once.
    const fn memory_mib(self) -> u64 {
        match self {
            Self::I386Pae => 1152,
            Self::I386 | Self::Arm64 => 512,
        }
    }

    /// The address at which memory begins.
    const fn memory_base(self) -> u64 {
        match self {
            Self::I386 | Self::I386Pae => 0,
            Self::Arm64 => 1 << 30,
        }
    }

    /// What its program of Debian runs under, and the loader that it names.
    const fn loader(self) -> (Option<&'static str>, &'static str, &'static str) {
        match self {
            Self::I386 | Self::I386Pae => (None, "lib/ld-linux.so.2", "i386-linux-gnu"),
            Self::Arm64 => (
                Some("qemu-aarch64"),
                "lib/ld-linux-aarch64.so.1",
                "aarch64-linux-gnu",
            ),
        }
    }
}

/// Where this architecture's packages are unpacked, and what apt needs to fetch more.
struct Packages {
    architecture: &'static str,
    root: PathBuf,
    config: PathBuf,
    debs: PathBuf,
}

impl Packages {
    fn open(architecture: &'static str) -> Result<Self> {
        setup::ready()?;
        let folder = setup::cache()?.join("architectures").join(architecture);
        let debs = folder.join("debs");
        let packages = Self {
            architecture,
            root: folder.join("root"),
            config: folder.join("apt.conf"),
            debs,
        };
        for part in [
            "root",
            "debs",
            "state/lists/partial",
            "cache/archives/partial",
        ] {
            fs::create_dir_all(folder.join(part))?;
        }
        if !packages.config.is_file() {
            packages.write_config(&folder)?;
        }
        Ok(packages)
    }

    /// The mirrors are those that the host's apt has for its own suite.
    fn write_config(&self, folder: &Path) -> Result<()> {
        let format = "$(CREATED_BY) $(REPO_URI) $(CODENAME) $(COMPONENT)";
        let targets =
            stdout(setup::program("apt-get")?.args(["indextargets", "--format", format]))?;
        let mut sources: Vec<String> = targets
            .lines()
            .filter_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let [_, uri, suite, "main"] = words.as_slice() else {
                    return None;
                };
                let is_ours = *suite == "bookworm" && line.starts_with("Packages ");
                is_ours.then(|| format!("deb [arch={}] {uri} {suite} main\n", self.architecture))
            })
            .collect();
        sources.sort();
        sources.dedup();
        ensure!(
            !sources.is_empty(),
            "apt has no lists of bookworm; the tests use Debian 12's packages"
        );
        fs::write(folder.join("sources.list"), sources.concat())?;
        let (at, architecture) = (folder.display(), self.architecture);
        let text = format!(
            "APT::Architecture \"{architecture}\"; APT::Architectures {{ \"{architecture}\"; }};\n\
             Dir::State \"{at}/state\"; Dir::State::status \"/dev/null\"; Dir::Cache \"{at}/cache\";\n\
             Dir::Etc::sourcelist \"{at}/sources.list\"; Dir::Etc::sourceparts \"-\"; APT::Sandbox::User \"root\";\n"
        );
        let partial = folder.join("apt.conf.partial");
        fs::write(&partial, text)?;
        run(setup::program("apt-get")?
            .env("APT_CONFIG", &partial)
            .args(["-q", "update"]))?;
        fs::rename(&partial, &self.config)?;
        Ok(())
    }

    /// Downloads a package and unpacks it, if that was not done before.
    fn fetch(&self, package: &str) -> Result<()> {
        let stamp = self.debs.join(format!("{package}.unpacked"));
        if stamp.is_file() {
            return Ok(());
        }
        let partial = self.debs.join(format!("{package}.partial"));
        setup::start_afresh(&partial)?;
        run(setup::program("apt-get")?
            .env("APT_CONFIG", &self.config)
            .args(["-q", "download", package])
            .current_dir(&partial))?;
        for entry in fs::read_dir(&partial)? {
            run(Command::new("dpkg")
                .arg("-x")
                .arg(entry?.path())
                .arg(&self.root))?;
        }
        fs::remove_dir_all(&partial)?;
        fs::write(&stamp, "")?;
        Ok(())
    }

    /// The release of the kernel that the metapackage depends on, fetched.
    fn kernel(&self, metapackage: &str) -> Result<String> {
        let name_file = self.debs.join(metapackage);
        let release = match fs::read_to_string(&name_file) {
            Ok(release) => release,
            Err(_) => {
                let text = stdout(
                    setup::program("apt-cache")?
                        .env("APT_CONFIG", &self.config)
                        .args(["depends", metapackage]),
                )?;
                let release = text
                    .lines()
                    .filter_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
                    .find(|release| release.starts_with("6.1."))
                    .with_context(|| format!("no package {metapackage} with a kernel of 6.1"))?;
                fs::write(&name_file, release)?;
                release.to_owned()
            }
        };
        self.fetch(&format!("linux-image-{release}"))?;
        Ok(release)
    }
}

/// A machine that panicked and whose memory QEMU wrote to a file.
#[derive(Debug)]
pub struct Crashed {
    architecture: Architecture,
    /// What `uname -r` said.
    pub release: String,
    /// QEMU's ELF file.
    pub core: PathBuf,
    /// The memory itself.
    pub ram: Ram,
    /// The folder of the run.
    pub work: PathBuf,
}

/// The first kernel's user space: files in memory, some processes, much memory of one; then the panic.
const SCRIPT: &str = "#!/bin/sh\n\
    /bin/busybox --install -s /bin\n\
    mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev\n\
    mount -t tmpfs tmp /tmp\n\
    insmod /fw.ko || echo 'harness: failed insmod'\n\
    i=0; while [ $i -lt 800 ]; do echo $i > /tmp/f$i; i=$((i+1)); done\n\
    dd if=/dev/urandom of=/tmp/noise bs=1M count=16 2> /dev/null\n\
    for n in 1 2 3 4; do sleep 1000 & done\n\
    awk 'BEGIN { for (i = 0; i < 100000; i++) a[i] = \"anonymous \" i; system(\"echo c > /proc/sysrq-trigger\") }'\n\
    echo 'harness: failed to crash'\n";

/// Boots the architecture's kernel, panics it, and lets QEMU write its memory. Without `vmcoreinfo` the guest has no device
/// by which it could tell QEMU of its kernel.
///
/// # Errors
/// Something could not be fetched, the guest did not panic, or QEMU did not write.
pub fn panic_and_dump(name: &str, architecture: Architecture, vmcoreinfo: bool) -> Result<Crashed> {
    let lock = setup::lock_cache("architectures.lock")?;
    let packages = Packages::open(architecture.debian())?;
    let release = packages.kernel(architecture.metapackage())?;
    packages.fetch("busybox-static")?;
    drop(lock);
    let root = &packages.root;
    let work = work_folder(name)?;
    let mut image = Cpio::new();
    for folder in ["bin", "dev", "proc", "sys", "tmp"] {
        image.folder(folder);
    }
    image.program("bin/busybox", &fs::read(root.join("bin/busybox"))?);
    image.link("bin/sh", "busybox");
    image.program("init", SCRIPT.as_bytes());
    let module = root.join("lib/modules").join(&release).join(FW_CFG);
    image.file(
        "fw.ko",
        &fs::read(&module).with_context(|| format!("reading {}", module.display()))?,
    );
    let initrd = work.join("guest.img");
    fs::write(&initrd, image.finish())?;

    let [program, machine, cpu, console] = architecture.machine();
    let memory = architecture.memory_mib();
    let ram = work.join("ram");
    let mut arguments: Vec<OsString> = [
        "-machine",
        &format!("{machine},memory-backend=ram"),
        "-cpu",
        cpu,
        "-smp",
        "2",
        "-m",
        &memory.to_string(),
        "-append",
        &format!("console={console} printk.devkmsg=on"),
    ]
    .map(Into::into)
    .to_vec();
    let kernel = root.join("boot").join(format!("vmlinuz-{release}"));
    arguments.extend(ram_file(&ram, memory));
    arguments.extend(["-kernel".into(), kernel.into()]);
    arguments.extend(["-initrd".into(), initrd.into()]);
    if vmcoreinfo {
        arguments.extend(["-device".into(), "vmcoreinfo".into()]);
    }
    let mut vm = Vm::start_program(program, name, &arguments, LIMIT, None)?;
    let line = vm.expect("end Kernel panic|harness: failed", LIMIT)?;
    ensure!(!line.text.contains("failed"), "{name}: {}", line.text);
    let core = work.join("core");
    vm.qmp().execute("stop", &json!({}))?;
    let protocol = format!("file:{}", core.display());
    vm.qmp().execute(
        "dump-guest-memory",
        &json!({ "paging": false, "protocol": protocol }),
    )?;
    drop(vm);
    Ok(Crashed {
        architecture,
        release,
        core,
        ram: Ram {
            file: File::open(&ram)?,
            first_pfn: architecture.memory_base() / PAGE_SIZE as u64,
            pages: (memory << 20) / PAGE_SIZE as u64,
        },
        work,
    })
}

/// The machine's memory as QEMU left it.
#[derive(Debug)]
pub struct Ram {
    file: File,
    first_pfn: u64,
    pages: u64,
}

impl Memory for Ram {
    fn read_page(&self, pfn: u64, page: &mut Page) -> Result<bool> {
        let inside = pfn.checked_sub(self.first_pfn);
        let Some(inside) = inside.filter(|&inside| inside < self.pages) else {
            return Ok(false);
        };
        self.file.read_exact_at(page, inside * PAGE_SIZE as u64)?;
        Ok(true)
    }
}

impl Crashed {
    /// Changes QEMU's file into what makedumpfile 1.7.2 reads: the program headers at once behind the file header, no
    /// section headers, no firmware, and for i386 the addresses by which the kernel knows its memory.
    ///
    /// # Errors
    /// The file is not as QEMU writes it.
    pub fn make_plain(&self) -> Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(&self.core)?;
        let mut header = [0; 64];
        file.read_exact_at(&mut header, 0)?;
        let number = |bytes: &[u8], at: usize, size: usize| {
            let digits = bytes[at..at + size].iter().rev();
            digits.fold(0, |sum, &byte| sum << 8 | u64::from(byte))
        };
        ensure!(
            header.starts_with(b"\x7fELF\x02\x01"),
            "not a little-endian ELF64"
        );
        let (at, count) = (number(&header, 32, 8), number(&header, 56, 2));
        let mut kept = Vec::new();
        for index in 0..count {
            let mut entry = [0; 56];
            file.read_exact_at(&mut entry, at + 56 * index)?;
            let address = number(&entry, 24, 8);
            let is_load = number(&entry, 0, 4) == 1;
            if is_load && address != self.architecture.memory_base() {
                continue;
            }
            if is_load && self.architecture != Architecture::Arm64 {
                entry[16..24].copy_from_slice(&(0xc000_0000 + address).to_le_bytes());
            }
            kept.push(entry);
        }
        let end = 64 + 56 * kept.len() as u64;
        let notes = number(&kept[0], 8, 8);
        ensure!(
            end <= notes,
            "the headers would reach into the notes at {notes}"
        );
        header[32..40].copy_from_slice(&64_u64.to_le_bytes());
        header[40..48].fill(0);
        header[52..54].copy_from_slice(&64_u16.to_le_bytes());
        header[56..58].copy_from_slice(&(kept.len() as u16).to_le_bytes());
        header[58..64].fill(0);
        file.write_all_at(&header, 0)?;
        file.write_all_at(&kept.concat(), 64)?;
        Ok(())
    }

    /// Lets Debian's makedumpfile of this architecture filter the file.
    ///
    /// # Errors
    /// It cannot be fetched, or fails.
    pub fn makedumpfile(&self, level: u8) -> Result<PathBuf> {
        let lock = setup::lock_cache("architectures.lock")?;
        let packages = Packages::open(self.architecture.debian())?;
        for package in MAKEDUMPFILE {
            packages.fetch(package)?;
        }
        drop(lock);
        let root = &packages.root;
        let (emulator, loader, folder) = self.architecture.loader();
        let libraries = ["lib", "usr/lib"].map(|lib| root.join(lib).join(folder));
        let libraries = std::env::join_paths(libraries)?;
        let mut command = match emulator {
            Some(emulator) => {
                let mut command = setup::program(emulator)?;
                command.arg(root.join(loader));
                command
            }
            None => Command::new(root.join(loader)),
        };
        let out = self.work.join("theirs");
        run(command
            .arg("--library-path")
            .arg(libraries)
            .arg(root.join("usr/bin/makedumpfile"))
            .args(["-f", "-c", "-d", &level.to_string()])
            .args([&self.core, &out]))?;
        Ok(out)
    }
}
