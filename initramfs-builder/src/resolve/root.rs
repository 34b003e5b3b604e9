// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file systems of the running system: what holds the save path, and the machine's own root.

use super::device::check_filesystem;
use super::program::Collecting;
use super::{Goal, Place, Root, Work};
use crate::filesystem::{self, Type};
use crate::host::{Device, Mount};
use config::Role;

/// The program that starts the machine, where the first kernel's command line names none.
const DEFAULT_INIT: &str = "/sbin/init";

/// What holds a path on the running system.
struct Mounted<'a> {
    device: &'a Device,
    fstype: Type,
    /// The path inside the file system.
    inside: String,
    /// How it was found, for the plan.
    how: String,
}

impl<'a> Work<'a> {
    /// The attempt at the file system that holds `path` on the running system.
    pub(super) fn root_goal(&mut self, path: &str, collect: &Collecting) -> Result<Goal, String> {
        let found = self.mounted(path)?;
        let device = found.device;
        check_filesystem(found.fstype, device, &found.inside)?;
        let place = Place::Filesystem {
            device: self.identify(device, Some(found.fstype.word), &found.how),
            fstype: found.fstype.word.to_owned(),
            mount_options: if found.fstype.word == "btrfs" {
                // The path begins at the top, whatever subvolume the running system has mounted.
                filesystem::TOP_SUBVOLUME.to_owned()
            } else {
                found.fstype.options.to_owned()
            },
            path: found.inside,
        };
        let is_fall_back = !self.directives.targets.is_empty();
        Ok(Goal {
            role: if is_fall_back {
                Role::DumpToRootfs
            } else {
                Role::Configured
            },
            origin: match (is_fall_back, self.directives.failure_action) {
                (true, Some(at)) => format!("{}:{}", self.directives.file, at.line),
                (true, None) => "as no `default` is set".to_owned(),
                (false, _) => "as no target is set".to_owned(),
            },
            place,
            collect: collect.options.clone(),
            program: collect.program.clone(),
        })
    }

    pub(super) fn root(&mut self) -> Result<Root, String> {
        let init = self.host.parameter("init").unwrap_or(DEFAULT_INIT);
        if !init.starts_with('/') {
            return Err(format!(
                "the first kernel was started with init={init}, which is no absolute path"
            ));
        }
        let found = self.mounted("/")?;
        let mount_options = match (found.fstype.word, found.inside.as_str()) {
            ("btrfs", directory) => filesystem::subvolume(directory)?,
            (_, "/") => found.fstype.options.to_owned(),
            (_, directory) => {
                return Err(format!(
                    "the root of the running system is the directory {directory} of {}, which is not supported yet",
                    found.device.node
                ));
            }
        };
        Ok(Root {
            fstype: found.fstype.word.to_owned(),
            mount_options,
            device: self.identify(found.device, Some(found.fstype.word), &found.how),
            init: init.to_owned(),
        })
    }

    /// What holds `path` on the running system.
    fn mounted(&self, path: &str) -> Result<Mounted<'a>, String> {
        let by_parameter;
        let (mount, inside) = match self.host.mount_of(path) {
            Some(found) => found,
            // Nothing says what is mounted, but what the first kernel was told about its root.
            None => {
                by_parameter = self.root_by_parameter().ok_or_else(|| {
                    format!(
                        "nothing says which file system holds {path} (no mountinfo, fstab or root= below {})",
                        self.host.root.display()
                    )
                })?;
                (&by_parameter, path.to_owned())
            }
        };
        let on = format!("{path} is on {} ({})", mount.source, mount.fstype);
        let device = self.host.device_of_mount(mount).ok_or_else(|| {
            format!(
                "{on}, which is no block device that is known; {}",
                self.seen()
            )
        })?;
        self.supported(device)
            .map_err(|message| format!("{on}: {message}"))?;
        let fstype = Type::of(&mount.fstype).ok_or_else(|| {
            format!(
                "{on}, and that type is not supported yet; accepted are {}",
                filesystem::words()
            )
        })?;
        Ok(Mounted {
            device,
            fstype,
            inside,
            how: format!("{path} on {}", mount.target),
        })
    }

    fn root_by_parameter(&self) -> Option<Mount> {
        let source = self.host.parameter("root")?;
        let device = *self.host.devices_of_tag(source).first()?;
        Some(Mount {
            source: device.node.clone(),
            target: "/".to_owned(),
            fstype: device.kind()?.to_owned(),
            directory: "/".to_owned(),
            numbers: None,
            options: String::new(),
        })
    }
}
