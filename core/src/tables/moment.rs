//! The one rule for what a time in a table means, wherever the format leaves it open (`ADDR=TIME`, CSV, JSON).
//!
//! | TIME | means |
//! |---|---|
//! | `permanent`, `forever`, `never`, `-1` | for ever |
//! | a number from 100,000,000,000 on | the end, in milliseconds since 1970 (as seconds it would be the year 5138) |
//! | a number from 1,000,000,000 on, or with a fraction, which is cut | the end, in seconds since 1970 (that many from now would be 31 years) |
//! | a smaller number, but not 0 | so many seconds from now |
//! | `1d`, `90m`, `1h30m` | so long from now |
//! | `2026-12-01T00:00:00Z`, any offset | the end |
//! | `2026-12-01 00:00:00`, `2026-12-01T00:00:00` | the end, in UTC |
//! | `2026-12-01` | the end: the first moment of that day, in UTC |
//!
//! A zero is refused: some tools mean "for ever" by it and some "at once".

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::words::number;
use super::{End, Item, words};
use crate::time::{Span, Stamp, Term};

/// From here on a bare number is a moment in seconds since 1970: 2001-09-09.
pub(super) const MOMENT_FROM: u64 = 1_000_000_000;

/// From here on it is one in milliseconds: 1973-03-03.
const MILLIS_FROM: u64 = 100_000_000_000;

/// The longest time that is looked at, in bytes: RFC 3339 with nanoseconds and offset is 35.
const LONGEST: usize = 64;

/// The end a time means, counted from `now`; `None` where it is no time.
pub(super) fn read(bytes: &[u8], now: Stamp) -> Option<End> {
    if let Some(number) = number(bytes) {
        return of_number(number, now);
    }
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= LONGEST)?;
    if let Some((whole, fraction)) = text.split_once('.')
        && let (Some(whole), Some(_)) = (number(whole.as_bytes()), number(fraction.as_bytes()))
    {
        return of_number(whole, now).filter(|_| whole >= MOMENT_FROM);
    }
    if text.eq_ignore_ascii_case("never") {
        return Some(End::Forever);
    }
    match text.parse::<Term>() {
        Ok(Term::Forever) => return Some(End::Forever),
        Ok(Term::For(span)) if span > Span::ZERO => return Some(End::At(now.plus(span).0)),
        Ok(Term::For(_)) => return None,
        Err(_) => {}
    }
    at(text).map(|at| End::At(at.0))
}

/// A moment in one of the three ways to write one.
pub(super) fn at(text: &str) -> Option<Stamp> {
    let utc = |at: DateTime| at.to_zoned(TimeZone::UTC).ok().map(|at| Stamp(at.timestamp().as_millisecond()));
    let date_only = || text.parse::<Date>().ok().filter(|_| text.len() == "2026-12-01".len());
    if let Some(date) = date_only() {
        return utc(date.to_datetime(jiff::civil::Time::midnight()));
    }
    Stamp::parse(text).or_else(|| text.parse::<DateTime>().ok().and_then(utc))
}

/// What a bare number means.
pub(super) fn of_number(number: u64, now: Stamp) -> Option<End> {
    Some(End::At(match number {
        0 => return None,
        seconds if seconds < MOMENT_FROM => now.plus(Span::secs(seconds)).0,
        seconds if seconds < MILLIS_FROM => Stamp(0).plus(Span::secs(seconds)).0,
        millis => Stamp(0).plus(Span::millis(millis)).0,
    }))
}

/// It is no time.
pub(super) fn none(bytes: &[u8]) -> Item {
    let found = words::shown(bytes);
    let zero = if number(bytes) == Some(0) { "; 0 may mean for ever or at once: write `permanent` or leave it out" } else { "" };
    Item::Bad(format!(
        "expected a time: seconds since 1970, a date (2026-12-01T00:00:00Z), a duration (1d) or `permanent`, found {found}{zero}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Stamp = Stamp(1_795_366_800_000);

    #[test]
    fn a_time_means_what_the_table_says() {
        let from_now = |ms: i64| Some(End::At(NOW.0 + ms));
        for (text, end) in [
            ("permanent", Some(End::Forever)),
            ("-1", Some(End::Forever)),
            ("Never", Some(End::Forever)),
            ("1795366800", from_now(0)),
            ("1795366800.75", from_now(0)),
            ("1795366800123", from_now(123)),
            ("999999999", from_now(999_999_999_000)),
            ("1000000000", Some(End::At(1_000_000_000_000))),
            ("3600", from_now(3_600_000)),
            ("1h30m", from_now(5_400_000)),
            ("2026-11-22T17:00:00Z", from_now(0)),
            ("2026-11-22T18:00:00+01:00", from_now(0)),
            ("2026-11-22 17:00:00", from_now(0)),
            ("2026-11-22", from_now(-17 * 3_600_000)),
            ("18446744073709551615999", Some(End::At(i64::MAX))),
            ("0", None),
            ("0s", None),
            ("", None),
            ("soon", None),
            ("12.5", None),
            ("2026-13-01", None),
        ] {
            assert_eq!(read(text.as_bytes(), NOW), end, "{text}");
        }
    }
}
