//! Moments and durations that cannot be mixed up.
//!
//! [`Stamp`] is wall-clock time, [`Tick`] is time since boot; there is no way to compare the two.
//! Everything that counts time saturates: no sum of hostile durations can wrap.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Wall-clock time in milliseconds since 1970-01-01T00:00:00Z. In JSON: RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub i64);

/// Time since boot in milliseconds (`CLOCK_BOOTTIME`): goes on during suspend, never steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tick(pub u64);

/// A duration in milliseconds, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span(u64);

/// One instant, read from both clocks at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// The wall clock.
    pub stamp: Stamp,
    /// The clock that never steps.
    pub tick: Tick,
}

/// When something ends. Ordered: `Forever` is later than any moment. In JSON: a time, or null for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Option<Stamp>", into = "Option<Stamp>")]
pub enum Until {
    /// At this moment.
    At(Stamp),
    /// Not by itself.
    Forever,
}

/// How long something is to last, before it is known from when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Term {
    /// For this long.
    For(Span),
    /// `permanent`.
    Forever,
}

impl Span {
    /// Nothing at all.
    pub const ZERO: Self = Self(0);

    /// So many milliseconds.
    pub const fn millis(ms: u64) -> Self {
        Self(ms)
    }

    /// So many seconds.
    pub const fn secs(s: u64) -> Self {
        Self(s.saturating_mul(1000))
    }

    /// In milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// In whole seconds, rounded up: something with 1 ms left is not over.
    pub const fn as_secs_ceil(self) -> u64 {
        self.0.div_ceil(1000)
    }

    /// `factor` times as long. A negative or NaN factor gives zero; too long saturates.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "float to int saturates, NaN is 0"
        )]
        Self((self.0 as f64 * factor) as u64)
    }
}

impl Stamp {
    /// `span` later; saturates at the end of time.
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add_unsigned(span.0))
    }

    /// `span` earlier; saturates.
    #[must_use]
    pub const fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub_unsigned(span.0))
    }

    /// Moved along with a wall clock that stepped by `ms`; saturates.
    #[must_use]
    pub const fn shifted(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// How long from `earlier` to this; zero where `earlier` is later.
    pub const fn since(self, earlier: Self) -> Span {
        let ms = self.0.saturating_sub(earlier.0);
        Span(if ms < 0 { 0 } else { ms.unsigned_abs() })
    }
}

impl Tick {
    /// `span` later; saturates.
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// How long from `earlier` to this; zero where `earlier` is later.
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Until {
    /// How much is left at `now`: `None` for ever, zero when over.
    pub const fn left(self, now: Stamp) -> Option<Span> {
        match self {
            Self::At(at) => Some(at.since(now)),
            Self::Forever => None,
        }
    }

    /// Moved along with a wall clock that stepped by `ms`.
    #[must_use]
    pub const fn shifted(self, ms: i64) -> Self {
        match self {
            Self::At(at) => Self::At(at.shifted(ms)),
            Self::Forever => Self::Forever,
        }
    }

    /// Whether it is over at `now`.
    pub fn over(self, now: Stamp) -> bool {
        self <= Self::At(now)
    }
}

impl Term {
    /// When it ends if it starts at `start`.
    pub const fn from(self, start: Stamp) -> Until {
        match self {
            Self::For(span) => Until::At(start.plus(span)),
            Self::Forever => Until::Forever,
        }
    }
}

/// Units of the duration grammar in milliseconds, largest first: `1w2d3h4m5s6ms`.
const UNITS: [(&str, u64); 6] = [("w", 7 * 86_400_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration; write it like 90s, 10m, 1h30m, 2d, 1w or permanent")]
pub struct SpanError(String);

impl FromStr for Span {
    type Err = SpanError;

    /// Reads `90s`, `1h30m`, `2d`, `1w`; a bare number is seconds, as in fail2ban and sshguard.
    fn from_str(text: &str) -> Result<Self, SpanError> {
        let bad = || SpanError(text.to_owned());
        if text.is_empty() || text.len() > 64 {
            return Err(bad());
        }
        let mut rest = text;
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let count: u64 = rest[..digits].parse().map_err(|_| bad())?;
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let unit = match &rest[..letters] {
                "" if rest.is_empty() => 1000,
                name => UNITS.iter().find(|(unit, _)| *unit == name).map(|(_, ms)| *ms).ok_or_else(bad)?,
            };
            rest = &rest[letters..];
            total = total.saturating_add(count.saturating_mul(unit));
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Span {
    /// The shortest text of the grammar: `1h30m`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        if left == 0 {
            return f.write_str("0s");
        }
        for (name, unit) in UNITS {
            if left >= unit {
                write!(f, "{}{name}", left / unit)?;
                left %= unit;
            }
        }
        Ok(())
    }
}

impl FromStr for Term {
    type Err = SpanError;
    fn from_str(text: &str) -> Result<Self, SpanError> {
        match text {
            "permanent" | "forever" | "-1" => Ok(Self::Forever),
            _ => text.parse().map(Self::For),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(span) => span.fmt(f),
            Self::Forever => f.write_str("permanent"),
        }
    }
}

impl fmt::Display for Stamp {
    /// RFC 3339 in UTC to the second: `2026-11-22T17:00:00Z`. Beyond year 9999: that year's end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = jiff::Timestamp::from_second(self.0.div_euclid(1000)).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{at:.0}")
    }
}

impl From<Option<Stamp>> for Until {
    fn from(at: Option<Stamp>) -> Self {
        at.map_or(Self::Forever, Self::At)
    }
}

impl From<Until> for Option<Stamp> {
    fn from(until: Until) -> Self {
        match until {
            Until::At(at) => Some(at),
            Until::Forever => None,
        }
    }
}

impl Serialize for Stamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let at = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::MAX);
        s.collect_str(&at)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).ok_or_else(|| serde::de::Error::custom("a time is written as in RFC 3339"))
    }
}

impl Stamp {
    /// Reads RFC 3339, any offset.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_and_print() {
        for (text, ms) in [
            ("90s", 90_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("1w", 604_800_000),
            ("600", 600_000),
            ("5ms", 5),
        ] {
            assert_eq!(text.parse::<Span>().unwrap().as_millis(), ms, "{text}");
        }
        for wrong in ["", "m", "10x", "-5m", "1h 30m", "1.5h", "ten"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
        assert_eq!("99999999999999999999w".parse::<Span>().ok(), None);
        assert_eq!("9999999999999999999w".parse::<Span>().unwrap().as_millis(), u64::MAX);
        assert_eq!(Span::secs(5400).to_string(), "1h30m");
        assert_eq!("permanent".parse::<Term>().unwrap(), Term::Forever);
    }

    #[test]
    fn stamps_are_rfc3339_and_saturate() {
        assert_eq!(Stamp(1_795_366_800_999).to_string(), "2026-11-22T17:00:00Z");
        assert_eq!(Stamp::parse("2026-11-22T18:00:00+01:00"), Some(Stamp(1_795_366_800_000)));
        assert_eq!(Stamp(0).plus(Span::millis(u64::MAX)), Stamp(i64::MAX));
        assert!(Until::Forever > Until::At(Stamp(i64::MAX)));
        assert!(Stamp(i64::MAX).to_string().starts_with("9999-12-3"));
        assert!(Until::At(Stamp(5)).over(Stamp(5)) && !Until::Forever.over(Stamp(i64::MAX)));
    }

    #[test]
    fn json_has_times_as_text_and_null_for_ever() {
        let text = serde_json::to_string(&(Until::At(Stamp(1_795_366_800_000)), Until::Forever)).unwrap();
        assert_eq!(text, r#"["2026-11-22T17:00:00Z",null]"#);
        assert_eq!(serde_json::from_str::<(Until, Until)>(&text).unwrap(), (Until::At(Stamp(1_795_366_800_000)), Until::Forever));
    }

    proptest! {
        #[test]
        fn spans_round_trip(ms: u64) {
            prop_assert_eq!(Span::millis(ms).to_string().parse::<Span>().unwrap(), Span::millis(ms));
        }
    }
}
