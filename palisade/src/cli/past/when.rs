//! What the times in a log are read by: `--now`, `--zone`.

use anyhow::Result;
use clap::Args;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use palisade_core::scan::LogClock;
use palisade_core::time::Stamp;
use palisade_os::clock;

use super::super::ask::usage;
use super::open::Opened;
use crate::zone;

/// How times in logs are read.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct When {
    /// Read times without a year as if it were T: 2026-11-22T17:00:00Z, 2026-11-22, @SECONDS [default: when the file was last written to]
    #[arg(long, value_name = "T")]
    now: Option<String>,
    /// The zone of times that name none: Europe/Berlin, UTC, +01:00 [default: the jail's, else this host's]
    #[arg(long, value_name = "Z")]
    zone: Option<String>,
}

impl When {
    /// The zone: what was asked for, else the jail's, else this host's.
    pub(in crate::cli) fn zone(&self, jail: Option<&str>) -> Result<TimeZone> {
        let Some(name) = &self.zone else { return Ok(zone::of(jail)) };
        read_zone(name).ok_or_else(|| {
            usage(format_args!("there is no zone `{name}`; write it like Europe/Berlin (which takes the package tzdata), UTC or +01:00"))
        })
    }

    /// What `--now` says.
    fn now(&self, zone: &TimeZone) -> Result<Option<Stamp>> {
        let Some(text) = &self.now else { return Ok(None) };
        let wrong = || usage(format_args!("`{text}` is no time; write it like 2026-11-22T17:00:00Z, 2026-11-22 or @1795366800"));
        read_now(text, zone).map(Some).ok_or_else(wrong)
    }

    /// The clock of this log, for jails of this zone: as of when it was last written to, where it is not told.
    pub(in crate::cli) fn clock(&self, log: &Opened, jail: Option<&str>) -> Result<LogClock> {
        let zone = self.zone(jail)?;
        let now = self.now(&zone)?.or(log.modified).unwrap_or_else(|| clock::now().stamp);
        Ok(LogClock::new(zone, now))
    }
}

fn read_zone(name: &str) -> Option<TimeZone> {
    if let Some(offset) = read_offset(name) {
        return Some(TimeZone::fixed(offset));
    }
    match name {
        "UTC" | "utc" | "Z" => Some(TimeZone::UTC),
        _ => TimeZone::get(name).ok().or_else(|| TimeZone::posix(name).ok()),
    }
}

/// `+01:00`, `-0330`, `+2`.
fn read_offset(text: &str) -> Option<Offset> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() == 4 => digits.split_at_checked(2)?,
        None => (digits, "0"),
    };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i32>().ok()).flatten();
    let (hours, minutes) = (number(hours).filter(|hours| *hours <= 14)?, number(minutes).filter(|minutes| *minutes < 60)?);
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}

fn read_now(text: &str, zone: &TimeZone) -> Option<Stamp> {
    // Nine digits and more are no date: seconds, as fail2ban-regex and date(1) have them.
    let bare = Some(text).filter(|text| text.len() >= 9 && text.bytes().all(|byte| byte.is_ascii_digit()));
    if let Some(seconds) = text.strip_prefix('@').or(bare) {
        return seconds.parse::<i64>().ok().map(|seconds| Stamp(seconds.saturating_mul(1000)));
    }
    // A date alone is its midnight.
    let in_zone = || text.parse::<DateTime>().ok()?.to_zoned(zone.clone()).ok().map(|at| Stamp(at.timestamp().as_millisecond()));
    Stamp::parse(text).or_else(in_zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_zones_are_read_in_all_their_forms() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        for (text, expected) in [
            ("2026-11-22T17:00:00Z", 1_795_366_800),
            ("2026-11-22T18:00:00+01:00", 1_795_366_800),
            ("2026-11-22T18:00:00", 1_795_366_800),
            ("2026-11-22 18:00:00", 1_795_366_800),
            ("2026-11-22", 1_795_302_000),
            ("@1795366800", 1_795_366_800),
            ("1795366800", 1_795_366_800),
        ] {
            assert_eq!(read_now(text, &berlin), Some(Stamp(expected * 1000)), "{text}");
        }
        for wrong in ["", "yesterday", "@", "@x", "2026-13-01", "17:00"] {
            assert_eq!(read_now(wrong, &berlin), None, "{wrong}");
        }
        let seconds = |name: &str| read_zone(name).map(|zone| zone.to_offset(jiff::Timestamp::UNIX_EPOCH).seconds());
        for (name, offset) in [("UTC", 0), ("+01:00", 3600), ("-0330", -12_600), ("+2", 7200), ("EST5EDT", -18_000)] {
            assert_eq!(seconds(name), Some(offset), "{name}");
        }
        for wrong in ["", "+", "+99", "+1:99", "Nowhere/Land", "+1x"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
