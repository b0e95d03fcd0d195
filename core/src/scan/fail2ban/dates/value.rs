//! The parts of a date to a moment.
//!
//! | missing | taken |
//! |---|---|
//! | year | this year's; last year's where that would be more than a day ahead |
//! | month and day | from the day of the year, or the week and its day, where they are known; else today, or yesterday where that would be ahead |
//! | time of day | midnight |
//! | zone | the clock's: in a fold the earlier moment, in a gap as far behind it as it was into it |
//!
//! Two digits are a year of this century. A fraction of a second is not looked at. All as in fail2ban's
//! `server/strptime.py`, `reGroupDictStrptime`; where that fails (30 February, hour 25, second 60) there is no moment.

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};

use super::super::super::times::LogClock;
use super::run::Hit;
use super::template::{Reading, Template};
use super::zones;
use crate::time::Stamp;

/// What `%b` names; `%B` begins with the same letters.
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// What `%a` names; `%A` begins with the same letters.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

const DAY: i64 = 86_400;

/// The moment of a match.
pub(super) fn moment(template: &Template, hit: &Hit, line: &str, clock: &LogClock) -> Option<Stamp> {
    let text = |group: u8| hit.group(group).and_then(|(start, end)| line.get(start..end));
    match template.reading() {
        Reading::Tai => tai(text(1)?),
        Reading::Epoch { group, long } => epoch(text(group)?, long),
        Reading::Fields(fields) => {
            let mut parts = Parts::default();
            for (field, group) in fields {
                if let Some(text) = text(*group) {
                    parts.put(*field, text)?;
                }
            }
            parts.moment(clock)
        }
    }
}

/// `@4000000041f4104f00000000`: 15 of the digits are seconds; that they are TAI's is not looked at.
fn tai(text: &str) -> Option<Stamp> {
    Some(Stamp(i64::from_str_radix(text.get(2..17)?, 16).ok()?.saturating_mul(1000)))
}

/// Seconds, milliseconds or microseconds, told apart by the length of the text.
fn epoch(text: &str, long: bool) -> Option<Stamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().ok()?;
    let millis = if long && text.len() >= 16 && fraction.is_empty() {
        whole / 1000
    } else if long && text.len() >= 13 {
        whole
    } else {
        let thousandths = fraction.bytes().chain(*b"000").take(3).fold(0, |n, b| n * 10 + i64::from(b.saturating_sub(b'0')));
        whole.saturating_mul(1000).saturating_add(thousandths)
    };
    Some(Stamp(millis))
}

#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    year: Option<i16>,
    month: Option<i8>,
    day: Option<i8>,
    hour: i8,
    /// The hour is of 12.
    of_twelve: bool,
    after_noon: bool,
    minute: i8,
    second: i8,
    /// From Monday, 0.
    weekday: Option<i64>,
    day_of_year: Option<i64>,
    week: Option<i64>,
    from_sunday: bool,
    /// Seconds east.
    offset: Option<i64>,
}

impl Parts {
    /// Takes a field; `None`: what it holds is no value of it.
    fn put(&mut self, field: char, text: &str) -> Option<()> {
        match field {
            'Y' => self.year = Some(text.parse().ok()?),
            'y' => self.year = Some(text.parse::<i16>().ok()?).map(|year| if year <= 2000 { year.saturating_add(2000) } else { year }),
            'm' => self.month = Some(text.trim_start().parse().ok()?),
            'b' | 'B' => self.month = Some(i8::try_from(named(&MONTHS, text)? + 1).ok()?),
            'd' => self.day = Some(text.trim_start().parse().ok()?),
            'H' | 'I' => {
                self.hour = text.trim_start().parse().ok()?;
                self.of_twelve = field == 'I';
            }
            'p' => self.after_noon = text.eq_ignore_ascii_case("pm"),
            'M' => self.minute = text.parse().ok()?,
            'S' => self.second = text.parse().ok()?,
            'a' | 'A' => self.weekday = Some(i64::try_from(named(&DAYS, text)?).ok()?),
            'w' => self.weekday = Some((text.parse::<i64>().ok()? + 6) % 7),
            'j' => self.day_of_year = Some(text.parse().ok()?),
            'U' | 'W' => {
                self.week = Some(text.parse().ok()?);
                self.from_sunday = field == 'U';
            }
            'z' | 'Z' => self.offset = Some(zones::offset(text)?),
            _ => {}
        }
        Some(())
    }

    fn hour(&self) -> i8 {
        match (self.of_twelve, self.after_noon, self.hour) {
            (true, false, 12) => 0,
            (true, true, hour) if hour != 12 => hour.saturating_add(12),
            (_, _, hour) => hour,
        }
    }

    fn moment(&self, clock: &LogClock) -> Option<Stamp> {
        // Only what a line leaves out has to be asked of the clock.
        let guesses = self.year.is_none() || (self.month.is_none() && self.day.is_none());
        let (now, now_millis) = if guesses { local(clock)? } else { (DateTime::MIN, 0) };
        let year = self.year.unwrap_or(now.year());
        let (mut year, mut month, mut day) = (year, self.month, self.day);
        if (month.is_none() || day.is_none())
            && let Some(date) = self.by_week(year)
        {
            (year, month, day) = (date.year(), Some(date.month()), Some(date.day()));
        }
        let today = month.is_none() && day.is_none();
        if today {
            (month, day) = (Some(now.month()), Some(now.day()));
        }
        let (month, day) = (month?, day?);
        if year < 1 {
            return None;
        }
        let mut at = seconds(DateTime::new(year, month, day, self.hour(), self.minute, self.second, 0).ok()?)?;
        at -= self.offset.unwrap_or(0);
        if today && at.saturating_mul(1000) > now_millis {
            at -= DAY;
        }
        if self.year.is_none() && at.saturating_mul(1000) > now_millis + DAY * 1000 {
            at = seconds(Date::new(year - 1, month, day).ok()?.to_datetime(jiff::civil::Time::midnight()))? + at.rem_euclid(DAY);
        }
        if self.offset.is_none() {
            return from_local(&clock.zone, at);
        }
        Some(Stamp(at.saturating_mul(1000)))
    }

    /// The date of a day of the year, or of a week and its day.
    fn by_week(&self, year: i16) -> Option<Date> {
        let first = Date::new(year, 1, 1).ok()?;
        let day = self.day_of_year.or_else(|| {
            let (week, mut weekday) = (self.week?, self.weekday?);
            let mut begins = i64::from(first.weekday().to_monday_zero_offset());
            if self.from_sunday {
                (begins, weekday) = ((begins + 1) % 7, (weekday + 1) % 7);
            }
            let before = (7 - begins) % 7;
            Some(if week == 0 { 1 + weekday - begins } else { 1 + before + 7 * (week - 1) + weekday })
        })?;
        first.checked_add(jiff::Span::new().try_days(day - 1).ok()?).ok()
    }
}

fn named(names: &[&str], text: &str) -> Option<usize> {
    let start = text.get(..3)?;
    names.iter().position(|name| start.eq_ignore_ascii_case(name))
}

/// The clock's date and time of day, also as milliseconds as if it were UTC.
fn local(clock: &LogClock) -> Option<(DateTime, i64)> {
    let now = jiff::Timestamp::from_millisecond(clock.now.0).ok()?;
    let offset = clock.zone.to_offset(now);
    Some((offset.to_datetime(now), clock.now.0.saturating_add(i64::from(offset.seconds()) * 1000)))
}

/// Seconds since 1970 as if it were UTC.
fn seconds(at: DateTime) -> Option<i64> {
    Some(Offset::UTC.to_timestamp(at).ok()?.as_second())
}

/// The moment of a date and time, given in seconds since 1970 as if it were UTC, in this zone.
fn from_local(zone: &TimeZone, at: i64) -> Option<Stamp> {
    let at = Offset::UTC.to_datetime(jiff::Timestamp::from_second(at).ok()?);
    Some(Stamp(zone.to_ambiguous_timestamp(at).compatible().ok()?.as_millisecond()))
}
