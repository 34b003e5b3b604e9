// SPDX-License-Identifier: MIT OR Apache-2.0
//! The date in a dump's directory name: seconds since 1970 and a POSIX `TZ` string to `YYYY-MM-DD-HH:MM`.
//!
//! Source: POSIX.1-2017, Base Definitions section 8.3 (`TZ`), and RFC 8536 section 3.3.1 for hours up to 167 in rules.

use core::fmt;

const DAY_S: i64 = 86_400;

/// A moment as a calendar and a clock show it in some zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            year,
            month,
            day,
            hour,
            minute,
        } = self;
        write!(f, "{year:04}-{month:02}-{day:02}-{hour:02}:{minute:02}")
    }
}

/// The date at `time_s` seconds since 1970 in `zone`. A zone that cannot be understood is UTC.
#[must_use]
pub fn date(zone: &str, time_s: i64) -> Date {
    // Years before 1 or after 9999 are a broken clock's; UTC arithmetic must not overflow for them either.
    let time_s = time_s.clamp(-62_135_596_800 + DAY_S, 253_402_300_799 - DAY_S);
    let offset_s = Zone::parse(zone).map_or(0, |zone| zone.offset_s(time_s));
    let local_s = time_s + offset_s;
    let (year, month, day) = civil_from_days(local_s.div_euclid(DAY_S));
    let second = local_s.rem_euclid(DAY_S);
    Date {
        year,
        month,
        day,
        hour: second / 3600,
        minute: second % 3600 / 60,
    }
}

/// A zone: how far its clocks are ahead of UTC, and when that changes in the year.
struct Zone {
    standard_s: i64,
    summer: Option<Summer>,
}

struct Summer {
    offset_s: i64,
    begins: Rule,
    ends: Rule,
}

/// A day of each year, and the second of that day by the clock that is valid until then.
#[derive(Clone, Copy)]
struct Rule {
    day: Day,
    second: i64,
}

#[derive(Clone, Copy)]
enum Day {
    /// `Jn`: day 1 to 365, the 29th of February not counted.
    Julian(i64),
    /// `n`: day 0 to 365, the 29th of February counted.
    Counted(i64),
    /// `Mm.w.d`: the `w`th day `d` (0 is Sunday) of month `m`; the 5th is the last.
    Weekday { month: i64, week: i64, weekday: i64 },
}

impl Zone {
    fn parse(text: &str) -> Option<Self> {
        let rest = skip_name(text)?;
        let (west_s, rest) = take_time(rest)?;
        let standard_s = -west_s;
        if rest.is_empty() {
            return Some(Self {
                standard_s,
                summer: None,
            });
        }
        let rest = skip_name(rest)?;
        let (offset_s, rest) = match take_time(rest) {
            Some((west_s, rest)) => (-west_s, rest),
            None => (standard_s + 3600, rest),
        };
        let (begins, ends) = if rest.is_empty() {
            // No rules: those of the United States, as the C libraries do.
            (Rule::parse("M3.2.0")?, Rule::parse("M11.1.0")?)
        } else {
            let (begins, ends) = rest.strip_prefix(',')?.split_once(',')?;
            (Rule::parse(begins)?, Rule::parse(ends)?)
        };
        Some(Self {
            standard_s,
            summer: Some(Summer {
                offset_s,
                begins,
                ends,
            }),
        })
    }

    /// Seconds ahead of UTC at `time_s`.
    fn offset_s(&self, time_s: i64) -> i64 {
        let Some(summer) = &self.summer else {
            return self.standard_s;
        };
        let (year, ..) = civil_from_days((time_s + self.standard_s).div_euclid(DAY_S));
        // The last change at or before this moment decides, and it may lie in the year before.
        let mut last = (i64::MIN, self.standard_s);
        for year in [year - 1, year, year + 1] {
            let begins = summer.begins.local_s(year) - self.standard_s;
            let ends = summer.ends.local_s(year) - summer.offset_s;
            // A zone that is on summer time all year ends it the moment it begins again: the beginning wins.
            for change in [(ends, self.standard_s), (begins, summer.offset_s)] {
                if change.0 <= time_s && change.0 >= last.0 {
                    last = change;
                }
            }
        }
        last.1
    }
}

impl Rule {
    fn parse(text: &str) -> Option<Self> {
        let (day, second) = match text.split_once('/') {
            Some((day, time)) => {
                let (second, rest) = take_time(time)?;
                if !rest.is_empty() {
                    return None;
                }
                (day, second)
            }
            None => (text, 2 * 3600),
        };
        let number = |text: &str, least: i64, most: i64| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let value = text.parse().ok().filter(|_| digits)?;
            (least..=most).contains(&value).then_some(value)
        };
        let day = if let Some(julian) = day.strip_prefix('J') {
            Day::Julian(number(julian, 1, 365)?)
        } else if let Some(parts) = day.strip_prefix('M') {
            let (month, rest) = parts.split_once('.')?;
            let (week, weekday) = rest.split_once('.')?;
            Day::Weekday {
                month: number(month, 1, 12)?,
                week: number(week, 1, 5)?,
                weekday: number(weekday, 0, 6)?,
            }
        } else {
            Day::Counted(number(day, 0, 365)?)
        };
        Some(Self { day, second })
    }

    /// The moment in `year`, in seconds of the local clock since 1970.
    fn local_s(&self, year: i64) -> i64 {
        let day = match self.day {
            Day::Julian(day) => {
                let after_february = i64::from(is_leap(year) && day >= 60);
                days_from_civil(year, 1, 1) + day - 1 + after_february
            }
            Day::Counted(day) => days_from_civil(year, 1, 1) + day,
            Day::Weekday {
                month,
                week,
                weekday,
            } => {
                let first = days_from_civil(year, month, 1);
                // 1970-01-01 was a Thursday.
                let first_weekday = (first + 4).rem_euclid(7);
                let mut day = first + (weekday - first_weekday).rem_euclid(7) + 7 * (week - 1);
                let (next_year, next_month) = if month == 12 {
                    (year + 1, 1)
                } else {
                    (year, month + 1)
                };
                if day >= days_from_civil(next_year, next_month, 1) {
                    day -= 7;
                }
                day
            }
        };
        day * DAY_S + self.second
    }
}

/// What stands behind the zone's name: three letters or more, or anything alphanumeric in `<>`.
fn skip_name(text: &str) -> Option<&str> {
    if let Some(quoted) = text.strip_prefix('<') {
        let (name, rest) = quoted.split_once('>')?;
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'-';
        return (name.len() >= 3 && name.bytes().all(good)).then_some(rest);
    }
    let rest = text.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
    (text.len() - rest.len() >= 3).then_some(rest)
}

/// `[+-]hh[:mm[:ss]]` in seconds, and what stands behind it.
fn take_time(text: &str) -> Option<(i64, &str)> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut total = 0;
    for (unit_s, most) in [(3600, 167), (60, 59), (1, 59)] {
        if unit_s != 3600 {
            match rest.strip_prefix(':') {
                Some(after) => rest = after,
                None => break,
            }
        }
        let after = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let value: i64 = rest.get(..rest.len() - after.len())?.parse().ok()?;
        if value > most {
            return None;
        }
        total += value * unit_s;
        rest = after;
    }
    Some((sign * total, rest))
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days since 1970-01-01 of a date in the Gregorian calendar.
///
/// Counted in years that begin in March, so that the leap day is a year's last: month `m` of such a year begins at day
/// `(153 * m + 2) / 5`, and 400 years have 146097 days.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    // 719468 days lie between 0000-03-01 and 1970-01-01.
    era * 146_097 + day_of_era - 719_468
}

/// The date of a number of days since 1970-01-01: the inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    // Take out the leap days of 4 years (1461 days), 100 years (36524) and 400 years to get whole years.
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(zone: &str, time_s: i64) -> String {
        date(zone, time_s).to_string()
    }

    #[test]
    fn utc_is_utc() {
        assert_eq!(at("UTC0", 0), "1970-01-01-00:00");
        assert_eq!(at("UTC0", 951_782_399), "2000-02-28-23:59");
        assert_eq!(at("UTC0", 951_782_400), "2000-02-29-00:00");
        assert_eq!(at("UTC0", 1_795_388_999), "2026-11-22-23:09");
        assert_eq!(at("UTC0", -1), "1969-12-31-23:59");
    }

    #[test]
    fn every_day_of_eight_centuries_comes_back() {
        let mut expected = (1600, 1, 1);
        for days in days_from_civil(1600, 1, 1)..days_from_civil(2400, 1, 1) {
            assert_eq!(civil_from_days(days), expected);
            let (year, month, day) = expected;
            let length = match month {
                2 => 28 + i64::from(is_leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == length => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }

    // The expected values below are those of `TZ=... date -d @... +%F-%R` of GNU coreutils 9.1.

    #[test]
    fn central_europe_changes_at_one_in_the_morning_utc() {
        let zone = "CET-1CEST,M3.5.0,M10.5.0/3";
        assert_eq!(at(zone, 1_774_745_999), "2026-03-29-01:59");
        assert_eq!(at(zone, 1_774_746_000), "2026-03-29-03:00");
        assert_eq!(at(zone, 1_792_889_999), "2026-10-25-02:59");
        assert_eq!(at(zone, 1_792_890_000), "2026-10-25-02:00");
        assert_eq!(at(zone, 1_767_222_000), "2026-01-01-00:00");
    }

    #[test]
    fn new_york_with_and_without_rules() {
        for zone in ["EST5EDT,M3.2.0,M11.1.0", "EST5EDT"] {
            assert_eq!(at(zone, 1_772_953_199), "2026-03-08-01:59");
            assert_eq!(at(zone, 1_772_953_200), "2026-03-08-03:00");
            assert_eq!(at(zone, 1_793_512_799), "2026-11-01-01:59");
            assert_eq!(at(zone, 1_793_512_800), "2026-11-01-01:00");
        }
    }

    #[test]
    fn the_southern_summer_spans_the_new_year() {
        let zone = "NZST-12NZDT,M9.5.0,M4.1.0/3";
        assert_eq!(at(zone, 1_767_222_000), "2026-01-01-12:00");
        assert_eq!(at(zone, 1_782_864_000), "2026-07-01-12:00");
        assert_eq!(at(zone, 1_775_311_199), "2026-04-05-02:59");
        assert_eq!(at(zone, 1_775_311_200), "2026-04-05-02:00");
    }

    #[test]
    fn quoted_names_half_hours_and_negative_summers() {
        assert_eq!(at("<+0545>-5:45", 1_795_388_999), "2026-11-23-04:54");
        assert_eq!(at("<-03>3", 1_795_388_999), "2026-11-22-20:09");
        // Dublin's standard time is the summer's; its winter is one hour less.
        let dublin = "IST-1GMT0,M10.5.0,M3.5.0/1";
        assert_eq!(at(dublin, 1_782_907_200), "2026-07-01-13:00");
        assert_eq!(at(dublin, 1_767_268_800), "2026-01-01-12:00");
    }

    #[test]
    fn rules_by_day_number_and_with_large_hours() {
        // Day 60 without the leap day is the 1st of March, whatever the year.
        let julian = "AAA0BBB,J60/0,J300/0";
        assert_eq!(at(julian, 1_709_251_199), "2024-02-29-23:59");
        assert_eq!(at(julian, 1_709_251_200), "2024-03-01-01:00");
        let counted = "AAA0BBB,59/0,300/0";
        assert_eq!(at(counted, 1_709_164_800), "2024-02-29-01:00");
        // Gaza's rule of some years: 72 hours and more after the named day.
        let gaza = "EET-2EEST,M3.4.4/50,M10.4.4/50";
        assert_eq!(at(gaza, 1_774_655_999), "2026-03-28-01:59");
        assert_eq!(at(gaza, 1_774_656_000), "2026-03-28-03:00");
    }

    #[test]
    fn what_is_no_zone_is_utc() {
        for zone in [
            "",
            "UTC",
            "Europe/Berlin",
            "CE-1",
            "CET-1CEST,M3.5.0",
            "CET-1CEST,M13.5.0,M1.1.1",
            "<CET-1",
            "CET-1CEST,M3.5.0,M10.5.0/3x",
            "CET-200",
        ] {
            assert_eq!(at(zone, 1_795_388_999), "2026-11-22-23:09", "{zone}");
        }
    }

    #[test]
    fn no_zone_and_no_time_can_break_it() {
        let zone = "CET-1CEST,M3.5.0/-167,M10.5.0/167:59:59";
        for length in 0..=zone.len() {
            for time_s in [i64::MIN, -1, 0, 1_795_388_999, i64::MAX] {
                assert!(!at(&zone[..length], time_s).is_empty());
            }
        }
    }
}
