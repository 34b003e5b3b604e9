// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waits for a block device that is known by what it is: UUID, label, PARTUUID, place on the bus, or name.
//!
//! There is no udev in the capture kernel. The kernel makes the nodes (devtmpfs) and lists the devices (sysfs); what is
//! on them is read here.

use crate::clock::now;
use crate::io::Disk;
use crate::partition_table;
use crate::superblock::{self, Identity};
use crate::sysfs::{KernelName, System};
use crate::text::{Name, Text};
use crate::uevent::Listener;
use crate::{Uuid, bus_path};
use collector::{IoError, Source as _};
use config::{DeviceId, DeviceSpec};
use core::fmt;
use core::time::Duration;
use heapless::Vec;

pub use crate::sysfs::Roots;

/// How long to wait for an event before looking again all the same: some drivers set a size without saying so.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How many devices are remembered for the message; a machine may have thousands, and all of them are looked at.
const REMEMBERED: usize = 32;
/// How many of them one line of the log can take.
const SHOWN: usize = 8;

/// A device that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its node: `/dev/vdb1`.
    pub node: Name,
    /// Its name in sysfs: `vdb1`.
    pub name: KernelName,
    /// Its size.
    pub size_bytes: u64,
    /// The kernel takes no writes to it.
    pub is_read_only: bool,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.node)
    }
}

/// A device that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name in sysfs.
    pub name: KernelName,
    /// Its size.
    pub size_bytes: u64,
    /// What is on it, as far as it was read.
    pub content: Content,
}

/// What is on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// It was not read: the name or the size said that it is another device.
    NotRead,
    /// It could not be read.
    Unreadable(IoError),
    /// Nothing that this program knows.
    Unknown,
    /// A file system, or something else that is known.
    Known(Identity),
    /// A partition table; what is in the partitions is told with them.
    Partitioned,
    /// It was asked for its PARTUUID; empty when it is no partition or its table gives none.
    Partition(Uuid),
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes", self.name, self.size_bytes)?;
        match &self.content {
            Content::NotRead => {}
            Content::Unreadable(error) => write!(f, ", unreadable: {error}")?,
            Content::Unknown => f.write_str(", no known content")?,
            Content::Known(identity) => write!(f, ", {identity}")?,
            Content::Partitioned => f.write_str(", a partition table")?,
            Content::Partition(uuid) if uuid.is_empty() => f.write_str(", no PARTUUID")?,
            Content::Partition(uuid) => write!(f, ", PARTUUID={uuid}")?,
        }
        f.write_str(")")
    }
}

/// The devices that were there at the last look; for the next look and for the message.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    candidates: Vec<Candidate, REMEMBERED>,
    left_out: u32,
}

impl Survey {
    /// Before the first look.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            candidates: Vec::new(),
            left_out: 0,
        }
    }

    /// The devices of the last look, as many as are remembered.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// What an earlier look read of this device, unless it failed then.
    fn remembered(&self, name: &KernelName, size_bytes: u64) -> Option<Content> {
        self.candidates
            .iter()
            .find(|known| known.name == *name && known.size_bytes == size_bytes)
            .map(|known| known.content)
            .filter(|content| !matches!(content, Content::Unreadable(_) | Content::NotRead))
    }

    fn remember(&mut self, candidate: Candidate) {
        if self.candidates.push(candidate).is_err() {
            self.left_out = self.left_out.saturating_add(1);
        }
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.candidates.is_empty() {
            return f.write_str("the kernel has no block device at all");
        }
        f.write_str("there are: ")?;
        // What has an identity is what a person compares with; it comes first, as the line may not have room for all.
        let has_identity = |candidate: &&Candidate| match candidate.content {
            Content::Known(_) => true,
            Content::Partition(uuid) => !uuid.is_empty(),
            _ => false,
        };
        let first = self.candidates.iter().filter(has_identity);
        let last = self
            .candidates
            .iter()
            .filter(|candidate| !has_identity(candidate));
        for (position, candidate) in first.chain(last).take(SHOWN).enumerate() {
            if position > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{candidate}")?;
        }
        let shown = self.candidates.len().min(SHOWN);
        let rest = (self.candidates.len() - shown) as u64 + u64::from(self.left_out);
        if rest > 0 {
            write!(f, " and {rest} more")?;
        }
        Ok(())
    }
}

/// Why there is no device to write to.
#[derive(Clone, Copy, Debug)]
pub enum DeviceError<'s> {
    /// sysfs or devtmpfs cannot be read.
    NoDeviceTree(IoError),
    /// No device of this identity came in time.
    Absent {
        /// What was looked for.
        wanted: &'s DeviceSpec<'s>,
        /// How long, in milliseconds.
        waited_ms: u64,
        /// A device that has the identity and another size than recorded.
        other_size: Option<(KernelName, u64)>,
        /// What was there instead.
        survey: &'s Survey,
    },
    /// Two devices have the identity, and the recorded size does not tell them apart.
    Ambiguous {
        /// What was looked for.
        wanted: &'s DeviceSpec<'s>,
        /// The first two that have it.
        names: [KernelName; 2],
    },
}

impl fmt::Display for DeviceError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDeviceTree(error) => {
                write!(f, "listing the block devices in /sys and /dev: {error}")
            }
            Self::Absent {
                wanted,
                waited_ms,
                other_size,
                survey,
            } => {
                write!(f, "no device {wanted}")?;
                if let Some(size_bytes) = wanted.size_bytes {
                    write!(f, " of {size_bytes} bytes")?;
                }
                let tenths = waited_ms / 100;
                write!(f, " within {}.{} s; ", tenths / 10, tenths % 10)?;
                if let Some((name, size_bytes)) = other_size {
                    write!(
                        f,
                        "{name} has that identity but {size_bytes} bytes, so it is another device \
                         or was resized (rebuild the kdump image); "
                    )?;
                }
                write!(f, "{survey}")
            }
            Self::Ambiguous {
                wanted,
                names: [first, second],
            } => write!(
                f,
                "{first} and {second} both have {wanted}; give one of them an identity of its own"
            ),
        }
    }
}

impl core::error::Error for DeviceError<'_> {}

/// Waits until the device of `spec` is there, for at most `patience`. The first look is immediate; with no patience it is
/// the only one. `tick` is called at least four times a second.
///
/// # Errors
/// See [`DeviceError`]; it borrows `survey`, which holds what was there.
pub fn wait<'s>(
    spec: &'s DeviceSpec<'s>,
    roots: &Roots<'_>,
    patience: Duration,
    survey: &'s mut Survey,
    tick: &mut dyn FnMut(),
) -> Result<Found, DeviceError<'s>> {
    let start = now();
    // Listen first: what comes between the look and the wait is not missed.
    let listener = Listener::new();
    let system = System::open(roots).map_err(DeviceError::NoDeviceTree)?;
    loop {
        if let Some(one) = look_at_known(&system, roots, spec) {
            return Ok(found(&system, roots, &one));
        }
        let matches = look(&system, spec, Reading::Likely, survey, tick)?;
        tick();
        match *matches.right.as_slice() {
            [] => {}
            [ref only] => return Ok(found(&system, roots, only)),
            [ref first, ref rest @ ..]
                if rest
                    .iter()
                    .all(|other| system.is_same_disk(&first.name, &other.name)) =>
            {
                // Paths to one disk: the first that answers.
                let live = matches
                    .right
                    .iter()
                    .find(|path| answers(&system, &path.name));
                return Ok(found(&system, roots, live.unwrap_or(first)));
            }
            [ref first, ref second, ..] => {
                return Err(DeviceError::Ambiguous {
                    wanted: spec,
                    names: [first.name, second.name],
                });
            }
        }
        let waited = now().saturating_sub(start);
        let Some(left) = patience.checked_sub(waited).filter(|left| !left.is_zero()) else {
            // Once more, reading what the size ruled out, so that the message can say what it is.
            let matches = look(&system, spec, Reading::Everything, survey, tick)?;
            return Err(DeviceError::Absent {
                wanted: spec,
                waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
                other_size: matches.other_size,
                survey,
            });
        };
        listener.wait(left.min(LOOK_AGAIN));
    }
}

/// Which devices a look reads from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Those that may be the one: the recorded size is known without reading.
    Likely,
    /// All of them.
    Everything,
}

struct Match {
    name: KernelName,
    size_bytes: u64,
}

#[derive(Default)]
struct Matches {
    /// Identity and size are right.
    right: Vec<Match, 8>,
    /// The identity is right and the size is not.
    other_size: Option<(KernelName, u64)>,
}

/// The device that has the name the host knew it by, when it has the identity and the size too. It has the last word
/// between equals, so that no other needs to be read: with many disks, or with one that answers to nothing, that counts.
fn look_at_known(system: &System, roots: &Roots<'_>, spec: &DeviceSpec<'_>) -> Option<Match> {
    let below_dev = spec.known_as.strip_prefix(roots.dev)?.strip_prefix('/')?;
    let mut name = KernelName::EMPTY;
    for byte in below_dev.bytes() {
        name.push(&[if byte == b'/' { b'!' } else { byte }]);
    }
    let size_bytes = system.size_bytes(&name).filter(|&size| size > 0)?;
    let has_size = spec.size_bytes.is_none_or(|wanted| wanted == size_bytes);
    (has_size && examine(system, spec, &name, None, true).0).then_some(Match { name, size_bytes })
}

fn look<'s>(
    system: &System,
    spec: &DeviceSpec<'_>,
    reading: Reading,
    survey: &mut Survey,
    tick: &mut dyn FnMut(),
) -> Result<Matches, DeviceError<'s>> {
    let mut matches = Matches::default();
    let earlier = core::mem::take(survey);
    let listed = system.each_block_device(&mut |name| {
        let Some(size_bytes) = system.size_bytes(name).filter(|&size| size > 0) else {
            return;
        };
        if is_slow_medium(name) && !matches!(spec.id, DeviceId::Node(_)) {
            return;
        }
        let has_size = spec.size_bytes.is_none_or(|wanted| wanted == size_bytes);
        let may_read = has_size || reading == Reading::Everything;
        let remembered = earlier.remembered(name, size_bytes);
        let (is_it, content) = examine(system, spec, name, remembered, may_read);
        if is_it && has_size {
            // A ninth device of one identity changes nothing about the error.
            let _ = matches.right.push(Match {
                name: *name,
                size_bytes,
            });
        } else if is_it {
            matches.other_size = matches.other_size.or(Some((*name, size_bytes)));
        }
        survey.remember(Candidate {
            name: *name,
            size_bytes,
            content,
        });
        tick();
    });
    listed.map_err(DeviceError::NoDeviceTree)?;
    Ok(matches)
}

/// Whether the device has the identity, and what was learnt of it on the way.
fn examine(
    system: &System,
    spec: &DeviceSpec<'_>,
    name: &KernelName,
    remembered: Option<Content>,
    may_read: bool,
) -> (bool, Content) {
    let superblock = || {
        remembered
            .filter(|content| !matches!(content, Content::Partition(_)))
            .unwrap_or_else(|| read_superblock(system, name))
    };
    match spec.id {
        DeviceId::Uuid(_) | DeviceId::Label(_) | DeviceId::PartUuid(_) if !may_read => {
            (false, Content::NotRead)
        }
        DeviceId::Uuid(uuid) => {
            let content = superblock();
            let is_it = matches!(content, Content::Known(identity)
                if identity.uuid.as_bytes().eq_ignore_ascii_case(uuid.as_bytes()));
            (is_it && !system.has_holders(name), content)
        }
        DeviceId::Label(label) => {
            let content = superblock();
            let is_it = matches!(content, Content::Known(identity) if identity.label == *label);
            (is_it && !system.has_holders(name), content)
        }
        DeviceId::PartUuid(uuid) => {
            let content = remembered.unwrap_or_else(|| read_partuuid(system, name));
            let is_it = matches!(content, Content::Partition(found)
                if found.as_bytes().eq_ignore_ascii_case(uuid.as_bytes()));
            (is_it, content)
        }
        DeviceId::BusPath(path) => (
            bus_path::matches(system, name, path),
            if may_read {
                Content::NotRead
            } else {
                superblock()
            },
        ),
        DeviceId::Wwid(wwid) => (
            system.has_world_wide_name(name, wwid),
            if may_read {
                Content::NotRead
            } else {
                superblock()
            },
        ),
        DeviceId::Node(node) => (
            has_node(system, name, node),
            if may_read {
                Content::NotRead
            } else {
                superblock()
            },
        ),
    }
}

/// The device can be read.
fn answers(system: &System, name: &KernelName) -> bool {
    let node = System::node_name(name);
    Disk::open(&system.dev, node.as_str().unwrap_or_default())
        .is_ok_and(|mut disk| disk.read_at(0, &mut [0; 512]).is_ok())
}

fn has_node(system: &System, name: &KernelName, node: &str) -> bool {
    let below_dev = node.strip_prefix("/dev/").unwrap_or(node);
    match below_dev.strip_prefix("mapper/") {
        Some(mapping) => system
            .mapping_name(name)
            .is_some_and(|found| found == *mapping),
        None => System::node_name(name) == *below_dev,
    }
}

fn read_superblock(system: &System, name: &KernelName) -> Content {
    let node = System::node_name(name);
    let content =
        Disk::open(&system.dev, node.as_str().unwrap_or_default()).and_then(|mut disk| {
            Ok(match superblock::identify(&mut disk)? {
                Some(identity) => Content::Known(identity),
                None if partition_table::is_present(&mut disk)? => Content::Partitioned,
                None => Content::Unknown,
            })
        });
    content.unwrap_or_else(Content::Unreadable)
}

fn read_partuuid(system: &System, name: &KernelName) -> Content {
    let (Some(number), Some(start), Some(disk)) = (
        system.number(name, "partition"),
        system.number(name, "start"),
        system.disk_of(name),
    ) else {
        return Content::Partition(Uuid::EMPTY);
    };
    let sector_bytes = system
        .number(&disk, "queue/logical_block_size")
        .and_then(|bytes| u32::try_from(bytes).ok())
        .unwrap_or(512);
    let node = System::node_name(&disk);
    let mut source = match Disk::open(&system.dev, node.as_str().unwrap_or_default()) {
        Ok(source) => source,
        Err(error) => return Content::Unreadable(error),
    };
    let mut uuid = Uuid::EMPTY;
    let read = partition_table::partitions(&mut source, sector_bytes, &mut |partition| {
        // The kernel read the table at its own time: the place must agree, not only the number.
        if u64::from(partition.number) == number && partition.start_bytes / 512 == start {
            uuid = partition.uuid;
        }
    });
    match read {
        Ok(_) => Content::Partition(uuid),
        Err(partition_table::TableError::Io(error)) => Content::Unreadable(error),
        Err(partition_table::TableError::BothGptDamaged) => Content::Partition(Uuid::EMPTY),
    }
}

/// Floppy and CD drives answer after seconds, and nobody dumps to them.
pub(crate) fn is_slow_medium(name: &KernelName) -> bool {
    ["fd", "sr"].iter().any(|prefix| {
        name.as_str()
            .and_then(|name| name.strip_prefix(prefix))
            .is_some_and(|rest| rest.parse::<u32>().is_ok())
    })
}

fn node(roots: &Roots<'_>, name: &KernelName) -> Name {
    Text::format(format_args!("{}/{}", roots.dev, System::node_name(name)))
}

fn found(system: &System, roots: &Roots<'_>, one: &Match) -> Found {
    Found {
        node: node(roots, &one.name),
        name: one.name,
        size_bytes: one.size_bytes,
        is_read_only: system.number(&one.name, "ro") == Some(1),
    }
}
