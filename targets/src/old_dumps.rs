// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removing the oldest dumps beside a new one: `keep_dumps`.
//!
//! Only what is certainly ours goes: a directory that is called as the new one is but for the date, that has a manifest, and
//! that has no file besides those that a dump has. The manifest goes last, so that what was half removed is still known.

use crate::directory::{Directory, INCOMPLETE};
use crate::filesystem::{FilesystemError, Step};
use crate::io::io;
use crate::text::{Name, Text};
use core::fmt;
use core::mem::MaybeUninit;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, fsync, openat, unlinkat};
use rustix::io::Errno;

/// What a dump has; each may still have its incomplete name.
const FILES: [&str; 8] = [
    "vmcore",
    "vmcore.flat",
    "vmcore.flat.age",
    "vmcore-dmesg.txt",
    "vmcore-dmesg.txt.age",
    "kexec-dmesg.log",
    "kexec-dmesg.log.age",
    MANIFEST,
];
const MANIFEST: &str = "manifest.json";
/// The most that are removed at once; a smaller number for `keep_dumps` is reached after some dumps.
const MOST_REMOVED: u32 = 64;
/// `YYYY-MM-DD-HH:MM`.
const DATE_BYTES: usize = 16;

/// When a dump was made, as its directory's name says: the date, and which of that minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Age([u8; DATE_BYTES], u32);

impl Age {
    /// Reads what stands behind the address in a name.
    fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.as_bytes().split_first_chunk::<DATE_BYTES>()?;
        let fits = |(letter, pattern): (&u8, &u8)| match pattern {
            b'0' => letter.is_ascii_digit(),
            // Where a file system has no colons.
            b':' => matches!(letter, b':' | b'.'),
            other => letter == other,
        };
        if !date.iter().zip(b"0000-00-00-00:00").all(fits) {
            return None;
        }
        let number = match rest {
            [] => 0,
            [b'.', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
                core::str::from_utf8(digits).ok()?.parse().ok()?
            }
            _ => return None,
        };
        Some(Self(*date, number))
    }

    /// The part of a name before the date, and the date.
    fn of(name: &str) -> Option<(&str, Self)> {
        // An address ends with a dash, and has none itself; nor does the name of a zone that some have.
        let starts =
            core::iter::once(0).chain(name.match_indices('-').map(|(at, _)| at.saturating_add(1)));
        starts
            .filter_map(|at| name.split_at_checked(at))
            .find_map(|(before, date)| Some((before, Self::parse(date)?)))
    }
}

/// What one look at all dumps shows.
#[derive(Default)]
struct Seen {
    dumps: u32,
    spared: u32,
    oldest: Option<(Age, Text<80>)>,
}

impl Directory<'_> {
    /// Removes the oldest dumps of this machine until `keep` are left, of which this one is one.
    ///
    /// # Errors
    /// What the kernel said; what was removed before is gone.
    pub fn keep_newest(
        &self,
        keep: u32,
        tick: &mut dyn FnMut(),
        tell: &mut dyn FnMut(fmt::Arguments<'_>),
    ) -> Result<(), FilesystemError> {
        let path = self.path().as_str().unwrap_or_default();
        let own = path.rsplit('/').next().unwrap_or_default();
        let Some((prefix, _)) = Age::of(own) else {
            return Ok(());
        };
        for round in 0..MOST_REMOVED {
            tick();
            let seen = look(self.parent(), prefix, own).map_err(|errno| {
                FilesystemError::Step(Step::SavePath, Name::new(path.as_bytes()), io(errno))
            })?;
            if round == 0 && seen.spared > 0 {
                tell(format_args!(
                    "keep_dumps: {} older folders have other files too, or no manifest; they stay",
                    seen.spared
                ));
            }
            // The new one counts, and is never the oldest, whatever the clock says.
            let Some((_, name)) = seen.oldest.filter(|_| seen.dumps >= keep) else {
                return Ok(());
            };
            let text = name.as_str().unwrap_or_default();
            remove(self.parent(), text, tick).map_err(|errno| {
                FilesystemError::Step(Step::Directory, Name::new(text.as_bytes()), io(errno))
            })?;
            tell(format_args!(
                "keep_dumps {keep}: the dump of {text} is removed"
            ));
        }
        Ok(())
    }
}

/// Looks through all dumps but `own`.
fn look(parent: &OwnedFd, prefix: &str, own: &str) -> Result<Seen, Errno> {
    let mut seen = Seen::default();
    each_name(open(parent, ".")?, &mut |name| {
        let age = match Age::of(name) {
            Some((before, age)) if before == prefix && name != own => age,
            _ => return,
        };
        let short = Text::new(name.as_bytes());
        if short.is_cut() || !is_dump(parent, name) {
            seen.spared = seen.spared.saturating_add(1);
            return;
        }
        seen.dumps = seen.dumps.saturating_add(1);
        if seen.oldest.as_ref().is_none_or(|(oldest, _)| age < *oldest) {
            seen.oldest = Some((age, short));
        }
    })?;
    Ok(seen)
}

/// The directory has what a dump has, a manifest among it, and nothing else.
fn is_dump(parent: &OwnedFd, name: &str) -> bool {
    let (mut has_manifest, mut has_other) = (false, false);
    let looked = open(parent, name).and_then(|directory| {
        each_name(directory, &mut |name| {
            let complete = name.strip_suffix(INCOMPLETE).unwrap_or(name);
            has_manifest |= complete == MANIFEST;
            has_other |= !FILES.contains(&complete);
        })
    });
    looked.is_ok() && has_manifest && !has_other
}

/// Removes a dump. What is gone already, or never was there, is as good.
fn remove(parent: &OwnedFd, name: &str, tick: &mut dyn FnMut()) -> Result<(), Errno> {
    let directory = open(parent, name)?;
    for file in FILES {
        let incomplete: Name = Text::format(format_args!("{file}{INCOMPLETE}"));
        for file in [file, incomplete.as_str().unwrap_or(file)] {
            tick();
            match unlinkat(&directory, file, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)?;
    fsync(parent)
}

fn open(at: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// Visits each name in a directory; one that is no text is shown as such, so that it is seen.
fn each_name(directory: OwnedFd, visit: &mut dyn FnMut(&str)) -> Result<(), Errno> {
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        match entry?.file_name().to_str() {
            Ok("." | "..") => {}
            Ok(name) => visit(name),
            Err(_) => visit("(no text)"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;
    use std::fs;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Place(PathBuf);

    impl Place {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("kdumprd-old-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(path.join("crash")).unwrap();
            Self(path)
        }

        fn dump(&self, name: &str, files: &[&str]) {
            let folder = self.0.join("crash").join(name);
            fs::create_dir_all(&folder).unwrap();
            for file in files {
                fs::write(folder.join(file), "x").unwrap();
            }
        }

        fn list(&self) -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(self.0.join("crash"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }

        /// Makes the dump `own`, and keeps so many; returns what was told.
        fn keep(&self, own: &str, dumps: u32) -> Vec<String> {
            let root = open(CWD, self.0.to_str().unwrap()).unwrap();
            let directory = Directory::make(&root, "/crash", own).unwrap();
            let mut told = Vec::new();
            directory
                .keep_newest(dumps, &mut || {}, &mut |line| told.push(line.to_string()))
                .unwrap();
            told
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const DUMP: [&str; 4] = [
        "vmcore",
        "vmcore-dmesg.txt",
        "kexec-dmesg.log",
        "manifest.json",
    ];

    #[test]
    fn the_oldest_go_until_as_many_are_left_as_were_asked_for() {
        let place = Place::new();
        for name in [
            "2026-01-02-03:04",
            "2026-01-02-03:04.1",
            "2026-01-02-03:04.10",
            "2026-01-02-03:04.9",
            "2025-12-31-23:59",
        ] {
            place.dump(name, &DUMP);
        }
        place.dump(
            "2024-01-01-00:00",
            &["vmcore-incomplete", "manifest.json-incomplete"],
        );
        let told = place.keep("2026-01-02-03:05", 3);
        assert_eq!(
            place.list(),
            [
                "2026-01-02-03:04.10",
                "2026-01-02-03:04.9",
                "2026-01-02-03:05"
            ]
        );
        assert_eq!(told.len(), 4);
        assert_eq!(
            told[0],
            "keep_dumps 3: the dump of 2024-01-01-00:00 is removed"
        );
        // As many as there are: nothing goes.
        place.dump("2026-01-02-03:05", &DUMP);
        assert!(place.keep("2026-01-02-03:06", 4).is_empty());
    }

    #[test]
    fn the_new_one_stays_whatever_the_clock_says() {
        let place = Place::new();
        place.dump("2026-01-02-03:04", &DUMP);
        place.keep("1970-01-01-00:00", 1);
        assert_eq!(place.list(), ["1970-01-01-00:00"]);
    }

    #[test]
    fn what_is_not_certainly_ours_stays() {
        let place = Place::new();
        let others = [
            ("2020-01-01-00:00", &["vmcore"][..]),
            (
                "2020-01-01-00:01",
                &["vmcore", "manifest.json", "notes.txt"],
            ),
            ("2020-01-01", &DUMP),
            ("2020-01-01-00:00x", &DUMP),
            ("10.0.2.9-2020-01-01-00:00", &DUMP),
            ("old", &DUMP),
        ];
        for (name, files) in others {
            place.dump(name, files);
        }
        fs::write(place.0.join("crash/2020-01-01-00:07"), "a file").unwrap();
        std::os::unix::fs::symlink("old", place.0.join("crash/2020-01-01-00:08")).unwrap();
        let told = place.keep("2026-01-02-03:04", 1);
        assert_eq!(place.list().len(), others.len() + 3);
        assert_eq!(
            told,
            ["keep_dumps: 4 older folders have other files too, or no manifest; they stay"]
        );
    }

    #[test]
    fn on_a_server_each_machine_has_its_own() {
        let place = Place::new();
        for name in [
            "10.0.2.15-2020-01-01-00:00",
            "fd00::15-2020-01-01-00:00",
            "10.0.2.1-2020-01-01-00.00",
        ] {
            place.dump(name, &DUMP);
        }
        place.keep("10.0.2.15-2026-01-01-00:00", 1);
        place.keep("10.0.2.1-2026-01-01-00.00", 1);
        assert_eq!(
            place.list(),
            [
                "10.0.2.1-2026-01-01-00.00",
                "10.0.2.15-2026-01-01-00:00",
                "fd00::15-2020-01-01-00:00"
            ]
        );
    }
}
