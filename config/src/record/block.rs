// SPDX-License-Identifier: MIT OR Apache-2.0
//! The indented lines of an attempt or of the root, put together when the block ends.

use super::{Attempt, RecordError, Role, RootFilesystem};
use crate::collect::{CollectOptions, Compression, Format, parse_levels};
use crate::layer::{Layers, MAX_LAYERS};
use crate::network::Server;
use crate::target::{DeviceId, DeviceSpec, HostKeys, TargetSpec};
use core::net::IpAddr;

/// The value of `raw` where what is on the device may be lost.
pub(super) const OVERWRITE: &str = "overwrite";

/// The lines of one indented block, before it is known whether they are complete.
#[derive(Default)]
pub(super) struct Block<'a> {
    /// And whether what is on the device may be lost.
    raw: Option<bool>,
    fstype: Option<&'a str>,
    device: Option<DeviceId<'a>>,
    known_as: Option<&'a str>,
    size_bytes: Option<u64>,
    pub(super) layers: Layers,
    mount_options: Option<&'a str>,
    path: Option<&'a str>,
    collect: Option<CollectOptions>,
    program: Option<&'a str>,
    init: Option<&'a str>,
    nfs: Option<&'a str>,
    ssh: Option<&'a str>,
    port: Option<u16>,
    host_keys: HostKeys<'a>,
    export: Option<&'a str>,
    address: Option<IpAddr>,
    network: Option<usize>,
}

pub(super) fn set<'a, T>(
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
    pub(super) fn take_line(
        &mut self,
        line: u32,
        keyword: &'a str,
        value: &'a str,
    ) -> Result<(), RecordError<'a>> {
        let wrong = RecordError::Value(line, value);
        match keyword {
            "raw" if matches!(value, "" | OVERWRITE) => {
                set(&mut self.raw, value == OVERWRITE, line, keyword)
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
            "layers" if self.layers.is_empty() => {
                self.layers = Layers::parse(value, MAX_LAYERS).ok_or(wrong)?;
                Ok(())
            }
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
            "program" if value.starts_with('/') => set(&mut self.program, value, line, keyword),
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
            | "export" | "ssh" | "host_key" | "program" | "layers" => Err(wrong),
            _ => Err(RecordError::Keyword(line, keyword)),
        }
    }

    fn device(&self) -> Result<DeviceSpec<'a>, RecordError<'a>> {
        Ok(DeviceSpec {
            id: self.device.ok_or(RecordError::Missing("device"))?,
            known_as: self.known_as.unwrap_or(""),
            size_bytes: self.size_bytes,
            layers: self.layers,
        })
    }

    pub(super) fn into_attempt(
        self,
        role: Role,
        networks: usize,
    ) -> Result<Attempt<'a>, RecordError<'a>> {
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
            program: self.program,
        })
    }

    fn local(&self) -> Result<TargetSpec<'a>, RecordError<'a>> {
        let device = self.device()?;
        match (self.raw, self.fstype, self.path, self.mount_options) {
            _ if self.init.is_some() || self.is_of_a_server() => {}
            (Some(overwrite), None, None, None) => {
                return Ok(TargetSpec::Raw { device, overwrite });
            }
            (None, Some(fstype), Some(path), mount_options) => {
                return Ok(TargetSpec::Filesystem {
                    fstype,
                    device,
                    mount_options: mount_options.unwrap_or(""),
                    path,
                });
            }
            (None, Some(_), None, _) => return Err(RecordError::Missing("path")),
            _ => {}
        }
        Err(RecordError::Missing(
            "a target: one of raw, filesystem, nfs and ssh",
        ))
    }

    /// A line is there that no server has.
    const fn is_of_a_disk(&self) -> bool {
        self.raw.is_some()
            || self.fstype.is_some()
            || self.device.is_some()
            || self.known_as.is_some()
            || self.size_bytes.is_some()
            || !self.layers.is_empty()
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

    pub(super) fn into_root(self) -> Result<RootFilesystem<'a>, RecordError<'a>> {
        if self.raw.is_some()
            || self.path.is_some()
            || self.collect.is_some()
            || self.program.is_some()
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
