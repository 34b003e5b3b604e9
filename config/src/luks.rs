// SPDX-License-Identifier: MIT OR Apache-2.0
//! A device that is encrypted by LUKS, as its header described it when the image was built.

use core::fmt;
use core::str::FromStr;

/// The folder of the image with the volume keys, each in a file that has the device's UUID as its name.
pub const VOLUME_KEYS: &str = "/etc/kdump.luks";
/// The longest volume key, in bytes: that of AES-256 in XTS mode, which takes two.
pub const MOST_KEY_BYTES: usize = 64;

/// What the header said. In the capture kernel it must say the same: a device that was encrypted anew since then has another
/// volume key, and what the old one makes of its content is noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Luks<'a> {
    /// The device's UUID.
    pub uuid: &'a str,
    /// The format: 1 or 2.
    pub version: u16,
    /// As dm-crypt takes it: `aes-xts-plain64`.
    pub cipher: &'a str,
    /// The size of the volume key.
    pub key_bytes: usize,
    /// Where the encrypted content begins, in units of 512 bytes.
    pub offset_sectors: u64,
    /// How much of it there is, in such units; none for all that the device has behind the offset.
    pub sectors: Option<u64>,
    /// What the first unit's number is to the cipher.
    pub iv_sectors: u64,
    /// What is encrypted at a time.
    pub sector_bytes: u32,
    /// What the header knows the volume key by, in hexadecimal digits.
    pub digest: &'a str,
}

/// The word for "all that the device has".
const DYNAMIC: &str = "dynamic";

impl<'a> Luks<'a> {
    /// The description of a part of a line of the record, and what stands behind it.
    pub(crate) fn parse(line: &'a str) -> Option<(Self, &'a str)> {
        let mut words = line.splitn(10, ' ');
        let mut next = || words.next().filter(|word| !word.is_empty());
        let luks = Self {
            uuid: next().filter(|uuid| is_file_name(uuid))?,
            version: number(next()?)?,
            cipher: next()?,
            key_bytes: number(next()?).filter(|bytes| (1..=MOST_KEY_BYTES).contains(bytes))?,
            offset_sectors: number(next()?)?,
            sectors: match next()? {
                DYNAMIC => None,
                sectors => Some(number(sectors)?),
            },
            iv_sectors: number(next()?)?,
            sector_bytes: number(next()?)?,
            digest: next()?,
        };
        Some((luks, next()?))
    }
}

/// The UUID is the name of the key's file.
fn is_file_name(uuid: &str) -> bool {
    uuid.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn number<T: FromStr>(word: &str) -> Option<T> {
    word.parse().ok()
}

/// As the record has it.
impl fmt::Display for Luks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            uuid,
            version,
            cipher,
            key_bytes,
            offset_sectors,
            iv_sectors,
            sector_bytes,
            digest,
            ..
        } = self;
        write!(f, "{uuid} {version} {cipher} {key_bytes} {offset_sectors} ")?;
        match self.sectors {
            Some(sectors) => write!(f, "{sectors}")?,
            None => f.write_str(DYNAMIC)?,
        }
        write!(f, " {iv_sectors} {sector_bytes} {digest}")
    }
}
