// SPDX-License-Identifier: MIT OR Apache-2.0
//! The dumps that this machine can see: below the save path, on what of the targets is mounted.

use crate::save_raw;
use crate::setup::Setup;
use initramfs_builder::conf::{DeviceName, Target, TargetKind};
use initramfs_builder::host::Host;
use serde_json::Value;
use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;

/// No manifest is longer, in bytes; what is, is none.
const LONGEST: u64 = 64 << 10;

/// One dump, as its manifest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// Its folder.
    pub folder: PathBuf,
    /// When the machine crashed, in seconds since 1970.
    pub crash_time_s: i64,
    /// The same for people, in the machine's own zone.
    pub date: String,
    /// Why it crashed; empty when that is unknown.
    pub panic: String,
    /// The dump is whole; else this says why it is not.
    pub result: Result<(), String>,
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            folder,
            date,
            panic,
            result,
            ..
        } = self;
        write!(f, "{date}: ")?;
        if !panic.is_empty() {
            write!(f, "{panic}; ")?;
        }
        match result {
            Ok(()) => write!(f, "complete dump in {}", folder.display()),
            Err(why) => write!(f, "INCOMPLETE dump in {}: {why}", folder.display()),
        }
    }
}

/// The folders that dumps of this machine are saved below, as far as they are mounted.
#[must_use]
pub fn folders(setup: &Setup) -> Vec<PathBuf> {
    let below_root = save_raw::folder(setup);
    let mut folders = vec![below_root.clone()];
    let Ok(host) = Host::read(&setup.root) else {
        return folders;
    };
    let path = below_root
        .strip_prefix(&setup.root)
        .unwrap_or(&below_root)
        .to_path_buf();
    for target in &setup.directives.targets {
        let Target::Local {
            kind: TargetKind::Filesystem(_),
            device,
        } = &target.value
        else {
            continue;
        };
        let tag = match device {
            DeviceName::Node(node) => node.clone(),
            tag => tag.to_string(),
        };
        let devices = host.devices_of_tag(&tag);
        for mount in &host.mounts {
            let is_on_it = host
                .device_of_mount(mount)
                .is_some_and(|on| devices.iter().any(|device| device.node == on.node));
            // A bind mount shows a part of the file system, in which the path means something else.
            if is_on_it && mount.directory == "/" {
                let folder = setup
                    .root
                    .join(mount.target.trim_start_matches('/'))
                    .join(&path);
                if !folders.contains(&folder) {
                    folders.push(folder);
                }
            }
        }
    }
    folders
}

/// The newest dump below `folders`.
#[must_use]
pub fn newest(folders: &[PathBuf]) -> Option<Dump> {
    folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(Iterator::flatten)
        .filter_map(|entry| read(entry.path()))
        .max_by_key(|dump| dump.crash_time_s)
}

/// Reads the manifest in a folder; none where there is none.
fn read(folder: PathBuf) -> Option<Dump> {
    let mut text = Vec::new();
    File::open(folder.join("manifest.json"))
        .ok()?
        .take(LONGEST)
        .read_to_end(&mut text)
        .ok()?;
    let manifest: Value = serde_json::from_slice(&text).ok()?;
    let words = |key: &str| {
        let value = manifest.get(key).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let is_complete = manifest.get("complete")?.as_bool()?;
    Some(Dump {
        crash_time_s: manifest.get("crash_time")?.as_i64()?,
        date: words("crash_date"),
        panic: words("panic"),
        result: if is_complete {
            Ok(())
        } else {
            Err(words("incomplete_because"))
        },
        folder,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_dump_is_told_with_what_became_of_it() {
        let root = std::env::temp_dir().join(format!("kdumpctl-dumps-{}", std::process::id()));
        for (name, text) in [
            (
                "a",
                r#"{"complete":true,"crash_time":10,"crash_date":"1970","panic":"sysrq"}"#,
            ),
            (
                "b",
                r#"{"complete":false,"incomplete_because":"disk full","crash_time":20,"crash_date":"1971","panic":"BUG"}"#,
            ),
            ("torn", "{"),
            ("empty", ""),
            ("other", "[1]"),
            (
                "strange",
                r#"{"complete":1,"crash_time":"9","crash_date":9}"#,
            ),
        ] {
            fs::create_dir_all(root.join(name)).unwrap();
            fs::write(root.join(name).join("manifest.json"), text).unwrap();
        }
        fs::write(root.join("a file"), "").unwrap();
        let folders = [root.join("nowhere"), root.clone()];
        let dump = newest(&folders).unwrap();
        assert_eq!(
            dump.to_string(),
            format!(
                "1971: BUG; INCOMPLETE dump in {}/b: disk full",
                root.display()
            )
        );
        fs::remove_dir_all(root.join("b")).unwrap();
        let dump = newest(&folders).unwrap();
        assert!(
            dump.to_string()
                .starts_with("1970: sysrq; complete dump in ")
        );
        fs::remove_dir_all(root).unwrap();
    }
}
