// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that the service is set up with, and the image and the command line that follow from it.

use crate::sysconfig::{self, Sysconfig};
use initramfs_builder::compress::ImageCompression;
use initramfs_builder::conf::Directives;
use initramfs_builder::conf::settings::{self, Dialect, own_conf};
use initramfs_builder::error::{Mistake, Mistakes};
use initramfs_builder::{Prepared, Request, image, prepare};
use kexec::command_line::{
    Capture, USUALLY_ADDED, USUALLY_REMOVED, boot_apicid, compose, watchdog_drivers,
};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What is to be started then.
pub const SYSCONFIG: &str = "/etc/sysconfig/kdump";
/// Where the builds of init are installed.
const INIT: &str = "/usr/lib/kdumprd";
/// Where kernels lie.
const BOOT: [&str; 4] = ["/boot", "/boot/efi", "/efi", "/"];
/// Where the image goes when there is no `/boot`.
const STATE: &str = "/var/lib/kdump";

/// The service's set-up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where the host's files are.
    pub root: PathBuf,
    /// What is to be done about a crash.
    pub directives: Directives,
    /// `/etc/sysconfig/kdump`.
    pub sysconfig: Sysconfig,
    /// The capture kernel's release.
    pub release: String,
    /// Its file.
    pub kernel: PathBuf,
    /// The image.
    pub image: PathBuf,
}

/// What became of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Built {
    /// It was there already, as it would be written.
    Unchanged,
    /// It was written.
    Written,
    /// `force_no_rebuild`: it was not looked at.
    Kept,
}

fn read(path: &Path) -> Result<String, Mistake> {
    fs::read_to_string(path)
        .map_err(|error| Mistake::new(format!("reading {}: {error}", path.display())))
}

/// `/etc/sysconfig/kdump` below `root`; without the file what stands by itself.
///
/// # Errors
/// It cannot be read, or has mistakes.
pub fn read_sysconfig(root: &Path) -> Result<Sysconfig, Mistakes> {
    let path = below(root, SYSCONFIG);
    match fs::read_to_string(&path) {
        Ok(text) => sysconfig::parse(SYSCONFIG, &text),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Sysconfig::default()),
        Err(error) => Err(Mistake::new(format!("reading {}: {error}", path.display())).into()),
    }
}

/// `/etc/kdump.conf` below `root`, or what stands in its place on a Debian or SUSE that has none.
///
/// # Errors
/// It cannot be read, or has a mistake.
pub fn read_directives(root: &Path) -> Result<Directives, Mistakes> {
    let file = own_conf(root);
    let text = fs::read(below(root, file)).map_err(|error| {
        Mistake::new(format!(
            "reading {file}: {error}; an empty file saves dumps below /var/crash"
        ))
    })?;
    settings::parse(file, &text, Dialect::of(&text))
}

pub(crate) fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn image_in(root: &Path, folder: &str, release: &str) -> PathBuf {
    below(root, folder).join(format!("initrd-{release}kdump.img"))
}

/// Removes the image for the kernel of this release from everywhere that one may have been written to, and returns what is gone.
///
/// # Errors
/// One that is there cannot be removed.
pub fn remove_images(
    root: &Path,
    sysconfig: &Sysconfig,
    release: &str,
) -> Result<Vec<PathBuf>, Mistakes> {
    let mut gone = Vec::new();
    let folders = BOOT.into_iter().take(1).chain([STATE]);
    for folder in folders.chain(sysconfig.boot_directory.as_deref()) {
        let image = image_in(root, folder, release);
        match fs::remove_file(&image) {
            Ok(()) => gone.push(image),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Mistake::new(format!("removing {}: {error}", image.display())).into());
            }
        }
    }
    Ok(gone)
}

impl Setup {
    /// Reads both files and finds the kernel.
    ///
    /// # Errors
    /// Every mistake in a file, or where a kernel was looked for.
    pub fn read(root: &Path) -> Result<Self, Mistakes> {
        let running = read(&below(root, "/proc/sys/kernel/osrelease"))?;
        Self::read_for(root, running.trim())
    }

    /// As [`Setup::read`], when the kernel of this release runs.
    ///
    /// # Errors
    /// As [`Setup::read`].
    pub fn read_for(root: &Path, running: &str) -> Result<Self, Mistakes> {
        let sysconfig = read_sysconfig(root)?;
        let directives = read_directives(root)?;
        let (release, kernel) = find_kernel(root, &sysconfig, running)?;
        let folder = match (&sysconfig.boot_directory, BOOT.first()) {
            (Some(folder), _) => folder.as_str(),
            (None, Some(boot)) if below(root, boot).is_dir() => *boot,
            (None, _) => STATE,
        };
        let image = image_in(root, folder, &release);
        Ok(Self {
            root: root.to_path_buf(),
            directives,
            sysconfig,
            release,
            kernel,
            image,
        })
    }

    /// What the builder is asked for.
    #[must_use]
    pub fn request(&self) -> Request {
        Request {
            conf: below(&self.root, own_conf(&self.root)),
            kernel: self.release.clone(),
            modules_directory: None,
            host_root: self.root.clone(),
            init: below(&self.root, INIT),
            compression: ImageCompression::default(),
        }
    }

    /// What the image would be now.
    ///
    /// # Errors
    /// Everything that is in the way, each with what to change.
    pub fn prepare(&self) -> Result<Prepared, Mistakes> {
        prepare(&self.request())
    }

    /// Sees to it that the image is as it should be, and returns what a person should know. `always` writes it in any case.
    ///
    /// # Errors
    /// It cannot be built or written; then one that was there before is as it was.
    pub fn build(&self, always: bool) -> Result<(Built, Vec<String>), Mistakes> {
        let is_on = |at: Option<initramfs_builder::error::At<bool>>| at.is_some_and(|at| at.value);
        if is_on(self.directives.force_no_rebuild) && !always {
            return if self.image.is_file() {
                Ok((Built::Kept, Vec::new()))
            } else {
                Err(Mistake::new(format!(
                    "there is no {}, and `force_no_rebuild` in {} forbids to build it; `kdumpctl rebuild` does so once",
                    self.image.display(),
                    self.directives.file
                ))
                .into())
            };
        }
        let prepared = self.prepare()?;
        let mut warnings = prepared.resolved.warnings;
        warnings.extend(prepared.closure.warnings);
        let is_as_it_should_be = fs::read(&self.image).is_ok_and(|old| old == prepared.bytes);
        if is_as_it_should_be && !always && !is_on(self.directives.force_rebuild) {
            return Ok((Built::Unchanged, warnings));
        }
        if let Some(folder) = self.image.parent() {
            fs::create_dir_all(folder)
                .map_err(|error| Mistake::new(format!("making {}: {error}", folder.display())))?;
        }
        image::write(&self.image, &prepared.bytes)?;
        Ok((Built::Written, warnings))
    }

    /// The capture kernel's command line.
    ///
    /// # Errors
    /// The first kernel's cannot be read, or the line is too long.
    pub fn command_line(&self) -> Result<String, Mistakes> {
        let first = match &self.sysconfig.command_line {
            Some(line) => line.clone(),
            None => read(&below(&self.root, "/proc/cmdline"))?,
        };
        let cpuinfo = read(&below(&self.root, "/proc/cpuinfo")).unwrap_or_default();
        let text =
            |given: &Option<String>, usual: &str| given.as_deref().unwrap_or(usual).to_owned();
        compose(
            &first,
            &Capture {
                remove: &text(&self.sysconfig.remove, USUALLY_REMOVED),
                add: &text(&self.sysconfig.append, USUALLY_ADDED),
                boot_apicid: boot_apicid(&cpuinfo),
                watchdogs: &watchdog_drivers(&below(&self.root, "/sys")),
                append: "",
            },
        )
        .map_err(|error| {
            Mistake::new(format!("{error}; {SYSCONFIG} has KDUMP_COMMANDLINE_APPEND")).into()
        })
    }
}

/// The capture kernel's release and file.
fn find_kernel(
    root: &Path,
    sysconfig: &Sysconfig,
    running: &str,
) -> Result<(String, PathBuf), Mistakes> {
    let releases: Vec<&str> = match &sysconfig.kernel {
        Some(release) => vec![release],
        // A kernel with debugging built in needs far more memory; its plain sister does where it is installed.
        None => running
            .strip_suffix("+debug")
            .into_iter()
            .chain([running])
            .collect(),
    };
    let mut tried: Vec<String> = Vec::new();
    for release in releases {
        let (name, suffix) = (&sysconfig.kernel_name, &sysconfig.kernel_suffix);
        let folders: Vec<&str> = match &sysconfig.boot_directory {
            Some(folder) => vec![folder],
            None => BOOT.to_vec(),
        };
        let mut candidates: Vec<String> = folders
            .iter()
            .map(|folder| format!("{}/{name}-{release}{suffix}", folder.trim_end_matches('/')))
            .collect();
        if sysconfig.boot_directory.is_none() {
            candidates.push(format!("/lib/modules/{release}/{name}{suffix}"));
        }
        for candidate in candidates {
            let place = below(root, &candidate);
            if place.is_file() {
                return Ok((release.to_owned(), place));
            }
            tried.push(candidate);
        }
    }
    Err(Mistake::new(format!(
        "there is no kernel to be started at a crash: none of {} is there; {SYSCONFIG} names another by KDUMP_KERNELVER, \
         KDUMP_BOOTDIR and KDUMP_IMG",
        tried.join(", ")
    ))
    .into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use config::build::Build;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A host in a folder, with a disk and a kernel that has everything built in.
    pub(crate) struct Tree(PathBuf);

    impl Tree {
        pub(crate) fn new(conf: &str) -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let tree = Self(
                std::env::temp_dir().join(format!("kdumpctl-{}-{number}", std::process::id())),
            );
            for (path, text) in [
                ("etc/kdump.conf", conf),
                ("kdump.devices", "/dev/vda size=1000000\n"),
                ("proc/sys/kernel/osrelease", "6.1.0\n"),
                (
                    "proc/cmdline",
                    "root=/dev/vda quiet console=ttyS0 pci=nomsi\n",
                ),
                ("proc/cpuinfo", "processor\t: 0\ninitial apicid\t: 0\n"),
                ("boot/vmlinuz-6.1.0", "a kernel"),
                ("lib/modules/6.1.0/modules.dep", ""),
                (
                    "lib/modules/6.1.0/modules.builtin",
                    "kernel/fs/ext4/ext4.ko\n",
                ),
            ] {
                tree.write(path, text);
            }
            tree.write("usr/lib/kdumprd/init-local", init_file(1));
            tree
        }

        pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
            let place = below(&self.0, path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, text).unwrap();
        }

        pub(crate) fn setup(&self) -> Setup {
            Setup::read(&self.0).unwrap_or_else(|mistakes| panic!("{mistakes}"))
        }

        fn build(&self, always: bool) -> Built {
            self.setup()
                .build(always)
                .unwrap_or_else(|mistakes| panic!("{mistakes}"))
                .0
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// An init with its note, and this many bytes behind it.
    fn init_file(more: usize) -> Vec<u8> {
        let note = Build::new(false, false, false).note();
        let names = b"\0.note.kdumprd\0.shstrtab\0";
        let table = (64 + note.len() + names.len()).next_multiple_of(8);
        let mut file = vec![0; table + 3 * 64 + more];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(16, &[1, 0, 62, 0, 1]);
        put(40, &(table as u64).to_le_bytes());
        put(52, &[64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
        put(64, &note);
        put(64 + note.len(), names);
        for (number, name, kind, start, length) in [
            (1, 1, 7, 64, note.len()),
            (2, 15, 3, 64 + note.len(), names.len()),
        ] {
            let header = table + 64 * number;
            put(header, &[name]);
            put(header + 4, &[kind]);
            put(header + 24, &(start as u64).to_le_bytes());
            put(header + 32, &(length as u64).to_le_bytes());
        }
        file
    }

    const RAW: &str = "raw /dev/vda\ndefault reboot\n";

    #[test]
    fn the_image_is_written_when_its_bytes_would_differ_and_at_no_other_time() {
        let tree = Tree::new(RAW);
        assert_eq!(tree.build(false), Built::Written);
        assert_eq!(tree.build(false), Built::Unchanged);
        // Another time on a file says nothing; peers rebuild here, or miss a change after the clock was set back.
        let touched = fs::File::options()
            .append(true)
            .open(below(&tree.0, "/etc/kdump.conf"))
            .unwrap();
        touched
            .set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(9999))
            .unwrap();
        assert_eq!(tree.build(false), Built::Unchanged);
        tree.write("etc/kdump.conf", format!("# a remark\n{RAW}"));
        assert_eq!(tree.build(false), Built::Unchanged);
        tree.write("usr/lib/kdumprd/init-local", init_file(2));
        assert_eq!(tree.build(false), Built::Written);
        assert_eq!(tree.build(true), Built::Written);
        tree.write("etc/kdump.conf", format!("{RAW}force_rebuild 1\n"));
        assert_eq!(tree.build(false), Built::Written);
        assert_eq!(tree.build(false), Built::Written);
    }

    #[test]
    fn a_rebuild_that_is_forbidden_is_not_made() {
        let tree = Tree::new(&format!("{RAW}force_no_rebuild 1\n"));
        let said = tree.setup().build(false).unwrap_err().to_string();
        assert!(said.contains("`kdumpctl rebuild` does so once"), "{said}");
        assert_eq!(tree.build(true), Built::Written);
        tree.write("usr/lib/kdumprd/init-local", init_file(2));
        assert_eq!(tree.build(false), Built::Kept);
    }

    #[test]
    fn a_mistake_leaves_the_image_that_works() {
        let tree = Tree::new(RAW);
        tree.build(false);
        let before = fs::read(tree.setup().image).unwrap();
        tree.write("etc/kdump.conf", "raw /dev/vdb\n");
        let said = tree.setup().build(false).unwrap_err().to_string();
        assert!(
            said.contains("kdump.conf:1: there is no /dev/vdb"),
            "{said}"
        );
        tree.write("etc/kdump.conf", RAW);
        assert_eq!(fs::read(tree.setup().image).unwrap(), before);
    }

    #[test]
    fn the_command_line_is_the_first_kernels_as_the_file_says() {
        let tree = Tree::new(RAW);
        let line = tree.setup().command_line().unwrap();
        assert!(
            line.starts_with("console=ttyS0 pci=nomsi irqpoll nr_cpus=1 "),
            "{line}"
        );
        assert!(line.ends_with("disable_cpu_apicid=0"), "{line}");
        tree.write(
            "etc/sysconfig/kdump",
            "KDUMP_COMMANDLINE=\"a=1 quiet b=2\"\nKDUMP_COMMANDLINE_REMOVE=\"b\"\nKDUMP_COMMANDLINE_APPEND=\"nr_cpus=2\"\n",
        );
        assert_eq!(
            tree.setup().command_line().unwrap(),
            "a=1 quiet nr_cpus=2 cryptomgr.notests printk.devkmsg=on panic=10 disable_cpu_apicid=0"
        );
    }

    #[test]
    fn the_kernel_is_found_where_it_is_said_to_be() {
        let tree = Tree::new(RAW);
        assert!(tree.setup().kernel.ends_with("boot/vmlinuz-6.1.0"));
        assert!(tree.setup().image.ends_with("boot/initrd-6.1.0kdump.img"));
        tree.write("proc/sys/kernel/osrelease", "6.1.0+debug\n");
        assert_eq!(tree.setup().release, "6.1.0");
        tree.write("boot2/bz-6.2.gz", "a kernel");
        tree.write(
            "etc/sysconfig/kdump",
            "KDUMP_KERNELVER=6.2\nKDUMP_BOOTDIR=/boot2\nKDUMP_IMG=bz\nKDUMP_IMG_EXT=.gz\n",
        );
        assert!(tree.setup().kernel.ends_with("boot2/bz-6.2.gz"));
        assert!(tree.setup().image.ends_with("boot2/initrd-6.2kdump.img"));
        tree.write("etc/sysconfig/kdump", "KDUMP_KERNELVER=6.3\n");
        let said = Setup::read(&tree.0).unwrap_err().to_string();
        assert!(
            said.contains("/boot/vmlinuz-6.3, ") && said.contains("KDUMP_KERNELVER"),
            "{said}"
        );
    }

    #[test]
    fn a_kernel_that_came_gets_an_image_which_goes_with_it() {
        let tree = Tree::new(RAW);
        tree.write("boot/vmlinuz-6.2", "a kernel");
        tree.write("lib/modules/6.2/modules.dep", "");
        tree.write(
            "lib/modules/6.2/modules.builtin",
            "kernel/fs/ext4/ext4.ko\n",
        );
        tree.build(false);
        let setup = Setup::read_for(&tree.0, "6.2").unwrap();
        assert_eq!(setup.build(true).unwrap().0, Built::Written);
        assert!(setup.image.ends_with("boot/initrd-6.2kdump.img"));
        // The kernel is gone before its image is.
        fs::remove_file(&setup.kernel).unwrap();
        let gone = remove_images(&tree.0, &setup.sysconfig, "6.2").unwrap();
        assert_eq!(gone, [setup.image]);
        assert!(tree.setup().image.is_file());
        assert_eq!(
            remove_images(&tree.0, &setup.sysconfig, "6.2").unwrap(),
            [""; 0].map(PathBuf::from)
        );
        // Where one kernel is for all, another one gets none.
        tree.write("etc/sysconfig/kdump", "KDUMP_KERNELVER=6.1.0\n");
        assert_eq!(Setup::read_for(&tree.0, "6.2").unwrap().release, "6.1.0");
    }

    #[test]
    fn a_missing_or_wrong_file_is_named() {
        let tree = Tree::new("rwa /dev/vda\n");
        let said = Setup::read(&tree.0).unwrap_err().to_string();
        assert!(
            said.starts_with("/etc/kdump.conf:1: unknown directive `rwa`"),
            "{said}"
        );
        tree.write("etc/sysconfig/kdump", "KDUMP_IMG=$(x)\n");
        let said = Setup::read(&tree.0).unwrap_err().to_string();
        assert!(said.starts_with("/etc/sysconfig/kdump:1: "), "{said}");
        fs::remove_file(below(&tree.0, SYSCONFIG)).unwrap();
        fs::remove_file(below(&tree.0, "/etc/kdump.conf")).unwrap();
        let said = Setup::read(&tree.0).unwrap_err().to_string();
        assert!(said.starts_with("reading /etc/kdump.conf: "), "{said}");
    }

    #[test]
    fn the_settings_of_a_debian_stand_in_for_a_missing_file() {
        let tree = Tree::new(RAW);
        fs::remove_file(below(&tree.0, "/etc/kdump.conf")).unwrap();
        tree.write(
            "etc/default/kdump-tools",
            "USE_KDUMP=1\nKDUMP_COREDIR=\"/srv/crash\"\n",
        );
        let directives = tree.setup().directives;
        assert_eq!(directives.file, "/etc/default/kdump-tools");
        assert_eq!(directives.path.unwrap().value, "/srv/crash");
    }

    #[test]
    fn raw_targets_are_recovered_from_their_nodes_to_the_path() {
        let tree = Tree::new("raw /dev/vda\npath /srv/dumps\n");
        let setup = tree.setup();
        let devices = crate::save_raw::devices(&setup).unwrap();
        assert_eq!(devices, ["/dev/vda"]);
        assert_eq!(crate::save_raw::folder(&setup), tree.0.join("srv/dumps"));
        // Without such a line nothing is looked up: the disk is gone, and that is no mistake here.
        let tree = Tree::new("ext4 /dev/vdz\n");
        let setup = tree.setup();
        assert_eq!(crate::save_raw::devices(&setup).unwrap(), [""; 0]);
        assert_eq!(crate::save_raw::folder(&setup), tree.0.join("var/crash"));
    }
}
