// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is mounted where, and what is to be.
//!
//! Source: proc(5), fstab(5).

/// One mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What the kernel calls the device.
    pub source: String,
    /// The directory that it is mounted on.
    pub target: String,
    /// Its type.
    pub fstype: String,
    /// The directory of the file system that is seen there; `/` but for bind mounts and the like.
    pub directory: String,
    /// The device's major and minor number, where known.
    pub numbers: Option<(u32, u32)>,
    /// The options of the file system itself.
    pub options: String,
}

/// One line of `/etc/fstab`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FstabEntry {
    /// Its line, counted from 1.
    pub line: u32,
    /// A node, or `UUID=` and the like.
    pub source: String,
    /// The directory; `none` for swap.
    pub target: String,
    /// The type.
    pub fstype: String,
    /// The options.
    pub options: String,
    /// It is not mounted at boot.
    pub is_noauto: bool,
}

impl FstabEntry {
    pub(super) fn as_mounted(&self) -> Mount {
        Mount {
            source: self.source.clone(),
            target: self.target.clone(),
            fstype: self.fstype.clone(),
            directory: "/".to_owned(),
            numbers: None,
            options: self.options.clone(),
        }
    }
}

/// Lines that make no sense are left out: the kernel writes none.
pub(super) fn parse_mountinfo(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let (place, device) = line.split_once(" - ")?;
            let mut place = place.split(' ').skip(2);
            let (major, minor) = place.next()?.split_once(':')?;
            let (directory, target) = (place.next()?, place.next()?);
            let mut device = device.split(' ');
            let (fstype, source) = (device.next()?, device.next()?);
            let options = device.next().unwrap_or("").to_owned();
            Some(Mount {
                source: unescaped(source),
                target: unescaped(target),
                fstype: unescaped(fstype),
                directory: unescaped(directory),
                numbers: Some((major.parse().ok()?, minor.parse().ok()?)),
                options,
            })
        })
        .collect()
}

pub(super) fn parse_mounts(text: &str) -> Vec<Mount> {
    parse_fstab(text)
        .iter()
        .map(FstabEntry::as_mounted)
        .collect()
}

pub(super) fn parse_fstab(text: &str) -> Vec<FstabEntry> {
    (1..)
        .zip(text.lines())
        .filter_map(|(line, text)| {
            let mut words = text.split_ascii_whitespace();
            let source = words.next().filter(|word| !word.starts_with('#'))?;
            let (target, fstype) = (words.next()?, words.next()?);
            let options = words.next().unwrap_or("");
            Some(FstabEntry {
                line,
                // `UUID="…"` is as good as without quotes.
                source: unescaped(source).replace('"', ""),
                target: unescaped(target),
                fstype: unescaped(fstype),
                options: options.to_owned(),
                is_noauto: options.split(',').any(|option| option == "noauto"),
            })
        })
        .collect()
}

/// `\040` and its like for blanks, tabs, newlines and backslashes.
pub(super) fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let octal = behind
            .get(..3)
            .filter(|digits| {
                byte == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit))
            })
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(value) => {
                bytes.push(value);
                rest = &behind[3..];
            }
            None => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is left of `path` below the directory `target`, with a slash in front; empty for the directory itself.
pub(super) fn below(target: &str, path: &str) -> Option<String> {
    let rest = path.strip_prefix(target.trim_end_matches('/'))?;
    match rest {
        "/" => Some(String::new()),
        _ if rest.is_empty() || rest.starts_with('/') => Some(rest.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read_with_its_optional_fields_and_escapes() {
        let mounts = parse_mountinfo(
            "36 35 98:0 /mnt1 /my\\040disk rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw\nnonsense\n\
             22 1 0:21 / /proc rw - proc proc rw\n",
        );
        assert_eq!(mounts.len(), 2);
        assert_eq!(
            mounts[0],
            Mount {
                source: "/dev/root".to_owned(),
                target: "/my disk".to_owned(),
                fstype: "ext3".to_owned(),
                directory: "/mnt1".to_owned(),
                numbers: Some((98, 0)),
                options: "rw".to_owned(),
            }
        );
    }

    #[test]
    fn fstab_lines_keep_their_number() {
        let entries = parse_fstab(
            "# c\n\nUUID=\"1-2\" / ext4 defaults 0 1\n/dev/b /b\\011c ext3 noauto,ro\nbad\n/d none swap sw\n",
        );
        assert_eq!(entries.len(), 3);
        assert_eq!(
            (entries[0].line, entries[0].source.as_str()),
            (3, "UUID=1-2")
        );
        assert_eq!(
            (entries[1].target.as_str(), entries[1].is_noauto),
            ("/b\tc", true)
        );
        assert!(!entries[2].is_noauto);
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(unescaped("a\\134b\\09\\777"), "a\\b\\09\\777");
        assert_eq!(below("/", "/"), Some(String::new()));
        assert_eq!(below("/a", "/a"), Some(String::new()));
        assert_eq!(below("/a", "/ab"), None);
    }
}
