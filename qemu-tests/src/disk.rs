// SPDX-License-Identifier: MIT OR Apache-2.0
//! Disk images: made, attached to a guest, and read back, without root and without mounting anything.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::qmp::Qmp;
use crate::run::{run, stdout};
use crate::setup;

/// One MiB in bytes.
pub const MIB: u64 = 1 << 20;

/// Which controller a disk hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk: `/dev/vda`, …
    Virtio,
    /// SATA by AHCI: `/dev/sda`, …
    Ahci,
    /// NVMe: `/dev/nvme0n1`, …
    Nvme,
    /// virtio-scsi: `/dev/sda`, …
    VirtioScsi,
    /// A USB disk behind xHCI: `/dev/sda`, …
    Usb,
    /// One disk that virtio-scsi shows twice, by two paths: `/dev/sda` and `/dev/sdb`. It has the name [`WWID`].
    Multipath,
}

/// What a disk with two paths calls itself on both.
pub const WWID: &str = "naa.5000c50015ea71aa";

impl Bus {
    /// udev's `ID_PATH` of the disk with this number among the guest's disks.
    #[must_use]
    pub fn path(self, number: usize) -> String {
        let slot = first_slot(number);
        match self {
            Self::Virtio => format!("pci-0000:00:{slot:02x}.0"),
            // q35's own controller; its ports count from 1 in udev.
            Self::Ahci => format!("pci-0000:00:1f.2-ata-{}", number + 1),
            Self::Nvme => format!("pci-0000:00:{slot:02x}.0-nvme-1"),
            Self::VirtioScsi | Self::Multipath => {
                format!("pci-0000:00:{slot:02x}.0-scsi-0:0:0:0")
            }
            Self::Usb => format!("pci-0000:00:{slot:02x}.0-usb-0:1:1.0-scsi-0:0:0:0"),
        }
    }

    /// The drivers from the bus to the disk, for the builder.
    #[must_use]
    pub const fn modules(self) -> &'static str {
        match self {
            Self::Virtio => "virtio_pci,virtio_blk",
            Self::Ahci => "ahci,sd_mod",
            Self::Nvme => "nvme",
            Self::VirtioScsi | Self::Multipath => "virtio_pci,virtio_scsi,sd_mod",
            Self::Usb => "xhci_pci,usb_storage,sd_mod",
        }
    }
}

/// The PCI slot of the disk with this number: behind those that the machine uses by itself.
const fn first_slot(number: usize) -> usize {
    0x10 + number
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Every write fails after this many requests.
    WritesFailAfter(u32),
    /// These writes fail, counted from 1 and in this order, and no other.
    WritesFail(&'static [u32]),
    /// Nothing can be written, and the disk says so.
    ReadOnly,
    /// Of a disk with two paths, nothing can be read by the first one.
    FirstPathDead,
}

/// A disk of a guest.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The image: every byte of the disk.
    pub image: PathBuf,
    /// Its controller.
    pub bus: Bus,
    /// Its fault.
    pub fault: Fault,
}

impl Disk {
    /// A sound disk.
    #[must_use]
    pub fn new(image: impl Into<PathBuf>, bus: Bus) -> Self {
        Self {
            image: image.into(),
            bus,
            fault: Fault::None,
        }
    }

    /// The first path to a disk that has two. Its requests take their own way to the image, on which none may arrive.
    fn first_path(&self, number: usize) -> Vec<OsString> {
        let mut arguments = vec![
            "-blockdev".into(),
            with_path(
                &format!("driver=file,node-name=other{number},locking=off,filename="),
                &self.image,
            ),
        ];
        let mut below = format!("other{number}");
        if self.fault == Fault::FirstPathDead {
            arguments.push("-blockdev".into());
            arguments.push(
                format!(
                    "driver=blkdebug,node-name=dead{number},image={below},inject-error.0.event=read_aio,\
                     inject-error.0.errno=5"
                )
                .into(),
            );
            below = format!("dead{number}");
        }
        arguments.push("-blockdev".into());
        arguments.push(format!("driver=raw,node-name=path{number},file={below}").into());
        arguments.push("-device".into());
        arguments.push(path(&format!("id=first{number},drive=path{number}"), number, 0).into());
        arguments
    }

    /// QEMU's arguments for the disk with this number.
    #[must_use]
    pub fn arguments(&self, number: usize) -> Vec<OsString> {
        // Errors go to the guest; QEMU's own choice would be to stop the machine when the host's disk is full.
        let errors = "werror=report,rerror=report";
        let locking = match self.bus {
            Bus::Multipath => ",locking=off",
            _ => "",
        };
        let mut arguments = vec![
            "-blockdev".into(),
            with_path(
                // The host's cache keeps what the guest wrote after QEMU's end: no need to wait for the host's disk.
                &format!("driver=file,node-name=file{number},cache.no-flush=on{locking},filename="),
                &self.image,
            ),
            "-blockdev".into(),
        ];
        let raw = format!("driver=raw,node-name=disk{number}");
        match self.fault {
            Fault::None | Fault::FirstPathDead => {
                arguments.push(format!("{raw},file=file{number}").into())
            }
            Fault::ReadOnly => {
                arguments.push(format!("{raw},file=file{number},read-only=on").into());
            }
            Fault::WritesFailAfter(requests) => {
                // Behind the last state there is no other.
                let rules = failing(requests, &[requests + 1], false);
                arguments.extend(with_debug(number, &raw, &rules));
            }
            Fault::WritesFail(which) => {
                let last = which.last().copied().unwrap_or(0);
                arguments.extend(with_debug(number, &raw, &failing(last, which, true)));
            }
        }
        let slot = first_slot(number);
        let drive = format!("id=harness{number},drive=disk{number}");
        let controller = match self.bus {
            Bus::VirtioScsi | Bus::Multipath => Some("virtio-scsi-pci"),
            Bus::Usb => Some("qemu-xhci"),
            Bus::Virtio | Bus::Ahci | Bus::Nvme => None,
        };
        if let Some(controller) = controller {
            arguments.push("-device".into());
            arguments.push(format!("{controller},id=bus{number},addr={slot:#x}").into());
        }
        let device = match self.bus {
            Bus::Virtio => {
                format!("virtio-blk-pci,{drive},addr={slot:#x},{errors}")
            }
            Bus::Ahci => format!("ide-hd,{drive},bus=ide.{number},{errors}"),
            Bus::Nvme => {
                format!("nvme,{drive},serial=harness{number},addr={slot:#x}")
            }
            Bus::VirtioScsi => format!("scsi-hd,{drive},bus=bus{number}.0,{errors}"),
            Bus::Multipath => {
                arguments.extend(self.first_path(number));
                path(&drive, number, 1)
            }
            // QEMU makes the SCSI disk behind it, which has the errors' handling of its own.
            Bus::Usb => format!("usb-storage,{drive},bus=bus{number}.0,port=1"),
        };
        arguments.extend(["-device".into(), device.into()]);
        arguments
    }
}

/// QEMU's rules by which the writes with these numbers fail, once or each time. It counts `count` of them, and gives all
/// behind them the next number.
fn failing(count: u32, which: &[u32], once: bool) -> String {
    let mut rules = String::new();
    for step in 0..count {
        let (state, next) = (step + 1, step + 2);
        rules += &format!(
            ",set-state.{step}.event=write_aio,set-state.{step}.state={state},\
             set-state.{step}.new_state={next}"
        );
    }
    let once = if once { "on" } else { "off" };
    for (number, state) in which.iter().enumerate() {
        rules += &format!(
            ",inject-error.{number}.event=write_aio,inject-error.{number}.state={state},\
             inject-error.{number}.iotype=write,inject-error.{number}.errno=5,inject-error.{number}.once={once}"
        );
    }
    rules
}

/// The disk with this number behind a filter with these rules.
fn with_debug(number: usize, raw: &str, rules: &str) -> [OsString; 3] {
    [
        format!("driver=blkdebug,node-name=debug{number},image=file{number}{rules}").into(),
        "-blockdev".into(),
        format!("{raw},file=debug{number}").into(),
    ]
}

/// One of the paths to a disk.
fn path(drive: &str, number: usize, lun: u32) -> String {
    format!(
        "scsi-hd,{drive},bus=bus{number}.0,lun={lun},wwn=0x{},share-rw=on,rerror=report",
        WWID.trim_start_matches("naa.")
    )
}

/// The command, and its arguments, with which QEMU lets the virtio disk with this number move only so many bytes in a
/// second. With 1 it answers once more, and then no more before the machine is reset.
#[must_use]
pub fn throttle(number: usize, bytes_per_s: u64) -> (&'static str, Value) {
    let arguments = json!({
        "id": format!("/machine/peripheral/harness{number}/virtio-backend"),
        "bps": bytes_per_s, "bps_rd": 0, "bps_wr": 0,
        "iops": 0, "iops_rd": 0, "iops_wr": 0,
    });
    ("block_set_io_throttle", arguments)
}

/// QEMU's arguments for a place that a virtio disk can be plugged into later.
pub const LATE_PORT: [&str; 2] = ["-device", "pcie-root-port,id=late-port,chassis=1,addr=0x1c"];

/// Plugs a virtio disk into the place of [`LATE_PORT`].
///
/// # Errors
/// QEMU refuses.
pub fn plug_in(qmp: &mut Qmp, image: &Path) -> Result<()> {
    qmp.execute(
        "blockdev-add",
        &json!({"driver": "file", "node-name": "late-file", "filename": image}),
    )?;
    qmp.execute(
        "blockdev-add",
        &json!({"driver": "raw", "node-name": "late", "file": "late-file"}),
    )?;
    qmp.execute(
        "device_add",
        &json!({"driver": "virtio-blk-pci", "drive": "late", "bus": "late-port", "id": "late-disk"}),
    )?;
    Ok(())
}

/// A QEMU option that ends with a file's name, in which a comma is written twice.
pub(crate) fn with_path(option: &str, path: &Path) -> OsString {
    format!("{option}{}", path.display().to_string().replace(',', ",,")).into()
}

/// The memory `ram` of a guest, as a file that outlives it; the machine names it by `memory-backend=ram`.
#[must_use]
pub fn ram_file(file: &Path, size_mib: u64) -> [OsString; 2] {
    let option = format!("memory-backend-file,id=ram,size={size_mib}M,share=on,mem-path=");
    ["-object".into(), with_path(&option, file)]
}

/// A machine with one processor whose memory is such a file.
#[must_use]
pub fn machine_with_ram_file(file: &Path, size_mib: u64) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["-machine", "q35,memory-backend=ram", "-cpu", "qemu64", "-m"]
            .map(Into::into)
            .to_vec();
    arguments.push(format!("{size_mib}M").into());
    arguments.extend(ram_file(file, size_mib));
    arguments
}

/// Makes an empty image of this size.
///
/// # Errors
/// It cannot be written.
pub fn blank(image: &Path, size_mib: u64) -> Result<()> {
    File::create(image)
        .and_then(|file| file.set_len(size_mib * MIB))
        .with_context(|| format!("making {}", image.display()))
}

/// A file system to be made.
#[derive(Clone, Debug)]
pub struct Ext<'a> {
    /// `ext2`, `ext3` or `ext4`.
    pub fstype: &'a str,
    /// Its size.
    pub size_mib: u64,
    /// Its label; empty for none.
    pub label: &'a str,
    /// Its UUID; empty for any.
    pub uuid: &'a str,
    /// A folder of the host whose content it gets.
    pub content: Option<&'a Path>,
    /// How many inodes it has; none for as many as the program thinks fit.
    pub inodes: Option<u32>,
    /// The size of its blocks; none for what the program thinks fit.
    pub block_bytes: Option<u32>,
}

impl<'a> Ext<'a> {
    /// An empty file system without a label.
    #[must_use]
    pub const fn new(fstype: &'a str, size_mib: u64) -> Self {
        Self {
            fstype,
            size_mib,
            label: "",
            uuid: "",
            content: None,
            inodes: None,
            block_bytes: None,
        }
    }

    /// Makes it, as an image of its own.
    ///
    /// # Errors
    /// mkfs fails; the error has what it said.
    pub fn make(&self, image: &Path) -> Result<()> {
        blank(image, self.size_mib)?;
        let mut command = setup::program(&format!("mkfs.{}", self.fstype))?;
        command.args(["-q", "-F"]);
        if !self.label.is_empty() {
            command.args(["-L", self.label]);
        }
        if !self.uuid.is_empty() {
            command.args(["-U", self.uuid]);
        }
        if let Some(inodes) = self.inodes {
            command.args(["-N", &inodes.to_string()]);
        }
        if let Some(bytes) = self.block_bytes {
            command.args(["-b", &bytes.to_string()]);
        }
        if let Some(content) = self.content {
            command.arg("-d").arg(content);
        }
        run(command.arg(image))?;
        Ok(())
    }
}

/// A kind of partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// The table of UEFI machines.
    Gpt,
    /// The table in the master boot record.
    Mbr,
}

/// The partition that [`partition`] puts the content into; the first one is a decoy.
pub const PARTITION: u32 = 2;

/// Where that partition begins on the disk, in bytes.
pub const PARTITION_OFFSET: u64 = 9 * MIB;

/// Makes a disk of two partitions: a decoy of 8 MiB, then one with the bytes of `content`.
///
/// `id` is the second partition's UUID for [`Table::Gpt`], and the disk's signature (eight hexadecimal digits) for
/// [`Table::Mbr`].
///
/// # Errors
/// The partitioning program fails.
pub fn partition(image: &Path, table: Table, id: &str, content: &Path) -> Result<()> {
    let size_mib = fs::metadata(content)?.len().div_ceil(MIB);
    // The copy of the GPT needs room behind the last partition.
    blank(image, PARTITION_OFFSET / MIB + size_mib + 1)?;
    match table {
        Table::Gpt => run(setup::program("sgdisk")?
            .args(["-n", "1:1M:+8M", "-n"])
            .arg(format!("2:9M:+{size_mib}M"))
            .args(["-u", &format!("2:{id}")])
            .arg(image))?,
        Table::Mbr => {
            let text = format!(
                "label: dos\nlabel-id: 0x{id}\nstart=1MiB, size=8MiB\nstart=9MiB, size={size_mib}MiB\n"
            );
            let script = "printf %s \"$2\" | \"$0\" -q \"$1\"";
            let sfdisk = setup::find_program("sfdisk").context("sfdisk is not installed")?;
            run(Command::new("sh")
                .args(["-c", script])
                .arg(sfdisk)
                .arg(image)
                .arg(text))?
        }
    };
    copy_sparse(content, 0, image, PARTITION_OFFSET, u64::MAX)
}

/// Copies bytes from one image into another, leaving out blocks of zeros.
///
/// # Errors
/// Reading or writing fails.
pub fn copy_sparse(from: &Path, skip: u64, to: &Path, seek: u64, limit: u64) -> Result<()> {
    let mut input = File::open(from).with_context(|| format!("opening {}", from.display()))?;
    let mut output = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(to)
        .with_context(|| format!("opening {}", to.display()))?;
    input.seek(SeekFrom::Start(skip))?;
    let mut input = input.take(limit);
    let mut block = vec![0; 64 * 1024];
    let zeros = block.clone();
    let mut position = seek;
    loop {
        let length = input.read(&mut block)?;
        if length == 0 {
            break;
        }
        let data = &block[..length];
        if data != &zeros[..length] {
            output.seek(SeekFrom::Start(position))?;
            output.write_all(data)?;
        }
        position += length as u64;
    }
    if output.metadata()?.len() < position {
        output.set_len(position)?;
    }
    Ok(())
}

/// An ext2, ext3 or ext4 file system inside an image.
#[derive(Clone, Debug)]
pub struct ExtImage {
    /// The image.
    pub image: PathBuf,
    /// Where the file system begins in it.
    pub offset: u64,
}

impl ExtImage {
    /// The file system that fills the image.
    #[must_use]
    pub fn whole(image: impl Into<PathBuf>) -> Self {
        Self {
            image: image.into(),
            offset: 0,
        }
    }

    /// The one in the partition that [`partition`] made.
    #[must_use]
    pub fn in_partition(image: impl Into<PathBuf>) -> Self {
        Self {
            image: image.into(),
            offset: PARTITION_OFFSET,
        }
    }

    /// How e2fsprogs names it.
    fn operand(&self) -> OsString {
        if self.offset == 0 {
            return self.image.clone().into();
        }
        format!("{}?offset={}", self.image.display(), self.offset).into()
    }

    /// Runs one request of debugfs and returns what it printed.
    ///
    /// # Errors
    /// The file system cannot be opened, or debugfs complains.
    pub fn request(&self, request: &str) -> Result<String> {
        stdout(
            setup::program("debugfs")?
                .args(["-R", request])
                .arg(self.operand()),
        )
    }

    /// Notes in the superblock that the kernel found errors, as it does itself.
    ///
    /// # Errors
    /// The file system cannot be opened.
    pub fn record_errors(&self) -> Result<()> {
        // Source: Linux 6.12 `Documentation/filesystems/ext4/super.rst`, s_state: 2 is "errors detected".
        run(setup::program("debugfs")?
            .args(["-w", "-R", "set_super_value state 2"])
            .arg(self.operand()))?;
        Ok(())
    }

    /// Copies the folder `path` out, as a folder of that name below `to`. Modes are kept.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn copy_out(&self, path: &str, to: &Path) -> Result<PathBuf> {
        let copied = to.join(path.rsplit('/').next().unwrap_or(path));
        // debugfs leaves alone what is there already.
        if copied.exists() {
            fs::remove_dir_all(&copied)?;
        }
        fs::create_dir_all(to)?;
        self.request(&format!("rdump {path} {}", to.display()))?;
        if !copied.is_dir() {
            bail!("no folder {path} in {}", self.image.display());
        }
        Ok(copied)
    }

    /// Replays the journal of a file system that nobody unmounted, as the next mount would.
    ///
    /// # Errors
    /// It cannot be replayed.
    pub fn replay(&self) -> Result<()> {
        let script = "\"$@\" || [ $? = 1 ]";
        let e2fsck = setup::find_program("e2fsck").context("e2fsck is not installed")?;
        run(Command::new("sh")
            .args(["-c", script, "replay"])
            .arg(e2fsck)
            .args(["-y", "-E", "journal_only"])
            .arg(self.operand()))?;
        Ok(())
    }

    /// Checks that the file system was left clean: nothing to repair, no journal to replay.
    ///
    /// # Errors
    /// What e2fsck found.
    pub fn check(&self) -> Result<()> {
        run(setup::program("e2fsck")?
            .args(["-f", "-n"])
            .arg(self.operand()))?;
        let features = stdout(setup::program("dumpe2fs")?.arg("-h").arg(self.operand()))?;
        if features.contains("needs_recovery") {
            bail!(
                "{} was not unmounted: its journal needs recovery",
                self.image.display()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_into_a_partition_comes_out_of_it() {
        let folder = std::env::temp_dir().join(format!("kdumprd-disk-{}", std::process::id()));
        let content = folder.join("content/var/crash");
        fs::create_dir_all(&content).unwrap();
        fs::write(content.join("word"), "kept").unwrap();
        let filesystem = folder.join("fs.img");
        let top = folder.join("content");
        let ext = Ext {
            content: Some(&top),
            ..Ext::new("ext3", 16)
        };
        ext.make(&filesystem).unwrap();
        for (table, id) in [
            (Table::Gpt, "5f2c5c6e-8b6f-4f0e-9a35-0d6a7a1c9d10"),
            (Table::Mbr, "1a2b3c4d"),
        ] {
            let disk = folder.join(format!("{table:?}.img"));
            partition(&disk, table, id, &filesystem).unwrap();
            let inside = ExtImage::in_partition(&disk);
            let out = folder.join(format!("{table:?}"));
            let copied = inside.copy_out("/var/crash", &out).unwrap();
            assert_eq!(fs::read_to_string(copied.join("word")).unwrap(), "kept");
            inside.check().unwrap();
            inside.copy_out("/no/such", &out).unwrap_err();
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_failing_disk_passes_the_asked_number_of_writes() {
        let disk = Disk {
            fault: Fault::WritesFailAfter(2),
            ..Disk::new("/tmp/a,b", Bus::Virtio)
        };
        let text: Vec<String> = disk
            .arguments(0)
            .iter()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        assert!(text[1].ends_with("filename=/tmp/a,,b"), "{text:?}");
        assert!(text[3].contains("set-state.1.new_state=3"), "{text:?}");
        assert!(text[3].contains("inject-error.0.state=3"), "{text:?}");
    }
}
