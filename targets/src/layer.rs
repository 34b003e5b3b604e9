// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts together what is made of other devices: logical volumes of LVM2, arrays of md, what LUKS encrypted. Without their tools: the members are
//! found by what they say of themselves, and the kernel is told which they are.
//!
//! ```text
//! Layer ─▶ assemble ─┬─▶ lvm: physical volumes ─▶ newest metadata ─▶ segments ─▶ the device mapper's table
//!                    ├─▶ md: members by array UUID ─▶ SET_ARRAY_INFO, ADD_NEW_DISK, RUN_ARRAY
//!                    └─▶ luks: device by UUID ─▶ header as recorded ─▶ dm-crypt's line with the image's volume key
//! ```
//! What is there already, as an earlier attempt put it together, is left as it is.

mod crypt;
mod device_mapper;
mod json;
pub mod luks;
pub mod lvm;
mod lvm_text;
pub mod md;

pub use crypt::{ActiveError, with_active_key};
pub(crate) use device_mapper::Buffer;

use crate::Uuid;
use crate::clock::now;
use crate::io::{Disk, io, path};
use crate::superblock::{self, Identity, Kind};
use crate::sys::{MdMember, md_add, md_run, md_set_version, md_stop};
use crate::sysfs::{KernelName, Roots, System};
use crate::text::{Name, Text};
use crate::uevent::Listener;
use collector::IoError;
use config::Layer;
use core::fmt;
use core::time::Duration;
use device_mapper::{DeviceMapper, Table};
use heapless::Vec;
use luks::LuksError;
use lvm::{Group, LvmError, PhysicalVolume, Segment};
use md::{MAX_MEMBERS, Member};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, write};

/// How long to wait for an event before looking again all the same.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long what is not needed, and yet belongs to a volume group or an array, is waited for: a disk that comes late makes
/// no degraded array, and has perhaps the newer metadata.
const GRACE: Duration = Duration::from_secs(10);
/// The most physical volumes that are looked at.
const MAX_VOLUMES: usize = 64;
/// Of an array that the host calls by no number, and of one whose number is taken.
const ARRAY_NUMBERS: core::ops::RangeInclusive<u32> = 100..=127;

/// Why a device is not put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerError {
    /// sysfs or devtmpfs cannot be read.
    NoDeviceTree(IoError),
    /// Nothing of it came in time: how long was waited, in milliseconds.
    Absent(Name, u64),
    /// A part of it did not come in time: its UUID.
    PartAbsent(Name, Uuid, u64),
    /// Too few of its parts came in time: how many, and how many are needed.
    TooFew(Name, u32, u32, u64),
    /// Two devices say that they are the same part.
    Twins([KernelName; 2]),
    /// Its metadata does not say what it is made of.
    Lvm(Name, LvmError),
    /// Its LUKS header cannot be used.
    Luks(Name, LuksError),
    /// Its LUKS header is no longer the one that was recorded.
    EncryptedAnew(Name),
    /// It has more pieces than one call to the kernel takes.
    TooManyPieces(Name),
    /// The kernel refused: what was being done.
    Kernel(Name, &'static str, IoError),
}

impl fmt::Display for LayerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = |f: &mut fmt::Formatter<'_>, ms: u64| {
            let tenths = ms / 100;
            write!(f, " within {}.{} s", tenths / 10, tenths % 10)
        };
        match self {
            Self::NoDeviceTree(error) => {
                write!(f, "listing the block devices in /sys and /dev: {error}")
            }
            Self::Absent(name, ms) => {
                write!(f, "putting {name} together: no part of it came")?;
                within(f, *ms)
            }
            Self::PartAbsent(name, uuid, ms) => {
                write!(f, "putting {name} together: its part {uuid} did not come")?;
                within(f, *ms)
            }
            Self::TooFew(name, there, needed, ms) => {
                write!(f, "putting {name} together: {there} of its parts came")?;
                within(f, *ms)?;
                write!(f, ", and it needs {needed}")
            }
            Self::Twins([first, second]) => write!(
                f,
                "{first} and {second} both say that they are the same part of a whole, and are not paths to one disk"
            ),
            Self::Lvm(name, error) => write!(f, "putting {name} together: {error}"),
            Self::Luks(name, error) => write!(f, "putting {name} together: {error}"),
            Self::EncryptedAnew(name) => write!(
                f,
                "putting {name} together: its LUKS header is not the one of which the image has the volume key; rebuild the \
                 kdump image"
            ),
            Self::TooManyPieces(name) => write!(
                f,
                "putting {name} together: it has more pieces than one call to the kernel takes"
            ),
            Self::Kernel(name, doing, error) => {
                write!(f, "putting {name} together: {doing}: {error}")
            }
        }
    }
}

impl core::error::Error for LayerError {}

/// What putting together needs of its caller.
pub struct Means<'c> {
    /// Where sysfs and devtmpfs are.
    pub roots: Roots<'c>,
    /// How long to wait for the parts.
    pub patience: Duration,
    /// For LVM's metadata and LUKS' header.
    pub memory: &'c mut [u8],
    /// Called at least four times a second.
    pub tick: &'c mut dyn FnMut(),
    /// What a person should know.
    pub tell: &'c mut dyn FnMut(fmt::Arguments<'_>),
}

/// Puts the device together, when it is not yet there.
///
/// # Errors
/// See [`LayerError`]. Nothing half made is left.
pub fn assemble(layer: &Layer<'_>, means: &mut Means<'_>) -> Result<(), LayerError> {
    let system = System::open(&means.roots).map_err(LayerError::NoDeviceTree)?;
    let work = Work {
        system,
        listener: Listener::new(),
        name: Name::new(layer.name().as_bytes()),
        start: now(),
        patience: means.patience,
    };
    match layer {
        Layer::Lvm {
            group,
            volume,
            name,
        } => work.lvm(group, volume, name, means),
        Layer::Md { array, name } => work.md(array, name, means),
        Layer::Luks { luks, name } => work.luks(luks, name, means),
    }
}

struct Work {
    system: System,
    /// Listened to from before the first look on.
    listener: Listener,
    name: Name,
    start: Duration,
    patience: Duration,
}

/// A physical volume and the device that it is on.
type Volumes = Vec<(Uuid, KernelName), MAX_VOLUMES>;

impl Work {
    fn waited(&self) -> Duration {
        now().saturating_sub(self.start)
    }

    fn waited_ms(&self) -> u64 {
        u64::try_from(self.waited().as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits for the next look. False when there is no time left for one.
    fn wait(&self) -> bool {
        match self.patience.checked_sub(self.waited()) {
            Some(left) if !left.is_zero() => {
                self.listener.wait(left.min(LOOK_AGAIN));
                true
            }
            _ => false,
        }
    }

    fn failed(&self, doing: &'static str) -> impl Fn(IoError) -> LayerError {
        let name = self.name;
        move |error| LayerError::Kernel(name, doing, error)
    }

    fn open(&self, device: &KernelName) -> Result<Disk, IoError> {
        let node = System::node_name(device);
        Disk::open(&self.system.dev, node.as_str().unwrap_or_default())
    }

    /// Shows `visit` the devices that hold a part of this kind.
    fn each_part(
        &self,
        kind: Kind,
        tick: &mut dyn FnMut(),
        visit: &mut dyn FnMut(&KernelName, &mut Disk, &Identity) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        let mut result = Ok(());
        let listed = self.system.each_block_device(&mut |name| {
            let has_size = self.system.size_bytes(name).is_some_and(|size| size > 0);
            if result.is_err() || !has_size || crate::device::is_slow_medium(name) {
                return;
            }
            tick();
            // What cannot be read is not there.
            if let Ok(mut disk) = self.open(name)
                && let Ok(Some(identity)) = superblock::identify(&mut disk)
                && identity.kind == kind
            {
                result = visit(name, &mut disk, &identity);
            }
        });
        listed.map_err(LayerError::NoDeviceTree)?;
        result
    }

    /// Of two devices with the same content, one of them is enough where both are paths to one disk.
    fn check_twins(&self, first: &KernelName, second: &KernelName) -> Result<(), LayerError> {
        if self.system.is_same_disk(first, second) {
            return Ok(());
        }
        Err(LayerError::Twins([*first, *second]))
    }

    fn lvm(
        &self,
        group: &str,
        volume: &str,
        name: &str,
        means: &mut Means<'_>,
    ) -> Result<(), LayerError> {
        let uuid = mapping_uuid(group, volume);
        if self.has_mapping(uuid.as_bytes()) {
            return Ok(());
        }
        loop {
            (means.tick)();
            let volumes = self.volumes(means.tick)?;
            let mut missing = None;
            if let Some(text) = self.newest(&volumes, group, means.memory)? {
                let group = Group::parse(text).ok_or(self.lvm_error(LvmError::NoMetadata))?;
                missing = self.missing(&group, volume, &volumes)?;
                let is_whole = group
                    .physical_volumes()
                    .all(|uuid| device_of(&volumes, uuid).is_some());
                if missing.is_none() && (is_whole || self.waited() >= GRACE.min(self.patience)) {
                    return self.map(&group, volume, &volumes, name, &uuid, means.roots.dev);
                }
            }
            if !self.wait() {
                return Err(match missing {
                    Some(uuid) => LayerError::PartAbsent(self.name, uuid, self.waited_ms()),
                    None => LayerError::Absent(self.name, self.waited_ms()),
                });
            }
        }
    }

    const fn lvm_error(&self, error: LvmError) -> LayerError {
        LayerError::Lvm(self.name, error)
    }

    fn has_mapping(&self, uuid: &[u8]) -> bool {
        let mut found = false;
        // What cannot be listed is seen to later.
        let _ = self.system.each_block_device(&mut |name| {
            let is_it = self
                .system
                .mapping_uuid(name)
                .is_some_and(|known| known.as_bytes() == uuid);
            found |= is_it && self.system.size_bytes(name).is_some_and(|size| size > 0);
        });
        found
    }

    fn volumes(&self, tick: &mut dyn FnMut()) -> Result<Volumes, LayerError> {
        let mut volumes = Volumes::new();
        self.each_part(Kind::LvmMember, tick, &mut |name, disk, _| {
            let Ok(Some(found)) = PhysicalVolume::read(disk) else {
                return Ok(());
            };
            if let Some(twin) = device_of(&volumes, found.uuid.as_bytes()) {
                return self.check_twins(twin, name);
            }
            // Those beyond are missed, and said to be missing.
            let _ = volumes.push((found.uuid, *name));
            Ok(())
        })?;
        Ok(volumes)
    }

    /// The newest metadata of the volume group; none when no physical volume of it is there.
    fn newest<'m>(
        &self,
        volumes: &Volumes,
        group: &str,
        memory: &'m mut [u8],
    ) -> Result<Option<&'m str>, LayerError> {
        let mut best: Option<(u64, &KernelName)> = None;
        for (_, name) in volumes {
            let sequence = self
                .metadata(name, memory)
                .ok()
                .and_then(Group::parse)
                .filter(|found| found.uuid == group)
                .map(|found| found.sequence);
            if let Some(sequence) = sequence
                && best.is_none_or(|(known, _)| sequence > known)
            {
                best = Some((sequence, name));
            }
        }
        match best {
            Some((_, name)) => self
                .metadata(name, memory)
                .map(Some)
                .map_err(|error| self.lvm_error(error)),
            None => Ok(None),
        }
    }

    fn metadata<'m>(&self, device: &KernelName, memory: &'m mut [u8]) -> Result<&'m str, LvmError> {
        let mut disk = self.open(device)?;
        let volume = PhysicalVolume::read(&mut disk)?.ok_or(LvmError::NoMetadata)?;
        volume.metadata(&mut disk, memory)
    }

    /// A physical volume that the logical one is on and that is not there.
    fn missing(
        &self,
        group: &Group<'_>,
        volume: &str,
        volumes: &Volumes,
    ) -> Result<Option<Uuid>, LayerError> {
        let mut missing = None;
        group
            .segments(volume, &mut |segment: &Segment<'_>| {
                for (uuid, _) in &segment.stripes {
                    if device_of(volumes, uuid.as_bytes()).is_none() {
                        missing = Some(Uuid::new(uuid.as_bytes()));
                    }
                }
                Ok(())
            })
            .map_err(|error| self.lvm_error(error))?;
        Ok(missing)
    }

    fn map(
        &self,
        group: &Group<'_>,
        volume: &str,
        volumes: &Volumes,
        name: &str,
        uuid: &Text<80>,
        dev: &str,
    ) -> Result<(), LayerError> {
        let mut table = Table::new();
        let mut fits = true;
        group
            .segments(volume, &mut |segment: &Segment<'_>| {
                fits &= self.push(&mut table, segment, volumes);
                Ok(())
            })
            .map_err(|error: LvmError| self.lvm_error(error))?;
        if !fits {
            return Err(LayerError::TooManyPieces(self.name));
        }
        DeviceMapper::open(dev)
            .map_err(self.failed("opening the device mapper"))?
            .make(name, uuid.as_str().unwrap_or_default(), &mut table)
            .map_err(self.failed("making the mapping"))
    }

    fn push(&self, table: &mut Table, segment: &Segment<'_>, volumes: &Volumes) -> bool {
        let mut places: Text<255> = Text::EMPTY;
        for (uuid, start) in &segment.stripes {
            let numbers =
                device_of(volumes, uuid.as_bytes()).and_then(|name| self.system.numbers(name));
            let Some((major, minor)) = numbers else {
                return false;
            };
            let _ = fmt::write(&mut places, format_args!(" {major}:{minor} {start}"));
        }
        let (start, length) = (segment.start_sectors, segment.sectors);
        if places.is_cut() {
            return false;
        }
        match segment.stripes.len() {
            1 => table.push(start, length, "linear", format_args!("{places}")),
            count => table.push(
                start,
                length,
                "striped",
                format_args!("{count} {}{places}", segment.stripe_sectors),
            ),
        }
    }

    fn md(&self, array: &str, name: &str, means: &mut Means<'_>) -> Result<(), LayerError> {
        loop {
            (means.tick)();
            let members = self.members(array, means.tick)?;
            // One that is taken is in the array that an earlier attempt made.
            if members
                .iter()
                .any(|(_, name)| self.system.has_holders(name))
            {
                return Ok(());
            }
            // Of members that disagree, those that know of fewer changes were left behind.
            let events = members
                .iter()
                .map(|(member, _)| member.events)
                .max()
                .unwrap_or(0);
            let is_fresh = |member: &Member| member.events.saturating_add(1) >= events;
            let there = members
                .iter()
                .filter(|(member, _)| is_fresh(member))
                .count();
            let there = u32::try_from(there).unwrap_or(u32::MAX);
            if let Some((first, _)) = members.iter().find(|(member, _)| is_fresh(member)) {
                let is_enough = there >= first.least() && self.waited() >= GRACE.min(self.patience);
                if there >= first.devices || is_enough {
                    if there < first.devices {
                        (means.tell)(format_args!(
                            "{name}: {there} of {} devices are there, and it is used as it is",
                            first.devices
                        ));
                    }
                    return self.run(first, &members, name);
                }
                if !self.wait() {
                    return Err(LayerError::TooFew(
                        self.name,
                        there,
                        first.least(),
                        self.waited_ms(),
                    ));
                }
            } else if !self.wait() {
                return Err(LayerError::Absent(self.name, self.waited_ms()));
            }
        }
    }

    fn members(
        &self,
        array: &str,
        tick: &mut dyn FnMut(),
    ) -> Result<Vec<(Member, KernelName), MAX_MEMBERS>, LayerError> {
        let mut members: Vec<(Member, KernelName), MAX_MEMBERS> = Vec::new();
        self.each_part(Kind::RaidMember, tick, &mut |name, disk, _| {
            let Ok(Some(member)) = Member::read(disk) else {
                return Ok(());
            };
            if member.array != *array || member.place.is_none() {
                return Ok(());
            }
            let twin = members
                .iter()
                .find(|(known, _)| known.place == member.place);
            if let Some((_, twin)) = twin {
                return self.check_twins(twin, name);
            }
            let _ = members.push((member, *name));
            Ok(())
        })?;
        Ok(members)
    }

    fn run(
        &self,
        first: &Member,
        members: &[(Member, KernelName)],
        name: &str,
    ) -> Result<(), LayerError> {
        let node = self.new_array(name)?;
        let array = self
            .open_array(&node)
            .map_err(self.failed("opening the new array"))?;
        let made = md_set_version(&array, first.minor_version)
            .map_err(|errno| ("announcing its version", errno))
            .and_then(|()| {
                members.iter().try_for_each(|(_, name)| {
                    let (major, minor) = self.system.numbers(name).unwrap_or((0, 0));
                    md_add(&array, MdMember { major, minor })
                        .map_err(|errno| ("adding a device", errno))
                })
            })
            .and_then(|()| md_run(&array).map_err(|errno| ("starting it", errno)));
        if let Err((doing, errno)) = made {
            md_stop(&array);
            return Err(LayerError::Kernel(self.name, doing, io(errno)));
        }
        // A resync would take the disks' time from the dump; the next boot does it.
        let _ = self.write_attribute(format_args!("class/block/{node}/md/sync_action"), b"frozen");
        Ok(())
    }

    /// Has the kernel make an array without members, and returns its name.
    fn new_array(&self, wanted: &str) -> Result<KernelName, LayerError> {
        let is_free = |name: &KernelName| self.system.number(name, "size").is_none();
        let own = wanted
            .strip_prefix("md")
            .and_then(|number| number.parse::<u32>().ok())
            .into_iter();
        let node = own
            .chain(ARRAY_NUMBERS.rev())
            .map(|number| KernelName::format(format_args!("md{number}")))
            .find(is_free)
            .ok_or(LayerError::TooManyPieces(self.name))?;
        let parameter = format_args!("module/md_mod/parameters/new_array");
        self.write_attribute(parameter, node.as_bytes())
            .map_err(self.failed("having the kernel make an array"))?;
        Ok(node)
    }

    fn open_array(&self, node: &KernelName) -> Result<OwnedFd, IoError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let node = node.as_str().unwrap_or_default();
        openat(&self.system.dev, node, flags, Mode::empty()).map_err(io)
    }

    fn write_attribute(&self, below_sys: fmt::Arguments<'_>, value: &[u8]) -> Result<(), IoError> {
        let path = path::<128>(below_sys)?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let path = path.as_str().unwrap_or_default();
        let fd = openat(&self.system.sys, path, flags, Mode::empty()).map_err(io)?;
        match write(&fd, value) {
            Ok(length) if length == value.len() => Ok(()),
            Ok(_) => Err(io(Errno::IO)),
            Err(errno) => Err(io(errno)),
        }
    }
}

fn device_of(volumes: &Volumes, uuid: impl AsRef<[u8]>) -> Option<&KernelName> {
    volumes
        .iter()
        .find(|(known, _)| known.as_bytes() == uuid.as_ref())
        .map(|(_, name)| name)
}

/// What LVM has the device mapper know a logical volume by.
fn mapping_uuid(group: &str, volume: &str) -> Text<80> {
    let mut text = Text::new(b"LVM-");
    for part in [group, volume] {
        for piece in part.split('-') {
            text.push(piece.as_bytes());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_of_lvm_is_known_by_both_uuids_without_dashes() {
        assert_eq!(
            mapping_uuid(
                "aaaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg",
                "111111-2222-3333-4444-5555-6666-777777"
            )
            .to_string(),
            "LVM-aaaaaabbbbccccddddeeeeffffgggggg11111122223333444455556666777777"
        );
    }

    #[test]
    fn errors_say_what_was_put_together() {
        let name = Name::new(b"md0");
        assert_eq!(
            LayerError::TooFew(name, 1, 2, 5040).to_string(),
            "putting md0 together: 1 of its parts came within 5.0 s, and it needs 2"
        );
        assert_eq!(
            LayerError::Kernel(name, "starting it", IoError(22)).to_string(),
            "putting md0 together: starting it: EINVAL"
        );
    }
}
