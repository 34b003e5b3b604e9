// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work that only a kernel does: a guest runs a script with programs of the distribution, and switches itself off.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cycle::{boot, work_folder};
use crate::disk::{Bus, Disk};
use crate::guest;
use crate::run::{run, stdout};
use crate::setup::{self, Kernel};
use crate::vm::End;

/// How long the script may take.
const LIMIT: Duration = Duration::from_secs(240);
/// What the script is to say at its end.
const DONE: &str = "harness: done";

/// A guest that runs a script.
#[derive(Clone, Debug)]
pub struct Errand<'a> {
    /// Its name, unique among all tests.
    pub name: &'a str,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Modules to load.
    pub modules: &'a [&'a str],
    /// Programs to have in `/sbin`, with what they link to.
    pub programs: &'a [PathBuf],
    /// Other files: absolute name, and content.
    pub files: Vec<(String, Vec<u8>)>,
    /// The script. It ends with `say done`; `fail` ends it before.
    pub script: &'a str,
    /// The disks, as virtio has them: `/dev/vda`, …
    pub images: &'a [&'a Path],
    /// The process whose network the guest's only card leads to; without one there is no card.
    pub namespace: Option<u32>,
}

impl Errand<'_> {
    /// Runs it, and returns what the script said, without `harness: ` in front.
    ///
    /// # Errors
    /// The script failed, or the guest did not end.
    pub fn run(self) -> Result<Vec<String>> {
        let work = work_folder(self.name)?;
        let initrd = work.join("guest.img");
        let mut files = self.files;
        for program in self.programs {
            files.extend(with_libraries(program)?);
        }
        let modules = [&["virtio_pci", "virtio_blk"], self.modules].concat();
        fs::write(
            &initrd,
            guest::script(self.kernel, &modules, &files, self.script)?,
        )?;
        let mut arguments = ["-machine", "q35", "-cpu", "qemu64", "-m", "512M"]
            .map(Into::into)
            .to_vec();
        arguments.extend(["-kernel".into(), self.kernel.image().into()]);
        arguments.extend(["-initrd".into(), initrd.into()]);
        arguments.extend([
            "-append".into(),
            "console=ttyS0 printk.devkmsg=on panic=5 no_timer_check".into(),
        ]);
        for (number, image) in self.images.iter().enumerate() {
            arguments.extend(Disk::new(*image, Bus::Virtio).arguments(number));
        }
        if self.namespace.is_some() {
            for argument in [
                "-netdev",
                "user,id=net0",
                "-device",
                "virtio-net-pci,netdev=net0",
            ] {
                arguments.push(argument.into());
            }
        }
        let (mut vm, _) = boot(self.name, &arguments, self.namespace)?;
        let line = vm.expect(&format!("{DONE}|{}", guest::FAILED), LIMIT)?;
        ensure!(
            !line.text.contains(guest::FAILED),
            "{}: {}; console: {}",
            self.name,
            line.text,
            vm.log().display()
        );
        vm.expect_end(&End::PowerOff, LIMIT)?;
        fs::remove_dir_all(&work)?;
        Ok(vm
            .console()
            .lines()
            .iter()
            .filter_map(|line| line.text.split_once("harness: "))
            .map(|(_, said)| said.trim().to_owned())
            .collect())
    }
}

/// The packages that have what makes logical volumes, arrays and encrypted disks, and what of theirs a plain machine does not
/// have.
const PACKAGES: [&str; 12] = [
    "lvm2",
    "mdadm",
    "cryptsetup-bin",
    "libcryptsetup12",
    "libdevmapper1.02.1",
    "libdevmapper-event1.02.1",
    "libaio1",
    "libargon2-1",
    "libbsd0",
    "libedit2",
    "libjson-c5",
    "libpopt0",
];

/// Of `lvm`, `mdadm` and `cryptsetup` those that are named: unpacked, not installed, as they would take hold of the host's
/// disks.
///
/// # Errors
/// They cannot be downloaded.
pub fn disk_tools(names: &[&str]) -> Result<Vec<PathBuf>> {
    setup::ready()?;
    let _lock = setup::lock_cache("disk-tools.lock")?;
    let root = setup::cache()?.join("disk-tools");
    if !root.is_dir() {
        eprintln!("setup: fetching lvm2, mdadm and cryptsetup");
        let partial = root.with_extension("partial");
        setup::start_afresh(&partial)?;
        for package in PACKAGES {
            let deb = setup::download(package, &partial)?;
            run(Command::new("dpkg").arg("-x").arg(&deb).arg(&partial))?;
            fs::remove_file(&deb)?;
        }
        fs::rename(&partial, &root)?;
    }
    Ok(names
        .iter()
        .map(|name| root.join("sbin").join(name))
        .collect())
}

/// A program and the libraries that it links to, each at its place in a guest.
///
/// # Errors
/// One of the files cannot be found or read.
pub fn with_libraries(program: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let root = program
        .parent()
        .and_then(Path::parent)
        .with_context(|| format!("no root above {}", program.display()))?;
    let libraries = ["lib", "usr/lib"].map(|folder| {
        let folder = root.join(folder).join("x86_64-linux-gnu");
        folder.display().to_string()
    });
    let listed = stdout(
        Command::new("ldd")
            .env("LD_LIBRARY_PATH", libraries.join(":"))
            .arg(program),
    )?;
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let mut files = vec![(format!("sbin/{name}"), fs::read(program)?)];
    for line in listed.lines() {
        // `NAME => FILE (ADDRESS)`, or `FILE (ADDRESS)` for the loader.
        let words: Vec<&str> = line.split_whitespace().collect();
        let (place, file) = match words.as_slice() {
            [name, "=>", file, ..] if file.starts_with('/') => {
                (format!("lib/x86_64-linux-gnu/{name}"), *file)
            }
            [file, _] if file.starts_with('/') => (file.trim_start_matches('/').to_owned(), *file),
            [name, "=>", "not", ..] => anyhow::bail!("{}: no library {name}", program.display()),
            _ => continue,
        };
        files.push((
            place,
            fs::read(file).with_context(|| format!("reading {file}"))?,
        ));
    }
    Ok(files)
}
