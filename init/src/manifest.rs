// SPDX-License-Identifier: MIT OR Apache-2.0
//! `manifest.json`: what was saved, of what, how, and how long it took; for programs, beside the dump.

use crate::date::date;
use crate::report::Step;
use collector::Stats;
use config::{Attempt, Compression, Format, Record};
use core::ffi::CStr;
use core::fmt::{self, Display, Write as _};

/// What the manifest tells.
pub struct Manifest<'a> {
    /// The record that was followed.
    pub record: &'a Record<'a>,
    /// The attempt that this is, counted from 0.
    pub number: usize,
    /// Its description.
    pub attempt: &'a Attempt<'a>,
    /// Why the attempts before it failed.
    pub failures: &'a [heapless::String<{ crate::report::TEXT_BYTES }>],
    /// The crashed kernel's release; empty when it is unknown.
    pub release: &'a str,
    /// Why it crashed; empty when it is unknown.
    pub panic_line: &'a str,
    /// When it crashed, in seconds since 1970.
    pub crash_time_s: i64,
    /// The dump is whole. Else this says why it is not.
    pub result: Result<(), &'a str>,
    /// The dumpfile's shape, which may be another than asked for.
    pub format: Format,
    /// What became of the pages; none when the dump was not finished.
    pub stats: Option<&'a Stats>,
    /// Bytes of `vmcore-dmesg.txt`; none when there is none.
    pub dmesg_bytes: Option<u64>,
    /// How long each step took, in milliseconds.
    pub durations: &'a [(Step, u64)],
    /// The most memory that PID 1 and the attempt's process had, in KiB.
    pub peak_memory_kib: u64,
}

impl Manifest<'_> {
    /// Writes the manifest into `buffer` and returns it; `None` when it does not fit.
    pub fn write<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let mut json = Json {
            buffer,
            used: 0,
            comma: false,
        };
        self.fill(&mut json).ok()?;
        let Json { buffer, used, .. } = json;
        buffer.get(..used)
    }

    /// What init's own collector was asked for.
    fn write_options(&self, json: &mut Json<'_>) -> fmt::Result {
        let collect = &self.attempt.collect;
        json.text("format", &self.format)?;
        let compression = match self.format {
            Format::Kdump => collect.compression,
            Format::Elf | Format::Copy => Compression::None,
        };
        json.text("compression", &compression)?;
        json.key("levels_asked")?;
        json.open('[')?;
        for level in &collect.levels {
            json.item()?;
            json.raw_display(&level.number())?;
        }
        json.close(']')
    }

    fn fill(&self, json: &mut Json<'_>) -> fmt::Result {
        json.open('{')?;
        json.number("manifest_version", 1)?;
        json.text("kdumprd_version", &env!("CARGO_PKG_VERSION"))?;
        json.key("complete")?;
        json.raw(if self.result.is_ok() { "true" } else { "false" })?;
        if let Err(why) = self.result {
            json.text("incomplete_because", &why)?;
        }
        json.text("hostname", &self.record.hostname)?;
        let is_open = self.record.encrypt_to.is_empty();
        if is_open {
            json.text("kernel", &self.release)?;
        }
        json.text("capture_kernel", &self.record.kernel)?;
        json.number("crash_time", self.crash_time_s)?;
        json.text("crash_date", &date(self.record.zone, self.crash_time_s))?;
        if is_open {
            json.text("panic", &self.panic_line)?;
        } else {
            json.key("encrypted_to")?;
            json.open('[')?;
            for key in &self.record.encrypt_to {
                json.item()?;
                json.string(key)?;
            }
            json.close(']')?;
        }
        json.text("target", &self.attempt.target)?;
        match self.attempt.program {
            Some(program) => json.text("core_collector", &program)?,
            None => self.write_options(json)?,
        }
        if let Some(stats) = self.stats {
            json.number("level_used", stats.level_used.number())?;
            json.key("pages")?;
            json.open('{')?;
            for (name, count) in [
                ("present", stats.present),
                ("kept", stats.kept),
                ("zero", stats.zero),
                ("cache", stats.cache),
                ("cache_private", stats.cache_private),
                ("user", stats.user),
                ("free", stats.free),
                ("hwpoison", stats.hwpoison),
                ("offline", stats.offline),
                ("unreadable", stats.unreadable),
            ] {
                json.number(name, count)?;
            }
            json.close('}')?;
            json.number("vmcore_bytes", stats.written_bytes)?;
        }
        if let Some(bytes) = self.dmesg_bytes {
            json.number("vmcore_dmesg_bytes", bytes)?;
        }
        json.key("milliseconds")?;
        json.open('{')?;
        for (step, ms) in self.durations {
            json.number(step.word(), *ms)?;
        }
        json.close('}')?;
        json.number("peak_memory_kib", self.peak_memory_kib)?;
        json.key("attempts")?;
        json.open('[')?;
        for (number, failure) in (1..).zip(self.failures) {
            json.attempt(number, &failure.as_str())?;
        }
        let outcome = match self.result {
            Ok(()) => "done",
            Err(why) => why,
        };
        json.attempt(self.number.saturating_add(1), &outcome)?;
        json.close(']')?;
        json.close('}')?;
        json.raw("\n")
    }
}

/// JSON into a fixed buffer. Source: RFC 8259.
struct Json<'b> {
    buffer: &'b mut [u8],
    used: usize,
    /// Something stands before in this object or list.
    comma: bool,
}

impl Json<'_> {
    fn raw(&mut self, text: &str) -> fmt::Result {
        let end = self.used.checked_add(text.len()).ok_or(fmt::Error)?;
        self.buffer
            .get_mut(self.used..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }

    fn raw_display(&mut self, value: &dyn Display) -> fmt::Result {
        write!(Raw(self), "{value}")
    }

    fn open(&mut self, bracket: char) -> fmt::Result {
        self.comma = false;
        self.raw(bracket.encode_utf8(&mut [0; 4]))
    }

    fn close(&mut self, bracket: char) -> fmt::Result {
        self.comma = true;
        self.raw(bracket.encode_utf8(&mut [0; 4]))
    }

    fn item(&mut self) -> fmt::Result {
        if self.comma {
            self.raw(",")?;
        }
        self.comma = true;
        Ok(())
    }

    fn key(&mut self, name: &str) -> fmt::Result {
        self.item()?;
        self.string(&name)?;
        self.raw(":")
    }

    fn number(&mut self, name: &str, value: impl Display) -> fmt::Result {
        self.key(name)?;
        self.raw_display(&value)
    }

    fn text(&mut self, name: &str, value: &dyn Display) -> fmt::Result {
        self.key(name)?;
        self.string(value)
    }

    fn string(&mut self, value: &dyn Display) -> fmt::Result {
        self.raw("\"")?;
        write!(Escaped(self), "{value}")?;
        self.raw("\"")
    }

    fn attempt(&mut self, number: usize, outcome: &dyn Display) -> fmt::Result {
        self.item()?;
        self.open('{')?;
        self.number("number", number)?;
        self.text("outcome", outcome)?;
        self.close('}')
    }
}

struct Raw<'j, 'b>(&'j mut Json<'b>);

impl fmt::Write for Raw<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.raw(text)
    }
}

struct Escaped<'j, 'b>(&'j mut Json<'b>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '"' => self.0.raw("\\\"")?,
                '\\' => self.0.raw("\\\\")?,
                letter if u32::from(letter) < 0x20 => {
                    write!(Raw(self.0), "\\u{:04x}", u32::from(letter))?;
                }
                letter => self.0.raw(letter.encode_utf8(&mut [0; 4]))?,
            }
        }
        Ok(())
    }
}

/// The most memory that PID 1 and this process had so far, in KiB; what both share counts twice. 0 when the kernel does not
/// tell.
#[must_use]
pub fn peak_memory_kib() -> u64 {
    [c"/proc/1/status", c"/proc/self/status"]
        .into_iter()
        .map(peak_kib)
        .fold(0, u64::saturating_add)
}

/// The peak of one process. Source: proc(5), `VmHWM`.
fn peak_kib(status: &CStr) -> u64 {
    let mut buffer = [0; 2048];
    let text = crate::files::read_text(status, &mut buffer).unwrap_or("");
    text.lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|value| value.trim().strip_suffix(" kB"))
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::{DumpLevel, record};

    const RECORD: &str = "kdumprd-record 1\nkernel 6.1.0\nhostname db\"7\\\nzone CET-1CEST,M3.5.0,M10.5.0/3\n\
        failure_action reboot\nfinal_action reboot\nattempt configured\n raw\n device label a\u{1}b\n \
        collect kdump none 1,31\nattempt configured\n filesystem ext3\n device node /dev/vda1\n path /var/crash\n \
        collect kdump zlib 31\nend\n";

    fn manifest<'a>(
        record: &'a Record<'a>,
        failures: &'a [heapless::String<640>],
        stats: Option<&'a Stats>,
    ) -> Manifest<'a> {
        Manifest {
            record,
            number: 1,
            attempt: &record.attempts[1],
            failures,
            release: "6.1.0-56-cloud-amd64",
            panic_line: "Kernel panic - not syncing: \t\"x\"",
            crash_time_s: 1_795_388_999,
            result: if stats.is_some() {
                Ok(())
            } else {
                Err("writing at byte 9: ENOSPC")
            },
            format: Format::Kdump,
            stats,
            dmesg_bytes: stats.map(|_| 4711),
            durations: &[(Step::Device, 12), (Step::Dump, 3456)],
            peak_memory_kib: 5000,
        }
    }

    fn parsed(manifest: &Manifest<'_>) -> serde_json::Value {
        let mut buffer = [0; 4096];
        let bytes = manifest.write(&mut buffer).unwrap();
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn it_is_json_that_says_what_was_put_in() {
        let record = record::parse(RECORD).unwrap();
        let mut stats = Stats::new(DumpLevel::MAX);
        (stats.present, stats.kept, stats.written_bytes) = (262_144, 12_000, u64::MAX);
        let failures =
            [heapless::String::try_from("no device \"a\u{7}b\" within 180.0 s").unwrap()];
        let value = parsed(&manifest(&record, &failures, Some(&stats)));
        assert_eq!(value["complete"], true);
        assert_eq!(value["hostname"], "db\"7\\");
        assert_eq!(value["kernel"], "6.1.0-56-cloud-amd64");
        assert_eq!(value["crash_date"], "2026-11-23-00:09");
        assert_eq!(value["panic"], "Kernel panic - not syncing: \t\"x\"");
        assert_eq!(value["target"], "ext3 /dev/vda1, save path /var/crash");
        assert_eq!(value["levels_asked"], serde_json::json!([31]));
        assert_eq!(value["level_used"], 31);
        assert_eq!(value["pages"]["kept"], 12_000);
        assert_eq!(value["vmcore_bytes"], u64::MAX);
        assert_eq!(value["milliseconds"]["dump"], 3456);
        assert_eq!(
            value["attempts"][0]["outcome"],
            "no device \"a\u{7}b\" within 180.0 s"
        );
        assert_eq!(value["attempts"][1]["number"], 2);
        assert_eq!(value["attempts"][1]["outcome"], "done");
    }

    #[test]
    fn an_incomplete_dump_says_why() {
        let record = record::parse(RECORD).unwrap();
        let value = parsed(&manifest(&record, &[], None));
        assert_eq!(value["complete"], false);
        assert_eq!(value["incomplete_because"], "writing at byte 9: ENOSPC");
        assert_eq!(value["attempts"][0]["outcome"], "writing at byte 9: ENOSPC");
        assert!(value.get("pages").is_none());
    }

    #[test]
    fn a_copy_is_called_one_whatever_was_asked_for() {
        let record = record::parse(RECORD).unwrap();
        let stats = Stats::new(DumpLevel::NONE);
        let mut manifest = manifest(&record, &[], Some(&stats));
        assert_eq!(parsed(&manifest)["compression"], "zlib");
        manifest.format = Format::Copy;
        let value = parsed(&manifest);
        assert_eq!(
            (&value["format"], &value["compression"]),
            (&"copy".into(), &"none".into())
        );
    }

    #[test]
    fn what_does_not_fit_is_no_manifest() {
        let record = record::parse(RECORD).unwrap();
        let manifest = manifest(&record, &[], None);
        let mut buffer = [0; 4096];
        let length = manifest.write(&mut buffer).unwrap().len();
        for short in 0..length {
            assert!(manifest.write(&mut buffer[..short]).is_none(), "{short}");
        }
    }

    #[test]
    fn this_process_has_a_peak() {
        assert!(peak_kib(c"/proc/self/status") > 100);
        assert_eq!(peak_kib(c"/proc/self/no-status"), 0);
    }
}
