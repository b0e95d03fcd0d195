//! When a line was written: what stands in it, read by the clock of the log.
//!
//! [`shape`] knows what times look like, [`LogClock`] makes moments of them, and [`counts_at`] says
//! whether a line counts at its own time or when it came.
//!
//! What a time leaves out:
//!
//! | missing | taken |
//! |---|---|
//! | year | the latest that makes it no more than a day ahead of the clock |
//! | zone | the clock's. Where the hour comes twice (a fold), the earlier; a time that does not exist (a gap) is as far behind the gap as it was into it |
//!
//! A fraction is read to milliseconds. Second 60 is the one before it. Nothing here allocates, and
//! any bytes may come.

mod counts;
mod shape;

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use crate::time::{Span, Stamp};
use shape::{Civil, Written};

pub use counts::counts_at;

/// How far ahead of the clock a time without a year may be: clocks differ, zones by up to a day.
const AHEAD: Span = Span::secs(86_400);

/// How many years back 29 February may be: 1896 and 1904 are the farthest apart.
const LEAP_GAP: i16 = 8;

/// What the times in a log are read by.
#[derive(Clone, Debug)]
pub struct LogClock {
    /// The zone of times that name none.
    pub zone: TimeZone,
    /// What a time without a year, or without a day, is near to.
    pub now: Stamp,
}

impl LogClock {
    /// A clock of this zone.
    pub const fn new(zone: TimeZone, now: Stamp) -> Self {
        Self { zone, now }
    }

    /// UTC.
    pub const fn utc(now: Stamp) -> Self {
        Self { zone: TimeZone::UTC, now }
    }

    /// The moment that a text stands for which is nothing but a time, maybe in brackets.
    pub fn read(&self, text: &[u8]) -> Option<Stamp> {
        let text = text.trim_ascii();
        let (time, rest) = take(text)?;
        rest.is_empty().then(|| self.moment(&shape::read(time)?.0))?
    }

    /// Where the time is that a line begins with, and its moment; the moment is missing where the text
    /// has the shape of a time and is none (30 February).
    pub fn find(&self, line: &[u8]) -> Option<(std::ops::Range<usize>, Option<Stamp>)> {
        let inside = shape::opening(line);
        let (written, length) = shape::read(line.get(inside..)?)?;
        Some((inside..inside + length, self.moment(&written)))
    }

    fn moment(&self, written: &Written) -> Option<Stamp> {
        match written {
            Written::Moment(at) => Some(*at),
            Written::Civil(civil) => match (civil.year, civil.offset) {
                (Some(year), Some(offset)) => by_offset(civil, year, offset),
                (Some(year), None) => self.by_zone(civil, year),
                (None, _) => self.by_nearness(civil),
            },
        }
    }

    fn by_zone(&self, civil: &Civil, year: i16) -> Option<Stamp> {
        let at = date_time(civil, year)?;
        let at = self.zone.to_ambiguous_timestamp(at).compatible().ok()?;
        Some(Stamp(at.as_millisecond()))
    }

    fn by_nearness(&self, civil: &Civil) -> Option<Stamp> {
        let now = jiff::Timestamp::from_millisecond(self.now.0).ok()?;
        let latest = self.zone.to_offset(now).to_datetime(now).year().saturating_add(1);
        let years = (latest.saturating_sub(LEAP_GAP + 1)..=latest).rev();
        let mut moments = years.filter_map(|year| match civil.offset {
            Some(offset) => by_offset(civil, year, offset),
            None => self.by_zone(civil, year),
        });
        moments.find(|at| *at <= self.now.plus(AHEAD))
    }
}

fn by_offset(civil: &Civil, year: i16, offset: i32) -> Option<Stamp> {
    let at = Offset::UTC.to_timestamp(date_time(civil, year)?).ok()?;
    Some(Stamp(at.as_millisecond().saturating_sub(i64::from(offset) * 1000)))
}

fn date_time(civil: &Civil, year: i16) -> Option<DateTime> {
    // Unix time has no second 60.
    DateTime::new(year, civil.month, civil.day, civil.hour, civil.minute, civil.second.min(59), i32::from(civil.millis) * 1_000_000).ok()
}

/// The moment of a text that says all: with year and zone, or counted from 1970.
pub fn absolute(text: &[u8]) -> Option<Stamp> {
    match shape::read(text).filter(|(_, length)| *length == text.len())?.0 {
        Written::Moment(at) => Some(at),
        Written::Civil(civil) => by_offset(&civil, civil.year?, civil.offset?),
    }
}

/// Takes the time off the start of a line, brackets around it and blanks behind it included: the
/// time's own text, and what follows. `None` where a line begins with no time.
pub fn take(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = shape::opening(line);
    let text = line.get(inside..)?;
    let (time, rest) = text.split_at_checked(shape::read(text)?.1)?;
    let rest = if inside > 0 { rest.trim_ascii_start().strip_prefix(b"]")? } else { rest };
    Some((time, rest.trim_ascii_start()))
}

#[cfg(test)]
mod tests;
