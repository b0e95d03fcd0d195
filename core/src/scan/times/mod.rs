//! When a line was written: what stands in it, read by the clock of the log.
//!
//! Live lines count by arrival; what is read here is for lines that were written while nobody read,
//! and for replaying.

use jiff::tz::TimeZone;

use crate::time::Stamp;

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

    /// The moment a date and time, as [`super::formats::syslog`] finds it, stands for.
    pub fn read(&self, text: &[u8]) -> Option<Stamp> {
        Stamp::parse(std::str::from_utf8(text).ok()?)
    }
}

/// Takes the time off the start of a line, brackets around it and blanks after it included: the
/// time's own text, and what follows.
pub fn take(_line: &[u8]) -> Option<(&[u8], &[u8])> {
    None
}
