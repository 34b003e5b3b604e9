// SPDX-License-Identifier: MIT OR Apache-2.0
//! The record: everything that init needs to know, as a text in the image (`/etc/kdump.record`).
//!
//! Line-based, so that `cat` shows it and a person can read it on a console. The first line names the version. A line is
//! a keyword and its value, which runs to the end of the line; an indented line belongs to the last `attempt` or `root`.
//! ```text
//! kdumprd-record 1
//! kernel 6.1.0-56-cloud-amd64
//! hostname db7
//! zone CET-1CEST,M3.5.0,M10.5.0/3
//! failure_action dump_to_rootfs
//! final_action reboot
//! deadline device 180
//! debug_mem_level 1
//! keep_dumps 5
//! encrypt_to age1xmwwc06ly3ee5rytxm9mflaz2u56jjj36s0mypdrwsvlul66mv4q47ryef
//! watchdog 310 i6300ESB timer
//! module virtio_blk
//! module scsi_mod max_luns=1
//! hook kdump_pre /etc/kdump/before.sh
//! network
//!  nic eth0 52:54:00:12:34:56 pci-0000:00:03.0
//!  address eth0 dhcp4
//! fence_kdump 7410 10 0
//! fence_node 0 10.0.2.2 db8.example
//! layer luks 7c3e… 2 aes-xts-plain64 64 32768 dynamic 0 512 9f86… cryptdisk
//! layer lvm 3tLYyO-… a8bGBk-… vg0-root
//! attempt configured
//!  filesystem ext3
//!  device uuid 0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11
//!  known_as /dev/vdb1
//!  size_bytes 104857600
//!  path /var/crash
//!  collect kdump zlib 31
//! attempt configured
//!  nfs nas.example
//!  address 10.0.2.2
//!  export /srv/crash
//!  mount_options vers=4.2
//!  path /var/crash
//!  network 0
//!  collect kdump zlib 31
//! root
//!  filesystem ext4
//!  device uuid 5a7c2f3e-0d7e-4b55-9a52-1f8de0f6a9f4
//!  init /sbin/init
//! end
//! ```
//! Parsing is strict: an image of another version, or one that was damaged, must be noticed and not half obeyed.

mod block;
mod parse;
mod write;

pub use parse::parse;

use crate::action::{FailureAction, FinalAction};
use crate::collect::CollectOptions;
use crate::deadline::Deadlines;
use crate::fence::Fence;
use crate::hook::Hook;
use crate::layer::{Layer, MAX_LAYERS};
use crate::network::NetworkSpec;
use crate::target::{DeviceSpec, TargetSpec};
use crate::watchdog::Watchdog;
use core::fmt;
use heapless::Vec;

/// The version of the text form that this crate reads and writes.
pub const VERSION: u32 = 1;
/// The most modules that a record lists.
pub const MAX_MODULES: usize = 256;
/// The most attempts that a record lists.
pub const MAX_ATTEMPTS: usize = 8;
/// The most networks that a record lists.
pub const MAX_NETWORKS: usize = 4;
/// The most hooks that a record lists.
pub const MAX_HOOKS: usize = 32;
/// The most keys that a dump is encrypted to.
pub const MAX_KEYS: usize = 8;
/// Where the record lies in the image.
pub const PATH: &str = "/etc/kdump.record";

/// Everything that init needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The release of the kernel that the modules belong to, which is the capture kernel.
    pub kernel: &'a str,
    /// The host's name, for the log and the manifest.
    pub hostname: &'a str,
    /// The host's time zone as a POSIX `TZ` string (POSIX.1-2017 section 8.3), for the date in directory names.
    pub zone: &'a str,
    /// What to do when every attempt failed.
    pub failure_action: FailureAction,
    /// What to do when all is done.
    pub final_action: FinalAction,
    /// How long each step may take.
    pub deadlines: Deadlines,
    /// How much of its memory the capture kernel shows: 0 to 3.
    pub debug_mem_level: u8,
    /// How many dumps stay where the new one goes, with that; 0 for all.
    pub keep_dumps: u32,
    /// The public keys that dumps are encrypted to, as people write them; none for dumps that are not encrypted.
    pub encrypt_to: Vec<&'a str, MAX_KEYS>,
    /// The hardware watchdog that is fed by progress.
    pub watchdog: Option<Watchdog<'a>>,
    /// The modules in load order.
    pub modules: Vec<Module<'a>, MAX_MODULES>,
    /// The hooks in the order in which they run.
    pub hooks: Vec<Hook<'a>, MAX_HOOKS>,
    /// The ways to servers.
    pub networks: Vec<NetworkSpec<'a>, MAX_NETWORKS>,
    /// The cluster's nodes that are told of the dump.
    pub fence: Fence<'a>,
    /// The devices that are made of others, in the order of putting them together.
    pub layers: Vec<Layer<'a>, MAX_LAYERS>,
    /// The attempts in the order to be made.
    pub attempts: Vec<Attempt<'a>, MAX_ATTEMPTS>,
    /// The root file system, where the failure action needs it.
    pub root: Option<RootFilesystem<'a>>,
}

/// One kernel module, `/lib/modules/NAME.ko` in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'a> {
    /// Its name, as the file name has it, without directory and suffix.
    pub name: &'a str,
    /// Its parameters as `finit_module(2)` takes them; empty for none.
    pub options: &'a str,
}

/// One try at one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// Why it is in the list.
    pub role: Role,
    /// Where to.
    pub target: TargetSpec<'a>,
    /// What and how.
    pub collect: CollectOptions,
    /// The program that collects in place of init's own collector, with its arguments; the vmcore and the dumpfile come
    /// behind them.
    pub program: Option<&'a str>,
}

/// Why an attempt is in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The configuration names its target, or names none and means the root file system.
    Configured,
    /// It is what happens when the configured targets failed.
    DumpToRootfs,
}

impl Role {
    const fn word(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::DumpToRootfs => "dump_to_rootfs",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Configured, Self::DumpToRootfs]
            .into_iter()
            .find(|role| role.word() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The machine's root file system and the program that starts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootFilesystem<'a> {
    /// The type for `mount(2)`.
    pub fstype: &'a str,
    /// The device that holds it.
    pub device: DeviceSpec<'a>,
    /// Options for `mount(2)`'s data argument; empty for none.
    pub mount_options: &'a str,
    /// The machine's own init, a path below that root.
    pub init: &'a str,
}

/// Why a record cannot be obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError<'a> {
    /// The first line is no version line of ours.
    NotARecord,
    /// It is a record of a version that this program does not know.
    Version(&'a str),
    /// The keyword at this line is unknown, or stands where it cannot.
    Keyword(u32, &'a str),
    /// The value at this line cannot be taken.
    Value(u32, &'a str),
    /// The keyword at this line was there before.
    Repeated(u32, &'a str),
    /// Something that every record has is missing: its keyword.
    Missing(&'static str),
    /// The list that this keyword adds to is full at this line.
    TooMany(u32, &'a str),
    /// The last line is not `end`: the record was cut short.
    Cut,
}

impl fmt::Display for RecordError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARecord => f.write_str("not a kdumprd record"),
            Self::Version(version) => {
                write!(
                    f,
                    "record version {version}, but this init reads version {VERSION}"
                )
            }
            Self::Keyword(line, word) => write!(f, "record line {line}: unexpected keyword {word}"),
            Self::Value(line, value) => write!(f, "record line {line}: unusable value {value}"),
            Self::Repeated(line, word) => write!(f, "record line {line}: {word} is there twice"),
            Self::Missing(word) => write!(f, "record without {word}"),
            Self::TooMany(line, word) => write!(f, "record line {line}: too many of {word}"),
            Self::Cut => f.write_str("record cut short"),
        }
    }
}

impl core::error::Error for RecordError<'_> {}

#[cfg(test)]
mod tests;
