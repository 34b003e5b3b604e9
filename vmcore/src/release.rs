// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a file that comes with the vmcore is of the same kernel: `-x` and `-i`.
//!
//! VMCOREINFO in the vmcore has all that filtering needs, so that nothing is taken from a vmlinux. That it belongs to
//! the vmcore is checked all the same: who gives it relies on that, and makedumpfile has an exit code for it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::Failure;
use super::options::Options;

/// VMCOREINFO is one page of the kernel.
const MAX_VMCOREINFO: u64 = 64 << 10;
/// What every vmlinux has before its release.
const BANNER: &[u8] = b"Linux version ";

/// The file that `-i` names.
pub(crate) fn read_vmcoreinfo(path: &Path) -> Result<Vec<u8>, Failure> {
    let in_path = |error: io::Error| Failure::from(format!("{}: {error}", path.display()));
    let mut text = Vec::new();
    File::open(path)
        .map_err(in_path)?
        .take(MAX_VMCOREINFO)
        .read_to_end(&mut text)
        .map_err(in_path)?;
    if release_of(&text).is_none() {
        return Err(Failure::from(format!(
            "{}: not the text of VMCOREINFO: it has no line OSRELEASE=",
            path.display()
        )));
    }
    Ok(text)
}

fn release_of(text: &[u8]) -> Option<&str> {
    text.split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(b"OSRELEASE="))
        .and_then(|release| std::str::from_utf8(release).ok())
}

/// Refuses a VMCOREINFO of another kernel.
pub(crate) fn check_vmcoreinfo(
    text: &[u8],
    release: &str,
    options: &Options,
) -> Result<(), Failure> {
    let own = release_of(text).unwrap_or_default();
    let path = options.vmcoreinfo.as_deref().unwrap_or(Path::new("-i"));
    if release.is_empty() || own == release {
        return Ok(());
    }
    Err(Failure::wrong_release(format!(
        "{} is of kernel {own}, the vmcore of {release}",
        path.display()
    )))
}

/// Refuses a vmlinux of another kernel.
pub(crate) fn check_vmlinux(path: &Path, release: &str) -> Result<(), Failure> {
    let in_path =
        |error: &dyn std::fmt::Display| Failure::from(format!("{}: {error}", path.display()));
    let mut file = File::open(path).map_err(|error| in_path(&error))?;
    let mut magic = [0; 4];
    if file.read_exact(&mut magic).is_err() || magic != *b"\x7fELF" {
        return Err(in_path(&"not a vmlinux: not an ELF file"));
    }
    if release.is_empty() {
        return Err(in_path(
            &"the vmcore has no VMCOREINFO, and debugging information is not read; -i VMCOREINFO helps",
        ));
    }
    let found = find_releases(&mut file).map_err(|error| in_path(&error))?;
    if found.is_empty() {
        return Err(in_path(&"not a vmlinux: it does not say \"Linux version\""));
    }
    if found.iter().any(|found| found == release) {
        return Ok(());
    }
    Err(Failure::wrong_release(format!(
        "{} is of kernel {}, the vmcore of {release}",
        path.display(),
        found.join(" or ")
    )))
}

/// The first words behind "Linux version " in a file; there are a few in a vmlinux, some of them formats.
fn find_releases(file: &mut impl io::Read) -> io::Result<Vec<String>> {
    const LONGEST: usize = 65;
    let mut found: Vec<String> = Vec::new();
    let mut buf = vec![0; 1 << 20];
    let mut kept = 0;
    loop {
        let count = file.read(&mut buf[kept..])?;
        let filled = kept + count;
        let text = &buf[..filled];
        let mut at = 0;
        while let Some(next) = memchr(b'L', &text[at..]).map(|next| at + next) {
            at = next + 1;
            let Some(rest) = text[next..].strip_prefix(BANNER) else {
                continue;
            };
            let word = rest.split(|&byte| byte <= b' ' || byte >= 0x7f).next();
            if let Some(word) = word.and_then(|word| std::str::from_utf8(word).ok())
                && word.starts_with(|first: char| first.is_ascii_digit())
                && word.len() < LONGEST
                && word.len() < rest.len()
                && !found.iter().any(|known| known == word)
            {
                found.push(word.to_owned());
            }
        }
        if count == 0 || found.len() > 16 {
            return Ok(found);
        }
        // A banner may lie across the end.
        kept = filled.min(BANNER.len() + LONGEST);
        buf.copy_within(filled - kept..filled, 0);
    }
}

fn memchr(wanted: u8, text: &[u8]) -> Option<usize> {
    text.iter().position(|&byte| byte == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_found_wherever_the_banner_lies() {
        for before in [0, 5, (1 << 20) - 20, (1 << 20) - 3, 1 << 21] {
            let mut file = vec![b'x'; before];
            file.extend(b"Linux version %s (%s)\0");
            file.extend(b"Linux version 6.1.0-56-cloud-amd64 (debian) #1\0");
            let found = find_releases(&mut &file[..]).unwrap();
            assert_eq!(found, ["6.1.0-56-cloud-amd64"], "{before}");
        }
        assert!(
            find_releases(&mut &b"Linux version 6"[..])
                .unwrap()
                .is_empty()
        );
    }
}
