// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a module file says of itself: the `.modinfo` section, `key=value` pairs with NUL between.

use object::elf::{FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, FileKind};
use std::fmt;

/// The facts of one module that its loading depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModInfo {
    /// Modules whose symbols it uses.
    pub depends: Vec<String>,
    /// Modules or aliases that should be loaded before.
    pub pre: Vec<String>,
    /// Modules or aliases that should be loaded behind.
    pub post: Vec<String>,
    /// Files below `/lib/firmware` that it asks for.
    pub firmware: Vec<String>,
    /// The kernel that it was built for: release and flags.
    pub vermagic: String,
}

/// Why a file is no module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModInfoError {
    /// Not an ELF file, or a damaged one.
    NotElf,
    /// It has no `.modinfo` section.
    NoModInfo,
}

impl fmt::Display for ModInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotElf => "not an ELF file, or a damaged one",
            Self::NoModInfo => "no kernel module: it has no .modinfo section",
        })
    }
}

/// Reads the `.modinfo` of a module that is not compressed.
///
/// # Errors
/// The file is no kernel module.
pub fn read(elf: &[u8]) -> Result<ModInfo, ModInfoError> {
    let section = match FileKind::parse(elf) {
        Ok(FileKind::Elf64) => section::<FileHeader64<Endianness>>(elf),
        Ok(FileKind::Elf32) => section::<FileHeader32<Endianness>>(elf),
        _ => return Err(ModInfoError::NotElf),
    };
    let section = section
        .map_err(|_| ModInfoError::NotElf)?
        .ok_or(ModInfoError::NoModInfo)?;
    let mut info = ModInfo::default();
    for pair in section.split(|&byte| byte == 0) {
        let pair = String::from_utf8_lossy(pair);
        let Some((key, value)) = pair.split_once('=') else {
            continue;
        };
        match key {
            "depends" => info.depends.extend(
                value
                    .split(',')
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned),
            ),
            "softdep" => take_softdep(value, &mut info.pre, &mut info.post),
            "firmware" => info.firmware.push(value.to_owned()),
            "vermagic" => value.clone_into(&mut info.vermagic),
            _ => {}
        }
    }
    Ok(info)
}

/// Sorts the words of a softdep, `pre: a b post: c`, into what comes before and what behind.
///
/// Source: modprobe.d(5) of kmod 30.
pub(super) fn take_softdep(text: &str, pre: &mut Vec<String>, post: &mut Vec<String>) {
    let mut to = None;
    for word in text.split_ascii_whitespace() {
        match word {
            "pre:" => to = Some(&mut *pre),
            "post:" => to = Some(&mut *post),
            _ => {
                if let Some(to) = &mut to {
                    to.push(word.to_owned());
                }
            }
        }
    }
}

/// What ends a module that carries a signature.
const SIGNATURE_MAGIC: &[u8] = b"~Module signature appended~\n";
/// `struct module_signature`: kinds, lengths of the signer's name and key id, padding, length of the signature.
const SIGNATURE_INFO_BYTES: usize = 12;

/// The length of a module without the signature at its end.
///
/// Source: Linux 6.12 `include/linux/module_signature.h`, `kernel/module/signing.c`.
#[must_use]
pub fn unsigned_bytes(module: &[u8]) -> usize {
    let signed = || {
        let rest = module.strip_suffix(SIGNATURE_MAGIC)?;
        let (rest, info) = rest.split_at_checked(rest.len().checked_sub(SIGNATURE_INFO_BYTES)?)?;
        let [_, _, _, signer, key_id, _, _, _, length @ ..] = info else {
            return None;
        };
        let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
        rest.len()
            .checked_sub(length)?
            .checked_sub(usize::from(*signer) + usize::from(*key_id))
    };
    signed().unwrap_or(module.len())
}

fn section<Elf: FileHeader<Endian = Endianness>>(
    elf: &[u8],
) -> object::read::Result<Option<&[u8]>> {
    let header = Elf::parse(elf)?;
    let endian = header.endian()?;
    match header
        .sections(endian, elf)?
        .section_by_name(endian, b".modinfo")
    {
        Some((_, section)) => section.data(endian, elf).map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An ELF64 file with a `.modinfo`, written byte by byte: header, section contents, three section headers.
    pub(crate) fn module_file(modinfo: &str) -> Vec<u8> {
        let modinfo = modinfo.as_bytes();
        let names = b"\0.modinfo\0.shstrtab\0";
        let names_at = 64 + modinfo.len() as u64;
        let table_at = (names_at + names.len() as u64).next_multiple_of(8);
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend(1_u16.to_le_bytes());
        file.extend(62_u16.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        file.extend([0; 16]);
        file.extend(table_at.to_le_bytes());
        file.extend([0; 4]);
        for half in [64_u16, 0, 0, 64, 3, 2] {
            file.extend(half.to_le_bytes());
        }
        file.extend(modinfo);
        file.extend(names);
        file.resize(usize::try_from(table_at).unwrap(), 0);
        file.extend([0; 64]);
        for (name, kind, at, length) in [
            (1_u32, 1_u32, 64, modinfo.len() as u64),
            (10, 3, names_at, names.len() as u64),
        ] {
            file.extend(name.to_le_bytes());
            file.extend(kind.to_le_bytes());
            for word in [2, 0, at, length] {
                file.extend(u64::to_le_bytes(word));
            }
            file.extend([0; 8]);
            for word in [1, 0] {
                file.extend(u64::to_le_bytes(word));
            }
        }
        file
    }

    #[test]
    fn the_facts_of_a_module_are_read() {
        let file = module_file(
            "license=GPL\0depends=jbd2,mbcache\0softdep=pre: crypto-crc32c  a post: b\0firmware=x/y.bin\0firmware=z\0\
             vermagic=6.1.0 SMP mod_unload \0",
        );
        let info = read(&file).unwrap();
        assert_eq!(info.depends, ["jbd2", "mbcache"]);
        assert_eq!(
            (info.pre, info.post),
            (
                vec!["crypto-crc32c".to_owned(), "a".to_owned()],
                vec!["b".to_owned()]
            )
        );
        assert_eq!(info.firmware, ["x/y.bin", "z"]);
        assert_eq!(info.vermagic, "6.1.0 SMP mod_unload ");
        assert_eq!(
            read(&module_file("depends=\0")).unwrap().depends,
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_signature_is_measured_by_what_it_says_of_itself() {
        let file = module_file("license=GPL\0");
        let signed = |length: u32| {
            let mut signed = file.clone();
            signed.extend(b"signer and key id, signature");
            signed.extend([0, 0, 2, 6, 12, 0, 0, 0]);
            signed.extend(length.to_be_bytes());
            signed.extend(SIGNATURE_MAGIC);
            signed
        };
        assert_eq!(unsigned_bytes(&signed(10)), file.len());
        assert_eq!(unsigned_bytes(&file), file.len());
        // One that claims more than the file has is left for the kernel to refuse.
        assert_eq!(unsigned_bytes(&signed(u32::MAX)), signed(0).len());
        assert_eq!(unsigned_bytes(SIGNATURE_MAGIC), SIGNATURE_MAGIC.len());
    }

    #[test]
    fn other_files_are_refused() {
        assert_eq!(read(b""), Err(ModInfoError::NotElf));
        assert_eq!(read(b"#!/bin/sh"), Err(ModInfoError::NotElf));
        let mut file = module_file("license=GPL\0");
        let at = file
            .windows(8)
            .rposition(|window| window == b".modinfo")
            .unwrap();
        file[at] = b'_';
        assert_eq!(read(&file), Err(ModInfoError::NoModInfo));
    }

    #[test]
    fn cut_and_flipped_files_are_an_error_or_facts() {
        let file = module_file("depends=a\0vermagic=6.1.0\0");
        for length in 0..file.len() {
            let _ = read(&file[..length]);
        }
        for position in 0..file.len() {
            for bit in 0..8 {
                let mut flipped = file.clone();
                flipped[position] ^= 1 << bit;
                let _ = read(&flipped);
            }
        }
        assert!(read(&file[..file.len() - 1]).is_err());
    }
}
