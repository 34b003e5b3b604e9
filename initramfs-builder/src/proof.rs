// SPDX-License-Identifier: MIT OR Apache-2.0
//! When it was last seen that crashes are captured: by a crash for the purpose, a rehearsal, or a probe of the targets.
//!
//! The file has the last of each kind, as JSON, so that a person, or a program that watches the machine, can tell how old
//! the proof is.

use crate::error::Mistake;
use crate::image;
use serde_json::{Map, Value, json};
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Below the root of the system.
const FILE: &str = "var/lib/kdump/proofs.json";

/// How it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `kdumpctl test`: the machine itself crashed.
    Test,
    /// `mkkdumprd selftest`: a virtual machine crashed.
    Selftest,
    /// `mkkdumprd check`: the targets took a small file.
    Check,
}

impl Kind {
    /// Every kind, the strongest first.
    pub const ALL: [Self; 3] = [Self::Test, Self::Selftest, Self::Check];

    /// Its key in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Selftest => "selftest",
            Self::Check => "check",
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A crash is captured.
    Good,
    /// A crash is not captured.
    Bad,
    /// This machine cannot tell.
    Unknown,
}

impl Verdict {
    const ALL: [Self; 3] = [Self::Good, Self::Bad, Self::Unknown];

    /// As the file has it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Unknown => "unknown",
        }
    }
}

/// One proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// How it was seen.
    pub kind: Kind,
    /// When, in seconds since 1970.
    pub time_s: u64,
    /// The capture kernel's release.
    pub release: String,
    /// What came of it.
    pub verdict: Verdict,
    /// What was seen.
    pub text: String,
}

impl Proof {
    /// A proof of now.
    #[must_use]
    pub fn new(kind: Kind, release: &str, verdict: Verdict, text: String) -> Self {
        Self {
            kind,
            time_s: now_s(),
            release: release.to_owned(),
            verdict,
            text,
        }
    }

    /// As the file has it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "time": self.time_s,
            "release": self.release,
            "verdict": self.verdict.word(),
            "text": self.text,
        })
    }

    fn from_json(kind: Kind, value: &Value) -> Option<Self> {
        let text = |key: &str| Some(value.get(key)?.as_str()?.to_owned());
        let word = text("verdict")?;
        Some(Self {
            kind,
            time_s: value.get("time")?.as_u64()?,
            release: text("release")?,
            verdict: Verdict::ALL
                .into_iter()
                .find(|verdict| verdict.word() == word)?,
            text: text("text")?,
        })
    }
}

/// `test, 3 days ago: good: …`
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {}, kernel {}: {}: {}",
            self.kind.word(),
            Age(now_s().saturating_sub(self.time_s)),
            self.release,
            self.verdict.word(),
            self.text
        )
    }
}

/// How long ago something was, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Age(pub u64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (seconds, unit) in [(86_400, "day"), (3600, "hour"), (60, "minute")] {
            let count = self.0 / seconds;
            if count > 0 {
                let plural = if count == 1 { "" } else { "s" };
                return write!(f, "{count} {unit}{plural} ago");
            }
        }
        f.write_str("just now")
    }
}

/// Seconds since 1970.
#[must_use]
pub fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn path(root: &Path) -> PathBuf {
    root.join(FILE)
}

fn read_file(root: &Path) -> Map<String, Value> {
    // What cannot be read proves nothing, and the next proof writes it anew.
    fs::read_to_string(path(root))
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

/// What is known below `root`, the strongest first.
#[must_use]
pub fn read(root: &Path) -> Vec<Proof> {
    let file = read_file(root);
    Kind::ALL
        .into_iter()
        .filter_map(|kind| Proof::from_json(kind, file.get(kind.word())?))
        .collect()
}

/// Keeps `proof` in the place of the last one of its kind.
///
/// # Errors
/// The file cannot be written.
pub fn keep(root: &Path, proof: &Proof) -> Result<(), Mistake> {
    let mut file = read_file(root);
    file.insert(proof.kind.word().to_owned(), proof.to_json());
    let path = path(root);
    if let Some(folder) = path.parent()
        && let Err(error) = fs::create_dir_all(folder)
        && error.kind() != ErrorKind::AlreadyExists
    {
        return Err(Mistake::new(format!(
            "making {}: {error}",
            folder.display()
        )));
    }
    image::write(&path, format!("{:#}\n", Value::Object(file)).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_proof_of_each_kind_is_kept() {
        let root = std::env::temp_dir().join(format!("proofs-{}", std::process::id()));
        assert_eq!(read(&root), []);
        let proof = |kind, verdict| Proof::new(kind, "6.1", verdict, "seen".to_owned());
        keep(&root, &proof(Kind::Check, Verdict::Good)).unwrap();
        keep(&root, &proof(Kind::Test, Verdict::Good)).unwrap();
        keep(&root, &proof(Kind::Test, Verdict::Bad)).unwrap();
        let known: Vec<_> = read(&root)
            .into_iter()
            .map(|proof| (proof.kind, proof.verdict))
            .collect();
        assert_eq!(
            known,
            [(Kind::Test, Verdict::Bad), (Kind::Check, Verdict::Good)]
        );
        fs::write(path(&root), "{ damaged").unwrap();
        assert_eq!(read(&root), []);
        keep(&root, &proof(Kind::Test, Verdict::Unknown)).unwrap();
        assert_eq!(read(&root).len(), 1);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn an_age_is_told_in_the_largest_unit() {
        for (seconds, text) in [
            (0, "just now"),
            (59, "just now"),
            (61, "1 minute ago"),
            (7200, "2 hours ago"),
            (90_000, "1 day ago"),
        ] {
            assert_eq!(Age(seconds).to_string(), text);
        }
    }
}
