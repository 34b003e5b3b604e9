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
//! module virtio_blk
//! module scsi_mod max_luns=1
//! network
//!  nic eth0 52:54:00:12:34:56 pci-0000:00:03.0
//!  address eth0 dhcp4
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

use crate::action::{FailureAction, FinalAction};
use crate::collect::{CollectOptions, Compression, Format, parse_levels};
use crate::deadline::Deadlines;
use crate::network::{NetworkSpec, Server};
use crate::target::{DeviceId, DeviceSpec, HostKeys, TargetSpec};
use core::fmt::{self, Write as _};
use core::net::IpAddr;
use heapless::Vec;

/// The version of the text form that this crate reads and writes.
pub const VERSION: u32 = 1;
/// The most modules that a record lists.
pub const MAX_MODULES: usize = 256;
/// The most attempts that a record lists.
pub const MAX_ATTEMPTS: usize = 8;
/// The most networks that a record lists.
pub const MAX_NETWORKS: usize = 4;
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
    /// The modules in load order.
    pub modules: Vec<Module<'a>, MAX_MODULES>,
    /// The ways to servers.
    pub networks: Vec<NetworkSpec<'a>, MAX_NETWORKS>,
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
                    "record version {version}, but this init reads version {VERSION}; rebuild the image"
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

/// The lines of one indented block, before it is known whether they are complete.
#[derive(Default)]
struct Block<'a> {
    raw: bool,
    fstype: Option<&'a str>,
    device: Option<DeviceId<'a>>,
    known_as: Option<&'a str>,
    size_bytes: Option<u64>,
    mount_options: Option<&'a str>,
    path: Option<&'a str>,
    collect: Option<CollectOptions>,
    init: Option<&'a str>,
    nfs: Option<&'a str>,
    ssh: Option<&'a str>,
    port: Option<u16>,
    host_keys: HostKeys<'a>,
    export: Option<&'a str>,
    address: Option<IpAddr>,
    network: Option<usize>,
}

/// Which block the indented lines belong to.
enum Open {
    Nothing,
    Attempt(Role),
    Network,
    Root,
}

fn set<'a, T>(
    slot: &mut Option<T>,
    value: T,
    line: u32,
    keyword: &'a str,
) -> Result<(), RecordError<'a>> {
    if slot.replace(value).is_some() {
        Err(RecordError::Repeated(line, keyword))
    } else {
        Ok(())
    }
}

impl<'a> Block<'a> {
    fn take_line(
        &mut self,
        line: u32,
        keyword: &'a str,
        value: &'a str,
    ) -> Result<(), RecordError<'a>> {
        let wrong = RecordError::Value(line, value);
        match keyword {
            "raw" if value.is_empty() && !self.raw => {
                self.raw = true;
                Ok(())
            }
            "filesystem" if !value.is_empty() => set(&mut self.fstype, value, line, keyword),
            "device" => {
                let (kind, id) = value.split_once(' ').ok_or(wrong)?;
                let id = DeviceId::from_parts(kind, id)
                    .filter(|_| !id.is_empty())
                    .ok_or(wrong)?;
                set(&mut self.device, id, line, keyword)
            }
            "known_as" if !value.is_empty() => set(&mut self.known_as, value, line, keyword),
            "size_bytes" => set(
                &mut self.size_bytes,
                value.parse().map_err(|_| wrong)?,
                line,
                keyword,
            ),
            "mount_options" if !value.is_empty() => {
                set(&mut self.mount_options, value, line, keyword)
            }
            "path" if value.starts_with('/') => set(&mut self.path, value, line, keyword),
            "collect" => set(
                &mut self.collect,
                parse_collect(value).ok_or(wrong)?,
                line,
                keyword,
            ),
            "init" if value.starts_with('/') => set(&mut self.init, value, line, keyword),
            "nfs" if !value.is_empty() => set(&mut self.nfs, value, line, keyword),
            "ssh" if !value.is_empty() => set(&mut self.ssh, value, line, keyword),
            "port" => set(
                &mut self.port,
                value.parse().ok().filter(|&port| port > 0).ok_or(wrong)?,
                line,
                keyword,
            ),
            "host_key" if value.split(' ').count() == 2 => {
                if self.host_keys.push(value) {
                    Ok(())
                } else {
                    Err(RecordError::TooMany(line, keyword))
                }
            }
            "export" if value.starts_with('/') => set(&mut self.export, value, line, keyword),
            "address" => set(
                &mut self.address,
                value.parse().map_err(|_| wrong)?,
                line,
                keyword,
            ),
            "network" => set(
                &mut self.network,
                value.parse().map_err(|_| wrong)?,
                line,
                keyword,
            ),
            "raw" | "filesystem" | "known_as" | "mount_options" | "path" | "init" | "nfs"
            | "export" | "ssh" | "host_key" => Err(wrong),
            _ => Err(RecordError::Keyword(line, keyword)),
        }
    }

    fn device(&self) -> Result<DeviceSpec<'a>, RecordError<'a>> {
        Ok(DeviceSpec {
            id: self.device.ok_or(RecordError::Missing("device"))?,
            known_as: self.known_as.unwrap_or(""),
            size_bytes: self.size_bytes,
        })
    }

    fn into_attempt(self, role: Role, networks: usize) -> Result<Attempt<'a>, RecordError<'a>> {
        let target = if self.nfs.is_some() {
            self.nfs(networks)?
        } else if self.ssh.is_some() {
            self.ssh(networks)?
        } else {
            self.local()?
        };
        let collect = self.collect.ok_or(RecordError::Missing("collect"))?;
        Ok(Attempt {
            role,
            target,
            collect,
        })
    }

    fn local(&self) -> Result<TargetSpec<'a>, RecordError<'a>> {
        let device = self.device()?;
        match (self.raw, self.fstype, self.path, self.mount_options) {
            _ if self.init.is_some() || self.is_of_a_server() => {}
            (true, None, None, None) => return Ok(TargetSpec::Raw { device }),
            (false, Some(fstype), Some(path), mount_options) => {
                return Ok(TargetSpec::Filesystem {
                    fstype,
                    device,
                    mount_options: mount_options.unwrap_or(""),
                    path,
                });
            }
            (false, Some(_), None, _) => return Err(RecordError::Missing("path")),
            _ => {}
        }
        Err(RecordError::Missing(
            "a target: one of raw, filesystem, nfs and ssh",
        ))
    }

    /// A line is there that no server has.
    const fn is_of_a_disk(&self) -> bool {
        self.raw
            || self.fstype.is_some()
            || self.device.is_some()
            || self.known_as.is_some()
            || self.size_bytes.is_some()
            || self.init.is_some()
    }

    /// The network that a server's attempt names.
    fn network_of(&self, networks: usize) -> Result<usize, RecordError<'a>> {
        self.network
            .filter(|&number| number < networks)
            .ok_or(RecordError::Missing("network"))
    }

    fn nfs(&self, networks: usize) -> Result<TargetSpec<'a>, RecordError<'a>> {
        if self.is_of_a_disk() || self.is_of_ssh() {
            return Err(RecordError::Missing("a plain nfs target"));
        }
        Ok(TargetSpec::Nfs {
            server: Server {
                name: self.nfs.ok_or(RecordError::Missing("nfs"))?,
                address: self.address.ok_or(RecordError::Missing("address"))?,
            },
            export: self.export.ok_or(RecordError::Missing("export"))?,
            mount_options: self.mount_options.unwrap_or(""),
            path: self.path.ok_or(RecordError::Missing("path"))?,
            network: self.network_of(networks)?,
        })
    }

    fn ssh(&self, networks: usize) -> Result<TargetSpec<'a>, RecordError<'a>> {
        if self.is_of_a_disk() || self.export.is_some() || self.mount_options.is_some() {
            return Err(RecordError::Missing("a plain ssh target"));
        }
        let login = self.ssh.ok_or(RecordError::Missing("ssh"))?;
        // A user's name may have one, a server's has none.
        let (user, name) = login
            .rsplit_once('@')
            .filter(|(user, name)| !user.is_empty() && !name.is_empty())
            .ok_or(RecordError::Missing("user and server"))?;
        if self.host_keys.iter().next().is_none() {
            return Err(RecordError::Missing("host_key"));
        }
        Ok(TargetSpec::Ssh {
            server: Server {
                name,
                address: self.address.ok_or(RecordError::Missing("address"))?,
            },
            port: self.port.ok_or(RecordError::Missing("port"))?,
            user,
            host_keys: self.host_keys,
            path: self.path.ok_or(RecordError::Missing("path"))?,
            network: self.network_of(networks)?,
        })
    }

    /// A line is there that only ssh has.
    fn is_of_ssh(&self) -> bool {
        self.ssh.is_some() || self.port.is_some() || self.host_keys.iter().next().is_some()
    }

    /// A line is there that only servers have.
    fn is_of_a_server(&self) -> bool {
        self.is_of_ssh()
            || self.export.is_some()
            || self.address.is_some()
            || self.network.is_some()
    }

    fn into_root(self) -> Result<RootFilesystem<'a>, RecordError<'a>> {
        if self.raw
            || self.path.is_some()
            || self.collect.is_some()
            || self.nfs.is_some()
            || self.is_of_a_server()
        {
            return Err(RecordError::Missing("a plain root file system"));
        }
        Ok(RootFilesystem {
            fstype: self.fstype.ok_or(RecordError::Missing("filesystem"))?,
            device: self.device()?,
            mount_options: self.mount_options.unwrap_or(""),
            init: self.init.ok_or(RecordError::Missing("init"))?,
        })
    }
}

fn parse_collect(value: &str) -> Option<CollectOptions> {
    let mut words = value.split(' ');
    let format = Format::from_word(words.next()?)?;
    let compression = Compression::from_word(words.next()?)?;
    let levels = parse_levels(words.next()?).ok()?;
    if words.next().is_some() || (format != Format::Kdump && compression != Compression::None) {
        return None;
    }
    Some(CollectOptions {
        format,
        compression,
        levels,
    })
}

/// Reads a record.
///
/// # Errors
/// See [`RecordError`]. Nothing of a record with an error is to be obeyed.
pub fn parse(text: &str) -> Result<Record<'_>, RecordError<'_>> {
    let body = text
        .strip_suffix('\n')
        .ok_or(if text.starts_with("kdumprd-record ") {
            RecordError::Cut
        } else {
            RecordError::NotARecord
        })?;
    let mut lines = (1_u32..).zip(body.split('\n'));
    let first = lines.next().map_or("", |(_, line)| line);
    match first.strip_prefix("kdumprd-record ") {
        Some("1") => {}
        Some(other) => return Err(RecordError::Version(other)),
        None => return Err(RecordError::NotARecord),
    }
    let body = text.strip_suffix("\nend\n").ok_or(RecordError::Cut)?;
    let lines = (1_u32..).zip(body.split('\n')).skip(1);

    let (mut kernel, mut hostname, mut zone) = (None, None, None);
    let (mut failure_action, mut final_action) = (None, None);
    let mut deadlines = Deadlines::DEFAULT;
    let mut modules = Vec::new();
    let mut lists = Lists::default();
    let mut open = Open::Nothing;
    let mut block = Block::default();

    for (number, line) in lines {
        if let Some(indented) = line.strip_prefix(' ') {
            let (keyword, value) = indented.split_once(' ').unwrap_or((indented, ""));
            match open {
                Open::Nothing => return Err(RecordError::Keyword(number, keyword)),
                Open::Network => lists
                    .networks
                    .last_mut()
                    .and_then(|network| network.take_line(keyword, value))
                    .ok_or(RecordError::Value(number, indented))?,
                Open::Attempt(_) | Open::Root => block.take_line(number, keyword, value)?,
            }
            continue;
        }
        lists.close(&mut open, &mut block, number)?;
        let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
        let wrong = RecordError::Value(number, value);
        match keyword {
            "kernel" if !value.is_empty() => set(&mut kernel, value, number, keyword)?,
            "hostname" => set(&mut hostname, value, number, keyword)?,
            "zone" if !value.is_empty() => set(&mut zone, value, number, keyword)?,
            "failure_action" => {
                set(
                    &mut failure_action,
                    FailureAction::from_word(value).ok_or(wrong)?,
                    number,
                    keyword,
                )?;
            }
            "final_action" => set(
                &mut final_action,
                FinalAction::from_word(value).ok_or(wrong)?,
                number,
                keyword,
            )?,
            "deadline" => {
                let (word, seconds) = value.split_once(' ').ok_or(wrong)?;
                let seconds = seconds
                    .parse()
                    .ok()
                    .filter(|&seconds| seconds > 0)
                    .ok_or(wrong)?;
                *deadlines.by_name(word).ok_or(wrong)? = seconds;
            }
            "module" => {
                let (name, options) = value.split_once(' ').unwrap_or((value, ""));
                if name.is_empty() || name.contains('/') {
                    return Err(wrong);
                }
                modules
                    .push(Module { name, options })
                    .map_err(|_| RecordError::TooMany(number, keyword))?;
            }
            "attempt" => open = Open::Attempt(Role::from_word(value).ok_or(wrong)?),
            "network" if value.is_empty() => {
                lists
                    .networks
                    .push(NetworkSpec::default())
                    .map_err(|_| RecordError::TooMany(number, keyword))?;
                open = Open::Network;
            }
            "root" if value.is_empty() => open = Open::Root,
            "kernel" | "zone" | "root" | "network" => return Err(wrong),
            _ => return Err(RecordError::Keyword(number, keyword)),
        }
    }
    lists.close(&mut open, &mut block, 0)?;

    Ok(Record {
        kernel: kernel.ok_or(RecordError::Missing("kernel"))?,
        hostname: hostname.ok_or(RecordError::Missing("hostname"))?,
        zone: zone.ok_or(RecordError::Missing("zone"))?,
        failure_action: failure_action.ok_or(RecordError::Missing("failure_action"))?,
        final_action: final_action.ok_or(RecordError::Missing("final_action"))?,
        deadlines,
        modules,
        networks: lists.networks,
        attempts: lists.attempts,
        root: lists.root,
    })
}

/// What blocks become.
#[derive(Default)]
struct Lists<'a> {
    networks: Vec<NetworkSpec<'a>, MAX_NETWORKS>,
    attempts: Vec<Attempt<'a>, MAX_ATTEMPTS>,
    root: Option<RootFilesystem<'a>>,
}

impl<'a> Lists<'a> {
    /// Ends the block that is open, if one is.
    fn close(
        &mut self,
        open: &mut Open,
        block: &mut Block<'a>,
        line: u32,
    ) -> Result<(), RecordError<'a>> {
        match core::mem::replace(open, Open::Nothing) {
            // A network took its lines as they came.
            Open::Nothing | Open::Network => Ok(()),
            Open::Attempt(role) => {
                let attempt = core::mem::take(block).into_attempt(role, self.networks.len())?;
                self.attempts
                    .push(attempt)
                    .map_err(|_| RecordError::TooMany(line, "attempt"))
            }
            Open::Root => {
                let root = core::mem::take(block).into_root()?;
                set(&mut self.root, root, line, "root")
            }
        }
    }
}

impl fmt::Display for Record<'_> {
    /// The text form. The values must hold no line breaks; the builder refuses such names before.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kdumprd-record {VERSION}")?;
        writeln!(f, "kernel {}", self.kernel)?;
        writeln!(f, "hostname {}", self.hostname)?;
        writeln!(f, "zone {}", self.zone)?;
        writeln!(f, "failure_action {}", self.failure_action)?;
        writeln!(f, "final_action {}", self.final_action)?;
        for (word, seconds) in self.deadlines.named() {
            writeln!(f, "deadline {word} {seconds}")?;
        }
        for module in &self.modules {
            write!(f, "module {}", module.name)?;
            if !module.options.is_empty() {
                write!(f, " {}", module.options)?;
            }
            f.write_char('\n')?;
        }
        for network in &self.networks {
            write!(f, "network\n{network}")?;
        }
        for attempt in &self.attempts {
            writeln!(f, "attempt {}", attempt.role)?;
            match &attempt.target {
                TargetSpec::Raw { device } => {
                    writeln!(f, " raw")?;
                    write_device(f, device)?;
                }
                TargetSpec::Filesystem {
                    fstype,
                    device,
                    mount_options,
                    path,
                } => {
                    write_filesystem(f, fstype, device, mount_options)?;
                    writeln!(f, " path {path}")?;
                }
                TargetSpec::Nfs {
                    server,
                    export,
                    mount_options,
                    path,
                    network,
                } => {
                    writeln!(f, " nfs {}", server.name)?;
                    writeln!(f, " address {}", server.address)?;
                    writeln!(f, " export {export}")?;
                    if !mount_options.is_empty() {
                        writeln!(f, " mount_options {mount_options}")?;
                    }
                    writeln!(f, " path {path}")?;
                    writeln!(f, " network {network}")?;
                }
                TargetSpec::Ssh {
                    server,
                    port,
                    user,
                    host_keys,
                    path,
                    network,
                } => {
                    writeln!(f, " ssh {user}@{}", server.name)?;
                    writeln!(f, " address {}", server.address)?;
                    writeln!(f, " port {port}")?;
                    for key in host_keys.iter() {
                        writeln!(f, " host_key {key}")?;
                    }
                    writeln!(f, " path {path}")?;
                    writeln!(f, " network {network}")?;
                }
            }
            write!(
                f,
                " collect {} {} ",
                attempt.collect.format, attempt.collect.compression
            )?;
            for (position, level) in attempt.collect.levels.iter().enumerate() {
                write!(f, "{}{level}", if position == 0 { "" } else { "," })?;
            }
            f.write_char('\n')?;
        }
        if let Some(root) = &self.root {
            writeln!(f, "root")?;
            write_filesystem(f, root.fstype, &root.device, root.mount_options)?;
            writeln!(f, " init {}", root.init)?;
        }
        writeln!(f, "end")
    }
}

fn write_filesystem(
    f: &mut fmt::Formatter<'_>,
    fstype: &str,
    device: &DeviceSpec<'_>,
    mount_options: &str,
) -> fmt::Result {
    writeln!(f, " filesystem {fstype}")?;
    write_device(f, device)?;
    if mount_options.is_empty() {
        Ok(())
    } else {
        writeln!(f, " mount_options {mount_options}")
    }
}

fn write_device(f: &mut fmt::Formatter<'_>, device: &DeviceSpec<'_>) -> fmt::Result {
    let (keyword, value) = device.id.parts();
    writeln!(f, " device {keyword} {value}")?;
    if !device.known_as.is_empty() {
        writeln!(f, " known_as {}", device.known_as)?;
    }
    if let Some(size_bytes) = device.size_bytes {
        writeln!(f, " size_bytes {size_bytes}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
kdumprd-record 1
kernel 6.1.0-56-cloud-amd64
hostname db7
zone CET-1CEST,M3.5.0,M10.5.0/3
failure_action dump_to_rootfs
final_action reboot
deadline module 30
deadline device 180
deadline network 120
deadline open 60
deadline dmesg 60
deadline stall 120
deadline dump 21600
deadline publish 300
deadline final 30
module virtio_blk
module scsi_mod max_luns=1 x=y
network
 nic eth0 52:54:00:12:34:56 pci-0000:00:03.0
 address eth0 dhcp4
attempt configured
 filesystem ext3
 device uuid 0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11
 known_as /dev/vdb1
 size_bytes 104857600
 mount_options noatime
 path /var/my crash
 collect kdump zlib 1,31
attempt configured
 raw
 device partuuid 1a2b3c4d-02
 collect copy none 0
attempt configured
 nfs nas.example
 address 10.0.2.2
 export /srv/crash dumps
 mount_options vers=4.2
 path /var/crash
 network 0
 collect kdump zlib 31
attempt configured
 ssh kdump@nas.example
 address 10.0.2.2
 port 22
 host_key ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA
 host_key ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTIt
 path /var/crash
 network 0
 collect kdump zlib 31
attempt dump_to_rootfs
 filesystem ext4
 device node /dev/vda1
 path /var/crash
 collect kdump none 31
root
 filesystem ext4
 device label root disk
 init /sbin/init
end
";

    #[test]
    fn the_sample_reads_and_writes_back_the_same() {
        let record = parse(SAMPLE).unwrap();
        assert_eq!(record.attempts.len(), 5);
        assert_eq!(
            record.modules[1],
            Module {
                name: "scsi_mod",
                options: "max_luns=1 x=y"
            }
        );
        assert_eq!(record.root.unwrap().device.id, DeviceId::Label("root disk"));
        assert_eq!(record.to_string(), SAMPLE);
    }

    #[test]
    fn every_truncation_is_noticed() {
        for length in 0..SAMPLE.len() {
            let error = parse(&SAMPLE[..length]).unwrap_err();
            assert!(!error.to_string().is_empty(), "{length}");
        }
    }

    #[test]
    fn every_flipped_byte_is_an_error_or_a_record() {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        for position in 0..bytes.len() {
            for bit in 0..7 {
                bytes[position] ^= 1 << bit;
                if let Ok(text) = core::str::from_utf8(&bytes)
                    && let Ok(record) = parse(text)
                {
                    assert_eq!(parse(&record.to_string()).unwrap(), record);
                }
                bytes[position] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn a_record_of_another_version_is_named_and_refused() {
        assert_eq!(parse("kdumprd-record 2\n"), Err(RecordError::Version("2")));
        assert_eq!(parse("hello\n"), Err(RecordError::NotARecord));
        assert_eq!(parse(""), Err(RecordError::NotARecord));
    }

    #[test]
    fn errors_name_their_line() {
        let broken = SAMPLE.replace("deadline stall 120", "deadline stall 0");
        assert_eq!(parse(&broken), Err(RecordError::Value(12, "stall 0")));
        let broken = SAMPLE.replace("module virtio_blk", "modul virtio_blk");
        assert_eq!(parse(&broken), Err(RecordError::Keyword(16, "modul")));
        let broken = SAMPLE.replace(" known_as /dev/vdb1", " path /x");
        assert_eq!(parse(&broken), Err(RecordError::Repeated(27, "path")));
        let broken = SAMPLE.replace("address eth0 dhcp4", "address eth0 dhcp");
        assert_eq!(
            parse(&broken),
            Err(RecordError::Value(20, "address eth0 dhcp"))
        );
        let broken = SAMPLE.replace(" network 0\n", " network 1\n");
        assert_eq!(parse(&broken), Err(RecordError::Missing("network")));
        let broken = SAMPLE.replace(" collect copy none 0\n", "");
        assert_eq!(parse(&broken), Err(RecordError::Missing("collect")));
    }
}
