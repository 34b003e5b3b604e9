// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last crash that was captured to this machine, as its manifest tells it.

use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// No manifest is longer; what is, is none.
const LONGEST: u64 = 64 << 10;

/// The youngest of the dumps in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// Where it is.
    pub folder: PathBuf,
    /// When the machine crashed, in seconds since 1970.
    time_s: i64,
    /// The same in the machine's zone.
    pub date: String,
    /// The crashed kernel's reason; empty when it is unknown.
    pub panic: String,
    /// Why the dump is not whole; none when it is.
    pub cut: Option<String>,
}

/// The youngest dump below `folder`. What cannot be read, or has no manifest, is passed over.
#[must_use]
pub fn last(folder: &Path) -> Option<Last> {
    fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter_map(|entry| read(&entry.path()))
        .max_by_key(|last| last.time_s)
}

fn read(folder: &Path) -> Option<Last> {
    let mut text = Vec::new();
    File::open(folder.join("manifest.json"))
        .ok()?
        .take(LONGEST)
        .read_to_end(&mut text)
        .ok()?;
    let manifest: Value = serde_json::from_slice(&text).ok()?;
    let word = |name: &str| manifest.get(name).and_then(Value::as_str);
    let cut = match manifest.get("complete")?.as_bool()? {
        true => None,
        false => Some(word("incomplete_because").unwrap_or_default().to_owned()),
    };
    Some(Last {
        folder: folder.to_path_buf(),
        time_s: manifest.get("crash_time")?.as_i64()?,
        date: word("crash_date")?.to_owned(),
        panic: word("panic").unwrap_or_default().to_owned(),
        cut,
    })
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.date)?;
        if !self.panic.is_empty() {
            write!(f, "{}; ", self.panic)?;
        }
        match &self.cut {
            None => write!(f, "complete dump in {}", self.folder.display()),
            Some(why) => write!(f, "INCOMPLETE dump in {}: {why}", self.folder.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_dump_tells_its_story_and_what_is_none_is_passed_over() {
        let folder = std::env::temp_dir().join(format!("kdumpctl-last-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        assert_eq!(last(&folder), None);
        let dump = |name: &str, manifest: &str| {
            fs::create_dir_all(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("manifest.json"), manifest).unwrap();
        };
        dump(
            "b",
            r#"{"complete":true,"crash_time":7,"crash_date":"1970-01-01-00:00","panic":"Kernel panic"}"#,
        );
        let said = last(&folder).unwrap().to_string();
        let place = folder.join("b");
        assert_eq!(
            said,
            format!(
                "1970-01-01-00:00: Kernel panic; complete dump in {}",
                place.display()
            )
        );
        dump(
            "a",
            r#"{"complete":false,"incomplete_because":"ENOSPC","crash_time":8,"crash_date":"later","panic":""}"#,
        );
        let place = folder.join("a");
        assert_eq!(
            last(&folder).unwrap().to_string(),
            format!("later: INCOMPLETE dump in {}: ENOSPC", place.display())
        );
        for (name, manifest) in [
            ("empty", ""),
            ("torn", r#"{"complete":tr"#),
            ("other", "[1]"),
            (
                "strange",
                r#"{"complete":1,"crash_time":"9","crash_date":9}"#,
            ),
        ] {
            dump(name, manifest);
        }
        fs::write(folder.join("a file"), "").unwrap();
        assert_eq!(last(&folder).unwrap().folder, place);
        fs::remove_dir_all(&folder).unwrap();
    }
}
