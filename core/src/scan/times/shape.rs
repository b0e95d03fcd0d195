//! What times in logs look like.
//!
//! | shape | written by |
//! |---|---|
//! | `2026-11-22T17:00:00.123456+01:00`, with `T`, blank or `_`; `.` or `,` before the fraction; `Z`, `+01:00`, `+0100`, `+01`, ` +0100`, ` UTC`, at the end ` +01`, or no zone | RFC 3339, ISO 8601, rsyslog, Python's logging |
//! | `2026-11-22_16:00:00.12345`, with `T` too: always UTC | svlogd -tt and -ttt (svlogd(8)) |
//! | `2026/11/22 17:00:00`, with ` - ` between too | nginx's error log, Go's log, Gin |
//! | `Nov 22 17:00:00`, `Nov  2 17:00:00.123`, `Nov 22 2026 17:00:00` | RFC 3164, Cisco |
//! | `Sun Nov 22 17:00:00.123456 2026`, without the year too | apache's error log, ctime(3) |
//! | `22/Nov/2026:17:00:00 +0100` | access logs |
//! | `22-Nov-2026 17:00:00.123`, with blanks too | BIND, Dovecot, Redis |
//! | `20261122 17:00:00`, `20261122T170000`, with `-` or `_` too, `261122 17:00:00`, `261122  7:00:00` | games, MySQL before 5.7 |
//! | `11/22/2026 17:00:00`, `22/11/2026 17:00:00`, with `-` or `.` too | Windows, games; only where one of the first two is above 12 or both are the same |
//! | `1700000000`, `1700000000.123`; 13 digits: milliseconds; 16: microseconds | Squid, auditd |
//! | `@400000006923ca1c00000000` | TAI64N, multilog |
//!
//! TAI64N counts from 2^62 and, as multilog writes it, 10 s ahead of Unix time whatever leap seconds
//! there were (libtai's `tai_now`); so that is what is taken off. Behind a time stands no letter and no digit.

use crate::time::Stamp;

/// TAI64 of 1970 as DJB's tools write it: 2^62 and 10 seconds.
const TAI_EPOCH: i64 = (1 << 62) + 10;

/// A time as it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Counted from an epoch.
    Moment(Stamp),
    /// Told by the calendar.
    Civil(Civil),
}

/// The parts of a date and time, not yet looked at whether there is such a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: Option<i16>,
    pub(super) month: i8,
    pub(super) day: i8,
    pub(super) hour: i8,
    pub(super) minute: i8,
    pub(super) second: i8,
    pub(super) millis: u16,
    /// Seconds east of Greenwich.
    pub(super) offset: Option<i32>,
}

/// A date.
#[derive(Clone, Copy)]
struct Day {
    year: Option<i16>,
    month: i8,
    day: i8,
}

/// How many bytes of brackets and blanks stand before a time.
pub(super) fn opening(text: &[u8]) -> usize {
    let blanks = |text: &[u8]| text.iter().take_while(|b| **b == b' ').count();
    if text.first() == Some(&b'[') { 1 + text.get(1..).map_or(0, blanks) } else { 0 }
}

/// The time at the start, and how long it is.
pub(super) fn read(text: &[u8]) -> Option<(Written, usize)> {
    let mut cursor = Cursor { text, at: 0 };
    let written = match text.first()? {
        b'@' => cursor.tai()?,
        b'0'..=b'9' => cursor.number()?,
        _ => cursor.named()?,
    };
    let ends = !cursor.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b >= 128);
    ends.then_some((written, cursor.at))
}

#[derive(Clone, Copy)]
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, wanted: &[u8]) -> Option<u8> {
        let b = self.peek().filter(|b| wanted.contains(b))?;
        self.at += 1;
        Some(b)
    }

    /// A number of exactly so many digits.
    fn digits(&mut self, count: usize) -> Option<i64> {
        let text = self.text.get(self.at..self.at + count)?;
        let number = text.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))?;
        self.at += count;
        Some(number)
    }

    fn two(&mut self) -> Option<i8> {
        self.digits(2).and_then(|n| i8::try_from(n).ok())
    }

    fn year(&mut self) -> Option<i16> {
        self.digits(4).and_then(|n| i16::try_from(n).ok())
    }

    /// One or two digits, or a blank and one.
    fn loose(&mut self) -> Option<i8> {
        if self.run() >= 2 {
            return self.two();
        }
        let _ = self.take(b" ");
        self.digits(1).and_then(|n| i8::try_from(n).ok())
    }

    /// How many digits are ahead.
    fn run(&self) -> usize {
        // 32 are more than any time has.
        self.text.iter().skip(self.at).take(32).take_while(|b| b.is_ascii_digit()).count()
    }

    /// The number from 1 of a month's short name.
    fn month(&mut self) -> Option<i8> {
        const MONTHS: [&[u8]; 12] = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
        let name = self.text.get(self.at..self.at + 3)?;
        let month = (1..).zip(MONTHS).find(|(_, month)| *month == name)?.0;
        self.at += 3;
        Some(month)
    }

    /// `@` and 24 hexadecimal digits.
    fn tai(&mut self) -> Option<Written> {
        let digits = self.text.get(1..25)?;
        let number = |digits: &[u8]| digits.iter().try_fold(0, |n, b| Some(n << 4 | i64::from(char::from(*b).to_digit(16)?)));
        let (seconds, nanos) = digits.split_at_checked(16)?;
        // Above 2^63 TAI64 is undefined.
        (*seconds.first()? < b'8').then_some(())?;
        let millis = number(seconds)?.saturating_sub(TAI_EPOCH).saturating_mul(1000).saturating_add(number(nanos)? / 1_000_000);
        self.at = 25;
        Some(Written::Moment(Stamp(millis)))
    }

    /// All that begins with a digit.
    fn number(&mut self) -> Option<Written> {
        match self.run() {
            10 => self.epoch(10, 1000, 1),
            13 => self.epoch(13, 1, 1),
            16 => self.epoch(16, 1, 1000),
            8 => {
                let day = Day { year: self.year(), month: self.two()?, day: self.two()? };
                self.take(b" T_-")?;
                if self.run() == 6 { self.packed(day) } else { self.time(day).map(Written::Civil) }
            }
            6 => {
                let year = i16::from(self.two()?) + 2000;
                let day = Day { year: Some(year), month: self.two()?, day: self.two()? };
                self.rest(day)
            }
            4 => {
                let year = self.year()?;
                let separator = self.take(b"-/.")?;
                let month = self.two()?;
                self.take(&[separator])?;
                let day = Day { year: Some(year), month, day: self.two()? };
                self.rest(day)
            }
            1 | 2 => self.day_first(),
            _ => None,
        }
    }

    /// Seconds or parts of them since 1970, with a fraction that is read only behind seconds.
    fn epoch(&mut self, digits: usize, times: i64, by: i64) -> Option<Written> {
        let whole = self.digits(digits)? * times / by;
        let millis = self.fraction(b".");
        let part = if times == 1000 { i64::from(millis) } else { 0 };
        Some(Written::Moment(Stamp(whole + part)))
    }

    /// `22/Nov/2026`, `22-Nov-2026`, and `11/22/2026` where it can only be one day.
    fn day_first(&mut self) -> Option<Written> {
        let first = self.loose()?;
        let separator = self.take(b"/-. ")?;
        if !self.peek()?.is_ascii_digit() {
            let month = self.month()?;
            self.take(&[separator])?;
            let day = Day { year: Some(self.year()?), month, day: first };
            return self.rest(day);
        }
        let second = self.loose().filter(|_| separator != b' ')?;
        self.take(&[separator])?;
        let year = Some(self.year()?);
        let (month, day) = match (first <= 12, second <= 12) {
            (true, false) => (first, second),
            (false, true) => (second, first),
            (true, true) if first == second => (first, second),
            _ => return None,
        };
        self.rest(Day { year, month, day })
    }

    /// All that begins with a letter: a month, maybe with the day of the week before it.
    fn named(&mut self) -> Option<Written> {
        let has_weekday = [&b"Mon"[..], b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"].iter().any(|day| self.text.starts_with(day));
        if has_weekday {
            self.at += 3;
            let _ = self.take(b",");
            self.take(b" ")?;
        }
        let month = self.month()?;
        self.take(b" ")?;
        let day = self.loose()?;
        self.take(b" ")?;
        // The year before the time, as Cisco writes it, or behind it.
        let year = if self.run() == 4 { self.year() } else { None };
        if year.is_some() {
            self.take(b" ")?;
        }
        let mut civil = self.time(Day { year, month, day })?;
        if civil.year.is_none() {
            let mut ahead = *self;
            civil.year =
                ahead.take(b" ").and_then(|_| (ahead.run() == 4).then(|| ahead.year())?).filter(|year| has_weekday && *year >= 1970);
            if civil.year.is_some() {
                *self = ahead;
            }
        }
        Some(Written::Civil(civil))
    }

    /// What separates date and time, and the time.
    fn rest(&mut self, day: Day) -> Option<Written> {
        let between = self.take(b" T_:t")?;
        if between == b' ' && self.take(b"-").is_some() {
            self.take(b" ")?;
        }
        let start = self.at;
        let mut civil = self.time(day)?;
        // Only svlogd has five digits, and it counts by UTC.
        let five = self.text.get(start..self.at).is_some_and(|time| time.len() == 14 && time.get(8) == Some(&b'.'));
        if five && matches!(between, b'T' | b'_') {
            civil.offset = Some(0);
        }
        Some(Written::Civil(civil))
    }

    /// `17:00:00.123 +0100`; the hour may be one digit behind a blank.
    fn time(&mut self, day: Day) -> Option<Civil> {
        let hour = self.loose()?;
        self.take(b":")?;
        let minute = self.two()?;
        self.take(b":")?;
        let second = self.two()?;
        self.civil(day, hour, minute, second)
    }

    /// `170000`.
    fn packed(&mut self, day: Day) -> Option<Written> {
        let (hour, minute, second) = (self.two()?, self.two()?, self.two()?);
        self.civil(day, hour, minute, second).map(Written::Civil)
    }

    fn civil(&mut self, day: Day, hour: i8, minute: i8, second: i8) -> Option<Civil> {
        let millis = self.fraction(b".,");
        let offset = self.zone();
        // 60 is a leap second.
        let good = (1..=12).contains(&day.month) && (1..=31).contains(&day.day) && hour < 24 && minute < 60 && second <= 60;
        good.then_some(Civil { year: day.year, month: day.month, day: day.day, hour, minute, second, millis, offset })
    }

    /// Milliseconds of a fraction of up to nine digits; what is no fraction is left there.
    fn fraction(&mut self, points: &[u8]) -> u16 {
        let mut ahead = *self;
        let digits = ahead.take(points).map_or(0, |_| ahead.run());
        if !(1..=9).contains(&digits) {
            return 0;
        }
        let millis = ahead.text.iter().skip(ahead.at).take(digits.min(3)).fold(0, |n, b| n * 10 + u16::from(b.saturating_sub(b'0')));
        self.at = ahead.at + digits;
        millis * [100, 10, 1].get(digits - 1).copied().unwrap_or(1)
    }

    /// Seconds east of Greenwich; what is no zone is left there.
    fn zone(&mut self) -> Option<i32> {
        let mut ahead = *self;
        let blank = ahead.take(b" ").is_some();
        for name in [&b"Z"[..], b"z", b"UTC", b"GMT"] {
            let ends = ahead.text.get(ahead.at..).is_some_and(|rest| rest.starts_with(name))
                && !ahead.text.get(ahead.at + name.len()).is_some_and(u8::is_ascii_alphanumeric);
            if ends && (name.len() == 3 || !blank) {
                self.at = ahead.at + name.len();
                return Some(0);
            }
        }
        let sign = if ahead.take(b"+-")? == b'-' { -1 } else { 1 };
        let hours = ahead.two()?;
        let colon = ahead.take(b":").is_some();
        let minutes = match ahead.run() {
            // After a blank, `-05` may be anything, but for where nothing else follows.
            0 if !colon && (!blank || ahead.peek().is_none()) => 0,
            2 => ahead.two()?,
            _ => return None,
        };
        if hours > 23 || minutes > 59 {
            return None;
        }
        *self = ahead;
        Some(sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60))
    }
}
