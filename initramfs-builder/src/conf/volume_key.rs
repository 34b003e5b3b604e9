// SPDX-License-Identifier: MIT OR Apache-2.0
//! `luks_volume_key`: a key that the image is to have, by explicit wish.

use super::Directives;
use super::line::{BLANKS, Line};
use super::target::{DeviceName, device_name};

/// The volume key of one LUKS device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeKey {
    /// The device with the LUKS header.
    pub device: DeviceName,
    /// Where its key is read from.
    pub source: KeySource,
}

/// Where a volume key is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The table of the mapping that is active on this machine.
    Active,
    /// A file with the key as it is.
    File(String),
}

impl std::fmt::Display for VolumeKey {
    /// The value of the line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.source {
            KeySource::Active => write!(f, "{} {ACTIVE}", self.device),
            KeySource::File(file) => write!(f, "{} {file}", self.device),
        }
    }
}

const ACTIVE: &str = "active";

pub(super) fn take_volume_key(directives: &mut Directives, line: &Line<'_>) -> Result<(), String> {
    const ACCEPTED: &str =
        "a LUKS device and the file of its volume key, or `active`: UUID=… /root/luks.key";
    let value = line.some(ACCEPTED)?;
    let wrong = || format!("`luks_volume_key` cannot be `{value}`; accepted is {ACCEPTED}");
    let (device, source) = value.rsplit_once(BLANKS).ok_or_else(wrong)?;
    let device = device_name(device.trim_end_matches(BLANKS), line.quoted)?;
    let source = match source {
        ACTIVE => KeySource::Active,
        file if file.starts_with('/') => KeySource::File(file.to_owned()),
        _ => return Err(wrong()),
    };
    if let Some(before) = directives
        .volume_keys
        .iter()
        .find(|before| before.value.device == device)
    {
        return Err(format!(
            "the volume key of {device} stands in line {} already",
            before.line
        ));
    }
    directives
        .volume_keys
        .push(line.at(VolumeKey { device, source }));
    Ok(())
}
