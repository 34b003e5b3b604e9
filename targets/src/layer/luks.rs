// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a LUKS header says: how the device is encrypted, and what it knows its volume key by. No passphrase is asked for: what
//! makes a key of one takes more memory than a capture kernel has, so that the volume key itself is in the image.
//!
//! Source: LUKS1 On-Disk Format Specification 1.2.3, figures 1 and 2; LUKS2 On-Disk Format Specification 1.1.4, chapters 2
//! and 3; RFC 8018 section 5.2 (PBKDF2).
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing
    )
)]

use super::json::Value;
use crate::bytes::{Fields, Uuid, hex, read_up_to};
use crate::ssh::decode_base64;
use crate::text::Text;
use collector::{IoError, Source};
use config::Luks;
use core::fmt;
use heapless::Vec;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

/// The binary part of a LUKS2 header; its JSON follows.
const BINARY_BYTES: usize = 4096;
/// The smallest and the largest header of LUKS2, binary part and JSON together.
const SIZES_BYTES: core::ops::RangeInclusive<u64> = 16 << 10..=4 << 20;
/// Where a LUKS2 header has its checksum, which counts as zeros in it.
const CHECKSUM: core::ops::Range<usize> = 448..512;
/// More rounds than this are not done to check a key: `cryptsetup` takes as many as an eighth of a second has.
const MOST_ITERATIONS: u32 = 50_000_000;

/// How a device is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 1 or 2.
    pub version: u16,
    /// The device's UUID, letters, digits and dashes.
    pub uuid: Uuid,
    /// As dm-crypt takes it: `aes-xts-plain64`.
    pub cipher: Text<64>,
    /// Where the encrypted content begins, in units of 512 bytes.
    pub offset_sectors: u64,
    /// How much of it there is; none for all behind the offset.
    pub sectors: Option<u64>,
    /// What the first unit's number is to the cipher.
    pub iv_sectors: u64,
    /// What is encrypted at a time.
    pub sector_bytes: u32,
    /// What the volume key is known by.
    pub digest: Digest,
}

/// What a volume key is known by: PBKDF2 of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    hash: Text<16>,
    iterations: u32,
    salt: Vec<u8, 64>,
    value: Vec<u8, 64>,
}

/// Why a header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LuksError {
    /// The device could not be read.
    Io(IoError),
    /// There is no header of version 1 or 2.
    Absent,
    /// It contradicts itself: what of it.
    Damaged(&'static str),
    /// It asks for what is not done: what.
    Unsupported(&'static str),
    /// It is longer than the memory: its bytes.
    TooLarge(u64),
}

impl From<IoError> for LuksError {
    fn from(error: IoError) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for LuksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "reading the LUKS header: {error}"),
            Self::Absent => f.write_str("there is no LUKS header of version 1 or 2"),
            Self::Damaged(what) => write!(f, "the LUKS header is damaged: {what}"),
            Self::Unsupported(what) => write!(f, "{what}, which is not supported"),
            Self::TooLarge(bytes) => {
                write!(
                    f,
                    "the LUKS header of {bytes} bytes is larger than the memory for it"
                )
            }
        }
    }
}

impl core::error::Error for LuksError {}

impl Header {
    /// The header at the beginning of a device. `memory` is for what LUKS2 has of it: 16 KiB where nobody asked for more.
    ///
    /// # Errors
    /// See [`LuksError`].
    pub fn read<S: Source + ?Sized>(source: &mut S, memory: &mut [u8]) -> Result<Self, LuksError> {
        let mut head = [0; 592];
        let length = read_up_to(source, 0, &mut head)?;
        let head = Fields(head.get(..length).unwrap_or_default());
        if !head.has(0, b"LUKS\xba\xbe") {
            return Err(LuksError::Absent);
        }
        match head.be16(6) {
            1 if length == 592 => Self::version_1(&head),
            2 => Self::version_2(source, head.be64(8), memory),
            _ => Err(LuksError::Absent),
        }
    }

    fn version_1(head: &Fields<'_>) -> Result<Self, LuksError> {
        let name: Text<32> = head.text(8, 32);
        let mode: Text<32> = head.text(40, 32);
        let hash: Text<32> = head.text(72, 32);
        let header = Self {
            version: 1,
            uuid: head.text(168, 40),
            cipher: Text::format(format_args!("{name}-{mode}")),
            offset_sectors: head.be32(104).into(),
            sectors: None,
            iv_sectors: 0,
            sector_bytes: 512,
            digest: Digest {
                hash: Text::new(hash.as_bytes()),
                iterations: head.be32(164),
                salt: list(&head.bytes::<32>(132)),
                value: list(&head.bytes::<20>(112)),
            },
        };
        header.checked()
    }

    fn version_2<S: Source + ?Sized>(
        source: &mut S,
        size_bytes: u64,
        memory: &mut [u8],
    ) -> Result<Self, LuksError> {
        if !SIZES_BYTES.contains(&size_bytes) {
            return Err(LuksError::Damaged("its size cannot be"));
        }
        let area = usize::try_from(size_bytes)
            .ok()
            .and_then(|size| memory.get_mut(..size))
            .ok_or(LuksError::TooLarge(size_bytes))?;
        source.read_at(0, area)?;
        let recorded: [u8; 32] = Fields(area).bytes(CHECKSUM.start);
        area.get_mut(CHECKSUM).unwrap_or_default().fill(0);
        let binary = Fields(area);
        if binary.text::<32>(72, 32) != *"sha256" {
            return Err(LuksError::Unsupported(
                "its LUKS header has another checksum than SHA-256",
            ));
        }
        if Sha256::digest(&*area)[..] != recorded[..] {
            return Err(LuksError::Damaged("its checksum is wrong"));
        }
        if binary.be64(256) != 0 {
            return Err(LuksError::Damaged("it says that it lies elsewhere"));
        }
        let uuid = binary.text(168, 40);
        let json = area.get(BINARY_BYTES..).and_then(Value::of);
        let json = json.ok_or(LuksError::Damaged("it has no JSON"))?;
        Self::described(uuid, json)
    }

    fn described(uuid: Uuid, json: Value<'_>) -> Result<Self, LuksError> {
        const NO_SEGMENT: LuksError = LuksError::Damaged("its JSON has no whole segment");
        const NO_DIGEST: LuksError =
            LuksError::Damaged("its JSON has no whole digest of the volume key");
        let config = json.get("config");
        let requirements = config.and_then(|config| config.get("requirements")?.get("mandatory"));
        if requirements.is_some_and(|list| list.items().next().is_some()) {
            return Err(LuksError::Unsupported(
                "it is being encrypted anew (cryptsetup reencrypt), or its LUKS header has another requirement",
            ));
        }
        let mut segments = json.get("segments").ok_or(NO_SEGMENT)?.members();
        let (number, segment) = segments.next().ok_or(NO_SEGMENT)?;
        if segments.next().is_some() {
            return Err(LuksError::Unsupported("it has more than one LUKS segment"));
        }
        if !is_of_type(segment, b"crypt") {
            return Err(LuksError::Unsupported(
                "its LUKS segment is not one of dm-crypt alone",
            ));
        }
        if segment.get("integrity").is_some() {
            return Err(LuksError::Unsupported("it has LUKS2's integrity"));
        }
        let count = |name| segment.get(name).and_then(Value::number).ok_or(NO_SEGMENT);
        let in_sectors = |bytes: u64| match bytes.checked_rem(512) {
            Some(0) => bytes.checked_div(512).ok_or(NO_SEGMENT),
            _ => Err(NO_SEGMENT),
        };
        let digest = json
            .get("digests")
            .and_then(|digests| {
                let is_of_it = |digest: &Value<'_>| {
                    let mut segments = digest.get("segments").into_iter().flat_map(Value::items);
                    segments.any(|found| found.string() == Some(number))
                };
                digests
                    .members()
                    .map(|(_, digest)| digest)
                    .find(is_of_it)
                    .filter(|digest| is_of_type(*digest, b"pbkdf2"))
            })
            .ok_or(NO_DIGEST)?;
        let iterations = digest.get("iterations").and_then(Value::number);
        let header = Self {
            version: 2,
            uuid,
            cipher: text(segment, "encryption").ok_or(NO_SEGMENT)?,
            offset_sectors: in_sectors(count("offset")?)?,
            sectors: match segment.get("size").and_then(Value::string) {
                Some(b"dynamic") => None,
                _ => Some(in_sectors(count("size")?)?),
            },
            iv_sectors: count("iv_tweak")?,
            sector_bytes: u32::try_from(count("sector_size")?).map_err(|_| NO_SEGMENT)?,
            digest: Digest {
                hash: text(digest, "hash").ok_or(NO_DIGEST)?,
                iterations: iterations
                    .and_then(|count| u32::try_from(count).ok())
                    .ok_or(NO_DIGEST)?,
                salt: decoded(digest, "salt").ok_or(NO_DIGEST)?,
                value: decoded(digest, "digest").ok_or(NO_DIGEST)?,
            },
        };
        header.checked()
    }

    /// The same when what it says can be.
    fn checked(self) -> Result<Self, LuksError> {
        let is_word = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
        let is_uuid = |text: &[u8]| {
            let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
            !text.is_empty() && text.iter().all(is_part)
        };
        if self.uuid.is_cut() || !is_uuid(self.uuid.as_bytes()) {
            return Err(LuksError::Damaged("its UUID is none"));
        }
        if self.cipher.is_cut() || !is_word(self.cipher.as_bytes()) {
            return Err(LuksError::Damaged("its cipher is none"));
        }
        if !matches!(self.sector_bytes, 512 | 1024 | 2048 | 4096) {
            return Err(LuksError::Damaged("its sector size is none"));
        }
        if self.digest.value.is_empty() || self.digest.iterations == 0 {
            return Err(LuksError::Damaged("its digest of the volume key is none"));
        }
        if self.offset_sectors == 0 {
            return Err(LuksError::Unsupported(
                "its LUKS header lies on another device (a detached header)",
            ));
        }
        Ok(self)
    }

    /// What the record has, and the capture kernel compares with. `digest` is it as text.
    #[must_use]
    pub fn recorded<'a>(&'a self, key_bytes: usize, digest: &'a str) -> Luks<'a> {
        Luks {
            // Both were checked when they were read: they are ASCII.
            uuid: self.uuid.as_str().unwrap_or_default(),
            version: self.version,
            cipher: self.cipher.as_str().unwrap_or_default(),
            key_bytes,
            offset_sectors: self.offset_sectors,
            sectors: self.sectors,
            iv_sectors: self.iv_sectors,
            sector_bytes: self.sector_bytes,
            digest,
        }
    }

    /// It says what was recorded, so that the volume key in the image is its own.
    #[must_use]
    pub fn is_as(&self, recorded: &Luks<'_>) -> bool {
        let digest: Text<128> = Text::format(format_args!("{}", self.digest));
        digest
            .as_str()
            .is_some_and(|digest| self.recorded(recorded.key_bytes, digest) == *recorded)
    }
}

impl Digest {
    /// Whether this is the volume key. None where that cannot be told: the hash is another than SHA-1, SHA-256 and SHA-512, or
    /// there are too many rounds.
    #[must_use]
    pub fn is_of(&self, key: &[u8]) -> Option<bool> {
        let (salt, rounds) = (self.salt.as_slice(), self.iterations);
        if rounds > MOST_ITERATIONS {
            return None;
        }
        let block = match self.hash.as_bytes() {
            b"sha1" => pbkdf2::<Hmac<Sha1>>(key, salt, rounds)?,
            b"sha256" => pbkdf2::<Hmac<Sha256>>(key, salt, rounds)?,
            b"sha512" => pbkdf2::<Hmac<Sha512>>(key, salt, rounds)?,
            _ => return None,
        };
        block
            .get(..self.value.len())
            .map(|block| *block == *self.value)
    }
}

/// The value in hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Hex(&self.value))
    }
}

/// Bytes in hexadecimal digits.
pub(super) struct Hex<'b>(pub(super) &'b [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            f.write_str(core::str::from_utf8(&hex(*byte)).unwrap_or_default())?;
        }
        Ok(())
    }
}

/// The first block of PBKDF2, which is as long as the hash: no digest of LUKS takes more.
fn pbkdf2<M: Mac + KeyInit + Clone>(
    key: &[u8],
    salt: &[u8],
    iterations: u32,
) -> Option<Vec<u8, 64>> {
    let keyed = <M as KeyInit>::new_from_slice(key).ok()?;
    let mut last = keyed
        .clone()
        .chain_update(salt)
        .chain_update(1_u32.to_be_bytes())
        .finalize()
        .into_bytes();
    let mut sum: Vec<u8, 64> = list(&last);
    for _ in 1..iterations {
        last = keyed.clone().chain_update(&last).finalize().into_bytes();
        for (place, byte) in sum.iter_mut().zip(&last) {
            *place ^= *byte;
        }
    }
    Some(sum)
}

/// As many of the bytes as have room, which every caller's are.
fn list(bytes: &[u8]) -> Vec<u8, 64> {
    bytes.iter().copied().take(64).collect()
}

fn is_of_type(of: Value<'_>, kind: &[u8]) -> bool {
    of.get("type").and_then(Value::string) == Some(kind)
}

fn text<const N: usize>(of: Value<'_>, name: &str) -> Option<Text<N>> {
    of.get(name).and_then(Value::string).map(Text::new)
}

/// A base64 value, whose slashes JSON may have escaped.
fn decoded(of: Value<'_>, name: &str) -> Option<Vec<u8, 64>> {
    let text = of.get(name)?.string()?;
    let plain: Vec<u8, 128> = text
        .iter()
        .copied()
        .filter(|&byte| byte != b'\\')
        .take(128)
        .collect();
    let mut bytes = [0; 64];
    let found = decode_base64(&plain, &mut bytes)?;
    (text.len() <= 128).then(|| list(found))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::superblock::tests::Bytes;

    pub(crate) const UUID: &str = "0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11";
    const KEY: [u8; 64] = [0x5a; 64];

    /// A LUKS2 header with this JSON, as `cryptsetup` lays it out.
    fn version_2(json: &str) -> Vec<u8, 20000> {
        let mut bytes = [0; 16384];
        bytes[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
        bytes[8..16].copy_from_slice(&16384_u64.to_be_bytes());
        bytes[72..78].copy_from_slice(b"sha256");
        bytes[168..168 + UUID.len()].copy_from_slice(UUID.as_bytes());
        bytes[4096..4096 + json.len()].copy_from_slice(json.as_bytes());
        let sum = Sha256::digest(bytes);
        bytes[448..480].copy_from_slice(&sum);
        Vec::from_slice(&bytes).unwrap()
    }

    /// The digest is PBKDF2-HMAC-SHA256 of 64 bytes 0x5a with the salt `salt`, 1000 rounds, by Python's hashlib.
    const JSON: &str = r#"{"keyslots":{"0":{"type":"luks2","key_size":64}},"tokens":{},
        "segments":{"0":{"type":"crypt","offset":"16777216","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":4096}},
        "digests":{"0":{"type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1000,"salt":"c2FsdA==","digest":"tNBguJUhVZlzBP1uTMvA9ftsqGpl8p/aHYzBuf3SHGQ="}},
        "config":{"json_size":"12288","keyslots_size":"16744448"}}"#;

    fn read(bytes: &[u8]) -> Result<Header, LuksError> {
        Header::read(&mut Bytes(bytes), &mut [0; 16384])
    }

    #[test]
    fn a_header_of_version_2_is_read_and_knows_its_key() {
        let header = read(&version_2(JSON)).unwrap();
        assert_eq!(header.uuid.to_string(), UUID);
        assert_eq!(header.digest.is_of(&KEY), Some(true));
        assert_eq!(header.digest.is_of(&KEY[1..]), Some(false));
        let digest = header.digest.to_string();
        let recorded = header.recorded(64, &digest);
        assert_eq!(
            recorded.to_string(),
            format!("{UUID} 2 aes-xts-plain64 64 32768 dynamic 0 4096 {digest}")
        );
        assert!(header.is_as(&recorded));
        let other = digest.replace('0', "1");
        assert!(!header.is_as(&header.recorded(64, &other)));
        assert!(!header.is_as(&Luks {
            offset_sectors: 1,
            ..recorded
        }));
    }

    #[test]
    fn what_is_not_done_is_named() {
        for (from, to, words) in [
            (
                r#""config":{"#,
                r#""config":{"requirements":{"mandatory":["online-reencrypt-v2"]},"#,
                "encrypted anew",
            ),
            (
                r#""segments":{"#,
                r#""segments":{"1":{"type":"crypt"},"#,
                "more than one",
            ),
            (r#""type":"crypt""#, r#""type":"linear""#, "dm-crypt alone"),
            (r#""iv_tweak""#, r#""integrity":{},"iv_tweak""#, "integrity"),
            (r#""16777216""#, r#""0""#, "detached"),
            (r#""16777216""#, r#""16777217""#, "no whole segment"),
            (r#"size":4096"#, r#"size":4097"#, "sector size"),
            (r#""aes-xts-plain64""#, r#""aes xts""#, "its cipher is none"),
            (r#""pbkdf2""#, r#""argon2""#, "no whole digest"),
            (
                r#""segments":["0"]"#,
                r#""segments":["1"]"#,
                "no whole digest",
            ),
            (
                r#""iterations":1000"#,
                r#""iterations":0"#,
                "digest of the volume key is none",
            ),
        ] {
            let changed = JSON.replacen(from, to, 1);
            assert_ne!(changed, JSON);
            let said = read(&version_2(&changed)).unwrap_err().to_string();
            assert!(said.contains(words), "{to}: {said}");
        }
        let endless = JSON.replace("1000", "4294967295");
        let header = read(&version_2(&endless)).unwrap();
        assert_eq!(header.digest.is_of(&KEY), None);
        let unknown = JSON.replace("sha256", "whirlpool");
        let header = read(&version_2(&unknown)).unwrap();
        assert_eq!(header.digest.is_of(&KEY), None);
    }

    /// A header of version 1. The digest is PBKDF2-HMAC-SHA1 of 32 bytes 0x5a, 1000 rounds, by Python's hashlib.
    fn version_1() -> [u8; 592] {
        let mut bytes = [0; 592];
        for (at, field) in [
            (0, &b"LUKS\xba\xbe\0\x01"[..]),
            (8, b"aes"),
            (40, b"cbc-essiv:sha256"),
            (72, b"sha1"),
            (104, &4096_u32.to_be_bytes()),
            (108, &32_u32.to_be_bytes()),
            (
                112,
                &[
                    0xa5, 0xed, 0x89, 0x9f, 0xae, 0xa6, 0xa7, 0x5c, 0x48, 0xaa, 0xfa, 0xd6, 0x44,
                    0x83, 0xf4, 0x14, 0x92, 0xef, 0x31, 0xb3,
                ],
            ),
            (132, &[7; 32]),
            (164, &1000_u32.to_be_bytes()),
            (168, UUID.as_bytes()),
        ] {
            bytes[at..at + field.len()].copy_from_slice(field);
        }
        bytes
    }

    #[test]
    fn a_header_of_version_1_is_read_and_knows_its_key() {
        let header = read(&version_1()).unwrap();
        assert_eq!(header.digest.is_of(&KEY[..32]), Some(true));
        assert_eq!(header.digest.is_of(&KEY), Some(false));
        let digest = header.digest.to_string();
        assert_eq!(
            header.recorded(32, &digest).to_string(),
            format!("{UUID} 1 aes-cbc-essiv:sha256 32 4096 dynamic 0 512 {digest}")
        );
    }

    #[test]
    fn what_is_cut_or_changed_is_refused() {
        let whole = version_2(JSON);
        for length in (0..whole.len()).step_by(97).chain(0..600) {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
        let text_end = 4096 + JSON.len();
        // The checksum's place has room for a longer one.
        for position in (0..480).chain(512..600).chain(4090..text_end) {
            let mut bytes = whole.clone();
            bytes[position] ^= 1 << (position % 8);
            assert!(read(&bytes).is_err(), "{position}");
        }
        let old = version_1();
        for length in 0..old.len() {
            assert_eq!(read(&old[..length]), Err(LuksError::Absent));
        }
        for position in 0..old.len() {
            for bit in 0..8 {
                let mut bytes = old;
                bytes[position] ^= 1 << bit;
                let _ = read(&bytes);
            }
        }
    }

    #[test]
    fn a_header_that_is_larger_than_the_memory_is_no_allocation() {
        let mut bytes = version_2(JSON);
        bytes[8..16].copy_from_slice(&(4_u64 << 20).to_be_bytes());
        assert_eq!(read(&bytes), Err(LuksError::TooLarge(4 << 20)));
        bytes[8..16].copy_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(read(&bytes), Err(LuksError::Damaged("its size cannot be")));
    }
}
