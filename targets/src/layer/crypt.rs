// SPDX-License-Identifier: MIT OR Apache-2.0
//! What LUKS encrypted: the device is found by its UUID, its header compared with what was recorded, and dm-crypt given the
//! volume key that is in the image. On the running host the key of a mapping may be asked for.
//!
//! Source: Linux 6.12 `Documentation/admin-guide/device-mapper/dm-crypt.rst`; cryptsetup 2.6.1 `lib/libdevmapper.c` for what
//! it has the device mapper know a mapping by.

use super::device_mapper::{DeviceMapper, Table};
use super::luks::{Header, Hex, LuksError};
use super::{LayerError, Means, Work};
use crate::io::{io, path};
use crate::superblock::Kind;
use crate::sysfs::KernelName;
use crate::text::Text;
use collector::IoError;
use config::Luks;
use config::luks::{MOST_KEY_BYTES, VOLUME_KEYS};
use core::fmt;
use core::hint::black_box;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::read;

/// A volume key. It does not outlive its use in memory.
struct VolumeKey {
    bytes: [u8; MOST_KEY_BYTES],
    length: usize,
}

impl VolumeKey {
    /// The key of this device in the image.
    fn of_image(luks: &Luks<'_>) -> Result<Self, IoError> {
        let path = path::<128>(format_args!("{VOLUME_KEYS}/{}", luks.uuid))?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file =
            openat(CWD, path.as_str().unwrap_or_default(), flags, Mode::empty()).map_err(io)?;
        let mut key = Self {
            bytes: [0; MOST_KEY_BYTES],
            length: luks.key_bytes,
        };
        let room = key.bytes.get_mut(..luks.key_bytes).unwrap_or_default();
        // A file in memory is read as a whole.
        match read(&file, &mut *room) {
            Ok(length) if length == room.len() => Ok(key),
            Ok(_) => Err(IoError::END),
            Err(errno) => Err(io(errno)),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Drop for VolumeKey {
    fn drop(&mut self) {
        self.bytes.fill(0);
        // The zeros count, although nobody reads them.
        black_box(&self.bytes);
    }
}

impl Work {
    pub(super) fn luks(
        &self,
        luks: &Luks<'_>,
        name: &str,
        means: &mut Means<'_>,
    ) -> Result<(), LayerError> {
        let uuid = mapping_uuid(luks, name);
        if self.has_mapping(uuid.as_bytes()) {
            return Ok(());
        }
        let device = loop {
            (means.tick)();
            if let Some(device) = self.encrypted(luks.uuid, means.tick)? {
                break device;
            }
            if !self.wait() {
                return Err(LayerError::Absent(self.name, self.waited_ms()));
            }
        };
        let broken = |error| LayerError::Luks(self.name, error);
        let header = self
            .open(&device)
            .map_err(LuksError::Io)
            .and_then(|mut disk| Header::read(&mut disk, means.memory))
            .map_err(broken)?;
        if !header.is_as(luks) {
            return Err(LayerError::EncryptedAnew(self.name));
        }
        let key = VolumeKey::of_image(luks)
            .map_err(self.failed("reading the volume key in the image"))?;
        let mut table = Table::secret();
        let sectors = self.system.size_bytes(&device).unwrap_or(0) / 512;
        let numbers = self.system.numbers(&device).unwrap_or((0, 0));
        if !push(&mut table, luks, sectors, numbers, key.as_bytes()) {
            return Err(broken(LuksError::Damaged(
                "what is encrypted goes beyond the device's end",
            )));
        }
        DeviceMapper::open(means.roots.dev)
            .map_err(self.failed("opening the device mapper"))?
            .make(name, uuid.as_str().unwrap_or_default(), &mut table)
            .map_err(self.failed("giving dm-crypt the mapping"))
    }

    /// The device of this UUID, once it is there.
    fn encrypted(
        &self,
        uuid: &str,
        tick: &mut dyn FnMut(),
    ) -> Result<Option<KernelName>, LayerError> {
        let mut found: Option<KernelName> = None;
        self.each_part(Kind::Luks, tick, &mut |name, _, identity| {
            if identity.uuid != *uuid {
                return Ok(());
            }
            match &found {
                Some(twin) => self.check_twins(twin, name),
                None => {
                    found = Some(*name);
                    Ok(())
                }
            }
        })?;
        Ok(found)
    }
}

/// Adds the line for a device of so many units of 512 bytes. False when the content is not all on it.
fn push(
    table: &mut Table,
    luks: &Luks<'_>,
    sectors: u64,
    (major, minor): (u32, u32),
    key: &[u8],
) -> bool {
    let behind = sectors.saturating_sub(luks.offset_sectors);
    let unit = u64::from(luks.sector_bytes / 512).max(1);
    let length = luks.sectors.unwrap_or(behind - behind % unit);
    let (cipher, iv, offset) = (luks.cipher, luks.iv_sectors, luks.offset_sectors);
    let key = Hex(key);
    let line = format_args!("{cipher} {key} {iv} {major}:{minor} {offset}");
    let fits = length > 0 && length <= behind;
    fits && if luks.sector_bytes == 512 {
        table.push(0, length, "crypt", line)
    } else {
        let option = format_args!("{line} 1 sector_size:{}", luks.sector_bytes);
        table.push(0, length, "crypt", option)
    }
}

/// What `cryptsetup` has the device mapper know a mapping by: a system that starts behind the capture finds it as its own.
fn mapping_uuid(luks: &Luks<'_>, name: &str) -> Text<128> {
    let mut text = Text::format(format_args!("CRYPT-LUKS{}-", luks.version));
    for part in luks.uuid.split('-') {
        text.push(part.as_bytes());
    }
    text.push(b"-");
    text.push(name.as_bytes());
    text
}

/// Why the key of an active mapping is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActiveError {
    /// The device mapper does not tell.
    Kernel(IoError),
    /// The mapping is not one stretch of dm-crypt.
    NotCrypt,
    /// The kernel has it in its keyring, out of which it is not given.
    InKeyring,
    /// It is no key of a size that can be.
    NoKey,
}

impl fmt::Display for ActiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(error) => write!(f, "asking the device mapper for its table: {error}"),
            Self::NotCrypt => f.write_str("its table is not one line of dm-crypt"),
            Self::InKeyring => {
                f.write_str("the kernel has it in its keyring, out of which it is not given")
            }
            Self::NoKey => f.write_str("its table has no key of a size that can be"),
        }
    }
}

impl core::error::Error for ActiveError {}

/// Shows `visit` the volume key of a mapping that is active on this machine.
///
/// # Errors
/// See [`ActiveError`].
pub fn with_active_key(
    dev: &str,
    name: &str,
    visit: &mut dyn FnMut(&[u8]),
) -> Result<(), ActiveError> {
    let table = DeviceMapper::open(dev)
        .and_then(|mapper| mapper.table(name))
        .map_err(ActiveError::Kernel)?;
    let line = table.only_line("crypt").ok_or(ActiveError::NotCrypt)?;
    let key = key_of(line)?;
    visit(key.as_bytes());
    Ok(())
}

/// The key in a line of dm-crypt's: `CIPHER KEY …`.
fn key_of(line: &str) -> Result<VolumeKey, ActiveError> {
    let word = line.split(' ').nth(1).unwrap_or_default();
    if word.starts_with(':') {
        return Err(ActiveError::InKeyring);
    }
    let mut key = VolumeKey {
        bytes: [0; MOST_KEY_BYTES],
        length: word.len() / 2,
    };
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let (pairs, rest) = word.as_bytes().as_chunks::<2>();
    if pairs.is_empty() || pairs.len() > MOST_KEY_BYTES || !rest.is_empty() {
        return Err(ActiveError::NoKey);
    }
    for (place, &[high, low]) in key.bytes.iter_mut().zip(pairs) {
        let (Some(high), Some(low)) = (digit(high), digit(low)) else {
            return Err(ActiveError::NoKey);
        };
        *place = high << 4 | low;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LUKS: Luks<'static> = Luks {
        uuid: "0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11",
        version: 2,
        cipher: "aes-xts-plain64",
        key_bytes: 4,
        offset_sectors: 32768,
        sectors: None,
        iv_sectors: 0,
        sector_bytes: 512,
        digest: "00",
    };

    fn line(luks: &Luks<'_>, sectors: u64) -> Option<(u64, String)> {
        let mut table = Table::secret();
        push(&mut table, luks, sectors, (254, 1), &[0, 1, 0xab, 0xff])
            .then(|| (table.length(), table.only_line("crypt").unwrap().to_owned()))
    }

    #[test]
    fn the_mapping_is_what_the_header_says() {
        let all = line(&LUKS, 40003).unwrap();
        assert_eq!(
            all,
            (7235, "aes-xts-plain64 0001abff 0 254:1 32768".to_owned())
        );
        let large = Luks {
            sector_bytes: 4096,
            ..LUKS
        };
        let (length, text) = line(&large, 40003).unwrap();
        assert_eq!(length, 7232);
        assert!(text.ends_with(" 254:1 32768 1 sector_size:4096"), "{text}");
        let part = |sectors| Luks {
            sectors: Some(sectors),
            ..LUKS
        };
        assert_eq!(line(&part(5), 40003).unwrap().0, 5);
        assert_eq!(line(&part(7236), 40003), None);
        assert_eq!(line(&LUKS, 32768), None);
    }

    #[test]
    fn a_mapping_is_known_as_cryptsetup_knows_it() {
        assert_eq!(
            mapping_uuid(&LUKS, "cryptroot").to_string(),
            "CRYPT-LUKS2-0c9df1f62f4c4a6f8a2f6d8f0d6e1c11-cryptroot"
        );
    }

    #[test]
    fn a_key_is_read_from_a_table_or_named_as_what_it_is() {
        let key = |word: &str| {
            key_of(&format!("aes-xts-plain64 {word} 0 254:1 32768"))
                .map(|key| key.as_bytes().to_vec())
        };
        assert_eq!(key("00a1Ff"), Ok(vec![0, 0xa1, 0xff]));
        assert_eq!(
            key(":64:logon:cryptsetup:0c9df1f6-d0"),
            Err(ActiveError::InKeyring)
        );
        for word in ["", "-", "0", "00a", "0g", &"00".repeat(65)] {
            assert_eq!(key(word), Err(ActiveError::NoKey), "{word}");
        }
        assert_eq!(key_of("").err(), Some(ActiveError::NoKey));
    }
}
