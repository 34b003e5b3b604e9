// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dumps on raw targets, brought to where they are safe from the next crash: `vmcore save-raw` for each raw line.

use crate::run;
use crate::setup::{Setup, below};
use config::TargetSpec;
use initramfs_builder::conf::{Target, TargetKind};
use initramfs_builder::error::{At, Mistakes};
use initramfs_builder::host::Host;
use initramfs_builder::resolve::resolve;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Below it dumps are saved when `path` does not say otherwise.
const DEFAULT_FOLDER: &str = "/var/crash";
/// What knows the layout of raw dumps.
pub const PROGRAM: &str = "vmcore";

/// The nodes of the raw targets, as they are called now.
///
/// # Errors
/// The configuration does not fit this machine.
pub fn devices(setup: &Setup) -> Result<Vec<String>, Mistakes> {
    let is_raw = |target: &At<Target>| {
        matches!(
            target.value,
            Target::Local {
                kind: TargetKind::Raw { .. },
                ..
            }
        )
    };
    if !setup.directives.targets.iter().any(is_raw) {
        return Ok(Vec::new());
    }
    let host = Host::read(&setup.root)?;
    let resolved = resolve(&setup.directives, &host, &setup.release)?;
    let node = |target: TargetSpec<'_>| match target {
        TargetSpec::Raw { device, .. } => Some(device.known_as.to_owned()),
        _ => None,
    };
    Ok(resolved
        .attempts
        .iter()
        .filter_map(|goal| node(goal.target()))
        .collect())
}

/// Where dumps of raw targets are brought to.
#[must_use]
pub fn folder(setup: &Setup) -> PathBuf {
    let path = setup.directives.path.as_ref();
    below(
        &setup.root,
        path.map_or(DEFAULT_FOLDER, |at| at.value.as_str()),
    )
}

/// Has `program` recover what is on each device. Each is tried, and nothing is marked as recovered before its copy is synced.
///
/// # Errors
/// What failed, by device.
pub fn run_all(program: &str, devices: &[String], folder: &Path) -> Result<(), Mistakes> {
    let mut mistakes = Mistakes::default();
    for device in devices {
        let mut command = Command::new(program);
        command.arg("save-raw").arg(device).arg(folder);
        if let Err(failed) = run(&mut command) {
            mistakes.0.extend(failed.0.into_iter().map(|mut mistake| {
                mistake.message = format!("recovering the dump on {device}: {}", mistake.message);
                mistake
            }));
        }
    }
    if mistakes.0.is_empty() {
        Ok(())
    } else {
        Err(mistakes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_is_tried_and_what_failed_is_named() {
        let devices = ["/dev/vdb".to_owned(), "/dev/vdc".to_owned()];
        let folder = Path::new("/var/crash");
        assert_eq!(run_all("true", &devices, folder), Ok(()));
        let said = run_all("false", &devices, folder).unwrap_err().to_string();
        for part in ["on /dev/vdb: false: exit status: 1", "on /dev/vdc: "] {
            assert!(said.contains(part), "{said}");
        }
    }
}
